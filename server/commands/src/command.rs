//! `Command`: a row of the command table, and the contexts that handlers run in.

use protocol::{Args, Refusal, Reply, Spec};
use storage::{Edit, Key, Rng, Shard, WrongType};

/// A command: what is said of it, and the function that does it.
#[derive(Clone, Copy)]
pub struct Command {
    /// What can be said of it.
    pub spec: Spec,
    /// What it does.
    pub run: Run,
    /// What of the keyspace it needs in one place.
    pub spread: Spread,
}

/// A handler. READONLY and WRITE follow from which it is: a read that writes does not compile.
#[derive(Clone, Copy)]
pub enum Run {
    /// Only reads.
    Read(fn(&mut Read<'_>, Args<'_>) -> Result<(), Refused>),
    /// May change data.
    Write(fn(&mut Write<'_>, Args<'_>) -> Result<(), Refused>),
    /// May find nothing and then wait for one of its keys: see [`Block`].
    Block(Block),
    /// Does nothing itself: its subcommands do (`object|encoding`).
    Container,
}

/// A command that can wait (BLPOP, XREAD). When it finds nothing, its handler writes the reply for where nobody may wait (in MULTI,
/// in a script) and sets [`Write::wait`]. Elsewhere the node drops that reply and runs the command again, for one key, whenever
/// that key has changed; after the timeout the reply is a null array, whatever the command.
#[derive(Clone, Copy)]
pub struct Block {
    /// The handler.
    pub run: fn(&mut Write<'_>, Args<'_>) -> Result<(), Refused>,
    /// It may change data (XREAD does not).
    pub writes: bool,
    /// It is run again also when the key is gone (XREADGROUP answers with an error then).
    pub on_removal: bool,
    /// The words of the same request (its name included) for the key at this word alone; none when it does not wait for that key.
    pub narrow: fn(&Args<'_>, usize) -> Vec<Vec<u8>>,
}

/// How long a request waits, and for what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Until then, unix ms; None for ever.
    pub until_ms: Option<u64>,
    /// The words (name included) that take the place of the request's own from now on, also for [`Block::narrow`]: XREAD's `$`
    /// is the id that was the last one at the first try. As many words as before, keys at the same places. None: as they are.
    pub words: Option<Vec<Vec<u8>>>,
}

/// What of the keyspace a command needs when the slots live on several cores.
#[derive(Clone, Copy)]
pub enum Spread {
    /// The slots of its keys, as its key specs say.
    Keys,
    /// The slots of its keys, or everything when the function says so of a request.
    KeysOrWhole(fn(&Args<'_>) -> bool),
    /// Runs on each shard by itself; integer replies are added up.
    Sum,
    /// Runs on each shard by itself; array replies are put behind one another.
    Concat,
    /// Runs on the shard of the cursor in word 1; see `key/scan.rs`.
    Scan,
    /// Runs on one shard, chosen at random by how many keys it holds.
    AnyShard,
    /// Needs every slot in one place.
    Whole,
}

/// What stops a handler: a refusal, which becomes the reply.
///
/// A type of its own so that `?` takes both the protocol's refusals and the storage's wrong types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Refusal);

impl From<Refusal> for Refused {
    #[inline]
    fn from(refusal: Refusal) -> Self {
        Refused(refusal)
    }
}

impl From<WrongType> for Refused {
    #[inline]
    fn from(_: WrongType) -> Self {
        Refused(Refusal::WrongType)
    }
}

/// What handlers know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest string, bytes (`proto-max-bulk-len`).
    pub string_bytes_max: u64,
    /// Cluster mode: one database, keys of a request in one slot.
    pub cluster: bool,
    /// An LFU policy is selected (OBJECT FREQ instead of OBJECT IDLETIME).
    pub lfu: bool,
    /// Longest sparse HyperLogLog, bytes (`hll-sparse-max-bytes`).
    pub hll_sparse_bytes_max: usize,
    /// A script asks: what has no order gets one.
    pub in_script: bool,
    /// The first slot after this shard's: where a scan of the shard ends.
    pub slots_end: usize,
    /// The cursor with which a scan goes on after this shard's slots; 0 when nothing is left.
    pub scan_next: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            string_bytes_max: 512 * 1024 * 1024,
            cluster: false,
            lfu: false,
            hll_sparse_bytes_max: 3000,
            in_script: false,
            slots_end: storage::SLOTS,
            scan_next: 0,
        }
    }
}

/// The first key of a request, hashed when the request was routed.
pub type FirstKey<'a> = Option<Key<'a>>;

macro_rules! context {
    ($name:ident) => {
        impl $name<'_> {
            /// A word as a key of the selected database. The request's first key was hashed by the
            /// router: it is not hashed again.
            #[inline(always)]
            pub fn key<'k>(&self, word: &'k [u8]) -> Key<'k> {
                match self.first {
                    Some(first) if core::ptr::eq(first.bytes, word) => Key {
                        bytes: word,
                        ..first
                    },
                    _ => Key::new(self.db, word),
                }
            }

            /// A key of another database.
            pub fn key_in<'k>(&self, db: u8, word: &'k [u8]) -> Key<'k> {
                self.key(word).in_db(db)
            }
        }
    };
}

/// The context of a read.
pub struct Read<'a> {
    /// The shard that holds the request's keys; its clock is the request's time.
    pub shard: &'a Shard,
    /// The selected database.
    pub db: u8,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// Random picks.
    pub rng: &'a mut Rng,
    /// The configuration.
    pub settings: &'a Settings,
    /// See [`FirstKey`].
    pub first: FirstKey<'a>,
}

/// The context of a write.
pub struct Write<'a> {
    /// The door to the shard that holds the request's keys; reads go through it as well.
    pub edit: Edit<'a>,
    /// The selected database.
    pub db: u8,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// Random picks.
    pub rng: &'a mut Rng,
    /// The configuration.
    pub settings: &'a Settings,
    /// See [`FirstKey`].
    pub first: FirstKey<'a>,
    /// The command has found nothing and would wait; see [`Block`].
    pub wait: Option<Wait>,
}

context!(Read);
context!(Write);
