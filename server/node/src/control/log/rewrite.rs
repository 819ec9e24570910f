//! When the log is rewritten: what is known of rewrites, and what asks for the next one.
//!
//! ```text
//! BGREWRITEAOF, the log turned on ──> scheduled ─┐
//! the log has grown by so many percent ──────────┴──> due()? ──> a snapshot whose cut is a position of the log (image.rs)
//!                                                                     └──> end(): counted; the log has a base
//! ```
//! After some failures in a row the next try by itself waits: a minute, two, four, at most an hour. Whoever asks by hand is served
//! at once.

/// Failures in a row from which on tries wait, and how long at most, minutes.
const FAILURES_MAX: u32 = 3;
const WAIT_MINUTES_MAX: u64 = 60;
/// How soon one that failed is tried again before that, ms.
const RETRY_MS: u64 = 1000;

/// See the module's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    /// One is to be begun as soon as it can.
    pub scheduled: bool,
    /// How long the last one took, seconds.
    pub last_took_s: Option<u64>,
    /// The last one failed.
    pub has_failed: bool,
    /// Those that failed since one succeeded.
    pub failures: u32,
    /// Those that were begun.
    pub count: u64,
    /// When somebody first asked for another one after the last that failed, unix ms.
    failed_ms: Option<u64>,
}

/// How long the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes now.
    pub now: u64,
    /// Bytes after the last rewrite; after a start those of the base.
    pub before: u64,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// `auto-aof-rewrite-percentage`: 0 for never.
    pub percent: u64,
    /// `auto-aof-rewrite-min-size`, bytes.
    pub bytes_min: u64,
}

impl Rewrites {
    /// One begins.
    pub fn begin(&mut self) {
        self.scheduled = false;
        self.count += 1;
    }

    /// Somebody asks for one by hand.
    pub fn ask(&mut self) {
        self.scheduled = true;
        self.failures = 0;
    }

    /// One has ended.
    pub fn end(&mut self, took_s: u64, has_failed: bool) {
        self.last_took_s = Some(took_s);
        self.has_failed = has_failed;
        self.failures = if has_failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.failed_ms = None;
    }

    /// One cannot even begin.
    pub fn fail(&mut self) {
        self.scheduled = false;
        self.end(self.last_took_s.unwrap_or(0), true);
    }

    /// Whether one is to wait, since those before have failed: the time counts from the first look.
    pub fn waits(&mut self, now_ms: u64) -> bool {
        if self.failures == 0 {
            return false;
        }
        let since_ms = now_ms.saturating_sub(*self.failed_ms.get_or_insert(now_ms));
        match self.failures.checked_sub(FAILURES_MAX) {
            None => since_ms < RETRY_MS,
            Some(more) => {
                let minutes = 1u64.checked_shl(more).unwrap_or(WAIT_MINUTES_MAX);
                since_ms < minutes.clamp(1, WAIT_MINUTES_MAX) * 60_000
            }
        }
    }

    /// By how many percent the log has grown, if that asks for a rewrite.
    pub fn has_grown(&self, sizes: Sizes, growth: Growth) -> Option<u64> {
        if growth.percent == 0 || sizes.now <= growth.bytes_min {
            return None;
        }
        let of_before = u128::from(sizes.now) * 100 / u128::from(sizes.before.max(1));
        let percent = u64::try_from(of_before)
            .unwrap_or(u64::MAX)
            .saturating_sub(100);
        (percent >= growth.percent).then_some(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_asks_for_one() {
        let growth = |percent, bytes_min| Growth { percent, bytes_min };
        let cases = [
            ((200, 100), growth(100, 0), Some(100)),
            ((199, 100), growth(100, 0), None),
            ((200, 100), growth(100, 200), None),
            ((201, 100), growth(100, 200), Some(101)),
            ((1000, 0), growth(100, 64), Some(99_900)),
            ((1000, 10), growth(0, 64), None),
            ((50, 100), growth(1, 0), None),
            ((u64::MAX, 0), growth(1, 0), Some(u64::MAX - 100)),
        ];
        for ((now, before), growth, expected) in cases {
            let found = Rewrites::default().has_grown(Sizes { now, before }, growth);
            assert_eq!(found, expected, "{now} {before} {growth:?}");
        }
    }

    #[test]
    fn failures_make_the_next_one_wait() {
        let mut rewrites = Rewrites::default();
        assert!(!rewrites.waits(0));
        for ms in [1_000, 1_000, 60_000, 120_000, 240_000] {
            rewrites.begin();
            rewrites.end(7, true);
            assert!(rewrites.waits(50));
            assert!(rewrites.waits(50 + ms - 1), "{rewrites:?}");
            assert!(!rewrites.waits(50 + ms), "{rewrites:?}");
        }
        (0..200).for_each(|_| rewrites.end(7, true));
        assert!(rewrites.waits(50));
        assert!(rewrites.waits(50 + 3_599_999) && !rewrites.waits(50 + 3_600_000));
        rewrites.ask();
        assert!(rewrites.scheduled && !rewrites.waits(51));
        rewrites.begin();
        rewrites.end(1, false);
        let known = (rewrites.has_failed, rewrites.failures, rewrites.count);
        assert_eq!(known, (false, 0, 6));
    }
}
