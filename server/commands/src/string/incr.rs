//! Hot path. INCR and its kin: strings as numbers.

use protocol::number::{LongDouble, parse_i64};
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Text, Ttl};

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "decr",
            summary: "Takes one off the integer at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(decr),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "decrby",
            summary: "Takes a number off the integer at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(decrby),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "incr",
            summary: "Adds one to the integer at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(incr),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "incrby",
            summary: "Adds a number to the integer at a key.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(incrby),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "incrbyfloat",
            summary: "Adds a floating-point number to the number at a key.",
            group: Group::String,
            since: "2.6.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(incrbyfloat),
        spread: Spread::Keys,
    },
];

fn incr(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    add(cx, args, 1)
}

fn decr(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    add(cx, args, -1)
}

fn incrby(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let by = args.clone().skip(1).int()?;
    add(cx, args, by)
}

fn decrby(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let by = args.clone().skip(1).int()?;
    add(cx, args, by.checked_neg().ok_or(Refusal::DecrOverflow)?)
}

/// Adds `by` to the integer at the key that is the next word; a missing one counts as 0.
#[inline]
fn add(cx: &mut Write<'_>, mut args: Args<'_>, by: i64) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let old = match cx.edit.text(&key)? {
        None => 0,
        Some(Text::Int(n)) => n,
        Some(Text::Bytes(bytes)) => parse_i64(bytes).ok_or(Refusal::NotInteger)?,
    };
    let new = old.checked_add(by).ok_or(Refusal::IncrOverflow)?;
    cx.edit.put_int(&key, new, Ttl::Keep);
    cx.edit.event(EventClass::String, "incrby", &key);
    cx.reply.int(new);
    Ok(())
}

fn incrbyfloat(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, by) = (cx.key(args.bytes()?), args.bytes()?);
    let old = match cx.edit.text(&key)? {
        None => LongDouble::ZERO,
        Some(Text::Int(n)) => LongDouble::from_i64(n),
        Some(Text::Bytes(bytes)) => LongDouble::parse(bytes).ok_or(Refusal::NotFloat)?,
    };
    let new = old.add(LongDouble::parse(by).ok_or(Refusal::NotFloat)?);
    if !new.is_finite() {
        return Err(Refusal::IncrNotFinite.into());
    }
    let mut text = Vec::new();
    new.write_human(&mut text);
    cx.edit.put_bytes(&key, &text, Ttl::Keep);
    cx.edit.event(EventClass::String, "incrbyfloat", &key);
    cx.reply.bulk(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn integers() {
        Bench::new().table(
            "
            INCR n -> :1
            INCRBY n 41 -> :42
            DECR n -> :41
            DECRBY n 50 -> :-9
            DECRBY n -9 -> :0
            SET n 9223372036854775807 -> +OK
            INCR n -> -ERR increment or decrement would overflow
            DECRBY n -1 -> -ERR increment or decrement would overflow
            DECR n -> :9223372036854775806
            SET n -9223372036854775808 -> +OK
            DECR n -> -ERR increment or decrement would overflow
            DECRBY n -9223372036854775808 -> -ERR decrement would overflow
            INCRBY n -9223372036854775808 -> -ERR increment or decrement would overflow
            INCRBY n 9223372036854775807 -> :-1
            INCRBY n 1.5 -> -ERR value is not an integer or out of range
            INCRBY n +1 -> -ERR value is not an integer or out of range
            SET n 01 -> +OK
            INCR n -> -ERR value is not an integer or out of range
            SET n \"\" -> +OK
            INCR n -> -ERR value is not an integer or out of range
            ",
        );
    }

    #[test]
    fn floats() {
        Bench::new().table(
            "
            INCRBYFLOAT f 3 -> $1 3
            INCRBYFLOAT f 0.1 -> $3 3.1
            INCRBYFLOAT f -5.0e3 -> $23 -4996.89999999999999991
            INCRBYFLOAT f inf -> -ERR increment would produce NaN or Infinity
            INCRBYFLOAT f nan -> -ERR value is not a valid float
            INCRBYFLOAT f x -> -ERR value is not a valid float
            SET f x -> +OK
            INCRBYFLOAT f 1 -> -ERR value is not a valid float
            SET f 10 -> +OK
            INCRBYFLOAT f 1 -> $2 11
            INCR f -> :12
            INCRBYFLOAT z -0 -> $1 0
            ",
        );
    }

    #[test]
    fn the_deadline_stays_and_the_encoding_follows() {
        let mut bench = Bench::new();
        let key = Key::new(0, b"n");
        bench.run("SET n 5 EX 100");
        let deadline = bench.shard.deadline_ms(&key).unwrap();
        assert!(deadline.is_some());
        for (request, encoding) in [
            ("INCR n", "int"),
            ("INCRBYFLOAT n 1", "embstr"),
            ("DECRBY n 2", "int"),
        ] {
            bench.run(request);
            let info = bench.shard.info(&key).unwrap();
            assert_eq!((info.encoding, info.deadline_ms), (encoding, deadline));
        }
    }

    #[test]
    fn an_expired_number_counts_from_zero() {
        let mut bench = Bench::new();
        bench.run("SET n 5 PX 10");
        bench.pass_ms(10);
        bench.table("INCR n -> :1");
        assert_eq!(bench.shard.deadline_ms(&Key::new(0, b"n")), Some(None));
    }

    #[test]
    fn numbers_are_looked_at_in_order() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            INCR l -> -WRONGTYPE Operation against a key holding the wrong kind of value
            INCRBY l 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            INCRBY l x -> -ERR value is not an integer or out of range
            DECRBY l -9223372036854775808 -> -ERR decrement would overflow
            INCRBYFLOAT l x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
