//! The one thread that drives a migration: orders in, phases forward and back, the state on the disk ahead of each step.
//!
//! ```text
//! HTTP ── Order ──> Driver ──┬─ phase.rs says whether, flip.rs says how, step by step        run.rs does the steps
//!   tick, some times a second ┘   └─ store.rs writes the state before the source can see a step
//! ```
//! After a flip it watches: the old Redis is asked what it is and made a replica again when it has come back as a primary; refusals are
//! counted against a budget, and when it is spent the migration goes back by itself. Nothing here is on the data path.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use migration::assess::Report;
use migration::compare::Findings;
use migration::flip::{self, Do, Flip, Found, Machine, Outcome, Start};
use migration::{Authority, Facts, Intent, OldSide, Phase, Server, Shard, State, written};

use super::order::{Fault, Means, Order, Way, conflict};
use super::parts::{Kept, Parts, Peer, Sharded};
use super::shards::Shards;
use super::sides::Seen;
use super::store;
use crate::control::disk::Disk;

/// How long an answer of the source is waited for when nobody waits for it.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often the old Redis is looked at in `reverse`, and an open question asked again, ms.
const LOOK_MS: u64 = 1000;
/// How long a way back waits for an old Redis that is written to, before requests do.
const NEAR_MAX: Duration = Duration::from_millis(300);
/// Warnings that are kept.
const WARNINGS_MAX: usize = 50;
/// How long refusals count against the budget after a flip, ms, and from how many requests on.
const SOAK_MS: u64 = 60_000;
const SOAK_REQUESTS_MIN: u64 = 1000;

/// What the options say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// `migrate-pause-max-ms`.
    pub pause_max: Duration,
    /// `migrate-error-budget`: refusals in a thousand requests after a flip; 0 for any number.
    pub error_budget: u64,
}

/// What verification is to do; shared with its thread.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Compare.
    pub runs: AtomicBool,
    /// Fetch again what differs.
    pub mends: AtomicBool,
    /// How often passes were asked for: one that had begun before is given up.
    pub asked: AtomicU64,
    /// From where, and which keys; none with nothing to compare with.
    pub sources: Mutex<Vec<Sharded>>,
    /// What went wrong last.
    pub error: Mutex<Option<String>>,
}

/// What is known beside the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    /// The step of a flip, or what is waited for.
    pub step: &'static str,
    /// It is not known who decides: the source does not answer.
    pub is_open: bool,
    /// This node's data is older than the flip.
    pub is_lost: bool,
    /// Told to operators, the last one last.
    pub warnings: Vec<String>,
    /// How often the old Redis came back as a primary.
    pub returned: u64,
    /// What has been seen at the old side, by number.
    pub seen: BTreeMap<usize, Seen>,
    /// The last pause, us.
    pub pause_us: u64,
    /// The last assessment.
    pub report: Option<Report>,
}

/// Makes the way to a server.
pub(super) type Connect = Box<dyn Fn(&Server) -> Result<Box<dyn Peer>, String> + Send>;
/// Looks at servers before a start.
pub(super) type Assess = Box<dyn Fn(&[Server], Means) -> Result<Survey, String> + Send>;

/// What was found before a start.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    /// What stands in the way.
    pub report: Report,
    /// The shards, of a cluster or of several servers; none of a single one.
    pub shards: Vec<(Server, Shard)>,
}

/// See the module's head.
pub(super) struct Driver<P> {
    pub(super) parts: P,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    /// What the disk says, or is to say.
    pub state: State,
    /// What is known beside it.
    pub live: Live,
    /// The server that is dealt with: 0 of a single one.
    pub(super) at: usize,
    /// The end of the log when requests had come to rest, while they wait.
    pub(super) drained: Option<u64>,
    pub(super) peers: BTreeMap<usize, Box<dyn Peer>>,
    pub(super) connect: Connect,
    assess: Assess,
    /// What is known of several sources.
    pub(super) shards: Shards,
    pub(super) bounds: Bounds,
    /// What verification does.
    pub wanted: Arc<Wanted>,
    /// What it has found.
    pub findings: Arc<Mutex<Findings>>,
    /// The disk does not say what is here: it is written again.
    pub(super) is_unsaved: bool,
    /// The source is to be unfenced, its `min-replicas-to-write` back to this.
    pub(super) unfences: Option<Option<u64>>,
    looked_ms: u64,
    soak: Option<Soak>,
}

/// Refusals since a flip.
#[derive(Clone, Copy, Debug)]
struct Soak {
    /// Of this server.
    at: usize,
    until_ms: u64,
    requests: u64,
    refusals: u64,
}

impl<P: Parts> Driver<P> {
    /// Drives what this state says.
    pub(super) fn new(
        parts: P,
        (disk, path): (Arc<dyn Disk>, PathBuf),
        state: State,
        (connect, assess): (Connect, Assess),
        bounds: Bounds,
    ) -> Driver<P> {
        Driver {
            parts,
            disk,
            path,
            state,
            live: Live::default(),
            at: 0,
            drained: None,
            peers: BTreeMap::new(),
            connect,
            assess,
            shards: Shards::default(),
            bounds,
            wanted: Arc::default(),
            findings: Arc::default(),
            is_unsaved: false,
            unfences: None,
            looked_ms: 0,
            soak: None,
        }
    }

    /// The options have changed.
    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// The node's side.
    pub(super) fn parts(&self) -> &P {
        &self.parts
    }

    /// What verification has found.
    pub(super) fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known for the conditions of a phase.
    pub(super) fn facts(&self) -> Facts {
        let link = self.parts.link();
        let findings = self.findings();
        Facts {
            follows: link.follows,
            lag_bytes: self.lag_bytes(),
            passes: findings.passes,
            differences: findings.open(),
            unsettled: findings.unsettled,
            old_side_current: self.is_near(),
        }
    }

    /// Little is missing at the old side: what is written this moment is waited for by the way back itself.
    fn is_near(&self) -> bool {
        if self.is_written() {
            let now = self.parts.written(self.number());
            return now.is_up && now.queue_bytes <= migration::LAG_BYTES_MAX;
        }
        let (end, has) = (self.parts.end(), self.parts.acknowledged());
        has.is_some_and(|has| end.offset.saturating_sub(has) <= migration::LAG_BYTES_MAX)
    }

    /// Bytes of the source's stream that are not executed here; 0 when the source does not tell.
    pub(super) fn lag_bytes(&self) -> u64 {
        self.parts.link().lag_bytes
    }

    /// Goes on with what the disk says, once its data is here.
    pub(super) fn resume(&mut self) {
        if self.state.phase == Phase::Idle || self.state.phase == Phase::Finished {
            return;
        }
        self.share_source();
        self.parts.tell_as(self.state.old_version);
        if let Err(why) = self.set_upstream() {
            self.warn(why);
        }
        if self.is_sharded() {
            return self.resume_shards();
        }
        if self.is_written() && self.state.phase == Phase::Reverse {
            // What this node decides it decides whatever the old Redis is.
            return self.settle(None);
        }
        let found = self.ask_source();
        if let Err(why) = &found {
            self.warn(why.clone());
        }
        self.settle(found.ok().as_ref());
    }

    fn at_start(&self, found: Option<&Found>) -> Start {
        if self.is_written() {
            let end = self.parts.log_end();
            let has_all = end.is_some_and(|end| end >= self.side().written_from);
            return written::at_start(&self.state, found, has_all);
        }
        let kept = match self.parts.kept() {
            Kept::At(place) => Some(place),
            Kept::Own => self.side().fence.clone(),
            Kept::Nothing => None,
        };
        flip::at_start(&self.state, found, kept.as_ref())
    }

    /// Decides what the state means, by what the source says.
    fn settle(&mut self, found: Option<&Found>) {
        self.live.is_open = false;
        self.live.is_lost = false;
        if let Intent::Flip { min_replicas, .. } = self.state.intent {
            self.unfences = Some(min_replicas);
        }
        match self.at_start(found) {
            Start::Go(phase, doing) => {
                let done = self.do_all(&doing);
                if let Err(why) = done {
                    self.live.is_open = true;
                    self.warn(format!("{why}: tried again"));
                    return self.parts.release(Authority::Front);
                }
                self.state.phase = phase;
                self.wants_verification(phase == Phase::Verify);
                self.parts
                    .note(&format!("migration: goes on in phase {}", phase.name()));
            }
            Start::Prove(place) => {
                self.parts.hold();
                let (flip, doing) = Flip::prove(&place);
                let outcome = self.run(Machine::Flip(flip), doing, "flip");
                self.after_flip(&outcome);
            }
            Start::Lost => {
                self.live.is_lost = true;
                self.parts.hold();
                self.warn("this node's data is older than the flip: `back --force` lets the old Redis decide again".to_owned());
            }
            Start::Open => {
                self.live.is_open = true;
                self.parts.release(Authority::Front);
            }
        }
    }

    /// An operator's order; what came of it, in one sentence.
    ///
    /// # Errors
    /// [`Fault`]
    pub(super) fn order(&mut self, order: &Order) -> Result<String, Fault> {
        match order {
            Order::Start {
                sources,
                patterns,
                announce,
                force,
                way,
            } => self.start((sources, patterns), (announce.as_ref(), way), *force),
            Order::Advance { force, way, shard } => self.advance(*force, way, *shard),
            Order::Back { force, shard } => self.back(*force, *shard),
            Order::Verify { mends } => self.verify(*mends),
            Order::Finish => self.finish(),
        }
    }

    fn start(
        &mut self,
        (sources, patterns): (&[Server], &[Vec<String>]),
        (announce, way): (Option<&Server>, &Way),
        force: bool,
    ) -> Result<String, Fault> {
        let phase = self.state.phase.start().map_err(conflict)?;
        let means = way.means();
        let Survey { report, shards } = (self.assess)(sources, means).map_err(Fault::Failed)?;
        let stops = report.stops();
        let text = report.text();
        self.live = Live {
            report: Some(report),
            ..Live::default()
        };
        if stops && !force {
            return Err(Fault::Conflict(format!(
                "the assessment says stop:\n{text}"
            )));
        }
        let now_ms = self.parts.now_ms();
        let before = std::mem::take(&mut self.state);
        let (sources, mut shards): (Vec<Server>, Vec<Shard>) = match shards.is_empty() {
            true => (sources.to_vec(), Vec::new()),
            false => shards.into_iter().unzip(),
        };
        for (shard, patterns) in shards.iter_mut().zip(patterns) {
            shard.patterns.clone_from(patterns);
        }
        self.state = State {
            began_ms: now_ms,
            sources,
            shards,
            announce: announce.cloned(),
            old_side: means.old_side,
            by_scan: means.by_scan,
            ..State::default()
        };
        self.state.enter(phase, now_ms);
        let begun = self.take_way(way);
        if let Err(fault) = begun.and_then(|()| self.save().map_err(Fault::Failed)) {
            self.state = before;
            return Err(fault);
        }
        (self.at, self.drained) = (0, None);
        self.parts.tell_as(None);
        self.peers.clear();
        self.shards = Shards::default();
        self.findings().clear();
        self.share_source();
        self.parts.release(Authority::Source);
        let followed = match self.state.sources.first() {
            Some(source) if means.by_scan => self.parts.follow_by_scan(source),
            Some(source) if !self.is_sharded() => self.parts.follow(source, None),
            _ => self.parts.follow_all(&self.sharded(), true),
        };
        followed.map_err(Fault::Failed)?;
        Ok("the source is followed; `status --watch` shows the copy".to_owned())
    }

    fn advance(&mut self, force: bool, way: &Way, shard: Option<usize>) -> Result<String, Fault> {
        self.is_settled()?;
        if self.state.phase.follows() {
            self.take_way(way)?;
        }
        let to = self
            .state
            .phase
            .advance(&self.facts(), force)
            .map_err(conflict)?;
        self.shards_allow(to)?;
        match to {
            Phase::Front => {
                self.set_upstream().map_err(Fault::Failed)?;
                self.enter(to)?;
                self.parts.release(Authority::Front);
                Ok(
                    "clients may connect here: what they write is passed on to the source"
                        .to_owned(),
                )
            }
            Phase::Verify => {
                self.enter(to)?;
                self.ask_for_passes();
                self.wants_verification(true);
                Ok("all keys are compared, again and again".to_owned())
            }
            _ => {
                self.choose(shard, false)?;
                self.flip()
            }
        }
    }

    fn flip(&mut self) -> Result<String, Fault> {
        let outcome = match self.state.old_side {
            OldSide::Replica => self.flip_to_replica()?,
            OldSide::Written => self.flip_over()?,
        };
        self.after_flip(&outcome);
        match outcome {
            Outcome::Done => Ok(self.told_of_flip()),
            Outcome::Undone { why, .. } => Err(Fault::Undone(why)),
        }
    }

    fn after_flip(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Done => {
                let (requests, refusals) = self.parts.requests();
                self.share_source();
                self.wants_verification(self.state.phase.follows());
                self.soak = Some(Soak {
                    at: self.at,
                    until_ms: self.parts.now_ms() + SOAK_MS,
                    requests,
                    refusals,
                });
            }
            Outcome::Undone { unsettled, .. } => {
                self.live.is_open = *unsettled;
                self.wants_verification(true);
            }
        }
    }

    fn back(&mut self, force: bool, shard: Option<usize>) -> Result<String, Fault> {
        if self.live.is_lost && self.is_sharded() {
            return self.sides_from_loss(force);
        }
        if self.live.is_lost {
            return self.back_from_loss(force);
        }
        self.is_settled()?;
        if self.owns_some() {
            if !self.shards.moving.is_empty() {
                let why =
                    "slots are on their way from one shard to another: wait until that has ended";
                return Err(Fault::Conflict(why.to_owned()));
            }
            self.choose(shard, true)?;
            self.may_go_back()?;
            return self.turn_back();
        }
        let to = self.state.phase.back(&self.facts()).map_err(conflict)?;
        match to {
            Phase::Idle => {
                self.state.old_version = None;
                self.enter(to)?;
                self.parts.tell_as(None);
                self.wants_verification(false);
                self.parts.leave();
                self.parts.release(Authority::Own);
                self.peers.clear();
                Ok("the source is followed no more; its data stays here".to_owned())
            }
            Phase::Attach => self.close_front(),
            Phase::Front => {
                self.enter(to)?;
                self.wants_verification(false);
                Ok("nothing is compared any more".to_owned())
            }
            _ => {
                if !force
                    && let Some(why) = self
                        .source()
                        .and_then(|source| source.unsaved())
                        .map_err(Fault::Failed)?
                {
                    return Err(Fault::Conflict(format!(
                        "{why}: what it was given would be lost if it ended now"
                    )));
                }
                self.turn_back()
            }
        }
    }

    /// What is under way at the source is awaited; then writes are refused here.
    fn close_front(&mut self) -> Result<String, Fault> {
        self.parts.hold();
        self.parts.unblock();
        let until_us = self.parts.mono_us() + ANSWER_MAX.as_micros() as u64;
        while self.parts.in_flight() > 0 && self.parts.mono_us() < until_us {
            self.parts.rest(Duration::from_millis(1));
        }
        if self.parts.in_flight() > 0 {
            self.parts.release(Authority::Front);
            return Err(Fault::Undone(
                "requests at the source are not answered".to_owned(),
            ));
        }
        if let Err(fault) = self.enter(Phase::Attach) {
            self.parts.release(Authority::Front);
            return Err(fault);
        }
        self.parts.release(Authority::Source);
        Ok("writes are refused here; clients belong to the source".to_owned())
    }

    pub(super) fn turn_back(&mut self) -> Result<String, Fault> {
        self.set_upstream().map_err(Fault::Failed)?;
        let (machine, doing) = if self.is_written() {
            self.await_near(NEAR_MAX);
            self.home()?
        } else {
            let (back, doing) = flip::Back::begin();
            (Machine::Back(back), doing)
        };
        let what = self.named("back");
        let outcome = self.run(machine, doing, &what);
        self.soak = None;
        match outcome {
            Outcome::Done => {
                self.findings().clear();
                self.share_source();
                self.wants_verification(true);
                Ok(self.told_of_back())
            }
            Outcome::Undone { why, unsettled } => {
                self.live.is_open = unsettled;
                Err(Fault::Undone(why))
            }
        }
    }

    /// The old Redis has everything that was acknowledged to it: it decides, and this node copies it anew.
    fn back_from_loss(&mut self, force: bool) -> Result<String, Fault> {
        if !force {
            let why = "writes that the old Redis has not acknowledged before the loss are gone: say so with `--force`";
            return Err(Fault::Conflict(why.to_owned()));
        }
        self.set_upstream().map_err(Fault::Failed)?;
        let makes = match self.state.old_side {
            OldSide::Replica => Do::MakePrimary,
            OldSide::Written => Do::Unbar,
        };
        let doing = [
            Do::Intend(Intent::Back),
            makes,
            Do::Follow(None),
            Do::Release(Authority::Front),
            Do::Write(Phase::Verify),
        ];
        self.do_all(&doing).map_err(Fault::Failed)?;
        self.live.is_lost = false;
        Ok("the old Redis decides again; its data is copied anew".to_owned())
    }

    fn verify(&mut self, mends: bool) -> Result<String, Fault> {
        if !self.state.phase.follows() {
            let why = "keys are compared while the source decides: in attach, front and verify";
            return Err(Fault::Conflict(why.to_owned()));
        }
        if !self.parts.link().follows {
            return Err(Fault::Conflict(
                "the source's data is not all here yet".to_owned(),
            ));
        }
        self.wanted.mends.store(mends, Relaxed);
        let error = self.wanted.error.lock();
        *error.unwrap_or_else(PoisonError::into_inner) = None;
        self.ask_for_passes();
        self.wanted.runs.store(true, Relaxed);
        Ok("all keys are compared; `status` shows what is found".to_owned())
    }

    /// Passes are counted from here on: one that is under way is given up.
    pub(super) fn ask_for_passes(&self) {
        self.wanted.asked.fetch_add(1, AcqRel);
        self.findings().passes = 0;
    }

    fn finish(&mut self) -> Result<String, Fault> {
        self.is_settled()?;
        let to = self.state.phase.finish().map_err(conflict)?;
        self.enter(to)?;
        self.soak = None;
        self.peers.clear();
        self.parts.tell_as(None);
        for number in 0..self.state.sources.len() as u16 {
            self.parts.stop_writing(number);
            self.parts.drop_queue(number);
        }
        Ok(
            "the migration is finished; the old Redis is not looked at any more: stop it"
                .to_owned(),
        )
    }

    fn is_settled(&self) -> Result<(), Fault> {
        if self.live.is_open {
            let why = "the source does not answer, and it is not known which of the two decides: it is asked again";
            return Err(Fault::Conflict(why.to_owned()));
        }
        if self.live.is_lost {
            let why = "this node's data is older than the flip: only `back --force` leads on";
            return Err(Fault::Conflict(why.to_owned()));
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase) -> Result<(), Fault> {
        let before = self.state.clone();
        self.state.enter(phase, self.parts.now_ms());
        self.save().map_err(|why| {
            self.state = before;
            Fault::Failed(why)
        })
    }

    pub(super) fn save(&mut self) -> Result<(), String> {
        let written = store::write(&*self.disk, &self.path, &self.state);
        self.is_unsaved = written.is_err();
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    pub(super) fn set_upstream(&mut self) -> Result<(), String> {
        if self.is_sharded() {
            return self.parts.set_upstreams(&self.sharded());
        }
        self.parts.set_upstream(self.state.sources.first())
    }

    pub(super) fn wants_verification(&mut self, runs: bool) {
        self.wanted.mends.store(true, Relaxed);
        self.wanted.runs.store(runs, Relaxed);
    }

    pub(super) fn share_source(&self) {
        let mut sources = self.sharded();
        sources.retain(|shard| !shard.is_ours);
        if let Some(server) = self.state.sources.first()
            && !self.is_sharded()
        {
            sources.push(Sharded {
                number: 0,
                server: server.clone(),
                slots: None,
                rule: None,
                is_ours: false,
            });
        }
        let wanted = self.wanted.sources.lock();
        *wanted.unwrap_or_else(PoisonError::into_inner) = sources;
    }

    pub(super) fn source(&mut self) -> Result<&mut (dyn Peer + 'static), String> {
        let server = self.state.sources.get(self.at);
        let server = server.ok_or("no source is known")?;
        let peer = match self.peers.entry(self.at) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((self.connect)(server)?),
        };
        Ok(peer.as_mut())
    }

    pub(super) fn ask_source(&mut self) -> Result<Found, String> {
        let us = self.state.announce.clone();
        self.source()?.ask(us.as_ref())
    }

    pub(super) fn warn(&mut self, text: String) {
        if self.live.warnings.last() == Some(&text) {
            return;
        }
        self.parts.note(&format!("migration: {text}"));
        self.live.warnings.push(text);
        let over = self.live.warnings.len().saturating_sub(WARNINGS_MAX);
        self.live.warnings.drain(..over);
    }

    /// What is to be done from time to time.
    pub(super) fn tick(&mut self) {
        if self.is_unsaved && self.save().is_ok() {
            self.parts.note("migration: the state is on the disk again");
        }
        let now_ms = self.parts.now_ms();
        self.watch_budget(now_ms);
        self.for_each_side(|driver| driver.keep_written(now_ms));
        if now_ms < self.looked_ms + LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        self.watch_shards();
        // (What fails is tried again in the next second.)
        let _lifted = self.unfence_again();
        self.for_each_side(Driver::unbar_again);
        if self.live.is_open {
            match self.ask_source() {
                Ok(found) => self.settle(Some(&found)),
                Err(why) => self.warn(why),
            }
            return;
        }
        let watched = match (self.state.phase, self.state.old_side) {
            _ if self.live.is_lost => Ok(()),
            (Phase::Verify | Phase::Reverse, _) if self.is_sharded() => self.watch_sides(),
            (Phase::Reverse, OldSide::Replica) => self.watch_old_side(),
            (Phase::Reverse, OldSide::Written) => self.watch_written(),
            (Phase::Attach | Phase::Front | Phase::Verify, OldSide::Replica) => self.watch_source(),
            _ => Ok(()),
        };
        if let Err(why) = watched {
            self.warn(why);
        }
    }

    /// The source decides, so it follows nobody, whatever it was started as: ended on the way back, before it could write that to its file, it
    /// comes up as this node's replica, and each waits for the other.
    fn watch_source(&mut self) -> Result<(), String> {
        if self.is_sharded() || self.parts.link().follows {
            return Ok(());
        }
        // (Of one that does not answer the link tells.)
        let found = self.ask_source();
        if !found.is_ok_and(|found| found.follows_us) {
            return Ok(());
        }
        self.warn(
            "the source has come back as this node's replica: it is made a primary again"
                .to_owned(),
        );
        self.live.returned += 1;
        let source = self.source()?;
        source.make_primary()?;
        source.keep_in_file().map(drop)
    }

    /// The old Redis is a replica of this node, whatever it was started as.
    fn watch_old_side(&mut self) -> Result<(), String> {
        let found = self.ask_source()?;
        if !found.follows_us {
            let us = self
                .state
                .announce
                .clone()
                .ok_or("no address of this node is known")?;
            self.live.returned += 1;
            self.warn(format!(
                "the old Redis has come back as {}: it is made a replica again",
                if found.is_primary {
                    "a primary"
                } else {
                    "another's replica"
                }
            ));
            self.source()?.make_replica(&us)?;
            self.keep_in_file();
        }
        self.seen_mut().stragglers = self.source()?.stragglers()?;
        self.know_version()
    }

    fn watch_budget(&mut self, now_ms: u64) {
        let Some(soak) = self.soak else { return };
        if now_ms > soak.until_ms || self.bounds.error_budget == 0 {
            self.soak = None;
            return;
        }
        let (requests, refusals) = self.parts.requests();
        let requests = requests.saturating_sub(soak.requests);
        let refusals = refusals.saturating_sub(soak.refusals);
        let spent =
            refusals.saturating_mul(1000) > requests.saturating_mul(self.bounds.error_budget);
        if requests >= SOAK_REQUESTS_MIN && spent {
            self.soak = None;
            self.at = soak.at;
            self.warn(format!(
                "{refusals} of {requests} requests were refused since the flip, more than migrate-error-budget allows: it is taken back"
            ));
            if let Err(fault) = self.turn_back() {
                self.warn(fault.to_string());
            }
        }
    }
}
