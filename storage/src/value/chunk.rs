//! Hot path. One chunk of a large list: records in a block with room at both ends, so that pushes and pops
//! at either end move nothing.
//!
//! ```text
//! room | record record record ... | room        records as in packed.rs, walkable both ways
//! ```
//! A chunk also counts the bytes that its elements would take in Redis's listpack, since Redis decides by
//! them when a list changes its encoding and where a chunk is full.

use crate::account::class_size;
use crate::limits::ChunkLimit;
use crate::packed::{Records, record_bytes, record_position, write_record};
use crate::value::Side;
use crate::view::canonical_int;

/// Header and end mark of a listpack, bytes.
const LISTPACK_EMPTY_BYTES: usize = 7;
/// What Redis adds to an element's length when it asks whether a chunk takes it, bytes.
const ELEMENT_ESTIMATE_BYTES: usize = 8;
/// Blocks double up to this size and then grow by an eighth.
const DOUBLING_BYTES_MAX: usize = 4096;
/// Smallest block of a chunk.
const BLOCK_BYTES_MIN: usize = 256;

/// A run of elements.
#[derive(Clone)]
pub(super) struct Chunk {
    block: Box<[u8]>,
    /// The records are `block[start..end]`.
    start: usize,
    end: usize,
    count: usize,
    listpack_bytes: usize,
    /// Number of the first element, counted from an origin that the deque defines.
    pub(super) first: i64,
}

impl Chunk {
    /// An empty chunk with room for `capacity` bytes of records.
    pub(super) fn new(capacity: usize) -> Self {
        let block = vec![0; class_size(capacity)].into_boxed_slice();
        Self {
            block,
            start: 0,
            end: 0,
            count: 0,
            listpack_bytes: LISTPACK_EMPTY_BYTES,
            first: 0,
        }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.block.len()
    }

    /// Bytes that the records take here.
    pub(super) fn used_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Bytes that a listpack of these elements would take.
    pub(super) fn listpack_bytes(&self) -> usize {
        self.listpack_bytes
    }

    fn bytes(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    /// All elements, first to last.
    pub(super) fn records(&self) -> Records<'_, true> {
        Records::new(self.bytes())
    }

    /// Elements from `index` on.
    pub(super) fn records_from(&self, index: usize) -> Records<'_, true> {
        Records::new(&self.bytes()[self.position(index)..])
    }

    /// Elements before `index`.
    pub(super) fn records_until(&self, index: usize) -> Records<'_, true> {
        Records::new(&self.bytes()[..self.position(index)])
    }

    fn position(&self, index: usize) -> usize {
        record_position::<true>(self.bytes(), self.used_bytes(), self.count, index)
    }

    /// Whether Redis would put `item` into this chunk.
    pub(super) fn allows(&self, item: &[u8], limit: ChunkLimit) -> bool {
        let bytes = self.listpack_bytes + item.len() + ELEMENT_ESTIMATE_BYTES;
        !limit.exceeded(bytes, self.count + 1)
    }

    /// Whether Redis would join this chunk and its right neighbour.
    pub(super) fn may_join(&self, right: &Chunk, limit: ChunkLimit) -> bool {
        let bytes = self.listpack_bytes + right.listpack_bytes - LISTPACK_EMPTY_BYTES;
        !limit.exceeded(bytes, self.count + right.count)
    }

    /// Element `index`.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.records_from(index).next()
    }

    /// The element at one end.
    #[inline]
    pub(super) fn peek(&self, side: Side) -> Option<&[u8]> {
        match side {
            Side::Left => self.records().next(),
            Side::Right => self.records().next_back(),
        }
    }

    /// Adds an element at one end.
    #[inline]
    pub(super) fn push(&mut self, side: Side, item: &[u8]) {
        let size = record_bytes::<true>(item.len());
        let at = match side {
            Side::Left if self.start >= size => {
                self.start -= size;
                self.start
            }
            Side::Right if self.block.len() - self.end >= size => {
                self.end += size;
                self.end - size
            }
            Side::Left => self.open(0, 0, size),
            Side::Right => self.open(self.used_bytes(), 0, size),
        };
        write_record::<true>(&mut self.block[at..at + size], item, &[]);
        self.count += 1;
        self.listpack_bytes += listpack_bytes(item);
    }

    /// Removes the element at one end; whether there was one.
    #[inline]
    pub(super) fn drop_end(&mut self, side: Side) -> bool {
        let Some(item) = self.peek(side) else {
            return false;
        };
        let (size, listpack) = (record_bytes::<true>(item.len()), listpack_bytes(item));
        match side {
            Side::Left => self.start += size,
            Side::Right => self.end -= size,
        }
        self.count -= 1;
        self.listpack_bytes -= listpack;
        true
    }

    /// Inserts an element before element `index`.
    pub(super) fn insert(&mut self, index: usize, item: &[u8]) {
        let size = record_bytes::<true>(item.len());
        let at = self.open(self.position(index), 0, size);
        write_record::<true>(&mut self.block[at..at + size], item, &[]);
        self.count += 1;
        self.listpack_bytes += listpack_bytes(item);
    }

    /// Removes `count` elements (all must exist) from `index` on.
    pub(super) fn remove(&mut self, index: usize, count: usize) {
        let at = self.position(index);
        let mut records = Records::<true>::new(&self.bytes()[at..]);
        let before = records.left();
        let gone = records.by_ref().take(count);
        let (removed, listpack) = gone.fold((0, 0), |(n, bytes), item| {
            (n + 1, bytes + listpack_bytes(item))
        });
        let cut = before - records.left();
        self.open(at, cut, 0);
        self.count -= removed;
        self.listpack_bytes -= listpack;
    }

    /// Puts another element in the place of element `index`.
    pub(super) fn replace(&mut self, index: usize, item: &[u8]) {
        let at = self.position(index);
        let Some(old) = Records::<true>::new(&self.bytes()[at..]).next() else {
            return;
        };
        let (cut, listpack) = (record_bytes::<true>(old.len()), listpack_bytes(old));
        let size = record_bytes::<true>(item.len());
        let at = self.open(at, cut, size);
        write_record::<true>(&mut self.block[at..at + size], item, &[]);
        self.listpack_bytes += listpack_bytes(item);
        self.listpack_bytes -= listpack;
    }

    /// Takes off the elements from `index` on.
    pub(super) fn split_off(&mut self, index: usize) -> Chunk {
        let at = self.position(index);
        let mut right = Chunk::new(self.used_bytes() - at);
        right.append(self.records_from(index));
        self.end = self.start + at;
        self.count -= right.count;
        self.listpack_bytes -= right.listpack_bytes - LISTPACK_EMPTY_BYTES;
        right
    }

    /// Adds elements at the right end.
    pub(super) fn append<'a>(&mut self, items: impl Iterator<Item = &'a [u8]>) {
        items.for_each(|item| self.push(Side::Right, item));
    }

    /// Makes `cut` bytes at record position `at` into `gap` bytes of room; where in the block it begins.
    fn open(&mut self, at: usize, cut: usize, gap: usize) -> usize {
        let here = self.start + at;
        let (before, after) = (at, self.end - here - cut);
        if gap <= cut {
            let less = cut - gap;
            if before < after {
                self.block.copy_within(self.start..here, self.start + less);
                self.start += less;
                return here + less;
            }
            self.block.copy_within(here + cut..self.end, here + gap);
            self.end -= less;
            return here;
        }
        let more = gap - cut;
        if before < after && self.start >= more {
            self.block.copy_within(self.start..here, self.start - more);
            self.start -= more;
            return here - more;
        }
        if before >= after && self.block.len() - self.end >= more {
            self.block.copy_within(here + cut..self.end, here + gap);
            self.end += more;
            return here;
        }
        self.relocate(at, cut, gap)
    }

    /// As `open`, when the nearer end has no room: shares the room out anew, in a larger block if it has
    /// become scarce. A chunk that was only ever pushed at one end keeps all room there.
    fn relocate(&mut self, at: usize, cut: usize, gap: usize) -> usize {
        let used = self.used_bytes() + gap - cut;
        let scarce = self.block.len() < used + used / 4;
        let size = match used {
            _ if !scarce => self.block.len(),
            ..=DOUBLING_BYTES_MAX => class_size((used * 2).max(BLOCK_BYTES_MIN)),
            // A limit is a power of two, and so should be the block of a full chunk.
            _ => class_size(used + used / 8).min(used.next_power_of_two()),
        };
        let room = size - used;
        let push_left = at == 0 && cut == 0 && self.used_bytes() > 0;
        let start = match (push_left, self.start == 0, self.end == self.block.len()) {
            (false, true, _) => 0,
            (true, _, true) => room,
            _ => room / 2,
        };
        let mut block = vec![0; size].into_boxed_slice();
        let tail = self.start + at + cut..self.end;
        block[start..start + at].copy_from_slice(&self.block[self.start..self.start + at]);
        block[start + at + gap..start + used].copy_from_slice(&self.block[tail]);
        self.block = block;
        self.start = start;
        self.end = start + used;
        start + at
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self) {
        assert!(self.count > 0, "no empty chunk");
        assert_eq!(class_size(self.block.len()), self.block.len());
        crate::packed::check_records::<true>(self.bytes(), self.count);
        let listpack: usize = self.records().map(listpack_bytes).sum();
        assert_eq!(self.listpack_bytes, LISTPACK_EMPTY_BYTES + listpack);
    }
}

/// Bytes that an element takes in a listpack: its encoding (integers are packed) and its back length.
#[inline]
pub(super) fn listpack_bytes(item: &[u8]) -> usize {
    let int = match item.first() {
        Some(b'-' | b'0'..=b'9') if item.len() <= 20 => canonical_int(item),
        _ => None,
    };
    let size = match (int, item.len()) {
        (Some(0..=127), _) => 1,
        (Some(-4096..=4095), _) => 2,
        (Some(n), _) if i16::try_from(n).is_ok() => 3,
        (Some(-0x80_0000..=0x7F_FFFF), _) => 4,
        (Some(n), _) if i32::try_from(n).is_ok() => 5,
        (Some(_), _) => 9,
        (None, len @ 0..=63) => 1 + len,
        (None, len @ 64..=4095) => 2 + len,
        (None, len) => 5 + len,
    };
    size + match size {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// As [`listpack_bytes`], of an integer.
#[inline]
pub(super) fn int_bytes(n: i64) -> u64 {
    match n {
        0..=127 => 2,
        -4096..=4095 => 3,
        _ if i16::try_from(n).is_ok() => 4,
        -0x80_0000..=0x7F_FFFF => 5,
        _ if i32::try_from(n).is_ok() => 6,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listpack_sizes_are_those_of_redis() {
        let sizes = [
            ("", 2),
            ("a", 3),
            ("0", 2),
            ("127", 2),
            ("128", 3),
            ("-1", 3),
            ("4095", 3),
            ("4096", 4),
            ("-32768", 4),
            ("40000", 5),
            ("8388608", 6),
            ("2147483648", 10),
            ("01", 4),
            ("9223372036854775808", 21),
        ];
        for (item, size) in sizes {
            assert_eq!(listpack_bytes(item.as_bytes()), size, "{item}");
            if let Some(n) = canonical_int(item.as_bytes()) {
                assert_eq!(int_bytes(n), size as u64, "{item}");
            }
        }
        assert_eq!(listpack_bytes(&[b'x'; 63]), 65);
        assert_eq!(listpack_bytes(&[b'x'; 64]), 67);
        assert_eq!(listpack_bytes(&[b'x'; 126]), 130);
        assert_eq!(listpack_bytes(&[b'x'; 4096]), 4103);
    }

    #[test]
    fn pushes_at_one_end_leave_no_room_at_the_other() {
        for side in [Side::Left, Side::Right] {
            let mut chunk = Chunk::new(0);
            while chunk.listpack_bytes() + 18 <= 8192 {
                chunk.push(side, b"0123456789abcdef");
            }
            chunk.check();
            assert!(chunk.heap_bytes() <= 8192, "{}", chunk.heap_bytes());
        }
    }
}
