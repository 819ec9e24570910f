//! BITOP: strings combined bit by bit into another.
//!
//! The result is the only allocation: it begins as the first source and takes in the others one after
//! another, each a pass that compilers turn into vector instructions (several bytes per instruction; no
//! words by hand). Shorter sources count as followed by zeros.

use protocol::{Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::{EventClass, Shard, Text, Ttl};

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "bitop",
        summary: "Combines strings bit by bit and puts the result at a key.",
        group: Group::Bitmap,
        since: "2.6.0",
        arity: Arity::at_least(4),
        flags: Flags::DENYOOM.and(Flags::WRITE),
        acl: Acl::BITMAP.and(Acl::SLOW).and(Acl::WRITE),
        keys: &[
            KeySpec {
                begin: Begin::Index(2),
                find: Find::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
            },
            KeySpec {
                begin: Begin::Index(3),
                find: Find::Range {
                    last: -1,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            },
        ],
        range: (2, -1, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Write(bitop),
    spread: Spread::Keys,
}];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

impl Operation {
    fn take(args: &mut Args<'_>) -> Result<Operation, Refusal> {
        let known = [
            ("AND", Operation::And),
            ("OR", Operation::Or),
            ("XOR", Operation::Xor),
            ("NOT", Operation::Not),
        ];
        let found = known.into_iter().find(|(word, _)| args.keyword(word));
        found.map(|(_, operation)| operation).ok_or(Refusal::Syntax)
    }
}

fn bitop(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let operation = Operation::take(&mut args)?;
    let dest = cx.key(args.bytes()?);
    if operation == Operation::Not && args.left() != 1 {
        return Err(Refusal::BitopNotOne.into());
    }
    let (mut len, shard): (_, &Shard) = (0, &cx.edit);
    for word in args.rest() {
        let text = shard.text(&cx.key(word))?;
        len = len.max(text.map_or(0, |text| text.len()));
    }
    if len == 0 {
        if cx.edit.remove(&dest) {
            cx.edit.event(EventClass::Generic, "del", &dest);
        }
    } else {
        let mut result = Vec::with_capacity(len);
        for (index, word) in args.rest().enumerate() {
            let text = cx.edit.text(&cx.key(word))?.unwrap_or(Text::Bytes(b""));
            text.with(|source| match index {
                0 => begin(&mut result, source, len, operation),
                _ => take_in(&mut result, source, operation),
            });
        }
        cx.edit.put_raw(&dest, result, Ttl::Clear);
        cx.edit.event(EventClass::String, "set", &dest);
    }
    cx.reply.int(len as i64);
    Ok(())
}

/// The result as far as the first source goes.
fn begin(result: &mut Vec<u8>, source: &[u8], len: usize, operation: Operation) {
    match operation {
        Operation::Not => result.extend(source.iter().map(|byte| !byte)),
        Operation::And | Operation::Or | Operation::Xor => result.extend_from_slice(source),
    }
    result.resize(len, 0);
}

/// Another source taken into the result, which is at least as long.
fn take_in(result: &mut [u8], source: &[u8], operation: Operation) {
    let Some((result, rest)) = result.split_at_mut_checked(source.len()) else {
        return;
    };
    let pairs = result.iter_mut().zip(source);
    match operation {
        Operation::And => {
            pairs.for_each(|(byte, other)| *byte &= other);
            rest.fill(0);
        }
        Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
        Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
        Operation::Not => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn operations() {
        let mut bench = Bench::new();
        bench.raw(&[b"SET", b"a", b"\x01\x02\xff"]);
        bench.raw(&[b"SET", b"b", b"\x03\x06"]);
        for (request, reply) in [
            ("BITOP AND d a b", &b"$3\r\n\x01\x02\x00\r\n"[..]),
            ("BITOP or d a b", b"$3\r\n\x03\x06\xff\r\n"),
            ("BITOP XOR d a b", b"$3\r\n\x02\x04\xff\r\n"),
            ("BITOP XOR d b a", b"$3\r\n\x02\x04\xff\r\n"),
            ("BITOP NOT d a", b"$3\r\n\xfe\xfd\x00\r\n"),
            ("BITOP AND d a missing", b"$3\r\n\0\0\0\r\n"),
            ("BITOP AND d missing a", b"$3\r\n\0\0\0\r\n"),
            ("BITOP OR d missing a missing", b"$3\r\n\x01\x02\xff\r\n"),
            ("BITOP AND d a", b"$3\r\n\x01\x02\xff\r\n"),
            ("BITOP XOR d a d", b"$3\r\n\0\0\0\r\n"),
        ] {
            assert_eq!(bench.run(request), ":3", "{request}");
            assert_eq!(bench.raw(&[b"GET", b"d"]), reply, "{request}");
        }
        bench.table(
            "
            SET n 12 EX 100 -> +OK
            BITOP OR n n a -> :3
            BITOP OR n b b -> :2
            BITOP OR n missing gone -> :0
            GET n -> $-1
            BITOP NOT n missing -> :0
            ",
        );
    }

    #[test]
    fn the_result_has_no_deadline_and_is_raw() {
        let mut bench = Bench::new();
        bench.table(
            "
            MSET a 1 b 2 -> +OK
            SET d v EX 10 -> +OK
            BITOP OR d a b -> :1
            GET d -> $1 3
            INCR d -> :4
            BITOP OR d a b -> :1
            ",
        );
        let info = bench.shard.info(&Key::new(0, b"d")).unwrap();
        assert_eq!((info.encoding, info.deadline_ms), ("raw", None));
    }

    #[test]
    fn refusals_in_order() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            BITOP NAND d l -> -ERR syntax error
            BITOP NOT d l l -> -ERR BITOP NOT must be called with a single source key.
            BITOP NOT d l -> -WRONGTYPE Operation against a key holding the wrong kind of value
            BITOP OR d missing l -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SET a v -> +OK
            BITOP OR l a -> :1
            GET l -> $1 v
            ",
        );
    }
}
