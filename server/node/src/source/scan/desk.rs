//! What the threads of a source that is followed by scan share, and what others ask of it: marks, a sweep, what is shown.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use migration::scan::{Board, Name};

/// What is shown of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Whole passes that ended.
    pub passes: u64,
    /// How often events may have been lost, and why the last time.
    pub losses: u64,
    /// See `losses`.
    pub why: String,
    /// Nothing was lost since the last whole pass began.
    pub is_whole: bool,
    /// Keys that wait to be fetched again, and bytes that they take.
    pub waiting_keys: u64,
    /// See `waiting_keys`.
    pub waiting_bytes: u64,
    /// Events that came, since the session was begun.
    pub events: u64,
    /// Keys whose values were read, and those of them that were others here.
    pub fetched: u64,
    /// See `fetched`.
    pub changed: u64,
    /// Keys that cannot be taken in, and why one of them.
    pub unfit: u64,
    /// See `unfit`.
    pub unfit_why: Option<String>,
}

/// See the module's head.
#[derive(Default)]
pub struct Desk {
    is_on: AtomicBool,
    /// Counts connections of the events, and resets: threads of one that was left have no board any more.
    epoch: AtomicU64,
    board: Mutex<Board>,
    woken: Condvar,
    pub(super) events: AtomicU64,
    pub(super) fetched: AtomicU64,
    pub(super) changed: AtomicU64,
}

impl Desk {
    /// From now on the source is followed so; what was known is forgotten. Or it is not any more.
    pub(in crate::source) fn set(&self, is_on: bool) {
        let mut board = self.board();
        self.epoch.fetch_add(1, AcqRel);
        *board = Board::default();
        drop(board);
        for count in [&self.events, &self.fetched, &self.changed] {
            count.store(0, Relaxed);
        }
        self.is_on.store(is_on, Release);
    }

    /// Whether the source is followed by scan.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Acquire)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of the events has been made: its epoch.
    pub(super) fn connect(&self) -> u64 {
        let mut board = self.board();
        board.connect();
        self.epoch.fetch_add(1, AcqRel) + 1
    }

    /// The board, for a thread of that epoch; None once another one has begun.
    pub(super) fn board_of(&self, epoch: u64) -> Option<MutexGuard<'_, Board>> {
        let board = self.board();
        (self.epoch.load(Acquire) == epoch).then_some(board)
    }

    /// Something was said that the session acts upon.
    pub(super) fn wake(&self) {
        self.woken.notify_all();
    }

    /// Nothing is to be done until somebody wakes it, or for so long.
    pub(super) fn rest(&self, at_most: Duration) {
        let board = self.board();
        if board.waiting().0 == 0 && !board.is_due() {
            // (How it ended is looked at by who rested.)
            let _woken = self.woken.wait_timeout(board, at_most);
        }
    }

    /// Whether what is here is all that is there, but for what waits.
    pub fn is_current(&self) -> bool {
        self.board().is_current()
    }

    /// Whether a whole pass has ended behind the last loss.
    pub fn is_whole(&self) -> bool {
        self.board().is_whole()
    }

    /// What is here has been all that was there at some time.
    pub fn was_whole(&self) -> bool {
        self.board().was_whole()
    }

    /// Asks for a mark behind all that was written at the source until now; also behind what changed of this key without an event.
    pub fn ask(&self, key: Option<(u8, &[u8])>) -> u64 {
        let mut board = self.board();
        if let Some((db, key)) = key {
            let name: Name = (db, key.to_vec());
            if board.has_groups(&name) {
                board.touch(db, key);
            }
        }
        board.ask()
    }

    /// The last mark of which all is here.
    pub fn reached(&self) -> u64 {
        self.board().reached()
    }

    /// A key is fetched again, whatever was heard of it.
    pub fn fetch(&self, db: u8, key: &[u8]) {
        self.board().touch(db, key);
        self.wake();
    }

    /// The last look before this node decides: see [`Board::ask_sweep`].
    pub fn ask_sweep(&self) {
        self.board().ask_sweep();
    }

    /// How it has ended; None while it has not.
    pub fn swept(&self) -> Option<Result<(), String>> {
        self.board().swept()
    }

    /// All that is shown.
    pub fn shown(&self) -> Shown {
        let board = self.board();
        let (passes, losses, why) = board.passes();
        let (keys, bytes) = board.waiting();
        let (unfit, unfit_why) = board.unfit();
        Shown {
            passes,
            losses,
            why: why.to_owned(),
            is_whole: board.is_whole(),
            waiting_keys: keys as u64,
            waiting_bytes: bytes as u64,
            events: self.events.load(Relaxed),
            fetched: self.fetched.load(Relaxed),
            changed: self.changed.load(Relaxed),
            unfit: unfit as u64,
            unfit_why: unfit_why.map(str::to_owned),
        }
    }

    pub(super) fn count(&self, what: &AtomicU64, more: usize) {
        what.fetch_add(more as u64, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else its mark would count as one of the next connection, whose numbers are the same.
    #[test]
    fn a_thread_of_a_connection_that_was_left_has_no_board() {
        let desk = Desk::default();
        desk.set(true);
        let first = desk.connect();
        assert!(desk.board_of(first).is_some());
        let second = desk.connect();
        assert!(desk.board_of(first).is_none() && desk.board_of(second).is_some());
        desk.set(false);
        assert!(desk.board_of(second).is_none() && !desk.is_on());
    }

    #[test]
    fn what_is_asked_for_is_on_the_board_and_wakes_who_rests() {
        let desk = Desk::default();
        let epoch = desk.connect();
        desk.fetch(0, b"a");
        // (Else it would be the end of this test.)
        desk.rest(Duration::from_secs(3600));
        let mark = desk.ask(Some((0, b"b")));
        let mut board = desk.board_of(epoch).unwrap();
        assert_eq!(board.take(9), [(0, b"a".to_vec())], "b has no groups");
        assert_eq!(board.to_send(), Some(mark));
        board.begin_pass();
        board.end_pass();
        board.echoed(mark);
        drop(board);
        desk.rest(Duration::from_secs(3600));
        desk.board_of(epoch).unwrap().settle();
        assert_eq!(desk.reached(), mark);
        assert!(desk.is_current() && desk.was_whole() && desk.shown().passes == 1);
    }
}
