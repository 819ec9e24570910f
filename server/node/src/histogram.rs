//! How long the calls of one command took: a count for each small range of ticks.
//!
//! A range is a 32nd of a power of two, so a percentile is told within 3 %. Times are ticks of the processor's counter, and
//! become microseconds only when they are shown.
//!
//! ```text
//! ticks   32 .. 63, each | 64, 66 .. 126 | 128, 132 .. 252 | ..  2^41
//! ranges  32             | 32            | 32              |
//! ```

/// Bits of a time that tell its range: the highest and so many behind it.
const SHARP_BITS: u32 = 5;
/// The ranges of one power of two.
const EACH: usize = 1 << SHARP_BITS;
/// Times beyond 2 to this are counted as the longest: ten minutes or so.
const TICKS_BITS_MAX: u32 = 41;
/// Ranges: 9 kB of counts for a command that has been called.
const RANGES: usize = (TICKS_BITS_MAX - SHARP_BITS) as usize * EACH;
/// The first bound that LATENCY HISTOGRAM shows, ns; each of the others is twice the one before.
const FIRST_BOUND_NS: u64 = 1024;

/// Counts by range; empty until the first call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(Vec<u64>);

/// The range of a time: a float's exponent and the highest bits of its fraction, which are those of the time, side by side. Times
/// below 32 ticks have none: nothing is that quick.
#[inline(always)]
fn range(ticks: u64) -> usize {
    const FIRST: usize = (1023 + SHARP_BITS as usize) << SHARP_BITS;
    let bits = (ticks.cast_signed() as f64).to_bits();
    ((bits >> (52 - SHARP_BITS)) as usize).wrapping_sub(FIRST)
}

/// The longest time of a range.
fn longest(range: usize) -> u64 {
    let (shift, place) = (range / EACH, range % EACH);
    ((place + EACH + 1) as u64) << shift
}

impl Histogram {
    /// Counts calls that took so long.
    #[inline]
    pub fn count(&mut self, ticks: u64, calls: u64) {
        match self.0.get_mut(range(ticks)) {
            Some(count) => *count += calls,
            None => self.count_rarely(ticks, calls),
        }
    }

    /// The first call, and one that takes longer than any range.
    #[cold]
    fn count_rarely(&mut self, ticks: u64, calls: u64) {
        self.0.resize(RANGES, 0);
        let range = if ticks < EACH as u64 { 0 } else { range(ticks) };
        self.0[range.min(RANGES - 1)] += calls;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Histogram) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        let pairs = self.0.iter_mut().zip(&other.0);
        pairs.for_each(|(count, other)| *count += other);
    }

    /// Calls.
    pub fn calls(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that so many percent of the calls did not exceed, ticks.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = (percent / 100.0 * self.calls() as f64 + 0.5) as u64;
        let mut so_far = 0;
        let found = self.0.iter().position(|count| {
            so_far += count;
            so_far >= wanted.max(1)
        });
        found.map_or(0, longest)
    }

    /// Calls up to each bound of LATENCY HISTOGRAM, microseconds, where there are more than up to the one before.
    pub fn cumulative(&self, ticks_per_us: f64) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let (mut bound, mut calls, mut told) = (FIRST_BOUND_NS, 0, 0);
        let mut ranges = self.0.iter().enumerate().peekable();
        while ranges.peek().is_some() {
            // Redis shows the end of its own range at that bound, which is a 128th long.
            let end_ns = bound + bound / 128 - 1;
            let is_below = |range: &(usize, &u64)| {
                let middle = longest(range.0) - (longest(range.0) >> (SHARP_BITS + 2));
                (middle as f64 / ticks_per_us * 1000.0) as u64 <= end_ns
            };
            while let Some((_, count)) = ranges.next_if(is_below) {
                calls += count;
            }
            if calls > told {
                found.push((end_ns / 1000, calls));
                told = calls;
            }
            bound *= 2;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{Histogram, RANGES, longest, range};

    #[test]
    fn ranges_follow_one_another_and_are_narrow() {
        for (ticks, expected) in [(32, 0), (33, 1), (63, 31), (64, 32), (65, 32), (66, 33)] {
            assert_eq!(range(ticks), expected, "{ticks}");
        }
        for at in 1..RANGES {
            let (end, before) = (longest(at), longest(at - 1));
            assert_eq!(range(end - 1), at);
            assert_eq!(range(before), at);
            assert!((end - before) as f64 <= 0.032 * end as f64);
        }
        assert!(range((1 << 41) - 1) < RANGES && range(1 << 41) >= RANGES);
    }

    #[test]
    fn what_is_counted_is_told() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50.0), histogram.calls()), (0, 0));
        for ticks in [1000; 90].into_iter().chain([100_000; 9]).chain([1 << 50]) {
            histogram.count(ticks, 1);
        }
        let mut twice = histogram.clone();
        twice.add(&histogram);
        assert_eq!((histogram.calls(), twice.calls()), (100, 200));
        for (percent, least) in [(0.0, 1000), (50.0, 1000), (99.0, 100_000), (100.0, 1 << 40)] {
            let found = histogram.percentile(percent);
            assert!(
                (least..=least + least / 16).contains(&found) || least == 1 << 40,
                "{found}"
            );
            assert_eq!(twice.percentile(percent), found);
        }
        // A tick a nanosecond: the bounds of Redis.
        let told = histogram.cumulative(1000.0);
        assert_eq!(told[..2], [(1, 90), (132, 99)]);
        assert_eq!(told.last().map(|(_, calls)| *calls), Some(100));
    }
}
