//! The two changes of who decides, step by step: what to do next, and how what was done is undone.
//!
//! ```text
//!  Flip    Intend ─> Hold ─> Fence ─> Read ─> Reach ─> Turn ─> Prove ─> Own ═> done: this node decides
//!             │        │       │        │       │        │       │       │
//!             └────────┴───────┴────────┴───────┘        └───────┴───────┘
//!              release the clients, as before             make the source a primary again first
//!
//!  Back    Intend ─> Hold ─> Drain ─> Turn ─> Look ═> done: the source decides, clients are passed on to it
//!             └────────┴───────┘       └───────┘
//!              release the clients      ask the old Redis which of the two it is
//! ```
//! **Never two authorities.** This node decides only when the source has said that it is a replica *and* has asked this node for its
//! history from the very place up to which everything is executed here: then it takes no more writes, and nothing is missing. No
//! clock leads there; time only leads back. Passing on to a source (`Front`) is always safe: it decides by itself whether it takes
//! a write. So whatever cannot be found out ends in `Front`, and is found out later.
//!
//! The machines are told what happened ([`Event`]) and say what to do ([`Do`]), in order; who does it stops at the first thing that
//! fails and tells that. [`at_start`] is the same for a process that finds a state on its disk.

use crate::written::{Home, Over};
use crate::{Authority, Intent, Phase, Place, State};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// The state on the disk says from now on what is intended.
    Intend(Intent),
    /// Requests wait; the authority is [`Authority::Held`].
    Hold,
    /// Those who block at the source, or here, are taken out of it and wait.
    Unblock,
    /// The source takes no writes for a while.
    Fence,
    /// It may take them again.
    Unfence,
    /// The source is asked what it is: [`Event::SourceIs`].
    AskSource,
    /// Of a source that is followed by scan: all that has been written there is fetched, also what no event tells: [`Event::Swept`].
    Sweep,
    /// A PSYNC of the source is held back until [`Do::Answer`]: [`Event::Asked`].
    Expect(Place),
    /// The source is told to follow this node: [`Event::IsReplica`].
    MakeReplica,
    /// The source is told to follow nobody: [`Event::IsPrimary`].
    MakePrimary,
    /// This node follows the source: from this place of its own history if there is one, else from where its data is.
    Follow(Option<Place>),
    /// It does so no longer.
    Unfollow,
    /// The state on the disk says that this node decides, from this place on: [`Event::Written`].
    WriteOwn(Place),
    /// The state on the disk says that this phase goes on, and nothing is intended.
    Write(Phase),
    /// This node's own history goes on from this place of the source's.
    TakeOver(Place),
    /// The PSYNC that is held back is answered: with what it asked for, or by ending its connection. From the start of a process that finds a
    /// migration on its disk until the first answer, every PSYNC is held back.
    Answer(bool),
    /// Requests that wait go on under this authority.
    Release(Authority),
    /// The source's configuration file says what it is now, if it has one.
    KeepInFile,
    // Of an old Redis that is written to, and never a replica (written/turn.rs):
    /// The users of the state may not write there: [`Event::Barred`].
    Bar,
    /// They may again, as before.
    Unbar,
    /// What is changed here is written there from now on.
    WriteThere,
    /// Nothing is for now; the log keeps what may have to be.
    StopWriting,
    /// It keeps nothing for that any more.
    DropQueue,
    /// The place of the source's history, what has been written there, and its clock, of one instant: [`Event::StandsAt`].
    ReadBack,
    /// Keys whose deadline has passed by then, unix ms, end here.
    EndKeys(u64),
    /// This node's log says, on the disk, that what is here is the source's history up to this place: [`Event::Stood`].
    Stand(Place),
    /// The state on the disk says that the source decides: [`Event::Written`].
    WriteBack,
    /// The key with the position is removed there.
    Forget,
}

/// What a server says of itself (INFO replication).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// It follows nobody.
    pub is_primary: bool,
    /// It follows this node.
    pub follows_us: bool,
    /// Its history and how far it is.
    pub at: Place,
    /// The history that went on in this one, and how far it was valid.
    pub second: Option<Place>,
}

impl Found {
    /// How far it is, if it decides and its history is still this one.
    ///
    /// # Errors
    /// What has changed.
    pub fn goes_on(&self, history: &str) -> Result<u64, &'static str> {
        if !self.is_primary {
            return Err("the source is no primary");
        }
        if self.at.history != history {
            return Err("the source has begun another history");
        }
        Ok(self.at.offset)
    }
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state is on the disk.
    Written,
    /// No request is under way elsewhere, and none has effects here that are not said yet.
    Drained,
    /// The source takes no writes.
    Fenced,
    /// What the source is.
    SourceIs(Found),
    /// So much of the source's stream has been executed here.
    Applied(u64),
    /// All that has been written at the source is here.
    Swept,
    /// The source has said that it follows this node.
    IsReplica,
    /// The source has said that it follows nobody.
    IsPrimary,
    /// It asks to go on from this place.
    Asked(Place),
    /// This node's own history ends here: nothing is added while requests wait.
    EndsAt(Place),
    /// The old Redis has so much of it.
    Acknowledged(u64),
    /// The users may not write there.
    Barred,
    /// All that was changed here is written there.
    Delivered,
    /// The source's history stands there...
    StandsAt {
        /// ...at this place...
        place: Place,
        /// ...its data is what this node has written, all of it...
        is_ours: bool,
        /// ...and its clock says this, unix ms.
        now_ms: u64,
    },
    /// The log says so.
    Stood,
    /// What was to be done last failed, or its outcome is not known.
    Failed(String),
    /// The time is over.
    TimeUp,
}

/// What is waited for when nothing is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// [`Event::Drained`].
    Drained,
    /// [`Event::Applied`] of this or more.
    Applied(u64),
    /// [`Event::Swept`].
    Swept,
    /// [`Event::Asked`].
    Asked,
    /// [`Event::EndsAt`], and [`Event::Acknowledged`]: the old Redis is asked.
    Acknowledged,
    /// [`Event::Delivered`].
    Delivered,
    /// A moment, then the last thing is tried again.
    Again,
    /// Nothing: it is over.
    Nothing,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As intended.
    Done,
    /// As it was before.
    Undone {
        /// What failed first.
        why: String,
        /// The source could not be made what it was: the intent stays on the disk, and is looked at again.
        unsettled: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Intend,
    Hold,
    Fence,
    Read,
    Reach,
    Turn,
    Prove,
    Own,
    Undo,
    Over,
}

/// The source decides now, this node shall.
#[derive(Clone, Debug)]
pub struct Flip {
    step: Step,
    history: String,
    applied: u64,
    is_replica: bool,
    asked: Option<Place>,
    wants: u64,
    why: String,
    outcome: Option<Outcome>,
}

impl Flip {
    /// From the source's history `at`, of which so much is executed here.
    pub fn begin(intent: Intent, at: &Place) -> (Flip, Vec<Do>) {
        (Flip::new(Step::Intend, at), vec![Do::Intend(intent)])
    }

    /// Where the process ended between the source's turn and its proof: it follows this node, which has everything up to `at`.
    pub fn prove(at: &Place) -> (Flip, Vec<Do>) {
        let mut flip = Flip::new(Step::Prove, at);
        flip.is_replica = true;
        (flip, vec![Do::Expect(at.clone())])
    }

    fn new(step: Step, at: &Place) -> Flip {
        Flip {
            step,
            history: at.history.clone(),
            applied: at.offset,
            is_replica: false,
            asked: None,
            wants: 0,
            why: String::new(),
            outcome: None,
        }
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
            Step::Read => "reading the source's offset",
            Step::Reach => "executing the rest of the stream",
            Step::Turn => "making the source a replica",
            Step::Prove => "waiting for the source's proof",
            Step::Own => "writing that this node decides",
            Step::Undo => "making the source a primary again",
            Step::Over => "over",
        }
    }

    /// What is waited for now.
    pub fn waits_for(&self) -> Wait {
        match self.step {
            Step::Hold => Wait::Drained,
            Step::Reach => Wait::Applied(self.wants),
            Step::Prove if self.asked.is_some() => Wait::Applied(self.wants),
            Step::Turn | Step::Prove => Wait::Asked,
            Step::Over => Wait::Nothing,
            _ => Wait::Again,
        }
    }

    /// Something has happened: what is to be done now. An event that the step does not wait for changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Do> {
        match (self.step, event) {
            (Step::Over, _) => vec![],
            (Step::Undo, Event::IsPrimary) => {
                self.step = Step::Over;
                self.outcome = Some(Outcome::Undone {
                    why: self.why.clone(),
                    unsettled: false,
                });
                // (Refused only now: who is still told to follow would ask again, and be given a copy.)
                vec![
                    Do::Answer(false),
                    Do::Unfence,
                    Do::Follow(None),
                    Do::Release(Authority::Front),
                    Do::Write(Phase::Verify),
                ]
            }
            (Step::Undo, Event::TimeUp) => {
                self.step = Step::Over;
                self.outcome = Some(Outcome::Undone {
                    why: self.why.clone(),
                    unsettled: true,
                });
                vec![Do::Release(Authority::Front)]
            }
            (Step::Undo, Event::Failed(_)) => vec![],
            (_, Event::Failed(why)) => self.undo(why),
            (_, Event::TimeUp) => {
                let step = self.step();
                self.undo(format!("the longest pause was exceeded while {step}"))
            }
            (Step::Intend, Event::Written) => self.go(Step::Hold, vec![Do::Hold, Do::Unblock]),
            (Step::Hold, Event::Drained) => self.go(Step::Fence, vec![Do::Fence]),
            (Step::Fence, Event::Fenced) => self.go(Step::Read, vec![Do::AskSource]),
            (Step::Read, Event::SourceIs(found)) => self.on_source(&found),
            (_, Event::Applied(offset)) => {
                self.applied = self.applied.max(offset);
                self.look()
            }
            (Step::Turn, Event::IsReplica) => {
                self.is_replica = true;
                self.step = Step::Prove;
                let mut doing = vec![Do::Unfence];
                doing.extend(self.look());
                doing
            }
            (Step::Turn | Step::Prove, Event::Asked(place)) => {
                self.wants = place.offset;
                self.asked = Some(place);
                self.look()
            }
            (Step::Own, Event::Written) => self.own(),
            _ => vec![],
        }
    }

    /// Once more what failed while things are undone.
    pub fn again(&self) -> Vec<Do> {
        match self.step {
            Step::Undo => vec![Do::MakePrimary],
            _ => vec![],
        }
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
        self.step = Step::Reach;
        self.look()
    }

    /// Goes on where what is executed here, or what is asked for, was missing.
    fn look(&mut self) -> Vec<Do> {
        match (self.step, &self.asked) {
            (Step::Reach, _) if self.applied >= self.wants => {
                let place = Place::new(&self.history, self.wants);
                self.go(Step::Turn, vec![Do::Expect(place), Do::MakeReplica])
            }
            (Step::Prove, Some(asked)) if self.is_replica => {
                if asked.history != self.history {
                    return self.undo("the source asks with another history".to_owned());
                }
                if self.applied > asked.offset {
                    let why = "the source has less than what is here: it has lost writes";
                    return self.undo(why.to_owned());
                }
                if self.applied < asked.offset {
                    return vec![];
                }
                let place = asked.clone();
                self.go(Step::Own, vec![Do::Unfollow, Do::WriteOwn(place)])
            }
            _ => vec![],
        }
    }

    fn own(&mut self) -> Vec<Do> {
        let Some(place) = self.asked.clone() else {
            return self.undo("nothing was asked for".to_owned());
        };
        self.outcome = Some(Outcome::Done);
        self.go(
            Step::Over,
            vec![
                Do::TakeOver(place),
                Do::Answer(true),
                Do::Release(Authority::Own),
                Do::KeepInFile,
            ],
        )
    }

    fn undo(&mut self, why: String) -> Vec<Do> {
        self.why = why;
        let mut doing = match self.step {
            Step::Intend => vec![],
            Step::Hold => vec![Do::Release(Authority::Front)],
            Step::Fence | Step::Read | Step::Reach => {
                vec![Do::Unfence, Do::Release(Authority::Front)]
            }
            _ => return self.go(Step::Undo, vec![Do::MakePrimary]),
        };
        doing.push(Do::Write(Phase::Verify));
        self.outcome = Some(Outcome::Undone {
            why: self.why.clone(),
            unsettled: false,
        });
        self.go(Step::Over, doing)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BackStep {
    Intend,
    Hold,
    Drain,
    Turn,
    Look,
    Over,
}

/// This node decides now, the old Redis shall.
#[derive(Clone, Debug)]
pub struct Back {
    step: BackStep,
    end: Option<Place>,
    acknowledged: Option<u64>,
    why: String,
    outcome: Option<Outcome>,
}

impl Back {
    /// From this node's own history.
    pub fn begin() -> (Back, Vec<Do>) {
        let back = Back {
            step: BackStep::Intend,
            end: None,
            acknowledged: None,
            why: String::new(),
            outcome: None,
        };
        (back, vec![Do::Intend(Intent::Back)])
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The name of the step, for people.
    pub fn step(&self) -> &'static str {
        match self.step {
            BackStep::Intend => "writing the intent",
            BackStep::Hold => "waiting for requests under way",
            BackStep::Drain => "waiting for the old Redis to acknowledge everything",
            BackStep::Turn => "making the old Redis a primary",
            BackStep::Look => "looking at what the old Redis is",
            BackStep::Over => "over",
        }
    }

    /// What is waited for now.
    pub fn waits_for(&self) -> Wait {
        match self.step {
            BackStep::Hold => Wait::Drained,
            BackStep::Drain => Wait::Acknowledged,
            BackStep::Over => Wait::Nothing,
            _ => Wait::Again,
        }
    }

    /// Something has happened: what is to be done now.
    pub fn on(&mut self, event: Event) -> Vec<Do> {
        match (self.step, event) {
            (BackStep::Over, _) => vec![],
            (BackStep::Turn, Event::Failed(why)) => {
                // It may have become one all the same.
                self.why = why;
                self.go(BackStep::Look, vec![Do::AskSource])
            }
            (BackStep::Look, Event::Failed(_)) => vec![],
            (BackStep::Turn | BackStep::Look, Event::TimeUp) => self.leave_open(),
            (_, Event::Failed(why)) => self.undo(why),
            (_, Event::TimeUp) => {
                let step = self.step();
                self.undo(format!("the longest pause was exceeded while {step}"))
            }
            (BackStep::Intend, Event::Written) => {
                self.go(BackStep::Hold, vec![Do::Hold, Do::Unblock])
            }
            (BackStep::Hold, Event::Drained) => self.go(BackStep::Drain, vec![]),
            (BackStep::Drain, Event::EndsAt(place)) => {
                self.end = Some(place);
                self.look()
            }
            (BackStep::Drain, Event::Acknowledged(offset)) => {
                self.acknowledged = Some(offset);
                self.look()
            }
            (BackStep::Turn, Event::IsPrimary) => self.go(BackStep::Look, vec![Do::AskSource]),
            (BackStep::Look, Event::SourceIs(found)) => self.on_source(&found),
            (BackStep::Look, Event::IsReplica) => {
                let why = core::mem::take(&mut self.why);
                self.undo(why)
            }
            _ => vec![],
        }
    }

    /// Once more what failed.
    pub fn again(&self) -> Vec<Do> {
        match self.step {
            BackStep::Look => vec![Do::AskSource],
            _ => vec![],
        }
    }

    fn go(&mut self, step: BackStep, doing: Vec<Do>) -> Vec<Do> {
        self.step = step;
        doing
    }

    fn look(&mut self) -> Vec<Do> {
        let end = self.end.as_ref().map(|end| end.offset);
        match (end, self.acknowledged) {
            (Some(end), Some(has)) if has >= end => self.go(BackStep::Turn, vec![Do::MakePrimary]),
            _ => vec![],
        }
    }

    fn on_source(&mut self, found: &Found) -> Vec<Do> {
        if !found.is_primary {
            if self.why.is_empty() {
                self.why = "the old Redis has not become a primary".to_owned();
            }
            return if found.follows_us {
                let why = core::mem::take(&mut self.why);
                self.undo(why)
            } else {
                vec![Do::MakeReplica]
            };
        }
        let Some(end) = self.end.clone() else {
            return vec![];
        };
        if found.second.as_ref() != Some(&end) {
            // Not what has acknowledged everything: another process, with other data.
            self.why = "the old Redis is a primary of another history than this node's".to_owned();
            return vec![Do::MakeReplica];
        }
        self.outcome = Some(Outcome::Done);
        self.go(
            BackStep::Over,
            vec![
                Do::Write(Phase::Verify),
                Do::Follow(Some(end)),
                Do::Release(Authority::Front),
                Do::KeepInFile,
            ],
        )
    }

    /// It is not known which of the two decides: requests are passed on, and the source says whether it takes them. It is not followed: if it is
    /// a replica still, what is here is what counts.
    fn leave_open(&mut self) -> Vec<Do> {
        self.outcome = Some(Outcome::Undone {
            why: "the old Redis does not say whether it is a primary".to_owned(),
            unsettled: true,
        });
        self.go(BackStep::Over, vec![Do::Release(Authority::Front)])
    }

    fn undo(&mut self, why: String) -> Vec<Do> {
        self.outcome = Some(Outcome::Undone {
            why,
            unsettled: false,
        });
        let mut doing = match self.step {
            BackStep::Intend => vec![],
            _ => vec![Do::Release(Authority::Own)],
        };
        doing.push(Do::Write(Phase::Reverse));
        self.go(BackStep::Over, doing)
    }
}

/// What a process does that finds this state on its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It goes on in this phase, doing this first.
    Go(Phase, Vec<Do>),
    /// The source follows this node already, which has everything up to here: the proof is awaited.
    Prove(Place),
    /// The old Redis follows, but this node's data is older than the flip: `back` lets the old Redis decide again.
    Lost,
    /// The source does not answer, and it is not known who decides: requests are passed on, and it is asked again.
    Open,
}

/// Any of them.
#[derive(Clone, Debug)]
pub enum Machine {
    /// This node shall decide, and the old Redis become its replica.
    Flip(Flip),
    /// The old Redis shall, which is its replica.
    Back(Back),
    /// This node shall decide, and write to the old Redis.
    Over(Over),
    /// The old Redis shall, which was written to.
    Home(Home),
}

/// The same of whichever machine it is.
macro_rules! whichever {
    ($it:expr, $machine:ident => $call:expr) => {
        match $it {
            Machine::Flip($machine) => $call,
            Machine::Back($machine) => $call,
            Machine::Over($machine) => $call,
            Machine::Home($machine) => $call,
        }
    };
}

#[allow(
    missing_docs,
    reason = "each is that of Flip and of Back, which say what it does"
)]
impl Machine {
    pub fn on(&mut self, event: Event) -> Vec<Do> {
        whichever!(self, machine => machine.on(event))
    }

    pub fn again(&self) -> Vec<Do> {
        whichever!(self, machine => machine.again())
    }

    pub fn waits_for(&self) -> Wait {
        whichever!(self, machine => machine.waits_for())
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        whichever!(self, machine => machine.outcome())
    }

    pub fn step(&self) -> &'static str {
        whichever!(self, machine => machine.step())
    }
}

/// What the state says, what the source says (None: nothing), and up to which place of the source's history the data here goes.
pub fn at_start(state: &State, found: Option<&Found>, kept: Option<&Place>) -> Start {
    let front = |first: &[Do]| {
        let mut doing = first.to_vec();
        doing.extend([Do::Answer(false), Do::Unfence, Do::Follow(None)]);
        doing.extend([Do::Release(Authority::Front), Do::Write(Phase::Verify)]);
        Start::Go(Phase::Verify, doing)
    };
    let own = || match (&state.side(0).fence, kept) {
        (Some(fence), Some(kept))
            if fence.history == kept.history && kept.offset >= fence.offset =>
        {
            Start::Go(
                Phase::Reverse,
                vec![
                    Do::Unfollow,
                    Do::Release(Authority::Own),
                    Do::Answer(false),
                    Do::Write(Phase::Reverse),
                ],
            )
        }
        _ => Start::Lost,
    };
    match (&state.intent, state.phase, found) {
        (Intent::Flip { .. } | Intent::Back, _, None) => Start::Open,
        (Intent::Flip { .. }, _, Some(found)) if found.follows_us => match kept {
            Some(kept) if *kept == found.at => Start::Prove(kept.clone()),
            _ => front(&[Do::MakePrimary]),
        },
        (Intent::Flip { .. }, _, Some(_)) => front(&[]),
        (Intent::Back, _, Some(found)) if found.is_primary => front(&[]),
        (Intent::Back, _, Some(_)) => own(),
        (Intent::None, Phase::Reverse, Some(found)) if was_undone(state, found) => front(&[]),
        (Intent::None, Phase::Reverse, _) => own(),
        (Intent::None, phase @ (Phase::Front | Phase::Verify), found) => {
            let strays = found.is_some_and(|found| found.follows_us);
            let mut doing = if strays {
                vec![Do::MakePrimary]
            } else {
                vec![]
            };
            doing.extend([Do::Answer(false), Do::Follow(None)]);
            doing.push(Do::Release(Authority::Front));
            Start::Go(phase, doing)
        }
        (Intent::None, Phase::Attach, _) => Start::Go(
            Phase::Attach,
            vec![
                Do::Answer(false),
                Do::Follow(None),
                Do::Release(Authority::Source),
            ],
        ),
        (Intent::None, phase @ (Phase::Idle | Phase::Finished), _) => {
            Start::Go(phase, vec![Do::Release(Authority::Own)])
        }
    }
}

/// A primary whose history went on from the fence, by itself: the flip was undone when the disk could not say so any more.
fn was_undone(state: &State, found: &Found) -> bool {
    let second = found.second.as_ref().map(|second| &second.history);
    let fence = state.side(0).fence.as_ref().map(|fence| &fence.history);
    found.is_primary && second.is_some() && second == fence
}
