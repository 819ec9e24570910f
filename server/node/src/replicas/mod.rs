//! Being followed: replicas, whether they are Redis servers or nodes like this one, and the stream that they are told.
//!
//! ```text
//! PSYNC, SYNC (commands.rs) ──> Desk: judge ──┬─ +CONTINUE: the backlog has what it lacks ────────────────┐
//!                                             └─ +FULLRESYNC: a snapshot of its own (Goal::Replica) ─ file ─┤
//! every core's frames (log/fed.rs) ──> Desk: said as requests (migration::Feed) ──> backlog ───────────────┴─> mail ──> the
//!                                                                                                 connection's core ──> socket
//! ```
//! One thread has the [`desk::Desk`] (`thread.rs`); a connection stays on its core, so TLS and both drivers serve replicas as any client. What
//! waits at the core is bounded by a window: it tells how much has left. What waits here is bounded by
//! `client-output-buffer-limit replica`: a replica beyond it is disconnected. Writers never wait.
//!
//! The *feed* is on from the first full copy until `repl-backlog-ttl` after the last replica has gone: only then do cores record
//! what they change, unless there is a log (`Commit::Logged`). It is turned on at an instant with every slot in one hand,
//! the cut of a snapshot: the stream begins exactly behind the copy.
//!
//! **Offsets** count the bytes of the stream, as Redis counts them. WAIT asks for the frames that had been put there when it ran; a frame is
//! acknowledged once the offset behind the requests that say it is.
//!
//! **A flip** ([`Replicas::expect`], [`Replicas::take_over`]): this node goes on from the history of the primary that it has followed, and
//! that one, now a replica, is told `+CONTINUE`. Nobody is given a full copy meanwhile.

pub mod commands;
mod cores;
mod desk;
mod history;
mod link;
mod sending;
pub mod thread;
mod waits;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use migration::Reader;
use runtime::CoreId;
use storage::Rng;

use crate::config::Config;
use crate::control::disk::Disk;
use crate::control::log::WriteLog;
use crate::control::snapshot::{Ended, Goal};
use crate::mail::Mail;
use crate::node::Node;
use desk::Desk;

pub use history::History;
pub use link::{Link, Said, Side, State};
pub use waits::{AckWait, AofWait};

/// What the thread tells a core.
#[derive(Debug)]
pub enum Told {
    /// Bytes of the stream for a connection of the receiver.
    Stream(Arc<Link>, Vec<u8>),
    /// That connection is to be closed at once.
    Drop(Arc<Link>),
    /// A snapshot for replicas is to be taken; it has been claimed.
    Copy,
    /// Cores are to record for replicas, or no more.
    Feed(bool),
    /// The number of replicas that are near has changed.
    Near,
}

/// A connection asks to be a replica.
#[derive(Debug)]
pub struct Ask {
    /// Which one.
    pub link: Arc<Link>,
    /// The history that it has, and the first offset that it lacks; None for SYNC.
    pub has: Option<(Vec<u8>, i64)>,
}

/// What a flip learns of a replica that has asked while one is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// It has the history and the offset that are expected: it waits for [`Replicas::take_over`].
    pub is_expected: bool,
    /// The history that it named; empty for SYNC.
    pub replid: String,
    /// The first offset that it lacks.
    pub offset: i64,
    /// Its address, with the port that it listens to.
    pub address: String,
}

/// There is no stream: [`Replicas::turn_on`] has not been waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFeed;

impl core::fmt::Display for NoFeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("what is changed here is not recorded for replicas yet")
    }
}

impl core::error::Error for NoFeed {}

/// Puts mail into a core's mailbox; it comes back when that is full.
pub type Post<'p> = &'p mut dyn FnMut(CoreId, Mail) -> Result<(), Box<Mail>>;

/// What has been put to the thread.
#[derive(Default)]
struct Inbox {
    asks: Vec<Ask>,
    copied: Option<Arc<Ended>>,
    /// Who was expected asks no more: all that are held are to go...
    refuses: bool,
    /// ...or to be judged by the history of now.
    judges: bool,
    breaks: bool,
}

/// A replica that a flip expects.
struct Expected {
    replid: String,
    offset: u64,
    to: Sender<Asked>,
}

/// For INFO.
#[derive(Default)]
pub struct Counters {
    /// Full copies that were asked for.
    pub full: AtomicU64,
    /// Replicas that went on where they had been.
    pub partial_ok: AtomicU64,
    /// Those that could not.
    pub partial_err: AtomicU64,
}

/// How the stream is, in offsets; published by the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// There is a backlog.
    pub is_on: bool,
    /// Bytes of the stream before the backlog's first.
    pub first: u64,
    /// Bytes of the stream.
    pub end: u64,
    /// Bytes that the backlog takes.
    pub heap_bytes: u64,
    /// The last frame that is in it.
    pub frame: u64,
}

/// See the module's head.
pub struct Replicas {
    desk: Mutex<Desk>,
    inbox: Mutex<Inbox>,
    has_news: AtomicBool,
    wants_acks: AtomicBool,
    is_still: AtomicBool,
    expected: Mutex<Option<Expected>>,
    /// What one of them is known to understand...
    known: Mutex<Option<Reader>>,
    /// ...until none of those of now is left.
    forgets: AtomicBool,
    history: Mutex<History>,
    rng: Mutex<Rng>,
    links: Mutex<Arc<[Arc<Link>]>>,
    stream: Mutex<Stream>,
    /// Bytes of memory that the backlog takes, for cores that weigh what is used in every turn.
    heap_bytes: AtomicU64,
    near: AtomicU64,
    /// Cores whose clients wait for acknowledgements.
    waiting: Box<[AtomicBool]>,
    /// For INFO.
    pub counters: Counters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replicas {
    /// None, of a node with so many cores; the history of its data has this name.
    pub fn new(cores: usize, id: String, seed: u64) -> Replicas {
        Replicas {
            desk: Mutex::default(),
            inbox: Mutex::default(),
            has_news: AtomicBool::new(false),
            wants_acks: AtomicBool::new(false),
            is_still: AtomicBool::new(false),
            expected: Mutex::default(),
            known: Mutex::default(),
            forgets: AtomicBool::new(false),
            history: Mutex::new(History::new(id)),
            rng: Mutex::new(Rng::new(seed)),
            links: Mutex::new(Arc::new([])),
            stream: Mutex::default(),
            heap_bytes: AtomicU64::new(0),
            near: AtomicU64::new(0),
            waiting: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            counters: Counters::default(),
        }
    }

    /// Which history the stream tells.
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }

    /// Another history begins; replicas stay (DEBUG CHANGE-REPL-ID).
    pub fn change_history(&self) {
        lock(&self.history).begin_anew(&mut lock(&self.rng));
    }

    /// The replicas, as of a moment ago.
    pub fn links(&self) -> Arc<[Arc<Link>]> {
        Arc::clone(&lock(&self.links))
    }

    /// How the stream is, as of a moment ago.
    pub fn stream(&self) -> Stream {
        *lock(&self.stream)
    }

    /// Bytes of memory that the backlog takes, as of a moment ago.
    #[inline]
    pub fn heap_bytes(&self) -> u64 {
        self.heap_bytes.load(Relaxed)
    }

    /// Replicas that follow the stream and have been heard of within `min-replicas-max-lag`.
    pub fn near(&self) -> u64 {
        self.near.load(Relaxed)
    }

    /// Bytes of the stream that the replica that is furthest behind has not acknowledged; 0 without one.
    pub fn lag_bytes(&self) -> u64 {
        let (links, end) = (self.links(), self.stream().end);
        let online = links.iter().filter(|link| link.state() == State::Online);
        let lags = online.map(|link| end.saturating_sub(link.acked()));
        lags.max().unwrap_or(0)
    }

    /// A connection asks to be a replica. What it is told comes by mail.
    pub fn ask(&self, log: &WriteLog, ask: Ask) {
        lock(&self.inbox).asks.push(ask);
        self.wake(log);
    }

    /// A snapshot for replicas has ended.
    pub fn copied(&self, log: &WriteLog, ended: Arc<Ended>) {
        lock(&self.inbox).copied = Some(ended);
        self.wake(log);
    }

    /// A snapshot for replicas that was claimed does not begin: the data are being replaced.
    pub fn not_copied(&self, log: &WriteLog) {
        let ended = Ended {
            number: 0,
            goal: Goal::Replica,
            done: Err("other data are being loaded".into()),
            copy: None,
        };
        self.copied(log, Arc::new(ended));
    }

    /// The data have become others without a record: replicas are to begin anew.
    pub fn break_history(&self, log: &WriteLog) {
        lock(&self.inbox).breaks = true;
        self.wake(log);
    }

    /// Something has changed that the thread is to look at.
    pub fn wake(&self, log: &WriteLog) {
        self.has_news.store(true, Release);
        log.wake_feed();
    }

    /// Whether there is something to look at.
    pub fn has_news(&self) -> bool {
        self.has_news.load(Acquire)
    }

    /// Sees to it that there is a stream soon, also without a replica: [`WriteLog::feeds`] tells. For a flip.
    pub fn turn_on(&self, node: &Node) {
        if !node.write_log.feeds() {
            let mail = Mail::Replica(Told::Feed(true));
            node.post(CoreId(0), mail, crate::aside::POST_TRIES);
        }
    }

    /// A replica is expected that has exactly this history up to `offset`: whoever asks and cannot go on with this node's own history
    /// is held, and told of, until [`Replicas::take_over`] or [`Replicas::refuse`].
    pub fn expect(&self, replid: &str, offset: u64) -> Receiver<Asked> {
        let (to, from) = channel();
        *lock(&self.expected) = Some(Expected {
            replid: replid.to_owned(),
            offset,
            to,
        });
        from
    }

    /// This node goes on from that history, of which it has everything up to `offset`: its own offset is that one from now on, and
    /// nobody may write before this has returned. Replicas it had are disconnected; who is held is judged by the new history.
    ///
    /// # Errors
    /// [`NoFeed`]; then nothing has changed.
    pub fn take_over(&self, log: &WriteLog, replid: &str, offset: u64) -> Result<(), NoFeed> {
        if !log.feeds() {
            return Err(NoFeed);
        }
        let mut desk = lock(&self.desk);
        lock(&self.history).go_on(replid, offset, &mut lock(&self.rng));
        desk.begin_at(log, offset);
        *lock(&self.expected) = None;
        lock(&self.inbox).judges = true;
        drop(desk);
        self.wake(log);
        Ok(())
    }

    /// One of the replicas, or one to come, is known to understand this: what is said from now on is said so. None: those to come understand what
    /// `rdb-version` says; those that are here have not been told all of that, and are told as before while one of them stays.
    pub fn tell_as(&self, reader: Option<Reader>) {
        if reader.is_some() {
            *lock(&self.known) = reader;
        }
        self.forgets.store(reader.is_none(), Release);
    }

    /// There is no replica: what was known of one is forgotten, if it is to be.
    fn forget_known(&self) {
        if self.forgets.swap(false, AcqRel) {
            *lock(&self.known) = None;
        }
    }

    /// What all replicas understand: no more than `rdb-version`, and than one is known to.
    pub fn reader(&self, config: &Config) -> Reader {
        let said = Reader::of_rdb(config.rdb_version);
        (*lock(&self.known)).map_or(said, |known| known.and(said))
    }

    /// Nobody is expected any more: who is held is disconnected. (Whoever asks from now on gets a full copy: so who must not have one is told to
    /// follow nobody before.)
    pub fn refuse(&self, log: &WriteLog) {
        *lock(&self.expected) = None;
        lock(&self.inbox).refuses = true;
        self.wake(log);
    }

    /// Nothing but changes of data goes into the stream from now on, or signs of life as well again. For a flip back: the
    /// offset stands still while nobody writes.
    pub fn keep_still(&self, still: bool) {
        self.is_still.store(still, Release);
    }

    /// The history and the offset of all that has been changed here, once all of it is in the stream.
    pub fn said_all(&self, log: &WriteLog) -> Option<(String, u64)> {
        let stream = self.stream();
        let all = stream.is_on && stream.frame == log.fed();
        all.then(|| (self.history().id, stream.end))
    }

    /// The same, once the replica of this client number has acknowledged all of it: it is
    /// what that replica has when it is made a primary. None before. Of use while nobody writes, see [`Replicas::keep_still`].
    pub fn handed_over(&self, log: &WriteLog, id: u64) -> Option<(String, u64)> {
        let links = self.links();
        let link = links.iter().find(|link| link.id == id)?;
        let said = self.said_all(log)?;
        (link.state() == State::Online && link.acked() == said.1).then_some(said)
    }

    /// Whether nobody needs a stream: no replica, and nobody that is expected.
    pub(crate) fn is_unused(&self) -> bool {
        let is_alone = self.links().is_empty() && lock(&self.inbox).asks.is_empty();
        is_alone && lock(&self.expected).is_none()
    }

    /// Replicas are to acknowledge what they have been told.
    pub fn want_acks(&self, log: &WriteLog) {
        self.wants_acks.store(true, Release);
        self.wake(log);
    }

    /// How many replicas have a frame, or have it on their disks. The core is told (`Mail::Logged`) when that may have changed.
    pub fn await_acks(&self, core: usize, frame: u64, on_disk: bool) -> u64 {
        if let Some(waiting) = self.waiting.get(core) {
            waiting.store(true, Relaxed);
            fence(SeqCst);
        }
        self.count_acks(frame, on_disk)
    }

    /// The same, without being told.
    pub fn count_acks(&self, frame: u64, on_disk: bool) -> u64 {
        let links = self.links();
        links.iter().filter(|link| link.has(frame, on_disk)).count() as u64
    }

    /// The cores that wait for acknowledgements; each is told once.
    fn waiting(&self) -> impl Iterator<Item = CoreId> {
        fence(SeqCst);
        let waits = self.waiting.iter().enumerate();
        let waits = waits.filter(|(_, waits)| waits.swap(false, AcqRel));
        waits.map(|(core, _)| CoreId(core as u16))
    }

    /// Does what is to be done; after how long there may be more, unless somebody wakes the thread. At `now_ms`, unix ms.
    pub fn step(&self, node: &Node, disk: &dyn Disk, now_ms: u64, post: Post<'_>) -> Duration {
        self.has_news.store(false, Release);
        let config = node.config();
        lock(&self.desk).step(&mut desk::Around {
            node,
            shared: self,
            config: &config,
            disk,
            now_ms,
            post,
        })
    }
}

#[cfg(test)]
mod tests;
