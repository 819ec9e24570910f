//! Commands on sorted sets.

mod blocking;
mod bounds;
pub(crate) mod cost;
mod entries;
mod scores;
mod zadd;
mod zalgebra;
mod zcombine;
mod zpop;
mod zquery;
mod zrandmember;
mod zrange;
mod zrem;
mod zrequest;
mod zscan;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    blocking::COMMANDS,
    scores::COMMANDS,
    zadd::COMMANDS,
    zalgebra::COMMANDS,
    zpop::COMMANDS,
    zrandmember::COMMANDS,
    zrange::COMMANDS,
    zrem::COMMANDS,
    zscan::COMMANDS,
];
