//! Whole values as bytes: what PUT_VALUE carries, and what a value's copy elsewhere is made from.

use crate::Limits;
use crate::effect::Corrupt;
use crate::stream_effect::words_of;
use crate::value::stream::{Group, STREAM_NODE_BYTES_MAX, Stream, StreamId};
use crate::value::{Added, Hash, List, OwnedValue, Set, Side, Zset};
use crate::wire::{Reader, Writer};

/// Appends a whole value: type u8 (0 int, 1 string, 2 list, 3 hash, 4 set, 5 zset, 6 string that reports "raw",
/// 7 stream, 60 hash with deadlines of fields behind it), then its parts.
pub fn write_value(value: &OwnedValue, out: &mut Vec<u8>) {
    let mut to = Writer { out };
    match value {
        OwnedValue::Int(n) => {
            to.out.push(0);
            to.out.extend_from_slice(&n.to_le_bytes());
        }
        OwnedValue::String(bytes) => {
            to.out.push(1);
            to.bytes(bytes);
        }
        OwnedValue::Raw(bytes) => {
            to.out.push(6);
            to.bytes(bytes);
        }
        OwnedValue::List(list) => {
            to.out.push(2);
            to.number(list.len() as u64);
            list.iter().for_each(|element| to.bytes(element));
        }
        OwnedValue::Hash(hash) => {
            let expires = hash.first_deadline_ms().is_some();
            to.out.push(if expires { 60 } else { 3 });
            to.number(hash.len() as u64);
            for (field, value) in hash.iter() {
                to.bytes(field);
                to.bytes(value);
            }
            if expires {
                to.number(hash.deadlines().count() as u64);
                for (field, at_ms) in hash.deadlines() {
                    to.bytes(field);
                    to.out.extend_from_slice(&at_ms.to_le_bytes());
                }
            }
        }
        OwnedValue::Set(set) => {
            to.out.push(4);
            to.number(set.len() as u64);
            set.iter().for_each(|member| to.bytes(&member));
        }
        OwnedValue::Zset(zset) => {
            to.out.push(5);
            to.number(zset.len() as u64);
            for (member, score) in zset.iter_from(0) {
                to.bytes(member);
                to.out.extend_from_slice(&score.to_bits().to_le_bytes());
            }
        }
        OwnedValue::Stream(stream) => {
            to.out.push(7);
            write_stream(stream, &mut to);
        }
    }
}

/// A stream: last id, highest deleted id, entries ever added; number of entries, each an id and its words as
/// bytes; number of groups, each as `write_group` does.
fn write_stream(stream: &Stream, to: &mut Writer<'_>) {
    to.id(stream.last_id());
    to.id(stream.max_deleted_id());
    to.number(stream.entries_added());
    to.number(stream.len() as u64);
    let mut words = Vec::new();
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        to.id(entry.id);
        words.clear();
        for (field, value) in entry.pairs() {
            let mut to = Writer { out: &mut words };
            to.bytes(field);
            to.bytes(value);
        }
        to.bytes(&words);
    }
    to.number(stream.groups().len() as u64);
    stream.groups().for_each(|group| write_group(group, to));
}

/// A group: name, last id, entries read; number of consumers, each a name and its two times; number of pending
/// entries, each an id, the consumer's name, its time and count.
fn write_group(group: &Group, to: &mut Writer<'_>) {
    to.bytes(group.name());
    to.id(group.last_id());
    to.optional(group.entries_read());
    to.number(group.consumers_len() as u64);
    for consumer in group.consumers() {
        to.bytes(consumer.name());
        to.number(consumer.seen_ms);
        to.optional(consumer.active_ms);
    }
    to.number(group.pending_len() as u64);
    for (id, pending) in group.pending_from(StreamId::MIN) {
        to.id(id);
        to.bytes(group.consumer_of(pending));
        to.number(pending.delivered_ms);
        to.number(pending.count);
    }
}

fn read_stream(from: &mut Reader<'_>, limits: &Limits) -> Result<Stream, Corrupt> {
    let (last, max_deleted, added) = (from.id()?, from.id()?, from.number()?);
    let mut stream = Stream::new();
    stream.make();
    for _ in 0..from.number()? {
        let (id, bytes) = (from.id()?, from.bytes()?);
        let words = words_of(bytes)?;
        let fits =
            bytes.len() as u64 <= STREAM_NODE_BYTES_MAX + 10 * words.len() as u64 && id <= last;
        if !fits || !stream.add(id, words.iter().copied(), limits) {
            return Err(Corrupt);
        }
    }
    stream.set_ids(last, added, max_deleted);
    for _ in 0..from.number()? {
        read_group(from, &mut stream)?;
    }
    Ok(stream)
}

fn read_group(from: &mut Reader<'_>, stream: &mut Stream) -> Result<(), Corrupt> {
    let (name, last, read) = (from.bytes()?, from.id()?, from.optional()?);
    if !stream.put_group(name, last, read) {
        return Err(Corrupt);
    }
    let fill = |group: &mut Group| {
        for _ in 0..from.number()? {
            let (name, seen_ms, active) = (from.bytes()?, from.number()?, from.optional()?);
            if !group.put_consumer(name, seen_ms, active) {
                return Err(Corrupt);
            }
        }
        for _ in 0..from.number()? {
            let (id, consumer) = (from.id()?, from.bytes()?);
            let (delivered_ms, count) = (from.number()?, from.number()?);
            if group.pending(id).is_some() || !group.put_pending(consumer, id, delivered_ms, count)
            {
                return Err(Corrupt);
            }
        }
        Ok(())
    };
    stream.with_group(name, fill).unwrap_or(Err(Corrupt))
}

/// Reads a whole value; the inverse of [`write_value`]. Counts are believed only as far as there are
/// bytes, and an element that comes twice makes the value corrupt.
///
/// # Errors
/// [`Corrupt`] for bytes that `write_value` cannot have written.
pub fn read_value(input: &[u8], limits: &Limits) -> Result<OwnedValue, Corrupt> {
    let mut from = Reader { input };
    let value = match from.byte()? {
        0 => OwnedValue::Int(from.word()?.cast_signed()),
        1 => OwnedValue::String(from.bytes()?.to_vec()),
        6 => OwnedValue::Raw(from.bytes()?.to_vec()),
        2 => {
            let mut list = Box::new(List::new());
            for _ in 0..from.number()? {
                list.push(Side::Right, from.bytes()?, limits);
            }
            OwnedValue::List(list)
        }
        kind @ (3 | 60) => {
            let mut hash = Box::new(Hash::new());
            for _ in 0..from.number()? {
                let (field, value) = (from.bytes()?, from.bytes()?);
                if !hash.set(field, value, limits) {
                    return Err(Corrupt);
                }
            }
            if kind == 60 {
                for _ in 0..from.number()? {
                    let (field, at_ms) = (from.bytes()?, from.word()?);
                    if at_ms > Hash::DEADLINE_MS_MAX || !hash.set_deadline(field, Some(at_ms)) {
                        return Err(Corrupt);
                    }
                }
            }
            OwnedValue::Hash(hash)
        }
        4 => {
            let mut set = Box::new(Set::new());
            for _ in 0..from.number()? {
                if !set.add(from.bytes()?, limits) {
                    return Err(Corrupt);
                }
            }
            OwnedValue::Set(set)
        }
        5 => {
            let mut zset = Box::new(Zset::new());
            for _ in 0..from.number()? {
                let (member, score) = (from.bytes()?, from.score()?);
                if zset.add(member, score, limits) != Added::New {
                    return Err(Corrupt);
                }
            }
            OwnedValue::Zset(zset)
        }
        7 => OwnedValue::Stream(Box::new(read_stream(&mut from, limits)?)),
        _ => return Err(Corrupt),
    };
    if from.input.is_empty() {
        Ok(value)
    } else {
        Err(Corrupt)
    }
}
