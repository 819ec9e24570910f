//! What the compiler does not hold: arrows between crates, where `unsafe` may be, dead files, long files,
//! left-over marks, pages that are printed from the code. See docs/architecture.md for the arrows and CONTRIBUTING.md for the rest.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate may lean on.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("heap", &[]),
    ("seal", &[]),
    // (Only its benches and tests: the server puts the two together.)
    ("storage", &["heap"]),
    ("migration", &["protocol", "storage"]),
    ("runtime", &[]),
    ("commands", &["protocol", "storage"]),
    ("script", &["protocol"]),
    (
        "node",
        &[
            "protocol",
            "heap",
            "seal",
            "storage",
            "migration",
            "runtime",
            "commands",
            "script",
        ],
    ),
    ("bench", &["protocol", "runtime", "storage"]),
    (
        "chaos",
        &["protocol", "storage", "runtime", "commands", "node"],
    ),
];

/// The files that may hold `unsafe`. A new one is a reviewed change with a measured gain.
const UNSAFE: &[&str] = &[
    "heap/src/heap.rs",
    "heap/src/lib.rs",
    "heap/src/lines.rs",
    "heap/src/region.rs",
    "heap/src/thinning.rs",
    "heap/tests/stress.rs",
    "server/node/src/allocator.rs",
    "server/runtime/src/buffer.rs",
    "server/runtime/src/clock.rs",
    "server/runtime/src/epoll.rs",
    "server/runtime/src/probe.rs",
    "server/runtime/src/ring.rs",
    "server/runtime/src/uring.rs",
    "server/runtime/src/uring/completion.rs",
    "server/script/src/guard.rs",
    "storage/src/held.rs",
    "storage/src/item.rs",
    "storage/src/session.rs",
    "storage/src/table/mod.rs",
    "storage/src/table/segment.rs",
    "storage/src/value/blob.rs",
    "storage/tests/classes.rs",
    "storage/tests/fuzz.rs",
];

/// A file longer than this is asked whether it holds two ideas...
const LINES_MAX: usize = 800;
/// ...and these have answered: one algorithm, one door, or a table of independent rows or tests.
const LONG: &[&str] = &[];

/// Marks of unfinished work; split so that this file does not hold them.
const MARKS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("db", "g!("),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every source file below the workspace's members, as a path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in [
        "protocol",
        "heap",
        "seal",
        "storage",
        "server",
        "replication",
        "bench",
        "chaos",
    ] {
        walk(&root().join(folder), folder, &mut found);
    }
    assert!(found.len() > 50, "the sources are found");
    found.sort();
    found
}

fn walk(folder: &Path, name: &str, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let file = entry.file_name().into_string().unwrap();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            if file != "target" && !file.starts_with('.') {
                walk(&path, &name, found);
            }
        } else if file.ends_with(".rs") {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn crates_lean_only_on_what_lies_below_them() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, known, "every crate has its line in ARROWS");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = ARROWS.iter().find(|(known, _)| *known == name).unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            // A crate may be its own dev-dependency, for a feature of its tests.
            assert!(
                !ours.contains(on) || on == name || allowed.contains(&on),
                "{name} must not lean on {on}"
            );
        }
    }
}

#[test]
fn every_dependency_says_why() {
    for (name, _) in ARROWS {
        let manifest = ["", "server/", "replication/"]
            .map(|folder| root().join(format!("{folder}{name}/Cargo.toml")))
            .into_iter()
            .find(|path| path.exists())
            .unwrap();
        let text = fs::read_to_string(manifest).unwrap();
        let mut in_list = false;
        let mut before = "";
        for line in text.lines() {
            if line.starts_with('[') {
                in_list = line.contains("dependencies") && line.ends_with("dependencies]");
                assert!(
                    in_list || !line.contains("dependencies.") || before.starts_with('#'),
                    "{name}: {line}"
                );
            } else if in_list && line.contains('=') && !line.starts_with([' ', '#']) {
                assert!(
                    line.contains('#') || before.starts_with('#'),
                    "{name}: no reason beside `{line}`"
                );
            }
            before = line;
        }
    }
}

#[test]
fn unsafe_is_only_where_it_may_be() {
    let mut allowing = BTreeSet::new();
    for (name, text) in sources() {
        let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if !dense.contains(concat!("allow(unsafe", "_code")) {
            continue;
        }
        let head: String = text
            .lines()
            .take_while(|line| !line.starts_with("use ") && !line.starts_with("mod "))
            .collect();
        let head: String = head.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(
            name.contains("/tests/") || head.contains(concat!("#![allow(unsafe", "_code")),
            "{name}: allowed at the head of the file or nowhere"
        );
        allowing.insert(name);
    }
    let listed: BTreeSet<String> = UNSAFE.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(allowing, listed);
}

#[test]
fn no_file_is_dead() {
    let sources = sources();
    let text_of = |name: &str| {
        let found = sources.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.as_str())
    };
    for (name, _) in &sources {
        let Some((crate_folder, inside)) = name.split_once("/src/") else {
            continue;
        };
        let parts: Vec<&str> = inside.split('/').collect();
        let (file, folders) = parts.split_last().unwrap();
        let is_root = ["lib.rs", "main.rs"].contains(&inside) || folders == ["bin"];
        if is_root {
            continue;
        }
        // The module's own name, and the folder of the file that must declare it.
        let (module, above) = match (*file, folders) {
            ("mod.rs", [above @ .., module]) => (*module, above),
            (file, above) => (file.trim_end_matches(".rs"), above),
        };
        let folder = above.join("/");
        let parents = if above.is_empty() {
            vec!["lib.rs".to_owned(), "main.rs".to_owned()]
        } else {
            vec![format!("{folder}/mod.rs"), format!("{folder}.rs")]
        };
        let declared = parents.iter().any(|parent| {
            let text = text_of(&format!("{crate_folder}/src/{parent}"));
            text.is_some_and(|text| {
                text.lines().any(|line| {
                    let line = line.trim_end();
                    line.strip_suffix(&format!("mod {module};"))
                        .is_some_and(|before| before.is_empty() || before.starts_with("pub"))
                })
            })
        });
        assert!(declared, "{name}: no `mod {module};` leads to it");
    }
}

#[test]
fn no_file_grows_beyond_reading() {
    for name in LONG {
        assert!(
            root().join(name).exists(),
            "{name} is gone: take it off the list"
        );
    }
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX || LONG.contains(&name.as_str()),
            "{name}: {lines} lines; does it hold two ideas?"
        );
    }
}

#[test]
fn no_unfinished_work_is_left() {
    for (name, text) in sources() {
        for mark in MARKS {
            assert!(!text.contains(mark), "{name}: {mark}");
        }
    }
}

#[test]
fn docs_list_every_option() {
    let path = root().join("docs/configuration.md");
    let printed = node::config::print_docs();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written.trim_end() == printed.trim_end(),
        "docs/configuration.md is out of date; run `make docs`"
    );
}

#[test]
fn pages_that_pages_point_to_exist() {
    let mut pages = vec![
        root().join("README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("CHANGELOG.md"),
    ];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|ext| ext == "md") {
                pages.push(entry.path());
            }
        }
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1) {
            let target = target.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target}", page.display());
        }
    }
}
