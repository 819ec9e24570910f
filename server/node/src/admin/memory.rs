//! MEMORY: what the memory is used for, and advice.

use std::sync::atomic::Ordering::Relaxed;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Spec};

use crate::admin::{Context, Done, NodeCommand, help};
use crate::allocator;
use crate::memory::Used;
use crate::node::Node;
use crate::process;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::NONE,
    acl: Acl::SLOW,
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "memory|doctor",
            summary: "Tells what is odd about the memory.",
            since: "4.0.0",
            arity: Arity::exactly(2),
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            ..BASE
        },
        run: Some(memory_doctor),
    },
    NodeCommand {
        spec: Spec {
            name: "memory|help",
            summary: "Lists the subcommands.",
            since: "4.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "memory|malloc-stats",
            summary: "Tells the numbers of the allocator.",
            since: "4.0.0",
            arity: Arity::exactly(2),
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            ..BASE
        },
        run: Some(memory_malloc_stats),
    },
    NodeCommand {
        spec: Spec {
            name: "memory|purge",
            summary: "Asks the allocator to give memory back.",
            since: "4.0.0",
            arity: Arity::exactly(2),
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(memory_purge),
    },
    NodeCommand {
        spec: Spec {
            name: "memory|stats",
            summary: "Tells what the memory is used for.",
            since: "4.0.0",
            arity: Arity::exactly(2),
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            ..BASE
        },
        run: Some(memory_stats),
    },
];

/// Where the process's memory is: what we count, what the allocator has taken for it, what is resident.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    pub(super) used: Used,
    pub(super) peak: u64,
    pub(super) startup: u64,
    pub(super) resident: u64,
    /// Memory of the machine.
    pub(super) machine: u64,
    /// What the allocator has from the system.
    pub(super) active: u64,
}

/// How much more one number is than another, as a ratio and as bytes (below 0: less).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Excess {
    pub(super) ratio: f64,
    pub(super) bytes: i64,
}

impl Excess {
    fn of(whole: u64, part: u64) -> Excess {
        Excess {
            ratio: if part == 0 {
                0.0
            } else {
                whole as f64 / part as f64
            },
            bytes: whole.cast_signed().wrapping_sub(part.cast_signed()),
        }
    }
}

impl Report {
    pub(super) fn of(node: &Node) -> Report {
        let peak = node.note_used_bytes();
        let used = node.used();
        let process::Memory { resident, machine } = process::memory();
        Report {
            used,
            peak: node.used_bytes_peak.load(Relaxed).max(peak),
            startup: node.memory.startup_bytes.load(Relaxed),
            resident,
            machine,
            // What the allocator keeps for later use is not in what we count.
            active: allocator::committed().max(used.total),
        }
    }

    /// Inside the allocator: pages that are not full.
    pub(super) fn allocator_fragmentation(&self) -> Excess {
        Excess::of(self.active, self.used.total)
    }

    /// Pages of the allocator, resident.
    pub(super) fn allocator_resident(&self) -> Excess {
        Excess::of(self.resident, self.active)
    }

    /// All of the process over what is used.
    pub(super) fn fragmentation(&self) -> Excess {
        Excess::of(self.resident, self.used.total)
    }

    pub(super) fn overhead(&self) -> u64 {
        self.used.overhead()
    }

    pub(super) fn dataset(&self) -> u64 {
        self.used.data
    }

    /// The data's share of what has been used since the start, percent.
    pub(super) fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.total.saturating_sub(self.startup))
    }
}

/// A share in percent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

fn memory_stats(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.core.publish();
    let node = cx.core.node;
    let report = Report::of(node);
    let used = report.used;
    let dbs = 0..cx.core.shard.db_count();
    let keys: u64 = dbs.clone().map(|db| node.db_count(db).0).sum();
    let net = used.total.saturating_sub(report.startup);
    let before = [
        ("peak.allocated", report.peak),
        ("total.allocated", used.total),
        ("startup.allocated", report.startup),
        ("replication.backlog", node.replicas.heap_bytes()),
        ("clients.slaves", 0),
        ("clients.normal", used.clients),
        ("cluster.links", 0),
        ("aof.buffer", node.write_log.queued_bytes()),
        ("lua.caches", node.memory.scripts_bytes.load(Relaxed)),
        (
            "functions.caches",
            node.scripting.libraries().bytes() as u64,
        ),
    ];
    let after = [
        ("overhead.total", report.overhead()),
        ("keys.count", keys),
        ("keys.bytes-per-key", net.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", report.dataset()),
    ];
    let filled = dbs.filter(|db| node.db_count(*db).0 > 0);
    let filled: Vec<usize> = filled.collect();
    let reply = &mut cx.reply;
    reply.map(before.len() + filled.len() + after.len() + 13);
    let int = |reply: &mut protocol::Reply<'_>, (name, value): (&str, u64)| {
        reply.bulk(name.as_bytes());
        reply.int(value.cast_signed());
    };
    before.into_iter().for_each(|line| int(reply, line));
    for db in filled {
        // The tables of slots are part of the data here, and there is none of keys with a deadline.
        reply.bulk(format!("db.{db}").as_bytes());
        reply.map(3);
        int(reply, ("overhead.hashtable.main", 0));
        int(reply, ("overhead.hashtable.expires", 0));
        int(reply, ("overhead.hashtable.slot-to-keys", 0));
    }
    after.into_iter().for_each(|line| int(reply, line));
    let double = |reply: &mut protocol::Reply<'_>, name: &str, value: f64| {
        reply.bulk(name.as_bytes());
        reply.double(value);
    };
    double(reply, "dataset.percentage", report.dataset_percent());
    double(reply, "peak.percentage", percent(used.total, report.peak));
    int(reply, ("allocator.allocated", used.total));
    int(reply, ("allocator.active", report.active));
    int(reply, ("allocator.resident", report.resident));
    let excesses = [
        ("allocator-fragmentation", report.allocator_fragmentation()),
        ("allocator-rss", report.allocator_resident()),
        ("rss-overhead", Excess::of(report.resident, report.resident)),
    ];
    for (name, excess) in excesses {
        double(reply, &format!("{name}.ratio"), excess.ratio);
        reply.bulk(format!("{name}.bytes").as_bytes());
        reply.int(excess.bytes);
    }
    double(reply, "fragmentation", report.fragmentation().ratio);
    reply.bulk(b"fragmentation.bytes");
    reply.int(report.fragmentation().bytes);
    Ok(Done::Replied)
}

/// MEMORY DOCTOR has nothing to say of less memory in use than this, bytes, nor of less that is wasted.
const DOCTOR_BYTES_MIN: u64 = 5 << 20;
const DOCTOR_WASTE_MIN: i64 = 10 << 20;
/// Ratios, and bytes of a connection, from which on it is worried.
const PEAK_RATIO_MAX: f64 = 1.5;
const FRAGMENTATION_RATIO_MAX: f64 = 1.4;
const CLIENT_BYTES_MAX: u64 = 200 << 10;

fn memory_doctor(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.core.publish();
    let node = cx.core.node;
    let clients = node.clients.load(Relaxed) as u64;
    let advice = advice(&Report::of(node), clients);
    cx.reply.verbatim("txt", advice.as_bytes());
    Ok(Done::Replied)
}

/// What is odd about the memory, in words.
fn advice(report: &Report, clients: u64) -> String {
    let used = report.used;
    if used.total < DOCTOR_BYTES_MIN {
        return "There is too little data to say anything of its memory.\n".to_owned();
    }
    let mut odd = Vec::new();
    if report.peak as f64 / used.total as f64 > PEAK_RATIO_MAX {
        odd.push(
            "Peak: more memory was in use once than is now. The process gives it back when it is not used again; \
             until then resident memory stays above what is in use.",
        );
    }
    let waste = report.fragmentation();
    if waste.ratio > FRAGMENTATION_RATIO_MAX && waste.bytes > DOCTOR_WASTE_MIN {
        odd.push(
            "Fragmentation: much more memory is resident than in use. Values of many sizes that come and go leave holes; \
             MEMORY PURGE gives back what is free.",
        );
    }
    if used.clients.checked_div(clients).unwrap_or(0) > CLIENT_BYTES_MAX {
        odd.push(
            "Clients: their buffers are large on average. Look for clients that do not read their replies, and at \
             client-output-buffer-limit and maxmemory-clients.",
        );
    }
    if odd.is_empty() {
        odd.push("The memory is as it should be.");
    }
    format!(
        "{}\nIn use: {} bytes. Resident: {} bytes.\n",
        odd.join("\n"),
        used.total,
        report.resident
    )
}

fn memory_malloc_stats(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply
        .bulk(b"The allocator, mimalloc, is not asked for its numbers.");
    Ok(Done::Replied)
}

fn memory_purge(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    allocator::ask();
    cx.reply.ok();
    Ok(Done::Replied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn replies() {
        let mut bench = Bench::new(2);
        let client = bench.connect(0);
        assert_eq!(bench.call(client, "MEMORY PURGE"), "+OK\r\n");
        bench.call(client, "SET k v");
        bench.call(client, "SELECT 3");
        bench.call(client, "SET k v");
        let stats = bench.call(client, "MEMORY STATS");
        for part in [
            "*58\r\n$14\r\npeak.allocated\r\n",
            "$10\r\nkeys.count\r\n:2\r\n",
            "$4\r\ndb.3\r\n*6\r\n",
            "$19\r\nfragmentation.bytes\r\n:",
        ] {
            assert!(stats.contains(part), "{part} in {stats}");
        }
    }

    #[test]
    fn the_doctor_finds_what_is_odd() {
        let well = Report {
            used: Used {
                total: 100 << 20,
                data: 90 << 20,
                ..Used::default()
            },
            peak: 110 << 20,
            resident: 105 << 20,
            ..Report::default()
        };
        assert!(advice(&well, 10).starts_with("The memory is as it should be.\n"));
        let empty = Report::default();
        assert!(advice(&empty, 0).starts_with("There is too little"));
        let odd = Report {
            used: Used {
                clients: 50 << 20,
                ..well.used
            },
            peak: 200 << 20,
            resident: 200 << 20,
            ..well
        };
        let advice = advice(&odd, 10);
        for part in ["Peak: ", "Fragmentation: ", "Clients: "] {
            assert!(advice.contains(part), "{advice}");
        }
    }
}
