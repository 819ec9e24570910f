//! Options of TLS.

use crate::config::choices::{Choice, TlsClients};
use crate::config::row::{INT_MAX, Kind, OPTIONAL_TEXT, PORT_MAX, Row, Standing, at, int};

/// A file that is read again whenever its name is set.
const FILE: Row = Row {
    kind: OPTIONAL_TEXT,
    volatile: true,
    ..Row::LIVE
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tls-port",
        kind: int(0, PORT_MAX),
        default: "0",
        place: at!(tls_port),
        summary: "Port of clients that speak TLS; 0 opens none.",
        ..Row::LIVE
    },
    Row {
        name: "tls-cert-file",
        place: at!(tls_cert_file),
        summary: "Certificate that the server shows, in PEM.",
        ..FILE
    },
    Row {
        name: "tls-key-file",
        place: at!(tls_key_file),
        summary: "Private key of that certificate.",
        ..FILE
    },
    Row {
        name: "tls-key-file-pass",
        kind: Kind::Secret,
        secret: true,
        volatile: true,
        place: at!(tls_key_file_pass),
        summary: "Pass phrase of that key.",
        ..Row::LIVE
    },
    Row {
        name: "tls-client-cert-file",
        place: at!(tls_client_cert_file),
        summary: "Certificate shown when the server is itself a client (MIGRATE); without one the server's own.",
        ..FILE
    },
    Row {
        name: "tls-client-key-file",
        place: at!(tls_client_key_file),
        summary: "Private key of the client certificate.",
        ..FILE
    },
    Row {
        name: "tls-client-key-file-pass",
        kind: Kind::Secret,
        secret: true,
        volatile: true,
        place: at!(tls_client_key_file_pass),
        summary: "Pass phrase of the client key.",
        ..Row::LIVE
    },
    Row {
        name: "tls-dh-params-file",
        standing: Standing::Needless("keys are agreed over elliptic curves alone"),
        summary: "Diffie-Hellman parameters for old ciphers.",
        ..FILE
    },
    Row {
        name: "tls-ca-cert-file",
        place: at!(tls_ca_cert_file),
        summary: "Authorities whose certificates are trusted, in one file.",
        ..FILE
    },
    Row {
        name: "tls-ca-cert-dir",
        place: at!(tls_ca_cert_dir),
        summary: "Authorities whose certificates are trusted, in a folder.",
        ..FILE
    },
    Row {
        name: "tls-auth-clients",
        kind: Kind::OneOf(TlsClients::NAMES),
        default: "yes",
        place: at!(tls_auth_clients),
        summary: "Whether a client must show a certificate.",
        ..Row::LIVE
    },
    Row {
        name: "tls-replication",
        default: "no",
        place: at!(tls_replication),
        summary: "The link to the primary speaks TLS; replicas connect to the port that they choose.",
        ..Row::LIVE
    },
    Row {
        name: "tls-cluster",
        default: "no",
        place: at!(tls_cluster),
        summary: "MIGRATE speaks TLS; in Redis also the links between the nodes of a cluster, of which there are none here.",
        ..Row::LIVE
    },
    Row {
        name: "tls-protocols",
        kind: OPTIONAL_TEXT,
        place: at!(tls_protocols),
        summary: "Versions of TLS that are spoken.",
        ..Row::LIVE
    },
    Row {
        name: "tls-ciphers",
        kind: OPTIONAL_TEXT,
        place: at!(tls_ciphers),
        summary: "Ciphers for TLS 1.2 and older.",
        ..Row::LIVE
    },
    Row {
        name: "tls-ciphersuites",
        kind: OPTIONAL_TEXT,
        place: at!(tls_ciphersuites),
        summary: "Cipher suites for TLS 1.3.",
        ..Row::LIVE
    },
    Row {
        name: "tls-prefer-server-ciphers",
        default: "no",
        place: at!(tls_prefer_server_ciphers),
        summary: "The server's order of ciphers decides, not the client's.",
        ..Row::LIVE
    },
    Row {
        name: "tls-session-caching",
        default: "yes",
        place: at!(tls_session_caching),
        summary: "Remember sessions, so that a client that returns shakes hands faster.",
        ..Row::LIVE
    },
    Row {
        name: "tls-session-cache-size",
        kind: int(0, INT_MAX),
        default: "20480",
        place: at!(tls_session_cache_size),
        summary: "Sessions remembered; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "tls-session-cache-timeout",
        kind: int(0, INT_MAX),
        default: "300",
        place: at!(tls_session_cache_timeout_s),
        summary: "Seconds for which a session is remembered.",
        ..Row::LIVE
    },
];
