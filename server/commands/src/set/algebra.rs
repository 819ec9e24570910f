//! Intersection, union and difference of sets: told or stored.

use core::ops::ControlFlow;

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Spec, spec};
use storage::{EventClass, Limits, OwnedValue, Set, Shard};

use crate::key;
use crate::set::combine::{inputs, intersect, subtract, unite};
use crate::{Command, Read, Refused, Run, Spread, Write};

/// All inputs after the destination.
const INPUTS: KeySpec = KeySpec::range(2, -1, 1, KeyFlags::RO.and(KeyFlags::ACCESS));

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "sdiff",
            summary: "Tells the members of the first set that no other set has.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
            keys: spec::ALL_RO_ACCESS,
            range: (1, -1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(sdiff),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "sdiffstore",
            summary: "Stores the members of the first set that no other set has.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SET.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)), INPUTS],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(sdiffstore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "sinter",
            summary: "Tells the members that all sets have.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
            keys: spec::ALL_RO_ACCESS,
            range: (1, -1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(sinter),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "sinterstore",
            summary: "Stores the members that all sets have.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SET.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE)), INPUTS],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(sinterstore),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "sunion",
            summary: "Tells the members that at least one set has.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
            keys: spec::ALL_RO_ACCESS,
            range: (1, -1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(sunion),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "sunionstore",
            summary: "Stores the members that at least one set has.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SET.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)), INPUTS],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(sunionstore),
        spread: Spread::Keys,
    },
];

fn sinter(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let sets = inputs(args.rest(), |word| cx.shard.set(&cx.key(word)))?;
    let (header, mut len) = (cx.reply.later(), 0);
    intersect(sets, |member| {
        cx.reply.bulk(member);
        len += 1;
        ControlFlow::Continue(())
    });
    cx.reply.set_at(header, len);
    Ok(())
}

fn sinterstore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    store(cx, args, "sinterstore", |sets, limits| {
        let mut result = Set::new();
        intersect(sets, |member| {
            result.add(member, limits);
            ControlFlow::Continue(())
        });
        result
    })
}

fn sunion(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let sets = inputs(args.rest(), |word| cx.shard.set(&cx.key(word)))?;
    tell(cx, &unite(sets, cx.shard.limits()));
    Ok(())
}

fn sunionstore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    store(cx, args, "sunionstore", unite)
}

fn sdiff(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    let sets = inputs(args.rest(), |word| cx.shard.set(&cx.key(word)))?;
    tell(cx, &subtract(sets, cx.shard.limits()));
    Ok(())
}

fn sdiffstore(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    store(cx, args, "sdiffstore", subtract)
}

fn tell(cx: &mut Read<'_>, result: &Set) {
    cx.reply.set(result.len());
    result.iter().for_each(|member| cx.reply.bulk(&member));
}

/// Puts what comes of the sets at the second key and later at the first key; nothing leaves no key.
fn store(
    cx: &mut Write<'_>,
    mut args: Args<'_>,
    name: &'static str,
    combine: impl FnOnce(Vec<Option<&Set>>, &Limits) -> Set,
) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let shard: &Shard = &cx.edit;
    let sets = inputs(args.rest(), |word| shard.set(&cx.key(word)))?;
    let result = combine(sets, shard.limits());
    let len = result.len();
    let result = OwnedValue::Set(Box::new(result));
    key::store(&mut cx.edit, &key, result, (EventClass::Set, name));
    cx.reply.int(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use protocol::Resp;
    use storage::Limits;

    use crate::testing::Bench;

    #[test]
    fn the_three_operations() {
        Bench::new().table(
            "
            SADD a 1 2 3 4 -> :4
            SADD b 2 4 6 -> :3
            SADD c 4 -> :1
            SADD w 4 x -> :2
            SINTER a b -> *2 $1 2 $1 4
            SINTER a b c w -> *1 $1 4
            SINTER a a -> *4 $1 1 $1 2 $1 3 $1 4
            SINTER a none -> *0
            SUNION c b none -> *3 $1 2 $1 4 $1 6
            SUNION none -> *0
            SDIFF a b -> *2 $1 1 $1 3
            SDIFF a b none c -> *2 $1 1 $1 3
            SDIFF a b a -> *0
            SDIFF none a -> *0
            SDIFF w a -> *1 $1 x
            SDIFF c a a a a a a -> *0
            ",
        );
    }

    #[test]
    fn words_are_checked_before_keys() {
        Bench::new().table(
            "
            SET str x -> +OK
            SADD a 1 -> :1
            SINTER none str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SUNION none str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SDIFF none str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SINTERSTORE d none str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SUNIONSTORE str a -> :1
            SMEMBERS str -> *1 $1 1
            ",
        );
    }

    #[test]
    fn storing_replaces_and_nothing_removes() {
        Bench::new().table(
            "
            SADD a 1 2 3 -> :3
            SADD b 2 3 x -> :3
            SINTERSTORE d a b -> :2
            SMEMBERS d -> *2 $1 2 $1 3
            SDIFFSTORE d a b -> :1
            SMEMBERS d -> *1 $1 1
            SUNIONSTORE d a b -> :4
            SCARD d -> :4
            SINTERSTORE d a none -> :0
            SCARD d -> :0
            SET d str -> +OK
            SDIFFSTORE d none -> :0
            GET d -> $-1
            SUNIONSTORE a a b -> :4
            SDIFFSTORE a a b -> :1
            SMEMBERS a -> *1 $1 1
            SINTERSTORE none none none -> :0
            ",
        );
    }

    #[test]
    fn version_3_has_sets() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            SADD a 1 2 -> :2
            SINTER a a -> ~2 $1 1 $1 2
            SINTER a none -> ~0
            SUNION a -> ~2 $1 1 $1 2
            SDIFF a none -> ~2 $1 1 $1 2
            ",
        );
    }

    fn members(reply: &str) -> BTreeSet<String> {
        let words: Vec<&str> = reply.split(' ').collect();
        let found: BTreeSet<String> = words[1..].chunks(2).map(|c| c[1].to_owned()).collect();
        assert_eq!(found.len(), words.len() / 2, "a member twice in {reply}");
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn algebra_is_that_of_sets(
            inputs in proptest::collection::vec(
                proptest::collection::btree_set(prop_oneof!["[0-9]{1,2}", "[a-c]{1,2}"], 0..40), 1..6),
            intset in 0usize..30, packed in 0usize..30,
        ) {
            let limits = Limits {
                set_max_intset_entries: intset, set_max_listpack_entries: packed, ..Limits::default()
            };
            let mut bench = Bench::with_limits(limits);
            let mut keys = String::new();
            for (i, input) in inputs.iter().enumerate() {
                keys.push_str(&format!(" k{i}"));
                let members: String = input.iter().map(|m| format!(" {m}")).collect();
                if !input.is_empty() {
                    bench.run(&format!("SADD k{i}{members}"));
                }
            }
            let first = inputs[0].clone();
            let inter = inputs.iter().fold(first.clone(), |all, set| &all & set);
            let union = inputs.iter().fold(first.clone(), |all, set| &all | set);
            let diff = inputs[1..].iter().fold(first, |all, set| &all - set);
            for (name, expected) in [("SINTER", inter), ("SUNION", union), ("SDIFF", diff)] {
                prop_assert_eq!(&members(&bench.run(&format!("{name}{keys}"))), &expected);
                let stored = bench.run(&format!("{name}STORE d{keys}"));
                prop_assert_eq!(stored, format!(":{}", expected.len()));
                prop_assert_eq!(members(&bench.run("SMEMBERS d")), expected);
            }
            let counted = bench.run(&format!("SINTERCARD {}{keys} LIMIT 3", inputs.len()));
            let inter = members(&bench.run(&format!("SINTER{keys}"))).len();
            prop_assert_eq!(counted, format!(":{}", inter.min(3)));
            bench.shard.check();
        }
    }
}
