//! Hot path. Memory on its way: while some requests run, the next ones' keys are asked for in three steps.
//!
//! ```text
//! keys at + 3 GROUP ..    their slots' table headers     (lines of 16384 headers)
//! keys at + 2 GROUP ..    their buckets                  (reads the headers)
//! keys at +   GROUP ..    their items                    (reads the buckets' tags)
//! keys at ..              run: find all in cache
//! ```
//! Each step reads what the one before has brought. A group of keys takes each step together: what a
//! step waits for is less the memory than its address (walks of the page table, dear under
//! virtualisation), and the processor overlaps walks only when they lie close together in the program.

use storage::{Key, Slot};

use crate::core::Core;

/// Keys that take a step together.
const GROUP: usize = 16;

/// Hash, slot and database of a key.
pub(crate) type Ahead = (u64, Slot, u8);

impl Core {
    /// Asks for the first keys of a batch.
    #[inline(always)]
    pub(crate) fn prefetch_first(&self, keys: impl Fn(usize) -> Option<Ahead>) {
        let shard = &self.shard;
        let first = |groups: usize| (0..groups * GROUP).map_while(&keys).map(key);
        first(3).for_each(|key| shard.prefetch_table(&key));
        first(2).for_each(|key| shard.prefetch_bucket(&key));
        first(1).for_each(|key| shard.prefetch_item(&key));
    }

    /// The key at `at` is about to run: asks for those that come a while after it.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self, at: usize, keys: impl Fn(usize) -> Option<Ahead>) {
        if !at.is_multiple_of(GROUP) {
            return;
        }
        let shard = &self.shard;
        let group = |ahead: usize| {
            let first = at + ahead * GROUP;
            (first..first + GROUP).map_while(&keys).map(key)
        };
        group(1).for_each(|key| shard.prefetch_item(&key));
        group(2).for_each(|key| shard.prefetch_bucket(&key));
        group(3).for_each(|key| shard.prefetch_table(&key));
    }
}

#[inline(always)]
fn key((hash, slot, db): Ahead) -> Key<'static> {
    Key {
        bytes: b"",
        hash,
        slot,
        db,
    }
}
