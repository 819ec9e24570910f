//! Frames of the log as transactions for the old Redis.

use std::collections::{BTreeMap, HashSet};

use protocol::{Limits, Parsed, Parser, Word, request::encode};
use storage::log::FrameKind;
use storage::{Corrupt, Effect, decode};

use super::script::Script;
use super::{Mark, POSITION_KEY};
use crate::{Feed, Reader};

/// Bytes of requests from which on a transaction takes no more frames. (One frame of any size has room.)
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// Requests from which on it takes no more.
pub const BATCH_REQUESTS_MAX: usize = 2048;
/// Keys that are known to be whole there; all are forgotten when there are more.
const WHOLE_KEYS_MAX: usize = 8192;
/// Bytes of buffers that are kept for the next transaction.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// The words of the WATCH that goes before each transaction.
pub const WATCH: [&[u8]; 2] = [b"WATCH", POSITION_KEY];

/// What a reply tells of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Whether the request failed.
    Failure,
    /// The same, of one that says a value as a whole: there is nothing else to be said.
    Whole,
    /// A PTTL: whether the key was there (-2), and with its deadline (-1).
    Deadline {
        /// All of its value has been said since it had a deadline last: that it has none is no surprise.
        is_whole: bool,
    },
}

/// Something that a reply is looked at for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Which reply of EXEC.
    pub at: usize,
    pub db: u8,
    pub key: Vec<u8>,
    pub about: About,
}

/// A transaction, ready to be sent: MULTI and EXEC, or a script.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// MULTI, the requests, EXEC, and the WATCH for the next one.
    pub bytes: Vec<u8>,
    /// Replies to these, MULTI's and the last WATCH's counted; to a script one, and one to each request before it.
    pub replies: usize,
    /// It is a script.
    pub(super) is_script: bool,
    /// The last sequence that is in it.
    pub last: u64,
    /// How often each command that is counted at the old Redis is in it.
    pub calls: BTreeMap<&'static str, u64>,
    pub(super) checks: Vec<Check>,
}

/// Why a frame cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// Its payload is none that a shard has recorded.
    Corrupt,
    /// The old Redis has no such database.
    Database(u8),
}

impl core::fmt::Display for Unsaid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Unsaid::Corrupt => f.write_str("it is damaged"),
            Unsaid::Database(db) => write!(f, "the old Redis has no database {db}"),
        }
    }
}

impl core::error::Error for Unsaid {}

/// Tells whether a key is of the server that is written to.
pub type Has = Box<dyn Fn(&[u8]) -> bool + Send>;

/// See the module's head.
pub struct Pen {
    feed: Feed,
    /// Of one of several servers: which keys it has. What is about others is passed over.
    has: Option<Has>,
    /// What is left of a frame.
    own: Vec<u8>,
    /// Of a shard of a cluster: its transactions are scripts.
    script: Option<Script>,
    /// How many databases the old Redis has.
    databases: usize,
    parser: Parser,
    words: Vec<Word>,
    said: Vec<u8>,
    /// The database that is selected, as far as the requests say.
    db: u8,
    whole: HashSet<(u8, Vec<u8>)>,
    /// What has been added, without MULTI; as words of a script, without their number.
    bytes: Vec<u8>,
    requests: usize,
    last: u64,
    calls: BTreeMap<&'static str, u64>,
    checks: Vec<Check>,
}

impl Pen {
    /// For an old Redis of 6.2 or newer with so many databases.
    pub fn new(reader: Reader, databases: usize) -> Pen {
        Pen {
            feed: Feed::new(reader),
            has: None,
            own: Vec::new(),
            script: None,
            databases,
            parser: Parser::default(),
            words: Vec::new(),
            said: Vec::new(),
            db: 0,
            whole: HashSet::new(),
            bytes: Vec::new(),
            requests: 0,
            last: 0,
            calls: BTreeMap::new(),
            checks: Vec::new(),
        }
    }

    /// The same, for one of several servers, which has these keys.
    #[must_use]
    pub fn only(self, has: Has) -> Pen {
        Pen {
            has: Some(has),
            ..self
        }
    }

    /// The same, for a shard of a cluster, with this key of its position ([`super::position_key`]).
    #[must_use]
    pub fn by_script(self, position: Vec<u8>) -> Pen {
        Pen {
            script: Some(Script::new(position)),
            ..self
        }
    }

    /// A new connection, on which this was read of the position: see [`Pen::begin_anew`].
    pub fn begin_at(&mut self, sequence: u64, mark: Option<&Mark>) {
        self.begin_anew(sequence);
        if let Some(script) = &mut self.script {
            script.begin_anew(mark);
        }
    }

    /// A new connection, which has everything up to this sequence: nothing of what was added before is sent.
    pub fn begin_anew(&mut self, sequence: u64) {
        // (A client's connection begins in database 0.)
        self.feed.has_db(0);
        self.db = 0;
        self.parser.reset();
        self.whole.clear();
        self.empty();
        self.last = sequence;
    }

    fn empty(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_BYTES_MAX);
        self.requests = 0;
        self.calls.clear();
        self.checks.clear();
    }

    /// The last sequence that was added.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether there is nothing to be sent, not even that frames without effects have passed.
    pub fn is_empty(&self, sent: u64) -> bool {
        self.last == sent
    }

    /// Whether something is to be done there, beside that frames have passed.
    pub fn has_requests(&self) -> bool {
        self.requests > 0 || self.script.as_ref().is_some_and(Script::has_before)
    }

    /// Whether it takes no more frames for now.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES_MAX || self.requests >= BATCH_REQUESTS_MAX
    }

    /// Adds a frame. Those that say how far a source's stream was executed come from that source, and are not said to it.
    ///
    /// # Errors
    /// [`Unsaid`]; then nothing was added.
    pub fn add(&mut self, sequence: u64, kind: FrameKind, payload: &[u8]) -> Result<(), Unsaid> {
        let Some(has) = self.has.as_deref().filter(|_| kind == FrameKind::Effects) else {
            return self.add_whole(sequence, kind, payload);
        };
        let mut own = core::mem::take(&mut self.own);
        own.clear();
        let done = take_own(payload, has, &mut own).map_err(|Corrupt| Unsaid::Corrupt);
        let done = done.and_then(|()| self.add_whole(sequence, kind, &own));
        own.shrink_to(SPARE_BYTES_MAX);
        self.own = own;
        done
    }

    fn add_whole(&mut self, sequence: u64, kind: FrameKind, payload: &[u8]) -> Result<(), Unsaid> {
        let (is_of_source, db) = match kind {
            FrameKind::Effects => about(payload).map_err(|Corrupt| Unsaid::Corrupt)?,
            FrameKind::Libraries | FrameKind::End => (false, 0),
        };
        if is_of_source {
            self.last = sequence;
            return Ok(());
        }
        if usize::from(db) >= self.databases {
            return Err(Unsaid::Database(db));
        }
        let mut said = core::mem::take(&mut self.said);
        said.clear();
        let done = self.feed.say(kind, payload, &mut said);
        if done.is_ok() {
            self.take(&said);
            self.last = sequence;
        }
        said.shrink_to(SPARE_BYTES_MAX);
        self.said = said;
        done.map_err(|Corrupt| Unsaid::Corrupt)
    }

    /// Takes the requests that a frame was said in. (They are our own, and whole: what is none ends them.)
    fn take(&mut self, mut said: &[u8]) {
        loop {
            let mut words = core::mem::take(&mut self.words);
            words.clear();
            let parsed = self.parser.parse(said, &Limits::DEFAULT, &mut words);
            let Parsed::Request { consumed } = parsed else {
                self.words = words;
                return;
            };
            let (one, rest) = said.split_at(consumed);
            let texts: Vec<&[u8]> = words.iter().map(|word| word.of(one)).collect();
            self.take_one(one, &texts);
            self.words = words;
            said = rest;
        }
    }

    fn take_one(&mut self, bytes: &[u8], words: &[&[u8]]) {
        let name = words.first().copied().unwrap_or_default();
        if let b"MULTI" | b"EXEC" = name {
            return;
        }
        let key = match name {
            b"SELECT" => {
                let db = words
                    .get(1)
                    .and_then(|text| core::str::from_utf8(text).ok());
                self.db = db.and_then(|text| text.parse().ok()).unwrap_or(0);
                None
            }
            b"EVAL" => words.get(3).copied(),
            b"XGROUP" => words.get(2).copied(),
            b"FLUSHALL" | b"FLUSHDB" | b"SWAPDB" => {
                self.whole.clear();
                None
            }
            b"FUNCTION" => None,
            _ => words.get(1).copied(),
        };
        if let b"PEXPIREAT" | b"PERSIST" = name {
            self.ask_deadline(key.unwrap_or_default());
        }
        self.note_whole(name, words);
        if let Some(counted) = super::strays::counted(name) {
            *self.calls.entry(counted).or_default() += 1;
        }
        let about = match name {
            b"SET" | b"RESTORE" => About::Whole,
            _ => About::Failure,
        };
        if let (Some(script), b"FUNCTION") = (&mut self.script, name) {
            return script.add_before(bytes);
        }
        // (In a cluster a command has keys of one slot, in a script as well.)
        if let (Some(_), [b"UNLINK", keys @ ..]) = (&self.script, words)
            && keys.len() > 1
        {
            return keys.iter().for_each(|key| self.unlink(key));
        }
        if let Some(key) = key {
            self.check(key, about);
        }
        match &mut self.script {
            Some(script) => script.add(key, words, &mut self.bytes),
            None => self.bytes.extend_from_slice(bytes),
        }
        self.requests += 1;
    }

    fn unlink(&mut self, key: &[u8]) {
        self.check(key, About::Failure);
        if let Some(script) = &mut self.script {
            script.add(Some(key), &[b"UNLINK", key], &mut self.bytes);
        }
        self.requests += 1;
    }

    fn check(&mut self, key: &[u8], about: About) {
        self.checks.push(Check {
            at: self.requests,
            db: self.db,
            key: key.to_vec(),
            about,
        });
    }

    fn ask_deadline(&mut self, key: &[u8]) {
        let is_whole = self.whole.remove(&(self.db, key.to_vec()));
        self.check(key, About::Deadline { is_whole });
        let words = [&b"PTTL"[..], key];
        match &mut self.script {
            Some(script) => script.add(Some(key), &words, &mut self.bytes),
            None => encode(&words, &mut self.bytes),
        }
        self.requests += 1;
    }

    /// A value that was said as a whole and has no deadline stays whole until it is given one.
    fn note_whole(&mut self, name: &[u8], words: &[&[u8]]) {
        let ends = |word: &[u8]| words.get(3).is_some_and(|found| *found == word);
        let is_whole = match name {
            b"SET" => !ends(b"PXAT"),
            b"RESTORE" => words.get(2).is_some_and(|at| *at == b"0"),
            b"UNLINK" => false,
            _ => return,
        };
        let last = if name == b"UNLINK" { words.len() } else { 2 };
        for key in words.get(1..last).unwrap_or_default() {
            let named = (self.db, key.to_vec());
            if !is_whole {
                self.whole.remove(&named);
                continue;
            }
            if self.whole.len() >= WHOLE_KEYS_MAX {
                self.whole.clear();
            }
            self.whole.insert(named);
        }
    }

    /// Everything that was added, as a transaction that also says so; nothing is left here.
    pub fn finish(&mut self, mark: &Mark) -> Transaction {
        if let Some(script) = &mut self.script {
            let (bytes, replies) = script.finish(&self.bytes, mark);
            *self.calls.entry("set").or_default() += 1;
            return self.transaction(bytes, replies);
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 256);
        encode(&["MULTI"], &mut out);
        out.extend_from_slice(&self.bytes);
        if self.db != 0 {
            encode(&["SELECT", "0"], &mut out);
            self.requests += 1;
        }
        self.feed.has_db(0);
        self.db = 0;
        encode(&[b"SET", POSITION_KEY, mark.text().as_bytes()], &mut out);
        *self.calls.entry("set").or_default() += 1;
        encode(&["EXEC"], &mut out);
        encode(&WATCH, &mut out);
        // MULTI, what is queued with the SET of the position, EXEC, WATCH.
        let replies = self.requests + 4;
        self.transaction(out, replies)
    }

    fn transaction(&mut self, bytes: Vec<u8>, replies: usize) -> Transaction {
        let transaction = Transaction {
            bytes,
            replies,
            is_script: self.script.is_some(),
            last: self.last,
            calls: core::mem::take(&mut self.calls),
            checks: core::mem::take(&mut self.checks),
        };
        self.empty();
        transaction
    }
}

/// What of a frame is about a server's keys, or about all keys. (How far the stream of another of the servers goes may stand in the same frame as
/// what clients have written: that is left out, and nothing else.)
fn take_own(payload: &[u8], has: &dyn Fn(&[u8]) -> bool, own: &mut Vec<u8>) -> Result<(), Corrupt> {
    let mut rest = payload;
    while !rest.is_empty() {
        let (_, effect, after) = decode(rest)?;
        let (bytes, _) = rest.split_at(rest.len() - after.len());
        let is_own = match (&effect, effect.key()) {
            (Effect::LineAt { .. }, _) => false,
            (_, None) => true,
            (_, Some(key)) => has(key),
        };
        if is_own {
            own.extend_from_slice(bytes);
        }
        rest = after;
    }
    Ok(())
}

/// Whether a frame was made of a source's stream, and the last database that it is about.
fn about(payload: &[u8]) -> Result<(bool, u8), Corrupt> {
    let (mut rest, mut last) = (payload, 0);
    while !rest.is_empty() {
        let (db, effect, after) = decode(rest)?;
        last = last.max(db);
        match effect {
            Effect::SourceAt { .. } => return Ok((true, last)),
            Effect::SwapDb { with } => last = last.max(with),
            _ => {}
        }
        rest = after;
    }
    Ok((false, last))
}

#[cfg(test)]
pub(super) mod tests {
    use storage::{Ttl, encode as record};

    use super::*;
    use crate::Place;

    pub(in crate::written) fn mark(sequence: u64) -> Mark {
        Mark {
            fence: Place::new("f", 1),
            sequence,
        }
    }

    pub(in crate::written) fn add(pen: &mut Pen, sequence: u64, effects: &[(u8, Effect<'_>)]) {
        let mut payload = Vec::new();
        for (db, effect) in effects {
            record(*db, effect, &mut payload);
        }
        pen.add(sequence, FrameKind::Effects, &payload).unwrap();
    }

    /// The requests' words, apart by blanks.
    fn shown(transaction: &Transaction) -> Vec<String> {
        let (mut parser, mut rest, mut all) = (Parser::default(), &transaction.bytes[..], vec![]);
        while !rest.is_empty() {
            let mut words = Vec::new();
            let Parsed::Request { consumed } = parser.parse(rest, &Limits::DEFAULT, &mut words)
            else {
                panic!("not a request");
            };
            let words = words
                .iter()
                .map(|word| String::from_utf8_lossy(word.of(rest)));
            all.push(words.collect::<Vec<_>>().join(" "));
            rest = &rest[consumed..];
        }
        all
    }

    pub(in crate::written) fn put<'a>(key: &'a [u8], ttl: Ttl) -> Effect<'a> {
        Effect::PutString {
            key,
            value: b"v",
            ttl,
        }
    }

    #[test]
    fn frames_become_one_transaction_with_the_position_behind_them() {
        let mut pen = Pen::new(Reader::of_rdb(10), 16);
        pen.begin_anew(4);
        assert!(pen.is_empty(4));
        add(
            &mut pen,
            5,
            &[(3, put(b"a", Ttl::Clear)), (3, put(b"b", Ttl::Clear))],
        );
        add(
            &mut pen,
            6,
            &[(
                3,
                Effect::ExpireAt {
                    key: b"a",
                    at_ms: 9,
                },
            )],
        );
        let found = pen.finish(&mark(6));
        let expected = [
            "MULTI",
            "SELECT 3",
            "SET a v",
            "SET b v",
            "PTTL a",
            "PEXPIREAT a 9",
            "SELECT 0",
            "SET meridian:migration:position 1 f 1 6",
            "EXEC",
            "WATCH meridian:migration:position",
        ];
        assert_eq!(shown(&found), expected);
        assert_eq!((found.replies, found.last), (10, 6));
        assert_eq!(found.calls, BTreeMap::from([("pexpireat", 1), ("set", 3)]));
        // The next one goes on in database 0.
        add(&mut pen, 7, &[(0, put(b"c", Ttl::Clear))]);
        let found = pen.finish(&mark(7));
        assert_eq!(shown(&found)[1], "SET c v");
        // What was selected on the connection before is not on a new one.
        add(&mut pen, 8, &[(5, put(b"c", Ttl::Clear))]);
        pen.begin_anew(7);
        add(&mut pen, 8, &[(0, put(b"c", Ttl::Clear))]);
        assert_eq!(shown(&pen.finish(&mark(8)))[1], "SET c v");
    }

    #[test]
    fn what_came_from_the_source_is_not_said_to_it() {
        let mut pen = Pen::new(Reader::of_rdb(10), 16);
        pen.begin_anew(0);
        let at = Effect::SourceAt {
            replid: &[b'a'; 40],
            offset: 5,
        };
        add(&mut pen, 1, &[(0, put(b"a", Ttl::Clear)), (0, at)]);
        assert!(!pen.is_empty(0) && pen.last() == 1);
        assert_eq!(pen.finish(&mark(1)).replies, 4, "only the position");
        let damaged = pen.add(2, FrameKind::Effects, b"\xff\xff");
        assert_eq!(damaged, Err(Unsaid::Corrupt));
        let mut payload = Vec::new();
        record(16, &put(b"a", Ttl::Clear), &mut payload);
        let nowhere = pen.add(2, FrameKind::Effects, &payload);
        assert_eq!(nowhere, Err(Unsaid::Database(16)));
        assert_eq!(pen.last(), 1);
    }

    #[test]
    fn of_several_servers_each_is_told_what_is_of_its_keys() {
        let has = |key: &[u8]| key.starts_with(b"a");
        let mut pen = Pen::new(Reader::of_rdb(10), 16).only(Box::new(has));
        pen.begin_anew(0);
        let stream_of_another = Effect::LineAt {
            line: 1,
            replid: &[b'a'; 40],
            offset: 5,
        };
        let all = [
            (0, put(b"b", Ttl::Clear)),
            (0, put(b"a", Ttl::Clear)),
            (7, put(b"b", Ttl::Clear)),
            (0, stream_of_another),
        ];
        add(&mut pen, 1, &all);
        assert!(pen.has_requests());
        assert_eq!(shown(&pen.finish(&mark(1)))[1], "SET a v");
        add(&mut pen, 2, &all[..1]);
        assert!(!pen.has_requests() && !pen.is_empty(1) && pen.last() == 2);
        add(&mut pen, 3, &[(0, Effect::FlushAll)]);
        assert_eq!(shown(&pen.finish(&mark(3)))[1], "FLUSHALL");
        let damaged = pen.add(4, FrameKind::Effects, b"\xff\xff");
        assert_eq!((damaged, pen.last()), (Err(Unsaid::Corrupt), 3));
    }

    #[test]
    fn for_a_shard_of_a_cluster_it_is_one_script_that_knows_the_position() {
        let mut pen = Pen::new(Reader::of_rdb(10), 1).by_script(b"p:{3}".to_vec());
        pen.begin_at(4, Some(&mark(4)));
        add(&mut pen, 5, &[(0, put(b"a", Ttl::Clear))]);
        let ends = Effect::ExpireAt {
            key: b"a",
            at_ms: 9,
        };
        add(&mut pen, 6, &[(0, ends)]);
        let found = pen.finish(&mark(6));
        let words = shown(&found).pop().unwrap();
        let tail = words.split_once("return out ").unwrap().1;
        let expected = "1 p:{3} 1 f 1 4 1 f 1 6 1 a 3 SET a v 2 PTTL a 3 PEXPIREAT a 9";
        assert_eq!(tail, expected);
        assert_eq!((found.replies, found.last), (1, 6));
        assert_eq!(found.calls, BTreeMap::from([("pexpireat", 1), ("set", 2)]));
        // The next one expects what this one has set; a new connection what it has read.
        add(&mut pen, 7, &[(0, put(b"b", Ttl::Clear))]);
        let next = shown(&pen.finish(&mark(7))).pop().unwrap();
        assert!(
            next.contains("p:{3} 1 f 1 6 1 f 1 7 1 b 3 SET b v"),
            "{next}"
        );
        pen.begin_at(0, None);
        let empty = shown(&pen.finish(&mark(0))).pop().unwrap();
        assert!(empty.ends_with("p:{3}  1 f 1 0 0"), "{empty}");
        // Keys of several slots are removed one by one.
        let remove = |key| (0, Effect::Remove { key });
        add(&mut pen, 1, &[remove(b"a"), remove(b"b")]);
        let removed = shown(&pen.finish(&mark(1))).pop().unwrap();
        assert!(removed.ends_with("2 UNLINK a 2 UNLINK b"), "{removed}");
        // What stands for keys without a place in a cluster, and what is said before.
        let mut payload = Vec::new();
        record(1, &put(b"a", Ttl::Clear), &mut payload);
        let nowhere = pen.add(8, FrameKind::Effects, &payload);
        assert_eq!(nowhere, Err(Unsaid::Database(1)));
        let mut libraries = b"body".to_vec();
        libraries.extend_from_slice(&[0; 10]);
        pen.add(8, FrameKind::Libraries, &libraries).unwrap();
        let found = pen.finish(&mark(8));
        let said = shown(&found);
        assert!(said[0].starts_with("FUNCTION RESTORE body") && said.len() == 2);
        assert_eq!(found.replies, 2);
    }

    #[test]
    fn a_transaction_is_full_by_bytes_and_by_requests() {
        let mut pen = Pen::new(Reader::of_rdb(10), 16);
        pen.begin_anew(0);
        for n in 0..BATCH_REQUESTS_MAX as u64 {
            assert!(!pen.is_full());
            add(&mut pen, n + 1, &[(0, put(b"a", Ttl::Clear))]);
        }
        assert!(pen.is_full());
        pen.begin_anew(0);
        let value = vec![b'x'; BATCH_BYTES_MAX];
        let large = Effect::PutString {
            key: b"a",
            value: &value,
            ttl: Ttl::Clear,
        };
        add(&mut pen, 1, &[(0, large)]);
        assert!(pen.is_full());
    }

    #[test]
    fn keys_known_to_be_whole_are_bounded() {
        let mut pen = Pen::new(Reader::of_rdb(10), 16);
        pen.begin_anew(0);
        for n in 0..2 * WHOLE_KEYS_MAX {
            add(
                &mut pen,
                n as u64,
                &[(0, put(n.to_string().as_bytes(), Ttl::Clear))],
            );
            assert!(pen.whole.len() <= WHOLE_KEYS_MAX);
        }
    }
}
