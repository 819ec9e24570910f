//! BZPOPMIN, BZPOPMAX, BZMPOP: as their namesakes without B, but where there is nothing they wait.

use protocol::{Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Spec};

use crate::zset::zpop::{self, End};
use crate::{Command, Refused, Spread, Write, wait};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "bzmpop",
            summary: "As ZMPOP, waiting for a member.",
            group: Group::SortedSet,
            since: "7.0.0",
            arity: Arity::at_least(5),
            flags: Flags::BLOCKING.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::BLOCKING
                .and(Acl::SLOW)
                .and(Acl::SORTEDSET)
                .and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(2),
                find: Find::KeyNum {
                    count_at: 0,
                    first: 1,
                    step: 1,
                },
                flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            }],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: wait::blocking(bzmpop, wait::narrow_counted),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "bzpopmax",
            summary: "Takes the member with the highest score of the first of several sorted sets, waiting for it.",
            group: Group::SortedSet,
            since: "5.0.0",
            arity: Arity::at_least(3),
            flags: Flags::BLOCKING.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::BLOCKING
                .and(Acl::FAST)
                .and(Acl::SORTEDSET)
                .and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: -2,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            }],
            range: (1, -2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: wait::blocking(bzpopmax, wait::narrow_list),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "bzpopmin",
            summary: "Takes the member with the lowest score of the first of several sorted sets, waiting for it.",
            group: Group::SortedSet,
            since: "5.0.0",
            arity: Arity::at_least(3),
            flags: Flags::BLOCKING.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::BLOCKING
                .and(Acl::FAST)
                .and(Acl::SORTEDSET)
                .and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: -2,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
            }],
            range: (1, -2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: wait::blocking(bzpopmin, wait::narrow_list),
        spread: Spread::Keys,
    },
];

fn bzpopmin(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, End::Min)
}

fn bzpopmax(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, End::Max)
}

fn pop(cx: &mut Write<'_>, args: Args<'_>, end: End) -> Result<(), Refused> {
    let (keys, wait) = wait::keys_and_timeout(&args, cx.edit.now_ms())?;
    for word in keys {
        let key = cx.key(word);
        let popped = zpop::take(cx, &key, end, 1, false, |reply, _| {
            reply.array(3);
            reply.bulk(word);
        })?;
        if popped {
            return Ok(());
        }
    }
    cx.reply.null_array();
    cx.wait = Some(wait);
    Ok(())
}

fn bzmpop(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let wait = wait::seconds(args.bytes()?, cx.edit.now_ms())?;
    if !zpop::take_first(cx, args)? {
        cx.reply.null_array();
        cx.wait = Some(wait);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, START_MS};

    #[test]
    fn taken_at_once_or_waited_for() {
        let mut bench = Bench::new();
        bench.table(
            "
            ZADD z 1 a 2 b 3 c 4 d -> :4
            BZPOPMIN y z 0 -> *3 $1 z $1 a $1 1
            BZPOPMAX z 0 -> *3 $1 z $1 d $1 4
            BZMPOP 0 2 y z MIN COUNT 9 -> *2 $1 z *2 *2 $1 b $1 2 *2 $1 c $1 3
            ",
        );
        assert_eq!(bench.wait, None);
        let until_ms = Some(START_MS + 1000);
        for request in ["BZPOPMIN y z 1", "BZPOPMAX z 1", "BZMPOP 1 2 y z MAX"] {
            assert_eq!(bench.run(request), "*-1");
            assert_eq!(bench.wait, Some(crate::Wait { until_ms }), "{request}");
        }
        bench.table(
            "
            SET s x -> +OK
            BZPOPMIN y s 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            BZPOPMIN s nan -> -ERR timeout is not a float or out of range
            BZMPOP 1 x s MIN -> -ERR numkeys should be greater than 0
            ",
        );
    }
}
