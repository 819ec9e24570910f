//! LATENCY: the delays of each kind of event, one a second at most, as long as `latency-monitor-threshold` says that a delay counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use protocol::Flags;

use crate::core::Core;
use crate::table::Row;

/// Delays of one event that are kept.
const SAMPLES_MAX: usize = 160;

/// The delays of one event.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Unix seconds and milliseconds of delay, the oldest first.
    pub samples: VecDeque<(u64, u64)>,
    /// The longest delay since the beginning.
    pub longest_ms: u64,
}

/// All events of a node.
#[derive(Default)]
pub struct Latency(Mutex<BTreeMap<&'static str, Series>>);

/// What LATENCY DOCTOR says of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// The mean delay, ms.
    pub mean_ms: u64,
    /// How far delays are from it on average, ms.
    pub deviation_ms: u64,
    /// Seconds since the oldest of them.
    pub period_s: u64,
}

impl Latency {
    /// Everything, by event.
    pub fn read<R>(&self, f: impl FnOnce(&mut BTreeMap<&'static str, Series>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a delay: of those of one second the longest counts.
    pub fn add(&self, event: &'static str, unix_s: u64, ms: u64) {
        self.read(|events| {
            let series = events.entry(event).or_default();
            series.longest_ms = series.longest_ms.max(ms);
            match series.samples.back_mut() {
                Some((at_s, last_ms)) if *at_s == unix_s => *last_ms = ms.max(*last_ms),
                _ => series.samples.push_back((unix_s, ms)),
            }
            if series.samples.len() > SAMPLES_MAX {
                series.samples.pop_front();
            }
        });
    }

    /// Forgets an event, or all; how many there were.
    pub fn reset(&self, event: Option<&[u8]>) -> usize {
        self.read(|events| {
            let before = events.len();
            match event {
                None => events.clear(),
                Some(event) => {
                    events.retain(|name, _| !event.eq_ignore_ascii_case(name.as_bytes()))
                }
            }
            before - events.len()
        })
    }
}

impl Series {
    /// See [`Analysis`].
    pub fn analyse(&self, now_s: u64) -> Analysis {
        let delays = || self.samples.iter().map(|(_, ms)| *ms);
        let len = self.samples.len().max(1) as u64;
        let mean_ms = delays().sum::<u64>() / len;
        Analysis {
            mean_ms,
            deviation_ms: delays().map(|ms| ms.abs_diff(mean_ms)).sum::<u64>() / len,
            period_s: self
                .samples
                .front()
                .map_or(0, |(at_s, _)| now_s.saturating_sub(*at_s).max(1)),
        }
    }
}

impl Core {
    /// Notes how long a command took, if that is long.
    pub fn note_latency(&mut self, row: &Row, ms: u64) {
        let is_fast = row.spec.flags.contains(Flags::FAST);
        self.note_delay(if is_fast { "fast-command" } else { "command" }, ms);
    }

    /// Notes a delay, if it is long.
    pub fn note_delay(&self, event: &'static str, ms: u64) {
        let from_ms = self.config.latency_monitor_threshold_ms;
        if from_ms > 0 && ms >= from_ms {
            let unix_s = self.now.unix_ms / 1000;
            self.node.latency.add(event, unix_s, ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Analysis, Latency, SAMPLES_MAX};

    #[test]
    fn one_delay_a_second_is_kept_and_the_longest_for_ever() {
        let latency = Latency::default();
        for (at_s, ms) in [(1, 10), (1, 30), (1, 20), (3, 50)] {
            latency.add("command", at_s, ms);
        }
        latency.read(|events| {
            let series = &events["command"];
            assert_eq!(series.samples, [(1, 30), (3, 50)]);
            let analysis = Analysis {
                mean_ms: 40,
                deviation_ms: 10,
                period_s: 9,
            };
            assert_eq!(series.analyse(10), analysis);
        });
        (10..1000).for_each(|at_s| latency.add("command", at_s, 1));
        latency.read(|events| {
            let series = &events["command"];
            assert_eq!((series.samples.len(), series.longest_ms), (SAMPLES_MAX, 50));
        });
        latency.add("expire-cycle", 1, 1);
        assert_eq!(
            (latency.reset(Some(b"x")), latency.reset(Some(b"COMMAND"))),
            (0, 1)
        );
        assert_eq!((latency.reset(None), latency.reset(None)), (1, 0));
    }
}
