//! Hot path. LRANGE, LINDEX and LLEN: reading lists by index.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};

use crate::list::index;
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "lindex",
            summary: "Reads the element at an index.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::READONLY,
            acl: Acl::LIST.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(lindex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "llen",
            summary: "Tells how many elements a list has.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::LIST).and(Acl::READ),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(llen),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "lrange",
            summary: "Reads the elements between two indexes.",
            group: Group::List,
            since: "1.0.0",
            arity: Arity::exactly(4),
            flags: Flags::READONLY,
            acl: Acl::LIST.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(lrange),
        spread: Spread::Keys,
    },
];

fn lrange(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, start, stop) = (cx.key(args.bytes()?), args.int()?, args.int()?);
    let Some(list) = cx.shard.list(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let range = index::range(start, stop, list.len());
    cx.reply.array(range.len());
    for value in list.iter_from(range.start).take(range.len()) {
        cx.reply.bulk(value);
    }
    Ok(())
}

fn lindex(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let Some(list) = cx.shard.list(&key)? else {
        // Without a list the index is not looked at.
        cx.reply.null();
        return Ok(());
    };
    let place = index::place(args.int()?, list.len());
    match place.and_then(|place| list.get(place)) {
        Some(value) => cx.reply.bulk(value),
        None => cx.reply.null(),
    }
    Ok(())
}

fn llen(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.list(&key)?.map_or(0, |list| list.len());
    cx.reply.int(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn reading_by_index() {
        Bench::new().table(
            "
            RPUSH k a b c -> :3
            LLEN k -> :3
            LINDEX k 0 -> $1 a
            LINDEX k -1 -> $1 c
            LINDEX k 3 -> $-1
            LINDEX k -4 -> $-1
            LINDEX k -9223372036854775808 -> $-1
            LINDEX k x -> -ERR value is not an integer or out of range
            LINDEX none x -> $-1
            LRANGE k 0 -1 -> *3 $1 a $1 b $1 c
            LRANGE k -2 -1 -> *2 $1 b $1 c
            LRANGE k 1 1 -> *1 $1 b
            LRANGE k -100 100 -> *3 $1 a $1 b $1 c
            LRANGE k 2 1 -> *0
            LRANGE k 3 4 -> *0
            LRANGE k 0 -4 -> *0
            LRANGE none 0 -1 -> *0
            LRANGE k 0 x -> -ERR value is not an integer or out of range
            LRANGE k 1.0 1 -> -ERR value is not an integer or out of range
            LRANGE none x 1 -> -ERR value is not an integer or out of range
            SET s x -> +OK
            LLEN s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LINDEX s x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LRANGE s 0 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            LRANGE s x 1 -> -ERR value is not an integer or out of range
            ",
        );
    }

    #[test]
    fn every_range_of_a_list_of_many_chunks() {
        let mut bench = Bench::new();
        let words: Vec<String> = (0..300).map(|n| format!("{n:0100}")).collect();
        let mut request: Vec<&[u8]> = vec![b"RPUSH", b"k"];
        request.extend(words.iter().map(|word| word.as_bytes()));
        bench.raw(&request);
        for (start, end) in [
            (0, 300),
            (79, 83),
            (150, 151),
            (299, 300),
            (250, 300),
            (10, 290),
        ] {
            let got = bench.run(&format!("LRANGE k {start} {}", end - 1));
            let items: String = words[start..end]
                .iter()
                .map(|word| format!(" $100 {word}"))
                .collect();
            assert_eq!(got, format!("*{}{items}", end - start));
        }
    }
}
