//! Writing to an old Redis that cannot be a replica: a thread of its own between the log and a client's connection.
//!
//! ```text
//!  log, synced ── Follower ──> Pen ── a transaction with its position ──> the old Redis       line.rs
//!      ▲ hold_from                                    │ replies
//!      └── what is there needs not stay <─────────────┤
//!  a core: the value once more <── keys to be said again                                      here.rs
//!
//!  driver.rs: the flip and the way back; users barred there; writers that are left are counted      peer.rs: what is asked of it
//! ```
//! Clients never wait for it. While the old Redis does not take what is written, the log keeps it, up to `migrate-queue-max-bytes`; beyond
//! them the old Redis is given up and needs a new copy, which the state says from then on. Only what is synced is written: with
//! `appendfsync everysec` the old Redis is a second behind.

mod driver;
mod here;
mod line;
pub(super) mod peer;

pub(super) use here::{await_sync, end_keys, restate, stand};
pub(super) use line::Line;

use std::collections::BTreeMap;

use migration::written::{POSITION_KEY, position_key};
use migration::{Place, Server};

use super::parts::Sharded;

/// What is written, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    /// The old Redis.
    pub server: Server,
    /// Where its history ended: it names the position there.
    pub fence: Place,
    /// What is behind this sequence of the log is written, unless it says that it has more.
    pub from: u64,
    /// It has said how far it is before.
    pub is_begun: bool,
    /// Which one of several it is, and its keys.
    pub shard: Option<Sharded>,
}

impl There {
    /// Its number; 0 of a single one.
    pub(in crate::control::migrate) fn number(&self) -> u16 {
        self.shard.as_ref().map_or(0, |shard| shard.number)
    }

    /// Whether it is a shard of a cluster.
    pub(super) fn is_of_cluster(&self) -> bool {
        self.shard
            .as_ref()
            .is_some_and(|shard| shard.slots.is_some())
    }

    /// The key that says there how far it is.
    pub(super) fn position(&self) -> Vec<u8> {
        position_of(self.shard.as_ref())
    }
}

/// The key that says how far a server has been written: of a shard of a cluster in one of its slots.
pub(super) fn position_of(shard: Option<&Sharded>) -> Vec<u8> {
    let slots = shard.and_then(|shard| shard.slots.as_ref());
    let tagged = slots.and_then(position_key);
    tagged.unwrap_or_else(|| POSITION_KEY.to_vec())
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenNow {
    /// The connection is up, and takes what is written.
    pub is_up: bool,
    /// The old Redis has said how far it is.
    pub is_begun: bool,
    /// The last sequence of the log that is there.
    pub there: u64,
    /// What is said again there is in the log up to here.
    pub owes: u64,
    /// The last sequence of the log.
    pub end: u64,
    /// Bytes of the log that are not there, about.
    pub queue_bytes: u64,
    /// How old the oldest write is that is not there, ms.
    pub lag_ms: u64,
    /// Transactions that are there.
    pub transactions: u64,
    /// Keys that were said again as a whole.
    pub restated: u64,
    /// Requests that the old Redis has answered with an error, in transactions that are there otherwise: their keys were said again.
    pub failed: u64,
    /// What went wrong last, if it is not up.
    pub error: Option<String>,
    /// Since when, unix ms.
    pub error_since_ms: u64,
    /// Why it was given up.
    pub needs_copy: Option<String>,
    /// How often commands were sent that are counted there...
    pub calls: BTreeMap<&'static str, u64>,
    /// ...and how often that was answered.
    pub answered: BTreeMap<&'static str, u64>,
}
