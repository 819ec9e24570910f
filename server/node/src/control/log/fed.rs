//! Frames for replicas: each is also put here, under the lock that gives frames their order, whether there are files of the log or not.
//!
//! ```text
//! push ──┬──> queue of the log (if writes are logged) ──> files
//!        └──> Fed (while there is a feed)             ──> the thread of `replicas/`, which says it
//! ```
//! Frames have a number of their own here: those of the log stand still while nothing is logged. A *cut* is the place among the
//! frames at which a snapshot for replicas was taken.
//!
//! Writers never wait for replicas: what outgrows [`FED_BYTES_MAX`] is dropped, and whoever takes it is told that there is a gap.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::sync::{MutexGuard, OnceLock};
use std::thread::Thread;

use storage::log::FrameKind;

use super::{Queue, WriteLog, lock};

/// Bytes of frames that wait to be said. (One frame of any size always has room.)
pub const FED_BYTES_MAX: usize = 64 << 20;
/// Memory of what has been taken that is kept for the next, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// What was put here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame, of so many bytes.
    Frame(FrameKind, usize),
    /// The cut of the snapshot with this number.
    Cut(u32),
}

/// What is taken at once.
#[derive(Debug, Default)]
pub struct Fed {
    /// In their order.
    pub items: Vec<Item>,
    /// The frames' payloads, one behind the other.
    pub bytes: Vec<u8>,
    /// The number of the last frame.
    pub last: u64,
    /// Frames are missing: before all of these.
    pub has_gap: bool,
}

/// The part that is behind the lock of the log's queue.
#[derive(Debug, Default)]
pub(super) struct Feed {
    is_on: bool,
    fed: Fed,
}

/// The part that is not.
#[derive(Debug, Default)]
pub(super) struct FeedState {
    is_on: AtomicBool,
    /// The number of the last frame.
    last: AtomicU64,
    /// The thread sleeps, or is about to.
    sleeps: AtomicBool,
    thread: OnceLock<Thread>,
}

impl WriteLog {
    /// Whether frames are kept for replicas.
    #[inline]
    pub fn feeds(&self) -> bool {
        self.feed.is_on.load(Acquire)
    }

    /// Whether anybody wants frames.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.is_on() || self.feeds()
    }

    /// From this instant on frames are kept for replicas; every slot is in one hand, and all that was recorded is queued.
    pub fn begin_feed(&self) {
        let mut queue = lock(&self.queue);
        queue.feed.is_on = true;
        // What was done before this instant has not been told to anybody.
        queue.feed.fed.has_gap = true;
        self.feed.is_on.store(true, Release);
        drop(queue);
        self.wake_feed();
    }

    /// From this instant on they are not; every slot is in one hand. What waits is dropped.
    pub fn stop_feed(&self) {
        let mut queue = lock(&self.queue);
        let last = queue.feed.fed.last;
        queue.feed = Feed::default();
        queue.feed.fed.last = last;
        self.feed.is_on.store(false, Release);
    }

    /// Notes the cut of a snapshot; every slot is in one hand, and all that was recorded is queued.
    pub fn mark_cut(&self, number: u32) {
        lock(&self.queue).feed.fed.items.push(Item::Cut(number));
        self.wake_feed();
    }

    /// The number of the last frame.
    pub fn fed(&self) -> u64 {
        self.feed.last.load(Acquire)
    }

    /// The thread that takes frames; the first call wins.
    pub fn set_feed_thread(&self, thread: Thread) {
        let _first = self.feed.thread.set(thread);
    }

    /// Takes what is there into `fed`, whose memory is used again.
    pub fn take_fed(&self, fed: &mut Fed) {
        fed.items.clear();
        fed.bytes.clear();
        fed.bytes.shrink_to(SPARE_BYTES_MAX);
        fed.has_gap = false;
        let mut queue = lock(&self.queue);
        fed.last = queue.feed.fed.last;
        core::mem::swap(&mut queue.feed.fed, fed);
    }

    /// The thread is about to sleep; false if there is something to be taken.
    pub fn may_sleep_fed(&self) -> bool {
        self.feed.sleeps.store(true, Relaxed);
        fence(SeqCst);
        let queue = lock(&self.queue);
        let is_empty = queue.feed.fed.items.is_empty() && !queue.feed.fed.has_gap;
        drop(queue);
        if !is_empty {
            self.feed.sleeps.store(false, Relaxed);
        }
        is_empty
    }

    /// The thread looks, if it sleeps.
    pub fn wake_feed(&self) {
        fence(SeqCst);
        if self.feed.sleeps.load(Relaxed)
            && self.feed.sleeps.swap(false, AcqRel)
            && let Some(thread) = self.feed.thread.get()
        {
            thread.unpark();
        }
    }

    /// Keeps a frame for replicas, if there is a feed; whether there is.
    pub(super) fn feed(
        &self,
        queue: &mut MutexGuard<'_, Queue>,
        kind: FrameKind,
        payload: &[u8],
    ) -> bool {
        if !queue.feed.is_on || kind == FrameKind::End {
            return false;
        }
        let fed = &mut queue.feed.fed;
        fed.last += 1;
        self.feed.last.store(fed.last, Release);
        if !fed.bytes.is_empty() && fed.bytes.len() + payload.len() > FED_BYTES_MAX {
            // Cuts that waited are of no use either: what follows them is not whole.
            fed.items.clear();
            fed.bytes = Vec::new();
            fed.has_gap = true;
        }
        fed.items.push(Item::Frame(kind, payload.len()));
        fed.bytes.extend_from_slice(payload);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> WriteLog {
        WriteLog::new(1, || 0)
    }

    fn push(log: &WriteLog, payload: &[u8]) {
        log.push(FrameKind::Effects, 0, 1, payload);
    }

    #[test]
    fn frames_are_kept_while_there_is_a_feed_and_nobody_waits_for_files() {
        let (log, mut fed) = (log(), Fed::default());
        push(&log, b"before");
        assert!(!log.is_wanted() && log.may_sleep_fed());
        log.begin_feed();
        assert!(log.is_wanted() && !log.is_on());
        push(&log, b"one");
        log.mark_cut(7);
        push(&log, b"");
        log.push(FrameKind::Libraries, 0, 1, b"lib");
        assert!(!log.may_sleep_fed());
        log.take_fed(&mut fed);
        let expected = [
            Item::Frame(FrameKind::Effects, 3),
            Item::Cut(7),
            Item::Frame(FrameKind::Effects, 0),
            Item::Frame(FrameKind::Libraries, 3),
        ];
        assert_eq!(
            (&fed.items[..], &fed.bytes[..]),
            (&expected[..], &b"onelib"[..])
        );
        assert_eq!((fed.last, log.fed(), fed.has_gap), (3, 3, true));
        assert_eq!(
            log.gate(0),
            super::super::Gate::Open,
            "no file is waited for"
        );
        assert_eq!((log.queued(), log.queued_bytes()), (0, 0));
        log.take_fed(&mut fed);
        assert!(fed.items.is_empty() && !fed.has_gap);
        push(&log, b"more");
        log.stop_feed();
        push(&log, b"after");
        log.take_fed(&mut fed);
        assert_eq!((fed.items.len(), fed.last), (0, 4));
    }

    #[test]
    fn what_outgrows_its_bound_is_a_gap() {
        let (log, mut fed) = (log(), Fed::default());
        log.begin_feed();
        log.take_fed(&mut fed);
        let large = vec![0; FED_BYTES_MAX + 1];
        push(&log, &large);
        log.take_fed(&mut fed);
        assert_eq!(
            (fed.bytes.len(), fed.has_gap),
            (large.len(), false),
            "one frame"
        );
        push(&log, b"x");
        log.mark_cut(1);
        push(&log, &large);
        log.take_fed(&mut fed);
        assert_eq!((fed.items.len(), fed.last, fed.has_gap), (1, 3, true));
        push(&log, b"y");
        log.take_fed(&mut fed);
        assert_eq!((&fed.bytes[..], fed.has_gap), (&b"y"[..], false));
    }
}
