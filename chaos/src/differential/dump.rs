//! All data of two servers, side by side: keys, types, encodings, deadlines, contents, and whether one reads what the other dumps.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use protocol::answer::Answer;

use super::catalogue::Op;
use super::compare::{Batch, Mismatch};
use super::rule::Rule;
use crate::client::{Client, ClientError};

/// Databases of a server.
const DATABASES: usize = 16;
/// Keys asked about in one batch.
const KEYS_PER_BATCH: usize = 64;

/// What Redis 7.2 begins with.
const THRESHOLDS: [(&str, &str); 11] = [
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("list-max-listpack-size", "-2"),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("set-max-listpack-value", "64"),
    ("stream-node-max-bytes", "4096"),
    ("stream-node-max-entries", "100"),
    ("hll-sparse-max-bytes", "3000"),
];

/// A key in a database.
pub(super) type Place = (usize, Vec<u8>);

/// What a comparison of all data found.
#[derive(Debug, Default)]
pub(super) struct DataDifferences {
    /// With the database each was found in.
    pub(super) mismatches: Vec<(usize, Mismatch)>,
    /// Where content differs: to be deleted on both sides.
    pub(super) places: BTreeSet<Place>,
    /// Keys that were compared.
    pub(super) keys: usize,
}

/// Two connections of their own, one to each server.
#[derive(Debug)]
pub(super) struct Pair<'p> {
    pub(super) subject: &'p mut Client,
    pub(super) oracle: &'p mut Client,
    pub(super) slack_ms: i64,
}

impl Pair<'_> {
    /// Sends the ops to both and compares.
    pub(super) fn ask(&mut self, ops: &[Rc<Op>]) -> Result<Asked, ClientError> {
        self.subject
            .send(ops.iter().map(|op| op.words.as_slice()))?;
        self.oracle.send(ops.iter().map(|op| op.words.as_slice()))?;
        let receive = |client: &mut Client| {
            let (answers, error) = client.receive_all(ops.len());
            error.map_or(Ok(answers), Err)
        };
        let subject = receive(self.subject)?;
        let oracle = receive(self.oracle)?;
        let batch = Batch {
            ops,
            subject: &subject,
            oracle: &oracle,
            slack_ms: self.slack_ms,
        };
        let mismatches = (0..ops.len()).flat_map(|at| batch.compare(at)).collect();
        Ok(Asked {
            subject,
            oracle,
            mismatches,
        })
    }

    /// Compares everything.
    pub(super) fn compare_all(&mut self) -> Result<DataDifferences, ClientError> {
        let mut found = DataDifferences::default();
        for db in 0..DATABASES {
            let size = [
                op(&[b"SELECT", db.to_string().as_bytes()], Rule::Exact),
                op(&[b"DBSIZE"], Rule::Exact),
            ];
            let asked = self.ask(&size)?;
            let empty = |answers: &[Answer]| answers.get(1) == Some(&Answer::Int(0));
            if empty(&asked.subject) && empty(&asked.oracle) {
                continue;
            }
            found
                .mismatches
                .extend(asked.mismatches.into_iter().map(|mismatch| (db, mismatch)));
            let both = self.keys(db, &mut found)?;
            found.keys += both.len();
            for keys in both.chunks(KEYS_PER_BATCH) {
                self.compare_keys(db, keys, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Keys that both have; the others are differences.
    fn keys(
        &mut self,
        db: usize,
        found: &mut DataDifferences,
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        let asked = self.ask(&[op(&[b"KEYS", b"*"], Rule::Bag)])?;
        let set = |answers: &[Answer]| -> BTreeSet<Vec<u8>> {
            match answers.first() {
                Some(Answer::Array(keys)) => keys.iter().filter_map(bytes).collect(),
                _ => BTreeSet::new(),
            }
        };
        let (ours, theirs) = (set(&asked.subject), set(&asked.oracle));
        for key in ours.symmetric_difference(&theirs) {
            let exists = |keys: &BTreeSet<Vec<u8>>| Answer::Int(i64::from(keys.contains(key)));
            let request = Op {
                name: "data: key".to_owned(),
                keys: vec![1],
                ..plain(&[b"EXISTS", key])
            };
            let mismatch = Mismatch {
                op: Rc::new(request),
                subject: exists(&ours),
                oracle: exists(&theirs),
                why: "existence",
            };
            found.mismatches.push((db, mismatch));
            found.places.insert((db, key.clone()));
        }
        Ok(ours.intersection(&theirs).cloned().collect())
    }

    /// Types, encodings and deadlines, then contents by type.
    fn compare_keys(
        &mut self,
        db: usize,
        keys: &[Vec<u8>],
        found: &mut DataDifferences,
    ) -> Result<(), ClientError> {
        let mut ops = Vec::new();
        for key in keys {
            ops.push(named("data: type", 1, &[b"TYPE", key], Rule::Exact));
            ops.push(named(
                "data: encoding",
                2,
                &[b"OBJECT", b"ENCODING", key],
                Rule::Exact,
            ));
            ops.push(named(
                "data: deadline",
                1,
                &[b"PTTL", key],
                Rule::Milliseconds,
            ));
        }
        let asked = self.ask(&ops)?;
        let contents: Vec<_> = keys
            .iter()
            .zip(asked.oracle.chunks(3))
            .filter_map(|(key, answers)| content(key, answers.first()?))
            .collect();
        found.take(db, asked.mismatches);
        let kinds = asked.oracle;
        let asked = self.ask(&contents)?;
        let differ = !asked.mismatches.is_empty();
        found.take(db, asked.mismatches);
        if !differ {
            for (key, answers) in keys.iter().zip(kinds.chunks(3)) {
                if let Some(kind) = answers.first() {
                    self.exchange(db, key, kind, found)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the places on both sides.
    pub(super) fn delete(&mut self, places: &BTreeSet<Place>) -> Result<(), ClientError> {
        let mut by_db: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
        for (db, key) in places {
            by_db.entry(*db).or_default().push(key);
        }
        for (db, keys) in by_db {
            let words: Vec<&[u8]> = [b"DEL".as_slice()].into_iter().chain(keys).collect();
            self.ask(&[
                op(&[b"SELECT", db.to_string().as_bytes()], Rule::Exact),
                op(&words, Rule::Exact),
            ])?;
        }
        Ok(())
    }

    /// Deletes everything on both sides.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        self.ask(&[op(&[b"FLUSHALL"], Rule::Exact)]).map(|_| ())
    }

    /// Sets the thresholds that the rows change; one that a server does not know is passed over.
    pub(super) fn default_config(&mut self) -> Result<(), ClientError> {
        let set = |(name, value): &(&str, &str)| {
            op(
                &[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()],
                Rule::Exact,
            )
        };
        let ops: Vec<_> = THRESHOLDS.iter().map(set).collect();
        self.ask(&ops).map(|_| ())
    }
}

impl DataDifferences {
    /// Differences after which nothing is to be deleted.
    pub(super) fn note(&mut self, db: usize, mismatches: Vec<Mismatch>) {
        let mismatches = mismatches.into_iter().map(|mismatch| (db, mismatch));
        self.mismatches.extend(mismatches);
    }

    fn take(&mut self, db: usize, mismatches: Vec<Mismatch>) {
        for mismatch in mismatches {
            self.places
                .extend(mismatch.op.key_words().map(|key| (db, key.to_vec())));
            self.mismatches.push((db, mismatch));
        }
    }
}

pub(super) struct Asked {
    subject: Vec<Answer>,
    oracle: Vec<Answer>,
    pub(super) mismatches: Vec<Mismatch>,
}

pub(super) fn bytes(answer: &Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Bulk(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

/// The request that reads all of a value of this type.
pub(super) fn content(key: &[u8], kind: &Answer) -> Option<Rc<Op>> {
    let Answer::Simple(kind) = kind else {
        return None;
    };
    let at = |words: &[&[u8]]| words.iter().position(|word| *word == key).unwrap_or(1);
    let read = |words: &[&[u8]], rule| Some(named("data: content", at(words), words, rule));
    match kind.as_slice() {
        b"string" => read(&[b"GET", key], Rule::Exact),
        b"list" => read(&[b"LRANGE", key, b"0", b"-1"], Rule::Exact),
        b"set" => read(&[b"SMEMBERS", key], Rule::Bag),
        b"zset" => read(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"], Rule::Exact),
        b"stream" => read(
            &[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"],
            Rule::Times,
        ),
        b"hash" => read(&[b"HGETALL", key], Rule::PairBag),
        _ => None,
    }
}

fn plain(words: &[&[u8]]) -> Op {
    let name = String::from_utf8_lossy(words.first().copied().unwrap_or_default()).into_owned();
    let words = words.iter().map(|word| word.to_vec()).collect();
    Op {
        name,
        words,
        keys: Vec::new(),
        marks: Vec::new(),
        rule: Rule::Exact,
        queued: Vec::new(),
    }
}

fn op(words: &[&[u8]], rule: Rule) -> Rc<Op> {
    Rc::new(Op {
        rule,
        ..plain(words)
    })
}

pub(super) fn named(name: &str, key_at: usize, words: &[&[u8]], rule: Rule) -> Rc<Op> {
    Rc::new(Op {
        name: name.to_owned(),
        keys: vec![key_at],
        rule,
        ..plain(words)
    })
}
