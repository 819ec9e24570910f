//! Hot path. A large list: a deque of chunks.
//!
//! An element's chunk is found by binary search: chunk `c` knows the number of its first element, counted
//! from an origin that moves with the head, so pushes and pops at the ends change one chunk's number.
//! A change in the middle makes the numbers behind it wrong; only the first `numbered` chunks are
//! trusted, and later calls repair a bounded number of them each.
//!
//! Chunks are filled, split and joined where Redis's quicklist does it, so that a list becomes a
//! "listpack" again when it would there.

use std::collections::VecDeque;

use crate::account::class_size;
use crate::limits::ChunkLimit;
use crate::packed::Records;
use crate::value::Side;
use crate::value::chunk::Chunk;

/// Chunk numbers repaired per change, at most.
const RENUMBER_MAX: usize = 64;
/// From this many chunks on a new chunk gets a whole block at once.
const WHOLE_CHUNKS_MIN: usize = 4;

/// A large list. Only a list of no elements has no chunks; no chunk is empty.
#[derive(Clone)]
pub(super) struct Deque {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// How many chunks, from the left, have the right number.
    numbered: usize,
    /// Sum of the chunks' heap bytes.
    chunk_bytes: usize,
    limit: ChunkLimit,
    /// Whether Redis would call this list a quicklist; if not, there is one chunk.
    quicklist: bool,
}

impl Deque {
    /// A listpack of these elements.
    pub(super) fn listpack<'a>(items: impl Iterator<Item = &'a [u8]>, limit: ChunkLimit) -> Self {
        let mut chunk = Chunk::new(0);
        chunk.append(items);
        let (len, chunk_bytes) = (chunk.len(), chunk.heap_bytes());
        let chunks = if len == 0 {
            VecDeque::new()
        } else {
            VecDeque::from([chunk])
        };
        let numbered = chunks.len();
        Self {
            chunks,
            len,
            numbered,
            chunk_bytes,
            limit,
            quicklist: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_quicklist(&self) -> bool {
        self.quicklist
    }

    /// Is one again that was one before.
    pub(super) fn make_quicklist(&mut self) {
        self.quicklist = true;
    }

    /// Bytes that the records take.
    pub(super) fn is_tiny(&self, bytes: usize, count: usize) -> bool {
        !self.quicklist
            && self.len <= count
            && self
                .chunks
                .front()
                .is_none_or(|chunk| chunk.used_bytes() <= bytes)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        class_size(size_of::<Self>())
            + class_size(self.chunks.capacity() * size_of::<Chunk>())
            + self.chunk_bytes
    }

    /// Changes a chunk and keeps the byte count.
    #[inline]
    fn edit(&mut self, c: usize, f: impl FnOnce(&mut Chunk)) {
        let chunk = &mut self.chunks[c];
        let before = chunk.heap_bytes();
        f(chunk);
        self.chunk_bytes += chunk.heap_bytes();
        self.chunk_bytes -= before;
    }

    /// Becomes a quicklist if the listpack cannot take `bytes` more (Redis asks before the change).
    fn make_room(&mut self, bytes: usize, limit: ChunkLimit) {
        self.limit = limit;
        if !self.quicklist {
            let now = self.chunks.front().map_or(0, Chunk::listpack_bytes);
            self.quicklist = limit.exceeded(now + bytes, self.len + 1);
        }
    }

    /// Becomes a listpack again if Redis would.
    fn settle(&mut self) {
        if self.quicklist
            && let (1, Some(chunk)) = (self.chunks.len(), self.chunks.front())
        {
            self.quicklist = !self.limit.at_most_half(chunk.listpack_bytes(), chunk.len());
        }
    }

    fn takes(&self, c: usize, item: &[u8]) -> bool {
        !self.quicklist || self.chunks[c].allows(item, self.limit)
    }

    #[inline]
    pub(super) fn push(&mut self, side: Side, item: &[u8], limit: ChunkLimit) {
        self.make_room(item.len(), limit);
        let last = self.chunks.len().wrapping_sub(1);
        let c = if side == Side::Left { 0 } else { last };
        if self.chunks.is_empty() || !self.takes(c, item) {
            self.push_chunk(side, item);
        } else {
            self.edit(c, |chunk| chunk.push(side, item));
            if side == Side::Left {
                self.chunks[0].first -= 1;
            }
        }
        self.len += 1;
        if self.numbered < self.chunks.len() {
            self.renumber(RENUMBER_MAX);
        }
    }

    fn push_chunk(&mut self, side: Side, item: &[u8]) {
        let whole =
            self.chunks.len() >= WHOLE_CHUNKS_MIN && matches!(self.limit, ChunkLimit::Bytes(_));
        let capacity = if whole {
            self.limit.bytes_max().min(8192)
        } else {
            0
        };
        let mut chunk = Chunk::new(capacity);
        chunk.push(side, item);
        self.chunk_bytes += chunk.heap_bytes();
        match side {
            Side::Left => {
                chunk.first = self.chunks.front().map_or(0, |next| next.first - 1);
                self.chunks.push_front(chunk);
                self.numbered += 1;
            }
            Side::Right => {
                if self.numbered == self.chunks.len() {
                    chunk.first = self.chunks.back().map_or(0, |c| c.first + c.len() as i64);
                    self.numbered += 1;
                }
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Extends the numbered chunks by up to `max`.
    #[cold]
    fn renumber(&mut self, max: usize) {
        for _ in 0..max {
            let c = self.numbered;
            if c == 0 || c >= self.chunks.len() {
                return;
            }
            self.chunks[c].first = self.chunks[c - 1].first + self.chunks[c - 1].len() as i64;
            self.numbered += 1;
        }
    }

    pub(super) fn peek(&self, side: Side) -> Option<&[u8]> {
        match side {
            Side::Left => self.chunks.front()?.peek(side),
            Side::Right => self.chunks.back()?.peek(side),
        }
    }

    /// Removes the element at one end.
    #[inline]
    pub(super) fn drop_end(&mut self, side: Side) {
        let Some(last) = self.chunks.len().checked_sub(1) else {
            return;
        };
        let c = if side == Side::Left { 0 } else { last };
        let chunk = &mut self.chunks[c];
        chunk.drop_end(side);
        if side == Side::Left {
            chunk.first += 1;
        }
        self.len -= 1;
        if chunk.len() == 0 {
            self.drop_chunk(side);
        }
        self.settle();
    }

    fn drop_chunk(&mut self, side: Side) -> usize {
        let chunk = match side {
            Side::Left => self.chunks.pop_front(),
            Side::Right => self.chunks.pop_back(),
        };
        let Some(chunk) = chunk else { return 0 };
        self.chunk_bytes -= chunk.heap_bytes();
        if side == Side::Left {
            self.numbered -= 1;
            if self.numbered == 0
                && let Some(next) = self.chunks.front_mut()
            {
                next.first = chunk.first + chunk.len() as i64;
                self.numbered = 1;
            }
        }
        self.numbered = self.numbered.min(self.chunks.len());
        chunk.len()
    }

    /// The chunk of element `index` and the element's place in it; for the length itself, the place
    /// behind the last element.
    fn locate(&self, index: usize) -> (usize, usize) {
        let (Some(head), Some(tail)) = (self.chunks.front(), self.chunks.back()) else {
            return (0, index);
        };
        if index < head.len() {
            return (0, index);
        }
        if index >= self.len - tail.len() {
            return (self.chunks.len() - 1, index - (self.len - tail.len()));
        }
        let number = head.first + index as i64;
        let (mut low, mut high) = (0, self.numbered);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.chunks[middle].first <= number {
                low = middle
            } else {
                high = middle
            }
        }
        let mut place = (number - self.chunks[low].first) as usize;
        // At most one step, except behind the numbered chunks.
        while place >= self.chunks[low].len() {
            place -= self.chunks[low].len();
            low += 1;
        }
        (low, place)
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= self.len {
            return None;
        }
        let (c, place) = self.locate(index);
        self.chunks[c].get(place)
    }

    /// Replaces element `index`, which exists.
    pub(super) fn set(&mut self, index: usize, item: &[u8], limit: ChunkLimit) {
        self.make_room(item.len(), limit);
        let (c, place) = self.locate(index);
        if item.len() > limit.bytes_max() && self.chunks[c].len() > 1 {
            // A long element gets a chunk of its own, or every change near it would move it.
            self.remove(index);
            self.quicklist = true;
            self.insert(index, item, limit);
        } else {
            self.edit(c, |chunk| chunk.replace(place, item));
        }
        self.settle();
    }

    /// Inserts before element `index` (at most the length).
    pub(super) fn insert(&mut self, index: usize, item: &[u8], limit: ChunkLimit) {
        if index == 0 || index >= self.len {
            let side = if index == 0 { Side::Left } else { Side::Right };
            return self.push(side, item, limit);
        }
        self.make_room(item.len(), limit);
        let (c, place) = self.locate(index);
        if self.takes(c, item) {
            self.edit(c, |chunk| chunk.insert(place, item));
            self.numbered = self.numbered.min(c + 1);
        } else if place == 0 && c > 0 && self.takes(c - 1, item) {
            self.edit(c - 1, |chunk| chunk.push(Side::Right, item));
            self.numbered = self.numbered.min(c);
        } else {
            self.insert_by_split(c, place, item);
        }
        self.len += 1;
        self.renumber(RENUMBER_MAX);
    }

    /// Inserts between chunks, after splitting chunk `c` at `place` (if that is inside of it).
    fn insert_by_split(&mut self, mut c: usize, place: usize, item: &[u8]) {
        self.numbered = self.numbered.min(c.max(1));
        if place > 0 {
            let right = self.chunks[c].split_off(place);
            self.chunk_bytes += right.heap_bytes();
            c += 1;
            self.chunks.insert(c, right);
            self.numbered = self.numbered.min(c);
        }
        // Now the place is between the chunks c - 1 and c.
        if self.takes(c - 1, item) {
            self.edit(c - 1, |chunk| chunk.push(Side::Right, item));
        } else if self.takes(c, item) {
            self.edit(c, |chunk| chunk.push(Side::Left, item));
        } else {
            let mut chunk = Chunk::new(0);
            chunk.push(Side::Right, item);
            self.chunk_bytes += chunk.heap_bytes();
            self.chunks.insert(c, chunk);
        }
        self.join(c + 1);
        self.join(c);
        self.join(c - 1);
    }

    /// Joins chunk `c` to its left neighbour if both fit in one.
    fn join(&mut self, c: usize) {
        if c == 0 || c >= self.chunks.len() {
            return;
        }
        if !self.chunks[c - 1].may_join(&self.chunks[c], self.limit) {
            return;
        }
        let Some(right) = self.chunks.remove(c) else {
            return;
        };
        self.chunk_bytes -= right.heap_bytes();
        self.edit(c - 1, |chunk| chunk.append(right.records()));
        self.numbered = self.numbered.min(c);
    }

    /// Removes element `index`, which exists.
    pub(super) fn remove(&mut self, index: usize) {
        if index == 0 || index + 1 == self.len {
            let side = if index == 0 { Side::Left } else { Side::Right };
            return self.drop_end(side);
        }
        let (c, place) = self.locate(index);
        self.edit(c, |chunk| chunk.remove(place, 1));
        self.len -= 1;
        self.numbered = self.numbered.min(c + 1);
        if self.chunks[c].len() == 0 {
            if c == 0 {
                self.drop_chunk(Side::Left);
            } else if let Some(chunk) = self.chunks.remove(c) {
                self.chunk_bytes -= chunk.heap_bytes();
                self.numbered = self.numbered.min(c);
            }
        }
        self.renumber(RENUMBER_MAX);
        self.settle();
    }

    /// Removes `n` elements (at most all) at one end: whole chunks first, then part of one.
    pub(super) fn drop_many(&mut self, side: Side, mut n: usize) {
        while n > 0 {
            let end = match side {
                Side::Left => self.chunks.front(),
                Side::Right => self.chunks.back(),
            };
            let Some(count) = end.map(Chunk::len) else {
                break;
            };
            if count <= n {
                n -= count;
                self.len -= self.drop_chunk(side);
                continue;
            }
            let c = if side == Side::Left {
                0
            } else {
                self.chunks.len() - 1
            };
            let place = if side == Side::Left { 0 } else { count - n };
            self.edit(c, |chunk| chunk.remove(place, n));
            if side == Side::Left {
                self.chunks[0].first += n as i64;
            }
            self.len -= n;
            n = 0;
        }
        self.settle();
    }

    /// Frees chunks until about `n` elements are gone; whether nothing is left.
    pub(super) fn free_some(&mut self, n: usize) -> bool {
        let mut left = n.max(1);
        while left > 0 && !self.chunks.is_empty() {
            let freed = self.drop_chunk(Side::Right);
            self.len -= freed;
            left = left.saturating_sub(freed);
        }
        self.chunks.is_empty()
    }

    /// Elements from `index` on.
    pub(super) fn iter_from(&self, index: usize) -> Forward<'_> {
        if index >= self.len {
            return Forward {
                chunks: &self.chunks,
                next: usize::MAX,
                records: Records::default(),
            };
        }
        let (c, place) = self.locate(index);
        Forward {
            chunks: &self.chunks,
            next: c + 1,
            records: self.chunks[c].records_from(place),
        }
    }

    /// Elements from `index` (which exists) down to the first.
    pub(super) fn iter_rev_from(&self, index: usize) -> Backward<'_> {
        if index >= self.len {
            return Backward {
                chunks: &self.chunks,
                next: 0,
                records: Records::default(),
            };
        }
        let (c, place) = self.locate(index);
        Backward {
            chunks: &self.chunks,
            next: c,
            records: self.chunks[c].records_until(place + 1),
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self) {
        assert!(
            self.quicklist || self.chunks.len() <= 1,
            "a listpack is one chunk"
        );
        assert_eq!(self.numbered == 0, self.chunks.is_empty());
        assert!(self.numbered <= self.chunks.len());
        let (mut len, mut bytes) = (0, 0);
        for (c, chunk) in self.chunks.iter().enumerate() {
            chunk.check();
            if c < self.numbered {
                assert_eq!(
                    chunk.first,
                    self.chunks[0].first + len as i64,
                    "chunk {c}'s number"
                );
            }
            len += chunk.len();
            bytes += chunk.heap_bytes();
        }
        assert_eq!((len, bytes), (self.len, self.chunk_bytes));
    }
}

/// Elements first to last.
pub(super) struct Forward<'a> {
    chunks: &'a VecDeque<Chunk>,
    /// The chunk behind the one being walked.
    next: usize,
    records: Records<'a, true>,
}

impl<'a> Iterator for Forward<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(item) = self.records.next() {
            return Some(item);
        }
        self.records = self.chunks.get(self.next)?.records();
        self.next += 1;
        self.records.next()
    }
}

/// Elements last to first.
pub(super) struct Backward<'a> {
    chunks: &'a VecDeque<Chunk>,
    /// The chunk being walked; those before it are still to come.
    next: usize,
    records: Records<'a, true>,
}

impl<'a> Iterator for Backward<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(item) = self.records.next_back() {
            return Some(item);
        }
        self.next = self.next.checked_sub(1)?;
        self.records = self.chunks.get(self.next)?.records();
        self.records.next_back()
    }
}
