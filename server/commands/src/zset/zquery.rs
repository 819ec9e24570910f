//! Hot path. The words of a request for a range, and the ranks they select; see `zrange.rs`.

use core::ops::Range;

use protocol::{Args, Refusal};
use storage::Zset;

use crate::zset::bounds::{self, Lex, Scores};

/// What the ends of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rank,
    Score,
    Lex,
}

/// What a spelling says by its name; None is left to the options.
#[derive(Clone, Copy)]
pub(super) struct Spelling {
    /// Ranks, scores or strings.
    pub(super) kind: Option<Kind>,
    /// Highest first.
    pub(super) reverse: Option<bool>,
    /// Whether WITHSCORES is taken.
    pub(super) scores: bool,
}

impl Spelling {
    /// One of the spellings that say everything by their names.
    pub(super) const fn older(kind: Kind, reverse: bool) -> Self {
        Self {
            kind: Some(kind),
            reverse: Some(reverse),
            scores: true,
        }
    }
}

/// The ends of a range.
enum Ends<'a> {
    Ranks(i64, i64),
    Scores(Scores),
    Lex(Lex<'a>),
}

/// A range with its options.
pub(super) struct Query<'a> {
    ends: Ends<'a>,
    reverse: bool,
    pub(super) scores: bool,
    /// Members passed over; a negative number passes over all.
    offset: i64,
    /// Members taken; a negative number takes all.
    limit: i64,
}

impl<'a> Query<'a> {
    /// Takes all words after the key.
    pub(super) fn parse(args: &mut Args<'a>, spelling: Spelling) -> Result<Self, Refusal> {
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
    pub(super) fn ranks(&self, zset: &Zset) -> Range<usize> {
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
    pub(super) fn walk(&self, zset: &Zset, ranks: Range<usize>, show: impl FnMut((&[u8], f64))) {
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
    use storage::Limits;

    use crate::testing::Bench;

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
