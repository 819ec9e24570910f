//! Indexes as clients give them: from the head 0, 1, 2..., from the tail -1, -2...

use core::ops::Range;

use protocol::Refusal;

/// A word that must be a 64-bit integer.
///
/// # Errors
/// `Refusal::NotInteger` if it is none.
pub(super) fn parse(word: &[u8]) -> Result<i64, Refusal> {
    protocol::number::parse_i64(word).ok_or(Refusal::NotInteger)
}

/// Where element `index` of a list of `len` elements is; `None` if it is before the head. It may be
/// behind the tail.
#[inline]
pub(super) fn place(index: i64, len: usize) -> Option<usize> {
    let from_head = if index < 0 {
        index.saturating_add_unsigned(len as u64)
    } else {
        index
    };
    usize::try_from(from_head).ok()
}

/// The elements from `start` to `stop`, both included, of a list of `len` elements; `0..0` if there
/// are none.
#[inline]
pub(super) fn range(start: i64, stop: i64, len: usize) -> Range<usize> {
    let start = place(start, len).unwrap_or(0);
    let end = place(stop, len).map_or(0, |stop| stop.saturating_add(1).min(len));
    if start < end { start..end } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use super::{place, range};

    #[test]
    fn places() {
        let table = [
            (0, Some(0)),
            (4, Some(4)),
            (-1, Some(2)),
            (-3, Some(0)),
            (-4, None),
            (i64::MIN, None),
        ];
        for (index, expected) in table {
            assert_eq!(place(index, 3), expected, "{index}");
        }
    }

    #[test]
    fn ranges() {
        let table = [
            ((0, -1), 0..3),
            ((-2, -1), 1..3),
            ((1, 1), 1..2),
            ((i64::MIN, i64::MAX), 0..3),
            ((2, 1), 0..0),
            ((3, 9), 0..0),
            ((0, -4), 0..0),
            ((0, i64::MIN), 0..0),
            ((i64::MAX, i64::MAX), 0..0),
        ];
        for ((start, stop), expected) in table {
            assert_eq!(range(start, stop, 3), expected, "{start} {stop}");
        }
        assert_eq!(range(0, -1, 0), 0..0);
    }
}
