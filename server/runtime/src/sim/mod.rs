//! The cores of a runtime without threads, kernel or clock: a simulator turns them by hand.
//!
//! ```text
//!   asleep ──step: get up, gather, mail, service.turn()──> turned ──step: perform, post, wake, lie down──> asleep
//!      ^ it has a reason to get up: bytes, a ring of its bell, its time has come
//! ```
//! The loop, the mailboxes with their lanes and overflow, who wakes whom, budgets, timers, the spreading of connections:
//! all that is the code that runs in production (`core.rs`, `mailbox.rs`). Only the driver is another one. A turn and
//! what is done after it are two steps, so that other cores' steps come between as they do between threads; within one step
//! nothing comes between, which threads may see ([`std::sync::atomic`] orders, fences): that is not simulated.
//!
//! Nothing here draws a random number: who decides is the caller.

mod driver;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::core::{Core, CoreSpec, Entrance, Shared};
use crate::driver::Driver;
use crate::mailbox::Mailbox;
use crate::running::Handle;
use crate::service::{CoreId, Now, Service};
use crate::socket::Spread;
use crate::stats::Stats;
use crate::{CORES_MAX, Config, STOP_DRAIN_MS_MAX};

use driver::Simulated;

/// A listener that nobody can see.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The core that accepts.
    pub core: CoreId,
    /// Which core serves what it accepts.
    pub spread: Spread,
}

/// What one step may do at most.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Mails taken.
    pub mail_max: usize,
    /// Connections read from.
    pub reads_max: usize,
}

/// What a core has done in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// It had a turn, with so many events and mails.
    Turned {
        /// Events.
        events: usize,
        /// Mails.
        mails: usize,
    },
    /// It has done what the turn asked for.
    Performed,
    /// It goes on leaving.
    Leaving,
    /// It has left its loop.
    Left,
}

enum Stage {
    /// Until when at the latest, monotonic us.
    Asleep(Option<u64>),
    Turned,
    Leaving(u64),
    Left,
}

struct Seat<S: Service> {
    core: Core<S, Simulated>,
    stage: Stage,
}

/// See the module's head.
pub struct Simulation<S: Service> {
    seats: Vec<Seat<S>>,
    shared: Arc<Shared<S::Mail>>,
    gates: Vec<Gate>,
    /// The core of each socket that has been adopted.
    homes: BTreeMap<u64, usize>,
    now: Now,
}

impl<S: Service> Simulation<S> {
    /// Cores that all want a first turn. `make` builds each core's service.
    ///
    /// # Errors
    /// When `config` is out of range, or the system gives no descriptors.
    pub fn new(
        config: &Config,
        gates: Vec<Gate>,
        now: Now,
        mut make: impl FnMut(CoreId, Handle<S::Mail>) -> S,
    ) -> io::Result<Self> {
        if !(1..=CORES_MAX).contains(&config.cores) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mailbox = |_| Mailbox::new(config.cores, config.mailbox_len_max);
        let boxes: io::Result<Vec<_>> = (0..config.cores).map(mailbox).collect();
        let shared = Arc::new(Shared {
            boxes: boxes?,
            stats: (0..config.cores).map(|_| Stats::default()).collect(),
            driver: Simulated::NAME,
        });
        let entrance = |gate: &Gate| Entrance {
            spread: gate.spread,
            is_tcp: true,
        };
        let entrances: Arc<[Entrance]> = gates.iter().map(entrance).collect();
        let pool = (
            config.buffer_bytes,
            config.buffer_count,
            config.accept_per_turn_max,
        );
        let mut seats = Vec::new();
        for index in 0..config.cores {
            // INVARIANT: at most CORES_MAX.
            let core = CoreId(index as u16);
            let spec = CoreSpec {
                core,
                mail_per_turn_max: config.mail_per_turn_max.max(1),
                keepalive_s: Arc::clone(&config.keepalive_s),
                entrances: Arc::clone(&entrances),
            };
            let handle = Handle::of(Arc::clone(&shared));
            let service = make(core, handle);
            let driver = Simulated::with(pool, now);
            seats.push(Seat {
                core: Core::new(spec, Arc::clone(&shared), driver, service),
                stage: Stage::Asleep(Some(0)),
            });
        }
        Ok(Simulation {
            seats,
            shared,
            gates,
            homes: BTreeMap::new(),
            now,
        })
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.seats.len()
    }

    /// A core's service; `None` if there is no such core.
    pub fn service(&self, core: usize) -> Option<&S> {
        self.seats.get(core).map(|seat| &seat.core.service)
    }

    /// As [`Simulation::service`], to be changed between its turns.
    pub fn service_mut(&mut self, core: usize) -> Option<&mut S> {
        self.seats.get_mut(core).map(|seat| &mut seat.core.service)
    }

    /// Sets the clocks of all cores; the monotonic one never goes back.
    pub fn set_now(&mut self, now: Now) {
        let mono_us = now.mono_us.max(self.now.mono_us);
        self.now = Now { mono_us, ..now };
        for seat in &mut self.seats {
            seat.core.driver.now = self.now;
        }
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether a core has a reason to take a step.
    pub fn is_ready(&self, core: usize) -> bool {
        let Some(seat) = self.seats.get(core) else {
            return false;
        };
        match seat.stage {
            Stage::Asleep(until_us) => {
                until_us.is_some_and(|until_us| until_us <= self.now.mono_us)
                    || self.shared.boxes[core].wake.is_rung()
                    || seat.core.driver.is_ready()
            }
            Stage::Turned | Stage::Leaving(_) => true,
            Stage::Left => false,
        }
    }

    /// When a sleeping core gets up by itself, monotonic us.
    pub fn due_us(&self, core: usize) -> Option<u64> {
        match self.seats.get(core)?.stage {
            Stage::Asleep(until_us) => until_us,
            _ => None,
        }
    }

    /// Whether a core has left its loop.
    pub fn has_left(&self, core: usize) -> bool {
        let seat = self.seats.get(core);
        seat.is_none_or(|seat| matches!(seat.stage, Stage::Left))
    }

    /// Lets a core take one step. `meddle` may change the order of the mails that its turn is about to get, which no runtime
    /// does: a simulator plants a fault by it.
    pub fn step(
        &mut self,
        core: usize,
        budget: Budget,
        meddle: impl FnOnce(&mut Vec<S::Mail>),
    ) -> Done {
        let Some(seat) = self.seats.get_mut(core) else {
            return Done::Left;
        };
        match seat.stage {
            Stage::Asleep(_) => {
                self.shared.boxes[core].wake.silence();
                seat.core.spec.mail_per_turn_max = budget.mail_max.max(1);
                seat.core.driver.reads_max = budget.reads_max.max(1);
                let done = seat.turn(meddle);
                for socket in seat.core.driver.adopted() {
                    self.homes.insert(socket, core);
                }
                done
            }
            Stage::Turned => seat.perform(self.now.mono_us),
            Stage::Leaving(until_us) => {
                if seat.core.drain_some(until_us) {
                    self.shared.boxes[core].leave();
                    seat.stage = Stage::Left;
                    return Done::Left;
                }
                Done::Leaving
            }
            Stage::Left => Done::Left,
        }
    }

    /// Rings of bells that a core makes are lost, or heard again: a planted fault.
    pub fn set_deaf(&mut self, core: usize, deaf: bool) {
        if let Some(seat) = self.seats.get_mut(core) {
            seat.core.driver.deaf = deaf;
        }
    }

    /// Somebody connects to a listener, as a socket with a number of its own.
    pub fn connect(&mut self, gate: usize, socket: u64) {
        let accepts = self.gates.get(gate).map(|gate| gate.core.index());
        if let Some(seat) = accepts.and_then(|core| self.seats.get_mut(core)) {
            seat.core.driver.knock(gate, socket);
        }
    }

    fn home(&mut self, socket: u64) -> Option<&mut Simulated> {
        let core = *self.homes.get(&socket)?;
        Some(&mut self.seats.get_mut(core)?.core.driver)
    }

    /// Whether the server has accepted a socket: bytes may be sent from then on.
    pub fn is_accepted(&self, socket: u64) -> bool {
        self.homes.contains_key(&socket)
    }

    /// Bytes of a socket reach the server.
    pub fn arrive(&mut self, socket: u64, bytes: &[u8]) {
        if let Some(driver) = self.home(socket) {
            driver.arrive(socket, bytes);
        }
    }

    /// The peer of a socket has sent its last byte.
    pub fn finish(&mut self, socket: u64) {
        if let Some(driver) = self.home(socket) {
            driver.finish(socket);
        }
    }

    /// A connection breaks.
    pub fn reset(&mut self, socket: u64) {
        if let Some(driver) = self.home(socket) {
            driver.reset(socket);
        }
    }

    /// Takes up to so many bytes that the server has sent; whether it has closed the connection behind them.
    pub fn take(&mut self, socket: u64, len_max: usize, into: &mut Vec<u8>) -> bool {
        let home = self.home(socket);
        home.is_some_and(|driver| driver.take(socket, len_max, into))
    }

    /// How many bytes the server has sent that have not been taken.
    pub fn waiting_bytes(&self, socket: u64) -> usize {
        let core = self.homes.get(&socket);
        let seat = core.and_then(|core| self.seats.get(*core));
        seat.map_or(0, |seat| seat.core.driver.waiting_bytes(socket))
    }

    /// Forgets a socket that is closed.
    pub fn forget(&mut self, socket: u64) {
        if let Some(driver) = self.home(socket) {
            driver.forget(socket);
        }
        self.homes.remove(&socket);
    }
}

impl<S: Service> Seat<S> {
    fn turn(&mut self, meddle: impl FnOnce(&mut Vec<S::Mail>)) -> Done {
        self.core.get_up();
        if !self.core.post.is_overflowing() {
            self.core.gather();
        }
        self.core.take_mail();
        meddle(&mut self.core.mail);
        let (events, mails) = (self.core.events.len(), self.core.mail.len());
        self.core.turn();
        self.stage = Stage::Turned;
        Done::Turned { events, mails }
    }

    fn perform(&mut self, now_us: u64) -> Done {
        self.core.finish(None);
        self.stage = if self.core.ops.stop {
            Stage::Leaving(now_us + STOP_DRAIN_MS_MAX * 1000)
        } else {
            let patience = self.core.lie_down();
            // INVARIANT: a wait is no longer than a u64 of microseconds.
            let us = patience.map(|patience| patience.as_micros() as u64);
            Stage::Asleep(us.map(|us| now_us.saturating_add(us)))
        };
        Done::Performed
    }
}

impl<S: Service> Drop for Simulation<S> {
    fn drop(&mut self) {
        self.shared.boxes.iter().for_each(Mailbox::leave);
    }
}
