//! LMOVE and RPOPLPUSH: an element leaves one list and joins another, or the other end of its own.

use protocol::{Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::{EventClass, Key, Side};

use crate::list::{lpop, lpush};
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "lmove",
            summary: "Moves an element from an end of one list to an end of another.",
            group: Group::List,
            since: "6.2.0",
            arity: Arity::exactly(5),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec {
                    begin: Begin::Index(1),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
                },
                KeySpec {
                    begin: Begin::Index(2),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::INSERT),
                },
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lmove),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "rpoplpush",
            summary: "Moves the tail of one list to the head of another.",
            group: Group::List,
            since: "1.2.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec {
                    begin: Begin::Index(1),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
                },
                KeySpec {
                    begin: Begin::Index(2),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::INSERT),
                },
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Write(rpoplpush),
        spread: Spread::Keys,
    },
];

fn lmove(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (source, target) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    let (from, to) = (side(&mut args)?, side(&mut args)?);
    if !transfer(cx, &source, &target, from, to)? {
        cx.reply.null();
    }
    Ok(())
}

fn rpoplpush(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (source, target) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    if !transfer(cx, &source, &target, Side::Right, Side::Left)? {
        cx.reply.null();
    }
    Ok(())
}

/// Takes the name of a list's end.
///
/// # Errors
/// `Refusal::Syntax` if the next word is none.
pub(super) fn side(args: &mut Args<'_>) -> Result<Side, Refusal> {
    if args.keyword("LEFT") {
        Ok(Side::Left)
    } else if args.keyword("RIGHT") {
        Ok(Side::Right)
    } else {
        Err(Refusal::Syntax)
    }
}

/// Moves one element and replies with it; whether there was one.
pub(super) fn transfer(
    cx: &mut Write<'_>,
    source: &Key<'_>,
    target: &Key<'_>,
    from: Side,
    to: Side,
) -> Result<bool, Refused> {
    let Some(value) = cx.edit.list(source)?.and_then(|list| list.peek(from)) else {
        return Ok(false);
    };
    let value = value.to_vec();
    // Pushed before it is dropped: a list of one that is rotated is never empty, so it keeps its key
    // and deadline. With equal ends the drop takes what was pushed.
    let mut list = cx.edit.edit_list_or_new(target)?;
    list.push(to, &value);
    list.event(EventClass::List, lpush::event(to));
    drop(list);
    if let Some(mut list) = cx.edit.edit_list(source)? {
        list.drop_end(from);
        list.event(EventClass::List, lpop::event(from));
    }
    cx.reply.bulk(&value);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn from_list_to_list() {
        Bench::new().table(
            "
            LMOVE a b LEFT RIGHT -> $-1
            RPUSH a 1 2 3 4 -> :4
            LMOVE a b LEFT RIGHT -> $1 1
            LMOVE a b right left -> $1 4
            RPOPLPUSH a b -> $1 3
            LRANGE b 0 -1 -> *3 $1 3 $1 4 $1 1
            LMOVE a b LEFT LEFT -> $1 2
            LLEN a -> :0
            LRANGE b 0 -1 -> *4 $1 2 $1 3 $1 4 $1 1
            RPOPLPUSH a b -> $-1
            ",
        );
    }

    #[test]
    fn refusals_and_their_order() {
        Bench::new().table(
            "
            SET s x -> +OK
            RPUSH a 1 -> :1
            LMOVE a s LEFT UP -> -ERR syntax error
            LMOVE s a UP LEFT -> -ERR syntax error
            LMOVE none s LEFT LEFT -> $-1
            LMOVE a s LEFT LEFT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LMOVE s a LEFT LEFT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            RPOPLPUSH s s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LRANGE a 0 -1 -> *1 $1 1
            ",
        );
    }

    #[test]
    fn a_list_turns_round_on_itself() {
        Bench::new().table(
            "
            RPUSH a 1 2 3 -> :3
            RPOPLPUSH a a -> $1 3
            LRANGE a 0 -1 -> *3 $1 3 $1 1 $1 2
            LMOVE a a LEFT RIGHT -> $1 3
            LMOVE a a LEFT LEFT -> $1 1
            LMOVE a a RIGHT RIGHT -> $1 3
            LRANGE a 0 -1 -> *3 $1 1 $1 2 $1 3
            ",
        );
    }

    #[test]
    fn a_list_of_one_keeps_its_deadline() {
        let mut bench = Bench::new();
        bench.run("RPUSH a 1");
        let at_ms = bench.shard.now_ms() + 1000;
        let key = Key::new(0, b"a");
        bench.shard.edit().expire_at(&key, at_ms);
        bench.table("LMOVE a a LEFT RIGHT -> $1 1");
        assert_eq!(bench.shard.deadline_ms(&key), Some(Some(at_ms)));
        bench.pass_ms(1000);
        bench.table(
            "
            RPUSH b 2 -> :1
            LMOVE a b LEFT RIGHT -> $-1
            RPOPLPUSH b a -> $1 2
            LRANGE a 0 -1 -> *1 $1 2
            ",
        );
        assert_eq!(bench.shard.deadline_ms(&key), Some(None));
    }
}
