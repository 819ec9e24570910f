//! A mixed load of every type, and the comparison of two servers key by key.

use std::time::{Duration, Instant};

use protocol::answer::Answer;

use super::servers::{Client, Server, show, wait_for};

/// How long a key may be gone on one side and not on the other.
const ENDS: Duration = Duration::from_secs(10);

/// Numbers that look like chance, the same for each seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One request, or a transaction.
fn some(chance: &mut Chance, out: &mut Vec<Vec<String>>) {
    let (n, m) = (chance.below(200), chance.below(1000));
    let id = chance.below(1 << 30);
    let text = match chance.below(34) {
        0 => format!("SET s{n} v{id}"),
        1 => format!("SET s{n} v{id} PX {}", 50 + m * 20),
        2 => format!("INCR c{n}"),
        3 => format!("INCRBYFLOAT f{n} 0.{m}1"),
        4 => format!("APPEND s{n} x{m}"),
        5 => format!("RPUSH l{n} a{id} b{id}"),
        6 => format!("LPOP l{n}"),
        7 => format!("RPOPLPUSH l{n} l{m}"),
        8 => format!("LINSERT l{n} BEFORE a{id} y"),
        9 => format!("LTRIM l{n} 0 50"),
        10 => format!("HSET h{n} f{m} {id} g {m}"),
        11 => format!("HINCRBY h{n} n 3"),
        12 => format!("HDEL h{n} f{m}"),
        13 => format!("SADD t{n} {m} m{id}"),
        14 => format!("SPOP t{n} 2"),
        15 => format!("SMOVE t{n} t{} {m}", n / 2),
        16 => format!("ZADD z{n} {m} e{m} 0.5 e{id}"),
        17 => format!("ZINCRBY z{n} 1.25 e{m}"),
        18 => format!("ZPOPMIN z{n}"),
        19 => format!("ZUNIONSTORE z{n} 2 z{n} z{} AGGREGATE MAX", n / 2),
        20 => format!("XADD x{n} MAXLEN ~ 500 * a {id}"),
        21 => format!("XREADGROUP GROUP g c{} COUNT 3 STREAMS x{n} >", m % 3),
        22 => format!("XGROUP CREATE x{n} g 0 MKSTREAM"),
        23 => format!("XACK x{n} g {id}-0"),
        24 => format!(
            "EXPIRE {}{n} {}",
            ["s", "l", "h", "z"][m as usize % 4],
            1 + m / 50
        ),
        25 => format!("PERSIST s{n}"),
        26 => format!("DEL {}{n}", ["s", "l", "h", "t", "z"][m as usize % 5]),
        27 => format!("SETRANGE r{n} {m} xyz"),
        28 => format!("PFADD p{n} {id}"),
        29 => format!("GETEX s{n} EX {}", 1 + m % 7),
        30 => format!("RENAME s{n} s{m}"),
        31 => format!("COPY h{n} h{m} REPLACE"),
        32 => {
            // A counter and a list that belong together.
            for text in [
                "MULTI".to_owned(),
                format!("INCR m{n}"),
                format!("RPUSH ml{n} {id}"),
                "EXEC".to_owned(),
            ] {
                out.push(text.split(' ').map(str::to_owned).collect());
            }
            return;
        }
        _ => {
            let script =
                "local v = redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], v) return v";
            let words = ["EVAL", script, "2", &format!("e{n}"), &format!("el{n}")];
            return out.push(words.map(str::to_owned).to_vec());
        }
    };
    out.push(text.split(' ').map(str::to_owned).collect());
}

/// So many requests, in two databases.
pub(crate) fn play(client: &mut Client, chance: &mut Chance, requests: usize) {
    let mut left = requests;
    while left > 0 {
        let mut some_requests = vec![vec![
            "SELECT".to_owned(),
            (chance.below(8) / 7 * 3).to_string(),
        ]];
        for _ in 0..left.min(200) {
            some(chance, &mut some_requests);
            left -= 1;
        }
        client.pipeline(&some_requests);
    }
}

/// Waits until a replica has all that its primary has said.
pub(crate) fn catch_up(primary: &Server, replica: &Server) {
    wait_for("the end of the stream", || {
        let offset = primary.info("master_repl_offset");
        replica.info("master_link_status") == "up" && replica.info("slave_repl_offset") == offset
    });
}

fn sorted(answer: Answer) -> Vec<String> {
    let Answer::Array(all) = answer else {
        return vec![show(&answer)];
    };
    let mut all: Vec<String> = all.iter().map(show).collect();
    all.sort();
    all
}

/// What a key holds, as text.
fn held(client: &mut Client, key: &str) -> String {
    let kind = client.text(&format!("TYPE {key}"));
    let value = match kind.as_str() {
        "string" => client.text(&format!("GET {key}")),
        "list" => client.text(&format!("LRANGE {key} 0 -1")),
        "hash" => {
            let mut pairs: Vec<String> = Vec::new();
            if let Answer::Array(all) = client.call(&format!("HGETALL {key}")) {
                pairs.extend(
                    all.chunks(2)
                        .map(|pair| pair.iter().map(show).collect::<Vec<_>>().join("=")),
                );
            }
            pairs.sort();
            pairs.join(",")
        }
        "set" => sorted(client.call(&format!("SMEMBERS {key}"))).join(","),
        "zset" => client.text(&format!("ZRANGE {key} 0 -1 WITHSCORES")),
        "stream" => {
            let mut all = client.text(&format!("XRANGE {key} - +"));
            if let Answer::Array(groups) = client.call(&format!("XINFO GROUPS {key}")) {
                for group in groups {
                    let Answer::Array(fields) = &group else {
                        continue;
                    };
                    let name = show(&fields[1]);
                    let pending = client.call(&format!("XPENDING {key} {name} - + 10000"));
                    let Answer::Array(pending) = pending else {
                        continue;
                    };
                    // (How long each has been idle is told as of now.)
                    let pending = pending.iter().map(|entry| match entry {
                        Answer::Array(entry) => format!(
                            "{} {} {}",
                            show(&entry[0]),
                            show(&entry[1]),
                            show(&entry[3])
                        ),
                        other => show(other),
                    });
                    all += &format!(" {name}: {}", pending.collect::<Vec<_>>().join(";"));
                    all += &format!(" last {}", show(&fields[7]));
                }
            }
            all
        }
        other => other.to_owned(),
    };
    format!(
        "{kind} until {}: {value}",
        client.text(&format!("PEXPIRETIME {key}"))
    )
}

/// Compares two servers, key by key. What differs may be about to end: it is looked at again for a while.
pub(crate) fn compare(primary: &Server, replica: &Server) {
    let (mut one, mut other) = (primary.client(), replica.client());
    let mut compared = 0;
    for db in [0, 3] {
        one.call(&format!("SELECT {db}"));
        other.call(&format!("SELECT {db}"));
        let (keys, theirs) = (sorted(one.call("KEYS *")), sorted(other.call("KEYS *")));
        let all: std::collections::BTreeSet<_> = keys.iter().chain(&theirs).collect();
        for key in all {
            let since = Instant::now();
            loop {
                let (left, right) = (held(&mut one, key), held(&mut other, key));
                if left == right {
                    break;
                }
                assert!(
                    since.elapsed() < ENDS,
                    "database {db}, {key}:\n{left}\n{right}"
                );
            }
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared} keys were compared");
}
