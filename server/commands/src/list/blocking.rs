//! BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH: as their namesakes without B, but where there is nothing they wait.

use protocol::{Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Spec};
use storage::{EventClass, Side};

use crate::list::{lmove, lpop};
use crate::{Command, Refused, Spread, Write, wait};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "blmove",
            summary: "As LMOVE, waiting for an element.",
            group: Group::List,
            since: "6.2.0",
            arity: Arity::exactly(6),
            flags: Flags::BLOCKING.and(Flags::DENYOOM).and(Flags::WRITE),
            acl: Acl::BLOCKING.and(Acl::LIST).and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec {
                    begin: Begin::Index(1),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
                },
                KeySpec {
                    begin: Begin::Index(2),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::INSERT),
                },
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: wait::blocking(blmove, wait::narrow_source),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "blmpop",
            summary: "As LMPOP, waiting for an element.",
            group: Group::List,
            since: "7.0.0",
            arity: Arity::at_least(5),
            flags: Flags::BLOCKING.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::BLOCKING.and(Acl::LIST).and(Acl::SLOW).and(Acl::WRITE),
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
        run: wait::blocking(blmpop, wait::narrow_counted),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "blpop",
            summary: "Takes the head of the first of several lists that has one, waiting for it.",
            group: Group::List,
            since: "2.0.0",
            arity: Arity::at_least(3),
            flags: Flags::BLOCKING.and(Flags::WRITE),
            acl: Acl::BLOCKING.and(Acl::LIST).and(Acl::SLOW).and(Acl::WRITE),
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
        run: wait::blocking(blpop, wait::narrow_list),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "brpop",
            summary: "Takes the tail of the first of several lists that has one, waiting for it.",
            group: Group::List,
            since: "2.0.0",
            arity: Arity::at_least(3),
            flags: Flags::BLOCKING.and(Flags::WRITE),
            acl: Acl::BLOCKING.and(Acl::LIST).and(Acl::SLOW).and(Acl::WRITE),
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
        run: wait::blocking(brpop, wait::narrow_list),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "brpoplpush",
            summary: "As RPOPLPUSH, waiting for an element.",
            group: Group::List,
            since: "2.2.0",
            arity: Arity::exactly(4),
            flags: Flags::BLOCKING.and(Flags::DENYOOM).and(Flags::WRITE),
            acl: Acl::BLOCKING.and(Acl::LIST).and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec {
                    begin: Begin::Index(1),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
                },
                KeySpec {
                    begin: Begin::Index(2),
                    find: Find::Range {
                        last: 0,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RW.and(KeyFlags::INSERT),
                },
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: wait::blocking(brpoplpush, wait::narrow_source),
        spread: Spread::Keys,
    },
];

fn blpop(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, Side::Left)
}

fn brpop(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    pop(cx, args, Side::Right)
}

fn pop(cx: &mut Write<'_>, args: Args<'_>, side: Side) -> Result<(), Refused> {
    let (keys, wait) = wait::keys_and_timeout(&args, cx.edit.now_ms())?;
    for word in keys {
        let key = cx.key(word);
        if let Some(mut list) = cx.edit.edit_list(&key)? {
            cx.reply.array(2);
            cx.reply.bulk(word);
            if let Some(value) = list.peek(side) {
                cx.reply.bulk(value);
            }
            list.drop_end(side);
            let name = match side {
                Side::Left => "lpop",
                Side::Right => "rpop",
            };
            list.event(EventClass::List, name);
            return Ok(());
        }
    }
    cx.reply.null_array();
    cx.wait = Some(wait);
    Ok(())
}

fn blmpop(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let wait = wait::seconds(args.bytes()?, cx.edit.now_ms())?;
    if !lpop::take_first(cx, args)? {
        cx.reply.null_array();
        cx.wait = Some(wait);
    }
    Ok(())
}

fn blmove(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (source, target) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    let (from, to) = (lmove::side(&mut args)?, lmove::side(&mut args)?);
    let wait = wait::seconds(args.bytes()?, cx.edit.now_ms())?;
    if !lmove::transfer(cx, &source, &target, from, to)? {
        cx.reply.null();
        cx.wait = Some(wait);
    }
    Ok(())
}

fn brpoplpush(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (source, target) = (cx.key(args.bytes()?), cx.key(args.bytes()?));
    let wait = wait::seconds(args.bytes()?, cx.edit.now_ms())?;
    if !lmove::transfer(cx, &source, &target, Side::Right, Side::Left)? {
        cx.reply.null();
        cx.wait = Some(wait);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, START_MS};

    #[test]
    fn what_is_there_is_taken_at_once() {
        let mut bench = Bench::new();
        bench.table(
            "
            RPUSH b 1 2 3 4 5 6 -> :6
            BLPOP a b 0 -> *2 $1 b $1 1
            BRPOP b a 0.1 -> *2 $1 b $1 6
            BLMPOP 1 2 a b LEFT COUNT 2 -> *2 $1 b *2 $1 2 $1 3
            BLMOVE b c LEFT RIGHT 0 -> $1 4
            BRPOPLPUSH b c 1 -> $1 5
            LRANGE c 0 -1 -> *2 $1 5 $1 4
            EXISTS b -> :0
            ",
        );
        assert_eq!(bench.wait, None);
    }

    #[test]
    fn where_nothing_is_they_wait() {
        let mut bench = Bench::new();
        for (request, reply, until_ms) in [
            ("BLPOP a b 0", "*-1", None),
            ("BRPOP a 1.5", "*-1", Some(START_MS + 1500)),
            ("BLMPOP 1.5 1 a LEFT", "*-1", Some(START_MS + 1500)),
            ("BLMOVE a b LEFT LEFT 1.5", "$-1", Some(START_MS + 1500)),
            ("BRPOPLPUSH a b 1.5", "$-1", Some(START_MS + 1500)),
        ] {
            assert_eq!(bench.run(request), reply, "{request}");
            assert_eq!(bench.wait, Some(crate::Wait { until_ms }), "{request}");
        }
    }

    #[test]
    fn refusals_and_their_order() {
        Bench::new().table(
            "
            SET s x -> +OK
            BLPOP s x -> -ERR timeout is not a float or out of range
            BLPOP s -1 -> -ERR timeout is negative
            BLPOP a s 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            BLMPOP x 0 a LEFT -> -ERR timeout is not a float or out of range
            BLMPOP 1 0 a LEFT -> -ERR numkeys should be greater than 0
            BLMOVE s a UP LEFT x -> -ERR syntax error
            BLMOVE s a LEFT LEFT x -> -ERR timeout is not a float or out of range
            BRPOPLPUSH s a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
