//! Options of replication from and to a primary.

use crate::config::choices::{Choice, DisklessLoad};
use crate::config::row::{
    Change, INT_MAX, Kind, LONG_MAX, OPTIONAL_TEXT, PORT_MAX, Row, Standing, at, int, memory,
};
use crate::config::several::REPLICAOF;

const LATER: Standing = Standing::Later("comes with replication");
const BY_FILE: Standing =
    Standing::Needless("a full copy is a file, which replicas that come meanwhile share");
const AT_ONCE: Standing =
    Standing::Needless("a full copy begins at once; replicas that come while it is made share it");
const FAULTS: &[&str] = &["ignore", "panic", "panic-on-replicas"];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "replicaof",
        aliases: &["slaveof"],
        kind: Kind::Several(&REPLICAOF),
        summary: "Host and port of the primary to follow.",
        ..Row::AT_START
    },
    Row {
        name: "masterauth",
        kind: Kind::Secret,
        secret: true,
        place: at!(master_auth),
        summary: "Password for the primary.",
        ..Row::LIVE
    },
    Row {
        name: "masteruser",
        kind: OPTIONAL_TEXT,
        secret: true,
        place: at!(master_user),
        summary: "User name for the primary.",
        ..Row::LIVE
    },
    Row {
        name: "replica-serve-stale-data",
        aliases: &["slave-serve-stale-data"],
        default: "yes",
        place: at!(replica_serve_stale_data),
        summary: "A replica without its primary goes on answering reads.",
        ..Row::LIVE
    },
    Row {
        name: "replica-read-only",
        aliases: &["slave-read-only"],
        default: "yes",
        place: at!(replica_read_only),
        summary: "A replica refuses its clients' writes.",
        ..Row::LIVE
    },
    Row {
        name: "replica-lazy-flush",
        aliases: &["slave-lazy-flush"],
        default: "no",
        standing: Standing::Needless("a flush is always done in slices"),
        summary: "A replica of Redis frees its old data in a thread before a full copy.",
        ..Row::LIVE
    },
    Row {
        name: "replica-ignore-maxmemory",
        aliases: &["slave-ignore-maxmemory"],
        default: "yes",
        standing: LATER,
        summary: "A replica leaves evictions to its primary.",
        ..Row::LIVE
    },
    Row {
        name: "replica-announced",
        default: "yes",
        place: at!(replica_announced),
        summary: "Sentinels are told of this replica.",
        ..Row::LIVE
    },
    Row {
        name: "replica-announce-ip",
        aliases: &["slave-announce-ip"],
        kind: OPTIONAL_TEXT,
        place: at!(replica_announce_ip),
        summary: "Address under which a replica shows itself to its primary.",
        ..Row::LIVE
    },
    Row {
        name: "replica-announce-port",
        aliases: &["slave-announce-port"],
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(replica_announce_port),
        summary: "Port under which a replica shows itself to its primary; 0 for its own.",
        ..Row::LIVE
    },
    Row {
        name: "replica-priority",
        aliases: &["slave-priority"],
        kind: int(0, INT_MAX),
        default: "100",
        place: at!(replica_priority),
        summary: "Sentinels promote the replica with the lowest; 0 is never promoted.",
        ..Row::LIVE
    },
    Row {
        name: "replica-ignore-disk-write-errors",
        default: "no",
        standing: LATER,
        summary: "A replica that cannot write to its disk goes on all the same.",
        ..Row::LIVE
    },
    Row {
        name: "repl-diskless-sync",
        default: "yes",
        standing: BY_FILE,
        summary: "A full copy is sent without a file.",
        ..Row::LIVE
    },
    Row {
        name: "repl-diskless-sync-delay",
        kind: int(0, INT_MAX),
        default: "5",
        standing: AT_ONCE,
        summary: "Seconds to wait for more replicas before a full copy is sent.",
        ..Row::LIVE
    },
    Row {
        name: "repl-diskless-sync-max-replicas",
        kind: int(0, INT_MAX),
        default: "0",
        standing: AT_ONCE,
        summary: "Number of replicas at which that wait ends at once; 0 for none.",
        ..Row::LIVE
    },
    Row {
        name: "repl-diskless-load",
        kind: Kind::OneOf(DisklessLoad::NAMES),
        default: "on-empty-db",
        place: at!(repl_diskless_load),
        change: Change::NotWhileLoading,
        summary: "How a replica loads a full copy: from a file that is whole, or as it arrives where it holds nothing.",
        ..Row::LIVE
    },
    Row {
        name: "repl-ping-replica-period",
        aliases: &["repl-ping-slave-period"],
        kind: int(1, INT_MAX),
        default: "10",
        place: at!(repl_ping_replica_period_s),
        summary: "Seconds between a primary's signs of life.",
        ..Row::LIVE
    },
    Row {
        name: "repl-timeout",
        kind: int(1, INT_MAX),
        default: "60",
        place: at!(repl_timeout_s),
        summary: "Seconds of silence after which a replication link counts as lost.",
        ..Row::LIVE
    },
    Row {
        name: "repl-disable-tcp-nodelay",
        default: "no",
        standing: LATER,
        summary: "Fewer and later packets to replicas.",
        ..Row::LIVE
    },
    Row {
        name: "repl-backlog-size",
        kind: memory(1, LONG_MAX),
        default: "1mb",
        place: at!(repl_backlog_size),
        summary: "Writes kept for replicas that were away for a moment, in bytes.",
        ..Row::LIVE
    },
    Row {
        name: "repl-backlog-ttl",
        kind: int(0, LONG_MAX),
        default: "3600",
        place: at!(repl_backlog_ttl_s),
        summary: "Seconds without a replica after which those writes are dropped; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "min-replicas-to-write",
        aliases: &["min-slaves-to-write"],
        kind: int(0, INT_MAX),
        default: "0",
        place: at!(min_replicas_to_write),
        summary: "Replicas that must be near for a write to be taken; 0 for none.",
        ..Row::LIVE
    },
    Row {
        name: "min-replicas-max-lag",
        aliases: &["min-slaves-max-lag"],
        kind: int(0, INT_MAX),
        default: "10",
        place: at!(min_replicas_max_lag_s),
        summary: "Seconds of silence up to which a replica counts as near.",
        ..Row::LIVE
    },
    Row {
        name: "propagation-error-behavior",
        kind: Kind::OneOf(FAULTS),
        default: "ignore",
        standing: Standing::Needless("effects are absolute and cannot fail on a replica"),
        summary: "What Redis does when a replicated command fails.",
        ..Row::LIVE
    },
];
