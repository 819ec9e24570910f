//! CLUSTER SLOT-STATS: what is known of single slots.
//!
//! That is how many keys they have, and, while `cluster-slot-stats-enabled` is on, what their requests have cost (see
//! `slot_counts.rs`). The owner of a slot tells its keys; every core tells what it has run for whose slots ever.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, number};
use storage::{SLOTS, Slot};

use crate::admin::cluster::enabled;
use crate::admin::peek::Peek;
use crate::admin::{Context, Done, NodeCommand};
use crate::core::Core;
use crate::gather::Join;
use crate::mail::Ask;
use crate::slot_counts::{self, SlotCount};

pub(super) const COMMANDS: &[NodeCommand] = &[NodeCommand {
    spec: Spec {
        name: "cluster|slot-stats",
        summary: "Tells how many keys slots have, and what their requests have cost.",
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

/// What is known of a slot: the names, in the order of the reply. The first is always told.
const METRICS: [&str; 4] = [
    "key-count",
    "cpu-usec",
    "network-bytes-in",
    "network-bytes-out",
];
/// Bytes of a slot in a part of the reply: its number, whether the part's core owns it, its metrics, little-endian.
const RECORD_BYTES: usize = 3 + 8 * METRICS.len();

/// Numbers of a slot, by metric.
type Numbers = [u64; METRICS.len()];

/// How slots are put in order, and how many are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// All, by number.
    Number,
    /// So many of them, those with the least of a metric first.
    Least(usize, usize),
    /// So many of them, those with the most of a metric first.
    Most(usize, usize),
}

/// How many of the metrics are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told(usize);

fn slot_stats(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let told = match slot_counts::is_on(&cx.core.config) {
        true => Told(METRICS.len()),
        false => Told(1),
    };
    let (mut first, mut last, order) = if args.keyword("SLOTSRANGE") && args.left() == 2 {
        let (first, last) = (slot(&mut args)?, slot(&mut args)?);
        if first > last {
            let text =
                format!("ERR Start slot number {first} is greater than end slot number {last}");
            return Err(Refusal::Owned(text.into()).into());
        }
        (first, last, Order::Number)
    } else if args.keyword("ORDERBY") && args.left() > 0 {
        (0, SLOTS as u16 - 1, order(&mut args, told)?)
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
    Ok(Done::Ask(Ask::Peek(peek), Join::SlotStats(order, told)))
}

fn slot(args: &mut Args<'_>) -> Result<u16, Refusal> {
    let number = number::parse_i64(args.bytes()?).and_then(|number| u16::try_from(number).ok());
    number
        .filter(|number| usize::from(*number) < SLOTS)
        .ok_or(Refusal::Text("ERR Invalid or out of range slot"))
}

/// `metric [LIMIT count] [ASC|DESC]`
fn order(args: &mut Args<'_>, told: Told) -> Result<Order, Refusal> {
    let name = args.bytes()?;
    let is = |metric: &&str| name.eq_ignore_ascii_case(metric.as_bytes());
    let Some(metric) = METRICS[..told.0].iter().position(is) else {
        let text = "ERR Unrecognized sort metric for ORDERBY.";
        return Err(Refusal::Text(text));
    };
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
        Order::Least(metric, limit)
    } else {
        Order::Most(metric, limit)
    })
}

/// What a core knows of a slot, as a part of the reply: nothing of another's slot that it has run nothing for.
pub(super) fn encode(core: &Core, slot: Slot, out: &mut Vec<u8>) {
    let (is_owner, count) = (core.owner(slot) == core.id, core.slot_counts.get(slot));
    if !is_owner && count == SlotCount::default() {
        return;
    }
    let keys = match is_owner {
        true => core.shard.slot_len(0, slot) as u64,
        false => 0,
    };
    let us = (count.ticks as f64 / core.ticks_per_us) as u64;
    out.extend_from_slice(&slot.0.to_le_bytes());
    out.push(u8::from(is_owner));
    for number in [keys, us, count.bytes_in, count.bytes_out] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn decode(record: &[u8]) -> Option<(u16, bool, Numbers)> {
    let (slot, rest) = record.split_first_chunk::<2>()?;
    let (is_owner, rest) = rest.split_first()?;
    let mut numbers = Numbers::default();
    for (number, bytes) in numbers.iter_mut().zip(rest.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    Some((u16::from_le_bytes(*slot), *is_owner == 1, numbers))
}

/// The reply of all cores.
pub(crate) fn join<'a>(
    parts: impl Iterator<Item = &'a [u8]>,
    order: Order,
    told: Told,
    reply: &mut Reply<'_>,
) {
    let (mut sums, mut owned) = (vec![Numbers::default(); SLOTS], Vec::new());
    let records = parts.flat_map(|part| part.chunks_exact(RECORD_BYTES));
    for (slot, is_owner, numbers) in records.filter_map(decode) {
        if is_owner {
            // (The parts are in the order of the cores, so of the slots: those with as much of a metric stay so.)
            owned.push(slot);
        }
        if let Some(sum) = sums.get_mut(usize::from(slot)) {
            sum.iter_mut().zip(numbers).for_each(|(sum, n)| *sum += n);
        }
    }
    let mut slots: Vec<(u16, Numbers)> = owned
        .into_iter()
        .filter_map(|slot| Some((slot, *sums.get(usize::from(slot))?)))
        .collect();
    match order {
        Order::Number => {}
        Order::Least(metric, limit) => {
            slots.sort_by_key(|(_, numbers)| numbers[metric]);
            slots.truncate(limit);
        }
        Order::Most(metric, limit) => {
            slots.sort_by_key(|(_, numbers)| core::cmp::Reverse(numbers[metric]));
            slots.truncate(limit);
        }
    }
    reply.array(slots.len());
    for (slot, numbers) in slots {
        reply.array(2);
        reply.int(i64::from(slot));
        reply.map(told.0);
        for (name, number) in METRICS.iter().zip(numbers).take(told.0) {
            reply.bulk(name.as_bytes());
            reply.int(number.cast_signed());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Client};

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

    /// Numbers of a slot but its processor time, which differs.
    fn numbers(bench: &mut Bench, client: Client, slot: u16) -> [u64; 3] {
        let request = format!("CLUSTER SLOT-STATS SLOTSRANGE {slot} {slot}");
        let reply = bench.call(client, &request);
        let lines: Vec<&str> = reply.split("\r\n").collect();
        assert_eq!(lines[3], "*8", "{reply}");
        let number = |at: usize| lines[at][1..].parse().unwrap();
        assert!(lines[8] == "cpu-usec" || lines[7] == "$8", "{reply}");
        [number(6), number(12), number(15)]
    }

    #[test]
    fn requests_are_counted_by_slot_once_that_is_wanted() {
        for cores in [1, 2] {
            let mut bench = Bench::with(cores, |config| config.cluster_enabled = true);
            let client = bench.connect(0);
            let listener = bench.connect(cores - 1);
            bench.call(client, "SET {a}1 x");
            let set = "CONFIG SET cluster-slot-stats-enabled";
            assert_eq!(bench.call(client, &format!("{set} yes")), "+OK\r\n");
            assert_eq!(numbers(&mut bench, client, 15495), [1, 0, 0]);
            // *3 $3 SET $4 {a}2 $5 value; +OK
            bench.call(client, "SET {a}2 value");
            assert_eq!(numbers(&mut bench, client, 15495), [2, 34, 5]);
            // What is refused has come and is answered all the same.
            let reply = bench.call(client, "INCR {a}2");
            let out = 5 + reply.len() as u64;
            assert_eq!(numbers(&mut bench, client, 15495), [2, 58, out]);
            bench.call(client, "PING");
            bench.call(client, "GET {b}1");
            assert_eq!(numbers(&mut bench, client, 15495), [2, 58, out]);
            assert_eq!(numbers(&mut bench, client, 3300), [0, 23, 5]);
            assert_eq!(bench.call(client, "CONFIG RESETSTAT"), "+OK\r\n");
            // A transaction has its frame counted, a wait counts when it is over, a script by its keys.
            for request in ["MULTI", "SET {a}1 x", "GET {a}1", "EXEC"] {
                bench.call(client, request);
            }
            let exec = "*2\r\n+OK\r\n$1\r\nx\r\n".len() as u64;
            assert_eq!(numbers(&mut bench, client, 15495), [2, 29 + 30 + 23, exec]);
            assert_eq!(bench.call(listener, "BLPOP {a}l 0"), "");
            assert_eq!(numbers(&mut bench, client, 15495)[1], 29 + 30 + 23);
            bench.call(client, "LPUSH {a}l x");
            let popped = bench.received(listener).len() as u64;
            let now = [2, 82 + 32 + 32, exec + 4 + popped];
            assert_eq!(numbers(&mut bench, client, 15495), now);
            // What subscribers of a shard channel are sent.
            bench.call(client, "CONFIG RESETSTAT");
            bench.call(listener, "SSUBSCRIBE {a}");
            let before = numbers(&mut bench, client, 15495)[2];
            bench.call(client, "SPUBLISH {a} hello");
            let heard = bench.received(listener).len() as u64;
            assert_eq!(numbers(&mut bench, client, 15495)[2], before + heard + 4);
            let first = |bench: &mut Bench, metric: &str| {
                let request = format!("CLUSTER SLOT-STATS ORDERBY {metric} LIMIT 1");
                let reply = bench.call(client, &request);
                reply.split("\r\n").nth(2).unwrap_or_default().to_owned()
            };
            bench.call(client, "CONFIG RESETSTAT");
            (0..100).for_each(|_| drop(bench.call(client, "GET {b}1")));
            for metric in ["cpu-usec", "network-bytes-in", "NETWORK-BYTES-OUT"] {
                assert_eq!(first(&mut bench, metric), ":3300", "{metric}");
            }
            bench.call(client, &format!("{set} no"));
            let reply = bench.call(client, "CLUSTER SLOT-STATS SLOTSRANGE 0 0");
            assert_eq!(reply, "*1\r\n*2\r\n:0\r\n*2\r\n$9\r\nkey-count\r\n:0\r\n");
        }
    }
}
