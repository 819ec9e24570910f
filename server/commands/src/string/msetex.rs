//! MSETEX: strings at several keys, all with one deadline, if none or all of them are there.

use protocol::{Acl, Args, Arity, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, number};
use storage::Ttl;

use crate::string::expiry::Time;
use crate::string::set::{Condition, put};
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "msetex",
        summary: "Puts strings at several keys with one deadline, if none or all of them are there.",
        group: Group::String,
        since: "8.4.0",
        arity: Arity::at_least(4),
        flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
        acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
        keys: &[KeySpec {
            find: Find::KeyNum {
                count_at: 0,
                first: 1,
                step: 2,
            },
            ..KeySpec::counted(1, KeyFlags::OW.and(KeyFlags::UPDATE))
        }],
        range: (0, 0, 0),
        tips: &[
            "request_policy:multi_shard",
            "response_policy:all_succeeded",
        ],
        deprecated_since: None,
    },
    run: Run::Write(msetex),
    spread: Spread::Keys,
}];

/// NX or XX, and what becomes of the deadlines.
fn options<'a>(args: &mut Args<'a>, now_ms: u64) -> Result<(Condition<'a>, Ttl), Refusal> {
    let (mut condition, mut keep, mut expire) = (Condition::Always, false, None);
    while args.left() > 0 {
        // The keyword last: it is taken only where it is allowed.
        if let Some(taken) = condition.take_presence(args) {
            condition = taken;
        } else if expire.is_none() && args.keyword("KEEPTTL") {
            keep = true;
        } else if keep {
            return Err(Refusal::Syntax);
        } else {
            expire = Some(Time::take(args, expire)?);
        }
    }
    let ttl = match expire {
        Some(time) => Ttl::At(time.deadline(now_ms, "msetex")?),
        None if keep => Ttl::Keep,
        None => Ttl::Clear,
    };
    Ok((condition, ttl))
}

fn msetex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let count = number::parse_i64(args.bytes()?)
        .and_then(|count| i32::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(Refusal::Text("ERR invalid numkeys value"))?;
    let words = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_mul(2);
    if words > args.left() {
        return Err(Refusal::Text("ERR wrong number of key-value pairs").into());
    }
    let pairs = args.rest().take(words);
    let (condition, ttl) = options(&mut args.skip(words), cx.edit.now_ms())?;
    let mut keys = pairs.clone().step_by(2).map(|word| cx.key(word));
    let holds = match condition {
        Condition::IfAbsent => !keys.any(|key| cx.edit.exists(&key)),
        Condition::IfPresent => keys.all(|key| cx.edit.exists(&key)),
        Condition::Always | Condition::If(_) => true,
    };
    if holds {
        for (key, value) in pairs.clone().step_by(2).zip(pairs.skip(1).step_by(2)) {
            let key = cx.key(key);
            put(cx, &key, value, ttl);
        }
    }
    cx.reply.int(i64::from(holds));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn all_keys_or_none() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            MSETEX 2 a 1 b 2 EX 10 -> :1
            MGET a b -> *2 $1 1 $1 2
            TTL a -> :10
            MSETEX 1 a 2 KEEPTTL -> :1
            TTL a -> :10
            MSETEX 2 a 1 c 2 NX -> :0
            MSETEX 2 a 1 c 2 px 5000 xx -> :0
            EXISTS c -> :0
            MSETEX 2 a x b y XX PXAT 1700000000500 -> :1
            PTTL b -> :500
            MSETEX 2 c 1 d 2 EX 3 NX -> :1
            TTL d -> :3
            MSETEX 2 c 1 c 5 -> :1
            GET c -> $1 5
            TTL c -> :-1
            MSETEX 1 l s -> :1
            GET l -> $1 s
            MSETEX 1 c 1 EXAT 1 -> :1
            EXISTS c -> :0
            ",
        );
    }

    #[test]
    fn what_is_refused() {
        let mut bench = Bench::new();
        for count in ["0", "-1", "x", "1.5", "2147483648"] {
            let reply = bench.run(&format!("MSETEX {count} a 1 EX 10"));
            assert_eq!(reply, "-ERR invalid numkeys value", "{count}");
        }
        for pairs in ["2 a 1", "2 a 1 b", "2147483647 a 1 EX 10"] {
            let reply = bench.run(&format!("MSETEX {pairs}"));
            assert_eq!(reply, "-ERR wrong number of key-value pairs", "{pairs}");
        }
        for options in [
            "NX XX",
            "XX NX",
            "EX",
            "EX 1 PX 1",
            "EXAT 1 PXAT 1",
            "KEEPTTL EX 1",
            "EX 1 KEEPTTL",
            "what",
            "b 2",
            "IFEQ 1",
            "GET",
        ] {
            let reply = bench.run(&format!("MSETEX 1 a 1 {options}"));
            assert_eq!(reply, "-ERR syntax error", "{options}");
        }
        bench.table(
            "
            MSETEX 1 a 1 EX 0 -> -ERR invalid expire time in 'msetex' command
            MSETEX 1 a 1 PX x -> -ERR value is not an integer or out of range
            EXISTS a -> :0
            ",
        );
    }
}
