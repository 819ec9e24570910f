//! The random numbers of `math.random`: drand48's generator, so that they are the same everywhere.

use std::cell::Cell;

/// x -> x * 0x5DEECE66D + 0xB modulo 2^48.
pub(crate) struct Prng(Cell<u64>);

impl Default for Prng {
    /// The state that a server of Redis starts with.
    fn default() -> Self {
        Prng(Cell::new(0x1234_ABCD_330E))
    }
}

impl Prng {
    pub(crate) fn seed(&self, seed: i32) {
        self.0.set(u64::from(seed.cast_unsigned()) << 16 | 0x330E);
    }

    /// A number of 31 bits.
    fn next(&self) -> u32 {
        let x = self.0.get().wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & ((1 << 48) - 1);
        self.0.set(x);
        (x >> 17) as u32
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&self) -> f64 {
        let max = i32::MAX.cast_unsigned();
        f64::from(self.next() % max) / f64::from(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_drand48() {
        let prng = Prng::default();
        prng.seed(0);
        // lrand48 after srand48(0), as POSIX systems give it.
        assert_eq!(
            [prng.next(), prng.next(), prng.next()],
            [366_850_414, 1_610_402_240, 206_956_554]
        );
        prng.seed(7);
        let first = prng.unit();
        prng.seed(7);
        assert!(prng.unit() == first && (0.0..1.0).contains(&first));
    }
}
