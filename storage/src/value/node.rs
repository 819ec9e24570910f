//! Hot path. The nodes of a sorted set's tree (tree.rs): leaves of elements, inner nodes with counts.
//!
//! ```text
//! word of a leaf:  brief, 16 bits | address of the element, 48 bits        brief = (key - base) >> shift, at most 0xffff
//! ```
//! An element's score lies in its block; the leaf keeps only so much of it as tells its few dozen elements apart. A brief never decides
//! wrongly, whatever `base` and `shift` are, for a larger key has no smaller brief: elements of the same brief are read and
//! compared. Where many have the same one, the leaf is scaled anew to the keys that it holds.
//!
//! Invariants: entries are ordered by key, then member; free entries of an inner node have the key `FREE` and no element;
//! an inner node's `keys`, `firsts` and `counts` are exactly its children's (asserted by `check_node`).

use core::cmp::Ordering;

use crate::table::{address_of, entry_of};
use crate::value::blob::{Blob, Scored};

/// Most elements of a leaf: 24 + 61 x 8 fill the 512-byte class.
const LEAF_MAX: usize = 61;
/// Most children of an inner node.
const INNER_MAX: usize = 31;
const _: () = assert!(size_of::<Leaf>() == 512);
const _: () = assert!(size_of::<Inner>() <= 1280);

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
    key.min(FREE - 1)
}

/// The key of free entries: above that of every score.
const FREE: u64 = u64::MAX;

pub(super) enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

#[derive(Clone)]
pub(super) struct Leaf {
    /// Key of the first element; means nothing while there is none.
    first_key: u64,
    base: u64,
    shift: u8,
    /// How many elements there were when it was scaled.
    scaled: u8,
    len: u8,
    words: [u64; LEAF_MAX],
}

pub(super) struct Inner {
    pub(super) len: usize,
    /// Key of the smallest element below each child; exact.
    pub(super) keys: [u64; INNER_MAX],
    /// That element; exact, so that no address outlives its element here.
    pub(super) firsts: [Option<Scored>; INNER_MAX],
    /// Elements below each child.
    pub(super) counts: [usize; INNER_MAX],
    pub(super) children: [Option<Node>; INNER_MAX],
}

#[inline]
pub(super) fn member_of(element: Option<Scored>) -> &'static [u8] {
    // The borrow ends within the call that asked: see the module's head.
    element.map_or(&[], Blob::key)
}

/// How many keys are below `key`. Counting all is branchless and asks for all cache lines of the keys at
/// once, where a binary search would wait for three of them in turn.
#[inline]
pub(super) fn keys_below<const N: usize>(keys: &[u64; N], key: u64) -> usize {
    keys.iter().map(|k| usize::from(*k < key)).sum()
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
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            first_key: 0,
            base: 0,
            shift: 0,
            scaled: 0,
            len: 0,
            words: [0; LEAF_MAX],
        })
    }

    /// The elements' words.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        &self.words[..usize::from(self.len)]
    }

    fn count(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    fn brief(&self, key: u64) -> u64 {
        (key.saturating_sub(self.base) >> self.shift).min(BRIEF_MAX)
    }

    fn word(&self, key: u64, element: Scored) -> u64 {
        self.brief(key) << BRIEF_SHIFT | address_of(element)
    }

    /// The places of the elements whose brief is that of `key`. Counting all is branchless, where a binary search would wait for its
    /// loads in turn.
    #[inline]
    fn same_brief(&self, key: u64) -> (usize, usize) {
        let (brief, words) = (self.brief(key), self.words());
        let below = words
            .iter()
            .map(|word| usize::from(word >> BRIEF_SHIFT < brief));
        let low = below.sum();
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

    /// Inserts; the new right neighbour if the leaf was full. At an edge of the whole tree the new leaf
    /// starts with one element, so that insertion in order leaves full leaves behind.
    fn add(&mut self, spot: Spot<'_>, element: Scored, edge: Edge) -> Option<Box<Leaf>> {
        let at = self.before(spot, false);
        let len = self.count();
        if len < LEAF_MAX {
            self.insert(at, spot.key, element);
            return None;
        }
        let mut right = Leaf::new();
        if at == len && edge.last {
            right.insert(0, spot.key, element);
        } else if at == 0 && edge.first {
            core::mem::swap(self, &mut right);
            self.insert(0, spot.key, element);
        } else {
            self.give(LEAF_MAX / 2 + usize::from(at > LEAF_MAX / 2), &mut right);
            if at <= LEAF_MAX / 2 {
                self.insert(at, spot.key, element);
            } else {
                right.insert(at - self.count(), spot.key, element);
            }
        }
        Some(right)
    }
}

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

impl Inner {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            len: 0,
            keys: [FREE; INNER_MAX],
            firsts: [None; INNER_MAX],
            counts: [0; INNER_MAX],
            children: [const { None }; INNER_MAX],
        })
    }

    /// The child below which `spot` lies or would be inserted.
    #[inline]
    pub(super) fn child_of(&self, spot: Spot<'_>) -> usize {
        let low = keys_below(&self.keys, spot.key);
        if self.keys.get(low) != Some(&spot.key) {
            return low.saturating_sub(1);
        }
        let high = keys_below(&self.keys, spot.key + 1);
        let same = &self.firsts[low..high];
        let before = same.partition_point(|first| member_of(*first) <= spot.member);
        (low + before).saturating_sub(1)
    }

    pub(super) fn insert(&mut self, at: usize, child: Node) {
        let len = self.len;
        self.keys.copy_within(at..len, at + 1);
        self.firsts.copy_within(at..len, at + 1);
        self.counts.copy_within(at..len, at + 1);
        self.children[at..=len].rotate_right(1);
        self.children[at] = Some(child);
        self.len += 1;
        self.refresh(at);
    }

    fn remove(&mut self, at: usize) -> Option<Node> {
        let len = self.len;
        self.keys.copy_within(at + 1..len, at);
        self.firsts.copy_within(at + 1..len, at);
        self.counts.copy_within(at + 1..len, at);
        let child = self.children[at].take();
        self.children[at..len].rotate_left(1);
        self.len -= 1;
        self.keys[self.len] = FREE;
        self.firsts[self.len] = None;
        child
    }

    /// Reads the child's smallest element and count anew.
    fn refresh(&mut self, at: usize) {
        if let Some(child) = &self.children[at] {
            (self.keys[at], self.firsts[at]) = child.first();
            self.counts[at] = child.count();
        }
    }

    /// Moves the children from `at` on to the end of `to`.
    fn give(&mut self, at: usize, to: &mut Inner) {
        for from in at..self.len {
            let n = to.len;
            to.keys[n] = core::mem::replace(&mut self.keys[from], FREE);
            to.firsts[n] = self.firsts[from].take();
            to.counts[n] = self.counts[from];
            to.children[n] = self.children[from].take();
            to.len += 1;
        }
        self.len = at;
    }

    /// Takes over the new right neighbour of child `at`; the own new right neighbour if full.
    fn add_child(&mut self, at: usize, child: Node, edge: Edge) -> Option<Box<Inner>> {
        if self.len < INNER_MAX {
            self.insert(at, child);
            return None;
        }
        let mut right = Inner::new();
        if at == self.len && edge.last {
            right.insert(0, child);
        } else if at == 1 && edge.first {
            self.give(1, &mut right);
            right.insert(0, child);
        } else {
            self.give(INNER_MAX / 2, &mut right);
            if at <= self.len {
                self.insert(at, child);
            } else {
                right.insert(at - self.len, child);
            }
        }
        Some(right)
    }

    /// After a removal below child `at`: drops it if empty, joins it to a neighbour if both are small.
    /// Returns the numbers of leaves and inner nodes given back.
    fn tidy(&mut self, at: usize) -> (usize, usize) {
        let len = |inner: &Inner, i: usize| inner.children[i].as_ref().map_or(0, Node::len);
        let max = self.children[at].as_ref().map_or(0, Node::max);
        if len(self, at) == 0 {
            return freed(self.remove(at));
        }
        self.refresh(at);
        if len(self, at) > max / 4 {
            return (0, 0);
        }
        let fits = |inner: &Inner, i: usize| {
            i + 1 < inner.len && len(inner, i) + len(inner, i + 1) <= max * 3 / 4
        };
        let left = if fits(self, at) {
            at
        } else if at > 0 && fits(self, at - 1) {
            at - 1
        } else {
            return (0, 0);
        };
        let Some(mut right) = self.remove(left + 1) else {
            return (0, 0);
        };
        match (&mut self.children[left], &mut right) {
            (Some(Node::Leaf(to)), Node::Leaf(from)) => from.give(0, to),
            (Some(Node::Inner(to)), Node::Inner(from)) => from.give(0, to),
            _ => {}
        }
        self.refresh(left);
        freed(Some(right))
    }
}

fn freed(node: Option<Node>) -> (usize, usize) {
    match node {
        Some(Node::Leaf(_)) => (1, 0),
        Some(Node::Inner(_)) => (0, 1),
        None => (0, 0),
    }
}

impl Node {
    /// Most entries of a node of this kind.
    fn max(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_MAX,
            Node::Inner(_) => INNER_MAX,
        }
    }

    /// Entries of the node itself.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.count(),
            Node::Inner(inner) => inner.len,
        }
    }

    /// Elements below.
    pub(super) fn count(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.count(),
            Node::Inner(inner) => inner.counts[..inner.len].iter().sum(),
        }
    }

    fn first(&self) -> (u64, Option<Scored>) {
        match self {
            Node::Leaf(leaf) => {
                let first = leaf.words().first();
                (leaf.first_key, first.map(|word| element_of(*word)))
            }
            Node::Inner(inner) => (inner.keys[0], inner.firsts[0]),
        }
    }

    pub(super) fn add(
        &mut self,
        spot: Spot<'_>,
        element: Scored,
        edge: Edge,
        made: &mut (usize, usize),
    ) -> Option<Node> {
        match self {
            Node::Leaf(leaf) => {
                let right = leaf.add(spot, element, edge)?;
                made.0 += 1;
                Some(Node::Leaf(right))
            }
            Node::Inner(inner) => {
                let at = inner.child_of(spot);
                let below = Edge {
                    first: edge.first && at == 0,
                    last: edge.last && at + 1 == inner.len,
                };
                let split = inner.children[at].as_mut()?.add(spot, element, below, made);
                let Some(right) = split else {
                    inner.counts[at] += 1;
                    if at == 0 {
                        inner.refresh_first();
                    }
                    return None;
                };
                inner.refresh(at);
                let right = inner.add_child(at + 1, right, edge)?;
                made.1 += 1;
                Some(Node::Inner(right))
            }
        }
    }

    /// Removes the element at `spot`, or gives it the key `to` if its neighbours allow that.
    pub(super) fn take(
        &mut self,
        spot: Spot<'_>,
        to: Option<u64>,
        freed: &mut (usize, usize),
    ) -> Taken {
        match self {
            Node::Leaf(leaf) => leaf.take(spot, to),
            Node::Inner(inner) => {
                let at = inner.child_of(spot);
                let Some(child) = inner.children[at].as_mut() else {
                    return Taken::Absent;
                };
                let taken = child.take(spot, to, freed);
                if taken != Taken::Removed {
                    return taken;
                }
                if child.len() > child.max() / 4 {
                    (inner.keys[at], inner.firsts[at]) = child.first();
                    inner.counts[at] -= 1;
                } else {
                    let (leaves, inners) = inner.tidy(at);
                    freed.0 += leaves;
                    freed.1 += inners;
                }
                taken
            }
        }
    }

    /// Takes off the last leaf; the elements it held.
    pub(super) fn remove_last_leaf(&mut self, freed: &mut (usize, usize)) -> usize {
        match self {
            Node::Leaf(leaf) => usize::from(core::mem::take(&mut leaf.len)),
            Node::Inner(inner) => {
                let Some(at) = inner.len.checked_sub(1) else {
                    return 0;
                };
                let Some(child) = inner.children[at].as_mut() else {
                    return 0;
                };
                let removed = child.remove_last_leaf(freed);
                inner.counts[at] -= removed;
                if child.len() == 0 {
                    match inner.remove(at) {
                        Some(Node::Leaf(_)) => freed.0 += 1,
                        Some(Node::Inner(_)) => freed.1 += 1,
                        None => {}
                    }
                }
                removed
            }
        }
    }
}

impl Inner {
    fn refresh_first(&mut self) {
        if let Some(child) = &self.children[0] {
            (self.keys[0], self.firsts[0]) = child.first();
        }
    }
}

impl Inner {
    /// The child that holds the element of this rank; the rank becomes that within the child.
    #[inline]
    pub(super) fn child_at(&self, rank: &mut usize) -> Option<&Node> {
        for (at, count) in self.counts[..self.len].iter().enumerate() {
            if *rank < *count {
                return self.children[at].as_ref();
            }
            *rank -= count;
        }
        None
    }
}

#[cfg(any(test, feature = "testing"))]
pub(super) fn check_node(
    node: &Node,
    depth: usize,
    nodes: &mut (usize, usize),
    depths: &mut std::collections::BTreeSet<usize>,
) -> usize {
    match node {
        Node::Leaf(leaf) => {
            nodes.0 += 1;
            depths.insert(depth);
            assert!(leaf.len > 0 || depth == 0, "only the root may be empty");
            for (at, word) in leaf.words().iter().enumerate() {
                let key = key_of_word(*word);
                assert_eq!(*word, leaf.word(key, element_of(*word)));
                assert!(at > 0 || leaf.first_key == key);
            }
            leaf.count()
        }
        Node::Inner(inner) => {
            nodes.1 += 1;
            assert!(
                inner.len > usize::from(depth == 0),
                "a root has two children, others one"
            );
            for i in 0..INNER_MAX {
                assert_eq!(inner.children[i].is_some(), i < inner.len);
                assert_eq!(inner.firsts[i].is_some(), i < inner.len);
                let Some(child) = &inner.children[i] else {
                    continue;
                };
                assert_eq!((inner.keys[i], inner.firsts[i]), child.first());
                assert_eq!(check_node(child, depth + 1, nodes, depths), inner.counts[i]);
            }
            inner.counts[..inner.len].iter().sum()
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
