//! `Node`: what the cores of a process share. Read by all, written rarely and never on the data path.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use runtime::{CoreId, Handle, StatsNow};
use storage::{Rng, SLOTS, Slot};

use crate::acl::{self, Users};
use crate::aside::Aside;
use crate::commandlog::CommandLog;
use crate::config::Config;
use crate::control::load::Loading;
use crate::control::log::WriteLog;
use crate::control::migrate::Migration;
use crate::control::snapshot::Snapshots;
use crate::control::transfer::Links;
use crate::control::vault::{self, Vault};
use crate::front::Front;
use crate::latency::Latency;
use crate::log::Log;
use crate::mail::Mail;
use crate::memory::SharedMemory;
use crate::monitor::Monitors;
use crate::rates::{Rates, Sample};
use crate::replicas::Replicas;
use crate::scripts::Scripting;
use crate::source::Source;
use crate::stats::Published;
use crate::table::Table;
use crate::tls;
use crate::tracking::TrackingCounts;

/// Where a listener's clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The main port: any core serves it.
    Main,
    /// A core's own port.
    Own,
    /// A core's own port of clients that speak TLS.
    OwnTls,
    /// The port of clients that speak TLS: any core serves it.
    Tls,
    /// The unix socket.
    Unix,
}

impl Entrance {
    /// Whether it is one core's, which speaks for itself there.
    pub fn is_own(self) -> bool {
        matches!(self, Entrance::Own | Entrance::OwnTls)
    }

    /// Whether its clients speak TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Entrance::Tls | Entrance::OwnTls)
    }
}

/// How long a full mailbox is tried.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    /// The time between two.
    pub every: Duration,
    /// No more than so many.
    pub most: usize,
    /// Also while the node stops. (Mail to a core that has left is taken, and dropped.)
    pub even_stopping: bool,
}

/// See the module's head.
pub struct Node {
    config: Mutex<Arc<Config>>,
    users: Mutex<Arc<Users>>,
    /// What was denied lately.
    pub acl_log: Mutex<acl::Log>,
    tls: Mutex<Option<Arc<tls::Context>>>,
    /// Changed files of TLS that could not be taken.
    pub tls_reload_failures: AtomicU64,
    table: Table,
    cores: usize,
    seed: u64,
    /// Forty hexadecimal digits that change with each start (INFO run_id).
    pub run_id: String,
    /// Forty hexadecimal digits that name the node in its cluster.
    pub node_id: String,
    /// When it started, unix ms.
    pub started_ms: u64,
    /// The configuration file, if there is one.
    pub config_file: Option<String>,
    /// The path of the program.
    pub executable: String,
    /// Listeners by number.
    pub entrances: Vec<Entrance>,
    /// Counters of each core.
    pub published: Vec<Published>,
    /// What is done per second.
    pub rates: Rates,
    /// Requests worth a note.
    pub commandlog: CommandLog,
    /// Delays worth a note.
    pub latency: Latency,
    /// Long requests on their way to the threads beside the cores.
    pub aside: Aside,
    /// Clients that see all requests.
    pub monitors: Monitors,
    /// Connections now.
    pub clients: AtomicUsize,
    /// Most connections at once.
    pub clients_peak: AtomicUsize,
    /// What client-side caching remembers, for INFO.
    pub tracking: TrackingCounts,
    /// Clients that wait for keys or replicas.
    pub blocked: AtomicUsize,
    /// Of them, those whose wait ends by itself.
    pub blocked_for_time: AtomicUsize,
    /// Clients that listen to channels or patterns.
    pub listening: AtomicUsize,
    /// Clients that watch keys (WATCH).
    pub watching: AtomicUsize,
    /// Keys that somebody waits for, and those whose end somebody waits for.
    pub blocking_keys: AtomicUsize,
    /// See [`Node::blocking_keys`].
    pub blocking_keys_on_nokey: AtomicUsize,
    /// Most bytes seen in use.
    pub used_bytes_peak: AtomicU64,
    /// What is used beside the cores' own.
    pub memory: SharedMemory,
    /// The process is about to stop.
    pub stopping: AtomicBool,
    /// Cores that are about to stop and have no reply under way.
    pub drained: AtomicUsize,
    /// The snapshot that is written, and the last one.
    pub snapshots: Snapshots,
    /// What is loaded at the start.
    pub loading: Loading,
    /// Scripts and libraries.
    pub scripting: Scripting,
    /// Ways to other servers.
    pub links: Links,
    /// The log of writes.
    pub write_log: WriteLog,
    /// The Redis that is followed, if one is.
    pub source: Source,
    /// Those who follow this node.
    pub replicas: Replicas,
    /// The migration from it, if one is under way.
    pub migration: Migration,
    /// Requests that are passed on to it.
    pub front: Front,
    /// Keys of what is sealed on the disk.
    pub vault: Arc<Vault>,
    log: OnceLock<Arc<Log>>,
    next_client: AtomicU64,
    next_tx: AtomicU64,
    keepalive_s: Arc<AtomicU32>,
    handle: OnceLock<Handle<Mail>>,
}

/// What a node is made of.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// Cores.
    pub cores: usize,
    /// Randomness of this start.
    pub seed: u64,
    /// Now, unix ms.
    pub started_ms: u64,
    /// See [`Node::config_file`].
    pub config_file: Option<String>,
    /// See [`Node::executable`].
    pub executable: String,
    /// See [`Node::entrances`].
    pub entrances: Vec<Entrance>,
}

impl Node {
    /// A node of these parts.
    ///
    /// # Errors
    /// What is wrong with the users that the configuration declares, with its files of TLS, or with its keys.
    pub fn new(parts: Parts) -> Result<Node, String> {
        let table = Table::build(&parts.config);
        let users = acl::at_start(&parts.config, &table)?;
        let tls = match parts.config.tls_port {
            0 => None,
            _ => Some(Arc::new(tls::Context::read(&parts.config)?)),
        };
        if parts.config.tls_cluster || parts.config.tls_replication {
            tls::client_config(&parts.config)?;
        }
        let vault = Arc::new(Vault::new(vault::read_keys(&parts.config)?));
        let published = (0..parts.cores)
            .map(|_| Published::new(parts.config.databases as usize, table.rows().len()))
            .collect();
        let keepalive_s = Arc::new(AtomicU32::new(parts.config.tcp_keepalive_s));
        let source_follows = parts.config.replicaof.is_some();
        let mut rng = storage::Rng::new(parts.seed);
        let mut digits = || forty_digits(&mut rng);
        let (run_id, node_id, replication_id) = (digits(), digits(), digits());
        Ok(Node {
            run_id,
            node_id,
            config: Mutex::new(Arc::new(parts.config)),
            users: Mutex::new(Arc::new(users)),
            acl_log: Mutex::default(),
            tls: Mutex::new(tls),
            tls_reload_failures: AtomicU64::new(0),
            table,
            cores: parts.cores,
            seed: rng.next_u64(),
            started_ms: parts.started_ms,
            config_file: parts.config_file,
            executable: parts.executable,
            entrances: parts.entrances,
            published,
            rates: Rates::default(),
            commandlog: CommandLog::default(),
            latency: Latency::default(),
            aside: Aside::default(),
            monitors: Monitors::new(parts.cores),
            scripting: Scripting::new(parts.cores),
            links: Links::default(),
            write_log: WriteLog::new(parts.cores, runtime::mono_us),
            source: Source::new(parts.cores, source_follows),
            replicas: Replicas::new(parts.cores, replication_id, rng.next_u64()),
            migration: Migration::default(),
            front: Front::new(parts.cores),
            log: OnceLock::new(),
            clients: AtomicUsize::new(0),
            tracking: TrackingCounts::default(),
            blocked: AtomicUsize::new(0),
            blocked_for_time: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            watching: AtomicUsize::new(0),
            blocking_keys: AtomicUsize::new(0),
            blocking_keys_on_nokey: AtomicUsize::new(0),
            clients_peak: AtomicUsize::new(0),
            used_bytes_peak: AtomicU64::new(0),
            memory: SharedMemory::default(),
            stopping: AtomicBool::new(false),
            drained: AtomicUsize::new(0),
            snapshots: Snapshots::new(parts.cores, parts.started_ms / 1000, Arc::clone(&vault)),
            vault,
            loading: Loading::new(parts.cores),
            next_client: AtomicU64::new(1),
            next_tx: AtomicU64::new(1),
            keepalive_s,
            handle: OnceLock::new(),
        })
    }

    /// Gives scripts their way to the log.
    pub fn set_log(&self, log: Arc<Log>) {
        // Set once, at start.
        let _ = self.log.set(log);
    }

    /// Writes to the log, if there is one (in tests there is none).
    pub fn log(&self, write: impl FnOnce(&Log)) {
        if let Some(log) = self.log.get() {
            write(log);
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the configuration, one change at a time; `change` says whether it succeeded.
    pub fn change_config<E>(
        &self,
        change: impl FnOnce(&mut Config) -> Result<(), E>,
    ) -> Result<Arc<Config>, E> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Config::clone(&config);
        change(&mut changed)?;
        *config = Arc::new(changed);
        Ok(Arc::clone(&config))
    }

    /// The users in force.
    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the users, one change at a time; `change` says whether it succeeded. The cores take them over when
    /// they are told.
    pub fn change_users<T, E>(
        &self,
        change: impl FnOnce(&mut Users) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Users::clone(&users);
        let done = change(&mut changed)?;
        // (0 is the number that no snapshot has.)
        changed.epoch = changed.epoch.checked_add(1).unwrap_or(1);
        *users = Arc::new(changed);
        Ok(done)
    }

    /// What new connections of TLS shake hands with; None without TLS.
    pub fn tls(&self) -> Option<Arc<tls::Context>> {
        self.tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts another in its place, for connections to come.
    pub fn set_tls(&self, context: Arc<tls::Context>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(context);
    }

    /// When the certificate ends, unix seconds; 0 without TLS.
    pub fn tls_not_after_s(&self) -> u64 {
        self.tls().map_or(0, |context| context.not_after_s)
    }

    /// Whole days until the certificate ends; 0 when it has ended, or without TLS.
    pub fn tls_days_left(&self, now_ms: u64) -> u64 {
        self.tls_not_after_s().saturating_sub(now_ms / 1000) / 86_400
    }

    /// The command table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Cores.
    #[inline(always)]
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Randomness of this start.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The core of a slot: contiguous ranges of equal size.
    #[inline(always)]
    pub fn owner(&self, slot: Slot) -> CoreId {
        CoreId((slot.index() * self.cores / SLOTS) as u16)
    }

    /// The slots of a core.
    pub fn range(&self, core: CoreId) -> Range<usize> {
        let first = |core: usize| (core * SLOTS).div_ceil(self.cores);
        first(core.index())..first(core.index() + 1)
    }

    /// Seconds of keepalive of connections to come; may be changed.
    pub fn keepalive(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.keepalive_s)
    }

    /// Whether the cores measure the processor time of their turns.
    pub fn set_turn_cpu_clock(&self, on: bool) {
        let Some(handle) = self.handle() else { return };
        for core in 0..self.cores {
            if let Some(stats) = handle.stats(CoreId(core as u16)) {
                stats.cpu_clock(on);
            }
        }
    }

    /// A number for a client.
    pub fn client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Relaxed)
    }

    /// A number for a transaction: the one order that all cores agree on.
    pub fn tx_id(&self) -> u64 {
        self.next_tx.fetch_add(1, Relaxed)
    }

    /// Sets the way into the cores; the first call wins.
    pub fn set_handle(&self, handle: Handle<Mail>) {
        let _ = self.handle.set(handle);
    }

    /// The way into the cores; None before they run.
    pub fn handle(&self) -> Option<&Handle<Mail>> {
        self.handle.get()
    }

    /// Keys and keys with a deadline of a database, over all cores.
    pub fn db_count(&self, db: usize) -> (u64, u64) {
        let dbs = self.published.iter().filter_map(|core| core.dbs.get(db));
        dbs.fold((0, 0), |(keys, expires), db| {
            (keys + db.0.load(Relaxed), expires + db.1.load(Relaxed))
        })
    }

    /// The runtime's counters, by core; all zero before the cores run.
    pub fn runtime_stats(&self) -> Vec<StatsNow> {
        let stats = |core| self.handle()?.stats(CoreId(core as u16));
        (0..self.cores)
            .map(|core| stats(core).map_or(StatsNow::default(), runtime::Stats::read))
            .collect()
    }

    /// What the cores have published, for rates.
    pub fn sample(&self, at_ms: u64) -> Sample {
        let runtime = self.runtime_stats();
        Sample {
            at_ms,
            commands: self.sum(|core| &core.commands),
            bytes_in: runtime.iter().map(|core| core.bytes_in).sum(),
            bytes_out: runtime.iter().map(|core| core.bytes_out).sum(),
            turns: runtime.iter().map(|core| core.turns).sum(),
            turns_us: runtime.iter().map(|core| core.turns_us).sum(),
        }
    }

    /// Bytes in use over all cores; remembers the most seen.
    pub fn note_used_bytes(&self) -> u64 {
        let used = self.used().total;
        self.used_bytes_peak.fetch_max(used, Relaxed);
        used
    }

    /// Puts mail into a core's mailbox, for threads that are no core's. Whether it is there: not without cores, and not when it has
    /// been tried in vain for as long as `tries` says.
    pub fn post(&self, core: CoreId, mut mail: Mail, tries: Tries) -> bool {
        let Some(handle) = self.handle() else {
            return false;
        };
        for _ in 0..tries.most {
            match handle.post(core, mail) {
                Ok(()) => return true,
                Err(back) => mail = back,
            }
            if !tries.even_stopping && self.stopping.load(Relaxed) {
                return false;
            }
            std::thread::sleep(tries.every);
        }
        false
    }

    /// A counter, added up over all cores.
    pub fn sum(&self, counter: impl Fn(&Published) -> &AtomicU64) -> u64 {
        self.published
            .iter()
            .map(|core| counter(core).load(Relaxed))
            .sum()
    }

    /// The largest of a number of all cores.
    pub fn max(&self, number: impl Fn(&Published) -> &AtomicU64) -> u64 {
        let numbers = self.published.iter();
        let numbers = numbers.map(|core| number(core).load(Relaxed));
        numbers.max().unwrap_or(0)
    }
}

/// Forty hexadecimal digits at random.
pub fn forty_digits(rng: &mut Rng) -> String {
    (0..5)
        .map(|_| format!("{:08x}", rng.next_u64() as u32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_core_and_ranges_agree() {
        for cores in [1, 2, 3, 7, 64, 1000] {
            let parts = Parts {
                config: Config::default(),
                cores,
                seed: 1,
                started_ms: 0,
                config_file: None,
                executable: String::new(),
                entrances: vec![],
            };
            let node = Node::new(parts).unwrap();
            let mut next = 0;
            for core in 0..cores {
                let range = node.range(CoreId(core as u16));
                assert_eq!(range.start, next);
                next = range.end;
                assert!(
                    range
                        .clone()
                        .all(|slot| node.owner(Slot(slot as u16)).index() == core)
                );
            }
            assert_eq!(next, SLOTS);
        }
    }
}
