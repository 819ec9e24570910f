//! Hot path. The leaves of a sorted set's tree (tree.rs), and where an element belongs.
//!
//! ```text
//! Leaf             24 bytes of head | room for 5, 13, 21 ... 61 words       64, 128, 192 ... 512 bytes
//! word of a leaf:  brief, 16 bits | address of the element, 48 bits        brief = (key - base) >> shift, at most 0xffff
//! ```
//! An element's score lies in its block; the leaf keeps only so much of it as tells its few dozen elements apart. A brief never decides
//! wrongly, whatever `base` and `shift` are, for a larger key has no smaller brief: elements of the same brief are read and
//! compared. Where many have the same one, the leaf is scaled anew to the keys that it holds.
//!
//! A leaf that is full moves to a block of 8 words more, and only from the largest is it split. So no leaf has more than 8 free words
//! for long, whether it has just been split or not: 8.4 to 10.3 bytes an element, where leaves of one size took 8.4 to 16.5, all of them
//! at once when elements came evenly. Moving copies half a KiB and reads no element, once per 8 insertions.
//!
//! Invariants: entries are ordered by key, then member; every word has the brief of its element's key.

use core::cmp::Ordering;
use core::ops::{Deref, DerefMut};

use crate::account::class_size;
use crate::table::{address_of, entry_of};
use crate::value::blob::{Blob, Scored};

/// Words of the smallest block.
const ROOM_MIN: usize = 5;
/// By how many words one block is larger than the one before: a cache line.
const ROOM_STEP: usize = 8;
/// Most elements of a leaf: 24 + 61 x 8 fill 512 bytes. More would be more to look through.
pub(super) const LEAF_MAX: usize = 61;
/// A leaf with more free words than this moves to a smaller block, and then has `SPARE` free: far enough from growing again.
const FREE_MAX: usize = 2 * ROOM_STEP;
const SPARE: usize = ROOM_STEP / 2;

/// Where an element belongs.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) key: u64,
    pub(super) member: &'a [u8],
}

impl<'a> Spot<'a> {
    pub(super) fn new(score: f64, member: &'a [u8]) -> Self {
        Self {
            key: key_of(score),
            member,
        }
    }
}

/// The score as a number that orders like it, below `FREE`. The zeroes are equal.
#[inline]
pub(super) fn key_of(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits(); // -0.0 + 0.0 is 0.0
    let key = if bits >> 63 == 0 {
        bits | (1 << 63)
    } else {
        !bits
    };
    key.min(KEY_MAX)
}

/// The largest key of a score: one less than what inner nodes have in free entries.
pub(super) const KEY_MAX: u64 = u64::MAX - 1;

/// What became of an element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was not there.
    Absent,
    /// It has another key now.
    Moved,
    /// It is gone.
    Removed,
}

/// Whether a node lies on the left or right edge of the whole tree.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    pub(super) first: bool,
    pub(super) last: bool,
}

/// The elements of a leaf, in a block of any size.
pub(super) struct Leaf<W: ?Sized = [u64]> {
    /// Key of the first element; means nothing while there is none.
    first_key: u64,
    base: u64,
    shift: u8,
    /// How many elements there were when it was scaled.
    scaled: u8,
    len: u8,
    words: W,
}

impl<const ROOM: usize> Leaf<[u64; ROOM]> {
    fn new() -> Box<Self> {
        const { assert!(size_of::<Self>() == 24 + 8 * ROOM && size_of::<Self>().is_multiple_of(64)) }
        Box::new(Self {
            first_key: 0,
            base: 0,
            shift: 0,
            scaled: 0,
            len: 0,
            words: [0; ROOM],
        })
    }
}

/// A leaf in its block.
pub(super) enum LeafBlock {
    Room5(Box<Leaf<[u64; 5]>>),
    Room13(Box<Leaf<[u64; 13]>>),
    Room21(Box<Leaf<[u64; 21]>>),
    Room29(Box<Leaf<[u64; 29]>>),
    Room37(Box<Leaf<[u64; 37]>>),
    Room45(Box<Leaf<[u64; 45]>>),
    Room53(Box<Leaf<[u64; 53]>>),
    Room61(Box<Leaf<[u64; LEAF_MAX]>>),
}

impl Deref for LeafBlock {
    type Target = Leaf;

    #[inline(always)]
    fn deref(&self) -> &Leaf {
        match self {
            LeafBlock::Room5(leaf) => &**leaf,
            LeafBlock::Room13(leaf) => &**leaf,
            LeafBlock::Room21(leaf) => &**leaf,
            LeafBlock::Room29(leaf) => &**leaf,
            LeafBlock::Room37(leaf) => &**leaf,
            LeafBlock::Room45(leaf) => &**leaf,
            LeafBlock::Room53(leaf) => &**leaf,
            LeafBlock::Room61(leaf) => &**leaf,
        }
    }
}

impl DerefMut for LeafBlock {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Leaf {
        match self {
            LeafBlock::Room5(leaf) => &mut **leaf,
            LeafBlock::Room13(leaf) => &mut **leaf,
            LeafBlock::Room21(leaf) => &mut **leaf,
            LeafBlock::Room29(leaf) => &mut **leaf,
            LeafBlock::Room37(leaf) => &mut **leaf,
            LeafBlock::Room45(leaf) => &mut **leaf,
            LeafBlock::Room53(leaf) => &mut **leaf,
            LeafBlock::Room61(leaf) => &mut **leaf,
        }
    }
}

impl LeafBlock {
    /// An empty leaf in the smallest block that has room for `len` elements, or in the largest.
    pub(super) fn with_room(len: usize) -> Self {
        match len.saturating_sub(ROOM_MIN).div_ceil(ROOM_STEP) {
            0 => LeafBlock::Room5(Leaf::new()),
            1 => LeafBlock::Room13(Leaf::new()),
            2 => LeafBlock::Room21(Leaf::new()),
            3 => LeafBlock::Room29(Leaf::new()),
            4 => LeafBlock::Room37(Leaf::new()),
            5 => LeafBlock::Room45(Leaf::new()),
            6 => LeafBlock::Room53(Leaf::new()),
            _ => LeafBlock::Room61(Leaf::new()),
        }
    }

    /// Bytes of the block.
    pub(super) fn bytes(&self) -> usize {
        class_size(size_of_val::<Leaf>(self))
    }

    /// Moves to a block with room for `len` elements; returns by how many bytes that is larger.
    #[cold]
    fn fit(&mut self, len: usize) -> isize {
        debug_assert!(self.count() <= len);
        let mut to = LeafBlock::with_room(len);
        let grown = to.bytes() as isize - self.bytes() as isize;
        if grown != 0 {
            to.copy_of(self);
            *self = to;
        }
        grown
    }

    /// Inserts; the new right neighbour if the leaf was full. At an edge of the whole tree the new leaf
    /// starts with one element, so that insertion in order leaves full leaves behind.
    pub(super) fn add(
        &mut self,
        spot: Spot<'_>,
        element: Scored,
        edge: Edge,
        bytes: &mut isize,
    ) -> Option<LeafBlock> {
        let at = self.before(spot, false);
        let len = self.count();
        if len < LEAF_MAX {
            if len == self.words.len() {
                *bytes += self.fit(len + 1);
            }
            self.insert(at, spot.key, element);
            return None;
        }
        let right = self.split(at, spot.key, element, edge, bytes);
        *bytes += right.bytes() as isize;
        Some(right)
    }

    #[cold]
    fn split(
        &mut self,
        at: usize,
        key: u64,
        element: Scored,
        edge: Edge,
        bytes: &mut isize,
    ) -> LeafBlock {
        if at == LEAF_MAX && edge.last {
            let mut right = LeafBlock::with_room(1);
            right.insert(0, key, element);
            return right;
        }
        if at == 0 && edge.first {
            let mut left = LeafBlock::with_room(1);
            left.insert(0, key, element);
            // The caller adds what it gets; here that is as large as what was `self`.
            *bytes += left.bytes() as isize - self.bytes() as isize;
            return core::mem::replace(self, left);
        }
        const HALF: usize = LEAF_MAX / 2;
        let mut right = LeafBlock::with_room(LEAF_MAX - HALF + 1);
        self.give(HALF + usize::from(at > HALF), &mut right);
        if at <= HALF {
            self.insert(at, key, element);
        } else {
            right.insert(at - self.count(), key, element);
        }
        *bytes += self.fit(self.count());
        right
    }

    /// Removes the element at `spot`, or gives it the key `to` if its neighbours allow that.
    pub(super) fn take(&mut self, spot: Spot<'_>, to: Option<u64>, bytes: &mut isize) -> Taken {
        let taken = Leaf::take(self, spot, to);
        if taken == Taken::Removed && self.count() + FREE_MAX < self.words.len() {
            *bytes += self.fit(self.count() + SPARE);
        }
        taken
    }

    /// Takes over the entries of its right neighbour; together they are at most [`LEAF_MAX`].
    pub(super) fn join(&mut self, right: &mut LeafBlock, bytes: &mut isize) {
        *bytes += self.fit(self.count() + right.count());
        right.give(0, self);
    }
}

/// Bits of a word below its brief.
const BRIEF_SHIFT: u32 = 48;
const BRIEF_MAX: u64 = 0xffff;
/// Elements of one brief that a new one may meet before the leaf is scaled anew.
const SAME_BRIEF_MAX: usize = 4;

/// The element of a leaf's word.
#[inline]
pub(super) fn element_of(word: u64) -> Scored {
    entry_of(word)
}

#[inline]
fn key_of_word(word: u64) -> u64 {
    key_of(element_of(word).score())
}

impl Leaf {
    /// The elements' words.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        &self.words[..usize::from(self.len)]
    }

    pub(super) fn count(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    fn brief(&self, key: u64) -> u64 {
        (key.saturating_sub(self.base) >> self.shift).min(BRIEF_MAX)
    }

    /// The first element and its key; the key means nothing if there is no element.
    pub(super) fn first(&self) -> (u64, Option<Scored>) {
        let first = self.words().first();
        (self.first_key, first.map(|word| element_of(*word)))
    }

    fn word(&self, key: u64, element: Scored) -> u64 {
        self.brief(key) << BRIEF_SHIFT | address_of(element)
    }

    /// The places of the elements whose brief is that of `key`. Counting all is branchless, where a binary search would wait for its
    /// loads in turn.
    #[inline]
    fn same_brief(&self, key: u64) -> (usize, usize) {
        let (brief, words) = (self.brief(key), self.words());
        // Wrapping, for it is below 62: checks would not let it be done for several words at once.
        let low = words.iter().fold(0_usize, |n, word| {
            n.wrapping_add(usize::from(word >> BRIEF_SHIFT < brief))
        });
        let same = words[low..].partition_point(|word| word >> BRIEF_SHIFT == brief);
        (low, low + same)
    }

    /// How many keys are below `key`.
    #[inline]
    pub(super) fn below(&self, key: u64) -> usize {
        let (low, high) = self.same_brief(key);
        low + self.words[low..high].partition_point(|word| key_of_word(*word) < key)
    }

    #[inline]
    pub(super) fn before(&self, spot: Spot<'_>, or_equal: bool) -> usize {
        let (low, high) = self.same_brief(spot.key);
        low + self.words[low..high].partition_point(|word| {
            let element = element_of(*word);
            match key_of(element.score()).cmp(&spot.key) {
                Ordering::Equal if or_equal => element.key() <= spot.member,
                Ordering::Equal => element.key() < spot.member,
                order => order == Ordering::Less,
            }
        })
    }

    /// Gives the keys that are here the middle half of the briefs: as many again may come on either side.
    #[cold]
    fn scale(&mut self) {
        let Some(last) = self.words().last() else {
            return;
        };
        let first = key_of_word(self.words[0]);
        let range = key_of_word(*last) - first;
        self.shift = (u64::BITS - range.leading_zeros()).saturating_sub(15) as u8;
        self.base = first.saturating_sub((BRIEF_MAX / 4) << self.shift);
        for at in 0..self.count() {
            let element = element_of(self.words[at]);
            self.words[at] = self.word(key_of(element.score()), element);
        }
        self.scaled = self.len;
    }

    fn insert(&mut self, at: usize, key: u64, element: Scored) {
        if self.count() >= 2 * usize::from(self.scaled) {
            let (low, high) = self.same_brief(key);
            if high - low >= SAME_BRIEF_MAX {
                self.scale();
            }
        }
        let len = self.count();
        self.words.copy_within(at..len, at + 1);
        self.words[at] = self.word(key, element);
        if at == 0 {
            self.first_key = key;
        }
        self.len += 1;
    }

    fn remove(&mut self, at: usize) {
        let len = self.count();
        self.words.copy_within(at + 1..len, at);
        self.len -= 1;
        if at == 0 && self.len > 0 {
            self.first_key = key_of_word(self.words[0]);
        }
    }

    /// Whether the element at `at`, of neither end, may have the key `to` and stay there. Strictly between: an equal score would
    /// let the members decide.
    fn fits(&self, at: usize, to: u64) -> bool {
        let (brief, before, after) = (self.brief(to), self.words[at - 1], self.words[at + 1]);
        let above = |word: u64| word >> BRIEF_SHIFT < brief || key_of_word(word) < to;
        let below = |word: u64| word >> BRIEF_SHIFT > brief || key_of_word(word) > to;
        above(before) && below(after)
    }

    fn take(&mut self, spot: Spot<'_>, to: Option<u64>) -> Taken {
        let at = self.before(spot, false);
        let Some(element) = self.words().get(at).map(|word| element_of(*word)) else {
            return Taken::Absent;
        };
        if key_of(element.score()) != spot.key || element.key() != spot.member {
            return Taken::Absent;
        }
        // The first entry is also written in the nodes above, and the last has its neighbour elsewhere.
        if let Some(to) = to
            && at > 0
            && at + 1 < self.count()
            && self.fits(at, to)
        {
            self.words[at] = self.word(to, element);
            return Taken::Moved;
        }
        self.remove(at);
        Taken::Removed
    }

    /// Forgets all; how many there were.
    pub(super) fn clear(&mut self) -> usize {
        usize::from(core::mem::take(&mut self.len))
    }

    /// Moves the entries from `at` on to the end of `to`.
    fn give(&mut self, at: usize, to: &mut Leaf) {
        let (len, n) = (self.count(), self.count() - at);
        let end = to.count();
        to.words[end..end + n].copy_from_slice(&self.words[at..len]);
        to.len += n as u8;
        self.len = at as u8;
        if end == 0 {
            (to.base, to.shift) = (self.base, self.shift);
            to.first_key = to.words().first().map_or(0, |word| key_of_word(*word));
        } else {
            to.scale();
        }
        // They may be scaled whenever it seems to be of use.
        (self.scaled, to.scaled) = (0, 0);
    }

    /// Becomes as `from`, which has no more elements than there is room.
    fn copy_of(&mut self, from: &Leaf) {
        (self.first_key, self.base) = (from.first_key, from.base);
        (self.shift, self.scaled, self.len) = (from.shift, from.scaled, from.len);
        self.words[..from.count()].copy_from_slice(from.words());
    }
}

#[cfg(any(test, feature = "testing"))]
impl Leaf {
    /// Asserts what must hold. For tests.
    pub(super) fn check(&self) {
        for (at, word) in self.words().iter().enumerate() {
            let key = key_of_word(*word);
            assert_eq!(*word, self.word(key, element_of(*word)));
            assert!(at > 0 || self.first_key == key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_scores() {
        let scores = [
            f64::NEG_INFINITY,
            -1e300,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            5e-324,
            1.0,
            1e18,
            f64::INFINITY,
        ];
        assert!(scores.windows(2).all(|w| key_of(w[0]) < key_of(w[1])));
        assert_eq!(key_of(-0.0), key_of(0.0));
    }
}
