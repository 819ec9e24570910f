//! Commands on streams.

mod entry;
mod ids;
mod xack;
mod xadd;
mod xclaim;
mod xdel;
mod xdelex;
mod xgroup;
mod xinfo;
mod xpending;
mod xrange;
mod xread;
mod xtrim;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    xack::COMMANDS,
    xadd::COMMANDS,
    xclaim::COMMANDS,
    xdel::COMMANDS,
    xdelex::COMMANDS,
    xgroup::COMMANDS,
    xinfo::COMMANDS,
    xpending::COMMANDS,
    xrange::COMMANDS,
    xread::COMMANDS,
    xtrim::COMMANDS,
];
