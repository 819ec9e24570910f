//! What a script has changed, so that all of it can be taken back.
//!
//! ```text
//! begin_undo ─> edits; the first touch of a key saves what was there ─> end_undo (keep) or roll_back (undo)
//!
//! small value     its item is copied, once                       nothing more is noted of the key
//! compact form    the same, since it would not come back
//! replaced, removed   the old item is kept instead of freed      nothing more is noted of the key
//! large value     each change notes its inverse: no large value is ever copied
//! moved           the two keys; what is changed at the new place goes on being noted
//! flushed         the tables are kept instead of freed
//! ```
//! Entries are undone from the last to the first. The log costs one load per write while no script runs. Taken back as well:
//! deadlines, counters, recorded effects, events, versions of watched keys.

use std::collections::HashMap;

use crate::edit::{Edit, write_into};
use crate::garbage::{BLOB_BYTES_MIN, FREED_AT_ONCE_MAX};
use crate::hash::{Key, hash_bytes};
use crate::held::Held;
use crate::item::{Content, EMBEDDED_BYTES_MAX, Item, Payload};
use crate::session::{HashEdit, ListEdit};
use crate::shard::{Shard, whole_bytes};
use crate::slot::Slot;
use crate::table::SlotTable;
use crate::value::stream::{Inverse, Stream};
use crate::value::{Collection, Side};

/// A value of at most so many bytes is copied when it is touched first.
const COPIED_BYTES_MAX: usize = 4096;

/// And a collection of up to so many in a compact form, which does not come back by itself once it is outgrown: the usual
/// limits let them have as much.
const COMPACT_BYTES_MAX: usize = 128 * 1024;

fn is_copied(item: Item) -> bool {
    let max = match item.content() {
        Content::Collection(held) if held.view().is_compact() => COMPACT_BYTES_MAX,
        _ => COPIED_BYTES_MAX,
    };
    whole_bytes(item) <= max
}

/// How far a key has been saved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// All of it.
    Saved,
    /// Each change is noted.
    Noted,
}

/// The inverse of a change of a large value.
pub(crate) enum Op {
    Pop(Side),
    Push(Side, Vec<u8>),
    SetAt(usize, Vec<u8>),
    InsertAt(usize, Vec<u8>),
    RemoveAt(usize),
    /// Elements that were cut off, in order: at the front, at the back.
    Untrim(Vec<Vec<u8>>, Vec<Vec<u8>>),
    /// A field's value and deadline.
    Field(Vec<u8>, Option<(Vec<u8>, Option<u64>)>),
    FieldDeadline(Vec<u8>, Option<u64>),
    Member(Vec<u8>, bool),
    Score(Vec<u8>, Option<f64>),
    /// A string's length, and the bytes that lay at an offset.
    Text(usize, usize, Vec<u8>),
    Deadline(Option<u64>),
    Stream(Inverse),
    /// A list was a quicklist: what it loses may make it a listpack, and what comes back no quicklist.
    Quicklist,
}

enum Entry {
    /// The key was not there.
    Absent(u8, Box<[u8]>),
    /// The key was this item, which is owned.
    Was(u8, Item),
    Change(u8, Box<[u8]>, Op),
    Moved {
        from: (u8, Box<[u8]>),
        to: (u8, Box<[u8]>),
    },
    /// A database, and the number that it had at the last cut.
    Flushed(u8, u8, Vec<(Slot, SlotTable<Item>)>),
    Swapped(u8, u8),
}

/// Where everything stood when the script began.
#[derive(Default)]
struct Marks {
    effects: (usize, usize),
    events: usize,
    told: usize,
    changes: u64,
    expired: u64,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Undo {
    on: bool,
    marks: Marks,
    entries: Vec<Entry>,
    /// By database.
    states: Vec<HashMap<Box<[u8]>, State>>,
}

impl Undo {
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Notes nothing for a while, if `pause`; returns what `resume` takes.
    pub(crate) fn pause(&mut self, pause: bool) -> bool {
        let on = self.on;
        self.on &= !pause;
        on
    }

    pub(crate) fn resume(&mut self, on: bool) {
        self.on = on;
    }

    fn state(&self, key: &Key<'_>) -> Option<State> {
        let states = self.states.get(usize::from(key.db))?;
        states.get(key.bytes).copied()
    }

    fn set_state(&mut self, key: &Key<'_>, state: State) {
        let db = usize::from(key.db);
        if self.states.len() <= db {
            self.states.resize_with(db + 1, HashMap::new);
        }
        match self.states[db].get_mut(key.bytes) {
            Some(known) => *known = state,
            None => drop(self.states[db].insert(key.bytes.into(), state)),
        }
    }

    /// An item is put where none was.
    #[cold]
    pub(crate) fn note_absent(&mut self, key: &Key<'_>) {
        if self.state(key) != Some(State::Saved) {
            self.entries.push(Entry::Absent(key.db, key.bytes.into()));
            self.set_state(key, State::Saved);
        }
    }

    /// An item has been taken out of its table; whether it is kept here instead of being freed.
    #[cold]
    pub(crate) fn keep(&mut self, key: &Key<'_>, item: Item) -> bool {
        if self.state(key) == Some(State::Saved) {
            return false;
        }
        self.entries.push(Entry::Was(key.db, item));
        self.set_state(key, State::Saved);
        true
    }

    pub(crate) fn note(&mut self, key: &Key<'_>, op: Op) {
        self.entries
            .push(Entry::Change(key.db, key.bytes.into(), op));
    }

    /// A noted value goes from one key to another, where it goes on being noted.
    pub(crate) fn note_move(&mut self, from: &Key<'_>, to: &Key<'_>) {
        self.entries.push(Entry::Moved {
            from: (from.db, from.bytes.into()),
            to: (to.db, to.bytes.into()),
        });
        if let Some(states) = self.states.get_mut(usize::from(from.db)) {
            states.remove(from.bytes);
        }
        self.set_state(to, State::Noted);
    }

    pub(crate) fn note_flush(&mut self, db: u8, origin: u8, tables: Vec<(Slot, SlotTable<Item>)>) {
        if let Some(states) = self.states.get_mut(usize::from(db)) {
            states.clear();
        }
        self.entries.push(Entry::Flushed(db, origin, tables));
    }

    pub(crate) fn note_swap(&mut self, a: u8, b: u8) {
        if self.on {
            self.states.clear();
            self.entries.push(Entry::Swapped(a, b));
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for entry in self.entries.drain(..) {
            match entry {
                Entry::Was(_, item) => drop(item.free()),
                Entry::Flushed(_, _, tables) => {
                    for (_, mut slot) in tables {
                        slot.table
                            .drain_some(usize::MAX, |item: Item| drop(item.free()));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Shard {
    /// From here on changes can be taken back, by [`Shard::roll_back`], until [`Shard::end_undo`].
    pub fn begin_undo(&mut self) {
        debug_assert!(!self.undo.on, "one script at a time");
        self.undo.on = true;
        self.undo.marks = Marks {
            effects: self.effects.mark(),
            events: self.events.mark(),
            told: self.watched.begin_journal(),
            changes: self.changes,
            expired: self.expired,
        };
    }

    /// The changes stay.
    pub fn end_undo(&mut self) {
        self.undo.on = false;
        self.undo.states.clear();
        self.watched.end_journal();
        for entry in core::mem::take(&mut self.undo.entries) {
            match entry {
                Entry::Was(_, item) => self.free_item(item),
                Entry::Flushed(_, origin, tables) => self.drop_tables(origin, tables),
                Entry::Change(_, _, Op::Stream(Inverse::Group(group))) => self.free_stream(*group),
                _ => {}
            }
        }
    }

    /// Whether something has been changed since [`Shard::begin_undo`].
    pub fn has_undo(&self) -> bool {
        !self.undo.entries.is_empty()
    }

    /// Bytes of heap that are kept to take changes back, about.
    pub fn undo_bytes(&self) -> usize {
        let entries = self.undo.entries.iter().map(Entry::heap_bytes);
        self.undo.entries.capacity() * size_of::<Entry>() + entries.sum::<usize>()
    }

    /// Takes all changes back since [`Shard::begin_undo`].
    pub fn roll_back(&mut self) {
        self.undo.on = false;
        self.undo.states.clear();
        let recording = self.effects.is_recording();
        self.effects.set_recording(false);
        let mut entries = core::mem::take(&mut self.undo.entries);
        while let Some(entry) = entries.pop() {
            match entry {
                Entry::Absent(db, key) => self.remove_item(&Key::new(db, &key)),
                Entry::Was(db, item) => self.put_item_back(db, item),
                Entry::Moved { from, to } => self.move_back(&from, &to),
                Entry::Swapped(a, b) => Edit::applying(self).swap_db(a, b),
                Entry::Flushed(db, _, tables) => {
                    Edit::applying(self).flush_db(db);
                    self.put_tables_back(db, tables);
                }
                Entry::Change(db, key, op) => {
                    // All changes of one key behind one another: a collection that was empty between two of them
                    // must not be taken for gone.
                    let mut ops = vec![op];
                    while let Some(Entry::Change(other_db, other, _)) = entries.last()
                        && (*other_db, other) == (db, &key)
                        && let Some(Entry::Change(_, _, op)) = entries.pop()
                    {
                        ops.push(op);
                    }
                    self.apply_inverses(&Key::new(db, &key), ops);
                }
            }
        }
        self.effects.set_recording(recording);
        let marks = core::mem::take(&mut self.undo.marks);
        self.effects.rewind(marks.effects);
        self.events.rewind(marks.events);
        self.watched.rewind(marks.told);
        (self.changes, self.expired) = (marks.changes, marks.expired);
    }

    /// Saves what a key holds before a change in place; whether each change must be noted instead.
    #[cold]
    pub(crate) fn save(&mut self, key: &Key<'_>, item: Item) -> bool {
        match self.undo.state(key) {
            Some(State::Saved) => false,
            Some(State::Noted) => true,
            None if is_copied(item) => {
                self.save_whole(key, item);
                false
            }
            None => {
                self.undo.set_state(key, State::Noted);
                if let Content::Collection(Held::Boxed(Collection::List(_))) = item.content() {
                    self.undo.note(key, Op::Quicklist);
                }
                true
            }
        }
    }

    /// Saves a copy of what a key holds, however large.
    pub(crate) fn save_whole(&mut self, key: &Key<'_>, item: Item) {
        if self.undo.state(key) == Some(State::Saved) {
            return;
        }
        let payload = match item.content() {
            Content::Int(n) => Payload::Int(n),
            Content::Bytes(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => Payload::Embedded(bytes),
            Content::Bytes(bytes) => Payload::Large(bytes.to_vec()),
            Content::Collection(Held::Packed(kind, block)) => Payload::Packed(kind, block),
            Content::Collection(held) => Payload::Collection(Box::new(held.to_owned())),
        };
        let copy = Item::build(key.bytes, item.deadline_ms(), payload, item.is_raw());
        copy.touch(item.access_s());
        copy.set_cut(self.snapshot.bit);
        self.undo.keep(key, copy);
    }

    /// Saves what a write of so many bytes into a string at `offset` is about to change.
    pub(crate) fn save_text(&mut self, key: &Key<'_>, item: Item, offset: usize, len: usize) {
        if !self.save(key, item) {
            return;
        }
        if let Content::Bytes(text) = item.content() {
            let end = (offset + len).min(text.len());
            let old = text.get(offset..end).unwrap_or_default().to_vec();
            self.undo.note(key, Op::Text(text.len(), offset, old));
        }
    }

    pub(crate) fn save_deadline(&mut self, key: &Key<'_>, item: Item) {
        if self.save(key, item) {
            self.undo.note(key, Op::Deadline(item.deadline_ms()));
        }
    }

    /// Frees an item that is in no table; a large collection in slices.
    pub(crate) fn free_item(&mut self, item: Item) {
        match item.free() {
            Payload::Collection(collection) if collection.len() > FREED_AT_ONCE_MAX => {
                self.garbage.add_collection(collection);
            }
            Payload::Large(blob) if blob.capacity() >= BLOB_BYTES_MIN => {
                self.garbage.add_blob(blob);
            }
            _ => {}
        }
    }

    /// Frees a stream that is in no item, as [`Shard::free_item`] does.
    pub(crate) fn free_stream(&mut self, stream: Stream) {
        let collection = Collection::Stream(stream);
        if collection.len() > FREED_AT_ONCE_MAX {
            self.garbage.add_collection(Box::new(collection));
        }
    }

    fn remove_item(&mut self, key: &Key<'_>) {
        if let Some(item) = self.find(key) {
            Edit::applying(self).discard(key, item);
        }
    }

    fn put_item_back(&mut self, db: u8, item: Item) {
        let bytes = item.key().to_vec();
        let key = Key::new(db, &bytes);
        self.remove_item(&key);
        let place = &mut self.dbs[usize::from(db)];
        let table = &mut place.slot_mut(key.slot).table;
        let grown = table.insert_new(key.hash, item, |item| hash_bytes(item.key()));
        place.len += 1;
        let bytes = match item.content() {
            // The session that fills it counts them.
            Content::Collection(Held::Boxed(collection)) if collection.is_empty() => {
                item.heap_bytes()
            }
            _ => whole_bytes(item),
        };
        place.account(key.slot, grown + bytes as isize);
        if let Some(at_ms) = item.deadline_ms() {
            place.count_expires(key.slot, false, true);
            Edit::applying(self).hint(&key, item, at_ms);
        }
    }

    fn move_back(&mut self, from: &(u8, Box<[u8]>), to: &(u8, Box<[u8]>)) {
        let to = Key::new(to.0, &to.1);
        let Some(item) = self.find(&to) else { return };
        let (deadline, raw, access_s) = (item.deadline_ms(), item.is_raw(), item.access_s());
        Edit::applying(self).detach(&to, item);
        let small = match item.content() {
            Content::Bytes(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => bytes.to_vec(),
            Content::Collection(Held::Packed(_, block)) => block.to_vec(),
            _ => Vec::new(),
        };
        let payload = match item.free() {
            Payload::Embedded(_) => Payload::Embedded(&small),
            Payload::Packed(kind, _) => Payload::Packed(kind, &small),
            other => other,
        };
        let item = Item::build(&from.1, deadline, payload, raw);
        item.touch(access_s);
        item.set_cut(self.snapshot.bit);
        self.put_item_back(from.0, item);
    }

    fn put_tables_back(&mut self, db: u8, tables: Vec<(Slot, SlotTable<Item>)>) {
        let place = &mut self.dbs[usize::from(db)];
        for (slot, table) in tables {
            place.len += table.table.len();
            place.expires += table.expires as usize;
            place.bytes += table.bytes;
            *place.slot_mut(slot) = table;
        }
    }

    fn apply_inverses(&mut self, key: &Key<'_>, ops: Vec<Op>) {
        let mut ops = ops.into_iter().peekable();
        while let Some(op) = ops.peek() {
            let mut edit = Edit::applying(self);
            match op {
                Op::Text(..) | Op::Deadline(_) => match ops.next() {
                    Some(Op::Text(len, offset, old)) => self.rewrite(key, len, offset, &old),
                    Some(Op::Deadline(deadline)) => {
                        if let Some(item) = self.find(key) {
                            Edit::applying(self).set_deadline(key, item, deadline);
                        }
                    }
                    _ => return,
                },
                Op::Field(..) | Op::FieldDeadline(..) => {
                    let Ok(mut hash) = edit.edit_hash_or_new(key) else {
                        return;
                    };
                    while let Some(op) = ops.next_if(Op::is_of_hash) {
                        op.undo_hash(&mut hash);
                    }
                }
                Op::Stream(_) => {
                    let Ok(mut stream) = edit.edit_stream_or_new(key) else {
                        return;
                    };
                    while let Some(Op::Stream(inverse)) =
                        ops.next_if(|op| matches!(op, Op::Stream(_)))
                    {
                        stream.parts().0.undo(inverse);
                    }
                }
                Op::Member(..) => {
                    let Ok(mut set) = edit.edit_set_or_new(key) else {
                        return;
                    };
                    while let Some(Op::Member(member, was)) =
                        ops.next_if(|op| matches!(op, Op::Member(..)))
                    {
                        if was {
                            set.add(&member);
                        } else {
                            set.remove(&member);
                        }
                    }
                }
                Op::Score(..) => {
                    let Ok(mut zset) = edit.edit_zset_or_new(key) else {
                        return;
                    };
                    while let Some(Op::Score(member, old)) =
                        ops.next_if(|op| matches!(op, Op::Score(..)))
                    {
                        match old {
                            Some(score) => drop(zset.add(&member, score)),
                            None => drop(zset.remove(&member)),
                        }
                    }
                }
                _ => {
                    let Ok(mut list) = edit.edit_list_or_new(key) else {
                        return;
                    };
                    while let Some(op) = ops.next_if(Op::is_of_list) {
                        op.undo_list(&mut list);
                    }
                }
            }
        }
    }

    fn rewrite(&mut self, key: &Key<'_>, len: usize, offset: usize, old: &[u8]) {
        let Some(item) = self.find(key) else { return };
        let before = item.heap_bytes();
        item.with_large(|text| {
            text.truncate(len);
            if !old.is_empty() {
                write_into(text, offset, old);
            }
        });
        let grown = item.heap_bytes() as isize - before as isize;
        self.dbs[usize::from(key.db)].account(key.slot, grown);
    }
}

impl Entry {
    fn heap_bytes(&self) -> usize {
        match self {
            Entry::Absent(_, key) => key.len(),
            Entry::Was(_, item) => whole_bytes(*item),
            Entry::Change(_, key, op) => key.len() + op.heap_bytes(),
            Entry::Moved { from, to } => from.1.len() + to.1.len(),
            Entry::Flushed(_, _, tables) => tables.iter().map(|(_, table)| table.bytes).sum(),
            Entry::Swapped(..) => 0,
        }
    }
}

impl Op {
    fn heap_bytes(&self) -> usize {
        let all = |words: &[Vec<u8>]| words.iter().map(Vec::capacity).sum::<usize>();
        match self {
            Op::Pop(_) | Op::RemoveAt(_) | Op::Deadline(_) | Op::Quicklist => 0,
            Op::Push(_, word)
            | Op::SetAt(_, word)
            | Op::InsertAt(_, word)
            | Op::Field(word, None)
            | Op::FieldDeadline(word, _)
            | Op::Member(word, _)
            | Op::Score(word, _)
            | Op::Text(_, _, word) => word.capacity(),
            Op::Field(field, Some((value, _))) => field.capacity() + value.capacity(),
            Op::Untrim(front, back) => all(front) + all(back),
            Op::Stream(inverse) => inverse.heap_bytes(),
        }
    }

    fn is_of_list(&self) -> bool {
        matches!(
            self,
            Op::Pop(_)
                | Op::Push(..)
                | Op::SetAt(..)
                | Op::InsertAt(..)
                | Op::RemoveAt(_)
                | Op::Untrim(..)
                | Op::Quicklist
        )
    }

    fn is_of_hash(&self) -> bool {
        matches!(self, Op::Field(..) | Op::FieldDeadline(..))
    }

    fn undo_hash(self, hash: &mut HashEdit<'_>) {
        let (field, deadline) = match self {
            Op::FieldDeadline(field, deadline) => (field, deadline),
            Op::Field(field, Some((value, deadline))) => {
                hash.set(&field, &value);
                (field, deadline)
            }
            Op::Field(field, None) => {
                hash.remove(&field);
                return;
            }
            _ => return,
        };
        match deadline {
            Some(at_ms) => hash.expire_at(&field, at_ms),
            None => hash.persist(&field),
        };
    }

    fn undo_list(self, list: &mut ListEdit<'_>) {
        match self {
            Op::Quicklist => {
                let (list, shard, _) = list.parts();
                list.make_quicklist(&shard.limits);
            }
            Op::Pop(side) => drop(list.drop_end(side)),
            Op::Push(side, value) => list.push(side, &value),
            Op::SetAt(index, value) => drop(list.set(index, &value)),
            Op::InsertAt(index, value) => list.insert(index, &value),
            Op::RemoveAt(index) => drop(list.remove(index)),
            Op::Untrim(front, back) => {
                let front = front.iter().rev();
                front.for_each(|element| list.push(Side::Left, element));
                back.iter()
                    .for_each(|element| list.push(Side::Right, element));
            }
            _ => {}
        }
    }
}
