//! RDB: Redis's serialisation of values, both ways, over slices and vectors. Whole files, DUMP and replication are made of it.
//!
//! ```text
//! value    type u8 | body                     encode.rs writes, decode.rs reads
//! payload  value | version u16 LE | CRC-64 of all before it    dump, restore
//! file     magic, fields, keys with values, CRC-64            file.rs; measure.rs finds where values end
//!
//! written (version 10, which Redis 7.0 reads)        read besides (versions up to 12, and Valkey's 80)
//! 0  string                                          1 list, 3 sorted set with texts, 9 zipmap
//! 2  set, 11 intset                                  10 ziplist, 12, 13, 14 with ziplists
//! 4  hash, 16 hash as listpack                       20 set as listpack
//! 5  sorted set, 17 as listpack                      strings as LZF
//! 18 list of listpacks                               22, 23 hash as 24 and 25 of Redis 7.4 before its release
//! 19 stream                                          22 of version 80: hash, a deadline behind each pair
//! written as version 12, which Redis 7.4 reads       15, 21 stream
//! 24 hash with deadlines of fields, 25 as listpack
//! ```
//! A reader meets hostile bytes: it returns a [`Fault`], never panics, and allocates no more than the bytes it was given call
//! for. What the bytes mean is checked in full: lengths of packed blocks, elements that come twice, NaN.
//!
//! Non-goals: modules.

mod crc64;
mod decode;
mod encode;
mod file;
mod listpack;
mod lzf;
mod measure;
mod reader;
pub(crate) mod stream;
mod ziplist;

pub use crc64::crc64;
pub use decode::read_body;
pub use encode::{Style, kind_of, write_body, write_length, write_string};
pub use file::{
    Damage, KeyInfo, Part, Raw, Splitter, Wrong, write_aux, write_end, write_function, write_head,
    write_key, write_magic, write_resize, write_select,
};
pub use reader::Reader;

use crate::Limits;
use crate::value::OwnedValue;
use crate::view::Value;

/// The version in payloads that are written...
pub const VERSION: u16 = 10;
/// ...but for hashes with deadlines of fields: older servers refuse them, rather than lose the deadlines.
pub const VERSION_OF_DEADLINES: u16 = 12;
/// The newest version of Redis that is read.
pub const VERSION_MAX: u16 = 12;
/// The version of Valkey that is read: up to 21 its types are those of Redis.
pub const VERSION_OF_VALKEY: u16 = 80;

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
    pub(crate) const MODULE_EARLY: u8 = 6;
    pub(crate) const MODULE: u8 = 7;
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
    /// Before Redis 7.4 was released: without the earliest deadline ahead.
    pub(crate) const HASH_DEADLINES_EARLY: u8 = 22;
    pub(crate) const HASH_LISTPACK_DEADLINES_EARLY: u8 = 23;
    pub(crate) const HASH_DEADLINES: u8 = 24;
    pub(crate) const HASH_LISTPACK_DEADLINES: u8 = 25;
    /// The same number in payloads of Valkey.
    pub(crate) const HASH_OF_VALKEY: u8 = 22;
}

/// Bytes of version and checksum.
const FOOTER_BYTES: usize = 10;

/// A value as DUMP gives it.
pub fn dump(value: Value<'_>) -> Vec<u8> {
    dump_as(value, Style::DUMP)
}

/// As [`dump`], in the types of the version that `style` names, which the payload says it is of.
pub fn dump_as(value: Value<'_>, style: Style) -> Vec<u8> {
    let kind = kind_of(value, style);
    let version = match kind {
        kind::HASH_DEADLINES | kind::HASH_LISTPACK_DEADLINES => VERSION_OF_DEADLINES,
        _ => style.version,
    };
    let mut out = vec![kind];
    write_body(value, style, &mut out);
    out.extend_from_slice(&version.to_le_bytes());
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
    let is_valkeys = version == VERSION_OF_VALKEY;
    if (version > VERSION_MAX && !is_valkeys) || sum != summed {
        return Err(Fault::Footer);
    }
    let mut reader = Reader::new(value);
    let value = match reader.byte()? {
        kind::HASH_OF_VALKEY if is_valkeys => decode::read_hash_of_valkey(&mut reader, limits)?,
        kind if is_valkeys && kind > kind::STREAM_3 => return Err(Fault::Format),
        kind => read_body(kind, &mut reader, limits)?,
    };
    if reader.rest().is_empty() {
        Ok(value)
    } else {
        Err(Fault::Format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Hash;

    /// A payload of a version.
    fn payload(kind: u8, body: &[u8], version: u16) -> Vec<u8> {
        let mut out = [&[kind], body, &version.to_le_bytes()].concat();
        out.extend(crc64(0, &out).to_le_bytes());
        out
    }

    /// `f` holds 1 until 1000, `g` holds x.
    fn two_fields() -> OwnedValue {
        let (mut hash, limits) = (Hash::new(), Limits::default());
        hash.set(b"f", b"1", &limits);
        hash.set(b"g", b"x", &limits);
        hash.set_deadline(b"f", Some(1000));
        OwnedValue::Hash(Box::new(hash))
    }

    #[test]
    fn hashes_with_deadlines_of_every_form_are_read() {
        let first = 1000u64.to_le_bytes();
        let pairs = b"\x02\x01\x01f\x011\x00\x01g\x01x";
        let packed =
            b"\x17\x17\0\0\0\x06\0\x81f\x02\x01\x01\xc3\xe8\x02\x81g\x02\x81x\x02\0\x01\xff";
        let early = b"\x02\x43\xe8\x01f\x011\x00\x01g\x01x";
        let valkey = [
            &b"\x02\x01f\x011"[..],
            &first,
            b"\x01g\x01x",
            &(-1i64).to_le_bytes(),
        ];
        for (payload, what) in [
            (payload(24, &[&first[..], pairs].concat(), 12), "with texts"),
            (payload(25, &[&first[..], packed].concat(), 12), "listpack"),
            (payload(22, early, 12), "with texts, before the release"),
            (payload(23, packed, 12), "listpack, before the release"),
            (payload(22, &valkey.concat(), 80), "Valkey's"),
        ] {
            let read = restore(&payload, &Limits::default());
            assert_eq!(read, Ok(two_fields()), "{what}");
        }
    }

    #[test]
    fn what_no_server_writes_is_refused() {
        let first = 1000u64.to_le_bytes();
        let format = Err(Fault::Format);
        for (body, what) in [
            (&b"\x01\x00\x01f\x011\x00"[..], "more behind it"),
            (b"\x02\x00\x01f\x011\x00\x01f\x011", "a field twice"),
            (
                b"\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01f\x011",
                "beyond all time",
            ),
            (b"\x00", "empty"),
        ] {
            let payload = payload(24, &[&first[..], body].concat(), 12);
            assert_eq!(restore(&payload, &Limits::default()), format, "{what}");
        }
        let string = payload(0, b"\x01x", 80);
        assert!(restore(&string, &Limits::default()).is_ok());
        for (kind, version, fault) in [
            (24, 80, Fault::Format),
            (0, 13, Fault::Footer),
            (0, 81, Fault::Footer),
        ] {
            let payload = payload(kind, b"\x01x", version);
            assert_eq!(restore(&payload, &Limits::default()), Err(fault));
        }
    }
}
