//! Hot path. The steps that the mutators of [`Edit`] are made of: an item found, put in its predecessor's place or a new
//! one, taken out, given another deadline. They count bytes and deadlines, note the hint and the change; effects are
//! recorded by whoever takes them (`edit.rs`, `session.rs`), except that of a passed deadline. `live` is the door at which a
//! snapshot that runs gets what is about to change (`snapshot/`).

use crate::edit::{Edit, Ttl};
use crate::effect::Effect;
use crate::events::EventClass;
use crate::hash::{Key, hash_bytes};
use crate::held::Held;
use crate::item::{Content, EMBEDDED_BYTES_MAX, Item, Payload, Small};
use crate::shard::{Shard, boxed_bytes, whole_bytes};
use crate::value::Collection;
use crate::view::WrongType;

impl Edit<'_> {
    /// The live item of a key; an expired one is expired first.
    #[inline(always)]
    pub(crate) fn live(&mut self, key: &Key<'_>) -> Option<Item> {
        let item = self.shard.find(key)?;
        if item.is_expired(self.shard.now_ms) && !self.applying {
            self.expire_item(key, item);
            return None;
        }
        if item.is_pending(self.shard.snapshot.bit) {
            self.shard.write_out(key, item);
        }
        self.shard.note_access(item);
        Some(item)
    }

    /// For whoever records before it writes: the effect of a passed deadline comes first.
    pub(crate) fn expire_if_due(&mut self, key: &Key<'_>) {
        let _ = self.live(key);
    }

    #[cold]
    pub(crate) fn expire_item(&mut self, key: &Key<'_>, item: Item) {
        self.discard(key, item);
        self.shard.expired += 1;
        self.event(EventClass::Expired, "expired", key);
        if self.shard.has_met_expired() && self.shard.events.wants(EventClass::Expired) {
            // A read has met it: to who listens it was gone before that read missed it.
            let events = &mut self.shard.events;
            events.move_last_before("keymiss", key.db, key.bytes);
        }
        self.shard
            .effects
            .push(key.db, &Effect::Expire { key: key.bytes });
        self.note(key);
    }

    /// Removes a key because memory is needed; one whose deadline has passed goes for that.
    #[cold]
    pub(crate) fn evict_item(&mut self, key: &Key<'_>, item: Item) {
        if item.is_expired(self.shard.now_ms) {
            return self.expire_item(key, item);
        }
        if item.is_pending(self.shard.snapshot.bit) {
            self.shard.write_out(key, item);
        }
        self.discard(key, item);
        self.shard.evicted += 1;
        self.event(EventClass::Evicted, "evicted", key);
        self.shard
            .effects
            .push(key.db, &Effect::Remove { key: key.bytes });
        self.note(key);
    }

    /// A key has changed.
    #[inline(always)]
    pub(crate) fn note(&mut self, key: &Key<'_>) {
        self.shard.changes = self.shard.changes.wrapping_add(1);
        if !self.shard.watched.is_empty() {
            self.shard.watched.touch(key.db, key.bytes);
        }
    }

    #[inline(always)]
    pub(crate) fn account(&mut self, key: &Key<'_>, grown: isize) {
        self.shard.dbs[key.db as usize].account(key.slot, grown);
    }

    /// Puts a short string, mostly in its predecessor's place.
    #[inline]
    pub(crate) fn put_small(&mut self, key: &Key<'_>, value: Small<'_>, ttl: Ttl) {
        let Some(old) = self.live(key) else {
            return self.put_new(key, value.into(), false, ttl);
        };
        if self.shard.undo.is_on() {
            self.shard.save(key, old);
        }
        let old_deadline = old.deadline_ms();
        let deadline = ttl.after(old_deadline);
        if !old.overwrite(deadline, value) {
            return self.put_over(key, old, value.into(), false, ttl);
        }
        if let Some(at_ms) = deadline
            && !hint_will_do(old, old_deadline, deadline)
        {
            self.hint(key, old, at_ms);
        }
        self.note(key);
    }

    pub(crate) fn put(&mut self, key: &Key<'_>, payload: Payload<'_>, raw: bool, ttl: Ttl) {
        match self.live(key) {
            Some(old) => self.put_over(key, old, payload, raw, ttl),
            None => self.put_new(key, payload, raw, ttl),
        }
    }

    /// For a key that is not there.
    pub(crate) fn put_new(&mut self, key: &Key<'_>, payload: Payload<'_>, raw: bool, ttl: Ttl) {
        let (item, extra) = built(key, ttl.after(None), payload, raw);
        self.insert(key, item, extra);
        self.note(key);
    }

    /// In another block than the one there, which is thrown away.
    fn put_over(&mut self, key: &Key<'_>, old: Item, payload: Payload<'_>, raw: bool, ttl: Ttl) {
        self.replace(key, old, payload, raw, ttl);
        self.note(key);
    }

    /// As `put_over`, when nothing changes that a client could watch.
    pub(crate) fn replace(
        &mut self,
        key: &Key<'_>,
        old: Item,
        payload: Payload<'_>,
        raw: bool,
        ttl: Ttl,
    ) {
        let deadline = ttl.after(old.deadline_ms());
        let (new, extra) = built(key, deadline, payload, raw);
        // `live` has noted this use.
        new.touch(old.access_s());
        new.set_cut(self.shard.snapshot.bit);
        let db = &mut self.shard.dbs[key.db as usize];
        let table = &mut db.slot_mut(key.slot).table;
        if let Some(mut place) = table.find_mut(key.hash, |item| item == old) {
            place.set(new);
        }
        let grown = (new.heap_bytes() + extra) as isize - whole_bytes(old) as isize;
        db.account(key.slot, grown);
        db.count_expires(key.slot, old.deadline_ms().is_some(), deadline.is_some());
        if let Some(at_ms) = deadline {
            if hint_will_do(old, old.deadline_ms(), deadline) {
                new.set_in_wheel();
            } else {
                self.hint(key, new, at_ms);
            }
        }
        self.throw_away(key, old);
    }

    /// Adds an item for a key that is not there. `extra` are the bytes of a collection in it.
    #[inline]
    pub(crate) fn insert(&mut self, key: &Key<'_>, item: Item, extra: usize) -> Item {
        let first = self.shard.first_access(key);
        item.touch(first);
        item.set_cut(self.shard.snapshot.bit);
        if self.shard.undo.is_on() {
            self.shard.undo.note_absent(key);
        }
        let deadline = item.deadline_ms();
        let db = &mut self.shard.dbs[key.db as usize];
        let table = &mut db.slot_mut(key.slot).table;
        let grown = table.insert_new(key.hash, item, |item| hash_bytes(item.key()));
        db.len += 1;
        db.account(key.slot, grown + (item.heap_bytes() + extra) as isize);
        if let Some(at_ms) = deadline {
            db.count_expires(key.slot, false, true);
            self.hint(key, item, at_ms);
        }
        self.event(EventClass::New, "new", key);
        item
    }

    /// Takes an item out of its table; its block is the caller's then.
    pub(crate) fn detach(&mut self, key: &Key<'_>, item: Item) {
        let db = &mut self.shard.dbs[key.db as usize];
        let table = &mut db.slot_mut(key.slot).table;
        if let Some((_, grown)) = table.remove_counted(key.hash, |other| other == item) {
            db.len -= 1;
            db.account(key.slot, grown - whole_bytes(item) as isize);
            db.count_expires(key.slot, item.deadline_ms().is_some(), false);
        }
    }

    /// Takes an item out of its table and throws it away.
    pub(crate) fn discard(&mut self, key: &Key<'_>, item: Item) {
        self.detach(key, item);
        self.throw_away(key, item);
    }

    fn throw_away(&mut self, key: &Key<'_>, item: Item) {
        if self.shard.snapshot.has_opens() && self.shard.keep_for_snapshot(key, item) {
            return;
        }
        if self.shard.undo.is_on() && self.shard.undo.keep(key, item) {
            return;
        }
        self.shard.free_item(item);
    }

    pub(crate) fn set_deadline(&mut self, key: &Key<'_>, item: Item, deadline: Option<u64>) {
        let old = item.deadline_ms();
        if self.shard.undo.is_on() {
            self.shard.save_deadline(key, item);
        }
        let hinted = hint_will_do(item, old, deadline);
        let item = match (old, deadline) {
            (Some(_), Some(at_ms)) => {
                item.set_deadline_ms(at_ms);
                item
            }
            _ => self.rebuild(key, item, deadline),
        };
        if let Some(at_ms) = deadline
            && !hinted
        {
            self.hint(key, item, at_ms);
        }
    }

    /// The same value in a block with or without room for a deadline.
    fn rebuild(&mut self, key: &Key<'_>, item: Item, deadline: Option<u64>) -> Item {
        let (access_s, raw, before) = (item.access_s(), item.is_raw(), item.heap_bytes());
        let had_deadline = item.deadline_ms().is_some();
        let small = match item.content() {
            Content::Bytes(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => bytes.to_vec(),
            Content::Collection(Held::Packed(_, block)) => block.to_vec(),
            _ => Vec::new(),
        };
        let db = &mut self.shard.dbs[key.db as usize];
        let table = &mut db.slot_mut(key.slot).table;
        let Some(mut place) = table.find_mut(key.hash, |other| other == item) else {
            return item;
        };
        let payload = match item.free() {
            Payload::Embedded(_) => Payload::Embedded(&small),
            Payload::Packed(kind, _) => Payload::Packed(kind, &small),
            other => other,
        };
        let new = Item::build(key.bytes, deadline, payload, raw);
        new.touch(access_s);
        new.set_cut(self.shard.snapshot.bit);
        place.set(new);
        db.account(key.slot, new.heap_bytes() as isize - before as isize);
        db.count_expires(key.slot, had_deadline, deadline.is_some());
        new
    }

    /// The item of a collection of the type that `is_meant` knows, which is given a box if it has none: to be changed.
    ///
    /// # Errors
    /// [`WrongType`] when it holds something else.
    #[inline]
    pub(crate) fn boxed(
        &mut self,
        key: &Key<'_>,
        item: Item,
        is_meant: impl FnOnce(&Collection) -> bool,
    ) -> Result<Item, WrongType> {
        match item.content() {
            Content::Collection(Held::Boxed(collection)) => {
                is_meant(collection).then_some(item).ok_or(WrongType)
            }
            Content::Collection(held) if is_meant(&held.view()) => {
                let payload = Payload::Collection(Box::new(held.to_owned()));
                Ok(self.reshape(key, item, payload))
            }
            _ => Err(WrongType),
        }
    }

    /// The end of a session that has made a collection: a small one moves into its item's block.
    #[cold]
    fn pack(&mut self, key: &Key<'_>, item: Item) {
        let Content::Collection(Held::Boxed(collection)) = item.content() else {
            return;
        };
        // (A list that is given one element is the beginning of a queue.)
        let is_queue = matches!(collection, Collection::List(list) if list.len() == 1);
        if let Some((kind, block)) = collection.packed()
            && !is_queue
        {
            self.reshape(key, item, Payload::Packed(kind, block));
        }
    }

    /// Puts the same value into another block. Nothing that a client or who applies effects could see.
    #[cold]
    fn reshape(&mut self, key: &Key<'_>, item: Item, payload: Payload<'_>) -> Item {
        let new = Item::build(key.bytes, item.deadline_ms(), payload, false);
        new.take_notes(item);
        let grown = whole_bytes(new) as isize - whole_bytes(item) as isize;
        let db = &mut self.shard.dbs[key.db as usize];
        let table = &mut db.slot_mut(key.slot).table;
        if let Some(mut place) = table.find_mut(key.hash, |other| other == item) {
            place.set(new);
        }
        db.account(key.slot, grown);
        drop(item.free());
        new
    }

    #[inline]
    pub(crate) fn hint(&mut self, key: &Key<'_>, item: Item, at_ms: u64) {
        item.set_in_wheel();
        self.shard.push_hint(at_ms, key);
    }

    /// The end of a session that changed a collection (see `session.rs`).
    pub(crate) fn end_session(
        shard: &mut Shard,
        key: &Key<'_>,
        item: Item,
        before_bytes: usize,
        changed: bool,
    ) {
        let mut edit = Edit::new(shard);
        let Content::Collection(Held::Boxed(collection)) = item.content() else {
            return;
        };
        let after = boxed_bytes(collection);
        edit.account(key, after as isize - before_bytes as isize);
        if collection.is_empty() {
            edit.discard(key, item);
            if changed && before_bytes > 0 {
                edit.event(EventClass::Generic, "del", key);
            }
        } else if before_bytes == 0 {
            edit.pack(key, item);
        }
        if changed {
            edit.note(key);
        }
    }
}

/// Whether the hint for `item`, if any, will do for `deadline`: it is there at the old one or before.
#[inline(always)]
fn hint_will_do(item: Item, old: Option<u64>, deadline: Option<u64>) -> bool {
    item.in_wheel() && old <= deadline
}

/// An item, and the bytes of a collection beside its block. A small collection is put into the block.
fn built(key: &Key<'_>, deadline: Option<u64>, payload: Payload<'_>, raw: bool) -> (Item, usize) {
    let mut extra = 0;
    if let Payload::Collection(collection) = &payload {
        if let Some((kind, block)) = collection.packed() {
            let packed = Payload::Packed(kind, block);
            return (Item::build(key.bytes, deadline, packed, raw), 0);
        }
        extra = boxed_bytes(collection);
    }
    (Item::build(key.bytes, deadline, payload, raw), extra)
}
