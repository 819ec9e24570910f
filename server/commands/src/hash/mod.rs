//! Commands on hashes.

mod hget;
mod hgetall;
mod hincr;
mod hrandfield;
mod hscan;
mod hset;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    hget::COMMANDS,
    hgetall::COMMANDS,
    hincr::COMMANDS,
    hrandfield::COMMANDS,
    hscan::COMMANDS,
    hset::COMMANDS,
];
