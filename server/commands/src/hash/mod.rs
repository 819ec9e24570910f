//! Commands of the hash family.

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
