use std::collections::BTreeSet;

use crate::testing::{Bench, Client};

/// Requests of every command that can run aside, on values that some requests make before them.
const REQUESTS: &str = "
    RPUSH l 3 1 2 3 4 5 6
    SADD s 3 1 2 a b c
    SADD t 3 1 x y
    HSET h f v g w h x
    ZADD z 1 a 2 b 3 c 4 d
    ZADD y 5 a 6 b 7 e
    XADD x 1-1 f v
    XADD x 2-1 f v g w
    SETRANGE str 3000 abcdef
    SETRANGE str2 3000 abcxyz
    PFADD p a b c
    SMEMBERS s
    HGETALL h
    HKEYS h
    HVALS h
    LREM l 1 3
    LINSERT l BEFORE 2 new
    COPY l copied
    DUMP z
    BITCOUNT str
    BITPOS str 1
    GETEX str
    SORT l ALPHA
    SORT l DESC STORE sorted ALPHA
    SORT_RO s ALPHA
    SORT l BY nothing_* GET # GET w_* ALPHA
    SORT l
    LRANGE l 0 -1
    LRANGE l 1 2
    LTRIM l 0 4
    LPOS l 2
    HSCAN h 0 COUNT 100
    SSCAN s 0 COUNT 100
    ZSCAN z 0 COUNT 100
    SRANDMEMBER s 100
    HRANDFIELD h 100
    ZRANDMEMBER z 100
    SINTER s t
    SINTERSTORE made s t
    SINTERCARD 2 s t
    SUNION s t
    SUNIONSTORE made s t
    SDIFF s t
    SDIFFSTORE made s t
    PFMERGE made2 p p
    ZINTER 2 z y
    ZINTERSTORE made 2 z y
    ZINTERCARD 2 z y
    ZUNION 2 z y WITHSCORES
    ZUNIONSTORE made 2 z y
    ZDIFF 2 z y
    ZDIFFSTORE made 2 z y
    BITOP AND made str str2
    GETRANGE str 0 -1
    SUBSTR str 2990 -1
    LCS str str2 LEN
    APPEND str 0123456789012345678901234567890123456789
    SETRANGE str 9000 x
    SETBIT str 100000 1
    BITFIELD str SET u8 110000 7
    XRANGE x - +
    XREVRANGE x + -
    ZRANGE z 0 -1 WITHSCORES
    ZRANGESTORE made z 0 -1
    ZREVRANGE z 0 -1
    ZRANGEBYSCORE z -inf +inf
    ZREVRANGEBYSCORE z +inf -inf
    ZRANGEBYLEX z - +
    ZREVRANGEBYLEX z + -
    ZREMRANGEBYRANK y 0 0
    ZREMRANGEBYSCORE y 6 6
    ZREMRANGEBYLEX y - +
    SET gone v PX 1
    RESTORE restored 0 none
    XTRIM x MAXLEN 1
    XADD x MAXLEN 1 3-1 f v
    LMPOP 1 l LEFT COUNT 2
    ZMPOP 1 z MIN COUNT 2
    RPOP l 100
    LPOP sorted 100
    SPOP s 100
    ZPOPMIN z 100
    ZPOPMAX made 100
    GETSET str2 v
    GETDEL str
    SMEMBERS h
    LRANGE str2 0 -1
";

/// What a client sees of the requests and their events, and how many ran aside of each command.
fn play(cores: usize, steps: u32) -> (Vec<String>, Bench) {
    let mut bench = Bench::with(cores, |config| config.aside_min_steps = steps);
    let (client, listener) = (bench.connect(0), bench.connect(cores - 1));
    bench.call(client, "CONFIG SET notify-keyspace-events KEA");
    bench.call(listener, "PSUBSCRIBE __key*__:*");
    let mut seen = Vec::new();
    for request in lines() {
        let reply = bench.call(client, request);
        let events = String::from_utf8_lossy(&bench.received(listener)).into_owned();
        seen.push(format!("{request} -> {reply} {events}"));
    }
    seen.push(bench.call(client, "DEBUG DIGEST"));
    seen.push(bench.call(client, "DBSIZE"));
    bench.check();
    (seen, bench)
}

fn lines() -> impl Iterator<Item = &'static str> {
    REQUESTS
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
}

fn asides(bench: &mut Bench, client: Client) -> u64 {
    let info = bench.call(client, "INFO meridian");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("requests_aside:"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_request_that_runs_aside_does_what_it_does_inline() {
    for cores in 1..=2 {
        let (inline, _) = play(cores, 0);
        let (aside, mut bench) = play(cores, 1);
        for (inline, aside) in inline.iter().zip(&aside) {
            assert_eq!(inline, aside, "{cores} cores");
        }
        let client = bench.connect(0);
        let asides = asides(&mut bench, client);
        assert!(asides > 60, "{asides} on {cores} cores");
    }
}

#[test]
fn every_command_with_a_cost_is_played() {
    let table = crate::table::Table::build(&crate::config::Config::default());
    let known: BTreeSet<String> = lines()
        .filter_map(|line| Some(line.split(' ').next()?.to_lowercase()))
        .collect();
    for row in table.rows().iter().filter(|row| row.cost.is_some()) {
        assert!(known.contains(row.spec.name), "{}", row.spec.name);
    }
}

#[test]
fn a_queue_that_runs_aside_does_what_it_does_inline() {
    let run = |steps: u32| {
        let mut bench = Bench::with(1, |config| config.aside_min_steps = steps);
        let client = bench.connect(0);
        let mut seen = Vec::new();
        for request in ["WATCH l", "MULTI"]
            .into_iter()
            .chain(lines().filter(|l| *l != "SMEMBERS s"))
        {
            seen.push(bench.call(client, request));
        }
        seen.push(bench.call(client, "EXEC"));
        seen.push(bench.call(client, "DEBUG DIGEST"));
        bench.check();
        (seen, asides(&mut bench, client))
    };
    let (inline, none) = run(0);
    let (aside, _) = run(1);
    assert_eq!(inline, aside);
    assert_eq!(none, 0);
}

/// A bench of one core with a set `s` and a key `k` of other slots, whose client 0 has just sent a long request that is held aside.
fn held(request: &str) -> (Bench, [Client; 3]) {
    let mut bench = Bench::with(1, |config| config.aside_min_steps = 2);
    let clients = core::array::from_fn(|_| bench.connect(0));
    bench.call(clients[0], "SADD s 1 2 3");
    bench.call(clients[0], "SET k v");
    bench.holds_aside = true;
    assert_eq!(bench.call(clients[0], request), "");
    (bench, clients)
}

fn text(bench: &mut Bench, client: Client) -> String {
    String::from_utf8_lossy(&bench.received(client)).replace("\r\n", " ")
}

#[test]
fn others_go_on_and_those_of_its_slots_wait() {
    let (mut bench, [first, second, third]) = held("SORT s DESC");
    assert_eq!(bench.call(second, "GET k"), "$1\r\nv\r\n");
    assert_eq!(bench.call(second, "SADD s 4"), "");
    assert_eq!(bench.call(third, "DBSIZE"), "");
    bench.send(first, b"PING\r\nSCARD s\r\n");
    assert_eq!(text(&mut bench, first), "");
    bench.release_aside();
    assert_eq!(text(&mut bench, first), "*3 $1 3 $1 2 $1 1 +PONG :4 ");
    assert_eq!(text(&mut bench, second), ":1 ");
    assert_eq!(text(&mut bench, third), ":2 ");
}

#[test]
fn who_waits_while_a_copy_begins_is_refused() {
    for request in [
        "SADD s 4",
        "DBSIZE",
        "SUNIONSTORE t s k",
        "BLPOP s k 0",
        "EVAL return{redis.call('scard',KEYS[1])} 2 s k",
    ] {
        let (mut bench, [first, second, third]) = held("SORT s DESC");
        bench.call(third, "MULTI");
        bench.call(third, "SADD s 5");
        bench.call(third, "GET k");
        assert_eq!(bench.call(second, request), "");
        assert_eq!(bench.call(third, "EXEC"), "");
        bench.node().loading.begin(1);
        bench.tell_authority();
        bench.release_aside();
        let loading = "LOADING Redis is loading the dataset in memory ";
        assert_eq!(text(&mut bench, first), "*3 $1 3 $1 2 $1 1 ");
        assert_eq!(text(&mut bench, second), format!("-{loading}"), "{request}");
        let aborted = format!("-EXECABORT Transaction discarded because of: {loading}");
        assert_eq!(text(&mut bench, third), aborted);
        // The connections go on; nothing has been done.
        bench.node().loading.end();
        bench.tell_authority();
        assert_eq!(bench.call(third, "SCARD s"), ":3\r\n");
        assert_eq!(bench.call(second, "EXISTS t k"), ":1\r\n");
        bench.check();
    }
}

#[test]
fn what_is_counted_stays_counted_while_it_is_away() {
    let (mut bench, [_, second, _]) = held("SMEMBERS s");
    let info = bench.call(second, "INFO keyspace");
    assert!(info.contains("keys=2,"), "{info}");
}

#[test]
fn its_client_goes_away() {
    for kills in [false, true] {
        let (mut bench, [first, second, _]) = held("SORT s STORE t");
        if kills {
            bench.call(second, "CLIENT KILL TYPE normal");
        } else {
            bench.close(first);
        }
        bench.release_aside();
        assert_eq!(bench.call(second, "LLEN t"), ":3\r\n");
        assert!(!kills || bench.is_closed(first));
        bench.check();
    }
}

#[test]
fn the_whole_keyspace_changes_after_it() {
    for (request, left) in [
        ("FLUSHALL", ":0\r\n"),
        ("SWAPDB 0 1", ":0\r\n"),
        ("FLUSHDB ASYNC", ":0\r\n"),
    ] {
        let (mut bench, [first, second, third]) = held("SORT s");
        assert_eq!(bench.call(second, request), "");
        assert_eq!(bench.call(third, "SADD s 9"), "");
        bench.release_aside();
        assert_eq!(text(&mut bench, first), "*3 $1 1 $1 2 $1 3 ");
        assert_eq!(text(&mut bench, second), "+OK ");
        assert_eq!(text(&mut bench, third), ":1 ", "it came before");
        assert_eq!(bench.call(second, "DBSIZE"), left);
        bench.check();
    }
}

#[test]
fn transactions_and_scripts_wait_for_its_slots() {
    let (mut bench, [_, second, third]) = held("SORT s");
    for request in ["MULTI", "GET k", "SREM s 1"] {
        bench.call(second, request);
    }
    assert_eq!(bench.call(second, "EXEC"), "");
    let script = ["EVAL", "return redis.call('SCARD', 's')", "0"];
    let mut request = Vec::new();
    protocol::request::encode(&script, &mut request);
    bench.send(third, &request);
    assert_eq!(text(&mut bench, third), "");
    bench.release_aside();
    assert_eq!(text(&mut bench, second), "*2 $1 v :1 ");
    assert_eq!(text(&mut bench, third), ":2 ");
}

#[test]
fn watchers_waiters_and_trackers_hear_of_what_it_did() {
    let mut bench = Bench::with(1, |config| config.aside_min_steps = 2);
    let [writer, watcher, waiter, tracker] = core::array::from_fn(|_| bench.connect(0));
    bench.call(writer, "SADD s 1 2 3");
    bench.call(watcher, "WATCH made");
    bench.call(watcher, "MULTI");
    bench.call(watcher, "PING");
    bench.call(tracker, "HELLO 3");
    bench.call(tracker, "CLIENT TRACKING ON");
    bench.call(tracker, "GET made");
    assert_eq!(bench.call(waiter, "BLPOP made 0"), "");
    bench.call(writer, "SORT s STORE made");
    assert_eq!(bench.call(watcher, "EXEC"), "*-1\r\n");
    assert_eq!(text(&mut bench, waiter), "*2 $4 made $1 1 ");
    assert_eq!(text(&mut bench, tracker), ">2 $10 invalidate *1 $4 made ");
    assert!(asides(&mut bench, writer) > 0);
    let slow = bench.call(writer, "INFO commandstats");
    assert!(slow.contains("cmdstat_sort:calls=1,"), "{slow}");
}

#[test]
fn a_watch_begun_while_it_runs_is_not_sure_of_its_key() {
    let (mut bench, [_, second, _]) = held("SORT s");
    assert_eq!(bench.call(second, "WATCH s"), "+OK\r\n");
    bench.call(second, "MULTI");
    bench.call(second, "SCARD s");
    assert_eq!(bench.call(second, "EXEC"), "");
    bench.release_aside();
    assert_eq!(text(&mut bench, second), "*-1 ");
}

#[test]
fn a_stopping_node_waits_for_it() {
    let (mut bench, [first, second, _]) = held("SORT s");
    bench.call(second, "SHUTDOWN NOSAVE");
    assert!(!bench.has_stopped());
    bench.release_aside();
    bench.advance(10);
    assert!(text(&mut bench, first).starts_with("*3 "));
    assert!(bench.has_stopped());
}

#[test]
fn large_replies_come_in_order_behind_others() {
    for cores in 1..=2 {
        let mut bench = Bench::with(cores, |config| config.aside_min_steps = 1000);
        let [writer, reader] = [bench.connect(0), bench.connect(cores - 1)];
        let element = "e".repeat(100);
        let words = vec![element.as_str(); 1000].join(" ");
        for _ in 0..2 {
            bench.call(writer, &format!("RPUSH l {words}"));
        }
        bench.send(
            reader,
            b"GET none\r\nPING\r\nLRANGE l 0 -1\r\nPING\r\nLRANGE l 0 1999\r\nGET none\r\n",
        );
        let list = format!("*2000\r\n{}", format!("$100\r\n{element}\r\n").repeat(2000));
        let expected = format!("$-1\r\n+PONG\r\n{list}+PONG\r\n{list}$-1\r\n");
        assert!(bench.received(reader) == expected.as_bytes());
        bench.call(reader, "CLIENT REPLY SKIP");
        assert_eq!(bench.call(reader, "LRANGE l 0 -1"), "");
        assert_eq!(bench.call(reader, "PING"), "+PONG\r\n");
    }
}

/// SMOVE waited for the slot that was away, and what its client asked behind it of the other slot was answered before it ran.
#[test]
fn nothing_passes_a_request_of_several_keys_that_waits() {
    for (cores, from) in [(1, 0), (2, 0), (2, 1)] {
        let mut bench = Bench::with(cores, |config| config.aside_min_steps = 2);
        let [client, other] = [bench.connect(from), bench.connect(0)];
        let names = (0..).map(|n| format!("s{n}"));
        let here: Vec<String> = names
            .filter(|name| bench.owner_of(name.as_bytes()) == 0)
            .take(2)
            .collect();
        let [a, b] = [&here[0], &here[1]];
        bench.call(other, &format!("SADD {a} 1 2 3"));
        bench.holds_aside = true;
        assert_eq!(bench.call(other, &format!("SORT {a} DESC")), "");
        let requests = format!(
            "SMOVE {a} {b} 1\r\nSCARD {b}\r\nSMOVE {b} {a} 1\r\nSCARD {b}\r\nEXISTS {b}\r\n"
        );
        bench.send(client, requests.as_bytes());
        assert_eq!(text(&mut bench, client), "");
        assert_eq!(
            bench.call(other, &format!("EXISTS {b}")),
            "",
            "it is behind SORT"
        );
        bench.release_aside();
        assert_eq!(text(&mut bench, client), ":1 :1 :1 :0 :0 ");
        bench.check();
    }
}

#[test]
fn keys_walks_in_slices() {
    for cores in 1..=2 {
        let mut bench = Bench::with(cores, |config| config.aside_min_steps = 100);
        let client = bench.connect(0);
        let names: Vec<String> = (0..3000).map(|n| format!("key:{n}")).collect();
        let same_slot: Vec<String> = (0..3000).map(|n| format!("{{t}}:{n}")).collect();
        for name in names.iter().chain(&same_slot) {
            bench.call(client, &format!("SET {name} v"));
        }
        for (pattern, all) in [("key:*", &names), ("{t}*", &same_slot)] {
            let reply = bench.call(client, &format!("KEYS {pattern}"));
            let mut found: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).collect();
            found.sort_unstable();
            let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
            all.sort_unstable();
            assert!(reply.starts_with("*3000\r\n"));
            assert!(found == all, "{cores} cores");
        }
        assert_eq!(bench.call(client, "KEYS none*"), "*0\r\n");
    }
}
