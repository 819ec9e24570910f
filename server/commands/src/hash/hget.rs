//! Hot path. HGET and its kin: reading fields by name.

use protocol::{Acl, Args, Arity, Flags, Group, Reply, Spec, spec};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "hexists",
            summary: "Tells whether a hash has a field.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::READ),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(hexists),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hget",
            summary: "Reads the value of a field.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(hget),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hlen",
            summary: "Tells how many fields a hash has.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::READ),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(hlen),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hmget",
            summary: "Reads the values of several fields.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(hmget),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hstrlen",
            summary: "Tells how long the value of a field is.",
            group: Group::Hash,
            since: "3.2.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::READ),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(hstrlen),
        spread: Spread::Keys,
    },
];

fn hget(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, field) = (cx.key(args.bytes()?), args.bytes()?);
    let value = cx.shard.hash(&key)?.and_then(|hash| hash.get(field));
    write(&mut cx.reply, value);
    Ok(())
}

fn hmget(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let hash = cx.shard.hash(&key)?;
    cx.reply.array(args.left());
    for field in args.rest() {
        write(&mut cx.reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn hexists(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, field) = (cx.key(args.bytes()?), args.bytes()?);
    let found = cx
        .shard
        .hash(&key)?
        .is_some_and(|hash| hash.contains(field));
    cx.reply.int(i64::from(found));
    Ok(())
}

fn hstrlen(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, field) = (cx.key(args.bytes()?), args.bytes()?);
    let value = cx.shard.hash(&key)?.and_then(|hash| hash.get(field));
    cx.reply.int(value.map_or(0, <[u8]>::len) as i64);
    Ok(())
}

fn hlen(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.hash(&key)?.map_or(0, |hash| hash.len());
    cx.reply.int(len as i64);
    Ok(())
}

/// A value as a reply, or the null of its absence.
#[inline]
fn write(reply: &mut Reply<'_>, value: Option<&[u8]>) {
    match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;

    #[test]
    fn fields_are_read() {
        Bench::new().table(
            "
            HSET k a 1 b two -> :2
            HGET k a -> $1 1
            HGET k c -> $-1
            HGET none a -> $-1
            HMGET k b c a b -> *4 $3 two $-1 $1 1 $3 two
            HMGET none b c -> *2 $-1 $-1
            HEXISTS k a -> :1
            HEXISTS k c -> :0
            HEXISTS none a -> :0
            HSTRLEN k b -> :3
            HSTRLEN k c -> :0
            HSTRLEN none c -> :0
            HLEN k -> :2
            HLEN none -> :0
            ",
        );
    }

    #[test]
    fn strings_have_no_fields() {
        Bench::new().table(
            "
            SET s x -> +OK
            HGET s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HMGET s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HEXISTS s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HSTRLEN s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HLEN s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn nothing_in_version_3() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            HGET k a -> _
            HMGET k a b -> *2 _ _
            ",
        );
    }
}
