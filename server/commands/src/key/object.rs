//! OBJECT: how values are kept. Looking is no access.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::{Text, Value};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "object",
            summary: "Groups the commands that look at how a value is kept.",
            group: Group::Generic,
            since: "2.2.3",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Container,
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "object|encoding",
            summary: "Tells in which form a value is kept.",
            group: Group::Generic,
            since: "2.2.3",
            arity: Arity::exactly(3),
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            range: (2, 2, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(encoding),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "object|freq",
            summary: "Tells how often a key has been used lately.",
            group: Group::Generic,
            since: "4.0.0",
            arity: Arity::exactly(3),
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            range: (2, 2, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(freq),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "object|help",
            summary: "Lists the subcommands of OBJECT.",
            group: Group::Generic,
            since: "6.2.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::KEYSPACE.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(help),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "object|idletime",
            summary: "Tells for how many seconds a key has not been used.",
            group: Group::Generic,
            since: "2.2.3",
            arity: Arity::exactly(3),
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            range: (2, 2, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(idletime),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "object|refcount",
            summary: "Tells how many references to a value there are.",
            group: Group::Generic,
            since: "2.2.3",
            arity: Arity::exactly(3),
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            range: (2, 2, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(refcount),
        spread: Spread::Keys,
    },
];

/// Redis shares one object among all the values that are one of these integers...
const SHARED_INTS: core::ops::Range<i64> = 0..10_000;
/// ...and says so many references to it.
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

const HELP: &[&str] = &[
    "ENCODING <key>",
    "    Tell the form in which the value at <key> is kept in memory.",
    "FREQ <key>",
    "    Tell how often <key> has been used lately, on a logarithmic scale from 0 to",
    "    255. Needs an LFU eviction policy.",
    "IDLETIME <key>",
    "    Tell for about how many seconds <key> has been neither read nor written.",
    "    Needs an eviction policy that is not LFU.",
    "REFCOUNT <key>",
    "    Tell how many references to the value at <key> there are.",
    "HELP",
    "    Print this help.",
];

fn encoding(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    match cx.shard.info(&key) {
        Some(info) => cx.reply.bulk(info.encoding.as_bytes()),
        None => cx.reply.null(),
    }
    Ok(())
}

fn refcount(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    match cx.shard.peek(&key) {
        // Nothing is shared here, but clients may compare. An LFU policy needs objects of its own.
        Some(Value::String(Text::Int(n))) if SHARED_INTS.contains(&n) && !cx.settings.lfu => {
            cx.reply.int(SHARED_REFCOUNT);
        }
        Some(_) => cx.reply.int(1),
        None => cx.reply.null(),
    }
    Ok(())
}

fn idletime(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    match cx.shard.info(&key) {
        None => cx.reply.null(),
        Some(_) if cx.settings.lfu => return Err(Refusal::LfuSelected.into()),
        Some(info) => cx.reply.int(info.idle_s.cast_signed()),
    }
    Ok(())
}

fn freq(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    match cx.shard.info(&key) {
        None => cx.reply.null(),
        Some(_) if !cx.settings.lfu => return Err(Refusal::LfuNotSelected.into()),
        Some(info) => cx.reply.int(i64::from(info.frequency)),
    }
    Ok(())
}

fn help(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let name = String::from_utf8_lossy(args.word(0).unwrap_or_default()).to_uppercase();
    cx.reply.array(HELP.len() + 1);
    cx.reply.simple(&format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    HELP.iter().for_each(|line| cx.reply.simple(line));
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;
    use storage::Lfu;

    #[test]
    fn forms_and_references() {
        let mut bench = Bench::new();
        bench.table(
            "
            MSET int 10000 text abc -> +OK
            SET shared 9999 -> +OK
            OBJECT ENCODING int -> $3 int
            OBJECT encoding text -> $6 embstr
            OBJECT ENCODING none -> $-1
            OBJECT REFCOUNT int -> :1
            OBJECT REFCOUNT text -> :1
            OBJECT REFCOUNT shared -> :2147483647
            OBJECT REFCOUNT none -> $-1
            ",
        );
        let long = "x".repeat(45);
        bench.raw(&[b"SET", b"long", long.as_bytes()]);
        bench.table("OBJECT ENCODING long -> $3 raw");
        // What was written into says so wherever it goes.
        bench.table(
            "
            APPEND text d -> :4
            OBJECT ENCODING text -> $3 raw
            RENAME text renamed -> +OK
            OBJECT ENCODING renamed -> $3 raw
            COPY renamed copied -> :1
            OBJECT ENCODING copied -> $3 raw
            SET copied abc -> +OK
            OBJECT ENCODING copied -> $6 embstr
            ",
        );
        bench.resp = Resp::V3;
        bench.table("OBJECT ENCODING none -> _");
    }

    #[test]
    fn time_or_frequency_by_the_policy() {
        let mut bench = Bench::new();
        bench.table("SET k v -> +OK");
        bench.pass_ms(4_000);
        bench.table(
            "
            OBJECT IDLETIME k -> :4
            OBJECT IDLETIME none -> $-1
            OBJECT FREQ none -> $-1
            ",
        );
        assert!(
            bench
                .run("OBJECT FREQ k")
                .contains("policy is not selected")
        );
        bench.settings.lfu = true;
        let lfu = Lfu {
            log_factor: 10,
            decay_min: 1,
        };
        bench.shard.set_lfu(Some(lfu));
        assert!(
            bench
                .run("OBJECT IDLETIME k")
                .contains("policy is selected")
        );
        bench.table(
            "
            OBJECT IDLETIME none -> $-1
            OBJECT FREQ none -> $-1
            SET new v -> +OK
            OBJECT FREQ new -> :5
            TOUCH new -> :1
            OBJECT FREQ new -> :6
            OBJECT FREQ new -> :6
            ",
        );
        let dump = bench.raw(&[b"DUMP", b"new"]);
        let payload =
            &dump[dump.iter().position(|byte| *byte == b'\n').unwrap() + 1..dump.len() - 2];
        for options in [&[b"FREQ".as_slice(), b"77"][..], &[b"IDLETIME", b"9"]] {
            let words = [
                &[b"RESTORE".as_slice(), b"r", b"0", payload, b"REPLACE"],
                options,
            ]
            .concat();
            assert_eq!(bench.raw(&words), b"+OK\r\n");
            let frequency = if options[0] == b"FREQ" { ":77" } else { ":5" };
            assert_eq!(bench.run("OBJECT FREQ r"), frequency);
        }
    }

    #[test]
    fn help_lists_the_subcommands() {
        let help = Bench::new().run("object HELP");
        assert!(help.starts_with("*13 +OBJECT <subcommand> [<arg> [value] [opt] ...]. "));
        assert!(help.ends_with("+HELP +    Print this help."));
    }
}
