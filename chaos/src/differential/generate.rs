//! Seeded sequences of requests: which batch goes to which connection.
//!
//! The sequence depends on the seed only, never on replies, so that a run can be repeated and
//! both servers get the same. Most steps are batches of 50 to 200 requests; scenarios that need
//! several connections (scenarios.rs) are short steps in between.

use std::collections::VecDeque;
use std::rc::Rc;

use super::catalogue::{Catalogue, Op, Place};
use super::lockstep::{self, Scene};
use super::scenarios;
use crate::rng::Rng;

/// Requests of a batch.
const BATCH_OPS: (usize, usize) = (50, 200);
/// Bytes of a batch: what fits into socket buffers, so that writing never waits for reading.
const BATCH_BYTES_MAX: usize = 128 * 1024;
/// Of 1000 requests made of a row, how many are changed into probably wrong ones.
const WRONG_PERMILLE: usize = 35;
/// Of 1000 steps, how many are a scene in lock step.
const SCENE_PERMILLE: usize = 60;
/// Of 1000 other steps, how many are a scan, a scene with WATCH, a connection of its own.
const SCAN_PERMILLE: usize = 600;
const WATCH_PERMILLE: usize = 140;
const SCRATCH_PERMILLE: usize = 230;
/// Of 1000 units in a batch, how many are plain ones and how many transactions.
const PLAIN_PERMILLE: usize = 110;
const TRANSACTION_PERMILLE: usize = 16;
/// Requests of a burst of flushes.
const BURST_OPS: usize = 640;

/// What the player does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Requests in one write, on one of the lasting connections.
    Batch {
        /// Which.
        connection: usize,
        /// The requests.
        ops: Vec<Rc<Op>>,
    },
    /// An iteration to its end.
    Scan {
        /// Which connection.
        connection: usize,
        /// The first request, with cursor 0.
        op: Rc<Op>,
        /// Which word is the cursor.
        cursor_at: usize,
    },
    /// Requests on a new connection.
    Scratch {
        /// The requests, and whether each is replied to.
        ops: Vec<(Rc<Op>, bool)>,
        /// True if the server must close the connection after the last one.
        closes: bool,
    },
    /// Several connections in lock step.
    Scene(Scene),
}

impl Step {
    /// Requests in it.
    #[cfg(test)]
    fn len(&self) -> usize {
        match self {
            Self::Batch { ops, .. } => ops.len(),
            Self::Scan { .. } => 1,
            Self::Scratch { ops, .. } => ops.len(),
            Self::Scene(scene) => scene.cues.iter().map(|cue| cue.ops.len()).sum(),
        }
    }
}

/// The source of steps.
#[derive(Debug)]
pub(super) struct Generator {
    rng: Rng,
    catalogue: Rc<Catalogue>,
    connections: usize,
    pending: VecDeque<Step>,
}

impl Generator {
    /// A source for that many lasting connections.
    pub(super) fn new(seed: u64, catalogue: Rc<Catalogue>, connections: usize) -> Self {
        Self {
            rng: Rng::new(seed),
            catalogue,
            connections: connections.max(1),
            pending: VecDeque::new(),
        }
    }

    /// The next step.
    pub(super) fn next_step(&mut self) -> Step {
        loop {
            if let Some(step) = self.pending.pop_front() {
                return step;
            }
            let step = self.draw_step();
            self.pending.push_back(step);
        }
    }

    fn draw_step(&mut self) -> Step {
        let scenes_only = !self.catalogue.has_place(Place::Anywhere);
        if (self.rng.below(1000) < SCENE_PERMILLE || scenes_only)
            && let Some(scene) = lockstep::draw(&self.catalogue, &mut self.rng)
        {
            return Step::Scene(scene);
        }
        let roll = self.rng.below(1000);
        if roll < SCAN_PERMILLE && self.catalogue.has_place(Place::Scan) {
            return self.scan();
        }
        let roll = self.rng.below(1000);
        if roll < WATCH_PERMILLE && self.catalogue.has_group("transactions") {
            let mut steps = scenarios::watch(&self.catalogue, &mut self.rng, self.connections);
            if let Some(first) = steps.pop_front() {
                self.pending = steps;
                return first;
            }
        }
        if roll < WATCH_PERMILLE + SCRATCH_PERMILLE && self.catalogue.has_place(Place::Scratch) {
            return scenarios::scratch(&self.catalogue, &mut self.rng);
        }
        self.batch()
    }

    /// Flushes of all kinds, with something to flush in between; after a comparison of all data.
    pub(super) fn burst(&mut self) -> Option<Step> {
        let mut ops = Vec::new();
        while ops.len() < BURST_OPS {
            let unit = self.catalogue.draw(Place::Burst, &mut self.rng)?;
            ops.extend(unit.expand(&mut self.rng).into_iter().map(Rc::new));
        }
        let connection = self.rng.below(self.connections);
        Some(Step::Batch { connection, ops })
    }

    fn batch(&mut self) -> Step {
        let connection = self.rng.below(self.connections);
        let target = BATCH_OPS.0 + self.rng.below(BATCH_OPS.1 - BATCH_OPS.0);
        let mut ops: Vec<Rc<Op>> = Vec::with_capacity(target);
        let mut bytes = 0;
        // Two of three batches move to another database.
        if self.rng.percent(66) {
            // Database 0 gets most, so that its values grow.
            let db = self.rng.text(&["0", "0", "0", "1", "9"]);
            ops.push(Rc::new(scenarios::select(&self.catalogue, &db)));
        }
        while ops.len() < target && bytes < BATCH_BYTES_MAX {
            let unit = self.unit();
            bytes += unit
                .iter()
                .flat_map(|op| &op.words)
                .map(Vec::len)
                .sum::<usize>();
            ops.extend(unit);
        }
        Step::Batch { connection, ops }
    }

    /// Requests that belong together.
    fn unit(&mut self) -> Vec<Rc<Op>> {
        let roll = self.rng.below(1000);
        if roll < TRANSACTION_PERMILLE && self.catalogue.has_group("transactions") {
            return scenarios::transaction(&self.catalogue, &mut self.rng);
        }
        let plain =
            roll < TRANSACTION_PERMILLE + PLAIN_PERMILLE && self.catalogue.has_place(Place::Plain);
        if plain {
            let unit = self.catalogue.draw(Place::Plain, &mut self.rng);
            return unit
                .map(|unit| unit.expand(&mut self.rng))
                .unwrap_or_default()
                .into_iter()
                .map(Rc::new)
                .collect();
        }
        anywhere(&self.catalogue, &mut self.rng)
    }

    fn scan(&mut self) -> Step {
        let unit = self.catalogue.draw(Place::Scan, &mut self.rng);
        let op = unit.and_then(|unit| unit.expand(&mut self.rng).pop());
        let connection = self.rng.below(self.connections);
        match op {
            Some(op) => Step::Scan {
                connection,
                cursor_at: 1 + op.keys.len(),
                op: Rc::new(op),
            },
            None => Step::Batch {
                connection,
                ops: Vec::new(),
            },
        }
    }
}

/// A unit for any place, sometimes made wrong.
pub(super) fn anywhere(catalogue: &Catalogue, rng: &mut Rng) -> Vec<Rc<Op>> {
    let Some(unit) = catalogue.draw(Place::Anywhere, rng) else {
        return Vec::new();
    };
    let mut ops = unit.expand(rng);
    for (op, (template, _)) in ops.iter_mut().zip(&unit.requests) {
        if op.name.starts_with("COMMAND GETKEYS") {
            append_request(op, catalogue, rng);
        } else if rng.below(1000) < WRONG_PERMILLE && spoilable(op) {
            spoil(op, &template.options, template.timed, rng);
        }
    }
    ops.into_iter().map(Rc::new).collect()
}

/// TYPE follows a SET whose deadline may be past, to remove the key. A scan by a single request
/// returns a cursor, which is any number. Keys of the pool `Lex` must keep one score.
fn spoilable(op: &Op) -> bool {
    let lex = op.name == "ZADD" && op.key_words().any(|key| key.starts_with(b"x:"));
    // LATENCY HISTOGRAM without names tells of times.
    op.name != "TYPE" && !op.name.starts_with("LATENCY") && !op.name.ends_with("SCAN") && !lex
}

/// COMMAND GETKEYS is asked about a request of the catalogue, that is not run.
fn append_request(op: &mut Op, catalogue: &Catalogue, rng: &mut Rng) {
    let unit = catalogue.draw(Place::Anywhere, rng);
    let inner = unit.and_then(|unit| unit.expand(rng).pop());
    op.words
        .extend(inner.map(|inner| inner.words).unwrap_or_default());
}

/// Changes a request so that it is probably wrong. One that sets a deadline keeps its arguments,
/// since another number could be a near deadline; so does SORT, where a constant after BY would
/// leave a set unsorted.
fn spoil(op: &mut Op, options: &[String], timed: bool, rng: &mut Rng) {
    const JUNK: [&str; 6] = ["junk", "", "NX", "-", "not a number", "LIMIT"];
    let last = op.words.len().saturating_sub(1);
    match rng.below(if timed || op.name.starts_with("SORT") {
        4
    } else {
        7
    }) {
        0 if last > 0 => {
            op.words.pop();
        }
        1 => op.words.push(rng.text(&JUNK)),
        2 => {
            let option = rng.pick(options).map_or("NOSUCH", String::as_str);
            op.words.push(option.as_bytes().to_vec());
        }
        3 => {
            let unknown = rng.text(&["nosuch", "GETX", "SETS", "\r\nPING", "hgetal"]);
            if let Some(first) = op.words.first_mut() {
                *first = unknown;
            }
        }
        4 if last > 1 => {
            let at = 1 + rng.below(last);
            op.words.remove(at);
        }
        5 if last > 1 => {
            let at = 1 + rng.below(last);
            if !op.keys.contains(&at) {
                op.words[at] = rng.text(&JUNK);
            }
        }
        6 if last > 1 => op.words.swap(last, last - 1),
        _ => op.words.truncate(1),
    }
    let words = op.words.len();
    op.keys.retain(|at| *at < words);
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::GROUPS;
    use super::super::coverage::Coverage;
    use super::{Catalogue, Generator, Rc, Step};

    fn generator(seed: u64) -> Generator {
        let groups: Vec<_> = GROUPS.iter().map(|group| (*group).to_owned()).collect();
        let catalogue = Catalogue::new(&groups, false, &mut Coverage::default()).unwrap();
        Generator::new(seed, Rc::new(catalogue), 4)
    }

    fn steps(seed: u64) -> Vec<String> {
        let mut generator = generator(seed);
        (0..300)
            .map(|_| format!("{:?}", generator.next_step()))
            .collect()
    }

    #[test]
    fn same_seed_same_steps() {
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }

    #[test]
    fn every_kind_of_step_comes() {
        let mut generator = generator(9);
        let (mut batches, mut scans, mut scratches, mut scenes) = (0, 0, 0, 0);
        for _ in 0..1000 {
            match generator.next_step() {
                Step::Batch { .. } => batches += 1,
                Step::Scan { .. } => scans += 1,
                Step::Scratch { .. } => scratches += 1,
                Step::Scene(_) => scenes += 1,
            }
        }
        assert!(
            batches > 100 && scans > 100 && scratches > 30 && scenes > 30,
            "{batches} {scans} {scratches} {scenes}"
        );
        assert!(generator.burst().is_some_and(|step| step.len() > 100));
    }
}
