//! Hot path. What a service sees of a core: events and mail in, a list of wishes out.
//!
//! A service is a plain state machine. Once per turn it gets everything that happened since the last one, and
//! writes down what it wants; the core performs these wishes after `turn()` has returned. It never calls the kernel
//! and is never called back in the middle of something.
//!
//! ```text
//!   kernel -> driver -> [Event] --\                        /--> [Op]   -> driver -> kernel
//!                                  >-- service.turn() ----<
//!   other cores -> mailbox -> [M]-/                        \--> [post] -> mailbox -> other cores
//! ```
//!
//! Ownership: received bytes belong to the core and may be read until `turn()` returns; a buffer given to `send` or
//! `recv_into` belongs to the driver until `Sent` or `Filled` hands it back, or until `Closed` (then it is gone).

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::buffer::View;

/// One core of this runtime, counted from 0 (not a CPU number).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The core's place in tables indexed by core.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection on its core. Stale ids are harmless: the generation changes when the index is used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// Dense index of the connection on its core, for side tables; used again after `Closed`.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Both parts in one word: generation high, index low. Unique on a core for 2^32 uses of an index.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`ConnId::to_u64`]. Any value is a valid id; one that was never given out is merely stale.
    pub fn from_u64(word: u64) -> Self {
        let index = (word & u64::from(u32::MAX)) as u32;
        ConnId {
            index,
            generation: (word >> 32) as u32,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A TCP connection and its two ends.
    Tcp {
        /// The other end.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// A connection by a unix socket.
    Unix,
}

impl Peer {
    /// Whether the peer is on this machine: a unix socket or a loopback address (also mapped into IPv6).
    pub fn is_loopback(&self) -> bool {
        match self {
            Peer::Tcp { peer, .. } => peer.ip().to_canonical().is_loopback(),
            Peer::Unix => true,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The peer finished sending (end of stream).
    PeerClosed,
    /// The service asked for it by [`Ops::close`].
    Asked,
    /// The socket failed with this errno (a reset, a broken pipe, a timeout of keepalive).
    Failed(i32),
}

/// Received bytes, readable by [`Turn::bytes`] in the turn that delivered them and in no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub(crate) pool: usize,
    pub(crate) turn: u64,
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    /// How many bytes arrived.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Never true for a span that came with an event.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Part of this span, clamped to it.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Span {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        // INVARIANT: both are at most `self.len`, which is a u32.
        Span {
            start: self.start + start as u32,
            len: (end - start) as u32,
            ..*self
        }
    }
}

/// What happened on a core. Events of one connection are in order; `Accepted` is its first, `Closed` its last.
#[derive(Debug)]
pub enum Event {
    /// A new connection, with TCP_NODELAY set; it is receiving already.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// Index into the list of listeners given to [`crate::start`].
        listener: usize,
        /// The two ends.
        peer: Peer,
        /// Its descriptor number, to be shown (CLIENT LIST), never to be used.
        fd: i32,
    },
    /// Bytes arrived. One turn may hold several of these for one connection.
    Data {
        /// The connection.
        conn: ConnId,
        /// Where the bytes are.
        span: Span,
    },
    /// A [`Ops::recv_into`] has ended: the buffer has the wanted length. Normal receiving goes on.
    Filled {
        /// The connection.
        conn: ConnId,
        /// The buffer given, filled.
        buffer: Vec<u8>,
    },
    /// The whole buffer of [`Ops::send`] has been given to the kernel's socket.
    Sent {
        /// The connection.
        conn: ConnId,
        /// The buffer given, cleared, with its capacity.
        buffer: Vec<u8>,
    },
    /// Part of a large send has gone out; more than [`crate::SEND_PIECE_BYTES_MAX`] goes in pieces of that size.
    Progress {
        /// The connection.
        conn: ConnId,
        /// Bytes of the buffer sent so far.
        sent: usize,
    },
    /// The peer has sent its last byte, and all of it has been delivered. `Closed` follows in the next turn, unless
    /// [`Ops::linger`] is asked for in this one.
    Ended {
        /// The connection.
        conn: ConnId,
    },
    /// The connection is gone, and with it every buffer it had been given.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        cause: Cause,
    },
}

/// The time of a turn, read once when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Wall clock, milliseconds since 1970; may jump.
    pub unix_ms: u64,
    /// The same in microseconds.
    pub unix_us: u64,
    /// Monotonic clock, microseconds since an arbitrary point; never goes back.
    pub mono_us: u64,
}

/// One pass of a core's loop, as the service sees it.
pub struct Turn<'d, M> {
    /// When this turn began.
    pub now: Now,
    /// The [`crate::ticks`] at which what the last turn asked to be sent had been handed to the kernel.
    pub sent: u64,
    /// Which core this is.
    pub core: CoreId,
    /// What happened since the last turn. What the service leaves in it is dropped.
    pub events: &'d mut Vec<Event>,
    /// Mail of other cores and threads, in order per sender. What the service leaves in it is dropped.
    pub mail: &'d mut Vec<M>,
    /// What the service asks for; performed after `turn()` returns.
    pub ops: &'d mut Ops<M>,
    pub(crate) view: View<'d>,
}

impl<'d, M> Turn<'d, M> {
    /// The bytes of a span of this turn. A span of another turn or core yields no bytes (and fails a debug build).
    #[inline]
    pub fn bytes(&self, span: Span) -> &'d [u8] {
        self.view.bytes(span)
    }

    /// A turn without a core, for simulators and tests; its spans come from the [`crate::Arena`].
    pub fn simulated(
        now: Now,
        core: CoreId,
        arena: &'d crate::Arena,
        events: &'d mut Vec<Event>,
        mail: &'d mut Vec<M>,
        ops: &'d mut Ops<M>,
    ) -> Self {
        Turn {
            now,
            sent: crate::ticks(),
            core,
            events,
            mail,
            ops,
            view: arena.view(),
        }
    }
}

/// One wish about a connection.
#[derive(Debug)]
pub enum Op {
    /// See [`Ops::send`].
    Send(ConnId, Vec<u8>),
    /// See [`Ops::recv_into`]: buffer and wanted length.
    RecvInto(ConnId, Vec<u8>, usize),
    /// See [`Ops::pause_recv`].
    PauseRecv(ConnId),
    /// See [`Ops::resume_recv`].
    ResumeRecv(ConnId),
    /// See [`Ops::linger`].
    Linger(ConnId),
    /// See [`Ops::close`].
    Close(ConnId),
}

/// What a service asks for in one turn. The wishes about connections are performed in the order asked, the posts in
/// order per target, all after `turn()` has returned. A wish about a stale [`ConnId`] is ignored.
#[derive(Debug)]
pub struct Ops<M> {
    pub(crate) list: Vec<Op>,
    pub(crate) posts: Vec<(CoreId, M)>,
    pub(crate) again: bool,
    pub(crate) stop: bool,
    pub(crate) wake_at_ms: Option<u64>,
    pub(crate) expected: Option<(u32, Duration)>,
    /// Mails that found a full mailbox in earlier turns, by target core.
    pub(crate) backlog_lens: Vec<usize>,
}

impl<M> Default for Ops<M> {
    fn default() -> Self {
        Ops {
            list: Vec::new(),
            posts: Vec::new(),
            again: false,
            stop: false,
            wake_at_ms: None,
            expected: None,
            backlog_lens: Vec::new(),
        }
    }
}

impl<M> Ops<M> {
    /// An empty list, for simulators and tests; a core has its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the whole buffer. One send per connection may be under way: the next waits for `Sent`. `Sent` of a small
    /// send may be held back up to [`crate::SENT_HOLD_US_MAX`] so that it does not cost a turn of its own; it is
    /// always delivered before any later event of the connection.
    pub fn send(&mut self, conn: ConnId, buffer: Vec<u8>) {
        self.list.push(Op::Send(conn, buffer));
    }

    /// Receives the next bytes straight into `buffer`, which already holds a prefix, until its length is
    /// `len_wanted`; then comes `Filled`, and only after it `Data` again. Memory is reserved a little ahead of what
    /// has arrived, so a large `len_wanted` costs nothing until bytes come. Ask for it when every `Data` of this
    /// turn has been consumed: it takes effect for the bytes that arrive after this turn.
    pub fn recv_into(&mut self, conn: ConnId, buffer: Vec<u8>, len_wanted: usize) {
        self.list.push(Op::RecvInto(conn, buffer, len_wanted));
    }

    /// No `Data` after this turn until [`Ops::resume_recv`]: the peer is held back by TCP. A `recv_into` under way
    /// goes on. While paused, the end of the stream may go unnoticed; a failed send is still noticed.
    pub fn pause_recv(&mut self, conn: ConnId) {
        self.list.push(Op::PauseRecv(conn));
    }

    /// Ends a pause; a no-op without one.
    pub fn resume_recv(&mut self, conn: ConnId) {
        self.list.push(Op::ResumeRecv(conn));
    }

    /// Keeps a connection whose peer has sent its last byte ([`Event::Ended`]), because there is still something to reply:
    /// the service closes it.
    pub fn linger(&mut self, conn: ConnId) {
        self.list.push(Op::Linger(conn));
    }

    /// Closes at once: bytes not yet sent are dropped (wait for `Sent` first to have them delivered). Only `Closed`
    /// follows, in a later turn.
    pub fn close(&mut self, conn: ConnId) {
        self.list.push(Op::Close(conn));
    }

    /// Mail to another core, or to this one (delivered next turn). Never lost while the target runs: what finds the
    /// mailbox full waits in this core's overflow queue, in order.
    pub fn post(&mut self, core: CoreId, mail: M) {
        self.posts.push((core, mail));
    }

    /// How many earlier mails to `core` wait for room in its mailbox: a reason to produce less.
    pub fn backlog_len(&self, core: CoreId) -> usize {
        self.backlog_lens.get(core.index()).copied().unwrap_or(0)
    }

    /// Do not block: run another turn at once.
    pub fn again(&mut self) {
        self.again = true;
    }

    /// Run a turn not later than this. The earliest request of a turn wins and is forgotten when the next begins.
    pub fn wake_at(&mut self, unix_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(unix_ms, |at_ms| at_ms.min(unix_ms)));
    }

    /// Nobody can be answered before `arrivals` more messages are here or the moment is over: the wait behind this turn need not end
    /// earlier. A hint; other things that happen (mail, a sync that ends) may wait with them, so the moment is to be short.
    pub fn expect(&mut self, arrivals: u32, moment: Duration) {
        self.expected = Some((arrivals, moment));
    }

    /// Leave the loop when this turn's wishes have been performed (sends get [`crate::STOP_DRAIN_MS_MAX`] to end).
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Takes what has been asked about connections, for simulators and tests.
    pub fn take_ops(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.list)
    }

    /// Takes what has been posted, for simulators and tests.
    pub fn take_posts(&mut self) -> Vec<(CoreId, M)> {
        std::mem::take(&mut self.posts)
    }

    /// Whether [`Ops::again`] was asked, for simulators and tests.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Whether [`Ops::stop`] was asked, for simulators and tests.
    pub fn is_stop(&self) -> bool {
        self.stop
    }

    /// The earliest [`Ops::wake_at`], for simulators and tests.
    pub fn wake_at_ms(&self) -> Option<u64> {
        self.wake_at_ms
    }
}

/// The state machine a core drives.
pub trait Service {
    /// What cores and outside threads send one another.
    type Mail: Send + 'static;

    /// One turn: consume events and mail, leave wishes in `turn.ops`.
    fn turn(&mut self, turn: &mut Turn<'_, Self::Mail>);
}
