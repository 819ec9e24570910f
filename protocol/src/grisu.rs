//! Doubles to their shortest digits, the way Redis 7.2 finds them: Grisu2 (F. Loitsch, "Printing
//! Floating-Point Numbers Quickly and Accurately with Integers", 2010).
//!
//! Grisu2's digits always read back as the same double, but in about one of a thousand cases they
//! are not the shortest or nearest possible. Clients may compare our texts with those of Redis, so
//! we want the same digits in those cases too, and not better ones; a shortest-digits library would
//! not do. With `w` the double and `low`, `high` the middles between it and its neighbours:
//!
//! ```text
//!   times a power of ten c, so that high * c has 4 to 32 bits before its point (of 64):
//!
//!   ---- low*c ----+1 ulp---------------- w*c ---------------- -1 ulp---- high*c ----
//!                      |<----------------- delta ------------------->|
//!   digits of high*c are taken until what remains is within delta; then the last digit is
//!   lowered towards w*c while that helps.
//! ```

/// Bits of a double's mantissa that are stored.
const FRACTION_BITS: u32 = 52;
/// Exponent of the lowest mantissa bit when the exponent field is 0.
const EXPONENT_BASE: i32 = -1075;
/// The hidden highest bit of a mantissa.
const HIDDEN: u64 = 1 << FRACTION_BITS;
/// The most digits that can be generated.
pub(crate) const DIGITS_MAX: usize = 20;

/// The table's first power of ten, and the distance between its powers.
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;
/// The scaled upper bound must have an exponent in this range.
const SCALED_MIN: i32 = -60;
const SCALED_MAX: i32 = -32;

/// 64-bit mantissas of 10^-348, 10^-340, ... 10^340, rounded to nearest.
#[rustfmt::skip]
const POWERS: [u64; 87] = [
    0xfa8fd5a0081c0288, 0xbaaee17fa23ebf76, 0x8b16fb203055ac76, 0xcf42894a5dce35ea,
    0x9a6bb0aa55653b2d, 0xe61acf033d1a45df, 0xab70fe17c79ac6ca, 0xff77b1fcbebcdc4f,
    0xbe5691ef416bd60c, 0x8dd01fad907ffc3c, 0xd3515c2831559a83, 0x9d71ac8fada6c9b5,
    0xea9c227723ee8bcb, 0xaecc49914078536d, 0x823c12795db6ce57, 0xc21094364dfb5637,
    0x9096ea6f3848984f, 0xd77485cb25823ac7, 0xa086cfcd97bf97f4, 0xef340a98172aace5,
    0xb23867fb2a35b28e, 0x84c8d4dfd2c63f3b, 0xc5dd44271ad3cdba, 0x936b9fcebb25c996,
    0xdbac6c247d62a584, 0xa3ab66580d5fdaf6, 0xf3e2f893dec3f126, 0xb5b5ada8aaff80b8,
    0x87625f056c7c4a8b, 0xc9bcff6034c13053, 0x964e858c91ba2655, 0xdff9772470297ebd,
    0xa6dfbd9fb8e5b88f, 0xf8a95fcf88747d94, 0xb94470938fa89bcf, 0x8a08f0f8bf0f156b,
    0xcdb02555653131b6, 0x993fe2c6d07b7fac, 0xe45c10c42a2b3b06, 0xaa242499697392d3,
    0xfd87b5f28300ca0e, 0xbce5086492111aeb, 0x8cbccc096f5088cc, 0xd1b71758e219652c,
    0x9c40000000000000, 0xe8d4a51000000000, 0xad78ebc5ac620000, 0x813f3978f8940984,
    0xc097ce7bc90715b3, 0x8f7e32ce7bea5c70, 0xd5d238a4abe98068, 0x9f4f2726179a2245,
    0xed63a231d4c4fb27, 0xb0de65388cc8ada8, 0x83c7088e1aab65db, 0xc45d1df942711d9a,
    0x924d692ca61be758, 0xda01ee641a708dea, 0xa26da3999aef774a, 0xf209787bb47d6b85,
    0xb454e4a179dd1877, 0x865b86925b9bc5c2, 0xc83553c5c8965d3d, 0x952ab45cfa97a0b3,
    0xde469fbd99a05fe3, 0xa59bc234db398c25, 0xf6c69a72a3989f5c, 0xb7dcbf5354e9bece,
    0x88fcf317f22241e2, 0xcc20ce9bd35c78a5, 0x98165af37b2153df, 0xe2a0b5dc971f303a,
    0xa8d9d1535ce3b396, 0xfb9b7cd9a4a7443c, 0xbb764c4ca7a44410, 0x8bab8eefb6409c1a,
    0xd01fef10a657842c, 0x9b10a4e5e9913129, 0xe7109bfba19c0c9d, 0xac2820d9623bf429,
    0x80444b5e7aa7cf85, 0xbf21e44003acdd2d, 0x8e679c2f5e44ff8f, 0xd433179d9c8cb841,
    0x9e19db92b4e31ba9, 0xeb96bf6ebadf77d9, 0xaf87023b9bf0ee6b,
];

/// `mantissa * 2^exponent`
#[derive(Clone, Copy)]
struct Float {
    mantissa: u64,
    exponent: i32,
}

impl Float {
    /// Shifted until the highest bit is set.
    fn normalized(self) -> Self {
        let shift = self.mantissa.leading_zeros();
        Self {
            mantissa: self.mantissa << shift,
            exponent: self.exponent - shift.cast_signed(),
        }
    }

    /// The upper half of the product, rounded to nearest.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.mantissa) * u128::from(other.mantissa) + (1 << 63);
        let [high, _] = halves(product);
        Self {
            mantissa: high,
            exponent: self.exponent + other.exponent + 64,
        }
    }
}

/// The upper and the lower 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "the point of it")]
const fn halves(n: u128) -> [u64; 2] {
    [(n >> 64) as u64, n as u64]
}

/// Digits of a double: `0.d1 d2 d3... * 10^(len + exponent)`, that is, the integer of all digits
/// times `10^exponent`.
pub(crate) struct Digits {
    bytes: [u8; DIGITS_MAX],
    len: usize,
    pub(crate) exponent: i32,
}

impl Digits {
    /// ASCII digits, the first one not '0'.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, digit: u8) {
        // Leading zeros carry nothing.
        if digit == 0 && self.len == 0 {
            return;
        }
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = b'0' + digit;
            self.len += 1;
        }
    }

    /// Lowers the last digit by one unit of `unit` while that brings `rest` (the distance below the
    /// upper bound) nearer to `target` and stays within `delta`.
    fn approach(&mut self, delta: u64, mut rest: u64, unit: u64, target: u64) {
        let Some(last) = self
            .len
            .checked_sub(1)
            .and_then(|at| self.bytes.get_mut(at))
        else {
            return;
        };
        while rest < target && delta - rest >= unit {
            // Both may exceed 64 bits only in numbers that the loop has already left behind.
            let next = rest.wrapping_add(unit);
            if !(next < target || target - rest > next.wrapping_sub(target)) {
                break;
            }
            *last -= 1;
            rest = next;
        }
    }
}

/// The digits of a finite `d` that is not zero, its sign left out.
pub(crate) fn digits(d: f64) -> Digits {
    let bits = d.to_bits() & !(1 << 63);
    let field = i32::try_from(bits >> FRACTION_BITS).unwrap_or(0);
    let fraction = bits & (HIDDEN - 1);
    let value = if field == 0 {
        Float {
            mantissa: fraction,
            exponent: EXPONENT_BASE + 1,
        }
    } else {
        Float {
            mantissa: fraction | HIDDEN,
            exponent: EXPONENT_BASE + field,
        }
    };
    let high = Float {
        mantissa: (value.mantissa << 1) + 1,
        exponent: value.exponent - 1,
    };
    let high = high.normalized();
    // Below a power of two the neighbour is half as far away.
    let shift = if value.mantissa == HIDDEN { 2 } else { 1 };
    let low = Float {
        mantissa: (value.mantissa << shift) - 1,
        exponent: value.exponent - shift,
    };
    let low = Float {
        mantissa: low.mantissa << (low.exponent - high.exponent).unsigned_abs(),
        exponent: high.exponent,
    };

    let (power, ten) = power_for(high.exponent);
    let value = value.normalized().times(power);
    // One unit inside on both sides, since each product may be off by one.
    let high = high.times(power).mantissa - 1;
    let low = low.times(power).mantissa + 1;
    generate(value, low, high, -ten)
}

/// A power of ten that brings a number with this exponent into the range of `generate`.
fn power_for(exponent: i32) -> (Float, i32) {
    // The search begins where Redis begins, since several powers may do. `as` rounds to zero.
    #[allow(clippy::cast_possible_truncation, reason = "a few hundred at most")]
    let guess = (-f64::from(exponent + 87) * std::f64::consts::LOG10_2) as i32;
    let mut index = (guess - POWER_FIRST) / POWER_STEP;
    loop {
        let ten = POWER_FIRST + index * POWER_STEP;
        let at = usize::try_from(index).unwrap_or(0);
        let mantissa = POWERS.get(at).copied().unwrap_or(1 << 63);
        // floor(ten * log2(10)) - 63, exact over the whole table.
        let power = Float {
            mantissa,
            exponent: ((ten * 217_706) >> 16) - 63,
        };
        let scaled = exponent + power.exponent + 64;
        if scaled < SCALED_MIN {
            index += 1;
        } else if scaled > SCALED_MAX {
            index -= 1;
        } else {
            return (power, ten);
        }
    }
}

/// Takes digits of `high` until the rest is within `high - low`.
fn generate(value: Float, low: u64, high: u64, exponent: i32) -> Digits {
    let mut digits = Digits {
        bytes: [0; DIGITS_MAX],
        len: 0,
        exponent,
    };
    let mut target = high.wrapping_sub(value.mantissa);
    let mut delta = high - low;
    let point = value.exponent.unsigned_abs();
    let one = 1u64 << point;
    let mut whole = high >> point;
    let mut part = high & (one - 1);

    let mut unit = 1_000_000_000;
    for left in (0..10).rev() {
        digits.push(u8::try_from(whole / unit).unwrap_or(9));
        whole %= unit;
        let rest = (whole << point) + part;
        if rest <= delta {
            digits.exponent += left;
            digits.approach(delta, rest, unit << point, target);
            return digits;
        }
        unit /= 10;
    }
    loop {
        // Redis lets these wrap; the loop ends before that matters.
        part = part.wrapping_mul(10);
        delta = delta.wrapping_mul(10);
        target = target.wrapping_mul(10);
        digits.exponent -= 1;
        digits.push(u8::try_from(part >> point).unwrap_or(9));
        part &= one - 1;
        if part < delta {
            digits.approach(delta, part, one, target);
            return digits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::digits;

    fn text(d: f64) -> String {
        let digits = digits(d);
        format!(
            "{}e{}",
            String::from_utf8_lossy(digits.as_bytes()),
            digits.exponent
        )
    }

    #[test]
    fn digits_read_back_as_the_same_double() {
        // A full-period walk over all exponents and many mantissas.
        let mut bits = 0x0123_4567_89ab_cdef_u64;
        for _ in 0..200_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let d = f64::from_bits(bits & !(1 << 63));
            if d.is_finite() && d != 0.0 {
                assert_eq!(text(d).parse::<f64>(), Ok(d));
            }
        }
    }

    #[test]
    fn powers_of_two_and_ends_of_the_range() {
        for field in 0..2047_u64 {
            for fraction in [0, 1, (1 << 52) - 1] {
                let d = f64::from_bits(field << 52 | fraction);
                if d != 0.0 {
                    assert_eq!(text(d).parse::<f64>(), Ok(d));
                }
            }
        }
    }

    #[test]
    fn where_grisu2_is_not_the_shortest_neither_are_we() {
        assert_eq!(text(0.1), "1e-1");
        assert_eq!(text(5e-324), "5e-324");
        // The shortest are 0.891931660095237 and 0.3074019536069795.
        assert_eq!(text(0.891_931_660_095_237), "8919316600952371e-16");
        assert_eq!(text(0.307_401_953_606_979_5), "30740195360697953e-17");
    }
}
