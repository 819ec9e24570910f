//! Pieces of large values, as the source tells them.

use std::io;

use migration::compare::Piece;
use protocol::answer::Answer;
use protocol::number;
use storage::StreamId;

use super::super::look::Here;
use super::{PIECE_MAX, TEXT_PIECE_BYTES, Verifier};

pub(super) fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

pub(super) fn failed(error: io::Error) -> String {
    format!("the source: {error}")
}

pub(super) fn int_of(answer: &Answer) -> Option<i64> {
    match answer {
        Answer::Int(n) => Some(*n),
        _ => None,
    }
}

pub(super) fn bytes_of(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Bulk(bytes) | Answer::Simple(bytes) => Some(bytes),
        _ => None,
    }
}

pub(super) fn array_of(answer: Answer) -> Vec<Answer> {
    match answer {
        Answer::Array(members) => members,
        _ => Vec::new(),
    }
}

/// `1-2` of XRANGE.
fn id_of(text: &[u8]) -> Option<StreamId> {
    let text = std::str::from_utf8(text).ok()?;
    let (ms, seq) = text.split_once('-')?;
    Some(StreamId::new(ms.parse().ok()?, seq.parse().ok()?))
}

fn pairs_of(members: Vec<Answer>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut members = members.into_iter().filter_map(bytes_of);
    std::iter::from_fn(|| Some((members.next()?, members.next()?))).collect()
}

fn scores_of(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, f64)> {
    let scores = pairs.into_iter();
    scores
        .filter_map(|(member, score)| Some((member, number::parse_f64(&score)?)))
        .collect()
}

fn entries_of(members: Vec<Answer>) -> Vec<(StreamId, Vec<Vec<u8>>)> {
    let entry = |member: Answer| {
        let mut parts = array_of(member).into_iter();
        let id = id_of(&bytes_of(parts.next()?)?)?;
        let words = array_of(parts.next()?).into_iter().filter_map(bytes_of);
        Some((id, words.collect()))
    };
    members.into_iter().filter_map(entry).collect()
}

/// The value behind a name, in a reply that is names and values in turn.
fn field<'a>(told: &'a [Answer], name: &[u8]) -> Option<&'a Answer> {
    let pairs = told.chunks_exact(2);
    let mut found = pairs.filter(|pair| matches!(&pair[0], Answer::Bulk(word) if word == name));
    found.next().map(|pair| &pair[1])
}

fn id_in(answer: &Answer) -> Option<StreamId> {
    match answer {
        Answer::Bulk(text) => id_of(text),
        _ => None,
    }
}

/// Entries of XPENDING; none of an error.
fn pending_of(answer: Answer) -> Vec<(StreamId, Vec<u8>, u64)> {
    let entry = |told: Answer| {
        let told = array_of(told);
        let consumer = told.get(1).cloned().and_then(bytes_of)?;
        let count = told.get(3).and_then(int_of)?;
        Some((
            told.first().and_then(id_in)?,
            consumer,
            count.unsigned_abs(),
        ))
    };
    array_of(answer).into_iter().filter_map(entry).collect()
}

/// Where the next piece begins.
pub(super) enum From {
    Begin,
    At(usize),
    Cursor(Vec<u8>),
    /// From this id on.
    Behind(StreamId),
}

impl<H: Here> Verifier<'_, H> {
    /// A piece of a large value there, and where the next one begins.
    pub(super) fn read_piece(
        &mut self,
        key: &[u8],
        kind: &str,
        from: From,
    ) -> Result<(Piece, Option<From>), String> {
        let (at, cursor, id) = match from {
            From::Begin => (0, b"0".to_vec(), b"-".to_vec()),
            From::At(at) => (at, Vec::new(), Vec::new()),
            From::Cursor(cursor) => (0, cursor, Vec::new()),
            From::Behind(id) => (0, Vec::new(), id.to_string().into_bytes()),
        };
        let number = |n: usize| n.to_string().into_bytes();
        let count = number(PIECE_MAX);
        if kind == "string" {
            let last = number(at + TEXT_PIECE_BYTES - 1);
            let text =
                bytes_of(self.call(&[b"GETRANGE", key, &number(at), &last])?).unwrap_or_default();
            let next = (text.len() == TEXT_PIECE_BYTES).then_some(From::At(at + TEXT_PIECE_BYTES));
            let piece = match text.is_empty() {
                true => Piece::Set(Vec::new()),
                false => Piece::Text(at, text),
            };
            return Ok((piece, next));
        }
        if kind == "list" {
            let last = number(at + PIECE_MAX - 1);
            let found = array_of(self.call(&[b"LRANGE", key, &number(at), &last])?);
            let elements: Vec<_> = found.into_iter().filter_map(bytes_of).collect();
            let next = (elements.len() == PIECE_MAX).then_some(From::At(at + PIECE_MAX));
            return Ok((Piece::List(at, elements), next));
        }
        if kind == "stream" {
            let found = array_of(self.call(&[b"XRANGE", key, &id, b"+", b"COUNT", &count])?);
            let entries = entries_of(found);
            let last = entries
                .last()
                .and_then(|(id, _)| id.next())
                .map(From::Behind);
            let next = last.filter(|_| entries.len() == PIECE_MAX);
            return Ok((Piece::Stream(entries), next));
        }
        let name: &[u8] = match kind {
            "hash" => b"HSCAN",
            "set" => b"SSCAN",
            _ => b"ZSCAN",
        };
        let mut reply = array_of(self.call(&[name, key, &cursor, b"COUNT", &count])?);
        let members = reply.pop().map(array_of).unwrap_or_default();
        let cursor = reply.pop().and_then(bytes_of).unwrap_or(b"0".to_vec());
        let piece = match kind {
            "hash" => Piece::Hash(pairs_of(members)),
            "set" => Piece::Set(members.into_iter().filter_map(bytes_of).collect()),
            _ => Piece::Zset(scores_of(pairs_of(members))),
        };
        Ok((piece, (cursor != b"0").then_some(From::Cursor(cursor))))
    }

    /// The last id and the groups of a stream; none when it is no stream any more.
    pub(super) fn read_groups(&mut self, key: &[u8]) -> Result<Option<Piece>, String> {
        let requests = [
            words(&[b"XINFO", b"STREAM", key]),
            words(&[b"XINFO", b"GROUPS", key]),
        ];
        // (A key that has gone since, or is of another type: the length tells.)
        let mut answers = self.wire.call_all(&requests).map_err(failed)?.into_iter();
        let (Some(Answer::Array(stream)), Some(Answer::Array(groups))) =
            (answers.next(), answers.next())
        else {
            return Ok(None);
        };
        let Some(last) = field(&stream, b"last-generated-id").and_then(id_in) else {
            return Ok(None);
        };
        let group = |told: Answer| {
            let told = array_of(told);
            let name = field(&told, b"name").cloned().and_then(bytes_of)?;
            let pending = field(&told, b"pending").and_then(int_of)?;
            let last = field(&told, b"last-delivered-id").and_then(id_in)?;
            Some((name, last, pending.unsigned_abs()))
        };
        let groups = groups.into_iter().filter_map(group).collect();
        Ok(Some(Piece::Groups(last, groups)))
    }

    /// What is pending in a group from an id on, and where more is.
    pub(super) fn read_pending(
        &mut self,
        key: &[u8],
        group: &[u8],
        from: StreamId,
    ) -> Result<(Piece, Option<StreamId>), String> {
        let (first, count) = (from.to_string(), PIECE_MAX.to_string());
        let request: [&[u8]; 6] = [
            b"XPENDING",
            key,
            group,
            first.as_bytes(),
            b"+",
            count.as_bytes(),
        ];
        // (A group that has gone since: that of the groups tells.)
        let found = self.wire.call(&request).map_err(failed)?;
        let entries = pending_of(found);
        let last = entries.last().and_then(|(id, ..)| id.next());
        let next = last.filter(|_| entries.len() == PIECE_MAX);
        Ok((Piece::Pending(group.to_vec(), entries), next))
    }

    /// The same elements as they are now; those that are no more are left out.
    pub(super) fn probe_elements(&mut self, key: &[u8], piece: &Piece) -> Result<Piece, String> {
        let each = |command: &[u8], members: &[&[u8]]| -> Vec<Vec<Vec<u8>>> {
            let requests = members.iter().map(|member| words(&[command, key, member]));
            requests.collect()
        };
        Ok(match piece {
            Piece::Text(at, bytes) => {
                let (first, last) = (at.to_string(), (at + bytes.len() - 1).to_string());
                let text = self.call(&[b"GETRANGE", key, first.as_bytes(), last.as_bytes()])?;
                Piece::Text(*at, bytes_of(text).unwrap_or_default())
            }
            Piece::List(at, elements) => {
                let (first, last) = (at.to_string(), (at + elements.len() - 1).to_string());
                let found = self.call(&[b"LRANGE", key, first.as_bytes(), last.as_bytes()])?;
                Piece::List(
                    *at,
                    array_of(found).into_iter().filter_map(bytes_of).collect(),
                )
            }
            Piece::Hash(pairs) => {
                let fields: Vec<&[u8]> = pairs.iter().map(|(field, _)| field.as_slice()).collect();
                let values = self.call_all(&each(b"HGET", &fields))?;
                let pairs = fields.iter().zip(values);
                Piece::Hash(
                    pairs
                        .filter_map(|(f, v)| Some((f.to_vec(), bytes_of(v)?)))
                        .collect(),
                )
            }
            Piece::Set(members) => {
                let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
                let found = self.call_all(&each(b"SISMEMBER", &members))?;
                let there = members
                    .iter()
                    .zip(found)
                    .filter(|(_, is)| *is == Answer::Int(1));
                Piece::Set(there.map(|(member, _)| member.to_vec()).collect())
            }
            Piece::Zset(pairs) => {
                let members: Vec<&[u8]> =
                    pairs.iter().map(|(member, _)| member.as_slice()).collect();
                let scores = self.call_all(&each(b"ZSCORE", &members))?;
                let pairs = members.iter().zip(scores);
                let pairs = pairs.filter_map(|(m, s)| Some((m.to_vec(), bytes_of(s)?)));
                Piece::Zset(scores_of(pairs.collect()))
            }
            Piece::Stream(entries) => {
                let range = |(id, _): &(StreamId, _)| {
                    let id = id.to_string();
                    words(&[b"XRANGE", key, id.as_bytes(), id.as_bytes()])
                };
                let requests: Vec<_> = entries.iter().map(range).collect();
                let found = self.call_all(&requests)?.into_iter();
                Piece::Stream(
                    found
                        .flat_map(|found| entries_of(array_of(found)))
                        .collect(),
                )
            }
            Piece::Groups(..) => {
                let none = || Piece::Groups(StreamId::MIN, Vec::new());
                self.read_groups(key)?.unwrap_or_else(none)
            }
            Piece::Pending(group, entries) => {
                let range = |(id, ..): &(StreamId, _, _)| {
                    let id = id.to_string();
                    words(&[b"XPENDING", key, group, id.as_bytes(), id.as_bytes(), b"1"])
                };
                let requests: Vec<_> = entries.iter().map(range).collect();
                let found = self.wire.call_all(&requests).map_err(failed)?;
                Piece::Pending(
                    group.clone(),
                    found.into_iter().flat_map(pending_of).collect(),
                )
            }
        })
    }
}

/// The elements of a piece at these places; all of one whose elements have places of their own.
pub(super) fn part_of(piece: Piece, places: &[usize]) -> Piece {
    fn at<T: Clone>(all: &[T], places: &[usize]) -> Vec<T> {
        places
            .iter()
            .filter_map(|at| all.get(*at).cloned())
            .collect()
    }
    match piece {
        Piece::Hash(pairs) => Piece::Hash(at(&pairs, places)),
        Piece::Set(members) => Piece::Set(at(&members, places)),
        Piece::Zset(pairs) => Piece::Zset(at(&pairs, places)),
        Piece::Stream(entries) => Piece::Stream(at(&entries, places)),
        Piece::Pending(group, entries) => Piece::Pending(group, at(&entries, places)),
        piece => piece,
    }
}
