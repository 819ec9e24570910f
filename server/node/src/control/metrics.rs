//! `/metrics`: what the cores publish, as Prometheus reads it (text format 0.0.4).
//!
//! One list, [`FAMILIES`], says every name once, with its kind, labels and meaning; the page and
//! `docs/metrics.md` are written from it. Numbers are read one by one from atomics: sums over them may be off by
//! a turn. Numbers of a core carry the label `core` and no total beside it: `sum without (core) (...)`
//! is the node's.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use runtime::{CoreId, StatsNow};

use crate::admin::VERSION_REPORTED;
use crate::control::log::rewrite::Sizes;
use crate::node::Node;
use crate::stats::{Published, RowCount};

/// The page's type, as Prometheus wants it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What may be done with a metric's numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only grows, but for CONFIG RESETSTAT and restarts.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// Where a metric's numbers come from.
enum Source {
    /// A counter of the server, core by core.
    Core(fn(&Published) -> &AtomicU64),
    /// A counter of a core's loop.
    Loop(fn(&StatsNow) -> u64),
    /// A duration of a core's loop, microseconds.
    LoopUs(fn(&StatsNow) -> u64),
    /// One number of the node.
    Node(fn(&Node) -> u64),
    /// A count of the databases that hold keys, and of database 0.
    Db(fn((u64, u64)) -> u64),
    /// A count of the commands that have one.
    Command(fn(&RowCount) -> u64),
    /// Refusals by code.
    Code,
    /// The constant 1; the labels tell.
    Build,
}

impl Source {
    fn labels(&self) -> &'static str {
        match self {
            Source::Core(_) | Source::Loop(_) | Source::LoopUs(_) => "core",
            Source::Node(_) => "",
            Source::Db(_) => "db",
            Source::Command(_) => "command",
            Source::Code => "code",
            Source::Build => "version, redis_version, io",
        }
    }
}

/// Everything of one name.
struct Family {
    name: &'static str,
    kind: Kind,
    source: Source,
    help: &'static str,
}

const fn counter(name: &'static str, source: Source, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        source,
        help,
    }
}

const fn gauge(name: &'static str, source: Source, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        source,
        help,
    }
}

const FAMILIES: &[Family] = &[
    gauge(
        "meridian_build_info",
        Source::Build,
        "Always 1: which build, the Redis version it answers as, and how it does I/O.",
    ),
    gauge(
        "meridian_cores",
        Source::Node(|node| node.cores() as u64),
        "Cores that hold and serve data.",
    ),
    gauge(
        "meridian_start_time_seconds",
        Source::Node(|node| node.started_ms / 1000),
        "When the process started, seconds since 1970.",
    ),
    gauge(
        "meridian_resident_bytes",
        Source::Node(|_| resident_bytes()),
        "Memory of the process that is in RAM; 0 where the system does not tell.",
    ),
    gauge(
        "meridian_tls_certificate_expiry_seconds",
        Source::Node(Node::tls_not_after_s),
        "When the certificate of `tls-cert-file` ends, seconds since 1970; 0 without TLS.",
    ),
    gauge(
        "meridian_tls_certificate_days_left",
        Source::Node(|node| node.tls_days_left(crate::start::unix_ms())),
        "Whole days until then; 0 when it has ended, or without TLS.",
    ),
    counter(
        "meridian_tls_reload_failures_total",
        Source::Node(|node| node.tls_reload_failures.load(Relaxed)),
        "Changed files of TLS that could not be taken; the old ones stay in force.",
    ),
    gauge(
        "meridian_clients",
        Source::Core(|core| &core.clients),
        "Clients connected.",
    ),
    gauge(
        "meridian_clients_peak",
        Source::Node(|node| node.clients_peak.load(Relaxed) as u64),
        "Most clients connected at once.",
    ),
    gauge(
        "meridian_clients_max",
        Source::Node(|node| u64::from(node.config().maxclients)),
        "Clients beyond which more are turned away (maxclients).",
    ),
    counter(
        "meridian_connections_accepted_total",
        Source::Core(|core| &core.accepted),
        "Connections accepted.",
    ),
    counter(
        "meridian_connections_refused_total",
        Source::Core(|core| &core.turned_away),
        "Connections turned away: too many clients, or protected mode.",
    ),
    counter(
        "meridian_output_limit_closes_total",
        Source::Core(|core| &core.output_limit_closes),
        "Connections closed because they did not read their replies.",
    ),
    counter(
        "meridian_input_limit_closes_total",
        Source::Core(|core| &core.input_limit_closes),
        "Connections closed because their unfinished requests grew too large.",
    ),
    counter(
        "meridian_commands_total",
        Source::Core(|core| &core.commands),
        "Commands run.",
    ),
    counter(
        "meridian_command_calls_total",
        Source::Command(|count| count.calls),
        "Commands run, by name; a subcommand is `container|name`. May be seconds old.",
    ),
    counter(
        "meridian_command_failures_total",
        Source::Command(|count| count.failures),
        "Commands that ran and were refused, by name.",
    ),
    counter(
        "meridian_command_rejections_total",
        Source::Command(|count| count.rejections),
        "Commands that were refused before they ran, by name.",
    ),
    counter(
        "meridian_refusals_total",
        Source::Core(|core| &core.errors_total),
        "Error replies.",
    ),
    counter(
        "meridian_refusals_by_code_total",
        Source::Code,
        "Error replies, by their first word.",
    ),
    counter(
        "meridian_forwarded_total",
        Source::Core(|core| &core.forwarded),
        "Requests sent on to the core that holds their key.",
    ),
    counter(
        "meridian_transactions_total",
        Source::Core(|core| &core.transactions),
        "Commands and MULTI/EXEC blocks that ran over several cores, or had to claim slots.",
    ),
    counter(
        "meridian_transaction_retries_total",
        Source::Core(|core| &core.retries),
        "How often such a one came too late for a slot and began anew.",
    ),
    gauge(
        "meridian_keys",
        Source::Db(|(keys, _)| keys),
        "Keys, by database.",
    ),
    gauge(
        "meridian_keys_with_deadline",
        Source::Db(|(_, expires)| expires),
        "Keys that will expire, by database.",
    ),
    gauge(
        "meridian_data_bytes",
        Source::Core(|core| &core.used_bytes),
        "Memory of keys and values, as the allocator's classes have it.",
    ),
    gauge(
        "meridian_client_bytes",
        Source::Core(|core| &core.client_bytes),
        "Memory of connections and their buffers.",
    ),
    gauge(
        "meridian_used_bytes",
        Source::Node(|node| node.used().total),
        "Memory in use, which `maxmemory` bounds.",
    ),
    gauge(
        "meridian_used_bytes_peak",
        Source::Node(|node| node.used_bytes_peak.load(Relaxed)),
        "Most memory seen in use.",
    ),
    counter(
        "meridian_key_hits_total",
        Source::Core(|core| &core.hits),
        "Reads that found their key.",
    ),
    counter(
        "meridian_key_misses_total",
        Source::Core(|core| &core.misses),
        "Reads that did not.",
    ),
    counter(
        "meridian_expired_total",
        Source::Core(|core| &core.expired),
        "Keys removed because their deadline had passed.",
    ),
    counter(
        "meridian_evicted_total",
        Source::Core(|core| &core.evicted),
        "Keys removed because memory was needed.",
    ),
    counter(
        "meridian_evicted_clients_total",
        Source::Core(|core| &core.evicted_clients),
        "Connections closed because `maxmemory-clients` was exceeded.",
    ),
    counter(
        "meridian_changes_total",
        Source::Core(|core| &core.changes),
        "Changes of keys and values.",
    ),
    counter(
        "meridian_expired_fields_total",
        Source::Core(|core| &core.fields_expired),
        "Fields of hashes removed because their deadline had passed.",
    ),
    gauge(
        "meridian_log_size_bytes",
        Source::Node(|node| log_sizes(node).now),
        "The log: base and what follows it; 0 without one.",
    ),
    gauge(
        "meridian_log_base_size_bytes",
        Source::Node(|node| log_sizes(node).before),
        "The log after its last rewrite, or at the start; 0 without one.",
    ),
    counter(
        "meridian_log_rewrites_total",
        Source::Node(|node| node.snapshots.facts().rewrites.count),
        "Rewrites of the log that have begun.",
    ),
    gauge(
        "meridian_log_rewrite_in_progress",
        Source::Node(|node| {
            let since = crate::rewrite::rewrites_since_ms(node, crate::start::unix_ms());
            u64::from(since.is_some())
        }),
        "1 while the log is rewritten.",
    ),
    gauge(
        "meridian_log_rewrite_last_seconds",
        Source::Node(|node| node.snapshots.facts().rewrites.last_took_s.unwrap_or(0)),
        "How long the last rewrite took, whole seconds; 0 before the first.",
    ),
    gauge(
        "meridian_log_rewrite_last_ok",
        Source::Node(|node| u64::from(!node.snapshots.facts().rewrites.has_failed)),
        "0 when the last rewrite has failed.",
    ),
    gauge(
        "meridian_migration_phase",
        Source::Node(|node| node.migration.phase.load(Relaxed)),
        "Phase of the migration: 0 idle, 1 attach, 2 front, 3 verify, 4 reverse, 5 finished.",
    ),
    gauge(
        "meridian_migration_lag_bytes",
        Source::Node(|node| node.migration.lag_bytes.load(Relaxed)),
        "Bytes of the source's stream that are not executed here yet.",
    ),
    gauge(
        "meridian_migration_differences",
        Source::Node(|node| node.migration.differences.load(Relaxed)),
        "Keys that differ from the source's and have not been found equal since.",
    ),
    gauge(
        "meridian_migration_pause_us",
        Source::Node(|node| node.migration.pause_us.load(Relaxed)),
        "Microseconds that clients waited at the last change of who decides.",
    ),
    gauge(
        "meridian_migration_queue_bytes",
        Source::Node(|node| node.migration.queue_bytes.load(Relaxed)),
        "Bytes of the log that wait to be written to the old Redis, where it is written to.",
    ),
    gauge(
        "meridian_migration_queue_lag_ms",
        Source::Node(|node| node.migration.queue_lag_ms.load(Relaxed)),
        "How old the oldest write is that is not there yet, milliseconds.",
    ),
    gauge(
        "meridian_migration_old_side_up",
        Source::Node(|node| node.migration.old_side_up.load(Relaxed)),
        "1 while the old Redis takes what is written to it.",
    ),
    gauge(
        "meridian_migration_needs_copy",
        Source::Node(|node| node.migration.needs_copy.load(Relaxed)),
        "1 when the old Redis was given up: what is missing there cannot be written any more.",
    ),
    gauge(
        "meridian_migration_strays",
        Source::Node(|node| node.migration.strays.load(Relaxed)),
        "Writes at the old Redis since the flip that were not this node's.",
    ),
    counter(
        "meridian_migration_keys_compared_total",
        Source::Node(|node| node.migration.keys_compared.load(Relaxed)),
        "Keys of the source that were compared; begins anew with each migration.",
    ),
    counter(
        "meridian_freed_lazily_total",
        Source::Core(|core| &core.freed_lazily),
        "Elements of removed large values, freed a slice at a time.",
    ),
    counter(
        "meridian_turns_total",
        Source::Loop(|stats| stats.turns),
        "Passes of a core's loop.",
    ),
    counter(
        "meridian_kernel_entries_total",
        Source::Loop(|stats| stats.kernel_entries),
        "System calls of the I/O driver.",
    ),
    counter(
        "meridian_received_bytes_total",
        Source::Loop(|stats| stats.bytes_in),
        "Bytes received from clients.",
    ),
    counter(
        "meridian_sent_bytes_total",
        Source::Loop(|stats| stats.bytes_out),
        "Bytes sent to clients.",
    ),
    counter(
        "meridian_receives_total",
        Source::Loop(|stats| stats.recvs),
        "Receives that brought bytes.",
    ),
    counter(
        "meridian_sends_total",
        Source::Loop(|stats| stats.sends),
        "Sends that took bytes.",
    ),
    gauge(
        "meridian_turn_longest_seconds",
        Source::LoopUs(|stats| stats.turn_longest_us),
        "Longest turn since the start or CONFIG RESETSTAT.",
    ),
    gauge(
        "meridian_turn_longest_cpu_seconds",
        Source::LoopUs(|stats| stats.turn_longest_cpu_us),
        "The same by the thread's processor time; 0 unless `turn-cpu-clock` is on.",
    ),
    gauge(
        "meridian_replicas",
        Source::Node(|node| node.replicas.links().len() as u64),
        "Replicas that are connected, those that wait for a full copy included.",
    ),
    gauge(
        "meridian_replicas_near",
        Source::Node(|node| node.replicas.near()),
        "Of them, those that follow the stream and were heard of within `min-replicas-max-lag`.",
    ),
    gauge(
        "meridian_replication_offset_bytes",
        Source::Node(|node| node.replicas.stream().end),
        "Bytes of the stream to replicas so far, in its present history.",
    ),
    gauge(
        "meridian_replication_lag_bytes",
        Source::Node(|node| node.replicas.lag_bytes()),
        "Bytes of it that the replica that is furthest behind has not acknowledged.",
    ),
    gauge(
        "meridian_replication_backlog_bytes",
        Source::Node(|node| node.replicas.stream().heap_bytes),
        "Memory that the last of it takes, which is kept for replicas.",
    ),
    counter(
        "meridian_replica_full_copies_total",
        Source::Node(|node| node.replicas.counters.full.load(Relaxed)),
        "Full copies that replicas have asked for.",
    ),
    counter(
        "meridian_replica_resumes_total",
        Source::Node(|node| node.replicas.counters.partial_ok.load(Relaxed)),
        "Replicas that went on where they had been.",
    ),
    gauge(
        "meridian_front_upstreams",
        Source::Node(|node| node.front.upstreams.load(Relaxed)),
        "Connections of clients to the source whose front this node is.",
    ),
    counter(
        "meridian_front_passed_on_total",
        Source::Node(|node| node.front.passed_on.load(Relaxed)),
        "Requests passed on to the source.",
    ),
    counter(
        "meridian_front_answered_here_total",
        Source::Node(|node| node.front.answered_here.load(Relaxed)),
        "Reads answered here while this node was in front of a source.",
    ),
    gauge(
        "meridian_front_under_way",
        Source::Node(|node| node.front.under_way.load(Relaxed)),
        "Requests passed on that the source has not answered.",
    ),
    counter(
        "meridian_front_failures_total",
        Source::Node(|node| node.front.failures.load(Relaxed)),
        "Connections to the source that could not be made, or were lost with requests under way.",
    ),
    counter(
        "meridian_front_unknown_total",
        Source::Node(|node| node.front.unknown.load(Relaxed)),
        "Requests of which clients were told that it is unknown whether they were executed.",
    ),
    gauge(
        "meridian_front_last_hold_microseconds",
        Source::Node(|node| node.front.last_hold_us.load(Relaxed)),
        "How long requests were held at the last flip, also one that was given up.",
    ),
];

fn log_sizes(node: &Node) -> Sizes {
    let log = &node.write_log;
    if log.is_on() {
        log.sizes()
    } else {
        Sizes::default()
    }
}

/// The page.
pub fn page(node: &Node) -> String {
    let mut out = Page {
        text: String::with_capacity(PAGE_BYTES),
    };
    let stats: Vec<StatsNow> = (0..node.cores())
        .map(|core| {
            let stats = node
                .handle()
                .and_then(|handle| handle.stats(CoreId(core as u16)));
            stats.map(|stats| stats.read()).unwrap_or_default()
        })
        .collect();
    let rows = rows(node);
    for family in FAMILIES {
        let name = family.name;
        let _ = writeln!(
            out.text,
            "# HELP {name} {}\n# TYPE {name} {}",
            family.help,
            family.kind.name()
        );
        match family.source {
            Source::Core(counter) => {
                for (core, published) in node.published.iter().enumerate() {
                    out.number(
                        name,
                        &[("core", &core.to_string())],
                        counter(published).load(Relaxed),
                    );
                }
            }
            Source::Loop(read) => {
                for (core, stats) in stats.iter().enumerate() {
                    out.number(name, &[("core", &core.to_string())], read(stats));
                }
            }
            Source::LoopUs(read) => {
                for (core, stats) in stats.iter().enumerate() {
                    out.sample(name, &[("core", &core.to_string())], &seconds(read(stats)));
                }
            }
            Source::Node(read) => out.number(name, &[], read(node)),
            Source::Db(pick) => {
                for db in 0..node.published.first().map_or(0, |core| core.dbs.len()) {
                    let count = node.db_count(db);
                    if db == 0 || count.0 > 0 {
                        out.number(name, &[("db", &db.to_string())], pick(count));
                    }
                }
            }
            Source::Command(pick) => {
                for (command, count) in &rows {
                    if pick(count) > 0 {
                        out.number(name, &[("command", command)], pick(count));
                    }
                }
            }
            Source::Code => {
                for (code, count) in codes(node) {
                    out.number(name, &[("code", &code)], count);
                }
            }
            Source::Build => out.number(
                name,
                &[
                    ("version", env!("CARGO_PKG_VERSION")),
                    ("redis_version", VERSION_REPORTED),
                    ("io", node.handle().map_or("", |handle| handle.driver())),
                ],
                1,
            ),
        }
    }
    out.text
}

/// A usual page's size, bytes.
const PAGE_BYTES: usize = 32 << 10;

/// Commands with their counts over all cores.
fn rows(node: &Node) -> Vec<(&'static str, RowCount)> {
    let rows = node.table().rows().iter().map(|row| {
        let mut count = RowCount::default();
        node.published
            .iter()
            .for_each(|core| core.add_row(row.index, &mut count));
        (row.spec.name, count)
    });
    rows.collect()
}

/// Refusals by code, in order of the code.
fn codes(node: &Node) -> Vec<(String, u64)> {
    let mut codes = HashMap::new();
    node.published
        .iter()
        .for_each(|core| core.add_errors(&mut codes));
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_unstable();
    codes
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Memory of this process in RAM.
fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| resident_of(&status))
}

/// `VmRSS:  1234 kB` of Linux's process status.
fn resident_of(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

struct Page {
    text: String,
}

impl Page {
    fn number(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample(name, labels, &value.to_string());
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        self.text.push_str(name);
        let mut open = '{';
        for (label, text) in labels {
            let _ = write!(self.text, "{open}{label}=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

const DOCS_HEAD: &str = "\
# Metrics

Written from the list in `server/node/src/control/metrics.rs`; a test compares them, and `make docs`
writes this file.

With `--admin-port 9121` the server answers `GET /metrics` on `admin-bind` (127.0.0.1 unless changed), in Prometheus's text
format. Numbers with the label `core` have no total of their own: `sum without (core) (rate(meridian_commands_total[1m]))`
is the node's rate. Counters begin anew at a restart and at CONFIG RESETSTAT, which `rate` understands.

| metric | kind | labels | meaning |
|---|---|---|---|
";

/// `docs/metrics.md`.
pub fn docs() -> String {
    let mut text = DOCS_HEAD.to_owned();
    for Family {
        name,
        kind,
        source,
        help,
    } in FAMILIES
    {
        let help = help.replace('|', "\\|");
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {help} |",
            kind.name(),
            source.labels()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Parts;
    use std::collections::HashSet;

    fn node() -> Node {
        Node::new(Parts {
            config: Config::default(),
            cores: 2,
            seed: 1,
            started_ms: 1_700_000_000_500,
            config_file: None,
            executable: String::new(),
            entrances: vec![],
        })
        .unwrap()
    }

    #[test]
    fn numbers_of_cores_databases_and_commands_are_told() {
        let node = node();
        node.published[1].commands.store(7, Relaxed);
        node.published[0].dbs[3].0.store(5, Relaxed);
        node.published[1].dbs[3].0.store(6, Relaxed);
        node.published[1].dbs[3].1.store(2, Relaxed);
        let mut tally = crate::stats::Tally::new(node.table().rows().len());
        let get = node.table().find(b"get").unwrap().index;
        tally.called(get, 1);
        tally.called(get, 1);
        tally.failed(get);
        tally.refused("WRONG\"TYPE");
        let shard = storage::Shard::new(16, [], storage::Limits::default(), 0);
        node.published[0].publish_calls(&tally);
        node.published[0].publish(&mut tally, &shard, 4);
        let page = page(&node);
        for line in [
            "# TYPE meridian_commands_total counter",
            "meridian_commands_total{core=\"0\"} 2",
            "meridian_commands_total{core=\"1\"} 7",
            "meridian_clients{core=\"0\"} 4",
            "meridian_keys{db=\"0\"} 0",
            "meridian_keys{db=\"3\"} 11",
            "meridian_keys_with_deadline{db=\"3\"} 2",
            "meridian_command_calls_total{command=\"get\"} 2",
            "meridian_command_failures_total{command=\"get\"} 1",
            "meridian_refusals_by_code_total{code=\"WRONG\\\"TYPE\"} 1",
            "meridian_turn_longest_seconds{core=\"1\"} 0.000000",
            "meridian_start_time_seconds 1700000000",
        ] {
            assert!(page.lines().any(|have| have == line), "{line}\n{page}");
        }
        assert!(
            !page.contains("command=\"set\""),
            "commands that never ran are left out"
        );
        assert!(!page.contains("db=\"1\""), "empty databases are left out");
    }

    #[test]
    fn every_line_is_a_sample_of_the_family_above_it() {
        let node = node();
        let page = page(&node);
        let mut family = "";
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.split(' ');
                assert!(matches!(words.next(), Some("HELP" | "TYPE")), "{line}");
                family = words.next().unwrap();
                assert!(FAMILIES.iter().any(|known| known.name == family), "{line}");
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(sample.starts_with(family), "{line} under {family}");
        }
    }

    #[test]
    fn names_follow_the_rules() {
        let mut seen = HashSet::new();
        for Family {
            name, kind, help, ..
        } in FAMILIES
        {
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("meridian_"));
            assert!(
                name.bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase()),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(
                !help.contains(['\n', '\\']) && help.ends_with('.'),
                "{name}"
            );
        }
    }

    #[test]
    fn memory_is_read_from_the_process_status() {
        assert_eq!(
            resident_of("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n"),
            1234 * 1024
        );
        assert_eq!(resident_of("Name:\tx\n"), 0);
        assert!(resident_bytes() > 1 << 20);
    }

    #[test]
    fn docs_list_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, docs()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == docs(),
            "docs/metrics.md is out of date; run this test with BLESS=1"
        );
    }
}
