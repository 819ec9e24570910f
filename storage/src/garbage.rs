//! Removed values on their way out: large ones are freed in slices, a few elements a turn.

use std::collections::VecDeque;

use crate::item::{Item, Payload};
use crate::shard::{boxed_bytes, whole_bytes};
use crate::table::SlotTable;
use crate::value::Collection;

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
        self.queue.is_empty()
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

    pub(crate) fn free(&mut self, budget_items: usize) -> bool {
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
