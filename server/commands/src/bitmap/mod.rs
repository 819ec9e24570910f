//! Commands of the bitmap family.

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
