//! What each command does, and only that: words in, a changed shard and a reply out.
//!
//! ```text
//! node: parse, gates, route ──> Run::Read(cx, args)  or  Run::Write(cx, args) ──> Reply
//!                                  &Shard                   Edit (records effects)
//! ```
//! # To add a command
//! 1. Write a row (`Command { spec, run, spread }`) beside one function in the family's file; the row
//!    is the only declaration: table, arity, keys, ACL, COMMAND, docs follow from it.
//! 2. A new file also needs its `mod x;` and `x::COMMANDS` in the family's `mod.rs`.
//! 3. A handler takes its words left to right from `Args`, returns the first `Refusal`, and writes one
//!    reply. It sees every key of the request in one shard, wherever the keys lived before.
//! 4. Test it at the foot of the file with `testing::Bench`, which also checks that the recorded
//!    effects give the same data elsewhere.
//!
//! Non-goals: connections, configuration, time sources, replication.

pub mod bitmap;
pub mod command;
pub mod cost;
pub mod element;
#[cfg(test)]
mod events;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod key;
pub mod list;
pub mod set;
pub mod stream;
pub mod string;
#[cfg(test)]
pub(crate) mod testing;
mod wait;
pub mod zset;

pub use command::{Block, Command, FirstKey, Read, Refused, Run, Settings, Spread, Wait, Write};
pub use wait::deadline_ms;

/// All commands on data, family by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    let families: [&[&[Command]]; 10] = [
        string::FAMILY,
        bitmap::FAMILY,
        key::FAMILY,
        list::FAMILY,
        hash::FAMILY,
        set::FAMILY,
        zset::FAMILY,
        hyperloglog::FAMILY,
        geo::FAMILY,
        stream::FAMILY,
    ];
    families.into_iter().flatten().copied().flatten()
}
