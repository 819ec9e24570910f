//! HGETEX, HGETDEL, HSETEX: reading and writing fields, and their deadlines with them.

use protocol::{Args, Flags, Refusal, Reply, spec};
use storage::EventClass;

use crate::hash::fields::{self, NOT_POSITIVE, row};
use crate::string::expiry::Unit;
use crate::{Command, Refused, Run, Write};

pub(super) const COMMANDS: &[Command] = &[
    row(
        ("hgetdel", "Reads fields and removes them.", "8.0.0"),
        5,
        Flags::WRITE,
        spec::ONE_RW_ACCESS_DELETE,
        &[],
        Run::Write(hgetdel),
    ),
    row(
        (
            "hgetex",
            "Reads fields and sets or takes away their deadlines.",
            "8.0.0",
        ),
        5,
        Flags::WRITE,
        spec::ONE_RW_ACCESS_UPDATE,
        &[],
        Run::Write(hgetex),
    ),
    row(
        ("hsetex", "Sets fields and their deadlines.", "8.0.0"),
        6,
        Flags::DENYOOM.and(Flags::WRITE),
        spec::ONE_RW_UPDATE,
        &[],
        Run::Write(hsetex),
    ),
];

fn bulk_or_null(reply: &mut Reply<'_>, value: Option<&[u8]>) {
    match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

fn hgetdel(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let hash = cx.edit.edit_hash(&key)?;
    fields::fields(&mut args, NOT_POSITIVE)?;
    cx.reply.array(args.left());
    let Some(mut hash) = hash else {
        args.rest().for_each(|_| cx.reply.null());
        return Ok(());
    };
    let mut removed = false;
    for field in args.rest() {
        bulk_or_null(&mut cx.reply, hash.get(field));
        removed |= hash.remove(field);
    }
    if removed {
        hash.event(EventClass::Hash, "hdel");
    }
    Ok(())
}

/// What happens to the deadlines of fields that are read.
enum After {
    Nothing,
    Persist,
    ExpireAt(u64),
}

fn hgetex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let now_ms = cx.edit.now_ms();
    let hash = cx.edit.edit_hash(&key)?;
    let after = if let Some(unit) = Unit::keyword(&mut args) {
        After::ExpireAt(fields::deadline(unit, args.bytes()?, now_ms, "hgetex")?)
    } else if args.keyword("PERSIST") {
        After::Persist
    } else {
        After::Nothing
    };
    if args.left() < 2 {
        return Err(Refusal::arity("hgetex").into());
    }
    fields::fields(&mut args, NOT_POSITIVE)?;
    cx.reply.array(args.left());
    let Some(mut hash) = hash else {
        args.rest().for_each(|_| cx.reply.null());
        return Ok(());
    };
    let mut event = None;
    for field in args.rest() {
        bulk_or_null(&mut cx.reply, hash.get(field));
        if !hash.contains(field) {
            continue;
        }
        match after {
            After::Nothing => {}
            After::Persist if hash.persist(field) => event = Some("hpersist"),
            After::Persist => {}
            After::ExpireAt(at_ms) if at_ms <= now_ms => {
                hash.remove(field);
                event = Some("hdel");
            }
            After::ExpireAt(at_ms) => {
                hash.expire_at(field, at_ms);
                event = Some("hexpire");
            }
        }
    }
    if let Some(event) = event {
        hash.event(EventClass::Hash, event);
    }
    Ok(())
}

#[derive(Default)]
struct Options {
    if_absent: bool,
    if_present: bool,
    keep: bool,
    at_ms: Option<u64>,
}

impl Options {
    /// Takes the options and `FIELDS numfields`; the pairs are left.
    fn parse(args: &mut Args<'_>, now_ms: u64) -> Result<Self, Refusal> {
        let mut options = Options::default();
        while let Some(word) = args.peek() {
            if args.keyword("FIELDS") {
                let count = args.int().ok().filter(|count| *count > 0);
                let count = count.ok_or(Refusal::Text("ERR invalid number of fields"))?;
                let words = usize::try_from(count).ok().and_then(|n| n.checked_mul(2));
                if words != Some(args.left()) {
                    return Err(Refusal::arity("hsetex"));
                }
                return Ok(options);
            }
            let had_time = options.keep || options.at_ms.is_some();
            if let Some(unit) = Unit::keyword(args) {
                if had_time {
                    return Err(Refusal::Text(ONE_TIME));
                }
                let missing = Refusal::Text("ERR missing expire time");
                let time = args.bytes().map_err(|_| missing)?;
                options.at_ms = Some(fields::deadline(unit, time, now_ms, "hsetex")?);
            } else if args.keyword("KEEPTTL") {
                if had_time {
                    return Err(Refusal::Text(ONE_TIME));
                }
                options.keep = true;
            } else if args.keyword("FXX") || args.keyword("FNX") {
                if options.if_absent || options.if_present {
                    return Err(Refusal::Text(
                        "ERR Only one of FXX or FNX arguments can be specified",
                    ));
                }
                options.if_present = word.eq_ignore_ascii_case(b"FXX");
                options.if_absent = !options.if_present;
            } else {
                let word = String::from_utf8_lossy(word);
                return Err(Refusal::Owned(
                    format!("ERR unknown argument: {word}").into(),
                ));
            }
        }
        Err(Refusal::arity("hsetex"))
    }
}

const ONE_TIME: &str = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";

fn hsetex(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let now_ms = cx.edit.now_ms();
    let options = Options::parse(&mut args, now_ms)?;
    let is_new = {
        let hash = cx.edit.hash(&key)?;
        let mut fields = args.rest().step_by(2);
        let has = |field| hash.is_some_and(|hash| hash.contains(field));
        if (options.if_absent && fields.clone().any(has))
            || (options.if_present && !fields.all(has))
        {
            cx.reply.int(0);
            return Ok(());
        }
        hash.is_none()
    };
    let has_passed = options.at_ms.is_some_and(|at_ms| at_ms <= now_ms);
    let mut hash = cx.edit.edit_hash_or_new(&key)?;
    let mut words = args.rest();
    while let (Some(field), Some(value)) = (words.next(), words.next()) {
        if options.keep {
            hash.set_keeping(field, value);
        } else {
            hash.set(field, value);
        }
        if has_passed {
            hash.remove(field);
        } else if let Some(at_ms) = options.at_ms {
            hash.expire_at(field, at_ms);
        }
    }
    hash.event(EventClass::Hash, "hset");
    if options.at_ms.is_some() {
        let event = if has_passed { "hdel" } else { "hexpire" };
        hash.event(EventClass::Hash, event);
    }
    drop(hash);
    if is_new && has_passed {
        // Storage tells the end of those only that were there before.
        cx.edit.event(EventClass::Generic, "del", &key);
    }
    cx.reply.int(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn read_and_removed() {
        Bench::new().table(
            "
            HSET h a 1 b 2 -> :2
            HGETDEL h FIELDS 2 a none -> *2 $1 1 $-1
            HGETDEL h FIELDS 2 b b -> *2 $1 2 $-1
            EXISTS h -> :0
            HGETDEL h FIELDS 1 b -> *1 $-1
            HGETDEL h FIELDS 2 b -> -ERR The `numfields` parameter must match the number of arguments
            SET s x -> +OK
            HGETDEL s FIELDS 2 b -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn read_with_deadlines() {
        Bench::new().table(
            "
            HSET h a 1 b 2 -> :2
            HGETEX h FIELDS 2 a none -> *2 $1 1 $-1
            HGETEX h EX 10 FIELDS 2 a none -> *2 $1 1 $-1
            HTTL h FIELDS 2 a b -> *2 :10 :-1
            HGETEX h persist FIELDS 2 a b -> *2 $1 1 $1 2
            HTTL h FIELDS 1 a -> *1 :-1
            HGETEX h PXAT 1 FIELDS 2 a b -> *2 $1 1 $1 2
            EXISTS h -> :0
            HGETEX h PX 5 FIELDS 1 a -> *1 $-1
            HGETEX h EX x FIELDS 1 a -> -ERR value is not an integer or out of range
            HGETEX h EX 10 FIELDS -> -ERR wrong number of arguments for 'hgetex' command
            HGETEX h PERSIST EX 1 FIELDS 1 a -> -ERR Mandatory argument FIELDS is missing or not at the right position
            ",
        );
    }

    #[test]
    fn set_with_deadlines() {
        let time = super::ONE_TIME;
        Bench::new().table(&format!(
            "
            HSETEX h EX 10 FIELDS 2 a 1 b 2 -> :1
            HTTL h FIELDS 2 a b -> *2 :10 :10
            HSETEX h KEEPTTL FIELDS 1 a 3 -> :1
            HSETEX h FIELDS 1 b 3 -> :1
            HTTL h FIELDS 2 a b -> *2 :10 :-1
            HSETEX h FNX FIELDS 2 a 4 c 4 -> :0
            HSETEX h FXX FIELDS 2 a 4 c 4 -> :0
            HSETEX none FXX FIELDS 1 a 4 -> :0
            HSETEX h FXX PX 5 FIELDS 1 a 4 -> :1
            HMGET h a c -> *2 $1 4 $-1
            HSETEX h PXAT 1 FIELDS 2 a 1 b 1 -> :1
            HSETEX none EXAT 1 FIELDS 1 a 1 -> :1
            DBSIZE -> :0
            HSETEX h FNX FXX FIELDS 1 a 1 -> -ERR Only one of FXX or FNX arguments can be specified
            HSETEX h EX 1 PX 1 FIELDS 1 a 1 -> -{time}
            HSETEX h KEEPTTL PX 1 FIELDS 1 a 1 -> -{time}
            HSETEX h EX -1 FIELDS 1 a 1 -> -ERR invalid expire time, must be >= 0
            HSETEX h FIELDS 0 a 1 b -> -ERR invalid number of fields
            HSETEX h FIELDS 2 a 1 b -> -ERR wrong number of arguments for 'hsetex' command
            HSETEX h WHAT FIELDS 1 a 1 -> -ERR unknown argument: WHAT
            SET s x -> +OK
            HSETEX s FNX FIELDS 1 a 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            "
        ));
    }
}
