//! Hot path. GETBIT and SETBIT: one bit of a string. Bit 0 is the highest of the first byte.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, number, spec};
use storage::EventClass;

use crate::{Command, Read, Refused, Run, Settings, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "getbit",
            summary: "Reads one bit of the string at a key.",
            group: Group::Bitmap,
            since: "2.2.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::BITMAP.and(Acl::FAST).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(getbit),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "setbit",
            summary: "Sets or clears one bit of the string at a key and tells what it was.",
            group: Group::Bitmap,
            since: "2.2.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::BITMAP.and(Acl::SLOW).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(setbit),
        spread: Spread::Keys,
    },
];

fn getbit(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, offset) = (
        cx.key(args.bytes()?),
        bit_offset(args.bytes()?, 1, cx.settings)?,
    );
    let byte = cx.shard.text(&key)?.map_or(0, |text| {
        text.with(|bytes| bytes.get(byte_of(offset)).copied().unwrap_or(0))
    });
    cx.reply.int(i64::from(byte & mask_of(offset) != 0));
    Ok(())
}

fn setbit(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, offset) = (
        cx.key(args.bytes()?),
        bit_offset(args.bytes()?, 1, cx.settings)?,
    );
    let on = match args.bytes()? {
        b"0" => false,
        b"1" => true,
        _ => return Err(Refusal::BitValue.into()),
    };
    let (at, mask) = (byte_of(offset), mask_of(offset));
    let old = match cx.edit.text(&key)? {
        Some(text) => text.with(|bytes| bytes.get(at).copied()),
        None => None,
    };
    let byte = old.unwrap_or(0);
    let new = if on { byte | mask } else { byte & !mask };
    // A bit behind the end makes the string longer even when it is 0.
    if old != Some(new) {
        cx.edit.write_string(&key, at, &[new])?;
        cx.edit.event(EventClass::String, "setbit", &key);
    } else {
        cx.edit.write_nothing(&key);
    }
    cx.reply.int(i64::from(byte & mask != 0));
    Ok(())
}

/// Where a bit lies, given in units of `unit` bits. Limited by the longest string.
///
/// # Errors
/// `Refusal::BitOffset`
pub(super) fn bit_offset(word: &[u8], unit: u32, settings: &Settings) -> Result<u64, Refusal> {
    let offset = number::parse_i64(word)
        .and_then(|offset| u64::try_from(offset).ok())
        .and_then(|offset| offset.checked_mul(u64::from(unit)));
    offset
        .filter(|offset| offset >> 3 < settings.string_bytes_max)
        .ok_or(Refusal::BitOffset)
}

fn byte_of(offset: u64) -> usize {
    (offset >> 3) as usize
}

fn mask_of(offset: u64) -> u8 {
    0x80 >> (offset & 7)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn a_write_that_changes_nothing_makes_the_string_raw() {
        Bench::new().table(
            "
            SET n 1 -> +OK
            SETBIT n 3 1 -> :1
            OBJECT ENCODING n -> $3 raw
            GET n -> $1 1
            INCR n -> :2
            OBJECT ENCODING n -> $3 int
            SET s abc EX 100 -> +OK
            SETBIT s 1 1 -> :1
            OBJECT ENCODING s -> $3 raw
            TTL s -> :100
            SET m 5 EX 100 -> +OK
            BITFIELD m GET u8 0 -> *1 :53
            OBJECT ENCODING m -> $3 int
            BITFIELD m SET u8 0 53 -> *1 :53
            OBJECT ENCODING m -> $3 raw
            TTL m -> :100
            ",
        );
    }

    #[test]
    fn single_bits() {
        Bench::new().table(
            "
            GETBIT b 7 -> :0
            SETBIT b 7 1 -> :0
            SETBIT b 7 1 -> :1
            GETBIT b 7 -> :1
            GETBIT b 8 -> :0
            SETBIT b 7 0 -> :1
            SETBIT b 30 0 -> :0
            STRLEN b -> :4
            SETBIT b 1 1 -> :0
            SETBIT b 9 1 -> :0
            SETBIT b 17 1 -> :0
            SETBIT b 25 1 -> :0
            GET b -> $4 @@@@
            SET n 12 -> +OK
            GETBIT n 3 -> :1
            SETBIT n 15 1 -> :0
            GET n -> $2 13
            SETBIT n 16 0 -> :0
            STRLEN n -> :3
            GETBIT missing 4294967295 -> :0
            ",
        );
    }

    #[test]
    fn a_large_string_is_changed_in_place() {
        let mut bench = Bench::new();
        bench.table(
            "
            SETBIT b 80000 1 -> :0
            STRLEN b -> :10001
            SETBIT b 3 1 -> :0
            SETBIT b 90000 0 -> :0
            STRLEN b -> :11251
            BITCOUNT b -> :2
            ",
        );
    }

    #[test]
    fn refusals_in_order() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            SETBIT l 4294967296 2 -> -ERR bit offset is not an integer or out of range
            SETBIT l -1 1 -> -ERR bit offset is not an integer or out of range
            SETBIT l x 1 -> -ERR bit offset is not an integer or out of range
            SETBIT l 1 2 -> -ERR bit is not an integer or out of range
            SETBIT l 1 x -> -ERR bit is not an integer or out of range
            SETBIT l 1 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            GETBIT l #1 -> -ERR bit offset is not an integer or out of range
            GETBIT l 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
