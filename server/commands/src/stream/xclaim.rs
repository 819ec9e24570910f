//! XCLAIM and XAUTOCLAIM: pending entries go to another consumer.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, number, spec};
use storage::{EventClass, Pending, Stream, StreamEdit, StreamId};

use super::{entry, ids};
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xautoclaim",
            summary: "Passes pending entries that have been idle for long to a consumer.",
            group: Group::Stream,
            since: "6.2.0",
            arity: Arity::at_least(6),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Write(xautoclaim),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xclaim",
            summary: "Passes pending entries to a consumer.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(6),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Write(xclaim),
        spread: Spread::Keys,
    },
];

/// XAUTOCLAIM without COUNT, and the highest one: of those above it Redis has no memory for the ids.
const COUNT: usize = 100;
const COUNT_MAX: i64 = i64::MAX / 16;
const COUNT_WITH_MEMORY_MAX: i64 = 1 << 43;
/// XAUTOCLAIM looks at so many entries for one that it may claim.
const LOOKS_FOR_ONE: usize = 10;

/// A claim: who wants which entries, and how they are pending then.
struct Claim<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    min_idle_ms: i64,
    delivered_ms: Option<i64>,
    retry_count: Option<u64>,
    /// Also entries that are not pending.
    force: bool,
    /// Ids are replied only, and no delivery is counted.
    just_id: bool,
    last_id: StreamId,
}

/// What becomes of an entry that is looked at.
enum Fate {
    /// It is claimed; it has been delivered so often then.
    Claimed(u64),
    /// The stream has it no more: it is no longer pending.
    Gone,
    /// It stays as it is.
    Kept,
}

impl<'a> Claim<'a> {
    fn new(group: &'a [u8], consumer: &'a [u8], min_idle_ms: i64) -> Claim<'a> {
        Claim {
            group,
            consumer,
            min_idle_ms: min_idle_ms.max(0),
            delivered_ms: None,
            retry_count: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
        }
    }

    /// Takes the options behind the ids of XCLAIM.
    fn options(&mut self, args: &mut Args<'_>, now_ms: u64) -> Result<(), Refusal> {
        let int = |args: &mut Args<'_>, refusal: &'static str| {
            number::parse_i64(args.bytes()?).ok_or(Refusal::Text(refusal))
        };
        while let Some(word) = args.peek() {
            let more = args.left() > 1;
            if args.keyword("FORCE") {
                self.force = true;
            } else if args.keyword("JUSTID") {
                self.just_id = true;
            } else if more && args.keyword("IDLE") {
                let idle = int(args, "ERR Invalid IDLE option argument for XCLAIM")?;
                self.delivered_ms = Some(now_ms.cast_signed().wrapping_sub(idle));
            } else if more && args.keyword("TIME") {
                self.delivered_ms = Some(int(args, "ERR Invalid TIME option argument for XCLAIM")?);
            } else if more && args.keyword("RETRYCOUNT") {
                let count = int(args, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                self.retry_count = u64::try_from(count).ok();
            } else if more && args.keyword("LASTID") {
                self.last_id = ids::strict(args.bytes()?, 0)?;
            } else {
                let parts = [
                    &b"ERR Unrecognized XCLAIM option '"[..],
                    entry::text(word),
                    b"'",
                ];
                return Err(Refusal::Quoted(parts.concat().into()));
            }
        }
        Ok(())
    }

    /// When claimed entries count as delivered: a time to come would be none.
    fn delivered_ms(&self, now_ms: u64) -> u64 {
        let given = self
            .delivered_ms
            .and_then(|at_ms| u64::try_from(at_ms).ok());
        given.filter(|at_ms| *at_ms <= now_ms).unwrap_or(now_ms)
    }

    fn fate(&self, stream: &Stream, id: StreamId, pending: Option<&Pending>, now_ms: u64) -> Fate {
        if stream.get(id).is_none() {
            return if pending.is_some() {
                Fate::Gone
            } else {
                Fate::Kept
            };
        }
        let count = match pending {
            None if !self.force => return Fate::Kept,
            // Redis makes it pending as delivered once, and then delivers it.
            None => 1,
            Some(pending) => {
                let idle = now_ms
                    .cast_signed()
                    .wrapping_sub(pending.delivered_ms.cast_signed());
                if self.min_idle_ms > 0 && idle < self.min_idle_ms {
                    return Fate::Kept;
                }
                pending.count
            }
        };
        let delivered = count.wrapping_add(u64::from(!self.just_id));
        Fate::Claimed(self.retry_count.unwrap_or(delivered))
    }
}

/// Makes the consumer if there is none.
fn see(stream: &mut StreamEdit<'_>, claim: &Claim<'_>, now_ms: u64) {
    let known = stream
        .group(claim.group)
        .and_then(|group| group.consumer(claim.consumer));
    if known.is_some() {
        stream.see_consumer(claim.group, claim.consumer, now_ms);
    } else {
        stream.put_consumer(claim.group, claim.consumer, now_ms, None);
        stream.event(EventClass::Stream, "xgroup-createconsumer");
    }
}

fn xclaim(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group, consumer) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let now_ms = cx.edit.wall_ms();
    cx.edit.count_read(&key);
    let stream = cx.edit.edit_stream(&key)?;
    let Some(mut stream) = stream.filter(|stream| stream.group(group).is_some()) else {
        return Err(entry::no_group(key.bytes, group, "").into());
    };
    let min_idle_ms = number::parse_i64(args.bytes()?).ok_or(Refusal::Text(
        "ERR Invalid min-idle-time argument for XCLAIM",
    ))?;
    let mut claim = Claim::new(group, consumer, min_idle_ms);
    let mut wanted = Vec::new();
    while let Some(Ok(id)) = args.peek().map(|word| ids::strict(word, 0)) {
        args.bytes()?;
        wanted.push(id);
    }
    claim.options(&mut args, now_ms)?;
    if let Some(found) = stream.group(group)
        && claim.last_id > found.last_id()
    {
        let read = found.entries_read();
        stream.put_group(group, claim.last_id, read);
    }
    see(&mut stream, &claim, now_ms);
    let (later, mut claimed) = (cx.reply.later(), 0);
    for id in wanted {
        let pending = stream.group(group).and_then(|group| group.pending(id));
        match claim.fate(&stream, id, pending, now_ms) {
            Fate::Kept => {}
            Fate::Gone => drop(stream.remove_pending(group, id)),
            Fate::Claimed(count) => {
                stream.put_pending(group, consumer, id, claim.delivered_ms(now_ms), count);
                reply_claimed(&mut cx.reply, &stream, id, claim.just_id);
                claimed += 1;
            }
        }
    }
    if claimed > 0 {
        stream.put_consumer(group, consumer, now_ms, Some(now_ms));
    }
    cx.reply.array_at(later, claimed);
    Ok(())
}

fn xautoclaim(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group, consumer) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    // (Redis looks before it understands the rest.)
    cx.edit.count_read(&key);
    let min_idle_ms = number::parse_i64(args.bytes()?).ok_or(Refusal::Text(
        "ERR Invalid min-idle-time argument for XAUTOCLAIM",
    ))?;
    let mut claim = Claim::new(group, consumer, min_idle_ms);
    let first = ids::range_first(args.bytes()?)?;
    let mut count = COUNT as i64;
    while args.left() > 0 {
        if args.left() > 1 && args.keyword("COUNT") {
            count = number::parse_i64(args.bytes()?)
                .filter(|count| (1..=COUNT_MAX).contains(count))
                .ok_or(Refusal::Text("ERR COUNT must be > 0"))?;
        } else if args.keyword("JUSTID") {
            claim.just_id = true;
        } else {
            return Err(Refusal::Syntax.into());
        }
    }
    let now_ms = cx.edit.wall_ms();
    let stream = cx.edit.edit_stream(&key)?;
    let Some(mut stream) = stream.filter(|stream| stream.group(group).is_some()) else {
        return Err(entry::no_group(key.bytes, group, "").into());
    };
    if count > COUNT_WITH_MEMORY_MAX {
        return Err(Refusal::Text(
            "ERR Insufficient memory, failed allocating transient memory, COUNT too high.",
        )
        .into());
    }
    see(&mut stream, &claim, now_ms);
    let found = look(&stream, &claim, first, count as usize, now_ms);
    cx.reply.array(3);
    ids::reply(&mut cx.reply, found.next);
    cx.reply.array(found.claimed.len());
    for (id, count) in &found.claimed {
        stream.put_pending(group, consumer, *id, now_ms, *count);
        reply_claimed(&mut cx.reply, &stream, *id, claim.just_id);
    }
    if !found.claimed.is_empty() {
        stream.put_consumer(group, consumer, now_ms, Some(now_ms));
    }
    cx.reply.array(found.gone.len());
    for id in found.gone {
        stream.remove_pending(group, id);
        ids::reply(&mut cx.reply, id);
    }
    Ok(())
}

/// What XAUTOCLAIM has found.
struct Found {
    claimed: Vec<(StreamId, u64)>,
    gone: Vec<StreamId>,
    /// Where the next one goes on; 0-0 at the end.
    next: StreamId,
}

fn look(stream: &Stream, claim: &Claim<'_>, first: StreamId, count: usize, now_ms: u64) -> Found {
    let (mut claimed, mut gone) = (Vec::new(), Vec::new());
    let group = stream.group(claim.group).into_iter();
    let mut pending = group.flat_map(|group| group.pending_from(first));
    for _ in 0..count.saturating_mul(LOOKS_FOR_ONE) {
        if claimed.len() + gone.len() == count {
            break;
        }
        let Some((id, entry)) = pending.next() else {
            break;
        };
        match claim.fate(stream, id, Some(entry), now_ms) {
            Fate::Kept => {}
            Fate::Gone => gone.push(id),
            Fate::Claimed(count) => claimed.push((id, count)),
        }
    }
    let next = pending.next().map_or(StreamId::MIN, |(id, _)| id);
    Found {
        claimed,
        gone,
        next,
    }
}

fn reply_claimed(reply: &mut Reply<'_>, stream: &Stream, id: StreamId, just_id: bool) {
    match stream.get(id) {
        Some(entry) if !just_id => entry::reply(reply, &entry),
        _ => ids::reply(reply, id),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    /// Entries 1 to 4, of which 1 to 3 are pending with `a` since 100 ms; 2 is deleted.
    fn bench() -> Bench {
        let mut bench = Bench::new();
        for n in 1..=4 {
            bench.run(&format!("XADD s {n} f v"));
        }
        bench.run("XGROUP CREATE s g 0");
        bench.run("XREADGROUP GROUP g a COUNT 3 STREAMS s >");
        bench.run("XDEL s 2");
        bench.pass_ms(100);
        bench
    }

    #[test]
    fn entries_are_claimed_by_id() {
        bench().table(
            "
            XCLAIM s g b 101 1 -> *0
            XCLAIM s g b 100 1 2 4 9 -> *1 *2 $3 1-0 *2 $1 f $1 v
            XPENDING s g - + 9 -> *2 *4 $3 1-0 $1 b :0 :2 *4 $3 3-0 $1 a :100 :1
            XCLAIM s g b 0 3 4 FORCE JUSTID -> *2 $3 3-0 $3 4-0
            XPENDING s g 3 + 9 -> *2 *4 $3 3-0 $1 b :0 :1 *4 $3 4-0 $1 b :0 :1
            XCLAIM s g c 0 1 IDLE 70 RETRYCOUNT 9 -> *1 *2 $3 1-0 *2 $1 f $1 v
            XPENDING s g 1 1 9 -> *1 *4 $3 1-0 $1 c :70 :9
            XCLAIM s g c 0 1 TIME 1700000000099 RETRYCOUNT -5 JUSTID -> *1 $3 1-0
            XPENDING s g 1 1 9 -> *1 *4 $3 1-0 $1 c :1 :9
            XCLAIM s g c -5 1 TIME 1800000000000 -> *1 *2 $3 1-0 *2 $1 f $1 v
            XPENDING s g 1 1 9 -> *1 *4 $3 1-0 $1 c :0 :10
            XCLAIM s g c 0 9 LASTID 8 -> *0
            XADD s 5 f v -> $3 5-0
            XREADGROUP GROUP g c STREAMS s > -> *-1
            XCLAIM s g c x 9 -> -ERR Invalid min-idle-time argument for XCLAIM
            XCLAIM s g c 0 9 IDLE x -> -ERR Invalid IDLE option argument for XCLAIM
            XCLAIM s g c 0 9 TIME x -> -ERR Invalid TIME option argument for XCLAIM
            XCLAIM s g c 0 9 RETRYCOUNT x -> -ERR Invalid RETRYCOUNT option argument for XCLAIM
            XCLAIM s g c 0 9 LASTID - -> -ERR Invalid stream ID specified as stream command argument
            XCLAIM s g c 0 9 TIME -> -ERR Unrecognized XCLAIM option 'TIME'
            XCLAIM s g c 0 9 FORCE 8 -> -ERR Unrecognized XCLAIM option '8'
            XCLAIM s none c x 9 -> -NOGROUP No such key 's' or consumer group 'none'
            SET str x -> +OK
            XCLAIM str g c x 9 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn entries_are_claimed_in_order() {
        let mut bench = bench();
        bench.table(
            "
            XAUTOCLAIM s g b 100 - COUNT 1 -> *3 $3 2-0 *1 *2 $3 1-0 *2 $1 f $1 v *0
            XAUTOCLAIM s g b 100 2-0 COUNT 1 JUSTID -> *3 $3 3-0 *0 *1 $3 2-0
            XAUTOCLAIM s g b 100 (2-0 JUSTID -> *3 $3 0-0 *1 $3 3-0 *0
            XPENDING s g - + 9 -> *2 *4 $3 1-0 $1 b :0 :2 *4 $3 3-0 $1 b :0 :1
            XAUTOCLAIM s g b 1 - -> *3 $3 0-0 *0 *0
            XAUTOCLAIM s g b 0 + COUNT 0 -> -ERR COUNT must be > 0
            XAUTOCLAIM s g b 0 + COUNT 576460752303423488 -> -ERR COUNT must be > 0
            XAUTOCLAIM s g b 0 + COUNT -> -ERR syntax error
            XAUTOCLAIM s g b x y WHAT -> -ERR Invalid min-idle-time argument for XAUTOCLAIM
            XAUTOCLAIM s g b 0 y WHAT -> -ERR Invalid stream ID specified as stream command argument
            XAUTOCLAIM s g b 0 - WHAT -> -ERR syntax error
            XAUTOCLAIM none g b 0 - -> -NOGROUP No such key 'none' or consumer group 'g'
            ",
        );
        // A look at ten entries for one that may be claimed.
        for n in 11..=35 {
            bench.run(&format!("XADD s {n} f v"));
        }
        bench.run("XREADGROUP GROUP g a STREAMS s >");
        bench.table("XAUTOCLAIM s g b 1 4 COUNT 2 -> *3 $4 30-0 *0 *0");
    }
}
