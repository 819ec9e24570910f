//! Resident memory per item: growth of a fresh process at some counts of keys, with and without an expiry, and for collections; and how
//! much of it is left when keys have been removed.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::Duration;

use protocol::request::encode;

use crate::Bench;
use crate::client::{Client, Fill, pin};
use crate::process::{Plan, Server};
use crate::report::Report;

/// Between doublings of a table and on both sides of them.
const COUNTS: [u64; 4] = [1_000_000, 3_000_000, 5_000_000, 7_000_000];
/// What a server does soon after a load, it has done.
const SETTLE: Duration = Duration::from_millis(300);

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let counts = COUNTS.map(|count| bench.options.scaled(count));
    report.note(
        "Growth of resident memory per key in bytes: 16-byte keys, 32-byte values (48 bytes of payload), a fresh process \
         filled from count to count.",
    );
    let heads = counts.map(|count| format!("{:.1} M keys", count as f64 / 1e6));
    let mut all = vec!["server", "expiry"];
    all.extend(heads.iter().map(String::as_str));
    report.heads(&all);
    let plans = [
        Some(Plan::redis(bench)),
        Some(Plan::meridian(bench)),
        Plan::valkey(bench),
        Plan::memcached(bench),
    ];
    for expiring in [false, true] {
        let kind = if expiring { "with" } else { "without" };
        let mut redis = None;
        for plan in plans.iter().flatten() {
            let each = fill(bench, plan, expiring, counts)?;
            let redis = *redis.get_or_insert(each);
            let cells = each
                .iter()
                .zip(redis)
                .map(|(bytes, base)| format!("{bytes:.1} (x{:.2})", bytes / base));
            report.row(
                [plan.name.to_owned(), kind.to_owned()]
                    .into_iter()
                    .chain(cells),
            );
            if plan.name == "meridian" {
                for ((bytes, base), head) in each.iter().zip(redis).zip(&heads) {
                    report.bar(format!("{head} {kind} expiry"), bytes / base, None);
                }
            }
        }
    }
    collections(bench, &mut report)?;
    removals(bench, &mut report)?;
    Ok(report)
}

/// A kind of collection.
struct Shape {
    name: &'static str,
    /// Bytes an item that may be needed, on the machine of the pages kept here.
    at_most: f64,
    /// What is counted, and requests for it.
    items: u64,
    requests: u64,
    words: Words,
}

/// Members sent with one request.
const MEMBERS: u64 = 100;

const SHAPES: &[Shape] = &[
    Shape {
        name: "hash of 5 fields (f0: 8 bytes ...)",
        at_most: 115.0,
        items: 1_000_000,
        requests: 1_000_000,
        words: |number| {
            let pairs =
                (0..5).map(|n| (format!("f{n}"), format!("value{:03}", (number + n) % 1000)));
            let pairs = pairs.flat_map(|(field, value)| [field, value]);
            words("HSET", format!("key:{number:012}"), pairs)
        },
    },
    Shape {
        name: "member of a sorted set of 1 M",
        at_most: 60.0,
        items: 1_000_000,
        requests: 1_000_000 / MEMBERS,
        words: |number| {
            // The scores come in an order that means nothing: a permutation, since the step and the count have no common factor.
            let scores =
                (number * MEMBERS..(number + 1) * MEMBERS).map(|n| n * 618_033 % 1_000_000);
            let pairs = scores.flat_map(|n| [n.to_string(), format!("member:{n:09}")]);
            words("ZADD", "z".to_owned(), pairs)
        },
    },
    Shape {
        name: "member of a set of 1 M",
        at_most: 42.0,
        items: 1_000_000,
        requests: 1_000_000 / MEMBERS,
        words: |number| {
            let members = number * MEMBERS..(number + 1) * MEMBERS;
            words(
                "SADD",
                "s".to_owned(),
                members.map(|n| format!("member:{n:09}")),
            )
        },
    },
    Shape {
        name: "list of 10 items (7 bytes each)",
        at_most: 140.0,
        items: 100_000,
        requests: 100_000,
        words: |number| {
            let items = (0..10).map(|n| format!("value{n:02}"));
            words("RPUSH", format!("key:{number:012}"), items)
        },
    },
];

fn words(command: &str, key: String, rest: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    let all = [command.to_owned(), key].into_iter().chain(rest);
    all.map(String::into_bytes).collect()
}

fn collections(bench: &Bench<'_>, report: &mut Report) -> io::Result<()> {
    report.note("The same of collections: of each a fresh process, members of 16 bytes. `used` is the growth of used_memory per item.");
    report.heads(&["server", "item", "bytes", "used", "at most"]);
    for shape in SHAPES {
        let mut redis = None;
        let plans = [
            Some(Plan::redis(bench)),
            Some(Plan::meridian(bench)),
            Plan::valkey(bench),
        ];
        for plan in plans.iter().flatten() {
            let server = Server::start(bench, plan)?;
            let mut client = Client::connect(&server)?;
            sleep(SETTLE);
            let used = |client: &mut Client| client.info("memory", "used_memory");
            let (empty, empty_used) = (server.rss_bytes()?, used(&mut client)?);
            send(&server, bench.options.scaled(shape.requests), shape.words)?;
            sleep(SETTLE);
            let items = bench.options.scaled(shape.items) as f64;
            let bytes = (server.rss_bytes()? - empty) / items;
            let counted = used(&mut client)?
                .zip(empty_used)
                .map(|(full, empty)| full - empty);
            let counted = counted.map_or(String::new(), |bytes| format!("{:.1}", bytes / items));
            let base = *redis.get_or_insert(bytes);
            let cell = format!("{bytes:.1} (x{:.2})", bytes / base);
            let at_most = format!("{:.0}", shape.at_most);
            report.row([
                plan.name.to_owned(),
                shape.name.to_owned(),
                cell,
                counted,
                at_most,
            ]);
        }
    }
    Ok(())
}

/// Sends requests by pipelines of a hundred, and looks at every answer.
pub(crate) fn send(
    server: &Server,
    requests: u64,
    words: impl Fn(u64) -> Vec<Vec<u8>>,
) -> io::Result<()> {
    const PIPELINE: u64 = 100;
    let (mut stream, mut client) = Client::connect(server)?.split()?;
    let (mut next, mut out) = (0, Vec::new());
    while next < requests {
        out.clear();
        let end = requests.min(next + PIPELINE);
        for number in next..end {
            let words = words(number);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            encode(&words, &mut out);
        }
        stream.write_all(&out)?;
        for _ in next..end {
            if let protocol::answer::Answer::Error(why) = client.answer()? {
                let why = String::from_utf8_lossy(&why).into_owned();
                return Err(io::Error::other(format!("{}: {why}", server.name)));
            }
        }
        next = end;
    }
    Ok(())
}

/// Keys of the run in which some are removed.
const REMOVED_FROM: u64 = 3_000_000;
/// A server that gives memory back in the background does so within this time.
const GIVE_BACK: Duration = Duration::from_secs(5);

fn removals(bench: &Bench<'_>, report: &mut Report) -> io::Result<()> {
    report.note(
        "What is left of the growth of 3 M keys (as above, without expiry), percent: when the older half of them has been removed, when \
         every second of the others has, and after FLUSHALL; five seconds later each.",
    );
    report.heads(&[
        "server",
        "half of the keys",
        "a quarter of them, scattered",
        "none",
    ]);
    let plans = [
        Some(Plan::redis(bench)),
        Some(Plan::meridian(bench)),
        Plan::valkey(bench),
    ];
    for plan in plans.iter().flatten() {
        let server = Server::start(bench, plan)?;
        let fill = Fill {
            value_bytes: 32,
            expiring: false,
            one_tag: false,
            pipeline: 100,
        };
        sleep(SETTLE);
        let (empty, count) = (server.rss_bytes()?, bench.options.scaled(REMOVED_FROM));
        fill_from_cpu_one(&fill, &server, 0..count)?;
        sleep(SETTLE);
        let full = server.rss_bytes()? - empty;
        let mut cells = vec![plan.name.to_owned()];
        let half = count / 2 / MEMBERS;
        let older: Words = |n| words_of_keys("DEL", (n * MEMBERS..(n + 1) * MEMBERS).collect());
        let scattered: Words = |n| {
            let first = REMOVED_FROM / 2 + n * MEMBERS;
            words_of_keys("DEL", (first..first + MEMBERS).step_by(2).collect())
        };
        let steps: [(u64, Words); 3] = [
            (half, older),
            (half, scattered),
            (1, |_| vec![b"FLUSHALL".to_vec()]),
        ];
        for (requests, words) in steps {
            send(&server, requests, words)?;
            sleep(GIVE_BACK);
            let left = (server.rss_bytes()? - empty) / full * 100.0;
            cells.push(format!("{left:.0}"));
        }
        report.row(cells);
    }
    Ok(())
}

/// The words of a request, by its number.
type Words = fn(u64) -> Vec<Vec<u8>>;

fn words_of_keys(command: &str, numbers: Vec<u64>) -> Vec<Vec<u8>> {
    let keys = numbers
        .into_iter()
        .map(|n| format!("key:{n:012}").into_bytes());
    [command.as_bytes().to_vec()]
        .into_iter()
        .chain(keys)
        .collect()
}

/// Bytes per key at each of the counts.
fn fill(
    bench: &Bench<'_>,
    plan: &Plan,
    expiring: bool,
    counts: [u64; COUNTS.len()],
) -> io::Result<[f64; COUNTS.len()]> {
    let server = Server::start(bench, plan)?;
    let fill = Fill {
        value_bytes: 32,
        expiring,
        one_tag: false,
        pipeline: 100,
    };
    sleep(SETTLE);
    let empty = server.rss_bytes()?;
    let mut each = [0.0; COUNTS.len()];
    let mut loaded = 0;
    for (bytes, count) in each.iter_mut().zip(counts) {
        fill_from_cpu_one(&fill, &server, loaded..count)?;
        loaded = count;
        sleep(SETTLE);
        *bytes = (server.rss_bytes()? - empty) / count as f64;
    }
    Ok(each)
}

/// On a thread of its own, since it is pinned.
pub(crate) fn fill_from_cpu_one(
    fill: &Fill,
    server: &Server,
    numbers: std::ops::Range<u64>,
) -> io::Result<()> {
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| {
            pin(1);
            fill.keys(server, numbers)
        });
        let died = |_| Err(io::Error::other("the filling thread died"));
        filling.join().unwrap_or_else(died)
    })
}
