//! The machine: a node with its cores, what runs beside them, and a disk that outlives it.
//!
//! ```text
//!   boot() ── node, cores ── reads the log from the disk ──> serves ── kill() or crash() ──> boot() ...
//! ```
//! What threads do in production is called here: long requests aside, the log's thread, the writing of snapshots, the reading of
//! the log.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use node::aside::Helper;
use node::config::{AppendFsync, Config};
use node::control::disk::Disk;
use node::control::log::WriteLog;
use node::control::log::replay::Posts;
use node::control::log::thread as write_log;
use node::control::snapshot::Writer;
use node::control::vault::{Keys, Vault};
use node::mail::Mail;
use node::node::{Entrance, Node, Parts};
use node::service::NodeService;
use runtime::sim::{Gate, Simulation};
use runtime::{CoreId, Now, Spread};

use super::disk::SimDisk;
use crate::rng::Rng;

thread_local! {
    /// The monotonic clock of the world that this thread simulates, us: the log asks for it by a plain function.
    static MONO_US: Cell<u64> = const { Cell::new(0) };
}

fn mono_us() -> u64 {
    MONO_US.get()
}

/// What a node is made of, each time.
pub(crate) struct Plan {
    /// Cores.
    pub(crate) cores: usize,
    pub(crate) config: Config,
    pub(crate) runtime: runtime::Config,
    pub(crate) disk: SimDisk,
    /// What is on the disk is sealed.
    pub(crate) seals: bool,
    /// Items that a snapshot looks at in one turn of a core.
    pub(crate) items_per_turn: usize,
}

/// See the module's head.
pub(crate) struct Machine {
    pub(crate) cores: Simulation<NodeService>,
    node: &'static Node,
    helper: Helper,
    images: Writer,
    disk: SimDisk,
    /// What has run aside and finds its core's mailbox full.
    returning: VecDeque<(CoreId, Mail)>,
    /// When the log wants a step at the latest, monotonic us.
    log_due_us: u64,
}

impl Machine {
    /// Starts a node at a time, with what is on its disk.
    ///
    /// # Errors
    /// When the node cannot be made, or what is on the disk cannot be served.
    pub(crate) fn boot(plan: &Plan, seed: u64, now: Now) -> io::Result<Machine> {
        MONO_US.set(now.mono_us);
        let parts = Parts {
            config: plan.config.clone(),
            cores: plan.cores,
            seed,
            started_ms: now.unix_ms,
            config_file: None,
            executable: "/simulated".to_owned(),
            entrances: vec![Entrance::Main],
        };
        let mut node = Node::new(parts).map_err(io::Error::other)?;
        node.write_log = WriteLog::new(plan.cores, mono_us);
        if plan.seals {
            let vault = Arc::new(vault(seed)?);
            node.snapshots.vault = Arc::clone(&vault);
            node.vault = vault;
        }
        // As in production the node lives as long as the process: see the module of `sim` for what that costs.
        let node: &'static Node = Box::leak(Box::new(node));
        if plan.config.appendonly {
            node.loading.begin(now.unix_ms);
        }
        let gates = vec![Gate {
            core: CoreId(0),
            spread: Spread::RoundRobin,
        }];
        let mut cores = Simulation::new(&plan.runtime, gates, now, |core, handle| {
            node.set_handle(handle);
            let mut service = NodeService::new(core, node, now);
            service.walk_slowly(plan.items_per_turn);
            service
        })?;
        if plan.config.appendonly {
            let disk: Arc<dyn Disk> = Arc::new(plan.disk.clone());
            let posts: Posts<'_> = Box::new(|core, batch| {
                if let Some(service) = cores.service_mut(core.index()) {
                    service.replay(*batch);
                }
                None
            });
            write_log::load_here(node, disk, posts, now.unix_ms)?;
            node.loading.end();
        }
        Ok(Machine {
            cores,
            node,
            helper: Helper::new(node),
            images: Writer::default(),
            disk: plan.disk.clone(),
            returning: VecDeque::new(),
            log_due_us: 0,
        })
    }

    /// Sets the clocks.
    pub(crate) fn set_now(&mut self, now: Now) {
        MONO_US.set(now.mono_us);
        self.cores.set_now(now);
    }

    /// The cores' services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &NodeService> {
        (0..self.cores.cores()).filter_map(|core| self.cores.service(core))
    }

    /// One request that runs aside comes back: whether something was done, and the core that it is for.
    pub(crate) fn run_aside(&mut self) -> Option<Option<CoreId>> {
        match self.helper.try_next(self.node) {
            Some(Some(done)) => self.returning.push_back(done),
            Some(None) => return Some(None),
            None => {}
        }
        let (core, mail) = self.returning.pop_front()?;
        match self.node.handle()?.post(core, mail) {
            Ok(()) => Some(Some(core)),
            // Its mailbox is full: later.
            Err(mail) => {
                self.returning.push_front((core, mail));
                None
            }
        }
    }

    /// The writer of snapshots does what it was told next; whether there was something.
    pub(crate) fn write_image(&mut self) -> bool {
        let (node, disk) = (self.node, &self.disk);
        let Some(mails) = node.snapshots.step(&mut self.images, &node.write_log, disk) else {
            return false;
        };
        for mail in mails {
            let Mail::SnapshotEnded(ended) = mail else {
                continue;
            };
            for core in (0..self.cores.cores() as u16).map(CoreId) {
                let mail = Mail::SnapshotEnded(Arc::clone(&ended));
                self.returning.push_back((core, mail));
            }
        }
        true
    }

    /// Whether the log wants a step, and when it wants one at the latest.
    pub(crate) fn log_due_us(&self) -> Option<u64> {
        self.node.write_log.is_on().then_some(self.log_due_us)
    }

    /// What the log's thread does in one pass.
    pub(crate) fn step_log(&mut self, now_us: u64) {
        let patience = self.node.write_log.step();
        write_log::wake_cores(self.node);
        // INVARIANT: at most a second.
        self.log_due_us = now_us + (patience.as_micros() as u64).max(1);
    }

    /// Whether the log waits for its next step: a frame is queued or unsynced, and replies may wait for it.
    pub(crate) fn log_waits(&self) -> bool {
        let log = &self.node.write_log;
        log.is_on() && log.queued() > log.released()
    }
}

/// Keys and random bytes of a process with this seed: of the two keys either is the one that seals.
fn vault(seed: u64) -> io::Result<Vault> {
    let line = |name: &str, digits: &str| format!("{name} {}\n", digits.repeat(32));
    let (a, b) = (line("a", "0a"), line("b", "b0"));
    let text = if seed.is_multiple_of(2) {
        a + &b
    } else {
        b + &a
    };
    let keys = Keys::parse(text.as_bytes()).map_err(io::Error::other)?;
    let rng = Mutex::new(Rng::new(seed));
    let random = move |into: &mut [u8]| {
        let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
        for part in into.chunks_mut(8) {
            part.copy_from_slice(&rng.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    };
    Ok(Vault::with_random(Some(keys), Box::new(random)))
}

/// When the log is forced to the disk, by the numbers of the options.
pub(crate) fn policy(always: bool) -> AppendFsync {
    if always {
        AppendFsync::Always
    } else {
        AppendFsync::EverySecond
    }
}
