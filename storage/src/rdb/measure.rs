//! Where a value ends, found without building it, also when its bytes come in pieces.
//!
//! ```text
//! type ──> program: what follows, step by step           hash: each(text, text)
//!                                                         stream: each(text, text) length ... each(...)
//! bytes ──> the steps that are there are passed over; the first that is not there is tried again when more have come
//! ```
//! Nothing is allocated but the stack of programs (four deep at most), whatever lengths the bytes claim; no step is looked at
//! twice, so a value of a gigabyte in pieces costs no more than in one.

use crate::rdb::kind;
use crate::rdb::reader::{STRING_BYTES_MAX, StringForm, packed_len, string_form};

/// What a value is made of.
#[derive(Debug)]
pub(super) enum Step {
    /// A string of any form.
    Text,
    /// A length.
    Length,
    /// So many bytes.
    Bytes(usize),
    /// A score as text.
    Score,
    /// A count, and so many times the steps.
    Each(&'static [Step]),
    /// What a module has written, to its end.
    Module,
}

use Step::{Bytes, Each, Length, Module, Score, Text};

/// The steps of the values of a type; None for one that is not known. `valkey`: in a file of Valkey, whose type 22 is its own.
pub(super) fn program(kind: u8, valkey: bool) -> Option<&'static [Step]> {
    Some(match kind {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK => &[Text],
        kind::LIST | kind::SET | kind::LIST_ZIPLISTS => &[Each(&[Text])],
        kind::HASH => &[Each(&[Text, Text])],
        kind::ZSET => &[Each(&[Text, Bytes(8)])],
        kind::ZSET_TEXT => &[Each(&[Text, Score])],
        kind::LIST_LISTPACKS => &[Each(&[Length, Text])],
        kind::STREAM_1 => STREAM_1,
        kind::STREAM_2 => STREAM_2,
        kind::STREAM_3 => STREAM_3,
        kind::HASH_OF_VALKEY if valkey => &[Each(&[Text, Text, Bytes(8)])],
        _ if valkey => return None,
        kind::HASH_DEADLINES_EARLY => &[Each(&[Length, Text, Text])],
        kind::HASH_LISTPACK_DEADLINES_EARLY => &[Text],
        kind::HASH_DEADLINES => &[Bytes(8), Each(&[Length, Text, Text])],
        kind::HASH_LISTPACK_DEADLINES => &[Bytes(8), Text],
        _ => return None,
    })
}

const NODES: Step = Each(&[Text, Text]);
const PENDING: Step = Each(&[Bytes(16), Bytes(8), Length]);
const OWN_PENDING: Step = Each(&[Bytes(16)]);
static STREAM_1: &[Step] = &[
    NODES,
    Length,
    Length,
    Length,
    Each(&[
        Text,
        Length,
        Length,
        PENDING,
        Each(&[Text, Bytes(8), OWN_PENDING]),
    ]),
];
static STREAM_2: &[Step] = &[
    NODES,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Each(&[
        Text,
        Length,
        Length,
        Length,
        PENDING,
        Each(&[Text, Bytes(8), OWN_PENDING]),
    ]),
];
static STREAM_3: &[Step] = &[
    NODES,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Each(&[
        Text,
        Length,
        Length,
        Length,
        PENDING,
        Each(&[Text, Bytes(8), Bytes(8), OWN_PENDING]),
    ]),
];
/// A module's value, or what it keeps beside the data: its number, and what it has written.
pub(super) static MODULE: &[Step] = &[Length, Module];

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it is there.
    Done,
    /// There must be at least so many bytes in all, counted from where the value begins.
    Needs(usize),
    /// There are bytes that are no such step.
    Damaged,
}

/// How far a value has been passed over.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// Programs under way: their steps, the next one, and how many times the whole is still to be done.
    stack: Vec<(&'static [Step], usize, u64)>,
    /// Bytes passed over.
    at: usize,
}

impl Measure {
    /// Begins with a program.
    pub(super) fn new(program: &'static [Step]) -> Measure {
        Measure {
            stack: vec![(program, 0, 1)],
            at: 0,
        }
    }

    /// The same behind a string.
    pub(super) fn behind_text(program: &'static [Step]) -> Measure {
        Measure {
            stack: vec![(program, 0, 1), (&[Text], 0, 1)],
            at: 0,
        }
    }

    /// Bytes passed over: after [`Found::Done`] the value's length.
    pub(super) fn len(&self) -> usize {
        self.at
    }

    /// Goes on; `bytes` begins where the value does, as in each call.
    pub(super) fn go_on(&mut self, bytes: &[u8]) -> Found {
        while let Some((steps, next, times)) = self.stack.last_mut() {
            let Some(step) = steps.get(*next) else {
                *times -= 1;
                *next = 0;
                if *times == 0 {
                    self.stack.pop();
                }
                continue;
            };
            let rest = bytes.get(self.at..).unwrap_or_default();
            let passed = match step {
                Bytes(len) => enough(rest, *len),
                Length => length(rest).map(|(_, len)| len),
                Text => text(rest),
                Score => score(rest),
                Each(inner) => match length(rest) {
                    Ok((0, len)) => Ok(len),
                    Ok((times, len)) => {
                        *next += 1;
                        self.at += len;
                        self.stack.push((inner, 0, times));
                        continue;
                    }
                    Err(short) => Err(short),
                },
                Module => match length(rest) {
                    // Its end is the opcode 0; each part is an opcode and what it says, passed over like a step of its own.
                    Ok((0, len)) => Ok(len),
                    Ok((opcode, len)) => match module_part(opcode, &rest[len..]) {
                        Ok(part) => {
                            self.at += len + part;
                            continue;
                        }
                        Err(short) => Err(short.behind(len)),
                    },
                    Err(short) => Err(short),
                },
            };
            match passed {
                Ok(len) => {
                    *next += 1;
                    self.at += len;
                }
                Err(Short::Needs(len)) => return Found::Needs(self.at.saturating_add(len)),
                Err(Short::Damaged) => return Found::Damaged,
            }
        }
        Found::Done
    }
}

/// Why a step was not passed over.
enum Short {
    /// It has so many bytes, of which some are missing.
    Needs(usize),
    Damaged,
}

impl Short {
    fn behind(self, before: usize) -> Short {
        match self {
            Short::Needs(len) => Short::Needs(len.saturating_add(before)),
            Short::Damaged => Short::Damaged,
        }
    }
}

fn enough(rest: &[u8], len: usize) -> Result<usize, Short> {
    if rest.len() >= len {
        Ok(len)
    } else {
        Err(Short::Needs(len))
    }
}

/// A length and the bytes that it takes.
fn length(rest: &[u8]) -> Result<(u64, usize), Short> {
    match string_form(rest) {
        StringForm::Short(len) => Err(Short::Needs(len)),
        StringForm::Plain { len, header } => Ok((len, header)),
        _ => Err(Short::Damaged),
    }
}

fn text(rest: &[u8]) -> Result<usize, Short> {
    match string_form(rest) {
        StringForm::Short(len) => Err(Short::Needs(len)),
        StringForm::Plain { len, header } => enough(rest, header + text_len(len)?),
        StringForm::Int(bytes) => enough(rest, 1 + bytes),
        StringForm::Packed => {
            let (packed, first) = length(&rest[1..]).map_err(|short| short.behind(1))?;
            let before = 1 + first;
            let (whole, second) = length(&rest[before..]).map_err(|short| short.behind(before))?;
            let packed = packed_len(packed, whole).map_err(|_| Short::Damaged)?;
            enough(rest, before + second + packed)
        }
        StringForm::Unknown => Err(Short::Damaged),
    }
}

fn text_len(len: u64) -> Result<usize, Short> {
    match usize::try_from(len) {
        Ok(len) if len <= STRING_BYTES_MAX => Ok(len),
        _ => Err(Short::Damaged),
    }
}

fn score(rest: &[u8]) -> Result<usize, Short> {
    match rest.first() {
        None => Err(Short::Needs(1)),
        Some(253..) => Ok(1),
        Some(len) => enough(rest, 1 + usize::from(*len)),
    }
}

fn module_part(opcode: u64, rest: &[u8]) -> Result<usize, Short> {
    match opcode {
        1 | 2 => length(rest).map(|(_, len)| len),
        3 => enough(rest, 4),
        4 => enough(rest, 8),
        5 => text(rest),
        _ => Err(Short::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::{Style, kind_of, write_body};
    use crate::{Limits, Rng, read_value};

    #[test]
    fn a_value_in_pieces_has_the_length_that_it_has_whole() {
        let mut rng = Rng::new(3);
        let mut shard = crate::Shard::new(1, (0..16384).map(crate::Slot), Limits::default(), 1);
        let key = crate::Key::new(0, b"k");
        let mut measured = 0;
        for _ in 0..4000 {
            let mut bytes = vec![rng.index(8) as u8, rng.index(6) as u8];
            for _ in 0..rng.index(12) {
                bytes.push(rng.index(4) as u8);
            }
            let Ok(value) = read_value(&bytes, &Limits::default()) else {
                continue;
            };
            shard.edit().put_value(&key, value, crate::Ttl::Clear);
            let Some(value) = shard.peek(&key) else {
                continue;
            };
            for version in 9..=11 {
                let style = Style {
                    version,
                    compress: true,
                    drops_field_deadlines: false,
                };
                let mut body = Vec::new();
                write_body(value, style, &mut body);
                let program = program(kind_of(value, style), false).unwrap();
                let mut measure = Measure::new(program);
                for cut in 0..body.len() {
                    match measure.go_on(&body[..cut]) {
                        Found::Needs(len) => assert!(len > cut && len <= body.len()),
                        found => panic!("{found:?} at {cut} of {}", body.len()),
                    }
                }
                body.push(0);
                assert_eq!(measure.go_on(&body), Found::Done);
                assert_eq!(measure.len(), body.len() - 1);
                measured += 1;
            }
        }
        assert!(measured > 500, "{measured}");
    }

    #[test]
    fn lengths_that_nothing_follows_cost_nothing() {
        let huge = [0x81, 255, 255, 255, 255, 255, 255, 255, 255];
        let mut measure = Measure::new(&[Each(&[Each(&[Text])])]);
        let bytes = [&huge[..], &huge, &[1, 2, 2, 2]].concat();
        assert_eq!(measure.go_on(&bytes), Found::Needs(bytes.len() + 1));
        assert!(measure.stack.len() <= 4);
        let mut measure = Measure::new(&[Text]);
        assert_eq!(measure.go_on(&huge), Found::Damaged);
    }
}
