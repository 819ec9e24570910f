//! Transfers between keys on different cores: is the sum ever wrong, a pair ever torn?
//!
//! ```text
//!   writers   MULTI DECRBY a n, INCRBY b n EXEC      in one write, or word by word
//!             WATCH a b, GET, GET, MULTI SET SET EXEC
//!             MSET pair:i:a stamp pair:i:b stamp     one writer per pair, stamps grow
//!   readers   MGET of all accounts, MULTI GET.. EXEC: the sum is what it was at the beginning
//!             MGET and MULTI GET GET EXEC of a pair: both stamps equal, and never older than
//!             what the same reader saw before
//! ```
//!
//! Keys are `acct:0`, `acct:1`...: no hash tags, so they lie in different slots and on all cores.
//! Redis, which has one core, must pass. Non-goal: crashes and failover.

mod readers;
mod writers;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use protocol::answer::Answer;

use crate::client::{Client, ClientError};
use crate::rng::Rng;

/// Accounts, and what each holds at the beginning.
pub(crate) const ACCOUNTS: usize = 20;
const BALANCE: i64 = 1000;
/// What all accounts hold at any time.
pub(crate) const SUM: i64 = BALANCE * 20;
const _: () = assert!(ACCOUNTS == 20);
/// Pairs of keys with one stamp.
pub(crate) const PAIRS: usize = 12;
/// Threads of each role.
const MULTI_WRITERS: usize = 3;
const WATCH_WRITERS: usize = 3;
const PAIR_WRITERS: usize = 2;
const SUM_READERS: usize = 2;
const PAIR_READERS: usize = 2;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `HOST:PORT`.
    pub server: String,
    /// For how long.
    pub duration: Duration,
    /// For choices and amounts.
    pub seed: u64,
}

/// What was done; a violation ends the run.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong, or nothing.
    pub violation: Option<String>,
    /// Counts by name.
    pub counts: Vec<(&'static str, u64)>,
}

/// Why a thread ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The server is wrong.
    Violation(String),
    /// The server is gone.
    Client(ClientError),
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: String,
    stop: AtomicBool,
    pub(crate) transfers: AtomicU64,
    pub(crate) watched: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) pairs_written: AtomicU64,
    pub(crate) sums_read: AtomicU64,
    pub(crate) pairs_read: AtomicU64,
    /// The first thing that ended a thread.
    ended: Mutex<Option<Stop>>,
}

impl Shared {
    /// True until the time is over or something is wrong.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, result: Result<(), Stop>) {
        let Err(stop) = result else { return };
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(mut ended) = self.ended.lock() {
            ended.get_or_insert(stop);
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// An account's key.
pub(crate) fn account(number: usize) -> Vec<u8> {
    format!("acct:{number}").into_bytes()
}

/// The two keys of a pair.
pub(crate) fn pair(number: usize) -> (Vec<u8>, Vec<u8>) {
    (
        format!("pair:{number}:a").into_bytes(),
        format!("pair:{number}:b").into_bytes(),
    )
}

/// The number in a bulk string.
pub(crate) fn number(answer: &Answer) -> Option<i64> {
    match answer {
        Answer::Bulk(text) => protocol::number::parse_i64(text),
        _ => None,
    }
}

/// A reply that makes no sense here.
pub(crate) fn unexpected(what: &str, answer: &Answer) -> Stop {
    Stop::Violation(format!(
        "{what} was answered by {}",
        crate::text::answer_line(answer)
    ))
}

/// Runs writers and readers.
///
/// # Errors
/// If the server cannot be reached or is lost.
pub fn run(plan: &Plan) -> Result<Outcome, ClientError> {
    prepare(&plan.server)?;
    let shared = Shared {
        server: plan.server.clone(),
        stop: AtomicBool::new(false),
        transfers: AtomicU64::new(0),
        watched: AtomicU64::new(0),
        conflicts: AtomicU64::new(0),
        pairs_written: AtomicU64::new(0),
        sums_read: AtomicU64::new(0),
        pairs_read: AtomicU64::new(0),
        ended: Mutex::new(None),
    };
    let end = Instant::now() + plan.duration;
    thread::scope(|scope| {
        let shared = &shared;
        let mut seeds = Rng::new(plan.seed);
        for _ in 0..MULTI_WRITERS {
            let rng = Rng::new(seeds.next());
            scope.spawn(move || shared.note(writers::by_multi(shared, rng)));
        }
        for _ in 0..WATCH_WRITERS {
            let rng = Rng::new(seeds.next());
            scope.spawn(move || shared.note(writers::by_watch(shared, rng)));
        }
        for index in 0..PAIR_WRITERS {
            scope.spawn(move || shared.note(writers::pairs(shared, index, PAIR_WRITERS)));
        }
        for _ in 0..SUM_READERS {
            let rng = Rng::new(seeds.next());
            scope.spawn(move || shared.note(readers::sums(shared, rng)));
        }
        for _ in 0..PAIR_READERS {
            let rng = Rng::new(seeds.next());
            scope.spawn(move || shared.note(readers::pairs(shared, rng)));
        }
        while Instant::now() < end && shared.goes_on() {
            thread::sleep(Duration::from_millis(20));
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    outcome(shared)
}

fn outcome(shared: Shared) -> Result<Outcome, ClientError> {
    let violation = match shared.ended.into_inner().unwrap_or_default() {
        Some(Stop::Client(error)) => return Err(error),
        Some(Stop::Violation(text)) => Some(text),
        None => None,
    };
    let counts = vec![
        ("transfers by MULTI", shared.transfers.into_inner()),
        ("transfers by WATCH", shared.watched.into_inner()),
        ("WATCH conflicts", shared.conflicts.into_inner()),
        ("pairs written by MSET", shared.pairs_written.into_inner()),
        ("sums read", shared.sums_read.into_inner()),
        ("pairs read", shared.pairs_read.into_inner()),
    ];
    // A run in which somebody did nothing has shown nothing.
    let idle = counts
        .iter()
        .find(|(name, count)| *count == 0 && *name != "WATCH conflicts");
    let idle = idle.map(|(name, _)| format!("nothing was done: 0 {name}"));
    Ok(Outcome {
        violation: violation.or(idle),
        counts,
    })
}

/// The accounts and pairs as they begin.
fn prepare(server: &str) -> Result<(), ClientError> {
    let mut client = Client::connect(server)?;
    for index in 0..ACCOUNTS {
        client.call(&[b"SET", &account(index), BALANCE.to_string().as_bytes()])?;
    }
    for index in 0..PAIRS {
        let (a, b) = pair(index);
        client.call(&[b"MSET", &a, b"0", &b, b"0"])?;
    }
    Ok(())
}
