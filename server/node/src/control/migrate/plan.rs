//! Asks a server what the assessment wants to know. Nothing there is changed, and what is not allowed is told, not guessed.

use std::time::{Duration, Instant};

use migration::assess::{self, Here, NEEDED, Report, Sample, Told};
use migration::{OldSide, Server};
use protocol::answer::Answer;

use super::link::{Address, Wire, text_of};
use super::status::shown;
use crate::node::Node;

/// Keys that are looked at: about so many, in batches.
const SAMPLES_MAX: usize = 2000;
const BATCH: usize = 100;
/// How long the stream is watched to know its rate.
const RATE_TIME: Duration = Duration::from_millis(500);

/// Looks at a server, with this node's eyes.
///
/// # Errors
/// When it cannot be reached, or tells nothing at all.
pub(super) fn assess_of(
    node: &Node,
    address: &Address,
    (shows_keys, old_side): (bool, OldSide),
) -> Result<Report, String> {
    let Server { host, port, .. } = &address.server;
    let told = told(address, shows_keys).map_err(|error| format!("{host}:{port}: {error}"))?;
    let config = node.config();
    let policy = config.get(&[b"maxmemory-policy"]);
    let policy = policy
        .first()
        .map(|(_, value)| value.clone())
        .unwrap_or_default();
    let policy = String::from_utf8_lossy(&policy);
    let here = Here {
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
        old_side,
    };
    Ok(assess::assess(&told, &here))
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

fn told(address: &Address, shows_keys: bool) -> std::io::Result<Told> {
    let mut wire = Wire::open(address)?;
    let info = super::link::refused(wire.call(&["INFO"])?)?;
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
    Ok(told)
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
    // (DRYRUN is of Redis 7.0; an older one tells when a command is sent.)
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
    ];
    for (name, args) in harmless {
        let mut words = vec!["ACL", "DRYRUN", &user, name];
        words.extend(*args);
        let answer = wire.call(&words)?;
        let text = text_of(&answer);
        let refuses = !answer.is_error() && text.contains("no permissions");
        if refuses && !denied.iter().any(|known| known == name) {
            denied.push((*name).to_owned());
        }
    }
    Ok(denied)
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
