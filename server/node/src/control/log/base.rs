//! The log's base: the cut that a rewrite begins with, the segment that follows it, and the snapshot that takes the place of all
//! before.
//!
//! ```text
//! frames   … 41 42 | 43 44 …        cut(): every core has queued what it had recorded; 42 is the last frame that the base covers
//! segments [ …  42 ] [ 43 44 …      the writer stops behind 42 until the thread has begun another segment
//! base     (… 42)    [ 43 44 …      set_base(): the manifest names the snapshot and the segments from 43 on; the rest is removed
//! ```
//! A core never waits for the new segment: what is queued meanwhile stays in the queue, the replies behind the gate. If the disk
//! has no room for another segment the old one goes on, and stays beside the base until the next rewrite; another segment is
//! tried again every second, since keys may have changed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::rewrite::Sizes;
use super::{Desk, SEGMENT_BYTES_MAX, TURN_OVER_RETRY_US, WriteLog, lock};
use crate::control::disk::Disk;
use crate::control::log::manifest::Place;

impl WriteLog {
    /// The instant of a rewrite, at which all that was recorded is queued: the last sequence. What follows it goes to another
    /// segment.
    pub fn cut(&self) -> u64 {
        let last = {
            let mut queue = lock(&self.queue);
            let last = queue.next - 1;
            queue.close(last);
            queue.cut = Some(last);
            last
        };
        self.wake();
        last
    }

    /// Another segment is begun soon, with the keys that are in force now. (So does a rewrite that waits for its own.)
    pub fn turn_over_soon(&self) {
        let is_asked = lock(&self.queue).cut.is_some();
        if !is_asked {
            self.cut();
        }
    }

    /// Whether the writer has come to the cut.
    fn is_at_cut(&self, desk: &Desk) -> bool {
        let written = desk.writer.as_ref().map(|writer| writer.positions().0);
        written.is_some_and(|written| lock(&self.queue).cut.is_some_and(|cut| cut <= written))
    }

    /// The cut is behind the writer. Forgotten before the segment is made and not after: whoever asks for one while it is made
    /// (with other keys, for a rewrite) gets another one.
    fn pass_cut(&self, written: u64) {
        let mut queue = lock(&self.queue);
        queue.cut = queue.cut.filter(|cut| *cut > written);
    }

    /// Begins another segment, if the writer has come to a cut, or the present one is long or should not be in use any more.
    pub(super) fn turn_over(&self, desk: &mut Desk) {
        let is_cut = self.is_at_cut(desk);
        let Some(writer) = desk.writer.as_mut() else {
            return;
        };
        let now_us = (self.clock)();
        let is_due = desk.owes_segment || writer.sizes().0 >= SEGMENT_BYTES_MAX;
        let is_long = is_due && now_us >= desk.turns_over_us;
        if !is_cut && !is_long {
            return;
        }
        self.is_busy.store(true, Release);
        let done = writer.write_through();
        if done.is_ok() {
            self.pass_cut(writer.positions().0);
            // (Where one cannot be begun the present one goes on.)
            let fails = writer.new_segment().is_err();
            if fails {
                desk.turns_over_us = now_us + TURN_OVER_RETRY_US;
            }
            desk.owes_segment = fails;
        }
        let (written, synced) = writer.positions();
        self.written.store(written, Release);
        self.synced.fetch_max(synced, AcqRel);
        self.note_sizes(writer);
        self.is_busy.store(false, Release);
        if done.is_err() {
            self.judge(desk, &done);
        }
    }

    /// All of Redis's log is in this one: from here on it counts.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end_import(&self) -> io::Result<()> {
        let mut desk = lock(&self.desk);
        if !self.write(&mut desk) {
            let errno = self.counters.errno.load(Relaxed);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let Some(writer) = desk.writer.as_mut() else {
            return Ok(());
        };
        writer.end_import()?;
        self.synced.fetch_max(writer.positions().1, AcqRel);
        Ok(())
    }

    /// Where a new snapshot is to lie on which the log may be based. None when the log is off.
    pub fn base_name(&self) -> Option<PathBuf> {
        let mut desk = lock(&self.desk);
        let writer = desk.writer.as_mut()?;
        let name = writer.base_name();
        Some(writer.place().path(&name))
    }

    /// The log is based on a snapshot from now on, whose file is in its folder, whole and synced, and holds everything up to
    /// the sequence `through`. Older segments are removed.
    ///
    /// # Errors
    /// Those of the disk; then the log is what it was.
    pub fn set_base(&self, file: String, through: u64, bytes: u64) -> io::Result<()> {
        self.is_busy.store(true, Release);
        let mut desk = lock(&self.desk);
        // The segment that the cut asked for may not have been begun yet.
        if desk.writer.is_some() && self.write(&mut desk) {
            self.turn_over(&mut desk);
        }
        self.is_busy.store(true, Release);
        let done = match desk.writer.as_mut() {
            Some(writer) => {
                let held = self.held_from.load(Acquire);
                let done = writer.set_base(file, (through, held), bytes);
                self.note_sizes(writer);
                self.note_files(Some(writer));
                if done.is_ok() {
                    self.counters.base_bytes.store(writer.sizes().1, Relaxed);
                }
                done
            }
            None => Err(io::Error::other("there is no log")),
        };
        let disk = desk.writer.as_ref().map(|writer| Arc::clone(writer.disk()));
        drop(desk);
        self.is_busy.store(false, Release);
        // Removing a large file may take long, and nobody waits for it. One that stays is removed at the next start.
        let gone = done?;
        if let Some(disk) = disk {
            for path in gone {
                let _gone = disk.remove(&path);
            }
        }
        Ok(())
    }

    /// How long it is.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            now: self.counters.bytes.load(Relaxed),
            before: self.counters.base_bytes.load(Relaxed),
        }
    }

    /// Shows the log's files, with all that is queued in them, to who reads them while nothing is added. While the log is off these are what
    /// lies at `off`, where a log may be that was on once or that BGREWRITEAOF has made.
    ///
    /// # Errors
    /// Those of the disk and of `show`.
    pub fn show_files<R>(
        &self,
        off: (&dyn Disk, &Place),
        show: impl FnOnce(&dyn Disk, &Place) -> io::Result<R>,
    ) -> io::Result<R> {
        self.is_busy.store(true, Release);
        let mut desk = lock(&self.desk);
        self.write(&mut desk);
        // (What lies behind a cut, too.)
        self.turn_over(&mut desk);
        let is_written = self.write(&mut desk);
        let shown = match desk.writer.as_ref() {
            Some(_) if !is_written => Err(io::Error::other(self.failure())),
            Some(writer) if writer.waits_for_base() => {
                Err(io::Error::other("the log has no base yet"))
            }
            Some(writer) => show(&**writer.disk(), writer.place()),
            None => show(off.0, off.1),
        };
        drop(desk);
        self.is_busy.store(false, Release);
        shown
    }
}
