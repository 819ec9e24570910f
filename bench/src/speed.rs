//! CPU per request and throughput under redis-benchmark, paired by round, beside the targets.
//!
//! The floor answers every request with one fixed reply and parses nothing: what it costs is the kernel's price, and
//! Meridian at a pipeline of 1 is measured against it too.

use std::collections::BTreeMap;
use std::io;

use crate::Bench;
use crate::client::{Client, Fill};
use crate::histogram::median;
use crate::load::{Load, Sample};
use crate::process::{Plan, Server};
use crate::report::{Report, judged};

pub(crate) const HEADS: &[&str] = &[
    "case",
    "server",
    "ops/s",
    "x",
    "us/req",
    "x us/req",
    "spread",
    "user us/req",
    "x user",
    "x of the floor",
];
const PRELOADED_KEYS: u64 = 200_000;
const FLOOR_MAX: f64 = 1.20;

/// One load, and what Meridian's CPU per request is to be of redis-server's.
pub(crate) struct Case {
    name: &'static str,
    what: &'static str,
    pipeline: u32,
    requests: u64,
    rounds: usize,
    target: Option<f64>,
    user_target: Option<f64>,
    /// The responder takes part: it can answer these as well as any.
    floor: bool,
}

impl Case {
    /// Each request on its own, in so many rounds.
    pub(crate) const fn unpipelined(mut self, rounds: usize) -> Self {
        self.pipeline = 1;
        self.rounds = rounds;
        self
    }
}

pub(crate) const fn case(
    name: &'static str,
    what: &'static str,
    requests: u64,
    target: f64,
) -> Case {
    Case {
        name,
        what,
        pipeline: 16,
        requests,
        rounds: 5,
        target: Some(target),
        user_target: None,
        floor: false,
    }
}

const fn plain(name: &'static str, what: &'static str) -> Case {
    Case {
        floor: true,
        ..case(name, what, 30_000, 0.90).unpipelined(15)
    }
}

const fn deep(name: &'static str, what: &'static str, target: f64, user_target: f64) -> Case {
    Case {
        pipeline: 64,
        user_target: Some(user_target),
        floor: true,
        ..case(name, what, 1_000_000, target)
    }
}

/// What pops comes after what pushes as many.
const CASES: &[Case] = &[
    plain("GET P1", "-t get"),
    plain("SET P1", "-t set"),
    Case {
        floor: true,
        ..case("GET P16", "-t get", 300_000, 0.50)
    },
    Case {
        floor: true,
        ..case("SET P16", "-t set", 300_000, 0.50)
    },
    case("INCR P16", "-t incr", 200_000, 0.62),
    case("HSET P16", "-t hset", 200_000, 0.65),
    case("SADD P16", "-t sadd", 200_000, 0.62),
    case("LPUSH P16", "-t lpush", 200_000, 0.85),
    Case {
        target: None,
        ..case("LPOP P16", "-t lpop", 200_000, 0.0)
    },
    case("ZADD P16", "-t zadd", 150_000, 0.50),
    Case {
        target: None,
        ..case("ZPOPMIN P16", "-t zpopmin", 120_000, 0.0)
    },
    // By its own words: `-t lrange_100` would count the LPUSHes that it begins with.
    case("LRANGE100 P16", "lrange ranged 0 99", 20_000, 0.60),
    case("MSET10 P16", "-t mset", 30_000, 0.40),
    deep("GET P64", "-t get", 0.28, 0.17),
    deep("SET P64", "-t set", 0.32, 0.22),
];

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let servers = start(bench)?;
    report.note(
        "Server on CPU 0, redis-benchmark on CPU 1, 50 connections, 64-byte values, keys from 1,000,000, 200,000 of them \
         loaded before. `x` is the median of the ratios to redis-server of the same round [least..most]; us/req is server \
         CPU per request, user us/req the part outside the kernel. The floor reads and answers a fixed reply, no parsing.",
    );
    report.heads(HEADS);
    let mut noise = Vec::new();
    let only = bench.options.only.as_deref().unwrap_or("").to_lowercase();
    let chosen = |case: &&Case| case.name.to_lowercase().contains(&only);
    for case in CASES.iter().filter(chosen) {
        let rounds = measure(bench, case, &servers)?;
        noise.extend(
            rounds
                .iter()
                .flat_map(|round| round.values().map(|s| s.noise)),
        );
        tell(&mut report, case, &servers, &rounds);
    }
    report.note(&format!(
        "Others kept {:.2} cores busy (median), {:.2} at most.",
        median(noise.iter().copied()),
        noise.iter().copied().fold(0.0, f64::max)
    ));
    Ok(report)
}

fn start(bench: &Bench<'_>) -> io::Result<Vec<Server>> {
    let mut servers = vec![
        Server::start(bench, &Plan::redis(bench))?,
        Server::start(bench, &Plan::meridian(bench))?,
    ];
    if let Some(plan) = Plan::valkey(bench) {
        servers.push(Server::start(bench, &plan)?);
    }
    let fill = Fill {
        value_bytes: 64,
        expiring: false,
        one_tag: false,
        pipeline: 100,
    };
    let member = [b'x'; 64];
    for server in &servers {
        fill.keys(server, 0..PRELOADED_KEYS)?;
        let mut client = Client::connect(server)?;
        for _ in 0..1000 {
            client.ask(&[b"RPUSH", b"ranged", &member])?;
        }
    }
    if let Some(plan) = Plan::floor(bench, floor_io(servers.get(1))?) {
        servers.push(Server::start(bench, &plan)?);
    }
    Ok(servers)
}

/// The responder waits for the kernel the way Meridian does.
fn floor_io(meridian: Option<&Server>) -> io::Result<&'static str> {
    let meridian = meridian.ok_or(io::ErrorKind::InvalidInput)?;
    let api = Client::connect(meridian)?.info_word("server", "multiplexing_api")?;
    Ok(match api.as_deref() {
        Some("epoll") => "epoll",
        _ => "uring",
    })
}

pub(crate) type Round = BTreeMap<&'static str, Sample>;

pub(crate) fn measure(
    bench: &Bench<'_>,
    case: &Case,
    servers: &[Server],
) -> io::Result<Vec<Round>> {
    let load = Load::of(
        case.what,
        case.pipeline,
        bench.options.scaled(case.requests),
    );
    let mut rounds = Vec::new();
    for number in 0..bench.options.rounds(case.rounds) {
        let mut order: Vec<&Server> = servers
            .iter()
            .filter(|server| case.floor || server.name != "floor")
            .collect();
        if number % 2 == 1 {
            order.reverse();
        }
        let mut round = Round::new();
        for server in order {
            round.insert(server.name, load.run(bench, server)?);
        }
        rounds.push(round);
    }
    Ok(rounds)
}

/// What a server's figure was of another's, round by round.
fn ratios(
    rounds: &[Round],
    of: &str,
    to: &str,
    figure: fn(&Sample) -> f64,
) -> impl Iterator<Item = f64> {
    rounds
        .iter()
        .filter_map(move |round| Some(figure(round.get(of)?) / figure(round.get(to)?)))
}

pub(crate) fn tell(report: &mut Report, case: &Case, servers: &[Server], rounds: &[Round]) {
    for server in servers {
        let name = server.name;
        let samples: Vec<&Sample> = rounds.iter().filter_map(|round| round.get(name)).collect();
        if samples.is_empty() {
            continue;
        }
        let ours = name == "meridian";
        let us = median(ratios(rounds, name, "redis", |sample| sample.us));
        let user = median(ratios(rounds, name, "redis", |sample| sample.user_us));
        let least = ratios(rounds, name, "redis", |s| s.us).fold(f64::INFINITY, f64::min);
        let most = ratios(rounds, name, "redis", |s| s.us).fold(0.0, f64::max);
        let floor = median(ratios(rounds, name, "floor", |sample| sample.us));
        let (target, user_target) = if ours {
            (case.target, case.user_target)
        } else {
            (None, None)
        };
        let floor_target = (ours && case.pipeline == 1).then_some(FLOOR_MAX);
        if ours {
            report.bar(case.name.to_owned(), us, target);
            if user_target.is_some() {
                report.bar(
                    format!("{} outside the kernel", case.name),
                    user,
                    user_target,
                );
            }
        }
        report.row([
            case.name.to_owned(),
            name.to_owned(),
            format!("{:.0}", median(samples.iter().map(|sample| sample.ops))),
            format!("{:.2}", median(ratios(rounds, name, "redis", |s| s.ops))),
            format!("{:.3}", median(samples.iter().map(|sample| sample.us))),
            judged(us, target),
            format!("{least:.2}..{most:.2}"),
            format!("{:.3}", median(samples.iter().map(|sample| sample.user_us))),
            judged(user, user_target),
            match floor.is_finite() {
                true => judged(floor, floor_target),
                false => "-".to_owned(),
            },
        ]);
    }
}
