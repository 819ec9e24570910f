//! The log of writes: one for all cores.
//!
//! ```text
//! end of a core's turn ── push ──> queue (frames in one order) ──> Writer ──> segment        writer.rs, manifest.rs
//!                                                                    ▲
//! everysec, no:  the core itself writes what is queued; the thread syncs once a second       thread.rs
//! always:        the thread writes and syncs, and wakes the cores whose replies wait
//! ```
//! **Positions.** Every frame has a sequence. `queued`, `written` and `synced` say how far the log has come; the replies of a turn
//! may leave when all that was queued at its end (by whatever core: it may have shown in what the turn answers) is *written* with
//! `everysec` and `no`, so that the end of the process loses nothing, or *synced* with `always`.
//!
//! **Who writes.** With `everysec` and `no` the core writes at the end of its turn: one system call that copies into the kernel's
//! memory, where handing the frame to a thread and being woken by it would cost three. While the writer is busy with more than
//! that (another segment, a disk that fails, a sync that takes long) the frame stays in the queue, the replies behind the
//! gate, and the core goes on.
//!
//! **Gathering.** With `always` the clients of a sync that has ended write again at once, those whose writes came during that sync wait
//! for the next: two crowds that never meet, and twice the syncs. So the next sync waits until as many writes are there as
//! both crowds had, for the time of three syncs at most, and they are one crowd from then on.
//!
//! **Replicas** get every frame as well (`fed.rs`), whether there are files or not; an old Redis that is written to gets what is on the disk
//! (`follow.rs`).
//!
//! **Rewriting** is a snapshot whose cut is a position of the log (`base.rs`; when: `rewrite.rs`). **Turned on or off** while the
//! server runs: `switch.rs`.
//!
//! **A disk that fails.** Frames stay in memory, writes are refused (MISCONF), reads are answered, and the writer tries again until
//! it succeeds. A core holds its writes back, too, while more than [`QUEUE_BYTES_MAX`] wait.
//!
//! Nothing here needs the thread: [`WriteLog::step`] is all that it calls.

pub mod base;
pub mod fed;
pub mod follow;
pub mod import;
pub mod manifest;
pub mod recover;
pub mod replay;
pub mod rewrite;
pub mod sealing;
pub mod switch;
pub mod thread;
pub mod writer;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use storage::log::{FRAME_HEAD_BYTES, FrameHead, FrameKind, payload_sum};

use crate::config::AppendFsync;
use switch::Switch;
use writer::{Chunk, Writer};

/// Bytes that wait for the disk before cores hold writes back.
pub const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are kept for a sync before it is begun early.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// A frame with a larger payload is a chunk of its own, bytes.
const COPIED_BYTES_MAX: usize = 64 << 10;
/// A segment with more bytes than this is followed by another one.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// How often `everysec` syncs, how long a sync may take before it holds writes back, and how often a disk that fails is tried
/// again, us.
const EVERYSEC_US: u64 = 1_000_000;
const SLOW_SYNC_US: u64 = 2_000_000;
const RETRY_US: u64 = 100_000;
/// How long a new segment that cannot be begun is not tried again, us.
const TURN_OVER_RETRY_US: u64 = 1_000_000;
/// How long `always` gathers writes for a sync at most, us: three times as long as one takes, within these bounds. (Fifty clients of one thread need
/// longer to send again than a fast disk to sync.)
const GATHER_US_MIN: u64 = 400;
const GATHER_US_MAX: u64 = 2_000;

/// How the log is.
const OFF: u8 = 0;
const ON: u8 = 1;
const FAILED: u8 = 2;

/// Something that an operator may want to know.
pub enum Heard<'a> {
    /// The disk has failed; told once until it works again.
    Failed(&'a io::Error),
    /// It works again.
    Recovered,
    /// A sync takes so long that writes are held back.
    SlowSync,
    /// How long something took, us, by its name in LATENCY.
    Took(&'static str, u64),
}

/// Whoever is told.
pub type Hears = Box<dyn Fn(Heard<'_>) + Send + Sync>;

/// Frames on their way to the writer.
struct Queue {
    next: u64,
    /// The time of the last frame, unix ms.
    time_ms: u64,
    /// Changes in what is queued.
    changes: u64,
    /// Whole chunks, each before `open`.
    chunks: Vec<Chunk>,
    open: Vec<u8>,
    /// What is queued behind this sequence goes to another segment: see `base.rs`.
    cut: Option<u64>,
    /// What replicas are to be told.
    feed: fed::Feed,
}

impl Queue {
    /// What is open, up to the frame `last`, is a chunk of its own.
    fn close(&mut self, last: u64) {
        let open = core::mem::take(&mut self.open);
        if !open.is_empty() {
            self.chunks.push(Chunk { bytes: open, last });
        }
    }
}

/// The writer, and what goes with it.
struct Desk {
    writer: Option<Writer>,
    last_sync_us: u64,
    retry_us: u64,
    /// Changes that have been written since the last sync.
    changes: u64,
    /// A new segment is tried at this time at the earliest, us.
    turns_over_us: u64,
    /// One that was asked for could not be begun.
    owes_segment: bool,
}

/// See the module's head.
pub struct WriteLog {
    clock: fn() -> u64,
    state: AtomicU8,
    policy: AtomicU8,
    queued: AtomicU64,
    queued_bytes: AtomicU64,
    /// Changes that wait to be written; how many `always` gathers, and until when, us.
    queued_changes: AtomicU64,
    gathers: AtomicU64,
    gathers_until_us: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    /// As of which positions cores have been woken.
    told_written: AtomicU64,
    told_synced: AtomicU64,
    queue: Mutex<Queue>,
    desk: Mutex<Desk>,
    /// The desk is taken for longer than a write.
    is_busy: AtomicBool,
    /// When the sync that is under way began, us; 0 for none.
    sync_since_us: AtomicU64,
    /// Cores whose replies wait.
    waiting: Box<[AtomicBool]>,
    switch: Switch,
    feed: fed::FeedState,
    /// Frames from this sequence on stay in the files, whatever base there is: the least of what `readers` have not read.
    held_from: AtomicU64,
    readers: Mutex<BTreeMap<u16, u64>>,
    /// A sync is wanted sooner than the policy has it.
    wants_sync: AtomicBool,
    thread: OnceLock<Thread>,
    hears: OnceLock<Hears>,
    /// For INFO.
    pub counters: Counters,
}

/// What INFO tells.
#[derive(Default)]
pub struct Counters {
    /// Syncs, by whatever policy.
    pub syncs: AtomicU64,
    /// Syncs that took so long that writes were held back.
    pub delayed: AtomicU64,
    /// Bytes of all of the log, base included.
    pub bytes: AtomicU64,
    /// What `bytes` was after the last rewrite; after a start, the bytes of the base.
    pub base_bytes: AtomicU64,
    /// The system's number of the last failure, and what it was in.
    pub errno: AtomicI32,
}

/// Whether the replies of a turn may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "replies wait for the gate"]
pub enum Gate {
    /// At once.
    Open,
    /// When the log has come so far.
    Until(u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WriteLog {
    /// A log that is off, for so many cores; `clock` tells monotonic us.
    pub fn new(cores: usize, clock: fn() -> u64) -> WriteLog {
        WriteLog {
            clock,
            state: AtomicU8::new(OFF),
            policy: AtomicU8::new(0),
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            queued_changes: AtomicU64::new(0),
            gathers: AtomicU64::new(0),
            gathers_until_us: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            told_written: AtomicU64::new(0),
            told_synced: AtomicU64::new(0),
            queue: Mutex::new(Queue {
                next: 1,
                time_ms: 0,
                changes: 0,
                chunks: Vec::new(),
                open: Vec::new(),
                cut: None,
                feed: fed::Feed::default(),
            }),
            desk: Mutex::new(Desk {
                writer: None,
                last_sync_us: 0,
                retry_us: 0,
                changes: 0,
                turns_over_us: 0,
                owes_segment: false,
            }),
            is_busy: AtomicBool::new(false),
            sync_since_us: AtomicU64::new(0),
            waiting: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            switch: Switch::default(),
            feed: fed::FeedState::default(),
            held_from: AtomicU64::new(u64::MAX),
            readers: Mutex::default(),
            wants_sync: AtomicBool::new(false),
            thread: OnceLock::new(),
            hears: OnceLock::new(),
            counters: Counters::default(),
        }
    }

    /// Who is told of what happens; the first call wins.
    pub fn set_hears(&self, hears: Hears) {
        let _first = self.hears.set(hears);
    }

    /// Goes on with this writer. Nothing may be queued before.
    pub fn turn_on(&self, writer: Writer) {
        self.open(writer);
        self.state.store(ON, Release);
    }

    /// What is logged from now on is written by this writer; nothing is, yet.
    fn open(&self, writer: Writer) {
        let (written, synced) = writer.positions();
        {
            let mut queue = lock(&self.queue);
            (queue.next, queue.cut) = (written + 1, None);
        }
        self.queued.store(written, Release);
        self.written.store(written, Release);
        self.synced.store(synced, Release);
        self.counters.base_bytes.store(writer.sizes().2, Relaxed);
        let mut desk = lock(&self.desk);
        desk.owes_segment = false;
        self.note_sizes(&writer);
        self.note_files(Some(&writer));
        desk.writer = Some(writer);
    }

    /// Whether writes are logged.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.state.load(Acquire) != OFF
    }

    /// Whether the disk fails: writes are to be refused.
    #[inline]
    pub fn is_failed(&self) -> bool {
        self.state.load(Acquire) == FAILED
    }

    /// When frames are synced, from now on.
    pub fn set_policy(&self, policy: AppendFsync) {
        let number = match policy {
            AppendFsync::No => 0,
            AppendFsync::EverySecond => 1,
            AppendFsync::Always => 2,
        };
        self.policy.store(number, Release);
        self.wake();
    }

    /// The thread that drives it; the first call wins.
    pub fn set_thread(&self, thread: Thread) {
        let _first = self.thread.set(thread);
    }

    fn policy(&self) -> AppendFsync {
        match self.policy.load(Acquire) {
            0 => AppendFsync::No,
            1 => AppendFsync::EverySecond,
            _ => AppendFsync::Always,
        }
    }

    /// The last sequence that has been queued.
    #[inline]
    pub fn queued(&self) -> u64 {
        self.queued.load(Acquire)
    }

    /// The last sequence that outlives a crash of the machine.
    #[inline]
    pub fn synced(&self) -> u64 {
        self.synced.load(Acquire)
    }

    /// Up to which sequence replies may leave.
    #[inline]
    pub fn released(&self) -> u64 {
        match self.policy() {
            AppendFsync::Always => self.synced(),
            _ => self.written.load(Acquire),
        }
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Relaxed)
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.sync_since_us.load(Relaxed) != 0
    }

    /// Whether so much waits for the disk that no more should be added to it.
    #[inline]
    pub fn is_choked(&self) -> bool {
        self.queued_bytes.load(Relaxed) > QUEUE_BYTES_MAX
    }

    /// Queues a frame; its sequence in the log.
    pub fn push(&self, kind: FrameKind, core: u16, now_ms: u64, payload: &[u8]) -> u64 {
        self.push_changes(kind, (core, now_ms), payload, 1)
    }

    /// As `push`, of a frame with so many changes.
    pub fn push_changes(
        &self,
        kind: FrameKind,
        (core, now_ms): (u16, u64),
        payload: &[u8],
        changes: u64,
    ) -> u64 {
        // (The log ends with a frame of its own, when no core records for it any more.)
        if !self.is_on() && kind != FrameKind::End {
            let mut queue = lock(&self.queue);
            let is_fed = self.feed(&mut queue, kind, payload);
            let last = queue.next - 1;
            drop(queue);
            if is_fed {
                self.wake_feed();
            }
            return last;
        }
        let head = FrameHead {
            len: payload.len() as u64,
            sequence: 0,
            synced: self.synced(),
            time_ms: now_ms,
            core,
            kind,
            payload_sum: payload_sum(payload),
        };
        let bytes = FRAME_HEAD_BYTES + payload.len();
        let mut own = Vec::new();
        if payload.len() > COPIED_BYTES_MAX {
            own.reserve_exact(bytes);
            own.extend_from_slice(&head.encode());
            own.extend_from_slice(payload);
        }
        let mut queue = lock(&self.queue);
        let is_fed = self.feed(&mut queue, kind, payload);
        let sequence = queue.next;
        queue.next += 1;
        queue.time_ms = now_ms;
        queue.changes += changes;
        self.queued_changes.store(queue.changes, Relaxed);
        let head = FrameHead { sequence, ..head }.encode();
        if own.is_empty() {
            queue.open.extend_from_slice(&head);
            queue.open.extend_from_slice(payload);
        } else {
            queue.close(sequence - 1);
            own[..FRAME_HEAD_BYTES].copy_from_slice(&head);
            queue.chunks.push(Chunk {
                bytes: own,
                last: sequence,
            });
        }
        self.queued_bytes.fetch_add(bytes as u64, Relaxed);
        self.queued.store(sequence, Release);
        drop(queue);
        if is_fed {
            self.wake_feed();
        }
        sequence
    }

    /// The end of a core's turn, all of whose frames have been queued: whether its replies may leave.
    #[inline]
    pub fn gate(&self, core: usize) -> Gate {
        let queued = self.queued();
        if queued <= self.released() {
            return Gate::Open;
        }
        self.gate_slowly(core, queued)
    }

    #[inline(never)]
    fn gate_slowly(&self, core: usize, queued: u64) -> Gate {
        if self.policy() != AppendFsync::Always && self.may_write_here() {
            let mut desk = lock(&self.desk);
            self.write(&mut desk);
            let writer = desk.writer.as_ref();
            if writer.is_some_and(|writer| writer.kept_bytes() > KEPT_BYTES_MAX) {
                self.wake();
            }
        }
        if queued <= self.released() {
            return Gate::Open;
        }
        if let Some(waiting) = self.waiting.get(core) {
            waiting.store(true, Relaxed);
            fence(SeqCst);
        }
        if queued <= self.released() {
            return Gate::Open;
        }
        if self.policy() != AppendFsync::Always || self.has_gathered() {
            self.wake();
        }
        Gate::Until(queued)
    }

    /// How far the log has been synced; the core is woken when that may have changed.
    pub fn await_sync(&self, core: usize) -> u64 {
        if let Some(waiting) = self.waiting.get(core) {
            waiting.store(true, Relaxed);
            fence(SeqCst);
        }
        self.synced()
    }

    /// How many more writes the next sync gathers, and how long it waits for them at most; none while one is under way, or when nothing
    /// is gathered.
    pub fn lacks(&self) -> Option<(u64, Duration)> {
        if self.policy() != AppendFsync::Always || self.is_syncing() {
            return None;
        }
        let lacking = self
            .gathers
            .load(Relaxed)
            .saturating_sub(self.queued_changes.load(Relaxed));
        let left_us = self
            .gathers_until_us
            .load(Relaxed)
            .saturating_sub((self.clock)());
        (lacking > 0 && left_us > 0).then(|| (lacking, Duration::from_micros(left_us)))
    }

    /// Whether as many writes are there as a sync waits for, or its time to wait is over.
    fn has_gathered(&self) -> bool {
        self.queued_changes.load(Relaxed) >= self.gathers.load(Relaxed)
            || (self.clock)() >= self.gathers_until_us.load(Relaxed)
    }

    /// Whether a core may write: nothing is under way that would keep it for long.
    fn may_write_here(&self) -> bool {
        let since_us = self.sync_since_us.load(Relaxed);
        let is_slow = since_us != 0 && (self.clock)().saturating_sub(since_us) > SLOW_SYNC_US;
        !is_slow && !self.is_busy.load(Acquire) && !self.is_failed()
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn tell(&self, heard: Heard<'_>) {
        if let Some(hears) = self.hears.get() {
            hears(heard);
        }
    }

    fn note_sizes(&self, writer: &Writer) {
        self.counters.bytes.store(writer.sizes().1, Relaxed);
    }

    /// Writes what is queued; whether that went well.
    fn write(&self, desk: &mut Desk) -> bool {
        let Some(writer) = desk.writer.as_mut() else {
            return false;
        };
        let policy = self.policy();
        writer.keep(policy != AppendFsync::No);
        writer.make_room(policy == AppendFsync::Always);
        {
            let spare = writer.spare();
            let mut queue = lock(&self.queue);
            let (last, cut) = (queue.next - 1, queue.cut);
            let is_before = |chunk: &Chunk| cut.is_none_or(|cut| chunk.last <= cut);
            let count = queue
                .chunks
                .iter()
                .take_while(|chunk| is_before(chunk))
                .count();
            queue
                .chunks
                .drain(..count)
                .for_each(|chunk| writer.take(chunk));
            if queue.chunks.is_empty() && cut.is_none_or(|cut| last <= cut) {
                let open = core::mem::replace(&mut queue.open, spare);
                if !open.is_empty() {
                    writer.take(Chunk { bytes: open, last });
                }
            }
            writer.set_time(queue.time_ms);
            desk.changes += core::mem::take(&mut queue.changes);
            self.queued_changes.store(0, Relaxed);
        }
        let begin_us = (self.clock)();
        let (before, _) = writer.positions();
        let done = writer.write();
        let (written, synced) = writer.positions();
        if written > before {
            self.tell(Heard::Took("aof-write", (self.clock)() - begin_us));
            self.note_sizes(writer);
        }
        self.written.store(written, Release);
        self.synced.fetch_max(synced, AcqRel);
        self.note_queued(writer);
        if done.is_err() {
            self.judge(desk, &done);
        }
        done.is_ok()
    }

    /// Bytes that wait are those of the queue and of the writer.
    fn note_queued(&self, writer: &Writer) {
        let queue = lock(&self.queue);
        let chunks: usize = queue.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let waits = chunks + queue.open.len() + writer.pending_bytes();
        self.queued_bytes.store(waits as u64, Relaxed);
    }

    /// Notes whether the disk works.
    fn judge(&self, desk: &mut Desk, done: &io::Result<()>) {
        match done {
            Ok(()) => {
                let failed = self
                    .state
                    .compare_exchange(FAILED, ON, AcqRel, Acquire)
                    .is_ok();
                if failed {
                    self.tell(Heard::Recovered);
                }
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(EIO);
                self.counters.errno.store(errno, Relaxed);
                desk.retry_us = (self.clock)() + RETRY_US;
                let was = self.state.compare_exchange(ON, FAILED, AcqRel, Acquire);
                if was.is_ok() {
                    self.tell(Heard::Failed(error));
                }
            }
        }
    }

    /// Does what is to be done now; says after how long there may be more, unless somebody queues before. The cores
    /// that wait for it are told by [`WriteLog::woken`].
    pub fn step(&self) -> Duration {
        let now_us = (self.clock)();
        let policy = self.policy();
        let mut desk = lock(&self.desk);
        if desk.writer.is_none() {
            return Duration::from_secs(1);
        }
        if self.is_failed() {
            if now_us < desk.retry_us {
                return Duration::from_micros(desk.retry_us - now_us);
            }
            self.is_busy.store(true, Release);
            self.retry(&mut desk);
            self.is_busy.store(false, Release);
            return Duration::from_micros(RETRY_US);
        }
        let has_queued = self.queued() > self.written.load(Acquire);
        if policy == AppendFsync::Always && !self.has_gathered() {
            let until_us = self.gathers_until_us.load(Relaxed);
            return Duration::from_micros(until_us.saturating_sub(now_us).max(1));
        }
        if has_queued && !self.write(&mut desk) {
            return Duration::from_micros(RETRY_US);
        }
        let Some(writer) = desk.writer.as_ref() else {
            return Duration::from_secs(1);
        };
        let is_wanted = writer.is_unsynced() && self.wants_sync.swap(false, AcqRel);
        let due_us = match policy {
            _ if is_wanted => 0,
            AppendFsync::Always => 0,
            AppendFsync::EverySecond if writer.kept_bytes() > KEPT_BYTES_MAX => 0,
            AppendFsync::EverySecond => desk.last_sync_us + EVERYSEC_US,
            AppendFsync::No => u64::MAX,
        };
        if writer.is_unsynced() && now_us >= due_us {
            desk.last_sync_us = now_us;
            desk = self.sync(desk, policy);
        }
        self.turn_over(&mut desk);
        let Some(writer) = desk.writer.as_ref() else {
            return Duration::from_secs(1);
        };
        if self.queued() > writer.positions().0 {
            return Duration::ZERO;
        }
        match policy {
            AppendFsync::EverySecond if writer.is_unsynced() => {
                Duration::from_micros((desk.last_sync_us + EVERYSEC_US).saturating_sub(now_us))
            }
            _ => Duration::from_secs(1),
        }
    }

    /// Syncs; the desk is free meanwhile.
    fn sync<'d>(
        &'d self,
        mut desk: MutexGuard<'d, Desk>,
        policy: AppendFsync,
    ) -> MutexGuard<'d, Desk> {
        let Some(mut job) = desk.writer.as_mut().and_then(Writer::begin_sync) else {
            return desk;
        };
        drop(desk);
        let begin_us = (self.clock)().max(1);
        self.sync_since_us.store(begin_us, Relaxed);
        let done = job.run();
        self.sync_since_us.store(0, Relaxed);
        self.counters.syncs.fetch_add(1, Relaxed);
        let took_us = (self.clock)() - begin_us;
        if policy == AppendFsync::Always {
            self.tell(Heard::Took("aof-fsync-always", took_us));
            let gathers_us = (3 * took_us).clamp(GATHER_US_MIN, GATHER_US_MAX);
            let until_us = begin_us + took_us + gathers_us;
            self.gathers_until_us.store(until_us, Relaxed);
        } else if took_us > SLOW_SYNC_US {
            self.counters.delayed.fetch_add(1, Relaxed);
            self.tell(Heard::SlowSync);
        }
        let mut desk = lock(&self.desk);
        if let Some(writer) = desk.writer.as_mut() {
            writer.end_sync(job, &done);
            self.synced.fetch_max(writer.positions().1, AcqRel);
        }
        let changes = core::mem::take(&mut desk.changes) + self.queued_changes.load(Relaxed);
        self.gathers.store(changes, Relaxed);
        if done.is_err() {
            self.judge(&mut desk, &done);
        }
        desk
    }

    /// Tries a disk that has failed again: everything is written and synced, or it goes on failing.
    fn retry(&self, desk: &mut Desk) {
        if !self.write(desk) {
            return;
        }
        let Some(writer) = desk.writer.as_mut() else {
            return;
        };
        let done = writer.write_through();
        let (written, synced) = writer.positions();
        self.written.store(written, Release);
        self.synced.fetch_max(synced, AcqRel);
        self.counters.syncs.fetch_add(1, Relaxed);
        self.judge(desk, &done);
    }

    /// The cores that have waited, if what they wait for may be there: to be woken. Each is told once.
    pub fn woken(&self) -> impl Iterator<Item = usize> {
        let written = self.written.load(Acquire);
        let synced = self.synced.load(Acquire);
        // (Both, always: who was told of one is to be told of the other.)
        let told = [
            self.told_written.swap(written, Relaxed),
            self.told_synced.swap(synced, Relaxed),
        ];
        let is_news = told != [written, synced];
        fence(SeqCst);
        let waiting = self.waiting.iter().enumerate().filter(move |_| is_news);
        waiting.filter_map(|(core, waits)| {
            let waits = waits.load(Relaxed) && waits.swap(false, AcqRel);
            waits.then_some(core)
        })
    }

    /// The end: everything is written and synced, and the log says that it ends here.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(&self, now_ms: u64) -> io::Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        let mut desk = lock(&self.desk);
        self.end_files(&mut desk, now_ms)?;
        self.state.store(OFF, Release);
        Ok(())
    }

    /// The text of MISCONF: what the last failure was.
    pub fn failure(&self) -> String {
        let errno = self.counters.errno.load(Relaxed);
        crate::config::os_text(&io::Error::from_raw_os_error(errno))
    }
}

/// Linux's errno for a disk that fails for no better reason.
const EIO: i32 = 5;

#[cfg(test)]
mod rewritten;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod sealed_served;
#[cfg(test)]
mod served;
#[cfg(test)]
pub(crate) mod tests;
