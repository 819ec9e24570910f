//! Plays steps against both servers and judges the replies.
//!
//! After a difference the rest of a batch that touches the same keys is not judged: it only shows
//! the same bug again. Then all connections are made anew and all data is compared; keys that
//! differ are deleted on both sides, so that one bug does not hide others.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::answer::Answer;

use super::allow::AllowList;
use super::catalogue::Op;
use super::compare::{Batch, Mismatch};
use super::coverage::Coverage;
use super::difference::{Findings, History, Moment};
use super::dump::Pair;
use super::few;
use super::generate::Step;
use super::lockstep::{Scene, Stage};
use super::rule::Rule;
use crate::client::{Client, ClientError};

/// Which protocols the connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// RESP2 only.
    Two,
    /// RESP3 only.
    Three,
    /// Every second connection RESP3.
    Both,
}

/// Pages of one scan.
const PAGES_MAX: usize = 20_000;
/// Keys that are deleted one by one; if more differ, everything is.
const DELETED_MAX: usize = 200;
/// How long a server may take to close a connection after QUIT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One server and the connections to it.
#[derive(Debug)]
struct Side {
    endpoint: String,
    connections: Vec<Client>,
    control: Client,
}

impl Side {
    fn connect(endpoint: &str, count: usize, protocols: Protocols) -> Result<Self, ClientError> {
        let mut connections = Vec::new();
        for index in 0..count {
            let mut client = Client::connect(endpoint)?;
            if speaks_three(index, protocols) {
                client.say("HELLO 3")?;
            }
            connections.push(client);
        }
        Ok(Self {
            endpoint: endpoint.to_owned(),
            connections,
            control: Client::connect(endpoint)?,
        })
    }
}

fn speaks_three(index: usize, protocols: Protocols) -> bool {
    match protocols {
        Protocols::Two => false,
        Protocols::Three => true,
        Protocols::Both => index % 2 == 1,
    }
}

/// Both servers and the verdicts so far.
#[derive(Debug)]
pub(super) struct Player {
    subject: Side,
    oracle: Side,
    protocols: Protocols,
    pub(super) coverage: Coverage,
    pub(super) findings: Findings,
    pub(super) allow: AllowList,
    history: History,
    /// Requests played.
    pub(super) ops: u64,
    /// Replies of the oracle, and how many were errors.
    pub(super) replies: u64,
    pub(super) errors: u64,
    /// Keys looked at in comparisons of all data.
    pub(super) keys_compared: usize,
    /// Messages and invalidated keys that connections in lock step have heard of.
    pub(super) told: u64,
    /// The longest time between sending a batch and having all replies: two servers may have run
    /// one request that far apart.
    slack: Duration,
    /// Scratch connections made.
    scratches: usize,
}

impl Player {
    /// Connects to both.
    pub(super) fn connect(
        (subject, oracle): (&str, &str),
        connections: usize,
        protocols: Protocols,
        (coverage, findings, allow): (Coverage, Findings, AllowList),
    ) -> Result<Self, ClientError> {
        Ok(Self {
            subject: Side::connect(subject, connections, protocols)?,
            oracle: Side::connect(oracle, connections, protocols)?,
            protocols,
            coverage,
            findings,
            allow,
            history: History::default(),
            ops: 0,
            replies: 0,
            errors: 0,
            keys_compared: 0,
            told: 0,
            slack: Duration::ZERO,
            scratches: 0,
        })
    }

    /// Plays one step.
    pub(super) fn play(&mut self, step: &Step) -> Result<(), ClientError> {
        let begin = Instant::now();
        let clean = match step {
            Step::Batch { connection, ops } => self.batch(*connection, ops)?,
            Step::Scan {
                connection,
                op,
                cursor_at,
            } => self.scan(*connection, op, *cursor_at)?,
            Step::Scratch { ops, closes } => self.scratch(ops, *closes)?,
            Step::Scene(scene) => self.scene(scene)?,
        };
        self.slack = self.slack.max(begin.elapsed());
        if let Verdict::Dirty(keys) = clean {
            self.reconnect()?;
            self.settle(&keys)?;
        }
        Ok(())
    }

    fn slack_ms(&self) -> i64 {
        i64::try_from(self.slack.as_millis()).unwrap_or(i64::MAX / 2)
    }

    fn batch(&mut self, connection: usize, ops: &[Rc<Op>]) -> Result<Verdict, ClientError> {
        let label = connection_label(connection, speaks_three(connection, self.protocols));
        let (Some(ours), Some(theirs)) = (
            self.subject.connections.get_mut(connection),
            self.oracle.connections.get_mut(connection),
        ) else {
            return Ok(Verdict::Clean);
        };
        let begin = Instant::now();
        let ours_sent = ours.send(ops.iter().map(|op| op.words.as_slice()));
        theirs.send(ops.iter().map(|op| op.words.as_slice()))?;
        let (subject, lost) = match ours_sent {
            Ok(()) => ours.receive_all(ops.len()),
            Err(error) => (Vec::new(), Some(error)),
        };
        let (oracle, broken) = theirs.receive_all(ops.len());
        self.slack = self.slack.max(begin.elapsed());
        if let Some(error) = broken {
            return Err(error);
        }
        Ok(self.judge(&label, ops, &subject, &oracle, lost))
    }

    /// Compares the replies of a batch; `lost` says why the subject's ended early.
    fn judge(
        &mut self,
        label: &str,
        ops: &[Rc<Op>],
        subject: &[Answer],
        oracle: &[Answer],
        lost: Option<ClientError>,
    ) -> Verdict {
        let batch = Batch {
            ops,
            subject,
            oracle,
            slack_ms: self.slack_ms(),
        };
        let mut tainted: HashSet<Vec<u8>> = HashSet::new();
        let mut dirty = false;
        for (at, op) in ops.iter().enumerate() {
            self.ops += 1;
            let Some(theirs) = oracle.get(at) else { break };
            self.replies += 1;
            self.errors += u64::from(theirs.is_error());
            self.coverage.count(&op.marks, theirs.is_error());
            let moment = Moment {
                op: self.ops,
                connection: label,
            };
            self.history.note(moment, op);
            if at >= subject.len() {
                continue;
            }
            let follows =
                dirty && (op.keys.is_empty() || op.key_words().any(|key| tainted.contains(key)));
            if follows {
                tainted.extend(touched(op));
                continue;
            }
            for mismatch in batch.compare(at) {
                if self.allow.allows(&mismatch) {
                    if mismatch.subject.is_error() != mismatch.oracle.is_error() {
                        // One has executed what the other has refused: allowed, and their data differ from here on.
                        dirty = true;
                        tainted.extend(touched(op));
                    }
                    continue;
                }
                dirty = true;
                tainted.extend(touched(op));
                let before = || self.history.of(mismatch.op.key_words());
                self.findings.add(moment, &mismatch, before);
            }
            if is_half_done(op, theirs) {
                dirty = true;
                tainted.extend(touched(op));
            }
        }
        if let (Some(error), Some(op), Some(theirs)) =
            (lost, ops.get(subject.len()), oracle.get(subject.len()))
        {
            let moment = Moment {
                op: self.ops - (ops.len() - subject.len() - 1) as u64,
                connection: label,
            };
            let ours = Answer::Error(format!("no reply: {error}").into_bytes());
            let mismatch = Mismatch {
                op: Rc::clone(op),
                subject: ours,
                oracle: theirs.clone(),
                why: "connection lost",
            };
            let before = || self.history.of(mismatch.op.key_words());
            self.findings.add(moment, &mismatch, before);
            dirty = true;
            tainted.extend(ops.iter().skip(subject.len()).flat_map(touched));
        }
        if dirty {
            Verdict::Dirty(tainted)
        } else {
            Verdict::Clean
        }
    }

    /// Runs an iteration to its end on both sides and compares all that it returned.
    fn scan(
        &mut self,
        connection: usize,
        op: &Rc<Op>,
        cursor_at: usize,
    ) -> Result<Verdict, ClientError> {
        let label = connection_label(connection, speaks_three(connection, self.protocols));
        let width = if matches!(op.name.as_str(), "HSCAN" | "ZSCAN") {
            2
        } else {
            1
        };
        let (Some(ours), Some(theirs)) = (
            self.subject.connections.get_mut(connection),
            self.oracle.connections.get_mut(connection),
        ) else {
            return Ok(Verdict::Clean);
        };
        let oracle = scan_all(theirs, op, cursor_at, width)?;
        let (subject, lost) = match scan_all(ours, op, cursor_at, width) {
            Ok(answer) => (vec![answer], None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let ops = [Rc::new(Op {
            rule: Rule::Exact,
            words: op.words.clone(),
            keys: op.keys.clone(),
            marks: op.marks.clone(),
            name: op.name.clone(),
            queued: Vec::new(),
        })];
        Ok(self.judge(&label, &ops, &subject, &[oracle], lost))
    }

    /// A new connection on each side, ended afterwards.
    fn scratch(&mut self, ops: &[(Rc<Op>, bool)], closes: bool) -> Result<Verdict, ClientError> {
        self.scratches += 1;
        let label = format!("connection of its own {}", self.scratches);
        let mut ours = Client::connect(&self.subject.endpoint)?;
        let mut theirs = Client::connect(&self.oracle.endpoint)?;
        let mut tainted = HashSet::new();
        let (mut clean, mut in_step) = (true, true);
        for part in parts(ops) {
            let replied: Vec<_> = part
                .iter()
                .filter(|(_, replies)| *replies)
                .map(|(op, _)| Rc::clone(op))
                .collect();
            for (op, _) in part.iter().filter(|(_, replies)| !*replies) {
                self.ops += 1;
                self.coverage.count(&op.marks, false);
            }
            let sent = ours.send(part.iter().map(|(op, _)| op.words.as_slice()));
            theirs.send(part.iter().map(|(op, _)| op.words.as_slice()))?;
            let (oracle, broken) = theirs.receive_all(replied.len());
            if let Some(error) = broken {
                return Err(error);
            }
            let (subject, lost) = match sent {
                Ok(()) => ours.receive_all(replied.len()),
                Err(error) => (Vec::new(), Some(error)),
            };
            in_step = lost.is_none();
            if let Verdict::Dirty(keys) = self.judge(&label, &replied, &subject, &oracle, lost) {
                clean = false;
                tainted.extend(keys);
            }
            if !in_step {
                break;
            }
        }
        let open =
            closes && in_step && theirs.is_closed(CLOSE_TIMEOUT) && !ours.is_closed(CLOSE_TIMEOUT);
        if open && let Some((op, _)) = ops.last() {
            clean = false;
            let mismatch = Mismatch {
                op: Rc::clone(op),
                subject: Answer::Simple(b"stays open".to_vec()),
                oracle: Answer::Simple(b"closes".to_vec()),
                why: "connection",
            };
            let moment = Moment {
                op: self.ops,
                connection: &label,
            };
            let before = || self.history.of(mismatch.op.key_words());
            self.findings.add(moment, &mismatch, before);
        }
        Ok(if clean {
            Verdict::Clean
        } else {
            Verdict::Dirty(tainted)
        })
    }

    /// Connections in lock step. After a difference the rest of the scene would only show it again.
    fn scene(&mut self, scene: &Scene) -> Result<Verdict, ClientError> {
        let ends = (
            self.subject.endpoint.as_str(),
            self.oracle.endpoint.as_str(),
        );
        let mut stage = Stage::begin(ends, scene)?;
        let mut clean = true;
        for cue in &scene.cues {
            let mismatches = stage.play(cue)?;
            self.ops += cue.ops.len() as u64;
            self.replies += cue.ops.len() as u64;
            cue.ops
                .iter()
                .for_each(|op| self.coverage.count(&op.marks, false));
            clean = self.judge_scene(scene, &mismatches, || stage.lines());
            if !clean {
                break;
            }
        }
        self.told += stage.told;
        let lines = stage.lines();
        let mismatches = stage.end()?;
        if clean {
            clean = self.judge_scene(scene, &mismatches, || lines);
        }
        Ok(if clean {
            Verdict::Clean
        } else {
            Verdict::Dirty(few::keys().map(String::into_bytes).collect())
        })
    }

    /// Whether all that differs in a scene is allowed.
    fn judge_scene(
        &mut self,
        scene: &Scene,
        mismatches: &[Mismatch],
        lines: impl FnOnce() -> Vec<String>,
    ) -> bool {
        let label = format!("a scene in lock step ({})", scene.group);
        let moment = Moment {
            op: self.ops,
            connection: &label,
        };
        let bad = mismatches
            .iter()
            .find(|mismatch| !self.allow.allows(mismatch));
        if let Some(mismatch) = bad {
            self.findings.add(moment, mismatch, lines);
        }
        bad.is_none()
    }

    fn reconnect(&mut self) -> Result<(), ClientError> {
        let count = self.oracle.connections.len();
        self.subject = Side::connect(&self.subject.endpoint, count, self.protocols)?;
        self.oracle = Side::connect(&self.oracle.endpoint, count, self.protocols)?;
        self.pair().default_config()
    }

    fn pair(&mut self) -> Pair<'_> {
        let slack_ms = self.slack_ms();
        Pair {
            subject: &mut self.subject.control,
            oracle: &mut self.oracle.control,
            slack_ms,
        }
    }

    /// Compares all data, reports what is not explained by `known` keys, and makes both equal.
    pub(super) fn settle(&mut self, known: &HashSet<Vec<u8>>) -> Result<(), ClientError> {
        let found = self.pair().compare_all()?;
        self.keys_compared += found.keys;
        let mut places = BTreeSet::new();
        let mut sizes_differ = false;
        for (db, mismatch) in &found.mismatches {
            if self.allow.allows(mismatch) {
                continue;
            }
            places.extend(mismatch.op.key_words().map(|key| (*db, key.to_vec())));
            // A size alone: differing keys explain it, unless there are none.
            if mismatch.op.keys.is_empty() {
                sizes_differ |= found.places.is_empty();
                if !found.places.is_empty() || !known.is_empty() {
                    continue;
                }
            }
            if !mismatch.op.key_words().any(|key| known.contains(key)) {
                let label = format!("comparison of all data, database {db}");
                self.findings.add(
                    Moment {
                        op: self.ops,
                        connection: &label,
                    },
                    mismatch,
                    || self.history.of(mismatch.op.key_words()),
                );
            }
        }
        if places.len() > DELETED_MAX || sizes_differ {
            self.pair().flush()?;
        } else if !places.is_empty() {
            self.pair().delete(&places)?;
        }
        Ok(())
    }

    /// Makes both sides empty, with the thresholds that Redis begins with.
    pub(super) fn begin(&mut self) -> Result<(), ClientError> {
        let mut pair = self.pair();
        pair.flush()?;
        pair.default_config()
    }
}

/// What a step left behind.
enum Verdict {
    /// Both sides are in the same state.
    Clean,
    /// They may differ, at least in these keys.
    Dirty(HashSet<Vec<u8>>),
}

/// Cuts before every AUTH and HELLO: Redis 7.2 sends no WRONGPASS while earlier replies of the
/// pipeline are still to be sent, so they are only asked when nothing else is on its way.
fn parts<T>(ops: &[(Rc<Op>, T)]) -> Vec<&[(Rc<Op>, T)]> {
    let authenticates = |op: &Op| matches!(op.name.as_str(), "AUTH" | "HELLO");
    ops.chunk_by(|_, (next, _)| !authenticates(next)).collect()
}

/// Whether the oracle keeps a part of what it has refused: the elements of PFADD that came before the one whose register a
/// broken sketch has not. The subject keeps nothing, so the key is another one on each side.
fn is_half_done(op: &Op, oracle: &Answer) -> bool {
    let broken =
        |answer: &Answer| matches!(answer, Answer::Error(text) if text.starts_with(b"INVALIDOBJ"));
    match oracle {
        Answer::Array(replies) if op.rule == Rule::Exec => {
            let mut inside = op.queued.iter().zip(replies);
            inside.any(|(op, reply)| is_half_done(op, reply))
        }
        reply => op.name == "PFADD" && broken(reply),
    }
}

/// Keys of a request, and of what EXEC runs.
fn touched(op: &Rc<Op>) -> Vec<Vec<u8>> {
    let own = op.key_words();
    own.chain(op.queued.iter().flat_map(|op| op.key_words()))
        .map(<[u8]>::to_vec)
        .collect()
}

fn connection_label(connection: usize, three: bool) -> String {
    format!(
        "connection {connection} (RESP{})",
        if three { 3 } else { 2 }
    )
}

/// All pages: an error as it is, else the distinct items in order.
fn scan_all(
    client: &mut Client,
    op: &Op,
    cursor_at: usize,
    width: usize,
) -> Result<Answer, ClientError> {
    let mut words = op.words.clone();
    let mut items: BTreeMap<Vec<String>, Answer> = BTreeMap::new();
    for _ in 0..PAGES_MAX {
        client.send([words.as_slice()])?;
        let page = client.receive()?;
        let Answer::Array(parts) = &page else {
            return Ok(page);
        };
        let [Answer::Bulk(cursor), Answer::Array(found)] = parts.as_slice() else {
            return Ok(page);
        };
        for item in found.chunks(width) {
            let text = item.iter().map(crate::text::answer_line).collect();
            items.insert(text, Answer::Array(item.to_vec()));
        }
        if cursor == b"0" {
            return Ok(Answer::Array(items.into_values().collect()));
        }
        if let Some(word) = words.get_mut(cursor_at) {
            word.clone_from(cursor);
        }
    }
    Ok(Answer::Error(b"no end after many pages".to_vec()))
}
