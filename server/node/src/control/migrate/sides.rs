//! Several sources change sides one by one: whose turn it is, what is known of each, and what that means for all.
//!
//! ```text
//! verify: the source decides all ──flip of a shard──> verify: some are this node's ──flip of the last──> reverse: all are
//!                                 <────back of a shard──                            <──back of one──
//! ```
//! A shard's **side** (`migration::Side`) says on the disk who decides its keys: its fence is there, or not. So each is flipped and taken back like a
//! single old Redis that is written to, and all others stay as they are: the machines are those of `migration::written`. Requests of all clients wait
//! meanwhile. A flip or a way back that a process has left begun counts for nothing, since a side says who decides, and the source's pause ends by
//! itself.

use std::collections::BTreeMap;

use migration::written::strays::Calls;
use migration::{Authority, Intent, LAG_BYTES_MAX, OldSide, Phase, Place, Side};

use super::drive::Driver;
use super::order::Fault;
use super::parts::{LinkNow, Parts, Sharded, Stragglers};
use super::written::WrittenNow;

/// What has been seen at one server of the old side.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Who still speaks to it.
    pub stragglers: Stragglers,
    /// Refused there when the flip was made.
    pub refused_before: u64,
    /// Users of one that is written to, and what they may call since they were barred.
    pub barred: Vec<(String, String)>,
    /// How often commands had been called there then, and how often of this node's.
    pub calls_before: Option<(Calls, BTreeMap<&'static str, u64>)>,
    /// Writes there that were not this node's, and those of them that were seen before the counts of today began.
    pub strays: u64,
    /// See [`Seen::strays`].
    pub strays_before: u64,
    /// When the state was told last how far it is, unix ms.
    pub kept_ms: u64,
}

/// Of one of which nothing is known.
static NOTHING: Seen = Seen {
    stragglers: Stragglers {
        clients: 0,
        refused: 0,
    },
    refused_before: 0,
    barred: Vec::new(),
    calls_before: None,
    strays: 0,
    strays_before: 0,
    kept_ms: 0,
};

impl<P: Parts> Driver<P> {
    /// The number of the server that is dealt with.
    pub(super) fn number(&self) -> u16 {
        u16::try_from(self.at).unwrap_or(u16::MAX)
    }

    /// How it stands with it.
    pub(super) fn side(&self) -> &Side {
        self.state.side(self.at)
    }

    /// The same, to be changed.
    pub(super) fn side_mut(&mut self) -> &mut Side {
        self.state.side_mut(self.at)
    }

    /// What has been seen there.
    pub(super) fn seen(&self) -> &Seen {
        self.seen_at(self.at)
    }

    /// What has been seen at the one of this number.
    pub(super) fn seen_at(&self, at: usize) -> &Seen {
        self.live.seen.get(&at).unwrap_or(&NOTHING)
    }

    /// See [`Driver::seen`].
    pub(super) fn seen_mut(&mut self) -> &mut Seen {
        self.live.seen.entry(self.at).or_default()
    }

    /// The shard that is dealt with; None of a single source.
    pub(super) fn shard_there(&self) -> Option<Sharded> {
        self.sharded_at(self.at)
    }

    /// The link to the server that is dealt with.
    pub(super) fn link_there(&self) -> LinkNow {
        match self.is_sharded() {
            true => self.parts.links().get(self.at).cloned().unwrap_or_default(),
            false => self.parts.link(),
        }
    }

    /// Whether this node decides its keys.
    pub(super) fn is_ours(&self) -> bool {
        match self.is_sharded() {
            true => self.state.is_ours(self.at),
            false => !self.state.phase.follows(),
        }
    }

    /// Whether this node decides for one of several, or for more.
    pub(super) fn owns_some(&self) -> bool {
        let may_own = matches!(self.state.phase, Phase::Verify | Phase::Reverse);
        may_own && self.is_sharded() && self.state.next_of(true).is_some()
    }

    fn owns_all(&self) -> bool {
        self.is_sharded() && self.state.next_of(false).is_none()
    }

    /// The numbers of those that the source decides; that of a single one.
    pub(super) fn with_source(&self) -> impl Iterator<Item = usize> {
        let single = (!self.is_sharded()).then_some(0);
        self.state.decided(false).chain(single)
    }

    /// Of several, the phase follows from their sides once one of them has changed.
    pub(super) fn phase_of_sides(&self, phase: Phase) -> Phase {
        match (self.is_sharded(), self.owns_all()) {
            (false, _) => phase,
            (true, true) => Phase::Reverse,
            (true, false) => Phase::Verify,
        }
    }

    /// The same of who decides: of the source in front of which this node is, some keys may be this node's.
    pub(super) fn authority_of_sides(&self, authority: Authority) -> Authority {
        match authority {
            Authority::Own | Authority::Front if self.is_sharded() => match self.owns_all() {
                true => Authority::Own,
                false => Authority::Front,
            },
            other => other,
        }
    }

    /// A pause's name in the state.
    pub(super) fn named(&self, what: &str) -> String {
        match self.is_sharded() {
            true => format!("{what}-shard-{}", self.at),
            false => what.to_owned(),
        }
    }

    /// What is done for each of the servers, one by one.
    pub(super) fn for_each_side(&mut self, mut what: impl FnMut(&mut Driver<P>)) {
        if !self.is_sharded() {
            return what(self);
        }
        let (before, all) = (self.at, self.state.with_keys().collect::<Vec<_>>());
        for at in all {
            self.at = at;
            what(self);
        }
        self.at = before;
    }

    /// Deals with this one from now on; if none is named, with the first that the source decides, or the last that this node does.
    ///
    /// # Errors
    /// When there is none, or it is on that side already.
    pub(super) fn choose(&mut self, shard: Option<usize>, ours: bool) -> Result<(), Fault> {
        if !self.is_sharded() {
            return match shard {
                None => Ok(()),
                Some(_) => Err(Fault::Conflict("there are no shards".to_owned())),
            };
        }
        let named = match shard {
            Some(shard) => self.state.with_keys().find(|at| *at == shard),
            None => self.state.next_of(ours),
        };
        let at = named.ok_or_else(|| Fault::Conflict("there is no such shard".to_owned()))?;
        if self.state.is_ours(at) != ours {
            let who = if ours { "the source" } else { "this node" };
            return Err(Fault::Conflict(format!("{who} decides shard {at} already")));
        }
        self.at = at;
        Ok(())
    }

    /// What keeps the shard that was chosen from being taken back now.
    ///
    /// # Errors
    /// See there.
    pub(super) fn may_go_back(&self) -> Result<(), Fault> {
        let now = self.parts.written(self.number());
        let is_near = now.is_up && now.queue_bytes <= LAG_BYTES_MAX;
        if self.side().needs_copy.is_none() && !is_near {
            let why = format!(
                "shard {} does not take what is written at this moment, or much waits for it",
                self.at
            );
            return Err(Fault::Conflict(why));
        }
        Ok(())
    }

    /// What keeps several from being flipped as they are to be.
    pub(super) fn sides_allow(&self) -> Result<(), &'static str> {
        match self.state.old_side {
            OldSide::Written => Ok(()),
            OldSide::Replica => Err(
                "of several, each is written to once this node decides: say `--old-side written`, and `--bar-users` with the users of the application",
            ),
        }
    }

    /// This node decides its keys, as the state on the disk says.
    ///
    /// # Errors
    /// When requests cannot be passed on to the others.
    pub(super) fn own_shard(&mut self) -> Result<(), String> {
        self.parts.own_shard(self.number(), self.owns_all());
        self.set_upstream()
    }

    /// It is followed: from where its history stands, or from where its data here is.
    ///
    /// # Errors
    /// When that cannot be begun.
    pub(super) fn follow_there(&mut self, from: Option<&Place>) -> Result<(), String> {
        self.set_upstream()?;
        let shard = self.shard_there().ok_or("no such shard is known")?;
        match from {
            Some(place) => self.parts.follow_shard_at(&shard, place),
            // (What was tried may have failed before it was let go.)
            None if self.link_there().state != "none" => Ok(()),
            None => self.parts.follow_shard(&shard, false),
        }
    }

    /// Another server has the place of one that is written to, and its data.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(super) fn write_elsewhere(&mut self, at: usize) -> Result<(), String> {
        let before = core::mem::replace(&mut self.at, at);
        let seen = self.seen_mut();
        // (It counts for itself, and its users are its own.)
        (seen.calls_before, seen.strays_before) = (None, seen.strays);
        seen.barred.clear();
        let done = self.write_there();
        self.at = before;
        done
    }

    /// How it goes with all that are written to, together.
    pub(super) fn written_now(&self) -> WrittenNow {
        let all = 0..self.state.sources.len().max(1) as u16;
        let ours =
            all.filter(|number| !self.is_sharded() || self.state.is_ours(usize::from(*number)));
        let mut ours = ours.map(|number| self.parts.written(number));
        let first = ours.next().unwrap_or_default();
        ours.fold(first, |sum, one| WrittenNow {
            is_up: sum.is_up && one.is_up,
            queue_bytes: sum.queue_bytes.max(one.queue_bytes),
            lag_ms: sum.lag_ms.max(one.lag_ms),
            ..sum
        })
    }

    /// What an operator is told of a flip.
    pub(super) fn told_of_flip(&self) -> String {
        let pause_us = self.live.pause_us;
        let left = self.with_source().count();
        match self.is_sharded() {
            false => format!("this node decides now; the pause was {pause_us} us"),
            true if left == 0 => format!(
                "this node decides shard {} now, and so all of them; the pause was {pause_us} us",
                self.at
            ),
            true => format!(
                "this node decides shard {} now, the source {left} more; the pause was {pause_us} us",
                self.at
            ),
        }
    }

    /// The same of a way back.
    pub(super) fn told_of_back(&self) -> String {
        let pause_us = self.live.pause_us;
        match self.is_sharded() {
            false => format!("the old Redis decides again; the pause was {pause_us} us"),
            true => format!(
                "the source decides shard {} again; the pause was {pause_us} us",
                self.at
            ),
        }
    }

    /// Who writes at the old side of those that this node decides.
    pub(super) fn watch_sides(&mut self) -> Result<(), String> {
        let mut why = Ok(());
        self.for_each_side(|driver| {
            if driver.is_ours()
                && let Err(error) = driver.watch_written()
            {
                why = Err(format!("shard {}: {error}", driver.at));
            }
        });
        why
    }

    /// A start: those that are this node's by the state go on so. False when its log has less than they had then.
    pub(super) fn resume_sides(&mut self) -> bool {
        let end = self.parts.log_end();
        let ours: Vec<usize> = self.state.decided(true).collect();
        let has = |at: &usize| end.is_some_and(|end| end >= self.state.side(*at).written_from);
        if !ours.iter().all(has) {
            self.live.is_lost = true;
            self.parts.hold();
            self.warn("this node's data is older than the flip of a shard: `back --force` lets the source decide all again".to_owned());
            return false;
        }
        if core::mem::take(&mut self.state.intent) != Intent::None
            && let Err(why) = self.save()
        {
            self.warn(why);
        }
        for at in ours {
            self.at = at;
            let done = self.own_shard().and_then(|()| self.write_there());
            if let Err(why) = done {
                self.warn(why);
            }
        }
        true
    }

    /// The source has all that was written there: it decides, and this node copies what it had taken over anew.
    pub(super) fn sides_from_loss(&mut self, force: bool) -> Result<String, Fault> {
        if !force {
            let why = "writes that the old side does not have are gone: say so with `--force`";
            return Err(Fault::Conflict(why.to_owned()));
        }
        let ours: Vec<usize> = self.state.decided(true).collect();
        for at in &ours {
            self.at = *at;
            self.unbar().map_err(Fault::Failed)?;
        }
        let before = self.state.clone();
        ours.iter()
            .for_each(|at| self.state.side_mut(*at).fence = None);
        self.state.intent = Intent::None;
        self.state.enter(Phase::Verify, self.parts.now_ms());
        if let Err(why) = self.save() {
            self.state = before;
            return Err(Fault::Failed(why));
        }
        self.live.is_lost = false;
        self.share_source();
        self.set_upstream().map_err(Fault::Failed)?;
        self.parts.release(Authority::Front);
        let others: Vec<Sharded> = self.sharded();
        let others = others
            .into_iter()
            .filter(|shard| !ours.contains(&usize::from(shard.number)));
        let followed = self.parts.follow_others(&others.collect::<Vec<_>>());
        followed.map_err(Fault::Failed)?;
        for shard in ours.iter().filter_map(|at| self.sharded_at(*at)) {
            self.parts.drop_queue(shard.number);
            self.parts
                .follow_shard(&shard, true)
                .map_err(Fault::Failed)?;
        }
        self.set_upstream().map_err(Fault::Failed)?;
        self.wants_verification(true);
        Ok("the source decides all again; what this node had taken over is copied anew".to_owned())
    }
}
