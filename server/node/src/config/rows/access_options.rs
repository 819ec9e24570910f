//! Options of who may do what.

use crate::config::choices::{Choice, ProtectedAction, PubsubDefault};
use crate::config::row::{Kind, LONG_MAX, Row, Standing, TEXT, at, int};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "requirepass",
        kind: Kind::Secret,
        secret: true,
        place: at!(requirepass),
        summary: "Password of the default user; empty lets everybody in.",
        ..Row::LIVE
    },
    Row {
        name: "aclfile",
        kind: TEXT,
        place: at!(aclfile),
        summary: "File that holds the users, instead of `user` lines.",
        ..Row::AT_START
    },
    Row {
        name: "acl-pubsub-default",
        kind: Kind::OneOf(PubsubDefault::NAMES),
        default: "resetchannels",
        place: at!(acl_pubsub_default),
        summary: "Channels that a new user may use: all or none.",
        ..Row::LIVE
    },
    Row {
        name: "acllog-max-len",
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(acllog_max_len),
        summary: "Most entries of ACL LOG.",
        ..Row::LIVE
    },
    Row {
        name: "enable-protected-configs",
        kind: Kind::OneOf(ProtectedAction::NAMES),
        default: "no",
        place: at!(enable_protected_configs),
        summary: "Who may change `dir` and `dbfilename` by CONFIG SET.",
        ..Row::AT_START
    },
    Row {
        name: "enable-debug-command",
        kind: Kind::OneOf(ProtectedAction::NAMES),
        default: "no",
        place: at!(enable_debug_command),
        summary: "Who may use DEBUG.",
        ..Row::AT_START
    },
    Row {
        name: "enable-module-command",
        kind: Kind::OneOf(ProtectedAction::NAMES),
        default: "no",
        standing: Standing::Needless("Meridian loads no modules"),
        summary: "Who may use MODULE.",
        ..Row::AT_START
    },
];
