//! What one client writes, and what must be there of it.
//!
//! Every operation is known by its number; every value holds the number of the operation that wrote it. So the state after any
//! number of operations can be worked out, and a value that is torn, old or from nowhere is not among them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::answer::Answer;

use crate::client::{Client, ClientError};
use crate::rng::Rng;

/// Members and fields that there may be.
const MEMBERS: u64 = 20;
/// Elements that a list and a stream grow to at most.
const ELEMENTS_MAX: usize = 60;
/// Bytes of a large string, beside its number.
const BIG_BYTES: usize = 30_000;

/// One step of a client: requests that are sent together, of which one is atomic.
pub(super) struct Operation {
    pub(super) requests: Vec<Vec<Vec<u8>>>,
}

/// What one client's keys hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    text: Option<String>,
    counter: i64,
    list: VecDeque<u64>,
    hash: BTreeMap<u64, u64>,
    set: BTreeSet<u64>,
    zset: BTreeMap<u64, u64>,
    stream: VecDeque<u64>,
    pair: u64,
    script: u64,
    /// A value, and whether it has a deadline.
    kept: Option<(u64, bool)>,
    big: u64,
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

impl State {
    /// The operation `number` of `client`, as its choices of `seed` are; the state is that before it, and becomes that after.
    pub(super) fn operate(&mut self, client: usize, number: u64, seed: u64) -> Operation {
        let mut rng = Rng::new(seed ^ (client as u64) << 48 ^ number.wrapping_mul(0x9E37_79B9));
        let (kind, member) = (rng.below(22), rng.next() % MEMBERS);
        let key = |name: &str| format!("{name}:{client}");
        let one = |line: String| Operation {
            requests: vec![words(&line)],
        };
        match kind {
            0 => {
                self.text = Some(format!("v{number}"));
                one(format!("SET {} v{number}", key("s")))
            }
            1 if self.text.as_ref().is_none_or(|text| text.len() < 300) => {
                self.text
                    .get_or_insert_default()
                    .push_str(&format!(",{number}"));
                one(format!("APPEND {} ,{number}", key("s")))
            }
            2 => {
                self.counter += 1;
                one(format!("INCR {}", key("c")))
            }
            3 | 4 if self.list.len() < ELEMENTS_MAX => {
                self.list.push_back(number);
                one(format!("RPUSH {} {number}", key("l")))
            }
            5 => {
                self.list.pop_front();
                one(format!("LPOP {}", key("l")))
            }
            6 if !self.list.is_empty() => {
                if let Some(last) = self.list.back_mut() {
                    *last = number;
                }
                one(format!("LSET {} -1 {number}", key("l")))
            }
            7 => {
                self.hash.insert(member, number);
                one(format!("HSET {} {member} {number}", key("h")))
            }
            8 => {
                self.hash.remove(&member);
                one(format!("HDEL {} {member}", key("h")))
            }
            9 => {
                self.set.insert(member);
                one(format!("SADD {} {member}", key("t")))
            }
            10 => {
                self.set.remove(&member);
                one(format!("SREM {} {member}", key("t")))
            }
            11 => {
                self.zset.insert(member, number);
                one(format!("ZADD {} {number} {member}", key("z")))
            }
            12 => {
                self.zset.remove(&member);
                one(format!("ZREM {} {member}", key("z")))
            }
            13 => {
                self.stream.push_back(number);
                one(format!("XADD {} {number}-1 f {number}", key("x")))
            }
            14 => {
                let gone = self.stream.len().saturating_sub(5);
                self.stream.drain(..gone);
                one(format!("XTRIM {} MAXLEN = 5", key("x")))
            }
            15 | 16 => {
                self.pair = number;
                let lines = [
                    "MULTI".to_owned(),
                    format!("SET {} {number}", key("pa")),
                    format!("SET {} {number}", key("pb")),
                    "EXEC".to_owned(),
                ];
                Operation {
                    requests: lines.iter().map(|line| words(line)).collect(),
                }
            }
            17 => {
                self.script = number;
                let mut request = words("EVAL");
                let code = "redis.call('set',KEYS[1],ARGV[1]) redis.call('set',KEYS[2],ARGV[1])";
                request.push(code.as_bytes().to_vec());
                request.extend(words(&format!("2 {} {} {number}", key("qa"), key("qb"))));
                Operation {
                    requests: vec![request],
                }
            }
            18 => {
                self.kept = Some((number, true));
                one(format!("SET {} {number} PX 1000000", key("e")))
            }
            19 => {
                if let Some((_, has_deadline)) = &mut self.kept {
                    *has_deadline = false;
                }
                one(format!("PERSIST {}", key("e")))
            }
            20 => {
                self.big = number;
                let filler = "x".repeat(BIG_BYTES);
                one(format!("SET {} {number}{filler}{number}", key("big")))
            }
            _ => match rng.below(5) {
                0 => {
                    self.text = None;
                    one(format!("DEL {}", key("s")))
                }
                1 => {
                    (self.list, self.hash) = Default::default();
                    one(format!("DEL {} {}", key("l"), key("h")))
                }
                2 => {
                    (self.set, self.zset) = Default::default();
                    one(format!("UNLINK {} {}", key("t"), key("z")))
                }
                3 => {
                    self.kept = None;
                    one(format!("PEXPIREAT {} 1", key("e")))
                }
                // Its deadline has passed long before anybody looks.
                _ => one(format!("SET {} {number} PX 1", key("short"))),
            },
        }
    }

    /// Takes what the line of this number tells of another state.
    pub(super) fn adopt(&mut self, line: usize, other: &State) {
        match line {
            0 => self.text.clone_from(&other.text),
            1 => self.counter = other.counter,
            2 => self.list.clone_from(&other.list),
            3 => self.hash.clone_from(&other.hash),
            4 => self.set.clone_from(&other.set),
            5 => self.zset.clone_from(&other.zset),
            6 => self.stream.clone_from(&other.stream),
            7 => self.pair = other.pair,
            8 => self.script = other.script,
            9 => self.kept = other.kept,
            10 => self.big = other.big,
            _ => {}
        }
    }

    /// Lines that say all of it, as `read` has them of a server.
    pub(super) fn lines(&self) -> Vec<String> {
        let joined = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
        let or_none = |number: u64| match number {
            0 => "-".to_owned(),
            number => number.to_string(),
        };
        let counter = match self.counter {
            0 => "-".to_owned(),
            counter => counter.to_string(),
        };
        let mut zset: Vec<(u64, u64)> = self.zset.iter().map(|(m, s)| (*s, *m)).collect();
        zset.sort_unstable();
        vec![
            format!("string {}", self.text.as_deref().unwrap_or("-")),
            format!("counter {counter}"),
            format!("list {}", joined(&mut self.list.iter().map(u64::to_string))),
            format!(
                "hash {}",
                joined(&mut self.hash.iter().map(|(f, v)| format!("{f} {v}")))
            ),
            format!("set {}", joined(&mut self.set.iter().map(u64::to_string))),
            format!(
                "zset {}",
                joined(&mut zset.iter().map(|(s, m)| format!("{m} {s}")))
            ),
            format!(
                "stream {}",
                joined(&mut self.stream.iter().map(|n| format!("{n}-1 f {n}")))
            ),
            format!("pair {} {}", or_none(self.pair), or_none(self.pair)),
            format!("script {} {}", or_none(self.script), or_none(self.script)),
            match self.kept {
                None => "kept - -2".to_owned(),
                Some((number, deadline)) => {
                    format!("kept {number} {}", if deadline { 1 } else { -1 })
                }
            },
            format!("big {}", or_none(self.big)),
            "short -".to_owned(),
        ]
    }
}

/// What a client's keys hold at a server.
pub(super) fn read(client: &mut Client, number: usize) -> Result<Vec<String>, ClientError> {
    let mut ask = |line: &str| client.say(&format!("{line}:{number}"));
    let string = text(&ask("GET s")?);
    let counter = text(&ask("GET c")?);
    let mut hash = pairs(&ask("HGETALL h")?);
    hash.sort_by_key(|(field, _)| field.parse::<u64>().unwrap_or(u64::MAX));
    let mut set = texts(&ask("SMEMBERS t")?);
    set.sort_by_key(|member| member.parse::<u64>().unwrap_or(u64::MAX));
    let (pa, pb) = (text(&ask("GET pa")?), text(&ask("GET pb")?));
    let (qa, qb) = (text(&ask("GET qa")?), text(&ask("GET qb")?));
    let (kept, big, short) = (
        text(&ask("GET e")?),
        text(&ask("GET big")?),
        text(&ask("GET short")?),
    );
    let mut asked = |line: &str| client.say(line);
    let list = texts(&asked(&format!("LRANGE l:{number} 0 -1"))?);
    let zset = texts(&asked(&format!("ZRANGE z:{number} 0 -1 WITHSCORES"))?);
    let stream = texts(&asked(&format!("XRANGE x:{number} - +"))?);
    let deadline = match asked(&format!("PTTL e:{number}"))? {
        Answer::Int(ms) => ms.min(1),
        _ => -3,
    };
    let hash: Vec<String> = hash.into_iter().map(|(f, v)| format!("{f} {v}")).collect();
    Ok(vec![
        format!("string {string}"),
        format!("counter {counter}"),
        format!("list {}", list.join(" ")),
        format!("hash {}", hash.join(" ")),
        format!("set {}", set.join(" ")),
        format!("zset {}", zset.join(" ")),
        format!("stream {}", stream.join(" ")),
        format!("pair {pa} {pb}"),
        format!("script {qa} {qb}"),
        format!("kept {kept} {deadline}"),
        format!("big {}", big_number(&big)),
        format!("short {short}"),
    ])
}

/// The number of a large string; what is torn is shown as it is.
fn big_number(big: &str) -> String {
    let number: String = big.chars().take_while(char::is_ascii_digit).collect();
    let whole = format!("{number}{}{number}", "x".repeat(BIG_BYTES));
    match (big, big == whole) {
        ("-", _) => "-".to_owned(),
        (_, true) => number,
        (torn, false) => format!("torn ({} bytes, begins {:.20})", torn.len(), torn),
    }
}

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Answer::Null => "-".to_owned(),
        other => crate::text::answer_line(other),
    }
}

fn texts(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Array(items) | Answer::Set(items) => items.iter().flat_map(texts).collect(),
        other => vec![text(other)],
    }
}

fn pairs(answer: &Answer) -> Vec<(String, String)> {
    let all = texts(answer);
    let (pairs, _) = all.as_chunks::<2>();
    pairs.iter().map(|[a, b]| (a.clone(), b.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn a_state_follows_from_the_numbers_of_its_operations() {
        let (mut a, mut b) = (State::default(), State::default());
        for number in 1..500 {
            let requests = a.operate(3, number, 9).requests;
            assert_eq!(requests, b.operate(3, number, 9).requests);
            assert!(!requests.is_empty());
        }
        assert_eq!(a, b);
        let before = a.lines();
        let mut other = a.clone();
        let changes = (500..520).filter(|number| {
            other.operate(3, *number, 9);
            let changed = other.lines() != a.lines();
            a = other.clone();
            changed
        });
        assert!(changes.count() > 5);
        let mut adopted = State::default();
        (0..before.len()).for_each(|line| adopted.adopt(line, &a));
        assert_eq!(adopted.lines(), a.lines());
    }
}
