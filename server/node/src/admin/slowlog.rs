//! SLOWLOG and COMMANDLOG: the requests that a core has noted (`commandlog.rs`).

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, number};

use crate::admin::{Context, Done, NodeCommand, help};
use crate::commandlog::Kind;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "2.2.12",
    arity: Arity::exactly(2),
    group: Group::Server,
    flags: Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE),
    acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

/// What GET, LEN and RESET ask of a proxy.
const GET_TIPS: &[&str] = &["nondeterministic_output", "request_policy:all_nodes"];
const LEN_TIPS: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:agg_sum",
];
const RESET_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "slowlog",
            summary: "Commands about requests that took long.",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "slowlog|get",
            summary: "Tells the last requests that took long.",
            arity: Arity::at_least(2),
            tips: GET_TIPS,
            ..BASE
        },
        run: Some(slowlog_get),
    },
    NodeCommand {
        spec: Spec {
            name: "slowlog|help",
            summary: "Lists the subcommands.",
            since: "6.2.0",
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW,
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "slowlog|len",
            summary: "Counts the requests in the log.",
            tips: LEN_TIPS,
            ..BASE
        },
        run: Some(slowlog_len),
    },
    NodeCommand {
        spec: Spec {
            name: "slowlog|reset",
            summary: "Empties the log.",
            tips: RESET_TIPS,
            ..BASE
        },
        run: Some(slowlog_reset),
    },
    NodeCommand {
        spec: Spec {
            name: "commandlog",
            summary: "Commands about requests that were slow, large, or had a large reply.",
            since: "8.1.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "commandlog|get",
            summary: "Tells the last requests of a kind.",
            since: "8.1.0",
            arity: Arity::at_least(4),
            tips: GET_TIPS,
            ..BASE
        },
        run: Some(commandlog_get),
    },
    NodeCommand {
        spec: Spec {
            name: "commandlog|help",
            summary: "Lists the subcommands.",
            since: "8.1.0",
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW,
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "commandlog|len",
            summary: "Counts the requests of a kind in the log.",
            since: "8.1.0",
            arity: Arity::exactly(3),
            tips: LEN_TIPS,
            ..BASE
        },
        run: Some(commandlog_len),
    },
    NodeCommand {
        spec: Spec {
            name: "commandlog|reset",
            summary: "Empties the log of a kind.",
            since: "8.1.0",
            arity: Arity::exactly(3),
            tips: RESET_TIPS,
            ..BASE
        },
        run: Some(commandlog_reset),
    },
];

/// Requests that SLOWLOG GET tells when no number is named.
const COUNT_DEFAULT: usize = 10;

fn slowlog_get(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let count = match args.bytes() {
        Ok(word) => count(word)?,
        Err(_) => COUNT_DEFAULT,
    };
    tell(cx, Kind::Slow, count);
    Ok(Done::Replied)
}

fn commandlog_get(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 2 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let count = count(args.bytes()?)?;
    let kind = kind(&mut args)?;
    tell(cx, kind, count);
    Ok(Done::Replied)
}

/// How many are wanted; -1 for all.
fn count(word: &[u8]) -> Result<usize, Refusal> {
    let refusal = Refusal::Text("ERR count should be greater than or equal to -1");
    match number::parse_i64(word) {
        Some(-1) => Ok(usize::MAX),
        Some(count) => usize::try_from(count).map_err(|_| refusal),
        None => Err(refusal),
    }
}

fn kind(args: &mut Args<'_>) -> Result<Kind, Refusal> {
    let kinds = [
        ("SLOW", Kind::Slow),
        ("LARGE-REQUEST", Kind::LargeRequest),
        ("LARGE-REPLY", Kind::LargeReply),
    ];
    let found = kinds.into_iter().find(|(word, _)| args.keyword(word));
    found.map(|(_, kind)| kind).ok_or(Refusal::Text(
        "ERR type should be one of the following: slow, large-request, large-reply",
    ))
}

fn tell(cx: &mut Context<'_>, kind: Kind, count: usize) {
    let entries = cx.core.node.commandlog.last(kind, count);
    let reply = &mut cx.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        for number in [entry.id, entry.unix_s, entry.value] {
            reply.int(number.cast_signed());
        }
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.addr.as_bytes());
        reply.bulk(&entry.name);
    }
}

fn slowlog_len(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.int(cx.core.node.commandlog.len(Kind::Slow) as i64);
    Ok(Done::Replied)
}

fn commandlog_len(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let kind = kind(&mut args)?;
    cx.reply.int(cx.core.node.commandlog.len(kind) as i64);
    Ok(Done::Replied)
}

fn slowlog_reset(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.core.node.commandlog.reset(Kind::Slow);
    cx.reply.ok();
    Ok(Done::Replied)
}

fn commandlog_reset(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let kind = kind(&mut args)?;
    cx.core.node.commandlog.reset(kind);
    cx.reply.ok();
    Ok(Done::Replied)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn slow_requests_are_noted_with_their_words_cut_and_their_client() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::with(cores, |config| config.slowlog_log_slower_than_us = -1);
            let (client, other) = (bench.connect(0), bench.connect(cores - 1));
            bench.call(other, "CLIENT SETNAME other");
            assert_eq!(
                bench.call(client, "CONFIG SET slowlog-log-slower-than 0"),
                "+OK\r\n"
            );
            assert_eq!(bench.call(client, "SLOWLOG RESET"), "+OK\r\n");
            let long = "x".repeat(130);
            let many: String = (0..40).map(|n| format!(" k{n}")).collect();
            for request in [
                &format!("SET a {long}"),
                &format!("DEL{many}"),
                "AUTH x",
                "GET a",
            ] {
                bench.call(other, request);
            }
            bench.send(other, b"MULTI\r\nGET a\r\nGET b\r\nEXEC\r\n");
            bench.received(other);
            bench.call(client, "CONFIG SET slowlog-log-slower-than -1");
            let log = bench.call(client, "SLOWLOG GET -1").replace("\r\n", " ");
            for part in [
                format!("*3 $3 SET $1 a $146 {}... (2 more bytes)", "x".repeat(128)),
                "*32 $3 DEL $2 k0 $2 k1 ".to_owned(),
                " $3 k29 $23 ... (10 more arguments) ".to_owned(),
                "*2 $4 AUTH $10 (redacted) ".to_owned(),
                "*2 $3 GET $1 b $15 127.0.0.1:40001 $5 other ".to_owned(),
            ] {
                assert!(log.contains(&part), "{part} in {log}");
            }
            // EXEC itself is not there, what it runs is; so is what changed the setting.
            assert!(
                !log.contains(" EXEC ") && log.matches(" GET ").count() == 3,
                "{log}"
            );
            let len = bench.call(client, "SLOWLOG LEN");
            assert_eq!(bench.call(client, "COMMANDLOG LEN slow"), len);
            assert_eq!(log.matches("127.0.0.1:40001").count(), 7);
            assert_eq!(
                bench.call(client, "CONFIG SET slowlog-max-len 2"),
                "+OK\r\n"
            );
            assert_eq!(bench.call(client, "SLOWLOG GET 0"), "*0\r\n");
        }
    }

    #[test]
    fn large_requests_and_replies_are_noted() {
        for cores in [1, 2] {
            let mut bench = Bench::with(cores, |config| {
                config.commandlog_request_larger_than_bytes = 100;
                config.commandlog_reply_larger_than_bytes = 100;
                config.commandlog_large_reply_max_len = 2;
            });
            let client = bench.connect(0);
            let value = "v".repeat(100);
            for n in 0..4 {
                assert_eq!(
                    bench.call(client, &format!("SET key:{n} {value}")),
                    "+OK\r\n"
                );
                assert_eq!(bench.call(client, &format!("GET key:{n}")).len(), 108);
            }
            bench.call(client, "MGET key:0 key:1 key:2");
            assert_eq!(bench.call(client, "COMMANDLOG LEN large-request"), ":4\r\n");
            let large = bench.call(client, "COMMANDLOG GET 1 LARGE-request");
            // *3 $3 SET $5 key:3 $100 ...
            assert!(
                large.starts_with("*1\r\n*6\r\n:3\r\n:1700000000\r\n:132\r\n*3\r\n"),
                "{large}"
            );
            // The reply that tells of it was large as well, and only two notes are kept.
            let large = bench.call(client, "COMMANDLOG GET -1 large-reply");
            let mget = "*6\r\n:4\r\n:1700000000\r\n:328\r\n*4\r\n$4\r\nMGET\r\n";
            assert!(
                large.starts_with("*2\r\n") && large.contains(mget),
                "{large}"
            );
            assert_eq!(
                bench.call(client, "COMMANDLOG RESET large-reply"),
                "+OK\r\n"
            );
            assert_eq!(bench.call(client, "COMMANDLOG LEN large-reply"), ":0\r\n");
        }
    }

    #[test]
    fn mistakes_are_told_as_they_are_told_elsewhere() {
        let mut bench = Bench::new(1);
        let client = bench.connect(0);
        for (request, error) in [
            (
                "SLOWLOG GET -2",
                "ERR count should be greater than or equal to -1",
            ),
            (
                "SLOWLOG GET x",
                "ERR count should be greater than or equal to -1",
            ),
            (
                "SLOWLOG GET 1 2",
                "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
            ),
            (
                "SLOWLOG LEN x",
                "ERR wrong number of arguments for 'slowlog|len' command",
            ),
            (
                "COMMANDLOG GET 1 x",
                "ERR type should be one of the following: slow, large-request, large-reply",
            ),
            (
                "COMMANDLOG GET 1",
                "ERR wrong number of arguments for 'commandlog|get' command",
            ),
        ] {
            assert_eq!(
                bench.call(client, request),
                format!("-{error}\r\n"),
                "{request}"
            );
        }
    }
}
