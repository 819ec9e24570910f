//! Latencies in nanoseconds, kept whole: at most some hundred thousand are measured in one run, so they are sorted
//! instead of counted in classes, and a percentile is exact.

/// The samples of one run.
#[derive(Default)]
pub(crate) struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    pub(crate) fn add(&mut self, nanoseconds: u128) {
        self.nanoseconds
            .push(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    }

    pub(crate) fn len(&self) -> usize {
        self.nanoseconds.len()
    }

    /// Microseconds that this share of the samples (0 to 1) does not exceed; 0 without samples.
    pub(crate) fn us(&mut self, share: f64) -> f64 {
        self.nanoseconds.sort_unstable();
        let last = self.nanoseconds.len().saturating_sub(1);
        let rank = (share * self.nanoseconds.len() as f64).ceil() as usize;
        let index = rank.saturating_sub(1).min(last);
        self.nanoseconds.get(index).copied().unwrap_or(0) as f64 / 1000.0
    }
}

/// The middle of some figures; not a number without any.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().filter(|x| x.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    match (figures.get(half), half.checked_sub(1)) {
        (Some(upper), Some(below)) if figures.len().is_multiple_of(2) => figures
            .get(below)
            .map_or(f64::NAN, |lower| (lower + upper) / 2.0),
        (Some(middle), _) => *middle,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.us(0.5), 0.0);
        (1..=100).rev().for_each(|us| latencies.add(us * 1000));
        assert_eq!(latencies.us(0.5), 50.0);
        assert_eq!(latencies.us(0.99), 99.0);
        assert_eq!(latencies.us(0.999), 100.0);
        assert_eq!(latencies.us(1.0), 100.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
