//! How a run keeps its data, and what happens to it: the log's policy, how often and how the node stops, what the disk does.

use protocol::answer::Answer;

use super::Plant;
use super::disk::Faults;
use super::world::{Harm, Stop, World};
use super::{ASKER, sums, words};
use crate::rng::Rng;

/// Times that a node stops in one run, at most.
const STOPS_MAX: usize = 3;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Keeping {
    /// There is a log.
    pub(crate) logs: bool,
    /// It is synced before anything is answered.
    pub(crate) always: bool,
    /// Times that the node stops.
    pub(crate) stops: usize,
    /// Before which of its starts a bit flips.
    flips: Option<usize>,
    /// What is planted, at each of them.
    planted: Option<Harm>,
    /// What the disk does while there is load.
    faults: Faults,
}

impl Keeping {
    /// Half of all runs have a log.
    pub(crate) fn draw(rng: &mut Rng, plant: Option<Plant>) -> Keeping {
        let lies = plant == Some(Plant::SyncsLost);
        let planted = match plant {
            Some(Plant::SumsFit) => Some(Harm::SumsFit),
            Some(Plant::FramesTorn) => Some(Harm::Torn),
            _ => None,
        };
        let logs = rng.percent(50) || lies || planted.is_some();
        let always = rng.percent(60);
        let stops = if logs { rng.below(STOPS_MAX + 1) } else { 0 };
        let flips = (stops > 0 && rng.percent(20)).then(|| rng.below(stops));
        let fails = rng.percent(25);
        let mut some = |of: usize| if fails { rng.below(of) } else { 0 };
        Keeping {
            logs,
            always,
            stops,
            flips,
            planted,
            faults: Faults {
                write_errors: some(60),
                sync_errors: some(60),
                bytes_max: None,
                read_errors: 0,
                lies,
            },
        }
    }

    /// From here on the disk does what it does.
    pub(crate) fn spoil(&self, world: &mut World) {
        world.facts.disk_fails = self.faults.write_errors + self.faults.sync_errors > 0;
        world.disk().set_faults(self.faults);
    }

    /// The disk is well again.
    pub(crate) fn mend(&self, world: &mut World) {
        world.disk().set_faults(Faults {
            lies: self.faults.lies,
            ..Faults::default()
        });
    }

    /// The node stops and starts again; false when nothing more can be said: a bit had flipped, and that was told. When what it
    /// was in was cut off like a torn end (and told), a last part of what was answered may be gone, and no more than that.
    pub(crate) fn stop(&self, world: &mut World, life: usize, rng: &mut Rng) -> bool {
        let stop = if rng.percent(60) {
            Stop::Crash
        } else {
            Stop::Kill
        };
        self.mend(world);
        let flips = self.flips == Some(life) && self.planted.is_none();
        let harm = match self.planted {
            Some(planted) => planted,
            None if flips => Harm::Flip,
            None => Harm::None,
        };
        match world.stop(stop, harm) {
            Ok(()) if flips => {
                world.services().for_each(|service| service.shard().check());
                world.facts.lose_a_part();
                if !is_set_up(world) {
                    return false;
                }
            }
            Ok(()) => {}
            Err(_) if flips => return false,
            Err(error) => world
                .facts
                .fault(format!("what is on the disk is not served: {error}")),
        }
        world.disk().set_faults(self.faults);
        true
    }
}

/// Whether what the players rely upon is there.
fn is_set_up(world: &mut World) -> bool {
    let all = format!("MGET {} p0 p1 p2", sums::ACCOUNTS.join(" "));
    let answer = world.ask(ASKER, words(&all));
    matches!(answer, Some(Answer::Array(items)) if !items.contains(&Answer::Null))
}
