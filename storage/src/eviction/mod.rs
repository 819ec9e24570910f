//! Eviction: which keys a shard gives up when memory is needed.
//!
//! ```text
//! Shard::evict(rng, bytes, keys_max)
//!   ├── Policy::propose ── lru.rs  lfu.rs  ttl.rs   a score each, the best of some samples and a pool   pool.rs
//!   │      (sees Keys)  ├─ random.rs                 one sample
//!   │                   └─ s3fifo.rs                 a short queue, a hand over the rest, ghosts        ghost.rs
//!   ├── Keys: uniform samples, a walk in the order of the tables                                        keys.rs
//!   └── Edit::evict_item: effect, event, watchers, bytes, as with any other removal                     steps.rs
//! ```
//! A policy proposes and never removes; it looks at a bounded number of items for each proposal, so that whoever frees memory
//! can stop after any key. Keys on a visit elsewhere are not seen; those on a visit here belong to another shard.
//!
//! What a policy knows of a key is the `access` word of the item (4 bytes that are there anyway), written as [`Uses`] says; the
//! policies of Redis need nothing else, `allkeys-s3fifo` some 3 bytes a key while it is chosen.

mod ghost;
mod keys;
mod lfu;
mod lru;
mod pool;
mod random;
mod ring;
mod s3fifo;
mod ttl;

use crate::hash::{Key, hash_bytes};
use crate::item::Item;
use crate::lfu::Lfu;
use crate::rng::Rng;
use crate::shard::Shard;
use crate::slot::Slot;
use crate::uses::Uses;

pub(crate) use s3fifo::Word as QueueWord;

use keys::Weights;
pub(crate) use keys::{Found, Hand, Keys, walk};

/// Items that are looked at for one proposal; a policy that has found none by then goes on at the next call.
const LOOKS_PER_PROPOSAL: usize = 64;
/// Proposals without a candidate after which a call gives up, for its caller has other things to do.
const FRUITLESS_MAX: usize = 16;

/// How a policy chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that has not been used for longest.
    Lru,
    /// The one that is used least often.
    Lfu,
    /// Any.
    Random,
    /// The one whose deadline comes first.
    Ttl,
    /// As S3-FIFO does: new keys that are not used again go soon (Yang et al., SOSP 2023).
    S3Fifo,
}

/// The options of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// None: keys are not evicted.
    pub choice: Option<Choice>,
    /// Only keys with a deadline are.
    pub volatile: bool,
    /// Keys compared for one eviction.
    pub samples: usize,
    /// How uses are counted for [`Choice::Lfu`].
    pub lfu: Lfu,
}

impl Eviction {
    /// What items are to note of their uses.
    fn uses(&self) -> Uses {
        match self.choice {
            Some(Choice::Lfu) => Uses::Frequency(self.lfu),
            Some(Choice::S3Fifo) => Uses::Queue,
            _ => Uses::Last,
        }
    }
}

/// What a call of [`Shard::evict`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Keys that are gone.
    pub keys: usize,
    /// Bytes that they took. Large values are freed in slices and count as used until then.
    pub bytes: usize,
    /// It ended because no candidate was met.
    pub fruitless: bool,
}

/// Chooses keys to give up.
pub(crate) trait Policy: Send {
    /// The next one. `keys` says when enough have been looked at: then there is none yet.
    fn propose(&mut self, keys: &mut Keys<'_>) -> Option<Found>;

    /// Whether it takes samples, for which the sizes of all slots are to be known.
    fn needs_samples(&self) -> bool {
        true
    }

    /// A key has come to so many others; what its item notes of its use. Only asked of those for whom keys stand in queues.
    fn enqueue(&mut self, _key: &Key<'_>, _keys_held: usize, now_s: u32) -> u32 {
        now_s
    }

    /// Bytes of heap of its own.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The policy in force, with what it remembers.
pub(crate) struct Evictor {
    policy: Box<dyn Policy>,
    volatile: bool,
    weights: Weights,
}

impl Evictor {
    fn new(choice: Choice, options: &Eviction) -> Evictor {
        let samples = options.samples.max(1);
        let policy: Box<dyn Policy> = match choice {
            Choice::Lru => Box::new(pool::Sampled::new(samples, lru::Lru)),
            Choice::Lfu => Box::new(pool::Sampled::new(samples, lfu::LeastUsed(options.lfu))),
            Choice::Ttl => Box::new(pool::Sampled::new(samples, ttl::Ttl)),
            Choice::Random => Box::new(random::Random),
            Choice::S3Fifo => Box::new(s3fifo::S3Fifo::new()),
        };
        Evictor {
            policy,
            volatile: options.volatile,
            weights: Weights::default(),
        }
    }

    pub(crate) fn enqueue(&mut self, key: &Key<'_>, keys_held: usize, now_s: u32) -> u32 {
        self.policy.enqueue(key, keys_held, now_s)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.policy.heap_bytes() + self.weights.heap_bytes()
    }
}

impl Shard {
    /// Chooses how keys are evicted, and with it what their items note of their uses.
    pub fn set_eviction(&mut self, options: Eviction) {
        if self.eviction == Some(options) {
            return;
        }
        self.eviction = Some(options);
        self.uses = options.uses();
        let evictor = options.choice.map(|choice| Evictor::new(choice, &options));
        self.evictor = evictor.map(Box::new);
    }

    /// Evicts keys until `bytes` are gone, `keys_max` at most. Randomness comes from `rng`.
    pub fn evict(&mut self, rng: &mut Rng, bytes: usize, keys_max: usize) -> Evicted {
        let mut done = Evicted::default();
        let Some(mut evictor) = self.evictor.take() else {
            done.fruitless = true;
            return done;
        };
        let mut fruitless = 0;
        while done.bytes < bytes && done.keys < keys_max && !done.fruitless {
            if evictor.policy.needs_samples() {
                evictor.weights.refresh(self, evictor.volatile);
            }
            let mut keys = Keys {
                shard: self,
                weights: &evictor.weights,
                rng,
                volatile: evictor.volatile,
                looks: LOOKS_PER_PROPOSAL,
            };
            match evictor.policy.propose(&mut keys) {
                Some(found) => {
                    done.bytes += self.evict_found(found);
                    done.keys += 1;
                    evictor.weights.note_gone();
                    fruitless = 0;
                }
                None => {
                    fruitless += 1;
                    evictor.weights.note_miss();
                    done.fruitless = fruitless == FRUITLESS_MAX;
                }
            }
        }
        self.evictor = Some(evictor);
        done
    }

    /// Removes a key that was proposed; the bytes that it took.
    fn evict_found(&mut self, found: Found) -> usize {
        let bytes = found.item.key().to_vec();
        let key = Key {
            hash: hash_bytes(&bytes),
            bytes: &bytes,
            slot: found.slot,
            db: found.db,
        };
        let db = usize::from(found.db);
        let before = self.dbs[db].bytes;
        self.edit().evict_item(&key, found.item);
        before.saturating_sub(self.dbs[db].bytes)
    }

    /// Keys evicted since the beginning.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What an item of a new key notes of its use, while keys stand in queues.
    #[cold]
    pub(crate) fn enqueue(&mut self, key: &Key<'_>) -> u32 {
        let now_s = self.now_s();
        let is_home = self.owned.contains(key.slot);
        let held = self.dbs.iter().map(|db| db.len).sum();
        match &mut self.evictor {
            Some(evictor) if is_home => evictor.enqueue(key, held, now_s),
            // Whose queues are elsewhere begins where the hand passes.
            _ => QueueWord::in_main(now_s).0,
        }
    }
}

/// Whether two looks have found the same item: its slot may have changed since.
pub(crate) fn still_there(shard: &Shard, db: u8, slot: Slot, hash: u64) -> Option<Item> {
    let table = shard.dbs[usize::from(db)].table(slot)?;
    table.find(hash, |item: Item| hash_bytes(item.key()) == hash)
}

#[cfg(test)]
mod tests;
