//! GEOPOS, GEODIST, GEOHASH: where members are.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};

use crate::geo::cell::Point;
use crate::geo::shape::distance_m;
use crate::{Command, Read, Refused, Run, Spread, geo};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "geodist",
            summary: "Tells the distance between two members.",
            group: Group::Geo,
            since: "3.2.0",
            arity: Arity::at_least(4),
            flags: Flags::READONLY,
            acl: Acl::GEO.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(geodist),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "geohash",
            summary: "Tells the positions of members as geohash texts.",
            group: Group::Geo,
            since: "3.2.0",
            arity: Arity::at_least(2),
            flags: Flags::READONLY,
            acl: Acl::GEO.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(geohash),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "geopos",
            summary: "Tells the longitudes and latitudes of members.",
            group: Group::Geo,
            since: "3.2.0",
            arity: Arity::at_least(2),
            flags: Flags::READONLY,
            acl: Acl::GEO.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(geopos),
        spread: Spread::Keys,
    },
];

fn geodist(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let (from, to) = (args.bytes()?, args.bytes()?);
    let unit_m = match args.left() {
        0 => 1.0,
        1 => geo::unit_m(args.bytes()?)?,
        _ => return Err(Refusal::Syntax.into()),
    };
    let zset = cx.shard.zset(&key)?;
    let place = |member| Some(Point::of_score(zset?.score(member)?));
    match place(from).zip(place(to)) {
        Some((from, to)) => geo::reply_distance(&mut cx.reply, distance_m(from, to) / unit_m),
        None => cx.reply.null(),
    }
    Ok(())
}

fn geohash(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let zset = cx.shard.zset(&key)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => cx.reply.bulk(&Point::of_score(score).geohash()),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

fn geopos(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let zset = cx.shard.zset(&key)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => geo::reply_point(&mut cx.reply, Point::of_score(score)),
            None => cx.reply.null_array(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn places() {
        let mut bench = Bench::new();
        bench.table(
            "
            GEOADD g 13.361389 38.115556 a 15.087269 37.502669 b 0 0 o -> :3
            GEODIST g a b -> $11 166274.1516
            GEODIST g a b km -> $8 166.2742
            GEODIST g a b FT -> $11 545518.8700
            GEODIST g a b mi -> $8 103.3182
            GEODIST g a a -> $6 0.0000
            GEODIST g a none -> $-1
            GEODIST none a b -> $-1
            GEODIST g a b x -> -ERR unsupported unit provided. please use M, KM, FT, MI
            GEODIST g a b m x -> -ERR syntax error
            GEOHASH g a none b -> *3 $11 sqc8b49rny0 $-1 $11 sqdtr74hyu0
            GEOHASH g -> *0
            GEOHASH none a -> *1 $-1
            GEOPOS g a none -> *2 *2 $20 13.36138933897018433 $20 38.11555639549629859 *-1
            GEOPOS none a -> *1 *-1
            SET s x -> +OK
            GEOPOS s a -> -WRONGTYPE Operation against a key holding the wrong kind of value
            GEOHASH s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            GEODIST s a b -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        bench.resp = Resp::V3;
        bench.table(
            "
            GEOPOS g b -> *1 *2 ,15.08726745843887329 ,37.50266842333162032
            GEOPOS g none -> *1 _
            GEODIST g a b km -> $8 166.2742
            ",
        );
    }
}
