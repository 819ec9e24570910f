//! The phases of leaving a Redis: what each means, and from which one may go where.
//!
//! ```text
//!  idle ──start──> attach ──> front ──> verify ══flip══> reverse ──finish──> finished
//!    ^               │ ^        │ ^       │ ^               │
//!    └──── back ─────┘ └─ back ─┘ └─ back ┘ └═════ back ════┘        ══ changes who decides: flip.rs
//! ```
//! Up to `verify` the source decides and every way back is a matter of where clients connect. `reverse` is the other way round:
//! this node decides and the old Redis follows it, so going back is another flip. Only `finish` cannot be taken back.
//! Everything here is a function of its arguments; the state on the disk is state.rs.

use crate::Authority;

/// How far a migration has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// None is under way.
    #[default]
    Idle,
    /// This node copies the source and follows it. It refuses writes.
    Attach,
    /// Clients may come here: what they write is passed on to the source.
    Front,
    /// The same, and the flip may come once a whole comparison has found no difference.
    Verify,
    /// This node decides, and the old Redis follows it.
    Reverse,
    /// The old Redis has been let go.
    Finished,
}

/// Why a phase is not left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// There is no phase in this direction.
    NoWay(&'static str),
    /// It may be left later, when this has come about; `force` leaves it now where that can be undone.
    NotYet(String),
}

impl core::fmt::Display for Stay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Stay::NoWay(why) => f.write_str(why),
            Stay::NotYet(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Stay {}

/// What is known when a phase is to be left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The link to the source is up, and its copy is here.
    pub follows: bool,
    /// Bytes of the source's stream that are not executed here yet.
    pub lag_bytes: u64,
    /// Whole comparisons since this phase was entered...
    pub passes: u64,
    /// ...and differences that are open.
    pub differences: u64,
    /// Keys that no comparison could settle because they change all the time.
    pub unsettled: u64,
    /// The old Redis follows this node, and has acknowledged everything.
    pub old_side_current: bool,
}

/// Bytes of the source's stream that may be missing when clients are let in: they are here within a moment.
pub const LAG_BYTES_MAX: u64 = 4 << 20;

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Phase; 6] = [
        Phase::Idle,
        Phase::Attach,
        Phase::Front,
        Phase::Verify,
        Phase::Reverse,
        Phase::Finished,
    ];

    /// Its name in files, replies and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Attach => "attach",
            Phase::Front => "front",
            Phase::Verify => "verify",
            Phase::Reverse => "reverse",
            Phase::Finished => "finished",
        }
    }

    /// The phase of this name.
    pub fn of(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Its number in metrics: its place in the order.
    pub fn number(self) -> u64 {
        Phase::ALL
            .iter()
            .position(|phase| *phase == self)
            .unwrap_or(0) as u64
    }

    /// Who decides what keys hold in it.
    pub fn authority(self) -> Authority {
        match self {
            Phase::Idle | Phase::Reverse | Phase::Finished => Authority::Own,
            Phase::Attach => Authority::Source,
            Phase::Front | Phase::Verify => Authority::Front,
        }
    }

    /// Whether this node follows the source in it.
    pub fn follows(self) -> bool {
        matches!(self, Phase::Attach | Phase::Front | Phase::Verify)
    }

    /// The phase that a start goes to.
    ///
    /// # Errors
    /// When a migration is under way.
    pub fn start(self) -> Result<Phase, Stay> {
        match self {
            Phase::Idle | Phase::Finished => Ok(Phase::Attach),
            _ => Err(Stay::NoWay(
                "a migration is under way already; `status` shows it",
            )),
        }
    }

    /// The next phase. With `force`, conditions that only make a later flip likelier to be undone are passed over.
    ///
    /// # Errors
    /// What is missing.
    pub fn advance(self, facts: &Facts, force: bool) -> Result<Phase, Stay> {
        let current = || -> Result<(), Stay> {
            if !facts.follows {
                return Err(Stay::NotYet(
                    "the source's data is not all here yet, or the link is down".to_owned(),
                ));
            }
            if facts.lag_bytes > LAG_BYTES_MAX {
                return Err(Stay::NotYet(format!(
                    "{} bytes of the source's stream are not executed here yet, of which {LAG_BYTES_MAX} may be missing",
                    facts.lag_bytes
                )));
            }
            Ok(())
        };
        match self {
            Phase::Idle | Phase::Finished => {
                Err(Stay::NoWay("no migration is under way: `start` begins one"))
            }
            Phase::Attach => current().map(|()| Phase::Front),
            Phase::Front => current().map(|()| Phase::Verify),
            Phase::Verify => {
                current()?;
                if !force && facts.passes == 0 {
                    return Err(Stay::NotYet(
                        "no comparison has gone through all keys yet; `status --watch` shows how far it is".to_owned(),
                    ));
                }
                if !force && facts.differences > 0 {
                    return Err(Stay::NotYet(format!(
                        "{} differences are open; `verify` looks again",
                        facts.differences
                    )));
                }
                Ok(Phase::Reverse)
            }
            Phase::Reverse => Err(Stay::NoWay(
                "the last step is `finish`: there is no way back from it",
            )),
        }
    }

    /// The phase before.
    ///
    /// # Errors
    /// What is missing.
    pub fn back(self, facts: &Facts) -> Result<Phase, Stay> {
        match self {
            Phase::Idle => Err(Stay::NoWay("no migration is under way")),
            Phase::Finished => Err(Stay::NoWay(
                "the old Redis has been let go: a way back is another migration",
            )),
            Phase::Attach => Ok(Phase::Idle),
            Phase::Front => Ok(Phase::Attach),
            Phase::Verify => Ok(Phase::Front),
            Phase::Reverse if facts.old_side_current => Ok(Phase::Verify),
            Phase::Reverse => Err(Stay::NotYet(
                "the old Redis does not follow at this moment, or has not acknowledged everything"
                    .to_owned(),
            )),
        }
    }

    /// The end.
    ///
    /// # Errors
    /// In every phase but `reverse`.
    pub fn finish(self) -> Result<Phase, Stay> {
        match self {
            Phase::Reverse => Ok(Phase::Finished),
            Phase::Idle | Phase::Finished => Err(Stay::NoWay("no migration is under way")),
            _ => Err(Stay::NoWay(
                "the source still decides: `advance` first, or `back` to give up",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Facts {
        Facts {
            follows: true,
            passes: 1,
            old_side_current: true,
            ..Facts::default()
        }
    }

    #[test]
    fn every_arrow_and_its_way_back() {
        use Phase::*;
        for (phase, start, advance, back, finish) in [
            (Idle, Some(Attach), None, None, None),
            (Attach, None, Some(Front), Some(Idle), None),
            (Front, None, Some(Verify), Some(Attach), None),
            (Verify, None, Some(Reverse), Some(Front), None),
            (Reverse, None, None, Some(Verify), Some(Finished)),
            (Finished, Some(Attach), None, None, None),
        ] {
            assert_eq!(phase.start().ok(), start, "{phase:?}");
            assert_eq!(phase.advance(&ready(), false).ok(), advance, "{phase:?}");
            assert_eq!(phase.back(&ready()).ok(), back, "{phase:?}");
            assert_eq!(phase.finish().ok(), finish, "{phase:?}");
            assert_eq!(Phase::of(phase.name()), Some(phase));
            assert_eq!(Phase::ALL[phase.number() as usize], phase);
        }
        assert_eq!(Phase::of("flip"), None);
    }

    #[test]
    fn conditions_hold_a_phase_and_force_passes_over_some() {
        let without = |change: fn(&mut Facts)| {
            let mut facts = ready();
            change(&mut facts);
            facts
        };
        for (phase, facts, forced) in [
            (Phase::Attach, without(|facts| facts.follows = false), false),
            (Phase::Front, without(|facts| facts.follows = false), false),
            (
                Phase::Verify,
                without(|facts| facts.lag_bytes = LAG_BYTES_MAX + 1),
                false,
            ),
            (Phase::Verify, without(|facts| facts.passes = 0), true),
            (Phase::Verify, without(|facts| facts.differences = 1), true),
        ] {
            let stays = phase.advance(&facts, false);
            assert!(matches!(stays, Err(Stay::NotYet(_))), "{phase:?} {facts:?}");
            assert_eq!(phase.advance(&facts, true).is_ok(), forced, "{phase:?}");
        }
        let behind = without(|facts| facts.old_side_current = false);
        assert!(matches!(Phase::Reverse.back(&behind), Err(Stay::NotYet(_))));
    }

    #[test]
    fn the_source_decides_until_the_flip() {
        for phase in Phase::ALL {
            assert_eq!(
                phase.follows(),
                !phase.authority().ends_keys(),
                "{phase:?}: who follows does not decide"
            );
        }
    }
}
