//! Hot path. SET and its older spellings, and MSET: putting strings.

use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, spec,
};
use storage::{EventClass, Key, Shard, Ttl};

use crate::string::compare::Comparison;
use crate::string::expiry::{Time, Unit};
use crate::string::get;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "getset",
            summary: "Puts a string at a key and tells what was there before.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Write(getset),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "mset",
            summary: "Puts strings at several keys at once.",
            group: Group::String,
            since: "1.0.1",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: -1,
                    step: 2,
                    limit: 0,
                },
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
            }],
            range: (1, -1, 2),
            tips: &[
                "request_policy:multi_shard",
                "response_policy:all_succeeded",
            ],
            deprecated_since: None,
        },
        run: Run::Write(mset),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "msetnx",
            summary: "Puts strings at several keys, if none of them is there yet.",
            group: Group::String,
            since: "1.0.1",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: -1,
                    step: 2,
                    limit: 0,
                },
                flags: KeyFlags::OW.and(KeyFlags::INSERT),
            }],
            range: (1, -1, 2),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(msetnx),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "psetex",
            summary: "Puts a string with a deadline in milliseconds at a key.",
            group: Group::String,
            since: "2.6.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_OW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("2.6.12"),
        },
        run: Run::Write(psetex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "set",
            summary: "Puts a string at a key, whatever the key held.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::at_least(3),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::RW
                    .and(KeyFlags::ACCESS)
                    .and(KeyFlags::UPDATE)
                    .and(KeyFlags::VARIABLE_FLAGS),
            }],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(set),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "setex",
            summary: "Puts a string with a deadline in seconds at a key.",
            group: Group::String,
            since: "2.0.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::SLOW.and(Acl::STRING).and(Acl::WRITE),
            keys: spec::ONE_OW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("2.6.12"),
        },
        run: Run::Write(setex),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "setnx",
            summary: "Puts a string at a key that is not there yet.",
            group: Group::String,
            since: "1.0.0",
            arity: Arity::exactly(3),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::OW.and(KeyFlags::INSERT),
            }],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("2.6.12"),
        },
        run: Run::Write(setnx),
        spread: Spread::Keys,
    },
];

/// When SET puts the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    Always,
    IfAbsent,
    IfPresent,
    If(Comparison<'a>),
}

impl<'a> Condition<'a> {
    /// Takes NX or XX, if it is next and there is no other condition before.
    pub(super) fn take_presence(self, args: &mut Args<'_>) -> Option<Self> {
        let condition = match self {
            Condition::Always | Condition::IfAbsent if args.keyword("NX") => Condition::IfAbsent,
            Condition::Always | Condition::IfPresent if args.keyword("XX") => Condition::IfPresent,
            _ => return None,
        };
        Some(condition)
    }

    /// As `take_presence`; also IFEQ and its kin, once.
    fn take(self, args: &mut Args<'a>) -> Option<Self> {
        self.take_presence(args).or_else(|| match self {
            Condition::Always => Comparison::take(args).map(Condition::If),
            _ => None,
        })
    }

    /// Whether it holds of a key.
    ///
    /// # Errors
    /// A value that cannot be compared.
    fn holds(self, cx: &Write<'_>, key: &Key<'_>) -> Result<bool, Refused> {
        Ok(match self {
            Condition::Always => true,
            Condition::IfAbsent => !cx.edit.exists(key),
            Condition::IfPresent => cx.edit.exists(key),
            Condition::If(comparison) => comparison.holds(cx.edit.text(key)?)?,
        })
    }
}

/// The options of SET.
struct Options<'a> {
    condition: Condition<'a>,
    get: bool,
    keep_ttl: bool,
    expire: Option<Time<'a>>,
}

impl<'a> Options<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Self, Refusal> {
        let mut options = Options {
            condition: Condition::Always,
            get: false,
            keep_ttl: false,
            expire: None,
        };
        while args.left() > 0 {
            // The keyword last: it is taken only where it is allowed.
            if let Some(condition) = options.condition.take(args) {
                options.condition = condition;
            } else if args.keyword("GET") {
                options.get = true;
            } else if options.expire.is_none() && args.keyword("KEEPTTL") {
                options.keep_ttl = true;
            } else {
                if options.keep_ttl {
                    return Err(Refusal::Syntax);
                }
                options.expire = Some(Time::take(args, options.expire)?);
            }
        }
        Ok(options)
    }
}

fn set(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, value) = (cx.key(args.bytes()?), args.bytes()?);
    if args.left() == 0 {
        put(cx, &key, value, Ttl::Clear);
        cx.reply.ok();
        return Ok(());
    }
    let options = Options::parse(&mut args)?;
    let ttl = match options.expire {
        Some(time) => Ttl::At(time.deadline(cx.edit.now_ms(), "set")?),
        None if options.keep_ttl => Ttl::Keep,
        None => Ttl::Clear,
    };
    let holds = options.condition.holds(cx, &key)?;
    if options.get {
        let shard: &Shard = &cx.edit;
        get::write(&mut cx.reply, shard.text(&key)?);
    }
    if holds {
        put(cx, &key, value, ttl);
    }
    match (options.get, holds) {
        (true, _) => {}
        (false, true) => cx.reply.ok(),
        (false, false) => cx.reply.null(),
    }
    Ok(())
}

/// Puts a string; one whose deadline has passed already expires at once.
#[inline]
pub(super) fn put(cx: &mut Write<'_>, key: &Key<'_>, value: &[u8], ttl: Ttl) {
    cx.edit.put_string(key, value, ttl);
    cx.edit.event(EventClass::String, "set", key);
    if let Ttl::At(at_ms) = ttl {
        cx.edit.event(EventClass::Generic, "expire", key);
        if at_ms <= cx.edit.now_ms() {
            cx.edit.expire(key);
        }
    }
}

fn setnx(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, value) = (cx.key(args.bytes()?), args.bytes()?);
    let absent = !cx.edit.exists(&key);
    if absent {
        put(cx, &key, value, Ttl::Clear);
    }
    cx.reply.int(i64::from(absent));
    Ok(())
}

fn setex(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set_for(cx, args, Unit::Seconds, "setex")
}

fn psetex(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    set_for(cx, args, Unit::Ms, "psetex")
}

fn set_for(
    cx: &mut Write<'_>,
    mut args: Args<'_>,
    unit: Unit,
    name: &'static str,
) -> Result<(), Refused> {
    let (key, time, value) = (cx.key(args.bytes()?), args.bytes()?, args.bytes()?);
    let at_ms = unit.deadline(time, cx.edit.now_ms(), name)?;
    put(cx, &key, value, Ttl::At(at_ms));
    cx.reply.ok();
    Ok(())
}

fn getset(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, value) = (cx.key(args.bytes()?), args.bytes()?);
    let shard: &Shard = &cx.edit;
    get::write(&mut cx.reply, shard.text(&key)?);
    put(cx, &key, value, Ttl::Clear);
    Ok(())
}

/// The pairs of a request, or the refusal of a key without a value.
fn pairs<'a>(
    args: &Args<'a>,
    name: &'static str,
) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a>, Refusal> {
    if args.left() % 2 == 1 {
        return Err(Refusal::arity(name));
    }
    let words = args.rest();
    Ok(words.clone().step_by(2).zip(words.skip(1).step_by(2)))
}

fn mset(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    for (key, value) in pairs(&args, "mset")? {
        let key = cx.key(key);
        put(cx, &key, value, Ttl::Clear);
    }
    cx.reply.ok();
    Ok(())
}

fn msetnx(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let pairs = pairs(&args, "msetnx")?;
    let absent = pairs.clone().all(|(key, _)| !cx.edit.exists(&cx.key(key)));
    if absent {
        for (key, value) in pairs {
            let key = cx.key(key);
            put(cx, &key, value, Ttl::Clear);
        }
    }
    cx.reply.int(i64::from(absent));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn set_and_its_options() {
        Bench::new().table(
            "
            SET k v -> +OK
            GET k -> $1 v
            SET k 12 NX -> $-1
            SET k 12 XX -> +OK
            SET k w GET -> $2 12
            SET k v EX 100 -> +OK
            SET k w KEEPTTL -> +OK
            SET k x NX GET -> $1 w
            SET n x NX GET -> $-1
            SET k v EX 0 -> -ERR invalid expire time in 'set' command
            SET k v EX x -> -ERR value is not an integer or out of range
            SET k v EX 9223372036854775807 -> -ERR invalid expire time in 'set' command
            SET k v EX 1 PX 1 -> -ERR syntax error
            SET k v KEEPTTL EX 1 -> -ERR syntax error
            SET k v NX XX -> -ERR syntax error
            SET k v EX 1 KEEPTTL -> -ERR syntax error
            SET k v EX 1 KEEPTTL EX 1 -> -ERR syntax error
            SET k v NX XX EX 1 -> -ERR syntax error
            SET k v EX 1 EX -> -ERR syntax error
            SET k v EX x EX 1 NX -> $-1
            SET k v EX -> -ERR syntax error
            SET k v PERSIST -> -ERR syntax error
            SET k v WHAT -> -ERR syntax error
            SET k gone PXAT 1 -> +OK
            GET k -> $-1
            ",
        );
    }

    #[test]
    fn wrong_types_and_the_order_of_checks() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            SET l v GET -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SET l v NX GET -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SET l v GET EX 0 -> -ERR invalid expire time in 'set' command
            SET l v NX EX 0 -> -ERR invalid expire time in 'set' command
            SET l v NX -> $-1
            GETSET l v -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SETEX l x v -> -ERR value is not an integer or out of range
            SETNX l v -> :0
            SET l v GET XX GET PX 10 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SET l v XX PX 10 -> +OK
            SET l w PX 20 GET XX -> $1 v
            ",
        );
        bench.pass_ms(20);
        bench.table("SET l w XX -> $-1");
    }

    #[test]
    fn set_looks_at_what_is_there() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            SET k world IFEQ hello -> $-1
            SET k world IFDEQ 1234567890 GET -> $-1
            SET k hello IFNE hello GET -> $-1
            SET k world IFEQ other -> $-1
            SET k world IFEQ other GET -> $5 hello
            SET k world ifeq hello GET -> $5 hello
            SET k world IFNE world -> $-1
            SET k hello IFNE other EX 10 -> +OK
            TTL k -> :10
            SET k world IFDNE 9555e8555c62dcfd -> $-1
            SET k 7 IFDEQ 9555E8555C62DCFD KEEPTTL -> +OK
            TTL k -> :10
            SET k x IFEQ 07 -> $-1
            SET k x EX 20 IFEQ 7 -> +OK
            SET k y IFDEQ 12 -> -ERR must be exactly 16 hexadecimal characters
            SET k y IFDEQ 12 GET -> -ERR must be exactly 16 hexadecimal characters
            SET k y IFDNE 0000000000000000 -> +OK
            SET n y IFDNE 12 -> +OK
            SET k z IFEQ -> -ERR syntax error
            SET k z IFEQ y NX -> -ERR syntax error
            SET k z XX IFEQ y -> -ERR syntax error
            SET k z IFEQ y IFEQ y -> -ERR syntax error
            SET k z IFEQ y IFNE x -> -ERR syntax error
            SET k z IFEQ y EX 0 -> -ERR invalid expire time in 'set' command
            SET l z IFEQ x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SET l z IFDNE x GET -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn the_older_spellings() {
        Bench::new().table(
            "
            SETNX k 1 -> :1
            SETNX k 2 -> :0
            GETSET k x -> $1 1
            SETEX k 10 v -> +OK
            PSETEX k 0 v -> -ERR invalid expire time in 'psetex' command
            GETSET none x -> $-1
            MSET a 1 b 2 a 3 -> +OK
            MGET a b missing -> *3 $1 3 $1 2 $-1
            MSETNX c 1 a 2 -> :0
            MSETNX c 1 d 2 -> :1
            MSET a 1 b -> -ERR wrong number of arguments for 'mset' command
            ",
        );
    }
}
