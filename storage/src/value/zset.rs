//! Hot path. Sorted sets: records sorted in one packed block, or a table and a counted B+ tree over one
//! block per element.
//!
//! Order is by score, then by the member's bytes; the zeroes are equal, and as in Redis only the large
//! form keeps the sign of one. Packed while there are at most `zset_max_listpack_entries` members of at most
//! `zset_max_listpack_value_bytes`; never back (as Redis 7.2). Scores are never NaN: callers refuse it.

use core::cmp::Ordering;

use crate::account::class_size;
use crate::hash::member_hash;
use crate::limits::{Limits, PACKED_BYTES_MAX};
use crate::packed::{Packed, Records, same};
use crate::rng::Rng;
use crate::value::blob::{Blob, Blobs, Scored};
use crate::value::leaf::{Spot, key_of};
use crate::value::tree::{Backward, Forward, Tree};
use crate::value::{Added, Part};

/// A map from members to scores, in order of score.
pub struct Zset {
    form: Form,
}

enum Form {
    /// Records of score (8 B, little-endian) and member.
    Packed(Packed<true>),
    Ranked(Box<Ranked>),
}

/// The large form. Every element is in both; `elements` owns them.
struct Ranked {
    elements: Blobs<Scored>,
    order: Tree,
}

impl Ranked {
    fn new() -> Self {
        Self {
            elements: Blobs::new(),
            order: Tree::new(),
        }
    }

    fn add(&mut self, member: &[u8], score: f64) -> Added {
        let hash = member_hash(member);
        let Some(element) = self.elements.find_hashed(hash, member) else {
            let element = Scored::new(member, score);
            self.elements.insert_new(hash, element);
            self.order.insert(Spot::new(score, member), element);
            return Added::New;
        };
        let old = element.score();
        if old == score {
            return Added::Same;
        }
        let stayed = self.order.shift(Spot::new(old, member), score);
        self.elements.set_score(element, score);
        if !stayed {
            self.order.insert(Spot::new(score, member), element);
        }
        Added::Changed
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = member_hash(member);
        let score = self.elements.find_hashed(hash, member)?.score();
        // The order first: it must forget the address before the block is freed.
        self.order.remove(Spot::new(score, member));
        self.elements.remove(hash, member);
        Some(score)
    }

    fn heap_bytes(&self) -> usize {
        class_size(size_of::<Self>()) + self.elements.heap_bytes() + self.order.heap_bytes()
    }
}

impl Clone for Ranked {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        for element in self.order.iter_from(0) {
            let (member, twin) = (element.key(), element.duplicate());
            copy.elements.insert_new(member_hash(member), twin);
            copy.order.insert(Spot::new(element.score(), member), twin);
        }
        copy
    }
}

impl Clone for Zset {
    fn clone(&self) -> Self {
        let form = match &self.form {
            Form::Packed(packed) => Form::Packed(packed.clone()),
            Form::Ranked(ranked) => Form::Ranked(ranked.clone()),
        };
        Self { form }
    }
}

impl Default for Zset {
    fn default() -> Self {
        Self::new()
    }
}

impl Zset {
    /// An empty sorted set; allocates nothing.
    pub fn new() -> Self {
        Self {
            form: Form::Packed(Packed::new()),
        }
    }

    /// An empty sorted set with room for packed elements of so many bytes; [`Zset::fit`] when it is filled.
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

    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len(),
            Form::Ranked(ranked) => ranked.elements.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`Collection::has_table`](super::Collection::has_table).
    #[inline(always)]
    pub(super) fn has_table(&self) -> bool {
        matches!(self.form, Form::Ranked(_))
    }

    /// See [`Collection::prefetch`](super::Collection::prefetch).
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64, part: Part) {
        if let Form::Ranked(ranked) = &self.form {
            ranked.elements.prefetch(hash, part);
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) => "listpack",
            Form::Ranked(_) => "skiplist",
        }
    }

    /// Bytes of heap behind this value (not the value itself), as the allocator rounds them.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Ranked(ranked) => ranked.heap_bytes(),
        }
    }

    /// The score of a member.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.form {
            Form::Packed(packed) => entries(packed)
                .find(|(m, _)| same(m, member))
                .map(|(_, score)| score),
            Form::Ranked(ranked) => ranked.elements.find(member).map(Scored::score),
        }
    }

    /// Becomes large at once when as many as `count` members are about to be added (or given other
    /// scores) and would not fit the packed form by themselves.
    pub fn expect(&mut self, count: usize, limits: &Limits) {
        if let Form::Packed(packed) = &self.form
            && count > limits.zset_max_listpack_entries
        {
            let mut ranked = Box::new(Ranked::new());
            for (member, score) in entries(packed) {
                ranked.add(member, score);
            }
            self.form = Form::Ranked(ranked);
        }
    }

    /// Gives a member a score.
    pub fn add(&mut self, member: &[u8], score: f64, limits: &Limits) -> Added {
        debug_assert!(!score.is_nan());
        let ranked = match &mut self.form {
            Form::Ranked(ranked) => ranked,
            Form::Packed(packed) => {
                if let Some(added) = add_packed(packed, member, score, limits) {
                    return added;
                }
                let mut ranked = Box::new(Ranked::new());
                for (member, score) in entries(packed) {
                    ranked.add(member, score);
                }
                self.form = Form::Ranked(ranked);
                return self.add(member, score, limits);
            }
        };
        ranked.add(member, score)
    }

    /// Removes a member; the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.form {
            Form::Packed(packed) => {
                let (at, score) = find_packed(packed, member)?;
                packed.remove(at, 1);
                Some(score)
            }
            Form::Ranked(ranked) => ranked.remove(member),
        }
    }

    /// How many members order before this one.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.form {
            Form::Packed(packed) => entries(packed).position(|(m, _)| same(m, member)),
            Form::Ranked(ranked) => {
                let score = ranked.elements.find(member)?.score();
                Some(ranked.order.rank(Spot::new(score, member)))
            }
        }
    }

    /// Member and score of this rank (0 = lowest).
    pub fn by_rank(&self, rank: usize) -> Option<(&[u8], f64)> {
        match &self.form {
            Form::Packed(packed) => packed.get(rank).map(entry),
            Form::Ranked(ranked) => ranked.order.by_rank(rank).map(|e| (e.key(), e.score())),
        }
    }

    /// Members of rank `rank`, `rank + 1`... to the end.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        let form = match &self.form {
            Form::Packed(packed) => IterForm::Packed(packed.iter_from(packed.position(rank))),
            Form::Ranked(ranked) => IterForm::Ranked(ranked.order.iter_from(rank)),
        };
        Iter {
            form,
            left: self.len().saturating_sub(rank),
        }
    }

    /// All members, lowest first.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// Members of rank `rank`, `rank - 1`... down to 0; nothing if there is no such rank.
    pub fn iter_rev_from(&self, rank: usize) -> IterRev<'_> {
        let inside = rank < self.len();
        let form = match &self.form {
            Form::Packed(packed) => {
                let end = if inside { packed.position(rank + 1) } else { 0 };
                IterRevForm::Packed(packed.iter_until(end))
            }
            Form::Ranked(ranked) => IterRevForm::Ranked(ranked.order.iter_rev_from(rank)),
        };
        IterRev {
            form,
            left: if inside { rank + 1 } else { 0 },
        }
    }

    /// Rank of the first member with a score of at least `bound`, or above it if `after_equal`; the
    /// length if there is none.
    pub fn rank_of_score(&self, bound: f64, after_equal: bool) -> usize {
        match &self.form {
            Form::Packed(packed) => entries(packed)
                .take_while(|(_, score)| *score < bound || (after_equal && *score == bound))
                .count(),
            Form::Ranked(ranked) => ranked.order.rank_of_score(bound, after_equal),
        }
    }

    /// Rank of the first member of at least `bound` in byte order, or above it if `after_equal`; the
    /// length if there is none. Means something only when all scores are equal.
    pub fn rank_of_lex(&self, bound: &[u8], after_equal: bool) -> usize {
        match &self.form {
            Form::Packed(packed) => entries(packed)
                .take_while(|(member, _)| *member < bound || (after_equal && *member == bound))
                .count(),
            Form::Ranked(ranked) => ranked.order.rank_of_lex(bound, after_equal),
        }
    }

    /// Some member with its score, each about as likely; `None` if the sorted set is empty.
    pub fn random(&self, rng: &mut Rng) -> Option<(&[u8], f64)> {
        self.by_rank(rng.index(self.len()))
    }

    /// Shows about `count` members from `cursor` (0 = start) on; the next cursor, 0 at the end. A
    /// member that stays during a whole scan is shown at least once. A packed one is shown whole.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(&[u8], f64)) -> u64 {
        match &self.form {
            Form::Packed(packed) => {
                entries(packed).for_each(|(member, score)| f(member, score));
                0
            }
            Form::Ranked(ranked) => ranked
                .elements
                .scan(cursor, count, |element| f(element.key(), element.score())),
        }
    }

    /// Frees about `budget_items` members; `true` when nothing is left. Between the first call and the
    /// last the value may only be dropped or freed further.
    pub fn free_step(&mut self, budget_items: usize) -> bool {
        match &mut self.form {
            Form::Packed(_) => {
                *self = Self::new();
                true
            }
            // The order goes first and whole: it must not keep addresses of freed blocks. Its step is
            // a leaf of up to 61, so it may take more elements per call for the same time.
            Form::Ranked(ranked) => {
                ranked.order.free_some(budget_items.saturating_mul(8))
                    && ranked.elements.free_some(budget_items)
            }
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        match &self.form {
            Form::Packed(packed) => {
                packed.check();
                let all: Vec<_> = entries(packed).collect();
                assert!(
                    all.windows(2).all(|w| order(w[0], w[1]) == Ordering::Less),
                    "ascending"
                );
                let mut members: Vec<_> = all.iter().map(|(member, _)| member).collect();
                members.sort_unstable();
                assert!(members.windows(2).all(|w| w[0] != w[1]), "members differ");
            }
            Form::Ranked(ranked) => {
                ranked.elements.check();
                ranked.order.check();
                assert_eq!(ranked.elements.len(), ranked.order.len());
                for element in ranked.order.iter_from(0) {
                    assert_eq!(
                        ranked.elements.find(element.key()),
                        Some(element),
                        "one element, twice held"
                    );
                }
            }
        }
    }
}

impl PartialEq for Zset {
    /// Same members with the same scores, whatever the encodings.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl core::fmt::Debug for Zset {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(m, s)| (m.escape_ascii(), s)))
            .finish()
    }
}

/// Members with scores, lowest first.
pub struct Iter<'a> {
    form: IterForm<'a>,
    left: usize,
}

enum IterForm<'a> {
    Packed(Records<'a, true>),
    Ranked(Forward<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.form {
            IterForm::Packed(records) => entry(records.next()?),
            IterForm::Ranked(forward) => forward.next().map(|e| (e.key(), e.score()))?,
        };
        self.left = self.left.saturating_sub(1);
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Members with scores, highest first.
pub struct IterRev<'a> {
    form: IterRevForm<'a>,
    left: usize,
}

enum IterRevForm<'a> {
    Packed(Records<'a, true>),
    Ranked(Backward<'a>),
}

impl<'a> Iterator for IterRev<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.form {
            IterRevForm::Packed(records) => entry(records.next_back()?),
            IterRevForm::Ranked(backward) => backward.next().map(|e| (e.key(), e.score()))?,
        };
        self.left = self.left.saturating_sub(1);
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for IterRev<'_> {}

#[inline]
fn entry(record: &[u8]) -> (&[u8], f64) {
    match record.split_first_chunk::<8>() {
        Some((score, member)) => (member, f64::from_le_bytes(*score)),
        None => (&[], 0.0),
    }
}

fn entries(packed: &Packed<true>) -> impl Iterator<Item = (&[u8], f64)> {
    packed.iter().map(entry)
}

fn order(a: (&[u8], f64), b: (&[u8], f64)) -> Ordering {
    key_of(a.1).cmp(&key_of(b.1)).then_with(|| a.0.cmp(b.0))
}

/// Position and score of a member.
fn find_packed(packed: &Packed<true>, member: &[u8]) -> Option<(usize, f64)> {
    let used = packed.used_bytes();
    let mut records = packed.iter();
    loop {
        let at = used - records.left();
        let (here, score) = entry(records.next()?);
        if same(here, member) {
            return Some((at, score));
        }
    }
}

/// Adds to the packed form; `None` (and no change) if it must become large first.
fn add_packed(
    packed: &mut Packed<true>,
    member: &[u8],
    score: f64,
    limits: &Limits,
) -> Option<Added> {
    // What was -0 becomes 0.
    let score = score + 0.0;
    let old = find_packed(packed, member);
    match old {
        Some((_, old)) if old == score => return Some(Added::Same),
        Some((at, _)) => packed.remove(at, 1),
        None => {
            let fits = packed.len() < limits.zset_max_listpack_entries
                && member.len() <= limits.zset_max_listpack_value_bytes
                && packed.used_bytes() + member.len() < PACKED_BYTES_MAX;
            if !fits {
                return None;
            }
        }
    }
    let used = packed.used_bytes();
    let mut records = packed.iter();
    let at = loop {
        let at = used - records.left();
        match records.next() {
            Some(record) if order(entry(record), (member, score)) == Ordering::Less => {}
            _ => break at,
        }
    };
    packed.insert(at, &score.to_le_bytes(), member);
    Some(if old.is_some() {
        Added::Changed
    } else {
        Added::New
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    fn filled(n: u32, limits: &Limits) -> Zset {
        let mut zset = Zset::new();
        for i in 0..n {
            let score = f64::from(i.wrapping_mul(2_654_435_761) % (n * 2));
            assert_eq!(
                zset.add(format!("m{i}").as_bytes(), score, limits),
                Added::New
            );
        }
        zset
    }

    #[test]
    fn encodings_are_those_of_redis() {
        let l = Limits::default();
        let mut zset = filled(128, &l);
        assert_eq!(zset.encoding(), "listpack");
        zset.add(b"m1", 77.0, &l);
        assert_eq!(zset.encoding(), "listpack");
        let copy = zset.clone();
        zset.add(b"one more", 77.0, &l);
        assert_eq!(zset.encoding(), "skiplist");
        zset.check();
        zset.remove(b"one more");
        assert_eq!((zset.encoding(), zset == copy), ("skiplist", true));
        let mut long = Zset::new();
        long.add(&[b'x'; 64], 1.0, &l);
        assert_eq!(long.encoding(), "listpack");
        long.add(&[b'x'; 65], 1.0, &l);
        assert_eq!(long.encoding(), "skiplist");
    }

    #[test]
    fn many_expected_members_make_it_large() {
        let l = Limits::default();
        let mut zset = filled(3, &l);
        let copy = zset.clone();
        zset.expect(128, &l);
        assert_eq!(zset.encoding(), "listpack");
        zset.expect(129, &l);
        zset.check();
        assert_eq!((zset.encoding(), zset == copy), ("skiplist", true));
    }

    #[test]
    fn zeroes_are_equal_and_large_ones_keep_their_sign() {
        for (entries, kept) in [(0, -0.0f64), (128, 0.0)] {
            let l = Limits {
                zset_max_listpack_entries: entries,
                ..Limits::default()
            };
            let mut zset = Zset::new();
            assert_eq!(zset.add(b"b", -0.0, &l), Added::New);
            assert_eq!(zset.add(b"a", 0.0, &l), Added::New);
            assert_eq!(zset.add(b"b", 0.0, &l), Added::Same);
            assert_eq!(zset.score(b"b").map(f64::to_bits), Some(kept.to_bits()));
            assert_eq!(zset.rank(b"a"), Some(0));
            assert_eq!(zset.rank_of_score(0.0, false), 0);
            assert_eq!(zset.rank_of_score(-0.0, true), 2);
        }
    }

    #[test]
    fn a_large_one_holds_together() {
        let l = Limits::default();
        let mut zset = filled(100_000, &l);
        zset.check();
        let twin = zset.clone();
        twin.check();
        assert_eq!(twin, zset);
        for i in (0..100_000).filter(|i| i % 10 != 0) {
            assert!(zset.remove(format!("m{i}").as_bytes()).is_some());
        }
        zset.check();
        assert_eq!(zset.len(), 10_000);
        let full = twin.heap_bytes() / 100_000;
        assert!(full < 90, "{full} bytes per element");
        let after = zset.heap_bytes() / 10_000;
        assert!(after < full * 2, "{after} bytes per element after removal");
        let mut steps = 1;
        while !zset.free_step(500) {
            steps += 1;
            assert!(steps < 100);
        }
        assert_eq!(zset.len(), 0);
        drop(twin);
    }

    #[test]
    fn insertion_in_order_fills_the_leaves() {
        let l = Limits::default();
        for descending in [false, true] {
            let mut zset = Zset::new();
            for i in 0..50_000i32 {
                let score = if descending { -i } else { i };
                zset.add(format!("{i:08}").as_bytes(), score.into(), &l);
            }
            zset.check();
            let Form::Ranked(ranked) = &zset.form else {
                unreachable!()
            };
            assert!(ranked.order.heap_bytes() / 50_000 <= 18);
        }
    }

    #[test]
    fn leaves_are_no_larger_than_they_must_be() {
        // Scores that come evenly make all leaves full, and then half empty, at the same time: up to 17.4 bytes an element.
        let l = Limits::default();
        let mut zset = Zset::new();
        let add = |zset: &mut Zset, i: u32| {
            let score = f64::from(i.wrapping_mul(618_033) % 200_000);
            zset.add(format!("m{i}").as_bytes(), score, &l);
        };
        let order_bytes = |zset: &Zset| match &zset.form {
            Form::Ranked(ranked) => ranked.order.heap_bytes() as f64 / zset.len() as f64,
            Form::Packed(_) => 0.0,
        };
        for i in 0..200_000 {
            add(&mut zset, i);
            if i > 10_000 && i % 1000 == 0 {
                let each = order_bytes(&zset);
                assert!(each < 12.5, "{each} bytes an element at {i}");
            }
        }
        assert_eq!(zset.len(), 200_000, "a permutation");
        for i in 0..190_000 {
            zset.remove(format!("m{i}").as_bytes());
        }
        zset.check();
        let each = order_bytes(&zset);
        assert!(each < 25.0, "{each} bytes an element of those that stay");
    }

    #[test]
    fn a_scan_returns_every_member_that_stays() {
        let l = Limits::default();
        let mut zset = filled(3_000, &l);
        let mut seen = BTreeSet::new();
        let (mut cursor, mut i) = (0, 0);
        loop {
            cursor = zset.scan(cursor, 5, |m, _| {
                seen.insert(m.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..20 {
                zset.add(format!("comes{i}").as_bytes(), 0.0, &l);
                i += 1;
            }
        }
        assert!((0..3_000).all(|i| seen.contains(format!("m{i}").as_bytes())));
    }

    /// The law: what a sorted vector of (score, member) says.
    fn agrees(zset: &Zset, model: &HashMap<Vec<u8>, f64>) {
        zset.check();
        let mut sorted: Vec<(&[u8], f64)> = model.iter().map(|(m, s)| (m.as_slice(), *s)).collect();
        sorted.sort_by(|a, b| order(*a, *b));
        assert!(zset.iter().eq(sorted.iter().copied()));
        for (rank, (member, score)) in sorted.iter().enumerate() {
            assert_eq!(zset.rank(member), Some(rank));
            assert_eq!(zset.by_rank(rank), Some((*member, *score)));
            assert_eq!(zset.iter_from(rank).next(), Some((*member, *score)));
            assert_eq!(zset.iter_from(rank).len(), sorted.len() - rank);
            assert!(
                zset.iter_rev_from(rank)
                    .eq(sorted[..=rank].iter().rev().copied())
            );
            for after in [false, true] {
                let expected = sorted
                    .iter()
                    .filter(|e| e.1 < *score || (after && e.1 == *score));
                assert_eq!(zset.rank_of_score(*score, after), expected.count());
            }
        }
        assert_eq!(zset.rank_of_score(f64::INFINITY, true), sorted.len());
        assert_eq!(zset.rank_of_score(f64::NEG_INFINITY, false), 0);
        assert_eq!(zset.by_rank(sorted.len()), None);
        assert_eq!(zset.iter_rev_from(sorted.len()).next(), None);
        assert_eq!(zset.iter_from(sorted.len()).next(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn zset_behaves_as_a_sorted_map(
            steps in proptest::collection::vec((0u8..4, 0u16..300, -6i8..7), 0..900),
            entries in prop_oneof![Just(0usize), 0usize..200],
        ) {
            let l = Limits { zset_max_listpack_entries: entries, ..Limits::default() };
            let (mut zset, mut model) = (Zset::new(), HashMap::<Vec<u8>, f64>::new());
            for (kind, member, score) in steps {
                let (member, score) = (format!("m{member}").into_bytes(), f64::from(score));
                if kind == 0 {
                    prop_assert_eq!(zset.remove(&member), model.remove(&member));
                } else {
                    let expected = match model.insert(member.clone(), score) {
                        None => Added::New,
                        Some(old) if old == score => Added::Same,
                        Some(_) => Added::Changed,
                    };
                    prop_assert_eq!(zset.add(&member, score, &l), expected);
                }
                prop_assert_eq!(zset.len(), model.len());
                prop_assert_eq!(zset.score(&member), model.get(&member).copied());
            }
            agrees(&zset, &model);
        }

        #[test]
        fn lex_ranks_are_those_of_sorted_members(
            members in proptest::collection::btree_set("[a-d]{1,4}", 0..250),
            bound in "[a-d]{0,4}",
        ) {
            for entries in [0, 250] {
                let l = Limits { zset_max_listpack_entries: entries, ..Limits::default() };
                let mut zset = Zset::new();
                members.iter().for_each(|m| { zset.add(m.as_bytes(), 1.0, &l); });
                prop_assert_eq!(zset.rank_of_lex(bound.as_bytes(), false), members.range(..bound.clone()).count());
                prop_assert_eq!(zset.rank_of_lex(bound.as_bytes(), true), members.range(..=bound.clone()).count());
            }
        }
    }
}
