//! Commands on strings.

mod append;
pub(crate) mod expiry;
mod get;
mod incr;
mod lcs;
mod set;
pub(crate) mod substring;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    append::COMMANDS,
    get::COMMANDS,
    incr::COMMANDS,
    lcs::COMMANDS,
    set::COMMANDS,
    substring::COMMANDS,
];
