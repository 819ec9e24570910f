//! Two cores against one: what a request costs when half of the keys belong to the other core.
//!
//! On two CPUs the load must share with the server. By default both server cores run on CPU 0 and the load on CPU 1:
//! the load then steals nothing, the figure is steadier, and what it shows is the work of a hop (mailbox, wake-up,
//! switch), not the gain of a second CPU. `--spread` puts the cores on CPUs 0 and 1 with the load wherever it fits.
//!
//! Plain clients are redis-benchmark. Its cluster client takes no cluster of one node and makes other keys than its plain
//! one, so that the cluster client is our own, beside a plain one of ours for the same keys: every connection sends its
//! batch, then every one reads its replies; a cluster client's connections each go to the port of a core and ask for keys
//! of its slots.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use protocol::request::encode;
use storage::{SLOTS, Slot};

use crate::Bench;
use crate::client::pin;
use crate::histogram::median;
use crate::process::{Plan, Server};
use crate::report::Report;

const ROUNDS: usize = 7;
const KEYS: u64 = 1_000_000;
const REQUESTS: u64 = 1_000_000;
const CONNECTIONS: usize = 48;
const CORES: usize = 2;
const PIPELINE: usize = 16;
const VALUE: [u8; 64] = [b'v'; 64];
const CLUSTER: &str = "--cluster-enabled yes --core-port-base {core_port}";
const ANSWER_SECONDS_MAX: u64 = 60;

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let spread = bench.options.spread;
    let cpus = if spread { "0,1" } else { "0" };
    let plan = || Plan::meridian(bench).on(cpus);
    let plans = [
        plan().named("one core"),
        plan().named("two cores").with("--cores 2"),
        plan()
            .named("two cores, own ports")
            .with("--cores 2")
            .with(CLUSTER),
    ];
    let servers = plans
        .iter()
        .map(|plan| Server::start(bench, plan))
        .collect::<io::Result<Vec<_>>>()?;
    let keys = Keys::new(bench.options.scaled(KEYS));
    for server in &servers {
        Load::connect(server, &keys)?.fill()?;
    }
    let [one, two, ports] = servers.as_slice() else {
        return Ok(report);
    };
    let runs = [
        Run::new(one, "redis-benchmark", None),
        Run::new(two, "redis-benchmark", None),
        Run::new(one, "plain client", Some(&keys)),
        Run::new(two, "plain client", Some(&keys)),
        Run::new(ports, "cluster client", Some(&keys)),
    ];
    report.note(if spread {
        "Server cores on CPUs 0 and 1, load on either, P16, 48 or 50 connections. Noisier than with all cores on one CPU."
    } else {
        "All server cores on CPU 0, load on CPU 1, P16, 48 or 50 connections: what a hop costs, not what a second CPU gains. \
         `x` is the median of the ratios to one core under the same kind of load (redis-benchmark, or our own clients)."
    });
    report.heads(&["load", "client", "server", "ops/s", "us/req", "x", "spread"]);
    for what in [What::Set, What::Get] {
        let rounds = measure(bench, &runs, what)?;
        for (index, run) in runs.iter().enumerate() {
            let base = if run.keys.is_none() { 0 } else { 2 };
            let samples: Vec<&Sample> =
                rounds.iter().filter_map(|round| round.get(index)).collect();
            let ratios: Vec<f64> = rounds
                .iter()
                .filter_map(|round| Some(round.get(index)?.us / round.get(base)?.us))
                .collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            report.row([
                format!("{what:?} P{PIPELINE}").to_uppercase(),
                run.client.to_owned(),
                run.server.name.to_owned(),
                format!("{:.0}", median(samples.iter().map(|sample| sample.ops))),
                format!("{:.3}", median(samples.iter().map(|sample| sample.us))),
                format!("{:.2}", median(ratios)),
                format!("{least:.2}..{most:.2}"),
            ]);
        }
    }
    Ok(report)
}

/// A client of some kind and the server it asks.
struct Run<'r> {
    server: &'r Server,
    client: &'static str,
    /// The keys of our own clients; none for redis-benchmark.
    keys: Option<&'r Keys>,
}

impl<'r> Run<'r> {
    fn new(server: &'r Server, client: &'static str, keys: Option<&'r Keys>) -> Run<'r> {
        Run {
            server,
            client,
            keys,
        }
    }

    fn sample(&self, bench: &Bench<'_>, what: What) -> io::Result<Sample> {
        let requests = bench.options.scaled(REQUESTS);
        let load_cpu = (!bench.options.spread).then_some(1);
        let Some(keys) = self.keys else {
            let test = match what {
                What::Set => "-t set",
                What::Get => "-t get",
            };
            let cpus = if bench.options.spread { "0,1" } else { "1" };
            let load = crate::load::Load {
                cpus,
                ..crate::load::Load::of(test, PIPELINE as u32, requests)
            };
            let sample = load.run(bench, self.server)?;
            return Ok(Sample {
                ops: sample.ops,
                us: sample.us,
            });
        };
        let mut load = Load::connect(self.server, keys)?;
        let cpu_before = self.server.cpu()?;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| {
                load_cpu.into_iter().for_each(pin);
                load.ask(what, requests)
            });
            let died = |_| Err(io::Error::other("the loading thread died"));
            loading.join().unwrap_or_else(died)
        })?;
        Ok(Sample {
            ops: requests as f64 / begun.elapsed().as_secs_f64(),
            us: self.server.cpu()?.since(cpu_before).all_us / requests as f64,
        })
    }
}

/// What one run showed: requests a second, server CPU per request.
#[derive(Default)]
struct Sample {
    ops: f64,
    us: f64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Set,
    Get,
}

/// Rounds of one sample per run, in the runs' order.
fn measure(bench: &Bench<'_>, runs: &[Run<'_>], what: What) -> io::Result<Vec<Vec<Sample>>> {
    let mut rounds = Vec::new();
    for number in 0..bench.options.rounds(ROUNDS) {
        let mut order: Vec<usize> = (0..runs.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        let mut round: Vec<Sample> = runs.iter().map(|_| Sample::default()).collect();
        for index in order {
            if let (Some(run), Some(sample)) = (runs.get(index), round.get_mut(index)) {
                *sample = run.sample(bench, what)?;
            }
        }
        rounds.push(round);
    }
    Ok(rounds)
}

/// Numbers of keys: all, and those of each core.
struct Keys {
    all: Vec<u64>,
    of_core: [Vec<u64>; CORES],
}

impl Keys {
    fn new(count: u64) -> Keys {
        let mut of_core = [Vec::new(), Vec::new()];
        for number in 0..count {
            let core = Slot::of(&key(number)).index() * CORES / SLOTS;
            of_core
                .iter_mut()
                .skip(core)
                .take(1)
                .for_each(|keys| keys.push(number));
        }
        Keys {
            all: (0..count).collect(),
            of_core,
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn set(number: u64, out: &mut Vec<u8>) {
    encode(&[b"SET".as_slice(), &key(number), &VALUE], out);
}

fn get(number: u64, out: &mut Vec<u8>) {
    encode(&[b"GET".as_slice(), &key(number)], out);
}

/// Connections to one server, each with the keys it asks for.
struct Load<'k> {
    connections: Vec<(TcpStream, &'k [u64])>,
    seed: u64,
    request: Vec<u8>,
    replies: Vec<u8>,
}

impl<'k> Load<'k> {
    fn connect(server: &Server, keys: &'k Keys) -> io::Result<Load<'k>> {
        let mut connections = Vec::new();
        for number in 0..CONNECTIONS {
            let core = number % CORES;
            let (port, keys) = match keys.of_core.get(core) {
                Some(keys) if server.core_port != 0 => (server.core_port + core as u16, keys),
                _ => (server.port, &keys.all),
            };
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))?;
            connections.push((stream, keys.as_slice()));
        }
        Ok(Load {
            connections,
            seed: 0x9e37_79b9_7f4a_7c15,
            request: Vec::new(),
            replies: Vec::new(),
        })
    }

    /// Sets every key once, by the first two connections: each has the keys of one core, or all.
    fn fill(&mut self) -> io::Result<()> {
        for (stream, keys) in self.connections.iter_mut().take(CORES) {
            for batch in keys.chunks(PIPELINE) {
                self.request.clear();
                for number in batch {
                    set(*number, &mut self.request);
                }
                stream.write_all(&self.request)?;
                collect(stream, What::Set, batch.len(), &mut self.replies)?;
            }
        }
        Ok(())
    }

    /// At least so many requests for keys by chance.
    fn ask(&mut self, what: What, requests: u64) -> io::Result<()> {
        let mut left = requests;
        while left > 0 {
            for (stream, keys) in &mut self.connections {
                self.request.clear();
                for _ in 0..PIPELINE {
                    self.seed = self
                        .seed
                        .wrapping_mul(0x5851_f42d_4c95_7f2d)
                        .wrapping_add(1);
                    let at = (self.seed >> 33) as usize % keys.len().max(1);
                    let number = keys.get(at).copied().unwrap_or_default();
                    match what {
                        What::Set => set(number, &mut self.request),
                        What::Get => get(number, &mut self.request),
                    }
                }
                stream.write_all(&self.request)?;
            }
            for (stream, _) in &mut self.connections {
                collect(stream, what, PIPELINE, &mut self.replies)?;
            }
            left = left.saturating_sub((PIPELINE * CONNECTIONS) as u64);
        }
        Ok(())
    }
}

/// Reads so many replies, all of one length.
fn collect(
    stream: &mut TcpStream,
    what: What,
    count: usize,
    replies: &mut Vec<u8>,
) -> io::Result<()> {
    let (begin, bytes): (&[u8], usize) = match what {
        What::Set => (b"+OK\r\n", 5),
        What::Get => (b"$64\r\nv", 5 + VALUE.len() + 2),
    };
    replies.resize(count * bytes, 0);
    stream.read_exact(replies)?;
    if replies.chunks(bytes).all(|reply| reply.starts_with(begin)) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(replies);
    let line = text.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("{what:?}: {line}")))
}
