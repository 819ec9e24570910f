//! Bytes to values.

use crate::Limits;
use crate::rdb::listpack::{self, Element};
use crate::rdb::reader::parse_score;
use crate::rdb::{Fault, Reader, kind, stream, ziplist};
use crate::value::{Added, Hash, List, OwnedValue, Set, Side, Zset};
use crate::view::canonical_int;

/// What is read of a value may be so long for room to be made for all of it at once, bytes.
const ROOM_BYTES_MAX: usize = 4096;
/// Mark of a list's node that is one plain element.
const NODE_PLAIN: u64 = 1;
/// Mark of a list's node that is a listpack.
const NODE_PACKED: u64 = 2;

/// Reads a value of the type that stood before it. The reader is behind it then.
///
/// # Errors
/// [`Fault::Format`], also for an empty collection.
pub fn read_body(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<OwnedValue, Fault> {
    read_any(kind, reader, limits)?.ok_or(Fault::Format)
}

/// As [`read_body`]; None for an empty collection.
pub(super) fn read_any(
    kind: u8,
    reader: &mut Reader<'_>,
    limits: &Limits,
) -> Result<Option<OwnedValue>, Fault> {
    let value = match kind {
        kind::STRING => {
            let text = reader.string()?.into_owned();
            canonical_int(&text).map_or(OwnedValue::String(text), OwnedValue::Int)
        }
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_ZIPLISTS | kind::LIST_LISTPACKS => {
            OwnedValue::List(Box::new(list(kind, reader, limits)?))
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => {
            OwnedValue::Set(Box::new(set(kind, reader, limits)?))
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            OwnedValue::Hash(Box::new(hash(kind, reader, limits)?))
        }
        kind::HASH_DEADLINES
        | kind::HASH_LISTPACK_DEADLINES
        | kind::HASH_DEADLINES_EARLY
        | kind::HASH_LISTPACK_DEADLINES_EARLY => {
            OwnedValue::Hash(Box::new(hash_with_deadlines(kind, reader, limits)?))
        }
        kind::ZSET | kind::ZSET_TEXT | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            OwnedValue::Zset(Box::new(zset(kind, reader, limits)?))
        }
        kind::STREAM_1 | kind::STREAM_2 | kind::STREAM_3 => {
            OwnedValue::Stream(Box::new(stream::read(kind, reader, limits)?))
        }
        _ => return Err(Fault::Format),
    };
    Ok(Some(value).filter(|value| !value.is_empty_collection()))
}

fn list(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<List, Fault> {
    let mut list = List::with_room(room_of(reader.rest().len()));
    let mut push = |element: Element<'_>| {
        element.with(|bytes| list.push(Side::Right, bytes, limits));
        Ok(())
    };
    match kind {
        kind::LIST => {
            for _ in 0..reader.length()? {
                push(Element::Bytes(&reader.string()?))?;
            }
        }
        kind::LIST_ZIPLIST => ziplist::walk(&reader.string()?, push)?,
        kind::LIST_ZIPLISTS => {
            for _ in 0..reader.length()? {
                ziplist::walk(&reader.string()?, &mut push)?;
            }
        }
        _ => {
            for _ in 0..reader.length()? {
                match (reader.length()?, reader.string()?) {
                    (NODE_PLAIN, element) => push(Element::Bytes(&element))?,
                    (NODE_PACKED, block) => listpack::walk(&block, &mut push)?,
                    _ => return Err(Fault::Format),
                }
            }
        }
    }
    list.fit();
    Ok(list)
}

fn set(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Set, Fault> {
    let mut set = Set::new();
    let mut add = |member: Element<'_>| {
        let new = member.with(|member| set.add(member, limits));
        new.then_some(()).ok_or(Fault::Format)
    };
    match kind {
        kind::SET => {
            for _ in 0..reader.length()? {
                add(Element::Bytes(&reader.string()?))?;
            }
        }
        kind::SET_INTSET => ziplist::walk_ints(&reader.string()?, |n| add(Element::Int(n)))?,
        _ => listpack::walk(&reader.string()?, add)?,
    }
    Ok(set)
}

/// Calls `show` with pairs of elements that come one by one.
struct Pairs<F> {
    first: Vec<u8>,
    waits: bool,
    show: F,
}

impl<F: FnMut(&[u8], Element<'_>) -> Result<(), Fault>> Pairs<F> {
    fn new(show: F) -> Self {
        Self {
            first: Vec::new(),
            waits: false,
            show,
        }
    }

    fn take(&mut self, element: Element<'_>) -> Result<(), Fault> {
        self.waits = !self.waits;
        if !self.waits {
            return (self.show)(&self.first, element);
        }
        self.first.clear();
        element.with(|bytes| self.first.extend_from_slice(bytes));
        Ok(())
    }

    /// Every element had its other.
    fn end(self) -> Result<(), Fault> {
        (!self.waits).then_some(()).ok_or(Fault::Format)
    }
}

/// Room for the elements of a packed block of so many bytes, so that the value need not grow for each; not more than a small value
/// may take.
fn room_of(block_bytes: usize) -> usize {
    if block_bytes <= ROOM_BYTES_MAX {
        block_bytes
    } else {
        0
    }
}

fn hash(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Hash, Fault> {
    let mut hash = Hash::with_room(room_of(reader.rest().len()));
    let mut set = |field: &[u8], value: &[u8]| {
        let new = hash.set(field, value, limits);
        new.then_some(()).ok_or(Fault::Format)
    };
    match kind {
        kind::HASH => {
            for _ in 0..reader.length()? {
                let (field, value) = (reader.string()?, reader.string()?);
                set(&field, &value)?;
            }
        }
        kind::HASH_ZIPMAP => ziplist::walk_map(&reader.string()?, set)?,
        _ => {
            let mut pairs = Pairs::new(|field, value| value.with(|value| set(field, value)));
            walk_packed(kind == kind::HASH_ZIPLIST, &reader.string()?, |element| {
                pairs.take(element)
            })?;
            pairs.end()?;
        }
    }
    hash.fit();
    Ok(hash)
}

/// Sets a new field with its deadline; 0 for none.
fn set_until(
    hash: &mut Hash,
    (field, value): (&[u8], &[u8]),
    at_ms: u64,
    limits: &Limits,
) -> Result<(), Fault> {
    if !hash.set(field, value, limits) || at_ms > Hash::DEADLINE_MS_MAX {
        return Err(Fault::Format);
    }
    hash.set_deadline(field, Some(at_ms).filter(|at_ms| *at_ms > 0));
    Ok(())
}

fn hash_with_deadlines(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Hash, Fault> {
    let mut hash = Hash::new();
    let first_ms = match kind {
        kind::HASH_DEADLINES | kind::HASH_LISTPACK_DEADLINES => u64::from_le_bytes(reader.array()?),
        _ => 0,
    };
    if matches!(kind, kind::HASH_DEADLINES | kind::HASH_DEADLINES_EARLY) {
        for _ in 0..reader.length()? {
            let at_ms = match reader.length()? {
                0 => 0,
                later if kind == kind::HASH_DEADLINES => {
                    first_ms.checked_add(later - 1).ok_or(Fault::Format)?
                }
                at_ms => at_ms,
            };
            let (field, value) = (reader.string()?, reader.string()?);
            set_until(&mut hash, (&field, &value), at_ms, limits)?;
        }
        return Ok(hash);
    }
    // The earliest deadline says nothing here: each pair has its own whole.
    let (mut parts, block) = (Vec::with_capacity(2), reader.string()?);
    listpack::walk(&block, |element| {
        if parts.len() < 2 {
            parts.push(element.with(<[u8]>::to_vec));
            return Ok(());
        }
        let Element::Int(at_ms) = element else {
            return Err(Fault::Format);
        };
        let at_ms = u64::try_from(at_ms).map_err(|_| Fault::Format)?;
        set_until(&mut hash, (&parts[0], &parts[1]), at_ms, limits)?;
        parts.clear();
        Ok(())
    })?;
    if parts.is_empty() {
        Ok(hash)
    } else {
        Err(Fault::Format)
    }
}

/// As [`read_body`], for a hash of Valkey: pairs, each with its deadline behind it, -1 for none.
pub(super) fn read_hash_of_valkey(
    reader: &mut Reader<'_>,
    limits: &Limits,
) -> Result<OwnedValue, Fault> {
    let mut hash = Hash::new();
    for _ in 0..reader.length()? {
        let (field, value) = (reader.string()?, reader.string()?);
        let at_ms = match i64::from_le_bytes(reader.array()?) {
            -1 => 0,
            // A deadline at the beginning of time has passed as much as one right after it.
            at_ms => u64::try_from(at_ms).map_err(|_| Fault::Format)?.max(1),
        };
        set_until(&mut hash, (&field, &value), at_ms, limits)?;
    }
    if hash.is_empty() {
        return Err(Fault::Format);
    }
    Ok(OwnedValue::Hash(Box::new(hash)))
}

fn zset(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Zset, Fault> {
    // (A score takes eight bytes here, and one or two where it is a small integer.)
    let mut zset = Zset::with_room(room_of(2 * reader.rest().len()));
    let mut add = |member: &[u8], score: f64| match zset.add(member, score, limits) {
        Added::New => Ok(()),
        _ => Err(Fault::Format),
    };
    match kind {
        kind::ZSET | kind::ZSET_TEXT => {
            for _ in 0..reader.length()? {
                let member = reader.string()?;
                let score = if kind == kind::ZSET {
                    reader.score()?
                } else {
                    reader.text_score()?
                };
                add(&member, score)?;
            }
        }
        _ => {
            let mut pairs = Pairs::new(|member, score| {
                let score = match score {
                    Element::Int(n) => n as f64,
                    Element::Bytes(text) => parse_score(text)?,
                };
                add(member, score)
            });
            walk_packed(kind == kind::ZSET_ZIPLIST, &reader.string()?, |element| {
                pairs.take(element)
            })?;
            pairs.end()?;
        }
    }
    zset.fit();
    Ok(zset)
}

fn walk_packed(
    is_ziplist: bool,
    block: &[u8],
    show: impl FnMut(Element<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if is_ziplist {
        ziplist::walk(block, show)
    } else {
        listpack::walk(block, show)
    }
}
