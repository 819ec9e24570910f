//! XDEL and XSETID: entries that go, and what is remembered of them.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, StreamId};

use super::ids;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xdel",
            summary: "Deletes entries of a stream.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(xdel),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xsetid",
            summary: "Sets the last id of a stream.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(xsetid),
        spread: Spread::Keys,
    },
];

fn xdel(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut deleted = 0;
    if let Some(mut stream) = cx.edit.edit_stream(&key)? {
        for id in ids::all(args.rest())? {
            deleted += i64::from(stream.remove(id));
        }
        if deleted > 0 {
            stream.event(EventClass::Stream, "xdel");
        }
    }
    cx.reply.int(deleted);
    Ok(())
}

fn xsetid(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let last = ids::strict(args.bytes()?, 0)?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    while args.left() > 0 {
        if args.left() > 1 && args.keyword("ENTRIESADDED") {
            let n = u64::try_from(args.int()?);
            added = Some(n.map_err(|_| Refusal::Text("ERR entries_added must be positive"))?);
        } else if args.left() > 1 && args.keyword("MAXDELETEDID") {
            max_deleted = ids::strict(args.bytes()?, 0)?;
            if last < max_deleted {
                return Err(Refusal::Text("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id").into());
            }
        } else {
            return Err(Refusal::Syntax.into());
        }
    }
    let mut stream = cx.edit.edit_stream(&key)?.ok_or(Refusal::NoSuchKey)?;
    if last < stream.max_deleted_id() {
        return Err(Refusal::Text(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        )
        .into());
    }
    if stream.last_entry_id().is_some_and(|entry| last < entry) {
        return Err(Refusal::Text(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        )
        .into());
    }
    if !stream.is_empty() && added.is_some_and(|added| added < stream.len() as u64) {
        return Err(Refusal::Text(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        )
        .into());
    }
    if max_deleted == StreamId::MIN {
        max_deleted = stream.max_deleted_id();
    }
    let added = added.unwrap_or(stream.entries_added());
    stream.set_ids(last, added, max_deleted);
    stream.event(EventClass::Stream, "xsetid");
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn entries_are_deleted() {
        Bench::new().table(
            "
            XDEL s 1 -> :0
            XDEL s x -> :0
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XDEL s 1 x -> -ERR Invalid stream ID specified as stream command argument
            XDEL s 1 1 3 2-0 -> :2
            EXISTS s -> :1
            XLEN s -> :0
            XADD s 2 f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            RENAME s t -> +OK
            COPY t u -> :1
            XADD u 2 f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            SET str x -> +OK
            XDEL str x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn what_is_remembered_is_set() {
        Bench::new().table(
            "
            XSETID s 1 -> -ERR no such key
            XADD s 5 f v -> $3 5-0
            XADD s 6 f v -> $3 6-0
            XSETID s 5 -> -ERR The ID specified in XSETID is smaller than the target stream top item
            XSETID s 9 ENTRIESADDED 1 -> -ERR The entries_added specified in XSETID is smaller than the target stream length
            XSETID s 9 ENTRIESADDED -1 -> -ERR entries_added must be positive
            XSETID s 9 MAXDELETEDID 10 -> -ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id
            XSETID s 9 ENTRIESADDED 20 MAXDELETEDID 3 -> +OK
            XADD s 9 f v -> -ERR The ID specified in XADD is equal or smaller than the target stream top item
            XDEL s 5 6 -> :2
            XSETID s 5 -> -ERR The ID specified in XSETID is smaller than current max_deleted_entry_id
            XSETID s 6 MAXDELETEDID 1 -> +OK
            XSETID s 2 -> +OK
            XADD s 3 f v -> $3 3-0
            XSETID s 9 ENTRIESADDED -> -ERR syntax error
            XSETID s 9 WHAT -> -ERR syntax error
            XSETID s x WHAT -> -ERR Invalid stream ID specified as stream command argument
            SET str x -> +OK
            XSETID str 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
