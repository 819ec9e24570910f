//! What a machine makes of a loop that does nothing: the longest turn that a server can be shown not to have had.
//!
//! On a guest the hypervisor takes the processor away for a while, and its clocks of threads count some of that time as theirs. So
//! the longest of a hundred thousand turns may be one in which the server did nothing at all.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::client::pin;
use crate::report::Report;

/// For how long the loop runs.
const LOOP: Duration = Duration::from_secs(30);
/// For how long two loops run beside a writer.
const BESIDE: Duration = Duration::from_secs(10);
/// What the writer writes between two syncs, and into one file.
const PIECE_BYTES: usize = 1 << 20;
const FILE_BYTES_MAX: u64 = 256 << 20;
/// A loop that was not away for so long has not been seen to be.
const GAP: Duration = Duration::from_micros(500);

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

/// What a file that is written does to bare loops.
struct Beside {
    /// The longest time in which neither loop ran, us.
    stood_us: f64,
    /// Bytes that were written.
    written: u64,
}

/// Says in a report how long both CPUs stand still when a loop of each does nothing but read the clock, while a third thread writes
/// a file and syncs it, as fast as it can: what a server may see that writes while the CPUs are busy, whatever it does itself.
pub(crate) fn note_writing(report: &mut Report, is_quick: bool) {
    let time = if is_quick { BESIDE / 10 } else { BESIDE };
    report.note(&match beside(time) {
        Ok(Beside { stood_us, written }) => format!(
            "Two loops that do nothing but read the clock, one on each CPU, beside a thread that writes a file and syncs it every \
             MB, as fast as it can ({:.0} MB in {} s): neither loop ran for {stood_us:.0} us at most. A maximum of about that, where the CPUs are \
             busy, may be the machine's.",
            written as f64 / 1e6,
            time.as_secs(),
        ),
        Err(error) => format!("What writing alone does was not measured: {error}"),
    });
}

fn beside(time: Duration) -> io::Result<Beside> {
    let path = std::env::temp_dir().join(format!("compare-floor-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let end = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let loops = [0, 1].map(|cpu| scope.spawn(move || gaps(cpu, time)));
        let end = &end;
        let writing = scope.spawn(move || -> io::Result<u64> {
            let piece = vec![b'x'; PIECE_BYTES];
            let mut written = 0;
            loop {
                file.write_all(&piece)?;
                written += piece.len() as u64;
                file.sync_data()?;
                if end.load(Ordering::Relaxed) {
                    return Ok(written);
                }
                if written % FILE_BYTES_MAX == 0 {
                    file.set_len(0)?;
                    io::Seek::rewind(&mut file)?;
                }
            }
        });
        let died = || io::Error::other("a thread died");
        let gaps = loops.map(|one| one.join().map_err(|_| died()));
        end.store(true, Ordering::Relaxed);
        let written = writing.join().map_err(|_| died())??;
        let [first, second] = gaps;
        Ok(Beside {
            stood_us: longest_shared_us(&first?, &second?),
            written,
        })
    });
    let removed = std::fs::remove_file(&path);
    removed.and(done)
}

/// When a loop on a CPU did not run, if for [`GAP`] or longer.
fn gaps(cpu: usize, time: Duration) -> Vec<(Instant, Instant)> {
    pin(cpu);
    let mut before = Instant::now();
    let end = before + time;
    let mut gaps = Vec::new();
    while before < end {
        let now = Instant::now();
        if now - before >= GAP {
            gaps.push((before, now));
        }
        before = now;
    }
    gaps
}

/// The longest time that is part of a gap of both.
fn longest_shared_us(first: &[(Instant, Instant)], second: &[(Instant, Instant)]) -> f64 {
    let shared = first.iter().flat_map(|a| {
        let both = second
            .iter()
            .map(|b| a.1.min(b.1).saturating_duration_since(a.0.max(b.0)));
        both.map(|time| time.as_secs_f64() * 1e6)
    });
    shared.fold(0.0, f64::max)
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

    #[test]
    fn what_two_gaps_share_is_told() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let first = [(at(0), at(10)), (at(30), at(36))];
        let second = [(at(7), at(12)), (at(20), at(25)), (at(29), at(33))];
        assert!((longest_shared_us(&first, &second) - 3e3).abs() < 1.0);
        assert!(longest_shared_us(&first, &[]) < 1.0);
    }

    #[test]
    fn a_writer_writes_beside_two_loops() {
        let beside = beside(Duration::from_millis(50)).unwrap();
        assert!(beside.written > 0);
    }
}
