//! What the log of writes costs: syncs and CPU per request with `appendfsync always`, and what `everysec` adds to a SET.
//!
//! Syncs are counted by `perf`, in the kernel, for both servers alike: redis-server has no counter of them. What `everysec` adds is
//! the difference of two servers of one kind, with and without a log, of the same round.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::Bench;
use crate::histogram::median;
use crate::load::{Load, Sample};
use crate::process::{Plan, Server, signal};
use crate::report::{Report, judged};

const ALWAYS_REQUESTS: u64 = 30_000;
const ALWAYS_ROUNDS: usize = 5;
/// Of redis-server's syncs, and of its CPU.
const ALWAYS_MAX: f64 = 0.80;
const EVERYSEC_REQUESTS: u64 = 400_000;
const EVERYSEC_ROUNDS: usize = 7;
/// What a SET may cost more, us.
const EVERYSEC_US_MAX: f64 = 0.50;

const ALWAYS: &str = "--appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0";
const EVERYSEC: &str = "--appendonly yes --appendfsync everysec --auto-aof-rewrite-percentage 0";

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    report.note(
        "Server on CPU 0, redis-benchmark -t set on CPU 1, 50 connections, 64-byte values. `x` is the median of the ratios to \
         redis-server of the same round [least..most]; us/req is server CPU per request, its threads included.",
    );
    always(bench, &mut report)?;
    everysec(bench, &mut report)?;
    Ok(report)
}

/// Syncs in the kernel by a process, while `load` runs.
fn counted(
    server: &Server,
    load: impl FnOnce() -> io::Result<Sample>,
) -> io::Result<(Sample, f64)> {
    let mut perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", "syscalls:sys_enter_fdatasync"])
        .args([
            "-e",
            "syscalls:sys_enter_fsync",
            "-p",
            &server.pid().to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let sample = load();
    signal(perf.id(), Signal::INT);
    let mut text = String::new();
    if let Some(said) = &mut perf.stderr {
        io::Read::read_to_string(said, &mut text)?;
    }
    perf.wait()?;
    let counts = text.lines().filter(|line| line.contains("sync"));
    let counts = counts.filter_map(|line| line.split(',').next()?.parse::<f64>().ok());
    let syncs: f64 = counts.sum();
    if syncs == 0.0 {
        return Err(io::Error::other(format!(
            "perf has counted no syncs: {text}"
        )));
    }
    Ok((sample?, syncs))
}

fn always(bench: &Bench<'_>, report: &mut Report) -> io::Result<()> {
    report.note("`appendfsync always`, P=1:");
    report.heads(&[
        "server",
        "ops/s",
        "us/req",
        "x us/req",
        "syncs per 1,000 writes",
        "x syncs",
    ]);
    let servers = [
        Server::start(bench, &Plan::redis(bench).with(ALWAYS))?,
        Server::start(bench, &Plan::meridian(bench).with(ALWAYS))?,
    ];
    let requests = bench.options.scaled(ALWAYS_REQUESTS);
    let load = Load::of("-t set", 1, requests);
    let mut rounds: Vec<[(Sample, f64); 2]> = Vec::new();
    for _ in 0..bench.options.rounds(ALWAYS_ROUNDS) {
        let [redis, meridian] = &servers;
        let redis = counted(redis, || load.run(bench, redis))?;
        let meridian = counted(meridian, || load.run(bench, meridian))?;
        rounds.push([redis, meridian]);
    }
    for (at, server) in servers.iter().enumerate() {
        let figures = |figure: fn(&(Sample, f64)) -> f64| {
            let own = median(rounds.iter().map(|round| figure(&round[at])));
            let x = median(
                rounds
                    .iter()
                    .map(|round| figure(&round[at]) / figure(&round[0])),
            );
            (own, x)
        };
        let (us, x_us) = figures(|(sample, _)| sample.us);
        let (syncs, x_syncs) = figures(|(_, syncs)| *syncs);
        let (ops, _) = figures(|(sample, _)| sample.ops);
        let target = (at == 1).then_some(ALWAYS_MAX);
        if at == 1 {
            report.bar("CPU, always P1".to_owned(), x_us, target);
            report.bar("syncs, always P1".to_owned(), x_syncs, target);
        }
        report.row([
            server.name.to_owned(),
            format!("{ops:.0}"),
            format!("{us:.2}"),
            judged(x_us, target),
            format!("{:.1}", syncs * 1000.0 / requests as f64),
            judged(x_syncs, target),
        ]);
    }
    Ok(())
}

/// A key to seal the log with, in a file of its own.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new() -> io::Result<KeyFile> {
        let path = std::env::temp_dir().join(format!("compare-keys-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let key = KeyFile(path);
        writeln!(file, "bench {}", "5e".repeat(32))?;
        Ok(key)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        // What is left in the folder for temporary files is nobody's secret.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn everysec(bench: &Bench<'_>, report: &mut Report) -> io::Result<()> {
    report.note("`appendfsync everysec` beside no log at all, SET at P=16; `sealed`: with a key for encryption at rest:");
    report.heads(&[
        "server",
        "us/req without",
        "us/req with",
        "more us/req [least..most]",
    ]);
    let key = KeyFile::new()?;
    let sealed = format!("--encryption-key-file {}", key.0.display());
    let servers = [
        Server::start(bench, &Plan::redis(bench))?,
        Server::start(bench, &Plan::redis(bench).with(EVERYSEC))?,
        Server::start(bench, &Plan::meridian(bench))?,
        Server::start(bench, &Plan::meridian(bench).with(EVERYSEC))?,
        Server::start(bench, &Plan::meridian(bench).with(EVERYSEC).with(&sealed))?,
    ];
    let load = Load::of("-t set", 16, bench.options.scaled(EVERYSEC_REQUESTS));
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for number in 0..bench.options.rounds(EVERYSEC_ROUNDS) {
        let mut round = vec![0.0; servers.len()];
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            round[at] = load.run(bench, &servers[at])?.us;
        }
        rounds.push(round);
    }
    for (at, with, name) in [
        (0, 1, "redis"),
        (2, 3, "meridian"),
        (2, 4, "meridian, sealed"),
    ] {
        let more = || rounds.iter().map(|round| round[with] - round[at]);
        let target = (with == 3).then_some(EVERYSEC_US_MAX);
        let (least, most) = (
            more().fold(f64::INFINITY, f64::min),
            more().fold(f64::NEG_INFINITY, f64::max),
        );
        report.row([
            name.to_owned(),
            format!("{:.3}", median(rounds.iter().map(|round| round[at]))),
            format!("{:.3}", median(rounds.iter().map(|round| round[with]))),
            format!("{} [{least:.2}..{most:.2}]", judged(median(more()), target)),
        ]);
    }
    Ok(())
}
