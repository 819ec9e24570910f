//! Load, `kill -9` at a random moment, restart: is everything there that was acknowledged, and nothing else?
//!
//! ```text
//!  clients ── operations, some at once ──> server ── killed
//!     │ record: so many were acknowledged, so many were sent
//!     v
//!  restart, read all keys: each as after n operations of its client, for an n between the two
//! ```
//! The process dies, not the machine: what was written is in the kernel, so with `everysec`, too, nothing may be lost. (What a crash
//! of the machine takes away is tried in simulation.) Meanwhile the log is rewritten and snapshots are taken, at random. Rounds take turns with the policies of the log. Each round goes on from
//! what the one before has left.
//!
//! With `seals` what is on the disk is sealed, under a new key every few rounds (old ones go when no file needs them), and must not show what clients have written.
//!
//! The judge proves itself: with a [`Plant`] it must find a violation.

mod keys;
mod model;
mod server;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};
use crate::rng::Rng;
use model::State;
use server::{Server, Started};

/// Clients at once.
const CLIENTS: usize = 8;
/// Operations of one client under way at once, at most.
const AT_ONCE_MAX: usize = 6;
/// Time between start and kill, ms.
const LOAD_MS: (i64, i64) = (20, 400);

/// A fault that is planted, which the judge must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// None.
    Nothing,
    /// The server keeps no log.
    NoLog,
    /// The end of the log is lost after the kill.
    LostTail,
    /// A bit of the log is flipped after the kill: the server must say so.
    FlippedBit,
    /// The log is that of the round before.
    OldLog,
}

impl Plant {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Plant> {
        Some(match name {
            "nothing" => Plant::Nothing,
            "no-log" => Plant::NoLog,
            "lost-tail" => Plant::LostTail,
            "flipped-bit" => Plant::FlippedBit,
            "old-log" => Plant::OldLog,
            _ => return None,
        })
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub binary: String,
    /// More options for it.
    pub options: Vec<String>,
    /// Kills.
    pub rounds: u64,
    /// For choices.
    pub seed: u64,
    /// What is planted.
    pub plant: Plant,
    /// The first round is served by the redis-server of PATH: its log is what the program finds at its first start.
    pub from_redis: bool,
    /// What is on the disk is sealed.
    pub seals: bool,
}

/// What was done; a violation ends the run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is wrong, or nothing.
    pub violation: Option<String>,
    /// Kills.
    pub rounds: u64,
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Operations that had been sent when the server was killed, without an answer.
    pub open: u64,
    /// The seconds of the longest start.
    pub longest_start_s: f64,
}

/// What a client knows of its keys.
#[derive(Clone, Default)]
struct Record {
    /// The state after so many operations, all of them acknowledged.
    state: State,
    acknowledged: u64,
    /// Operations that were sent.
    sent: u64,
    /// An operation that was answered by an error.
    refused: Option<String>,
}

/// Runs the rounds in a folder of their own, which is removed when nothing is wrong.
///
/// # Errors
/// When the server cannot be run at all.
pub fn run(plan: &Plan) -> Result<Outcome, ClientError> {
    let folder =
        std::env::temp_dir().join(format!("durability-{}-{}", std::process::id(), plan.seed));
    std::fs::create_dir_all(&folder)?;
    let outcome = run_in(plan, &folder)?;
    match &outcome.violation {
        Some(_) if plan.plant == Plant::Nothing => {
            println!("the folder is left as it is: {}", folder.display());
        }
        _ => std::fs::remove_dir_all(&folder)?,
    }
    Ok(outcome)
}

fn run_in(plan: &Plan, folder: &Path) -> Result<Outcome, ClientError> {
    let mut rng = Rng::new(plan.seed);
    let mut outcome = Outcome::default();
    let mut records: Vec<Record> = vec![Record::default(); CLIENTS];
    let old = folder.with_extension("old");
    for round in 0..=plan.rounds {
        // (With everysec redis-server puts its write off while a sync takes long, so that its end loses what it has acknowledged.)
        let is_redis = plan.from_redis && round == 0;
        let fsync = if rng.percent(50) || is_redis {
            "always"
        } else {
            "everysec"
        };
        if plan.seals {
            keys::rotate(folder, &mut rng)?;
        }
        let begin = Instant::now();
        let server = match Server::start(plan, folder, fsync, is_redis)? {
            Started::Serves(server) => server,
            Started::Refuses(text) => {
                outcome.violation = Some(format!("round {round}: it does not start: {text}"));
                break;
            }
        };
        outcome.longest_start_s = outcome.longest_start_s.max(begin.elapsed().as_secs_f64());
        if let Err(text) = judge(&server, &mut records, plan.seed)? {
            outcome.violation = Some(format!("round {round}: {text}"));
            server.kill()?;
            break;
        }
        if round == plan.rounds {
            server.kill()?;
            break;
        }
        if plan.plant == Plant::OldLog {
            copy_log(folder, &old)?;
        }
        load(server, &mut records, plan.seed, rng.next())?;
        outcome.rounds += 1;
        outcome.acknowledged = records.iter().map(|record| record.acknowledged).sum();
        outcome.open += records
            .iter()
            .map(|record| record.sent - record.acknowledged)
            .sum::<u64>();
        if plan.seals
            && let Some(path) = keys::showing(folder)?
        {
            let path = path.display();
            outcome.violation = Some(format!("round {round}: {path} shows what was written"));
            break;
        }
        plant(plan.plant, folder, &old, &mut rng)?;
    }
    if old.exists() {
        std::fs::remove_dir_all(&old)?;
    }
    Ok(outcome)
}

/// Load until a random moment; the server is killed after it, with clients at work.
fn load(server: Server, records: &mut [Record], seed: u64, choice: u64) -> Result<(), ClientError> {
    let mut rng = Rng::new(choice);
    let ms = rng.between(LOAD_MS.0, LOAD_MS.1).unsigned_abs();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (number, record) in records.iter_mut().enumerate() {
            let (stop, endpoint, choice) = (&stop, server.endpoint.clone(), rng.next());
            scope.spawn(move || {
                // The end of the connection is the end that was meant.
                let _killed = write(&endpoint, number, record, (seed, choice), stop);
            });
        }
        let until = Instant::now() + Duration::from_millis(ms);
        // The end of its connection comes with the kill.
        let _killed = disturb(&server.endpoint, until, &mut rng);
        thread::sleep(until.saturating_duration_since(Instant::now()));
        let killed = server.kill();
        stop.store(true, Relaxed);
        killed
    })
}

/// Rewrites and snapshots, at random moments, some of them slow enough for the kill to come in the middle; the log turned off
/// and on is not among them: what is written meanwhile is not promised.
fn disturb(endpoint: &str, until: Instant, rng: &mut Rng) -> Result<(), ClientError> {
    if rng.percent(20) {
        return Ok(());
    }
    let mut client = Client::connect(endpoint)?;
    // (All of the walk lies in a round's time, or most of it behind the kill.)
    let us = if rng.percent(50) {
        0
    } else {
        1000 * rng.between(1, 8)
    };
    client.say(&format!(
        "CONFIG SET rdb-key-save-delay {us} auto-aof-rewrite-min-size 100kb"
    ))?;
    while Instant::now() < until {
        let pause_ms = rng.between(0, LOAD_MS.1 / 4).unsigned_abs();
        let left = until.saturating_duration_since(Instant::now());
        thread::sleep(Duration::from_millis(pause_ms).min(left));
        let request = match rng.below(10) {
            0..=6 => "BGREWRITEAOF",
            7 | 8 => "BGSAVE SCHEDULE",
            _ => "BGSAVE",
        };
        client.say(request)?;
    }
    Ok(())
}

/// One client: operations, some of them at once, until the server is gone.
fn write(
    endpoint: &str,
    number: usize,
    record: &mut Record,
    (seed, choice): (u64, u64),
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let mut client = Client::connect(endpoint)?;
    let mut rng = Rng::new(choice);
    let mut ahead = record.state.clone();
    while !stop.load(Relaxed) {
        let count = 1 + rng.below(AT_ONCE_MAX);
        let mut replies = Vec::with_capacity(count);
        let mut requests = Vec::new();
        for _ in 0..count {
            record.sent += 1;
            let operation = ahead.operate(number, record.sent, seed);
            replies.push(operation.requests.len());
            requests.extend(operation.requests);
        }
        client.send(requests.iter().map(Vec::as_slice))?;
        for count in replies {
            for _ in 0..count {
                let answer = client.receive()?;
                if answer.is_error() {
                    record.refused = Some(crate::text::answer_line(&answer));
                    return Ok(());
                }
            }
            record.acknowledged += 1;
            record.state.operate(number, record.acknowledged, seed);
        }
    }
    Ok(())
}

/// Compares what is there with what was recorded; from here on that is what counts.
fn judge(
    server: &Server,
    records: &mut [Record],
    seed: u64,
) -> Result<Result<(), String>, ClientError> {
    let mut client = Client::connect(&server.endpoint)?;
    for (number, record) in records.iter_mut().enumerate() {
        if let Some(refused) = &record.refused {
            let sent = record.sent;
            return Ok(Err(format!(
                "client {number}: one of {sent} operations was refused: {refused}"
            )));
        }
        let found = model::read(&mut client, number)?;
        // Of operations without an answer each key may have had its own, in their order: they run on several cores.
        let mut states = vec![record.state.clone()];
        for at in record.acknowledged + 1..=record.sent {
            let mut state = states[states.len() - 1].clone();
            state.operate(number, at, seed);
            states.push(state);
        }
        let lines: Vec<Vec<String>> = states.iter().map(State::lines).collect();
        let mut state = record.state.clone();
        for (part, found) in found.iter().enumerate() {
            let Some(like) = lines.iter().rposition(|lines| lines[part] == *found) else {
                return Ok(Err(told(number, record, (&lines[0][part], found))));
            };
            state.adopt(part, &states[like]);
        }
        *record = Record {
            state,
            acknowledged: record.sent,
            sent: record.sent,
            refused: None,
        };
    }
    Ok(Ok(()))
}

/// What was found that cannot be.
fn told(number: usize, record: &Record, (expected, found): (&str, &str)) -> String {
    format!(
        "client {number}: {} operations were acknowledged and {} sent, and none of them leaves what is there\n  \
         acknowledged {expected}\n  found        {found}",
        record.acknowledged, record.sent
    )
}

/// The newest segment of the log.
fn newest(folder: &Path) -> Result<Option<PathBuf>, ClientError> {
    let entries = std::fs::read_dir(folder.join("appendonlydir"))?;
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
        name.rsplit_once('.')?.1.parse::<u64>().ok()
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    found.retain(|path| number(path).is_some());
    Ok(found.into_iter().max_by_key(number))
}

fn copy_log(folder: &Path, to: &Path) -> Result<(), ClientError> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(folder.join("appendonlydir"))? {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// The frames of a segment without the zeros behind them.
fn without_room(mut bytes: Vec<u8>) -> Vec<u8> {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    bytes.truncate(last.map_or(0, |at| at + 1));
    bytes
}

fn plant(plant: Plant, folder: &Path, old: &Path, rng: &mut Rng) -> Result<(), ClientError> {
    match plant {
        Plant::Nothing | Plant::NoLog => {}
        Plant::LostTail => {
            if let Some(path) = newest(folder)? {
                let bytes = without_room(std::fs::read(&path)?);
                std::fs::write(&path, &bytes[..bytes.len() - bytes.len().min(4000)])?;
            }
        }
        Plant::FlippedBit => {
            if let Some(path) = newest(folder)? {
                let mut bytes = without_room(std::fs::read(&path)?);
                let at = rng.below(bytes.len() / 2);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
                std::fs::write(&path, bytes)?;
            }
        }
        Plant::OldLog => {
            let log = folder.join("appendonlydir");
            std::fs::remove_dir_all(&log)?;
            std::fs::create_dir_all(&log)?;
            for entry in std::fs::read_dir(old)? {
                let path = entry?.path();
                if let Some(name) = path.file_name() {
                    std::fs::copy(&path, log.join(name))?;
                }
            }
        }
    }
    Ok(())
}
