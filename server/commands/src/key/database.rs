//! DBSIZE, FLUSHALL, FLUSHDB, SWAPDB: whole databases.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::key::{db_index, narrow_int};
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "dbsize",
            summary: "Counts the keys of the selected database.",
            group: Group::Server,
            since: "1.0.0",
            arity: Arity::exactly(1),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: &[],
            range: (0, 0, 0),
            tips: &["request_policy:all_shards", "response_policy:agg_sum"],
            deprecated_since: None,
        },
        run: Run::Read(dbsize),
        spread: Spread::Sum,
    },
    Command {
        spec: Spec {
            name: "flushall",
            summary: "Removes every key of every database.",
            group: Group::Server,
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags: Flags::WRITE,
            acl: Acl::DANGEROUS
                .and(Acl::KEYSPACE)
                .and(Acl::SLOW)
                .and(Acl::WRITE),
            keys: &[],
            range: (0, 0, 0),
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            deprecated_since: None,
        },
        run: Run::Write(flushall),
        spread: Spread::Whole,
    },
    Command {
        spec: Spec {
            name: "flushdb",
            summary: "Removes every key of the selected database.",
            group: Group::Server,
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags: Flags::WRITE,
            acl: Acl::DANGEROUS
                .and(Acl::KEYSPACE)
                .and(Acl::SLOW)
                .and(Acl::WRITE),
            keys: &[],
            range: (0, 0, 0),
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            deprecated_since: None,
        },
        run: Run::Write(flushdb),
        spread: Spread::Whole,
    },
    Command {
        spec: Spec {
            name: "swapdb",
            summary: "Makes two databases change places.",
            group: Group::Server,
            since: "4.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::DANGEROUS
                .and(Acl::FAST)
                .and(Acl::KEYSPACE)
                .and(Acl::WRITE),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(swapdb),
        spread: Spread::Whole,
    },
];

fn dbsize(cx: &mut Read<'_>, _: Args<'_>) -> Result<(), Refused> {
    let keys = cx.shard.count(cx.db).keys;
    cx.reply.int(keys as i64);
    Ok(())
}

fn flushall(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    take_mode(args)?;
    cx.edit.flush_all();
    cx.reply.ok();
    Ok(())
}

fn flushdb(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    take_mode(args)?;
    cx.edit.flush_db(cx.db);
    cx.reply.ok();
    Ok(())
}

/// Takes ASYNC or SYNC. It makes no difference: memory is always freed in slices.
fn take_mode(mut args: Args<'_>) -> Result<(), Refusal> {
    if !args.keyword("SYNC") {
        args.keyword("ASYNC");
    }
    args.end()
}

fn swapdb(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    if cx.settings.cluster {
        return Err(Refusal::ClusterSwapdb.into());
    }
    let first = narrow_int(args.bytes()?).map_err(|_| Refusal::InvalidFirstDbIndex)?;
    let second = narrow_int(args.bytes()?).map_err(|_| Refusal::InvalidSecondDbIndex)?;
    let count = cx.edit.db_count();
    let (first, second) = (db_index(first, count)?, db_index(second, count)?);
    cx.edit.swap_db(first, second);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn databases_are_counted_and_emptied() {
        let mut bench = Bench::new();
        bench.table(
            "
            DBSIZE -> :0
            FLUSHALL -> +OK
            FLUSHDB -> +OK
            MSET a 1 b 2 -> +OK
            COPY a a DB 3 -> :1
            COPY a a DB 4 -> :1
            DBSIZE -> :2
            FLUSHDB what -> -ERR syntax error
            FLUSHDB async sync -> -ERR syntax error
            FLUSHDB async -> +OK
            DBSIZE -> :0
            ",
        );
        bench.db = 3;
        bench.table(
            "
            DBSIZE -> :1
            FLUSHALL SYNC x -> -ERR syntax error
            FLUSHALL SYNC -> +OK
            DBSIZE -> :0
            ",
        );
        bench.db = 4;
        bench.table("DBSIZE -> :0");
    }

    #[test]
    fn databases_change_places() {
        let mut bench = Bench::new();
        bench.table(
            "
            SET a 0 -> +OK
            SWAPDB x y -> -ERR invalid first DB index
            SWAPDB 2147483648 0 -> -ERR invalid first DB index
            SWAPDB 0 y -> -ERR invalid second DB index
            SWAPDB 99 y -> -ERR invalid second DB index
            SWAPDB 0 16 -> -ERR DB index is out of range
            SWAPDB -1 0 -> -ERR DB index is out of range
            SWAPDB 0 0 -> +OK
            SWAPDB 0 7 -> +OK
            DBSIZE -> :0
            ",
        );
        bench.db = 7;
        bench.table("GET a -> $1 0");
        bench.settings.cluster = true;
        bench.table("SWAPDB x y -> -ERR SWAPDB is not allowed in cluster mode");
    }
}
