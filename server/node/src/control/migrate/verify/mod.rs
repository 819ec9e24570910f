//! A pass of verification: every key of the source, and every key here, compared; what differs is looked at again, listed and fetched again.
//!
//! ```text
//! listed before ──┐
//! SCAN, all databases ── DUMP of small keys, pieces of large ones ─┐     WATCH, read, ROLE ─> wait for that offset
//! names here ── EXISTS there ───────────────────────────────────────┴─> ─> look here ─> EXEC: untouched? ─> listed ─> RESTORE there
//! ```
//! A key that changes between the two reads looks different and is not: so a suspicious key is read under WATCH, this node is looked at
//! when the stream has passed the offset of that read, and EXEC tells whether the key was touched meanwhile. Only then it is listed. One that
//! is touched each time counts as unsettled, and comes again in the next pass. Single elements of a large value that is never
//! left alone are listed when they were the same before and after the look, three times.
//!
//! A listed key is **fetched again by the source itself**: under WATCH it is dumped and restored over itself there, so that its value comes by
//! the stream, at its place in the order, exactly once. A key that the source has not is set and deleted there in one transaction.
//!
//! Of a source that is followed by scan there is no offset: a mark is waited for instead, and a listed key is read again by that session.
//!
//! DUMP, not DEBUG DIGEST-VALUE: that one costs the source a SHA-1 for each element, leaves out consumer groups, and is barred as a rule.
//! Bounds: [`KEYS_MAX`] keys a batch, [`PIECE_MAX`] elements a piece; between two batches rests as long as one took.

mod pieces;
pub(super) mod shards;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use migration::assess;
use migration::compare::{Difference, Findings, Kind, Name, Piece, Rule, Seen, judge};
use protocol::answer::Answer;
use storage::{Limits, StreamId, rdb, shared_digest};

use super::link::{Wire, refused, text_of};
use super::look::{self, Here, Question, WHOLE_BYTES_MAX};
use crate::start::unix_ms;
use pieces::{From, array_of, bytes_of, failed, int_of, part_of, words};

/// Keys of a batch.
const KEYS_MAX: usize = 128;
/// Elements of a piece, and bytes of one of a string.
const PIECE_MAX: usize = 500;
const TEXT_PIECE_BYTES: usize = 256 << 10;
/// Suspicious keys that wait to be looked at again.
const SUSPECTS_MAX: usize = 256;
/// How often a key is looked at again that is touched meanwhile, and how often an element must be the same.
const TRIES_MAX: u32 = 30;
const AGREES: u32 = 3;
/// The longest rest between batches, and between tries.
const REST_MAX: Duration = Duration::from_millis(50);
/// How long the stream may take to come as far as a read.
const STREAM_MAX: Duration = Duration::from_secs(20);
/// Bytes of a key that is fetched again: DUMP and RESTORE stop the source for it.
const MEND_BYTES_MAX: u64 = 64 << 20;
/// Deadlines of a Redis before 7.0 are told as the time that is left.
const RELATIVE_MS: u64 = 1000;
/// A key that ends within this time may be gone on one side.
const ENDING_MS: u64 = 2000;

/// See the module's head.
pub(super) struct Verifier<'a, H> {
    /// A connection of its own.
    pub wire: Wire,
    /// The keys here.
    pub here: H,
    /// What is known so far; shared with who shows it.
    pub findings: &'a Mutex<Findings>,
    /// Major and minor version of the source.
    pub version: (u64, u64),
    /// The source's clock minus ours, ms.
    pub skew_ms: i64,
    /// Whether what differs is fetched again.
    pub mends: bool,
    /// Unix ms.
    pub now_ms: fn() -> u64,
    /// It is to end.
    pub stops: &'a dyn Fn() -> bool,
    /// Suspicious keys.
    pub suspects: VecDeque<Suspect>,
    /// The database that is selected.
    pub db: u64,
    /// Keys that could not be settled in this pass.
    pub unsettled: u64,
}

/// A key to be looked at again.
#[derive(Debug)]
pub(super) struct Suspect {
    name: Name,
    part: Part,
    /// It has been fetched again in this pass.
    is_mended: bool,
}

/// Which part of it.
#[derive(Clone, Debug)]
enum Part {
    Whole,
    /// Its number of elements, by this command.
    Len(&'static str),
    Elements(Piece),
}

enum Verdict {
    Equal,
    Differs(Kind, u64),
    Unsettled,
}

/// What is known of a key of the source, once read.
enum There {
    Whole(Option<Seen>),
    Large(Seen),
}

impl<'a, H: Here> Verifier<'a, H> {
    /// By this connection; what is found goes to `findings`, and it ends when `stops` says so.
    ///
    /// # Errors
    /// When the source does not say what it is.
    pub(super) fn begin(
        mut wire: Wire,
        here: H,
        (findings, stops): (&'a Mutex<Findings>, &'a dyn Fn() -> bool),
        mends: bool,
    ) -> Result<Verifier<'a, H>, String> {
        let info = wire
            .call(&["INFO", "server"])
            .and_then(refused)
            .map_err(failed)?;
        let info = text_of(&info);
        // (Its clock, as it was when it answered.)
        let theirs_us = assess::number(&info, "server_time_usec");
        let theirs_ms = i64::try_from(theirs_us / 1000).unwrap_or(0);
        let skew_ms = match theirs_ms {
            0 => 0,
            theirs_ms => theirs_ms - unix_ms() as i64,
        };
        Ok(Verifier {
            wire,
            here,
            findings,
            version: assess::version(&info),
            skew_ms,
            mends,
            now_ms: unix_ms,
            stops,
            suspects: VecDeque::new(),
            db: 0,
            unsettled: 0,
        })
    }

    /// Compares everything once. False when it was to end before.
    ///
    /// # Errors
    /// When one of the two sides does not answer, or the stream does not come on.
    pub(super) fn pass(&mut self) -> Result<bool, String> {
        if !self.walk()? {
            return Ok(false);
        }
        Ok(end_pass(&mut self.findings(), self.unsettled, self.stops))
    }

    /// The same, of one of several sources: a pass is one of all.
    ///
    /// # Errors
    /// As [`Verifier::pass`].
    pub(super) fn walk(&mut self) -> Result<bool, String> {
        self.unsettled = 0;
        self.suspects.clear();
        let listed: Vec<Name> = self
            .findings()
            .listed()
            .map(|(name, _)| name.clone())
            .filter(|name| self.here.compares(&name.1))
            .collect();
        for name in listed {
            self.suspect(name, Part::Whole)?;
        }
        for db in self.databases_there()? {
            if !self.walk_there(db)? {
                return Ok(false);
            }
        }
        for db in 0..self.here.databases() {
            if !self.walk_here(db)? {
                return Ok(false);
            }
        }
        self.settle_all()?;
        Ok(!(self.stops)())
    }

    fn findings(&self) -> MutexGuard<'a, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&mut self, request: &[&[u8]]) -> Result<Answer, String> {
        self.wire.call(request).and_then(refused).map_err(failed)
    }

    fn call_all(&mut self, requests: &[Vec<Vec<u8>>]) -> Result<VecDeque<Answer>, String> {
        let answers = self.wire.call_all(requests).map_err(failed)?;
        let answers = answers.into_iter().map(refused);
        answers.collect::<io::Result<_>>().map_err(failed)
    }

    fn select(&mut self, db: u64) -> Result<(), String> {
        if self.db != db {
            self.call(&[b"SELECT", db.to_string().as_bytes()])?;
            self.db = db;
        }
        Ok(())
    }

    fn databases_there(&mut self) -> Result<Vec<u64>, String> {
        let info = text_of(&self.call(&[b"INFO", b"keyspace"])?);
        let db = |line: &str| line.strip_prefix("db")?.split_once(':')?.0.parse().ok();
        Ok(info.lines().filter_map(db).collect())
    }

    fn rule(&self) -> Rule {
        let is_absolute = self.version >= (7, 0);
        Rule {
            now_ms: (self.now_ms)(),
            deadlines_ms: if is_absolute { 1 } else { RELATIVE_MS },
            ending_ms: ENDING_MS + self.skew_ms.unsigned_abs(),
        }
    }

    /// All keys of a database there. False when it is to end.
    fn walk_there(&mut self, db: u64) -> Result<bool, String> {
        let count = KEYS_MAX.to_string();
        let mut cursor = b"0".to_vec();
        loop {
            let begun = Instant::now();
            self.select(db)?;
            let mut reply = array_of(self.call(&[b"SCAN", &cursor, b"COUNT", count.as_bytes()])?);
            let keys = reply.pop().map(array_of).unwrap_or_default();
            let next = reply.pop().and_then(bytes_of);
            cursor = next.ok_or("the source: SCAN has no cursor")?;
            let keys: Vec<Vec<u8>> = keys.into_iter().filter_map(bytes_of).collect();
            for keys in keys.chunks(KEYS_MAX) {
                self.compare(db, keys)?;
            }
            if (self.stops)() {
                return Ok(false);
            }
            if cursor == b"0" {
                return Ok(true);
            }
            std::thread::sleep(begun.elapsed().min(REST_MAX));
        }
    }

    /// Names here that the source does not know. False when it is to end.
    fn walk_here(&mut self, db: u8) -> Result<bool, String> {
        for begin in self.here.begins() {
            let mut cursor = Some(begin);
            while let Some(from) = cursor {
                let question = Question::Names(db, from, KEYS_MAX);
                let look::Answer::Names(names, next) = self.here.look(question)? else {
                    return Err("a core does not let go of its slots".to_owned());
                };
                cursor = next;
                for names in names.chunks(KEYS_MAX) {
                    self.look_for(u64::from(db), names)?;
                }
                if (self.stops)() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn look_for(&mut self, db: u64, names: &[Vec<u8>]) -> Result<(), String> {
        let begun = Instant::now();
        self.select(db)?;
        let requests: Vec<_> = names.iter().map(|name| words(&[b"EXISTS", name])).collect();
        let answers = self.call_all(&requests)?;
        for (name, answer) in names.iter().zip(answers) {
            if answer == Answer::Int(0) {
                self.suspect((db, name.clone()), Part::Whole)?;
            }
        }
        std::thread::sleep(begun.elapsed().min(REST_MAX));
        Ok(())
    }

    fn look(&self, db: u64, keys: &[Vec<u8>]) -> Result<Vec<Option<Seen>>, String> {
        let Ok(db) = u8::try_from(db) else {
            return Ok(vec![None; keys.len()]);
        };
        if db >= self.here.databases() {
            return Ok(vec![None; keys.len()]);
        }
        match self.here.look(Question::Keys(db, keys.to_vec()))? {
            look::Answer::Keys(seen) => Ok(seen),
            _ => Err("a core does not let go of its slots".to_owned()),
        }
    }

    /// A batch of keys that the source has shown.
    fn compare(&mut self, db: u64, keys: &[Vec<u8>]) -> Result<(), String> {
        let here = self.look(db, keys)?;
        let there = self.read(keys, &here)?;
        let rule = self.rule();
        self.findings().keys += keys.len() as u64;
        for ((key, here), there) in keys.iter().zip(&here).zip(there) {
            let name = (db, key.clone());
            match there {
                There::Whole(there) if judge(there.as_ref(), here.as_ref(), rule).is_some() => {
                    self.suspect(name, Part::Whole)?;
                }
                There::Whole(_) => {}
                There::Large(there) => {
                    if judge(Some(&there), here.as_ref(), rule).is_some() {
                        self.suspect(name, Part::Whole)?;
                    } else {
                        self.compare_large(&name, &there.kind)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads keys there: whole, unless they are large on one of the sides.
    fn read(&mut self, keys: &[Vec<u8>], here: &[Option<Seen>]) -> Result<Vec<There>, String> {
        let small_here =
            |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.digest.is_some());
        let unknown: Vec<_> = keys
            .iter()
            .zip(here)
            .filter(|(_, seen)| !small_here(seen))
            .collect();
        let sizes: Vec<_> = unknown.iter().map(|(key, _)| size_of_key(key)).collect();
        let mut sizes = self.call_all(&sizes)?;
        let mut requests = Vec::new();
        let mut larges = Vec::new();
        for (key, seen) in keys.iter().zip(here) {
            let is_large = !small_here(seen) && {
                let bytes = sizes.pop_front().as_ref().and_then(int_of).unwrap_or(0);
                // One that is large here is compared in pieces, however it is there.
                seen.is_some() || bytes > WHOLE_BYTES_MAX as i64
            };
            let name: &[u8] = if is_large { b"TYPE" } else { b"DUMP" };
            requests.push(words(&[name, key]));
            requests.push(self.deadline_request(key));
            larges.push(is_large);
        }
        let mut answers = self.call_all(&requests)?;
        let mut there = Vec::new();
        for is_large in larges {
            let (value, deadline) = (answers.pop_front(), answers.pop_front());
            let (Some(value), Some(deadline)) = (value, deadline) else {
                return Err("the source: a reply is missing".to_owned());
            };
            there.push(self.there_of(is_large, value, &deadline));
        }
        Ok(there)
    }

    fn deadline_request(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let name: &[u8] = if self.version >= (7, 0) {
            b"PEXPIRETIME"
        } else {
            b"PTTL"
        };
        words(&[name, key])
    }

    fn there_of(&self, is_large: bool, value: Answer, deadline: &Answer) -> There {
        let told = int_of(deadline).and_then(|ms| u64::try_from(ms).ok());
        let deadline_ms = told.map(|ms| match self.version {
            (7.., _) => ms,
            _ => (self.now_ms)().saturating_add(ms),
        });
        if is_large {
            let kind = text_of(&value);
            return match kind.as_str() {
                "none" => There::Whole(None),
                _ => There::Large(Seen {
                    kind,
                    digest: None,
                    deadline_ms,
                }),
            };
        }
        There::Whole(bytes_of(value).map(|payload| {
            match rdb::restore(&payload, &Limits::default()) {
                Ok(value) => Seen {
                    kind: value.type_name().to_owned(),
                    digest: Some(shared_digest(value.view()).0),
                    deadline_ms,
                },
                // Of a type that is not known here: it is another one than whatever is here.
                Err(_) => Seen {
                    kind: "of a module".to_owned(),
                    digest: None,
                    deadline_ms,
                },
            }
        }))
    }

    fn piece(&self, name: &Name, piece: Piece) -> Result<(Vec<usize>, u64), String> {
        let Ok(db) = u8::try_from(name.0) else {
            return Ok(((0..piece.len()).collect(), 0));
        };
        match self.here.look(Question::Piece(db, name.1.clone(), piece))? {
            look::Answer::Differing(places, len) => Ok((places, len)),
            _ => Err("a core does not let go of its slots".to_owned()),
        }
    }

    /// A large value, piece by piece.
    fn compare_large(&mut self, name: &Name, kind: &str) -> Result<(), String> {
        let len_command = match kind {
            "string" => "STRLEN",
            "list" => "LLEN",
            "hash" => "HLEN",
            "set" => "SCARD",
            "zset" => "ZCARD",
            "stream" => "XLEN",
            // Type and deadline have been compared.
            _ => return Ok(()),
        };
        let mut from = From::Begin;
        loop {
            self.select(name.0)?;
            let (piece, next) = self.read_piece(&name.1, kind, from)?;
            self.compare_piece(name, piece)?;
            match next {
                Some(next) if !(self.stops)() => from = next,
                Some(_) => return Ok(()),
                None => break,
            }
        }
        if kind == "stream" {
            self.compare_groups(name)?;
        }
        self.select(name.0)?;
        let there = self.call(&[len_command.as_bytes(), &name.1])?;
        let (_, here) = self.piece(name, Piece::Set(Vec::new()))?;
        if int_of(&there) != i64::try_from(here).ok() {
            self.suspect(name.clone(), Part::Len(len_command))?;
        }
        Ok(())
    }

    fn compare_piece(&mut self, name: &Name, piece: Piece) -> Result<(), String> {
        self.findings().elements += piece.len() as u64;
        if piece.is_empty() {
            return Ok(());
        }
        let (places, _) = self.piece(name, piece.clone())?;
        if !places.is_empty() {
            self.suspect(name.clone(), Part::Elements(part_of(piece, &places)))?;
        }
        Ok(())
    }

    /// What a large stream has beside its entries: its last id, its groups, and what is pending in them.
    fn compare_groups(&mut self, name: &Name) -> Result<(), String> {
        self.select(name.0)?;
        let Some(Piece::Groups(last, groups)) = self.read_groups(&name.1)? else {
            return Ok(());
        };
        let names: Vec<Vec<u8>> = groups.iter().map(|(group, ..)| group.clone()).collect();
        self.compare_piece(name, Piece::Groups(last, groups))?;
        for group in names {
            let mut from = Some(StreamId::MIN);
            while let Some(first) = from
                && !(self.stops)()
            {
                self.select(name.0)?;
                let (piece, next) = self.read_pending(&name.1, &group, first)?;
                self.compare_piece(name, piece)?;
                from = next;
            }
        }
        Ok(())
    }

    fn suspect(&mut self, name: Name, part: Part) -> Result<(), String> {
        self.suspects.push_back(Suspect {
            name,
            part,
            is_mended: false,
        });
        if self.suspects.len() >= SUSPECTS_MAX {
            return self.settle_all();
        }
        Ok(())
    }

    fn settle_all(&mut self) -> Result<(), String> {
        while let Some(suspect) = self.suspects.pop_front() {
            if (self.stops)() {
                return Ok(());
            }
            self.settle(suspect)?;
        }
        Ok(())
    }

    fn settle(&mut self, suspect: Suspect) -> Result<(), String> {
        let Suspect {
            name,
            part,
            is_mended,
        } = suspect;
        self.findings().suspicious += 1;
        match self.look_again(&name, &part)? {
            Verdict::Unsettled => self.unsettled += 1,
            Verdict::Equal if matches!(part, Part::Whole) => self.settle_whole(&name)?,
            Verdict::Equal => {}
            Verdict::Differs(kind, offset) => {
                let difference = Difference {
                    kind,
                    found_ms: (self.now_ms)(),
                    offset,
                    is_mended: false,
                };
                if is_mended {
                    // It was fetched again and is still not the same: it stays as it was listed.
                    return Ok(());
                }
                self.findings().add(name.clone(), difference);
                if self.mends && self.mend(&name)? {
                    self.findings().mend(&name);
                    self.suspects.push_back(Suspect {
                        name,
                        part: Part::Whole,
                        is_mended: true,
                    });
                }
            }
        }
        Ok(())
    }

    /// Type and deadline are equal, and the value if it is small: one that is listed and large is compared again.
    fn settle_whole(&mut self, name: &Name) -> Result<(), String> {
        if !self.findings().is_listed(name) {
            return Ok(());
        }
        self.select(name.0)?;
        let here = self.look(name.0, std::slice::from_ref(&name.1))?;
        let there = self.read(std::slice::from_ref(&name.1), &here)?;
        let waiting = self.suspects.len();
        if let Some(There::Large(seen)) = there.first() {
            self.compare_large(name, &seen.kind)?;
        }
        if self.suspects.len() == waiting {
            self.findings().settle(name);
        }
        Ok(())
    }

    fn look_again(&mut self, name: &Name, part: &Part) -> Result<Verdict, String> {
        let mut agreed = 0;
        for n in 0..TRIES_MAX {
            self.select(name.0)?;
            self.call(&[b"WATCH", &name.1])?;
            let read = self.probe(name, part)?;
            let offset = self.offset_behind(name)?;
            self.wait_for(offset)?;
            let differs = self.probe_here(name, &read)?;
            let requests = [words(&[b"MULTI"]), words(&[b"PING"]), words(&[b"EXEC"])];
            let untouched = matches!(self.call_all(&requests)?.back(), Some(Answer::Array(_)));
            let Some(kind) = differs else {
                return Ok(Verdict::Equal);
            };
            if untouched {
                return Ok(Verdict::Differs(kind, offset));
            }
            if !matches!(part, Part::Whole) && self.probe(name, part)? == read {
                agreed += 1;
                if agreed == AGREES {
                    return Ok(Verdict::Differs(kind, offset));
                }
            }
            std::thread::sleep(Duration::from_millis(u64::from(n)).min(REST_MAX));
        }
        Ok(Verdict::Unsettled)
    }

    /// What is to be executed here before a key can be what it was when it was read.
    fn offset_behind(&mut self, name: &Name) -> Result<u64, String> {
        match self.here.ask_mark(name.0, &name.1) {
            Some(mark) => Ok(mark),
            None => self.offset(),
        }
    }

    /// The source's offset: at or behind everything that was read before.
    fn offset(&mut self) -> Result<u64, String> {
        let role = array_of(self.call(&[b"ROLE"])?);
        match (role.first().map(text_of).as_deref(), role.get(1)) {
            (Some("master"), Some(Answer::Int(offset))) => Ok(offset.unsigned_abs()),
            _ => Err("the source is no primary".to_owned()),
        }
    }

    fn wait_for(&self, offset: u64) -> Result<(), String> {
        let until = Instant::now() + STREAM_MAX;
        while self.here.applied() < offset {
            if (self.stops)() || Instant::now() > until {
                return Err(format!(
                    "the stream does not come on: it is {} behind",
                    offset.saturating_sub(self.here.applied())
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Reads a part of a key there.
    fn probe(&mut self, name: &Name, part: &Part) -> Result<Read, String> {
        let key = &name.1;
        match part {
            Part::Whole => {
                let here = self.look(name.0, std::slice::from_ref(key))?;
                let read = self.read(std::slice::from_ref(key), &here)?;
                Ok(match read.into_iter().next() {
                    Some(There::Whole(seen)) => Read::Whole(seen),
                    Some(There::Large(seen)) => Read::Whole(Some(seen)),
                    None => Read::Whole(None),
                })
            }
            Part::Len(command) => {
                let len = self.call(&[command.as_bytes(), key])?;
                Ok(Read::Len(int_of(&len).unwrap_or(0).unsigned_abs()))
            }
            Part::Elements(piece) => self.probe_elements(key, piece).map(Read::Elements),
        }
    }

    /// How what is here differs from what was read there.
    fn probe_here(&self, name: &Name, read: &Read) -> Result<Option<Kind>, String> {
        match read {
            Read::Whole(there) => {
                let here = self.look(name.0, std::slice::from_ref(&name.1))?;
                let here = here.into_iter().next().flatten();
                Ok(judge(there.as_ref(), here.as_ref(), self.rule()))
            }
            Read::Len(there) => {
                let (_, here) = self.piece(name, Piece::Set(Vec::new()))?;
                Ok((here != *there).then_some(Kind::Value))
            }
            Read::Elements(piece) => {
                let (places, _) = self.piece(name, piece.clone())?;
                Ok((!places.is_empty()).then_some(Kind::Value))
            }
        }
    }

    /// Has the source say a key again, by its stream. False when it is too large, or touched each time.
    fn mend(&mut self, name: &Name) -> Result<bool, String> {
        if self.here.fetches(name.0, &name.1) {
            let mark = self.offset_behind(name)?;
            return self.wait_for(mark).map(|()| true);
        }
        self.select(name.0)?;
        let key = name.1.as_slice();
        for _ in 0..TRIES_MAX {
            self.call(&[b"WATCH", key])?;
            let size = self.call_all(&[size_of_key(key)])?.pop_front();
            if size.as_ref().and_then(int_of).unwrap_or(0) > MEND_BYTES_MAX as i64 {
                self.call(&[b"UNWATCH"])?;
                return Ok(false);
            }
            let payload = bytes_of(self.call(&[b"DUMP", key])?);
            let mut requests = vec![words(&[b"MULTI"])];
            match payload {
                Some(payload) => {
                    let deadline = self.deadline_to_restore(key)?;
                    let at = deadline.to_string();
                    requests.push(words(&[
                        b"RESTORE",
                        key,
                        at.as_bytes(),
                        &payload,
                        b"REPLACE",
                        b"ABSTTL",
                    ]));
                }
                None => {
                    requests.push(words(&[b"SET", key, b""]));
                    requests.push(words(&[b"DEL", key]));
                }
            }
            requests.push(words(&[b"EXEC"]));
            if matches!(self.call_all(&requests)?.back(), Some(Answer::Array(_))) {
                let offset = self.offset()?;
                return self.wait_for(offset).map(|()| true);
            }
        }
        Ok(false)
    }

    /// When a key ends, by the source's clock, unix ms; 0 for never.
    fn deadline_to_restore(&mut self, key: &[u8]) -> Result<i64, String> {
        let request = self.deadline_request(key);
        let requests = [words(&[b"TIME"]), request];
        let mut answers = self.call_all(&requests)?;
        let time = array_of(answers.pop_front().unwrap_or(Answer::Null));
        let told = answers.pop_front().as_ref().and_then(int_of).unwrap_or(-1);
        if told < 0 {
            return Ok(0);
        }
        if self.version >= (7, 0) {
            return Ok(told);
        }
        let part = |at: usize| {
            time.get(at)
                .map(text_of)
                .and_then(|text| text.parse::<i64>().ok())
        };
        let now_ms = part(0).zip(part(1)).map(|(s, us)| s * 1000 + us / 1000);
        Ok(now_ms
            .ok_or("the source: TIME is no time")?
            .saturating_add(told))
    }
}

/// Counts a whole pass, unless it was to end, or to begin anew, before it was whole.
fn end_pass(findings: &mut Findings, unsettled: u64, stops: &dyn Fn() -> bool) -> bool {
    // (Who asks for another one says so first, and sets the count back behind that.)
    if stops() {
        return false;
    }
    findings.passes += 1;
    findings.unsettled = unsettled;
    true
}

/// What was read.
#[derive(PartialEq)]
enum Read {
    Whole(Option<Seen>),
    Len(u64),
    Elements(Piece),
}

fn size_of_key(key: &[u8]) -> Vec<Vec<u8>> {
    words(&[b"MEMORY", b"USAGE", key, b"SAMPLES", b"5"])
}
