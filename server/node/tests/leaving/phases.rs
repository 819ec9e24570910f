//! The table of [`unsafe_commands`](crate::unsafe_commands) in every phase of a move: forth, back, forth again and to its end, with both kinds of
//! old side. What was played in one phase is looked at again in all that follow.

use std::collections::BTreeSet;

use crate::programs::{Client, done, info, show, status, until};
use crate::unsafe_commands::{CASES, Cast, Left, held};
use crate::written::Move;

/// A server that clients speak to.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Here,
    There,
}
use At::{Here, There};

/// A client that was busy in one phase, to be looked at in the next.
struct Across {
    waits: Client,
    watches: Client,
    key: String,
}

struct Play {
    servers: Move,
    /// What `start` is told.
    way: Vec<String>,
    left: Vec<Left>,
    /// Keys of requests that were refused.
    refused: BTreeSet<String>,
}

impl Play {
    fn client(&self, at: At) -> Client {
        match at {
            Here => Client::try_new(self.servers.node.port).unwrap(),
            There => {
                let mut client = Client::try_new(self.servers.old.port).unwrap();
                assert_eq!(client.call("AUTH app x").unwrap(), "+OK");
                client
            }
        }
    }

    fn cast(&self, (a, b): (At, At), decides: At) -> Cast {
        let port = match decides {
            Here => self.servers.node.port,
            There => self.servers.old.port,
        };
        Cast {
            clients: [self.client(a), self.client(b), self.client(a)],
            decides: Client::try_new(port).unwrap(),
        }
    }

    /// Every case, with clients of these two servers.
    fn play(&mut self, phase: &str, (a, b): (At, At), decides: At) {
        let mut cast = self.cast((a, b), decides);
        let way = if a == Here { "here" } else { "there" };
        for (n, case) in CASES.iter().enumerate() {
            let left = cast.play(case, &format!("{phase}:{way}:{n}:"));
            self.left.extend(left);
        }
    }

    /// Every case where nobody may write.
    fn refused(&mut self, phase: &str, at: At) {
        for (n, case) in CASES.iter().enumerate() {
            // (A connection of its own: a transaction that was refused may be open.)
            let mut cast = self.cast((at, at), at);
            let key = format!("refused:{phase}:{n}:");
            let refused = cast.refused(case, &key);
            assert!(refused > 0, "{phase}: {} is not refused", case.name);
            self.refused
                .extend(["", "2", "3"].map(|end| format!("{key}{end}")));
        }
    }

    /// What the side that decides has executed is on the other one, too.
    fn settle(&self, decides: At) {
        let (mut here, mut old) = (
            self.client(Here),
            Client::try_new(self.servers.old.port).unwrap(),
        );
        match decides {
            There => {
                let offset: u64 = info(&mut old, "master_repl_offset").parse().unwrap();
                until("the stream is executed here", || {
                    let executed = status(self.servers.node.admin, "/link/offset");
                    executed.parse::<u64>().unwrap() >= offset
                });
            }
            Here if self.is_written() => self.servers.drained(),
            Here => {
                let mark = format!("mark:{}", self.left.len());
                here.call(&format!("SET {mark} 1")).unwrap();
                until("the stream is executed there", || {
                    old.call(&format!("GET {mark}")).unwrap() == "1"
                });
            }
        }
    }

    fn is_written(&self) -> bool {
        self.way.contains(&"written".to_owned())
    }

    /// Everything that was played, on one side.
    fn look(&self, phase: &str, client: &mut Client, side: &str) {
        for left in &self.left {
            let (value, ends_ms) = held(client, &left.key);
            let place = format!("in {phase}, {side}: {}", left.key);
            assert_eq!(value, left.value, "{place}");
            match (left.ends_ms, ends_ms) {
                (Some((from, to)), Some(ends)) => {
                    assert!(
                        (from..=to).contains(&ends),
                        "{place} ends at {ends}, not {from}..{to}"
                    );
                }
                (from_to, ends) => assert_eq!(from_to.map(|_| 0), ends, "{place}"),
            }
        }
        for key in &self.refused {
            assert_eq!(held(client, key).0, "none", "in {phase}, {side}: {key}");
        }
    }

    /// Both sides hold what clients were told, with the same deadlines to the millisecond.
    fn both(&self, phase: &str, decides: At) {
        self.settle(decides);
        let (mut here, mut old) = (
            self.client(Here),
            Client::try_new(self.servers.old.port).unwrap(),
        );
        let passed_on = info(&mut here, "front_passed_on");
        self.look(phase, &mut here, "here");
        assert_eq!(
            passed_on,
            info(&mut here, "front_passed_on"),
            "what was read was this node's"
        );
        self.look(phase, &mut old, "at the old Redis");
        for left in &self.left {
            assert_eq!(
                held(&mut here, &left.key),
                held(&mut old, &left.key),
                "{phase}: {}",
                left.key
            );
        }
    }

    /// Who waits, watches and holds a lock while the phase changes.
    fn begin_across(&mut self, phase: &str, at: At, decides: At) -> Across {
        let mut cast = self.cast((at, at), decides);
        let key = format!("across:{phase}:");
        let [waits, watches, mut locks] = cast.clients;
        let mut across = Across {
            waits,
            watches,
            key: key.clone(),
        };
        let waited = info(&mut cast.decides, "blocked_clients");
        across.waits.send(&format!("BLPOP {key}list 0")).unwrap();
        until("it waits", || {
            info(&mut cast.decides, "blocked_clients") != waited
        });
        assert_eq!(locks.call(&format!("SET {key}count 7")).unwrap(), "+OK");
        assert_eq!(
            across.watches.call(&format!("WATCH {key}count")).unwrap(),
            "+OK"
        );
        assert_eq!(
            locks
                .call(&format!("SET {key}lock me NX PX 900000"))
                .unwrap(),
            "+OK"
        );
        across
    }

    /// The same clients behind it: an element is taken once, a lock is still held, and who watched counts once or is told to look again.
    fn end_across(&mut self, mut across: Across, at: At) {
        let (mut client, key) = (self.client(at), across.key.clone());
        let lock = client.answer(&format!("SET {key}lock you NX PX 900000"));
        assert_eq!(show(&lock.unwrap()), "nil", "{key}");
        assert_eq!(client.call(&format!("RPUSH {key}list x")).unwrap(), ":1");
        assert_eq!(
            show(&across.waits.receive().unwrap()),
            format!("[{key}list x]")
        );
        assert_eq!(client.call(&format!("RPUSH {key}list y")).unwrap(), ":1");
        across.watches.answer("MULTI").unwrap();
        across.watches.answer(&format!("INCR {key}count")).unwrap();
        let count = match show(&across.watches.answer("EXEC").unwrap()).as_str() {
            "nil" => "7",
            "[:8]" => "8",
            other => panic!("{key}: EXEC: {other}"),
        };
        for (name, value) in [("list", "[y]"), ("count", count)] {
            let (key, value) = (format!("{key}{name}"), value.to_owned());
            self.left.push(Left {
                key,
                value,
                ends_ms: None,
            });
        }
    }
}

/// A move from its begin to its end.
fn moves(way: &[&str]) {
    // (The node says what it knows; nothing else is configured than in any other move.)
    let Some(servers) = Move::new(&[]) else {
        return;
    };
    let (admin, there) = (
        servers.node.admin,
        format!("127.0.0.1:{}", servers.old.port),
    );
    let announce = format!("127.0.0.1:{}", servers.node.port);
    let way: Vec<String> = ["start", &there, "--announce", &announce]
        .iter()
        .chain(way)
        .map(|word| (*word).to_owned())
        .collect();
    let mut play = Play {
        servers,
        way,
        left: Vec::new(),
        refused: BTreeSet::new(),
    };
    let words: Vec<&str> = play.way.iter().map(String::as_str).collect();
    done(admin, &words);
    until("the copy is here", || {
        status(admin, "/link/follows") == "true"
    });
    play.play("attach", (There, There), There);
    play.refused("attach", Here);
    play.both("attach", There);

    let across = play.begin_across("front", There, There);
    done(admin, &["advance"]);
    play.end_across(across, There);
    play.fronted("front");
    let across = play.begin_across("verify", Here, There);
    done(admin, &["advance"]);
    play.end_across(across, There);
    play.fronted("verify");
    play.flip("reverse");
    let across = play.begin_across("back", Here, Here);
    done(admin, &["back"]);
    assert_eq!(status(admin, "/phase"), "\"verify\"");
    play.end_across(across, There);
    play.fronted("back");
    play.flip("again");

    done(admin, &["finish"]);
    let before = play.left.len();
    play.play("finished", (Here, Here), Here);
    play.refused("finished", There);
    let mut here = play.client(Here);
    play.look("finished", &mut here, "here");
    // The old Redis is not looked at any more: it has what came before, and of the rest nothing else than what is here.
    let mut old = Client::try_new(play.servers.old.port).unwrap();
    let after = play.left.split_off(before);
    play.look("finished", &mut old, "at the old Redis");
    for left in after {
        let (ours, theirs) = (held(&mut here, &left.key), held(&mut old, &left.key));
        let nothing = ("none".to_owned(), None);
        assert!(
            theirs == nothing || (ours == theirs && !play.is_written()),
            "{}",
            left.key
        );
    }
}

impl Play {
    /// A phase in which clients are at either server, and the old one decides; and what the comparison of the node says of it.
    fn fronted(&mut self, phase: &str) {
        self.play(phase, (Here, There), There);
        self.play(phase, (There, Here), There);
        self.both(phase, There);
        let found = done(self.servers.node.admin, &["verify", "--no-fetch", "--keys"]);
        assert!(
            found.contains("no difference is listed"),
            "{phase}: {found}"
        );
    }

    /// The flip, and the phase behind it.
    fn flip(&mut self, phase: &str) {
        let admin = self.servers.node.admin;
        self.servers.compared();
        let across = self.begin_across(phase, Here, There);
        done(admin, &["advance"]);
        assert_eq!(status(admin, "/phase"), "\"reverse\"");
        self.end_across(across, Here);
        self.play(phase, (Here, Here), Here);
        self.refused(phase, There);
        self.both(phase, Here);
    }
}

#[test]
fn nothing_happens_twice_with_an_old_side_that_follows() {
    moves(&[]);
}

#[test]
fn nothing_happens_twice_with_an_old_side_that_is_written_to() {
    moves(&["--old-side", "written", "--bar-users", "app"]);
}
