//! Asks a server what the assessment wants to know. Nothing there is changed, and what is not allowed is told, not guessed.

use std::time::{Duration, Instant};

use migration::assess::{self, Here, NEEDED, Sample, Told, Weight};
use migration::scan::PATTERN;
use migration::{Server, Shard, Topology};
use protocol::answer::Answer;

use super::drive::Survey;
use super::link::{Address, Wire, refused, text_of};
use super::order::Means;
use super::status::shown;
use super::{address_of, drive};
use crate::node::Node;
use crate::source::LINES_MAX;

/// Keys that are looked at: about so many, in batches.
const SAMPLES_MAX: usize = 2000;
const BATCH: usize = 100;
/// How long the stream is watched to know its rate.
const RATE_TIME: Duration = Duration::from_millis(500);

/// Looks at a server, at the cluster that it is of, or at several servers, with this node's eyes.
///
/// # Errors
/// When one cannot be reached, or tells nothing at all.
pub(super) fn survey(
    node: &Node,
    sources: &[Server],
    (shows_keys, means): (bool, Means),
) -> Result<Survey, String> {
    let [source] = sources else {
        return by_hand(node, sources, (shows_keys, means));
    };
    let (mut told, nodes) = look_at(node, source, shows_keys)?;
    if assess::field(&told.info, "redis_mode") != Some("cluster") {
        return Ok(Survey {
            report: with_here(node, means, |here| assess::assess(&told, here)),
            shards: Vec::new(),
        });
    }
    allow_several(means)?;
    told.is_shard = true;
    let seen = Topology::read(&nodes, &source.host, source.tls);
    let seen = seen.map_err(|error| format!("{}:{}: {error}", source.host, source.port))?;
    let mut all = Vec::new();
    for primary in &seen.primaries {
        let (mut told, _) = look_at(node, &primary.server, shows_keys)?;
        told.is_shard = true;
        let Server { host, port, .. } = &primary.server;
        all.push((format!("{host}:{port} (slots {})", primary.slots), told));
    }
    let mut report = with_here(node, means, |here| assess::assess_all(&all, here));
    if !seen.moving.is_empty() {
        report.find(
            Weight::Warning,
            format!(
                "slots are on their way from one shard to another: {}",
                seen.moving
            ),
            "end the resharding first: who gets slots while it is followed is copied again",
        );
    }
    bound(&mut report, seen.primaries.len());
    let shards = seen.primaries.into_iter().map(|primary| {
        let shard = Shard {
            slots: Some(primary.slots),
            id: primary.id,
            ..Shard::default()
        };
        (primary.server, shard)
    });
    let shards = shards.collect();
    Ok(Survey { report, shards })
}

/// Several servers are followed by their streams only.
///
/// # Errors
/// If they are to be otherwise.
fn allow_several(means: Means) -> Result<(), String> {
    match means.by_scan {
        true => Err("several servers, or a cluster, cannot be followed by scan yet".to_owned()),
        false => Ok(()),
    }
}

fn by_hand(
    node: &Node,
    sources: &[Server],
    (shows_keys, means): (bool, Means),
) -> Result<Survey, String> {
    allow_several(means)?;
    let mut all = Vec::new();
    let mut runs = Vec::new();
    for source in sources {
        let (told, _) = look_at(node, source, shows_keys)?;
        runs.push(assess::field(&told.info, "run_id").unwrap_or("").to_owned());
        all.push((format!("{}:{}", source.host, source.port), told));
    }
    let mut report = with_here(node, means, |here| assess::assess_all(&all, here));
    for (at, run) in runs.iter().enumerate() {
        if let Some(before) = runs[..at]
            .iter()
            .position(|known| known == run && !run.is_empty())
        {
            report.find(
                Weight::Stop,
                format!("{} and {} are the same server", all[before].0, all[at].0),
                "name each once",
            );
        }
    }
    report.find(
        Weight::Note,
        "keys are spread by the application: no two of these servers may have the same key, which is looked at while they are copied and compared",
        "",
    );
    bound(&mut report, sources.len());
    let shard = Shard::default();
    let shards = sources.iter().map(|source| (source.clone(), shard.clone()));
    let shards = shards.collect();
    Ok(Survey { report, shards })
}

fn bound(report: &mut assess::Report, shards: usize) {
    if shards > LINES_MAX {
        report.find(
            Weight::Stop,
            format!("there are {shards} shards, of which {LINES_MAX} can be followed"),
            "merge some first",
        );
    }
}

fn look_at(node: &Node, source: &Server, shows_keys: bool) -> Result<(Told, String), String> {
    let Server { host, port, .. } = source;
    let address = address_of(node, source, drive::ANSWER_MAX)?;
    let looked = told(&address, shows_keys);
    looked.map_err(|error| format!("{host}:{port}: {error}"))
}

fn with_here<R>(node: &Node, means: Means, assess: impl FnOnce(&Here<'_>) -> R) -> R {
    let config = node.config();
    let policy = config.get(&[b"maxmemory-policy"]);
    let policy = policy
        .first()
        .map(|(_, value)| value.clone())
        .unwrap_or_default();
    let policy = String::from_utf8_lossy(&policy);
    assess(&Here {
        knows: &|name| knows(node, name),
        cores: node.cores() as u64,
        maxmemory: config.maxmemory,
        policy: &policy,
        machine_bytes: machine_bytes(),
        keys: (0..config.databases as usize)
            .map(|db| node.db_count(db).0)
            .sum(),
        databases: u64::from(config.databases),
        logs: config.appendonly,
        needs_password: !node.users().default_user().nopass,
        old_side: means.old_side,
        by_scan: means.by_scan,
        scan_value_bytes_max: config.migrate_scan_value_max_bytes,
    })
}

/// `get`, `config|get`.
fn knows(node: &Node, name: &str) -> bool {
    let mut parts = name.split('|');
    let row = parts
        .next()
        .and_then(|name| node.table().find(name.as_bytes()));
    match (row, parts.next()) {
        (Some(row), Some(sub)) => node.table().subcommand(row, sub.as_bytes()).is_some(),
        (row, _) => row.is_some(),
    }
}

/// Memory of this machine; 0 where the system does not tell.
fn machine_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// What a server tells, and what it says of its cluster, if it is of one.
fn told(address: &Address, shows_keys: bool) -> std::io::Result<(Told, String)> {
    let mut wire = Wire::open(address)?;
    let info = refused(wire.call(&["INFO"])?)?;
    let mut told = Told {
        info: text_of(&info),
        ..Told::default()
    };
    let stats = wire.call(&["INFO", "commandstats"])?;
    told.info.push_str(&text_of(&stats));
    told.config = match wire.call(&["CONFIG", "GET", "*"])? {
        Answer::Array(members) => Some(
            members
                .chunks_exact(2)
                .map(|pair| (text_of(&pair[0]), text_of(&pair[1])))
                .collect(),
        ),
        _ => None,
    };
    told.modules = modules(&wire.call(&["MODULE", "LIST"])?);
    told.denied = denied(&mut wire)?;
    told.skew_ms = skew_ms(&mut wire)?;
    told.stream_bytes_per_s = stream_rate(&mut wire, &told.info)?;
    if !told
        .denied
        .iter()
        .any(|name| name == "scan" || name == "memory")
    {
        told.samples = samples(&mut wire, shows_keys)?;
    }
    let mut nodes = String::new();
    if assess::field(&told.info, "redis_mode") == Some("cluster") {
        nodes = text_of(&refused(wire.call(&["CLUSTER", "NODES"])?)?);
    }
    Ok((told, nodes))
}

/// `name` of each module's map.
fn modules(list: &Answer) -> Vec<String> {
    let Answer::Array(modules) = list else {
        return Vec::new();
    };
    let name = |module: &Answer| match module {
        Answer::Array(pairs) => pairs.get(1).map(text_of),
        _ => None,
    };
    modules.iter().filter_map(name).collect()
}

/// What is renamed away, or not for this user.
fn denied(wire: &mut Wire) -> std::io::Result<Vec<String>> {
    let mut words = vec!["COMMAND", "INFO"];
    words.extend(NEEDED.iter().map(|(name, _)| *name));
    let mut denied = Vec::new();
    if let Answer::Array(known) = wire.call(&words)? {
        let missing = NEEDED.iter().zip(known);
        let missing =
            missing.filter(|(_, known)| matches!(known, Answer::Null | Answer::NullArray));
        denied.extend(missing.map(|((name, _), _)| (*name).to_owned()));
    }
    let user = text_of(&wire.call(&["ACL", "WHOAMI"])?);
    let commands = commands_of(wire, &user)?;
    // (DRYRUN is of Redis 7.0; of an older one it is told what the user may call, if it may ask that.)
    let harmless: &[(&str, &[&str])] = &[
        ("psync", &["?", "-1"]),
        ("replconf", &["capa", "eof"]),
        ("replicaof", &["no", "one"]),
        ("restore", &["k", "0", "x"]),
        ("watch", &["k"]),
        ("dump", &["k"]),
        ("scan", &["0"]),
        ("role", &[]),
        ("client", &["unpause"]),
        ("config", &["rewrite"]),
        ("memory", &["usage", "k"]),
        ("psubscribe", &[PATTERN]),
    ];
    for (name, args) in harmless {
        let mut words = vec!["ACL", "DRYRUN", &user, name];
        words.extend(*args);
        let answer = wire.call(&words)?;
        let text = text_of(&answer);
        let refuses = match answer.is_error() {
            true => assess::bars(&commands, name),
            false => text.contains("no permissions"),
        };
        if refuses && !denied.iter().any(|known| known == name) {
            denied.push((*name).to_owned());
        }
    }
    Ok(denied)
}

/// What a user may call, as ACL GETUSER says it; empty where that is not told.
fn commands_of(wire: &mut Wire, user: &str) -> std::io::Result<String> {
    let Answer::Array(fields) = wire.call(&["ACL", "GETUSER", user])? else {
        return Ok(String::new());
    };
    let mut pairs = fields.chunks_exact(2);
    let found = pairs.find(|pair| text_of(&pair[0]) == "commands");
    Ok(found.map(|pair| text_of(&pair[1])).unwrap_or_default())
}

fn skew_ms(wire: &mut Wire) -> std::io::Result<i64> {
    let before = crate::start::unix_ms();
    let begun = Instant::now();
    let Answer::Array(time) = wire.call(&["TIME"])? else {
        return Ok(0);
    };
    let part = |at: usize| {
        time.get(at)
            .map(text_of)
            .and_then(|text| text.parse::<i64>().ok())
    };
    let half = begun.elapsed().as_millis() as i64 / 2;
    let theirs = part(0).zip(part(1)).map(|(s, us)| s * 1000 + us / 1000);
    Ok(theirs.map_or(0, |theirs| theirs - before as i64 - half))
}

/// Bytes a second of the stream; None when there is no replica, and so no stream.
fn stream_rate(wire: &mut Wire, info: &str) -> std::io::Result<Option<u64>> {
    if assess::number(info, "connected_slaves") == 0 {
        return Ok(None);
    }
    let before = assess::number(info, "master_repl_offset");
    let begun = Instant::now();
    std::thread::sleep(RATE_TIME);
    let info = text_of(&wire.call(&["INFO", "replication"])?);
    let more = assess::number(&info, "master_repl_offset").saturating_sub(before);
    Ok((more * 1000).checked_div(begun.elapsed().as_millis() as u64))
}

fn samples(wire: &mut Wire, shows_keys: bool) -> std::io::Result<Vec<Sample>> {
    let mut found = Vec::new();
    let mut cursor = "0".to_owned();
    while found.len() < SAMPLES_MAX {
        let Answer::Array(mut reply) =
            wire.call(&["SCAN", &cursor, "COUNT", &BATCH.to_string()])?
        else {
            break;
        };
        let Some(Answer::Array(keys)) = reply.pop() else {
            break;
        };
        cursor = reply
            .pop()
            .map(|answer| text_of(&answer))
            .unwrap_or_default();
        let keys: Vec<Vec<u8>> = keys
            .into_iter()
            .filter_map(|key| match key {
                Answer::Bulk(key) => Some(key),
                _ => None,
            })
            .collect();
        let mut requests = Vec::new();
        for key in &keys {
            for words in [&["MEMORY", "USAGE"][..], &["TYPE"], &["PTTL"]] {
                let mut words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
                words.push(key.clone());
                requests.push(words);
            }
        }
        let answers = wire.call_all(&requests)?;
        for (key, answers) in keys.iter().zip(answers.chunks_exact(3)) {
            let int = |at: usize| match answers[at] {
                Answer::Int(n) => n,
                _ => 0,
            };
            found.push(Sample {
                name: shown(key, shows_keys),
                kind: text_of(&answers[1]),
                bytes: u64::try_from(int(0)).unwrap_or(0),
                expires: int(2) > 0,
            });
        }
        if cursor == "0" {
            break;
        }
    }
    Ok(found)
}
