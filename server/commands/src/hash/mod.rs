//! Commands on hashes.

mod fields;
mod hexpire;
mod hget;
mod hgetall;
mod hgetex;
mod hincr;
mod hrandfield;
mod hscan;
mod hset;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    hexpire::COMMANDS,
    hget::COMMANDS,
    hgetall::COMMANDS,
    hgetex::COMMANDS,
    hincr::COMMANDS,
    hrandfield::COMMANDS,
    hscan::COMMANDS,
    hset::COMMANDS,
];
