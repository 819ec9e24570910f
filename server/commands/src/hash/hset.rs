//! Hot path. HSET, HMSET, HSETNX and HDEL: setting and removing fields.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::EventClass;

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "hdel",
            summary: "Removes fields of a hash.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(hdel),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hmset",
            summary: "Sets fields of a hash.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("4.0.0"),
        },
        run: Run::Write(hmset),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hset",
            summary: "Sets fields of a hash and tells how many are new.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(hset),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hsetnx",
            summary: "Sets a field that is not there yet.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(hsetnx),
        spread: Spread::Keys,
    },
];

fn hset(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let new = set_all(cx, args, "hset")?;
    cx.reply.int(new);
    Ok(())
}

fn hmset(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set_all(cx, args, "hmset")?;
    cx.reply.ok();
    Ok(())
}

/// Sets the pairs of a request; how many fields are new.
#[inline]
fn set_all(cx: &mut Write<'_>, mut args: Args<'_>, name: &'static str) -> Result<i64, Refused> {
    let key = cx.key(args.bytes()?);
    if args.left() % 2 == 1 {
        return Err(Refusal::arity(name).into());
    }
    let mut hash = cx.edit.edit_hash_or_new(&key)?;
    if args.left() > 2 {
        hash.expect(args.left() / 2);
    }
    let mut new = 0;
    let mut words = args.rest();
    while let (Some(field), Some(value)) = (words.next(), words.next()) {
        new += i64::from(hash.set(field, value));
    }
    hash.event(EventClass::Hash, "hset");
    Ok(new)
}

fn hsetnx(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, field, value) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let mut hash = cx.edit.edit_hash_or_new(&key)?;
    let absent = !hash.contains(field);
    if absent {
        hash.set(field, value);
        hash.event(EventClass::Hash, "hset");
    }
    cx.reply.int(i64::from(absent));
    Ok(())
}

fn hdel(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut removed = 0;
    if let Some(mut hash) = cx.edit.edit_hash(&key)? {
        for field in args.rest() {
            removed += i64::from(hash.remove(field));
        }
        if removed > 0 {
            hash.event(EventClass::Hash, "hdel");
        }
    }
    cx.reply.int(removed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    /// As Redis since 7.0: the words are counted, before it is known how many fields are new.
    #[test]
    fn many_pairs_at_once_make_a_table() {
        let mut bench = Bench::new();
        for (pairs, encoding) in [(512, "listpack"), (513, "hashtable")] {
            bench.run("DEL k");
            bench.run(&format!("HSET k{}", " f v".repeat(pairs)));
            assert_eq!(
                bench.run("OBJECT ENCODING k"),
                format!("${} {encoding}", encoding.len())
            );
        }
    }

    #[test]
    fn fields_come_and_go() {
        Bench::new().table(
            "
            HSET k a 1 b 2 -> :2
            HSET k a 3 c 4 c 5 -> :1
            HGETALL k -> *6 $1 a $1 3 $1 b $1 2 $1 c $1 5
            HSET k a 1 b -> -ERR wrong number of arguments for 'hset' command
            HMSET k a 1 b -> -ERR wrong number of arguments for 'hmset' command
            HMSET k a 1 d 2 -> +OK
            HSETNX k a 9 -> :0
            HSETNX k e 9 -> :1
            HSETNX new f v -> :1
            HGET k a -> $1 1
            HDEL k a a z -> :1
            HDEL k b c d e -> :4
            HLEN k -> :0
            HDEL k a -> :0
            HDEL new f g f -> :1
            ",
        );
    }

    #[test]
    fn a_refused_request_leaves_nothing() {
        Bench::new().table(
            "
            HSET k a 1 b -> -ERR wrong number of arguments for 'hset' command
            HLEN k -> :0
            SET s x -> +OK
            HSET s a 1 b -> -ERR wrong number of arguments for 'hset' command
            HSET s a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HMSET s a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HSETNX s a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HDEL s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn a_hash_that_grows_out_of_its_packed_form() {
        let mut bench = Bench::new();
        let fields: String = (0..200).map(|n| format!(" f{n} {n}")).collect();
        assert_eq!(bench.run(&format!("HSET k{fields}")), ":200");
        bench.table(
            "
            HGET k f199 -> $3 199
            HDEL k f0 f1 f0 -> :2
            HLEN k -> :198
            ",
        );
    }
}
