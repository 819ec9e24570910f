//! Resident memory per idle connection: ten thousand that have said PING once.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::Bench;
use crate::client::Client;
use crate::process::{Plan, Server};
use crate::report::Report;

const CONNECTIONS: usize = 10_000;
/// Files that are none of the connections: ours, and a server's own.
const OTHER_FILES: u64 = 1100;
/// Before the first connection that counts, so that what exists once is not counted.
const WARM_UP: usize = 50;
const SETTLE: Duration = Duration::from_millis(1500);

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let count = raise_limit();
    report.note(&format!(
        "Growth of resident memory per connection in bytes: {count} connections, each idle after one PING. Memory of the \
         kernel is not in it."
    ));
    report.heads(&["server", "bytes per connection", "x"]);
    let plans = [
        Some(Plan::redis(bench)),
        Some(Plan::meridian(bench)),
        Plan::valkey(bench),
        Plan::memcached(bench),
    ];
    let mut redis = None;
    for plan in plans.iter().flatten() {
        let bytes = idle(bench, plan, count)?;
        let base = *redis.get_or_insert(bytes);
        report.row([
            plan.name.to_owned(),
            format!("{bytes:.0}"),
            format!("{:.2}", bytes / base),
        ]);
        if plan.name != "redis" {
            report.bar(format!("{} connection", plan.name), bytes / base, None);
        }
    }
    Ok(report)
}

fn idle(bench: &Bench<'_>, plan: &Plan, count: usize) -> io::Result<f64> {
    let server = Server::start(bench, plan)?;
    let mut open = Vec::with_capacity(count + WARM_UP);
    let mut connect = |count: usize| -> io::Result<f64> {
        for _ in 0..count {
            let mut client = Client::connect(&server)?;
            client.ping()?;
            open.push(client);
        }
        sleep(SETTLE);
        server.rss_bytes()
    };
    let before = connect(WARM_UP)?;
    let after = connect(count)?;
    Ok((after - before) / count as f64)
}

/// As many connections as may be had: each is a file of ours and one of the server, which inherits our limit.
fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused: the current limit is what there is.
    let _ = setrlimit(Resource::Nofile, limit);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(most.saturating_sub(OTHER_FILES)).unwrap_or(CONNECTIONS);
    if room < CONNECTIONS {
        println!("only {room} connections: the limit of open files is {most}");
    }
    room.min(CONNECTIONS)
}
