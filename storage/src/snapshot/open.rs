//! A large value on its way into a snapshot, element by element, while it is being changed.
//!
//! ```text
//! text          bytes in order           what is about to be overwritten ahead is kept
//! set, hash,    SCAN's order             an element that changes ahead is written first and noted: the walk leaves it out;
//! sorted set                             so it does with new ones
//! list          a window of the list     taken at its head: written first. At its end: kept. Set within: the old one is kept
//! stream        in the order of ids      what is deleted ahead is kept; what stands beside the entries is taken at the beginning
//! ```
//! A change that fits none of these (an element inserted into the middle of a list) writes out all the rest first: it costs about
//! as much as the walk itself. What is kept is no more than what was changed ahead of the walk.

use std::collections::{BTreeMap, BTreeSet};

use crate::hash::{Key, member_hash};
use crate::held::{Held, with_value};
use crate::item::{Content, Item};
use crate::rdb::{self, Style, stream as stream_rdb, write_length, write_string};
use crate::slot::Slot;
use crate::table::{CURSOR_BITS, Table};
use crate::value::stream::{Stream, StreamId};
use crate::value::{Collection, List, Side};

/// Bytes of a string, and elements of a collection, that are written in one step.
const STEP_BYTES: usize = 16 << 10;
const STEP_ELEMENTS: usize = 128;
/// Entries of a stream that are written as one node.
const NODE_ENTRIES: usize = 100;

/// See the module's head.
pub(crate) struct Open {
    pub(crate) id: u64,
    /// Where the value is now; `db` is not that of the cut.
    pub(crate) db: u8,
    pub(crate) slot: Slot,
    hash: u64,
    key: Box<[u8]>,
    /// The value, when it has left its key and is only kept to be written.
    owned: Table<Item>,
    /// Of its record, what has not been taken.
    pub(crate) out: Vec<u8>,
    /// Elements (of a string: bytes) that the walk or a change is still to write.
    left: u64,
    style: Style,
    body: Body,
}

// It goes with its slot, and it owns what it holds.
const _: () = {
    const fn movable<T: Send>() {}
    movable::<Open>()
};

enum Body {
    Text {
        at: usize,
        /// Old bytes by their place, no two overlapping.
        kept: BTreeMap<usize, Vec<u8>>,
    },
    Members {
        /// As SCAN's; what lies before it has been passed.
        cursor: u64,
        done: bool,
        first_ms: Option<u64>,
        noted: Noted,
    },
    List(Window),
    Stream {
        next: StreamId,
        last: StreamId,
        kept: BTreeMap<StreamId, Pairs>,
        /// What stands behind the entries.
        end: Vec<u8>,
    },
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Members that the walk is to leave out, in its order. Those that it has passed are forgotten as it goes: a table of them
/// would be moved as it grows, and freed at the end, in one turn each.
#[derive(Default)]
struct Noted(BTreeSet<(u64, Box<[u8]>)>);

impl Noted {
    fn contains(&self, prefix: u64, member: &[u8]) -> bool {
        let from = self.0.range((prefix, Box::default())..);
        from.take_while(|(of, _)| *of == prefix)
            .any(|(_, noted)| **noted == *member)
    }

    fn insert(&mut self, prefix: u64, member: &[u8]) {
        self.0.insert((prefix, member.into()));
    }

    /// What lies before the cursor; all, when that is 0: the walk has come to its end.
    fn forget_before(&mut self, cursor: u64) {
        while let Some(first) = self.0.first()
            && (first.0 < cursor || cursor == 0)
        {
            self.0.pop_first();
        }
    }
}

/// Elements `start..end` of the list as it is now are those of the cut that have not been written.
#[derive(Default)]
struct Window {
    start: usize,
    end: usize,
    /// Of those, written: the number of the one at `start` since the cut.
    first: u64,
    /// Old elements by their number.
    replaced: BTreeMap<u64, Vec<u8>>,
    /// Elements taken from the end, the last one first.
    tail: Vec<Vec<u8>>,
}

impl Open {
    /// Whether a value is written element by element: it is of a form whose elements come one by one.
    pub(crate) fn can_be(item: Item) -> bool {
        match item.content() {
            Content::Int(_) => false,
            Content::Bytes(_) => true,
            Content::Collection(Held::Packed(..)) => false,
            Content::Collection(Held::Boxed(Collection::Stream(stream))) => !stream.is_empty(),
            Content::Collection(Held::Boxed(collection)) => {
                !collection.is_compact() && collection.encoding() != "listpackex"
            }
        }
    }

    /// Begins a record; `head` is what comes before its body: database, deadline.
    pub(crate) fn new(id: u64, key: Key<'_>, item: Item, style: Style, head: Vec<u8>) -> Open {
        let mut open = Open {
            id,
            db: key.db,
            slot: key.slot,
            hash: key.hash,
            key: key.bytes.into(),
            owned: Table::new(),
            out: head,
            left: 0,
            style,
            body: Body::Text {
                at: 0,
                kept: BTreeMap::new(),
            },
        };
        open.begin(item);
        open
    }

    /// The type of the record.
    pub(crate) fn kind(item: Item, style: Style) -> u8 {
        match item.content() {
            // A node's elements are counted ahead; those of a plain list are not in nodes.
            Content::Collection(Held::Boxed(Collection::List(_))) => rdb::kind::LIST,
            _ => with_value(item, |value| rdb::kind_of(value, style)),
        }
    }

    fn begin(&mut self, item: Item) {
        let members = |first_ms| Body::Members {
            cursor: 0,
            done: false,
            first_ms,
            noted: Noted::default(),
        };
        let collection = match item.content() {
            Content::Collection(Held::Boxed(collection)) => collection,
            Content::Bytes(text) => {
                self.left = text.len() as u64;
                return write_length(self.left, &mut self.out);
            }
            // (They are written whole: see `can_be`.)
            Content::Int(_) | Content::Collection(Held::Packed(..)) => return,
        };
        self.left = collection.len() as u64;
        match collection {
            Collection::Stream(stream) => {
                self.left = stream.len() as u64;
                write_length(self.left.div_ceil(NODE_ENTRIES as u64), &mut self.out);
                let mut end = Vec::new();
                stream_rdb::write_end(stream, self.style, &mut end);
                self.body = Body::Stream {
                    next: StreamId::MIN,
                    last: stream.last_entry_id().unwrap_or(StreamId::MIN),
                    kept: BTreeMap::new(),
                    end,
                };
                return;
            }
            Collection::Hash(hash) => {
                let first_ms = self.style.first_deadline_ms(hash);
                if let Some(first_ms) = first_ms {
                    self.out.extend_from_slice(&first_ms.to_le_bytes());
                }
                self.body = members(first_ms);
            }
            Collection::List(list) => {
                self.body = Body::List(Window {
                    end: list.len(),
                    ..Window::default()
                });
            }
            Collection::Set(_) | Collection::Zset(_) => self.body = members(None),
        }
        write_length(self.left, &mut self.out);
    }

    /// Whether this is the value of a key, there to be changed.
    pub(crate) fn is_of(&self, key: &Key<'_>) -> bool {
        (self.db, self.hash) == (key.db, key.hash)
            && self.owned.is_empty()
            && *self.key == *key.bytes
    }

    /// The value is another key's from here on.
    pub(crate) fn move_to(&mut self, key: &Key<'_>) {
        (self.db, self.slot, self.hash) = (key.db, key.slot, key.hash);
        self.key = key.bytes.into();
    }

    /// Where the value is.
    pub(crate) fn key(&self) -> Key<'_> {
        Key {
            bytes: &self.key,
            hash: self.hash,
            slot: self.slot,
            db: self.db,
        }
    }

    /// The value has left its key: it is freed when it has been written.
    pub(crate) fn own(&mut self, item: Item) {
        self.owned.insert_new(self.hash, item, |_| self.hash);
    }

    /// See [`Open::own`].
    pub(crate) fn owned(&self) -> Option<Item> {
        self.owned.iter().next()
    }

    /// Hands the value out that was owned.
    pub(crate) fn take_owned(&mut self) -> Option<Item> {
        let mut item = None;
        self.owned.drain_some(1, |owned| item = Some(owned));
        item
    }

    /// Whether the record is whole.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && !matches!(&self.body, Body::Stream { end, .. } if !end.is_empty())
    }

    /// Bytes of heap, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let kept = match &self.body {
            Body::Text { kept, .. } => kept.values().map(Vec::len).sum::<usize>(),
            Body::Members { noted, .. } => noted.0.len() * 64,
            Body::List(window) => (window.tail.len() + window.replaced.len()) * 64,
            Body::Stream { kept, end, .. } => kept.len() * 128 + end.len(),
        };
        self.out.capacity() + kept
    }

    /// Writes some of what is left; how many elements that were.
    pub(crate) fn step(&mut self, item: Item) -> usize {
        let before = self.left;
        match (item.content(), &mut self.body) {
            (Content::Bytes(text), Body::Text { at, kept }) => {
                let end = (*at + STEP_BYTES).min(*at + self.left as usize);
                let start = self.out.len();
                self.out.extend_from_slice(&text[*at..end]);
                lay_over(&mut self.out[start..], *at, kept);
                self.left -= (end - *at) as u64;
                *at = end;
                return (end - start) / 64 + 1;
            }
            (Content::Collection(Held::Boxed(Collection::List(list))), Body::List(window)) => {
                window.step(
                    list,
                    STEP_ELEMENTS,
                    self.style,
                    &mut self.out,
                    &mut self.left,
                );
            }
            (Content::Collection(Held::Boxed(Collection::Stream(stream))), Body::Stream { .. }) => {
                self.step_stream(stream);
            }
            (Content::Collection(Held::Boxed(collection)), Body::Members { .. }) => {
                self.step_members(collection)
            }
            _ => self.left = 0,
        }
        (before - self.left) as usize + 1
    }

    /// Writes all that is left.
    pub(crate) fn finish(&mut self, item: Item) {
        while !self.is_done() {
            self.step(item);
        }
    }

    fn step_members(&mut self, collection: &Collection) {
        let Body::Members {
            cursor,
            done,
            first_ms,
            noted,
        } = &mut self.body
        else {
            return;
        };
        let (at, first_ms, style) = (*cursor, *first_ms, self.style);
        let (out, left) = (&mut self.out, &mut self.left);
        let is_ahead = |member: &[u8]| {
            let prefix = prefix_of(member);
            prefix >= at && !noted.contains(prefix, member)
        };
        *cursor = match collection {
            Collection::Set(set) => set.scan(at, STEP_ELEMENTS, |member| {
                if is_ahead(member) {
                    write_string(member, style, out);
                    *left -= 1;
                }
            }),
            Collection::Zset(zset) => zset.scan(at, STEP_ELEMENTS, |member, score| {
                if is_ahead(member) {
                    write_scored(member, score, style, out);
                    *left -= 1;
                }
            }),
            Collection::Hash(hash) => hash.scan(at, STEP_ELEMENTS, |field, value| {
                if is_ahead(field) {
                    let at_ms = hash.deadline_ms(field);
                    write_pair(field, value, first_ms, at_ms, style, out);
                    *left -= 1;
                }
            }),
            Collection::List(_) | Collection::Stream(_) => 0,
        };
        noted.forget_before(*cursor);
        *done = *cursor == 0;
        debug_assert!(
            !*done || *left == 0,
            "every element of the cut has been met"
        );
        if *done {
            *left = 0;
        }
    }

    fn step_stream(&mut self, stream: &Stream) {
        let Body::Stream {
            next,
            last,
            kept,
            end,
        } = &mut self.body
        else {
            return;
        };
        let mut live = stream.range(*next, *last).peekable();
        let mut gone = kept.range(*next..).peekable();
        let mut entries: Vec<stream_rdb::Flat<'_>> = Vec::new();
        while entries.len() < NODE_ENTRIES {
            let (a, b) = (
                live.peek().map(|entry| entry.id),
                gone.peek().map(|(id, _)| **id),
            );
            if b.is_some() && (a.is_none() || b <= a) {
                if a == b {
                    live.next();
                }
                if let Some((id, pairs)) = gone.next() {
                    let pairs = pairs.iter().map(|(field, value)| (&field[..], &value[..]));
                    entries.push((*id, pairs.collect()));
                }
            } else if let Some(entry) = live.next() {
                entries.push((entry.id, entry.pairs().collect()));
            } else {
                break;
            }
        }
        if let Some((id, _)) = entries.last() {
            *next = id.next().unwrap_or(StreamId::MAX);
            self.left = self.left.saturating_sub(entries.len() as u64);
            stream_rdb::write_node(&entries, self.style, &mut self.out);
        } else {
            debug_assert!(self.left == 0, "every entry of the cut has been met");
            self.left = 0;
        }
        let next = *next;
        *kept = kept.split_off(&next);
        if self.left == 0 {
            self.out.append(end);
        }
    }

    // ---- before a change ---------------------------------------------------------------------

    /// So many bytes of a string are about to be written at `offset`.
    pub(crate) fn before_write(&mut self, item: Item, offset: usize, len: usize) {
        let (Content::Bytes(text), Body::Text { at, kept }) = (item.content(), &mut self.body)
        else {
            return;
        };
        let end = (offset + len).min(*at + self.left as usize);
        let mut from = offset.max(*at);
        while from < end {
            let before = kept.range(..=from).next_back();
            if let Some(covered) = before
                .map(|(at, old)| at + old.len())
                .filter(|to| *to > from)
            {
                from = covered;
                continue;
            }
            let next = kept
                .range(from..)
                .next()
                .map_or(end, |(at, _)| (*at).min(end));
            kept.insert(from, text[from..next].to_vec());
            from = next;
        }
    }

    /// A member or field is about to be added, changed or removed.
    pub(crate) fn before_member(&mut self, collection: &Collection, member: &[u8]) {
        let Body::Members {
            cursor,
            done,
            first_ms,
            noted,
        } = &mut self.body
        else {
            return;
        };
        let prefix = prefix_of(member);
        let is_of_walk = !*done && self.left > 0 && prefix >= *cursor;
        if !is_of_walk || noted.contains(prefix, member) {
            return;
        }
        noted.insert(prefix, member);
        let (style, out) = (self.style, &mut self.out);
        let was = match collection {
            Collection::Set(set) => set
                .contains(member)
                .then(|| write_string(member, style, out)),
            Collection::Zset(zset) => {
                let score = zset.score(member);
                score.map(|score| write_scored(member, score, style, out))
            }
            Collection::Hash(hash) => hash.get(member).map(|value| {
                let at_ms = hash.deadline_ms(member);
                write_pair(member, value, *first_ms, at_ms, style, out);
            }),
            Collection::List(_) | Collection::Stream(_) => None,
        };
        if was.is_some() {
            self.left -= 1;
        }
    }

    /// An element comes to an end of a list.
    pub(crate) fn before_push(&mut self, side: Side) {
        if let (Body::List(window), Side::Left) = (&mut self.body, side) {
            window.start += 1;
            window.end += 1;
        }
    }

    /// Only elements `start..end` of a list stay.
    pub(crate) fn before_trim(&mut self, list: &List, start: usize, end: usize) {
        let Body::List(window) = &mut self.body else {
            return;
        };
        let (style, out, left) = (self.style, &mut self.out, &mut self.left);
        if start > window.start {
            let gone = start.min(window.end) - window.start;
            window.step(list, gone, style, out, left);
        }
        window.keep_from(list, end);
        window.start = window.start.saturating_sub(start);
        window.end = window.end.saturating_sub(start);
    }

    /// An element of a list gets another value.
    pub(crate) fn before_set(&mut self, list: &List, index: usize) {
        let Body::List(window) = &mut self.body else {
            return;
        };
        if (window.start..window.end).contains(&index)
            && let Some(old) = list.get(index)
        {
            let number = window.first + (index - window.start) as u64;
            window
                .replaced
                .entry(number)
                .or_insert_with(|| old.to_vec());
        }
    }

    /// An element comes before another of a list.
    pub(crate) fn before_insert(&mut self, list: &List, index: usize) {
        let Body::List(window) = &mut self.body else {
            return;
        };
        if index > window.start && index < window.end {
            let all = window.end - window.start;
            window.step(list, all, self.style, &mut self.out, &mut self.left);
        }
        if index <= window.start {
            window.start += 1;
            window.end += 1;
        }
    }

    /// An element of a list is about to go.
    pub(crate) fn before_remove(&mut self, list: &List, index: usize) {
        let Body::List(window) = &mut self.body else {
            return;
        };
        if (window.start..window.end).contains(&index) {
            if index + 1 == window.end && index > window.start {
                return window.keep_from(list, index);
            }
            let some = if index == window.start {
                1
            } else {
                window.end - window.start
            };
            window.step(list, some, self.style, &mut self.out, &mut self.left);
        }
        if index < window.start {
            window.start -= 1;
            window.end -= 1;
        }
    }

    /// Entries `first..=last` of a stream are about to go.
    pub(crate) fn before_delete(&mut self, stream: &Stream, first: StreamId, to: StreamId) {
        let Body::Stream {
            next, last, kept, ..
        } = &mut self.body
        else {
            return;
        };
        let (first, to) = (first.max(*next), to.min(*last));
        if self.left == 0 || first > to {
            return;
        }
        for entry in stream.range(first, to) {
            let pairs = entry
                .pairs()
                .map(|(field, value)| (field.to_vec(), value.to_vec()));
            kept.entry(entry.id).or_insert_with(|| pairs.collect());
        }
    }

    /// An entry is about to be added to a stream. Whether it would be taken for one of the cut (XSETID has set the last id
    /// back): then all must be finished first.
    pub(crate) fn is_within(&self, id: StreamId) -> bool {
        matches!(&self.body, Body::Stream { next, last, .. } if self.left > 0 && *next <= id && id <= *last)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.owned.drain_some(1, |item: Item| drop(item.free()));
    }
}

impl Window {
    /// Writes so many elements from the front, then, if the window is empty, those from the end.
    fn step(&mut self, list: &List, count: usize, style: Style, out: &mut Vec<u8>, left: &mut u64) {
        let count = count.min(self.end - self.start);
        for element in list.iter_from(self.start).take(count) {
            match self.replaced.remove(&self.first) {
                Some(old) => write_string(&old, style, out),
                None => write_string(element, style, out),
            }
            self.first += 1;
            *left -= 1;
        }
        self.start += count;
        if self.start == self.end {
            while let Some(element) = self.tail.pop() {
                write_string(&element, style, out);
                *left -= 1;
            }
        }
    }

    /// Elements from `end` on are about to go: those of the window are kept.
    fn keep_from(&mut self, list: &List, end: usize) {
        while self.end > end.max(self.start) {
            self.end -= 1;
            let number = self.first + (self.end - self.start) as u64;
            let old = self.replaced.remove(&number);
            let old = old.or_else(|| list.get(self.end).map(<[u8]>::to_vec));
            self.tail.push(old.unwrap_or_default());
        }
        if self.start > end {
            (self.start, self.end) = (end, end);
        }
    }
}

/// The place of a member in SCAN's order, in the terms of its cursor.
fn prefix_of(member: &[u8]) -> u64 {
    member_hash(member) >> (64 - CURSOR_BITS)
}

fn write_scored(member: &[u8], score: f64, style: Style, out: &mut Vec<u8>) {
    write_string(member, style, out);
    out.extend_from_slice(&score.to_le_bytes());
}

/// A pair; in a hash with deadlines behind its own.
fn write_pair(
    field: &[u8],
    value: &[u8],
    first_ms: Option<u64>,
    at_ms: Option<u64>,
    style: Style,
    out: &mut Vec<u8>,
) {
    if let Some(first_ms) = first_ms {
        let later = at_ms.map_or(0, |at_ms| at_ms.saturating_sub(first_ms) + 1);
        write_length(later, out);
    }
    write_string(field, style, out);
    write_string(value, style, out);
}

/// Puts old bytes in the place of those that were written since; `bytes` begin at `at`.
fn lay_over(bytes: &mut [u8], at: usize, kept: &mut BTreeMap<usize, Vec<u8>>) {
    let end = at + bytes.len();
    while let Some(entry) = kept.first_entry() {
        let (start, old) = (*entry.key(), entry.get());
        if start >= end {
            return;
        }
        let from = start.max(at);
        let to = (start + old.len()).min(end);
        if from < to {
            bytes[from - at..to - at].copy_from_slice(&old[from - start..to - start]);
        }
        if start + old.len() > end {
            return;
        }
        entry.remove();
    }
}
