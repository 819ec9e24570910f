//! A timing wheel of deadlines: says which keys to look at, decides nothing.
//!
//! Four levels; a tick is 8 ms. A hint is 4 bytes and carries no deadline: when its
//! bucket comes due the shard looks the item up, expires it, or pushes it again nearer to its time.
//! Overwritten and removed keys leave stale hints that die when looked at. Extending a deadline
//! pushes nothing (the hint in place is early); only a shorter one does.
//!
//! ```text
//! level 0: 512 x 8 ms    level 1: 512 x 2.05 s    level 2: 512 x 8.7 min    level 3: 512 x 37 h, and beyond
//! hint: slot 14 | hash: top 18
//! ```
//! A bucket of a coarser level is handed out one of its turns ahead, and looked at only while nothing is due: its hints, a third of a
//! million perhaps, are spread in that time, and those that are due do not wait behind them. So each level holds two turns of 256.
//!
//! A hint names no database: databases change places, and a slot may come home from a visit with its
//! keys in another one. It stands for every item of its slot with these hash bits: the table finds them without reading others.
//!
//! What bounds the wheel: a lock that is taken with a long deadline and removed at once leaves a hint
//! each time, so past [`Wheel::len`] twice the keys with a deadline the shard sweeps stale ones out, a few a push.

use std::collections::VecDeque;

use crate::account::class_size;
use crate::slot::Slot;

const TICK_MS_SHIFT: u32 = 3;
const LEVELS: usize = 4;
/// Two turns of a level.
const BUCKETS: usize = 512;
/// Hints of one block of a bucket: a bucket of millions grows without ever being copied.
const CHUNK_HINTS_MAX: usize = 256;
/// The bits of a hash that a hint keeps, from the top. A table of one slot needs millions of keys until several share them.
pub(crate) const HINT_HASH_BITS: u8 = 18;

/// Where to look for an item whose deadline may have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hint(u32);

impl Hint {
    /// A hint for the items of this hash.
    pub(crate) fn new(slot: Slot, hash: u64) -> Hint {
        let prefix = (hash >> (64 - u32::from(HINT_HASH_BITS))) as u32;
        Hint(u32::from(slot.0) << HINT_HASH_BITS | prefix)
    }

    /// The slot to look in.
    pub(crate) fn slot(self) -> Slot {
        Slot((self.0 >> HINT_HASH_BITS) as u16)
    }

    /// The top [`HINT_HASH_BITS`] of the hash, the others 0.
    pub(crate) fn hash(self) -> u64 {
        u64::from(self.0) << (64 - u32::from(HINT_HASH_BITS))
    }
}

/// Hints that come due together, in blocks.
type Bucket = Vec<Vec<Hint>>;

/// See the module's head.
pub(crate) struct Wheel {
    /// All buckets before this tick have been handed out.
    tick: u64,
    levels: Vec<Bucket>,
    /// Hints of each level.
    filled: [usize; LEVELS],
    /// To be looked at: their ticks have come.
    due: VecDeque<Bucket>,
    /// To be looked at when nothing is due: their turn is the next one.
    early: VecDeque<Bucket>,
    hints: usize,
    /// Heap bytes of all blocks.
    chunk_bytes: usize,
    /// Where the sweep goes on: bucket, block, hint.
    sweep_at: (usize, usize, usize),
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Wheel {
        Wheel {
            tick: now_ms >> TICK_MS_SHIFT,
            levels: vec![Vec::new(); LEVELS * BUCKETS],
            filled: [0; LEVELS],
            due: VecDeque::new(),
            early: VecDeque::new(),
            hints: 0,
            chunk_bytes: 0,
            sweep_at: (0, 0, 0),
        }
    }

    /// Hints held.
    pub(crate) fn len(&self) -> usize {
        self.hints
    }

    /// Notes that an item wants looking at when `deadline_ms` has come.
    pub(crate) fn push(&mut self, deadline_ms: u64, hint: Hint) {
        // The first tick that lies wholly after the deadline, and never one already handed out.
        let at = ((deadline_ms >> TICK_MS_SHIFT) + 1).max(self.tick);
        let mut level = 0;
        while level < LEVELS - 1
            && (at >> (8 * level)) - (self.tick >> (8 * level)) >= BUCKETS as u64
        {
            level += 1;
        }
        let ahead = (at >> (8 * level)) - (self.tick >> (8 * level));
        let ahead = ahead.min(BUCKETS as u64 - 1);
        let bucket = ((self.tick >> (8 * level)) + ahead) as usize % BUCKETS;
        let bucket = &mut self.levels[level * BUCKETS + bucket];
        let room = match bucket.last_mut() {
            None => false,
            Some(chunk) if chunk.len() < CHUNK_HINTS_MAX => true,
            Some(chunk) => {
                // Deadlines that went to and fro leave the same hint often: one look is enough.
                chunk.sort_unstable();
                chunk.dedup();
                let gone = CHUNK_HINTS_MAX - chunk.len();
                self.hints -= gone;
                self.filled[level] -= gone;
                gone >= CHUNK_HINTS_MAX / 4
            }
        };
        if !room {
            bucket.push(Vec::new());
            self.chunk_bytes += size_of::<Vec<Hint>>();
        }
        if let Some(chunk) = bucket.last_mut()
            && chunk.last() != Some(&hint)
        {
            self.chunk_bytes -= chunk_bytes(chunk);
            chunk.push(hint);
            self.chunk_bytes += chunk_bytes(chunk);
            self.hints += 1;
            self.filled[level] += 1;
        }
    }

    /// Moves all buckets that have come by `now_ms` to the due list.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        let now = now_ms >> TICK_MS_SHIFT;
        while self.tick <= now {
            match self.filled.iter().position(|&hints| hints > 0) {
                None => {
                    self.tick = now + 1;
                    return;
                }
                Some(0) => {
                    let due = self.take_bucket(0, self.tick);
                    self.due.extend(due);
                    self.tick += 1;
                }
                // Nothing nearer than the next turn of this level: a clock that jumped costs no walk.
                Some(level) => self.tick = self.turn(level).min(now + 1),
            }
            for level in 1..LEVELS {
                if self.tick & ((1 << (8 * level)) - 1) != 0 {
                    break;
                }
                if level == 1 {
                    // What has not been spread in time waits no longer.
                    self.due.append(&mut self.early);
                }
                let next = self.take_bucket(level, (self.tick >> (8 * level)) + 1);
                self.early.extend(next);
            }
        }
    }

    /// The first tick after this one at which `level` hands out.
    fn turn(&self, level: usize) -> u64 {
        ((self.tick >> (8 * level)) + 1) << (8 * level)
    }

    /// Empties the bucket of a time, in units of the level.
    fn take_bucket(&mut self, level: usize, at: u64) -> Option<Bucket> {
        let number = level * BUCKETS + at as usize % BUCKETS;
        let bucket = core::mem::take(&mut self.levels[number]);
        self.filled[level] -= bucket.iter().map(Vec::len).sum::<usize>();
        (!bucket.is_empty()).then_some(bucket)
    }

    /// The next hint to look at.
    pub(crate) fn pop_due(&mut self) -> Option<Hint> {
        loop {
            let waiting = if self.due.is_empty() {
                &mut self.early
            } else {
                &mut self.due
            };
            let bucket = waiting.front_mut()?;
            let Some(chunk) = bucket.last_mut() else {
                waiting.pop_front();
                continue;
            };
            if let Some(hint) = chunk.pop() {
                self.hints -= 1;
                return Some(hint);
            }
            self.chunk_bytes -= chunk_bytes(chunk);
            bucket.pop();
        }
    }

    /// The hint that comes `ahead` of those after the last one, if it is in the same block.
    pub(crate) fn next_due(&self, ahead: usize) -> Option<Hint> {
        let bucket = self.due.front().or_else(|| self.early.front())?;
        let chunk = bucket.last()?;
        chunk.get(chunk.len().checked_sub(ahead)?).copied()
    }

    /// Looks at about `looks` hints that are not due, from where the last sweep ended, and drops those
    /// that `is_stale`.
    pub(crate) fn sweep(&mut self, looks: usize, is_stale: impl Fn(Hint) -> bool) {
        let (mut number, mut block, mut place) = self.sweep_at;
        for _ in 0..looks {
            let bucket = &mut self.levels[number];
            let Some(chunk) = bucket.get_mut(block) else {
                (number, block, place) = ((number + 1) % (LEVELS * BUCKETS), 0, 0);
                continue;
            };
            match chunk.get(place) {
                Some(&hint) if is_stale(hint) => {
                    chunk.swap_remove(place);
                    self.hints -= 1;
                    self.filled[number / BUCKETS] -= 1;
                }
                Some(_) => place += 1,
                None => {
                    // Done with this block: what is left of it may fit the one before.
                    let len = chunk.len();
                    let before = block.checked_sub(1).and_then(|at| bucket.get(at));
                    let fits = before.is_some_and(|b| b.len() + len <= CHUNK_HINTS_MAX);
                    if len == 0 || fits {
                        let chunk = bucket.swap_remove(block);
                        self.chunk_bytes -= chunk_bytes(&chunk);
                        if let Some(before) = block.checked_sub(1).and_then(|at| bucket.get_mut(at))
                        {
                            self.chunk_bytes -= chunk_bytes(before);
                            before.extend_from_slice(&chunk);
                            self.chunk_bytes += chunk_bytes(before);
                        }
                    } else {
                        block += 1;
                    }
                    place = 0;
                }
            }
        }
        self.sweep_at = (number, block, place);
    }

    /// When to call again, unix ms: at once when something is due, else at the next filled bucket of
    /// the finest level or the next turn of a coarser one. None when the wheel is empty.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.hints == 0 {
            return None;
        }
        if !self.due.is_empty() || !self.early.is_empty() {
            return Some(0);
        }
        let tick = match self.filled.iter().position(|&hints| hints > 0)? {
            0 => {
                let turn = self.turn(1);
                let filled = |t: &u64| !self.levels[*t as usize % BUCKETS].is_empty();
                (self.tick..turn).find(filled).unwrap_or(turn)
            }
            level => self.turn(level),
        };
        Some(tick << TICK_MS_SHIFT)
    }

    /// Bytes of heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunk_bytes + class_size(LEVELS * BUCKETS * size_of::<Bucket>())
    }

    /// Every hint with the first time at which it may be handed out, unix ms. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn all(&self) -> Vec<(u64, Hint)> {
        let mut all = Vec::new();
        let due = self.due.iter().chain(&self.early).flatten().flatten();
        all.extend(due.map(|hint| (0, *hint)));
        for (number, bucket) in self.levels.iter().enumerate() {
            let (level, number) = (number / BUCKETS, (number % BUCKETS) as u64);
            let now = self.tick >> (8 * level);
            let at = now + (number.wrapping_sub(now) % BUCKETS as u64);
            // (Coarser ones are handed out a turn ahead, and what is not due then is pushed again.)
            let at_ms = at << (8 * level) << TICK_MS_SHIFT;
            all.extend(bucket.iter().flatten().map(|hint| (at_ms, *hint)));
        }
        assert_eq!(all.len(), self.hints);
        let in_levels: usize = self.levels.iter().flatten().map(Vec::len).sum();
        assert_eq!(in_levels, self.filled.iter().sum::<usize>());
        let waiting = self.due.iter().chain(&self.early);
        let blocks = self.levels.iter().chain(waiting).flatten();
        assert_eq!(blocks.map(chunk_bytes).sum::<usize>(), self.chunk_bytes);
        all
    }
}

/// Bytes of a block and of its place in the bucket.
fn chunk_bytes(chunk: &Vec<Hint>) -> usize {
    class_size(chunk.capacity() * size_of::<Hint>()) + size_of::<Vec<Hint>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hint_keeps_the_slot_and_the_bits_that_find_the_item() {
        let hash = 0xfedc_ba98_7654_3210;
        let hint = Hint::new(Slot(16383), hash);
        assert_eq!((hint.slot(), hint.hash()), (Slot(16383), hash >> 46 << 46));
    }

    /// Hints of a coarser level once stood before those that were due: events came fifty milliseconds late, every two seconds.
    #[test]
    fn what_is_due_does_not_wait_behind_what_is_spread() {
        const TURN_MS: u64 = 256 << TICK_MS_SHIFT;
        let start = 1_700_000_000_000 / TURN_MS * TURN_MS;
        let mut wheel = Wheel::new(start);
        let (many, soon) = (10_000, Hint::new(Slot(2), 0));
        for n in 0..many {
            let at_ms = start + 3 * TURN_MS + n % 2000;
            wheel.push(at_ms, Hint::new(Slot(1), n << 46));
        }
        let (mut now, mut spread, mut found) = (start, 0, 0);
        while spread < many || found < 5 {
            now += 8;
            wheel.advance(now);
            if now == start + TURN_MS {
                // They come due while the others are spread.
                (0..5).for_each(|n| wheel.push(start + 2 * TURN_MS + 16 * n, soon));
            }
            for budget in 0..100 {
                match wheel.pop_due() {
                    Some(hint) if hint == soon => {
                        assert_eq!(budget, 0, "nothing came before it");
                        found += 1;
                    }
                    Some(_) => spread += 1,
                    None => break,
                }
            }
        }
        assert!(now > start + 2 * TURN_MS && now < start + 3 * TURN_MS);
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
                wheel.push(start + delay, Hint::new(Slot(0), (i as u64) << 46));
            }
            let (mut now, mut left) = (start, delays.len());
            while left > 0 {
                let next = wheel.next_ms().expect("something is left");
                now = next.max(now + 1);
                wheel.advance(now);
                while let Some(hint) = wheel.pop_due() {
                    let deadline = start + delays[(hint.hash() >> 46) as usize];
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
