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
//! * A full bucket chains to an overflow bucket of the same allocation (chain byte: its number, 0 = none).
//! * A segment at the end of its ladder splits in two on the next hash bit (extendible hashing). That
//!   reads its ~500 to 1,000 keys, so the longest growth step is bounded also when one table holds
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

use core::marker::PhantomData;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use crate::SLOTS;
use crate::account::class_size;

/// Bits of the hash prefix that a scan cursor carries.
pub(crate) const CURSOR_BITS: u32 = 38;

const LANES: usize = 7;
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
/// A table grows when an average main bucket holds more than this many eighths of an entry.
const LOAD_MAX_EIGHTHS: usize = 44; // 5.5 of 7
/// Buckets of a segment per ladder step, overflow included: the allocator's size classes exactly.
const TOTALS: [u16; 26] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160,
    192,
];
const STEP_LAST: u8 = (TOTALS.len() - 1) as u8;
/// `step` of a table whose pointer is a `Box<Directory>`.
const LARGE: u8 = u8::MAX;

const MAINS: [u8; TOTALS.len()] = {
    let mut mains = [0; TOTALS.len()];
    let mut step = 0;
    while step < TOTALS.len() {
        // About a sixth of the buckets are overflow; the smallest tables have none.
        mains[step] = (TOTALS[step] - TOTALS[step] / 6) as u8;
        step += 1;
    }
    mains
};

/// Bytes that the array of a ladder step takes. The totals are the allocator's classes exactly.
const fn step_bytes(step: u8) -> usize {
    TOTALS[step as usize] as usize * size_of::<Bucket>()
}

/// A pointer to one heap block, as the table stores it.
///
/// # Safety
/// `into_raw` must give an address below 2^48 that is not null, and `from_raw(x.into_raw())` must
/// be the same entry as `x`.
pub(crate) unsafe trait Entry: Copy {
    /// The block's address.
    fn into_raw(self) -> NonNull<u8>;
    /// The entry back from its address.
    ///
    /// # Safety
    /// 1. `raw` came from `into_raw` of the same type and its block is still live.
    unsafe fn from_raw(raw: NonNull<u8>) -> Self;
}

/// Not declared as aligned to its cache line, though it is: an allocator with size classes puts blocks of
/// a multiple of 64 bytes there anyway, and to ask for it costs a class more (1,280 bytes became 1,536).
#[repr(C)]
struct Bucket {
    /// Bytes 0..7: tags; byte 7: number of the chained overflow bucket.
    tags: u64,
    words: [u64; LANES],
}
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Lanes whose tag equals `tag`, as a mask of 0x80 bits.
    #[inline(always)]
    fn matches(&self, tag: u8) -> u64 {
        let x = self.tags ^ 0x0101_0101_0101_0101_u64.wrapping_mul(u64::from(tag));
        zero_bytes(x) & 0x0080_8080_8080_8080
    }

    #[inline(always)]
    fn free_lane(&self) -> Option<usize> {
        let mask = zero_bytes(self.tags) & 0x0080_8080_8080_8080;
        (mask != 0).then(|| (mask.trailing_zeros() / 8) as usize)
    }

    #[inline(always)]
    fn chain(&self) -> usize {
        (self.tags >> 56) as usize
    }

    fn set_chain(&mut self, number: usize) {
        debug_assert!(number < 256);
        self.tags = (self.tags & (u64::MAX >> 8)) | ((number as u64) << 56);
    }

    fn put(&mut self, lane: usize, tag: u8, word: u64) {
        let shift = lane * 8;
        self.tags = (self.tags & !(0xff << shift)) | (u64::from(tag) << shift);
        self.words[lane] = word;
    }

    fn tag(&self, lane: usize) -> u8 {
        (self.tags >> (lane * 8)) as u8
    }
}

/// 0x80 in each byte of `x` that is zero, exactly (no false positives).
#[inline(always)]
fn zero_bytes(x: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !((x & LOW).wrapping_add(LOW) | x | LOW)
}

#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    let tag = hash as u8;
    if tag == 0 { 1 } else { tag }
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

#[inline(always)]
fn entry_of<E: Entry>(word: u64) -> E {
    // SAFETY: (1) every non-empty word was made by `address_of` from an `E` whose owner removes it
    // from the table before it frees the block.
    unsafe {
        let raw = NonNull::new_unchecked((word & ADDRESS_MASK) as *mut u8);
        E::from_raw(raw)
    }
}

#[inline(always)]
fn address_of<E: Entry>(entry: E) -> u64 {
    let address = entry.into_raw().as_ptr() as u64;
    debug_assert!(address != 0);
    debug_assert!(address <= ADDRESS_MASK);
    address
}

/// One array of buckets.
struct Segment {
    buckets: *mut Bucket,
    len: u32,
    /// Index into the ladder; meaningless while `buckets` is null.
    step: u8,
    /// `MAINS[step]`, here to save a lookup its load.
    mains: u8,
    /// Hash bits that the directory has used up to reach this segment.
    depth: u8,
    overflow_used: u8,
}

impl Segment {
    const fn new(depth: u8) -> Self {
        Segment {
            buckets: core::ptr::null_mut(),
            len: 0,
            step: 0,
            mains: 0,
            depth,
            overflow_used: 0,
        }
    }

    #[inline(always)]
    fn main(&self) -> usize {
        self.mains as usize
    }

    fn total(&self) -> usize {
        if self.buckets.is_null() {
            0
        } else {
            TOTALS[self.step as usize] as usize
        }
    }

    #[inline(always)]
    fn position(&self, hash: u64) -> u64 {
        (hash << self.depth) >> 48
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        // Below 2^24: wrapping, not to be checked.
        (self.position(hash).wrapping_mul(u64::from(self.mains)) >> 16) as usize
    }

    /// The bucket with this number: main ones first, then overflow.
    #[inline(always)]
    fn bucket(&self, number: usize) -> &Bucket {
        debug_assert!(number < self.total());
        // SAFETY: `buckets` points to `total()` initialised buckets, `number` is below that.
        unsafe { &*self.buckets.add(number) }
    }

    #[inline(always)]
    fn bucket_mut(&mut self, number: usize) -> &mut Bucket {
        debug_assert!(number < self.total());
        // SAFETY: as `bucket`, and `&mut self` makes it the only reference.
        unsafe { &mut *self.buckets.add(number) }
    }

    /// Number of the bucket chained to bucket `number`, if any.
    #[inline(always)]
    fn next(&self, number: usize) -> Option<usize> {
        let chain = self.bucket(number).chain();
        // Lossless: both are below 256.
        (chain != 0).then(|| self.main().wrapping_add(chain).wrapping_sub(1))
    }

    #[inline]
    fn find<E: Entry>(&self, hash: u64, mut eq: impl FnMut(E) -> bool) -> Option<(usize, usize)> {
        if self.buckets.is_null() {
            return None;
        }
        let tag = tag_of(hash);
        let mut number = self.home(hash);
        loop {
            let bucket = self.bucket(number);
            let mut mask = bucket.matches(tag);
            while mask != 0 {
                let lane = (mask.trailing_zeros() / 8) as usize;
                if eq(entry_of(bucket.words[lane])) {
                    return Some((number, lane));
                }
                mask &= mask.wrapping_sub(1);
            }
            number = self.next(number)?;
        }
    }

    /// Puts a word where its position says; false when neither the chain nor the overflow has room.
    fn place(&mut self, tag: u8, word: u64) -> bool {
        let position = word >> ADDRESS_BITS;
        let mut number = ((position * self.main() as u64) >> 16) as usize;
        loop {
            if let Some(lane) = self.bucket(number).free_lane() {
                self.bucket_mut(number).put(lane, tag, word);
                self.len += 1;
                return true;
            }
            match self.next(number) {
                Some(next) => number = next,
                None => break,
            }
        }
        let overflow = usize::from(self.overflow_used) + 1;
        if self.main() + overflow > self.total() {
            return false;
        }
        self.overflow_used += 1;
        self.bucket_mut(number).set_chain(overflow);
        let fresh = self.main() + overflow - 1;
        self.bucket_mut(fresh).put(0, tag, word);
        self.len += 1;
        true
    }

    fn allocate(step: u8, depth: u8) -> Segment {
        let layout = layout(step);
        // SAFETY: the layout's size is not zero.
        let buckets = unsafe { alloc_zeroed(layout) }.cast::<Bucket>();
        if buckets.is_null() {
            handle_alloc_error(layout);
        }
        Segment {
            buckets,
            len: 0,
            step,
            mains: MAINS[step as usize],
            depth,
            overflow_used: 0,
        }
    }

    fn free(&mut self) {
        if !self.buckets.is_null() {
            // SAFETY: allocated by `allocate` with this very layout, and not used again.
            unsafe { dealloc(self.buckets.cast(), layout(self.step)) };
            *self = Segment::new(self.depth);
        }
    }

    fn heap_bytes(&self) -> usize {
        if self.buckets.is_null() {
            0
        } else {
            step_bytes(self.step)
        }
    }

    /// All (tag, word) pairs of bucket `number` alone.
    fn lanes(&self, number: usize) -> impl Iterator<Item = (u8, u64)> + '_ {
        let bucket = self.bucket(number);
        (0..LANES).filter_map(move |lane| {
            let tag = bucket.tag(lane);
            (tag != 0).then(|| (tag, bucket.words[lane]))
        })
    }

    /// Moves everything, and one more word, into an array of at least `step`; None when the ladder ends.
    fn rebuilt(&self, mut step: u8, extra: Option<(u8, u64)>) -> Option<Segment> {
        'steps: while step <= STEP_LAST {
            let mut grown = Segment::allocate(step, self.depth);
            for number in 0..self.total() {
                for (tag, word) in self.lanes(number) {
                    if !grown.place(tag, word) {
                        grown.free();
                        step += 1;
                        continue 'steps;
                    }
                }
            }
            match extra {
                Some((tag, word)) if !grown.place(tag, word) => {
                    grown.free();
                    step += 1;
                }
                _ => return Some(grown),
            }
        }
        None
    }

    /// Inserts a word; returns by how many bytes the array grew, None when it would grow beyond step
    /// `last` and the segment must split first.
    #[inline]
    fn insert(&mut self, tag: u8, word: u64, last: impl FnOnce(u8) -> u8) -> Option<isize> {
        let crowded = (self.len as usize) * 8 >= self.main() * LOAD_MAX_EIGHTHS;
        let must_grow = self.buckets.is_null() || (crowded && self.step < STEP_LAST);
        if must_grow || !self.place(tag, word) {
            let last = last(self.depth);
            return self.grow(tag, word, last);
        }
        Some(0)
    }

    #[cold]
    fn grow(&mut self, tag: u8, word: u64, last: u8) -> Option<isize> {
        let before = self.heap_bytes();
        let step = step_for(self.len as usize + 1);
        if step > last {
            return None;
        }
        let grown = self.rebuilt(step, Some((tag, word)))?;
        self.free();
        *self = grown;
        Some(self.heap_bytes() as isize - before as isize)
    }

    /// Takes a word out; returns it, and by how many bytes the array grew (never more than 0).
    #[inline]
    fn remove_at(&mut self, number: usize, lane: usize) -> (u64, isize) {
        let bucket = self.bucket_mut(number);
        let word = bucket.words[lane];
        bucket.put(lane, 0, 0);
        self.len -= 1;
        // Below 2 of 7: a smaller array. It is far from full, so the next insert does not undo it.
        let sparse = self.step > 0 && (self.len as usize) < self.main() * 2;
        if self.len == 0 || sparse {
            return (word, self.shrink());
        }
        (word, 0)
    }

    #[cold]
    fn shrink(&mut self) -> isize {
        let before = self.heap_bytes();
        if self.len == 0 {
            self.free();
        } else if let Some(shrunk) = self.rebuilt(step_for(self.len as usize), None) {
            self.free();
            *self = shrunk;
        }
        self.heap_bytes() as isize - before as isize
    }

    /// Whole buckets in hash order from `position` on; returns the position to go on from.
    fn scan<E: Entry>(
        &self,
        position: u64,
        left: &mut usize,
        f: &mut impl FnMut(E),
    ) -> Option<u64> {
        if self.buckets.is_null() {
            return None;
        }
        let main = self.main() as u64;
        let mut home = (position * main) >> 16;
        while home < main {
            if *left == 0 {
                return Some((home << 16).div_ceil(main).max(position));
            }
            let mut number = Some(home as usize);
            while let Some(at) = number {
                for (_, word) in self.lanes(at) {
                    if word >> ADDRESS_BITS >= position {
                        f(entry_of(word));
                        *left = left.saturating_sub(1);
                    }
                }
                number = self.next(at);
            }
            home += 1;
        }
        None
    }

    fn random<E: Entry>(&self, mut bits: u64) -> Option<E> {
        if self.len == 0 {
            return None;
        }
        let total = self.total();
        // Rejection over (bucket, lane) is uniform over the entries.
        for _ in 0..64 {
            bits = bits
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let number = (((bits >> 40) * total as u64) >> 24) as usize;
            let lane = ((((bits >> 16) & 0xffff) * LANES as u64) >> 16) as usize;
            let bucket = self.bucket(number);
            if bucket.tag(lane) != 0 {
                return Some(entry_of(bucket.words[lane]));
            }
        }
        let start = ((bits >> 33) as usize) % total;
        (0..total).find_map(|i| {
            self.lanes((start + i) % total)
                .next()
                .map(|(_, w)| entry_of(w))
        })
    }
}

fn layout(step: u8) -> Layout {
    // SAFETY: the alignment is a power of two and the size is at most 16 KiB.
    unsafe { Layout::from_size_align_unchecked(step_bytes(step), align_of::<Bucket>()) }
}

/// The smallest step whose main buckets hold `len` entries below the growth threshold.
fn step_for(len: usize) -> u8 {
    let mut step = 0;
    while step < STEP_LAST && (MAINS[step as usize] as usize) * LOAD_MAX_EIGHTHS < len * 8 {
        step += 1;
    }
    step
}

/// The last step of the segment that `hash` leads to: one of four, by chance. Were they all alike, all segments of a table
/// would have to split at the same time, several in one turn of a core.
fn last_step(hash: u64, depth: u8) -> u8 {
    if depth == 0 {
        return STEP_LAST;
    }
    let prefix = hash >> (64 - u32::from(depth));
    let chance = prefix.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
    STEP_LAST - chance as u8
}

/// How far ahead of its reading a split asks for entries.
const SPLIT_AHEAD_BUCKETS: usize = 4;

/// Segments of one large table, found by the top `depth` bits of the hash.
struct Directory {
    depth: u8,
    index: Vec<u32>,
    segments: Vec<Segment>,
    /// What the arrays of all segments take.
    segments_bytes: usize,
}

impl Directory {
    #[inline(always)]
    fn at(&self, hash: u64) -> usize {
        let top = if self.depth == 0 {
            0
        } else {
            hash >> (64 - u32::from(self.depth))
        };
        self.index[top as usize] as usize
    }

    /// Bytes of heap of all of it. Asked at every split, so it must not walk the segments.
    fn heap_bytes(&self) -> usize {
        class_size(size_of::<Directory>())
            + class_size(self.index.capacity() * size_of::<u32>())
            + class_size(self.segments.capacity() * size_of::<Segment>())
            + self.segments_bytes
    }

    #[inline(always)]
    fn grew(&mut self, bytes: isize) {
        self.segments_bytes = self.segments_bytes.wrapping_add_signed(bytes);
    }

    /// Splits the segment of `hash` on its next hash bit.
    fn split<E: Entry>(&mut self, hash: u64, rehash: &impl Fn(E) -> u64) {
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
        let half = step_for(old.len as usize / 2 + old.len as usize / 16 + 1);
        let mut parts = [
            Segment::allocate(half, depth),
            Segment::allocate(half, depth),
        ];
        for number in 0..old.total() {
            // Every entry is a cache miss, so those of a later bucket are asked for ahead.
            if number + SPLIT_AHEAD_BUCKETS < old.total() {
                let ahead = old.lanes(number + SPLIT_AHEAD_BUCKETS);
                ahead.for_each(|(_, word)| prefetch((word & ADDRESS_MASK) as *const u8));
            }
            for (tag, word) in old.lanes(number) {
                let hash = rehash(entry_of(word));
                let part = ((hash >> (64 - u32::from(depth))) & 1) as usize;
                let position = (hash << depth) >> 48;
                let word = (word & ADDRESS_MASK) | (position << ADDRESS_BITS);
                let fitted = parts[part].insert(tag, word, |_| STEP_LAST);
                debug_assert!(fitted.is_some(), "a part of a segment fits a segment");
            }
        }
        self.segments_bytes -= old.heap_bytes();
        old.free();
        for part in &mut parts {
            if part.len == 0 {
                part.free();
            }
            self.segments_bytes += part.heap_bytes();
        }
        let [low, high] = parts;
        self.segments[which] = low;
        self.segments[fresh] = high;
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
    pub(crate) fn heap_bytes(&self) -> usize {
        if self.is_large() {
            self.directory().heap_bytes()
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
        let segment = self.segment(hash);
        if segment.buckets.is_null() {
            return;
        }
        let bucket = segment.bucket(segment.home(hash));
        let mask = bucket.matches(tag_of(hash));
        if mask != 0 {
            let word = bucket.words[(mask.trailing_zeros() / 8) as usize];
            let address = (word & ADDRESS_MASK) as *const u8;
            prefetch(address);
            // A key of 16 with a value of 64 bytes does not end in the first line.
            prefetch(address.wrapping_add(64));
        }
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

    #[cold]
    fn split(&mut self, hash: u64, rehash: &impl Fn(E) -> u64) {
        if !self.is_large() {
            let segment = core::mem::replace(&mut self.root, Segment::new(0));
            let len = segment.len;
            let directory = Directory {
                depth: 0,
                index: vec![0],
                segments_bytes: segment.heap_bytes(),
                segments: vec![segment],
            };
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
        self.directory_mut().split(hash, rehash);
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

    /// Some entry, each about as likely, chosen by random `bits`.
    pub(crate) fn random(&self, bits: u64) -> Option<E> {
        if !self.is_large() {
            return self.root.random(bits);
        }
        let segments = &self.directory().segments;
        let mut at = bits;
        for _ in 0..128 {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let segment = &segments[((at >> 32) as usize) % segments.len()];
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
                    directory.segments_bytes -= segment.heap_bytes();
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
            assert_eq!(bytes, d.segments_bytes, "segments are accounted for");
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

#[inline(always)]
fn prefetch(address: *const u8) {
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
        assert!(per_entry < 18.0, "{per_entry} bytes an entry");
        assert!(table.random(77).is_some());
        let mut drained = 0;
        while !table.is_empty() {
            table.drain_some(1000, |_| drained += 1);
        }
        assert_eq!(drained, 1_000_000);
        assert_eq!(table.heap_bytes(), 0);
    }
}
