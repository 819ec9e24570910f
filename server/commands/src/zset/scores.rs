//! Hot path. Scores, ranks and counts: what is read without walking over a sorted set.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, spec};

use crate::zset::bounds::{Lex, Scores};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zcard",
            summary: "Tells how many members a sorted set has.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zcard),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zcount",
            summary: "Counts the members with scores in a range.",
            group: Group::SortedSet,
            since: "2.0.0",
            arity: Arity::exactly(4),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zcount),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zlexcount",
            summary: "Counts the members that lie in a range of strings.",
            group: Group::SortedSet,
            since: "2.8.9",
            arity: Arity::exactly(4),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zlexcount),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zmscore",
            summary: "Tells the scores of several members.",
            group: Group::SortedSet,
            since: "6.2.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zmscore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrank",
            summary: "Tells how many members have a lower place.",
            group: Group::SortedSet,
            since: "2.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zrank),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrevrank",
            summary: "Tells how many members have a higher place.",
            group: Group::SortedSet,
            since: "2.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zrevrank),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zscore",
            summary: "Tells the score of a member.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zscore),
        spread: Spread::Keys,
    },
];

fn zcard(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.zset(&key)?.map_or(0, |zset| zset.len());
    cx.reply.int(len as i64);
    Ok(())
}

fn zcount(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let range = Scores::parse(args.bytes()?, args.bytes()?)?;
    let zset = cx.shard.zset(&key)?;
    let count = zset.map_or(0, |zset| range.ranks(zset).len());
    cx.reply.int(count as i64);
    Ok(())
}

fn zlexcount(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let range = Lex::parse(args.bytes()?, args.bytes()?)?;
    let zset = cx.shard.zset(&key)?;
    let count = zset.map_or(0, |zset| range.ranks(zset).len());
    cx.reply.int(count as i64);
    Ok(())
}

fn zscore(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, member) = (cx.key(args.bytes()?), args.bytes()?);
    let score = cx.shard.zset(&key)?.and_then(|zset| zset.score(member));
    write_score(&mut cx.reply, score);
    Ok(())
}

fn zmscore(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let zset = cx.shard.zset(&key)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        write_score(&mut cx.reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

#[inline]
fn write_score(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zrank(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    rank(cx, args, "zrank", |rank, _| rank)
}

fn zrevrank(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    rank(cx, args, "zrevrank", |rank, len| {
        len.saturating_sub(rank + 1)
    })
}

fn rank(
    cx: &mut Read<'_>,
    mut args: Args<'_>,
    name: &str,
    counted: fn(usize, usize) -> usize,
) -> Result<(), Refused> {
    let (key, member) = (cx.key(args.bytes()?), args.bytes()?);
    if args.left() > 1 {
        return Err(Refusal::arity(name).into());
    }
    let with_score = args.keyword("WITHSCORE");
    args.end()?;
    let zset = cx.shard.zset(&key)?;
    let found = zset.and_then(|zset| Some((zset, zset.rank(member)?)));
    match found {
        Some((zset, rank)) => {
            if with_score {
                cx.reply.array(2);
            }
            cx.reply.int(counted(rank, zset.len()) as i64);
            if with_score {
                write_score(&mut cx.reply, zset.score(member));
            }
        }
        None if with_score => cx.reply.null_array(),
        None => cx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn scores_and_ranks() {
        Bench::new().table(
            "
            ZADD z 1 a 2.5 b -inf c -0 d -> :4
            ZCARD z -> :4
            ZCARD none -> :0
            ZSCORE z a -> $1 1
            ZSCORE z b -> $3 2.5
            ZSCORE z c -> $4 -inf
            ZSCORE z d -> $1 0
            ZSCORE z x -> $-1
            ZSCORE none x -> $-1
            ZMSCORE z a x b -> *3 $1 1 $-1 $3 2.5
            ZMSCORE none a x -> *2 $-1 $-1
            ZRANK z c -> :0
            ZRANK z b -> :3
            ZREVRANK z b -> :0
            ZREVRANK z c -> :3
            ZRANK z x -> $-1
            ZRANK none x -> $-1
            ZRANK z b WITHSCORE -> *2 :3 $3 2.5
            ZREVRANK z c withscore -> *2 :3 $4 -inf
            ZRANK z x WITHSCORE -> *-1
            ZRANK none x WITHSCORE -> *-1
            ZRANK z b WITHSCORES -> -ERR syntax error
            ZRANK z b WITHSCORE x -> -ERR wrong number of arguments for 'zrank' command
            ZREVRANK z b x y -> -ERR wrong number of arguments for 'zrevrank' command
            ",
        );
    }

    #[test]
    fn counts() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b 3 c -> :3
            ZCOUNT z -inf +inf -> :3
            ZCOUNT z (1 3 -> :2
            ZCOUNT z 3 1 -> :0
            ZCOUNT z (1 (2 -> :0
            ZCOUNT none 1 2 -> :0
            ZCOUNT z x 1 -> -ERR min or max is not a float
            ZCOUNT z 1 nan -> -ERR min or max is not a float
            ZLEXCOUNT z x y -> -ERR min or max not valid string range item
            ZADD l 0 a 0 b 0 c -> :3
            ZLEXCOUNT l - + -> :3
            ZLEXCOUNT l (a [c -> :2
            ZLEXCOUNT l + - -> :0
            ZLEXCOUNT none - + -> :0
            ",
        );
    }

    #[test]
    fn other_types_are_refused_after_the_words() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZCARD str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZSCORE str a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZMSCORE str a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZRANK str a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZRANK str a x -> -ERR syntax error
            ZCOUNT str 1 2 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZCOUNT str x 2 -> -ERR min or max is not a float
            ZLEXCOUNT str - + -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZLEXCOUNT str a b -> -ERR min or max not valid string range item
            ",
        );
    }

    #[test]
    fn version_3_has_doubles() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            ZADD z 1 a 2.5 b inf c -> :3
            ZSCORE z b -> ,2.5
            ZSCORE z c -> ,inf
            ZMSCORE z a x -> *2 ,1 _
            ZRANK z b WITHSCORE -> *2 :1 ,2.5
            ZRANK z x WITHSCORE -> _
            ZRANK z x -> _
            ",
        );
    }
}
