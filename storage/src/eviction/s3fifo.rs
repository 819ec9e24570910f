//! S3-FIFO (Yang et al., SOSP 2023) without queues of its own for most keys.
//!
//! ```text
//! new key ──> small: a tenth of the keys, first in first out ──┬─ used twice since ──> main: the others
//!     └─ a ghost: straight to main                             └─ else: evicted, a ghost
//! main: a hand walks over the tables. Used since it came by: one use less. Not used: evicted.
//!
//! access u32: 0 (8 bits) | time of the last use, 8 s (19) | lap (2) | main (1) | uses, at most 3 (2)
//! ```
//! *Small* is a ring of 8-byte marks of where the keys are: 0.8 bytes for each key of the
//! shard. A key that is removed leaves its mark, which is passed over when its turn comes.
//! *Main* is no queue. The order of the tables is that of the hashes, so it has nothing to do with that of use; a hand that walks
//! it meets every key once a lap, as a queue to whose end used keys go back meets them. A key that came in this lap is
//! left alone until the next one (`lap`), so that it stays a lap on average, as it would in a queue; one of small that
//! is met two laps later is main's.
//! *Ghosts*: 2 bytes for each (`ghost.rs`), as many as there are keys.
//!
//! So it costs some 2.8 bytes a key while it is chosen, 2 of them from the beginning, in chunks of 16 KiB a core. Until the
//! first eviction nobody has to go, so all keys are main's.

use crate::eviction::ghost::Ghosts;
use crate::eviction::ring::Ring;
use crate::eviction::{Found, Hand, Keys, Policy};
use crate::hash::{Key, hash_bytes};
use crate::item::Item;
use crate::slot::Slot;

/// One of so many keys is small's.
const SMALL_SHARE: usize = 10;
/// Keys of small that have been used so often go to main.
const USES_TO_STAY: u32 = 2;
/// The ring is cut when it holds more marks than a quarter of the keys, and so many more: nobody evicts, or many are stale.
const RING_SHARE_MAX: usize = 4;
const RING_SPARE: usize = 1024;
/// Candidates that one bucket of main has shown, at most.
const SHOWN_MAX: usize = 32;

/// How far ahead of its turn the bucket of a key of small is asked for, and the key.
const BUCKETS_AHEAD: usize = 6;
const ITEMS_AHEAD: usize = 3;

const USES: u32 = 0b11;
const MAIN: u32 = 1 << 2;
const LAP: u32 = 0b11 << 3;
const NEXT_LAP: u32 = 1 << 3;
const TIME_SHIFT: u32 = 5;
const TIME_BITS: u32 = 19;
const TIME: u32 = (1 << TIME_BITS) - 1;
const WORD_BITS: u32 = TIME_SHIFT + TIME_BITS;
/// Seconds in a step of the time.
const STEP_S_SHIFT: u32 = 3;

/// The `access` word of an item while keys stand in queues: see the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u32);

impl Word {
    fn time(now_s: u32) -> u32 {
        (now_s >> STEP_S_SHIFT & TIME) << TIME_SHIFT
    }

    /// Of a key of main that has not been used.
    pub(crate) fn in_main(now_s: u32) -> Word {
        Word(Self::time(now_s) | MAIN)
    }

    /// The word of an item. What another policy has left there is read as a key of main that has not been used.
    fn of(access: u32) -> Word {
        if access >> WORD_BITS == 0 {
            Word(access)
        } else {
            Word(MAIN)
        }
    }

    fn uses(self) -> u32 {
        self.0 & USES
    }

    fn is_main(self) -> bool {
        self.0 & MAIN != 0
    }

    /// The same key, without a use, in main, having come in this lap.
    fn moved_to_main(self, lap: u32) -> Word {
        Word(self.0 & !(USES | LAP) | MAIN | lap)
    }

    /// After one more use.
    pub(crate) fn used(access: u32, now_s: u32) -> u32 {
        let word = Word::of(access);
        let uses = (word.uses() + 1).min(USES);
        Self::time(now_s) | (word.0 & (MAIN | LAP)) | uses
    }

    /// Seconds since the last use, in steps of 8, when it is less than 48 days ago.
    pub(crate) fn idle_s(access: u32, now_s: u32) -> u64 {
        if access >> WORD_BITS != 0 {
            return u64::from(now_s.saturating_sub(access));
        }
        let steps = (now_s >> STEP_S_SHIFT).wrapping_sub(access >> TIME_SHIFT) & TIME;
        u64::from(steps) << STEP_S_SHIFT
    }

    /// As if it had been used last so long ago.
    pub(crate) fn with_idle(access: u32, idle_s: u32, now_s: u32) -> u32 {
        let flags = Word::of(access).0 & ((1 << TIME_SHIFT) - 1);
        Self::time(now_s.saturating_sub(idle_s)) | flags
    }
}

/// The bits of a hash that a [`Mark`] keeps: those that lead to a bucket, and the tag there.
const MARK_HASH_MASK: u64 = !((1 << 22) - 1) | 0xff;

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark(u64);

impl Mark {
    fn new(slot: Slot, hash: u64) -> Mark {
        Mark(u64::from(slot.0) << 50 | (hash >> 22) << 8 | (hash & 0xff))
    }

    fn slot(self) -> Slot {
        Slot((self.0 >> 50) as u16)
    }

    /// The hash under [`MARK_HASH_MASK`].
    fn hash(self) -> u64 {
        ((self.0 >> 8) & ((1 << 42) - 1)) << 22 | (self.0 & 0xff)
    }
}

/// See the module's head.
pub(crate) struct S3Fifo {
    small: Ring<Mark>,
    ghosts: Ghosts,
    hand: Hand,
    /// The hand's lap, at its place in a word.
    lap: u32,
    /// Candidates of main that were met together with one that has gone: database, mark.
    shown: Vec<(u8, Mark)>,
    /// Something has been evicted: new keys come to small.
    has_begun: bool,
}

impl S3Fifo {
    pub(crate) fn new() -> S3Fifo {
        S3Fifo {
            small: Ring::new(),
            ghosts: Ghosts::default(),
            hand: Hand::default(),
            lap: 0,
            shown: Vec::with_capacity(SHOWN_MAX),
            has_begun: false,
        }
    }

    /// The next key of small that goes; those before it that stay go to main.
    fn next_of_small(&mut self, keys: &mut Keys<'_>, held: usize) -> Option<Found> {
        while self.small.len() * SMALL_SHARE > held && keys.looks > 0 {
            keys.looks -= 1;
            let mark = self.small.pop_front()?;
            self.look_ahead(keys);
            let Some(found) = (0..keys.shard.dbs.len()).find_map(|db| find(keys, db, mark)) else {
                continue;
            };
            let word = Word::of(found.item.access_s());
            if word.uses() >= USES_TO_STAY {
                found.item.touch(word.moved_to_main(self.lap).0);
                continue;
            }
            self.ghosts.add(hash_bytes(found.item.key()));
            return Some(found);
        }
        None
    }

    /// Asks for the memory of the next keys of small.
    fn look_ahead(&self, keys: &Keys<'_>) {
        let bucket = self.small.get(BUCKETS_AHEAD);
        let item = self.small.get(ITEMS_AHEAD);
        for db in keys.shard.dbs.iter().filter(|db| db.len > 0) {
            let table = |mark: &Mark| Some((db.table(mark.slot())?, mark.hash()));
            if let Some((table, hash)) = bucket.and_then(table) {
                table.prefetch_bucket(hash);
            }
            if let Some((table, hash)) = item.and_then(table) {
                table.prefetch_entry(hash);
            }
        }
    }

    /// The next key of main that goes.
    fn next_of_main(&mut self, keys: &mut Keys<'_>) -> Option<Found> {
        loop {
            while let Some((db, mark)) = self.shown.pop() {
                let found = look(keys, usize::from(db), mark);
                let is_free = |found: &Found| {
                    let word = Word::of(found.item.access_s());
                    word.is_main() && word.uses() == 0
                };
                if let Some(found) = found.filter(is_free) {
                    return Some(found);
                }
            }
            if keys.looks == 0 {
                return None;
            }
            let (lap, shown) = (self.lap, &mut self.shown);
            let pass = |found: Found| {
                if passes(found.item, lap) && shown.len() < SHOWN_MAX {
                    let hash = hash_bytes(found.item.key());
                    shown.push((found.db, Mark::new(found.slot, hash)));
                }
            };
            if keys.walk(&mut self.hand, pass) {
                self.lap = (self.lap + NEXT_LAP) & LAP;
            }
        }
    }
}

/// The hand comes by: whether the key is to go.
fn passes(item: Item, lap: u32) -> bool {
    let word = Word::of(item.access_s());
    let is_foreign = word == Word(MAIN);
    let laps = lap.wrapping_sub(word.0 & LAP) & LAP;
    if is_foreign {
        return true;
    }
    // It came in this lap; or small is about to look at it.
    if laps == 0 || (!word.is_main() && laps == NEXT_LAP) {
        return false;
    }
    let stays = if word.is_main() {
        match word.uses() {
            0 => return true,
            uses => word.0 - uses + (uses - 1),
        }
    } else {
        // Small has no mark of it any more.
        word.0 | MAIN
    };
    item.touch(stays & !LAP | lap);
    false
}

/// The key of small that a mark stands for in a database.
fn find(keys: &Keys<'_>, db: usize, mark: Mark) -> Option<Found> {
    look(keys, db, mark).filter(|found| !Word::of(found.item.access_s()).is_main())
}

fn look(keys: &Keys<'_>, db: usize, mark: Mark) -> Option<Found> {
    let slot = mark.slot();
    if keys.shard.dbs.get(db)?.len == 0 || !keys.shard.owned.contains(slot) {
        return None;
    }
    let is_marked = |item: Item| hash_bytes(item.key()) & MARK_HASH_MASK == mark.hash();
    let item = keys.shard.dbs[db]
        .table(slot)?
        .find(mark.hash(), is_marked)?;
    let db = db as u8;
    Some(Found { db, slot, item })
}

impl Policy for S3Fifo {
    fn propose(&mut self, keys: &mut Keys<'_>) -> Option<Found> {
        let held = keys.held();
        self.ghosts.fit(held);
        self.has_begun = true;
        match self.next_of_small(keys, held) {
            Some(found) => Some(found),
            None if keys.looks > 0 => self.next_of_main(keys),
            None => None,
        }
    }

    fn needs_samples(&self) -> bool {
        false
    }

    fn enqueue(&mut self, key: &Key<'_>, keys_held: usize, now_s: u32) -> u32 {
        let main = Word::in_main(now_s);
        // Also before it has begun: room for ghosts that is made when the bound is reached would be made by evicting keys.
        self.ghosts.fit(keys_held);
        if !self.has_begun {
            // As if it had come in the lap before the first.
            return main.moved_to_main(self.lap.wrapping_sub(NEXT_LAP) & LAP).0;
        }
        let main = main.moved_to_main(self.lap);
        if self.ghosts.take(key.hash) {
            return main.0;
        }
        self.small.push_back(Mark::new(key.slot, key.hash));
        if self.small.len() > keys_held / RING_SHARE_MAX + RING_SPARE {
            // Its key is main's when the hand comes by.
            self.small.pop_front();
        }
        Word::time(now_s) | self.lap
    }

    fn heap_bytes(&self) -> usize {
        self.small.heap_bytes() + self.ghosts.heap_bytes()
    }
}
