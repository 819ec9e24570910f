//! Sessions over one collection: one lookup, then any number of changes, each with its effect.
//!
//! A session derefs to the value for reads. When it ends the shard counts the bytes, tells those who
//! watch the key (if anything changed) and removes the key if nothing is left in it.
#![allow(
    unsafe_code,
    reason = "a session holds the collection mutably beside its shard"
)]

use core::ops::Deref;

use crate::edit::Edit;
use crate::effect::Effect;
use crate::events::EventClass;
use crate::hash::Key;
use crate::held::Held;
use crate::item::{Content, Item};
use crate::shard::{Shard, boxed_bytes};
use crate::snapshot::Open;
use crate::undo::Op;
use crate::value::stream::StreamId;
use crate::value::{Added, Collection, Hash, List, Set, Side, Stream, Zset};

macro_rules! session {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $type:ty, $gone:ident) => {
        $(#[$doc])*
        pub struct $name<'s> {
            shard: &'s mut Shard,
            key: Key<'s>,
            item: Item,
            before_bytes: usize,
            changed: bool,
            /// Nothing was left in it at some point: who applies the effects removed the key there.
            emptied: bool,
            /// A snapshot has not got all of it.
            pub(crate) open: bool,
        }

        impl<'s> $name<'s> {
            /// `item` is in `shard` and holds a value of this type, in a box.
            #[inline]
            pub(crate) fn new(shard: &'s mut Shard, key: Key<'s>, item: Item) -> Self {
                let before_bytes = match item.content() {
                    Content::Collection(Held::Boxed(c)) if !c.is_empty() => boxed_bytes(c),
                    // A new one: nothing of it has been counted.
                    _ => 0,
                };
                let open = shard.snapshot.has_opens() && shard.snapshot.open_of(&key).is_some();
                Self { shard, key, item, before_bytes, changed: false, emptied: false, open }
            }

            /// As [`Edit::event`], for this key.
            #[inline(always)]
            pub fn event(&mut self, class: EventClass, name: &'static str) {
                self.shard.events.push(class, name, self.key.db, self.key.bytes);
            }

            /// Something has been taken out.
            #[inline(always)]
            pub(crate) fn note_removal(&mut self) {
                self.changed = true;
                self.emptied |= self.$gone();
            }

            /// Tells a snapshot that has not got all of the value what is about to change.
            #[cold]
            pub(crate) fn before(&mut self, tell: impl FnOnce(&mut Open, &$type)) {
                if let (
                    Some(open),
                    Content::Collection(Held::Boxed(Collection::$kind(value))),
                ) = (self.shard.snapshot.open_of(&self.key), self.item.content())
                {
                    tell(open, value);
                }
            }

            /// The value beside the shard's limits and effects.
            #[inline(always)]
            pub(crate) fn parts(&mut self) -> (&mut $type, &mut Shard, &Key<'s>) {
                // SAFETY: (1) the session borrows the shard mutably, so no reference into the item
                // exists but this one; the shard's own fields do not overlap the collection's heap.
                match unsafe { self.item.collection_mut() } {
                    Some(Collection::$kind(value)) => (value, self.shard, &self.key),
                    // INVARIANT: `new` is given an item of this type, and a session never changes it.
                    _ => unreachable!("a session's item keeps its type"),
                }
            }
        }

        impl Deref for $name<'_> {
            type Target = $type;

            #[inline(always)]
            fn deref(&self) -> &$type {
                match self.item.content() {
                    Content::Collection(Held::Boxed(Collection::$kind(value))) => value,
                    // INVARIANT: as in `parts`.
                    _ => unreachable!("a session's item keeps its type"),
                }
            }
        }

        impl Drop for $name<'_> {
            #[inline]
            fn drop(&mut self) {
                if self.emptied && !self.$gone() && let Some(at_ms) = self.item.deadline_ms() {
                    // Whoever applies made the key anew, without its deadline.
                    let effect = Effect::ExpireAt { key: self.key.bytes, at_ms };
                    self.shard.effects.push(self.key.db, &effect);
                }
                Edit::end_session(self.shard, &self.key, self.item, self.before_bytes, self.changed);
            }
        }
    };
}

session!(
    /// Changes to a list.
    ListEdit, List, List, is_empty
);
session!(
    /// Changes to a hash.
    HashEdit, Hash, Hash, is_empty
);
session!(
    /// Changes to a set.
    SetEdit, Set, Set, is_empty
);
session!(
    /// Changes to a sorted set.
    ZsetEdit, Zset, Zset, is_empty
);
session!(
    /// Changes to a stream; its methods are in `stream_session.rs`.
    StreamEdit, Stream, Stream, is_vacant
);

/// How changes of large values are noted for undo.
macro_rules! noted {
    ($($name:ident)*) => {
        $(impl $name<'_> {
            /// Whether what is about to change must be noted change by change, to be undone.
            #[inline(always)]
            pub(crate) fn is_noted(&mut self) -> bool {
                self.shard.undo.is_on() && self.shard.save(&self.key, self.item)
            }

            /// Notes how to undo a change.
            #[cold]
            pub(crate) fn note_undo(&mut self, op: Op) {
                self.shard.undo.note(&self.key, op);
            }
        })*
    };
}

noted!(ListEdit HashEdit SetEdit ZsetEdit StreamEdit);

macro_rules! of_members {
    ($($name:ident)*) => {
        $(impl $name<'_> {
            /// A member or field is about to be added, changed or removed.
            #[cold]
            fn before_member(&mut self, member: &[u8]) {
                let item = self.item;
                if let Content::Collection(Held::Boxed(collection)) = item.content() {
                    self.before(|open, _| open.before_member(collection, member));
                }
            }
        })*
    };
}

of_members!(HashEdit SetEdit ZsetEdit);

impl StreamEdit<'_> {
    /// An entry is about to be added: one that the snapshot would take for one of the cut lets it finish first.
    #[cold]
    pub(crate) fn before_add_within(&mut self, id: StreamId) {
        let item = self.item;
        self.before(|open, _| {
            if open.is_within(id) {
                open.finish(item);
            }
        });
    }
}

impl ListEdit<'_> {
    /// The element at an end is about to go.
    #[cold]
    fn before_end(&mut self, side: Side) {
        self.before(|open, list| match (side, list.len()) {
            (_, 0) => {}
            (Side::Left, _) => open.before_remove(list, 0),
            (Side::Right, len) => open.before_remove(list, len - 1),
        });
    }

    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, side: Side, value: &[u8]) {
        if self.open {
            self.before(|open, _| open.before_push(side));
        }
        if self.is_noted() {
            self.note_undo(Op::Pop(side));
        }
        self.changed = true;
        let (list, shard, key) = self.parts();
        list.push(side, value, &shard.limits);
        shard.effects.push(
            key.db,
            &Effect::ListPush {
                key: key.bytes,
                side,
                value,
            },
        );
    }

    /// Takes the element at an end.
    pub fn pop(&mut self, side: Side) -> Option<Vec<u8>> {
        if self.open {
            self.before_end(side);
        }
        let noted = self.is_noted();
        let (list, shard, key) = self.parts();
        let value = list.pop(side)?;
        shard.effects.push(
            key.db,
            &Effect::ListPop {
                key: key.bytes,
                side,
            },
        );
        if noted {
            self.note_undo(Op::Push(side, value.clone()));
        }
        self.note_removal();
        Some(value)
    }

    /// Drops the element at an end (read it by `peek` before); whether there was one.
    pub fn drop_end(&mut self, side: Side) -> bool {
        if self.open {
            self.before_end(side);
        }
        if self.is_noted()
            && let Some(value) = self.peek(side).map(<[u8]>::to_vec)
        {
            self.note_undo(Op::Push(side, value));
        }
        let (list, shard, key) = self.parts();
        let done = list.drop_end(side);
        if done {
            shard.effects.push(
                key.db,
                &Effect::ListPop {
                    key: key.bytes,
                    side,
                },
            );
            self.note_removal();
        }
        done
    }

    /// Replaces an element; whether the index is in the list.
    pub fn set(&mut self, index: usize, value: &[u8]) -> bool {
        if self.open {
            self.before(|open, list| open.before_set(list, index));
        }
        if self.is_noted()
            && let Some(old) = self.get(index).map(<[u8]>::to_vec)
        {
            self.note_undo(Op::SetAt(index, old));
        }
        let (list, shard, key) = self.parts();
        let done = list.set(index, value, &shard.limits);
        if done {
            let effect = Effect::ListSet {
                key: key.bytes,
                index: index as u64,
                value,
            };
            shard.effects.push(key.db, &effect);
            self.changed = true;
        }
        done
    }

    /// Inserts an element before index `index` (at most the length).
    pub fn insert(&mut self, index: usize, value: &[u8]) {
        if self.is_empty() {
            // Whoever applies may have no list to insert into.
            return self.push(Side::Left, value);
        }
        if self.open {
            self.before(|open, list| open.before_insert(list, index.min(list.len())));
        }
        if self.is_noted() {
            let index = index.min(self.len());
            self.note_undo(Op::RemoveAt(index));
        }
        self.changed = true;
        let (list, shard, key) = self.parts();
        let index = index.min(list.len());
        list.insert(index, value, &shard.limits);
        shard.effects.push(
            key.db,
            &Effect::ListInsert {
                key: key.bytes,
                index: index as u64,
                value,
            },
        );
    }

    /// Removes an element; whether the index is in the list.
    pub fn remove(&mut self, index: usize) -> bool {
        if self.open {
            self.before(|open, list| open.before_remove(list, index));
        }
        if self.is_noted()
            && let Some(old) = self.get(index).map(<[u8]>::to_vec)
        {
            self.note_undo(Op::InsertAt(index, old));
        }
        let (list, shard, key) = self.parts();
        let done = list.remove(index);
        if done {
            shard.effects.push(
                key.db,
                &Effect::ListRemove {
                    key: key.bytes,
                    index: index as u64,
                },
            );
            self.note_removal();
        }
        done
    }

    /// Keeps only elements `start..end` (clamped; an empty range removes the key).
    pub fn trim(&mut self, start: usize, end: usize) {
        if self.is_empty() {
            return;
        }
        if self.open {
            self.before(|open, list| {
                let end = end.min(list.len());
                open.before_trim(list, start.min(end), end);
            });
        }
        if self.is_noted() {
            let end = end.min(self.len());
            let cut = |list: &List, from, to: usize| {
                let elements = list.iter_from(from).take(to.saturating_sub(from));
                elements.map(|element| element.to_vec()).collect()
            };
            let (front, back) = (cut(self, 0, start.min(end)), cut(self, end, self.len()));
            self.note_undo(Op::Untrim(front, back));
        }
        let (list, shard, key) = self.parts();
        let end = end.min(list.len());
        let start = start.min(end);
        list.trim(start, end);
        let effect = Effect::ListTrim {
            key: key.bytes,
            start: start as u64,
            end: end as u64,
        };
        shard.effects.push(key.db, &effect);
        self.note_removal();
    }
}

impl HashEdit<'_> {
    /// Notes a field's deadline, which is about to change.
    #[cold]
    fn note_deadline(&mut self, field: &[u8]) {
        if self.is_noted() && self.contains(field) {
            let old = self.deadline_ms(field);
            self.note_undo(Op::FieldDeadline(field.to_vec(), old));
        }
    }

    /// Notes a field, which is about to be set or removed.
    #[cold]
    fn note_field(&mut self, field: &[u8]) {
        let old = self.get(field).map(<[u8]>::to_vec);
        let old = old.map(|value| (value, self.deadline_ms(field)));
        self.note_undo(Op::Field(field.to_vec(), old));
    }

    /// See [`Hash::expect`]. No effect: it changes the form only.
    pub fn expect(&mut self, count: usize) {
        let (hash, shard, _) = self.parts();
        hash.expect(count, &shard.limits);
    }

    /// As [`HashEdit::set`], and the field keeps its deadline.
    pub fn set_keeping(&mut self, field: &[u8], value: &[u8]) -> bool {
        let deadline = self.deadline_ms(field);
        let new = self.set(field, value);
        if let Some(at_ms) = deadline {
            self.expire_at(field, at_ms);
        }
        new
    }

    /// Gives a field a deadline, unix ms; whether the field is there.
    pub fn expire_at(&mut self, field: &[u8], at_ms: u64) -> bool {
        if self.open {
            self.before_member(field);
        }
        if self.shard.undo.is_on() {
            self.note_deadline(field);
        }
        let first = self.first_deadline_ms();
        let (hash, shard, key) = self.parts();
        if !hash.set_deadline(field, Some(at_ms)) {
            return hash.contains(field);
        }
        let effect = Effect::HashExpireAt {
            key: key.bytes,
            field,
            at_ms,
        };
        shard.effects.push(key.db, &effect);
        if first.is_none_or(|first| at_ms < first) {
            shard.push_hint(at_ms, key);
        }
        self.changed = true;
        true
    }

    /// Takes the deadline of a field away; whether it had one.
    pub fn persist(&mut self, field: &[u8]) -> bool {
        if self.open {
            self.before_member(field);
        }
        if self.shard.undo.is_on() {
            self.note_deadline(field);
        }
        let (hash, shard, key) = self.parts();
        let had_one = hash.set_deadline(field, None);
        if had_one {
            let effect = Effect::HashPersist {
                key: key.bytes,
                field,
            };
            shard.effects.push(key.db, &effect);
            self.changed = true;
        }
        had_one
    }

    /// Removes fields whose deadline has passed, at most so many.
    pub(crate) fn expire_fields(&mut self, budget: usize) {
        let now_ms = self.shard.now_ms;
        let due = self.deadlines().take(budget);
        let due = due.take_while(|(_, at_ms)| *at_ms <= now_ms);
        let fields: Vec<Vec<u8>> = due.map(|(field, _)| field.to_vec()).collect();
        for field in &fields {
            self.remove(field);
        }
        self.shard.fields_expired += fields.len() as u64;
        if !fields.is_empty() {
            self.event(EventClass::Hash, "hexpired");
        }
    }

    /// Sets a field, which has no deadline then; whether it is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if self.open {
            self.before_member(field);
        }
        if self.is_noted() {
            self.note_field(field);
        }
        self.changed = true;
        let (hash, shard, key) = self.parts();
        let new = hash.set(field, value, &shard.limits);
        shard.effects.push(
            key.db,
            &Effect::HashSet {
                key: key.bytes,
                field,
                value,
            },
        );
        new
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if self.open {
            self.before_member(field);
        }
        if self.is_noted() && self.contains(field) {
            self.note_field(field);
        }
        let (hash, shard, key) = self.parts();
        let done = hash.remove(field);
        if done {
            shard.effects.push(
                key.db,
                &Effect::HashRemove {
                    key: key.bytes,
                    field,
                },
            );
            self.note_removal();
        }
        done
    }
}

impl SetEdit<'_> {
    /// See [`Set::expect`]. No effect: it changes the form only.
    #[inline]
    pub fn expect(&mut self, first: &[u8], count: usize) {
        let (set, shard, _) = self.parts();
        set.expect(first, count, &shard.limits);
    }

    /// Adds a member; whether it is new.
    #[inline]
    pub fn add(&mut self, member: &[u8]) -> bool {
        if self.open {
            self.before_member(member);
        }
        if self.is_noted() && !self.contains(member) {
            self.note_undo(Op::Member(member.to_vec(), false));
        }
        let (set, shard, key) = self.parts();
        let new = set.add(member, &shard.limits);
        if new {
            shard.effects.push(
                key.db,
                &Effect::SetAdd {
                    key: key.bytes,
                    member,
                },
            );
            self.changed = true;
        }
        new
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        if self.open {
            self.before_member(member);
        }
        if self.is_noted() && self.contains(member) {
            self.note_undo(Op::Member(member.to_vec(), true));
        }
        let (set, shard, key) = self.parts();
        let done = set.remove(member);
        if done {
            shard.effects.push(
                key.db,
                &Effect::SetRemove {
                    key: key.bytes,
                    member,
                },
            );
            self.note_removal();
        }
        done
    }
}

impl ZsetEdit<'_> {
    /// See [`Zset::expect`]. No effect: it changes the form only.
    #[inline]
    pub fn expect(&mut self, count: usize) {
        let (zset, shard, _) = self.parts();
        zset.expect(count, &shard.limits);
    }

    /// Adds a member or changes its score (not NaN).
    #[inline]
    pub fn add(&mut self, member: &[u8], score: f64) -> Added {
        if self.open {
            self.before_member(member);
        }
        if self.is_noted() {
            let old = self.score(member);
            self.note_undo(Op::Score(member.to_vec(), old));
        }
        let (zset, shard, key) = self.parts();
        let added = zset.add(member, score, &shard.limits);
        if added != Added::Same {
            shard.effects.push(
                key.db,
                &Effect::ZsetAdd {
                    key: key.bytes,
                    member,
                    score,
                },
            );
            self.changed = true;
        }
        added
    }

    /// Removes a member; its score, if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        if self.open {
            self.before_member(member);
        }
        if self.is_noted()
            && let Some(old) = self.score(member)
        {
            self.note_undo(Op::Score(member.to_vec(), Some(old)));
        }
        let (zset, shard, key) = self.parts();
        let score = zset.remove(member)?;
        shard.effects.push(
            key.db,
            &Effect::ZsetRemove {
                key: key.bytes,
                member,
            },
        );
        self.note_removal();
        Some(score)
    }
}
