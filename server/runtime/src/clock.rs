//! Hot path. The only caller of the clocks; both are read through the vDSO, without entering the kernel.

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

/// A number of the monotonic clock's nanoseconds, unlike any of an earlier pool in this process.
pub(crate) fn turn_seed() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    micros(time) * 1000 + u64::try_from(time.tv_nsec % 1000).unwrap_or(0)
}

fn micros(time: Timespec) -> u64 {
    // A clock set before 1970 reads as 1970: everything here counts forward.
    let s = u64::try_from(time.tv_sec).unwrap_or(0);
    let us = u64::try_from(time.tv_nsec / 1000).unwrap_or(0);
    s * 1_000_000 + us
}
