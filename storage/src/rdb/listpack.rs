//! Listpacks: strings and integers in one block.
//!
//! ```text
//! total u32 LE | count u16 LE (65535: count them) | entries | 0xff
//! entry: 0nnnnnnn                u7          11110001 i16 LE     11110000 u32 LE, string
//!        10nnnnnn string                     11110010 i24 LE
//!        110nnnnn nnnnnnnn       i13         11110011 i32 LE
//!        1110nnnn nnnnnnnn string            11110100 i64 LE
//!        and behind it its length, seven bits a byte, to walk backwards
//! ```

use crate::rdb::{Fault, Reader};
use crate::view::canonical_int;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
/// Behind this many the count says nothing.
const COUNT_MAX: usize = u16::MAX as usize;

/// An element of a packed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl Element<'_> {
    /// Shows it as bytes.
    pub(super) fn with<R>(self, show: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Element::Int(n) => show(itoa::Buffer::new().format(n).as_bytes()),
            Element::Bytes(bytes) => show(bytes),
        }
    }
}

/// Shows the elements in order; all of the block is checked.
pub(super) fn walk<'b>(
    block: &'b [u8],
    mut show: impl FnMut(Element<'b>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut reader = Reader::new(block);
    let total = u32::from_le_bytes(reader.array()?);
    let count = usize::from(u16::from_le_bytes(reader.array()?));
    if total as usize != block.len() {
        return Err(Fault::Format);
    }
    let mut seen = 0;
    while reader.rest().first() != Some(&END) {
        let before = reader.rest().len();
        let element = entry(&mut reader)?;
        let (back, len) = back_length(before - reader.rest().len());
        if reader.take(len)? != &back[..len] {
            return Err(Fault::Format);
        }
        show(element)?;
        seen += 1;
    }
    if reader.rest().len() != 1 || (count != COUNT_MAX && count != seen) {
        return Err(Fault::Format);
    }
    Ok(())
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, Fault> {
    let first = reader.byte()?;
    let low = |bits: u8| usize::from(first & bits);
    Ok(match first {
        0..=0x7f => Element::Int(i64::from(first)),
        0x80..=0xbf => Element::Bytes(reader.take(low(0x3f))?),
        0xc0..=0xdf => {
            let value = (low(0x1f) << 8 | usize::from(reader.byte()?)) as i64;
            Element::Int(if value >= 1 << 12 {
                value - (1 << 13)
            } else {
                value
            })
        }
        0xe0..=0xef => {
            let len = low(0x0f) << 8 | usize::from(reader.byte()?);
            Element::Bytes(reader.take(len)?)
        }
        0xf0 => {
            let len = u32::from_le_bytes(reader.array()?);
            Element::Bytes(reader.take(len as usize)?)
        }
        0xf1 => Element::Int(i64::from(i16::from_le_bytes(reader.array()?))),
        0xf2 => Element::Int(int24(reader.array()?)),
        0xf3 => Element::Int(i64::from(i32::from_le_bytes(reader.array()?))),
        0xf4 => Element::Int(i64::from_le_bytes(reader.array()?)),
        _ => return Err(Fault::Format),
    })
}

/// An integer of three bytes.
pub(super) fn int24([a, b, c]: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)
}

/// The length of an entry as it stands behind it, and how many bytes that takes.
fn back_length(len: usize) -> ([u8; 5], usize) {
    let bytes = match len {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let mut back = [0; 5];
    for (at, byte) in back.iter_mut().take(bytes).enumerate() {
        let bits = (len >> (7 * (bytes - 1 - at))) as u8 & 0x7f;
        // The first is met last from behind: only it has no mark.
        *byte = if at == 0 { bits } else { bits | 0x80 };
    }
    (back, bytes)
}

/// A listpack that grows.
pub(super) struct Builder {
    block: Vec<u8>,
    count: usize,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            block: vec![0; HEADER_BYTES],
            count: 0,
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.block.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an element, as an integer if it spells one.
    pub(super) fn push(&mut self, element: &[u8]) {
        match canonical_int(element) {
            Some(n) => self.push_int(n),
            None => self.push_bytes(element),
        }
    }

    pub(super) fn push_int(&mut self, n: i64) {
        let begin = self.block.len();
        let bytes = n.to_le_bytes();
        let (mark, len) = match n {
            0..=127 => {
                self.block.push(n as u8);
                return self.close(begin);
            }
            -4096..=4095 => {
                let bits = n as u16 & 0x1fff;
                self.block
                    .extend_from_slice(&[0xc0 | (bits >> 8) as u8, bits as u8]);
                return self.close(begin);
            }
            -32_768..=32_767 => (0xf1, 2),
            -8_388_608..=8_388_607 => (0xf2, 3),
            -2_147_483_648..=2_147_483_647 => (0xf3, 4),
            _ => (0xf4, 8),
        };
        self.block.push(mark);
        self.block.extend_from_slice(&bytes[..len]);
        self.close(begin);
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        let (begin, len) = (self.block.len(), bytes.len());
        match len {
            0..64 => self.block.push(0x80 | len as u8),
            64..4096 => self
                .block
                .extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
            _ => {
                self.block.push(0xf0);
                self.block.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.block.extend_from_slice(bytes);
        self.close(begin);
    }

    fn close(&mut self, begin: usize) {
        let (back, len) = back_length(self.block.len() - begin);
        self.block.extend_from_slice(&back[..len]);
        self.count += 1;
    }

    /// The whole block.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.block.push(END);
        let total = (self.block.len() as u32).to_le_bytes();
        let count = (self.count.min(COUNT_MAX) as u16).to_le_bytes();
        let header = total.into_iter().chain(count);
        for (place, byte) in self.block.iter_mut().zip(header) {
            *place = byte;
        }
        self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elements(block: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut all = Vec::new();
        walk(block, |element| {
            all.push(element.with(<[u8]>::to_vec));
            Ok(())
        })?;
        Ok(all)
    }

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            (0u32..64, any::<bool>()).prop_map(|(bits, less)| {
                let n = (1i64 << bits.min(62)) - i64::from(less);
                (if bits % 3 == 0 { -n } else { n })
                    .to_string()
                    .into_bytes()
            }),
            proptest::collection::vec(any::<u8>(), 0..200),
            (4000usize..5000).prop_map(|len| vec![7; len]),
            Just(vec![1; 20_000]),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(all in proptest::collection::vec(element(), 0..20), cut in any::<usize>(), bit in 0u32..8) {
            let mut builder = Builder::new();
            all.iter().for_each(|element| builder.push(element));
            let mut block = builder.finish();
            let found = elements(&block);
            prop_assert_eq!(found.as_deref(), Ok(&all[..]));
            prop_assert!(elements(&block[..cut % block.len()]).is_err());
            let at = cut % block.len();
            block[at] ^= 1u8 << bit;
            let _ = elements(&block);
        }
    }
}
