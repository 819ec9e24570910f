//! INFO: which sections are asked for. What they say is in `info_sections.rs`.
//!
//! Counters of other cores are as of their last turn, which holds everything that has been replied; with
//! several cores each is asked to publish first, so that requests before INFO on the same connection,
//! replied or not, count as well.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Reply, Resp, Spec};

use crate::admin::info_sections::{self, Facts};
use crate::admin::{Context, Done, NodeCommand};
use crate::core::Core;
use crate::gather::Join;
use crate::keysizes::KeySizes;
use crate::mail::Ask;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::LOADING.and(Flags::SENTINEL).and(Flags::STALE),
    acl: Acl::DANGEROUS.and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[NodeCommand {
    spec: Spec {
        name: "info",
        summary: "Tells about the server, section by section.",
        since: "1.0.0",
        arity: Arity::at_least(1),
        ..BASE
    },
    run: Some(info),
}];

type Write = fn(&mut String, &Facts<'_>);

/// A section.
struct Section {
    name: &'static str,
    title: &'static str,
    /// Shown when no section is named.
    by_default: bool,
    write: Write,
}

const fn section(
    name: &'static str,
    title: &'static str,
    by_default: bool,
    write: Write,
) -> Section {
    Section {
        name,
        title,
        by_default,
        write,
    }
}

/// The section that costs a look at every key: it is shown to whoever asks for it by its name.
const KEY_SIZES: &str = "Keysizes";

/// All sections, in the order in which they are shown.
const SECTIONS: [Section; 16] = [
    section("server", "Server", true, info_sections::server),
    section("clients", "Clients", true, info_sections::clients),
    section("memory", "Memory", true, info_sections::memory),
    section(
        "persistence",
        "Persistence",
        true,
        info_sections::persistence,
    ),
    section("stats", "Stats", true, info_sections::stats),
    section(
        "replication",
        "Replication",
        true,
        info_sections::replication,
    ),
    section("cpu", "CPU", true, info_sections::cpu),
    section("modules", "Modules", true, |_, _| {}),
    section(
        "commandstats",
        "Commandstats",
        false,
        info_sections::commandstats,
    ),
    section("errorstats", "Errorstats", true, info_sections::errorstats),
    section(
        "latencystats",
        "Latencystats",
        false,
        info_sections::latencystats,
    ),
    section("cluster", "Cluster", true, info_sections::cluster),
    section("keyspace", "Keyspace", true, info_sections::keyspace),
    section("keysizes", KEY_SIZES, false, info_sections::key_sizes),
    section("meridian", "Meridian", false, info_sections::meridian),
    section("migration", "Migration", false, info_sections::migration),
];

/// A set of sections: bit i is `SECTIONS[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections(u32);

impl Sections {
    fn contains(self, title: &str) -> bool {
        let at = SECTIONS.iter().position(|section| section.title == title);
        at.is_some_and(|at| self.0 >> at & 1 == 1)
    }

    /// Whether the cores must publish their histograms for these.
    fn needs_histograms(self) -> bool {
        self.contains("Latencystats")
    }

    /// The sections that the words of a request name.
    fn named<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Sections {
        let all = |wanted: fn(&Section) -> bool| {
            let bits = SECTIONS
                .iter()
                .enumerate()
                .filter(|(_, section)| wanted(section));
            bits.fold(0, |set, (at, _)| set | 1 << at)
        };
        let by_default = all(|section| section.by_default);
        if words.len() == 0 {
            return Sections(by_default);
        }
        Sections(words.fold(0, |set, word| {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            set | if is("all") || is("everything") {
                all(|section| section.title != KEY_SIZES)
            } else if is("default") {
                by_default
            } else {
                let at = SECTIONS.iter().position(|section| is(section.name));
                at.map_or(0, |at| 1 << at)
            }
        }))
    }
}

fn info(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let sections = Sections::named(args.rest());
    let needs_walk = sections.contains(KEY_SIZES);
    if (needs_walk || !cx.core.is_alone()) && !cx.inside_exec {
        let ask = if needs_walk {
            Ask::KeySizes(Box::default())
        } else if sections.needs_histograms() {
            Ask::PublishHistograms
        } else {
            Ask::Publish
        };
        return Ok(Done::Ask(ask, Join::Info(sections)));
    }
    if sections.needs_histograms() {
        cx.core.publish_histograms();
    } else {
        cx.core.publish();
    }
    // (Where the cores cannot be asked there is no time to look at every key.)
    let text = text(cx.core, sections, KeySizes::default());
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Done::Replied)
}

/// The reply, once all cores have published; `parts` are what they have found of lengths.
pub fn reply(core: &Core, sections: Sections, resp: Resp, parts: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let sizes = KeySizes::joined(parts);
    let mut out = Vec::new();
    Reply::new(&mut out, resp).verbatim("txt", text(core, sections, sizes).as_bytes());
    out
}

fn text(core: &Core, sections: Sections, sizes: KeySizes) -> String {
    let facts = Facts::gather(core, sizes);
    let mut text = String::with_capacity(4096);
    let wanted = SECTIONS
        .iter()
        .enumerate()
        .filter(|(at, _)| sections.0 >> at & 1 == 1);
    for (_, section) in wanted {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str("# ");
        text.push_str(section.title);
        text.push_str("\r\n");
        (section.write)(&mut text, &facts);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{SECTIONS, Sections};
    use crate::testing::{Bench, Client};

    fn named(words: &[&[u8]]) -> Vec<&'static str> {
        let set = Sections::named(words.iter().copied());
        let wanted = SECTIONS
            .iter()
            .enumerate()
            .filter(|(at, _)| set.0 >> at & 1 == 1);
        wanted.map(|(_, section)| section.name).collect()
    }

    #[test]
    fn sections_are_named_once_and_in_their_order() {
        assert_eq!(
            named(&[b"KEYSPACE", b"server", b"Keyspace"]),
            ["server", "keyspace"]
        );
        assert_eq!(named(&[b"nosuch"]), [""; 0]);
        assert_eq!(named(&[b"everything"]).len(), SECTIONS.len() - 1);
        assert_eq!(named(&[b"keysizes"]), ["keysizes"]);
        assert_eq!(named(&[b"all"]), named(&[b"everything"]));
        assert_eq!(named(&[]), named(&[b"default"]));
        assert!(!named(&[]).contains(&"commandstats") && named(&[]).contains(&"errorstats"));
    }

    #[test]
    fn numbers_are_of_all_cores_and_of_all_requests_before() {
        for cores in [1, 2] {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            let sets: String = (0..40).map(|n| format!("SET k{n} v\r\n")).collect();
            let pipeline =
                format!("{sets}EXPIRE k1 100\r\nGET none\r\nINCR k2\r\nINFO everything\r\n");
            bench.send(client, pipeline.as_bytes());
            let reply = String::from_utf8(bench.received(client)).unwrap();
            for line in [
                "redis_version:7.4.9",
                "connected_clients:1",
                "db0:keys=40,expires=1,avg_ttl=0",
                "rdb_changes_since_last_save:41",
                "keyspace_misses:1",
                "errorstat_ERR:count=1",
                "total_error_replies:1",
                "cluster_enabled:0",
                "pubsub_clients:0",
                "watching_clients:0",
                "total_watched_keys:0",
            ] {
                assert!(
                    reply.contains(&format!("\r\n{line}\r\n")),
                    "{line} in {reply}"
                );
            }
            for (calls, failed) in [("set:calls=40", 0), ("incr:calls=1", 1)] {
                let line = reply.split(&format!("\r\ncmdstat_{calls},usec=")).nth(1);
                let (usec, rest) = line.unwrap().split_once(",usec_per_call=").unwrap();
                assert!(usec.parse::<u64>().is_ok());
                let rest = rest.split_once(',').unwrap().1;
                let end = format!("rejected_calls=0,failed_calls={failed}\r\n");
                assert!(rest.starts_with(&end), "{rest}");
            }
            // Calls are timed to the end of their turn: those of this pipeline were not yet.
            let reply = bench.call(client, "INFO everything");
            let times = "\r\nlatency_percentiles_usec_set:p50=";
            let times = reply.split(times).nth(1).unwrap();
            let times = times.lines().next().unwrap();
            assert!(
                times.contains(",p99=") && times.contains(",p99.9="),
                "{times}"
            );
            assert!(reply.contains(&format!("\r\ncores:{cores}\r\n")));
            assert_eq!(bench.call(client, "INFO nosuch"), "$0\r\n\r\n");
            bench.send(client, b"MULTI\r\nINFO keyspace\r\nEXEC\r\n");
            let reply = String::from_utf8(bench.received(client)).unwrap();
            assert!(reply.contains("\r\ndb0:keys=40,"), "{reply}");
        }
    }

    /// Every field of INFO of Redis 7.2.6, and those that 7.4 added.
    const FIELDS: &str = include_str!("../../tests/data/info-fields.txt");

    #[test]
    fn every_field_of_redis_is_there_or_explained() {
        let mut bench = Bench::new(2);
        let client = bench.connect(0);
        bench.call(client, "SET k v");
        let reply = bench.call(client, "INFO everything");
        let names: BTreeSet<&str> = reply
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|line| line.0)
            .collect();
        let docs = include_str!("../../../../docs/compatibility.md");
        for field in FIELDS.lines().filter(|line| !line.starts_with('#')) {
            let is_explained = docs.contains(&format!("`{field}`"));
            assert!(names.contains(field) || is_explained, "{field}");
        }
    }

    #[test]
    fn clients_are_counted_by_what_they_do() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::new(cores);
            let all: Vec<Client> = (0..6).map(|n| bench.connect(n % cores)).collect();
            let [watcher, again, listener, waiter, patient, client] = all[..] else {
                unreachable!("six")
            };
            let numbers = |bench: &mut Bench| {
                let reply = bench.call(client, "INFO clients");
                let number = |name: &str| {
                    let line = reply.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|line| line.parse().ok()).unwrap_or(99)
                };
                [
                    number("pubsub_clients:"),
                    number("watching_clients:"),
                    number("total_watched_keys:"),
                    number("blocked_clients:"),
                    number("clients_in_timeout_table:"),
                ]
            };
            bench.call(watcher, "WATCH a b c");
            bench.call(watcher, "WATCH a d");
            bench.call(again, "WATCH a");
            bench.call(listener, "SUBSCRIBE a b");
            bench.call(listener, "PSUBSCRIBE c");
            bench.call(waiter, "BLPOP x 0");
            bench.call(patient, "BLPOP x a 10");
            assert_eq!(numbers(&mut bench), [1, 2, 4, 2, 1]);
            bench.call(watcher, "MULTI");
            bench.call(watcher, "SET a 1");
            bench.call(watcher, "EXEC");
            bench.call(listener, "UNSUBSCRIBE a");
            bench.advance(10_000);
            assert_eq!(numbers(&mut bench), [1, 1, 1, 1, 0]);
            bench.call(again, "UNWATCH");
            bench.call(again, "UNWATCH");
            bench.call(listener, "UNSUBSCRIBE");
            bench.call(listener, "PUNSUBSCRIBE");
            assert_eq!(numbers(&mut bench), [0, 0, 0, 1, 0]);
            bench.call(watcher, "WATCH a");
            bench.call(listener, "SSUBSCRIBE a");
            bench.close(watcher);
            bench.close(listener);
            bench.close(waiter);
            assert_eq!(numbers(&mut bench), [0; 5]);
        }
    }

    #[test]
    fn buffers_are_remembered_for_some_seconds() {
        let mut bench = Bench::new(2);
        let (client, other) = (bench.connect(0), bench.connect(1));
        let largest = |bench: &mut Bench| {
            let reply = bench.call(client, "INFO clients");
            let line = reply
                .lines()
                .find_map(|line| line.strip_prefix("client_recent_max_input_buffer:"));
            line.and_then(|line| line.parse().ok()).unwrap_or(0)
        };
        assert_eq!(largest(&mut bench), 0);
        bench.send(other, format!("SET k {}", "x".repeat(5000)).as_bytes());
        bench.send(other, b"y");
        assert!(largest(&mut bench) >= 5000);
        bench.send(other, b"\r\n");
        bench.advance(5000);
        assert!(largest(&mut bench) >= 5000);
        bench.advance(5000);
        assert_eq!(largest(&mut bench), 0);
    }
}
