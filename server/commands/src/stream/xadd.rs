//! Hot path. XADD: a new entry.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, STREAM_NODE_BYTES_MAX, Stream, StreamId};

use super::ids::{self, Given};
use super::xtrim::Options;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "xadd",
        summary: "Adds an entry to a stream.",
        group: Group::Stream,
        since: "5.0.0",
        arity: Arity::at_least(5),
        flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
        acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
        keys: spec::ONE_RW_UPDATE,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Write(xadd),
    spread: Spread::Keys,
}];

const TOO_LOW: Refusal = Refusal::Text(
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
);

fn xadd(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (mut options, mut make, mut given) = (Options::default(), true, None);
    while let Some(word) = args.peek() {
        if word == b"*" {
            args.bytes()?;
            break;
        }
        if options.take(&mut args)? {
            continue;
        }
        if args.keyword("NOMKSTREAM") {
            make = false;
            continue;
        }
        given = Some(ids::for_entry(args.bytes()?)?);
        break;
    }
    let trim = options.trim(cx.edit.limits(), false)?;
    if args.left() < 2 || !args.left().is_multiple_of(2) {
        return Err(Refusal::arity("xadd").into());
    }
    if given == Some(Given::Id(StreamId::MIN)) {
        return Err(Refusal::Text("ERR The ID specified in XADD must be greater than 0-0").into());
    }
    let now_ms = cx.edit.wall_ms();
    if !make && !cx.edit.exists(&key) {
        cx.reply.null();
        return Ok(());
    }
    let mut stream = cx.edit.edit_stream_or_new(&key)?;
    let id = new_id(&stream, given, now_ms)?;
    let bytes: u64 = args.rest().map(|word| word.len() as u64).sum();
    if bytes > STREAM_NODE_BYTES_MAX {
        return Err(Refusal::Text("ERR Elements are too large to be stored").into());
    }
    if !stream.add(id, args.rest()) {
        return Err(TOO_LOW.into());
    }
    stream.event(EventClass::Stream, "xadd");
    if let Some(trim) = trim
        && stream.trim(&trim) > 0
    {
        stream.event(EventClass::Stream, "xtrim");
    }
    ids::reply(&mut cx.reply, id);
    Ok(())
}

/// The id of a new entry: as it is given, or the next one.
fn new_id(stream: &Stream, given: Option<Given>, now_ms: u64) -> Result<StreamId, Refusal> {
    let last = stream.last_id();
    if last == StreamId::MAX {
        return Err(Refusal::Text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    match given {
        Some(Given::Id(id)) => Ok(id),
        Some(Given::Ms(ms)) if ms == last.ms => {
            let seq = last.seq.checked_add(1).ok_or(TOO_LOW)?;
            Ok(StreamId::new(ms, seq))
        }
        Some(Given::Ms(ms)) => Ok(StreamId::new(ms, 0)),
        None if now_ms > last.ms => Ok(StreamId::new(now_ms, 0)),
        None => last.next().ok_or(TOO_LOW),
    }
}

#[cfg(test)]
mod tests {
    use storage::Limits;

    use crate::testing::Bench;

    #[test]
    fn ids_are_given_or_made() {
        let mut bench = Bench::new();
        bench.table(
            "
            XADD s * f v -> $15 1700000000000-0
            XADD s * f v -> $15 1700000000000-1
            XADD s 1700000000000-* f v -> $15 1700000000000-2
            XADD s 1700000000001-* f v -> $15 1700000000001-0
            XADD s * f v -> $15 1700000000001-1
            XADD s 5-* f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            XADD s 0 f v -> -ERR The ID specified in XADD must be greater than 0-0
            XADD t 0-0 f v -> -ERR The ID specified in XADD must be greater than 0-0
            EXISTS t -> :0
            XADD t 0-* f v -> $3 0-1
            XADD t 7 f v -> $3 7-0
            XADD t 7-0 f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            XADD t 7-18446744073709551615 f v -> $22 7-18446744073709551615
            XADD t 7-* f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            XADD u 18446744073709551615-18446744073709551615 f v -> $41 18446744073709551615-18446744073709551615
            XADD u * f v -> -ERR The stream has exhausted the last possible ID, unable to add more items
            XADD u 1 f v -> -ERR The stream has exhausted the last possible ID, unable to add more items
            ",
        );
    }

    #[test]
    fn options_and_mistakes() {
        let mut bench = Bench::with_limits(Limits {
            stream_node_max_entries: 2,
            ..Limits::default()
        });
        bench.table(
            "
            XADD s NOMKSTREAM * f v -> $-1
            XADD s NOMKSTREAM 0-0 f v -> -ERR The ID specified in XADD must be greater than 0-0
            XADD s 1 f v -> $3 1-0
            XADD s nomkstream 2 f v -> $3 2-0
            XADD s MAXLEN 2 3 f v -> $3 3-0
            XADD s MAXLEN ~ 2 4 f v -> $3 4-0
            XLEN s -> :2
            XADD s MAXLEN ~ 2 LIMIT 1 5 f v -> $3 5-0
            XLEN s -> :3
            XADD s MINID = 4 NOMKSTREAM 6 f v -> $3 6-0
            XLEN s -> :3
            XADD s MAXLEN 0 7 f v -> $3 7-0
            XLEN s -> :0
            XADD s NOMKSTREAM * f -> -ERR wrong number of arguments for 'xadd' command
            XADD s * f v f -> -ERR wrong number of arguments for 'xadd' command
            XADD s MAXLEN 5 NOMKSTREAM NOMKSTREAM -> -ERR wrong number of arguments for 'xadd' command
            XADD s MAXLEN 5 LIMIT 5 * f -> -ERR syntax error, LIMIT cannot be used without the special ~ option
            XADD s LIMIT 5 * f v -> -ERR syntax error, LIMIT cannot be used without specifying a trimming strategy
            XADD s MINID 1 MAXLEN 1 * f v -> -ERR syntax error, MAXLEN and MINID options at the same time are not compatible
            XADD s - f v -> -ERR Invalid stream ID specified as stream command argument
            XADD s WHAT * f v -> -ERR Invalid stream ID specified as stream command argument
            SET str x -> +OK
            XADD str * f v -> -WRONGTYPE Operation against a key holding the wrong kind of value
            XADD str NOMKSTREAM * f v -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn a_trimming_is_told_behind_the_entry() {
        Bench::new().event_table(
            "
            XADD s 1 f v -> new s, xadd s
            XADD s MAXLEN 1 2 f v -> xadd s, xtrim s
            XADD s MAXLEN 9 3 f v -> xadd s
            XTRIM s MAXLEN 1 -> xtrim s
            XTRIM s MAXLEN 1 ->
            ",
        );
    }
}
