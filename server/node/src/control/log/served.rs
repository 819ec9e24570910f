//! Tests of the log with whole cores: what waits for it, what comes back after a crash, and what a failing disk is answered.

use protocol::request::encode;

use super::tests::{Failing, MemoryDisk};
use crate::config::{AppendFsync, ProtectedAction};
use crate::testing::Bench;

fn bench(cores: usize, disk: &MemoryDisk, policy: AppendFsync) -> Bench {
    let mut bench = Bench::with(cores, |config| {
        config.appendonly = true;
        config.appendfsync = policy;
        config.enable_debug_command = ProtectedAction::Local;
    });
    bench.log_to(disk);
    bench
}

#[test]
fn with_always_no_reply_leaves_before_its_sync() {
    for cores in 1..=3 {
        let mut bench = bench(cores, &MemoryDisk::default(), AppendFsync::Always);
        let clients: Vec<_> = (0..cores).map(|core| bench.connect(core)).collect();
        bench.holds_log = true;
        for (n, client) in clients.iter().enumerate() {
            assert_eq!(
                bench.call(*client, "PING"),
                if n == 0 { "+PONG\r\n" } else { "" }
            );
            for key in ["a", "b", "c"] {
                assert_eq!(bench.call(*client, &format!("SET {key} {n}")), "");
            }
            assert_eq!(bench.call(*client, "MSET a 1 b 2 c 3"), "");
            assert_eq!(
                bench.call(*client, "GET a"),
                "",
                "what it shows may be lost"
            );
        }
        bench.release_log();
        for (n, client) in clients.iter().enumerate() {
            let pong = if n == 0 { "" } else { "+PONG\r\n" };
            let expected = format!("{pong}+OK\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n");
            assert_eq!(
                bench.received(*client),
                expected.as_bytes(),
                "{cores} cores"
            );
            assert_eq!(
                bench.call(*client, "GET b"),
                "$1\r\n2\r\n",
                "nothing is to be waited for"
            );
        }
    }
}

#[test]
fn large_replies_keep_their_order_behind_the_gate() {
    let mut bench = bench(2, &MemoryDisk::default(), AppendFsync::Always);
    let client = bench.connect(0);
    assert_eq!(bench.call(client, "SETRANGE big 1999999 x"), ":2000000\r\n");
    bench.holds_log = true;
    let mut requests = Vec::new();
    for n in 0..6u8 {
        encode(&[b"SET".as_slice(), b"k", &[b'0' + n]], &mut requests);
        encode(&[b"GET".as_slice(), b"big"], &mut requests);
        encode(&[b"ECHO".as_slice(), &[b'0' + n]], &mut requests);
        bench.send(client, &requests);
        requests.clear();
        if n % 2 == 1 {
            bench.release_log();
        }
    }
    let received = bench.received(client);
    let part = "+OK\r\n$2000000\r\n".len() + 2_000_002 + "$1\r\n0\r\n".len();
    assert_eq!(received.len(), 6 * part);
    for (n, part) in (b'0'..).zip(received.chunks(part)) {
        assert!(part.starts_with(b"+OK\r\n$2000000\r\n"));
        assert_eq!(part[part.len() - 3], n);
    }
}

/// Requests of every kind that changes something.
pub(super) const CHANGES: &[&str] = &[
    "MSET a 1 b 2 c 3 d 4 e 5",
    "RPUSH list 1 2 3",
    "LINSERT list BEFORE 2 x",
    "HSET hash f v g w",
    "SADD set 1 2 3 x",
    "ZADD zset 1.5 m 2 n",
    "XADD stream 5-1 f v",
    "XGROUP CREATE stream g 0",
    "XREADGROUP GROUP g c STREAMS stream >",
    "PFADD hll a b c",
    "SET late v PX 50",
    "SET later v PX 5000",
    "EXPIRE hash 100",
    "COPY list other DB 3",
    "SELECT 2",
    "SET in2 v",
    "SWAPDB 2 4",
    "SELECT 0",
    "RENAME b moved",
    "EVAL redis.call('set',KEYS[1],'s');redis.call('incr',KEYS[2]) 2 c a",
    "EVAL redis.call('set',KEYS[1],'gone');error('x') 1 fails",
    "FUNCTION LOAD #!lua name=l\nredis.register_function('f',function(k) return redis.call('set',k[1],'by f') end)",
    "FCALL f 1 byfunction",
    "MULTI",
    "INCR a",
    "SET d in-multi",
    "LPOP list",
    "EXEC",
    "SORT set ALPHA STORE sorted",
    "SUNIONSTORE union set sorted2",
    "DEL e",
    "SETBIT bits 100 1",
    "GETDEL moved",
];

#[test]
fn what_was_answered_is_there_after_a_crash_on_any_number_of_cores() {
    for policy in [AppendFsync::Always, AppendFsync::EverySecond] {
        let disk = MemoryDisk::default();
        let mut expected = String::new();
        for cores in [1, 3, 2] {
            let mut bench = bench(cores, &disk, policy);
            let client = bench.connect(cores - 1);
            if !expected.is_empty() {
                assert_eq!(state(&mut bench, client), expected, "{cores} cores");
                bench.call(client, "FLUSHALL");
                bench.call(client, "FUNCTION FLUSH");
            }
            CHANGES
                .iter()
                .for_each(|change| make(&mut bench, client, change));
            bench.advance(100);
            assert_eq!(bench.call(client, "EXISTS late later"), ":1\r\n");
            expected = state(&mut bench, client);
            bench.check();
            if policy == AppendFsync::Always {
                disk.crash();
            }
        }
    }
}

/// Sends one of [`CHANGES`].
pub(super) fn make(bench: &mut Bench, client: crate::testing::Client, change: &str) {
    let words: Vec<&str> = match change.strip_prefix("FUNCTION LOAD ") {
        Some(code) => vec!["FUNCTION", "LOAD", code],
        None => change.split(' ').collect(),
    };
    let mut request = Vec::new();
    encode(&words, &mut request);
    bench.send(client, &request);
    let reply = String::from_utf8_lossy(&bench.received(client)).into_owned();
    let fails = change.contains("error");
    assert_eq!(reply.starts_with('-'), fails, "{change}: {reply}");
}

pub(super) fn state(bench: &mut Bench, client: crate::testing::Client) -> String {
    ["DEBUG DIGEST", "FUNCTION LIST WITHCODE", "DBSIZE"]
        .map(|request| bench.call(client, request))
        .concat()
}

#[test]
fn a_long_request_that_runs_aside_is_logged() {
    let disk = MemoryDisk::default();
    let mut first = Bench::with(2, |config| {
        config.appendonly = true;
        config.aside_min_steps = 10;
        config.enable_debug_command = ProtectedAction::Local;
    });
    first.log_to(&disk);
    let client = first.connect(0);
    for n in 0..40 {
        first.call(client, &format!("SADD one m{n}"));
    }
    assert_eq!(first.call(client, "SUNIONSTORE two one one"), ":40\r\n");
    let expected = state(&mut first, client);
    let mut second = bench(1, &disk, AppendFsync::EverySecond);
    let client = second.connect(0);
    assert_eq!(state(&mut second, client), expected);
}

#[test]
fn a_failing_disk_refuses_writes_and_answers_reads() {
    let disk = MemoryDisk::default();
    for cores in 1..=2 {
        let mut bench = bench(cores, &disk, AppendFsync::EverySecond);
        let (client, other) = (bench.connect(0), bench.connect(cores - 1));
        assert_eq!(bench.call(client, "SET a 1"), "+OK\r\n");
        assert_eq!(bench.call(client, "SET soon v PX 20"), "+OK\r\n");
        disk.fail(Failing {
            writes: true,
            ..Failing::default()
        });
        assert_eq!(
            bench.call(other, "SET b 1"),
            "",
            "nobody knows what becomes of it"
        );
        let misconf = "-MISCONF Errors writing to the AOF file: No space left on device\r\n";
        let scripted = bench.call(client, "EVAL return(redis.call('set','a','2')) 0");
        assert!(
            scripted.starts_with("-MISCONF Errors writing to the AOF file"),
            "{scripted}"
        );
        for refused in [
            "SET a 2",
            "DEL a",
            "PING",
            "FLUSHALL",
            "MSET a 1 b 2",
            "LPUSH l 1",
        ] {
            assert_eq!(bench.call(client, refused), misconf, "{refused}");
        }
        bench.advance(30);
        assert_eq!(bench.call(client, "GET a"), "$1\r\n1\r\n");
        assert_eq!(bench.call(client, "GET soon"), "$-1\r\n");
        assert!(
            bench
                .call(client, "INFO persistence")
                .contains("aof_last_write_status:err")
        );
        disk.fail(Failing::default());
        std::thread::sleep(std::time::Duration::from_millis(110));
        bench.release_log();
        assert_eq!(bench.received(other), b"+OK\r\n");
        assert_eq!(bench.call(client, "SET a 2"), "+OK\r\n");
        assert_eq!(bench.call(client, "DEL a b"), ":2\r\n");
        assert!(
            bench
                .call(client, "INFO persistence")
                .contains("aof_last_write_status:ok")
        );
    }
}

#[test]
fn waitaof_waits_for_the_sync() {
    let mut bench = bench(2, &MemoryDisk::default(), AppendFsync::EverySecond);
    let client = bench.connect(0);
    bench.holds_log = true;
    assert_eq!(bench.call(client, "WAITAOF 1 0 0"), "*2\r\n:1\r\n:0\r\n");
    assert_eq!(bench.call(client, "SET a 1"), "+OK\r\n");
    assert_eq!(bench.call(client, "WAITAOF 0 0 0"), "*2\r\n:0\r\n:0\r\n");
    assert_eq!(bench.call(client, "WAITAOF 1 0 0"), "");
    bench.release_log();
    assert_eq!(bench.received(client), b"*2\r\n:1\r\n:0\r\n");
    assert_eq!(bench.call(client, "SET a 2"), "+OK\r\n");
    assert_eq!(bench.call(client, "WAITAOF 1 0 20"), "");
    bench.advance(30);
    assert_eq!(bench.received(client), b"*2\r\n:0\r\n:0\r\n");
    assert_eq!(bench.call(client, "WAITAOF 1 1 20"), "");
    bench.advance(30);
    assert_eq!(bench.received(client), b"*2\r\n:0\r\n:0\r\n");
}
