//! INCREX: adds to a number within bounds, and sets or takes away the deadline with it: a limiter of rates in one command.

use core::cmp::Ordering;

use protocol::number::{LongDouble, parse_i64};
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{EventClass, Key, Text, Ttl};

use crate::string::expiry::Time;
use crate::string::set::Condition;
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "increx",
        summary: "Adds to the number at a key within bounds, and sets its deadline.",
        group: Group::String,
        since: "8.8.0",
        arity: Arity::at_least(2),
        flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
        acl: Acl::FAST.and(Acl::STRING).and(Acl::WRITE),
        keys: spec::ONE_RW_ACCESS_UPDATE,
        range: (1, 1, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Write(increx),
    spread: Spread::Keys,
}];

/// A number that INCREX adds up: an integer of 64 bits, or C's `long double` with BYFLOAT.
trait Number: Copy + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    /// The bounds where none is given.
    const LEAST: Self;
    const GREATEST: Self;
    /// Behind the name of an option whose word is no number.
    const NOT_ONE: &'static str;
    /// Of a value that is no number.
    const VALUE_IS_NOT_ONE: Refusal;
    /// Of a difference that does not fit.
    const DIFFERENCE: Refusal;
    const EVENT: &'static str;

    fn parse(word: &[u8]) -> Option<Self>;
    fn of(text: Text<'_>) -> Option<Self>;
    /// The sum; where it does not fit, the end of the range that lies there.
    fn plus(self, by: Self) -> Result<Self, Self>;
    fn minus(self, other: Self) -> Option<Self>;
    /// A number that may be kept and added.
    fn is_finite(self) -> bool;
    fn put(self, cx: &mut Write<'_>, key: &Key<'_>, ttl: Ttl);
    fn write(self, cx: &mut Write<'_>);
}

impl Number for i64 {
    const ZERO: Self = 0;
    const ONE: Self = 1;
    const LEAST: Self = i64::MIN;
    const GREATEST: Self = i64::MAX;
    const NOT_ONE: &'static str = "is not an integer or out of range";
    const VALUE_IS_NOT_ONE: Refusal = Refusal::NotInteger;
    const DIFFERENCE: Refusal = Refusal::Text("ERR applied increment would overflow");
    const EVENT: &'static str = "incrby";

    fn parse(word: &[u8]) -> Option<Self> {
        parse_i64(word)
    }

    fn of(text: Text<'_>) -> Option<Self> {
        match text {
            Text::Int(n) => Some(n),
            Text::Bytes(bytes) => parse_i64(bytes),
        }
    }

    fn plus(self, by: Self) -> Result<Self, Self> {
        self.checked_add(by).ok_or(self.saturating_add(by))
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn is_finite(self) -> bool {
        true
    }

    fn put(self, cx: &mut Write<'_>, key: &Key<'_>, ttl: Ttl) {
        cx.edit.put_int(key, self, ttl);
    }

    fn write(self, cx: &mut Write<'_>) {
        cx.reply.int(self);
    }
}

impl Number for LongDouble {
    const ZERO: Self = LongDouble::ZERO;
    const ONE: Self = LongDouble::ONE;
    const LEAST: Self = LongDouble::MIN;
    const GREATEST: Self = LongDouble::MAX;
    const NOT_ONE: &'static str = "is not a valid float";
    const VALUE_IS_NOT_ONE: Refusal = Refusal::NotFloat;
    const DIFFERENCE: Refusal = Refusal::Text("ERR applied increment would be Infinity");
    const EVENT: &'static str = "incrbyfloat";

    fn parse(word: &[u8]) -> Option<Self> {
        LongDouble::parse(word)
    }

    fn of(text: Text<'_>) -> Option<Self> {
        match text {
            Text::Int(n) => Some(LongDouble::from_i64(n)),
            Text::Bytes(bytes) => LongDouble::parse(bytes),
        }
    }

    fn plus(self, by: Self) -> Result<Self, Self> {
        let sum = self.add(by);
        match sum.is_finite() {
            true => Ok(sum),
            false if sum > Self::ZERO => Err(Self::GREATEST),
            false => Err(Self::LEAST),
        }
    }

    fn minus(self, other: Self) -> Option<Self> {
        Some(self.add(other.negated())).filter(LongDouble::is_finite)
    }

    fn is_finite(self) -> bool {
        LongDouble::is_finite(&self)
    }

    fn put(self, cx: &mut Write<'_>, key: &Key<'_>, ttl: Ttl) {
        cx.edit.put_bytes(key, &human(self), ttl);
    }

    fn write(self, cx: &mut Write<'_>) {
        cx.reply.double_text(&human(self));
    }
}

fn human(number: LongDouble) -> Vec<u8> {
    let mut text = Vec::new();
    number.write_human(&mut text);
    text
}

/// What happens to the deadline.
#[derive(Clone, Copy)]
enum Deadline {
    Keep,
    Persist,
    At { at_ms: u64, if_none: bool },
}

/// The options as words; they are read when all are known.
struct Options<'a> {
    /// Only in Valkey: NX and XX.
    condition: Condition<'a>,
    by: Option<&'a [u8]>,
    is_float: bool,
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
    saturate: bool,
    deadline: Deadline,
}

impl<'a> Options<'a> {
    fn parse(args: &mut Args<'a>, now_ms: u64) -> Result<Self, Refusal> {
        let (mut by, mut by_float, mut lower, mut upper) = (None, None, None, None);
        let (mut saturate, mut persist, mut if_none) = (false, false, false);
        let (mut condition, mut expire) = (Condition::Always, None);
        while args.left() > 0 {
            // Nothing may come twice: the keyword last, it is taken only where it is allowed.
            if let Some(taken) = condition.take_presence(args) {
                condition = taken;
            } else if by.is_none() && by_float.is_none() && args.keyword("BYINT") {
                by = Some(args.bytes()?);
            } else if by.is_none() && by_float.is_none() && args.keyword("BYFLOAT") {
                by_float = Some(args.bytes()?);
            } else if lower.is_none() && args.keyword("LBOUND") {
                lower = Some(args.bytes()?);
            } else if upper.is_none() && args.keyword("UBOUND") {
                upper = Some(args.bytes()?);
            } else if !saturate && args.keyword("SATURATE") {
                saturate = true;
            } else if !if_none && !persist && args.keyword("ENX") {
                if_none = true;
            } else if !persist && !if_none && expire.is_none() && args.keyword("PERSIST") {
                persist = true;
            } else if persist || expire.is_some() {
                return Err(Refusal::Syntax);
            } else {
                expire = Some(Time::take(args, None)?);
            }
        }
        if if_none && expire.is_none() {
            return Err(Refusal::Text("ERR ENX flag requires an expiration"));
        }
        let deadline = match expire {
            Some(time) => Deadline::At {
                at_ms: time.deadline(now_ms, "increx")?,
                if_none,
            },
            None if persist => Deadline::Persist,
            None => Deadline::Keep,
        };
        Ok(Options {
            condition,
            is_float: by_float.is_some(),
            by: by.or(by_float),
            lower,
            upper,
            saturate,
            deadline,
        })
    }
}

/// The word of an option as a number.
fn number<N: Number>(word: Option<&[u8]>, name: &str, otherwise: N) -> Result<N, Refusal> {
    let refused = || Refusal::Owned(format!("ERR {name} {}", N::NOT_ONE).into());
    match word {
        Some(word) => N::parse(word).ok_or_else(refused),
        None => Ok(otherwise),
    }
}

fn increx(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let word = args.bytes()?;
    let options = Options::parse(&mut args, cx.edit.now_ms())?;
    if options.is_float {
        add::<LongDouble>(cx, word, &options)
    } else {
        add::<i64>(cx, word, &options)
    }
}

fn add<N: Number>(cx: &mut Write<'_>, word: &[u8], options: &Options<'_>) -> Result<(), Refused> {
    let by = number(options.by, "Increment", N::ONE)?;
    if !by.is_finite() {
        return Err(Refusal::Text("ERR BYFLOAT increment cannot be Infinity").into());
    }
    let lower = number(options.lower, "LBOUND", N::LEAST)?;
    let upper = number(options.upper, "UBOUND", N::GREATEST)?;
    if lower > upper {
        return Err(Refusal::Text("ERR LBOUND can't be greater than UBOUND").into());
    }
    let key = cx.key(word);
    let held = match cx.edit.text(&key)? {
        None => None,
        Some(text) => Some(N::of(text).ok_or(N::VALUE_IS_NOT_ONE)?),
    };
    let old = held.unwrap_or(N::ZERO);
    if !old.is_finite() {
        return Err(Refusal::Text("ERR value cannot be Infinity").into());
    }
    let is_wanted = match options.condition {
        Condition::IfAbsent => held.is_none(),
        Condition::IfPresent => held.is_some(),
        Condition::Always | Condition::If(_) => true,
    };
    let sum = old.plus(by).and_then(|sum| clamp(sum, lower, upper));
    let new = match sum {
        Ok(sum) if is_wanted => sum,
        // An end of the range lies outside of the bounds, or is one.
        Err(end) if is_wanted && options.saturate => {
            clamp(end, lower, upper).unwrap_or_else(|at| at)
        }
        _ => {
            cx.reply.array(2);
            match held {
                None if !is_wanted => cx.reply.null(),
                _ => old.write(cx),
            }
            N::ZERO.write(cx);
            return Ok(());
        }
    };
    let applied = match sum {
        Ok(_) => by,
        Err(_) => new.minus(old).ok_or(N::DIFFERENCE)?,
    };
    put(cx, &key, new, options.deadline);
    cx.reply.array(2);
    new.write(cx);
    applied.write(cx);
    Ok(())
}

/// The number, or the bound that it is beyond.
fn clamp<N: Number>(number: N, lower: N, upper: N) -> Result<N, N> {
    if number.partial_cmp(&upper) == Some(Ordering::Greater) {
        Err(upper)
    } else if number.partial_cmp(&lower) == Some(Ordering::Less) {
        Err(lower)
    } else {
        Ok(number)
    }
}

/// Puts the sum with its deadline. One that has passed removes the key instead.
fn put<N: Number>(cx: &mut Write<'_>, key: &Key<'_>, new: N, deadline: Deadline) {
    let before = cx.edit.deadline_ms(key).flatten();
    let (ttl, event) = match deadline {
        Deadline::Keep => (Ttl::Keep, None),
        Deadline::Persist => (Ttl::Clear, before.map(|_| "persist")),
        Deadline::At { if_none: true, .. } if before.is_some() => (Ttl::Keep, None),
        Deadline::At { at_ms, .. } if at_ms <= cx.edit.now_ms() => {
            if cx.edit.remove(key) {
                cx.edit.event(EventClass::Generic, "del", key);
            }
            return;
        }
        Deadline::At { at_ms, .. } => (Ttl::At(at_ms), Some("expire")),
    };
    new.put(cx, key, ttl);
    cx.edit.event(EventClass::String, N::EVENT, key);
    if let Some(event) = event {
        cx.edit.event(EventClass::Generic, event, key);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;
    use storage::Key;

    #[test]
    fn integers_within_bounds() {
        Bench::new().table(
            "
            INCREX k -> *2 :1 :1
            INCREX k BYINT 9 -> *2 :10 :9
            INCREX k BYINT 5 UBOUND 12 -> *2 :10 :0
            INCREX k BYINT 5 UBOUND 12 SATURATE -> *2 :12 :2
            INCREX k BYINT -25 LBOUND -5 SATURATE -> *2 :-5 :-17
            INCREX k BYINT 5 UBOUND -9 SATURATE -> *2 :-9 :-4
            INCREX k BYINT 14 LBOUND 0 UBOUND 10 -> *2 :5 :14
            INCREX k BYINT 5 LBOUND 20 -> *2 :5 :0
            SET k 9223372036854775807 -> +OK
            INCREX k -> *2 :9223372036854775807 :0
            INCREX k SATURATE -> *2 :9223372036854775807 :0
            INCREX k BYINT -5 UBOUND -9223372036854775808 SATURATE -> -ERR applied increment would overflow
            SET k -9223372036854775800 -> +OK
            INCREX k BYINT -9223372036854775800 LBOUND -9223372036854775808 SATURATE -> *2 :-9223372036854775808 :-8
            SET k 10 -> +OK
            INCREX k BYINT 9223372036854775807 UBOUND 100 SATURATE -> *2 :100 :90
            INCREX n UBOUND 0 -> *2 :0 :0
            EXISTS n -> :0
            INCREX n UBOUND 0 SATURATE -> *2 :0 :0
            GET n -> $1 0
            OBJECT ENCODING k -> $3 int
            ",
        );
    }

    #[test]
    fn floats_within_bounds() {
        let mut bench = Bench::new();
        bench.table(
            "
            INCREX f BYFLOAT 0.1 -> *2 $3 0.1 $3 0.1
            INCREX f BYFLOAT 0.2 -> *2 $3 0.3 $3 0.2
            SET f 10 -> +OK
            INCREX f BYFLOAT 5.5 UBOUND 12.5 -> *2 $2 10 $1 0
            INCREX f BYFLOAT 5.5 UBOUND 12.5 SATURATE -> *2 $4 12.5 $3 2.5
            INCREX f BYFLOAT -6 LBOUND 8.0 SATURATE -> *2 $1 8 $4 -4.5
            INCREX f BYFLOAT 1 LBOUND -inf UBOUND -inf -> *2 $1 8 $1 0
            INCREX f BYFLOAT 1 LBOUND inf UBOUND inf SATURATE -> -ERR applied increment would be Infinity
            INCREX f BYFLOAT 1 UBOUND inf -> *2 $1 9 $1 1
            INCREX f BYFLOAT 1e4932 UBOUND 100 -> *2 $1 9 $1 0
            INCREX f BYFLOAT 1 LBOUND inf -> -ERR LBOUND can't be greater than UBOUND
            INCREX f BYFLOAT +inf -> -ERR BYFLOAT increment cannot be Infinity
            INCREX f BYFLOAT nan -> -ERR Increment is not a valid float
            INCREX f BYFLOAT 1 UBOUND abc -> -ERR UBOUND is not a valid float
            SET f inf -> +OK
            INCREX f BYFLOAT 1 -> -ERR value cannot be Infinity
            SET f 1e4932 -> +OK
            SET g 1e4932 -> +OK
            INCREX none BYFLOAT -0.5 UBOUND -1.5 -> *2 $1 0 $1 0
            EXISTS none -> :0
            ",
        );
        assert!(bench.run("INCREX g BYFLOAT 1e4932").ends_with(" $1 0"));
        bench.resp = Resp::V3;
        bench.table("INCREX r BYFLOAT 2.5 -> *2 ,2.5 ,2.5\nINCREX i -> *2 :1 :1");
    }

    #[test]
    fn deadlines() {
        let mut bench = Bench::new();
        bench.table(
            "
            INCREX k EX 100 -> *2 :1 :1
            TTL k -> :100
            INCREX k -> *2 :2 :1
            INCREX k EX 50 ENX -> *2 :3 :1
            INCREX k EXAT 1 ENX -> *2 :4 :1
            TTL k -> :100
            INCREX k PX 9000 UBOUND 4 -> *2 :4 :0
            TTL k -> :100
            INCREX k PERSIST -> *2 :5 :1
            TTL k -> :-1
            INCREX k ENX PX 9000 -> *2 :6 :1
            PTTL k -> :9000
            INCREX k PXAT 1 -> *2 :7 :1
            EXISTS k -> :0
            INCREX k EXAT 1 -> *2 :1 :1
            EXISTS k -> :0
            ",
        );
        bench.event_table(
            "
            INCREX k BYINT 5 -> new k, incrby k
            INCREX k BYFLOAT 0.5 -> incrbyfloat k
            SET k 10 EX 100; INCREX k PERSIST -> incrby k, persist k
            INCREX k EX 100 -> incrby k, expire k
            INCREX k EX 200 ENX -> incrby k
            INCREX k UBOUND 1 ->
            INCREX k EXAT 1 -> del k
            INCREX k EXAT 1 ->
            ",
        );
    }

    #[test]
    fn conditions_of_valkey() {
        Bench::new().table(
            "
            INCREX k XX -> *2 $-1 :0
            INCREX k XX BYFLOAT 1.5 -> *2 $-1 $1 0
            INCREX k NX EX 100 BYINT 3 -> *2 :3 :3
            INCREX k NX -> *2 :3 :0
            INCREX k XX -> *2 :4 :1
            INCREX k NX XX -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn what_is_refused() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        for options in [
            "FOO",
            "BYINT",
            "LBOUND",
            "BYINT 1 BYFLOAT 1",
            "BYFLOAT 1 BYINT 1",
            "BYINT 1 BYINT 2",
            "EX 10 PX 10",
            "EX 10 EX 20",
            "EX 10 PERSIST",
            "PERSIST EX 10",
            "PERSIST ENX",
            "ENX PERSIST",
            "PERSIST PERSIST",
            "ENX ENX EX 1",
            "LBOUND 0 LBOUND 1",
            "SATURATE SATURATE",
            "KEEPTTL",
        ] {
            assert_eq!(
                bench.run(&format!("INCREX k {options}")),
                "-ERR syntax error",
                "{options}"
            );
        }
        bench.table(
            "
            INCREX k ENX -> -ERR ENX flag requires an expiration
            INCREX k EX 0 -> -ERR invalid expire time in 'increx' command
            INCREX k BYINT 1.5 -> -ERR Increment is not an integer or out of range
            INCREX k LBOUND abc -> -ERR LBOUND is not an integer or out of range
            INCREX k UBOUND inf -> -ERR UBOUND is not an integer or out of range
            INCREX k LBOUND 10 UBOUND 5 -> -ERR LBOUND can't be greater than UBOUND
            SET s x -> +OK
            INCREX s EXAT 1 -> -ERR value is not an integer or out of range
            INCREX s BYFLOAT 1 -> -ERR value is not a valid float
            INCREX l EXAT 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }
}
