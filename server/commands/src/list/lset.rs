//! LSET, LINSERT, LREM and LTRIM: changes inside of a list.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, List};

use crate::list::index;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "linsert",
            summary: "Inserts an element before or after a given one.",
            group: Group::List,
            since: "2.2.0",
            arity: Arity::exactly(5),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(linsert),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "lrem",
            summary: "Removes elements that equal a given one.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::exactly(4),
            flags: Flags::WRITE,
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lrem),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "lset",
            summary: "Replaces the element at an index.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(lset),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "ltrim",
            summary: "Keeps only the elements between two indexes.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::exactly(4),
            flags: Flags::WRITE,
            acl: Acl::LIST.and(Acl::SLOW).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(ltrim),
        spread: Spread::Keys,
    },
];

fn lset(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, index, value) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let mut list = cx.edit.edit_list(&key)?.ok_or(Refusal::NoSuchKey)?;
    let place = index::place(index::parse(index)?, list.len());
    if place.is_some_and(|place| list.set(place, value)) {
        list.event(EventClass::List, "lset");
        cx.reply.ok();
        Ok(())
    } else {
        Err(Refusal::OutOfRange.into())
    }
}

fn linsert(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let behind = args.keyword("AFTER");
    if !behind && !args.keyword("BEFORE") {
        return Err(Refusal::Syntax.into());
    }
    let (pivot, value) = (args.bytes()?, args.bytes()?);
    let Some(mut list) = cx.edit.edit_list(&key)? else {
        cx.reply.int(0);
        return Ok(());
    };
    let Some(place) = list.iter().position(|other| other == pivot) else {
        cx.reply.int(-1);
        return Ok(());
    };
    list.insert(place + usize::from(behind), value);
    list.event(EventClass::List, "linsert");
    cx.reply.int(list.len() as i64);
    Ok(())
}

fn lrem(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, count, element) = (cx.key(args.bytes()?), args.int()?, args.bytes()?);
    let Some(mut list) = cx.edit.edit_list(&key)? else {
        cx.reply.int(0);
        return Ok(());
    };
    let places = places_to_remove(&list, count, element);
    for place in &places {
        list.remove(*place);
    }
    if !places.is_empty() {
        list.event(EventClass::List, "lrem");
    }
    cx.reply.int(places.len() as i64);
    Ok(())
}

/// The places of the first `count` elements that equal `element`, of the last ones if `count` is
/// negative, of all if it is 0. From tail to head, so that none moves when another is removed.
fn places_to_remove(list: &List, count: i64, element: &[u8]) -> Vec<usize> {
    let count_max = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(count) => count,
    };
    let found = |(place, value): (usize, &[u8])| (value == element).then_some(place);
    if count < 0 {
        let last = list.len().saturating_sub(1);
        let places = list.iter_rev().enumerate().filter_map(found);
        places.map(|place| last - place).take(count_max).collect()
    } else {
        let places = list.iter().enumerate().filter_map(found);
        let mut places: Vec<usize> = places.take(count_max).collect();
        places.reverse();
        places
    }
}

fn ltrim(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, start, stop) = (cx.key(args.bytes()?), args.int()?, args.int()?);
    if let Some(mut list) = cx.edit.edit_list(&key)? {
        let range = index::range(start, stop, list.len());
        list.trim(range.start, range.end);
        list.event(EventClass::List, "ltrim");
    }
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Limits;

    #[test]
    fn elements_are_replaced() {
        Bench::new().table(
            "
            LSET k 0 x -> -ERR no such key
            LSET k x x -> -ERR no such key
            RPUSH k a b c -> :3
            LSET k 0 1 -> +OK
            LSET k -1 3 -> +OK
            LSET k 3 x -> -ERR index out of range
            LSET k -4 x -> -ERR index out of range
            LSET k x x -> -ERR value is not an integer or out of range
            LRANGE k 0 -1 -> *3 $1 1 $1 b $1 3
            SET s x -> +OK
            LSET s x x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn elements_are_inserted_beside_the_first_that_equals() {
        Bench::new().table(
            "
            LINSERT k BEFORE a x -> :0
            RPUSH k a b a -> :3
            LINSERT k BEFORE a x -> :4
            LINSERT k after b y -> :5
            LINSERT k AFTER z y -> :-1
            LRANGE k 0 -1 -> *5 $1 x $1 a $1 b $1 y $1 a
            LINSERT none NEXT a x -> -ERR syntax error
            SET s x -> +OK
            LINSERT s NEXT a x -> -ERR syntax error
            LINSERT s BEFORE a x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn elements_are_removed_from_either_end() {
        Bench::new().table(
            "
            LREM k 0 a -> :0
            RPUSH k a b a c a d a -> :7
            LREM k 1 a -> :1
            LREM k -1 a -> :1
            LRANGE k 0 -1 -> *5 $1 b $1 a $1 c $1 a $1 d
            LREM k 0 z -> :0
            LREM k -9223372036854775808 a -> :2
            LRANGE k 0 -1 -> *3 $1 b $1 c $1 d
            LREM k x b -> -ERR value is not an integer or out of range
            RPUSH k b -> :4
            LREM k 9223372036854775807 b -> :2
            LREM k 2 c -> :1
            LREM k 0 d -> :1
            LLEN k -> :0
            LREM none x a -> -ERR value is not an integer or out of range
            SET s x -> +OK
            LREM s 0 a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn the_rest_is_trimmed_away() {
        Bench::new().table(
            "
            LTRIM k 0 1 -> +OK
            RPUSH k a b c d e -> :5
            LTRIM k 0 -1 -> +OK
            LTRIM k 1 -2 -> +OK
            LRANGE k 0 -1 -> *3 $1 b $1 c $1 d
            LTRIM k -100 1 -> +OK
            LRANGE k 0 -1 -> *2 $1 b $1 c
            LTRIM k 1 0 -> +OK
            LLEN k -> :0
            RPUSH k a -> :1
            LTRIM k 1 2 -> +OK
            LLEN k -> :0
            LTRIM none x 1 -> -ERR value is not an integer or out of range
            SET s x -> +OK
            LTRIM s 0 y -> -ERR value is not an integer or out of range
            LTRIM s 0 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn lists_of_many_chunks_change_alike() {
        let mut bench = Bench::with_limits(Limits {
            list_max_listpack_size: 4,
            ..Limits::default()
        });
        bench.run(&format!("RPUSH k{}", " a b c".repeat(60)));
        bench.table(
            "
            LREM k 5 a -> :5
            LREM k -5 a -> :5
            LREM k 0 b -> :60
            LSET k 55 x -> +OK
            LINSERT k BEFORE x y -> :111
            LPOS k x -> :56
            LTRIM k 50 -50 -> +OK
            LLEN k -> :12
            LPOS k y -> :5
            ",
        );
    }
}
