//! Faults that the self-test plants, each a bug that a server could well have.
//!
//! A fault changes requests (the server then does the wrong thing and replies in good faith) or
//! replies (the server did right and says something else).

use protocol::answer::Answer;
use protocol::number;

/// A request's words.
pub(super) type Words = Vec<Vec<u8>>;

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// What it does wrong.
    pub(super) name: &'static str,
    /// Changes a request; true if it did.
    pub(super) request: fn(&mut Words) -> bool,
    /// Changes the reply to a request; true if it did.
    pub(super) reply: fn(&Words, &mut Answer) -> bool,
}

/// No fault: the proxy alone must change nothing.
pub(super) const NONE: Fault = Fault {
    name: "no fault",
    request: no_request,
    reply: no_reply,
};

/// All faults.
pub(super) const FAULTS: [Fault; 22] = [
    on_reply(
        "INCR and its family are off by one below zero",
        incr_below_zero,
    ),
    on_request("SET KEEPTTL loses the deadline", |words| {
        is(words, "SET") && drop_option(words, 3, "KEEPTTL", 0)
    }),
    on_request("ZRANGE REV LIMIT is off by one", zrange_offset),
    on_reply("the text of WRONGTYPE is another", wrongtype_text),
    on_reply("SMEMBERS is an array in RESP3", smembers_array),
    on_request("MSET loses its last pair", |words| {
        is(words, "MSET") && words.len() >= 5 && shorten(words, 2)
    }),
    on_request("SINTERCARD ignores LIMIT", |words| {
        is(words, "SINTERCARD") && drop_option(words, 3, "LIMIT", 1)
    }),
    on_reply("ZSCORE is a string in RESP3", zscore_string),
    on_reply(
        "SRANDMEMBER with a negative count gives one less",
        srandmember_less,
    ),
    on_reply(
        "OBJECT ENCODING calls compact hashes hashtable",
        encoding_name,
    ),
    on_reply("EXEC exchanges its last two replies", exec_order),
    on_reply(
        "EXEC that was aborted is a null string in RESP2",
        |words, reply| is(words, "EXEC") && *reply == Answer::NullArray && put(reply, Answer::Null),
    ),
    on_reply("SCAN loses a key per page", scan_loses),
    on_request("WATCH does nothing", watch_nothing),
    on_request("GETEX PERSIST keeps the deadline", |words| {
        is(words, "GETEX") && drop_option(words, 2, "PERSIST", 0)
    }),
    on_request("EXPIRE GT is unconditional", |words| {
        is(words, "EXPIRE") && drop_option(words, 3, "GT", 0)
    }),
    on_request("near deadlines of SET PX are ignored", near_deadline),
    on_reply("HGETALL exchanges two values", hgetall_values),
    on_request("LREM with a negative count begins at the head", lrem_head),
    on_request("LINSERT AFTER inserts before", |words| {
        is(words, "LINSERT")
            && words.get(2).is_some_and(|word| word == b"AFTER")
            && replace(words, 2, b"BEFORE")
    }),
    on_request("SPOP keeps the member", |words| {
        is(words, "SPOP") && words.len() == 2 && replace(words, 0, b"SRANDMEMBER")
    }),
    on_request("COPY ignores DB", |words| {
        is(words, "COPY") && drop_option(words, 3, "DB", 1)
    }),
];

const fn on_request(name: &'static str, request: fn(&mut Words) -> bool) -> Fault {
    Fault {
        name,
        request,
        reply: no_reply,
    }
}

const fn on_reply(name: &'static str, reply: fn(&Words, &mut Answer) -> bool) -> Fault {
    Fault {
        name,
        request: no_request,
        reply,
    }
}

fn no_request(_: &mut Words) -> bool {
    false
}

fn no_reply(_: &Words, _: &mut Answer) -> bool {
    false
}

fn is(words: &Words, name: &str) -> bool {
    words
        .first()
        .is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()))
}

fn position(words: &Words, from: usize, option: &str) -> Option<usize> {
    let found = words
        .iter()
        .skip(from)
        .position(|word| word.eq_ignore_ascii_case(option.as_bytes()))?;
    Some(found + from)
}

/// Removes an option and the arguments after it.
fn drop_option(words: &mut Words, from: usize, option: &str, arguments: usize) -> bool {
    let Some(at) = position(words, from, option) else {
        return false;
    };
    let end = (at + 1 + arguments).min(words.len());
    words.drain(at..end);
    true
}

fn shorten(words: &mut Words, by: usize) -> bool {
    words.truncate(words.len() - by);
    true
}

fn replace(words: &mut Words, at: usize, with: &[u8]) -> bool {
    match words.get_mut(at) {
        Some(word) => {
            *word = with.to_vec();
            true
        }
        None => false,
    }
}

fn put(reply: &mut Answer, with: Answer) -> bool {
    *reply = with;
    true
}

fn incr_below_zero(words: &Words, reply: &mut Answer) -> bool {
    let family = ["INCR", "DECR", "INCRBY", "DECRBY"]
        .iter()
        .any(|name| is(words, name));
    match reply {
        Answer::Int(number) if family && *number < 0 => {
            *number = number.saturating_add(1);
            true
        }
        _ => false,
    }
}

fn zrange_offset(words: &mut Words) -> bool {
    if !is(words, "ZRANGE") || position(words, 4, "REV").is_none() {
        return false;
    }
    let at = position(words, 4, "LIMIT").map(|at| at + 1);
    let offset = at
        .and_then(|at| words.get(at))
        .and_then(|word| number::parse_i64(word));
    match (at, offset) {
        (Some(at), Some(offset)) => {
            replace(words, at, offset.wrapping_add(1).to_string().as_bytes())
        }
        _ => false,
    }
}

fn wrongtype_text(_: &Words, reply: &mut Answer) -> bool {
    let wrong = matches!(reply, Answer::Error(text) if text.starts_with(b"WRONGTYPE"));
    wrong
        && put(
            reply,
            Answer::Error(
                b"WRONGTYPE Operation against a key holding a wrong kind of value".to_vec(),
            ),
        )
}

fn smembers_array(words: &Words, reply: &mut Answer) -> bool {
    match reply {
        Answer::Set(members) if is(words, "SMEMBERS") => {
            let members = std::mem::take(members);
            put(reply, Answer::Array(members))
        }
        _ => false,
    }
}

fn zscore_string(words: &Words, reply: &mut Answer) -> bool {
    match reply {
        Answer::Double(text) if is(words, "ZSCORE") => {
            let text = std::mem::take(text);
            put(reply, Answer::Bulk(text))
        }
        _ => false,
    }
}

fn srandmember_less(words: &Words, reply: &mut Answer) -> bool {
    let negative = words.get(2).is_some_and(|count| count.starts_with(b"-"));
    match reply {
        Answer::Array(members) if is(words, "SRANDMEMBER") && negative => members.pop().is_some(),
        _ => false,
    }
}

fn encoding_name(words: &Words, reply: &mut Answer) -> bool {
    let hash = words.get(2).is_some_and(|key| key.starts_with(b"h:"));
    is(words, "OBJECT")
        && hash
        && *reply == Answer::Bulk(b"listpack".to_vec())
        && put(reply, Answer::Bulk(b"hashtable".to_vec()))
}

fn exec_order(words: &Words, reply: &mut Answer) -> bool {
    match reply {
        Answer::Array(members) if is(words, "EXEC") && members.len() > 1 => {
            let last = members.len() - 1;
            members.swap(last, last - 1);
            true
        }
        _ => false,
    }
}

fn scan_loses(words: &Words, reply: &mut Answer) -> bool {
    match reply {
        Answer::Array(parts) if is(words, "SCAN") => match parts.get_mut(1) {
            Some(Answer::Array(keys)) => keys.pop().is_some(),
            _ => false,
        },
        _ => false,
    }
}

/// WATCH between MULTI and EXEC (of key `k`, see scenarios.rs) is left alone.
fn watch_nothing(words: &mut Words) -> bool {
    let watch = is(words, "WATCH") && words.get(1).is_some_and(|key| key != b"k");
    watch && put_words(words, &[b"UNWATCH"])
}

fn put_words(words: &mut Words, with: &[&[u8]]) -> bool {
    *words = with.iter().map(|word| word.to_vec()).collect();
    true
}

fn near_deadline(words: &mut Words) -> bool {
    let near = words.get(4).is_some_and(|ms| {
        ms.len() <= 3 && !ms.starts_with(b"0") && ms.iter().all(u8::is_ascii_digit)
    });
    is(words, "SET") && near && drop_option(words, 3, "PX", 1)
}

fn hgetall_values(words: &Words, reply: &mut Answer) -> bool {
    if !is(words, "HGETALL") {
        return false;
    }
    match reply {
        Answer::Array(items) if items.len() >= 4 => {
            items.swap(1, 3);
            true
        }
        Answer::Map(pairs) => match pairs.as_mut_slice() {
            [first, second, ..] => {
                std::mem::swap(&mut first.1, &mut second.1);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn lrem_head(words: &mut Words) -> bool {
    let count = words
        .get(2)
        .and_then(|word| word.strip_prefix(b"-"))
        .map(<[u8]>::to_vec);
    match count {
        Some(count) if is(words, "LREM") => replace(words, 2, &count),
        _ => false,
    }
}
