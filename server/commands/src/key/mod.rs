//! Commands of the key family.

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
