//! Hot path. `Core`: what one core holds beside its connections, and the running of commands on its shard.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use commands::{Block, Read, Refused, Run, Settings, Write};
use migration::Authority;
use protocol::{Args, Refusal, Reply, Resp};
use runtime::{ConnId, CoreId, Now};
use storage::{Key, Limits, Rng, SLOTS, Shard, Slot};

use crate::acl::{self, Denied, Place, Users};
use crate::aside::walk::Walk;
use crate::asked;
use crate::blocking::{Waiter, Waiting};
use crate::commandlog::{Bounds, Noted};
use crate::commit::Commit;
use crate::config::{Config, MaxmemoryPolicy};
use crate::connection::{Connection, Queues};
use crate::front::CoreFront;
use crate::image::Image;
use crate::locks::Locks;
use crate::mail::{Ask, Batch, Head, Mail, Replies, Ticket};
use crate::memory::Memory;
use crate::monitor::Watchers;
use crate::node::Node;
use crate::pubsub::PubSub;
use crate::scripts::CoreScripts;
use crate::slot_counts::SlotCounts;
use crate::stats::Tally;
use crate::table::{Kind, Plan, Row, Table};
use crate::tracking::{Invalidation, Trackings};
use crate::transaction::Tx;

/// Buffers kept for the next sends, and the largest that is kept, bytes.
const POOL_LEN_MAX: usize = 128;
const POOLED_BYTES_MAX: usize = 64 << 10;
/// Batches kept for the next turns, and the largest that is kept, bytes.
const SPARE_BATCHES_MAX: usize = 16;
const SPARE_BATCH_BYTES_MAX: usize = 1 << 20;

/// What part of the keyspace a handler finds in the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// This core's slots, seen through the main port.
    Core,
    /// This core's slots, seen through its own port.
    OwnPort,
    /// All slots.
    Whole,
}

impl Scope {
    /// For a request of a connection to its own core.
    #[inline(always)]
    pub fn of(conn: &Connection) -> Scope {
        Scope::by(conn.own_port)
    }

    /// For a request that came by a core's own port, or by another.
    #[inline(always)]
    pub fn by(own_port: bool) -> Scope {
        if own_port {
            Scope::OwnPort
        } else {
            Scope::Core
        }
    }
}

/// One core.
pub struct Core {
    /// Which one.
    pub id: CoreId,
    /// What all cores share.
    pub node: &'static Node,
    /// The slots of this core: the first one and how many.
    first_slot: u16,
    slots: u16,
    /// The command table.
    pub table: &'static Table,
    /// The configuration that is in force here.
    pub config: Arc<Config>,
    /// The users that are in force here.
    pub users: Arc<Users>,
    /// Their number, where dispatch looks at it.
    pub users_epoch: u32,
    /// They have changed: connections of users that are gone are to be closed (and those of `dropped`).
    pub users_changed: bool,
    /// Connections of replicas that are to be closed at once.
    pub dropped: Vec<ConnId>,
    /// What handlers know of it, by [`Scope`].
    pub settings: [Settings; 3],
    /// The slots that live here.
    pub shard: Shard,
    /// Random picks.
    pub rng: Rng,
    /// When replies may leave.
    pub commit: Commit,
    /// Who decides what keys hold.
    pub authority: Authority,
    /// The last that was not [`Authority::Held`] was this node, of some keys at least.
    pub owns: bool,
    /// Promised slots.
    pub locks: Locks,
    /// The slots of the transaction that runs at this moment, sorted; empty without one.
    pub tx_slots: Vec<Slot>,
    /// Scripts and functions.
    pub scripts: CoreScripts,
    /// Transactions that run here.
    pub txs: HashMap<u64, Tx>,
    /// Transactions that head their queues here and have not been told.
    pub ready: VecDeque<u64>,
    /// Parked requests that may try again.
    pub unparked: VecDeque<Box<Batch>>,
    /// Requests for other cores, gathered in this turn.
    pub requests: Vec<Box<Batch>>,
    /// Replies for other cores, gathered in this turn.
    pub replies: Vec<Box<Replies>>,
    /// Other mail of this turn.
    pub posts: Vec<(CoreId, Mail)>,
    /// Requests that run aside now.
    pub errands: usize,
    /// Walks over all keys, each in slices.
    pub walks: VecDeque<Walk>,
    /// Questions about slots that run aside: they are asked again.
    pub late: Vec<(Ticket, Ask)>,
    /// Connections that may go on with their input.
    pub resume: Vec<ConnId>,
    /// Those who wait for keys of this core.
    pub waiting: Waiting,
    /// Those of them who wait for the log.
    pub log_waits: Vec<Arc<Waiter>>,
    /// Who is told of changes of which keys.
    pub trackings: Trackings,
    /// What is to be told to connections of this core.
    pub invalidations: Vec<Invalidation>,
    /// Who listens to which channel.
    pub pubsub: PubSub,
    /// Its part in snapshots.
    pub image: Image,
    /// What holds requests back (see `image.rs`); 0 for nothing.
    pub holds: u64,
    /// Statistics.
    pub tally: Tally,
    /// What is passed on to the source, while this node is its front.
    pub front: CoreFront,
    /// CLIENT PAUSE.
    pub pause: asked::Pause,
    /// MONITOR.
    pub watchers: Watchers,
    /// How much is used, and how much may be.
    pub memory: Memory,
    /// Keys may be evicted.
    pub config_evicts: bool,
    /// The reading of the processor's counter at which the last request ended: the next one begins there.
    pub lap: u64,
    /// Readings of that counter in a microsecond.
    pub ticks_per_us: f64,
    /// From where on a request is noted.
    pub bounds: Bounds,
    /// What the requests for each slot cost.
    pub slot_counts: SlotCounts,
    /// The request that has just run is over one of them.
    pub noted: Option<Noted>,
    /// There is a note to be made: `noted`, or of the length of what runs.
    pub is_noted: bool,
    /// Passed deadlines are acted upon without a reader (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: bool,
    /// How far the log must have come for the replies that other cores have sent in this turn.
    pub acks_until: u64,
    /// This is no core of the node, but stands for one beside the cores: the run of the script that it is there for.
    pub beside: Option<u64>,
    /// Scripts may call what is not for them (DEBUG).
    pub all_in_scripts: bool,
    /// The time of this turn.
    pub now: Now,
    #[allow(
        clippy::vec_box,
        reason = "batches travel as boxes: they are not boxed anew"
    )]
    spare_batches: Vec<Box<Batch>>,
    #[allow(clippy::vec_box, reason = "as batches")]
    spare_replies: Vec<Box<Replies>>,
    pool: Vec<Vec<u8>>,
    /// Reply queues without a connection.
    pub queues: Queues,
}

impl Core {
    /// Core `id` of `node`, with an empty shard.
    pub fn new(id: CoreId, node: &'static Node, now: Now) -> Core {
        let range = node.range(id);
        Core::with(id, range, None, node, now)
    }

    /// What stands for cores beside them: no slot is at home there, and it publishes nothing. See `aside/script.rs`.
    pub fn beside(node: &'static Node, now: Now) -> Core {
        let mut core = Core::with(CoreId(0), 0..0, Some(0), node, now);
        core.commit = Commit::Local;
        core
    }

    fn with(
        id: CoreId,
        range: Range<usize>,
        beside: Option<u64>,
        node: &'static Node,
        now: Now,
    ) -> Core {
        let config = node.config();
        let slots = range.clone().map(|slot| Slot(slot as u16));
        let mut shard = Shard::new(config.db_count(), slots, limits(&config), now.unix_ms);
        shard.settle(0);
        let cores = node.cores();
        let mut core = Core {
            id,
            node,
            first_slot: range.start as u16,
            slots: range.len() as u16,
            table: node.table(),
            settings: core::array::from_fn(|_| Settings::default()),
            shard,
            rng: Rng::new(node.seed() ^ u64::from(id.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            authority: node.source.authority(),
            owns: node.source.authority() == Authority::Own,
            commit: if config.appendonly {
                Commit::Logged
            } else {
                Commit::Local
            },
            locks: Locks::default(),
            tx_slots: Vec::new(),
            scripts: CoreScripts::new(),
            txs: HashMap::new(),
            ready: VecDeque::new(),
            unparked: VecDeque::new(),
            requests: (0..cores).map(|_| Box::default()).collect(),
            replies: (0..cores).map(|_| Box::default()).collect(),
            posts: Vec::new(),
            errands: 0,
            walks: VecDeque::new(),
            late: Vec::new(),
            resume: Vec::new(),
            waiting: Waiting::default(),
            log_waits: Vec::new(),
            pubsub: PubSub::default(),
            trackings: Trackings::default(),
            invalidations: Vec::new(),
            image: Image::default(),
            holds: 0,
            tally: Tally::new(node.table().rows().len()),
            front: CoreFront::default(),
            pause: asked::Pause::default(),
            watchers: Watchers::default(),
            memory: Memory::default(),
            config_evicts: false,
            lap: 0,
            ticks_per_us: runtime::ticks_per_us(),
            bounds: Bounds::of(&config, 1.0),
            slot_counts: SlotCounts::default(),
            noted: None,
            is_noted: false,
            active_expire: true,
            acks_until: 0,
            beside,
            all_in_scripts: false,
            now,
            config: Arc::clone(&config),
            users: node.users(),
            users_epoch: 0,
            users_changed: false,
            dropped: Vec::new(),
            spare_batches: Vec::new(),
            spare_replies: Vec::new(),
            pool: Vec::new(),
            queues: Queues::default(),
        };
        core.configure(config);
        core.take_users();
        core.hold_expired();
        let records = core.commit != Commit::Local;
        core.shard.effects().set_recording(records);
        core.publish_memory();
        core
    }

    /// Takes a new configuration over.
    pub fn configure(&mut self, config: Arc<Config>) {
        self.shard.set_limits(limits(&config));
        let counts_uses = matches!(
            config.maxmemory_policy,
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu
        );
        let events = config.notify_keyspace_events;
        self.shard.set_events(events.classes());
        self.bounds = Bounds::of(&config, self.ticks_per_us);
        self.slot_counts.configure(&config);
        self.tally.track(config.latency_tracking);
        let range = self.node.range(self.id);
        let last = self.id.index() + 1 == self.node.cores();
        let scan_next = if last {
            0
        } else {
            Shard::cursor_at(Slot(range.end as u16))
        };
        let base = Settings {
            string_bytes_max: config.proto_max_bulk_len,
            cluster: config.cluster_enabled,
            lfu: counts_uses,
            hll_sparse_bytes_max: config.hll_sparse_max_bytes,
            ..Settings::default()
        };
        self.settings = [
            Settings {
                slots_end: range.end,
                scan_next,
                ..base.clone()
            },
            Settings {
                slots_end: range.end,
                scan_next: 0,
                ..base.clone()
            },
            Settings {
                slots_end: SLOTS,
                scan_next: 0,
                ..base
            },
        ];
        self.config = Arc::clone(&config);
        self.bound_memory(&config);
        self.update_holds();
        self.trim_tracked();
    }

    /// Takes the users over that are in force in the node.
    pub fn take_users(&mut self) {
        self.users = self.node.users();
        self.users_changed |= self.users_epoch != self.users.epoch;
        self.users_epoch = self.users.epoch;
    }

    /// Looks a connection's user up in the users of today. One that is gone takes its connection with it.
    #[cold]
    pub fn recognize(&self, conn: &mut Connection) {
        match self.users.again(&conn.user) {
            Some(user) => conn.user = Arc::clone(user),
            None => {
                conn.user = Arc::clone(self.users.default_user());
                conn.authenticated = false;
                conn.closing = true;
            }
        }
        conn.seen_at = self.users_epoch;
        let may_all = self.is_authenticated(conn) && conn.user.may_all;
        conn.free_at = if may_all { self.users_epoch } else { 0 };
    }

    /// Whether a connection need not log in (any more).
    #[inline]
    pub fn is_authenticated(&self, conn: &Connection) -> bool {
        conn.authenticated || self.users.open
    }

    /// Whether a connection's user may run a command with these words; a denial goes to ACL LOG.
    ///
    /// # Errors
    /// What it may not, and what to tell it (for a script: behind "ACL failure in script: ").
    pub fn may_run(
        &self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        place: Place,
    ) -> Result<(), (Denied, Refusal)> {
        if conn.seen_at != self.users_epoch {
            self.recognize(conn);
        }
        let Err(denied) = conn.user.check(row, args) else {
            return Ok(());
        };
        self.note_denied(conn, denied.into(), place, denied.object(row, args), None);
        Err((denied, denied.refusal(&conn.user, row)))
    }

    /// Puts a denial into ACL LOG; `user` is the name that was tried, if it is not the connection's.
    #[cold]
    pub fn note_denied(
        &self,
        conn: &Connection,
        denial: acl::Denial,
        place: Place,
        object: &[u8],
        user: Option<&[u8]>,
    ) {
        let mut client = Vec::new();
        crate::clients::write_line(conn, self, &mut client);
        client.pop();
        let entry = acl::log::Entry {
            denial,
            place,
            object: object.to_vec(),
            user: user.unwrap_or(&conn.user.name).to_vec(),
            client,
            last_ms: self.now.unix_ms,
        };
        let log = self.node.acl_log.lock();
        log.unwrap_or_else(PoisonError::into_inner)
            .note(entry, self.config.acllog_max_len);
    }

    /// Publishes all counters now, for a command that shows them.
    pub fn publish(&mut self) {
        if self.beside.is_some() {
            return;
        }
        let published = &self.node.published[self.id.index()];
        let clients = published.clients.load(Relaxed) as usize;
        published.publish(&mut self.tally, &self.shard, clients);
        published.publish_calls(&self.tally);
        let (input, output) = self.memory.recent.largest(self.now.unix_ms / 1000);
        published.recent_input.store(input as u64, Relaxed);
        published.recent_output.store(output as u64, Relaxed);
        self.publish_memory();
        self.node.weigh_scripts();
    }

    /// Whether a request has brought something about that others wait for: see `NodeService::news`.
    #[inline(always)]
    pub fn has_news(&self) -> bool {
        self.shard.has_news() || self.pubsub.has_messages() || !self.invalidations.is_empty()
    }

    /// Publishes the histograms as well.
    pub fn publish_histograms(&mut self) {
        if self.beside.is_some() {
            return;
        }
        self.publish();
        let published = &self.node.published[self.id.index()];
        published.publish_histograms(&self.tally);
    }

    /// Begins to time a request, or several one after the other.
    #[inline(always)]
    pub fn begin_lap(&mut self) {
        self.lap = runtime::ticks();
    }

    /// Ends the time of a request that began at `begin`: so many ticks. The next one begins.
    #[inline(always)]
    pub fn end_lap(&mut self, begin: u64) -> u64 {
        self.lap = runtime::ticks();
        self.lap.wrapping_sub(begin)
    }

    /// Whether this is the only core.
    #[inline(always)]
    pub fn is_alone(&self) -> bool {
        self.node.cores() == 1
    }

    /// Whether every slot is free here: this is the only core, and no transaction holds any (one that waits for another server does).
    #[inline(always)]
    pub fn has_every_slot(&self) -> bool {
        self.is_alone() && self.locks.is_empty()
    }

    /// Whether a slot is this core's.
    #[inline(always)]
    pub fn is_here(&self, slot: Slot) -> bool {
        // Slots below the range wrap to large numbers: one comparison.
        slot.0.wrapping_sub(self.first_slot) < self.slots
    }

    /// Whether a slot is this core's and in no transaction's hands.
    #[inline(always)]
    pub fn is_free(&self, slot: Slot) -> bool {
        self.is_here(slot) && !self.locks.is_held(slot)
    }

    /// The core of a slot.
    #[inline(always)]
    pub fn owner(&self, slot: Slot) -> CoreId {
        self.node.owner(slot)
    }

    /// Fields whose deadline has passed are gone before a command looks at their hash.
    #[cold]
    fn expire_fields(&mut self, args: &Args<'_>, db: u8) {
        if let Some(word) = args.word(1) {
            self.shard.expire_fields(&Key::new(db, word));
        }
    }

    /// Runs a command on data; the reply, or the refusal, is appended to `out`.
    #[inline(never)]
    pub fn run(
        &mut self,
        row: &'static Row,
        args: Args<'_>,
        to: (u8, Resp, Scope),
        first: Option<Key<'_>>,
        out: &mut Vec<u8>,
    ) {
        self.run_here::<false>(row, args, to, first, out);
    }

    /// As `run`, part of its caller: for the hottest one, which says whether the reply leaves with the turn that brought the
    /// request.
    #[inline(always)]
    pub fn run_here<const ANSWERED: bool>(
        &mut self,
        row: &'static Row,
        args: Args<'_>,
        (db, resp, scope): (u8, Resp, Scope),
        first: Option<Key<'_>>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        if row.of_hashes && storage::some_field_expires() {
            self.expire_fields(&args, db);
        }
        let settings = &self.settings[scope as usize];
        let done = match row.kind {
            Kind::Data(Run::Read(run)) => {
                self.shard.begin_read();
                run(
                    &mut Read {
                        shard: &self.shard,
                        db,
                        reply: Reply::new(out, resp),
                        rng: &mut self.rng,
                        settings,
                        first,
                    },
                    args,
                )
            }
            Kind::Data(Run::Write(run) | Run::Block(Block { run, .. })) => run(
                &mut Write {
                    edit: self.shard.edit(),
                    db,
                    reply: Reply::new(out, resp),
                    rng: &mut self.rng,
                    settings,
                    first,
                    wait: None,
                },
                args,
            ),
            Kind::Publish(topic) => self.run_publish(args, topic, resp, out),
            Kind::Data(Run::Container) | Kind::Container | Kind::Node(_) | Kind::Script(_) => {
                Err(Refused(Refusal::unknown_subcommand(&args)))
            }
        };
        let ticks = self.end_lap(self.lap);
        if ANSWERED {
            self.tally.called_and_answered(row.index, ticks);
        } else {
            self.tally.called(row.index, ticks);
        }
        if self.shard.has_met_expired() {
            self.shard.expire_met();
        }
        if let Err(Refused(refusal)) = done {
            out.truncate(start);
            self.tally.failed(row.index);
            self.refuse(&refusal, resp, out);
        }
        let reply_bytes = out.len() - start;
        if ticks | reply_bytes as u64 >= self.bounds.least {
            self.note_later(row, ticks, reply_bytes);
        }
    }

    /// A request that has just run may be over a bound: whoever has its words makes a note of it.
    #[cold]
    #[inline(never)]
    pub fn note_later(&mut self, row: &'static Row, ticks: u64, reply_bytes: usize) {
        let is_over = ticks >= self.bounds.ticks || reply_bytes >= self.bounds.reply_bytes;
        if is_over || self.slot_counts.is_on() {
            self.noted = Some(Noted {
                row,
                ticks,
                reply_bytes,
            });
            self.is_noted = true;
        }
    }

    /// As `run`, for a client who may have said CLIENT NO-TOUCH.
    #[inline]
    pub fn run_for(
        &mut self,
        no_touch: bool,
        row: &'static Row,
        args: Args<'_>,
        to: (u8, Resp, Scope),
        first: Option<Key<'_>>,
        out: &mut Vec<u8>,
    ) {
        if no_touch {
            self.run_untouched(row, args, to, first, out);
        } else {
            self.run(row, args, to, first, out);
        }
    }

    /// As `run`, for a client whose reads leave no trace: keys keep their access times.
    #[cold]
    fn run_untouched(
        &mut self,
        row: &'static Row,
        args: Args<'_>,
        to: (u8, Resp, Scope),
        first: Option<Key<'_>>,
        out: &mut Vec<u8>,
    ) {
        let mut found: Vec<(Key<'_>, u32)> = Vec::new();
        let words = args.clone();
        // A request whose keys cannot be told is refused by its handler.
        let _ = row.spec.keys_of(&words, |index, _| {
            if let Some(word) = words.word(index) {
                let key = Key::new(to.0, word);
                found.extend(self.shard.access_s(&key).map(|access_s| (key, access_s)));
            }
        });
        self.run(row, args, to, first, out);
        self.restore_access(row, found);
    }

    /// Puts access times back after a read of a client who leaves no trace.
    pub fn restore_access<'k>(&self, row: &Row, found: impl IntoIterator<Item = (Key<'k>, u32)>) {
        if !row.writes && row.spec.name != "touch" {
            let restore = |(key, access_s)| self.shard.set_access_s(&key, access_s);
            found.into_iter().for_each(restore);
        }
    }

    /// Writes a refusal and counts it.
    #[cold]
    pub fn refuse(&mut self, refusal: &Refusal, resp: Resp, out: &mut Vec<u8>) {
        self.tally.refused(refusal.code());
        Reply::new(out, resp).error(refusal);
    }

    /// A slot of these that is held by a transaction.
    #[inline]
    pub fn held_slot(&self, mut slots: impl Iterator<Item = Slot>) -> Option<Slot> {
        if self.locks.is_empty() {
            return None;
        }
        slots.find(|slot| self.locks.is_held(*slot))
    }

    /// The slots of a request's keys, sorted and without repeats, are appended to `slots`.
    pub fn slots_of(row: &Row, args: &Args<'_>, slots: &mut Vec<Slot>) {
        // A request whose keys cannot be told is refused by its handler.
        let _ = row.spec.keys_of(args, |index, _| {
            if let Some(word) = args.word(index) {
                slots.push(Slot::of(word));
            }
        });
        slots.sort_unstable();
        slots.dedup();
    }

    /// Whether a request needs every slot of the node in one place.
    pub fn needs_whole(row: &Row, args: &Args<'_>) -> bool {
        match (row.plan, row.spread) {
            (Plan::Multi, commands::Spread::KeysOrWhole(whole)) => whole(args),
            (Plan::Whole, _) => true,
            _ => false,
        }
    }

    /// Adds a request to this turn's message for another core.
    #[inline]
    pub fn forward(&mut self, core: CoreId, args: &Args<'_>, head: Head) {
        if !self.requests[core.index()].has_room(args) {
            self.seal_requests(core);
        }
        self.requests[core.index()].push(args, head);
        self.tally.forwarded += 1;
    }

    /// Adds a reply to this turn's message for another core.
    #[inline]
    pub fn reply_to(&mut self, ticket: Ticket, write: impl FnOnce(&mut Core, &mut Vec<u8>)) {
        let mut buf = core::mem::take(&mut self.replies[ticket.core.index()].buf);
        let start = buf.len();
        write(self, &mut buf);
        let len = buf.len() - start;
        let replies = &mut self.replies[ticket.core.index()];
        replies.buf = buf;
        replies.parts.push((ticket.conn, ticket.seq, len));
    }

    /// Puts this turn's messages into `posts`.
    pub fn seal_messages(&mut self) {
        for core in 0..self.requests.len() {
            if !self.requests[core].heads.is_empty() {
                self.seal_requests(CoreId(core as u16));
            }
        }
        // Replies come first: one who publishes has his reply before his own message.
        let others = self.posts.len();
        for core in 0..self.replies.len() {
            let target = CoreId(core as u16);
            let replies = &self.replies[core];
            if !replies.parts.is_empty() || !replies.spent.is_empty() {
                let fresh = self.spare_replies.pop().unwrap_or_default();
                let mut replies = core::mem::replace(&mut self.replies[core], fresh);
                replies.from = self.id;
                self.posts.push((target, Mail::Replies(replies)));
            }
        }
        self.posts.rotate_left(others);
    }

    fn seal_requests(&mut self, target: CoreId) {
        let fresh = self.spare_batches.pop().unwrap_or_default();
        let batch = core::mem::replace(&mut self.requests[target.index()], fresh);
        self.posts.push((target, Mail::Requests(batch)));
    }

    /// Takes a message back whose replies have been passed on: those to others use its memory.
    pub fn keep_replies(&mut self, mut replies: Box<Replies>) {
        for spent in replies.spent.drain(..) {
            self.keep_batch(spent);
        }
        if self.spare_replies.len() < SPARE_BATCHES_MAX
            && replies.buf.capacity() <= SPARE_BATCH_BYTES_MAX
        {
            replies.buf.clear();
            replies.parts.clear();
            replies.until = 0;
            self.spare_replies.push(replies);
        }
    }

    /// Takes a batch back whose requests have been answered.
    pub fn keep_batch(&mut self, mut batch: Box<Batch>) {
        if self.spare_batches.len() < SPARE_BATCHES_MAX
            && batch.buf.capacity() <= SPARE_BATCH_BYTES_MAX
        {
            batch.clear();
            self.spare_batches.push(batch);
        }
    }

    /// An empty buffer for replies.
    #[inline]
    pub fn buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    #[inline]
    pub fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.pool.len() < POOL_LEN_MAX
            && buffer.capacity() <= POOLED_BYTES_MAX
            && buffer.capacity() > 0
        {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

/// When collections leave their compact form.
pub fn limits(config: &Config) -> Limits {
    Limits {
        list_max_listpack_size: config.list_max_listpack_size,
        list_compress_depth: config.list_compress_depth,
        hash_max_listpack_entries: config.hash_max_listpack_entries,
        hash_max_listpack_value_bytes: config.hash_max_listpack_value_bytes,
        set_max_intset_entries: config.set_max_intset_entries,
        set_max_listpack_entries: config.set_max_listpack_entries,
        set_max_listpack_value_bytes: config.set_max_listpack_value_bytes,
        zset_max_listpack_entries: config.zset_max_listpack_entries,
        zset_max_listpack_value_bytes: config.zset_max_listpack_value_bytes,
        stream_node_max_bytes: config.stream_node_max_bytes,
        stream_node_max_entries: config.stream_node_max_entries,
        // What was written under a higher bound is read back under this one.
        string_bytes_max: usize::try_from(config.proto_max_bulk_len)
            .unwrap_or(usize::MAX)
            .max(Limits::default().string_bytes_max),
    }
}
