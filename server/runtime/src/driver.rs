//! What a core needs of a driver, and what the two drivers share.
//!
//! One turn as the core drives it: `wait` (blocks, submits) -> `gather` -> the service's turn reads through `view` ->
//! `recycle` -> `perform` for each wish -> `wake` for each sleeping target.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::buffer::View;
use crate::clock;
use crate::mailbox::{Arrival, Socket, WakePoint};
use crate::service::{ConnId, Event, Now, Op, Peer};
use crate::socket::{self, Listener};
use crate::stats::Tally;

/// Sends up to this size report `Sent` lazily (see [`crate::SENT_HOLD_US_MAX`]); larger ones at once, since more is
/// likely to follow.
pub(crate) const SENT_HOLD_BYTES_MAX: usize = 16 << 10;

/// How long a listener rests after accept failed for want of descriptors or memory.
pub(crate) const ACCEPT_REST_US: u64 = 100_000;

/// What a driver is built from.
pub(crate) struct DriverSpec<'a> {
    pub(crate) buffer_bytes: usize,
    pub(crate) buffer_count: usize,
    pub(crate) accept_per_turn_max: usize,
    /// This core's own wake point: the driver listens to it.
    pub(crate) wake: &'a WakePoint,
}

/// One way of doing I/O for one core.
pub(crate) trait Driver: Sized {
    /// Shown to users.
    const NAME: &'static str;

    /// Sends happen in [`Driver::wait`], not where they are asked for.
    const SENDS_IN_WAIT: bool;

    /// Built on the core's own thread.
    fn new(spec: &DriverSpec<'_>) -> io::Result<Self>;

    /// Starts accepting.
    fn listen(&mut self, number: usize, listener: Listener) -> io::Result<()>;

    /// Submits what is due, and waits until something happens; `None` waits without limit, zero not at all.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// The next wait may be one for so many arrivals, for a moment at most: see [`crate::Ops::expect`].
    fn expect(&mut self, _arrivals: u32, _moment: Duration) {}

    /// Submits what is due and does not gather: for a core that naps but must still wake others.
    fn submit(&mut self) -> io::Result<()>;

    /// Turns what happened into events; accepted sockets go to `arrivals`, at most the budget's number per turn.
    fn gather(&mut self, mono_us: u64, events: &mut Vec<Event>, arrivals: &mut Vec<Arrival>);

    /// Both clocks.
    fn now(&self) -> Now {
        clock::read()
    }

    /// The monotonic clock alone, microseconds.
    fn mono_us(&self) -> u64 {
        clock::mono_us()
    }

    /// Sets what must be set on an accepted socket, and tells who is at its other end.
    fn greet(&mut self, arrival: &Arrival, is_tcp: bool, keepalive_s: u32) -> io::Result<Peer> {
        let Socket::Kernel(fd) = &arrival.socket else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let tally = self.tally();
        if is_tcp {
            tally.kernel_entries += 2;
            if keepalive_s > 0 {
                tally.kernel_entries += 4;
                // A connection without keepalive is better than none.
                let _set = socket::keep_alive(fd.as_fd(), keepalive_s);
            }
        }
        socket::peer_of(fd.as_fd(), is_tcp)
    }

    /// Takes a connection over and starts receiving.
    fn adopt(&mut self, arrival: Arrival, peer: Peer, events: &mut Vec<Event>);

    /// What the service may read in this turn.
    fn view(&self) -> View<'_>;

    /// The turn is over: its buffers may be filled again.
    fn recycle(&mut self);

    /// Does, or queues, one wish.
    fn perform(&mut self, op: Op);

    /// Wakes another core.
    fn wake(&mut self, core: usize, target: &WakePoint);

    /// Whether there is something to gather already, so that the core must not block.
    fn is_ready(&self) -> bool;

    /// When, by the monotonic clock, the driver wants a turn at the latest.
    fn due_us(&self) -> Option<u64>;

    /// Whether sends are under way.
    fn is_sending(&self) -> bool;

    /// What has been counted.
    fn tally(&mut self) -> &mut Tally;
}

/// Accepted sockets that the turn's budget had no room for.
pub(crate) struct Door {
    waiting: VecDeque<Arrival>,
    per_turn_max: usize,
}

impl Door {
    pub(crate) fn new(per_turn_max: usize) -> Door {
        Door {
            waiting: VecDeque::new(),
            per_turn_max: per_turn_max.max(1),
        }
    }

    pub(crate) fn push(&mut self, arrival: Arrival) {
        self.waiting.push_back(arrival);
    }

    pub(crate) fn take(&mut self, into: &mut Vec<Arrival>) {
        let n = self.waiting.len().min(self.per_turn_max);
        into.extend(self.waiting.drain(..n));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn per_turn_max(&self) -> usize {
        self.per_turn_max
    }
}

/// The event that a send has ended, with its buffer emptied.
pub(crate) fn sent(conn: ConnId, mut buffer: Vec<u8>) -> Event {
    buffer.clear();
    Event::Sent { conn, buffer }
}
