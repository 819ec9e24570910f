//! What a machine makes of a loop that does nothing: the longest turn that a server can be shown not to have had.
//!
//! On a guest the hypervisor takes the processor away for a while, and its clocks of threads count some of that time as theirs. So
//! the longest of a hundred thousand turns may be one in which the server did nothing at all.

use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::client::pin;
use crate::report::Report;

/// For how long the loop runs.
const LOOP: Duration = Duration::from_secs(30);

/// Says in a report how long the longest turn of a bare loop is on the CPU of servers.
pub(crate) fn note(report: &mut Report, is_quick: bool) {
    let time = if is_quick { LOOP / 10 } else { LOOP };
    // (A thread of its own: it stays on that CPU, and the one that measures does not.)
    let looped = Builder::new().spawn(move || longest_us(time));
    if let Some(us) = looped.ok().and_then(|thread| thread.join().ok()) {
        report.note(&format!(
            "Right after that a loop on CPU 0 which does nothing but read its thread's CPU clock, for {} s: {us:.0} us between two \
             readings at most. A single turn of about that may be the machine's.",
            time.as_secs()
        ));
    }
}

fn longest_us(time: Duration) -> f64 {
    pin(0);
    let end = Instant::now() + time;
    let (mut before, mut longest) = (cpu_us(), 0.0);
    while Instant::now() < end {
        let now = cpu_us();
        longest = f64::max(longest, now - before);
        before = now;
    }
    longest
}

fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_has_a_longest_turn() {
        let us = longest_us(Duration::from_millis(50));
        assert!(us > 0.0 && us < 50e3, "{us}");
    }
}
