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
    histogram: Histogram,
}

/// What a core counts while it runs.
pub struct Tally {
    rows: Vec<Timed>,
    /// Whether histograms are kept (`latency-tracking`).
    pub tracking: bool,
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
}

impl Tally {
    /// All zero, for so many rows.
    pub fn new(rows: usize) -> Tally {
        Tally {
            rows: vec![Timed::default(); rows],
            tracking: true,
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
        }
    }

    /// A command has been run, in so many ticks.
    #[inline(always)]
    pub fn called(&mut self, row: usize, ticks: u64) {
        self.commands += 1;
        if let Some(timed) = self.rows.get_mut(row) {
            timed.calls += 1;
            timed.ticks += ticks;
            if !timed.histogram.count(ticks) && self.tracking {
                timed.histogram.count_rarely(ticks);
            }
        }
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

    /// Forgets everything (CONFIG RESETSTAT).
    pub fn reset(&mut self) {
        *self = Tally {
            changed: true,
            tracking: self.tracking,
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
    /// Mutations.
    changes,
    /// Bytes of data.
    used_bytes,
    /// Elements of removed values freed in slices.
    freed_lazily,
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
                &self.freed_lazily,
                shard.freed_lazily().saturating_sub(tally.freed_before),
            ),
        ];
        pairs
            .into_iter()
            .for_each(|(to, value)| to.store(value, Relaxed));
        if self.changes.load(Relaxed) != shard.changes() || shard.has_garbage() {
            self.changes.store(shard.changes(), Relaxed);
            self.used_bytes.store(shard.used_bytes() as u64, Relaxed);
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
