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

pub(super) use here::{end_keys, restate, stand};
pub(super) use line::Line;

use std::collections::BTreeMap;

use migration::{Place, Server};

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
