//! What Redis packed small values in before listpacks: ziplists and zipmaps, and the intset. They are read only.
//!
//! ```text
//! ziplist: total u32 LE | last entry's offset u32 LE | count u16 LE | entries | 0xff
//! entry:   length of the one before: u8 below 254, or 254 and u32 LE
//!          00nnnnnn string | 01nnnnnn nnnnnnnn string | 10000000 u32 BE string
//!          11000000 i16 | 11010000 i32 | 11100000 i64 | 11110000 i24 | 11111110 i8, all LE | 1111nnnn n-1
//! zipmap:  count u8 | field: length, bytes | value: length, free u8, bytes, free bytes | ... | 0xff
//!          length: u8 below 254, or 254 and u32 LE
//! intset:  width u32 LE (2, 4, 8) | count u32 LE | integers LE, ascending
//! ```

use crate::rdb::listpack::{Element, int24};
use crate::rdb::{Fault, Reader};

const END: u8 = 0xff;
/// This byte in place of a length: four bytes follow.
const LONG: u8 = 254;
const COUNT_MAX: usize = u16::MAX as usize;

/// Shows the elements in order; all of the block is checked.
pub(super) fn walk(
    block: &[u8],
    mut show: impl FnMut(Element<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut reader = Reader::new(block);
    let total = u32::from_le_bytes(reader.array()?) as usize;
    let tail = u32::from_le_bytes(reader.array()?) as usize;
    let count = usize::from(u16::from_le_bytes(reader.array()?));
    if total != block.len() {
        return Err(Fault::Format);
    }
    let at = |reader: &Reader<'_>| block.len() - reader.rest().len();
    let (mut seen, mut last, mut last_len) = (0, at(&reader), 0);
    while reader.rest().first() != Some(&END) {
        last = at(&reader);
        if length(&mut reader)? != last_len {
            return Err(Fault::Format);
        }
        let element = entry(&mut reader)?;
        last_len = at(&reader) - last;
        show(element)?;
        seen += 1;
    }
    let ends = reader.rest().len() == 1 && tail == last;
    if !ends || (count != COUNT_MAX && count != seen) {
        return Err(Fault::Format);
    }
    Ok(())
}

fn length(reader: &mut Reader<'_>) -> Result<usize, Fault> {
    match reader.byte()? {
        LONG => Ok(u32::from_le_bytes(reader.array()?) as usize),
        END => Err(Fault::Format),
        len => Ok(usize::from(len)),
    }
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, Fault> {
    let first = reader.byte()?;
    let low = usize::from(first & 0x3f);
    let len = match first {
        0..=0x3f => low,
        0x40..=0x7f => low << 8 | usize::from(reader.byte()?),
        0x80 => u32::from_be_bytes(reader.array()?) as usize,
        0xc0 => return Ok(Element::Int(i64::from(i16::from_le_bytes(reader.array()?)))),
        0xd0 => return Ok(Element::Int(i64::from(i32::from_le_bytes(reader.array()?)))),
        0xe0 => return Ok(Element::Int(i64::from_le_bytes(reader.array()?))),
        0xf0 => return Ok(Element::Int(int24(reader.array()?))),
        0xfe => return Ok(Element::Int(i64::from(i8::from_le_bytes(reader.array()?)))),
        0xf1..=0xfd => return Ok(Element::Int(i64::from(first & 0x0f) - 1)),
        _ => return Err(Fault::Format),
    };
    Ok(Element::Bytes(reader.take(len)?))
}

/// Shows fields and values of a zipmap.
pub(super) fn walk_map(
    block: &[u8],
    mut show: impl FnMut(&[u8], &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut reader = Reader::new(block);
    let (count, mut seen) = (usize::from(reader.byte()?), 0);
    while reader.rest().first() != Some(&END) {
        let len = length(&mut reader)?;
        let field = reader.take(len)?;
        let len = length(&mut reader)?;
        let free = reader.byte()?;
        let value = reader.take(len)?;
        reader.take(usize::from(free))?;
        show(field, value)?;
        seen += 1;
    }
    if reader.rest().len() != 1 || (count < usize::from(LONG) && count != seen) {
        return Err(Fault::Format);
    }
    Ok(())
}

/// Shows the members of an intset.
pub(super) fn walk_ints(
    block: &[u8],
    mut show: impl FnMut(i64) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut reader = Reader::new(block);
    let width = u32::from_le_bytes(reader.array()?) as usize;
    let count = u32::from_le_bytes(reader.array()?) as usize;
    if !matches!(width, 2 | 4 | 8) || reader.rest().len() as u64 != count as u64 * width as u64 {
        return Err(Fault::Format);
    }
    let mut before = None;
    for bytes in reader.rest().chunks_exact(width) {
        // The sign fills what is above.
        let fill = if bytes.last().is_some_and(|top| *top >= 0x80) {
            0xff
        } else {
            0
        };
        let mut wide = [fill; 8];
        wide[..width].copy_from_slice(bytes);
        let n = i64::from_le_bytes(wide);
        if before.is_some_and(|before| before >= n) {
            return Err(Fault::Format);
        }
        before = Some(n);
        show(n)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Walk = fn(&[u8]) -> Result<Vec<Vec<u8>>, Fault>;

    fn list(block: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut all = Vec::new();
        walk(block, |element| {
            all.push(element.with(<[u8]>::to_vec));
            Ok(())
        })?;
        Ok(all)
    }

    fn map(block: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut all = Vec::new();
        walk_map(block, |field, value| {
            all.extend([field.to_vec(), value.to_vec()]);
            Ok(())
        })?;
        Ok(all)
    }

    fn ints(block: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut all = Vec::new();
        walk_ints(block, |n| {
            all.push(n.to_string().into_bytes());
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn blocks_are_read_or_refused() {
        let ziplist: &[u8] = &[
            21, 0, 0, 0, 16, 0, 0, 0, 3, 0, // header
            0, 2, b'a', b'b', // "ab"
            4, 0xf3, // 2
            2, 0xc0, 0xfe, 0xff, // -2
            END,
        ];
        let table: [(Walk, &[u8], &[&str]); 3] = [
            (list, ziplist, &["ab", "2", "-2"]),
            (
                map,
                b"\x02\x03foo\x03\x00bar\x05hello\x05\x01world.\xff",
                &["foo", "bar", "hello", "world"],
            ),
            (
                ints,
                &[2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0],
                &["-1", "5"],
            ),
        ];
        for (walk, block, expected) in table {
            let found = walk(block).unwrap();
            let found: Vec<_> = found.iter().map(|e| String::from_utf8_lossy(e)).collect();
            assert_eq!(found, expected);
            for cut in 0..block.len() {
                assert!(walk(&block[..cut]).is_err(), "{block:?} {cut}");
            }
            for at in 0..block.len() {
                for bit in 0..8 {
                    let mut broken = block.to_vec();
                    broken[at] ^= 1u8 << bit;
                    let _ = walk(&broken);
                }
            }
        }
        assert!(
            ints(&[2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 5, 0]).is_err(),
            "twice"
        );
    }
}
