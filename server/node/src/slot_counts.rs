//! What the requests for each slot cost: processor time, bytes received and sent (CLUSTER SLOT-STATS).
//!
//! ```text
//! run ──> ticks | reply bytes >= least? ──> Noted ──> its words are at hand: the slot of its first key ──> SlotCounts
//!            (0 while slots are counted)
//! ```
//! The comparison is the one that finds what SLOWLOG notes (see `commandlog.rs`): while nobody counts slots, `least` is high and
//! a request pays nothing more. A core counts what it runs, whosever the slots are: the reply adds all cores up.
//!
//! Arithmetic: 24 bytes a slot and core, 384 KiB a core, while `cluster-slot-stats-enabled` is on in cluster mode; else none.

use protocol::Args;
use storage::{SLOTS, Slot};

use crate::config::Config;
use crate::core::Core;
use crate::table::Row;

/// Bytes of MULTI and EXEC as clients send them: they belong to the slot of what they enclose.
const MULTI_EXEC_BYTES: usize = "*1\r\n$5\r\nmulti\r\n*1\r\n$4\r\nexec\r\n".len();

/// What requests for one slot have cost on one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCount {
    /// Ticks of the processor's counter.
    pub ticks: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
}

/// The counts of one core; none while slots are not counted.
#[derive(Default)]
pub struct SlotCounts(Option<Box<[SlotCount]>>);

impl SlotCounts {
    /// Whether slots are counted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins to count from nothing, goes on, or ends, as the configuration says.
    pub fn configure(&mut self, config: &Config) {
        if !is_on(config) {
            self.0 = None;
        } else if self.0.is_none() {
            self.reset_to_nothing();
        }
    }

    fn reset_to_nothing(&mut self) {
        self.0 = Some(vec![SlotCount::default(); SLOTS].into());
    }

    /// Counts from nothing again (CONFIG RESETSTAT).
    pub fn reset(&mut self) {
        if self.is_on() {
            self.reset_to_nothing();
        }
    }

    /// What has been counted of a slot.
    pub fn get(&self, slot: Slot) -> SlotCount {
        let counts = self.0.as_deref().unwrap_or_default();
        counts.get(slot.index()).copied().unwrap_or_default()
    }

    /// Adds to what has been counted of a slot.
    pub fn add(&mut self, slot: Slot, more: SlotCount) {
        let counts = self.0.as_deref_mut().unwrap_or_default();
        if let Some(count) = counts.get_mut(slot.index()) {
            count.ticks += more.ticks;
            count.bytes_in += more.bytes_in;
            count.bytes_out += more.bytes_out;
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.0.as_deref().map_or(0, size_of_val)
    }
}

/// Whether the configuration wants slots counted.
pub fn is_on(config: &Config) -> bool {
    config.cluster_slot_stats_enabled && config.cluster_enabled
}

/// Bytes of a request as clients send it.
pub fn request_bytes(args: &Args<'_>) -> usize {
    let len_bytes = |len: usize| len.to_string().len() + 3;
    let words = (0..args.total()).filter_map(|at| args.word(at));
    let words = words.map(|word| len_bytes(word.len()) + word.len() + 2);
    len_bytes(args.total()) + words.sum::<usize>()
}

/// The slot of a request's first key.
fn slot_of(row: &Row, args: &Args<'_>) -> Option<Slot> {
    let mut first = None;
    // A request whose keys cannot be told is of no slot.
    let _ = row.spec.keys_of(args, |index, _| {
        first = first.or(args.word(index).map(Slot::of));
    });
    first
}

impl Core {
    /// A request has run, in so many ticks, with a reply of so many bytes.
    #[cold]
    pub fn count_slot(&mut self, row: &Row, args: &Args<'_>, ticks: u64, reply_bytes: usize) {
        if let Some(slot) = slot_of(row, args) {
            let count = SlotCount {
                ticks,
                bytes_in: request_bytes(args) as u64,
                bytes_out: reply_bytes as u64,
            };
            self.slot_counts.add(slot, count);
        }
    }

    /// A transaction has run whose first request this is, with so many bytes of a reply around those of its requests.
    #[cold]
    pub fn count_slot_of_exec(&mut self, row: &Row, args: &Args<'_>, reply_bytes: usize) {
        if let Some(slot) = slot_of(row, args) {
            let count = SlotCount {
                ticks: 0,
                bytes_in: MULTI_EXEC_BYTES as u64,
                bytes_out: reply_bytes as u64,
            };
            self.slot_counts.add(slot, count);
        }
    }

    /// So many bytes of messages have been sent to subscribers of a shard channel.
    #[cold]
    pub fn count_slot_message(&mut self, slot: Slot, bytes: usize) {
        let count = SlotCount {
            bytes_out: bytes as u64,
            ..SlotCount::default()
        };
        self.slot_counts.add(slot, count);
    }
}
