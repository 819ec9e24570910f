//! A pass over several sources: each with the keys that it has; of servers sharded by hand, each key here is at exactly one of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use migration::compare::{Difference, Findings, Kind, Name};
use protocol::answer::Answer;

use super::super::link::{Wire, refused};
use super::super::look::{self, Here, OfLine, Question};
use super::super::parts::Sharded;
use super::pieces::{array_of, failed, int_of};
use super::{KEYS_MAX, STREAM_MAX, TRIES_MAX, Verifier, end_pass, words};
use crate::node::Node;
use crate::source::{Line, Share};
use crate::start::unix_ms;

/// The rest between two looks at a key, and at how far a stream is.
const REST: Duration = Duration::from_millis(5);

/// What a pass needs.
pub(in super::super) struct Wanted<'a> {
    /// This node.
    pub node: &'static Node,
    /// The sources.
    pub shards: &'a [Sharded],
    /// What is known so far.
    pub findings: &'a Mutex<Findings>,
    /// It is to end.
    pub stops: &'a dyn Fn() -> bool,
    /// What differs is fetched again.
    pub mends: bool,
}

/// Compares everything once, with a connection to each source. False when it was to end before.
///
/// # Errors
/// When one does not answer, or its stream does not come on.
pub(in super::super) fn pass(
    wanted: &Wanted<'_>,
    open: impl Fn(&Sharded) -> Result<Wire, String>,
) -> Result<bool, String> {
    let is_by_hand = wanted
        .shards
        .iter()
        .any(|shard| shard.share() == Share::Hand);
    if is_by_hand {
        // Whose a listed key is cannot be told: what still differs is found again.
        let listed: Vec<Name> = findings(wanted)
            .listed()
            .map(|(name, _)| name.clone())
            .collect();
        listed.iter().for_each(|name| findings(wanted).settle(name));
    }
    let mut unsettled = 0;
    for shard in wanted.shards {
        let here = of_line(wanted.node, shard)?;
        let shared = (wanted.findings, wanted.stops);
        let mut verifier = Verifier::begin(open(shard)?, here, shared, wanted.mends)?;
        let done = verifier.walk();
        let server = &shard.server;
        if !done.map_err(|why| format!("{}:{}: {why}", server.host, server.port))? {
            return Ok(false);
        }
        unsettled += verifier.unsettled;
    }
    if is_by_hand {
        let wires = wanted.shards.iter().map(|shard| {
            let line = of_line(wanted.node, shard)?.line;
            Ok((open(shard)?, line, 0))
        });
        let mut owners = Owners {
            wanted,
            wires: wires.collect::<Result<_, String>>()?,
        };
        if !owners.walk()? {
            return Ok(false);
        }
    }
    Ok(end_pass(&mut findings(wanted), unsettled, wanted.stops))
}

fn findings<'a>(wanted: &Wanted<'a>) -> std::sync::MutexGuard<'a, Findings> {
    let findings = wanted.findings.lock();
    findings.unwrap_or_else(PoisonError::into_inner)
}

fn of_line(node: &'static Node, shard: &Sharded) -> Result<OfLine, String> {
    let lines = node.source.lines();
    let line = lines.get(usize::from(shard.number));
    Ok(OfLine {
        node,
        line: Arc::clone(line.ok_or("a shard is not followed")?),
        share: shard.share(),
    })
}

/// How many servers have each of some keys.
struct Owners<'a> {
    wanted: &'a Wanted<'a>,
    /// By server: a connection, the line, and the database that is selected.
    wires: Vec<(Wire, Arc<Line>, u8)>,
}

impl Owners<'_> {
    /// Every key here. False when it is to end.
    fn walk(&mut self) -> Result<bool, String> {
        let node = self.wanted.node;
        for db in 0..node.databases() {
            for begin in node.begins() {
                let mut cursor = Some(begin);
                while let Some(from) = cursor {
                    let question = Question::Names(db, from, KEYS_MAX);
                    let look::Answer::Names(names, next) = node.look(question)? else {
                        return Err("a core does not let go of its slots".to_owned());
                    };
                    cursor = next;
                    for (name, count) in names.iter().zip(self.counts(db, &names)?) {
                        if count != 1 {
                            self.look_again(db, name)?;
                        }
                    }
                    if (self.wanted.stops)() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn counts(&mut self, db: u8, names: &[Vec<u8>]) -> Result<Vec<i64>, String> {
        let mut counts = vec![0; names.len()];
        let requests: Vec<_> = names.iter().map(|name| words(&[b"EXISTS", name])).collect();
        for (wire, _, selected) in &mut self.wires {
            if *selected != db {
                let select = wire.call(&["SELECT", &db.to_string()]);
                select.and_then(refused).map_err(failed)?;
                *selected = db;
            }
            for (count, answer) in counts
                .iter_mut()
                .zip(wire.call_all(&requests).map_err(failed)?)
            {
                *count += int_of(&refused(answer).map_err(failed)?).unwrap_or(0);
            }
        }
        Ok(counts)
    }

    /// A key that is not at one server: whether it is still so when the streams have come as far as all of them were then.
    fn look_again(&mut self, db: u8, name: &[u8]) -> Result<(), String> {
        let names = [name.to_vec()];
        for _ in 0..TRIES_MAX {
            let count = self.counts(db, &names)?.first().copied().unwrap_or(0);
            let kind = match count {
                0 => Kind::Extra,
                1 => return Ok(()),
                _ => Kind::Twice,
            };
            self.wait_for_streams()?;
            let look::Answer::Keys(seen) =
                self.wanted.node.look(Question::Keys(db, names.to_vec()))?
            else {
                return Err("a core does not let go of its slots".to_owned());
            };
            if kind == Kind::Extra && seen.first().is_none_or(Option::is_none) {
                return Ok(());
            }
            if self.counts(db, &names)?.first() == Some(&count) {
                let difference = Difference {
                    kind,
                    found_ms: unix_ms(),
                    offset: 0,
                    is_mended: false,
                };
                findings(self.wanted).add((u64::from(db), name.to_vec()), difference);
                return Ok(());
            }
            std::thread::sleep(REST);
        }
        Ok(())
    }

    fn wait_for_streams(&mut self) -> Result<(), String> {
        for (wire, line, _) in &mut self.wires {
            let role = array_of(wire.call(&["ROLE"]).and_then(refused).map_err(failed)?);
            let Some(Answer::Int(offset)) = role.get(1) else {
                return Err("a source is no primary".to_owned());
            };
            let until = std::time::Instant::now() + STREAM_MAX;
            while line.applied() < offset.unsigned_abs() {
                if (self.wanted.stops)() || std::time::Instant::now() > until {
                    return Err("the stream of a source does not come on".to_owned());
                }
                std::thread::sleep(REST);
            }
        }
        Ok(())
    }
}
