//! What an operator asks of a migration, and why it was not done.

use migration::{OldSide, Server};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// A migration from these servers begins; the source finds this node there.
    Start {
        /// The source: one server, one of a cluster's, or several among which keys are spread by hand.
        sources: Vec<Server>,
        /// Patterns of the keys of each of these, if they are said.
        patterns: Vec<Vec<String>>,
        /// This node, as the source reaches it; needed by a source that is to be its replica.
        announce: Option<Server>,
        /// Also when the assessment says stop.
        force: bool,
        /// What the source is to be once this node decides.
        way: Way,
    },
    /// The next phase.
    Advance {
        /// See [`Phase::advance`].
        force: bool,
        /// As at the start, if it is to be changed.
        way: Way,
        /// Of several, the one that is to be flipped; else the next.
        shard: Option<usize>,
    },
    /// The phase before.
    Back {
        /// Also from data that is older than the flip.
        force: bool,
        /// Of several, the one that the source is to decide again; else the last that this node does.
        shard: Option<usize>,
    },
    /// Keys are compared from now on, whatever the phase.
    Verify {
        /// What differs is fetched again.
        mends: bool,
    },
    /// The old Redis is let go.
    Finish,
}

/// What an order says of the old side; what it does not say stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// What the source is to be once this node decides.
    pub old_side: Option<OldSide>,
    /// Users that are to be barred there.
    pub users: Option<Vec<String>>,
    /// It is followed by scan; said at the start only.
    pub by_scan: bool,
}

/// By which means a source is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Means {
    /// What it is to be once this node decides.
    pub old_side: OldSide,
    /// It is followed by scan.
    pub by_scan: bool,
}

impl Way {
    /// What the assessment is to look at.
    pub(super) fn means(&self) -> Means {
        Means {
            // (Who bars PSYNC cannot be a replica.)
            old_side: self.old_side.unwrap_or(match self.by_scan {
                true => OldSide::Written,
                false => OldSide::default(),
            }),
            by_scan: self.by_scan,
        }
    }
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not for now.
    Conflict(String),
    /// It was tried, and undone.
    Undone(String),
    /// Something failed.
    Failed(String),
}

/// A phase that is not left now.
pub(super) fn conflict(stay: migration::Stay) -> Fault {
    Fault::Conflict(stay.to_string())
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Conflict(why) | Fault::Failed(why) => f.write_str(why),
            Fault::Undone(why) => write!(f, "undone: {why}"),
        }
    }
}

impl core::error::Error for Fault {}
