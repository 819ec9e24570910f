//! Hot path. A compact sequence of byte strings in one heap block: small lists, hashes, sets, sorted sets.
//!
//! ```text
//! block  = used, count | record record record ... | slack        used, count: u16 each, u32 each past 64 KiB
//! record = length (varint) | payload | back (only if BACK)
//! ```
//! `length` is little-endian base 128 (one byte below 128). `back` is the size of length and payload,
//! written so that it is read from its last byte backwards: it is what makes reverse iteration O(1) per
//! step. The block is exactly an allocator's size class, so a record costs its payload and one byte (two
//! with BACK), and growth copies as rarely as the classes are apart.
//! Positions are byte offsets into the records (`0..=used_bytes()`); they are good until the next change.

use crate::account::class_size;

/// Records of at most so many bytes may lie in an item's block.
const EMBEDDED_BYTES_MAX: usize = 512;
/// The short header: bytes used, number of records.
const BLOCK_HEAD_BYTES: usize = 4;
/// Bytes of what [`Packed::block`] told, of which these are the first two.
#[inline(always)]
pub(crate) fn block_bytes(used: u16) -> usize {
    BLOCK_HEAD_BYTES + usize::from(used)
}

/// Blocks up to this size have the short header.
const SHORT_BLOCK_MAX: usize = 0xFFFF;

/// A sequence of byte strings. `BACK`: whether records can be walked from the end.
#[derive(Default)]
pub(crate) struct Packed<const BACK: bool> {
    /// Empty (no allocation) or header, records, slack.
    block: Box<[u8]>,
}

impl<const BACK: bool> Clone for Packed<BACK> {
    /// Whatever block it is made of, that of the copy has the size of its class.
    fn clone(&self) -> Self {
        let mut block = vec![0; class_size(self.block.len())];
        block[..self.block.len()].copy_from_slice(&self.block);
        Self {
            block: block.into_boxed_slice(),
        }
    }
}

impl<const BACK: bool> Packed<BACK> {
    /// An empty sequence; allocates nothing.
    pub(crate) fn new() -> Self {
        Self {
            block: Box::default(),
        }
    }

    /// An empty sequence with room for records of so many bytes, unless they are very many: for who fills it at once, and then calls
    /// [`Packed::fit`].
    pub(crate) fn with_room(records_bytes: usize) -> Self {
        let mut packed = Self::new();
        if (1..SHORT_BLOCK_MAX / 2).contains(&records_bytes) {
            packed.resize(records_bytes);
        }
        packed
    }

    /// Header and records, if there are some, and few enough for them to lie in an item's block.
    pub(crate) fn block(&self) -> Option<&[u8]> {
        let used = self.used_bytes();
        if (1..=EMBEDDED_BYTES_MAX).contains(&used) && self.head_bytes() == BLOCK_HEAD_BYTES {
            self.block.get(..BLOCK_HEAD_BYTES + used)
        } else {
            None
        }
    }

    /// The sequence that [`Packed::block`] told. If it has no slack, as that has none, it may be read and copied but not changed.
    pub(crate) fn of_block(block: Box<[u8]>) -> Self {
        Self { block }
    }

    /// Gives back what room is left.
    pub(crate) fn fit(&mut self) {
        let used = self.used_bytes();
        if used == 0 {
            self.block = Box::default();
        } else if class_size(used + 8) < self.block.len() {
            self.resize(used);
        }
    }

    fn head_bytes(&self) -> usize {
        if self.block.len() <= SHORT_BLOCK_MAX {
            BLOCK_HEAD_BYTES
        } else {
            8
        }
    }

    fn header(&self) -> (usize, usize) {
        match (&*self.block, self.block.len() <= SHORT_BLOCK_MAX) {
            ([a, b, c, d, ..], true) => (
                u16::from_le_bytes([*a, *b]).into(),
                u16::from_le_bytes([*c, *d]).into(),
            ),
            ([a, b, c, d, e, f, g, h, ..], false) => (
                u32::from_le_bytes([*a, *b, *c, *d]) as usize,
                u32::from_le_bytes([*e, *f, *g, *h]) as usize,
            ),
            _ => (0, 0),
        }
    }

    fn set_header(&mut self, used: usize, count: usize) {
        // Lossless: a block of up to 64 KiB holds fewer bytes and fewer records than u16 counts, and
        // callers keep blocks far below 4 GiB (`PACKED_BYTES_MAX` and one element).
        debug_assert!(used + self.head_bytes() <= self.block.len());
        if self.block.len() <= SHORT_BLOCK_MAX {
            self.block[..2].copy_from_slice(&(used as u16).to_le_bytes());
            self.block[2..4].copy_from_slice(&(count as u16).to_le_bytes());
        } else {
            self.block[..4].copy_from_slice(&(used as u32).to_le_bytes());
            self.block[4..8].copy_from_slice(&(count as u32).to_le_bytes());
        }
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.header().1
    }

    /// Bytes that the records take.
    pub(crate) fn used_bytes(&self) -> usize {
        self.header().0
    }

    /// Bytes of heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.block.len()
    }

    /// The records.
    pub(crate) fn bytes(&self) -> &[u8] {
        let head = self.head_bytes();
        self.block
            .get(head..head + self.used_bytes())
            .unwrap_or_default()
    }

    /// All records, first to last.
    pub(crate) fn iter(&self) -> Records<'_, BACK> {
        Records {
            bytes: self.bytes(),
        }
    }

    /// The records from position `at` on.
    pub(crate) fn iter_from(&self, at: usize) -> Records<'_, BACK> {
        Records {
            bytes: self.bytes().get(at..).unwrap_or_default(),
        }
    }

    /// The records before position `at`.
    pub(crate) fn iter_until(&self, at: usize) -> Records<'_, BACK> {
        Records {
            bytes: self.bytes().get(..at).unwrap_or_default(),
        }
    }

    /// Position of record `index` (or of the end).
    pub(crate) fn position(&self, index: usize) -> usize {
        let (used, count) = self.header();
        record_position::<BACK>(self.bytes(), used, count, index)
    }

    /// Record `index`.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.iter_from(self.position(index)).next()
    }

    /// Inserts a record made of `a` and `b` joined, before position `at`.
    pub(crate) fn insert(&mut self, at: usize, a: &[u8], b: &[u8]) {
        let (used, count) = self.header();
        let gap = record_bytes::<BACK>(a.len() + b.len());
        self.open(used, count + 1, at, 0, gap);
        let head = self.head_bytes();
        write_record::<BACK>(&mut self.block[head + at..head + at + gap], a, b);
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, record: &[u8]) {
        self.insert(self.used_bytes(), record, &[]);
    }

    /// Inserts `count` records, as [`Packed::bytes`] had them, before position `at`.
    pub(crate) fn insert_records(&mut self, at: usize, records: &[u8], count: usize) {
        let (used, total) = self.header();
        self.open(used, total + count, at, 0, records.len());
        let head = self.head_bytes();
        self.block[head + at..head + at + records.len()].copy_from_slice(records);
    }

    /// Removes `count` records from position `at` on.
    pub(crate) fn remove(&mut self, at: usize, count: usize) {
        let (used, total) = self.header();
        let mut rest = self.iter_from(at);
        let removed = rest.by_ref().take(count).count();
        let cut = used - at - rest.bytes.len();
        self.open(used, total - removed, at, cut, 0);
        self.shrink();
    }

    /// Puts the record `a` + `b` in the place of the one at position `at`.
    pub(crate) fn replace(&mut self, at: usize, a: &[u8], b: &[u8]) {
        let (used, count) = self.header();
        let mut rest = self.iter_from(at);
        let Some(old) = rest.next() else { return };
        let same = old.len() == a.len() + b.len();
        let (cut, gap) = (
            used - at - rest.bytes.len(),
            record_bytes::<BACK>(a.len() + b.len()),
        );
        if !same {
            self.open(used, count, at, cut, gap);
        }
        let head = self.head_bytes();
        write_record::<BACK>(&mut self.block[head + at..head + at + gap], a, b);
        if gap < cut {
            self.shrink();
        }
    }

    /// Makes `cut` bytes at record position `at` into `gap` bytes of room and sets the header.
    fn open(&mut self, used: usize, count: usize, at: usize, cut: usize, gap: usize) {
        let used_after = used - cut + gap;
        if self.head_bytes() + used_after > self.block.len() {
            self.resize(used_after);
        }
        let head = self.head_bytes();
        if cut != gap {
            self.block
                .copy_within(head + at + cut..head + used, head + at + gap);
        }
        self.set_header(used_after, count);
    }

    /// Gives memory back when half of the block is slack.
    fn shrink(&mut self) {
        let used = self.used_bytes();
        if used == 0 {
            self.block = Box::default();
        } else if class_size(used + 8) * 2 <= self.block.len() {
            self.resize(used);
        }
    }

    /// Moves to the block whose size class fits `records` bytes of records.
    fn resize(&mut self, records: usize) {
        let mut size = class_size(records + 4);
        if size > SHORT_BLOCK_MAX {
            size = class_size(records + 8);
        }
        let (used, count) = self.header();
        let head = self.head_bytes();
        let same_head = (size <= SHORT_BLOCK_MAX) == (self.block.len() <= SHORT_BLOCK_MAX);
        if same_head {
            let mut block = core::mem::take(&mut self.block).into_vec();
            block.truncate(size);
            block.reserve_exact(size - block.len());
            block.resize(size, 0);
            self.block = block.into_boxed_slice();
        } else {
            let old = core::mem::replace(&mut self.block, vec![0; size].into_boxed_slice());
            let new_head = self.head_bytes();
            self.block[new_head..new_head + used].copy_from_slice(&old[head..head + used]);
        }
        self.set_header(used, count);
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check(&self) {
        let (used, count) = self.header();
        assert_eq!(
            used == 0,
            self.block.is_empty(),
            "an empty sequence has no block"
        );
        assert!(self.block.is_empty() || self.head_bytes() + used <= self.block.len());
        assert_eq!(class_size(self.block.len()), self.block.len());
        check_records::<BACK>(self.bytes(), count);
    }
}

/// Asserts that `bytes` are `count` whole records. For tests.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn check_records<const BACK: bool>(bytes: &[u8], count: usize) {
    let mut at = 0;
    let mut seen = 0;
    let mut walk = Records::<BACK> { bytes };
    while let Some(record) = walk.next() {
        at += record_bytes::<BACK>(record.len());
        seen += 1;
        assert_eq!(
            at + walk.bytes.len(),
            bytes.len(),
            "no byte between records"
        );
    }
    assert_eq!(seen, count);
    assert_eq!(at, bytes.len());
    if BACK {
        let mut walk = Records::<true> { bytes };
        let mut seen = 0;
        while walk.next_back().is_some() {
            seen += 1;
        }
        assert_eq!(seen, count, "as many records backwards");
    }
}

/// Iterator over whole records; from both ends when they have `back`.
#[derive(Clone, Default)]
pub(crate) struct Records<'a, const BACK: bool> {
    bytes: &'a [u8],
}

impl<'a, const BACK: bool> Records<'a, BACK> {
    /// Over bytes that hold whole records.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes not walked yet.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a, const BACK: bool> Iterator for Records<'a, BACK> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (&first, rest) = self.bytes.split_first()?;
        let (len, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            long_length(self.bytes)?
        };
        let (payload, rest) = rest.split_at_checked(len)?;
        self.bytes = if BACK {
            rest.get(back_bytes(len)..)?
        } else {
            rest
        };
        Some(payload)
    }
}

impl<'a> DoubleEndedIterator for Records<'a, true> {
    #[inline]
    fn next_back(&mut self) -> Option<&'a [u8]> {
        let (&last, rest) = self.bytes.split_last()?;
        let (size, rest) = if last < 0x80 {
            (usize::from(last), rest)
        } else {
            long_back(self.bytes)?
        };
        let (rest, record) = rest.split_at_checked(rest.len().checked_sub(size)?)?;
        self.bytes = rest;
        let head = length_bytes_of_record(record)?;
        record.get(head..)
    }
}

/// Whether two strings are equal, for searches among similar ones ("field:1", "field:2"): the last byte
/// tells most strangers apart without a call to compare memory.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.last() == b.last() && a == b
}

/// Size of the record of a payload of `len` bytes.
#[inline]
pub(crate) fn record_bytes<const BACK: bool>(len: usize) -> usize {
    let size = varint_bytes(len) + len;
    if BACK {
        size + varint_bytes(size)
    } else {
        size
    }
}

/// Writes the record `a` + `b` over `out`, which is exactly as long as the record.
#[inline]
pub(crate) fn write_record<const BACK: bool>(out: &mut [u8], a: &[u8], b: &[u8]) {
    let len = a.len() + b.len();
    let head = varint_bytes(len);
    write_varint(&mut out[..head], len);
    out[head..head + a.len()].copy_from_slice(a);
    out[head + a.len()..head + len].copy_from_slice(b);
    if BACK {
        let back = &mut out[head + len..];
        write_varint(back, head + len);
        back.reverse();
    }
}

/// Position of record `index` among `count` records (of the end when there are fewer).
#[inline]
pub(crate) fn record_position<const BACK: bool>(
    bytes: &[u8],
    used: usize,
    count: usize,
    index: usize,
) -> usize {
    if index >= count {
        return used;
    }
    if BACK && index > count / 2 {
        let mut walk = Records::<true> { bytes };
        for _ in index..count {
            walk.next_back();
        }
        return walk.bytes.len();
    }
    let mut walk = Records::<BACK> { bytes };
    for _ in 0..index {
        walk.next();
    }
    used - walk.bytes.len()
}

/// Bytes that a number takes as a varint.
#[inline]
pub(crate) fn varint_bytes(n: usize) -> usize {
    if n < 0x80 {
        1
    } else {
        (n.ilog2() as usize) / 7 + 1
    }
}

/// Writes `n` over `out`, which is exactly `varint_bytes(n)` long.
#[inline]
pub(crate) fn write_varint(out: &mut [u8], mut n: usize) {
    let Some((last, init)) = out.split_last_mut() else {
        return;
    };
    for byte in init {
        *byte = n as u8 | 0x80;
        n >>= 7;
    }
    *last = n as u8;
}

/// A length of several bytes at the front of `bytes`, and what follows it.
#[cold]
fn long_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut n = 0usize;
    for (i, byte) in bytes.iter().enumerate().take(9) {
        n |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((n, &bytes[i + 1..]));
        }
    }
    None
}

/// A size of several bytes at the end of `bytes`, and what precedes it.
#[cold]
fn long_back(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut n = 0usize;
    for (i, byte) in bytes.iter().rev().enumerate().take(9) {
        n |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((n, &bytes[..bytes.len() - i - 1]));
        }
    }
    None
}

#[inline]
fn length_bytes_of_record(record: &[u8]) -> Option<usize> {
    record
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .map(|at| at + 1)
}

#[inline]
fn back_bytes(len: usize) -> usize {
    if len < 0x7F {
        1
    } else {
        varint_bytes(varint_bytes(len) + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| i as u8).collect()
    }

    fn records_of_every_length_class<const BACK: bool>() {
        for len in [
            0, 1, 126, 127, 128, 129, 16_380, 16_383, 16_384, 70_000, 3_000_000,
        ] {
            let mut packed = Packed::<BACK>::new();
            packed.push(b"before");
            packed.push(&text(len));
            packed.push(b"after");
            packed.check();
            assert_eq!(packed.get(1), Some(&text(len)[..]));
            packed.replace(packed.position(1), b"short", b"er");
            packed.check();
            assert_eq!(packed.get(1), Some(&b"shorter"[..]));
            packed.replace(packed.position(1), &text(len), &[]);
            packed.remove(packed.position(1), 1);
            packed.check();
            assert_eq!(
                packed.iter().collect::<Vec<_>>(),
                [&b"before"[..], b"after"]
            );
            packed.remove(0, 2);
            packed.check();
            assert_eq!(packed.heap_bytes(), 0);
        }
    }

    #[test]
    fn lengths_forward() {
        records_of_every_length_class::<false>();
    }

    #[test]
    fn lengths_both_ways() {
        records_of_every_length_class::<true>();
    }

    #[test]
    fn room_that_was_too_much_is_given_back() {
        for room in [0, 1, 60, 4096, 70_000] {
            let (mut packed, mut grown) = (Packed::<true>::with_room(room), Packed::<true>::new());
            for n in 0..9u8 {
                packed.push(&[n; 11]);
                grown.push(&[n; 11]);
            }
            packed.fit();
            packed.check();
            assert!(packed.iter().eq(grown.iter()));
            assert!(packed.heap_bytes() <= grown.heap_bytes() + 8);
            let mut empty = Packed::<true>::with_room(room);
            empty.fit();
            empty.check();
        }
    }

    #[test]
    fn small_sequences_are_small() {
        let mut hash = Packed::<false>::new();
        for i in 1..=5 {
            hash.push(format!("f{i}").as_bytes());
            hash.push(b"12345678");
        }
        assert_eq!(hash.heap_bytes(), 64);
        let mut list = Packed::<false>::new();
        (0..10).for_each(|_| list.push(b"12345678"));
        assert_eq!(list.heap_bytes(), 96);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(usize, Vec<u8>),
        Remove(usize),
        Replace(usize, Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let payload = prop_oneof![
            8 => proptest::collection::vec(any::<u8>(), 0..20),
            1 => proptest::collection::vec(any::<u8>(), 120..140),
            1 => (16_000usize..17_000).prop_map(text),
        ];
        prop_oneof![
            4 => (any::<usize>(), payload.clone()).prop_map(|(i, p)| Step::Insert(i, p)),
            2 => any::<usize>().prop_map(Step::Remove),
            1 => (any::<usize>(), payload).prop_map(|(i, p)| Step::Replace(i, p)),
        ]
    }

    fn play<const BACK: bool>(steps: Vec<Step>) -> (Packed<BACK>, Vec<Vec<u8>>) {
        let (mut packed, mut model) = (Packed::<BACK>::new(), Vec::<Vec<u8>>::new());
        for step in steps {
            match step {
                Step::Insert(i, p) => {
                    let i = i % (model.len() + 1);
                    let half = p.len() / 2;
                    packed.insert(packed.position(i), &p[..half], &p[half..]);
                    model.insert(i, p);
                }
                Step::Remove(i) if !model.is_empty() => {
                    let i = i % model.len();
                    packed.remove(packed.position(i), 1);
                    model.remove(i);
                }
                Step::Replace(i, p) if !model.is_empty() => {
                    let i = i % model.len();
                    packed.replace(packed.position(i), &p, &[]);
                    model[i] = p;
                }
                _ => {}
            }
            packed.check();
            assert_eq!(packed.len(), model.len());
        }
        (packed, model)
    }

    proptest! {
        #[test]
        fn packed_behaves_as_a_vec(steps in proptest::collection::vec(step(), 0..120)) {
            let (packed, model) = play::<false>(steps.clone());
            prop_assert!(packed.iter().eq(model.iter().map(Vec::as_slice)));
            let (packed, model) = play::<true>(steps);
            prop_assert!(packed.iter().eq(model.iter().map(Vec::as_slice)));
            prop_assert!(packed.iter().rev().eq(model.iter().rev().map(Vec::as_slice)));
        }
    }
}
