//! What SCAN, HSCAN, SSCAN and ZSCAN share: cursors, filters, and the page that they answer.

use protocol::{Args, Refusal, Reply};

use crate::key::{glob, until_nul};

/// Elements that a call shows, about, unless the client says otherwise.
pub(super) const COUNT_DEFAULT: usize = 10;

/// Reads a cursor as C's `strtoul` does, which is what Redis asks.
///
/// # Errors
/// `Refusal::InvalidCursor`
pub(crate) fn cursor(word: &[u8]) -> Result<u64, Refusal> {
    let text = until_nul(word);
    let (negative, digits) = match text {
        // No digits at all are a zero only if there is nothing at all.
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(Refusal::InvalidCursor);
    }
    let number = digits.iter().try_fold(0u64, |n, byte| {
        let digit = byte.wrapping_sub(b'0');
        let shifted = n.checked_mul(10).filter(|_| digit <= 9)?;
        shifted.checked_add(u64::from(digit))
    });
    let number = number.ok_or(Refusal::InvalidCursor)?;
    Ok(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

/// Which names are shown: all, or those that match a pattern.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter<'a>(Option<&'a [u8]>);

impl<'a> Filter<'a> {
    /// Those that match `pattern`.
    pub(crate) fn new(pattern: &'a [u8]) -> Self {
        // `*` alone also shows the empty name, which no other pattern with stars does.
        Filter(Some(pattern).filter(|pattern| *pattern != b"*"))
    }

    /// Whether a name is shown.
    pub(crate) fn passes(&self, name: &[u8]) -> bool {
        self.0.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// `MATCH pattern` and `COUNT count`.
pub(crate) struct Options<'a> {
    /// About how many elements to look at.
    pub(crate) count: usize,
    /// Which elements are shown.
    pub(crate) filter: Filter<'a>,
    /// Fields without their values (HSCAN).
    pub(crate) no_values: bool,
}

/// NOVALUES where there are no values.
pub(super) const NO_VALUES_ELSEWHERE: Refusal =
    Refusal::Text("ERR NOVALUES option can only be used in HSCAN");

impl<'a> Options<'a> {
    /// Takes all words left; NOVALUES only where there are values.
    ///
    /// # Errors
    /// `Refusal::Syntax`, or `Refusal::NotInteger` for the count.
    pub(crate) fn parse(args: &mut Args<'a>, has_values: bool) -> Result<Self, Refusal> {
        let mut options = Options {
            count: COUNT_DEFAULT,
            filter: Filter::default(),
            no_values: false,
        };
        while args.left() > 0 {
            if args.keyword("COUNT") && args.left() > 0 {
                options.count = count(args)?;
            } else if args.keyword("MATCH") && args.left() > 0 {
                options.filter = Filter::new(args.bytes()?);
            } else if args.keyword("NOVALUES") {
                if !has_values {
                    return Err(NO_VALUES_ELSEWHERE);
                }
                options.no_values = true;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(options)
    }
}

/// Takes the number after COUNT.
///
/// # Errors
/// `Refusal::NotInteger`, or `Refusal::Syntax` for one that is not positive.
pub(super) fn count(args: &mut Args<'_>) -> Result<usize, Refusal> {
    match args.int()? {
        ..1 => Err(Refusal::Syntax),
        count => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
    }
}

/// Writes the next cursor and `len` strings that are encoded already.
pub(crate) fn write(reply: &mut Reply<'_>, next: u64, len: usize, encoded: &[u8]) {
    reply.array(2);
    match i64::try_from(next) {
        Ok(next) => reply.bulk_int(next),
        Err(_) => reply.bulk(next.to_string().as_bytes()),
    }
    reply.array(len);
    reply.raw(encoded);
}

#[cfg(test)]
mod tests {
    use protocol::Refusal;

    use super::cursor;

    #[test]
    fn cursors_are_read_by_strtoul() {
        let table: &[(&[u8], Option<u64>)] = &[
            (b"", Some(0)),
            (b"0", Some(0)),
            (b"+17", Some(17)),
            (b"007", Some(7)),
            (b"-1", Some(u64::MAX)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"1x", None),
            (b" 1", None),
            (b"-", None),
            (b"0x10", None),
            (b"5\0x", Some(5)),
        ];
        for (word, number) in table {
            assert_eq!(
                cursor(word),
                number.ok_or(Refusal::InvalidCursor),
                "{word:?}"
            );
        }
    }

    #[test]
    fn cursors_as_redis_reads_them() {
        let table: &[(&[u8], Option<u64>)] = &[
            (b"0", Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-1", Some(u64::MAX)),
            (b"+7", Some(7)),
            (b"007", Some(7)),
            (b"", Some(0)),
            (b"5\0x", Some(5)),
            (b"-", None),
            (b"+", None),
            (b"+-1", None),
            (b" 1", None),
            (b"1 ", None),
            (b"1x", None),
        ];
        for (word, expected) in table {
            assert_eq!(cursor(word).ok(), *expected, "{}", word.escape_ascii());
        }
    }

    #[test]
    fn cursors_are_read_like_strtoul() {
        for (word, number) in [("0", 0), ("007", 7), ("+7", 7), ("", 0), ("-1", u64::MAX)] {
            assert_eq!(cursor(word.as_bytes()), Ok(number), "{word}");
        }
        assert_eq!(cursor(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(cursor(b"7\0x"), Ok(7));
        for word in [" 1", "1 ", "-", "+", "--1", "0x1", "18446744073709551616"] {
            assert_eq!(
                cursor(word.as_bytes()),
                Err(Refusal::InvalidCursor),
                "{word}"
            );
        }
    }
}
