//! Ghosts: keys that were evicted lately, as 16 bits of their hashes.
//!
//! ```text
//! bucket, 16 bytes: | newest | ... | oldest |    8 fingerprints; a new one pushes the others on, and the oldest out
//! ```
//! Two bytes a key remembered. A bucket is a queue of its own, so all together are about one queue of the last keys evicted. A
//! stranger is taken for a ghost once in 8,000 times.

use crate::account::class_size;

const LANES: usize = 8;
const LANE_BITS: u32 = 16;
const EACH: u128 = 0x0001_0001_0001_0001_0001_0001_0001_0001;
const HIGH: u128 = EACH << 15;
/// Buckets of a chunk: 16 KiB, that are made in no time.
const CHUNK: usize = 1024;
/// Keys that a chunk remembers.
const CHUNK_KEYS: usize = CHUNK * LANES;
/// Chunks that a call gives back at most.
const RETURNED_MAX: usize = 16;

/// See the module's head.
#[derive(Default)]
pub(crate) struct Ghosts {
    chunks: Vec<Box<[u128; CHUNK]>>,
    /// The first so many of them are in use. Others are to be, when there are enough, or are being given back.
    used: usize,
    /// So many there are to be.
    asked: usize,
    /// Something has been remembered.
    has_some: bool,
}

impl Ghosts {
    /// Goes a step towards remembering about so many keys: makes one chunk, or gives some back. Whoever evicts or adds keys calls it time
    /// and again. When the number of chunks in use changes, what was remembered is forgotten: so that only happens, once there is
    /// something to forget, when keys are much more or less than before.
    pub(crate) fn fit(&mut self, keys: usize) {
        let asked = self.asked * CHUNK_KEYS;
        let (least, most) = if self.has_some {
            (asked / 4, asked + asked / 2)
        } else {
            (asked / 2, asked)
        };
        if keys > most || keys < least {
            self.asked = keys.div_ceil(CHUNK_KEYS);
            self.used = self.used.min(self.asked);
        }
        if self.chunks.len() < self.asked {
            self.chunks.push(Box::new([0; CHUNK]));
        } else if self.chunks.len() > self.asked {
            let left = self.chunks.len().saturating_sub(RETURNED_MAX);
            self.chunks.truncate(left.max(self.asked));
        }
        if self.chunks.len() == self.asked {
            self.used = self.asked;
        }
    }

    /// The bucket of a hash, and the fingerprint.
    fn bucket(&mut self, hash: u64) -> Option<(&mut u128, u128)> {
        let place = (u128::from(hash) * (self.used * CHUNK) as u128) >> 64;
        let place = place as usize;
        let chunk = self.chunks[..self.used].get_mut(place / CHUNK)?;
        // (The low bits are not those that choose the bucket.)
        let print = u128::from((hash as u16).max(1));
        Some((&mut chunk[place % CHUNK], print))
    }

    /// A key of this hash has been evicted.
    pub(crate) fn add(&mut self, hash: u64) {
        self.has_some = true;
        if let Some((bucket, print)) = self.bucket(hash) {
            *bucket = *bucket << LANE_BITS | print;
        }
    }

    /// Whether one was, lately; it is forgotten then.
    pub(crate) fn take(&mut self, hash: u64) -> bool {
        let Some((bucket, print)) = self.bucket(hash) else {
            return false;
        };
        let same = *bucket ^ (EACH * print);
        // The lowest lane that is zero is found exactly; a borrow may only mark those above it.
        let zero = same.wrapping_sub(EACH) & !same & HIGH;
        if zero == 0 {
            return false;
        }
        let lane = zero.trailing_zeros() / LANE_BITS;
        *bucket &= !(0xffff << (lane * LANE_BITS));
        true
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunks.len() * class_size(CHUNK * size_of::<u128>())
            + class_size(self.chunks.capacity() * size_of::<Box<[u128; CHUNK]>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn the_last_ones_are_remembered_and_strangers_hardly_ever() {
        let (mut ghosts, mut rng) = (Ghosts::default(), Rng::new(5));
        assert!(!ghosts.take(7));
        ghosts.add(7);
        ghosts.fit(8000);
        let hashes: Vec<u64> = (0..40_000).map(|_| rng.next_u64()).collect();
        hashes.iter().for_each(|hash| ghosts.add(*hash));
        let known = |ghosts: &mut Ghosts, hashes: &[u64]| {
            hashes.iter().filter(|hash| ghosts.take(**hash)).count()
        };
        let strangers: Vec<u64> = (0..40_000).map(|_| rng.next_u64()).collect();
        assert!(known(&mut ghosts, &strangers) < 30);
        let newest = known(&mut ghosts, &hashes[36_000..]);
        assert!((3800..=4000).contains(&newest), "{newest}");
        let oldest = known(&mut ghosts, &hashes[..20_000]);
        assert!(oldest < 300, "{oldest}");
        assert_eq!(known(&mut ghosts, &hashes[36_000..]), 0, "once only");
        assert_eq!(ghosts.chunks.len(), 1);
        let list = class_size(ghosts.chunks.capacity() * 8);
        assert_eq!(ghosts.heap_bytes(), 16_384 + list);
    }

    #[test]
    fn chunks_come_and_go_a_few_at_a_time() {
        let mut ghosts = Ghosts::default();
        let fit = |ghosts: &mut Ghosts, keys, calls| {
            (0..calls).for_each(|_| ghosts.fit(keys));
            (ghosts.chunks.len(), ghosts.used)
        };
        // Keys come before there is a ghost: chunks keep up.
        for keys in 1..=30 * CHUNK_KEYS {
            ghosts.fit(keys);
            assert_eq!(ghosts.used, keys.div_ceil(CHUNK_KEYS));
        }
        assert_eq!(fit(&mut ghosts, 15 * CHUNK_KEYS, 100), (30, 30));
        assert_eq!(fit(&mut ghosts, 10 * CHUNK_KEYS, 1), (14, 10));
        assert_eq!(fit(&mut ghosts, 10 * CHUNK_KEYS, 1), (10, 10));
        // Now there are some, and nothing is forgotten for little.
        ghosts.add(7);
        assert_eq!(fit(&mut ghosts, 15 * CHUNK_KEYS, 100), (10, 10));
        assert!(ghosts.take(7));
        ghosts.add(7);
        let much = 15 * CHUNK_KEYS + 1;
        assert_eq!(fit(&mut ghosts, much, 3), (13, 10));
        assert!(ghosts.take(7), "until all are there");
        // What makes room for chunks does not end their growth.
        assert_eq!(fit(&mut ghosts, much - 100, 100), (16, 16));
        assert_eq!(fit(&mut ghosts, 4 * CHUNK_KEYS, 100), (16, 16));
        ghosts.add(7);
        assert_eq!(fit(&mut ghosts, 0, 1), (0, 0));
        ghosts.add(7);
        assert!(!ghosts.take(7));
        // Many keys at once: nothing is remembered until there is room for about all.
        assert_eq!(fit(&mut ghosts, 9 * CHUNK_KEYS, 2), (2, 0));
        ghosts.add(7);
        assert!(!ghosts.take(7));
        assert_eq!(fit(&mut ghosts, 9 * CHUNK_KEYS, 7), (9, 9));
    }
}
