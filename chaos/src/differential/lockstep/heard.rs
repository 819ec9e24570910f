//! What one connection has heard since the last cue, freed from what Redis leaves open: the order between channels, how
//! many messages tell of invalidated keys, client numbers.

use std::collections::{BTreeMap, BTreeSet};

use protocol::answer::Answer;

/// The channel that tells a connection of version 2 of invalidated keys.
const INVALIDATE: &[u8] = b"__redis__:invalidate";

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Replies, in order. Of what is subscribed to as well.
    pub(super) replies: Vec<Answer>,
    /// Messages: by kind, pattern and channel, each in order.
    pub(super) messages: BTreeMap<Vec<Vec<u8>>, Vec<Answer>>,
    /// Keys that are invalid; None for all.
    pub(super) invalid: BTreeSet<Option<Vec<u8>>>,
    /// The connection has been closed.
    pub(super) is_closed: bool,
}

impl Heard {
    /// Takes a frame in. `numbers` are the client numbers of the scene's connections.
    pub(super) fn take(&mut self, frame: Answer, numbers: &[i64]) {
        let words = match &frame {
            Answer::Push(members) | Answer::Array(members) => members.as_slice(),
            _ => &[],
        };
        let bytes = |answer: &Answer| match answer {
            Answer::Bulk(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        let kind = words.first().map(bytes).unwrap_or_default();
        match (kind.as_slice(), words) {
            (b"invalidate", [_, keys]) => self.invalidate(keys),
            (b"message", [_, channel, keys]) if bytes(channel) == INVALIDATE => {
                self.invalidate(keys);
            }
            (b"message" | b"smessage", [_, channel, payload]) => {
                let place = vec![kind.clone(), bytes(channel)];
                self.messages
                    .entry(place)
                    .or_default()
                    .push(payload.clone());
            }
            (b"pmessage", [_, pattern, channel, payload]) => {
                let place = vec![kind.clone(), bytes(pattern), bytes(channel)];
                self.messages
                    .entry(place)
                    .or_default()
                    .push(payload.clone());
            }
            (b"tracking-redir-broken", [_, number]) => {
                let number = unnumbered(number.clone(), numbers);
                self.messages.entry(vec![kind]).or_default().push(number);
            }
            _ => self.replies.push(frame),
        }
    }

    fn invalidate(&mut self, keys: &Answer) {
        match keys {
            Answer::Array(keys) => self.invalid.extend(keys.iter().map(|key| match key {
                Answer::Bulk(key) => Some(key.clone()),
                other => Some(format!("{other:?}").into_bytes()),
            })),
            _ => {
                self.invalid.insert(None);
            }
        }
    }

    /// What must be equal on both sides for them to be at rest.
    pub(super) fn measure(&self) -> (usize, usize, &BTreeSet<Option<Vec<u8>>>, bool) {
        let messages = self.messages.values().map(Vec::len).sum();
        (self.replies.len(), messages, &self.invalid, self.is_closed)
    }

    /// Messages and invalidated keys as an answer to be shown.
    pub(super) fn asides(&self) -> Answer {
        let text = |bytes: &Vec<u8>| Answer::Bulk(bytes.clone());
        let messages = self.messages.iter().map(|(place, payloads)| {
            Answer::Array(
                place
                    .iter()
                    .map(text)
                    .chain(payloads.iter().cloned())
                    .collect(),
            )
        });
        let invalid = self.invalid.iter().map(|key| match key {
            Some(key) => Answer::Push(vec![Answer::Bulk(key.clone())]),
            None => Answer::Push(vec![Answer::Null]),
        });
        Answer::Array(messages.chain(invalid).collect())
    }

    /// The messages of keyspace events sorted: of several requests in one write the order between keys is open.
    pub(super) fn sort_events(&mut self) {
        let sort = |(place, payloads): (&Vec<Vec<u8>>, &mut Vec<Answer>)| {
            if place.iter().any(|word| word.starts_with(b"__keyevent@")) {
                payloads.sort_by_key(|payload| format!("{payload:?}"));
            }
        };
        self.messages.iter_mut().for_each(sort);
    }

    /// Names of what is left by UNSUBSCRIBE without arguments come in any order: they are sorted, the counts stay.
    pub(super) fn sort_left(&mut self) {
        let left = |answer: &Answer| match answer {
            Answer::Push(members) | Answer::Array(members) => match members.as_slice() {
                [Answer::Bulk(kind), name, Answer::Int(_)] if kind.ends_with(b"unsubscribe") => {
                    Some(name.clone())
                }
                _ => None,
            },
            _ => None,
        };
        let mut names: Vec<Answer> = self.replies.iter().filter_map(left).collect();
        names.sort_by_key(|name| format!("{name:?}"));
        let mut names = names.into_iter();
        for reply in &mut self.replies {
            if left(reply).is_some()
                && let Answer::Push(members) | Answer::Array(members) = reply
                && let (Some(place), Some(name)) = (members.get_mut(1), names.next())
            {
                *place = name;
            }
        }
    }
}

/// The answer with client numbers replaced by the places of the connections in the scene.
pub(super) fn unnumbered(answer: Answer, numbers: &[i64]) -> Answer {
    let all = |members: Vec<Answer>| {
        let members = members.into_iter();
        members.map(|member| unnumbered(member, numbers)).collect()
    };
    match answer {
        Answer::Int(number) => match numbers.iter().position(|own| *own == number) {
            Some(place) => Answer::Simple(format!("connection {place}").into_bytes()),
            None => Answer::Int(number),
        },
        Answer::Array(members) => Answer::Array(all(members)),
        Answer::Map(pairs) => {
            let pairs = pairs.into_iter();
            let pair = |(key, value)| (key, unnumbered(value, numbers));
            Answer::Map(pairs.map(pair).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Heard, unnumbered};

    fn bulks(words: &[&str]) -> Vec<Answer> {
        words
            .iter()
            .map(|word| Answer::Bulk((*word).into()))
            .collect()
    }

    #[test]
    fn frames_are_told_apart() {
        let mut heard = Heard::default();
        heard.take(Answer::Array(bulks(&["message", "c", "1"])), &[]);
        heard.take(Answer::Push(bulks(&["pmessage", "*", "c", "2"])), &[]);
        let keys = Answer::Array(bulks(&["k", "l", "k"]));
        let invalidate = Answer::Bulk(b"invalidate".to_vec());
        heard.take(Answer::Push(vec![invalidate, keys]), &[]);
        heard.take(Answer::Array(bulks(&["a", "b", "c"])), &[]);
        assert_eq!(heard.measure().0, 1);
        assert_eq!(heard.measure().1, 2);
        assert_eq!(heard.measure().2.len(), 2);
    }

    #[test]
    fn what_is_left_may_come_in_any_order() {
        let left = |name: &str, count| {
            let mut frame = bulks(&["unsubscribe", name]);
            frame.push(Answer::Int(count));
            Answer::Array(frame)
        };
        let (mut one, mut other) = (Heard::default(), Heard::default());
        one.replies = vec![left("b", 1), left("a", 0)];
        other.replies = vec![left("a", 1), left("b", 0)];
        one.sort_left();
        other.sort_left();
        assert_eq!(one.replies, other.replies);
        assert_eq!(one.replies, [left("a", 1), left("b", 0)]);
    }

    #[test]
    fn numbers_become_places() {
        let place = Answer::Simple(b"connection 1".to_vec());
        assert_eq!(unnumbered(Answer::Int(7), &[5, 7]), place);
        assert_eq!(unnumbered(Answer::Int(8), &[5, 7]), Answer::Int(8));
    }
}
