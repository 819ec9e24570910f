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
    /// Asks for the first keys of a turn.
    #[inline(always)]
    pub(crate) fn prefetch_first(&self, keys: &[Ahead]) {
        let shard = &self.shard;
        let first = |groups: usize| &keys[..keys.len().min(groups * GROUP)];
        for ahead in first(3) {
            shard.prefetch_table(&key(ahead));
        }
        for ahead in first(2) {
            shard.prefetch_bucket(&key(ahead));
        }
        for ahead in first(1) {
            shard.prefetch_item(&key(ahead));
        }
    }

    /// The key at `at` is about to be used: asks for those that come a while after it.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self, at: usize, keys: &[Ahead]) {
        if !at.is_multiple_of(GROUP) {
            return;
        }
        let shard = &self.shard;
        let group = |groups: usize| {
            let first = keys.len().min(at + groups * GROUP);
            &keys[first..keys.len().min(first + GROUP)]
        };
        for ahead in group(1) {
            shard.prefetch_item(&key(ahead));
        }
        for ahead in group(2) {
            shard.prefetch_bucket(&key(ahead));
        }
        for ahead in group(3) {
            shard.prefetch_table(&key(ahead));
        }
    }
}

#[inline(always)]
fn key(&(hash, slot, db): &Ahead) -> Key<'static> {
    Key {
        bytes: b"",
        hash,
        slot,
        db,
    }
}
