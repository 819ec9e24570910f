//! Numbers of one core: written by its thread once per turn with relaxed stores, readable from anywhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What a core counts while it runs; published into [`Stats`] once per turn.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) kernel_entries: u64,
    pub(crate) turns: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) recvs: u64,
    pub(crate) sends: u64,
    pub(crate) turns_us: u64,
}

/// The counters of one core, shared.
#[derive(Default, Debug)]
pub struct Stats {
    counted: [AtomicU64; COUNTED],
    /// Values at the last reset, subtracted from what is read: the owner never sees a reset and needs no lock.
    forgotten: [AtomicU64; COUNTED],
    turn_longest_us: AtomicU64,
    turn_longest_cpu_us: AtomicU64,
    cpu_clock: AtomicBool,
}

/// Number of counters in [`Tally`].
const COUNTED: usize = 7;

/// The counters at one instant. Fields are read one by one: sums over them may be off by a turn.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StatsNow {
    /// System calls the driver made, of any kind.
    pub kernel_entries: u64,
    /// Passes of the loop.
    pub turns: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Receives that brought bytes.
    pub recvs: u64,
    /// Sends that took bytes.
    pub sends: u64,
    /// How long all turns took, from the end of the wait to the start of the next, us.
    pub turns_us: u64,
    /// Longest turn by the monotonic clock, from the end of the wait to the start of the next.
    pub turn_longest_us: u64,
    /// Longest turn by the thread's CPU clock; measured only while [`Stats::cpu_clock`] is on.
    pub turn_longest_cpu_us: u64,
}

impl Stats {
    /// The counters since the start or the last reset.
    pub fn read(&self) -> StatsNow {
        let now = |i: usize| {
            let counted = self.counted[i].load(Relaxed);
            counted.saturating_sub(self.forgotten[i].load(Relaxed))
        };
        let [
            kernel_entries,
            turns,
            bytes_in,
            bytes_out,
            recvs,
            sends,
            turns_us,
        ] = std::array::from_fn(now);
        StatsNow {
            kernel_entries,
            turns,
            bytes_in,
            bytes_out,
            recvs,
            sends,
            turns_us,
            turn_longest_us: self.turn_longest_us.load(Relaxed),
            turn_longest_cpu_us: self.turn_longest_cpu_us.load(Relaxed),
        }
    }

    /// Counts from here on.
    pub fn reset(&self) {
        for (forgotten, counted) in self.forgotten.iter().zip(&self.counted) {
            forgotten.store(counted.load(Relaxed), Relaxed);
        }
        self.turn_longest_us.store(0, Relaxed);
        self.turn_longest_cpu_us.store(0, Relaxed);
    }

    /// Whether to measure turns by the thread's CPU clock too: two system calls a turn.
    pub fn cpu_clock(&self, on: bool) {
        self.cpu_clock.store(on, Relaxed);
    }

    pub(crate) fn is_cpu_clock(&self) -> bool {
        self.cpu_clock.load(Relaxed)
    }

    pub(crate) fn publish(&self, tally: &Tally) {
        let now = [
            tally.kernel_entries,
            tally.turns,
            tally.bytes_in,
            tally.bytes_out,
            tally.recvs,
            tally.sends,
            tally.turns_us,
        ];
        for (counted, value) in self.counted.iter().zip(now) {
            counted.store(value, Relaxed);
        }
    }

    pub(crate) fn turn_took(&self, us: u64) {
        if us > self.turn_longest_us.load(Relaxed) {
            self.turn_longest_us.store(us, Relaxed);
        }
    }

    pub(crate) fn turn_took_cpu(&self, us: u64) {
        if us > self.turn_longest_cpu_us.load(Relaxed) {
            self.turn_longest_cpu_us.store(us, Relaxed);
        }
    }
}
