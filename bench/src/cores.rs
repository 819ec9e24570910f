//! Two cores against one: what a request costs when half of the keys belong to the other core.
//!
//! On two CPUs the load must share with the server. By default both server cores run on CPU 0 and the load on CPU 1:
//! the load then steals nothing, the figure is steadier, and what it shows is the work of a hop (mailbox, wake-up,
//! switch), not the gain of a second CPU. `--spread` puts the cores on CPUs 0 and 1 with the load wherever it fits.
//!
//! redis-benchmark takes no cluster of one node, so that the cluster client too is divided by the plain one on one core;
//! its keys are a few bytes longer (their hash tag).

use std::io;

use crate::Bench;
use crate::client::Fill;
use crate::histogram::median;
use crate::load::{Load, Sample};
use crate::process::{Plan, Server};
use crate::report::Report;

const ROUNDS: usize = 5;
const KEYS: u64 = 1_000_000;
const CLUSTER: &str = "--cluster-enabled yes --core-port-base {core_port}";

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let spread = bench.options.spread;
    let (cpus, load_cpus) = if spread { ("0,1", "0,1") } else { ("0", "1") };
    let plan = || Plan::meridian(bench).on(cpus);
    let plans = [
        plan().named("one core, plain client"),
        plan().named("two cores, plain client").with("--cores 2"),
        plan()
            .named("two cores, cluster client")
            .with("--cores 2")
            .with(CLUSTER),
    ];
    let servers = plans
        .iter()
        .map(|plan| Server::start(bench, plan))
        .collect::<io::Result<Vec<_>>>()?;
    let fill = Fill {
        value_bytes: 64,
        expiring: false,
        one_tag: false,
        pipeline: 100,
    };
    // A cluster's keys are spread by redis-benchmark itself: its SET rounds fill them.
    for server in servers.iter().filter(|server| server.core_port == 0) {
        fill.keys(server, 0..bench.options.scaled(KEYS))?;
    }
    report.note(if spread {
        "Server cores on CPUs 0 and 1, load on either, P16, 50 connections. Noisier than with all cores on one CPU."
    } else {
        "All server cores on CPU 0, load on CPU 1, P16, 50 connections: what a hop costs, not what a second CPU gains."
    });
    report.heads(&["load", "client", "ops/s", "us/req", "x one core", "spread"]);
    for what in ["-t set", "-t get"] {
        let rounds = measure(bench, &servers, what, load_cpus)?;
        for (index, server) in servers.iter().enumerate() {
            let samples: Vec<&Sample> =
                rounds.iter().filter_map(|round| round.get(index)).collect();
            let ratios: Vec<f64> = rounds
                .iter()
                .filter_map(|round| Some(round.get(index)?.us / round.first()?.us))
                .collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            report.row([
                format!("{} P16", what.trim_start_matches("-t ").to_uppercase()),
                server.name.to_owned(),
                format!("{:.0}", median(samples.iter().map(|sample| sample.ops))),
                format!("{:.3}", median(samples.iter().map(|sample| sample.us))),
                format!("{:.2}", median(ratios)),
                format!("{least:.2}..{most:.2}"),
            ]);
        }
    }
    Ok(report)
}

/// Rounds of one sample per server, in the servers' order.
fn measure(
    bench: &Bench<'_>,
    servers: &[Server],
    what: &'static str,
    cpus: &'static str,
) -> io::Result<Vec<Vec<Sample>>> {
    let requests = bench.options.scaled(1_000_000);
    let mut rounds = Vec::new();
    for number in 0..bench.options.rounds(ROUNDS) {
        let load = |server: &Server| {
            let load = Load {
                cpus,
                cluster: server.core_port != 0,
                ..Load::of(what, 16, requests)
            };
            load.run(bench, server)
        };
        let mut round = if number % 2 == 0 {
            servers.iter().map(load).collect::<io::Result<Vec<_>>>()?
        } else {
            servers
                .iter()
                .rev()
                .map(load)
                .collect::<io::Result<Vec<_>>>()?
        };
        if number % 2 == 1 {
            round.reverse();
        }
        rounds.push(round);
    }
    Ok(rounds)
}
