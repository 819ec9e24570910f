//! Hot path. Mail between cores, and from outside threads to cores: bounded lanes, and who wakes whom.
//!
//! A core has one lane per sender: each other core, and one more that all outside threads share.
//!
//! ```text
//!   sender core --(overflow, when the lane is full)--> lane (bounded) --> receiver's turn
//! ```
//!
//! **Order.** A lane is FIFO, and a sender with a non-empty overflow for a target appends to it: FIFO per (sender,
//! target), always.
//!
//! **Waking.** A receiver that is about to sleep and a sender that has just pushed must not miss each other. This is
//! the store-buffer pattern, closed by a SeqCst fence on both sides:
//!
//! ```text
//!   receiver: parked = 1; FENCE; lanes empty?  -> sleep        sender: push; FENCE; parked == 1? -> wake
//! ```
//!
//! Of two SeqCst fences one comes first in their single order. If the receiver's is first, the sender's later load
//! sees `parked` and wakes it. If the sender's is first, the receiver's later check sees the push and does not sleep.
//! The sender takes the flag by a swap, so that a sleeper gets one wake-up however many senders find it.
//!
//! **Room.** A sender that found a lane full may sleep too, and must hear of room. It is the same pattern twice over:
//! the sender sets `starved`, fences, and tries the push once more; the receiver pops, fences, and looks at `starved`:
//! one of them sees the other. The receiver then wakes the sender as for mail, and the sender looks, after its
//! `parked` store and fence, whether a lane it waits for has room, as it looks at its own lanes.
//!
//! Arithmetic: a wake check costs a fence (~20 cycles) per target and turn; a lane costs its capacity times a mail
//! plus 8 bytes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use crate::service::CoreId;

/// Mails in the overflow queues of one core beyond which it naps and takes mail only, reading no sockets, until its
/// targets have caught up.
pub(crate) const OVERFLOW_LEN_MAX: usize = 1 << 16;

/// What travels in a lane.
pub(crate) enum Parcel<M> {
    /// A service's mail.
    Mail(M),
    /// An accepted socket that the target shall serve.
    Adopt(Arrival),
}

/// An accepted socket on its way to the core that will serve it.
pub(crate) struct Arrival {
    pub(crate) socket: Socket,
    pub(crate) listener: usize,
}

/// Where a connection's bytes come from.
pub(crate) enum Socket {
    /// A descriptor.
    Kernel(OwnedFd),
    /// One of the simulator's, by its number there.
    Simulated(u64),
}

struct Lane<M> {
    queue: ArrayQueue<Parcel<M>>,
    /// The sender found the lane full and wants to hear of room.
    starved: AtomicBool,
}

/// Where a core gets its mail, and how it is woken.
pub(crate) struct Mailbox<M> {
    /// By sender; the last is for outside threads.
    lanes: Box<[Lane<M>]>,
    parked: CachePadded<AtomicBool>,
    /// The core has left: mail to it is dropped.
    left: AtomicBool,
    pub(crate) wake: WakePoint,
}

/// The two ways to wake a core.
pub(crate) struct WakePoint {
    eventfd: OwnedFd,
    ring_fd: AtomicI32,
    /// The bell has been rung: for the simulator, whose cores wait for no descriptor.
    rung: AtomicBool,
}

impl WakePoint {
    fn new() -> io::Result<WakePoint> {
        // Blocking on purpose: an io_uring read of a non-blocking eventfd would fail instead of waiting.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(WakePoint {
            eventfd,
            ring_fd: AtomicI32::new(-1),
            rung: AtomicBool::new(false),
        })
    }

    /// Wakes by the eventfd: one system call.
    pub(crate) fn ring_bell(&self) {
        self.rung.store(true, Release);
        // It fails only for a counter of 2^64-2, and then the core has been woken many times over.
        let _written = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// Whether the bell has been rung since it was last silenced.
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Acquire)
    }

    pub(crate) fn silence(&self) {
        self.rung.store(false, Release);
    }

    pub(crate) fn eventfd(&self) -> &OwnedFd {
        &self.eventfd
    }

    pub(crate) fn eventfd_raw(&self) -> i32 {
        self.eventfd.as_raw_fd()
    }

    /// The descriptor of the core's ring, if it has one that lives.
    pub(crate) fn ring_fd(&self) -> Option<i32> {
        Some(self.ring_fd.load(Acquire)).filter(|fd| *fd >= 0)
    }

    pub(crate) fn set_ring_fd(&self, fd: Option<i32>) {
        self.ring_fd.store(fd.unwrap_or(-1), Release);
    }
}

impl<M> Mailbox<M> {
    pub(crate) fn new(cores: usize, lane_len_max: usize) -> io::Result<Mailbox<M>> {
        let lane = || Lane {
            queue: ArrayQueue::new(lane_len_max.max(1)),
            starved: AtomicBool::new(false),
        };
        Ok(Mailbox {
            lanes: (0..=cores).map(|_| lane()).collect(),
            parked: CachePadded::new(AtomicBool::new(false)),
            left: AtomicBool::new(false),
            wake: WakePoint::new()?,
        })
    }

    /// Announces that this core is about to sleep; false when it must not, because mail has come.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, Relaxed);
        fence(SeqCst);
        let quiet = self.lanes.iter().all(|lane| lane.queue.is_empty());
        if !quiet {
            self.unpark();
        }
        quiet
    }

    /// The core is awake.
    pub(crate) fn unpark(&self) {
        self.parked.store(false, Relaxed);
    }

    /// The core will take no more mail. What is still in the lanes goes with the mailbox.
    pub(crate) fn leave(&self) {
        self.left.store(true, Release);
        self.wake.set_ring_fd(None);
    }

    /// After a push and before this, nothing else: fences, and says whether the caller must wake the core.
    pub(crate) fn needs_wake(&self) -> bool {
        fence(SeqCst);
        self.parked.load(Relaxed) && self.parked.swap(false, AcqRel)
    }

    /// A push by an outside thread, with the wake-up.
    pub(crate) fn post_outside(&self, mail: M) -> Result<(), M> {
        let Some(lane) = self.lanes.last().filter(|_| !self.left.load(Acquire)) else {
            return Err(mail);
        };
        match lane.queue.push(Parcel::Mail(mail)) {
            Ok(()) => {
                if self.needs_wake() {
                    self.wake.ring_bell();
                }
                Ok(())
            }
            Err(Parcel::Mail(mail)) => Err(mail),
            // INVARIANT: a queue gives back what it was given.
            Err(Parcel::Adopt(_)) => Ok(()),
        }
    }
}

/// One core's sending side, and its receiving end.
pub(crate) struct Post<M> {
    core: CoreId,
    /// Mail to oneself: delivered next turn.
    own: VecDeque<Parcel<M>>,
    /// By target: what found the lane full.
    overflow: Vec<VecDeque<Parcel<M>>>,
    overflow_len: usize,
    /// By target: mail was pushed since the last wake check.
    touched: Vec<bool>,
    /// The lane that is emptied first next time.
    first: usize,
}

impl<M> Post<M> {
    pub(crate) fn new(core: CoreId, cores: usize) -> Post<M> {
        Post {
            core,
            own: VecDeque::new(),
            overflow: (0..cores).map(|_| VecDeque::new()).collect(),
            overflow_len: 0,
            touched: vec![false; cores],
            first: 0,
        }
    }

    /// Sends one parcel; it is in the lane or in the overflow afterwards. A target that does not exist or has left
    /// loses it.
    pub(crate) fn send(&mut self, boxes: &[Mailbox<M>], target: CoreId, parcel: Parcel<M>) {
        if target == self.core {
            self.own.push_back(parcel);
            return;
        }
        let i = target.index();
        let (Some(mailbox), Some(waiting)) = (boxes.get(i), self.overflow.get_mut(i)) else {
            debug_assert!(false, "no such core");
            return;
        };
        if mailbox.left.load(Acquire) {
            return;
        }
        let refused = if waiting.is_empty() {
            push(mailbox, self.core, parcel).err()
        } else {
            Some(parcel)
        };
        match refused {
            None => self.touched[i] = true,
            Some(parcel) => {
                waiting.push_back(parcel);
                self.overflow_len += 1;
            }
        }
    }

    /// Moves what waits in the overflow into lanes that have room.
    pub(crate) fn flush(&mut self, boxes: &[Mailbox<M>]) {
        if self.overflow_len == 0 {
            return;
        }
        for (i, (waiting, mailbox)) in self.overflow.iter_mut().zip(boxes).enumerate() {
            if mailbox.left.load(Acquire) {
                self.overflow_len -= waiting.len();
                waiting.clear();
            }
            while let Some(parcel) = waiting.pop_front() {
                match push(mailbox, self.core, parcel) {
                    Ok(()) => {
                        self.overflow_len -= 1;
                        self.touched[i] = true;
                    }
                    Err(parcel) => {
                        waiting.push_front(parcel);
                        break;
                    }
                }
            }
        }
    }

    /// Every target that got mail since the last call and sleeps: at most one wake-up each.
    pub(crate) fn wake_touched(
        &mut self,
        boxes: &[Mailbox<M>],
        mut wake: impl FnMut(usize, &WakePoint),
    ) {
        for (i, (touched, mailbox)) in self.touched.iter_mut().zip(boxes).enumerate() {
            if std::mem::take(touched) && mailbox.needs_wake() {
                wake(i, &mailbox.wake);
            }
        }
    }

    /// Takes up to `len_max` parcels, in order per sender, and marks senders that starved as touched.
    pub(crate) fn take(
        &mut self,
        boxes: &[Mailbox<M>],
        len_max: usize,
        mut deliver: impl FnMut(Parcel<M>),
    ) {
        let mut left = len_max;
        for parcel in self.own.drain(..self.own.len().min(left)) {
            left -= 1;
            deliver(parcel);
        }
        let Some(mine) = boxes.get(self.core.index()) else {
            return;
        };
        let lanes = mine.lanes.len();
        self.first = (self.first + 1) % lanes;
        for sender in (self.first..lanes).chain(0..self.first) {
            let lane = &mine.lanes[sender];
            if left == 0 || lane.queue.is_empty() {
                continue;
            }
            while left > 0 {
                let Some(parcel) = lane.queue.pop() else {
                    break;
                };
                left -= 1;
                deliver(parcel);
            }
            fence(SeqCst);
            if lane.starved.load(Relaxed) {
                lane.starved.store(false, Relaxed);
                if let Some(touched) = self.touched.get_mut(sender) {
                    *touched = true;
                }
            }
        }
    }

    /// Whether this core may sleep as far as its own sending goes: called between `park` and sleeping.
    pub(crate) fn may_sleep(&self, boxes: &[Mailbox<M>]) -> bool {
        let has_room = |(waiting, mailbox): (&VecDeque<Parcel<M>>, &Mailbox<M>)| {
            let full = mailbox.lanes[self.core.index()].queue.is_full();
            !waiting.is_empty() && (!full || mailbox.left.load(Acquire))
        };
        self.own.is_empty()
            && (self.overflow_len == 0 || !self.overflow.iter().zip(boxes).any(has_room))
    }

    /// Whether nothing waits for room.
    pub(crate) fn is_drained(&self) -> bool {
        self.overflow_len == 0
    }

    pub(crate) fn is_overflowing(&self) -> bool {
        self.overflow_len > OVERFLOW_LEN_MAX
    }

    /// Lengths of the overflow by target, for the service to see.
    pub(crate) fn backlog(&self, into: &mut Vec<usize>) {
        if self.overflow_len == 0
            && into.len() == self.overflow.len()
            && into.iter().all(|n| *n == 0)
        {
            return;
        }
        into.clear();
        into.extend(self.overflow.iter().map(VecDeque::len));
    }
}

/// Pushes into the sender's lane; a refusal leaves `starved` set, so that room will be told.
fn push<M>(mailbox: &Mailbox<M>, sender: CoreId, parcel: Parcel<M>) -> Result<(), Parcel<M>> {
    let lane = &mailbox.lanes[sender.index()];
    lane.queue.push(parcel).or_else(|parcel| {
        lane.starved.store(true, Relaxed);
        fence(SeqCst);
        lane.queue.push(parcel)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(post: &mut Post<u32>, boxes: &[Mailbox<u32>], len_max: usize) -> Vec<u32> {
        let mut got = Vec::new();
        post.take(boxes, len_max, |parcel| {
            if let Parcel::Mail(number) = parcel {
                got.push(number);
            }
        });
        got
    }

    #[test]
    fn a_full_lane_overflows_in_order_and_room_wakes_the_sender() {
        let boxes: Vec<Mailbox<u32>> = (0..2).map(|_| Mailbox::new(2, 3).unwrap()).collect();
        let (mut a, mut b) = (Post::new(CoreId(0), 2), Post::new(CoreId(1), 2));
        for number in 0..8 {
            a.send(&boxes, CoreId(1), Parcel::Mail(number));
        }
        let mut backlog = Vec::new();
        a.backlog(&mut backlog);
        assert_eq!(backlog, [0, 5]);
        assert!(
            boxes[0].park() && a.may_sleep(&boxes),
            "nothing to do but wait for room"
        );
        assert!(!boxes[1].park(), "mail has come");
        assert_eq!(numbers(&mut b, &boxes, 2), [0, 1]);
        assert!(!a.may_sleep(&boxes), "there is room");
        let mut woken = Vec::new();
        b.wake_touched(&boxes, |core, _| woken.push(core));
        b.wake_touched(&boxes, |core, _| woken.push(core));
        assert_eq!(woken, [0], "once");
        let mut got = Vec::new();
        while !a.is_drained() || got.len() < 6 {
            a.flush(&boxes);
            got.extend(numbers(&mut b, &boxes, 2));
        }
        assert_eq!(got, [2, 3, 4, 5, 6, 7]);
        assert!(boxes[1].park());
        a.send(&boxes, CoreId(1), Parcel::Mail(9));
        a.wake_touched(&boxes, |core, _| woken.push(core));
        assert_eq!(woken, [0, 1]);
        boxes[1].leave();
        a.send(&boxes, CoreId(1), Parcel::Mail(10));
        assert!(
            a.is_drained() && boxes[1].post_outside(1).is_err(),
            "mail to a core that left is dropped"
        );
    }
}
