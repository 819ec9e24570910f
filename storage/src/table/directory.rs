//! Segments of one large table: extendible hashing.

use super::Entry;
use super::segment::{ADDRESS_BITS, ADDRESS_MASK, STEP_LAST, Segment, dense_step_for, entry_of};
use crate::account::class_size;

/// How far ahead of its reading a split asks for entries.
pub(super) const SPLIT_AHEAD_BUCKETS: usize = 4;

/// Segments of one large table, found by the top `depth` bits of the hash.
pub(super) struct Directory {
    pub(super) depth: u8,
    pub(super) index: Vec<u32>,
    pub(super) segments: Vec<Segment>,
    /// Heap of all of it, its own box and the arrays of all segments. Asked before and after every change of a large collection, so it
    /// is kept.
    pub(super) heap_bytes: usize,
}

impl Directory {
    #[inline(always)]
    pub(super) fn at(&self, hash: u64) -> usize {
        let top = if self.depth == 0 {
            0
        } else {
            hash >> (64 - u32::from(self.depth))
        };
        self.index[top as usize] as usize
    }

    /// One that leads to one segment.
    pub(super) fn of(segment: Segment) -> Directory {
        let mut directory = Directory {
            depth: 0,
            index: vec![0],
            heap_bytes: segment.heap_bytes(),
            segments: vec![segment],
        };
        directory.heap_bytes += directory.own_bytes();
        directory
    }

    /// Heap without the segments' arrays.
    pub(super) fn own_bytes(&self) -> usize {
        class_size(size_of::<Directory>())
            + class_size(self.index.capacity() * size_of::<u32>())
            + class_size(self.segments.capacity() * size_of::<Segment>())
    }

    /// The array of a segment has grown.
    #[inline(always)]
    pub(super) fn grew(&mut self, bytes: isize) {
        self.heap_bytes = self.heap_bytes.wrapping_add_signed(bytes);
    }

    /// Splits the segment of `hash` on its next hash bit. Returns the words, with their tags, for which the halves have no room:
    /// hashes that come in order crowd a few buckets.
    #[must_use = "they are in no segment"]
    pub(super) fn split<E: Entry>(
        &mut self,
        hash: u64,
        rehash: &impl Fn(E) -> u64,
    ) -> Vec<(u8, u64)> {
        let mut rest = Vec::new();
        let before = self.own_bytes();
        let which = self.at(hash);
        let old_depth = self.segments[which].depth;
        if old_depth == self.depth {
            self.index = self.index.iter().flat_map(|&s| [s, s]).collect();
            self.depth += 1;
        }
        let depth = old_depth + 1;
        let mut old = core::mem::replace(&mut self.segments[which], Segment::new(depth));
        let fresh = self.segments.len();
        self.segments.push(Segment::new(depth));
        // Entries of the directory that led to `which`: the upper half now leads to the new one.
        let span = 1usize << (self.depth - old_depth);
        let first = (hash >> (64 - u32::from(self.depth))) as usize & !(span - 1);
        for i in first + span / 2..first + span {
            self.index[i] = fresh as u32;
        }
        // The highest bit of a position is that by which they part. An array that is too small for its half grows like any other.
        let words = (0..old.total()).flat_map(|number| old.lanes(number));
        let upper = words.filter(|(_, word)| word >> 63 == 1).count();
        let lower = old.len as usize - upper;
        let mut parts = [lower, upper].map(|len| Segment::allocate(dense_step_for(len), depth));
        for number in 0..old.total() {
            // Every entry is a cache miss, so those of a later bucket are asked for ahead.
            if number + SPLIT_AHEAD_BUCKETS < old.total() {
                old.fetch(number + SPLIT_AHEAD_BUCKETS);
            }
            for (tag, word) in old.lanes(number) {
                let hash = rehash(entry_of(word));
                let part = ((hash >> (64 - u32::from(depth))) & 1) as usize;
                let position = (hash << depth) >> 48;
                let word = (word & ADDRESS_MASK) | (position << ADDRESS_BITS);
                if parts[part].insert(tag, word, |_| STEP_LAST).is_none() {
                    rest.push((tag, word));
                }
            }
        }
        self.heap_bytes = self.heap_bytes + self.own_bytes() - before - old.heap_bytes();
        old.free();
        for part in &mut parts {
            if part.len == 0 {
                part.free();
            }
            self.heap_bytes += part.heap_bytes();
        }
        let [low, high] = parts;
        self.segments[which] = low;
        self.segments[fresh] = high;
        rest
    }
}
