//! EXPIRE and its kin: setting deadlines; PERSIST: taking them away.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::EventClass;

use crate::key::until_nul;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "expire",
            summary: "Sets the seconds after which a key expires.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(expire),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "expireat",
            summary: "Sets the Unix time, in seconds, at which a key expires.",
            group: Group::Generic,
            since: "1.2.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(expireat),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "pexpire",
            summary: "Sets the milliseconds after which a key expires.",
            group: Group::Generic,
            since: "2.6.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(pexpire),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "pexpireat",
            summary: "Sets the Unix time, in milliseconds, at which a key expires.",
            group: Group::Generic,
            since: "2.6.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(pexpireat),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "persist",
            summary: "Takes the deadline of a key away.",
            group: Group::Generic,
            since: "2.2.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(persist),
        spread: Spread::Keys,
    },
];

/// When a deadline is set, by what the key has now.
#[derive(Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: &mut Args<'_>) -> Result<Self, Refusal> {
        let mut found = Conditions::default();
        while args.left() > 0 {
            if args.keyword("NX") {
                found.nx = true;
            } else if args.keyword("XX") {
                found.xx = true;
            } else if args.keyword("GT") {
                found.gt = true;
            } else if args.keyword("LT") {
                found.lt = true;
            } else {
                let option = String::from_utf8_lossy(until_nul(args.bytes()?));
                return Err(Refusal::Owned(
                    format!("ERR Unsupported option {option}").into(),
                ));
            }
        }
        if found.nx && (found.xx || found.gt || found.lt) {
            return Err(Refusal::ExpireNx);
        }
        if found.gt && found.lt {
            return Err(Refusal::ExpireGtLt);
        }
        Ok(found)
    }

    /// Whether `at_ms` may take the place of the deadline that is there, if any.
    fn allow(self, now: Option<i64>, at_ms: i64) -> bool {
        match now {
            // No deadline is later than any.
            None => !self.xx && !self.gt,
            Some(now) => !self.nx && (!self.gt || at_ms > now) && (!self.lt || at_ms < now),
        }
    }
}

fn expire(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let now = cx.edit.now_ms();
    set(cx, args, "expire", 1000, now)
}

fn pexpire(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let now = cx.edit.now_ms();
    set(cx, args, "pexpire", 1, now)
}

fn expireat(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set(cx, args, "expireat", 1000, 0)
}

fn pexpireat(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set(cx, args, "pexpireat", 1, 0)
}

/// Sets the deadline to `origin_ms` plus so many times `unit_ms`.
fn set(
    cx: &mut Write<'_>,
    mut args: Args<'_>,
    name: &'static str,
    unit_ms: i64,
    origin_ms: u64,
) -> Result<(), Refused> {
    let (key, time) = (cx.key(args.bytes()?), args.bytes()?);
    // The options are looked at before the time.
    let conditions = Conditions::parse(&mut args)?;
    let at_ms = protocol::number::parse_i64(time)
        .ok_or(Refusal::NotInteger)?
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add_unsigned(origin_ms))
        .ok_or(Refusal::ExpireTime(name))?;
    let allowed = match cx.edit.deadline_ms(&key) {
        None => false,
        Some(now) => conditions.allow(now.map(u64::cast_signed), at_ms),
    };
    if allowed {
        // A time before 1970 has passed like any other.
        let at_ms = at_ms.max(0).cast_unsigned();
        let passed = at_ms <= cx.edit.now_ms();
        cx.edit.expire_at(&key, at_ms);
        let event = if passed { "del" } else { "expire" };
        cx.edit.event(EventClass::Generic, event, &key);
    }
    cx.reply.int(i64::from(allowed));
    Ok(())
}

fn persist(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let had_one = cx.edit.persist(&key);
    if had_one {
        cx.edit.event(EventClass::Generic, "persist", &key);
    }
    cx.reply.int(i64::from(had_one));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn deadlines_are_set_and_taken_away() {
        Bench::new().table(
            "
            EXPIRE none 10 -> :0
            PERSIST none -> :0
            SET k v -> +OK
            PERSIST k -> :0
            EXPIRE k 100 -> :1
            TTL k -> :100
            PEXPIRE k 1500 -> :1
            PTTL k -> :1500
            EXPIREAT k 1700000100 -> :1
            EXPIRETIME k -> :1700000100
            PEXPIREAT k 1700000000001 -> :1
            PTTL k -> :1
            PERSIST k -> :1
            TTL k -> :-1
            ",
        );
    }

    #[test]
    fn a_time_that_has_passed_removes_the_key() {
        for request in [
            "EXPIRE k -1",
            "EXPIRE k 0",
            "PEXPIRE k -9223372036854775808",
            "EXPIREAT k 1",
            "PEXPIREAT k 1700000000000",
            "PEXPIREAT k -1",
            "EXPIRE k -1 LT",
        ] {
            let mut bench = Bench::new();
            bench.run("SET k v EX 1000");
            assert_eq!(bench.run(request), ":1", "{request}");
            assert_eq!(bench.run("EXISTS k"), ":0", "{request}");
        }
    }

    #[test]
    fn conditions() {
        Bench::new().table(
            "
            SET k v -> +OK
            EXPIRE k 100 XX -> :0
            EXPIRE k 100 GT -> :0
            EXPIRE k 100 XX LT -> :0
            EXPIRE k 100 NX -> :1
            EXPIRE k 200 NX -> :0
            EXPIRE k 200 XX -> :1
            EXPIRE k 200 GT -> :0
            EXPIRE k 201 gt xx -> :1
            EXPIRE k 201 LT -> :0
            EXPIRE k 100 LT -> :1
            TTL k -> :100
            PERSIST k -> :1
            EXPIRE k 100 LT -> :1
            EXPIRE k -1 GT -> :0
            EXISTS k -> :1
            EXPIRE none -1 XX -> :0
            ",
        );
    }

    #[test]
    fn refusals_and_their_order() {
        Bench::new().table(
            "
            EXPIRE k x WHAT -> -ERR Unsupported option WHAT
            EXPIRE k x NX WHAT -> -ERR Unsupported option WHAT
            EXPIRE k x NX GT LT -> -ERR NX and XX, GT or LT options at the same time are not compatible
            EXPIRE k x GT LT -> -ERR GT and LT options at the same time are not compatible
            EXPIRE k x -> -ERR value is not an integer or out of range
            EXPIRE k 1.5 -> -ERR value is not an integer or out of range
            EXPIRE k 9223372036854776 -> -ERR invalid expire time in 'expire' command
            EXPIRE k -9223372036854776 -> -ERR invalid expire time in 'expire' command
            EXPIRE k 9223372036854775 -> -ERR invalid expire time in 'expire' command
            PEXPIRE k 9223372036854775807 -> -ERR invalid expire time in 'pexpire' command
            EXPIREAT k 9223372036854776 -> -ERR invalid expire time in 'expireat' command
            PEXPIREAT k 9223372036854775807 -> :0
            SET k v -> +OK
            PEXPIREAT k 9223372036854775807 -> :1
            PEXPIRETIME k -> :9223372036854775807
            ",
        );
    }
}
