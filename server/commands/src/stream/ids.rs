//! Ids of entries as words: read as Redis reads them, and written.

use std::io::Write;

use protocol::{Refusal, Reply, number};
use storage::StreamId;

use super::entry;

/// A longer word is no id.
const ID_BYTES_MAX: usize = 127;
/// Bytes of the longest id.
const TEXT_BYTES_MAX: usize = 41;

/// Redis's text for what is no id.
const INVALID: Refusal =
    Refusal::Text("ERR Invalid stream ID specified as stream command argument");

/// An id, or its first part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// `5-7`, or `5`, which is completed.
    Id(StreamId),
    /// `5-*`: the sequence is to be chosen.
    Ms(u64),
}

/// An id; a missing sequence is `missing`. `-` and `+` are none.
pub(super) fn strict(word: &[u8], missing: u64) -> Result<StreamId, Refusal> {
    match parse(word, missing, false) {
        Some(Given::Id(id)) if !is_end(word) => Ok(id),
        _ => Err(INVALID),
    }
}

/// An id for a new entry.
pub(super) fn for_entry(word: &[u8]) -> Result<Given, Refusal> {
    let given = parse(word, 0, true).filter(|_| !is_end(word));
    given.ok_or(INVALID)
}

/// An id, `-` (the lowest) or `+` (the highest).
pub(super) fn or_end(word: &[u8], missing: u64) -> Result<StreamId, Refusal> {
    match parse(word, missing, false) {
        Some(Given::Id(id)) => Ok(id),
        _ => Err(INVALID),
    }
}

/// The begin of a range; `(5` is what comes behind 5.
pub(super) fn range_first(word: &[u8]) -> Result<StreamId, Refusal> {
    match exclusive(word) {
        Some(open) => {
            let next = strict(open, 0)?.next();
            next.ok_or(Refusal::Text("ERR invalid start ID for the interval"))
        }
        None => or_end(word, 0),
    }
}

/// The end of a range; `(5` is what comes before 5.
pub(super) fn range_last(word: &[u8]) -> Result<StreamId, Refusal> {
    match exclusive(word) {
        Some(open) => {
            let prev = strict(open, u64::MAX)?.prev();
            prev.ok_or(Refusal::Text("ERR invalid end ID for the interval"))
        }
        None => or_end(word, u64::MAX),
    }
}

fn exclusive(word: &[u8]) -> Option<&[u8]> {
    word.strip_prefix(b"(").filter(|open| !open.is_empty())
}

/// All remaining words as ids.
pub(super) fn all<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Vec<StreamId>, Refusal> {
    words.map(|word| strict(word, 0)).collect()
}

/// `-` or `+`.
fn is_end(word: &[u8]) -> bool {
    matches!(entry::text(word), b"-" | b"+")
}

fn parse(word: &[u8], missing: u64, may_choose: bool) -> Option<Given> {
    if word.len() > ID_BYTES_MAX {
        return None;
    }
    let word = entry::text(word);
    match word {
        b"-" => return Some(Given::Id(StreamId::MIN)),
        b"+" => return Some(Given::Id(StreamId::MAX)),
        _ => {}
    }
    let mut parts = word.splitn(2, |byte| *byte == b'-');
    let ms = unsigned(parts.next()?)?;
    match parts.next() {
        None => Some(Given::Id(StreamId::new(ms, missing))),
        Some(b"*") if may_choose => Some(Given::Ms(ms)),
        Some(seq) => Some(Given::Id(StreamId::new(ms, unsigned(seq)?))),
    }
}

/// An unsigned number as C reads it when it is not written canonically: after blanks and a sign, and a minus counts from the end.
fn unsigned(text: &[u8]) -> Option<u64> {
    if let Some(n) = number::parse_i64(text) {
        return u64::try_from(n).ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 9..=13);
    let text = &text[text.iter().take_while(|byte| blank(byte)).count()..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let n = digits.iter().try_fold(0u64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        n.checked_mul(10)?.checked_add(digit.into())
    })?;
    Some(if negative { n.wrapping_neg() } else { n })
}

/// Writes an id.
pub(super) fn reply(reply: &mut Reply<'_>, id: StreamId) {
    let mut buf = [0; TEXT_BYTES_MAX];
    let mut rest = &mut buf[..];
    // INVARIANT: two numbers of up to 20 digits and a dash fit.
    let _ = write!(rest, "{id}");
    let left = rest.len();
    reply.bulk(&buf[..TEXT_BYTES_MAX - left]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let id = |ms, seq| Some(Given::Id(StreamId::new(ms, seq)));
        for (word, given) in [
            (&b"5"[..], id(5, 9)),
            (b"5-7", id(5, 7)),
            (b"0-0", id(0, 0)),
            (
                b"18446744073709551615-18446744073709551615",
                id(u64::MAX, u64::MAX),
            ),
            (b"18446744073709551616", None),
            (b"+5- 007", id(5, 7)),
            (b"1--05", id(1, u64::MAX - 4)),
            (b"1--5", None),
            (b"-5", None),
            (b"", None),
            (b"5-", None),
            (b"5-7-8", None),
            (b"x", None),
            (b"5 ", None),
            (b"5-7\0x", id(5, 7)),
            (b"5-*", None),
        ] {
            let read = strict(word, 9).ok().map(Given::Id);
            assert_eq!(read, given, "{}", word.escape_ascii());
        }
        assert_eq!(for_entry(b"5-*"), Ok(Given::Ms(5)));
        assert!(for_entry(b"5-**").is_err() && for_entry(b"*-5").is_err());
        assert!(strict(b"-", 0).is_err() && for_entry(b"+").is_err());
        assert_eq!(or_end(b"+", 0), Ok(StreamId::MAX));
        assert_eq!(range_first(b"(5"), Ok(StreamId::new(5, 1)));
        assert_eq!(range_last(b"(5-0"), Ok(StreamId::new(4, u64::MAX)));
        assert_eq!(range_last(b"(5"), Ok(StreamId::new(5, u64::MAX - 1)));
        assert!(range_first(b"(-").is_err() && range_first(b"(").is_err());
        assert!(strict(&[b'1'; 128], 0).is_err());
    }
}
