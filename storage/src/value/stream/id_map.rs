//! Hot path. A map ordered by id: a B+ tree of plain vectors.
//!
//! ```text
//! branch  [lowest id, page] [lowest id, page] ...      up to 64 pages; the first one's id is not looked at
//! leaf    [id, value] [id, value] ...                  up to 64 pairs
//! ```
//! Ids mostly come in order and leave in order: a full leaf at the right edge is not split but followed by
//! a new one, so that leaves are full; an emptied one is freed, and a nearly empty one joins its neighbour. A
//! search is O(log n), and so is every change. Heap bytes are counted as vectors change their capacity.

use crate::account::class_size;
use crate::value::stream::id::StreamId;

/// Pairs of a leaf, pages of a branch.
const PAGE_MAX: usize = 64;
/// A page with fewer joins a neighbour, if both together fill half a page at most.
const PAGE_SPARSE: usize = PAGE_MAX / 8;

/// See the module's head.
pub(crate) struct IdMap<V> {
    root: Page<V>,
    len: usize,
    heap_bytes: usize,
}

enum Page<V> {
    Leaf(Vec<(StreamId, V)>),
    Branch(Vec<(StreamId, Page<V>)>),
}

/// Bytes of a vector.
fn bytes_of<T>(vec: &Vec<T>) -> usize {
    class_size(vec.capacity() * size_of::<T>())
}

/// Bytes that a map has grown by.
type Grown = isize;

/// Makes room for one more.
fn make_room<T>(vec: &mut Vec<T>, grown: &mut Grown) {
    if vec.len() == vec.capacity() {
        *grown -= bytes_of(vec).cast_signed();
        vec.reserve_exact(vec.len().clamp(1, PAGE_MAX - vec.len()));
        *grown += bytes_of(vec).cast_signed();
    }
}

/// Gives memory back when three quarters are unused.
fn give_back<T>(vec: &mut Vec<T>, grown: &mut Grown) {
    *grown -= bytes_of(vec).cast_signed();
    if vec.is_empty() {
        *vec = Vec::new();
    } else if vec.len() * 4 <= vec.capacity() {
        vec.shrink_to(vec.len() * 2);
    }
    *grown += bytes_of(vec).cast_signed();
}

impl<V> Page<V> {
    fn len(&self) -> usize {
        match self {
            Page::Leaf(pairs) => pairs.len(),
            Page::Branch(pages) => pages.len(),
        }
    }

    /// Bytes of its vector.
    fn own_bytes(&self) -> Grown {
        match self {
            Page::Leaf(pairs) => bytes_of(pairs).cast_signed(),
            Page::Branch(pages) => bytes_of(pages).cast_signed(),
        }
    }

    /// Bytes of it and of the pages below.
    fn heap_bytes(&self) -> usize {
        match self {
            Page::Leaf(pairs) => bytes_of(pairs),
            Page::Branch(pages) => {
                bytes_of(pages) + pages.iter().map(|(_, p)| p.heap_bytes()).sum::<usize>()
            }
        }
    }
}

/// Which page of a branch holds an id.
fn place<V>(pages: &[(StreamId, Page<V>)], id: StreamId) -> usize {
    pages
        .partition_point(|(lowest, _)| *lowest <= id)
        .saturating_sub(1)
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> IdMap<V> {
    /// An empty map; allocates nothing.
    pub(crate) fn new() -> Self {
        Self {
            root: Page::Leaf(Vec::new()),
            len: 0,
            heap_bytes: 0,
        }
    }

    /// Number of pairs.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of heap of the map itself, as the allocator rounds them.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// The value of an id.
    pub(crate) fn get(&self, id: StreamId) -> Option<&V> {
        let (found, value) = self.from(id).first()?;
        (*found == id).then_some(value)
    }

    /// The value of an id, to change it.
    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut V> {
        let mut page = &mut self.root;
        loop {
            match page {
                Page::Leaf(pairs) => {
                    let at = pairs.binary_search_by_key(&id, |(id, _)| *id).ok()?;
                    return pairs.get_mut(at).map(|(_, value)| value);
                }
                Page::Branch(pages) => {
                    let at = place(pages, id);
                    page = &mut pages[at].1;
                }
            }
        }
    }

    /// The lowest id and its value.
    pub(crate) fn first(&self) -> Option<&(StreamId, V)> {
        self.from(StreamId::MIN).first()
    }

    /// The highest id and its value.
    pub(crate) fn last(&self) -> Option<&(StreamId, V)> {
        self.until(StreamId::MAX).last()
    }

    /// The value of the highest id, to change it.
    pub(crate) fn last_mut(&mut self) -> Option<(StreamId, &mut V)> {
        let mut page = &mut self.root;
        loop {
            match page {
                Page::Leaf(pairs) => return pairs.last_mut().map(|(id, value)| (*id, value)),
                Page::Branch(pages) => page = &mut pages.last_mut()?.1,
            }
        }
    }

    /// The highest id up to this one, and its value.
    pub(crate) fn floor(&self, id: StreamId) -> Option<&(StreamId, V)> {
        self.until(id).last()
    }

    /// Pairs from `id` on, in order.
    pub(crate) fn iter_from(&self, id: StreamId) -> Ascending<'_, V> {
        Ascending {
            map: self,
            pairs: self.from(id),
        }
    }

    /// All pairs, in order.
    pub(crate) fn iter(&self) -> Ascending<'_, V> {
        self.iter_from(StreamId::MIN)
    }

    /// Pairs from `id` downwards.
    pub(crate) fn iter_until(&self, id: StreamId) -> Descending<'_, V> {
        Descending {
            map: self,
            pairs: self.until(id),
        }
    }

    /// The pairs from `id` on of the first leaf that has any.
    fn from(&self, id: StreamId) -> &[(StreamId, V)] {
        fn search<V>(page: &Page<V>, id: StreamId) -> &[(StreamId, V)] {
            match page {
                Page::Leaf(pairs) => &pairs[pairs.partition_point(|(other, _)| *other < id)..],
                Page::Branch(pages) => {
                    let at = place(pages, id);
                    let found = pages.get(at).map_or(&[][..], |(_, page)| search(page, id));
                    match pages.get(at + 1) {
                        Some((_, next)) if found.is_empty() => search(next, id),
                        _ => found,
                    }
                }
            }
        }
        search(&self.root, id)
    }

    /// The pairs up to `id` of the last leaf that has any.
    fn until(&self, id: StreamId) -> &[(StreamId, V)] {
        fn search<V>(page: &Page<V>, id: StreamId) -> &[(StreamId, V)] {
            match page {
                Page::Leaf(pairs) => &pairs[..pairs.partition_point(|(other, _)| *other <= id)],
                Page::Branch(pages) => {
                    let at = place(pages, id);
                    let found = pages.get(at).map_or(&[][..], |(_, page)| search(page, id));
                    match at.checked_sub(1).and_then(|at| pages.get(at)) {
                        Some((_, before)) if found.is_empty() => search(before, id),
                        _ => found,
                    }
                }
            }
        }
        search(&self.root, id)
    }

    /// Gives an id a value; the one it had.
    pub(crate) fn insert(&mut self, id: StreamId, value: V) -> Option<V> {
        let mut grown = 0;
        let (old, split) = insert_into(&mut self.root, id, value, &mut grown);
        self.heap_bytes = self.heap_bytes.wrapping_add_signed(grown);
        self.len += usize::from(old.is_none());
        if let Some(right) = split {
            let left = core::mem::replace(&mut self.root, Page::Branch(Vec::new()));
            let pages = vec![(StreamId::MIN, left), right];
            self.heap_bytes += bytes_of(&pages);
            self.root = Page::Branch(pages);
        }
        old
    }

    /// Takes an id out; its value.
    pub(crate) fn remove(&mut self, id: StreamId) -> Option<V> {
        let mut grown = 0;
        let value = remove_from(&mut self.root, id, &mut grown);
        self.heap_bytes = self.heap_bytes.wrapping_add_signed(grown);
        self.len -= usize::from(value.is_some());
        self.flatten();
        value
    }

    /// Drops up to about `budget` pairs off the end, each shown to `f` first; whether the map is empty.
    pub(crate) fn free_some(&mut self, budget: usize, mut f: impl FnMut(&V)) -> bool {
        let mut left = budget.max(1);
        while left > 0 && self.len > 0 {
            let mut grown = 0;
            let pairs = drop_last_leaf(&mut self.root, &mut grown);
            pairs.iter().for_each(|(_, value)| f(value));
            self.heap_bytes = self.heap_bytes.wrapping_add_signed(grown);
            self.len -= pairs.len();
            left = left.saturating_sub(pairs.len());
        }
        self.flatten();
        self.len == 0
    }

    /// A root of one page or none needs no branch.
    fn flatten(&mut self) {
        loop {
            let Page::Branch(pages) = &mut self.root else {
                return;
            };
            if pages.len() > 1 {
                return;
            }
            self.heap_bytes -= bytes_of(pages);
            self.root = pages.pop().map_or(Page::Leaf(Vec::new()), |(_, page)| page);
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check(&self) {
        fn walk<V>(page: &Page<V>, is_root: bool, seen: &mut Vec<StreamId>) {
            assert!(is_root || page.len() > 0, "no empty page");
            assert!(page.len() <= PAGE_MAX);
            match page {
                Page::Leaf(pairs) => seen.extend(pairs.iter().map(|(id, _)| *id)),
                Page::Branch(pages) => {
                    for (at, (lowest, page)) in pages.iter().enumerate() {
                        let from = seen.len();
                        walk(page, false, seen);
                        assert!(at == 0 || *lowest <= seen[from], "a page's bound");
                        let next = pages.get(at + 1).map(|(next, _)| *next);
                        assert!(next.is_none_or(|next| seen[seen.len() - 1] < next));
                    }
                }
            }
        }
        let mut seen = Vec::new();
        walk(&self.root, true, &mut seen);
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "ascending");
        assert_eq!(seen.len(), self.len);
        assert_eq!(self.root.heap_bytes(), self.heap_bytes, "bytes are counted");
    }
}

/// The value that an id had, and the page to put behind this one.
type Inserted<V> = (Option<V>, Option<(StreamId, Page<V>)>);

fn insert_into<V>(page: &mut Page<V>, id: StreamId, value: V, grown: &mut Grown) -> Inserted<V> {
    match page {
        Page::Leaf(pairs) => match pairs.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => (Some(core::mem::replace(&mut pairs[at].1, value)), None),
            Err(at) => {
                let split = put(pairs, at, (id, value), grown);
                (None, split.map(|right| (right[0].0, Page::Leaf(right))))
            }
        },
        Page::Branch(pages) => {
            let at = place(pages, id);
            let (old, split) = insert_into(&mut pages[at].1, id, value, grown);
            let split = split.and_then(|right| put(pages, at + 1, right, grown));
            (old, split.map(|right| (right[0].0, Page::Branch(right))))
        }
    }
}

/// Puts an element into a page's vector; what goes to a new page behind it when it is full.
fn put<T>(vec: &mut Vec<T>, at: usize, element: T, grown: &mut Grown) -> Option<Vec<T>> {
    if vec.len() < PAGE_MAX {
        make_room(vec, grown);
        vec.insert(at, element);
        return None;
    }
    if at == vec.len() {
        let right = vec![element];
        *grown += bytes_of(&right).cast_signed();
        return Some(right);
    }
    let mut right = vec.split_off(PAGE_MAX / 2);
    *grown += bytes_of(&right).cast_signed();
    let (half, at) = if at <= vec.len() {
        (vec, at)
    } else {
        (&mut right, at - PAGE_MAX / 2)
    };
    make_room(half, grown);
    half.insert(at, element);
    Some(right)
}

fn remove_from<V>(page: &mut Page<V>, id: StreamId, grown: &mut Grown) -> Option<V> {
    match page {
        Page::Leaf(pairs) => {
            let at = pairs.binary_search_by_key(&id, |(id, _)| *id).ok()?;
            let (_, value) = pairs.remove(at);
            give_back(pairs, grown);
            Some(value)
        }
        Page::Branch(pages) => {
            let at = place(pages, id);
            let value = remove_from(&mut pages.get_mut(at)?.1, id, grown)?;
            if pages[at].1.len() == 0 {
                pages.remove(at);
                give_back(pages, grown);
            } else if pages[at].1.len() < PAGE_SPARSE {
                join(pages, at.saturating_sub(1), grown);
            }
            Some(value)
        }
    }
}

/// Puts the pages at `left` and behind it together, if they fill half a page at most.
fn join<V>(pages: &mut Vec<(StreamId, Page<V>)>, left: usize, grown: &mut Grown) {
    let [(_, a), (_, b), ..] = &pages[left..] else {
        return;
    };
    if a.len() + b.len() > PAGE_MAX / 2 {
        return;
    }
    let (lowest, right) = pages.remove(left + 1);
    give_back(pages, grown);
    let Some((_, into)) = pages.get_mut(left) else {
        return;
    };
    *grown -= into.own_bytes() + right.own_bytes();
    match (&mut *into, right) {
        (Page::Leaf(into), Page::Leaf(right)) => {
            into.reserve_exact(right.len());
            into.extend(right);
        }
        (Page::Branch(into), Page::Branch(right)) => {
            // The first page's bound was not looked at: now it is.
            into.reserve_exact(right.len());
            let rest = right.into_iter().enumerate();
            into.extend(rest.map(|(at, (low, page))| (if at == 0 { lowest } else { low }, page)));
        }
        // INVARIANT: all pages below a branch are of one height.
        _ => unreachable!("neighbours are of one kind"),
    }
    *grown += into.own_bytes();
}

/// Takes the last leaf out.
fn drop_last_leaf<V>(page: &mut Page<V>, grown: &mut Grown) -> Vec<(StreamId, V)> {
    match page {
        Page::Leaf(pairs) => {
            *grown -= bytes_of(pairs).cast_signed();
            core::mem::take(pairs)
        }
        Page::Branch(pages) => {
            let Some((_, last)) = pages.last_mut() else {
                return Vec::new();
            };
            let leaf = drop_last_leaf(last, grown);
            if last.len() == 0 {
                // An emptied branch still has its block.
                *grown -= last.own_bytes();
                pages.pop();
            }
            leaf
        }
    }
}

impl<V: Clone> Clone for Page<V> {
    fn clone(&self) -> Self {
        match self {
            Page::Leaf(pairs) => Page::Leaf(pairs.clone()),
            Page::Branch(pages) => Page::Branch(pages.clone()),
        }
    }
}

impl<V: Clone> Clone for IdMap<V> {
    fn clone(&self) -> Self {
        let root = self.root.clone();
        let heap_bytes = root.heap_bytes();
        Self {
            root,
            len: self.len,
            heap_bytes,
        }
    }
}

/// Pairs in order.
pub(crate) struct Ascending<'a, V> {
    map: &'a IdMap<V>,
    pairs: &'a [(StreamId, V)],
}

impl<'a, V> Iterator for Ascending<'a, V> {
    type Item = &'a (StreamId, V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.pairs.split_first()?;
        self.pairs = match rest {
            [] => first.0.next().map_or(&[], |next| self.map.from(next)),
            rest => rest,
        };
        Some(first)
    }
}

/// Pairs in reverse order.
pub(crate) struct Descending<'a, V> {
    map: &'a IdMap<V>,
    pairs: &'a [(StreamId, V)],
}

impl<'a, V> Iterator for Descending<'a, V> {
    type Item = &'a (StreamId, V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (last, rest) = self.pairs.split_last()?;
        self.pairs = match rest {
            [] => last.0.prev().map_or(&[], |prev| self.map.until(prev)),
            rest => rest,
        };
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn id(n: u64) -> StreamId {
        StreamId::new(n / 3, n % 3)
    }

    #[test]
    fn ids_in_order_fill_their_pages() {
        let mut map = IdMap::new();
        for n in 0..100_000 {
            map.insert(id(n), ());
        }
        map.check();
        assert!(map.heap_bytes() < 100_000 * 18, "{}", map.heap_bytes());
        for n in 0..99_990 {
            assert_eq!(map.remove(id(n)), Some(()));
        }
        map.check();
        assert!(map.heap_bytes() < 5_000, "{}", map.heap_bytes());
        assert!(map.iter().map(|(id, ())| *id).eq((99_990..100_000).map(id)));
    }

    #[test]
    fn freed_in_steps() {
        let mut map = IdMap::new();
        for n in 0..10_000 {
            map.insert(id(n * 7919 % 10_000), n);
        }
        let (mut steps, mut seen) = (0, 0);
        while !map.free_some(100, |_| seen += 1) {
            map.check();
            steps += 1;
        }
        assert!((40..110).contains(&steps), "{steps}");
        assert_eq!((seen, map.len(), map.heap_bytes()), (10_000, 0, 0));
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map(
            steps in proptest::collection::vec((0u8..5, 0u64..400, 1u64..120), 0..80),
        ) {
            let (mut map, mut model) = (IdMap::new(), BTreeMap::new());
            for (kind, at, count) in steps {
                for n in at..at + count {
                    // Removals of every other one leave sparse pages.
                    match kind {
                        0 => prop_assert_eq!(map.remove(id(n)), model.remove(&id(n))),
                        1 => prop_assert_eq!(map.remove(id(n * 2)), model.remove(&id(n * 2))),
                        2 => prop_assert_eq!(map.insert(id(520 - n), n), model.insert(id(520 - n), n)),
                        _ => prop_assert_eq!(map.insert(id(n), n), model.insert(id(n), n)),
                    }
                }
                map.check();
                prop_assert_eq!(map.len(), model.len());
                let middle = id(at);
                prop_assert_eq!(map.get(middle), model.get(&middle));
                let pair = |(id, n): &(StreamId, u64)| (*id, *n);
                let floor = model.range(..=middle).next_back().map(|(id, n)| (*id, *n));
                prop_assert_eq!(map.floor(middle).map(pair), floor);
                prop_assert!(map.iter_from(middle).map(pair).eq(model.range(middle..).map(|(i, n)| (*i, *n))));
                let down = model.range(..=middle).rev().map(|(i, n)| (*i, *n));
                prop_assert!(map.iter_until(middle).map(pair).eq(down));
                map.clone().check();
            }
        }
    }
}
