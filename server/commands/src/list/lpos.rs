//! LPOS: where an element is.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, number, spec};
use storage::List;

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "lpos",
        summary: "Finds the indexes of elements that equal a given one.",
        group: Group::List,
        since: "6.0.6",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::LIST.and(Acl::READ).and(Acl::SLOW),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Read(lpos),
    spread: Spread::Keys,
}];

/// The options of LPOS.
struct Options {
    /// Which match is the first to be told, counted from 1.
    rank: u64,
    /// From the tail to the head.
    backward: bool,
    /// How many matches are told at most, as an array; a single one if not given.
    count: Option<usize>,
    /// How many elements are looked at.
    len_max: usize,
}

impl Options {
    fn parse(args: &mut Args<'_>) -> Result<Self, Refusal> {
        let mut options = Options {
            rank: 1,
            backward: false,
            count: None,
            len_max: usize::MAX,
        };
        while args.left() > 1 {
            if args.keyword("RANK") {
                let rank = args.int()?;
                match rank {
                    i64::MIN => return Err(Refusal::LposRankRange),
                    0 => return Err(Refusal::LposRankZero),
                    _ => {}
                }
                (options.rank, options.backward) = (rank.unsigned_abs(), rank < 0);
            } else if args.keyword("COUNT") {
                let count = limit(args.bytes()?).ok_or(Refusal::LposCountNegative)?;
                options.count = Some(count);
            } else if args.keyword("MAXLEN") {
                let len_max = limit(args.bytes()?).ok_or(Refusal::LposMaxlenNegative)?;
                options.len_max = len_max;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        args.end()?;
        Ok(options)
    }
}

/// A limit that is not negative; 0 means none.
fn limit(word: &[u8]) -> Option<usize> {
    let limit = usize::try_from(number::parse_i64(word)?).ok()?;
    Some(if limit == 0 { usize::MAX } else { limit })
}

fn lpos(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, element) = (cx.key(args.bytes()?), args.bytes()?);
    let options = Options::parse(&mut args)?;
    let list = cx.shard.list(&key)?;
    let Some(count) = options.count else {
        let mut first = None;
        if let Some(list) = list {
            each_match(list, element, &options, 1, |index| first = Some(index));
        }
        match first {
            Some(index) => cx.reply.int(index as i64),
            None => cx.reply.null(),
        }
        return Ok(());
    };
    let (later, mut found) = (cx.reply.later(), 0);
    if let Some(list) = list {
        each_match(list, element, &options, count, |index| {
            cx.reply.int(index as i64);
            found += 1;
        });
    }
    cx.reply.array_at(later, found);
    Ok(())
}

/// Shows the indexes, counted from the head, of up to `count` elements from the wanted rank on.
fn each_match(list: &List, element: &[u8], options: &Options, count: usize, f: impl FnMut(usize)) {
    let wanted = |(index, value): (usize, &[u8])| (value == element).then_some(index);
    let before = usize::try_from(options.rank - 1).unwrap_or(usize::MAX);
    if options.backward {
        let last = list.len().saturating_sub(1);
        let values = list.iter_rev().take(options.len_max).enumerate();
        let matches = values.filter_map(wanted).map(|index| last - index);
        matches.skip(before).take(count).for_each(f);
    } else {
        let values = list.iter().take(options.len_max).enumerate();
        values
            .filter_map(wanted)
            .skip(before)
            .take(count)
            .for_each(f);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;

    #[test]
    fn positions() {
        Bench::new().table(
            "
            RPUSH k a b c 1 2 3 c c -> :8
            LPOS k a -> :0
            LPOS k c -> :2
            LPOS k z -> $-1
            LPOS k c RANK 1 -> :2
            LPOS k c RANK 2 -> :6
            LPOS k c RANK 4 -> $-1
            LPOS k c RANK -1 -> :7
            LPOS k c RANK -2 -> :6
            LPOS k c RANK 9223372036854775807 -> $-1
            LPOS k c RANK -9223372036854775807 -> $-1
            LPOS k c COUNT 0 -> *3 :2 :6 :7
            LPOS k c count 1 -> *1 :2
            LPOS k c COUNT 2 -> *2 :2 :6
            LPOS k c COUNT 100 -> *3 :2 :6 :7
            LPOS k c COUNT 0 RANK 2 -> *2 :6 :7
            LPOS k c COUNT 2 RANK -1 -> *2 :7 :6
            LPOS k c COUNT 0 RANK -2 -> *2 :6 :2
            LPOS k z COUNT 0 -> *0
            LPOS k c COUNT 0 MAXLEN 1 -> *0
            LPOS k c COUNT 0 MAXLEN 3 -> *1 :2
            LPOS k c COUNT 0 MAXLEN 3 RANK -1 -> *2 :7 :6
            LPOS k c COUNT 0 MAXLEN 7 RANK 2 -> *1 :6
            LPOS k c MAXLEN 2 -> $-1
            LPOS k c MAXLEN 0 -> :2
            LPOS k c RANK 3 RANK 2 -> :6
            LPOS none c -> $-1
            LPOS none c COUNT 1 -> *0
            ",
        );
    }

    #[test]
    fn refusals() {
        Bench::new().table(
            "
            SET k v -> +OK
            LPOS k a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LPOS k a RANK 0 -> -ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list
            LPOS k a RANK x -> -ERR value is not an integer or out of range
            LPOS k a RANK -9223372036854775808 -> -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
            LPOS k a COUNT -1 -> -ERR COUNT can't be negative
            LPOS k a COUNT x -> -ERR COUNT can't be negative
            LPOS k a MAXLEN -1 -> -ERR MAXLEN can't be negative
            LPOS k a COUNT -> -ERR syntax error
            LPOS k a UP 1 -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn long_replies_and_version_3() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.run(&format!("RPUSH k{}", " x".repeat(1000)));
        let expected: String = (0..1000).map(|n| format!(" :{n}")).collect();
        assert_eq!(bench.run("LPOS k x COUNT 0"), format!("*1000{expected}"));
        assert_eq!(bench.run("LPOS k y"), "_");
    }
}
