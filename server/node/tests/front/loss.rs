//! The source goes away: each request has one reply, and nothing is sent twice.

use std::sync::atomic::Ordering::Relaxed;

use node::config::Io;
use node::front::{self, UNKNOWN};

use crate::harness::{Here, Redis, wait_for};

/// Clients, and the requests of each of their pipelines.
const CLIENTS: usize = 16;
const PIPELINE: usize = 50;

#[test]
fn each_request_has_one_reply_when_the_source_is_killed_under_load() {
    for cores in [1, 2] {
        let mut source = Redis::start(&[]);
        let here = Here::before(cores, Io::Auto, &source);
        let done = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (here, done) = (&here, &done);
                scope.spawn(move || {
                    let mut client = here.client();
                    let mut last = 0;
                    let mut has_seen_it = false;
                    while !has_seen_it || last < 3 {
                        let requests: Vec<String> = (0..PIPELINE)
                            .flat_map(|n| [format!("INCR c{number}"), format!("ECHO {n}")])
                            .collect();
                        client.send(&requests);
                        for n in 0..PIPELINE {
                            let reply = client.reply();
                            if let Some(error) = reply.strip_prefix('-') {
                                assert!(
                                    error == UNKNOWN || error.starts_with("MASTERDOWN"),
                                    "{reply}"
                                );
                                (has_seen_it, last) = (true, 0);
                            } else {
                                let next: u64 = reply[1..].parse().unwrap();
                                // (The source that comes back begins anew.)
                                has_seen_it |= last > 0 && next == 1;
                                let follows = next == last + 1 || last == 0 || next == 1;
                                assert!(follows, "{next} after {last}");
                                last = next;
                            }
                            assert_eq!(client.reply(), n.to_string(), "order");
                        }
                        done.fetch_add(1, Relaxed);
                    }
                });
            }
            wait_for("all are at work", || done.load(Relaxed) > 4 * CLIENTS);
            source.kill();
            source.run();
        });
        wait_for("nothing is under way", || front::in_flight(here.node) == 0);
        assert!(here.node.front.failures.load(Relaxed) > 0);
    }
}

#[test]
fn a_watch_is_lost_with_its_connection() {
    let mut source = Redis::start(&[]);
    let here = Here::before(2, Io::Auto, &source);
    let mut client = here.client();
    assert_eq!(client.call("WATCH k"), "+OK");
    source.kill();
    wait_for("it is noticed", || {
        here.node.front.upstreams.load(Relaxed) == 0
    });
    let reply = client.call("SET other 1");
    assert!(reply.starts_with("-MASTERDOWN"), "{reply}");
    source.run();
    client.send(&["MULTI", "SET k 1", "EXEC", "EXISTS k"]);
    let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+OK", "+QUEUED", "nil*", ":0"]);
    client.send(&["MULTI", "SET k 1", "EXEC"]);
    let replies: Vec<String> = (0..3).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+OK", "+QUEUED", "[+OK]"]);
    // Also when the client watches more by the next connection.
    assert_eq!(client.call("WATCH k"), "+OK");
    source.kill();
    wait_for("it is noticed", || {
        here.node.front.upstreams.load(Relaxed) == 0
    });
    source.run();
    assert_eq!(client.call("WATCH more"), "+OK");
    for reply in ["nil*", "[+OK]"] {
        client.send(&["MULTI", "SET k 2", "EXEC"]);
        let replies: Vec<String> = (0..3).map(|_| client.reply()).collect();
        assert_eq!(replies, ["+OK", "+QUEUED", reply]);
    }
}
