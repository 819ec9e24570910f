//! A model of one key of Redis: a string, list, hash, set or sorted set, in the plainest way. For the checker of histories.

use std::collections::{BTreeMap, BTreeSet};

use protocol::answer::Answer;

use crate::check::linear::Model;

/// Bytes.
type Text = Vec<u8>;

/// What a key holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Value {
    /// Nothing.
    #[default]
    None,
    /// A string.
    Str(Text),
    /// A list.
    List(Vec<Text>),
    /// A hash.
    Hash(BTreeMap<Text, Text>),
    /// A set.
    Set(BTreeSet<Text>),
    /// A sorted set: whole scores.
    Zset(BTreeMap<Text, i64>),
}

/// One call on a key; a key is only ever used as one type, or deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of Redis's commands")]
pub(crate) enum Op {
    Get,
    Set(Text),
    SetNx(Text),
    GetSet(Text),
    GetDel,
    Append(Text),
    StrLen,
    IncrBy(i64),
    Del,
    /// The value was this, and is now that: a WATCH that held.
    Cas(Text, Text),
    Push {
        left: bool,
        text: Text,
    },
    Pop {
        left: bool,
    },
    Len,
    All,
    HSet(Text, Text),
    HGet(Text),
    HDel(Text),
    HIncrBy(Text, i64),
    HGetAll,
    SAdd(Text),
    SRem(Text),
    SIsMember(Text),
    SMembers,
    SPop,
    ZAdd(Text, i64),
    ZRem(Text),
    ZScore(Text),
    ZIncrBy(Text, i64),
    ZRange,
    ZPopMin,
}

/// See the module's head.
pub(crate) struct Values;

impl Model for Values {
    type State = Value;
    type Op = Op;
    type Out = Answer;

    fn step(state: &Value, op: &Op, out: Option<&Answer>) -> Vec<Value> {
        // The one call that the model cannot foretell: any member may be taken.
        if let (Op::SPop, Value::Set(members)) = (op, state) {
            let taken = members.iter().filter(|member| match out {
                Some(out) => *out == bulk(member),
                None => true,
            });
            return taken.map(|member| without(members, member)).collect();
        }
        let (next, would) = apply(state.clone(), op);
        match out {
            Some(out) if !same(op, out, &would) => Vec::new(),
            _ => vec![next],
        }
    }
}

/// Whether a reply is what it should be: members of hashes and sets come in any order.
fn same(op: &Op, out: &Answer, would: &Answer) -> bool {
    match (op, out, would) {
        (Op::SMembers, Answer::Array(out), Answer::Array(would)) => {
            out.len() == would.len() && would.iter().all(|member| out.contains(member))
        }
        (Op::HGetAll, Answer::Array(out), Answer::Array(would)) => {
            let (out, _) = out.as_chunks::<2>();
            let (would, _) = would.as_chunks::<2>();
            out.len() == would.len() && would.iter().all(|pair| out.contains(pair))
        }
        (_, out, Answer::Error(_)) => out.is_error(),
        (_, out, would) => out == would,
    }
}

fn without(members: &BTreeSet<Text>, member: &Text) -> Value {
    let mut members = members.clone();
    members.remove(member);
    set(members)
}

fn bulk(text: &Text) -> Answer {
    Answer::Bulk(text.clone())
}

fn int(n: usize) -> Answer {
    Answer::Int(n as i64)
}

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

fn maybe(text: Option<&Text>) -> Answer {
    text.map_or(Answer::Null, bulk)
}

fn number(text: &Text) -> Option<i64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn digits(n: i64) -> Text {
    n.to_string().into_bytes()
}

fn set(members: BTreeSet<Text>) -> Value {
    if members.is_empty() {
        Value::None
    } else {
        Value::Set(members)
    }
}

fn hash(fields: BTreeMap<Text, Text>) -> Value {
    if fields.is_empty() {
        Value::None
    } else {
        Value::Hash(fields)
    }
}

fn zset(scores: BTreeMap<Text, i64>) -> Value {
    if scores.is_empty() {
        Value::None
    } else {
        Value::Zset(scores)
    }
}

fn list(items: Vec<Text>) -> Value {
    if items.is_empty() {
        Value::None
    } else {
        Value::List(items)
    }
}

/// What a call does, and what it returns.
fn apply(state: Value, op: &Op) -> (Value, Answer) {
    match op {
        Op::Del => {
            let was = Answer::Int(i64::from(state != Value::None));
            (Value::None, was)
        }
        Op::Get
        | Op::Set(_)
        | Op::SetNx(_)
        | Op::GetSet(_)
        | Op::GetDel
        | Op::Append(_)
        | Op::StrLen
        | Op::IncrBy(_)
        | Op::Cas(..) => apply_string(state, op),
        Op::Push { .. } | Op::Pop { .. } | Op::Len | Op::All => apply_list(state, op),
        Op::HSet(..) | Op::HGet(_) | Op::HDel(_) | Op::HIncrBy(..) | Op::HGetAll => {
            apply_hash(state, op)
        }
        Op::SAdd(_) | Op::SRem(_) | Op::SIsMember(_) | Op::SMembers | Op::SPop => {
            apply_set(state, op)
        }
        _ => apply_zset(state, op),
    }
}

fn apply_string(state: Value, op: &Op) -> (Value, Answer) {
    let text = match &state {
        Value::Str(text) => Some(text.clone()),
        _ => None,
    };
    match op {
        Op::Set(new) => (Value::Str(new.clone()), ok()),
        Op::SetNx(new) if text.is_none() => (Value::Str(new.clone()), Answer::Int(1)),
        Op::SetNx(_) => (state, Answer::Int(0)),
        Op::GetSet(new) => (Value::Str(new.clone()), maybe(text.as_ref())),
        Op::GetDel => (Value::None, maybe(text.as_ref())),
        Op::Append(more) => {
            let mut text = text.unwrap_or_default();
            text.extend_from_slice(more);
            let len = int(text.len());
            (Value::Str(text), len)
        }
        Op::StrLen => (state, int(text.map_or(0, |text| text.len()))),
        Op::IncrBy(by) => {
            let n = text.as_ref().map_or(Some(0), number);
            match n.and_then(|n| n.checked_add(*by)) {
                Some(n) => (Value::Str(digits(n)), Answer::Int(n)),
                None => (state, Answer::Error(Vec::new())),
            }
        }
        // (That it held is the reply; the caller turns EXEC's into it.)
        Op::Cas(from, to) if text.as_ref() == Some(from) => (Value::Str(to.clone()), ok()),
        Op::Cas(..) => (state, Answer::Null),
        _ => (state, maybe(text.as_ref())),
    }
}

fn apply_list(state: Value, op: &Op) -> (Value, Answer) {
    let mut items = match state {
        Value::List(items) => items,
        _ => Vec::new(),
    };
    let out = match op {
        Op::Push { left, text } => {
            let at = if *left { 0 } else { items.len() };
            items.insert(at, text.clone());
            int(items.len())
        }
        Op::Pop { .. } if items.is_empty() => Answer::Null,
        Op::Pop { left } => {
            let at = if *left { 0 } else { items.len() - 1 };
            Answer::Bulk(items.remove(at))
        }
        Op::Len => int(items.len()),
        _ => Answer::Array(items.iter().map(bulk).collect()),
    };
    (list(items), out)
}

fn apply_hash(state: Value, op: &Op) -> (Value, Answer) {
    let mut fields = match state {
        Value::Hash(fields) => fields,
        _ => BTreeMap::new(),
    };
    let out = match op {
        Op::HSet(field, value) => {
            let old = fields.insert(field.clone(), value.clone());
            Answer::Int(i64::from(old.is_none()))
        }
        Op::HGet(field) => maybe(fields.get(field)),
        Op::HDel(field) => Answer::Int(i64::from(fields.remove(field).is_some())),
        Op::HIncrBy(field, by) => {
            let n = fields.get(field).and_then(number).unwrap_or_default() + by;
            fields.insert(field.clone(), digits(n));
            Answer::Int(n)
        }
        _ => Answer::Array(
            fields
                .iter()
                .flat_map(|(field, value)| [bulk(field), bulk(value)])
                .collect(),
        ),
    };
    (hash(fields), out)
}

fn apply_set(state: Value, op: &Op) -> (Value, Answer) {
    let mut members = match state {
        Value::Set(members) => members,
        _ => BTreeSet::new(),
    };
    let out = match op {
        Op::SAdd(member) => Answer::Int(i64::from(members.insert(member.clone()))),
        Op::SRem(member) => Answer::Int(i64::from(members.remove(member))),
        Op::SIsMember(member) => Answer::Int(i64::from(members.contains(member))),
        // Of an empty set; others are not foretold.
        Op::SPop => Answer::Null,
        _ => Answer::Array(members.iter().map(bulk).collect()),
    };
    (set(members), out)
}

fn apply_zset(state: Value, op: &Op) -> (Value, Answer) {
    let mut scores = match state {
        Value::Zset(scores) => scores,
        _ => BTreeMap::new(),
    };
    let least = |scores: &BTreeMap<Text, i64>| {
        let mut order: Vec<_> = scores.iter().map(|(m, s)| (*s, m.clone())).collect();
        order.sort();
        order
    };
    let out = match op {
        Op::ZAdd(member, score) => {
            Answer::Int(i64::from(scores.insert(member.clone(), *score).is_none()))
        }
        Op::ZRem(member) => Answer::Int(i64::from(scores.remove(member).is_some())),
        Op::ZScore(member) => maybe(scores.get(member).map(|score| digits(*score)).as_ref()),
        Op::ZIncrBy(member, by) => {
            let score = scores.entry(member.clone()).or_default();
            *score += by;
            Answer::Bulk(digits(*score))
        }
        Op::ZPopMin => match least(&scores).into_iter().next() {
            Some((score, member)) => {
                scores.remove(&member);
                Answer::Array(vec![Answer::Bulk(member), Answer::Bulk(digits(score))])
            }
            None => Answer::Array(Vec::new()),
        },
        _ => {
            let pairs = least(&scores).into_iter();
            Answer::Array(
                pairs
                    .flat_map(|(score, member)| [Answer::Bulk(member), Answer::Bulk(digits(score))])
                    .collect(),
            )
        }
    };
    (zset(scores), out)
}

impl Op {
    /// Whether it changes nothing, whatever the key holds.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(
            self,
            Op::Get
                | Op::StrLen
                | Op::Len
                | Op::All
                | Op::HGet(_)
                | Op::HGetAll
                | Op::SIsMember(_)
                | Op::SMembers
                | Op::ZScore(_)
                | Op::ZRange
        )
    }

    /// The request; none for what is more than one.
    pub(crate) fn words(&self, key: &[u8]) -> Vec<Text> {
        let n;
        let (name, rest): (&str, &[&[u8]]) = match self {
            Op::Get => ("GET", &[]),
            Op::Set(text) => ("SET", &[text]),
            Op::SetNx(text) => ("SETNX", &[text]),
            Op::GetSet(text) => ("GETSET", &[text]),
            Op::GetDel => ("GETDEL", &[]),
            Op::Append(text) => ("APPEND", &[text]),
            Op::StrLen => ("STRLEN", &[]),
            Op::IncrBy(by) => {
                n = digits(*by);
                ("INCRBY", &[&n])
            }
            Op::Del => ("DEL", &[]),
            Op::Cas(_, to) => ("SET", &[to]),
            Op::Push { left: true, text } => ("LPUSH", &[text]),
            Op::Push { left: false, text } => ("RPUSH", &[text]),
            Op::Pop { left: true } => ("LPOP", &[]),
            Op::Pop { left: false } => ("RPOP", &[]),
            Op::Len => ("LLEN", &[]),
            Op::All => ("LRANGE", &[b"0", b"-1"]),
            Op::HSet(field, value) => ("HSET", &[field, value]),
            Op::HGet(field) => ("HGET", &[field]),
            Op::HDel(field) => ("HDEL", &[field]),
            Op::HIncrBy(field, by) => {
                n = digits(*by);
                ("HINCRBY", &[field, &n])
            }
            Op::HGetAll => ("HGETALL", &[]),
            Op::SAdd(member) => ("SADD", &[member]),
            Op::SRem(member) => ("SREM", &[member]),
            Op::SIsMember(member) => ("SISMEMBER", &[member]),
            Op::SMembers => ("SMEMBERS", &[]),
            Op::SPop => ("SPOP", &[]),
            Op::ZAdd(member, score) => {
                n = digits(*score);
                ("ZADD", &[&n, member])
            }
            Op::ZRem(member) => ("ZREM", &[member]),
            Op::ZScore(member) => ("ZSCORE", &[member]),
            Op::ZIncrBy(member, by) => {
                n = digits(*by);
                ("ZINCRBY", &[&n, member])
            }
            Op::ZRange => ("ZRANGE", &[b"0", b"-1", b"WITHSCORES"]),
            Op::ZPopMin => ("ZPOPMIN", &[]),
        };
        let words = [name.as_bytes(), key].into_iter();
        let words = words.chain(rest.iter().copied());
        words.map(<[u8]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Op, Value, Values};
    use crate::check::linear::{Call, Verdict, judge};
    use protocol::answer::Answer;

    #[test]
    fn one_call_after_the_other_must_return_what_redis_returns() {
        let text = |text: &str| text.as_bytes().to_vec();
        let bulk = |text: &str| Answer::Bulk(text.as_bytes().to_vec());
        let calls = |outs: [Answer; 5]| -> Vec<_> {
            let ops = [
                Op::Push {
                    left: true,
                    text: text("a"),
                },
                Op::Push {
                    left: false,
                    text: text("b"),
                },
                Op::All,
                Op::Pop { left: false },
                Op::Len,
            ];
            let timed = ops.into_iter().zip(outs).zip(1..);
            timed
                .map(|((op, out), at)| Call {
                    op,
                    out: Some(out),
                    begin: at * 2,
                    end: Some(at * 2 + 1),
                })
                .collect()
        };
        let both = Answer::Array(vec![bulk("a"), bulk("b")]);
        let right = [
            Answer::Int(1),
            Answer::Int(2),
            both,
            bulk("b"),
            Answer::Int(1),
        ];
        let judged = |outs| judge::<Values>(Value::None, &calls(outs));
        assert_eq!(judged(right.clone()), Verdict::Linear);
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] = bulk("x");
            assert_eq!(judged(wrong), Verdict::Broken, "{at}");
        }
    }
}
