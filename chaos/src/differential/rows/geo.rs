//! Positions on earth.

use super::super::catalogue::Row;
use super::super::rule::Rule::Exact;
use super::row;

pub(super) const GEO: &[Row] = &[
    row(30, &[("GEOADD <geo> {+ <lon> <lat> <member> }", Exact)]),
    row(
        24,
        &[(
            "GEOADD <geo> *( (NX | XX) | CH ) { <lon> <lat> <member> }",
            Exact,
        )],
    ),
    row(
        2,
        &[("GEOADD <geo> *( NX | XX | CH ) { <lon> <member> }", Exact)],
    ),
    row(
        14,
        &[(
            "GEODIST <geo> <member> <member> [ (!m | !km | !ft | !mi) ]",
            Exact,
        )],
    ),
    row(1, &[("GEODIST <geo> <member> <member> { <junk> }", Exact)]),
    row(10, &[("GEOHASH <geo> { <member> }", Exact)]),
    row(10, &[("GEOPOS <geo> { <member> }", Exact)]),
    row(
        30,
        &[(
            "GEORADIUS <geo> <lon> <lat> <radius> <unit> *( WITHCOORD | WITHDIST | WITHHASH | COUNT <pcount> [ ANY ] | (ASC | DESC) )",
            Exact,
        )],
    ),
    row(
        12,
        &[(
            "GEORADIUS <geo> <lon> <lat> <radius> <unit> *( COUNT <pcount> [ ANY ] | (ASC | DESC) | (STORE <geo:to> | STOREDIST <zset:to>) )",
            Exact,
        )],
    ),
    row(
        20,
        &[(
            "GEORADIUS_RO <geo> <lon> <lat> <radius> <unit> *( WITHCOORD | WITHDIST | WITHHASH | COUNT <pcount> [ ANY ] | (ASC | DESC) )",
            Exact,
        )],
    ),
    row(
        20,
        &[(
            "GEORADIUSBYMEMBER <geo> <member> <radius> <unit> *( WITHCOORD | WITHDIST | WITHHASH | COUNT <pcount> [ ANY ] | (ASC | DESC) )",
            Exact,
        )],
    ),
    row(
        12,
        &[(
            "GEORADIUSBYMEMBER <geo> <member> <radius> <unit> *( COUNT <pcount> [ ANY ] | (ASC | DESC) | (STORE <geo:to> | STOREDIST <zset:to>) )",
            Exact,
        )],
    ),
    row(
        20,
        &[(
            "GEORADIUSBYMEMBER_RO <geo> <member> <radius> <unit> *( WITHCOORD | WITHDIST | WITHHASH | COUNT <pcount> [ ANY ] | (ASC | DESC) )",
            Exact,
        )],
    ),
    row(
        4,
        &[(
            "GEORADIUS <geo> <lon> <lat> <radius> <unit> *( WITHDIST | STORE <geo:to> | STOREDIST <geo:to> | COUNT <count> | ANY | <junk> )",
            Exact,
        )],
    ),
    row(
        60,
        &[(
            "GEOSEARCH <geo> (FROMMEMBER <member> | FROMLONLAT <lon> <lat>) (BYRADIUS <radius> <unit> | BYBOX <radius> <radius> <unit>) *( WITHCOORD | WITHDIST | WITHHASH | COUNT <pcount> [ ANY ] | (ASC | DESC) )",
            Exact,
        )],
    ),
    row(
        24,
        &[(
            "GEOSEARCHSTORE <geo:to> <geo> (FROMMEMBER <member> | FROMLONLAT <lon> <lat>) (BYRADIUS <radius> <unit> | BYBOX <radius> <radius> <unit>) *( COUNT <pcount> [ ANY ] | (ASC | DESC) )",
            Exact,
        )],
    ),
    row(
        8,
        &[(
            "GEOSEARCHSTORE <zset:to> <geo> FROMMEMBER <member> (BYRADIUS <radius> <unit> | BYBOX <radius> <radius> <unit>) *( COUNT <pcount> [ ANY ] | STOREDIST )",
            Exact,
        )],
    ),
    row(
        6,
        &[(
            "GEOSEARCH <geo> *( FROMMEMBER <member> | FROMLONLAT <lon> <lat> | BYRADIUS <radius> <unit> | BYBOX <radius> <radius> <unit> | WITHDIST | COUNT <count> | ANY | ASC )",
            Exact,
        )],
    ),
    row(
        4,
        &[(
            "GEOSEARCHSTORE <geo:to> <geo> *( FROMMEMBER <member> | FROMLONLAT <lon> <lat> | BYRADIUS <radius> <unit> | BYBOX <radius> <radius> <unit> | WITHDIST | STOREDIST )",
            Exact,
        )],
    ),
    row(6, &[("ZREM <geo> { <member> }", Exact)]),
    row(4, &[("ZADD <geo> { <score> <member> }", Exact)]),
    row(6, &[("ZCARD <geo>", Exact)]),
    row(2, &[("DEL <geo>", Exact)]),
    row(1, &[("SET <geo> <val>", Exact)]),
];
