//! How often a key is used, as Redis counts it for its LFU policies: a counter of 8 bits that grows ever more slowly and falls
//! with time. It takes the place of the time of the last access in an item's block while such a policy is chosen.
//!
//! ```text
//! access u32: 0 | minutes (16 bits) when it was last reckoned | counter (8 bits)
//! ```
//! A chance of 1 / ((counter - 5) * log factor + 1) at each use to grow by one: with a factor of 10 some 100 uses make 10,
//! a million 255. What an item holds when the policy changes is read as the other thing, as in Redis; use and time mend it.

use crate::Rng;

const COUNTER_MAX: u32 = 255;

/// The options of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lfu {
    /// How slowly it grows (`lfu-log-factor`).
    pub log_factor: u32,
    /// Minutes after which it falls by one (`lfu-decay-time`); 0 for never.
    pub decay_min: u32,
}

impl Lfu {
    /// The counter of a new key: it should have a chance beside old ones.
    pub const FIRST: u8 = 5;

    fn minutes(now_s: u32) -> u32 {
        (now_s / 60) & 0xffff
    }

    /// The field of a key that has been used so often.
    pub(crate) fn with(now_s: u32, counter: u8) -> u32 {
        Self::minutes(now_s) << 8 | u32::from(counter)
    }

    /// The field of a new key.
    pub(crate) fn first(now_s: u32) -> u32 {
        Self::with(now_s, Self::FIRST)
    }

    /// The counter as it is now.
    pub(crate) fn frequency(self, access: u32, now_s: u32) -> u8 {
        let elapsed_min = Self::minutes(now_s).wrapping_sub(access >> 8) & 0xffff;
        let falls = elapsed_min.checked_div(self.decay_min).unwrap_or(0);
        (access & COUNTER_MAX).saturating_sub(falls) as u8
    }

    /// The field after one more use.
    pub(crate) fn used(self, access: u32, now_s: u32, rng: &mut Rng) -> u32 {
        let counter = self.frequency(access, now_s);
        let above = u64::from(counter.saturating_sub(Self::FIRST));
        let one_in = above * u64::from(self.log_factor) + 1;
        let grows = rng.next_u64().is_multiple_of(one_in);
        Self::with(now_s, counter.saturating_add(u8::from(grows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Limits, Shard, Slot, Ttl};

    #[test]
    fn the_counter_grows_as_a_logarithm_and_falls_with_time() {
        // Redis's documentation: hits and counter, by log factor.
        let table = [
            (0, 100, 104..=106),
            (1, 1000, 35..=65),
            (10, 100, 8..=13),
            (10, 1000, 14..=24),
            (10, 100_000, 130..=155),
            (100, 1000, 7..=12),
        ];
        for (log_factor, uses, expected) in table {
            let lfu = Lfu {
                log_factor,
                decay_min: 1,
            };
            let (mut rng, mut access) = (Rng::new(7), Lfu::first(600));
            (0..uses).for_each(|_| access = lfu.used(access, 600, &mut rng));
            let counter = lfu.frequency(access, 600);
            assert!(
                expected.contains(&counter),
                "{log_factor} {uses}: {counter}"
            );
            assert_eq!(lfu.frequency(access, 659), counter);
            assert_eq!(lfu.frequency(access, 600 + 3 * 60), counter - 3);
            assert_eq!(lfu.frequency(access, 600 + 300 * 60), 0);
            let never = Lfu {
                log_factor,
                decay_min: 0,
            };
            assert_eq!(never.frequency(access, 600 + 300 * 60), counter);
        }
    }

    #[test]
    fn the_minutes_begin_anew_after_45_days() {
        let lfu = Lfu {
            log_factor: 10,
            decay_min: 1,
        };
        let end_s = 0xffff * 60;
        assert_eq!(lfu.frequency(Lfu::with(end_s, 9), end_s + 120), 7);
    }

    #[test]
    fn reads_and_writes_are_uses() {
        let lfu = Lfu {
            log_factor: 0,
            decay_min: 1,
        };
        let mut shard = Shard::new(
            1,
            (0..16384).map(Slot),
            Limits::default(),
            1_700_000_000_000,
        );
        shard.set_lfu(Some(lfu));
        let key = Key::new(0, b"k");
        let frequency = |shard: &Shard| shard.info(&key).unwrap().frequency;
        shard.edit().put_string(&key, b"v", Ttl::Clear);
        assert_eq!(frequency(&shard), 5);
        let _ = (shard.text(&key), shard.text(&key));
        assert_eq!(frequency(&shard), 7);
        shard.edit().put_string(&key, &[1; 600], Ttl::Clear);
        assert_eq!(frequency(&shard), 8, "kept by who comes in its place");
        shard.edit().expire_at(&key, 1_800_000_000_000);
        assert_eq!(frequency(&shard), 9);
        shard.edit().set_frequency(&key, 200);
        assert_eq!(frequency(&shard), 200);
        shard.set_now(1_700_000_000_000 + 10 * 60_000);
        assert_eq!(frequency(&shard), 190);
        // The other policy counts time again.
        shard.set_lfu(None);
        let _ = shard.text(&key);
        assert_eq!(shard.info(&key).unwrap().idle_s, 0);
    }
}
