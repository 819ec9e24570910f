//! Commands of the zset family.

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
