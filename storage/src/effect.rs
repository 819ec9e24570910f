//! Effects: what a write changed, small, absolute, self-contained, applicable in order.
//!
//! Every mutator of [`crate::Edit`] records one; the log, replication and migration carry nothing
//! else. Law: execute on A, apply A's effects on B, and A and B have the same digest.
//!
//! # Encoding, version 1
//! ```text
//! kind u8 | db u8 | key: varint length, bytes | fields of the kind
//! bytes: varint length, bytes    number: LEB128 varint    i64: 8 bytes LE    score: IEEE bits, 8 bytes LE
//! ttl: 0 clear | 1 keep | 2 at, u64 LE ms
//! ```
//! Rules of the vocabulary: a kind's number is never reused, its fields never change; a new need is
//! a new kind. Nothing in an effect depends on a clock, a random number or the receiver's state
//! beyond the key it names. A decoder meets hostile bytes: it returns [`Corrupt`], never panics and
//! allocates no more than the bytes it was given call for.

use crate::stream_effect::StreamChange;
use crate::value::Side;
use crate::wire::{Reader, Writer};
use crate::{SLOTS, Ttl};

/// One change. Borrowed from the record it was decoded from.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum Effect<'a> {
    /// A string now holds these bytes, whatever was there.
    PutString {
        key: &'a [u8],
        value: &'a [u8],
        ttl: Ttl,
    },
    /// A string now holds this integer.
    PutInt {
        key: &'a [u8],
        value: i64,
        ttl: Ttl,
    },
    /// Bytes of a string from `offset` on are now these; a gap is zero-filled.
    WriteString {
        key: &'a [u8],
        offset: u64,
        bytes: &'a [u8],
    },
    /// A whole value, encoded as [`crate::write_value`] does.
    PutValue {
        key: &'a [u8],
        value: &'a [u8],
        ttl: Ttl,
    },
    /// The client removed the key.
    Remove {
        key: &'a [u8],
    },
    /// The key's deadline has passed.
    Expire {
        key: &'a [u8],
    },
    /// The key has this deadline, unix ms.
    ExpireAt {
        key: &'a [u8],
        at_ms: u64,
    },
    /// The key has no deadline any more.
    Persist {
        key: &'a [u8],
    },
    ListPush {
        key: &'a [u8],
        side: Side,
        value: &'a [u8],
    },
    ListPop {
        key: &'a [u8],
        side: Side,
    },
    ListSet {
        key: &'a [u8],
        index: u64,
        value: &'a [u8],
    },
    ListInsert {
        key: &'a [u8],
        index: u64,
        value: &'a [u8],
    },
    ListRemove {
        key: &'a [u8],
        index: u64,
    },
    /// Only elements `start..end` stay.
    ListTrim {
        key: &'a [u8],
        start: u64,
        end: u64,
    },
    HashSet {
        key: &'a [u8],
        field: &'a [u8],
        value: &'a [u8],
    },
    HashRemove {
        key: &'a [u8],
        field: &'a [u8],
    },
    /// The field has this deadline, unix ms.
    HashExpireAt {
        key: &'a [u8],
        field: &'a [u8],
        at_ms: u64,
    },
    /// The field has no deadline any more.
    HashPersist {
        key: &'a [u8],
        field: &'a [u8],
    },
    SetAdd {
        key: &'a [u8],
        member: &'a [u8],
    },
    SetRemove {
        key: &'a [u8],
        member: &'a [u8],
    },
    ZsetAdd {
        key: &'a [u8],
        member: &'a [u8],
        score: f64,
    },
    ZsetRemove {
        key: &'a [u8],
        member: &'a [u8],
    },
    /// Something of a stream has changed.
    Stream {
        key: &'a [u8],
        change: StreamChange<'a>,
    },
    /// The database of the record is empty.
    FlushDb,
    /// Every database is empty.
    FlushAll,
    /// The database of the record and this one changed places.
    SwapDb {
        with: u8,
    },
    /// The slots `first..=last` of the database of the record are empty: a core's own slots were flushed alone.
    FlushSlots {
        first: u16,
        last: u16,
    },
    /// The effects before it in its frame, and all earlier ones, are what a source's stream has come to up to this offset of this history,
    /// where the database of the record was selected. It changes nothing: whoever reads the log goes on from there. A history of zeros
    /// is nobody's: what follows is this server's own.
    SourceAt {
        replid: &'a [u8; REPLID_BYTES],
        offset: u64,
    },
    /// The same of one of several sources that are followed at once, by its number: it says nothing of the others. A history of zeros: nothing
    /// of that one can be gone on with.
    LineAt {
        line: u16,
        replid: &'a [u8; REPLID_BYTES],
        offset: u64,
    },
}

/// Bytes of a history's name.
pub const REPLID_BYTES: usize = 40;

impl<'a> Effect<'a> {
    /// The key that it changes; None when it is about whole databases.
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Effect::PutString { key, .. }
            | Effect::PutInt { key, .. }
            | Effect::WriteString { key, .. }
            | Effect::PutValue { key, .. }
            | Effect::Remove { key }
            | Effect::Expire { key }
            | Effect::ExpireAt { key, .. }
            | Effect::Persist { key }
            | Effect::ListPush { key, .. }
            | Effect::ListPop { key, .. }
            | Effect::ListSet { key, .. }
            | Effect::ListInsert { key, .. }
            | Effect::ListRemove { key, .. }
            | Effect::ListTrim { key, .. }
            | Effect::HashSet { key, .. }
            | Effect::HashRemove { key, .. }
            | Effect::HashExpireAt { key, .. }
            | Effect::HashPersist { key, .. }
            | Effect::SetAdd { key, .. }
            | Effect::SetRemove { key, .. }
            | Effect::ZsetAdd { key, .. }
            | Effect::ZsetRemove { key, .. }
            | Effect::Stream { key, .. } => Some(key),
            Effect::FlushDb
            | Effect::FlushAll
            | Effect::SwapDb { .. }
            | Effect::FlushSlots { .. }
            | Effect::SourceAt { .. }
            | Effect::LineAt { .. } => None,
        }
    }
}

/// Stored or received bytes are not an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl core::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("bytes are not a valid effect record")
    }
}

impl core::error::Error for Corrupt {}

/// Effects of a turn, encoded back to back.
#[derive(Default)]
pub struct Effects {
    bytes: Vec<u8>,
    count: usize,
    recording: bool,
}

impl Effects {
    /// Whether effects are kept: off while nobody consumes them.
    pub fn set_recording(&mut self, on: bool) {
        self.recording = on;
    }

    /// Notes an effect.
    #[inline(always)]
    pub(crate) fn push(&mut self, db: u8, effect: &Effect<'_>) {
        if self.recording {
            encode(db, effect, &mut self.bytes);
            self.count += 1;
        }
    }

    /// Notes, behind the effects of a part of a source's stream, how far they go: see [`Effect::SourceAt`].
    pub fn note_source(&mut self, db: u8, replid: &[u8; REPLID_BYTES], offset: u64) {
        self.push(db, &Effect::SourceAt { replid, offset });
    }

    /// The same for one of several sources: see [`Effect::LineAt`].
    pub fn note_line(&mut self, db: u8, line: u16, replid: &[u8; REPLID_BYTES], offset: u64) {
        self.push(
            db,
            &Effect::LineAt {
                line,
                replid,
                offset,
            },
        );
    }

    /// Effects recorded since the last [`Effects::take`].
    pub fn count(&self) -> usize {
        self.count
    }

    /// Hands the encoded effects out and starts anew.
    pub fn take(&mut self) -> Vec<u8> {
        self.count = 0;
        core::mem::take(&mut self.bytes)
    }

    /// The encoded effects recorded since the last [`Effects::take`] or [`Effects::forget`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Starts anew, in the same memory if that is no more than so many bytes.
    pub fn forget(&mut self, kept_bytes_max: usize) {
        self.count = 0;
        self.bytes.clear();
        if self.bytes.capacity() > kept_bytes_max {
            self.bytes = Vec::new();
        }
    }

    /// Puts what another shard recorded behind what is recorded here.
    pub(crate) fn append(&mut self, bytes: &[u8], count: usize) {
        self.bytes.extend_from_slice(bytes);
        self.count += count;
    }

    /// Where the record ends now, to come back to by `rewind`.
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.count)
    }

    /// Forgets what was recorded since a mark.
    pub(crate) fn rewind(&mut self, (bytes, count): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.count = self.count.min(count);
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recording
    }
}

/// Kinds on the wire; see the rules above.
mod kind {
    pub(super) const PUT_STRING: u8 = 1;
    pub(super) const PUT_INT: u8 = 2;
    pub(super) const WRITE_STRING: u8 = 3;
    pub(super) const PUT_VALUE: u8 = 4;
    pub(super) const REMOVE: u8 = 5;
    pub(super) const EXPIRE: u8 = 6;
    pub(super) const EXPIRE_AT: u8 = 7;
    pub(super) const PERSIST: u8 = 8;
    pub(super) const LIST_PUSH: u8 = 9;
    pub(super) const LIST_POP: u8 = 10;
    pub(super) const LIST_SET: u8 = 11;
    pub(super) const LIST_INSERT: u8 = 12;
    pub(super) const LIST_REMOVE: u8 = 13;
    pub(super) const LIST_TRIM: u8 = 14;
    pub(super) const HASH_SET: u8 = 15;
    pub(super) const HASH_REMOVE: u8 = 16;
    pub(super) const SET_ADD: u8 = 17;
    pub(super) const SET_REMOVE: u8 = 18;
    pub(super) const ZSET_ADD: u8 = 19;
    pub(super) const ZSET_REMOVE: u8 = 20;
    pub(super) const FLUSH_DB: u8 = 21;
    pub(super) const FLUSH_ALL: u8 = 22;
    pub(super) const SWAP_DB: u8 = 23;
    pub(super) const FLUSH_SLOTS: u8 = 24;
    // 32 to 47 are those of streams: see `stream_effect.rs`.
    pub(super) const HASH_EXPIRE_AT: u8 = 60;
    pub(super) const HASH_PERSIST: u8 = 61;
    pub(super) const SOURCE_AT: u8 = 62;
    pub(super) const LINE_AT: u8 = 63;
}

/// Appends one record.
pub fn encode(db: u8, effect: &Effect<'_>, out: &mut Vec<u8>) {
    let mut to = Writer { out };
    match *effect {
        Effect::PutString { key, value, ttl } => {
            to.head(kind::PUT_STRING, db, key);
            to.bytes(value);
            to.ttl(ttl);
        }
        Effect::PutInt { key, value, ttl } => {
            to.head(kind::PUT_INT, db, key);
            to.out.extend_from_slice(&value.to_le_bytes());
            to.ttl(ttl);
        }
        Effect::WriteString { key, offset, bytes } => {
            to.head(kind::WRITE_STRING, db, key);
            to.number(offset);
            to.bytes(bytes);
        }
        Effect::PutValue { key, value, ttl } => {
            to.head(kind::PUT_VALUE, db, key);
            to.bytes(value);
            to.ttl(ttl);
        }
        Effect::Remove { key } => to.head(kind::REMOVE, db, key),
        Effect::Expire { key } => to.head(kind::EXPIRE, db, key),
        Effect::ExpireAt { key, at_ms } => {
            to.head(kind::EXPIRE_AT, db, key);
            to.out.extend_from_slice(&at_ms.to_le_bytes());
        }
        Effect::Persist { key } => to.head(kind::PERSIST, db, key),
        Effect::ListPush { key, side, value } => {
            to.head(kind::LIST_PUSH, db, key);
            to.side(side);
            to.bytes(value);
        }
        Effect::ListPop { key, side } => {
            to.head(kind::LIST_POP, db, key);
            to.side(side);
        }
        Effect::ListSet { key, index, value } => {
            to.head(kind::LIST_SET, db, key);
            to.number(index);
            to.bytes(value);
        }
        Effect::ListInsert { key, index, value } => {
            to.head(kind::LIST_INSERT, db, key);
            to.number(index);
            to.bytes(value);
        }
        Effect::ListRemove { key, index } => {
            to.head(kind::LIST_REMOVE, db, key);
            to.number(index);
        }
        Effect::ListTrim { key, start, end } => {
            to.head(kind::LIST_TRIM, db, key);
            to.number(start);
            to.number(end);
        }
        Effect::HashSet { key, field, value } => {
            to.head(kind::HASH_SET, db, key);
            to.bytes(field);
            to.bytes(value);
        }
        Effect::HashRemove { key, field } => {
            to.head(kind::HASH_REMOVE, db, key);
            to.bytes(field);
        }
        Effect::HashExpireAt { key, field, at_ms } => {
            to.head(kind::HASH_EXPIRE_AT, db, key);
            to.bytes(field);
            to.out.extend_from_slice(&at_ms.to_le_bytes());
        }
        Effect::HashPersist { key, field } => {
            to.head(kind::HASH_PERSIST, db, key);
            to.bytes(field);
        }
        Effect::SetAdd { key, member } => {
            to.head(kind::SET_ADD, db, key);
            to.bytes(member);
        }
        Effect::SetRemove { key, member } => {
            to.head(kind::SET_REMOVE, db, key);
            to.bytes(member);
        }
        Effect::ZsetAdd { key, member, score } => {
            to.head(kind::ZSET_ADD, db, key);
            to.bytes(member);
            to.out.extend_from_slice(&score.to_bits().to_le_bytes());
        }
        Effect::ZsetRemove { key, member } => {
            to.head(kind::ZSET_REMOVE, db, key);
            to.bytes(member);
        }
        Effect::Stream { key, change } => {
            to.head(change.kind(), db, key);
            change.encode(&mut to);
        }
        Effect::FlushDb => to.head(kind::FLUSH_DB, db, b""),
        Effect::FlushAll => to.head(kind::FLUSH_ALL, db, b""),
        Effect::SwapDb { with } => {
            to.head(kind::SWAP_DB, db, b"");
            to.out.push(with);
        }
        Effect::FlushSlots { first, last } => {
            to.head(kind::FLUSH_SLOTS, db, b"");
            to.number(first.into());
            to.number(last.into());
        }
        Effect::SourceAt { replid, offset } => {
            to.head(kind::SOURCE_AT, db, b"");
            to.bytes(replid);
            to.number(offset);
        }
        Effect::LineAt {
            line,
            replid,
            offset,
        } => {
            to.head(kind::LINE_AT, db, b"");
            to.number(line.into());
            to.bytes(replid);
            to.number(offset);
        }
    }
}

/// Reads one record from the front of `input`: the database, the effect and the bytes after it.
pub fn decode(input: &[u8]) -> Result<(u8, Effect<'_>, &[u8]), Corrupt> {
    let mut from = Reader { input };
    let (kind, db, key) = (from.byte()?, from.byte()?, from.bytes()?);
    let effect = match kind {
        kind::PUT_STRING => Effect::PutString {
            key,
            value: from.bytes()?,
            ttl: from.ttl()?,
        },
        kind::PUT_INT => Effect::PutInt {
            key,
            value: from.word()?.cast_signed(),
            ttl: from.ttl()?,
        },
        kind::WRITE_STRING => {
            let (offset, bytes) = (from.number()?, from.bytes()?);
            if !fits_a_string(offset, bytes) {
                return Err(Corrupt);
            }
            Effect::WriteString { key, offset, bytes }
        }
        kind::PUT_VALUE => Effect::PutValue {
            key,
            value: from.bytes()?,
            ttl: from.ttl()?,
        },
        kind::REMOVE => Effect::Remove { key },
        kind::EXPIRE => Effect::Expire { key },
        kind::EXPIRE_AT => Effect::ExpireAt {
            key,
            at_ms: from.word()?,
        },
        kind::PERSIST => Effect::Persist { key },
        kind::LIST_PUSH => Effect::ListPush {
            key,
            side: from.side()?,
            value: from.bytes()?,
        },
        kind::LIST_POP => Effect::ListPop {
            key,
            side: from.side()?,
        },
        kind::LIST_SET => Effect::ListSet {
            key,
            index: from.number()?,
            value: from.bytes()?,
        },
        kind::LIST_INSERT => Effect::ListInsert {
            key,
            index: from.number()?,
            value: from.bytes()?,
        },
        kind::LIST_REMOVE => Effect::ListRemove {
            key,
            index: from.number()?,
        },
        kind::LIST_TRIM => Effect::ListTrim {
            key,
            start: from.number()?,
            end: from.number()?,
        },
        kind::HASH_SET => Effect::HashSet {
            key,
            field: from.bytes()?,
            value: from.bytes()?,
        },
        kind::HASH_REMOVE => Effect::HashRemove {
            key,
            field: from.bytes()?,
        },
        kind::HASH_EXPIRE_AT => Effect::HashExpireAt {
            key,
            field: from.bytes()?,
            at_ms: from.word()?,
        },
        kind::HASH_PERSIST => Effect::HashPersist {
            key,
            field: from.bytes()?,
        },
        kind::SET_ADD => Effect::SetAdd {
            key,
            member: from.bytes()?,
        },
        kind::SET_REMOVE => Effect::SetRemove {
            key,
            member: from.bytes()?,
        },
        kind::ZSET_ADD => Effect::ZsetAdd {
            key,
            member: from.bytes()?,
            score: from.score()?,
        },
        kind::ZSET_REMOVE => Effect::ZsetRemove {
            key,
            member: from.bytes()?,
        },
        kind::FLUSH_DB => Effect::FlushDb,
        kind::FLUSH_ALL => Effect::FlushAll,
        kind::SWAP_DB => Effect::SwapDb { with: from.byte()? },
        kind::FLUSH_SLOTS => Effect::FlushSlots {
            first: slot_number(from.number()?)?,
            last: slot_number(from.number()?)?,
        },
        kind::SOURCE_AT => Effect::SourceAt {
            replid: from.bytes()?.try_into().map_err(|_| Corrupt)?,
            offset: from.number()?,
        },
        kind::LINE_AT => Effect::LineAt {
            line: from.number()?.try_into().map_err(|_| Corrupt)?,
            replid: from.bytes()?.try_into().map_err(|_| Corrupt)?,
            offset: from.number()?,
        },
        _ => Effect::Stream {
            key,
            change: StreamChange::decode(kind, &mut from)?,
        },
    };
    Ok((db, effect, from.input))
}

fn slot_number(n: u64) -> Result<u16, Corrupt> {
    match u16::try_from(n) {
        Ok(number) if usize::from(number) < SLOTS => Ok(number),
        _ => Err(Corrupt),
    }
}

/// No string is longer, bytes: a record that would make one is corrupt. Whether one so long may be made here is for who
/// applies the record to say.
const STRING_BYTES_MAX: u64 = 1 << 48;

fn fits_a_string(offset: u64, bytes: &[u8]) -> bool {
    let end = offset.checked_add(bytes.len() as u64);
    end.is_some_and(|end| end <= STRING_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, read_value};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((db, effect, rest)) = decode(&bytes) {
                let mut again = Vec::new();
                encode(db, &effect, &mut again);
                let (db2, effect2, none) = decode(&again).unwrap();
                prop_assert_eq!((db2, effect2, none.len()), (db, effect, 0));
                prop_assert!(rest.len() < bytes.len());
            }
            let _ = read_value(&bytes, &Limits::default());
        }
    }

    #[test]
    fn the_encoding_of_version_1_is_golden() {
        let mut out = Vec::new();
        encode(
            3,
            &Effect::PutString {
                key: b"k",
                value: b"v",
                ttl: Ttl::At(258),
            },
            &mut out,
        );
        encode(
            0,
            &Effect::ZsetAdd {
                key: b"z",
                member: b"m",
                score: 1.5,
            },
            &mut out,
        );
        let golden = [
            1, 3, 1, b'k', 1, b'v', 2, 2, 1, 0, 0, 0, 0, 0, 0, // put string
            19, 0, 1, b'z', 1, b'm', 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, // zset add
        ];
        assert_eq!(out, golden);
    }
}
