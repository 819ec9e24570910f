//! The phase with near deadlines: keys of all types expire, then every kind of command meets
//! them. Nothing is compared while a deadline is near, only long after.

use std::rc::Rc;
use std::time::Duration;

use super::catalogue::Op;
use super::rule::Rule;
use crate::rng::Rng;

/// Keys per phase.
const KEYS: usize = 120;
/// The last deadline, and the pause until all have passed.
const DEADLINE_MAX_MS: i64 = 900;
pub(super) const PAUSE: Duration = Duration::from_millis(2300);
/// What makes a value; `K` stands for the key.
const MAKERS: [&str; 5] = [
    "SET K 5",
    "RPUSH K 1 2 3",
    "SADD K 1 2 3",
    "ZADD K 1 a 2 b",
    "HSET K f 1 g 2",
];
/// What gives it a near deadline; `M` stands for milliseconds.
const DEADLINES: [&str; 3] = ["PEXPIRE K M", "EXPIRE K 1", "PEXPIRE K M NX"];
/// What makes a string with a near deadline at once.
const STRINGS: [&str; 5] = [
    "SET K 5 PX M",
    "SET K 5 EX 1",
    "PSETEX K M 5",
    "SETEX K 1 5",
    "GETEX K PX M",
];
/// What meets an expired key.
const MEETERS: [&str; 46] = [
    "GET K",
    "INCR K",
    "SETNX K 1",
    "GETSET K 2",
    "APPEND K x",
    "SETRANGE K 3 x",
    "STRLEN K",
    "GETDEL K",
    "GETEX K",
    "MGET K K",
    "SET K 1 KEEPTTL",
    "SET K 1 XX",
    "SET K 1 NX GET",
    "MSETNX K 1",
    "INCRBYFLOAT K 1.5",
    "SETBIT K 3 1",
    "BITCOUNT K",
    "EXISTS K K",
    "TYPE K",
    "TTL K",
    "PTTL K",
    "EXPIRETIME K",
    "PERSIST K",
    "EXPIRE K 5000000",
    "EXPIRE K 5000000 XX",
    "OBJECT ENCODING K",
    "RENAME K K:new",
    "RENAMENX K K:new",
    "COPY K K:new",
    "MOVE K 9",
    "DEL K",
    "UNLINK K",
    "TOUCH K",
    "LPUSHX K 1",
    "LPUSH K 9",
    "LLEN K",
    "RPOPLPUSH K K",
    "SADD K 9",
    "SUNIONSTORE K:new K",
    "SMEMBERS K",
    "ZADD K XX 1 a",
    "ZADD K 5 c",
    "ZINCRBY K 1 a",
    "HSET K f 9",
    "HINCRBY K f 1",
    "SORT K",
];
/// The phase needs these groups.
pub(super) const GROUPS: [&str; 6] = ["string", "generic", "list", "set", "zset", "hash"];

/// The requests before the pause, and after it.
pub(super) fn requests(rng: &mut Rng, round: usize) -> (Vec<Rc<Op>>, Vec<Rc<Op>>) {
    let mut before = Vec::new();
    let mut after = Vec::new();
    // DEBUG may be refused, then by both; keys must expire with and without the active cycle.
    before.push(op(
        &format!("DEBUG SET-ACTIVE-EXPIRE {}", round % 2),
        "",
        "",
    ));
    before.push(op("SELECT 1", "", ""));
    after.push(op("SELECT 1", "", ""));
    for index in 0..KEYS {
        let key = format!("e:{round}:{index}");
        let ms = rng.between(1, DEADLINE_MAX_MS).to_string();
        let pick =
            |rng: &mut Rng, lines: &[&'static str]| rng.pick(lines).copied().unwrap_or_default();
        if rng.percent(40) {
            if rng.percent(50) {
                before.push(op("SET K 3", &key, &ms));
            }
            before.push(op(pick(rng, &STRINGS), &key, &ms));
        } else {
            before.push(op(pick(rng, &MAKERS), &key, &ms));
            before.push(op(pick(rng, &DEADLINES), &key, &ms));
        }
        for _ in 0..=rng.below(2) {
            after.push(op(pick(rng, &MEETERS), &key, &ms));
        }
        // What expired must be gone from the count, too.
        after.push(op("EXISTS K", &key, &ms));
        after.push(op("EXISTS K:new", &key, &ms));
    }
    after.push(op("DBSIZE", "", ""));
    after.push(Rc::new(Op {
        rule: Rule::Bag,
        ..parse("KEYS e:*", "", "")
    }));
    after.push(op("DEBUG SET-ACTIVE-EXPIRE 1", "", ""));
    (before, after)
}

fn op(line: &str, key: &str, ms: &str) -> Rc<Op> {
    Rc::new(parse(line, key, ms))
}

fn parse(line: &str, key: &str, ms: &str) -> Op {
    let mut keys = Vec::new();
    let mut words = Vec::new();
    for (at, word) in line.split(' ').enumerate() {
        words.push(match word {
            "K" | "K:new" => {
                keys.push(at);
                word.replacen('K', key, 1).into_bytes()
            }
            "M" => ms.as_bytes().to_vec(),
            other => other.as_bytes().to_vec(),
        });
    }
    let rule = match words.first().map(Vec::as_slice) {
        Some(b"SMEMBERS") => Rule::Bag,
        Some(b"TTL" | b"EXPIRETIME") => Rule::Seconds,
        Some(b"PTTL") => Rule::Milliseconds,
        _ => Rule::Exact,
    };
    let name = format!("expiry: {}", line.split(' ').next().unwrap_or_default());
    Op {
        name,
        words,
        keys,
        marks: Vec::new(),
        rule,
        queued: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Rng, requests};

    #[test]
    fn words_are_filled_in() {
        let (before, after) = requests(&mut Rng::new(1), 1);
        for op in before.iter().chain(&after) {
            assert!(
                op.words.iter().all(|word| word != b"K" && word != b"M"),
                "{op:?}"
            );
        }
        assert!(before.len() > 150 && after.len() > 300);
    }
}
