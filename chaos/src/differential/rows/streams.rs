//! Streams. Ids are always said, never made from the clock, and are the same on both sides.
//!
//! Consumers are made whenever they are named since 7.2, before that only when they got an entry: what makes or
//! shows them is played with 7.2. Limits of nodes are set on a connection of their own: a core reads them once a
//! turn, and what came before in the same pipeline may still be on its way to it.

use super::super::catalogue::{Place, Row};
use super::super::rule::Rule::{Exact, Times};
use super::{newer, placed, row};

pub(super) const STREAM: &[Row] = &[
    row(60, &[("XADD <stream> <newid> { <field> <val> }", Exact)]),
    row(
        40,
        &[(
            "XADD <stream> 9-* (f <val> | f <val> g <val> | g <small>)",
            Exact,
        )],
    ),
    row(
        24,
        &[(
            "XADD <stream> *( (MAXLEN | MAXLEN = | MAXLEN ~) <count> | NOMKSTREAM ) <newid> { <field> <val> }",
            Exact,
        )],
    ),
    row(
        16,
        &[(
            "XADD <stream> *( NOMKSTREAM | MINID [ ~ ] <id> ) <newid> { <field> <val> }",
            Exact,
        )],
    ),
    row(
        8,
        &[(
            "XADD <stream> *( (MAXLEN ~ <count> | MINID ~ <id>) | LIMIT <count> ) <newid> f <val>",
            Exact,
        )],
    ),
    row(8, &[("XLEN <stream>", Exact)]),
    row(
        20,
        &[(
            "XRANGE <stream> <idbound> <idbound> [ COUNT <count> ]",
            Exact,
        )],
    ),
    row(6, &[("XRANGE <stream> - +", Exact)]),
    row(
        20,
        &[(
            "XREVRANGE <stream> <idbound> <idbound> [ COUNT <count> ]",
            Exact,
        )],
    ),
    row(6, &[("XREVRANGE <stream> + - [ COUNT <count> ]", Exact)]),
    row(20, &[("XDEL <stream> { <id> }", Exact)]),
    row(4, &[("DEL <stream>", Exact)]),
    row(12, &[("XTRIM <stream> MAXLEN [ (= | ~) ] <small>", Exact)]),
    row(12, &[("XTRIM <stream> MINID [ (= | ~) ] <id>", Exact)]),
    row(
        8,
        &[(
            "XTRIM <stream> (MAXLEN ~ <small> | MINID ~ <id>) [ LIMIT <count> ]",
            Exact,
        )],
    ),
    row(
        2,
        &[(
            "XTRIM <stream> *( MAXLEN <count> | MINID <id> | LIMIT <count> )",
            Exact,
        )],
    ),
    // Before 7.2 what was deleted was not looked at.
    newer(
        Place::Anywhere,
        6,
        &[(
            "XSETID <stream> <id> *( ENTRIESADDED <count> | MAXDELETEDID <id> )",
            Exact,
        )],
    ),
    // Before 7.2 what was deleted was not looked at.
    newer(
        Place::Anywhere,
        8,
        &[(
            "XSETID <stream> (9-250 | 9-400 | <id>) [ ENTRIESADDED <small> ]",
            Exact,
        )],
    ),
    row(
        20,
        &[("XREAD [ COUNT <count> ] STREAMS <stream> <id>", Exact)],
    ),
    row(
        12,
        &[(
            "XREAD [ COUNT <count> ] STREAMS <stream> <stream> <id> (<id> | $)",
            Exact,
        )],
    ),
    row(
        4,
        &[(
            "XREAD *( COUNT <count> | NOACK | GROUP <group> <consumer> ) STREAMS <stream> (<id> | >)",
            Exact,
        )],
    ),
    placed(
        Place::Transaction,
        10,
        &[(
            "XREAD *( COUNT <count> | BLOCK <pcount> ) STREAMS <stream> (<id> | $)",
            Exact,
        )],
    ),
    newer(
        Place::Transaction,
        10,
        &[(
            "XREADGROUP GROUP <group> <consumer> *( COUNT <count> | BLOCK <pcount> | NOACK ) STREAMS <stream> (<id> | >)",
            Exact,
        )],
    ),
    newer(
        Place::Anywhere,
        50,
        &[(
            "XREADGROUP GROUP <group> <consumer> *( COUNT <count> | NOACK ) STREAMS <stream> >",
            Exact,
        )],
    ),
    newer(
        Place::Anywhere,
        12,
        &[(
            "XREADGROUP GROUP <group> <consumer> [ COUNT <count> ] STREAMS <stream> <id>",
            Exact,
        )],
    ),
    newer(
        Place::Anywhere,
        6,
        &[(
            "XREADGROUP *( GROUP <group> <consumer> | COUNT <count> | NOACK ) STREAMS <stream> <stream> (> | <id> | $) >",
            Exact,
        )],
    ),
    row(
        30,
        &[(
            "XGROUP CREATE <stream> <group> (<id> | $ | 0) *( MKSTREAM | ENTRIESREAD <small> )",
            Exact,
        )],
    ),
    row(
        6,
        &[(
            "XGROUP SETID <stream> <group> (<id> | $ | 0) [ ENTRIESREAD <small> ]",
            Exact,
        )],
    ),
    row(3, &[("XGROUP DESTROY <stream> <group>", Exact)]),
    newer(
        Place::Anywhere,
        8,
        &[("XGROUP CREATECONSUMER <stream> <group> <consumer>", Exact)],
    ),
    newer(
        Place::Anywhere,
        4,
        &[("XGROUP DELCONSUMER <stream> <group> <consumer>", Exact)],
    ),
    row(16, &[("XACK <stream> <group> { <id> }", Exact)]),
    row(10, &[("XPENDING <stream> <group>", Exact)]),
    row(
        16,
        &[(
            "XPENDING <stream> <group> [ IDLE <minidle> ] <idbound> <idbound> <count> [ <consumer> ]",
            Times,
        )],
    ),
    newer(
        Place::Anywhere,
        16,
        &[(
            "XCLAIM <stream> <group> <consumer> <minidle> { <id> } *( IDLE 86400000 | TIME 1000 | RETRYCOUNT <count> | FORCE | JUSTID | LASTID <id> )",
            Exact,
        )],
    ),
    newer(
        Place::Anywhere,
        12,
        &[(
            "XCLAIM <stream> <group> <consumer> 0 { <id> } FORCE *( IDLE <small> | TIME <small> | RETRYCOUNT <small> | JUSTID )",
            Exact,
        )],
    ),
    newer(
        Place::Anywhere,
        16,
        &[(
            "XAUTOCLAIM <stream> <group> <consumer> <minidle> <idbound> *( COUNT <pcount> | JUSTID )",
            Exact,
        )],
    ),
    row(10, &[("XINFO STREAM <stream>", Times)]),
    newer(
        Place::Anywhere,
        10,
        &[("XINFO STREAM <stream> FULL [ COUNT <count> ]", Times)],
    ),
    row(10, &[("XINFO GROUPS <stream>", Exact)]),
    newer(
        Place::Anywhere,
        10,
        &[("XINFO CONSUMERS <stream> <group>", Times)],
    ),
    placed(
        Place::Scratch,
        2,
        &[("CONFIG SET !stream-node-max-entries <nodeentries>", Exact)],
    ),
    placed(
        Place::Scratch,
        2,
        &[("CONFIG SET !stream-node-max-bytes <nodebytes>", Exact)],
    ),
    row(4, &[("COPY <stream> <stream> [ REPLACE ]", Exact)]),
    row(2, &[("RENAME <stream> <stream>", Exact)]),
    row(2, &[("OBJECT ENCODING <stream>", Exact)]),
];
