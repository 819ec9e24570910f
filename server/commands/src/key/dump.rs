//! DUMP and RESTORE: values in Redis's own serialisation, from server to server.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::rdb::{self, Fault};
use storage::{EventClass, Lfu, Ttl};

use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "dump",
            summary: "Gives a value in the serialisation that RESTORE reads.",
            group: Group::Generic,
            since: "2.6.0",
            arity: Arity::exactly(2),
            flags: Flags::READONLY,
            acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(dump),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "restore",
            summary: "Makes a key of what DUMP gave.",
            group: Group::Generic,
            since: "2.6.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::DANGEROUS
                .and(Acl::KEYSPACE)
                .and(Acl::SLOW)
                .and(Acl::WRITE),
            keys: spec::ONE_OW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(restore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "restore-asking",
            summary: "As RESTORE, for a slot that is on its way to another node.",
            group: Group::Server,
            since: "3.0.0",
            arity: Arity::at_least(4),
            flags: Flags::ASKING.and(Flags::DENYOOM).and(Flags::WRITE),
            acl: Acl::DANGEROUS
                .and(Acl::KEYSPACE)
                .and(Acl::SLOW)
                .and(Acl::WRITE),
            keys: spec::ONE_OW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(restore),
        spread: Spread::Keys,
    },
];

fn dump(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    match cx.shard.value(&key) {
        Some(value) => cx.reply.bulk(&rdb::dump(value)),
        None => cx.reply.null(),
    }
    Ok(())
}

#[derive(Default)]
struct Options {
    replace: bool,
    absolute_ttl: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(mut args: Args<'_>) -> Result<Self, Refusal> {
        let mut options = Options::default();
        while args.left() > 0 {
            // An option with a value that has none, or that is there beside the other, is no option.
            let valued = args.left() > 1;
            if args.keyword("REPLACE") {
                options.replace = true;
            } else if args.keyword("ABSTTL") {
                options.absolute_ttl = true;
            } else if valued && options.frequency.is_none() && args.keyword("IDLETIME") {
                let idle = u64::try_from(args.int()?).map_err(|_| Refusal::InvalidIdletime)?;
                options.idle_s = Some(idle);
            } else if valued && options.idle_s.is_none() && args.keyword("FREQ") {
                let frequency = u8::try_from(args.int()?).map_err(|_| Refusal::InvalidFreq)?;
                options.frequency = Some(frequency);
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(options)
    }
}

fn restore(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (ttl, payload) = (args.bytes()?, args.bytes()?);
    let options = Options::parse(args)?;
    if !options.replace && cx.edit.exists(&key) {
        return Err(Refusal::BusyKey.into());
    }
    let ttl = protocol::number::parse_i64(ttl).ok_or(Refusal::NotInteger)?;
    let ttl = u64::try_from(ttl).map_err(|_| Refusal::InvalidTtl)?;
    let value = rdb::restore(payload, cx.edit.limits()).map_err(|fault| match fault {
        Fault::Footer => Refusal::BadPayload,
        Fault::Format => Refusal::BadDataFormat,
    })?;
    let deadline_ms = match ttl {
        0 => None,
        at_ms if options.absolute_ttl => Some(at_ms),
        // A time past the end of time has passed, as in Redis.
        ttl_ms => {
            let at_ms = ttl_ms + cx.edit.now_ms();
            Some(i64::try_from(at_ms).map_or(0, i64::unsigned_abs))
        }
    };
    let existed = cx.edit.exists(&key);
    if deadline_ms.is_some_and(|at_ms| at_ms <= cx.edit.now_ms()) {
        if existed && cx.edit.remove(&key) {
            cx.edit.event(EventClass::Generic, "del", &key);
        }
        cx.reply.ok();
        return Ok(());
    }
    cx.edit
        .put_value(&key, value, deadline_ms.map_or(Ttl::Clear, Ttl::At));
    if existed {
        // The old key is gone and this one is new, to those who listen.
        cx.edit.event(EventClass::New, "new", &key);
    }
    if cx.settings.lfu {
        // Not that of the key that was there before.
        let frequency = options.frequency.unwrap_or(Lfu::FIRST);
        cx.edit.set_frequency(&key, frequency);
    } else if let Some(idle_s) = options.idle_s {
        cx.edit.set_idle(&key, idle_s);
    }
    cx.edit.event(EventClass::Generic, "restore", &key);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    fn payload(bench: &mut Bench, key: &[u8]) -> Vec<u8> {
        let reply = bench.raw(&[b"DUMP", key]);
        let begin = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        reply[begin..reply.len() - 2].to_vec()
    }

    #[test]
    fn values_of_all_types_come_back() {
        let mut bench = Bench::new();
        bench.table(
            "
            MSET int 123456789012 small -5 text abc -> +OK
            RPUSH list a 1 -70000 -> :3
            HSET hash f 1 g x -> :2
            SADD ints 1 -2 99999 -> :3
            SADD set a 1 -> :2
            ZADD zset 1.5 a -inf b 1e300 c -> :3
            DUMP none -> $-1
            ",
        );
        for i in 0..600 {
            let (name, value) = (format!("m{i}"), "v".repeat(i));
            bench.run(&format!("HSET bighash {name} {i}"));
            bench.run(&format!("ZADD bigzset {i}.25 {name}"));
            bench.run(&format!("SADD bigset {name}"));
            bench.raw(&[b"RPUSH", b"biglist", value.as_bytes()]);
        }
        let keys = "int small text list hash ints set zset bighash bigzset bigset biglist";
        for key in keys.split(' ') {
            let dump = payload(&mut bench, key.as_bytes());
            assert_eq!(
                bench.raw(&[b"RESTORE", b"copy", b"0", &dump, b"REPLACE"]),
                b"+OK\r\n"
            );
            let (old, new) = [key, "copy"]
                .map(|key| {
                    bench
                        .shard
                        .edit()
                        .clone_value(&storage::Key::new(0, key.as_bytes()))
                })
                .into();
            assert_eq!(old, new, "{key}");
            for question in ["TYPE", "OBJECT ENCODING"] {
                let answer = bench.run(&format!("{question} {key}"));
                assert_eq!(bench.run(&format!("{question} copy")), answer, "{key}");
            }
        }
    }

    #[test]
    fn deadlines_of_fields_travel_too() {
        let mut bench = Bench::new();
        for i in 0..600 {
            bench.run(&format!("HSET big f{i} {i}"));
        }
        bench.table(
            "
            HSET small a 1 b 2 c 3 -> :3
            HPEXPIRE small 9000 FIELDS 1 c -> *1 :1
            HPEXPIRE small 5000 FIELDS 1 a -> *1 :1
            HPEXPIRE big 7000 FIELDS 2 f7 f8 -> *2 :1 :1
            OBJECT ENCODING small -> $10 listpackex
            ",
        );
        for key in ["small", "big"] {
            let dump = payload(&mut bench, key.as_bytes());
            assert_eq!(dump[dump.len() - 10], 12, "the version");
            let copy: [&[u8]; 4] = [b"RESTORE", &[key.as_bytes(), b"2"].concat(), b"0", &dump];
            assert_eq!(bench.raw(&copy), b"+OK\r\n");
        }
        bench.table(
            "
            HPTTL small2 FIELDS 3 a b c -> *3 :5000 :-1 :9000
            HMGET small2 a b c -> *3 $1 1 $1 2 $1 3
            OBJECT ENCODING small2 -> $10 listpackex
            HPTTL big2 FIELDS 3 f6 f7 f8 -> *3 :-1 :7000 :7000
            HPERSIST small2 FIELDS 2 a c -> *2 :1 :1
            OBJECT ENCODING small2 -> $8 listpack
            ",
        );
        let dump = payload(&mut bench, b"small2");
        assert_eq!(dump[dump.len() - 10], 10, "the version");
        bench.pass_ms(7000);
        bench.table("HLEN big2 -> :598\nHLEN small -> :2");
    }

    #[test]
    fn options() {
        let mut bench = Bench::new();
        bench.table("SET k v -> +OK");
        let dump = payload(&mut bench, b"k");
        let mut restore = |words: &str, reply: &str| {
            let words: Vec<&[u8]> = words
                .split(' ')
                .map(|word| {
                    if word == "P" {
                        &dump[..]
                    } else {
                        word.as_bytes()
                    }
                })
                .collect();
            let found = bench.raw(&[&[b"RESTORE".as_slice()], &words[..]].concat());
            assert_eq!(
                String::from_utf8_lossy(&found).trim_end(),
                reply,
                "{words:?}"
            );
        };
        let busy = "-BUSYKEY Target key name already exists.";
        let syntax = "-ERR syntax error";
        for (words, reply) in [
            ("k 0 P", busy),
            ("k x bad", busy),
            ("k 0 P WHAT", syntax),
            ("n x P", "-ERR value is not an integer or out of range"),
            ("n -1 bad", "-ERR Invalid TTL value, must be >= 0"),
            ("n 0 bad", "-ERR DUMP payload version or checksum are wrong"),
            ("n 0 P IDLETIME", syntax),
            (
                "n 0 P IDLETIME -1",
                "-ERR Invalid IDLETIME value, must be >= 0",
            ),
            (
                "n 0 P FREQ 256",
                "-ERR Invalid FREQ value, must be >= 0 and <= 255",
            ),
            ("n 0 P FREQ 1 IDLETIME 1", syntax),
            (
                "n 0 P FREQ x",
                "-ERR value is not an integer or out of range",
            ),
            ("n 70 P IDLETIME 5", "+OK"),
            ("k 1 P ABSTTL REPLACE", "+OK"),
            ("f 0 P FREQ 255", "+OK"),
            ("a 1700000000500 P absttl", "+OK"),
        ] {
            restore(words, reply);
        }
        bench.table(
            "
            EXISTS k -> :0
            PTTL n -> :70
            OBJECT IDLETIME n -> :5
            PTTL a -> :500
            GET a -> $1 v
            ",
        );
    }
}
