//! Hot path. Memory on its way: while one request runs, the next ones' keys are asked for in three steps.
//!
//! ```text
//! key at + TABLE_AHEAD    the slot's table header     (one line of 16384 headers)
//! key at + BUCKET_AHEAD   its bucket                  (reads the header)
//! key at + ITEM_AHEAD     its item                    (reads the bucket's tags)
//! key at                  runs: finds all in cache
//! ```
//! Each step reads what the one before has brought. Without the first, seven tenths of a turn's own
//! time under random SETs were spent waiting for headers and buckets.

use storage::{Key, Slot};

use crate::core::Core;

/// How many keys ahead of the one that runs each step is.
const TABLE_AHEAD: usize = 32;
const BUCKET_AHEAD: usize = 20;
const ITEM_AHEAD: usize = 9;

/// Hash, slot and database of a key.
pub(crate) type Ahead = (u64, Slot, u8);

impl Core {
    /// Asks for the first keys of a batch.
    #[inline(always)]
    pub(crate) fn prefetch_first(&self, keys: impl Fn(usize) -> Option<Ahead>) {
        let shard = &self.shard;
        let first = |count: usize| (0..count).map_while(&keys).map(key);
        first(TABLE_AHEAD).for_each(|key| shard.prefetch_table(&key));
        first(BUCKET_AHEAD).for_each(|key| shard.prefetch_bucket(&key));
        first(ITEM_AHEAD).for_each(|key| shard.prefetch_item(&key));
    }

    /// Asks for the keys that come a while after the one at `at`.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self, at: usize, keys: impl Fn(usize) -> Option<Ahead>) {
        if let Some(ahead) = keys(at + TABLE_AHEAD) {
            self.shard.prefetch_table(&key(ahead));
        }
        if let Some(ahead) = keys(at + BUCKET_AHEAD) {
            self.shard.prefetch_bucket(&key(ahead));
        }
        if let Some(ahead) = keys(at + ITEM_AHEAD) {
            self.shard.prefetch_item(&key(ahead));
        }
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
