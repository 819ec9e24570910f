//! Commands on lists.

mod blocking;
mod index;
mod lmove;
mod lpop;
mod lpos;
mod lpush;
mod lrange;
mod lset;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    blocking::COMMANDS,
    lmove::COMMANDS,
    lpop::COMMANDS,
    lpos::COMMANDS,
    lpush::COMMANDS,
    lrange::COMMANDS,
    lset::COMMANDS,
];
