//! What a second execution would ruin, or one on each side: counters, pops, chosen members, scripts that ask for the time and for chance, relative
//! deadlines, blocking pops, locks, WATCH. Each in every phase of a move, through both servers where both take it: the reply is what has
//! happened, it has happened once, and both sides hold the same. Where only one side decides, the other refuses.

use crate::programs::{Client, info, show, until};

/// Who says a step: two clients, of different servers where both take writes, and a third beside the first.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    A,
    B,
    C,
}
use Who::{A, B, C};

/// Any reply; what it was can be asked for afterwards.
const ANY: &str = "*";

/// `$` is the key of the case, `$2` and `$3` are others beside it.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// A request and its reply.
    Say(Who, &'static str, &'static str),
    /// A request whose reply comes later...
    Send(Who, &'static str),
    /// ...here.
    Hear(Who, &'static str),
    /// So many clients wait at the server that decides.
    Blocked(usize),
    /// A request is said until it has this reply: none of those in between is kept.
    Until(Who, &'static str, &'static str),
}
use Step::{Blocked, Hear, Say, Send, Until};

/// One of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    steps: &'static [Step],
    /// Keys and what they must hold at the end, by the replies; `none` where there must be none.
    left: fn(&[String]) -> Vec<(&'static str, String)>,
    /// `$` ends so long after it was said, ms.
    lives_ms: Option<u64>,
}

impl Case {
    const fn new(
        name: &'static str,
        steps: &'static [Step],
        left: fn(&[String]) -> Vec<(&'static str, String)>,
    ) -> Case {
        Case {
            name,
            steps,
            left,
            lives_ms: None,
        }
    }

    const fn living(mut self, ms: u64) -> Case {
        self.lives_ms = Some(ms);
        self
    }
}

fn only(value: &str) -> Vec<(&'static str, String)> {
    vec![("$", value.to_owned())]
}

/// The words of a reply that is an array, or one word.
fn words(reply: &str) -> Vec<&str> {
    let inner = reply.trim_start_matches('[').trim_end_matches(']');
    inner.split(' ').filter(|word| !word.is_empty()).collect()
}

/// A set without what was taken out of it.
fn without(all: &str, taken: &[&str]) -> String {
    let taken: Vec<&str> = taken.iter().flat_map(|reply| words(reply)).collect();
    let left: Vec<&str> = words(all)
        .into_iter()
        .filter(|word| !taken.contains(word))
        .collect();
    assert_eq!(left.len() + taken.len(), words(all).len(), "{taken:?}");
    format!("[{}]", left.join(" "))
}

/// Time, a chosen member and a number by chance; a deadline, and a count of how often it ran.
const CHANCE: &str = "EVAL local\nt=redis.call('TIME')\nlocal\nm=redis.call('SRANDMEMBER',KEYS[2])\n\
    local\nv=t[1]..'.'..t[2]..'.'..m..'.'..math.random(1000000)\nredis.call('SET',KEYS[1],v)\n\
    redis.call('PEXPIRE',KEYS[1],700000)\nredis.call('INCR',KEYS[3])\nreturn\nv 3 $ $2 $3";
/// Takes a member by chance, and says which.
const TAKE: &str =
    "EVAL local\nm=redis.call('SPOP',KEYS[1])\nredis.call('RPUSH',KEYS[2],m)\nreturn\nm 2 $ $2";
/// Lets a lock go if it is the caller's.
macro_rules! release {
    ($who:literal) => {
        concat!(
            "EVAL if(redis.call('GET',KEYS[1])==ARGV[1])then\nreturn\n",
            "redis.call('DEL',KEYS[1])\nend\nreturn\n0 1 $ ",
            $who
        )
    };
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "INCR",
        &[
            Say(A, "SET $ 5", "+OK"),
            Say(B, "INCR $", ":6"),
            Say(A, "INCRBY $ 10", ":16"),
            Say(B, "DECR $", ":15"),
        ],
        |_| only("15"),
    ),
    Case::new(
        "INCRBYFLOAT",
        &[
            Say(A, "INCRBYFLOAT $ 0.1", "0.1"),
            Say(B, "INCRBYFLOAT $ 0.2", "0.3"),
            Say(A, "HINCRBYFLOAT $2 f 0.1", "0.1"),
            Say(B, "HINCRBYFLOAT $2 f 1.5", "1.6"),
            Say(A, "ZINCRBY $3 1.5 m", "1.5"),
            Say(B, "ZINCRBY $3 1.5 m", "3"),
        ],
        |_| {
            let hash = ("$2", "[f 1.6]".to_owned());
            vec![("$", "0.3".to_owned()), hash, ("$3", "[m 3]".to_owned())]
        },
    ),
    Case::new(
        "APPEND",
        &[
            Say(A, "APPEND $ ab", ":2"),
            Say(B, "APPEND $ cd", ":4"),
            Say(A, "SETRANGE $ 2 C", ":4"),
            Say(A, "BITFIELD $2 INCRBY u8 0 65", "[:65]"),
            Say(B, "BITFIELD $2 INCRBY u8 0 1", "[:66]"),
        ],
        |_| vec![("$", "abCd".to_owned()), ("$2", "B".to_owned())],
    ),
    Case::new(
        "GETDEL",
        &[
            Say(A, "SET $ x", "+OK"),
            Say(B, "GETSET $ y", "x"),
            Say(A, "GETDEL $", "y"),
            Say(B, "GETDEL $", "nil"),
        ],
        |_| only("none"),
    ),
    Case::new(
        "LPOP",
        &[
            Say(A, "RPUSH $ a b c d e f g h", ":8"),
            Say(B, "LPOP $", "a"),
            Say(A, "LPOP $ 2", "[b c]"),
            Say(B, "RPOP $", "h"),
            Say(A, "LMOVE $ $2 LEFT RIGHT", "d"),
            Say(B, "RPOPLPUSH $ $2", "g"),
            Say(A, "LMPOP 1 $ LEFT", "[$ [e]]"),
        ],
        |_| vec![("$", "[f]".to_owned()), ("$2", "[g d]".to_owned())],
    ),
    Case::new(
        "ZPOPMIN",
        &[
            Say(A, "ZADD $ 1 a 2 b 3 c 4 d", ":4"),
            Say(B, "ZPOPMIN $", "[a 1]"),
            Say(A, "ZPOPMAX $", "[d 4]"),
            Say(B, "ZMPOP 1 $ MIN", "[$ [[b 2]]]"),
        ],
        |_| only("[c 3]"),
    ),
    Case::new(
        "SPOP",
        &[
            Say(A, "SADD $ a b c d e f g h i j", ":10"),
            Say(B, "SPOP $ 3", ANY),
            Say(A, "SPOP $", ANY),
        ],
        |replies| {
            only(&without(
                "[a b c d e f g h i j]",
                &[&replies[1], &replies[2]],
            ))
        },
    ),
    Case::new(
        "EVAL with time and chance",
        &[
            Say(A, "SADD $2 a b c d e f g h i j", ":10"),
            Say(B, CHANCE, ANY),
        ],
        |replies| vec![("$", replies[1].clone()), ("$3", "1".to_owned())],
    )
    .living(700_000),
    Case::new(
        "EVAL that takes",
        &[
            Say(A, "SADD $ a b c d e f", ":6"),
            Say(B, TAKE, ANY),
            Say(A, TAKE, ANY),
        ],
        |replies| {
            let taken = [replies[1].as_str(), &replies[2]];
            let list = ("$2", format!("[{}]", taken.join(" ")));
            vec![("$", without("[a b c d e f]", &taken)), list]
        },
    ),
    Case::new("SET EX", &[Say(A, "SET $ v EX 900", "+OK")], |_| only("v")).living(900_000),
    Case::new(
        "EXPIRE",
        &[
            Say(A, "RPUSH $ v", ":1"),
            Say(B, "EXPIRE $ 500", ":1"),
            Say(A, "PEXPIRE $ 900000 GT", ":1"),
            Say(B, "PEXPIRE $ 300000 GT", ":0"),
        ],
        |_| only("[v]"),
    )
    .living(900_000),
    Case::new(
        "GETEX",
        &[Say(A, "SET $ v", "+OK"), Say(B, "GETEX $ EX 900", "v")],
        |_| only("v"),
    )
    .living(900_000),
    Case::new(
        "INCR of what has ended",
        &[
            Say(A, "SET $ 5 PX 20", "+OK"),
            Until(A, "EXISTS $", ":0"),
            Until(B, "EXISTS $", ":0"),
            Say(A, "INCR $", ":1"),
        ],
        |_| only("1"),
    ),
    Case::new(
        "BLPOP",
        &[
            Send(A, "BLPOP $ 0"),
            Blocked(1),
            Say(B, "RPUSH $ x y", ":2"),
            Hear(A, "[$ x]"),
        ],
        |_| only("[y]"),
    ),
    Case::new(
        "BLPOP of two clients",
        &[
            Send(A, "BLPOP $ 0"),
            Blocked(1),
            Send(B, "BLPOP $ 0"),
            Blocked(2),
            Say(C, "RPUSH $ x", ":1"),
            Hear(A, "[$ x]"),
            Say(C, "RPUSH $ y", ":1"),
            Hear(B, "[$ y]"),
        ],
        |_| only("none"),
    ),
    Case::new(
        "BLMOVE",
        &[
            Send(A, "BLMOVE $ $2 LEFT RIGHT 0"),
            Blocked(1),
            Say(B, "RPUSH $ x", ":1"),
            Hear(A, "x"),
        ],
        |_| vec![("$", "none".to_owned()), ("$2", "[x]".to_owned())],
    ),
    Case::new(
        "BZPOPMIN",
        &[
            Send(A, "BZPOPMIN $ 0"),
            Blocked(1),
            Say(B, "ZADD $ 1 x 2 y", ":2"),
            Hear(A, "[$ x 1]"),
        ],
        |_| only("[y 2]"),
    ),
    Case::new(
        "XREADGROUP",
        &[
            Say(A, "XGROUP CREATE $ g 0 MKSTREAM", "+OK"),
            Send(A, "XREADGROUP GROUP g c BLOCK 0 STREAMS $ >"),
            Blocked(1),
            Say(B, "XADD $ * f v", ANY),
            Hear(A, ANY),
        ],
        |replies| {
            let id = &replies[1];
            assert!(replies[2].contains(&format!("[{id} [f v]]")), "{replies:?}");
            only(&format!("[[{id} [f v]]] [:1 {id} {id} [[c 1]]]"))
        },
    ),
    Case::new(
        "SET NX PX",
        &[
            Send(A, "SET $ a NX PX 600000"),
            Send(B, "SET $ b NX PX 600000"),
            Hear(A, ANY),
            Hear(B, ANY),
            Say(C, "SET $ c NX PX 600000", "nil"),
        ],
        |replies| {
            let (first, second) = (replies[0].as_str(), replies[1].as_str());
            match (first, second) {
                ("+OK", "nil") => only("a"),
                ("nil", "+OK") => only("b"),
                other => panic!("one of two has the lock: {other:?}"),
            }
        },
    )
    .living(600_000),
    Case::new(
        "a lock that is let go",
        &[
            Say(A, "SET $ a NX PX 600000", "+OK"),
            Say(B, release!("b"), ":0"),
            Say(A, release!("a"), ":1"),
            Say(B, "SETNX $ b", ":1"),
        ],
        |_| only("b"),
    ),
    Case::new(
        "WATCH",
        &[
            Say(A, "SET $ 5", "+OK"),
            Say(A, "WATCH $", "+OK"),
            Say(A, "GET $", "5"),
            Say(B, "INCR $", ":6"),
            Say(A, "MULTI", "+OK"),
            Say(A, "INCR $", "+QUEUED"),
            Say(A, "EXEC", "nil"),
            Say(A, "WATCH $", "+OK"),
            Say(A, "MULTI", "+OK"),
            Say(A, "INCR $", "+QUEUED"),
            Say(A, "RPUSH $2 x", "+QUEUED"),
            Say(A, "EXPIRE $ 900", "+QUEUED"),
            Say(A, "EXEC", "[:7 :1 :1]"),
        ],
        |_| vec![("$", "7".to_owned()), ("$2", "[x]".to_owned())],
    )
    .living(900_000),
    Case::new(
        "XADD",
        &[
            Say(A, "XADD $ * f 1", ANY),
            Say(B, "XADD $ * f 2", ANY),
            Say(A, "XGROUP CREATE $ g 0", "+OK"),
            Say(B, "XREADGROUP GROUP g c COUNT 1 STREAMS $ >", ANY),
            Say(A, "XAUTOCLAIM $ g d 0 0", ANY),
        ],
        |replies| {
            let (one, two) = (&replies[0], &replies[1]);
            only(&format!(
                "[[{one} [f 1]] [{two} [f 2]]] [:1 {one} {one} [[d 1]]]"
            ))
        },
    ),
];

/// The clients of a case, and the server that decides.
pub(crate) struct Cast {
    pub(crate) clients: [Client; 3],
    /// A client of the server that decides, to look at it.
    pub(crate) decides: Client,
}

/// A key of a case that was played: what it must hold on both sides.
pub(crate) struct Left {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Between which it ends, unix ms; None for never.
    pub(crate) ends_ms: Option<(u64, u64)>,
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn blocked(client: &mut Client) -> usize {
    info(client, "blocked_clients").parse().unwrap()
}

impl Cast {
    fn of(&mut self, who: Who) -> &mut Client {
        &mut self.clients[who as usize]
    }

    /// Plays a case under a key, and says what must be left of it.
    pub(crate) fn play(&mut self, case: &Case, key: &str) -> Vec<Left> {
        let begun_ms = now_ms();
        let named = |text: &str| text.replace('$', key);
        let waited = blocked(&mut self.decides);
        let mut replies = Vec::new();
        for step in case.steps {
            let (heard, wanted) = match *step {
                Say(who, request, reply) => (self.of(who).answer(&named(request)), named(reply)),
                Hear(who, reply) => (self.of(who).receive(), named(reply)),
                Send(who, request) => {
                    self.of(who).send(&named(request)).unwrap();
                    continue;
                }
                Blocked(count) => {
                    until(case.name, || blocked(&mut self.decides) == waited + count);
                    continue;
                }
                Until(who, request, reply) => {
                    let request = named(request);
                    until(case.name, || {
                        show(&self.of(who).answer(&request).unwrap()) == reply
                    });
                    continue;
                }
            };
            let heard = show(&heard.expect(case.name));
            let is_refused = heard.starts_with('-');
            assert!(
                heard == wanted || (wanted == ANY && !is_refused),
                "{key}, {}: {heard}, not {wanted}; before it {replies:?}",
                case.name
            );
            replies.push(heard);
        }
        let ended_ms = now_ms();
        let left = (case.left)(&replies).into_iter();
        left.map(|(name, value)| Left {
            key: named(name),
            value,
            ends_ms: case
                .lives_ms
                .filter(|_| name == "$")
                .map(|ms| (begun_ms + ms, ended_ms + ms)),
        })
        .collect()
    }

    /// Plays it where nobody may write: how many of its requests are refused.
    pub(crate) fn refused(&mut self, case: &Case, key: &str) -> usize {
        let mut refused = 0;
        for step in case.steps {
            if let Say(who, request, _) | Send(who, request) = *step {
                let reply = self.of(who).answer(&request.replace('$', key));
                let reply = show(&reply.expect(case.name));
                refused +=
                    usize::from(["READONLY", "NOPERM"].iter().any(|why| reply.contains(why)));
            }
        }
        refused
    }
}

/// A key as one text, and when it ends.
pub(crate) fn held(client: &mut Client, key: &str) -> (String, Option<u64>) {
    let mut ask = |words: String| show(&client.answer(&words).unwrap());
    let kind = ask(format!("TYPE {key}"));
    let value = match kind.as_str() {
        "+none" => "none".to_owned(),
        "+string" => ask(format!("GET {key}")),
        "+list" => ask(format!("LRANGE {key} 0 -1")),
        "+set" => {
            let members = ask(format!("SMEMBERS {key}"));
            let mut members = words(&members);
            members.sort_unstable();
            format!("[{}]", members.join(" "))
        }
        "+hash" => {
            let pairs = ask(format!("HGETALL {key}"));
            let pairs = words(&pairs);
            let mut pairs: Vec<_> = pairs.chunks(2).map(|pair| pair.join(" ")).collect();
            pairs.sort_unstable();
            format!("[{}]", pairs.join(" "))
        }
        "+zset" => ask(format!("ZRANGE {key} 0 -1 WITHSCORES")),
        "+stream" => {
            let entries = ask(format!("XRANGE {key} - +"));
            format!("{entries} {}", ask(format!("XPENDING {key} g")))
        }
        other => panic!("{key} is of type {other}"),
    };
    let ends = ask(format!("PEXPIRETIME {key}"));
    (value, ends.trim_start_matches(':').parse().ok())
}
