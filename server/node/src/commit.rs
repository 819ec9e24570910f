//! `Commit`: what must be true before a reply may leave. The one file in which the modes differ.
//!
//! At the end of a turn the node hands over the effects that the turn recorded; the answer is the gate
//! for the turn's replies. A single node without a log asks for nothing: what a turn wrote is visible
//! at once, and its replies leave with it. With a log the effects are queued as one frame, before any mail of the turn
//! leaves; see `control/log` for what the replies wait for.

use runtime::{CoreId, Now};
use storage::log::FrameKind;
use storage::{Effect, Shard, decode};

pub use crate::control::log::Gate;
use crate::control::log::WriteLog;
use crate::core::Core;

/// A turn's effects of more bytes give their memory back.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// How writes become facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// By being executed: no log, no replicas.
    Local,
    /// By being logged, or told to replicas, or both.
    Logged,
}

impl Commit {
    /// Takes the effects of the turn to where they must go. `refuses`: the core knew all through the turn that the disk
    /// fails, and has refused writes; how far the log must come for what others have answered in it.
    #[inline]
    pub fn end_of_turn(
        self,
        shard: &mut Shard,
        log: &WriteLog,
        (core, now): (CoreId, Now),
        refuses: Option<u64>,
    ) -> Gate {
        match self {
            Commit::Local => {
                debug_assert_eq!(
                    shard.effects().count(),
                    0,
                    "nobody consumes effects, so none are recorded"
                );
                log.gate_of_the_past(core.index())
            }
            Commit::Logged => {
                let is_idle = refuses.is_some() && only_expires(shard.effects().bytes());
                queue_effects(shard, log, (core, now));
                let gate = log.gate(core.index());
                match refuses {
                    // Reads are answered, though what they show may be lost with the disk.
                    Some(acks_until) if is_idle && acks_until <= log.released() => Gate::Open,
                    _ => gate,
                }
            }
        }
    }
}

impl Core {
    /// Queues what has been recorded in this turn so far.
    pub fn queue_effects(&mut self) {
        if self.commit == Commit::Logged {
            let at = (self.id, self.now);
            queue_effects(&mut self.shard, &self.node.write_log, at);
        }
    }
}

/// Queues what the shard has recorded as a frame of the log.
#[inline]
fn queue_effects(shard: &mut Shard, log: &WriteLog, (core, now): (CoreId, Now)) {
    let effects = shard.effects();
    if effects.bytes().is_empty() {
        return;
    }
    let (at, changes) = ((core.0, now.unix_ms), effects.count() as u64);
    log.push_changes(FrameKind::Effects, at, effects.bytes(), changes);
    effects.forget(KEPT_BYTES_MAX);
}

/// Whether nothing but ends of keys has been recorded: those come also while writes are refused.
#[cold]
fn only_expires(mut record: &[u8]) -> bool {
    while !record.is_empty() {
        match decode(record) {
            Ok((_, Effect::Expire { .. }, rest)) => record = rest,
            _ => return false,
        }
    }
    true
}
