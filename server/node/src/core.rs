//! Hot path. `Core`: what one core holds beside its connections, and the running of commands on its shard.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use commands::{Block, Read, Refused, Run, Settings, Write};
use protocol::{Args, Group, Refusal, Reply, Resp};
use runtime::{ConnId, CoreId, Now};
use storage::{Key, Limits, Rng, SLOTS, Shard, Slot};

use crate::commit::Commit;
use crate::config::{Config, MaxmemoryPolicy};
use crate::connection::Queues;
use crate::locks::Locks;
use crate::mail::{Ask, Batch, Head, Mail, Replies, Ticket};
use crate::node::Node;
use crate::stats::Tally;
use crate::table::{Kind, Plan, Row, Table};
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

/// CLIENT PAUSE on this core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// Until when, unix ms; 0 = no pause.
    pub until_ms: u64,
    /// Everything, not only writes.
    pub all: bool,
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
    /// What handlers know of it, by [`Scope`].
    pub settings: [Settings; 3],
    /// The slots that live here.
    pub shard: Shard,
    /// Random picks.
    pub rng: Rng,
    /// When replies may leave.
    pub commit: Commit,
    /// Promised slots.
    pub locks: Locks,
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
    /// Connections that may go on with their input.
    pub resume: Vec<ConnId>,
    /// Statistics.
    pub tally: Tally,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Passed deadlines are acted upon without a reader (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: bool,
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
        let config = node.config();
        let range = node.range(id);
        let slots = range.clone().map(|slot| Slot(slot as u16));
        let shard = Shard::new(
            config.databases.clamp(1, 256) as usize,
            slots,
            limits(&config),
            now.unix_ms,
        );
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
            commit: Commit::Local,
            locks: Locks::default(),
            txs: HashMap::new(),
            ready: VecDeque::new(),
            unparked: VecDeque::new(),
            requests: (0..cores).map(|_| Box::default()).collect(),
            replies: (0..cores).map(|_| Box::default()).collect(),
            posts: Vec::new(),
            resume: Vec::new(),
            tally: Tally::new(node.table().rows().len()),
            pause: Pause::default(),
            active_expire: true,
            now,
            config: Arc::clone(&config),
            spare_batches: Vec::new(),
            spare_replies: Vec::new(),
            pool: Vec::new(),
            queues: Queues::default(),
        };
        core.configure(config);
        core
    }

    /// Takes a new configuration over.
    pub fn configure(&mut self, config: Arc<Config>) {
        self.shard.set_limits(limits(&config));
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
            lfu: matches!(
                config.maxmemory_policy,
                MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu
            ),
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
        self.config = config;
    }

    /// Publishes all counters now, for a command that shows them.
    pub fn publish(&mut self) {
        let published = &self.node.published[self.id.index()];
        let clients = published.clients.load(Relaxed) as usize;
        published.publish(&mut self.tally, &self.shard, clients);
        published.publish_calls(&self.tally);
    }

    /// Whether this is the only core.
    #[inline(always)]
    pub fn is_alone(&self) -> bool {
        self.node.cores() == 1
    }

    /// Whether a slot is this core's.
    #[inline(always)]
    pub fn is_here(&self, slot: Slot) -> bool {
        // Slots below the range wrap to large numbers: one comparison.
        slot.0.wrapping_sub(self.first_slot) < self.slots
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
    #[inline]
    pub fn run(
        &mut self,
        row: &'static Row,
        args: Args<'_>,
        (db, resp, scope): (u8, Resp, Scope),
        first: Option<Key<'_>>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        if row.spec.group == Group::Hash && storage::some_field_expires() {
            self.expire_fields(&args, db);
        }
        let settings = &self.settings[scope as usize];
        let done = match row.kind {
            Kind::Data(Run::Read(run)) => run(
                &mut Read {
                    shard: &self.shard,
                    db,
                    reply: Reply::new(out, resp),
                    rng: &mut self.rng,
                    settings,
                    first,
                },
                args,
            ),
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
            Kind::Data(Run::Container) | Kind::Container | Kind::Node(_) => {
                Err(Refused(Refusal::unknown_subcommand(&args)))
            }
        };
        self.tally.called(row.index);
        if self.shard.has_met_expired() {
            self.shard.expire_met();
        }
        if let Err(Refused(refusal)) = done {
            out.truncate(start);
            self.tally.failed(row.index);
            self.refuse(&refusal, resp, out);
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
            let target = CoreId(core as u16);
            if !self.requests[core].heads.is_empty() {
                self.seal_requests(target);
            }
            let replies = &self.replies[core];
            if !replies.parts.is_empty() || !replies.spent.is_empty() {
                let fresh = self.spare_replies.pop().unwrap_or_default();
                let mut replies = core::mem::replace(&mut self.replies[core], fresh);
                replies.from = self.id;
                self.posts.push((target, Mail::Replies(replies)));
            }
        }
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

    /// Answers what concerns this core beside its connections.
    pub fn answer_ask(&mut self, ask: &Ask, out: &mut Vec<u8>) {
        match ask {
            Ask::Pause { until_ms, all } => {
                let pause = &mut self.pause;
                // The stricter of two pauses wins, as in Redis.
                pause.all = (pause.all && pause.until_ms > self.now.unix_ms) || *all;
                pause.until_ms = pause.until_ms.max(*until_ms);
            }
            Ask::Unpause => self.pause.until_ms = 0,
            Ask::Peek(peek) => peek.answer(self, out),
            Ask::Publish => self.publish(),
            Ask::ResetStat => {
                self.tally.reset();
                self.tally.expired_before = self.shard.expired();
                self.tally.freed_before = self.shard.freed_lazily();
                self.shard.set_hits_and_misses(0, 0);
                if let Some(stats) = self.node.handle().and_then(|handle| handle.stats(self.id)) {
                    stats.reset();
                }
                self.node.rates.forget();
            }
            Ask::Sleep(us) => std::thread::sleep(std::time::Duration::from_micros(*us)),
            Ask::ActiveExpire(on) => self.active_expire = *on,
            Ask::Digest => out.extend_from_slice(&self.shard.digest_all().0.to_le_bytes()),
            Ask::Watch(keys) => {
                for (db, key) in keys {
                    let key = Key::new(*db, key);
                    if self.owner(key.slot) == self.id {
                        let version = self.shard.watch(&key);
                        out.extend_from_slice(&version.to_le_bytes());
                    }
                }
            }
            // Connections are not a core's to know: its service answers.
            Ask::ClientList(_) | Ask::ClientKill(_) => {}
        }
    }
}

/// When collections leave their compact form.
fn limits(config: &Config) -> Limits {
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
    }
}
