//! Clients that play against the simulated node, each by its own rules, and the books in which they note what they saw.
//!
//! ```text
//!   act() ──> requests with tags ──> the wire ──> answers, in order ──> heard(tag, answer)
//!                                                 messages ──────────> pushed(answer)
//!                                    a broken connection ────────────> lost(tags)
//! ```
//! A player says what must hold as soon as it can ([`Facts::fault`]), the rest is judged at the end, when all books are closed.

pub(crate) mod channels;
pub(crate) mod deadlines;
pub(crate) mod keys;
pub(crate) mod queues;
pub(crate) mod rewrites;
pub(crate) mod sums;

use protocol::answer::Answer;

use crate::rng::Rng;
use crate::sim::Plant;
use crate::sim::world::Stop;

/// Faults that are told of one run.
const FAULTS_MAX: usize = 10;

/// What a player wants to know when the answer comes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tag {
    /// It must be this.
    Exactly(Answer),
    /// Calls on keys: one answer each, or the one of all of them.
    Calls(Vec<usize>),
    /// As `Calls`, in an array.
    Each(Vec<usize>),
    /// The end of a transaction of calls; they ran only if it is an array.
    Exec(Vec<usize>),
    /// A pop that waits: what it gets is the call's answer.
    Waits(usize),
    /// What the player knows by a number.
    Own(u64),
    /// It has none: what comes of it is a message.
    Nothing,
}

impl Tag {
    /// `+OK`
    pub(crate) fn ok() -> Tag {
        Tag::Exactly(Answer::Simple(b"OK".to_vec()))
    }

    /// `+QUEUED`
    pub(crate) fn queued() -> Tag {
        Tag::Exactly(Answer::Simple(b"QUEUED".to_vec()))
    }
}

/// A request and what is wanted of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The words.
    pub(crate) words: Vec<Vec<u8>>,
    /// See [`Tag`].
    pub(crate) tag: Tag,
}

impl Request {
    /// Of words that are texts.
    pub(crate) fn new(words: &[&str], tag: Tag) -> Request {
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        Request { words, tag }
    }

    /// Of words apart by blanks.
    pub(crate) fn line(line: &str, tag: Tag) -> Request {
        let words: Vec<&str> = line.split(' ').collect();
        Request::new(&words, tag)
    }
}

/// What all players share: time, numbers that are used once, and the books.
pub(crate) struct Facts {
    /// Steps of the world: the order of all that happens.
    pub(crate) step: u64,
    /// Wall clock, unix ms.
    pub(crate) wall_ms: u64,
    /// Monotonic clock, us.
    pub(crate) mono_us: u64,
    /// Jumps of the wall clock: when, and from where to where, unix ms.
    pub(crate) jumps: Vec<(u64, u64, u64)>,
    /// How long what was answered may take until it outlives a crash, us; 0 with `always`.
    pub(crate) lag_us: u64,
    /// A crash has taken back what was answered: what is not judged by its history is not judged.
    pub(crate) forgetful: bool,
    /// The disk fails at times: writes may be refused.
    pub(crate) disk_fails: bool,
    /// The step at which the node has ended last.
    pub(crate) stopped_at: u64,
    /// No more requests are to be begun.
    pub(crate) closing: bool,
    /// The planted fault, for players that must play it.
    pub(crate) plant: Option<Plant>,
    /// Calls on single keys.
    pub(crate) keys: keys::Book,
    /// Transfers.
    pub(crate) sums: sums::Book,
    /// Items of queues.
    pub(crate) queues: queues::Book,
    /// Messages.
    pub(crate) channels: channels::Book,
    /// The answer to the world's own question.
    pub(crate) asked: Option<Answer>,
    next: u64,
    faults: Vec<String>,
}

impl Facts {
    /// Empty books.
    pub(crate) fn new(plant: Option<Plant>) -> Facts {
        Facts {
            step: 0,
            wall_ms: 0,
            mono_us: 0,
            jumps: Vec::new(),
            lag_us: 0,
            forgetful: false,
            disk_fails: false,
            stopped_at: 0,
            closing: false,
            plant,
            keys: keys::Book::default(),
            sums: sums::Book::default(),
            queues: queues::Book::default(),
            channels: channels::Book::default(),
            asked: None,
            next: 0,
            faults: Vec::new(),
        }
    }

    /// The earliest and the latest reading of the wall clock since a step at which it was `from_ms`.
    pub(crate) fn wall_since(&self, step: u64, from_ms: u64) -> (u64, u64) {
        let jumps = self.jumps.iter().filter(|(at, ..)| *at >= step);
        let ends = jumps.flat_map(|(_, from, to)| [*from, *to]);
        ends.chain([self.wall_ms])
            .fold((from_ms, from_ms), |(low, high), ms| {
                (low.min(ms), high.max(ms))
            })
    }

    /// A number that was never given before.
    pub(crate) fn unique(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Something that must not be.
    pub(crate) fn fault(&mut self, what: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what);
        }
    }

    /// What was found so far.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Takes an answer to where its tag says; gives back what only its player understands.
    pub(crate) fn take(&mut self, tag: Tag, answer: Answer) -> Option<(u64, Answer)> {
        let at = (self.step, self.mono_us);
        match tag {
            Tag::Exactly(wanted) if wanted == answer => {}
            Tag::Exactly(wanted) => {
                self.fault(format!(
                    "a reply out of order, or wrong: {answer:?} instead of {wanted:?}"
                ));
            }
            Tag::Calls(calls) => calls
                .iter()
                .for_each(|call| self.keys.end(*call, Some(answer.clone()), at)),
            Tag::Each(calls) | Tag::Exec(calls) => match answer {
                Answer::Array(answers) if answers.len() == calls.len() => {
                    for (call, answer) in calls.iter().zip(answers) {
                        self.keys.end(*call, Some(answer), at);
                    }
                }
                Answer::Null | Answer::NullArray => {
                    calls.iter().for_each(|call| self.keys.never_ran(*call));
                }
                other => self.fault(format!(
                    "an array of {} answers was due: {other:?}",
                    calls.len()
                )),
            },
            Tag::Waits(call) => match answer {
                Answer::Array(pair) if pair.len() == 2 => {
                    self.keys.end(call, pair.into_iter().nth(1), at);
                }
                Answer::Null | Answer::NullArray => self.keys.never_ran(call),
                other => self.fault(format!("a pop that waits got {other:?}")),
            },
            Tag::Own(number) => return Some((number, answer)),
            Tag::Nothing => {}
        }
        None
    }

    /// Whether an answer says that the disk fails: then nothing has been done.
    pub(crate) fn is_refusal(&self, answer: &Answer) -> bool {
        let Answer::Error(text) = answer else {
            return false;
        };
        let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
        self.disk_fails && (has(b"MISCONF") || has(b"EXECABORT"))
    }

    /// What a refusal says of the calls of a tag.
    pub(crate) fn refused(&mut self, tag: &Tag) -> Option<u64> {
        match tag {
            Tag::Calls(calls) | Tag::Each(calls) | Tag::Exec(calls) => {
                calls.iter().for_each(|call| self.keys.never_ran(*call));
            }
            Tag::Waits(call) => self.keys.never_ran(*call),
            Tag::Own(number) => return Some(*number),
            Tag::Exactly(_) | Tag::Nothing => {}
        }
        None
    }

    /// The node has ended.
    pub(crate) fn stopped(&mut self, stop: Stop) {
        self.stopped_at = self.step;
        self.keys.end_open(self.step);
        if self.disk_fails && self.lag_us == 0 {
            // Reads go on while the disk fails: what they have shown may be lost with it, what was answered to writes is not.
            self.keys.crash(self.step + 1, u64::MAX);
        } else if stop == Stop::Crash && self.lag_us > 0 {
            let from_us = self.mono_us.saturating_sub(self.lag_us);
            self.keys.crash(self.step + 1, from_us);
            self.queues.forgetful = true;
            self.forgetful = true;
        }
    }

    /// Of what was answered before the node has ended a last part may be gone, however old it is.
    pub(crate) fn lose_a_part(&mut self) {
        self.keys.crash(self.stopped_at + 1, 0);
        self.queues.forgetful = true;
        self.forgetful = true;
    }

    /// The answer to this will never come; `crashed`: since the node that was asked is no more.
    pub(crate) fn lose(&mut self, tag: &Tag, crashed: bool) -> Option<u64> {
        match tag {
            Tag::Calls(calls) | Tag::Each(calls) | Tag::Exec(calls) => {
                let end = crashed.then_some(self.step);
                calls.iter().for_each(|call| self.keys.lose(*call, end));
            }
            Tag::Waits(call) => self.keys.lose(*call, crashed.then_some(self.step)),
            Tag::Own(number) => return Some(*number),
            Tag::Exactly(_) | Tag::Nothing => {}
        }
        None
    }
}

/// One that does nothing by itself: the world asks by it.
pub(crate) struct Asker;

impl Player for Asker {
    fn name(&self) -> &'static str {
        "the world"
    }

    fn act(&mut self, _facts: &mut Facts, _rng: &mut Rng) -> Vec<Request> {
        Vec::new()
    }

    fn heard(&mut self, _number: u64, answer: Answer, facts: &mut Facts) {
        facts.asked = Some(answer);
    }

    fn lost(&mut self, _own: &[u64], _crashed: bool, _facts: &mut Facts) {}
}

/// One client's rules.
pub(crate) trait Player {
    /// Its kind, for the trace.
    fn name(&self) -> &'static str;

    /// Requests to be sent at once; nothing while it waits for something. Asked when no answer is outstanding, and at once
    /// after it has connected.
    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request>;

    /// The answer to a request of its own kind ([`Tag::Own`]).
    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts);

    /// Something that is not the answer to a request.
    fn pushed(&mut self, answer: Answer, facts: &mut Facts) {
        facts.fault(format!("an answer to nothing: {answer:?}"));
    }

    /// Whether an answer is a message and no reply.
    fn is_message(&self, _answer: &Answer) -> bool {
        false
    }

    /// The connection is gone, and with it the answers to its own requests with these numbers.
    fn lost(&mut self, own: &[u64], crashed: bool, facts: &mut Facts);

    /// Whether it waits for something that may never come, so that its silence is no fault.
    fn may_wait(&self) -> bool {
        false
    }

    /// The queues for which it waits without end.
    fn waits_for(&self) -> Option<&'static str> {
        None
    }
}
