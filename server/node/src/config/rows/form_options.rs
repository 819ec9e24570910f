//! Options that say when a value leaves its compact form; OBJECT ENCODING shows their effect.

use crate::config::row::{INT_MAX, INT_MIN, Kind, LONG_MAX, Row, Standing, at, int, memory};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "hash-max-listpack-entries",
        aliases: &["hash-max-ziplist-entries"],
        kind: int(0, LONG_MAX),
        default: "512",
        place: at!(hash_max_listpack_entries),
        summary: "Most fields of a hash in compact form.",
        ..Row::LIVE
    },
    Row {
        name: "hash-max-listpack-value",
        aliases: &["hash-max-ziplist-value"],
        kind: memory(0, LONG_MAX),
        default: "64",
        place: at!(hash_max_listpack_value_bytes),
        summary: "Longest field or value of a hash in compact form, in bytes.",
        ..Row::LIVE
    },
    Row {
        name: "list-max-listpack-size",
        aliases: &["list-max-ziplist-size"],
        kind: int(INT_MIN, INT_MAX),
        default: "-2",
        place: at!(list_max_listpack_size),
        summary: "Size of a list's chunks: a number of elements, or -1 to -5 for 4 to 64 KiB.",
        ..Row::LIVE
    },
    Row {
        name: "list-compress-depth",
        kind: int(0, INT_MAX),
        default: "0",
        place: at!(list_compress_depth),
        standing: Standing::Needless("chunks of lists are never compressed"),
        summary: "Chunks at each end of a list that Redis leaves uncompressed; 0 compresses none.",
        ..Row::LIVE
    },
    Row {
        name: "set-max-intset-entries",
        kind: int(0, LONG_MAX),
        default: "512",
        place: at!(set_max_intset_entries),
        summary: "Most members of a set of integers in compact form.",
        ..Row::LIVE
    },
    Row {
        name: "set-max-listpack-entries",
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(set_max_listpack_entries),
        summary: "Most members of any other set in compact form.",
        ..Row::LIVE
    },
    Row {
        name: "set-max-listpack-value",
        kind: int(0, LONG_MAX),
        default: "64",
        place: at!(set_max_listpack_value_bytes),
        summary: "Longest member of such a set, in bytes.",
        ..Row::LIVE
    },
    Row {
        name: "zset-max-listpack-entries",
        aliases: &["zset-max-ziplist-entries"],
        kind: int(0, LONG_MAX),
        default: "128",
        place: at!(zset_max_listpack_entries),
        summary: "Most members of a sorted set in compact form.",
        ..Row::LIVE
    },
    Row {
        name: "zset-max-listpack-value",
        aliases: &["zset-max-ziplist-value"],
        kind: memory(0, LONG_MAX),
        default: "64",
        place: at!(zset_max_listpack_value_bytes),
        summary: "Longest member of a sorted set in compact form, in bytes.",
        ..Row::LIVE
    },
    Row {
        name: "hll-sparse-max-bytes",
        kind: memory(0, LONG_MAX),
        default: "3000",
        place: at!(hll_sparse_max_bytes),
        summary: "Most bytes of a HyperLogLog in its sparse form.",
        ..Row::LIVE
    },
    Row {
        name: "stream-node-max-bytes",
        kind: memory(0, LONG_MAX),
        default: "4096",
        place: at!(stream_node_max_bytes),
        summary: "Most bytes of one node of a stream; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "stream-node-max-entries",
        kind: int(0, LONG_MAX),
        default: "100",
        place: at!(stream_node_max_entries),
        summary: "Most entries of one node of a stream; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "sanitize-dump-payload",
        kind: Kind::OneOf(&["no", "yes", "clients"]),
        default: "no",
        standing: Standing::Needless("payloads and snapshots are always checked in full"),
        summary: "Whether Redis checks the inside of RESTORE payloads and snapshots.",
        ..Row::LIVE
    },
];
