//! Items with names of their own go through queues; whoever waits for one gets it, once, and nobody waits while there is one.

use std::collections::BTreeMap;

use protocol::answer::Answer;

use super::{Facts, Player, Request, Tag};
use crate::rng::Rng;

/// The queues: two lists and a sorted set.
pub(crate) const LISTS: [&str; 2] = ["q0", "q1"];
pub(crate) const ZSET: &str = "qz";

/// What is known of an item.
#[derive(Clone, Copy, Default, Debug)]
struct Item {
    /// Its producer has heard that it is in.
    in_for_certain: bool,
    /// How often it was taken out, for all that is known.
    taken: usize,
}

/// All items.
#[derive(Default)]
pub(crate) struct Book {
    items: BTreeMap<Vec<u8>, Item>,
    /// A crash has taken back what was answered: nothing is judged.
    pub(crate) forgetful: bool,
    /// Pops whose answers were lost, and how many items each may have taken.
    lost_pops: usize,
}

impl Book {
    /// Items that were put in.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    fn put(&mut self, name: &[u8]) {
        self.items.entry(name.to_vec()).or_default().in_for_certain = true;
    }

    fn offer(&mut self, name: &[u8]) {
        self.items.entry(name.to_vec()).or_default();
    }

    /// Somebody has taken an item.
    pub(crate) fn take(&mut self, name: &[u8]) -> Result<(), String> {
        if self.forgetful {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(name).into_owned();
        match self.items.get_mut(name) {
            None => Err(format!("item {shown} was taken, and nobody had put it in")),
            Some(item) => {
                item.taken += 1;
                if item.taken > 1 {
                    return Err(format!("item {shown} was taken {} times", item.taken));
                }
                Ok(())
            }
        }
    }

    /// When all queues are empty: what has got lost on the way.
    pub(crate) fn judge(&self) -> Vec<String> {
        let gone = |(_, item): &(&Vec<u8>, &Item)| item.in_for_certain && item.taken == 0;
        let gone: Vec<_> = self.items.iter().filter(gone).collect();
        if gone.len() <= self.lost_pops || self.forgetful {
            return Vec::new();
        }
        let names: Vec<_> = gone
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name))
            .collect();
        let lost = self.lost_pops;
        vec![format!(
            "items {names:?} are gone; {lost} answers to pops were lost"
        )]
    }
}

/// One that puts items in.
pub(crate) struct Producer {
    /// Items of requests under way, by the requests' numbers.
    offered: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Producer {
    /// One that has done nothing yet.
    pub(crate) fn new() -> Producer {
        Producer {
            offered: BTreeMap::new(),
        }
    }

    fn offer(&mut self, facts: &mut Facts, count: usize) -> (u64, Vec<String>) {
        let names: Vec<String> = (0..count).map(|_| format!("i{}", facts.unique())).collect();
        let number = facts.unique();
        let bytes: Vec<Vec<u8>> = names.iter().map(|name| name.clone().into_bytes()).collect();
        bytes.iter().for_each(|name| facts.queues.offer(name));
        self.offered.insert(number, bytes);
        (number, names)
    }
}

impl Player for Producer {
    fn name(&self) -> &'static str {
        "producer"
    }

    fn act(&mut self, facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        let list = LISTS[rng.below(2)];
        let end = if rng.percent(50) { "LPUSH" } else { "RPUSH" };
        match rng.below(5) {
            0 => {
                let (number, names) = self.offer(facts, 1);
                let line = format!("ZADD {ZSET} {} {}", rng.below(5), names[0]);
                vec![Request::line(&line, Tag::Own(number))]
            }
            1 => {
                let (number, names) = self.offer(facts, 2);
                vec![
                    Request::line("MULTI", Tag::ok()),
                    Request::line(&format!("{end} q0 {}", names[0]), Tag::queued()),
                    Request::line(&format!("{end} q1 {}", names[1]), Tag::queued()),
                    Request::line("EXEC", Tag::Own(number)),
                ]
            }
            2 => {
                let (number, names) = self.offer(facts, 3);
                let line = format!("{end} {list} {}", names.join(" "));
                vec![Request::line(&line, Tag::Own(number))]
            }
            _ => {
                let (number, names) = self.offer(facts, 1);
                let line = format!("{end} {list} {}", names[0]);
                vec![Request::line(&line, Tag::Own(number))]
            }
        }
    }

    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts) {
        let names = self.offered.remove(&number).unwrap_or_default();
        match answer {
            Answer::Int(_) | Answer::Array(_) => {
                names.iter().for_each(|name| facts.queues.put(name));
            }
            other => facts.fault(format!("a push was answered {other:?}")),
        }
    }

    fn lost(&mut self, _own: &[u64], _crashed: bool, _facts: &mut Facts) {
        self.offered.clear();
    }
}

/// One that takes items out.
pub(crate) struct Consumer {
    /// It waits without end, for these.
    waits: Option<&'static str>,
    /// What is under way takes items out.
    takes: bool,
}

/// A pop whose answer is not one.
const MOVE: u64 = 1;
const POP: u64 = 2;

impl Consumer {
    /// One that has done nothing yet.
    pub(crate) fn new() -> Consumer {
        Consumer {
            waits: None,
            takes: false,
        }
    }
}

/// Names of items in an answer, whatever pop it is of: they begin with "i".
fn names(answer: &Answer, into: &mut Vec<Vec<u8>>) {
    match answer {
        Answer::Bulk(text) if text.first() == Some(&b'i') => into.push(text.clone()),
        Answer::Array(members) => members.iter().for_each(|member| names(member, into)),
        _ => {}
    }
}

impl Player for Consumer {
    fn name(&self) -> &'static str {
        "consumer"
    }

    fn act(&mut self, _facts: &mut Facts, rng: &mut Rng) -> Vec<Request> {
        let timeout = rng
            .pick(&["0", "0", "0.01", "0.2", "3"])
            .copied()
            .unwrap_or("0");
        let (line, waits, number) = match rng.below(8) {
            0..=1 => ("BLPOP q0 q1", Some("q0 q1"), POP),
            2 => ("BRPOP q1", Some("q1"), POP),
            3 => ("BZPOPMIN qz", Some("qz"), POP),
            4 => ("BLMOVE q0 q1 LEFT RIGHT", Some("q0"), MOVE),
            5 => ("BLPOP q1 q0", Some("q0 q1"), POP),
            6 => ("LPOP q0", None, POP),
            _ => ("BLMPOP", Some("q0 q1"), POP),
        };
        let line = match (line, waits) {
            ("BLMPOP", _) => format!("BLMPOP {timeout} 2 q0 q1 LEFT COUNT 2"),
            (line, Some(_)) => format!("{line} {timeout}"),
            (line, None) => line.to_owned(),
        };
        self.waits = waits.filter(|_| timeout == "0");
        self.takes = number == POP;
        vec![Request::line(&line, Tag::Own(number))]
    }

    fn heard(&mut self, number: u64, answer: Answer, facts: &mut Facts) {
        self.waits = None;
        self.takes = false;
        if answer.is_error() {
            return facts.fault(format!("a pop was answered {answer:?}"));
        }
        let mut taken = Vec::new();
        names(&answer, &mut taken);
        if number == MOVE {
            return;
        }
        for name in taken {
            if let Err(what) = facts.queues.take(&name) {
                facts.fault(what);
            }
        }
    }

    fn lost(&mut self, own: &[u64], _crashed: bool, facts: &mut Facts) {
        if !own.is_empty() && self.takes {
            // (The largest pop takes two.)
            facts.queues.lost_pops += 2;
        }
        self.waits = None;
        self.takes = false;
    }

    fn may_wait(&self) -> bool {
        self.waits.is_some()
    }

    fn waits_for(&self) -> Option<&'static str> {
        self.waits
    }
}

#[cfg(test)]
mod tests {
    use super::Book;

    #[test]
    fn items_are_taken_once_and_none_is_lost() {
        let mut book = Book::default();
        book.offer(b"i1");
        book.put(b"i2");
        book.put(b"i3");
        assert!(book.take(b"i9").is_err(), "never put in");
        assert!(book.take(b"i1").is_ok(), "its producer has not heard");
        assert!(
            book.take(b"i2").is_ok() && book.take(b"i2").is_err(),
            "twice"
        );
        assert_eq!(book.judge().len(), 1, "i3 is gone");
        book.lost_pops = 1;
        assert!(book.judge().is_empty(), "whoever took it has not heard");
    }
}
