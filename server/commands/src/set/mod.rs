//! Commands on sets.

pub(crate) mod algebra;
pub(crate) mod combine;
mod membership;
pub(crate) mod pick;
mod spop;
pub(crate) mod sscan;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    algebra::COMMANDS,
    membership::COMMANDS,
    spop::COMMANDS,
    sscan::COMMANDS,
];
