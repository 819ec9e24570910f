//! How much is done per second, from samples that the cores leave now and then.
//!
//! A core that is busy leaves a sample at most every 100 ms; an idle one leaves none, so that idleness
//! costs nothing. A rate is what has happened between a sample a second or two old and now.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Time between samples, ms.
const SAMPLE_MS_MIN: u64 = 100;
/// Samples kept: what a rate looks back upon.
const SAMPLES_MAX: usize = 16;
/// Samples older than this are only used when there is no younger one, ms.
const LOOK_BACK_MS: u64 = 1600;

/// Counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, unix ms.
    pub at_ms: u64,
    /// Commands run.
    pub commands: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Passes of the cores' loops.
    pub turns: u64,
    /// How long they took, us.
    pub turns_us: u64,
}

/// What happens in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// Commands run.
    pub commands: f64,
    /// Bytes received.
    pub bytes_in: f64,
    /// Bytes sent.
    pub bytes_out: f64,
    /// Passes of the cores' loops.
    pub turns: f64,
    /// How long they took, us.
    pub turns_us: f64,
}

/// See the module's head.
#[derive(Default)]
pub struct Rates {
    samples: Mutex<VecDeque<Sample>>,
}

impl Rates {
    /// Keeps a sample, unless there is a fresh one (or another core is just leaving its own).
    pub fn note(&self, at_ms: u64, sample: impl FnOnce() -> Sample) {
        let Ok(mut samples) = self.samples.try_lock() else {
            return;
        };
        let is_due =
            |last: &Sample| at_ms >= last.at_ms.saturating_add(SAMPLE_MS_MIN) || at_ms < last.at_ms;
        if samples.back().is_none_or(is_due) {
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(sample());
        }
    }

    /// Forgets the samples: the counters begin anew.
    pub fn forget(&self) {
        if let Ok(mut samples) = self.samples.lock() {
            samples.clear();
        }
    }

    /// What has been done per second of late.
    pub fn per_second(&self, now: Sample) -> PerSecond {
        let Ok(samples) = self.samples.lock() else {
            return PerSecond::default();
        };
        let age_ms = |sample: &Sample| now.at_ms.saturating_sub(sample.at_ms);
        let recent = samples
            .iter()
            .find(|sample| (SAMPLE_MS_MIN..=LOOK_BACK_MS).contains(&age_ms(sample)));
        let Some(from) = recent.or(samples.back()).filter(|from| age_ms(from) > 0) else {
            return PerSecond::default();
        };
        let rate =
            |now: u64, then: u64| now.saturating_sub(then) as f64 * 1000.0 / age_ms(from) as f64;
        PerSecond {
            commands: rate(now.commands, from.commands),
            bytes_in: rate(now.bytes_in, from.bytes_in),
            bytes_out: rate(now.bytes_out, from.bytes_out),
            turns: rate(now.turns, from.turns),
            turns_us: rate(now.turns_us, from.turns_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK_BACK_MS, PerSecond, Rates, SAMPLES_MAX, Sample};

    fn at(at_ms: u64, commands: u64) -> Sample {
        Sample {
            at_ms,
            commands,
            ..Sample::default()
        }
    }

    #[test]
    fn a_rate_is_what_happened_lately() {
        let rates = Rates::default();
        assert_eq!(rates.per_second(at(0, 0)), PerSecond::default());
        for n in 0..100u64 {
            rates.note(n * 100, || at(n * 100, n * 50));
            rates.note(n * 100 + 50, || unreachable!("too soon"));
        }
        assert_eq!(rates.samples.lock().unwrap().len(), SAMPLES_MAX);
        assert_eq!(rates.per_second(at(10_000, 5_000)).commands, 500.0);
        // An hour of idleness, then a look.
        let later = 10_000 + 3_600_000;
        assert!(rates.per_second(at(later, 5_000)).commands < 0.1);
        // A burst after it: the samples from before do not water it down.
        rates.note(later, || at(later, 5_000));
        assert_eq!(rates.per_second(at(later + 500, 6_000)).commands, 2_000.0);
        let old = at(later + LOOK_BACK_MS + 400, 5_000);
        assert_eq!(rates.per_second(old).commands, 0.0);
        rates.forget();
        assert_eq!(rates.per_second(old), PerSecond::default());
    }
}
