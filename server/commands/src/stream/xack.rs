//! XACK: entries that are done with.

use protocol::{Acl, Args, Arity, Flags, Group, Spec, spec};

use super::ids;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "xack",
        summary: "Takes entries from the pending ones of a group.",
        group: Group::Stream,
        since: "5.0.0",
        arity: Arity::at_least(4),
        flags: Flags::FAST.and(Flags::WRITE),
        acl: Acl::FAST.and(Acl::STREAM).and(Acl::WRITE),
        keys: spec::ONE_RW_UPDATE,
        range: (1, 1, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Write(xack),
    spread: Spread::Keys,
}];

fn xack(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, group) = (cx.key(args.bytes()?), args.bytes()?);
    let mut done = 0;
    cx.edit.count_read(&key);
    if let Some(mut stream) = cx.edit.edit_stream(&key)?
        && stream.group(group).is_some()
    {
        for id in ids::all(args.rest())? {
            done += i64::from(stream.remove_pending(group, id));
        }
    }
    cx.reply.int(done);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn pending_entries_are_acknowledged_once() {
        Bench::new().table(
            "
            XACK s g x -> :0
            XGROUP CREATE s g 0 MKSTREAM -> +OK
            XACK s none x -> :0
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XREADGROUP GROUP g c COUNT 2 STREAMS s > -> *1 *2 $1 s *2 *2 $3 1-0 *2 $1 f $1 v *2 $3 2-0 *2 $1 f $1 v
            XACK s g 1 x -> -ERR Invalid stream ID specified as stream command argument
            XACK s g 1 1 5 2-0 -> :2
            XACK s g 1 -> :0
            SET str x -> +OK
            XACK str g x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
