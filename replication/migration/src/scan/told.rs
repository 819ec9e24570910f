//! What the source tells of keys and of itself: deadlines, sizes, what may have changed keys without an event.

use core::ops::Range;

use protocol::answer::Answer;

use crate::assess::field;
use crate::written::strays::calls_of;

/// Types of RDB that are streams.
const STREAMS: [u8; 3] = [15, 19, 21];
/// Commands that change keys without an event of each.
const SILENT: [&str; 3] = ["flushall", "flushdb", "swapdb"];

/// When a key ends, unix ms, as PEXPIRETIME tells it, or PTTL (`now_ms`: the source's clock, at or before that was asked).
pub fn deadline_ms(told: &Answer, now_ms: Option<u64>) -> Option<u64> {
    let Answer::Int(told) = told else { return None };
    let told = u64::try_from(*told).ok()?;
    Some(now_ms.map_or(told, |now_ms| now_ms.saturating_add(told)))
}

/// Whether what DUMP gives is a stream.
pub fn is_stream(payload: &[u8]) -> bool {
    payload.first().is_some_and(|kind| STREAMS.contains(kind))
}

/// Values that are read in one go: places whose sizes are `bytes_max` together, or one that is larger.
pub fn pieces(sizes: &[u64], bytes_max: u64) -> Vec<Range<usize>> {
    let (mut found, mut begin, mut sum) = (Vec::new(), 0, 0u64);
    for (at, size) in sizes.iter().enumerate() {
        if at > begin && sum.saturating_add(*size) > bytes_max {
            found.push(begin..at);
            (begin, sum) = (at, 0);
        }
        sum = sum.saturating_add(*size);
    }
    if begin < sizes.len() {
        found.push(begin..sizes.len());
    }
    found
}

/// What a source says of itself from time to time (INFO server, INFO commandstats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    run: String,
    /// How often INFO was called: it grows with each look.
    looks: u64,
    silent: u64,
}

impl Pulse {
    /// Reads it.
    pub fn of(info: &str) -> Pulse {
        let calls = calls_of(info);
        let called = |name: &str| calls.get(name).copied().unwrap_or(0);
        Pulse {
            run: field(info, "run_id").unwrap_or("").to_owned(),
            looks: called("info"),
            silent: SILENT.iter().map(|name| called(name)).sum(),
        }
    }

    /// What may have changed keys without an event since this one.
    pub fn breaks(&self, now: &Pulse) -> Option<&'static str> {
        if self.run != now.run {
            return Some("the source is another process");
        }
        if now.looks <= self.looks {
            return Some(
                "the source's counts of commands were reset, so FLUSHALL may have been called",
            );
        }
        let is_same = self.silent == now.silent;
        (!is_same).then_some("FLUSHALL, FLUSHDB or SWAPDB was called at the source")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_absolute_however_they_are_told() {
        for (told, now_ms, expected) in [
            (
                Answer::Int(1_700_000_000_000),
                None,
                Some(1_700_000_000_000),
            ),
            (Answer::Int(500), Some(1000), Some(1500)),
            (Answer::Int(i64::MAX), Some(u64::MAX), Some(u64::MAX)),
            (Answer::Int(-1), None, None),
            (Answer::Int(-2), Some(1000), None),
            (Answer::Null, Some(1000), None),
        ] {
            assert_eq!(deadline_ms(&told, now_ms), expected, "{told:?}");
        }
    }

    #[test]
    fn pieces_are_no_larger_than_they_may_be_and_leave_nothing_out() {
        for (sizes, expected) in [
            (&[][..], &[][..]),
            (&[1, 2, 3], &[(0, 3)]),
            (&[5, 5, 5], &[(0, 2), (2, 3)]),
            (&[50, 1, 1, 50], &[(0, 1), (1, 3), (3, 4)]),
            (&[u64::MAX, u64::MAX], &[(0, 1), (1, 2)]),
        ] {
            let found = pieces(sizes, 10).into_iter();
            let found: Vec<(usize, usize)> = found.map(|piece| (piece.start, piece.end)).collect();
            assert_eq!(found, expected, "{sizes:?}");
        }
    }

    #[test]
    fn whatever_may_have_emptied_it_is_seen() {
        let info = |run: &str, looks: u64, flushes: u64, swaps: u64| {
            format!(
                "# Server\r\nrun_id:{run}\r\n# Commandstats\r\ncmdstat_info:calls={looks},usec=1\r\ncmdstat_flushdb:calls={flushes},usec=1\r\ncmdstat_swapdb:calls={swaps},usec=1\r\n"
            )
        };
        let before = Pulse::of(&info("a", 5, 1, 1));
        for (info, expected) in [
            (info("a", 6, 1, 1), None),
            (info("b", 6, 1, 1), Some("process")),
            (info("a", 5, 1, 1), Some("reset")),
            (info("a", 1, 0, 0), Some("reset")),
            (info("a", 6, 2, 1), Some("FLUSHALL")),
            (info("a", 6, 1, 2), Some("FLUSHALL")),
        ] {
            let found = before.breaks(&Pulse::of(&info));
            assert_eq!(found.is_some(), expected.is_some(), "{info}");
            assert!(
                found.unwrap_or("").contains(expected.unwrap_or("")),
                "{info}"
            );
        }
    }

    #[test]
    fn streams_are_told_by_their_first_byte() {
        assert!(is_stream(&[21, 0]) && !is_stream(&[0, 21]) && !is_stream(&[]));
    }
}
