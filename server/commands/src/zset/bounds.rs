//! The ends of ranges of scores (`1.5`, `(1.5`, `-inf`) and of members (`[a`, `(a`, `-`, `+`), and the
//! ranks between them.

use core::ops::Range;

use protocol::Refusal;
use protocol::number::parse_bound;
use storage::Zset;

/// A score that a range begins or ends with.
#[derive(Clone, Copy)]
struct ScoreEnd {
    score: f64,
    /// Whether the score itself is left out.
    open: bool,
}

impl ScoreEnd {
    fn parse(word: &[u8]) -> Option<Self> {
        let (open, number) = match word {
            [b'(', number @ ..] => (true, number),
            number => (false, number),
        };
        parse_bound(number).map(|score| Self { score, open })
    }
}

/// A range of scores.
#[derive(Clone, Copy)]
pub(super) struct Scores {
    min: ScoreEnd,
    max: ScoreEnd,
}

impl Scores {
    /// Reads both ends.
    ///
    /// # Errors
    /// `Refusal::MinMaxNotFloat`
    pub(super) fn parse(min: &[u8], max: &[u8]) -> Result<Self, Refusal> {
        match (ScoreEnd::parse(min), ScoreEnd::parse(max)) {
            (Some(min), Some(max)) => Ok(Self { min, max }),
            _ => Err(Refusal::MinMaxNotFloat),
        }
    }

    /// The ranks of the members with such scores.
    pub(super) fn ranks(&self, zset: &Zset) -> Range<usize> {
        let start = zset.rank_of_score(self.min.score, self.min.open);
        let end = zset.rank_of_score(self.max.score, !self.max.open);
        start..end.max(start)
    }
}

/// A string that a range begins or ends with.
#[derive(Clone, Copy)]
enum LexEnd<'a> {
    /// Before every string.
    Lowest,
    /// After every string.
    Highest,
    /// At a string.
    At {
        bytes: &'a [u8],
        /// Whether the string itself is left out.
        open: bool,
    },
}

impl<'a> LexEnd<'a> {
    fn parse(word: &'a [u8]) -> Option<Self> {
        match word {
            // Redis looks for a zero byte behind the sign, where the string usually ends.
            [b'-'] | [b'-', 0, ..] => Some(Self::Lowest),
            [b'+'] | [b'+', 0, ..] => Some(Self::Highest),
            [b'[', bytes @ ..] => Some(Self::At { bytes, open: false }),
            [b'(', bytes @ ..] => Some(Self::At { bytes, open: true }),
            _ => None,
        }
    }

    /// The rank of the first member after this end; one at it counts as after it if `equal_is_after`.
    fn rank(self, zset: &Zset, equal_is_after: impl Fn(bool) -> bool) -> usize {
        match self {
            Self::Lowest => 0,
            Self::Highest => zset.len(),
            Self::At { bytes, open } => zset.rank_of_lex(bytes, !equal_is_after(open)),
        }
    }
}

/// A range of members, in byte order.
#[derive(Clone, Copy)]
pub(super) struct Lex<'a> {
    min: LexEnd<'a>,
    max: LexEnd<'a>,
}

impl<'a> Lex<'a> {
    /// Reads both ends.
    ///
    /// # Errors
    /// `Refusal::MinMaxNotString`
    pub(super) fn parse(min: &'a [u8], max: &'a [u8]) -> Result<Self, Refusal> {
        match (LexEnd::parse(min), LexEnd::parse(max)) {
            (Some(min), Some(max)) => Ok(Self { min, max }),
            _ => Err(Refusal::MinMaxNotString),
        }
    }

    /// The ranks of such members. Means something only when all scores are equal.
    pub(super) fn ranks(&self, zset: &Zset) -> Range<usize> {
        let start = self.min.rank(zset, |open| !open);
        let end = self.max.rank(zset, |open| open);
        start..end.max(start)
    }
}

/// The ranks from `start` to `stop`, both included; negative ones count from the end (-1 is the last).
pub(super) fn ranks(start: i64, stop: i64, len: usize) -> Range<usize> {
    let signed = i64::try_from(len).unwrap_or(i64::MAX);
    let from_start = |index: i64| {
        if index < 0 {
            index.saturating_add(signed)
        } else {
            index
        }
    };
    let start = usize::try_from(from_start(start).max(0)).unwrap_or(usize::MAX);
    let end = usize::try_from(from_start(stop).saturating_add(1)).unwrap_or(0);
    let end = end.min(len);
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use storage::{Limits, Zset};

    use super::{Lex, Scores, ranks};

    fn zset(entries: &[(&str, f64)]) -> Zset {
        let mut zset = Zset::new();
        for (member, score) in entries {
            zset.add(member.as_bytes(), *score, &Limits::default());
        }
        zset
    }

    #[test]
    fn ranges_of_ranks() {
        let table = [
            ((0, -1), 0..5),
            ((1, 2), 1..3),
            ((-2, -1), 3..5),
            ((-100, 100), 0..5),
            ((3, 1), 2..2),
            ((5, 9), 5..5),
            ((0, -6), 0..0),
            ((0, i64::MIN), 0..0),
            ((i64::MIN, i64::MAX), 0..5),
            ((i64::MAX, i64::MAX), 5..5),
        ];
        for ((start, stop), expected) in table {
            assert_eq!(ranks(start, stop, 5), expected, "{start} {stop}");
        }
        assert!(ranks(0, -1, 0).is_empty());
    }

    #[test]
    fn ranges_of_scores() {
        let inf = f64::INFINITY;
        let zset = zset(&[("a", -inf), ("b", 1.0), ("c", 2.0), ("d", 2.0), ("e", inf)]);
        for (min, max, expected) in [
            ("-inf", "+inf", 0..5),
            ("(-inf", "(inf", 1..4),
            ("1", "2", 1..4),
            ("(1", "2", 2..4),
            ("1", "(2", 1..2),
            ("(1", "(2", 2..2),
            ("3", "1", 4..4),
            ("(2", "(2", 4..4),
            ("", "1e400", 1..5),
            ("(", " 0x2", 1..4),
        ] {
            let range = Scores::parse(min.as_bytes(), max.as_bytes()).unwrap();
            assert_eq!(range.ranks(&zset), expected, "{min} {max}");
        }
        for word in ["nan", "x", "1x", "((1", "[1"] {
            assert!(Scores::parse(word.as_bytes(), b"1").is_err(), "{word}");
            assert!(Scores::parse(b"1", word.as_bytes()).is_err(), "{word}");
        }
    }

    #[test]
    fn ranges_of_members() {
        let zset = zset(&[("", 0.0), ("a", 0.0), ("b", 0.0), ("bb", 0.0), ("c", 0.0)]);
        for (min, max, expected) in [
            ("-", "+", 0..5),
            ("+", "-", 5..5),
            ("-", "-", 0..0),
            ("[", "[a", 0..2),
            ("(", "(b", 1..2),
            ("[a", "[b", 1..3),
            ("(a", "(bb", 2..3),
            ("[d", "+", 5..5),
            ("[c", "[a", 4..4),
            ("-\0x", "+\0", 0..5),
        ] {
            let range = Lex::parse(min.as_bytes(), max.as_bytes()).unwrap();
            assert_eq!(range.ranks(&zset), expected, "{min} {max}");
        }
        for word in ["", "a", "1", "-a", "++", "]a"] {
            assert!(Lex::parse(word.as_bytes(), b"+").is_err(), "{word}");
            assert!(Lex::parse(b"-", word.as_bytes()).is_err(), "{word}");
        }
    }
}
