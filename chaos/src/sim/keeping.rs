//! How a run keeps its data, and what happens to it: the log's policy, how often and how the node stops, what the disk does.

use super::Plant;
use super::disk::Faults;
use super::world::{Stop, World};
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
    /// What the disk does while there is load.
    faults: Faults,
}

impl Keeping {
    /// Half of all runs have a log.
    pub(crate) fn draw(rng: &mut Rng, plant: Option<Plant>) -> Keeping {
        let lies = plant == Some(Plant::SyncsLost);
        let logs = rng.percent(50) || lies;
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

    /// The node stops and starts again; false when a bit had flipped: either that is told, or what it was in is cut off like
    /// a torn end (and told), so that nothing is known of what was answered.
    pub(crate) fn stop(&self, world: &mut World, life: usize, rng: &mut Rng) -> bool {
        // A sync that failed has lost its pages for good, though they can be read: the next process cannot know, and a crash
        // of the machine behind it shows it. That is told as damage, and not judged.
        let stop = if rng.percent(60) || self.faults.sync_errors > 0 {
            Stop::Crash
        } else {
            Stop::Kill
        };
        self.mend(world);
        let flips = self.flips == Some(life);
        match world.stop(stop, flips) {
            Ok(()) if flips => {
                world.services().for_each(|service| service.shard().check());
                return false;
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
