//! HyperLogLogs, and strings that are nearly some.

use super::super::catalogue::Row;
use super::super::rule::Rule::Exact;
use super::row;

pub(super) const HYPERLOGLOG: &[Row] = &[
    row(60, &[("PFADD <hll> {+ <element> }", Exact)]),
    row(20, &[("PFADD <hll> { <element> }", Exact)]),
    row(4, &[("PFADD <hll>", Exact)]),
    row(
        20,
        &[("PFADD <hll> { <element> }", Exact), ("GET <same>", Exact)],
    ),
    row(30, &[("PFCOUNT <hll>", Exact)]),
    row(
        10,
        &[("PFCOUNT <hll>", Exact), ("GETRANGE <same> 0 15", Exact)],
    ),
    row(16, &[("PFCOUNT { <hll> }", Exact)]),
    row(
        16,
        &[("PFMERGE <hll:to> { <hll> }", Exact), ("GET <same>", Exact)],
    ),
    row(6, &[("PFMERGE <hll>", Exact)]),
    row(6, &[("OBJECT ENCODING <hll>", Exact)]),
    row(4, &[("COPY <hll> <hll:to> REPLACE", Exact)]),
    row(3, &[("EXPIRE <hll> <sec>", Exact)]),
    row(3, &[("DEL <hll>", Exact)]),
    row(1, &[("SET <hll> <val>", Exact)]),
    row(1, &[("APPEND <hll> <val>", Exact)]),
];
