//! The key whose deadline comes first.

use crate::eviction::pool::Score;
use crate::item::Item;
use crate::shard::Shard;

/// By the deadline.
pub(crate) struct Ttl;

impl Score for Ttl {
    fn score(&self, item: Item, _: &Shard) -> u64 {
        // (Only keys with a deadline come here.)
        u64::MAX - item.deadline_ms().unwrap_or(u64::MAX)
    }
}
