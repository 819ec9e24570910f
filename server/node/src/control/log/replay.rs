//! The log's effects on their way to the cores that own their slots.
//!
//! ```text
//! reader (a thread) ──frame──> split by slot ──> one batch per core, in the order of the log ──mail──> Batch::apply
//!                              whole databases: to every core, which does its part
//! ```
//! What changes one key goes to one core, in the log's order, and so does a core's part of what changes whole databases: so cores
//! need not wait for each other. The base comes before, in the same way: keys as they stand in its file. No core has more than [`BATCHES_MAX`] batches before it. Of libraries the last ones count.

use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime::CoreId;
use storage::log::{FrameHead, FrameKind};
use storage::{Slot, decode, rdb};

use super::manifest::named;
use super::recover::Replays;
use crate::connection::{Connection, Request};
use crate::control::disk::Disk;
use crate::control::load::{self, Part};
use crate::core::Core;
use crate::executed::Visit;
use crate::mail::Mail;
use crate::node::Node;
use crate::source::{Fields, Positions};

/// Bytes of effects that travel together, and batches that a core may have before it.
const BATCH_BYTES: usize = 512 << 10;
const BATCHES_MAX: usize = 4;
/// How often a reader looks whether cores have caught up.
const LOOK: Duration = Duration::from_micros(100);

/// How far the cores have come with what they were sent.
#[derive(Default)]
pub struct Ahead {
    /// Batches that a core has before it.
    left: Box<[AtomicUsize]>,
    failed: AtomicBool,
    why: Mutex<Option<String>>,
    /// The client of requests that have been run.
    back: Mutex<Option<Box<Connection>>>,
}

/// Effects for one core, or the libraries of functions for all.
#[derive(Default)]
pub struct Batch {
    effects: Vec<u8>,
    libraries: Option<Vec<u8>>,
    /// A part of the base.
    part: Option<Part>,
    /// Requests of a log of Redis, and the client that they are run for.
    requests: Option<(Box<Connection>, Vec<Request>)>,
    ahead: Arc<Ahead>,
}

impl Batch {
    /// Applies it to a core.
    pub fn apply(mut self, core: &mut Core) {
        if let Some((mut conn, requests)) = self.requests.take() {
            let ahead = Arc::clone(&self.ahead);
            let run = move |core: &mut Core| {
                // (What failed in Redis, after a write of a script perhaps, fails here as well.)
                let _failed = core.run_executed(&mut conn, &requests);
                ahead.give_back(conn);
            };
            return core.begin_visit(Visit {
                slots: None,
                run: Box::new(run),
            });
        }
        if let Err(why) = self.try_apply(core) {
            self.ahead.fail(why);
        }
        if let Some(left) = self.ahead.left.get(core.id.index()) {
            left.fetch_sub(1, Release);
        }
    }

    fn try_apply(&mut self, core: &mut Core) -> Result<(), String> {
        if let Some(part) = self.part.take() {
            return core.take_base(part);
        }
        if let Some(payload) = &self.libraries {
            core.restore_libraries(payload)?;
        }
        let mut rest = &self.effects[..];
        while let Some(kind) = rest.first()
            && !self.ahead.failed.load(Relaxed)
        {
            let (db, effect, after) = decode(rest).map_err(|corrupt| corrupt.to_string())?;
            core.shard.apply(db, &effect).map_err(|_| {
                format!(
                    "an effect (kind {kind}, database {db}) does not fit the data that it is about"
                )
            })?;
            rest = after;
        }
        Ok(())
    }
}

impl Ahead {
    fn fail(&self, why: String) {
        let mut first = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(why);
        self.failed.store(true, Release);
    }

    /// Requests have been run.
    pub fn give_back(&self, conn: Box<Connection>) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(conn);
    }

    fn why(&self) -> Option<String> {
        if !self.failed.load(Acquire) {
            return None;
        }
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How batches reach a core; a full mailbox gives them back.
pub type Posts<'n> = Box<dyn FnMut(CoreId, Box<Batch>) -> Option<Box<Batch>> + 'n>;

/// To the mailboxes of a node's cores.
pub fn by_mail(node: &Node) -> Posts<'_> {
    Box::new(|core, batch| {
        let Some(handle) = node.handle() else {
            return Some(batch);
        };
        match handle.post(core, Mail::Replay(batch)) {
            Err(Mail::Replay(batch)) => Some(batch),
            // INVARIANT: a mailbox gives back what it was given.
            Ok(()) | Err(_) => None,
        }
    })
}

/// See the module's head.
pub struct Spread<'n> {
    node: &'n Node,
    posts: Posts<'n>,
    batches: Vec<Vec<u8>>,
    libraries: Option<Vec<u8>>,
    ahead: Arc<Ahead>,
    /// Where in a source's history all of it stands.
    pub positions: Positions,
}

impl<'n> Spread<'n> {
    /// To the cores of a node.
    pub fn new(node: &'n Node, posts: Posts<'n>) -> Spread<'n> {
        let cores = node.cores();
        Spread {
            node,
            posts,
            batches: (0..cores).map(|_| Vec::new()).collect(),
            libraries: None,
            positions: Positions::None,
            ahead: Arc::new(Ahead {
                left: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
                ..Ahead::default()
            }),
        }
    }

    /// Effects of one frame, one after the other.
    fn effects(&mut self, payload: &[u8]) -> Result<(), String> {
        let mut rest = payload;
        while !rest.is_empty() {
            let (db, effect, after) = decode(rest).map_err(|corrupt| corrupt.to_string())?;
            if self.positions.take(db, &effect) {
                rest = after;
                continue;
            }
            let record = &rest[..rest.len() - after.len()];
            match effect.key() {
                Some(key) => {
                    let core = self.node.owner(Slot::of(key));
                    self.record(core, record)?;
                }
                None => {
                    let batches = self.batches.iter_mut();
                    batches.for_each(|batch| batch.extend_from_slice(record));
                }
            }
            rest = after;
        }
        Ok(())
    }

    fn send(&mut self, core: CoreId) -> Result<(), String> {
        let effects = core::mem::take(&mut self.batches[core.index()]);
        if effects.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            effects,
            ..Batch::default()
        };
        self.post(core, batch)
    }

    fn post(&mut self, core: CoreId, batch: Batch) -> Result<(), String> {
        while self.ahead.left[core.index()].load(Acquire) >= BATCHES_MAX {
            self.look()?;
        }
        if batch.requests.is_none() {
            self.ahead.left[core.index()].fetch_add(1, Relaxed);
        }
        let mut batch = Box::new(Batch {
            ahead: Arc::clone(&self.ahead),
            ..batch
        });
        while let Some(back) = (self.posts)(core, batch) {
            batch = back;
            self.look()?;
        }
        Ok(())
    }

    /// An effect for a core.
    ///
    /// # Errors
    /// When a core could not apply one; of all that follows.
    pub fn record(&mut self, core: CoreId, record: &[u8]) -> Result<(), String> {
        self.batches[core.index()].extend_from_slice(record);
        if self.batches[core.index()].len() >= BATCH_BYTES {
            self.send(core)?;
        }
        Ok(())
    }

    /// Libraries of functions, as FUNCTION DUMP tells them: they take the place of those before.
    pub fn libraries(&mut self, payload: Vec<u8>) {
        self.libraries = Some(payload);
    }

    /// Has requests run, behind everything before; their client comes back.
    pub fn run(
        &mut self,
        conn: Box<Connection>,
        requests: Vec<Request>,
    ) -> Result<Box<Connection>, String> {
        self.finish()?;
        let batch = Batch {
            requests: Some((conn, requests)),
            ..Batch::default()
        };
        self.post(CoreId(0), batch)?;
        loop {
            let back = self.ahead.back.lock();
            if let Some(conn) = back.unwrap_or_else(PoisonError::into_inner).take() {
                return Ok(conn);
            }
            self.look()?;
        }
    }

    fn look(&self) -> Result<(), String> {
        if let Some(why) = self.ahead.why() {
            return Err(why);
        }
        if self.node.stopping.load(Relaxed) {
            return Err("the server was stopped while it was read".to_owned());
        }
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// Waits until every core has done all that has been read.
    ///
    /// # Errors
    /// When one could not.
    pub fn finish(&mut self) -> Result<(), String> {
        if let Some(libraries) = self.libraries.take() {
            let batch = Batch {
                libraries: Some(libraries),
                ..Batch::default()
            };
            self.post(CoreId(0), batch)?;
        }
        for core in (0..self.node.cores() as u16).map(CoreId) {
            self.send(core)?;
        }
        for core in 0..self.ahead.left.len() {
            while self.ahead.left[core].load(Acquire) > 0 {
                self.look()?;
            }
        }
        match self.ahead.why() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }
}

impl Spread<'_> {
    /// Reads the log's base, which must be whole.
    ///
    /// # Errors
    /// What is wrong with it, with file and offset.
    pub fn base(&mut self, disk: &dyn Disk, path: &Path) -> std::io::Result<()> {
        let read = self.read_base(disk, path);
        let done = read.and_then(|()| self.finish());
        done.map_err(|why| named(path, &why))
    }

    fn read_base(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), String> {
        let reader = load::Reader::open_base(disk, path, &self.node.config(), &self.node.vault);
        let mut reader = reader.map_err(|fault| fault.to_string())?;
        let mut keys: Vec<load::Batch> = (0..self.node.cores())
            .map(|_| load::Batch::default())
            .collect();
        let (mut done, mut fields) = (0, Fields::default());
        loop {
            let more = reader.step(|part| {
                match part {
                    rdb::Part::Key(raw) => {
                        let key = raw.key().map_err(|damage| damage.to_string())?;
                        let core = self.node.owner(Slot::of(&key));
                        let keys = &mut keys[core.index()];
                        keys.push(raw);
                        if keys.bytes() >= BATCH_BYTES {
                            self.part(core, Part::Keys(core::mem::take(keys)))?;
                        }
                    }
                    rdb::Part::Function(code) => {
                        self.part(CoreId(0), Part::Function(code))?;
                        // A library may use what one before it has registered under the same name.
                        self.finish()?;
                    }
                    rdb::Part::Aux { name, value } => fields.note(&name, &value),
                    _ => {}
                }
                Ok(())
            });
            let more = more.map_err(|fault| fault.to_string())?;
            self.node.loading.add(reader.offset() - done);
            done = reader.offset();
            if !more {
                break;
            }
        }
        for (core, keys) in (0..).map(CoreId).zip(keys) {
            self.part(core, Part::Keys(keys))?;
        }
        self.positions = fields.positions();
        Ok(())
    }

    fn part(&mut self, core: CoreId, part: Part) -> Result<(), String> {
        let batch = Batch {
            part: Some(part),
            ..Batch::default()
        };
        self.post(core, batch)
    }
}

impl Replays for Spread<'_> {
    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), String> {
        match head.kind {
            FrameKind::Effects => self.effects(payload),
            FrameKind::Libraries => {
                self.libraries(payload.to_vec());
                Ok(())
            }
            FrameKind::End => Ok(()),
        }
    }

    fn progress(&mut self, bytes: u64) {
        self.node.loading.add(bytes);
    }

    fn warn(&mut self, text: &str) {
        self.node.log(|log| log.warning(text));
    }
}
