//! Commands of the set family.

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
