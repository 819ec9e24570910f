//! The keys of a shard as policies see them: uniform samples, and a walk in the order of the tables.
//!
//! ```text
//! Weights: slots that hold keys, with running sums   0 ── 3 ── 9 ── 9+k ── ... ── n      (8 bytes a slot that holds some)
//! samples: a rank below n ─> its slot ─> few keys: any item of its table
//!                                        many: the items of a bucket or two, whose memory comes all at once
//! ```
//! So keys of short and of long slots are equally likely, whether a shard holds ten keys or all of them share a hash tag. The
//! sums are made anew after a share of the keys has changed: no insert and no removal pays for them. Meanwhile they are a
//! little off, which makes a key a little more or less likely.

use crate::account::class_size;
use crate::item::Item;
use crate::rng::Rng;
use crate::shard::Shard;
use crate::slot::Slot;
use crate::table::{Entry, Table};

/// The sums are made anew when more than a sixteenth of the keys, and so many more, have changed.
const STALE_SHARE: u64 = 16;
const STALE_MIN: u64 = 256;
/// Looks without a find after which they are too.
const MISSES_MAX: u64 = 8;
/// Slots and items tried for each sample.
const TRIES_MAX: usize = 16;
/// A slot of so many keys gives whole buckets, a smaller one a key at a time.
const DENSE_MIN: u32 = 32;
/// A bucket counts as so many keys, whatever it holds: were those of sparse buckets followed by others, who lies behind them
/// would be met more often. In truth it holds some 4.5, so many of nine picks make it as likely as a key of a small slot.
const BUCKET_KEYS: usize = 5;
const DENSE_PICKS: (usize, usize) = (2, 9);
/// Keys of a bucket with what is chained to it that are looked at.
const DENSE_MAX: usize = 24;
/// Random looks into a slot for a key with a deadline before its table is walked a little.
const VOLATILE_LOOKS: usize = 4;
const VOLATILE_WALK: usize = 48;

/// An item that was met.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) db: u8,
    pub(crate) slot: Slot,
    pub(crate) item: Item,
}

/// How many keys each slot holds: see the module's head.
#[derive(Default)]
pub(crate) struct Weights {
    /// Database and slot, and the keys up to its end.
    sums: Vec<(u32, u8, Slot)>,
    /// Some slot holds fewer than [`DENSE_MIN`].
    has_sparse: bool,
    /// Changes of the shard when they were made, and what has been noted since.
    made_at: Option<u64>,
    gone: u64,
    misses: u64,
}

impl Weights {
    fn total(&self) -> u32 {
        self.sums.last().map_or(0, |last| last.0)
    }

    /// One key has been evicted.
    pub(crate) fn note_gone(&mut self) {
        self.gone += 1;
    }

    /// A policy has not found a key.
    pub(crate) fn note_miss(&mut self) {
        self.misses += 1;
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        class_size(self.sums.capacity() * size_of::<(u32, u8, Slot)>())
    }

    /// Makes the sums anew when they are old.
    pub(crate) fn refresh(&mut self, shard: &Shard, volatile: bool) {
        let changes = shard.changes();
        let is_stale = self.made_at.is_none_or(|made_at| {
            let changed = changes.wrapping_sub(made_at).max(self.gone);
            changed > u64::from(self.total()) / STALE_SHARE + STALE_MIN || self.misses > MISSES_MAX
        });
        if !is_stale {
            return;
        }
        self.sums.clear();
        self.has_sparse = false;
        let mut sum = 0u32;
        for (number, db) in shard.dbs.iter().enumerate().filter(|(_, db)| db.len > 0) {
            let slots = db
                .tables
                .iter()
                .flat_map(|tables| tables.iter().enumerate());
            for (slot, table) in slots.filter(|(_, table)| !table.table.is_empty()) {
                let slot = Slot(slot as u16);
                let held = if volatile {
                    table.expires
                } else {
                    u32::try_from(table.table.len()).unwrap_or(u32::MAX)
                };
                if held > 0 && shard.owned.contains(slot) {
                    self.has_sparse |= held < DENSE_MIN;
                    sum = sum.saturating_add(held);
                    self.sums.push((sum, number as u8, slot));
                }
            }
        }
        (self.made_at, self.gone, self.misses) = (Some(changes), 0, 0);
    }

    /// The slot of a random key, and how many it held.
    fn pick(&self, rng: &mut Rng) -> Option<(u8, Slot, u32)> {
        let rank = rng.below(u64::from(self.total())) as u32;
        let at = self.sums.partition_point(|(sum, ..)| *sum <= rank);
        let before = at.checked_sub(1).map_or(0, |before| self.sums[before].0);
        let (sum, db, slot) = self.sums.get(at)?;
        Some((*db, *slot, sum - before))
    }
}

/// A place in a walk over all keys of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hand {
    pub(crate) db: usize,
    pub(crate) slot: usize,
    pub(crate) prefix: u64,
}

/// See the module's head.
pub(crate) struct Keys<'s> {
    pub(crate) shard: &'s Shard,
    pub(crate) weights: &'s Weights,
    pub(crate) rng: &'s mut Rng,
    /// Only those with a deadline are to be had.
    pub(crate) volatile: bool,
    /// How many more may be looked at.
    pub(crate) looks: usize,
}

impl Keys<'_> {
    /// All that the shard holds.
    pub(crate) fn held(&self) -> usize {
        self.shard.dbs.iter().map(|db| db.len).sum()
    }

    /// Shows about `wanted` keys, each key about as likely; fewer when there are not so many.
    pub(crate) fn samples(&mut self, wanted: usize, mut f: impl FnMut(Found)) {
        let mut left = wanted;
        for _ in 0..wanted.saturating_mul(TRIES_MAX) {
            if left == 0 || self.looks == 0 {
                return;
            }
            let Some((db, slot, held)) = self.weights.pick(self.rng) else {
                return;
            };
            let is_dense = held >= DENSE_MIN && !self.volatile && wanted > 1;
            let (taken, of) = DENSE_PICKS;
            if is_dense && self.weights.has_sparse && self.rng.index(of) >= taken {
                // A slot of few keys gives one: this one gives more, so it is taken less often.
                continue;
            }
            self.looks -= 1;
            let Some(table) = self.shard.dbs[usize::from(db)].table(slot) else {
                continue;
            };
            if is_dense {
                let (items, count) = self.bucket_of(table);
                self.looks = self.looks.saturating_sub(count);
                let items = items.into_iter().flatten();
                items.for_each(|item| f(Found { db, slot, item }));
                left = left.saturating_sub(BUCKET_KEYS);
            } else if let Some(item) = self.sample_of(table) {
                f(Found { db, slot, item });
                left -= 1;
            }
        }
    }

    /// Some key, each about as likely. None when none was met.
    pub(crate) fn sample(&mut self) -> Option<Found> {
        let mut found = None;
        self.samples(1, |one| found = Some(one));
        found
    }

    /// The items of a random bucket; they are asked for together.
    fn bucket_of(&mut self, table: &Table<Item>) -> ([Option<Item>; DENSE_MAX], usize) {
        let (mut items, mut count) = ([None; DENSE_MAX], 0);
        table.neighbours(self.rng.next_u64(), |item: Item| {
            if let Some(place) = items.get_mut(count) {
                crate::table::prefetch(item.into_raw().as_ptr());
                *place = Some(item);
                count += 1;
            }
        });
        (items, count)
    }

    /// Some candidate of a table.
    fn sample_of(&mut self, table: &Table<Item>) -> Option<Item> {
        if !self.volatile {
            return table.random(self.rng.next_u64());
        }
        for _ in 0..VOLATILE_LOOKS {
            let item: Item = table.random(self.rng.next_u64())?;
            if item.deadline_ms().is_some() {
                return Some(item);
            }
        }
        // Few have one: one of those behind a random place.
        let start = self.rng.next_u64() >> (64 - crate::table::CURSOR_BITS);
        let (mut found, mut seen) = (None, 0);
        let (rng, mut met) = (&mut *self.rng, 0);
        table.scan(start, VOLATILE_WALK, |item: Item| {
            seen += 1;
            if item.deadline_ms().is_some() {
                met += 1;
                if rng.below(met) == 0 {
                    found = Some(item);
                }
            }
        });
        self.looks = self.looks.saturating_sub(seen / VOLATILE_LOOKS);
        found
    }

    /// As [`walk`], as far as looks are left.
    pub(crate) fn walk(&mut self, hand: &mut Hand, f: impl FnMut(Found)) -> bool {
        walk(self.shard, hand, &mut self.looks, f)
    }
}

/// Shows the items of the next bucket at `hand` that holds some, and moves it on; whether it has come round. Each item costs a look, and so
/// do buckets and slots that hold none.
pub(crate) fn walk(
    shard: &Shard,
    hand: &mut Hand,
    looks: &mut usize,
    mut f: impl FnMut(Found),
) -> bool {
    let mut seen = 0;
    while *looks > 0 && seen == 0 {
        *looks -= 1;
        let Some(db) = shard.dbs.get(hand.db) else {
            *hand = Hand::default();
            return true;
        };
        let tables = db.tables.as_ref().filter(|_| db.len > 0);
        let Some(slot) = tables.and_then(|tables| tables.get(hand.slot)) else {
            *hand = Hand {
                db: hand.db + 1,
                ..Hand::default()
            };
            continue;
        };
        let here = Slot(hand.slot as u16);
        if !slot.table.is_empty() && shard.owned.contains(here) {
            let db = hand.db as u8;
            hand.prefix = slot.table.scan(hand.prefix, 1, |item| {
                seen += 1;
                f(Found {
                    db,
                    slot: here,
                    item,
                });
            });
        } else {
            hand.prefix = 0;
            // Empty slots cost next to nothing: they are passed over in strides.
            let tables = tables.map_or(&[][..], |tables| &tables[..]);
            let rest = &tables[hand.slot..];
            let stride = rest.iter().take(EMPTY_STRIDE);
            let empty = stride.take_while(|slot| slot.table.is_empty()).count();
            hand.slot += empty.max(1) - 1;
        }
        if hand.prefix == 0 {
            hand.slot += 1;
        }
    }
    *looks = looks.saturating_sub(seen);
    false
}

/// Empty slots that count as one look.
const EMPTY_STRIDE: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{Key, Limits, SLOTS, Ttl};

    fn shard() -> Shard {
        Shard::new(
            3,
            (0..SLOTS as u16).map(Slot),
            Limits::default(),
            1_700_000_000_000,
        )
    }

    /// How often each key is sampled in some draws for each.
    fn counts(shard: &Shard, volatile: bool, draws: usize) -> HashMap<Vec<u8>, usize> {
        let mut weights = Weights::default();
        weights.refresh(shard, volatile);
        let (mut rng, mut counts) = (Rng::new(3), HashMap::new());
        let mut drawn = 0;
        while drawn < draws {
            let mut keys = Keys {
                shard,
                weights: &weights,
                rng: &mut rng,
                volatile,
                looks: 1000,
            };
            keys.samples(5, |found| {
                drawn += 1;
                *counts.entry(found.item.key().to_vec()).or_default() += 1;
            });
        }
        counts
    }

    #[test]
    fn samples_are_close_to_uniform_whatever_the_slots_are() {
        type Name = fn(usize) -> String;
        let shapes: [(usize, Name); 5] = [
            (3, |n| format!("few:{n}")),
            (1000, |n| format!("key:{n}")),
            (2000, |n| format!("{{one}}:{n}")),
            // Nine of ten in one slot.
            (2000, |n| {
                let tag = if n % 10 == 0 { n } else { 1 };
                format!("{{{tag}}}:{n}")
            }),
            (6000, |n| format!("{{two{}}}:{n}", n % 2)),
        ];
        for (count, name) in shapes {
            let mut shard = shard();
            for n in 0..count {
                let key = name(n);
                let key = Key::new((n % 3) as u8, key.as_bytes());
                let ttl = if n % 20 == 0 {
                    Ttl::At(1_800_000_000_000)
                } else {
                    Ttl::Clear
                };
                shard.edit().put_string(&key, b"v", ttl);
            }
            // 200 draws for each key: a fair one has 200 +- 14, and tables bend that by a part.
            let met = counts(&shard, false, 200 * count);
            assert_eq!(met.len(), count, "every key is met");
            let (least, most) = (met.values().min().unwrap(), met.values().max().unwrap());
            assert!(*least > 90 && *most < 420, "{count}: {least} to {most}");
            let volatile = count.div_ceil(20);
            let met = counts(&shard, true, 200 * volatile);
            assert_eq!(met.len(), volatile, "and only those with a deadline");
        }
    }

    #[test]
    fn a_walk_meets_every_key_of_its_own_slots_once_a_round() {
        let mut shard = shard();
        for n in 0..3000 {
            let key = format!("{{{}}}:{n}", n % 40);
            let key = Key::new((n % 3) as u8, key.as_bytes());
            shard.edit().put_string(&key, b"v", Ttl::Clear);
        }
        let (mut hand, mut rng, mut met) = (Hand::default(), Rng::new(1), Vec::new());
        let weights = Weights::default();
        for _ in 0..2 {
            loop {
                let mut keys = Keys {
                    shard: &shard,
                    weights: &weights,
                    rng: &mut rng,
                    volatile: false,
                    looks: 5,
                };
                if keys.walk(&mut hand, |found| met.push(found.item.key().to_vec())) {
                    break;
                }
            }
        }
        met.sort();
        assert_eq!(met.len(), 6000);
        assert!(met.chunks(2).all(|pair| pair[0] == pair[1]));
    }
}
