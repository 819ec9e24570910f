//! Hot path. GET and its kin: reading strings.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Shard, Text};

use crate::string::expiry::Time;
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "get",
            summary: "Reads the string at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(get),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "getdel",
            summary: "Reads the string at a key and removes the key.",
            group: Group::String,
            since: "6.2.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(getdel),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "getex",
            summary: "Reads the string at a key and changes its deadline.",
            group: Group::String,
            since: "6.2.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(getex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "mget",
            summary: "Reads the strings at several keys.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ALL_RO_ACCESS,
            range: (1, -1, 1),
            tips: &["request_policy:multi_shard"],
            deprecated_since: None,
        },
        run: Run::Read(mget),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "strlen",
            summary: "Tells how long the string at a key is.",
            group: Group::String,
            since: "2.2.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STRING),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(strlen),
        spread: Spread::Keys,
    },
];

fn get(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    write(&mut cx.reply, cx.shard.text(&key)?);
    Ok(())
}

fn mget(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    cx.reply.array(args.left());
    for word in args.rest() {
        let key = cx.key(word);
        // A value of another type is answered like a missing one.
        write(&mut cx.reply, cx.shard.text(&key).unwrap_or(None));
    }
    Ok(())
}

fn getdel(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let shard: &Shard = &cx.edit;
    write(&mut cx.reply, shard.text(&key)?);
    if cx.edit.remove(&key) {
        cx.edit.event(EventClass::Generic, "del", &key);
    }
    Ok(())
}

fn getex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (mut persist, mut expire) = (false, None);
    while args.left() > 0 {
        if expire.is_none() && args.keyword("PERSIST") {
            persist = true;
        } else if persist {
            return Err(Refusal::Syntax.into());
        } else {
            expire = Some(Time::take(&mut args, expire)?);
        }
    }
    let shard: &Shard = &cx.edit;
    let Some(text) = shard.text(&key)? else {
        cx.reply.null();
        return Ok(());
    };
    // A time that makes no sense is refused only where there is something to expire.
    let deadline = match expire {
        Some(time) => Some(time.deadline(shard.now_ms(), "getex")?),
        None => None,
    };
    write(&mut cx.reply, Some(text));
    let event = match deadline {
        Some(at_ms) => {
            let passed = at_ms <= cx.edit.now_ms();
            cx.edit.expire_at(&key, at_ms);
            if passed { "del" } else { "expire" }
        }
        None if persist && cx.edit.persist(&key) => "persist",
        None => return Ok(()),
    };
    cx.edit.event(EventClass::Generic, event, &key);
    Ok(())
}

fn strlen(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.text(&key)?.map_or(0, |text| text.len());
    cx.reply.int(len as i64);
    Ok(())
}

/// A string as a reply, or the null of its absence.
#[inline]
pub(super) fn write(reply: &mut protocol::Reply<'_>, text: Option<Text<'_>>) {
    match text {
        Some(Text::Bytes(bytes)) => reply.bulk(bytes),
        Some(Text::Int(n)) => reply.bulk_int(n),
        None => reply.null(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, START_MS};
    use storage::Key;

    #[test]
    fn reading() {
        Bench::new().table(
            "
            GET k -> $-1
            STRLEN k -> :0
            SET k hello -> +OK
            GET k -> $5 hello
            STRLEN k -> :5
            SET n -12 -> +OK
            STRLEN n -> :3
            MGET k none n k -> *4 $5 hello $-1 $3 -12 $5 hello
            GETDEL k -> $5 hello
            GETDEL k -> $-1
            ",
        );
    }

    #[test]
    fn getex_changes_deadlines() {
        let mut bench = Bench::new();
        let key = Key::new(0, b"k");
        bench.run("SET k v");
        for (request, left_ms) in [
            ("GETEX k EX 10", Some(10_000)),
            ("GETEX k", Some(10_000)),
            ("GETEX k px 7", Some(7)),
            ("GETEX k EX 1 EX 2", Some(2000)),
            ("GETEX k PERSIST PERSIST", None),
            ("GETEX k EXAT 1700000005", Some(5000)),
            ("GETEX k PXAT 1700000000009", Some(9)),
        ] {
            assert_eq!(bench.run(request), "$1 v");
            let deadline = bench.shard.deadline_ms(&key).unwrap();
            assert_eq!(deadline, left_ms.map(|ms| ms + START_MS), "{request}");
        }
        bench.table(
            "
            GETEX k EX 1 PX 1 -> -ERR syntax error
            GETEX k PERSIST EX 1 -> -ERR syntax error
            GETEX k EX 1 PERSIST -> -ERR syntax error
            GETEX k EX -> -ERR syntax error
            GETEX k KEEPTTL -> -ERR syntax error
            GETEX k NX -> -ERR syntax error
            GETEX k EX 0 -> -ERR invalid expire time in 'getex' command
            GETEX k EX x -> -ERR value is not an integer or out of range
            GETEX none EX 0 -> $-1
            GETEX none EX x -> $-1
            GETEX none EX -> -ERR syntax error
            GETEX k PXAT 1 -> $1 v
            GETEX k -> $-1
            ",
        );
    }

    #[test]
    fn wrong_types() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        for request in ["GET l", "GETDEL l", "GETEX l EX x", "STRLEN l"] {
            let refused = "-WRONGTYPE Operation against a key holding the wrong kind of value";
            assert_eq!(bench.run(request), refused, "{request}");
        }
        bench.table("MGET l none -> *2 $-1 $-1");
    }
}
