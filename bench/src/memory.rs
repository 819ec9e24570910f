//! Resident memory per key: growth of a fresh process at some counts of keys, with and without an expiry.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::Bench;
use crate::client::{Fill, pin};
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
    Ok(report)
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
