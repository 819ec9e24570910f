//! Does the steps of a flip, or of the way back, and measures how long nobody was served.
//!
//! The machines of `migration::flip` say what to do; what happened is told to them. While requests wait, every answer of the source has the
//! longest pause as its timeout, and waiting is polling: some hundred looks a second from a thread that does nothing else.

use std::collections::VecDeque;
use std::time::Duration;

use migration::flip::{Do, Event, Flip, Machine, Outcome, Wait};
use migration::{Authority, Intent, Phase};

use super::drive::{ANSWER_MAX, Driver};
use super::order::Fault;
use super::parts::Parts;

/// The pause between two looks while requests wait.
const LOOK: Duration = Duration::from_micros(200);
/// The pause before something that failed is tried again, and how long that goes on.
const AGAIN: Duration = Duration::from_millis(50);
const UNDO_MAX: Duration = Duration::from_secs(3);
/// The fence holds so much longer than the longest pause.
const FENCE_MORE: Duration = Duration::from_secs(1);
/// The first version that has CLIENT PAUSE WRITE and connects to a new primary at once, and the longest pause that a flip of an older one may take.
const FAST_VERSION: (u64, u64) = (6, 2);
const SLOW_PAUSE: Duration = Duration::from_millis(1500);
/// Said of a Redis without a configuration file.
const NO_FILE: &str = "the old Redis has no configuration file: restarted it would be a primary until this node notices";

/// How long requests wait in a run.
#[derive(Default)]
struct Watch {
    held_us: Option<u64>,
    pause_us: u64,
    /// When the next thing is too late.
    late_us: Option<u64>,
    /// When the source's pause ends at the earliest.
    fenced_us: Option<u64>,
}

impl<P: Parts> Driver<P> {
    /// The flip after which the old Redis is this node's replica.
    ///
    /// # Errors
    /// Why it was not begun.
    pub(super) fn flip_to_replica(&mut self) -> Result<Outcome, Fault> {
        let version = self.source().and_then(|source| source.version());
        let version = version.map_err(Fault::Failed)?;
        if version < FAST_VERSION && self.bounds.pause_max < SLOW_PAUSE {
            return Err(Fault::Conflict(format!(
                "Redis {}.{} asks a new primary once a second, so nobody is served for up to {pause} ms at the flip: permit that by CONFIG SET \
                 migrate-pause-max-ms {pause} here, or upgrade it to 6.2",
                version.0,
                version.1,
                pause = SLOW_PAUSE.as_millis()
            )));
        }
        self.parts.prepare_flip().map_err(Fault::Failed)?;
        self.state.old_version = Some(version);
        self.parts.tell_as(Some(version));
        // (A fence that is left of another try would be taken for the source's own setting.)
        self.unfence_again().map_err(Fault::Failed)?;
        let at = self.parts.link().at;
        let min_replicas = match version < FAST_VERSION {
            true => Some(self.source().and_then(|source| source.min_replicas())),
            false => None,
        };
        let min_replicas = min_replicas.transpose().map_err(Fault::Failed)?;
        self.unfences = Some(min_replicas);
        let stragglers = self.source().and_then(|source| source.stragglers());
        self.seen_mut().refused_before = stragglers.map_or(0, |found| found.refused);
        self.wants_verification(false);
        let intent = Intent::Flip {
            at: at.clone(),
            min_replicas,
        };
        let (flip, doing) = Flip::begin(intent, &at);
        Ok(self.run(Machine::Flip(flip), doing, "flip"))
    }

    /// The old Redis is a replica whose version the state does not say (that of an earlier program), or says wrongly, as it was replaced by a
    /// newer one: it is told in its own words from now on.
    ///
    /// # Errors
    /// It does not answer, or the state cannot be written.
    pub(super) fn know_version(&mut self) -> Result<(), String> {
        let version = self.source()?.version()?;
        if self.state.old_version != Some(version) {
            let before = self.state.old_version.replace(version);
            if let Err(why) = self.save() {
                self.state.old_version = before;
                return Err(why);
            }
            self.parts.tell_as(Some(version));
        }
        Ok(())
    }

    /// To the end, whichever that is. `what` names it in the state.
    pub(super) fn run(&mut self, mut machine: Machine, doing: Vec<Do>, what: &str) -> Outcome {
        let mut watch = Watch::default();
        let bound = self.bounds.pause_max.max(Duration::from_millis(1));
        if self.parts.authority() == Authority::Held {
            watch.held_us = Some(self.parts.mono_us());
            // After a start the source connects when it does: its own retries are a second apart.
            watch.late_us = watch.held_us.map(|us| us + ANSWER_MAX.as_micros() as u64);
        }
        if let Ok(source) = self.source() {
            source.wait_at_most(bound.max(Duration::from_millis(20)));
        }
        let mut queue = VecDeque::from(doing);
        while machine.waits_for() != Wait::Nothing || !queue.is_empty() {
            if let Some(what) = queue.pop_front() {
                let is_over = machine.outcome().is_some();
                match self.perform(&what, &mut watch) {
                    Ok(Some(event)) => queue.extend(machine.on(event)),
                    Ok(None) => {}
                    // What follows an end is done as far as it can be, and told.
                    Err(why) if is_over => self.warn(why),
                    Err(why) => {
                        let now_us = self.parts.mono_us();
                        watch.late_us = Some(now_us + UNDO_MAX.as_micros() as u64);
                        queue.clear();
                        queue.extend(machine.on(Event::Failed(why)));
                    }
                }
                continue;
            }
            self.live.step = machine.step();
            let event = self.wait(&mut machine, &mut watch);
            queue.extend(event);
        }
        if let Ok(source) = self.source() {
            source.wait_at_most(ANSWER_MAX);
        }
        self.live.step = "";
        let outcome = machine.outcome().cloned().unwrap_or(Outcome::Undone {
            why: "it ended without an outcome".to_owned(),
            unsettled: true,
        });
        self.keep(&outcome, what, watch.pause_us);
        outcome
    }

    fn keep(&mut self, outcome: &Outcome, what: &str, pause_us: u64) {
        self.live.pause_us = pause_us;
        let what = match outcome {
            Outcome::Done => what.to_owned(),
            Outcome::Undone { why, .. } => {
                self.warn(format!("the {what} was undone: {why}"));
                format!("{what}-undone")
            }
        };
        self.parts.note(&format!(
            "migration: {what}, nobody was served for {pause_us} us"
        ));
        self.state.note_pause(&what, pause_us);
        if let Err(why) = self.save() {
            self.warn(why);
        }
    }

    /// Waits for what the machine waits for; what is to be done then.
    fn wait(&mut self, machine: &mut Machine, watch: &mut Watch) -> Vec<Do> {
        let now_us = self.parts.mono_us();
        if watch.late_us.is_some_and(|late_us| now_us >= late_us) {
            watch.late_us = Some(now_us + UNDO_MAX.as_micros() as u64);
            return machine.on(Event::TimeUp);
        }
        let waits_for = machine.waits_for();
        let event = match waits_for {
            Wait::Drained => (self.parts.in_flight() == 0).then(|| {
                self.drained = self.parts.log_end();
                Event::Drained
            }),
            Wait::Applied(wants) => {
                let applied = self.link_there().at.offset;
                (applied >= wants).then_some(Event::Applied(applied))
            }
            Wait::Swept => match self.parts.swept() {
                Some(Err(why)) => Some(Event::Failed(why)),
                Some(Ok(())) => Some(Event::Swept),
                None => None,
            },
            Wait::Asked => self.parts.asked().map(Event::Asked),
            Wait::Delivered => self.delivered(),
            Wait::Acknowledged => {
                let doing = self.hand_over(machine);
                if doing.is_empty() {
                    self.parts.rest(LOOK);
                }
                return doing;
            }
            Wait::Again => {
                // It is made late by the first failure at the latest.
                let late_us = now_us + UNDO_MAX.as_micros() as u64;
                watch.late_us.get_or_insert(late_us);
                self.parts.rest(AGAIN);
                return machine.again();
            }
            Wait::Nothing => None,
        };
        match event {
            Some(event) => machine.on(event),
            None => {
                self.parts.rest(LOOK);
                vec![]
            }
        }
    }

    /// Whether the old Redis has everything: it is asked itself, as its acknowledgements come once a second.
    fn hand_over(&mut self, machine: &mut Machine) -> Vec<Do> {
        let Some(end) = self.parts.said_all() else {
            return vec![];
        };
        let mut doing = machine.on(Event::EndsAt(end.clone()));
        match self.ask_source() {
            Ok(found) if found.follows_us && found.at.history == end.history => {
                doing.extend(machine.on(Event::Acknowledged(found.at.offset)));
            }
            Ok(_) => {}
            Err(why) => doing.extend(machine.on(Event::Failed(why))),
        }
        doing
    }

    /// Several things that are not part of a run.
    pub(super) fn do_all(&mut self, doing: &[Do]) -> Result<(), String> {
        let mut watch = Watch::default();
        for what in doing {
            self.perform(what, &mut watch)?;
        }
        Ok(())
    }

    fn perform(&mut self, what: &Do, watch: &mut Watch) -> Result<Option<Event>, String> {
        match what {
            Do::Intend(intent) => {
                self.state.intent = intent.clone();
                self.save()?;
                return Ok(Some(Event::Written));
            }
            Do::Write(phase) => {
                self.state.intent = Intent::None;
                let phase = self.phase_of_sides(*phase);
                if self.state.phase != phase {
                    self.state.enter(phase, self.parts.now_ms());
                }
                self.save()?;
            }
            Do::WriteOwn(place) => {
                let before = self.state.clone();
                if self.is_written() {
                    self.begin_queue(watch)?;
                }
                self.state.intent = Intent::None;
                self.side_mut().fence = Some(place.clone());
                let phase = self.phase_of_sides(Phase::Reverse);
                if self.state.phase != phase {
                    self.state.enter(phase, self.parts.now_ms());
                }
                if let Err(why) = self.save() {
                    self.state = before;
                    return Err(why);
                }
                return Ok(Some(Event::Written));
            }
            Do::Hold => {
                let now_us = self.parts.mono_us();
                watch.held_us = Some(now_us);
                self.drained = None;
                watch.late_us = Some(now_us + self.bounds.pause_max.as_micros() as u64);
                self.parts.hold();
            }
            Do::Release(authority) => {
                self.parts.release(self.authority_of_sides(*authority));
                self.drained = None;
                let since = watch.held_us.take();
                let now_us = self.parts.mono_us();
                watch.pause_us += since.map_or(0, |since| now_us.saturating_sub(since));
            }
            Do::Unblock => self.parts.unblock(),
            Do::Expect(place) => self.parts.expect(place),
            Do::Answer(grants) => self.parts.answer(*grants),
            Do::TakeOver(_) if self.is_sharded() => self.own_shard()?,
            Do::TakeOver(place) => self.parts.take_over(place, !self.is_written())?,
            Do::Unfollow if self.is_sharded() => self.parts.unfollow_shard(self.number()),
            Do::Unfollow => self.parts.unfollow(),
            Do::Follow(from) if self.is_sharded() => self.follow_there(from.as_ref())?,
            Do::Follow(from) => {
                let source = self.state.sources.first().cloned();
                let source = source.ok_or("no source is known")?;
                match self.state.by_scan {
                    true => self.parts.follow_by_scan(&source)?,
                    false => self.parts.follow(&source, from.as_ref())?,
                }
            }
            Do::Sweep => self.parts.sweep(),
            of_source => return self.perform_there(of_source, watch),
        }
        Ok(None)
    }

    /// The source's file says what it is now, if it has one; if not, people are told.
    pub(super) fn keep_in_file(&mut self) {
        let kept = self.source().and_then(|source| source.keep_in_file());
        self.tell_kept(kept);
    }

    fn tell_kept(&mut self, kept: Result<bool, String>) {
        match kept {
            Ok(true) => {}
            Ok(false) => self.warn(NO_FILE.to_owned()),
            Err(why) => self.warn(format!("its configuration file does not say so: {why}")),
        }
    }

    fn perform_there(&mut self, what: &Do, watch: &mut Watch) -> Result<Option<Event>, String> {
        let event = match what {
            Do::Fence => {
                let by_replicas = self.unfences.get_or_insert(None).is_some();
                let time = self.bounds.pause_max + FENCE_MORE;
                watch.fenced_us = Some(self.parts.mono_us() + time.as_micros() as u64);
                self.source()?.fence(time, by_replicas)?;
                Some(Event::Fenced)
            }
            Do::Unfence => {
                // (It may have been lifted already.)
                let Some(before) = self.unfences else {
                    return Ok(None);
                };
                // A pause ends by itself; a number of replicas does not, and is put back until it is.
                match self.source().and_then(|source| source.unfence(before)) {
                    Ok(()) => self.unfences = None,
                    Err(why) => self.warn(format!("the source's fence could not be lifted: {why}")),
                }
                None
            }
            Do::AskSource => Some(Event::SourceIs(self.ask_source()?)),
            Do::MakeReplica => {
                let us = self.state.announce.clone();
                let us = us.ok_or("no address of this node is known")?;
                self.source()?.make_replica(&us)?;
                Some(Event::IsReplica)
            }
            Do::MakePrimary => {
                self.source()?.make_primary()?;
                Some(Event::IsPrimary)
            }
            Do::KeepInFile => {
                self.keep_in_file();
                None
            }
            Do::KeepReplica => {
                let kept = self.source().and_then(|source| source.keep_in_file());
                // (Not permitted, or it cannot write its file: an operator's choice. It may also have ended.)
                if let Err(why) = &kept
                    && !self.ask_source()?.follows_us
                {
                    return Err(why.clone());
                }
                self.tell_kept(kept);
                None
            }
            of_written => return self.perform_written(of_written),
        };
        Ok(event)
    }

    /// What follows the end of the log is written to the old Redis once this node decides; it must be fenced until the state says that.
    fn begin_queue(&mut self, watch: &Watch) -> Result<(), String> {
        let end = self.parts.log_end().ok_or("there is no log")?;
        if self.is_sharded() {
            // (The streams of others go on: what they brought last must not make this log look older than the flip after a crash.)
            self.parts.sync_log(end)?;
        }
        let now_us = self.parts.mono_us();
        if watch.fenced_us.is_none_or(|until_us| now_us >= until_us) {
            return Err("the source's pause has ended meanwhile".to_owned());
        }
        let side = self.side_mut();
        (side.written_from, side.is_begun) = (end, false);
        side.needs_copy = None;
        Ok(())
    }

    /// Lifts what a failed unfence has left.
    ///
    /// # Errors
    /// It is still there.
    pub(super) fn unfence_again(&mut self) -> Result<(), String> {
        if let Some(Some(before)) = self.unfences
            && self.state.intent == Intent::None
        {
            self.source()?.unfence(Some(before))?;
            self.unfences = None;
        }
        Ok(())
    }
}
