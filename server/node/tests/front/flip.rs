//! Requests held for a flip and let go: none is lost, none doubled, and their order is kept.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use migration::Authority;
use node::config::Io;

use crate::harness::{Client, Here, Redis, wait_for};

const CLIENTS: usize = 24;
const PIPELINE: usize = 20;
/// Flips that are given up while clients work.
const ROUNDS: usize = 20;

/// One client's counter, by pipelines, until it is told to stop; how often it was incremented before it began anew, and after.
fn count(
    client: &mut Client,
    number: usize,
    (at_work, stop): (&AtomicUsize, &AtomicBool),
) -> (u64, u64) {
    let (mut before, mut last) = (None, 0);
    while !stop.load(Relaxed) {
        if last == PIPELINE as u64 && before.is_none() {
            at_work.fetch_add(1, Relaxed);
        }
        let requests: Vec<String> = (0..PIPELINE)
            .flat_map(|n| [format!("INCR c{number}"), format!("ECHO {n}")])
            .collect();
        client.send(&requests);
        for n in 0..PIPELINE {
            let reply = client.reply();
            let next: u64 = reply[1..].parse().unwrap_or_else(|_| panic!("{reply}"));
            if next == 1 && last > 0 && before.is_none() {
                before = Some(last);
            } else {
                assert_eq!(next, last + 1, "client {number}");
            }
            last = next;
            assert_eq!(client.reply(), n.to_string());
        }
    }
    match before {
        Some(before) => (before, last),
        None => (last, 0),
    }
}

#[test]
fn a_flood_is_held_and_let_go() {
    for (cores, io) in [(1, Io::Epoll), (2, Io::Auto)] {
        let source = Redis::start(&[]);
        let here = Here::before(cores, io, &source);
        let (at_work, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (here, control) = (&here, (&at_work, &stop));
                    scope.spawn(move || count(&mut here.client(), number, control))
                })
                .collect();
            wait_for("all work", || at_work.load(Relaxed) == CLIENTS);
            for round in 0..ROUNDS {
                let passed = here.node.front.passed_on.load(Relaxed);
                wait_for("they go on", || {
                    here.node.front.passed_on.load(Relaxed) > passed + 500
                });
                here.hold();
                here.unblock();
                here.drain();
                let mut straight = source.client();
                let total = |client: &mut Client| client.call("MGET c0 c1 c2 c3 c4");
                let held = total(&mut straight);
                if round + 1 == ROUNDS {
                    assert_eq!(total(&mut straight), held, "nobody writes there any more");
                    here.release(Authority::Own);
                } else {
                    here.release(Authority::Front);
                }
            }
            let commands = || here.node.sum(|core| &core.commands);
            let begin = commands();
            wait_for("they go on here", || commands() > begin + 5000);
            stop.store(true, Relaxed);
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .collect()
        });
        let (mut straight, mut own) = (source.client(), here.client());
        for (number, (there, after)) in counts.into_iter().enumerate() {
            let get = format!("GET c{number}");
            assert_eq!(
                straight.call(&get),
                there.to_string(),
                "client {number} there"
            );
            assert_eq!(own.call(&get), after.to_string(), "client {number} here");
        }
        assert!(here.node.front.last_hold_us.load(Relaxed) > 0);
        wait_for("no connection is left", || {
            here.node.front.upstreams.load(Relaxed) == 0
        });
    }
}

/// From this node back to the source.
#[test]
fn a_flood_goes_back() {
    let source = Redis::start(&[]);
    let here = Here::start(2, Io::Auto);
    here.follow(&source);
    let (at_work, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (here, control) = (&here, (&at_work, &stop));
                scope.spawn(move || count(&mut here.client(), number, control))
            })
            .collect();
        wait_for("all work", || at_work.load(Relaxed) == CLIENTS);
        here.hold();
        here.drain();
        here.release(Authority::Front);
        wait_for("they go on there", || {
            here.node.front.passed_on.load(Relaxed) > 5000
        });
        stop.store(true, Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let mut straight = source.client();
    for (number, (_, there)) in counts.iter().enumerate() {
        assert_eq!(straight.call(&format!("GET c{number}")), there.to_string());
    }
    here.hold();
    here.drain();
    here.release(Authority::Own);
    for (number, (before, _)) in counts.iter().enumerate() {
        assert_eq!(
            here.client().call(&format!("GET c{number}")),
            before.to_string()
        );
    }
}

fn blocked_at(port: u16) -> usize {
    let info = Client::connect(port).call("INFO clients");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("blocked_clients:"));
    line.unwrap().trim().parse().unwrap()
}

/// One who blocks waits at the source, then here, then at the source again.
#[test]
fn who_blocks_goes_along() {
    for cores in [1, 2] {
        let source = Redis::start(&[]);
        let here = Here::before(cores, Io::Auto, &source);
        let mut blocked: Vec<(Client, &str, &str)> = [
            ("BLPOP q0 0", "RPUSH q0 v"),
            ("BRPOP q1 100", "RPUSH q1 v"),
            ("BLMOVE q2 r LEFT LEFT 0", "RPUSH q2 v"),
            ("BLMPOP 0 2 q3 q4 LEFT", "RPUSH q4 v"),
            ("BZPOPMIN z5 0", "ZADD z5 1 v"),
        ]
        .into_iter()
        .map(|(waits, serves)| {
            let mut client = here.client();
            client.send(&[waits, "ECHO done"]);
            (client, waits, serves)
        })
        .collect();
        let mut short = here.client();
        let began = Instant::now();
        short.send(&["BLPOP never 0.5"]);
        wait_for("they block there", || blocked_at(source.port) == 6);
        let flip = |authority| {
            here.hold();
            here.unblock();
            here.drain();
            assert_eq!(blocked_at(source.port), 0);
            here.release(authority);
        };
        // A flip that is given up, one that is not, and one back.
        flip(Authority::Front);
        wait_for("they block there again", || blocked_at(source.port) >= 5);
        flip(Authority::Own);
        assert!(matches!(short.reply().as_str(), "nil*"), "its time is over");
        assert!(began.elapsed() >= Duration::from_millis(495));
        let (mut client, waits, serves) = blocked.remove(0);
        assert_eq!(here.client().call(serves), ":1", "{waits}");
        assert_eq!(client.reply(), "[q0 v]");
        assert_eq!(client.reply(), "done");
        wait_for("the others block here", || blocked_at(here.port) == 4);
        here.hold();
        here.drain();
        here.release(Authority::Front);
        wait_for("they block there", || blocked_at(source.port) == 4);
        for (mut client, waits, serves) in blocked {
            assert_eq!(source.client().call(serves), ":1");
            assert!(client.reply().contains('v'), "{waits}");
            assert_eq!(client.reply(), "done");
        }
        wait_for("nobody blocks", || {
            blocked_at(source.port) + blocked_at(here.port) == 0
        });
    }
}

/// An element that comes while waits are ended is given to one client, and only there.
#[test]
fn no_element_is_lost_while_waits_are_ended() {
    let source = Redis::start(&[]);
    let here = Here::before(2, Io::Auto, &source);
    let mut straight = source.client();
    let mut clients: Vec<Client> = (0..8).map(|_| here.client()).collect();
    let mut served = 0;
    for round in 0..30 {
        for client in &mut clients {
            client.send(&["BLPOP q 0"]);
        }
        wait_for("they block", || blocked_at(source.port) == clients.len());
        here.hold();
        here.unblock();
        straight.send(&["RPUSH q 1", "RPUSH q 2", "RPUSH q 3"]);
        (0..3).for_each(|_| drop(straight.reply()));
        here.drain();
        here.release(Authority::Front);
        for n in 0..clients.len() {
            straight.call(&format!("RPUSH q more{n}"));
        }
        for client in &mut clients {
            assert!(client.reply().starts_with("[q "), "round {round}");
            served += 1;
        }
        let left = straight.call("LLEN q");
        assert_eq!(left, ":3", "eleven were pushed, eight were taken");
        straight.call("DEL q");
    }
    assert_eq!(served, 240);
}

#[test]
fn who_watches_is_told_that_something_has_changed() {
    let source = Redis::start(&[]);
    let here = Here::before(2, Io::Auto, &source);
    let mut client = here.client();
    let exec = |client: &mut Client| {
        client.send(&["MULTI", "SET k 1", "EXEC"]);
        let _begun = [client.reply(), client.reply()];
        client.reply()
    };
    let flip = |authority| {
        here.hold();
        here.drain();
        here.release(authority);
    };
    for authority in [Authority::Front, Authority::Own, Authority::Front] {
        assert_eq!(client.call("WATCH k"), "+OK");
        flip(authority);
        assert_eq!(exec(&mut client), "nil*", "{authority:?}");
        assert_eq!(exec(&mut client), "[+OK]", "{authority:?}");
    }
    // What is the connection's own goes on while requests are held, and a client may go.
    here.hold();
    assert_eq!(client.call("PING"), "+PONG");
    client.send(&["MULTI", "SET held 1", "EXEC"]);
    assert_eq!([client.reply(), client.reply()], ["+OK", "+QUEUED"]);
    let mut gone = here.client();
    gone.send(&["SET gone 1"]);
    drop(gone);
    here.drain();
    assert_eq!(source.client().call("EXISTS held gone"), ":0");
    here.release(Authority::Front);
    assert_eq!(client.reply(), "[+OK]");
}

/// One who only reads waits here all the time: what it waits for comes by the stream, or from clients of this node.
#[test]
fn who_waits_to_read_stays_here() {
    let source = Redis::start(&[]);
    let here = Here::start(2, Io::Auto);
    let mut own = here.client();
    assert_eq!(own.call("XADD s 1-1 f v"), "1-1");
    here.follow(&source);
    here.node.source.set_applied(1);
    here.release(Authority::Front);
    // The source has told an offset, and all up to it is here.
    assert!(own.call("INCR n").contains('1'));
    here.node.source.set_applied(u64::MAX - 1);
    let mut reader = here.client();
    reader.send(&["XREAD BLOCK 0 STREAMS s $"]);
    wait_for("it waits here", || blocked_at(here.port) == 1);
    assert_eq!(blocked_at(source.port), 0);
    here.hold();
    here.unblock();
    here.drain();
    here.release(Authority::Own);
    assert_eq!(own.call("XADD s 2-1 f v"), "2-1");
    assert_eq!(reader.reply(), "[[s [[2-1 [f v]]]]]");
}
