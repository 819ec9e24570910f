//! What the driver of a migration does otherwise where the old Redis is written to.

use std::collections::BTreeMap;
use std::time::Duration;

use migration::flip::{Do, Event, Machine, Outcome};
use migration::written::{Home, Mark, Over, strays};
use migration::{BARRED_USERS_MAX, Bar, Intent, OldSide, Phase};

use super::super::drive::Driver;
use super::super::order::{Fault, Way};
use super::super::parts::Parts;
use super::super::sides::Seen;
use super::{There, position_of};

/// How often the state is told how far the old Redis is, ms: a start keeps the log from there on.
const KEPT_MS: u64 = 10_000;

impl<P: Parts> Driver<P> {
    /// Whether the old Redis is written to once this node decides.
    pub(in crate::control::migrate) fn is_written(&self) -> bool {
        self.state.old_side == OldSide::Written
    }

    /// Takes over what an order says of the old side.
    ///
    /// # Errors
    /// Names that no user has, or too many.
    pub(in crate::control::migrate) fn take_way(&mut self, way: &Way) -> Result<(), Fault> {
        let old_side = way.old_side.unwrap_or(self.state.old_side);
        let is_barred = |bar: &Bar| !bar.commands.is_empty();
        let are_barred = self
            .with_source()
            .any(|at| self.state.side(at).bars.iter().any(is_barred));
        let bars = match &way.users {
            Some(_) if are_barred => {
                let why = "users of the old Redis are barred still, since it did not answer: they are given back first";
                return Err(Fault::Conflict(why.to_owned()));
            }
            Some(users) => {
                let bars: Option<Vec<Bar>> = users.iter().map(|user| Bar::new(user)).collect();
                let bars = bars.filter(|bars| bars.len() <= BARRED_USERS_MAX);
                bars.ok_or_else(|| {
                    let why = format!("at most {BARRED_USERS_MAX} users are barred, and their names have no blanks");
                    Fault::Conflict(why)
                })?
            }
            None => self.side().bars.clone(),
        };
        if old_side == OldSide::Replica && !bars.is_empty() {
            let why =
                "a replica refuses writes by itself: users are barred with the old side written";
            return Err(Fault::Conflict(why.to_owned()));
        }
        if old_side == OldSide::Replica && self.state.by_scan {
            let why = "a source that is followed by scan bars PSYNC, and cannot be a replica: its old side is written";
            return Err(Fault::Conflict(why.to_owned()));
        }
        if old_side == OldSide::Replica && self.state.announce.is_none() {
            let why =
                "an old Redis that becomes a replica must know where this node is: --announce";
            return Err(Fault::Conflict(why.to_owned()));
        }
        self.state.old_side = old_side;
        if way.users.is_some() {
            for at in self.with_source().collect::<Vec<_>>() {
                self.state.side_mut(at).bars.clone_from(&bars);
            }
        }
        Ok(())
    }

    /// Everything that can be found out before clients wait.
    fn prepare_over(&mut self) -> Result<(), Fault> {
        if self.parts.log_end().is_none() {
            let why = "the log is the queue of what is written there: it needs `appendonly yes`";
            return Err(Fault::Conflict(why.to_owned()));
        }
        let own = self.source().and_then(|source| source.may_be_written());
        let own = own.map_err(Fault::Conflict)?;
        let mut bars = self.side().bars.clone();
        for bar in &mut bars {
            if bar.user == own {
                let why = format!(
                    "'{own}' is the user that this node writes as: give it one of its own (masteruser)"
                );
                return Err(Fault::Conflict(why));
            }
            let commands = self
                .source()
                .and_then(|source| source.commands_of(&bar.user));
            bar.commands = commands.map_err(|why| {
                Fault::Conflict(format!(
                    "{why}; without users to bar, writers that are left there are only detected"
                ))
            })?;
        }
        self.side_mut().bars = bars;
        Ok(())
    }

    /// The flip that writes to the old Redis from then on.
    pub(in crate::control::migrate) fn flip_over(&mut self) -> Result<Outcome, Fault> {
        self.prepare_over()?;
        // (By scan nothing is known of the source's history but what it says of it.)
        let at = match self.state.by_scan {
            true => self.ask_source().map_err(Fault::Failed)?.at,
            false => self.link_there().at,
        };
        let stragglers = self.source().and_then(|source| source.stragglers());
        *self.seen_mut() = Seen {
            refused_before: stragglers.map_or(0, |found| found.refused),
            ..Seen::default()
        };
        self.state.old_version = None;
        self.parts.tell_as(None);
        self.unfences = Some(None);
        self.wants_verification(false);
        let intent = Intent::Flip {
            at: at.clone(),
            min_replicas: None,
        };
        let (over, doing) = match self.state.by_scan {
            true => Over::begin_by_scan(intent, &at),
            false => Over::begin(intent, &at),
        };
        let what = self.named("flip");
        Ok(self.run(Machine::Over(over), doing, &what))
    }

    /// The machine of the way back.
    ///
    /// # Errors
    /// When the old Redis does not have everything and never will.
    pub(in crate::control::migrate) fn home(&self) -> Result<(Machine, Vec<Do>), Fault> {
        if let Some(why) = &self.side().needs_copy {
            return Err(Fault::Conflict(format!(
                "the old Redis needs a new copy: {why}; it cannot decide again"
            )));
        }
        let (home, doing) = Home::begin();
        Ok((Machine::Home(home), doing))
    }

    /// Does what only machines of an old Redis that is written to ask for.
    pub(in crate::control::migrate) fn perform_written(
        &mut self,
        what: &Do,
    ) -> Result<Option<Event>, String> {
        let event = match what {
            Do::Bar => {
                self.bar()?;
                Some(Event::Barred)
            }
            Do::Unbar => {
                self.unbar()?;
                None
            }
            Do::WriteThere => {
                self.write_there()?;
                None
            }
            Do::StopWriting => {
                let now = self.parts.written(self.number());
                let side = self.side_mut();
                side.is_begun |= now.is_begun;
                side.written_from = now.there.max(side.written_from);
                self.parts.stop_writing(self.number());
                // (Another line counts anew.)
                let seen = self.seen_mut();
                seen.calls_before = None;
                seen.strays_before = seen.strays;
                None
            }
            Do::DropQueue => {
                self.parts.drop_queue(self.number());
                None
            }
            Do::ReadBack => Some(self.read_back()?),
            Do::EndKeys(until_ms) => {
                self.parts
                    .end_keys(*until_ms, self.shard_there().as_ref())?;
                None
            }
            Do::Stand(place) => {
                let of = self.is_sharded().then_some(self.number());
                self.parts.stand(place, of)?;
                Some(Event::Stood)
            }
            Do::WriteBack => {
                let before = self.state.clone();
                self.state.intent = Intent::None;
                if self.is_sharded() {
                    self.side_mut().fence = None;
                }
                if self.state.phase != Phase::Verify {
                    self.state.enter(Phase::Verify, self.parts.now_ms());
                }
                if let Err(why) = self.save() {
                    self.state = before;
                    return Err(why);
                }
                Some(Event::Written)
            }
            Do::Forget => {
                let position = position_of(self.shard_there().as_ref());
                self.source()?.forget(&position)?;
                None
            }
            _ => None,
        };
        Ok(event)
    }

    /// The users may not write. What is called there from here on is this node's, or of somebody who is not barred.
    fn bar(&mut self) -> Result<(), String> {
        self.seen_mut().barred.clear();
        for bar in self.side().bars.clone() {
            let after = self.source()?.bar(&bar.user)?;
            self.seen_mut().barred.push((bar.user, after));
        }
        self.keep_users();
        self.seen_mut().calls_before = Some((self.source()?.calls()?, BTreeMap::new()));
        Ok(())
    }

    /// A restart of the old Redis finds its users as they are now, if it has a file for them.
    fn keep_users(&mut self) {
        if self.side().bars.is_empty() {
            return;
        }
        match self.source().and_then(|source| source.keep_users()) {
            Ok(true) => {}
            Ok(false) => self.warn("the old Redis has no file for its users: restarted, those who are barred could write until this node notices".to_owned()),
            Err(why) => self.warn(format!("the old Redis's file does not say who may write: {why}")),
        }
    }

    /// They may again. What has failed is tried again from time to time.
    pub(in crate::control::migrate) fn unbar(&mut self) -> Result<(), String> {
        let mut some = false;
        for at in 0..self.side().bars.len() {
            let bar = self.side().bars[at].clone();
            if !bar.commands.is_empty() {
                self.source()?.unbar(&bar)?;
                self.side_mut().bars[at].commands.clear();
                some = true;
            }
        }
        self.seen_mut().barred.clear();
        if some {
            self.keep_users();
        }
        Ok(())
    }

    pub(in crate::control::migrate) fn write_there(&mut self) -> Result<(), String> {
        let side = self.side();
        if side.needs_copy.is_some() {
            return Ok(());
        }
        let server = self.state.sources.get(self.at).cloned();
        self.parts.write_there(There {
            server: server.ok_or("no source is known")?,
            fence: side.fence.clone().ok_or("no fence is known")?,
            from: side.written_from,
            is_begun: side.is_begun,
            shard: self.shard_there(),
        });
        Ok(())
    }

    fn read_back(&mut self) -> Result<Event, String> {
        let position = position_of(self.shard_there().as_ref());
        let found = self.source()?.read_back(&position)?;
        // Nothing is queued for it since requests wait; what others' streams bring goes on meanwhile.
        let end = self.parts.log_end().unwrap_or(0);
        let may_have = self.drained.unwrap_or(end)..=end;
        let fence = self.side().fence.as_ref();
        let is_ours = |mark: &Mark| Some(&mark.fence) == fence && may_have.contains(&mark.sequence);
        Ok(Event::StandsAt {
            is_ours: found.mark.as_ref().is_some_and(is_ours),
            place: found.place,
            now_ms: found.now_ms,
        })
    }

    /// From time to time, while the source decides: users that are barred still, since something failed, are so no longer.
    pub(in crate::control::migrate) fn unbar_again(&mut self) {
        let is_barred = self.side().bars.iter().any(|bar| !bar.commands.is_empty());
        if !is_barred || self.is_ours() || self.state.intent != Intent::None {
            return;
        }
        let done = self.unbar().and_then(|()| self.save());
        if let Err(why) = done {
            self.warn(format!("users of the old Redis are barred still: {why}"));
        }
    }

    /// From time to time, while this node decides: what the line has come to is kept.
    pub(in crate::control::migrate) fn keep_written(&mut self, now_ms: u64) {
        if !self.is_written() || !self.is_ours() || self.live.is_lost {
            return;
        }
        let now = self.parts.written(self.number());
        let (side, kept_ms) = (self.side(), self.seen().kept_ms);
        let gives_up = now.needs_copy.is_some() && side.needs_copy.is_none();
        let begins = now.is_begun && !side.is_begun;
        let is_late = now_ms >= kept_ms + KEPT_MS && now.there > side.written_from;
        if !(gives_up || begins || is_late) {
            return;
        }
        self.seen_mut().kept_ms = now_ms;
        let side = self.side_mut();
        side.is_begun |= now.is_begun;
        if gives_up {
            side.needs_copy.clone_from(&now.needs_copy);
        }
        side.written_from = now.there.max(side.written_from);
        match self.save() {
            Ok(()) if gives_up => {
                self.parts.stop_writing(self.number());
                self.parts.drop_queue(self.number());
                let why = now.needs_copy.unwrap_or_default();
                self.warn(format!(
                    "the old Redis is given up and needs a new copy: {why}"
                ));
            }
            Ok(()) => {}
            Err(why) => self.warn(why),
        }
    }

    /// Who is barred stays barred, and who writes there all the same is counted.
    pub(in crate::control::migrate) fn watch_written(&mut self) -> Result<(), String> {
        for bar in self.side().bars.clone() {
            let now = self.source()?.commands_of(&bar.user)?;
            let barred = &self.seen().barred;
            let known = barred.iter().position(|(user, _)| *user == bar.user);
            if known.is_some_and(|at| barred[at].1 == now) {
                continue;
            }
            let after = self.source()?.bar(&bar.user)?;
            match known {
                Some(at) => {
                    self.seen_mut().barred[at].1 = after;
                    self.live.returned += 1;
                    let user = &bar.user;
                    self.warn(format!(
                        "the user '{user}' could write at the old Redis again: it is barred again"
                    ));
                }
                // (This process has not barred it: the one before may have.)
                None => self.seen_mut().barred.push((bar.user, after)),
            }
        }
        self.seen_mut().stragglers = self.source()?.stragglers()?;
        self.count_strays()
    }

    /// Counts that are read before commands are sent, and after they were answered, are never too high.
    fn count_strays(&mut self) -> Result<(), String> {
        let answered = self.parts.written(self.number()).answered;
        let calls = self.source()?.calls()?;
        let mut sent = self.parts.written(self.number()).calls;
        let seen = self.seen();
        let Some((before, ours_before)) = &seen.calls_before else {
            // A process that has begun since: what was before is not known.
            self.seen_mut().calls_before = Some((calls, answered));
            return Ok(());
        };
        for (name, count) in &mut sent {
            *count = count.saturating_sub(ours_before.get(name).copied().unwrap_or(0));
        }
        let writes = |name: &str| self.parts.writes(name);
        let strays = seen.strays_before + strays::foreign(before, &calls, &sent, writes);
        let more = strays.saturating_sub(seen.strays);
        if more > 0 {
            self.seen_mut().strays = strays;
            self.warn(format!(
                "{more} writes at the old Redis were not this node's: it is not what is here any more"
            ));
        }
        Ok(())
    }

    /// Whether the old Redis has all that is here, at this look; while requests wait, all that was here when they were at rest.
    pub(in crate::control::migrate) fn delivered(&self) -> Option<Event> {
        let now = self.parts.written(self.number());
        let end = self.drained.or_else(|| self.parts.log_end())?;
        (now.is_up && now.needs_copy.is_none() && now.there >= end.max(now.owes))
            .then_some(Event::Delivered)
    }

    /// Before requests wait: what waits to be written is little.
    pub(in crate::control::migrate) fn await_near(&self, at_most: Duration) {
        let until_us = self.parts.mono_us() + at_most.as_micros() as u64;
        while self.delivered().is_none() && self.parts.mono_us() < until_us {
            self.parts.rest(Duration::from_millis(1));
        }
    }
}
