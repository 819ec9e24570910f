//! Options of snapshots and of the log of writes.

use crate::config::choices::{AppendFsync, Choice};
use crate::config::row::{
    Change, INT_MAX, INT_MIN, Kind, LONG_MAX, OPTIONAL_TEXT, Row, Standing, at, int, memory,
};
use crate::config::several::{DIR, SAVE};
use crate::config::value::Reject;

/// As Redis: it looks after clients while loading at most this often.
const LOADING_INTERVAL_BYTES_MIN: i128 = 1024;

const NO_FORK: Standing = Standing::Needless("no child process competes with the log for the disk");
const REPLICATION: Standing = Standing::Later("comes with replication");
const TEST_ONLY: Standing = Standing::Needless("a knob of Redis's own tests");
const STRETCHED: Standing = Standing::Needless("files are always synced as they are written");

fn is_file_name(text: &str) -> bool {
    !text.contains(['/', '\\'])
}

fn snapshot_name(text: &str) -> Result<(), Reject> {
    if is_file_name(text) {
        Ok(())
    } else {
        Err(Reject::Rule("dbfilename can't be a path, just a filename"))
    }
}

fn log_name(text: &str) -> Result<(), Reject> {
    match text {
        "" => Err(Reject::Rule("appendfilename can't be empty")),
        _ if is_file_name(text) => Ok(()),
        _ => Err(Reject::Rule(
            "appendfilename can't be a path, just a filename",
        )),
    }
}

fn log_folder_name(text: &str) -> Result<(), Reject> {
    match text {
        "" => Err(Reject::Rule("appenddirname can't be empty")),
        _ if is_file_name(text) => Ok(()),
        _ => Err(Reject::Rule(
            "appenddirname can't be a path, just a dirname",
        )),
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "dir",
        kind: Kind::Several(&DIR),
        default: ".",
        change: Change::ProtectedNotWhileLoading,
        summary: "Folder of the data, and of every relative path in the configuration.",
        ..Row::LIVE
    },
    Row {
        name: "dbfilename",
        kind: Kind::Text {
            check: snapshot_name,
            none: false,
        },
        default: "dump.rdb",
        change: Change::Protected,
        place: at!(dbfilename),
        summary: "File name of the snapshot in that folder.",
        ..Row::LIVE
    },
    Row {
        name: "save",
        kind: Kind::Several(&SAVE),
        default: "3600 1 300 100 60 10000",
        summary: "Pairs of seconds and writes after which a snapshot is taken; `\"\"` for never.",
        ..Row::LIVE
    },
    Row {
        name: "stop-writes-on-bgsave-error",
        default: "yes",
        place: at!(stop_writes_on_bgsave_error),
        summary: "Writes are refused after a scheduled snapshot has failed.",
        ..Row::LIVE
    },
    Row {
        name: "rdbcompression",
        default: "yes",
        place: at!(rdbcompression),
        summary: "Compress strings in snapshots.",
        ..Row::LIVE
    },
    Row {
        name: "rdbchecksum",
        default: "yes",
        place: at!(rdbchecksum),
        summary: "Write a checksum at the end of snapshots, and check it when one is read.",
        ..Row::AT_START
    },
    Row {
        name: "rdb-version",
        kind: int(9, 11),
        default: "10",
        place: at!(rdb_version),
        summary: "Version of the snapshots that are written: 9 for Redis 5 and 6 (without functions), 10 for 7.0, 11 for 7.2.",
        ..Row::LIVE
    },
    Row {
        name: "encryption-key-file",
        kind: OPTIONAL_TEXT,
        volatile: true,
        place: at!(encryption_key_file),
        summary: "Keys that snapshots and the log are sealed with: the first one seals new files, all open old ones; read again whenever it is set.",
        ..Row::LIVE
    },
    Row {
        name: "encryption-key-env",
        kind: OPTIONAL_TEXT,
        volatile: true,
        place: at!(encryption_key_env),
        summary: "Variable of the environment that holds such keys, instead of a file.",
        ..Row::LIVE
    },
    Row {
        name: "rdb-save-incremental-fsync",
        default: "yes",
        standing: STRETCHED,
        summary: "Redis syncs a snapshot while it writes it, not all at its end.",
        ..Row::LIVE
    },
    Row {
        name: "rdb-del-sync-files",
        default: "no",
        standing: REPLICATION,
        summary: "Snapshots made for replication only are removed after use.",
        ..Row::LIVE
    },
    Row {
        name: "rdb-key-save-delay",
        kind: int(INT_MIN, INT_MAX),
        default: "0",
        hidden: true,
        place: at!(rdb_key_save_delay_us),
        summary: "Microseconds that a snapshot rests after each key, for tests.",
        ..Row::LIVE
    },
    Row {
        name: "key-load-delay",
        kind: int(INT_MIN, INT_MAX),
        default: "0",
        hidden: true,
        standing: TEST_ONLY,
        summary: "Microseconds that Redis sleeps for each key it loads.",
        ..Row::LIVE
    },
    Row {
        name: "loading-process-events-interval-bytes",
        kind: int(LOADING_INTERVAL_BYTES_MIN, INT_MAX),
        default: "2097152",
        hidden: true,
        standing: TEST_ONLY,
        summary: "Bytes loaded between two looks at the clients.",
        ..Row::LIVE
    },
    Row {
        name: "appendonly",
        default: "no",
        change: Change::NotWhileLoading,
        place: at!(appendonly),
        summary: "Keep a log of writes, from which a restart rebuilds the data.",
        ..Row::LIVE
    },
    Row {
        name: "appendfilename",
        kind: Kind::Text {
            check: log_name,
            none: false,
        },
        default: "appendonly.aof",
        place: at!(appendfilename),
        summary: "Base of the log's file names.",
        ..Row::AT_START
    },
    Row {
        name: "appenddirname",
        kind: Kind::Text {
            check: log_folder_name,
            none: false,
        },
        default: "appendonlydir",
        place: at!(appenddirname),
        summary: "Folder of the log, below `dir`.",
        ..Row::AT_START
    },
    Row {
        name: "appendfsync",
        kind: Kind::OneOf(AppendFsync::NAMES),
        default: "everysec",
        place: at!(appendfsync),
        summary: "When the log is forced to the disk: before each reply, once a second, or when the kernel likes.",
        ..Row::LIVE
    },
    Row {
        name: "no-appendfsync-on-rewrite",
        default: "no",
        standing: NO_FORK,
        summary: "Redis does not sync its log while a child process writes.",
        ..Row::LIVE
    },
    Row {
        name: "auto-aof-rewrite-percentage",
        kind: int(0, INT_MAX),
        default: "100",
        place: at!(auto_aof_rewrite_percentage),
        summary: "Growth of the log in percent after which it is rewritten; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "auto-aof-rewrite-min-size",
        kind: memory(0, LONG_MAX),
        default: "64mb",
        place: at!(auto_aof_rewrite_min_size),
        summary: "Size up to which the log is not rewritten by itself.",
        ..Row::LIVE
    },
    Row {
        name: "aof-load-truncated",
        default: "yes",
        place: at!(aof_load_truncated),
        summary: "Start even though the end of the log is cut off.",
        ..Row::LIVE
    },
    Row {
        name: "aof-use-rdb-preamble",
        default: "yes",
        standing: Standing::Needless("what a log begins with is always an RDB file"),
        summary: "A compacted log begins with a snapshot.",
        ..Row::LIVE
    },
    Row {
        name: "aof-timestamp-enabled",
        default: "no",
        standing: Standing::Needless("every frame of the log has its time"),
        summary: "The log holds the time, so that it can be replayed up to a moment.",
        ..Row::LIVE
    },
    Row {
        name: "aof-rewrite-incremental-fsync",
        default: "yes",
        standing: STRETCHED,
        summary: "Redis syncs a compacted log while it writes it.",
        ..Row::LIVE
    },
    Row {
        name: "aof-disable-auto-gc",
        default: "no",
        hidden: true,
        standing: Standing::Needless(
            "a knob of Redis's own tests: what is no part of the log any more is always removed",
        ),
        summary: "Old files of the log are kept.",
        ..Row::LIVE
    },
];
