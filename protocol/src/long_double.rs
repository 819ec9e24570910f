//! `LongDouble`: the 80-bit extended numbers of x87 processors, in software.
//!
//! INCRBYFLOAT and HINCRBYFLOAT store texts that Redis computed with C's `long double`. On the
//! machines where nearly all Redis servers run that has a mantissa of 64 bits; `f64` would print
//! other digits. Only what those commands need exists: read, add, print.
//!
//! ```text
//! value = mantissa * 2^exponent    mantissa: 64 bits, the highest one set unless the exponent is
//!                                  the least; exponent: -16445 ..= 16320
//! ```

use core::cmp::Ordering;

use crate::big::Big;
use crate::float_text::{self, Binary, Scanned};

/// Bits of the mantissa.
const MANTISSA_BITS: u32 = 64;
/// The exponent of the smallest number.
const EXPONENT_MIN: i64 = -16445;
/// The exponent of the largest numbers.
const EXPONENT_MAX: i64 = 16320;
/// Redis refuses longer texts.
const TEXT_BYTES_MAX: usize = 5 * 1024;
/// Decimals that are printed at most.
const DECIMALS: usize = 17;
/// `10^DECIMALS`
const DECIMALS_UNIT: u128 = 100_000_000_000_000_000;
/// Powers of ten beyond which a number is certainly too large or too small.
const TEN_EXPONENT_MAX: i64 = 5000;

/// An extended floating-point number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongDouble {
    negative: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Finite { mantissa: u64, exponent: i32 },
    Infinite,
    Nan,
}

impl LongDouble {
    /// Zero, the value of a key that does not exist.
    pub const ZERO: Self = Self {
        negative: false,
        kind: Kind::Finite {
            mantissa: 0,
            exponent: 0,
        },
    };

    /// One.
    pub const ONE: Self = Self {
        negative: false,
        kind: Kind::Finite {
            mantissa: 1 << (MANTISSA_BITS - 1),
            exponent: 1 - MANTISSA_BITS as i32,
        },
    };

    /// The greatest finite number.
    pub const MAX: Self = Self {
        negative: false,
        kind: Kind::Finite {
            mantissa: u64::MAX,
            exponent: EXPONENT_MAX as i32,
        },
    };

    /// The least finite number.
    pub const MIN: Self = Self {
        negative: true,
        ..Self::MAX
    };

    /// Reads what C's `strtold` accepts, correctly rounded. `None` for other texts, texts with
    /// blanks, NaN, and numbers that are too large or become zero.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (negative, binary) = match float_text::scan(text)? {
            Scanned::Infinite { negative } => {
                return Some(Self {
                    negative,
                    kind: Kind::Infinite,
                });
            }
            Scanned::Hexadecimal { negative, binary } => (negative, binary),
            Scanned::Decimal {
                negative,
                whole,
                fraction,
                exponent,
            } => (negative, decimal(whole, fraction, exponent)?),
        };
        if binary.mantissa == 0 {
            return Some(Self {
                negative,
                ..Self::ZERO
            });
        }
        let rounded = Self::round(negative, binary);
        (rounded.is_finite() && !rounded.is_zero()).then_some(rounded)
    }

    /// The exact value of an integer.
    pub fn from_i64(n: i64) -> Self {
        let kind = Kind::Finite {
            mantissa: n.unsigned_abs(),
            exponent: 0,
        };
        Self {
            negative: n < 0,
            kind,
        }
        .normalized()
    }

    /// The sum, rounded to nearest, ties to even.
    #[must_use]
    #[allow(
        clippy::should_implement_trait,
        reason = "a single operation, called once"
    )]
    pub fn add(self, other: Self) -> Self {
        match (self.kind, other.kind) {
            (Kind::Finite { .. }, Kind::Finite { .. }) => self.add_finite(other),
            (Kind::Infinite, Kind::Infinite) if self.negative != other.negative => Self {
                negative: true,
                kind: Kind::Nan,
            },
            (Kind::Nan, _) | (Kind::Infinite, Kind::Finite { .. } | Kind::Infinite) => self,
            (_, Kind::Nan) | (Kind::Finite { .. }, Kind::Infinite) => other,
        }
    }

    /// The number with the other sign.
    #[must_use]
    pub fn negated(self) -> Self {
        Self {
            negative: !self.negative,
            ..self
        }
    }

    /// Neither infinite nor NaN.
    pub fn is_finite(&self) -> bool {
        matches!(self.kind, Kind::Finite { .. })
    }

    /// Appends the number with at most 17 decimals, rounded half to even, without zeros at their
    /// end and without exponent.
    pub fn write_human(&self, out: &mut Vec<u8>) {
        let Kind::Finite { mantissa, exponent } = self.kind else {
            out.extend_from_slice(match (self.kind, self.negative) {
                (Kind::Nan, _) => b"nan",
                (_, false) => b"inf",
                (_, true) => b"-inf",
            });
            return;
        };
        let begin = out.len();
        if self.negative {
            out.push(b'-');
        }
        match u32::try_from(exponent) {
            Ok(0) => write_decimal(u128::from(mantissa), 1, out),
            Ok(shift) => {
                let mut big = Big::from(u128::from(mantissa));
                big.shift_left(shift);
                big.write_decimal(out);
            }
            Err(_) => write_fraction(mantissa, exponent.unsigned_abs(), out),
        }
        if out.get(begin..) == Some(b"-0") {
            out.remove(begin);
        }
    }

    fn is_zero(&self) -> bool {
        matches!(self.kind, Kind::Finite { mantissa: 0, .. })
    }

    /// The nearest number of this format; the mantissa must not be zero.
    fn round(negative: bool, binary: Binary) -> Self {
        let (mantissa, exponent) = binary.shifted_up().round(MANTISSA_BITS, EXPONENT_MIN);
        let kind = match i32::try_from(exponent) {
            Ok(_) if mantissa == 0 => Kind::Finite {
                mantissa: 0,
                exponent: 0,
            },
            Ok(at) if exponent <= EXPONENT_MAX => Kind::Finite {
                mantissa,
                exponent: at,
            },
            _ => Kind::Infinite,
        };
        Self { negative, kind }
    }

    /// With the highest bit of the mantissa set, if the exponent allows it.
    fn normalized(self) -> Self {
        match self.kind {
            Kind::Finite { mantissa, exponent } if mantissa != 0 => {
                let binary = Binary {
                    mantissa: u128::from(mantissa),
                    exponent: i64::from(exponent),
                    inexact: false,
                };
                Self::round(self.negative, binary)
            }
            _ => self,
        }
    }

    fn add_finite(self, other: Self) -> Self {
        let (
            Kind::Finite {
                mantissa: m,
                exponent: e,
            },
            Kind::Finite {
                mantissa: n,
                exponent: f,
            },
        ) = (self.kind, other.kind)
        else {
            return self;
        };
        if m == 0 || n == 0 {
            // Only two negative zeros make a negative zero.
            return match (m, n) {
                (0, 0) => Self {
                    negative: self.negative && other.negative,
                    ..Self::ZERO
                },
                (0, _) => other,
                _ => self,
            };
        }
        let (large, small, negative) = if (e, m) >= (f, n) {
            ((m, e), (n, f), self.negative)
        } else {
            ((n, f), (m, e), other.negative)
        };
        // 62 bits below the larger mantissa, 2 above it for the carry.
        let a = u128::from(large.0) << 62;
        let b = u128::from(small.0) << 62;
        let distance = large.1.abs_diff(small.1);
        let aligned = b.checked_shr(distance).unwrap_or(0);
        let lost = aligned.checked_shl(distance).unwrap_or(0) != b;
        let sum = if self.negative == other.negative {
            a + aligned
        } else {
            // What was lost makes the difference smaller: one unit less, and something above it.
            a - aligned - u128::from(lost)
        };
        if sum == 0 {
            return Self::ZERO;
        }
        let exponent = i64::from(large.1) - 62;
        Self::round(
            negative,
            Binary {
                mantissa: sum,
                exponent,
                inexact: lost,
            },
        )
    }
}

/// The digits of `whole.fraction * 10^exponent` as a binary number, with more bits than any
/// mantissa has. `None` if it is far too large or too small.
fn decimal(whole: &[u8], fraction: &[u8], exponent: i64) -> Option<Binary> {
    let digits = || whole.iter().chain(fraction);
    let len = whole.len() + fraction.len();
    let zeros_before = digits().take_while(|d| **d == b'0').count();
    if zeros_before == len {
        return Some(Binary {
            mantissa: 0,
            exponent: 0,
            inexact: false,
        });
    }
    let zeros_after = digits().rev().take_while(|d| **d == b'0').count();
    let significant = len - zeros_before - zeros_after;
    let places = i64::try_from(fraction.len()).ok()? - i64::try_from(zeros_after).ok()?;
    let ten = exponent - places;
    if (ten + i64::try_from(significant).ok()?).abs() > TEN_EXPONENT_MAX {
        return None;
    }
    let tens = u32::try_from(ten.unsigned_abs()).ok()?;
    let digits = digits()
        .skip(zeros_before)
        .take(significant)
        .map(|d| d - b'0');
    if significant <= 19 && tens <= 19 {
        let n = digits.fold(0u128, |n, digit| n * 10 + u128::from(digit));
        let power = 10u128.pow(tens);
        return Some(if ten >= 0 {
            exact(n * power)
        } else {
            quotient(n, power)
        });
    }
    let mut n = Big::from_digits(digits);
    if ten >= 0 {
        n.times_ten_to(tens);
        return Some(n.top());
    }
    let mut power = Big::from(1);
    power.times_ten_to(tens);
    Some(Big::quotient(n, power))
}

fn exact(mantissa: u128) -> Binary {
    Binary {
        mantissa,
        exponent: 0,
        inexact: false,
    }
}

/// `n / power` of numbers below 2^64, to at least 66 bits.
fn quotient(n: u128, power: u128) -> Binary {
    let shift = n.leading_zeros();
    let shifted = n << shift;
    let (mut mantissa, mut rest) = (shifted / power, shifted % power);
    let mut exponent = -i64::from(shift);
    while mantissa >> 66 == 0 {
        rest <<= 1;
        let bit = rest >= power;
        mantissa = mantissa << 1 | u128::from(bit);
        rest -= if bit { power } else { 0 };
        exponent -= 1;
    }
    Binary {
        mantissa,
        exponent,
        inexact: rest != 0,
    }
}

/// Appends `mantissa / 2^shift` with up to 17 decimals.
fn write_fraction(mantissa: u64, shift: u32, out: &mut Vec<u8>) {
    let mantissa = u128::from(mantissa);
    let whole = mantissa.checked_shr(shift).unwrap_or(0);
    let fraction = mantissa ^ whole.checked_shl(shift).unwrap_or(0);
    // Below 2^64 * 10^17 < 2^121. Something smaller than 2^-122 rounds to no decimals at all.
    let scaled = Binary {
        mantissa: fraction * DECIMALS_UNIT,
        exponent: -i64::from(shift),
        inexact: false,
    };
    let (decimals, _) = scaled.round(MANTISSA_BITS, 0);
    let total = whole * DECIMALS_UNIT + u128::from(decimals);
    write_decimal(total / DECIMALS_UNIT, 1, out);
    let mut decimals = total % DECIMALS_UNIT;
    if decimals == 0 {
        return;
    }
    let mut places = DECIMALS;
    while decimals.is_multiple_of(10) {
        decimals /= 10;
        places -= 1;
    }
    out.push(b'.');
    write_decimal(decimals, places, out);
}

/// Appends digits, at least `places` of them.
fn write_decimal(n: u128, places: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(n).as_bytes();
    out.resize(out.len() + places.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits);
}

impl PartialOrd for LongDouble {
    /// None when one is NaN.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let rank = |number: &Self| match number.kind {
            Kind::Infinite if number.negative => Some(-1),
            Kind::Infinite => Some(1),
            Kind::Finite { .. } => Some(0),
            Kind::Nan => None,
        };
        match rank(self)?.cmp(&rank(other)?) {
            // Rounding keeps the sign of a difference: below the smallest numbers there are steps down to zero.
            Ordering::Equal if self.is_finite() => {
                let difference = self.add(other.negated());
                Some(match difference.negative {
                    _ if difference.is_zero() => Ordering::Equal,
                    true => Ordering::Less,
                    false => Ordering::Greater,
                })
            }
            order => Some(order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LongDouble;

    fn human(number: LongDouble) -> String {
        let mut out = Vec::new();
        number.write_human(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn sum(a: &str, b: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).unwrap();
        human(parse(a).add(parse(b)))
    }

    /// What INCRBYFLOAT of a live Redis stores for these pairs.
    #[test]
    fn sums_are_those_of_redis() {
        let table = [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("1", "-1", "0"),
            ("-1.5", "1.5", "0"),
            ("0.1", "0.2", "0.3"),
            ("1e-18", "0", "0"),
            ("-1e-18", "0", "0"),
            ("1e-17", "0", "0.00000000000000001"),
            ("17179869184", "1.5", "17179869185.5"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("0x10", "0x.8", "16.5"),
            ("1e20", "0.001", "100000000000000000000"),
            ("1e30", "-1e30", "0"),
        ];
        for (a, b, expected) in table {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn texts_that_are_refused() {
        let long = "1".repeat(5 * 1024);
        for text in [
            "", " 1", "1 ", "nan", "1e", "0x", "abc", "1e5000", "1e-5000", &long,
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:.20}");
        }
        assert!(
            LongDouble::parse(b"1.18973149535723176506e4932").is_none(),
            "just too large"
        );
        assert!(
            LongDouble::parse(b"1.1897314953572317650e4932")
                .unwrap()
                .is_finite()
        );
        assert!(
            LongDouble::parse(b"3.6451995318824746025e-4951").is_some(),
            "the smallest"
        );
        assert!(
            LongDouble::parse(b"1.8e-4951").is_none(),
            "less than half of the smallest"
        );
        assert!(LongDouble::parse(b"0e-99999").unwrap().is_zero());
    }

    #[test]
    fn infinities() {
        let inf = LongDouble::parse(b"inf").unwrap();
        let minus = LongDouble::parse(b"-infinity").unwrap();
        let one = LongDouble::from_i64(1);
        assert!(!inf.is_finite());
        assert_eq!(
            (human(inf.add(one)), human(one.add(minus))),
            ("inf".into(), "-inf".into())
        );
        assert_eq!(human(inf.add(minus)), "nan");
        let huge = LongDouble::parse(b"1.1e4932").unwrap();
        assert!(huge.is_finite() && !huge.add(huge).is_finite());
    }

    #[test]
    fn numbers_are_in_order() {
        let texts = [
            "-inf", "-1e4932", "-2", "-1.5", "-1e-4950", "0", "1e-4950", "1", "1.5", "1e4932",
            "inf",
        ];
        let numbers = texts.map(|text| LongDouble::parse(text.as_bytes()).unwrap());
        for (i, a) in numbers.iter().enumerate() {
            for (j, b) in numbers.iter().enumerate() {
                assert_eq!(
                    a.partial_cmp(b),
                    Some(i.cmp(&j)),
                    "{} {}",
                    texts[i],
                    texts[j]
                );
            }
        }
        assert!(numbers[9] < LongDouble::MAX && numbers[1] > LongDouble::MIN);
        let nan = numbers[0].add(numbers[10]);
        assert_eq!(nan.partial_cmp(&LongDouble::ONE), None);
        assert_eq!(human(LongDouble::ONE.negated()), "-1");
        assert!(!LongDouble::MAX.add(LongDouble::MAX).is_finite());
    }

    #[test]
    fn large_numbers_are_printed_in_full() {
        let text = human(LongDouble::parse(b"1e4000").unwrap());
        assert_eq!(text.len(), 4000);
        assert!(
            text.starts_with("99999999999999999999"),
            "the nearest is a little less"
        );
        assert_eq!(
            human(LongDouble::from_i64(i64::MIN)),
            "-9223372036854775808"
        );
        assert_eq!(
            human(LongDouble::parse(b"0x1p70").unwrap()),
            "1180591620717411303424"
        );
    }

    #[test]
    fn texts_of_many_digits_are_rounded_once() {
        // Half-way between two numbers of 64 bits, and a little more or less.
        let half = "18446744073709551617";
        let zeros = "0".repeat(3000);
        assert_eq!(sum(half, "0"), "18446744073709551616");
        assert_eq!(
            sum(&format!("{half}.{zeros}1"), "0"),
            "18446744073709551618"
        );
        assert_eq!(
            sum(&format!("18446744073709551616.{}", "9".repeat(3000)), "0"),
            "18446744073709551616"
        );
        assert_eq!(sum("18446744073709551619", "0"), "18446744073709551620");
    }
}
