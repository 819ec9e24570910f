//! Options of the cluster.

use crate::config::choices::{Choice, EndpointType};
use crate::config::row::{
    INT_MAX, Kind, LONG_MAX, OPTIONAL_TEXT, PORT_MAX, Row, Standing, TEXT, ULONG_MAX, at, int,
    memory,
};
use crate::config::value::Reject;

/// Longest host name.
const HOSTNAME_BYTES_MAX: usize = 255;

const LATER: Standing = Standing::Later("comes with replication");
const RAFT: Standing = Standing::Needless("each shard group elects its own leader by Raft");

fn host_name(text: &str) -> Result<(), Reject> {
    if text.len() > HOSTNAME_BYTES_MAX {
        return Err(Reject::Rule("Hostnames must be less than 256 characters"));
    }
    if text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    {
        Ok(())
    } else {
        Err(Reject::Rule(
            "Hostnames may only contain alphanumeric characters, hyphens or dots",
        ))
    }
}

fn human_name(text: &str) -> Result<(), Reject> {
    if text.bytes().any(|b| b"!#$%&()*+:;<>?@[]^{|}~".contains(&b)) {
        Err(Reject::Rule(
            "Announced human node name contained invalid character",
        ))
    } else {
        Ok(())
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "cluster-enabled",
        default: "no",
        place: at!(cluster_enabled),
        summary: "Speak to clients as a Redis Cluster.",
        ..Row::AT_START
    },
    Row {
        name: "cluster-slot-stats-enabled",
        default: "no",
        place: at!(cluster_slot_stats_enabled),
        summary: "CLUSTER SLOT-STATS also tells the processor time and the bytes of each slot's requests.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-config-file",
        kind: TEXT,
        default: "nodes.conf",
        place: at!(cluster_config_file),
        standing: Standing::Needless("the cluster's state is kept in Meridian's own files"),
        summary: "File in which Redis keeps what it knows of the cluster.",
        ..Row::AT_START
    },
    Row {
        name: "cluster-node-timeout",
        kind: int(0, LONG_MAX),
        default: "15000",
        place: at!(cluster_node_timeout_ms),
        standing: LATER,
        summary: "Milliseconds of silence after which a node counts as failing.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-port",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(cluster_port),
        standing: LATER,
        summary: "Port of the links between nodes; 0 for `port` + 10000.",
        ..Row::AT_START
    },
    Row {
        name: "cluster-announce-ip",
        kind: OPTIONAL_TEXT,
        place: at!(cluster_announce_ip),
        summary: "Address told to clients and nodes; empty for the one in use.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-announce-hostname",
        kind: Kind::Text {
            check: host_name,
            none: true,
        },
        place: at!(cluster_announce_hostname),
        summary: "Host name told to clients.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-announce-human-nodename",
        kind: Kind::Text {
            check: human_name,
            none: true,
        },
        place: at!(cluster_announce_human_nodename),
        summary: "Name of the node for people who read logs.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-announce-port",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(cluster_announce_port),
        summary: "Port told to clients; 0 for the one in use.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-announce-tls-port",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(cluster_announce_tls_port),
        summary: "TLS port told to clients; 0 for the one in use.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-announce-bus-port",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(cluster_announce_bus_port),
        summary: "Port of the links told to other nodes; 0 for the one in use.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-preferred-endpoint-type",
        kind: Kind::OneOf(EndpointType::NAMES),
        default: "ip",
        place: at!(cluster_preferred_endpoint_type),
        summary: "Whether clients are sent to an address, a host name, or the host they know.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-require-full-coverage",
        default: "yes",
        place: at!(cluster_require_full_coverage),
        summary: "With a slot that nobody serves, serve none.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-allow-reads-when-down",
        default: "no",
        place: at!(cluster_allow_reads_when_down),
        summary: "Serve reads while the cluster is down.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-allow-pubsubshard-when-down",
        default: "yes",
        place: at!(cluster_allow_pubsubshard_when_down),
        summary: "Serve shard channels while the cluster is down.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-allow-replica-migration",
        default: "yes",
        standing: RAFT,
        summary: "Redis moves a spare replica to a primary that has none.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-migration-barrier",
        kind: int(0, INT_MAX),
        default: "1",
        standing: RAFT,
        summary: "Replicas that must stay when one moves.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-replica-no-failover",
        aliases: &["cluster-slave-no-failover"],
        default: "no",
        standing: LATER,
        summary: "This node never takes over on its own.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-replica-validity-factor",
        aliases: &["cluster-slave-validity-factor"],
        kind: int(0, INT_MAX),
        default: "10",
        standing: RAFT,
        summary: "How old a replica's data may be for Redis to let it take over; 0 for any age.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-link-sendbuf-limit",
        kind: memory(0, ULONG_MAX),
        default: "0",
        standing: LATER,
        summary: "Bytes waiting on a link between nodes at which it is closed; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "cluster-ping-interval",
        kind: int(0, LONG_MAX),
        default: "0",
        hidden: true,
        standing: RAFT,
        summary: "Milliseconds between two pings in Redis's own tests.",
        ..Row::LIVE
    },
];
