//! Streams to bytes and back.
//!
//! ```text
//! nodes: count, each its id as a string (16 bytes BE) and a listpack | entries | last id
//!   | first id, highest deleted id, entries added (not in type 15) | groups: count, each
//! group: name | last id | entries read (not in 15) | pending: count, each id (16 bytes BE), time i64 LE, deliveries
//!   | consumers: count, each name, seen i64 LE, active i64 LE (type 21), pending: count, each id
//! listpack: entries, removed ones, fields, field..., 0, then entries:
//!   flags (1 removed, 2 same fields) | ms and seq behind the node's | [fields, field value... | value...] | elements so far
//! ```
//! Type 19 is written, which Redis 7.0 reads; 15 and 21 on request.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Limits;
use crate::rdb::encode::{Style, write_block, write_bytes, write_length};
use crate::rdb::listpack::{self, Builder, Element};
use crate::rdb::{Fault, Reader, kind};
use crate::value::stream::{Group, Stream, StreamId};

/// Entries of a listpack that is written, and bytes after which it is closed.
const NODE_ENTRIES: usize = 100;
const NODE_BYTES: usize = 4096;
const REMOVED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// "Not known" of entries read, "never" of a time.
const NONE: u64 = u64::MAX;

// ---- writing --------------------------------------------------------------------------------

fn write_id(id: StreamId, out: &mut Vec<u8>) {
    write_length(id.ms, out);
    write_length(id.seq, out);
}

fn raw_id(id: StreamId) -> [u8; 16] {
    let wide = u128::from(id.ms) << 64 | u128::from(id.seq);
    wide.to_be_bytes()
}

pub(super) fn write(stream: &Stream, style: Style, out: &mut Vec<u8>) {
    let (mut nodes, mut count) = (Vec::new(), 0);
    let mut all = stream.range(StreamId::MIN, StreamId::MAX).peekable();
    while all.peek().is_some() {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = all.next_if(|_| entries.len() < NODE_ENTRIES && bytes < NODE_BYTES)
        {
            let pairs: Vec<_> = entry.pairs().collect();
            let words = pairs.iter().map(|(field, value)| field.len() + value.len());
            bytes += words.sum::<usize>();
            entries.push((entry.id, pairs));
        }
        write_node(&entries, style, &mut nodes);
        count += 1;
    }
    write_length(count, out);
    out.extend_from_slice(&nodes);
    write_end(stream, style, out);
}

/// Appends what stands behind a stream's nodes.
pub(crate) fn write_end(stream: &Stream, style: Style, out: &mut Vec<u8>) {
    write_length(stream.len() as u64, out);
    write_id(stream.last_id(), out);
    if style.version >= 10 {
        write_id(stream.first_id(), out);
        write_id(stream.max_deleted_id(), out);
        write_length(stream.entries_added(), out);
    }
    write_length(stream.groups().len() as u64, out);
    let groups = stream.groups();
    groups.for_each(|group| write_group(group, style, out));
}

/// An entry: its id, its fields with their values.
pub(crate) type Flat<'a> = (StreamId, Vec<(&'a [u8], &'a [u8])>);

/// Appends a node of these entries.
pub(crate) fn write_node(entries: &[Flat<'_>], style: Style, out: &mut Vec<u8>) {
    let Some((first, pairs)) = entries.first() else {
        return;
    };
    let mut block = Builder::new();
    let fields: Vec<&[u8]> = pairs.iter().map(|(field, _)| *field).collect();
    block.push_int(entries.len() as i64);
    block.push_int(0);
    block.push_int(fields.len() as i64);
    fields.iter().for_each(|field| block.push(field));
    block.push_int(0);
    for (id, pairs) in entries {
        let own = pairs.iter().map(|(field, _)| *field);
        let same = own.eq(fields.iter().copied());
        block.push_int(if same { SAME_FIELDS } else { 0 });
        block.push_int(id.ms.wrapping_sub(first.ms).cast_signed());
        block.push_int(id.seq.wrapping_sub(first.seq).cast_signed());
        let len = pairs.len() as i64;
        if !same {
            block.push_int(len);
        }
        for (field, value) in pairs {
            if !same {
                block.push(field);
            }
            block.push(value);
        }
        block.push_int(if same { len + 3 } else { 2 * len + 4 });
    }
    write_bytes(&raw_id(*first), out);
    write_block(&block.finish(), style, out);
}

fn write_group(group: &Group, style: Style, out: &mut Vec<u8>) {
    write_bytes(group.name(), out);
    write_id(group.last_id(), out);
    if style.version >= 10 {
        write_length(group.entries_read().unwrap_or(NONE), out);
    }
    write_length(group.pending_len() as u64, out);
    for (id, pending) in group.pending_from(StreamId::MIN) {
        out.extend_from_slice(&raw_id(id));
        out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
        write_length(pending.count, out);
    }
    write_length(group.consumers_len() as u64, out);
    for consumer in group.consumers() {
        write_bytes(consumer.name(), out);
        out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
        if style.version >= 11 {
            out.extend_from_slice(&consumer.active_ms.unwrap_or(NONE).to_le_bytes());
        }
        write_length(consumer.pending_len() as u64, out);
        for (id, _) in group.pending_with(consumer, StreamId::MIN) {
            out.extend_from_slice(&raw_id(id));
        }
    }
}

// ---- reading --------------------------------------------------------------------------------

fn read_id(reader: &mut Reader<'_>) -> Result<StreamId, Fault> {
    Ok(StreamId::new(reader.length()?, reader.length()?))
}

fn read_raw_id(bytes: [u8; 16]) -> StreamId {
    let wide = u128::from_be_bytes(bytes);
    StreamId::new((wide >> 64) as u64, wide as u64)
}

/// A time in ms; one before 1970 is none.
fn read_time(reader: &mut Reader<'_>) -> Result<Option<u64>, Fault> {
    Ok(u64::try_from(i64::from_le_bytes(reader.array()?)).ok())
}

fn ensure(holds: bool) -> Result<(), Fault> {
    holds.then_some(()).ok_or(Fault::Format)
}

pub(super) fn read(kind: u8, reader: &mut Reader<'_>, limits: &Limits) -> Result<Stream, Fault> {
    let mut stream = Stream::new();
    stream.make();
    for _ in 0..reader.length()? {
        let id = reader.string()?;
        let id = <[u8; 16]>::try_from(&*id).map_err(|_| Fault::Format)?;
        read_node(read_raw_id(id), &reader.string()?, &mut stream, limits)?;
    }
    let (len, last) = (reader.length()?, read_id(reader)?);
    ensure(len == stream.len() as u64 && stream.last_id() <= last)?;
    let (mut max_deleted, mut added) = (StreamId::MIN, len);
    if kind != kind::STREAM_1 {
        read_id(reader)?;
        max_deleted = read_id(reader)?;
        added = reader.length()?;
    }
    stream.set_ids(last, added, max_deleted);
    for _ in 0..reader.length()? {
        read_group(kind, reader, &mut stream)?;
    }
    Ok(stream)
}

/// Elements of a node, taken from the front.
struct Elements<'a>(std::vec::IntoIter<Element<'a>>);

impl<'a> Elements<'a> {
    fn int(&mut self) -> Result<i64, Fault> {
        match self.0.next() {
            Some(Element::Int(n)) => Ok(n),
            _ => Err(Fault::Format),
        }
    }

    fn word(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        match self.0.next() {
            Some(Element::Bytes(bytes)) => Ok(Cow::Borrowed(bytes)),
            Some(Element::Int(n)) => {
                let text = itoa::Buffer::new().format(n).as_bytes().to_vec();
                Ok(Cow::Owned(text))
            }
            None => Err(Fault::Format),
        }
    }

    /// A number of pairs, of which each has at least one element.
    fn count(&mut self) -> Result<usize, Fault> {
        let count = usize::try_from(self.int()?).map_err(|_| Fault::Format)?;
        ensure(count > 0 && count <= self.0.len())?;
        Ok(count)
    }
}

fn read_node(
    own: StreamId,
    block: &[u8],
    stream: &mut Stream,
    limits: &Limits,
) -> Result<(), Fault> {
    let mut elements = Vec::new();
    listpack::walk(block, |element| {
        elements.push(element);
        Ok(())
    })?;
    let mut elements = Elements(elements.into_iter());
    let (live, removed) = (elements.int()?, elements.int()?);
    let count = elements.count()?;
    let fields: Vec<_> = (0..count)
        .map(|_| elements.word())
        .collect::<Result<_, _>>()?;
    ensure(elements.int()? == 0)?;
    let mut seen = (0, 0);
    while elements.0.len() > 0 {
        let flags = elements.int()?;
        let (ms, seq) = (elements.int()?, elements.int()?);
        let id = StreamId::new(
            own.ms.wrapping_add_signed(ms),
            own.seq.wrapping_add_signed(seq),
        );
        let same = flags & SAME_FIELDS != 0;
        let pairs = if same { count } else { elements.count()? };
        let mut words = Vec::with_capacity(pairs.min(elements.0.len()) * 2);
        let mut known = fields.iter().filter(|_| same);
        for _ in 0..pairs {
            let field = match known.next() {
                Some(field) => field.clone(),
                None => elements.word()?,
            };
            words.push(field);
            words.push(elements.word()?);
        }
        let pairs = pairs as i64;
        ensure(elements.int()? == if same { pairs + 3 } else { 2 * pairs + 4 })?;
        if flags & REMOVED != 0 {
            seen.1 += 1;
            continue;
        }
        seen.0 += 1;
        ensure(stream.add(id, words.iter().map(|word| &**word), limits))?;
    }
    ensure(seen == (live, removed))
}

fn read_group(kind: u8, reader: &mut Reader<'_>, stream: &mut Stream) -> Result<(), Fault> {
    let (name, last) = (reader.string()?, read_id(reader)?);
    let read = if kind == kind::STREAM_1 {
        stream.entries_until(last)
    } else {
        Some(reader.length()?).filter(|read| *read != NONE)
    };
    ensure(stream.put_group(&name, last, read))?;
    let mut pending = BTreeMap::new();
    for _ in 0..reader.length()? {
        let id = read_raw_id(reader.array()?);
        let (time, count) = (read_time(reader)?, reader.length()?);
        ensure(pending.insert(id, (time.unwrap_or(0), count)).is_none())?;
    }
    let fill = |group: &mut Group| read_consumers(kind, reader, group, &mut pending);
    stream
        .with_group(&name, fill)
        .unwrap_or(Err(Fault::Format))?;
    // Each pending entry has a consumer.
    ensure(pending.is_empty())
}

fn read_consumers(
    kind: u8,
    reader: &mut Reader<'_>,
    group: &mut Group,
    pending: &mut BTreeMap<StreamId, (u64, u64)>,
) -> Result<(), Fault> {
    for _ in 0..reader.length()? {
        let (name, seen) = (reader.string()?, read_time(reader)?);
        let active = if kind == kind::STREAM_3 {
            read_time(reader)?
        } else {
            seen
        };
        ensure(group.put_consumer(&name, seen.unwrap_or(0), active))?;
        for _ in 0..reader.length()? {
            let id = read_raw_id(reader.array()?);
            let (time, count) = pending.remove(&id).ok_or(Fault::Format)?;
            group.put_pending(&name, id, time, count);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::{dump, restore};
    use crate::value::OwnedValue;
    use crate::view::Value;

    #[test]
    fn a_stream_with_its_groups_survives() {
        let limits = Limits::default();
        let mut stream = Stream::new();
        stream.make();
        for n in 0..250u64 {
            let value = n.to_string();
            let words = [&b"f"[..], value.as_bytes(), b"12", b"-5"];
            let words = &words[..if n % 7 == 0 { 4 } else { 2 }];
            stream.add(
                StreamId::new(5 + n / 9, n % 9),
                words.iter().copied(),
                &limits,
            );
        }
        stream.remove(StreamId::new(6, 3));
        for (group, read) in [(&b"g"[..], Some(7)), (b"", None)] {
            stream.put_group(group, StreamId::new(7, 1), read);
            stream.with_group(group, |group| {
                // Type 19 has no time of activity: it is that at which it was seen.
                group.put_consumer(b"alice", 70, Some(70));
                group.put_consumer(b"bob", 80, Some(80));
                for n in 0..20 {
                    let name = if n % 3 == 0 { &b"alice"[..] } else { b"bob" };
                    group.put_pending(name, StreamId::new(5, n), n, n + 1);
                }
            });
        }
        let payload = dump(Value::Stream(&stream));
        let read = restore(&payload, &limits).unwrap();
        assert_eq!(read, OwnedValue::Stream(Box::new(stream)));
        let mut empty = Stream::new();
        empty.make();
        let payload = dump(Value::Stream(&empty));
        assert_eq!(
            restore(&payload, &limits),
            Ok(OwnedValue::Stream(Box::new(empty)))
        );
    }
}
