//! MEMORY USAGE: the bytes of one key. What MEMORY tells of the whole process is the node's.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "memory",
            summary: "Groups the commands that look at memory.",
            group: Group::Server,
            since: "4.0.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Container,
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "memory|usage",
            summary: "Tells how many bytes a key takes with its value.",
            group: Group::Server,
            since: "4.0.0",
            arity: Arity::at_least(3),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW),
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            range: (2, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(usage),
        spread: Spread::Keys,
    },
];

fn usage(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    while args.left() > 0 {
        // Bytes are counted as they are taken, so there is nothing to sample.
        if args.left() < 2 || !args.keyword("SAMPLES") {
            return Err(Refusal::Syntax.into());
        }
        if args.int()? < 0 {
            return Err(Refusal::Syntax.into());
        }
    }
    match cx.shard.info(&key) {
        Some(info) => cx.reply.int(info.heap_bytes as i64),
        None => cx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn bytes_of_a_key() {
        let mut bench = Bench::new();
        bench.table(
            "
            MEMORY USAGE none -> $-1
            MEMORY USAGE none SAMPLES -> -ERR syntax error
            MEMORY USAGE none SAMPLES -1 -> -ERR syntax error
            MEMORY USAGE none SAMPLES x -> -ERR value is not an integer or out of range
            MEMORY USAGE none WHAT 1 -> -ERR syntax error
            MEMORY USAGE none samples 0 SAMPLES 5 -> $-1
            SET k v -> +OK
            ",
        );
        let long = [b'x'; 5000];
        bench.raw(&[b"SET", b"long", &long]);
        let bytes = |reply: String| reply[1..].parse::<usize>().unwrap();
        let (short, long) = (bench.run("MEMORY USAGE k"), bench.run("MEMORY USAGE long"));
        assert!((8..100).contains(&bytes(short)));
        assert!((5000..7000).contains(&bytes(long)));
    }
}
