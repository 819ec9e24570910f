//! The integers that BITFIELD reads and writes: any width up to 64 bits, anywhere in a string.

use protocol::{Args, Refusal, number};

/// Bytes that 64 bits at any bit offset touch at most.
const WINDOW_BYTES: usize = 9;

/// A type as BITFIELD names it: `i1`..`i64`, `u1`..`u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) signed: bool,
    /// 1..=64
    pub(super) bits: u32,
}

impl Type {
    /// # Errors
    /// `Refusal::BitfieldType`
    pub(super) fn parse(word: &[u8]) -> Result<Type, Refusal> {
        let (signed, digits, bits_max) = match word {
            [b'i', digits @ ..] => (true, digits, 64),
            [b'u', digits @ ..] => (false, digits, 63),
            _ => return Err(Refusal::BitfieldType),
        };
        let bits = number::parse_i64(digits).and_then(|bits| u32::try_from(bits).ok());
        match bits {
            Some(bits) if (1..=bits_max).contains(&bits) => Ok(Type { signed, bits }),
            _ => Err(Refusal::BitfieldType),
        }
    }

    fn min(self) -> i128 {
        match self.signed {
            true => -(1 << (self.bits - 1)),
            false => 0,
        }
    }

    fn max(self) -> i128 {
        (1 << (self.bits - u32::from(self.signed))) - 1
    }

    /// The value of this type that the lowest bits of `value` are.
    fn wrap(self, value: i128) -> i64 {
        let unused = 64 - self.bits;
        let bits = (value as i64) << unused;
        match self.signed {
            true => bits >> unused,
            false => (bits.cast_unsigned() >> unused).cast_signed(),
        }
    }

    /// What a client means who sets a field to `value`, with two oddities of Redis: for an unsigned
    /// field a negative value is very large, and one so negative that its distance from the
    /// type's largest does not fit 64 bits saturates at that largest.
    pub(super) fn meant_by(self, value: i64, overflow: Overflow) -> i128 {
        if !self.signed {
            return i128::from(value.cast_unsigned());
        }
        let far = self.max() - i128::from(value) > i128::from(i64::MAX);
        match overflow {
            Overflow::Saturate if far && self.bits < 64 => self.max(),
            _ => i128::from(value),
        }
    }

    /// A value, or what is to be put in its place when the type cannot hold it; None: nothing.
    pub(super) fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        if (self.min()..=self.max()).contains(&value) {
            return Some(self.wrap(value));
        }
        match overflow {
            Overflow::Wrap => Some(self.wrap(value)),
            Overflow::Saturate => Some(self.wrap(value.clamp(self.min(), self.max()))),
            Overflow::Fail => None,
        }
    }
}

/// What happens to values that a type cannot hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

impl Overflow {
    /// Takes the word after `OVERFLOW`.
    ///
    /// # Errors
    /// `Refusal::BitfieldOverflow`
    pub(super) fn take(args: &mut Args<'_>) -> Result<Overflow, Refusal> {
        let known = [
            ("WRAP", Overflow::Wrap),
            ("SAT", Overflow::Saturate),
            ("FAIL", Overflow::Fail),
        ];
        let found = known.into_iter().find(|(word, _)| args.keyword(word));
        found
            .map(|(_, overflow)| overflow)
            .ok_or(Refusal::BitfieldOverflow)
    }
}

/// The bytes of a string that a field touches, zeros where it ends before.
pub(super) struct Window {
    /// Where it begins in the string.
    at: usize,
    bytes: [u8; WINDOW_BYTES],
    /// Bits behind the field, up to the end of the window.
    behind: u32,
    field: Type,
}

impl Window {
    /// The window of a field at a bit offset.
    pub(super) fn new(string: &[u8], offset: u64, field: Type) -> Window {
        let at = (offset >> 3) as usize;
        let mut bytes = [0; WINDOW_BYTES];
        let there = string.get(at..).unwrap_or_default();
        bytes
            .iter_mut()
            .zip(there)
            .for_each(|(byte, there)| *byte = *there);
        let behind = WINDOW_BYTES as u32 * 8 - (offset & 7) as u32 - field.bits;
        Window {
            at,
            bytes,
            behind,
            field,
        }
    }

    fn load(&self) -> u128 {
        let shifted = |n: u128, byte: &u8| n << 8 | u128::from(*byte);
        self.bytes.iter().fold(0, shifted)
    }

    /// The field's value.
    pub(super) fn get(&self) -> i64 {
        self.field.wrap((self.load() >> self.behind) as i128)
    }

    /// Changes the field; where and what to write into the string.
    pub(super) fn set(&mut self, value: i64) -> (usize, &[u8]) {
        let mask = ((1 << self.field.bits) - 1) << self.behind;
        let value = (i128::from(value).cast_unsigned() << self.behind) & mask;
        let window = self.load() & !mask | value;
        let places = self.bytes.iter_mut().rev();
        places
            .enumerate()
            .for_each(|(index, byte)| *byte = (window >> (8 * index)) as u8);
        let touched = WINDOW_BYTES - (self.behind / 8) as usize;
        (self.at, self.bytes.get(..touched).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::{Overflow, Type, Window};

    const I8: Type = Type {
        signed: true,
        bits: 8,
    };
    const U8: Type = Type {
        signed: false,
        bits: 8,
    };
    const I64: Type = Type {
        signed: true,
        bits: 64,
    };

    #[test]
    fn types() {
        assert_eq!(Type::parse(b"i64"), Ok(I64));
        assert!(Type::parse(b"u63").is_ok() && Type::parse(b"i1").is_ok());
        for word in ["", "i", "u64", "i65", "u0", "i-1", "I8", "i08", "8", "i8 "] {
            assert!(Type::parse(word.as_bytes()).is_err(), "{word}");
        }
    }

    #[test]
    fn overflow() {
        let table = [
            (I8, 127, Some(127), Some(127), Some(127)),
            (I8, 128, Some(-128), Some(127), None),
            (I8, -129, Some(127), Some(-128), None),
            (U8, 256, Some(0), Some(255), None),
            (U8, -1, Some(255), Some(0), None),
            (I64, 1 << 63, Some(i64::MIN), Some(i64::MAX), None),
            (I64, i128::from(i64::MIN) * 2, Some(0), Some(i64::MIN), None),
        ];
        for (field, value, wrapped, saturated, failed) in table {
            assert_eq!(field.fit(value, Overflow::Wrap), wrapped, "{value}");
            assert_eq!(field.fit(value, Overflow::Saturate), saturated, "{value}");
            assert_eq!(field.fit(value, Overflow::Fail), failed, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_set_is_got_and_nothing_else_changes(
            bytes in proptest::collection::vec(0u8.., 0..20), offset in 0..200u64,
            bits in 1..=64u32, signed: bool, value: i64,
        ) {
            let field = Type { signed: signed || bits == 64, bits };
            let value = field.wrap(i128::from(value));
            let end = (offset + u64::from(bits)).div_ceil(8) as usize;
            let mut old = bytes.clone();
            old.resize(end.max(bytes.len()), 0);
            let mut new = old.clone();
            let mut window = Window::new(&bytes, offset, field);
            let (at, part) = window.set(value);
            assert_eq!(at + part.len(), end);
            new[at..end].copy_from_slice(part);
            assert_eq!((window.get(), Window::new(&new, offset, field).get()), (value, value));
            for at in 0..new.len() as u64 * 8 {
                let bit = |bytes: &[u8]| bytes[(at / 8) as usize] >> (7 - at % 8) & 1;
                if at < offset {
                    assert_eq!(bit(&old), bit(&new));
                } else if at < offset + u64::from(bits) {
                    let bit_of_value = value >> (offset + u64::from(bits) - 1 - at) & 1;
                    assert_eq!(i64::from(bit(&new)), bit_of_value);
                } else {
                    assert_eq!(bit(&old), bit(&new));
                }
            }
        }
    }
}
