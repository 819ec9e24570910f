//! Removed values on their way out: large ones are freed in slices, a few elements a turn.

use std::collections::VecDeque;

use crate::item::{Item, Payload};
use crate::shard::{Db, boxed_bytes, whole_bytes};
use crate::table::SlotTable;
use crate::value::Collection;

/// A string of at least so many bytes is not freed at once: its pages go back to the system.
pub(crate) const BLOB_BYTES_MIN: usize = 1 << 20;
/// A collection of at most so many elements is freed at once.
pub(crate) const FREED_AT_ONCE_MAX: usize = 64;

enum Waste {
    Collection(Box<Collection>, usize),
    /// Tables of a flushed database.
    Tables(Vec<SlotTable<Item>>),
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Garbage {
    queue: VecDeque<Waste>,
    /// Large strings, for whoever takes them to a thread that nobody waits for.
    blobs: Vec<Vec<u8>>,
    bytes: usize,
    freed: u64,
    /// Values that are done with.
    values_freed: u64,
}

impl Garbage {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    /// Values that wait, a flushed database's tables as one, and values that are gone.
    pub(crate) fn values(&self) -> (usize, u64) {
        (self.queue.len(), self.values_freed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.blobs.is_empty()
    }

    pub(crate) fn add_collection(&mut self, collection: Box<Collection>) {
        let bytes = boxed_bytes(&collection);
        self.bytes += bytes;
        self.queue.push_back(Waste::Collection(collection, bytes));
    }

    /// Whole tables with their items.
    pub(crate) fn add_tables(&mut self, tables: Vec<SlotTable<Item>>) {
        self.bytes += tables.iter().map(|slot| slot.bytes).sum::<usize>();
        self.queue.push_back(Waste::Tables(tables));
    }

    /// All tables of a database, no visitors among them.
    pub(crate) fn add_array(&mut self, db: Db) {
        let Some(tables) = db.tables else { return };
        let tables: Box<[SlotTable<Item>]> = tables;
        self.bytes += db.bytes;
        self.queue.push_back(Waste::Tables(tables.into_vec()));
    }

    pub(crate) fn add_blob(&mut self, blob: Vec<u8>) {
        self.bytes += blob.capacity();
        self.blobs.push(blob);
    }

    pub(crate) fn take_blobs(&mut self) -> Vec<Vec<u8>> {
        let blobs = core::mem::take(&mut self.blobs);
        self.bytes -= blobs.iter().map(Vec::capacity).sum::<usize>();
        blobs
    }

    pub(crate) fn free(&mut self, budget_items: usize) -> bool {
        drop(self.take_blobs());
        let mut left = budget_items;
        while left > 0 {
            let (freed, done) = match self.queue.front_mut() {
                None => break,
                Some(Waste::Collection(collection, bytes)) => {
                    let before = collection.len();
                    let done = collection.free_step(left);
                    if done {
                        self.bytes -= *bytes;
                    }
                    let after = if done { 0 } else { collection.len() };
                    (before.saturating_sub(after), done)
                }
                Some(Waste::Tables(tables)) => match tables.last_mut() {
                    None => (0, true),
                    Some(_) => (self.free_from_table(left), false),
                },
            };
            self.freed += freed as u64;
            left -= freed.clamp(1, left);
            if done && let Some(Waste::Collection(..)) = self.queue.pop_front() {
                self.values_freed += 1;
            }
        }
        !self.queue.is_empty()
    }

    /// Frees up to `left` items of the first waste's last table; how many.
    fn free_from_table(&mut self, left: usize) -> usize {
        let Some(Waste::Tables(tables)) = self.queue.front_mut() else {
            return 0;
        };
        let Some(slot) = tables.last_mut() else {
            return 0;
        };
        let (mut freed, mut bytes, mut large) = (0, 0, Vec::new());
        slot.table.drain_some(left, |item: Item| {
            freed += 1;
            bytes += whole_bytes(item);
            match item.free() {
                Payload::Collection(c) if c.len() > FREED_AT_ONCE_MAX => large.push(c),
                _ => {}
            }
        });
        debug_assert!(bytes <= slot.bytes);
        slot.bytes = slot.bytes.saturating_sub(bytes);
        if slot.table.is_empty() {
            // What is left are the buckets.
            bytes += slot.bytes;
            tables.pop();
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        // (The large ones count when they are gone themselves.)
        self.values_freed += (freed - large.len()) as u64;
        large.into_iter().for_each(|c| self.add_collection(c));
        freed
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        while self.free(usize::MAX) {}
    }
}

#[cfg(test)]
mod tests {
    use super::Garbage;
    use crate::value::Collection;
    use crate::{Key, Limits, SLOTS, Set, Shard, Slot, Ttl};

    #[test]
    fn a_large_database_is_thrown_away_as_one_and_goes_in_slices() {
        let slots = (0..SLOTS as u16).map(Slot);
        let mut shard = Shard::new(2, slots, Limits::default(), 1);
        for n in 0..3 * SLOTS {
            let name = format!("key:{n}");
            let key = Key::new(1, name.as_bytes());
            shard.edit().put_string(&key, b"value", Ttl::Clear);
        }
        let bytes = shard.used_bytes();
        shard.edit().flush_db(1);
        assert_eq!((shard.count(1).keys, shard.used_bytes()), (0, bytes));
        let new = Key::new(1, b"key:1");
        shard.edit().put_string(&new, b"new", Ttl::Clear);
        let mut steps = 0;
        while shard.free_garbage(SLOTS) {
            steps += 1;
        }
        assert!((3..9).contains(&steps), "{steps}");
        assert_eq!(shard.garbage_bytes(), 0);
        assert_eq!(shard.count(1).keys, 1);
    }

    #[test]
    fn a_set_made_in_the_order_of_its_hashes_is_whole_and_is_freed() {
        // A union of two sets of a million once lost a member: its reply promised one more than came, and its garbage never ended.
        let limits = Limits::default();
        let set = |numbers: core::ops::Range<u32>| {
            let mut set = Set::new();
            for n in numbers {
                set.add(format!("member:{n}").as_bytes(), &limits);
            }
            set
        };
        let sets = [set(0..1_000_000), set(500_000..1_500_000)];
        let mut union = Set::new();
        for member in sets.iter().flat_map(Set::iter) {
            union.add(&member, &limits);
        }
        assert_eq!((union.len(), union.iter().count()), (1_500_000, 1_500_000));
        union.check();
        let mut garbage = Garbage::default();
        garbage.add_collection(Box::new(Collection::Set(union)));
        let steps = (0..).take_while(|_| garbage.free(1 << 16)).count();
        assert!(steps < 30);
    }

    #[test]
    fn any_budget_comes_to_an_end() {
        for budget in [1 << 16, 1 << 20, 512] {
            let mut set = Set::new();
            for n in 0..300_000u32 {
                set.add(format!("member:{n}").as_bytes(), &Limits::default());
            }
            let mut garbage = Garbage::default();
            garbage.add_collection(Box::new(Collection::Set(set)));
            let mut steps = 0;
            while garbage.free(budget) {
                steps += 1;
                assert!(steps <= 300_000 / budget + 1, "budget {budget}");
            }
            assert_eq!((garbage.bytes(), garbage.freed()), (0, 300_000));
        }
    }
}
