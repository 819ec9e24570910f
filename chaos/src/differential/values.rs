//! Random arguments: keys of small pools, so that commands meet each other's values, and values
//! at the edges where servers go wrong.
//!
//! Deadlines are far away or long past: a reply must not depend on how fast a server is. Near
//! ones have a phase of their own (expiry.rs).

use super::coverage::Mark;
use super::few::Few;
use super::scripts;
use crate::rng::Rng;

/// In how many of 100 cases a number is none.
const JUNK_PERCENT: usize = 2;
/// In how many of 100 cases a key is of another type's pool, and is nowhere.
const STRANGER_PERCENT: usize = 4;
const NOWHERE_PERCENT: usize = 2;
/// Keys of the pool `Lex`.
const LEX_KEYS: usize = 8;
/// Seconds until far deadlines; the range is wide so that two of them are never close, which
/// would make GT and LT a matter of milliseconds.
const FAR_S: (i64, i64) = (2_000, 100_000_000);
/// The same as unix time: the years 2096 to 2101.
const FAR_AT_S: (i64, i64) = (3_976_000_000, 4_134_000_000);
/// Milliseconds per second.
const MS: i64 = 1000;
/// Numbers where 64 bits, 32 bits and doubles end.
const EDGES: [&str; 12] = [
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "9223372036854775806",
    "18446744073709551615",
    "4294967296",
    "2147483647",
    "-2147483648",
    "9007199254740993",
    "-0",
    "1000000000000",
];
const NO_INTS: [&str; 10] = [
    "abc", "", "1x", " 1", "1 ", "0x10", "1.5", "+5", "00", "1e3",
];
const NO_FLOATS: [&str; 7] = ["abc", "", "nan", "1.5x", " 1", "0x", "--1"];

/// What a draft grows into.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The words so far.
    pub(super) words: Vec<Vec<u8>>,
    /// Which of them are keys.
    pub(super) keys: Vec<usize>,
    /// The command and the options in it.
    pub(super) marks: Vec<Mark>,
    /// Keys counted by the last `<n:...>`.
    pub(super) numkeys: usize,
    /// The key of the request before, for `<same>`.
    pub(super) same: Vec<u8>,
}

/// The pools of keys: a letter and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    /// Strings.
    Str,
    /// Strings used as bitmaps.
    Bit,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    Zset,
    /// Hashes.
    Hash,
    /// Collections of numbers only, for SORT and compact encodings.
    Nums,
    /// Numbers that SORT BY looks up.
    Weight,
    /// Sorted sets of positions.
    Geo,
    /// HyperLogLogs.
    Hll,
    /// Sorted sets whose scores are all 0; no other command may write to them.
    Lex,
    /// Streams.
    Stream,
    /// One of all.
    Any,
}

const POOLS: [(Pool, &str, usize); 11] = [
    (Pool::Str, "s", 30),
    (Pool::Bit, "b", 12),
    (Pool::List, "l", 26),
    (Pool::Set, "t", 26),
    (Pool::Zset, "z", 30),
    (Pool::Hash, "h", 26),
    (Pool::Nums, "n", 12),
    (Pool::Weight, "w", 30),
    (Pool::Geo, "g", 20),
    (Pool::Hll, "y", 20),
    (Pool::Stream, "q", 20),
];

macro_rules! kinds {
    ($($kind:ident $name:literal)+) => {
        /// What an argument is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            /// A key.
            Key(Pool),
            /// A key that is overwritten: mostly of the part of the pool that is not hot.
            Target(Pool),
            /// A number of keys, and the keys.
            Counted(Pool),
            /// An argument of a scene in lock step.
            Few(Few),
            $(#[doc = concat!("`<", $name, ">`")] $kind,)+
        }

        const KINDS: &[(&str, Kind)] = &[
            ("str", Kind::Key(Pool::Str)), ("bit", Kind::Key(Pool::Bit)), ("list", Kind::Key(Pool::List)),
            ("set", Kind::Key(Pool::Set)), ("zset", Kind::Key(Pool::Zset)), ("hash", Kind::Key(Pool::Hash)),
            ("nums", Kind::Key(Pool::Nums)), ("weightkey", Kind::Key(Pool::Weight)), ("lexkey", Kind::Key(Pool::Lex)), ("stream", Kind::Key(Pool::Stream)), ("any", Kind::Key(Pool::Any)),
            ("set:to", Kind::Target(Pool::Set)), ("zset:to", Kind::Target(Pool::Zset)), ("list:to", Kind::Target(Pool::List)),
            ("bit:to", Kind::Target(Pool::Bit)), ("n:set", Kind::Counted(Pool::Set)), ("n:zset", Kind::Counted(Pool::Zset)), ("n:list", Kind::Counted(Pool::List)),
            ("geo", Kind::Key(Pool::Geo)), ("geo:to", Kind::Target(Pool::Geo)), ("hll", Kind::Key(Pool::Hll)), ("hll:to", Kind::Target(Pool::Hll)),
            $(($name, Kind::$kind),)+
        ];
    };
}

kinds! {
    Same "same" Value "val" Int "int" Step "step" Float "float" Small "small" Index "idx" ByteOffset "off"
    BitOffset "bitoff" Bit "bit01" BitType "bittype" FieldOffset "bitfieldoff" Field "field" Member "member"
    Score "score" ScoreBound "scorebound" LexBound "lex" Seconds "sec" Milliseconds "ms" AtSeconds "at"
    AtMilliseconds "atms" PastSeconds "past" PastMilliseconds "pastms" Count "count" Positive "pcount"
    ScanCount "scancount" Rank "rank" Glob "glob" Db "db" NoDb "nodb" Weights "weights" Weight "weight"
    By "by" Get "get" Entries "entries" Bytes "bytes" ListSize "listsize" Word "word" Junk "junk" NoCursor "nocursor" Name "name" Skip "skip" Index32 "idx32" Repeated "repeated" IntsetEntries "intsetentries" ListpackEntries "listpackentries" Request "request"
    AclUser "acluser" AclKept "aclkept" AclRule "aclrule"
    Longitude "lon" Latitude "lat" Radius "radius" Unit "unit" Element "element" SparseBytes "sparsebytes" Payload "payload"
    NewId "newid" EntryId "id" IdBound "idbound" GroupName "group" Consumer "consumer" MinIdle "minidle" NodeEntries "nodeentries" NodeBytes "nodebytes"
    LibScript "libscript" KeyScript "keyscript" BadScript "badscript" ShaScript "shascript" Library "library" Function "function"
}

impl Kind {
    /// Reads `<name>`.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let name = token.strip_prefix('<')?.strip_suffix('>')?;
        KINDS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .or_else(|| Few::parse(name).map(Kind::Few))
    }

    /// The name it has in templates.
    pub(super) fn name(self) -> &'static str {
        if let Kind::Few(few) = self {
            return few.name();
        }
        KINDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("?", |(name, _)| name)
    }

    /// True for deadlines.
    pub(super) fn is_time(self) -> bool {
        use Kind::{
            AtMilliseconds, AtSeconds, Milliseconds, PastMilliseconds, PastSeconds, Seconds,
        };
        matches!(
            self,
            Seconds | Milliseconds | AtSeconds | AtMilliseconds | PastSeconds | PastMilliseconds
        )
    }
}

/// Appends a random argument of this kind.
pub(super) fn write(kind: Kind, rng: &mut Rng, draft: &mut Draft) {
    match kind {
        Kind::Key(pool) => push_key(pool, rng, draft),
        Kind::Target(pool) => push_target(pool, rng, draft),
        Kind::Counted(pool) => push_counted(pool, rng, draft),
        Kind::Few(few) => few.write(rng, draft),
        Kind::LibScript => draft.words.push(scripts::library_script(rng)),
        Kind::KeyScript => draft.words.push(scripts::key_script(rng)),
        Kind::BadScript => draft.words.push(scripts::bad_script(rng)),
        Kind::ShaScript => draft.words.push(scripts::digest(rng)),
        Kind::Library => draft.words.push(scripts::library(rng)),
        Kind::Function => draft.words.push(scripts::function(rng)),
        // generate.rs appends a request of the catalogue.
        Kind::Request => {}
        Kind::Same => {
            draft.keys.push(draft.words.len());
            let same = draft.same.clone();
            draft.words.push(same);
        }
        Kind::Weights => {
            for _ in 0..draft.numkeys {
                let weight = weight(rng);
                draft.words.push(weight);
            }
        }
        other => {
            let word = word(other, rng);
            draft.words.push(word);
        }
    }
}

/// A key of the pool: `s:4`, or `{tag}s:7`.
pub(super) fn key_name(pool: Pool, number: usize) -> Vec<u8> {
    let letter = POOLS
        .iter()
        .find(|(known, ..)| *known == pool)
        .map_or("x", |(_, letter, _)| letter);
    let name = match number % 7 {
        // SORT BY puts numbers into `w:*`.
        _ if pool == Pool::Weight || pool == Pool::Hash => format!("{letter}:{number}"),
        3 => format!("{{tag}}{letter}:{number}"),
        5 => {
            return [
                letter.as_bytes(),
                b"\x00\xff \r\n",
                number.to_string().as_bytes(),
            ]
            .concat();
        }
        _ => format!("{letter}:{number}"),
    };
    name.into_bytes()
}

/// A random key of the pool, or sometimes of another.
pub(super) fn key(pool: Pool, rng: &mut Rng) -> Vec<u8> {
    if pool == Pool::Lex {
        return format!("x:{}", rng.below(LEX_KEYS)).into_bytes();
    }
    let roll = rng.below(100);
    if roll < NOWHERE_PERCENT {
        return format!("nowhere:{}", rng.below(5)).into_bytes();
    }
    let stranger = pool == Pool::Any || roll < NOWHERE_PERCENT + STRANGER_PERCENT;
    let found = POOLS
        .iter()
        .find(|(known, ..)| *known == pool)
        .filter(|_| !stranger);
    let (pool, _, count) = found
        .or_else(|| rng.pick(&POOLS))
        .copied()
        .unwrap_or((pool, "s", 1));
    // Half of the uses go to a few keys, so that these grow and meet many commands.
    let hot = rng.percent(50);
    key_name(pool, rng.below(if hot { count.min(6) } else { count }))
}

fn push_key(pool: Pool, rng: &mut Rng, draft: &mut Draft) {
    let key = key(pool, rng);
    if draft.keys.is_empty() {
        draft.same.clone_from(&key);
    }
    draft.keys.push(draft.words.len());
    draft.words.push(key);
}

/// STORE replaces or deletes its target, so it seldom hits the keys that should grow.
fn push_target(pool: Pool, rng: &mut Rng, draft: &mut Draft) {
    if rng.percent(15) {
        return push_key(pool, rng, draft);
    }
    let count = POOLS
        .iter()
        .find(|(known, ..)| *known == pool)
        .map_or(1, |(.., count)| *count);
    let key = key_name(pool, count - 1 - rng.below(count / 3));
    draft.same.clone_from(&key);
    draft.keys.push(draft.words.len());
    draft.words.push(key);
}

fn push_counted(pool: Pool, rng: &mut Rng, draft: &mut Draft) {
    draft.numkeys = 1 + rng.below(3);
    let said = if rng.percent(3) {
        rng.text(&["0", "-1", "5", "abc", "9223372036854775807", "2"])
    } else {
        draft.numkeys.to_string().into_bytes()
    };
    draft.words.push(said);
    for _ in 0..draft.numkeys {
        push_key(pool, rng, draft);
    }
}

fn word(kind: Kind, rng: &mut Rng) -> Vec<u8> {
    match kind {
        Kind::Value => value(rng),
        Kind::Int => int(rng, 1000),
        Kind::Step => int(rng, 20),
        Kind::Small => number(rng.between(-20, 150)),
        Kind::Float => float(rng),
        Kind::Index => index(rng),
        Kind::ByteOffset => byte_offset(rng),
        Kind::BitOffset => bit_offset(rng),
        Kind::Bit => {
            if rng.percent(3) {
                rng.text(&["2", "-1", "x"])
            } else {
                number(rng.between(0, 1))
            }
        }
        Kind::BitType => bit_type(rng),
        Kind::FieldOffset => {
            if rng.percent(30) {
                [b"#".as_slice(), &number(rng.between(0, 30))].concat()
            } else {
                bit_offset(rng)
            }
        }
        Kind::Field => name(rng, "f"),
        Kind::Member => name(rng, "m"),
        Kind::Score => score(rng),
        Kind::ScoreBound => {
            if rng.percent(25) {
                [b"(".as_slice(), &score(rng)].concat()
            } else {
                score(rng)
            }
        }
        Kind::LexBound => lex_bound(rng),
        Kind::Count => count(rng),
        Kind::Positive => {
            if rng.percent(3) {
                rng.text(&["0", "-1", "abc", "9223372036854775808"])
            } else {
                number(rng.between(1, 12))
            }
        }
        Kind::ScanCount => rng.text(&["10", "100", "1000", "3", "50"]),
        Kind::Rank => {
            if rng.percent(5) {
                rng.text(&["0", "abc", "-9223372036854775808"])
            } else {
                number(rng.between(-3, 3))
            }
        }
        Kind::Glob => rng.text(&[
            "*",
            "*",
            "?:1*",
            "[a-s]:*",
            "*1",
            "h*",
            "m[0-4]*",
            "f?",
            "\\*",
            "[^a]*",
            "*:*5",
            "nomatch",
            "",
            "[z-a]:[0-9]",
            "**2*",
        ]),
        Kind::Db => rng.text(&["0", "0", "1", "9"]),
        Kind::NoDb => rng.text(&["16", "-1", "abc", "", "9223372036854775808", "1.5"]),
        Kind::Weight => weight(rng),
        Kind::By => rng.text(&["w:*", "w:*", "h:*->f1", "h:*->f2"]),
        Kind::Get => rng.text(&[
            "#", "w:*", "h:*->f1", "h:*->f3", "nostar", "h:*->", "->*", "s:*",
        ]),
        Kind::Entries => rng.text(&["128", "128", "512", "16", "4", "0", "1000"]),
        // A set of which more members are integers than an intset may hold ends in another
        // encoding if they come first: so an intset may always hold more than a listpack.
        Kind::IntsetEntries => rng.text(&["512", "512", "128", "150", "1000"]),
        Kind::ListpackEntries => rng.text(&["128", "128", "64", "16", "4", "0"]),
        Kind::Bytes => rng.text(&["64", "64", "8", "0", "256"]),
        Kind::ListSize => rng.text(&["-2", "-2", "-1", "-5", "4", "128", "1"]),
        Kind::NewId => new_id(rng),
        Kind::EntryId => entry_id(rng),
        Kind::IdBound => id_bound(rng),
        Kind::GroupName => rng.text(&["g", "g", "g", "h", "a\0b", ""]),
        Kind::Consumer => rng.text(&["alice", "alice", "bob", "carol", "", "x\r\ny"]),
        // Pending entries are idle for less than a run, or (by XCLAIM's IDLE) for a day.
        Kind::MinIdle if rng.percent(3) => rng.text(&["-1", "abc", "9223372036854775808"]),
        Kind::MinIdle => rng.text(&["0", "0", "0", "80000000"]),
        Kind::NodeEntries => rng.text(&["100", "100", "10", "3", "0"]),
        Kind::NodeBytes => rng.text(&["4096", "4096", "0", "100", "1000"]),
        Kind::Word => rng.text(&["hello", "", "a\0b", "two words", "x\r\ny", "\u{e9}t\u{e9}"]),
        // Few, so that lists hold several of one and LREM has a choice.
        Kind::Repeated => rng.text(&["m0", "m1", "m2"]),
        // LSET of Redis 7.2 cuts its index to 32 bits and then overwrites another member.
        Kind::Index32 if rng.percent(4) => {
            rng.text(&["2147483647", "-2147483648", "abc", "1.5", ""])
        }
        Kind::Index32 => number(rng.between(-9, 12)),
        Kind::Skip => skip(rng),
        Kind::Name => rng.text(&["hello", "", "two words", "x\r\ny", "\u{e9}t\u{e9}", "~!"]),
        Kind::NoCursor => rng.text(&["abc", "1x", " 1", "99999999999999999999", "-"]),
        Kind::AclUser => rng.text(&["u1", "u2", "u3", "kept1", "kept2"]),
        // Users whose connections no DELUSER closes.
        Kind::AclKept => rng.text(&["kept1", "kept2"]),
        Kind::AclRule => rng.text(super::rows::ACL_RULES),
        Kind::Longitude => degrees(rng, 180),
        Kind::Latitude => degrees(rng, 85),
        Kind::Radius => match rng.below(100) {
            0..JUNK_PERCENT => rng.text(&["abc", "-1", "nan", "inf", "0"]),
            2..30 => number(rng.between(0, 20)),
            30..60 => number(rng.between(0, 3000)),
            _ => decimal(rng, 9_000_000).trim_start_matches('-').into(),
        },
        Kind::Unit => rng.text(&["m", "km", "km", "KM", "ft", "mi", "mi", "yd"]),
        Kind::Element => match rng.below(10) {
            0 => value(rng),
            1..4 => name(rng, "e"),
            _ => number(rng.between(0, 100_000)),
        },
        Kind::Payload => payload(rng),
        Kind::SparseBytes => rng.text(&["3000", "3000", "0", "100", "20", "15000"]),
        Kind::Junk => rng.text(&["junk", "", "-", "*", "xx\0"]),
        time => deadline(time, rng),
    }
}

fn number(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn int(rng: &mut Rng, around: i64) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_INTS),
        JUNK_PERCENT..8 => rng.text(&EDGES),
        _ => number(rng.between(-around, around)),
    }
}

fn float(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_FLOATS),
        2..8 => rng.text(&[
            "inf",
            "-inf",
            "1e308",
            "-1e308",
            "1e-300",
            "5.0e3",
            "3.14159265358979",
            "1e17",
            "0.1",
            "-0.0",
            "+1.5",
            "123456789012345678",
        ]),
        8..40 => number(rng.between(-100, 100)),
        _ => decimal(rng, 10_000).into_bytes(),
    }
}

/// What DUMP of Redis 7.0 gave: an integer, a compressed string, a compressed list, an intset, a hash and a sorted set as
/// listpacks, a set; and broken ones.
const PAYLOADS: [&[u8]; 9] = [
    b"\x00\xc1\x39\x30\x0a\x00\x9d\x94\xea\x27\x93\xfc\x08\xb9",
    b"\x00\xc3\x0b\x40\x78\x03\x61\x62\x63\x61\xe0\x69\x02\x01\x62\x63\x0a\x00\xc4\x94\xa1\x70\x2a\xe2\x3e\x06",
    b"\x12\x01\x02\xc3\x15\x40\x55\x0d\x55\x00\x00\x00\x03\x00\x81\x61\x02\x01\x01\xe0\x46\x78\xe0\x3c\x00\x01\x48\xff\x0a\x00\x56\x5f\x7f\x4d\x8e\xb2\x06\x8b",
    b"\x0b\x10\x04\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x70\x11\x01\x00\x0a\x00\x27\x35\x43\x6e\xfd\x66\x56\xc4",
    b"\x10\x14\x14\x00\x00\x00\x04\x00\x82\x66\x31\x03\x81\x76\x02\x82\x66\x32\x03\x07\x01\xff\x0a\x00\x24\x83\xaf\x5a\x5c\x93\x40\x4f",
    b"\x11\x16\x16\x00\x00\x00\x04\x00\x82\x6d\x31\x03\x83\x31\x2e\x35\x04\x82\x6d\x32\x03\x02\x01\xff\x0a\x00\x02\x97\x84\x3f\xbc\xd1\xd5\xde",
    b"\x02\x02\x02\x6d\x32\x02\x6d\x31\x0a\x00\x07\x4b\xcf\xa3\xee\xd0\x06\xa3",
    b"\x02\x02\x02\x6d\x32\x02\x6d\x31\x0a\x00\x07\x4b\xcf\xa3\xee\xd0\x06\xa4",
    b"\x00\x00",
];

fn payload(rng: &mut Rng) -> Vec<u8> {
    let good = PAYLOADS.len() - 2;
    let at = if rng.percent(10) {
        good + rng.below(2)
    } else {
        rng.below(good)
    };
    PAYLOADS.get(at).copied().unwrap_or_default().to_vec()
}

/// A longitude or a latitude, of few places around the world and some near its edges.
fn degrees(rng: &mut Rng, max: i64) -> Vec<u8> {
    let millionths = match rng.below(100) {
        0..JUNK_PERCENT => return rng.text(&NO_FLOATS),
        2..4 => return rng.text(&["180", "-180", "85.05112878", "-85.05112878", "181", "-inf"]),
        4..60 => 10_000_000 + rng.between(-1_000_000, 1_000_000),
        60..70 => (max - 1) * 1_000_000 + rng.between(0, 999_999),
        70..76 => rng.between(-1000, 1000),
        _ => rng.between(-max * 1_000_000, max * 1_000_000),
    };
    let sign = if millionths < 0 { "-" } else { "" };
    let size = millionths.unsigned_abs();
    format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000).into_bytes()
}

/// A number with up to three digits after the point.
fn decimal(rng: &mut Rng, around: i64) -> String {
    let thousandths = rng.between(-around, around);
    let sign = if thousandths < 0 { "-" } else { "" };
    let size = thousandths.unsigned_abs();
    format!("{sign}{}.{:03}", size / 1000, size % 1000)
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..40 => number(rng.between(-1000, 12_000)),
        40..45 => rng.text(&EDGES),
        45..55 => float(rng),
        55..80 => text(rng, 1, 20),
        80..84 => Vec::new(),
        84..89 => (0..rng.below(24))
            .map(|_| rng.next().to_le_bytes()[0])
            .collect(),
        89..94 => text(rng, 40, 70),
        94..98 => text(rng, 500, 600),
        _ => text(rng, 1000, 5000),
    }
}

/// Few different letters, so that strings have parts in common (LCS).
fn text(rng: &mut Rng, low: usize, high: usize) -> Vec<u8> {
    let length = low + rng.below(high - low + 1);
    (0..length).map(|_| b"abcdefgh"[rng.below(8)]).collect()
}

fn index(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_INTS),
        2..5 => rng.text(&EDGES),
        5..15 => number(rng.between(-700, 700)),
        15..25 => number(0),
        25..40 => number(-1),
        _ => number(rng.between(-9, 12)),
    }
}

/// Mostly the next one of a millisecond that few ids are above, so that streams grow.
fn new_id(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..2 => rng.text(&["abc", "", "-", "+", "0-0", "1-2-3", "-1", "9-**", "(5", "$"]),
        2..4 => rng.text(&[
            "10-*",
            "9-18446744073709551615",
            "10-5",
            "18446744073709551615-1",
        ]),
        4..10 => entry_id(rng),
        10..16 => format!("{}-*", rng.below(9)).into_bytes(),
        _ => b"9-*".to_vec(),
    }
}

/// An id that an entry may have. Not `+`: XREAD knows it from 7.4 on.
fn entry_id(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..2 => rng.text(&[
            "abc", "", "-", "+x", "1-2-3", "9-*", "1- 5", "+9-3", "007-1",
        ]),
        2..4 => rng.text(&[
            "0",
            "0-0",
            "18446744073709551615",
            "18446744073709551615-18446744073709551615",
        ]),
        4..12 => number(rng.between(0, 11)),
        12..22 => format!("{}-{}", rng.below(11), rng.below(4)).into_bytes(),
        22..60 => format!("9-{}", rng.below(12)).into_bytes(),
        _ => format!("9-{}", rng.below(250)).into_bytes(),
    }
}

/// An end of a range of ids.
fn id_bound(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..30 => rng.text(&["-", "+"]),
        30..32 => rng.text(&[
            "(",
            "(-",
            "(+",
            "(18446744073709551615-18446744073709551615",
            "(0",
        ]),
        32..50 => [b"(".as_slice(), &entry_id(rng)].concat(),
        _ => entry_id(rng),
    }
}

/// Never one that makes half a gigabyte.
fn byte_offset(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_INTS),
        2..6 => rng.text(&["-1", "536870912", "9223372036854775807", "536870911000"]),
        6..12 => number(rng.between(500, 700)),
        _ => number(rng.between(0, 40)),
    }
}

fn bit_offset(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&["abc", "", "1.5", " 1", "#", "#x"]),
        2..6 => rng.text(&[
            "-1",
            "4294967296",
            "9223372036854775807",
            "-9223372036854775808",
        ]),
        6..14 => number(rng.between(1000, 20_000)),
        _ => number(rng.between(0, 200)),
    }
}

fn bit_type(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..4 => rng.text(&["u64", "i65", "u0", "i0", "x8", "u", "u-1", ""]),
        4..20 => rng.text(&["i64", "u63", "i1", "u1", "U8", "i32"]),
        _ => {
            let sign = if rng.percent(50) { "u" } else { "i" };
            format!("{sign}{}", rng.between(2, 40)).into_bytes()
        }
    }
}

/// Fields and members: a small pool for meetings, a large one for growth, some odd ones.
fn name(rng: &mut Rng, letter: &str) -> Vec<u8> {
    match rng.below(100) {
        0..58 => format!("{letter}{}", rng.below(10)).into_bytes(),
        58..75 => number(rng.between(-10, 80)),
        75..90 => format!("{letter}:{}", rng.below(1000)).into_bytes(),
        90..93 => [text(rng, 60, 68), number(rng.between(0, 9))].concat(),
        93..95 => text(rng, 500, 540),
        95..97 => rng.text(&["", "\0", "a\0b", "\u{ff}x", "-1.5", "1e3", "nan"]),
        97..99 => rng.text(&EDGES),
        _ => value(rng),
    }
}

fn score(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_FLOATS),
        2..10 => rng.text(&[
            "inf",
            "-inf",
            "+inf",
            "Infinity",
            "1e308",
            "-0",
            "0.1",
            "1e-10",
            "9007199254740993",
            "1e21",
            "3.0",
            "17179869184.5",
        ]),
        10..70 => number(rng.between(-20, 60)),
        _ => decimal(rng, 60_000).into_bytes(),
    }
}

fn lex_bound(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..4 => rng.text(&["a", "", "+x", "--", "]a"]),
        4..24 => rng.text(&["-", "+"]),
        _ => {
            let mark = if rng.percent(60) { b"[" } else { b"(" };
            [mark.as_slice(), &name(rng, "m")].concat()
        }
    }
}

/// Counts of LIMIT, LPOP, LREM...: small ones, 0, negative ones, none.
fn count(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_INTS),
        2..4 => rng.text(&[
            "9223372036854775808",
            "-9223372036854775809",
            "9223372036854775806",
        ]),
        4..20 => number(rng.between(-6, 0)),
        20..25 => number(rng.between(100, 1000)),
        _ => number(rng.between(0, 12)),
    }
}

/// The offset of LIMIT.
fn skip(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_INTS),
        2..4 => rng.text(&EDGES),
        4..10 => number(rng.between(-5, -1)),
        10..20 => number(rng.between(0, 30)),
        _ => number(rng.between(0, 3)),
    }
}

fn weight(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0..JUNK_PERCENT => rng.text(&NO_FLOATS),
        2..6 => rng.text(&["inf", "-inf", "0"]),
        _ => rng.text(&["1", "2", "-1", "0.5", "3", "1.25"]),
    }
}

fn deadline(kind: Kind, rng: &mut Rng) -> Vec<u8> {
    let roll = rng.below(100);
    if roll < JUNK_PERCENT + 1 {
        return rng.text(&[
            "abc",
            "",
            "1.5x",
            "9223372036854775808",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775",
        ]);
    }
    let past = roll < 6;
    let far_ms = |rng: &mut Rng, (low, high): (i64, i64)| number(rng.between(low * MS, high * MS));
    match kind {
        Kind::Seconds if past => rng.text(&["0", "-1", "-1000"]),
        Kind::Milliseconds if past => rng.text(&["0", "-1", "-100000"]),
        Kind::AtSeconds | Kind::AtMilliseconds if past => rng.text(&["1", "0", "-1", "1000000"]),
        Kind::Seconds => number(rng.between(FAR_S.0, FAR_S.1)),
        Kind::Milliseconds => far_ms(rng, FAR_S),
        // Round ones meet again, so that GT and LT see equal deadlines.
        Kind::AtSeconds if roll < 50 => number(4_000_000_000 + rng.between(0, 4)),
        Kind::AtMilliseconds if roll < 50 => number((4_000_000_000 + rng.between(0, 4)) * MS),
        Kind::AtSeconds => number(rng.between(FAR_AT_S.0, FAR_AT_S.1)),
        Kind::AtMilliseconds => far_ms(rng, FAR_AT_S),
        Kind::PastSeconds => rng.text(&["1", "1000", "1500000000"]),
        _ => rng.text(&["1", "1000", "1500000000000"]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, KINDS, Kind, Rng, deadline, write};

    #[test]
    fn kinds_have_names_and_values() {
        let mut rng = Rng::new(5);
        for (name, kind) in KINDS {
            assert_eq!(Kind::parse(&format!("<{name}>")), Some(*kind));
            assert_eq!(kind.name(), *name);
            for _ in 0..500 {
                write(
                    *kind,
                    &mut rng,
                    &mut Draft {
                        same: b"k".to_vec(),
                        ..Draft::default()
                    },
                );
            }
        }
        assert_eq!(Kind::parse("<nosuch>"), None);
        assert_eq!(Kind::parse("str"), None);
    }

    #[test]
    fn no_deadline_is_near() {
        let mut rng = Rng::new(1);
        let mut draw = |kind| {
            String::from_utf8(deadline(kind, &mut rng))
                .unwrap()
                .parse::<i64>()
        };
        for _ in 0..20_000 {
            if let Ok(s) = draw(Kind::Seconds) {
                assert!(s <= 0 || s >= 2_000, "{s}");
            }
            if let Ok(at) = draw(Kind::AtSeconds) {
                assert!(at <= 1_500_000_000 || at >= 3_900_000_000, "{at}");
            }
            if let Ok(ms) = draw(Kind::Milliseconds) {
                assert!(ms <= 0 || ms >= 2_000_000, "{ms}");
            }
        }
    }
}
