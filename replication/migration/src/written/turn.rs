//! The two changes of who decides where the old Redis is written to and never becomes a replica, step by step.
//!
//! ```text
//!  Over    Intend ─> Hold ─> Fence ─> Bar ─> Read ─> Reach ─> Own ═> done: this node decides, and writes there
//!             └────────┴───────┴───────┴───────┴───────┴───────┘  undo: unbar, unfence, release, as before
//!
//!  Home    Intend ─> Hold ─> Drain ─> Fence ─> Read ─> Stand ─> Write ═> done: the source decides, and is followed
//!             └────────┴───────┴────────┴───────┴───────┴────────┘  undo: unfence, release; this node decides as before
//! ```
//! **One authority.** What is written on this node's disk says which of the two it is, and both machines write it while requests wait and the
//! source is fenced. What keeps the other side's clients from writing meanwhile is its pause, and then that its users are barred: those are
//! set before this node decides and lifted after it does not. Where no user is barred, writers that are left there are only detected.
//!
//! **By scan** (a source that bars PSYNC) there is no offset to be executed: in the place of *Reach* stands *Sweep*, the last look at all that was
//! touched there. It comes behind the fence, as the offset is read behind it.
//!
//! **The way back** needs no replica either: all is written there, so at that instant the data of both sides are equal, and the source's own
//! stream is followed from its very end. What had been written there came before that end and is not executed twice. The log says so on the disk
//! before the state does: a start that finds the source in charge goes on from there. A key that the source ended by its clock before that
//! end is not told by the stream any more, so those whose deadline has passed by that clock end here first.

use crate::flip::{Do, Event, Found, Outcome, Start, Wait};
use crate::{Authority, Intent, Phase, Place, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Intend,
    Hold,
    Fence,
    Bar,
    Read,
    Reach,
    Sweep,
    Own,
    Over,
}

/// The source decides now, this node shall.
#[derive(Clone, Debug)]
pub struct Over {
    step: Step,
    history: String,
    applied: u64,
    wants: u64,
    by_scan: bool,
    outcome: Option<Outcome>,
}

impl Over {
    /// From the source's history `at`, of which so much is executed here.
    pub fn begin(intent: Intent, at: &Place) -> (Over, Vec<Do>) {
        let over = Over {
            step: Step::Intend,
            history: at.history.clone(),
            applied: at.offset,
            wants: 0,
            by_scan: false,
            outcome: None,
        };
        (over, vec![Do::Intend(intent)])
    }

    /// The same, of a source that is followed by scan.
    pub fn begin_by_scan(intent: Intent, at: &Place) -> (Over, Vec<Do>) {
        let (mut over, doing) = Over::begin(intent, at);
        over.by_scan = true;
        (over, doing)
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The name of the step, for people.
    pub fn step(&self) -> &'static str {
        match self.step {
            Step::Intend => "writing the intent",
            Step::Hold => "waiting for requests under way",
            Step::Fence => "fencing the source",
            Step::Bar => "barring the source's users",
            Step::Read => "reading the source's offset",
            Step::Reach => "executing the rest of the stream",
            Step::Sweep => "fetching the keys that were touched last",
            Step::Own => "writing that this node decides",
            Step::Over => "over",
        }
    }

    /// What is waited for now.
    pub fn waits_for(&self) -> Wait {
        match self.step {
            Step::Hold => Wait::Drained,
            Step::Reach => Wait::Applied(self.wants),
            Step::Sweep => Wait::Swept,
            Step::Over => Wait::Nothing,
            _ => Wait::Again,
        }
    }

    /// Something has happened: what is to be done now. An event that the step does not wait for changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Do> {
        match (self.step, event) {
            (Step::Over, _) => vec![],
            (_, Event::Failed(why)) => self.undo(why),
            (_, Event::TimeUp) => {
                let step = self.step();
                self.undo(format!("the longest pause was exceeded while {step}"))
            }
            (Step::Intend, Event::Written) => self.go(Step::Hold, vec![Do::Hold, Do::Unblock]),
            (Step::Hold, Event::Drained) => self.go(Step::Fence, vec![Do::Fence]),
            (Step::Fence, Event::Fenced) => self.go(Step::Bar, vec![Do::Bar]),
            (Step::Bar, Event::Barred) => self.go(Step::Read, vec![Do::AskSource]),
            (Step::Read, Event::SourceIs(found)) => self.on_source(&found),
            (Step::Sweep, Event::Swept) => {
                self.applied = self.wants;
                self.turn()
            }
            (_, Event::Applied(offset)) if !self.by_scan => {
                self.applied = self.applied.max(offset);
                self.look()
            }
            (Step::Own, Event::Written) => self.own(),
            _ => vec![],
        }
    }

    /// Nothing is tried again: it is undone instead.
    pub fn again(&self) -> Vec<Do> {
        vec![]
    }

    fn go(&mut self, step: Step, doing: Vec<Do>) -> Vec<Do> {
        self.step = step;
        doing
    }

    fn on_source(&mut self, found: &Found) -> Vec<Do> {
        match found.goes_on(&self.history) {
            Ok(offset) => self.wants = offset,
            Err(why) => return self.undo(why.to_owned()),
        }
        if self.by_scan {
            return self.go(Step::Sweep, vec![Do::Sweep]);
        }
        self.step = Step::Reach;
        self.look()
    }

    fn look(&mut self) -> Vec<Do> {
        if self.step != Step::Reach || self.applied < self.wants {
            return vec![];
        }
        self.turn()
    }

    /// All is here.
    fn turn(&mut self) -> Vec<Do> {
        let place = Place::new(&self.history, self.applied);
        self.go(Step::Own, vec![Do::Unfollow, Do::WriteOwn(place)])
    }

    fn own(&mut self) -> Vec<Do> {
        self.outcome = Some(Outcome::Done);
        let place = Place::new(&self.history, self.applied);
        self.go(
            Step::Over,
            vec![
                Do::TakeOver(place),
                Do::Answer(true),
                Do::WriteThere,
                Do::Release(Authority::Own),
                Do::Unfence,
            ],
        )
    }

    fn undo(&mut self, why: String) -> Vec<Do> {
        // First what the disk says: it may say that this node decides, and the source is not let go before it does not.
        let mut doing = vec![Do::Write(Phase::Verify)];
        doing.extend(match self.step {
            Step::Intend => vec![],
            Step::Hold => vec![Do::Release(Authority::Front)],
            _ => vec![
                Do::Unbar,
                Do::Unfence,
                Do::Follow(None),
                Do::Release(Authority::Front),
            ],
        });
        self.outcome = Some(Outcome::Undone {
            why,
            unsettled: false,
        });
        self.go(Step::Over, doing)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HomeStep {
    Intend,
    Hold,
    Drain,
    Fence,
    Read,
    Stand,
    Write,
    Over,
}

/// This node decides now, the old Redis shall.
#[derive(Clone, Debug)]
pub struct Home {
    step: HomeStep,
    place: Place,
    outcome: Option<Outcome>,
}

impl Home {
    /// From this node's own history.
    pub fn begin() -> (Home, Vec<Do>) {
        let home = Home {
            step: HomeStep::Intend,
            place: Place::default(),
            outcome: None,
        };
        (home, vec![Do::Intend(Intent::Back)])
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The name of the step, for people.
    pub fn step(&self) -> &'static str {
        match self.step {
            HomeStep::Intend => "writing the intent",
            HomeStep::Hold => "waiting for requests under way",
            HomeStep::Drain => "writing the rest to the old Redis",
            HomeStep::Fence => "fencing the old Redis",
            HomeStep::Read => "reading what the old Redis has",
            HomeStep::Stand => "logging the old Redis's offset",
            HomeStep::Write => "writing that the old Redis decides",
            HomeStep::Over => "over",
        }
    }

    /// What is waited for now.
    pub fn waits_for(&self) -> Wait {
        match self.step {
            HomeStep::Hold => Wait::Drained,
            HomeStep::Drain => Wait::Delivered,
            HomeStep::Over => Wait::Nothing,
            _ => Wait::Again,
        }
    }

    /// Something has happened: what is to be done now.
    pub fn on(&mut self, event: Event) -> Vec<Do> {
        match (self.step, event) {
            (HomeStep::Over, _) => vec![],
            (_, Event::Failed(why)) => self.undo(why),
            (_, Event::TimeUp) => {
                let step = self.step();
                self.undo(format!("the longest pause was exceeded while {step}"))
            }
            (HomeStep::Intend, Event::Written) => {
                self.go(HomeStep::Hold, vec![Do::Hold, Do::Unblock])
            }
            (HomeStep::Hold, Event::Drained) => self.go(HomeStep::Drain, vec![]),
            // (What is recorded from here on is not for the old Redis, and would wait at its pause.)
            (HomeStep::Drain, Event::Delivered) => {
                self.go(HomeStep::Fence, vec![Do::StopWriting, Do::Fence])
            }
            (HomeStep::Fence, Event::Fenced) => self.go(HomeStep::Read, vec![Do::ReadBack]),
            (HomeStep::Read, Event::StandsAt { is_ours: false, .. }) => {
                let why = "the old Redis does not have what was written there last: it has lost writes, or others write there";
                self.undo(why.to_owned())
            }
            (HomeStep::Read, Event::StandsAt { place, now_ms, .. }) => {
                self.place = place.clone();
                self.go(HomeStep::Stand, vec![Do::EndKeys(now_ms), Do::Stand(place)])
            }
            (HomeStep::Stand, Event::Stood) => self.go(HomeStep::Write, vec![Do::WriteBack]),
            (HomeStep::Write, Event::Written) => self.done(),
            _ => vec![],
        }
    }

    /// Nothing is tried again: it is undone instead.
    pub fn again(&self) -> Vec<Do> {
        vec![]
    }

    fn go(&mut self, step: HomeStep, doing: Vec<Do>) -> Vec<Do> {
        self.step = step;
        doing
    }

    fn done(&mut self) -> Vec<Do> {
        self.outcome = Some(Outcome::Done);
        let place = self.place.clone();
        self.go(
            HomeStep::Over,
            vec![
                Do::DropQueue,
                Do::Follow(Some(place)),
                Do::Unbar,
                Do::Unfence,
                Do::Release(Authority::Front),
                Do::Forget,
            ],
        )
    }

    fn undo(&mut self, why: String) -> Vec<Do> {
        self.outcome = Some(Outcome::Undone {
            why,
            unsettled: false,
        });
        // First what the disk says: it may say that the source decides, and nobody writes here before it does not.
        let mut doing = vec![Do::Write(Phase::Reverse)];
        doing.extend(match self.step {
            HomeStep::Intend => vec![],
            HomeStep::Hold | HomeStep::Drain => vec![Do::Release(Authority::Own)],
            _ => vec![Do::Unfence, Do::WriteThere, Do::Release(Authority::Own)],
        });
        self.go(HomeStep::Over, doing)
    }
}

/// As [`crate::flip::at_start`], of an old Redis that is written to. `has_all`: the log here goes as far as the flip, and further.
pub fn at_start(state: &State, found: Option<&Found>, has_all: bool) -> Start {
    match (&state.intent, state.phase) {
        // Without an answer it is not known whether the source is fenced; it decides by itself what it takes.
        (Intent::Flip { .. }, _) if found.is_none() => Start::Open,
        (Intent::Flip { .. }, _) => Start::Go(
            Phase::Verify,
            vec![
                Do::Answer(false),
                Do::Unbar,
                Do::Unfence,
                Do::Follow(None),
                Do::Release(Authority::Front),
                Do::Write(Phase::Verify),
            ],
        ),
        // A way back that was begun has not been decided: else the state would say so.
        (_, Phase::Reverse) if has_all => Start::Go(
            Phase::Reverse,
            vec![
                Do::Unfollow,
                Do::WriteThere,
                Do::Release(Authority::Own),
                Do::Answer(false),
                Do::Write(Phase::Reverse),
            ],
        ),
        (_, Phase::Reverse) => Start::Lost,
        _ => crate::flip::at_start(state, found, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flip::Machine;

    const HISTORY: &str = "0123456789abcdef0123456789abcdef01234567";

    fn at(offset: u64) -> Place {
        Place::new(HISTORY, offset)
    }

    fn intent() -> Intent {
        Intent::Flip {
            at: at(5),
            min_replicas: None,
        }
    }

    fn found(offset: u64) -> Found {
        Found {
            is_primary: true,
            at: at(offset),
            ..Found::default()
        }
    }

    fn stands(is_ours: bool) -> Event {
        Event::StandsAt {
            place: at(9),
            is_ours,
            now_ms: 77,
        }
    }

    fn over() -> (Machine, Vec<Do>) {
        let (over, doing) = Over::begin(intent(), &at(5));
        (Machine::Over(over), doing)
    }

    fn home() -> (Machine, Vec<Do>) {
        let (home, doing) = Home::begin();
        (Machine::Home(home), doing)
    }

    fn way_over() -> Vec<Event> {
        vec![
            Event::Written,
            Event::Drained,
            Event::Fenced,
            Event::Barred,
            Event::SourceIs(found(9)),
            Event::Applied(9),
            Event::Written,
        ]
    }

    fn way_home() -> Vec<Event> {
        vec![
            Event::Written,
            Event::Drained,
            Event::Delivered,
            Event::Fenced,
            stands(true),
            Event::Stood,
            Event::Written,
        ]
    }

    /// All that is done on a way.
    fn all((mut machine, mut doing): (Machine, Vec<Do>), events: &[Event]) -> (Machine, Vec<Do>) {
        for event in events {
            doing.extend(machine.on(event.clone()));
        }
        (machine, doing)
    }

    fn place_of(doing: &[Do], what: &Do) -> usize {
        let found = doing.iter().position(|found| found == what);
        found.unwrap_or_else(|| panic!("{what:?} is not in {doing:?}"))
    }

    #[test]
    fn this_node_decides_once_the_users_are_barred_and_all_is_here() {
        let (machine, doing) = all(over(), &way_over());
        assert_eq!(machine.outcome(), Some(&Outcome::Done));
        let order = [
            Do::Intend(intent()),
            Do::Hold,
            Do::Fence,
            Do::Bar,
            Do::AskSource,
            Do::Unfollow,
            Do::WriteOwn(at(9)),
            Do::TakeOver(at(9)),
            Do::WriteThere,
            Do::Release(Authority::Own),
            Do::Unfence,
        ];
        let places: Vec<usize> = order.iter().map(|what| place_of(&doing, what)).collect();
        assert!(places.is_sorted(), "{doing:?}");
    }

    #[test]
    fn by_scan_the_last_keys_are_fetched_behind_the_fence_and_no_offset_counts() {
        let (over, doing) = Over::begin_by_scan(intent(), &at(5));
        let mut events = way_over();
        events[5] = Event::Applied(u64::MAX);
        let (machine, doing) = all((Machine::Over(over), doing), &events);
        assert_eq!(machine.waits_for(), Wait::Swept, "an offset says nothing");
        let (machine, doing) = all((machine, doing), &[Event::Swept, Event::Written]);
        assert_eq!(machine.outcome(), Some(&Outcome::Done));
        let order = [
            Do::Fence,
            Do::Bar,
            Do::Sweep,
            Do::Unfollow,
            Do::WriteOwn(at(9)),
        ];
        let places: Vec<usize> = order.iter().map(|what| place_of(&doing, what)).collect();
        assert!(places.is_sorted(), "{doing:?}");
    }

    #[test]
    fn the_source_decides_once_it_has_all_and_the_log_says_where_it_stands() {
        let (machine, doing) = all(home(), &way_home());
        assert_eq!(machine.outcome(), Some(&Outcome::Done));
        let order = [
            Do::Intend(Intent::Back),
            Do::Hold,
            Do::StopWriting,
            Do::Fence,
            Do::ReadBack,
            Do::EndKeys(77),
            Do::Stand(at(9)),
            Do::WriteBack,
            Do::DropQueue,
            Do::Follow(Some(at(9))),
            Do::Unbar,
            Do::Unfence,
            Do::Release(Authority::Front),
            Do::Forget,
        ];
        let places: Vec<usize> = order.iter().map(|what| place_of(&doing, what)).collect();
        assert!(places.is_sorted(), "{doing:?}");
    }

    /// Whatever fails, and wherever: who decided before does so again, and nobody stays fenced or barred who was not before.
    #[test]
    fn whatever_fails_is_undone() {
        let over_ways = (
            over as fn() -> _,
            way_over(),
            Authority::Front,
            Phase::Verify,
        );
        let home_ways = (
            home as fn() -> _,
            way_home(),
            Authority::Own,
            Phase::Reverse,
        );
        for (begin, way, authority, phase) in [over_ways, home_ways] {
            for at in 0..way.len() {
                for fault in [Event::Failed("x".to_owned()), Event::TimeUp] {
                    let mut events = way[..at].to_vec();
                    events.push(fault);
                    let (machine, doing) = all(begin(), &events);
                    let outcome = machine.outcome();
                    assert!(
                        matches!(outcome, Some(Outcome::Undone { .. })),
                        "{events:?}"
                    );
                    let released = doing
                        .iter()
                        .position(|what| *what == Do::Release(authority));
                    let written = place_of(&doing, &Do::Write(phase));
                    assert!(released.is_none_or(|at| written < at), "{events:?}");
                    let held = doing.contains(&Do::Hold);
                    assert_eq!(doing.contains(&Do::Release(authority)), held, "{events:?}");
                    assert!(!doing.contains(&Do::Fence) || doing.contains(&Do::Unfence));
                    let stopped = doing.contains(&Do::StopWriting);
                    assert_eq!(doing.contains(&Do::WriteThere), stopped, "{events:?}");
                    assert!(!doing.contains(&Do::Bar) || doing.contains(&Do::Unbar));
                    assert_eq!(machine.waits_for(), Wait::Nothing);
                }
            }
        }
        let mut events = way_home()[..4].to_vec();
        events.push(stands(false));
        let (machine, _) = all(home(), &events);
        assert!(matches!(machine.outcome(), Some(Outcome::Undone { .. })));
    }

    #[test]
    fn another_history_or_a_replica_is_no_source() {
        for found in [
            Found {
                is_primary: false,
                ..found(9)
            },
            Found {
                at: Place::new("x", 9),
                ..found(9)
            },
        ] {
            let mut events = way_over()[..4].to_vec();
            events.push(Event::SourceIs(found));
            let (machine, _) = all(over(), &events);
            assert!(matches!(machine.outcome(), Some(Outcome::Undone { .. })));
        }
    }

    #[test]
    fn a_start_finds_what_was_decided_or_undoes_what_was_not() {
        let state = |phase, intent| {
            let mut state = State {
                phase,
                intent,
                ..State::default()
            };
            state.side_mut(0).fence = Some(at(9));
            state
        };
        let (is, flip) = (found(9), state(Phase::Verify, intent()));
        assert_eq!(at_start(&flip, None, true), Start::Open);
        let Start::Go(Phase::Verify, doing) = at_start(&flip, Some(&is), true) else {
            panic!("it is undone");
        };
        assert!(doing.contains(&Do::Unbar) && doing.contains(&Do::Release(Authority::Front)));
        // A restart of the old Redis gives it another history: that says nothing here.
        let second = Found {
            second: Some(at(9)),
            ..found(20)
        };
        for intent in [Intent::None, Intent::Back] {
            for found in [None, Some(&is), Some(&second)] {
                let reverse = state(Phase::Reverse, intent.clone());
                let Start::Go(Phase::Reverse, doing) = at_start(&reverse, found, true) else {
                    panic!("this node decides: {found:?}");
                };
                assert!(
                    place_of(&doing, &Do::WriteThere)
                        < place_of(&doing, &Do::Release(Authority::Own))
                );
                assert_eq!(at_start(&reverse, found, false), Start::Lost);
            }
        }
        let verify = state(Phase::Verify, Intent::None);
        assert_eq!(
            at_start(&verify, Some(&is), true),
            crate::flip::at_start(&verify, Some(&is), None)
        );
    }
}
