//! Reports of servers, as they say what they are.

use super::*;

const INFO: &str = "# Server\r\nredis_version:7.2.6\r\nredis_mode:standalone\r\nconfig_file:/etc/redis.conf\r\nrole:master\r\nused_memory:104857600\r\ninstantaneous_ops_per_sec:5000\r\ninstantaneous_input_kbps:1000.5\r\n# Keyspace\r\ndb0:keys=10,expires=4,avg_ttl=0\r\ndb3:keys=2,expires=0,avg_ttl=0\r\n# Commandstats\r\ncmdstat_get:calls=7,usec=1\r\ncmdstat_graph.query:calls=3,usec=1\r\n";

fn told(change: impl FnOnce(&mut Told)) -> Told {
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut told = Told {
        info: INFO.replace("cmdstat_graph.query:calls=3,usec=1\r\n", ""),
        config: Some(vec![
            option("databases", "16"),
            option("maxmemory-policy", "noeviction"),
            option("repl-backlog-size", "268435456"),
            option("masterauth", ""),
            option(
                "client-output-buffer-limit",
                "normal 0 0 0 slave 0 0 0 pubsub 1 1 1",
            ),
        ]),
        ..Told::default()
    };
    change(&mut told);
    told
}

fn here() -> Here<'static> {
    Here {
        knows: &|name| matches!(name, "get"),
        cores: 2,
        maxmemory: 0,
        policy: "noeviction",
        machine_bytes: 8 << 30,
        keys: 0,
        databases: 16,
        logs: true,
        needs_password: false,
        old_side: OldSide::Replica,
        by_scan: false,
        scan_value_bytes_max: 64 << 20,
    }
}

fn set(told: &mut Told, name: &str, value: &str) {
    let config = told.config.as_mut().unwrap();
    config.retain(|(known, _)| known != name);
    config.push((name.to_owned(), value.to_owned()));
}

#[test]
fn a_plain_server_has_nothing_in_the_way() {
    let report = assess(&told(|_| {}), &here());
    assert_eq!(report.findings, []);
    assert!(report.text().ends_with("Nothing stands in the way.\n"));
    let fact = |name: &str| {
        report
            .facts
            .iter()
            .find(|fact| fact.0 == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(fact("databases' keys"), "12");
    assert_eq!(fact("keys that expire"), "4 (33 %)");
    assert_eq!(fact("memory needed here"), "120.0 MB");
}

#[test]
fn each_obstacle_is_named_with_its_weight() {
    type Case = (Weight, &'static str, fn(&mut Told), fn(&mut Here<'static>));
    let cases: &[Case] = &[
        (
            Weight::Stop,
            "older than 6.0",
            |t| t.info = t.info.replace("7.2.6", "5.0.14"),
            |_| {},
        ),
        (
            Weight::Warning,
            "no CLIENT PAUSE WRITE",
            |t| t.info = t.info.replace("7.2.6", "6.0.16"),
            |_| {},
        ),
        (
            Weight::Warning,
            "newer than",
            |t| t.info = t.info.replace("7.2.6", "9.1.0"),
            |_| {},
        ),
        (
            Weight::Stop,
            "a shard of a cluster",
            |t| t.info = t.info.replace("standalone", "cluster"),
            |_| {},
        ),
        (
            Weight::Stop,
            "a replica",
            |t| t.info = t.info.replace("role:master", "role:slave"),
            |_| {},
        ),
        (
            Weight::Stop,
            "modules are loaded: search",
            |t| t.modules.push("search".to_owned()),
            |_| {},
        ),
        (
            Weight::Warning,
            "GRAPH.QUERY (3 calls)",
            |t| t.info = INFO.to_owned(),
            |_| {},
        ),
        (
            Weight::Stop,
            "PSYNC is renamed",
            |t| t.denied.push("psync".to_owned()),
            |_| {},
        ),
        (
            Weight::Stop,
            "would run twice",
            |t| set(t, "lua-replicate-commands", "no"),
            |_| {},
        ),
        (
            Weight::Stop,
            "would take writes",
            |t| set(t, "replica-read-only", "no"),
            |_| {},
        ),
        (
            Weight::Warning,
            "64 databases",
            |t| set(t, "databases", "64"),
            |_| {},
        ),
        (
            Weight::Warning,
            "allkeys-lru there",
            |t| set(t, "maxmemory-policy", "allkeys-lru"),
            |_| {},
        ),
        (
            Weight::Warning,
            "repl-backlog-size is 1.0 MB",
            |t| set(t, "repl-backlog-size", "1048576"),
            |_| {},
        ),
        (
            Weight::Warning,
            "may end the full copy",
            |t| {
                set(
                    t,
                    "client-output-buffer-limit",
                    "normal 0 0 0 slave 1000 1000 60",
                );
            },
            |_| {},
        ),
        (
            Weight::Warning,
            "CONFIG GET is not allowed",
            |t| t.config = None,
            |_| {},
        ),
        (
            Weight::Warning,
            "clocks differ by 900 ms",
            |t| t.skew_ms = -900,
            |_| {},
        ),
        (
            Weight::Warning,
            "without a configuration file",
            |t| t.info = t.info.replace("/etc/redis.conf", ""),
            |_| {},
        ),
        (
            Weight::Stop,
            "maxmemory here is",
            |_| {},
            |h| h.maxmemory = 1 << 20,
        ),
        (
            Weight::Stop,
            "this machine has",
            |_| {},
            |h| h.machine_bytes = 1 << 20,
        ),
        (Weight::Warning, "holds 5 keys", |_| {}, |h| h.keys = 5),
        (
            Weight::Warning,
            "no log of writes",
            |_| {},
            |h| h.logs = false,
        ),
        (
            Weight::Warning,
            "asks for a password",
            |_| {},
            |h| h.needs_password = true,
        ),
        (
            Weight::Note,
            "1 of 1 keys",
            |t| {
                t.samples.push(Sample {
                    name: "k".to_owned(),
                    kind: "hash".to_owned(),
                    bytes: 9 << 20,
                    expires: false,
                })
            },
            |_| {},
        ),
    ];
    for (weight, text, of_source, of_node) in cases {
        let mut node = here();
        of_node(&mut node);
        let report = assess(&told(of_source), &node);
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|found| found.what.contains(text))
            .collect();
        assert_eq!(found.len(), 1, "{text}: {:?}", report.findings);
        assert_eq!(found[0].weight, *weight, "{text}");
        assert_eq!(report.findings.len(), 1, "{text}: {:?}", report.findings);
        assert_eq!(report.stops(), *weight == Weight::Stop);
    }
}

#[test]
fn what_is_no_info_is_no_harm() {
    for text in [
        "",
        "role",
        ":\r\n::",
        "db0:keys=x",
        "cmdstat_:calls=,",
        "redis_version:-1.x",
    ] {
        let report = assess(
            &Told {
                info: text.to_owned(),
                ..Told::default()
            },
            &here(),
        );
        assert!(!report.text().is_empty());
    }
}

#[test]
fn one_that_is_written_to_needs_no_replicaof_and_something_else() {
    let written = |here: Here<'static>| Here {
        old_side: OldSide::Written,
        ..here
    };
    let barred = |t: &mut Told| t.denied.push("replicaof".to_owned());
    let report = assess(&told(barred), &here());
    assert!(report.stops() && report.text().contains("--old-side written"));
    assert_eq!(assess(&told(barred), &written(here())).findings, []);
    let old = told(|t| t.info = t.info.replace("7.2.6", "6.0.16"));
    let no_log = Here {
        logs: false,
        ..written(here())
    };
    let evicts = told(|t| {
        t.info.push_str("maxmemory:100\r\n");
        set(t, "maxmemory-policy", "allkeys-lru");
    });
    let drops = told(|t| set(t, "repl-backlog-ttl", "3600"));
    for (told, here, weight, text) in [
        (&old, written(here()), Weight::Stop, "before 6.2"),
        (&told(|_| {}), no_log, Weight::Stop, "is the queue"),
        (&evicts, written(here()), Weight::Warning, "evicts keys"),
        (&drops, written(here()), Weight::Note, "drops its backlog"),
    ] {
        let found = assess(told, &here).findings;
        let is_there = found
            .iter()
            .any(|found| found.weight == weight && found.what.contains(text));
        assert!(is_there, "{text}: {found:?}");
    }
}

#[test]
fn several_are_summed_and_named() {
    let shard = |change: fn(&mut Told)| {
        let mut one = told(|one| one.is_shard = true);
        one.info = one.info.replace("standalone", "cluster");
        one.info.push_str("cmdstat_cluster|meet:calls=1,usec=1\r\n");
        change(&mut one);
        one
    };
    let all = [
        ("a:1".to_owned(), shard(|_| {})),
        ("b:2".to_owned(), shard(|_| {})),
    ];
    let report = assess_all(&all, &here());
    assert_eq!(report.findings, []);
    let text = report.text();
    for part in ["200.0 MB", "a:1, Redis 7.2.6, 12 keys, 100.0 MB", "24"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What one has found is its own; memory is that of all together.
    let all = [
        ("a:1".to_owned(), shard(|_| {})),
        (
            "b:2".to_owned(),
            shard(|one| one.modules = vec!["graph".to_owned()]),
        ),
    ];
    let small = Here {
        maxmemory: 150 << 20,
        ..here()
    };
    let mut report = assess_all(&all, &small);
    let stops: Vec<&str> = report
        .findings
        .iter()
        .map(|found| found.what.as_str())
        .collect();
    assert_eq!(stops.len(), 2, "{stops:?}");
    assert!(
        stops.iter().any(|stop| stop.starts_with("b:2: modules")),
        "{stops:?}"
    );
    assert!(
        stops.iter().any(|stop| stop.contains("maxmemory here")),
        "{stops:?}"
    );
    report.find(Weight::Stop, "more", "");
    assert!(report.stops() && report.findings.iter().any(|found| found.what == "more"));
}

#[test]
fn one_that_bars_psync_is_told_what_is_left_and_what_that_costs() {
    let barred = || {
        told(|told| {
            told.denied = ["psync", "replconf", "replicaof", "config"]
                .map(str::to_owned)
                .to_vec();
            set(told, "notify-keyspace-events", "Kx");
            told.samples = vec![Sample {
                name: "k".to_owned(),
                kind: "list".to_owned(),
                bytes: 100 << 20,
                expires: false,
            }];
        })
    };
    let report = assess(&barred(), &here());
    let text = report.text();
    assert!(
        report.stops() && text.contains("where it is barred: --by-scan"),
        "{text}"
    );
    assert!(
        text.contains("about 36 requests for a whole pass"),
        "{text}"
    );
    let by_scan = || Here {
        old_side: OldSide::Written,
        by_scan: true,
        ..here()
    };
    let report = assess(&barred(), &by_scan());
    let stops = |report: &Report| {
        let stops = report
            .findings
            .iter()
            .filter(|found| found.weight == Weight::Stop);
        stops.map(|found| found.what.clone()).collect::<Vec<_>>()
    };
    let found = stops(&report);
    assert!(
        found.len() == 1 && found[0].contains("scan-value-max-bytes"),
        "{found:?}"
    );
    let text = report.text();
    assert!(text.contains("'Kx': `start` sets it to 'KxAE'"), "{text}");
    // What is not looked at is said, and what it needs beside is asked for.
    let mut blind = barred();
    (blind.config, blind.denied) = (None, vec!["psubscribe".to_owned()]);
    blind.samples.clear();
    let report = assess(&blind, &by_scan());
    assert!(
        report.text().contains("is tried by `start`"),
        "{}",
        report.text()
    );
    let found = stops(&report);
    assert!(
        found.len() == 1 && found[0].starts_with("PSUBSCRIBE"),
        "{found:?}"
    );
    assert_eq!(
        stops(&assess(&blind, &here())),
        [""; 0],
        "only that needs it"
    );
}

#[test]
fn a_user_is_barred_by_the_last_word_about_a_command() {
    for (commands, barred) in [
        ("+@all -psync", true),
        ("+@all -PSYNC -sync", true),
        ("-@all +psync", false),
        ("-@all +get", true),
        ("-psync +@all", false),
        ("+@all -@dangerous", false),
        ("", false),
    ] {
        assert_eq!(bars(commands, "psync"), barred, "{commands}");
    }
}
