//! DEL and UNLINK: removing keys. Both unlink; large values are freed in slices either way.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};
use storage::EventClass;

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "del",
            summary: "Removes keys.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::WRITE,
            acl: Acl::KEYSPACE.and(Acl::SLOW).and(Acl::WRITE),
            keys: spec::ALL_RM_DELETE,
            range: (1, -1, 1),
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            deprecated_since: None,
        },
        run: Run::Write(del),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "unlink",
            summary: "Removes keys and frees their memory later.",
            group: Group::Generic,
            since: "4.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::WRITE),
            keys: spec::ALL_RM_DELETE,
            range: (1, -1, 1),
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            deprecated_since: None,
        },
        run: Run::Write(unlink),
        spread: Spread::Keys,
    },
];

fn del(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let mut removed = 0;
    for word in args.rest() {
        let key = cx.key(word);
        if cx.edit.remove(&key) {
            cx.edit.event(EventClass::Generic, "del", &key);
            removed += 1;
        }
    }
    cx.reply.int(removed);
    Ok(())
}

fn unlink(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    del(cx, args)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn a_key_counts_once() {
        let mut bench = Bench::new();
        bench.table(
            "
            MSET a 1 b 2 c 3 -> +OK
            DEL a a none -> :1
            UNLINK b c b -> :2
            DEL a -> :0
            SET a 1 PX 5 -> +OK
            ",
        );
        bench.pass_ms(5);
        bench.table("DEL a -> :0");
    }
}
