//! LPOP, RPOP and LMPOP: taking elements off the ends of lists.

use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec, spec,
};
use storage::{EventClass, ListEdit, Side};

use crate::list::lmove;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "lmpop",
            summary: "Takes elements from the first of several lists that has any.",
            group: Group::List,
            since: "7.0.0",
            arity: Arity::at_least(4),
            flags: Flags::MOVABLEKEYS.and(Flags::WRITE),
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::KeyNum {
                    count_at: 0,
                    first: 1,
                    step: 1,
                },
                flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            }],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lmpop),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "lpop",
            summary: "Takes elements from the head of a list.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lpop),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "rpop",
            summary: "Takes elements from the tail of a list.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(rpop),
        spread: Spread::Keys,
    },
];

fn lpop(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, Side::Left, "lpop")
}

fn rpop(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, Side::Right, "rpop")
}

fn pop(
    cx: &mut Write<'_>,
    mut args: Args<'_>,
    side: Side,
    name: &'static str,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    if args.left() > 1 {
        return Err(Refusal::arity(name).into());
    }
    let count = args
        .peek()
        .map(|word| count_from(word, 0, Refusal::NotPositive))
        .transpose()?;
    match (cx.edit.edit_list(&key)?, count) {
        (Some(mut list), Some(count)) => take(&mut cx.reply, &mut list, side, count),
        (Some(mut list), None) => {
            if let Some(value) = list.peek(side) {
                cx.reply.bulk(value);
            }
            list.drop_end(side);
            list.event(EventClass::List, event(side));
        }
        (None, Some(_)) => cx.reply.null_array(),
        (None, None) => cx.reply.null(),
    }
    Ok(())
}

fn lmpop(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    if !take_first(cx, args)? {
        cx.reply.null_array();
    }
    Ok(())
}

/// `numkeys key.. LEFT|RIGHT [COUNT n]`: takes from the first list that is there; whether there is one.
pub(super) fn take_first(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<bool, Refused> {
    let numkeys = count_from(args.bytes()?, 1, Refusal::NumkeysNotPositive)?;
    let keys = args.rest().take(numkeys);
    let mut args = args.skip(numkeys);
    let side = lmove::side(&mut args)?;
    let mut count = 1;
    if args.left() > 1 && args.keyword("COUNT") {
        count = count_from(args.bytes()?, 1, Refusal::CountNotPositive)?;
    }
    args.end()?;
    for word in keys {
        let key = cx.key(word);
        if let Some(mut list) = cx.edit.edit_list(&key)? {
            cx.reply.array(2);
            cx.reply.bulk(word);
            take(&mut cx.reply, &mut list, side, count);
            return Ok(true);
        }
    }
    Ok(false)
}

/// A count of at least `min`; anything else, a text as well, is answered by `refusal`.
fn count_from(word: &[u8], min: i64, refusal: Refusal) -> Result<usize, Refusal> {
    let count = protocol::number::parse_i64(word).filter(|count| *count >= min);
    count
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(refusal)
}

/// Takes up to `count` elements off an end: an array of them, the outermost first.
fn take(reply: &mut Reply<'_>, list: &mut ListEdit<'_>, side: Side, count: usize) {
    let len = list.len();
    let count = count.min(len);
    reply.array(count);
    match side {
        Side::Left => list.iter().take(count).for_each(|value| reply.bulk(value)),
        Side::Right => list
            .iter_rev()
            .take(count)
            .for_each(|value| reply.bulk(value)),
    }
    match (count, side) {
        (0, _) => {}
        (1, _) => drop(list.drop_end(side)),
        (_, Side::Left) => list.trim(count, len),
        (_, Side::Right) => list.trim(0, len - count),
    }
    if count > 0 {
        list.event(EventClass::List, event(side));
    }
}

/// What a pop on this side is called.
pub(super) fn event(side: Side) -> &'static str {
    match side {
        Side::Left => "lpop",
        Side::Right => "rpop",
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;

    #[test]
    fn one_or_several() {
        Bench::new().table(
            "
            RPUSH k 1 2 3 4 5 6 -> :6
            LPOP k -> $1 1
            RPOP k -> $1 6
            LPOP k 0 -> *0
            LPOP k 2 -> *2 $1 2 $1 3
            RPOP k 1000000000000 -> *2 $1 5 $1 4
            LLEN k -> :0
            LPOP k -> $-1
            LPOP k 0 -> *-1
            LPOP k 1 -> *-1
            RPUSH k a -> :1
            RPOP k 1 -> *1 $1 a
            RPUSH k a b c -> :3
            RPOP k 2 -> *2 $1 c $1 b
            LPOP k 1 2 -> -ERR wrong number of arguments for 'lpop' command
            RPOP k 1 2 -> -ERR wrong number of arguments for 'rpop' command
            LPOP k -1 -> -ERR value is out of range, must be positive
            LPOP k x -> -ERR value is out of range, must be positive
            SET s x -> +OK
            LPOP s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LPOP s 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LPOP s -1 -> -ERR value is out of range, must be positive
            ",
        );
    }

    #[test]
    fn the_first_list_that_is_there() {
        Bench::new().table(
            "
            LMPOP 2 a b LEFT -> *-1
            RPUSH b 1 2 3 4 -> :4
            LMPOP 2 a b left -> *2 $1 b *1 $1 1
            LMPOP 2 a b RIGHT COUNT 2 -> *2 $1 b *2 $1 4 $1 3
            LMPOP 1 b LEFT COUNT 9 -> *2 $1 b *1 $1 2
            LLEN b -> :0
            SET s x -> +OK
            RPUSH b 1 -> :1
            LMPOP 2 b s LEFT -> *2 $1 b *1 $1 1
            LMPOP 2 b s LEFT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LMPOP 0 a LEFT -> -ERR numkeys should be greater than 0
            LMPOP x a LEFT -> -ERR numkeys should be greater than 0
            LMPOP 2 a LEFT -> -ERR syntax error
            LMPOP 9223372036854775807 a LEFT -> -ERR syntax error
            LMPOP 1 a UP -> -ERR syntax error
            LMPOP 1 a LEFT COUNT -> -ERR syntax error
            LMPOP 1 a LEFT COUNT 0 -> -ERR count should be greater than 0
            LMPOP 1 a LEFT COUNT x -> -ERR count should be greater than 0
            LMPOP 1 a LEFT COUNT 1 COUNT 1 -> -ERR syntax error
            LMPOP 1 a LEFT 1 -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn nothing_in_version_3() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            LPOP k -> _
            LPOP k 1 -> _
            LMPOP 1 k LEFT -> _
            ",
        );
    }

    #[test]
    fn a_large_list_is_popped_in_one_effect() {
        let mut bench = Bench::new();
        let words: Vec<String> = (0..5_000).map(|n| format!("element {n}")).collect();
        let mut request: Vec<&[u8]> = vec![b"RPUSH", b"k"];
        request.extend(words.iter().map(|word| word.as_bytes()));
        bench.raw(&request);
        assert!(
            bench
                .run("LPOP k 4000")
                .starts_with("*4000 $9 element 0 $9 element 1 ")
        );
        assert!(
            bench
                .run("RPOP k 999")
                .starts_with("*999 $12 element 4999 ")
        );
        assert_eq!(bench.run("LPOP k"), "$12 element 4000");
        assert_eq!(bench.run("LLEN k"), ":0");
        bench.shard.check();
    }
}
