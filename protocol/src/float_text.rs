//! The texts that C's `strtod` and `strtold` accept, and correct rounding of binary numbers.
//!
//! ```text
//! [+-] ( inf | infinity | nan... | digits[.digits][e[+-]digits] | 0x hex[.hex][p[+-]digits] )
//! ```
//! with at least one digit, any case of letters, and the whole text used up.

/// Exponents are cut off here; numbers so large or small are refused by every caller.
const EXPONENT_MAX: i64 = 1_000_000;

/// What a text says, before it is rounded to any format.
pub(crate) enum Scanned<'a> {
    /// `inf`, `infinity`
    Infinite { negative: bool },
    /// Digits before and after the point, and the power of ten they are multiplied by.
    Decimal {
        negative: bool,
        whole: &'a [u8],
        fraction: &'a [u8],
        exponent: i64,
    },
    /// A number in base 16.
    Hexadecimal { negative: bool, binary: Binary },
}

/// Reads a text. `None` if it is none of the forms, or NaN.
pub(crate) fn scan(text: &[u8]) -> Option<Scanned<'_>> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
        return Some(Scanned::Infinite { negative });
    }
    if let [b'0', b'x' | b'X', rest @ ..] = text {
        return Some(Scanned::Hexadecimal {
            negative,
            binary: scan_hexadecimal(rest)?,
        });
    }
    let (whole, fraction, rest) = split_digits(text, u8::is_ascii_digit)?;
    let exponent = scan_exponent(rest, b'e')?;
    Some(Scanned::Decimal {
        negative,
        whole,
        fraction,
        exponent,
    })
}

/// Digits, then perhaps a point and more digits; at least one digit in all.
fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let (whole, rest) = split_while(text, is_digit);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => split_while(rest, is_digit),
        rest => (&[][..], rest),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((whole, fraction, rest))
}

fn split_while(text: &[u8], take: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| !take(b)).unwrap_or(text.len()))
}

/// Nothing, or `e`, a sign perhaps, and digits to the end.
fn scan_exponent(text: &[u8], letter: u8) -> Option<i64> {
    let (negative, digits) = match text {
        [] => return Some(0),
        [e, b'-', digits @ ..] if e.eq_ignore_ascii_case(&letter) => (true, digits),
        [e, b'+', digits @ ..] if e.eq_ignore_ascii_case(&letter) => (false, digits),
        [e, digits @ ..] if e.eq_ignore_ascii_case(&letter) => (false, digits),
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |n: i64, digit: &u8| (n * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX);
    let exponent = digits.iter().fold(0, add);
    Some(if negative { -exponent } else { exponent })
}

fn scan_hexadecimal(text: &[u8]) -> Option<Binary> {
    let (whole, fraction, rest) = split_digits(text, u8::is_ascii_hexdigit)?;
    let mut binary = Binary {
        mantissa: 0,
        exponent: scan_exponent(rest, b'p')?,
        inexact: false,
    };
    let digits = whole
        .iter()
        .map(|d| (d, 0))
        .chain(fraction.iter().map(|d| (d, 4)));
    for (digit, places) in digits {
        let digit = char::from(*digit).to_digit(16).unwrap_or(0);
        if binary.mantissa >> 124 == 0 {
            binary.mantissa = binary.mantissa << 4 | u128::from(digit);
            binary.exponent -= places;
        } else {
            // Beyond any format's precision: only whether it is zero matters.
            binary.inexact |= digit != 0;
            binary.exponent += 4 - places;
        }
    }
    Some(binary)
}

/// `mantissa * 2^exponent`, plus something less than one unit of the mantissa if `inexact`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binary {
    pub(crate) mantissa: u128,
    pub(crate) exponent: i64,
    pub(crate) inexact: bool,
}

impl Binary {
    /// Rounds to nearest, ties to even: at most `bits` (up to 64) of mantissa and an exponent not
    /// below `exponent_min`. An inexact number must have more than `bits` bits.
    pub(crate) fn round(self, bits: u32, exponent_min: i64) -> (u64, i64) {
        let len = 128 - self.mantissa.leading_zeros();
        let drop = (i64::from(len) - i64::from(bits))
            .max(exponent_min - self.exponent)
            .max(0);
        let exponent = self.exponent + drop;
        let Ok(drop) = u32::try_from(drop.min(200)) else {
            return (0, exponent);
        };
        let kept = self.mantissa.checked_shr(drop).unwrap_or(0);
        // Twice the part that is dropped, compared with one unit of what is kept.
        let dropped = self.mantissa ^ kept.checked_shl(drop).unwrap_or(0);
        let half = drop.checked_sub(1).and_then(|at| 1u128.checked_shl(at));
        let up = match half {
            None => false,
            Some(half) if dropped == half => self.inexact || kept & 1 == 1,
            Some(half) => dropped > half,
        };
        let kept = kept + u128::from(up);
        if kept >> bits != 0 {
            // All ones became a one and zeros.
            return (u64::try_from(kept >> 1).unwrap_or(u64::MAX), exponent + 1);
        }
        (u64::try_from(kept).unwrap_or(u64::MAX), exponent)
    }

    /// The nearest double; `None` if that is infinite, or zero though the number is not.
    pub(crate) fn to_f64(self) -> Option<f64> {
        if self.mantissa == 0 {
            return Some(0.0);
        }
        let (mantissa, exponent) = self.shifted_up().round(53, -1074);
        if mantissa == 0 {
            return None;
        }
        // A mantissa without its highest bit is denormal; its exponent field is 0.
        let shift = mantissa.leading_zeros() - 11;
        let field = if exponent == -1074 && shift > 0 {
            0
        } else {
            exponent + 1075 - i64::from(shift)
        };
        if !(0..2047).contains(&field) {
            return None;
        }
        let fraction = if field == 0 {
            mantissa
        } else {
            mantissa << shift
        };
        let field = u64::try_from(field).unwrap_or(0);
        Some(f64::from_bits(field << 52 | (fraction & ((1 << 52) - 1))))
    }

    /// The same number with the highest bit of the mantissa set.
    pub(crate) fn shifted_up(self) -> Self {
        let shift = self.mantissa.leading_zeros();
        let mantissa = self.mantissa.checked_shl(shift).unwrap_or(0);
        Self {
            mantissa,
            exponent: self.exponent - i64::from(shift),
            ..self
        }
    }
}
