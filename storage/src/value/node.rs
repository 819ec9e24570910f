//! Hot path. The nodes of a sorted set's tree (tree.rs): leaves of elements, inner nodes with counts.
//!
//! Invariants: entries are ordered by key, then member; free entries have the key `FREE` and no element;
//! an inner node's `keys`, `firsts` and `counts` are exactly its children's (asserted by `check_node`).

use crate::value::blob::{Blob, Scored};

/// Most elements of a leaf: 8 + 31 x 16 fill the 512-byte class.
const LEAF_MAX: usize = 31;
/// Most children of an inner node.
const INNER_MAX: usize = 31;
const _: () = assert!(size_of::<Leaf>() <= 512);
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
    pub(super) len: usize,
    pub(super) keys: [u64; LEAF_MAX],
    pub(super) elements: [Option<Scored>; LEAF_MAX],
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

/// How many entries order before `spot` (or at it too, if `or_equal`).
#[inline]
fn entries_before<const N: usize>(
    keys: &[u64; N],
    elements: &[Option<Scored>; N],
    spot: Spot<'_>,
    or_equal: bool,
) -> usize {
    let low = keys_below(keys, spot.key);
    if keys.get(low) != Some(&spot.key) {
        return low;
    }
    let high = keys_below(keys, spot.key + 1);
    low + elements[low..high].partition_point(|element| {
        let member = member_of(*element);
        if or_equal {
            member <= spot.member
        } else {
            member < spot.member
        }
    })
}

impl Leaf {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            len: 0,
            keys: [FREE; LEAF_MAX],
            elements: [None; LEAF_MAX],
        })
    }

    pub(super) fn before(&self, spot: Spot<'_>, or_equal: bool) -> usize {
        entries_before(&self.keys, &self.elements, spot, or_equal)
    }

    pub(super) fn insert(&mut self, at: usize, key: u64, element: Scored) {
        self.keys.copy_within(at..self.len, at + 1);
        self.elements.copy_within(at..self.len, at + 1);
        self.keys[at] = key;
        self.elements[at] = Some(element);
        self.len += 1;
    }

    fn remove(&mut self, at: usize) {
        self.keys.copy_within(at + 1..self.len, at);
        self.elements.copy_within(at + 1..self.len, at);
        self.len -= 1;
        self.keys[self.len] = FREE;
        self.elements[self.len] = None;
    }

    pub(super) fn take(&mut self, spot: Spot<'_>, to: Option<u64>) -> Taken {
        let at = self.before(spot, false);
        if at >= self.len
            || self.keys[at] != spot.key
            || member_of(self.elements[at]) != spot.member
        {
            return Taken::Absent;
        }
        // Strictly between: an equal score would let the members decide. The first entry is also
        // written in the nodes above, and the last has its neighbour elsewhere.
        if let Some(to) = to
            && at > 0
            && at + 1 < self.len
            && self.keys[at - 1] < to
            && to < self.keys[at + 1]
        {
            self.keys[at] = to;
            return Taken::Moved;
        }
        self.remove(at);
        Taken::Removed
    }

    /// Moves the entries from `at` on to the end of `to`.
    fn give(&mut self, at: usize, to: &mut Leaf) {
        let n = self.len - at;
        to.keys[to.len..to.len + n].copy_from_slice(&self.keys[at..self.len]);
        to.elements[to.len..to.len + n].copy_from_slice(&self.elements[at..self.len]);
        self.keys[at..self.len].fill(FREE);
        self.elements[at..self.len].fill(None);
        to.len += n;
        self.len = at;
    }

    /// Inserts; the new right neighbour if the leaf was full. At an edge of the whole tree the new leaf
    /// starts with one element, so that insertion in order leaves full leaves behind.
    pub(super) fn add(&mut self, spot: Spot<'_>, element: Scored, edge: Edge) -> Option<Box<Leaf>> {
        let at = self.before(spot, false);
        if self.len < LEAF_MAX {
            self.insert(at, spot.key, element);
            return None;
        }
        let mut right = Leaf::new();
        if at == self.len && edge.last {
            right.insert(0, spot.key, element);
        } else if at == 0 && edge.first {
            core::mem::swap(self, &mut right);
            self.insert(0, spot.key, element);
        } else {
            self.give(LEAF_MAX / 2 + usize::from(at > LEAF_MAX / 2), &mut right);
            if at <= self.len && at <= LEAF_MAX / 2 {
                self.insert(at, spot.key, element);
            } else {
                right.insert(at - self.len, spot.key, element);
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
        entries_before(&self.keys, &self.firsts, spot, true).saturating_sub(1)
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
        if len(self, at) == 0 {
            return freed(self.remove(at));
        }
        self.refresh(at);
        if len(self, at) > LEAF_MAX / 4 {
            return (0, 0);
        }
        let fits = |inner: &Inner, i: usize| {
            i + 1 < inner.len && len(inner, i) + len(inner, i + 1) <= LEAF_MAX * 3 / 4
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
    /// Entries of the node itself.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len,
            Node::Inner(inner) => inner.len,
        }
    }

    /// Elements below.
    pub(super) fn count(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len,
            Node::Inner(inner) => inner.counts[..inner.len].iter().sum(),
        }
    }

    fn first(&self) -> (u64, Option<Scored>) {
        match self {
            Node::Leaf(leaf) => (leaf.keys[0], leaf.elements[0]),
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
                if child.len() > LEAF_MAX / 4 {
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
            Node::Leaf(leaf) => {
                leaf.keys = [FREE; LEAF_MAX];
                leaf.elements = [None; LEAF_MAX];
                core::mem::take(&mut leaf.len)
            }
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
            for i in 0..LEAF_MAX {
                assert_eq!(leaf.elements[i].is_some(), i < leaf.len);
                assert_eq!(leaf.keys[i] == FREE, i >= leaf.len);
            }
            for (key, element) in leaf.keys.iter().zip(leaf.elements.iter().flatten()) {
                assert_eq!(
                    *key,
                    key_of(element.score()),
                    "keys are those of the scores"
                );
            }
            leaf.len
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
