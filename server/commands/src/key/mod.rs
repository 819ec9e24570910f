//! Commands of the key family.

pub(crate) mod glob;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
