//! Hot path. A node of a stream: some KiB of entries in one packed block.
//!
//! ```text
//! block   = record 0: the fields of the first entry | a record per entry | slack        packed.rs
//! fields  = word word ...                   word: varint length, bytes
//! entry   = flags u8 | varint ms | varint seq | value value ...              flags 1: its fields are those of record 0
//!                                             | field value field value ...  flags 0
//! ```
//! `ms` counts from the node's id; `seq` from its sequence when `ms` is 0, else from 0. An entry of two short values in
//! the usual fields takes about ten bytes beside them.
//!
//! A removed entry leaves nothing behind, but is still counted where Redis counts it: when a node is full, and what its last id
//! is. So that nodes begin where Redis's do, and `XTRIM MAXLEN ~` removes as much, a node also knows how long Redis's block
//! would be.

use crate::packed::{Packed, Records, record_bytes, varint_bytes, write_varint};
use crate::value::chunk::{int_bytes, listpack_bytes};
use crate::value::stream::id::StreamId;

/// Bytes around the elements of Redis's block.
const LISTPACK_FRAME_BYTES: u64 = 7;
/// The entry's fields are those of record 0.
const SAME_FIELDS: u8 = 1;

/// Entries in a block; see the module's head. Its own id is its key in the stream's map.
#[derive(Clone)]
pub(crate) struct Node {
    /// The last id that was ever here.
    pub(super) last: StreamId,
    /// Entries.
    pub(super) live: u32,
    /// Entries that have been removed.
    gone: u32,
    /// Bytes of Redis's block beside its two counters.
    listpack: u64,
    block: Packed<true>,
}

/// An entry of a stream.
#[derive(Clone)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Fields, when `words` are only values.
    fields: Option<Records<'a, false>>,
    words: Records<'a, false>,
}

impl<'a> Entry<'a> {
    /// Number of pairs.
    pub fn len(&self) -> usize {
        match &self.fields {
            Some(fields) => fields.clone().count(),
            None => self.words.clone().count() / 2,
        }
    }

    /// Whether it has no pair: no entry is so.
    pub fn is_empty(&self) -> bool {
        self.words.left() == 0
    }

    /// Fields and values, in order.
    pub fn pairs(&self) -> Pairs<'a> {
        Pairs(self.clone())
    }
}

/// Fields and values of an entry.
#[derive(Clone)]
pub struct Pairs<'a>(Entry<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let field = match &mut self.0.fields {
            Some(fields) => fields.next()?,
            None => self.0.words.next()?,
        };
        Some((field, self.0.words.next()?))
    }
}

/// Appends a word as records have them.
pub(super) fn write_word(out: &mut Vec<u8>, word: &[u8]) {
    write_number(out, word.len() as u64);
    out.extend_from_slice(word);
}

fn write_number(out: &mut Vec<u8>, n: u64) {
    let at = out.len();
    out.resize(at + varint_bytes(n as usize), 0);
    write_varint(&mut out[at..], n as usize);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

impl Node {
    /// A node that begins with an entry of these fields and values, put into it next.
    pub(super) fn new<'w>(id: StreamId, words: impl Iterator<Item = &'w [u8]>) -> Node {
        let (mut fields, mut listpack, mut count) = (Vec::new(), LISTPACK_FRAME_BYTES, 0);
        for field in words.step_by(2) {
            write_word(&mut fields, field);
            listpack += listpack_bytes(field) as u64;
            count += 1;
        }
        let mut block = Packed::new();
        block.push(&fields);
        Node {
            last: id,
            live: 0,
            gone: 0,
            listpack: listpack + int_bytes(count) + int_bytes(0),
            block,
        }
    }

    /// Bytes that Redis's block would have.
    pub(super) fn listpack_bytes(&self) -> u64 {
        self.listpack + int_bytes(self.live.into()) + int_bytes(self.gone.into())
    }

    /// Entries that are and were here.
    pub(super) fn count(&self) -> u64 {
        u64::from(self.live) + u64::from(self.gone)
    }

    /// Bytes of heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.block.heap_bytes()
    }

    /// The fields in record 0.
    fn fields(&self) -> Records<'_, false> {
        Records::new(self.block.iter().next().unwrap_or_default())
    }

    /// Appends an entry, whose id is above all that were here. `own` is the node's id.
    pub(super) fn push<'w>(
        &mut self,
        own: StreamId,
        id: StreamId,
        words: impl Iterator<Item = &'w [u8]> + Clone,
    ) {
        let same = self.fields().eq(words.clone().step_by(2));
        let ms = id.ms - own.ms;
        let seq = if ms == 0 { id.seq - own.seq } else { id.seq };
        let mut record = Vec::with_capacity(64);
        record.push(if same { SAME_FIELDS } else { 0 });
        write_number(&mut record, ms);
        write_number(&mut record, seq);
        let kept = words.skip(usize::from(same)).step_by(1 + usize::from(same));
        let mut elements = 0;
        for word in kept {
            write_word(&mut record, word);
            self.listpack += listpack_bytes(word) as u64;
            elements += 1;
        }
        if !same {
            self.listpack += int_bytes(elements / 2);
            elements += 1;
        }
        // Flags, both parts of the id, and how many elements this were.
        let seq_delta = id.seq.wrapping_sub(own.seq).cast_signed();
        self.listpack += int_bytes(same.into())
            + int_bytes(ms.cast_signed())
            + int_bytes(seq_delta)
            + int_bytes(elements + 3);
        self.block.push(&record);
        self.live += 1;
        self.last = id;
    }

    /// Entries in order, read from both ends.
    pub(super) fn entries(&self, own: StreamId) -> Entries<'_> {
        let mut records = self.block.iter();
        Entries {
            own,
            fields: Records::new(records.next().unwrap_or_default()),
            records,
        }
    }

    /// Removes an entry; whether it was here.
    pub(super) fn remove(&mut self, own: StreamId, id: StreamId) -> bool {
        let used = self.block.used_bytes();
        let mut entries = self.entries(own);
        loop {
            let at = used - entries.records.left();
            match entries.next() {
                Some(entry) if entry.id == id => {
                    self.cut(at, 1);
                    return true;
                }
                Some(entry) if entry.id < id => {}
                _ => return false,
            }
        }
    }

    /// Removes the entries up to this id; how many.
    pub(super) fn remove_through(&mut self, own: StreamId, id: StreamId) -> u32 {
        let count = self.entries(own).take_while(|entry| entry.id <= id).count();
        let first = self.block.iter().next().map_or(0, <[u8]>::len);
        if count > 0 {
            self.cut(record_bytes::<true>(first), count);
        }
        count as u32
    }

    fn cut(&mut self, at: usize, count: usize) {
        self.block.remove(at, count);
        self.live -= count as u32;
        self.gone += count as u32;
    }

    // ---- taken back -------------------------------------------------------------------------

    /// What puts an entry back that is about to be removed, if it is here.
    pub(super) fn cut_of(&self, own: StreamId, id: StreamId) -> Option<Cut> {
        let used = self.block.used_bytes();
        let mut entries = self.entries(own);
        loop {
            let at = used - entries.records.left();
            let entry = entries.next()?;
            if entry.id == id {
                let bytes = self.block.bytes();
                let records = bytes.get(at..used - entries.records.left())?.into();
                let count = 1;
                return Some(Cut { at, records, count });
            }
        }
    }

    /// The same for all entries up to an id, if there are any.
    pub(super) fn cut_through(&self, own: StreamId, through: StreamId) -> Option<Cut> {
        let used = self.block.used_bytes();
        let mut entries = self.entries(own);
        let at = used - entries.records.left();
        let (mut end, mut count) = (at, 0);
        while entries.next().is_some_and(|entry| entry.id <= through) {
            end = used - entries.records.left();
            count += 1;
        }
        let records = self.block.bytes().get(at..end)?.into();
        (count > 0).then_some(Cut { at, records, count })
    }

    /// Puts back what was cut out.
    pub(super) fn put_back(&mut self, cut: &Cut) {
        self.block.insert_records(cut.at, &cut.records, cut.count);
        self.live += cut.count as u32;
        self.gone -= cut.count as u32;
    }

    /// What an addition changes beside the entries.
    pub(super) fn mark(&self) -> Mark {
        (self.last, self.listpack)
    }

    /// Takes the last entry out as if it had never been added.
    pub(super) fn take_back(&mut self, mark: Mark) {
        let records = self.block.iter();
        let mut others = records.clone();
        if others.next_back().is_some() {
            let at = self.block.used_bytes() - (records.left() - others.left());
            self.block.remove(at, 1);
            self.live -= 1;
        }
        (self.last, self.listpack) = mark;
    }

    /// Asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self, own: StreamId) {
        self.block.check();
        let ids: Vec<_> = self.entries(own).map(|entry| entry.id).collect();
        assert_eq!(ids.len(), self.live as usize);
        assert_eq!(ids.len() + 1, self.block.len(), "each record is an entry");
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ascending");
        assert!(ids.first().is_none_or(|first| own <= *first));
        assert!(ids.last().is_none_or(|last| *last <= self.last));
    }
}

/// Records that were cut out of a node's block, from a position on.
pub(crate) struct Cut {
    at: usize,
    pub(super) records: Box<[u8]>,
    count: usize,
}

/// The last id and Redis's bytes, before an addition.
pub(super) type Mark = (StreamId, u64);

/// Entries of a node.
#[derive(Clone)]
pub(super) struct Entries<'a> {
    own: StreamId,
    fields: Records<'a, false>,
    records: Records<'a, true>,
}

impl<'a> Entries<'a> {
    fn entry(&self, record: &'a [u8]) -> Option<Entry<'a>> {
        let (&flags, mut rest) = record.split_first()?;
        let ms = self.own.ms.wrapping_add(read_number(&mut rest)?);
        let seq = read_number(&mut rest)?;
        let base = if ms == self.own.ms { self.own.seq } else { 0 };
        let words = Records::new(rest);
        Some(Entry {
            id: StreamId::new(ms, base.wrapping_add(seq)),
            fields: (flags & SAME_FIELDS != 0).then(|| self.fields.clone()),
            words,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let record = self.records.next()?;
        self.entry(record)
    }
}

impl DoubleEndedIterator for Entries<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let record = self.records.next_back()?;
        self.entry(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    fn node(entries: &[(StreamId, &str)]) -> Node {
        let own = entries[0].0;
        let mut node = Node::new(own, words(entries[0].1).into_iter());
        for (id, text) in entries {
            node.push(own, *id, words(text).into_iter());
            node.check(own);
        }
        node
    }

    #[test]
    fn ids_and_fields_of_every_kind() {
        let id = StreamId::new;
        let entries = [
            (id(5, 7), "f 1 g 2"),
            (id(5, 8), "f 3 g 4"),
            (id(6, 0), "f 5"),
            (id(6, u64::MAX), "g 6 f 7"),
            (id(u64::MAX, 3), "f 8 g 9"),
        ];
        let node = node(&entries);
        let text = |entry: Entry<'_>| {
            let pairs: Vec<String> = entry
                .pairs()
                .map(|(f, v)| format!("{} {}", f.escape_ascii(), v.escape_ascii()))
                .collect();
            assert_eq!(entry.len(), pairs.len());
            (entry.id, pairs.join(" "))
        };
        let wanted = entries.map(|(id, text)| (id, text.to_owned()));
        assert!(node.entries(id(5, 7)).map(text).eq(wanted.clone()));
        let back = node.entries(id(5, 7)).rev().map(text);
        assert!(back.eq(wanted.into_iter().rev()));
    }

    #[test]
    fn removed_entries_are_still_counted() {
        let own = StreamId::new(1, 1);
        let id = |seq| StreamId::new(1, seq);
        let entries: Vec<_> = (1..=5).map(|seq| (id(seq), "f v")).collect();
        let mut node = node(&entries);
        let bytes = node.listpack_bytes();
        assert!(node.remove(own, id(3)) && !node.remove(own, id(3)));
        assert!(node.remove(own, id(5)));
        assert_eq!(node.remove_through(own, id(2)), 2);
        node.check(own);
        assert_eq!((node.live, node.count(), node.last), (1, 5, id(5)));
        assert_eq!(node.listpack_bytes(), bytes);
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // Two counters, the number of fields, "f", the end: 2 + 2 + 2 + 3 + 2; the entry: flags, ms,
        // seq, "v", its elements: 2 + 2 + 2 + 3 + 2; a header of 6 and an end of 1.
        let own = StreamId::new(1, 1);
        let mut node = node(&[(own, "f v")]);
        assert_eq!(node.listpack_bytes(), 7 + 11 + 11);
        // Other fields: also their number and "g"; 300 ms are two bytes, and so is a sequence of -1.
        node.push(own, StreamId::new(301, 0), words("g v").into_iter());
        assert_eq!(node.listpack_bytes(), 29 + 11 + 2 + 3 + 2);
    }
}
