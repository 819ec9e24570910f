//! Snapshots: the image of a shard at one instant, written while it goes on changing. No fork, no pause.
//!
//! ```text
//! begin_snapshot   the cut: one bit turns over. Items whose bit is old are pending
//! snapshot_step    the walk: slot by slot, within each along SCAN's order; pending items are written, their bit is set
//! Edit             the door: who is about to change or remove a pending item writes it out first
//! take_image       what has been written leaves in chunks of whole records
//! ```
//! A value of more than [`LARGE_BYTES`] is *open* for a while: it is written element by element (`open.rs`), also by whoever is about
//! to change one. Its record must lie in one piece, so one open value at a time leaves, in several chunks; small ones pass it.
//!
//! **Slots on a visit** (`lend.rs`) take their open values along; items have their bits with them. What a visit writes out lies
//! in the image of the shard that it happens in. Who has not heard of the cut hears of it with the first slot that comes.
//! **Flushed** databases are walked like others, then thrown away. Databases that change places keep the number they had at the cut.
//! Keys whose deadline has passed need not be written: whoever reads the image would remove them. Unless a log follows the image:
//! what that says of a key counts upon its being there ([`Shard::begin_base`]).
//!
//! A snapshot that is given up is walked to its end all the same, without writing: the next one needs all bits to be equal.

mod open;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

pub(crate) use open::Open;

use crate::hash::Key;
use crate::held::with_value;
use crate::item::{CUT, Content, EMBEDDED_BYTES_MAX, Item};
use crate::lend::among;
use crate::rdb::{self, KeyInfo, Style};
use crate::shard::{Shard, whole_bytes};
use crate::table::{SlotTable, Table};
use crate::{Lfu, OwnedValue, Slot, Ttl};

/// A value of more bytes is written element by element.
const LARGE_BYTES: usize = 64 << 10;
/// A chunk of whole records leaves when it has so many bytes.
const CHUNK_BYTES: usize = 128 << 10;
/// Items looked at together, so that they are on their way from memory while the first is written.
const BATCH_ITEMS: usize = 32;
/// Tables for fewer keys grow as they always do.
const EXPECTED_MIN: usize = 8;
/// Written bytes that cost as much as looking at one more item.
const BYTES_PER_STEP: usize = 128;

/// What is written of a key's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uses {
    /// Nothing.
    #[default]
    Nothing,
    /// How long ago it was used.
    Idle,
    /// How often it is used.
    Frequency,
}

/// A piece of an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Whole records.
    Whole(Vec<u8>),
    /// A part of one record; the next one of this kind goes on with it, unless this is the last.
    Part {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether the record ends here.
        last: bool,
    },
}

impl Chunk {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Whole(bytes) | Chunk::Part { bytes, .. } => bytes,
        }
    }
}

/// What every shard knows of the last cut; it travels with slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Its number; 0 before the first.
    epoch: u32,
    /// How often databases have changed places since.
    swaps: u32,
    style: Style,
    uses: Uses,
    /// Keys whose deadline has passed are written, too.
    keeps_passed: bool,
}

impl Default for Cut {
    fn default() -> Self {
        Cut {
            epoch: 0,
            swaps: 0,
            style: Style::DUMP,
            uses: Uses::Nothing,
            keeps_passed: false,
        }
    }
}

impl Cut {
    fn bit(self) -> u8 {
        if self.epoch & 1 == 0 { 0 } else { CUT }
    }
}

/// A table that was thrown away before it was walked.
pub(crate) struct Doomed {
    /// The database that it was at the cut.
    db: u8,
    pub(crate) slot: Slot,
    table: SlotTable<Item>,
    at: u64,
}

/// What goes with slots to another shard, and comes back.
#[derive(Default)]
pub(crate) struct Carried {
    cut: Cut,
    origins: Vec<u8>,
    opens: Vec<Open>,
    doomed: Vec<Doomed>,
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let free = |item: Item| drop(item.free());
        self.table.table.drain_some(usize::MAX, free);
    }
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// [`CUT`] or 0: items with another bit are pending.
    pub(crate) bit: u8,
    cut: Cut,
    /// What is written is thrown away.
    discards: bool,
    /// Slots of this shard wait to be walked.
    walks: bool,
    /// Slots that the walk has yet to come to the end of...
    rest: VecDeque<Slot>,
    /// ...and where it goes on in those that it has begun: database, SCAN's cursor within it. (Beside them: room for all of it would take the
    /// turn of the cut a tenth of a millisecond to touch.)
    places: BTreeMap<Slot, (u8, u64)>,
    /// By database: the number that it had at the cut.
    origins: Vec<u8>,
    out: Vec<u8>,
    out_db: Option<u8>,
    opens: Vec<Open>,
    /// The open value whose record has begun to leave.
    active: Option<u64>,
    next_open: u64,
    /// Open values that are on a visit elsewhere.
    opens_away: usize,
    ready: VecDeque<Chunk>,
    doomed: Vec<Doomed>,
    batch: Vec<Item>,
}

impl Snapshot {
    pub(crate) fn new(dbs: usize) -> Snapshot {
        Snapshot {
            origins: identity(dbs),
            ..Snapshot::default()
        }
    }

    /// Whether a large value may be on its way out.
    #[inline(always)]
    pub(crate) fn has_opens(&self) -> bool {
        !self.opens.is_empty()
    }

    /// The open value of a key.
    pub(crate) fn open_of(&mut self, key: &Key<'_>) -> Option<&mut Open> {
        self.opens.iter_mut().find(|open| open.is_of(key))
    }

    /// The database that one was at the cut.
    pub(crate) fn origin(&self, db: u8) -> u8 {
        self.origins[usize::from(db)]
    }

    /// Bytes of heap, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let doomed = self.doomed.iter().map(|doomed| doomed.table.bytes);
        let opens = self.opens.iter().map(Open::heap_bytes);
        let ready = self.ready.iter().map(|chunk| chunk.bytes().len());
        self.out.capacity() + doomed.sum::<usize>() + opens.sum::<usize>() + ready.sum::<usize>()
    }

    /// The databases have changed places.
    pub(crate) fn swap(&mut self, a: u8, b: u8) {
        self.cut.swaps += 1;
        self.origins.swap(usize::from(a), usize::from(b));
        for open in self.opens.iter_mut().filter(|open| open.owned().is_none()) {
            open.db = match open.db {
                db if db == a => b,
                db if db == b => a,
                db => db,
            };
        }
        self.forget_places();
    }

    /// Slots that have been walked in part are walked anew: their tables may be others.
    fn forget_places(&mut self) {
        self.places.clear();
    }

    fn info(&self, item: Item, now_s: u32, lfu: Option<Lfu>) -> KeyInfo {
        let idle = u64::from(now_s.saturating_sub(item.access_s()));
        let frequency = lfu.map(|lfu| lfu.frequency(item.access_s(), now_s));
        KeyInfo {
            deadline_ms: item.deadline_ms(),
            idle_s: (self.cut.uses == Uses::Idle && lfu.is_none()).then_some(idle),
            frequency: frequency.filter(|_| self.cut.uses == Uses::Frequency),
        }
    }

    /// Writes an item, whole.
    fn write(&mut self, db: u8, item: Item, info: KeyInfo) {
        if self.out_db != Some(db) {
            rdb::write_select(db, &mut self.out);
            self.out_db = Some(db);
        }
        let (style, out) = (self.cut.style, &mut self.out);
        with_value(item, |value| {
            rdb::write_key(item.key(), info, value, style, out);
        });
    }

    /// Begins to write a large item element by element; its key is `key`, `db` its database at the cut.
    fn open(&mut self, db: u8, key: Key<'_>, item: Item, info: KeyInfo) -> &mut Open {
        let style = self.cut.style;
        let mut head = Vec::new();
        rdb::write_select(db, &mut head);
        rdb::write_head(key.bytes, info, Open::kind(item, style), style, &mut head);
        self.next_open += 1;
        let at = self.opens.len();
        let open = Open::new(self.next_open, key, item, style, head);
        self.opens.push(open);
        &mut self.opens[at]
    }

    /// Puts what is whole where it can be taken.
    fn seal(&mut self) {
        if !self.out.is_empty() {
            self.ready
                .push_back(Chunk::Whole(core::mem::take(&mut self.out)));
            self.out_db = None;
        }
    }

    fn discard(&mut self) -> Vec<Item> {
        self.discards = true;
        self.ready.clear();
        (self.out, self.out_db, self.active) = (Vec::new(), None, None);
        let owned = self.opens.iter_mut().filter_map(Open::take_owned).collect();
        self.opens.clear();
        owned
    }
}

fn identity(dbs: usize) -> Vec<u8> {
    (0..dbs).map(|db| db as u8).collect()
}

/// All slots, a part of each region of them after the other: whoever reads the file, on however many cores, finds work for each of them
/// all along, also when one core alone has written it.
fn walk_order() -> impl Iterator<Item = Slot> {
    const REGIONS: usize = 128;
    const EACH: usize = crate::SLOTS / REGIONS;
    (0..crate::SLOTS).map(|n| Slot((n % REGIONS * EACH + n / REGIONS) as u16))
}

fn is_large(item: Item) -> bool {
    let may_be = match item.content() {
        Content::Int(_) => false,
        Content::Bytes(text) => text.len() > LARGE_BYTES,
        Content::Collection(_) => whole_bytes(item) > LARGE_BYTES,
    };
    may_be && Open::can_be(item)
}

impl Shard {
    // ---- the cut ------------------------------------------------------------------------------

    /// The instant of a snapshot. Every slot of the node must be here, at home or on a visit: their owners hear of it when they
    /// come home. The one before must have come to its end everywhere.
    pub fn begin_snapshot(&mut self, style: Style, uses: Uses) {
        self.begin_image(style, uses, false);
    }

    /// As [`Shard::begin_snapshot`], of an image that a log of changes follows.
    pub fn begin_base(&mut self, style: Style, uses: Uses) {
        self.begin_image(style, uses, true);
    }

    fn begin_image(&mut self, style: Style, uses: Uses, keeps_passed: bool) {
        let cut = Cut {
            epoch: self.snapshot.cut.epoch.wrapping_add(1),
            swaps: 0,
            style,
            uses,
            keeps_passed,
        };
        self.begin_cut(cut);
    }

    /// Whether an item is left out since its deadline has passed.
    fn leaves_out(&self, item: Item) -> bool {
        !self.snapshot.cut.keeps_passed && item.is_expired(self.now_ms)
    }

    fn begin_cut(&mut self, cut: Cut) {
        debug_assert!(self.is_snapshot_done(), "one snapshot at a time");
        let owned = walk_order().filter(|slot| self.owned.contains(*slot));
        let snapshot = &mut self.snapshot;
        // (Room for all at once: growing to it would cost the turn of the cut a tenth of a millisecond.)
        snapshot.rest = VecDeque::with_capacity(crate::SLOTS);
        snapshot.rest.extend(owned);
        snapshot.places.clear();
        snapshot.walks = !snapshot.rest.is_empty();
        snapshot.discards = false;
        snapshot.origins = identity(self.dbs.len());
        (snapshot.cut, snapshot.bit) = (cut, cut.bit());
    }

    /// The number of the last cut that this shard has heard of: which snapshot its chunks are of.
    pub fn snapshot_number(&self) -> u32 {
        self.snapshot.cut.epoch
    }

    /// Whether all slots that live here have been written out.
    pub fn is_snapshot_done(&self) -> bool {
        !self.snapshot.walks
    }

    /// The snapshot is given up: nothing more is written, but the walk goes on to its end.
    pub fn discard_snapshot(&mut self) {
        for item in self.snapshot.discard() {
            self.free_item(item);
        }
    }

    /// What has been written and can leave. `all`: also what would make a small chunk.
    pub fn take_image(&mut self, all: bool) -> Option<Chunk> {
        let snapshot = &mut self.snapshot;
        if all || snapshot.out.len() >= CHUNK_BYTES {
            snapshot.seal();
        }
        snapshot.ready.pop_front()
    }

    /// What a visit has written out.
    pub(crate) fn add_image(&mut self, chunks: Vec<Chunk>) {
        self.snapshot.ready.extend(chunks);
    }

    /// Shows all keys of a database with their values, as whole records: for who has every slot in hand. `show` empties what it
    /// is shown.
    pub fn write_db(&self, db: u8, style: Style, mut show: impl FnMut(&mut Vec<u8>)) {
        let mut out = Vec::new();
        let items = self.dbs[usize::from(db)]
            .tables()
            .flat_map(|table| table.iter());
        for item in items.filter(|item: &Item| !item.is_expired(self.now_ms)) {
            let info = KeyInfo {
                deadline_ms: item.deadline_ms(),
                ..KeyInfo::default()
            };
            with_value(item, |value| {
                rdb::write_key(item.key(), info, value, style, &mut out);
            });
            show(&mut out);
        }
    }

    /// A file that is being loaded says that so many keys of a database are to come, over all shards: tables are made for their share
    /// of them when their first key comes. 0: no longer.
    pub fn expect_keys(&mut self, db: u8, keys: u64) {
        let each = usize::try_from(keys).unwrap_or(usize::MAX) / crate::SLOTS;
        if let Some(db) = self.dbs.get_mut(usize::from(db)) {
            db.expected = each;
        }
    }

    fn make_room(&mut self, key: &Key<'_>) {
        let db = &mut self.dbs[usize::from(key.db)];
        if db.expected > EXPECTED_MIN && db.table(key.slot).is_none_or(Table::is_empty) {
            let expected = db.expected;
            let grown = db.slot_mut(key.slot).table.reserve(expected);
            db.account(key.slot, grown);
        }
    }

    /// Puts a string from a file.
    pub fn load_text(&mut self, key: &Key<'_>, text: Cow<'_, [u8]>, ttl: Ttl) {
        self.make_room(key);
        if text.len() <= EMBEDDED_BYTES_MAX {
            self.edit().put_string(key, &text, ttl);
        } else {
            self.edit().put_owned(key, text.into_owned(), ttl);
        }
    }

    /// Puts a value from a file.
    pub fn load_value(&mut self, key: &Key<'_>, value: OwnedValue, ttl: Ttl) {
        self.make_room(key);
        match value {
            OwnedValue::String(text) if text.len() <= EMBEDDED_BYTES_MAX => {
                self.edit().put_bytes(key, &text, ttl);
            }
            value => self.edit().put_value(key, value, ttl),
        }
    }

    // ---- the door -----------------------------------------------------------------------------

    /// An item that is pending is about to be changed or removed.
    #[cold]
    #[inline(never)]
    pub(crate) fn write_out(&mut self, key: &Key<'_>, item: Item) {
        item.set_cut(self.snapshot.bit);
        if self.snapshot.discards {
            return;
        }
        let (now_s, lfu) = (self.now_s(), self.lfu());
        let snapshot = &mut self.snapshot;
        let (db, info) = (snapshot.origin(key.db), snapshot.info(item, now_s, lfu));
        if is_large(item) {
            snapshot.open(db, *key, item, info);
        } else {
            snapshot.write(db, item, info);
        }
    }

    /// An item has been taken out of its table to be freed; whether it is kept to be written first.
    #[cold]
    pub(crate) fn keep_for_snapshot(&mut self, key: &Key<'_>, item: Item) -> bool {
        let keeps = !self.undo.is_on();
        match self.snapshot.open_of(key) {
            // Its value may come back to its key: then it is not ours to keep.
            Some(open) if !keeps => {
                open.finish(item);
                false
            }
            Some(open) if !open.is_done() => {
                open.own(item);
                true
            }
            _ => false,
        }
    }

    /// Writes all that is left of a value that is open.
    #[cold]
    pub(crate) fn finish_open(&mut self, key: &Key<'_>, item: Item) {
        if let Some(open) = self.snapshot.open_of(key) {
            open.finish(item);
        }
    }

    /// The value of a key goes to another one.
    #[cold]
    pub(crate) fn take_open(&mut self, key: &Key<'_>) -> Option<Open> {
        let opens = &mut self.snapshot.opens;
        let at = opens.iter().position(|open| open.is_of(key))?;
        Some(opens.remove(at))
    }

    /// See [`Shard::take_open`].
    #[cold]
    pub(crate) fn put_open(&mut self, key: &Key<'_>, mut open: Open) {
        open.move_to(key);
        self.snapshot.opens.push(open);
    }

    /// Before a database is emptied: its open values are taken out of it.
    #[cold]
    pub(crate) fn keep_opens_of(&mut self, db: u8) {
        let of_db = |open: &&mut Open| open.db == db && open.owned().is_none();
        let keys = self.snapshot.opens.iter_mut().filter(of_db);
        let keys: Vec<Box<[u8]>> = keys.map(|open| open.key().bytes.into()).collect();
        for key in keys {
            let key = Key::new(db, &key);
            if let Some(item) = self.find(&key)
                && self.keep_for_snapshot(&key, item)
            {
                crate::edit::Edit::applying(self).detach(&key, item);
            }
        }
    }

    /// Throws tables away that were those of a database at the cut; those that may hold pending items are walked first.
    pub(crate) fn drop_tables(&mut self, origin: u8, tables: Vec<(Slot, SlotTable<Item>)>) {
        let snapshot = &mut self.snapshot;
        let mut done = Vec::with_capacity(tables.len());
        for (slot, table) in tables {
            if self.owned.contains(slot) && !snapshot.walks {
                done.push(table);
            } else {
                snapshot.doomed.push(Doomed {
                    db: origin,
                    slot,
                    table,
                    at: 0,
                });
            }
        }
        if !done.is_empty() {
            self.garbage.add_tables(done);
        }
    }

    // ---- visits ---------------------------------------------------------------------------------

    /// What goes with these slots. On their way home (`returns`) also what the visit has left.
    pub(crate) fn carry(&mut self, slots: &[Slot], returns: bool) -> Carried {
        let snapshot = &mut self.snapshot;
        let mut carried = Carried {
            cut: snapshot.cut,
            ..Carried::default()
        };
        if snapshot.cut.swaps > 0 {
            carried.origins.clone_from(&snapshot.origins);
        }
        if snapshot.opens.is_empty() && (!returns || snapshot.doomed.is_empty()) {
            return carried;
        }
        let here = among(slots);
        if !snapshot.opens.is_empty() {
            let (go, stay) = snapshot.opens.drain(..).partition(|open| here(open.slot));
            (carried.opens, snapshot.opens) = (go, stay);
            if !returns {
                snapshot.opens_away += carried.opens.len();
            }
        }
        if returns && !snapshot.doomed.is_empty() {
            let (go, stay) = snapshot
                .doomed
                .drain(..)
                .partition(|doomed| here(doomed.slot));
            (carried.doomed, snapshot.doomed) = (go, stay);
        }
        carried
    }

    /// Takes in what came with slots.
    pub(crate) fn take_in(&mut self, mut carried: Carried, returns: bool) {
        if carried.cut.epoch != self.snapshot.cut.epoch {
            self.begin_cut(Cut {
                swaps: 0,
                ..carried.cut
            });
        }
        let snapshot = &mut self.snapshot;
        if carried.cut.swaps > snapshot.cut.swaps {
            snapshot.cut.swaps = carried.cut.swaps;
            snapshot.origins = core::mem::take(&mut carried.origins);
            snapshot.forget_places();
        }
        if returns {
            snapshot.opens_away -= carried.opens.len().min(snapshot.opens_away);
        }
        if snapshot.discards {
            carried.opens.clear();
        }
        snapshot.opens.append(&mut carried.opens);
        let doomed = core::mem::take(&mut carried.doomed);
        if snapshot.walks || !returns {
            snapshot.doomed.extend(doomed);
        } else {
            let take = |mut doomed: Doomed| core::mem::take(&mut doomed.table);
            let tables: Vec<_> = doomed.into_iter().map(take).collect();
            if !tables.is_empty() {
                self.garbage.add_tables(tables);
            }
        }
    }

    /// What a shard beside the cores must know to write out what it changes.
    pub(crate) fn cut(&self) -> (Cut, Vec<u8>, bool) {
        let snapshot = &self.snapshot;
        (snapshot.cut, snapshot.origins.clone(), snapshot.discards)
    }

    /// See [`Shard::cut`].
    pub(crate) fn set_cut(&mut self, (cut, origins, discards): (Cut, Vec<u8>, bool)) {
        let snapshot = &mut self.snapshot;
        (snapshot.cut, snapshot.bit, snapshot.origins) = (cut, cut.bit(), origins);
        snapshot.discards = discards;
    }

    // ---- the walk -------------------------------------------------------------------------------

    /// Goes on with the walk for about `budget` items; whether there is more that can be done now.
    pub fn snapshot_step(&mut self, budget: usize) -> bool {
        let mut left = budget as isize;
        while self.snapshot.walks && left > 0 {
            let done = self.step_open().or_else(|| self.step_doomed());
            match done.or_else(|| self.step_slot()) {
                Some(cost) => left -= cost as isize,
                None => {
                    self.end_walk();
                    return false;
                }
            }
        }
        self.snapshot.walks
    }

    /// Slots here that the walk has yet to come to the end of.
    pub fn snapshot_slots_left(&self) -> usize {
        self.snapshot.rest.len()
    }

    /// Nothing can be done now: perhaps since all is done.
    fn end_walk(&mut self) {
        let snapshot = &mut self.snapshot;
        if snapshot.rest.is_empty() && snapshot.opens.is_empty() && snapshot.opens_away == 0 {
            snapshot.walks = false;
            snapshot.rest = VecDeque::new();
            snapshot.seal();
        }
    }

    /// Writes some of the open value whose record leaves.
    fn step_open(&mut self) -> Option<usize> {
        let active = self.snapshot.active;
        let owned = &self.owned;
        let is_next = |open: &Open| match active {
            Some(id) => open.id == id,
            None => owned.contains(open.slot),
        };
        let at = self.snapshot.opens.iter().position(is_next)?;
        let item = self.snapshot.opens[at].owned();
        let item = item.or_else(|| self.find(&self.snapshot.opens[at].key()));
        let snapshot = &mut self.snapshot;
        let open = &mut snapshot.opens[at];
        snapshot.active = Some(open.id);
        let mut cost = 1;
        if let Some(item) = item.filter(|_| !open.is_done()) {
            cost += open.step(item);
        }
        let last = open.is_done() || item.is_none();
        debug_assert!(
            open.is_done() || item.is_some(),
            "an open value is where its key says"
        );
        if last || open.out.len() >= CHUNK_BYTES {
            let bytes = core::mem::take(&mut open.out);
            snapshot.ready.push_back(Chunk::Part { bytes, last });
        }
        if last {
            let mut open = snapshot.opens.remove(at);
            snapshot.active = None;
            if let Some(item) = open.take_owned() {
                self.free_item(item);
            }
        }
        Some(cost)
    }

    /// Writes some items of a table that was thrown away.
    fn step_doomed(&mut self) -> Option<usize> {
        let mut doomed = self.snapshot.doomed.pop()?;
        let mut batch = core::mem::take(&mut self.snapshot.batch);
        let bit = self.snapshot.bit;
        let mut seen = 1;
        doomed.at = doomed
            .table
            .table
            .scan(doomed.at, BATCH_ITEMS, |item: Item| {
                seen += 1;
                if item.is_pending(bit) {
                    batch.push(item);
                }
            });
        let before = self.snapshot.out.len();
        for item in batch.drain(..) {
            item.set_cut(bit);
            if self.snapshot.discards || self.leaves_out(item) {
                continue;
            }
            let info = self.snapshot.info(item, self.now_s(), self.lfu());
            if !is_large(item) {
                self.snapshot.write(doomed.db, item, info);
                continue;
            }
            let bytes = item.key().to_vec();
            let key = Key::new(doomed.db, &bytes);
            let slot = &mut doomed.table;
            if let Some((item, grown)) = slot.table.remove_counted(key.hash, |other| other == item)
            {
                slot.bytes = slot.bytes.wrapping_add_signed(grown) - whole_bytes(item);
                slot.expires -= u32::from(item.deadline_ms().is_some());
                self.snapshot.open(doomed.db, key, item, info).own(item);
            }
        }
        self.snapshot.batch = batch;
        if doomed.at != 0 {
            self.snapshot.doomed.push(doomed);
        } else {
            let table = core::mem::take(&mut doomed.table);
            self.garbage.add_tables(vec![table]);
        }
        Some(seen + self.snapshot.out.len().saturating_sub(before) / BYTES_PER_STEP)
    }

    /// Writes some items of the next slot that is at home.
    fn step_slot(&mut self) -> Option<usize> {
        let away = &self.away;
        let rest = &mut self.snapshot.rest;
        let at = rest.iter().position(|slot| !away.contains(*slot))?;
        rest.rotate_left(at);
        let slot = rest.pop_front()?;
        let (first, cursor) = self.snapshot.places.remove(&slot).unwrap_or_default();
        let tables = self.dbs.iter().enumerate().skip(usize::from(first));
        let mut tables = tables.filter_map(|(db, it)| Some((db as u8, it.table(slot)?)));
        let Some((db, table)) = tables.find(|(_, table)| !table.is_empty()) else {
            // All databases of the slot.
            return Some(1);
        };
        let cursor = if db == first { cursor } else { 0 };
        let mut batch = core::mem::take(&mut self.snapshot.batch);
        let (bit, mut seen) = (self.snapshot.bit, 1);
        let cursor = table.scan(cursor, BATCH_ITEMS, |item: Item| {
            seen += 1;
            item.prefetch();
            batch.push(item);
        });
        let before = self.snapshot.out.len();
        let pending = batch.drain(..).filter(|item| item.is_pending(bit));
        for item in pending {
            if self.leaves_out(item) {
                item.set_cut(bit);
            } else if is_large(item) {
                let bytes = item.key().to_vec();
                self.write_out(&Key::new(db, &bytes), item);
            } else {
                // (The key's hash and slot are not needed: they are not written.)
                item.set_cut(bit);
                if !self.snapshot.discards {
                    let info = self.snapshot.info(item, self.now_s(), self.lfu());
                    let origin = self.snapshot.origin(db);
                    self.snapshot.write(origin, item, info);
                }
            }
        }
        self.snapshot.batch = batch;
        let written = self.snapshot.out.len().saturating_sub(before);
        self.walk_on(slot, db, cursor, seen + written / BYTES_PER_STEP)
    }

    fn walk_on(&mut self, slot: Slot, db: u8, cursor: u64, cost: usize) -> Option<usize> {
        let next = match (cursor, db.checked_add(1)) {
            (0, Some(db)) => (db, 0),
            (0, None) => return Some(cost),
            _ => (db, cursor),
        };
        if usize::from(next.0) < self.dbs.len() {
            self.snapshot.rest.push_front(slot);
            self.snapshot.places.insert(slot, next);
        }
        Some(cost)
    }

    /// Asserts that nothing is pending when nothing is walked. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check_snapshot(&self) {
        if !self.snapshot.walks && self.guests == 0 {
            for item in self
                .dbs
                .iter()
                .flat_map(crate::shard::Db::tables)
                .flat_map(|table| table.iter())
            {
                let item: Item = item;
                assert!(!item.is_pending(self.snapshot.bit), "the walk is over");
            }
        }
    }
}

#[cfg(test)]
mod tests;
