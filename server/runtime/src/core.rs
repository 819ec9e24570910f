//! Hot path. The loop of one core: wait, gather, take mail, let the service turn, perform its wishes.
//!
//! A thread runs it ([`Core::run`]); the simulator takes the same steps one at a time (`sim/`): [`Core::lie_down`],
//! [`Core::get_up`], [`Core::take_mail`], [`Core::turn`], [`Core::finish`], and at the end [`Core::drain_some`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::STOP_DRAIN_MS_MAX;
use crate::clock;
use crate::driver::Driver;
use crate::mailbox::{Arrival, Mailbox, Parcel, Post};
use crate::service::{CoreId, Event, Now, Op, Ops, Service, Turn};
use crate::socket::Spread;
use crate::stats::{Stats, Tally};

/// How long a core naps while its overflow queues are past their maximum.
const OVERFLOW_NAP_US: u64 = 50;

/// How long a stopping core waits at a time.
const DRAIN_WAIT_MS: u64 = 10;

/// What all cores and handles share.
pub(crate) struct Shared<M> {
    pub(crate) boxes: Vec<Mailbox<M>>,
    pub(crate) stats: Vec<Stats>,
    pub(crate) driver: &'static str,
}

/// What a core must know of a listener to admit what it accepted.
#[derive(Clone, Copy)]
pub(crate) struct Entrance {
    pub(crate) spread: Spread,
    pub(crate) is_tcp: bool,
}

/// What a core is told at its start.
pub(crate) struct CoreSpec {
    pub(crate) core: CoreId,
    pub(crate) mail_per_turn_max: usize,
    pub(crate) keepalive_s: Arc<AtomicU32>,
    /// By listener number.
    pub(crate) entrances: Arc<[Entrance]>,
}

/// One core: a driver, a service, and the mail between this core and the others.
pub(crate) struct Core<S: Service, D: Driver> {
    pub(crate) spec: CoreSpec,
    shared: Arc<Shared<S::Mail>>,
    pub(crate) driver: D,
    pub(crate) service: S,
    pub(crate) post: Post<S::Mail>,
    pub(crate) events: Vec<Event>,
    pub(crate) mail: Vec<S::Mail>,
    pub(crate) ops: Ops<S::Mail>,
    arrivals: Vec<Arrival>,
    adopted: Vec<Arrival>,
    /// Sends that wait until all mail is in its lanes.
    held: Vec<Op>,
    /// Next core in turn for the connections this core spreads.
    spread_next: usize,
    /// When the last turn began and how long it took, to reckon the next wait by.
    last: Now,
    last_took_us: u64,
    /// When the sends of the last turn had been handed to the kernel, ticks.
    sent: u64,
}

impl<S: Service, D: Driver> Core<S, D> {
    pub(crate) fn new(spec: CoreSpec, shared: Arc<Shared<S::Mail>>, driver: D, service: S) -> Self {
        let cores = shared.boxes.len();
        let mut ops = Ops::new();
        // The first turn comes at once, so that a service can ask for its timers.
        ops.again = true;
        let last = driver.now();
        Core {
            post: Post::new(spec.core, cores),
            held: Vec::new(),
            spread_next: spec.core.index(),
            spec,
            shared,
            driver,
            service,
            events: Vec::new(),
            mail: Vec::new(),
            ops,
            arrivals: Vec::new(),
            adopted: Vec::new(),
            last,
            last_took_us: 0,
            sent: clock::ticks(),
        }
    }

    /// Runs until the service stops it.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        loop {
            if self.post.is_overflowing() {
                self.driver.submit()?;
                std::thread::sleep(Duration::from_micros(OVERFLOW_NAP_US));
                self.last = self.driver.now();
            } else {
                let sends = D::SENDS_IN_WAIT && self.driver.is_sending();
                let timeout = self.lie_down();
                if let Some((arrivals, moment)) = self.ops.expected {
                    self.driver.expect(arrivals, moment);
                }
                let waited = self.driver.wait(timeout);
                self.get_up();
                waited?;
                if sends {
                    // Its end wakes the core: this is soon after.
                    self.sent = clock::ticks();
                }
                self.gather();
            }
            let cpu_us = self.stats().is_cpu_clock().then(clock::thread_cpu_us);
            self.take_mail();
            self.turn();
            self.finish(cpu_us);
            if self.ops.stop {
                return self.drain();
            }
        }
    }

    fn stats(&self) -> &Stats {
        &self.shared.stats[self.spec.core.index()]
    }

    fn mailbox(&self) -> &Mailbox<S::Mail> {
        &self.shared.boxes[self.spec.core.index()]
    }

    /// Announces that the core sleeps, unless there is a reason not to, and says how long it may. The order matters: park,
    /// then look once more.
    pub(crate) fn lie_down(&self) -> Option<Duration> {
        let mut timeout = self.patience();
        if timeout != Some(Duration::ZERO) {
            let may_sleep = self.mailbox().park() && self.post.may_sleep(&self.shared.boxes);
            if !may_sleep {
                timeout = Some(Duration::ZERO);
            }
        }
        timeout
    }

    /// The core is awake, and reads the clocks.
    pub(crate) fn get_up(&mut self) {
        self.mailbox().unpark();
        self.last = self.driver.now();
    }

    /// Takes what the driver has.
    pub(crate) fn gather(&mut self) {
        self.driver
            .gather(self.last.mono_us, &mut self.events, &mut self.arrivals);
        self.admit();
    }

    /// How long the core may sleep: not at all, for a time, or without limit.
    fn patience(&self) -> Option<Duration> {
        if self.ops.again || self.driver.is_ready() {
            return Some(Duration::ZERO);
        }
        let asked_us = self
            .ops
            .wake_at_ms
            .map(|at_ms| at_ms.saturating_mul(1000).saturating_sub(self.last.unix_us));
        let due_us = self
            .driver
            .due_us()
            .map(|due_us| due_us.saturating_sub(self.last.mono_us));
        let first_us = match (asked_us, due_us) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        first_us.map(|us| Duration::from_micros(us.saturating_sub(self.last_took_us)))
    }

    /// Accepted sockets: served here, or handed to the cores in turn.
    fn admit(&mut self) {
        for arrival in std::mem::take(&mut self.arrivals) {
            let spread = self
                .spec
                .entrances
                .get(arrival.listener)
                .map_or(Spread::Here, |e| e.spread);
            if spread == Spread::Here {
                self.adopt(arrival);
                continue;
            }
            let cores = self.shared.boxes.len();
            let target = self.spread_next % cores;
            self.spread_next = (target + 1) % cores;
            if target == self.spec.core.index() {
                self.adopt(arrival);
            } else {
                // INVARIANT: the number of cores fits a u16 (CORES_MAX).
                let target = CoreId(target as u16);
                self.post
                    .send(&self.shared.boxes, target, Parcel::Adopt(arrival));
            }
        }
    }

    fn adopt(&mut self, arrival: Arrival) {
        let is_tcp = self
            .spec
            .entrances
            .get(arrival.listener)
            .is_some_and(|e| e.is_tcp);
        let keepalive_s = self.spec.keepalive_s.load(Relaxed);
        // A peer that has gone already is nobody's loss.
        if let Ok(peer) = self.driver.greet(&arrival, is_tcp, keepalive_s) {
            self.driver.adopt(arrival, peer, &mut self.events);
        }
    }

    /// Takes what other cores have sent, within the turn's budget.
    pub(crate) fn take_mail(&mut self) {
        let (mail, adopted) = (&mut self.mail, &mut self.adopted);
        self.post.take(
            &self.shared.boxes,
            self.spec.mail_per_turn_max,
            |parcel| match parcel {
                Parcel::Mail(m) => mail.push(m),
                Parcel::Adopt(arrival) => adopted.push(arrival),
            },
        );
        while let Some(arrival) = self.adopted.pop() {
            self.adopt(arrival);
        }
    }

    /// The service's turn.
    pub(crate) fn turn(&mut self) {
        self.ops.again = false;
        self.ops.wake_at_ms = None;
        self.ops.expected = None;
        self.post.backlog(&mut self.ops.backlog_lens);
        let mut turn = Turn {
            now: self.last,
            sent: self.sent,
            core: self.spec.core,
            events: &mut self.events,
            mail: &mut self.mail,
            ops: &mut self.ops,
            view: self.driver.view(),
        };
        self.service.turn(&mut turn);
        self.events.clear();
        self.mail.clear();
    }

    /// Does what the turn has asked for, and publishes the counters.
    pub(crate) fn finish(&mut self, cpu_us: Option<u64>) {
        self.perform();
        self.sent = clock::ticks();
        self.publish(cpu_us);
    }

    fn perform(&mut self) {
        // Mail first: what a client has been told may be relied upon at the other cores.
        self.post.flush(&self.shared.boxes);
        for (target, mail) in self.ops.posts.drain(..) {
            self.post
                .send(&self.shared.boxes, target, Parcel::Mail(mail));
        }
        // What clients are told waits with the mail that it may rely upon, when a lane is full.
        let waits = !self.post.is_drained();
        if !waits && !self.held.is_empty() {
            self.held.drain(..).for_each(|op| self.driver.perform(op));
        }
        for op in self.ops.list.drain(..) {
            match op {
                Op::Send(..) if waits => self.held.push(op),
                op => self.driver.perform(op),
            }
        }
        self.driver.recycle();
        self.wake_touched();
    }

    fn wake_touched(&mut self) {
        let driver = &mut self.driver;
        self.post
            .wake_touched(&self.shared.boxes, |core, point| driver.wake(core, point));
    }

    fn publish(&mut self, cpu_us: Option<u64>) {
        self.last_took_us = self.driver.mono_us().saturating_sub(self.last.mono_us);
        let tally = self.driver.tally();
        tally.turns += 1;
        tally.turns_us += self.last_took_us;
        tally.kernel_entries += if cpu_us.is_some() { 2 } else { 0 };
        let tally: Tally = *tally;
        let stats = self.stats();
        stats.publish(&tally);
        stats.turn_took(self.last_took_us);
        if let Some(cpu_us) = cpu_us {
            stats.turn_took_cpu(clock::thread_cpu_us().saturating_sub(cpu_us));
        }
    }

    /// The end: what was asked in the last turn still happens, within limits. No more events are told.
    fn drain(&mut self) -> io::Result<()> {
        self.driver.wait(Some(Duration::ZERO))?;
        let until_us = self.driver.mono_us() + STOP_DRAIN_MS_MAX * 1000;
        loop {
            if self.drain_some(until_us) {
                break;
            }
            self.driver
                .wait(Some(Duration::from_millis(DRAIN_WAIT_MS)))?;
        }
        // Submits the last wake-ups.
        self.driver.wait(Some(Duration::ZERO))?;
        let tally = *self.driver.tally();
        self.stats().publish(&tally);
        Ok(())
    }

    /// One step towards the end; whether it is reached.
    pub(crate) fn drain_some(&mut self, until_us: u64) -> bool {
        let now_us = self.driver.mono_us();
        self.driver
            .gather(now_us, &mut self.events, &mut self.arrivals);
        self.events.clear();
        self.arrivals.clear();
        self.driver.recycle();
        self.post.flush(&self.shared.boxes);
        self.wake_touched();
        if self.post.is_drained() {
            self.held.drain(..).for_each(|op| self.driver.perform(op));
        }
        let is_busy = self.driver.is_sending() || !self.post.is_drained();
        !is_busy || now_us >= until_us
    }
}
