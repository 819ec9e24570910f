//! ZREM and its kin: removing members by name, by rank, by score or in byte order.

use core::ops::Range;

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Zset, ZsetEdit};

use crate::zset::bounds::{self, Lex, Scores};
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zrem",
            summary: "Removes members from a sorted set, and the sorted set when none is left.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zrem),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zremrangebylex",
            summary: "Removes the members that lie in a range of strings.",
            group: Group::SortedSet,
            since: "2.8.9",
            arity: Arity::exactly(4),
            flags: Flags::WRITE,
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zremrangebylex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zremrangebyrank",
            summary: "Removes the members with ranks in a range.",
            group: Group::SortedSet,
            since: "2.0.0",
            arity: Arity::exactly(4),
            flags: Flags::WRITE,
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zremrangebyrank),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zremrangebyscore",
            summary: "Removes the members with scores in a range.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::exactly(4),
            flags: Flags::WRITE,
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zremrangebyscore),
        spread: Spread::Keys,
    },
];

fn zrem(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut removed = 0;
    if let Some(mut zset) = cx.edit.edit_zset(&key)? {
        for member in args.rest() {
            removed += i64::from(zset.remove(member).is_some());
        }
        if removed > 0 {
            zset.event(EventClass::Zset, "zrem");
        }
    }
    cx.reply.int(removed);
    Ok(())
}

fn zremrangebyrank(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    remove_range(cx, args, "zremrangebyrank", |start, stop| {
        let number = |word| protocol::number::parse_i64(word).ok_or(Refusal::NotInteger);
        let (start, stop) = (number(start)?, number(stop)?);
        Ok(move |zset: &Zset| bounds::ranks(start, stop, zset.len()))
    })
}

fn zremrangebyscore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    remove_range(cx, args, "zremrangebyscore", |min, max| {
        let range = Scores::parse(min, max)?;
        Ok(move |zset: &Zset| range.ranks(zset))
    })
}

fn zremrangebylex(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    remove_range(cx, args, "zremrangebylex", |min, max| {
        let range = Lex::parse(min, max)?;
        Ok(move |zset: &Zset| range.ranks(zset))
    })
}

/// Removes the members whose ranks follow from two words.
fn remove_range<'a, R: Fn(&Zset) -> Range<usize>>(
    cx: &mut Write<'_>,
    mut args: Args<'a>,
    event: &'static str,
    parse: impl Fn(&'a [u8], &'a [u8]) -> Result<R, Refusal>,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let range = parse(args.bytes()?, args.bytes()?)?;
    let Some(mut zset) = cx.edit.edit_zset(&key)? else {
        cx.reply.int(0);
        return Ok(());
    };
    let ranks = range(&zset);
    cx.reply.int(ranks.len() as i64);
    if !ranks.is_empty() {
        zset.event(EventClass::Zset, event);
    }
    if ranks.len() == zset.len() {
        drop(zset);
        cx.edit.remove(&key);
        cx.edit.event(EventClass::Generic, "del", &key);
    } else {
        remove_ranks(&mut zset, ranks);
    }
    Ok(())
}

/// Removes the members of these ranks, each by its name.
pub(super) fn remove_ranks(zset: &mut ZsetEdit<'_>, ranks: Range<usize>) {
    let mut name = Vec::new();
    for _ in ranks.clone() {
        let Some((member, _)) = zset.by_rank(ranks.start) else {
            return;
        };
        name.clear();
        name.extend_from_slice(member);
        zset.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn by_name_rank_score_and_order() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b 3 c 4 d 5 e -> :5
            ZREM z a x a -> :1
            ZREM none a -> :0
            ZREMRANGEBYRANK z 1 1 -> :1
            ZRANGE z 0 -1 -> *3 $1 b $1 d $1 e
            ZREMRANGEBYSCORE z (2 (5 -> :1
            ZREMRANGEBYRANK z 5 9 -> :0
            ZREMRANGEBYRANK none 0 -1 -> :0
            ZREMRANGEBYRANK z -1 -1 -> :1
            ZRANGE z 0 -1 -> *1 $1 b
            ZREMRANGEBYSCORE z -inf inf -> :1
            ZCARD z -> :0
            ZADD l 0 a 0 b 0 c -> :3
            ZREMRANGEBYLEX l [b (c -> :1
            ZRANGE l 0 -1 -> *2 $1 a $1 c
            ZREMRANGEBYLEX l + - -> :0
            ZREMRANGEBYLEX l - + -> :2
            ZADD l 0 a -> :1
            ZREM l a -> :1
            ZCARD l -> :0
            ",
        );
    }

    #[test]
    fn words_are_checked_before_the_key() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZREM str a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZREMRANGEBYRANK str x 1 -> -ERR value is not an integer or out of range
            ZREMRANGEBYRANK str 1 x -> -ERR value is not an integer or out of range
            ZREMRANGEBYRANK str 1 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZREMRANGEBYSCORE str x 1 -> -ERR min or max is not a float
            ZREMRANGEBYSCORE str 1 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZREMRANGEBYLEX str x 1 -> -ERR min or max not valid string range item
            ZREMRANGEBYLEX str - + -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn ranges_of_a_large_one() {
        let mut bench = Bench::new();
        let pairs: String = (0..1000).map(|i| format!(" {i} m{i}")).collect();
        bench.run(&format!("ZADD z{pairs}"));
        bench.table(
            "
            ZREMRANGEBYSCORE z 100 899 -> :800
            ZREMRANGEBYRANK z 50 -51 -> :100
            ZRANGE z 48 51 -> *4 $3 m48 $3 m49 $4 m950 $4 m951
            ZREMRANGEBYRANK z 0 -1 -> :100
            ZCARD z -> :0
            ",
        );
    }
}
