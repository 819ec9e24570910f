//! What is to be fetched again, and whether all is here: keys in the order of their events, marks, whole passes.
//!
//! ```text
//!  touched ──> queue ──> take ──> (fetched, put) ──> settle: a mark whose keys are all here is reached
//!  lose ─────> another whole pass: begin_pass … end_pass, in which nothing was lost ──> whole
//! ```
//! Cost: a queued key takes its name twice over and [`NAME_BYTES`]; [`QUEUED_KEYS_MAX`] and [`QUEUED_BYTES_MAX`] bound all of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A database and a key.
pub type Name = (u8, Vec<u8>);

/// Keys that wait to be fetched again; with more all of them are forgotten, and a whole pass fetches everything.
pub const QUEUED_KEYS_MAX: usize = 1 << 18;
/// Bytes that they take, their names and what is kept with each.
pub const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Streams with consumer groups that are known by name.
pub const GROUPED_MAX: usize = 10_000;
/// Keys whose values cannot be taken in that are known by name.
pub const UNFIT_MAX: usize = 1000;
/// Bytes that a queued key takes beside its name.
const NAME_BYTES: usize = 128;

/// The last look before this node decides.
#[derive(Debug, Default)]
enum Sweep {
    #[default]
    None,
    /// Asked for with this mark.
    Asked(u64),
    Over(Result<(), String>),
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Board {
    /// By the numbers under which they were queued.
    queue: VecDeque<(u64, Arc<Name>)>,
    /// The same by name.
    queued: BTreeSet<Arc<Name>>,
    bytes: usize,
    /// The last number that was given.
    last: u64,
    /// How often events may have been lost, and why the last time.
    losses: u64,
    why: String,
    /// The losses when the pass that is under way began...
    began: Option<u64>,
    /// ...and when the last one began that ended.
    whole: Option<u64>,
    /// Passes that ended, and whether in one of them nothing was lost.
    passes: u64,
    was_whole: bool,
    /// Marks: the last one that was asked for, sent, and reached.
    asked: u64,
    sent: u64,
    reached: u64,
    /// What was queued last when the one that was sent came back.
    upto: Option<u64>,
    sweep: Sweep,
    grouped: BTreeSet<Name>,
    has_more_groups: bool,
    unfit: BTreeMap<Name, String>,
}

impl Board {
    /// A key was touched. One that is queued already stays at its place: it is read when its turn comes, whatever was written by then.
    pub fn touch(&mut self, db: u8, key: &[u8]) {
        let name = Arc::new((db, key.to_vec()));
        if self.queued.contains(&name) {
            return;
        }
        let bytes = NAME_BYTES + key.len();
        if self.queue.len() >= QUEUED_KEYS_MAX || self.bytes + bytes > QUEUED_BYTES_MAX {
            self.empty();
            return self.lose("more keys changed than can wait to be fetched again");
        }
        self.last += 1;
        self.bytes += bytes;
        self.queue.push_back((self.last, Arc::clone(&name)));
        self.queued.insert(name);
    }

    fn empty(&mut self) {
        self.queue.clear();
        self.queued.clear();
        self.bytes = 0;
    }

    /// The oldest of the queued keys. What is taken must be here before [`Board::settle`] is called.
    pub fn take(&mut self, most: usize) -> Vec<Name> {
        let count = most.min(self.queue.len());
        let taken = self.queue.drain(..count).map(|(_, name)| name);
        let taken: Vec<Arc<Name>> = taken.collect();
        taken
            .into_iter()
            .map(|name| {
                self.queued.remove(&name);
                self.bytes -= NAME_BYTES + name.1.len();
                Arc::unwrap_or_clone(name)
            })
            .collect()
    }

    /// Keys that wait, and the bytes that they take.
    pub fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.bytes)
    }

    /// Events may have been lost: another whole pass is necessary.
    pub fn lose(&mut self, why: &str) {
        self.losses += 1;
        why.clone_into(&mut self.why);
        if matches!(self.sweep, Sweep::Asked(_)) {
            self.sweep = Sweep::Over(Err(why.to_owned()));
        }
    }

    /// The connection of the events has been made: marks that were on the one before never come back, and what was queued is fetched by the pass.
    pub fn connect(&mut self) {
        self.empty();
        (self.sent, self.upto) = (self.reached, None);
    }

    /// A whole pass begins.
    pub fn begin_pass(&mut self) {
        self.began = Some(self.losses);
    }

    /// All keys have been fetched once, and those that are not there are gone here. Whether no other pass is necessary.
    pub fn end_pass(&mut self) -> bool {
        self.passes += 1;
        self.whole = self.began.take();
        self.was_whole |= self.is_whole();
        self.is_whole()
    }

    /// What is here has been all that was there at some time.
    pub fn was_whole(&self) -> bool {
        self.was_whole
    }

    /// Nothing was lost since the last whole pass began.
    pub fn is_whole(&self) -> bool {
        self.whole == Some(self.losses)
    }

    /// Whether what is here is all that is there, but for what is queued.
    pub fn is_current(&self) -> bool {
        self.is_whole() && self.unfit.is_empty()
    }

    /// Passes that ended, how often events may have been lost, and why the last time.
    pub fn passes(&self) -> (u64, u64, &str) {
        (self.passes, self.losses, &self.why)
    }

    /// A mark behind all that has been written there until now.
    pub fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// The last mark of which everything is here.
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// The mark that is to be sent now: one at a time is on its way, for all who have asked by then.
    pub fn to_send(&mut self) -> Option<u64> {
        if self.sent != self.reached || self.asked == self.sent {
            return None;
        }
        (self.sent, self.upto) = (self.asked, None);
        Some(self.sent)
    }

    /// A mark has come back: what was touched before is queued.
    pub fn echoed(&mut self, mark: u64) {
        if mark != self.sent || self.upto.is_some() {
            return;
        }
        if matches!(self.sweep, Sweep::Asked(asked) if asked <= mark) {
            for (db, key) in core::mem::take(&mut self.grouped) {
                self.touch(db, &key);
                self.grouped.insert((db, key));
            }
        }
        self.upto = Some(self.last);
    }

    /// What was taken is here.
    pub fn settle(&mut self) {
        if self.is_due() {
            (self.reached, self.upto) = (self.sent, None);
        }
    }

    /// Whether [`Board::settle`] has something to do, if nothing is taken that is not here yet.
    pub fn is_due(&self) -> bool {
        let front = self.queue.front().map(|(number, _)| *number);
        let is_done = |upto| front.is_none_or(|number| number > upto);
        self.upto.is_some_and(is_done) && self.is_whole()
    }

    /// The last look: all that has been written there, and what no event tells.
    pub fn ask_sweep(&mut self) {
        self.sweep = match self.hindrance() {
            Some(why) => Sweep::Over(Err(why)),
            None => Sweep::Asked(self.ask()),
        };
    }

    fn hindrance(&self) -> Option<String> {
        if !self.is_whole() {
            return Some(format!("a whole pass is needed first: {}", self.why));
        }
        if let Some(why) = self.unfit.values().next() {
            return Some(why.clone());
        }
        let more = format!(
            "there are more than {GROUPED_MAX} streams with consumer groups, whose groups change without an event"
        );
        self.has_more_groups.then_some(more)
    }

    /// A sweep is under way.
    pub fn sweeps(&self) -> bool {
        matches!(self.sweep, Sweep::Asked(_))
    }

    /// All that was written there before the sweep was asked for is here.
    pub fn has_swept(&self) -> bool {
        matches!(self.sweep, Sweep::Asked(mark) if mark <= self.reached)
    }

    /// How the last sweep ended.
    pub fn end_sweep(&mut self, how: Result<(), String>) {
        if self.sweeps() {
            self.sweep = Sweep::Over(how);
        }
    }

    /// How the sweep that was asked for has ended, once; None while it has not.
    pub fn swept(&mut self) -> Option<Result<(), String>> {
        match core::mem::take(&mut self.sweep) {
            Sweep::Over(how) => Some(how),
            other => {
                self.sweep = other;
                None
            }
        }
    }

    /// A key has been fetched: whether it is a stream with consumer groups, and why it cannot be taken in.
    ///
    /// # Errors
    /// When more cannot be taken in than are known by name.
    pub fn fetched(
        &mut self,
        name: &Name,
        has_groups: bool,
        unfit: Option<String>,
    ) -> Result<(), String> {
        if !has_groups {
            self.grouped.remove(name);
        } else if !self.grouped.contains(name) {
            match self.grouped.len() < GROUPED_MAX {
                true => drop(self.grouped.insert(name.clone())),
                false => self.has_more_groups = true,
            }
        }
        match unfit {
            None => drop(self.unfit.remove(name)),
            Some(why) if self.unfit.len() < UNFIT_MAX || self.unfit.contains_key(name) => {
                self.unfit.insert(name.clone(), why);
            }
            Some(why) => {
                return Err(format!(
                    "more than {UNFIT_MAX} keys cannot be taken in: {why}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a key changes without an event, as far as is known.
    pub fn has_groups(&self, name: &Name) -> bool {
        self.has_more_groups || self.grouped.contains(name)
    }

    /// Keys that cannot be taken in, and why the first one of them.
    pub fn unfit(&self) -> (usize, Option<&str>) {
        let first = self.unfit.values().next();
        (self.unfit.len(), first.map(String::as_str))
    }

    /// Keys that could not be taken in are looked at again.
    pub fn try_unfit_again(&mut self) {
        let names: Vec<Name> = self.unfit.keys().cloned().collect();
        for (db, key) in names {
            self.touch(db, &key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose first pass is over.
    fn whole() -> Board {
        let mut board = Board::default();
        board.connect();
        board.begin_pass();
        assert!(board.end_pass());
        board
    }

    fn name(key: &str) -> Name {
        (0, key.as_bytes().to_vec())
    }

    /// Sends the mark that is due and lets it come back.
    fn echo(board: &mut Board) -> u64 {
        let mark = board.to_send().expect("a mark is due");
        board.echoed(mark);
        mark
    }

    #[test]
    fn a_mark_is_reached_when_all_that_was_touched_before_it_came_back_is_here() {
        let mut board = whole();
        board.touch(0, b"a");
        let mark = board.ask();
        let sent = board.to_send().unwrap();
        assert_eq!((mark, board.to_send()), (sent, None), "one at a time");
        board.touch(0, b"b");
        board.touch(1, b"b");
        board.settle();
        assert_eq!(board.reached(), 0, "it has not come back");
        board.echoed(sent);
        board.touch(0, b"c");
        assert_eq!(board.take(2), [name("a"), name("b")]);
        board.settle();
        assert_eq!(board.reached(), 0, "one is missing");
        assert_eq!(board.take(1), [(1, b"b".to_vec())]);
        board.settle();
        assert_eq!(
            board.reached(),
            mark,
            "what was touched later is not waited for"
        );
        assert_eq!(board.waiting().0, 1);
        board.take(9);
        assert_eq!(board.waiting(), (0, 0));
    }

    #[test]
    fn a_key_is_queued_once_and_again_when_it_was_taken() {
        let mut board = whole();
        for _ in 0..3 {
            board.touch(0, b"a");
        }
        assert_eq!(board.take(9), [name("a")]);
        board.touch(0, b"a");
        assert_eq!(board.take(9), [name("a")], "touched while it was read");
    }

    #[test]
    fn nothing_is_reached_after_a_loss_until_a_pass_that_began_behind_it_ends() {
        let mut board = whole();
        board.begin_pass();
        board.lose("the link was lost");
        assert!(
            !board.end_pass() && board.was_whole(),
            "it was lost meanwhile"
        );
        board.connect();
        let mark = board.ask();
        echo(&mut board);
        board.settle();
        assert_eq!((board.reached(), board.is_current()), (0, false));
        board.begin_pass();
        assert!(board.end_pass());
        board.settle();
        assert_eq!(board.reached(), mark);
        assert_eq!(board.passes(), (3, 1, "the link was lost"));
    }

    #[test]
    fn a_mark_of_a_lost_connection_is_sent_again_and_its_echo_is_not_taken() {
        let mut board = whole();
        board.ask();
        let old = board.to_send().unwrap();
        board.connect();
        assert_eq!(board.to_send(), Some(old));
        board.echoed(old + 1);
        board.settle();
        assert_eq!(board.reached(), 0);
        board.echoed(old);
        board.settle();
        assert_eq!(board.reached(), old);
    }

    #[test]
    fn more_than_can_wait_is_forgotten_and_makes_a_pass_necessary() {
        let mut board = whole();
        for n in 0..QUEUED_KEYS_MAX {
            board.touch(0, n.to_string().as_bytes());
        }
        assert!(board.is_current());
        board.touch(0, b"0");
        assert!(board.is_current(), "it waits already");
        board.touch(0, b"one more");
        assert!(!board.is_whole());
        assert_eq!(board.waiting(), (0, 0));
        let mut board = whole();
        let long = vec![b'x'; QUEUED_BYTES_MAX / 2];
        board.touch(0, &long);
        board.touch(1, &long);
        assert!(!board.is_whole(), "bytes count as well");
    }

    #[test]
    fn a_sweep_fetches_what_no_event_tells_and_ends_with_every_loss() {
        let mut board = whole();
        board.fetched(&name("s"), true, None).unwrap();
        board.fetched(&name("t"), true, None).unwrap();
        board.fetched(&name("t"), false, None).unwrap();
        board.ask_sweep();
        echo(&mut board);
        board.settle();
        assert!(!board.has_swept(), "the stream is not fetched yet");
        assert_eq!(board.take(9), [name("s")]);
        board.settle();
        assert!(board.has_swept() && board.swept().is_none());
        board.end_sweep(Ok(()));
        assert_eq!((board.swept(), board.swept()), (Some(Ok(())), None));
        board.ask_sweep();
        board.lose("flushed");
        assert_eq!(board.swept(), Some(Err("flushed".to_owned())));
        board.ask_sweep();
        let refused = board.swept().unwrap().unwrap_err();
        assert!(refused.contains("whole pass"), "{refused}");
    }

    #[test]
    fn what_cannot_be_taken_in_keeps_it_from_being_current_until_it_can() {
        let mut board = whole();
        let why = || Some("too large".to_owned());
        for n in 0..UNFIT_MAX {
            board.fetched(&name(&n.to_string()), false, why()).unwrap();
        }
        assert!(board.is_whole() && !board.is_current());
        assert_eq!(board.unfit(), (UNFIT_MAX, Some("too large")));
        board.fetched(&name("5"), false, why()).unwrap();
        assert!(board.fetched(&name("x"), false, why()).is_err());
        board.ask_sweep();
        assert_eq!(board.swept(), Some(Err("too large".to_owned())));
        board.try_unfit_again();
        for name in board.take(UNFIT_MAX) {
            board.fetched(&name, false, None).unwrap();
        }
        assert!(board.is_current());
    }

    #[test]
    fn streams_with_groups_are_known_up_to_a_number() {
        let mut board = whole();
        for n in 0..GROUPED_MAX {
            board.fetched(&name(&n.to_string()), true, None).unwrap();
        }
        board.fetched(&name("0"), true, None).unwrap();
        assert!(!board.has_groups(&name("x")));
        board.fetched(&name("x"), true, None).unwrap();
        assert!(
            board.has_groups(&name("y")),
            "it may be one of those not known"
        );
        board.ask_sweep();
        assert!(board.swept().unwrap().is_err());
    }
}
