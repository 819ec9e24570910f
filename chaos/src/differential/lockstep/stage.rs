//! Plays the cues of a scene to both servers and compares what came of each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::answer::Answer;

use super::heard::{Heard, unnumbered};
use super::{Cue, Scene};
use crate::client::{Client, ClientError};
use crate::differential::catalogue::Op;
use crate::differential::compare::{Batch, Mismatch};
use crate::differential::dump::Pair;
use crate::differential::few::{self, PEER};
use crate::differential::rule::Rule;
use crate::text;

/// Databases that scenes use.
const DATABASES: [&str; 2] = ["11", "12"];
/// How long the oracle may take to come to rest.
const ORACLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer the subject may take to come to the same.
const SUBJECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Looks at the subject without a pause in between, and the pause between later ones.
const EAGER_LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_micros(500);
/// What was said that is shown beside a difference.
const SHOWN_MAX: usize = 40;
/// What is read of every key at the end: all that fits its type, and the errors of all that does not.
const READS: [&str; 8] = [
    "TYPE",
    "GET",
    "LRANGE 0 -1",
    "ZRANGE 0 -1 WITHSCORES",
    "XRANGE - +",
    "SCARD",
    "HLEN",
    "EXISTS",
];

/// The connections of a scene to one server.
struct Troupe {
    actors: Vec<Client>,
    /// Their client numbers.
    numbers: Vec<i64>,
    heard: Vec<Heard>,
    /// Who waits.
    waits: Vec<bool>,
    control: Client,
}

/// A scene that is being played.
pub(crate) struct Stage<'s> {
    scene: &'s Scene,
    subject: Troupe,
    oracle: Troupe,
    /// The last request of each connection.
    last: Vec<Option<Rc<Op>>>,
    /// Who is gone.
    gone: Vec<bool>,
    /// What was said so far.
    said: Vec<String>,
    /// Messages and invalidated keys that the oracle's connections have heard of.
    pub(crate) told: u64,
}

impl Troupe {
    fn connect(endpoint: &str, scene: &Scene) -> Result<Troupe, ClientError> {
        let mut control = Client::connect(endpoint)?;
        for db in DATABASES {
            control.say(&format!("SELECT {db}"))?;
            control.say("FLUSHDB")?;
        }
        let mut troupe = Troupe {
            actors: Vec::new(),
            numbers: Vec::new(),
            heard: scene
                .speaks_three
                .iter()
                .map(|_| Heard::default())
                .collect(),
            waits: scene.speaks_three.iter().map(|_| false).collect(),
            control,
        };
        for speaks_three in &scene.speaks_three {
            let mut actor = Client::connect(endpoint)?;
            let number = match actor.say("CLIENT ID")? {
                Answer::Int(number) => number,
                _ => 0,
            };
            if *speaks_three {
                actor.say("HELLO 3")?;
            }
            actor.say("SELECT 11")?;
            troupe.numbers.push(number);
            troupe.actors.push(actor);
        }
        Ok(troupe)
    }

    /// Sends requests; a connection that is closed is found out when it is read.
    fn send(&mut self, actor: usize, ops: &[Rc<Op>]) {
        let with_number = |word: &Vec<u8>| match word.strip_prefix(PEER) {
            Some(place) => {
                let place = std::str::from_utf8(place).ok().and_then(|n| n.parse().ok());
                let place: usize = place.unwrap_or_default();
                let number = self.numbers.get(place % self.numbers.len().max(1));
                number.map(i64::to_string).unwrap_or_default().into_bytes()
            }
            None => word.clone(),
        };
        let requests: Vec<Vec<Vec<u8>>> = ops
            .iter()
            .map(|op| op.words.iter().map(with_number).collect())
            .collect();
        if let Some(client) = self.actors.get_mut(actor) {
            let _ = client.send(requests.iter().map(Vec::as_slice));
        }
    }

    /// Takes in what has arrived.
    fn listen(&mut self) -> Result<(), ClientError> {
        for (client, heard) in self.actors.iter_mut().zip(&mut self.heard) {
            while !heard.is_closed {
                match client.arrived() {
                    Ok(Some(frame)) => heard.take(frame, &self.numbers),
                    Ok(None) => break,
                    Err(ClientError::Closed) => heard.is_closed = true,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Asks on a connection of its own who waits: behind that stands all that came of earlier requests.
    fn look(&mut self) -> Result<(), ClientError> {
        self.listen()?;
        let list = match self.control.say("CLIENT LIST")? {
            Answer::Bulk(text) | Answer::Verbatim { text, .. } => text,
            _ => Vec::new(),
        };
        let list = String::from_utf8_lossy(&list).into_owned();
        for (number, waits) in self.numbers.iter().zip(&mut self.waits) {
            let id = format!("id={number} ");
            let line = list.lines().find(|line| line.starts_with(&id));
            let field = |line: &str| -> bool {
                let mut fields = line.split(' ');
                let flags = fields.find_map(|field| field.strip_prefix("flags="));
                flags.is_some_and(|flags| flags.contains('b'))
            };
            *waits = line.is_some_and(field);
        }
        self.listen()
    }

    /// Whether any of the connections is still there.
    fn is_listed(&mut self) -> Result<bool, ClientError> {
        let list = match self.control.say("CLIENT LIST")? {
            Answer::Bulk(text) | Answer::Verbatim { text, .. } => text,
            _ => Vec::new(),
        };
        let list = String::from_utf8_lossy(&list).into_owned();
        let listed = |number: &i64| {
            let id = format!("id={number} ");
            list.lines().any(|line| line.starts_with(&id))
        };
        Ok(self.numbers.iter().any(listed))
    }
}

impl<'s> Stage<'s> {
    /// Connects to both servers.
    pub(crate) fn begin(
        (subject, oracle): (&str, &str),
        scene: &'s Scene,
    ) -> Result<Stage<'s>, ClientError> {
        Ok(Stage {
            scene,
            subject: Troupe::connect(subject, scene)?,
            oracle: Troupe::connect(oracle, scene)?,
            last: scene.speaks_three.iter().map(|_| None).collect(),
            gone: scene.speaks_three.iter().map(|_| false).collect(),
            said: Vec::new(),
            told: 0,
        })
    }

    /// Plays one cue; what differs after it.
    pub(crate) fn play(&mut self, cue: &Cue) -> Result<Vec<Mismatch>, ClientError> {
        let actor = cue.actor;
        let waits = self.oracle.waits.get(actor).copied().unwrap_or_default();
        let gone = self.gone.get(actor).copied().unwrap_or(true);
        // What two clients have sent behind their waits may run in either order, once both are served by one request.
        if gone || cue.ops.is_empty() || (waits && (cue.brief || actor > 0)) {
            return Ok(Vec::new());
        }
        for troupe in [&mut self.subject, &mut self.oracle] {
            for (heard, gone) in troupe.heard.iter_mut().zip(&self.gone) {
                *heard = Heard {
                    is_closed: *gone,
                    ..Heard::default()
                };
            }
            troupe.send(actor, &cue.ops);
        }
        let shown = cue.ops.iter().map(|op| text::request_line(&op.words));
        let shown = shown
            .collect::<Vec<_>>()
            .join(" ; ")
            .replace('\u{1}', "\\x01");
        self.said.push(format!("      connection {actor}: {shown}"));
        if let (Some(last), Some(op)) = (self.last.get_mut(actor), cue.ops.last()) {
            *last = Some(Rc::clone(op));
        }
        self.rest(cue)?;
        let mismatches = self.compare(cue);
        for (gone, heard) in self.gone.iter_mut().zip(&self.oracle.heard) {
            *gone |= heard.is_closed;
            let (_, messages, invalid, _) = heard.measure();
            self.told += (messages + invalid.len()) as u64;
        }
        Ok(mismatches)
    }

    /// Waits until the oracle has done what it was told, and until the subject shows the same, if it ever does.
    fn rest(&mut self, cue: &Cue) -> Result<(), ClientError> {
        let begin = Instant::now();
        loop {
            self.oracle.look()?;
            let heard = self.oracle.heard.get(cue.actor);
            let has_heard = heard.is_some_and(|heard| {
                let (replies, messages, invalid, is_closed) = heard.measure();
                replies + messages + invalid.len() > 0 || is_closed
            });
            let waits = self.oracle.waits.get(cue.actor).copied();
            let waits = waits.unwrap_or_default();
            let is_done = if cue.brief {
                has_heard && !waits
            } else {
                has_heard || waits
            };
            if is_done {
                break;
            }
            if begin.elapsed() > ORACLE_TIMEOUT {
                return Err(ClientError::Hung);
            }
            std::thread::sleep(PAUSE);
        }
        self.oracle.look()?;
        let begin = Instant::now();
        let mut looks = 0;
        loop {
            self.subject.look()?;
            if self.is_same() || begin.elapsed() > SUBJECT_TIMEOUT {
                return Ok(());
            }
            looks += 1;
            if looks > EAGER_LOOKS {
                std::thread::sleep(PAUSE);
                self.oracle.look()?;
            }
        }
    }

    /// Whether both have told every connection equally much, and the same ones wait.
    fn is_same(&self) -> bool {
        let mut pairs = self.subject.heard.iter().zip(&self.oracle.heard);
        pairs.all(|(ours, theirs)| ours.measure() == theirs.measure())
            && self.subject.waits == self.oracle.waits
    }

    fn compare(&mut self, cue: &Cue) -> Vec<Mismatch> {
        // Keys of one write may change in any order, but for those of one request and of one transaction.
        let is_loose = cue.ops.len() > 1 && cue.ops.first().is_some_and(|op| op.name != "MULTI");
        for heard in self.subject.heard.iter_mut().chain(&mut self.oracle.heard) {
            heard.sort_left();
            if is_loose {
                heard.sort_events();
            }
        }
        let places = 0..self.scene.speaks_three.len();
        places
            .flat_map(|place| self.compare_one(cue, place))
            .collect()
    }

    /// What differs for one connection.
    fn compare_one(&self, cue: &Cue, place: usize) -> Vec<Mismatch> {
        let (Some(ours), Some(theirs), Some(op)) = (
            self.subject.heard.get(place),
            self.oracle.heard.get(place),
            self.last.get(place),
        ) else {
            return Vec::new();
        };
        let op = op.as_ref().or(cue.ops.last());
        let mut found = self.compare_replies(cue, place, (ours, theirs));
        let mut add = |subject: Answer, oracle: Answer, why| {
            if subject != oracle
                && let Some(op) = op
            {
                found.push(self.mismatch(op, (subject, oracle), why));
            }
        };
        add(ours.asides(), theirs.asides(), "messages");
        let is = |yes| Answer::Simple(if yes { b"yes".to_vec() } else { b"no".to_vec() });
        add(is(ours.is_closed), is(theirs.is_closed), "closed");
        let waits = |troupe: &Troupe| is(troupe.waits.get(place).copied().unwrap_or_default());
        add(waits(&self.subject), waits(&self.oracle), "waits");
        found
    }

    fn mismatch(
        &self,
        op: &Rc<Op>,
        (subject, oracle): (Answer, Answer),
        why: &'static str,
    ) -> Mismatch {
        let named = Op {
            name: format!("{}: {}", self.scene.group, op.name),
            words: op.words.clone(),
            keys: op.keys.clone(),
            marks: Vec::new(),
            rule: Rule::Exact,
            queued: Vec::new(),
        };
        Mismatch {
            op: Rc::new(named),
            subject,
            oracle,
            why,
        }
    }

    fn compare_replies(
        &self,
        cue: &Cue,
        place: usize,
        (ours, theirs): (&Heard, &Heard),
    ) -> Vec<Mismatch> {
        let fallback = cue.ops.last();
        let op = self.last.get(place).and_then(Option::as_ref).or(fallback);
        let Some(op) = op else { return Vec::new() };
        let (ours, theirs) = (&ours.replies, &theirs.replies);
        if ours.len() != theirs.len() {
            let both = (Answer::Array(ours.clone()), Answer::Array(theirs.clone()));
            return vec![self.mismatch(op, both, "replies")];
        }
        if place == cue.actor && theirs.len() == cue.ops.len() {
            let numbered = |troupe: &Troupe, replies: &[Answer]| -> Vec<Answer> {
                let pairs = replies.iter().zip(&cue.ops);
                pairs
                    .map(|(reply, op)| {
                        if op.name.starts_with("CLIENT") {
                            unnumbered(reply.clone(), &troupe.numbers)
                        } else {
                            reply.clone()
                        }
                    })
                    .collect()
            };
            let (subject, oracle) = (
                numbered(&self.subject, ours),
                numbered(&self.oracle, theirs),
            );
            let batch = Batch {
                ops: &cue.ops,
                subject: &subject,
                oracle: &oracle,
                slack_ms: 1000,
            };
            return (0..cue.ops.len())
                .flat_map(|at| batch.compare(at))
                .collect();
        }
        let pairs = ours.iter().zip(theirs);
        pairs
            .filter(|(ours, theirs)| ours != theirs)
            .map(|(ours, theirs)| self.mismatch(op, (ours.clone(), theirs.clone()), "reply"))
            .collect()
    }

    /// The last things said, to be shown.
    pub(crate) fn lines(&self) -> Vec<String> {
        let from = self.said.len().saturating_sub(SHOWN_MAX);
        self.said.get(from..).unwrap_or_default().to_vec()
    }

    /// All connections end; what differs in the keys then.
    pub(crate) fn end(self) -> Result<Vec<Mismatch>, ClientError> {
        let Stage {
            mut subject,
            mut oracle,
            ..
        } = self;
        for troupe in [&mut subject, &mut oracle] {
            troupe.actors.clear();
            let begin = Instant::now();
            while troupe.is_listed()? && begin.elapsed() < SUBJECT_TIMEOUT {
                std::thread::sleep(PAUSE);
            }
        }
        let mut pair = Pair {
            subject: &mut subject.control,
            oracle: &mut oracle.control,
            slack_ms: 1000,
        };
        let mut mismatches = Vec::new();
        for db in DATABASES {
            let mut ops = vec![read(&format!("SELECT {db}"), None)];
            for key in few::keys() {
                ops.extend(READS.map(|line| read(line, Some(&key))));
            }
            mismatches.extend(pair.ask(&ops)?.mismatches);
        }
        Ok(mismatches)
    }
}

/// A request that reads a key: the key stands behind the command.
fn read(line: &str, key: Option<&str>) -> Rc<Op> {
    let mut words: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
    if let Some(key) = key {
        words.insert(1, key.into());
    }
    Rc::new(Op {
        name: "scene: content".to_owned(),
        words,
        keys: key.map(|_| 1).into_iter().collect(),
        marks: Vec::new(),
        rule: Rule::Exact,
        queued: Vec::new(),
    })
}
