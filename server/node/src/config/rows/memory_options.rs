//! Options of memory, eviction, expiry and the freeing of values.

use crate::config::choices::{Choice, MaxmemoryPolicy};
use crate::config::row::{INT_MAX, Kind, LONG_MAX, Row, Standing, ULONG_MAX, at, int, memory};

/// Bounds that Redis gives to defragmentation: a share of processor time, and a share of waste.
const DEFRAG_CYCLE_MAX: i128 = 99;
const DEFRAG_THRESHOLD_MAX: i128 = 1000;

const LAZY: Standing =
    Standing::Needless("large values are always freed in slices, so no thread is needed for it");
const DEFRAG: Standing = Standing::Needless(
    "elements of large collections are not moved, and keys come a few at a time",
);

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "maxmemory",
        kind: memory(0, ULONG_MAX),
        default: "0",
        place: at!(maxmemory),
        summary: "Memory that the whole node may use; 0 for no limit.",
        ..Row::LIVE
    },
    Row {
        name: "maxmemory-policy",
        kind: Kind::OneOf(MaxmemoryPolicy::NAMES),
        default: "noeviction",
        place: at!(maxmemory_policy),
        summary: "Which keys to evict when that memory is used up; `allkeys-s3fifo` is not one of Redis's: new keys that are not used again go first.",
        ..Row::LIVE
    },
    Row {
        name: "maxmemory-samples",
        kind: int(1, INT_MAX),
        default: "5",
        place: at!(maxmemory_samples),
        summary: "Keys compared for one eviction: more choose better and cost more.",
        ..Row::LIVE
    },
    Row {
        name: "maxmemory-eviction-tenacity",
        kind: int(0, 100),
        default: "10",
        place: at!(maxmemory_eviction_tenacity),
        summary: "How long a turn of a core may evict: 25 us for each step up to 10, then 15 % more for each, and at 100 for as long as it takes.",
        ..Row::LIVE
    },
    Row {
        name: "lfu-log-factor",
        kind: int(0, INT_MAX),
        default: "10",
        place: at!(lfu_log_factor),
        summary: "How many accesses it takes to raise a key's counter: more for a higher factor.",
        ..Row::LIVE
    },
    Row {
        name: "lfu-decay-time",
        kind: int(0, INT_MAX),
        default: "1",
        place: at!(lfu_decay_time_min),
        summary: "Minutes after which a key's access counter falls by one; 0 for never.",
        ..Row::LIVE
    },
    Row {
        name: "active-expire-effort",
        kind: int(1, 10),
        default: "1",
        standing: Standing::Needless(
            "a timing wheel finds every expired key within milliseconds, without sampling",
        ),
        summary: "Work that Redis puts into finding expired keys.",
        ..Row::LIVE
    },
    Row {
        name: "lazyfree-lazy-eviction",
        default: "no",
        standing: LAZY,
        summary: "Redis frees evicted values in a thread.",
        ..Row::LIVE
    },
    Row {
        name: "lazyfree-lazy-expire",
        default: "no",
        standing: LAZY,
        summary: "Redis frees expired values in a thread.",
        ..Row::LIVE
    },
    Row {
        name: "lazyfree-lazy-server-del",
        default: "no",
        standing: LAZY,
        summary: "Redis frees overwritten values in a thread.",
        ..Row::LIVE
    },
    Row {
        name: "lazyfree-lazy-user-del",
        default: "no",
        standing: LAZY,
        summary: "DEL frees in a thread in Redis, as UNLINK does.",
        ..Row::LIVE
    },
    Row {
        name: "lazyfree-lazy-user-flush",
        default: "no",
        standing: LAZY,
        summary: "FLUSHALL and FLUSHDB free in a thread in Redis unless told SYNC.",
        ..Row::LIVE
    },
    Row {
        name: "activerehashing",
        default: "yes",
        standing: Standing::Needless("a slot's table grows on its own, a step with every write"),
        summary: "Redis uses idle time to move entries into grown tables.",
        ..Row::LIVE
    },
    Row {
        name: "activedefrag",
        default: "no",
        place: at!(activedefrag),
        summary: "Keys are moved out of sparsely used pages of memory, in slices. Without it only while `maxmemory` presses.",
        ..Row::LIVE
    },
    Row {
        name: "active-defrag-ignore-bytes",
        kind: memory(1, LONG_MAX),
        default: "100mb",
        place: at!(active_defrag_ignore_bytes),
        summary: "Wasted memory below which nothing is moved.",
        ..Row::LIVE
    },
    Row {
        name: "active-defrag-threshold-lower",
        kind: int(0, DEFRAG_THRESHOLD_MAX),
        default: "10",
        place: at!(active_defrag_threshold_lower),
        summary: "Waste in percent at which moving begins.",
        ..Row::LIVE
    },
    Row {
        name: "active-defrag-threshold-upper",
        kind: int(0, DEFRAG_THRESHOLD_MAX),
        default: "100",
        place: at!(active_defrag_threshold_upper),
        summary: "Waste in percent at which all effort is made.",
        ..Row::LIVE
    },
    Row {
        name: "active-defrag-cycle-min",
        kind: int(1, DEFRAG_CYCLE_MAX),
        default: "1",
        place: at!(active_defrag_cycle_min),
        summary: "Share of a core's time spent on it at the lower threshold, percent.",
        ..Row::LIVE
    },
    Row {
        name: "active-defrag-cycle-max",
        kind: int(1, DEFRAG_CYCLE_MAX),
        default: "25",
        place: at!(active_defrag_cycle_max),
        summary: "Share of a core's time spent on it at the upper threshold, percent.",
        ..Row::LIVE
    },
    Row {
        name: "active-defrag-max-scan-fields",
        kind: int(1, LONG_MAX),
        default: "1000",
        standing: DEFRAG,
        summary: "Elements of one value that Redis defragments at a time.",
        ..Row::LIVE
    },
    Row {
        name: "jemalloc-bg-thread",
        default: "yes",
        standing: Standing::Needless("the allocator is not jemalloc"),
        summary: "Lets jemalloc return memory from a thread.",
        ..Row::LIVE
    },
];
