//! `Commit`: what must be true before a reply may leave. The one file in which the modes differ.
//!
//! At the end of a turn the node hands over the effects that the turn recorded; the answer is the gate
//! for the turn's replies. A single node without a log asks for nothing: what a turn wrote is visible
//! at once, and its replies leave with it.

use storage::Shard;

/// How writes become facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// By being executed: no log, no replicas.
    Local,
}

/// Whether the replies of a turn may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "replies wait for the gate"]
pub enum Gate {
    /// At once.
    Open,
}

impl Commit {
    /// Takes the effects of the turn to where they must go.
    #[inline]
    pub fn end_of_turn(self, shard: &mut Shard) -> Gate {
        match self {
            Commit::Local => {
                debug_assert_eq!(
                    shard.effects().count(),
                    0,
                    "nobody consumes effects, so none are recorded"
                );
                Gate::Open
            }
        }
    }
}
