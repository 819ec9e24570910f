//! Scripts and functions.

use super::super::catalogue::{Place, Row};
use super::super::rule::Rule::Exact;
use super::{placed, row};

pub(super) const SCRIPTING: &[Row] = &[
    row(60, &[("EVAL <libscript> 0 <val> <int> <float>", Exact)]),
    row(60, &[("EVAL <keyscript> 1 <any> <val> <int>", Exact)]),
    row(10, &[("EVAL_RO <keyscript> 1 <any> <val> <int>", Exact)]),
    row(15, &[("EVAL <badscript> 0 <val>", Exact)]),
    row(10, &[("EVAL <libscript> <idx> <val> <int>", Exact)]),
    row(5, &[("EVALSHA <name> 0", Exact)]),
    row(5, &[("EVALSHA_RO <shascript> <count>", Exact)]),
    row(
        20,
        &[
            ("SCRIPT LOAD <libscript>", Exact),
            ("EVALSHA <shascript> 0 <val> <int> <float>", Exact),
        ],
    ),
    row(5, &[("SCRIPT EXISTS <shascript> <name>", Exact)]),
    placed(
        Place::Plain,
        1,
        &[("SCRIPT FLUSH [ (ASYNC | SYNC | <junk>) ]", Exact)],
    ),
    row(2, &[("SCRIPT KILL", Exact)]),
    placed(
        Place::Plain,
        6,
        &[("FUNCTION LOAD [ REPLACE ] <library>", Exact)],
    ),
    row(25, &[("FCALL <function> 1 <any> <val> <int>", Exact)]),
    row(10, &[("FCALL_RO <function> 1 <any> <val> <int>", Exact)]),
    row(
        4,
        &[(
            "FUNCTION LIST *( (LIBRARYNAME lib1) | WITHCODE | <junk> )",
            Exact,
        )],
    ),
    row(4, &[("FUNCTION STATS", Exact)]),
    placed(
        Place::Plain,
        2,
        &[("FUNCTION DELETE ( lib1 | <name> )", Exact)],
    ),
    placed(
        Place::Plain,
        1,
        &[("FUNCTION FLUSH [ (ASYNC | SYNC) ]", Exact)],
    ),
    row(2, &[("FUNCTION KILL", Exact)]),
    row(2, &[("FUNCTION RESTORE <junk>", Exact)]),
];
