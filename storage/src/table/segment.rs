//! Hot path. One array of buckets: finding, placing, growing by steps. The layout is at the head of `mod.rs`.
#![allow(
    unsafe_code,
    reason = "buckets are a raw array: tagged words, no initialised Option per lane"
)]

use core::ops::RangeInclusive;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use super::{Entry, prefetch};

pub(super) const LANES: usize = 7;
pub(super) const ADDRESS_BITS: u32 = 48;
pub(super) const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
/// How far ahead of a scan entries are fetched, in buckets...
const SCAN_AHEAD_BUCKETS: u64 = 2;
/// ...while it is to see more entries than these.
const SCAN_AHEAD_MIN: usize = 2 * LANES;
/// Entries of an average main bucket up to which a rebuilt array should not be far from full, in eighths.
const LOAD_EIGHTHS: usize = 44; // 5.5 of 7
/// The same of an array that is filled once, from entries that are counted: an array is full at about 6.9, hardly ever before 6.6.
const LOAD_DENSE_EIGHTHS: usize = 50; // 6.25 of 7
/// Buckets of a segment per ladder step, overflow included: each about a fifth more than the one before, and from `STEP_FINE` on a tenth.
pub(super) const TOTALS: [u8; 33] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 46, 50, 55, 60, 66, 72, 79, 86, 94,
    103, 113, 124, 136, 149, 163, 179,
];
pub(super) const STEP_LAST: u8 = (TOTALS.len() - 1) as u8;
/// From here on an array grows by two steps, a fifth as before: a step less would build arrays twice as often. The steps between
/// are for the halves of a segment that splits, which need not be larger than their entries ask for.
const STEP_FINE: u8 = 16;
const _: () = assert!(TOTALS[STEP_FINE as usize] == 42);

pub(super) const MAINS: [u8; TOTALS.len()] = {
    let mut mains = [0; TOTALS.len()];
    let mut step = 0;
    while step < TOTALS.len() {
        // About an eighth of the buckets are overflow, and more of the smallest tables.
        mains[step] = TOTALS[step] - (TOTALS[step] + 6) / 8;
        if mains[step] == 0 {
            mains[step] = 1;
        }
        step += 1;
    }
    mains
};

/// Bytes that the array of a ladder step takes: the allocator rounds whole cache lines to nothing more.
pub(super) const fn step_bytes(step: u8) -> usize {
    TOTALS[step as usize] as usize * size_of::<Bucket>()
}

/// Its alignment is also what the server's allocator knows arrays of buckets by.
#[repr(C, align(64))]
pub(super) struct Bucket {
    /// Bytes 0..7: tags; byte 7: number of the chained overflow bucket.
    pub(super) tags: u64,
    pub(super) words: [u64; LANES],
}
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Lanes whose tag equals `tag`, as a mask of 0x80 bits.
    #[inline(always)]
    pub(super) fn matches(&self, tag: u8) -> u64 {
        let x = self.tags ^ 0x0101_0101_0101_0101_u64.wrapping_mul(u64::from(tag));
        zero_bytes(x) & 0x0080_8080_8080_8080
    }

    #[inline(always)]
    pub(super) fn free_lane(&self) -> Option<usize> {
        let mask = zero_bytes(self.tags) & 0x0080_8080_8080_8080;
        (mask != 0).then(|| (mask.trailing_zeros() / 8) as usize)
    }

    #[inline(always)]
    pub(super) fn chain(&self) -> usize {
        (self.tags >> 56) as usize
    }

    pub(super) fn set_chain(&mut self, number: usize) {
        debug_assert!(number < 256);
        self.tags = (self.tags & (u64::MAX >> 8)) | ((number as u64) << 56);
    }

    pub(super) fn put(&mut self, lane: usize, tag: u8, word: u64) {
        let shift = lane * 8;
        self.tags = (self.tags & !(0xff << shift)) | (u64::from(tag) << shift);
        self.words[lane] = word;
    }

    /// As [`Bucket::put`] in a lane that is free.
    #[inline(always)]
    fn put_free(&mut self, lane: usize, tag: u8, word: u64) {
        self.tags |= u64::from(tag) << (lane * 8);
        self.words[lane] = word;
    }

    pub(super) fn tag(&self, lane: usize) -> u8 {
        (self.tags >> (lane * 8)) as u8
    }
}

/// 0x80 in each byte of `x` that is zero, exactly (no false positives).
#[inline(always)]
pub(super) fn zero_bytes(x: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !((x & LOW).wrapping_add(LOW) | x | LOW)
}

#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    let tag = hash as u8;
    if tag == 0 { 1 } else { tag }
}

/// The entry in the lower 48 bits of a word that `address_of` has made.
#[inline(always)]
pub(crate) fn entry_of<E: Entry>(word: u64) -> E {
    // SAFETY: (1) every non-empty word was made by `address_of` from an `E` whose owner removes it
    // from the table (or tree) before it frees the block.
    unsafe {
        let raw = NonNull::new_unchecked((word & ADDRESS_MASK) as *mut u8);
        E::from_raw(raw)
    }
}

/// An entry's address, below 2^48.
#[inline(always)]
pub(crate) fn address_of<E: Entry>(entry: E) -> u64 {
    let address = entry.into_raw().as_ptr() as u64;
    debug_assert!(address != 0);
    debug_assert!(address <= ADDRESS_MASK);
    address
}

/// One array of buckets.
pub(super) struct Segment {
    pub(super) buckets: *mut Bucket,
    pub(super) len: u32,
    /// Index into the ladder; meaningless while `buckets` is null.
    pub(super) step: u8,
    /// `MAINS[step]`, here to save a lookup its load.
    pub(super) mains: u8,
    /// Hash bits that the directory has used up to reach this segment.
    pub(super) depth: u8,
    pub(super) overflow_used: u8,
}

impl Segment {
    pub(super) const fn new(depth: u8) -> Self {
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
    pub(super) fn main(&self) -> usize {
        self.mains as usize
    }

    pub(super) fn total(&self) -> usize {
        if self.buckets.is_null() {
            0
        } else {
            TOTALS[self.step as usize] as usize
        }
    }

    #[inline(always)]
    pub(super) fn position(&self, hash: u64) -> u64 {
        (hash << self.depth) >> 48
    }

    #[inline(always)]
    pub(super) fn home(&self, hash: u64) -> usize {
        // Below 2^24: wrapping, not to be checked.
        (self.position(hash).wrapping_mul(u64::from(self.mains)) >> 16) as usize
    }

    /// The bucket with this number: main ones first, then overflow.
    #[inline(always)]
    pub(super) fn bucket(&self, number: usize) -> &Bucket {
        debug_assert!(number < self.total());
        // SAFETY: `buckets` points to `total()` initialised buckets, `number` is below that.
        unsafe { &*self.buckets.add(number) }
    }

    #[inline(always)]
    pub(super) fn bucket_mut(&mut self, number: usize) -> &mut Bucket {
        debug_assert!(number < self.total());
        // SAFETY: as `bucket`, and `&mut self` makes it the only reference.
        unsafe { &mut *self.buckets.add(number) }
    }

    /// Number of the bucket chained to bucket `number`, if any.
    #[inline(always)]
    pub(super) fn next(&self, number: usize) -> Option<usize> {
        let chain = self.bucket(number).chain();
        // Lossless: both are below 256.
        (chain != 0).then(|| self.main().wrapping_add(chain).wrapping_sub(1))
    }

    #[inline]
    pub(super) fn find<E: Entry>(
        &self,
        hash: u64,
        mut eq: impl FnMut(E) -> bool,
    ) -> Option<(usize, usize)> {
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
    pub(super) fn place(&mut self, tag: u8, word: u64) -> bool {
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
        self.spill(number, tag, word)
    }

    /// Puts a word into an overflow bucket, and chains it to bucket `from`, the last of a full chain.
    ///
    /// Overflow buckets are shared: any number of chains may lead to one. A chain only goes to buckets of higher numbers, so it ends.
    #[cold]
    fn spill(&mut self, from: usize, tag: u8, word: u64) -> bool {
        let main = self.main();
        let used = main + usize::from(self.overflow_used);
        // The newest first: the older ones are full, unless entries have been removed.
        let roomy = (main.max(from + 1)..used)
            .rev()
            .find_map(|number| Some((number, self.bucket(number).free_lane()?)));
        let (number, lane) = match roomy {
            Some(found) => found,
            None if used < self.total() => {
                self.overflow_used += 1;
                (used, 0)
            }
            None => return false,
        };
        self.bucket_mut(from).set_chain(number - main + 1);
        self.bucket_mut(number).put(lane, tag, word);
        self.len += 1;
        true
    }

    pub(super) fn allocate(step: u8, depth: u8) -> Segment {
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

    pub(super) fn free(&mut self) {
        if !self.buckets.is_null() {
            // SAFETY: allocated by `allocate` with this very layout, and not used again.
            unsafe { dealloc(self.buckets.cast(), layout(self.step)) };
            *self = Segment::new(self.depth);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        if self.buckets.is_null() {
            0
        } else {
            step_bytes(self.step)
        }
    }

    /// All (tag, word) pairs of bucket `number` alone.
    pub(super) fn lanes(&self, number: usize) -> impl Iterator<Item = (u8, u64)> + '_ {
        let bucket = self.bucket(number);
        (0..LANES).filter_map(move |lane| {
            let tag = bucket.tag(lane);
            (tag != 0).then(|| (tag, bucket.words[lane]))
        })
    }

    /// Moves everything, and one more word, into an array of at least `step`; None when the ladder ends.
    pub(super) fn rebuilt(&self, step: u8, extra: Option<(u8, u64)>) -> Option<Segment> {
        for step in step..=STEP_LAST {
            let mut grown = Segment::allocate(step, self.depth);
            let fits =
                grown.take_all_of(self) && extra.is_none_or(|(tag, word)| grown.place(tag, word));
            if fits {
                return Some(grown);
            }
            grown.free();
        }
        None
    }

    /// Copies all words of another array into this one, which is empty; false, and nothing is copied, if there is no room.
    ///
    /// Most of what an insertion costs is its share of this, about five words. So homes are counted first: then each word has its lane, and
    /// what does not fit into a home lies together, in one overflow bucket or two neighbours.
    fn take_all_of(&mut self, other: &Segment) -> bool {
        let mains = u64::from(self.mains);
        // Below `mains`, of which there are at most 255.
        let home_of =
            |word: u64| usize::from(((word >> ADDRESS_BITS).wrapping_mul(mains) >> 16) as u8);
        let mut counts = [0_u16; 256];
        other.each_word(|_, word| {
            let count = &mut counts[home_of(word)];
            *count = count.wrapping_add(1);
        });
        // The overflow lanes, numbered through all buckets, where those of each home begin.
        let mut spills = [0_u16; 256];
        if !self.chain(&counts, &mut spills) {
            return false;
        }
        let mut taken = [0_u8; 256];
        other.each_word(|tag, word| {
            let home = home_of(word);
            let lane = usize::from(taken[home]);
            taken[home] = taken[home].wrapping_add(1);
            if lane < LANES {
                self.bucket_mut(home).put_free(lane, tag, word);
            } else {
                let lane = usize::from(spills[home]) + lane - LANES;
                self.bucket_mut(self.main() + lane / LANES)
                    .put_free(lane % LANES, tag, word);
            }
        });
        self.len = other.len;
        true
    }

    /// Chains the homes that get more words than they have lanes to the overflow lanes that are theirs; false if there are too few.
    fn chain(&mut self, counts: &[u16; 256], spills: &mut [u16; 256]) -> bool {
        let (main, mut used) = (self.main(), 0);
        let room = (self.total() - main) * LANES;
        for home in 0..main {
            let more = usize::from(counts[home]).saturating_sub(LANES);
            if more == 0 {
                continue;
            }
            let (first, last) = (used / LANES, (used + more - 1) / LANES);
            spills[home] = used as u16;
            used += more;
            if used > room {
                return false;
            }
            self.bucket_mut(home).set_chain(first + 1);
            for number in first..last {
                self.bucket_mut(main + number).set_chain(number + 2);
            }
        }
        // Lossless: a chain byte tells each of them apart.
        self.overflow_used = used.div_ceil(LANES) as u8;
        true
    }

    /// All (tag, word) pairs.
    #[inline(always)]
    fn each_word(&self, mut f: impl FnMut(u8, u64)) {
        for number in 0..self.total() {
            let bucket = self.bucket(number);
            let mut tags = bucket.tags;
            for word in bucket.words {
                let tag = tags as u8;
                tags >>= 8;
                if tag != 0 {
                    f(tag, word);
                }
            }
        }
    }

    /// Inserts a word; returns by how many bytes the array grew, None when it would grow beyond step
    /// `last` and the segment must split first.
    #[inline]
    pub(super) fn insert(
        &mut self,
        tag: u8,
        word: u64,
        last: impl FnOnce(u8) -> u8,
    ) -> Option<isize> {
        if self.buckets.is_null() || !self.place(tag, word) {
            let last = last(self.depth);
            return self.grow(tag, word, last);
        }
        Some(0)
    }

    #[cold]
    pub(super) fn grow(&mut self, tag: u8, word: u64, last: u8) -> Option<isize> {
        let before = self.heap_bytes();
        // Chains stay when entries go, so that an array may be in disorder rather than full: then one of the same size will do.
        let step = if self.buckets.is_null() {
            0
        } else {
            let fills = self.len as usize * 8 >= self.main() * LOAD_EIGHTHS;
            if fills {
                next_step(self.step)
            } else {
                self.step
            }
        };
        if step > last {
            return None;
        }
        let grown = self.rebuilt(step, Some((tag, word)))?;
        self.free();
        *self = grown;
        Some(self.heap_bytes() as isize - before as isize)
    }

    /// Makes an array for about `len` entries, if there is none; returns its bytes.
    pub(super) fn reserve(&mut self, len: usize) -> isize {
        if !self.buckets.is_null() {
            return 0;
        }
        // A fifth less than what surely holds them: mostly it does too, and an array that was made too large stays so.
        let step = step_for(len);
        let step = step.saturating_sub(if step > STEP_FINE { 2 } else { 1 });
        *self = Segment::allocate(step, self.depth);
        self.heap_bytes() as isize
    }

    /// Takes a word out; returns it, and by how many bytes the array grew (never more than 0).
    #[inline]
    pub(super) fn remove_at(&mut self, number: usize, lane: usize) -> (u64, isize) {
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
    pub(super) fn shrink(&mut self) -> isize {
        let before = self.heap_bytes();
        if self.len == 0 {
            self.free();
        } else if let Some(shrunk) = self.rebuilt(step_for(self.len as usize), None) {
            self.free();
            *self = shrunk;
        }
        self.heap_bytes() as isize - before as isize
    }

    /// Asks for what the entries of bucket `number` are.
    pub(super) fn fetch(&self, number: usize) {
        self.lanes(number)
            .for_each(|(_, word)| prefetch((word & ADDRESS_MASK) as *const u8));
    }

    /// Whole buckets in hash order from `position` on; returns the position to go on from.
    pub(super) fn scan<E: Entry>(
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
            // Every entry is a cache miss, so those that will be seen soon are asked for ahead.
            if *left > SCAN_AHEAD_MIN && home + SCAN_AHEAD_BUCKETS < main {
                self.fetch((home + SCAN_AHEAD_BUCKETS) as usize);
            }
            let mut number = Some(home as usize);
            while let Some(at) = number {
                for (_, word) in self.lanes(at) {
                    let its = word >> ADDRESS_BITS;
                    // An overflow bucket holds entries of other chains too.
                    if its >= position && (its * main) >> 16 == home {
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

    /// Shows the entries of these positions.
    pub(super) fn with_positions<E: Entry>(
        &self,
        positions: RangeInclusive<u64>,
        f: &mut impl FnMut(E),
    ) {
        if self.buckets.is_null() {
            return;
        }
        let main = self.main() as u64;
        for home in (positions.start() * main) >> 16..=(positions.end() * main) >> 16 {
            let mut number = Some(home as usize);
            while let Some(at) = number {
                for (_, word) in self.lanes(at) {
                    let its = word >> ADDRESS_BITS;
                    if positions.contains(&its) && (its * main) >> 16 == home {
                        f(entry_of(word));
                    }
                }
                number = self.next(at);
            }
        }
    }

    pub(super) fn random<E: Entry>(&self, mut bits: u64) -> Option<E> {
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

pub(super) fn layout(step: u8) -> Layout {
    // SAFETY: the alignment is a power of two and the size is at most 16 KiB.
    unsafe { Layout::from_size_align_unchecked(step_bytes(step), align_of::<Bucket>()) }
}

/// The step that an array grows to: a fifth more.
fn next_step(step: u8) -> u8 {
    step + if step < STEP_FINE { 1 } else { 2 }
}

/// The smallest step that surely holds `len` entries, with room for more.
pub(super) fn step_for(len: usize) -> u8 {
    step_of_load(len, LOAD_EIGHTHS)
}

/// The smallest step that holds `len` entries, hardly with room for more.
pub(super) fn dense_step_for(len: usize) -> u8 {
    step_of_load(len, LOAD_DENSE_EIGHTHS)
}

fn step_of_load(len: usize, eighths: usize) -> u8 {
    let mut step = 0;
    while step < STEP_LAST && (MAINS[step as usize] as usize) * eighths < len * 8 {
        step += 1;
    }
    step
}

/// The last step of the segment that `hash` leads to: one of four, by chance. Were they all alike, all segments of a table
/// would have to split at the same time, several in one turn of a core.
pub(super) fn last_step(hash: u64, depth: u8) -> u8 {
    if depth == 0 {
        return STEP_LAST;
    }
    let prefix = hash >> (64 - u32::from(depth));
    let chance = prefix.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
    STEP_LAST - 2 * chance as u8
}
