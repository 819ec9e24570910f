//! HGETALL, HKEYS and HVALS: reading whole hashes.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "hgetall",
            summary: "Reads all fields of a hash with their values.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(2),
            flags: Flags::READONLY,
            acl: Acl::HASH.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(hgetall),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hkeys",
            summary: "Reads the names of all fields.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(2),
            flags: Flags::READONLY,
            acl: Acl::HASH.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(hkeys),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hvals",
            summary: "Reads the values of all fields.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(2),
            flags: Flags::READONLY,
            acl: Acl::HASH.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(hvals),
        spread: Spread::Keys,
    },
];

fn hgetall(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let Some(hash) = cx.shard.hash(&key)? else {
        cx.reply.map(0);
        return Ok(());
    };
    cx.reply.map(hash.len());
    for (field, value) in hash.iter() {
        cx.reply.bulk(field);
        cx.reply.bulk(value);
    }
    Ok(())
}

fn hkeys(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    one_of_each(cx, args, |field, _| field)
}

fn hvals(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    one_of_each(cx, args, |_, value| value)
}

fn one_of_each(
    cx: &mut Read<'_>,
    mut args: Args<'_>,
    choose: impl for<'a> Fn(&'a [u8], &'a [u8]) -> &'a [u8],
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let Some(hash) = cx.shard.hash(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    cx.reply.array(hash.len());
    for (field, value) in hash.iter() {
        cx.reply.bulk(choose(field, value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;

    #[test]
    fn whole_hashes() {
        let mut bench = Bench::new();
        bench.table(
            "
            HGETALL k -> *0
            HKEYS k -> *0
            HVALS k -> *0
            HSET k a 1 b 2 -> :2
            HGETALL k -> *4 $1 a $1 1 $1 b $1 2
            HKEYS k -> *2 $1 a $1 b
            HVALS k -> *2 $1 1 $1 2
            SET s x -> +OK
            HGETALL s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HKEYS s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HVALS s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        bench.resp = Resp::V3;
        bench.table(
            "
            HGETALL none -> %0
            HKEYS none -> *0
            HGETALL k -> %2 $1 a $1 1 $1 b $1 2
            HKEYS k -> *2 $1 a $1 b
            HVALS k -> *2 $1 1 $1 2
            ",
        );
    }
}
