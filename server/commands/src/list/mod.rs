//! Commands on lists.

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
    lmove::COMMANDS,
    lpop::COMMANDS,
    lpos::COMMANDS,
    lpush::COMMANDS,
    lrange::COMMANDS,
    lset::COMMANDS,
];
