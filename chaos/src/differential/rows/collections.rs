//! Lists, sets and hashes.

use super::super::catalogue::{Place, Row};
use super::super::rule::Pick::{Members, Pairs};
use super::super::rule::Rule::{Bag, Exact, PairBag, Pick, Remains};
use super::{placed, row};

pub(super) const LIST: &[Row] = &[
    row(10, &[("LINDEX <list> <idx>", Exact)]),
    row(
        12,
        &[("LINSERT <list> (BEFORE | AFTER) <member> <member>", Exact)],
    ),
    row(1, &[("LINSERT <list> <junk> <member> <member>", Exact)]),
    row(8, &[("LLEN <list>", Exact)]),
    row(
        12,
        &[("LMOVE <list> <list> (LEFT | RIGHT) (LEFT | RIGHT)", Exact)],
    ),
    row(
        12,
        &[("LMPOP <n:list> (LEFT | RIGHT) [ COUNT <pcount> ]", Exact)],
    ),
    row(10, &[("LPOP <list> [ <count> ]", Exact)]),
    row(
        14,
        &[(
            "LPOS <list> <member> *( RANK <rank> | COUNT <count> | MAXLEN <count> )",
            Exact,
        )],
    ),
    row(16, &[("LPUSH <list> {+ <member> }", Exact)]),
    row(6, &[("LPUSHX <list> { <member> }", Exact)]),
    row(12, &[("LRANGE <list> <idx> <idx>", Exact)]),
    row(8, &[("LREM <list> <count> <member>", Exact)]),
    row(
        14,
        &[("LREM <list> (1 | -1 | 2 | -2 | 0) <repeated>", Exact)],
    ),
    row(6, &[("RPUSH <list> {+ <repeated> }", Exact)]),
    row(8, &[("LSET <list> <idx32> <member>", Exact)]),
    row(3, &[("LTRIM <list> <idx> <idx>", Exact)]),
    row(4, &[("LTRIM <list> (0 | 1 | -40) (-1 | 40 | -2)", Exact)]),
    row(10, &[("RPOP <list> [ <count> ]", Exact)]),
    row(8, &[("RPOPLPUSH <list> <list>", Exact)]),
    row(16, &[("RPUSH <list> {+ <member> }", Exact)]),
    row(8, &[("RPUSH <nums> {+ <small> }", Exact)]),
    row(6, &[("RPUSHX <list> { <member> }", Exact)]),
    placed(Place::Transaction, 4, &[("BLPOP { <list> } 0", Exact)]),
    placed(Place::Transaction, 4, &[("BRPOP { <list> } 0", Exact)]),
    placed(
        Place::Transaction,
        4,
        &[(
            "BLMOVE <list> <list> (LEFT | RIGHT) (LEFT | RIGHT) 0",
            Exact,
        )],
    ),
    placed(
        Place::Transaction,
        4,
        &[("BRPOPLPUSH <list> <list> 0", Exact)],
    ),
    placed(
        Place::Transaction,
        6,
        &[("BLMPOP 0 <n:list> (LEFT | RIGHT) [ COUNT <pcount> ]", Exact)],
    ),
];

pub(super) const SET: &[Row] = &[
    row(26, &[("SADD <set> {+ <member> }", Exact)]),
    row(8, &[("SADD <nums> {+ <small> }", Exact)]),
    row(6, &[("SCARD <set>", Exact)]),
    row(6, &[("SDIFF { <set> }", Bag)]),
    row(6, &[("SDIFFSTORE <set:to> { <set> }", Exact)]),
    row(6, &[("SINTER { <set> }", Bag)]),
    row(10, &[("SINTERCARD <n:set> [ LIMIT <count> ]", Exact)]),
    row(6, &[("SINTERSTORE <set:to> { <set> }", Exact)]),
    row(6, &[("SISMEMBER <set> <member>", Exact)]),
    row(8, &[("SMEMBERS <set>", Bag)]),
    row(6, &[("SMISMEMBER <set> { <member> }", Exact)]),
    row(8, &[("SMOVE <set> <set> <member>", Exact)]),
    row(7, &[("SREM <set> {+ <member> }", Exact)]),
    row(6, &[("SUNION { <set> }", Bag)]),
    row(6, &[("SUNIONSTORE <set:to> { <set> }", Exact)]),
    // SPOP leaves different remains on both sides: they are compared with what was there, then deleted.
    placed(
        Place::Plain,
        2,
        &[
            ("SMEMBERS <set>", Bag),
            ("SPOP <same>", Pick(Members)),
            ("SMEMBERS <same>", Remains),
            ("SCARD <same>", Exact),
            ("DEL <same>", Exact),
        ],
    ),
    placed(
        Place::Plain,
        2,
        &[
            ("SMEMBERS <set>", Bag),
            ("SPOP <same> <count>", Pick(Members)),
            ("SMEMBERS <same>", Remains),
            ("SCARD <same>", Exact),
            ("DEL <same>", Exact),
        ],
    ),
    // At least as many as there are: no choice, the same state.
    placed(Place::Plain, 1, &[("SPOP <set> 100000", Bag)]),
    placed(
        Place::Plain,
        8,
        &[
            ("SMEMBERS <set>", Bag),
            ("SRANDMEMBER <same> [ <count> ]", Pick(Members)),
        ],
    ),
    placed(
        Place::Scan,
        10,
        &[("SSCAN <set> 0 *( MATCH <glob> | COUNT <scancount> )", Bag)],
    ),
    row(1, &[("SSCAN <set> <nocursor>", Exact)]),
];

pub(super) const HASH: &[Row] = &[
    row(10, &[("HDEL <hash> {+ <field> }", Exact)]),
    row(6, &[("HEXISTS <hash> <field>", Exact)]),
    row(8, &[("HGET <hash> <field>", Exact)]),
    row(10, &[("HGETALL <hash>", PairBag)]),
    row(10, &[("HINCRBY <hash> <field> <int>", Exact)]),
    row(10, &[("HINCRBYFLOAT <hash> <field> <float>", Exact)]),
    row(6, &[("HKEYS <hash>", Bag)]),
    row(6, &[("HLEN <hash>", Exact)]),
    row(6, &[("HMGET <hash> { <field> }", Exact)]),
    row(6, &[("HMSET <hash> { <field> <val> }", Exact)]),
    row(20, &[("HSET <hash> {+ <field> <val> }", Exact)]),
    row(10, &[("HSET <hash> { <field> <step> }", Exact)]),
    row(6, &[("HSETNX <hash> <field> <val>", Exact)]),
    row(6, &[("HSTRLEN <hash> <field>", Exact)]),
    row(6, &[("HVALS <hash>", Bag)]),
    placed(
        Place::Plain,
        6,
        &[
            ("HKEYS <hash>", Bag),
            ("HRANDFIELD <same> [ <count> ]", Pick(Members)),
        ],
    ),
    placed(
        Place::Plain,
        8,
        &[
            ("HGETALL <hash>", PairBag),
            ("HRANDFIELD <same> <count> WITHVALUES", Pick(Pairs)),
        ],
    ),
    placed(
        Place::Scan,
        10,
        &[(
            "HSCAN <hash> 0 *( MATCH <glob> | COUNT <scancount> )",
            PairBag,
        )],
    ),
    row(1, &[("HSCAN <hash> <nocursor>", Exact)]),
];
