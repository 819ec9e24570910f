//! Commands of the list family.

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
