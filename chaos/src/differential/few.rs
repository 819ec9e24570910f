//! Arguments of scenes in lock step: so few keys and channels that all connections meet at them.

use super::values::Draft;
use crate::rng::Rng;

/// What a word of a client number begins with until it is sent: each server has its own numbers.
pub(super) const PEER: &[u8] = b"\x01peer:";
/// Most connections of a scene.
pub(super) const PEERS_MAX: usize = 6;
/// In how many of 100 cases a key is of another type's.
const STRANGER_PERCENT: usize = 10;

/// A kind of argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Few {
    List,
    Zset,
    Stream,
    Text,
    Any,
    Lists,
    Zsets,
    Element,
    Entry,
    Peer,
    Wait,
    WaitMs,
    Brief,
    BriefMs,
    Channel,
    Pattern,
    Events,
    Prefix,
    Script,
    Publish,
}

/// The names in templates.
const NAMES: [(&str, Few); 20] = [
    ("fl", Few::List),
    ("fz", Few::Zset),
    ("fq", Few::Stream),
    ("fs", Few::Text),
    ("fk", Few::Any),
    ("n:fl", Few::Lists),
    ("n:fz", Few::Zsets),
    ("fe", Few::Element),
    ("fid", Few::Entry),
    ("peer", Few::Peer),
    ("wait", Few::Wait),
    ("waitms", Few::WaitMs),
    ("brief", Few::Brief),
    ("briefms", Few::BriefMs),
    ("channel", Few::Channel),
    ("pattern", Few::Pattern),
    ("events", Few::Events),
    ("prefix", Few::Prefix),
    ("fscript", Few::Script),
    ("pubscript", Few::Publish),
];

/// What stands before the keys of a scene whose keys are all in one slot.
pub(super) const TAG: &str = "{one}";
/// Letters and numbers of the keys, by type.
const KEYS: [(Few, &str, usize); 4] = [
    (Few::List, "kl", 3),
    (Few::Zset, "kz", 2),
    (Few::Stream, "kq", 2),
    (Few::Text, "ks", 2),
];

/// Scripts of two keys and an element.
const SCRIPTS: [&str; 9] = [
    "return redis.pcall('rpush', KEYS[1], ARGV[1], 'y')",
    "redis.pcall('rpush', KEYS[1], ARGV[1]) return redis.pcall('lpop', KEYS[1])",
    "redis.pcall('del', KEYS[2]) return redis.pcall('rename', KEYS[1], KEYS[2])",
    "redis.call('rpush', KEYS[1], ARGV[1]) error('after')",
    // (Both are read: before 7.2 all keys of a script are tracked once it has read any.)
    "redis.call('exists', KEYS[1], KEYS[2]) local v = redis.call('dump', KEYS[2]) if v then return redis.pcall('restore', KEYS[1], 0, v, 'replace') end",
    "return redis.pcall('zadd', KEYS[2], 1, ARGV[1])",
    "redis.call('del', KEYS[1]) redis.call('rpush', KEYS[1], 1, 2, 3) return redis.call('ltrim', KEYS[1], 1, 1)",
    "return redis.pcall('set', KEYS[2], ARGV[1])",
    "redis.call('del', KEYS[2]) return redis.pcall('sort', KEYS[1], 'alpha', 'store', KEYS[2])",
];
/// Scripts of a channel and a message.
const PUBLISHERS: [&str; 3] = [
    "return redis.call('publish', ARGV[1], ARGV[2])",
    "redis.call('spublish', ARGV[1], ARGV[2]) return redis.call('publish', ARGV[1], ARGV[2])",
    "return redis.pcall('subscribe', ARGV[1])",
];

/// All keys, without tags and with them.
pub(super) fn keys() -> impl Iterator<Item = String> {
    let plain = KEYS
        .iter()
        .flat_map(|(_, letters, count)| (0..*count).map(move |n| format!("{letters}:{n}")));
    plain.flat_map(|key| [format!("{TAG}{key}"), key])
}

impl Few {
    /// Reads the name between the angle brackets.
    pub(super) fn parse(name: &str) -> Option<Few> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, few)| *few)
    }

    /// The name in templates.
    pub(super) fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, few)| *few == self);
        found.map_or("?", |(name, _)| name)
    }

    /// Appends a random argument of this kind.
    pub(super) fn write(self, rng: &mut Rng, draft: &mut Draft) {
        match self {
            Few::List | Few::Zset | Few::Stream | Few::Text | Few::Any => {
                push_key(self, rng, draft);
            }
            Few::Lists | Few::Zsets => {
                let count = 1 + rng.below(3);
                draft.words.push(count.to_string().into_bytes());
                let kind = if self == Few::Lists {
                    Few::List
                } else {
                    Few::Zset
                };
                (0..count).for_each(|_| push_key(kind, rng, draft));
            }
            word => {
                let word = word.word(rng);
                draft.words.push(word);
            }
        }
    }

    fn word(self, rng: &mut Rng) -> Vec<u8> {
        match self {
            Few::Peer => [PEER, rng.below(PEERS_MAX).to_string().as_bytes()].concat(),
            Few::Entry => rng.text(&["0", "0-1", "1-1", "2-0", "2-1", "3-1", "4-0", "5-5"]),
            Few::Wait if rng.percent(4) => rng.text(&["-1", "abc", "", "nan", "9999999999999999"]),
            Few::Wait => rng.text(&["0", "0", "1000", "500.5"]),
            Few::WaitMs if rng.percent(4) => rng.text(&["-1", "abc", "1.5"]),
            Few::WaitMs => rng.text(&["0", "0", "1000000"]),
            Few::Brief => rng.text(&["0.01", "0.02", "0.04"]),
            Few::BriefMs => rng.text(&["10", "20", "40"]),
            Few::Channel => rng.text(&["news.1", "news.1", "news.2", "chat", ""]),
            Few::Pattern => rng.text(&["news.*", "news.?", "*", "c[gh]at", "nosuch*"]),
            Few::Events => rng.text(&[
                "KEA",
                "KEA",
                "KA",
                "EA",
                "KEg$lshzxetnm",
                "KEmn",
                "KEgx",
                "Klz",
                "E$h",
                "KEAmn",
                "",
            ]),
            Few::Prefix => rng.text(&["k", "kl", "kz:", "ks:0", "x"]),
            Few::Script => rng.text(&SCRIPTS),
            Few::Publish => rng.text(&PUBLISHERS),
            _ => rng.text(&["a", "b", "c", "10", "x\r\ny"]),
        }
    }
}

fn push_key(kind: Few, rng: &mut Rng, draft: &mut Draft) {
    let own = KEYS.iter().find(|(known, ..)| *known == kind);
    let own = own.filter(|_| !rng.percent(STRANGER_PERCENT));
    let place = own.or_else(|| rng.pick(&KEYS));
    let (_, letters, count) = place.copied().unwrap_or((kind, "k", 1));
    let key = format!("{letters}:{}", rng.below(count)).into_bytes();
    if draft.keys.is_empty() {
        draft.same.clone_from(&key);
    }
    draft.keys.push(draft.words.len());
    draft.words.push(key);
}
