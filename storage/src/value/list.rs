//! Hot path. Lists: one packed block while tiny, else a deque of chunks (deque.rs).
//!
//! The encoding that Redis 7.2 would report is kept apart from the form: "listpack" until the elements
//! exceed `list-max-listpack-size` in Redis's own bytes, then "quicklist" until one chunk of at most half
//! the limit is left.

use crate::limits::{ChunkLimit, Limits};
use crate::packed::{Packed, Records, record_bytes};
use crate::value::Side;
use crate::value::deque::{Backward, Deque, Forward};

/// A packed list holds at most this many bytes of records. Far below the smallest limit in bytes (4 KiB),
/// so that a packed list needs no count of Redis's bytes.
const PACKED_LIST_BYTES_MAX: usize = 512;
/// And at most this many elements, since its end is found by walking.
const PACKED_LIST_LEN_MAX: usize = 64;
/// A deque becomes packed again below a quarter of each.
const HYSTERESIS: usize = 4;

/// A sequence of byte strings.
#[derive(Clone)]
pub struct List {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Packed(Packed<false>),
    Deque(Box<Deque>),
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    /// An empty list; allocates nothing.
    pub fn new() -> Self {
        Self {
            form: Form::Packed(Packed::new()),
        }
    }

    /// An empty list with room for packed elements of so many bytes; [`List::fit`] when it is filled.
    pub(crate) fn with_room(packed_bytes: usize) -> Self {
        Self {
            form: Form::Packed(Packed::with_room(packed_bytes)),
        }
    }

    /// Gives back what room is left.
    pub(crate) fn fit(&mut self) {
        if let Form::Packed(packed) = &mut self.form {
            packed.fit();
        }
    }

    /// Its packed block, if it is small enough for that to lie in an item's.
    pub(super) fn packed(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Packed(packed) => packed.block(),
            _ => None,
        }
    }

    /// The one that has this packed block: to be read or copied.
    #[inline]
    pub(super) fn of_block(block: Box<[u8]>) -> Self {
        Self {
            form: Form::Packed(Packed::of_block(block)),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len(),
            Form::Deque(deque) => deque.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Deque(deque) if deque.is_quicklist() => "quicklist",
            _ => "listpack",
        }
    }

    /// Bytes of heap behind this value (not the value itself), as the allocator rounds them.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Deque(deque) => deque.heap_bytes(),
        }
    }

    /// Element `index`, counted from the head.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        match &self.form {
            Form::Packed(packed) => packed.get(index),
            Form::Deque(deque) => deque.get(index),
        }
    }

    /// The element at one end.
    pub fn peek(&self, side: Side) -> Option<&[u8]> {
        match &self.form {
            Form::Packed(packed) if side == Side::Left => packed.iter().next(),
            Form::Packed(packed) => packed.iter().last(),
            Form::Deque(deque) => deque.peek(side),
        }
    }

    /// The deque, made of the packed form if there is none yet.
    fn as_deque(&mut self, limit: ChunkLimit) -> &mut Deque {
        if let Form::Packed(packed) = &self.form {
            self.form = Form::Deque(Box::new(Deque::listpack(packed.iter(), limit)));
        }
        match &mut self.form {
            Form::Deque(deque) => deque,
            // INVARIANT: the form was made a deque above.
            Form::Packed(_) => unreachable!("just made a deque"),
        }
    }

    /// Is a quicklist again, as it was before changes that have been taken back.
    pub(crate) fn make_quicklist(&mut self, limits: &Limits) {
        let limit = ChunkLimit::of(limits.list_max_listpack_size);
        self.as_deque(limit).make_quicklist();
    }

    /// Makes a deque that has become tiny packed again.
    fn settle(&mut self) {
        let Form::Deque(deque) = &self.form else {
            return;
        };
        let bytes = PACKED_LIST_BYTES_MAX / HYSTERESIS;
        if deque.is_tiny(bytes, PACKED_LIST_LEN_MAX / HYSTERESIS) {
            let mut packed = Packed::new();
            deque.iter_from(0).for_each(|item| packed.push(item));
            self.form = Form::Packed(packed);
        }
    }

    /// Adds an element at one end.
    #[inline]
    pub fn push(&mut self, side: Side, item: &[u8], limits: &Limits) {
        let limit = ChunkLimit::of(limits.list_max_listpack_size);
        if let Form::Packed(packed) = &mut self.form
            && packed_takes(packed, item, packed.len() + 1, limit)
        {
            let at = if side == Side::Left {
                0
            } else {
                packed.used_bytes()
            };
            return packed.insert(at, item, &[]);
        }
        self.as_deque(limit).push(side, item, limit);
    }

    /// Removes the element at one end and returns it.
    pub fn pop(&mut self, side: Side) -> Option<Vec<u8>> {
        let item = self.peek(side)?.to_vec();
        self.drop_end(side);
        Some(item)
    }

    /// Removes the element at one end; whether there was one.
    pub fn drop_end(&mut self, side: Side) -> bool {
        match &mut self.form {
            Form::Packed(packed) => {
                let Some(last) = packed.len().checked_sub(1) else {
                    return false;
                };
                let at = if side == Side::Left {
                    0
                } else {
                    packed.position(last)
                };
                packed.remove(at, 1);
            }
            Form::Deque(deque) => {
                deque.drop_end(side);
                self.settle();
            }
        }
        true
    }

    /// Replaces element `index`; whether it exists.
    pub fn set(&mut self, index: usize, item: &[u8], limits: &Limits) -> bool {
        if index >= self.len() {
            return false;
        }
        let limit = ChunkLimit::of(limits.list_max_listpack_size);
        if let Form::Packed(packed) = &mut self.form
            && packed_takes(packed, item, packed.len() + 1, limit)
        {
            packed.replace(packed.position(index), item, &[]);
            return true;
        }
        self.as_deque(limit).set(index, item, limit);
        self.settle();
        true
    }

    /// Inserts before element `index`; at the length or above: at the tail.
    pub fn insert(&mut self, index: usize, item: &[u8], limits: &Limits) {
        let limit = ChunkLimit::of(limits.list_max_listpack_size);
        if let Form::Packed(packed) = &mut self.form
            && packed_takes(packed, item, packed.len() + 1, limit)
        {
            return packed.insert(packed.position(index), item, &[]);
        }
        self.as_deque(limit).insert(index, item, limit);
    }

    /// Removes element `index`; whether it existed.
    pub fn remove(&mut self, index: usize) -> bool {
        if index >= self.len() {
            return false;
        }
        match &mut self.form {
            Form::Packed(packed) => packed.remove(packed.position(index), 1),
            Form::Deque(deque) => {
                deque.remove(index);
                self.settle();
            }
        }
        true
    }

    /// Keeps the elements `start..end` only.
    pub fn trim(&mut self, start: usize, end: usize) {
        let len = self.len();
        let end = end.min(len);
        let start = start.min(end);
        match &mut self.form {
            Form::Packed(packed) => {
                packed.remove(packed.position(end), len - end);
                packed.remove(0, start);
            }
            Form::Deque(deque) => {
                deque.drop_many(Side::Right, len - end);
                deque.drop_many(Side::Left, start);
                self.settle();
            }
        }
    }

    /// All elements, head to tail.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// Elements `index`, `index + 1`... to the tail.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        let form = match &self.form {
            Form::Packed(packed) => IterForm::Packed(packed.iter_from(packed.position(index))),
            Form::Deque(deque) => IterForm::Deque(deque.iter_from(index)),
        };
        Iter {
            form,
            left: self.len().saturating_sub(index),
        }
    }

    /// All elements, tail to head.
    pub fn iter_rev(&self) -> IterRev<'_> {
        self.iter_rev_from(self.len().wrapping_sub(1))
    }

    /// Elements `index`, `index - 1`... down to the head; nothing if there is no element `index`.
    pub fn iter_rev_from(&self, index: usize) -> IterRev<'_> {
        let left = if index < self.len() { index + 1 } else { 0 };
        let form = match &self.form {
            Form::Packed(packed) => IterRevForm::Packed(packed),
            Form::Deque(deque) => IterRevForm::Deque(deque.iter_rev_from(index)),
        };
        IterRev { form, left }
    }

    /// Frees about `budget_items` elements (at least a chunk); `true` when nothing is left. Between the
    /// first call and the last the value may only be dropped or freed further.
    pub fn free_step(&mut self, budget_items: usize) -> bool {
        match &mut self.form {
            Form::Packed(_) => {
                *self = Self::new();
                true
            }
            Form::Deque(deque) => deque.free_some(budget_items),
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        match &self.form {
            Form::Packed(packed) => {
                packed.check();
                assert!(packed.used_bytes() <= PACKED_LIST_BYTES_MAX);
                assert!(packed.len() <= PACKED_LIST_LEN_MAX);
            }
            Form::Deque(deque) => deque.check(),
        }
    }
}

/// Whether a packed list stays packed with one more `item`, when it has `count` elements then.
#[inline]
fn packed_takes(packed: &Packed<false>, item: &[u8], count: usize, limit: ChunkLimit) -> bool {
    packed.used_bytes() + record_bytes::<false>(item.len()) <= PACKED_LIST_BYTES_MAX
        && count <= PACKED_LIST_LEN_MAX
        && !limit.exceeded(0, count)
}

impl PartialEq for List {
    /// Same elements in the same order, whatever the encodings.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl core::fmt::Debug for List {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(<[u8]>::escape_ascii))
            .finish()
    }
}

/// Elements, head to tail.
pub struct Iter<'a> {
    form: IterForm<'a>,
    left: usize,
}

enum IterForm<'a> {
    Packed(Records<'a, false>),
    Deque(Forward<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let item = match &mut self.form {
            IterForm::Packed(records) => records.next()?,
            IterForm::Deque(forward) => forward.next()?,
        };
        self.left = self.left.saturating_sub(1);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Elements, tail to head.
pub struct IterRev<'a> {
    form: IterRevForm<'a>,
    left: usize,
}

enum IterRevForm<'a> {
    /// Each step walks from the head: at most `PACKED_LIST_LEN_MAX` records.
    Packed(&'a Packed<false>),
    Deque(Backward<'a>),
}

impl<'a> Iterator for IterRev<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.form {
            IterRevForm::Packed(packed) => packed.get(self.left),
            IterRevForm::Deque(backward) => backward.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for IterRev<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn sized(size: i32) -> Limits {
        Limits {
            list_max_listpack_size: size,
            ..Limits::default()
        }
    }

    #[test]
    fn a_list_becomes_a_quicklist_and_back_where_redis_does() {
        let l = sized(-2);
        let mut list = List::new();
        // An element of 8 letters takes 10 bytes of a listpack, whose frame takes 7:
        // the last push that fits has 7 + 10 n + 8 <= 8192.
        let mut n = 0;
        while list.encoding() == "listpack" {
            list.push(Side::Right, b"abcdefgh", &l);
            n += 1;
        }
        assert_eq!(n, 819);
        list.check();
        // Back when one chunk is left with at most 4096 bytes.
        while list.encoding() == "quicklist" {
            list.pop(Side::Right);
            n -= 1;
        }
        assert_eq!(n, 408);
        list.check();
    }

    #[test]
    fn a_limit_by_count_is_a_limit_of_each_chunk() {
        let l = sized(4);
        let mut list = List::new();
        for i in 0..5u8 {
            list.push(Side::Right, &[b'a' + i], &l);
            assert_eq!(
                list.encoding(),
                if i < 4 { "listpack" } else { "quicklist" }
            );
        }
        list.pop(Side::Right);
        assert_eq!(
            list.encoding(),
            "quicklist",
            "four are more than half of four"
        );
        list.pop(Side::Right);
        list.pop(Side::Right);
        assert_eq!((list.encoding(), list.len()), ("listpack", 2));
        list.check();
    }

    #[test]
    fn a_long_element_has_its_own_chunk() {
        let l = sized(-2);
        let mut list = List::new();
        let long = vec![b'x'; 100_000];
        for i in 0..100u32 {
            list.push(Side::Right, &i.to_le_bytes(), &l);
        }
        assert_eq!(list.encoding(), "listpack");
        list.set(50, &long, &l);
        list.check();
        assert_eq!(
            (list.encoding(), list.get(50)),
            ("quicklist", Some(&long[..]))
        );
        list.insert(20, &long, &l);
        list.check();
        assert_eq!(list.get(51), Some(&long[..]));
        assert_eq!(list.get(20), Some(&long[..]));
        assert_eq!(list.get(52), Some(&51u32.to_le_bytes()[..]));
        list.trim(0, 10);
        list.check();
        assert_eq!((list.encoding(), list.len()), ("listpack", 10));
    }

    #[test]
    fn a_large_list_is_found_into_and_freed_in_steps() {
        let l = sized(-2);
        let mut list = List::new();
        for i in 0..100_000u32 {
            list.push(
                if i % 2 == 0 { Side::Left } else { Side::Right },
                &i.to_le_bytes(),
                &l,
            );
        }
        list.check();
        let all: Vec<Vec<u8>> = list.iter().map(<[u8]>::to_vec).collect();
        for i in (0..100_000).step_by(97) {
            assert_eq!(list.get(i), Some(&all[i][..]));
            assert_eq!(list.iter_from(i).next(), list.get(i));
            assert_eq!(list.iter_rev_from(i).next(), list.get(i));
        }
        assert!(list.heap_bytes() < 100_000 * 7, "{}", list.heap_bytes());
        let copy = list.clone();
        assert_eq!(copy, list);
        let mut steps = 1;
        while !list.free_step(2_000) {
            steps += 1;
        }
        assert!((20..=50).contains(&steps), "{steps}");
        assert_eq!(list.len(), 0);
    }

    #[test]
    fn a_queue_does_not_grow() {
        let l = sized(-2);
        let (mut list, mut most) = (List::new(), 0);
        for i in 0..200_000u64 {
            list.push(Side::Right, &i.to_le_bytes(), &l);
            if i >= 300 {
                assert_eq!(list.pop(Side::Left), Some((i - 300).to_le_bytes().to_vec()));
            }
            most = most.max(list.heap_bytes());
        }
        list.check();
        assert!(most < 8_192, "{most}");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(bool, Vec<u8>),
        Pop(bool),
        Set(usize, Vec<u8>),
        Insert(usize, Vec<u8>),
        Remove(usize),
        Trim(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let item = || {
            prop_oneof![
                10 => "[a-z0-9]{0,12}".prop_map(String::into_bytes),
                3 => any::<i32>().prop_map(|n| n.to_string().into_bytes()),
                1 => (0usize..3000).prop_map(|n| vec![b'x'; n]),
                1 => (4000usize..20_000).prop_map(|n| vec![b'y'; n]),
            ]
        };
        prop_oneof![
            12 => (any::<bool>(), item()).prop_map(|(s, i)| Step::Push(s, i)),
            4 => any::<bool>().prop_map(Step::Pop),
            2 => (any::<usize>(), item()).prop_map(|(n, i)| Step::Set(n, i)),
            4 => (any::<usize>(), item()).prop_map(|(n, i)| Step::Insert(n, i)),
            4 => any::<usize>().prop_map(Step::Remove),
            1 => (0usize..30, 0usize..30).prop_map(|(a, b)| Step::Trim(a, b)),
        ]
    }

    fn side(right: bool) -> Side {
        if right { Side::Right } else { Side::Left }
    }

    fn apply(list: &mut List, model: &mut VecDeque<Vec<u8>>, step: Step, l: &Limits) {
        let len = model.len();
        match step {
            Step::Push(right, item) => {
                list.push(side(right), &item, l);
                if right {
                    model.push_back(item)
                } else {
                    model.push_front(item)
                }
            }
            Step::Pop(right) => {
                let expected = if right {
                    model.pop_back()
                } else {
                    model.pop_front()
                };
                assert_eq!(list.peek(side(right)), expected.as_deref());
                assert_eq!(list.pop(side(right)), expected);
            }
            Step::Set(n, item) => {
                let n = n % (len + 1);
                assert_eq!(list.set(n, &item, l), n < len);
                if n < len {
                    model[n] = item;
                }
            }
            Step::Insert(n, item) => {
                let n = n % (len + 1);
                list.insert(n, &item, l);
                model.insert(n, item);
            }
            Step::Remove(n) => {
                let n = n % (len + 1);
                assert_eq!(list.remove(n), model.remove(n).is_some());
            }
            Step::Trim(a, b) => {
                let (start, end) = (a.min(len), len.saturating_sub(b));
                list.trim(start, end);
                let end = end.max(start);
                *model = model.drain(start..end).collect();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn list_behaves_as_a_deque(
            steps in proptest::collection::vec(step(), 0..500),
            size in prop_oneof![Just(-2), Just(-1), Just(-5), 0i32..9, Just(128)],
        ) {
            let l = sized(size);
            let (mut list, mut model) = (List::new(), VecDeque::<Vec<u8>>::new());
            for step in steps {
                apply(&mut list, &mut model, step, &l);
                list.check();
                prop_assert_eq!(list.len(), model.len());
                let middle = model.len() / 2;
                prop_assert_eq!(list.get(middle), model.get(middle).map(Vec::as_slice));
            }
            prop_assert!(list.iter().eq(model.iter().map(Vec::as_slice)));
            prop_assert!(list.iter_rev().eq(model.iter().rev().map(Vec::as_slice)));
            for n in 0..model.len() {
                prop_assert_eq!(list.get(n), Some(&model[n][..]));
                prop_assert!(list.iter_from(n).eq(model.iter().skip(n).map(Vec::as_slice)));
                prop_assert!(list.iter_rev_from(n).eq(model.iter().take(n + 1).rev().map(Vec::as_slice)));
            }
        }
    }
}
