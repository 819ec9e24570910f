//! Pins a core's thread to one CPU of those the process may use, so `taskset` and cgroup sets are respected.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Pins the calling thread to the i-th allowed CPU, modulo their number.
pub(crate) fn pin(i: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let Some(cpu) = cpus.get(i % cpus.len().max(1)) else {
        return Ok(());
    };
    let mut one = CpuSet::new();
    one.set(*cpu);
    Ok(sched_setaffinity(None, &one)?)
}
