//! What it means to follow a source by scan, and what stands in the way of that.

use super::{Here, Report, Told, Weight, bytes, keyspace, number};
use crate::scan::lacking;

/// What is barred where a source must be followed so.
pub(super) const PSYNC: &str = "psync";
/// What it does without.
const NOT_NEEDED: [&str; 3] = [PSYNC, "replconf", "config"];
/// What only it needs.
const ONLY_NEEDED: &str = "psubscribe";
/// Requests for a key in a pass, and for one that was touched.
const REQUESTS_OF_PASS: u64 = 3;

/// Whether a command is needed of those that a migration may send.
pub(super) fn needs(name: &str, by_scan: bool) -> bool {
    match by_scan {
        true => !NOT_NEEDED.contains(&name),
        false => name != ONLY_NEEDED,
    }
}

pub(super) fn of_scan(told: &Told, here: &Here<'_>, report: &mut Report) {
    if !here.by_scan {
        return;
    }
    report.add(Weight::Note, meaning(told), PROMISE);
    match told.option("notify-keyspace-events").map(|flags| (flags, lacking(flags))) {
        Some((_, None)) => {}
        Some((flags, Some(wanted))) => report.add(
            Weight::Warning,
            format!("notify-keyspace-events is '{flags}': `start` sets it to '{wanted}' at the source, where it stays"),
            "set it there yourself, if its users of keyspace events must not get more of them",
        ),
        None => report.add(
            Weight::Warning,
            "CONFIG GET is not allowed: whether it sends keyspace events is tried by `start`, with a key that nobody sees",
            "notify-keyspace-events must be KEA there: of a managed service it is set in its parameters",
        ),
    }
    let is_large = |bytes: &u64| *bytes > here.scan_value_bytes_max;
    let large = told.samples.iter().map(|key| key.bytes).filter(is_large);
    let count = large.count();
    if count > 0 {
        report.add(
            Weight::Stop,
            format!(
                "{count} of {} keys that were looked at have more than migrate-scan-value-max-bytes ({})",
                told.samples.len(),
                bytes(here.scan_value_bytes_max)
            ),
            "CONFIG SET migrate-scan-value-max-bytes here: the source serves nobody while it dumps one of them",
        );
    }
}

/// What is guaranteed, and when.
const PROMISE: &str = "what is here is what is there when a pass was whole and all that was touched has been read again: that is waited for at the flip, while writes are fenced there. In front all reads are passed on";

/// What is done there, and what it costs.
pub(super) fn meaning(told: &Told) -> String {
    let (keys, _) = keyspace(&told.info);
    let requests = keys.saturating_mul(REQUESTS_OF_PASS);
    let ops = number(&told.info, "instantaneous_ops_per_sec");
    format!(
        "by scan: all keys are read there (about {requests} requests for a whole pass), and each again after its keyspace events (up to four more for each write; it serves {ops} requests a second now). A link that is lost, and FLUSHALL, cost another pass; there is no going on from an offset"
    )
}
