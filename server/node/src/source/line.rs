//! A line: one server that is followed, with its session, and how far its stream has been executed.
//!
//! A single Redis is line 0 and has all keys. Of several, each has a [`Share`]: what its copy may remove here, and what its stream may change.

use std::net::TcpStream;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};

use migration::written::POSITION_KEY;
use migration::{Position, Slots};
use storage::Slot;

use super::{Link, Rule, Status, lock, scan};
use crate::start::unix_ms;

/// Which keys a line has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// All: it is the only one.
    #[default]
    All,
    /// Those of these slots, as a shard of a cluster.
    Slots(Arc<Slots>),
    /// Those that a rule gives to the line of this number.
    Keys(Arc<Rule>, u16),
    /// Those that an application has given to it, which nobody else can tell: no two lines have the same key.
    Hand,
}

impl Share {
    /// Whether a key is the line's, as far as that can be told by its name. (How far a server has been written is nobody's data.)
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Share::All | Share::Hand => true,
            _ if is_position(key) => false,
            Share::Slots(slots) => slots.contains(Slot::of(key)),
            Share::Keys(rule, number) => rule.owner(key) == Some(*number),
        }
    }

    /// Whether it can be told by a key's name whose it is.
    pub fn is_told(&self) -> bool {
        matches!(self, Share::Slots(_) | Share::Keys(..))
    }

    /// The slots in which it may have keys.
    pub(super) fn slots(&self) -> Slots {
        match self {
            Share::Slots(slots) => (**slots).clone(),
            Share::Keys(..) => Slots::all(),
            Share::All | Share::Hand => Slots::default(),
        }
    }
}

/// Whether a key is one that this node keeps at a server that it writes to.
pub(super) fn is_position(key: &[u8]) -> bool {
    key.starts_with(POSITION_KEY)
}

#[derive(Default)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) socket: Option<TcpStream>,
    /// When the last byte came, unix ms.
    pub(super) heard_ms: u64,
    pub(super) share: Share,
}

/// See the module's head.
#[derive(Default)]
pub struct Line {
    /// Its number: that of its effects in the log.
    pub number: u16,
    applied: AtomicU64,
    /// Bytes of the stream that have come, as an offset.
    pub(super) read: AtomicU64,
    link: AtomicU8,
    clock_us: AtomicI64,
    /// The number of the session that may execute.
    pub(super) order: Mutex<u64>,
    pub(super) state: Mutex<State>,
    /// Of a source that is followed by scan.
    pub scan: scan::Desk,
    /// A session has been ended.
    pub(super) ended: Condvar,
}

impl Line {
    /// One with this number, that nobody follows.
    pub(super) fn new(number: u16) -> Line {
        Line {
            number,
            ..Line::default()
        }
    }

    /// Which keys it has.
    pub fn share(&self) -> Share {
        lock(&self.state).share.clone()
    }

    /// It has these from now on.
    pub(super) fn set_share(&self, share: Share) {
        lock(&self.state).share = share;
    }

    /// The replication offset of the source up to which everything has been executed here.
    pub fn applied(&self) -> u64 {
        self.applied.load(Acquire)
    }

    /// Everything up to this offset has been executed, and every core shows it.
    pub fn set_applied(&self, offset: u64) {
        self.applied.store(offset, Release);
    }

    /// The offset up to which the stream has come.
    pub fn read_offset(&self) -> u64 {
        self.read.load(Relaxed).max(self.applied())
    }

    /// Where the link stands.
    pub fn link(&self) -> Link {
        let number = usize::from(self.link.load(Acquire));
        Link::ALL.get(number).copied().unwrap_or_default()
    }

    pub(super) fn set_link(&self, link: Link) {
        let number = Link::ALL.iter().position(|one| *one == link);
        self.link.store(number.unwrap_or(0) as u8, Release);
    }

    /// By how much the source's clock is ahead of ours, us; 0 before it has been asked.
    pub fn source_clock_us(&self) -> i64 {
        self.clock_us.load(Relaxed)
    }

    pub(super) fn set_clock(&self, ahead_us: i64) {
        self.clock_us.store(ahead_us, Relaxed);
    }

    /// Up to where in whose history what is here of it goes; none before the first copy.
    pub fn position(&self) -> Option<Position> {
        lock(&self.state).status.position
    }

    /// What is here of it goes up to this position.
    pub(super) fn set_position(&self, position: Option<Position>) {
        lock(&self.state).status.position = position;
        self.set_applied(position.map_or(0, |position| position.offset));
    }

    /// Everything up to there has been executed.
    pub(super) fn advance(&self, position: Position) {
        self.set_position(Some(position));
    }

    /// All that is known.
    pub fn status(&self) -> Status {
        let state = lock(&self.state);
        let link = self.link();
        let has_link = matches!(link, Link::Sync | Link::Connected);
        let silent_s = unix_ms().saturating_sub(state.heard_ms) / 1000;
        Status {
            link,
            silent_s: has_link.then_some(silent_s),
            ..state.status.clone()
        }
    }

    pub(super) fn note<R>(&self, change: impl FnOnce(&mut Status) -> R) -> R {
        change(&mut lock(&self.state).status)
    }

    /// Ends the session, and gives it a number that no session has. Nothing of the source is executed any more when this has returned.
    pub(super) fn end(&self) -> u64 {
        let number = {
            let mut order = lock(&self.order);
            *order += 1;
            *order
        };
        let mut state = lock(&self.state);
        if let Some(socket) = state.socket.take() {
            // (The session finds out; one that is gone has nothing to find.)
            let _gone = socket.shutdown(std::net::Shutdown::Both);
        }
        state.status.target = None;
        state.status.copying = None;
        drop(state);
        self.set_link(Link::None);
        self.ended.notify_all();
        number
    }
}
