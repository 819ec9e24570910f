//! A timing wheel of deadlines: says which keys to look at, decides nothing.
//!
//! Four levels of 256 buckets; a tick is 8 ms. A hint is 8 bytes and carries no deadline: when its
//! bucket comes due the shard looks the item up, expires it, or pushes it again nearer to its time.
//! Overwritten and removed keys leave stale hints that die when looked at. Extending a deadline
//! pushes nothing (the hint in place is early); only a shorter one does.
//!
//! ```text
//! level 0: 256 x 8 ms    level 1: 256 x 2.05 s    level 2: 256 x 8.7 min    level 3: 256 x 37 h, and beyond
//! hint: slot 14 | db 8 | hash: top 34, low 8
//! ```

use std::collections::VecDeque;

use crate::slot::Slot;

const TICK_MS_SHIFT: u32 = 3;
const LEVELS: usize = 4;
const BUCKETS: usize = 256;
/// The hash bits that a hint keeps.
pub(crate) const HINT_HASH_MASK: u64 = !((1 << 30) - 1) | 0xff;

/// Where to look for an item whose deadline may have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint(u64);

impl Hint {
    /// A hint for the item of this hash.
    pub(crate) fn new(slot: Slot, db: u8, hash: u64) -> Hint {
        Hint(u64::from(slot.0) << 50 | u64::from(db) << 42 | (hash >> 30) << 8 | (hash & 0xff))
    }

    /// The slot to look in.
    pub(crate) fn slot(self) -> Slot {
        Slot((self.0 >> 50) as u16)
    }

    pub(crate) fn db(self) -> u8 {
        (self.0 >> 42) as u8
    }

    /// The hash under [`HINT_HASH_MASK`].
    pub(crate) fn hash(self) -> u64 {
        ((self.0 >> 8) & ((1 << 34) - 1)) << 30 | (self.0 & 0xff)
    }
}

/// See the module's head.
pub(crate) struct Wheel {
    /// All buckets before this tick have been handed out.
    tick: u64,
    levels: Vec<Vec<Hint>>,
    due: VecDeque<Vec<Hint>>,
    hints: usize,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Wheel {
        Wheel {
            tick: now_ms >> TICK_MS_SHIFT,
            levels: vec![Vec::new(); LEVELS * BUCKETS],
            due: VecDeque::new(),
            hints: 0,
        }
    }

    /// Notes that an item wants looking at when `deadline_ms` has come.
    pub(crate) fn push(&mut self, deadline_ms: u64, hint: Hint) {
        // The first tick that lies wholly after the deadline, and never one already handed out.
        let at = ((deadline_ms >> TICK_MS_SHIFT) + 1).max(self.tick);
        let mut level = 0;
        while level < LEVELS - 1 && (at >> (8 * level)) - (self.tick >> (8 * level)) >= 256 {
            level += 1;
        }
        let ahead = ((at >> (8 * level)) - (self.tick >> (8 * level))).min(255);
        let bucket = ((self.tick >> (8 * level)) + ahead) as usize % BUCKETS;
        let bucket = &mut self.levels[level * BUCKETS + bucket];
        // The same item again (its deadline went to and fro): one look is enough.
        if bucket.last() != Some(&hint) {
            bucket.push(hint);
            self.hints += 1;
        }
    }

    /// Moves all buckets that have come by `now_ms` to the due list.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        let now = now_ms >> TICK_MS_SHIFT;
        if self.hints == 0 {
            self.tick = self.tick.max(now + 1);
            return;
        }
        while self.tick <= now {
            self.hand_out(0);
            self.tick += 1;
            for level in 1..LEVELS {
                if self.tick & ((1 << (8 * level)) - 1) != 0 {
                    break;
                }
                self.hand_out(level);
            }
        }
    }

    fn hand_out(&mut self, level: usize) {
        let bucket = (self.tick >> (8 * level)) as usize % BUCKETS;
        let hints = core::mem::take(&mut self.levels[level * BUCKETS + bucket]);
        if !hints.is_empty() {
            self.due.push_back(hints);
        }
    }

    /// The next hint to look at.
    pub(crate) fn pop_due(&mut self) -> Option<Hint> {
        loop {
            let batch = self.due.front_mut()?;
            if let Some(hint) = batch.pop() {
                self.hints -= 1;
                return Some(hint);
            }
            self.due.pop_front();
        }
    }

    /// When to call again, unix ms: at once when something is due, else at the next filled bucket of
    /// the finest level or the next turn of a coarser one. None when the wheel is empty.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.hints == 0 {
            return None;
        }
        if !self.due.is_empty() {
            return Some(0);
        }
        let turn = (self.tick | 255) + 1;
        let tick = (self.tick..turn).find(|t| !self.levels[*t as usize % BUCKETS].is_empty());
        Some(tick.unwrap_or(turn) << TICK_MS_SHIFT)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let due: usize = self.due.iter().map(Vec::capacity).sum();
        let waiting: usize = self.levels.iter().map(Vec::capacity).sum();
        (due + waiting) * size_of::<Hint>() + LEVELS * BUCKETS * size_of::<Vec<Hint>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hint_keeps_slot_db_and_the_bits_that_find_the_item() {
        let hash = 0xfedc_ba98_7654_3210;
        let hint = Hint::new(Slot(16383), 255, hash);
        assert_eq!(
            (hint.slot(), hint.db(), hint.hash()),
            (Slot(16383), 255, hash & HINT_HASH_MASK)
        );
    }

    proptest! {
        #[test]
        fn every_hint_comes_after_its_deadline_and_within_two_ticks(
            start in 1_700_000_000_000u64..1_700_000_100_000,
            delays in prop::collection::vec(0u64..5_000_000, 1..60),
        ) {
            let mut wheel = Wheel::new(start);
            // The item's deadline, by hash: what the shard would find.
            for (i, delay) in delays.iter().enumerate() {
                wheel.push(start + delay, Hint::new(Slot(0), 0, (i as u64) << 30));
            }
            let (mut now, mut left) = (start, delays.len());
            while left > 0 {
                let next = wheel.next_ms().expect("something is left");
                now = next.max(now + 1);
                wheel.advance(now);
                while let Some(hint) = wheel.pop_due() {
                    let deadline = start + delays[(hint.hash() >> 30) as usize];
                    if deadline > now {
                        wheel.push(deadline, hint);
                    } else {
                        prop_assert!(now - deadline <= 16, "late by {}", now - deadline);
                        left -= 1;
                    }
                }
            }
            prop_assert_eq!(wheel.next_ms(), None);
        }
    }
}
