//! Commands on keys of any type, and on whole databases.

mod copy;
mod database;
mod dump;
mod exist;
mod expire;
pub mod glob;
mod keys;
mod memory;
mod object;
mod order;
pub(crate) mod page;
mod pattern;
mod remove;
mod rename;
mod scan;
mod sort;
mod ttl;

use protocol::{Refusal, number};
use storage::{Edit, EventClass, Key, OwnedValue, Ttl};

use crate::Command;

pub use keys::{Step, keys_of_slot};

/// All of them.
pub const FAMILY: &[&[Command]] = &[
    copy::COMMANDS,
    database::COMMANDS,
    dump::COMMANDS,
    exist::COMMANDS,
    expire::COMMANDS,
    keys::COMMANDS,
    memory::COMMANDS,
    object::COMMANDS,
    remove::COMMANDS,
    rename::COMMANDS,
    scan::COMMANDS,
    sort::COMMANDS,
    ttl::COMMANDS,
];

/// What of a word counts where Redis reads it as a C string.
fn until_nul(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A word as a 32-bit integer.
///
/// # Errors
/// `Refusal::NotInteger`, or a refusal that tells the range.
fn narrow_int(word: &[u8]) -> Result<i32, Refusal> {
    let wide = number::parse_i64(word).ok_or(Refusal::NotInteger)?;
    i32::try_from(wide).map_err(|_| Refusal::out_of_range(i32::MIN.into(), i32::MAX.into()))
}

/// The number of one of `count` databases.
///
/// # Errors
/// `Refusal::DbOutOfRange`.
fn db_index(index: i32, count: usize) -> Result<u8, Refusal> {
    let index = u8::try_from(index).ok();
    index
        .filter(|index| usize::from(*index) < count)
        .ok_or(Refusal::DbOutOfRange)
}

/// Stores what a command made of other values; nothing leaves no key.
pub(crate) fn store(
    edit: &mut Edit<'_>,
    key: &Key<'_>,
    value: OwnedValue,
    (class, event): (EventClass, &'static str),
) {
    if !value.is_empty_collection() {
        edit.put_value(key, value, Ttl::Clear);
        edit.event(class, event, key);
    } else if edit.remove(key) {
        edit.event(EventClass::Generic, "del", key);
    }
}

/// Puts a value with the deadline that it had elsewhere.
fn ttl_of(deadline_ms: Option<u64>) -> Ttl {
    deadline_ms.map_or(Ttl::Clear, Ttl::At)
}
