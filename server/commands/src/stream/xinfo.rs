//! XINFO: what is known of a stream, its groups and their consumers.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec};
use storage::{Consumer, Group as Consumers, Pending, Stream, StreamId};

use super::{entry, ids};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xinfo",
            summary: "Groups the commands that look at how a stream is.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Container,
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xinfo|consumers",
            summary: "Lists the consumers of a group.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STREAM),
            keys: &[KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS))],
            range: (2, 2, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(consumers),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xinfo|groups",
            summary: "Lists the consumer groups of a stream.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(3),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STREAM),
            keys: &[KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(groups),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xinfo|help",
            summary: "Lists the subcommands of XINFO.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW.and(Acl::STREAM),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(help),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xinfo|stream",
            summary: "Tells what is known of a stream.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(3),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STREAM),
            keys: &[KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS))],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(stream),
        spread: Spread::Keys,
    },
];

/// Entries of each kind that FULL shows without COUNT.
const FULL_COUNT: usize = 10;

const HELP: &[&str] = &[
    "CONSUMERS <key> <groupname>",
    "    List the consumers of a group.",
    "GROUPS <key>",
    "    List the groups of a stream.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Tell what is known of a stream; FULL lists entries, groups and consumers too.",
    "HELP",
    "    Print this help.",
];

/// The help of a container, with the head that all have.
pub(super) fn reply_help(cx: &mut Read<'_>, args: &Args<'_>, help: &[&str]) -> Result<(), Refused> {
    let name = String::from_utf8_lossy(args.word(0).unwrap_or_default()).to_uppercase();
    cx.reply.array(help.len() + 1);
    cx.reply.simple(&format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    help.iter().for_each(|line| cx.reply.simple(line));
    Ok(())
}

fn help(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    reply_help(cx, &args, HELP)
}

fn name(reply: &mut Reply<'_>, name: &str) {
    reply.bulk(name.as_bytes());
}

fn named_int(reply: &mut Reply<'_>, key: &str, n: i64) {
    name(reply, key);
    reply.int(n);
}

fn named_id(reply: &mut Reply<'_>, key: &str, id: StreamId) {
    name(reply, key);
    ids::reply(reply, id);
}

fn int_or_null(reply: &mut Reply<'_>, key: &str, n: Option<u64>) {
    name(reply, key);
    match n {
        Some(n) => reply.int(n.cast_signed()),
        None => reply.null(),
    }
}

/// How many entries the group has still to be given, if that can be told.
fn lag(stream: &Stream, group: &Consumers) -> Option<u64> {
    let added = stream.entries_added();
    if added == 0 {
        return Some(0);
    }
    let read = match group.entries_read() {
        Some(read) if !stream.has_gaps_from(group.last_id()) => Some(read),
        _ => stream.entries_until(group.last_id()),
    };
    read.map(|read| added.wrapping_sub(read))
}

fn consumers(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group) = (cx.key(args.bytes()?), args.bytes()?);
    let stream = cx.shard.stream(&key)?.ok_or(Refusal::NoSuchKey)?;
    let Some(group) = stream.group(group) else {
        return Err(entry::no_group_at(key.bytes, group).into());
    };
    let now_ms = cx.shard.wall_ms().cast_signed();
    let reply = &mut cx.reply;
    reply.array(group.consumers_len());
    for consumer in group.consumers() {
        reply.map(4);
        name(reply, "name");
        reply.bulk(consumer.name());
        named_int(reply, "pending", consumer.pending_len() as i64);
        let since = |at_ms: u64| now_ms.wrapping_sub(at_ms.cast_signed());
        named_int(reply, "idle", since(consumer.seen_ms).max(0));
        named_int(reply, "inactive", consumer.active_ms.map_or(-1, since));
    }
    Ok(())
}

fn groups(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let stream = cx.shard.stream(&key)?.ok_or(Refusal::NoSuchKey)?;
    let reply = &mut cx.reply;
    reply.array(stream.groups().len());
    for group in stream.groups() {
        reply.map(6);
        name(reply, "name");
        reply.bulk(group.name());
        named_int(reply, "consumers", group.consumers_len() as i64);
        named_int(reply, "pending", group.pending_len() as i64);
        named_id(reply, "last-delivered-id", group.last_id());
        int_or_null(reply, "entries-read", group.entries_read());
        int_or_null(reply, "lag", lag(stream, group));
    }
    Ok(())
}

fn stream(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let stream = cx.shard.stream(&key)?.ok_or(Refusal::NoSuchKey)?;
    let full = full_count(args)?;
    let reply = &mut cx.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    named_int(reply, "length", stream.len() as i64);
    named_int(reply, "radix-tree-keys", stream.node_count() as i64);
    // Redis's tree has a root, and inner nodes that ours has not.
    named_int(reply, "radix-tree-nodes", stream.node_count() as i64 + 1);
    named_id(reply, "last-generated-id", stream.last_id());
    named_id(reply, "max-deleted-entry-id", stream.max_deleted_id());
    named_int(reply, "entries-added", stream.entries_added().cast_signed());
    named_id(reply, "recorded-first-entry-id", stream.first_id());
    match full {
        Some(count) => reply_full(reply, stream, count),
        None => reply_ends(reply, stream),
    }
    Ok(())
}

/// How many entries FULL shows of each kind; None without FULL.
fn full_count(mut args: Args<'_>) -> Result<Option<usize>, Refusal> {
    match args.left() {
        0 => return Ok(None),
        1 | 3 if args.keyword("FULL") => {}
        _ => return Err(Refusal::subcommand_syntax(&args)),
    }
    if args.left() == 0 {
        return Ok(Some(FULL_COUNT));
    }
    if !args.keyword("COUNT") {
        return Err(Refusal::subcommand_syntax(&args));
    }
    Ok(Some(match usize::try_from(args.int()?) {
        Ok(0) => usize::MAX,
        Ok(count) => count,
        Err(_) => FULL_COUNT,
    }))
}

fn reply_ends(reply: &mut Reply<'_>, stream: &Stream) {
    named_int(reply, "groups", stream.groups().len() as i64);
    let first = stream.range(StreamId::MIN, StreamId::MAX).next();
    let last = stream.range_back(StreamId::MIN, StreamId::MAX).next();
    for (key, found) in [("first-entry", first), ("last-entry", last)] {
        name(reply, key);
        match found {
            Some(found) => entry::reply(reply, &found),
            None => reply.null(),
        }
    }
}

fn reply_full(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    name(reply, "entries");
    entry::reply_all(
        reply,
        stream.range(StreamId::MIN, StreamId::MAX).take(count),
    );
    name(reply, "groups");
    reply.array(stream.groups().len());
    for group in stream.groups() {
        reply.map(7);
        name(reply, "name");
        reply.bulk(group.name());
        named_id(reply, "last-delivered-id", group.last_id());
        int_or_null(reply, "entries-read", group.entries_read());
        int_or_null(reply, "lag", lag(stream, group));
        named_int(reply, "pel-count", group.pending_len() as i64);
        name(reply, "pending");
        reply.array(group.pending_len().min(count));
        for (id, pending) in group.pending_from(StreamId::MIN).take(count) {
            reply_pending(reply, id, Some(group.consumer_of(pending)), pending);
        }
        name(reply, "consumers");
        reply.array(group.consumers_len());
        for consumer in group.consumers() {
            reply_consumer(reply, group, consumer, count);
        }
    }
}

fn reply_consumer(reply: &mut Reply<'_>, group: &Consumers, consumer: &Consumer, count: usize) {
    reply.map(5);
    name(reply, "name");
    reply.bulk(consumer.name());
    named_int(reply, "seen-time", consumer.seen_ms.cast_signed());
    let active_ms = consumer.active_ms.map_or(-1, u64::cast_signed);
    named_int(reply, "active-time", active_ms);
    named_int(reply, "pel-count", consumer.pending_len() as i64);
    name(reply, "pending");
    reply.array(consumer.pending_len().min(count));
    for (id, pending) in group.pending_with(consumer, StreamId::MIN).take(count) {
        reply_pending(reply, id, None, pending);
    }
}

fn reply_pending(reply: &mut Reply<'_>, id: StreamId, with: Option<&[u8]>, pending: &Pending) {
    reply.array(3 + usize::from(with.is_some()));
    ids::reply(reply, id);
    if let Some(consumer) = with {
        reply.bulk(consumer);
    }
    reply.int(pending.delivered_ms.cast_signed());
    reply.int(pending.count.cast_signed());
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn what_is_known() {
        let mut bench = Bench::new();
        bench.table(
            "
            XINFO STREAM s -> -ERR no such key
            XINFO GROUPS s -> -ERR no such key
            XINFO CONSUMERS s g -> -ERR no such key
            XGROUP CREATE s g 0 MKSTREAM -> +OK
            XINFO STREAM s -> *20 $6 length :0 $15 radix-tree-keys :0 $16 radix-tree-nodes :1 $17 last-generated-id $3 0-0 $20 max-deleted-entry-id $3 0-0 $13 entries-added :0 $23 recorded-first-entry-id $3 0-0 $6 groups :1 $11 first-entry $-1 $10 last-entry $-1
            XINFO GROUPS s -> *1 *12 $4 name $1 g $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 0-0 $12 entries-read $-1 $3 lag :0
            XINFO CONSUMERS s g -> *0
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XADD s 3 f v -> $3 3-0
            XDEL s 1 -> :1
            XINFO STREAM s -> *20 $6 length :2 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id $3 3-0 $20 max-deleted-entry-id $3 1-0 $13 entries-added :3 $23 recorded-first-entry-id $3 2-0 $6 groups :1 $11 first-entry *2 $3 2-0 *2 $1 f $1 v $10 last-entry *2 $3 3-0 *2 $1 f $1 v
            XGROUP CREATECONSUMER s g d -> :1
            XREADGROUP GROUP g c COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v
            XINFO GROUPS s -> *1 *12 $4 name $1 g $9 consumers :2 $7 pending :1 $17 last-delivered-id $3 2-0 $12 entries-read :2 $3 lag :1
            ",
        );
        bench.pass_ms(7);
        bench.table(
            "
            XINFO CONSUMERS s g -> *2 *8 $4 name $1 c $7 pending :1 $4 idle :7 $8 inactive :7 *8 $4 name $1 d $7 pending :0 $4 idle :7 $8 inactive :-1
            XINFO CONSUMERS s none -> -NOGROUP No such consumer group 'none' for key name 's'
            XINFO STREAM s FULL COUNT 1 -> *18 $6 length :2 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id $3 3-0 $20 max-deleted-entry-id $3 1-0 $13 entries-added :3 $23 recorded-first-entry-id $3 2-0 $7 entries *1 *2 $3 2-0 *2 $1 f $1 v $6 groups *1 *14 $4 name $1 g $17 last-delivered-id $3 2-0 $12 entries-read :2 $3 lag :1 $9 pel-count :1 $7 pending *1 *4 $3 2-0 $1 c :1700000000000 :1 $9 consumers *2 *10 $4 name $1 c $9 seen-time :1700000000000 $11 active-time :1700000000000 $9 pel-count :1 $7 pending *1 *3 $3 2-0 :1700000000000 :1 *10 $4 name $1 d $9 seen-time :1700000000000 $11 active-time :-1 $9 pel-count :0 $7 pending *0
            XINFO STREAM s FULL COUNT -> -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
            XINFO STREAM s WHAT -> -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
            XINFO STREAM s FULL LIMIT 1 -> -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
            XINFO STREAM s FULL COUNT x -> -ERR value is not an integer or out of range
            SET str x -> +OK
            XINFO STREAM str WHAT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        bench.resp = Resp::V3;
        assert!(
            bench
                .run("XINFO STREAM s FULL")
                .starts_with("%9 $6 length :2 ")
        );
        assert!(
            bench
                .run("XINFO HELP")
                .starts_with("*9 +XINFO <subcommand> ")
        );
    }

    #[test]
    fn what_is_left_to_read() {
        Bench::new().table(
            "
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XADD s 3 f v -> $3 3-0
            XGROUP CREATE s a 0 -> +OK
            XGROUP CREATE s b 2 -> +OK
            XGROUP CREATE s c $ ENTRIESREAD 3 -> +OK
            XGROUP CREATE s d 2 ENTRIESREAD 2 -> +OK
            XINFO GROUPS s -> *4 *12 $4 name $1 a $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 0-0 $12 entries-read $-1 $3 lag :3 *12 $4 name $1 b $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 2-0 $12 entries-read $-1 $3 lag $-1 *12 $4 name $1 c $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 3-0 $12 entries-read :3 $3 lag :0 *12 $4 name $1 d $9 consumers :0 $7 pending :0 $17 last-delivered-id $3 2-0 $12 entries-read :2 $3 lag :1
            ",
        );
    }
}
