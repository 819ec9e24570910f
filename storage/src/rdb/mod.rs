//! RDB: Redis's serialisation of values, both ways, over slices and vectors. Whole files, DUMP and replication are made of it.
//!
//! ```text
//! value    type u8 | body                     encode.rs writes, decode.rs reads
//! payload  value | version u16 LE | CRC-64 of all before it    dump, restore
//!
//! written (version 10, which Redis 7.0 reads)        read besides (up to version 11)
//! 0  string                                          1 list, 3 sorted set with texts, 9 zipmap
//! 2  set, 11 intset                                  10 ziplist, 12, 13, 14 with ziplists
//! 4  hash, 16 hash as listpack                       20 set as listpack
//! 5  sorted set, 17 as listpack                      strings as LZF
//! 18 list of listpacks
//! 19 stream                                          15, 21 stream
//! ```
//! A reader meets hostile bytes: it returns a [`Fault`], never panics, and allocates no more than the bytes it was given call
//! for. What the bytes mean is checked in full: lengths of packed blocks, elements that come twice, NaN.
//!
//! Non-goals: files, compression of what is written, modules.

mod crc64;
mod decode;
mod encode;
mod listpack;
mod lzf;
mod reader;
mod stream;
mod ziplist;

pub use crc64::crc64;
pub use decode::read_body;
pub use encode::{kind_of, write_body, write_length, write_string};
pub use reader::Reader;

use crate::Limits;
use crate::value::OwnedValue;
use crate::view::Value;

/// The version in payloads that are written.
pub const VERSION: u16 = 10;
/// The newest version that is read.
pub const VERSION_MAX: u16 = 11;

/// Why bytes were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The payload's version is too new, or its checksum is wrong.
    Footer,
    /// The bytes are not what their type says.
    Format,
}

/// Numbers of the types of values.
pub(crate) mod kind {
    pub(crate) const STRING: u8 = 0;
    pub(crate) const LIST: u8 = 1;
    pub(crate) const SET: u8 = 2;
    pub(crate) const ZSET_TEXT: u8 = 3;
    pub(crate) const HASH: u8 = 4;
    pub(crate) const ZSET: u8 = 5;
    pub(crate) const HASH_ZIPMAP: u8 = 9;
    pub(crate) const LIST_ZIPLIST: u8 = 10;
    pub(crate) const SET_INTSET: u8 = 11;
    pub(crate) const ZSET_ZIPLIST: u8 = 12;
    pub(crate) const HASH_ZIPLIST: u8 = 13;
    pub(crate) const LIST_ZIPLISTS: u8 = 14;
    pub(crate) const STREAM_1: u8 = 15;
    pub(crate) const HASH_LISTPACK: u8 = 16;
    pub(crate) const ZSET_LISTPACK: u8 = 17;
    pub(crate) const LIST_LISTPACKS: u8 = 18;
    pub(crate) const STREAM_2: u8 = 19;
    pub(crate) const SET_LISTPACK: u8 = 20;
    pub(crate) const STREAM_3: u8 = 21;
}

/// Bytes of version and checksum.
const FOOTER_BYTES: usize = 10;

/// A value as DUMP gives it.
pub fn dump(value: Value<'_>) -> Vec<u8> {
    let mut out = vec![kind_of(value)];
    write_body(value, &mut out);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let sum = crc64(0, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The value that DUMP gave, here or in Redis.
///
/// # Errors
/// [`Fault`]
pub fn restore(payload: &[u8], limits: &Limits) -> Result<OwnedValue, Fault> {
    let at = payload.len().checked_sub(FOOTER_BYTES);
    let (value, footer) = payload.split_at(at.ok_or(Fault::Footer)?);
    let mut footer = Reader::new(footer);
    let version = u16::from_le_bytes(footer.array()?);
    let sum = u64::from_le_bytes(footer.array()?);
    let summed = crc64(crc64(0, value), &version.to_le_bytes());
    if version > VERSION_MAX || sum != summed {
        return Err(Fault::Footer);
    }
    let mut reader = Reader::new(value);
    let kind = reader.byte()?;
    let value = read_body(kind, &mut reader, limits)?;
    if reader.rest().is_empty() {
        Ok(value)
    } else {
        Err(Fault::Format)
    }
}
