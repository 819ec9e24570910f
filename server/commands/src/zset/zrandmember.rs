//! ZRANDMEMBER: members shown at random.

use protocol::number::parse_i64;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::Rng;

use crate::set::pick::{self, Sample};
use crate::zset::entries;
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "zrandmember",
        summary: "Shows random members of a sorted set.",
        group: Group::SortedSet,
        since: "6.2.0",
        arity: Arity::at_least(2),
        flags: Flags::READONLY,
        acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(zrandmember),
    spread: Spread::Keys,
}];

fn zrandmember(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    if args.left() == 0 {
        match cx.shard.zset(&key)?.and_then(|zset| zset.random(cx.rng)) {
            Some((member, _)) => cx.reply.bulk(member),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let count = parse_i64(args.bytes()?).ok_or(Refusal::NotInteger)?;
    if count == i64::MIN {
        return Err(Refusal::out_of_range(-i64::MAX, i64::MAX).into());
    }
    let scores = args.keyword("WITHSCORES");
    args.end()?;
    if scores && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        // Twice as many would not fit the header.
        return Err(Refusal::ValueOutOfRange.into());
    }
    let Some(zset) = cx.shard.zset(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        let header = entries::header_len(cx.reply.resp(), wanted, scores);
        let bytes_max = cx.settings.string_bytes_max;
        pick::repeat(&mut cx.reply, header, wanted, bytes_max, |reply| {
            if let Some((member, score)) = zset.random(cx.rng) {
                entries::entry(reply, member, score, scores);
            }
        })?;
        return Ok(());
    }
    let len = zset.len();
    entries::header(&mut cx.reply, wanted.min(len), scores);
    if pick::walk_is_better(len, wanted) {
        let mut sample = Sample::new(len, wanted);
        for (member, score) in zset.iter().filter(|_| sample.takes(cx.rng)) {
            entries::entry(&mut cx.reply, member, score, scores);
        }
    } else {
        for rank in different_ranks(len, wanted, cx.rng) {
            if let Some((member, score)) = zset.by_rank(rank) {
                entries::entry(&mut cx.reply, member, score, scores);
            }
        }
    }
    Ok(())
}

/// So many different ranks (clearly less than all), in random order.
fn different_ranks(len: usize, wanted: usize, rng: &mut Rng) -> Vec<usize> {
    let mut picked = Vec::with_capacity(wanted);
    while picked.len() < wanted {
        for _ in picked.len()..wanted {
            picked.push(rng.index(len));
        }
        picked.sort_unstable();
        picked.dedup();
    }
    pick::shuffle(&mut picked, rng);
    picked
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn words_are_checked_before_the_key() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZRANDMEMBER str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZRANDMEMBER str x -> -ERR value is not an integer or out of range
            ZRANDMEMBER str x y -> -ERR value is not an integer or out of range
            ZRANDMEMBER str 1 WHAT -> -ERR syntax error
            ZRANDMEMBER str 1 WITHSCORES x -> -ERR syntax error
            ZRANDMEMBER str -9223372036854775808 -> -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
            ZRANDMEMBER str -9223372036854775807 WITHSCORES -> -ERR value is out of range
            ZRANDMEMBER str 4611686018427387904 WITHSCORES -> -ERR value is out of range
            ZRANDMEMBER str 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZRANDMEMBER none -> $-1
            ZRANDMEMBER none 2 WITHSCORES -> *0
            ZADD z 1.5 a -> :1
            ZRANDMEMBER z -> $1 a
            ZRANDMEMBER z 0 -> *0
            ZRANDMEMBER z 5 -> *1 $1 a
            ZRANDMEMBER z 5 WITHSCORES -> *2 $1 a $3 1.5
            ZRANDMEMBER z -2 -> *2 $1 a $1 a
            ZRANDMEMBER z -2 WITHSCORES -> *4 $1 a $3 1.5 $1 a $3 1.5
            ZRANDMEMBER z -9223372036854775807 -> -ERR value is out of range
            ",
        );
    }

    #[test]
    fn version_3_nests_pairs() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            ZADD z 1.5 a -> :1
            ZRANDMEMBER z -2 -> *2 $1 a $1 a
            ZRANDMEMBER z -2 WITHSCORES -> *2 *2 $1 a ,1.5 *2 $1 a ,1.5
            ZRANDMEMBER z 2 WITHSCORES -> *1 *2 $1 a ,1.5
            ZRANDMEMBER none -> _
            ",
        );
    }

    #[test]
    fn shown_members_are_different_unless_the_count_is_negative() {
        for n in [10, 100, 1000] {
            let mut bench = Bench::new();
            let pairs: String = (0..n).map(|i| format!(" {i} m{i}")).collect();
            bench.run(&format!("ZADD z{pairs}"));
            for count in [1, 3, n / 10, n / 2, n - 1, n, n + 5] {
                let reply = bench.run(&format!("ZRANDMEMBER z {count}"));
                let shown: Vec<&str> = reply.split(' ').filter(|w| w.starts_with('m')).collect();
                let different: BTreeSet<&&str> = shown.iter().collect();
                assert_eq!((shown.len(), different.len()), (count.min(n), count.min(n)));
            }
            let reply = bench.run(&format!("ZRANDMEMBER z -{} WITHSCORES", 3 * n));
            assert!(reply.starts_with(&format!("*{} ", 6 * n)));
        }
    }
}
