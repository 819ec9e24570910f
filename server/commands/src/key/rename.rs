//! RENAME and RENAMENX: another name for a value; its deadline goes along.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::EventClass;

use crate::key::ttl_of;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "rename",
            summary: "Gives a key another name, whatever that name held.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::WRITE,
            acl: Acl::KEYSPACE.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
                KeySpec::one(2, KeyFlags::OW.and(KeyFlags::UPDATE)),
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(rename),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "renamenx",
            summary: "Gives a key another name that is not in use yet.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
                KeySpec::one(2, KeyFlags::OW.and(KeyFlags::INSERT)),
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(renamenx),
        spread: Spread::Keys,
    },
];

fn rename(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    give_name(cx, args, true)?;
    cx.reply.ok();
    Ok(())
}

fn renamenx(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let renamed = give_name(cx, args, false)?;
    cx.reply.int(i64::from(renamed));
    Ok(())
}

/// Whether the key has got its new name; a key keeps its own name without a change.
fn give_name(cx: &mut Write<'_>, mut args: Args<'_>, replace: bool) -> Result<bool, Refused> {
    let (from, to) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    if !cx.edit.exists(&from) {
        return Err(Refusal::NoSuchKey.into());
    }
    if from.bytes == to.bytes || (!replace && cx.edit.exists(&to)) {
        return Ok(false);
    }
    if let Some((value, deadline)) = cx.edit.take(&from) {
        if cx.edit.exists(&to) {
            // To who listens what was there is gone first.
            cx.edit.event(EventClass::New, "new", &to);
        }
        cx.edit.put_value(&to, value, ttl_of(deadline));
        cx.edit.event(EventClass::Generic, "rename_from", &from);
        cx.edit.event(EventClass::Generic, "rename_to", &to);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn a_value_goes_with_its_deadline() {
        let mut bench = Bench::new();
        bench.table(
            "
            RENAME a b -> -ERR no such key
            RENAME a a -> -ERR no such key
            RENAMENX a a -> -ERR no such key
            SET a 1 PX 70 -> +OK
            SET b 2 -> +OK
            RENAME a a -> +OK
            RENAMENX a a -> :0
            RENAMENX a b -> :0
            RENAME a b -> +OK
            EXISTS a -> :0
            GET b -> $1 1
            PTTL b -> :70
            SET a 3 -> +OK
            RENAME a b -> +OK
            PTTL b -> :-1
            RENAMENX b c -> :1
            GET c -> $1 3
            DBSIZE -> :1
            SET b 1 PX 5 -> +OK
            ",
        );
        bench.pass_ms(5);
        bench.table(
            "
            RENAME b c -> -ERR no such key
            SET b 1 PX 5 -> +OK
            ",
        );
        bench.pass_ms(5);
        bench.table("RENAMENX c b -> :1");
    }
}
