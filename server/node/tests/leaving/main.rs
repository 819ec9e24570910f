//! Leaving a Redis, as an operator does it: two programs, `meridian migrate`, a client that counts all the while.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

#[path = "../common/certificates.rs"]
mod certificates;
mod damaged;
mod detour;
#[path = "../common/folder.rs"]
mod folder;
mod phases;
mod planted;
mod programs;
mod scan;
mod sealed;
mod unsafe_commands;
mod written;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use programs::{Client, Server, done, free_port, migrate, status, until};

/// Counts as fast as it is answered; what is acknowledged is added up. The longest wait for an answer, us, is kept.
fn count(port: u16, key: &str, sum: &AtomicU64, longest_us: &AtomicU64, stops: &AtomicBool) {
    let mut client = Client::try_new(port).unwrap();
    while !stops.load(Relaxed) {
        let begun = Instant::now();
        let reply = client.call(&format!("INCR {key}")).unwrap();
        longest_us.fetch_max(begun.elapsed().as_micros() as u64, Relaxed);
        let count = sum.fetch_add(1, Relaxed) + 1;
        assert_eq!(reply, format!(":{count}"), "each is executed once");
    }
}

#[test]
fn an_operator_moves_an_application_and_back_and_on() {
    let Some(source) = Server::start("redis-server", &["--repl-diskless-sync-delay", "0"]) else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let admin = free_port();
    let more = [
        "--admin-port",
        &admin.to_string(),
        "--cores",
        "2",
        "--appendonly",
        "yes",
        "--migrate-pause-max-ms",
        "5000",
    ];
    let mut node = Server::start(env!("CARGO_BIN_EXE_meridian"), &more).unwrap();
    node.admin = admin;
    let mut old = Client::try_new(source.port).unwrap();
    for n in 0..2000 {
        old.call(&format!("HSET h:{n} f {n}")).unwrap();
        old.call(&format!("SET s:{n} {n} EX 100000")).unwrap();
    }
    let (there, here) = (
        format!("127.0.0.1:{}", source.port),
        format!("127.0.0.1:{}", node.port),
    );
    let plan = done(admin, &["plan", &there]);
    assert!(plan.contains("Nothing stands in the way."), "{plan}");
    done(admin, &["start", &there, "--announce", &here]);
    assert_eq!(migrate(admin, &["finish"]).status.code(), Some(3));
    until("the copy is here", || {
        status(admin, "/link/follows") == "true"
    });
    done(admin, &["advance"]);
    assert_eq!(status(admin, "/phase"), "\"front\"");

    let (sum, longest_us) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stops = Arc::new(AtomicBool::new(false));
    let load = {
        let (sum, longest_us, stops) = (sum.clone(), longest_us.clone(), stops.clone());
        let port = node.port;
        std::thread::spawn(move || count(port, "counter", &sum, &longest_us, &stops))
    };
    let compared = || status(admin, "/verify/passes") != "0";
    for _ in 0..2 {
        if status(admin, "/phase") == "\"front\"" {
            done(admin, &["advance"]);
        }
        until("everything is compared", compared);
        assert_eq!(status(admin, "/verify/open"), "0");
        done(admin, &["advance"]);
        assert_eq!(status(admin, "/phase"), "\"reverse\"");
        let refused = old.call("SET x 1").unwrap();
        assert!(refused.starts_with("-READONLY"), "{refused}");
        let before = sum.load(Relaxed);
        until("it is counted here", || sum.load(Relaxed) > before + 100);
        until("the old Redis follows", || {
            let counted = old
                .call("GET counter")
                .and_then(|text| text.parse::<u64>().ok());
            counted.is_some_and(|counted| counted > before)
        });
        done(admin, &["back"]);
        assert_eq!(status(admin, "/phase"), "\"verify\"");
        let before = sum.load(Relaxed);
        until("it is counted there", || sum.load(Relaxed) > before + 100);
    }
    until("everything is compared", compared);
    done(admin, &["advance"]);
    stops.store(true, Relaxed);
    load.join().unwrap();
    let report = done(admin, &["finish"]);
    assert!(
        report.contains("pause, flip") && report.contains("sha256:"),
        "{report}"
    );
    eprintln!(
        "longest wait of a client: {} us\n{report}",
        longest_us.load(Relaxed)
    );
    let mut new = Client::try_new(node.port).unwrap();
    assert_eq!(
        new.call("GET counter").unwrap(),
        sum.load(Relaxed).to_string()
    );
}

/// A `start` after `back` went on from the old place in the source's stream, though this node had decided meanwhile: what was written here stayed, and
/// what it had written over was never said again. The same for one that was killed before the copy was there.
#[test]
fn a_start_after_a_way_back_copies_everything_again() {
    let Some(source) = Server::start("redis-server", &["--repl-diskless-sync-delay", "0"]) else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let admin = free_port();
    let admin_port = admin.to_string();
    let words = ["--admin-port", &admin_port, "--appendonly", "yes"];
    let mut node = Server::start(env!("CARGO_BIN_EXE_meridian"), &words).unwrap();
    let (there, here) = (
        format!("127.0.0.1:{}", source.port),
        format!("127.0.0.1:{}", node.port),
    );
    let start = ["start", &there, "--announce", &here];
    let follows = || status(admin, "/link/follows") == "true";
    let mut old = Client::try_new(source.port).unwrap();
    for killed in [false, true] {
        old.call("SET k theirs").unwrap();
        done(admin, &start);
        until("the copy is here", follows);
        done(admin, &["back"]);
        let mut client = Client::try_new(node.port).unwrap();
        assert_eq!(client.call("SET k ours").unwrap(), "+OK");
        assert_eq!(client.call("SET mine 1").unwrap(), "+OK");
        if killed {
            // (The source begins to copy after so many seconds.)
            old.call("CONFIG SET repl-diskless-sync-delay 5").unwrap();
            done(admin, &start);
            node.kill();
            old.call("CONFIG SET repl-diskless-sync-delay 0").unwrap();
            node.start_again();
        } else {
            done(admin, &start);
        }
        until("the copy is here", follows);
        let mut client = Client::try_new(node.port).unwrap();
        assert_eq!(client.call("GET k").unwrap(), "theirs");
        assert_eq!(client.call("EXISTS mine").unwrap(), ":0");
        done(admin, &["back"]);
    }
}
