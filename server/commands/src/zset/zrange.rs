//! Hot path. ZRANGE and its older spellings, and ZRANGESTORE: members in order, by rank, score or name.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Spec, spec};
use storage::{EventClass, OwnedValue, Shard, Zset};

use crate::key;
use crate::zset::entries;
use crate::zset::zquery::{Kind, Query, Spelling};
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zrange",
            summary: "Lists the members in a range of ranks, scores or strings.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zrange),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrangebylex",
            summary: "Lists the members in a range of strings.",
            group: Group::SortedSet,
            since: "2.8.9",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(zrangebylex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrangebyscore",
            summary: "Lists the members with scores in a range.",
            group: Group::SortedSet,
            since: "1.0.5",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(zrangebyscore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrangestore",
            summary: "Stores the members in a range of another sorted set.",
            group: Group::SortedSet,
            since: "6.2.0",
            arity: Arity::at_least(5),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
                KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zrangestore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrevrange",
            summary: "Lists the members in a range of ranks, highest first.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(zrevrange),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrevrangebylex",
            summary: "Lists the members in a range of strings, last first.",
            group: Group::SortedSet,
            since: "2.8.9",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(zrevrangebylex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zrevrangebyscore",
            summary: "Lists the members with scores in a range, highest first.",
            group: Group::SortedSet,
            since: "2.2.0",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(zrevrangebyscore),
        spread: Spread::Keys,
    },
];

fn zrange(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let spelling = Spelling {
        kind: None,
        reverse: None,
        scores: true,
    };
    list(cx, args, spelling)
}

fn zrevrange(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    list(cx, args, Spelling::older(Kind::Rank, true))
}

fn zrangebyscore(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    list(cx, args, Spelling::older(Kind::Score, false))
}

fn zrevrangebyscore(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    list(cx, args, Spelling::older(Kind::Score, true))
}

fn zrangebylex(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    list(cx, args, Spelling::older(Kind::Lex, false))
}

fn zrevrangebylex(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    list(cx, args, Spelling::older(Kind::Lex, true))
}

fn list(cx: &mut Read<'_>, mut args: Args<'_>, spelling: Spelling) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let query = Query::parse(&mut args, spelling)?;
    let Some(zset) = cx.shard.zset(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(zset);
    entries::header(&mut cx.reply, ranks.len(), query.scores);
    query.walk(zset, ranks, |(member, score)| {
        entries::entry(&mut cx.reply, member, score, query.scores);
    });
    Ok(())
}

fn zrangestore(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, source) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    let spelling = Spelling {
        kind: None,
        reverse: None,
        scores: false,
    };
    let query = Query::parse(&mut args, spelling)?;
    let (mut result, shard): (_, &Shard) = (Zset::new(), &cx.edit);
    if let Some(zset) = shard.zset(&source)? {
        let ranks = query.ranks(zset);
        result.expect(ranks.len(), shard.limits());
        query.walk(zset, ranks, |(member, score)| {
            result.add(member, score, shard.limits());
        });
    }
    let len = result.len();
    let result = OwnedValue::Zset(Box::new(result));
    let event = (EventClass::Zset, "zrangestore");
    key::store(&mut cx.edit, &key, result, event);
    cx.reply.int(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn by_rank_score_and_order() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b 3 c -> :3
            ZRANGE z 0 -1 -> *3 $1 a $1 b $1 c
            ZRANGE z 1 5 WITHSCORES -> *4 $1 b $1 2 $1 c $1 3
            ZRANGE z 0 0 REV -> *1 $1 c
            ZRANGE z 5 9 -> *0
            ZRANGE z 0 -1 LIMIT 5 -1 -> *3 $1 a $1 b $1 c
            ZREVRANGE z 0 1 WITHSCORES -> *4 $1 c $1 3 $1 b $1 2
            ZRANGE z (1 3 BYSCORE -> *2 $1 b $1 c
            ZRANGE z 3 (1 BYSCORE REV -> *2 $1 c $1 b
            ZRANGE z 3 (1 rev byscore limit 1 1 -> *1 $1 b
            ZRANGEBYSCORE z -inf inf LIMIT 1 1 WITHSCORES -> *2 $1 b $1 2
            ZRANGEBYSCORE z -inf inf LIMIT 0 0 -> *0
            ZRANGEBYSCORE z -inf inf LIMIT -1 5 -> *0
            ZRANGEBYSCORE z -inf inf LIMIT 1 -5 -> *2 $1 b $1 c
            ZRANGEBYSCORE z -inf inf LIMIT 9223372036854775807 9223372036854775807 -> *0
            ZREVRANGEBYSCORE z inf (1 LIMIT 1 9223372036854775807 -> *1 $1 b
            ZREVRANGEBYSCORE z 1 3 -> *0
            ZADD l 0 a 0 b 0 c -> :3
            ZRANGE l [b + BYLEX -> *2 $1 b $1 c
            ZRANGE l + (a BYLEX REV LIMIT 0 1 -> *1 $1 c
            ZRANGEBYLEX l - (c -> *2 $1 a $1 b
            ZREVRANGEBYLEX l [b - -> *2 $1 b $1 a
            ZREVRANGEBYLEX l - + -> *0
            ZRANGE none 0 -1 WITHSCORES -> *0
            ",
        );
    }

    #[test]
    fn words_are_checked_before_the_key() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZRANGE str x 1 -> -ERR value is not an integer or out of range
            ZRANGE str 0 1 WHAT -> -ERR syntax error
            ZRANGE str x 1 LIMIT 0 -> -ERR syntax error
            ZRANGE str x 1 LIMIT 0 y WHAT -> -ERR value is not an integer or out of range
            ZRANGE str 0 1 LIMIT 0 1 -> -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
            ZRANGE str 0 1 BYLEX WITHSCORES -> -ERR syntax error, WITHSCORES not supported in combination with BYLEX
            ZRANGE str 0 1 BYLEX BYSCORE -> -ERR syntax error
            ZRANGE str 0 1 BYLEX -> -ERR min or max not valid string range item
            ZRANGE str 0 x BYSCORE -> -ERR min or max is not a float
            ZRANGE str 0 1 REV REV -> -ERR syntax error
            ZREVRANGE str 0 1 REV -> -ERR syntax error
            ZREVRANGE str 0 1 LIMIT 0 1 -> -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
            ZRANGEBYSCORE str 0 1 BYSCORE -> -ERR syntax error
            ZRANGEBYLEX str - + WITHSCORES -> -ERR syntax error, WITHSCORES not supported in combination with BYLEX
            ZRANGESTORE d str 0 1 WITHSCORES -> -ERR syntax error
            ZRANGESTORE d str 0 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn storing_replaces_and_nothing_removes() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b 3 c -> :3
            SET d x -> +OK
            ZRANGESTORE d z 1 -1 -> :2
            ZRANGE d 0 -1 WITHSCORES -> *4 $1 b $1 2 $1 c $1 3
            ZRANGESTORE d z inf (1 BYSCORE REV LIMIT 0 1 -> :1
            ZRANGE d 0 -1 -> *1 $1 c
            ZRANGESTORE z z 0 0 -> :1
            ZRANGE z 0 -1 -> *1 $1 a
            ZRANGESTORE d z 5 6 -> :0
            ZCARD d -> :0
            ZRANGESTORE z none 0 -1 -> :0
            ZCARD z -> :0
            ",
        );
    }

    #[test]
    fn version_3_nests_pairs() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            ZADD z 1 a 2.5 b -> :2
            ZRANGE z 0 -1 WITHSCORES -> *2 *2 $1 a ,1 *2 $1 b ,2.5
            ZRANGE z 0 -1 -> *2 $1 a $1 b
            ZREVRANGEBYSCORE z inf 2 WITHSCORES -> *1 *2 $1 b ,2.5
            ZRANGE none 0 -1 -> *0
            ",
        );
    }
}
