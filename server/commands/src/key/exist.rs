//! EXISTS, TOUCH and TYPE: what is known of keys without their values.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "exists",
            summary: "Counts how many of the keys are there.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ALL_RO,
            range: (1, -1, 1),
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            deprecated_since: None,
        },
        run: Run::Read(exists),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "touch",
            summary: "Notes an access to keys and counts those that are there.",
            group: Group::Generic,
            since: "3.2.1",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ALL_RO,
            range: (1, -1, 1),
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            deprecated_since: None,
        },
        run: Run::Read(touch),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "type",
            summary: "Tells which type of value a key holds.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::KEYSPACE).and(Acl::READ),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(type_of),
        spread: Spread::Keys,
    },
];

fn exists(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let there = args.rest().filter(|word| cx.shard.exists(&cx.key(word)));
    let count = there.count();
    cx.reply.int(count as i64);
    Ok(())
}

fn touch(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let there = args.rest().filter(|word| cx.shard.touch(&cx.key(word)));
    let count = there.count();
    cx.reply.int(count as i64);
    Ok(())
}

fn type_of(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let info = cx.shard.info(&key);
    cx.shard.count_read(&key, info.is_some());
    let name = info.map_or("none", |info| info.type_name);
    cx.reply.simple(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn each_mention_counts() {
        let mut bench = Bench::new();
        bench.table(
            "
            SET a 1 -> +OK
            SET b 1 PX 5 -> +OK
            EXISTS a a b none -> :3
            TOUCH a a b none -> :3
            TYPE a -> +string
            TYPE none -> +none
            ",
        );
        bench.pass_ms(5);
        bench.table(
            "
            EXISTS b -> :0
            TOUCH b -> :0
            TYPE b -> +none
            ",
        );
    }

    #[test]
    fn only_touch_is_an_access() {
        let mut bench = Bench::new();
        bench.table("SET a 1 -> +OK");
        bench.pass_ms(9_000);
        bench.table(
            "
            EXISTS a -> :1
            TYPE a -> +string
            TTL a -> :-1
            OBJECT ENCODING a -> $3 int
            OBJECT IDLETIME a -> :9
            TOUCH a -> :1
            OBJECT IDLETIME a -> :0
            ",
        );
    }
}
