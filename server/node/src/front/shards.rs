//! In front of a cluster: which shard a request goes to, and what becomes of one that a shard sends away.
//!
//! ```text
//! keys ── slot ── owner ── shard ──> that client's connection there           a redirection: MOVED, ASK ──┐
//!   owners: what the migration knows, and what shards have said since <───────────────────────────────────┘
//! ```
//! A request that a shard sends away was not executed: its bytes, which are kept for that, go to the shard that is named, behind ASKING if it is for
//! once. So that two requests of a client keep their order, one that is new waits until those are answered that were sent when the owners were others
//! ([`Front::routes_epoch`]). What cannot be sent on (a transaction, one that blocks, more than [`KEPT_BYTES_MAX`]) is answered TRYAGAIN, which a
//! client of a cluster knows.
//!
//! Servers that an application shards by hand are in the place of the cluster's shards where a [`Rule`] says whose a key is.
//!
//! **Some are this node's**: shards change sides one by one. Requests for keys of those run here, as if there were no front; one that names keys of both
//! sides is refused, since nobody could execute it as a whole.
//!
//! A slot that was redirected, or is on its way, is **unsteady** until the migration has taken the cluster over as it is now: what is here of it may be old,
//! so reads of it go to the source.

use migration::Authority;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use protocol::{Args, Refusal};
use storage::{SLOTS, Slot};

use super::{Front, Upstream};
use crate::connection::{Connection, Multi};
use crate::core::Core;
use crate::source::{Line, Rule};
use crate::table::Row;

/// Bytes of a client's requests that a shard may yet send away: more are not kept.
pub(super) const KEPT_BYTES_MAX: usize = 1 << 20;
/// What is answered when a request cannot be sent on.
pub(super) const TRY_AGAIN: &str =
    "TRYAGAIN The slot is another shard's now: the command was not executed";
const NOT_SERVED: Refusal = Refusal::Text("CLUSTERDOWN Hash slot not served");
const NOBODYS: Refusal = Refusal::Text(
    "CLUSTERDOWN No server of the source has this key, by the patterns of its migration",
);
const OTHER_SERVERS: Refusal = Refusal::Text(
    "CROSSSLOT Keys in request are at different servers of the source: send a request for each",
);
const BOTH_SIDES: Refusal = Refusal::Text(
    "CROSSSLOT Keys in request are decided here in part, and at the source in part, until all of its shards have been taken over: send a request for each",
);
const UNSTEADY: u16 = 1 << 15;
const NOBODY: u16 = UNSTEADY - 1;

/// The shards of the source, and whose each slot is.
pub struct Routes {
    /// By number; None of one that has no slots any more.
    upstreams: Vec<Option<Arc<Upstream>>>,
    lines: Arc<[Arc<Line>]>,
    owners: Box<[AtomicU16]>,
    /// Whose a key is, where that does not follow from its slot.
    rule: Option<Arc<Rule>>,
    /// By number: this node decides its keys.
    ours: Vec<bool>,
}

/// A reply that sends a request away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirection {
    slot: Slot,
    host: String,
    port: u16,
    /// For this request alone (ASK).
    pub(super) is_once: bool,
}

/// Where a request goes by its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To this shard; whether what is here of its keys may be compared with what that shard says.
    Shard(u16, bool),
    /// This node decides all of its keys.
    Ours,
    /// It has no keys.
    Anywhere,
}

/// Where the keys of a request are.
#[derive(Default)]
struct Places {
    slot: Option<Slot>,
    is_one_slot: bool,
    shard: Option<(u16, bool)>,
    is_one_shard: bool,
    ours: usize,
    others: usize,
    /// Keys that no shard has.
    nobodys: usize,
}

impl Routes {
    /// Of these shards, by number, with the slots that are theirs.
    pub fn new<'s>(
        upstreams: Vec<Option<Arc<Upstream>>>,
        lines: Arc<[Arc<Line>]>,
        slots: impl Iterator<Item = (u16, &'s migration::Slots)>,
    ) -> Routes {
        let owners: Box<[AtomicU16]> = (0..SLOTS).map(|_| AtomicU16::new(NOBODY)).collect();
        for (number, slots) in slots {
            for slot in slots.iter() {
                owners[slot.index()].store(number, Release);
            }
        }
        Routes {
            upstreams,
            lines,
            owners,
            rule: None,
            ours: Vec::new(),
        }
    }

    /// The same, with a rule that says whose a key is.
    #[must_use]
    pub fn with_rule(self, rule: Option<Arc<Rule>>) -> Routes {
        Routes { rule, ..self }
    }

    /// The same, where this node decides for these shards.
    #[must_use]
    pub fn with_ours(self, numbers: impl Iterator<Item = u16>) -> Routes {
        let mut ours = vec![false; self.upstreams.len()];
        for number in numbers.map(usize::from) {
            if let Some(is_ours) = ours.get_mut(number) {
                *is_ours = true;
            }
        }
        Routes { ours, ..self }
    }

    /// Whether this node decides for some of the shards.
    pub fn has_ours(&self) -> bool {
        self.ours.contains(&true)
    }

    pub(super) fn are_ours(&self, shard: u16) -> bool {
        self.ours.get(usize::from(shard)) == Some(&true)
    }

    /// The shard that has a key.
    pub fn shard_of(&self, key: &[u8]) -> Option<u16> {
        self.place_of(key).map(|(shard, _)| shard)
    }

    /// Whether this node decides what a key holds.
    pub fn is_ours(&self, key: &[u8]) -> bool {
        self.shard_of(key).is_some_and(|shard| self.are_ours(shard))
    }

    /// The shard that has a key, and whether that is steady.
    fn place_of(&self, key: &[u8]) -> Option<(u16, bool)> {
        match &self.rule {
            Some(rule) => rule.owner(key).map(|shard| (shard, true)),
            None => self.owner(Slot::of(key)),
        }
    }

    pub(super) fn upstream(&self, shard: u16) -> Option<Arc<Upstream>> {
        self.upstreams.get(usize::from(shard)).cloned().flatten()
    }

    fn line(&self, shard: u16) -> Option<&Line> {
        self.lines.get(usize::from(shard)).map(Arc::as_ref)
    }

    /// The shards that have slots and that the source decides.
    fn shards(&self) -> impl Iterator<Item = u16> {
        let numbers = (0u16..).zip(&self.upstreams);
        let numbers = numbers.filter_map(|(number, upstream)| upstream.as_ref().map(|_| number));
        numbers.filter(|number| !self.are_ours(*number))
    }

    /// The owner of a slot, and whether it is steady.
    fn owner(&self, slot: Slot) -> Option<(u16, bool)> {
        let owner = self.owners[slot.index()].load(Acquire);
        let (number, is_steady) = (owner & !UNSTEADY, owner & UNSTEADY == 0);
        (number != NOBODY).then_some((number, is_steady))
    }

    fn shard_at(&self, host: &str, port: u16) -> Option<u16> {
        let is_it = |shard: &u16| {
            let upstream = self.upstream(*shard);
            upstream.is_some_and(|known| known.host == host && known.port == port)
        };
        self.shards().find(is_it)
    }
}

/// What an error says, if it sends a request away: `-MOVED 3999 host:port`, `-ASK 3999 host:port`. A host that is not named is the one that was asked.
pub(super) fn redirection_of(reply: &[u8], asked: &str) -> Option<Redirection> {
    let line = core::str::from_utf8(reply).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    let (is_once, slot, place) = match words.as_slice() {
        ["-MOVED", slot, place] => (false, slot, place),
        ["-ASK", slot, place] => (true, slot, place),
        _ => return None,
    };
    let slot = slot
        .parse()
        .ok()
        .filter(|slot| usize::from(*slot) < SLOTS)?;
    let (host, port) = place.rsplit_once(':')?;
    let host = if host.is_empty() || host == "?" {
        asked
    } else {
        host
    };
    Some(Redirection {
        slot: Slot(slot),
        host: host.to_owned(),
        port: port.parse().ok()?,
        is_once,
    })
}

impl Place {
    fn is_at(self, other: Place) -> bool {
        match (self, other) {
            (Place::Shard(one, _), Place::Shard(other, _)) => one == other,
            (one, other) => one == other,
        }
    }
}

impl Places {
    fn new() -> Places {
        Places {
            is_one_slot: true,
            is_one_shard: true,
            ..Places::default()
        }
    }

    fn note(&mut self, routes: &Routes, key: &[u8]) {
        let slot = Slot::of(key);
        self.is_one_slot &= self.slot.replace(slot).is_none_or(|before| before == slot);
        let Some((shard, is_steady)) = routes.place_of(key) else {
            self.nobodys += 1;
            return;
        };
        match routes.are_ours(shard) {
            true => self.ours += 1,
            false => self.others += 1,
        }
        let before = self.shard.unwrap_or((shard, true));
        self.is_one_shard &= before.0 == shard;
        self.shard = Some((shard, before.1 && is_steady));
    }

    /// Where the request goes; [`Place::Anywhere`] without keys.
    ///
    /// # Errors
    /// Why it goes nowhere.
    fn judge(&self, routes: &Routes) -> Result<Place, Refusal> {
        match (&routes.rule, self.shard) {
            _ if self.ours > 0 && self.others + self.nobodys > 0 => Err(BOTH_SIDES),
            _ if self.ours > 0 => Ok(Place::Ours),
            (Some(_), _) if self.nobodys > 0 => Err(NOBODYS),
            (Some(_), Some(_)) if !self.is_one_shard => Err(OTHER_SERVERS),
            (None, _) if !self.is_one_slot => Err(Refusal::CrossSlot),
            (None, _) if self.nobodys > 0 => Err(NOT_SERVED),
            (_, Some((shard, is_steady))) => Ok(Place::Shard(shard, is_steady)),
            (_, None) => Ok(Place::Anywhere),
        }
    }
}

impl Front {
    /// The shards are these from now on; None: the source is one server.
    pub fn set_routes(&self, routes: Option<Arc<Routes>>) {
        let mut known = self
            .routes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *known = routes;
        drop(known);
        self.routes_epoch.fetch_add(1, AcqRel);
    }

    pub(super) fn routes(&self) -> Option<Arc<Routes>> {
        let routes = self.routes.lock();
        routes
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// What is here of these slots may be old: reads of them go to the source until the shards are set anew.
    pub fn unsettle(&self, slots: impl Iterator<Item = Slot>) {
        let Some(routes) = self.routes() else { return };
        for slot in slots {
            routes.owners[slot.index()].fetch_or(UNSTEADY, AcqRel);
        }
    }

    /// A shard has sent a request away: who is to be asked, if that one is known.
    pub(super) fn redirected(&self, to: &Redirection) -> Option<u16> {
        let routes = self.routes()?;
        let shard = routes.shard_at(&to.host, to.port);
        // Before the owner is another: who sees that one looks at this once more.
        self.routes_epoch.fetch_add(1, AcqRel);
        let owner = &routes.owners[to.slot.index()];
        match shard.filter(|_| !to.is_once) {
            Some(shard) => owner.store(shard | UNSTEADY, Release),
            None => drop(owner.fetch_or(UNSTEADY, AcqRel)),
        }
        shard
    }
}

impl Core {
    /// Takes over what has changed about shards since this core looked last.
    pub(crate) fn look_at_routes(&mut self) {
        let epoch = self.node.front.routes_epoch.load(Acquire);
        if self.front.routes_epoch != epoch {
            self.front.routes = self.node.front.routes();
            self.front.routes_epoch = epoch;
        }
    }

    /// Whether the owners of slots are as they were when this core looked last.
    pub(super) fn routes_are_steady(&self) -> bool {
        self.front.routes_epoch == self.node.front.routes_epoch.load(Acquire)
    }

    /// Where a request goes by its keys; EXEC by those of its queue and those that are watched.
    ///
    /// # Errors
    /// What a shard would answer: CROSSSLOT, or that nobody has the slot.
    pub(super) fn place_in_front(
        &self,
        conn: &Connection,
        row: &Row,
        args: &Args<'_>,
    ) -> Result<Place, Refusal> {
        let Some(routes) = &self.front.routes else {
            return Ok(Place::Shard(0, true));
        };
        let mut places = Places::new();
        let mut note = |row: &Row, args: &Args<'_>| {
            // A request whose keys cannot be told is refused where it is executed.
            let _ = row.spec.keys_of(args, |index, _| {
                if let Some(word) = args.word(index) {
                    places.note(routes, word);
                }
            });
        };
        match conn.multi.as_deref().filter(|_| crate::multi::is_exec(row)) {
            Some(Multi { queued, .. }) => queued
                .iter()
                .for_each(|request| note(request.row, &request.args())),
            None => note(row, args),
        }
        let placed = places.judge(routes)?;
        let watched = conn.front.as_deref().and_then(|front| front.watched_at);
        let watched = watched.filter(|_| conn.watches() == super::Elsewhere::Yes);
        let watched = watched.map(|shard| Place::Shard(shard, true));
        let watches_here = |multi: &Multi| routes.has_ours() && !multi.watched.is_empty();
        let is_watched_here = conn.multi.as_deref().is_some_and(watches_here);
        let watched = watched.or(is_watched_here.then_some(Place::Ours));
        let is_of_watch = row.spec.name == "watch" || crate::multi::is_exec(row);
        match (placed, watched) {
            (Place::Anywhere, Some(watched)) if is_of_watch || watched != Place::Ours => {
                Ok(watched)
            }
            // Keys are watched by the connection to one shard, or here.
            (placed, Some(watched)) if is_of_watch && !placed.is_at(watched) => {
                Err(Refusal::CrossSlot)
            }
            (placed, _) => Ok(placed),
        }
    }

    /// The shard of a request without keys that the source executes.
    ///
    /// # Errors
    /// What is about all shards, and cannot be done by one of them.
    pub(super) fn any_shard(&self, conn: &Connection, row: &Row) -> Result<u16, Refusal> {
        let Some(routes) = &self.front.routes else {
            return Ok(0);
        };
        let name = row.spec.name;
        let is_of_all = matches!(name, "flushall" | "flushdb" | "swapdb")
            || (name.starts_with("function|") && row.writes);
        if is_of_all {
            let why = format!(
                "ERR {} is about all shards of the source, and cannot be passed on: send it to each of them",
                name.to_uppercase().replace('|', " ")
            );
            return Err(Refusal::Owned(why.into()));
        }
        // (WAIT is about what this client has written last.)
        let last = conn.front.as_deref().and_then(|front| front.last_shard());
        let mut shards = routes.shards();
        last.filter(|last| routes.upstream(*last).is_some() && !routes.are_ours(*last))
            .or_else(|| shards.next())
            .ok_or(NOT_SERVED)
    }

    /// Whether the source decides a key of a request that runs here.
    pub(crate) fn is_others(&self, row: &Row, args: &Args<'_>) -> bool {
        let Some(routes) = &self.front.routes else {
            return false;
        };
        let mut is_others = false;
        // A request whose keys cannot be told is refused by its handler.
        let _ = row.spec.keys_of(args, |index, _| {
            is_others |= args.word(index).is_some_and(|key| !routes.is_ours(key));
        });
        is_others
    }

    /// Whether this node decides for some of the shards whose front it is; while requests wait, whether it did before.
    pub(crate) fn owns_some(&self) -> bool {
        let routes = self.front.routes.as_deref();
        self.is_in_front() && routes.is_some_and(Routes::has_ours)
    }

    /// Whether requests that waited go on already, here, and this core has not heard of it: the core that sent one may have.
    pub(crate) fn goes_on(&self) -> bool {
        let owns_some = || {
            self.node
                .front
                .routes()
                .is_some_and(|routes| routes.has_ours())
        };
        self.authority == Authority::Held
            && match self.node.source.authority() {
                Authority::Own => true,
                Authority::Front => owns_some(),
                Authority::Source | Authority::Held => false,
            }
    }

    /// Which keys may end here by their deadlines, while this node decides for some.
    pub(crate) fn ends_in_front(&self) -> Option<storage::Ends> {
        let routes = Arc::clone(self.front.routes.as_ref()?);
        Some(Arc::new(move |key: &[u8]| routes.is_ours(key)))
    }

    /// How far what is here of a shard goes; 0: it may not be shown.
    pub(super) fn applied_of(&self, shard: u16) -> u64 {
        match &self.front.routes {
            None => self.node.source.applied(),
            Some(routes) => routes.line(shard).map_or(0, Line::applied),
        }
    }

    /// All shards.
    pub(super) fn shards_in_front(&self) -> Vec<u16> {
        match &self.front.routes {
            None => vec![0],
            Some(routes) => routes.shards().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_send_a_request_away_are_known() {
        let to = |slot, host: &str, port, is_once| Redirection {
            slot: Slot(slot),
            host: host.to_owned(),
            port,
            is_once,
        };
        for (line, expected) in [
            (
                "-MOVED 3999 10.0.0.1:7000\r\n",
                Some(to(3999, "10.0.0.1", 7000, false)),
            ),
            ("-ASK 5 ::1:7001\r\n", Some(to(5, "::1", 7001, true))),
            ("-MOVED 5 :7001\r\n", Some(to(5, "asked", 7001, false))),
            ("-MOVED 16384 a:1\r\n", None),
            ("-MOVED 5 a\r\n", None),
            ("-MOVED 5 a:70000\r\n", None),
            ("-ERR MOVED 5 a:1\r\n", None),
            ("-TRYAGAIN x\r\n", None),
        ] {
            assert_eq!(redirection_of(line.as_bytes(), "asked"), expected, "{line}");
        }
    }

    #[test]
    fn owners_follow_what_shards_say() {
        let upstream = |port| {
            Some(Arc::new(Upstream {
                host: "h".to_owned(),
                port,
                user: String::new(),
                password: String::new(),
                tls: false,
            }))
        };
        let slots = [("0-99"), ("100-16383")].map(|text| migration::Slots::of(text).unwrap());
        let slots = (0u16..).zip(&slots);
        let routes = Routes::new(vec![upstream(1), upstream(2), None], [].into(), slots);
        let front = Front::new(1);
        front.set_routes(Some(Arc::new(routes)));
        let owner = |slot| front.routes().unwrap().owner(Slot(slot));
        assert_eq!(owner(5), Some((0, true)));
        let ask = redirection_of(b"-ASK 5 h:2\r\n", "").unwrap();
        assert_eq!(
            (front.redirected(&ask), owner(5)),
            (Some(1), Some((0, false)))
        );
        let moved = redirection_of(b"-MOVED 5 h:2\r\n", "").unwrap();
        assert_eq!(
            (front.redirected(&moved), owner(5)),
            (Some(1), Some((1, false)))
        );
        let unknown = redirection_of(b"-MOVED 6 h:9\r\n", "").unwrap();
        assert_eq!(
            (front.redirected(&unknown), owner(6)),
            (None, Some((0, false)))
        );
        assert_eq!(owner(7), Some((0, true)));
        front.unsettle([Slot(7), Slot(100)].into_iter());
        assert_eq!(owner(7), Some((0, false)));
        assert_eq!(owner(100), Some((1, false)));
    }
}
