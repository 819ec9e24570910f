#![allow(
    unsafe_code,
    reason = "receives into uninitialised spare capacity and hands out views of the arena"
)]
//! Hot path. The epoll driver: the same behaviour as the io_uring one, where that is not allowed.
//!
//! Every connection is registered once, edge-triggered, for reading and writing; what is readable or writable is
//! remembered here, so no registration is ever changed. A turn receives once from each readable connection (a recv
//! that does not fill its room has emptied the socket, so there is no second one to be told EAGAIN), and those that
//! have more wait for the next turn behind the others. Sends are tried when asked and continued on the writable edge.
//!
//! Received bytes lie densely in an arena that starts again from the front each turn; there are no buffers per
//! connection, and a hot small arena stays in the cache.
//!
//! System calls: one epoll_wait per turn, one recv and one send per connection served.

use std::collections::VecDeque;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags};

use crate::buffer::{Fill, Region, View};
use crate::driver::{ACCEPT_REST_US, Door, Driver, DriverSpec, SENT_HOLD_BYTES_MAX, sent};
use crate::mailbox::{Arrival, Socket, WakePoint};
use crate::service::{Cause, ConnId, Event, Op, Peer, Span};
use crate::slab::Slab;
use crate::socket::Listener;
use crate::stats::Tally;
use crate::{SEND_PIECE_BYTES_MAX, SENT_HOLD_US_MAX};

/// Readiness reports taken by one epoll_wait; more wait for the next turn.
const REPORTS_MAX: usize = 1024;
/// Bytes of one fill received per turn, so that a large value does not starve the others.
const FILL_PER_TURN_BYTES: usize = 1 << 20;
/// Alignment of spans in the arena: a cache line.
const SPAN_ALIGN: usize = 64;
/// Event data of the bell; connections carry index and generation, listeners this high half and their number.
const BELL: u64 = u64::MAX;
/// See [`BELL`]. As a generation it is skipped for practical purposes: 2^32 - 2 uses of one index.
const GATE_HIGH: u64 = (u32::MAX as u64 - 1) << 32;

struct Conn {
    fd: OwnedFd,
    /// The edge said so, and no recv has proved the contrary.
    readable: bool,
    /// In the queue `readable`.
    queued: bool,
    /// The peer has finished sending: read until the end shows.
    hung_up: bool,
    /// The last send did not take everything: wait for the edge.
    blocked: bool,
    /// In the queue `writing`.
    writing: bool,
    paused: bool,
    ended: bool,
    /// `Ended` has been told.
    end_told: bool,
    /// The service will close it.
    lingers: bool,
    closing: Option<Cause>,
    fed_turn: u32,
    out: Vec<u8>,
    out_sent: usize,
    fill: Option<Box<Fill>>,
}

const _: () = assert!(size_of::<Conn>() <= 100, "many connections are idle");

struct Gate {
    number: usize,
    listener: Listener,
    /// Registered; not so while it rests.
    watched: bool,
}

/// The epoll driver of one core.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    conns: Slab<Conn>,
    gates: Vec<Gate>,
    door: Door,
    reports: Vec<epoll::Event>,
    arena: Region,
    arena_used: usize,
    buffer_bytes: usize,
    turn: u64,
    /// Connections to receive from, in turn.
    readable: VecDeque<u32>,
    /// Connections whose large send goes on.
    writing: VecDeque<u32>,
    ended: Vec<u32>,
    freed: Vec<u32>,
    /// Events made while performing wishes: those that may be held back, and whether any may not.
    pending: Vec<Event>,
    pending_urgent: bool,
    sending: usize,
    accept_rest_until_us: Option<u64>,
    hold_until_us: Option<u64>,
    mono_us: u64,
    tally: Tally,
}

impl Driver for Epoll {
    const NAME: &'static str = "epoll";
    const SENDS_IN_WAIT: bool = false;

    fn new(spec: &DriverSpec<'_>) -> io::Result<Epoll> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Edge-triggered, so every ring of the bell is one report and the counter need never be read.
        epoll::add(
            &epoll,
            spec.wake.eventfd(),
            EventData::new_u64(BELL),
            EventFlags::IN | EventFlags::ET,
        )?;
        let out_of_range = || io::Error::new(io::ErrorKind::InvalidInput, "receive pool too large");
        let bytes = spec
            .buffer_bytes
            .checked_mul(spec.buffer_count)
            .ok_or_else(out_of_range)?;
        if u32::try_from(bytes).is_err() {
            return Err(out_of_range());
        }
        Ok(Epoll {
            epoll,
            conns: Slab::new(),
            gates: Vec::new(),
            door: Door::new(spec.accept_per_turn_max),
            reports: Vec::with_capacity(REPORTS_MAX),
            arena: Region::new(bytes).ok_or_else(out_of_range)?,
            arena_used: 0,
            buffer_bytes: spec.buffer_bytes,
            turn: crate::clock::turn_seed(),
            readable: VecDeque::new(),
            writing: VecDeque::new(),
            ended: Vec::new(),
            freed: Vec::new(),
            pending: Vec::new(),
            pending_urgent: false,
            sending: 0,
            accept_rest_until_us: None,
            hold_until_us: None,
            mono_us: 0,
            tally: Tally::default(),
        })
    }

    fn listen(&mut self, number: usize, listener: Listener) -> io::Result<()> {
        self.gates.push(Gate {
            number,
            listener,
            watched: false,
        });
        self.watch_gates()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timespec = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        self.tally.kernel_entries += 1;
        self.reports.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.reports),
            timespec.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(()) // everything was done when it was asked
    }

    fn gather(&mut self, mono_us: u64, events: &mut Vec<Event>, arrivals: &mut Vec<Arrival>) {
        self.turn += 1;
        self.mono_us = mono_us;
        self.hold_until_us = None;
        self.pending_urgent = false;
        events.append(&mut self.pending);
        for n in 0..self.reports.len() {
            let report = self.reports[n];
            self.note(report.data.u64(), report.flags);
        }
        self.reports.clear();
        for _ in 0..self.writing.len() {
            let Some(i) = self.writing.pop_front() else {
                break;
            };
            self.go_on_sending(i, events);
        }
        for _ in 0..self.readable.len() {
            let Some(i) = self.readable.pop_front() else {
                break;
            };
            self.receive(i, events);
        }
        self.close_ended(events);
        for i in mem::take(&mut self.freed) {
            self.release(i, events);
        }
        if self
            .accept_rest_until_us
            .is_some_and(|until_us| mono_us >= until_us)
        {
            self.accept_rest_until_us = None;
            if self.watch_gates().is_err() {
                self.accept_rest_until_us = Some(mono_us + ACCEPT_REST_US);
            }
        }
        self.door.take(arrivals);
    }

    fn adopt(&mut self, arrival: Arrival, peer: Peer, events: &mut Vec<Event>) {
        let Socket::Kernel(fd) = arrival.socket else {
            return;
        };
        let conn = Conn {
            fd,
            readable: false,
            queued: false,
            hung_up: false,
            blocked: false,
            writing: false,
            paused: false,
            ended: false,
            end_told: false,
            lingers: false,
            closing: None,
            fed_turn: 0,
            out: Vec::new(),
            out_sent: 0,
            fill: None,
        };
        let Some(id) = self.conns.insert(conn) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        events.push(Event::Accepted {
            conn: id,
            listener: arrival.listener,
            peer,
            fd: conn.fd.as_raw_fd(),
        });
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.tally.kernel_entries += 1;
        // The first edge comes at once if there is data already.
        if let Err(errno) = epoll::add(
            &self.epoll,
            &conn.fd,
            EventData::new_u64(id.to_u64()),
            flags,
        ) {
            self.begin_close(id.index, Cause::Failed(errno.raw_os_error()));
        }
    }

    fn view(&self) -> View<'_> {
        // SAFETY: (1) the arena is initialised (zeroed at birth) and lives as long as `self`; (2) it is written only
        // by `receive`, which needs `&mut self`, after `recycle` has ended the turn or behind all spans given out.
        unsafe { View::new(self.arena.base().as_ptr(), self.arena.bytes(), self.turn) }
    }

    fn recycle(&mut self) {
        self.arena_used = 0;
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
            Op::ResumeRecv(conn) => self.resume(conn),
            Op::Linger(conn) => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.lingers = true;
                }
            }
            Op::Close(id) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    let cause = if conn.ended {
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
        target.ring_bell();
    }

    fn is_ready(&self) -> bool {
        let lists_empty = self.readable.is_empty()
            && self.writing.is_empty()
            && self.ended.is_empty()
            && self.freed.is_empty();
        self.pending_urgent || !lists_empty || !self.door.is_empty()
    }

    fn due_us(&self) -> Option<u64> {
        match (self.accept_rest_until_us, self.hold_until_us) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn is_sending(&self) -> bool {
        self.sending > 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// What the kernel reports.
impl Epoll {
    fn note(&mut self, data: u64, flags: EventFlags) {
        if data == BELL {
            return;
        }
        if data & GATE_HIGH == GATE_HIGH {
            self.accept(data & u64::from(u32::MAX));
            return;
        }
        let id = ConnId::from_u64(data);
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        let is_over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if is_over || flags.contains(EventFlags::RDHUP) {
            conn.hung_up = true;
        }
        if is_over || flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
            conn.readable = true;
            self.queue_recv(id.index);
        }
        if is_over || flags.contains(EventFlags::OUT) {
            self.queue_send(id.index);
        }
    }

    fn queue_recv(&mut self, i: u32) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        let is_wanted = conn.fill.is_some() || !conn.paused;
        if conn.readable && is_wanted && !conn.ended && !mem::replace(&mut conn.queued, true) {
            self.readable.push_back(i);
        }
    }

    fn queue_send(&mut self, i: u32) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        if mem::replace(&mut conn.blocked, false) && !mem::replace(&mut conn.writing, true) {
            self.writing.push_back(i);
        }
    }

    /// Level-triggered: what the budget leaves is reported again by the next wait.
    fn accept(&mut self, gate: u64) {
        let Some(gate) = usize::try_from(gate)
            .ok()
            .and_then(|i| self.gates.get_mut(i))
        else {
            return;
        };
        for _ in 0..self.door.per_turn_max() {
            self.tally.kernel_entries += 1;
            match net::accept_with(&gate.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => self.door.push(Arrival {
                    socket: Socket::Kernel(fd),
                    listener: gate.number,
                }),
                Err(Errno::AGAIN) => break,
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(_) => {
                    // Out of descriptors or memory: the listener would be reported without end, so it rests.
                    self.tally.kernel_entries += 1;
                    if epoll::delete(&self.epoll, &gate.listener).is_ok() {
                        gate.watched = false;
                        self.accept_rest_until_us = Some(self.mono_us + ACCEPT_REST_US);
                    }
                    break;
                }
            }
        }
    }

    fn watch_gates(&mut self) -> io::Result<()> {
        for (i, gate) in (0u64..).zip(&mut self.gates) {
            if !gate.watched {
                self.tally.kernel_entries += 1;
                epoll::add(
                    &self.epoll,
                    &gate.listener,
                    EventData::new_u64(GATE_HIGH | i),
                    EventFlags::IN,
                )?;
                gate.watched = true;
            }
        }
        Ok(())
    }
}

/// Receiving.
impl Epoll {
    fn receive(&mut self, i: u32, events: &mut Vec<Event>) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        conn.queued = false;
        if conn.closing.is_some() || conn.ended || !conn.readable {
            return;
        }
        if conn.fill.is_some() {
            self.receive_fill(i, events);
        } else if !conn.paused {
            self.receive_data(i, events);
        }
    }

    #[inline]
    fn receive_data(&mut self, i: u32, events: &mut Vec<Event>) {
        let start = self.arena_used;
        let room = self.buffer_bytes;
        if start + room > self.arena.bytes() {
            // The arena is full for this turn; the connection keeps its place for the next.
            self.queue_recv(i);
            return;
        }
        let Some((id, conn)) = self.conns.at(i) else {
            return;
        };
        // SAFETY: in bounds of the arena (just checked) and initialised; the spans of this turn end before `start`,
        // and `&mut self` means that no view is out.
        let target =
            unsafe { std::slice::from_raw_parts_mut(self.arena.base().as_ptr().add(start), room) };
        self.tally.kernel_entries += 1;
        let result = net::recv(&conn.fd, target, RecvFlags::DONTWAIT).map(|(n, _)| n);
        if let Ok(n @ 1..) = result {
            self.arena_used = (start + n).next_multiple_of(SPAN_ALIGN);
            self.tally.recvs += 1;
            self.tally.bytes_in += n as u64;
            conn.fed_turn = self.turn as u32;
            // INVARIANT: the arena is under 4 GiB (checked in `new`).
            let (start, len) = (start as u32, n as u32);
            let span = Span {
                pool: self.arena.base().as_ptr() as usize,
                turn: self.turn,
                start,
                len,
            };
            events.push(Event::Data { conn: id, span });
        }
        self.received(i, result, room);
    }

    fn receive_fill(&mut self, i: u32, events: &mut Vec<Event>) {
        let mut budget = FILL_PER_TURN_BYTES;
        loop {
            let Some((id, conn)) = self.conns.at(i) else {
                return;
            };
            let Some(fill) = &mut conn.fill else { return };
            let (room, len) = fill.room();
            // SAFETY: the room is spare capacity of the fill's own Vec, valid for writes while `fill` is untouched.
            let target =
                unsafe { std::slice::from_raw_parts_mut(room.cast::<MaybeUninit<u8>>(), len) };
            self.tally.kernel_entries += 1;
            let result = net::recv(&conn.fd, target, RecvFlags::DONTWAIT).map(|(_, n)| n);
            let n = result.unwrap_or(0);
            if n > 0 {
                // SAFETY: (1) n is at most the room's length, and nothing was called between; (2) recv wrote them.
                unsafe { fill.filled(n) }
                self.tally.recvs += 1;
                self.tally.bytes_in += n as u64;
            }
            let is_full = fill.is_full();
            if is_full && let Some(fill) = conn.fill.take() {
                events.push(Event::Filled {
                    conn: id,
                    buffer: fill.buffer,
                });
            }
            budget = budget.saturating_sub(n);
            if is_full || n < len || budget == 0 {
                self.received(i, result, len);
                return;
            }
        }
    }

    /// After a recv: is there more, is it the end, or an error?
    #[inline]
    fn received(&mut self, i: u32, result: Result<usize, Errno>, room: usize) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        match result {
            Ok(0) => {
                conn.ended = true;
                self.ended.push(i);
            }
            Ok(n) => {
                conn.readable = n == room || conn.hung_up;
                self.queue_recv(i);
            }
            Err(Errno::AGAIN) => conn.readable = false,
            Err(Errno::INTR) => self.queue_recv(i),
            Err(errno) => self.begin_close(i, Cause::Failed(errno.raw_os_error())),
        }
    }

    fn recv_into(&mut self, id: ConnId, buffer: Vec<u8>, len_wanted: usize) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        debug_assert!(conn.fill.is_none(), "one recv_into at a time");
        if conn.fill.is_some() {
            self.begin_close(id.index, Cause::Failed(Errno::BUSY.raw_os_error()));
            return;
        }
        let fill = Fill { buffer, len_wanted };
        if fill.is_full() {
            self.pending.push(Event::Filled {
                conn: id,
                buffer: fill.buffer,
            });
            self.pending_urgent = true;
            return;
        }
        conn.fill = Some(Box::new(fill));
        self.queue_recv(id.index);
    }

    fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && mem::replace(&mut conn.paused, false)
        {
            self.queue_recv(id.index);
        }
    }
}

/// Sending.
impl Epoll {
    fn send(&mut self, id: ConnId, buffer: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        debug_assert!(conn.out.is_empty(), "one send at a time");
        if buffer.is_empty() {
            self.pending.push(sent(id, buffer));
            self.pending_urgent = true;
            return;
        }
        if !conn.out.is_empty() {
            self.begin_close(id.index, Cause::Failed(Errno::BUSY.raw_os_error()));
            return;
        }
        conn.out = buffer;
        conn.out_sent = 0;
        let is_small = conn.out.len() <= SENT_HOLD_BYTES_MAX;
        self.sending += 1;
        if let Some(event) = self.send_some(id.index) {
            self.pending.push(event);
            if is_small {
                self.hold_until_us
                    .get_or_insert(self.mono_us + SENT_HOLD_US_MAX);
            } else {
                self.pending_urgent = true;
            }
        }
    }

    fn go_on_sending(&mut self, i: u32, events: &mut Vec<Event>) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        conn.writing = false;
        if conn.closing.is_none() && !conn.out.is_empty() {
            events.extend(self.send_some(i));
        }
    }

    /// One send of at most a piece: `Sent` if that was all, `Progress` if something went.
    fn send_some(&mut self, i: u32) -> Option<Event> {
        let (id, conn) = self.conns.at(i)?;
        let rest = conn.out.get(conn.out_sent..)?;
        let piece = rest.get(..rest.len().min(SEND_PIECE_BYTES_MAX))?;
        self.tally.kernel_entries += 1;
        match net::send(&conn.fd, piece, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(n) => {
                conn.blocked = n < piece.len();
                conn.out_sent += n;
                self.tally.sends += 1;
                self.tally.bytes_out += n as u64;
                if conn.out_sent == conn.out.len() {
                    self.sending -= 1;
                    if conn.ended {
                        self.ended.push(i);
                    }
                    return Some(sent(id, mem::take(&mut conn.out)));
                }
                let progress = Event::Progress {
                    conn: id,
                    sent: conn.out_sent,
                };
                self.requeue_send(i);
                Some(progress)
            }
            Err(Errno::AGAIN) => {
                conn.blocked = true;
                None
            }
            Err(Errno::INTR) => {
                self.requeue_send(i);
                None
            }
            Err(errno) => {
                self.begin_close(i, Cause::Failed(errno.raw_os_error()));
                None
            }
        }
    }

    /// More next turn, unless the socket is full: then on the edge.
    fn requeue_send(&mut self, i: u32) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        if !conn.blocked && !mem::replace(&mut conn.writing, true) {
            self.writing.push_back(i);
        }
    }
}

/// Ending.
impl Epoll {
    /// See the io_uring driver: what the peer sent before its end is answered first.
    fn close_ended(&mut self, events: &mut Vec<Event>) {
        let turn = self.turn as u32;
        for i in mem::take(&mut self.ended) {
            let Some((id, conn)) = self.conns.at(i) else {
                continue;
            };
            if conn.closing.is_some() || !conn.ended || !conn.out.is_empty() {
                continue;
            }
            if conn.fed_turn == turn {
                self.ended.push(i);
                continue;
            }
            if conn.lingers {
                continue;
            }
            if mem::replace(&mut conn.end_told, true) {
                self.begin_close(i, Cause::PeerClosed);
            } else {
                events.push(Event::Ended { conn: id });
                self.ended.push(i);
            }
        }
    }

    fn begin_close(&mut self, i: u32, cause: Cause) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        if conn.closing.is_some() {
            return;
        }
        conn.closing = Some(cause);
        if !conn.out.is_empty() {
            self.sending -= 1;
        }
        self.freed.push(i);
    }

    fn release(&mut self, i: u32, events: &mut Vec<Event>) {
        let Some((id, conn)) = self.conns.at(i) else {
            return;
        };
        let Some(cause) = conn.closing else { return };
        self.tally.kernel_entries += 1;
        // Closing the only descriptor of the socket takes it out of the epoll set.
        drop(self.conns.remove(i));
        events.push(Event::Closed { conn: id, cause });
    }
}
