//! What the way through Meridian costs a client while a Redis still holds the data (phase `front` of a migration), beside the same requests
//! straight to that Redis: both in the same run, in turns of half a second.
//!
//! ```text
//!  clients, one request each under way ── straight ────────────> redis-server
//!                                      ── through ─> Meridian ──>              SET: passed on; GET: answered by Meridian itself
//! ```
//! All of them share both CPUs, the clients too: in front everything is paid twice on this machine, which it is not with a machine for each. Clients
//! are threads, each with a connection and a closed loop.

use std::io;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::backfill::{attach, is_there, migrate};
use crate::client::{Client, Fill};
use crate::histogram::{Latencies, median};
use crate::process::{Plan, Server};
use crate::report::Report;

/// Clients at a time.
const LOADS: [usize; 3] = [1, 16, 50];
const KEYS: u64 = 100_000;
const VALUE: [u8; 64] = [b'v'; 64];
/// Turns of each way in a case, and how long each is.
const ROUNDS: usize = 12;
const SLICE: Duration = Duration::from_millis(500);
/// A copy of so few keys takes so long at most.
const COPY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// Commands that are asked in turn.
const CASES: &[(&str, &[&str])] = &[
    ("GET", &["GET"]),
    ("SET", &["SET"]),
    ("SET, then GET of the same key", &["SET", "GET"]),
];

/// A slice of one way.
struct Slice {
    latencies: Latencies,
    /// Requests that Meridian has passed on meanwhile, and those that it has answered itself.
    passed_on: f64,
    answered: f64,
}

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let source = Server::start(
        bench,
        &Plan::redis(bench)
            .on("0,1")
            .with("--repl-diskless-sync-delay 0"),
    )?;
    let fill = Fill {
        value_bytes: VALUE.len(),
        expiring: false,
        one_tag: false,
        pipeline: 100,
    };
    fill.keys(&source, 0..KEYS)?;
    let plan = Plan::meridian(bench)
        .on("0,1")
        .with("--cores 2 --appendonly yes --admin-port {admin_port}");
    let node = Server::start(bench, &plan)?;
    attach(bench, &node, &source)?;
    let keys = Client::connect(&source)?.ask(&[b"DBSIZE"])?;
    let (mut client, begun) = (Client::connect(&node)?, Instant::now());
    while !is_there(&mut client, &keys)? {
        if begun.elapsed() > COPY_MAX {
            return Err(io::Error::other("a copy does not end"));
        }
        std::thread::sleep(LOOK);
    }
    migrate(bench, &node, &["advance"])?;
    // (What a source has at offset 0 of its history, where no replica has ever been, cannot be told from nothing: reads wait for its first byte.)
    Client::connect(&source)?.ask(&[b"SET", b"begun", b"1"])?;
    report.note(&format!(
        "{KEYS} keys, values of {} bytes; source, Meridian (2 cores, with its log) and clients share both CPUs. Microseconds of a request as the client sees it, \
         medians of the slices of {} ms; `x` is the median of the ratios to the way straight to the source, slice by slice. `here`: share of the requests that Meridian \
         has answered itself.",
        VALUE.len(),
        SLICE.as_millis(),
    ));
    report.heads(&[
        "requests", "clients", "way", "p50 us", "x p50", "p99 us", "x p99", "each s", "here %",
    ]);
    for (name, commands) in CASES {
        for clients in LOADS {
            case(
                bench,
                [&source, &node],
                (name, commands),
                clients,
                &mut report,
            )?;
        }
    }
    Ok(report)
}

fn case(
    bench: &Bench<'_>,
    servers: [&Server; 2],
    (name, commands): (&str, &[&str]),
    clients: usize,
    report: &mut Report,
) -> io::Result<()> {
    let mut ways = servers.map(|_| Vec::new());
    let connect = |server: &Server| -> io::Result<Vec<Client>> {
        (0..clients).map(|_| Client::connect(server)).collect()
    };
    let mut all = [connect(servers[0])?, connect(servers[1])?];
    let node = servers[1];
    for number in 0..bench.options.rounds(ROUNDS) {
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        for at in order {
            ways[at].push(slice(node, &mut all[at], commands)?);
        }
    }
    tell(report, (name, clients), ways);
    Ok(())
}

/// A row for each way.
fn tell(report: &mut Report, (name, clients): (&str, usize), mut ways: [Vec<Slice>; 2]) {
    const SHARES: [f64; 2] = [0.50, 0.99];
    let figures = |slices: &mut [Slice]| {
        SHARES.map(|share| -> Vec<f64> {
            let latencies = slices.iter_mut().map(|slice| &mut slice.latencies);
            latencies.map(|latencies| latencies.us(share)).collect()
        })
    };
    let straight = figures(&mut ways[0]);
    for (way, slices) in ["straight", "through"].iter().zip(&mut ways) {
        let sum = |figure: fn(&Slice) -> f64| slices.iter().map(figure).sum::<f64>();
        let requests = sum(|slice| slice.latencies.len() as f64);
        let (passed_on, answered) = (sum(|slice| slice.passed_on), sum(|slice| slice.answered));
        let seconds = SLICE.as_secs_f64() * slices.len() as f64;
        let mut cells = vec![name.to_owned(), clients.to_string(), (*way).to_owned()];
        for (own, straight) in figures(slices).into_iter().zip(&straight) {
            let pairs = own.iter().zip(straight);
            let ratio = median(pairs.map(|(own, straight)| own / straight));
            cells.extend([format!("{:.0}", median(own)), format!("{ratio:.2}")]);
        }
        cells.push(format!("{:.0}", requests / seconds));
        cells.push(match *way {
            "through" => format!("{:.0}", 100.0 * answered / (answered + passed_on)),
            _ => String::new(),
        });
        report.row(cells);
    }
}

/// Closed loops for a slice of time.
fn slice(node: &Server, clients: &mut [Client], commands: &[&str]) -> io::Result<Slice> {
    let mut teller = Client::connect(node)?;
    let mut counted = || -> io::Result<[f64; 2]> {
        let mut counts = [0.0; 2];
        for (count, name) in counts
            .iter_mut()
            .zip(["front_passed_on", "front_answered_here"])
        {
            *count = teller.info("migration", name)?.unwrap_or_default();
        }
        Ok(counts)
    };
    let before = counted()?;
    let took = std::thread::scope(|scope| {
        let loops: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| scope.spawn(move || ask(client, number as u64, commands)))
            .collect();
        let mut took = Vec::new();
        for one in loops {
            let died = |_| io::Error::other("a client died");
            took.extend(one.join().map_err(died)??);
        }
        Ok::<_, io::Error>(took)
    })?;
    let after = counted()?;
    let mut latencies = Latencies::default();
    took.into_iter()
        .for_each(|nanoseconds| latencies.add(nanoseconds));
    Ok(Slice {
        latencies,
        passed_on: after[0] - before[0],
        answered: after[1] - before[1],
    })
}

/// One client: how long each of its requests took, ns.
fn ask(client: &mut Client, number: u64, commands: &[&str]) -> io::Result<Vec<u128>> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    let mut rng = storage::Rng::new(number + 1);
    let mut key = Vec::new();
    while begun.elapsed() < SLICE {
        let at = took.len() % commands.len();
        if at == 0 {
            key = format!("key:{:012}", rng.next_u64() % KEYS).into_bytes();
        }
        let command = commands[at];
        let words: &[&[u8]] = match command {
            "SET" => &[b"SET", &key, &VALUE],
            _ => &[b"GET", &key],
        };
        let sent = Instant::now();
        let answer = client.ask(words)?;
        took.push(sent.elapsed().as_nanos());
        if answer.is_error() {
            return Err(io::Error::other(format!("{command}: {answer:?}")));
        }
    }
    Ok(took)
}
