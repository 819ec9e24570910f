//! The log turned on and off while the server runs.
//!
//! ```text
//! CONFIG SET appendonly yes ─> the thread makes files that count for nothing yet ─> a rewrite is scheduled
//!                                its cut, with every slot in hand: every core records from that instant on (rewrite.rs of the node)
//!                                its end: the manifest names base and segments; the log that was there before is removed
//! CONFIG SET appendonly no  ─> with every slot in hand: no core records any more ─> the thread writes what is queued, and ends
//! BGREWRITEAOF without a log ─> as the first, but no core records: a base is left for the next start with a log
//! ```
//! What is turned on has a sequence that goes on from the log before: replies that wait for a position never meet a lower one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8};

use storage::log::FrameKind;

use super::manifest::Place;
use super::writer::Writer;
use super::{Desk, Gate, OFF, ON, WriteLog, lock};
use crate::control::disk::Disk;
use crate::control::vault::Vault;

const NOTHING: u8 = 0;
const OPEN: u8 = 1;
const CLOSE: u8 = 2;

/// What the log's thread is asked for, and how the files are.
#[derive(Default)]
pub(super) struct Switch {
    wish: AtomicU8,
    /// There are files to write to.
    pub(super) is_open: AtomicBool,
    /// They count for nothing before they have a base.
    waits_for_base: AtomicBool,
}

/// What the thread has done.
#[derive(Debug)]
pub enum Switched {
    /// There are files now, or they cannot be made.
    Opened(io::Result<()>),
    /// There are none any more; the last writes may not have reached the disk.
    Closed(io::Result<()>),
}

impl WriteLog {
    /// Whether there are files to write to; cores need not record yet, or any more.
    pub fn is_open(&self) -> bool {
        self.switch.is_open.load(Acquire)
    }

    /// Whether what is logged counts for nothing before its base has been written.
    pub fn waits_for_base(&self) -> bool {
        self.switch.waits_for_base.load(Acquire)
    }

    /// Notes how the files are.
    pub(super) fn note_files(&self, writer: Option<&Writer>) {
        let waits = writer.is_some_and(Writer::waits_for_base);
        self.switch.waits_for_base.store(waits, Release);
        self.switch.is_open.store(writer.is_some(), Release);
    }

    /// Asks the thread for files that count when they have a base.
    pub fn ask_open(&self) {
        self.ask(OPEN);
    }

    /// Asks the thread to write what is queued and to end the log.
    pub fn ask_close(&self) {
        self.ask(CLOSE);
    }

    fn ask(&self, wish: u8) {
        self.switch.wish.store(wish, Release);
        self.wake();
    }

    /// From this instant on cores record; every slot is in one hand.
    pub fn begin(&self) {
        // (FAILED cannot be: nothing has been written.)
        let _was_off = self.state.compare_exchange(OFF, ON, AcqRel, Acquire);
    }

    /// From this instant on no core records; every slot is in one hand, and all that was recorded is queued.
    pub fn stop(&self) {
        self.state.store(OFF, Release);
    }

    /// The gate of a core that does not record (any more).
    #[inline]
    pub fn gate_of_the_past(&self, core: usize) -> Gate {
        if self.switch.is_open.load(Relaxed) {
            self.gate(core)
        } else {
            Gate::Open
        }
    }

    /// Does what the thread was asked for, if anything; at `now_ms`, unix ms.
    pub fn step_switch(
        &self,
        (disk, vault): (&Arc<dyn Disk>, &Arc<Vault>),
        place: impl FnOnce() -> Place,
        now_ms: u64,
    ) -> Option<Switched> {
        match self.switch.wish.swap(NOTHING, AcqRel) {
            OPEN if !self.is_open() => {
                let last = self.queued();
                let made = Writer::found(
                    (Arc::clone(disk), Arc::clone(vault)),
                    place(),
                    (last, now_ms),
                );
                Some(Switched::Opened(made.map(|writer| self.open(writer))))
            }
            CLOSE if !self.is_on() && self.is_open() => Some(Switched::Closed(self.close(now_ms))),
            _ => None,
        }
    }

    /// Ends a log that no core records for any more.
    fn close(&self, now_ms: u64) -> io::Result<()> {
        self.is_busy.store(true, Release);
        let mut desk = lock(&self.desk);
        let done = self.end_files(&mut desk, now_ms);
        // If that has failed: it is not wanted any more, so nobody waits for a disk that works.
        desk.changes = 0;
        let last = {
            let mut queue = lock(&self.queue);
            queue.chunks.clear();
            queue.open = Vec::new();
            (queue.cut, queue.changes) = (None, 0);
            queue.next - 1
        };
        self.queued_changes.store(0, Relaxed);
        self.queued_bytes.store(0, Relaxed);
        self.written.store(last, Release);
        self.synced.store(last, Release);
        drop(desk);
        self.is_busy.store(false, Release);
        done
    }

    /// Writes and syncs everything, says that the log ends here, and leaves its files. One that never counted is removed.
    pub(super) fn end_files(&self, desk: &mut Desk, now_ms: u64) -> io::Result<()> {
        lock(&self.queue).cut = None;
        self.note_files(None);
        if desk.writer.as_ref().is_some_and(Writer::waits_for_base) {
            if let Some(writer) = desk.writer.take() {
                writer.abandon();
            }
            return Ok(());
        }
        self.write(desk);
        let done = self.write_through(desk).and_then(|()| {
            self.push(FrameKind::End, 0, now_ms, b"");
            self.write(desk);
            self.write_through(desk)
        });
        desk.writer = None;
        done
    }

    fn write_through(&self, desk: &mut Desk) -> io::Result<()> {
        if let Some(writer) = desk.writer.as_mut() {
            writer.write_through()?;
            let (written, synced) = writer.positions();
            self.written.store(written, Release);
            self.synced.fetch_max(synced, AcqRel);
        }
        Ok(())
    }
}
