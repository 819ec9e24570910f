//! Hot path. GETRANGE and its older spelling SUBSTR: reading a part of a string.

use core::ops::Range;

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "getrange",
            summary: "Reads a part of the string at a key.",
            group: Group::String,
            since: "2.4.0",
            arity: Arity::exactly(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STRING),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(getrange),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "substr",
            summary: "Reads a part of the string at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(4),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SLOW).and(Acl::STRING),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("2.0.0"),
        },
        run: Run::Read(substr),
        spread: Spread::Keys,
    },
];

fn getrange(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, start, end) = (cx.key(args.bytes()?), args.int()?, args.int()?);
    let Some(text) = cx.shard.text(&key)? else {
        cx.reply.bulk(b"");
        return Ok(());
    };
    text.with(|bytes| {
        let part = match both_from_the_end(start, end) {
            true => None,
            false => span(start, end, bytes.len()),
        };
        let part = part.and_then(|part| bytes.get(part));
        cx.reply.bulk(part.unwrap_or_default());
    });
    Ok(())
}

fn substr(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    getrange(cx, args)
}

/// Whether both ends count from the end and the wrong way round. Such a range is empty even where
/// clamping would leave the first element in it; GETRANGE and BITCOUNT look at this, BITPOS does not.
pub(crate) fn both_from_the_end(start: i64, end: i64) -> bool {
    end < 0 && start < 0 && start > end
}

/// The places `start..=end` of `len`, negative ones counted from the end, clamped; None when empty.
pub(crate) fn span(start: i64, end: i64, len: usize) -> Option<Range<usize>> {
    let len = len as i64;
    let place = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    (start <= end).then(|| start as usize..end as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::span;
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn parts_of_strings() {
        Bench::new().table(
            "
            SET k Hello_World -> +OK
            GETRANGE k 0 4 -> $5 Hello
            GETRANGE k 0 0 -> $1 H
            GETRANGE k -5 -1 -> $5 World
            GETRANGE k -100 2 -> $3 Hel
            GETRANGE k 9 1000 -> $2 ld
            GETRANGE k 5 4 -> $0
            GETRANGE k 100 200 -> $0
            GETRANGE k -1 -2 -> $0
            GETRANGE k -100 -200 -> $0
            GETRANGE k -200 -100 -> $1 H
            GETRANGE k 0 -100 -> $1 H
            GETRANGE k 0 9223372036854775807 -> $11 Hello_World
            GETRANGE k -9223372036854775808 -1 -> $11 Hello_World
            SUBSTR k 1 2 -> $2 el
            SET n -1234 -> +OK
            GETRANGE n 1 2 -> $2 12
            SET e \"\" -> +OK
            GETRANGE e 0 -1 -> $0
            GETRANGE e -1 0 -> $0
            GETRANGE missing 0 -1 -> $0
            GETRANGE missing x -1 -> -ERR value is not an integer or out of range
            GETRANGE missing 0 x -> -ERR value is not an integer or out of range
            ",
        );
    }

    #[test]
    fn wrong_types() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            GETRANGE l 0 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SUBSTR l 0 x -> -ERR value is not an integer or out of range
            ",
        );
    }

    proptest::proptest! {
        #[test]
        fn a_span_lies_inside(start: i64, end: i64, len in 0..100usize) {
            if let Some(range) = span(start, end, len) {
                assert!(range.start < range.end && range.end <= len);
            }
        }
    }
}
