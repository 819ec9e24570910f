//! Hot path. LPUSH, RPUSH and their forms for lists that are there already.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};
use storage::{EventClass, ListEdit, Side};

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "lpush",
            summary: "Adds elements at the head of a list, made if need be.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lpush),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "lpushx",
            summary: "Adds elements at the head of a list that is there already.",
            group: Group::List,
            since: "2.2.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lpushx),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "rpush",
            summary: "Adds elements at the tail of a list, made if need be.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(rpush),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "rpushx",
            summary: "Adds elements at the tail of a list that is there already.",
            group: Group::List,
            since: "2.2.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(rpushx),
        spread: Spread::Keys,
    },
];

fn lpush(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    push(cx, args, Side::Left)
}

fn rpush(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    push(cx, args, Side::Right)
}

fn lpushx(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    push_if_there(cx, args, Side::Left)
}

fn rpushx(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    push_if_there(cx, args, Side::Right)
}

#[inline]
fn push(cx: &mut Write<'_>, mut args: Args<'_>, side: Side) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let list = cx.edit.edit_list_or_new(&key)?;
    let len = push_all(list, &args, side);
    cx.reply.int(len);
    Ok(())
}

fn push_if_there(cx: &mut Write<'_>, mut args: Args<'_>, side: Side) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let list = cx.edit.edit_list(&key)?;
    let len = list.map_or(0, |list| push_all(list, &args, side));
    cx.reply.int(len);
    Ok(())
}

/// What a push on this side is called.
#[inline]
pub(super) fn event(side: Side) -> &'static str {
    match side {
        Side::Left => "lpush",
        Side::Right => "rpush",
    }
}

/// Adds the rest of the words one after the other; the length then.
#[inline]
fn push_all(mut list: ListEdit<'_>, args: &Args<'_>, side: Side) -> i64 {
    args.rest().for_each(|value| list.push(side, value));
    list.event(EventClass::List, event(side));
    list.len() as i64
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn each_element_is_pushed_in_turn() {
        Bench::new().table(
            "
            LPUSH k a b c -> :3
            RPUSH k d -> :4
            LRANGE k 0 -1 -> *4 $1 c $1 b $1 a $1 d
            LPUSHX k e -> :5
            RPUSHX k f g -> :7
            LRANGE k 0 -1 -> *7 $1 e $1 c $1 b $1 a $1 d $1 f $1 g
            LPUSHX none x -> :0
            RPUSHX none x y -> :0
            LLEN none -> :0
            RPUSH empty \"\" -> :1
            LRANGE empty 0 -1 -> *1 $0
            ",
        );
    }

    #[test]
    fn strings_take_no_elements() {
        Bench::new().table(
            "
            SET s x -> +OK
            LPUSH s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            RPUSH s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LPUSHX s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            RPUSHX s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            GET s -> $1 x
            ",
        );
    }
}
