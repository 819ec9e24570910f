//! HyperLogLogs: strings that tell about how many different elements were added to them.

mod pfadd;
mod sketch;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[pfadd::COMMANDS];
