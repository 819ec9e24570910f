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
/// Those of later commands that the table has, in the same form.
const LATER: &str = include_str!("data/commands-later.tsv");

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

type Fact = BTreeMap<&'static str, &'static str>;

/// All facts of a file by full name.
fn facts(text: &'static str) -> BTreeMap<String, Fact> {
    let mut lines = text.lines();
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

/// What stands around the part of the page that is printed.
const PAGE_BEGIN: &str = "<!-- printed by `make docs` from here on -->\n";
const PAGE_END: &str = "<!-- to here -->\n";

/// Commands that are there and do less than in Redis.
const LIMITED: &[(&str, &str)] = &[
    (
        "client|maint_notifications",
        "kept; there is nothing to tell yet",
    ),
    ("module|load", "refused: there are no modules"),
    ("module|loadex", "refused: there are no modules"),
    ("module|unload", "refused: there are no modules"),
    ("replconf", "all but rdb-filter-only, which is refused"),
];

/// Why a command of Redis is not there.
fn why_not(name: &str, group: &str) -> &'static str {
    let parent = name.split('|').next().unwrap_or(name);
    match (group, parent) {
        ("sentinel", _) | (_, "sentinel") => "no: clients find the nodes without Sentinel",
        ("hyperloglog", _) => "no: it tests Redis's own code",
        ("cluster", _) => "no: the topology is the node's cores",
        (_, "failover") => "no: a flip goes by `meridian migrate`",
        _ => "no: not yet",
    }
}

/// The table of all commands.
fn print_commands() -> String {
    let (facts, later) = (facts(FACTS), facts(LATER));
    let table = Table::build(&Config::default());
    let names: BTreeSet<&str> = table.rows().iter().map(|row| row.spec.name).collect();
    let parents: BTreeSet<&str> = facts.values().map(|fact| fact["subcommand_of"]).collect();
    let mut lines: Vec<(&str, &str, String)> = Vec::new();
    let (mut there, mut all) = (0, 0);
    for (name, fact) in facts.iter().chain(&later) {
        let standing = match LIMITED.iter().find(|(limited, _)| limited == name) {
            _ if !names.contains(name.as_str()) => why_not(name, fact["group"]),
            Some((_, what)) => what,
            None => "yes",
        };
        let is_later = later.contains_key(name);
        if !is_later {
            all += 1;
            there += usize::from(names.contains(name.as_str()));
        }
        let shown = name.replace('|', " ").to_uppercase();
        let subcommands = if parents.contains(fact["name"]) && !name.contains('|') {
            " …"
        } else {
            ""
        };
        let since = if fact["source"].starts_with("valkey") {
            format!("Valkey {}", fact["since"])
        } else {
            fact["since"].to_owned()
        };
        let line = format!(
            "| {shown}{subcommands} | {since} | {} | {standing} |",
            fact["group"]
        );
        lines.push((fact["group"], name, line));
    }
    lines.sort();
    let lines: Vec<String> = lines.into_iter().map(|(_, _, line)| line).collect();
    format!(
        "{there} of the {all} commands and subcommands of Redis 7.2 are there.\n\n\
         | command | since | group | there |\n|---|---|---|---|\n{}\n",
        lines.join("\n")
    )
}

#[test]
fn docs_list_every_command() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("docs/compatibility.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(PAGE_BEGIN).unwrap();
    let (written, after) = rest.split_once(PAGE_END).unwrap();
    let printed = print_commands();
    if std::env::var_os("BLESS").is_some() {
        let page = format!("{before}{PAGE_BEGIN}\n{printed}\n{PAGE_END}{after}");
        std::fs::write(&path, page).unwrap();
        return;
    }
    assert!(
        written.trim() == printed.trim(),
        "docs/compatibility.md is out of date; run `make docs`"
    );
}

#[test]
fn every_row_is_as_in_redis() {
    let (facts, later) = (facts(FACTS), facts(LATER));
    let table = Table::build(&Config::default());
    let mut wrong = Vec::new();
    let mut missing: BTreeSet<&str> = facts.keys().map(String::as_str).collect();
    for row in table.rows() {
        let spec = row.spec;
        let Some(fact) = facts.get(spec.name).or_else(|| later.get(spec.name)) else {
            wrong.push(format!("{}: there is no such command elsewhere", spec.name));
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
