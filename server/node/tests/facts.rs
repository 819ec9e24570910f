//! Every row of the command table against the facts of Redis 7.2.6, which clients and proxies rely on.
//!
//! `data/commands-7.2.tsv` has a line for each of Redis's commands and subcommands. Names that Redis has
//! and the table lacks are printed, not failed: they are the work that is left.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::collections::{BTreeMap, BTreeSet};

use node::config::Config;
use node::table::Table;
use protocol::{Begin, Find, KeySpec, Spec};

const FACTS: &str = include_str!("data/commands-7.2.tsv");

/// Columns of the file.
const COLUMNS: [&str; 14] = [
    "name",
    "subcommand_of",
    "group",
    "since",
    "arity",
    "flags",
    "acl_categories",
    "first_key",
    "last_key",
    "key_step",
    "key_specs",
    "tips",
    "deprecated_since",
    "source",
];

/// Versions of Redis after the file's whose commands we have some of.
const NEWER: [&str; 2] = ["7.4.0", "8.0.0"];

type Fact = BTreeMap<&'static str, &'static str>;

/// All facts by full name.
fn facts() -> BTreeMap<String, Fact> {
    let mut lines = FACTS.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    assert_eq!(header, COLUMNS);
    lines
        .map(|line| {
            let fact: Fact = COLUMNS.into_iter().zip(line.split('\t')).collect();
            let name = match fact["subcommand_of"] {
                "" => fact["name"].to_lowercase(),
                parent => format!("{parent}|{}", fact["name"]).to_lowercase(),
            };
            (name, fact)
        })
        .collect()
}

/// Members of a list in the file, in no order.
fn set(list: &str) -> BTreeSet<String> {
    let words = list.split(',').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Names of the flags that the file knows; COMMAND hides some of them.
fn flags(spec: &Spec) -> BTreeSet<String> {
    use protocol::Flags;
    let hidden = [
        (Flags::MAY_REPLICATE, "may_replicate"),
        (Flags::PROTECTED, "protected"),
        (Flags::SENTINEL, "sentinel"),
        (Flags::ONLY_SENTINEL, "only_sentinel"),
        (Flags::TOUCHES_ARBITRARY_KEYS, "touches_arbitrary_keys"),
    ];
    let hidden = hidden.iter().filter(|(flag, _)| spec.flags.contains(*flag));
    spec.flags
        .names()
        .chain(hidden.map(|(_, name)| *name))
        .map(str::to_owned)
        .collect()
}

/// A key spec as the file writes it.
fn key(spec: &KeySpec) -> String {
    let begin = match spec.begin {
        Begin::Index(index) => format!("i{index}"),
        Begin::Keyword { word, from } => format!("k:{word}:{from}"),
        Begin::Unknown => "?".to_owned(),
    };
    let find = match spec.find {
        Find::Range { last, step, limit } => format!("r{last}/{step}/{limit}"),
        Find::KeyNum {
            count_at,
            first,
            step,
        } => format!("n{count_at}/{first}/{step}"),
        Find::Unknown => "?".to_owned(),
    };
    let mut flags: Vec<String> = spec.flags.names().map(str::to_lowercase).collect();
    flags.sort();
    format!("{begin},{find}|{}", flags.join("+"))
}

/// The file's key specs with the flags of each in alphabetical order: they are sets.
fn sorted_flags(specs: &str) -> String {
    let sorted = |spec: &str| {
        let Some((rule, flags)) = spec.split_once('|') else {
            return spec.to_owned();
        };
        let mut flags: Vec<&str> = flags.split('+').collect();
        flags.sort_unstable();
        format!("{rule}|{}", flags.join("+"))
    };
    let specs: Vec<String> = specs.split(' ').map(sorted).collect();
    specs.join(" ")
}

#[test]
fn every_row_is_as_in_redis() {
    let facts = facts();
    let table = Table::build(&Config::default());
    let mut wrong = Vec::new();
    let mut missing: BTreeSet<&str> = facts.keys().map(String::as_str).collect();
    for row in table.rows() {
        let spec = row.spec;
        let Some(fact) = facts.get(spec.name) else {
            if NEWER.contains(&spec.since) {
                continue;
            }
            wrong.push(format!("{}: Redis 7.2 has no such command", spec.name));
            continue;
        };
        missing.remove(spec.name);
        let mut check = |what: &str, ours: String, redis: String| {
            if ours != redis {
                wrong.push(format!("{} {what}: {ours}, in Redis {redis}", spec.name));
            }
        };
        let (first, last, step) = spec.range;
        let keys: Vec<String> = spec.keys.iter().map(key).collect();
        let sets = [
            ("flags", flags(spec), set(fact["flags"])),
            (
                "acl_categories",
                spec.acl.names().map(str::to_owned).collect(),
                set(fact["acl_categories"]),
            ),
            (
                "tips",
                spec.tips.iter().map(|tip| (*tip).to_owned()).collect(),
                set(fact["tips"]),
            ),
        ];
        for (what, ours, redis) in sets {
            check(what, format!("{ours:?}"), format!("{redis:?}"));
        }
        let texts = [
            ("group", spec.group.name().to_owned()),
            ("since", spec.since.to_owned()),
            ("arity", spec.arity.redis().to_string()),
            ("first_key", first.to_string()),
            ("last_key", last.to_string()),
            ("key_step", step.to_string()),
            (
                "deprecated_since",
                spec.deprecated_since.unwrap_or("").to_owned(),
            ),
        ];
        check("key_specs", keys.join(" "), sorted_flags(fact["key_specs"]));
        for (what, ours) in texts {
            check(what, ours, fact[what].to_owned());
        }
        if spec.summary.contains("TODO") || !spec.summary.ends_with('.') {
            wrong.push(format!("{}: no summary", spec.name));
        }
    }
    println!(
        "{} of {} rows of Redis 7.2.6; missing: {}",
        facts.len() - missing.len(),
        facts.len(),
        missing.into_iter().collect::<Vec<_>>().join(" ")
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
