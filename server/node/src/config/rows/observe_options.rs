//! Options of what can be seen of the server at work.

use crate::config::row::{Kind, LONG_MAX, Row, Standing, at, int};
use crate::config::several::{NOTIFY, PERCENTILES};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "slowlog-log-slower-than",
        kind: int(-1, LONG_MAX),
        default: "10000",
        place: at!(slowlog_log_slower_than_us),
        summary: "Microseconds from which a command enters SLOWLOG; 0 for all, -1 for none.",
        standing: Standing::Later("comes with SLOWLOG"),
        ..Row::LIVE
    },
    Row {
        name: "slowlog-max-len",
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(slowlog_max_len),
        summary: "Most entries of SLOWLOG.",
        standing: Standing::Later("comes with SLOWLOG"),
        ..Row::LIVE
    },
    Row {
        name: "latency-monitor-threshold",
        kind: int(0, LONG_MAX),
        default: "0",
        place: at!(latency_monitor_threshold_ms),
        summary: "Milliseconds from which an event is kept for LATENCY; 0 for none.",
        ..Row::LIVE
    },
    Row {
        name: "latency-tracking",
        default: "yes",
        place: at!(latency_tracking),
        summary: "Keep a histogram of each command's run time.",
        ..Row::LIVE
    },
    Row {
        name: "latency-tracking-info-percentiles",
        kind: Kind::Several(&PERCENTILES),
        default: "50 99 99.9",
        summary: "Percentiles of those histograms that INFO shows.",
        ..Row::LIVE
    },
    Row {
        name: "notify-keyspace-events",
        kind: Kind::Several(&NOTIFY),
        summary: "Events on keys that are published, by letter: K or E for the channel, then the kinds.",
        ..Row::LIVE
    },
];
