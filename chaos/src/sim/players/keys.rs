//! Calls on single keys of every type, alone, in pipelines, in transactions, in scripts: each key's history must be
//! linearizable.

use protocol::answer::Answer;

use super::{Facts, Player, Request, Tag};
use crate::check::linear::{Call, Verdict, judge};
use crate::check::lossy::{Event, Lossy};
use crate::check::values::{Op, Value, Values};
use crate::rng::Rng;

/// The keys, by the letter of their type: string, list, hash, set (t), sorted set (z). They are in slots of all cores.
const KEYS: [&str; 12] = [
    "s0", "s1", "s2", "l0", "l1", "h0", "h1", "t0", "z0", "s:{x}", "l:{x}", "z:{x}",
];
/// A script that does what its arguments say.
const SCRIPT: &str = "return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))";
/// Requests sent at once.
const PIPELINE_MAX: usize = 4;

/// One call, and when its answer came, monotonic us.
struct Noted {
    key: &'static str,
    call: Call<Op, Answer>,
    ended_us: Option<u64>,
}

/// The calls of all players, and what they do to their keys.
#[derive(Default)]
pub(crate) struct Book {
    calls: Vec<Noted>,
    /// Calls that have certainly not happened.
    void: Vec<usize>,
    /// Crashes that may take back what was answered lately: their steps, and from when on, monotonic us.
    crashes: Vec<(u64, u64)>,
    /// Histories whose judgement was given up.
    pub(crate) unknown: usize,
}

impl Book {
    fn begin(&mut self, key: &'static str, op: Op, step: u64) -> usize {
        let call = Call {
            op,
            out: None,
            begin: step,
            end: None,
        };
        self.calls.push(Noted {
            key,
            call,
            ended_us: None,
        });
        self.calls.len() - 1
    }

    /// A call has ended.
    pub(crate) fn end(&mut self, call: usize, out: Option<Answer>, (step, now_us): (u64, u64)) {
        if let Some(noted) = self.calls.get_mut(call) {
            noted.call.out = match (&noted.call.op, out) {
                // What EXEC says of the only command of a compare-and-set.
                (Op::Cas(..), Some(Answer::Array(_))) => Some(Answer::Simple(b"OK".to_vec())),
                (_, out) => out,
            };
            noted.call.end = Some(step);
            noted.ended_us = Some(now_us);
        }
    }

    /// Its answer is lost.
    pub(crate) fn lose(&mut self, call: usize, end: Option<u64>) {
        if let Some(noted) = self.calls.get_mut(call) {
            noted.call.end = end;
        }
    }

    /// A node has ended: what had no answer then, and will have none, has happened before or never.
    pub(crate) fn end_open(&mut self, step: u64) {
        let open = |noted: &&mut Noted| noted.call.end.is_none();
        let calls = self.calls.iter_mut().filter(open);
        calls.for_each(|noted| noted.call.end = Some(step));
    }

    /// A crash may take back what was answered from `from_us` on; of one crash the last word counts.
    pub(crate) fn crash(&mut self, step: u64, from_us: u64) {
        self.crashes.retain(|(at, _)| *at != step);
        self.crashes.push((step, from_us));
    }

    /// It did nothing, for certain.
    pub(crate) fn never_ran(&mut self, call: usize) {
        self.void.push(call);
    }

    /// Calls so far.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// What has happened to a key.
    fn history(&self, key: &str) -> Vec<Call<Event<Op>, Answer>> {
        let all = self.calls.iter().enumerate();
        let of_key = all.filter(|(at, noted)| noted.key == key && !self.void.contains(at));
        let calls = of_key.map(|(_, noted)| {
            let Call {
                op,
                out,
                begin,
                end,
            } = noted.call.clone();
            let next = self.crashes.iter().find(|(step, _)| *step > begin);
            let is_kept = next.is_none_or(|(_, from_us)| {
                let is_in_time = noted.ended_us.is_some_and(|ended_us| ended_us < *from_us);
                is_in_time && (*from_us < u64::MAX || !op.only_reads())
            });
            let op = Event::Call(op, is_kept);
            Call {
                op,
                out,
                begin,
                end,
            }
        });
        let crashes = self.crashes.iter().map(|(step, _)| Call {
            op: Event::Crash,
            out: Some(Answer::Null),
            begin: *step,
            end: Some(*step),
        });
        calls.chain(crashes).collect()
    }

    /// Keys whose histories are wrong, with them.
    pub(crate) fn judge(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for key in KEYS {
            let mut calls = self.history(key);
            match judge::<Lossy<Values>>((Value::None, vec![Value::None]), &calls) {
                Verdict::Linear => {}
                Verdict::Unknown => self.unknown += 1,
                Verdict::Broken => {
                    calls.sort_by_key(|call| call.begin);
                    let line = |call: &Call<Event<Op>, Answer>| {
                        let end = call.end.map_or("?".to_owned(), |end| end.to_string());
                        format!("  {}..{end} {:?} -> {:?}", call.begin, call.op, call.out)
                    };
                    let lines: Vec<String> = calls.iter().map(line).collect();
                    found.push(format!("{key}: not linearizable\n{}", lines.join("\n")));
                }
            }
        }
        found
    }

    /// Requests that read every key, and their calls.
    pub(crate) fn last_reads(&mut self, step: u64) -> Vec<(Vec<Vec<u8>>, usize)> {
        let read = |key: &'static str| {
            let op = match key.as_bytes().first() {
                Some(b's') => Op::Get,
                Some(b'l') => Op::All,
                Some(b'h') => Op::HGetAll,
                Some(b't') => Op::SMembers,
                _ => Op::ZRange,
            };
            (op.words(key.as_bytes()), self.begin(key, op, step))
        };
        KEYS.map(read).into()
    }
}

/// One that plays calls.
pub(crate) struct Caller {
    /// A compare-and-set: the key, and its value once it is known.
    watched: Option<(&'static str, Option<Vec<u8>>)>,
    waits: bool,
}

/// The number of a compare-and-set's read.
const READ: u64 = 0;

impl Caller {
    /// One that has done nothing yet.
    pub(crate) fn new() -> Caller {
        Caller {
            watched: None,
            waits: false,
        }
    }

    /// A call on some key; its words and number.
    fn call(facts: &mut Facts, rng: &mut Rng) -> (&'static str, Vec<Vec<u8>>, usize) {
        let key = KEYS[rng.below(KEYS.len())];
        let op = draw(key, facts, rng);
        let words = op.words(key.as_bytes());
        let call = facts.keys.begin(key, op, facts.step);
        (key, words, call)
    }

    /// The second half of a compare-and-set.
    fn swap(facts: &mut Facts, key: &'static str, seen: Option<Vec<u8>>) -> Vec<Request> {
        let Some(seen) = seen else {
            return vec![Request::line("UNWATCH", Tag::ok())];
        };
        let new = facts.unique().to_string();
        let op = Op::Cas(seen, new.clone().into_bytes());
        let call = facts.keys.begin(key, op, facts.step);
        vec![
            Request::line("MULTI", Tag::ok()),
            Request::new(&["SET", key, &new], Tag::queued()),
            Request::line("EXEC", Tag::Exec(vec![call])),
        ]
    }

    fn block(facts: &mut Facts, rng: &mut Rng) -> Request {
        let key = if rng.percent(50) { "l0" } else { "l1" };
        let left = rng.percent(50);
        let call = facts.keys.begin(key, Op::Pop { left }, facts.step);
        let name = if left { "BLPOP" } else { "BRPOP" };
        Request::new(&[name, key, "0.05"], Tag::Waits(call))
    }

    fn transaction(facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        let mut requests = vec![Request::line("MULTI", Tag::ok())];
        let mut calls = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let (_, words, call) = Caller::call(facts, rng);
            requests.push(Request {
                words,
                tag: Tag::queued(),
            });
            calls.push(call);
        }
        requests.push(Request::line("EXEC", Tag::Exec(calls)));
        requests
    }

    fn several(facts: &mut Facts, rng: &mut Rng) -> Request {
        let begin = |facts: &mut Facts, key, op| facts.keys.begin(key, op, facts.step);
        if rng.percent(50) {
            let calls = ["s0", "s1", "s2"].map(|key| begin(facts, key, Op::Get));
            return Request::line("MGET s0 s1 s2", Tag::Each(calls.into()));
        }
        let value = facts.unique().to_string();
        let set = || Op::Set(value.clone().into_bytes());
        let calls = [begin(facts, "s0", set()), begin(facts, "s1", set())];
        Request::line(
            &format!("MSET s0 {value} s1 {value}"),
            Tag::Calls(calls.into()),
        )
    }

    fn script(facts: &mut Facts, rng: &mut Rng) -> Request {
        let (key, mut words, call) = Caller::call(facts, rng);
        let rest = words.split_off(2);
        let name = words.swap_remove(0);
        let mut words: Vec<Vec<u8>> = ["EVAL", SCRIPT, "1", key]
            .map(|w| w.as_bytes().to_vec())
            .into();
        words.push(name);
        words.extend(rest);
        Request {
            words,
            tag: Tag::Calls(vec![call]),
        }
    }
}

fn draw(key: &str, facts: &mut Facts, rng: &mut Rng) -> Op {
    let n = facts.unique().to_string().into_bytes();
    let few = |rng: &mut Rng| vec![b'a' + rng.below(4) as u8];
    match (key.as_bytes().first(), rng.below(10)) {
        (_, 0) if rng.percent(50) => Op::Del,
        (Some(b's'), 0..=2) => Op::Set(n),
        (Some(b's'), 3..=4) => Op::Get,
        (Some(b's'), 5..=6) => Op::IncrBy(rng.between(1, 9)),
        (Some(b's'), 7) => Op::GetSet(n),
        (Some(b's'), 8) => Op::SetNx(n),
        (Some(b's'), _) => rng
            .pick(&[Op::GetDel, Op::StrLen, Op::Append(b"7".to_vec())])
            .cloned()
            .unwrap_or(Op::Get),
        (Some(b'l'), 0..=4) => Op::Push {
            left: rng.percent(50),
            text: n,
        },
        (Some(b'l'), 5..=7) => Op::Pop {
            left: rng.percent(50),
        },
        (Some(b'l'), 8) => Op::Len,
        (Some(b'l'), _) => Op::All,
        (Some(b'h'), 0..=2) => Op::HSet(few(rng), n),
        (Some(b'h'), 3..=4) => Op::HGet(few(rng)),
        (Some(b'h'), 5..=6) => Op::HDel(few(rng)),
        (Some(b'h'), 7) => Op::HIncrBy(b"n".to_vec(), rng.between(-3, 9)),
        (Some(b'h'), _) => Op::HGetAll,
        (Some(b't'), 0..=3) => Op::SAdd(few(rng)),
        (Some(b't'), 4..=5) => Op::SRem(few(rng)),
        (Some(b't'), 6) => Op::SIsMember(few(rng)),
        (Some(b't'), 7..=8) => Op::SPop,
        (Some(b't'), _) => Op::SMembers,
        (Some(b'z'), 0..=3) => Op::ZAdd(few(rng), rng.between(-5, 9)),
        (Some(b'z'), 4) => Op::ZRem(few(rng)),
        (Some(b'z'), 5) => Op::ZScore(few(rng)),
        (Some(b'z'), 6) => Op::ZIncrBy(few(rng), rng.between(-5, 9)),
        (Some(b'z'), 7..=8) => Op::ZPopMin,
        _ => Op::ZRange,
    }
}

impl Player for Caller {
    fn name(&self) -> &'static str {
        "keys"
    }

    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        self.waits = false;
        if let Some((key, seen)) = self.watched.take() {
            return Caller::swap(facts, key, seen);
        }
        match rng.below(100) {
            0..=14 => Caller::transaction(facts, rng),
            15..=24 => vec![Caller::several(facts, rng)],
            25..=34 => {
                let key = if rng.percent(50) { "s0" } else { "s1" };
                self.watched = Some((key, None));
                let get = facts.keys.begin(key, Op::Get, facts.step);
                vec![
                    Request::new(&["WATCH", key], Tag::ok()),
                    // (Read twice: once to be judged, once to be used.)
                    Request::new(&["GET", key], Tag::Calls(vec![get])),
                    Request::new(&["GET", key], Tag::Own(READ)),
                ]
            }
            35..=44 => {
                self.waits = true;
                vec![Caller::block(facts, rng)]
            }
            45..=54 => vec![Caller::script(facts, rng)],
            _ => {
                let mut requests = Vec::new();
                for _ in 0..1 + rng.below(PIPELINE_MAX) {
                    let (_, words, call) = Caller::call(facts, rng);
                    requests.push(Request {
                        words,
                        tag: Tag::Calls(vec![call]),
                    });
                    if rng.percent(20) {
                        let echo = facts.unique().to_string();
                        let tag = Tag::Exactly(Answer::Bulk(echo.clone().into_bytes()));
                        requests.push(Request::new(&["ECHO", &echo], tag));
                    }
                }
                requests
            }
        }
    }

    fn heard(&mut self, _number: u64, answer: Answer, _facts: &mut Facts) {
        if let (Some((_, seen)), Answer::Bulk(text)) = (&mut self.watched, answer) {
            *seen = Some(text);
        }
    }

    fn lost(&mut self, _own: &[u64], _crashed: bool, _facts: &mut Facts) {
        self.watched = None;
    }
}
