//! Hot path. Hashes: pairs in one packed block, or a table with one block per pair.
//!
//! A hash is packed while it has at most `hash_max_listpack_entries` fields and no field or value
//! above `hash_max_listpack_value_bytes`; it never goes back (as Redis 7.2).
//!
//! Fields may have deadlines: a sorted set of their names beside the pairs, there only while one has. A deadline is data and nothing
//! more: whoever owns the clock removes a field (`Shard::expire_fields`). Milliseconds of a deadline are exact in a score up to 2^53.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use crate::account::class_size;
use crate::limits::{Limits, PACKED_BYTES_MAX};
use crate::packed::{Packed, Records, same};
use crate::rng::Rng;
use crate::value::blob::{Blob, Blobs, Pair};
use crate::value::{Added, Part, Zset};

/// Whether any hash of this process ever had a field with a deadline: until then nobody looks for one.
static SOME_FIELD_EXPIRES: AtomicBool = AtomicBool::new(false);

/// See [`SOME_FIELD_EXPIRES`].
#[inline(always)]
pub fn some_field_expires() -> bool {
    SOME_FIELD_EXPIRES.load(Relaxed)
}

/// A map from fields to values.
#[derive(Clone)]
pub struct Hash {
    form: Form,
    /// Fields with a deadline, unix ms; never an empty one, and no field that is not there.
    deadlines: Option<Box<Zset>>,
}

#[derive(Clone)]
enum Form {
    /// Field, value, field, value...
    Packed(Packed<false>),
    Table(Box<Blobs<Pair>>),
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash {
    /// An empty hash; allocates nothing.
    pub fn new() -> Self {
        Self {
            form: Form::Packed(Packed::new()),
            deadlines: None,
        }
    }

    /// An empty hash with room for packed elements of so many bytes; [`Hash::fit`] when it is filled.
    pub(crate) fn with_room(packed_bytes: usize) -> Self {
        Self {
            form: Form::Packed(Packed::with_room(packed_bytes)),
            deadlines: None,
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
            Form::Packed(packed) if self.deadlines.is_none() => packed.block(),
            _ => None,
        }
    }

    /// The one that has this packed block: to be read or copied.
    #[inline]
    pub(super) fn of_block(block: Box<[u8]>) -> Self {
        Self {
            form: Form::Packed(Packed::of_block(block)),
            deadlines: None,
        }
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len() / 2,
            Form::Table(table) => table.len(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`Collection::has_table`](super::Collection::has_table).
    #[inline(always)]
    pub(super) fn has_table(&self) -> bool {
        matches!(self.form, Form::Table(_))
    }

    /// See [`Collection::prefetch`](super::Collection::prefetch).
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64, part: Part) {
        if let Form::Table(table) = &self.form {
            table.prefetch(hash, part);
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) if self.deadlines.is_some() => "listpackex",
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Bytes of heap behind this value (not the value itself), as the allocator rounds them.
    pub fn heap_bytes(&self) -> usize {
        let deadlines = self.deadlines.as_ref();
        let deadlines = deadlines.map_or(0, |d| class_size(size_of::<Zset>()) + d.heap_bytes());
        let pairs = match &self.form {
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Table(table) => class_size(size_of::<Blobs<Pair>>()) + table.heap_bytes(),
        };
        pairs + deadlines
    }

    /// The deadline of a field, unix ms.
    pub fn deadline_ms(&self, field: &[u8]) -> Option<u64> {
        Some(self.deadlines.as_ref()?.score(field)? as u64)
    }

    /// The earliest deadline of a field.
    #[inline]
    pub fn first_deadline_ms(&self) -> Option<u64> {
        Some(self.deadlines.as_ref()?.by_rank(0)?.1 as u64)
    }

    /// Fields with their deadlines, earliest first.
    pub fn deadlines(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let all = self.deadlines.iter().flat_map(|deadlines| deadlines.iter());
        all.map(|(field, at)| (field, at as u64))
    }

    /// Gives a field a deadline, at most [`Hash::DEADLINE_MS_MAX`], or takes it away; whether that changes anything.
    pub fn set_deadline(&mut self, field: &[u8], at_ms: Option<u64>) -> bool {
        if let Some(at_ms) = at_ms.map(|at_ms| at_ms.min(Self::DEADLINE_MS_MAX)) {
            if !self.contains(field) {
                return false;
            }
            SOME_FIELD_EXPIRES.store(true, Relaxed);
            let deadlines = self.deadlines.get_or_insert_default();
            return deadlines.add(field, at_ms as f64, &Limits::default()) != Added::Same;
        }
        let Some(deadlines) = &mut self.deadlines else {
            return false;
        };
        let had_one = deadlines.remove(field).is_some();
        if deadlines.is_empty() {
            self.deadlines = None;
        }
        had_one
    }

    /// The latest deadline of a field, as in Redis.
    pub const DEADLINE_MS_MAX: u64 = (1 << 46) - 1;

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.form {
            Form::Packed(packed) => pairs(packed).find(|(f, _)| same(f, field)).map(|(_, v)| v),
            Form::Table(table) => table.find(field).map(Pair::value),
        }
    }

    /// Whether the field is there.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Becomes a table at once when as many as `count` pairs are about to be set that a small form has no room for, were each
    /// field a new one.
    pub fn expect(&mut self, count: usize, limits: &Limits) {
        if matches!(self.form, Form::Packed(_)) && count > limits.hash_max_listpack_entries {
            self.unpack();
        }
    }

    /// Sets a field, which has no deadline then; whether it is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        if self.deadlines.is_some() {
            self.set_deadline(field, None);
        }
        self.set_pair(field, value, limits)
    }

    fn set_pair(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        if let Form::Packed(packed) = &mut self.form {
            let longest = field.len().max(value.len());
            let room = PACKED_BYTES_MAX.saturating_sub(packed.used_bytes() + longest * 2);
            if longest <= limits.hash_max_listpack_value_bytes && room > 0 {
                let new = set_packed(packed, field, value);
                // (Also behind a field that was there: as Redis, when the limit is lower than it was.)
                if packed.len() / 2 > limits.hash_max_listpack_entries {
                    self.unpack();
                }
                return new;
            }
            self.unpack();
        }
        match &mut self.form {
            Form::Table(table) => table.set(field, value),
            Form::Packed(packed) => set_packed(packed, field, value),
        }
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if self.deadlines.is_some() {
            self.set_deadline(field, None);
        }
        match &mut self.form {
            Form::Packed(packed) => {
                let Some((at, _)) = find_packed(packed, field) else {
                    return false;
                };
                packed.remove(at, 2);
                true
            }
            Form::Table(table) => table.remove(crate::hash::member_hash(field), field),
        }
    }

    /// All pairs, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (packed, table) = match &self.form {
            Form::Packed(packed) => (Some(pairs(packed)), None),
            Form::Table(table) => (
                None,
                Some(table.iter().map(|pair| (pair.key(), pair.value()))),
            ),
        };
        packed
            .into_iter()
            .flatten()
            .chain(table.into_iter().flatten())
    }

    /// Some pair, each about as likely; `None` if the hash is empty.
    pub fn random(&self, rng: &mut Rng) -> Option<(&[u8], &[u8])> {
        match &self.form {
            Form::Packed(packed) => pairs(packed).nth(rng.index(packed.len() / 2)),
            Form::Table(table) => table.random(rng).map(|pair| (pair.key(), pair.value())),
        }
    }

    /// Shows about `count` pairs from `cursor` (0 = start) on; the next cursor, 0 at the end. A field
    /// that stays during a whole scan is shown at least once. A packed hash is shown whole.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(&[u8], &[u8])) -> u64 {
        match &self.form {
            Form::Packed(packed) => {
                pairs(packed).for_each(|(field, value)| f(field, value));
                0
            }
            Form::Table(table) => table.scan(cursor, count, |pair| f(pair.key(), pair.value())),
        }
    }

    /// Frees about `budget_items` fields; `true` when nothing is left. Between the first call and the
    /// last the value may only be dropped or freed further.
    pub fn free_step(&mut self, budget_items: usize) -> bool {
        match &mut self.form {
            Form::Packed(_) => {
                *self = Self::new();
                true
            }
            Form::Table(table) => {
                let deadlines = self.deadlines.as_mut();
                if deadlines.is_none_or(|deadlines| deadlines.free_step(budget_items)) {
                    self.deadlines = None;
                    return table.free_some(budget_items);
                }
                false
            }
        }
    }

    fn unpack(&mut self) {
        let Form::Packed(packed) = &self.form else {
            return;
        };
        let mut table = Box::new(Blobs::new());
        for (field, value) in pairs(packed) {
            table.insert_new(crate::hash::member_hash(field), Pair::new(field, value));
        }
        self.form = Form::Table(table);
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        if let Some(deadlines) = &self.deadlines {
            deadlines.check();
            assert!(!deadlines.is_empty(), "no empty set of deadlines");
            assert!(deadlines.iter().all(|(field, _)| self.contains(field)));
        }
        match &self.form {
            Form::Packed(packed) => {
                packed.check();
                assert_eq!(packed.len() % 2, 0, "fields come with values");
                let mut fields: Vec<_> = pairs(packed).map(|(field, _)| field).collect();
                fields.sort_unstable();
                assert!(fields.windows(2).all(|w| w[0] != w[1]), "fields differ");
            }
            Form::Table(table) => table.check(),
        }
    }
}

impl PartialEq for Hash {
    /// Same fields with the same values and deadlines, whatever the encodings.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.deadlines == other.deadlines
            && self.iter().all(|(f, v)| other.get(f) == Some(v))
    }
}

impl core::fmt::Debug for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(k, v)| (k.escape_ascii(), v.escape_ascii())),
            )
            .finish()
    }
}

fn pairs(packed: &Packed<false>) -> Pairs<'_> {
    Pairs {
        records: packed.iter(),
    }
}

#[derive(Clone)]
struct Pairs<'a> {
    records: Records<'a, false>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.records.next()?, self.records.next()?))
    }
}

/// Positions of a field and of its value.
fn find_packed(packed: &Packed<false>, field: &[u8]) -> Option<(usize, usize)> {
    let used = packed.used_bytes();
    let mut records = packed.iter();
    loop {
        let at = used - records.left();
        let here = records.next()?;
        if same(here, field) {
            return Some((at, used - records.left()));
        }
        records.next()?;
    }
}

fn set_packed(packed: &mut Packed<false>, field: &[u8], value: &[u8]) -> bool {
    match find_packed(packed, field) {
        Some((_, value_at)) => packed.replace(value_at, value, &[]),
        None => {
            packed.push(field);
            packed.push(value);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn thresholds_are_those_of_redis() {
        let limits = Limits::default();
        let mut hash = Hash::new();
        for i in 0..limits.hash_max_listpack_entries {
            hash.set(format!("f{i}").as_bytes(), b"v", &limits);
        }
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"f0", &[b'v'; 64], &limits);
        assert_eq!(hash.encoding(), "listpack");
        let mut long = hash.clone();
        assert!(!long.set(b"f0", &[b'v'; 65], &limits), "an old field");
        assert_eq!(long.encoding(), "hashtable");
        assert!(hash.set(b"one more", b"v", &limits));
        assert_eq!(hash.encoding(), "hashtable");
        hash.check();
        for i in 0..limits.hash_max_listpack_entries {
            assert!(hash.remove(format!("f{i}").as_bytes()));
        }
        assert_eq!(hash.encoding(), "hashtable", "never back");
        assert_eq!(hash.len(), 1);
    }

    #[test]
    fn a_scan_returns_every_field_that_stays() {
        let limits = Limits::default();
        let mut hash = Hash::new();
        for i in 0..5_000u32 {
            hash.set(&i.to_le_bytes(), b"stays", &limits);
        }
        let mut seen = std::collections::HashSet::new();
        let (mut cursor, mut next) = (0, 5_000u32);
        loop {
            cursor = hash.scan(cursor, 10, |field, _| {
                seen.insert(field.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..50 {
                hash.set(&next.to_le_bytes(), b"comes", &limits);
                next += 1;
            }
        }
        assert!((0..5_000u32).all(|i| seen.contains(&i.to_le_bytes()[..])));
    }

    #[test]
    fn a_large_hash_is_freed_in_steps() {
        let limits = Limits::default();
        let mut hash = Hash::new();
        for i in 0..100_000u32 {
            hash.set(&i.to_le_bytes(), &i.to_be_bytes(), &limits);
        }
        hash.check();
        assert_eq!(hash.clone(), hash);
        let mut steps = 1;
        while !hash.free_step(1_000) {
            steps += 1;
        }
        assert!((90..=110).contains(&steps), "{steps}");
        assert_eq!(hash.len(), 0);
    }

    #[test]
    fn deadlines_go_with_their_fields() {
        let limits = Limits::default();
        let mut hash = Hash::new();
        for i in 0..300u64 {
            hash.set(format!("f{i}").as_bytes(), b"v", &limits);
            assert!(hash.set_deadline(format!("f{i}").as_bytes(), Some(1000 - i)));
        }
        assert!(!hash.set_deadline(b"f0", Some(1000)) && !hash.set_deadline(b"none", Some(1)));
        assert_eq!(
            (hash.first_deadline_ms(), hash.deadline_ms(b"f9")),
            (Some(701), Some(991))
        );
        let bytes = hash.heap_bytes();
        assert!(hash.remove(b"f299") && !hash.set(b"f298", b"w", &limits));
        assert_eq!(
            (hash.first_deadline_ms(), hash.deadlines().count()),
            (Some(703), 298)
        );
        hash.check();
        assert_ne!(hash, {
            let mut other = hash.clone();
            other.set_deadline(b"f1", None);
            other
        });
        for i in 0..300u64 {
            hash.set_deadline(format!("f{i}").as_bytes(), None);
        }
        assert_eq!(hash.first_deadline_ms(), None);
        assert!(hash.heap_bytes() < bytes / 2);
        hash.check();
    }

    #[test]
    fn random_reaches_every_field() {
        for n in [10, 1_000] {
            let mut hash = Hash::new();
            for i in 0..n {
                hash.set(format!("{i}").as_bytes(), b"", &Limits::default());
            }
            let mut rng = crate::rng::Rng::new(3);
            let mut seen = std::collections::HashSet::new();
            for _ in 0..n * 40 {
                seen.insert(hash.random(&mut rng).map(|(f, _)| f.to_vec()));
            }
            assert_eq!(seen.len(), n);
        }
    }

    proptest! {
        #[test]
        fn hash_behaves_as_a_map(
            steps in proptest::collection::vec((any::<bool>(), 0u8..40, 0usize..80), 0..300),
            entries in 0usize..40,
        ) {
            let limits = Limits { hash_max_listpack_entries: entries, ..Limits::default() };
            let (mut hash, mut model) = (Hash::new(), HashMap::<Vec<u8>, Vec<u8>>::new());
            for (set, field, len) in steps {
                let (field, value) = (vec![b'f', field], vec![b'v'; len]);
                if set {
                    let new = model.insert(field.clone(), value.clone()).is_none();
                    prop_assert_eq!(hash.set(&field, &value, &limits), new);
                } else {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                }
                prop_assert_eq!(hash.len(), model.len());
                prop_assert_eq!(hash.get(&field), model.get(&field).map(Vec::as_slice));
            }
            hash.check();
            let all: HashMap<_, _> = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(all, model);
        }
    }
}
