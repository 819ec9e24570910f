//! Slots on a visit to another core: how commands over several cores run inline on one of them.
//!
//! ```text
//! owner                                   borrower
//! lend(slots)      ── Lent (the boxes) ──>  borrow(lent)   commands run as if all were local
//! take_back(lent)  <── Lent, and what the ── give_back(slots)
//!                      owner must note
//! ```
//! Nothing is copied or walked: tables are pointers, and their counts travel with them. While a slot is
//! away its owner must not look into it (the node's intents see to that; debug builds assert it); its
//! expiry hints wait. A database is emptied or exchanged only by a core at which all its slots are: at
//! home, or on a visit. Then a slot comes home with its keys in the databases where they are now.

use crate::effect::Effect;
use crate::expiry::Hint;
use crate::hash::Key;
use crate::item::Item;
use crate::shard::Shard;
use crate::snapshot::Carried;
use crate::table::SlotTable;
use crate::watch::WatchedKeys;
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

    /// The first and the last slot, and how many there are; None of an empty set.
    fn span(&self) -> Option<(u16, u16, usize)> {
        let mut slots = (0..SLOTS as u16).filter(|slot| self.contains(Slot(*slot)));
        let first = slots.next()?;
        let (last, len) = slots.fold((first, 1), |(_, len), slot| (slot, len + 1));
        Some((first, last, len))
    }

    pub(crate) fn len(&self) -> usize {
        let of = |word: &u64| word.count_ones() as usize;
        self.0.iter().map(of).sum()
    }

    pub(crate) fn insert(&mut self, slot: Slot) {
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.0[slot.index() / 64] &= !(1 << (slot.index() % 64));
    }
}

/// Slots under way between two cores.
pub struct Lent {
    /// Tables that hold something: database, slot, table.
    pub(crate) tables: Vec<(u8, Slot, SlotTable<Item>)>,
    pub(crate) slots: Vec<Slot>,
    /// On the way out: keys that are watched. On the way back: those of them that changed.
    pub(crate) watched: WatchedKeys,
    /// On the way back: deadlines for the owner's wheel.
    pub(crate) hints: Vec<(u64, Hint)>,
    /// Of the snapshot that runs.
    pub(crate) carried: Carried,
}

// A visit goes from one core's thread to another's.
const _: () = {
    const fn movable<T: Send>() {}
    movable::<Lent>()
};

impl Lent {
    /// The slots that travel.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (_, _, slot) in &mut self.tables {
            let free = |item: Item| drop(item.free());
            slot.table.drain_some(usize::MAX, free);
        }
    }
}

impl Shard {
    /// Whether a slot lives here.
    #[inline(always)]
    pub fn owns(&self, slot: Slot) -> bool {
        self.owned.contains(slot)
    }

    /// Whether every slot lives here.
    pub(crate) fn owns_all(&self) -> bool {
        self.owned.0.iter().all(|word| *word == u64::MAX)
    }

    /// What a flush of all that is here records when that is not every slot: those that live here.
    pub(crate) fn partial_flush(&self) -> Option<Effect<'static>> {
        let (first, last, len) = self.owned.span()?;
        let is_whole = len + self.guests >= SLOTS;
        (!is_whole).then_some(Effect::FlushSlots { first, last })
    }

    /// Takes the boxes of owned slots out, to be borrowed by another core.
    pub fn lend(&mut self, slots: &[Slot]) -> Lent {
        for slot in slots {
            debug_assert!(self.owns(*slot), "only an owner lends");
            debug_assert!(!self.away.contains(*slot), "a slot is lent once at a time");
            self.away.insert(*slot);
        }
        let mut lent = self.detach(slots);
        lent.carried = self.carry(slots, false);
        if !self.watched.is_empty() {
            lent.watched = self.watched.of_slots(&among(slots));
        }
        lent
    }

    /// Puts borrowed slots in place.
    pub fn borrow(&mut self, mut lent: Lent) {
        debug_assert!(lent.slots.iter().all(|slot| !self.owns(*slot)));
        self.guests += lent.slots.len();
        self.take_in(core::mem::take(&mut lent.carried), false);
        for (db, key) in core::mem::take(&mut lent.watched) {
            self.watched.add(db, &key, Slot::of(&key), false);
        }
        self.attach(lent);
    }

    /// Takes borrowed slots out again, with what their owner must note.
    pub fn give_back(&mut self, slots: &[Slot]) -> Lent {
        debug_assert!(slots.iter().all(|slot| !self.owns(*slot)));
        let mut lent = self.detach(slots);
        lent.carried = self.carry(slots, true);
        self.guests -= slots.len();
        if !self.watched.is_empty() {
            lent.watched = self.watched.take_guests(&among(slots));
        }
        if !self.foreign_hints.is_empty() {
            let here = among(slots);
            let hints = core::mem::take(&mut self.foreign_hints);
            (lent.hints, self.foreign_hints) =
                hints.into_iter().partition(|(_, hint)| here(hint.slot()));
        }
        lent
    }

    /// Puts owned slots back in place.
    pub fn take_back(&mut self, mut lent: Lent) {
        debug_assert!(lent.slots.iter().all(|slot| self.away.contains(*slot)));
        lent.slots.iter().for_each(|slot| self.away.remove(*slot));
        self.take_in(core::mem::take(&mut lent.carried), true);
        for (at_ms, hint) in core::mem::take(&mut lent.hints) {
            self.wheel.push(at_ms, hint);
        }
        for (db, key) in core::mem::take(&mut lent.watched) {
            self.watched.touch_away(db, &key);
        }
        if !self.watched.is_empty() {
            self.watched.touch_unseen(&among(&lent.slots));
        }
        self.attach(lent);
    }

    pub(crate) fn detach(&mut self, slots: &[Slot]) -> Lent {
        let mut lent = Lent {
            tables: Vec::new(),
            slots: slots.to_vec(),
            watched: Vec::new(),
            hints: Vec::new(),
            carried: Carried::default(),
        };
        for (number, db) in self.dbs.iter_mut().enumerate() {
            let Some(tables) = &mut db.tables else {
                continue;
            };
            for slot in slots {
                let here = &mut tables[slot.index()];
                if here.table.is_empty() {
                    debug_assert!(here.bytes == 0);
                    debug_assert!(here.expires == 0);
                    continue;
                }
                db.len -= here.table.len();
                db.expires -= here.expires as usize;
                db.bytes -= here.bytes;
                lent.tables
                    .push((number as u8, *slot, core::mem::take(here)));
            }
        }
        lent
    }

    pub(crate) fn attach(&mut self, mut lent: Lent) {
        for (db, slot, table) in core::mem::take(&mut lent.tables) {
            let db = &mut self.dbs[db as usize];
            db.len += table.table.len();
            db.expires += table.expires as usize;
            db.bytes += table.bytes;
            let here = db.slot_mut(slot);
            debug_assert!(here.table.is_empty());
            *here = table;
        }
    }

    /// Notes a deadline in the wheel of the slot's owner.
    #[inline]
    pub(crate) fn push_hint(&mut self, at_ms: u64, key: &Key<'_>) {
        let hint = Hint::new(key.slot, key.hash);
        if self.owned.contains(key.slot) {
            self.wheel.push(at_ms, hint);
            if self.wheel.len() > self.hints_max {
                self.sweep_hints();
            }
        } else {
            self.foreign_hints.push((at_ms, hint));
        }
    }
}

/// Whether a slot is one of these.
pub(crate) fn among(slots: &[Slot]) -> impl Fn(Slot) -> bool {
    let mut set = SlotSet::default();
    slots.iter().for_each(|slot| set.insert(*slot));
    move |slot| set.contains(slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Ttl, decode};

    fn shard(slots: core::ops::Range<u16>) -> Shard {
        Shard::new(2, slots.map(Slot), Limits::default(), 1000)
    }

    /// A core that flushed its own slots alone once recorded that all were empty: after a restart keys of others were gone.
    #[test]
    fn a_flush_of_some_slots_is_recorded_as_such() {
        let (half, all) = (SLOTS as u16 / 2, SLOTS as u16);
        let (mut low, mut whole) = (shard(0..half), shard(0..all));
        low.effects().set_recording(true);
        let mut kept = 0;
        for n in 0..40u32 {
            let bytes = n.to_string();
            let key = Key::new(n as u8 % 2, bytes.as_bytes());
            whole.edit().put_string(&key, b"v", Ttl::At(9000));
            if low.owns(key.slot) {
                low.edit().put_string(&key, b"v", Ttl::At(9000));
            } else {
                kept += 1;
            }
        }
        low.effects().take();
        low.edit().flush_all();
        let record = low.effects().take();
        let mut rest = &record[..];
        while let Ok((db, effect, after)) = decode(rest) {
            whole.apply(db, &effect).unwrap();
            rest = after;
        }
        whole.check();
        assert_eq!(whole.count(0).keys + whole.count(1).keys, kept);
        assert!((1..40).contains(&kept));
        whole.effects().set_recording(true);
        whole.edit().flush_all();
        assert_eq!(decode(&whole.effects().take()).unwrap().1, Effect::FlushAll);
    }
}
