//! What commands that wait have in common: their timeout, and the request for one of their keys.

use protocol::number::parse_f64;
use protocol::{Args, Refusal};

use crate::{Block, Refused, Run, Wait, Write};

/// A write that waits and is run again for a key by `narrow`.
pub(crate) const fn blocking(
    run: fn(&mut Write<'_>, Args<'_>) -> Result<(), Refused>,
    narrow: fn(&Args<'_>, usize) -> Vec<Vec<u8>>,
) -> Run {
    Run::Block(Block {
        run,
        writes: true,
        on_removal: false,
        narrow,
    })
}

/// The words of `key.. timeout`.
///
/// # Errors
/// As [`seconds`].
pub(crate) fn keys_and_timeout<'a>(
    args: &Args<'a>,
    now_ms: u64,
) -> Result<(impl Iterator<Item = &'a [u8]> + use<'a>, Wait), Refusal> {
    let timeout = args.rest().next_back().unwrap_or_default();
    let keys = args.left().saturating_sub(1);
    Ok((args.rest().take(keys), seconds(timeout, now_ms)?))
}

/// A timeout in seconds, which may have a fraction; 0 is for ever.
///
/// # Errors
/// As Redis: not a number, negative, or past the end of time.
pub(crate) fn seconds(word: &[u8], now_ms: u64) -> Result<Wait, Refusal> {
    let timeout_s = parse_f64(word).ok_or(Refusal::TimeoutNotFloat)?;
    let timeout_ms = (timeout_s * 1000.0).ceil();
    // 2^63: the first double that is no i64.
    if timeout_ms >= 9_223_372_036_854_775_808.0 {
        return Err(Refusal::TimeoutOutOfRange);
    }
    until(timeout_ms as i64, now_ms)
}

/// The end of a time limit in milliseconds, as unix ms.
///
/// # Errors
/// As Redis: negative, or past the end of time.
pub fn deadline_ms(timeout_ms: i64, now_ms: u64) -> Result<u64, Refusal> {
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| Refusal::TimeoutNegative)?;
    timeout_ms
        .checked_add(now_ms)
        .filter(|until_ms| i64::try_from(*until_ms).is_ok())
        .ok_or(Refusal::TimeoutOutOfRange)
}

/// A timeout in milliseconds; 0 is for ever.
///
/// # Errors
/// As [`seconds`].
pub(crate) fn until(timeout_ms: i64, now_ms: u64) -> Result<Wait, Refusal> {
    let until_ms = deadline_ms(timeout_ms, now_ms)?;
    Ok(Wait {
        until_ms: (timeout_ms > 0).then_some(until_ms),
        words: None,
    })
}

/// `name key.. timeout` for one key.
pub(crate) fn narrow_list(args: &Args<'_>, word: usize) -> Vec<Vec<u8>> {
    words(args, [0, word, args.total().saturating_sub(1)])
}

/// `name timeout numkeys key.. more` for one key.
pub(crate) fn narrow_counted(args: &Args<'_>, word: usize) -> Vec<Vec<u8>> {
    let numkeys = args.word(2).and_then(protocol::number::parse_i64);
    let after = 3 + numkeys
        .and_then(|keys| usize::try_from(keys).ok())
        .unwrap_or(0);
    let mut narrowed = words(args, [0, 1]);
    narrowed.push(b"1".to_vec());
    narrowed.extend(words(args, [word]));
    narrowed.extend(words(args, after..args.total()));
    narrowed
}

/// `name source target more`: it waits for the source alone.
pub(crate) fn narrow_source(args: &Args<'_>, word: usize) -> Vec<Vec<u8>> {
    let all = if word == 1 { args.total() } else { 0 };
    words(args, 0..all)
}

fn words(args: &Args<'_>, indices: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let words = indices.into_iter().filter_map(|index| args.word(index));
    words.map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let of = |word: &str| seconds(word.as_bytes(), 1000);
        let until = |ms| {
            Ok(Wait {
                until_ms: Some(ms),
                words: None,
            })
        };
        assert_eq!(
            of("0"),
            Ok(Wait {
                until_ms: None,
                words: None
            })
        );
        assert_eq!(
            of("-0.0"),
            Ok(Wait {
                until_ms: None,
                words: None
            })
        );
        assert_eq!(of("0.0001"), until(1001));
        assert_eq!(of("2.5"), until(3500));
        assert_eq!(of("-1"), Err(Refusal::TimeoutNegative));
        assert_eq!(of("x"), Err(Refusal::TimeoutNotFloat));
        assert_eq!(of("inf"), Err(Refusal::TimeoutOutOfRange));
        assert_eq!(of("9223372036854775807"), Err(Refusal::TimeoutOutOfRange));
    }
}
