//! A redis-server that follows this node: a full copy while writes go on, the stream, links that break, WAIT. Skipped aloud without
//! redis-server, unless CI is set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerParser};
use storage::Rng;

/// A server that does not come to where it should within this time never will.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(25);
const DBS: u64 = 3;

struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

impl Server {
    fn start(program: &str, name: &str, args: &[&str]) -> Option<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let dir = format!("meridian-replicas-{name}-{port}");
        let dir = std::env::temp_dir().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--dir", dir.to_str().unwrap(), "--save", ""])
            .args(["--enable-debug-command", "yes"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Server { child, port, dir };
        wait_for("the server answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        wait_for("the data are loaded", || {
            server.client().info("persistence", "loading") == "0"
        });
        Some(server)
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            parser: AnswerParser::default(),
            input: Vec::new(),
        }
    }
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(PAUSE);
    }
}

struct Client {
    stream: TcpStream,
    parser: AnswerParser,
    input: Vec<u8>,
}

impl Client {
    fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        let mut request = Vec::new();
        protocol::request::encode(words, &mut request);
        self.stream.write_all(&request).unwrap();
    }

    fn answer(&mut self) -> Answer {
        loop {
            if let Some((answer, used)) = self.parser.parse(&self.input).unwrap() {
                self.input.drain(..used);
                self.parser.reset();
                return answer;
            }
            let mut chunk = vec![0; 65536];
            let read = self.stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection was closed");
            self.input.extend_from_slice(&chunk[..read]);
        }
    }

    fn call(&mut self, text: &str) -> Answer {
        self.send(&text.split(' ').collect::<Vec<_>>());
        self.answer()
    }

    fn info(&mut self, section: &str, name: &str) -> String {
        let Answer::Bulk(info) = self.call(&format!("INFO {section}")) else {
            panic!("INFO {section}");
        };
        let (info, name) = (String::from_utf8(info).unwrap(), format!("{name}:"));
        let line = info.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or("").to_owned()
    }
}

/// A write of some sort; names are few, so that types meet and keys are changed often.
fn write(rng: &mut Rng) -> String {
    let key = |rng: &mut Rng, kind: char| format!("{kind}{}", rng.below(200));
    let n = rng.below(50);
    match rng.below(34) {
        0 => format!("SET {} {}", key(rng, 's'), "v".repeat(n as usize * 20)),
        1 => format!("SET {} {n} PX {}", key(rng, 's'), 1 + rng.below(400)),
        2 => format!("INCRBY {} {n}", key(rng, 'i')),
        3 => format!("APPEND {} x{n}", key(rng, 's')),
        4 => format!("SETRANGE {} {n} yy", key(rng, 's')),
        5 => format!("SETBIT {} {n} 1", key(rng, 's')),
        6 => format!("INCRBYFLOAT {} 0.1", key(rng, 'i')),
        7 => format!(
            "MSET {} {n} {} {n} {} {n}",
            key(rng, 's'),
            key(rng, 's'),
            key(rng, 's')
        ),
        8 => format!("RPUSH {} a b {n}", key(rng, 'l')),
        9 => format!("LPUSH {} {n}", key(rng, 'l')),
        10 => format!("LINSERT {} BEFORE b {n}", key(rng, 'l')),
        11 => format!("LREM {} 1 a", key(rng, 'l')),
        12 => format!("LTRIM {} 1 20", key(rng, 'l')),
        13 => format!("LMOVE {} {} LEFT RIGHT", key(rng, 'l'), key(rng, 'l')),
        14 => format!("SPOP {} 2", key(rng, 'm')),
        15 => format!("SADD {} a b {n}", key(rng, 'm')),
        16 => format!(
            "SUNIONSTORE {} {} {}",
            key(rng, 'm'),
            key(rng, 'm'),
            key(rng, 'm')
        ),
        17 => format!("HSET {} f{n} v g {n}", key(rng, 'h')),
        18 => format!("HDEL {} f{n}", key(rng, 'h')),
        19 => format!("HINCRBYFLOAT {} q 1.5", key(rng, 'h')),
        20 => format!("ZADD {} {n} a{n} 1.5 b", key(rng, 'z')),
        21 => format!("ZPOPMIN {}", key(rng, 'z')),
        22 => format!(
            "ZUNIONSTORE {} 2 {} {}",
            key(rng, 'z'),
            key(rng, 'z'),
            key(rng, 'z')
        ),
        23 => format!("XADD {} MAXLEN 30 * f {n}", key(rng, 'x')),
        24 => format!("XGROUP CREATE {} g 0 MKSTREAM", key(rng, 'x')),
        25 => format!(
            "XREADGROUP GROUP g c{} COUNT 3 STREAMS {} >",
            n % 3,
            key(rng, 'x')
        ),
        26 => format!("PFADD {} {n}", key(rng, 'p')),
        27 => format!("DEL {} {}", key(rng, 's'), key(rng, 'l')),
        28 => format!("RENAME {} {}", key(rng, 'h'), key(rng, 'h')),
        29 => format!("COPY {} {} REPLACE", key(rng, 'z'), key(rng, 'z')),
        30 => format!("PEXPIRE {} {}", key(rng, 'm'), 200 + rng.below(400)),
        31 => format!("GETEX {} PERSIST", key(rng, 's')),
        32 => format!("GEOADD {} 13.361389 38.115556 p{n}", key(rng, 'e')),
        _ => format!("SELECT {}", rng.below(DBS)),
    }
}

/// Writes until it is told to stop; how many writes those were.
fn load(server: &Server, seed: u64, stops: &AtomicBool) -> u64 {
    let (mut client, mut rng, mut writes) = (server.client(), Rng::new(seed), 0);
    while !stops.load(Relaxed) {
        let batch = 1 + rng.below(40);
        let in_multi = rng.below(10) == 0;
        let mut requests = Vec::new();
        let mut push = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            protocol::request::encode(&words, &mut requests);
        };
        if in_multi {
            push("MULTI");
        }
        (0..batch).for_each(|_| push(&write(&mut rng)));
        if in_multi {
            push("EXEC");
        }
        client.stream.write_all(&requests).unwrap();
        (0..batch + 2 * u64::from(in_multi)).for_each(|_| drop(client.answer()));
        writes += batch;
    }
    writes
}

/// Everything of a database, in an order that is the same everywhere.
fn contents(client: &mut Client, db: u64) -> Vec<(Vec<u8>, Vec<Answer>)> {
    client.call(&format!("SELECT {db}"));
    let Answer::Array(names) = client.call("KEYS *") else {
        panic!("KEYS");
    };
    let mut all = Vec::new();
    for name in names {
        let Answer::Bulk(name) = name else {
            panic!("a name")
        };
        let mut parts = Vec::new();
        let mut read = |words: &[&[u8]]| {
            client.send(words);
            client.answer()
        };
        let kind = read(&[b"TYPE", &name]);
        let Answer::Simple(kind_name) = &kind else {
            panic!("TYPE")
        };
        let reads: &[&[&[u8]]] = match &kind_name[..] {
            b"string" => &[&[b"GET", &name]],
            b"list" => &[&[b"LRANGE", &name, b"0", b"-1"]],
            b"set" => &[&[b"SMEMBERS", &name]],
            b"hash" => &[&[b"HGETALL", &name]],
            b"zset" => &[&[b"ZRANGE", &name, b"0", b"-1", b"WITHSCORES"]],
            _ => &[
                &[b"XRANGE", &name, b"-", b"+"],
                &[b"XINFO", b"GROUPS", &name],
                &[b"XPENDING", &name, b"g", b"-", b"+", b"1000"],
            ],
        };
        for words in reads {
            let mut part = read(words);
            if let Answer::Array(parts) = &mut part {
                match &kind_name[..] {
                    b"set" => parts.sort_by_key(|part| format!("{part:?}")),
                    b"hash" => {
                        let mut pairs: Vec<_> = parts.chunks(2).map(<[_]>::to_vec).collect();
                        pairs.sort_by_key(|pair| format!("{pair:?}"));
                        *parts = pairs.concat();
                    }
                    // (How long an entry has been pending is asked a moment later there.)
                    b"stream" if words[0] == b"XPENDING" => {
                        for entry in parts {
                            if let Answer::Array(fields) = entry {
                                fields.remove(2);
                            }
                        }
                    }
                    _ => {}
                }
            }
            parts.push(part);
        }
        parts.push(read(&[b"PEXPIRETIME", &name]));
        parts.push(kind);
        all.push((name, parts));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn assert_same(here: &Server, there: &Server) {
    let (mut here, mut there) = (here.client(), there.client());
    // Deadlines pass at both: none is left that could.
    wait_for("deadlines have passed", || {
        (0..DBS).all(|db| {
            let keys = here.info("keyspace", &format!("db{db}"));
            keys.is_empty() || keys.contains("expires=0,")
        })
    });
    wait_for("the replica has all", || {
        let end = here.info("replication", "master_repl_offset");
        there.info("replication", "slave_repl_offset") == end
    });
    for db in 0..DBS {
        let (left, right) = (contents(&mut here, db), contents(&mut there, db));
        assert!(!left.is_empty());
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left, right, "database {db}");
        }
        assert_eq!(left.len(), right.len(), "database {db}");
    }
    // Nothing that was said failed.
    assert_eq!(there.info("errorstats", "errorstat_ERR"), "");
}

fn replica(more: &[&str]) -> Option<Server> {
    let replica = Server::start("redis-server", "redis", more);
    if replica.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must have redis-server"
        );
        eprintln!("SKIPPED: there is no redis-server in PATH");
    }
    replica
}

/// A library is told as well, and one that comes later.
fn load_library(client: &mut Client, name: &str) {
    let code = format!(
        "#!lua name={name}\nredis.register_function{{function_name='{name}_f', \
         callback=function() return 7 end, flags={{'no-writes'}}}}"
    );
    client.send(&["FUNCTION", "LOAD", &code]);
    assert_eq!(client.answer(), Answer::Bulk(name.as_bytes().to_vec()));
}

fn follows_under_load(args: &[&str]) {
    let Some(redis) = replica(&[]) else { return };
    let common = ["--cores", "2", "--repl-ping-replica-period", "1"];
    let node = Server::start(
        env!("CARGO_BIN_EXE_meridian"),
        "node",
        &[&common, args].concat(),
    );
    let node = node.unwrap();
    let (mut here, mut there) = (node.client(), redis.client());
    load_library(&mut here, "early");
    let bytes =
        |here: &mut Client, name: &str| -> u64 { here.info("memory", name).parse().unwrap() };
    let overhead = bytes(&mut here, "used_memory_overhead");
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = (1..=3)
            .map(|seed| {
                scope.spawn({
                    let (node, stops) = (&node, &stops);
                    move || load(node, seed, stops)
                })
            })
            .collect();
        let ok = Answer::Simple(b"OK".to_vec());
        assert_eq!(
            there.call(&format!("REPLICAOF 127.0.0.1 {}", node.port)),
            ok
        );
        let is_up = |there: &mut Client| there.info("replication", "master_link_status") == "up";
        wait_for("the link is up", || is_up(&mut there));
        load_library(&mut here, "late");
        for cut in 1..=3 {
            let writes = |here: &mut Client| -> u64 {
                let all = here.info("stats", "total_commands_processed");
                all.parse().unwrap()
            };
            let before = writes(&mut here);
            wait_for("writes go on", || writes(&mut here) > before + 10_000);
            assert_eq!(here.call("CLIENT KILL TYPE replica"), Answer::Int(1));
            wait_for("the link is up again", || {
                let resumed = here.info("stats", "sync_partial_ok");
                resumed == cut.to_string() && is_up(&mut there)
            });
        }
        assert_eq!(
            here.info("stats", "sync_full"),
            "1",
            "it went on where it was"
        );
        let wait = here.call("WAIT 1 60000");
        assert_eq!(wait, Answer::Int(1));
        stops.store(true, Relaxed);
        let writes: u64 = loads.into_iter().map(|load| load.join().unwrap()).sum();
        assert!(writes > 30_000);
    });
    assert_eq!(here.call("WAIT 1 60000"), Answer::Int(1));
    assert_same(&node, &redis);
    let backlog = bytes(&mut here, "mem_replication_backlog");
    let more = bytes(&mut here, "used_memory_overhead") - overhead;
    assert!(backlog > 500_000 && more >= backlog, "{more} of {backlog}");
    assert_eq!(there.call("FCALL early_f 0"), Answer::Int(7));
    assert_eq!(there.call("FCALL late_f 0"), Answer::Int(7));
    assert!(here.info("replication", "slave0").contains("state=online"));
    let litter = std::fs::read_dir(&node.dir).unwrap();
    let names = litter.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.starts_with("temp-")));
    // A flush, a swap, and another full copy after the history has ended.
    here.call("FLUSHDB");
    here.call("SWAPDB 1 2");
    assert_eq!(
        there.call("REPLICAOF NO ONE"),
        Answer::Simple(b"OK".to_vec())
    );
    there.call("SET astray 1");
    there.call(&format!("REPLICAOF 127.0.0.1 {}", node.port));
    wait_for("the link is up", || {
        there.info("replication", "master_link_status") == "up"
    });
    here.call("SET a 1");
    assert_eq!(here.call("WAIT 1 60000"), Answer::Int(1));
    assert_same(&node, &redis);
}

#[test]
fn redis_follows_a_node_without_a_log() {
    follows_under_load(&["--appendonly", "no"]);
}

#[test]
fn redis_follows_a_node_with_a_log() {
    follows_under_load(&["--appendonly", "yes", "--appendfsync", "everysec"]);
}
