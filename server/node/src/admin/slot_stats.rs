//! CLUSTER SLOT-STATS: what is known of single slots.
//!
//! That is how many keys they have. Processor time and bytes of requests are not kept by slot: each request would pay for it.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, number};
use storage::{SLOTS, Slot};

use crate::admin::cluster::enabled;
use crate::admin::peek::Peek;
use crate::admin::{Context, Done, NodeCommand};
use crate::gather::Join;
use crate::mail::Ask;

pub(super) const COMMANDS: &[NodeCommand] = &[NodeCommand {
    spec: Spec {
        name: "cluster|slot-stats",
        summary: "Tells how many keys slots have.",
        since: "8.2.0",
        arity: Arity::at_least(4),
        group: Group::Cluster,
        flags: Flags::LOADING.and(Flags::STALE),
        acl: Acl::SLOW,
        keys: &[],
        range: (0, 0, 0),
        tips: &["nondeterministic_output", "request_policy:all_shards"],
        deprecated_since: None,
    },
    run: Some(slot_stats),
}];

/// How slots are put in order, and how many are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// All, by number.
    Number,
    /// So many of them, those with the fewest keys first.
    Fewest(usize),
    /// So many of them, those with the most keys first.
    Most(usize),
}

fn slot_stats(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let (mut first, mut last, order) = if args.keyword("SLOTSRANGE") && args.left() == 2 {
        let (first, last) = (slot(&mut args)?, slot(&mut args)?);
        if first > last {
            let text =
                format!("ERR Start slot number {first} is greater than end slot number {last}");
            return Err(Refusal::Owned(text.into()).into());
        }
        (first, last, Order::Number)
    } else if args.keyword("ORDERBY") {
        (0, SLOTS as u16 - 1, order(&mut args)?)
    } else {
        return Err(Refusal::subcommand_syntax(&args).into());
    };
    if cx.conn.own_port {
        // By its own port a core speaks for itself.
        let range = cx.core.node.range(cx.core.id);
        first = first.max(range.start as u16);
        last = last.min(range.end.saturating_sub(1) as u16);
    }
    let peek = Peek::SlotStats(Slot(first), Slot(last));
    Ok(Done::Ask(Ask::Peek(peek), Join::SlotStats(order)))
}

fn slot(args: &mut Args<'_>) -> Result<u16, Refusal> {
    let number = number::parse_i64(args.bytes()?).and_then(|number| u16::try_from(number).ok());
    number
        .filter(|number| usize::from(*number) < SLOTS)
        .ok_or(Refusal::Text("ERR Invalid or out of range slot"))
}

/// `metric [LIMIT count] [ASC|DESC]`
fn order(args: &mut Args<'_>) -> Result<Order, Refusal> {
    if !args.keyword("KEY-COUNT") {
        let text = "ERR Unrecognized sort metric for ORDERBY.";
        return Err(Refusal::Text(text));
    }
    let (mut limit, mut ascending) = (None, None);
    while args.left() > 0 {
        if limit.is_none() && args.left() > 1 && args.keyword("LIMIT") {
            let count =
                number::parse_i64(args.bytes()?).and_then(|count| usize::try_from(count).ok());
            limit = count.filter(|count| (1..=SLOTS).contains(count));
            if limit.is_none() {
                let text = "ERR Limit has to lie in between 1 and 16384 (maximum number of slots).";
                return Err(Refusal::Text(text));
            }
        } else if ascending.is_none() && args.keyword("ASC") {
            ascending = Some(true);
        } else if ascending.is_none() && args.keyword("DESC") {
            ascending = Some(false);
        } else {
            return Err(Refusal::Syntax);
        }
    }
    let limit = limit.unwrap_or(SLOTS);
    Ok(if ascending == Some(true) {
        Order::Fewest(limit)
    } else {
        Order::Most(limit)
    })
}

/// A slot and its keys, as a part of the reply: ten bytes, little-endian.
pub(super) fn encode(slot: Slot, keys: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&slot.0.to_le_bytes());
    out.extend_from_slice(&(keys as u64).to_le_bytes());
}

/// The reply of all cores.
pub(crate) fn join<'a>(parts: impl Iterator<Item = &'a [u8]>, order: Order, reply: &mut Reply<'_>) {
    let records = parts.flat_map(|part| part.chunks_exact(10));
    let mut slots: Vec<(u16, u64)> = records
        .filter_map(|record| {
            let (slot, keys) = record.split_first_chunk::<2>()?;
            Some((
                u16::from_le_bytes(*slot),
                u64::from_le_bytes(keys.try_into().ok()?),
            ))
        })
        .collect();
    // (The parts are in the order of the cores, so of the slots: those with as many keys stay so.)
    match order {
        Order::Number => {}
        Order::Fewest(limit) => {
            slots.sort_by_key(|(_, keys)| *keys);
            slots.truncate(limit);
        }
        Order::Most(limit) => {
            slots.sort_by_key(|(_, keys)| core::cmp::Reverse(*keys));
            slots.truncate(limit);
        }
    }
    reply.array(slots.len());
    for (slot, keys) in slots {
        reply.array(2);
        reply.int(i64::from(slot));
        reply.map(1);
        reply.bulk(b"key-count");
        reply.int(keys as i64);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn slots_by_number_and_by_keys() {
        for cores in [1, 2] {
            let mut bench = Bench::with(cores, |config| config.cluster_enabled = true);
            let client = bench.connect(0);
            // Slots 15495 and 3300.
            for key in ["{a}1", "{a}2", "{b}1"] {
                bench.call(client, &format!("SET {key} x"));
            }
            let one = |slot: u16, keys: u8| {
                format!("*2\r\n:{slot}\r\n*2\r\n$9\r\nkey-count\r\n:{keys}\r\n")
            };
            let cases = [
                ("SLOTSRANGE 3299 3300", vec![one(3299, 0), one(3300, 1)]),
                (
                    "ORDERBY key-count LIMIT 3",
                    vec![one(15495, 2), one(3300, 1), one(0, 0)],
                ),
                ("ORDERBY KEY-COUNT asc LIMIT 2", vec![one(0, 0), one(1, 0)]),
            ];
            for (request, slots) in cases {
                let expected = format!("*{}\r\n{}", slots.len(), slots.concat());
                assert_eq!(
                    bench.call(client, &format!("CLUSTER SLOT-STATS {request}")),
                    expected
                );
            }
            let cases = [
                (
                    "SLOTSRANGE 1 0",
                    "Start slot number 1 is greater than end slot number 0",
                ),
                ("SLOTSRANGE 0 16384", "Invalid or out of range slot"),
                ("ORDERBY cpu-usec", "Unrecognized sort metric for ORDERBY."),
                (
                    "ORDERBY key-count LIMIT 0",
                    "Limit has to lie in between 1 and 16384 (maximum number of slots).",
                ),
                ("ORDERBY key-count ASC DESC", "syntax error"),
                (
                    "NOTHING 0 1",
                    "unknown subcommand or wrong number of arguments for 'SLOT-STATS'. Try CLUSTER HELP.",
                ),
            ];
            for (request, error) in cases {
                let request = match request {
                    "ORDERBY cpu-usec" => "ORDERBY cpu-usec ASC",
                    request => request,
                };
                assert_eq!(
                    bench.call(client, &format!("CLUSTER SLOT-STATS {request}")),
                    format!("-ERR {error}\r\n")
                );
            }
            let all = bench.call(client, "CLUSTER SLOT-STATS SLOTSRANGE 0 16383");
            assert!(all.starts_with("*16384\r\n"));
            let own = bench.connect_own(0);
            let own = bench.call(own, "CLUSTER SLOT-STATS SLOTSRANGE 0 16383");
            assert!(own.starts_with(&format!("*{}\r\n", 16384 / cores)));
        }
    }
}
