//! A simulated client: a player at the far end of a socket that the world carries bytes to and from.

use std::collections::VecDeque;

use protocol::answer::{Answer, AnswerParser};

use super::Plant;
use super::players::{Facts, Player, Request, Tag};
use crate::rng::Rng;
use crate::sim::trace::{Trace, show, show_text};

/// Where a client's connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// It is to connect, not before this (monotonic us).
    Down(u64),
    /// It has knocked, or is connected, as this socket.
    Up(u64),
}

/// See the module's head.
pub(crate) struct Client {
    /// Its number, for the trace.
    pub(crate) number: usize,
    pub(crate) link: Link,
    pub(crate) player: Box<dyn Player>,
    /// Bytes on their way to the server.
    pub(crate) out: VecDeque<u8>,
    /// It does nothing before this.
    pub(crate) rests_until_us: u64,
    /// It reads nothing before this.
    pub(crate) reads_from_us: u64,
    parser: AnswerParser,
    input: Vec<u8>,
    pending: VecDeque<Tag>,
}

impl Client {
    /// One that is to connect.
    pub(crate) fn new(number: usize, player: Box<dyn Player>) -> Client {
        Client {
            number,
            link: Link::Down(0),
            player,
            out: VecDeque::new(),
            rests_until_us: 0,
            reads_from_us: 0,
            parser: AnswerParser::default(),
            input: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    /// Whether answers are outstanding.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether its silence is a fault.
    pub(crate) fn is_stuck(&self) -> bool {
        (self.is_waiting() || !self.out.is_empty()) && !self.player.may_wait()
    }

    /// Asks the player for more.
    pub(crate) fn act(&mut self, facts: &mut Facts, rng: &mut Rng, trace: &mut Trace) {
        let requests = self.player.act(facts, rng);
        self.send(requests, facts, trace);
    }

    /// Sends requests.
    pub(crate) fn send(&mut self, requests: Vec<Request>, facts: &Facts, trace: &mut Trace) {
        let mut bytes = Vec::new();
        for mut request in requests {
            if facts.plant == Some(Plant::WatchIgnored) && request.words[0] == b"WATCH" {
                // The same number of bytes, another key: nobody watches it.
                request
                    .words
                    .iter_mut()
                    .skip(1)
                    .for_each(|key| key[0] = b'!');
            }
            protocol::request::encode(&request.words, &mut bytes);
            trace.note(
                facts.mono_us,
                format_args!("client {} > {}", self.number, show(&request.words)),
            );
            if request.tag != Tag::Nothing {
                self.pending.push_back(request.tag);
            }
        }
        self.out.extend(bytes);
    }

    /// Bytes have come.
    pub(crate) fn receive(&mut self, bytes: &[u8], facts: &mut Facts, trace: &mut Trace) {
        self.input.extend_from_slice(bytes);
        let mut taken = 0;
        loop {
            let rest = self.input.get(taken..).unwrap_or_default();
            match self.parser.parse(rest) {
                Ok(Some((answer, len))) => {
                    let text = rest.get(..len).unwrap_or_default();
                    trace.note(
                        facts.mono_us,
                        format_args!("client {} < {}", self.number, show_text(text)),
                    );
                    taken += len;
                    self.hear(answer, facts);
                }
                Ok(None) => break,
                Err(error) => {
                    facts.fault(format!("client {}: no reply: {error}", self.number));
                    break;
                }
            }
        }
        self.input.drain(..taken);
    }

    fn hear(&mut self, answer: Answer, facts: &mut Facts) {
        if self.player.is_message(&answer) {
            return self.player.pushed(answer, facts);
        }
        let Some(tag) = self.pending.pop_front() else {
            return self.player.pushed(answer, facts);
        };
        if facts.is_refusal(&answer) {
            if let Some(number) = facts.refused(&tag) {
                self.player.lost(&[number], false, facts);
            }
            return;
        }
        if let Some((number, answer)) = facts.take(tag, answer) {
            self.player.heard(number, answer, facts);
        }
    }

    /// The connection is gone; it will make another one.
    pub(crate) fn lose(&mut self, crashed: bool, again_us: u64, facts: &mut Facts) {
        let tags: Vec<Tag> = self.pending.drain(..).collect();
        let own: Vec<u64> = tags
            .iter()
            .filter_map(|tag| facts.lose(tag, crashed))
            .collect();
        self.player.lost(&own, crashed, facts);
        self.parser = AnswerParser::default();
        self.input.clear();
        self.out.clear();
        self.link = Link::Down(again_us);
    }
}
