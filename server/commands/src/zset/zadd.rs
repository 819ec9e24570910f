//! Hot path. ZADD and ZINCRBY. Without options a member costs one lookup.

use protocol::number::parse_f64;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{Added, EventClass, ZsetEdit};

use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "zadd",
            summary: "Gives members scores, and adds those that are new.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::at_least(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zadd),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "zincrby",
            summary: "Adds to the score of a member.",
            group: Group::SortedSet,
            since: "1.2.0",
            arity: Arity::exactly(4),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::SORTEDSET).and(Acl::WRITE),
            keys: spec::ONE_RW_ACCESS_UPDATE,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(zincrby),
        spread: Spread::Keys,
    },
];

/// The options of ZADD.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Options {
    if_absent: bool,
    if_present: bool,
    if_greater: bool,
    if_less: bool,
    count_changed: bool,
    increment: bool,
}

impl Options {
    /// Takes options as long as there are any.
    fn parse(mut self, args: &mut Args<'_>) -> Self {
        loop {
            let option = if args.keyword("NX") {
                &mut self.if_absent
            } else if args.keyword("XX") {
                &mut self.if_present
            } else if args.keyword("CH") {
                &mut self.count_changed
            } else if args.keyword("INCR") {
                &mut self.increment
            } else if args.keyword("GT") {
                &mut self.if_greater
            } else if args.keyword("LT") {
                &mut self.if_less
            } else {
                return self;
            };
            *option = true;
        }
    }

    /// Refuses those that contradict one another; `words` are left.
    fn check(&self, words: usize) -> Result<(), Refusal> {
        let comparing = [self.if_absent, self.if_greater, self.if_less];
        if words == 0 || words % 2 == 1 {
            Err(Refusal::Syntax)
        } else if self.if_absent && self.if_present {
            Err(Refusal::ZaddXxNx)
        } else if comparing.into_iter().filter(|option| *option).count() > 1 {
            Err(Refusal::ZaddGtLtNx)
        } else if self.increment && words > 2 {
            Err(Refusal::ZaddIncrPairs)
        } else {
            Ok(())
        }
    }

    /// Whether members are simply added.
    fn are_plain(&self) -> bool {
        let plain = Options {
            count_changed: self.count_changed,
            ..Options::default()
        };
        *self == plain
    }
}

fn zadd(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    add(cx, args, Options::default())
}

fn zincrby(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let increment = Options {
        increment: true,
        ..Options::default()
    };
    add(cx, args, increment)
}

fn add(cx: &mut Write<'_>, mut args: Args<'_>, preset: Options) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let options = preset.parse(&mut args);
    options.check(args.left())?;
    // All scores are read before any is given; the first, often the only one, just once.
    let mut first = None;
    let mut words = args.clone();
    while words.left() > 0 {
        let score = words.float()?;
        first.get_or_insert(score);
        words.bytes()?;
    }
    let mut zset = if options.if_present {
        match cx.edit.edit_zset(&key)? {
            Some(zset) => zset,
            None if options.increment => {
                cx.reply.null();
                return Ok(());
            }
            None => {
                cx.reply.int(0);
                return Ok(());
            }
        }
    } else {
        cx.edit.edit_zset_or_new(&key)?
    };
    zset.expect(args.left() / 2);
    let (mut added, mut changed, mut last) = (0, 0, None);
    while args.left() > 0 {
        let (score, member) = (args.bytes()?, args.bytes()?);
        let score = match first.take() {
            Some(score) => score,
            None => parse_f64(score).ok_or(Refusal::NotFloat)?,
        };
        let done = if options.are_plain() {
            Some((zset.add(member, score), score))
        } else {
            add_one(&mut zset, member, score, options)?
        };
        match done {
            Some((Added::New, _)) => added += 1,
            Some((Added::Changed, _)) => changed += 1,
            Some((Added::Same, _)) | None => {}
        }
        last = done;
    }
    if added + changed > 0 {
        let event = if options.increment { "zincr" } else { "zadd" };
        zset.event(EventClass::Zset, event);
    }
    drop(zset);
    match last {
        _ if !options.increment => {
            let counted = if options.count_changed {
                added + changed
            } else {
                added
            };
            cx.reply.int(counted);
        }
        Some((_, score)) => cx.reply.double(score),
        None => cx.reply.null(),
    }
    Ok(())
}

/// Gives one member a score under conditions: what was done and the new score, or None if a condition
/// did not hold.
fn add_one(
    zset: &mut ZsetEdit<'_>,
    member: &[u8],
    score: f64,
    options: Options,
) -> Result<Option<(Added, f64)>, Refusal> {
    let score = match zset.score(member) {
        None if options.if_present => return Ok(None),
        None => score,
        Some(_) if options.if_absent => return Ok(None),
        Some(old) => {
            let new = if options.increment {
                old + score
            } else {
                score
            };
            if new.is_nan() {
                return Err(Refusal::ScoreNan);
            }
            if (options.if_less && new >= old) || (options.if_greater && new <= old) {
                return Ok(None);
            }
            new
        }
    };
    Ok(Some((zset.add(member, score), score)))
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn options() {
        Bench::new().table(
            "
            ZADD z 1 a 2 b -> :2
            ZADD z 1 a 3 b 4 c -> :1
            ZADD z CH 1 a 5 b 6 d -> :2
            ZADD z NX 9 a 9 e -> :1
            ZSCORE z a -> $1 1
            ZADD z XX CH 2 a 9 f -> :1
            ZSCORE z f -> $-1
            ZADD z GT CH 1 a 6 b 1 g -> :2
            ZADD z lt ch 1 a 7 b -> :1
            ZADD z XX GT 8 b -> :0
            ZSCORE z b -> $1 8
            ZADD none XX 1 a -> :0
            ZCARD none -> :0
            ZADD z 1 a 2 a -> :0
            ZSCORE z a -> $1 2
            ",
        );
    }

    #[test]
    fn increments() {
        Bench::new().table(
            "
            ZADD z INCR 5 a -> $1 5
            ZADD z INCR 0.5 a -> $3 5.5
            ZADD z NX INCR 1 a -> $-1
            ZADD z XX INCR 1 b -> $-1
            ZADD none XX INCR 1 b -> $-1
            ZADD z GT INCR -1 a -> $-1
            ZADD z LT INCR 1 a -> $-1
            ZADD z GT INCR 0 a -> $-1
            ZADD z GT INCR 1 a -> $3 6.5
            ZADD z INCR CH 1 a -> $3 7.5
            ZADD z INCR -0 zero -> $2 -0
            ZSCORE z zero -> $1 0
            ZINCRBY z -0.5 a -> $1 7
            ZINCRBY z inf i -> $3 inf
            ZINCRBY z -inf i -> -ERR resulting score is not a number (NaN)
            ZSCORE z i -> $3 inf
            ZINCRBY z nan a -> -ERR value is not a valid float
            ZINCRBY z x a -> -ERR value is not a valid float
            ZINCRBY z nx a -> -ERR syntax error
            ZINCRBY z ch xx -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn words_are_checked_before_the_key() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZADD str 1 a 2 -> -ERR syntax error
            ZADD str NX XX -> -ERR syntax error
            ZADD str NX XX 1 a -> -ERR XX and NX options at the same time are not compatible
            ZADD str NX GT 1 a -> -ERR GT, LT, and/or NX options at the same time are not compatible
            ZADD str GT LT 1 a -> -ERR GT, LT, and/or NX options at the same time are not compatible
            ZADD str NX XX GT INCR 1 a 2 b -> -ERR XX and NX options at the same time are not compatible
            ZADD str INCR 1 a 2 b -> -ERR INCR option supports a single increment-element pair
            ZADD str x a -> -ERR value is not a valid float
            ZADD str 1 a nan b -> -ERR value is not a valid float
            ZADD str 1e400 a -> -ERR value is not a valid float
            ZADD str \"\" a -> -ERR value is not a valid float
            ZADD str 1 a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZADD str XX 1 a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZINCRBY str 1 a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZADD z 1 a x b -> -ERR value is not a valid float
            ZCARD z -> :0
            ZADD z 0x10 a 1e2 b .5 c +inf d -> :4
            ZRANGE z 0 -1 WITHSCORES -> *8 $1 c $3 0.5 $1 a $2 16 $1 b $3 100 $1 d $3 inf
            ",
        );
    }

    #[test]
    fn version_3_has_doubles() {
        let mut bench = Bench::new();
        bench.resp = Resp::V3;
        bench.table(
            "
            ZADD z INCR 1.5 a -> ,1.5
            ZINCRBY z 1 a -> ,2.5
            ZADD z NX INCR 1 a -> _
            ZADD z 1 a 2 b -> :1
            ",
        );
    }
}
