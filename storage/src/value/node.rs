//! Hot path. The inner nodes of a sorted set's tree (tree.rs), with the counts of what is below them; nodes of either kind.
//!
//! Invariants: free entries of an inner node have the key `FREE` and no element;
//! an inner node's `keys`, `firsts` and `counts` are exactly its children's (asserted by `check_node`).

use crate::value::blob::{Blob, Scored};
use crate::value::leaf::{Edge, KEY_MAX, LEAF_MAX, LeafBlock, Spot, Taken};

/// Most children of an inner node: 8 + 28 x 36 fill the 1024-byte class.
const INNER_MAX: usize = 28;
const _: () = assert!(size_of::<Inner>() == 1016);

/// What an inner node takes.
pub(super) const INNER_BYTES: isize = 1024;

/// The key of free entries: above that of every score.
const FREE: u64 = KEY_MAX + 1;

pub(super) enum Node {
    Leaf(LeafBlock),
    Inner(Box<Inner>),
}

pub(super) struct Inner {
    pub(super) len: usize,
    /// Key of the smallest element below each child; exact.
    pub(super) keys: [u64; INNER_MAX],
    /// That element; exact, so that no address outlives its element here.
    pub(super) firsts: [Option<Scored>; INNER_MAX],
    /// Elements below each child: tables count no further either.
    counts: [u32; INNER_MAX],
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
    // Wrapping, for it is at most N: checks would not let it be done for several keys at once.
    keys.iter()
        .fold(0_usize, |n, k| n.wrapping_add(usize::from(*k < key)))
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
            self.counts[at] = child.count() as u32;
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
    /// Adds to `bytes` by how many the tree grew (less than 0).
    fn tidy(&mut self, at: usize, bytes: &mut isize) {
        let len = |inner: &Inner, i: usize| inner.children[i].as_ref().map_or(0, Node::len);
        let max = self.children[at].as_ref().map_or(0, Node::max);
        if len(self, at) == 0 {
            *bytes -= self.remove(at).map_or(0, |child| child.bytes());
            return;
        }
        self.refresh(at);
        if len(self, at) > max / 4 {
            return;
        }
        let fits = |inner: &Inner, i: usize| {
            i + 1 < inner.len && len(inner, i) + len(inner, i + 1) <= max * 3 / 4
        };
        let left = if fits(self, at) {
            at
        } else if at > 0 && fits(self, at - 1) {
            at - 1
        } else {
            return;
        };
        let Some(mut right) = self.remove(left + 1) else {
            return;
        };
        match (&mut self.children[left], &mut right) {
            (Some(Node::Leaf(to)), Node::Leaf(from)) => to.join(from, bytes),
            (Some(Node::Inner(to)), Node::Inner(from)) => from.give(0, to),
            _ => {}
        }
        self.refresh(left);
        *bytes -= right.bytes();
    }
}

impl Node {
    /// An empty leaf.
    pub(super) fn new() -> Self {
        Node::Leaf(LeafBlock::with_room(0))
    }

    /// Bytes of heap of the node itself.
    pub(super) fn bytes(&self) -> isize {
        match self {
            Node::Leaf(leaf) => leaf.bytes() as isize,
            Node::Inner(_) => INNER_BYTES,
        }
    }

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
            Node::Inner(inner) => inner.count_before(inner.len),
        }
    }

    fn first(&self) -> (u64, Option<Scored>) {
        match self {
            Node::Leaf(leaf) => leaf.first(),
            Node::Inner(inner) => (inner.keys[0], inner.firsts[0]),
        }
    }

    pub(super) fn add(
        &mut self,
        spot: Spot<'_>,
        element: Scored,
        edge: Edge,
        bytes: &mut isize,
    ) -> Option<Node> {
        match self {
            Node::Leaf(leaf) => {
                let right = leaf.add(spot, element, edge, bytes)?;
                Some(Node::Leaf(right))
            }
            Node::Inner(inner) => {
                let at = inner.child_of(spot);
                let below = Edge {
                    first: edge.first && at == 0,
                    last: edge.last && at + 1 == inner.len,
                };
                let split = inner.children[at]
                    .as_mut()?
                    .add(spot, element, below, bytes);
                let Some(right) = split else {
                    inner.counts[at] += 1;
                    if at == 0 {
                        inner.refresh_first();
                    }
                    return None;
                };
                inner.refresh(at);
                let right = inner.add_child(at + 1, right, edge)?;
                *bytes += INNER_BYTES;
                Some(Node::Inner(right))
            }
        }
    }

    /// Removes the element at `spot`, or gives it the key `to` if its neighbours allow that.
    pub(super) fn take(&mut self, spot: Spot<'_>, to: Option<u64>, bytes: &mut isize) -> Taken {
        match self {
            Node::Leaf(leaf) => leaf.take(spot, to, bytes),
            Node::Inner(inner) => {
                let at = inner.child_of(spot);
                let Some(child) = inner.children[at].as_mut() else {
                    return Taken::Absent;
                };
                let taken = child.take(spot, to, bytes);
                if taken != Taken::Removed {
                    return taken;
                }
                if child.len() > child.max() / 4 {
                    (inner.keys[at], inner.firsts[at]) = child.first();
                    inner.counts[at] -= 1;
                } else {
                    inner.tidy(at, bytes);
                }
                taken
            }
        }
    }

    /// Takes off the last leaf; the elements it held.
    pub(super) fn remove_last_leaf(&mut self, bytes: &mut isize) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.clear(),
            Node::Inner(inner) => {
                let Some(at) = inner.len.checked_sub(1) else {
                    return 0;
                };
                let Some(child) = inner.children[at].as_mut() else {
                    return 0;
                };
                let removed = child.remove_last_leaf(bytes);
                inner.counts[at] -= removed as u32;
                if child.len() == 0 {
                    *bytes -= inner.remove(at).map_or(0, |child| child.bytes());
                }
                removed
            }
        }
    }
}

impl Inner {
    /// Elements below the first `children`.
    #[inline]
    pub(super) fn count_before(&self, children: usize) -> usize {
        // Wrapping, for a table's length is below 2^32: checks would not let it be done for several at once.
        let counts = self.counts[..children].iter();
        counts.fold(0_u32, |n, count| n.wrapping_add(*count)) as usize
    }

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
            let count = *count as usize;
            if *rank < count {
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
    bytes: &mut isize,
    depths: &mut std::collections::BTreeSet<usize>,
) -> usize {
    *bytes += node.bytes();
    match node {
        Node::Leaf(leaf) => {
            depths.insert(depth);
            assert!(leaf.count() > 0 || depth == 0, "only the root may be empty");
            leaf.check();
            leaf.count()
        }
        Node::Inner(inner) => {
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
                assert_eq!(
                    check_node(child, depth + 1, bytes, depths),
                    inner.counts[i] as usize
                );
            }
            inner.count_before(inner.len)
        }
    }
}
