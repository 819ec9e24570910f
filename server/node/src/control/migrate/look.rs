//! Looks at keys here, for verification: asked from a thread beside the cores, answered by the core that has the key, between two turns.
//!
//! ```text
//! verify.rs ── Mail::Look(question, a way back) ──> core: digests, or which elements of a piece differ ──> answer
//! ```
//! A look is no access and counts nothing. It is bounded: small values whole, large ones by the piece that the source has told. When a slot
//! is in a transaction's hands the answer is [`Answer::Away`], and the asker tries again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use migration::compare::{self, Piece, Seen};
use runtime::CoreId;
use storage::{Key, Shard, Slot, shared_digest};

use crate::core::Core;
use crate::mail::Mail;
use crate::node::{Node, Tries};
use crate::source::scan::Desk;
use crate::source::{Line, Share};

/// Bytes of a value that a core looks at as a whole.
pub const WHOLE_BYTES_MAX: usize = 64 << 10;
/// Keys of one look.
pub const KEYS_MAX: usize = 32;
/// Slots that one look for names goes through.
const SLOTS_MAX: usize = 64;
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The pause before a look that met a slot that was away is tried again.
const AGAIN: Duration = Duration::from_millis(1);
/// A look is put into a mailbox as soon as there is room.
const POST_TRIES: Tries = Tries {
    every: Duration::from_millis(1),
    most: 10_000,
    even_stopping: false,
};

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// What is known of keys of a database.
    Keys(u8, Vec<Vec<u8>>),
    /// Which elements of a piece a key has otherwise.
    Piece(u8, Vec<u8>, Piece),
    /// Some names of a database, from this cursor on.
    Names(u8, u64, usize),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of each key: what is known of it.
    Keys(Vec<Option<Seen>>),
    /// Places in the piece, and how many elements the key has here.
    Differing(Vec<usize>, u64),
    /// Names, and where more are; None at the end.
    Names(Vec<Vec<u8>>, Option<u64>),
    /// A slot is away for a moment.
    Away,
}

/// A question on its way.
pub struct Look {
    question: Question,
    answer: Sender<Answer>,
}

impl Look {
    /// Answers, at the core that it was sent to.
    pub fn run(self, core: &Core) {
        let is_free = |slot: Slot| core.is_free(slot);
        let end = core.node.range(core.id).end;
        let answer = answer(&core.shard, &self.question, is_free, end);
        // (Who asked may have given up.)
        let _ = self.answer.send(answer);
    }
}

/// The answer of a shard that has all slots before `end` that a cursor may come to.
pub fn answer(
    shard: &Shard,
    question: &Question,
    is_free: impl Fn(Slot) -> bool,
    end: usize,
) -> Answer {
    match question {
        Question::Keys(db, keys) => {
            let keys = keys.iter().map(|key| Key::new(*db, key));
            let seen = keys.map(|key| is_free(key.slot).then(|| seen(shard, &key)));
            seen.collect::<Option<_>>()
                .map_or(Answer::Away, Answer::Keys)
        }
        Question::Piece(db, key, piece) => {
            let key = Key::new(*db, key);
            if !is_free(key.slot) {
                return Answer::Away;
            }
            let value = shard.peek(&key);
            let len = value.map_or(0, compare::len_of);
            Answer::Differing(compare::differing(value, piece), len)
        }
        Question::Names(db, cursor, count) => {
            let first = Shard::cursor_slot(*cursor).index();
            let last = (first + SLOTS_MAX).min(end);
            if !(first..last).all(|slot| is_free(Slot(slot as u16))) {
                return Answer::Away;
            }
            let mut names = Vec::new();
            let next = shard.scan(*db, *cursor, last, *count, |key, _| {
                names.push(key.to_vec())
            });
            let next = next.or_else(|| (last < end).then(|| Shard::cursor_at(Slot(last as u16))));
            Answer::Names(names, next)
        }
    }
}

fn seen(shard: &Shard, key: &Key<'_>) -> Option<Seen> {
    let info = shard.info(key)?;
    let value = shard
        .peek(key)
        .filter(|_| info.heap_bytes <= WHOLE_BYTES_MAX);
    Some(Seen {
        kind: info.type_name.to_owned(),
        digest: value.map(|value| shared_digest(value).0),
        deadline_ms: info.deadline_ms,
    })
}

/// A node's keys, as verification asks for them.
pub trait Here {
    /// Whether a key is to be compared.
    fn compares(&self, _key: &[u8]) -> bool {
        true
    }
    /// The source's offset up to which everything has been executed here; of a source that is followed by scan, the last mark that is reached.
    fn applied(&self) -> u64;
    /// Of a source that is followed by scan: a mark behind all that it has been told until now, and behind all that this key is there.
    fn ask_mark(&self, _db: u64, _key: &[u8]) -> Option<u64> {
        None
    }
    /// Of such a one: the key is fetched again, by a session of its own. False where that is the source's to do.
    fn fetches(&self, _db: u64, _key: &[u8]) -> bool {
        false
    }
    /// Databases.
    fn databases(&self) -> u8;
    /// Parts that are asked for names one by one, with the cursor that each begins at.
    fn begins(&self) -> Vec<u64>;
    /// Asks; keys of several cores are put together.
    ///
    /// # Errors
    /// When the node does not answer in time: it is about to end.
    fn look(&self, question: Question) -> Result<Answer, String>;
}

impl Here for &'static Node {
    fn applied(&self) -> u64 {
        let scanned = self.source.scanned();
        scanned.map_or(self.source.applied(), Desk::reached)
    }

    fn ask_mark(&self, db: u64, key: &[u8]) -> Option<u64> {
        let key = u8::try_from(db).ok().map(|db| (db, key));
        self.source.scanned().map(|desk| desk.ask(key))
    }

    fn fetches(&self, db: u64, key: &[u8]) -> bool {
        let Some(desk) = self.source.scanned() else {
            return false;
        };
        if let Ok(db) = u8::try_from(db) {
            desk.fetch(db, key);
        }
        true
    }

    fn databases(&self) -> u8 {
        self.config().databases as u8
    }

    fn begins(&self) -> Vec<u64> {
        let cores = (0..self.cores() as u16).map(CoreId);
        cores
            .map(|core| Shard::cursor_at(Slot(self.range(core).start as u16)))
            .collect()
    }

    fn look(&self, question: Question) -> Result<Answer, String> {
        match question {
            Question::Keys(db, keys) => self.look_at_keys(db, &keys),
            Question::Piece(_, ref key, _) => self.ask_until(Slot::of(key), &question),
            Question::Names(_, cursor, _) => self.ask_until(Shard::cursor_slot(cursor), &question),
        }
    }
}

/// The keys here that are one of several sources'.
pub struct OfLine {
    /// The node.
    pub node: &'static Node,
    /// How far its stream is executed here.
    pub line: Arc<Line>,
    /// Its keys. Where it cannot be told by a key's name whose it is, none is asked for by that.
    pub share: Share,
}

impl Here for OfLine {
    fn compares(&self, key: &[u8]) -> bool {
        self.share.is_told() && self.share.has(key)
    }

    fn applied(&self) -> u64 {
        self.line.applied()
    }

    fn databases(&self) -> u8 {
        self.node.databases()
    }

    fn begins(&self) -> Vec<u64> {
        match self.share.is_told() {
            true => self.node.begins(),
            false => Vec::new(),
        }
    }

    fn look(&self, question: Question) -> Result<Answer, String> {
        match self.node.look(question)? {
            Answer::Names(mut names, next) => {
                names.retain(|name| self.compares(name));
                Ok(Answer::Names(names, next))
            }
            other => Ok(other),
        }
    }
}

const SILENT: &str = "a core does not answer";

impl Node {
    fn ask(&self, slot: Slot, question: Question) -> Result<Receiver<Answer>, String> {
        let (answer, way) = channel();
        let mail = Mail::Look(Box::new(Look { question, answer }));
        match self.post(self.owner(slot), mail, POST_TRIES) {
            true => Ok(way),
            false => Err(SILENT.to_owned()),
        }
    }

    fn ask_until(&self, slot: Slot, question: &Question) -> Result<Answer, String> {
        let until = Instant::now() + ANSWER_MAX;
        loop {
            let way = self.ask(slot, question.clone())?;
            match way.recv_timeout(ANSWER_MAX) {
                Ok(Answer::Away) if Instant::now() < until => std::thread::sleep(AGAIN),
                Ok(answer) => return Ok(answer),
                Err(_) => return Err(SILENT.to_owned()),
            }
        }
    }

    fn look_at_keys(&self, db: u8, keys: &[Vec<u8>]) -> Result<Answer, String> {
        let mut of_cores: Vec<Vec<usize>> = vec![Vec::new(); self.cores()];
        for (at, key) in keys.iter().enumerate() {
            of_cores[self.owner(Slot::of(key)).index()].push(at);
        }
        let mut found = vec![None; keys.len()];
        for places in of_cores.iter().flat_map(|places| places.chunks(KEYS_MAX)) {
            let asked: Vec<Vec<u8>> = places.iter().map(|at| keys[*at].clone()).collect();
            let slot = asked.first().map_or(Slot(0), |key| Slot::of(key));
            match self.ask_until(slot, &Question::Keys(db, asked))? {
                Answer::Keys(seen) => {
                    for (at, seen) in places.iter().zip(seen) {
                        found[*at] = seen;
                    }
                }
                _ => return Ok(Answer::Away),
            }
        }
        Ok(Answer::Keys(found))
    }
}
