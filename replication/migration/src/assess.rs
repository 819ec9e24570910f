//! What stands in the way of leaving a Redis, from what it says of itself: texts and samples in, a report out.
//!
//! ```text
//! INFO, INFO commandstats, CONFIG GET, MODULE LIST, COMMAND INFO, samples of keys  ─┐
//! this node: commands it has, memory, options                                       ─┴─> facts, findings, big keys
//! ```
//! A finding is a *stop* (it would go wrong), a *warning* (it may, or costs something) or a *note*. Each says what to do about it. The source
//! is asked nothing here and nothing is decided: who starts with a stop open must say so.

mod scan;
mod written;

use core::fmt::Write as _;

use crate::OldSide;

pub use written::VERSION_MIN as WRITTEN_VERSION_MIN;

/// Big keys that a report lists.
pub const BIG_KEYS_MAX: usize = 20;
/// Bytes from which a key is called big: DUMP and a delete of it are felt by others.
pub const BIG_KEY_BYTES: u64 = 8 << 20;
/// Unsupported commands that are listed.
const COMMANDS_LISTED_MAX: usize = 40;
/// Bytes a second of a backfill that is reckoned with.
const BACKFILL_BYTES_PER_S: u64 = 100 << 20;
/// Seconds that the link may be down without a full copy.
const OUTAGE_S: u64 = 60;
/// Difference of clocks that is worth a word, ms.
const SKEW_MS_MAX: i64 = 500;
/// Requests a second that one core of this node is reckoned to serve.
const CORE_OPS_PER_S: u64 = 200_000;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It would go wrong.
    Stop,
    /// It may go wrong, or has a price.
    Warning,
    /// To be known.
    Note,
}

impl Weight {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Weight::Stop => "STOP",
            Weight::Warning => "warning",
            Weight::Note => "note",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// A key that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name as a report may show it.
    pub name: String,
    /// The name of its type.
    pub kind: String,
    /// Bytes, as MEMORY USAGE has them.
    pub bytes: u64,
    /// It will expire.
    pub expires: bool,
}

/// What the source told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// INFO, and INFO commandstats behind it.
    pub info: String,
    /// CONFIG GET *, as far as it is allowed; None when it is not.
    pub config: Option<Vec<(String, String)>>,
    /// Names of its modules.
    pub modules: Vec<String>,
    /// Commands that the migration needs and the source, or its user, does not allow.
    pub denied: Vec<String>,
    /// Keys at random.
    pub samples: Vec<Sample>,
    /// Its clock minus ours, ms.
    pub skew_ms: i64,
    /// Bytes a second of its stream, where they could be measured.
    pub stream_bytes_per_s: Option<u64>,
    /// It is looked at as a part of its cluster.
    pub is_shard: bool,
}

impl Told {
    /// An option of its configuration, where that may be read.
    fn option(&self, name: &str) -> Option<&str> {
        let mut config = self.config.iter().flatten();
        let found = config.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is known of this node.
pub struct Here<'a> {
    /// Whether it has a command (`get`, `client|kill`).
    pub knows: &'a dyn Fn(&str) -> bool,
    /// Cores that hold data.
    pub cores: u64,
    /// `maxmemory`, bytes; 0 for none.
    pub maxmemory: u64,
    /// `maxmemory-policy`.
    pub policy: &'a str,
    /// Memory of the machine, bytes; 0 where it is not known.
    pub machine_bytes: u64,
    /// Keys that are here now.
    pub keys: u64,
    /// `databases`.
    pub databases: u64,
    /// The log of writes is on.
    pub logs: bool,
    /// Who connects needs a password.
    pub needs_password: bool,
    /// What the source is to be after the flip.
    pub old_side: OldSide,
    /// It is to be followed by scan.
    pub by_scan: bool,
    /// `migrate-scan-value-max-bytes`.
    pub scan_value_bytes_max: u64,
}

/// What comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What it is, in order.
    pub facts: Vec<(&'static str, String)>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// The largest of the keys that were looked at.
    pub big_keys: Vec<Sample>,
}

/// What an old Redis that is written to is never sent.
const REPLICAOF: &str = "replicaof";

/// The commands that a migration sends to its source, with what for.
pub const NEEDED: &[(&str, &str)] = &[
    ("psync", "the copy and the stream"),
    ("replconf", "the copy and the stream"),
    (REPLICAOF, "the flip and the way back"),
    ("role", "reads after writes in front"),
    ("info", "offsets and histories"),
    ("client", "the fence, and blocked clients at a flip"),
    ("config", "the assessment and the fence"),
    ("scan", "verification"),
    ("dump", "verification"),
    ("memory", "verification"),
    ("pttl", "verification"),
    ("time", "deadlines that are relative"),
    ("restore", "differences that are fetched again"),
    ("watch", "differences that are looked at again"),
    ("psubscribe", "keyspace events"),
];

/// `name:value` of INFO.
pub fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim_end_matches('\r'))
    })
}

/// The same, of a number; 0 where there is none.
pub fn number(info: &str, name: &str) -> u64 {
    let value = field(info, name).unwrap_or("");
    let whole = value.split('.').next().unwrap_or("");
    whole.parse().unwrap_or(0)
}

/// Major and minor version (6, 2).
pub fn version(info: &str) -> (u64, u64) {
    let text = field(info, "redis_version").unwrap_or("");
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Whether what ACL GETUSER says of a user's commands bars one of them by its name, or by allowing none (of other categories nothing is guessed).
pub fn bars(commands: &str, name: &str) -> bool {
    commands.split_whitespace().fold(false, |bars, word| {
        let (allows, what) = match word.split_at_checked(1) {
            Some(("+", what)) => (true, what),
            Some(("-", what)) => (false, what),
            _ => return bars,
        };
        match what == "@all" || what.eq_ignore_ascii_case(name) {
            true => !allows,
            false => bars,
        }
    })
}

/// Keys and keys that expire, over all databases: `db0:keys=2,expires=1,...`.
pub fn keyspace(info: &str) -> (u64, u64) {
    let part = |line: &str, name: &str| -> u64 {
        let found = line
            .split([',', ':'])
            .find_map(|part| part.strip_prefix(name));
        found.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    };
    info.lines()
        .filter(|line| {
            let rest = line.strip_prefix("db").unwrap_or("");
            rest.starts_with(|letter: char| letter.is_ascii_digit())
        })
        .fold((0, 0), |(keys, expires), line| {
            (keys + part(line, "keys="), expires + part(line, "expires="))
        })
}

/// Looks at everything.
pub fn assess(told: &Told, here: &Here<'_>) -> Report {
    let mut report = Report::default();
    facts(told, here, &mut report);
    of_server(told, &mut report);
    of_commands(told, here, &mut report);
    of_options(told, here, &mut report);
    if here.old_side == OldSide::Written {
        written::of_written(told, here, &mut report);
    }
    scan::of_scan(told, here, &mut report);
    if !here.by_scan {
        of_stream(told, &mut report);
    }
    of_memory(told, here, &mut report);
    of_keys(told, &mut report);
    report.findings.sort_by_key(|finding| finding.weight);
    report
}

/// Looks at several that are moved together, each by its name: what each has found, and what all need together.
pub fn assess_all(told: &[(String, Told)], here: &Here<'_>) -> Report {
    let mut report = Report::default();
    let of_all = |name: &str| {
        told.iter()
            .map(|(_, one)| number(&one.info, name))
            .sum::<u64>()
    };
    let (used, ops) = (of_all("used_memory"), of_all("instantaneous_ops_per_sec"));
    let keys: u64 = told.iter().map(|(_, one)| keyspace(&one.info).0).sum();
    report.facts = vec![
        ("shards", told.len().to_string()),
        ("databases' keys", keys.to_string()),
        ("memory used there", bytes(used)),
        ("memory needed here", bytes(used + used / 5)),
        ("requests a second", ops.to_string()),
    ];
    let mut whole = Report::default();
    let sum = Told {
        info: format!("used_memory:{used}"),
        ..Told::default()
    };
    of_memory(&sum, here, &mut whole);
    for (name, one) in told {
        let mut own = Report::default();
        of_server(one, &mut own);
        of_commands(one, here, &mut own);
        of_options(one, here, &mut own);
        of_stream(one, &mut own);
        let (keys, _) = keyspace(&one.info);
        let used = bytes(number(&one.info, "used_memory"));
        let version = field(&one.info, "redis_version").unwrap_or("?");
        let line = format!("{name}, Redis {version}, {keys} keys, {used}");
        report.facts.push(("shard", line));
        for mut finding in own.findings {
            finding.what = format!("{name}: {}", finding.what);
            whole.findings.push(finding);
        }
        report.big_keys.extend(one.samples.clone());
    }
    let all = Told {
        samples: core::mem::take(&mut report.big_keys),
        ..Told::default()
    };
    of_keys(&all, &mut whole);
    (report.findings, report.big_keys) = (whole.findings, whole.big_keys);
    report.findings.sort_by_key(|finding| finding.weight);
    report
}

impl Report {
    /// Adds what was found beside the assessment, the worst first.
    pub fn find(&mut self, weight: Weight, what: impl Into<String>, cure: impl Into<String>) {
        self.add(weight, what, cure);
        self.findings.sort_by_key(|finding| finding.weight);
    }

    /// Whether something stands in the way.
    pub fn stops(&self) -> bool {
        self.findings
            .iter()
            .any(|found| found.weight == Weight::Stop)
    }

    fn add(&mut self, weight: Weight, what: impl Into<String>, cure: impl Into<String>) {
        self.findings.push(Finding {
            weight,
            what: what.into(),
            cure: cure.into(),
        });
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(out, "{name:<24}{value}");
        }
        if !self.big_keys.is_empty() {
            let _ = writeln!(out, "\nlargest keys of those looked at");
        }
        for key in &self.big_keys {
            let _ = writeln!(
                out,
                "  {:<10}{:>14}  {}",
                key.kind,
                bytes(key.bytes),
                key.name
            );
        }
        let _ = writeln!(out);
        for Finding { weight, what, cure } in &self.findings {
            let _ = writeln!(out, "{:<9}{what}", weight.name());
            if !cure.is_empty() {
                let _ = writeln!(out, "         -> {cure}");
            }
        }
        let _ = writeln!(out, "{}", self.verdict());
        out
    }

    /// Whether it may begin, in one sentence.
    pub fn verdict(&self) -> &'static str {
        if self.stops() {
            "Something stands in the way: see STOP above."
        } else {
            "Nothing stands in the way."
        }
    }
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    for (unit, size) in [("GB", 1u64 << 30), ("MB", 1 << 20), ("kB", 1 << 10)] {
        if n >= size {
            return format!("{}.{} {unit}", n / size, n % size * 10 / size);
        }
    }
    format!("{n} B")
}

fn facts(told: &Told, here: &Here<'_>, report: &mut Report) {
    let info = &told.info;
    let text = |name: &str| field(info, name).unwrap_or("?").to_owned();
    let (keys, expires) = keyspace(info);
    let ops = number(info, "instantaneous_ops_per_sec");
    let cores = ops.div_ceil(CORE_OPS_PER_S).max(1);
    let used = number(info, "used_memory");
    report.facts = vec![
        ("version", text("redis_version")),
        ("mode", text("redis_mode")),
        ("role", text("role")),
        ("databases' keys", keys.to_string()),
        ("keys that expire", share(expires, keys)),
        ("memory used there", bytes(used)),
        ("memory needed here", bytes(used + used / 5)),
        ("requests a second", ops.to_string()),
        (
            "cores needed here",
            format!("{cores} (this node has {})", here.cores),
        ),
        ("clients", text("connected_clients")),
        ("clients that wait", text("blocked_clients")),
        (
            "stream",
            match told.stream_bytes_per_s {
                Some(rate) => format!("{} a second", bytes(rate)),
                None => "not known: it has no replica yet".to_owned(),
            },
        ),
        (
            "full copy, about",
            format!("{} s", used / BACKFILL_BYTES_PER_S + 1),
        ),
        ("clock", format!("{} ms ahead of this node's", told.skew_ms)),
    ];
}

fn share(part: u64, whole: u64) -> String {
    match part.saturating_mul(100).checked_div(whole) {
        Some(percent) => format!("{part} ({percent} %)"),
        None => "0".to_owned(),
    }
}

fn of_server(told: &Told, report: &mut Report) {
    let info = &told.info;
    let (major, minor) = version(info);
    match (major, minor) {
        (0..6, _) => report.add(
            Weight::Stop,
            format!("Redis {major}.{minor} is older than 6.0"),
            "upgrade it first: 6.2 or 7.2 read its files",
        ),
        (6, 0) => report.add(
            Weight::Warning,
            "Redis 6.0 has no CLIENT PAUSE WRITE, and connects to a new primary once a second only",
            "the fence is min-replicas-to-write, and a flip needs migrate-pause-max-ms 1500",
        ),
        (6 | 7, _) => {}
        _ => report.add(
            Weight::Warning,
            format!("Redis {major}.{minor} is newer than what this was tested with"),
            "files of RDB version 12 and older are read; try it with a copy",
        ),
    }
    match field(info, "redis_mode") {
        Some("cluster") if !told.is_shard => report.add(
            Weight::Stop,
            "the source is a shard of a cluster",
            "name it alone: its cluster is moved as a whole",
        ),
        Some("sentinel") => report.add(Weight::Stop, "this is a Sentinel", "name its primary"),
        _ => {}
    }
    if field(info, "role") == Some("slave") {
        let host = field(info, "master_host").unwrap_or("?");
        let port = field(info, "master_port").unwrap_or("?");
        report.add(
            Weight::Stop,
            "the source is a replica: it takes no writes of its own",
            format!("name its primary, {host}:{port}"),
        );
    }
    if number(info, "loading") == 1 {
        report.add(Weight::Stop, "it is loading its data", "wait until it has");
    }
    if !told.modules.is_empty() {
        report.add(
            Weight::Stop,
            format!("modules are loaded: {}", told.modules.join(", ")),
            "values of modules cannot be read: remove those keys and unload the modules",
        );
    }
    // (In a cluster it is no replica after the flip.)
    if field(info, "config_file").is_some_and(str::is_empty) && !told.is_shard {
        report.add(
            Weight::Warning,
            "it runs without a configuration file",
            "restarted after the flip it would be a primary again until this node notices: start it with a file, or with --replicaof afterwards",
        );
    }
    if told.skew_ms.abs() > SKEW_MS_MAX {
        report.add(
            Weight::Warning,
            format!("the two clocks differ by {} ms", told.skew_ms.abs()),
            "synchronise them: keys expire by this node's clock after the flip",
        );
    }
}

fn of_commands(told: &Told, here: &Here<'_>, report: &mut Report) {
    let mut unknown: Vec<(&str, u64)> = Vec::new();
    for line in told.info.lines() {
        let named = line.strip_prefix("cmdstat_");
        let Some((name, stats)) = named.and_then(|rest| rest.split_once(':')) else {
            continue;
        };
        // (A cluster is set up by some that no application calls.)
        let is_of_cluster = told.is_shard && name.starts_with("cluster|");
        if !is_of_cluster && !(here.knows)(name) {
            let calls = stats
                .split(',')
                .find_map(|part| part.strip_prefix("calls="));
            unknown.push((
                name,
                calls.and_then(|calls| calls.parse().ok()).unwrap_or(0),
            ));
        }
    }
    unknown.sort_by_key(|(_, calls)| core::cmp::Reverse(*calls));
    let listed: Vec<String> = unknown
        .iter()
        .take(COMMANDS_LISTED_MAX)
        .map(|(name, calls)| format!("{} ({calls} calls)", name.to_uppercase().replace('|', " ")))
        .collect();
    if !listed.is_empty() {
        report.add(
            Weight::Warning,
            format!(
                "commands are used that this node does not have: {}",
                listed.join(", ")
            ),
            "clients that call them get an error here: change them, or see docs/compatibility.md",
        );
    }
    for name in &told.denied {
        let is_flip = name == REPLICAOF;
        if is_flip && here.old_side == OldSide::Written || !scan::needs(name, here.by_scan) {
            continue;
        }
        let what = NEEDED.iter().find(|(needed, _)| needed == name);
        let what = what.map_or("the migration", |(_, what)| what);
        report.add(
            Weight::Stop,
            format!(
                "{} is renamed, or not allowed to the migration's user: it is needed for {what}",
                name.to_uppercase()
            ),
            format!(
                "ACL SETUSER <user> +{name}, or a user of the migration's own with ~* &* +@all{}",
                match name.as_str() {
                    REPLICAOF => "; where it is barred: --old-side written".to_owned(),
                    scan::PSYNC => format!(
                        "; where it is barred: --by-scan\n            {}",
                        scan::meaning(told)
                    ),
                    _ => String::new(),
                }
            ),
        );
    }
}

fn of_options(told: &Told, here: &Here<'_>, report: &mut Report) {
    if told.config.is_none() {
        report.add(
            Weight::Warning,
            "CONFIG GET is not allowed: options were not looked at",
            "look at replica-read-only (yes), repl-backlog-size and client-output-buffer-limit yourself",
        );
        return;
    }
    let option = |name| told.option(name);
    if option("lua-replicate-commands") == Some("no") {
        report.add(
            Weight::Stop,
            "lua-replicate-commands is no: scripts are sent to replicas as they are, and would run twice",
            "CONFIG SET lua-replicate-commands yes",
        );
    }
    if [option("replica-read-only"), option("slave-read-only")].contains(&Some("no")) {
        report.add(
            Weight::Stop,
            "replica-read-only is no: after the flip the old Redis would take writes",
            "CONFIG SET replica-read-only yes",
        );
    }
    let databases = option("databases")
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    if databases > here.databases {
        report.add(
            Weight::Warning,
            format!(
                "it has {databases} databases, this node has {}",
                here.databases
            ),
            "start this node with as many",
        );
    }
    let policy = option("maxmemory-policy").unwrap_or("noeviction");
    if policy != here.policy {
        report.add(
            Weight::Warning,
            format!(
                "maxmemory-policy is {policy} there and {} here",
                here.policy
            ),
            "set the same, unless this is meant",
        );
    }
    if here.needs_password && option("masterauth").is_some_and(str::is_empty) {
        report.add(
            Weight::Warning,
            "this node asks for a password and the source has none for it: it could not follow after the flip",
            "CONFIG SET masterauth (and masteruser) at the source, before the flip",
        );
    }
    if option("min-replicas-to-write").is_some_and(|count| count != "0") {
        report.add(
            Weight::Note,
            "min-replicas-to-write is set: this node counts as a replica while it follows",
            "",
        );
    }
}

fn of_stream(told: &Told, report: &mut Report) {
    if told.config.is_none() {
        return;
    }
    let used = number(&told.info, "used_memory");
    // Without a replica there is no stream to measure: what clients send is no less.
    let rate = told
        .stream_bytes_per_s
        .unwrap_or_else(|| number(&told.info, "instantaneous_input_kbps") * 1024);
    let backlog = told.option("repl-backlog-size");
    let backlog = backlog.and_then(|size| size.parse::<u64>().ok());
    let wanted = rate.saturating_mul(OUTAGE_S).max(16 << 20);
    if let Some(backlog) = backlog.filter(|backlog| *backlog < wanted) {
        report.add(
            Weight::Warning,
            format!("repl-backlog-size is {}: a link that is down for {OUTAGE_S} s may need a full copy again", bytes(backlog)),
            format!("CONFIG SET repl-backlog-size {wanted}"),
        );
    }
    let copy_s = used / BACKFILL_BYTES_PER_S + 1;
    let queued = rate.saturating_mul(copy_s).saturating_mul(2);
    let limit = told.option("client-output-buffer-limit");
    let limit = limit.and_then(limit_of_replicas);
    if let Some((hard, soft)) = limit
        && [hard, soft]
            .iter()
            .any(|limit| *limit != 0 && *limit < queued)
    {
        report.add(
            Weight::Warning,
            format!("the client-output-buffer-limit of replicas ({}, {}) may end the full copy: about {} of the stream wait meanwhile", bytes(hard), bytes(soft), bytes(queued)),
            format!("CONFIG SET client-output-buffer-limit \"replica {} {queued} 300\"", queued.saturating_mul(2)),
        );
    }
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub ...`: hard and soft limit of replicas.
fn limit_of_replicas(limits: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = limits.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| matches!(*word, "slave" | "replica"))?;
    Some((
        words.get(at + 1)?.parse().ok()?,
        words.get(at + 2)?.parse().ok()?,
    ))
}

fn of_memory(told: &Told, here: &Here<'_>, report: &mut Report) {
    let used = number(&told.info, "used_memory");
    let needed = used + used / 5;
    if here.maxmemory > 0 && here.maxmemory < needed {
        report.add(
            Weight::Stop,
            format!("maxmemory here is {}, of which about {} are needed", bytes(here.maxmemory), bytes(needed)),
            "CONFIG SET maxmemory to more, or to 0: what does not fit cannot be evicted while the source decides",
        );
    }
    if here.machine_bytes > 0 && here.machine_bytes < needed {
        report.add(
            Weight::Stop,
            format!(
                "this machine has {}, of which about {} are needed",
                bytes(here.machine_bytes),
                bytes(needed)
            ),
            "a larger machine",
        );
    }
    if here.keys > 0 {
        report.add(
            Weight::Warning,
            format!(
                "this node holds {} keys: the full copy removes them",
                here.keys
            ),
            "start with an empty node",
        );
    }
    if !here.logs {
        report.add(
            Weight::Warning,
            "this node keeps no log of writes (appendonly no)",
            "a restart needs a full copy; after the flip it would lose what came since the last snapshot: CONFIG SET appendonly yes",
        );
    }
}

fn of_keys(told: &Told, report: &mut Report) {
    let mut keys = told.samples.clone();
    keys.sort_by_key(|key| core::cmp::Reverse(key.bytes));
    let big = keys.iter().filter(|key| key.bytes >= BIG_KEY_BYTES).count();
    keys.truncate(BIG_KEYS_MAX);
    report.big_keys = keys;
    if big > 0 {
        report.add(
            Weight::Note,
            format!(
                "{big} of {} keys that were looked at have more than {}",
                told.samples.len(),
                bytes(BIG_KEY_BYTES)
            ),
            "they are compared in pieces",
        );
    }
}

#[cfg(test)]
mod tests;
