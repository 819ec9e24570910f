//! Scenes of several connections in lock step: one of them says something, both servers come to rest, and what every
//! connection has heard is compared; then the next cue.
//!
//! ```text
//!   blocking | pubsub | notifications | tracking | interleaving      (scenes.rs: which cues, from rows/lockstep.rs)
//!      └─> cue 1 ─ rest ─ compare, cue 2 ─ rest ─ compare, … ─> all keys compared        (stage.rs)
//!                                    └─ replies in order; messages by channel; invalidated keys as a set   (heard.rs)
//! ```
//! At rest: the one who spoke has a reply, or the oracle lists it as blocked. The oracle's state is taken behind a request
//! on another connection; the subject may take a moment until it has come to the same.

mod heard;
mod scenes;
mod stage;

use std::rc::Rc;

use super::catalogue::Op;

pub(super) use scenes::{GROUPS, draw};
pub(super) use stage::Stage;

/// A scene.
#[derive(Debug)]
pub(super) struct Scene {
    /// The group it belongs to.
    pub(super) group: &'static str,
    /// Whether each connection speaks RESP3.
    pub(super) speaks_three: Vec<bool>,
    /// All keys are in one slot.
    pub(super) is_tagged: bool,
    /// What happens.
    pub(super) cues: Vec<Cue>,
}

/// One connection says something.
#[derive(Debug)]
pub(super) struct Cue {
    /// Which connection.
    pub(super) actor: usize,
    /// What it says, in one write.
    pub(super) ops: Vec<Rc<Op>>,
    /// It waits for a moment only: the cue ends when it waits no more. Passed over if it waits already.
    pub(super) brief: bool,
}
