//! SINTERCARD, and the limit that it shares with ZINTERCARD.

use core::ops::ControlFlow;

use protocol::number::parse_i64;
use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};

use crate::set::combine::{inputs, intersect};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "sintercard",
        summary: "Counts the members that all sets have, up to a limit.",
        group: Group::Set,
        since: "7.0.0",
        arity: Arity::at_least(3),
        flags: Flags::MOVABLEKEYS.and(Flags::READONLY),
        acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
        keys: &[KeySpec::counted(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        range: (0, 0, 0),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Read(sintercard),
    spread: Spread::Keys,
}];

fn sintercard(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let count = parse_i64(args.bytes()?)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(Refusal::NumkeysNotPositive)?;
    if count > args.left() {
        return Err(Refusal::TooManyKeys.into());
    }
    let keys = args.rest().take(count);
    args = args.skip(count);
    let mut limit = usize::MAX;
    while args.left() > 0 {
        if !(args.keyword("LIMIT") && args.left() > 0) {
            return Err(Refusal::Syntax.into());
        }
        limit = self::limit(args.bytes()?)?;
    }
    let sets = inputs(keys, |word| cx.shard.set(&cx.key(word)))?;
    let mut found = 0;
    intersect(sets, |_| {
        found += 1;
        if found < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    cx.reply.int(found as i64);
    Ok(())
}

/// Reads the word after LIMIT; 0 is none.
///
/// # Errors
/// `Refusal::LimitNegative`, also when it is not a number.
pub(crate) fn limit(word: &[u8]) -> Result<usize, Refusal> {
    match parse_i64(word).map(usize::try_from) {
        Some(Ok(0)) => Ok(usize::MAX),
        Some(Ok(limit)) => Ok(limit),
        _ => Err(Refusal::LimitNegative),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn counts_end_at_the_limit() {
        Bench::new().table(
            "
            SADD a 1 2 3 4 -> :4
            SADD b 2 4 6 -> :3
            SINTERCARD 2 a b -> :2
            SINTERCARD 2 a b LIMIT 1 -> :1
            SINTERCARD 2 a b LIMIT 0 -> :2
            SINTERCARD 2 a b LIMIT 1 limit 9 -> :2
            SINTERCARD 2 a none -> :0
            ",
        );
    }

    #[test]
    fn words_are_checked_before_keys() {
        Bench::new().table(
            "
            SET str x -> +OK
            SINTERCARD 0 str -> -ERR numkeys should be greater than 0
            SINTERCARD x str -> -ERR numkeys should be greater than 0
            SINTERCARD 2 str -> -ERR Number of keys can't be greater than number of args
            SINTERCARD 1 str LIMIT -> -ERR syntax error
            SINTERCARD 1 str LIMIT -1 -> -ERR LIMIT can't be negative
            SINTERCARD 1 str LIMIT x -> -ERR LIMIT can't be negative
            SINTERCARD 1 str WHAT 1 -> -ERR syntax error
            SINTERCARD 1 str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
