//! The feed: frames of effects, said as the requests of Redis that have the same effect.
//!
//! ```text
//! frame of one effect         SET k v PXAT 1700000000000                    (a SELECT before it where the database changes)
//! several of a kind, one key  RPUSH k a b c
//! several                     MULTI … EXEC
//! several ends of keys        UNLINK a b c, without MULTI: nobody can tell
//! libraries                   FUNCTION RESTORE payload FLUSH
//! ```
//! Every request has the same outcome whatever clock the replica has: deadlines are absolute, ids and scores are those that were
//! given. What no command of Redis says is a script (`scripts.rs`). A script that is said names its key, but for that of FLUSHSLOTS.
//!
//! Replicas are Redis 6.2 or newer, or a node like this one. With version 9 of RDB the feed says nothing that Redis 6.2 does not know: no
//! libraries, no counts of streams. Where one is known to be a Redis 6.0 ([`Reader::of_redis`]) it says nothing that this does not know either:
//! SET and PEXPIREAT for SET … PXAT, a script for XTRIM MINID, XREADGROUP for XGROUP CREATECONSUMER, scripts without LPOS.
//!
//! **Deadlines of fields** are not said: no Redis before 7.4 has them. Replicas have such fields without a deadline, and are told when they
//! end. [`Feed::has_left_out`] says that this has happened.
//!
//! A pure function, but for the selected database.

mod scripts;
mod streams;

use std::borrow::Cow;

use protocol::request::encode;
use storage::log::FrameKind;
use storage::rdb::{self, Style};
use storage::{Corrupt, Effect, Limits, OwnedValue, Side, Ttl, Value, decode, read_value};

/// Words that effects of one kind on one key are gathered to, at most.
const GATHERED_WORDS_MAX: usize = 1024;
/// The version of RDB that tells a replica from Redis 6.
const VERSION_OF_7: u16 = 10;

/// What all replicas of a feed understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The newest version of RDB that they read: 9 (Redis 6), 10 (7.0) or 11 (7.2).
    pub rdb_version: u16,
    /// They know the words that came with Redis 6.2.
    pub knows_6_2: bool,
}

impl Reader {
    /// Whoever reads this version of RDB, and is Redis 6.2 at least.
    pub fn of_rdb(rdb_version: u16) -> Reader {
        Reader {
            rdb_version,
            knows_6_2: true,
        }
    }

    /// A Redis of this major and minor version.
    pub fn of_redis(version: (u64, u64)) -> Reader {
        Reader {
            rdb_version: match version {
                version if version >= (7, 2) => 11,
                version if version >= (7, 0) => 10,
                _ => 9,
            },
            knows_6_2: version >= (6, 2),
        }
    }

    /// What both understand.
    #[must_use]
    pub fn and(self, other: Reader) -> Reader {
        Reader {
            rdb_version: self.rdb_version.min(other.rdb_version),
            knows_6_2: self.knows_6_2 && other.knows_6_2,
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Feed {
    /// The database that the replicas have selected, if that is known.
    db: Option<u8>,
    reader: Reader,
    leaves_out: bool,
}

/// A request's words.
type Words<'w> = Vec<Cow<'w, [u8]>>;

/// How many requests an effect was said in.
type Said = Result<usize, Corrupt>;

impl Feed {
    /// For such replicas, which have selected no database.
    pub fn new(reader: Reader) -> Feed {
        Feed {
            db: None,
            reader,
            leaves_out: false,
        }
    }

    /// The replicas are such from now on.
    pub fn set_reader(&mut self, reader: Reader) {
        self.reader = reader;
    }

    /// They are older than Redis 7.0.
    fn is_before_7(&self) -> bool {
        self.reader.rdb_version < VERSION_OF_7
    }

    /// There may be a replica that has selected no database.
    pub fn forget_db(&mut self) {
        self.db = None;
    }

    /// Whoever is told has selected this database.
    pub fn has_db(&mut self, db: u8) {
        self.db = Some(db);
    }

    /// Whether a deadline of a field has been left out since this was asked last.
    pub fn has_left_out(&mut self) -> bool {
        core::mem::take(&mut self.leaves_out)
    }

    /// Appends the requests of a frame.
    ///
    /// # Errors
    /// [`Corrupt`] when the payload is none that a shard has recorded; then nothing is appended.
    pub fn say(
        &mut self,
        kind: FrameKind,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Corrupt> {
        let start = out.len();
        let said = match kind {
            FrameKind::Effects => self.say_effects(payload, out),
            FrameKind::Libraries => self.say_libraries(payload, out),
            FrameKind::End => Ok(()),
        };
        if said.is_err() {
            out.truncate(start);
            self.db = None;
        }
        said
    }

    fn say_effects(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Corrupt> {
        let start = out.len();
        let (mut requests, mut only_ends) = (0, true);
        let mut rest = payload;
        while !rest.is_empty() {
            let (db, effect, after) = decode(rest)?;
            rest = after;
            only_ends &= matches!(effect, Effect::Expire { .. });
            requests += self.say_effect(db, &effect, &mut rest, out)?;
        }
        if requests > 1 && !only_ends {
            let mut multi = Vec::new();
            encode(&["MULTI"], &mut multi);
            out.splice(start..start, multi);
            encode(&["EXEC"], out);
        }
        Ok(())
    }

    /// All libraries, in the place of those that the replica has. A replica of before 7.0 has none.
    fn say_libraries(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Corrupt> {
        /// Bytes of version and checksum at a payload's end.
        const FOOTER_BYTES: usize = 10;
        if self.is_before_7() {
            return Ok(());
        }
        let body = payload.len().checked_sub(FOOTER_BYTES).ok_or(Corrupt)?;
        // The form of a library is the same since 7.0, which refuses a version of its time to come.
        let mut old = payload[..body].to_vec();
        old.extend_from_slice(&VERSION_OF_7.to_le_bytes());
        let sum = rdb::crc64(0, &old);
        old.extend_from_slice(&sum.to_le_bytes());
        request(&[b"FUNCTION", b"RESTORE", &old, b"FLUSH"], out);
        Ok(())
    }

    fn select(&mut self, db: u8, out: &mut Vec<u8>) {
        if self.db != Some(db) {
            self.db = Some(db);
            encode(&["SELECT", &db.to_string()], out);
        }
    }

    /// Says an effect, and those of `rest` that can be said with it.
    fn say_effect<'p>(
        &mut self,
        db: u8,
        effect: &Effect<'p>,
        rest: &mut &'p [u8],
        out: &mut Vec<u8>,
    ) -> Said {
        match *effect {
            Effect::FlushAll => {
                encode(&["FLUSHALL"], out);
                return Ok(1);
            }
            Effect::SwapDb { with } => {
                encode(&["SWAPDB", &db.to_string(), &with.to_string()], out);
                return Ok(1);
            }
            Effect::HashExpireAt { .. } | Effect::HashPersist { .. } => {
                self.leaves_out = true;
                return Ok(0);
            }
            // (How far this node has come in another's stream is no concern of its replicas.)
            Effect::SourceAt { .. } | Effect::LineAt { .. } => return Ok(0),
            _ => self.select(db, out),
        }
        match *effect {
            Effect::PutString { key, value, ttl } => return Ok(self.put_text(key, value, ttl, out)),
            Effect::PutInt { key, value, ttl } => {
                return Ok(self.put_text(key, value.to_string().as_bytes(), ttl, out));
            }
            Effect::WriteString { key, offset, bytes } => write_string(key, offset, bytes, out),
            Effect::PutValue { key, value, ttl } => return self.put_value(key, value, ttl, out),
            Effect::ExpireAt { key, at_ms } => {
                let at_ms = deadline(at_ms);
                request(&[b"PEXPIREAT", key, at_ms.as_bytes()], out);
            }
            Effect::Persist { key } => request(&[b"PERSIST", key], out),
            Effect::FlushDb => encode(&["FLUSHDB"], out),
            Effect::FlushSlots { first, last } => {
                let (first, last) = (first.to_string(), last.to_string());
                let args = [first.as_bytes(), last.as_bytes()];
                let words = [&b"EVAL"[..], scripts::FLUSH_SLOTS, b"0", args[0], args[1]];
                request(&words, out);
            }
            Effect::Stream { key, change } => return self.say_stream(key, change, out),
            _ if let Some(words) = gather(db, effect, rest)? => encode(&words, out),
            _ => self.say_list(effect, out)?,
        }
        Ok(1)
    }

    fn put_value(&mut self, key: &[u8], value: &[u8], ttl: Ttl, out: &mut Vec<u8>) -> Said {
        let value = read_value(value, &Limits::default())?;
        if let OwnedValue::Hash(hash) = &value {
            self.leaves_out |= hash.first_deadline_ms().is_some();
        }
        let shown = Value::from(&value);
        if let Value::String(text) = shown {
            return Ok(text.with(|text| self.put_text(key, text, ttl, out)));
        }
        let payload = rdb::dump_as(shown, self.style_for(shown));
        match ttl {
            Ttl::Keep if self.is_before_7() => {
                eval(scripts::RESTORE_KEEPING_EARLY, key, &[&payload], out);
            }
            Ttl::Keep => eval(scripts::RESTORE_KEEPING, key, &[&payload], out),
            Ttl::Clear | Ttl::At(_) => {
                let at = match ttl {
                    Ttl::At(at_ms) => deadline(at_ms),
                    Ttl::Clear | Ttl::Keep => "0".to_owned(),
                };
                let words = [
                    &b"RESTORE"[..],
                    key,
                    at.as_bytes(),
                    &payload,
                    b"REPLACE",
                    b"ABSTTL",
                ];
                request(&words, out);
            }
        }
        Ok(1)
    }

    /// How a value's payload is made: of the lowest version that holds all of it.
    fn style_for(&self, value: Value<'_>) -> Style {
        /// The version of Redis 6.2: of all but streams nothing is lost in it.
        const LOWEST: u16 = 9;
        Style {
            version: match value {
                Value::Stream(_) => self.reader.rdb_version,
                _ => LOWEST,
            },
            drops_field_deadlines: true,
            ..Style::DUMP
        }
    }

    /// Changes of a list that are about an index or an end.
    fn say_list(&self, effect: &Effect<'_>, out: &mut Vec<u8>) -> Result<(), Corrupt> {
        match *effect {
            Effect::ListPop { key, side } => {
                let name: &[u8] = match side {
                    Side::Left => b"LPOP",
                    Side::Right => b"RPOP",
                };
                request(&[name, key], out);
            }
            Effect::ListSet { key, index, value } => {
                request(&[b"LSET", key, index.to_string().as_bytes(), value], out);
            }
            Effect::ListInsert {
                key,
                index: 0,
                value,
            } => request(&[b"LPUSH", key, value], out),
            Effect::ListInsert { key, index, value } => {
                let index = index.to_string();
                let script = match self.reader.knows_6_2 {
                    true => scripts::LIST_INSERT,
                    false => scripts::LIST_INSERT_EARLY,
                };
                eval(script, key, &[index.as_bytes(), value], out);
            }
            Effect::ListRemove { key, index } => {
                let script = match self.reader.knows_6_2 {
                    true => scripts::LIST_REMOVE,
                    false => scripts::LIST_REMOVE_EARLY,
                };
                eval(script, key, &[index.to_string().as_bytes()], out);
            }
            Effect::ListTrim { key, start, end } => {
                // An empty range removes the key, in Redis as here.
                let (first, last) = match end.checked_sub(1) {
                    Some(last) if start < end => (start, last),
                    _ => (1, 0),
                };
                let (first, last) = (first.to_string(), last.to_string());
                request(&[b"LTRIM", key, first.as_bytes(), last.as_bytes()], out);
            }
            _ => return Err(Corrupt),
        }
        Ok(())
    }

    /// In how many requests.
    fn put_text(&self, key: &[u8], text: &[u8], ttl: Ttl, out: &mut Vec<u8>) -> usize {
        match ttl {
            Ttl::Clear => request(&[b"SET", key, text], out),
            Ttl::Keep => request(&[b"SET", key, text, b"KEEPTTL"], out),
            Ttl::At(at_ms) => {
                let at_ms = deadline(at_ms);
                let at_ms = at_ms.as_bytes();
                if !self.reader.knows_6_2 {
                    request(&[b"SET", key, text], out);
                    request(&[b"PEXPIREAT", key, at_ms], out);
                    return 2;
                }
                request(&[b"SET", key, text, b"PXAT", at_ms], out);
            }
        }
        1
    }
}

/// Appends a request of these words.
fn request(words: &[&[u8]], out: &mut Vec<u8>) {
    encode(words, out);
}

/// A deadline as a word: Redis refuses 0, which has passed as well as 1.
fn deadline(at_ms: u64) -> String {
    at_ms.clamp(1, i64::MAX.unsigned_abs()).to_string()
}

fn write_string(key: &[u8], offset: u64, bytes: &[u8], out: &mut Vec<u8>) {
    let at = offset.to_string();
    match (bytes, offset) {
        // (SETRANGE of nothing does nothing, also where there is no string yet.)
        ([], 0) => request(&[b"APPEND", key, b""], out),
        ([], _) => eval(scripts::STRING_EXTEND, key, &[at.as_bytes()], out),
        _ => request(&[b"SETRANGE", key, at.as_bytes(), bytes], out),
    }
}

/// A script on one key.
fn eval(script: &[u8], key: &[u8], args: &[&[u8]], out: &mut Vec<u8>) {
    let mut words = vec![&b"EVAL"[..], script, b"1", key];
    words.extend_from_slice(args);
    request(&words, out);
}

/// A score as text that reads as the same bits.
fn score_text(score: f64) -> String {
    // (The shortest digits that tell the double from all others; "-0.0" has its sign, "inf" its name.)
    format!("{score:?}")
}

/// The request for an effect that takes elements of its kind and key with it; those of `rest` are taken.
fn gather<'p>(
    db: u8,
    effect: &Effect<'p>,
    rest: &mut &'p [u8],
) -> Result<Option<Words<'p>>, Corrupt> {
    let name: &'static [u8] = match effect {
        Effect::Remove { .. } | Effect::Expire { .. } => b"UNLINK",
        Effect::ListPush { side, .. } => match side {
            Side::Left => b"LPUSH",
            Side::Right => b"RPUSH",
        },
        Effect::HashSet { .. } => b"HSET",
        Effect::HashRemove { .. } => b"HDEL",
        Effect::SetAdd { .. } => b"SADD",
        Effect::SetRemove { .. } => b"SREM",
        Effect::ZsetAdd { .. } => b"ZADD",
        Effect::ZsetRemove { .. } => b"ZREM",
        _ => return Ok(None),
    };
    let mut words: Words<'p> = vec![name.into()];
    let is_end = matches!(effect, Effect::Remove { .. } | Effect::Expire { .. });
    if !is_end {
        words.extend(effect.key().map(Cow::Borrowed));
    }
    push_elements(effect, &mut words);
    while !rest.is_empty() && words.len() < GATHERED_WORDS_MAX {
        let (other_db, other, after) = decode(rest)?;
        let is_alike = core::mem::discriminant(effect) == core::mem::discriminant(&other)
            && side_of(effect) == side_of(&other)
            && (is_end || effect.key() == other.key());
        if other_db != db || !is_alike {
            break;
        }
        push_elements(&other, &mut words);
        *rest = after;
    }
    Ok(Some(words))
}

fn side_of(effect: &Effect<'_>) -> Option<Side> {
    match effect {
        Effect::ListPush { side, .. } => Some(*side),
        _ => None,
    }
}

fn push_elements<'p>(effect: &Effect<'p>, words: &mut Words<'p>) {
    match *effect {
        Effect::Remove { key } | Effect::Expire { key } => words.push(key.into()),
        Effect::ListPush { value, .. } => words.push(value.into()),
        Effect::HashSet { field, value, .. } => words.extend([field.into(), value.into()]),
        Effect::HashRemove { field, .. } => words.push(field.into()),
        Effect::SetAdd { member, .. }
        | Effect::SetRemove { member, .. }
        | Effect::ZsetRemove { member, .. } => words.push(member.into()),
        Effect::ZsetAdd { member, score, .. } => {
            words.extend([score_text(score).into_bytes().into(), member.into()]);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
