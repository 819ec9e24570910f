//! Commands on keys of any type, on the connection and on the server.

use super::super::catalogue::{Place, Row};
use super::super::rule::Pick::Members;
use super::super::rule::Rule::{
    AlphaOrder, Bag, Exact, Hello, Length, Milliseconds, PairBag, Pick, Positive, Seconds, Shape,
};
use super::{newer, placed, row};

pub(super) const GENERIC: &[Row] = &[
    row(6, &[("DUMP <any>", Shape)]),
    row(
        8,
        &[(
            "RESTORE <any> (0 | <ms>) <payload> *( REPLACE | IDLETIME <small> )",
            Exact,
        )],
    ),
    row(
        4,
        &[(
            "RESTORE <any> <atms> <payload> ABSTTL *( REPLACE | FREQ <small> )",
            Exact,
        )],
    ),
    row(
        1,
        &[(
            "RESTORE <any> (0 | -1 | abc) <payload> *( IDLETIME <small> | FREQ <small> | <junk> )",
            Exact,
        )],
    ),
    row(14, &[("COPY <any> <any> *( DB <db> | REPLACE )", Exact)]),
    row(1, &[("COPY <any> <any> DB <nodb>", Exact)]),
    row(6, &[("DEL <any>", Exact)]),
    row(2, &[("DEL { <any> }", Exact)]),
    row(8, &[("EXISTS { <any> }", Exact)]),
    row(27, &[("EXPIRE <any> <sec> [ (NX | XX | GT | LT) ]", Exact)]),
    row(
        27,
        &[("EXPIREAT <any> <at> [ (NX | XX | GT | LT) ]", Exact)],
    ),
    row(27, &[("PEXPIRE <any> <ms> [ (NX | XX | GT | LT) ]", Exact)]),
    row(
        27,
        &[("PEXPIREAT <any> <atms> [ (NX | XX | GT | LT) ]", Exact)],
    ),
    row(1, &[("EXPIRE <any> <sec> *( NX | XX | GT | LT )", Exact)]),
    row(
        2,
        &[("PEXPIREAT <any> <atms> *( NX | XX | GT | LT )", Exact)],
    ),
    row(8, &[("EXPIRETIME <any>", Seconds)]),
    row(8, &[("PEXPIRETIME <any>", Milliseconds)]),
    row(8, &[("PERSIST <any>", Exact)]),
    row(8, &[("TTL <any>", Seconds)]),
    row(8, &[("PTTL <any>", Milliseconds)]),
    row(4, &[("KEYS <glob>", Bag)]),
    row(4, &[("MOVE <any> <db>", Exact)]),
    row(1, &[("MOVE <any> <nodb>", Exact)]),
    row(10, &[("OBJECT ENCODING <any>", Exact)]),
    row(5, &[("OBJECT REFCOUNT <any>", Positive)]),
    row(5, &[("OBJECT IDLETIME <any>", Shape)]),
    // Integers up to 9999 are shared objects, idle since the server began: only a touch makes it sure.
    placed(
        Place::Plain,
        2,
        &[("TOUCH <any>", Exact), ("OBJECT IDLETIME <same>", Seconds)],
    ),
    row(4, &[("OBJECT FREQ <any>", Exact)]),
    row(4, &[("OBJECT HELP", Exact)]),
    row(4, &[("OBJECT <junk> <any>", Exact)]),
    placed(
        Place::Plain,
        4,
        &[("KEYS *", Bag), ("RANDOMKEY", Pick(Members))],
    ),
    row(4, &[("RENAME <any> <any>", Exact)]),
    row(4, &[("RENAMENX <any> <any>", Exact)]),
    placed(
        Place::Scan,
        16,
        &[(
            "SCAN 0 *( MATCH <glob> | COUNT <scancount> | TYPE (string | list | set | zset | hash | nosuch) )",
            Bag,
        )],
    ),
    row(
        2,
        &[(
            "SCAN <nocursor> *( MATCH <glob> | COUNT <scancount> )",
            Exact,
        )],
    ),
    row(
        2,
        &[("SCAN 0 (COUNT 0 | COUNT abc | MATCH | nosuch 1)", Exact)],
    ),
    // Numbers: ties are broken by comparing the members, so the order is defined.
    row(
        14,
        &[(
            "SORT <nums> *( (ASC | DESC) | LIMIT <skip> <count> | GET <get> | BY <by> | STORE <list:to> )",
            Exact,
        )],
    ),
    row(
        8,
        &[(
            "SORT_RO <nums> *( (ASC | DESC) | LIMIT <skip> <count> | GET <get> | BY <by> )",
            Exact,
        )],
    ),
    row(
        4,
        &[("SORT <any> *( (ASC | DESC) | LIMIT <skip> <count> )", Exact)],
    ),
    row(
        6,
        &[(
            "SORT <list> ALPHA *( (ASC | DESC) | LIMIT <skip> <count> | GET # )",
            AlphaOrder,
        )],
    ),
    row(
        6,
        &[(
            "SORT_RO <any> ALPHA *( (ASC | DESC) | LIMIT <skip> <count> | GET # )",
            AlphaOrder,
        )],
    ),
    // Stored, the order must be sure: members without NUL.
    placed(
        Place::Plain,
        3,
        &[
            ("DEL <nums>", Exact),
            ("RPUSH <same> {+ <small> }", Exact),
            (
                "SORT <same> ALPHA *( (ASC | DESC) | LIMIT <skip> <count> | STORE <list:to> )",
                Exact,
            ),
        ],
    ),
    // Equal or missing weights tie.
    row(
        4,
        &[("SORT <any> ALPHA BY <by> *( (ASC | DESC) | GET # )", Bag)],
    ),
    row(
        2,
        &[("SORT_RO <any> ALPHA BY <by> LIMIT <skip> <count>", Length)],
    ),
    // Not sorted at all: a set may come in any order.
    row(
        3,
        &[("SORT <any> BY nosort *( (ASC | DESC) | GET # )", Bag)],
    ),
    row(
        3,
        &[("SORT_RO <any> BY nosort LIMIT <skip> <count>", Length)],
    ),
    placed(
        Place::Plain,
        3,
        &[
            ("DEL <list>", Exact),
            ("RPUSH <same> {+ <member> }", Exact),
            (
                "SORT <same> BY nosort *( (ASC | DESC) | LIMIT <skip> <count> | GET # | STORE <list:to> )",
                Exact,
            ),
        ],
    ),
    placed(
        Place::Plain,
        3,
        &[
            ("DEL <zset>", Exact),
            ("ZADD <same> {+ <small> <member> }", Exact),
            (
                "SORT_RO <same> BY nosort *( (ASC | DESC) | LIMIT <skip> <count> )",
                Exact,
            ),
        ],
    ),
    row(10, &[("SET <weightkey> <step>", Exact)]),
    row(5, &[("TOUCH { <any> }", Exact)]),
    row(8, &[("TYPE <any>", Exact)]),
    row(4, &[("UNLINK <any>", Exact)]),
    row(1, &[("UNLINK { <any> }", Exact)]),
    // A deadline of the past: SET keeps the key until it is looked at, so TYPE looks at once.
    placed(
        Place::Plain,
        3,
        &[
            ("SET <any> <val> (EXAT <past> | PXAT <pastms>)", Exact),
            ("TYPE <same>", Exact),
        ],
    ),
];

pub(super) const TRANSACTIONS: &[Row] = &[
    row(2, &[("EXEC", Exact)]),
    row(2, &[("DISCARD", Exact)]),
    row(4, &[("UNWATCH", Exact)]),
];

pub(super) const CONNECTION: &[Row] = &[
    row(5, &[("ECHO <word>", Exact)]),
    row(8, &[("PING [ <word> ]", Exact)]),
    row(6, &[("SELECT <db>", Exact)]),
    row(2, &[("SELECT <nodb>", Exact)]),
    placed(Place::Plain, 4, &[("CLIENT ID", Shape)]),
    placed(Place::Scratch, 10, &[("ECHO <word>", Exact)]),
    placed(Place::Scratch, 10, &[("PING [ <word> ]", Exact)]),
    placed(Place::Scratch, 10, &[("SELECT <db>", Exact)]),
    placed(Place::Scratch, 10, &[("GET <str>", Exact)]),
    placed(Place::Scratch, 10, &[("SMEMBERS <set>", Bag)]),
    placed(Place::Scratch, 10, &[("HGETALL <hash>", PairBag)]),
    placed(Place::Scratch, 10, &[("ZSCORE <zset> <member>", Exact)]),
    placed(
        Place::Scratch,
        24,
        &[(
            "HELLO (!2 | !3) *( AUTH default any | SETNAME name1 )",
            Hello,
        )],
    ),
    placed(Place::Scratch, 8, &[("HELLO", Hello)]),
    placed(
        Place::Scratch,
        8,
        &[(
            "HELLO (1 | 4 | abc | 3 nosuch | 3 AUTH default | 3 AUTH nobody any | 3 SETNAME)",
            Hello,
        )],
    ),
    placed(Place::Scratch, 4, &[("HELLO 3 SETNAME <name>", Hello)]),
    placed(Place::Scratch, 10, &[("CLIENT ID", Shape)]),
    placed(Place::Scratch, 16, &[("CLIENT GETNAME", Exact)]),
    placed(Place::Scratch, 10, &[("CLIENT SETNAME <name>", Exact)]),
    placed(
        Place::Scratch,
        10,
        &[("CLIENT SETNAME (conn1 | conn2)", Exact)],
    ),
    placed(
        Place::Scratch,
        34,
        &[("CLIENT NO-EVICT (!ON | !OFF | x)", Exact)],
    ),
    placed(Place::Scratch, 10, &[("CLIENT GETREDIR", Exact)]),
    placed(Place::Scratch, 10, &[("CLIENT HELP", Exact)]),
    placed(Place::Scratch, 10, &[("CLIENT REPLY <junk>", Exact)]),
    placed(Place::Scratch, 10, &[("CLIENT <junk>", Exact)]),
    placed(Place::Scratch, 10, &[("AUTH <word>", Exact)]),
    placed(
        Place::Scratch,
        10,
        &[("AUTH (default | nobody) <word>", Exact)],
    ),
    placed(Place::Scratch, 10, &[("RESET", Exact)]),
    newer(
        Place::Scratch,
        34,
        &[("CLIENT NO-TOUCH (!ON | !OFF | x)", Exact)],
    ),
    newer(
        Place::Scratch,
        34,
        &[(
            "CLIENT SETINFO (!LIB-NAME | !LIB-VER | x) (meridian | 1.0)",
            Exact,
        )],
    ),
];

pub(super) const SERVER: &[Row] = &[
    row(6, &[("DBSIZE", Exact)]),
    row(3, &[("SWAPDB <db> <db>", Exact)]),
    row(1, &[("SWAPDB <db> <nodb>", Exact)]),
    row(4, &[("TIME", Shape)]),
    row(4, &[("LASTSAVE", Shape)]),
    row(4, &[("COMMAND COUNT", Shape)]),
    row(6, &[("COMMAND GETKEYS <request>", Exact)]),
    row(6, &[("COMMAND GETKEYSANDFLAGS <request>", Exact)]),
    row(8, &[("MEMORY USAGE <any> [ SAMPLES <pcount> ]", Shape)]),
    row(4, &[("MEMORY HELP", Exact)]),
    row(
        4,
        &[(
            "SLOWLOG (GET abc | GET -2 | GET 0 | GET 1 2 | LEN 1 | RESET)",
            Exact,
        )],
    ),
    row(2, &[("SLOWLOG <junk>", Exact)]),
    row(
        4,
        &[(
            "LATENCY (LATEST | HISTORY nosuch | RESET | RESET nosuch | GRAPH nosuch | HISTOGRAM nosuch | GRAPH)",
            Exact,
        )],
    ),
    row(2, &[("LATENCY <junk>", Exact)]),
    row(8, &[("LOLWUT [ VERSION (5 | 6) ]", Shape)]),
    row(
        26,
        &[(
            "CONFIG GET ( !hash-max-listpack-entries | !hash-max-listpack-value | !hash-max-ziplist-entries | !zset-max-listpack-entries | !zset-max-listpack-value | !list-max-listpack-size | !set-max-intset-entries | !list-compress-depth )",
            PairBag,
        )],
    ),
    row(
        20,
        &[(
            "CONFIG GET ( !databases | !maxmemory-policy | !maxmemory | !appendonly | !proto-max-bulk-len )",
            PairBag,
        )],
    ),
    row(
        3,
        &[(
            "CONFIG GET (nosuch | hash-max-* | hash-MAX-listpack-ENTRIES | databases databases)",
            PairBag,
        )],
    ),
    row(
        4,
        &[("CONFIG SET !hash-max-listpack-entries <entries>", Exact)],
    ),
    row(4, &[("CONFIG SET !hash-max-listpack-value <bytes>", Exact)]),
    row(4, &[("CONFIG SET !hash-max-ziplist-value <bytes>", Exact)]),
    row(
        4,
        &[("CONFIG SET !zset-max-listpack-entries <entries>", Exact)],
    ),
    row(4, &[("CONFIG SET !zset-max-listpack-value <bytes>", Exact)]),
    row(
        4,
        &[("CONFIG SET !list-max-listpack-size <listsize>", Exact)],
    ),
    row(
        4,
        &[("CONFIG SET !set-max-intset-entries <intsetentries>", Exact)],
    ),
    row(
        2,
        &[(
            "CONFIG SET (nosuch 1 | hash-max-listpack-entries abc | hash-max-listpack-entries -1 | databases 3)",
            Exact,
        )],
    ),
    row(
        2,
        &[(
            "CONFIG SET hash-max-listpack-entries 64 zset-max-listpack-entries 64",
            Exact,
        )],
    ),
    row(4, &[("CONFIG <junk>", Exact)]),
    // (Without it a passed key counts in DBSIZE until a write meets it here, until anything meets it in Redis.)
    row(4, &[("DEBUG SET-ACTIVE-EXPIRE 1", Exact)]),
    placed(
        Place::Burst,
        10,
        &[("FLUSHALL [ (ASYNC | SYNC) ]", Exact), ("DBSIZE", Exact)],
    ),
    placed(
        Place::Burst,
        10,
        &[("FLUSHDB [ (ASYNC | SYNC) ]", Exact), ("DBSIZE", Exact)],
    ),
    placed(Place::Burst, 1, &[("FLUSHALL <junk>", Exact)]),
    placed(Place::Burst, 4, &[("SELECT <db>", Exact)]),
    placed(
        Place::Burst,
        10,
        &[
            ("RPUSH <list> {+ <member> }", Exact),
            ("SET <str> <val>", Exact),
        ],
    ),
    newer(
        Place::Anywhere,
        4,
        &[(
            "CONFIG SET !set-max-listpack-entries <listpackentries>",
            Exact,
        )],
    ),
    newer(
        Place::Anywhere,
        4,
        &[("CONFIG SET !set-max-listpack-value <bytes>", Exact)],
    ),
];
