//! Options of TLS.

use crate::config::row::{INT_MAX, Kind, OPTIONAL_TEXT, PORT_MAX, Row, Standing, at, int};

const LATER: Standing = Standing::Later("comes with TLS");
const NO_TLS: Standing =
    Standing::Refused("this version does not speak TLS: leave `tls-port` out or set it to 0");
const NO_TLS_LINK: Standing =
    Standing::Refused("this version does not speak TLS: links between nodes would be in the clear");
const CLIENTS: &[&str] = &["no", "yes", "optional"];

/// A file that is read again whenever its name is set.
const FILE: Row = Row {
    kind: OPTIONAL_TEXT,
    standing: LATER,
    volatile: true,
    ..Row::LIVE
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tls-port",
        kind: int(0, PORT_MAX),
        default: "0",
        standing: NO_TLS,
        place: at!(tls_port),
        summary: "Port of clients that speak TLS; 0 opens none.",
        ..Row::LIVE
    },
    Row {
        name: "tls-cert-file",
        summary: "Certificate that the server shows, in PEM.",
        ..FILE
    },
    Row {
        name: "tls-key-file",
        summary: "Private key of that certificate.",
        ..FILE
    },
    Row {
        name: "tls-key-file-pass",
        kind: Kind::Secret,
        standing: LATER,
        secret: true,
        summary: "Pass phrase of that key.",
        ..Row::LIVE
    },
    Row {
        name: "tls-client-cert-file",
        summary: "Certificate shown when the server is itself a client.",
        ..FILE
    },
    Row {
        name: "tls-client-key-file",
        summary: "Private key of the client certificate.",
        ..FILE
    },
    Row {
        name: "tls-client-key-file-pass",
        kind: Kind::Secret,
        standing: LATER,
        secret: true,
        summary: "Pass phrase of the client key.",
        ..Row::LIVE
    },
    Row {
        name: "tls-dh-params-file",
        summary: "Diffie-Hellman parameters for old ciphers.",
        ..FILE
    },
    Row {
        name: "tls-ca-cert-file",
        summary: "Authorities whose certificates are trusted, in one file.",
        ..FILE
    },
    Row {
        name: "tls-ca-cert-dir",
        summary: "Authorities whose certificates are trusted, in a folder.",
        ..FILE
    },
    Row {
        name: "tls-auth-clients",
        kind: Kind::OneOf(CLIENTS),
        default: "yes",
        standing: LATER,
        summary: "Whether a client must show a certificate.",
        ..Row::LIVE
    },
    Row {
        name: "tls-replication",
        default: "no",
        standing: NO_TLS_LINK,
        summary: "Links to replicas and primaries speak TLS.",
        ..Row::LIVE
    },
    Row {
        name: "tls-cluster",
        default: "no",
        standing: NO_TLS_LINK,
        summary: "Links between the nodes of a cluster speak TLS.",
        ..Row::LIVE
    },
    Row {
        name: "tls-protocols",
        kind: OPTIONAL_TEXT,
        standing: LATER,
        summary: "Versions of TLS that are spoken.",
        ..Row::LIVE
    },
    Row {
        name: "tls-ciphers",
        kind: OPTIONAL_TEXT,
        standing: LATER,
        summary: "Ciphers for TLS 1.2 and older.",
        ..Row::LIVE
    },
    Row {
        name: "tls-ciphersuites",
        kind: OPTIONAL_TEXT,
        standing: LATER,
        summary: "Cipher suites for TLS 1.3.",
        ..Row::LIVE
    },
    Row {
        name: "tls-prefer-server-ciphers",
        default: "no",
        standing: LATER,
        summary: "The server's order of ciphers decides, not the client's.",
        ..Row::LIVE
    },
    Row {
        name: "tls-session-caching",
        default: "yes",
        standing: LATER,
        summary: "Remember sessions, so that a client that returns shakes hands faster.",
        ..Row::LIVE
    },
    Row {
        name: "tls-session-cache-size",
        kind: int(0, INT_MAX),
        default: "20480",
        standing: LATER,
        summary: "Sessions remembered; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "tls-session-cache-timeout",
        kind: int(0, INT_MAX),
        default: "300",
        standing: LATER,
        summary: "Seconds for which a session is remembered.",
        ..Row::LIVE
    },
];
