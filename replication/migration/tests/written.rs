//! A source that is written to, a node and the machines between them, cut and failing at every step: every write is on both sides once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

use std::collections::VecDeque;

use migration::flip::{Do, Event, Found, Machine, Outcome, Start, Wait};
use migration::written::{Home, Over, at_start};
use migration::{Authority, Intent, OldSide, Phase, Place, State};

const OLD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What goes wrong in a round.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// The node ends before this step.
    dies_before: Option<usize>,
    /// This step fails...
    fails_at: Option<usize>,
    /// ...after it was done.
    late: bool,
    /// The time is over at this wait.
    time_up_at: Option<usize>,
    /// The source is followed by scan.
    by_scan: bool,
}

impl Plan {
    /// The same without what goes wrong.
    fn harmless(self) -> Plan {
        Plan {
            by_scan: self.by_scan,
            ..Plan::default()
        }
    }
}

/// Both sides and the disk. An offset of the source is a number of its writes, a sequence of the node's log one of the node's.
struct World {
    plan: Plan,
    steps: usize,
    waits: usize,
    next: u32,
    // The source.
    source: Vec<u32>,
    fenced: bool,
    barred: bool,
    /// The key with the position.
    mark: Option<(Place, usize)>,
    // The node.
    node: Vec<u32>,
    authority: Authority,
    follows: bool,
    applied: usize,
    writes_there: bool,
    // The disk.
    state: State,
    /// How far the source's stream is executed, as the log says.
    stands: usize,
}

impl World {
    fn new(plan: Plan) -> World {
        let mut world = World {
            plan,
            steps: 0,
            waits: 0,
            next: 0,
            source: vec![],
            fenced: false,
            barred: false,
            mark: None,
            node: vec![],
            authority: Authority::Front,
            follows: true,
            applied: 0,
            writes_there: false,
            state: State {
                phase: Phase::Verify,
                old_side: OldSide::Written,
                ..State::default()
            },
            stands: 0,
        };
        world.goes_on();
        world
    }

    fn write(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Clients write wherever somebody takes it, and the links carry what they carry.
    fn goes_on(&mut self) {
        let own = self.authority == Authority::Own;
        let direct = !self.fenced && !self.barred;
        assert!(!(direct && own), "two authorities: {:?}", self.plan);
        let front = self.authority == Authority::Front && !self.fenced;
        for _ in 0..usize::from(direct) + usize::from(front) {
            let id = self.write();
            self.source.push(id);
        }
        if own {
            let id = self.write();
            self.node.push(id);
        }
        self.deliver();
        if self.follows && self.plan.by_scan {
            self.node.clone_from(&self.source);
            self.applied = self.source.len();
        } else if self.follows {
            self.node.extend_from_slice(&self.source[self.applied..]);
            self.applied = self.source.len();
            self.stands = self.applied;
        }
    }

    /// What the line does when the source is not fenced.
    fn deliver(&mut self) {
        if !self.writes_there || self.fenced {
            return;
        }
        let fence = self.state.side(0).fence.clone().unwrap();
        let ours = self.mark.take().filter(|(of, _)| *of == fence);
        let from = ours.map_or(self.state.side(0).written_from as usize, |(_, has)| has);
        self.source.extend_from_slice(&self.node[from..]);
        self.mark = Some((fence, self.node.len()));
    }

    fn place(&self) -> Place {
        Place::new(OLD, self.source.len() as u64)
    }

    fn has_all(&self) -> bool {
        let fence = self.state.side(0).fence.clone().unwrap_or_default();
        self.mark == Some((fence, self.node.len()))
    }

    fn perform(&mut self, what: &Do) -> Result<Option<Event>, String> {
        // (What is of the node's own memory does not fail.)
        let can_fail = !matches!(
            what,
            Do::Hold | Do::Release(_) | Do::Follow(_) | Do::Unfollow | Do::WriteThere
        );
        let fails = can_fail && self.plan.fails_at == Some(self.steps);
        if fails && !self.plan.late {
            return Err("it failed".to_owned());
        }
        let event = self.done(what);
        if fails {
            return Err("it is not known whether it failed".to_owned());
        }
        Ok(event)
    }

    fn done(&mut self, what: &Do) -> Option<Event> {
        let state = &mut self.state;
        match what {
            Do::Intend(intent) => {
                state.intent = intent.clone();
                return Some(Event::Written);
            }
            Do::Write(phase) => (state.phase, state.intent) = (*phase, Intent::None),
            Do::WriteOwn(place) => {
                (state.phase, state.intent) = (Phase::Reverse, Intent::None);
                let side = state.side_mut(0);
                (side.fence, side.written_from) = (Some(place.clone()), self.node.len() as u64);
                return Some(Event::Written);
            }
            Do::WriteBack => {
                (state.phase, state.intent) = (Phase::Verify, Intent::None);
                return Some(Event::Written);
            }
            Do::Hold => self.authority = Authority::Held,
            Do::Release(authority) => self.authority = *authority,
            Do::Fence => {
                self.fenced = true;
                return Some(Event::Fenced);
            }
            Do::Unfence => self.fenced = false,
            Do::Bar => {
                self.barred = true;
                return Some(Event::Barred);
            }
            Do::Unbar => self.barred = false,
            Do::AskSource => {
                return Some(Event::SourceIs(Found {
                    is_primary: true,
                    at: self.place(),
                    ..Found::default()
                }));
            }
            Do::Unfollow => self.follows = false,
            Do::Follow(from) => {
                if let Some(place) = from {
                    self.applied = place.offset as usize;
                }
                self.follows = true;
            }
            Do::WriteThere => self.writes_there = true,
            Do::StopWriting => self.writes_there = false,
            Do::ReadBack => {
                return Some(Event::StandsAt {
                    place: self.place(),
                    is_ours: self.has_all(),
                    now_ms: 1,
                });
            }
            Do::Stand(place) => {
                self.stands = place.offset as usize;
                return Some(Event::Stood);
            }
            Do::Forget => self.mark = None,
            _ => {}
        }
        None
    }

    fn event_of(&mut self, wait: Wait) -> Option<Event> {
        self.waits += 1;
        if self.plan.time_up_at == Some(self.waits) {
            return Some(Event::TimeUp);
        }
        self.goes_on();
        match wait {
            Wait::Drained => Some(Event::Drained),
            Wait::Applied(wants) if self.applied as u64 >= wants => {
                Some(Event::Applied(self.applied as u64))
            }
            Wait::Swept if self.follows => Some(Event::Swept),
            Wait::Delivered if self.has_all() => Some(Event::Delivered),
            Wait::Again => Some(Event::TimeUp),
            _ => None,
        }
    }

    /// Runs a machine to its end; None when the node has ended before.
    fn drive(&mut self, (mut machine, doing): (Machine, Vec<Do>)) -> Option<Outcome> {
        let mut queue = VecDeque::from(doing);
        for _ in 0..500 {
            while let Some(what) = queue.pop_front() {
                self.steps += 1;
                if self.plan.dies_before == Some(self.steps) {
                    return None;
                }
                self.goes_on();
                match self.perform(&what) {
                    Ok(event) => {
                        queue.extend(event.into_iter().flat_map(|event| machine.on(event)))
                    }
                    Err(_) if machine.outcome().is_some() => {}
                    Err(why) => queue = machine.on(Event::Failed(why)).into(),
                }
                self.goes_on();
            }
            match machine.waits_for() {
                Wait::Nothing => return machine.outcome().cloned(),
                wait => {
                    let event = self.event_of(wait);
                    queue.extend(event.into_iter().flat_map(|event| machine.on(event)));
                }
            }
        }
        panic!("it comes to an end: {:?}", self.plan);
    }

    /// The node starts on what its disk says; the source's pause ends by itself.
    fn starts(&mut self) {
        self.plan = self.plan.harmless();
        (self.follows, self.writes_there) = (false, false);
        self.authority = Authority::Held;
        self.applied = self.stands;
        self.fenced = false;
        let found = Found {
            is_primary: true,
            at: self.place(),
            ..Found::default()
        };
        let has_all = self.node.len() as u64 >= self.state.side(0).written_from;
        let Start::Go(_, doing) = at_start(&self.state, Some(&found), has_all) else {
            panic!("the source answers, and nothing is lost: {:?}", self.state);
        };
        for what in doing {
            self.goes_on();
            self.done(&what);
        }
        self.goes_on();
    }

    /// What the driver does from time to time; then both sides must be equal.
    fn settles(&mut self) {
        self.fenced = false;
        if self.state.phase == Phase::Verify {
            self.barred = false;
        }
        self.goes_on();
        self.deliver();
        let decides = match self.state.phase {
            Phase::Reverse => Authority::Own,
            _ => Authority::Front,
        };
        assert_eq!(self.authority, decides, "{:?}", self.plan);
        assert_eq!(self.source, self.node, "{:?} {:?}", self.plan, self.state);
        let mut ids = self.node.clone();
        ids.sort_unstable();
        assert_eq!(
            ids,
            (1..=self.next).collect::<Vec<_>>(),
            "each is there once: {:?}",
            self.plan
        );
    }

    fn over(&self) -> (Machine, Vec<Do>) {
        let at = Place::new(OLD, self.applied as u64);
        let intent = Intent::Flip {
            at: at.clone(),
            min_replicas: None,
        };
        let (over, doing) = match self.plan.by_scan {
            true => Over::begin_by_scan(intent, &at),
            false => Over::begin(intent, &at),
        };
        (Machine::Over(over), doing)
    }

    fn turn(&mut self) -> Option<Outcome> {
        let machine = match self.state.phase {
            Phase::Reverse => {
                let (home, doing) = Home::begin();
                (Machine::Home(home), doing)
            }
            _ => self.over(),
        };
        self.drive(machine)
    }
}

/// A turn with this plan, from each side; what comes of it is looked at, and then there and back again without faults.
fn round(plan: Plan, from: Phase) -> bool {
    let mut world = World::new(plan.harmless());
    if from == Phase::Reverse {
        assert_eq!(world.turn(), Some(Outcome::Done));
    }
    (world.plan, world.steps, world.waits) = (plan, 0, 0);
    let ended = world.turn();
    let steps = world.steps;
    if ended.is_none() {
        world.starts();
    }
    world.plan = plan.harmless();
    world.settles();
    for _ in 0..2 {
        assert_eq!(world.turn(), Some(Outcome::Done), "{plan:?}");
        world.settles();
    }
    let reached = [plan.dies_before, plan.fails_at].into_iter().flatten();
    reached.max().is_none_or(|at| steps >= at) && ended != Some(Outcome::Done)
}

#[test]
fn whatever_ends_or_fails_wherever_both_sides_are_equal_and_go_on() {
    fails_everywhere(Plan::default());
}

#[test]
fn the_same_is_so_of_a_source_that_is_followed_by_scan() {
    fails_everywhere(Plan {
        by_scan: true,
        ..Plan::default()
    });
}

fn fails_everywhere(plan: Plan) {
    for from in [Phase::Verify, Phase::Reverse] {
        let mut undone = 0;
        for at in 1..40 {
            for late in [false, true] {
                undone += usize::from(round(
                    Plan {
                        fails_at: Some(at),
                        late,
                        ..plan
                    },
                    from,
                ));
            }
            let dies = Plan {
                dies_before: Some(at),
                ..plan
            };
            undone += usize::from(round(dies, from));
            let late = Plan {
                time_up_at: Some(at),
                ..plan
            };
            round(late, from);
        }
        assert!(undone >= 15, "{undone}: the faults come about");
    }
}

/// A step that fails late and an end of the process behind it: what the disk said in between is never what nobody does.
#[test]
fn an_end_behind_a_failure_is_no_worse() {
    for from in [Phase::Verify, Phase::Reverse] {
        for fails in 1..25 {
            for dies in fails + 1..25 {
                let plan = Plan {
                    fails_at: Some(fails),
                    late: true,
                    dies_before: Some(dies),
                    ..Plan::default()
                };
                round(plan, from);
            }
        }
    }
}
