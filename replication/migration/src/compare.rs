//! Whether a key here is what it is at the source, and what is known of the keys that are not.
//!
//! ```text
//! the source, key by key ── Seen ──┐
//!                                  ├─ judge ──> equal, or suspicious: looked at again once the stream has come so far
//! this node, the same key ─ Seen ──┘                    └─ still so, and the key was not touched meanwhile ──> Differences
//! ```
//! Small values are compared by a digest of what two servers can have in common (`storage::shared_digest`); large ones piece by piece,
//! [`Piece`], so that nobody must hold one whole. A name in a list is kept as it is: who shows it decides how.

use std::collections::BTreeMap;

use storage::{StreamId, Value};

/// Differences that are kept; more are only counted.
pub const DIFFERENCES_MAX: usize = 10_000;

/// What is known of a key on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The name of its type.
    pub kind: String,
    /// Digest of its value; None where it is compared in pieces.
    pub digest: Option<u128>,
    /// When it ends, unix ms.
    pub deadline_ms: Option<u64>,
}

/// How two keys differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The source has it, this node has not.
    Missing,
    /// This node has it, the source has not.
    Extra,
    /// It is of another type.
    Type,
    /// It has another value.
    Value,
    /// It ends at another time, or only one of the two does.
    Expiry,
    /// Several of the sources have it.
    Twice,
}

impl Kind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Type => "type",
            Kind::Value => "value",
            Kind::Expiry => "expiry",
            Kind::Twice => "twice",
        }
    }
}

/// How exactly times are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Now, unix ms.
    pub now_ms: u64,
    /// Deadlines may differ by so much: 1 where both are absolute, more where the source's are relative (before Redis 7.0).
    pub deadlines_ms: u64,
    /// A key that ends within this time may be gone on one side already.
    pub ending_ms: u64,
}

/// How a key differs, if it does.
pub fn judge(there: Option<&Seen>, here: Option<&Seen>, rule: Rule) -> Option<Kind> {
    let ends = |seen: &Seen| {
        let ends_at = rule.now_ms.saturating_add(rule.ending_ms);
        seen.deadline_ms.is_some_and(|at_ms| at_ms <= ends_at)
    };
    match (there, here) {
        (None, None) => None,
        (Some(there), None) => (!ends(there)).then_some(Kind::Missing),
        (None, Some(here)) => (!ends(here)).then_some(Kind::Extra),
        (Some(there), Some(here)) => {
            if there.kind != here.kind {
                return Some(Kind::Type);
            }
            let values = there.digest.zip(here.digest);
            if values.is_some_and(|(there, here)| there != here) {
                return Some(Kind::Value);
            }
            let same = match (there.deadline_ms, here.deadline_ms) {
                (None, None) => true,
                (Some(there), Some(here)) => there.abs_diff(here) <= rule.deadlines_ms,
                _ => false,
            };
            (!same).then_some(Kind::Expiry)
        }
    }
}

/// Elements of a large value, as the source has told them.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Bytes of a string, from this one on.
    Text(usize, Vec<u8>),
    /// Elements of a list, from this one on.
    List(usize, Vec<Vec<u8>>),
    /// Fields and values.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// Members.
    Set(Vec<Vec<u8>>),
    /// Members and scores.
    Zset(Vec<(Vec<u8>, f64)>),
    /// Entries: ids, and fields and values in their order.
    Stream(Vec<(StreamId, Vec<Vec<u8>>)>),
    /// A stream's last id, and all of its groups: names, ids that were delivered last, and how many entries are pending.
    Groups(StreamId, Vec<(Vec<u8>, StreamId, u64)>),
    /// Entries that are pending in a group: whose each is, and how often it was delivered. When it was is not compared.
    Pending(Vec<u8>, Vec<(StreamId, Vec<u8>, u64)>),
}

impl Piece {
    /// Elements in it.
    pub fn len(&self) -> usize {
        match self {
            Piece::Text(..) => 1,
            Piece::List(_, elements) | Piece::Set(elements) => elements.len(),
            Piece::Hash(pairs) => pairs.len(),
            Piece::Zset(pairs) => pairs.len(),
            Piece::Stream(entries) => entries.len(),
            Piece::Groups(..) => 1,
            Piece::Pending(_, entries) => entries.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How many elements a value has (bytes, of a string).
pub fn len_of(value: Value<'_>) -> u64 {
    let len = match value {
        Value::String(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Hash(hash) => hash.len(),
        Value::Set(set) => set.len(),
        Value::Zset(zset) => zset.len(),
        Value::Stream(stream) => stream.len(),
    };
    len as u64
}

/// The elements of a piece that are not in this value, or are others there, by their place in the piece; all of them in a value of
/// another type.
pub fn differing(value: Option<Value<'_>>, piece: &Piece) -> Vec<usize> {
    let wrong = |wrong: Vec<bool>| -> Vec<usize> {
        let places = wrong.into_iter().enumerate();
        places
            .filter_map(|(at, wrong)| wrong.then_some(at))
            .collect()
    };
    match (value, piece) {
        (Some(Value::String(text)), Piece::Text(at, bytes)) => text.with(|whole| {
            let here = whole.get(*at..).unwrap_or_default();
            wrong(vec![!here.starts_with(bytes)])
        }),
        (Some(Value::List(list)), Piece::List(at, elements)) => {
            let mut here = list.iter_from(*at);
            wrong(
                elements
                    .iter()
                    .map(|e| here.next() != Some(e.as_slice()))
                    .collect(),
            )
        }
        (Some(Value::Hash(hash)), Piece::Hash(pairs)) => {
            let differs = |(field, value): &(Vec<u8>, Vec<u8>)| hash.get(field) != Some(value);
            wrong(pairs.iter().map(differs).collect())
        }
        (Some(Value::Set(set)), Piece::Set(members)) => {
            wrong(members.iter().map(|member| !set.contains(member)).collect())
        }
        (Some(Value::Zset(zset)), Piece::Zset(pairs)) => {
            let differs = |(member, score): &(Vec<u8>, f64)| zset.score(member) != Some(*score);
            wrong(pairs.iter().map(differs).collect())
        }
        (Some(Value::Stream(stream)), Piece::Stream(entries)) => {
            let differs = |(id, words): &(StreamId, Vec<Vec<u8>>)| {
                let Some(entry) = stream.get(*id) else {
                    return true;
                };
                let here = entry.pairs().flat_map(|(field, value)| [field, value]);
                !here.eq(words.iter().map(Vec::as_slice))
            };
            wrong(entries.iter().map(differs).collect())
        }
        (Some(Value::Stream(stream)), Piece::Groups(last, groups)) => {
            let has = |(name, last, pending): &(Vec<u8>, StreamId, u64)| {
                let group = stream.group(name);
                group.is_some_and(|group| {
                    group.last_id() == *last && group.pending_len() as u64 == *pending
                })
            };
            let is_same = stream.last_id() == *last
                && stream.groups().len() == groups.len()
                && groups.iter().all(has);
            wrong(vec![!is_same])
        }
        (Some(Value::Stream(stream)), Piece::Pending(name, entries)) => {
            let group = stream.group(name);
            let differs = |(id, consumer, count): &(StreamId, Vec<u8>, u64)| {
                let here = group.and_then(|group| Some((group, group.pending(*id)?)));
                here.is_none_or(|(group, here)| {
                    group.consumer_of(here) != consumer.as_slice() || here.count != *count
                })
            };
            wrong(entries.iter().map(differs).collect())
        }
        _ => (0..piece.len()).collect(),
    }
}

/// A difference that has been looked at twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How it differs.
    pub kind: Kind,
    /// When it was found, unix ms.
    pub found_ms: u64,
    /// The source's offset up to which everything was here.
    pub offset: u64,
    /// It has been fetched again.
    pub is_mended: bool,
}

/// A database and a key.
pub type Name = (u64, Vec<u8>);

/// What verification has found so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// By database and key.
    listed: BTreeMap<Name, Difference>,
    /// Keys compared, in this pass and in all.
    pub keys: u64,
    /// Elements of large values that were compared.
    pub elements: u64,
    /// Whole passes since they were asked for last: one that had begun before does not count.
    pub passes: u64,
    /// Keys that were looked at again.
    pub suspicious: u64,
    /// Keys of the last whole pass that changed too fast to be compared.
    pub unsettled: u64,
    /// Differences ever found, the listed ones included.
    pub found: u64,
    /// Of them, fetched again.
    pub mended: u64,
}

impl Findings {
    /// A difference has been found. False when it is not listed, because too many are.
    pub fn add(&mut self, name: Name, difference: Difference) -> bool {
        if let Some(known) = self.listed.get_mut(&name) {
            // Found once more: the same one is not counted twice, unless it had been mended.
            self.found += u64::from(known.is_mended);
            *known = difference;
            return true;
        }
        self.found += 1;
        if self.listed.len() >= DIFFERENCES_MAX {
            return false;
        }
        self.listed.insert(name, difference);
        true
    }

    /// It was fetched again.
    pub fn mend(&mut self, name: &Name) {
        if let Some(known) = self.listed.get_mut(name) {
            self.mended += u64::from(!known.is_mended);
            known.is_mended = true;
        }
    }

    /// The key is equal on both sides now.
    pub fn settle(&mut self, name: &Name) {
        self.listed.remove(name);
    }

    /// Whether a key is listed.
    pub fn is_listed(&self, name: &Name) -> bool {
        self.listed.contains_key(name)
    }

    /// Differences that are open: not found equal since.
    pub fn open(&self) -> u64 {
        self.listed.len() as u64
    }

    /// What is listed.
    pub fn listed(&self) -> impl Iterator<Item = (&Name, &Difference)> {
        self.listed.iter()
    }

    /// Another migration begins.
    pub fn clear(&mut self) {
        *self = Findings::default();
    }
}

#[cfg(test)]
mod tests {
    use storage::{Limits, OwnedValue, rdb};

    use super::*;

    fn seen(kind: &str, digest: u128, deadline_ms: Option<u64>) -> Seen {
        Seen {
            kind: kind.to_owned(),
            digest: Some(digest),
            deadline_ms,
        }
    }

    #[test]
    fn each_kind_of_difference_and_what_is_none() {
        let rule = Rule {
            now_ms: 1000,
            deadlines_ms: 1,
            ending_ms: 100,
        };
        let plain = seen("string", 1, None);
        let until = |at_ms| seen("string", 1, Some(at_ms));
        for (there, here, expected) in [
            (None, None, None),
            (Some(plain.clone()), Some(plain.clone()), None),
            (Some(plain.clone()), None, Some(Kind::Missing)),
            (None, Some(plain.clone()), Some(Kind::Extra)),
            (
                Some(plain.clone()),
                Some(seen("list", 1, None)),
                Some(Kind::Type),
            ),
            (
                Some(plain.clone()),
                Some(seen("string", 2, None)),
                Some(Kind::Value),
            ),
            (Some(plain.clone()), Some(until(9000)), Some(Kind::Expiry)),
            (Some(until(9000)), Some(plain.clone()), Some(Kind::Expiry)),
            (Some(until(9000)), Some(until(9001)), None),
            (Some(until(9000)), Some(until(9002)), Some(Kind::Expiry)),
            // What is about to end may have ended on one side.
            (Some(until(1100)), None, None),
            (None, Some(until(1100)), None),
            (Some(until(1101)), None, Some(Kind::Missing)),
        ] {
            assert_eq!(
                judge(there.as_ref(), here.as_ref(), rule),
                expected,
                "{there:?} {here:?}"
            );
        }
        let large = Seen {
            digest: None,
            ..plain.clone()
        };
        assert_eq!(
            judge(Some(&large), Some(&plain), rule),
            None,
            "compared in pieces"
        );
    }

    fn value(payload: &[u8]) -> OwnedValue {
        let mut bytes = payload.to_vec();
        bytes.extend(rdb::VERSION.to_le_bytes());
        let sum = rdb::crc64(0, &bytes);
        bytes.extend(sum.to_le_bytes());
        rdb::restore(&bytes, &Limits::default()).unwrap()
    }

    #[test]
    fn pieces_find_the_elements_that_differ() {
        let OwnedValue::List(list) = value(b"\x01\x03\x01a\x01b\x01c") else {
            panic!()
        };
        let OwnedValue::Set(set) = value(b"\x02\x02\x01a\x01b") else {
            panic!()
        };
        let OwnedValue::Hash(hash) = value(b"\x04\x02\x01a\x011\x01b\x012") else {
            panic!()
        };
        let OwnedValue::Zset(zset) = value(b"\x03\x02\x01a\x011\x01b\x012") else {
            panic!()
        };
        let word = |text: &str| text.as_bytes().to_vec();
        let pair = |a: &str, b: &str| (word(a), word(b));
        for (value, piece, expected) in [
            (
                Value::List(&list),
                Piece::List(1, vec![word("b"), word("x"), word("d")]),
                vec![1, 2],
            ),
            (
                Value::Set(&set),
                Piece::Set(vec![word("c"), word("a")]),
                vec![0],
            ),
            (
                Value::Hash(&hash),
                Piece::Hash(vec![pair("a", "1"), pair("b", "1")]),
                vec![1],
            ),
            (
                Value::Zset(&zset),
                Piece::Zset(vec![(word("a"), 1.0), (word("b"), 3.0)]),
                vec![1],
            ),
            (Value::Set(&set), Piece::Hash(vec![pair("a", "1")]), vec![0]),
        ] {
            assert_eq!(differing(Some(value), &piece), expected, "{piece:?}");
        }
        let text = storage::Value::String(storage::Text::Bytes(b"hello"));
        assert!(differing(Some(text), &Piece::Text(1, word("ell"))).is_empty());
        assert_eq!(differing(Some(text), &Piece::Text(3, word("lol"))), [0]);
        assert_eq!(differing(None, &Piece::Set(vec![word("a")])), [0]);
    }

    #[test]
    fn findings_count_each_once_and_stay_bounded() {
        let mut findings = Findings::default();
        let difference = |kind| Difference {
            kind,
            found_ms: 1,
            offset: 2,
            is_mended: false,
        };
        let name = (0, b"k".to_vec());
        assert!(findings.add(name.clone(), difference(Kind::Value)));
        assert!(findings.add(name.clone(), difference(Kind::Value)));
        assert_eq!((findings.found, findings.open()), (1, 1));
        findings.mend(&name);
        findings.mend(&name);
        assert_eq!(
            (findings.mended, findings.open()),
            (1, 1),
            "open until it is seen equal"
        );
        findings.settle(&name);
        assert_eq!(findings.open(), 0);
        for n in 0..DIFFERENCES_MAX + 5 {
            findings.add((1, n.to_string().into_bytes()), difference(Kind::Missing));
        }
        assert_eq!(findings.listed().count(), DIFFERENCES_MAX);
        assert_eq!(findings.found, DIFFERENCES_MAX as u64 + 6);
    }
}
