//! A whole pass: every key there is fetched, and what is here and not there is removed.
//!
//! A key that is written while the pass goes on is fetched again since its event has come: so SCAN needs to show only those that are there all
//! the while. Between two pieces of it keys that were touched are fetched.

use std::time::Instant;

use protocol::answer::Answer;

use super::super::{Copying, Link, many};
use super::Scanner;
use super::fetch::{KEYS_MAX, words};
use crate::control::migrate::look::{self, Here, Question};
use crate::control::migrate::text_of;

impl Scanner<'_> {
    /// One pass; whether nothing was lost meanwhile is on the board then.
    ///
    /// # Errors
    /// When a connection is lost, or a key cannot be taken in.
    pub(super) fn pass(&mut self) -> Result<(), String> {
        let node = self.session.node;
        let line = std::sync::Arc::clone(&self.session.line);
        line.set_link(Link::Sync);
        line.note(|status| status.copying = Some(Copying::default()));
        let begun = Instant::now();
        self.board()?.begin_pass();
        let was_empty = (0..node.databases()).all(|db| node.db_count(usize::from(db)).0 == 0);
        let mut keys = 0;
        for db in self.databases()? {
            keys += self.walk_there(db)?;
        }
        if !was_empty {
            let has_keys = |db: &u8| node.db_count(usize::from(*db)).0 > 0;
            for db in (0..node.databases()).filter(has_keys) {
                self.walk_here(db)?;
            }
        }
        self.fetch_touched(usize::MAX)?;
        self.fetch_functions()?;
        let is_whole = self.board()?.end_pass();
        line.note(|status| {
            status.copying = None;
            status.copies += 1;
        });
        let took_ms = begun.elapsed().as_millis();
        let ending = if is_whole {
            ""
        } else {
            "; another one is needed"
        };
        node.log(|log| {
            log.notice(&format!(
                "A whole pass through the source: {keys} keys in {took_ms} ms{ending}"
            ));
        });
        if is_whole {
            self.session.hear();
            line.set_link(Link::Connected);
            line.note(|status| (status.down_since_ms, status.error) = (0, None));
            many::recount(node)?;
        }
        Ok(())
    }

    /// The databases that have keys.
    fn databases(&mut self) -> Result<Vec<u8>, String> {
        let info = text_of(&self.call(&["INFO", "keyspace"])?);
        let db = |line: &str| {
            line.strip_prefix("db")?
                .split_once(':')?
                .0
                .parse::<u64>()
                .ok()
        };
        let known = info.lines().filter_map(db).map(|db| self.has_database(db));
        known.collect()
    }

    /// All keys of a database there; how many.
    fn walk_there(&mut self, db: u8) -> Result<u64, String> {
        let (count, mut cursor, mut keys) = (KEYS_MAX.to_string(), b"0".to_vec(), 0);
        loop {
            let begun = Instant::now();
            self.select(db)?;
            let request: [&[u8]; 4] = [b"SCAN", &cursor, b"COUNT", count.as_bytes()];
            let Answer::Array(reply) = self.call(&request)? else {
                return Err("the source: SCAN shows nothing".to_owned());
            };
            let mut reply = reply.into_iter();
            let (Some(Answer::Bulk(next)), Some(Answer::Array(shown))) =
                (reply.next(), reply.next())
            else {
                return Err("the source: SCAN has no cursor".to_owned());
            };
            let shown: Vec<Vec<u8>> = shown
                .into_iter()
                .filter_map(|key| match key {
                    Answer::Bulk(key) => Some(key),
                    _ => None,
                })
                .collect();
            for some in shown.chunks(KEYS_MAX) {
                self.fetch(db, some)?;
            }
            keys += shown.len() as u64;
            self.session.line.note(|status| {
                status.copying.get_or_insert_default().keys += shown.len() as u64;
            });
            if next == b"0" {
                return Ok(keys);
            }
            cursor = next;
            self.between(begun)?;
        }
    }

    /// What is to be done between two pieces, the first of which was begun then.
    fn between(&mut self, begun: Instant) -> Result<(), String> {
        self.keep()?;
        self.fetch_touched(KEYS_MAX)?;
        self.spare(begun)
    }

    /// Fetches keys that were touched by now, or so many of them.
    fn fetch_touched(&mut self, most: usize) -> Result<(), String> {
        let mut left = self.board()?.waiting().0.min(most);
        while left > 0 {
            let names = self.board()?.take(left.min(KEYS_MAX));
            if names.is_empty() {
                break;
            }
            left -= names.len();
            self.fetch_names(names)?;
            self.keep()?;
        }
        Ok(())
    }

    /// Keys here that are not there are looked at as if they had been touched.
    fn walk_here(&mut self, db: u8) -> Result<(), String> {
        let node = self.session.node;
        for begin in node.begins() {
            let mut cursor = Some(begin);
            while let Some(from) = cursor {
                let begun = Instant::now();
                let question = Question::Names(db, from, KEYS_MAX);
                let look::Answer::Names(names, next) = node.look(question)? else {
                    return Err("a core does not let go of its slots".to_owned());
                };
                cursor = next;
                for some in names.chunks(KEYS_MAX) {
                    self.touch_missing(db, some)?;
                }
                if !names.is_empty() {
                    self.between(begun)?;
                }
            }
        }
        Ok(())
    }

    fn touch_missing(&mut self, db: u8, names: &[Vec<u8>]) -> Result<(), String> {
        self.select(db)?;
        let requests: Vec<_> = names.iter().map(|name| words(&[b"EXISTS", name])).collect();
        let answers = self.call_all(&requests)?;
        let mut board = self.board()?;
        for (name, answer) in names.iter().zip(answers) {
            if answer == Answer::Int(0) {
                board.touch(db, name);
            }
        }
        Ok(())
    }
}
