//! The testers against real Redis servers: nothing is found between equal ones, and what is
//! planted is found. Skipped aloud without redis-server, unless CI is set.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use chaos::differential::{Plan, Protocols, run};
use chaos::{Spawned, atomicity, badinput, redis_server_present};

fn present() -> bool {
    if redis_server_present() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI must have redis-server"
    );
    eprintln!("SKIPPED: there is no redis-server in PATH");
    false
}

/// All but streams: Redis 7.0 reads ids such as `5-*` from memory that is not theirs, each server something else.
const GROUPS: [&str; 14] = [
    "string",
    "bitmap",
    "generic",
    "list",
    "set",
    "zset",
    "hash",
    "geo",
    "hyperloglog",
    "transactions",
    "scripting",
    "connection",
    "server",
    "blocking",
];

fn plan(subject: &Spawned, oracle: &Spawned) -> Plan {
    Plan {
        subject: subject.endpoint().to_owned(),
        oracle: oracle.endpoint().to_owned(),
        ops: 30_000,
        seed: 11,
        protocols: Protocols::Both,
        allow: String::new(),
        stop_after: 5,
        groups: GROUPS.map(str::to_owned).to_vec(),
        connections: 4,
        quiet: true,
    }
}

#[test]
fn equal_servers_are_equal() {
    if !present() {
        return;
    }
    let (subject, oracle) = (Spawned::start(&[]).unwrap(), Spawned::start(&[]).unwrap());
    let outcome = run(&plan(&subject, &oracle)).unwrap();
    assert_eq!(outcome.differences, 0, "{}", outcome.summary);
    assert_eq!(outcome.aborted, None);
    assert!(outcome.ops >= 30_000);
}

#[test]
fn another_configuration_is_found() {
    if !present() {
        return;
    }
    let lfu = ["--maxmemory-policy", "allkeys-lfu"];
    let (subject, oracle) = (Spawned::start(&lfu).unwrap(), Spawned::start(&[]).unwrap());
    let plan = Plan {
        stop_after: 100,
        ..plan(&subject, &oracle)
    };
    let outcome = run(&plan).unwrap();
    assert!(
        outcome
            .summary
            .contains("OBJECT FREQ: integer instead of ERR"),
        "{}",
        outcome.summary
    );
}

#[test]
fn a_server_that_dies_ends_the_run_with_a_summary() {
    if !present() {
        return;
    }
    let (subject, oracle) = (Spawned::start(&[]).unwrap(), Spawned::start(&[]).unwrap());
    let plan = Plan {
        ops: 10_000_000,
        ..plan(&subject, &oracle)
    };
    let running = std::thread::spawn(move || run(&plan).unwrap());
    std::thread::sleep(Duration::from_millis(700));
    drop(subject);
    let outcome = running.join().unwrap();
    assert!(outcome.aborted.is_some());
    // Whether a request was under way when it died is a matter of chance.
    assert!(
        outcome.summary.contains("requests in"),
        "{}",
        outcome.summary
    );
}

#[test]
fn money_from_nowhere_is_found() {
    if !present() {
        return;
    }
    let server = Spawned::start(&[]).unwrap();
    let plan = |ms| atomicity::Plan {
        server: server.endpoint().to_owned(),
        duration: Duration::from_millis(ms),
        seed: 1,
    };
    let clean = atomicity::run(&plan(700)).unwrap();
    assert_eq!(clean.violation, None, "{:?}", clean.counts);
    let thief = {
        let endpoint = server.endpoint().to_owned();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            let mut stream = TcpStream::connect(endpoint).unwrap();
            stream.write_all(b"DECRBY acct:3 1\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(50));
        })
    };
    let robbed = atomicity::run(&plan(3000)).unwrap();
    thief.join().unwrap();
    assert!(
        robbed
            .violation
            .is_some_and(|text| text.contains("sum of 19999"))
    );
}

#[test]
fn redis_survives_bad_input() {
    if !present() {
        return;
    }
    let server = Spawned::start(&[]).unwrap();
    let plan = badinput::Plan {
        server: server.endpoint().to_owned(),
        duration: Duration::from_millis(300),
        seed: 1,
    };
    let report = badinput::run(&plan).unwrap();
    assert_eq!(report.len(), 9, "{report:?}");
    assert!(
        report
            .iter()
            .all(|line| line.failure.is_none() && line.answers > 0),
        "{report:?}"
    );
}
