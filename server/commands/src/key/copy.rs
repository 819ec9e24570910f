//! COPY and MOVE: a value at another key, or in another database; its deadline goes along.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, spec};
use storage::EventClass;

use crate::key::{db_index, narrow_int, ttl_of};
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "copy",
            summary: "Puts a copy of a key's value at another key.",
            group: Group::Generic,
            since: "6.2.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::KEYSPACE.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
                KeySpec::one(2, KeyFlags::OW.and(KeyFlags::UPDATE)),
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(copy),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "move",
            summary: "Moves a key to another database.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(move_key),
        spread: Spread::Keys,
    },
];

fn copy(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (from, to) = (cx.key(args.bytes()?), args.bytes()?);
    let (mut db, mut replace) = (cx.db, false);
    while args.left() > 0 {
        if args.keyword("REPLACE") {
            replace = true;
        } else if args.left() > 1 && args.keyword("DB") {
            let index = narrow_int(args.bytes()?)?;
            // A cluster has one database; that is said below.
            db = if cx.settings.cluster && index > 0 {
                1
            } else {
                db_index(index, cx.edit.db_count())?
            };
        } else {
            return Err(Refusal::Syntax.into());
        }
    }
    if cx.settings.cluster && (cx.db, db) != (0, 0) {
        return Err(Refusal::ClusterCopyDb.into());
    }
    let to = cx.key_in(db, to);
    if from.db == to.db && from.bytes == to.bytes {
        return Err(Refusal::SameObject.into());
    }
    let copied = cx.edit.touch(&from) && (replace || !cx.edit.exists(&to));
    if copied && let Some((value, deadline)) = cx.edit.clone_value(&from) {
        if replace && cx.edit.exists(&to) {
            // To who listens what was there is gone first.
            cx.edit.event(EventClass::New, "new", &to);
        }
        cx.edit.put_value(&to, value, ttl_of(deadline));
        cx.edit.event(EventClass::Generic, "copy_to", &to);
    }
    cx.reply.int(i64::from(copied));
    Ok(())
}

fn move_key(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    if cx.settings.cluster {
        return Err(Refusal::ClusterMove.into());
    }
    let from = cx.key(args.bytes()?);
    let db = db_index(narrow_int(args.bytes()?)?, cx.edit.db_count())?;
    if db == cx.db {
        return Err(Refusal::SameObject.into());
    }
    let to = from.in_db(db);
    let moved = cx.edit.exists(&from) && !cx.edit.exists(&to);
    if moved && let Some((value, deadline)) = cx.edit.take(&from) {
        cx.edit.put_value(&to, value, ttl_of(deadline));
        cx.edit.event(EventClass::Generic, "move_from", &from);
        cx.edit.event(EventClass::Generic, "move_to", &to);
    }
    cx.reply.int(i64::from(moved));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn copies() {
        let mut bench = Bench::new();
        bench.table(
            "
            COPY a b -> :0
            COPY a a -> -ERR source and destination objects are the same
            COPY a b WHAT -> -ERR syntax error
            COPY a b DB -> -ERR syntax error
            COPY a b DB x REPLACE WHAT -> -ERR value is not an integer or out of range
            COPY a b DB 2147483648 -> -ERR value is out of range, value must between -2147483648 and 2147483647
            COPY a b DB 16 -> -ERR DB index is out of range
            COPY a b DB -1 WHAT -> -ERR DB index is out of range
            SET a 1 PX 70 -> +OK
            COPY a b -> :1
            PTTL b -> :70
            SET a 2 -> +OK
            COPY a b -> :0
            GET b -> $1 1
            COPY a b REPLACE replace -> :1
            GET b -> $1 2
            PTTL b -> :-1
            COPY a a DB 1 -> :1
            COPY a b DB 1 DB 0 -> :0
            ",
        );
        bench.db = 1;
        bench.table(
            "
            GET a -> $1 2
            COPY a a DB 0 -> :0
            COPY a a DB 1 -> -ERR source and destination objects are the same
            ",
        );
    }

    #[test]
    fn a_key_moves() {
        let mut bench = Bench::new();
        bench.table(
            "
            MOVE a 0 -> -ERR source and destination objects are the same
            MOVE a x -> -ERR value is not an integer or out of range
            MOVE a -2147483649 -> -ERR value is out of range, value must between -2147483648 and 2147483647
            MOVE a 16 -> -ERR DB index is out of range
            MOVE a 1 -> :0
            SET a 1 PX 70 -> +OK
            MOVE a 1 -> :1
            EXISTS a -> :0
            SET a 2 -> +OK
            MOVE a 1 -> :0
            ",
        );
        bench.db = 1;
        bench.table(
            "
            PTTL a -> :70
            GET a -> $1 1
            ",
        );
    }

    #[test]
    fn a_cluster_has_one_database() {
        let mut bench = Bench::new();
        bench.settings.cluster = true;
        bench.table(
            "
            MOVE a x -> -ERR MOVE is not allowed in cluster mode
            COPY a a DB 1 WHAT -> -ERR syntax error
            COPY a a DB 1 -> -ERR Copying to another database is not allowed in cluster mode
            COPY a b DB -1 -> -ERR DB index is out of range
            COPY a b DB 0 -> :0
            ",
        );
    }
}
