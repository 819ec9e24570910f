//! Messages with numbers: a subscriber hears all of a publisher, in order, from its confirmation on; and all subscribers of a
//! channel hear one order.

use std::collections::BTreeMap;

use protocol::answer::Answer;

use super::{Facts, Player, Request, Tag};
use crate::rng::Rng;

const CHANNELS: [&str; 3] = ["c0", "c1", "c2"];

/// A message: its channel, and what it says.
type Message = (Vec<u8>, Vec<u8>);

/// One publication.
#[derive(Debug)]
struct Published {
    message: Message,
    begin: u64,
    /// When its publisher heard that it was done; never if that answer was lost.
    end: Option<u64>,
}

/// What one subscription of one channel has heard.
#[derive(Debug)]
struct Heard {
    channel: Vec<u8>,
    /// When the confirmation came, and when the subscription began to end.
    from: u64,
    to: Option<u64>,
    texts: Vec<Vec<u8>>,
}

/// All messages.
#[derive(Default)]
pub(crate) struct Book {
    published: Vec<Published>,
    heard: Vec<Heard>,
}

impl Book {
    /// Messages so far.
    pub(crate) fn len(&self) -> usize {
        self.published.len()
    }

    /// What does not fit.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut found = Vec::new();
        for heard in &self.heard {
            self.judge_one(heard, &mut found);
        }
        for (at, one) in self.heard.iter().enumerate() {
            for other in self.heard.iter().skip(at + 1) {
                let common = |a: &Heard, b: &Heard| -> Vec<Vec<u8>> {
                    let both = a.texts.iter().filter(|text| b.texts.contains(text));
                    both.cloned().collect()
                };
                if one.channel == other.channel && common(one, other) != common(other, one) {
                    found.push(format!("two orders of one channel: {one:?}, {other:?}"));
                }
            }
        }
        found
    }

    fn judge_one(&self, heard: &Heard, found: &mut Vec<String>) {
        let times = |text: &Vec<u8>| heard.texts.iter().filter(|other| *other == text).count();
        for published in &self.published {
            let (channel, text) = &published.message;
            if *channel != heard.channel {
                continue;
            }
            let shown = String::from_utf8_lossy(text).into_owned();
            // What is on its way when a subscriber asks to end may come too late; but nothing is left out.
            let of_same = |other: &&Vec<u8>| publisher(other) == publisher(text);
            let later = heard.texts.iter().filter(of_same);
            let later = later.filter(|other| number(other) > number(text)).count();
            let before_end = heard.to.is_none() || later > 0;
            let is_due = published.begin > heard.from && published.end.is_some() && before_end;
            match times(text) {
                0 if is_due => found.push(format!("message {shown} was not heard: {heard:?}")),
                0 | 1 => {}
                n => found.push(format!("message {shown} was heard {n} times")),
            }
        }
        // Those of one publisher ("7:12") are numbered.
        let mut last = BTreeMap::new();
        for text in &heard.texts {
            let number = number(text);
            let before = last.insert(publisher(text), number);
            if before.is_some_and(|before| before >= number) {
                let shown = String::from_utf8_lossy(text);
                found.push(format!("message {shown} was heard after {before:?}"));
            }
        }
    }
}

/// Who said a text ("7:12").
fn publisher(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b':');
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// The number of a text among its publisher's.
fn number(text: &[u8]) -> u64 {
    let text = text.get(publisher(text).len() + 1..).unwrap_or_default();
    let text = core::str::from_utf8(text).unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// One that publishes.
pub(crate) struct Publisher {
    name: u64,
    /// Its messages, by the requests' numbers.
    under_way: BTreeMap<u64, usize>,
}

impl Publisher {
    /// One with a name.
    pub(crate) fn new(name: u64) -> Publisher {
        Publisher {
            name,
            under_way: BTreeMap::new(),
        }
    }
}

impl Player for Publisher {
    fn name(&self) -> &'static str {
        "publisher"
    }

    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        let mut requests = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let number = facts.unique();
            let channel = CHANNELS[rng.below(CHANNELS.len())];
            let text = format!("{}:{number}", self.name);
            self.under_way
                .insert(number, facts.channels.published.len());
            facts.channels.published.push(Published {
                message: (channel.as_bytes().to_vec(), text.clone().into_bytes()),
                begin: facts.step,
                end: None,
            });
            requests.push(Request::new(&["PUBLISH", channel, &text], Tag::Own(number)));
        }
        requests
    }

    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts) {
        let at = self.under_way.remove(&number);
        if !matches!(answer, Answer::Int(_)) {
            return facts.fault(format!("PUBLISH was answered {answer:?}"));
        }
        if let Some(published) = at.and_then(|at| facts.channels.published.get_mut(at)) {
            published.end = Some(facts.step);
        }
    }

    /// What is under way may overtake what it says by its next connection: that is another publisher's.
    fn lost(&mut self, _own: &[u64], _crashed: bool, _facts: &mut Facts) {
        self.under_way.clear();
        self.name += 100;
    }
}

/// One that listens.
#[derive(Default)]
pub(crate) struct Subscriber {
    /// By channel, where its subscription is in the book.
    open: BTreeMap<Vec<u8>, usize>,
    /// Confirmations that are still to come.
    owed: usize,
}

impl Subscriber {
    /// What a message of any kind says: its kind, and the rest.
    fn parts(answer: &Answer) -> Option<(&[u8], &[Answer])> {
        match answer {
            Answer::Array(parts) | Answer::Push(parts) => match parts.split_first() {
                Some((Answer::Bulk(kind), rest)) => Some((kind, rest)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Player for Subscriber {
    fn name(&self) -> &'static str {
        "subscriber"
    }

    /// Every confirmation is a message: so nothing of what it sends has an answer.
    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        if self.owed > 0 {
            return Vec::new();
        }
        let channel = CHANNELS[rng.below(CHANNELS.len())];
        self.owed = 1;
        let is_open = self.open.contains_key(channel.as_bytes());
        if is_open && rng.percent(30) {
            let at = self.open.get(channel.as_bytes());
            if let Some(heard) = at.and_then(|at| facts.channels.heard.get_mut(*at)) {
                heard.to = Some(facts.step);
            }
            return vec![Request::new(&["UNSUBSCRIBE", channel], Tag::Nothing)];
        }
        if is_open {
            self.owed = 0;
            return Vec::new();
        }
        vec![Request::new(&["SUBSCRIBE", channel], Tag::Nothing)]
    }

    fn heard(&mut self, _number: u64, _answer: Answer, _facts: &mut Facts) {}

    fn is_message(&self, _answer: &Answer) -> bool {
        true
    }

    fn pushed(&mut self, answer: Answer, facts: &mut Facts) {
        match Subscriber::parts(&answer) {
            Some((b"subscribe", [Answer::Bulk(channel), _])) => {
                self.owed = 0;
                self.open
                    .insert(channel.clone(), facts.channels.heard.len());
                facts.channels.heard.push(Heard {
                    channel: channel.clone(),
                    from: facts.step,
                    to: None,
                    texts: Vec::new(),
                });
            }
            // (What comes before it may still be a message.)
            Some((b"unsubscribe", [Answer::Bulk(channel), _])) => {
                self.owed = 0;
                self.open.remove(channel);
            }
            Some((b"message", [Answer::Bulk(channel), Answer::Bulk(text)])) => {
                let at = self.open.get(channel);
                match at.and_then(|at| facts.channels.heard.get_mut(*at)) {
                    Some(heard) => heard.texts.push(text.clone()),
                    None => facts.fault(format!("a message of no subscription: {answer:?}")),
                }
            }
            _ => facts.fault(format!("a subscriber heard {answer:?}")),
        }
    }

    fn lost(&mut self, _own: &[u64], _crashed: bool, facts: &mut Facts) {
        for (_, at) in std::mem::take(&mut self.open) {
            if let Some(heard) = facts.channels.heard.get_mut(at) {
                // What was on its way is gone, too: nothing is due.
                heard.to = Some(0);
            }
        }
        self.owed = 0;
    }

    fn may_wait(&self) -> bool {
        self.owed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Book, Heard, Published};

    fn book(texts: &[&[&str]]) -> Book {
        let message = |text: &str| (b"c".to_vec(), text.as_bytes().to_vec());
        Book {
            published: [("1:1", 10), ("1:2", 20), ("2:9", 30)]
                .map(|(text, begin)| Published {
                    message: message(text),
                    begin,
                    end: Some(begin + 5),
                })
                .into(),
            heard: texts
                .iter()
                .map(|texts| Heard {
                    channel: b"c".to_vec(),
                    from: 15,
                    to: None,
                    texts: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
                })
                .collect(),
        }
    }

    #[test]
    fn gaps_repeats_and_other_orders_are_found() {
        for (heard, faults) in [
            (&[&["1:2", "2:9"][..]][..], 0),
            (&[&["1:1", "1:2", "2:9"]], 0),
            (&[&["1:2"]], 1),
            (&[&["1:2", "1:1", "2:9"]], 1),
            (&[&["1:2", "2:9", "2:9"]], 2),
            (&[&["1:2", "2:9"], &["2:9", "1:2"]], 1),
        ] {
            assert_eq!(book(heard).judge().len(), faults, "{heard:?}");
        }
    }
}
