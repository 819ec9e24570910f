//! Does a memory bound hold? Three times as much is written as `maxmemory` allows, while another client writes a thousand times a second.
//!
//! The other client is the open loop of `growth.rs`, with SET instead of GET. What is written is counted by what the server would need
//! for it: the keys of a first, unbounded process tell how much each takes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use storage::Rng;

use crate::Bench;
use crate::client::Client;
use crate::growth::{Asked, ask_for};
use crate::memory::send;
use crate::process::{Plan, Server};
use crate::report::Report;

const BOUND_BYTES: u64 = 1 << 30;
/// What is written would take so many times the bound.
const TIMES: u64 = 3;
/// Keys of which the memory each needs is measured.
const SAMPLE: u64 = 100_000;
const SETTLE: Duration = Duration::from_millis(500);

/// Sizes of values: at first, and from when the bound is reached. Values of another size leave holes in the pages of the first ones.
type Sizes = (Values, Values);

/// Sizes of values.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    Of(u64),
    /// From 8 bytes to 4 KiB, each power of two as likely.
    Mixed,
}

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let bound = bench.options.scaled(BOUND_BYTES);
    report.note(&format!(
        "maxmemory {} MB, {TIMES} times as much is written by one connection at P=100, while another one asks SET 1000 times a second in an \
         open loop: microseconds from when it was due. Keys of 16 bytes; all with a deadline for volatile-ttl. Peak of resident memory, and \
         what it is at the end, in percent of the bound; the same of used_memory at the end. Aims: at most 110 %, the longest turn below \
         10000 us.",
        bound >> 20
    ));
    report.heads(&[
        "server",
        "values",
        "policy",
        "keys",
        "s",
        "p50",
        "p99.9",
        "max",
        "sender max",
        "sent max",
        "peak %",
        "end %",
        "used %",
        "evicted",
        "longest turn, CPU us",
    ]);
    let sizes = [
        ("32 B", (Values::Of(32), Values::Of(32))),
        ("1 KiB", (Values::Of(1024), Values::Of(1024))),
        ("mixed", (Values::Mixed, Values::Mixed)),
        ("32, then 200 B", (Values::Of(32), Values::Of(200))),
    ];
    let policies = [
        "allkeys-lru",
        "allkeys-lfu",
        "volatile-ttl",
        "allkeys-s3fifo",
    ];
    let only = bench.options.only.as_deref().unwrap_or_default();
    for (name, values) in sizes {
        let redis = (Plan::redis(bench), "allkeys-lru");
        let ours = policies.map(|policy| {
            let plan = Plan::meridian(bench).with("--turn-cpu-clock yes");
            (plan, policy)
        });
        for (plan, policy) in [redis].into_iter().chain(ours) {
            if format!("{} {name} {policy}", plan.name).contains(only) {
                case(bench, plan, (name, values), policy, &mut report)?;
            }
        }
    }
    Ok(report)
}

/// Bytes of used_memory that a key takes.
fn bytes_each(
    bench: &Bench<'_>,
    plan: &Plan,
    words: impl Fn(u64) -> Vec<Vec<u8>>,
) -> io::Result<f64> {
    let server = Server::start(bench, plan)?;
    let mut client = Client::connect(&server)?;
    let mut used = || client.info("memory", "used_memory");
    let empty = used()?;
    send(&server, SAMPLE, words)?;
    std::thread::sleep(SETTLE);
    let grown = used()?.zip(empty).map(|(full, empty)| full - empty);
    Ok(grown.unwrap_or(f64::NAN) / SAMPLE as f64)
}

fn case(
    bench: &Bench<'_>,
    plan: Plan,
    (name, (first, second)): (&str, Sizes),
    policy: &'static str,
    report: &mut Report,
) -> io::Result<()> {
    let bound = bench.options.scaled(BOUND_BYTES);
    let expires = policy.starts_with("volatile");
    let each = bytes_each(bench, &plan, |number| set(first, expires, number))?;
    let mut keys = ((bound * TIMES) as f64 / each) as u64;
    let fill = keys / TIMES;
    if first != second {
        // (The larger ones take about as much as all would have.)
        keys = 2 * fill;
    }
    let words = |number| set(if number < fill { first } else { second }, expires, number);
    let plan = plan.with(&format!("--maxmemory {bound} --maxmemory-policy {policy}"));
    let server = Server::start(bench, &plan)?;
    let mut client = Client::connect(&server)?;
    client.ask(&[b"CONFIG", b"RESETSTAT"])?;
    let begun = Instant::now();
    let end = AtomicBool::new(false);
    let question = set(Values::Of(32), expires, u64::MAX >> 24);
    let (seconds, asked) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let question: Vec<&[u8]> = question.iter().map(Vec::as_slice).collect();
            ask_for(&server, &question, &end)
        });
        let written = scope.spawn(|| {
            crate::client::pin(1);
            send(&server, keys, words)
        });
        let died = |_| Err(io::Error::other("the writing thread died"));
        let written = written.join().unwrap_or_else(died);
        let seconds = begun.elapsed().as_secs_f64();
        end.store(true, Ordering::Relaxed);
        let died = |_| Err(io::Error::other("the asking thread died"));
        let asked = asking.join().unwrap_or_else(died)?;
        written.map(|()| (seconds, asked))
    })?;
    let Asked {
        mut latencies,
        mut late,
        mut sent,
    } = asked;
    std::thread::sleep(SETTLE);
    let share = |bytes: f64| format!("{:.1}", bytes / bound as f64 * 100.0);
    let used = client.info("memory", "used_memory")?.unwrap_or_default();
    let evicted = client.info("stats", "evicted_keys")?.unwrap_or_default();
    let turn = client.info("meridian", "turn_longest_cpu_us")?;
    let mut cells = [server.name, name, policy].map(str::to_owned).to_vec();
    cells.extend([keys.to_string(), format!("{seconds:.0}")]);
    cells.extend([0.50, 0.999, 1.0].map(|share| format!("{:.0}", latencies.us(share))));
    cells.extend([&mut late, &mut sent].map(|seen| format!("{:.0}", seen.us(1.0))));
    cells.extend([server.peak_bytes()?, server.rss_bytes()?, used].map(share));
    cells.push(format!("{evicted:.0}"));
    cells.push(turn.map_or(String::new(), |us| format!("{us:.0}")));
    report.row(cells);
    Ok(())
}

fn set(values: Values, expires: bool, number: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(number);
    let len = match values {
        Values::Of(len) => len,
        Values::Mixed => {
            let least = 8 << rng.below(9);
            least + rng.below(least)
        }
    };
    let mut words = vec![
        b"SET".to_vec(),
        format!("key:{number:012}").into_bytes(),
        vec![b'v'; len as usize],
    ];
    if expires {
        let seconds = 100_000 + rng.below(800_000);
        words.extend([b"EX".to_vec(), seconds.to_string().into_bytes()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_they_are_called() {
        assert_eq!(set(Values::Of(32), false, 1)[2].len(), 32);
        for number in 0..1000 {
            let words = set(Values::Mixed, true, number);
            assert!((8..4096).contains(&words[2].len()));
            assert_eq!(words.len(), 5);
        }
    }
}
