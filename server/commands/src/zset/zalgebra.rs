//! Intersection, union and difference of sorted sets: told, counted or stored. Sets are taken as well.

use core::ops::ControlFlow;

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Spec};
use storage::{EventClass, OwnedValue, Shard};

use crate::key;
use crate::zset::entries;
use crate::zset::zcombine::{compact, intersect};
use crate::zset::zrequest::{Operation, Purpose, Request};
use crate::{Command, Read, Refused, Run, Spread, Write};

/// So many inputs.
const INPUTS: &[KeySpec] = &[KeySpec::counted(1, KeyFlags::RO.and(KeyFlags::ACCESS))];
/// The destination, and so many inputs.
const STORE_AND_INPUTS: &[KeySpec] = &[
    KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
    KeySpec::counted(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zdiff",
            summary: "Tells the members of the first sorted set that no other has.",
            group: Group::SortedSet,
            since: "6.2.0",
            arity: Arity::at_least(3),
            flags: Flags::MOVABLEKEYS.and(Flags::READONLY),
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: INPUTS,
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zdiff),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zdiffstore",
            summary: "Stores the members of the first sorted set that no other has.",
            group: Group::SortedSet,
            since: "6.2.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: STORE_AND_INPUTS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zdiffstore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zinter",
            summary: "Tells the members that all sorted sets have.",
            group: Group::SortedSet,
            since: "6.2.0",
            arity: Arity::at_least(3),
            flags: Flags::MOVABLEKEYS.and(Flags::READONLY),
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: INPUTS,
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zinter),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zintercard",
            summary: "Counts the members that all sorted sets have, up to a limit.",
            group: Group::SortedSet,
            since: "7.0.0",
            arity: Arity::at_least(3),
            flags: Flags::MOVABLEKEYS.and(Flags::READONLY),
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: INPUTS,
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zintercard),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zinterstore",
            summary: "Stores the members that all sorted sets have.",
            group: Group::SortedSet,
            since: "2.0.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: STORE_AND_INPUTS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zinterstore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zunion",
            summary: "Tells the members that at least one sorted set has.",
            group: Group::SortedSet,
            since: "6.2.0",
            arity: Arity::at_least(3),
            flags: Flags::MOVABLEKEYS.and(Flags::READONLY),
            acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
            keys: INPUTS,
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(zunion),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zunionstore",
            summary: "Stores the members that at least one sorted set has.",
            group: Group::SortedSet,
            since: "2.0.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: STORE_AND_INPUTS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zunionstore),
        spread: Spread::Keys,
    },
];

fn zdiff(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, Operation::Diff, "zdiff")
}

fn zinter(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, Operation::Inter, "zinter")
}

fn zunion(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, Operation::Union, "zunion")
}

fn zdiffstore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    store(cx, args, Operation::Diff, "zdiffstore")
}

fn zinterstore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    store(cx, args, Operation::Inter, "zinterstore")
}

fn zunionstore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    store(cx, args, Operation::Union, "zunionstore")
}

fn tell(
    cx: &mut Read<'_>,
    args: Args<'_>,
    operation: Operation,
    name: &str,
) -> Result<(), Refused> {
    let find = |word: &[u8]| cx.shard.value(&cx.key(word));
    let request = Request::parse(args, operation, Purpose::Tell, name, find)?;
    let scores = request.scores;
    let result = request.result(operation);
    entries::header(&mut cx.reply, result.len(), scores);
    for (member, score) in result.iter() {
        entries::entry(&mut cx.reply, member, score, scores);
    }
    Ok(())
}

fn store(
    cx: &mut Write<'_>,
    mut args: Args<'_>,
    operation: Operation,
    name: &'static str,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let shard: &Shard = &cx.edit;
    let find = |word: &[u8]| shard.value(&cx.key(word));
    let request = Request::parse(args, operation, Purpose::Store, name, find)?;
    let result = compact(request.result(operation), shard.limits());
    let len = result.len();
    let result = OwnedValue::Zset(Box::new(result));
    key::store(&mut cx.edit, &key, result, (EventClass::Zset, name));
    cx.reply.int(len as i64);
    Ok(())
}

fn zintercard(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let find = |word: &[u8]| cx.shard.value(&cx.key(word));
    let request = Request::parse(args, Operation::Inter, Purpose::Count, "zintercard", find)?;
    let mut found = 0;
    intersect(request.inputs, request.aggregate, |_, _| {
        found += 1;
        if found < request.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    cx.reply.int(found as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn the_three_operations() {
        Bench::new().table(
            "
            ZADD a 1 x 2 y 3 z -> :3
            ZADD b 10 y 20 z 30 w -> :3
            SADD s y z q -> :3
            ZUNION 2 a b WITHSCORES -> *8 $1 x $1 1 $1 y $2 12 $1 z $2 23 $1 w $2 30
            ZUNION 2 a none -> *3 $1 x $1 y $1 z
            ZINTER 2 a b WITHSCORES -> *4 $1 y $2 12 $1 z $2 23
            ZINTER 3 a b s WITHSCORES -> *4 $1 y $2 13 $1 z $2 24
            ZINTER 2 a none -> *0
            ZINTER 2 a a WITHSCORES -> *6 $1 x $1 2 $1 y $1 4 $1 z $1 6
            ZINTER 2 a b WEIGHTS 2 0.5 WITHSCORES -> *4 $1 y $1 9 $1 z $2 16
            ZINTER 2 a b AGGREGATE MIN WITHSCORES -> *4 $1 y $1 2 $1 z $1 3
            ZINTER 2 a b aggregate max withscores -> *4 $1 y $2 10 $1 z $2 20
            ZUNION 1 s WITHSCORES WEIGHTS 5 -> *6 $1 q $1 5 $1 y $1 5 $1 z $1 5
            ZDIFF 2 a b WITHSCORES -> *2 $1 x $1 1
            ZDIFF 2 a s -> *1 $1 x
            ZDIFF 2 s a WITHSCORES -> *2 $1 q $1 1
            ZDIFF 2 a a -> *0
            ZDIFF 2 none a -> *0
            ZINTERCARD 2 a b -> :2
            ZINTERCARD 2 a b LIMIT 1 -> :1
            ZINTERCARD 2 a b LIMIT 0 -> :2
            ZINTERCARD 2 a s -> :2
            ",
        );
    }

    #[test]
    fn infinities() {
        Bench::new().table(
            "
            ZADD a inf x -> :1
            ZADD b -inf x -> :1
            ZUNION 2 a b WITHSCORES -> *2 $1 x $1 0
            ZINTER 2 a b WITHSCORES -> *2 $1 x $1 0
            ZUNION 1 a WEIGHTS 0 WITHSCORES -> *2 $1 x $1 0
            ZINTER 2 a a WEIGHTS 1 0 WITHSCORES -> *2 $1 x $1 0
            ZINTER 2 a a WEIGHTS 1 0 AGGREGATE MIN WITHSCORES -> *2 $1 x $3 inf
            ZUNION 1 a WEIGHTS -1 WITHSCORES -> *2 $1 x $4 -inf
            ZADD c 0 x -> :1
            ZUNION 2 c c WEIGHTS 1 -1 WITHSCORES -> *2 $1 x $1 0
            ZUNION 1 c WEIGHTS -1 WITHSCORES -> *2 $1 x $2 -0
            ZUNION 2 c c WEIGHTS -1 -1 WITHSCORES -> *2 $1 x $2 -0
            ZUNION 2 c c WEIGHTS -1 1 WITHSCORES -> *2 $1 x $1 0
            ZUNIONSTORE c 1 c WEIGHTS -1 -> :1
            ZSCORE c x -> $1 0
            ",
        );
    }

    #[test]
    fn storing_replaces_and_nothing_removes() {
        Bench::new().table(
            "
            ZADD a 1 x 2 y -> :2
            ZADD b 3 y -> :1
            SET d str -> +OK
            ZUNIONSTORE d 2 a b WEIGHTS 1 2 -> :2
            ZRANGE d 0 -1 WITHSCORES -> *4 $1 x $1 1 $1 y $1 8
            ZINTERSTORE d 2 a b AGGREGATE MAX -> :1
            ZRANGE d 0 -1 WITHSCORES -> *2 $1 y $1 3
            ZDIFFSTORE a 2 a b -> :1
            ZRANGE a 0 -1 WITHSCORES -> *2 $1 x $1 1
            ZINTERSTORE d 2 a b -> :0
            ZCARD d -> :0
            ZDIFFSTORE none 1 none -> :0
            ",
        );
    }

    #[test]
    fn version_3_nests_pairs() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            ZADD a 1 x 2 y -> :2
            ZUNION 1 a WITHSCORES -> *2 *2 $1 x ,1 *2 $1 y ,2
            ZINTER 1 a -> *2 $1 x $1 y
            ZDIFF 2 a none WITHSCORES -> *2 *2 $1 x ,1 *2 $1 y ,2
            ZDIFF 1 none WITHSCORES -> *0
            ",
        );
    }
}
