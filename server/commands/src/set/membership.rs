//! Hot path. SADD, SREM, SMOVE, and who is in a set: one lookup of the key, one of each member.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Spec, spec};
use storage::EventClass;

use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "sadd",
            summary: "Adds members to a set, which it makes if it is not there.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SET).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(sadd),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "scard",
            summary: "Tells how many members a set has.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SET),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(scard),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "sismember",
            summary: "Tells whether something is a member of a set.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SET),
            keys: spec::ONE_RO,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(sismember),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "smembers",
            summary: "Lists all members of a set.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(smembers),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "smismember",
            summary: "Tells of each of several things whether it is a member of a set.",
            group: Group::Set,
            since: "6.2.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ).and(Acl::SET),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(smismember),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "smove",
            summary: "Takes a member out of one set and adds it to another.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::exactly(4),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SET).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE)),
                KeySpec::one(2, KeyFlags::RW.and(KeyFlags::INSERT)),
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(smove),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "srem",
            summary: "Removes members from a set, and the set when none is left.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SET).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(srem),
        spread: Spread::Keys,
    },
];

fn sadd(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut set = cx.edit.edit_set_or_new(&key)?;
    set.expect(args.peek().unwrap_or_default(), args.left());
    let mut added = 0;
    for member in args.rest() {
        added += i64::from(set.add(member));
    }
    if added > 0 {
        set.event(EventClass::Set, "sadd");
    }
    cx.reply.int(added);
    Ok(())
}

fn srem(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut removed = 0;
    if let Some(mut set) = cx.edit.edit_set(&key)? {
        for member in args.rest() {
            removed += i64::from(set.remove(member));
        }
        if removed > 0 {
            set.event(EventClass::Set, "srem");
        }
    }
    cx.reply.int(removed);
    Ok(())
}

fn smove(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (from, to) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    let member = args.bytes()?;
    let Some(set) = cx.edit.set(&from)? else {
        // The destination is not even looked at.
        cx.reply.int(0);
        return Ok(());
    };
    let found = set.contains(member);
    cx.edit.set(&to)?;
    if found && from.bytes != to.bytes {
        if let Some(mut set) = cx.edit.edit_set(&from)? {
            set.remove(member);
            set.event(EventClass::Set, "srem");
        }
        let mut set = cx.edit.edit_set_or_new(&to)?;
        if set.add(member) {
            set.event(EventClass::Set, "sadd");
        }
    }
    cx.reply.int(i64::from(found));
    Ok(())
}

fn sismember(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, member) = (cx.key(args.bytes()?), args.bytes()?);
    let found = cx.shard.set(&key)?.is_some_and(|set| set.contains(member));
    cx.reply.int(i64::from(found));
    Ok(())
}

fn smismember(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let set = cx.shard.set(&key)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        let found = set.is_some_and(|set| set.contains(member));
        cx.reply.int(i64::from(found));
    }
    Ok(())
}

fn scard(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let len = cx.shard.set(&key)?.map_or(0, |set| set.len());
    cx.reply.int(len as i64);
    Ok(())
}

fn smembers(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let set = cx.shard.set(&key)?;
    cx.reply.set(set.map_or(0, |set| set.len()));
    set.iter()
        .flat_map(|set| set.iter())
        .for_each(|member| cx.reply.bulk(&member));
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;
    use storage::Key;

    use crate::testing::Bench;

    #[test]
    fn members_come_and_go() {
        Bench::new().table(
            "
            SADD s a b a -> :2
            SADD s b c -> :1
            SCARD s -> :3
            SISMEMBER s a -> :1
            SISMEMBER s x -> :0
            SISMEMBER none x -> :0
            SMISMEMBER s a x c -> *3 :1 :0 :1
            SMISMEMBER none a x -> *2 :0 :0
            SMEMBERS s -> *3 $1 a $1 b $1 c
            SMEMBERS none -> *0
            SCARD none -> :0
            SREM s x -> :0
            SREM s a a b c d -> :3
            SCARD s -> :0
            ",
        );
    }

    #[test]
    fn integers_are_listed_in_ascending_order() {
        Bench::new().table(
            "
            SADD s 3 -1 20 3 -> :3
            SMEMBERS s -> *3 $2 -1 $1 3 $2 20
            SADD s 03 -> :1
            SISMEMBER s 03 -> :1
            SISMEMBER s 003 -> :0
            ",
        );
    }

    #[test]
    fn a_move_looks_at_the_source_first() {
        Bench::new().table(
            "
            SET str x -> +OK
            SADD a 1 2 -> :2
            SMOVE none str 1 -> :0
            SMOVE a str 9 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SMOVE str a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SMOVE a b 9 -> :0
            SMOVE a a 1 -> :1
            SMOVE a a 9 -> :0
            SMOVE a b 1 -> :1
            SMOVE a b 2 -> :1
            SCARD a -> :0
            SMEMBERS b -> *2 $1 1 $1 2
            SADD a 2 -> :1
            SMOVE a b 2 -> :1
            SCARD a -> :0
            SCARD b -> :2
            ",
        );
    }

    #[test]
    fn other_types_are_refused() {
        let mut bench = Bench::new();
        bench.run("SET str x");
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        for request in [
            "SADD str a",
            "SREM str a",
            "SCARD str",
            "SMEMBERS str",
            "SISMEMBER str a",
            "SMISMEMBER str a",
        ] {
            assert_eq!(bench.run(request), wrong, "{request}");
        }
    }

    #[test]
    fn an_expired_key_is_no_key() {
        let mut bench = Bench::new();
        bench.table("SET k x PX 10 -> +OK");
        bench.pass_ms(10);
        bench.table(
            "
            SCARD k -> :0
            SADD k a -> :1
            SET k x PX 10 -> +OK
            ",
        );
        bench.pass_ms(10);
        bench.table(
            "
            SREM k a -> :0
            SMOVE k other a -> :0
            SADD k a -> :1
            SMEMBERS k -> *1 $1 a
            ",
        );
    }

    #[test]
    fn version_3_has_sets() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            SADD s 1 2 -> :2
            SMEMBERS s -> ~2 $1 1 $1 2
            SMEMBERS none -> ~0
            SISMEMBER s 1 -> :1
            ",
        );
    }

    #[test]
    fn forms_follow_the_members() {
        let mut bench = Bench::new();
        let encoding = |bench: &Bench| bench.shard.info(&Key::new(0, b"s")).unwrap().encoding;
        bench.run("SADD s 1 2 3");
        assert_eq!(encoding(&bench), "intset");
        bench.run("SADD s x");
        assert_eq!(encoding(&bench), "listpack");
        let more: String = (0..125).map(|i| format!(" m{i}")).collect();
        bench.run(&format!("SADD s{more}"));
        assert_eq!(encoding(&bench), "hashtable");
    }
}
