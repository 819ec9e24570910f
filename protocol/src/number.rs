//! Numbers to text and back, exactly as Redis 7.2 does it.
//!
//! Integers are strict: no plus sign, no leading zeros, no blanks, nothing but 64 bits. Doubles are
//! read as C's `strtod` reads them, and printed as integers where they are ones, else with the
//! shortest digits (see `grisu.rs`).

use crate::float_text::{self, Scanned};
use crate::grisu;

pub use crate::long_double::LongDouble;

/// Digits of the largest integers; one more cannot overflow `u64`.
const I64_DIGITS_MAX: usize = 19;
/// Doubles up to this size are printed as integers if they are ones.
const INTEGER_MAX: f64 = 4_611_686_018_427_387_904.0;

/// Reads an integer strictly: `-?[1-9][0-9]*|0` that fits 64 bits.
#[inline]
pub fn parse_i64(b: &[u8]) -> Option<i64> {
    let (negative, digits) = match b {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= I64_DIGITS_MAX => {}
        _ => return None,
    }
    let mut n: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits are below 2^64.
        n = n.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    if negative {
        // -2^63 has no positive counterpart.
        (n <= 1 << 63).then(|| n.wrapping_neg().cast_signed())
    } else {
        i64::try_from(n).ok()
    }
}

/// Reads a double as Redis reads scores and increments: what `strtod` accepts, hexadecimal and
/// infinities included, without blanks around it. Refused are NaN, and numbers too large for a
/// double or so small that they would become zero.
pub fn parse_f64(b: &[u8]) -> Option<f64> {
    if let Some(n) = small_integer(b) {
        return Some(n);
    }
    let text = std::str::from_utf8(b).ok()?;
    match text.parse::<f64>() {
        Ok(d) if d.is_nan() => None,
        Ok(d) if d.is_infinite() => text.contains(['i', 'I']).then_some(d),
        Ok(d) if d == 0.0 => {
            let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
            (!mantissa.contains(|c: char| matches!(c, '1'..='9'))).then_some(d)
        }
        Ok(d) => Some(d),
        Err(_) => match float_text::scan(b)? {
            Scanned::Hexadecimal { negative, binary } => {
                let d = binary.to_f64()?;
                Some(if negative { -d } else { d })
            }
            _ => None,
        },
    }
}

/// Reads an end of a range of scores, which Redis checks less than a score: an empty text is 0,
/// blanks may come first, a number too large is infinite and one too small is 0, and a zero byte
/// ends the text. NaN is refused.
pub fn parse_bound(b: &[u8]) -> Option<f64> {
    let end = memchr::memchr(0, b).unwrap_or(b.len());
    let text = b.get(..end).unwrap_or(b);
    if text.is_empty() {
        return Some(0.0);
    }
    if let Some(n) = small_integer(text) {
        return Some(n);
    }
    let blanks = text.iter().position(|b| !matches!(b, b' ' | 9..=13))?;
    let text = text.get(blanks..)?;
    if let Ok(d) = std::str::from_utf8(text).ok()?.parse::<f64>() {
        return (!d.is_nan()).then_some(d);
    }
    match float_text::scan(text)? {
        Scanned::Hexadecimal { negative, binary } => {
            let beyond = if binary.exponent > 0 {
                f64::INFINITY
            } else {
                0.0
            };
            let d = binary.to_f64().unwrap_or(beyond);
            Some(if negative { -d } else { d })
        }
        _ => None,
    }
}

/// Up to 15 plain digits, which every double can hold: by far the most frequent scores.
#[inline]
fn small_integer(b: &[u8]) -> Option<f64> {
    if b.is_empty() || b.len() > 15 {
        return None;
    }
    let mut n: u64 = 0;
    for byte in b {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n = n.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    #[allow(clippy::cast_precision_loss, reason = "below 10^15")]
    Some(n as f64)
}

/// Appends an integer's digits.
#[inline]
pub fn write_i64(n: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends a double as Redis 7.2 prints scores and RESP3 doubles: `3`, `0.1`, `1e+21`, `-0`, `inf`.
#[inline]
pub fn write_f64(d: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(F64Text::new(d).as_bytes());
}

/// Appends a double as C's `%.17g` prints it, infinities as `inf`: how Redis shows the scores of a
/// large sorted set in a scan.
pub fn write_f64_general(d: f64, out: &mut Vec<u8>) {
    if !d.is_finite() || d == 0.0 {
        return write_f64(d, out);
    }
    // One digit, a point, 16 digits, `e`, the exponent.
    let text = format!("{d:.16e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).unwrap_or(0);
        let text = format!("{d:.decimals$}");
        out.extend_from_slice(without_zeros(&text).as_bytes());
        return;
    }
    out.extend_from_slice(without_zeros(mantissa).as_bytes());
    let sign = if exponent < 0 { '-' } else { '+' };
    out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
}

/// Drops the zeros at the end of a fraction, and its point if nothing else is left of it.
fn without_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

/// The text of a double, on the stack.
#[derive(Clone, Debug)]
pub struct F64Text {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl F64Text {
    /// Sign, 17 digits, point and a three-digit exponent are 24 bytes; room to spare.
    const BYTES_MAX: usize = 32;

    /// The text of `d`.
    pub fn new(d: f64) -> Self {
        let mut text = Self {
            bytes: [0; Self::BYTES_MAX],
            len: 0,
        };
        if d.is_nan() {
            text.push(b"nan");
            return text;
        }
        if d.abs() <= INTEGER_MAX {
            #[allow(clippy::cast_possible_truncation, reason = "below 2^62")]
            let n = d as i64;
            #[allow(clippy::cast_precision_loss, reason = "what is lost makes them differ")]
            if n as f64 == d && (n != 0 || d.is_sign_positive()) {
                text.push(itoa::Buffer::new().format(n).as_bytes());
                return text;
            }
        }
        if d.is_sign_negative() {
            text.push(b"-");
        }
        if d == 0.0 {
            text.push(b"0");
        } else if d.is_infinite() {
            text.push(b"inf");
        } else {
            text.push_digits(&grisu::digits(d));
        }
        text
    }

    /// The text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, text: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + text.len()) {
            place.copy_from_slice(text);
            self.len += text.len();
        }
    }

    fn push_zeros(&mut self, count: usize) {
        (0..count).for_each(|_| self.push(b"0"));
    }

    /// Decides between `1230000`, `0.00123`, `1.23` and `1.23e-10`. The bounds are Redis's.
    fn push_digits(&mut self, digits: &grisu::Digits) {
        let bytes = digits.as_bytes();
        let zeros = usize::try_from(digits.exponent).unwrap_or(0);
        let decimals = usize::try_from(-digits.exponent).unwrap_or(0);
        // The exponent of the first digit.
        let first = i32::try_from(bytes.len()).unwrap_or(0) + digits.exponent - 1;
        if digits.exponent >= 0 && zeros < 8 {
            self.push(bytes);
            self.push_zeros(zeros);
        } else if digits.exponent < 0 && (decimals < 7 || first.abs() < 4) {
            match bytes.len().checked_sub(decimals) {
                Some(whole) if whole > 0 => {
                    let (whole, fraction) = bytes.split_at(whole);
                    self.push(whole);
                    self.push(b".");
                    self.push(fraction);
                }
                _ => {
                    self.push(b"0.");
                    self.push_zeros(decimals - bytes.len());
                    self.push(bytes);
                }
            }
        } else {
            self.push_scientific(bytes, first);
        }
    }

    fn push_scientific(&mut self, digits: &[u8], exponent: i32) {
        // The sign takes the place of the 18th digit; there are hardly ever so many.
        let digits = digits.get(..18 - self.len).unwrap_or(digits);
        let (first, fraction) = digits.split_at(digits.len().min(1));
        self.push(first);
        if !fraction.is_empty() {
            self.push(b".");
            self.push(fraction);
        }
        self.push(if exponent < 0 { b"e-" } else { b"e+" });
        self.push(
            itoa::Buffer::new()
                .format(exponent.unsigned_abs())
                .as_bytes(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{F64Text, parse_bound, parse_f64, parse_i64, write_f64_general, write_i64};

    #[test]
    fn integers() {
        let table = [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("42", Some(42)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            ("0x1", None),
        ];
        for (text, n) in table {
            assert_eq!(parse_i64(text.as_bytes()), n, "{text:?}");
            if let Some(n) = n {
                let mut out = Vec::new();
                write_i64(n, &mut out);
                assert_eq!(out, text.as_bytes());
            }
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_does() {
        let some = [
            ("1", 1.0),
            ("-0", -0.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("-0x1.8p1", -3.0),
            ("0x1p-1074", 5e-324),
            ("0x1.fffffffffffff8p-1023", f64::MIN_POSITIVE),
            ("4.9e-324", 5e-324),
            ("0e-999999", 0.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
        ];
        for (text, d) in some {
            let parsed = parse_f64(text.as_bytes()).map(f64::to_bits);
            assert_eq!(parsed, Some(d.to_bits()), "{text}");
        }
        let none = [
            "", " 1", "1 ", "nan", "-nan", "1e", "e1", ".", "-", "1_0", "1e400", "1e-400",
        ];
        let hexadecimal = [
            "0x",
            "0xp1",
            "0x1p",
            "0x1p1024",
            "0x1p-1076",
            "0x.",
            "1\0",
            "infi",
        ];
        for text in none.iter().chain(&hexadecimal) {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn bounds_are_read_without_the_checks_of_scores() {
        let some = [
            ("", 0.0),
            ("1", 1.0),
            (" \t\n1.5", 1.5),
            ("-inf", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
            ("-1e400", f64::NEG_INFINITY),
            ("1e-400", 0.0),
            ("-1e-400", -0.0),
            ("0x10", 16.0),
            ("-0x1p1024", f64::NEG_INFINITY),
            ("0x1p-2000", 0.0),
            ("2\0what", 2.0),
        ];
        for (text, d) in some {
            let parsed = parse_bound(text.as_bytes()).map(f64::to_bits);
            assert_eq!(parsed, Some(d.to_bits()), "{text:?}");
        }
        for text in [" ", "1 ", "nan", "-nan", "1x", "x", "0x", "(1", "\u{a0}1"] {
            assert_eq!(parse_bound(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_in_the_general_format_of_c() {
        let table = [
            (3.0, "3"),
            (-0.0, "-0"),
            (0.1, "0.10000000000000001"),
            (-1.5, "-1.5"),
            (1234567.0, "1234567"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (d, text) in table {
            let mut out = Vec::new();
            write_f64_general(d, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text, "{d:?}");
        }
    }

    #[test]
    fn doubles_are_printed_as_redis_7_2_does() {
        let table = [
            (3.0, "3"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (123.456, "123.456"),
            (1e17, "100000000000000000"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (-4_611_686_018_427_387_904.0, "-4611686018427387904"),
            (9.223_372_036_854_776e18, "9223372036854776000"),
            (1e19, "1e+19"),
            (1.2e19, "1.2e+19"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-5, "0.00001"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.234e-5, "1.234e-5"),
            (1.5e-7, "1.5e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (1.0 / 3.0, "0.3333333333333333"),
            (0.1 + 0.2, "0.30000000000000004"),
        ];
        for (d, text) in table {
            assert_eq!(
                String::from_utf8_lossy(F64Text::new(d).as_bytes()),
                text,
                "{d:?}"
            );
        }
    }
}
