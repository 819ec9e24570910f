//! Effects on streams: the kinds 32 to 47 of the encoding in `effect.rs`, version 1.
//!
//! ```text
//! 32 make           33 add             id, words        34 remove           id       35 remove through  id
//! 36 set ids        last, added, highest deleted        37 put group        group, last, read
//! 38 remove group   group                               39 put consumer     group, consumer, seen, active
//! 40 remove consumer  group, consumer                   41 put pending      group, consumer, id, time, count
//! 42 remove pending   group, id
//! id: two numbers    words: bytes that hold field, value, field, value... each as bytes    read, active: 0 | 1 number
//! ```
//! All of it is absolute: ids are those that were given, times are unix ms, a trimming says up to which entry.

use crate::effect::Corrupt;
use crate::value::stream::StreamId;
use crate::wire::{Reader, Writer};

/// What has changed of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum StreamChange<'a> {
    /// There is an empty stream.
    Make,
    /// A new entry; there is a stream from now on.
    Add {
        id: StreamId,
        words: &'a [u8],
    },
    /// A client deleted an entry.
    Remove {
        id: StreamId,
    },
    /// The entries up to this one are trimmed away.
    RemoveThrough {
        id: StreamId,
    },
    /// What is remembered beside the entries.
    SetIds {
        last: StreamId,
        added: u64,
        max_deleted: StreamId,
    },
    /// A group is there and has read so far.
    PutGroup {
        group: &'a [u8],
        last: StreamId,
        read: Option<u64>,
    },
    RemoveGroup {
        group: &'a [u8],
    },
    /// A consumer is there; when it was seen and got entries, unix ms.
    PutConsumer {
        group: &'a [u8],
        consumer: &'a [u8],
        seen_ms: u64,
        active_ms: Option<u64>,
    },
    /// A consumer is gone, and all that was pending with it.
    RemoveConsumer {
        group: &'a [u8],
        consumer: &'a [u8],
    },
    /// An entry is pending with this consumer, and no other.
    PutPending {
        group: &'a [u8],
        consumer: &'a [u8],
        id: StreamId,
        delivered_ms: u64,
        count: u64,
    },
    /// An entry is not pending any more.
    RemovePending {
        group: &'a [u8],
        id: StreamId,
    },
}

impl<'a> StreamChange<'a> {
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Make => 32,
            Self::Add { .. } => 33,
            Self::Remove { .. } => 34,
            Self::RemoveThrough { .. } => 35,
            Self::SetIds { .. } => 36,
            Self::PutGroup { .. } => 37,
            Self::RemoveGroup { .. } => 38,
            Self::PutConsumer { .. } => 39,
            Self::RemoveConsumer { .. } => 40,
            Self::PutPending { .. } => 41,
            Self::RemovePending { .. } => 42,
        }
    }

    pub(crate) fn encode(&self, to: &mut Writer<'_>) {
        match *self {
            Self::Make => {}
            Self::Add { id, words } => {
                to.id(id);
                to.bytes(words);
            }
            Self::Remove { id } | Self::RemoveThrough { id } => to.id(id),
            Self::SetIds {
                last,
                added,
                max_deleted,
            } => {
                to.id(last);
                to.number(added);
                to.id(max_deleted);
            }
            Self::PutGroup { group, last, read } => {
                to.bytes(group);
                to.id(last);
                to.optional(read);
            }
            Self::RemoveGroup { group } => to.bytes(group),
            Self::PutConsumer {
                group,
                consumer,
                seen_ms,
                active_ms,
            } => {
                to.bytes(group);
                to.bytes(consumer);
                to.number(seen_ms);
                to.optional(active_ms);
            }
            Self::RemoveConsumer { group, consumer } => {
                to.bytes(group);
                to.bytes(consumer);
            }
            Self::PutPending {
                group,
                consumer,
                id,
                delivered_ms,
                count,
            } => {
                to.bytes(group);
                to.bytes(consumer);
                to.id(id);
                to.number(delivered_ms);
                to.number(count);
            }
            Self::RemovePending { group, id } => {
                to.bytes(group);
                to.id(id);
            }
        }
    }

    pub(crate) fn decode(kind: u8, from: &mut Reader<'a>) -> Result<Self, Corrupt> {
        Ok(match kind {
            32 => Self::Make,
            33 => {
                let (id, words) = (from.id()?, from.bytes()?);
                words_of(words)?;
                Self::Add { id, words }
            }
            34 => Self::Remove { id: from.id()? },
            35 => Self::RemoveThrough { id: from.id()? },
            36 => Self::SetIds {
                last: from.id()?,
                added: from.number()?,
                max_deleted: from.id()?,
            },
            37 => Self::PutGroup {
                group: from.bytes()?,
                last: from.id()?,
                read: from.optional()?,
            },
            38 => Self::RemoveGroup {
                group: from.bytes()?,
            },
            39 => Self::PutConsumer {
                group: from.bytes()?,
                consumer: from.bytes()?,
                seen_ms: from.number()?,
                active_ms: from.optional()?,
            },
            40 => Self::RemoveConsumer {
                group: from.bytes()?,
                consumer: from.bytes()?,
            },
            41 => Self::PutPending {
                group: from.bytes()?,
                consumer: from.bytes()?,
                id: from.id()?,
                delivered_ms: from.number()?,
                count: from.number()?,
            },
            42 => Self::RemovePending {
                group: from.bytes()?,
                id: from.id()?,
            },
            _ => return Err(Corrupt),
        })
    }
}

/// The fields and values of an entry, in turn: at least one pair.
///
/// # Errors
/// [`Corrupt`] for bytes that hold none.
pub fn words_of(bytes: &[u8]) -> Result<Vec<&[u8]>, Corrupt> {
    let (mut from, mut words) = (Reader { input: bytes }, Vec::new());
    while !from.input.is_empty() {
        words.push(from.bytes()?);
    }
    let pairs = words.len() >= 2 && words.len().is_multiple_of(2);
    if pairs { Ok(words) } else { Err(Corrupt) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{Effect, decode, encode};

    #[test]
    fn the_encoding_is_golden_and_read_back() {
        let (id, group, consumer) = (StreamId::new(1, 2), &b"g"[..], &b"c"[..]);
        let table: &[(StreamChange<'_>, &[u8])] = &[
            (StreamChange::Make, &[32]),
            (
                StreamChange::Add {
                    id,
                    words: &[1, b'f', 1, b'v'],
                },
                &[33, 1, 2, 4, 1, b'f', 1, b'v'],
            ),
            (StreamChange::Remove { id }, &[34, 1, 2]),
            (StreamChange::RemoveThrough { id }, &[35, 1, 2]),
            (
                StreamChange::SetIds {
                    last: id,
                    added: 300,
                    max_deleted: StreamId::MIN,
                },
                &[36, 1, 2, 0xac, 2, 0, 0],
            ),
            (
                StreamChange::PutGroup {
                    group,
                    last: id,
                    read: None,
                },
                &[37, 1, b'g', 1, 2, 0],
            ),
            (StreamChange::RemoveGroup { group }, &[38, 1, b'g']),
            (
                StreamChange::PutConsumer {
                    group,
                    consumer,
                    seen_ms: 5,
                    active_ms: Some(4),
                },
                &[39, 1, b'g', 1, b'c', 5, 1, 4],
            ),
            (
                StreamChange::RemoveConsumer { group, consumer },
                &[40, 1, b'g', 1, b'c'],
            ),
            (
                StreamChange::PutPending {
                    group,
                    consumer,
                    id,
                    delivered_ms: 7,
                    count: 1,
                },
                &[41, 1, b'g', 1, b'c', 1, 2, 7, 1],
            ),
            (
                StreamChange::RemovePending { group, id },
                &[42, 1, b'g', 1, 2],
            ),
        ];
        for (change, bytes) in table {
            let (effect, mut out) = (
                Effect::Stream {
                    key: b"k",
                    change: *change,
                },
                Vec::new(),
            );
            encode(3, &effect, &mut out);
            let head = [bytes[0], 3, 1, b'k'];
            assert_eq!(out, [&head, &bytes[1..]].concat(), "{change:?}");
            assert_eq!(decode(&out), Ok((3, effect, &[][..])));
        }
    }

    #[test]
    fn an_entry_has_pairs() {
        for bytes in [&[][..], &[1, b'f'], &[1, b'f', 2, b'v'], &[0, 0, 0]] {
            assert_eq!(words_of(bytes), Err(Corrupt), "{bytes:?}");
        }
        assert_eq!(words_of(&[0, 0]), Ok(vec![&b""[..], b""]));
    }
}
