//! Hot path. ZRANGE and its older spellings, and ZRANGESTORE: members in order, by rank, score or name.

use core::ops::Range;

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, spec};
use storage::{OwnedValue, Ttl, Zset};

use crate::zset::bounds::{self, Lex, Scores};
use crate::zset::entries;
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

/// What the ends of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rank,
    Score,
    Lex,
}

/// What a spelling says by its name; None is left to the options.
#[derive(Clone, Copy)]
struct Spelling {
    kind: Option<Kind>,
    reverse: Option<bool>,
    scores: bool,
}

impl Spelling {
    const fn older(kind: Kind, reverse: bool) -> Self {
        Self {
            kind: Some(kind),
            reverse: Some(reverse),
            scores: true,
        }
    }
}

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
    let mut result = Zset::new();
    if let Some(zset) = cx.edit.zset(&source)? {
        query.walk(zset, query.ranks(zset), |(member, score)| {
            result.add(member, score, cx.edit.limits());
        });
    }
    let len = result.len();
    let result = OwnedValue::Zset(Box::new(result));
    cx.edit.put_value(&key, result, Ttl::Clear);
    cx.reply.int(len as i64);
    Ok(())
}

/// The ends of a range.
enum Ends<'a> {
    Ranks(i64, i64),
    Scores(Scores),
    Lex(Lex<'a>),
}

/// A range with its options.
struct Query<'a> {
    ends: Ends<'a>,
    reverse: bool,
    scores: bool,
    /// Members passed over; a negative number passes over all.
    offset: i64,
    /// Members taken; a negative number takes all.
    limit: i64,
}

impl<'a> Query<'a> {
    /// Takes all words after the key.
    fn parse(args: &mut Args<'a>, spelling: Spelling) -> Result<Self, Refusal> {
        let (first, second) = (args.bytes()?, args.bytes()?);
        let Spelling {
            mut kind,
            mut reverse,
            ..
        } = spelling;
        let (mut scores, mut offset, mut limit) = (false, 0, -1);
        while args.left() > 0 {
            if spelling.scores && args.keyword("WITHSCORES") {
                scores = true;
            } else if args.left() > 2 && args.keyword("LIMIT") {
                (offset, limit) = (args.int()?, args.int()?);
            } else if reverse.is_none() && args.keyword("REV") {
                reverse = Some(true);
            } else if kind.is_none() && args.keyword("BYLEX") {
                kind = Some(Kind::Lex);
            } else if kind.is_none() && args.keyword("BYSCORE") {
                kind = Some(Kind::Score);
            } else {
                return Err(Refusal::Syntax);
            }
        }
        let kind = kind.unwrap_or(Kind::Rank);
        let reverse = reverse.unwrap_or(false);
        if limit != -1 && kind == Kind::Rank {
            return Err(Refusal::ZrangeLimit);
        }
        if scores && kind == Kind::Lex {
            return Err(Refusal::ZrangeWithscores);
        }
        let (min, max) = if reverse {
            (second, first)
        } else {
            (first, second)
        };
        let rank = |word| protocol::number::parse_i64(word).ok_or(Refusal::NotInteger);
        let ends = match kind {
            Kind::Rank => Ends::Ranks(rank(first)?, rank(second)?),
            Kind::Score => Ends::Scores(Scores::parse(min, max)?),
            Kind::Lex => Ends::Lex(Lex::parse(min, max)?),
        };
        Ok(Self {
            ends,
            reverse,
            scores,
            offset,
            limit,
        })
    }

    /// The ranks of what is listed, counted from the lowest.
    fn ranks(&self, zset: &Zset) -> Range<usize> {
        let len = zset.len();
        match &self.ends {
            Ends::Ranks(start, stop) => {
                let ranks = bounds::ranks(*start, *stop, len);
                if self.reverse {
                    len - ranks.end..len - ranks.start
                } else {
                    ranks
                }
            }
            Ends::Scores(range) => self.page(range.ranks(zset)),
            Ends::Lex(range) => self.page(range.ranks(zset)),
        }
    }

    /// What LIMIT leaves of `ranks`.
    fn page(&self, ranks: Range<usize>) -> Range<usize> {
        let passed = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let taken = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if self.reverse {
            let end = ranks.end.saturating_sub(passed).max(ranks.start);
            end.saturating_sub(taken).max(ranks.start)..end
        } else {
            let start = ranks.start.saturating_add(passed).min(ranks.end);
            start..start.saturating_add(taken).min(ranks.end)
        }
    }

    /// Shows the members of these ranks in the order asked for.
    #[inline]
    fn walk(&self, zset: &Zset, ranks: Range<usize>, show: impl FnMut((&[u8], f64))) {
        if ranks.is_empty() {
            return;
        }
        if self.reverse {
            let last = ranks.end - 1;
            zset.iter_rev_from(last).take(ranks.len()).for_each(show);
        } else {
            zset.iter_from(ranks.start).take(ranks.len()).for_each(show);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::Resp;
    use storage::Limits;

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

    fn list(members: &[&(i8, String)]) -> String {
        let shown = members.iter().map(|(_, m)| format!(" ${} {m}", m.len()));
        format!("*{}{}", members.len(), shown.collect::<String>())
    }

    fn limited<T: Clone>(all: &[T], offset: i64, limit: i64) -> Vec<T> {
        let passed = if offset < 0 {
            usize::MAX
        } else {
            offset as usize
        };
        let taken = if limit < 0 {
            usize::MAX
        } else {
            limit as usize
        };
        all.iter().skip(passed).take(taken).cloned().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn ranges_are_those_of_a_sorted_list(
            members in proptest::collection::btree_map("[a-d]{1,3}", -4i8..5, 1..60),
            entries in prop_oneof![Just(0usize), Just(128)],
            ends in proptest::collection::vec((-5i8..6, any::<bool>(), -5i8..6, any::<bool>()), 1..8),
            (offset, limit) in (-1i64..6, -2i64..6),
        ) {
            let limits = Limits { zset_max_listpack_entries: entries, ..Limits::default() };
            let mut bench = Bench::with_limits(limits);
            let mut all: Vec<(i8, String)> = members.iter().map(|(m, s)| (*s, m.clone())).collect();
            all.sort();
            let pairs: String = all.iter().map(|(s, m)| format!(" {s} {m}")).collect();
            bench.run(&format!("ZADD z{pairs}"));
            let pairs: String = members.keys().map(|m| format!(" 0 {m}")).collect();
            bench.run(&format!("ZADD l{pairs}"));
            for (min, min_open, max, max_open) in ends {
                let open = |is_open, end: i8| format!("{}{end}", if is_open { "(" } else { "" });
                let inside = |s: i8| {
                    (s > min || (!min_open && s == min)) && (s < max || (!max_open && s == max))
                };
                let mut found: Vec<_> = all.iter().filter(|(s, _)| inside(*s)).collect();
                let (low, high) = (open(min_open, min), open(max_open, max));
                prop_assert_eq!(bench.run(&format!("ZCOUNT z {low} {high}")), format!(":{}", found.len()));
                let reply = bench.run(&format!("ZRANGEBYSCORE z {low} {high} LIMIT {offset} {limit}"));
                prop_assert_eq!(reply, list(&limited(&found, offset, limit)));
                found.reverse();
                let reply = bench.run(&format!("ZRANGE z {high} {low} BYSCORE REV LIMIT {offset} {limit}"));
                prop_assert_eq!(reply, list(&limited(&found, offset, limit)));

                let name = |end: i8| ["", "a", "ab", "b", "bbb", "c", "cd", "d", "da", "dd", "e"][(end + 5) as usize];
                let lex = |is_open, end| format!("{}{}", if is_open { "(" } else { "[" }, name(end));
                let (first, last) = (name(min), name(max));
                let inside = |m: &str| {
                    (m > first || (!min_open && m == first)) && (m < last || (!max_open && m == last))
                };
                let zeros: Vec<(i8, String)> = members.keys().map(|m| (0, m.clone())).collect();
                let mut found: Vec<_> = zeros.iter().filter(|(_, m)| inside(m)).collect();
                let (low, high) = (lex(min_open, min), lex(max_open, max));
                prop_assert_eq!(bench.run(&format!("ZLEXCOUNT l {low} {high}")), format!(":{}", found.len()));
                let reply = bench.run(&format!("ZRANGE l {low} {high} BYLEX LIMIT {offset} {limit}"));
                prop_assert_eq!(reply, list(&limited(&found, offset, limit)));
                found.reverse();
                let reply = bench.run(&format!("ZREVRANGEBYLEX l {high} {low} LIMIT {offset} {limit}"));
                prop_assert_eq!(reply, list(&limited(&found, offset, limit)));

                let (start, stop) = (i64::from(min) * 3, i64::from(max) * 3);
                let len = all.len() as i64;
                let at = |i: i64| if i < 0 { i + len } else { i };
                let rank_inside = |rank: i64| rank >= at(start) && rank <= at(stop);
                let mut order: Vec<_> = all.iter().collect();
                for command in ["ZRANGE z", "ZREVRANGE z"] {
                    let found: Vec<_> = order.iter().enumerate()
                        .filter(|(rank, _)| rank_inside(*rank as i64)).map(|(_, m)| *m).collect();
                    prop_assert_eq!(bench.run(&format!("{command} {start} {stop}")), list(&found));
                    order.reverse();
                }
            }
            bench.shard.check();
        }
    }
}
