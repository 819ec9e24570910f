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

/// See the module's head.
#[derive(Default)]
pub(crate) struct Ghosts {
    buckets: Vec<u128>,
}

impl Ghosts {
    /// Sees to it that about so many are remembered; forgets all when that is much more or less than before.
    pub(crate) fn fit(&mut self, keys: usize) {
        let now = self.buckets.len() * LANES;
        if keys > now + now / 2 + LANES || keys < now / 4 {
            self.buckets = vec![0; keys.div_ceil(LANES)];
        }
    }

    fn place(&self, hash: u64) -> (usize, u128) {
        let place = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        // (The low bits are not those that choose the bucket.)
        (place as usize, u128::from((hash as u16).max(1)))
    }

    /// A key of this hash has been evicted.
    pub(crate) fn add(&mut self, hash: u64) {
        let (place, print) = self.place(hash);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket = *bucket << LANE_BITS | print;
        }
    }

    /// Whether one was, lately; it is forgotten then.
    pub(crate) fn take(&mut self, hash: u64) -> bool {
        let (place, print) = self.place(hash);
        let Some(bucket) = self.buckets.get_mut(place) else {
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
        class_size(self.buckets.capacity() * size_of::<u128>())
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
        assert_eq!(ghosts.heap_bytes(), class_size(16_000));
    }
}
