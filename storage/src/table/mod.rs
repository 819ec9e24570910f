//! The table behind a slot and behind a large hash, set or sorted set: pointers in 64-byte buckets.
//!
//! Hot path. A hit costs two cache misses: one bucket, one entry. `unsafe` lives here (tidy's list).
//!
//! ```text
//! Table (16 B) ── small ──> [ main buckets ... | overflow buckets ... ]        one allocation
//!              └─ large ──> Directory { index: 2^depth -> segment }  each segment such an array
//!
//! Bucket, one cache line:   7 tag bytes + 1 chain byte | 7 words: 16 position bits + 48 address bits
//! ```
//!
//! * `tag` is the low byte of the hash (never 0; 0 marks a free lane). One SWAR compare rejects 99.6 % of strangers.
//! * `position` is the 16 hash bits below the directory's prefix. The bucket of an entry is
//!   `position * main >> 16` (fastrange), so a segment of *any* number of buckets is in hash order
//!   and grows by a step of its ladder (about 1.2 x) **without reading a single entry**.
//! * A full bucket chains to an overflow bucket of the same allocation (chain byte: its number, 0 = none), which it shares with
//!   others: so an array grows only when all overflow is used up, at almost 7 entries a main bucket: 10.5 to 13 bytes an entry, 11.5 on average.
//! * A segment at the end of its ladder splits in two on the next hash bit (extendible hashing). That
//!   reads its ~500 to 1,000 keys and makes each half as large as it must be, so the longest growth step is bounded also when one table holds
//!   everything (all keys share a hash tag). Where the ladder ends differs from segment to segment, so that
//!   they do not all split at once.
//! * Scan order is hash order, so a cursor (a hash prefix of [`CURSOR_BITS`] bits) survives growth,
//!   shrinking and restarts: whatever stays in the table during a scan is seen; after a shrink some
//!   entries may be seen twice.
//!
//! The table stores copies of entry pointers and never frees what they point to: its owner does.
#![allow(
    unsafe_code,
    reason = "buckets are a raw array: tagged words, no initialised Option per lane"
)]

mod directory;
mod segment;

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::SLOTS;
use directory::Directory;
use segment::{ADDRESS_BITS, ADDRESS_MASK, LANES, Segment, last_step, tag_of};
pub(crate) use segment::{address_of, entry_of};

/// Bits of the hash prefix that a scan cursor carries.
pub(crate) const CURSOR_BITS: u32 = 38;

/// `step` of a table whose pointer is a `Box<Directory>`.
const LARGE: u8 = u8::MAX;

/// A pointer to one heap block, as the table stores it.
///
/// # Safety
/// `into_raw` must give an address below 2^48 that is not null, and `from_raw(x.into_raw())` must
/// be the same entry as `x`.
pub(crate) unsafe trait Entry: Copy {
    /// The block's address; its lowest bits may say more, which the table keeps.
    fn into_raw(self) -> NonNull<u8>;
    /// The entry back from its address.
    ///
    /// # Safety
    /// 1. `raw` came from `into_raw` of the same type and its block is still live.
    unsafe fn from_raw(raw: NonNull<u8>) -> Self;
}

/// Where a table finds an entry: valid until the table changes.
pub(crate) struct Place<'t, E> {
    word: &'t mut u64,
    entry: PhantomData<E>,
}

impl<E: Entry> Place<'_, E> {
    /// The entry there.
    #[inline]
    pub(crate) fn get(&self) -> E {
        entry_of(*self.word)
    }

    /// Puts another block in its place; its key must have the same hash.
    #[inline]
    pub(crate) fn set(&mut self, entry: E) {
        *self.word = (*self.word & !ADDRESS_MASK) | address_of(entry);
    }
}

/// A map from hashes to entries: see the module's head.
pub(crate) struct Table<E: Entry> {
    /// Buckets of the only segment, or a `Box<Directory>` when `step == LARGE`.
    root: Segment,
    entry: PhantomData<E>,
}
const _: () = assert!(size_of::<Table<NonNull<u8>>>() == 16);

// SAFETY: the raw address of a block: never null, user addresses are below 2^48 on the supported
// targets (x86-64 and AArch64 with 48-bit virtual addresses), and it round-trips.
unsafe impl Entry for NonNull<u8> {
    fn into_raw(self) -> NonNull<u8> {
        self
    }
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        raw
    }
}

// SAFETY: a table holds plain addresses; whoever owns the blocks decides whether they may move to
// another thread, and the only owner that moves tables (a shard lending a slot) moves blocks with them.
unsafe impl<E: Entry> Send for Table<E> {}

impl<E: Entry> Default for Table<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Entry> Table<E> {
    /// An empty table; allocates nothing.
    pub(crate) const fn new() -> Self {
        Table {
            root: Segment::new(0),
            entry: PhantomData,
        }
    }

    /// Entries held.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.root.len as usize
    }

    /// Whether nothing is held.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.len == 0
    }

    #[inline(always)]
    fn is_large(&self) -> bool {
        self.root.step == LARGE
    }

    #[inline(always)]
    fn directory(&self) -> &Directory {
        debug_assert!(self.is_large());
        // SAFETY: a large root's pointer is a leaked `Box<Directory>` owned by this table.
        unsafe { &*self.root.buckets.cast::<Directory>() }
    }

    #[inline(always)]
    fn directory_mut(&mut self) -> &mut Directory {
        debug_assert!(self.is_large());
        // SAFETY: as `directory`; `&mut self` makes it unique.
        unsafe { &mut *self.root.buckets.cast::<Directory>() }
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> &Segment {
        if self.is_large() {
            let directory = self.directory();
            &directory.segments[directory.at(hash)]
        } else {
            &self.root
        }
    }

    fn segments(&self) -> &[Segment] {
        if self.is_large() {
            &self.directory().segments
        } else {
            core::slice::from_ref(&self.root)
        }
    }

    /// Bytes of heap held by the table itself, rounded as the allocator does.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        if self.is_large() {
            self.directory().heap_bytes
        } else {
            self.root.heap_bytes()
        }
    }

    /// Asks for the table itself ahead of its use.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch(core::ptr::from_ref(self).cast());
    }

    /// Asks for the bucket of `hash` ahead of its use.
    #[inline(always)]
    pub(crate) fn prefetch_bucket(&self, hash: u64) {
        let segment = self.segment(hash);
        if !segment.buckets.is_null() {
            prefetch(segment.buckets.wrapping_add(segment.home(hash)).cast());
        }
    }

    /// Asks for the first entry whose tag fits; its bucket should have been asked for before.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        if let Some(word) = self.first_word(hash) {
            let address = (word & ADDRESS_MASK) as *const u8;
            prefetch(address);
            // A key of 16 with a value of 64 bytes does not end in the first line.
            prefetch(address.wrapping_add(64));
        }
    }

    /// The first entry whose tag fits: very probably that of `hash`, if it is there and not in an overflow bucket.
    #[inline(always)]
    pub(crate) fn guess(&self, hash: u64) -> Option<E> {
        self.first_word(hash).map(entry_of)
    }

    /// The first word in the home of `hash` whose tag fits.
    #[inline(always)]
    fn first_word(&self, hash: u64) -> Option<u64> {
        let segment = self.segment(hash);
        if segment.buckets.is_null() {
            return None;
        }
        let bucket = segment.bucket(segment.home(hash));
        let mask = bucket.matches(tag_of(hash));
        (mask != 0).then(|| bucket.words[(mask.trailing_zeros() / 8) as usize])
    }

    /// The entry of this hash for which `eq` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, eq: impl FnMut(E) -> bool) -> Option<E> {
        let segment = self.segment(hash);
        let (number, lane) = segment.find(hash, eq)?;
        Some(entry_of(segment.bucket(number).words[lane]))
    }

    /// As [`Table::find`], to replace the entry in place.
    #[inline]
    pub(crate) fn find_mut(
        &mut self,
        hash: u64,
        eq: impl FnMut(E) -> bool,
    ) -> Option<Place<'_, E>> {
        let segment = self.segment_mut(hash);
        let (number, lane) = segment.find(hash, eq)?;
        Some(Place {
            word: &mut segment.bucket_mut(number).words[lane],
            entry: PhantomData,
        })
    }

    #[inline(always)]
    fn segment_mut(&mut self, hash: u64) -> &mut Segment {
        if self.is_large() {
            let directory = self.directory_mut();
            let at = directory.at(hash);
            &mut directory.segments[at]
        } else {
            &mut self.root
        }
    }

    /// Adds an entry that the caller knows to be absent; returns by how many bytes the table grew.
    /// `rehash` gives the hash of any entry (used only when a segment splits).
    pub(crate) fn insert_new(&mut self, hash: u64, entry: E, rehash: impl Fn(E) -> u64) -> isize {
        let tag = tag_of(hash);
        let address = address_of(entry);
        let mut split = 0;
        loop {
            let large = self.is_large();
            let segment = self.segment_mut(hash);
            let word = address | (segment.position(hash) << ADDRESS_BITS);
            if let Some(grown) = segment.insert(tag, word, |depth| last_step(hash, depth)) {
                if large {
                    self.root.len += 1;
                    self.directory_mut().grew(grown);
                }
                return split + grown;
            }
            let before = self.heap_bytes();
            self.split(hash, &rehash);
            split += self.heap_bytes() as isize - before as isize;
        }
    }

    /// Makes room for about `len` entries in a table that has none; returns by how many bytes it grew. An entry must follow.
    pub(crate) fn reserve(&mut self, len: usize) -> isize {
        if self.is_large() {
            return 0;
        }
        self.root.reserve(len)
    }

    #[cold]
    fn split(&mut self, hash: u64, rehash: &impl Fn(E) -> u64) {
        if !self.is_large() {
            let segment = core::mem::replace(&mut self.root, Segment::new(0));
            let len = segment.len;
            let directory = Directory::of(segment);
            let root = Box::into_raw(Box::new(directory)).cast();
            self.root = Segment {
                buckets: root,
                len,
                step: LARGE,
                mains: 0,
                depth: 0,
                overflow_used: 0,
            };
        }
        let mut rest = self.directory_mut().split(hash, rehash);
        while let Some((tag, word)) = rest.pop() {
            let hash = rehash(entry_of(word));
            let segment = self.segment_mut(hash);
            let word = (word & ADDRESS_MASK) | (segment.position(hash) << ADDRESS_BITS);
            match segment.insert(tag, word, |depth| last_step(hash, depth)) {
                Some(grown) => self.directory_mut().grew(grown),
                None => {
                    rest.push((tag, word));
                    rest.extend(self.directory_mut().split(hash, rehash));
                }
            }
        }
    }

    /// Takes out the entry of this hash for which `eq` holds.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u64, eq: impl FnMut(E) -> bool) -> Option<E> {
        Some(self.remove_counted(hash, eq)?.0)
    }

    /// As [`Table::remove`], and by how many bytes the table changed.
    #[inline]
    pub(crate) fn remove_counted(
        &mut self,
        hash: u64,
        eq: impl FnMut(E) -> bool,
    ) -> Option<(E, isize)> {
        let large = self.is_large();
        let segment = self.segment_mut(hash);
        let (number, lane) = segment.find(hash, eq)?;
        let (word, mut grown) = segment.remove_at(number, lane);
        if large {
            self.directory_mut().grew(grown);
            self.root.len -= 1;
            if self.root.len == 0 {
                grown -= self.heap_bytes() as isize;
                self.clear();
            }
        }
        Some((entry_of(word), grown))
    }

    /// All entries, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = E> + '_ {
        self.segments().iter().flat_map(|segment| {
            (0..segment.total()).flat_map(|n| segment.lanes(n).map(|(_, word)| entry_of(word)))
        })
    }

    /// Shows at least `count` entries (when there are so many) from `cursor` on, in hash order;
    /// returns the next cursor, below 2^[`CURSOR_BITS`], 0 at the end.
    pub(crate) fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(E)) -> u64 {
        let mut left = count.max(1);
        let mut hash = cursor << (64 - CURSOR_BITS);
        loop {
            let segment = self.segment(hash);
            if let Some(position) = segment.scan(segment.position(hash), &mut left, &mut f) {
                let prefix = hash & prefix_mask(segment.depth);
                let at = prefix | (position << 48 >> segment.depth);
                // Rounded down: a finer cursor than its bits would skip nothing, only repeat.
                return (at >> (64 - CURSOR_BITS)).max(1);
            }
            let end = (hash | !prefix_mask(segment.depth)).wrapping_add(1);
            if end == 0 {
                return 0;
            }
            hash = end;
            if left == 0 {
                return hash >> (64 - CURSOR_BITS);
            }
        }
    }

    /// Shows all entries of the bucket that a hash leads to. By random hashes each entry is about as likely.
    pub(crate) fn neighbours(&self, hash: u64, mut f: impl FnMut(E)) {
        let segment = self.segment(hash);
        if segment.buckets.is_null() {
            return;
        }
        let (home, main) = (segment.home(hash), segment.main() as u64);
        let mut number = Some(home);
        while let Some(at) = number {
            // An overflow bucket holds entries of other chains too.
            let is_of_home = |word: u64| ((word >> ADDRESS_BITS) * main) >> 16 == home as u64;
            let words = segment.lanes(at).map(|(_, word)| word);
            words
                .filter(|word| is_of_home(*word))
                .for_each(|word| f(entry_of(word)));
            number = segment.next(at);
        }
    }

    /// Shows the entries whose hashes begin with the top `bits` of `hash`, as far as the table knows: it reads no entry, and sees 16 bits
    /// below the directory's prefix.
    pub(crate) fn with_prefix(&self, hash: u64, bits: u8, mut f: impl FnMut(E)) {
        let mut first = hash & prefix_mask(bits);
        let last = first | !prefix_mask(bits);
        loop {
            let segment = self.segment(first);
            let end = first | !prefix_mask(segment.depth);
            let positions = segment.position(first)..=segment.position(last.min(end));
            segment.with_positions(positions, &mut f);
            if end >= last {
                return;
            }
            first = end + 1;
        }
    }

    /// Some entry, each about as likely, chosen by random `bits`.
    pub(crate) fn random(&self, bits: u64) -> Option<E> {
        if !self.is_large() {
            return self.root.random(bits);
        }
        let segments = &self.directory().segments;
        let mut at = bits;
        for _ in 0..128 {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // By the hashes that lead to it: a segment of few bits holds twice as many as one of a bit more.
            let segment = &segments[self.directory().at(at)];
            if segment.len > 0 {
                return segment.random(at);
            }
        }
        segments.iter().find_map(|s| s.random(at))
    }

    /// Takes out up to `n` entries, whichever are cheapest; fewer only when the table is empty then.
    pub(crate) fn drain_some(&mut self, n: usize, mut f: impl FnMut(E)) {
        let mut left = n;
        while left > 0 && !self.is_empty() {
            let large = self.is_large();
            if large && self.directory().segments.last().is_some_and(|s| s.len == 0) {
                // Draining is terminal (the owner is being freed), so segments may go in any order,
                // which leaves the directory's index pointing nowhere: nobody looks anything up.
                let directory = self.directory_mut();
                if let Some(mut segment) = directory.segments.pop() {
                    directory.heap_bytes -= segment.heap_bytes();
                    segment.free();
                }
                continue;
            }
            let segment = if large {
                match self.directory_mut().segments.last_mut() {
                    Some(segment) => segment,
                    None => return,
                }
            } else {
                &mut self.root
            };
            let mut taken = 0;
            'buckets: for number in 0..segment.total() {
                for lane in 0..LANES {
                    if taken == left {
                        break 'buckets;
                    }
                    let bucket = segment.bucket_mut(number);
                    if bucket.tag(lane) != 0 {
                        f(entry_of(bucket.words[lane]));
                        bucket.put(lane, 0, 0);
                        taken += 1;
                    }
                }
            }
            segment.len -= taken as u32;
            left -= taken;
            if large {
                self.root.len -= taken as u32;
            }
            if self.root.len == 0 {
                self.clear();
            }
        }
    }

    /// Forgets everything and gives the buckets back (not what the entries point to).
    pub(crate) fn clear(&mut self) {
        if self.is_large() {
            let root = self.root.buckets.cast::<Directory>();
            self.root = Segment::new(0);
            // SAFETY: made by `Box::into_raw` in `split`, and the root no longer points to it.
            let mut directory = unsafe { Box::from_raw(root) };
            for segment in &mut directory.segments {
                segment.free();
            }
        } else {
            self.root.free();
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check(&self, rehash: impl Fn(E) -> u64) {
        let mut seen = 0;
        for segment in self.segments() {
            let mut here = 0;
            for number in 0..segment.total() {
                for (tag, word) in segment.lanes(number) {
                    let hash = rehash(entry_of(word));
                    assert_eq!(tag, tag_of(hash));
                    assert_eq!(word >> ADDRESS_BITS, segment.position(hash));
                    let address = word & ADDRESS_MASK;
                    let found = self.find(hash, |e: E| address_of(e) == address);
                    assert!(found.is_some(), "every entry is found by its hash");
                    here += 1;
                }
            }
            assert_eq!(here, segment.len);
            seen += here;
        }
        assert_eq!(seen, self.root.len);
        if self.is_large() {
            let d = self.directory();
            let bytes: usize = d.segments.iter().map(Segment::heap_bytes).sum();
            assert_eq!(bytes + d.own_bytes(), d.heap_bytes, "all is accounted for");
            for (at, &which) in d.index.iter().enumerate() {
                let depth = d.segments[which as usize].depth;
                let first = at >> (d.depth - depth) << (d.depth - depth);
                assert_eq!(d.index[first], which, "a segment's entries lie together");
            }
        }
    }
}

/// The table of one slot in one database, with what is known of its items: whoever moves the slot
/// (to another core, to the garbage) moves the numbers with it and need not walk anything.
pub(crate) struct SlotTable<E: Entry> {
    /// The items.
    pub(crate) table: Table<E>,
    /// Bytes of table, items and values, as the allocator rounds them.
    pub(crate) bytes: usize,
    /// Items with a deadline.
    pub(crate) expires: u32,
}
const _: () = assert!(size_of::<SlotTable<NonNull<u8>>>() == 32);

impl<E: Entry> Default for SlotTable<E> {
    fn default() -> Self {
        SlotTable {
            table: Table::new(),
            bytes: 0,
            expires: 0,
        }
    }
}

/// Tables of all slots, empty; memory that is never written costs nothing.
pub(crate) fn zeroed_tables<E: Entry>() -> Box<[SlotTable<E>; SLOTS]> {
    // SAFETY: all zeroes are an empty table (a null pointer, length 0, step 0, depth 0) and counts of 0.
    unsafe { Box::<[SlotTable<E>; SLOTS]>::new_zeroed().assume_init() }
}

impl<E: Entry> Drop for Table<E> {
    fn drop(&mut self) {
        self.clear();
    }
}

fn prefix_mask(depth: u8) -> u64 {
    if depth == 0 {
        0
    } else {
        u64::MAX << (64 - u32::from(depth))
    }
}

/// Asks for a cache line ahead of its use.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless; SSE is part of the x86-64 baseline.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// Entries that are numbers dressed as addresses; nothing is ever read through them.
    fn entry(n: u64) -> NonNull<u8> {
        NonNull::new((n + 1) as *mut u8).unwrap()
    }
    fn number(e: NonNull<u8>) -> u64 {
        e.as_ptr() as u64 - 1
    }
    fn hash(n: u64) -> u64 {
        (n + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
    fn insert(table: &mut Table<NonNull<u8>>, n: u64) {
        table.insert_new(hash(n), entry(n), |e| hash(number(e)));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((0u64..3000, prop::bool::weighted(0.6)), 0..4000)) {
            let mut table = Table::new();
            let mut model = HashSet::new();
            for (n, add) in ops {
                let found = table.find(hash(n), |e| number(e) == n).is_some();
                prop_assert_eq!(found, model.contains(&n));
                if add && !found {
                    insert(&mut table, n);
                    model.insert(n);
                } else if !add && found {
                    prop_assert!(table.remove(hash(n), |e| number(e) == n).is_some());
                    model.remove(&n);
                }
            }
            table.check(|e| hash(number(e)));
            prop_assert_eq!(table.iter().map(number).collect::<HashSet<_>>(), model);
        }
    }

    #[test]
    fn hashes_that_come_in_order_or_lie_close_together_are_all_kept() {
        // A copy of a table is made in the order of its hashes: all of them fall into the first buckets of a segment.
        let mut in_order: Vec<u64> = (0..600_000).collect();
        in_order.sort_by_key(|n| hash(*n));
        let mut table = Table::new();
        for n in in_order {
            insert(&mut table, n);
        }
        table.check(|e| hash(number(e)));
        assert_eq!((table.len(), table.iter().count()), (600_000, 600_000));
        let mut random = Table::new();
        (0..600_000).for_each(|n| insert(&mut random, n));
        assert!(table.heap_bytes() < random.heap_bytes() / 8 * 9);
        for shift in [40, 44] {
            let close = |n: u64| n << shift;
            let mut table = Table::new();
            for n in 0..20_000 {
                table.insert_new(close(n), entry(n), |e| close(number(e)));
            }
            table.check(|e| close(number(e)));
            assert_eq!((table.len(), table.iter().count()), (20_000, 20_000));
            table.drain_some(usize::MAX, |_| ());
            assert!(table.is_empty());
        }
    }

    #[test]
    fn a_prefix_finds_all_of_its_hashes_once() {
        for (len, bits) in [(7, 18), (300, 18), (60_000, 18), (60_000, 3), (60_000, 0)] {
            let mut table = Table::new();
            (0..len).for_each(|n| insert(&mut table, n));
            for n in (0..len).step_by(1 + len as usize / 30) {
                let mut shown = Vec::new();
                table.with_prefix(hash(n), bits, |e| shown.push(number(e)));
                let found: HashSet<u64> = shown.iter().copied().collect();
                assert_eq!(found.len(), shown.len(), "once");
                let same = |n: &u64, m: u64| (hash(*n) ^ hash(m)) & prefix_mask(bits) == 0;
                let expected: HashSet<u64> = (0..len).filter(|m| same(&n, *m)).collect();
                // Of 18 bits a small table knows 16.
                assert!(found.is_superset(&expected));
                assert!(bits == 18 || found == expected);
                assert!(found.len() <= expected.len() + 1 + len as usize / 16_384);
            }
        }
    }

    #[test]
    fn a_scan_sees_all_that_stays_while_the_table_grows_and_splits() {
        let mut table = Table::new();
        for n in 0..5000 {
            insert(&mut table, n);
        }
        let mut seen = HashMap::<u64, usize>::new();
        let (mut cursor, mut next) = (0, 5000);
        loop {
            cursor = table.scan(cursor, 10, |e| *seen.entry(number(e)).or_default() += 1);
            for _ in 0..40 {
                insert(&mut table, next);
                next += 1;
            }
            if cursor == 0 {
                break;
            }
        }
        for n in 0..5000 {
            assert_eq!(seen.get(&n), Some(&1), "{n}");
        }
    }

    #[test]
    fn a_scan_sees_all_that_stays_while_the_table_shrinks() {
        let mut table = Table::new();
        for n in 0..60_000 {
            insert(&mut table, n);
        }
        let mut seen = HashSet::new();
        let (mut cursor, mut gone) = (0, 100);
        loop {
            cursor = table.scan(cursor, 10, |e| {
                seen.insert(number(e));
            });
            for _ in 0..20 {
                if gone < 60_000 {
                    table.remove(hash(gone), |e| number(e) == gone);
                    gone += 1;
                }
            }
            if cursor == 0 {
                break;
            }
        }
        assert!((0..100).all(|n| seen.contains(&n)));
    }

    #[test]
    fn a_million_entries_stay_dense_and_drain() {
        let mut table = Table::new();
        for n in 0..1_000_000 {
            insert(&mut table, n);
        }
        table.check(|e| hash(number(e)));
        let per_entry = table.heap_bytes() as f64 / 1e6;
        assert!(per_entry < 14.0, "{per_entry} bytes an entry");
        assert!(table.random(77).is_some());
        let mut drained = 0;
        while !table.is_empty() {
            table.drain_some(1000, |_| drained += 1);
        }
        assert_eq!(drained, 1_000_000);
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn a_large_table_is_dense_at_any_size() {
        // Halves of a segment that split were made for much more than they got: 12.4 to 13.7 bytes an entry, the most at sizes
        // at which most segments had just split.
        let hash = |n: u64| crate::hash::member_hash(&n.to_le_bytes());
        let mut table = Table::new();
        for n in 0..400_000 {
            table.insert_new(hash(n), entry(n), |e| hash(number(e)));
            if n >= 50_000 && n % 5_000 == 0 {
                let per_entry = table.heap_bytes() as f64 / n as f64;
                assert!(per_entry < 12.0, "{per_entry} bytes an entry at {n}");
            }
        }
        table.check(|e| hash(number(e)));
    }
}
