//! Options of listening, connections and their buffers; and those of Meridian's cores.

use crate::config::choices::{Choice, Io};
use crate::config::row::{
    INT_MAX, Kind, LONG_MAX, OPTIONAL_TEXT, PORT_MAX, Row, Standing, UINT_MAX, Unit, at, int,
    memory,
};
use crate::config::several::{ADMIN_BIND, BIND, OUTPUT_LIMITS};

/// Most file mode bits that a socket may be given.
const SOCKET_MODE_MAX: i128 = 0o777;
/// Redis takes no smaller limit for a word or for a client's request.
const REQUEST_BYTES_MIN: i128 = 1 << 20;
/// More threads than any machine that this version was tried on.
const CORES_MAX: i128 = 1024;
/// As Redis.
const IO_THREADS_MAX: i128 = 128;

const THREADS: Standing =
    Standing::Needless("every core reads, runs and writes for its own clients; see `cores`");

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "bind",
        kind: Kind::Several(&BIND),
        default: "* -::*",
        summary: "Addresses to listen on; one with a leading `-` may be missing on this machine.",
        ..Row::LIVE
    },
    Row {
        name: "bind-source-addr",
        kind: OPTIONAL_TEXT,
        standing: Standing::Later("comes with replication"),
        summary: "Address that the server's own outgoing connections leave from.",
        ..Row::LIVE
    },
    Row {
        name: "port",
        kind: int(0, PORT_MAX),
        default: "6379",
        place: at!(port),
        summary: "TCP port of clients; 0 opens none.",
        ..Row::LIVE
    },
    Row {
        name: "unixsocket",
        kind: OPTIONAL_TEXT,
        place: at!(unixsocket),
        summary: "Path of a Unix domain socket for clients of this machine.",
        ..Row::AT_START
    },
    Row {
        name: "unixsocketperm",
        kind: Kind::Int {
            unit: Unit::Octal,
            min: 0,
            max: SOCKET_MODE_MAX,
        },
        default: "0",
        place: at!(unixsocketperm),
        summary: "File mode of that socket; 0 leaves it to the umask.",
        ..Row::AT_START
    },
    Row {
        name: "tcp-backlog",
        kind: int(0, INT_MAX),
        default: "511",
        place: at!(tcp_backlog),
        summary: "Connections that may wait in the kernel to be accepted.",
        ..Row::AT_START
    },
    Row {
        name: "tcp-keepalive",
        kind: int(0, INT_MAX),
        default: "300",
        place: at!(tcp_keepalive_s),
        summary: "Seconds of silence after which the kernel probes a connection; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "timeout",
        kind: int(0, INT_MAX),
        default: "0",
        place: at!(timeout_s),
        summary: "Seconds after which an idle client is closed; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "maxclients",
        kind: int(1, UINT_MAX),
        default: "10000",
        place: at!(maxclients),
        summary: "Most clients at once; more are turned away with an error.",
        ..Row::LIVE
    },
    Row {
        name: "protected-mode",
        default: "yes",
        place: at!(protected_mode),
        summary: "While the default user has no password, only this machine may connect.",
        ..Row::LIVE
    },
    Row {
        name: "socket-mark-id",
        kind: int(0, UINT_MAX),
        default: "0",
        standing: Standing::Refused(
            "socket marks are not set by this version; remove the option or set it to 0",
        ),
        summary: "Mark that the kernel's firewall sees on the server's sockets.",
        ..Row::AT_START
    },
    Row {
        name: "proto-max-bulk-len",
        kind: memory(REQUEST_BYTES_MIN, LONG_MAX),
        default: "512mb",
        place: at!(proto_max_bulk_len),
        summary: "Longest word that a request may hold.",
        ..Row::LIVE
    },
    Row {
        name: "client-query-buffer-limit",
        kind: memory(REQUEST_BYTES_MIN, LONG_MAX),
        default: "1gb",
        place: at!(client_query_buffer_limit),
        summary: "Most bytes of a client's requests that wait to be run before the client is closed.",
        ..Row::LIVE
    },
    Row {
        name: "client-output-buffer-limit",
        kind: Kind::Several(&OUTPUT_LIMITS),
        default: "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
        summary: "For each class of clients: bytes of unread replies that close it at once, and bytes that close it after some seconds.",
        ..Row::LIVE
    },
    Row {
        name: "maxmemory-clients",
        kind: Kind::Int {
            unit: Unit::MemoryOrPercent,
            min: -100,
            max: LONG_MAX,
        },
        default: "0",
        place: at!(maxmemory_clients),
        summary: "Memory of all clients' buffers, or a share of `maxmemory`, beyond which the largest are closed; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "tracking-table-max-keys",
        kind: int(0, LONG_MAX),
        default: "1000000",
        place: at!(tracking_table_max_keys),
        summary: "Most keys remembered for client-side caching; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "io-threads",
        kind: int(1, IO_THREADS_MAX),
        default: "1",
        standing: THREADS,
        summary: "Redis's threads for reading and writing sockets.",
        ..Row::AT_START
    },
    Row {
        name: "io-threads-do-reads",
        default: "no",
        standing: THREADS,
        summary: "Lets Redis's I/O threads read as well as write.",
        ..Row::AT_START
    },
];

pub(super) const OWN_ROWS: &[Row] = &[
    Row {
        name: "cores",
        kind: int(0, CORES_MAX),
        default: "0",
        place: at!(cores),
        summary: "Threads that hold and serve data, each pinned to a core; 0 for one on every core of the machine.",
        ..Row::AT_START
    },
    Row {
        name: "io",
        kind: Kind::OneOf(Io::NAMES),
        default: "auto",
        place: at!(io),
        summary: "How bytes are moved: `uring`, `epoll`, or `auto` for io_uring where the kernel allows it.",
        ..Row::AT_START
    },
    Row {
        name: "core-port-base",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(core_port_base),
        summary: "First of the ports on which single cores listen to cluster clients; 0 for the port after `port`.",
        ..Row::AT_START
    },
    Row {
        name: "core-tls-port-base",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(core_tls_port_base),
        summary: "First of the ports on which single cores listen to cluster clients that speak TLS; 0 for the port after `tls-port`.",
        ..Row::AT_START
    },
    Row {
        name: "admin-port",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(admin_port),
        summary: "Port of metrics, health and administration over HTTP; 0 opens none.",
        ..Row::AT_START
    },
    Row {
        name: "admin-bind",
        kind: Kind::Several(&ADMIN_BIND),
        default: "127.0.0.1",
        summary: "Addresses on which that port is opened.",
        ..Row::AT_START
    },
    Row {
        name: "migrate-pause-max-ms",
        kind: int(1, 60_000),
        default: "100",
        place: at!(migrate_pause_max_ms),
        summary: "Milliseconds that clients may wait while a migration changes who decides; it is undone when they have passed.",
        ..Row::LIVE
    },
    Row {
        name: "migrate-queue-max-bytes",
        kind: memory(1 << 20, LONG_MAX),
        default: "4gb",
        place: at!(migrate_queue_max_bytes),
        summary: "Bytes of the log that may wait to be written to an old Redis; beyond them it is given up and needs a new copy.",
        ..Row::LIVE
    },
    Row {
        name: "migrate-scan-value-max-bytes",
        kind: memory(1 << 10, 512 << 20),
        default: "64mb",
        place: at!(migrate_scan_value_max_bytes),
        summary: "Bytes of the largest value that is read, by one DUMP, from a source that is followed by scan; a larger one is named, and nothing counts as followed.",
        ..Row::LIVE
    },
    Row {
        name: "migrate-error-budget",
        kind: int(0, 1000),
        default: "100",
        place: at!(migrate_error_budget),
        summary: "Refusals in a thousand requests of the first minute after a migration's flip, beyond which it is taken back; 0 for any number.",
        ..Row::LIVE
    },
    Row {
        name: "aside-min-steps",
        kind: int(0, INT_MAX),
        default: "4096",
        place: at!(aside_min_steps),
        summary: "A request that would touch at least so many elements (or 256 bytes each of a string) runs beside its core, which goes on with others; 0 runs none so.",
        ..Row::LIVE
    },
    Row {
        name: "turn-cpu-clock",
        default: "no",
        place: at!(turn_cpu_clock),
        summary: "Measures the processor time of every turn beside its wall time, at one system call a turn.",
        ..Row::LIVE
    },
];
