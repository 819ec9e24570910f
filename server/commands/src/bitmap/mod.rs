//! Commands on strings as arrays of bits.

mod bit;
mod bitcount;
mod bitfield;
mod bitop;
mod bitpos;
mod integer;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    bit::COMMANDS,
    bitcount::COMMANDS,
    bitfield::COMMANDS,
    bitop::COMMANDS,
    bitpos::COMMANDS,
];
