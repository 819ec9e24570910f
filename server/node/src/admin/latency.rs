//! LATENCY as far as no delays are recorded yet: there are none to tell.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Spec};

use crate::admin::{Context, Done, NodeCommand, help};

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
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
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
            tips: &[
                "nondeterministic_output",
                "request_policy:all_nodes",
                "response_policy:special",
            ],
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
    cx.reply.array(0);
    Ok(Done::Replied)
}

fn latency_history(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.array(0);
    Ok(Done::Replied)
}

fn latency_reset(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.int(0);
    Ok(Done::Replied)
}
