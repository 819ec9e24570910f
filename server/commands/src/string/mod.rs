//! Commands on strings.

mod expiry;
mod get;
mod set;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[get::COMMANDS, set::COMMANDS];
