//! Transfers between accounts on all cores, by every way that is atomic: whoever looks finds the same sum. And pairs of keys
//! that are only ever written together.

use protocol::answer::Answer;

use super::{Facts, Player, Request, Tag};
use crate::rng::Rng;
use crate::sim::Plant;

/// The accounts, in slots of all cores, and what each begins with.
pub(crate) const ACCOUNTS: [&str; 6] = ["a0", "a1", "a2", "a3", "a4", "a5"];
pub(crate) const BALANCE: i64 = 100;

const TRANSFER: &str =
    "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1]) return 1";
const ADD_UP: &str =
    "local sum = 0 for _, key in ipairs(KEYS) do sum = sum + redis.call('GET', key) end return sum";

/// Numbers of own requests.
const NOTHING: u64 = 0;
const SUM: u64 = 1;
const PAIR: u64 = 2;
const BALANCES: u64 = 3;

/// What all have seen.
#[derive(Default)]
pub(crate) struct Book {
    /// Times that somebody has looked.
    pub(crate) looks: usize,
}

/// One that transfers and looks.
pub(crate) struct Teller {
    /// Of a transfer by WATCH: from and to.
    watched: Option<(usize, usize)>,
    /// What these two have.
    seen: Option<(i64, i64)>,
}

impl Teller {
    /// One that has done nothing yet.
    pub(crate) fn new() -> Teller {
        Teller {
            watched: None,
            seen: None,
        }
    }
}

fn number(answer: &Answer) -> Option<i64> {
    match answer {
        Answer::Bulk(text) => core::str::from_utf8(text).ok()?.parse().ok(),
        Answer::Int(n) => Some(*n),
        _ => None,
    }
}

fn numbers(answer: &Answer) -> Option<Vec<i64>> {
    match answer {
        Answer::Array(members) => members.iter().map(number).collect(),
        _ => None,
    }
}

/// Notes what somebody has seen of all accounts.
pub(crate) fn looked(facts: &mut Facts, answer: &Answer) {
    facts.sums.looks += 1;
    let due = BALANCE * ACCOUNTS.len() as i64;
    let sum = match answer {
        Answer::Int(sum) => Some(*sum),
        other => numbers(other).map(|all| all.iter().sum()),
    };
    if sum != Some(due) {
        facts.fault(format!(
            "the accounts' sum is {sum:?} and not {due}: {answer:?}"
        ));
    }
}

impl Player for Teller {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        let own = |line: &str, number| Request::line(line, Tag::Own(number));
        if let Some((from, to)) = self.watched.take() {
            let Some((a, b)) = self.seen.take() else {
                return vec![Request::line("UNWATCH", Tag::ok())];
            };
            let (from, to) = (ACCOUNTS[from], ACCOUNTS[to]);
            return vec![
                Request::line("MULTI", Tag::ok()),
                Request::line(&format!("SET {from} {}", a - 7), Tag::queued()),
                Request::line(&format!("SET {to} {}", b + 7), Tag::queued()),
                own("EXEC", NOTHING),
            ];
        }
        let from = rng.below(ACCOUNTS.len());
        let to = (from + 1 + rng.below(ACCOUNTS.len() - 1)) % ACCOUNTS.len();
        let (a, b) = (ACCOUNTS[from], ACCOUNTS[to]);
        let all = ACCOUNTS.join(" ");
        match rng.below(8) {
            0..=1 => {
                let wrap = facts.plant != Some(Plant::TornTransactions);
                let (ok, queued) = if wrap {
                    (Tag::ok(), Tag::queued())
                } else {
                    (Tag::Own(NOTHING), Tag::Own(NOTHING))
                };
                let (multi, exec) = if wrap {
                    ("MULTI", "EXEC")
                } else {
                    ("PING", "PING")
                };
                vec![
                    Request::line(multi, ok),
                    Request::line(&format!("DECRBY {a} 5"), queued.clone()),
                    Request::line(&format!("INCRBY {b} 5"), queued),
                    own(exec, NOTHING),
                ]
            }
            2 => vec![Request::new(
                &["EVAL", TRANSFER, "2", a, b, "3"],
                Tag::Exactly(Answer::Int(1)),
            )],
            3 => {
                self.watched = Some((from, to));
                vec![
                    Request::line(&format!("WATCH {a} {b}"), Tag::ok()),
                    own(&format!("MGET {a} {b}"), BALANCES),
                ]
            }
            4 => vec![own(&format!("MGET {all}"), SUM)],
            5 => {
                let mut words = vec!["EVAL", ADD_UP, "6"];
                words.extend(ACCOUNTS);
                vec![Request::new(&words, Tag::Own(SUM))]
            }
            6 => {
                let n = facts.unique();
                vec![
                    Request::line(&format!("MSET p0 {n} p1 {n} p2 {n}"), Tag::ok()),
                    own("MGET p0 p1 p2", PAIR),
                ]
            }
            _ => {
                let mut requests = vec![Request::line("MULTI", Tag::ok())];
                let get = |key: &&str| Request::line(&format!("GET {key}"), Tag::queued());
                requests.extend(ACCOUNTS.iter().map(get));
                requests.push(own("EXEC", SUM));
                requests
            }
        }
    }

    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts) {
        match number {
            SUM => looked(facts, &answer),
            BALANCES => {
                let seen = numbers(&answer).filter(|seen| seen.len() == 2);
                self.seen = seen.map(|seen| (seen[0], seen[1]));
            }
            PAIR => match &answer {
                Answer::Array(members) if members.windows(2).all(|two| two[0] == two[1]) => {}
                torn => facts.fault(format!("a pair is torn: {torn:?}")),
            },
            _ if answer.is_error() => facts.fault(format!("a transfer was refused: {answer:?}")),
            _ => {}
        }
    }

    fn lost(&mut self, _own: &[u64], _crashed: bool, _facts: &mut Facts) {
        self.watched = None;
        self.seen = None;
    }
}
