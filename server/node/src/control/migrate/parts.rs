//! What a migration needs of the rest of the node and of the source, as two traits: the real ones, and a script in tests.
//!
//! ```text
//! drive.rs ──┬─ Parts  this node: its link to the source, its clients' way there, its own replicas, its clock
//!            └─ Peer   the source: what it is, its fence, whom it follows
//! ```
//! Nothing here decides anything. All of it may be called from one thread beside the cores, and nothing waits for a client.

use std::sync::Arc;
use std::time::Duration;

use migration::flip::Found;
use migration::written::Mark;
use migration::written::strays::Calls;
use migration::{Authority, Bar, Place, Server, Slots};

use super::written::{There, WrittenNow};
use crate::source::scan::Shown;
use crate::source::{Rule, Share};

/// This node's link to the source, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkNow {
    /// `none`, `connecting`, `copying`, `loading`, `connected`: for people.
    pub state: &'static str,
    /// The source's data is here, and its stream comes in.
    pub follows: bool,
    /// The source's history, and how far its stream is executed here.
    pub at: Place,
    /// Bytes of the source's stream that are not executed here, as far as it has told; 0 while that is not known.
    pub lag_bytes: u64,
    /// Bytes of the full copy that have come...
    pub copied_bytes: u64,
    /// ...of so many; 0 when that is not known.
    pub copy_bytes: u64,
    /// Keys of the full copy that are here.
    pub copied_keys: u64,
    /// Seconds since the source was heard.
    pub silent_s: u64,
    /// What went wrong last, if the link is not up.
    pub error: Option<String>,
    /// Full copies since the start, and links that went on from an offset.
    pub copies: u64,
    /// See `copies`.
    pub resumes: u64,
    /// Of a source that is followed by scan: how that goes.
    pub scan: Option<Shown>,
}

/// One of several sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sharded {
    /// Its number.
    pub number: u16,
    /// Its primary.
    pub server: Server,
    /// Its slots; None where the application shards by hand.
    pub slots: Option<Slots>,
    /// Which of the servers has a key then, if that is said.
    pub rule: Option<Arc<Rule>>,
    /// This node decides its keys.
    pub is_ours: bool,
}

impl Sharded {
    /// Whose its keys are.
    pub(super) fn share(&self) -> Share {
        match (&self.slots, &self.rule) {
            (Some(slots), _) => Share::Slots(Arc::new(slots.clone())),
            (None, Some(rule)) => Share::Keys(Arc::clone(rule), self.number),
            (None, None) => Share::Hand,
        }
    }
}

/// What the data of this node's disk is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Of the source's history, up to here.
    At(Place),
    /// Of this node's own: it has decided since.
    Own,
    /// There is none.
    Nothing,
}

/// The node's side.
pub(super) trait Parts: Send {
    /// Unix ms.
    fn now_ms(&self) -> u64;
    /// A clock that never goes back, us.
    fn mono_us(&self) -> u64;
    /// Nothing is done for so long.
    fn rest(&self, time: Duration);
    /// The data of the disk is here.
    fn is_loaded(&self) -> bool;
    /// What the data here is of, after a start.
    fn kept(&self) -> Kept;
    /// Follows a server: from this place of this node's own history, or from where its data is. To follow it already is no error.
    ///
    /// # Errors
    /// Why it cannot be begun; what fails later is told by [`Parts::link`].
    fn follow(&self, source: &Server, from: Option<&Place>) -> Result<(), String>;
    /// Follows a server that bars PSYNC, by its keys and their events. To follow it so already is no error.
    ///
    /// # Errors
    /// As [`Parts::follow`].
    fn follow_by_scan(&self, source: &Server) -> Result<(), String>;
    /// Of one that is followed so: all that has been written there is fetched, also what no event tells.
    fn sweep(&self);
    /// How that has ended, once; None while it has not.
    fn swept(&self) -> Option<Result<(), String>>;
    /// Follows several at once, each from where its data here is; `is_anew`: what is here goes, and all are copied.
    ///
    /// # Errors
    /// As [`Parts::follow`].
    fn follow_all(&self, shards: &[Sharded], is_anew: bool) -> Result<(), String>;
    /// Follows several where this node decides for others, whose keys stay: each from where its data here is.
    ///
    /// # Errors
    /// As [`Parts::follow`].
    fn follow_others(&self, shards: &[Sharded]) -> Result<(), String>;
    /// Follows one of several anew, from where its data here is; `copies`: its keys are copied again.
    ///
    /// # Errors
    /// As [`Parts::follow`].
    fn follow_shard(&self, shard: &Sharded, copies: bool) -> Result<(), String>;
    /// Follows one of several from this place of its history, at which what is here of it stands.
    ///
    /// # Errors
    /// As [`Parts::follow`].
    fn follow_shard_at(&self, shard: &Sharded, place: &Place) -> Result<(), String>;
    /// Executes nothing of this one of several any more; its data stays.
    fn unfollow_shard(&self, number: u16);
    /// This node decides for the keys of this one of several: what is here of it is nobody else's, says the log. `all`: it is the last one.
    fn own_shard(&self, number: u16, all: bool);
    /// Follows this one of several no more; it has no keys.
    fn drop_shard(&self, number: u16);
    /// The links to several, by their numbers.
    fn links(&self) -> Vec<LinkNow>;
    /// Follows nobody; the data stays.
    fn unfollow(&self);
    /// The same, for good: what is here is this node's own from now on, and nothing of a source is gone on from.
    fn leave(&self);
    /// The link now.
    fn link(&self) -> LinkNow;
    /// Where requests are passed on to.
    ///
    /// # Errors
    /// When nothing can be passed on there.
    fn set_upstream(&self, source: Option<&Server>) -> Result<(), String>;
    /// The same, of several.
    ///
    /// # Errors
    /// As [`Parts::set_upstream`].
    fn set_upstreams(&self, shards: &[Sharded]) -> Result<(), String>;
    /// What is here of these slots may be old.
    fn unsettle(&self, slots: &Slots);
    /// Who decides.
    fn authority(&self) -> Authority;
    /// Requests wait from now on.
    fn hold(&self);
    /// Requests that were passed on and are not answered, or that run here.
    fn in_flight(&self) -> usize;
    /// Requests that wait for others' writes are taken out of there, and wait here.
    fn unblock(&self);
    /// Everything that waits goes on under this authority.
    fn release(&self, authority: Authority);
    /// What is changed here is said to replicas from now on, so that one can be taken over.
    ///
    /// # Errors
    /// When that does not come about.
    fn prepare_flip(&self) -> Result<(), String>;
    /// Replicas are told nothing that a Redis of this version does not know; None: what `rdb-version` says.
    fn tell_as(&self, version: Option<(u64, u64)>);
    /// A PSYNC for this history is held back until [`Parts::answer`].
    fn expect(&self, place: &Place);
    /// The place that was asked for since, if one was.
    fn asked(&self) -> Option<Place>;
    /// It is answered: with what it asked for, or by ending its connection.
    fn answer(&self, grants: bool);
    /// This node's own history goes on from this place of another's.
    ///
    /// `to_replica`: replicas are told it from there on.
    ///
    /// # Errors
    /// When nothing is said to replicas, though it is to be; then nothing has changed.
    fn take_over(&self, place: &Place, to_replica: bool) -> Result<(), String>;
    /// This node's own history and its end, as far as it has been said.
    fn end(&self) -> Place;
    /// What the old Redis has acknowledged of it; None when it does not follow.
    fn acknowledged(&self) -> Option<u64>;
    /// The end of this node's own history, once everything that was changed here is said in it; it stands still while requests wait.
    fn said_all(&self) -> Option<Place>;
    /// Requests that were run, and refusals, since the start.
    fn requests(&self) -> (u64, u64);
    /// What is changed here from that sequence on is written to the old Redis; the one of its number, if there are several.
    fn write_there(&self, there: There);
    /// It is not any more; the log keeps what it has for that.
    fn stop_writing(&self, number: u16);
    /// It keeps nothing for that.
    fn drop_queue(&self, number: u16);
    /// How that goes.
    fn written(&self, number: u16) -> WrittenNow;
    /// The last sequence of the log; None while there is none.
    fn log_end(&self) -> Option<u64>;
    /// Keys whose deadline has passed by then, unix ms, are ended; of one of several, its own. Requests wait meanwhile.
    ///
    /// # Errors
    /// When a core does not answer.
    fn end_keys(&self, until_ms: u64, of: Option<&Sharded>) -> Result<(), String>;
    /// The log says, on the disk, that what is here (of this one of several) is that history up to that place.
    ///
    /// # Errors
    /// When that does not come about.
    fn stand(&self, place: &Place, of: Option<u16>) -> Result<(), String>;
    /// The log is on the disk up to this sequence.
    ///
    /// # Errors
    /// When that does not come about.
    fn sync_log(&self, sequence: u64) -> Result<(), String>;
    /// Whether a command writes, by its name in lower case.
    fn writes(&self, name: &str) -> bool;
    /// Tells the log.
    fn note(&self, text: &str);
}

/// Who still speaks to the old Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stragglers {
    /// Clients connected there, replicas and this node not counted.
    pub clients: u64,
    /// Writes that it has refused (READONLY; commands that a user may not call: NOPERM) since it started.
    pub refused: u64,
}

/// What an old Redis that is written to says of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadBack {
    /// How far it has been written, if it says so.
    pub mark: Option<Mark>,
    /// Its history and how far it is.
    pub place: Place,
    /// Its clock, unix ms.
    pub now_ms: u64,
}

/// The source's side. Errors say what failed, for people; nothing is known of the outcome then.
pub(super) trait Peer: Send {
    /// Each of its answers is waited for no longer than this.
    fn wait_at_most(&mut self, time: Duration);
    /// What it says of itself.
    ///
    /// # Errors
    /// See the trait; of all functions here.
    fn ask(&mut self, us: Option<&Server>) -> Result<Found, String>;
    /// Its major and minor version.
    fn version(&mut self) -> Result<(u64, u64), String>;
    /// Its value of `min-replicas-to-write`, by which alone one before Redis 6.2 can be fenced.
    fn min_replicas(&mut self) -> Result<u64, String>;
    /// It takes no writes for so long.
    fn fence(&mut self, time: Duration, by_replicas: bool) -> Result<(), String>;
    /// It takes them again.
    fn unfence(&mut self, min_replicas: Option<u64>) -> Result<(), String>;
    /// It follows this node from now on.
    fn make_replica(&mut self, us: &Server) -> Result<(), String>;
    /// It follows nobody.
    fn make_primary(&mut self) -> Result<(), String>;
    /// Its configuration file says so, if it has one: false without.
    fn keep_in_file(&mut self) -> Result<bool, String>;
    /// What it says of the nodes of its cluster (CLUSTER NODES).
    fn nodes(&mut self) -> Result<String, String>;
    /// Why its disk does not hold what it holds, if it keeps a log: after a full copy it writes that anew, and until then a start
    /// of it would find the data of before.
    fn unsaved(&mut self) -> Result<Option<String>, String>;
    /// Who still speaks to it.
    fn stragglers(&mut self) -> Result<Stragglers, String>;
    /// Whether it can be written to: its version, and who this node is there.
    fn may_be_written(&mut self) -> Result<String, String>;
    /// What a user may call, as the source describes it.
    fn commands_of(&mut self, user: &str) -> Result<String, String>;
    /// A user may not write from now on; what it may call then.
    fn bar(&mut self, user: &str) -> Result<String, String>;
    /// It may call what it could before.
    fn unbar(&mut self, bar: &Bar) -> Result<(), String>;
    /// Its file says what its users may do now, if it has one: false without.
    fn keep_users(&mut self) -> Result<bool, String>;
    /// What it has by this key, where its history stands, and its clock, of one instant.
    fn read_back(&mut self, position: &[u8]) -> Result<ReadBack, String>;
    /// The key with the position is removed.
    fn forget(&mut self, position: &[u8]) -> Result<(), String>;
    /// How often each command was called there.
    fn calls(&mut self) -> Result<Calls, String>;
}
