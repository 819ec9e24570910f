//! Removed values on their way out: large ones are freed in slices, a few elements a turn.

use std::collections::VecDeque;

use crate::item::{Item, Payload};
use crate::shard::boxed_bytes;
use crate::table::Table;
use crate::value::Collection;

/// A collection of at most so many elements is freed at once.
pub(crate) const FREED_AT_ONCE_MAX: usize = 64;

enum Waste {
    Collection(Box<Collection>, usize),
    /// Tables of a flushed database, with the bytes that all of it takes.
    Tables(Vec<Table<Item>>, usize),
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Garbage {
    queue: VecDeque<Waste>,
    bytes: usize,
    freed: u64,
}

impl Garbage {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn add_collection(&mut self, collection: Box<Collection>) {
        let bytes = boxed_bytes(&collection);
        self.bytes += bytes;
        self.queue.push_back(Waste::Collection(collection, bytes));
    }

    /// Whole tables with their items, which take `bytes` together with them.
    pub(crate) fn add_tables(&mut self, tables: Vec<Table<Item>>, bytes: usize) {
        self.bytes += bytes;
        self.queue.push_back(Waste::Tables(tables, bytes));
    }

    pub(crate) fn free(&mut self, budget_items: usize) -> bool {
        let mut left = budget_items;
        while left > 0 {
            let (freed, done) = match self.queue.front_mut() {
                None => break,
                Some(Waste::Collection(collection, bytes)) => {
                    let before = collection.len();
                    let done = collection.free_step(left);
                    let after = if done { 0 } else { collection.len() };
                    (before.saturating_sub(after), done.then_some(*bytes))
                }
                Some(Waste::Tables(tables, bytes)) => match tables.last_mut() {
                    None => (0, Some(*bytes)),
                    Some(table) => {
                        let before = table.len();
                        let mut large = Vec::new();
                        table.drain_some(left, |item: Item| match item.free() {
                            Payload::Collection(c) if c.len() > FREED_AT_ONCE_MAX => large.push(c),
                            _ => {}
                        });
                        let freed = before - table.len();
                        if table.is_empty() {
                            tables.pop();
                        }
                        // Their bytes are part of the tables' bytes until those are done.
                        let waste = large.into_iter().map(|c| Waste::Collection(c, 0));
                        self.queue.extend(waste);
                        (freed, None)
                    }
                },
            };
            self.freed += freed as u64;
            left -= freed.clamp(1, left);
            if let Some(bytes) = done {
                self.bytes -= bytes;
                self.queue.pop_front();
            }
        }
        !self.queue.is_empty()
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        while self.free(usize::MAX) {}
    }
}
