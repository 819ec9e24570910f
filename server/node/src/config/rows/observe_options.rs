//! Options of what can be seen of the server at work.

use crate::config::row::{Kind, LONG_MAX, Row, at, int};
use crate::config::several::{NOTIFY, PERCENTILES};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "slowlog-log-slower-than",
        aliases: &["commandlog-execution-slower-than"],
        kind: int(-1, LONG_MAX),
        default: "10000",
        place: at!(slowlog_log_slower_than_us),
        summary: "Microseconds from which a command enters SLOWLOG; 0 for all, -1 for none.",
        ..Row::LIVE
    },
    Row {
        name: "slowlog-max-len",
        aliases: &["commandlog-slow-execution-max-len"],
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(slowlog_max_len),
        summary: "Most entries of SLOWLOG.",
        ..Row::LIVE
    },
    Row {
        name: "commandlog-request-larger-than",
        kind: int(-1, LONG_MAX),
        default: "1048576",
        place: at!(commandlog_request_larger_than_bytes),
        summary: "Bytes of a request from which it enters COMMANDLOG; 0 for all, -1 for none.",
        ..Row::LIVE
    },
    Row {
        name: "commandlog-large-request-max-len",
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(commandlog_large_request_max_len),
        summary: "Most large requests in COMMANDLOG.",
        ..Row::LIVE
    },
    Row {
        name: "commandlog-reply-larger-than",
        kind: int(-1, LONG_MAX),
        default: "1048576",
        place: at!(commandlog_reply_larger_than_bytes),
        summary: "Bytes of a reply from which its request enters COMMANDLOG; 0 for all, -1 for none.",
        ..Row::LIVE
    },
    Row {
        name: "commandlog-large-reply-max-len",
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(commandlog_large_reply_max_len),
        summary: "Most requests with a large reply in COMMANDLOG.",
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
        summary: "Keep a histogram of each command's time, from the first byte received to the last byte sent.",
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
