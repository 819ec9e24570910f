//! Which keys stay when memory is short: traces replayed on the engine's policies, on caches by the book, and on whole servers.
//!
//! ```text
//! in one process:  trace ──> Shard with each policy: a miss is followed by a write, then keys are evicted down to the capacity
//!                  trace ──> LRU, LFU, S3-FIFO in a simulator (caches.rs)
//! over the wire:   trace ──> meridian and redis-server with `maxmemory`: GET, and SET of what was missed
//! ```
//! TRACES names a folder of `*.u32le.xz` (one number of an object for each request); without it only generated ones are replayed.

use std::io;
use std::path::Path;
use std::process::Command;

use protocol::answer::Answer;
use rustix::time::{ClockId, clock_gettime};
use storage::{Choice, Eviction, Key, Lfu as Counting, Limits, Rng, SLOTS, Shard, Slot, Ttl};

use crate::Bench;
use crate::caches::{Lfu, Lru, S3Fifo, misses};
use crate::client::Client;
use crate::process::{Plan, Server};
use crate::report::Report;

/// Requests of a trace that are replayed in one process, and over the wire.
const REQUESTS_MAX: usize = 500_000;
const WIRE_REQUESTS_MAX: usize = 100_000;
/// Shares of a trace's objects that a cache holds, percent.
const SHARES: [usize; 2] = [1, 10];
/// A trace takes so long on the engine's clock: access times are in seconds.
const SPAN_MS: u64 = 3_600_000;
const START_MS: u64 = 1_700_000_000_000;
/// Values over the wire, and requests sent together.
const VALUE_BYTES: usize = 500;
const BATCH: usize = 64;

const POLICIES: [(&str, Choice); 4] = [
    ("allkeys-lru", Choice::Lru),
    ("allkeys-lfu", Choice::Lfu),
    ("allkeys-random", Choice::Random),
    ("allkeys-s3fifo", Choice::S3Fifo),
];

struct Trace {
    name: String,
    requests: Vec<u32>,
    objects: usize,
}

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let traces = traces(bench)?;
    in_process(&traces, &mut report);
    over_the_wire(bench, &traces, &mut report)?;
    Ok(report)
}

/// Traces from the folder, then those that are made here.
fn traces(bench: &Bench<'_>) -> io::Result<Vec<Trace>> {
    let mut traces = Vec::new();
    if let Some(folder) = std::env::var_os("TRACES") {
        let mut files: Vec<_> = std::fs::read_dir(folder)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.to_string_lossy().ends_with(".u32le.xz"))
            .collect();
        files.sort();
        for path in files {
            traces.push(read(&path)?);
        }
    }
    let count = bench.options.scaled(REQUESTS_MAX as u64) as usize;
    traces.push(zipf("zipf, churn", count, 0.9, true, false));
    traces.push(zipf("zipf, scans", count, 0.9, false, true));
    let only = bench.options.only.as_deref().unwrap_or_default();
    traces.retain(|trace| trace.name.contains(only));
    Ok(traces)
}

fn read(path: &Path) -> io::Result<Trace> {
    let output = Command::new("xz").arg("-dc").arg(path).output()?;
    if !output.status.success() {
        let why = format!("{} could not be unpacked", path.display());
        return Err(io::Error::other(why));
    }
    let (numbers, _) = output.stdout.as_chunks::<4>();
    let numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".u32le.xz").to_owned();
    Ok(trace(name, numbers.take(REQUESTS_MAX).collect()))
}

fn trace(name: String, requests: Vec<u32>) -> Trace {
    let mut seen: Vec<u32> = requests.clone();
    seen.sort_unstable();
    seen.dedup();
    Trace {
        name,
        requests,
        objects: seen.len(),
    }
}

/// Objects by a Zipf law; with churn the popular ones are others every now and then, with scans every tenth stretch of
/// requests passes over objects that are asked for once.
fn zipf(name: &str, count: usize, exponent: f64, churn: bool, scans: bool) -> Trace {
    const OBJECTS: usize = 100_000;
    const STRETCH: usize = 5000;
    let mut sums = Vec::with_capacity(OBJECTS);
    let mut sum = 0.0;
    for rank in 1..=OBJECTS {
        sum += 1.0 / (rank as f64).powf(exponent);
        sums.push(sum);
    }
    let mut rng = Rng::new(11);
    let mut once = u32::MAX / 2;
    let requests = (0..count).map(|n| {
        if scans && (n / STRETCH) % 10 == 9 {
            once += 1;
            return once;
        }
        let at = rng.next_u64() as f64 / u64::MAX as f64 * sum;
        let rank = sums.partition_point(|sum| *sum < at) as u32;
        // Every stretch of churn makes as many objects new as a hundredth of all.
        let shift = if churn {
            n / STRETCH * (OBJECTS / 1000)
        } else {
            0
        };
        rank.wrapping_mul(2_654_435_761) % (OBJECTS as u32) + shift as u32
    });
    let requests = requests.collect();
    trace(name.to_owned(), requests)
}

/// The engine with one policy: share of misses, and nanoseconds a request.
fn replay(choice: Choice, capacity: usize, trace: &[u32]) -> (f64, f64) {
    let slots = (0..SLOTS as u16).map(Slot);
    let mut shard = Shard::new(1, slots, Limits::default(), START_MS);
    shard.set_eviction(Eviction {
        choice: Some(choice),
        volatile: false,
        samples: 5,
        lfu: Counting {
            log_factor: 10,
            decay_min: 1,
        },
    });
    let (mut rng, mut misses) = (Rng::new(3), 0usize);
    let begin = cpu_ns();
    for (n, object) in trace.iter().enumerate() {
        if n % 64 == 0 {
            let passed = n as u64 * SPAN_MS / trace.len().max(1) as u64;
            shard.set_now(START_MS + passed);
        }
        let name = format!("key:{object:012}");
        let key = Key::new(0, name.as_bytes());
        if !shard.touch(&key) {
            misses += 1;
            shard.edit().put_string(&key, &[b'v'; 32], Ttl::Clear);
            let many = shard.count(0).keys.saturating_sub(capacity);
            shard.evict(&mut rng, usize::MAX, many);
        }
    }
    let ns = (cpu_ns() - begin) / trace.len().max(1) as f64;
    (misses as f64 / trace.len().max(1) as f64, ns)
}

/// Processor time of this thread, ns: others on the machine do not count.
fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

fn in_process(traces: &[Trace], report: &mut Report) {
    report.note(
        "Share of requests that miss, percent, and nanoseconds of processor time a request (the engine's alone: a look-up, and after a \
         miss a write and an eviction). A cache holds so many percent of the trace's objects. The engine's clock runs through an hour for each trace. \
         Left the engine's policies, right the same by the book, in a simulator.",
    );
    let mut heads = vec!["trace (requests, objects)", "holds"];
    heads.extend(POLICIES.iter().map(|(name, _)| *name));
    heads.extend(["LRU", "LFU", "S3-FIFO"]);
    report.heads(&heads);
    let mut sums = [0.0; POLICIES.len() + 3];
    let mut rows = 0.0;
    for trace in traces {
        for share in SHARES {
            let capacity = (trace.objects * share / 100).max(16);
            let requests = &trace.requests[..];
            let mut cells = vec![
                format!("{} ({}, {})", trace.name, requests.len(), trace.objects),
                format!("{share} %"),
            ];
            let mut all = Vec::new();
            for (_, choice) in POLICIES {
                let (missed, ns) = replay(choice, capacity, requests);
                all.push(missed);
                cells.push(format!("{:.2} ({ns:.0} ns)", 100.0 * missed));
            }
            all.push(misses(&mut Lru::new(capacity), requests));
            all.push(misses(&mut Lfu::new(capacity), requests));
            all.push(misses(&mut S3Fifo::new(capacity), requests));
            let by_the_book = &all[POLICIES.len()..];
            cells.extend(
                by_the_book
                    .iter()
                    .map(|missed| format!("{:.2}", 100.0 * missed)),
            );
            report.row(cells);
            sums.iter_mut()
                .zip(&all)
                .for_each(|(sum, missed)| *sum += missed);
            rows += 1.0;
        }
    }
    let mean = |sum: &f64| format!("{:.2}", 100.0 * sum / rows);
    report.row(
        ["mean".to_owned(), String::new()]
            .into_iter()
            .chain(sums.iter().map(mean)),
    );
}

fn over_the_wire(bench: &Bench<'_>, traces: &[Trace], report: &mut Report) -> io::Result<()> {
    report.note(&format!(
        "Over the wire: GET, and SET of {VALUE_BYTES} bytes after a miss, {BATCH} requests together, one core. `maxmemory` leaves room \
         for as many values as a tenth of the trace's objects, beyond what the empty server uses. Misses in percent and the server's \
         CPU time for a request of the trace. (Redis keeps access times in seconds, and so do we: a trace that runs through in \
         seconds shows LRU at its worst.)",
    ));
    report.heads(&["trace", "policy", "redis-server", "meridian"]);
    for trace in traces {
        let requests = &trace.requests[..trace.requests.len().min(WIRE_REQUESTS_MAX)];
        let mut objects = requests.to_vec();
        objects.sort_unstable();
        objects.dedup();
        let room = objects.len() / 10 * (VALUE_BYTES + 100);
        for (policy, choice) in POLICIES {
            let mut cells = vec![trace.name.clone(), policy.to_owned()];
            for plan in [Plan::redis(bench), Plan::meridian(bench)] {
                if choice == Choice::S3Fifo && plan.name == "redis" {
                    cells.push("-".to_owned());
                    continue;
                }
                let plan = plan.with(&format!("--maxmemory-policy {policy}"));
                let (missed, us) = serve(bench, &plan, room, requests)?;
                cells.push(format!("{:.2} ({us:.2} us)", 100.0 * missed));
            }
            report.row(cells);
        }
    }
    Ok(())
}

/// A server with room for so many bytes: share of misses, and its microseconds a request.
fn serve(bench: &Bench<'_>, plan: &Plan, room: usize, trace: &[u32]) -> io::Result<(f64, f64)> {
    let server = Server::start(bench, plan)?;
    let mut client = Client::connect(&server)?;
    let used = client.info("memory", "used_memory")?.unwrap_or_default();
    let bound = (used as usize + room).to_string();
    client.ask(&[b"CONFIG", b"SET", b"maxmemory", bound.as_bytes()])?;
    let value = [b'v'; VALUE_BYTES];
    let before = server.cpu()?;
    let mut missed = 0usize;
    for batch in trace.chunks(BATCH) {
        let names: Vec<String> = batch
            .iter()
            .map(|object| format!("key:{object:012}"))
            .collect();
        let gets: Vec<[&[u8]; 2]> = names
            .iter()
            .map(|name| [b"GET".as_slice(), name.as_bytes()])
            .collect();
        let found = client.ask_all(&gets)?;
        let absent = found.iter().zip(&names);
        let absent = absent.filter(|(answer, _)| matches!(answer, Answer::Null));
        let sets: Vec<[&[u8]; 3]> = absent
            .map(|(_, name)| [b"SET".as_slice(), name.as_bytes(), &value])
            .collect();
        missed += sets.len();
        client.ask_all(&sets)?;
    }
    let cpu = server.cpu()?.since(before);
    let requests = trace.len().max(1) as f64;
    Ok((missed as f64 / requests, cpu.all_us / requests))
}
