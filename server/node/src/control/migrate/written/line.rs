//! The line to the old Redis: the thread that reads the log and writes there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use migration::written::{Judged, Mark, Pen, Transaction, WATCH, failed as requests_failed, judge};
use migration::{Authority, Reader, assess};

use super::super::link::{Wire, found_of, refused, text_of};
use super::super::parts::Sharded;
use super::super::{address_of, drive, locked};
use super::{There, WrittenNow, restate};
use crate::config::AppendFsync;
use crate::control::log::follow::Follower;
use crate::node::Node;
use crate::start::unix_ms;

/// The rest of a thread that has nothing to write, and of one that waits for a sync while requests do.
const IDLE: Duration = Duration::from_millis(2);
const HURRIED: Duration = Duration::from_micros(200);
/// How soon a connection that failed is made again.
const RETRY: Duration = Duration::from_millis(200);
/// How often the queue is measured, and a connection that is idle asked whether it is there.
const MEASURE: Duration = Duration::from_millis(100);
const PING: Duration = Duration::from_secs(1);
/// Frames that are read at once, whatever they are about.
const FRAMES_MAX: usize = 4096;
/// How often one of several is told how far it is while all that is written is about others' keys.
const PASSED: Duration = Duration::from_millis(100);
/// How often a log without syncs of its own is synced.
const SYNC: Duration = Duration::from_secs(1);
/// Memory of a frame that is kept for the next, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;
/// Samples of how far the log was when: with more, every other one is forgotten.
const SAMPLES_MAX: usize = 1024;

/// The line, as its owner has it.
pub(in crate::control::migrate) struct Line {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    now: Mutex<WrittenNow>,
}

impl Line {
    /// Writes there from now on.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(in crate::control::migrate) fn begin(
        node: &'static Node,
        there: There,
    ) -> std::io::Result<Line> {
        node.write_log.hold_from(there.number(), there.from + 1);
        let shared: Arc<Shared> = Arc::default();
        {
            let mut now = locked(&shared.now);
            (now.there, now.is_begun) = (there.from, there.is_begun);
        }
        let ours = Arc::clone(&shared);
        let name = format!("old-redis-{}", there.number());
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || Writer::new(node, there, ours).run())?;
        Ok(Line {
            shared,
            thread: Some(thread),
        })
    }

    /// How it goes.
    pub(in crate::control::migrate) fn now(&self) -> WrittenNow {
        locked(&self.shared.now).clone()
    }

    /// Nothing is written there any more when this has returned.
    pub(in crate::control::migrate) fn end(mut self) {
        self.shared.stops.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // (One that has panicked writes nothing either.)
            let _ended = thread.join();
        }
    }
}

/// Why a connection is left.
enum Leave {
    /// It is to end.
    Stops,
    /// It failed: another one is made.
    Failed(String),
    /// The old Redis is given up.
    GivenUp(String),
}

fn failed(why: impl core::fmt::Display) -> Leave {
    Leave::Failed(why.to_string())
}

/// See the module's head.
struct Writer {
    node: &'static Node,
    there: There,
    shared: Arc<Shared>,
    pen: Pen,
    follower: Follower,
    payload: Vec<u8>,
    /// What has been sent and not been answered: whether it is there is not known.
    open: Option<Transaction>,
    /// The connection's number there, of one that failed.
    left: Option<i64>,
    /// How far the log was, and when.
    samples: VecDeque<(u64, Instant)>,
    measured: Instant,
    synced: Instant,
    passed: Instant,
}

impl Writer {
    fn new(node: &'static Node, there: There, shared: Arc<Shared>) -> Writer {
        Writer {
            pen: Pen::new(Reader::of_rdb(storage::rdb::VERSION), 1),
            follower: Follower::behind(there.from, Arc::clone(&node.vault)),
            node,
            there,
            shared,
            payload: Vec::new(),
            open: None,
            left: None,
            samples: VecDeque::new(),
            measured: Instant::now(),
            synced: Instant::now(),
            passed: Instant::now(),
        }
    }

    fn hold_from(&self, sequence: u64) {
        self.node.write_log.hold_from(self.there.number(), sequence);
    }

    fn note<R>(&self, change: impl FnOnce(&mut WrittenNow) -> R) -> R {
        change(&mut locked(&self.shared.now))
    }

    fn stops(&self) -> bool {
        self.shared.stops.load(Relaxed) || self.node.stopping.load(Relaxed)
    }

    fn run(mut self) {
        loop {
            let why = match self.connection() {
                Leave::Stops => return,
                Leave::Failed(why) => why,
                Leave::GivenUp(why) => {
                    self.note(|now| (now.is_up, now.needs_copy) = (false, Some(why)));
                    return;
                }
            };
            self.note(|now| {
                if now.error.is_none() {
                    now.error_since_ms = unix_ms();
                }
                (now.is_up, now.error) = (false, Some(why));
            });
            let until = Instant::now() + RETRY;
            while Instant::now() < until {
                if self.stops() {
                    return;
                }
                if let Err(Leave::GivenUp(why)) = self.look() {
                    self.note(|now| now.needs_copy = Some(why));
                    return;
                }
                std::thread::sleep(IDLE);
            }
        }
    }

    /// One connection, from its beginning to its end.
    fn connection(&mut self) -> Leave {
        let begun = self.connect();
        let mut wire = match begun {
            Ok(wire) => wire,
            Err(leave) => return leave,
        };
        self.note(|now| (now.is_up, now.error) = (true, None));
        let mut pinged = Instant::now();
        loop {
            if self.stops() {
                return Leave::Stops;
            }
            let done = self.look().and_then(|()| self.write(&mut wire));
            let leave = match done {
                Ok(true) => continue,
                Ok(false) if pinged.elapsed() < PING => {
                    std::thread::sleep(self.patience());
                    continue;
                }
                Ok(false) => match wire.call(&["PING"]).and_then(refused) {
                    Ok(_) => {
                        pinged = Instant::now();
                        continue;
                    }
                    Err(error) => failed(error),
                },
                Err(leave) => leave,
            };
            self.left = wire.id();
            return leave;
        }
    }

    /// A connection that has said how far the old Redis is; what was written last is known to be there or not.
    fn connect(&mut self) -> Result<Wire, Leave> {
        let address = address_of(self.node, &self.there.server, drive::ANSWER_MAX);
        let mut wire = Wire::open(&address.map_err(failed)?).map_err(failed)?;
        if let Some(id) = self.left.take() {
            // It would find the position changed, and do nothing; but it need not stay. (Who may not end it leaves it.)
            let _ended = wire.call(&["CLIENT", "KILL", "ID", &id.to_string()]);
        }
        let mut ask = |words: &[&[u8]]| wire.call(words).and_then(refused).map_err(failed);
        let position = self.there.position();
        if !self.there.is_of_cluster() {
            ask(&WATCH)?;
        }
        let mark = Mark::of(text_of(&ask(&[b"GET", &position])?).as_bytes());
        let server = text_of(&ask(&[b"INFO", b"server"])?);
        let history = text_of(&ask(&[b"INFO", b"replication"])?);
        let history = found_of(&history, None).map_err(failed)?.at.history;
        let mark = mark.filter(|mark| mark.fence == self.there.fence);
        let sequence = self.judge_mark(mark.as_ref(), &history)?;
        self.settle_open(sequence);
        let databases =
            databases_of(&mut wire, self.node.config().databases as usize).map_err(failed)?;
        let pen = Pen::new(Reader::of_redis(assess::version(&server)), databases);
        let pen = match self.there.shard.as_ref().map(Sharded::share) {
            Some(share) => pen.only(Box::new(move |key| share.has(key))),
            None => pen,
        };
        self.pen = match self.there.is_of_cluster() {
            true => pen.by_script(position),
            false => pen,
        };
        self.pen.begin_at(sequence, mark.as_ref());
        self.follower = Follower::behind(sequence, Arc::clone(&self.node.vault));
        self.note(|now| now.there = sequence);
        if mark.is_none() {
            self.send(&mut wire)?;
        }
        self.hold_from(sequence + 1);
        self.note(|now| now.is_begun = true);
        self.there.is_begun = true;
        Ok(wire)
    }

    /// The sequence up to which the old Redis has everything.
    fn judge_mark(&self, mark: Option<&Mark>, history: &str) -> Result<u64, Leave> {
        let given_up = |why: &str| Err(Leave::GivenUp(why.to_owned()));
        let Some(mark) = mark else {
            if self.there.is_begun {
                return given_up(
                    "the old Redis has lost what was written there, or somebody has removed it",
                );
            }
            if history != self.there.fence.history {
                return given_up(
                    "the old Redis was started again before it was written to: it may have lost writes",
                );
            }
            return Ok(self.there.from);
        };
        let log = &self.node.write_log;
        if mark.sequence > log.queued() {
            return given_up(
                "the old Redis has more than this node's log: the log has lost writes",
            );
        }
        if log
            .first_sequence()
            .is_none_or(|first| mark.sequence + 1 < first)
        {
            return given_up("the old Redis has lost writes that the log has no more");
        }
        Ok(mark.sequence)
    }

    /// A transaction that was not answered is there, or was never sent as far as counts go.
    fn settle_open(&mut self, sequence: u64) {
        let Some(open) = self.open.take() else { return };
        if sequence >= open.last {
            return self.note(|now| {
                add(&mut now.answered, &open.calls);
                now.transactions += 1;
            });
        }
        self.note(|now| {
            for (name, count) in &open.calls {
                let calls = now.calls.entry(name).or_default();
                *calls = calls.saturating_sub(*count);
            }
        });
    }

    /// Writes what is there to be written, in one transaction; whether there was something.
    fn write(&mut self, wire: &mut Wire) -> Result<bool, Leave> {
        let log = &self.node.write_log;
        let mut frames = 0;
        while !self.pen.is_full() && frames < FRAMES_MAX {
            frames += 1;
            let next = self.follower.next(log, &mut self.payload).map_err(failed)?;
            let Some(head) = next else { break };
            let added = self.pen.add(head.sequence, head.kind, &self.payload);
            added.map_err(|why| {
                Leave::GivenUp(format!(
                    "the log's frame {} cannot be said: {why}",
                    head.sequence
                ))
            })?;
        }
        self.payload.shrink_to(SPARE_BYTES_MAX);
        let there = self.note(|now| now.there);
        if self.pen.is_empty(there) {
            return Ok(false);
        }
        // Frames of others' keys alone have passed: that is said there from time to time, and when requests wait for it.
        let is_held = self.node.source.authority() == Authority::Held;
        let may_wait = self.there.shard.is_some() && !is_held && !self.pen.is_full();
        if may_wait && !self.pen.has_requests() && self.passed.elapsed() < PASSED {
            return Ok(false);
        }
        self.passed = Instant::now();
        self.send(wire)?;
        Ok(true)
    }

    /// Sends what the pen has, and acts upon the replies.
    fn send(&mut self, wire: &mut Wire) -> Result<(), Leave> {
        let mark = Mark {
            fence: self.there.fence.clone(),
            sequence: self.pen.last(),
        };
        let sent = self.pen.finish(&mark);
        self.note(|now| add(&mut now.calls, &sent.calls));
        let sent = self.open.insert(sent);
        let replies = wire.call_bytes(&sent.bytes, sent.replies).map_err(failed)?;
        let (restates, error) = match judge(sent, &replies) {
            Judged::Applied { restates, error } => (restates, error),
            Judged::Unfit(why) => {
                return Err(Leave::GivenUp(format!(
                    "the old Redis does not take a value: {why}"
                )));
            }
            Judged::Refused(why) => return Err(failed(why)),
            Judged::Stale => return Err(failed("the position was written by somebody else")),
        };
        let counted_failures = requests_failed(sent, &replies);
        let (last, calls) = (sent.last, core::mem::take(&mut sent.calls));
        self.open = None;
        // Before it counts as written: then all that was queued is there, and what is said again is queued behind it.
        for (db, key) in &restates {
            restate(self.node, *db, key).map_err(failed)?;
        }
        let owes = match restates.is_empty() {
            true => 0,
            false => self.node.write_log.queued(),
        };
        self.hold_from(last + 1);
        self.note(|now| {
            (now.there, now.owes) = (last, now.owes.max(owes));
            add(&mut now.answered, &calls);
            now.transactions += 1;
            now.restated += restates.len() as u64;
            now.failed += counted_failures;
        });
        if let Some(why) = error {
            let text = format!(
                "migration: the old Redis has refused a request of what is written there: {why}"
            );
            self.node.log(|log| log.warning(&text));
        }
        Ok(())
    }

    /// How long there is nothing to do, unless requests wait for this.
    fn patience(&self) -> Duration {
        match self.node.source.authority() {
            Authority::Held => HURRIED,
            _ => IDLE,
        }
    }

    /// Looks after the queue: how long it is, and whether it is to be synced.
    fn look(&mut self) -> Result<(), Leave> {
        let log = &self.node.write_log;
        let (now, end) = (Instant::now(), log.queued());
        if !log.is_on() {
            return Err(Leave::GivenUp(
                "the log was turned off: it was the queue".to_owned(),
            ));
        }
        if log.synced() < end {
            let is_held = self.node.source.authority() == Authority::Held;
            let policy = self.node.config().appendfsync;
            let is_due = policy == AppendFsync::No && now - self.synced >= SYNC;
            if is_held || is_due {
                self.synced = now;
                log.sync_soon();
            }
        }
        if now - self.measured < MEASURE {
            return Ok(());
        }
        self.measured = now;
        self.sample(end, now);
        let queue_bytes = self.follower.behind_bytes(log);
        let there = self.note(|found| found.there);
        let lag = self
            .samples
            .front()
            .map_or(Duration::ZERO, |(_, at)| now - *at);
        self.note(|found| {
            found.queue_bytes = queue_bytes;
            found.lag_ms = if there < end {
                lag.as_millis() as u64
            } else {
                0
            };
        });
        let bytes_max = self.node.config().migrate_queue_max_bytes;
        if queue_bytes > bytes_max {
            return Err(Leave::GivenUp(format!(
                "more than migrate-queue-max-bytes ({bytes_max}) waited to be written there"
            )));
        }
        Ok(())
    }

    fn sample(&mut self, end: u64, now: Instant) {
        let there = self.note(|found| found.there);
        if self.samples.back().is_none_or(|(last, _)| *last < end) {
            self.samples.push_back((end, now));
        }
        while self.samples.front().is_some_and(|(last, _)| *last <= there) {
            self.samples.pop_front();
        }
        if self.samples.len() > SAMPLES_MAX {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
    }
}

fn add(to: &mut BTreeMap<&'static str, u64>, calls: &BTreeMap<&'static str, u64>) {
    for (name, count) in calls {
        *to.entry(name).or_default() += count;
    }
}

/// How many of so many databases the old Redis has; the first one is selected afterwards.
fn databases_of(wire: &mut Wire, most: usize) -> std::io::Result<usize> {
    let mut has = most;
    while has > 1 && wire.call(&["SELECT", &(has - 1).to_string()])?.is_error() {
        has -= 1;
    }
    wire.call(&["SELECT", "0"]).and_then(refused)?;
    Ok(has)
}
