//! What cores send each other. Everything of a turn for one core travels in one message.

use std::sync::Arc;

use protocol::{Args, Resp, Word};
use runtime::{ConnId, CoreId};
use storage::{Key, Lent, Slot};

use crate::acl::Denied;
use crate::admin::peek::Peek;
use crate::admin::populate::Populate;
use crate::aside::Errand;
use crate::blocking::{Attempt, Waiter};
use crate::commandlog::Unnamed;
use crate::config::Config;
use crate::connection::{Connection, Pieces};
use crate::control::load::{Expired, Part};
use crate::control::log::replay;
use crate::control::migrate::look::Look;
use crate::control::snapshot::Ended;
use crate::control::transfer::Migration;
use crate::executed::Visit;
use crate::front::Told;
use crate::keysizes::Walk;
use crate::pubsub::{Message, Topic};
use crate::replicas;
use crate::scripts::Busy;
use crate::table::Row;
use crate::tracking::{Invalidation, Keys, Place, Read};

/// A message from core to core, or from the control plane to a core.
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum Mail {
    /// Requests to run here.
    Requests(Box<Batch>),
    /// Replies to requests of a [`Batch`].
    Replies(Box<Replies>),
    /// A transaction asks for slots.
    Schedule(Box<Schedule>),
    /// Slots for a transaction.
    Granted(Box<Granted>),
    /// The transaction came too late for some slots: it must try again under a new number.
    Refused { tx: u64 },
    /// A transaction gives up what it asked for but has not been granted.
    Cancel { tx: u64 },
    /// A script has run for long, or does no more: what is not for such times is refused.
    Busy(Option<Busy>),
    /// A request that ran aside, with its slots.
    Aside(Box<Errand>),
    /// A large reply to a request of a [`Batch`], in pieces; how far the log must come before it leaves.
    Pieces(Ticket, Pieces, u64),
    /// Slots come home.
    Return {
        tx: u64,
        lent: Option<Lent>,
        by: Option<Place>,
    },
    /// A key is watched no more.
    Unwatch(WatchedKeys),
    /// Something of the node that every core has its part of; answered like a request.
    Ask { from: Ticket, ask: Ask },
    /// The configuration has changed.
    Configured(Arc<Config>),
    /// The first try of a request that may wait.
    Attempt(Box<Attempt>),
    /// A waiter joins the queue of the key at this word.
    Enlist(Arc<Waiter>, usize),
    /// A waiter leaves all queues.
    Delist(Arc<Waiter>),
    /// A connection of the receiver waits.
    Waits(Arc<Waiter>),
    /// The user of a connection of the receiver may no more what it waited for.
    Denied(Arc<Waiter>, Denied),
    /// A core has one subscriber more (or fewer) of this name.
    Subscribed(CoreId, Topic, Box<[u8]>, bool),
    /// A message whose channel's slot is the receiver's: it puts it in order.
    Publish(Arc<Message>),
    /// A message for connections of the receiver.
    Message(Arc<Message>),
    /// A client is about to read a key of the receiver.
    Track(Read),
    /// A client follows all keys with a prefix, or no longer.
    Prefix(Box<[u8]>, Place, bool),
    /// A database has been emptied: clients that track are told.
    Flushed,
    /// Keys (None: all) have changed: a connection of the receiver is told.
    Invalidate(Invalidation),
    /// A connection of the target is told of keys, for the client at the second place that redirects to it.
    Redirected(Place, Place, Option<Keys>),
    /// The one that a connection of the receiver redirects to has gone.
    RedirectBroken(ConnId),
    /// A note on a request, for the core of its client to say whose it was.
    Noted(Box<Unnamed>),
    /// Lines for the monitors here.
    Lines(Arc<[u8]>),
    /// Keys of a MIGRATE of the receiver, back from their way.
    Migration(Box<Migration>),
    /// Effects of the log, at the start.
    Replay(Box<replay::Batch>),
    /// What somebody outside of the cores wants done with slots in hand.
    Visit(Box<Visit>),
    /// Somebody else decides what keys hold (`Source::authority`).
    Authority,
    /// Verification looks at keys of the receiver.
    Look(Box<Look>),
    /// Replies of the source to requests that were passed on.
    Told(Box<Told>),
    /// A core holds its requests, and has sent all that it had for the receiver; the number of the hold.
    Fence(u64),
    /// The log has come further: replies may leave.
    Logged,
    /// Memory is needed: the receiver evicts its share at the end of its turn.
    MakeRoom,
    /// A snapshot has ended.
    SnapshotEnded(Arc<Ended>),
    /// From the thread of replicas.
    Replica(replicas::Told),
    /// Whether this core records what it changes, from now on: sent ahead of its slots, which are all away.
    Records(bool),
    /// The log's files were made, or left: the first core sees to what comes next.
    Switched,
    /// Keys or a function from a file that is being loaded.
    Load(Box<Part>, Expired),
    /// All has been loaded.
    Loaded,
    /// The receiver sees to it that the server leaves, as SHUTDOWN does.
    Leave { save: bool, force: bool },
    /// Leave when all replies are out.
    Stop,
}

impl Mail {
    /// Replies in it wait for the log to come so far.
    pub fn stamp(&mut self, position: u64) {
        match self {
            Mail::Replies(replies) => replies.until = position,
            Mail::Pieces(_, _, until) => *until = position,
            _ => {}
        }
    }
}

/// Keys that are watched, or no more, with their databases.
pub type WatchedKeys = Vec<(u8, Box<[u8]>)>;

/// Where a reply belongs: core, connection, place in its order of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The connection's core.
    pub core: CoreId,
    /// The connection.
    pub conn: ConnId,
    /// The reply slot.
    pub seq: u64,
}

/// What every core is asked for.
#[derive(Clone, Debug)]
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum Ask {
    /// Lines of CLIENT LIST.
    ClientList(ClientFilter),
    /// Closes the connections that match; the reply is how many.
    ClientKill(ClientFilter),
    /// No request (or no write) is begun before this time, unix ms.
    Pause { until_ms: u64, all: bool },
    /// Ends a pause.
    Unpause,
    /// Which connection has this client number: eight bytes, or none.
    FindClient(u64),
    /// Ends the wait of this client number, with an error or as if its time were over; the reply is 1 or 0.
    Unblock { id: u64, error: bool },
    /// A look at single keys or slots: their core answers.
    Peek(Peek),
    /// Publishes all counters, for INFO.
    Publish,
    /// As `Publish`; the reply is the lengths of all keys.
    KeySizes(Box<Walk>),
    /// As `Publish`, histograms as well.
    PublishHistograms,
    /// Forgets statistics.
    ResetStat,
    /// Adds keys (DEBUG POPULATE).
    Populate(Box<Populate>),
    /// Stops the core for so long, microseconds (DEBUG SLEEP).
    Sleep(u64),
    /// Turns removal of expired keys on or off (DEBUG SET-ACTIVE-EXPIRE).
    ActiveExpire(bool),
    /// Whether scripts may call what is not for them, for tests.
    AllInScripts(bool),
    /// Takes the users over that are in force in the node.
    Users,
    /// Takes over who decides what keys hold.
    Authority,
    /// The digest of everything here (DEBUG DIGEST).
    Digest,
    /// Keeps the versions of keys: the reply is one integer each, and they are watched.
    Watch(WatchedKeys),
}

/// What clients are, for CLIENT LIST and CLIENT KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// An ordinary one.
    Normal,
    /// A primary; there is none among those who have connected.
    Primary,
    /// A replica.
    Replica,
    /// One that listens.
    Pubsub,
}

/// Which clients CLIENT LIST and CLIENT KILL mean; what is None matches all.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// These client numbers.
    pub ids: Option<Vec<u64>>,
    /// Their own address.
    pub addr: Option<Vec<u8>>,
    /// Our address.
    pub laddr: Option<Vec<u8>>,
    /// Their user.
    pub user: Option<Vec<u8>>,
    /// Clients of this kind.
    pub kind: Option<ClientKind>,
    /// All but this client number.
    pub not: Option<u64>,
    /// Connected for at least so many seconds.
    pub age_min_s: Option<u64>,
}

/// One request in a batch.
pub struct Head {
    /// Where its reply goes.
    pub ticket: Ticket,
    /// The command.
    pub row: &'static Row,
    /// Its words, of [`Batch::words`].
    pub words: core::ops::Range<u32>,
    /// The selected database.
    pub db: u8,
    /// The protocol of the reply.
    pub resp: Resp,
    /// The connection came by a core's own port.
    pub own_port: bool,
    /// Its reads leave no trace (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// It is a part of a request that is counted elsewhere.
    pub is_part: bool,
    /// Hash and slot of its first key, with the key's word; none without keys.
    pub key: Option<(u16, u64, Slot)>,
}

impl Head {
    /// Of a connection's request, without its words and its key; whether it is a part of one that is counted elsewhere.
    #[inline(always)]
    pub fn of(conn: &Connection, row: &'static Row, (ticket, is_part): (Ticket, bool)) -> Head {
        Head {
            ticket,
            row,
            words: 0..0,
            db: conn.db,
            resp: conn.resp,
            own_port: conn.own_port,
            no_touch: conn.no_touch,
            is_part,
            key: None,
        }
    }
}

/// Requests of one core for another: one message per target and turn.
#[derive(Default)]
pub struct Batch {
    /// The words' bytes.
    pub buf: Vec<u8>,
    /// All words of all requests.
    pub words: Vec<Word>,
    /// The requests in order.
    pub heads: Vec<Head>,
    /// Of one that is parked: its number in the order of arrival, which it keeps wherever else it must wait; else 0.
    pub parked: u64,
}

impl Batch {
    /// Adds a request by copying its words.
    #[inline]
    pub fn push(&mut self, args: &Args<'_>, head: Head) {
        let start = self.words.len() as u32;
        args.copy_span_into(&mut self.buf, &mut self.words);
        let words = start..self.words.len() as u32;
        self.heads.push(Head { words, ..head });
    }

    /// A batch of one request: to wait in, or to run later.
    pub fn one(args: &Args<'_>, head: &Head) -> Box<Batch> {
        let mut batch = Box::<Batch>::default();
        batch.push(
            args,
            Head {
                words: 0..0,
                ..*head
            },
        );
        batch
    }

    /// The words of a request.
    #[inline]
    pub fn args(&self, head: &Head) -> Args<'_> {
        let words = &self.words[head.words.start as usize..head.words.end as usize];
        Args::new(&self.buf, words).skip(head.row.name_words - 1)
    }

    /// The first key of a request.
    #[inline]
    pub fn first_key(&self, head: &Head) -> Option<Key<'_>> {
        let (word, hash, slot) = head.key?;
        let word = self.words[head.words.start as usize + word as usize];
        Some(Key {
            bytes: word.of(&self.buf),
            hash,
            slot,
            db: head.db,
        })
    }

    /// Whether a request still fits: offsets into the batch have 32 bits. An empty one takes any, as the parser's have too.
    #[inline]
    pub fn has_room(&self, args: &Args<'_>) -> bool {
        u32::try_from(self.buf.len() + args.span_bytes()).is_ok()
    }

    /// Forgets the requests and keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.words.clear();
        self.heads.clear();
        self.parked = 0;
    }
}

/// Replies of one core to requests of another.
#[derive(Default)]
pub struct Replies {
    /// The core that answered.
    pub from: CoreId,
    /// The replies' bytes, one behind the other.
    pub buf: Vec<u8>,
    /// Connection, reply slot and length of each.
    pub parts: Vec<(ConnId, u64, usize)>,
    /// How far the log must come before they leave. (Their core waits for all that is queued, unless the disk fails.)
    pub until: u64,
    /// Answered batches on their way home, so that their memory is used again where it was made.
    #[allow(clippy::vec_box, reason = "batches travel as boxes")]
    pub spent: Vec<Box<Batch>>,
}

/// A transaction's wish for slots of one core.
pub struct Schedule {
    /// Its number: the one total order of all transactions of the node.
    pub tx: u64,
    /// Where it runs.
    pub from: CoreId,
    /// The slots it needs.
    pub slots: Vec<Slot>,
    /// Keys of those slots that it watches, with the version each had.
    pub watched: Vec<(u8, Box<[u8]>, u64)>,
}

/// Slots for a transaction.
pub struct Granted {
    /// Its number.
    pub tx: u64,
    /// The core that lends.
    pub from: CoreId,
    /// The boxes.
    pub lent: Lent,
    /// No watched key has changed.
    pub unchanged: bool,
}
