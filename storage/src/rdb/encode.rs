//! Values to bytes.

use crate::rdb::listpack::Builder;
use crate::rdb::{VERSION, kind, lzf, stream};
use crate::value::{Hash, List, Member, Set, Zset};
use crate::view::{Text, Value, canonical_int};

/// A listpack of a list is closed when it is this long, bytes.
const NODE_BYTES: usize = 8 << 10;
/// A longer text is never an integer in a string's short form.
const INT_TEXT_BYTES_MAX: usize = 11;
/// Mark of a list's node that is a listpack.
const NODE_PACKED: u64 = 2;

/// A string of fewer bytes is not compressed: it would hardly be shorter.
const COMPRESSED_BYTES_MIN: usize = 64;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// For readers of this version of RDB: 9 (Redis 5 and 6), 10 (7.0) or 11 (7.2). Hashes whose fields have deadlines are
    /// as in version 12 in all of them: nothing older could say it.
    pub version: u16,
    /// Long strings are compressed.
    pub compress: bool,
    /// Fields of hashes are written without their deadlines: for readers that know of none, and hear of a field's end otherwise.
    pub drops_field_deadlines: bool,
}

impl Style {
    /// That of DUMP.
    pub const DUMP: Style = Style {
        version: VERSION,
        compress: false,
        drops_field_deadlines: false,
    };

    /// The earliest deadline of a hash's fields, if deadlines are written.
    pub(crate) fn first_deadline_ms(self, hash: &Hash) -> Option<u64> {
        hash.first_deadline_ms()
            .filter(|_| !self.drops_field_deadlines)
    }

    /// Whether only types of Redis 6 may be used.
    fn is_plain(self) -> bool {
        self.version < 10
    }
}

/// The number that says how [`write_body`] writes a value.
pub fn kind_of(value: Value<'_>, style: Style) -> u8 {
    match value {
        Value::List(_) if style.is_plain() => kind::LIST,
        Value::Zset(_) if style.is_plain() => kind::ZSET,
        Value::Hash(hash) if style.is_plain() && style.first_deadline_ms(hash).is_none() => {
            kind::HASH
        }
        Value::Stream(_) => match style.version {
            ..10 => kind::STREAM_1,
            10 => kind::STREAM_2,
            _ => kind::STREAM_3,
        },
        Value::String(_) => kind::STRING,
        Value::List(_) => kind::LIST_LISTPACKS,
        Value::Hash(hash) => match hash.encoding() {
            "listpack" => kind::HASH_LISTPACK,
            "listpackex" if style.drops_field_deadlines => kind::HASH_LISTPACK,
            "listpackex" => kind::HASH_LISTPACK_DEADLINES,
            _ if style.first_deadline_ms(hash).is_some() => kind::HASH_DEADLINES,
            _ => kind::HASH,
        },
        Value::Set(set) if set.encoding() == "intset" => kind::SET_INTSET,
        Value::Set(_) => kind::SET,
        Value::Zset(zset) if zset.encoding() == "listpack" => kind::ZSET_LISTPACK,
        Value::Zset(_) => kind::ZSET,
    }
}

/// Appends a value, without its type.
pub fn write_body(value: Value<'_>, style: Style, out: &mut Vec<u8>) {
    match value {
        Value::String(Text::Int(n)) => write_int(n, out),
        Value::String(Text::Bytes(bytes)) => write_string(bytes, style, out),
        Value::List(list) => write_list(list, style, out),
        Value::Hash(hash) => write_hash(hash, style, out),
        Value::Set(set) => write_set(set, style, out),
        Value::Zset(zset) => write_zset(zset, style, out),
        Value::Stream(value) => stream::write(value, style, out),
    }
}

/// Appends a length or a count.
pub fn write_length(length: u64, out: &mut Vec<u8>) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&[0x40 | (length >> 8) as u8, length as u8]),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a string, in the short form if it spells a small integer.
pub fn write_string(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let short = bytes.len() <= INT_TEXT_BYTES_MAX;
    match canonical_int(bytes).filter(|_| short) {
        Some(n) => write_int(n, out),
        None => write_block(bytes, style, out),
    }
}

/// Appends a string that is no integer, compressed if that is wanted and makes it shorter.
pub(super) fn write_block(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    if style.compress
        && bytes.len() >= COMPRESSED_BYTES_MIN
        && let Some(packed) = lzf::compress(bytes)
    {
        out.push(0xc3);
        write_length(packed.len() as u64, out);
        write_length(bytes.len() as u64, out);
        return out.extend_from_slice(&packed);
    }
    write_bytes(bytes, out);
}

pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn write_int(n: i64, out: &mut Vec<u8>) {
    if let Ok(n) = i8::try_from(n) {
        out.push(0xc0);
        out.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i16::try_from(n) {
        out.push(0xc1);
        out.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i32::try_from(n) {
        out.push(0xc2);
        out.extend_from_slice(&n.to_le_bytes());
    } else {
        write_bytes(itoa::Buffer::new().format(n).as_bytes(), out);
    }
}

fn write_list(list: &List, style: Style, out: &mut Vec<u8>) {
    if style.is_plain() {
        write_length(list.len() as u64, out);
        return list
            .iter()
            .for_each(|element| write_string(element, style, out));
    }
    // The number of nodes stands before them.
    let (mut nodes, mut count) = (Vec::new(), 0);
    let mut node = Builder::new();
    let mut close = |node: Builder| {
        write_length(NODE_PACKED, &mut nodes);
        write_block(&node.finish(), style, &mut nodes);
        count += 1;
    };
    for element in list.iter() {
        if !node.is_empty() && node.len() + element.len() > NODE_BYTES {
            close(core::mem::replace(&mut node, Builder::new()));
        }
        node.push(element);
    }
    close(node);
    write_length(count, out);
    out.extend_from_slice(&nodes);
}

fn write_hash(hash: &Hash, style: Style, out: &mut Vec<u8>) {
    if let Some(first_ms) = style.first_deadline_ms(hash) {
        return write_hash_with_deadlines(hash, first_ms, style, out);
    }
    if matches!(hash.encoding(), "listpack" | "listpackex") && !style.is_plain() {
        let mut block = Builder::new();
        for (field, value) in hash.iter() {
            block.push(field);
            block.push(value);
        }
        return write_block(&block.finish(), style, out);
    }
    write_length(hash.len() as u64, out);
    for (field, value) in hash.iter() {
        write_string(field, style, out);
        write_string(value, style, out);
    }
}

/// The earliest deadline, then the pairs: in a listpack each with its deadline behind it or 0, those with one first, in their
/// order; else each behind how much later than the earliest its deadline is, and 1; 0 without one.
fn write_hash_with_deadlines(hash: &Hash, first_ms: u64, style: Style, out: &mut Vec<u8>) {
    out.extend_from_slice(&first_ms.to_le_bytes());
    if hash.encoding() == "listpackex" {
        let mut block = Builder::new();
        let mut push = |field: &[u8], value: &[u8], at_ms: u64| {
            block.push(field);
            block.push(value);
            block.push_int(at_ms.cast_signed());
        };
        for (field, at_ms) in hash.deadlines() {
            push(field, hash.get(field).unwrap_or_default(), at_ms);
        }
        for (field, value) in hash.iter() {
            if hash.deadline_ms(field).is_none() {
                push(field, value, 0);
            }
        }
        return write_block(&block.finish(), style, out);
    }
    write_length(hash.len() as u64, out);
    for (field, value) in hash.iter() {
        let at_ms = hash.deadline_ms(field);
        write_length(at_ms.map_or(0, |at_ms| at_ms - first_ms + 1), out);
        write_string(field, style, out);
        write_string(value, style, out);
    }
}

fn write_set(set: &Set, style: Style, out: &mut Vec<u8>) {
    if set.encoding() == "intset" {
        return write_ints(set, out);
    }
    write_length(set.len() as u64, out);
    for member in set.iter() {
        write_string(&member, style, out);
    }
}

/// An intset: as wide as its widest member.
fn write_ints(set: &Set, out: &mut Vec<u8>) {
    let int = |member: Member<'_>| canonical_int(&member).unwrap_or(0);
    let mut ints: Vec<i64> = set.iter().map(int).collect();
    ints.sort_unstable();
    let ends = ints.first().zip(ints.last());
    let fits =
        |bits: u32| ends.is_some_and(|(low, high)| *low >= -(1i64 << bits) && *high < 1i64 << bits);
    let width = if fits(15) {
        2
    } else if fits(31) {
        4
    } else {
        8
    };
    write_length((8 + ints.len() * width) as u64, out);
    out.extend_from_slice(&(width as u32).to_le_bytes());
    out.extend_from_slice(&(ints.len() as u32).to_le_bytes());
    for n in ints {
        out.extend_from_slice(&n.to_le_bytes()[..width]);
    }
}

fn write_zset(zset: &Zset, style: Style, out: &mut Vec<u8>) {
    if zset.encoding() == "listpack" && !style.is_plain() {
        let mut block = Builder::new();
        for (member, score) in zset.iter() {
            block.push(member);
            push_score(&mut block, score);
        }
        return write_block(&block.finish(), style, out);
    }
    write_length(zset.len() as u64, out);
    for (member, score) in zset.iter() {
        write_string(member, style, out);
        out.extend_from_slice(&score.to_le_bytes());
    }
}

/// A score as text that reads as the same number.
fn push_score(block: &mut Builder, score: f64) {
    /// Integers up to here are exact in a double.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if score.abs() <= EXACT_MAX
        && score.trunc() == score
        && !(score == 0.0 && score.is_sign_negative())
    {
        block.push_int(score as i64);
    } else {
        block.push(format!("{score:e}").as_bytes());
    }
}
