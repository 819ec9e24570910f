//! Sources whose copy or stream is damaged: what `meridian migrate status` says of them, and that nothing of them is taken in.
//!
//! Everything that a migration asks a source is answered by a redis-server; only PSYNC is answered here ([`detour`](crate::detour)).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use protocol::request;
use serde_json::Value;
use storage::rdb::{Splitter, crc64};

use crate::detour::detour;
use crate::programs::{Client, Server, done, free_port, show, until};

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
/// The offset at which every copy stands.
const OFFSET: u64 = 100;
/// Places of a file that are damaged, one after the other.
const PLACES: usize = 8;
const DAMAGED: &str = "Nothing of it has been taken in";

/// What answers PSYNC: always with what is said now; with nothing while that is empty.
#[derive(Clone, Default)]
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Links that were answered nothing.
    silent: Arc<AtomicUsize>,
}

impl Said {
    fn start() -> (Said, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = Said::default();
        let says = said.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let says = says.clone();
                std::thread::spawn(move || says.serve(stream));
            }
        });
        (said, port)
    }

    fn say(&self, bytes: Vec<u8>) {
        *self.bytes.lock().unwrap() = bytes;
    }

    /// Says nothing any more, and waits until a node waits for it: what it was told before has had its end.
    fn fall_silent(&self) {
        let before = self.silent.load(Relaxed);
        self.say(Vec::new());
        until("a link that waits", || self.silent.load(Relaxed) > before);
    }

    /// One link, until the node hangs up.
    fn serve(&self, mut stream: TcpStream) {
        let (mut heard, mut piece, mut answered) = (Vec::new(), [0; 4096], 0);
        while let Ok(read) = stream.read(&mut piece)
            && read > 0
        {
            heard.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&heard).into_owned();
            if answered == 0 && text.contains("psync2\r\n") {
                answered = 1;
                stream.write_all(b"+OK\r\n").unwrap();
            }
            if answered == 1 && text.contains("PSYNC\r\n") {
                answered = 2;
                let bytes = self.bytes.lock().unwrap().clone();
                self.silent
                    .fetch_add(usize::from(bytes.is_empty()), Relaxed);
                // (A node that has seen enough hangs up before it has all.)
                let _sent = stream.write_all(&bytes);
            }
        }
    }
}

/// A copy of this file, and a stream behind it.
fn copy(file: &[u8], stream: &[u8]) -> Vec<u8> {
    let head = format!("+FULLRESYNC {ID} {OFFSET}\r\n${}\r\n", file.len());
    [head.as_bytes(), file, stream].concat()
}

/// A file of these parts. `sums`: with its checksum.
fn file(inside: &[u8], sums: bool) -> Vec<u8> {
    let mut file = [b"REDIS0010", inside, &[255]].concat();
    let sum = if sums { crc64(0, &file) } else { 0 };
    file.extend(sum.to_le_bytes());
    file
}

/// Where a file is damaged and how, as its reader says it.
fn damage_of(file: &[u8]) -> String {
    let mut splitter = Splitter::new(16, true);
    splitter.feed(file);
    loop {
        match splitter.next_part() {
            Ok(Some(_)) => {}
            Ok(None) => return splitter.finish().unwrap_err().to_string(),
            Err(damage) => return damage.to_string(),
        }
    }
}

fn requests(texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        request::encode(&text.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    bytes
}

/// A node that attaches to a source by what is said.
struct Attached {
    source: Server,
    node: Server,
    admin: u16,
    said: Said,
    way: u16,
}

impl Attached {
    /// None where there is no redis-server.
    fn new() -> Option<Attached> {
        Attached::logging("yes")
    }

    /// The same with a log or without.
    fn logging(logs: &str) -> Option<Attached> {
        let source = Server::start("redis-server", &[])?;
        let (said, port) = Said::start();
        let admin = free_port();
        let admin_port = admin.to_string();
        let words = [
            "--admin-port",
            &admin_port,
            "--cores",
            "2",
            "--appendonly",
            logs,
        ];
        Some(Attached {
            node: Server::start(env!("CARGO_BIN_EXE_meridian"), &words).unwrap(),
            way: detour(source.port, port),
            source,
            admin,
            said,
        })
    }

    fn start(&self) {
        let announce = format!("127.0.0.1:{}", self.node.port);
        let way = format!("127.0.0.1:{}", self.way);
        done(self.admin, &["start", &way, "--announce", &announce]);
    }

    fn back(&self) {
        done(self.admin, &["back"]);
    }

    /// The status shows this; what it says of the link.
    fn shows(&self, part: &str) -> Value {
        let (mut shown, mut found) = (String::new(), Value::Null);
        until(part, || {
            let text = done(self.admin, &["status", "--json"]);
            found = serde_json::from_str(&text).unwrap();
            assert_eq!(found["phase"], "attach");
            let error = found["link"]["error"].to_string();
            if error != shown {
                eprintln!("{error}");
                shown = error;
            }
            // And the page that people read.
            shown.contains(part) && done(self.admin, &["status"]).contains(part)
        });
        found["link"].take()
    }

    fn call(&self, words: &str) -> String {
        let mut client = None;
        until("it answers", || {
            client = Client::try_new(self.node.port);
            client.is_some()
        });
        show(&client.and_then(|mut client| client.answer(words)).unwrap())
    }
}

/// A file of a redis-server with a key of each type, large and small, and a deadline.
fn of_redis(source: &Server) -> Vec<u8> {
    let mut client = Client::try_new(source.port).unwrap();
    for words in [
        "SET text value EX 100000",
        "SET number 12345",
        "RPUSH list a b c",
        "SADD ints 1 2 3",
        "SADD set a b c",
        "HSET hash a 1 b 2",
        "ZADD zset 1 a 2.5 b",
        "XADD stream 1-1 f v",
        "XGROUP CREATE stream g 0",
        "EVAL for\ni=1,2000\ndo\nredis.call('HSET','large',i,'value'..i)\nend 0",
        "SAVE",
    ] {
        let reply = show(&client.answer(words).unwrap());
        assert!(!reply.starts_with('-'), "{words}: {reply}");
    }
    std::fs::read(source.file("dump.rdb")).unwrap()
}

#[test]
fn a_damaged_copy_is_told_with_its_place_and_changes_nothing() {
    let Some(attached) = Attached::new() else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let whole = of_redis(&attached.source);
    let mut cases: Vec<(Vec<u8>, String, &str)> = Vec::new();
    for n in 0..PLACES {
        let mut file = whole.clone();
        let at = 9 + (file.len() - 9) * n / PLACES;
        file[at] ^= 0x55;
        let damage = damage_of(&file);
        cases.push((file, format!("the source's file: {damage}"), DAMAGED));
    }
    let newer = [b"REDIS0099", &whole[9..]].concat();
    let short = whole[..whole.len() - 20].to_vec();
    let module = file(
        b"\xfe\x00\x07\x03key\x81\x00\x00\x00\x00\x00\x00\x00\x00\x02\x01\x00",
        true,
    );
    let strange = file(b"\xfe\x00\x2f\x03key", true);
    // A hash whose packed block is none; without a checksum only its value tells.
    let packed = file(
        b"\xfe\x00\x00\x01a\x01b\x10\x03key\x08\xff\xff\xff\xff\x01\x00\x01\x00",
        false,
    );
    cases.extend([
        (
            newer,
            "at byte 0: RDB version 99 is not supported".into(),
            "newer than what this server reads",
        ),
        (
            short,
            "the file ends here, in the middle".into(),
            "the copy is asked for again",
        ),
        (
            module,
            "at byte 11: a value of the module type".into(),
            "remove these keys at the source",
        ),
        (
            strange,
            "at byte 11: unknown type or opcode 47".into(),
            "newer than what this server reads",
        ),
        (
            packed,
            "at byte 16: a value that is not what its type says".into(),
            DAMAGED,
        ),
    ]);
    assert_eq!(attached.call("SET mine 1"), "+OK");
    attached.said.say(copy(&cases[0].0, b""));
    attached.start();
    for (file, part, way_on) in &cases {
        attached.said.say(copy(file, b""));
        let link = attached.shows(part);
        let error = link["error"].as_str().unwrap();
        assert!(error.contains(way_on) && error.contains(DAMAGED), "{error}");
        assert_eq!(attached.call("KEYS *"), "[mine]", "{part}");
        assert_eq!(attached.call("GET mine"), "1", "{part}");
    }
    // The way on is taken by itself once the copy is whole.
    attached.said.say(copy(&whole, &requests(&["INCR number"])));
    until("the copy is here", || {
        attached.call("GET number") == "12346"
    });
    assert_eq!(attached.call("EXISTS mine"), ":0");
    assert_eq!(attached.call("DBSIZE"), ":9");
    assert_eq!(attached.call("HLEN large"), ":2000");
}

/// What only shows when it is loaded: nothing of it stays, and a start does not find it either.
#[test]
fn a_copy_whose_values_are_wrong_under_a_right_checksum_leaves_nothing() {
    let Some(mut attached) = Attached::new() else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let packed = file(
        b"\xfe\x00\x00\x01a\x01b\x10\x03key\x08\xff\xff\xff\xff\x01\x00\x01\x00",
        true,
    );
    assert_eq!(attached.call("SET mine 1"), "+OK");
    attached.said.say(copy(&packed, b""));
    attached.start();
    let link = attached
        .shows("cannot load the source's file: at byte 16: a value that is not what its type says");
    assert!(
        link["error"]
            .as_str()
            .unwrap()
            .contains("the copy is asked for again")
    );
    until("what was there is gone", || attached.call("DBSIZE") == ":0");
    attached.said.fall_silent();
    attached.node.kill();
    attached.node.start_again();
    assert_eq!(attached.call("DBSIZE"), ":0");
    attached
        .said
        .say(copy(&file(b"\xfe\x00\x00\x01a\x01b", true), b""));
    until("the copy is here", || attached.call("GET a") == "b");
}

/// Where nothing is, a file is loaded as it arrives: half of one is nothing again, whatever ends it.
#[test]
fn a_copy_that_is_loaded_as_it_arrives_leaves_nothing_of_a_damaged_file() {
    for logs in ["yes", "no"] {
        leaves_nothing(logs);
    }
}

fn leaves_nothing(logs: &str) {
    let Some(mut attached) = Attached::logging(logs) else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let whole = of_redis(&attached.source);
    let mut cases: Vec<(Vec<u8>, String)> = Vec::new();
    for n in 1..6 {
        let mut file = whole.clone();
        let at = 9 + (file.len() - 9) * n / 6;
        file[at] ^= 0x55;
        let damage = damage_of(&file);
        cases.push((file, format!("the source's file: {damage}")));
    }
    // The last of two keys is damaged inside: only the core that takes it sees that.
    let packed = file(
        b"\xfe\x00\x00\x01a\x01b\x10\x03key\x08\xff\xff\xff\xff\x01\x00\x01\x00",
        true,
    );
    let inside = "at byte 16: a value that is not what its type says";
    cases.push((packed, inside.to_owned()));
    attached.said.say(copy(&cases[0].0, b""));
    attached.start();
    for (file, part) in &cases {
        attached.said.say(copy(file, b""));
        let link = attached.shows(part);
        let error = link["error"].as_str().unwrap();
        assert!(error.contains("the copy is asked for again"), "{error}");
        attached.said.say(b"-ERR not now\r\n".to_vec());
        attached.shows("not now");
        assert_eq!(attached.call("DBSIZE"), ":0");
        assert_eq!(attached.call("FUNCTION LIST"), "[]");
    }
    // In the middle of a file clients of all cores wait for it, and a start after a kill finds nothing of it.
    let mut clients: Vec<Client> = (0..8)
        .map(|_| Client::try_new(attached.node.port).unwrap())
        .collect();
    let mut answers = |words: &str| -> Vec<String> {
        let clients = clients.iter_mut();
        clients
            .map(|client| show(&client.answer(words).unwrap()))
            .collect()
    };
    answers("MULTI");
    assert!(answers("GET text").iter().all(|reply| reply == "+QUEUED"));
    let mut half = copy(&whole, b"");
    half.truncate(half.len() - 20);
    attached.said.say(half);
    until("it is being loaded", || {
        answers("PING")
            .iter()
            .all(|reply| reply.starts_with("-LOADING"))
    });
    let ends = answers("EXEC");
    let aborts = |reply: &String| reply.starts_with("-EXECABORT");
    assert!(ends.iter().all(aborts), "{ends:?}");
    assert!(
        answers("GET text")
            .iter()
            .all(|reply| reply.starts_with("-LOADING"))
    );
    attached.said.say(Vec::new());
    attached.node.kill();
    attached.node.start_again();
    assert_eq!(attached.call("DBSIZE"), ":0");
    attached.said.say(copy(&whole, &requests(&["INCR number"])));
    until("the copy is here", || {
        attached.call("GET number") == "12346"
    });
    assert_eq!(attached.call("DBSIZE"), ":9");
    assert_eq!(attached.call("HLEN large"), ":2000");
    // It is kept: the file is the snapshot, and the log has a base.
    until("the log has a base", || {
        let info = attached.call("INFO persistence");
        logs == "no"
            || (info.contains("aof_rewrite_in_progress:0") && !info.contains("aof_base_size:0"))
    });
    attached.said.say(Vec::new());
    attached.node.kill();
    attached.node.start_again();
    // (What came behind the file is asked for again where it is in no log.)
    let number = attached.call("GET number");
    assert!(["12345", "12346"].contains(&number.as_str()), "{number}");
    assert_eq!(attached.call("DBSIZE"), ":9");
    assert_eq!(attached.call("HLEN large"), ":2000");
}

#[test]
fn a_damaged_stream_is_told_with_its_offset_and_executed_up_to_there() {
    let Some(attached) = Attached::new() else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let good = file(b"\xfe\x00\x00\x01n\x011", true);
    let before = requests(&["SELECT 0", "INCR n", "MULTI", "INCR n", "INCR m", "EXEC"]);
    let end = OFFSET + before.len() as u64;
    // In a transaction nothing of it is executed, and its begin is where the stream is gone on from.
    let open = requests(&["MULTI", "INCR n"]);
    let cases: [(&[u8], Vec<u8>, &str); 10] = [
        (b"", b"hello\r\n".to_vec(), "an inline request"),
        (b"", b"*1\r\n$-5\r\n".to_vec(), "invalid bulk length"),
        (
            b"",
            b"*2\r\n$4\r\nINCR\r\n$99999999999999\r\n".to_vec(),
            "invalid bulk length",
        ),
        (b"", b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
        (b"", b"*2\r\n$4\r\nINCR\r\n:5\r\n".to_vec(), "expected '$'"),
        (b"", b"\0\xff\x80garbage\r\n".to_vec(), "an inline request"),
        (b"", requests(&["EXEC"]), "an EXEC without its MULTI"),
        (
            b"",
            requests(&["SELECT x", "INCR n"]),
            "SELECT of the database 'x'",
        ),
        (&open, b"*1\r\n$-5\r\n".to_vec(), "invalid bulk length"),
        (
            &open,
            requests(&["FROBNICATE n"]),
            "'FROBNICATE n': the command is not known",
        ),
    ];
    for (open, bad, part) in cases {
        let bad = [open, &bad].concat();
        attached
            .said
            .say(copy(&good, &[before.clone(), bad].concat()));
        attached.start();
        let link = attached.shows(part);
        let error = link["error"].as_str().unwrap();
        let place = format!("behind offset {}", end + open.len() as u64);
        assert!(
            error.contains(&place) && error.contains("`migrate back`"),
            "{error}"
        );
        attached.said.fall_silent();
        assert_eq!(link["offset"], end, "{error}");
        let held = ["GET n", "GET m"].map(|words| attached.call(words));
        assert_eq!(held, ["3", "1"], "{error}");
        attached.back();
    }
}
