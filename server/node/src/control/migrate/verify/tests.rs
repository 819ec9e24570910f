//! Verification between a redis-server and a replica of it, under writes: what is planted is found, and nothing else.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use migration::compare::{self, Findings, Seen};
use migration::{Server, assess};
use protocol::answer::Answer;
use storage::{Limits, rdb, shared_digest};

use super::super::link::{Address, Login, Wire, text_of};
use super::super::look::{self, Here, Question, WHOLE_BYTES_MAX};
use super::{Verifier, array_of, bytes_of, int_of, words};

struct Redis {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

impl Redis {
    /// None without a redis-server on this machine.
    fn start(more: &[&str]) -> Option<Redis> {
        (0..10).find_map(|_| Redis::try_start(more))
    }

    /// None also when somebody else had the port.
    fn try_start(more: &[&str]) -> Option<Redis> {
        let port = (0..100)
            .filter_map(|_| TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok())
            .map(|addr| addr.port())
            .find(|port| *port > 21_000)?;
        let dir = std::env::temp_dir().join(format!("meridian-verify-{port}"));
        std::fs::create_dir_all(&dir).ok()?;
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--dir",
                dir.to_str()?,
            ])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut redis = Redis {
            child: child.ok()?,
            port,
            dir,
        };
        until(|| {
            let has_ended = redis.child.try_wait().is_ok_and(|end| end.is_some());
            has_ended || redis.try_wire().is_some()
        });
        let info = text_of(&redis.try_wire()?.call(&["INFO", "server"]).ok()?);
        let is_ours = assess::number(&info, "process_id") == u64::from(redis.child.id());
        is_ours.then_some(redis)
    }

    fn try_wire(&self) -> Option<Wire> {
        let mut wire = Wire::open(&Address {
            server: Server {
                host: "127.0.0.1".to_owned(),
                port: self.port,
                tls: false,
            },
            login: Login::default(),
            tls: None,
            timeout: Duration::from_secs(20),
        })
        .ok()?;
        let pong = wire.call(&["PING"]).ok()?;
        (!pong.is_error()).then_some(wire)
    }

    fn wire(&self) -> Wire {
        self.try_wire().unwrap()
    }
}

/// Waits for a condition, for long.
fn until(mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn say(wire: &mut Wire, line: &str) -> Answer {
    let answer = wire.call(&line.split(' ').collect::<Vec<_>>()).unwrap();
    assert!(!answer.is_error(), "{line}: {answer:?}");
    answer
}

/// A replica of Redis in the place of this node.
struct Replica(Mutex<Wire>);

impl Here for &Replica {
    fn applied(&self) -> u64 {
        let role = array_of(say(&mut self.0.lock().unwrap(), "ROLE"));
        role.get(4).and_then(int_of).unwrap_or(0).unsigned_abs()
    }

    fn databases(&self) -> u8 {
        16
    }

    fn begins(&self) -> Vec<u64> {
        vec![0]
    }

    fn look(&self, question: Question) -> Result<look::Answer, String> {
        let wire = &mut *self.0.lock().unwrap();
        let value_of = |wire: &mut Wire, key: &[u8]| {
            let payload = bytes_of(wire.call(&[b"DUMP", key]).unwrap())?;
            let large = payload.len() > WHOLE_BYTES_MAX;
            Some((rdb::restore(&payload, &Limits::default()).unwrap(), large))
        };
        Ok(match question {
            Question::Keys(db, keys) => {
                say(wire, &format!("SELECT {db}"));
                let seen = keys.iter().map(|key| {
                    let deadline = int_of(&wire.call(&[b"PEXPIRETIME", key.as_slice()]).unwrap());
                    let (value, large) = value_of(wire, key)?;
                    Some(Seen {
                        kind: value.type_name().to_owned(),
                        digest: (!large).then(|| shared_digest(value.view()).0),
                        deadline_ms: deadline.and_then(|ms| u64::try_from(ms).ok()),
                    })
                });
                look::Answer::Keys(seen.collect())
            }
            Question::Piece(db, key, piece) => {
                say(wire, &format!("SELECT {db}"));
                match value_of(wire, &key) {
                    Some((value, _)) => look::Answer::Differing(
                        compare::differing(Some(value.view()), &piece),
                        compare::len_of(value.view()),
                    ),
                    None => look::Answer::Differing(compare::differing(None, &piece), 0),
                }
            }
            Question::Names(db, cursor, count) => {
                say(wire, &format!("SELECT {db}"));
                let mut reply = array_of(say(wire, &format!("SCAN {cursor} COUNT {count}")));
                let names = array_of(reply.pop().unwrap());
                let next: u64 = text_of(&reply.pop().unwrap()).parse().unwrap();
                let names = names.into_iter().filter_map(bytes_of).collect();
                look::Answer::Names(names, (next != 0).then_some(next))
            }
        })
    }
}

/// Keys of every type, small and large, in two databases.
fn fill(wire: &mut Wire) {
    let mut requests = Vec::new();
    let mut add = |line: String| requests.push(line);
    for n in 0..300 {
        add(format!("SET s:{n} value-{n}"));
        add(format!("SET t:{n} x PX 100000{n:03}"));
        add(format!("RPUSH l:{n} a b c {n}"));
        add(format!("HSET h:{n} f 1 g {n}"));
        add(format!("SADD m:{n} a 1 {n}"));
        add(format!("ZADD z:{n} 1.5 a {n} b -inf c"));
        add(format!("XADD x:{n} {}-1 f v g {n}", n + 1));
    }
    for n in 0..6000 {
        add(format!("RPUSH big:l element-{n}"));
        add(format!("HSET big:h field-{n} value-{n}"));
        add(format!("SADD big:m member-{n}"));
        add(format!("ZADD big:z {n}.25 member-{n}"));
        add(format!("XADD big:x {}-0 field value-{n}", n + 1));
    }
    add(format!("SET big:s {}", "0123456789".repeat(60_000)));
    add("XGROUP CREATE x:1 group 0".to_owned());
    add("XREADGROUP GROUP group alice COUNT 1 STREAMS x:1 >".to_owned());
    add("SELECT 3".to_owned());
    add("SET in-three 1".to_owned());
    add("SELECT 0".to_owned());
    for lines in requests.chunks(500) {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| words(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
            .collect();
        let answers = wire.call_all(&lines).unwrap();
        let refused = answers.iter().find(|answer| answer.is_error());
        assert_eq!(refused, None);
    }
}

/// Fifty differences at the replica: values, types, times, what is missing, what is too much, inside large values.
fn plant(wire: &mut Wire) -> usize {
    let mut lines = Vec::new();
    for n in 0..5 {
        lines.push(format!("SET s:{n} other"));
        lines.push(format!("PEXPIRE t:{n} 5000000"));
        lines.push(format!("PERSIST t:1{n}"));
        lines.push(format!("PEXPIRE s:1{n} 90000000"));
        lines.push(format!("DEL l:{n}"));
        lines.push(format!("SET extra:{n} x"));
        lines.push(format!("HSET h:{n} f 2"));
        lines.push(format!("ZADD z:{n} 1.25 a"));
    }
    for line in [
        "LSET big:l 3000 other",
        "HSET big:h field-4000 other",
        "SADD big:m extra",
        "ZADD big:z 1 member-5999",
        "XDEL big:x 3000-0",
        "SETRANGE big:s 300000 X",
        "XGROUP DESTROY x:1 group",
        "SREM m:7 a",
        "XADD x:9 99-1 a b",
    ] {
        lines.push(line.to_owned());
    }
    let count = lines.len() + 1;
    for line in lines {
        say(wire, &line);
    }
    // One of another type takes two requests.
    say(wire, "DEL s:77");
    say(wire, "RPUSH s:77 x");
    count
}

/// Writes to keys of its own, as fast as it can, until it is told to stop.
fn write_on(mut wire: Wire, stops: &AtomicBool) {
    let mut n = 0u64;
    while !stops.load(Relaxed) {
        n += 1;
        let key = n % 40;
        for line in [
            format!("INCR hot:n:{key}"),
            format!("LPUSH hot:l:{key} {n}"),
            format!("RPOP hot:l:{key}"),
            format!("HSET hot:h {} {n}", n % 3000),
            format!("SET hot:t:{key} {n} PX {}", 20 + n % 50),
            format!("SADD hot:m:{key} {n}"),
            format!("SPOP hot:m:{key}"),
            format!("ZINCRBY hot:z {n} {key}"),
        ] {
            say(&mut wire, &line);
        }
        if n.is_multiple_of(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn fifty_planted_differences_are_found_and_fetched_again_under_writes() {
    let source = Redis::start(&["--hz", "50"]);
    let Some(source) = source else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let mut wire = source.wire();
    fill(&mut wire);
    let port = source.port.to_string();
    let master = format!("127.0.0.1 {port}");
    let replica = Redis::start(&["--replicaof", &master, "--replica-read-only", "no"]).unwrap();
    let mut there = replica.wire();
    until(|| {
        text_of(&there.call(&["INFO", "replication"]).unwrap()).contains("master_link_status:up")
    });

    let stops = Arc::new(AtomicBool::new(false));
    let (writer, stopped) = (source.wire(), Arc::clone(&stops));
    let load = std::thread::spawn(move || write_on(writer, &stopped));
    let findings = Mutex::new(Findings::default());
    let here = Replica(Mutex::new(replica.wire()));
    let pass = |mends: bool| {
        let never = || false;
        let mut verifier =
            Verifier::begin(source.wire(), &here, (&findings, &never), mends).unwrap();
        assert!(verifier.pass().unwrap());
    };
    pass(true);
    {
        let found = findings.lock().unwrap();
        assert_eq!(
            found.found,
            0,
            "none is where there is none: {:?}",
            found.listed().collect::<Vec<_>>()
        );
        assert!(found.keys > 2100 && found.elements > 15_000, "{found:?}");
        assert_eq!(found.passes, 1);
    }
    let planted = plant(&mut there);
    assert_eq!(planted, 50);
    pass(false);
    assert_eq!(
        findings.lock().unwrap().open(),
        50,
        "{:#?}",
        names(&findings)
    );
    pass(true);
    {
        let found = findings.lock().unwrap();
        assert_eq!(
            (found.found, found.mended, found.open()),
            (50, 50, 0),
            "{:?}",
            found.listed().collect::<Vec<_>>()
        );
    }
    stops.store(true, Relaxed);
    load.join().unwrap();
    // What was fetched again is what the source has: by Redis's own digest of everything.
    let digest = |wire: &mut Wire| text_of(&wire.call(&["DEBUG", "DIGEST"]).unwrap());
    let mut source = source.wire();
    if !digest(&mut source).starts_with("ERR") {
        until(|| digest(&mut source) == digest(&mut there));
    }
}

fn names(findings: &Mutex<Findings>) -> Vec<String> {
    let findings = findings.lock().unwrap();
    let names = findings
        .listed()
        .map(|((db, key), found)| format!("{db} {} {}", key.escape_ascii(), found.kind.name()));
    names.collect()
}
