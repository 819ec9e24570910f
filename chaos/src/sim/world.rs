//! The world of one run: one node, its clients, the network between them, the clocks. One thing happens at a time, and a
//! random number says which.
//!
//! ```text
//!            ┌── a core takes a step        (if it has a reason to, and does not starve)
//!  tick() ───┼── bytes go to the server     (cut anywhere)
//!   one of   ├── bytes come from the server (as many as the client happens to read)
//!            ├── a client acts
//!            ├── a request that runs aside ends
//!            └── nothing can happen: the clock goes on to the next moment at which something can
//! ```

use std::io;
use std::path::Path;

use node::service::NodeService;
use protocol::answer::Answer;
use runtime::Now;
use runtime::sim::{Budget, Done};

use super::Plant;
use super::client::{Client, Link};
use super::disk::SimDisk;
use super::forge;
use super::machine::{Machine, Plan};
use super::players::{Facts, Request, Tag};
use super::trace::Trace;
use crate::rng::Rng;

/// When the world begins, unix ms.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// How far the clock goes in one tick, us.
const TICK_US_MAX: usize = 40;
/// How long a core starves, a client does not read, one that lost its connection stays away, at most; us.
const STARVED_US_MAX: usize = 20_000;
const UNREAD_US_MAX: usize = 10_000;
const AWAY_US_MAX: usize = 2_000;
/// How long the disk is slow, and a start takes, at most; us.
const SLOW_US_MAX: usize = 30_000;
const STARTED_US_MAX: usize = 50_000;
/// How long clients rest between two requests, at most; us.
const RESTS_US_MAX: usize = 300;
/// How far the wall clock jumps, ms.
const FORTH_MS_MAX: usize = 3_000;
const BACK_MS_MAX: usize = 200;
/// Bytes that the network carries at once.
const CARRIED_BYTES_MAX: usize = 400;
/// Mails of a turn: as in production, which no run reaches. With fewer, mails of two cores could be taken in an order in which
/// they cannot be taken there: what was in its lane before another was sent is taken with it at the latest.
const MAIL_MAX: usize = 4096;
/// Ticks for which a question of the world itself is waited for.
const ANSWER_TICKS_MAX: usize = 200_000;

/// How rough the world is, in 100,000 ticks each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) resets: usize,
    pub(crate) starvings: usize,
    pub(crate) jumps: usize,
    pub(crate) deafness: usize,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) const CALM: Weather = Weather {
        resets: 0,
        starvings: 0,
        jumps: 0,
        deafness: 0,
    };
}

/// How a node ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The process dies; what it has written is in the system's memory.
    Kill,
    /// The machine dies.
    Crash,
}

/// What becomes of its files meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Harm {
    /// Nothing.
    None,
    /// A bit flips.
    Flip,
    /// Planted: a value is another one, and the sums fit.
    SumsFit,
    /// Planted: a frame has lost its last effect, and the sums fit.
    Torn,
}

#[derive(Clone, Copy)]
enum Action {
    Core(usize),
    Connect(usize),
    Carry(usize),
    Read(usize),
    Act(usize),
    Log,
}

/// See the module's head.
pub(crate) struct World {
    pub(crate) facts: Facts,
    pub(crate) trace: Trace,
    pub(crate) clients: Vec<Client>,
    pub(crate) weather: Weather,
    /// How long clients rest between two requests, us.
    pub(crate) rests_us_max: usize,
    machine: Machine,
    plan: Plan,
    rng: Rng,
    now: Now,
    /// Until when each core gets no processor, monotonic us.
    starved: Vec<u64>,
    /// Until when the log's thread is stuck in the disk, monotonic us.
    log_stuck_until_us: u64,
    next_socket: u64,
    actions: Vec<Action>,
}

impl World {
    /// A node of this plan, and nobody there.
    ///
    /// # Errors
    /// When the node cannot be made.
    pub(crate) fn new(
        mut rng: Rng,
        plan: Plan,
        (facts, trace): (Facts, Trace),
    ) -> io::Result<World> {
        let now = Now {
            unix_ms: BEGIN_MS,
            unix_us: BEGIN_MS * 1000,
            mono_us: 1_000_000,
        };
        let machine = Machine::boot(&plan, rng.next(), now)?;
        Ok(World {
            facts,
            trace,
            clients: Vec::new(),
            weather: Weather::CALM,
            rests_us_max: RESTS_US_MAX,
            machine,
            starved: vec![0; plan.cores],
            log_stuck_until_us: 0,
            plan,
            rng,
            now,
            next_socket: 1,
            actions: Vec::new(),
        })
    }

    /// The cores' services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &NodeService> {
        self.machine.services()
    }

    /// The node stops at once, in the middle of whatever it does, and the machine with it or not; a new one starts with what
    /// is on the disk, or has become of it. Clients notice.
    ///
    /// # Errors
    /// When what is there cannot be served.
    pub(crate) fn stop(&mut self, stop: Stop, harm: Harm) -> io::Result<()> {
        self.trace
            .note(self.now.mono_us, format_args!("the node stops: {stop:?}"));
        match stop {
            Stop::Kill => self.plan.disk.kill(),
            Stop::Crash => self.plan.disk.crash(),
        }
        self.harm(harm);
        self.facts.stopped(stop);
        for at in 0..self.clients.len() {
            self.drop_link(at, true);
        }
        self.starved.fill(0);
        // Its start takes a while.
        let us = self.rng.below(STARTED_US_MAX) as u64;
        self.facts.step += 1;
        self.pass(us);
        self.machine = Machine::boot(&self.plan, self.rng.next(), self.now)?;
        self.facts.step += 1;
        let deeds = self.plan.disk.deeds();
        self.trace.note(
            self.now.mono_us,
            format_args!("the node has started again; the disk: {deeds:?}"),
        );
        Ok(())
    }

    fn harm(&mut self, harm: Harm) {
        let disk = &self.plan.disk;
        let is_segment = |path: &Path| path.extension().is_some_and(|it| it == "log");
        let harmed = match harm {
            Harm::None => None,
            Harm::Flip => disk.flip(|_| true).map(|(path, _)| path),
            Harm::SumsFit => disk.forge(is_segment, |bytes, rng| forge::flip(bytes, rng)),
            Harm::Torn => disk.forge(is_segment, |bytes, _| forge::tear(bytes)),
        };
        if let Some(path) = harmed {
            let path = path.display();
            self.trace
                .note(self.now.mono_us, format_args!("{harm:?}: {path}"));
        }
    }

    /// The disk.
    pub(crate) fn disk(&self) -> &SimDisk {
        &self.plan.disk
    }

    /// One thing happens; false when nothing can, ever.
    pub(crate) fn tick(&mut self) -> bool {
        self.facts.step += 1;
        let us = self.rng.below(TICK_US_MAX) as u64;
        self.pass(us);
        self.mischief();
        self.collect();
        // What runs aside comes back after a random time.
        if self.actions.is_empty() || self.rng.below(4) == 0 {
            if self.run_aside() || self.write_image() {
                return true;
            }
            if self.actions.is_empty() {
                return self.sleep();
            }
        }
        if let Some(action) = self.rng.pick(&self.actions).copied() {
            self.act(action);
        }
        true
    }

    /// Lets time pass.
    fn pass(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.unix_us += us;
        self.now.unix_ms = self.now.unix_us / 1000;
        self.machine.set_now(self.now);
        self.facts.mono_us = self.now.mono_us;
        self.facts.wall_ms = self.now.unix_ms;
    }

    fn mischief(&mut self) {
        let draw = self.rng.below(100_000);
        let weather = self.weather;
        let mut least = 0;
        let mut hits = |of: usize| {
            least += of;
            (least - of..least).contains(&draw)
        };
        if hits(weather.resets) && !self.clients.is_empty() {
            let client = self.rng.below(self.clients.len());
            self.reset(client);
        } else if hits(weather.starvings) {
            let core = self.rng.below(self.starved.len());
            let us = self.rng.below(STARVED_US_MAX) as u64;
            self.starved[core] = self.now.mono_us + us;
            self.trace.note(
                self.now.mono_us,
                format_args!("core {core} starves for {us} us"),
            );
        } else if hits(weather.starvings) && !self.clients.is_empty() {
            let us = self.rng.below(UNREAD_US_MAX) as u64;
            let client = self.rng.below(self.clients.len());
            self.clients[client].reads_from_us = self.now.mono_us + us;
        } else if hits(weather.starvings) {
            let us = self.rng.below(SLOW_US_MAX) as u64;
            self.log_stuck_until_us = self.now.mono_us + us;
        } else if hits(weather.jumps) {
            self.jump();
        } else if hits(weather.deafness) {
            let core = self.rng.below(self.starved.len());
            self.machine.cores.set_deaf(core, self.rng.percent(50));
        }
    }

    fn jump(&mut self) {
        let from_ms = self.now.unix_ms;
        if self.rng.percent(50) {
            self.now.unix_us += self.rng.below(FORTH_MS_MAX) as u64 * 1000;
        } else {
            self.now.unix_us -= self.rng.below(BACK_MS_MAX) as u64 * 1000;
        }
        self.pass(0);
        let to_ms = self.now.unix_ms;
        self.facts.jumps.push((self.facts.step, from_ms, to_ms));
        self.trace.note(
            self.now.mono_us,
            format_args!(
                "the wall clock jumps by {} ms",
                to_ms as i64 - from_ms as i64
            ),
        );
    }

    /// What can happen now.
    fn collect(&mut self) {
        self.actions.clear();
        let now_us = self.now.mono_us;
        for core in 0..self.starved.len() {
            if self.starved[core] <= now_us && self.machine.cores.is_ready(core) {
                self.actions.push(Action::Core(core));
            }
        }
        let log_due_us = self.machine.log_due_us();
        if self.log_stuck_until_us <= now_us
            && (self.machine.log_waits() || log_due_us.is_some_and(|us| us <= now_us))
        {
            self.actions.push(Action::Log);
        }
        for (at, client) in self.clients.iter().enumerate() {
            let socket = match client.link {
                Link::Down(from_us) => {
                    if from_us <= now_us {
                        self.actions.push(Action::Connect(at));
                    }
                    continue;
                }
                Link::Up(socket) => socket,
            };
            if !client.out.is_empty() && self.machine.cores.is_accepted(socket) {
                self.actions.push(Action::Carry(at));
            }
            if client.reads_from_us <= now_us && self.machine.cores.waiting_bytes(socket) > 0 {
                self.actions.push(Action::Read(at));
            }
            let may_act = !self.facts.closing && !client.is_waiting() && client.out.is_empty();
            if may_act && client.rests_until_us <= now_us {
                self.actions.push(Action::Act(at));
            }
        }
    }

    /// Goes on to the next moment at which something can happen.
    fn sleep(&mut self) -> bool {
        let now_us = self.now.mono_us;
        let cores = (0..self.starved.len()).filter_map(|core| {
            let starved_us = self.starved[core];
            if starved_us > now_us {
                return Some(starved_us);
            }
            self.machine.cores.due_us(core)
        });
        let clients = self.clients.iter().flat_map(|client| {
            let down_us = match client.link {
                Link::Down(from_us) => from_us,
                Link::Up(_) => 0,
            };
            let rests_us = if self.facts.closing {
                0
            } else {
                client.rests_until_us
            };
            [down_us, rests_us, client.reads_from_us]
        });
        let log_us = self.machine.log_due_us();
        let log_us = log_us.map(|us| us.max(self.log_stuck_until_us));
        let moments = cores.chain(clients).chain(log_us);
        let next_us = moments.filter(|us| *us > now_us && *us < u64::MAX).min();
        let Some(next_us) = next_us else {
            return false;
        };
        self.pass(next_us - now_us);
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Core(core) => self.step(core),
            Action::Connect(at) => {
                let socket = self.next_socket;
                self.next_socket += 1;
                self.clients[at].link = Link::Up(socket);
                self.machine.cores.connect(0, socket);
                let name = self.clients[at].player.name();
                self.trace.note(
                    self.now.mono_us,
                    format_args!("client {at} ({name}) connects as {socket}"),
                );
            }
            Action::Carry(at) => self.carry(at),
            Action::Log => self.machine.step_log(self.now.mono_us),
            Action::Read(at) => self.read(at),
            Action::Act(at) => {
                let client = &mut self.clients[at];
                client.rests_until_us = self.now.mono_us + self.rng.below(self.rests_us_max) as u64;
                client.act(&mut self.facts, &mut self.rng, &mut self.trace);
            }
        }
    }

    fn step(&mut self, core: usize) {
        let budget = Budget {
            mail_max: MAIL_MAX,
            reads_max: *self.rng.pick(&[1, 2, 64]).unwrap_or(&1),
        };
        let plant = self.facts.plant;
        let rng = &mut self.rng;
        let done = self.machine.cores.step(core, budget, |mail| match plant {
            Some(Plant::MailReordered) => mail.reverse(),
            Some(Plant::MailLost) if !mail.is_empty() && rng.below(300) == 0 => {
                mail.pop();
            }
            _ => {}
        });
        if let Done::Turned { events, mails } = done {
            self.trace.note(
                self.now.mono_us,
                format_args!("core {core} turns: {events} events, {mails} mails"),
            );
        }
    }

    fn carry(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Link::Up(socket) = client.link else {
            return;
        };
        let most = client.out.len().min(CARRIED_BYTES_MAX);
        let len = if self.rng.percent(50) {
            most
        } else {
            1 + self.rng.below(most)
        };
        let bytes: Vec<u8> = client.out.drain(..len).collect();
        self.machine.cores.arrive(socket, &bytes);
        self.trace.note(
            self.now.mono_us,
            format_args!("client {at}: {len} bytes reach the server"),
        );
    }

    fn read(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Link::Up(socket) = client.link else {
            return;
        };
        let mut bytes = Vec::new();
        let len = if self.rng.percent(50) {
            CARRIED_BYTES_MAX
        } else {
            1 + self.rng.below(CARRIED_BYTES_MAX)
        };
        let closed = self.machine.cores.take(socket, len, &mut bytes);
        client.receive(&bytes, &mut self.facts, &mut self.trace);
        if closed {
            self.facts
                .fault(format!("client {at}: the server closed its connection"));
            self.drop_link(at, false);
        }
    }

    /// Breaks a client's connection.
    pub(crate) fn reset(&mut self, at: usize) {
        let Link::Up(socket) = self.clients[at].link else {
            return;
        };
        // One that the server has not accepted yet will be, and is then found to be there: it is left alone.
        if !self.machine.cores.is_accepted(socket) {
            return;
        }
        self.machine.cores.reset(socket);
        self.trace.note(
            self.now.mono_us,
            format_args!("client {at}: its connection breaks"),
        );
        self.drop_link(at, false);
        self.machine.cores.forget(socket);
    }

    fn drop_link(&mut self, at: usize, crashed: bool) {
        let again_us = self.now.mono_us + self.rng.below(AWAY_US_MAX) as u64;
        self.clients[at].lose(crashed, again_us, &mut self.facts);
    }

    fn run_aside(&mut self) -> bool {
        let Some(done) = self.machine.run_aside() else {
            return false;
        };
        if let Some(core) = done {
            self.trace.note(
                self.now.mono_us,
                format_args!("a request of core {} has run aside", core.0),
            );
        }
        true
    }

    fn write_image(&mut self) -> bool {
        // Its thread is stuck in the disk as the log's is.
        let writes = self.log_stuck_until_us <= self.now.mono_us && self.machine.write_image();
        if writes {
            self.trace
                .note(self.now.mono_us, format_args!("a snapshot is written on"));
        }
        writes
    }

    /// Asks one question by a client that only the world uses, and lets the world go on until the answer is there.
    pub(crate) fn ask(&mut self, asker: usize, words: Vec<Vec<u8>>) -> Option<Answer> {
        let request = Request {
            words,
            tag: Tag::Own(0),
        };
        let mut requests = vec![request];
        for _ in 0..ANSWER_TICKS_MAX {
            let client = self.clients.get_mut(asker)?;
            if matches!(client.link, Link::Up(_)) && !requests.is_empty() {
                client.send(std::mem::take(&mut requests), &self.facts, &mut self.trace);
            }
            if let Some(answer) = self.facts.asked.take() {
                return Some(answer);
            }
            if !self.tick() {
                break;
            }
        }
        None
    }

    /// From here on all is well: no new mischief, and what is under way ends.
    pub(crate) fn calm_down(&mut self) {
        self.weather = Weather::CALM;
        self.starved.fill(0);
        self.log_stuck_until_us = 0;
        self.facts.closing = true;
    }

    /// Lets the world go on until nothing happens any more but what happens for ever, or for so many microseconds.
    pub(crate) fn rest(&mut self, us: u64) {
        let until_us = self.now.mono_us + us;
        while self.now.mono_us < until_us && self.tick() {}
    }
}
