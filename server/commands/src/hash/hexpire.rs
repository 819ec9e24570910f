//! HEXPIRE, HTTL, HPERSIST and their kin: deadlines of fields, set, told and taken away.

use protocol::{Args, Flags, spec};
use storage::{EventClass, HashEdit};

use crate::hash::fields::{self, NOT_POSITIVE, row};
use crate::string::expiry::Unit;
use crate::{Command, Read, Refused, Run, Write};

const VARIES: &[&str] = &["nondeterministic_output"];

pub(super) const COMMANDS: &[Command] = &[
    row(
        (
            "hexpire",
            "Sets after how many seconds fields expire.",
            "7.4.0",
        ),
        6,
        Flags::WRITE,
        spec::ONE_RW_UPDATE,
        &[],
        Run::Write(hexpire),
    ),
    row(
        (
            "hexpireat",
            "Sets the Unix time at which fields expire.",
            "7.4.0",
        ),
        6,
        Flags::WRITE,
        spec::ONE_RW_UPDATE,
        &[],
        Run::Write(hexpireat),
    ),
    row(
        (
            "hexpiretime",
            "Tells the Unix time at which fields expire.",
            "7.4.0",
        ),
        5,
        Flags::READONLY,
        spec::ONE_RO_ACCESS,
        &[],
        Run::Read(hexpiretime),
    ),
    row(
        ("hpersist", "Takes the deadlines of fields away.", "7.4.0"),
        5,
        Flags::WRITE,
        spec::ONE_RW_UPDATE,
        &[],
        Run::Write(hpersist),
    ),
    row(
        (
            "hpexpire",
            "Sets after how many milliseconds fields expire.",
            "7.4.0",
        ),
        6,
        Flags::WRITE,
        spec::ONE_RW_UPDATE,
        &[],
        Run::Write(hpexpire),
    ),
    row(
        (
            "hpexpireat",
            "Sets the Unix time, in milliseconds, at which fields expire.",
            "7.4.0",
        ),
        6,
        Flags::WRITE,
        spec::ONE_RW_UPDATE,
        &[],
        Run::Write(hpexpireat),
    ),
    row(
        (
            "hpexpiretime",
            "Tells the Unix time, in milliseconds, at which fields expire.",
            "7.4.0",
        ),
        5,
        Flags::READONLY,
        spec::ONE_RO_ACCESS,
        &[],
        Run::Read(hpexpiretime),
    ),
    row(
        (
            "hpttl",
            "Tells in how many milliseconds fields expire.",
            "7.4.0",
        ),
        5,
        Flags::READONLY,
        spec::ONE_RO_ACCESS,
        VARIES,
        Run::Read(hpttl),
    ),
    row(
        ("httl", "Tells in how many seconds fields expire.", "7.4.0"),
        5,
        Flags::READONLY,
        spec::ONE_RO_ACCESS,
        VARIES,
        Run::Read(httl),
    ),
];

/// Replies for one field.
const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_ALLOWED: i64 = 0;
const DONE: i64 = 1;
const REMOVED: i64 = 2;

fn hexpire(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set(cx, args, Unit::Seconds, "hexpire")
}

fn hpexpire(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set(cx, args, Unit::Ms, "hpexpire")
}

fn hexpireat(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set(cx, args, Unit::AtSeconds, "hexpireat")
}

fn hpexpireat(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set(cx, args, Unit::AtMs, "hpexpireat")
}

/// When a deadline is set, by the one that is there. No deadline is later than any.
#[derive(Clone, Copy)]
enum Condition {
    Always,
    IfNone,
    IfSome,
    IfLater,
    IfEarlier,
}

impl Condition {
    fn take(args: &mut Args<'_>) -> Self {
        let known = [
            ("NX", Condition::IfNone),
            ("XX", Condition::IfSome),
            ("GT", Condition::IfLater),
            ("LT", Condition::IfEarlier),
        ];
        let found = known.into_iter().find(|(word, _)| args.keyword(word));
        found.map_or(Condition::Always, |(_, condition)| condition)
    }

    fn allows(self, old: Option<u64>, at_ms: u64) -> bool {
        match self {
            Condition::Always => true,
            Condition::IfNone => old.is_none(),
            Condition::IfSome => old.is_some(),
            Condition::IfLater => old.is_some_and(|old| at_ms > old),
            Condition::IfEarlier => old.is_none_or(|old| at_ms < old),
        }
    }
}

fn set(
    cx: &mut Write<'_>,
    mut args: Args<'_>,
    unit: Unit,
    name: &'static str,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let now_ms = cx.edit.now_ms();
    let hash = cx.edit.edit_hash(&key)?;
    let at_ms = fields::deadline(unit, args.bytes()?, now_ms, name)?;
    let condition = Condition::take(&mut args);
    fields::fields(
        &mut args,
        "ERR Parameter `numFields` should be greater than 0",
    )?;
    cx.reply.array(args.left());
    let Some(mut hash) = hash else {
        args.rest().for_each(|_| cx.reply.int(NO_FIELD));
        return Ok(());
    };
    let (mut updated, mut removed) = (false, false);
    for field in args.rest() {
        let done = if !hash.contains(field) {
            NO_FIELD
        } else if !condition.allows(hash.deadline_ms(field), at_ms) {
            NOT_ALLOWED
        } else {
            expire(&mut hash, field, at_ms, now_ms)
        };
        updated |= done == DONE;
        removed |= done == REMOVED;
        cx.reply.int(done);
    }
    if updated || removed {
        hash.event(EventClass::Hash, if removed { "hdel" } else { "hexpire" });
    }
    Ok(())
}

/// Gives a field that is there a deadline; one that has passed removes it. `DONE` or `REMOVED`.
fn expire(hash: &mut HashEdit<'_>, field: &[u8], at_ms: u64, now_ms: u64) -> i64 {
    if at_ms <= now_ms {
        hash.remove(field);
        return REMOVED;
    }
    hash.expire_at(field, at_ms);
    DONE
}

fn hpersist(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let hash = cx.edit.edit_hash(&key)?;
    fields::fields(&mut args, NOT_POSITIVE)?;
    cx.reply.array(args.left());
    let Some(mut hash) = hash else {
        args.rest().for_each(|_| cx.reply.int(NO_FIELD));
        return Ok(());
    };
    let mut changed = false;
    for field in args.rest() {
        let done = if !hash.contains(field) {
            NO_FIELD
        } else if hash.persist(field) {
            DONE
        } else {
            NO_DEADLINE
        };
        changed |= done == DONE;
        cx.reply.int(done);
    }
    if changed {
        hash.event(EventClass::Hash, "hpersist");
    }
    Ok(())
}

fn httl(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let now_ms = cx.shard.now_ms();
    tell(cx, args, |at_ms| seconds(at_ms.saturating_sub(now_ms)))
}

fn hpttl(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let now_ms = cx.shard.now_ms();
    tell(cx, args, |at_ms| at_ms.saturating_sub(now_ms))
}

fn hexpiretime(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, seconds)
}

fn hpexpiretime(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, |at_ms| at_ms)
}

/// Up to the next whole second.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

/// Replies what `of` makes of each deadline, unix ms.
fn tell(cx: &mut Read<'_>, mut args: Args<'_>, of: impl Fn(u64) -> u64) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let hash = cx.shard.hash(&key)?;
    fields::fields(&mut args, NOT_POSITIVE)?;
    cx.reply.array(args.left());
    for field in args.rest() {
        let told = match hash.filter(|hash| hash.contains(field)) {
            None => NO_FIELD,
            Some(hash) => match hash.deadline_ms(field) {
                None => NO_DEADLINE,
                Some(at_ms) => of(at_ms).cast_signed(),
            },
        };
        cx.reply.int(told);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn fields_expire() {
        let mut bench = Bench::new();
        bench.table(
            "
            HSET h a 1 b 2 c 3 -> :3
            HEXPIRE h 10 FIELDS 3 a b none -> *3 :1 :1 :-2
            HTTL h FIELDS 3 a c none -> *3 :10 :-1 :-2
            HPTTL h FIELDS 1 a -> *1 :10000
            HEXPIRETIME h FIELDS 1 a -> *1 :1700000010
            HPEXPIRETIME h FIELDS 1 a -> *1 :1700000010000
            HPEXPIRE h 70 FIELDS 1 b -> *1 :1
            HPERSIST h FIELDS 3 a c none -> *3 :1 :-1 :-2
            HTTL h FIELDS 2 a b -> *2 :-1 :1
            HEXPIRE none 1 FIELDS 1 a -> *1 :-2
            HTTL none FIELDS 1 a -> *1 :-2
            HPERSIST none FIELDS 1 a -> *1 :-2
            ",
        );
        bench.pass_ms(70);
        bench.table(
            "
            HGET h b -> $-1
            HTTL h FIELDS 1 b -> *1 :-2
            HLEN h -> :2
            HEXPIREAT h 1700000001 FIELDS 1 a -> *1 :1
            HPEXPIREAT h 1700000000 FIELDS 1 c -> *1 :2
            HEXPIRE h 0 FIELDS 1 a -> *1 :2
            EXISTS h -> :0
            ",
        );
    }

    #[test]
    fn a_write_takes_the_deadline_away_and_an_increment_does_not() {
        let mut bench = Bench::new();
        bench.table(
            "
            HSET h a 1 b 2 c 3 -> :3
            HPEXPIRE h 50 FIELDS 3 a b c -> *3 :1 :1 :1
            HSET h a 2 -> :0
            HINCRBY h b 1 -> :3
            HINCRBYFLOAT h c 1 -> $1 4
            HPTTL h FIELDS 3 a b c -> *3 :-1 :50 :50
            COPY h i -> :1
            RENAME h j -> +OK
            HPTTL i FIELDS 1 b -> *1 :50
            HPTTL j FIELDS 1 c -> *1 :50
            ",
        );
        bench.pass_ms(60);
        // Nobody asks: the wheel finds them.
        while bench.shard.expire_due(100) {}
        bench.table(
            "
            HGETALL j -> *2 $1 a $1 2
            HGETALL i -> *2 $1 a $1 2
            ",
        );
        bench.table("HPEXPIRE i 1 FIELDS 1 a -> *1 :1");
        bench.pass_ms(20);
        while bench.shard.expire_due(100) {}
        bench.table("EXISTS i -> :0\n DBSIZE -> :1");
    }

    #[test]
    fn conditions() {
        Bench::new().table(
            "
            HSET h a 1 -> :1
            HEXPIRE h 10 XX FIELDS 1 a -> *1 :0
            HEXPIRE h 10 GT FIELDS 1 a -> *1 :0
            HEXPIRE h 10 LT FIELDS 1 a -> *1 :1
            HEXPIRE h 20 NX FIELDS 1 a -> *1 :0
            HEXPIRE h 10 GT FIELDS 1 a -> *1 :0
            HEXPIRE h 11 GT FIELDS 1 a -> *1 :1
            HEXPIRE h 11 LT FIELDS 1 a -> *1 :0
            HEXPIRE h 0 XX FIELDS 1 a -> *1 :2
            ",
        );
    }

    #[test]
    fn refusals() {
        let place = "-ERR Mandatory argument FIELDS is missing or not at the right position";
        let match_ = "-ERR The `numfields` parameter must match the number of arguments";
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        Bench::new().table(&format!(
            "
            SET s x -> +OK
            HEXPIRE s x FIELDS 1 a -> {wrong}
            HTTL s FIELDS 1 a -> {wrong}
            HPERSIST s FIELDS 1 a -> {wrong}
            HEXPIRE h x FIELDS 1 a -> -ERR value is not an integer or out of range
            HEXPIRE h -1 FIELDS 1 a -> -ERR invalid expire time, must be >= 0
            HEXPIRE h 99999999999 FIELDS 1 a -> -ERR invalid expire time in 'hexpire' command
            HPEXPIREAT h 70368744177664 FIELDS 1 a -> -ERR invalid expire time in 'hpexpireat' command
            HPEXPIREAT h 70368744177663 FIELDS 1 a -> *1 :-2
            HEXPIRE h 1 NX XX FIELDS 1 a -> {place}
            HEXPIRE h 1 FIELDS 0 a -> -ERR Parameter `numFields` should be greater than 0
            HEXPIRE h 1 FIELDS 2 a -> {match_}
            HTTL h FIELDZ 1 a -> {place}
            HTTL h FIELDS x a -> -ERR Number of fields must be a positive integer
            HPERSIST h FIELDS 1 a b -> {match_}
            "
        ));
    }
}
