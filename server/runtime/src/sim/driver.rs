//! The third driver: sockets of memory, a clock that stands until it is set. It behaves as the other two do.
//!
//! ```text
//!   the world: arrive, finish, reset ──> inbox ──gather──> Data, Filled, Ended, Closed
//!   the world: take      <── pipe (so many bytes) <──perform/gather── Send ──> Progress, Sent
//! ```
//! A pipe is what the kernel has taken of a connection's output: it outlives the connection, as a kernel's does.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::buffer::{Arena, Fill, View};
use crate::driver::{Door, Driver, DriverSpec, SENT_HOLD_BYTES_MAX, sent};
use crate::mailbox::{Arrival, Socket, WakePoint};
use crate::service::{Cause, ConnId, Event, Now, Op, Peer};
use crate::slab::Slab;
use crate::socket::Listener;
use crate::stats::Tally;
use crate::{SEND_PIECE_BYTES_MAX, SENT_HOLD_US_MAX};

/// Errno of a connection that the peer has reset, and of a second wish where one is allowed.
const ECONNRESET: i32 = 104;
const EBUSY: i32 = 16;

struct Conn {
    socket: u64,
    /// What has arrived, in the pieces it arrived in.
    inbox: VecDeque<Vec<u8>>,
    paused: bool,
    /// The peer has sent its last byte.
    finished: bool,
    /// Data was delivered in this turn.
    fed: bool,
    end_told: bool,
    lingers: bool,
    closing: Option<Cause>,
    out: Vec<u8>,
    out_sent: usize,
    fill: Option<Fill>,
}

impl Conn {
    fn new(socket: u64) -> Conn {
        Conn {
            socket,
            inbox: VecDeque::new(),
            paused: false,
            finished: false,
            fed: false,
            end_told: false,
            lingers: false,
            closing: None,
            out: Vec::new(),
            out_sent: 0,
            fill: None,
        }
    }

    fn is_readable(&self) -> bool {
        let wanted = self.fill.is_some() || !self.paused;
        self.closing.is_none() && !self.inbox.is_empty() && wanted
    }

    /// All has been delivered, and the end of it is to be told or acted upon.
    fn is_ending(&self) -> bool {
        let over = self.finished && self.inbox.is_empty() && self.out.is_empty();
        // While paused the end goes unnoticed.
        over && self.closing.is_none() && !self.lingers && !self.paused
    }
}

/// What the kernel holds of a connection's output.
struct Pipe {
    bytes: VecDeque<u8>,
    /// How much it takes.
    bytes_max: usize,
    /// The server has closed the connection.
    closed: bool,
}

impl Pipe {
    fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len())
    }
}

/// See the module's head.
pub(crate) struct Simulated {
    pub(crate) now: Now,
    /// Connections that one turn reads from.
    pub(crate) reads_max: usize,
    /// Rings of other cores' bells that are lost from here on: a planted fault.
    pub(crate) deaf: bool,
    conns: Slab<Conn>,
    live: BTreeMap<u64, ConnId>,
    /// Sockets adopted since the world asked last.
    adopted: Vec<u64>,
    pipes: BTreeMap<u64, Pipe>,
    door: Door,
    arena: Arena,
    buffer_bytes: usize,
    /// Socket that was read last: the next turn begins behind it.
    last_read: u64,
    pending: Vec<Event>,
    pending_urgent: bool,
    freed: Vec<u32>,
    hold_until_us: Option<u64>,
    tally: Tally,
}

/// What the world does to sockets.
impl Simulated {
    pub(crate) fn with(spec: (usize, usize, usize), now: Now) -> Simulated {
        let (buffer_bytes, buffer_count, accept_per_turn_max) = spec;
        Simulated {
            now,
            reads_max: usize::MAX,
            deaf: false,
            conns: Slab::new(),
            live: BTreeMap::new(),
            adopted: Vec::new(),
            pipes: BTreeMap::new(),
            door: Door::new(accept_per_turn_max),
            arena: Arena::new(buffer_bytes.saturating_mul(buffer_count)),
            buffer_bytes: buffer_bytes.max(1),
            last_read: 0,
            pending: Vec::new(),
            pending_urgent: false,
            freed: Vec::new(),
            hold_until_us: None,
            tally: Tally::default(),
        }
    }

    /// Somebody connects.
    pub(crate) fn knock(&mut self, listener: usize, socket: u64) {
        let socket = Socket::Simulated(socket);
        self.door.push(Arrival { socket, listener });
    }

    /// Sockets that have been adopted since this was last asked.
    pub(crate) fn adopted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.adopted)
    }

    fn conn(&mut self, socket: u64) -> Option<(u32, &mut Conn)> {
        let id = *self.live.get(&socket)?;
        let conn = self.conns.get_mut(id)?;
        conn.closing.is_none().then_some((id.index, conn))
    }

    /// Bytes arrive, at most a buffer's worth in one piece.
    pub(crate) fn arrive(&mut self, socket: u64, bytes: &[u8]) {
        let piece = self.buffer_bytes;
        if let Some((_, conn)) = self.conn(socket) {
            conn.inbox.extend(bytes.chunks(piece).map(<[u8]>::to_vec));
        }
    }

    /// The peer has sent its last byte.
    pub(crate) fn finish(&mut self, socket: u64) {
        if let Some((_, conn)) = self.conn(socket) {
            conn.finished = true;
        }
    }

    /// The connection breaks; nothing of its output is delivered any more.
    pub(crate) fn reset(&mut self, socket: u64) {
        if let Some((index, _)) = self.conn(socket) {
            self.begin_close(index, Cause::Failed(ECONNRESET));
        }
        if let Some(pipe) = self.pipes.get_mut(&socket) {
            pipe.bytes.clear();
            pipe.closed = true;
        }
    }

    /// Takes up to so many bytes that the server has sent; whether it has closed the connection behind them.
    pub(crate) fn take(&mut self, socket: u64, len_max: usize, into: &mut Vec<u8>) -> bool {
        let Some(pipe) = self.pipes.get_mut(&socket) else {
            return false;
        };
        let len = pipe.bytes.len().min(len_max);
        into.extend(pipe.bytes.drain(..len));
        pipe.closed && pipe.bytes.is_empty()
    }

    /// How many bytes wait to be taken.
    pub(crate) fn waiting_bytes(&self, socket: u64) -> usize {
        self.pipes.get(&socket).map_or(0, |pipe| pipe.bytes.len())
    }

    /// Forgets a socket that is closed on both sides.
    pub(crate) fn forget(&mut self, socket: u64) {
        self.pipes.remove(&socket);
    }
}

impl Driver for Simulated {
    const NAME: &'static str = "simulated";
    const SENDS_IN_WAIT: bool = false;

    fn new(spec: &DriverSpec<'_>) -> io::Result<Self> {
        let spec = (
            spec.buffer_bytes,
            spec.buffer_count,
            spec.accept_per_turn_max,
        );
        Ok(Simulated::with(spec, Now::default()))
    }

    fn listen(&mut self, _number: usize, _listener: Listener) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The world waits instead.
    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn now(&self) -> Now {
        self.now
    }

    fn mono_us(&self) -> u64 {
        self.now.mono_us
    }

    fn greet(&mut self, arrival: &Arrival, is_tcp: bool, _keepalive_s: u32) -> io::Result<Peer> {
        let Socket::Simulated(socket) = arrival.socket else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        if !is_tcp {
            return Ok(Peer::Unix);
        }
        let host = |port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Ok(Peer::Tcp {
            // Every connection has a port of its own for as long as it lives.
            peer: host(1024 + (socket % 60_000) as u16),
            local: host(6379),
        })
    }

    fn gather(&mut self, mono_us: u64, events: &mut Vec<Event>, arrivals: &mut Vec<Arrival>) {
        self.hold_until_us = None;
        self.pending_urgent = false;
        events.append(&mut self.pending);
        let _ = mono_us;
        for index in self.conns.live() {
            if let Some((_, conn)) = self.conns.at(index) {
                conn.fed = false;
            }
            events.extend(self.send_some(index));
        }
        self.receive(events);
        self.end_some(events);
        for index in std::mem::take(&mut self.freed) {
            self.release(index, events);
        }
        self.door.take(arrivals);
    }

    fn adopt(&mut self, arrival: Arrival, peer: Peer, events: &mut Vec<Event>) {
        let Socket::Simulated(socket) = arrival.socket else {
            return;
        };
        let Some(conn) = self.conns.insert(Conn::new(socket)) else {
            return;
        };
        self.live.insert(socket, conn);
        self.adopted.push(socket);
        let pipe = Pipe {
            bytes: VecDeque::new(),
            bytes_max: PIPE_BYTES,
            closed: false,
        };
        self.pipes.insert(socket, pipe);
        events.push(Event::Accepted {
            conn,
            listener: arrival.listener,
            peer,
            fd: 8 + conn.index as i32,
        });
    }

    fn view(&self) -> View<'_> {
        self.arena.view()
    }

    fn recycle(&mut self) {
        self.arena.clear();
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::Send(conn, buffer) => self.send(conn, buffer),
            Op::RecvInto(conn, buffer, len_wanted) => self.recv_into(conn, buffer, len_wanted),
            Op::PauseRecv(conn) => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.paused = true;
                }
            }
            Op::ResumeRecv(conn) => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.paused = false;
                }
            }
            Op::Linger(conn) => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.lingers = true;
                }
            }
            Op::Close(id) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    let ended = conn.finished && conn.inbox.is_empty();
                    let cause = if ended {
                        Cause::PeerClosed
                    } else {
                        Cause::Asked
                    };
                    self.begin_close(id.index, cause);
                }
            }
        }
    }

    fn wake(&mut self, _core: usize, target: &WakePoint) {
        self.tally.kernel_entries += 1;
        if !self.deaf {
            target.ring_bell();
        }
    }

    fn is_ready(&self) -> bool {
        let busy = |conn: &Conn| {
            let pipe = self.pipes.get(&conn.socket);
            let can_send = !conn.out.is_empty() && pipe.is_none_or(|pipe| pipe.room() > 0);
            conn.is_readable() || conn.is_ending() || (conn.closing.is_none() && can_send)
        };
        self.pending_urgent
            || !self.freed.is_empty()
            || !self.door.is_empty()
            || self.conns.iter().any(busy)
    }

    fn due_us(&self) -> Option<u64> {
        self.hold_until_us
    }

    fn is_sending(&self) -> bool {
        let sends = |conn: &Conn| conn.closing.is_none() && !conn.out.is_empty();
        self.conns.iter().any(sends)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// What the kernel holds of one connection's output: little, so that sends go in pieces.
const PIPE_BYTES: usize = 2048;

/// Receiving and sending.
impl Simulated {
    fn receive(&mut self, events: &mut Vec<Event>) {
        let behind = self.live.range(self.last_read + 1..);
        let before = self.live.range(..=self.last_read);
        let order: Vec<(u64, ConnId)> = behind.chain(before).map(|(s, c)| (*s, *c)).collect();
        let mut left = self.reads_max;
        for (socket, id) in order {
            let readable = self
                .conns
                .get_mut(id)
                .is_some_and(|conn| conn.is_readable());
            if left == 0 || !readable {
                continue;
            }
            left -= 1;
            self.last_read = socket;
            self.receive_from(id, events);
        }
    }

    fn receive_from(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        while let Some(mut piece) = conn.inbox.pop_front() {
            if let Some(fill) = &mut conn.fill {
                let taken = fill.copy(&piece);
                self.tally.bytes_in += taken as u64;
                if taken < piece.len() {
                    conn.inbox.push_front(piece.split_off(taken));
                }
                if fill.is_full()
                    && let Some(fill) = conn.fill.take()
                {
                    let buffer = fill.buffer;
                    events.push(Event::Filled { conn: id, buffer });
                    // What follows belongs to the turn after the service has seen it.
                    return;
                }
                continue;
            }
            let span = match self.arena.push(&piece) {
                Some(span) if !conn.paused => span,
                _ => {
                    conn.inbox.push_front(piece);
                    return;
                }
            };
            conn.fed = true;
            self.tally.recvs += 1;
            self.tally.bytes_in += piece.len() as u64;
            events.push(Event::Data { conn: id, span });
        }
    }

    fn recv_into(&mut self, id: ConnId, buffer: Vec<u8>, len_wanted: usize) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        if conn.fill.is_some() {
            return self.begin_close(id.index, Cause::Failed(EBUSY));
        }
        let fill = Fill { buffer, len_wanted };
        if fill.is_full() {
            let buffer = fill.buffer;
            self.pending.push(Event::Filled { conn: id, buffer });
            self.pending_urgent = true;
        } else {
            conn.fill = Some(fill);
        }
    }

    fn send(&mut self, id: ConnId, buffer: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        if !conn.out.is_empty() {
            return self.begin_close(id.index, Cause::Failed(EBUSY));
        }
        if buffer.is_empty() {
            self.pending.push(sent(id, buffer));
            self.pending_urgent = true;
            return;
        }
        let is_small = buffer.len() <= SENT_HOLD_BYTES_MAX;
        conn.out = buffer;
        conn.out_sent = 0;
        if let Some(event) = self.send_some(id.index) {
            self.pending.push(event);
            if is_small {
                let until_us = self.now.mono_us + SENT_HOLD_US_MAX;
                self.hold_until_us.get_or_insert(until_us);
            } else {
                self.pending_urgent = true;
            }
        }
    }

    /// As much as the pipe takes: `Sent` if that was all, `Progress` if something went.
    fn send_some(&mut self, index: u32) -> Option<Event> {
        let (id, conn) = self.conns.at(index)?;
        let pipe = self.pipes.get_mut(&conn.socket)?;
        if conn.out.is_empty() || conn.closing.is_some() {
            return None;
        }
        let rest = conn.out.get(conn.out_sent..)?;
        let len = rest.len().min(pipe.room()).min(SEND_PIECE_BYTES_MAX);
        if len == 0 {
            return None;
        }
        pipe.bytes.extend(rest.get(..len)?);
        conn.out_sent += len;
        self.tally.sends += 1;
        self.tally.bytes_out += len as u64;
        if conn.out_sent == conn.out.len() {
            return Some(sent(id, std::mem::take(&mut conn.out)));
        }
        let sent = conn.out_sent;
        Some(Event::Progress { conn: id, sent })
    }
}

/// Ending.
impl Simulated {
    /// What the peer sent before its end is answered first: told in the turn after the last bytes, acted upon in the next.
    fn end_some(&mut self, events: &mut Vec<Event>) {
        for index in self.conns.live() {
            let Some((id, conn)) = self.conns.at(index) else {
                continue;
            };
            if !conn.is_ending() || conn.fed {
                continue;
            }
            if std::mem::replace(&mut conn.end_told, true) {
                self.begin_close(index, Cause::PeerClosed);
            } else {
                events.push(Event::Ended { conn: id });
            }
        }
    }

    fn begin_close(&mut self, index: u32, cause: Cause) {
        let Some((_, conn)) = self.conns.at(index) else {
            return;
        };
        if conn.closing.is_none() {
            conn.closing = Some(cause);
            self.freed.push(index);
        }
    }

    fn release(&mut self, index: u32, events: &mut Vec<Event>) {
        let Some((id, conn)) = self.conns.at(index) else {
            return;
        };
        let Some(cause) = conn.closing else { return };
        let socket = conn.socket;
        drop(self.conns.remove(index));
        self.live.remove(&socket);
        if let Some(pipe) = self.pipes.get_mut(&socket) {
            pipe.closed = true;
        }
        events.push(Event::Closed { conn: id, cause });
    }
}
