//! TTL, PTTL, EXPIRETIME, PEXPIRETIME: telling deadlines, which is no access.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "ttl",
            summary: "Tells after how many seconds a key expires.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(ttl),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "pttl",
            summary: "Tells after how many milliseconds a key expires.",
            group: Group::Generic,
            since: "2.6.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(pttl),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "expiretime",
            summary: "Tells the Unix time, in seconds, at which a key expires.",
            group: Group::Generic,
            since: "7.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(expiretime),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "pexpiretime",
            summary: "Tells the Unix time, in milliseconds, at which a key expires.",
            group: Group::Generic,
            since: "7.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(pexpiretime),
        spread: Spread::Keys,
    },
];

/// The reply for a key that is not there.
const NO_KEY: i64 = -2;
/// The reply for a key without a deadline.
const NO_DEADLINE: i64 = -1;

fn ttl(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, |at_ms, now_ms| {
        seconds(at_ms.saturating_sub(now_ms))
    })
}

fn pttl(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, u64::saturating_sub)
}

fn expiretime(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, |at_ms, _| seconds(at_ms))
}

fn pexpiretime(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    tell(cx, args, |at_ms, _| at_ms)
}

/// Replies what `of` makes of the deadline and the time, both unix ms.
fn tell(
    cx: &mut Read<'_>,
    mut args: Args<'_>,
    of: impl FnOnce(u64, u64) -> u64,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let deadline = cx.shard.deadline_ms(&key);
    cx.shard.count_read(&key, deadline.is_some());
    let told = match deadline {
        None => NO_KEY,
        Some(None) => NO_DEADLINE,
        Some(Some(at_ms)) => of(at_ms, cx.shard.now_ms()).cast_signed(),
    };
    cx.reply.int(told);
    Ok(())
}

/// To the nearest second; half a second counts as one.
fn seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn deadlines_are_told() {
        let mut bench = Bench::new();
        bench.table(
            "
            SET plain v -> +OK
            SET k v PX 1500 -> +OK
            TTL k -> :2
            PTTL k -> :1500
            EXPIRETIME k -> :1700000002
            PEXPIRETIME k -> :1700000001500
            TTL plain -> :-1
            PTTL plain -> :-1
            EXPIRETIME plain -> :-1
            PEXPIRETIME plain -> :-1
            TTL none -> :-2
            PTTL none -> :-2
            EXPIRETIME none -> :-2
            PEXPIRETIME none -> :-2
            ",
        );
        bench.pass_ms(1001);
        bench.table(
            "
            TTL k -> :0
            PTTL k -> :499
            EXPIRETIME k -> :1700000002
            ",
        );
        bench.pass_ms(499);
        bench.table("TTL k -> :-2");
    }
}
