//! Natural numbers of any size: just what reading and printing extended floating-point numbers with
//! large exponents needs. Rare paths; simple rather than fast.

use crate::float_text::Binary;

/// The largest power of ten in one limb, and its exponent.
const LIMB_TEN: u64 = 10_000_000_000_000_000_000;
const LIMB_TEN_DIGITS: u32 = 19;
/// Bits of a quotient: more than a mantissa and its rounding need.
const QUOTIENT_BITS: i64 = 68;

/// Limbs of 64 bits, the least significant first, the last one not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Big {
    limbs: Vec<u64>,
}

impl From<u128> for Big {
    fn from(n: u128) -> Self {
        let [low, high] = halves(n);
        let mut big = Self {
            limbs: vec![low, high],
        };
        big.trim();
        big
    }
}

/// The lower and the upper 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "the point of it")]
const fn halves(n: u128) -> [u64; 2] {
    [n as u64, (n >> 64) as u64]
}

impl Big {
    /// The number with these decimal digits (0 to 9, not ASCII).
    pub(crate) fn from_digits(digits: impl Iterator<Item = u8>) -> Self {
        let mut big = Self::from(0);
        let (mut chunk, mut unit) = (0, 1);
        for digit in digits {
            chunk = chunk * 10 + u64::from(digit);
            unit *= 10;
            if unit == LIMB_TEN {
                big.times_plus(unit, chunk);
                (chunk, unit) = (0, 1);
            }
        }
        big.times_plus(unit, chunk);
        big
    }

    /// Multiplies by `10^exponent`.
    pub(crate) fn times_ten_to(&mut self, exponent: u32) {
        (0..exponent / LIMB_TEN_DIGITS).for_each(|_| self.times_plus(LIMB_TEN, 0));
        self.times_plus(10u64.pow(exponent % LIMB_TEN_DIGITS), 0);
    }

    /// Multiplies by `2^bits`.
    pub(crate) fn shift_left(&mut self, bits: u32) {
        self.times_plus(1 << (bits % 64), 0);
        if !self.limbs.is_empty() {
            let zeros = usize::try_from(bits / 64).unwrap_or(0);
            self.limbs.splice(0..0, std::iter::repeat_n(0, zeros));
        }
    }

    /// The highest 128 bits, and whether anything is below them.
    pub(crate) fn top(&self) -> Binary {
        let mut limbs = self.limbs.iter().rev();
        let mut mantissa = 0u128;
        let mut exponent = self.limb_bits();
        for limb in limbs.by_ref().take(2) {
            mantissa = mantissa << 64 | u128::from(*limb);
            exponent -= 64;
        }
        // The highest limb may have few bits; at least 65 remain, one more than a mantissa has.
        Binary {
            mantissa,
            exponent,
            inexact: limbs.any(|limb| *limb != 0),
        }
    }

    /// `n / d` to 68 or 69 bits; neither may be zero.
    pub(crate) fn quotient(mut n: Self, mut d: Self) -> Binary {
        let shift = d.bits() - n.bits() + QUOTIENT_BITS;
        let by = u32::try_from(shift.unsigned_abs()).unwrap_or(0);
        if shift >= 0 {
            n.shift_left(by)
        } else {
            d.shift_left(by)
        }
        // Now n / d < 2^(QUOTIENT_BITS + 1). One bit of it after the other, from the highest.
        d.shift_left(u32::try_from(QUOTIENT_BITS).unwrap_or(0));
        let mut mantissa = 0u128;
        for _ in 0..=QUOTIENT_BITS {
            let fits = n.subtract_if_fits(&d);
            mantissa = mantissa << 1 | u128::from(fits);
            n.shift_left(1);
        }
        Binary {
            mantissa,
            exponent: -shift,
            inexact: !n.limbs.is_empty(),
        }
    }

    /// Appends its decimal digits.
    pub(crate) fn write_decimal(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        while !self.limbs.is_empty() {
            chunks.push(self.divide(LIMB_TEN));
        }
        let mut chunks = chunks.into_iter().rev();
        out.extend_from_slice(
            itoa::Buffer::new()
                .format(chunks.next().unwrap_or(0))
                .as_bytes(),
        );
        for chunk in chunks {
            let mut buffer = itoa::Buffer::new();
            let digits = buffer.format(chunk).as_bytes();
            let zeros = usize::try_from(LIMB_TEN_DIGITS)
                .unwrap_or(0)
                .saturating_sub(digits.len());
            out.resize(out.len() + zeros, b'0');
            out.extend_from_slice(digits);
        }
    }

    /// Multiplies by `factor`, then adds `summand`.
    fn times_plus(&mut self, factor: u64, summand: u64) {
        let mut carry = summand;
        for limb in &mut self.limbs {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            [*limb, carry] = halves(product);
        }
        self.limbs.push(carry);
        self.trim();
    }

    /// Divides by `divisor` and returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0u64;
        for limb in self.limbs.iter_mut().rev() {
            let dividend = u128::from(rest) << 64 | u128::from(*limb);
            let [quotient, _] = halves(dividend / u128::from(divisor));
            let [remainder, _] = halves(dividend % u128::from(divisor));
            (*limb, rest) = (quotient, remainder);
        }
        self.trim();
        rest
    }

    /// Subtracts `other` unless it is larger; says whether it did.
    fn subtract_if_fits(&mut self, other: &Self) -> bool {
        let longer = self.limbs.len().cmp(&other.limbs.len());
        if longer
            .then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
            .is_lt()
        {
            return false;
        }
        let mut borrow = false;
        let others = other.limbs.iter().copied().chain(std::iter::repeat(0));
        for (limb, other) in self.limbs.iter_mut().zip(others) {
            let (difference, below) = limb.overflowing_sub(other);
            let (difference, still) = difference.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (difference, below || still);
        }
        self.trim();
        true
    }

    /// The number of bits, without leading zeros.
    fn bits(&self) -> i64 {
        self.limb_bits()
            - self
                .limbs
                .last()
                .map_or(0, |limb| i64::from(limb.leading_zeros()))
    }

    fn limb_bits(&self) -> i64 {
        i64::try_from(self.limbs.len()).unwrap_or(0) * 64
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }
}
