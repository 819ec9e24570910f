//! Intersection, union and difference of sorted sets: told, counted or stored. Sets are taken as well.

use core::ops::ControlFlow;

use protocol::number::parse_f64;
use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::{OwnedValue, Ttl, Value, Zset};

use crate::set::algebra;
use crate::zset::entries;
use crate::zset::zcombine::{Aggregate, Input, compact, intersect, intersection, subtract, unite};
use crate::{Command, Read, Refused, Run, Spread, Write};

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
            keys: &[KeySpec::counted(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
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
            keys: &[
                KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
                KeySpec::counted(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
            ],
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
            keys: &[KeySpec::counted(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
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
            keys: &[KeySpec::counted(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
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
            keys: &[
                KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
                KeySpec::counted(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
            ],
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
            keys: &[KeySpec::counted(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
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
            keys: &[
                KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
                KeySpec::counted(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
            ],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zunionstore),
        spread: Spread::Keys,
    },
];

/// An operation; the difference takes neither weights nor an aggregate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Diff,
    Inter,
    Union,
}

/// What is done with the result, which decides about the options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Tell,
    Count,
    Store,
}

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
    name: &str,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let find = |word: &[u8]| cx.edit.value(&cx.key(word));
    let request = Request::parse(args, operation, Purpose::Store, name, find)?;
    let result = compact(request.result(operation), cx.edit.limits());
    let len = result.len();
    let result = OwnedValue::Zset(Box::new(result));
    cx.edit.put_value(&key, result, Ttl::Clear);
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

/// The words of a request, and the values at its keys.
struct Request<'s> {
    inputs: Vec<Input<'s>>,
    aggregate: Aggregate,
    scores: bool,
    limit: usize,
}

impl<'s> Request<'s> {
    /// Takes all words from the number of keys on. The values are looked at before the options.
    fn parse(
        mut args: Args<'_>,
        operation: Operation,
        purpose: Purpose,
        name: &str,
        find: impl Fn(&[u8]) -> Option<Value<'s>>,
    ) -> Result<Self, Refused> {
        let keys = args.int()?;
        let keys = usize::try_from(keys).unwrap_or(0);
        if keys == 0 {
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(Refusal::Owned(text.into()).into());
        }
        if keys > args.left() {
            return Err(Refusal::Syntax.into());
        }
        let values = args.rest().take(keys).map(find);
        let inputs = values.map(Input::of).collect::<Result<Vec<_>, _>>()?;
        args = args.skip(keys);
        let mut request = Request {
            inputs,
            aggregate: Aggregate::Sum,
            scores: false,
            limit: usize::MAX,
        };
        let weighed = operation != Operation::Diff && purpose != Purpose::Count;
        while args.left() > 0 {
            if weighed && args.left() > keys && args.keyword("WEIGHTS") {
                for input in &mut request.inputs {
                    input.weight = parse_f64(args.bytes()?).ok_or(Refusal::WeightNotFloat)?;
                }
            } else if weighed && args.left() > 1 && args.keyword("AGGREGATE") {
                request.aggregate = aggregate(&mut args)?;
            } else if purpose == Purpose::Tell && args.keyword("WITHSCORES") {
                request.scores = true;
            } else if purpose == Purpose::Count && args.left() > 1 && args.keyword("LIMIT") {
                request.limit = algebra::limit(args.bytes()?)?;
            } else {
                return Err(Refusal::Syntax.into());
            }
        }
        Ok(request)
    }

    fn result(self, operation: Operation) -> Zset {
        match operation {
            Operation::Diff => subtract(self.inputs),
            Operation::Inter => intersection(self.inputs, self.aggregate),
            Operation::Union => unite(self.inputs, self.aggregate),
        }
    }
}

fn aggregate(args: &mut Args<'_>) -> Result<Aggregate, Refusal> {
    if args.keyword("SUM") {
        Ok(Aggregate::Sum)
    } else if args.keyword("MIN") {
        Ok(Aggregate::Min)
    } else if args.keyword("MAX") {
        Ok(Aggregate::Max)
    } else {
        Err(Refusal::Syntax)
    }
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
    fn keys_are_looked_at_before_the_options() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZADD a 1 x -> :1
            ZUNION x str -> -ERR value is not an integer or out of range
            ZUNION 0 str -> -ERR at least 1 input key is needed for 'zunion' command
            ZINTERSTORE d -1 str -> -ERR at least 1 input key is needed for 'zinterstore' command
            ZINTERCARD 0 str -> -ERR at least 1 input key is needed for 'zintercard' command
            ZUNION 2 str -> -ERR syntax error
            ZUNION 1 str WHAT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZUNION 2 none str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZUNION 1 a WHAT -> -ERR syntax error
            ZUNION 1 a WEIGHTS -> -ERR syntax error
            ZUNION 1 a WEIGHTS x -> -ERR weight value is not a float
            ZUNION 1 a WEIGHTS nan -> -ERR weight value is not a float
            ZUNION 1 a WEIGHTS 1 2 -> -ERR syntax error
            ZUNION 1 a AGGREGATE -> -ERR syntax error
            ZUNION 1 a AGGREGATE AVG -> -ERR syntax error
            ZUNION 1 a WEIGHTS 1 WEIGHTS 3 WITHSCORES -> *2 $1 x $1 3
            ZDIFF 1 a WEIGHTS 1 -> -ERR syntax error
            ZDIFF 1 a AGGREGATE SUM -> -ERR syntax error
            ZUNIONSTORE d 1 a WITHSCORES -> -ERR syntax error
            ZINTERCARD 1 a LIMIT -> -ERR syntax error
            ZINTERCARD 1 a LIMIT -1 -> -ERR LIMIT can't be negative
            ZINTERCARD 1 a LIMIT x -> -ERR LIMIT can't be negative
            ZINTERCARD 1 a WITHSCORES -> -ERR syntax error
            ZINTER 1 a LIMIT 1 -> -ERR syntax error
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
