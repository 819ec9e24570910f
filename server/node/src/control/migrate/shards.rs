//! A migration from several sources: the shards of a cluster, or servers among which an application spreads its keys by hand.
//!
//! ```text
//! each second: CLUSTER NODES of every shard ── topology ──> changes ──┬─ a failover: followed at its new place, from where its data here is
//!                                                                   ├─ slots moved: once that rests, their new owner is copied again
//!                                                                   └─ marks of slots on their way: nothing is advanced meanwhile
//! ```
//! A failover is taken over at once. Slots are, when nothing is on its way any more and [`STEADY_LOOKS`] looks have found the same: while one
//! moves, two streams have its keys, and which of them says the truth is decided at the source, key by key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use migration::topology::{Change, changes};
use migration::{Authority, Phase, Server, Shard, Slots, Topology};

use super::drive::Driver;
use super::order::Fault;
use super::parts::{LinkNow, Parts, Peer, Sharded};
use crate::source::Rule;

/// Looks that must have found the same before slots are another's here too.
const STEADY_LOOKS: u32 = 3;
/// How long an answer of a shard is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What is known of the shards beside the state.
#[derive(Default)]
pub(super) struct Shards {
    peers: BTreeMap<usize, Box<dyn Peer>>,
    /// What was seen last and is not as it is known here, and how often.
    seen: Option<Topology>,
    looks: u32,
    /// Slots that are on their way from one shard to another.
    pub moving: Slots,
    /// Why the cluster could not be looked at.
    pub error: Option<String>,
}

impl<P: Parts> Driver<P> {
    /// Several are followed, or a cluster.
    pub(super) fn is_sharded(&self) -> bool {
        !self.state.shards.is_empty()
    }

    /// Whether the application spreads its keys by hand.
    pub(super) fn is_by_hand(&self) -> bool {
        self.state.shards.iter().any(|shard| shard.slots.is_none())
    }

    /// The shard of this number; None when it has no slots any more.
    pub(super) fn sharded_at(&self, at: usize) -> Option<Sharded> {
        let (server, shard) = self.state.sources.get(at).zip(self.state.shards.get(at))?;
        if shard.slots.as_ref().is_some_and(Slots::is_empty) {
            return None;
        }
        Some(Sharded {
            number: u16::try_from(at).ok()?,
            server: server.clone(),
            slots: shard.slots.clone(),
            rule: Rule::of(&self.state.shards).map(Arc::new),
            is_ours: self.state.is_ours(at),
        })
    }

    /// All shards that are followed.
    pub(super) fn sharded(&self) -> Vec<Sharded> {
        let all = 0..self.state.shards.len();
        all.filter_map(|at| self.sharded_at(at)).collect()
    }

    /// Goes on with what the disk says.
    pub(super) fn resume_shards(&mut self) {
        if !self.resume_sides() {
            return;
        }
        let phase = self.state.phase;
        let authority = match phase {
            Phase::Attach => Authority::Source,
            _ => self.authority_of_sides(Authority::Front),
        };
        self.parts.release(authority);
        let mut followed = self.sharded();
        followed.retain(|shard| !shard.is_ours);
        let done = match (followed.is_empty(), self.owns_some()) {
            (true, _) => Ok(()),
            (false, true) => self.parts.follow_others(&followed),
            (false, false) => self.parts.follow_all(&followed, false),
        };
        // (Lines that were not known yet are by now.)
        if let Err(why) = done.and_then(|()| self.set_upstream()) {
            return self.warn(why);
        }
        self.wants_verification(phase == Phase::Verify);
        self.parts.note(&format!(
            "migration: goes on in phase {}, {} shards",
            phase.name(),
            self.sharded().len()
        ));
    }

    /// What keeps the next phase from being entered, of several sources.
    pub(super) fn shards_allow(&self, to: Phase) -> Result<(), Fault> {
        if !self.is_sharded() {
            return Ok(());
        }
        let why = match to {
            _ if !self.shards.moving.is_empty() => {
                return Err(Fault::Conflict(format!(
                    "slots are on their way from one shard to another ({}): wait until the resharding has ended, or end it",
                    self.shards.moving
                )));
            }
            Phase::Front | Phase::Verify
                if self.is_by_hand() && Rule::of(&self.state.shards).is_none() =>
            {
                "which of several servers a new key belongs to is known to the application alone, so requests cannot be passed on: say it at `start` (--shard HOST:PORT=PATTERN), or compare with `verify`, stop the application's writes, and begin here"
            }
            Phase::Reverse => {
                return self
                    .sides_allow()
                    .map_err(|why| Fault::Conflict(why.to_owned()));
            }
            _ => return Ok(()),
        };
        Err(Fault::Conflict(why.to_owned()))
    }

    /// Looks whether the cluster is as it is known here.
    pub(super) fn watch_shards(&mut self) {
        let is_of_cluster = self.is_sharded() && !self.is_by_hand();
        if !is_of_cluster || !(self.state.phase.follows() || self.owns_some()) {
            return;
        }
        let seen = self.look_at_cluster();
        self.shards.error = seen.as_ref().err().cloned();
        if let Ok(seen) = seen {
            self.take_topology(seen);
        }
    }

    /// What most shards say, and all slots of which one says that they are on their way.
    fn look_at_cluster(&mut self) -> Result<Topology, String> {
        let (mut views, mut moving) = (Vec::<(Topology, u32)>::new(), Slots::default());
        let mut why = "no shard is known".to_owned();
        for shard in self.sharded() {
            let seen = self.ask_shard(&shard).and_then(|text| {
                let read = Topology::read(&text, &shard.server.host, shard.server.tls);
                read.map_err(|error| {
                    format!("{}:{}: {error}", shard.server.host, shard.server.port)
                })
            });
            match seen {
                Ok(mut seen) => {
                    moving.add(&std::mem::take(&mut seen.moving));
                    match views.iter_mut().find(|(view, _)| *view == seen) {
                        Some((_, count)) => *count += 1,
                        None => views.push((seen, 1)),
                    }
                }
                Err(error) => why = error,
            }
        }
        let best = views.into_iter().max_by_key(|(_, count)| *count);
        let (view, _) = best.ok_or(why)?;
        Ok(Topology { moving, ..view })
    }

    fn ask_shard(&mut self, shard: &Sharded) -> Result<String, String> {
        let at = usize::from(shard.number);
        let mut peer = match self.shards.peers.remove(&at) {
            Some(peer) => peer,
            None => {
                let mut peer = (self.connect)(&shard.server)?;
                peer.wait_at_most(ANSWER_MAX);
                peer
            }
        };
        let nodes = peer.nodes()?;
        // (One that has failed is connected to anew.)
        self.shards.peers.insert(at, peer);
        Ok(nodes)
    }

    fn take_topology(&mut self, seen: Topology) {
        if !seen.moving.is_empty() && self.shards.moving.is_empty() {
            self.warn(format!(
                "slots are on their way from one shard to another: {}. Their new owner is copied again when that has ended",
                seen.moving
            ));
        }
        let had_moved = !self.shards.moving.is_empty() && seen.moving.is_empty();
        self.shards.moving = seen.moving.clone();
        self.parts.unsettle(&seen.moving);
        let (now, found) = changes(&self.state.sources, &self.state.shards, &seen);
        if found.is_empty() {
            self.shards.seen = None;
            if had_moved && let Err(why) = self.set_upstream() {
                self.warn(why);
            }
            return;
        }
        for (_, change) in &found {
            if let Change::More(slots) = change {
                self.parts.unsettle(slots);
            }
        }
        let is_failover = found.iter().all(|(_, change)| *change == Change::Elsewhere);
        if !is_failover {
            let is_same = self.shards.seen.as_ref() == Some(&seen);
            self.shards.looks = if is_same { self.shards.looks + 1 } else { 1 };
            let is_moving = !seen.moving.is_empty();
            self.shards.seen = Some(seen);
            if is_moving || self.shards.looks < STEADY_LOOKS {
                return;
            }
        }
        if !is_failover && self.owns_some() {
            return self.warn(
                "slots have moved from one shard to another at the source while this node decides for some of them: that is not taken over here. Move them back, or take all shards back first"
                    .to_owned(),
            );
        }
        if let Err(why) = self.adopt(now, &found) {
            self.warn(why);
        }
    }

    /// The cluster is as it is now, here too.
    fn adopt(
        &mut self,
        now: Vec<(Server, Shard)>,
        found: &[(usize, Change)],
    ) -> Result<(), String> {
        let before = (self.state.sources.clone(), self.state.shards.clone());
        (self.state.sources, self.state.shards) = now.into_iter().unzip();
        if let Err(why) = self.save() {
            (self.state.sources, self.state.shards) = before;
            return Err(why);
        }
        self.shards.seen = None;
        self.share_source();
        // Who has fewer goes first: what it says of the others does not count any more when their new owner is copied.
        let order = |change: &Change| match change {
            Change::Gone | Change::Fewer => 0,
            Change::Elsewhere => 1,
            Change::More(_) => 2,
        };
        let mut found: Vec<&(usize, Change)> = found.iter().collect();
        found.sort_by_key(|(_, change)| order(change));
        for (at, change) in found {
            self.shards.peers.remove(at);
            self.peers.remove(at);
            let told = match (change, self.sharded_at(*at)) {
                (_, None) => {
                    self.parts.drop_shard(*at as u16);
                    format!("shard {at} has no slots any more")
                }
                (Change::More(slots), Some(shard)) => {
                    self.parts.follow_shard(&shard, true)?;
                    let Server { host, port, .. } = &shard.server;
                    format!(
                        "shard {at}, {host}:{port}, has got the slots {slots}: it is copied again"
                    )
                }
                (_, Some(shard)) if shard.is_ours => {
                    self.write_elsewhere(*at)?;
                    let Server { host, port, .. } = &shard.server;
                    format!("shard {at} is {host}:{port} now: it is written to there")
                }
                (_, Some(shard)) => {
                    self.parts.follow_shard(&shard, false)?;
                    let Server { host, port, .. } = &shard.server;
                    let slots = shard.slots.unwrap_or_default();
                    format!("shard {at} is {host}:{port} now, slots {slots}")
                }
            };
            self.warn(told);
        }
        self.ask_for_passes();
        self.set_upstream()
    }
}

/// Several links as one.
pub(super) fn together(links: &[LinkNow]) -> LinkNow {
    let mut all = LinkNow {
        state: "connected",
        follows: !links.is_empty(),
        ..LinkNow::default()
    };
    for link in links {
        if !link.follows && all.follows {
            all.state = link.state;
        }
        all.follows &= link.follows;
        all.lag_bytes += link.lag_bytes;
        all.copied_bytes += link.copied_bytes;
        all.copy_bytes += link.copy_bytes;
        all.copied_keys += link.copied_keys;
        all.silent_s = all.silent_s.max(link.silent_s);
        all.error = all.error.or_else(|| link.error.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::order::{Order, Way};
    use super::super::tests::{driver, on_disk_now, server};
    use super::*;
    use migration::State;

    /// Three shards: the ports of their primaries, the first slot of the second one, and marks behind the first one's slots.
    fn nodes(ports: [u16; 3], second: u16, marks: &str) -> String {
        let slots = [
            format!("0-{} {marks}", second - 1),
            format!("{second}-9999"),
            "10000-16383".to_owned(),
        ];
        let line = |(port, slots): (&u16, String)| {
            format!("{port:040x} h:{port}@1 myself,master - 0 0 1 connected {slots}\n")
        };
        ports.iter().zip(slots).map(line).collect()
    }

    #[test]
    fn a_failover_is_taken_over_at_once_and_slots_when_they_rest() {
        let seen = Topology::read(&nodes([1, 2, 3], 5000, ""), "", false).unwrap();
        let (sources, shards) = changes(&[], &[], &seen).0.into_iter().unzip();
        let state = State {
            phase: Phase::Verify,
            sources,
            shards,
            announce: Some(server("new")),
            ..State::default()
        };
        let (mut driver, fake, disk) = driver(state);
        fake.world().follows = true;
        let mut look = |text: String| {
            fake.world().nodes = text;
            driver.watch_shards();
            let followed = std::mem::take(&mut fake.world().followed);
            let on_disk = on_disk_now(&disk);
            (
                followed,
                on_disk,
                driver
                    .order(&Order::Advance {
                        force: true,
                        way: Way::default(),
                        shard: None,
                    })
                    .unwrap_err()
                    .to_string(),
            )
        };
        assert_eq!(look(nodes([1, 2, 3], 5000, "")).0, []);
        let (followed, on_disk, _) = look(nodes([1, 9, 3], 5000, ""));
        assert_eq!(followed, [(1, false)]);
        assert_eq!(on_disk.unwrap().sources[1].port, 9);
        // Slots on their way: nothing is taken over, and nothing is advanced.
        for _ in 0..5 {
            let (followed, _, why) = look(nodes([1, 9, 3], 4000, "[4500->-x]"));
            assert_eq!(followed, []);
            assert!(why.contains("on their way"), "{why}");
        }
        // (It was seen before, with marks; from now on without.)
        for looks in 1..STEADY_LOOKS {
            assert_eq!(look(nodes([1, 9, 3], 4000, "")).0, [], "{looks}");
        }
        let (followed, on_disk, why) = look(nodes([1, 9, 3], 4000, ""));
        assert_eq!(followed, [(0, false), (1, true)], "who has fewer is first");
        let slots = on_disk.unwrap().shards[1].slots.clone().unwrap();
        assert_eq!(slots.to_string(), "4000-9999");
        assert!(why.contains("--old-side written"), "{why}");
        let (followed, ..) = look("no nodes".to_owned());
        assert_eq!(followed, []);
        assert!(driver.shards.error.as_ref().unwrap().contains("line 1"));
    }

    #[test]
    fn several_links_are_as_far_as_the_last_one() {
        let link = |state, follows, lag_bytes| LinkNow {
            state,
            follows,
            lag_bytes,
            ..LinkNow::default()
        };
        let all = together(&[link("connected", true, 5), link("connected", true, 7)]);
        assert!(all.follows && all.state == "connected" && all.lag_bytes == 12);
        let all = together(&[link("connected", true, 5), link("copying", false, 0)]);
        assert!(!all.follows && all.state == "copying");
        assert!(!together(&[]).follows);
    }
}
