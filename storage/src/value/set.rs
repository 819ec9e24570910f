//! Hot path. Sets: a sorted array of integers, one packed block, or a table with one block per member.
//!
//! Rules of Redis 7.2: all integers and at most `set_max_intset_entries` of them: array. Else packed, while
//! there are at most `set_max_listpack_entries` members of at most `set_max_listpack_value_bytes`.
//! An array that grows too long becomes a table. Nothing goes back.

use core::ops::Deref;

use crate::account::class_size;
use crate::hash::member_hash;
use crate::limits::{Limits, PACKED_BYTES_MAX};
use crate::packed::{Packed, same};
use crate::rng::Rng;
use crate::value::Part;
use crate::value::blob::{self, Blob, Blobs};
use crate::value::ints::{INTS_MAX, Ints};
use crate::view::canonical_int;

/// A set of byte strings.
#[derive(Clone)]
pub struct Set {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Ints(Ints),
    Packed(Packed<false>),
    Table(Box<Blobs<blob::Member>>),
}

/// A member as read: borrowed bytes, or an integer written out.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    form: MemberForm<'a>,
}

#[derive(Clone, Copy)]
enum MemberForm<'a> {
    Bytes(&'a [u8]),
    Int { text: [u8; 20], len: u8 },
}

impl<'a> Member<'a> {
    fn bytes(bytes: &'a [u8]) -> Self {
        Self {
            form: MemberForm::Bytes(bytes),
        }
    }

    fn int(n: i64) -> Self {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(n).as_bytes();
        let mut text = [0; 20];
        text[..digits.len()].copy_from_slice(digits);
        Self {
            form: MemberForm::Int {
                text,
                len: digits.len() as u8,
            },
        }
    }
}

impl Deref for Member<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.form {
            MemberForm::Bytes(bytes) => bytes,
            MemberForm::Int { text, len } => &text[..usize::from(*len)],
        }
    }
}

impl AsRef<[u8]> for Member<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl core::fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl Set {
    /// An empty set; allocates nothing.
    pub fn new() -> Self {
        Self {
            form: Form::Ints(Ints::new()),
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
            Form::Ints(ints) => ints.len(),
            Form::Packed(packed) => packed.len(),
            Form::Table(table) => table.len(),
        }
    }

    /// Whether there is no member.
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
            Form::Ints(_) => "intset",
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Whether all members are integers kept as such: then [`Set::iter`] goes in ascending order.
    pub fn is_ints(&self) -> bool {
        matches!(self.form, Form::Ints(_))
    }

    /// Bytes of heap behind this value (not the value itself), as the allocator rounds them.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.heap_bytes(),
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Table(table) => class_size(size_of::<Blobs<blob::Member>>()) + table.heap_bytes(),
        }
    }

    /// Whether `member` is in the set.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Ints(ints) => canonical_int(member).is_some_and(|n| ints.contains(n)),
            Form::Packed(packed) => packed.iter().any(|m| same(m, member)),
            Form::Table(table) => table.find(member).is_some(),
        }
    }

    /// Becomes a table at once when as many as `count` members, of which `first` is the first, are about
    /// to be added and would not fit a small form by themselves.
    pub fn expect(&mut self, first: &[u8], count: usize, limits: &Limits) {
        let fits = match &self.form {
            Form::Ints(ints) if ints.len() > 0 => count <= limits.set_max_intset_entries,
            Form::Ints(_) => {
                let ints = canonical_int(first).is_some() && count <= limits.set_max_intset_entries;
                ints || count <= limits.set_max_listpack_entries
            }
            Form::Packed(_) => count <= limits.set_max_listpack_entries,
            Form::Table(_) => true,
        };
        if !fits {
            self.as_table();
        }
    }

    /// Adds a member; whether it is new.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match &mut self.form {
            Form::Table(table) => add_to_table(table, member),
            Form::Packed(packed) => {
                if packed.iter().any(|m| same(m, member)) {
                    return false;
                }
                if packed_takes(packed.len(), packed.used_bytes(), member.len(), limits) {
                    packed.push(member);
                    return true;
                }
                add_to_table(self.as_table(), member)
            }
            Form::Ints(ints) => {
                // An empty set's form is only decided by its first member.
                let int = canonical_int(member)
                    .filter(|_| ints.len() > 0 || limits.set_max_intset_entries > 0);
                let Some(n) = int else {
                    return self.add_to_ints_no_more(member, limits);
                };
                let new = ints.add(n);
                if new && ints.len() > limits.set_max_intset_entries.min(INTS_MAX) {
                    self.as_table();
                }
                new
            }
        }
    }

    /// Adds what the array of integers cannot take: packed if all fits there, else a table.
    fn add_to_ints_no_more(&mut self, member: &[u8], limits: &Limits) -> bool {
        let Form::Ints(ints) = &self.form else {
            return false;
        };
        let longest = [
            ints.get(0),
            ints.len().checked_sub(1).and_then(|last| ints.get(last)),
        ]
        .into_iter()
        .flatten()
        .map(|n| Member::int(n).len())
        .fold(member.len(), usize::max);
        if !packed_takes(ints.len(), ints.len() * 20, longest, limits) {
            return add_to_table(self.as_table(), member);
        }
        let mut packed = Packed::new();
        for n in ints.iter() {
            packed.push(&Member::int(n));
        }
        packed.push(member);
        self.form = Form::Packed(packed);
        true
    }

    /// Turns into a table.
    fn as_table(&mut self) -> &mut Blobs<blob::Member> {
        if !matches!(self.form, Form::Table(_)) {
            let mut table = Box::new(Blobs::new());
            for member in self.iter() {
                table.insert_new(member_hash(&member), blob::Member::new(&member));
            }
            self.form = Form::Table(table);
        }
        match &mut self.form {
            Form::Table(table) => table,
            // INVARIANT: the form was made a table above.
            Form::Ints(_) | Form::Packed(_) => unreachable!("just made a table"),
        }
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Ints(ints) => canonical_int(member).is_some_and(|n| ints.remove(n)),
            Form::Packed(packed) => {
                let used = packed.used_bytes();
                let mut records = packed.iter();
                loop {
                    let at = used - records.left();
                    let Some(here) = records.next() else {
                        return false;
                    };
                    if same(here, member) {
                        packed.remove(at, 1);
                        return true;
                    }
                }
            }
            Form::Table(table) => table.remove(member_hash(member), member),
        }
    }

    /// All members: ascending for integers kept as such, else in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = Member<'_>> {
        let (ints, packed, table) = match &self.form {
            Form::Ints(ints) => (Some(ints.iter().map(Member::int)), None, None),
            Form::Packed(packed) => (None, Some(packed.iter().map(Member::bytes)), None),
            Form::Table(table) => (
                None,
                None,
                Some(table.iter().map(|member| Member::bytes(member.key()))),
            ),
        };
        let small = ints
            .into_iter()
            .flatten()
            .chain(packed.into_iter().flatten());
        small.chain(table.into_iter().flatten())
    }

    /// Some member, each about as likely; `None` if the set is empty.
    pub fn random(&self, rng: &mut Rng) -> Option<Member<'_>> {
        match &self.form {
            Form::Ints(ints) => ints.get(rng.index(ints.len())).map(Member::int),
            Form::Packed(packed) => packed.get(rng.index(packed.len())).map(Member::bytes),
            Form::Table(table) => table.random(rng).map(|member| Member::bytes(member.key())),
        }
    }

    /// Shows about `count` members from `cursor` (0 = start) on; the next cursor, 0 at the end. A member
    /// that stays during a whole scan is shown at least once. Small forms are shown whole.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(&[u8])) -> u64 {
        match &self.form {
            Form::Table(table) => table.scan(cursor, count, |member| f(member.key())),
            Form::Ints(_) | Form::Packed(_) => {
                self.iter().for_each(|member| f(&member));
                0
            }
        }
    }

    /// Frees about `budget_items` members; `true` when nothing is left. Between the first call and the
    /// last the value may only be dropped or freed further.
    pub fn free_step(&mut self, budget_items: usize) -> bool {
        match &mut self.form {
            Form::Ints(_) | Form::Packed(_) => {
                *self = Self::new();
                true
            }
            Form::Table(table) => table.free_some(budget_items),
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        match &self.form {
            Form::Ints(ints) => ints.check(),
            Form::Packed(packed) => {
                packed.check();
                let mut members: Vec<_> = packed.iter().collect();
                members.sort_unstable();
                assert!(members.windows(2).all(|w| w[0] != w[1]), "members differ");
            }
            Form::Table(table) => table.check(),
        }
    }
}

impl PartialEq for Set {
    /// Same members, whatever the encodings.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|member| other.contains(&member))
    }
}

impl core::fmt::Debug for Set {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Whether a packed set of `len` members in `used` bytes may take one more.
fn packed_takes(len: usize, used: usize, member_bytes: usize, limits: &Limits) -> bool {
    len < limits.set_max_listpack_entries
        && member_bytes <= limits.set_max_listpack_value_bytes
        && used + member_bytes < PACKED_BYTES_MAX
}

fn add_to_table(table: &mut Blobs<blob::Member>, member: &[u8]) -> bool {
    let hash = member_hash(member);
    let new = table.find_hashed(hash, member).is_none();
    if new {
        table.insert_new(hash, blob::Member::new(member));
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set_of(members: impl IntoIterator<Item = String>, limits: &Limits) -> Set {
        let mut set = Set::new();
        for member in members {
            set.add(member.as_bytes(), limits);
        }
        set.check();
        set
    }

    #[test]
    fn encodings_are_those_of_redis() {
        let l = Limits::default();
        let ints = |n: usize| (0..n).map(|i| i.to_string());
        assert_eq!(set_of(ints(512), &l).encoding(), "intset");
        assert_eq!(set_of(ints(513), &l).encoding(), "hashtable");
        let mixed = |n| ints(n).chain(["x".to_owned()]);
        assert_eq!(set_of(mixed(127), &l).encoding(), "listpack");
        assert_eq!(set_of(mixed(128), &l).encoding(), "hashtable");
        assert_eq!(set_of(["y".repeat(64)], &l).encoding(), "listpack");
        assert_eq!(set_of(["y".repeat(65)], &l).encoding(), "hashtable");
        let words = |n: usize| (0..n).map(|i| format!("w{i}"));
        assert_eq!(set_of(words(128), &l).encoding(), "listpack");
        assert_eq!(set_of(words(129), &l).encoding(), "hashtable");
        let no_ints = Limits {
            set_max_intset_entries: 0,
            ..Limits::default()
        };
        assert_eq!(set_of(ints(3), &no_ints).encoding(), "listpack");
        let short = Limits {
            set_max_listpack_value_bytes: 3,
            ..Limits::default()
        };
        assert_eq!(
            set_of(["-1234".to_owned(), "x".to_owned()], &short).encoding(),
            "hashtable"
        );
    }

    #[test]
    fn many_expected_members_make_a_table() {
        let l = Limits::default();
        let table = [
            (vec![], "1", 512, "intset"),
            (vec![], "1", 513, "hashtable"),
            (vec![], "x", 128, "intset"),
            (vec![], "x", 129, "hashtable"),
            (vec!["1"], "x", 512, "intset"),
            (vec!["1"], "2", 513, "hashtable"),
            (vec!["x"], "1", 128, "listpack"),
            (vec!["x"], "1", 129, "hashtable"),
        ];
        for (held, first, count, encoding) in table {
            let mut set = set_of(held.iter().map(|m| (*m).to_owned()), &l);
            set.expect(first.as_bytes(), count, &l);
            set.check();
            assert_eq!((set.encoding(), set.len()), (encoding, held.len()));
        }
    }

    #[test]
    fn only_canonical_integers_meet_integers() {
        let mut set = set_of(["1".to_owned(), "-7".to_owned()], &Limits::default());
        assert!(!set.contains(b"01") && !set.contains(b"+1") && set.contains(b"-7"));
        assert!(!set.remove(b"01"));
        assert!(set.add(b"01", &Limits::default()));
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn a_scan_returns_every_member_that_stays() {
        let l = Limits::default();
        let mut set = set_of((0..4_000).map(|i| format!("stays{i}")), &l);
        let mut seen = BTreeSet::new();
        let (mut cursor, mut i) = (0, 0);
        loop {
            cursor = set.scan(cursor, 7, |m| {
                seen.insert(m.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..30 {
                set.add(format!("comes{i}").as_bytes(), &l);
                i += 1;
            }
        }
        assert!((0..4_000).all(|i| seen.contains(format!("stays{i}").as_bytes())));
    }

    #[test]
    fn a_large_set_holds_together_and_is_freed_in_steps() {
        let l = Limits::default();
        let mut set = set_of((0..100_000).map(|i| format!("member:{i}")), &l);
        assert_eq!(set.clone(), set);
        assert!((0..50_000).all(|i| set.remove(format!("member:{i}").as_bytes())));
        set.check();
        assert_eq!(set.len(), 50_000);
        let mut steps = 0;
        while !set.free_step(500) {
            steps += 1;
            assert!(steps < 200);
        }
        assert_eq!((set.len(), steps > 50), (0, true));
    }

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => (-30i64..30).prop_map(|n| n.to_string().into_bytes()),
            1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            2 => "[a-c]{0,3}".prop_map(String::into_bytes),
            1 => "0[0-2]".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn set_behaves_as_a_set(
            steps in proptest::collection::vec((0u8..5, member()), 0..200),
            ints in 0usize..60, packed in 0usize..60,
        ) {
            let limits = Limits {
                set_max_intset_entries: ints, set_max_listpack_entries: packed, ..Limits::default()
            };
            let (mut set, mut model) = (Set::new(), BTreeSet::new());
            for (kind, member) in steps {
                if kind > 0 {
                    prop_assert_eq!(set.add(&member, &limits), model.insert(member.clone()));
                } else {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(&member), model.contains(&member));
            }
            set.check();
            let all: BTreeSet<_> = set.iter().map(|m| m.to_vec()).collect();
            prop_assert_eq!(all, model);
        }
    }
}
