//! The tables of commands. Weights are relative within a place; `--report` shows what came of them.

mod acl;
mod collections;
mod general;
mod geo;
mod hyperloglog;
mod lockstep;
mod scripting;
mod streams;
mod strings;
mod zsets;

pub(super) use acl::RULES as ACL_RULES;

use super::catalogue::{Place, Row};
use super::rule::Rule;

/// A row of one request, compared exactly, for any place.
const fn row(weight: u32, requests: &'static [(&'static str, Rule)]) -> Row {
    placed(Place::Anywhere, weight, requests)
}

/// A row with its place.
const fn placed(place: Place, weight: u32, requests: &'static [(&'static str, Rule)]) -> Row {
    Row {
        weight,
        place,
        requests,
        since_7_2: false,
    }
}

/// A row that 7.0 does not know.
const fn newer(place: Place, weight: u32, requests: &'static [(&'static str, Rule)]) -> Row {
    Row {
        weight,
        place,
        requests,
        since_7_2: true,
    }
}

/// The rows of a group, none for an unknown one.
pub(super) fn of_group(group: &str) -> &'static [Row] {
    match group {
        "string" => strings::STRING,
        "bitmap" => strings::BITMAP,
        "generic" => general::GENERIC,
        "connection" => general::CONNECTION,
        "server" => general::SERVER,
        "transactions" => general::TRANSACTIONS,
        "list" => collections::LIST,
        "set" => collections::SET,
        "hash" => collections::HASH,
        "zset" => zsets::ZSET,
        "acl" => acl::ACL,
        "geo" => geo::GEO,
        "hyperloglog" => hyperloglog::HYPERLOGLOG,
        "stream" => streams::STREAM,
        "scripting" => scripting::SCRIPTING,
        "blocking" => lockstep::BLOCKING,
        "pubsub" => lockstep::PUBSUB,
        "tracking" => lockstep::TRACKING,
        "interleaving" => lockstep::INTERLEAVING,
        _ => &[],
    }
}
