//! How long a full copy of a Redis takes, and what it costs the Redis: by a fresh replica of its own kind, and by a fresh Meridian that
//! `meridian migrate start` has attach to it; one after the other, in turn, from the same source.
//!
//! ```text
//!           CPU 0             CPU 1     (or all of them on both)
//!  source (and its child) ──copy──> redis-server --replicaof      rounds 0, 2: this one first
//!                         ──copy──> meridian migrate start        rounds 1: that one first
//! ```
//! Seconds are from the word of the operator until the data is there and the stream is followed (`master_link_status` of both, and the same
//! number of keys); for Meridian they include the assessment that `start` makes. CPU of the source is its own and that of the child
//! that writes the copy, as it tells them (INFO cpu).

use std::io;
use std::time::{Duration, Instant};

use protocol::answer::Answer;

use crate::Bench;
use crate::client::Client;
use crate::histogram::median;
use crate::memory::send;
use crate::persistence::mixed;
use crate::process::{Plan, Server};
use crate::report::{Report, judged};

const KEYS: u64 = 5_000_000;
const ROUNDS: usize = 3;
/// Of the seconds of redis-server as a replica: one and a half times as fast.
const SECONDS_MAX: f64 = 1.0 / 1.5;
/// Of the CPU of a source that is copied by redis-server.
const SOURCE_CPU_MAX: f64 = 1.0;
/// A copy takes so long at most, and an answer of an operator's command.
const COPY_MAX: Duration = Duration::from_secs(300);
const COMMAND_SECONDS_MAX: u64 = 60;
/// How often it is looked whether all is there.
const LOOK: Duration = Duration::from_millis(10);
/// What a source does soon after a copy, it has done.
const SETTLE: Duration = Duration::from_secs(2);

/// Who copies.
struct Copier {
    plan: Plan,
    /// By the words of a migration.
    migrates: bool,
}

/// What one copy took: seconds by the clock, and of CPU.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    source_cpu_s: f64,
    own_cpu_s: f64,
}

/// Where a source and those who copy it run.
struct Layout {
    text: &'static str,
    source: &'static str,
    copier: &'static str,
    cores: &'static str,
    /// Whether a Meridian with its log copies, too.
    logs: bool,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        text: "Each on a CPU of its own: the source and the child that writes the copy on one, who copies on the other, with one core.",
        source: "0",
        copier: "1",
        cores: "--cores 1",
        logs: true,
    },
    Layout {
        text: "All of them on both CPUs, Meridian with two cores.",
        source: "0,1",
        copier: "0,1",
        cores: "--cores 2",
        logs: false,
    },
];

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    report.note(&format!(
        "A full copy of a redis-server that holds {} keys: six strings in ten, hashes, lists, sets, sorted sets of 5, every fifth expiring. Seconds until the \
         data is there and the stream is followed; `x` is the median of the ratios to redis-server as a replica, of the same round. Aims: {SECONDS_MAX:.2} \
         of its seconds, no more CPU of the source.",
        bench.options.scaled(KEYS)
    ));
    for layout in &LAYOUTS {
        report.note(layout.text);
        copies(bench, layout, &mut report)?;
    }
    Ok(report)
}

fn copies(bench: &Bench<'_>, layout: &Layout, report: &mut Report) -> io::Result<()> {
    let plan = Plan::redis(bench).named("source").on(layout.source);
    let source = Server::start(bench, &plan.with("--repl-diskless-sync-delay 0"))?;
    send(&source, bench.options.scaled(KEYS), mixed)?;
    let meridian = || {
        let plan = Plan::meridian(bench).on(layout.copier).with(layout.cores);
        plan.with("--admin-port {admin_port}")
    };
    let copier = |plan, migrates| Copier { plan, migrates };
    let mut copiers = vec![
        copier(Plan::redis(bench).on(layout.copier), false),
        copier(meridian(), true),
    ];
    if layout.logs {
        let plan = meridian().named("meridian, with its log");
        copiers.push(copier(plan.with("--appendonly yes"), true));
    }
    let rounds = bench.options.rounds(ROUNDS);
    let mut all: Vec<Vec<Took>> = vec![Vec::new(); copiers.len()];
    for number in 0..rounds {
        let mut order: Vec<usize> = (0..copiers.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            all[at].push(copied(bench, &source, &copiers[at])?);
        }
    }
    tell(report, &copiers, &all);
    Ok(())
}

fn tell(report: &mut Report, copiers: &[Copier], all: &[Vec<Took>]) {
    report.heads(&[
        "copied by",
        "s",
        "x s",
        "spread",
        "CPU s of the source",
        "x CPU of the source",
        "own CPU s",
    ]);
    for (copier, own) in copiers.iter().zip(all) {
        let name = copier.plan.name;
        let of = |figure: fn(&Took) -> f64| median(own.iter().map(figure));
        let ratios = |figure: fn(&Took) -> f64| {
            let pairs = own.iter().zip(&all[0]);
            pairs.map(move |(own, redis)| figure(own) / figure(redis))
        };
        let seconds = median(ratios(|took| took.seconds));
        let source_cpu = median(ratios(|took| took.source_cpu_s));
        let least = ratios(|took| took.seconds).fold(f64::INFINITY, f64::min);
        let most = ratios(|took| took.seconds).fold(0.0, f64::max);
        let (seconds_max, cpu_max) = match copier.migrates {
            true => (Some(SECONDS_MAX), Some(SOURCE_CPU_MAX)),
            false => (None, None),
        };
        if copier.migrates {
            report.bar(format!("{name}: seconds"), seconds, seconds_max);
            report.bar(format!("{name}: CPU of the source"), source_cpu, cpu_max);
        }
        report.row([
            name.to_owned(),
            format!("{:.2}", of(|took| took.seconds)),
            judged(seconds, seconds_max),
            format!("{least:.2}..{most:.2}"),
            format!("{:.2}", of(|took| took.source_cpu_s)),
            judged(source_cpu, cpu_max),
            format!("{:.2}", of(|took| took.own_cpu_s)),
        ]);
    }
}

/// One copy by a server that is started for it.
fn copied(bench: &Bench<'_>, source: &Server, copier: &Copier) -> io::Result<Took> {
    let server = Server::start(bench, &copier.plan)?;
    let mut there = Client::connect(source)?;
    let mut here = Client::connect(&server)?;
    let source_before = cpu_with_children(&mut there)?;
    let own_before = server.cpu_seconds()?;
    let begun = Instant::now();
    if copier.migrates {
        attach(bench, &server, source)?;
    } else {
        let port = source.port.to_string();
        here.ask(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()])?;
    }
    let wanted = there.ask(&[b"DBSIZE"])?;
    while !is_there(&mut here, &wanted)? {
        if begun.elapsed() > COPY_MAX {
            return Err(io::Error::other(format!(
                "{}: a copy does not end",
                server.name
            )));
        }
        std::thread::sleep(LOOK);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let own_cpu_s = server.cpu_seconds()? - own_before;
    drop(here);
    drop(server);
    // (Its child is counted once it has been waited for.)
    std::thread::sleep(SETTLE);
    let source_cpu_s = cpu_with_children(&mut there)? - source_before;
    Ok(Took {
        seconds,
        source_cpu_s,
        own_cpu_s,
    })
}

/// The operator's words: from here on it follows.
pub(crate) fn attach(bench: &Bench<'_>, server: &Server, source: &Server) -> io::Result<()> {
    let there = format!("127.0.0.1:{}", source.port);
    let here = format!("127.0.0.1:{}", server.port);
    migrate(bench, server, &["start", &there, "--announce", &here])
}

/// `meridian migrate` with these words.
pub(crate) fn migrate(bench: &Bench<'_>, server: &Server, words: &[&str]) -> io::Result<()> {
    let admin = server.admin_port.ok_or(io::ErrorKind::InvalidInput)?;
    let admin = format!("127.0.0.1:{admin}");
    let program = bench.programs.meridian.display().to_string();
    let all = [&[program.as_str(), "migrate"], words, &["--admin", &admin]].concat();
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    bench.children.run(COMMAND_SECONDS_MAX, &all).map(|_| ())
}

/// Whether a server follows its source, and has as many keys.
pub(crate) fn is_there(client: &mut Client, keys: &Answer) -> io::Result<bool> {
    let link = client.info_word("replication", "master_link_status")?;
    Ok(link.as_deref() == Some("up") && client.ask(&[b"DBSIZE"])? == *keys)
}

/// CPU seconds of a redis-server and of its children that have ended.
fn cpu_with_children(client: &mut Client) -> io::Result<f64> {
    let mut sum = 0.0;
    for name in [
        "used_cpu_sys",
        "used_cpu_user",
        "used_cpu_sys_children",
        "used_cpu_user_children",
    ] {
        sum += client.info("cpu", name)?.unwrap_or_default();
    }
    Ok(sum)
}
