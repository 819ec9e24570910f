#![allow(
    unsafe_code,
    reason = "takes over what the kernel made: descriptors and written memory"
)]
//! Hot path. What each completion means. The rules of ownership are at the head of `uring.rs`.

use std::mem;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;
use rustix::io::Errno;

use super::{Kind, RecvState, Uring};
use crate::driver::{ACCEPT_REST_US, sent};
use crate::mailbox::{Arrival, Socket};
use crate::service::{Cause, Event, Span};

impl Uring {
    #[inline]
    pub(super) fn complete(&mut self, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let (result, flags) = (entry.result(), entry.flags());
        let Some((kind, i)) = Kind::of(entry.user_data()) else {
            return;
        };
        let is_last = !cqueue::more(flags);
        if is_last && !matches!(kind, Kind::Woken | Kind::Wake) {
            self.in_flight -= 1;
        }
        match kind {
            Kind::Recv => self.recv_done(i, result, flags, events),
            Kind::Send => self.send_done(i, result, events),
            Kind::Fill => self.fill_done(i, result, events),
            Kind::Cancel => self.op_done(i),
            Kind::Accept => self.accept_done(i, result, is_last),
            Kind::Bell => self.bell_armed = false,
            Kind::Wake => self.wake_failed(i),
            Kind::Woken | Kind::CancelAll => {}
        }
    }

    /// One operation of a connection has ended; a closing connection may be free now.
    fn op_done(&mut self, i: u32) {
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        conn.in_flight -= 1;
        if conn.in_flight == 0 && conn.closing.is_some() {
            self.freed.push(i);
        }
    }

    fn recv_done(&mut self, i: u32, result: i32, flags: u32, events: &mut Vec<Event>) {
        let buffer_id = cqueue::buffer_select(flags);
        if let Some(id) = buffer_id {
            self.used.push(id);
        }
        if let (Ok(len @ 1..), Some(id)) = (u32::try_from(result), buffer_id) {
            self.tally.recvs += 1;
            self.tally.bytes_in += u64::from(len);
            self.arrived(i, self.ring.start_of(id), len, events);
        }
        if cqueue::more(flags) {
            return;
        }
        let Some((_, conn)) = self.conns.at(i) else {
            return;
        };
        conn.recv = RecvState::Off;
        let closing = conn.closing.is_some();
        self.op_done(i);
        if closing {
            return;
        }
        match errno(result) {
            None if result == 0 => self.end(i),
            None | Some(Errno::NOBUFS | Errno::CANCELED | Errno::INTR | Errno::AGAIN) => {
                self.rearm.push(i)
            }
            Some(errno) => self.begin_close(i, Cause::Failed(errno.raw_os_error())),
        }
    }

    /// Bytes in a pool buffer: into the fill, onto the stash, or to the service.
    #[inline]
    fn arrived(&mut self, i: u32, mut start: u32, mut len: u32, events: &mut Vec<Event>) {
        let Some((id, conn)) = self.conns.at(i) else {
            return;
        };
        if conn.closing.is_some() {
            return;
        }
        if conn.stash.is_some() || (conn.paused && conn.fill.is_none()) {
            let bytes = self.ring.received(start, len as usize);
            conn.stash.get_or_insert_default().extend_from_slice(bytes);
            return;
        }
        if let Some(fill) = &mut conn.fill {
            let taken = fill.copy(self.ring.received(start, len as usize)) as u32;
            if fill.is_full()
                && let Some(fill) = conn.fill.take()
            {
                events.push(Event::Filled {
                    conn: id,
                    buffer: fill.buffer,
                });
            }
            (start, len) = (start + taken, len - taken);
            if len == 0 {
                return;
            }
            if conn.paused {
                let rest = self.ring.received(start, len as usize);
                conn.stash.get_or_insert_default().extend_from_slice(rest);
                return;
            }
        }
        conn.fed_turn = self.turn as u32;
        self.crowd.saw(&mut conn.crowd_window);
        let span = Span {
            pool: self.ring.pool(),
            turn: self.turn,
            start,
            len,
        };
        events.push(Event::Data { conn: id, span });
    }

    fn fill_done(&mut self, i: u32, result: i32, events: &mut Vec<Event>) {
        let Some((id, conn)) = self.conns.at(i) else {
            return;
        };
        conn.filling = false;
        let closing = conn.closing.is_some();
        if let (Ok(n @ 1..), Some(fill)) = (usize::try_from(result), &mut conn.fill) {
            // SAFETY: (1) the operation was given the fill's room, and nobody has touched the fill since, as
            // `filling` was set; (2) the kernel reports that it wrote n bytes.
            unsafe { fill.filled(n) }
            self.tally.recvs += 1;
            self.tally.bytes_in += n as u64;
            if fill.is_full()
                && !closing
                && let Some(fill) = conn.fill.take()
            {
                events.push(Event::Filled {
                    conn: id,
                    buffer: fill.buffer,
                });
            }
        }
        self.op_done(i);
        if closing {
            return;
        }
        match errno(result) {
            None if result == 0 => self.end(i),
            None | Some(Errno::CANCELED | Errno::INTR | Errno::AGAIN) => self.rearm.push(i),
            Some(errno) => self.begin_close(i, Cause::Failed(errno.raw_os_error())),
        }
    }

    fn send_done(&mut self, i: u32, result: i32, events: &mut Vec<Event>) {
        self.sending -= 1;
        let Some((id, conn)) = self.conns.at(i) else {
            return;
        };
        conn.sending = false;
        if let Ok(n @ 1..) = usize::try_from(result) {
            self.tally.sends += 1;
            self.tally.bytes_out += n as u64;
            conn.out_sent += n;
        }
        let (closing, ended) = (conn.closing.is_some(), conn.ended);
        let is_through = conn.out_sent >= conn.out.len();
        if is_through && !closing {
            events.push(sent(id, mem::take(&mut conn.out)));
        }
        let progress = Event::Progress {
            conn: id,
            sent: conn.out_sent,
        };
        self.op_done(i);
        if closing {
            return;
        }
        if is_through {
            if ended {
                self.ended.push(i);
            }
            return;
        }
        match errno(result) {
            None if result > 0 => {
                events.push(progress);
                self.push_send(i, false);
            }
            Some(Errno::AGAIN | Errno::INTR) => self.push_send(i, false),
            // A send that takes nothing and says nothing would be tried for ever.
            None => self.begin_close(i, Cause::Failed(Errno::PIPE.raw_os_error())),
            Some(errno) => self.begin_close(i, Cause::Failed(errno.raw_os_error())),
        }
    }

    fn accept_done(&mut self, i: u32, result: i32, is_last: bool) {
        let Some((number, gate)) = self.gates.get_mut(i as usize) else {
            return;
        };
        if is_last {
            gate.armed = false;
        }
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            self.door.push(Arrival {
                socket: Socket::Kernel(fd),
                listener: *number,
            });
        }
        if !is_last {
            return;
        }
        match errno(result) {
            None | Some(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN) => self.arm_accepts(),
            // Out of descriptors or memory: a retry at once would fail at once, so the listener rests.
            Some(_) => self.accept_rest_until_us = Some(self.mono_us + ACCEPT_REST_US),
        }
    }

    /// A message to another ring failed (its queue is full, or it is just leaving): ring its bell instead.
    fn wake_failed(&mut self, core: u32) {
        if let Some(Some(bell)) = self.bells.get(core as usize) {
            self.tally.kernel_entries += 1;
            let _written = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }
}

fn errno(result: i32) -> Option<Errno> {
    if result < 0 {
        Some(Errno::from_raw_os_error(-result))
    } else {
        None
    }
}
