//! Shards change sides one by one, forward and back, while clients count, and whatever is killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use protocol::answer::Answer;

use crate::harness::{
    Client, Cluster, ClusterClient, Counters, Node, Server, show, under_load, until,
};

/// The beginning of the keys that say how far a server has been written.
const POSITION: &str = "meridian:migration:position";

/// Words of a Redis that keeps what it has acknowledged, whose application is the user `app`.
const OLD: [&str; 13] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--repl-backlog-ttl",
    "0",
    "--user",
    "app",
    "on",
    "nopass",
    "~*",
    "&*",
    "+@all",
];

/// Two servers: keys with a are at the first, those with b at the second.
struct Pair {
    servers: [Server; 2],
    node: Node,
}

impl Pair {
    /// In `verify`, all compared; None where there is no Redis.
    fn start() -> Option<Pair> {
        let servers = [Server::redis(&OLD)?, Server::redis(&OLD)?];
        for (server, name) in servers.iter().zip(["a", "b"]) {
            let mut client = server.client();
            for n in 0..500 {
                client.text(&format!("SET {name}-before:{n} {n}"));
            }
        }
        let node = Node::start(&["--migrate-pause-max-ms", "5000"]);
        let shards = servers.iter().zip(["a*", "b*"]);
        let shards = shards.map(|(server, keys)| format!("127.0.0.1:{}={keys}", server.port));
        let shards: Vec<String> = shards.collect();
        node.begin(&["--shard", &shards[0], "--shard", &shards[1]]);
        node.until_followed();
        node.done(&["advance"]);
        node.done(&["advance"]);
        let pair = Pair { servers, node };
        pair.until_compared();
        Some(pair)
    }

    fn until_compared(&self) {
        until("all is compared", || {
            self.node.status("/verify/passes") != 0
        });
        assert_eq!(self.node.status("/verify/open"), 0);
    }

    fn flip(&self, shard: usize) {
        let shard = shard.to_string();
        let words = ["advance", "--old-side", "written", "--shard", &shard];
        let told = self
            .node
            .done(&[&words[..], &["--bar-users", "app"]].concat());
        assert!(
            told.contains(&format!("decides shard {shard} now")),
            "{told}"
        );
    }

    fn back(&self, shard: usize) {
        let shard = shard.to_string();
        let told = self.node.done(&["back", "--shard", &shard]);
        assert!(
            told.contains(&format!("decides shard {shard} again")),
            "{told}"
        );
    }
}

/// Every key with its value and deadline, the positions left out.
fn all_of(client: &mut Client) -> BTreeMap<String, (String, String)> {
    let Some(Answer::Array(names)) = client.try_call(&["KEYS", "*"]) else {
        panic!("no names");
    };
    let mut found = BTreeMap::new();
    for name in names.iter().map(show) {
        if name.starts_with(POSITION) {
            continue;
        }
        let words = match client.text(&format!("TYPE {name}")).as_str() {
            "list" => format!("LRANGE {name} 0 -1"),
            "hash" => format!("HGETALL {name}"),
            "zset" => format!("ZRANGE {name} 0 -1 WITHSCORES"),
            _ => format!("GET {name}"),
        };
        let value = client.text(&words);
        let deadline = client.text(&format!("PEXPIRETIME {name}"));
        found.insert(name, (value, deadline));
    }
    found
}

/// What is here is what the servers have together, once all is written there and keys that end have ended.
fn are_equal<'s>(node: &Node, servers: impl Iterator<Item = &'s Server> + Clone) {
    until("all is written there", || {
        let shards = node.status("/shards");
        let shards = shards.as_array().unwrap();
        shards.iter().all(|shard| {
            let written = &shard["written"];
            written.is_null() || (written["up"] == true && written["queue_bytes"] == 0)
        })
    });
    until("both sides are equal", || {
        let here = all_of(&mut node.client());
        let there = servers.clone().map(|server| all_of(&mut server.client()));
        let there: BTreeMap<_, _> = there.flatten().collect();
        here == there
    });
}

#[test]
fn two_servers_change_sides_one_by_one_and_back_while_clients_count() {
    let Some(pair) = Pair::start() else { return };
    let node = &pair.node;
    let here = [Counters::new("a", 20), Counters::new("b", 20)];
    let loads = here
        .iter()
        .map(|counters| (ClusterClient::at(node.port()), counters));
    under_load(loads.collect(), || {
        let goes_on = || {
            let counted = |key: &str| node.client().text(&format!("GET {key}"));
            let before = (counted("a:3"), counted("b:3"));
            until("both are counted", || {
                counted("a:3") != before.0 && counted("b:3") != before.1
            });
        };
        pair.flip(0);
        assert_eq!(node.status("/phase"), "verify");
        assert_eq!(node.status("/shards/0/authority"), "this node");
        goes_on();
        pair.flip(1);
        assert_eq!(node.status("/phase"), "reverse");
        goes_on();
        pair.back(1);
        assert_eq!(node.status("/phase"), "verify");
        goes_on();
        pair.back(0);
        goes_on();
        pair.until_compared();
        pair.flip(1);
        goes_on();
        pair.flip(0);
        goes_on();
    });
    assert_eq!(node.status("/phase"), "reverse");
    let mut client = node.client();
    for counters in &here {
        counters.are_exact(|line| client.text(line));
    }
    are_equal(node, pair.servers.iter());
    let pauses = node.status("/pauses").to_string();
    for what in [
        "flip-shard-0",
        "flip-shard-1",
        "back-shard-0",
        "back-shard-1",
    ] {
        assert!(pauses.contains(what), "{pauses}");
    }
    eprintln!("{}", node.done(&["status"]));
    for server in &pair.servers {
        assert_eq!(server.info("sync_full"), "1", "nothing was copied again");
    }
    let report = node.done(&["finish"]);
    assert!(report.contains("pause, flip-shard-1"), "{report}");
}

#[test]
fn while_one_of_two_has_changed_sides_each_request_is_executed_where_its_keys_are() {
    let Some(pair) = Pair::start() else { return };
    let node = &pair.node;
    let mut client = node.client();
    assert_eq!(client.text("SET a:w 1"), "OK");
    pair.flip(0);
    let mut there = pair.servers.each_ref().map(Server::client);
    let mut app = pair.servers.each_ref().map(Server::client);
    for app in &mut app {
        assert_eq!(app.text("AUTH app x"), "OK");
    }
    assert!(app[0].text("SET a:x 1").starts_with("-NOPERM"));
    assert_eq!(app[1].text("SET b:x 1"), "OK");
    assert_eq!(client.text("SET a:x 2"), "OK");
    assert_eq!(client.text("APPEND b:x 2"), "2");
    assert_eq!(there[1].text("GET b:x"), "12");
    assert_eq!(client.text("GET b:x"), "12");
    until("it is written there", || there[0].text("GET a:x") == "2");
    // Requests that name keys of both sides.
    for line in [
        "MGET a:x b:x",
        "MSET a:x 1 b:x 1",
        "SUNION a:s b:s",
        "RENAME a:x b:y",
    ] {
        let refused = client.text(line);
        assert!(
            refused.starts_with("-CROSSSLOT Keys in request are decided here in part"),
            "{refused}"
        );
    }
    assert!(
        client
            .text("SET c:x 1")
            .starts_with("-CLUSTERDOWN No server")
    );
    let script = |keys: &str, key: &str| {
        let call = format!("return redis.call('set','{key}','s')");
        let mut words = vec!["EVAL".to_owned(), call];
        words.extend(keys.split(' ').map(str::to_owned));
        words
    };
    for (keys, key, expected) in [
        ("1 a:x", "a:x", "OK"),
        ("1 b:x", "b:x", "OK"),
        (
            "1 a:x",
            "b:x",
            "-ERR Script attempted to access a key that the source",
        ),
    ] {
        let words = script(keys, key);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = show(&client.try_call(&words).unwrap());
        assert!(told.starts_with(expected), "{words:?}: {told}");
    }
    // Transactions and keys that are watched, of either side.
    for (line, reply) in [
        ("WATCH a:w", "OK"),
        ("WATCH b:w", "-CROSSSLOT"),
        ("MULTI", "OK"),
        ("INCR a:w", "QUEUED"),
        ("RENAME a:w a:v", "QUEUED"),
        ("EXEC", "2,OK"),
        ("WATCH b:w", "OK"),
        ("WATCH a:w", "-CROSSSLOT"),
        ("MULTI", "OK"),
        ("INCR b:w", "QUEUED"),
        ("EXEC", "1"),
        ("MULTI", "OK"),
        ("INCR a:w", "QUEUED"),
        ("INCR b:w", "QUEUED"),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of: CROSSSLOT Keys in request are decided",
        ),
        ("WATCH a:w", "OK"),
    ] {
        let told = client.text(line);
        assert!(told.starts_with(reply), "{line}: {told}");
    }
    assert_eq!(node.client().text("SET a:w 9"), "OK");
    for (line, reply) in [
        ("MULTI", "OK"),
        ("GET a:w", "QUEUED"),
        ("EXEC", "NullArray"),
    ] {
        assert_eq!(client.text(line), reply, "{line}");
    }
    // Keys end by their deadlines, each where it is decided.
    assert_eq!(client.text("SET a:short 1 PX 60"), "OK");
    assert_eq!(client.text("SET b:short 1 PX 60"), "OK");
    std::thread::sleep(Duration::from_millis(100));
    let names = |client: &mut Client| client.text("KEYS *short");
    until("both have ended", || names(&mut client).is_empty());
    let ended = client.text("INFO stats");
    assert!(ended.contains("expired_keys:1\r"), "{ended}");
    assert!(client.text("FLUSHALL").contains("about all shards"));
    // Those that block, at either side, through the next flip.
    std::thread::scope(|scope| {
        let waits = ["a", "b"].map(|name| {
            let mut blocked = node.client();
            scope.spawn(move || blocked.text(&format!("BLPOP {name}:queue 60")))
        });
        until("one waits there", || {
            pair.servers[1].info("blocked_clients") == "1"
        });
        pair.flip(1);
        for (name, waits) in ["a", "b"].iter().zip(waits) {
            assert_eq!(client.text(&format!("RPUSH {name}:queue v")), "1");
            assert_eq!(waits.join().unwrap(), format!("{name}:queue,v"));
        }
    });
    assert_eq!(client.text("MGET a:x b:x"), "s,s");
    are_equal(node, pair.servers.iter());
}

/// A number below this one, from a seed that goes on.
fn below(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*seed >> 33) % bound
}

#[test]
fn whatever_moment_the_node_is_killed_at_nothing_is_lost_or_doubled() {
    const KILLS: u64 = 8;
    let Some(mut pair) = Pair::start() else {
        return;
    };
    let mut seed = 7;
    pair.flip(0);
    let (port, stops) = (AtomicU16::new(pair.node.port()), AtomicBool::new(false));
    let counted = std::thread::scope(|scope| {
        let counts = ["a:k", "b:k"].map(|key| {
            let (port, stops) = (&port, &stops);
            scope.spawn(move || ClusterClient::count_through(port, key, stops))
        });
        for n in 0..KILLS {
            let shard = below(&mut seed, 2).to_string();
            let words = match below(&mut seed, 2) {
                0 => vec!["advance", "--force", "--shard", &shard],
                _ => vec!["back", "--shard", &shard],
            };
            let mut order = pair.node.spawn(&words);
            std::thread::sleep(Duration::from_millis(below(&mut seed, 60)));
            pair.node.kill_and_start();
            order.wait().unwrap();
            port.store(pair.node.port(), Relaxed);
            assert_eq!(pair.node.status("/lost"), false, "{n}: {words:?}");
            let now = |key: &str| pair.node.client().text(&format!("GET {key}"));
            let before = (now("a:k"), now("b:k"));
            until("both are counted", || {
                now("a:k") != before.0 && now("b:k") != before.1
            });
        }
        stops.store(true, Relaxed);
        counts.map(|count| count.join().unwrap())
    });
    // To one end, whatever the sides were.
    pair.node.until_followed();
    for at in 0..2 {
        if pair.node.status(&format!("/shards/{at}/authority")) != "this node" {
            let at = at.to_string();
            pair.node.done(&["advance", "--force", "--shard", &at]);
        }
    }
    are_equal(&pair.node, pair.servers.iter());
    let mut client = pair.node.client();
    for (key, (known, unknown)) in ["a:k", "b:k"].iter().zip(counted) {
        let found: u32 = client.text(&format!("GET {key}")).parse().unwrap();
        assert!(
            (known..=known + unknown).contains(&found),
            "{key}: {known} {found} {unknown}"
        );
        eprintln!("{key}: {known} acknowledged, {unknown} unknown, {found} there");
    }
    for server in &pair.servers {
        assert_eq!(server.info("sync_full"), "1", "nothing was copied again");
    }
}

/// A node in `verify` in front of a cluster of three, whose servers have an application's user.
fn before_cluster() -> Option<(Cluster, Node)> {
    let cluster = Cluster::start_with(3, &OLD)?;
    let mut client = cluster.client();
    for n in 0..600 {
        client.text(&format!("SET before:{n} {n}"));
    }
    let node = Node::start(&["--migrate-pause-max-ms", "5000"]);
    node.begin(&[&cluster.place(0)]);
    node.until_followed();
    node.done(&["advance"]);
    node.done(&["advance"]);
    until("all is compared", || node.status("/verify/passes") != 0);
    Some((cluster, node))
}

const FLIP: [&str; 5] = ["advance", "--old-side", "written", "--bar-users", "app"];

#[test]
fn a_cluster_changes_sides_shard_by_shard_and_back_through_kills_and_a_failover() {
    let Some((mut cluster, node)) = before_cluster() else {
        return;
    };
    let heir = cluster.add_replica_with(1, &OLD);
    let here = Counters::new("c", 60);
    under_load(vec![(ClusterClient::at(node.port()), &here)], || {
        let total = || {
            let count = |at| node.client().text(&format!("GET c:{at}")).parse::<u32>();
            (0..60).map(|at| count(at).unwrap_or(0)).sum::<u32>()
        };
        let goes_on = || {
            let before = total();
            until("it is counted on", || total() > before + 120);
        };
        goes_on();
        for _ in 0..3 {
            node.done(&FLIP);
            goes_on();
        }
        assert_eq!(node.status("/phase"), "reverse");
        let failover = cluster.servers[heir].client().text("CLUSTER FAILOVER");
        assert_eq!(failover, "OK");
        let new = cluster.place(heir);
        until("the new primary is written to", || {
            node.status("/shards/1/source") == new.as_str()
                && node.status("/shards/1/written/up") == true
        });
        goes_on();
        // Its users come from nowhere: they are barred there, too.
        until("they are barred at the new primary", || {
            let mut app = cluster.servers[heir].client();
            app.text("AUTH app x");
            app.text("SET x 1").starts_with("-NOPERM")
        });
        for shard in ["1", "0"] {
            let back = || node.migrate(&["back", "--shard", shard]).status.success();
            until("it is taken back", back);
            goes_on();
        }
        assert_eq!(node.status("/phase"), "verify");
        until("all is compared", || node.status("/verify/passes") != 0);
        assert_eq!(node.status("/verify/open"), 0);
        node.done(&FLIP);
        goes_on();
        node.done(&FLIP);
        goes_on();
    });
    assert_eq!(node.status("/phase"), "reverse");
    let mut client = node.client();
    here.are_exact(|line| client.text(line));
    let primaries = [0, heir, 2].map(|at| &cluster.servers[at]);
    are_equal(&node, primaries.into_iter());
    for at in 0..3 {
        assert_eq!(
            node.status(&format!("/shards/{at}/written/needs_copy")),
            serde_json::Value::Null
        );
        assert_eq!(node.status(&format!("/shards/{at}/written/failed")), 0);
    }
    eprintln!("{}", node.done(&["status"]));
}

#[test]
fn a_cluster_of_which_some_is_taken_over_is_gone_on_with_after_kills() {
    let Some((cluster, mut node)) = before_cluster() else {
        return;
    };
    node.done(&[&FLIP[..], &["--shard", "1"]].concat());
    let (port, stops) = (AtomicU16::new(node.port()), AtomicBool::new(false));
    // One key of each shard.
    let keys = ["a", "b", "c"].map(|tag| format!("k:{tag}"));
    let counted = std::thread::scope(|scope| {
        let counts: Vec<_> = keys
            .iter()
            .map(|key| {
                let (port, stops) = (&port, &stops);
                scope.spawn(move || ClusterClient::count_through(port, key, stops))
            })
            .collect();
        for words in [
            vec!["back", "--shard", "1"],
            vec!["advance", "--force", "--shard", "0"],
            vec!["advance", "--force", "--shard", "1"],
            vec!["advance", "--force"],
        ] {
            let mut order = node.spawn(&words);
            std::thread::sleep(Duration::from_millis(15));
            node.kill_and_start();
            order.wait().unwrap();
            port.store(node.port(), Relaxed);
            assert_eq!(node.status("/lost"), false, "{words:?}");
            let now = || {
                keys.each_ref()
                    .map(|key| node.client().text(&format!("GET {key}")))
            };
            let before = now();
            until("all are counted", || {
                now().iter().zip(&before).all(|(now, before)| now != before)
            });
        }
        stops.store(true, Relaxed);
        counts
            .into_iter()
            .map(|count| count.join().unwrap())
            .collect::<Vec<_>>()
    });
    node.until_followed();
    for at in 0..3 {
        if node.status(&format!("/shards/{at}/authority")) != "this node" {
            let at = at.to_string();
            node.done(&["advance", "--force", "--shard", &at]);
        }
    }
    are_equal(&node, cluster.servers.iter());
    let mut client = node.client();
    for (key, (known, unknown)) in keys.iter().zip(counted) {
        let found: u32 = client.text(&format!("GET {key}")).parse().unwrap();
        assert!(
            (known..=known + unknown).contains(&found),
            "{key}: {known} {found} {unknown}"
        );
    }
}
