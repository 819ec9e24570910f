//! Hot path. `Edit`: the only door to a change. Each mutator changes the value, records the effect,
//! counts the bytes, tells those who watch, and notes the deadline.
//!
//! A key whose deadline has passed is expired (and that recorded) before anything else happens to it.
//! Reads through an edit are those of the [`Shard`], except that they count neither hits nor misses.

use core::ops::Deref;

use crate::effect::Effect;
use crate::events::EventClass;
use crate::eviction::QueueWord;
use crate::hash::Key;
use crate::held::{Held, hash_of, list_of, set_of, stream_of, value_of, zset_of};
use crate::item::{Content, EMBEDDED_BYTES_MAX, Item, Payload, Small};
use crate::lfu::Lfu;
use crate::session::{HashEdit, ListEdit, SetEdit, StreamEdit, ZsetEdit};
use crate::shard::{Shard, text_of};
use crate::slot::{SLOTS, Slot};
use crate::table::Table;
use crate::uses::Uses;
use crate::value::{Collection, Hash, List, OwnedValue, Set, Stream, Zset};
use crate::view::{Text, Value, WrongType, canonical_int};
use crate::whole;

/// What a write does to a key's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is none afterwards.
    Clear,
    /// It stays as it is.
    Keep,
    /// It is this, unix ms.
    At(u64),
}

impl Ttl {
    /// The deadline that a write leaves, after this one.
    #[inline(always)]
    pub(crate) fn after(self, old: Option<u64>) -> Option<u64> {
        match self {
            Ttl::Clear => None,
            Ttl::Keep => old,
            Ttl::At(at_ms) => Some(at_ms),
        }
    }
}

/// The session in which a command changes a shard.
pub struct Edit<'s> {
    pub(crate) shard: &'s mut Shard,
    /// Whether this applies what another core recorded. Then deadlines that have passed on this clock
    /// mean nothing: keys go when that core says so, else the two would differ.
    pub(crate) applying: bool,
}

impl Deref for Edit<'_> {
    type Target = Shard;

    #[inline(always)]
    fn deref(&self) -> &Shard {
        self.shard
    }
}

macro_rules! collection_doors {
    ($read:ident, $edit:ident, $edit_or_new:ident, $of:ident, $kind:ident, $type:ty, $session:ident) => {
        /// As [`Shard`]'s read of that name, not counted.
        #[inline]
        pub fn $read(&self, key: &Key<'_>) -> Result<Option<&$type>, WrongType> {
            $of(&self.shard.views, self.shard.live(key))
        }

        /// The value, to change it; None without the key.
        ///
        /// # Errors
        /// [`WrongType`] when the key holds something else.
        #[inline]
        pub fn $edit<'e>(&'e mut self, key: &Key<'e>) -> Result<Option<$session<'e>>, WrongType> {
            let Some(item) = self.live(key) else {
                return Ok(None);
            };
            let item = self.boxed(key, item, |c| matches!(c, Collection::$kind(_)))?;
            Ok(Some($session::new(self.shard, *key, item)))
        }

        /// The value, to change it; an empty one without the key (which is gone again if it stays empty).
        ///
        /// # Errors
        /// [`WrongType`] when the key holds something else.
        #[inline]
        pub fn $edit_or_new<'e>(&'e mut self, key: &Key<'e>) -> Result<$session<'e>, WrongType> {
            let item = match self.live(key) {
                Some(item) => self.boxed(key, item, |c| matches!(c, Collection::$kind(_)))?,
                None => {
                    let value = Box::new(Collection::$kind(<$type>::new()));
                    // Its session counts the bytes of what comes into it.
                    let item = Item::build(key.bytes, None, Payload::Collection(value), false);
                    self.insert(key, item, 0)
                }
            };
            Ok($session::new(self.shard, *key, item))
        }
    };
}

impl<'s> Edit<'s> {
    #[inline(always)]
    pub(crate) fn new(shard: &'s mut Shard) -> Self {
        Edit {
            shard,
            applying: false,
        }
    }

    /// To apply effects with: see the field.
    #[inline(always)]
    pub(crate) fn applying(shard: &'s mut Shard) -> Self {
        Edit {
            shard,
            applying: true,
        }
    }

    collection_doors!(
        list,
        edit_list,
        edit_list_or_new,
        list_of,
        List,
        List,
        ListEdit
    );
    collection_doors!(
        hash,
        edit_hash,
        edit_hash_or_new,
        hash_of,
        Hash,
        Hash,
        HashEdit
    );
    collection_doors!(set, edit_set, edit_set_or_new, set_of, Set, Set, SetEdit);
    collection_doors!(
        zset,
        edit_zset,
        edit_zset_or_new,
        zset_of,
        Zset,
        Zset,
        ZsetEdit
    );
    collection_doors!(
        stream,
        edit_stream,
        edit_stream_or_new,
        stream_of,
        Stream,
        Stream,
        StreamEdit
    );

    /// As [`Shard::text`], not counted.
    #[inline]
    pub fn text(&self, key: &Key<'_>) -> Result<Option<Text<'_>>, WrongType> {
        text_of(self.shard.live(key))
    }

    /// Counts a look at a key as a hit or a miss, for a command that reads it beside what it changes.
    pub fn count_read(&self, key: &Key<'_>) {
        self.shard.count_read(key, self.shard.contains(key));
    }

    /// As [`Shard::value`], not counted.
    pub fn value(&self, key: &Key<'_>) -> Option<Value<'_>> {
        let item = self.shard.live(key)?;
        Some(value_of(&self.shard.views, item))
    }

    /// As [`Shard::contains`].
    #[inline]
    pub fn exists(&self, key: &Key<'_>) -> bool {
        self.shard.contains(key)
    }

    /// Tells those who listen what this command does to a key, beside the change itself.
    #[inline(always)]
    pub fn event(&mut self, class: EventClass, name: &'static str, key: &Key<'_>) {
        self.shard.events.push(class, name, key.db, key.bytes);
    }

    // ---- strings ----------------------------------------------------------------------------

    /// Puts a string, kept as an integer when it spells one, whatever the key held.
    #[inline]
    pub fn put_string(&mut self, key: &Key<'_>, value: &[u8], ttl: Ttl) {
        match canonical_int(value) {
            Some(n) => self.put_int(key, n, ttl),
            None => self.put_bytes(key, value, ttl),
        }
    }

    /// Puts an integer string, whatever the key held.
    #[inline]
    pub fn put_int(&mut self, key: &Key<'_>, value: i64, ttl: Ttl) {
        self.put_small(key, Small::Int(value), ttl);
        self.shard.effects.push(
            key.db,
            &Effect::PutInt {
                key: key.bytes,
                value,
                ttl,
            },
        );
    }

    /// Puts a string as it is, even when it spells an integer.
    #[inline]
    pub fn put_bytes(&mut self, key: &Key<'_>, value: &[u8], ttl: Ttl) {
        if value.len() <= EMBEDDED_BYTES_MAX {
            self.put_small(key, Small::Bytes(value), ttl);
        } else {
            self.put(key, Payload::Large(value.to_vec()), false, ttl);
        }
        self.shard.effects.push(
            key.db,
            &Effect::PutString {
                key: key.bytes,
                value,
                ttl,
            },
        );
    }

    /// Puts a string without copying it when it is large.
    pub fn put_owned(&mut self, key: &Key<'_>, value: Vec<u8>, ttl: Ttl) {
        if value.len() <= EMBEDDED_BYTES_MAX {
            return self.put_string(key, &value, ttl);
        }
        self.expire_if_due(key);
        self.shard.effects.push(
            key.db,
            &Effect::PutString {
                key: key.bytes,
                value: &value,
                ttl,
            },
        );
        self.put(key, Payload::Large(value), false, ttl);
    }

    /// As `put_owned`, for a string that was computed: kept as it is, and it reports "raw" however
    /// short it is.
    pub fn put_raw(&mut self, key: &Key<'_>, value: Vec<u8>, ttl: Ttl) {
        // An expired key's end is recorded before what comes in its place.
        self.expire_if_due(key);
        self.shard.effects.push(
            key.db,
            &Effect::PutString {
                key: key.bytes,
                value: &value,
                ttl,
            },
        );
        self.put_as_raw(key, value, ttl);
    }

    fn put_as_raw(&mut self, key: &Key<'_>, value: Vec<u8>, ttl: Ttl) {
        if value.len() <= EMBEDDED_BYTES_MAX {
            self.put(key, Payload::Embedded(&value), true, ttl);
        } else {
            self.put(key, Payload::Large(value), true, ttl);
        }
    }

    /// A write into a string that changed no byte of it. As in Redis the string reports "raw" afterwards, even an integer;
    /// it has not changed: no effect, no new version.
    pub fn write_nothing(&mut self, key: &Key<'_>) {
        let Some(item) = self.live(key) else { return };
        match item.content() {
            Content::Int(n) => {
                let text = Text::Int(n).with(<[u8]>::to_vec);
                self.replace(key, item, Payload::Embedded(&text), true, Ttl::Keep);
            }
            Content::Bytes(_) => {
                if self.shard.undo.is_on() {
                    self.shard.save(key, item);
                }
                item.set_raw();
            }
            Content::Collection(_) => {}
        }
    }

    /// Bytes of the string at a key; 0 without one.
    pub(crate) fn text_len(&mut self, key: &Key<'_>) -> Result<usize, WrongType> {
        Ok(text_of(self.live(key))?.map_or(0, |text| text.len()))
    }

    /// Writes `bytes` into the string at `offset`, zero-filling a gap; makes the string if it is not
    /// there. Returns its length. The caller has seen to it that the end is within 512 MB.
    ///
    /// # Errors
    /// [`WrongType`] when the key holds a collection.
    pub fn write_string(
        &mut self,
        key: &Key<'_>,
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, WrongType> {
        let item = self.live(key);
        let (old_len, ttl) = match text_of(item)? {
            None => (0, Ttl::Clear),
            Some(text) => (text.len(), Ttl::Keep),
        };
        let len = old_len.max(offset + bytes.len());
        if self.shard.undo.is_on()
            && let Some(item) = item
        {
            self.shard.save_text(key, item, offset, bytes.len());
        }
        if self.shard.snapshot.has_opens()
            && let Some(item) = item
            && let Some(open) = self.shard.snapshot.open_of(key)
        {
            open.before_write(item, offset, bytes.len());
        }
        let written = item.and_then(|item| {
            if item.write_embedded(offset, bytes) {
                return Some(0);
            }
            let before = item.heap_bytes();
            item.with_large(|large| write_into(large, offset, bytes))?;
            Some(item.heap_bytes() as isize - before as isize)
        });
        match written {
            Some(grown) => {
                self.account(key, grown);
                self.note(key);
            }
            None => {
                let mut small = [0; EMBEDDED_BYTES_MAX];
                let mut large = Vec::new();
                let value = match small.get_mut(..len) {
                    Some(small) => small,
                    None => {
                        // The allocator's zeros cost nothing until they are written.
                        large = vec![0; len];
                        &mut large[..]
                    }
                };
                if let Some(text) = text_of(item)? {
                    text.with(|old| value[..old.len()].copy_from_slice(old));
                }
                value[offset..offset + bytes.len()].copy_from_slice(bytes);
                let payload = if large.is_empty() {
                    Payload::Embedded(&small[..len])
                } else {
                    Payload::Large(large)
                };
                self.put(key, payload, true, ttl);
            }
        }
        let effect = Effect::WriteString {
            key: key.bytes,
            offset: offset as u64,
            bytes,
        };
        self.shard.effects.push(key.db, &effect);
        Ok(len)
    }

    // ---- whole values -----------------------------------------------------------------------

    /// Puts a value of any type, whatever the key held; an empty collection removes the key.
    pub fn put_value(&mut self, key: &Key<'_>, value: OwnedValue, ttl: Ttl) {
        if value.is_empty_collection() {
            self.remove(key);
            return;
        }
        self.expire_if_due(key);
        if self.shard.effects.is_recording() {
            let mut bytes = Vec::new();
            whole::write_value(&value, &mut bytes);
            self.shard.effects.push(
                key.db,
                &Effect::PutValue {
                    key: key.bytes,
                    value: &bytes,
                    ttl,
                },
            );
        }
        match value {
            OwnedValue::Int(n) => self.put_small(key, Small::Int(n), ttl),
            OwnedValue::String(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => {
                self.put_small(key, Small::Bytes(&bytes), ttl);
            }
            OwnedValue::String(bytes) => self.put(key, Payload::Large(bytes), false, ttl),
            OwnedValue::Raw(bytes) => self.put_as_raw(key, bytes, ttl),
            collection => {
                if let Ok(collection) = collection.into_collection() {
                    let first_ms = collection.first_deadline_ms();
                    self.put(key, Payload::Collection(Box::new(collection)), false, ttl);
                    if let Some(at_ms) = first_ms {
                        self.shard.push_hint(at_ms, key);
                    }
                }
            }
        }
    }

    /// Takes a value out with its deadline: the key is removed.
    pub fn take(&mut self, key: &Key<'_>) -> Option<(OwnedValue, Option<u64>)> {
        let item = self.live(key)?;
        if self.shard.undo.is_on() {
            self.shard.save_whole(key, item);
        }
        if self.shard.snapshot.has_opens() {
            self.shard.finish_open(key, item);
        }
        let deadline = item.deadline_ms();
        let string = if item.is_raw() {
            OwnedValue::Raw
        } else {
            OwnedValue::String
        };
        let small = match item.content() {
            Content::Bytes(text) if text.len() <= EMBEDDED_BYTES_MAX => text.to_vec(),
            Content::Collection(Held::Packed(_, block)) => block.to_vec(),
            _ => Vec::new(),
        };
        self.detach(key, item);
        let value = match item.free() {
            Payload::Int(n) => OwnedValue::Int(n),
            Payload::Embedded(_) => string(small),
            Payload::Large(bytes) => string(bytes),
            Payload::Collection(collection) => OwnedValue::from(*collection),
            Payload::Packed(kind, _) => OwnedValue::from(Held::Packed(kind, &small).to_owned()),
        };
        self.shard
            .effects
            .push(key.db, &Effect::Remove { key: key.bytes });
        self.note(key);
        Some((value, deadline))
    }

    /// Moves a value with its deadline to another key, whatever that held; whether there was one.
    pub fn relocate(&mut self, from: &Key<'_>, to: &Key<'_>) -> bool {
        let Some(item) = self.live(from) else {
            return false;
        };
        if from.db == to.db && from.bytes == to.bytes {
            return true;
        }
        let is_noted = self.shard.undo.is_on() && self.shard.save(from, item);
        // Where it may yet go back, or to another core, nothing is left open: `take` sees to that.
        let open = if self.shard.undo.is_on() || from.slot != to.slot {
            None
        } else {
            self.shard.take_open(from)
        };
        let undo = self.shard.undo.pause(is_noted);
        let taken = self.take(from);
        self.shard.undo.resume(undo);
        if let Some((value, deadline)) = taken {
            self.put_value(to, value, deadline.map_or(Ttl::Clear, Ttl::At));
        }
        if let Some(open) = open {
            self.shard.put_open(to, open);
        }
        if is_noted {
            self.shard.undo.note_move(from, to);
        }
        true
    }

    /// A copy of a value with its deadline.
    pub fn clone_value(&self, key: &Key<'_>) -> Option<(OwnedValue, Option<u64>)> {
        let item = self.shard.live(key)?;
        let value = match item.content() {
            Content::Int(n) => OwnedValue::Int(n),
            Content::Bytes(bytes) if item.is_raw() => OwnedValue::Raw(bytes.to_vec()),
            Content::Bytes(bytes) => OwnedValue::String(bytes.to_vec()),
            Content::Collection(held) => OwnedValue::from(held.to_owned()),
        };
        Some((value, item.deadline_ms()))
    }

    /// Removes a key as the client asked; whether it was there.
    pub fn remove(&mut self, key: &Key<'_>) -> bool {
        let Some(item) = self.live(key) else {
            return false;
        };
        self.discard(key, item);
        self.shard
            .effects
            .push(key.db, &Effect::Remove { key: key.bytes });
        self.note(key);
        true
    }

    /// Removes a key because its deadline has passed; whether it had one and was there.
    pub fn expire(&mut self, key: &Key<'_>) -> bool {
        match self.shard.find(key) {
            Some(item) if item.deadline_ms().is_some() => {
                self.expire_item(key, item);
                true
            }
            _ => false,
        }
    }

    // ---- deadlines --------------------------------------------------------------------------

    /// Removes those fields of a hash whose deadline has passed, at most `budget`.
    pub(crate) fn expire_fields(&mut self, key: &Key<'_>, budget: usize) {
        if let Ok(Some(mut hash)) = self.edit_hash(key) {
            hash.expire_fields(budget);
        }
    }

    /// Sets a key's deadline, unix ms; whether the key is there. One that has passed removes the key.
    pub fn expire_at(&mut self, key: &Key<'_>, at_ms: u64) -> bool {
        if at_ms <= self.shard.now_ms && !self.applying {
            return self.remove(key);
        }
        let Some(item) = self.live(key) else {
            return false;
        };
        self.set_deadline(key, item, Some(at_ms));
        self.shard.effects.push(
            key.db,
            &Effect::ExpireAt {
                key: key.bytes,
                at_ms,
            },
        );
        self.note(key);
        true
    }

    /// As if a key had been used last so many seconds ago. No change of data: nothing is recorded.
    pub fn set_idle(&mut self, key: &Key<'_>, idle_s: u64) {
        let idle_s = u32::try_from(idle_s).unwrap_or(u32::MAX);
        let now_s = self.shard.now_s();
        if let Some(item) = self.shard.find(key) {
            item.touch(match self.shard.uses {
                Uses::Queue => QueueWord::with_idle(item.access_s(), idle_s, now_s),
                _ => now_s.saturating_sub(idle_s),
            });
        }
    }

    /// As if a key had been used so often (see [`Shard::set_lfu`]). No change of data: nothing is recorded.
    pub fn set_frequency(&mut self, key: &Key<'_>, frequency: u8) {
        if let Some(item) = self.shard.find(key) {
            item.touch(Lfu::with(self.shard.now_s(), frequency));
        }
    }

    /// Takes a key's deadline away; whether it had one.
    pub fn persist(&mut self, key: &Key<'_>) -> bool {
        let Some(item) = self.live(key) else {
            return false;
        };
        if item.deadline_ms().is_none() {
            return false;
        }
        self.set_deadline(key, item, None);
        self.shard
            .effects
            .push(key.db, &Effect::Persist { key: key.bytes });
        self.note(key);
        true
    }

    // ---- databases --------------------------------------------------------------------------

    /// Empties a database. The memory is freed in slices.
    pub fn flush_db(&mut self, db: u8) {
        self.empty(db);
        self.shard.watched.note_flush();
        // Also an empty one has been changed: it is recorded, for others may hold keys.
        self.shard.changes += 1;
        let effect = self.shard.partial_flush().unwrap_or(Effect::FlushDb);
        self.shard.effects.push(db, &effect);
    }

    /// Empties slots of a database that are at home here, for who applies what another shard has recorded of its own.
    pub(crate) fn flush_slots(&mut self, db: u8, first: u16, last: u16) {
        let shard = &mut *self.shard;
        let mut freed = Vec::new();
        for slot in (first..=last).map(Slot) {
            let number = &mut shard.dbs[db as usize];
            if !shard.owned.contains(slot) || number.table(slot).is_none_or(Table::is_empty) {
                continue;
            }
            let slot = core::mem::take(number.slot_mut(slot));
            number.len -= slot.table.len();
            number.expires -= slot.expires as usize;
            number.bytes -= slot.bytes;
            shard.changes += slot.table.len() as u64;
            freed.push(slot);
        }
        shard.watched.note_flush();
        shard.garbage.add_tables(freed);
    }

    /// Empties all databases. The memory is freed in slices.
    pub fn flush_all(&mut self) {
        (0..self.shard.dbs.len()).for_each(|db| self.empty(db as u8));
        self.shard.watched.note_flush();
        self.shard.changes += 1;
        let Some(effect) = self.shard.partial_flush() else {
            return self.shard.effects.push(0, &Effect::FlushAll);
        };
        for db in 0..self.shard.dbs.len() {
            self.shard.effects.push(db as u8, &effect);
        }
    }

    /// Two databases change places.
    pub fn swap_db(&mut self, a: u8, b: u8) {
        let (low, high) = (usize::from(a.min(b)), usize::from(a.max(b)));
        if low == high {
            return;
        }
        let watched = [(a, b), (b, a)].map(|(db, other)| self.watched_in(db, other));
        // (What has expired until here has done so before the swap.)
        self.shard.undo.note_swap(a, b);
        self.shard.snapshot.swap(a, b);
        let (left, right) = self.shard.dbs.split_at_mut(high);
        core::mem::swap(&mut left[low], &mut right[0]);
        for (db, keys) in [a, b].into_iter().zip(watched) {
            let touch = |key: Box<[u8]>| self.shard.watched.touch(db, &key);
            keys.into_iter().for_each(touch);
        }
        self.shard.changes += 1;
        self.shard.effects.push(a, &Effect::SwapDb { with: b });
    }

    fn empty(&mut self, db: u8) {
        let number = db;
        for key in self.watched_in(db, db) {
            self.shard.watched.touch(db, &key);
        }
        if self.shard.snapshot.has_opens() {
            self.shard.keep_opens_of(number);
        }
        let origin = self.shard.snapshot.origin(number);
        let is_one = self.shard.owns_all() && self.shard.is_snapshot_done();
        let is_one = is_one && !self.shard.undo.is_on();
        let db = &mut self.shard.dbs[db as usize];
        let old = core::mem::take(db);
        self.shard.changes += old.len as u64;
        if old.len > SLOTS && is_one {
            // One array instead of all that is in it.
            return self.shard.garbage.add_array(old);
        }
        // The empty tables stay: half a megabyte for each FLUSHDB of a loop would wait as garbage.
        db.tables = old.tables;
        if old.len == 0 {
            return;
        }
        // What visitors held is freed here too: their owners count it no more.
        let tables = db.tables.iter_mut().flat_map(|tables| tables.iter_mut());
        let full = tables
            .enumerate()
            .filter(|(_, slot)| !slot.table.is_empty());
        let full = full.map(|(number, slot)| (Slot(number as u16), core::mem::take(slot)));
        let mut full_tables = Vec::with_capacity(old.len.min(SLOTS));
        full_tables.extend(full);
        if self.shard.undo.is_on() {
            self.shard.undo.note_flush(number, origin, full_tables);
            return;
        }
        self.shard.drop_tables(origin, full_tables);
    }

    /// The watched keys of `db` that it or `other`, which may come in its place, holds. One held past its
    /// deadline is expired first: to those who watch it that is the change, and nothing takes its place.
    fn watched_in(&mut self, db: u8, other: u8) -> Vec<Box<[u8]>> {
        let watched = self.shard.watched.keys(db);
        let mut keys: Vec<Box<[u8]>> = watched.map(Box::from).collect();
        keys.retain(|bytes| {
            let (here, there) = (Key::new(db, bytes), Key::new(other, bytes));
            let here = self.live(&here).is_some();
            here || self.live(&there).is_some()
        });
        keys
    }
}

/// A string longer than this grows by a quarter when it is full, not by its length.
const DOUBLED_BYTES_MAX: usize = 1 << 20;

pub(crate) fn write_into(value: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let (len, end) = (value.len(), offset + bytes.len());
    if end > value.capacity() {
        if offset > len {
            // Fresh zeroes come untouched from the system: a gap of 512 MB costs neither time nor memory.
            let mut wider = vec![0; end];
            wider[..len].copy_from_slice(value);
            *value = wider;
        } else {
            let spare = if len > DOUBLED_BYTES_MAX {
                len / 4
            } else {
                len
            };
            value.reserve_exact((end - len).max(spare));
        }
    }
    if value.len() < offset {
        value.resize(offset, 0);
    }
    let inside = bytes.len().min(value.len() - offset);
    value[offset..offset + inside].copy_from_slice(&bytes[..inside]);
    value.extend_from_slice(&bytes[inside..]);
    debug_assert!(value.len() >= end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Slot, decode};

    fn shard() -> Shard {
        Shard::new(1, (0..16384).map(Slot), Limits::default(), 1000)
    }

    /// Runs `edit` at a time when `k` is held but expired; what was recorded must give the same data.
    #[track_caller]
    fn over_an_expired_key(edit: impl FnOnce(Edit<'_>, &Key<'_>)) {
        let key = Key::new(0, b"k");
        let (mut shard, mut mirror) = (shard(), shard());
        for shard in [&mut shard, &mut mirror] {
            shard.edit().put_string(&key, b"old", Ttl::At(1001));
            shard.set_now(1001);
        }
        shard.effects().set_recording(true);
        edit(shard.edit(), &key);
        let effects = shard.effects().take();
        let mut rest = &effects[..];
        while !rest.is_empty() {
            let (db, effect, after) = decode(rest).unwrap();
            mirror.apply(db, &effect).unwrap();
            rest = after;
        }
        assert!(shard.contains(&key));
        assert!(shard.digest_all() == mirror.digest_all());
    }

    #[test]
    fn an_expired_keys_end_is_recorded_before_its_successor() {
        // Large and whole values were once recorded first, so that whoever applied lost the new value.
        for ttl in [Ttl::Clear, Ttl::Keep, Ttl::At(2000)] {
            over_an_expired_key(|mut edit, key| edit.put_string(key, b"new", ttl));
            over_an_expired_key(|mut edit, key| edit.put_owned(key, vec![1; 2000], ttl));
            over_an_expired_key(|mut edit, key| edit.put_raw(key, vec![1; 3], ttl));
            over_an_expired_key(|mut edit, key| edit.put_value(key, OwnedValue::Int(1), ttl));
        }
        over_an_expired_key(|mut edit, key| {
            edit.write_string(key, 3, b"new").unwrap();
        });
    }

    #[test]
    fn writing_into_a_string_is_splicing() {
        let key = Key::new(0, b"k");
        for old_len in [0, 3, 500, 512, 513, 3000] {
            for (offset, len) in [
                (0, 0),
                (0, 2),
                (2, 3),
                (600, 0),
                (510, 2),
                (510, 3),
                (4000, 9),
            ] {
                let mut shard = shard();
                let mut model = vec![7; old_len];
                shard.edit().put_string(&key, &model, Ttl::At(9000));
                let bytes = vec![8; len];
                let written = shard.edit().write_string(&key, offset, &bytes);
                model.resize(old_len.max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&bytes);
                assert_eq!(written, Ok(model.len()));
                assert_eq!(shard.text(&key).unwrap().unwrap().to_vec(), model);
                let info = shard.info(&key).unwrap();
                assert_eq!((info.encoding, info.deadline_ms), ("raw", Some(9000)));
                shard.check();
            }
        }
    }
}
