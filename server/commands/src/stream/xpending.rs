//! XPENDING: what has been delivered and not acknowledged.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, number, spec};
use storage::{Group as Consumers, Pending, StreamId};

use super::{entry, ids};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "xpending",
        summary: "Tells which entries of a group are pending.",
        group: Group::Stream,
        since: "5.0.0",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::READ.and(Acl::SLOW).and(Acl::STREAM),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(xpending),
    spread: Spread::Keys,
}];

/// Words of a request: without a range, and with one.
const SUMMARY_WORDS: usize = 3;
const RANGE_WORDS: core::ops::RangeInclusive<usize> = 6..=9;
/// Words of a request with IDLE.
const IDLE_WORDS_MIN: usize = 8;

/// Which pending entries are asked for.
struct Range<'a> {
    min_idle_ms: i64,
    first: StreamId,
    last: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

/// Reads `[IDLE ms] first last count [consumer]`; as in Redis words behind that are not looked at.
fn range<'a>(mut args: Args<'a>) -> Result<Range<'a>, Refusal> {
    let mut min_idle_ms = 0;
    if args.keyword("IDLE") {
        min_idle_ms = args.int()?;
        if args.total() < IDLE_WORDS_MIN {
            return Err(Refusal::Syntax);
        }
    }
    let (first, last, count) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let count = number::parse_i64(count).ok_or(Refusal::NotInteger)?;
    Ok(Range {
        min_idle_ms,
        first: ids::range_first(first)?,
        last: ids::range_last(last)?,
        count: usize::try_from(count).unwrap_or(0),
        consumer: args.peek(),
    })
}

fn xpending(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group) = (cx.key(args.bytes()?), args.bytes()?);
    let is_summary = args.total() == SUMMARY_WORDS;
    if !is_summary && !RANGE_WORDS.contains(&args.total()) {
        return Err(Refusal::Syntax.into());
    }
    let range = if is_summary { None } else { Some(range(args)?) };
    let stream = cx.shard.stream(&key)?;
    let Some(found) = stream.and_then(|stream| stream.group(group)) else {
        return Err(entry::no_group(key.bytes, group, "").into());
    };
    match range {
        None => reply_summary(&mut cx.reply, found),
        Some(range) => reply_range(&mut cx.reply, found, &range, cx.shard.wall_ms()),
    }
    Ok(())
}

fn reply_summary(reply: &mut Reply<'_>, group: &Consumers) {
    reply.array(4);
    reply.int(group.pending_len() as i64);
    let first = group.pending_from(StreamId::MIN).next();
    let (Some((first, _)), Some(last)) = (first, group.pending_last()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    ids::reply(reply, first);
    ids::reply(reply, last);
    let (later, mut count) = (reply.later(), 0);
    for consumer in group.consumers().filter(|c| c.pending_len() > 0) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_len() as i64);
        count += 1;
    }
    reply.array_at(later, count);
}

fn reply_range(reply: &mut Reply<'_>, group: &Consumers, range: &Range<'_>, now_ms: u64) {
    let all = range
        .consumer
        .is_none()
        .then(|| group.pending_from(range.first));
    let one = range.consumer.and_then(|name| group.consumer(name));
    let one = one.map(|consumer| group.pending_with(consumer, range.first));
    let pending = all.into_iter().flatten().chain(one.into_iter().flatten());
    let idle = |pending: &Pending| {
        now_ms
            .cast_signed()
            .wrapping_sub(pending.delivered_ms.cast_signed())
    };
    let wanted = pending
        .take_while(|(id, _)| *id <= range.last)
        .filter(|(_, pending)| range.min_idle_ms == 0 || idle(pending) >= range.min_idle_ms)
        .take(range.count);
    let (later, mut count) = (reply.later(), 0);
    for (id, pending) in wanted {
        reply.array(4);
        ids::reply(reply, id);
        reply.bulk(group.consumer_of(pending));
        reply.int(idle(pending).max(0));
        reply.int(pending.count.cast_signed());
        count += 1;
    }
    reply.array_at(later, count);
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn what_is_pending() {
        let mut bench = Bench::new();
        bench.table(
            "
            XPENDING s g -> -NOGROUP No such key 's' or consumer group 'g'
            XGROUP CREATE s g 0 MKSTREAM -> +OK
            XPENDING s g -> *4 :0 $-1 $-1 *-1
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XADD s 3 f v -> $3 3-0
            XREADGROUP GROUP g b COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v
            ",
        );
        bench.pass_ms(50);
        bench.table(
            "
            XREADGROUP GROUP g a COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v
            XREADGROUP GROUP g b COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 3-0 *2 $1 f $1 v
            XGROUP CREATECONSUMER s g c -> :1
            XPENDING s g -> *4 :3 $3 1-0 $3 3-0 *2 *2 $1 a $1 1 *2 $1 b $1 2
            XPENDING s g - + 9 -> *3 *4 $3 1-0 $1 b :50 :1 *4 $3 2-0 $1 a :0 :1 *4 $3 3-0 $1 b :0 :1
            XPENDING s g (1 3 1 -> *1 *4 $3 2-0 $1 a :0 :1
            XPENDING s g - + 9 b -> *2 *4 $3 1-0 $1 b :50 :1 *4 $3 3-0 $1 b :0 :1
            XPENDING s g idle 50 - + 9 -> *1 *4 $3 1-0 $1 b :50 :1
            XPENDING s g IDLE 51 - + 9 b -> *0
            XPENDING s g IDLE 0 - (3-0 9 b -> *1 *4 $3 1-0 $1 b :50 :1
            XPENDING s g - + 9 none -> *0
            XPENDING s g - + 0 -> *0
            XPENDING s g - + -1 -> *0
            XPENDING s g - + 1 b not looked -> *1 *4 $3 1-0 $1 b :50 :1
            XPENDING s g - -> -ERR syntax error
            XPENDING s g - + 9 b 1 2 3 -> -ERR syntax error
            XPENDING s g IDLE 0 - + -> -ERR syntax error
            XPENDING s g IDLE x - + -> -ERR value is not an integer or out of range
            XPENDING s g x + y -> -ERR value is not an integer or out of range
            XPENDING s g x + 1 -> -ERR Invalid stream ID specified as stream command argument
            XPENDING s g - (0-0 1 -> -ERR invalid end ID for the interval
            XPENDING s none - + 1 -> -NOGROUP No such key 's' or consumer group 'none'
            SET str x -> +OK
            XPENDING str g x y 1 -> -ERR Invalid stream ID specified as stream command argument
            XPENDING str g -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
