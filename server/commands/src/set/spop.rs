//! SPOP and SRANDMEMBER: members picked at random, taken or only shown.

use protocol::number::parse_i64;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Member, Rng, Set, SetEdit};

use crate::set::pick::{self, Sample};
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "spop",
            summary: "Takes random members out of a set.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SET).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_DELETE,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Write(spop),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "srandmember",
            summary: "Shows random members of a set.",
            group: Group::Set,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::READONLY,
            acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &["nondeterministic_output"],
            deprecated_since: None,
        },
        run: Run::Read(srandmember),
        spread: Spread::Keys,
    },
];

fn spop(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    if args.left() == 0 {
        let Some(mut set) = cx.edit.edit_set(&key)? else {
            cx.reply.null();
            return Ok(());
        };
        pop_one(&mut set, cx.rng, &mut Vec::new(), |member| {
            cx.reply.bulk(member);
        });
        set.event(EventClass::Set, "spop");
        return Ok(());
    }
    let count = args.bytes()?;
    args.end()?;
    let count = parse_i64(count)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(Refusal::NotPositive)?;
    let Some(mut set) = cx.edit.edit_set(&key)? else {
        cx.reply.set(0);
        return Ok(());
    };
    let len = set.len();
    cx.reply.set(count.min(len));
    if count > 0 {
        set.event(EventClass::Set, "spop");
    }
    if count >= len {
        set.iter().for_each(|member| cx.reply.bulk(&member));
        drop(set);
        cx.edit.remove(&key);
        cx.edit.event(EventClass::Generic, "del", &key);
    } else if pick::walk_is_better(len, count) {
        let mut sample = Sample::new(len, count);
        let picked: Vec<Vec<u8>> = set
            .iter()
            .filter(|_| sample.takes(cx.rng))
            .map(|member| member.to_vec())
            .collect();
        for member in picked {
            cx.reply.bulk(&member);
            set.remove(&member);
        }
    } else {
        let mut room = Vec::new();
        for _ in 0..count {
            pop_one(&mut set, cx.rng, &mut room, |member| cx.reply.bulk(member));
        }
    }
    Ok(())
}

/// Takes one member out; `room` is for its copy.
fn pop_one(set: &mut SetEdit<'_>, rng: &mut Rng, room: &mut Vec<u8>, show: impl FnOnce(&[u8])) {
    room.clear();
    if let Some(member) = set.random(rng) {
        room.extend_from_slice(&member);
        show(room);
        set.remove(room);
    }
}

fn srandmember(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    if args.left() == 0 {
        match cx.shard.set(&key)?.and_then(|set| set.random(cx.rng)) {
            Some(member) => cx.reply.bulk(&member),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let count = args.bytes()?;
    args.end()?;
    let count = parse_i64(count).ok_or(Refusal::NotInteger)?;
    if count == i64::MIN {
        return Err(Refusal::out_of_range(-i64::MAX, i64::MAX).into());
    }
    let Some(set) = cx.shard.set(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        let bytes_max = cx.settings.string_bytes_max;
        pick::repeat(&mut cx.reply, wanted, wanted, bytes_max, |reply| {
            if let Some(member) = set.random(cx.rng) {
                reply.bulk(&member);
            }
        })?;
        return Ok(());
    }
    let len = set.len();
    cx.reply.array(wanted.min(len));
    if pick::walk_is_better(len, wanted) {
        let mut sample = Sample::new(len, wanted);
        set.iter()
            .filter(|_| sample.takes(cx.rng))
            .for_each(|member| cx.reply.bulk(&member));
    } else {
        for member in different(set, wanted, cx.rng) {
            cx.reply.bulk(&member);
        }
    }
    Ok(())
}

/// So many different members (clearly less than all), in random order.
fn different<'s>(set: &'s Set, wanted: usize, rng: &mut Rng) -> Vec<Member<'s>> {
    let mut picked: Vec<Member<'s>> = Vec::with_capacity(wanted);
    while picked.len() < wanted {
        for _ in picked.len()..wanted {
            picked.extend(set.random(rng));
        }
        picked.sort_unstable_by(|a, b| <[u8]>::cmp(a, b));
        picked.dedup_by(|a, b| **a == **b);
    }
    pick::shuffle(&mut picked, rng);
    picked
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::testing::Bench;

    /// The strings of a flat reply, its header left out.
    fn strings(reply: &str) -> Vec<String> {
        let words: Vec<&str> = reply.split(' ').collect();
        words[1..]
            .chunks(2)
            .map(|pair| pair[1].to_owned())
            .collect()
    }

    fn filled(n: usize, prefix: &str) -> Bench {
        let mut bench = Bench::new();
        let members: String = (0..n).map(|i| format!(" {prefix}{i}")).collect();
        bench.run(&format!("SADD s{members}"));
        bench
    }

    #[test]
    fn words_are_checked_before_the_key() {
        Bench::new().table(
            "
            SET str x -> +OK
            SPOP str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SPOP str x -> -ERR value is out of range, must be positive
            SPOP str -1 -> -ERR value is out of range, must be positive
            SPOP str 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SPOP str 1 2 -> -ERR syntax error
            SPOP none -> $-1
            SPOP none 2 -> *0
            SRANDMEMBER str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SRANDMEMBER str x -> -ERR value is not an integer or out of range
            SRANDMEMBER str -9223372036854775808 -> -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
            SRANDMEMBER str 1 2 -> -ERR syntax error
            SRANDMEMBER none -> $-1
            SRANDMEMBER none 2 -> *0
            SADD s a -> :1
            SPOP s 0 -> *0
            SRANDMEMBER s 0 -> *0
            SRANDMEMBER s -> $1 a
            SRANDMEMBER s 5 -> *1 $1 a
            SRANDMEMBER s -3 -> *3 $1 a $1 a $1 a
            SRANDMEMBER s -9223372036854775807 -> -ERR value is out of range
            SPOP s -> $1 a
            SCARD s -> :0
            ",
        );
    }

    #[test]
    fn pops_are_different_members_and_gone() {
        for (n, prefix) in [(10, ""), (100, "m"), (1000, "m"), (600, "")] {
            for count in [1, 2, n / 10, n / 2, n - 1, n, n + 5] {
                let mut bench = filled(n, prefix);
                let popped: BTreeSet<String> = strings(&bench.run(&format!("SPOP s {count}")))
                    .into_iter()
                    .collect();
                assert_eq!(popped.len(), count.min(n));
                assert_eq!(bench.run("SCARD s"), format!(":{}", n - popped.len()));
                let popped: String = popped.iter().map(|m| format!(" {m}")).collect();
                assert!(!bench.run(&format!("SMISMEMBER s{popped}")).contains(":1"));
                bench.shard.check();
            }
        }
    }

    #[test]
    fn shown_members_are_different_unless_the_count_is_negative() {
        for (n, prefix) in [(10, ""), (100, "m"), (1000, "m"), (600, "")] {
            let mut bench = filled(n, prefix);
            for count in [1, 3, n / 10, n / 2, n - 1, n, n + 5] {
                let shown = strings(&bench.run(&format!("SRANDMEMBER s {count}")));
                let different: BTreeSet<&String> = shown.iter().collect();
                assert_eq!((shown.len(), different.len()), (count.min(n), count.min(n)));
                let repeated = strings(&bench.run(&format!("SRANDMEMBER s -{}", 3 * n)));
                assert_eq!(repeated.len(), 3 * n);
                assert!(different.len() <= n);
            }
            assert_eq!(bench.run("SCARD s"), format!(":{n}"));
        }
    }
}
