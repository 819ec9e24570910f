//! LATENCY: the delays that were noted (`latency.rs` of the node), and how long commands take.

use std::fmt::Write;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Resp, Spec};

use crate::admin::{Context, Done, NodeCommand, graph, help};
use crate::core::Core;
use crate::gather::Join;
use crate::histogram::Histogram;
use crate::mail::Ask;
use crate::table::Row;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::ADMIN
        .and(Flags::LOADING)
        .and(Flags::NOSCRIPT)
        .and(Flags::STALE),
    acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

const ALL_NODES: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
];

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "latency",
            summary: "Commands about slow events.",
            since: "2.8.13",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "latency|doctor",
            summary: "Tells what the recorded delays mean.",
            since: "2.8.13",
            arity: Arity::exactly(2),
            tips: ALL_NODES,
            ..BASE
        },
        run: Some(latency_doctor),
    },
    NodeCommand {
        spec: Spec {
            name: "latency|graph",
            summary: "Draws the recorded delays of an event.",
            since: "2.8.13",
            arity: Arity::exactly(3),
            tips: ALL_NODES,
            ..BASE
        },
        run: Some(latency_graph),
    },
    NodeCommand {
        spec: Spec {
            name: "latency|histogram",
            summary: "Tells how long the calls of commands took.",
            since: "7.0.0",
            arity: Arity::at_least(2),
            tips: ALL_NODES,
            ..BASE
        },
        run: Some(latency_histogram),
    },
    NodeCommand {
        spec: Spec {
            name: "latency|help",
            summary: "Lists the subcommands.",
            since: "2.8.13",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW,
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "latency|history",
            summary: "Tells the recorded delays of an event.",
            since: "2.8.13",
            arity: Arity::exactly(3),
            tips: ALL_NODES,
            ..BASE
        },
        run: Some(latency_history),
    },
    NodeCommand {
        spec: Spec {
            name: "latency|latest",
            summary: "Tells the last recorded delay of each event.",
            since: "2.8.13",
            arity: Arity::exactly(2),
            tips: ALL_NODES,
            ..BASE
        },
        run: Some(latency_latest),
    },
    NodeCommand {
        spec: Spec {
            name: "latency|reset",
            summary: "Forgets recorded delays.",
            since: "2.8.13",
            arity: Arity::at_least(2),
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            ..BASE
        },
        run: Some(latency_reset),
    },
];

fn latency_latest(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let reply = &mut cx.reply;
    cx.core.node.latency.read(|events| {
        reply.array(events.len());
        for (event, series) in events {
            let (at_s, ms) = series.samples.back().copied().unwrap_or_default();
            reply.array(4);
            reply.bulk(event.as_bytes());
            for number in [at_s, ms, series.longest_ms] {
                reply.int(number.cast_signed());
            }
        }
    });
    Ok(Done::Replied)
}

fn latency_history(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let event = args.bytes()?;
    let reply = &mut cx.reply;
    cx.core.node.latency.read(|events| {
        let found = events.iter().find(|(name, _)| name.as_bytes() == event);
        let samples = found.map(|(_, series)| &series.samples);
        reply.array(samples.map_or(0, |samples| samples.len()));
        for (at_s, ms) in samples.into_iter().flatten() {
            reply.array(2);
            reply.int(at_s.cast_signed());
            reply.int(ms.cast_signed());
        }
    });
    Ok(Done::Replied)
}

fn latency_reset(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let latency = &cx.core.node.latency;
    let forgotten = match args.left() {
        0 => latency.reset(None),
        _ => args.rest().map(|event| latency.reset(Some(event))).sum(),
    };
    cx.reply.int(forgotten as i64);
    Ok(Done::Replied)
}

fn latency_graph(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let event = args.bytes()?;
    let now_s = cx.core.now.unix_ms / 1000;
    let drawn = cx.core.node.latency.read(|events| {
        let (name, series) = events.iter().find(|(name, _)| name.as_bytes() == event)?;
        Some(graph::draw(name, series, now_s))
    });
    let Some(drawn) = drawn else {
        let event = String::from_utf8_lossy(event);
        let text = format!("ERR No samples available for event '{event}'");
        return Err(Refusal::Owned(text.into()).into());
    };
    cx.reply.verbatim("txt", drawn.as_bytes());
    Ok(Done::Replied)
}

fn latency_doctor(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let text = report(cx.core);
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Done::Replied)
}

/// What the delays mean, for people. Writing to a String cannot fail.
fn report(core: &Core) -> String {
    let (config, now_s) = (&core.config, core.now.unix_ms / 1000);
    let mut text = String::new();
    let mut advice: Vec<String> = Vec::new();
    core.node.latency.read(|events| {
        if events.is_empty() {
            text.push_str(match config.latency_monitor_threshold_ms {
                0 => "Delays are not recorded: CONFIG SET latency-monitor-threshold says from how many milliseconds on they are.\n",
                _ => "No delay has been recorded.\n",
            });
        }
        for (number, (event, series)) in events.iter().enumerate() {
            let found = series.analyse(now_s);
            let _ = writeln!(
                text,
                "{}. {event}: {} delays (mean {} ms, mean deviation {} ms, one in {:.2} s). The longest ever: {} ms.",
                number + 1,
                series.samples.len(),
                found.mean_ms,
                found.deviation_ms,
                found.period_s as f64 / series.samples.len().max(1) as f64,
                series.longest_ms,
            );
            advice.push(advice_on(core, event));
        }
    });
    if !advice.is_empty() {
        text.push_str("\nWhat may help:\n");
        advice
            .iter()
            .for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    text
}

fn advice_on(core: &Core, event: &str) -> String {
    let from_us = core
        .config
        .latency_monitor_threshold_ms
        .saturating_mul(1000);
    match event {
        "command" if core.config.slowlog_log_slower_than_us < 0 => format!(
            "SLOWLOG is off, and would name the commands that took long: CONFIG SET slowlog-log-slower-than {from_us}."
        ),
        "command" => "SLOWLOG GET names the commands that took long. Those that walk over large values or over all keys \
                      (KEYS, SORT, LRANGE of everything) have forms that take small steps (SCAN, HSCAN, ranges)."
            .to_owned(),
        "fast-command" => "Commands that never take long did: the process did not get its processors. Look for other work on \
                           the machine, for a limit of its container, and for memory that is swapped out."
            .to_owned(),
        _ => format!("{event}: many keys expire at the same time. Spread their deadlines."),
    }
}

fn latency_histogram(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let names: Vec<Box<[u8]>> = args.rest().map(Box::from).collect();
    if !cx.core.is_alone() && !cx.inside_exec {
        return Ok(Done::Ask(Ask::PublishHistograms, Join::Histograms(names)));
    }
    cx.core.publish_histograms();
    let told = histograms(cx.core, &names, cx.reply.resp());
    cx.reply.raw(&told);
    Ok(Done::Replied)
}

/// The histogram of a row over all cores; None if it has not been called.
pub(super) fn histogram_of(core: &Core, row: usize) -> Option<Histogram> {
    let mut sum = Histogram::default();
    let cores = core.node.published.iter();
    cores.for_each(|core| core.add_histogram(row, &mut sum));
    (sum.calls() > 0).then_some(sum)
}

/// The reply of LATENCY HISTOGRAM, once all cores have published.
pub fn histograms(core: &Core, names: &[Box<[u8]>], resp: Resp) -> Vec<u8> {
    let table = core.table;
    let mut rows: Vec<&Row> = Vec::new();
    for row in names.iter().filter_map(|name| table.by_full_name(name)) {
        rows.push(row);
        let subcommands = row.subcommands.iter();
        rows.extend(subcommands.filter_map(|(_, index)| table.rows().get(*index)));
    }
    if names.is_empty() {
        rows.extend(table.rows());
    }
    let found = rows.into_iter();
    let found = found.filter_map(|row| Some((row.spec.name, histogram_of(core, row.index)?)));
    let found: Vec<(&str, Histogram)> = found.collect();
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, resp);
    reply.map(found.len());
    for (name, histogram) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.int(histogram.calls().cast_signed());
        reply.bulk(b"histogram_usec");
        let told = histogram.cumulative(core.ticks_per_us);
        reply.map(told.len());
        for (us, calls) in told {
            reply.int(us.cast_signed());
            reply.int(calls.cast_signed());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn delays_are_told_drawn_and_forgotten() {
        for cores in [1, 2] {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            assert!(
                bench
                    .call(client, "LATENCY DOCTOR")
                    .contains("not recorded")
            );
            // (So much that nothing of this test takes as long, however busy the machine is.)
            bench.call(client, "CONFIG SET latency-monitor-threshold 1000000");
            assert!(bench.call(client, "LATENCY DOCTOR").contains("No delay"));
            let error = "-ERR No samples available for event 'command'\r\n";
            assert_eq!(bench.call(client, "LATENCY GRAPH command"), error);
            bench.seed_delay("command", 1_700_000_000, 30);
            bench.seed_delay("expire-cycle", 1_699_999_000, 5);
            let latest = bench.call(client, "LATENCY LATEST").replace("\r\n", " ");
            assert!(
                latest.contains("$7 command :1700000000 :30 :30 "),
                "{latest}"
            );
            let history = bench.call(client, "LATENCY HISTORY expire-cycle");
            assert_eq!(history, "*1\r\n*2\r\n:1699999000\r\n:5\r\n");
            assert_eq!(bench.call(client, "LATENCY HISTORY none"), "*0\r\n");
            let graph = bench.call(client, "LATENCY GRAPH expire-cycle");
            assert!(graph.contains("expire-cycle - high 5 ms, low 5 ms (all time high 5 ms)\n"));
            let report = bench.call(client, "LATENCY DOCTOR");
            assert!(report.contains("command: 1 delays (mean 30 ms"), "{report}");
            assert_eq!(bench.call(client, "LATENCY RESET x command"), ":1\r\n");
            assert_eq!(bench.call(client, "LATENCY RESET"), ":1\r\n");
        }
    }

    #[test]
    fn the_times_of_calls_are_told() {
        for cores in [1, 2] {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            for n in 0..10 {
                bench.call(client, &format!("SET k{n} v"));
            }
            bench.call(client, "CLIENT ID");
            let told = bench.call(client, "LATENCY HISTOGRAM set nosuch client get");
            let told = told.replace("\r\n", " ");
            assert!(
                told.starts_with("*4 $3 set *4 $5 calls :10 $14 histogram_usec *"),
                "{told}"
            );
            assert!(told.contains(" $9 client|id *4 $5 calls :1 "), "{told}");
            // The last bound holds all calls.
            let set = told.split(" $9 client|id").next().unwrap();
            assert!(set.ends_with(" :10"), "{told}");
            bench.call(client, "CONFIG SET latency-tracking no");
            assert_eq!(bench.call(client, "LATENCY HISTOGRAM set"), "*0\r\n");
        }
    }

    #[test]
    fn each_call_is_in_the_histogram_once() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            let waiter = bench.connect(cores - 1);
            bench.call(waiter, "BLPOP list 0");
            for n in 0..10 {
                let request = format!(
                    "*3\r\n$3\r\nSET\r\n$2\r\nk{n}\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$2\r\nk{n}\r\n"
                );
                // In one piece and in two, on one key and on several.
                let (head, tail) = request.as_bytes().split_at(5 * n);
                bench.send(client, head);
                bench.send(client, tail);
                bench.call(client, "MSET k1 a k2 b k3 c k4 d");
            }
            for request in [
                "RPUSH list a",
                "SET k",
                "MULTI",
                "SET k9 v",
                "GET k5",
                "EXEC",
                "DBSIZE",
            ] {
                bench.call(client, request);
            }
            bench.call(
                client,
                "EVAL return{redis.call('SET','k7','a'),redis.call('GET','k8')} 0",
            );
            bench.received(waiter);
            let stats = bench.call(client, "INFO commandstats");
            for name in [
                "set", "get", "mset", "blpop", "rpush", "multi", "exec", "eval", "dbsize",
            ] {
                let calls = stats
                    .split(&format!("cmdstat_{name}:calls="))
                    .nth(1)
                    .unwrap();
                let calls = calls.split(',').next().unwrap();
                let told = bench.call(client, &format!("LATENCY HISTOGRAM {name}"));
                assert!(
                    told.contains(&format!("\r\ncalls\r\n:{calls}\r\n")),
                    "{name} {calls} {told}"
                );
            }
        }
    }
}
