//! What the kernel knows of this process, read from `/proc` when somebody asks.

use std::fs::read_to_string;

/// Clock ticks in a second as `/proc` counts processor time: the same on every Linux in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of the process and of the machine, bytes; zero when it cannot be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident memory.
    pub resident: u64,
    /// The machine's memory.
    pub machine: u64,
}

/// Processor time, seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// In the kernel.
    pub system: f64,
    /// Outside.
    pub user: f64,
    /// In the kernel, by ended children.
    pub system_children: f64,
    /// Outside, by ended children.
    pub user_children: f64,
}

/// Resident memory that is no file's, bytes: what the program has taken for itself.
pub fn resident_anonymous() -> u64 {
    kilobytes("/proc/self/status", "RssAnon:").unwrap_or(0)
}

/// Reads the memory.
pub fn memory() -> Memory {
    Memory {
        resident: kilobytes("/proc/self/status", "VmRSS:").unwrap_or(0),
        machine: kilobytes("/proc/meminfo", "MemTotal:").unwrap_or(0),
    }
}

/// The bytes of a line such as `VmRSS:    1234 kB`.
fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Reads the processor time.
pub fn cpu_time() -> CpuTime {
    read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| parse_stat(&text))
        .unwrap_or_default()
}

fn parse_stat(text: &str) -> Option<CpuTime> {
    // The second field is the program's name in parentheses and may hold anything; the times are the
    // 14th to 17th.
    let (_, rest) = text.rsplit_once(')')?;
    let mut ticks = rest.split_ascii_whitespace().skip(11).map(|word| {
        word.parse::<f64>()
            .ok()
            .map(|ticks| ticks / TICKS_PER_SECOND)
    });
    let mut next = || ticks.next().flatten();
    Some(CpuTime {
        user: next()?,
        system: next()?,
        user_children: next()?,
        system_children: next()?,
    })
}

/// The time of this process's threads whose names begin so, together.
pub fn threads_cpu_time(prefix: &str) -> CpuTime {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let stats = tasks.flatten().filter_map(|task| {
        // (A thread may end meanwhile.)
        let text = read_to_string(task.path().join("stat")).ok()?;
        let (_, name) = text.split_once('(')?;
        name.starts_with(prefix).then(|| parse_stat(&text))?
    });
    stats.fold(CpuTime::default(), |sum, time| CpuTime {
        system: sum.system + time.system,
        user: sum.user + time.user,
        ..sum
    })
}

/// The system as `uname` tells it: name, release, machine.
pub fn system() -> String {
    let release = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::{cpu_time, memory, parse_stat, system, threads_cpu_time};

    #[test]
    fn the_kernel_is_understood() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 7 1 20 0 1";
        let time = parse_stat(line).unwrap();
        assert_eq!((time.user, time.system), (2.5, 0.5));
        assert_eq!((time.user_children, time.system_children), (0.07, 0.01));
        assert!(parse_stat("nonsense").is_none());
        assert!(memory().resident > 0 && memory().machine > memory().resident);
        let begin = std::thread::Builder::new().name("busy-7".to_owned());
        let busy = begin.spawn(|| {
            let time = || threads_cpu_time("busy-");
            while time().user + time().system < 0.02 {}
        });
        busy.unwrap().join().unwrap();
        assert!(cpu_time().user >= 0.0 && system().starts_with("Linux "));
    }
}
