//! Every class of commands, beside the same requests straight to another redis-server: the replies are the same.

use std::sync::atomic::Ordering::Relaxed;

use migration::Authority;
use node::config::{Config, Io};
use node::front::Upstream;

use crate::harness::{Here, Redis, free_port, wait_for};

/// Requests whose replies must be those of Redis, one after the other.
const SCRIPT: &[&str] = &[
    "SET a 1",
    "GET a",
    "INCR a",
    "INCRBYFLOAT a 0.5",
    "APPEND a x",
    "GETDEL a",
    "GET a",
    "SET lock me NX PX 60000",
    "SET lock you NX PX 60000",
    "GET lock",
    "DEL lock",
    "MSET x 1 y 2 z 3",
    "MGET x y z none",
    "DBSIZE",
    "EXISTS x y",
    "TYPE x",
    "OBJECT ENCODING x",
    "RPUSH q 1 2 3",
    "LPOP q",
    "RPOP q 5",
    "LRANGE q 0 -1",
    "BLPOP q 0.05",
    "BLMPOP 0.05 1 q LEFT",
    "RPUSH q 7",
    "BLPOP none q 1",
    "BLMOVE none q2 LEFT RIGHT 0.05",
    "BRPOPLPUSH none q2 0.05",
    "SADD s 1 2 3",
    "SPOP s 3",
    "SMEMBERS s",
    "SADD one m",
    "SPOP one",
    "ZADD zs 1 a 2 b",
    "ZPOPMIN zs",
    "BZPOPMAX zs 1",
    "BZPOPMIN zs 0.05",
    "ZADD zs GT CH 5 a",
    "HSET h f 1",
    "HINCRBY h f 5",
    "HINCRBYFLOAT h f 1.5",
    "HGETALL h",
    "HRANDFIELD none 3",
    "EVAL redis.call('set',KEYS[1],ARGV[1]);return{redis.call('get',KEYS[1]),1.5,false} 1 ek v",
    "SCRIPT LOAD return{KEYS[1],ARGV[1]}",
    "EVALSHA 9fcd4ee5e8efbd8c4efe18c7e2c19cc41db1b4c1 0",
    "EVAL return{1,{ok='fine'},{err='ERR_no'}} 0",
    "EVAL_RO return(redis.call('get','ek')) 1 ek",
    "FCALL none 0",
    "XADD st 1-1 f v",
    "XGROUP CREATE st g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS st >",
    "XREADGROUP GROUP g c BLOCK 30 STREAMS st >",
    "XACK st g 1-1",
    "XADD st 1-1 f v",
    "XLEN st",
    "XREAD BLOCK 30 STREAMS st $",
    "XREAD COUNT 1 STREAMS st 0",
    "XPENDING st g",
    "EXPIRE x 100",
    "TTL x",
    "PERSIST x",
    "PEXPIREAT y 1",
    "GET y",
    "GETEX x EX 50",
    "RENAME x x2",
    "COPY x2 x3",
    "PFADD hll a b c",
    "PFCOUNT hll",
    "SETBIT bits 7 1",
    "BITFIELD bits INCRBY u8 0 1",
    "GEOADD geo 13 38 p",
    "GEOSEARCH geo FROMMEMBER p BYRADIUS 1 km",
    "SORT zs ALPHA STORE sorted",
    "PUBLISH channel hello",
    "WAIT 0 10",
    "WAIT 1 20",
    "INCR h",
    "LPUSH z x",
    "SELECT 3",
    "SET d3 v",
    "GET d3",
    "DBSIZE",
    "MOVE d3 4",
    "SELECT 4",
    "GET d3",
    "SWAPDB 3 4",
    "EXISTS d3",
    "SELECT 3",
    "EXISTS d3",
    "FLUSHDB",
    "SELECT 0",
    "DBSIZE",
    "MULTI",
    "SET m 1",
    "INCR m",
    "GET m",
    "LPUSH m x",
    "EXEC",
    "MULTI",
    "SET m",
    "GET m",
    "EXEC",
    "MULTI",
    "EXEC",
    "EXEC",
    "DISCARD",
    "MULTI",
    "GET m",
    "DISCARD",
    "WATCH m",
    "MULTI",
    "INCR m",
    "EXEC",
    "WATCH m",
    "SET m 9",
    "MULTI",
    "INCR m",
    "EXEC",
    "GET m",
    "WATCH m",
    "SET m 10",
    "UNWATCH",
    "MULTI",
    "INCR m",
    "EXEC",
    "WATCH m",
    "SET m 1",
    "MULTI",
    "DISCARD",
    "MULTI",
    "INCR m",
    "EXEC",
    "MULTI",
    "SELECT 2",
    "SET two 2",
    "EXEC",
    "GET two",
    "SELECT 0",
    "GET two",
    "MULTI",
    "BLPOP none 0",
    "PING",
    "EXEC",
    "SET a b c d",
    "NOSUCH a",
    "GET",
    "RANDOMKEY x",
    "FLUSHALL",
    "DBSIZE",
    "RANDOMKEY",
    "KEYS *",
    "CLIENT GETNAME",
    "ECHO hi",
    "PING",
];

/// Against redis-server, and both ways of speaking, by one core and two, by both ways of I/O.
#[test]
fn replies_are_those_of_redis() {
    for (cores, io, hello) in [(1, Io::Epoll, None), (2, Io::Auto, Some("HELLO 3"))] {
        let (source, reference) = (Redis::start(&[]), Redis::start(&[]));
        let here = Here::before(cores, io, &source);
        let (mut one, mut other) = (here.client(), reference.client());
        if let Some(hello) = hello {
            one.call(hello);
            other.call(hello);
        }
        for request in SCRIPT {
            assert_eq!(one.call(request), other.call(request), "{request}");
        }
        // The same at once: nothing overtakes anything.
        one.send(SCRIPT);
        other.send(SCRIPT);
        for request in SCRIPT {
            assert_eq!(one.reply(), other.reply(), "{request} in a pipeline");
        }
        assert!(here.node.front.passed_on.load(Relaxed) > SCRIPT.len() as u64);
        wait_for("nothing is under way", || {
            node::front::in_flight(here.node) == 0
        });
    }
}

#[test]
fn reads_are_answered_here_once_the_stream_has_come_so_far() {
    let source = Redis::start(&[]);
    let _replica = source.replica();
    let here = Here::start(2, Io::Auto);
    let mut reader = here.client();
    let mut writer = here.client();
    for n in 0..20 {
        assert_eq!(reader.call(&format!("SET k{n} here")), "+OK");
    }
    here.follow(&source);
    here.release(Authority::Front);
    // Nothing has been applied: what is here may be anything.
    assert_eq!(reader.call("GET k1"), "nil");
    here.node.source.set_applied(1);
    assert_eq!(here.client().call("GET k1"), "here", "who has seen nothing");
    let scans = |client: &mut crate::harness::Client| client.call("SCAN 0 COUNT 100 MATCH k*");
    assert!(scans(&mut here.client()).contains("k19"));
    assert_eq!(writer.call("SET k1 there"), "+OK");
    assert_eq!(writer.call("GET k1"), "there", "its own write");
    // (A stream that has come further than any offset.)
    here.node.source.set_applied(u64::MAX - 1);
    wait_for("the offset of the write is known", || {
        here.client().call("GET k1") == "here" && here.node.front.under_way.load(Relaxed) == 0
    });
    let mut watching = here.client();
    assert_eq!(watching.call("WATCH k1"), "+OK");
    assert_eq!(watching.call("GET k1"), "there", "not older than the watch");
    assert_eq!(watching.call("UNWATCH"), "+OK");
    // Reads alone are a transaction of this node; with a write it is the source's.
    let mut fresh = here.client();
    fresh.send(&[
        "MULTI",
        "GET k1",
        "MGET k2 k3",
        "EXEC",
        "MULTI",
        "GET k1",
        "INCR n",
        "EXEC",
    ]);
    let replies: Vec<String> = (0..8).map(|_| fresh.reply()).collect();
    assert_eq!(replies[3], "[here [here here]]");
    assert_eq!(replies[7], "[there :1]");
    assert!(here.node.front.answered_here.load(Relaxed) > 0);
    // An offset of another history says nothing.
    here.node
        .front
        .set_history("0123456789012345678901234567890123456789");
    assert_eq!(fresh.call("SET k1 there"), "+OK");
    assert_eq!(fresh.call("GET k1"), "there");
    let history = source.client().call("INFO replication");
    let history = history
        .lines()
        .find_map(|line| line.strip_prefix("master_replid:"));
    here.node.front.set_history(history.unwrap().trim());
    wait_for("the right one is known", || fresh_reads_here(&mut fresh));
    // What only this node may say is not sent to the source inside a transaction.
    let reply = |client: &mut crate::harness::Client| {
        client.send(&["MULTI", "SET a 1", "CONFIG SET maxmemory 1", "EXEC"]);
        (0..3).for_each(|_| drop(client.reply()));
        client.reply()
    };
    assert!(reply(&mut fresh).starts_with("-EXECABORT"));
    assert_eq!(fresh.call("EXISTS a"), ":0");
}

/// Whether a client is answered here, as it is some time after its last request that was passed on.
fn fresh_reads_here(client: &mut crate::harness::Client) -> bool {
    client.call("GET k1") == "here"
}

/// A scan's cursor is of the node that gave it: it waits for the stream, and does not go to the source.
#[test]
fn a_scan_waits_for_the_stream() {
    let source = Redis::start(&[]);
    let _replica = source.replica();
    let here = Here::before(2, Io::Auto, &source);
    here.node.source.set_applied(1);
    let mut client = here.client();
    assert_eq!(client.call("SET a 1"), "+OK");
    assert_eq!(client.call("GET a"), "1");
    client.send(&["SCAN 0"]);
    here.node.source.set_applied(u64::MAX - 1);
    assert_eq!(client.reply(), "[0 []]");
    here.node.source.set_applied(0);
    assert!(
        client.call("SCAN 0").starts_with("-MASTERDOWN"),
        "not for ever"
    );
    assert_eq!(client.call("PING"), "+PONG");
}

#[test]
fn who_blocks_is_served_by_the_source() {
    let source = Redis::start(&[]);
    let here = Here::before(2, Io::Auto, &source);
    let (mut straight, mut other) = (source.client(), here.client());
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut blocked = here.client();
        blocked.call(hello);
        let table = [
            ("BLPOP q 0", "RPUSH q v", "[q v]"),
            ("BLMOVE q r LEFT LEFT 0", "RPUSH q v2", "v2"),
            ("BZPOPMIN z 0", "ZADD z 1 m", ""),
        ];
        for (waits, serves, reply) in table {
            blocked.send(&[waits, "INCR after"]);
            wait_for("it blocks", || {
                source
                    .client()
                    .call("INFO clients")
                    .contains("blocked_clients:1")
            });
            assert_eq!(other.call("EXISTS after"), ":0", "what follows waits");
            assert_eq!(straight.call(serves), ":1");
            let served = blocked.reply();
            assert!(served == reply || reply.is_empty(), "{served}");
            assert_eq!(blocked.reply(), ":1");
            assert_eq!(straight.call("DEL after"), ":1");
        }
    }
    // CLIENT UNBLOCK, and a client that goes.
    let mut blocked = here.client();
    let id = blocked.call("CLIENT ID");
    blocked.send(&["BLPOP q 0"]);
    let is_blocked = |is: usize| {
        let info = source.client().call("INFO clients");
        info.contains(&format!("blocked_clients:{is}\r"))
    };
    wait_for("it blocks", || is_blocked(1));
    let unblock = format!("CLIENT UNBLOCK {} ERROR", id.trim_start_matches(':'));
    assert_eq!(other.call(&unblock), ":1");
    assert!(blocked.reply().starts_with("-UNBLOCKED"));
    blocked.send(&["BLPOP q 0"]);
    wait_for("it blocks", || is_blocked(1));
    drop(blocked);
    wait_for("its connection is closed", || is_blocked(0));
    assert_eq!(straight.call("RPUSH q kept"), ":1");
    assert_eq!(straight.call("LLEN q"), ":1");
}

#[test]
fn a_connection_at_the_source_is_the_clients_own() {
    let source = Redis::start(&["--requirepass", "secret"]);
    let here = Here::start(2, Io::Auto);
    let mut upstream = source.upstream();
    upstream.password = "wrong".to_owned();
    here.node.front.set_upstream(Some(upstream.clone().into()));
    here.release(Authority::Front);
    let mut client = here.client();
    let reply = client.call("SET a 1");
    assert!(
        reply.starts_with("-MASTERDOWN") && reply.contains("WRONGPASS"),
        "{reply}"
    );
    upstream.password = "secret".to_owned();
    here.node.front.set_upstream(Some(upstream.into()));
    client.call("CLIENT SETNAME worker");
    assert_eq!(client.call("SET a 1"), "+OK");
    let mut straight = source.client();
    assert_eq!(straight.call("AUTH secret"), "+OK");
    assert!(straight.call("CLIENT LIST").contains("name=worker"));
    // The protocol and the database change as the client wants.
    assert!(client.call("HELLO 3").contains("proto=:3"));
    assert_eq!(client.call("HSET h f v"), ":1");
    assert_eq!(client.call("HGETALL h"), "%[f=v]");
    assert!(client.call("HELLO 2").contains("proto :2"));
    assert_eq!(client.call("HGETALL h"), "[f v]");
    assert_eq!(straight.call("CONFIG SET maxmemory 1"), "+OK");
    assert!(
        client.call("SET b 1").starts_with("-OOM"),
        "the source's own errors"
    );
    assert_eq!(straight.call("CONFIG SET maxmemory 0"), "+OK");
    // Large values and replies.
    let large = "x".repeat(3_000_000);
    assert_eq!(client.call(&format!("SET large {large}")), "+OK");
    assert_eq!(client.call("STRLEN large"), ":3000000");
    client.send(&["GET large", "INCR n", "GET large"]);
    assert!(client.reply() == large && client.reply() == ":1" && client.reply() == large);
    let count = here.node.front.upstreams.load(Relaxed);
    assert_eq!(count, 1);
    drop(client);
    wait_for("it is closed", || {
        here.node.front.upstreams.load(Relaxed) == 0
    });
}

/// What the source has answered is not known to its tracking: the client must not keep it.
#[test]
fn a_client_that_tracks_keeps_only_what_was_read_here() {
    let source = Redis::start(&[]);
    let here = Here::before(2, Io::Auto, &source);
    let mut client = here.client();
    client.call("HELLO 3");
    assert_eq!(client.call("CLIENT TRACKING ON"), "+OK");
    assert_eq!(client.call("GET k"), "nil");
    let pushed = client.reply();
    assert!(
        pushed.contains("invalidate") || pushed.contains("Push"),
        "{pushed}"
    );
}

/// A source that speaks TLS, under a user of its own: another server of this kind.
#[test]
fn a_source_may_ask_for_tls_and_a_user() {
    let folder = std::env::temp_dir().join(format!("meridian-front-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    crate::certificates::write(&folder, "ca", &["own"]);
    let path = |name: &str| folder.join(name).display().to_string();
    let tls_port = free_port();
    let with_tls = |config: &mut Config| {
        config.tls_ca_cert_file = path("ca.pem");
        config.tls_cert_file = path("own.pem");
        config.tls_key_file = path("own.key");
    };
    let source = Here::with(1, Io::Epoll, |config| {
        with_tls(config);
        config.tls_port = tls_port;
    });
    let mut admin = source.client();
    assert_eq!(
        admin.call("ACL SETUSER mover on >secret ~* &* +@all"),
        "+OK"
    );
    let here = Here::with(2, Io::Auto, with_tls);
    here.node
        .front
        .set_upstream(Some(std::sync::Arc::new(Upstream {
            host: "localhost".to_owned(),
            port: tls_port,
            user: "mover".to_owned(),
            password: "secret".to_owned(),
            tls: true,
        })));
    here.release(Authority::Front);
    let mut client = here.client();
    let large = "y".repeat(1_000_000);
    client.send(&[
        format!("SET k {large}"),
        "INCR n".to_owned(),
        "GET k".to_owned(),
    ]);
    assert_eq!([client.reply(), client.reply()], ["+OK", ":1"]);
    assert!(client.reply() == large);
    assert!(admin.call("CLIENT LIST").contains("user=mover"));
    client.send(&["BLPOP q 0"]);
    wait_for("it blocks", || {
        source
            .client()
            .call("INFO clients")
            .contains("blocked_clients:1\r")
    });
    here.hold();
    here.unblock();
    here.drain();
    here.release(Authority::Front);
    wait_for("it blocks again", || {
        source
            .client()
            .call("INFO clients")
            .contains("blocked_clients:1\r")
    });
    assert_eq!(admin.call("RPUSH q v"), ":1");
    assert_eq!(client.reply(), "[q v]");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Pipelines of requests at random, cut anywhere: the replies are those of Redis, in their order.
#[test]
fn random_pipelines_keep_their_order() {
    const ROUNDS: usize = 60;
    const KINDS: [&str; 16] = [
        "SET k{} {}",
        "GET k{}",
        "INCR n{}",
        "LPUSH l{} {}",
        "LPOP l{}",
        "LRANGE l{} 0 -1",
        "PING",
        "ECHO {}",
        "MULTI",
        "EXEC",
        "SELECT {}",
        "WATCH k{}",
        "UNWATCH",
        "BLPOP l{} 0.001",
        "HSET h{} f {}",
        "DISCARD",
    ];
    let (source, reference) = (Redis::start(&[]), Redis::start(&[]));
    let here = Here::before(2, Io::Auto, &source);
    let mut seed = 12345u64;
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..ROUNDS {
        let (mut one, mut other) = (here.client(), reference.client());
        for _ in 0..4 {
            let requests: Vec<String> = (0..40)
                .map(|_| {
                    let kind = KINDS[random(KINDS.len() as u64) as usize];
                    let text = kind.replacen("{}", &random(3).to_string(), 1);
                    text.replacen("{}", &random(1000).to_string(), 1)
                })
                .collect();
            one.send(&requests);
            other.send(&requests);
            for (at, request) in requests.iter().enumerate() {
                let replies = (one.reply(), other.reply());
                assert_eq!(replies.0, replies.1, "{request} at {at} of {requests:?}");
            }
        }
    }
}
