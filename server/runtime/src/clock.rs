//! Hot path. The only caller of the clocks; both are read through the vDSO, without entering the kernel.
//!
//! Single requests are timed by the processor's counter instead: some 20 cycles a reading, where the vDSO takes twice that and
//! a division. The counter of every x86-64 processor of the last fifteen years runs at one rate on all cores; where it does not
//! (or there is none), the times of single requests are wrong, and nothing else is.
#![allow(unsafe_code, reason = "the processor's counter has no safe reading")]

use std::sync::OnceLock;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::service::Now;

/// Both clocks, for the start of a turn.
pub(crate) fn read() -> Now {
    let unix_us = micros(clock_gettime(ClockId::Realtime));
    Now {
        unix_ms: unix_us / 1000,
        unix_us,
        mono_us: mono_us(),
    }
}

/// The monotonic clock alone, for what must know its own time within a turn (a script, which may run for long).
pub fn mono_us() -> u64 {
    micros(clock_gettime(ClockId::Monotonic))
}

/// CPU time of this thread: a real system call.
pub(crate) fn thread_cpu_us() -> u64 {
    micros(clock_gettime(ClockId::ThreadCPUTime))
}

/// CPU time of the whole process, us, for scripts that ask: a real system call.
pub fn process_cpu_us() -> u64 {
    micros(clock_gettime(ClockId::ProcessCPUTime))
}

/// A number of the monotonic clock's nanoseconds, unlike any of an earlier pool in this process.
pub(crate) fn turn_seed() -> u64 {
    mono_ns()
}

fn micros(time: Timespec) -> u64 {
    // A clock set before 1970 reads as 1970: everything here counts forward.
    let s = u64::try_from(time.tv_sec).unwrap_or(0);
    let us = u64::try_from(time.tv_nsec / 1000).unwrap_or(0);
    s * 1_000_000 + us
}

/// Readings of the counter between which its rate is measured lie so far apart, ns.
const RATE_SPAN_NS: u64 = 1_000_000;
/// Readings of both clocks at once that are tried: the quickest counts.
const RATE_TRIES: usize = 8;

/// The processor's counter, for the times of single requests: see [`ticks_per_us`].
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: (1) every x86-64 processor has the instruction; it only reads a register.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    mono_ns()
}

/// Ticks of the counter in a microsecond; measured once, for a millisecond.
pub fn ticks_per_us() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (ns, begin) = both();
        while mono_ns() - ns < RATE_SPAN_NS {
            core::hint::spin_loop();
        }
        let (end_ns, end) = both();
        let rate = end.saturating_sub(begin) as f64 * 1000.0 / (end_ns - ns) as f64;
        // A counter that stands still must not make times infinite.
        if rate.is_finite() && rate > 0.0 {
            rate
        } else {
            1000.0
        }
    })
}

/// Both clocks at the same moment, as nearly as can be.
fn both() -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..RATE_TRIES {
        let before = ticks();
        let ns = mono_ns();
        let took = ticks().wrapping_sub(before);
        if took < best.0 {
            best = (took, ns, before.wrapping_add(took / 2));
        }
    }
    (best.1, best.2)
}

fn mono_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    micros(time) * 1000 + u64::try_from(time.tv_nsec % 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_and_the_clock_agree() {
        let rate = ticks_per_us();
        let tries: [f64; 5] = core::array::from_fn(|_| {
            let (from_us, from) = (mono_us(), ticks());
            while mono_us() - from_us < 20_000 {}
            (ticks() - from) as f64 / rate
        });
        // The thread may be put aside between two readings: more, but never clearly less, and not each time.
        let least = tries.into_iter().fold(f64::INFINITY, f64::min);
        assert!((19_000.0..200_000.0).contains(&least), "{tries:?}");
    }
}
