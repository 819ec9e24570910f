//! Hot path. APPEND and SETRANGE: writing into a string that may be there already.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Ttl};

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "append",
            summary: "Puts bytes behind the string at a key, or makes the string.",
            group: Group::String,
            since: "2.0.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(append),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "setrange",
            summary: "Overwrites a part of the string at a key, or makes the string.",
            group: Group::String,
            since: "2.2.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(setrange),
        spread: Spread::Keys,
    },
];

fn append(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, bytes) = (cx.key(args.bytes()?), args.bytes()?);
    let len = match cx.edit.text(&key)?.map(|text| text.len()) {
        None => {
            cx.edit.put_string(&key, bytes, Ttl::Clear);
            bytes.len()
        }
        Some(len) => {
            check_len(cx, len as u64, bytes)?;
            cx.edit.write_string(&key, len, bytes)?
        }
    };
    cx.edit.event(EventClass::String, "append", &key);
    cx.reply.int(len as i64);
    Ok(())
}

fn setrange(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, offset, bytes) = (cx.key(args.bytes()?), args.int()?, args.bytes()?);
    let offset = u64::try_from(offset).map_err(|_| Refusal::OffsetOutOfRange)?;
    let mut len = cx.edit.text(&key)?.map_or(0, |text| text.len());
    if !bytes.is_empty() {
        check_len(cx, offset, bytes)?;
        len = cx.edit.write_string(&key, offset as usize, bytes)?;
        cx.edit.event(EventClass::String, "setrange", &key);
    }
    cx.reply.int(len as i64);
    Ok(())
}

/// Refuses a string whose part before `bytes` has `before` bytes, if the whole would be too long.
fn check_len(cx: &Write<'_>, before: u64, bytes: &[u8]) -> Result<(), Refusal> {
    if before.saturating_add(bytes.len() as u64) > cx.settings.string_bytes_max {
        return Err(Refusal::StringTooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn append_makes_or_grows_a_string() {
        let mut bench = Bench::new();
        bench.table(
            "
            APPEND k Hello -> :5
            APPEND k _World -> :11
            GET k -> $11 Hello_World
            APPEND n 12 -> :2
            APPEND n 3 -> :3
            INCR n -> :124
            APPEND e \"\" -> :0
            APPEND e \"\" -> :0
            GET e -> $0
            SET t v EX 100 -> +OK
            APPEND t w -> :2
            ",
        );
        let deadline = bench.shard.deadline_ms(&Key::new(0, b"t"));
        assert!(matches!(deadline, Some(Some(_))), "the deadline stays");
    }

    #[test]
    fn append_keeps_an_integer_until_the_text_grows() {
        let mut bench = Bench::new();
        let encoding = |bench: &Bench| bench.shard.info(&Key::new(0, b"n")).unwrap().encoding;
        bench.run("APPEND n 12");
        assert_eq!(encoding(&bench), "int");
        bench.run("APPEND n 3");
        assert_eq!(encoding(&bench), "raw");
        bench.run("INCR n");
        assert_eq!(encoding(&bench), "int");
    }

    #[test]
    fn setrange_fills_gaps_with_zeros() {
        let mut bench = Bench::new();
        bench.table(
            "
            SETRANGE k 0 \"\" -> :0
            GET k -> $-1
            SETRANGE k 2 ab -> :4
            SETRANGE k 1 xyz -> :4
            SETRANGE k 4 ! -> :5
            SETRANGE k 99 \"\" -> :5
            SETRANGE k -1 \"\" -> -ERR offset is out of range
            SETRANGE k x a -> -ERR value is not an integer or out of range
            SET n 1234 -> +OK
            SETRANGE n 1 9 -> :4
            INCR n -> :1935
            ",
        );
        assert_eq!(bench.raw(&[b"GET", b"k"]), b"$5\r\n\0xyz!\r\n");
    }

    #[test]
    fn small_strings_grow_into_large_ones() {
        let mut bench = Bench::new();
        for i in 0..700 {
            assert_eq!(bench.run("APPEND k ab"), format!(":{}", 2 * i + 2));
        }
        assert_eq!(bench.run("SETRANGE k 1000 X"), ":1400");
        assert_eq!(bench.run("GETRANGE k 998 1002"), "$5 abXba");
        bench.shard.check();
    }

    #[test]
    fn limits_and_wrong_types() {
        let mut bench = Bench::new();
        bench.settings.string_bytes_max = 8;
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        bench.table(&format!(
            "
            APPEND k 123456789 -> :9
            APPEND k \"\" -> {too_long}
            SETRANGE k 7 ab -> {too_long}
            SETRANGE new 9223372036854775807 ab -> {too_long}
            SETRANGE new 8 \"\" -> :0
            SETRANGE new 6 ab -> :8
            "
        ));
        let key = Key::new(0, b"l");
        let mut bench = Bench::new();
        bench.list(&key);
        bench.table(
            "
            APPEND l x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SETRANGE l 0 \"\" -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SETRANGE l -1 x -> -ERR offset is out of range
            ",
        );
    }
}
