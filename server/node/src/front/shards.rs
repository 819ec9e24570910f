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
//! A slot that was redirected, or is on its way, is **unsteady** until the migration has taken the cluster over as it is now: what is here of it may be old,
//! so reads of it go to the source.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use protocol::{Args, Refusal};
use storage::{SLOTS, Slot};

use super::{Front, Upstream};
use crate::connection::{Connection, Multi};
use crate::core::Core;
use crate::source::Line;
use crate::table::Row;

/// Bytes of a client's requests that a shard may yet send away: more are not kept.
pub(super) const KEPT_BYTES_MAX: usize = 1 << 20;
/// What is answered when a request cannot be sent on.
pub(super) const TRY_AGAIN: &str =
    "TRYAGAIN The slot is another shard's now: the command was not executed";
const NOT_SERVED: Refusal = Refusal::Text("CLUSTERDOWN Hash slot not served");
const UNSTEADY: u16 = 1 << 15;
const NOBODY: u16 = UNSTEADY - 1;

/// The shards of the source, and whose each slot is.
pub struct Routes {
    /// By number; None of one that has no slots any more.
    upstreams: Vec<Option<Arc<Upstream>>>,
    lines: Arc<[Arc<Line>]>,
    owners: Box<[AtomicU16]>,
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
    /// It has no keys.
    Anywhere,
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
        }
    }

    pub(super) fn upstream(&self, shard: u16) -> Option<Arc<Upstream>> {
        self.upstreams.get(usize::from(shard)).cloned().flatten()
    }

    fn line(&self, shard: u16) -> Option<&Line> {
        self.lines.get(usize::from(shard)).map(Arc::as_ref)
    }

    /// The shards that have slots.
    fn shards(&self) -> impl Iterator<Item = u16> {
        let numbers = (0u16..).zip(&self.upstreams);
        numbers.filter_map(|(number, upstream)| upstream.as_ref().map(|_| number))
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
    pub(super) fn look_at_routes(&mut self) {
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
        let mut slot = None;
        let mut is_one = true;
        let mut note = |row: &Row, args: &Args<'_>| {
            // A request whose keys cannot be told is refused where it is executed.
            let _ = row.spec.keys_of(args, |index, _| {
                if let Some(word) = args.word(index) {
                    let own = Slot::of(word);
                    is_one &= slot.replace(own).is_none_or(|before| before == own);
                }
            });
        };
        match conn.multi.as_deref().filter(|_| crate::multi::is_exec(row)) {
            Some(Multi { queued, .. }) => queued
                .iter()
                .for_each(|request| note(request.row, &request.args())),
            None => note(row, args),
        }
        if !is_one {
            return Err(Refusal::CrossSlot);
        }
        let watched = conn.front.as_deref().and_then(|front| front.watched_at);
        let watched = watched.filter(|_| conn.watches() == super::Elsewhere::Yes);
        let placed = match slot {
            Some(slot) => Some(routes.owner(slot).ok_or(NOT_SERVED)?),
            None => watched.map(|shard| (shard, true)),
        };
        let is_of_watch = row.spec.name == "watch" || crate::multi::is_exec(row);
        match (placed, watched) {
            // Keys are watched by the connection to one shard.
            (Some((shard, _)), Some(watched)) if is_of_watch && shard != watched => {
                Err(Refusal::CrossSlot)
            }
            (Some((shard, is_steady)), _) => Ok(Place::Shard(shard, is_steady)),
            (None, _) => Ok(Place::Anywhere),
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
        last.filter(|last| routes.upstream(*last).is_some())
            .or_else(|| shards.next())
            .ok_or(NOT_SERVED)
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
