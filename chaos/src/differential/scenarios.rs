//! Scenes that no single row can write: transactions, WATCH with a second writer, connections
//! that change their protocol, fall silent or end.

use std::collections::VecDeque;
use std::rc::Rc;

use super::catalogue::{Catalogue, Op, Place};
use super::generate::{Step, anywhere};
use super::rule::Rule;
use super::values::{self, Pool};
use crate::rng::Rng;

/// How often a queued request is a blocking command, which does not wait inside MULTI.
const BLOCKING_IN_MULTI_PERCENT: usize = 12;

/// Requests between MULTI and EXEC.
const QUEUED_MAX: usize = 7;
/// Requests on a connection of its own.
const SCRATCH_OPS: (usize, usize) = (12, 36);
/// Commands whose reply depends on requests before it in the batch.
const UNFIT_IN_MULTI: [&str; 4] = ["EXEC", "DISCARD", "UNWATCH", "MULTI"];

/// SELECT of a database.
pub(super) fn select(catalogue: &Catalogue, db: &[u8]) -> Op {
    catalogue.fixed(&[b"SELECT", db], &[], &["SELECT"], Rule::Exact)
}

fn exact(catalogue: &Catalogue, words: &[&[u8]], count_as: &[&'static str]) -> Rc<Op> {
    Rc::new(catalogue.fixed(words, &[], count_as, Rule::Exact))
}

/// MULTI to EXEC or DISCARD: mostly good, sometimes aborted by an error while queueing.
pub(super) fn transaction(catalogue: &Catalogue, rng: &mut Rng) -> Vec<Rc<Op>> {
    let mut ops = vec![exact(catalogue, &[b"MULTI"], &["MULTI"])];
    if rng.percent(25) {
        let spoilt = exact(catalogue, &[b"GET"], &["EXEC aborted"]);
        let unknown = exact(catalogue, &[b"nosuch", b"x"], &["EXEC aborted"]);
        ops.push(if rng.percent(50) { spoilt } else { unknown });
    }
    if rng.percent(12) {
        ops.push(exact(
            catalogue,
            &[b"WATCH", b"k"],
            &["WATCH", "WATCH in MULTI"],
        ));
    }
    if rng.percent(12) {
        ops.push(exact(catalogue, &[b"MULTI"], &["MULTI", "MULTI nested"]));
    }
    let queued = queue(catalogue, rng);
    // While queueing, the reply is QUEUED whatever the rule of the request is.
    ops.extend(queued.iter().map(|op| Rc::new(as_queued(op))));
    if rng.percent(20) {
        ops.push(exact(catalogue, &[b"DISCARD"], &["DISCARD"]));
    } else {
        ops.push(exec(catalogue, queued));
    }
    ops
}

fn queue(catalogue: &Catalogue, rng: &mut Rng) -> Vec<Rc<Op>> {
    let mut queued: Vec<Rc<Op>> = Vec::new();
    for _ in 0..rng.below(QUEUED_MAX + 1) {
        let blocking = rng
            .percent(BLOCKING_IN_MULTI_PERCENT)
            .then(|| catalogue.draw(Place::Transaction, rng))
            .flatten();
        match blocking {
            Some(unit) => queued.extend(unit.expand(rng).into_iter().map(Rc::new)),
            None => queued.extend(anywhere(catalogue, rng)),
        }
    }
    let fit = |op: &Rc<Op>| !UNFIT_IN_MULTI.contains(&op.name.as_str()) && !newer_form(op);
    queued.retain(fit);
    queued
}

/// Wrong until 7.0 and right since 7.2, or the reverse: EXEC would run on one side only, where an
/// allow-list cannot follow.
fn newer_form(op: &Op) -> bool {
    match op.name.as_str() {
        "ZRANK" | "ZREVRANK" => op.words.len() == 4,
        "COMMAND GETKEYS" | "COMMAND GETKEYSANDFLAGS" => op.words.len() == 3,
        _ => false,
    }
}

fn as_queued(op: &Op) -> Op {
    Op {
        name: op.name.clone(),
        words: op.words.clone(),
        keys: op.keys.clone(),
        marks: op.marks.clone(),
        rule: op.rule,
        queued: Vec::new(),
    }
}

fn exec(catalogue: &Catalogue, queued: Vec<Rc<Op>>) -> Rc<Op> {
    let mut op = catalogue.fixed(&[b"EXEC"], &[], &["EXEC"], Rule::Exec);
    op.queued = queued;
    Rc::new(op)
}

/// One connection watches, another perhaps writes, the first one executes.
pub(super) fn watch(catalogue: &Catalogue, rng: &mut Rng, connections: usize) -> VecDeque<Step> {
    let first = rng.below(connections);
    let second = (first + 1) % connections;
    let db = rng.text(&["0", "1", "9"]);
    let pool = [Pool::Str, Pool::List, Pool::Hash, Pool::Any];
    let pool = rng.pick(&pool).copied().unwrap_or(Pool::Any);
    let (watched, other) = (values::key(pool, rng), values::key(Pool::Any, rng));

    let mut begin = vec![Rc::new(select(catalogue, &db))];
    begin.push(Rc::new(catalogue.fixed(
        &[b"WATCH", &watched, &other],
        &[1, 2],
        &["WATCH"],
        Rule::Exact,
    )));
    let meddle = meddle(catalogue, rng, &db, &watched);
    let mut end = Vec::new();
    if rng.percent(20) {
        end.push(exact(catalogue, &[b"UNWATCH"], &["UNWATCH"]));
    }
    end.extend(transaction(catalogue, rng));
    VecDeque::from([
        Step::Batch {
            connection: first,
            ops: begin,
        },
        Step::Batch {
            connection: second,
            ops: meddle,
        },
        Step::Batch {
            connection: first,
            ops: end,
        },
    ])
}

/// What the second connection does: it changes the watched key, or just looks as if.
fn meddle(catalogue: &Catalogue, rng: &mut Rng, db: &[u8], key: &[u8]) -> Vec<Rc<Op>> {
    // Sometimes in another database, where the key is another one.
    let elsewhere = rng.percent(15);
    let mut ops = vec![Rc::new(select(
        catalogue,
        if elsewhere { b"1" } else { db },
    ))];
    let mut add = |words: &[&[u8]], key_at: &[usize]| {
        ops.push(Rc::new(catalogue.fixed(
            words,
            key_at,
            &["WATCH dirty"],
            Rule::Exact,
        )));
    };
    match rng.below(12) {
        0 => add(&[b"SET", key, b"1"], &[1]),
        1 => add(&[b"DEL", key], &[1]),
        2 => add(&[b"EXPIREAT", key, b"4000000000"], &[1]),
        3 => add(&[b"TOUCH", key], &[1]),
        4 => add(&[b"GET", key], &[1]),
        5 => add(&[b"RENAME", key, b"nowhere:0"], &[1, 2]),
        6 => add(&[b"LPUSH", key, b"m1"], &[1]),
        7 => add(&[b"HSET", key, b"f1", b"1"], &[1]),
        8 => add(&[b"PERSIST", key], &[1]),
        9 => add(&[b"SWAPDB", b"0", b"1"], &[]),
        10 => add(&[b"SREM", key, b"nosuchmember"], &[1]),
        _ => {}
    }
    ops
}

/// Requests on a connection of its own.
pub(super) fn scratch(catalogue: &Catalogue, rng: &mut Rng) -> Step {
    let mut ops: Vec<(Rc<Op>, bool)> = Vec::new();
    let count = SCRATCH_OPS.0 + rng.below(SCRATCH_OPS.1 - SCRATCH_OPS.0);
    while ops.len() < count {
        // A user that may not fall silent would be answered.
        let first = if catalogue.has_group("acl") { 2 } else { 0 };
        match first + rng.below(30 - first) {
            0 => {
                ops.push((
                    exact(
                        catalogue,
                        &[b"CLIENT", b"REPLY", b"SKIP"],
                        &["CLIENT REPLY SKIP"],
                    ),
                    false,
                ));
                silent(catalogue, rng, &mut ops);
            }
            1 => {
                ops.push((
                    exact(
                        catalogue,
                        &[b"CLIENT", b"REPLY", b"OFF"],
                        &["CLIENT REPLY OFF"],
                    ),
                    false,
                ));
                for _ in 0..rng.below(3) {
                    silent(catalogue, rng, &mut ops);
                }
                ops.push((
                    exact(
                        catalogue,
                        &[b"CLIENT", b"REPLY", b"ON"],
                        &["CLIENT REPLY ON"],
                    ),
                    true,
                ));
            }
            2 => ops.push((
                exact(
                    catalogue,
                    &[b"CLIENT", b"REPLY", b"ON"],
                    &["CLIENT REPLY ON"],
                ),
                true,
            )),
            3 if catalogue.has_group("transactions") => {
                ops.extend(transaction(catalogue, rng).into_iter().map(|op| (op, true)));
                // RESET leaves a transaction.
                ops.push((exact(catalogue, &[b"MULTI"], &["MULTI"]), true));
                ops.push((exact(catalogue, &[b"RESET"], &["RESET"]), true));
            }
            _ => {
                let unit = catalogue.draw(Place::Scratch, rng);
                let drawn = unit.map(|unit| unit.expand(rng)).unwrap_or_default();
                ops.extend(drawn.into_iter().map(|op| (Rc::new(op), true)));
            }
        }
    }
    let closes = rng.percent(50);
    if closes {
        ops.push((exact(catalogue, &[b"QUIT"], &["QUIT"]), true));
    }
    Step::Scratch { ops, closes }
}

/// A request whose reply is not sent.
fn silent(catalogue: &Catalogue, rng: &mut Rng, ops: &mut Vec<(Rc<Op>, bool)>) {
    let word = values::key(Pool::Str, rng);
    ops.push((exact(catalogue, &[b"ECHO", &word], &[]), false));
}
