//! Slots on a visit to another core: how commands over several cores run inline on one of them.
//!
//! ```text
//! owner                                   borrower
//! lend(slots)      ── Lent (the boxes) ──>  borrow(lent)   commands run as if all were local
//! take_back(lent)  <── Lent, and what the ── give_back(slots)
//!                      owner must note
//! ```
//! Nothing is copied: tables are pointers. While a slot is away its owner must not look into it (the
//! node's intents see to that; debug builds assert it); its expiry hints wait.

use crate::expiry::Hint;
use crate::hash::Key;
use crate::item::Item;
use crate::shard::Shard;
use crate::table::Table;
use crate::{SLOTS, Slot};

/// A set of slots: one bit each.
#[derive(Clone)]
pub(crate) struct SlotSet(Box<[u64; SLOTS / 64]>);

impl Default for SlotSet {
    fn default() -> Self {
        SlotSet(Box::new([0; SLOTS / 64]))
    }
}

impl SlotSet {
    #[inline(always)]
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] >> (slot.index() % 64) & 1 != 0
    }

    pub(crate) fn insert(&mut self, slot: Slot) {
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    fn remove(&mut self, slot: Slot) {
        self.0[slot.index() / 64] &= !(1 << (slot.index() % 64));
    }
}

/// Slots under way between two cores.
pub struct Lent {
    /// Tables that hold something: database, slot, table, how many of its keys have a deadline.
    tables: Vec<(u8, Slot, Table<Item>, usize)>,
    slots: Vec<Slot>,
    /// On the way back: by how much the bytes of each database changed, watched keys that changed, and deadlines for the owner's wheel.
    bytes: Vec<(u8, isize)>,
    touched: Vec<(u8, Box<[u8]>)>,
    hints: Vec<(u64, Hint)>,
}

impl Lent {
    /// The slots that travel.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (_, _, table, _) in &mut self.tables {
            table.drain_some(usize::MAX, |item: Item| drop(item.free()));
        }
    }
}

impl Shard {
    /// Whether a slot lives here.
    #[inline(always)]
    pub fn owns(&self, slot: Slot) -> bool {
        self.owned.contains(slot)
    }

    /// Takes the boxes of owned slots out, to be borrowed by another core.
    pub fn lend(&mut self, slots: &[Slot]) -> Lent {
        slots.iter().for_each(|slot| self.away.insert(*slot));
        self.detach(slots)
    }

    /// Puts borrowed slots in place.
    pub fn borrow(&mut self, lent: Lent) {
        debug_assert!(lent.slots.iter().all(|slot| !self.owns(*slot)));
        self.guests += lent.slots.len();
        self.attach(lent);
    }

    /// Takes borrowed slots out again, with what their owner must note.
    pub fn give_back(&mut self, slots: &[Slot]) -> Lent {
        let mut lent = self.detach(slots);
        self.guests -= slots.len();
        for (number, db) in self
            .dbs
            .iter_mut()
            .enumerate()
            .filter(|(_, db)| db.guest_bytes != 0)
        {
            lent.bytes
                .push((number as u8, core::mem::take(&mut db.guest_bytes)));
        }
        let here = |slot: Slot| slots.contains(&slot);
        lent.touched = self.watched.take_foreign(here);
        let hints = core::mem::take(&mut self.foreign_hints);
        (lent.hints, self.foreign_hints) =
            hints.into_iter().partition(|(_, hint)| here(hint.slot()));
        lent
    }

    /// Puts owned slots back in place.
    pub fn take_back(&mut self, mut lent: Lent) {
        lent.slots.iter().for_each(|slot| self.away.remove(*slot));
        for (db, grown) in core::mem::take(&mut lent.bytes) {
            self.dbs[db as usize].bytes += grown;
        }
        for (at_ms, hint) in core::mem::take(&mut lent.hints) {
            self.wheel.push(at_ms, hint);
        }
        for (db, key) in core::mem::take(&mut lent.touched) {
            self.watched.touch(db, &key);
        }
        self.attach(lent);
    }

    fn detach(&mut self, slots: &[Slot]) -> Lent {
        let mut lent = Lent {
            tables: Vec::new(),
            slots: slots.to_vec(),
            bytes: Vec::new(),
            touched: Vec::new(),
            hints: Vec::new(),
        };
        for (number, db) in self.dbs.iter_mut().enumerate() {
            let Some(tables) = &mut db.tables else {
                continue;
            };
            for slot in slots {
                let table = &mut tables[slot.index()];
                if table.is_empty() {
                    continue;
                }
                let expires = if db.expires == 0 {
                    0
                } else {
                    table
                        .iter()
                        .filter(|item: &Item| item.deadline_ms().is_some())
                        .count()
                };
                db.len -= table.len();
                db.expires -= expires;
                let table = core::mem::take(table);
                lent.tables.push((number as u8, *slot, table, expires));
            }
        }
        lent
    }

    fn attach(&mut self, mut lent: Lent) {
        for (db, slot, table, expires) in core::mem::take(&mut lent.tables) {
            let db = &mut self.dbs[db as usize];
            db.len += table.len();
            db.expires += expires;
            let here = db.table_mut(slot);
            debug_assert!(here.is_empty());
            *here = table;
        }
    }

    /// Notes that the bytes of a slot have changed.
    #[inline(always)]
    pub(crate) fn account(&mut self, key: &Key<'_>, grown: isize) {
        let db = &mut self.dbs[key.db as usize];
        if self.owned.contains(key.slot) {
            db.bytes += grown
        } else {
            db.guest_bytes += grown
        }
    }

    /// Notes a deadline in the wheel of the slot's owner.
    #[inline]
    pub(crate) fn push_hint(&mut self, at_ms: u64, key: &Key<'_>) {
        let hint = Hint::new(key.slot, self.dbs[key.db as usize].id, key.hash);
        if self.owned.contains(key.slot) {
            self.wheel.push(at_ms, hint);
        } else {
            self.foreign_hints.push((at_ms, hint));
        }
    }

    /// Notes a change of a key for those who watch it.
    #[inline(always)]
    pub(crate) fn touch_watched(&mut self, key: &Key<'_>) {
        if self.owned.contains(key.slot) {
            if !self.watched.is_empty() {
                self.watched.touch(key.db, key.bytes);
            }
        } else {
            self.watched.touch_foreign(key.db, key.bytes);
        }
    }
}
