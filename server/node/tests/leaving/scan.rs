//! A source that bars PSYNC: followed by scan, whatever is lost, killed or emptied meanwhile, and left and taken back exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use protocol::answer::Answer;

use crate::programs::{Client, done, migrate, show, status, until};
use crate::written::{Load, Move, all_of};

/// Whom the node is at the source: one who may do everything but what a replica needs.
const BARRED: &str = "--user mig on >secret ~* &* +@all -psync -sync -replicaof -slaveof -replconf";
const APP: &str = "--user app on nopass ~* &* +@all";

/// A Redis of users, and a node that is one of them.
fn begin(user: &str, more: &[&str]) -> Option<Move> {
    let users = format!("{user} {APP}");
    let users: Vec<&str> = users.split(' ').collect();
    let login = ["--masteruser", "mig", "--masterauth", "secret"];
    let more = [&login[..], more].concat();
    Move::of(&users, &more, "--by-scan --bar-users app")
}

/// A number of the status of what is scanned.
fn scanned(servers: &Move, name: &str) -> u64 {
    let text = status(servers.node.admin, &format!("/link/scan/{name}"));
    text.parse().unwrap_or(0)
}

/// Everything is equal a moment later.
fn become_equal(servers: &Move) {
    until("both sides are equal", || {
        let (mut here, mut there) = (servers.client(), old(servers));
        all_of(&mut here) == all_of(&mut there)
    });
}

fn old(servers: &Move) -> Client {
    Client::try_new(servers.old.port).unwrap()
}

fn call_all(client: &mut Client, requests: &[&str]) {
    for words in requests {
        let reply = client.answer(words).unwrap();
        assert!(
            !matches!(reply, Answer::Error(_)),
            "{words}: {}",
            show(&reply)
        );
    }
}

/// One of each type, some that end.
const EACH_TYPE: [&str; 14] = [
    "SET text abc",
    "SET number 12345",
    "SET ending abc PX 600000",
    "SETRANGE large 70000 x",
    "RPUSH list a b c",
    "SADD set a b c",
    "SADD numbers 1 2 3",
    "HSET hash f 1 g 2",
    "ZADD zset 1 a 2.5 b",
    "XADD stream 1-1 f v",
    "XADD stream 2-1 f v",
    "XGROUP CREATE stream group 0",
    "PFADD log a b c",
    "GEOADD geo 13.361389 38.115556 Palermo",
];

#[test]
fn every_type_comes_and_every_change_of_it() {
    let Some(servers) = begin(BARRED, &[]) else {
        return;
    };
    let mut there = old(&servers);
    call_all(&mut there, &EACH_TYPE);
    call_all(&mut there, &["SELECT 3", "SET elsewhere 1", "SELECT 0"]);
    let address = format!("127.0.0.1:{}", servers.old.port);
    let plan = migrate(servers.node.admin, &["plan", &address]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert_eq!(plan.status.code(), Some(3), "{text}");
    assert!(
        text.contains("--by-scan") && text.contains("by scan: all keys"),
        "{text}"
    );
    let plan = done(servers.node.admin, &["plan", &address, "--by-scan"]);
    assert!(plan.contains("notify-keyspace-events"), "{plan}");
    // What was here goes, once all that is there is here.
    call_all(&mut servers.client(), &["SET mine 1", "SET text mine"]);
    servers.start();
    servers.followed();
    become_equal(&servers);
    let mut here = servers.client();
    call_all(&mut here, &["SELECT 3"]);
    assert_eq!(here.call("GET elsewhere").unwrap(), "1");
    call_all(
        &mut there,
        &[
            "APPEND text d",
            "INCR number",
            "PERSIST ending",
            "PEXPIRE text 700000",
            "LPOP list",
            "LSET list 0 z",
            "SREM set a",
            "HINCRBY hash f 5",
            "HDEL hash g",
            "ZINCRBY zset 1 a",
            "XADD stream 3-1 f v",
            "XDEL stream 1-1",
            "RENAME numbers others",
            "COPY set copy",
            "DEL geo",
            "SET short 1 PX 50",
            "GETDEL log",
            "SORT others STORE sorted",
            "MOVE sorted 3",
            "EVAL return{redis.call('set','scripted','1'),redis.call('del','copy')} 0",
            "SETEX gone 1 x",
            "BITOP NOT inverted text",
            "FUNCTION LOAD #!lua\tname=f\nredis.register_function('f',function()return(7)end)",
        ],
    );
    become_equal(&servers);
    assert_eq!(here.call("TYPE sorted").unwrap(), "+list");
    // A database that is emptied has no event: another pass finds it.
    let passes = scanned(&servers, "passes");
    call_all(
        &mut there,
        &["SELECT 3", "FLUSHDB", "SELECT 0", "SET behind 1"],
    );
    until("another pass is over", || {
        scanned(&servers, "passes") > passes
    });
    assert_eq!(here.call("DBSIZE").unwrap(), ":0");
    become_equal(&servers);
    until("its functions come with a pass", || {
        servers.client().call("FUNCTION LIST").unwrap() == "*1"
    });
    // It is left as it is: what came stays.
    done(servers.node.admin, &["back"]);
    call_all(&mut servers.client(), &["SET mine 1"]);
    assert!(there.call("GET mine").unwrap().starts_with("$-1"));
}

#[test]
fn lost_events_and_a_killed_node_cost_a_pass_and_nothing_else() {
    let Some(mut servers) = begin(BARRED, &["--appendfsync", "no"]) else {
        return;
    };
    let mut there = old(&servers);
    for n in 0..20_000 {
        there.call(&format!("SET k:{n} {n}")).unwrap();
    }
    let stops = Arc::<AtomicBool>::default();
    let load = write_small(servers.old.port, Arc::clone(&stops));
    servers.start();
    // Keys go while the first pass goes through them.
    let mut n = 0;
    until("the copy is here", || {
        for _ in 0..50 {
            there.call(&format!("DEL k:{n}")).unwrap();
            n = (n + 7) % 20_000;
        }
        status(servers.node.admin, "/link/follows") == "true"
    });
    // The subscriber is cut off, and what is written while nobody listens has no event: some go, some come, and more than once.
    for round in 0..3 {
        let passes = scanned(&servers, "passes");
        call_all(&mut there, &["CLIENT KILL TYPE pubsub"]);
        for n in 0..200 {
            there.call(&format!("DEL k:{}", round * 200 + n)).unwrap();
            there.call(&format!("RPUSH new:{round}:{n} {n}")).unwrap();
        }
        until("another pass is over", || {
            scanned(&servers, "passes") > passes
                && status(servers.node.admin, "/link/follows") == "true"
        });
    }
    assert!(scanned(&servers, "losses") >= 3);
    // The node ends in the middle of a pass, and goes on.
    call_all(&mut there, &["CLIENT KILL TYPE pubsub"]);
    until("a pass goes on", || {
        status(servers.node.admin, "/link/state") == "\"copying\""
    });
    servers.node.kill();
    for n in 0..200 {
        there.call(&format!("DEL k:{}", 5000 + n)).unwrap();
    }
    servers.node.start_again();
    servers.followed();
    stops.store(true, Relaxed);
    load.join().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    become_equal(&servers);
    done(servers.node.admin, &["advance"]);
    done(servers.node.admin, &["advance"]);
    servers.compared();
}

/// Small values that change all the while, and end.
fn write_small(port: u16, stops: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut client, mut n) = (Client::try_new(port).unwrap(), 0);
        while !stops.load(Relaxed) {
            n += 1;
            for words in [
                "INCR a:count".to_owned(),
                format!("LPUSH a:list {n}"),
                "LTRIM a:list 0 20".to_owned(),
                format!("SADD a:set {}", n % 50),
                "SPOP a:set".to_owned(),
                format!("SET a:short:{} {n} PX 30", n % 20),
                format!("SET a:some:{} {n}", n % 1000),
            ] {
                let reply = client.call(&words).unwrap();
                assert!(!reply.starts_with('-'), "{words}: {reply}");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    })
}

/// An application that speaks to the old Redis itself, as the user who is barred at the flip: what it was told is added up.
fn write_there(port: u16, sum: Arc<AtomicU64>, stops: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut app = Client::try_new(port).unwrap();
        app.call("AUTH app x").unwrap();
        while !stops.load(Relaxed) {
            match app.call("INCR direct") {
                Some(reply) if reply.starts_with(':') => drop(sum.fetch_add(1, Relaxed)),
                _ => return,
            }
        }
    })
}

#[test]
fn counters_are_exact_at_the_flip_and_on_the_way_back() {
    let Some(servers) = begin(BARRED, &[]) else {
        return;
    };
    let mut there = old(&servers);
    call_all(&mut there, &EACH_TYPE);
    servers.start();
    servers.followed();
    done(servers.node.admin, &["advance"]);
    // Each read here sees what was written before it, wherever that was; an iteration too.
    let mut front = servers.client();
    for n in 0..200 {
        let client = if n % 2 == 0 { &mut there } else { &mut front };
        client.call(&format!("SET seen {n}")).unwrap();
        assert_eq!(front.call("GET seen").unwrap(), n.to_string());
    }
    let found = front.answer("SCAN 0 COUNT 1000 MATCH seen").unwrap();
    let seen = Answer::Array(vec![Answer::Bulk(b"seen".to_vec())]);
    assert!(
        matches!(&found, Answer::Array(parts) if parts[1] == seen),
        "{found:?}"
    );
    let load = Load::begin(servers.node.port, "a");
    load.goes_on();
    done(servers.node.admin, &["advance"]);
    let (sum, stops) = (Arc::default(), Arc::default());
    let direct = write_there(servers.old.port, Arc::clone(&sum), Arc::clone(&stops));
    servers.compared();
    // What a group has taken and acknowledged has no event, and is there at the flip.
    call_all(
        &mut there,
        &[
            "XREADGROUP GROUP group one COUNT 2 STREAMS stream >",
            "XACK stream group 1-1",
        ],
    );
    done(servers.node.admin, &["advance"]);
    assert_eq!(status(servers.node.admin, "/phase"), "\"reverse\"");
    stops.store(true, Relaxed);
    direct.join().unwrap();
    let mut here = servers.client();
    assert_eq!(
        here.call("GET direct").unwrap(),
        sum.load(Relaxed).to_string()
    );
    let pending = here.answer("XPENDING stream group - + 9 one");
    let shown = format!("{pending:?}");
    assert!(
        matches!(&pending, Some(Answer::Array(one)) if one.len() == 1),
        "{shown}"
    );
    load.goes_on();
    let acknowledged = load.end();
    let counted: u64 = here.call("GET a:count").unwrap().parse().unwrap();
    assert_eq!(counted, acknowledged);
    std::thread::sleep(std::time::Duration::from_millis(60));
    servers.drained();
    servers.equal();
    // Back, under load, and on again.
    let load = Load::begin(servers.node.port, "b");
    load.goes_on();
    done(servers.node.admin, &["back"]);
    assert_eq!(status(servers.node.admin, "/phase"), "\"verify\"");
    load.goes_on();
    let mut app = Client::try_new(servers.old.port).unwrap();
    app.call("AUTH app x").unwrap();
    assert!(app.call("INCR direct").unwrap().starts_with(':'));
    servers.followed();
    servers.compared();
    done(servers.node.admin, &["advance"]);
    load.goes_on();
    let acknowledged = load.end();
    let counted: u64 = here.call("GET b:count").unwrap().parse().unwrap();
    assert_eq!(counted, acknowledged);
    let direct = (sum.load(Relaxed) + 1).to_string();
    assert_eq!(here.call("GET direct").unwrap(), direct);
    std::thread::sleep(std::time::Duration::from_millis(60));
    servers.drained();
    servers.equal();
    let report = done(servers.node.admin, &["finish"]);
    assert!(report.contains("pause, flip"), "{report}");
    eprintln!("{report}");
}

#[test]
fn a_value_that_is_too_large_is_named_and_comes_once_it_may() {
    let most = ["--migrate-scan-value-max-bytes", "1mb"];
    let Some(servers) = begin(BARRED, &most) else {
        return;
    };
    let mut there = old(&servers);
    call_all(&mut there, &["SETRANGE huge 2000000 x", "SET small 1"]);
    let address = format!("127.0.0.1:{}", servers.old.port);
    let stopped = migrate(servers.node.admin, &["start", &address, "--by-scan"]);
    assert_eq!(stopped.status.code(), Some(3), "{stopped:?}");
    done(
        servers.node.admin,
        &["start", &address, "--by-scan", "--force"],
    );
    until("it is named", || {
        let why = status(servers.node.admin, "/link/scan/unfit_error");
        why.contains("'huge'") && why.contains("migrate-scan-value-max-bytes")
    });
    assert_eq!(status(servers.node.admin, "/link/follows"), "false");
    let early = migrate(servers.node.admin, &["advance"]);
    assert_eq!(early.status.code(), Some(3), "{early:?}");
    call_all(
        &mut servers.client(),
        &["CONFIG SET migrate-scan-value-max-bytes 4mb"],
    );
    servers.followed();
    become_equal(&servers);
    // One that grows while it is followed is named as well, and forgotten once it is gone.
    call_all(&mut there, &["SETRANGE huge 5000000 x"]);
    until("it does not count as followed", || {
        status(servers.node.admin, "/link/follows") == "false"
    });
    call_all(&mut there, &["DEL huge"]);
    servers.followed();
    become_equal(&servers);
}

#[test]
fn where_config_is_barred_the_operator_sets_the_events_and_a_probe_looks_for_them() {
    let barred = format!("{BARRED} -config");
    let Some(servers) = begin(&barred, &[]) else {
        return;
    };
    let mut there = old(&servers);
    call_all(
        &mut there,
        &["SET a 1", "CONFIG SET notify-keyspace-events Ex"],
    );
    servers.start();
    until("what is missing is said", || {
        let why = status(servers.node.admin, "/link/error");
        why.contains("sends no keyspace events") && why.contains("KEA")
    });
    let early = Client::try_new(servers.node.port);
    assert!(early.is_none(), "LOADING: not all is here yet");
    call_all(&mut there, &["CONFIG SET notify-keyspace-events KEA"]);
    servers.followed();
    call_all(&mut there, &["SET b 1"]);
    become_equal(&servers);
    assert_eq!(
        there.call("DBSIZE").unwrap(),
        ":2",
        "nothing of the probe stays"
    );
}
