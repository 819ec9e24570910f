//! Commands on strings.

mod append;
mod compare;
pub(crate) mod expiry;
mod get;
mod incr;
mod increx;
mod lcs;
mod msetex;
mod set;
pub(crate) mod substring;

use crate::Command;

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    append::COMMANDS,
    compare::COMMANDS,
    get::COMMANDS,
    incr::COMMANDS,
    increx::COMMANDS,
    lcs::COMMANDS,
    msetex::COMMANDS,
    set::COMMANDS,
    substring::COMMANDS,
];
