//! Commands of the key family.

pub mod glob;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[];
