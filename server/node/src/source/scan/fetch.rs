//! Keys read from the source and put here: their sizes first, then their values in pieces of [`PIECE_BYTES`], each put before the next is read.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use migration::scan::{Name, deadline_ms, is_stream, pieces};
use protocol::answer::Answer;
use storage::{Key, Limits, OwnedValue, Slot, rdb, shared_digest};

use super::super::{apply, lock, session};
use super::Scanner;
use crate::connection::{Connection, Request};
use crate::control::migrate::look::{self, Here, Question};
use crate::control::migrate::{refused, text_of};
use crate::core::Core;
use crate::executed::{Failed, host_of};

/// Keys that are read at once, and bytes of values (as MEMORY USAGE has them) that are asked for at once, unless one alone is larger.
pub(super) const KEYS_MAX: usize = 256;
const PIECE_BYTES: u64 = 4 << 20;
/// How long a value waits at a time while too much waits for the disk.
const CHOKED: Duration = Duration::from_millis(5);

/// A key as it is there; None when it is not.
struct Put {
    key: Vec<u8>,
    value: Option<Dumped>,
}

struct Dumped {
    payload: Vec<u8>,
    digest: u128,
    deadline_ms: Option<u64>,
}

/// A request's words.
pub(super) fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

impl Scanner<'_> {
    /// Reads keys and puts them here.
    ///
    /// # Errors
    /// When the source does not tell them, or this node does not take them.
    pub(super) fn fetch_names(&mut self, names: Vec<Name>) -> Result<(), String> {
        let mut rest = names.as_slice();
        while let Some((db, _)) = rest.first() {
            let same = rest.iter().take_while(|(of, _)| of == db).count();
            let (some, more) = rest.split_at(same);
            let keys: Vec<Vec<u8>> = some.iter().map(|(_, key)| key.clone()).collect();
            self.fetch(*db, &keys)?;
            rest = more;
        }
        Ok(())
    }

    /// The same of one database.
    ///
    /// # Errors
    /// As [`Scanner::fetch_names`].
    pub(super) fn fetch(&mut self, db: u8, keys: &[Vec<u8>]) -> Result<(), String> {
        self.has_database(db.into())?;
        self.select(db)?;
        let requests: Vec<_> = keys
            .iter()
            .map(|key| words(&[b"MEMORY", b"USAGE", key, b"SAMPLES", b"5"]))
            .collect();
        let (mut fits, mut sizes) = (Vec::new(), Vec::new());
        let most = self.session.node.config().migrate_scan_value_max_bytes;
        for (key, answer) in keys.iter().zip(self.call_all(&requests)?) {
            let bytes = match answer {
                Answer::Int(bytes) => u64::try_from(bytes).unwrap_or(0),
                _ => 0,
            };
            if bytes > most {
                let why = format!(
                    "the key '{}' of database {db} takes {bytes} bytes at the source, more than migrate-scan-value-max-bytes ({most}): DUMP would stop the source for it; raise the option, or make the key smaller",
                    key.escape_ascii()
                );
                self.note(db, key, false, Some(why))?;
                continue;
            }
            fits.push(key.clone());
            sizes.push(bytes);
        }
        for piece in pieces(&sizes, PIECE_BYTES) {
            self.fetch_piece(db, &fits[piece])?;
        }
        Ok(())
    }

    /// Whether this server has a database.
    ///
    /// # Errors
    /// If not: what to do.
    pub(super) fn has_database(&self, db: u64) -> Result<u8, String> {
        let has = self.session.node.databases();
        let fits = u8::try_from(db).ok().filter(|db| *db < has);
        fits.ok_or_else(|| {
            format!("the source has keys in database {db}, and this server has {has} databases: raise the option `databases`")
        })
    }

    /// What is known of a key since it was read.
    fn note(&self, db: u8, key: &[u8], groups: bool, unfit: Option<String>) -> Result<(), String> {
        let name = (db, key.to_vec());
        self.board()?.fetched(&name, groups, unfit)
    }

    fn fetch_piece(&mut self, db: u8, keys: &[Vec<u8>]) -> Result<(), String> {
        let now_ms = match self.is_absolute() {
            true => None,
            false => Some(self.time_ms()?),
        };
        let deadline: &[u8] = if self.is_absolute() {
            b"PEXPIRETIME"
        } else {
            b"PTTL"
        };
        let requests: Vec<_> = keys
            .iter()
            .flat_map(|key| [words(&[b"DUMP", key]), words(&[deadline, key])])
            .collect();
        let mut answers = self.call_all(&requests)?.into_iter();
        let mut puts = Vec::with_capacity(keys.len());
        for key in keys {
            let (Some(value), Some(told)) = (answers.next(), answers.next()) else {
                return Err("the source: a reply is missing".to_owned());
            };
            let (value, has_groups) = match value {
                Answer::Bulk(payload) => match self.dumped(payload, deadline_ms(&told, now_ms)) {
                    Ok(dumped) => dumped,
                    Err(why) => {
                        let key_shown = key.escape_ascii();
                        let why = format!("the key '{key_shown}' of database {db}: {why}");
                        self.note(db, key, false, Some(why))?;
                        continue;
                    }
                },
                _ => (None, false),
            };
            self.note(db, key, has_groups, None)?;
            puts.push(Put {
                key: key.clone(),
                value,
            });
        }
        self.put(db, puts)
    }

    /// What DUMP gave, read through: a value that cannot be taken in is found before it is put. Whether it is a stream with groups.
    fn dumped(
        &self,
        payload: Vec<u8>,
        deadline_ms: Option<u64>,
    ) -> Result<(Option<Dumped>, bool), String> {
        let value = rdb::restore(&payload, &Limits::default()).map_err(|_| {
            "its value is of a type or version that this server does not read".to_owned()
        })?;
        let has_groups = match &value {
            OwnedValue::Stream(stream) => is_stream(&payload) && stream.groups().len() > 0,
            _ => false,
        };
        let digest = shared_digest(value.view()).0;
        let dumped = Dumped {
            payload,
            digest,
            deadline_ms,
        };
        Ok((Some(dumped), has_groups))
    }

    /// Puts keys here, those that are not so already; in a sweep it is looked whether they are so then.
    fn put(&mut self, db: u8, puts: Vec<Put>) -> Result<(), String> {
        let wanted: Vec<(Vec<u8>, Option<u128>)> = puts
            .iter()
            .map(|put| {
                (
                    put.key.clone(),
                    put.value.as_ref().map(|value| value.digest),
                )
            })
            .collect();
        let mut slots: Vec<Slot> = puts.iter().map(|put| Slot::of(&put.key)).collect();
        slots.sort_unstable();
        slots.dedup();
        let (changed, failed) =
            self.visit(slots, move |core, conn| core.put_scanned(conn, db, puts))?;
        if let Some(failed) = failed.first() {
            let key = wanted.get(failed.at).map(|(key, _)| key.escape_ascii());
            let key = key.map_or(String::new(), |key| key.to_string());
            return Err(format!(
                "the key '{key}' could not be put here: {}",
                failed.error
            ));
        }
        let desk = &self.session.line.scan;
        desk.count(&desk.fetched, wanted.len());
        desk.count(&desk.changed, changed);
        let sweeps = self.board()?.sweeps();
        match sweeps {
            true => self.look_at(db, &wanted),
            false => Ok(()),
        }
    }

    /// Has something done on a core with these slots in hand, if this session counts still.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn visit<R: Send + 'static>(
        &mut self,
        slots: Vec<Slot>,
        run: impl FnOnce(&mut Core, &mut Connection) -> R + Send + 'static,
    ) -> Result<R, String> {
        let node = self.session.node;
        let conn = self.conn.take();
        let mut conn = conn.ok_or("the last keys have not come back")?;
        while node.write_log.is_choked() {
            self.session.look()?;
            std::thread::sleep(CHOKED);
        }
        let (to, from) = channel();
        let (line, number) = (Arc::clone(&self.session.line), self.session.number);
        let host = host_of(node, Some(&slots));
        let of_visit = move |core: &mut Core| {
            let order = lock(&line.order);
            let done = (*order == number).then(|| run(core, &mut conn));
            core.queue_effects();
            drop(order);
            // (A session that is gone needs no answer.)
            let _gone = to.send((conn, done));
        };
        apply::visit(node, host, Some(slots), Box::new(of_visit))?;
        let (conn, done) = apply::wait(node, &from)?;
        self.conn = Some(conn);
        done.ok_or_else(|| session::ENDED.to_owned())
    }

    /// Whether keys are here as they were read there.
    fn look_at(&self, db: u8, wanted: &[(Vec<u8>, Option<u128>)]) -> Result<(), String> {
        let keys = wanted.iter().map(|(key, _)| key.clone()).collect();
        let look::Answer::Keys(seen) = self.session.node.look(Question::Keys(db, keys))? else {
            return Err("a core does not let go of its slots".to_owned());
        };
        for ((key, digest), seen) in wanted.iter().zip(seen) {
            let is_same = match (digest, seen) {
                (None, None) => true,
                // (A large one is not read as a whole.)
                (Some(digest), Some(seen)) => seen.digest.is_none_or(|found| found == *digest),
                _ => false,
            };
            if !is_same {
                let key = key.escape_ascii();
                return Err(format!("the key '{key}' is not here what it is there"));
            }
        }
        Ok(())
    }

    /// Libraries of functions, which have no events: those there take the place of those here.
    ///
    /// # Errors
    /// When the source fails, or this session has been ended.
    pub(super) fn fetch_functions(&mut self) -> Result<(), String> {
        if !self.has_functions {
            return Ok(());
        }
        let answer = self
            .wire
            .call(&["FUNCTION", "DUMP"])
            .map_err(super::failed)?;
        let payload = match refused(answer.clone()) {
            Ok(Answer::Bulk(payload)) => payload,
            _ => {
                // Told once: who may not dump them has none to move, or loads them here.
                self.has_functions = false;
                let why = text_of(&answer);
                self.session.node.log(|log| {
                    log.notice(&format!("Libraries of functions are not copied: {why}"));
                });
                return Ok(());
            }
        };
        if self.functions.as_ref() == Some(&payload) {
            return Ok(());
        }
        let request = words(&[b"FUNCTION", b"RESTORE", &payload, b"FLUSH"]);
        let table = self.session.node.table();
        let row = table
            .find(b"function")
            .and_then(|row| table.subcommand(row, b"restore"));
        let request = Request::of_words(row.ok_or("FUNCTION RESTORE is not known")?, &request);
        let failed = self.visit(Vec::new(), move |core, conn| {
            core.run_executed(conn, &[request])
        })?;
        if let Some(failed) = failed.first() {
            let why = format!("The source's functions are not here: {}", failed.error);
            self.session.node.log(|log| log.warning(&why));
        }
        self.functions = Some(payload);
        Ok(())
    }
}

impl Core {
    /// Puts keys whose slots are in hand: how many were others, and what failed.
    fn put_scanned(
        &mut self,
        conn: &mut Connection,
        db: u8,
        puts: Vec<Put>,
    ) -> (usize, Vec<Failed>) {
        let (table, mut places, mut requests) = (self.node.table(), Vec::new(), Vec::new());
        self.shard.suspend_deadlines();
        for (at, put) in puts.into_iter().enumerate() {
            if self.has_scanned(db, &put) {
                continue;
            }
            let (name, words) = put.words();
            if let Some(row) = table.find(name) {
                requests.push(Request::of_words(row, &words));
                places.push(at);
            }
        }
        conn.db = db;
        let mut failed = self.run_executed(conn, &requests);
        for failed in &mut failed {
            failed.at = places.get(failed.at).copied().unwrap_or(failed.at);
        }
        (requests.len(), failed)
    }

    /// Whether a key is here as it was read.
    fn has_scanned(&self, db: u8, put: &Put) -> bool {
        let key = Key::new(db, &put.key);
        match (&put.value, self.shard.peek(&key)) {
            (None, None) => true,
            (Some(wanted), Some(value)) => {
                let info = self.shard.info(&key);
                info.is_some_and(|info| info.deadline_ms == wanted.deadline_ms)
                    && shared_digest(value).0 == wanted.digest
            }
            _ => false,
        }
    }
}

impl Put {
    /// The request that makes it so.
    fn words(self) -> (&'static [u8], Vec<Vec<u8>>) {
        let Some(value) = self.value else {
            return (b"del", vec![b"DEL".to_vec(), self.key]);
        };
        let at_ms = value.deadline_ms.unwrap_or(0).to_string();
        let mut all = vec![
            b"RESTORE".to_vec(),
            self.key,
            at_ms.into_bytes(),
            value.payload,
        ];
        all.extend(words(&[b"REPLACE", b"ABSTTL"]));
        (b"restore", all)
    }
}
