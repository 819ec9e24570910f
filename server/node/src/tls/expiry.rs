//! When a certificate ends: the one field of X.509 that is told to operators.
//!
//! ```text
//!   Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE {
//!       [0] version?, INTEGER serial, SEQUENCE algorithm, SEQUENCE issuer, SEQUENCE { notBefore, notAfter }, ...
//! ```
//! Whether the certificate is any good is not judged here: that is rustls's.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate in DER, unix seconds; None when it cannot be read.
pub(super) fn not_after_s(certificate: &[u8]) -> Option<u64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial, algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (tag, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (time_tag, time, _) = element(rest)?;
    (tag == SEQUENCE).then(|| unix_s(time_tag, time))?
}

/// The first element: tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        if !(1..=4).contains(&digits) {
            return None;
        }
        let (len, rest) = rest.split_at_checked(digits)?;
        let len = len
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        (len, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn unix_s(tag: u8, time: &[u8]) -> Option<u64> {
    let digits = time.strip_suffix(b"Z")?;
    let two = |at: usize| {
        let pair = digits.get(at..at + 2)?;
        core::str::from_utf8(pair).ok()?.parse::<u64>().ok()
    };
    let (year, at) = match tag {
        // Years of two digits are those from 1950 on.
        UTC_TIME => match two(0)? {
            year @ 50.. => (1900 + year, 2),
            year => (2000 + year, 2),
        },
        GENERALIZED_TIME => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let (month, day) = (two(at)?, two(at + 2)?);
    let (hour, minute, second) = (two(at + 4)?, two(at + 6)?, two(at + 8)?);
    if !(1..=12).contains(&month) || day == 0 || year < 1970 {
        return None;
    }
    // Civil date to days, after Howard Hinnant's chrono algorithms (years that begin in March).
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let cases: [(u8, &str, Option<u64>); 7] = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "260101123456Z", Some(1_767_270_896)),
            (GENERALIZED_TIME, "20260101123456Z", Some(1_767_270_896)),
            (GENERALIZED_TIME, "20000229000000Z", Some(951_782_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "2601011234", None),
            (UTC_TIME, "261301000000Z", None),
        ];
        for (tag, time, expected) in cases {
            assert_eq!(unix_s(tag, time.as_bytes()), expected, "{time}");
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let time = b"\x17\x0d260101123456Z";
        let validity = [b"\x30\x1e".as_slice(), time, time].concat();
        let fields = [
            b"\xa0\x00\x02\x01\x01\x30\x00\x30\x00".as_slice(),
            &validity,
        ]
        .concat();
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let inner = [&[SEQUENCE, length(&fields)], fields.as_slice()].concat();
        let whole = [&[SEQUENCE, length(&inner)], inner.as_slice()].concat();
        assert_eq!(not_after_s(&whole), Some(1_767_270_896));
        for len in 0..whole.len() {
            assert_eq!(not_after_s(&whole[..len]), None);
        }
    }
}
