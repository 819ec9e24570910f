//! ZPOPMIN, ZPOPMAX and ZMPOP: taking members from an end.

use protocol::number::parse_i64;
use protocol::{
    Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Resp, Spec, spec,
};
use storage::{EventClass, Key};

use crate::zset::zrem::remove_ranks;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zmpop",
            summary: "Takes members from an end of the first sorted set that is there.",
            group: Group::SortedSet,
            since: "7.0.0",
            arity: Arity::at_least(4),
            flags: Flags::MOVABLEKEYS.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: &[KeySpec::counted(
                1,
                KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            )],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zmpop),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zpopmax",
            summary: "Takes members with the highest scores.",
            group: Group::SortedSet,
            since: "5.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zpopmax),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zpopmin",
            summary: "Takes members with the lowest scores.",
            group: Group::SortedSet,
            since: "5.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zpopmin),
        spread: Spread::Keys,
    },
];

/// An end of a sorted set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Min,
    Max,
}

fn zpopmin(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, End::Min)
}

fn zpopmax(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, End::Max)
}

fn pop(cx: &mut Write<'_>, mut args: Args<'_>, end: End) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let count = args.bytes().ok();
    args.end()?;
    // Only a request with a count is answered by pairs, and only in version 3.
    let nested = count.is_some() && cx.reply.resp() == Resp::V3;
    let count = match count {
        Some(count) => positive(count).ok_or(Refusal::NotPositive)?,
        None => 1,
    };
    let popped = take(cx, &key, end, count, nested, |reply, len| {
        reply.array(if nested { len } else { len.saturating_mul(2) });
    })?;
    if !popped {
        cx.reply.array(0);
    }
    Ok(())
}

fn zmpop(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    if !take_first(cx, args)? {
        cx.reply.null_array();
    }
    Ok(())
}

/// `numkeys key.. MIN|MAX [COUNT n]`: takes from the first sorted set that is there; whether there is one.
pub(super) fn take_first(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<bool, Refused> {
    let keys = positive(args.bytes()?)
        .filter(|keys| *keys > 0)
        .ok_or(Refusal::NumkeysNotPositive)?;
    let words = args.rest().take(keys);
    args = args.skip(keys);
    let end = if args.keyword("MIN") {
        End::Min
    } else if args.keyword("MAX") {
        End::Max
    } else {
        return Err(Refusal::Syntax.into());
    };
    let mut count = 1;
    if args.left() > 1 && args.keyword("COUNT") {
        count = positive(args.bytes()?)
            .filter(|count| *count > 0)
            .ok_or(Refusal::CountNotPositive)?;
    }
    args.end()?;
    for word in words {
        let key = cx.key(word);
        let popped = take(cx, &key, end, count, true, |reply, len| {
            reply.array(2);
            reply.bulk(word);
            reply.array(len);
        })?;
        if popped {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A number that is not negative.
fn positive(word: &[u8]) -> Option<usize> {
    usize::try_from(parse_i64(word)?).ok()
}

/// Takes up to `count` members; whether the key was there. Each is written as a pair if `nested`, what
/// comes before them by `header`.
pub(super) fn take(
    cx: &mut Write<'_>,
    key: &Key<'_>,
    end: End,
    count: usize,
    nested: bool,
    header: impl FnOnce(&mut Reply<'_>, usize),
) -> Result<bool, Refused> {
    let Some(mut zset) = cx.edit.edit_zset(key)? else {
        return Ok(false);
    };
    let len = zset.len();
    let taken = count.min(len);
    header(&mut cx.reply, taken);
    let mut show = |(member, score): (&[u8], f64)| {
        if nested {
            cx.reply.array(2);
        }
        cx.reply.bulk(member);
        cx.reply.double(score);
    };
    let ranks = match end {
        End::Min => {
            zset.iter().take(taken).for_each(&mut show);
            0..taken
        }
        End::Max => {
            let last = len.saturating_sub(1);
            zset.iter_rev_from(last).take(taken).for_each(&mut show);
            len - taken..len
        }
    };
    if taken > 0 {
        let event = match end {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        };
        zset.event(EventClass::Zset, event);
    }
    if taken == len {
        drop(zset);
        cx.edit.remove(key);
        cx.edit.event(EventClass::Generic, "del", key);
    } else {
        remove_ranks(&mut zset, ranks);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn from_both_ends() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b 3 c 4 d 5 e -> :5
            ZPOPMIN z -> *2 $1 a $1 1
            ZPOPMAX z -> *2 $1 e $1 5
            ZPOPMAX z 2 -> *4 $1 d $1 4 $1 c $1 3
            ZPOPMIN z 0 -> *0
            ZPOPMIN z 9 -> *2 $1 b $1 2
            ZPOPMIN z 9 -> *0
            ZPOPMIN none -> *0
            ZCARD z -> :0
            ",
        );
    }

    #[test]
    fn from_the_first_of_several() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b 3 c -> :3
            ZADD y 7 x -> :1
            ZMPOP 2 none z MIN -> *2 $1 z *1 *2 $1 a $1 1
            ZMPOP 3 none z y max COUNT 9 -> *2 $1 z *2 *2 $1 c $1 3 *2 $1 b $1 2
            ZMPOP 2 z y MIN -> *2 $1 y *1 *2 $1 x $1 7
            ZMPOP 2 z y MIN -> *-1
            ",
        );
    }

    #[test]
    fn words_are_checked_before_the_key() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZPOPMIN str 1 2 -> -ERR syntax error
            ZPOPMIN str -1 -> -ERR value is out of range, must be positive
            ZPOPMIN str x -> -ERR value is out of range, must be positive
            ZPOPMIN str 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZMPOP 0 str MIN -> -ERR numkeys should be greater than 0
            ZMPOP x str MIN -> -ERR numkeys should be greater than 0
            ZMPOP 2 str MIN -> -ERR syntax error
            ZMPOP 9223372036854775807 str MIN -> -ERR syntax error
            ZMPOP 1 str MID -> -ERR syntax error
            ZMPOP 1 str MIN COUNT -> -ERR syntax error
            ZMPOP 1 str MIN COUNT 0 -> -ERR count should be greater than 0
            ZMPOP 1 str MIN COUNT x -> -ERR count should be greater than 0
            ZMPOP 1 str MIN COUNT 1 COUNT 1 -> -ERR syntax error
            ZMPOP 2 none str MIN -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZADD z 1 a -> :1
            ZMPOP 2 z str MIN -> *2 $1 z *1 *2 $1 a $1 1
            ",
        );
    }

    #[test]
    fn version_3_nests_pairs_when_there_is_a_count() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            ZADD z 1 a 2 b 3 c 4 d -> :4
            ZPOPMIN z -> *2 $1 a ,1
            ZPOPMIN z 1 -> *1 *2 $1 b ,2
            ZPOPMAX z 2 -> *2 *2 $1 d ,4 *2 $1 c ,3
            ZPOPMAX z -> *0
            ZMPOP 1 z MIN -> _
            ",
        );
    }

    #[test]
    fn many_from_a_large_one() {
        let mut bench = Bench::new();
        let pairs: String = (0..1000).map(|i| format!(" {i} m{i}")).collect();
        bench.run(&format!("ZADD z{pairs}"));
        assert!(
            bench
                .run("ZPOPMAX z 300")
                .starts_with("*600 $4 m999 $3 999 $4 m998")
        );
        assert!(
            bench
                .run("ZPOPMIN z 300")
                .starts_with("*600 $2 m0 $1 0 $2 m1")
        );
        bench.table("ZRANGE z 0 0 -> *1 $4 m300");
        bench.table("ZRANGE z -1 -1 -> *1 $4 m699");
    }
}
