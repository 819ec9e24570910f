//! How often a server enters the kernel per request, and how long one client alone waits for an answer.
//!
//! Meridian counts its own entries (INFO meridian); strace, where it is, counts those of both in a run of its own.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Bench;
use crate::client::{Client, Fill, pin};
use crate::histogram::{Latencies, median};
use crate::load::Load;
use crate::process::{Plan, Server, number, signal};
use crate::report::Report;

const KEYS: u64 = 100_000;
const ATTACH_SECONDS_MAX: u64 = 5;

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let servers = [
        Server::start(bench, &Plan::redis(bench))?,
        Server::start(bench, &Plan::meridian(bench))?,
    ];
    let fill = Fill {
        value_bytes: 64,
        expiring: false,
        one_tag: false,
        pipeline: 100,
    };
    for server in &servers {
        fill.keys(server, 0..KEYS)?;
    }
    report.note("Entries into the kernel per request, GET, 50 connections:");
    report.heads(&["server", "counted by", "P1", "P16"]);
    let [_, meridian] = &servers;
    let [one, many] = [1, 16].map(|pipeline| own_count(bench, meridian, pipeline));
    row(&mut report, "meridian", "itself (INFO)", one?, many?);
    for server in &servers {
        if bench.programs.strace.is_none() {
            report.note(
                "SKIPPED: strace is not installed: system calls are not counted from outside.",
            );
            break;
        }
        match (traced(bench, server, 1), traced(bench, server, 16)) {
            (Ok(one), Ok(many)) => row(&mut report, server.name, "strace", one, many),
            (Err(why), _) | (_, Err(why)) => report.note(&format!("SKIPPED: strace: {why}")),
        }
    }
    report.note(
        "Under strace a server is slowed and its batches are others: those rows are to be compared with each other only.",
    );
    alone(bench, &mut report, &servers)?;
    Ok(report)
}

fn row(report: &mut Report, server: &str, by: &str, one: f64, many: f64) {
    report.row([
        server.to_owned(),
        by.to_owned(),
        format!("{one:.3}"),
        format!("{many:.3}"),
    ]);
}

fn load(bench: &Bench<'_>, pipeline: u32, requests: u64) -> Load {
    Load::of("-t get", pipeline, bench.options.scaled(requests))
}

/// By Meridian's own counters, before and after.
fn own_count(bench: &Bench<'_>, server: &Server, pipeline: u32) -> io::Result<f64> {
    let mut client = Client::connect(server)?;
    let mut counters = || -> io::Result<(f64, f64)> {
        let entries = client.info("meridian", "kernel_entries")?;
        let commands = client.info("stats", "total_commands_processed")?;
        let absent = || io::Error::other("INFO tells no kernel_entries");
        Ok((entries.ok_or_else(absent)?, commands.ok_or_else(absent)?))
    };
    let (entries, commands) = counters()?;
    load(bench, pipeline, 100_000 * u64::from(pipeline)).run(bench, server)?;
    let (entries_after, commands_after) = counters()?;
    Ok((entries_after - entries) / (commands_after - commands))
}

/// By strace, whose summary ends with a line of totals.
fn traced(bench: &Bench<'_>, server: &Server, pipeline: u32) -> io::Result<f64> {
    let program = bench
        .programs
        .strace
        .as_ref()
        .ok_or(io::ErrorKind::NotFound)?;
    let name = format!("compare-strace-{}", std::process::id());
    let summary = std::env::temp_dir().join(name);
    let mut command = Command::new(program);
    command
        .args(["-c", "-f", "-p", &server.pid().to_string(), "-o"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut strace = bench.children.spawn(&mut command, None)?;
    let end = Instant::now() + Duration::from_secs(ATTACH_SECONDS_MAX);
    let mut attached = false;
    while !attached && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        attached = number(tracer) > 0.0;
    }
    let load = load(bench, pipeline, 30_000 * u64::from(pipeline));
    let outcome = if attached {
        load.run(bench, server).map(drop)
    } else {
        Err(io::Error::other("it could not attach"))
    };
    signal(strace.id(), Signal::INT);
    strace.wait()?;
    bench.children.forget(strace.id());
    let text = fs::read_to_string(&summary).unwrap_or_default();
    // It may never have been written.
    let _ = fs::remove_file(&summary);
    outcome?;
    let total = text.lines().find(|line| line.ends_with(" total"));
    let calls = number(total.and_then(|line| line.split_whitespace().nth(3)));
    if calls == 0.0 {
        return Err(io::Error::other("no total in its summary"));
    }
    Ok(calls / load.requests as f64)
}

/// One connection, one question at a time, from CPU 1.
fn alone(bench: &Bench<'_>, report: &mut Report, servers: &[Server]) -> io::Result<()> {
    let questions = bench.options.scaled(20_000);
    let mut found: Vec<Vec<(f64, f64)>> = vec![Vec::new(); servers.len()];
    for number in 0..bench.options.rounds(15) {
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for index in order {
            if let (Some(server), Some(found)) = (servers.get(index), found.get_mut(index)) {
                let mut latencies = one_client(server, questions)?;
                found.push((latencies.us(0.50), latencies.us(0.99)));
            }
        }
    }
    report.note(
        "One connection, one GET at a time; microseconds, median of the rounds; `x` is the median of the ratios to the first \
         server's of the same round:",
    );
    report.heads(&["server", "p50", "p99", "x p50"]);
    let first = found.first().cloned().unwrap_or_default();
    for (server, found) in servers.iter().zip(found) {
        let ratios = found.iter().zip(&first).map(|(own, other)| own.0 / other.0);
        let ratio = median(ratios);
        report.row([
            server.name.to_owned(),
            format!("{:.1}", median(found.iter().map(|(half, _)| *half))),
            format!("{:.1}", median(found.iter().map(|(_, most)| *most))),
            format!("{ratio:.2}"),
        ]);
    }
    Ok(())
}

/// On a thread of its own, since it is pinned.
fn one_client(server: &Server, questions: u64) -> io::Result<Latencies> {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            pin(1);
            let mut client = Client::connect(server)?;
            let mut latencies = Latencies::default();
            for number in 0..questions {
                let key = format!("key:{:012}", number % KEYS);
                let begun = Instant::now();
                client.ask(&[b"GET", key.as_bytes()])?;
                latencies.add(begun.elapsed().as_nanos());
            }
            Ok(latencies)
        });
        let died = |_| Err(io::Error::other("the asking thread died"));
        asking.join().unwrap_or_else(died)
    })
}
