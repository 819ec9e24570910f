//! The best of some samples, as Redis chooses: each eviction takes a few, and the best of all that were seen lately goes.
//!
//! The pool holds no keys, only where they are and their hashes: 24 bytes each. A key that has been used since it was put there
//! has another score and is let go; another one of the same hash would do as well.

use crate::eviction::{Found, Keys, Policy, still_there};
use crate::hash::hash_bytes;
use crate::item::Item;
use crate::shard::Shard;
use crate::slot::Slot;

/// Candidates remembered.
const POOL_LEN_MAX: usize = 16;

/// What makes one key a better candidate than another.
pub(crate) trait Score: Send {
    /// The larger, the sooner it goes.
    fn score(&self, item: Item, shard: &Shard) -> u64;
}

struct Candidate {
    score: u64,
    hash: u64,
    slot: Slot,
    db: u8,
}

/// A policy that goes by a score.
pub(crate) struct Sampled<S> {
    samples: usize,
    score: S,
    /// The best last.
    pool: Vec<Candidate>,
}

impl<S: Score> Sampled<S> {
    pub(crate) fn new(samples: usize, score: S) -> Self {
        Sampled {
            samples,
            score,
            pool: Vec::with_capacity(POOL_LEN_MAX + 1),
        }
    }

    fn add(&mut self, found: Found, shard: &Shard) {
        let score = self.score.score(found.item, shard);
        let is_full = self.pool.len() == POOL_LEN_MAX;
        if is_full && self.pool.first().is_some_and(|worst| worst.score >= score) {
            return;
        }
        let hash = hash_bytes(found.item.key());
        let known = |one: &Candidate| one.hash == hash && one.db == found.db;
        if self.pool.iter().any(known) {
            return;
        }
        let at = self.pool.partition_point(|one| one.score < score);
        let candidate = Candidate {
            score,
            hash,
            slot: found.slot,
            db: found.db,
        };
        self.pool.insert(at, candidate);
        if is_full {
            self.pool.remove(0);
        }
    }

    /// Takes the best that is as good as it was.
    fn take(&mut self, keys: &Keys<'_>) -> Option<Found> {
        while let Some(Candidate {
            score,
            hash,
            slot,
            db,
        }) = self.pool.pop()
        {
            let is_here = keys.shard.owned.contains(slot);
            let item = still_there(keys.shard, db, slot, hash).filter(|_| is_here);
            let item = item.filter(|item| !keys.volatile || item.deadline_ms().is_some());
            if let Some(item) = item
                && self.score.score(item, keys.shard) >= score
            {
                return Some(Found { db, slot, item });
            }
        }
        None
    }
}

impl<S: Score> Policy for Sampled<S> {
    fn propose(&mut self, keys: &mut Keys<'_>) -> Option<Found> {
        let shard = keys.shard;
        keys.samples(self.samples, |found| self.add(found, shard));
        self.take(keys)
    }
}
