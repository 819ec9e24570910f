//! Hot path. `Shard`: the slots of one core, and its typed reads.
//!
//! Reads take `&self`: an item's access time is the only thing a read changes, and it lies in the
//! item's own block. Whoever wants to change data asks for an [`Edit`]. The shard's clock is what
//! [`Shard::set_now`] was told last: one time for all that a turn does.

use core::cell::Cell;

use crate::account::class_size;
use crate::due::Ends;
use crate::edit::Edit;
use crate::effect::Effects;
use crate::events::{EventClass, Events};
use crate::eviction::{Eviction, Evictor};
use crate::expiry::{Hint, Wheel};
use crate::garbage::Garbage;
use crate::hash::Key;
use crate::held::{Held, Views, hash_of, list_of, set_of, stream_of, value_of, zset_of};
use crate::item::{Content, Item};
use crate::lend::SlotSet;
use crate::snapshot::Snapshot;
use crate::table::{SlotTable, Table, zeroed_tables};
use crate::undo::Undo;
use crate::uses::Uses;
use crate::value::{Collection, Hash, List, Set, Stream, Zset};
use crate::view::{Text, Value, WrongType};
use crate::watch::Watched;
use crate::{Limits, Rng, SLOTS, Slot};

/// Bits of a cursor below the slot: the table's hash prefix.
const SCAN_PREFIX_BITS: u32 = crate::table::CURSOR_BITS;
/// Longest string that reports "embstr", bytes (Redis's limit).
const EMBSTR_BYTES_MAX: usize = 44;
/// What a key's place in its bucket costs on average, bytes: 64 for 5.5 entries.
const BUCKET_SHARE_BYTES: usize = 12;

/// One database of one shard.
#[derive(Default)]
pub(crate) struct Db {
    /// Tables of all 16384 slots, this shard's and (empty, unless on a visit) the others'; allocated
    /// when first written.
    pub(crate) tables: Option<Box<[SlotTable<Item>; SLOTS]>>,
    /// Keys held. This and the rest are sums over `tables`.
    pub(crate) len: usize,
    /// Keys held that have a deadline.
    pub(crate) expires: usize,
    /// Bytes of tables, items and values, as the allocator rounds them.
    pub(crate) bytes: usize,
    /// Keys that a slot will probably hold when what is being loaded is there; else 0.
    pub(crate) expected: usize,
}

impl Db {
    #[inline(always)]
    pub(crate) fn table(&self, slot: Slot) -> Option<&Table<Item>> {
        let tables = self.tables.as_ref()?;
        Some(&tables[slot.index() % SLOTS].table)
    }

    #[inline(always)]
    pub(crate) fn slot_mut(&mut self, slot: Slot) -> &mut SlotTable<Item> {
        &mut self.tables.get_or_insert_with(zeroed_tables)[slot.index() % SLOTS]
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table<Item>> {
        let tables = self.tables.iter().flat_map(|tables| tables.iter());
        tables.map(|slot| &slot.table)
    }

    /// Notes that the bytes of a slot have changed.
    #[inline(always)]
    pub(crate) fn account(&mut self, slot: Slot, grown: isize) {
        self.bytes = self.bytes.wrapping_add_signed(grown);
        let slot = self.slot_mut(slot);
        slot.bytes = slot.bytes.wrapping_add_signed(grown);
    }

    /// Notes that a key of a slot has a deadline now, or no longer.
    #[inline(always)]
    pub(crate) fn count_expires(&mut self, slot: Slot, before: bool, after: bool) {
        if before != after {
            let change = if after { 1 } else { -1 };
            self.expires = self.expires.wrapping_add_signed(change);
            let slot = self.slot_mut(slot);
            slot.expires = slot.expires.wrapping_add_signed(change as i32);
        }
    }
}

/// Keys of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbCount {
    /// All keys.
    pub keys: usize,
    /// Keys with a deadline.
    pub expires: usize,
}

/// What is known of an item beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemInfo {
    /// What TYPE answers.
    pub type_name: &'static str,
    /// What OBJECT ENCODING answers.
    pub encoding: &'static str,
    /// Absolute deadline, unix ms.
    pub deadline_ms: Option<u64>,
    /// Seconds since the last access; means nothing while uses are counted.
    pub idle_s: u64,
    /// How often it is used, while that is counted (see [`Shard::set_lfu`]), else 0.
    pub frequency: u8,
    /// Bytes that the key with its value takes, as MEMORY USAGE answers.
    pub heap_bytes: usize,
    /// Elements of a collection, bytes of a string.
    pub len: usize,
    /// Where it lies in memory.
    pub address: usize,
}

/// The slots of one core: see the crate's head.
pub struct Shard {
    pub(crate) dbs: Box<[Db]>,
    pub(crate) limits: Limits,
    pub(crate) now_ms: u64,
    /// The same, whatever is held of deadlines: see `suspend_deadlines`.
    pub(crate) wall_ms: u64,
    /// And in seconds, as items note it.
    now_s: u32,
    /// What items note of their uses.
    pub(crate) uses: Uses,
    /// How often chance has decided about a use.
    pub(crate) lfu_draws: Cell<u64>,
    /// Collections in items' blocks, as they are shown.
    pub(crate) views: Views,
    /// How keys are evicted, and who chooses them.
    pub(crate) eviction: Option<Eviction>,
    pub(crate) evictor: Option<Box<Evictor>>,
    /// Keys removed because memory was needed.
    pub(crate) evicted: u64,
    pub(crate) wheel: Wheel,
    pub(crate) watched: Watched,
    pub(crate) garbage: Garbage,
    pub(crate) effects: Effects,
    pub(crate) events: Events,
    /// What a script has changed so far.
    pub(crate) undo: Undo,
    /// The image that is being written.
    pub(crate) snapshot: Snapshot,
    /// The slots that live here.
    pub(crate) owned: SlotSet,
    /// Owned slots that are on a visit elsewhere.
    pub(crate) away: SlotSet,
    /// Hints for the wheels of the owners of borrowed slots.
    pub(crate) foreign_hints: Vec<(u64, Hint)>,
    /// Slots that are on a visit here.
    pub(crate) guests: usize,
    /// More hints than this, and stale ones are swept out.
    pub(crate) hints_max: usize,
    /// Mutations since the beginning.
    pub(crate) changes: u64,
    /// Keys removed because their deadline had passed.
    pub(crate) expired: u64,
    pub(crate) fields_expired: u64,
    /// Keys that reads have met after their deadline, to be removed when the read is over.
    met_expired: Cell<Vec<(u8, Box<[u8]>)>>,
    has_met_expired: Cell<bool>,
    /// Keys stay past their deadline, though nobody sees them.
    holds_expired: bool,
    /// See [`Shard::set_ends`].
    pub(crate) ends: Option<Ends>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl Shard {
    /// An empty shard of `dbs` databases (1..=256) that owns `slots`, at `now_ms` (unix).
    pub fn new(
        dbs: usize,
        slots: impl IntoIterator<Item = Slot>,
        limits: Limits,
        now_ms: u64,
    ) -> Shard {
        assert!((1..=256).contains(&dbs), "a database's number is one byte");
        let mut owned = SlotSet::default();
        slots.into_iter().for_each(|slot| owned.insert(slot));
        Shard {
            dbs: (0..dbs).map(|_| Db::default()).collect(),
            limits,
            now_ms,
            wall_ms: now_ms,
            now_s: (now_ms / 1000) as u32,
            uses: Uses::Last,
            lfu_draws: Cell::new(0),
            views: Views::default(),
            eviction: None,
            evictor: None,
            evicted: 0,
            wheel: Wheel::new(now_ms),
            watched: Watched::default(),
            garbage: Garbage::default(),
            effects: Effects::default(),
            events: Events::default(),
            undo: Undo::default(),
            snapshot: Snapshot::new(dbs),
            owned,
            away: SlotSet::default(),
            foreign_hints: Vec::new(),
            guests: 0,
            hints_max: HINTS_SPARE_MAX,
            changes: 0,
            expired: 0,
            fields_expired: 0,
            met_expired: Cell::default(),
            has_met_expired: Cell::new(false),
            holds_expired: false,
            ends: None,
            hits: Cell::new(0),
            misses: Cell::new(0),
        }
    }

    /// Takes the memory for a database's tables of the slots that live here, for a server that will hold keys in it: the first of them do not
    /// pay for it, and it is counted from the start.
    pub fn settle(&mut self, db: u8) {
        const SLOTS_A_PAGE: usize = 4096 / size_of::<SlotTable<Item>>();
        let tables = self.dbs[db as usize]
            .tables
            .get_or_insert_with(zeroed_tables);
        for number in (0..SLOTS).step_by(SLOTS_A_PAGE) {
            if self.owned.contains(Slot(number as u16)) {
                // (Or it would be seen that a zero is there.)
                core::hint::black_box(&mut tables[number]).expires = 0;
            }
        }
    }

    /// Sets the time of all that follows, unix ms.
    #[inline]
    pub fn set_now(&mut self, now_ms: u64) {
        (self.now_ms, self.wall_ms) = (now_ms, now_ms);
        self.now_s = (now_ms / 1000) as u32;
        self.views.trim();
    }

    /// The time that [`Shard::set_now`] gave.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// When collections leave their compact form.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the limits for what is written from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Number of databases.
    pub fn db_count(&self) -> usize {
        self.dbs.len()
    }

    /// A command is about to read: what others have been shown is done with. Without it, reads alone would never let go of what they
    /// have been shown.
    #[inline(always)]
    pub fn begin_read(&mut self) {
        self.views.forget();
    }

    /// The door to every change.
    #[inline(always)]
    pub fn edit(&mut self) -> Edit<'_> {
        self.views.forget();
        Edit::new(self)
    }

    // ---- looking up -------------------------------------------------------------------------

    /// The item of a key, expired or not.
    #[inline(always)]
    pub(crate) fn find(&self, key: &Key<'_>) -> Option<Item> {
        debug_assert!(!self.away.contains(key.slot), "the slot is lent");
        self.dbs[key.db as usize]
            .table(key.slot)?
            .find(key.hash, |item: Item| item.is(key.bytes))
    }

    /// The item of a key, unless its deadline has passed.
    #[inline(always)]
    pub(crate) fn live(&self, key: &Key<'_>) -> Option<Item> {
        let item = self.find(key)?;
        if item.is_expired(self.now_ms) {
            self.meet_expired(key);
            return None;
        }
        Some(item)
    }

    /// A read has met a key whose deadline has passed: it proposes its end, and changes nothing.
    #[cold]
    fn meet_expired(&self, key: &Key<'_>) {
        let mut met = self.met_expired.take();
        if met.len() < MET_EXPIRED_MAX {
            met.push((key.db, key.bytes.into()));
        }
        self.met_expired.set(met);
        self.has_met_expired.set(true);
    }

    /// Whether reads have met keys whose deadline has passed.
    #[inline(always)]
    pub fn has_met_expired(&self) -> bool {
        self.has_met_expired.get()
    }

    /// Whether keys stay past their deadline until this is taken back: while clients may not write. Nobody sees them.
    pub fn set_holds_expired(&mut self, holds: bool) {
        self.holds_expired = holds;
    }

    /// See [`Shard::set_holds_expired`].
    pub fn holds_expired(&self) -> bool {
        self.holds_expired
    }

    /// Removes the keys that reads have met after their deadline.
    #[cold]
    pub fn expire_met(&mut self) {
        let met = self.met_expired.take();
        let met = if self.holds_expired { Vec::new() } else { met };
        for (db, key) in met {
            let key = Key::new(db, &key);
            let is_expired = |item: Item| item.is_expired(self.now_ms);
            if self.find(&key).is_some_and(is_expired) && self.may_end(key.bytes) {
                self.edit().expire(&key);
            }
        }
        self.has_met_expired.set(false);
    }

    /// As `live`, for a command that reads the value: counts hit or miss and notes the access.
    #[inline(always)]
    fn read(&self, key: &Key<'_>) -> Option<Item> {
        match self.live(key) {
            Some(item) => {
                self.note_access(item);
                self.hits.set(self.hits.get().wrapping_add(1));
                Some(item)
            }
            None => {
                self.misses.set(self.misses.get().wrapping_add(1));
                self.note_miss(key);
                None
            }
        }
    }

    #[inline(always)]
    fn note_miss(&self, key: &Key<'_>) {
        let class = EventClass::KeyMiss;
        self.events.push(class, "keymiss", key.db, key.bytes);
    }

    #[inline(always)]
    pub(crate) fn now_s(&self) -> u32 {
        self.now_s
    }

    /// Whether the key is there; not an access.
    #[inline]
    pub fn contains(&self, key: &Key<'_>) -> bool {
        self.live(key).is_some()
    }

    /// Whether the key is there, counted as a hit or a miss but not as an access (EXISTS).
    pub fn exists(&self, key: &Key<'_>) -> bool {
        let found = self.contains(key);
        self.count_read(key, found);
        found
    }

    /// Counts a hit or a miss, for a command that tells something of a key without an access (TTL, TYPE).
    pub fn count_read(&self, key: &Key<'_>, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.set(counter.get().wrapping_add(1));
        if !found {
            self.note_miss(key);
        }
    }

    /// Notes an access; whether the key is there (TOUCH).
    pub fn touch(&self, key: &Key<'_>) -> bool {
        self.read(key).is_some()
    }

    /// The value of a key, of any type; an access.
    pub fn value(&self, key: &Key<'_>) -> Option<Value<'_>> {
        let item = self.read(key)?;
        Some(value_of(&self.views, item))
    }

    /// The value of a key, of any type; neither counted nor an access.
    pub fn peek(&self, key: &Key<'_>) -> Option<Value<'_>> {
        let item = self.live(key)?;
        Some(value_of(&self.views, item))
    }

    /// The string at a key; an access.
    ///
    /// # Errors
    /// [`WrongType`] when the key holds something else; as in the other typed reads.
    #[inline(always)]
    pub fn text(&self, key: &Key<'_>) -> Result<Option<Text<'_>>, WrongType> {
        text_of(self.read(key))
    }

    /// The list at a key; an access.
    pub fn list(&self, key: &Key<'_>) -> Result<Option<&List>, WrongType> {
        list_of(&self.views, self.read(key))
    }

    /// The hash at a key; an access.
    #[inline]
    pub fn hash(&self, key: &Key<'_>) -> Result<Option<&Hash>, WrongType> {
        hash_of(&self.views, self.read(key))
    }

    /// The set at a key; an access.
    #[inline]
    pub fn set(&self, key: &Key<'_>) -> Result<Option<&Set>, WrongType> {
        set_of(&self.views, self.read(key))
    }

    /// The sorted set at a key; an access.
    #[inline]
    pub fn zset(&self, key: &Key<'_>) -> Result<Option<&Zset>, WrongType> {
        zset_of(&self.views, self.read(key))
    }

    /// The stream at a key; an access.
    pub fn stream(&self, key: &Key<'_>) -> Result<Option<&Stream>, WrongType> {
        stream_of(&self.views, self.read(key))
    }

    /// A key's deadline, unix ms: None without the key, Some(None) without a deadline. Not an access.
    pub fn deadline_ms(&self, key: &Key<'_>) -> Option<Option<u64>> {
        self.live(key).map(Item::deadline_ms)
    }

    /// All that is known of a key beside its value; not an access.
    pub fn info(&self, key: &Key<'_>) -> Option<ItemInfo> {
        let item = self.live(key)?;
        let (type_name, encoding, len) = match item.content() {
            Content::Int(n) => ("string", "int", Text::Int(n).len()),
            Content::Bytes(bytes) => {
                let short = bytes.len() <= EMBSTR_BYTES_MAX && !item.is_raw();
                ("string", if short { "embstr" } else { "raw" }, bytes.len())
            }
            Content::Collection(held) => {
                let c = held.view();
                (c.type_name(), c.encoding(), c.len())
            }
        };
        Some(ItemInfo {
            type_name,
            encoding,
            deadline_ms: item.deadline_ms(),
            idle_s: self.idle_s(item),
            frequency: self.frequency(item),
            heap_bytes: whole_bytes(item) + BUCKET_SHARE_BYTES,
            len,
            address: item.address().addr(),
        })
    }

    // ---- whole databases --------------------------------------------------------------------

    /// Keys of a database, those with a passed deadline that are still held included.
    pub fn count(&self, db: u8) -> DbCount {
        let db = &self.dbs[db as usize];
        DbCount {
            keys: db.len,
            expires: db.expires,
        }
    }

    /// Keys of a slot in a database.
    pub fn slot_len(&self, db: u8, slot: Slot) -> usize {
        self.dbs[db as usize].table(slot).map_or(0, Table::len)
    }

    /// Shows up to `count` keys of a slot.
    pub fn keys_in_slot(&self, db: u8, slot: Slot, count: usize, f: impl FnMut(&[u8])) {
        if let Some(table) = self.dbs[db as usize].table(slot) {
            let live = table.iter().filter(|item| !item.is_expired(self.now_ms));
            live.take(count).map(Item::key).for_each(f);
        }
    }

    /// Shows every key of a database, in no order that means anything.
    pub fn keys(&self, db: u8, f: impl FnMut(&[u8])) {
        let items = self.dbs[db as usize].tables().flat_map(Table::iter);
        let live = items.filter(|item: &Item| !item.is_expired(self.now_ms));
        live.map(Item::key).for_each(f);
    }

    /// Shows about `count` keys of a database with their type names, from `cursor` (0 = start) to
    /// at most the slot before `end`; the next cursor (its slot is [`Shard::cursor_slot`]), or None
    /// when all slots before `end` have been shown. A key that stays during a whole scan is shown.
    pub fn scan(
        &self,
        db: u8,
        cursor: u64,
        end: usize,
        count: usize,
        mut f: impl FnMut(&[u8], &'static str),
    ) -> Option<u64> {
        let tables = self.dbs[db as usize].tables.as_ref()?;
        let (mut slot, mut prefix) = (
            Self::cursor_slot(cursor).index(),
            cursor & ((1 << SCAN_PREFIX_BITS) - 1),
        );
        let mut left = count.max(1);
        while slot < end.min(SLOTS) {
            let table = &tables[slot].table;
            // A cursor may lie inside a slot that has been emptied since.
            prefix = if table.is_empty() {
                0
            } else {
                table.scan(prefix, left, |item: Item| {
                    left = left.saturating_sub(1);
                    if !item.is_expired(self.now_ms) {
                        f(item.key(), type_of(item));
                    }
                })
            };
            if prefix == 0 {
                slot += 1;
            }
            if left == 0 && slot < end.min(SLOTS) {
                return Some((slot as u64) << SCAN_PREFIX_BITS | prefix);
            }
        }
        None
    }

    /// The slot that a scan goes on in.
    pub fn cursor_slot(cursor: u64) -> Slot {
        Slot(((cursor >> SCAN_PREFIX_BITS) & (SLOTS as u64 - 1)) as u16)
    }

    /// The cursor at the beginning of a slot.
    pub fn cursor_at(slot: Slot) -> u64 {
        u64::from(slot.0) << SCAN_PREFIX_BITS
    }

    /// Some key of a database that has not expired, each about as likely. None when there is none, or
    /// when so many have just expired that looking for one would take long.
    pub fn random_key(&self, db: u8, rng: &mut Rng) -> Option<&[u8]> {
        let db = &self.dbs[db as usize];
        if db.len == 0 {
            return None;
        }
        let live = |item: &Item| !item.is_expired(self.now_ms);
        for _ in 0..RANDOM_TRIES_MAX {
            // A rank among all keys: those of short and of long slots are equally likely.
            let mut rank = rng.index(db.len);
            let table = db.tables().find(|table| {
                let here = rank < table.len();
                rank = rank.wrapping_sub(if here { 0 } else { table.len() });
                here
            });
            if let Some(item) = table?.random(rng.next_u64()).filter(live) {
                return Some(item.key());
            }
        }
        let start = rng.index(SLOTS);
        let tables = db.tables().skip(start).chain(db.tables().take(start));
        let mut items = tables.flat_map(Table::iter).take(RANDOM_WALK_MAX);
        items.find(live).map(Item::key)
    }

    // ---- bookkeeping ------------------------------------------------------------------------

    /// Bytes held: tables, items, values, garbage not yet freed, the wheel, what eviction remembers, what waits for a snapshot's file.
    pub fn used_bytes(&self) -> usize {
        let data: usize = self.dbs.iter().map(|db| db.bytes).sum();
        let evictor = self
            .evictor
            .as_ref()
            .map_or(0, |evictor| evictor.heap_bytes());
        let kept = self.wheel.heap_bytes() + self.snapshot.heap_bytes();
        data + self.garbage.bytes() + kept + evictor
    }

    /// Of these, what removed values take that wait to be freed.
    pub fn garbage_bytes(&self) -> usize {
        self.garbage.bytes()
    }

    /// Bytes of what stands for no key: the arrays in which the tables of all slots lie, by database.
    pub fn fixed_bytes(&self) -> usize {
        let tables = self.dbs.iter().filter(|db| db.tables.is_some()).count();
        tables * class_size(size_of::<[SlotTable<Item>; SLOTS]>())
    }

    /// Bytes of a database: tables, items, values.
    pub fn db_bytes(&self, db: u8) -> usize {
        self.dbs[db as usize].bytes
    }

    /// Reads that found their key, and reads that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }

    /// Puts the counters of [`Shard::hits_and_misses`] to these values (CONFIG RESETSTAT).
    pub fn set_hits_and_misses(&mut self, hits: u64, misses: u64) {
        self.hits.set(hits);
        self.misses.set(misses);
    }

    /// Mutations since the beginning: grows with each change of a key.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What has been changed until here was no change of the data, but its loading.
    pub fn forget_changes(&mut self) {
        self.changes = 0;
    }

    /// Keys removed because their deadline had passed.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Fields of hashes removed because their deadline had passed.
    pub fn fields_expired(&self) -> u64 {
        self.fields_expired
    }

    /// What the edits of this turn recorded.
    pub fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// Frees about `budget_items` elements of removed values; whether more is left.
    pub fn free_garbage(&mut self, budget_items: usize) -> bool {
        self.garbage.free(budget_items)
    }

    /// Takes large strings that have been removed, to free them where nobody waits. Else [`Shard::free_garbage`] does.
    pub fn take_blobs(&mut self) -> Vec<Vec<u8>> {
        self.garbage.take_blobs()
    }

    /// Whether removed values wait to be freed.
    pub fn has_garbage(&self) -> bool {
        !self.garbage.is_empty()
    }

    /// Removed values that wait to be freed in slices, and how many have been.
    pub fn values_freed_lazily(&self) -> (usize, u64) {
        self.garbage.values()
    }

    /// Elements of removed values that have been freed in slices.
    pub fn freed_lazily(&self) -> u64 {
        self.garbage.freed()
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        let mut hints = std::collections::BTreeMap::new();
        for (at_ms, hint) in self.wheel.all() {
            let at = hints.entry(hint).or_insert(at_ms);
            *at = at_ms.min(*at);
        }
        for db in &self.dbs {
            let (mut len, mut expires, mut bytes) = (0, 0, 0);
            for (number, slot) in db.tables.iter().flat_map(|t| t.iter().enumerate()) {
                if slot.table.is_empty() {
                    assert_eq!((slot.bytes, slot.expires), (0, 0), "nothing is counted");
                    continue;
                }
                let mut here = (slot.table.heap_bytes(), 0);
                slot.table
                    .check(|item: Item| crate::hash::hash_bytes(item.key()));
                for item in slot.table.iter() {
                    assert_eq!(Slot::of(item.key()).index(), number);
                    here.0 += whole_bytes(item);
                    here.1 += u32::from(item.deadline_ms().is_some());
                    if let Content::Collection(held) = item.content() {
                        let c = held.to_owned();
                        c.check();
                        assert!(!c.is_empty(), "no key holds an empty collection");
                    }
                    self.check_hint(item, &hints);
                }
                let counted = (slot.bytes, slot.expires);
                assert_eq!(counted, here, "a slot's bytes and deadlines are counted");
                len += slot.table.len();
                expires += slot.expires as usize;
                bytes += slot.bytes;
            }
            let counted = (db.len, db.expires, db.bytes);
            assert_eq!(counted, (len, expires, bytes), "slots add up");
        }
        self.check_snapshot();
    }
}

/// Bytes of an item with its whole value.
pub(crate) fn whole_bytes(item: Item) -> usize {
    match item.content() {
        Content::Collection(Held::Boxed(c)) => item.heap_bytes() + boxed_bytes(c),
        _ => item.heap_bytes(),
    }
}

/// Tries of [`Shard::random_key`] before it takes the next key it sees, and how many it looks at then.
const RANDOM_TRIES_MAX: usize = 100;
const RANDOM_WALK_MAX: usize = 10_000;
/// Hints beside two for each key with a deadline before stale ones are swept out.
pub(crate) const HINTS_SPARE_MAX: usize = 65_536;
/// Keys that one read proposes to remove at most; the wheel comes for the others.
const MET_EXPIRED_MAX: usize = 1024;

impl Drop for Shard {
    fn drop(&mut self) {
        for db in &mut self.dbs {
            for slot in db.tables.iter_mut().flat_map(|tables| tables.iter_mut()) {
                let free = |item: Item| drop(item.free());
                slot.table.drain_some(usize::MAX, free);
            }
        }
    }
}

/// Bytes of a collection and of its box.
pub(crate) fn boxed_bytes(collection: &Collection) -> usize {
    class_size(size_of::<Collection>()) + collection.heap_bytes()
}

fn type_of(item: Item) -> &'static str {
    match item.content() {
        Content::Int(_) | Content::Bytes(_) => "string",
        Content::Collection(held) => held.view().type_name(),
    }
}

#[inline(always)]
pub(crate) fn text_of<'a>(item: Option<Item>) -> Result<Option<Text<'a>>, WrongType> {
    match item.map(Item::content) {
        None => Ok(None),
        Some(Content::Int(n)) => Ok(Some(Text::Int(n))),
        Some(Content::Bytes(bytes)) => Ok(Some(Text::Bytes(bytes))),
        Some(Content::Collection(_)) => Err(WrongType),
    }
}
