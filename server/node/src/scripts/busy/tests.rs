//! Scripts beside the cores: who is told BUSY, what stops them, and that they do what they do on a core.

use crate::testing::{Bench, Client};

const OF_SCRIPT: &str =
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.~";
const OF_FUNCTION: &str =
    "-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.~";
const THRESHOLD_MS: u64 = 5000;

fn text(bench: &mut Bench, client: Client) -> String {
    String::from_utf8_lossy(&bench.received(client)).replace("\r\n", "~")
}

fn call(bench: &mut Bench, client: Client, words: &[&str]) -> String {
    let mut request = Vec::new();
    protocol::request::encode(words, &mut request);
    bench.send(client, &request);
    text(bench, client)
}

/// From now on the node takes a script for one that runs for long.
fn mark_script(bench: &mut Bench, client: Client, body: &str) {
    call(bench, client, &["SCRIPT", "LOAD", body]);
    let sha = script::sha1_hex(body.as_bytes());
    let script = bench.node().scripting.cache().find(&sha);
    script.expect("just loaded").set_long(true);
}

fn mark_function(bench: &mut Bench, client: Client, name: &str, body: &str) {
    let code = format!(
        "#!lua name=lib\nredis.register_function('{name}', function(keys, args) {body} end)"
    );
    call(bench, client, &["FUNCTION", "LOAD", "REPLACE", &code]);
    let libraries = bench.node().scripting.libraries();
    let (library, _) = libraries.function(name.as_bytes()).expect("just loaded");
    library.set_long(name, true);
}

/// A bench whose client 0 has just sent a script (or a function of this body) that is held beside the cores, before it has done
/// anything; the others are connected to all cores.
fn held(cores: usize, of_function: bool, body: &str) -> (Bench, Client, Vec<Client>) {
    let mut bench = Bench::new(cores);
    let first = bench.connect(0);
    let others = (0..6).map(|n| bench.connect(n % cores)).collect();
    bench.advance(60_000);
    let reply = if of_function {
        mark_function(&mut bench, first, "f", body);
        bench.holds_aside = true;
        call(&mut bench, first, &["FCALL", "f", "1", "k"])
    } else {
        mark_script(&mut bench, first, body);
        bench.holds_aside = true;
        call(&mut bench, first, &["EVAL", body, "1", "k"])
    };
    assert_eq!(reply, "");
    (bench, first, others)
}

#[test]
fn others_wait_and_are_told_busy_from_the_threshold_on() {
    for cores in 1..=3 {
        for of_function in [false, true] {
            let body = "redis.call('set', 'k', 'x') return redis.call('get', 'k')";
            let (mut bench, first, others) = held(cores, of_function, body);
            let busy = if of_function { OF_FUNCTION } else { OF_SCRIPT };
            let abort = format!(
                "-EXECABORT Transaction discarded because of: {}",
                &busy[1..]
            );
            // Until then they wait for its slots, if they need any.
            assert_eq!(bench.call(others[0], "PING"), "+PONG\r\n");
            bench.send(others[0], b"GET k\r\nPING\r\n");
            assert_eq!(bench.call(others[1], "MSET a 1 b 2 c 3"), "");
            assert_eq!(bench.call(others[2], "DBSIZE"), "");
            assert_eq!(bench.call(others[3], "BLPOP l m 0"), "");
            assert_eq!(
                call(&mut bench, others[4], &["EVAL", "return 1", "1", "z"]),
                ""
            );
            bench.send(others[5], b"MULTI\r\nINCR n\r\n");
            assert_eq!(text(&mut bench, others[5]), "+OK~+QUEUED~");
            assert_eq!(bench.call(others[5], "EXEC"), "");
            for kill in ["SCRIPT KILL", "FUNCTION KILL"] {
                let none = "-NOTBUSY No scripts in execution right now.\r\n";
                let client = bench.connect(cores - 1);
                assert_eq!(bench.call(client, kill), none);
            }
            bench.advance(THRESHOLD_MS - 1);
            assert_eq!(text(&mut bench, others[0]), "");
            bench.advance(1);
            assert_eq!(
                text(&mut bench, others[0]),
                format!("{busy}+PONG~"),
                "{cores} cores"
            );
            for other in &others[1..5] {
                assert_eq!(text(&mut bench, *other), busy, "{cores} cores");
            }
            assert_eq!(text(&mut bench, others[5]), abort);
            // What is for such times goes on, all else is refused at once.
            let client = others[cores - 1];
            for request in [
                "PING",
                "GET k",
                "INFO",
                "EVAL x 0",
                "CONFIG GET x",
                "KEYS *",
                "BLPOP k 0",
                "SHUTDOWN",
            ] {
                assert_eq!(
                    bench.call(client, request).replace("\r\n", "~"),
                    busy,
                    "{request}"
                );
            }
            for (request, reply) in [
                ("MULTI", "+OK~"),
                ("INCR n", busy),
                ("EXEC", &abort),
                ("MULTI", "+OK~"),
                ("DISCARD", "+OK~"),
                ("WATCH k", "+OK~"),
                ("UNWATCH", "+OK~"),
                ("RESET", "+RESET~"),
                (
                    "NOSUCH",
                    "-ERR unknown command 'NOSUCH', with args beginning with: ~",
                ),
                ("GET", "-ERR wrong number of arguments for 'get' command~"),
            ] {
                assert_eq!(bench.call(client, request).replace("\r\n", "~"), reply);
            }
            let stats = bench.call(client, "FUNCTION STATS").replace("\r\n", "~");
            if of_function {
                assert!(
                    stats.contains(
                        "$1~f~$7~command~*4~$5~FCALL~$1~f~$1~1~$1~k~$11~duration_ms~:5000~"
                    ),
                    "{stats}"
                );
                assert_eq!(call(&mut bench, client, &["SCRIPT", "KILL"]), busy);
            } else {
                assert_eq!(stats, busy);
                assert_eq!(call(&mut bench, client, &["FUNCTION", "KILL"]), busy);
            }
            bench.call(others[5], "MULTI");
            bench.release_aside();
            assert_eq!(text(&mut bench, first), "$1~x~");
            assert_eq!(
                bench.call(client, "MGET k n a"),
                "*3\r\n$1\r\nx\r\n$-1\r\n$-1\r\n"
            );
            assert_eq!(bench.call(others[5], "EXEC"), "*0\r\n");
            bench.check();
        }
    }
}

#[test]
fn one_that_is_found_long_moves_and_is_killed_from_any_core() {
    for cores in 1..=2 {
        for of_function in [false, true] {
            let mut bench = Bench::with(cores, |config| config.busy_reply_threshold_ms = 2);
            let [first, other] = [bench.connect(0), bench.connect(cores - 1)];
            bench.advance(60_000);
            bench.call(first, "SET k old");
            for n in 0..300 {
                bench.call(first, &format!("RPUSH large {n}"));
            }
            let digest = bench.call(first, "DEBUG DIGEST");
            let body = "redis.call('set', 'k', 'new') redis.call('del', 'large') redis.call('publish', 'c', 'x')
                while true do pcall(function() while true do redis.call('incr', 'n') end end) end";
            bench.call(other, "SUBSCRIBE c");
            let killer = bench.connect(cores - 1);
            bench.holds_aside = true;
            let (words, kill) = if of_function {
                let code =
                    format!("#!lua name=lib\nredis.register_function('f', function() {body} end)");
                call(&mut bench, first, &["FUNCTION", "LOAD", &code]);
                (["FCALL", "f", "0"], ["FUNCTION", "KILL"])
            } else {
                (["EVAL", body, "0"], ["SCRIPT", "KILL"])
            };
            assert_eq!(call(&mut bench, first, &words), "");
            assert!(bench.call(killer, "PING").starts_with("-BUSY "));
            assert_eq!(call(&mut bench, killer, &kill), "+OK~");
            bench.release_aside();
            let reply = text(&mut bench, first);
            let killed = "-ERR Script killed by user with SCRIPT KILL...";
            assert!(reply.starts_with(killed), "{reply}");
            assert_eq!(bench.call(killer, "DEBUG DIGEST"), digest);
            // Nobody has heard of what never was.
            assert!(!String::from_utf8_lossy(&bench.received(other)).contains("message"));
            assert_eq!(
                call(&mut bench, killer, &kill),
                "-NOTBUSY No scripts in execution right now.~"
            );
            bench.check();
        }
    }
}

/// What one client sees of scripts of all kinds, and others of what they do.
fn play(cores: usize, is_long: bool) -> Vec<String> {
    let mut bench = Bench::new(cores);
    let [client, listener, tracker, waiter, monitor, watcher] =
        core::array::from_fn(|n| bench.connect(n % cores));
    bench.call(client, "CONFIG SET notify-keyspace-events KEA");
    bench.call(client, "ACL SETUSER few on nopass ~k* &* +@all -incr");
    bench.call(listener, "PSUBSCRIBE *");
    bench.call(tracker, "HELLO 3");
    bench.call(tracker, "CLIENT TRACKING ON");
    let mut seen = Vec::new();
    for (user, body) in [
        (
            "default",
            "return {redis.call('set', 'k1', 'v'), redis.call('get', 'k1'), KEYS[1], ARGV[1]}",
        ),
        (
            "default",
            "for n = 1, 50 do redis.call('rpush', 'l' .. n, n, n) end return redis.call('dbsize')",
        ),
        (
            "default",
            "return {redis.call('ping'), redis.call('echo', 'x'), redis.call('lastsave') > 0}",
        ),
        (
            "default",
            "redis.call('select', 3) redis.call('set', 'k', 1) return redis.call('dbsize')",
        ),
        ("default", "return redis.call('swapdb', 0, 3)"),
        ("default", "return redis.call('swapdb', 0, 3)"),
        (
            "default",
            "return {redis.call('publish', 'c', 'm'), redis.call('spublish', 'c', 'm')}",
        ),
        ("default", "return redis.call('pubsub', 'numpat')"),
        (
            "default",
            "return {redis.call('time')[1], redis.call('object', 'encoding', 'l1'), redis.call('type', 'l1')}",
        ),
        ("default", "return redis.pcall('multi')"),
        ("default", "return redis.pcall('nosuch')"),
        ("default", "return redis.call('lpush', 'k1', 'x')"),
        ("default", "redis.call('set', 'half', 1) error('own')"),
        (
            "default",
            "redis.setresp(3) return redis.call('hgetall', 'none')",
        ),
        (
            "default",
            "return redis.call('sort', 'l7', 'by', 'w_*', 'desc')",
        ),
        (
            "default",
            "return {redis.call('exists', 'l1', 'l2', 'none'), redis.call('command', 'count') > 100}",
        ),
        (
            "default",
            "return redis.call('info', 'server') and redis.call('info', 'keyspace') and 1",
        ),
        ("default", "return redis.acl_check_cmd('get', 'x')"),
        ("default", "return math.random(1000)"),
        (
            "default",
            "redis.call('set', 'p', 1, 'px', 100000) return redis.call('pttl', 'p')",
        ),
        ("default", "return redis.call('rpush', 'waited', 'a', 'b')"),
        (
            "default",
            "redis.call('set', 'read', 2) redis.call('get', 'read') return redis.call('set', 'watched', 1)",
        ),
        ("few", "return redis.call('set', 'k1', 'w')"),
        ("few", "return redis.call('set', 'other', 'w')"),
        (
            "few",
            "return {redis.pcall('incr', 'k2'), redis.acl_check_cmd('incr', 'k2')}",
        ),
        (
            "tracker",
            "local v = redis.call('get', 'k1') redis.call('set', 'k1', 'again') return v",
        ),
        ("tracker", "return redis.call('mget', 'l', 'm', 'k3')"),
        ("default", "return redis.call('set', 'k3', 'told')"),
        (
            "default",
            "#!lua flags=no-writes\nreturn redis.pcall('set', 'k', 1)",
        ),
        (
            "default",
            "redis.call('flushall') return redis.call('dbsize')",
        ),
    ] {
        bench.call(watcher, "WATCH watched k1");
        bench.call(watcher, "MULTI");
        bench.call(watcher, "PING");
        if body.contains("waited") {
            bench.call(waiter, "BLPOP waited 0");
        }
        if body.contains("'read'") {
            bench.call(tracker, "GET read");
            bench.call(monitor, "MONITOR");
        }
        if is_long {
            mark_script(&mut bench, client, body);
        }
        let runner = match user {
            "tracker" => tracker,
            _ => client,
        };
        if user == "few" {
            bench.call(client, "AUTH few x");
        }
        let begun = asides(&mut bench, tracker);
        let reply = call(&mut bench, runner, &["EVAL", body, "1", "k1", "arg"]);
        assert_eq!(
            asides(&mut bench, tracker) - begun,
            u64::from(is_long),
            "{body}"
        );
        bench.call(client, "AUTH default x");
        let lines = text(&mut bench, monitor);
        let lines = lines.split('~').filter(|line| line.contains("lua]"));
        let lines: Vec<&str> = lines.filter_map(|line| line.split(" [").nth(1)).collect();
        bench.call(monitor, "RESET");
        seen.push(format!(
            "{body}\n  {reply} {lines:?} {} {} {} {}",
            text(&mut bench, listener),
            text(&mut bench, tracker),
            text(&mut bench, waiter),
            bench.call(watcher, "EXEC"),
        ));
        seen.push(bench.call(client, "DEBUG DIGEST"));
        bench.check();
    }
    let info = bench.call(client, "INFO commandstats") + &bench.call(client, "INFO errorstats");
    let lines = info.lines().filter(|line| {
        let of_the_test = ["script|load", "info", "debug", "total"];
        line.contains(':') && !of_the_test.iter().any(|name| line.contains(name))
    });
    // (On several cores some have a first try, which counts what it has called.)
    seen.extend(lines.filter(|_| cores == 1).map(|line| {
        let parts = line.split(',').filter(|part| !part.contains("usec"));
        parts.collect::<Vec<_>>().join(",")
    }));
    seen.push(
        bench
            .call(client, "ACL LOG")
            .matches("lua")
            .count()
            .to_string(),
    );
    seen
}

fn asides(bench: &mut Bench, client: Client) -> u64 {
    let info = bench.call(client, "INFO meridian");
    let mut lines = info.lines();
    let found = lines.find_map(|line| line.strip_prefix("requests_aside:"));
    found.and_then(|n| n.trim().parse().ok()).expect("a number")
}

#[test]
fn a_script_beside_the_cores_does_what_it_does_on_one() {
    for cores in 1..=3 {
        let (here, beside) = (play(cores, false), play(cores, true));
        assert_eq!(here.len(), beside.len());
        for (here, beside) in here.iter().zip(&beside) {
            assert_eq!(here, beside, "{cores} cores");
        }
    }
}

#[test]
fn a_script_is_known_as_long_until_it_is_short() {
    for cores in 1..=2 {
        let mut bench = Bench::with(cores, |config| config.busy_reply_threshold_ms = 2);
        let client = bench.connect(cores - 1);
        bench.advance(60_000);
        let body = "local n = 0 while n < tonumber(ARGV[1]) do n = n + 1 end return redis.call('incr', KEYS[1])";
        let mut run = |loops: &str, reply: &str| {
            let before = asides(&mut bench, client);
            bench.holds_aside = true;
            let first = call(&mut bench, client, &["EVAL", body, "1", "k", loops]);
            if first.is_empty() {
                // (The clock of a bench stands still while it runs.)
                bench.advance(if loops == "1" { 0 } else { 10 });
            }
            bench.release_aside();
            assert_eq!(first + &text(&mut bench, client), reply);
            asides(&mut bench, client) - before
        };
        assert_eq!(run("1", ":1~"), 0);
        assert_eq!(run("20000000", ":2~"), 1, "found long: it counts once");
        assert_eq!(run("1", ":3~"), 1, "still taken for long");
        assert_eq!(run("1", ":4~"), 0);
    }
}

#[test]
fn without_a_threshold_and_in_a_queue_a_script_stays_on_its_core() {
    let mut bench = Bench::with(1, |config| config.busy_reply_threshold_ms = 1);
    let client = bench.connect(0);
    let body = "for n = 1, 3000000 do end return redis.call('incr', 'k')";
    bench.call(client, "MULTI");
    call(&mut bench, client, &["EVAL", body, "0"]);
    assert_eq!(bench.call(client, "EXEC"), "*1\r\n:1\r\n");
    bench.call(client, "CONFIG SET busy-reply-threshold 0");
    mark_script(&mut bench, client, body);
    assert_eq!(call(&mut bench, client, &["EVAL", body, "0"]), ":2~");
    assert_eq!(asides(&mut bench, client), 0);
}

#[test]
fn a_server_that_leaves_stops_it() {
    for cores in 1..=2 {
        let body = "redis.call('set', 'k', 'x') while true do end";
        let (mut bench, first, others) = held(cores, false, body);
        bench.advance(THRESHOLD_MS);
        bench.call(others[cores - 1], "SHUTDOWN NOSAVE");
        bench.release_aside();
        bench.advance(10);
        let reply = text(&mut bench, first);
        assert!(
            reply.starts_with("-ERR Script killed: the server is stopping"),
            "{reply}"
        );
        assert!(bench.has_stopped());
    }
}

#[test]
fn its_client_goes_away() {
    for cores in 1..=2 {
        let (mut bench, first, others) = held(cores, false, "return redis.call('set', 'k', 'x')");
        bench.close(first);
        bench.advance(THRESHOLD_MS);
        bench.release_aside();
        assert_eq!(bench.call(others[1], "GET k"), "$1\r\nx\r\n");
        bench.check();
    }
}

#[test]
fn two_long_ones_run_one_after_the_other() {
    for cores in 1..=2 {
        let mut bench = Bench::with(cores, |config| config.busy_reply_threshold_ms = 2);
        let [first, second] = [bench.connect(0), bench.connect(cores - 1)];
        bench.advance(60_000);
        let body = "for n = 1, 2000000 do end return redis.call('incr', 'k')";
        let mut request = Vec::new();
        protocol::request::encode(&["EVAL", body, "0"], &mut request);
        // In one turn: both have begun before others are told anything.
        bench.send_all(&[(first, &request), (second, &request)]);
        let mut replies = [text(&mut bench, first), text(&mut bench, second)];
        replies.sort_unstable();
        // Where one core serves both, the second has come while the first ran.
        let (one, both) = ([OF_SCRIPT, ":1~"], [":1~", ":2~"]);
        assert!(replies == one || replies == both, "{replies:?}");
        bench.check();
    }
}

#[test]
fn as_a_shard_of_a_cluster_only_its_core_is_busy() {
    let mut bench = Bench::with(2, |config| config.cluster_enabled = true);
    let [own, same, other] = [0, 0, 1].map(|core| bench.connect_own(core));
    bench.advance(60_000);
    let mut keys = (0..).map(|n| format!("k{n}"));
    let mut key_of = |bench: &Bench, core| {
        keys.find(|key| bench.owner_of(key.as_bytes()) == core)
            .unwrap_or_default()
    };
    let (mine, others) = (key_of(&bench, 0), key_of(&bench, 1));
    let body =
        "redis.call('set', KEYS[1], 1) return {redis.pcall('get', ARGV[1]), redis.call('dbsize')}";
    bench.call(other, &format!("SET {others} 1"));
    mark_script(&mut bench, own, body);
    bench.holds_aside = true;
    assert_eq!(
        call(&mut bench, own, &["EVAL", body, "1", &mine, &others]),
        ""
    );
    bench.advance(THRESHOLD_MS);
    assert_eq!(bench.call(same, "PING").replace("\r\n", "~"), OF_SCRIPT);
    assert_eq!(bench.call(other, &format!("GET {others}")), "$1\r\n1\r\n");
    bench.release_aside();
    let reply = "*2~-ERR Script attempted to access a non local key in a cluster node~:1~";
    assert_eq!(text(&mut bench, own), reply);
    assert_eq!(bench.call(same, "PING"), "+PONG\r\n");
    bench.check();
}
