//! Does a snapshot keep others waiting? BGSAVE, three times, under a mixed load of requests that come one by one, while another
//! client asks a thousand times a second; and how much memory it takes.
//!
//! The load is sent by a clock as well, at a rate that leaves both CPUs some idle time, but for two rows: on a machine whose CPUs
//! are all busy, a hypervisor with a quota stops them when the disk is written to besides, whoever writes (the last note tells by
//! how much). The asking client is the open loop of `growth.rs`. Both servers may use both CPUs, so that redis-server's child does not stand in
//! its parent's way. Extra memory is the peak of resident memory over what was there before; of redis-server what its child has
//! had to itself, as it tells (`rdb_last_cow_size`).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use storage::Rng;

use crate::Bench;
use crate::client::{Client, Fill, pin};
use crate::floor;
use crate::growth::{Asked, ask_for};
use crate::memory::{fill_from_cpu_one, send};
use crate::process::{Plan, Server, stolen_seconds};
use crate::report::Report;

const KEYS: u64 = 5_000_000;
/// Snapshots of a run.
const SNAPSHOTS: u32 = 3;
/// A snapshot of a busy machine takes so long at most.
const SNAPSHOT_MAX: Duration = Duration::from_secs(120);
/// How long is asked before the first one: what the load alone does.
const BEFORE: Duration = Duration::from_secs(4);
/// What a server does soon after a load, it has done.
const SETTLE: Duration = Duration::from_secs(1);
/// Connections of the mixed load: each has one request under way.
const CONNECTIONS: usize = 8;
/// Each of them sends a request so often: 8 connections, 20,000 requests a second.
const ROUND_EVERY: Duration = Duration::from_micros(400);
/// Members sent with one request.
const MEMBERS: u64 = 100;

/// How the data lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Keys,
    OneTag,
    OneHash,
}

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    report.note(&format!(
        "{SNAPSHOTS} snapshots one after another, while {CONNECTIONS} connections send reads and writes of random keys, one by one, {:.0} requests a \
         second in all (`flat out`: as soon as they are answered, so that both CPUs are busy), and another one asks GET 1000 times a second in an open loop: microseconds from when a question was due, `sent` from when it was sent. `before`: the same load \
         without a snapshot. Keys of 16 bytes, values of 32. Extra memory in percent of the data. Aims: max at most 8000 and not growing \
         with the data, longest turn at most 1000 us, extra memory at most 10 %. `stolen`: CPU time of this machine that the hypervisor \
         gave to nobody of it, percent of one CPU.",
        CONNECTIONS as f64 / ROUND_EVERY.as_secs_f64(),
    ));
    report.heads(&[
        "server",
        "data",
        "",
        "questions",
        "p50",
        "p99",
        "p99.9",
        "max",
        "sender max",
        "sent p99.9",
        "sent max",
        "s each",
        "extra memory %",
        "longest turn, CPU us",
        "load, requests/s",
        "stolen %",
    ]);
    let keys = bench.options.scaled(KEYS);
    let redis = || Plan::redis(bench).on("0,1");
    let meridian = || {
        let plan = Plan::meridian(bench).with("--turn-cpu-clock yes");
        plan.on("0,1")
    };
    let cases = [
        (redis(), "keys", Shape::Keys, keys, true),
        (meridian(), "keys", Shape::Keys, keys, true),
        (
            meridian(),
            "a fifth of the keys",
            Shape::Keys,
            keys / 5,
            true,
        ),
        (
            meridian(),
            "keys of one hash tag",
            Shape::OneTag,
            keys,
            true,
        ),
        (redis(), "members of one hash", Shape::OneHash, keys, true),
        (
            meridian(),
            "members of one hash",
            Shape::OneHash,
            keys,
            true,
        ),
        (redis(), "keys, flat out", Shape::Keys, keys, false),
        (meridian(), "keys, flat out", Shape::Keys, keys, false),
    ];
    let only = bench.options.only.as_deref().unwrap_or_default();
    for (plan, name, shape, count, is_paced) in cases {
        if format!("{} {name}", plan.name).contains(only) {
            let load = Mixed {
                shape,
                count,
                every: is_paced.then_some(ROUND_EVERY),
            };
            case(bench, &plan, name, load, &mut report)?;
        }
    }
    floor::note_writing(&mut report, bench.options.quick);
    Ok(report)
}

fn case(
    bench: &Bench<'_>,
    plan: &Plan,
    name: &str,
    load: Mixed,
    report: &mut Report,
) -> io::Result<()> {
    let Mixed { shape, count, .. } = load;
    let server = Server::start(bench, plan)?;
    let empty = server.rss_bytes()?;
    fill(&server, shape, count)?;
    std::thread::sleep(SETTLE);
    let full = server.rss_bytes()?;
    let mut client = Client::connect(&server)?;
    let mut asked = |phase: &str, work: &mut dyn FnMut(&mut Client) -> io::Result<(f64, f64)>| {
        client.ask(&[b"CONFIG", b"RESETSTAT"])?;
        let end = AtomicBool::new(false);
        let question = words_of(shape, false, 0);
        let (begun, stolen) = (Instant::now(), stolen_seconds());
        let ((each, extra), asked, loaded) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let question: Vec<&[u8]> = question.iter().map(Vec::as_slice).collect();
                ask_for(&server, &question, &end)
            });
            let loading = scope.spawn(|| mixed(&server, load, &end));
            let done = work(&mut client);
            end.store(true, Ordering::Relaxed);
            let died = || io::Error::other("a thread died");
            let asked = asking.join().map_err(|_| died())??;
            let loaded = loading.join().map_err(|_| died())??;
            done.map(|done| (done, asked, loaded))
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let stolen = (stolen_seconds() - stolen) / seconds;
        let Asked {
            mut latencies,
            mut late,
            mut sent,
        } = asked;
        let turn = client.info("meridian", "turn_longest_cpu_us")?;
        let figures = [0.50, 0.99, 0.999, 1.0].map(|share| format!("{:.0}", latencies.us(share)));
        let mut cells = [server.name, name, phase].map(str::to_owned).to_vec();
        cells.push(latencies.len().to_string());
        cells.extend(figures);
        cells.push(format!("{:.0}", late.us(1.0)));
        cells.extend([0.999, 1.0].map(|share| format!("{:.0}", sent.us(share))));
        cells.extend([each, extra].map(|figure| match figure {
            0.0 => String::new(),
            figure => format!("{figure:.1}"),
        }));
        cells.push(turn.map_or(String::new(), |us| format!("{us:.0}")));
        cells.push(format!("{:.0}", loaded as f64 / seconds));
        cells.push(format!("{:.1}", stolen * 100.0));
        report.row(cells);
        Ok::<_, io::Error>(())
    };
    asked("before", &mut |_| {
        std::thread::sleep(BEFORE);
        Ok((0.0, 0.0))
    })?;
    asked("snapshots", &mut |client| {
        let before = server.rss_bytes()?;
        server.forget_peak()?;
        let begun = Instant::now();
        let mut cow = 0.0f64;
        for _ in 0..SNAPSHOTS {
            client.ask(&[b"BGSAVE"])?;
            while client.info("persistence", "rdb_bgsave_in_progress")? != Some(0.0) {
                if begun.elapsed() > SNAPSHOT_MAX * SNAPSHOTS {
                    return Err(io::Error::other("a snapshot does not end"));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let told = client.info("persistence", "rdb_last_cow_size")?;
            cow = cow.max(told.unwrap_or_default());
        }
        let each = begun.elapsed().as_secs_f64() / f64::from(SNAPSHOTS);
        let extra = (server.peak_bytes()? - before).max(cow);
        Ok((each, extra / (full - empty) * 100.0))
    })
}

fn fill(server: &Server, shape: Shape, count: u64) -> io::Result<()> {
    if shape == Shape::OneHash {
        return send(server, count / MEMBERS, |number| {
            let pairs = (number * MEMBERS..(number + 1) * MEMBERS)
                .flat_map(|n| [format!("field:{n:010}"), format!("{n:032}")]);
            let all = ["HSET".to_owned(), "h".to_owned()].into_iter().chain(pairs);
            all.map(String::into_bytes).collect()
        });
    }
    let fill = Fill {
        value_bytes: 32,
        expiring: false,
        one_tag: shape == Shape::OneTag,
        pipeline: 100,
    };
    fill_from_cpu_one(&fill, server, 0..count)
}

/// A read or a write of a key or a field by its number.
fn words_of(shape: Shape, writes: bool, number: u64) -> Vec<Vec<u8>> {
    let value = format!("{:032}", number + 1).into_bytes();
    let (mut words, key) = match shape {
        Shape::OneHash => {
            let command = if writes { "HSET" } else { "HGET" };
            let words = vec![command.into(), b"h".to_vec()];
            (words, format!("field:{number:010}").into_bytes())
        }
        _ => {
            let before = if shape == Shape::OneTag { "{t}" } else { "key" };
            let command = if writes { "SET" } else { "GET" };
            let key = format!("{before}:{number:012}").into_bytes();
            (vec![command.into()], key)
        }
    };
    words.push(key);
    words.extend(writes.then_some(value));
    words
}

/// Reads and writes of random keys, half of each.
#[derive(Clone, Copy)]
struct Mixed {
    shape: Shape,
    /// How many keys or members there are.
    count: u64,
    /// Each connection asks so often, if it can; without this as soon as it is answered.
    every: Option<Duration>,
}

/// Sends such requests until the end; one a connection is under way. How many were answered.
fn mixed(server: &Server, load: Mixed, end: &AtomicBool) -> io::Result<u64> {
    let Mixed {
        shape,
        count,
        every,
    } = load;
    pin(1);
    let clients = (0..CONNECTIONS).map(|_| Client::connect(server)?.split());
    let mut clients = clients.collect::<io::Result<Vec<_>>>()?;
    let mut rng = Rng::new(1);
    let (mut request, mut answered) = (Vec::new(), 0);
    let mut due = Instant::now();
    while !end.load(Ordering::Relaxed) {
        if let Some(every) = every {
            // (What was missed is not made up for: that would be flat out.)
            let now = Instant::now();
            due = now.max(due + every);
            std::thread::sleep(due - now);
        }
        for (sending, _) in &mut clients {
            request.clear();
            let random = rng.next_u64();
            let words = words_of(shape, random & 1 == 0, (random >> 8) % count);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            protocol::request::encode(&words, &mut request);
            io::Write::write_all(sending, &request)?;
        }
        for (_, listening) in &mut clients {
            if listening.answer()?.is_error() {
                return Err(io::Error::other("the load was answered by an error"));
            }
            answered += 1;
        }
    }
    Ok(answered)
}
