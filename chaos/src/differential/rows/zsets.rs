//! Sorted sets.

use super::super::catalogue::{Place, Row};
use super::super::rule::Pick::{Members, Pairs};
use super::super::rule::Rule::{Exact, PairBag, Pick};
use super::{newer, placed, row};

pub(super) const ZSET: &[Row] = &[
    row(20, &[("ZADD <zset> {+ <score> <member> }", Exact)]),
    row(
        24,
        &[(
            "ZADD <zset> *( (NX | XX) | CH ) { <score> <member> }",
            Exact,
        )],
    ),
    row(
        24,
        &[(
            "ZADD <zset> *( XX | (GT | LT) | CH ) { <score> <member> }",
            Exact,
        )],
    ),
    row(
        14,
        &[(
            "ZADD <zset> *( (NX | XX) | CH ) INCR <score> <member>",
            Exact,
        )],
    ),
    row(
        4,
        &[(
            "ZADD <zset> *( NX | XX | GT | LT | CH | INCR ) { <score> <member> }",
            Exact,
        )],
    ),
    row(4, &[("ZADD <zset> {+ <small> <small> }", Exact)]),
    row(8, &[("ZADD <nums> {+ <small> <small> }", Exact)]),
    // The order by text is only defined if all scores are equal, so it has keys of its own.
    row(
        12,
        &[(
            "ZADD <lexkey> 0 <member> 0 <member> 0 <member> 0 <member>",
            Exact,
        )],
    ),
    row(4, &[("ZADD <lexkey> 0 <member>", Exact)]),
    row(3, &[("ZREM <lexkey> { <member> }", Exact)]),
    row(1, &[("SET <lexkey> <val>", Exact)]),
    row(2, &[("DEL <lexkey>", Exact)]),
    row(
        2,
        &[("ZRANGESTORE <lexkey> <lexkey> <lex> <lex> BYLEX", Exact)],
    ),
    row(8, &[("ZCARD <zset>", Exact)]),
    row(8, &[("ZCOUNT <zset> <scorebound> <scorebound>", Exact)]),
    row(10, &[("ZDIFF <n:zset> [ WITHSCORES ]", Exact)]),
    row(8, &[("ZDIFFSTORE <zset:to> <n:zset>", Exact)]),
    row(10, &[("ZINCRBY <zset> <score> <member>", Exact)]),
    row(
        30,
        &[(
            "ZINTER <n:zset> *( WEIGHTS <weights> | AGGREGATE (SUM | MIN | MAX) | WITHSCORES )",
            Exact,
        )],
    ),
    row(10, &[("ZINTERCARD <n:zset> [ LIMIT <count> ]", Exact)]),
    row(
        30,
        &[(
            "ZINTERSTORE <zset:to> <n:zset> *( WEIGHTS <weights> | AGGREGATE (SUM | MIN | MAX) )",
            Exact,
        )],
    ),
    row(10, &[("ZLEXCOUNT <lexkey> <lex> <lex>", Exact)]),
    row(
        12,
        &[("ZMPOP <n:zset> (MIN | MAX) [ COUNT <pcount> ]", Exact)],
    ),
    row(8, &[("ZMSCORE <zset> { <member> }", Exact)]),
    row(10, &[("ZPOPMAX <zset> [ <count> ]", Exact)]),
    row(10, &[("ZPOPMIN <zset> [ <count> ]", Exact)]),
    row(
        14,
        &[("ZRANGE <zset> <idx> <idx> *( REV | WITHSCORES )", Exact)],
    ),
    row(
        14,
        &[(
            "ZRANGE <zset> <scorebound> <scorebound> BYSCORE *( REV | LIMIT <skip> <count> | WITHSCORES )",
            Exact,
        )],
    ),
    row(
        14,
        &[(
            "ZRANGE <lexkey> <lex> <lex> BYLEX *( REV | LIMIT <skip> <count> )",
            Exact,
        )],
    ),
    row(
        8,
        &[(
            "ZRANGE <zset> -inf +inf BYSCORE *( LIMIT <skip> <count> | WITHSCORES )",
            Exact,
        )],
    ),
    row(
        8,
        &[(
            "ZRANGE <zset> +inf -inf BYSCORE REV *( LIMIT <skip> <count> | WITHSCORES )",
            Exact,
        )],
    ),
    row(
        8,
        &[(
            "ZREVRANGEBYSCORE <zset> +inf <scorebound> *( WITHSCORES | LIMIT <skip> <count> )",
            Exact,
        )],
    ),
    row(
        2,
        &[(
            "ZRANGE <zset> <idx> <idx> *( BYSCORE | BYLEX | REV | LIMIT <skip> <count> | WITHSCORES )",
            Exact,
        )],
    ),
    row(
        10,
        &[(
            "ZRANGEBYLEX <lexkey> <lex> <lex> [ LIMIT <skip> <count> ]",
            Exact,
        )],
    ),
    row(
        12,
        &[(
            "ZRANGEBYSCORE <zset> <scorebound> <scorebound> *( WITHSCORES | LIMIT <skip> <count> )",
            Exact,
        )],
    ),
    row(
        8,
        &[("ZRANGESTORE <zset:to> <zset> <idx> <idx> [ REV ]", Exact)],
    ),
    row(
        12,
        &[(
            "ZRANGESTORE <zset:to> <zset> <scorebound> <scorebound> BYSCORE *( REV | LIMIT <skip> <count> )",
            Exact,
        )],
    ),
    row(
        12,
        &[(
            "ZRANGESTORE <zset:to> <lexkey> <lex> <lex> BYLEX *( REV | LIMIT <skip> <count> )",
            Exact,
        )],
    ),
    row(8, &[("ZRANK <zset> <member>", Exact)]),
    row(7, &[("ZREM <zset> {+ <member> }", Exact)]),
    row(4, &[("ZREMRANGEBYLEX <lexkey> <lex> <lex>", Exact)]),
    row(4, &[("ZREMRANGEBYRANK <zset> <idx> <idx>", Exact)]),
    row(
        4,
        &[("ZREMRANGEBYSCORE <zset> <scorebound> <scorebound>", Exact)],
    ),
    row(
        10,
        &[("ZREVRANGE <zset> <idx> <idx> [ WITHSCORES ]", Exact)],
    ),
    row(
        10,
        &[(
            "ZREVRANGEBYLEX <lexkey> <lex> <lex> [ LIMIT <skip> <count> ]",
            Exact,
        )],
    ),
    row(
        12,
        &[(
            "ZREVRANGEBYSCORE <zset> <scorebound> <scorebound> *( WITHSCORES | LIMIT <skip> <count> )",
            Exact,
        )],
    ),
    row(8, &[("ZREVRANK <zset> <member>", Exact)]),
    row(8, &[("ZSCORE <zset> <member>", Exact)]),
    row(
        30,
        &[(
            "ZUNION <n:zset> *( WEIGHTS <weights> | AGGREGATE (SUM | MIN | MAX) | WITHSCORES )",
            Exact,
        )],
    ),
    row(
        30,
        &[(
            "ZUNIONSTORE <zset:to> <n:zset> *( WEIGHTS <weights> | AGGREGATE (SUM | MIN | MAX) )",
            Exact,
        )],
    ),
    row(
        2,
        &[(
            "ZUNIONSTORE <zset:to> 2 <zset> <set> *( WEIGHTS <weight> <weight> | AGGREGATE <junk> )",
            Exact,
        )],
    ),
    placed(
        Place::Plain,
        6,
        &[
            ("ZRANGE <zset> 0 -1", Exact),
            ("ZRANDMEMBER <same> [ <count> ]", Pick(Members)),
        ],
    ),
    placed(
        Place::Plain,
        8,
        &[
            ("ZRANGE <zset> 0 -1 WITHSCORES", Exact),
            ("ZRANDMEMBER <same> <count> WITHSCORES", Pick(Pairs)),
        ],
    ),
    placed(
        Place::Scan,
        10,
        &[(
            "ZSCAN <zset> 0 *( MATCH <glob> | COUNT <scancount> )",
            PairBag,
        )],
    ),
    row(1, &[("ZSCAN <zset> <nocursor>", Exact)]),
    placed(Place::Transaction, 4, &[("BZPOPMIN { <zset> } 0", Exact)]),
    placed(Place::Transaction, 4, &[("BZPOPMAX { <zset> } 0", Exact)]),
    placed(
        Place::Transaction,
        6,
        &[("BZMPOP 0 <n:zset> (MIN | MAX) [ COUNT <pcount> ]", Exact)],
    ),
    newer(
        Place::Anywhere,
        6,
        &[("ZRANK <zset> <member> WITHSCORE", Exact)],
    ),
    newer(
        Place::Anywhere,
        6,
        &[("ZREVRANK <zset> <member> WITHSCORE", Exact)],
    ),
];
