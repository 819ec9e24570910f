//! Memory: what the node uses, and what it does when `maxmemory` is near.
//!
//! ```text
//! each core, once a turn:  bytes of data | garbage | fixed arrays | connections ──> its `Published`
//!                                                                                       │ sum over all cores + what they share
//! begin of a turn, and before a write while the bound is near:  weigh() <───────────────┤    tight? full?
//! end of a turn:  make_room(): this core's share of what is too much, some keys at a time, as long as tenacity allows
//! ```
//! - **The bound is the node's.** Each core evicts from its own slots, in proportion to what it holds of the data; those that have
//!   nothing to do are woken, so that writes to one core can be paid by another.
//! - **Ahead of need.** The aim is not the bound but a reserve below it: twice what a turn has grown by lately, which is next to
//!   nothing while little is written. So a turn's writes mostly find the room that they need.
//! - **Late all the same**, a write evicts a few keys itself before it runs (`tight`), which holds up who fills the memory and no one
//!   else; but all writes of a turn no longer than the turn's own slice: then they wait for another turn, a few milliseconds at most. A
//!   write is refused only when there is nothing to evict (`full`).
//! - **What is resident and of no use** makes the bound lower: free places in pages that hold keys still, which nobody counts. A load whose
//!   sizes change leaves many. While resident memory grows more than a 16th beyond `maxmemory`, as much more is evicted as it
//!   grows, up to a quarter; when it falls the bound comes back ([`Cut`]; the thread that gives memory back looks).
//! - **Large values** are freed in slices. Until they are gone they count as used, but not as too much.
//!
//! Without `maxmemory` all this costs a comparison a turn. A plain request pays for none of it: that the gates are to be asked is
//! one more bit of a word that it reads anyway.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use protocol::{Args, Flags};
use runtime::{CoreId, Turn};
use storage::account::class_size;
use storage::{Choice, Eviction, Lfu};

use crate::client_memory::Recent;
use crate::compact::Compaction;
use crate::config::{Config, MaxmemoryPolicy};
use crate::connection::Connection;
use crate::core::Core;
use crate::mail::Mail;
use crate::node::Node;
use crate::service::NodeService;
use crate::table::{Kind, Row};

/// Keys evicted between two looks at the clock, and bytes.
const BATCH_KEYS: usize = 8;
const BATCH_BYTES: usize = 256 << 10;
/// Keys that one write evicts before it runs.
const WRITE_KEYS_MAX: usize = 16;
/// Writes wait for other turns only when the bound is exceeded by one of so many parts, and no longer than this, ms.
const EXCESS_SHARE: u64 = 128;
const WAIT_MS_MAX: u64 = 4;
/// The reserve is at most so many parts of the bound, and forgets a part of itself each turn.
const RESERVE_SHARE_MAX: u64 = 32;
const RESERVE_FADES: u64 = 64;
/// Resident memory may be a part of the bound beyond it, and what is cut off the bound for more is at most a part of it.
const BEYOND_SHARE: u64 = 16;
const CUT_SHARE_MAX: u64 = 4;
/// So close to the bound each write is looked at when nothing may be evicted, bytes.
const TIGHT_BYTES: u64 = 256 << 10;
/// A core that sleeps is woken once in so long, ms; so long waits who has found no key to evict.
const WAKE_MS: u64 = 1;
/// Microseconds of eviction in a turn for each step of `maxmemory-eviction-tenacity` up to its default...
const STEP_US: f64 = 25.0;
const STEPS: u32 = 10;
/// ...and by how much each step beyond adds.
const STEP_RATIO: f64 = 1.15;

/// What all cores share.
#[derive(Default)]
pub struct SharedMemory {
    /// What the process took before it served anybody, bytes.
    pub startup_bytes: AtomicU64,
    /// Scripts, libraries and the states of Lua, as of a moment ago.
    pub scripts_bytes: AtomicU64,
    /// What is cut off the bound, where keys are evicted: see [`Cut`].
    pub cut_bytes: AtomicU64,
    /// Percent of their time that cores spend on moving keys out of sparse pages: see `compact.rs`.
    pub compact_percent: AtomicU64,
    /// Since when the bound has been exceeded, monotonic us; 0: it is not. And how long it was before, us.
    exceeded_since_us: AtomicU64,
    exceeded_us: AtomicU64,
}

/// A core's part.
#[derive(Default)]
pub struct Memory {
    /// `maxmemory`; 0 for none.
    pub bound: u64,
    /// The bound is so near that each request is looked at: 1, else 0.
    pub tight: u64,
    /// It is passed, and there is nothing to evict.
    pub is_full: bool,
    /// Keys that are being moved out of sparse pages.
    pub compaction: Compaction,
    /// Bytes of this core's connections.
    pub client_bytes: u64,
    /// The largest buffers of connections lately.
    pub recent: Recent,
    /// Bytes of all connections beyond which some are closed; 0 for no limit.
    pub clients_bound: u64,
    /// Room to be kept for what a turn may write.
    reserve: u64,
    /// Bytes used here at the end of the last turn.
    before: u64,
    /// Ticks that the writes of this turn may still spend on eviction.
    ticks_left: u64,
    /// Since when writes wait, unix ms; 0: they do not. And whether this turn lets them pass all the same.
    waiting_ms: u64,
    passes: bool,
    /// When other cores were last woken, unix ms, and when they were last asked for their largest connections.
    woken_ms: u64,
    pub(crate) asked_ms: u64,
}

/// Whether a write may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Enough,
    /// Not in this turn.
    Later,
    /// It is to be refused.
    None,
}

/// What is used at a moment, over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Everything.
    pub total: u64,
    /// Of it data, what waits to be freed included...
    pub data: u64,
    /// ...which is so much.
    pub garbage: u64,
    /// Arrays of slots.
    pub fixed: u64,
    /// Connections.
    pub clients: u64,
    /// Who waits for keys, who is told of them, who listens.
    pub tables: u64,
    /// What cores share: scripts, the backlog for replicas, and what was there at the start.
    pub shared: u64,
}

impl Used {
    /// What stands for no data.
    pub fn overhead(&self) -> u64 {
        self.total.saturating_sub(self.data)
    }

    /// What would be used if all garbage were gone.
    fn lasting(&self) -> u64 {
        self.total - self.garbage
    }
}

/// A name's place in a hash map, with what stands beside it: maps are between half full and full.
const PLACE_BYTES: usize = 64;

/// Bytes of a name in a table.
pub fn name_bytes(name: &[u8]) -> usize {
    class_size(name.len()) + PLACE_BYTES
}

/// What is cut off the bound because resident memory is beyond it. It follows growth, not size: evicting keys whose pages hold others frees
/// no page, so that to go on until resident memory falls would empty the cache. Where nothing is written nothing is cut.
#[derive(Default)]
pub struct Cut {
    resident: u64,
    bytes: u64,
}

impl Cut {
    /// What is to be cut off `bound`, as of this look at resident memory; all in bytes.
    pub fn look(&mut self, bound: u64, resident: u64) -> u64 {
        let aim = bound + bound / BEYOND_SHARE;
        let grown = resident.saturating_sub(self.resident.max(aim));
        let room = aim.saturating_sub(resident);
        self.resident = resident;
        self.bytes = (self.bytes + grown).min(bound / CUT_SHARE_MAX);
        self.bytes = self.bytes.saturating_sub(room);
        self.bytes
    }
}

/// The options of eviction.
pub fn eviction(config: &Config) -> Eviction {
    use MaxmemoryPolicy as Policy;
    let choice = match config.maxmemory_policy {
        Policy::NoEviction => None,
        Policy::AllkeysLru | Policy::VolatileLru => Some(Choice::Lru),
        Policy::AllkeysLfu | Policy::VolatileLfu => Some(Choice::Lfu),
        Policy::AllkeysRandom | Policy::VolatileRandom => Some(Choice::Random),
        Policy::VolatileTtl => Some(Choice::Ttl),
        Policy::AllkeysS3Fifo => Some(Choice::S3Fifo),
    };
    let volatile = matches!(
        config.maxmemory_policy,
        Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
    );
    Eviction {
        choice,
        volatile,
        samples: config.maxmemory_samples as usize,
        lfu: Lfu {
            log_factor: config.lfu_log_factor,
            decay_min: config.lfu_decay_time_min,
        },
    }
}

/// Bytes of all clients beyond which some are closed.
fn clients_bound(config: &Config) -> u64 {
    match u64::try_from(config.maxmemory_clients) {
        Ok(bytes) => bytes,
        // A share of `maxmemory` in percent is kept as a negative number.
        Err(_) => {
            let percent = u128::from(config.maxmemory_clients.unsigned_abs());
            (u128::from(config.maxmemory) * percent / 100) as u64
        }
    }
}

/// For how long a turn evicts, us; None: until there is room.
fn slice_us(tenacity: u32) -> Option<f64> {
    match tenacity {
        100.. => None,
        0..=STEPS => Some(STEP_US * f64::from(tenacity)),
        more => {
            let beyond = f64::from(more - STEPS);
            Some(STEP_US * f64::from(STEPS) * STEP_RATIO.powf(beyond))
        }
    }
}

impl Node {
    /// What is used, as the cores have published it last.
    pub fn used(&self) -> Used {
        let shared = &self.memory;
        let shared = shared.startup_bytes.load(Relaxed)
            + shared.scripts_bytes.load(Relaxed)
            + self.replicas.heap_bytes();
        let mut used = Used {
            shared,
            total: shared,
            ..Used::default()
        };
        for core in &self.published {
            used.data += core.used_bytes.load(Relaxed);
            used.garbage += core.garbage_bytes.load(Relaxed);
            used.fixed += core.fixed_bytes.load(Relaxed);
            used.clients += core.client_bytes.load(Relaxed);
            used.tables += core.table_bytes.load(Relaxed);
        }
        used.garbage = used.garbage.min(used.data);
        used.total += used.data + used.fixed + used.clients + used.tables;
        used
    }

    /// Looks at what scripts take: they are shared by locks, so not in every turn.
    pub fn weigh_scripts(&self) {
        let scripting = &self.scripting;
        let texts = scripting.cache().bytes() as u64;
        let libraries = scripting.libraries().bytes() as u64;
        let bytes = scripting.lua_bytes() + texts + libraries;
        self.memory.scripts_bytes.store(bytes, Relaxed);
    }

    /// How long the bound has been exceeded, us: now, and in all.
    pub fn exceeded_us(&self, now_us: u64) -> (u64, u64) {
        let since = self.memory.exceeded_since_us.load(Relaxed);
        let current = if since == 0 {
            0
        } else {
            now_us.saturating_sub(since)
        };
        (current, current + self.memory.exceeded_us.load(Relaxed))
    }

    fn note_exceeded(&self, is_over: bool, now_us: u64) {
        let memory = &self.memory;
        let since = memory.exceeded_since_us.load(Relaxed);
        if is_over && since == 0 {
            memory.exceeded_since_us.store(now_us.max(1), Relaxed);
        } else if !is_over && since != 0 {
            let swapped = memory
                .exceeded_since_us
                .compare_exchange(since, 0, Relaxed, Relaxed);
            if swapped.is_ok() {
                let took_us = now_us.saturating_sub(since);
                memory.exceeded_us.fetch_add(took_us, Relaxed);
            }
        }
    }
}

impl Core {
    /// Takes the bounds of a new configuration over.
    pub fn bound_memory(&mut self, config: &Config) {
        let eviction = eviction(config);
        self.shard.set_eviction(eviction);
        let memory = &mut self.memory;
        if memory.bound == 0 {
            memory.reserve = 0;
        }
        // (Who follows a source has what the source has.)
        let bound = if self.authority.ends_keys() {
            config.maxmemory
        } else {
            0
        };
        (memory.bound, memory.clients_bound) = (bound, clients_bound(config));
        (memory.tight, memory.is_full) = (0, false);
        self.config_evicts = eviction.choice.is_some();
        if self.memory.bound != 0 {
            self.weigh();
        }
    }

    /// Bytes of tables beside the data: who waits for keys of this core, who is told of them, who listens, what slots cost.
    pub fn table_bytes(&self) -> u64 {
        let tables = self.waiting.bytes + self.trackings.bytes + self.pubsub.bytes;
        (tables + self.slot_counts.bytes()) as u64
    }

    /// Publishes what this core uses.
    pub fn publish_memory(&self) {
        if self.beside.is_some() {
            return;
        }
        let published = &self.node.published[self.id.index()];
        let pairs = [
            (&published.used_bytes, self.shard.used_bytes() as u64),
            (&published.garbage_bytes, self.shard.garbage_bytes() as u64),
            (&published.fixed_bytes, self.shard.fixed_bytes() as u64),
            (&published.client_bytes, self.memory.client_bytes),
            (&published.table_bytes, self.table_bytes()),
        ];
        pairs
            .into_iter()
            .for_each(|(to, value)| to.store(value, Relaxed));
    }

    /// Whether eviction rests: CLIENT PAUSE holds writes, and with them this.
    fn is_eviction_paused(&self) -> bool {
        self.pause.until_ms > self.now.unix_ms
    }

    /// The bound for what is counted. Where nothing is evicted it is `maxmemory`: a write is not refused for what nobody can count.
    fn bound(&self) -> u64 {
        let cut = match self.config_evicts {
            true => self.node.memory.cut_bytes.load(Relaxed),
            false => 0,
        };
        // (The cut may be that of another `maxmemory`.)
        self.memory.bound - cut.min(self.memory.bound / CUT_SHARE_MAX)
    }

    /// Looks at how much memory is used, and whether requests are to be looked at for it.
    pub fn weigh(&mut self) -> Used {
        self.publish_memory();
        let used = self.node.used();
        let bound = self.bound();
        let is_over = used.total > bound && !self.is_eviction_paused();
        self.memory.is_full = is_over && used.lasting() > bound && !self.can_evict();
        let is_near = !self.config_evicts && used.total + TIGHT_BYTES > bound;
        self.memory.tight = u64::from(is_over || is_near);
        used
    }

    /// Whether some key of this core could be evicted.
    fn can_evict_here(&self) -> bool {
        let eviction = eviction(&self.config);
        let mut dbs = (0..self.shard.db_count()).map(|db| self.shard.count(db as u8));
        eviction.choice.is_some()
            && dbs.any(|db| {
                if eviction.volatile {
                    db.expires > 0
                } else {
                    db.keys > 0
                }
            })
    }

    /// Whether some key of the node could.
    fn can_evict(&self) -> bool {
        let eviction = eviction(&self.config);
        let others = self.node.published.iter().enumerate();
        let others = others.filter(|(core, _)| *core != self.id.index());
        let mut dbs = others.flat_map(|(_, core)| &core.dbs);
        self.can_evict_here()
            || eviction.choice.is_some()
                && dbs.any(|(keys, expires)| {
                    let candidates = if eviction.volatile { expires } else { keys };
                    candidates.load(Relaxed) > 0
                })
    }

    /// A turn begins.
    pub fn begin_weighing(&mut self) {
        let slice = slice_us(self.config.maxmemory_eviction_tenacity);
        let ticks = slice.map_or(u64::MAX, |us| (us * self.ticks_per_us) as u64);
        let (used, bound) = (self.weigh(), self.bound());
        let memory = &mut self.memory;
        memory.ticks_left = ticks;
        if used.lasting() <= bound {
            memory.waiting_ms = 0;
        }
        let now_ms = self.now.unix_ms;
        memory.passes = memory.waiting_ms != 0 && now_ms >= memory.waiting_ms + WAIT_MS_MAX;
        if memory.passes {
            memory.waiting_ms = 0;
        }
    }

    /// Before a request while memory is tight: evicts a little for one that may need memory; whether it may run.
    #[cold]
    pub fn room_for(&mut self, conn: &Connection, row: &'static Row, args: &Args<'_>) -> Room {
        if self.is_eviction_paused() || !self.may_need_memory(conn, row, args) {
            return Room::Enough;
        }
        let mut used = self.weigh();
        let bound = self.bound();
        if used.lasting() > bound && self.config_evicts && self.memory.ticks_left > 0 {
            let begin = runtime::ticks();
            let bytes = self.share_of(used.lasting() - bound, &used);
            self.shard.evict(&mut self.rng, bytes, WRITE_KEYS_MAX);
            used = self.weigh();
            let took = runtime::ticks().wrapping_sub(begin);
            self.memory.ticks_left = self.memory.ticks_left.saturating_sub(took);
        }
        if self.memory.is_full {
            return Room::None;
        }
        let is_far_over = used.lasting() > bound + bound / EXCESS_SHARE;
        let waits = self.config_evicts && self.memory.ticks_left == 0 && is_far_over;
        if waits && !self.memory.passes {
            if self.memory.waiting_ms == 0 {
                self.memory.waiting_ms = self.now.unix_ms;
            }
            return Room::Later;
        }
        Room::Enough
    }

    /// Whether a request may make the data larger, as its row, its script or its queue says. In MULTI everything does: it is kept.
    fn may_need_memory(&mut self, conn: &Connection, row: &'static Row, args: &Args<'_>) -> bool {
        let is_exec = crate::multi::is_exec(row);
        if conn.in_multi() && !is_exec {
            return !matches!(row.spec.name, "discard" | "quit" | "reset");
        }
        if let Some(multi) = conn.multi.as_ref().filter(|_| is_exec) {
            let mut queued = multi.queued.iter();
            return queued.any(|request| self.needs_memory(request.row, &request.args()));
        }
        let args = args.clone().skip(row.name_words - 1);
        self.needs_memory(row, &args)
    }

    fn needs_memory(&mut self, row: &'static Row, args: &Args<'_>) -> bool {
        match row.kind {
            Kind::Script(kind) => self.script_needs_memory(kind, args),
            _ => row.spec.flags.contains(Flags::DENYOOM),
        }
    }

    /// This core's share of bytes that are too many: as much of them as it holds of the data.
    fn share_of(&self, over: u64, used: &Used) -> usize {
        let own = self.shard.used_bytes() - self.shard.garbage_bytes();
        let all = (used.data - used.garbage).max(own as u64).max(1);
        let share = (u128::from(over) * own as u128).div_ceil(u128::from(all));
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// Evicts so many bytes, as long as tenacity allows; whether all are gone, and whether any key is.
    fn evict_slice(&mut self, bytes: usize) -> (bool, bool) {
        let limit = slice_us(self.config.maxmemory_eviction_tenacity);
        let limit = limit.map(|us| (us * self.ticks_per_us) as u64);
        let watched = self.config.latency_monitor_threshold_ms > 0;
        let batch = if watched { 1 } else { BATCH_KEYS };
        let begin = runtime::ticks();
        let (mut gone, mut lap, mut longest, mut any) = (0, begin, 0, false);
        while gone < bytes {
            let done = self
                .shard
                .evict(&mut self.rng, (bytes - gone).min(BATCH_BYTES), batch);
            gone += done.bytes;
            any |= done.keys > 0;
            let now = runtime::ticks();
            longest = now.wrapping_sub(lap).max(longest);
            lap = now;
            let is_late = limit.is_some_and(|limit| now.wrapping_sub(begin) >= limit);
            if done.fruitless || is_late {
                break;
            }
        }
        if watched {
            let ms = |ticks: u64| (ticks as f64 / self.ticks_per_us) as u64 / 1000;
            self.note_delay("eviction-del", ms(longest));
            self.note_delay("eviction-cycle", ms(lap.wrapping_sub(begin)));
        }
        (gone >= bytes, any)
    }
}

impl NodeService {
    /// Evicts what is this core's to evict, at the end of a turn.
    #[cold]
    pub(crate) fn make_room(&mut self, turn: &mut Turn<'_, Mail>) {
        let core = &mut self.core;
        let own = (core.shard.used_bytes() - core.shard.garbage_bytes()) as u64;
        let grown = own.saturating_sub(core.memory.before);
        let faded = core.memory.reserve - core.memory.reserve.div_ceil(RESERVE_FADES);
        let reserve_max = core.memory.bound / RESERVE_SHARE_MAX;
        core.memory.reserve = (2 * grown).max(faded).min(reserve_max);
        let used = core.weigh();
        let aim = core.bound().saturating_sub(core.memory.reserve);
        if used.lasting() > aim && core.config_evicts && !core.is_eviction_paused() {
            let share = core.share_of(used.lasting() - aim, &used);
            let (is_done, any) = core.evict_slice(share);
            core.weigh();
            if any && !is_done {
                turn.ops.again();
            } else if !is_done && core.can_evict_here() {
                turn.ops.wake_at(turn.now.unix_ms + WAKE_MS);
            }
            self.wake_others(turn.now.unix_ms);
            self.news(None);
        }
        let core = &mut self.core;
        core.memory.before = (core.shard.used_bytes() - core.shard.garbage_bytes()) as u64;
        let is_over = core.memory.tight != 0 && core.node.used().total > core.bound();
        core.node.note_exceeded(is_over, turn.now.mono_us);
    }

    /// Other cores hold a share of the data: those that sleep are to look at it.
    fn wake_others(&mut self, now_ms: u64) {
        let core = &mut self.core;
        if core.is_alone() || now_ms < core.memory.woken_ms + WAKE_MS {
            return;
        }
        core.memory.woken_ms = now_ms;
        let others = (0..core.node.cores() as u16).map(CoreId);
        for other in others.filter(|other| *other != core.id) {
            core.posts.push((other, Mail::MakeRoom));
        }
    }
}

#[cfg(test)]
mod tests;
