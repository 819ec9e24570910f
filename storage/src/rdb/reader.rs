//! Reading RDB bytes from the front of a slice: lengths, strings, numbers.
//!
//! ```text
//! length  00nnnnnn | 01nnnnnn nnnnnnnn | 10000000 u32 BE | 10000001 u64 BE
//! string  length, bytes | 11000000 i8 | 11000001 i16 LE | 11000010 i32 LE | 11000011 LZF: length in, length out, bytes
//! ```

use std::borrow::Cow;

use crate::rdb::{Fault, lzf};

/// No string is longer, bytes. (What there is of a file bounds the memory that a length may ask for.)
pub(super) const STRING_BYTES_MAX: usize = 1 << 48;
/// No byte of a compressed string stands for more.
const LZF_GROWTH_MAX: u64 = 264;

/// Bytes that are read from the front.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
}

/// A length, or what stands in its place before a string of another form.
enum Prefix {
    Length(u64),
    Special(u8),
}

/// What stands at the beginning of a string, seen before all of it is there.
pub(super) enum StringForm {
    /// Not even its length is there: that takes so many bytes.
    Short(usize),
    /// So many bytes behind a header of so many; also any other length.
    Plain {
        len: u64,
        header: usize,
    },
    /// An integer of so many bytes.
    Int(usize),
    /// A compressed one.
    Packed,
    Unknown,
}

/// See [`StringForm`].
pub(super) fn string_form(bytes: &[u8]) -> StringForm {
    let Some(first) = bytes.first() else {
        return StringForm::Short(1);
    };
    let header = match first {
        0..=0x3f => 1,
        0x40..=0x7f => 2,
        0x80 => 5,
        0x81 => 9,
        0xc0 => return StringForm::Int(1),
        0xc1 => return StringForm::Int(2),
        0xc2 => return StringForm::Int(4),
        0xc3 => return StringForm::Packed,
        _ => return StringForm::Unknown,
    };
    match Reader::new(bytes).length() {
        Ok(len) => StringForm::Plain { len, header },
        Err(_) => StringForm::Short(header),
    }
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.input
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// [`Fault::Format`] if there are not so many; as in all that follow.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.input.split_at_checked(len).ok_or(Fault::Format)?;
        self.input = rest;
        Ok(taken)
    }

    /// Takes as many bytes as the array has.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.input.split_first_chunk::<N>().ok_or(Fault::Format)?;
        self.input = rest;
        Ok(*taken)
    }

    /// Takes a byte.
    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    fn prefix(&mut self) -> Result<Prefix, Fault> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        Ok(match first {
            0..=0x3f => Prefix::Length(low),
            0x40..=0x7f => Prefix::Length(low << 8 | u64::from(self.byte()?)),
            0x80 => Prefix::Length(u64::from(u32::from_be_bytes(self.array()?))),
            0x81 => Prefix::Length(u64::from_be_bytes(self.array()?)),
            0xc0..=0xff => Prefix::Special(first & 0x3f),
            _ => return Err(Fault::Format),
        })
    }

    /// Takes a length, or a count of elements.
    pub fn length(&mut self) -> Result<u64, Fault> {
        match self.prefix()? {
            Prefix::Length(length) => Ok(length),
            Prefix::Special(_) => Err(Fault::Format),
        }
    }

    /// Takes a string in any of its forms.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        let number = match self.prefix()? {
            Prefix::Length(length) => return Ok(Cow::Borrowed(self.take(string_len(length)?)?)),
            Prefix::Special(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Prefix::Special(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Prefix::Special(2) => i32::from_le_bytes(self.array()?),
            Prefix::Special(3) => {
                let (packed, len) = (self.length()?, self.length()?);
                let packed = self.take(packed_len(packed, len)?)?;
                return Ok(Cow::Owned(lzf::decompress(packed, string_len(len)?)?));
            }
            Prefix::Special(_) => return Err(Fault::Format),
        };
        Ok(Cow::Owned(
            itoa::Buffer::new().format(number).as_bytes().to_vec(),
        ))
    }

    /// Takes a score of eight bytes; it is never NaN.
    pub fn score(&mut self) -> Result<f64, Fault> {
        not_nan(f64::from_le_bytes(self.array()?))
    }

    /// Takes a score written as text, as before RDB version 8: length u8 (253 NaN, 254 inf, 255 -inf), text.
    pub fn text_score(&mut self) -> Result<f64, Fault> {
        match self.byte()? {
            253 => Err(Fault::Format),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => parse_score(self.take(usize::from(len))?),
        }
    }
}

fn string_len(len: u64) -> Result<usize, Fault> {
    let len = usize::try_from(len).map_err(|_| Fault::Format)?;
    if len > STRING_BYTES_MAX {
        return Err(Fault::Format);
    }
    Ok(len)
}

/// The length of a compressed string, if it can be that of `whole` bytes.
pub(super) fn packed_len(packed: u64, whole: u64) -> Result<usize, Fault> {
    if whole > packed.saturating_mul(LZF_GROWTH_MAX) {
        return Err(Fault::Format);
    }
    string_len(packed)
}

fn not_nan(score: f64) -> Result<f64, Fault> {
    if score.is_nan() {
        return Err(Fault::Format);
    }
    Ok(score)
}

/// The score that a text spells.
pub(super) fn parse_score(text: &[u8]) -> Result<f64, Fault> {
    let text = core::str::from_utf8(text).map_err(|_| Fault::Format)?;
    not_nan(text.trim().parse().map_err(|_| Fault::Format)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_forms() {
        let table: [(&[u8], &[u8]); 8] = [
            (&[0], b""),
            (&[2, b'a', b'b'], b"ab"),
            (&[0x40, 2, b'a', b'b'], b"ab"),
            (&[0x80, 0, 0, 0, 1, b'a'], b"a"),
            (&[0x81, 0, 0, 0, 0, 0, 0, 0, 1, b'a'], b"a"),
            (&[0xc0, 0x80], b"-128"),
            (&[0xc1, 0, 0x80], b"-32768"),
            (&[0xc3, 4, 4, 0, b'a', 0x20, 0], b"aaaa"),
        ];
        for (input, text) in table {
            let mut reader = Reader::new(input);
            assert_eq!(reader.string().unwrap().as_ref(), text);
            assert!(reader.rest().is_empty());
            for cut in 0..input.len() {
                assert!(Reader::new(&input[..cut]).string().is_err(), "{input:?}");
            }
        }
        for input in [
            &[0xc4, 1, 1][..],
            &[0x82, 0],
            &[0x81, 255, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert!(Reader::new(input).string().is_err());
        }
    }
}
