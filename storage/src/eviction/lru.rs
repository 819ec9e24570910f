//! The key that has not been used for longest.

use crate::eviction::pool::Score;
use crate::item::Item;
use crate::shard::Shard;

/// By the second of the last use.
pub(crate) struct Lru;

impl Score for Lru {
    fn score(&self, item: Item, shard: &Shard) -> u64 {
        u64::from(shard.now_s().saturating_sub(item.access_s()))
    }
}
