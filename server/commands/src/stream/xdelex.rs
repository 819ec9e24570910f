//! XDELEX and XACKDEL of Redis 8.2: entries are deleted with regard to the groups that have to do with them.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec, spec};
use storage::{EventClass, Group as Consumers, Stream, StreamEdit, StreamId};

use super::ids;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xackdel",
            summary: "Takes entries from the pending ones of a group, and deletes them.",
            group: Group::Stream,
            since: "8.2.0",
            arity: Arity::at_least(6),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
            keys: &[KeySpec::one(
                1,
                KeyFlags::RW.and(KeyFlags::UPDATE).and(KeyFlags::DELETE),
            )],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(xackdel),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xdelex",
            summary: "Deletes entries of a stream, with regard to its groups.",
            group: Group::Stream,
            since: "8.2.0",
            arity: Arity::at_least(5),
            flags: Flags::FAST.and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
            keys: spec::ONE_RW_DELETE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(xdelex),
        spread: Spread::Keys,
    },
];

/// What becomes of what groups know of a deleted entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// It stays pending.
    Keep,
    /// It is pending nowhere any more.
    Delete,
    /// Only what every group has been given and has acknowledged is deleted.
    Acked,
}

/// What happened to an entry, as it is replied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// There is none.
    Missing = -1,
    /// It is deleted.
    Deleted = 1,
    /// A group still has to do with it.
    Referenced = 2,
}

/// The options: a policy, and the ids, in any order.
fn options(mut args: Args<'_>) -> Result<(Policy, Vec<StreamId>), Refusal> {
    let (mut policy, mut found) = (None, None);
    while args.left() > 0 {
        let named = [
            ("KEEPREF", Policy::Keep),
            ("DELREF", Policy::Delete),
            ("ACKED", Policy::Acked),
        ];
        if let Some((_, named)) = named.into_iter().find(|(name, _)| args.keyword(name)) {
            if policy.replace(named).is_some() {
                return Err(Refusal::Syntax);
            }
        } else if args.left() > 1 && found.is_none() && args.keyword("IDS") {
            let count = args
                .int()
                .ok()
                .and_then(|count| usize::try_from(count).ok());
            let count = count.filter(|count| *count > 0).ok_or(Refusal::Text(
                "ERR Number of IDs must be a positive integer",
            ))?;
            if count > args.left() {
                return Err(Refusal::Text(
                    "ERR The `numids` parameter must match the number of arguments",
                ));
            }
            found = Some(ids::all(args.rest().take(count))?);
            args = args.skip(count);
        } else {
            return Err(Refusal::Syntax);
        }
    }
    let found = found.ok_or(Refusal::Syntax)?;
    Ok((policy.unwrap_or(Policy::Keep), found))
}

/// Whether a group has still to be given an entry, or to acknowledge it.
fn is_referenced(stream: &Stream, id: StreamId) -> bool {
    let needs = |group: &Consumers| id > group.last_id() || group.pending(id).is_some();
    stream.groups().any(needs)
}

fn forget(stream: &mut StreamEdit<'_>, id: StreamId) {
    let pending = stream.groups().filter(|group| group.pending(id).is_some());
    let names: Vec<Vec<u8>> = pending.map(|group| group.name().to_vec()).collect();
    for name in names {
        stream.remove_pending(&name, id);
    }
}

fn delete(stream: &mut StreamEdit<'_>, id: StreamId, policy: Policy) -> Outcome {
    if policy == Policy::Acked && stream.get(id).is_some() && is_referenced(stream, id) {
        return Outcome::Referenced;
    }
    if policy == Policy::Delete {
        forget(stream, id);
    }
    if stream.remove(id) {
        Outcome::Deleted
    } else {
        Outcome::Missing
    }
}

fn reply(reply: &mut Reply<'_>, outcomes: &[Outcome]) {
    reply.array(outcomes.len());
    outcomes
        .iter()
        .for_each(|outcome| reply.int(*outcome as i64));
}

fn xdelex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (policy, wanted) = options(args)?;
    let mut outcomes = vec![Outcome::Missing; wanted.len()];
    if let Some(mut stream) = cx.edit.edit_stream(&key)? {
        for (id, outcome) in wanted.into_iter().zip(&mut outcomes) {
            *outcome = delete(&mut stream, id, policy);
        }
        if outcomes.contains(&Outcome::Deleted) {
            stream.event(EventClass::Stream, "xdel");
        }
    }
    reply(&mut cx.reply, &outcomes);
    Ok(())
}

fn xackdel(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group) = (cx.key(args.bytes()?), args.bytes()?);
    let (policy, wanted) = options(args)?;
    let mut outcomes = vec![Outcome::Missing; wanted.len()];
    if let Some(mut stream) = cx.edit.edit_stream(&key)? {
        let before = stream.len();
        for (id, outcome) in wanted.into_iter().zip(&mut outcomes) {
            if stream.remove_pending(group, id) {
                *outcome = match delete(&mut stream, id, policy) {
                    Outcome::Referenced => Outcome::Referenced,
                    // It is acknowledged, and the stream has it no more.
                    Outcome::Deleted | Outcome::Missing => Outcome::Deleted,
                };
            }
        }
        if stream.len() < before {
            stream.event(EventClass::Stream, "xdel");
        }
    }
    reply(&mut cx.reply, &outcomes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    /// Entries 1 to 4: `g` has been given 1 to 3, `h` 1 and 2; `g` has acknowledged 1.
    fn bench() -> Bench {
        let mut bench = Bench::new();
        for n in 1..=4 {
            bench.run(&format!("XADD s {n} f v"));
        }
        for (group, count) in [("g", 3), ("h", 2)] {
            bench.run(&format!("XGROUP CREATE s {group} 0"));
            bench.run(&format!(
                "XREADGROUP GROUP {group} c COUNT {count} STREAMS s >"
            ));
        }
        bench.run("XACK s g 1");
        bench
    }

    #[test]
    fn references_are_kept_dropped_or_respected() {
        bench().table(
            "
            XDELEX none IDS 2 1 2 -> *2 :-1 :-1
            XDELEX s ACKED IDS 4 1 2 4 9 -> *4 :2 :2 :2 :-1
            XLEN s -> :4
            XACK s h 1 -> :1
            XDELEX s IDS 1 1 ACKED -> *1 :1
            XDELEX s IDS 2 2 2 -> *2 :1 :-1
            XPENDING s g -> *4 :2 $3 2-0 $3 3-0 *1 *2 $1 c $1 2
            XDELEX s DELREF IDS 1 2 -> *1 :-1
            XPENDING s g -> *4 :1 $3 3-0 $3 3-0 *1 *2 $1 c $1 1
            XPENDING s h -> *4 :0 $-1 $-1 *-1
            XDELEX s delref ids 1 3 -> *1 :1
            XPENDING s g -> *4 :0 $-1 $-1 *-1
            XLEN s -> :1
            XDELEX s IDS 0 1 -> -ERR Number of IDs must be a positive integer
            XDELEX s IDS x 1 -> -ERR Number of IDs must be a positive integer
            XDELEX s IDS 2 1 -> -ERR The `numids` parameter must match the number of arguments
            XDELEX s IDS 1 1 2 -> -ERR syntax error
            XDELEX s KEEPREF ACKED IDS 1 1 -> -ERR syntax error
            XDELEX s KEEPREF 1 1 -> -ERR syntax error
            XDELEX s IDS 1 x -> -ERR Invalid stream ID specified as stream command argument
            SET str x -> +OK
            XDELEX str IDS 1 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn what_is_acknowledged_is_deleted() {
        bench().table(
            "
            XACKDEL none g IDS 2 1 2 -> *2 :-1 :-1
            XACKDEL s none IDS 1 1 -> *1 :-1
            XACKDEL s g IDS 2 1 4 -> *2 :-1 :-1
            XACKDEL s g ACKED IDS 1 2 -> *1 :2
            XPENDING s g -> *4 :1 $3 3-0 $3 3-0 *1 *2 $1 c $1 1
            XLEN s -> :4
            XACKDEL s h ACKED IDS 2 1 2 -> *2 :1 :1
            XLEN s -> :2
            XACKDEL s g ACKED IDS 1 3 -> *1 :2
            XREADGROUP GROUP h c COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 3-0 *2 $1 f $1 v
            XDEL s 3 -> :1
            XACKDEL s h DELREF IDS 1 3 -> *1 :1
            XACKDEL s g IDS 0 3 -> -ERR Number of IDs must be a positive integer
            ",
        );
    }
}
