//! Options of the process: how it starts, logs, is scheduled and stops.

use crate::config::choices::{Choice, LogLevel, OomScoreAdj, Supervised};
use crate::config::row::{
    INT_MAX, Kind, LONG_MAX, OPTIONAL_TEXT, Row, Standing, TEXT, at, int, memory,
};
use crate::config::several::{OOM_VALUES, SHUTDOWN_ON_SIGINT, SHUTDOWN_ON_SIGTERM};
use crate::config::value::Reject;

const SYSLOG: Standing = Standing::Later("the system log comes later; `logfile` has every line");
const SYSTEM: Standing = Standing::Later("setting up the process in the kernel comes later");
const CHILDREN: Standing = Standing::Needless("there are no child processes");
const FACILITIES: &[&str] = &[
    "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const TITLE_WORDS: &[&str] = &[
    "title",
    "listen-addr",
    "server-mode",
    "port",
    "tls-port",
    "unixsocket",
    "config-file",
];

/// A template names only known variables, closes its braces, and is not blank beside the title.
fn title_template(text: &str) -> Result<(), Reject> {
    let bad = Err(Reject::Rule(
        "template format is invalid or contains unknown variables",
    ));
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        rest = match (after.strip_prefix('{'), after.split_once('}')) {
            (Some(after), _) => after,
            (None, Some((name, after))) if TITLE_WORDS.contains(&name) => after,
            _ => return bad,
        };
    }
    if text.replace("{title}", "").trim().is_empty() {
        bad
    } else {
        Ok(())
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "databases",
        kind: int(1, INT_MAX),
        default: "16",
        place: at!(databases),
        summary: "Number of databases that SELECT can choose from; a cluster has one.",
        ..Row::AT_START
    },
    Row {
        name: "daemonize",
        default: "no",
        place: at!(daemonize),
        summary: "Leave the terminal and run in the background.",
        ..Row::AT_START
    },
    Row {
        name: "supervised",
        kind: Kind::OneOf(Supervised::NAMES),
        default: "no",
        place: at!(supervised),
        summary: "Which supervisor is told that the server is ready.",
        ..Row::AT_START
    },
    Row {
        name: "pidfile",
        kind: OPTIONAL_TEXT,
        place: at!(pidfile),
        summary: "File that holds the process id while the server runs.",
        ..Row::AT_START
    },
    Row {
        name: "loglevel",
        kind: Kind::OneOf(LogLevel::NAMES),
        default: "notice",
        place: at!(loglevel),
        summary: "How much is logged.",
        ..Row::LIVE
    },
    Row {
        name: "logfile",
        kind: TEXT,
        place: at!(logfile),
        summary: "File of the log; empty for standard output.",
        ..Row::AT_START
    },
    Row {
        name: "always-show-logo",
        default: "no",
        place: at!(always_show_logo),
        summary: "Show the logo even if the log does not go to a terminal.",
        ..Row::AT_START
    },
    Row {
        name: "syslog-enabled",
        default: "no",
        standing: SYSLOG,
        summary: "Log to the system log as well.",
        ..Row::AT_START
    },
    Row {
        name: "syslog-ident",
        kind: TEXT,
        default: "redis",
        standing: SYSLOG,
        summary: "Name of the server in the system log.",
        ..Row::AT_START
    },
    Row {
        name: "syslog-facility",
        kind: Kind::OneOf(FACILITIES),
        default: "local0",
        standing: SYSLOG,
        summary: "Facility of the system log.",
        ..Row::AT_START
    },
    Row {
        name: "set-proc-title",
        default: "yes",
        standing: SYSTEM,
        summary: "Show what the server is in the list of processes.",
        ..Row::AT_START
    },
    Row {
        name: "proc-title-template",
        kind: Kind::Text {
            check: title_template,
            none: false,
        },
        default: "{title} {listen-addr} {server-mode}",
        standing: SYSTEM,
        summary: "How that text is made up.",
        ..Row::LIVE
    },
    Row {
        name: "crash-log-enabled",
        default: "yes",
        standing: Standing::Needless("a panic is always logged with its place"),
        summary: "Log where a crash happened.",
        ..Row::LIVE
    },
    Row {
        name: "crash-memcheck-enabled",
        default: "yes",
        standing: Standing::Needless("memory is not tested after a crash"),
        summary: "Redis tests the memory after a crash.",
        ..Row::LIVE
    },
    Row {
        name: "use-exit-on-panic",
        default: "no",
        hidden: true,
        standing: Standing::Needless("a knob of Redis's own tests"),
        summary: "Redis exits at a failed assertion, rather than abort.",
        ..Row::LIVE
    },
    Row {
        name: "watchdog-period",
        kind: int(0, INT_MAX),
        default: "0",
        hidden: true,
        standing: Standing::Needless("long turns are measured and logged on every core"),
        summary: "Milliseconds without an answer after which Redis logs what it is at.",
        ..Row::LIVE
    },
    Row {
        name: "hz",
        kind: int(0, INT_MAX),
        default: "10",
        place: at!(hz),
        standing: Standing::Needless("background work is done in every turn as needed"),
        summary: "How often a second Redis does its background work, 1 to 500.",
        ..Row::LIVE
    },
    Row {
        name: "dynamic-hz",
        default: "yes",
        standing: Standing::Needless("background work is done in every turn as needed"),
        summary: "Redis works in the background more often while it has many clients.",
        ..Row::LIVE
    },
    Row {
        name: "busy-reply-threshold",
        aliases: &["lua-time-limit"],
        kind: int(0, LONG_MAX),
        default: "5000",
        place: at!(busy_reply_threshold_ms),
        summary: "Milliseconds that a script runs before other clients are told BUSY; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "script-kill-after-ms",
        kind: int(0, LONG_MAX),
        default: "15000",
        place: at!(script_kill_after_ms),
        summary: "Milliseconds after which a script is stopped, and what it has written undone; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "script-memory-max",
        kind: memory(4 << 20, LONG_MAX),
        default: "268435456",
        place: at!(script_memory_max),
        summary: "Bytes of memory that scripts may use on each core, and on each thread of long ones; one that needs more fails.",
        ..Row::LIVE
    },
    Row {
        name: "shutdown-timeout",
        kind: int(0, INT_MAX),
        default: "10",
        place: at!(shutdown_timeout_s),
        standing: Standing::Later("comes with replication"),
        summary: "Seconds that a shutdown waits for replicas to catch up.",
        ..Row::LIVE
    },
    Row {
        name: "shutdown-on-sigint",
        kind: Kind::Several(&SHUTDOWN_ON_SIGINT),
        default: "default",
        summary: "How SIGINT shuts the server down: default, or any of save, nosave, now, force.",
        standing: Standing::Later(
            "nothing is saved at shutdown yet, so that all ways are the same",
        ),
        ..Row::LIVE
    },
    Row {
        name: "shutdown-on-sigterm",
        kind: Kind::Several(&SHUTDOWN_ON_SIGTERM),
        default: "default",
        summary: "How SIGTERM shuts the server down: default, or any of save, nosave, now, force.",
        standing: Standing::Later(
            "nothing is saved at shutdown yet, so that all ways are the same",
        ),
        ..Row::LIVE
    },
    Row {
        name: "disable-thp",
        default: "yes",
        summary: "Ask the kernel for no transparent huge pages: filling one takes milliseconds in which a core serves nobody.",
        ..Row::AT_START
    },
    Row {
        name: "oom-score-adj",
        kind: Kind::OneOf(OomScoreAdj::NAMES),
        default: "no",
        place: at!(oom_score_adj),
        standing: SYSTEM,
        summary: "Whether the kernel's out-of-memory score is set, and how.",
        ..Row::LIVE
    },
    Row {
        name: "oom-score-adj-values",
        kind: Kind::Several(&OOM_VALUES),
        default: "0 200 800",
        standing: SYSTEM,
        summary: "Scores of a primary, of a replica and of a child process.",
        ..Row::LIVE
    },
    Row {
        name: "server_cpulist",
        aliases: &["server-cpulist"],
        kind: OPTIONAL_TEXT,
        standing: Standing::Later("choosing the cores comes later; `cores` says how many"),
        summary: "Processors that the server may use.",
        ..Row::AT_START
    },
    Row {
        name: "bio_cpulist",
        aliases: &["bio-cpulist"],
        kind: OPTIONAL_TEXT,
        standing: CHILDREN,
        summary: "Processors of Redis's background threads.",
        ..Row::AT_START
    },
    Row {
        name: "aof_rewrite_cpulist",
        aliases: &["aof-rewrite-cpulist"],
        kind: OPTIONAL_TEXT,
        standing: CHILDREN,
        summary: "Processors of the child that compacts Redis's log.",
        ..Row::AT_START
    },
    Row {
        name: "bgsave_cpulist",
        aliases: &["bgsave-cpulist"],
        kind: OPTIONAL_TEXT,
        standing: CHILDREN,
        summary: "Processors of the child that writes Redis's snapshots.",
        ..Row::AT_START
    },
    Row {
        name: "ignore-warnings",
        kind: TEXT,
        standing: Standing::Needless("no check of the kernel stops the start"),
        summary: "Checks at the start whose failure Redis passes over.",
        ..Row::LIVE
    },
    Row {
        name: "locale-collate",
        kind: TEXT,
        standing: Standing::Later("SORT ALPHA compares bytes for now"),
        summary: "Locale by which SORT ALPHA compares texts.",
        ..Row::LIVE
    },
];
