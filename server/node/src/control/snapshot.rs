//! Snapshots as files: what the cores write out goes into a file of its own, which then takes the place of the one before.
//!
//! ```text
//! core: transaction over all slots (the cut) ── Note::Begin ──┐
//! each core's walk (storage/src/snapshot/)   ── Note::Chunk ──┼──> Writer::take(note, disk)   temp-….rdb
//!                                            ── Note::Done ───┘         │ all done: checksum, sync, rename, sync of the folder
//!                                  cores <── Mail::SnapshotEnded ───────┘
//! ```
//! [`Writer`] is a state machine over [`Disk`]: a thread drives it (`start`), a simulator does so by hand ([`Snapshots::step`]).
//! Notes come by one queue, so what a core has written out on behalf of another is in the file before that other is done.
//! A record in several chunks lies in the file in one piece: while one is on its way, the chunks of others are kept. Cores stop
//! walking (not serving) while [`QUEUED_BYTES_MAX`] of theirs wait for the disk, so memory is bounded by that and by what is
//! *changed* while a large value is written.
//!
//! A snapshot is the file `dbfilename`, or the base of the log ([`Goal`]): that one gets its name from the log, and the log's
//! manifest names it when it is whole; or a full copy for replicas: those who send it open it, and remove its name. There is one snapshot at a time, whatever it is for.
//!
//! A disk that fails costs the snapshot, nothing else: the file before stays as it is, cores hear of it and write no more.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use migration::Reader;
use runtime::CoreId;
use storage::{Chunk, Shard, rdb};

use crate::aside::POST_TRIES;
use crate::config::Config;
use crate::control::disk::{Disk, SystemDisk};
use crate::control::log::WriteLog;
use crate::control::log::rewrite::Rewrites;
use crate::control::sealed::{Output, SYNC_BYTES, SYNC_BYTES_BESIDE};
use crate::control::vault::Vault;
use crate::mail::Mail;
use crate::node::Node;

/// Bytes of a core's walk that may wait for the disk.
pub const QUEUED_BYTES_MAX: usize = 4 << 20;
/// The number of what is written at once.
const AT_ONCE: u32 = u32::MAX;
/// A failed snapshot by schedule is tried again after this time at the earliest, ms.
pub const RETRY_MS: u64 = 5000;

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// The file of snapshots.
    #[default]
    File,
    /// The base of the log.
    Base,
    /// A full copy for replicas.
    Replica,
}

/// As [`Goal`], with what the writer needs for it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "kinds are documented")]
pub enum Target {
    /// This file.
    File(PathBuf),
    /// The log's base: it holds everything up to this sequence.
    Base { through: u64 },
    /// A file of its own in this folder.
    Replica(PathBuf),
}

/// What the writer is told.
pub enum Note {
    /// A snapshot begins.
    Begin(Box<Plan>),
    /// Bytes of it, from a core.
    Chunk(CoreId, u32, Chunk),
    /// A core has written out all of its slots.
    Done(CoreId, u32),
}

/// What a snapshot is to become.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its number, that of the cut.
    pub number: u32,
    /// Cores that take part.
    pub cores: usize,
    /// The file's first bytes: magic, fields, functions, sizes.
    pub head: Vec<u8>,
    /// What it is for.
    pub target: Target,
    /// A checksum stands at its end.
    pub sums: bool,
    /// When the cut was, unix ms.
    pub begun_ms: u64,
    /// Changes of the data at the cut since the start.
    pub changes: u64,
}

/// What is told when a snapshot has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its number.
    pub number: u32,
    /// What it was for.
    pub goal: Goal,
    /// What went wrong.
    pub done: Result<(), Arc<str>>,
    /// Of one for replicas: its file, and how many bytes that holds.
    pub copy: Option<(PathBuf, u64)>,
}

/// What is known of snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// One is being written (its transaction may still be on its way): since when, unix ms.
    pub since_ms: Option<u64>,
    /// What it is for.
    pub goal: Goal,
    /// Those that the log is based on. All that follows here is about the others.
    pub rewrites: Rewrites,
    /// How long the last one took, seconds.
    pub last_took_s: Option<u64>,
    /// The last one failed.
    pub has_failed: bool,
    /// When one was tried last, unix ms.
    pub tried_ms: u64,
    /// Those that were written.
    pub saves: u64,
    /// Changes of the data that the last one has.
    pub changes: u64,
    /// When the last one was taken, unix seconds.
    pub last_save_s: u64,
    /// One is to be begun as soon as it can.
    pub scheduled: bool,
}

impl Facts {
    /// A snapshot for this is being written: since when, unix ms.
    pub fn since_ms_for(&self, goal: Goal) -> Option<u64> {
        self.since_ms.filter(|_| self.goal == goal)
    }
}

/// What cores and the writer share.
pub struct Snapshots {
    facts: Mutex<Facts>,
    /// A file takes its place: no other one does. Cores never wait for this, as removing the file before may take long.
    placing: Mutex<()>,
    to: Sender<Note>,
    from: Mutex<Receiver<Note>>,
    /// By core: bytes of its walk that wait for the disk.
    queued: Vec<AtomicUsize>,
    /// The last snapshot that was given up; 0 for none.
    given_up: AtomicU32,
    /// The last file before the server leaves is written: what is under way is not acknowledged any more.
    pub has_left: AtomicBool,
    /// Keys that have been written out, of the snapshot that runs, and how many there were.
    pub keys: (AtomicU64, AtomicU64),
    /// Keys that files are sealed with.
    pub vault: Arc<Vault>,
}

impl Snapshots {
    /// For so many cores; `started_s` stands for the last snapshot until there is one, as in Redis.
    pub fn new(cores: usize, started_s: u64, vault: Arc<Vault>) -> Snapshots {
        let (to, from) = channel();
        Snapshots {
            facts: Mutex::new(Facts {
                last_save_s: started_s,
                ..Facts::default()
            }),
            placing: Mutex::new(()),
            to,
            from: Mutex::new(from),
            queued: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            given_up: AtomicU32::new(0),
            has_left: AtomicBool::new(false),
            keys: (AtomicU64::new(0), AtomicU64::new(0)),
            vault,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn facts(&self) -> Facts {
        *self.lock()
    }

    /// Changes what is known.
    pub fn note<R>(&self, change: impl FnOnce(&mut Facts) -> R) -> R {
        change(&mut self.lock())
    }

    /// Claims the one snapshot that may be written; false while another one is.
    pub fn claim(&self, now_ms: u64, goal: Goal) -> bool {
        self.note(|facts| {
            let free = facts.since_ms.is_none();
            if free {
                facts.since_ms = Some(now_ms);
                facts.goal = goal;
                match goal {
                    Goal::File => facts.tried_ms = now_ms,
                    Goal::Base => facts.rewrites.begin(),
                    Goal::Replica => {}
                }
            }
            free
        })
    }

    /// One that was claimed does not begin.
    pub fn withdraw(&self, goal: Goal) {
        self.note(|facts| {
            facts.since_ms = None;
            if goal == Goal::Base {
                facts.rewrites.fail();
            }
        });
    }

    /// Tells the writer.
    pub fn tell(&self, note: Note) {
        if let Note::Chunk(core, _, chunk) = &note {
            self.queued[core.index()].fetch_add(chunk.bytes().len(), Relaxed);
        }
        // INVARIANT: the receiver is in the same value, so the note is not lost.
        let _sent = self.to.send(note);
    }

    /// Bytes of a core's walk that wait for the disk.
    pub fn queued(&self, core: CoreId) -> usize {
        self.queued[core.index()].load(Relaxed)
    }

    /// Whether a snapshot was given up.
    pub fn is_given_up(&self, number: u32) -> bool {
        self.given_up.load(Relaxed) == number
    }

    /// Gives the snapshot of this number up, if it is still being written.
    pub fn give_up(&self, number: u32) {
        // (The lock is that under which a file gets its name: it has it, or never gets it.)
        let _facts = self.lock();
        self.given_up.store(number, Relaxed);
    }

    /// Another file, whole and synced, takes the place of the snapshot; all that are being written have been given up.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn place(&self, disk: &dyn Disk, from: &Path, path: &Path) -> io::Result<()> {
        let _placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        disk.rename(from, path)?;
        disk.sync_dir(folder(path))
    }

    /// Does what the next note asks for, if there is one; what came of it is to be posted.
    pub fn step(&self, writer: &mut Writer, log: &WriteLog, disk: &dyn Disk) -> Option<Vec<Mail>> {
        let from = self.from.lock();
        let note = from.unwrap_or_else(PoisonError::into_inner).try_recv();
        Some(writer.take(self, note.ok()?, log, disk))
    }
}

/// See the module's head.
#[derive(Default)]
pub struct Writer {
    run: Option<Run>,
}

/// A snapshot that is being written.
struct Run {
    plan: Plan,
    /// Where it lies until it is whole, and then.
    paths: (PathBuf, PathBuf),
    file: Option<Output>,
    bytes: u64,
    crc: u64,
    done: Vec<bool>,
    /// The core whose record is not whole yet.
    inside: Option<CoreId>,
    /// What waits for the end of that record.
    kept: VecDeque<(CoreId, Chunk)>,
    failed: Option<Arc<str>>,
}

impl Writer {
    /// Does what a note asks for; a snapshot that has ended by it is told to the cores.
    pub fn take(
        &mut self,
        shared: &Snapshots,
        note: Note,
        log: &WriteLog,
        disk: &dyn Disk,
    ) -> Vec<Mail> {
        match note {
            Note::Begin(plan) => {
                self.run = Some(Run::begin(*plan, (log, &shared.vault), disk));
                self.look(shared);
            }
            Note::Chunk(core, number, chunk) => {
                let bytes = chunk.bytes().len();
                if let Some(run) = self.run.as_mut().filter(|run| run.plan.number == number) {
                    run.add(core, chunk, shared);
                    self.look(shared);
                } else {
                    shared.queued[core.index()].fetch_sub(bytes, Relaxed);
                }
            }
            Note::Done(core, number) => {
                if let Some(run) = self.run.as_mut().filter(|run| run.plan.number == number) {
                    run.done[core.index()] = true;
                    if run.done.iter().all(|done| *done)
                        && let Some(run) = self.run.take()
                    {
                        return vec![Mail::SnapshotEnded(Arc::new(run.end(shared, log, disk)))];
                    }
                }
            }
        }
        Vec::new()
    }

    /// A snapshot that has failed is given up at once: the cores need not write more.
    fn look(&mut self, shared: &Snapshots) {
        if let Some(run) = &mut self.run
            && run.failed.is_some()
        {
            shared.give_up(run.plan.number);
        }
    }
}

impl Run {
    fn begin(plan: Plan, (log, vault): (&WriteLog, &Vault), disk: &dyn Disk) -> Run {
        let paths = match &plan.target {
            Target::File(path) => {
                let name = format!("temp-{}-{}.rdb", std::process::id(), plan.number);
                Some((path.with_file_name(name), path.clone()))
            }
            Target::Replica(folder) => {
                let name = format!("temp-repl-{}-{}.rdb", std::process::id(), plan.number);
                let path = folder.join(name);
                Some((path.clone(), path))
            }
            // A file that no manifest names is no part of the log.
            Target::Base { .. } => log.base_name().map(|path| (path.clone(), path)),
        };
        let mut run = Run {
            done: vec![false; plan.cores],
            paths: paths.clone().unwrap_or_default(),
            file: None,
            bytes: 0,
            crc: 0,
            inside: None,
            kept: VecDeque::new(),
            failed: None,
            plan,
        };
        let made = match paths {
            Some((path, _)) => {
                let unsynced_max = match run.plan.number {
                    AT_ONCE => SYNC_BYTES,
                    _ => SYNC_BYTES_BESIDE,
                };
                Output::create(disk, &path, vault, unsynced_max)
            }
            None => Err(io::Error::other("there is no log")),
        };
        match made {
            Ok(file) => run.file = Some(file),
            Err(error) => run.fail(&error),
        }
        let head = core::mem::take(&mut run.plan.head);
        run.write(&head);
        run
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed.get_or_insert_with(|| error.to_string().into());
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.plan.sums {
            self.crc = rdb::crc64(self.crc, bytes);
        }
        self.bytes += bytes.len() as u64;
        let written = self.file.as_mut().map(|file| file.append(bytes));
        if let Some(Err(error)) = written {
            self.fail(&error);
        }
    }

    /// Takes a core's chunk in: it is written, or kept until the record that is on its way is whole.
    fn add(&mut self, core: CoreId, chunk: Chunk, shared: &Snapshots) {
        let taken = |bytes: usize| shared.queued[core.index()].fetch_sub(bytes, Relaxed);
        match self.inside {
            Some(inside) if inside != core || matches!(chunk, Chunk::Whole(_)) => {
                if inside == core {
                    // Its walk must go on, or the record never ends.
                    taken(chunk.bytes().len());
                }
                self.kept.push_back((core, chunk));
            }
            _ => {
                self.add_now(core, &chunk);
                taken(chunk.bytes().len());
                if self.inside.is_none() {
                    self.add_kept(core, shared);
                }
            }
        }
    }

    fn add_now(&mut self, core: CoreId, chunk: &Chunk) {
        self.write(chunk.bytes());
        self.inside = match chunk {
            Chunk::Part { last: false, .. } => Some(core),
            _ => None,
        };
    }

    /// `before` is the core whose record has ended: what was kept of it has been counted as taken.
    fn add_kept(&mut self, before: CoreId, shared: &Snapshots) {
        let mut rest = core::mem::take(&mut self.kept);
        while let Some((core, chunk)) = rest.pop_front() {
            match self.inside {
                Some(inside) if inside != core || matches!(chunk, Chunk::Whole(_)) => {
                    self.kept.push_back((core, chunk));
                }
                _ => {
                    self.add_now(core, &chunk);
                    if core != before {
                        shared.queued[core.index()].fetch_sub(chunk.bytes().len(), Relaxed);
                    }
                }
            }
        }
    }

    /// All cores are done: the file is made whole and takes its place.
    fn end(mut self, shared: &Snapshots, log: &WriteLog, disk: &dyn Disk) -> Ended {
        let mut end = Vec::new();
        rdb::write_end(&mut end);
        self.write(&end);
        let sum = self.crc.to_le_bytes();
        self.plan.sums = false;
        self.write(&sum);
        if !self.kept.is_empty() || self.inside.is_some() {
            // INVARIANT: a core is done when its records are whole.
            self.fail(&io::Error::other("a record without an end"));
        }
        if self.failed.is_none()
            && let Some(Err(error)) = self.file.take().map(Output::finish)
        {
            self.fail(&error);
        }
        self.file = None;
        let mut copy = None;
        let goal = match self.plan.target {
            Target::File(_) => {
                self.take_place(shared, disk);
                Goal::File
            }
            Target::Base { through } => {
                self.become_base(through, shared, log, disk);
                Goal::Base
            }
            Target::Replica(_) => {
                copy = self.become_copy(shared, disk);
                Goal::Replica
            }
        };
        Ended {
            number: self.plan.number,
            goal,
            done: self.failed.map_or(Ok(()), Err),
            copy,
        }
    }

    /// The file is sent to replicas, by whoever is told of it. (It need not outlive anything: what is not whole is not sent.)
    fn become_copy(&mut self, shared: &Snapshots, disk: &dyn Disk) -> Option<(PathBuf, u64)> {
        if self.failed.is_none() && shared.is_given_up(self.plan.number) {
            self.fail(&io::Error::other("given up"));
        }
        if self.failed.is_some() {
            // What cannot be removed stays as litter: the name says what it is.
            let _ = disk.remove(&self.paths.1);
        }
        shared.note(|facts| facts.since_ms = None);
        let is_whole = self.failed.is_none();
        is_whole.then(|| (self.paths.1.clone(), self.bytes))
    }

    /// The file takes the place of the one before.
    fn take_place(&mut self, shared: &Snapshots, disk: &dyn Disk) {
        let (number, (temporary, path)) = (self.plan.number, self.paths.clone());
        let placing = shared
            .placing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // If another file has been written since, nothing is wrong.
        let is_unwanted = self.failed.is_none() && shared.is_given_up(number);
        if is_unwanted {
            self.fail(&io::Error::other("given up"));
        }
        if self.failed.is_none()
            && let Err(error) = disk
                .rename(&temporary, &path)
                .and_then(|()| disk.sync_dir(folder(&path)))
        {
            self.fail(&error);
        }
        drop(placing);
        shared.note(|facts| {
            if number != AT_ONCE {
                facts.since_ms = None;
            }
            if is_unwanted {
                return;
            }
            facts.has_failed = self.failed.is_some();
            let took_ms = crate::start::unix_ms().saturating_sub(self.plan.begun_ms);
            facts.last_took_s = Some(took_ms / 1000);
            if self.failed.is_none() {
                facts.saves += 1;
                facts.changes = self.plan.changes;
                facts.last_save_s = crate::start::unix_ms() / 1000;
            }
        });
        if self.failed.is_some() {
            // What cannot be removed either stays as litter: the name says what it is.
            let _ = disk.remove(&temporary);
        }
    }

    /// The log has the file as its base.
    fn become_base(&mut self, through: u64, shared: &Snapshots, log: &WriteLog, disk: &dyn Disk) {
        let path = self.paths.1.clone();
        // One that was given up has not failed: nobody wants it any more.
        let is_unwanted = self.failed.is_none() && shared.is_given_up(self.plan.number);
        if is_unwanted {
            self.fail(&io::Error::other("given up"));
        }
        if self.failed.is_none()
            && let Err(error) = disk.sync_dir(folder(&path))
        {
            self.fail(&error);
        }
        if self.failed.is_some() {
            // The next start removes what cannot be removed.
            let _ = disk.remove(&path);
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // (Whether the file stays when that fails is the log's to know.)
            if let Err(error) = log.set_base(name.into_owned(), through, self.bytes) {
                self.fail(&error);
            }
        }
        let took_s = crate::start::unix_ms().saturating_sub(self.plan.begun_ms) / 1000;
        let has_failed = self.failed.is_some() && !is_unwanted;
        shared.note(|facts| {
            facts.since_ms = None;
            facts.rewrites.end(took_s, has_failed);
        });
    }
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The path of the snapshot.
pub fn path_of(config: &Config) -> PathBuf {
    Path::new(&config.dir).join(&config.dbfilename)
}

/// How values are written.
pub fn style_of(config: &Config) -> rdb::Style {
    rdb::Style {
        version: config.rdb_version,
        compress: config.rdbcompression,
        drops_field_deadlines: false,
    }
}

/// How values are written for replicas that understand so much. No Redis before 7.4 reads deadlines of fields: a replica is told of a
/// field's end.
pub fn style_of_copy(config: &Config, reader: Reader) -> rdb::Style {
    rdb::Style {
        version: reader.rdb_version,
        drops_field_deadlines: true,
        ..style_of(config)
    }
}

/// The first bytes of a file: what Redis writes about it, the functions, and how many keys each database has.
pub fn head_of(node: &Node, style: rdb::Style, goal: Goal, shard: &Shard, now_ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    rdb::write_magic(style.version, &mut out);
    for (name, value) in [
        ("redis-ver", crate::admin::VERSION_REPORTED.to_owned()),
        ("redis-bits", usize::BITS.to_string()),
        ("ctime", (now_ms / 1000).to_string()),
        ("used-mem", node.sum(|core| &core.used_bytes).to_string()),
        ("aof-base", u8::from(goal == Goal::Base).to_string()),
    ] {
        rdb::write_aux(name, &value, &mut out);
    }
    for (name, value) in node.source.fields() {
        rdb::write_aux(&name, &value, &mut out);
    }
    if style.version >= 10 {
        for library in node.scripting.libraries().iter() {
            rdb::write_function(&library.code, &mut out);
        }
    }
    for db in 0..shard.db_count() {
        let count = shard.count(db as u8);
        if count.keys > 0 {
            rdb::write_select(db as u8, &mut out);
            rdb::write_resize(count.keys as u64, count.expires as u64, &mut out);
        }
    }
    out
}

/// Writes all that a shard holds into a file, at once: for a server that is about to leave, when nothing else runs.
///
/// # Errors
/// As the disk reports them; the file before is untouched then.
pub fn write_at_once(
    node: &Node,
    config: &Config,
    shard: &Shard,
    now_ms: u64,
    disk: &dyn Disk,
) -> io::Result<()> {
    let style = style_of(config);
    let plan = Plan {
        number: AT_ONCE,
        cores: 0,
        head: head_of(node, style, Goal::File, shard, now_ms),
        target: Target::File(path_of(config)),
        sums: config.rdbchecksum,
        begun_ms: now_ms,
        changes: node.sum(|core| &core.changes),
    };
    let mut run = Run::begin(plan, (&node.write_log, &node.vault), disk);
    for db in 0..shard.db_count() as u8 {
        let mut out = Vec::new();
        if shard.count(db).keys > 0 {
            rdb::write_select(db, &mut out);
        }
        shard.write_db(db, style, |bytes: &mut Vec<u8>| {
            out.append(bytes);
            if out.len() >= 1 << 20 {
                run.write(&out);
                out.clear();
            }
        });
        run.write(&out);
    }
    match run.end(&node.snapshots, &node.write_log, disk).done {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// Starts the thread that writes; it ends with the process.
///
/// # Errors
/// When it cannot be started.
pub fn start(node: &'static Node) -> io::Result<()> {
    let serve = move || {
        // Where it is not permitted the system shares the processors evenly.
        let _ = rustix::process::setpriority_process(None, crate::aside::NICE);
        let mut writer = Writer::default();
        loop {
            let from = node.snapshots.from.lock();
            let note = from.unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(note) = note else { return };
            for mail in writer.take(&node.snapshots, note, &node.write_log, &SystemDisk) {
                tell_all(node, &mail);
            }
        }
    };
    std::thread::Builder::new()
        .name("snapshot".to_owned())
        .spawn(serve)?;
    Ok(())
}

/// Posts the end of a snapshot to every core.
fn tell_all(node: &Node, mail: &Mail) {
    let Mail::SnapshotEnded(ended) = mail else {
        return;
    };
    node.log(|log| match (ended.goal, &ended.done) {
        (Goal::File, Ok(())) => log.notice("DB saved on disk"),
        (Goal::File, Err(error)) => log.warning(&format!("Error saving the DB on disk: {error}")),
        (Goal::Base, Ok(())) => log.notice("Background AOF rewrite finished successfully"),
        (Goal::Base, Err(error)) => log.warning(&format!("Background AOF rewrite failed: {error}")),
        (Goal::Replica, Ok(())) => log.notice("A full copy for replicas has been made"),
        (Goal::Replica, Err(error)) => {
            log.warning(&format!(
                "A full copy for replicas could not be made: {error}"
            ));
        }
    });
    for core in (0..node.cores() as u16).map(CoreId) {
        node.post(core, Mail::SnapshotEnded(Arc::clone(ended)), POST_TRIES);
    }
}
