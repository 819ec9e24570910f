//! What connections in lock step say: requests that wait, requests that end waits, publish and subscribe, tracking,
//! and the small talk of transactions. The keys are few (few.rs), the replies have one order.

use super::super::catalogue::{Place, Row};
use super::super::rule::Rule::{Bag, Exact, Hello};
use super::{newer, placed};

/// One request.
const fn waits(weight: u32, requests: &'static [(&'static str, super::Rule)]) -> Row {
    placed(Place::Waits, weight, requests)
}

/// A request that waits for several keys. Before 7.2 it was tried again for one key alone, since then as a whole.
const fn many(weight: u32, requests: &'static [(&'static str, super::Rule)]) -> Row {
    newer(Place::WaitsForMany, weight, requests)
}

const fn acts(weight: u32, requests: &'static [(&'static str, super::Rule)]) -> Row {
    placed(Place::Acts, weight, requests)
}

const fn hears(weight: u32, requests: &'static [(&'static str, super::Rule)]) -> Row {
    placed(Place::Hears, weight, requests)
}

const fn meets(weight: u32, requests: &'static [(&'static str, super::Rule)]) -> Row {
    placed(Place::Meets, weight, requests)
}

const fn tracks(weight: u32, requests: &'static [(&'static str, super::Rule)]) -> Row {
    placed(Place::Tracks, weight, requests)
}

pub(super) const BLOCKING: &[Row] = &[
    waits(30, &[("BLPOP <fl> <wait>", Exact)]),
    waits(30, &[("BRPOP <fl> <wait>", Exact)]),
    many(20, &[("(BLPOP | BRPOP) { <fl> } <wait>", Exact)]),
    waits(
        30,
        &[(
            "BLMOVE <fl> <fl> (LEFT | RIGHT) (LEFT | RIGHT) <wait>",
            Exact,
        )],
    ),
    waits(15, &[("BRPOPLPUSH <fl> <fl> <wait>", Exact)]),
    waits(
        20,
        &[(
            "BLMPOP <wait> 1 <fl> (LEFT | RIGHT) [ COUNT <pcount> ]",
            Exact,
        )],
    ),
    many(
        12,
        &[(
            "BLMPOP <wait> <n:fl> (LEFT | RIGHT) [ COUNT <pcount> ]",
            Exact,
        )],
    ),
    waits(20, &[("BZPOPMIN <fz> <wait>", Exact)]),
    waits(20, &[("BZPOPMAX <fz> <wait>", Exact)]),
    many(12, &[("(BZPOPMIN | BZPOPMAX) { <fz> } <wait>", Exact)]),
    waits(
        20,
        &[("BZMPOP <wait> 1 <fz> (MIN | MAX) [ COUNT <pcount> ]", Exact)],
    ),
    many(
        12,
        &[("BZMPOP <wait> <n:fz> (MIN | MAX) [ COUNT <pcount> ]", Exact)],
    ),
    waits(
        30,
        &[(
            "XREAD *( COUNT <pcount> | BLOCK <waitms> ) STREAMS <fq> ($ | <fid>)",
            Exact,
        )],
    ),
    many(
        12,
        &[(
            "XREAD BLOCK <waitms> STREAMS <fq> <fq> ($ | <fid>) $",
            Exact,
        )],
    ),
    newer(
        Place::Waits,
        40,
        &[(
            "XREADGROUP GROUP (g | g | h) (c | d) *( COUNT <pcount> | NOACK ) BLOCK <waitms> STREAMS <fq> (> | > | <fid>)",
            Exact,
        )],
    ),
    many(
        10,
        &[(
            "XREADGROUP GROUP g (c | d) BLOCK <waitms> STREAMS <fq> <fq> > >",
            Exact,
        )],
    ),
    // What is pipelined behind a wait comes after it.
    waits(
        15,
        &[
            ("BLPOP <fl> <wait>", Exact),
            ("LLEN <same>", Exact),
            ("RPUSH <fl> <fe>", Exact),
            ("INCR <fs>", Exact),
        ],
    ),
    waits(
        8,
        &[
            ("SET <fs> <fe>", Exact),
            ("BZPOPMIN <fz> <wait>", Exact),
            ("BRPOP <fl> <wait>", Exact),
            ("GET <fs>", Exact),
        ],
    ),
    placed(Place::Brief, 10, &[("BLPOP <fl> <brief>", Exact)]),
    placed(
        Place::Brief,
        5,
        &[("BLMOVE <fl> <fl> LEFT RIGHT <brief>", Exact)],
    ),
    placed(Place::Brief, 5, &[("BZPOPMAX <fz> <brief>", Exact)]),
    placed(
        Place::Brief,
        5,
        &[("BZMPOP <brief> 1 <fz> MIN COUNT 2", Exact)],
    ),
    placed(
        Place::Brief,
        10,
        &[("XREAD BLOCK <briefms> STREAMS <fq> $", Exact)],
    ),
    placed(
        Place::Brief,
        5,
        &[("BRPOP <fl> <brief>", Exact), ("RPUSH <same> <fe>", Exact)],
    ),
    acts(40, &[("(RPUSH | LPUSH) <fl> { <fe> }", Exact)]),
    acts(8, &[("(RPUSHX | LPUSHX) <fl> { <fe> }", Exact)]),
    acts(6, &[("LINSERT <fl> BEFORE <fe> <fe>", Exact)]),
    acts(6, &[("(LPOP | RPOP) <fl> [ <count> ]", Exact)]),
    acts(
        10,
        &[("LMOVE <fl> <fl> (LEFT | RIGHT) (LEFT | RIGHT)", Exact)],
    ),
    acts(4, &[("RPOPLPUSH <fl> <fl>", Exact)]),
    acts(
        30,
        &[("ZADD <fz> *( NX | XX | CH ) { <small> <fe> }", Exact)],
    ),
    acts(8, &[("ZINCRBY <fz> <small> <fe>", Exact)]),
    acts(6, &[("ZREM <fz> <fe>", Exact)]),
    // Redis tells nobody of a value that overwrites one of another type: the target is gone before.
    acts(
        8,
        &[("DEL <fz>", Exact), ("ZUNIONSTORE <same> 1 <fz>", Exact)],
    ),
    acts(
        4,
        &[("DEL <fz>", Exact), ("ZRANGESTORE <same> <fz> 0 5", Exact)],
    ),
    acts(30, &[("XADD <fq> <fid> f <fe>", Exact)]),
    acts(
        10,
        &[("XGROUP CREATE <fq> (g | h) (0 | $) MKSTREAM", Exact)],
    ),
    newer(Place::Acts, 4, &[("XGROUP DESTROY <fq> (g | h)", Exact)]),
    newer(Place::Acts, 3, &[("XGROUP SETID <fq> g (0 | $)", Exact)]),
    acts(4, &[("XDEL <fq> <fid>", Exact)]),
    acts(3, &[("XTRIM <fq> MAXLEN 1", Exact)]),
    acts(10, &[("(SET | APPEND) <fk> <fe>", Exact)]),
    acts(3, &[("(INCR | GETDEL) <fs>", Exact)]),
    acts(3, &[("(SADD | HSET) <fk> <fe> [ x ]", Exact)]),
    acts(14, &[("(DEL | UNLINK) { <fk> }", Exact)]),
    acts(16, &[("(RENAME | RENAMENX) <fk> <fk>", Exact)]),
    acts(
        14,
        &[("COPY <fk> <fk> *( REPLACE | (DB 12 | DB 11) )", Exact)],
    ),
    acts(5, &[("MOVE <fk> (11 | 12)", Exact)]),
    acts(8, &[("EXPIRE <fk> (100000 | -1)", Exact)]),
    acts(3, &[("PERSIST <fk>", Exact)]),
    acts(14, &[("EVAL <fscript> 2 <fl> <fk> <fe>", Exact)]),
    acts(6, &[("RESTORE <fk> 0 <payload> [ REPLACE ]", Exact)]),
    acts(3, &[("FLUSHDB [ (ASYNC | SYNC) ]", Exact)]),
    acts(5, &[("SWAPDB 11 12", Exact)]),
    placed(
        Place::Unblocks,
        20,
        &[("CLIENT UNBLOCK <peer> [ (TIMEOUT | ERROR) ]", Exact)],
    ),
    placed(
        Place::Unblocks,
        1,
        &[("CLIENT UNBLOCK (abc | 0 | -1) [ <junk> ]", Exact)],
    ),
    placed(Place::Unblocks, 2, &[("CLIENT KILL ID <peer>", Exact)]),
    placed(Place::Unblocks, 3, &[("(EXISTS | TOUCH) { <fk> }", Exact)]),
    placed(Place::Unblocks, 2, &[("SELECT (11 | 12)", Exact)]),
];

pub(super) const INTERLEAVING: &[Row] = &[
    meets(40, &[("MULTI", Exact)]),
    meets(40, &[("EXEC", Exact)]),
    meets(4, &[("DISCARD", Exact)]),
    meets(30, &[("WATCH { <fk> }", Exact)]),
    meets(4, &[("UNWATCH", Exact)]),
    meets(6, &[("SELECT (11 | 12)", Exact)]),
    meets(12, &[("GET <fk>", Exact)]),
    meets(8, &[("LRANGE <fl> 0 -1", Exact)]),
    meets(8, &[("ZRANGE <fz> 0 -1 WITHSCORES", Exact)]),
    meets(6, &[("XRANGE <fq> - +", Exact)]),
    meets(6, &[("(TYPE | TTL | STRLEN | LLEN | ZCARD) <fk>", Exact)]),
    meets(8, &[("(SET | GETSET | SETNX) <fk> <fe>", Exact)]),
    meets(6, &[("SET <fk> <fe> *( NX | XX | GET | KEEPTTL )", Exact)]),
    meets(6, &[("MSET <fk> <fe> <fk> <fe>", Exact)]),
    meets(6, &[("MGET { <fk> }", Exact)]),
    meets(10, &[("(INCR | DECR | INCRBY) <fs> [ 3 ]", Exact)]),
    meets(
        6,
        &[
            ("MULTI", Exact),
            ("BLMOVE <fl> <fl> LEFT RIGHT 1", Exact),
            ("BZPOPMIN <fz> 1", Exact),
            ("EXEC", Exact),
        ],
    ),
    meets(4, &[("DBSIZE", Exact)]),
    meets(2, &[("RESET", Exact), ("SELECT 11", Exact)]),
    meets(3, &[("(nosuch | GET | EXEC x)", Exact)]),
    meets(2, &[("PING", Exact)]),
];

pub(super) const PUBSUB: &[Row] = &[
    hears(20, &[("SUBSCRIBE <channel>", Exact)]),
    hears(10, &[("SUBSCRIBE { <channel> }", Exact)]),
    hears(14, &[("PSUBSCRIBE <pattern>", Exact)]),
    hears(4, &[("PSUBSCRIBE { <pattern> }", Exact)]),
    hears(12, &[("SSUBSCRIBE <channel>", Exact)]),
    hears(10, &[("(UNSUBSCRIBE | SUNSUBSCRIBE) { <channel> }", Exact)]),
    hears(6, &[("PUNSUBSCRIBE { <pattern> }", Exact)]),
    hears(8, &[("(UNSUBSCRIBE | PUNSUBSCRIBE | SUNSUBSCRIBE)", Exact)]),
    hears(60, &[("PUBLISH <channel> <fe>", Exact)]),
    hears(25, &[("SPUBLISH <channel> <fe>", Exact)]),
    hears(
        15,
        &[
            ("PUBLISH <channel> <fe>", Exact),
            ("PUBLISH <channel> <fe>", Exact),
            ("SPUBLISH <channel> <fe>", Exact),
        ],
    ),
    // Before 7.2 a message to the publisher itself stood in the midst of EXEC's reply.
    newer(
        Place::Hears,
        15,
        &[
            ("MULTI", Exact),
            ("PUBLISH <channel> <fe>", Exact),
            ("SET <fs> <fe>", Exact),
            ("PUBLISH <channel> <fe>", Exact),
            ("EXEC", Exact),
        ],
    ),
    hears(10, &[("EVAL <pubscript> 0 <channel> <fe>", Exact)]),
    hears(
        8,
        &[("PUBSUB (CHANNELS | SHARDCHANNELS) [ <pattern> ]", Bag)],
    ),
    hears(8, &[("PUBSUB (NUMSUB | SHARDNUMSUB) { <channel> }", Exact)]),
    hears(4, &[("PUBSUB NUMPAT", Exact)]),
    hears(2, &[("PUBSUB (NUMPAT x | nosuch | NUMSUB)", Exact)]),
    hears(8, &[("PING [ <fe> ]", Exact)]),
    hears(10, &[("(GET | TYPE) <fs>", Exact)]),
    hears(
        4,
        &[(
            "(PUBLISH | SPUBLISH | SUBSCRIBE | PSUBSCRIBE | SSUBSCRIBE)",
            Exact,
        )],
    ),
    hears(4, &[("RESET", Exact)]),
    hears(4, &[("HELLO (2 | 3)", Hello)]),
    hears(2, &[("MULTI", Exact), ("PING", Exact), ("DISCARD", Exact)]),
];

pub(super) const TRACKING: &[Row] = &[
    tracks(20, &[("CLIENT TRACKING ON [ NOLOOP ]", Exact)]),
    tracks(
        10,
        &[(
            "CLIENT TRACKING ON BCAST *( NOLOOP | PREFIX <prefix> | PREFIX <prefix> )",
            Exact,
        )],
    ),
    tracks(
        10,
        &[("CLIENT TRACKING ON (OPTIN | OPTOUT) [ NOLOOP ]", Exact)],
    ),
    // Whether the other client is there, the subject asks after it has looked at the options.
    tracks(
        20,
        &[
            ("CLIENT TRACKING OFF", Exact),
            (
                "CLIENT TRACKING ON REDIRECT <peer> [ (OPTIN | OPTOUT | NOLOOP | BCAST) ]",
                Exact,
            ),
        ],
    ),
    tracks(
        4,
        &[(
            "CLIENT TRACKING (ON | OFF | x) *( BCAST | OPTIN | OPTOUT | PREFIX <prefix> | NOLOOP )",
            Exact,
        )],
    ),
    tracks(2, &[("CLIENT TRACKING ON REDIRECT (0 | -1 | abc)", Exact)]),
    tracks(8, &[("CLIENT TRACKING OFF", Exact)]),
    tracks(
        12,
        &[
            ("CLIENT CACHING (YES | NO)", Exact),
            ("(GET | TYPE) <fk>", Exact),
        ],
    ),
    tracks(4, &[("CLIENT CACHING (YES | NO | x)", Exact)]),
    tracks(6, &[("CLIENT TRACKINGINFO", Exact)]),
    tracks(6, &[("CLIENT GETREDIR", Exact)]),
    tracks(10, &[("SUBSCRIBE __redis__:invalidate", Exact)]),
    tracks(3, &[("UNSUBSCRIBE __redis__:invalidate", Exact)]),
    tracks(40, &[("(GET | TYPE | TTL | STRLEN) <fk>", Exact)]),
    tracks(15, &[("(MGET | EXISTS) { <fk> }", Exact)]),
    tracks(8, &[("LRANGE <fl> 0 -1", Exact)]),
    tracks(8, &[("ZRANGE <fz> 0 -1", Exact)]),
    tracks(
        8,
        &[
            ("MULTI", Exact),
            ("GET <fk>", Exact),
            ("SET <fk> <fe>", Exact),
            ("GET <fk>", Exact),
            ("EXEC", Exact),
        ],
    ),
    tracks(
        4,
        &[
            ("CLIENT CACHING YES", Exact),
            ("MULTI", Exact),
            ("GET <fk>", Exact),
            ("EXEC", Exact),
        ],
    ),
    tracks(2, &[("RESET", Exact), ("SELECT 11", Exact)]),
    tracks(1, &[("CLIENT KILL ID <peer>", Exact)]),
    tracks(3, &[("HELLO (2 | 3)", Hello)]),
];
