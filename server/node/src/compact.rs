//! Active defragmentation: keys are moved out of sparsely used pages of the allocator, in slices between requests.
//!
//! ```text
//! the thread that gives memory back (allocator.rs)        each core, at the end of its turns
//!   5 times a second: what is resident beside the          heap::Thinning: which pages ── Shard::compact: a walk over the tables
//!   data and empty pages ──> share of the cores' time ───>        ──> pages become empty; the rest is used again ──> anew
//! ```
//! When: with `activedefrag yes` by Redis's thresholds; and without being asked while `maxmemory` is set, keys may be evicted and more than
//! that is resident: evicting keys of pages that hold others frees nothing, moving those does.
//!
//! What is moved: see `storage::Shard::compact`. Not in a simulation, where several nodes share one allocator.

use std::sync::atomic::Ordering::Relaxed;

use heap::{Stage, Thinning};
use runtime::{CoreId, Turn};
use storage::{CompactCursor, Movable};

use crate::config::Config;
use crate::mail::Mail;
use crate::node::Node;
use crate::service::NodeService;

/// How long a slice takes about, us: between few requests, while much is asked of it, and while all is. (There is one a turn, so a slice
/// that is not longer than what a turn does for clients would not be most of the time, whatever the share.)
const SLICE_US: u64 = 50;
const LONG_SLICE_US: u64 = 250;
const LONGEST_SLICE_US: u64 = 600;
/// Looks for keys between two looks at the clock.
const KEYS: usize = 256;
/// A round that chooses, or empties, less than this share of what the core holds is not worth a walk: the next one comes after so many times
/// as long as it took.
const WORTH_SHARE: usize = 64;
/// How many looks effort is made after it was wanted last: to give up half-way is to have moved for nothing.
const LOOKS_KEEN: u32 = 10;
/// While `maxmemory` presses: a share of the cores' time, in percent; so much when more than a 32nd beyond it is resident; and so much when
/// more than a twelfth is: then holes come faster than they are filled. All who ask these cores are slowed down by it, but memory that
/// grows on ends the process.
const PRESSED_PERCENT: u64 = 25;
const PRESSED_HARD_PERCENT: u64 = 50;
const PRESSED_HARDEST_PERCENT: u64 = 80;
const BEYOND_SHARE: u64 = 32;
const FAR_BEYOND_SHARE: u64 = 12;
/// A round that was not worth it is tried again after so long, and one that emptied less than half of what it chose, ms; or after so many
/// times as long as it took.
const LOOK_AGAIN_MS: u64 = 250;
const REST_MS: u64 = 5_000;
const REST_TIMES: u64 = 10;
const FRUITLESS_SHARE: usize = 2;

/// Bytes, as the thread that gives memory back sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// What the node counts.
    pub used: u64,
    /// What the process has, but for empty pages.
    pub resident: u64,
}

/// Which share of their time cores are to spend, percent.
pub fn effort(config: &Config, seen: Seen) -> u64 {
    let holes = seen.resident.saturating_sub(seen.used);
    asked(config, seen.used, holes).max(pressed(config, seen, holes))
}

/// What `activedefrag` asks for: from cycle-min at the lower threshold to cycle-max at the upper one, as in Redis.
fn asked(config: &Config, used: u64, holes: u64) -> u64 {
    let waste = holes.saturating_mul(100) / used.max(1);
    let (lower, upper) = (
        u64::from(config.active_defrag_threshold_lower),
        u64::from(config.active_defrag_threshold_upper),
    );
    if !config.activedefrag || holes < config.active_defrag_ignore_bytes || waste < lower {
        return 0;
    }
    let least = u64::from(config.active_defrag_cycle_min);
    let most = u64::from(config.active_defrag_cycle_max).max(least);
    let way = (waste - lower).min(upper.saturating_sub(lower));
    let whole = upper.saturating_sub(lower).max(1);
    least + (most - least) * way / whole
}

fn pressed(config: &Config, seen: Seen, holes: u64) -> u64 {
    let bound = config.maxmemory;
    let evicts = crate::memory::eviction(config).choice.is_some();
    if bound == 0 || !evicts || seen.resident <= bound || holes <= bound / BEYOND_SHARE {
        0
    } else if seen.resident <= bound + bound / BEYOND_SHARE {
        PRESSED_PERCENT
    } else if seen.resident <= bound + bound / FAR_BEYOND_SHARE {
        PRESSED_HARD_PERCENT
    } else {
        PRESSED_HARDEST_PERCENT
    }
}

/// Remembers effort for a while.
#[derive(Default)]
pub struct Keen {
    percent: u64,
    looks: u32,
}

impl Keen {
    /// Which effort to make when `wanted` is wanted now.
    pub fn look(&mut self, wanted: u64) -> u64 {
        if wanted > 0 {
            (self.percent, self.looks) = (wanted, LOOKS_KEEN);
        } else {
            self.looks = self.looks.saturating_sub(1);
        }
        if self.looks > 0 { self.percent } else { 0 }
    }
}

/// Sets what cores do about it, and wakes those that may sleep.
pub fn demand(node: &Node, percent: u64) {
    node.memory.compact_percent.store(percent, Relaxed);
    let Some(handle) = node.handle().filter(|_| percent > 0) else {
        return;
    };
    for core in 0..node.cores() as u16 {
        // A core whose mailbox is full is about to turn, and looks by itself.
        let _full = handle.post(CoreId(core), Mail::MakeRoom);
    }
}

/// A core's part.
#[derive(Default)]
pub struct Compaction {
    round: Option<Thinning>,
    cursor: CompactCursor,
    /// Ticks that the round has taken.
    spent: u64,
    /// When the next slice may begin, monotonic us.
    next_us: u64,
}

impl NodeService {
    /// A slice, when it is time for one.
    pub(crate) fn compact(&mut self, turn: &mut Turn<'_, Mail>) {
        let percent = self.core.node.memory.compact_percent.load(Relaxed);
        let core = &mut self.core;
        if percent == 0 && core.memory.compaction.round.is_none() {
            return;
        }
        if turn.now.mono_us < core.memory.compaction.next_us {
            let left_us = core.memory.compaction.next_us - turn.now.mono_us;
            return turn.ops.wake_at(turn.now.unix_ms + 1 + left_us / 1000);
        }
        // A long request or script may have its slots half-way; what a snapshot walks is left alone, and pages that were marked give blocks again.
        let is_snapshot = !core.shard.is_snapshot_done();
        let begins = core.memory.compaction.round.is_none();
        if core.errands > 0 || core.has_long_script() || is_snapshot && begins {
            return;
        }
        let percent = if is_snapshot { 0 } else { percent };
        let begin = runtime::ticks();
        let rest_us = self.compact_slice(percent);
        let core = &mut self.core;
        let took = runtime::ticks().wrapping_sub(begin);
        core.tally.compact_ticks += took;
        core.memory.compaction.spent += took;
        let took_us = (took as f64 / core.ticks_per_us) as u64;
        let percent = percent.clamp(1, 99);
        let pause_us = (took_us * (100 - percent) / percent).max(rest_us);
        core.memory.compaction.next_us = turn.now.mono_us + took_us + pause_us;
        turn.ops.wake_at(turn.now.unix_ms + 1 + pause_us / 1000);
    }

    /// Goes on with the round for a while, as `percent` says; how long to rest after it, us. At 0 it is not wanted any more, and what it has
    /// marked is released.
    #[cold]
    fn compact_slice(&mut self, percent: u64) -> u64 {
        let core = &mut self.core;
        let is_bound = core.config.maxmemory > 0;
        let slice_us = if percent <= PRESSED_PERCENT {
            SLICE_US
        } else if percent < PRESSED_HARDEST_PERCENT || !is_bound {
            LONG_SLICE_US
        } else {
            LONGEST_SLICE_US
        };
        let limit = (slice_us as f64 * core.ticks_per_us) as u64;
        let begin = runtime::ticks();
        let round = core
            .memory
            .compaction
            .round
            .get_or_insert_with(Thinning::new);
        let worth = core.shard.used_bytes() / WORTH_SHARE;
        while runtime::ticks().wrapping_sub(begin) < limit {
            match round.stage() {
                Stage::Emptying if percent == 0 || round.chosen_bytes() < worth => round.release(),
                Stage::Emptying => {
                    // Only strings have blocks beside their items that may move.
                    let movable = match round.has_larger(storage::EMBEDDED_BYTES_MAX) {
                        true => Movable::Strings,
                        false => Movable::Items,
                    };
                    let cursor = &mut core.memory.compaction.cursor;
                    let done = core.shard.compact(cursor, KEYS, movable, &heap::drains);
                    core.tally.compacted_keys += done.keys as u64;
                    core.tally.compacted_blocks += done.blocks as u64;
                    core.tally.compact_misses += done.seen.saturating_sub(done.keys) as u64;
                    if done.done {
                        round.release();
                    }
                }
                Stage::Done => {
                    let (chosen, kept) = (round.chosen_bytes(), round.kept_bytes());
                    let spent = core::mem::take(&mut core.memory.compaction.spent);
                    let spent_us = (spent as f64 / core.ticks_per_us) as u64;
                    core.memory.compaction = Compaction::default();
                    return rest_us(chosen, kept, worth, spent_us);
                }
                _ => {
                    round.step();
                }
            }
        }
        0
    }
}

/// How long to rest after a round that chose and could not empty so many bytes, us.
fn rest_us(chosen: usize, kept: usize, worth: usize, spent_us: u64) -> u64 {
    let long_us = spent_us * REST_TIMES;
    if chosen.saturating_sub(kept) < worth {
        long_us.max(LOOK_AGAIN_MS * 1000)
    } else if kept * FRUITLESS_SHARE > chosen {
        long_us.max(REST_MS * 1000)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn seen(used: u64, resident: u64) -> Seen {
        Seen {
            used: used * MB,
            resident: resident * MB,
        }
    }

    #[test]
    fn effort_is_what_was_asked_for() {
        let mut config = Config::default();
        assert_eq!(effort(&config, seen(1000, 5000)), 0, "off");
        config.activedefrag = true;
        assert_eq!(effort(&config, seen(50, 149)), 0, "less than 100 MB");
        assert_eq!(effort(&config, seen(2000, 2190)), 0, "less than 10 %");
        assert_eq!(effort(&config, seen(2000, 2200)), 1);
        assert_eq!(effort(&config, seen(2000, 3100)), 1 + 24 * 45 / 90);
        assert_eq!(effort(&config, seen(2000, 4000)), 25);
        assert_eq!(effort(&config, seen(2000, 9000)), 25);
        assert_eq!(effort(&config, seen(0, 9000)), 25, "no data at all");
    }

    #[test]
    fn effort_goes_on_for_a_while() {
        let mut keen = Keen::default();
        let looks = [0, 25, 0, 50, 0].map(|wanted| keen.look(wanted));
        assert_eq!(looks, [0, 25, 25, 50, 50]);
        let rest: Vec<u64> = (0..LOOKS_KEEN).map(|_| keen.look(0)).collect();
        assert!(
            rest[..LOOKS_KEEN as usize - 2]
                .iter()
                .all(|percent| *percent == 50)
        );
        assert_eq!(rest.last(), Some(&0));
    }

    #[test]
    fn what_was_not_worth_it_is_tried_again_later() {
        let mb = |n: usize| n << 20;
        assert_eq!(rest_us(mb(100), mb(10), mb(16), 900_000), 0);
        assert_eq!(rest_us(0, 0, mb(16), 1_000), 250_000, "nothing was chosen");
        assert_eq!(rest_us(mb(20), mb(10), mb(16), 900_000), 9_000_000);
        assert_eq!(rest_us(mb(100), mb(60), mb(16), 1_000), 5_000_000);
    }

    #[test]
    fn a_bound_that_is_passed_presses_where_keys_are_evicted() {
        let mut config = Config::default();
        config.maxmemory = 1000 * MB;
        assert_eq!(effort(&config, seen(900, 1200)), 0, "nothing is evicted");
        config.maxmemory_policy = crate::config::MaxmemoryPolicy::AllkeysLru;
        assert_eq!(effort(&config, seen(500, 1000)), 0);
        assert_eq!(effort(&config, seen(980, 1010)), 0, "hardly any holes");
        assert_eq!(effort(&config, seen(900, 1030)), PRESSED_PERCENT);
        assert_eq!(effort(&config, seen(900, 1080)), PRESSED_HARD_PERCENT);
        assert_eq!(effort(&config, seen(900, 1200)), PRESSED_HARDEST_PERCENT);
        assert_eq!(effort(&config, seen(1180, 1200)), 0, "there are no holes");
    }
}
