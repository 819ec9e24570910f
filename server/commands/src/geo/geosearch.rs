//! GEOSEARCH and its older spellings: members near a place.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Reply, Spec, spec};
use storage::{EventClass, Key, OwnedValue, Ttl, Zset};

use crate::geo::cell::{Point, signed};
use crate::geo::request::{Order, Request, Spelling};
use crate::geo::shape::Shape;
use crate::{Command, Read, Refused, Run, Spread, Write, geo};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "geosearch",
            summary: "Finds the members in a circle or a box.",
            group: Group::Geo,
            since: "6.2.0",
            arity: Arity::at_least(7),
            flags: Flags::READONLY,
            acl: Acl::GEO.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(geosearch),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "geosearchstore",
            summary: "Stores the members in a circle or a box at a key.",
            group: Group::Geo,
            since: "6.2.0",
            arity: Arity::at_least(8),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::GEO.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
                KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
            ],
            range: (1, 2, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(geosearchstore),
        spread: Spread::Keys,
    },
];

/// What was there before GEOSEARCH.
pub(super) const OLDER: &[Command] = &[
    Command {
        spec: Spec {
            name: "georadius",
            summary: "Finds, or stores, the members in a circle around a position.",
            group: Group::Geo,
            since: "3.2.0",
            arity: Arity::at_least(6),
            flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::GEO.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
                stored("STORE", 6),
                stored("STOREDIST", 6),
            ],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Write(georadius),
        spread: Spread::KeysOrWhole(stores_twice),
    },
    Command {
        spec: Spec {
            name: "georadius_ro",
            summary: "Finds the members in a circle around a position.",
            group: Group::Geo,
            since: "3.2.10",
            arity: Arity::at_least(6),
            flags: Flags::READONLY,
            acl: Acl::GEO.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(georadius_ro),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "georadiusbymember",
            summary: "Finds, or stores, the members in a circle around one of them.",
            group: Group::Geo,
            since: "3.2.0",
            arity: Arity::at_least(5),
            flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::GEO.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
                stored("STORE", 5),
                stored("STOREDIST", 5),
            ],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Write(georadiusbymember),
        spread: Spread::KeysOrWhole(stores_twice),
    },
    Command {
        spec: Spec {
            name: "georadiusbymember_ro",
            summary: "Finds the members in a circle around one of them.",
            group: Group::Geo,
            since: "3.2.10",
            arity: Arity::at_least(5),
            flags: Flags::READONLY,
            acl: Acl::GEO.and(Acl::READ).and(Acl::SLOW),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: Some("6.2.0"),
        },
        run: Run::Read(georadiusbymember_ro),
        spread: Spread::Keys,
    },
];

/// The key behind a word.
const fn stored(word: &'static str, from: i16) -> KeySpec {
    KeySpec::after(word, from, KeyFlags::OW.and(KeyFlags::UPDATE))
}

/// Whether several words may be STORE: the key specs find the first, but the last one counts.
fn stores_twice(args: &Args<'_>) -> bool {
    let is_store = |word: &&[u8]| {
        word.eq_ignore_ascii_case(b"STORE") || word.eq_ignore_ascii_case(b"STOREDIST")
    };
    args.rest().filter(is_store).count() > 1
}

fn geosearch(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    find(cx, Spelling::Search, args)
}

fn georadius_ro(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    find(cx, Spelling::Radius { stores: false }, args)
}

fn georadiusbymember_ro(cx: &mut Read<'_>, args: Args<'_>) -> Result<(), Refused> {
    find(cx, Spelling::ByMember { stores: false }, args)
}

fn find(cx: &mut Read<'_>, spelling: Spelling, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let zset = cx.shard.zset(&key)?;
    let request = Request::parse(spelling, zset, None, args)?;
    reply(&mut cx.reply, &request, zset);
    Ok(())
}

fn georadius(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    find_or_store(cx, Spelling::Radius { stores: true }, &key, None, args)
}

fn georadiusbymember(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    find_or_store(cx, Spelling::ByMember { stores: true }, &key, None, args)
}

fn geosearchstore(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (to, from) = (args.bytes()?, args.bytes()?);
    let key = cx.key(from);
    find_or_store(cx, Spelling::SearchStore, &key, Some(to), args)
}

fn find_or_store<'a>(
    cx: &mut Write<'_>,
    spelling: Spelling,
    from: &Key<'_>,
    to: Option<&'a [u8]>,
    args: Args<'a>,
) -> Result<(), Refused> {
    cx.edit.touch(from);
    let zset = cx.edit.zset(from)?;
    let request = Request::parse(spelling, zset, to, args)?;
    let Some(to) = request.store else {
        reply(&mut cx.reply, &request, zset);
        return Ok(());
    };
    let mut result = Zset::new();
    for found in search(&request, zset) {
        let score = if request.store_distance {
            found.distance
        } else {
            found.score
        };
        result.add(found.member, score, cx.edit.limits());
    }
    let (key, count) = (cx.key(to), result.len());
    if count > 0 {
        let event = match spelling {
            Spelling::SearchStore => "geosearchstore",
            _ => "georadiusstore",
        };
        cx.edit
            .put_value(&key, OwnedValue::Zset(Box::new(result)), Ttl::Clear);
        cx.edit.event(EventClass::Zset, event, &key);
    } else if cx.edit.remove(&key) {
        cx.edit.event(EventClass::Generic, "del", &key);
    }
    cx.reply.int(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

/// A member that was found.
struct Found<'s> {
    member: &'s [u8],
    score: f64,
    point: Point,
    /// From the centre, in the request's unit.
    distance: f64,
}

/// What a request finds, in its order, no more than it asks for.
fn search<'s>(request: &Request<'_>, zset: Option<&'s Zset>) -> Vec<Found<'s>> {
    let (Some(shape), Some(zset)) = (&request.shape, zset) else {
        return Vec::new();
    };
    let enough = request.count.filter(|_| request.any);
    let mut found = inside(shape, zset, enough.unwrap_or(usize::MAX));
    match request.order {
        Order::Any => {}
        Order::NearestFirst => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        Order::FarthestFirst => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
    }
    found.truncate(request.count.unwrap_or(usize::MAX));
    // Metres are compared: another unit might make two distances equal.
    for found in &mut found {
        found.distance /= shape.unit_m;
    }
    found
}

/// The members inside a shape, the search ending at `enough` of them. Distances are in metres.
fn inside<'s>(shape: &Shape, zset: &'s Zset, enough: usize) -> Vec<Found<'s>> {
    let cells = shape.cells();
    let (mut found, mut last) = (Vec::new(), None);
    for (at, cell) in cells.into_iter().enumerate() {
        // Around a large shape cells meet on the other side of the earth.
        let Some(cell) = cell.filter(|cell| last != Some(*cell)) else {
            continue;
        };
        if found.len() >= enough {
            break;
        }
        let (from, to) = cell.scores();
        let members = zset.iter_from(zset.rank_of_score(from, false));
        for (member, score) in members.take_while(|(_, score)| *score < to) {
            let point = Point::of_score(score);
            if let Some(distance) = shape.reach_m(point) {
                found.push(Found {
                    member,
                    score,
                    point,
                    distance,
                });
                if found.len() >= enough {
                    break;
                }
            }
        }
        last = (at > 0).then_some(cell);
    }
    found
}

fn reply(reply: &mut Reply<'_>, request: &Request<'_>, zset: Option<&Zset>) {
    let found = search(request, zset);
    let with = [request.with_distance, request.with_hash, request.with_point];
    let with = with.iter().filter(|with| **with).count();
    reply.array(found.len());
    for found in found {
        if with > 0 {
            reply.array(with + 1);
        }
        reply.bulk(found.member);
        if request.with_distance {
            geo::reply_distance(reply, found.distance);
        }
        if request.with_hash {
            reply.int(signed(found.score));
        }
        if request.with_point {
            geo::reply_point(reply, found.point);
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    fn sicily() -> Bench {
        let mut bench = Bench::new();
        bench.table(
            "
            GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania -> :2
            GEOADD g 12.758489 38.788135 edge1 17.241510 38.788135 edge2 -> :2
            SET s x -> +OK
            ",
        );
        bench
    }

    #[test]
    fn searches() {
        let mut bench = sicily();
        bench.table(
            "
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC -> *2 $7 Catania $7 Palermo
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC -> *2 $7 Palermo $7 Catania
            GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 3 -> *3 $7 Catania $7 Palermo $5 edge2
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 -> *1 $7 Catania
            GEOSEARCH g FROMMEMBER Palermo BYRADIUS 0 m -> *1 $7 Palermo
            GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 m WITHDIST -> *1 *2 $7 Palermo $6 0.0000
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 100 km WITHDIST WITHHASH -> *1 *3 $7 Catania $7 56.4413 :3479447370796909
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 10 km -> *0
            GEOSEARCH none FROMMEMBER x BYRADIUS 10 km -> *0
            GEORADIUS g 15 37 200 km ASC -> *2 $7 Catania $7 Palermo
            GEORADIUS_RO g 15 37 200 km COUNT 1 ANY -> *1 $7 Palermo
            GEORADIUSBYMEMBER g Palermo 200 km DESC COUNT 1 -> *1 $7 Catania
            GEORADIUSBYMEMBER_RO none Palermo x y -> *0
            ",
        );
        bench.resp = Resp::V3;
        bench.table("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 100 km WITHCOORD -> *1 *2 $7 Catania *2 ,15.08726745843887329 ,37.50266842333162032");
    }

    #[test]
    fn storing() {
        sicily().table(
            "
            GEOSEARCHSTORE to g FROMLONLAT 15 37 BYRADIUS 200 km -> :2
            ZSCORE to Palermo -> $16 3479099956230698
            GEOSEARCHSTORE to g FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST COUNT 1 -> :1
            ZRANGE to 0 -1 WITHSCORES -> *2 $7 Catania $16 56.4412578701582
            GEORADIUS g 15 37 200 km STORE to -> :2
            GEORADIUSBYMEMBER g Palermo 1 m STORE x STOREDIST to -> :1
            ZRANGE to 0 -1 WITHSCORES -> *2 $7 Palermo $1 0
            EXISTS x -> :0
            GEOSEARCHSTORE to none FROMMEMBER x BYRADIUS 1 m -> :0
            EXISTS to -> :0
            GEORADIUS g 15 37 200 km STORE to -> :2
            GEORADIUS g 0 0 1 m STORE to -> :0
            EXISTS to -> :0
            GEORADIUS g 15 37 200 km STORE s -> :2
            TYPE s -> +zset
            ",
        );
    }

    #[test]
    fn refusals() {
        let with = "is not compatible with WITHDIST, WITHHASH and WITHCOORD options";
        sicily().table(&format!(
            "
            GEOSEARCH s FROMLONLAT 15 37 BYRADIUS x km -> -WRONGTYPE Operation against a key holding the wrong kind of value
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS x km -> -ERR need numeric radius
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS -1 km -> -ERR radius cannot be negative
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 x -> -ERR unsupported unit provided. please use M, KM, FT, MI
            GEOSEARCH g FROMLONLAT 15 37 BYBOX x 1 m -> -ERR need numeric width
            GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 x m -> -ERR need numeric height
            GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 -1 m -> -ERR height or width cannot be negative
            GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 1 m BYRADIUS 1 m -> -ERR syntax error
            GEOSEARCH g FROMLONLAT 15 37 FROMMEMBER Palermo BYRADIUS 1 m -> -ERR syntax error
            GEOSEARCH g FROMLONLAT 15 97 BYRADIUS 1 m -> -ERR invalid longitude,latitude pair 15.000000,97.000000
            GEOSEARCH g FROMMEMBER none BYRADIUS 1 m -> -ERR could not decode requested zset member
            GeoSearch g FROMLONLAT 15 37 ASC ASC -> -ERR exactly one of BYRADIUS and BYBOX can be specified for GeoSearch
            GEOSEARCH g BYRADIUS 1 m ASC ASC -> -ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m ANY -> -ERR the ANY argument requires COUNT argument
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m COUNT 0 -> -ERR COUNT must be > 0
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m COUNT x -> -ERR value is not an integer or out of range
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m COUNT -> -ERR syntax error
            GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m STOREDIST -> -ERR syntax error
            GEOSEARCHSTORE to g FROMLONLAT 15 37 BYRADIUS 1 m WITHDIST -> -ERR GEOSEARCHSTORE {with}
            GEORADIUS g 15 37 1 m STORE to WITHHASH -> -ERR STORE option in GEORADIUS {with}
            GEORADIUS_RO g 15 37 1 m STORE to -> -ERR syntax error
            GEORADIUS g 15 37 1 m FROMMEMBER Palermo -> -ERR syntax error
            GEORADIUSBYMEMBER g none 1 m -> -ERR could not decode requested zset member
            GEORADIUSBYMEMBER none none 1 m WHAT -> -ERR syntax error
            "
        ));
    }
}
