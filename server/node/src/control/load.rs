//! Loading an RDB file, on all cores at once.
//!
//! ```text
//! a thread: reads pieces, finds where keys end (storage/src/rdb/file.rs) ── Mail::Load ──> each core decodes its own keys
//!           and takes the checksum                                        a batch per core; at most BATCHES_MAX wait there
//! ```
//! Clients are told LOADING meanwhile. A file that is damaged, also one whose checksum is wrong, ends the start: the error names file
//! and byte, nothing is served and nothing is overwritten.

use core::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runtime::CoreId;
use storage::Slot;
use storage::rdb::{self, Damage, KeyInfo, Raw, Splitter};

use crate::config::Config;
use crate::control::disk::{Disk, SystemDisk};
use crate::control::sealed::{self, Input};
use crate::control::vault::Vault;
use crate::mail::Mail;
use crate::node::{Node, Tries};
use crate::source::{Fields, Positions};

/// Bytes that are read at once, and that a batch for a core has at least.
const PIECE_BYTES: usize = 1 << 20;
const BATCH_BYTES: usize = 64 << 10;
/// Keys of a batch for which there is room from the beginning.
const BATCH_KEYS: usize = 1024;
/// Bytes of a file that a key takes at least.
const KEY_BYTES_MIN: u64 = 3;
/// Keys for which there is room ahead at most where nobody vouches for the size of the file.
pub const EXPECTED_MAX: u64 = 1 << 24;
/// Batches that wait at a core.
const BATCHES_MAX: usize = 16;
/// How long a thread that waits for a core sleeps.
const WAIT: Duration = Duration::from_micros(50);

/// What becomes of a key whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It is left out, as a primary does.
    Drop,
    /// It is kept: a log that follows may say more of it.
    Keep,
}

/// Keys as they stand in a file.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    keys: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    db: u8,
    valkey: bool,
    info: KeyInfo,
    offset: u64,
    end: usize,
}

impl Batch {
    /// Adds a key.
    pub fn push(&mut self, raw: Raw<'_>) {
        if self.keys.is_empty() {
            self.bytes.reserve(BATCH_BYTES + BATCH_BYTES / 8);
            self.keys.reserve(BATCH_KEYS);
        }
        self.bytes.extend_from_slice(raw.bytes);
        self.keys.push(Place {
            db: raw.db,
            valkey: raw.valkey,
            info: raw.info,
            offset: raw.offset,
            end: self.bytes.len(),
        });
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its keys.
    pub fn iter(&self) -> impl Iterator<Item = Raw<'_>> {
        let mut start = 0;
        self.keys.iter().map(move |place| {
            let bytes = &self.bytes[start..place.end];
            start = place.end;
            Raw {
                db: place.db,
                info: place.info,
                offset: place.offset,
                valkey: place.valkey,
                bytes,
            }
        })
    }
}

/// What a core takes from a file.
#[derive(Debug)]
pub enum Part {
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// Keys.
    Keys(Batch),
    /// So many keys of a database are to come, on all cores together.
    Expect {
        /// The database.
        db: u8,
        /// 0: no more.
        keys: u64,
    },
}

/// Why a file was not loaded.
#[derive(Debug)]
pub enum Fault {
    /// It could not be read.
    Unread(sealed::Fault),
    /// It is damaged.
    Damage(Damage),
    /// What is in it was not taken.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unread(fault) => write!(f, "{fault}"),
            Fault::Damage(damage) => write!(f, "{damage}"),
            Fault::Refused(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Fault {}

/// A file that is being read.
pub struct Reader {
    file: Input,
    splitter: Splitter,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Fault::Unread`]
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        config: &Config,
        vault: &Vault,
    ) -> Result<Reader, Fault> {
        Reader::new(disk, path, vault, (config, config.rdbchecksum))
    }

    /// Opens the base of the log, whose checksum counts whatever the configuration says.
    ///
    /// # Errors
    /// [`Fault::Unread`]
    pub fn open_base(
        disk: &dyn Disk,
        path: &Path,
        config: &Config,
        vault: &Vault,
    ) -> Result<Reader, Fault> {
        Reader::new(disk, path, vault, (config, true))
    }

    fn new(
        disk: &dyn Disk,
        path: &Path,
        vault: &Vault,
        (config, sums): (&Config, bool),
    ) -> Result<Reader, Fault> {
        let file = Input::open(disk, path, vault).map_err(Fault::Unread)?;
        let dbs = config.db_count();
        Ok(Reader {
            file,
            splitter: Splitter::new(dbs, sums),
        })
    }

    /// Its size, bytes; of what is sealed in it, if it is sealed.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// Whether it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.file.is_sealed()
    }

    /// Bytes that are done with.
    pub fn offset(&self) -> u64 {
        self.splitter.offset()
    }

    /// Reads the next piece and shows what is whole; whether there may be more.
    ///
    /// # Errors
    /// [`Fault`], also that of `show`.
    pub fn step(
        &mut self,
        mut show: impl FnMut(rdb::Part<'_>) -> Result<(), String>,
    ) -> Result<bool, Fault> {
        let room = self.splitter.room(PIECE_BYTES);
        let read = self.file.read(room).map_err(Fault::Unread)?;
        self.splitter.came(read);
        while let Some(part) = self.splitter.next_part().map_err(Fault::Damage)? {
            show(part).map_err(Fault::Refused)?;
        }
        // (A damaged length may ask for more than there is: no more is read for it.)
        let ends = self.splitter.offset().saturating_add(self.splitter.needs());
        if read == 0 || (ends > self.size() && !self.splitter.is_done()) {
            self.splitter.finish().map_err(Fault::Damage)?;
        }
        Ok(read > 0 && !self.splitter.is_done())
    }

    /// Reads all of it, in batches of one core.
    ///
    /// # Errors
    /// As [`Reader::step`]
    pub fn read_all(
        &mut self,
        mut take: impl FnMut(Part) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let mut more = true;
        while more {
            let mut batch = Batch::default();
            let mut functions = Vec::new();
            more = self.step(|part| {
                match part {
                    rdb::Part::Key(raw) => batch.push(raw),
                    rdb::Part::Function(code) => functions.push(code),
                    _ => {}
                }
                Ok(())
            })?;
            for code in functions {
                take(Part::Function(code)).map_err(Fault::Refused)?;
            }
            take(Part::Keys(batch)).map_err(Fault::Refused)?;
        }
        Ok(())
    }
}

/// What is known of a load, for INFO and for whoever waits.
#[derive(Default)]
pub struct Loading {
    on: AtomicBool,
    has_started: AtomicBool,
    /// When it began, unix ms.
    pub since_ms: AtomicU64,
    /// Bytes of the file, and those that have been read.
    pub total_bytes: AtomicU64,
    /// See `total_bytes`.
    pub loaded_bytes: AtomicU64,
    /// Keys that were loaded.
    pub keys_loaded: AtomicU64,
    /// Keys that were left out since their deadlines had passed.
    pub keys_expired: AtomicU64,
    /// By core: batches on their way.
    waiting: Vec<AtomicUsize>,
    fault: Mutex<Option<String>>,
}

impl Loading {
    /// For so many cores.
    pub fn new(cores: usize) -> Loading {
        Loading {
            waiting: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            ..Loading::default()
        }
    }

    /// Whether something is being loaded.
    pub fn is_on(&self) -> bool {
        self.on.load(Acquire)
    }

    /// Begins, before the cores run.
    pub fn begin(&self, now_ms: u64) {
        self.since_ms.store(now_ms, Relaxed);
        self.total_bytes.store(0, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
        self.on.store(true, Release);
    }

    /// What went wrong, once somebody has acted upon it: another load may follow.
    pub fn take_fault(&self) -> Option<String> {
        let fault = self.fault.lock();
        fault.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// So many bytes are to be read.
    pub fn expect(&self, bytes: u64) {
        self.total_bytes.store(bytes, Relaxed);
    }

    /// So many bytes more have been read.
    pub fn add(&self, bytes: u64) {
        self.loaded_bytes.fetch_add(bytes, Relaxed);
    }

    /// Whether the load of the start is over, whatever is loaded now.
    pub fn has_started(&self) -> bool {
        !self.is_on() || self.has_started.load(Acquire)
    }

    /// It is: what is loaded from here on is a copy.
    pub fn note_start(&self) {
        self.has_started.store(true, Release);
    }

    /// All is there.
    pub fn end(&self) {
        self.on.store(false, Release);
    }

    /// A core could not take something.
    pub fn fail(&self, why: String) {
        let fault = self.fault.lock();
        fault
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
    }

    /// What the server ends with.
    fn end_with(&self, why: String) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// What went wrong, if anything did.
    pub fn fault(&self) -> Option<String> {
        let fault = self.fault.lock();
        fault.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A core has taken a batch.
    pub fn taken(&self, core: CoreId) {
        self.waiting[core.index()].fetch_sub(1, Release);
    }

    fn waits(&self, core: usize) -> usize {
        self.waiting[core].load(Acquire)
    }
}

/// Loads a file on all cores, and returns when they have all of it: where in a source's history it stands, if it says so. For a thread beside the
/// cores; `begin` comes before. `beat` is called every now and then.
///
/// # Errors
/// [`Fault`]; some of it may have been loaded then.
pub fn load(
    node: &Node,
    disk: &dyn Disk,
    path: &Path,
    expired: Expired,
    beat: &mut dyn FnMut(),
) -> Result<Positions, Fault> {
    let mut reader = Reader::open(disk, path, &node.config(), &node.vault)?;
    if !reader.is_sealed() && node.vault.keys().is_some() {
        node.log(|log| {
            let path = path.display();
            log.warning(&format!("{path} is not sealed: the next snapshot will be"));
        });
    }
    let size = reader.size();
    node.loading.total_bytes.store(size, Relaxed);
    let mut spread = Spread::new(node, expired, size / KEY_BYTES_MIN);
    loop {
        let more = reader.step(|part| spread.take(part))?;
        node.loading.loaded_bytes.store(reader.offset(), Relaxed);
        beat();
        if !more {
            break;
        }
    }
    spread.finish().map_err(Fault::Refused)
}

/// What is in a file, on its way to the cores whose it is.
pub struct Spread<'n> {
    node: &'n Node,
    expired: Expired,
    batches: Vec<Batch>,
    /// Databases of which a number of keys was told, and how many of all that is said are still believed.
    expected: Vec<u8>,
    keys_left: u64,
    fields: Fields,
}

impl<'n> Spread<'n> {
    /// Of a file that may have so many keys.
    pub fn new(node: &'n Node, expired: Expired, keys_max: u64) -> Spread<'n> {
        Spread {
            node,
            expired,
            batches: (0..node.cores()).map(|_| Batch::default()).collect(),
            expected: Vec::new(),
            keys_left: keys_max,
            fields: Fields::default(),
        }
    }

    /// Takes what comes next; it may wait for a core.
    ///
    /// # Errors
    /// What a core did not take, of this or of what was before it.
    pub fn take(&mut self, part: rdb::Part<'_>) -> Result<(), String> {
        let (node, expired) = (self.node, self.expired);
        match part {
            rdb::Part::Key(raw) => {
                let key = raw.key().map_err(|damage| damage.to_string())?;
                let core = node.owner(Slot::of(&key)).index();
                let batch = &mut self.batches[core];
                batch.push(raw);
                if batch.bytes.len() >= BATCH_BYTES {
                    let batch = core::mem::take(batch);
                    send(node, core, Part::Keys(batch), expired)?;
                }
            }
            rdb::Part::Function(code) => {
                send(node, 0, Part::Function(code), expired)?;
                // A library may use what one before it has registered under the same name.
                wait(node, 0, 1)?;
            }
            rdb::Part::Resize { db, keys, .. } => {
                // (What a file says is believed no further than its size allows, once a database.)
                if self.expected.contains(&db) {
                    return Ok(());
                }
                let keys = keys.min(self.keys_left);
                self.keys_left -= keys;
                self.expected.push(db);
                for core in 0..node.cores() {
                    send(node, core, Part::Expect { db, keys }, expired)?;
                }
            }
            rdb::Part::ModuleAux(name) => node.log(|log| {
                log.notice(&format!("data of the module type '{name}' was passed over"));
            }),
            rdb::Part::Aux { name, value } => self.fields.note(&name, &value),
            _ => {}
        }
        Ok(())
    }

    /// Nothing more comes; returns when the cores have all of it: where in a source's history it stands, if it says so.
    ///
    /// # Errors
    /// As [`Spread::take`]
    pub fn finish(self) -> Result<Positions, String> {
        let (node, expired) = (self.node, self.expired);
        for (core, batch) in self.batches.into_iter().enumerate() {
            send(node, core, Part::Keys(batch), expired)?;
            for db in &self.expected {
                send(node, core, Part::Expect { db: *db, keys: 0 }, expired)?;
            }
        }
        for core in 0..node.cores() {
            wait(node, core, 1)?;
        }
        Ok(self.fields.positions())
    }
}

/// Waits until fewer than `max` batches wait at a core.
fn wait(node: &Node, core: usize, max: usize) -> Result<(), String> {
    while node.loading.waits(core) >= max {
        if node.stopping.load(Relaxed) {
            return Err("the server was stopped".to_owned());
        }
        std::thread::sleep(WAIT);
    }
    node.loading.fault().map_or(Ok(()), Err)
}

/// Waits until nothing of a load is on its way to a core any more, also of one that has failed.
///
/// # Errors
/// When the server was stopped.
pub fn settle(node: &Node) -> Result<(), String> {
    for core in 0..node.cores() {
        while node.loading.waits(core) > 0 {
            if node.stopping.load(Relaxed) {
                return Err("the server was stopped".to_owned());
            }
            std::thread::sleep(WAIT);
        }
    }
    Ok(())
}

/// Keys that a load announced which has failed are not expected any more.
///
/// # Errors
/// When the server was stopped.
pub fn expect_none(node: &Node) -> Result<(), String> {
    let dbs = node.config().db_count();
    for (core, db) in (0..node.cores()).flat_map(|core| (0..dbs).map(move |db| (core, db))) {
        let none = Part::Expect {
            db: db as u8,
            keys: 0,
        };
        send(node, core, none, Expired::Keep)?;
    }
    settle(node)
}

fn send(node: &Node, core: usize, part: Part, expired: Expired) -> Result<(), String> {
    wait(node, core, BATCHES_MAX)?;
    node.loading.waiting[core].fetch_add(1, Relaxed);
    post(node, core, Mail::Load(Box::new(part), expired))
}

/// Puts mail into a core's mailbox, as soon as it has room.
///
/// # Errors
/// When the server was stopped.
pub fn post(node: &Node, core: usize, mail: Mail) -> Result<(), String> {
    let tries = Tries {
        every: WAIT,
        most: usize::MAX,
        even_stopping: false,
    };
    let is_there = node.post(CoreId(core as u16), mail, tries);
    is_there
        .then_some(())
        .ok_or_else(|| "the server was stopped".to_owned())
}

/// The load has ended: the cores serve from here on.
pub fn end(node: &Node) {
    node.loading.end();
    for core in 0..node.cores() {
        // (Who stops serves nobody.)
        let _ = post(node, core, Mail::Loaded);
    }
}

/// What should have been loaded was not: the server ends with this text.
pub fn give_up(node: &Node, why: String) {
    node.log(|log| log.warning(&why));
    node.loading.end_with(why);
    crate::start::stop(node);
}

/// Loads the snapshot at the start of the server, in a thread of its own; a fault stops the server.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(node: &'static Node) -> io::Result<()> {
    if !node.loading.is_on() || node.config().appendonly {
        // (The log has a base of its own.)
        return Ok(());
    }
    let run = move || {
        let path = crate::control::snapshot::path_of(&node.config());
        let begun_ms = crate::start::unix_ms();
        // (A source says itself when its keys end.)
        let expired = match node.source.authority().ends_keys() {
            true => Expired::Drop,
            false => Expired::Keep,
        };
        match load(node, &SystemDisk, &path, expired, &mut || {}) {
            Ok(positions) => {
                node.source.set_positions(positions);
                end(node);
                let s = crate::start::unix_ms().saturating_sub(begun_ms) as f64 / 1000.0;
                node.log(|log| log.notice(&format!("DB loaded from disk: {s:.3} seconds")));
            }
            Err(fault) => {
                let text = format!("cannot load {}: {fault}", path.display());
                if !node.stopping.load(Relaxed) {
                    give_up(node, text);
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(run)?;
    Ok(())
}
