//! Fifty differences between a source and a node that follows it, of every kind, in small keys and in single elements of large ones: the
//! comparison lists each of them in one pass and nothing else, fetches them again, and finds none then.
//!
//! The node takes its copy from a replica of the source that was written to by hand ([`detour`](crate::detour)): there is no way to write to a
//! node whose source decides, and what comes by the stream is no difference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::Value;

use crate::detour::detour;
use crate::programs::{Client, Server, done, free_port, info, migrate, show, status, until};
use crate::unsafe_commands::held;

/// Elements of one large value of each type, and of the two others.
const LARGE: usize = 100_000;
const LESS: usize = 10_000;
/// Small keys of each type.
const SMALL: usize = 300;
/// Scripts that fill; `n` elements each, and no blank in them.
const FILL: [(&str, &str); 5] = [
    ("list", "redis.call('RPUSH',KEYS[1],'element:'..i)"),
    ("set", "redis.call('SADD',KEYS[1],'member:'..i)"),
    ("hash", "redis.call('HSET',KEYS[1],'field:'..i,'value:'..i)"),
    ("zset", "redis.call('ZADD',KEYS[1],i,'member:'..i)"),
    ("stream", "redis.call('XADD',KEYS[1],i..'-1','f','v'..i)"),
];

/// A database, a key, what is done to it at the twin, and what it is to be listed as. Requests that are one piece are parted by `;`.
const PLANTED: [(u64, &str, &str, &str); 50] = [
    (0, "string:1", "DEL string:1", "missing"),
    (0, "list:1", "DEL list:1", "missing"),
    (0, "hash:1", "DEL hash:1", "missing"),
    (0, "set:1", "DEL set:1", "missing"),
    (0, "zset:1", "DEL zset:1", "missing"),
    (0, "stream:1", "DEL stream:1", "missing"),
    (0, "large:set:0", "DEL large:set:0", "missing"),
    (3, "other:1", "DEL other:1", "missing"),
    (0, "new:string", "SET new:string x", "extra"),
    (0, "new:list", "RPUSH new:list x", "extra"),
    (0, "new:hash", "HSET new:hash f v", "extra"),
    (0, "new:set", "SADD new:set x", "extra"),
    (0, "new:zset", "ZADD new:zset 1 x", "extra"),
    (0, "new:stream", "XADD new:stream * f v", "extra"),
    (0, "new:ends", "SET new:ends x EX 90000", "extra"),
    (7, "new:string", "SET new:string x", "extra"),
    (0, "string:2", "DEL string:2;RPUSH string:2 x", "type"),
    (0, "list:2", "DEL list:2;SADD list:2 x", "type"),
    (0, "hash:2", "DEL hash:2;SET hash:2 x", "type"),
    (0, "set:2", "DEL set:2;ZADD set:2 1 x", "type"),
    (0, "zset:2", "DEL zset:2;HSET zset:2 f v", "type"),
    (
        0,
        "large:list:0",
        "DEL large:list:0;SET large:list:0 x",
        "type",
    ),
    (0, "string:3", "APPEND string:3 x", "value"),
    (0, "string:4", "SETRANGE string:4 0 X", "value"),
    (0, "list:3", "LSET list:3 1 x", "value"),
    (0, "list:4", "RPOP list:4", "value"),
    (0, "hash:3", "HSET hash:3 field:2 x", "value"),
    (0, "hash:4", "HDEL hash:4 field:2", "value"),
    (
        0,
        "set:3",
        "SREM set:3 member:2;SADD set:3 member:x",
        "value",
    ),
    (0, "set:4", "SADD set:4 member:x", "value"),
    (0, "zset:3", "ZINCRBY zset:3 0.5 member:2", "value"),
    (0, "zset:4", "ZREM zset:4 member:2", "value"),
    (0, "stream:3", "XADD stream:3 * f x", "value"),
    (0, "stream:4", "XDEL stream:4 2-1", "value"),
    (0, "stream:5", "XGROUP CREATE stream:5 g 0", "value"),
    (3, "other:2", "SET other:2 x", "value"),
    (0, "string:5", "PEXPIRE string:5 90000000", "expiry"),
    (0, "ends:1", "PERSIST ends:1", "expiry"),
    (0, "ends:2", "PEXPIREAT ends:2 4000000000002", "expiry"),
    (0, "hash:5", "PEXPIREAT hash:5 4000000000000", "expiry"),
    (
        0,
        "large:hash:0",
        "PEXPIREAT large:hash:0 4000000000000",
        "expiry",
    ),
    (0, "large:list:1", "LSET large:list:1 54321 x", "value"),
    (0, "large:list:2", "RPOP large:list:2", "value"),
    (
        0,
        "large:set:1",
        "SREM large:set:1 member:54321;SADD large:set:1 x",
        "value",
    ),
    (
        0,
        "large:hash:1",
        "HSET large:hash:1 field:54321 x",
        "value",
    ),
    (0, "large:hash:2", "HDEL large:hash:2 field:9999", "value"),
    (
        0,
        "large:zset:1",
        "ZADD large:zset:1 0.5 member:54321",
        "value",
    ),
    (0, "large:stream:1", "XDEL large:stream:1 54321-1", "value"),
    (
        0,
        "large:stream:2",
        "XREADGROUP GROUP g c COUNT 3 STREAMS large:stream:2 >",
        "value",
    ),
    (0, "large:string", "SETRANGE large:string 543210 x", "value"),
];

/// Says requests, each of which must not fail.
fn say(client: &mut Client, requests: &str) {
    for request in requests.split(';') {
        let reply = show(&client.answer(request).unwrap());
        assert!(!reply.starts_with('-'), "{request}: {reply}");
    }
}

/// The data of the source: small keys of every type, large ones, keys that end, and another database.
fn fill(client: &mut Client) {
    for (kind, call) in FILL {
        let script = |n: usize| format!("EVAL for\ni=1,{n}\ndo\n{call}\nend 1");
        for key in 0..SMALL {
            say(client, &format!("{} {kind}:{key}", script(1 + key % 7 + 3)));
        }
        for (key, elements) in [LESS, LARGE, LESS].into_iter().enumerate() {
            say(client, &format!("{} large:{kind}:{key}", script(elements)));
        }
    }
    for key in 0..SMALL {
        say(client, &format!("SET string:{key} value:{key}"));
        say(
            client,
            &format!("SET ends:{key} value:{key} PXAT 400000000000{}", key % 2),
        );
    }
    say(
        client,
        "SETRANGE large:string 1000000 end;XGROUP CREATE large:stream:2 g 0",
    );
    say(
        client,
        "SELECT 3;SET other:1 1;SET other:2 2;SET other:3 3;SELECT 0",
    );
}

/// What the comparison lists: database, key, how it differs.
fn listed(admin: u16, words: &[&str]) -> BTreeSet<(u64, String, String)> {
    let output = migrate(admin, &[&["verify", "--keys", "--json"], words].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let listed: Vec<Value> = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{text}{errors}"));
    // (3: differences are open.)
    let code = if listed.is_empty() { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code), "{errors}");
    let one = |found: &Value| {
        let word = |name: &str| found[name].as_str().unwrap().to_owned();
        (found["db"].as_u64().unwrap(), word("key"), word("kind"))
    };
    listed.iter().map(one).collect()
}

/// An application at the source that goes on while keys are compared.
fn write_until(port: u16, stops: &AtomicBool) {
    let mut client = Client::try_new(port).unwrap();
    let mut n = 0;
    while !stops.load(Relaxed) {
        n += 1;
        let (small, large) = (n % 50 + 100, n % LESS);
        say(
            &mut client,
            &format!(
                "APPEND string:{small} x;RPOPLPUSH list:{small} list:{small};HINCRBY hash:{small} n 1;SET short:{small} x PX 20;\
                 SADD large:set:2 new:{large};ZINCRBY large:zset:2 1 member:{large};XADD large:stream:0 * f {large}"
            ),
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn fifty_planted_differences_are_found_in_one_pass_and_mended_and_no_others() {
    let debug = [
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "64mb",
    ];
    let Some(source) = Server::start("redis-server", &debug) else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let mut there = Client::try_new(source.port).unwrap();
    fill(&mut there);
    let twin = Server::start(
        "redis-server",
        &[&debug[..], &["--replica-read-only", "no"]].concat(),
    );
    let twin = twin.unwrap();
    let mut by_hand = Client::try_new(twin.port).unwrap();
    say(
        &mut by_hand,
        &format!("REPLICAOF 127.0.0.1 {}", source.port),
    );
    until("the twin follows", || {
        info(&mut by_hand, "master_link_status") == "up"
    });
    for (db, _, requests, _) in PLANTED {
        say(&mut by_hand, &format!("SELECT {db}"));
        say(&mut by_hand, requests);
    }
    let admin = free_port();
    let admin_port = admin.to_string();
    let words = [
        "--admin-port",
        &admin_port,
        "--cores",
        "2",
        "--appendonly",
        "yes",
    ];
    let node = Server::start(env!("CARGO_BIN_EXE_meridian"), &words).unwrap();
    let way = format!("127.0.0.1:{}", detour(source.port, twin.port));
    let announce = format!("127.0.0.1:{}", node.port);
    done(admin, &["start", &way, "--announce", &announce]);
    until("the copy is here", || {
        status(admin, "/link/follows") == "true"
    });

    let stops = Arc::new(AtomicBool::new(false));
    let load = {
        let (stops, port) = (stops.clone(), source.port);
        std::thread::spawn(move || write_until(port, &stops))
    };
    let planted = PLANTED.map(|(db, key, _, kind)| (db, key.to_owned(), kind.to_owned()));
    let planted = BTreeSet::from(planted);
    assert_eq!(planted.len(), 50);
    let found = listed(admin, &["--no-fetch"]);
    let unlike: Vec<_> = planted.symmetric_difference(&found).collect();
    assert!(unlike.is_empty(), "planted or listed, not both: {unlike:?}");
    assert_eq!(status(admin, "/verify/passes"), "1");
    let elements: usize = status(admin, "/verify/elements").parse().unwrap();
    assert!(elements > 5 * LARGE, "{elements}");
    // Fetched again by the pass that finds them, and looked at again before it ends.
    assert_eq!(listed(admin, &[]), BTreeSet::new());
    assert_eq!(status(admin, "/verify/fetched_again"), "50");
    assert_eq!(listed(admin, &[]), BTreeSet::new());
    assert_eq!(status(admin, "/verify/found"), "50");
    stops.store(true, Relaxed);
    load.join().unwrap();

    let offset: u64 = info(&mut there, "master_repl_offset").parse().unwrap();
    until("the stream is executed here", || {
        status(admin, "/link/offset").parse::<u64>().unwrap() >= offset
    });
    let mut here = Client::try_new(node.port).unwrap();
    for (db, key, _, _) in PLANTED {
        say(&mut here, &format!("SELECT {db}"));
        say(&mut there, &format!("SELECT {db}"));
        assert_eq!(held(&mut here, key), held(&mut there, key), "{key}");
    }
}
