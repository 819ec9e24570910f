#![allow(
    unsafe_code,
    reason = "submits operations whose memory the kernel owns until they complete"
)]
//! Hot path. The io_uring driver: what is in flight per connection, and what each completion means.
//!
//! **Who owns a buffer while the kernel does.** Every operation that carries a pointer points into the connection's
//! own entry of the slab: `out` (a send) or `fill` (a recv_into); the Vec is neither read, grown nor dropped while
//! its operation is in flight (`sending`, `filling`). An entry leaves the slab only when `in_flight`, the number of
//! its operations whose last completion has not been reaped, is zero, and so does its descriptor. A connection that
//! is closed before stays as `closing` until the kernel has let go. When the driver itself goes, it cancels everything
//! and waits; if the kernel will not let go, the memory is leaked rather than freed.
//!
//! **Receiving.** One multishot recv per connection, which takes a buffer of the ring per arrival; it ends when the
//! ring is empty (ENOBUFS), when cancelled, and at the end of the stream, and is armed again after the turn, when all
//! buffers are back. `recv_into` cancels it, copies what still arrives by it, then receives straight into the Vec.
//!
//! **Sending.** A small send is tried once, inside the submitting enter (MSG_DONTWAIT): it has completed when enter
//! has done submitting, so a turn that submits k of them waits for k+1 completions: it sleeps until something *else*
//! happens, and the k completions cost no turn of their own. `due_us` bounds that hold. Larger sends, and what did not
//! fit, wait in the kernel for the socket (MSG_WAITALL) and wake the core when done.
//!
//! **Waiting.** While many connections are busy a wait asks for several arrivals at once (`crowd.rs`).
//!
//! System calls: one enter per turn; per connection getpeername, getsockname and close.

mod completion;
mod crowd;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::buffer::{Fill, View};
use crate::driver::{Door, Driver, DriverSpec, SENT_HOLD_BYTES_MAX, sent};
use crate::mailbox::{Arrival, Socket, WakePoint};
use crate::ring::{GROUP, Ring};
use crate::service::{Cause, ConnId, Event, Op, Peer, Span};
use crate::slab::Slab;
use crate::socket::Listener;
use crate::stats::Tally;
use crate::{SEND_PIECE_BYTES_MAX, SENT_HOLD_US_MAX};
use crowd::Crowd;

/// Waits of [`QUIESCE_WAIT_MS`] for the kernel to let go of everything when the driver ends.
const QUIESCE_ROUNDS_MAX: usize = 200;
/// See [`QUIESCE_ROUNDS_MAX`].
const QUIESCE_WAIT_MS: u64 = 10;

/// What an operation was, in the top byte of its user data; the rest is an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    /// Multishot recv of a connection.
    Recv = 1,
    /// Recv into the connection's fill.
    Fill,
    /// Send of the connection's `out`.
    Send,
    /// Cancellation of a connection's operations.
    Cancel,
    /// Multishot accept of a listener.
    Accept,
    /// Read of the eventfd.
    Bell,
    /// Another core's message: we have been woken.
    Woken,
    /// Our message to another core, which completes only if it failed.
    Wake,
    /// Cancellation of everything.
    CancelAll,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Recv,
        Kind::Fill,
        Kind::Send,
        Kind::Cancel,
        Kind::Accept,
        Kind::Bell,
        Kind::Woken,
        Kind::Wake,
        Kind::CancelAll,
    ];

    fn tag(self, index: u32) -> u64 {
        (self as u64) << 56 | u64::from(index)
    }

    fn of(user_data: u64) -> Option<(Kind, u32)> {
        let number = usize::try_from(user_data >> 56).ok()?;
        let kind = Kind::ALL.get(number.checked_sub(1)?)?;
        Some((*kind, (user_data & u64::from(u32::MAX)) as u32))
    }
}

/// The multishot recv of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RecvState {
    Off,
    Armed,
    Cancelling,
}

struct Conn {
    fd: OwnedFd,
    /// Operations whose last completion has not been reaped. The entry and its buffers live until it is zero.
    in_flight: u16,
    recv: RecvState,
    /// A recv into `fill` is in flight: its Vec is the kernel's.
    filling: bool,
    /// A send of `out` is in flight: its Vec is the kernel's.
    sending: bool,
    /// The service wants no data.
    paused: bool,
    /// The stream has ended; `Closed` follows when what was sent and stashed is through.
    ended: bool,
    /// `Ended` has been told.
    end_told: bool,
    /// The service will close it.
    lingers: bool,
    /// Set once: why the connection is being closed.
    closing: Option<Cause>,
    /// Low bits of the last turn in which data was delivered.
    fed_turn: u32,
    /// Low bits of the last window of [`Crowd`] in which it was counted.
    crowd_window: u16,
    out: Vec<u8>,
    out_sent: usize,
    fill: Option<Box<Fill>>,
    /// Data that came although paused, before the cancellation took hold.
    #[expect(clippy::box_collection, reason = "rarely there: 8 bytes instead of 24")]
    stash: Option<Box<Vec<u8>>>,
}

const _: () = assert!(size_of::<Conn>() <= 100, "many connections are idle");

impl Conn {
    fn new(fd: OwnedFd) -> Conn {
        Conn {
            fd,
            in_flight: 0,
            recv: RecvState::Off,
            filling: false,
            sending: false,
            paused: false,
            ended: false,
            end_told: false,
            lingers: false,
            closing: None,
            fed_turn: 0,
            crowd_window: 0,
            out: Vec::new(),
            out_sent: 0,
            fill: None,
            stash: None,
        }
    }
}

struct Gate {
    listener: Listener,
    armed: bool,
}

/// The io_uring driver of one core.
pub(crate) struct Uring {
    ring: Ring,
    conns: Slab<Conn>,
    gates: Vec<(usize, Gate)>,
    door: Door,
    /// The eventfd of this core, and the memory its read goes to.
    bell_fd: i32,
    bell_word: Box<u64>,
    bell_armed: bool,
    /// Wake points' eventfds of cores to which a message was sent, for when it fails.
    bells: Vec<Option<OwnedFd>>,
    turn: u64,
    /// Buffers to be offered again after the turn.
    used: Vec<u16>,
    /// Connections whose receiving is to be armed after the turn.
    rearm: Vec<u32>,
    /// Connections whose stream has ended, to be closed when through.
    ended: Vec<u32>,
    /// Connections with a stash to deliver.
    stashed: Vec<u32>,
    /// Connections that can leave the slab at the next gather.
    freed: Vec<u32>,
    /// Events made while performing wishes.
    pending: Vec<Event>,
    /// Small sends submitted since the last wait: each completes within it.
    quick: u32,
    /// Sends in flight.
    sending: usize,
    /// Operations in flight, of any kind.
    in_flight: usize,
    accept_rest_until_us: Option<u64>,
    hold_until_us: Option<u64>,
    mono_us: u64,
    crowd: Crowd,
    /// What the service expects of the next wait.
    expected: Option<(u32, Duration)>,
    tally: Tally,
    /// Nothing is in flight and nothing will be: the memory may be freed.
    quiet: bool,
}

impl Driver for Uring {
    const NAME: &'static str = "io_uring";
    const SENDS_IN_WAIT: bool = true;

    fn new(spec: &DriverSpec<'_>) -> io::Result<Uring> {
        let ring = Ring::new(spec.buffer_bytes, spec.buffer_count)?;
        spec.wake.set_ring_fd(Some(ring.fd()));
        Ok(Uring {
            ring,
            conns: Slab::new(),
            gates: Vec::new(),
            door: Door::new(spec.accept_per_turn_max),
            bell_fd: spec.wake.eventfd_raw(),
            bell_word: Box::new(0),
            bell_armed: false,
            bells: Vec::new(),
            turn: crate::clock::turn_seed(),
            used: Vec::new(),
            rearm: Vec::new(),
            ended: Vec::new(),
            stashed: Vec::new(),
            freed: Vec::new(),
            pending: Vec::new(),
            quick: 0,
            sending: 0,
            in_flight: 0,
            accept_rest_until_us: None,
            hold_until_us: None,
            mono_us: 0,
            crowd: Crowd::default(),
            expected: None,
            tally: Tally::default(),
            quiet: false,
        })
    }

    fn listen(&mut self, number: usize, listener: Listener) -> io::Result<()> {
        self.gates.push((
            number,
            Gate {
                listener,
                armed: false,
            },
        ));
        self.arm_accepts();
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.arm_bell();
        let quick = mem::take(&mut self.quick);
        let expected = self.expected.take();
        self.hold_until_us = None;
        // Not to block at all is to want nothing; else the quick sends' completions and one thing more, or, when many
        // connections are busy, several things more for a moment.
        if timeout == Some(Duration::ZERO) {
            return self.ring.enter(0, None);
        }
        match expected.or_else(|| self.crowd.patience()) {
            None => self.ring.enter(quick + 1, timeout),
            Some((count, moment)) => {
                let shorter = timeout.map_or(moment, |timeout| timeout.min(moment));
                self.ring.enter(quick + count, Some(shorter))
            }
        }
    }

    fn expect(&mut self, arrivals: u32, moment: Duration) {
        self.expected = Some((arrivals, moment));
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.enter(0, None)
    }

    fn gather(&mut self, mono_us: u64, events: &mut Vec<Event>, arrivals: &mut Vec<Arrival>) {
        self.turn += 1;
        self.mono_us = mono_us;
        self.crowd.turn(mono_us);
        events.append(&mut self.pending);
        self.deliver_stashes(events);
        while let Some(entry) = self.ring.reap() {
            self.complete(&entry, events);
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
            self.arm_accepts();
        }
        self.door.take(arrivals);
    }

    fn adopt(&mut self, arrival: Arrival, peer: Peer, events: &mut Vec<Event>) {
        let Socket::Kernel(socket) = arrival.socket else {
            return;
        };
        let fd = socket.as_raw_fd();
        if let Some(conn) = self.conns.insert(Conn::new(socket)) {
            events.push(Event::Accepted {
                conn,
                listener: arrival.listener,
                peer,
                fd,
            });
            self.arm_recv(conn.index);
        }
    }

    fn view(&self) -> View<'_> {
        self.ring.view(self.turn)
    }

    fn recycle(&mut self) {
        if !self.used.is_empty() {
            for id in self.used.drain(..) {
                self.ring.offer(id);
            }
            self.ring.publish_offers();
        }
        while let Some(i) = self.rearm.pop() {
            self.arm_recv(i);
        }
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::Send(conn, buffer) => self.send(conn, buffer),
            Op::RecvInto(conn, buffer, len_wanted) => self.recv_into(conn, buffer, len_wanted),
            Op::PauseRecv(conn) => self.pause(conn),
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

    fn wake(&mut self, core: usize, target: &WakePoint) {
        let Some(ring_fd) = target.ring_fd() else {
            self.tally.kernel_entries += 1;
            target.ring_bell();
            return;
        };
        if self.bells.len() <= core {
            self.bells.resize_with(core + 1, || None);
        }
        if self.bells[core].is_none() {
            self.bells[core] = target.eventfd().try_clone().ok();
        }
        let index = u32::try_from(core).unwrap_or(u32::MAX);
        let entry = opcode::MsgRingData::new(Fd(ring_fd), 0, Kind::Woken.tag(0), None)
            .build()
            .flags(io_uring::squeue::Flags::SKIP_SUCCESS)
            .user_data(Kind::Wake.tag(index));
        // SAFETY: the operation points to no memory. A ring that has gone meanwhile fails it.
        unsafe { self.ring.push(entry) }
    }

    fn is_ready(&self) -> bool {
        let lists_empty = self.pending.is_empty()
            && self.ended.is_empty()
            && self.stashed.is_empty()
            && self.freed.is_empty();
        !lists_empty || !self.door.is_empty()
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
        self.tally.kernel_entries += mem::take(&mut self.ring.kernel_entries);
        &mut self.tally
    }
}

/// Wishes.
impl Uring {
    fn send(&mut self, id: ConnId, buffer: Vec<u8>) {
        self.crowd.answers(self.mono_us);
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        debug_assert!(conn.out.is_empty(), "one send at a time");
        if buffer.is_empty() {
            self.pending.push(sent(id, buffer));
            return;
        }
        if !conn.out.is_empty() {
            self.begin_close(id.index, Cause::Failed(Errno::BUSY.raw_os_error()));
            return;
        }
        conn.out = buffer;
        conn.out_sent = 0;
        let is_quick = conn.out.len() <= SENT_HOLD_BYTES_MAX;
        self.push_send(id.index, is_quick);
    }

    fn push_send(&mut self, i: u32, is_quick: bool) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        let Some(rest) = conn.out.get(conn.out_sent..) else {
            return;
        };
        let len = rest.len().min(SEND_PIECE_BYTES_MAX);
        let mut flags = SendFlags::NOSIGNAL | WAIT_ALL;
        if is_quick {
            flags |= SendFlags::DONTWAIT;
        }
        let entry = opcode::Send::new(Fd(conn.fd.as_raw_fd()), rest.as_ptr(), len as u32)
            .flags(flags.bits() as i32)
            .build()
            .user_data(Kind::Send.tag(i));
        conn.sending = true;
        conn.in_flight += 1;
        self.in_flight += 1;
        self.sending += 1;
        if is_quick {
            self.quick += 1;
            self.hold_until_us
                .get_or_insert(self.mono_us + SENT_HOLD_US_MAX);
        }
        // SAFETY: `rest` is the heap memory of `conn.out`, which stays untouched while `sending` is set and in the
        // slab while `in_flight` counts this operation.
        unsafe { self.ring.push(entry) }
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
        let mut fill = Fill { buffer, len_wanted };
        if let Some(stash) = &mut conn.stash {
            let taken = fill.copy(stash);
            stash.drain(..taken);
            if stash.is_empty() {
                conn.stash = None;
            }
        }
        if fill.is_full() {
            self.pending.push(Event::Filled {
                conn: id,
                buffer: fill.buffer,
            });
            return;
        }
        conn.fill = Some(Box::new(fill));
        match conn.recv {
            RecvState::Armed => self.cancel_recv(id.index),
            RecvState::Off => self.arm_recv(id.index),
            RecvState::Cancelling => {}
        }
    }

    fn pause(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        conn.paused = true;
        if conn.recv == RecvState::Armed && conn.fill.is_none() {
            self.cancel_recv(id.index);
        }
    }

    fn resume(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        if !mem::replace(&mut conn.paused, false) {
            return;
        }
        if conn.ended {
            self.ended.push(id.index);
        }
        if conn.stash.is_some() {
            self.stashed.push(id.index);
        }
        self.arm_recv(id.index);
    }
}

/// Arming, ending, closing.
impl Uring {
    /// Starts whichever receive the connection is due, unless one is under way.
    fn arm_recv(&mut self, i: u32) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        if conn.closing.is_some() || conn.ended || conn.filling || conn.recv != RecvState::Off {
            return;
        }
        let fd = Fd(conn.fd.as_raw_fd());
        let entry = if let Some(fill) = &mut conn.fill {
            let (room, len) = fill.room();
            let len = len.min(i32::MAX as usize) as u32;
            conn.filling = true;
            let flags = RecvFlags::WAITALL.bits() as i32;
            opcode::Recv::new(fd, room, len)
                .flags(flags)
                .build()
                .user_data(Kind::Fill.tag(i))
        } else if conn.paused {
            return;
        } else {
            conn.recv = RecvState::Armed;
            opcode::RecvMulti::new(fd, GROUP)
                .build()
                .user_data(Kind::Recv.tag(i))
        };
        conn.in_flight += 1;
        self.in_flight += 1;
        // SAFETY: the multishot recv takes its memory from the registered buffers. The other points into the fill's
        // Vec, which stays untouched while `filling` is set and in the slab while `in_flight` counts this operation.
        unsafe { self.ring.push(entry) }
    }

    /// Asks the kernel to end the multishot recv; its last completion arms what is due then.
    fn cancel_recv(&mut self, i: u32) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        conn.recv = RecvState::Cancelling;
        self.push_cancel(i, CancelBuilder::user_data(Kind::Recv.tag(i)));
    }

    fn push_cancel(&mut self, i: u32, what: CancelBuilder) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        conn.in_flight += 1;
        self.in_flight += 1;
        let entry = opcode::AsyncCancel2::new(what)
            .build()
            .user_data(Kind::Cancel.tag(i));
        // SAFETY: the operation points to no memory.
        unsafe { self.ring.push(entry) }
    }

    fn arm_accepts(&mut self) {
        for (i, (_, gate)) in (0u32..).zip(&mut self.gates) {
            if mem::replace(&mut gate.armed, true) {
                continue;
            }
            let entry = opcode::AcceptMulti::new(Fd(gate.listener.as_raw_fd()))
                .flags(SocketFlags::CLOEXEC.bits() as i32)
                .build()
                .user_data(Kind::Accept.tag(i));
            self.in_flight += 1;
            // SAFETY: the operation points to no memory.
            unsafe { self.ring.push(entry) }
        }
    }

    fn arm_bell(&mut self) {
        if mem::replace(&mut self.bell_armed, true) {
            return;
        }
        self.in_flight += 1;
        let word = (&raw mut *self.bell_word).cast::<u8>();
        let entry = opcode::Read::new(Fd(self.bell_fd), word, size_of::<u64>() as u32)
            .build()
            .user_data(Kind::Bell.tag(0));
        // SAFETY: the boxed word lives as long as the driver, which frees it only when quiet; nobody reads it.
        unsafe { self.ring.push(entry) }
    }

    /// The peer has sent its last byte. What it sent before is answered first: `Closed` comes when no send is under
    /// way and all its data has been seen for a turn.
    fn end(&mut self, i: u32) {
        if let Some((_, conn)) = self.conns.at(i) {
            conn.ended = true;
            self.ended.push(i);
        }
    }

    fn close_ended(&mut self, events: &mut Vec<Event>) {
        let turn = self.turn as u32;
        for i in mem::take(&mut self.ended) {
            let Some((id, conn)) = self.conns.at(i) else {
                continue;
            };
            if conn.closing.is_some() || !conn.ended {
                continue;
            }
            // Both come back here: the send when it has ended, the pause with resume.
            let is_waiting = conn.sending || (conn.paused && conn.stash.is_some());
            if is_waiting {
                continue;
            }
            if conn.fed_turn == turn || conn.stash.is_some() {
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

    fn deliver_stashes(&mut self, events: &mut Vec<Event>) {
        let mut scratch = 0;
        for i in mem::take(&mut self.stashed) {
            while let Some((id, conn)) = self.conns.at(i) {
                if conn.closing.is_some() || conn.paused {
                    break;
                }
                let Some(stash) = &mut conn.stash else { break };
                let Some((start, len)) = self.ring.scratch(scratch, stash) else {
                    self.stashed.push(i);
                    break;
                };
                scratch += 1;
                stash.drain(..len);
                if stash.is_empty() {
                    conn.stash = None;
                }
                conn.fed_turn = self.turn as u32;
                let span = Span {
                    pool: self.ring.pool(),
                    turn: self.turn,
                    start,
                    len: len as u32,
                };
                events.push(Event::Data { conn: id, span });
            }
        }
    }

    /// No more events for the service but `Closed`; cancels what is in flight and waits for the kernel to let go.
    fn begin_close(&mut self, i: u32, cause: Cause) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        if conn.closing.is_some() {
            return;
        }
        conn.closing = Some(cause);
        if conn.in_flight == 0 {
            self.freed.push(i);
            return;
        }
        let fd = Fd(conn.fd.as_raw_fd());
        self.push_cancel(i, CancelBuilder::fd(fd).all());
    }

    /// The last step: nothing is in flight.
    fn release(&mut self, i: u32, events: &mut Vec<Event>) {
        let Some((id, conn)) = self.conns.at(i) else {
            return;
        };
        let Some(cause) = conn.closing.filter(|_| conn.in_flight == 0) else {
            return;
        };
        self.tally.kernel_entries += 1;
        drop(self.conns.remove(i));
        events.push(Event::Closed { conn: id, cause });
    }

    /// Cancels everything and waits until nothing is in flight; false if the kernel would not let go.
    fn quiesce(&mut self) -> bool {
        for i in self.conns.live() {
            self.begin_close(i, Cause::Asked);
        }
        let mut events = Vec::new();
        for round in 0..QUIESCE_ROUNDS_MAX {
            if self.in_flight == 0 {
                return true;
            }
            if round % 10 == 0 {
                self.in_flight += 1;
                let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
                // SAFETY: the operation points to no memory.
                unsafe { self.ring.push(entry.user_data(Kind::CancelAll.tag(0))) }
            }
            if self
                .ring
                .enter(1, Some(Duration::from_millis(QUIESCE_WAIT_MS)))
                .is_err()
            {
                return false;
            }
            while let Some(entry) = self.ring.reap() {
                self.complete(&entry, &mut events);
            }
            events.clear();
        }
        self.in_flight == 0
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.quiet = self.quiesce();
        if !self.quiet {
            // The kernel still owns memory of ours: it must never be used for anything else.
            mem::forget(mem::replace(&mut self.conns, Slab::new()));
            mem::forget(mem::replace(&mut self.bell_word, Box::new(0)));
            self.ring.leak_memory();
        }
    }
}

/// MSG_WAITALL, which rustix has for recv only: the kernel goes on until all is sent, or fails.
const WAIT_ALL: SendFlags = SendFlags::from_bits_retain(RecvFlags::WAITALL.bits());
