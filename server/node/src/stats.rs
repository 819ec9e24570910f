//! Counters of a core. Written by its thread alone; published once a turn into atomics that INFO and
//! the metrics read from anywhere.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use storage::Shard;

use crate::histogram::Histogram;

/// Error codes that errorstats keeps apart, as Redis.
const ERROR_CODES_MAX: usize = 128;

/// What a core counts of one row while it runs.
#[derive(Clone, Default)]
struct Timed {
    calls: u64,
    /// Ticks of the processor's counter that they took.
    ticks: u64,
    /// How long they took from the first byte received to the last byte sent.
    histogram: Histogram,
    /// Calls of this turn that came with it and leave with it: they are in no histogram yet.
    of_turn: u32,
}

/// A request that is answered later: its row and when its bytes had been received, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call(u64);

impl Call {
    const ROW_BITS: u32 = 16;
    /// A reply that no histogram counts.
    pub const NONE: Call = Call(u64::MAX);

    /// A request of a row (below 2^16) that was received at so many ticks.
    #[inline]
    pub fn new(row: usize, received: u64) -> Call {
        Call(received << Self::ROW_BITS | row as u64 & ((1 << Self::ROW_BITS) - 1))
    }

    fn row(self) -> usize {
        (self.0 & ((1 << Self::ROW_BITS) - 1)) as usize
    }

    /// The ticks until `sent`; less than a day of them.
    fn took(self, sent: u64) -> u64 {
        (sent << Self::ROW_BITS).wrapping_sub(self.0 & !((1 << Self::ROW_BITS) - 1))
            >> Self::ROW_BITS
    }
}

/// What a core counts while it runs.
pub struct Tally {
    rows: Vec<Timed>,
    /// Whether histograms are kept (`latency-tracking`).
    pub tracking: bool,
    /// Commands that run are part of a transaction or a script, which alone is received and sent: their own time counts.
    pub nested: bool,
    /// What runs is this core's part of a command of another core, which counts the call.
    pub is_part: bool,
    /// When the bytes of this turn had been received, ticks.
    pub received: u64,
    /// Rows with calls of this turn.
    of_turn: Vec<u32>,
    /// Others that are answered in this turn.
    answered: Vec<Call>,
    /// Calls that were refused by the handler, and before.
    failures: Vec<u64>,
    rejections: Vec<u64>,
    errors: HashMap<String, u64>,
    changed: bool,
    /// Commands run here.
    pub commands: u64,
    /// Refusals replied.
    pub errors_total: u64,
    /// Requests sent on to another core.
    pub forwarded: u64,
    /// Transactions over several cores that ran here.
    pub transactions: u64,
    /// Of those, how often one had to try again.
    pub retries: u64,
    /// Requests that ran aside.
    pub asides: u64,
    /// Connections accepted here.
    pub accepted: u64,
    /// Connections refused (maxclients, protected mode).
    pub turned_away: u64,
    /// Connections closed for their output buffer.
    pub output_limit_closes: u64,
    /// Connections closed for their input buffer.
    pub input_limit_closes: u64,
    /// What the shard had counted when the statistics were last forgotten: keys removed because their
    /// deadline had passed, and elements freed in slices.
    pub expired_before: u64,
    /// See [`Tally::expired_before`].
    pub freed_before: u64,
    /// The same of values.
    pub values_freed_before: u64,
    /// Keys evicted by then.
    pub evicted_before: u64,
    /// Connections closed to save memory.
    pub evicted_clients: u64,
    /// Fields of hashes removed by [`Tally::expired_before`]'s time.
    pub fields_expired_before: u64,
    /// Ticks that acting upon passed deadlines has taken.
    pub expire_ticks: u64,
    /// Keys moved out of sparse pages of memory.
    pub compacted_keys: u64,
    /// Blocks moved with them.
    pub compacted_blocks: u64,
    /// Keys looked at that needed no move.
    pub compact_misses: u64,
    /// Ticks that all that has taken.
    pub compact_ticks: u64,
}

impl Tally {
    /// All zero, for so many rows.
    pub fn new(rows: usize) -> Tally {
        Tally {
            rows: vec![Timed::default(); rows],
            tracking: true,
            nested: false,
            is_part: false,
            received: 0,
            of_turn: Vec::new(),
            answered: Vec::new(),
            failures: vec![0; rows],
            rejections: vec![0; rows],
            errors: HashMap::new(),
            changed: false,
            commands: 0,
            errors_total: 0,
            forwarded: 0,
            transactions: 0,
            retries: 0,
            asides: 0,
            accepted: 0,
            turned_away: 0,
            output_limit_closes: 0,
            input_limit_closes: 0,
            expired_before: 0,
            freed_before: 0,
            values_freed_before: 0,
            evicted_before: 0,
            evicted_clients: 0,
            fields_expired_before: 0,
            expire_ticks: 0,
            compacted_keys: 0,
            compacted_blocks: 0,
            compact_misses: 0,
            compact_ticks: 0,
        }
    }

    /// A command has been run, in so many ticks.
    pub fn called(&mut self, row: usize, ticks: u64) {
        let calls = u64::from(!self.is_part);
        self.commands += calls;
        if let Some(timed) = self.rows.get_mut(row) {
            timed.calls += calls;
            timed.ticks += ticks;
            if self.nested && self.tracking {
                timed.histogram.count(ticks, 1);
            }
        }
    }

    /// As `called`, for one that came with this turn and leaves with it.
    #[inline(always)]
    pub fn called_and_answered(&mut self, row: usize, ticks: u64) {
        self.commands += 1;
        if let Some(timed) = self.rows.get_mut(row) {
            timed.calls += 1;
            timed.ticks += ticks;
            if timed.of_turn == 0 {
                self.of_turn.push(row as u32);
            }
            timed.of_turn += 1;
        }
    }

    /// The one that was counted last waits for replies before it: `answered` is told when they are there.
    #[inline]
    pub fn not_yet_answered(&mut self, row: usize) {
        if let Some(timed) = self.rows.get_mut(row) {
            timed.of_turn -= 1;
        }
    }

    /// The reply to a call leaves with this turn.
    #[inline]
    pub fn answered(&mut self, call: Call) {
        if call != Call::NONE {
            self.answered.push(call);
        }
    }

    /// The replies of a turn had been sent at `sent`, ticks; the bytes of the next one had been received at `received`.
    pub fn end_turn(&mut self, sent: u64, received: u64) {
        let took = sent.wrapping_sub(self.received);
        for row in self.of_turn.drain(..) {
            let timed = &mut self.rows[row as usize];
            let calls = core::mem::take(&mut timed.of_turn);
            if self.tracking {
                timed.histogram.count(took, u64::from(calls));
            }
        }
        for call in self.answered.drain(..) {
            let timed = self.rows.get_mut(call.row());
            if let Some(timed) = timed.filter(|_| self.tracking) {
                timed.histogram.count(call.took(sent), 1);
            }
        }
        self.received = received;
    }

    /// Keeps histograms, or no more.
    pub fn track(&mut self, tracking: bool) {
        if !tracking && self.tracking {
            self.rows.iter_mut().for_each(|row| row.histogram.clear());
        }
        self.tracking = tracking;
    }

    /// It was refused by its handler.
    #[cold]
    pub fn failed(&mut self, row: usize) {
        self.changed = true;
        self.failures[row] += 1;
    }

    /// It was refused before it ran.
    #[cold]
    pub fn rejected(&mut self, row: usize) {
        self.changed = true;
        self.rejections[row] += 1;
    }

    /// A refusal with this code was replied.
    #[cold]
    pub fn refused(&mut self, code: &str) {
        self.changed = true;
        self.errors_total += 1;
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < ERROR_CODES_MAX {
            self.errors.insert(code.to_owned(), 1);
        }
    }

    /// Counts here what has been counted beside the cores.
    pub(crate) fn absorb(&mut self, other: &Tally) {
        for (row, more) in self.rows.iter_mut().zip(&other.rows) {
            row.calls += more.calls;
            row.ticks += more.ticks;
            row.histogram.add(&more.histogram);
        }
        let add = |to: &mut [u64], from: &[u64]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        add(&mut self.failures, &other.failures);
        add(&mut self.rejections, &other.rejections);
        for (code, count) in &other.errors {
            if let Some(known) = self.errors.get_mut(code) {
                *known += count;
            } else if self.errors.len() < ERROR_CODES_MAX {
                self.errors.insert(code.clone(), *count);
            }
        }
        self.changed |= other.changed;
        self.commands += other.commands;
        self.errors_total += other.errors_total;
    }

    /// Forgets everything (CONFIG RESETSTAT).
    pub fn reset(&mut self) {
        *self = Tally {
            changed: true,
            tracking: self.tracking,
            nested: self.nested,
            is_part: self.is_part,
            received: self.received,
            ..Tally::new(self.rows.len())
        };
    }
}

/// Calls of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCount {
    /// Run.
    pub calls: u64,
    /// Refused by the handler.
    pub failures: u64,
    /// Refused before.
    pub rejections: u64,
    /// Ticks of the processor's counter that the calls took.
    pub ticks: u64,
}

macro_rules! published {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The counters of a core as others see them.
        #[derive(Default)]
        pub struct Published {
            $($(#[$doc])* pub $name: AtomicU64,)+
            /// Keys and keys with a deadline, by database.
            pub dbs: Vec<(AtomicU64, AtomicU64)>,
            /// Calls of each row, and the ticks that they took.
            calls: Vec<(AtomicU64, AtomicU64)>,
            /// What changes rarely: refusals.
            rare: Mutex<Rare>,
            /// The histograms of the rows that were called, as of the last time somebody asked.
            histograms: Mutex<Vec<Histogram>>,
        }
    };
}

#[derive(Default)]
struct Rare {
    failures: Vec<u64>,
    rejections: Vec<u64>,
    errors: HashMap<String, u64>,
}

published! {
    /// Commands run.
    commands,
    /// Refusals replied.
    errors_total,
    /// Requests sent on to another core.
    forwarded,
    /// Transactions over several cores.
    transactions,
    /// Their retries.
    retries,
    /// Requests that ran aside.
    asides,
    /// Connections accepted.
    accepted,
    /// Connections refused.
    turned_away,
    /// Connections now.
    clients,
    /// Connections closed for their output buffer.
    output_limit_closes,
    /// Connections closed for their input buffer.
    input_limit_closes,
    /// Reads that found their key.
    hits,
    /// Reads that did not.
    misses,
    /// Keys removed because their deadline had passed.
    expired,
    /// Fields of hashes removed because their deadline had passed.
    fields_expired,
    /// Ticks that acting upon passed deadlines has taken.
    expire_ticks,
    /// Keys moved out of sparse pages of memory.
    compacted_keys,
    /// Blocks moved with them.
    compacted_blocks,
    /// Keys looked at that needed no move.
    compact_misses,
    /// Ticks that all that has taken.
    compact_ticks,
    /// Slots that the snapshot which runs has yet to write out.
    slots_left,
    /// Keys that somebody watches (WATCH).
    watched_keys,
    /// The largest input of a connection that was kept in the last seconds, bytes; as of the last time somebody asked.
    recent_input,
    /// The same of output.
    recent_output,
    /// Mutations.
    changes,
    /// Bytes of data, with what waits to be freed.
    used_bytes,
    /// Of them, what waits.
    garbage_bytes,
    /// Bytes of arrays of slots.
    fixed_bytes,
    /// Bytes of connections.
    client_bytes,
    /// Bytes of tables beside the data: see [`crate::core::Core::table_bytes`].
    table_bytes,
    /// The memory class of the largest connection that may be closed to save memory, while there is need.
    largest_client,
    /// Keys evicted.
    evicted,
    /// Connections closed to save memory.
    evicted_clients,
    /// Elements of removed values freed in slices.
    freed_lazily,
    /// Removed values freed so.
    values_freed_lazily,
    /// Removed values that wait for it.
    garbage_values,
}

impl Published {
    /// For so many databases and rows.
    pub fn new(dbs: usize, rows: usize) -> Published {
        Published {
            dbs: (0..dbs).map(|_| Default::default()).collect(),
            calls: (0..rows).map(|_| Default::default()).collect(),
            ..Published::default()
        }
    }

    /// Takes over what a core has counted. Called by that core, at most once a turn.
    pub fn publish(&self, tally: &mut Tally, shard: &Shard, clients: usize) {
        let (hits, misses) = shard.hits_and_misses();
        let freed = shard.freed_lazily().saturating_sub(tally.freed_before);
        let (garbage_values, values_freed) = shard.values_freed_lazily();
        // What was freed last has left no garbage behind.
        let changed = self.changes.load(Relaxed) != shard.changes()
            || shard.has_garbage()
            || self.freed_lazily.load(Relaxed) != freed;
        let pairs = [
            (&self.commands, tally.commands),
            (&self.errors_total, tally.errors_total),
            (&self.forwarded, tally.forwarded),
            (&self.transactions, tally.transactions),
            (&self.retries, tally.retries),
            (&self.asides, tally.asides),
            (&self.accepted, tally.accepted),
            (&self.turned_away, tally.turned_away),
            (&self.clients, clients as u64),
            (&self.output_limit_closes, tally.output_limit_closes),
            (&self.input_limit_closes, tally.input_limit_closes),
            (&self.hits, hits),
            (&self.misses, misses),
            (
                &self.expired,
                shard.expired().saturating_sub(tally.expired_before),
            ),
            (
                &self.fields_expired,
                shard
                    .fields_expired()
                    .saturating_sub(tally.fields_expired_before),
            ),
            (&self.expire_ticks, tally.expire_ticks),
            (&self.compacted_keys, tally.compacted_keys),
            (&self.compacted_blocks, tally.compacted_blocks),
            (&self.compact_misses, tally.compact_misses),
            (&self.compact_ticks, tally.compact_ticks),
            (&self.slots_left, shard.snapshot_slots_left() as u64),
            (&self.watched_keys, shard.watched_keys() as u64),
            (&self.freed_lazily, freed),
            (
                &self.values_freed_lazily,
                values_freed.saturating_sub(tally.values_freed_before),
            ),
            (&self.garbage_values, garbage_values as u64),
            (
                &self.evicted,
                shard.evicted().saturating_sub(tally.evicted_before),
            ),
            (&self.evicted_clients, tally.evicted_clients),
        ];
        pairs
            .into_iter()
            .for_each(|(to, value)| to.store(value, Relaxed));
        if changed {
            self.changes.store(shard.changes(), Relaxed);
            self.used_bytes.store(shard.used_bytes() as u64, Relaxed);
            let garbage = shard.garbage_bytes();
            self.garbage_bytes.store(garbage as u64, Relaxed);
            for (db, (keys, expires)) in self.dbs.iter().enumerate() {
                let count = shard.count(db as u8);
                keys.store(count.keys as u64, Relaxed);
                expires.store(count.expires as u64, Relaxed);
            }
        }
        if core::mem::take(&mut tally.changed)
            && let Ok(mut rare) = self.rare.lock()
        {
            rare.failures.clone_from(&tally.failures);
            rare.rejections.clone_from(&tally.rejections);
            rare.errors.clone_from(&tally.errors);
        }
    }

    /// Takes over the calls of each row; called less often, since there are hundreds of rows.
    pub fn publish_calls(&self, tally: &Tally) {
        for ((calls, ticks), row) in self.calls.iter().zip(&tally.rows) {
            calls.store(row.calls, Relaxed);
            ticks.store(row.ticks, Relaxed);
        }
    }

    /// Takes over the histograms of each row, for somebody who has asked.
    pub fn publish_histograms(&self, tally: &Tally) {
        if let Ok(mut histograms) = self.histograms.lock() {
            histograms.clear();
            histograms.extend(tally.rows.iter().map(|row| row.histogram.clone()));
        }
    }

    /// Adds this core's histogram of a row to `sum`.
    pub fn add_histogram(&self, row: usize, sum: &mut Histogram) {
        if let Ok(histograms) = self.histograms.lock()
            && let Some(histogram) = histograms.get(row)
        {
            sum.add(histogram);
        }
    }

    /// Adds this core's calls of a row to `count`.
    pub fn add_row(&self, row: usize, count: &mut RowCount) {
        if let Some((calls, ticks)) = self.calls.get(row) {
            count.calls += calls.load(Relaxed);
            count.ticks += ticks.load(Relaxed);
        }
        if let Ok(rare) = self.rare.lock() {
            count.failures += rare.failures.get(row).copied().unwrap_or(0);
            count.rejections += rare.rejections.get(row).copied().unwrap_or(0);
        }
    }

    /// Adds this core's refusals by code.
    pub fn add_errors(&self, errors: &mut HashMap<String, u64>) {
        if let Ok(rare) = self.rare.lock() {
            for (code, count) in &rare.errors {
                *errors.entry(code.clone()).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Tally};

    #[test]
    fn calls_are_timed_from_their_first_byte_to_their_last() {
        let mut tally = Tally::new(3);
        tally.end_turn(0, 1_000_000);
        (0..5).for_each(|_| tally.called_and_answered(0, 7));
        // One of them waits for what is before it; another had begun long before this turn.
        tally.not_yet_answered(0);
        tally.called(1, 7);
        tally.answered(Call::new(1, 400_000));
        tally.answered(Call::NONE);
        // Part of a transaction: nothing is received or sent for it.
        tally.nested = true;
        tally.called(2, 7000);
        tally.nested = false;
        tally.end_turn(1_200_000, 2_000_000);
        tally.answered(Call::new(0, 1_000_000));
        tally.end_turn(2_300_000, 3_000_000);
        let told = |row: usize| {
            let histogram = &tally.rows[row].histogram;
            (
                histogram.calls(),
                histogram.percentile(0.0),
                histogram.percentile(100.0),
            )
        };
        let near = |(calls, least, most): (u64, u64, u64), expected: (u64, u64, u64)| {
            calls == expected.0
                && (least as f64 / expected.1 as f64 - 1.0).abs() < 0.04
                && (most as f64 / expected.2 as f64 - 1.0).abs() < 0.04
        };
        assert!(near(told(0), (5, 200_000, 1_300_000)), "{:?}", told(0));
        assert!(near(told(1), (1, 800_000, 800_000)), "{:?}", told(1));
        assert!(near(told(2), (1, 7000, 7000)), "{:?}", told(2));
        assert_eq!((tally.rows[0].calls, tally.rows[0].ticks), (5, 35));
    }

    #[test]
    fn a_call_is_one_word() {
        for (row, received, sent) in [
            (0, 0, 1),
            (511, u64::MAX - 5, 10),
            (7, 1 << 60, (1 << 60) + 99),
        ] {
            let call = Call::new(row, received);
            assert_eq!(call.row(), row);
            assert_eq!(call.took(sent), sent.wrapping_sub(received));
        }
    }
}
