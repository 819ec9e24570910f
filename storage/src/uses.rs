//! Hot path. What items note of their uses, in four bytes (`Item::access_s`): when the last one was, or how often they are used, or
//! where they stand in a queue. The policy of eviction decides ([`Shard::set_eviction`]).

use crate::eviction::QueueWord;
use crate::hash::Key;
use crate::item::Item;
use crate::lfu::Lfu;
use crate::rng::Rng;
use crate::shard::Shard;

/// What the `access` word of an item means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    /// The second of the last use.
    Last,
    /// How often it is used: `lfu.rs`.
    Frequency(Lfu),
    /// Its place in S3-FIFO: `eviction/s3fifo.rs`.
    Queue,
}

impl Shard {
    /// Counts how often keys are used, from now on; None: only notes when.
    pub fn set_lfu(&mut self, lfu: Option<Lfu>) {
        self.uses = lfu.map_or(Uses::Last, Uses::Frequency);
    }

    /// How uses are counted, if they are.
    pub(crate) fn lfu(&self) -> Option<Lfu> {
        match self.uses {
            Uses::Frequency(lfu) => Some(lfu),
            Uses::Last | Uses::Queue => None,
        }
    }

    /// A use of an item. Mostly it has been used in the same second before: nothing is written then.
    #[inline(always)]
    pub(crate) fn note_access(&self, item: Item) {
        // A counter is never as large as a time.
        if item.access_s() != self.now_s() {
            match self.uses {
                Uses::Last => item.touch(self.now_s()),
                _ => self.count_use(item),
            }
        }
    }

    #[cold]
    fn count_use(&self, item: Item) {
        match self.uses {
            Uses::Last => {}
            Uses::Frequency(lfu) => {
                let draw = self.lfu_draws.get().wrapping_add(1);
                self.lfu_draws.set(draw);
                item.touch(lfu.used(item.access_s(), self.now_s(), &mut Rng::new(draw)));
            }
            Uses::Queue => item.touch(QueueWord::used(item.access_s(), self.now_s())),
        }
    }

    /// What an item of a new key notes of its use.
    #[inline(always)]
    pub(crate) fn first_access(&mut self, key: &Key<'_>) -> u32 {
        match self.uses {
            Uses::Last => self.now_s(),
            Uses::Frequency(_) => Lfu::first(self.now_s()),
            Uses::Queue => self.enqueue(key),
        }
    }

    /// Seconds since the last use of an item; means nothing while uses are counted.
    pub(crate) fn idle_s(&self, item: Item) -> u64 {
        match self.uses {
            Uses::Queue => QueueWord::idle_s(item.access_s(), self.now_s()),
            _ => u64::from(self.now_s().saturating_sub(item.access_s())),
        }
    }

    /// How often an item is used, while that is counted, else 0.
    pub(crate) fn frequency(&self, item: Item) -> u8 {
        match self.uses {
            Uses::Frequency(lfu) => lfu.frequency(item.access_s(), self.now_s()),
            _ => 0,
        }
    }

    /// When a key was last accessed, seconds of the shard's clock (32 bits of unix time), or how often; not an access.
    pub fn access_s(&self, key: &Key<'_>) -> Option<u32> {
        self.live(key).map(Item::access_s)
    }

    /// Puts back what [`Shard::access_s`] told: for who reads without leaving a trace (CLIENT NO-TOUCH).
    pub fn set_access_s(&self, key: &Key<'_>, access_s: u32) {
        if let Some(item) = self.live(key) {
            item.touch(access_s);
        }
    }
}
