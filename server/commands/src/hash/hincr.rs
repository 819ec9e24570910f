//! HINCRBY and HINCRBYFLOAT: fields as counters.

use protocol::number::{self, LongDouble};
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::EventClass;

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "hincrby",
            summary: "Adds an integer to the value of a field.",
            group: Group::Hash,
            since: "2.0.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(hincrby),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "hincrbyfloat",
            summary: "Adds a decimal number to the value of a field.",
            group: Group::Hash,
            since: "2.6.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HASH).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(hincrbyfloat),
        spread: Spread::Keys,
    },
];

fn hincrby(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, field, by) = (cx.key(args.bytes()?), args.bytes()?, args.int()?);
    let mut hash = cx.edit.edit_hash_or_new(&key)?;
    let before = match hash.get(field) {
        Some(value) => number::parse_i64(value).ok_or(Refusal::HashNotInteger)?,
        None => 0,
    };
    let sum = before.checked_add(by).ok_or(Refusal::IncrOverflow)?;
    let mut text = Vec::with_capacity(I64_TEXT_BYTES_MAX);
    number::write_i64(sum, &mut text);
    hash.set_keeping(field, &text);
    hash.event(EventClass::Hash, "hincrby");
    cx.reply.int(sum);
    Ok(())
}

/// Sign and 19 digits.
const I64_TEXT_BYTES_MAX: usize = 20;

fn hincrbyfloat(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, field, by) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let by = LongDouble::parse(by).ok_or(Refusal::NotFloat)?;
    if !by.is_finite() {
        return Err(Refusal::NotFinite.into());
    }
    let mut hash = cx.edit.edit_hash_or_new(&key)?;
    let before = match hash.get(field) {
        Some(value) => LongDouble::parse(value).ok_or(Refusal::HashNotFloat)?,
        None => LongDouble::ZERO,
    };
    let sum = before.add(by);
    if !sum.is_finite() {
        return Err(Refusal::IncrNotFinite.into());
    }
    let mut text = Vec::new();
    sum.write_human(&mut text);
    hash.set_keeping(field, &text);
    hash.event(EventClass::Hash, "hincrbyfloat");
    cx.reply.bulk(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn integers() {
        Bench::new().table(
            "
            HINCRBY k n 5 -> :5
            HINCRBY k n -7 -> :-2
            HGET k n -> $2 -2
            HINCRBY k m 9223372036854775807 -> :9223372036854775807
            HINCRBY k m 1 -> -ERR increment or decrement would overflow
            HSET k l -9223372036854775808 t 01 e 1e3 -> :3
            HINCRBY k l -1 -> -ERR increment or decrement would overflow
            HINCRBY k l 1 -> :-9223372036854775807
            HINCRBY k t 1 -> -ERR hash value is not an integer
            HINCRBY k e 1 -> -ERR hash value is not an integer
            HINCRBY k t x -> -ERR value is not an integer or out of range
            HINCRBY none n 1.0 -> -ERR value is not an integer or out of range
            HLEN none -> :0
            SET s 1 -> +OK
            HINCRBY s n x -> -ERR value is not an integer or out of range
            HINCRBY s n 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn decimal_numbers() {
        Bench::new().table(
            "
            HINCRBYFLOAT k n 10.5 -> $4 10.5
            HINCRBYFLOAT k n 0.1 -> $4 10.6
            HINCRBYFLOAT k n -5 -> $3 5.6
            HSET k e 5.0e3 i inf t x -> :3
            HINCRBYFLOAT k e 2.0e2 -> $4 5200
            HINCRBYFLOAT k third 0.3333333333333333333333 -> $19 0.33333333333333333
            HINCRBYFLOAT k i 1 -> -ERR increment would produce NaN or Infinity
            HINCRBYFLOAT k t 1 -> -ERR hash value is not a float
            HINCRBYFLOAT k n inf -> -ERR value is NaN or Infinity
            HINCRBYFLOAT k n -inf -> -ERR value is NaN or Infinity
            HINCRBYFLOAT k n nan -> -ERR value is not a valid float
            HINCRBYFLOAT k n x -> -ERR value is not a valid float
            HINCRBYFLOAT none n x -> -ERR value is not a valid float
            HLEN none -> :0
            HINCRBYFLOAT k big 17179869184 -> $11 17179869184
            HINCRBYFLOAT k big 1.5 -> $13 17179869185.5
            SET s 1 -> +OK
            HINCRBYFLOAT s n x -> -ERR value is not a valid float
            HINCRBYFLOAT s n 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
