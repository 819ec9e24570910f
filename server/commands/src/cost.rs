//! How long a request would take, told before it runs: so that a long one runs aside of its core (ADR 8).
//!
//! A cost is in *steps*: an element that is looked at, moved or freed, or [`BYTES_PER_STEP`] bytes of a string. It is an upper
//! bound within a small factor, found by looking at lengths (and ranks, of sorted sets) alone, and it leaves no trace. Only
//! commands that can be long have one, so that all others pay nothing. Words that make no sense cost what is nearest: their
//! handler will refuse them.
//!
//! Not told here: requests that are long because they have many words (their parsing takes as long), searches of geo sets, whose
//! length follows from the data, and scripts.

use protocol::{Args, Spec};
use storage::{Key, Shard, Size};

use crate::FirstKey;
use crate::zset::cost as zset;

/// Bytes of a string that are copied or counted in the time of an element.
pub const BYTES_PER_STEP: usize = 256;

/// What an estimate looks at.
pub struct Weigh<'a> {
    /// The shard in which all of the request's slots are in place.
    pub shard: &'a Shard,
    /// The selected database.
    pub db: u8,
    /// The command.
    pub spec: &'static Spec,
    /// See [`FirstKey`].
    pub first: FirstKey<'a>,
}

/// The steps of a request, whose words these are, the cursor behind its name.
pub type Cost = fn(&Weigh<'_>, &Args<'_>) -> usize;

impl Weigh<'_> {
    pub(crate) fn key<'k>(&self, word: &'k [u8]) -> Key<'k> {
        match self.first {
            Some(first) if core::ptr::eq(first.bytes, word) => Key {
                bytes: word,
                ..first
            },
            _ => Key::new(self.db, word),
        }
    }

    fn steps(&self, word: &[u8]) -> usize {
        match self.shard.size_of(&self.key(word)) {
            Size::Elements(n) => n,
            Size::Bytes(n) => n / BYTES_PER_STEP,
        }
    }

    /// Steps of the value at the key in this word.
    fn size(&self, args: &Args<'_>, word: usize) -> usize {
        args.word(word).map_or(0, |key| self.steps(key))
    }

    /// Bytes of the string at the key in this word.
    fn bytes(&self, args: &Args<'_>, word: usize) -> usize {
        let size = args
            .word(word)
            .map(|key| self.shard.size_of(&self.key(key)));
        match size {
            Some(Size::Bytes(bytes)) => bytes,
            _ => 0,
        }
    }

    /// Steps of the values at all keys, one by one.
    fn each(&self, args: &Args<'_>, mut f: impl FnMut(usize)) {
        // A request whose keys cannot be told is refused by its handler.
        let _ = self.spec.keys_of(args, |word, _| f(self.size(args, word)));
    }
}

/// The cost of a command that can be long.
pub fn cost_of(name: &str) -> Option<Cost> {
    Some(match name {
        "smembers" | "hgetall" | "hkeys" | "hvals" | "lrem" | "linsert" | "copy" | "dump" => whole,
        "bitcount" | "bitpos" | "getdel" | "getex" | "getset" => whole,
        "sort" | "sort_ro" => sort,
        "lrange" => lrange,
        "ltrim" => ltrim,
        "lpos" => lpos,
        "lpop" | "rpop" | "spop" | "zpopmin" | "zpopmax" => popped,
        "srandmember" | "hrandfield" | "zrandmember" => picked,
        "lmpop" | "zmpop" => |weigh, args| counted(args, sum(weigh, args)),
        "hscan" | "sscan" | "zscan" => |weigh, args| counted(args, weigh.size(args, 1)),
        "sinter" | "sinterstore" | "sintercard" => intersected,
        "sunion" | "sunionstore" | "sdiff" | "sdiffstore" | "pfmerge" => sum,
        "zinter" | "zinterstore" | "zintercard" | "zunion" | "zunionstore" | "zdiff"
        | "zdiffstore" => sum,
        "bitop" => sum,
        "getrange" | "substr" => getrange,
        "setrange" => |weigh, args| {
            let end = number(args, 2).saturating_add(len(args, 3));
            grown(weigh, args, end)
        },
        "append" => |weigh, args| grown(weigh, args, weigh.bytes(args, 1) + len(args, 2)),
        "setbit" => |weigh, args| grown(weigh, args, number(args, 2) / 8 + 1),
        "bitfield" => bitfield,
        "lcs" => |weigh, args| {
            let product = weigh.bytes(args, 1).saturating_mul(weigh.bytes(args, 2));
            product / (BYTES_PER_STEP / 4)
        },
        "restore" => |_, args| len(args, 3) / (BYTES_PER_STEP / 16),
        "xrange" | "xrevrange" => xrange,
        "xtrim" | "xadd" => xtrim,
        "zrange" => zset::zrange,
        "zrangestore" => zset::zrangestore,
        "zrevrange" | "zremrangebyrank" => zset::by_rank,
        "zrangebyscore" | "zremrangebyscore" => zset::by_score,
        "zrevrangebyscore" => zset::by_score_back,
        "zrangebylex" | "zremrangebylex" => zset::by_lex,
        "zrevrangebylex" => zset::by_lex_back,
        _ => return None,
    })
}

fn whole(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    weigh.size(args, 1)
}

fn sum(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let mut steps = 0usize;
    weigh.each(args, |size| steps = steps.saturating_add(size));
    steps
}

/// An element is compared with others a dozen times.
fn sort(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    weigh.size(args, 1).saturating_mul(4)
}

/// The smallest set is walked, and looked up in all others; a store's target comes first and is not one of them.
fn intersected(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let (mut least, mut sets) = (usize::MAX, 0usize);
    let mut skip = usize::from(weigh.spec.name == "sinterstore");
    weigh.each(args, |size| {
        if skip == 0 {
            (least, sets) = (least.min(size), sets + 1);
        }
        skip = skip.saturating_sub(1);
    });
    least.saturating_mul(sets)
}

fn lrange(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    between(args, || weigh.size(args, 1))
}

fn ltrim(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let len = weigh.size(args, 1);
    len - between(args, || len).min(len)
}

/// How many of `len` elements are between two indexes; without asking for `len` if they are close.
fn between(args: &Args<'_>, len: impl FnOnce() -> usize) -> usize {
    let (Some(start), Some(stop)) = (signed(args, 2), signed(args, 3)) else {
        return 0;
    };
    if (start < 0) == (stop < 0) && stop.saturating_sub(start) < FEW {
        return usize::try_from(stop.saturating_sub(start).saturating_add(1)).unwrap_or(0);
    }
    let len = len();
    let place = |index: i64| match index {
        0.. => index as usize,
        _ => len.saturating_sub(index.unsigned_abs() as usize),
    };
    let end = if stop < 0 && stop.unsigned_abs() as usize > len {
        0
    } else {
        place(stop).saturating_add(1).min(len)
    };
    end.saturating_sub(place(start))
}

/// So few elements are no reason to look for the rest.
const FEW: i64 = 64;

fn lpos(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let len = weigh.size(args, 1);
    match option(args, 3, "MAXLEN") {
        Some(0) | None => len,
        Some(max) => len.min(max),
    }
}

fn popped(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    match number(args, 2) {
        few if few as i64 <= FEW => few,
        count => count.min(weigh.size(args, 1)),
    }
}

/// With a negative count the same element may come many times.
fn picked(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    match signed(args, 2) {
        Some(count) if count < 0 && weigh.size(args, 1) > 0 => count.unsigned_abs() as usize,
        // Most of a large set is found by leaving some out.
        Some(count) if count > FEW => (count as usize).saturating_mul(3).min(weigh.size(args, 1)),
        Some(few) => few.max(0) as usize,
        None => 0,
    }
}

fn counted(args: &Args<'_>, len: usize) -> usize {
    option(args, 2, "COUNT").map_or(0, |count| count.min(len))
}

fn getrange(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let bytes = weigh.bytes(args, 1);
    between(args, || bytes).min(bytes) / BYTES_PER_STEP
}

/// What SET and INCRBY write last, as far as the words tell.
fn bitfield(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let text = |at| args.word(at).unwrap_or_default();
    let writes = (2..args.total()).filter(|at| {
        let word = text(*at);
        word.eq_ignore_ascii_case(b"SET") || word.eq_ignore_ascii_case(b"INCRBY")
    });
    let end = writes.map(|at| {
        let natural = |word| {
            let n = protocol::number::parse_i64(word);
            n.map_or(0, |n| usize::try_from(n).unwrap_or(0))
        };
        let bits = natural(text(at + 1).get(1..).unwrap_or_default()).min(64);
        let offset = match text(at + 2).strip_prefix(b"#") {
            Some(index) => natural(index).saturating_mul(bits),
            None => natural(text(at + 2)),
        };
        offset.saturating_add(bits).div_ceil(8)
    });
    grown(weigh, args, end.max().unwrap_or(0))
}

/// A string that outgrows its block is copied, and zeros are written up to the new `end`.
fn grown(weigh: &Weigh<'_>, args: &Args<'_>, end: usize) -> usize {
    let bytes = weigh.bytes(args, 1);
    let steps = bytes.max(end) / BYTES_PER_STEP;
    let room = |word| weigh.shard.room_of(&weigh.key(word));
    if steps == 0 || args.word(1).is_none_or(|word| end <= room(word)) {
        return 0;
    }
    steps
}

/// An entry has several fields.
fn xrange(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    if args.word(2) == args.word(3) {
        return 0;
    }
    let entries = weigh.size(args, 1);
    let count = option(args, 4, "COUNT").unwrap_or(usize::MAX);
    entries.min(count).saturating_mul(2)
}

/// Entries leave by whole nodes.
fn xtrim(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let at = |at: usize, name: &str| {
        args.word(at)
            .is_some_and(|w| w.eq_ignore_ascii_case(name.as_bytes()))
    };
    let Some(place) = (2..args.total().min(5)).find(|&p| at(p, "MAXLEN") || at(p, "MINID")) else {
        return 0;
    };
    let sign = args.word(place + 1);
    let sign = usize::from(matches!(sign, Some(b"=" | b"~")));
    let kept = match at(place, "MAXLEN") {
        true => number(args, place + 1 + sign),
        false => 0,
    };
    weigh.size(args, 1).saturating_sub(kept) / 4
}

/// The number behind an option, wherever it stands from `from` on.
pub(crate) fn option(args: &Args<'_>, from: usize, name: &str) -> Option<usize> {
    let is_it = |at: &usize| {
        let word = args.word(*at);
        word.is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let at = (from..args.total()).find(is_it)?;
    Some(number(args, at + 1))
}

pub(crate) fn signed(args: &Args<'_>, at: usize) -> Option<i64> {
    protocol::number::parse_i64(args.word(at)?)
}

/// The number in a word; 0 for none or a negative one.
pub(crate) fn number(args: &Args<'_>, at: usize) -> usize {
    signed(args, at).map_or(0, |n| usize::try_from(n).unwrap_or(0))
}

fn len(args: &Args<'_>, at: usize) -> usize {
    args.word(at).map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use protocol::Args;
    use protocol::args::flatten;
    use storage::Key;

    use super::{Weigh, cost_of};
    use crate::testing::Bench;

    fn cost(bench: &Bench, line: &str) -> usize {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
        let name = line.split(' ').next().unwrap().to_lowercase();
        let (mut buf, mut found) = (Vec::new(), Vec::new());
        flatten(&words, &mut buf, &mut found);
        let command = crate::all().find(|command| command.spec.name == name);
        let weigh = Weigh {
            shard: &bench.shard,
            db: 0,
            spec: &command.unwrap().spec,
            first: None,
        };
        cost_of(&name).unwrap()(&weigh, &Args::new(&buf, &found))
    }

    fn many(from: usize, to: usize) -> String {
        let words: Vec<String> = (from..to).map(|n| n.to_string()).collect();
        words.join(" ")
    }

    #[test]
    fn costs_follow_lengths_ranks_and_options() {
        let mut bench = Bench::new();
        bench.run(&format!("RPUSH l {}", many(0, 1000)));
        bench.run(&format!("SADD s {}", many(0, 1000)));
        bench.run(&format!("SADD t {}", many(0, 300)));
        let scored: Vec<String> = (0..1000).map(|n| format!("{n} m{n}")).collect();
        bench.run(&format!("ZADD z {}", scored.join(" ")));
        bench.run("SETRANGE str 102399 x");
        let hits = bench.shard.hits_and_misses();
        let table = [
            ("SMEMBERS s", 1000),
            ("SMEMBERS none", 0),
            ("HGETALL s", 1000),
            ("SORT l", 4000),
            ("LRANGE l 0 -1", 1000),
            ("LRANGE l 0 9", 10),
            ("LRANGE l 500 899", 400),
            ("LRANGE l -100 -1", 100),
            ("LRANGE l 900 100", 0),
            ("LRANGE l 0 -2000", 0),
            ("LRANGE l x y", 0),
            ("LTRIM l 0 899", 100),
            ("LTRIM l 1 0", 1000),
            ("LPOS l 7 MAXLEN 100", 100),
            ("LPOP l 5000", 1000),
            ("LPOP l", 0),
            ("SRANDMEMBER s -5000", 5000),
            ("SRANDMEMBER s 200", 600),
            ("LMPOP 2 none l LEFT COUNT 300", 300),
            ("SSCAN s 0", 0),
            ("SSCAN s 0 COUNT 700", 700),
            ("SINTER s t", 600),
            ("SINTERSTORE d s t", 600),
            ("SUNION s t", 1300),
            ("SINTERCARD 2 s t", 600),
            ("ZUNION 2 z s", 2000),
            ("ZRANGE z 0 -1", 1000),
            ("ZRANGE z 0 9 REV", 10),
            ("ZRANGE z (100 +inf BYSCORE LIMIT 5 200", 200),
            ("ZRANGE z WHAT", 0),
            ("ZRANGEBYSCORE z -inf +inf LIMIT 0 10", 10),
            ("ZREVRANGEBYSCORE z 500 100", 401),
            ("ZREMRANGEBYSCORE z -inf (900", 900),
            ("ZRANGESTORE d z 0 99", 300),
            ("BITCOUNT str", 400),
            ("GETRANGE str 0 51199", 200),
            ("GETRANGE str 0 9", 0),
            ("SETRANGE str 5 x", 0),
            ("SETRANGE str 999999 x", 3_906),
            ("SETRANGE none 999999 x", 3_906),
            ("SETBIT str 99999999 1", 48_828),
            ("BITFIELD none GET u8 99999999", 0),
            (
                "BITFIELD none GET u8 0 SET u8 #1999999 1 INCRBY i16 0 1",
                7_812,
            ),
            ("BITFIELD none SET i 99 1 INCRBY i64", 0),
            ("LCS str str", 102_400 * 102_400 / 64),
        ];
        for (line, steps) in table {
            assert_eq!(cost(&bench, line), steps, "{line}");
        }
        assert_eq!(bench.shard.hits_and_misses(), hits, "it leaves no trace");
        bench.pass_ms(10);
        bench.run("PEXPIRE s 5");
        bench.pass_ms(5);
        assert_eq!(cost(&bench, "SMEMBERS s"), 0);
        assert!(!bench.shard.has_met_expired());
        assert!(bench.shard.contains(&Key::new(0, b"l")));
    }
}
