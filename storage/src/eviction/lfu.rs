//! The key that is used least often, by the counter of `lfu.rs` of the crate.

use crate::eviction::pool::Score;
use crate::item::Item;
use crate::lfu::Lfu;
use crate::shard::Shard;

/// By the counter as it has fallen until now.
pub(crate) struct LeastUsed(pub(crate) Lfu);

impl Score for LeastUsed {
    fn score(&self, item: Item, shard: &Shard) -> u64 {
        u64::from(u8::MAX - self.0.frequency(item.access_s(), shard.now_s()))
    }
}
