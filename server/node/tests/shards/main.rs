//! Leaving a cluster, and servers sharded by hand: copied, followed and compared shard by shard, while clients write. Skipped aloud without Redis.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

mod flips;
mod harness;

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};

use harness::{Client, Cluster, ClusterClient, Counters, Node, Server, under_load, until};

fn fill(cluster: &Cluster, keys: usize) {
    let mut client = cluster.client();
    for n in 0..keys {
        assert_eq!(client.text(&format!("SET fill:{n} value-{n}")), "OK");
    }
}

#[test]
fn a_cluster_is_followed_through_kills_and_nothing_is_doubled_or_copied_again() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    fill(&cluster, 3000);
    let mut node = Node::start(&[]);
    assert_eq!(node.client().text("SET stray 1"), "OK");
    let place = cluster.place(1);
    let plan = node.done(&["plan", &place]);
    assert!(plan.contains("Nothing stands in the way."), "{plan}");
    assert!(plan.contains("shards                  3"), "{plan}");
    let counters = Counters::new("c", 40);
    under_load(vec![(cluster.client(), &counters)], || {
        node.begin(&[&place]);
        node.until_followed();
        assert!(node.client().text("SET x 1").starts_with("-READONLY"));
        for _ in 0..3 {
            let offset = |at: usize| node.status(&format!("/shards/{at}/offset"));
            let before: Vec<_> = (0..3).map(offset).collect();
            until("all streams come on", || {
                (0..3).all(|at| offset(at) != before[at])
            });
            node.kill_and_start();
            node.until_followed();
        }
    });
    node.is_equal();
    for server in &cluster.servers {
        let told = (server.info("sync_full"), server.info("sync_partial_ok"));
        assert_eq!(told, ("1".to_owned(), "3".to_owned()));
    }
    let mut here = node.client();
    assert_eq!(here.text("EXISTS stray"), "0");
    counters.are_exact(|line| here.text(line));
    // One shard empties itself: what is here of the others stays.
    let before: usize = here.text("DBSIZE").parse().unwrap();
    let own: usize = cluster.servers[0].client().text("DBSIZE").parse().unwrap();
    assert_eq!(cluster.servers[0].client().text("FLUSHALL"), "OK");
    until("its keys are gone", || {
        // (LOADING while its keys are copied again; some have ended by their deadlines.)
        let left = Client::raw(node.port()).unwrap().text("DBSIZE");
        left.parse::<usize>()
            .is_ok_and(|left| left <= before - own && left > 1000)
    });
    node.until_followed();
    node.is_equal();
    let back = node.done(&["back"]);
    assert!(back.contains("followed no more"), "{back}");
    assert_eq!(node.client().text("SET x 1"), "OK");
}

#[test]
fn without_a_log_each_shard_goes_on_from_what_the_snapshot_says() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    fill(&cluster, 600);
    let mut node = Node::start(&["--appendonly", "no"]);
    node.begin(&[&cluster.place(0)]);
    node.until_followed();
    fill(&cluster, 900);
    node.leave_and_start();
    node.until_followed();
    node.is_equal();
    assert_eq!(node.client().text("DBSIZE"), "900");
    for server in &cluster.servers {
        assert_eq!(server.info("sync_full"), "1");
    }
    // Killed, it has an older snapshot, and what follows it is in the backlogs.
    fill(&cluster, 1200);
    node.kill_and_start();
    node.until_followed();
    node.is_equal();
    for server in &cluster.servers {
        assert_eq!(server.info("sync_full"), "1");
    }
}

#[test]
fn a_failover_is_followed_from_where_the_data_is() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let heir = cluster.add_replica(1);
    fill(&cluster, 500);
    let node = Node::start(&[]);
    let counters = Counters::new("c", 40);
    under_load(vec![(cluster.client(), &counters)], || {
        node.begin(&[&cluster.place(0)]);
        node.until_followed();
        let failover = cluster.servers[heir].client().text("CLUSTER FAILOVER");
        assert_eq!(failover, "OK");
        let new = cluster.place(heir);
        until("the new primary is followed", || {
            node.status("/shards/1/source") == new.as_str()
        });
        node.until_followed();
    });
    assert_eq!(cluster.servers[heir].info("role"), "master");
    node.is_equal();
    assert_eq!(node.status("/shards/1/copies"), 1);
    assert_eq!(cluster.servers[heir].info("sync_full"), "0");
    let mut here = node.client();
    counters.are_exact(|line| here.text(line));
}

#[test]
fn slots_that_move_are_copied_again_at_their_new_owner() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    fill(&cluster, 2000);
    let node = Node::start(&[]);
    let counters = Counters::new("c", 60);
    under_load(vec![(cluster.client(), &counters)], || {
        node.begin(&[&cluster.place(2)]);
        node.until_followed();
        let before = node.status("/shards/0/slots");
        cluster.reshard(0, 1, 300);
        until("the slots are another's here", || {
            node.status("/shards/0/slots") != before
        });
        until("they are copied", || node.status("/shards/1/copies") == 2);
        node.until_followed();
    });
    assert_eq!(node.status("/moving"), serde_json::Value::Null);
    for (shard, copies) in [(0, 1), (1, 2), (2, 1)] {
        assert_eq!(node.status(&format!("/shards/{shard}/copies")), copies);
    }
    node.is_equal();
    let mut here = node.client();
    counters.are_exact(|line| here.text(line));
}

#[test]
fn servers_sharded_by_hand_are_followed_while_their_keys_differ() {
    let (Some(a), Some(b)) = (Server::redis(&[]), Server::redis(&[])) else {
        return;
    };
    let (mut to_a, mut to_b) = (a.client(), b.client());
    for n in 0..2000 {
        to_a.text(&format!("SET a:{n} {n}"));
        to_b.text(&format!("HSET b:{n} f {n}"));
    }
    let places = [&a, &b].map(|server| format!("127.0.0.1:{}", server.port));
    let mut node = Node::start(&[]);
    let twice = ["plan", "--shard", &places[0], "--shard", &places[0]];
    let refused = node.refused(&twice);
    assert!(refused.contains("stands in the way"), "{refused}");
    node.begin(&["--shard", &places[0], "--shard", &places[1]]);
    node.until_followed();
    node.is_equal();
    // Killed, it goes on with both.
    node.kill_and_start();
    to_a.text("INCR a:count");
    to_b.text("INCR b:count");
    node.until_followed();
    node.is_equal();
    assert_eq!(a.info("sync_full") + &b.info("sync_full"), "11");
    let why = node.refused(&["advance"]);
    assert!(why.contains("known to the application alone"), "{why}");
    // A key that both have is found, and so is one that neither has any more.
    to_a.text("SET b:7 x");
    let listed = node.migrate(&["verify", "--no-fetch", "--keys"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("twice") && text.contains("b:7"), "{text}");
    to_a.text("DEL b:7");
    // One that is emptied has all copied again: whose the keys were is not known.
    assert_eq!(to_a.text("FLUSHALL"), "OK");
    to_a.text("SET a:new 1");
    until("all is copied again", || {
        // (Since it was started again.)
        node.status("/shards/1/copies") == 1 && node.status("/link/follows") == true
    });
    node.is_equal();
    let mut here = node.client();
    assert_eq!(
        (here.text("EXISTS a:1"), here.text("GET a:new")),
        ("0".into(), "1".into())
    );
    assert_eq!(here.text("HGET b:7 f"), "7");
}

#[test]
fn two_servers_with_the_same_key_are_told_which() {
    let (Some(a), Some(b)) = (Server::redis(&[]), Server::redis(&[])) else {
        return;
    };
    a.client().text("SET both 1");
    b.client().text("SET both 2");
    let places = [&a, &b].map(|server| format!("127.0.0.1:{}", server.port));
    let node = Node::start(&[]);
    node.begin(&["--shard", &places[0], "--shard", &places[1]]);
    until("the key is named", || {
        let error = node.status("/link/error").to_string();
        error.contains("the key 'both' is at two of the sources")
    });
    let mut early = Client::raw(node.port()).unwrap();
    assert!(early.text("GET both").starts_with("-LOADING"));
    // The way on: it is removed at one of them.
    b.client().text("DEL both");
    node.until_followed();
    node.is_equal();
    assert_eq!(node.client().text("GET both"), "1");
}

/// In front of a cluster, with clients here and there.
fn in_front(cluster: &Cluster, node: &Node) {
    node.begin(&[&cluster.place(0)]);
    node.until_followed();
    let done = node.done(&["advance"]);
    assert!(done.contains("clients may connect here"), "{done}");
}

#[test]
fn clients_of_a_cluster_are_served_in_front_of_it_while_slots_move() {
    for is_cluster in ["no", "yes"] {
        let Some(mut cluster) = Cluster::start(3) else {
            return;
        };
        let heir = cluster.add_replica(2);
        fill(&cluster, 1000);
        let base = (11_000 + std::process::id() % 400 * 2).to_string();
        let node = Node::start(&["--cluster-enabled", is_cluster, "--core-port-base", &base]);
        in_front(&cluster, &node);
        let (here, there) = (Counters::new("here", 30), Counters::new("there", 30));
        let loads = vec![
            (ClusterClient::at(node.port()), &here),
            (cluster.client(), &there),
        ];
        under_load(loads, || {
            let before = node.status("/shards/1/slots");
            cluster.reshard(0, 1, 150);
            until("the slots are another's here", || {
                node.status("/shards/1/slots") != before
            });
            node.until_followed();
            let failover = cluster.servers[heir].client().text("CLUSTER FAILOVER");
            assert_eq!(failover, "OK");
            let new = cluster.place(heir);
            until("the new primary is followed", || {
                node.status("/shards/2/source") == new.as_str()
            });
            node.until_followed();
            node.done(&["advance"]);
            until("all is compared", || node.status("/verify/passes") != 0);
        });
        node.is_equal();
        let (mut at_node, mut at_source) = (ClusterClient::at(node.port()), cluster.client());
        for counters in [&here, &there] {
            counters.are_exact(|line| at_node.text(line));
            counters.are_exact(|line| at_source.text(line));
        }
        let refused = node.refused(&["advance"]);
        assert!(refused.contains("--old-side written"), "{refused}");
        for phase in ["front", "attach"] {
            node.done(&["back"]);
            assert_eq!(node.status("/phase"), phase);
        }
        assert!(at_node.text("SET x 1").starts_with("-READONLY"));
    }
}

#[test]
fn what_a_client_holds_is_its_own_at_each_shard() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    let node = Node::start(&[]);
    in_front(&cluster, &node);
    let (mut one, mut other) = (node.client(), cluster.client());
    // Keys of all three shards, by one connection.
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(one.text(&format!("SET {key} {key}")), "OK");
        assert_eq!(one.text(&format!("GET {key}")), key);
    }
    until("all is here", || one.text("DBSIZE") == "5");
    // What a cluster refuses is refused.
    for line in ["MSET a 1 b 2", "MGET a b", "SUNION a c"] {
        assert!(one.text(line).starts_with("-CROSSSLOT"), "{line}");
    }
    let all = one.text("FLUSHALL");
    assert!(all.contains("about all shards"), "{all}");
    // Transactions, and keys that are watched.
    for (line, reply) in [
        ("WATCH {t}n", "OK"),
        ("MULTI", "OK"),
        ("INCR {t}n", "QUEUED"),
        ("RPUSH {t}l x", "QUEUED"),
        ("EXEC", "1,1"),
        ("MULTI", "OK"),
        ("INCR a", "QUEUED"),
        ("INCR b", "QUEUED"),
    ] {
        assert_eq!(one.text(line), reply, "{line}");
    }
    let exec = one.text("EXEC");
    assert!(exec.contains("CROSSSLOT"), "{exec}");
    assert_eq!(one.text("WATCH {t}n"), "OK");
    let elsewhere = one.text("WATCH a");
    assert!(
        elsewhere.starts_with("-CROSSSLOT") || elsewhere == "OK",
        "{elsewhere}"
    );
    other.text("INCR {t}n");
    for (line, reply) in [
        ("MULTI", "OK"),
        ("INCR {t}n", "QUEUED"),
        ("EXEC", "NullArray"),
    ] {
        assert_eq!(one.text(line), reply, "{line}");
    }
    // One that blocks is served by its shard.
    std::thread::scope(|scope| {
        let mut blocked = node.client();
        let waits = scope.spawn(move || blocked.text("BLPOP queue 30"));
        until("it waits there", || {
            let all = cluster
                .servers
                .iter()
                .map(|server| server.info("blocked_clients"));
            all.filter(|blocked| blocked == "1").count() == 1
        });
        other.text("RPUSH queue v");
        assert_eq!(waits.join().unwrap(), "queue,v");
    });
    // Killed and started again it is in front again.
    let mut node = node;
    let (port, stops) = (AtomicU16::new(node.port()), AtomicBool::new(false));
    let (known, unknown) = std::thread::scope(|scope| {
        let counts = scope.spawn(|| ClusterClient::count_through(&port, "k", &stops));
        for _ in 0..2 {
            let counted = |cluster: &Cluster| cluster.client().text("GET k");
            let before = counted(&cluster);
            until("it is counted", || counted(&cluster) != before);
            node.kill_and_start();
            port.store(node.port(), Relaxed);
            node.until_followed();
            assert_eq!(node.status("/phase"), "front");
        }
        let before = cluster.client().text("GET k");
        until("it is counted again", || {
            cluster.client().text("GET k") != before
        });
        stops.store(true, Relaxed);
        counts.join().unwrap()
    });
    let counted: u32 = cluster.client().text("GET k").parse().unwrap();
    assert!(
        (known..=known + unknown).contains(&counted),
        "{known} {counted} {unknown}"
    );
    node.is_equal();
    for server in &cluster.servers {
        assert_eq!(server.info("sync_full"), "1");
    }
}
