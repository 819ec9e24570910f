//! Hot path. `NodeService`: one core's turn, the table of contents of the server.
//!
//! ```text
//! mail ─> events ─> parse all that is ready ─> prefetch + dispatch in order ─> settle transactions
//!      ─> deadlines, garbage, idle clients ─> commit gate ─> one message per core, one send per connection
//! ```
//! All requests that a turn has ready are parsed before the first is run, across connections: so the
//! buckets, items and elements of the next ones are on their way from memory while one runs.

use std::collections::VecDeque;
use std::time::Duration;

use runtime::{ConnId, CoreId, Now, Service, Turn};

use crate::blocking::Timers;
use crate::clients::Clients;
use crate::commit::{Commit, Gate};
use crate::core::Core;
use crate::inbound::{Arena, Input};
use crate::mail::{Batch, Mail};
use crate::node::Node;

/// One core of the server.
pub struct NodeService {
    pub(crate) core: Core,
    pub(crate) clients: Clients,
    pub(crate) arena: Arena,
    /// Requests of other cores to run in this turn.
    #[allow(clippy::vec_box, reason = "batches travel as boxes")]
    pub(crate) batches: Vec<Box<Batch>>,
    /// Connections with output.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections whose output waits for the log, and how far that had come when they were looked at.
    pub(crate) behind: Vec<ConnId>,
    pub(crate) released: u64,
    /// Connections that have sent their last byte and are owed replies.
    pub(crate) lingering: Vec<ConnId>,
    /// Connections of TLS that shake hands, and until when they may; the oldest first.
    pub(crate) shaking: VecDeque<(ConnId, u64)>,
    /// Empty between turns; see `flush`.
    pub(crate) held: Vec<ConnId>,
    /// When waits of connections end.
    pub(crate) timers: Timers,
    /// Connections that wait for the end of a pause.
    pub(crate) paused: Vec<ConnId>,
    pub(crate) calls_published_ms: u64,
    pub(crate) stopping: bool,
    /// While stopping: no reply is under way here; when it leaves all the same.
    pub(crate) drained: bool,
    pub(crate) leave_until_ms: Option<u64>,
}

impl NodeService {
    /// Core `id` of `node`.
    pub fn new(id: CoreId, node: &'static Node, now: Now) -> NodeService {
        NodeService {
            core: Core::new(id, node, now),
            clients: Clients::default(),
            arena: Arena::default(),
            batches: Vec::new(),
            dirty: Vec::new(),
            behind: Vec::new(),
            released: 0,
            lingering: Vec::new(),
            shaking: VecDeque::new(),
            held: Vec::new(),
            timers: Timers::new(),
            paused: Vec::new(),
            calls_published_ms: 0,
            stopping: false,
            drained: false,
            leave_until_ms: None,
        }
    }

    /// Takes a part of what was logged over, for simulators: it comes by mail in production.
    pub fn replay(&mut self, batch: crate::control::log::replay::Batch) {
        batch.apply(&mut self.core);
    }

    /// Snapshots look at no more than so many items in a turn, for simulators: real time decides nothing there.
    pub fn walk_slowly(&mut self, items_per_turn: usize) {
        self.core.image.items_per_turn = items_per_turn;
    }

    /// The slots that live here, for simulators.
    pub fn shard(&self) -> &storage::Shard {
        &self.core.shard
    }
}

/// While a sync gathers writes: which part of those it lacks a core waits for, how many at most, and how long, us.
const LACKING_PART: u64 = 2;
const LACKING_MAX: u64 = 128;
const LACKING_MOMENT_US: u64 = 100;

impl NodeService {
    /// Replies wait for a sync that waits for more writes: nobody gains by seeing these one by one.
    #[cold]
    fn expect_writes(&self, turn: &mut Turn<'_, Mail>) {
        let cores = self.core.node.cores().max(1) as u64;
        let Some((lacking, left)) = self.core.node.write_log.lacks() else {
            return;
        };
        let part = (lacking / LACKING_PART / cores).min(LACKING_MAX) as u32;
        if part > 1 {
            let moment = Duration::from_micros(LACKING_MOMENT_US / cores);
            turn.ops.expect(part, moment.min(left));
        }
    }
}

impl Service for NodeService {
    type Mail = Mail;

    fn turn(&mut self, turn: &mut Turn<'_, Mail>) {
        self.core.now = turn.now;
        self.core.tally.end_turn(turn.sent, runtime::ticks());
        self.core.watchers.count = self.core.node.monitors.count();
        self.core.shard.set_now(turn.now.unix_ms);
        if self.core.commit != Commit::Local && self.core.look_at_log() {
            self.withhold(self.core.node.write_log.queued());
        }
        if self.core.memory.bound != 0 {
            self.core.begin_weighing();
        }
        self.serve_again();
        if !self.core.late.is_empty() {
            self.ask_late();
        }
        let mut mail = core::mem::take(turn.mail);
        let has_mail = !mail.is_empty();
        mail.drain(..).for_each(|mail| self.on_mail(mail));
        *turn.mail = mail;

        let mut inputs: Vec<Input<'_>> = Vec::new();
        self.on_events(turn, &mut inputs);
        self.core.image.is_asked |= has_mail || !inputs.is_empty();
        self.resume(turn, &mut inputs);
        for input in 0..inputs.len() {
            self.parse(&mut inputs, input);
        }
        self.execute(&inputs);
        self.settle();
        if self.core.has_long_script() {
            self.look_at_script(turn);
        }
        self.keep_unfinished(inputs, turn);

        if !self.core.log_waits.is_empty() {
            self.end_log_waits();
        }
        self.background(turn);
        if self.core.holds != 0 {
            self.front_turn(turn);
        }
        self.send_lines();
        self.core.seal_messages();
        let core = &mut self.core;
        let log = &core.node.write_log;
        let refuses = core.refuses().then_some(core.acks_until);
        let gate = core
            .commit
            .end_of_turn(&mut core.shard, log, (core.id, core.now), refuses);
        core.acks_until = 0;
        if let (Some(_), Gate::Until(position)) = (refuses, gate) {
            self.withhold(position);
        }
        let core = &mut self.core;
        for (target, mut mail) in core.posts.drain(..) {
            if let Gate::Until(position) = gate {
                mail.stamp(position);
            }
            turn.ops.post(target, mail);
        }
        self.flush(turn, gate);
        if gate != Gate::Open {
            self.expect_writes(turn);
        }
        if self.core.memory.clients_bound != 0 {
            self.evict_clients(turn);
        }
        let is_again = self.core.waiting.is_again();
        if self.core.errands > 0 && (is_again || !self.core.late.is_empty()) {
            // What waits for slots that run aside is looked at from time to time.
            turn.ops.wake_at(turn.now.unix_ms + crate::aside::LOOK_MS);
        }
        if !self.core.resume.is_empty() || (is_again && self.core.errands == 0) {
            turn.ops.again();
        }
        self.publish();
    }
}
