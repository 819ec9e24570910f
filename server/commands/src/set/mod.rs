//! Commands on sets.

mod algebra;
pub(crate) mod combine;
mod membership;
pub(crate) mod pick;
pub(crate) mod sintercard;
mod spop;
pub(crate) mod sscan;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    algebra::COMMANDS,
    membership::COMMANDS,
    sintercard::COMMANDS,
    spop::COMMANDS,
    sscan::COMMANDS,
];
