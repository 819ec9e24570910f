//! Strings and bitmaps.

use super::super::catalogue::Row;
use super::super::rule::Rule::Exact;
use super::row;

pub(super) const STRING: &[Row] = &[
    row(10, &[("APPEND <str> <val>", Exact)]),
    row(8, &[("DECR <str>", Exact)]),
    row(8, &[("DECRBY <str> <int>", Exact)]),
    row(20, &[("GET <str>", Exact)]),
    row(4, &[("GETDEL <str>", Exact)]),
    row(
        34,
        &[(
            "GETEX <str> [ (EX <sec> | PX <ms> | EXAT <at> | PXAT <atms> | PERSIST) ]",
            Exact,
        )],
    ),
    row(
        2,
        &[("GETEX <str> *( EX <sec> | PX <ms> | PERSIST )", Exact)],
    ),
    row(8, &[("GETRANGE <str> <idx> <idx>", Exact)]),
    row(8, &[("GETSET <str> <val>", Exact)]),
    row(12, &[("INCR <str>", Exact)]),
    row(12, &[("INCRBY <str> <int>", Exact)]),
    row(12, &[("INCRBYFLOAT <str> <float>", Exact)]),
    row(
        10,
        &[(
            "LCS <str> <str> *( LEN | IDX | MINMATCHLEN <idx> | WITHMATCHLEN )",
            Exact,
        )],
    ),
    row(
        6,
        &[(
            "LCS <str> <str> IDX *( MINMATCHLEN <small> | WITHMATCHLEN )",
            Exact,
        )],
    ),
    row(10, &[("MGET { <str> }", Exact)]),
    row(8, &[("MSET { <str> <val> }", Exact)]),
    row(6, &[("MSETNX { <str> <val> }", Exact)]),
    row(5, &[("PSETEX <str> <ms> <val>", Exact)]),
    row(20, &[("SET <str> <val>", Exact)]),
    row(
        42,
        &[
            (
                "SET <str> <val> *( (EX <sec> | PX <ms> | EXAT <at> | PXAT <atms> | KEEPTTL) | (NX | XX) | GET )",
                Exact,
            ),
            ("TYPE <same>", Exact),
        ],
    ),
    row(
        2,
        &[
            (
                "SET <str> <val> *( EX <sec> | PX <ms> | EXAT <at> | KEEPTTL | NX | XX | GET )",
                Exact,
            ),
            ("TYPE <same>", Exact),
        ],
    ),
    row(5, &[("SETEX <str> <sec> <val>", Exact)]),
    row(6, &[("SETNX <str> <val>", Exact)]),
    row(8, &[("SETRANGE <str> <off> <val>", Exact)]),
    row(6, &[("STRLEN <str>", Exact)]),
    row(5, &[("SUBSTR <str> <idx> <idx>", Exact)]),
];

pub(super) const BITMAP: &[Row] = &[
    row(8, &[("BITCOUNT <bit> [ <idx> <idx> ]", Exact)]),
    row(10, &[("BITCOUNT <bit> <idx> <idx> (BYTE | BIT)", Exact)]),
    row(2, &[("BITCOUNT <str> <idx>", Exact)]),
    row(
        12,
        &[(
            "BITFIELD <bit> { ( GET <bittype> <bitfieldoff> | SET <bittype> <bitfieldoff> <int> | INCRBY <bittype> <bitfieldoff> <int> ) }",
            Exact,
        )],
    ),
    row(
        16,
        &[(
            "BITFIELD <bit> { [ OVERFLOW (WRAP | SAT | FAIL) ] ( GET <bittype> <bitfieldoff> | SET <bittype> <bitfieldoff> <int> | INCRBY <bittype> <bitfieldoff> <int> ) }",
            Exact,
        )],
    ),
    row(1, &[("BITFIELD <bit> OVERFLOW <junk>", Exact)]),
    row(
        8,
        &[("BITFIELD_RO <bit> { GET <bittype> <bitfieldoff> }", Exact)],
    ),
    row(
        2,
        &[(
            "BITFIELD_RO <bit> (GET <bittype> <bitfieldoff> | set u8 0 1 | incrby u8 0 1 | overflow sat)",
            Exact,
        )],
    ),
    row(
        14,
        &[("BITOP (AND | OR | XOR | NOT) <bit:to> { <bit> }", Exact)],
    ),
    row(6, &[("BITOP NOT <bit:to> <bit>", Exact)]),
    row(10, &[("BITPOS <bit> <bit01> [ <idx> ]", Exact)]),
    row(
        15,
        &[("BITPOS <bit> <bit01> <idx> <idx> [ (BYTE | BIT) ]", Exact)],
    ),
    row(10, &[("GETBIT <bit> <bitoff>", Exact)]),
    row(14, &[("SETBIT <bit> <bitoff> <bit01>", Exact)]),
];
