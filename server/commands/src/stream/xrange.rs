//! XLEN, XRANGE and XREVRANGE: looking at the entries.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};

use super::{entry, ids};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xlen",
            summary: "Counts the entries of a stream.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::STREAM),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(xlen),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xrange",
            summary: "Lists entries of a stream within a range of ids.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STREAM),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(xrange),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xrevrange",
            summary: "Lists entries of a stream within a range of ids, highest first.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STREAM),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(xrevrange),
        spread: Spread::Keys,
    },
];

fn xlen(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.stream(&key)?.map_or(0, |stream| stream.len());
    cx.reply.int(len as i64);
    Ok(())
}

fn xrange(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    range(cx, args, false)
}

fn xrevrange(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    range(cx, args, true)
}

fn range(cx: &mut Read<'_>, mut args: Args<'_>, back: bool) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (a, b) = (args.bytes()?, args.bytes()?);
    let (first, last) = if back { (b, a) } else { (a, b) };
    let (first, last) = (ids::range_first(first)?, ids::range_last(last)?);
    let mut count = usize::MAX;
    while args.left() > 0 {
        if args.left() < 2 || !args.keyword("COUNT") {
            return Err(Refusal::Syntax.into());
        }
        count = usize::try_from(args.int()?).unwrap_or(0);
    }
    match cx.shard.stream(&key)? {
        None => cx.reply.array(0),
        Some(_) if count == 0 => cx.reply.null_array(),
        Some(stream) if back => {
            entry::reply_all(&mut cx.reply, stream.range_back(first, last).take(count));
        }
        Some(stream) => {
            entry::reply_all(&mut cx.reply, stream.range(first, last).take(count));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn ranges() {
        Bench::new().table(
            "
            XRANGE s - + -> *0
            XLEN s -> :0
            XADD s 1-1 f v -> $3 1-1
            XADD s 1-2 f w g x -> $3 1-2
            XADD s 2-0 h y -> $3 2-0
            XLEN s -> :3
            XRANGE s - + COUNT 1 -> *1 *2 $3 1-1 *2 $1 f $1 v
            XRANGE s 1 1 COUNT 9 -> *2 *2 $3 1-1 *2 $1 f $1 v *2 $3 1-2 *4 $1 f $1 w $1 g $1 x
            XRANGE s (1-1 (2 -> *2 *2 $3 1-2 *4 $1 f $1 w $1 g $1 x *2 $3 2-0 *2 $1 h $1 y
            XRANGE s (1-1 (2-0 -> *1 *2 $3 1-2 *4 $1 f $1 w $1 g $1 x
            XREVRANGE s + - COUNT 1 -> *1 *2 $3 2-0 *2 $1 h $1 y
            XREVRANGE s 1 1-2 -> *1 *2 $3 1-2 *4 $1 f $1 w $1 g $1 x
            XREVRANGE s - + -> *0
            XRANGE s - + COUNT 0 -> *-1
            XRANGE s - + COUNT -1 -> *-1
            XRANGE s - + COUNT 1 COUNT 0 -> *-1
            XRANGE none - + COUNT 0 -> *0
            XRANGE s - + COUNT x -> -ERR value is not an integer or out of range
            XRANGE s - + COUNT -> -ERR syntax error
            XRANGE s - + LIMIT 1 -> -ERR syntax error
            XRANGE s x + LIMIT 1 -> -ERR Invalid stream ID specified as stream command argument
            XRANGE s - (+ -> -ERR Invalid stream ID specified as stream command argument
            XRANGE s (18446744073709551615-18446744073709551615 + -> -ERR invalid start ID for the interval
            XRANGE s - (0-0 -> -ERR invalid end ID for the interval
            SET str x -> +OK
            XRANGE str - + COUNT 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            XLEN str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            OBJECT ENCODING s -> $6 stream
            TYPE s -> +stream
            ",
        );
    }
}
