//! The bound, by requests: what is refused, what goes, and that every core does its part.

use super::*;
use crate::testing::{Bench, Client};

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

/// A number of INFO.
fn info(bench: &mut Bench, client: Client, name: &str) -> u64 {
    let text = bench.call(client, "INFO everything");
    let line = text.split(&format!("\r\n{name}:")).nth(1);
    let value = line.and_then(|line| line.split("\r\n").next());
    value.unwrap_or_default().parse().unwrap()
}

fn fill(bench: &mut Bench, client: Client, keys: core::ops::Range<usize>, expire: bool) {
    let end = if expire { " EX 1000" } else { "" };
    let value = "v".repeat(100);
    for chunk in keys.collect::<Vec<_>>().chunks(50) {
        let requests = chunk
            .iter()
            .map(|n| format!("SET key:{n} {value}{end}\r\n"));
        bench.send(client, requests.collect::<String>().as_bytes());
        let replies = String::from_utf8(bench.received(client)).unwrap();
        assert!(replies.replace("+OK\r\n", "").is_empty(), "{replies}");
    }
}

#[test]
fn without_eviction_writes_are_refused_and_all_else_is_not() {
    for cores in [1, 2] {
        let mut bench = Bench::new(cores);
        let client = bench.connect(0);
        bench.call(client, "SET a 1");
        bench.call(client, "RPUSH l x");
        assert_eq!(bench.call(client, "CONFIG SET maxmemory 1"), "+OK\r\n");
        let refused = [
            "SET a 2",
            "INCR a",
            "RPUSH l y",
            "MSET a 1 b 2",
            "SORT l STORE m",
        ];
        for request in refused {
            assert_eq!(bench.call(client, request), OOM, "{request}");
        }
        let runs = [
            ("GET a", "$1\r\n1\r\n"),
            ("EXPIRE a 100", ":1\r\n"),
            ("LPOP l", "$1\r\nx\r\n"),
            ("DEL l", ":0\r\n"),
            ("PING", "+PONG\r\n"),
            // Queueing takes memory, whatever it is.
            ("MULTI", "+OK\r\n"),
            ("GET a", OOM),
            (
                "EXEC",
                "-EXECABORT Transaction discarded because of previous errors.\r\n",
            ),
            ("MULTI", "+OK\r\n"),
            ("DISCARD", "+OK\r\n"),
        ];
        for (request, expected) in runs {
            assert_eq!(bench.call(client, request), expected, "{request}");
        }
        let text = bench.call(client, "INFO errorstats");
        assert!(text.contains("errorstat_OOM:count=6\r\n"), "{text}");
        assert_eq!(bench.call(client, "CONFIG SET maxmemory 0"), "+OK\r\n");
        assert_eq!(bench.call(client, "SET a 2"), "+OK\r\n");
    }
}

#[test]
fn what_was_queued_before_is_refused_by_exec() {
    let mut bench = Bench::new(1);
    let (client, other) = (bench.connect(0), bench.connect(0));
    for (queued, reply) in [
        ("GET a", "*1\r\n$-1\r\n"),
        (
            "SET a 1",
            "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.\r\n",
        ),
    ] {
        bench.call(client, "MULTI");
        assert_eq!(bench.call(client, queued), "+QUEUED\r\n");
        bench.call(other, "CONFIG SET maxmemory 1");
        assert_eq!(bench.call(client, "EXEC"), reply);
        bench.call(other, "CONFIG SET maxmemory 0");
    }
    // One that lowers the bound runs to its end.
    bench.call(client, "CONFIG SET maxmemory-policy allkeys-lru");
    bench.send(
        client,
        b"MULTI\r\nINCR x\r\nCONFIG SET maxmemory 1\r\nINCR x\r\nEXEC\r\n",
    );
    let replies = String::from_utf8(bench.received(client)).unwrap();
    assert!(replies.ends_with("*3\r\n:1\r\n+OK\r\n:2\r\n"), "{replies}");
    bench.advance(10);
    assert_eq!(bench.call(client, "DBSIZE"), ":0\r\n");
}

#[test]
fn scripts_are_refused_by_their_flags_or_at_their_first_write() {
    let mut bench = Bench::new(1);
    let client = bench.connect(0);
    bench.call(client, "SET k v");
    bench.call(client, "CONFIG SET maxmemory 1");
    let eval = |bench: &mut Bench, script: &str| {
        let mut request = Vec::new();
        protocol::request::encode(&["EVAL", script, "1", "k"], &mut request);
        bench.send(client, &request);
        String::from_utf8(bench.received(client)).unwrap()
    };
    assert_eq!(
        eval(&mut bench, "return redis.call('get', KEYS[1])"),
        "$1\r\nv\r\n"
    );
    let refused = eval(&mut bench, "return redis.call('set', KEYS[1], 'x')");
    assert!(
        refused.starts_with("-OOM command not allowed when used memory > 'maxmemory'."),
        "{refused}"
    );
    let begun = "redis.call('del', KEYS[1]); return redis.call('set', KEYS[1], 'x')";
    assert_eq!(eval(&mut bench, begun), "+OK\r\n");
    let allowed = "#!lua flags=allow-oom\nreturn redis.call('set', KEYS[1], 'y')";
    assert_eq!(eval(&mut bench, allowed), "+OK\r\n");
    let reads = "#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])";
    assert_eq!(eval(&mut bench, reads), "$1\r\ny\r\n");
    let plain = "#!lua\nreturn redis.call('get', KEYS[1])";
    assert_eq!(eval(&mut bench, plain), OOM);
}

#[test]
fn every_policy_keeps_the_bound_on_every_core() {
    use crate::config::Choice as _;
    for (name, policy) in MaxmemoryPolicy::WORDS {
        if *policy == MaxmemoryPolicy::NoEviction {
            continue;
        }
        for cores in [1, 2] {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            fill(&mut bench, client, 0..500, true);
            let bound = info(&mut bench, client, "used_memory");
            bench.call(client, &format!("CONFIG SET maxmemory-policy {name}"));
            bench.call(client, &format!("CONFIG SET maxmemory {bound}"));
            fill(&mut bench, client, 500..3000, true);
            bench.advance(10);
            let used = info(&mut bench, client, "used_memory");
            assert!(used <= bound + 4096, "{name} {cores}: {used} of {bound}");
            let gone = info(&mut bench, client, "evicted_keys");
            // (Of keys with a deadline the hints stay for a while.)
            assert!((2000..2900).contains(&gone), "{name} {cores}: {gone}");
            bench.check();
        }
    }
}

#[test]
fn writes_to_one_core_are_paid_by_all() {
    let mut bench = Bench::with(2, |config| {
        config.maxmemory_policy = MaxmemoryPolicy::AllkeysRandom;
    });
    let client = bench.connect(0);
    fill(&mut bench, client, 0..2000, false);
    let keys_of = |bench: &mut Bench, core: usize| {
        let text = bench.call(client, "INFO meridian");
        let line = text.split(&format!("core{core}:")).nth(1).unwrap();
        let bytes = line.split("used_memory=").nth(1).unwrap();
        bytes.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = keys_of(&mut bench, 1);
    let bound = info(&mut bench, client, "used_memory");
    bench.call(client, &format!("CONFIG SET maxmemory {bound}"));
    // All of these are of core 0's slots.
    let mut written = 0;
    for n in 0.. {
        let key = format!("more:{n}");
        if bench.owner_of(key.as_bytes()) == 0 {
            bench.call(client, &format!("SET {key} {}", "x".repeat(200)));
            bench.advance(1);
            written += 1;
        }
        if written == 300 {
            break;
        }
    }
    assert!(keys_of(&mut bench, 1) < before - 10_000);
    assert!(info(&mut bench, client, "used_memory") <= bound + 4096);
    bench.check();
}

#[test]
fn volatile_policies_refuse_when_no_key_has_a_deadline() {
    let mut bench = Bench::with(2, |config| {
        config.maxmemory_policy = MaxmemoryPolicy::VolatileTtl;
    });
    let client = bench.connect(0);
    fill(&mut bench, client, 0..100, false);
    fill(&mut bench, client, 100..200, true);
    let bound = info(&mut bench, client, "used_memory") - 30_000;
    bench.call(client, &format!("CONFIG SET maxmemory {bound}"));
    bench.advance(10);
    let held = bench.call(client, "DBSIZE");
    assert!(held == ":100\r\n", "{held}");
    assert_eq!(bench.call(client, "SET more v"), OOM);
    assert_eq!(
        bench.call(client, "CONFIG SET maxmemory-policy allkeys-random"),
        "+OK\r\n"
    );
    bench.advance(10);
    assert_eq!(bench.call(client, "SET more v"), "+OK\r\n");
}

#[test]
fn large_values_count_until_they_are_freed_and_take_no_others_with_them() {
    let mut bench = Bench::with(1, |config| {
        config.maxmemory_policy = MaxmemoryPolicy::VolatileLru;
    });
    let client = bench.connect(0);
    for n in 0..400 {
        let members: Vec<String> = (0..50).map(|m| format!("member:{n}:{m}")).collect();
        bench.call(client, &format!("SADD large {}", members.join(" ")));
    }
    bench.call(client, "EXPIRE large 1000");
    fill(&mut bench, client, 0..200, false);
    let bound = info(&mut bench, client, "used_memory") - 100_000;
    bench.call(client, &format!("CONFIG SET maxmemory {bound}"));
    bench.advance(10);
    assert_eq!(bench.call(client, "EXISTS large"), ":0\r\n");
    assert_eq!(bench.call(client, "DBSIZE"), ":200\r\n");
    assert_eq!(info(&mut bench, client, "evicted_keys"), 1);
}

#[test]
fn eviction_is_told_to_listeners_and_trackers() {
    let mut bench = Bench::with(2, |config| {
        config.maxmemory_policy = MaxmemoryPolicy::AllkeysRandom;
    });
    let (client, listener, tracker) = (bench.connect(0), bench.connect(0), bench.connect(1));
    bench.call(client, "CONFIG SET notify-keyspace-events Ee");
    bench.call(listener, "SUBSCRIBE __keyevent@0__:evicted");
    bench.call(tracker, "HELLO 3");
    bench.call(tracker, "CLIENT TRACKING ON");
    bench.call(client, "SET k v");
    bench.call(tracker, "GET k");
    bench.call(client, "CONFIG SET maxmemory 1");
    bench.advance(10);
    let told = String::from_utf8(bench.received(listener)).unwrap();
    assert!(told.ends_with("evicted\r\n$1\r\nk\r\n"), "{told}");
    let told = String::from_utf8(bench.received(tracker)).unwrap();
    assert!(
        told.ends_with("$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"),
        "{told}"
    );
}

#[test]
fn tenacity_is_time() {
    assert_eq!((slice_us(0), slice_us(10)), (Some(0.0), Some(250.0)));
    assert!(slice_us(11).unwrap() > 250.0 && slice_us(99).unwrap() > 30_000_000.0);
    assert_eq!(slice_us(100), None);
}

#[test]
fn the_largest_clients_are_closed_until_all_fit() {
    for cores in [1, 2] {
        let mut bench = Bench::new(cores);
        let client = bench.connect(0);
        bench.call(client, "CLIENT NO-EVICT on");
        let partial = |bench: &mut Bench, core: usize, bytes: usize| {
            let other = bench.connect(core % cores);
            let word = format!("$6000\r\n{}\r\n", "k".repeat(6000));
            let request = format!("*99\r\n$4\r\nMGET\r\n{}", word.repeat(bytes / 6000));
            bench.send(other, request.as_bytes());
            other
        };
        let large: Vec<_> = (0..4).map(|n| partial(&mut bench, n, 60_000)).collect();
        let small: Vec<_> = (0..4).map(|n| partial(&mut bench, n, 6_000)).collect();
        let taken = info(&mut bench, client, "mem_clients_normal");
        assert!((260_000..330_000).contains(&taken), "{taken}");
        bench.call(client, "CONFIG SET maxmemory-clients 90000");
        bench.advance(200);
        bench.advance(200);
        let closed = |bench: &Bench, of: &[Client]| {
            of.iter().filter(|client| bench.is_closed(**client)).count()
        };
        assert_eq!(closed(&bench, &small), 0, "{cores}");
        assert!((2..=4).contains(&closed(&bench, &large)), "{cores}");
        assert_eq!(
            info(&mut bench, client, "evicted_clients"),
            closed(&bench, &large) as u64
        );
        assert!(info(&mut bench, client, "mem_clients_normal") < 90_000);
        bench.call(client, "CONFIG SET maxmemory 100000 maxmemory-clients 10%");
        bench.advance(200);
        bench.advance(200);
        // (One of them and the others' bare connections fit.)
        assert!((3..=4).contains(&closed(&bench, &small)), "{cores}");
        assert!(!bench.is_closed(client));
    }
}

#[test]
fn who_waits_listens_and_tracks_is_counted_until_it_goes() {
    for cores in [1, 2, 3] {
        let mut bench = Bench::new(cores);
        let node = bench.node();
        let watcher = bench.connect(0);
        let sum = |bench: &mut Bench| {
            bench.call(watcher, "PING");
            node.used().tables
        };
        let name = "n".repeat(1000);
        let kinds: [&[&str]; 5] = [
            &["BLPOP a b {name} 0"],
            &["XREAD BLOCK 0 STREAMS {name} s $ $"],
            &["SUBSCRIBE {name} x", "PSUBSCRIBE {name}*", "SSUBSCRIBE y"],
            &["HELLO 3", "CLIENT TRACKING ON", "MGET {name} a", "GET b"],
            &["HELLO 3", "CLIENT TRACKING ON BCAST PREFIX {name}"],
        ];
        assert_eq!(sum(&mut bench), 0);
        for requests in kinds {
            let mut before = 0;
            let clients: Vec<Client> = (0..3).map(|n| bench.connect(n % cores)).collect();
            for client in &clients {
                for request in requests {
                    bench.call(*client, &request.replace("{name}", &name));
                }
                let now = sum(&mut bench);
                assert!(now > before, "{requests:?} {now} {before}");
                before = now;
            }
            assert!(before > 1000 && before < 40_000, "{requests:?} {before}");
            let total = info(&mut bench, watcher, "used_memory");
            assert!(total > node.used().tables);
            clients.into_iter().for_each(|client| bench.close(client));
            // (Whose keys are remembered when it goes is told when they change.)
            bench.call(watcher, &format!("MSET {name} 1 a 1 b 1"));
            bench.call(watcher, "FLUSHALL");
            assert_eq!(sum(&mut bench), 0, "{requests:?} {cores}");
        }
    }
}

#[test]
fn the_bound_is_cut_by_what_resident_memory_grows_beyond_it_and_comes_back() {
    let mut cut = Cut::default();
    let mut look = |resident| cut.look(1600, resident);
    assert_eq!([100, 1600, 1700].map(&mut look), [0, 0, 0]);
    assert_eq!([1710, 1750, 1750, 1740].map(&mut look), [10, 50, 50, 50]);
    // It comes back as far as there is room, and is never more than a quarter.
    assert_eq!([1690, 1690, 1690].map(&mut look), [40, 30, 20]);
    assert_eq!([3000, 1700, 1000].map(&mut look), [400, 400, 0]);
}

#[test]
fn where_the_bound_is_cut_more_is_evicted_but_nothing_is_refused() {
    let mut bench = Bench::new(1);
    let client = bench.connect(0);
    fill(&mut bench, client, 0..1000, false);
    let bound = info(&mut bench, client, "used_memory");
    bench.call(client, &format!("CONFIG SET maxmemory {}", bound + 10_000));
    let cut = |bench: &Bench, bytes| bench.node().memory.cut_bytes.store(bytes, Relaxed);
    cut(&bench, 50_000);
    assert_eq!(bench.call(client, "SET more v"), "+OK\r\n");
    assert_eq!(info(&mut bench, client, "evicted_keys"), 0);
    bench.call(client, "CONFIG SET maxmemory-policy allkeys-lru");
    bench.advance(10);
    assert!(info(&mut bench, client, "used_memory") <= bound - 40_000);
    cut(&bench, 0);
    let left = bench.call(client, "DBSIZE");
    bench.advance(10);
    assert_eq!(bench.call(client, "DBSIZE"), left);
}
