//! Slots on a visit to a shard beside the cores: how one long request runs without its core.
//!
//! ```text
//! core's shard                                  shard of a thread beside the cores (it owns no slots)
//! lend_aside(slots) ── Lent, Guise ──>          wear(guise); borrow(lent)   the command runs
//! take_aside(lent, counted); add_notes  <── Lent, Notes ──   give_back(slots); take_notes
//! ```
//! It is the visit of `lend.rs` with three differences: the slots may themselves be on a visit here; what they hold goes on
//! being counted here, so that no sum shrinks while they are away; and whatever the run notes beside the data (events,
//! effects, changes that are to be told) comes back to be acted upon as if it had happened here.

use crate::events::Event;
use crate::hash::Key;
use crate::item::Content;
use crate::lend::{Lent, among};
use crate::shard::Shard;
use crate::snapshot::{Chunk, Cut};
use crate::uses::Uses;
use crate::view::Text;
use crate::watch::Touched;
use crate::{Limits, Slot};

/// What a shard still counts of slots that have left it: database, keys, keys with a deadline, bytes.
#[derive(Default)]
pub struct Counted(Vec<(u8, usize, usize, usize)>);

/// What a shard must look like to run a command as another would.
#[derive(Clone, Debug)]
pub struct Guise {
    now_ms: u64,
    limits: Limits,
    events: u16,
    follows_all: bool,
    records: bool,
    uses: Uses,
    cut: (Cut, Vec<u8>, bool),
}

/// What a shard has noted beside its data.
#[derive(Default)]
pub struct Notes {
    touched: Vec<Touched>,
    flushed: bool,
    events: Vec<Event>,
    effects: (Vec<u8>, usize),
    image: Vec<Chunk>,
    changes: u64,
    expired: u64,
    fields_expired: u64,
    hits: u64,
    misses: u64,
}

impl Shard {
    /// Takes the boxes of slots out that are in place here, be they at home or on a visit.
    pub fn lend_aside(&mut self, slots: &[Slot]) -> (Lent, Counted) {
        if self.has_met_expired() {
            self.expire_met();
        }
        for slot in slots.iter().filter(|slot| self.owned.contains(**slot)) {
            debug_assert!(!self.away.contains(*slot), "a slot is lent once at a time");
            self.away.insert(*slot);
        }
        let mut lent = self.detach(slots);
        lent.carried = self.carry(slots, false);
        if !self.watched.is_empty() {
            lent.watched = self.watched.of_slots(&among(slots));
        }
        let mut counted = Vec::with_capacity(lent.tables.len());
        for (number, _, table) in &lent.tables {
            let here = (table.table.len(), table.expires as usize, table.bytes);
            let db = &mut self.dbs[*number as usize];
            db.len += here.0;
            db.expires += here.1;
            db.bytes += here.2;
            counted.push((*number, here.0, here.1, here.2));
        }
        (lent, Counted(counted))
    }

    /// Puts them back in place.
    pub fn take_aside(&mut self, mut lent: Lent, counted: Counted) {
        for (number, len, expires, bytes) in counted.0 {
            let db = &mut self.dbs[number as usize];
            db.len -= len;
            db.expires -= expires;
            db.bytes -= bytes;
        }
        let mut own = Vec::with_capacity(lent.slots.len());
        own.extend(lent.slots.iter().filter(|slot| self.owned.contains(**slot)));
        own.iter().for_each(|slot| self.away.remove(*slot));
        self.take_in(core::mem::take(&mut lent.carried), true);
        for (at_ms, hint) in core::mem::take(&mut lent.hints) {
            if self.owned.contains(hint.slot()) {
                self.wheel.push(at_ms, hint);
            } else {
                self.foreign_hints.push((at_ms, hint));
            }
        }
        for (db, key) in core::mem::take(&mut lent.watched) {
            self.watched.touch(db, &key);
        }
        if !self.watched.is_empty() {
            self.watched.touch_unseen(&among(&own));
        }
        self.attach(lent);
    }

    /// What another shard must look like to run a command as this one would.
    pub fn guise(&self) -> Guise {
        Guise {
            now_ms: self.now_ms,
            limits: self.limits.clone(),
            events: self.events.wanted(),
            follows_all: self.watched.follows_all(),
            records: self.effects.is_recording(),
            uses: self.uses,
            cut: self.cut(),
        }
    }

    /// Runs what follows as another would.
    pub fn wear(&mut self, guise: Guise) {
        self.set_now(guise.now_ms);
        self.set_limits(guise.limits);
        self.set_events(guise.events);
        self.set_follow_all(guise.follows_all);
        self.effects.set_recording(guise.records);
        self.uses = guise.uses;
        self.set_cut(guise.cut);
    }

    /// What has been noted beside the data since the last call.
    pub fn take_notes(&mut self) -> Notes {
        let (hits, misses) = self.hits_and_misses();
        self.set_hits_and_misses(0, 0);
        let count = self.effects.count();
        Notes {
            touched: self.watched.take_touched(),
            flushed: self.take_flushed(),
            events: self.take_events(),
            effects: (self.effects.take(), count),
            image: core::iter::from_fn(|| self.take_image(true)).collect(),
            changes: core::mem::take(&mut self.changes),
            expired: core::mem::take(&mut self.expired),
            fields_expired: core::mem::take(&mut self.fields_expired),
            hits,
            misses,
        }
    }

    /// Notes here what another shard has noted.
    pub fn add_notes(&mut self, notes: Notes) {
        self.watched.append_touched(notes.touched, notes.flushed);
        self.events.append(notes.events);
        self.effects.append(&notes.effects.0, notes.effects.1);
        self.add_image(notes.image);
        self.changes = self.changes.wrapping_add(notes.changes);
        self.expired += notes.expired;
        self.fields_expired += notes.fields_expired;
        let (hits, misses) = self.hits_and_misses();
        self.set_hits_and_misses(
            hits.wrapping_add(notes.hits),
            misses.wrapping_add(notes.misses),
        );
    }

    /// How large a key's value is: elements of a collection, bytes of a string, and which of both. It leaves no trace: neither
    /// counted nor an access, nor is the end of a key proposed whose deadline has passed. The key's slot must be in place.
    pub fn size_of(&self, key: &Key<'_>) -> Size {
        match self.find(key).filter(|item| !item.is_expired(self.now_ms)) {
            None => Size::Elements(0),
            Some(item) => match item.content() {
                Content::Int(n) => Size::Bytes(Text::Int(n).len()),
                Content::Bytes(bytes) => Size::Bytes(bytes.len()),
                Content::Collection(held) => Size::Elements(held.view().len()),
            },
        }
    }

    /// Bytes of the block in which a key's string lies, of which the string may use a part; 0 without one.
    pub fn room_of(&self, key: &Key<'_>) -> usize {
        match self.find(key) {
            Some(item) if matches!(item.content(), Content::Bytes(_)) => item.heap_bytes(),
            _ => 0,
        }
    }
}

/// See [`Shard::size_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Of a list, hash, set, sorted set or stream.
    Elements(usize),
    /// Of a string.
    Bytes(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventClass, SLOTS, Ttl};

    fn shard(owns: bool) -> Shard {
        let slots = (0..SLOTS as u16).map(Slot).filter(|_| owns);
        Shard::new(2, slots, Limits::default(), 1000)
    }

    fn put(shard: &mut Shard, key: &str, ttl: Ttl) {
        let key = Key::new(0, key.as_bytes());
        shard.edit().put_string(&key, &[b'x'; 600], ttl);
        shard.edit().event(EventClass::String, "set", &key);
    }

    #[test]
    fn slots_that_ran_aside_come_home_as_if_they_had_run_here() {
        let (mut home, mut inline, mut beside) = (shard(true), shard(true), shard(false));
        let slots = [Slot::of(b"a"), Slot::of(b"b")];
        for shard in [&mut home, &mut inline] {
            shard.set_events(u16::MAX);
            shard.effects().set_recording(true);
            put(shard, "a", Ttl::At(9000));
            put(shard, "other", Ttl::Clear);
            shard.follow(&Key::new(0, b"a"));
            shard.watch(&Key::new(0, b"b"));
        }
        let (used, count) = (home.used_bytes(), home.count(0));
        let (lent, counted) = home.lend_aside(&slots);
        assert_eq!((home.used_bytes(), home.count(0)), (used, count));
        beside.wear(home.guise());
        beside.borrow(lent);
        for shard in [&mut beside, &mut inline] {
            put(shard, "a", Ttl::At(5000));
            put(shard, "b", Ttl::At(7000));
            assert!(shard.value(&Key::new(0, b"a")).is_some());
        }
        let lent = beside.give_back(&slots);
        home.take_aside(lent, counted);
        home.add_notes(beside.take_notes());
        home.check();
        beside.check();
        assert!(home.digest_all() == inline.digest_all());
        assert_eq!(home.used_bytes(), inline.used_bytes());
        assert_eq!(home.effects().take(), inline.effects().take());
        assert_eq!(home.take_events(), inline.take_events());
        let unique = |mut touched: Vec<Touched>| {
            touched.dedup();
            touched
        };
        assert_eq!(unique(home.take_touched()), unique(inline.take_touched()));
        assert!(home.watched_version(0, b"b") > Some(0));
        assert_eq!(home.hits_and_misses(), inline.hits_and_misses());
        assert_eq!(home.changes(), inline.changes());
        home.set_now(8000);
        while home.expire_due(100) {}
        assert_eq!(home.count(0).keys, 1, "the deadlines are in the wheel");
    }
}
