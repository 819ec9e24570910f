//! Does a table that grows keep others waiting? Ten million keys are loaded while a second client asks a thousand
//! times a second.
//!
//! The second client is an open loop: question i is due at i milliseconds, is sent then whether or not those before
//! it were answered, and its latency counts from when it was due. A stall is thus seen by every question that fell
//! into it, not only by the first. It shares CPU 1 with the loader: how late it was in sending is told beside, and is
//! part of the latency.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use protocol::request::encode;

use crate::Bench;
use crate::client::{Client, Fill, come_first, pin};
use crate::histogram::Latencies;
use crate::memory::fill_from_cpu_one;
use crate::process::{Plan, Server};
use crate::report::Report;

const KEYS: u64 = 10_000_000;
const QUESTION_EVERY: Duration = Duration::from_millis(1);
/// A load takes a minute at most; questions end with it or here.
const QUESTIONS_MAX: u32 = 300_000;

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let keys = bench.options.scaled(KEYS);
    report.note(&format!(
        "{keys} keys (16 bytes, values of 32) are loaded by 8 connections at P16 while one more asks GET 1000 times a second \
         in an open loop; microseconds from when a question was due, and how late its sender was."
    ));
    report.heads(&[
        "server",
        "load s",
        "questions",
        "p50",
        "p99",
        "p99.9",
        "max",
        "sender p99.9",
        "sender max",
    ]);
    let fill = Fill {
        value_bytes: 32,
        expiring: false,
        one_tag: false,
        pipeline: 16,
    };
    let tagged = Fill {
        one_tag: true,
        ..fill
    };
    let runs = [
        (Some(Plan::redis(bench)), fill),
        (Some(Plan::meridian(bench)), fill),
        (Plan::valkey(bench), fill),
        (
            Some(Plan::meridian(bench).named("meridian, one hash tag")),
            tagged,
        ),
    ];
    // Each run is a row: a stall is to be seen, not averaged.
    for number in 0..bench.options.rounds.unwrap_or(1) {
        let mut order: Vec<_> = runs.iter().collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for (plan, fill) in order {
            if let Some(plan) = plan {
                asked_while_loaded(bench, &mut report, plan, fill, keys)?;
            }
        }
    }
    report.note(
        "The longest turn of Meridian in such a load, by its core's own CPU clock (microseconds):",
    );
    report.heads(&["keys", "turn_longest_cpu_us", "turn_longest_us"]);
    for (name, fill) in [("of all slots", fill), ("of one hash tag", tagged)] {
        let plan = Plan::meridian(bench).with("--turn-cpu-clock yes");
        let server = Server::start(bench, &plan)?;
        fill_from_cpu_one(&fill, &server, 0..keys)?;
        let mut client = Client::connect(&server)?;
        let mut told = |name| -> io::Result<String> {
            let figure = client.info("meridian", name)?;
            Ok(figure.map_or("not told".to_owned(), |us| format!("{us:.0}")))
        };
        report.row([
            name.to_owned(),
            told("turn_longest_cpu_us")?,
            told("turn_longest_us")?,
        ]);
    }
    Ok(report)
}

fn asked_while_loaded(
    bench: &Bench<'_>,
    report: &mut Report,
    plan: &Plan,
    fill: &Fill,
    keys: u64,
) -> io::Result<()> {
    let server = Server::start(bench, plan)?;
    // What is asked for exists from the first question on.
    fill.keys(&server, 0..1)?;
    let loaded = AtomicBool::new(false);
    let begun = Instant::now();
    let (seconds, questions) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&server, &fill.key(0), &loaded));
        let filled = fill_from_cpu_one(fill, &server, 1..keys);
        let seconds = begun.elapsed().as_secs_f64();
        loaded.store(true, Ordering::Relaxed);
        let died = |_| Err(io::Error::other("the asking thread died"));
        let questions = asking.join().unwrap_or_else(died)?;
        filled.map(|()| (seconds, questions))
    })?;
    let Asked {
        mut latencies,
        mut late,
        ..
    } = questions;
    let figures = [0.50, 0.99, 0.999, 1.0].map(|share| format!("{:.0}", latencies.us(share)));
    report.row(
        [
            server.name.to_owned(),
            format!("{seconds:.1}"),
            latencies.len().to_string(),
        ]
        .into_iter()
        .chain(figures)
        .chain([0.999, 1.0].map(|share| format!("{:.0}", late.us(share)))),
    );
    Ok(())
}

/// What an open loop has seen.
#[derive(Default)]
pub(crate) struct Asked {
    /// From when a question was due to its answer.
    pub(crate) latencies: Latencies,
    /// From when a question was due to when it was sent.
    pub(crate) late: Latencies,
    /// From when it was sent to its answer.
    pub(crate) sent: Latencies,
}

/// Asks for a key until the end; one thread sends, this one listens.
pub(crate) fn ask(server: &Server, key: &[u8], end: &AtomicBool) -> io::Result<Asked> {
    ask_for(server, &[b"GET", key], end)
}

/// The same of any request.
pub(crate) fn ask_for(server: &Server, words: &[&[u8]], end: &AtomicBool) -> io::Result<Asked> {
    pin(1);
    come_first();
    let (mut sending, mut listening) = Client::connect(server)?.split()?;
    let mut request = Vec::new();
    encode(words, &mut request);
    let (due, dues) = mpsc::channel::<(Instant, Instant)>();
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> io::Result<Latencies> {
            pin(1);
            come_first();
            let mut late = Latencies::default();
            let begun = Instant::now();
            for number in 0..QUESTIONS_MAX {
                let when = begun + QUESTION_EVERY * number;
                let wait = when.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    std::thread::sleep(wait);
                }
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let sent = Instant::now();
                late.add((sent - when).as_nanos());
                // The listener has ended with an error of its own.
                if due.send((when, sent)).is_err() {
                    break;
                }
                sending.write_all(&request)?;
            }
            Ok(late)
        });
        let mut asked = Asked::default();
        // Ends when the sender has ended, and dropped its end of the channel.
        for (when, sent) in dues {
            let answer = listening.answer()?;
            let now = Instant::now();
            asked.latencies.add((now - when).as_nanos());
            asked.sent.add((now - sent).as_nanos());
            if answer.is_error() {
                return Err(io::Error::other("a question was answered by an error"));
            }
        }
        let died = |_| Err(io::Error::other("the sending thread died"));
        asked.late = sender.join().unwrap_or_else(died)?;
        Ok(asked)
    })
}
