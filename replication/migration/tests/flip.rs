//! A source, a node and the machines between them, step by step, cut at every step: who decides is never two, and in the end it is one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

use std::collections::VecDeque;

use migration::flip::{Back, Do, Event, Flip, Found, Machine, Outcome, Start, Wait, at_start};
use migration::{Authority, Intent, Phase, Place, Side, State};

const OLD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn history(n: usize) -> String {
    format!("{n:040x}")
}

/// What can go wrong in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The node ends before this step.
    dies_before: Option<usize>,
    /// This step fails...
    fails_at: Option<usize>,
    /// ...after it was done.
    late: bool,
    /// So many bytes of what was executed are lost with the process.
    loses: u64,
    /// From this step on the source does not answer, until the node starts anew.
    silent_from: Option<usize>,
    /// The time is over at this wait.
    time_up_at: Option<usize>,
    /// A PING goes into the source's stream right before it turns.
    pinged: bool,
}

/// Both sides and the disk.
struct World {
    plan: Plan,
    steps: usize,
    waits: usize,
    made: usize,
    // The source.
    is_primary: bool,
    fenced: bool,
    at: Place,
    second: Option<Place>,
    // The node.
    authority: Authority,
    applied: u64,
    own: Place,
    follows: bool,
    expected: Option<Place>,
    answered: bool,
    // The disk.
    state: State,
}

enum End {
    Died,
    Over,
}

impl World {
    fn new(plan: Plan, phase: Phase) -> World {
        let is_primary = phase != Phase::Reverse;
        let at = Place::new(OLD, 100);
        let own = Place::new(&history(1), 100);
        World {
            plan,
            steps: 0,
            waits: 0,
            made: 1,
            is_primary,
            fenced: false,
            at: if is_primary { at.clone() } else { own.clone() },
            second: None,
            authority: phase.authority(),
            applied: 100,
            own,
            follows: is_primary,
            expected: None,
            answered: !is_primary,
            state: State {
                phase,
                sides: vec![Side {
                    fence: (!is_primary).then_some(at),
                    ..Side::default()
                }],
                ..State::default()
            },
        }
    }

    fn found(&self) -> Found {
        Found {
            is_primary: self.is_primary,
            follows_us: !self.is_primary,
            at: self.at.clone(),
            second: self.second.clone(),
        }
    }

    /// Clients write wherever somebody takes it.
    fn writes(&mut self) {
        let source = self.is_primary && !self.fenced;
        let node = self.authority == Authority::Own;
        assert!(
            !(self.is_primary && node),
            "two authorities: {:?}",
            self.plan
        );
        if source {
            self.at.offset += 3;
        }
        if node {
            self.own.offset += 3;
            if self.answered {
                self.at.offset = self.own.offset;
            }
        }
        if self.follows && self.is_primary {
            self.applied = self.at.offset;
        }
    }

    fn perform(&mut self, what: &Do) -> Result<Option<Event>, String> {
        let silent = self.plan.silent_from.is_some_and(|from| self.steps >= from);
        // (What is of the node's own memory does not fail.)
        let can_fail = !matches!(what, Do::Hold | Do::Release(_));
        let fails = can_fail && self.plan.fails_at == Some(self.steps);
        let of_source = matches!(
            what,
            Do::Fence | Do::AskSource | Do::MakeReplica | Do::MakePrimary | Do::Unfence
        );
        if of_source && silent || fails && !self.plan.late {
            return Err("no answer".to_owned());
        }
        let event = match what {
            Do::Intend(intent) => {
                self.state.intent = intent.clone();
                Some(Event::Written)
            }
            Do::Write(phase) => {
                (self.state.phase, self.state.intent) = (*phase, Intent::None);
                None
            }
            Do::WriteOwn(place) => {
                self.state.phase = Phase::Reverse;
                self.state.intent = Intent::None;
                self.state.side_mut(0).fence = Some(place.clone());
                Some(Event::Written)
            }
            Do::Hold => {
                self.authority = Authority::Held;
                None
            }
            Do::Release(authority) => {
                self.authority = *authority;
                None
            }
            Do::Fence => {
                self.fenced = true;
                Some(Event::Fenced)
            }
            Do::Unfence => {
                self.fenced = false;
                None
            }
            Do::AskSource => Some(Event::SourceIs(self.found())),
            Do::MakeReplica => {
                if self.plan.pinged && self.is_primary {
                    self.at.offset += 14;
                }
                self.is_primary = false;
                Some(Event::IsReplica)
            }
            Do::MakePrimary => {
                if !self.is_primary {
                    self.is_primary = true;
                    self.made += 1;
                    self.second = Some(self.at.clone());
                    self.at.history = history(self.made);
                }
                Some(Event::IsPrimary)
            }
            Do::Follow(_) => {
                self.follows = true;
                None
            }
            Do::Unfollow => {
                self.follows = false;
                None
            }
            Do::Expect(place) => {
                self.expected = Some(place.clone());
                None
            }
            Do::TakeOver(place) => {
                self.made += 1;
                self.own = Place::new(&history(self.made), place.offset);
                None
            }
            Do::Answer(yes) => {
                self.expected = None;
                self.answered = *yes || self.authority == Authority::Own;
                if *yes {
                    self.second = Some(self.at.clone());
                    self.at = self.own.clone();
                }
                None
            }
            Do::Unblock | Do::KeepInFile => None,
            of_written => panic!("{of_written:?}: no replica is written to"),
        };
        if fails {
            Err("lost".to_owned())
        } else {
            Ok(event)
        }
    }

    fn event_of(&mut self, wait: Wait) -> Option<Event> {
        self.waits += 1;
        if self.plan.time_up_at == Some(self.waits) {
            return Some(Event::TimeUp);
        }
        match wait {
            Wait::Drained => Some(Event::Drained),
            Wait::Applied(wants) if self.applied >= wants => Some(Event::Applied(self.applied)),
            Wait::Asked if !self.is_primary => Some(Event::Asked(self.at.clone())),
            Wait::Acknowledged => Some(Event::Acknowledged(self.at.offset)),
            _ => None,
        }
    }

    fn starts(&mut self) -> (Start, bool) {
        self.plan = Plan::default();
        self.authority = Authority::Held;
        self.follows = false;
        self.expected = None;
        self.fenced = false;
        let kept = Place::new(OLD, self.applied);
        let found = self.found();
        (at_start(&self.state, Some(&found), Some(&kept)), true)
    }
}

fn drive(world: &mut World, machine: &mut Machine, doing: Vec<Do>) -> End {
    let mut queue = VecDeque::from(doing);
    for turn in 0.. {
        assert!(turn < 500, "it comes to an end: {:?}", world.plan);
        while let Some(what) = queue.pop_front() {
            world.steps += 1;
            if world.plan.dies_before == Some(world.steps) {
                return End::Died;
            }
            world.writes();
            match world.perform(&what) {
                Ok(None) => {}
                Ok(Some(event)) => queue.extend(machine.on(event)),
                Err(_) if machine.outcome().is_some() => {}
                Err(why) => {
                    queue.clear();
                    queue.extend(machine.on(Event::Failed(why)));
                }
            }
            world.writes();
        }
        match machine.waits_for() {
            Wait::Nothing => return End::Over,
            Wait::Again if turn > 100 => queue.extend(machine.on(Event::TimeUp)),
            Wait::Again => queue.extend(machine.again()),
            wait => {
                if wait == Wait::Acknowledged {
                    queue.extend(machine.on(Event::EndsAt(world.own.clone())));
                }
                match world.event_of(wait) {
                    Some(event) => queue.extend(machine.on(event)),
                    None if turn > 100 => queue.extend(machine.on(Event::TimeUp)),
                    None => {}
                }
            }
        }
    }
    End::Over
}

fn round(plan: Plan, phase: Phase) -> (World, Option<Outcome>) {
    let mut world = World::new(plan, phase);
    let (mut machine, doing) = if phase == Phase::Reverse {
        let (back, doing) = Back::begin();
        (Machine::Back(back), doing)
    } else {
        let at = Place::new(OLD, world.applied);
        let intent = Intent::Flip {
            at: at.clone(),
            min_replicas: None,
        };
        let (flip, doing) = Flip::begin(intent, &at);
        (Machine::Flip(flip), doing)
    };
    match drive(&mut world, &mut machine, doing) {
        End::Over => {
            let outcome = machine.outcome().cloned();
            (world, outcome)
        }
        End::Died => {
            world.applied -= plan.loses.min(world.applied);
            restart(&mut world);
            (world, None)
        }
    }
}

fn restart(world: &mut World) {
    let nothing = Place::new(OLD, world.applied);
    match world.starts().0 {
        Start::Go(phase, doing) => {
            assert_eq!(
                phase.authority(),
                doing
                    .iter()
                    .rev()
                    .find_map(|what| match what {
                        Do::Release(authority) => Some(*authority),
                        _ => None,
                    })
                    .unwrap()
            );
            for what in doing {
                world.writes();
                world.perform(&what).unwrap();
                world.writes();
            }
            world.state.phase = phase;
        }
        Start::Prove(place) => {
            let (flip, doing) = Flip::prove(&place);
            let mut machine = Machine::Flip(flip);
            assert!(matches!(drive(world, &mut machine, doing), End::Over));
        }
        Start::Lost => assert!(
            nothing.offset < world.state.side(0).fence.as_ref().unwrap().offset,
            "only what lost its tail"
        ),
        Start::Open => panic!("the source answers"),
    }
}

/// In the end one of the two decides, and the disk says which.
fn settled(world: &World) {
    let decides = (world.is_primary, world.authority);
    let expected = match world.state.phase {
        Phase::Reverse if world.authority == Authority::Held => (false, Authority::Held),
        Phase::Reverse => (false, Authority::Own),
        _ => (true, Authority::Front),
    };
    assert_eq!(decides, expected, "{:?}", world.plan);
    if world.authority != Authority::Held {
        assert_eq!(world.state.intent, Intent::None);
    }
}

#[test]
fn undisturbed_both_ways_come_about() {
    let (world, outcome) = round(Plan::default(), Phase::Verify);
    assert_eq!(outcome, Some(Outcome::Done));
    assert_eq!(
        (world.authority, world.state.phase),
        (Authority::Own, Phase::Reverse)
    );
    assert_eq!(
        world.state.side(0).fence.as_ref().unwrap().offset,
        world.applied
    );
    settled(&world);
    let (world, outcome) = round(Plan::default(), Phase::Reverse);
    assert_eq!(outcome, Some(Outcome::Done));
    assert_eq!(
        (world.authority, world.state.phase),
        (Authority::Front, Phase::Verify)
    );
    settled(&world);
}

#[test]
fn killed_at_every_step_there_is_one_authority_and_nothing_is_lost() {
    for phase in [Phase::Verify, Phase::Reverse] {
        for loses in [0, 5] {
            for step in 1..30 {
                let plan = Plan {
                    dies_before: Some(step),
                    loses,
                    ..Plan::default()
                };
                let (world, _) = round(plan, phase);
                settled(&world);
            }
        }
    }
}

#[test]
fn whatever_fails_is_undone_or_done() {
    for phase in [Phase::Verify, Phase::Reverse] {
        for step in 1..30 {
            for late in [false, true] {
                let plan = Plan {
                    fails_at: Some(step),
                    late,
                    ..Plan::default()
                };
                let (mut world, _) = round(plan, phase);
                if world.state.intent != Intent::None {
                    // The disk could not say the last word: a start finds out.
                    restart(&mut world);
                }
                settled(&world);
            }
            let plan = Plan {
                time_up_at: Some(step),
                ..Plan::default()
            };
            let (world, outcome) = round(plan, phase);
            if let Some(Outcome::Undone { why, .. }) = outcome {
                assert!(why.contains("longest pause"), "{why}");
            }
            settled(&world);
        }
    }
}

#[test]
fn a_source_that_falls_silent_leaves_it_open_and_a_start_settles_it() {
    for phase in [Phase::Verify, Phase::Reverse] {
        let mut left_open = 0;
        for step in 1..30 {
            let plan = Plan {
                silent_from: Some(step),
                ..Plan::default()
            };
            let (mut world, outcome) = round(plan, phase);
            if let Some(Outcome::Undone {
                unsettled: true, ..
            }) = outcome
            {
                left_open += 1;
                assert_eq!(world.authority, Authority::Front);
                assert_ne!(world.state.intent, Intent::None);
                restart(&mut world);
            }
            settled(&world);
        }
        assert!(left_open > 0, "{phase:?}");
    }
}

#[test]
fn a_ping_between_reading_and_turning_is_waited_for_or_undone() {
    let plan = Plan {
        pinged: true,
        ..Plan::default()
    };
    let (world, outcome) = round(plan, Phase::Verify);
    // This node's link was up until then, but what the source sent last never came: it is undone.
    assert!(matches!(outcome, Some(Outcome::Undone { .. })));
    settled(&world);
}

#[test]
fn what_is_asked_for_must_be_what_is_here() {
    let at = Place::new(OLD, 100);
    for (asked, done) in [
        (Place::new(OLD, 100), true),
        (Place::new(OLD, 99), false),
        (Place::new(&history(9), 100), false),
    ] {
        let (mut flip, doing) = Flip::prove(&at);
        assert_eq!(doing, [Do::Expect(at.clone())]);
        let doing = flip.on(Event::Asked(asked.clone()));
        let first = if done { Do::Unfollow } else { Do::MakePrimary };
        assert_eq!(doing.first(), Some(&first), "{asked:?}");
    }
    // What the source has and this node has not yet is waited for.
    let (mut flip, _) = Flip::prove(&at);
    assert_eq!(flip.on(Event::Asked(Place::new(OLD, 114))), []);
    assert_eq!(flip.waits_for(), Wait::Applied(114));
    assert_eq!(flip.on(Event::Applied(114)).first(), Some(&Do::Unfollow));
}

#[test]
fn a_start_knows_what_it_may_find() {
    let fence = Place::new(OLD, 100);
    let state = |phase, intent| State {
        phase,
        intent,
        sides: vec![Side {
            fence: (phase == Phase::Reverse).then(|| fence.clone()),
            ..Side::default()
        }],
        ..State::default()
    };
    let flip = || Intent::Flip {
        at: fence.clone(),
        min_replicas: None,
    };
    let primary = Found {
        is_primary: true,
        at: fence.clone(),
        ..Found::default()
    };
    let replica = Found {
        follows_us: true,
        at: fence.clone(),
        ..Found::default()
    };
    let undone = Found {
        second: Some(fence.clone()),
        at: Place::new(&history(2), 120),
        ..primary.clone()
    };
    let (kept, older) = (fence.clone(), Place::new(OLD, 90));
    let goes = |start: Start| match start {
        Start::Go(phase, doing) => (phase.name(), doing.contains(&Do::MakePrimary)),
        Start::Prove(_) => ("prove", false),
        Start::Lost => ("lost", false),
        Start::Open => ("open", false),
    };
    for (phase, intent, found, kept, expected) in [
        (Phase::Attach, Intent::None, None, None, ("attach", false)),
        (
            Phase::Front,
            Intent::None,
            None,
            Some(&kept),
            ("front", false),
        ),
        (
            Phase::Verify,
            Intent::None,
            Some(&replica),
            Some(&kept),
            ("verify", true),
        ),
        (Phase::Verify, flip(), None, Some(&kept), ("open", false)),
        (
            Phase::Verify,
            flip(),
            Some(&primary),
            Some(&kept),
            ("verify", false),
        ),
        (
            Phase::Verify,
            flip(),
            Some(&replica),
            Some(&kept),
            ("prove", false),
        ),
        (
            Phase::Verify,
            flip(),
            Some(&replica),
            Some(&older),
            ("verify", true),
        ),
        (
            Phase::Verify,
            flip(),
            Some(&replica),
            None,
            ("verify", true),
        ),
        (
            Phase::Reverse,
            Intent::None,
            None,
            Some(&kept),
            ("reverse", false),
        ),
        (
            Phase::Reverse,
            Intent::None,
            Some(&replica),
            Some(&older),
            ("lost", false),
        ),
        (
            Phase::Reverse,
            Intent::None,
            Some(&primary),
            Some(&kept),
            ("reverse", false),
        ),
        (
            Phase::Reverse,
            Intent::None,
            Some(&undone),
            Some(&kept),
            ("verify", false),
        ),
        (
            Phase::Reverse,
            Intent::Back,
            None,
            Some(&kept),
            ("open", false),
        ),
        (
            Phase::Reverse,
            Intent::Back,
            Some(&replica),
            Some(&kept),
            ("reverse", false),
        ),
        (
            Phase::Reverse,
            Intent::Back,
            Some(&primary),
            Some(&kept),
            ("verify", false),
        ),
        (
            Phase::Finished,
            Intent::None,
            None,
            None,
            ("finished", false),
        ),
    ] {
        let start = at_start(&state(phase, intent.clone()), found, kept);
        assert_eq!(
            goes(start),
            expected,
            "{phase:?} {intent:?} {found:?} {kept:?}"
        );
    }
}
