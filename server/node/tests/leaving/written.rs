//! An old Redis that is written to: equal to this node whatever is killed, given up when too much waits for it, and in charge again.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use protocol::answer::Answer;

use crate::programs::{Client, Server, done, free_port, migrate, status, until};

/// The key that says how far the old Redis is.
const POSITION: &str = "meridian:migration:position";

/// A Redis whose application is the user `app`, and a node that writes to it as another one.
pub(crate) struct Move {
    pub(crate) old: Server,
    pub(crate) node: Server,
    /// Where the old Redis is asked.
    pub(crate) source: String,
    /// How it is begun.
    way: Vec<String>,
}

impl Move {
    /// None where there is no redis-server.
    pub(crate) fn new(more: &[&str]) -> Option<Move> {
        let users = "--user app on nopass ~* &* +@all -flushall";
        let users: Vec<&str> = users.split(' ').collect();
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let words: Vec<&str> =
            [&["--repl-diskless-sync-delay", "0"][..], &durable, &users].concat();
        Move::of(&words, more, "--old-side written --bar-users app")
    }

    /// With these options of the two, begun in this way.
    pub(crate) fn of(old: &[&str], more: &[&str], way: &str) -> Option<Move> {
        let Some(old) = Server::start("redis-server", old) else {
            eprintln!("skipped: no redis-server here");
            return None;
        };
        let admin = free_port();
        let admin_port = admin.to_string();
        let words = [
            "--admin-port",
            &admin_port,
            "--cores",
            "2",
            "--appendonly",
            "yes",
            "--migrate-pause-max-ms",
            "5000",
        ];
        let mut node =
            Server::start(env!("CARGO_BIN_EXE_meridian"), &[&words, more].concat()).unwrap();
        node.admin = admin;
        let way = way.split(' ').map(str::to_owned).collect();
        let source = format!("127.0.0.1:{}", old.port);
        Some(Move {
            old,
            node,
            source,
            way,
        })
    }

    /// The operator's first words.
    pub(crate) fn start(&self) {
        let way = self.way.iter().map(String::as_str);
        let words: Vec<&str> = ["start", &self.source].into_iter().chain(way).collect();
        done(self.node.admin, &words);
    }

    /// All that is there is here.
    pub(crate) fn followed(&self) {
        until("the copy is here", || {
            status(self.node.admin, "/link/follows") == "true"
        });
    }

    /// The operator's words, up to the flip.
    pub(crate) fn flip(&self) {
        self.start();
        self.followed();
        done(self.node.admin, &["advance"]);
        done(self.node.admin, &["advance"]);
        self.compared();
        done(self.node.admin, &["advance"]);
        assert_eq!(status(self.node.admin, "/phase"), "\"reverse\"");
    }

    pub(crate) fn compared(&self) {
        until("everything is compared", || {
            status(self.node.admin, "/verify/passes") != "0"
        });
        assert_eq!(status(self.node.admin, "/verify/open"), "0");
    }

    /// All that was written here is there.
    pub(crate) fn drained(&self) {
        let mut here = self.client();
        here.call("SET mark 1").unwrap();
        // (The status is some tenths of a second old at most.)
        std::thread::sleep(Duration::from_millis(600));
        until("everything is written there", || {
            let text = done(self.node.admin, &["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            let written = &status["written"];
            written["up"] == true
                && written["there"].as_u64() >= written["end"].as_u64()
                && written["queue_bytes"] == 0
        });
    }

    /// A number on the admin port's page of metrics.
    fn metric(&self, name: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.node.admin)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().unwrap().trim().to_owned()
    }

    pub(crate) fn client(&self) -> Client {
        Client::try_new(self.node.port).unwrap()
    }

    /// Both sides have the same, the position left out.
    pub(crate) fn equal(&self) {
        let (mut here, mut there) = (self.client(), Client::try_new(self.old.port).unwrap());
        let (ours, mut theirs) = (all_of(&mut here), all_of(&mut there));
        theirs.remove(POSITION);
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            theirs.keys().collect::<Vec<_>>()
        );
        for (key, value) in &ours {
            assert_eq!(Some(value), theirs.get(key), "{key}");
        }
    }
}

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(bytes) | Answer::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    }
}

/// Every key with its type, value and deadline.
pub(crate) fn all_of(client: &mut Client) -> BTreeMap<String, (Answer, Answer)> {
    let Some(Answer::Array(names)) = client.answer("KEYS *") else {
        panic!("no names");
    };
    let mut found = BTreeMap::new();
    for name in names.iter().map(text) {
        let kind = text(&client.answer(&format!("TYPE {name}")).unwrap());
        let words = match kind.as_str() {
            "list" => format!("LRANGE {name} 0 -1"),
            "set" => format!("SMEMBERS {name}"),
            "zset" => format!("ZRANGE {name} 0 -1 WITHSCORES"),
            "hash" => format!("HGETALL {name}"),
            "stream" => format!("XRANGE {name} - +"),
            _ => format!("GET {name}"),
        };
        let mut value = client.answer(&words).unwrap();
        match (&mut value, kind.as_str()) {
            (Answer::Array(pairs), "hash") => {
                let mut sorted: Vec<_> = pairs.chunks(2).map(<[Answer]>::to_vec).collect();
                sorted.sort_by_key(|pair| text(&pair[0]));
                *pairs = sorted.concat();
            }
            (Answer::Array(members), "set") => members.sort_by_key(text),
            (Answer::Array(entries), "stream") => {
                // (Of a consumer group what is pending.)
                let pending = client.answer(&format!("XPENDING {name} group"));
                entries.extend(pending.filter(|answer| !answer.is_error()));
            }
            _ => {}
        }
        let deadline = client.answer(&format!("PEXPIRETIME {name}")).unwrap();
        found.insert(name, (value, deadline));
    }
    found
}

/// An application of one thread: what no second execution would leave as it is.
pub(crate) struct Load {
    acknowledged: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    pub(crate) fn begin(port: u16, name: &'static str) -> Load {
        let (acknowledged, stops) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (ours, ends) = (acknowledged.clone(), stops.clone());
        let thread = std::thread::spawn(move || {
            let mut client = None;
            let mut n = 0;
            while !ends.load(Relaxed) {
                let Some(conn) = client.as_mut() else {
                    client = Client::try_new(port);
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                n += 1;
                let steps = [
                    format!("INCR {name}:count"),
                    format!("RPUSH {name}:list {n}"),
                    format!("LPUSH {name}:list {n}"),
                    format!("RPOP {name}:list"),
                    format!("SADD {name}:set {}", n % 50),
                    format!("SPOP {name}:set"),
                    format!("ZINCRBY {name}:zset 1.5 {}", n % 7),
                    format!("APPEND {name}:text x"),
                    // Keys that end all the while, and one that is given more time just before.
                    format!("SET {name}:short:{} {n} PX 30", n % 20),
                    format!("RPUSH {name}:extended {n}"),
                    format!("PEXPIRE {name}:extended 40"),
                ];
                for words in steps {
                    match conn.call(&words) {
                        Some(reply) => assert!(!reply.starts_with('-'), "{words}: {reply}"),
                        None => {
                            client = None;
                            break;
                        }
                    }
                }
                if client.is_some() {
                    ours.fetch_add(1, Relaxed);
                }
            }
        });
        Load {
            acknowledged,
            stops,
            thread,
        }
    }

    pub(crate) fn goes_on(&self) {
        let before = self.acknowledged.load(Relaxed);
        until("the application goes on", || {
            self.acknowledged.load(Relaxed) > before + 20
        });
    }

    /// Ends it; how many rounds were acknowledged.
    pub(crate) fn end(self) -> u64 {
        self.stops.store(true, Relaxed);
        self.thread.join().unwrap();
        self.acknowledged.load(Relaxed)
    }
}

#[test]
fn it_is_equal_whatever_is_killed_and_decides_again() {
    let Some(mut servers) = Move::new(&[]) else {
        return;
    };
    let mut old = Client::try_new(servers.old.port).unwrap();
    old.call("SET before 1").unwrap();
    servers.flip();
    let mut app = Client::try_new(servers.old.port).unwrap();
    app.call("AUTH app x").unwrap();
    let refused = app.call("SET before 2").unwrap();
    assert!(refused.starts_with("-NOPERM"), "{refused}");
    let load = Load::begin(servers.node.port, "a");
    load.goes_on();
    // The link is cut, the old Redis ends, this node ends: each in the middle of everything.
    old.call("CLIENT KILL TYPE normal SKIPME yes").unwrap();
    load.goes_on();
    servers.old.kill();
    load.goes_on();
    until("the state says so", || {
        status(servers.node.admin, "/written/error") != "null"
    });
    servers.old.start_again();
    load.goes_on();
    servers.node.kill();
    servers.node.start_again();
    load.goes_on();
    until("it is written to again", || {
        status(servers.node.admin, "/written/up") == "true"
    });
    load.goes_on();
    let acknowledged = load.end();
    std::thread::sleep(Duration::from_millis(60));
    servers.drained();
    servers.equal();
    let mut here = servers.client();
    let counted: u64 = here.call("GET a:count").unwrap().parse().unwrap();
    // (Each of the two ends of a process may have taken one answer.)
    assert!(
        (acknowledged..=acknowledged + 2).contains(&counted),
        "{counted} {acknowledged}"
    );
    assert_eq!(status(servers.node.admin, "/written/failed"), "0");
    // Who was barred was so after the restart of the old Redis, too.
    until("it is barred again", || {
        let mut app = Client::try_new(servers.old.port).unwrap();
        app.call("AUTH app x").unwrap();
        app.call("SET before 2").unwrap().starts_with("-NOPERM")
    });
    // Back, and its users write again, with what they could call before; the stream is followed from its end.
    let load = Load::begin(servers.node.port, "b");
    load.goes_on();
    done(servers.node.admin, &["back"]);
    assert_eq!(status(servers.node.admin, "/phase"), "\"verify\"");
    let mut app = Client::try_new(servers.old.port).unwrap();
    app.call("AUTH app x").unwrap();
    assert_eq!(app.call("SET before 3").unwrap(), "+OK");
    assert!(app.call("FLUSHALL").unwrap().starts_with("-NOPERM"));
    load.goes_on();
    servers.compared();
    done(servers.node.admin, &["advance"]);
    load.goes_on();
    load.end();
    std::thread::sleep(Duration::from_millis(60));
    servers.drained();
    servers.equal();
    assert_eq!(servers.client().call("GET before").unwrap(), "3");
}

#[test]
fn a_key_that_ended_there_while_it_was_away_is_said_again() {
    let Some(mut servers) = Move::new(&[]) else {
        return;
    };
    servers.flip();
    let mut here = servers.client();
    for words in [
        "RPUSH list a",
        "PEXPIRE list 1500",
        "RPUSH gone a",
        "PEXPIRE gone 1500",
        "SET text abc PX 1500",
    ] {
        here.call(words).unwrap();
    }
    servers.drained();
    servers.old.kill();
    for words in [
        "RPUSH list b",
        "PERSIST list",
        "PEXPIRE gone 90000",
        "APPEND text d",
        "PEXPIRE text 90000",
    ] {
        here.call(words).unwrap();
    }
    std::thread::sleep(Duration::from_millis(1600));
    servers.old.start_again();
    servers.drained();
    servers.equal();
    assert_ne!(status(servers.node.admin, "/written/restated"), "0");
}

#[test]
fn one_for_which_too_much_waits_is_given_up_and_nobody_waits_for_it() {
    let Some(mut servers) = Move::new(&["--migrate-queue-max-bytes", "1mb"]) else {
        return;
    };
    servers.flip();
    servers.old.kill();
    let mut here = servers.client();
    let value = "x".repeat(1 << 16);
    for n in 0..40 {
        assert_eq!(here.call(&format!("SET large:{n} {value}")).unwrap(), "+OK");
    }
    until("it is given up", || {
        status(servers.node.admin, "/written/needs_copy") != "null"
    });
    until("that is a metric", || {
        servers.metric("meridian_migration_needs_copy") == "1"
    });
    assert_eq!(
        migrate(servers.node.admin, &["back"]).status.code(),
        Some(3)
    );
    // It stays so, whichever comes back.
    servers.node.kill();
    servers.node.start_again();
    servers.old.start_again();
    assert_eq!(servers.client().call("SET more 1").unwrap(), "+OK");
    assert_ne!(status(servers.node.admin, "/written/needs_copy"), "null");
    let report = done(servers.node.admin, &["finish"]);
    assert!(report.contains("migrate-queue-max-bytes"), "{report}");
}

#[test]
fn writers_that_nobody_bars_are_counted() {
    let Some(servers) = Move::new(&[]) else {
        return;
    };
    let there = format!("127.0.0.1:{}", servers.old.port);
    done(
        servers.node.admin,
        &["start", &there, "--old-side", "written"],
    );
    until("the copy is here", || {
        status(servers.node.admin, "/link/follows") == "true"
    });
    done(servers.node.admin, &["advance"]);
    done(servers.node.admin, &["advance"]);
    servers.compared();
    let taken = migrate(servers.node.admin, &["advance", "--bar-users", "default"]);
    assert_eq!(taken.status.code(), Some(3), "{taken:?}");
    done(servers.node.admin, &["advance", "--bar-users", ""]);
    let mut here = servers.client();
    for n in 0..100 {
        here.call(&format!("SET k:{n} 1")).unwrap();
    }
    servers.drained();
    let mut app = Client::try_new(servers.old.port).unwrap();
    app.call("INCR k:1").unwrap();
    app.call("SET k:2 2").unwrap();
    until("they are counted", || {
        status(servers.node.admin, "/written/strays") == "2"
    });
}
