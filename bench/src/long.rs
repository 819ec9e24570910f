//! Does a long request keep others waiting? One client sends it over and over while another asks GET of a key of another slot
//! a thousand times a second, on one core.
//!
//! The asking client is the open loop of `growth.rs`. The long one sends its request and an ECHO behind it, and throws away what
//! it reads up to the echo: so it costs the CPU that it shares with the asking one as little as can be. The longest turn of the
//! core is the server's own figure, by the CPU clock of the core's thread (`turn-cpu-clock`).
//!
//! LONG_CASES names the cases to run (words, any of which a case's name holds).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::request::encode;

use crate::Bench;
use crate::client::{Client, Fill, pin};
use crate::growth::{Asked, ask};
use crate::memory::fill_from_cpu_one;
use crate::process::{Plan, Server};
use crate::report::Report;

/// A case is run for so long, and at least once.
const CASE_SECONDS: u64 = 6;
/// Words of one request that fills.
const FILL_WORDS: u64 = 500;
const ECHO: &[u8] = b"$16\r\nthe-end-of-reply\r\n";

/// How the values of a group of cases are made.
#[derive(Clone, Copy)]
enum Make {
    Nothing,
    List,
    Sets,
    LargeSet,
    Hash,
    Zsets,
    Stream,
    Strings,
    Keys,
}

/// Requests of a case, apart by `;`, or by `&` when the second does not wait for the first. A case that must wait until a key is gone says `GONE key`.
type Case = (&'static str, &'static str);

const GROUPS: &[(Make, &[Case])] = &[
    (Make::Nothing, &[("nothing beside", "PING")]),
    (
        Make::List,
        &[
            ("SORT, 1 M elements", "SORT l LIMIT 0 10"),
            ("SORT, whole reply", "SORT l"),
            ("SORT ALPHA", "SORT l ALPHA LIMIT 0 10"),
            ("SORT STORE", "SORT l STORE sorted"),
            ("LRANGE 0 -1, 1 M", "LRANGE l 0 -1"),
            ("LREM, 1 M", "LREM l 0 none"),
            ("LINSERT, 1 M", "LINSERT l BEFORE none x"),
            ("LPOS, 1 M", "LPOS l none"),
            ("COPY of a list, DEL", "COPY l copied;DEL copied"),
            ("DUMP, 1 M", "DUMP l"),
            ("MEMORY USAGE", "MEMORY USAGE l"),
            ("MULTI with LRANGE", "MULTI&LRANGE l 0 -1&EXEC"),
        ],
    ),
    (
        Make::Sets,
        &[
            ("SMEMBERS, 1 M", "SMEMBERS {s}1"),
            ("SORT of a set", "SORT {s}1 LIMIT 0 10"),
            ("SINTER, 1 M each", "SINTER {s}1 {s}2"),
            ("SINTERCARD", "SINTERCARD 2 {s}1 {s}2"),
            ("SUNION", "SUNION {s}1 {s}2"),
            ("SUNIONSTORE", "SUNIONSTORE {s}d {s}1 {s}2"),
            ("SDIFF", "SDIFF {s}1 {s}2"),
        ],
    ),
    (
        Make::LargeSet,
        &[
            ("COPY and DEL, 10 M members", "COPY big gone;DEL gone"),
            ("COPY and UNLINK", "COPY big gone;UNLINK gone"),
            ("COPY and SET over it", "COPY big gone;SET gone x;DEL gone"),
            ("COPY and expiry", "COPY big gone;PEXPIRE gone 1;GONE gone"),
        ],
    ),
    (Make::Hash, &[("HGETALL, 1 M", "HGETALL h")]),
    (
        Make::Zsets,
        &[
            ("ZRANGE 0 -1, 1 M", "ZRANGE {z}1 0 -1"),
            ("ZUNION", "ZUNION 2 {z}1 {z}2"),
            ("ZUNIONSTORE", "ZUNIONSTORE {z}d 2 {z}1 {z}2"),
        ],
    ),
    (Make::Stream, &[("XRANGE - +, 1 M", "XRANGE x - +")]),
    (
        Make::Strings,
        &[
            ("BITCOUNT, 512 MB", "BITCOUNT {b}1"),
            ("BITOP NOT", "BITOP NOT {b}d {b}1"),
            ("SETRANGE at the end", "SETRANGE {b}1 536870911 x"),
            (
                "SETRANGE that makes one, DEL",
                "SETRANGE {b}n 536870911 x;DEL {b}n",
            ),
        ],
    ),
    (
        Make::Keys,
        &[
            ("KEYS *, 5 M keys", "KEYS *"),
            ("FLUSHALL, 5 M keys", "FLUSHALL"),
        ],
    ),
];

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    report.note(
        "One core. One client sends a long request over and over, another asks GET of a key of another slot 1000 times a second in \
         an open loop; microseconds from when a question was due, `sent` from when it was sent. Aims: p99.9 below 10000, the core's longest turn by its own \
         CPU clock at most 1000.",
    );
    report.heads(&[
        "case",
        "runs",
        "ms each",
        "questions",
        "p50",
        "p99",
        "p99.9",
        "max",
        "sender max",
        "sent p99.9",
        "longest turn, CPU us",
    ]);
    let wanted = std::env::var("LONG_CASES").unwrap_or_default();
    let is_wanted =
        |case: &Case| wanted.is_empty() || wanted.split(',').any(|word| case.0.contains(word));
    for (make, cases) in GROUPS {
        let mut cases = cases.iter().filter(|case| is_wanted(case)).peekable();
        if cases.peek().is_none() {
            continue;
        }
        let plan = Plan::meridian(bench).with("--turn-cpu-clock yes");
        let server = Server::start(bench, &plan)?;
        made(bench, *make, &server)?;
        for case in cases {
            row(&server, case, &mut report)?;
        }
    }
    Ok(report)
}

/// Runs a case and tells it.
fn row(server: &Server, (name, requests): &Case, report: &mut Report) -> io::Result<()> {
    let mut client = Client::connect(server)?;
    client.ask(&[b"SET", b"other", b"v"])?;
    client.ask(&[b"CONFIG", b"RESETSTAT"])?;
    let end = AtomicBool::new(false);
    let (runs, seconds, asked) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(server, b"other", &end));
        let told = repeat(server, requests);
        end.store(true, Ordering::Relaxed);
        let died = |_| Err(io::Error::other("the asking thread died"));
        let asked = asking.join().unwrap_or_else(died)?;
        told.map(|(runs, seconds)| (runs, seconds, asked))
    })?;
    let Asked {
        mut latencies,
        mut late,
        mut sent,
    } = asked;
    let turn = client.info("meridian", "turn_longest_cpu_us")?;
    let figures = [0.50, 0.99, 0.999, 1.0].map(|share| format!("{:.0}", latencies.us(share)));
    report.row(
        [
            (*name).to_owned(),
            runs.to_string(),
            format!("{:.1}", seconds * 1000.0 / f64::from(runs)),
            latencies.len().to_string(),
        ]
        .into_iter()
        .chain(figures)
        .chain([
            format!("{:.0}", late.us(1.0)),
            format!("{:.0}", sent.us(0.999)),
            turn.map_or("not told".to_owned(), |us| format!("{us:.0}")),
        ]),
    );
    Ok(())
}

/// Sends the requests again and again for the time of a case; how often, and the seconds that it took.
fn repeat(server: &Server, requests: &str) -> io::Result<(u32, f64)> {
    pin(1);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let begun = Instant::now();
    let mut runs = 0;
    while runs == 0 || begun.elapsed() < Duration::from_secs(CASE_SECONDS) {
        for request in requests.split(';') {
            match request.strip_prefix("GONE ") {
                Some(key) => while !is_gone(server, key)? {},
                None => send(&mut stream, request)?,
            }
        }
        runs += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    if requests == "FLUSHALL" {
        // What it threw away is freed behind it.
        std::thread::sleep(Duration::from_secs(CASE_SECONDS));
    }
    Ok((runs, seconds))
}

fn is_gone(server: &Server, key: &str) -> io::Result<bool> {
    std::thread::sleep(Duration::from_millis(1));
    let answer = Client::connect(server)?.ask(&[b"EXISTS", key.as_bytes()])?;
    Ok(matches!(answer, protocol::answer::Answer::Int(0)))
}

/// Sends requests and reads to the end of their replies.
fn send(stream: &mut TcpStream, request: &str) -> io::Result<()> {
    let mut bytes = Vec::new();
    for request in request.split('&') {
        encode(&request.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    encode(&["ECHO", "the-end-of-reply"], &mut bytes);
    stream.write_all(&bytes)?;
    let mut room = vec![0; 256 << 10];
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let count = stream.read(&mut room)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let got = &room[..count];
        tail.extend_from_slice(&got[got.len().saturating_sub(ECHO.len())..]);
        tail.drain(..tail.len().saturating_sub(ECHO.len()));
        if tail == ECHO {
            return Ok(());
        }
    }
}

/// Makes the values of a group.
fn made(bench: &Bench<'_>, make: Make, server: &Server) -> io::Result<()> {
    let million = bench.options.scaled(1_000_000);
    match make {
        Make::Nothing => Ok(()),
        Make::List => fill(server, "RPUSH", "l", 0..million, |n| vec![n.to_string()]),
        Make::Sets => {
            let member = |n: u64| vec![format!("member:{n}")];
            fill(server, "SADD", "{s}1", 0..million, member)?;
            fill(server, "SADD", "{s}2", million / 2..million * 3 / 2, member)
        }
        Make::LargeSet => fill(server, "SADD", "big", 0..million * 10, |n| {
            vec![format!("m{n}")]
        }),
        Make::Hash => fill(server, "HSET", "h", 0..million, |n| {
            vec![format!("f{n}"), n.to_string()]
        }),
        Make::Zsets => {
            let entry = |n: u64| vec![n.to_string(), format!("member:{n}")];
            fill(server, "ZADD", "{z}1", 0..million, entry)?;
            fill(server, "ZADD", "{z}2", million / 2..million * 3 / 2, entry)
        }
        Make::Stream => {
            let mut client = Client::connect(server)?;
            let script =
                b"for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'field', i) end";
            for _ in 0..million / 1000 {
                client.ask(&[b"EVAL", script, b"1", b"x", b"1000"])?;
            }
            Ok(())
        }
        Make::Strings => {
            let mut client = Client::connect(server)?;
            client.ask(&[b"SETRANGE", b"{b}1", b"536870911", b"x"])?;
            // Pages that have been written to.
            client.ask(&[b"BITOP", b"NOT", b"{b}1", b"{b}1"])?;
            Ok(())
        }
        Make::Keys => {
            let fill = Fill {
                value_bytes: 32,
                expiring: false,
                one_tag: false,
                pipeline: 16,
            };
            fill_from_cpu_one(&fill, server, 0..million * 5)
        }
    }
}

/// Adds numbered elements to a value, many a request.
fn fill(
    server: &Server,
    command: &str,
    key: &str,
    numbers: std::ops::Range<u64>,
    element: impl Fn(u64) -> Vec<String>,
) -> io::Result<()> {
    let mut client = Client::connect(server)?;
    let mut next = numbers.start;
    while next < numbers.end {
        let end = numbers.end.min(next + FILL_WORDS);
        let mut words = vec![command.to_owned(), key.to_owned()];
        // In an order that is not theirs: it is to be sorted.
        let mixed = |n: u64| n.wrapping_mul(0x9E37_79B9) % numbers.end.max(1);
        words.extend((next..end).flat_map(|n| match command {
            "RPUSH" => element(mixed(n)),
            _ => element(n),
        }));
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        client.ask(&words)?;
        next = end;
    }
    Ok(())
}
