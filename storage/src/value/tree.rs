//! Hot path. The order of a large sorted set: a counted B+ tree over the elements' blocks.
//!
//! ```text
//! Inner  per child: smallest key | smallest element | elements below | child      up to 28 children
//! Leaf   per element: some bits of the key, and the element                        up to 61 elements, in a block of their number
//! ```
//! A *key* is the score as a `u64` that orders like it, kept (in leaves: in brief) beside the address so that a search touches
//! no element unless scores are equal or nearly so (then members decide, by bytes). Counts give ranks in O(log n).
//! Children are owned by their parents, so a step of iteration off a leaf descends again by rank: once
//! per 30 to 61 elements, which is cheaper than keeping links right.
//!
//! Cost: a leaf takes 8.4 to 10.3 B an element (leaf.rs), the nodes above it 0.6 to 1.6. A node that falls below a quarter joins a neighbour if both fit in one, so
//! two neighbours always hold more than one node's worth.
//!
//! The tree never frees an element and reads one only while it holds it: its owner removes an element
//! here before it frees the block, and changes its score while the tree does not hold it or right after [`Tree::shift`].

use crate::value::blob::{Blob, Scored};
use crate::value::leaf::{Edge, Leaf, Spot, Taken, element_of, key_of};
use crate::value::node::{INNER_BYTES, Inner, Node, keys_below, member_of};

/// An ordered sequence of elements.
pub(super) struct Tree {
    root: Node,
    /// Bytes of all nodes.
    bytes: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node::new();
        Self {
            bytes: root.bytes() as usize,
            root,
        }
    }

    /// Number of elements.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.root.count()
    }

    /// Bytes of heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// Inserts an element that is not in the tree, at the place of its score and member.
    pub(super) fn insert(&mut self, spot: Spot<'_>, element: Scored) {
        let mut grown = 0;
        let edge = Edge {
            first: true,
            last: true,
        };
        if let Some(right) = self.root.add(spot, element, edge, &mut grown) {
            let mut root = Inner::new();
            let left = core::mem::replace(&mut self.root, Node::new());
            root.insert(0, left);
            root.insert(1, right);
            self.root = Node::Inner(root);
            grown += INNER_BYTES;
        }
        self.grew(grown);
    }

    /// Removes the element of this score and member; whether it was there.
    pub(super) fn remove(&mut self, spot: Spot<'_>) -> bool {
        self.take(spot, None) == Taken::Removed
    }

    fn take(&mut self, spot: Spot<'_>, to: Option<u64>) -> Taken {
        let mut grown = 0;
        let taken = self.root.take(spot, to, &mut grown);
        while let Node::Inner(root) = &mut self.root {
            if root.len > 1 {
                break;
            }
            match root.children[0].take() {
                Some(child) => self.root = child,
                None => {
                    self.root = Node::new();
                    grown += self.root.bytes();
                }
            }
            grown -= INNER_BYTES;
        }
        self.grew(grown);
        taken
    }

    fn grew(&mut self, bytes: isize) {
        self.bytes = self.bytes.wrapping_add_signed(bytes);
    }

    /// Moves an element to the key of another score if that keeps it between its neighbours in its leaf: true, and the caller changes the
    /// score. Else the element is not held any more, to be inserted with its new score.
    #[must_use]
    pub(super) fn shift(&mut self, spot: Spot<'_>, score: f64) -> bool {
        self.take(spot, Some(key_of(score))) == Taken::Moved
    }

    /// How many elements order before `spot`.
    pub(super) fn rank(&self, spot: Spot<'_>) -> usize {
        self.count_before(
            |inner| inner.child_of(spot),
            |leaf| leaf.before(spot, false),
        )
    }

    /// How many elements have a score below `score` (or equal to it, if `or_equal`).
    pub(super) fn rank_of_score(&self, score: f64, or_equal: bool) -> usize {
        let key = key_of(score);
        let key = if or_equal { key + 1 } else { key };
        self.count_before(
            |inner| keys_below(&inner.keys, key).saturating_sub(1),
            |leaf| leaf.below(key),
        )
    }

    /// How many elements have a member below `bound` (or equal to it, if `or_equal`), provided that
    /// all scores are equal.
    pub(super) fn rank_of_lex(&self, bound: &[u8], or_equal: bool) -> usize {
        let is_before = |member: &[u8]| {
            if or_equal {
                member <= bound
            } else {
                member < bound
            }
        };
        self.count_before(
            |inner| {
                let firsts = &inner.firsts[..inner.len];
                let before = firsts.partition_point(|first| is_before(member_of(*first)));
                before.saturating_sub(1)
            },
            |leaf| {
                let words = leaf.words();
                words.partition_point(|word| is_before(element_of(*word).key()))
            },
        )
    }

    fn count_before(
        &self,
        child_of: impl Fn(&Inner) -> usize,
        before: impl Fn(&Leaf) -> usize,
    ) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + before(leaf),
                Node::Inner(inner) => {
                    let at = child_of(inner);
                    rank += inner.count_before(at);
                    match &inner.children[at] {
                        Some(child) => node = child,
                        None => return rank,
                    }
                }
            }
        }
    }

    /// The elements from `rank` on: those of its leaf from it to the leaf's end.
    fn leaf_from(&self, mut rank: usize) -> &[u64] {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.words().get(rank..).unwrap_or(&[]),
                Node::Inner(inner) => {
                    let Some(child) = inner.child_at(&mut rank) else {
                        return &[];
                    };
                    node = child;
                }
            }
        }
    }

    /// The elements up to `rank`: those of its leaf from the leaf's start to it.
    fn leaf_until(&self, mut rank: usize) -> &[u64] {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.words().get(..=rank).unwrap_or(&[]),
                Node::Inner(inner) => {
                    let Some(child) = inner.child_at(&mut rank) else {
                        return &[];
                    };
                    node = child;
                }
            }
        }
    }

    /// The element of this rank.
    pub(super) fn by_rank(&self, rank: usize) -> Option<Scored> {
        self.leaf_from(rank).first().map(|word| element_of(*word))
    }

    /// Elements of rank `rank`, `rank + 1`...
    pub(super) fn iter_from(&self, rank: usize) -> Forward<'_> {
        let leaf = self.leaf_from(rank);
        Forward {
            tree: self,
            leaf,
            next: rank.saturating_add(leaf.len()),
        }
    }

    /// Elements of rank `rank`, `rank - 1`... 0.
    pub(super) fn iter_rev_from(&self, rank: usize) -> Backward<'_> {
        let leaf = self.leaf_until(rank);
        Backward {
            tree: self,
            leaf,
            next: if leaf.is_empty() {
                0
            } else {
                rank + 1 - leaf.len()
            },
        }
    }

    /// Takes nodes away until about `n` elements are gone; whether the tree is empty. Reads no element.
    pub(super) fn free_some(&mut self, n: usize) -> bool {
        let mut left = n;
        while left > 0 {
            let mut grown = 0;
            let removed = self.root.remove_last_leaf(&mut grown);
            self.grew(grown);
            if removed == 0 {
                *self = Self::new();
                return true;
            }
            left = left.saturating_sub(removed);
        }
        self.root.len() == 0
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self) {
        let mut bytes = 0;
        let mut depths = std::collections::BTreeSet::new();
        crate::value::node::check_node(&self.root, 0, &mut bytes, &mut depths);
        assert_eq!(bytes, self.bytes as isize, "nodes are counted");
        assert!(depths.len() == 1, "all leaves are equally deep");
        let mut previous: Option<Scored> = None;
        for element in self.iter_from(0) {
            if let Some(p) = previous {
                let (a, b) = (key_of(p.score()), key_of(element.score()));
                assert!(
                    (a, member_of(Some(p))) < (b, member_of(Some(element))),
                    "ascending"
                );
            }
            previous = Some(element);
        }
    }
}

/// Elements in ascending order.
pub(super) struct Forward<'a> {
    tree: &'a Tree,
    leaf: &'a [u64],
    /// Rank behind `leaf`.
    next: usize,
}

impl Iterator for Forward<'_> {
    type Item = Scored;

    #[inline]
    fn next(&mut self) -> Option<Scored> {
        if self.leaf.is_empty() {
            self.leaf = self.tree.leaf_from(self.next);
            self.next += self.leaf.len();
        }
        let (first, rest) = self.leaf.split_first()?;
        self.leaf = rest;
        Some(element_of(*first))
    }
}

/// Elements in descending order.
pub(super) struct Backward<'a> {
    tree: &'a Tree,
    leaf: &'a [u64],
    /// Number of elements before `leaf`.
    next: usize,
}

impl Iterator for Backward<'_> {
    type Item = Scored;

    #[inline]
    fn next(&mut self) -> Option<Scored> {
        if self.leaf.is_empty() && self.next > 0 {
            self.leaf = self.tree.leaf_until(self.next - 1);
            self.next -= self.leaf.len();
        }
        let (last, rest) = self.leaf.split_last()?;
        self.leaf = rest;
        Some(element_of(*last))
    }
}
