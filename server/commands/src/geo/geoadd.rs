//! GEOADD: members with their positions.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};
use storage::{Added, EventClass};

use crate::{Command, Refused, Run, Spread, Write, geo};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "geoadd",
        summary: "Gives members of a sorted set positions on earth.",
        group: Group::Geo,
        since: "3.2.0",
        arity: Arity::at_least(5),
        flags: Flags::DENYOOM.and(Flags::WRITE),
        acl: Acl::GEO.and(Acl::SLOW).and(Acl::WRITE),
        keys: spec::ONE_RW_UPDATE,
        range: (1, 1, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Write(geoadd),
    spread: Spread::Keys,
}];

fn geoadd(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (mut if_absent, mut if_present, mut count_changed) = (false, false, false);
    loop {
        let option = if args.keyword("NX") {
            &mut if_absent
        } else if args.keyword("XX") {
            &mut if_present
        } else if args.keyword("CH") {
            &mut count_changed
        } else {
            break;
        };
        *option = true;
    }
    if args.left() == 0 || !args.left().is_multiple_of(3) || (if_absent && if_present) {
        return Err(Refusal::Syntax.into());
    }
    // All positions are read before any is given.
    let mut members = Vec::with_capacity(args.left() / 3);
    while args.left() > 0 {
        let point = geo::point(args.bytes()?, args.bytes()?)?;
        members.push((point.score(), args.bytes()?));
    }
    let session = if if_present {
        cx.edit.edit_zset(&key)?
    } else {
        Some(cx.edit.edit_zset_or_new(&key)?)
    };
    let Some(mut zset) = session else {
        cx.reply.int(0);
        return Ok(());
    };
    zset.expect(members.len());
    let (mut added, mut changed) = (0, 0);
    for (score, member) in members {
        let skipped = match zset.score(member) {
            Some(_) => if_absent,
            None => if_present,
        };
        if skipped {
            continue;
        }
        match zset.add(member, score) {
            Added::New => added += 1,
            Added::Changed => changed += 1,
            Added::Same => {}
        }
    }
    if added + changed > 0 {
        zset.event(EventClass::Zset, "zadd");
    }
    drop(zset);
    let counted = if count_changed {
        added + changed
    } else {
        added
    };
    cx.reply.int(counted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn adding() {
        Bench::new().table(
            "
            GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania -> :2
            ZSCORE g Palermo -> $16 3479099956230698
            GEOADD g 13.361389 38.115556 Palermo -> :0
            GEOADD g CH 13.4 38.115556 Palermo 1 1 x -> :2
            GEOADD g NX CH 1 2 Palermo 1 2 y -> :1
            GEOADD g XX 1 2 Palermo 1 2 z -> :0
            GEOADD g xx ch 1 3 Palermo 1 2 z -> :1
            GEOADD none XX 1 2 z -> :0
            EXISTS none -> :0
            ZCARD g -> :4
            GEOADD g 180 85.05112878 edge -180 -85.05112878 other -> :2
            SET s x -> +OK
            GEOADD s 1 2 m -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn refusals() {
        Bench::new().table(
            "
            GEOADD g NX XX 1 1 m -> -ERR syntax error
            GEOADD g 1 1 m 2 -> -ERR syntax error
            GEOADD g NX CH CH -> -ERR syntax error
            GEOADD g x 1 m -> -ERR value is not a valid float
            GEOADD g 1 1 ok 181 1 m -> -ERR invalid longitude,latitude pair 181.000000,1.000000
            GEOADD g 1 -85.06 m -> -ERR invalid longitude,latitude pair 1.000000,-85.060000
            GEOADD g inf 1 m -> -ERR invalid longitude,latitude pair inf,1.000000
            EXISTS g -> :0
            ",
        );
    }
}
