//! SCRIPT: the cache of texts, and how a script is stopped.

use std::sync::atomic::Ordering::Relaxed;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::admin::{Context, Done, NodeCommand, help};
use crate::scripts::run::kill;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    group: Group::Scripting,
    since: "2.6.0",
    arity: Arity::exactly(2),
    flags: Flags::NOSCRIPT,
    acl: Acl::SCRIPTING.and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(crate) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "script",
            summary: "Commands about scripts.",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "script|debug",
            summary: "Would set how scripts are debugged: there is no debugger.",
            since: "3.2.0",
            arity: Arity::exactly(3),
            ..BASE
        },
        run: Some(debug),
    },
    NodeCommand {
        spec: Spec {
            name: "script|exists",
            summary: "Tells which scripts are known, by their digests.",
            arity: Arity::at_least(3),
            tips: &[
                "request_policy:all_shards",
                "response_policy:agg_logical_and",
            ],
            ..BASE
        },
        run: Some(exists),
    },
    NodeCommand {
        spec: Spec {
            name: "script|flush",
            summary: "Forgets all scripts.",
            arity: Arity::at_least(2),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(flush),
    },
    NodeCommand {
        spec: Spec {
            name: "script|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            flags: Flags::LOADING.and(Flags::STALE),
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "script|kill",
            summary: "Stops a script that runs for long, and undoes what it has written.",
            flags: Flags::ALLOW_BUSY.and(Flags::NOSCRIPT),
            tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
            ..BASE
        },
        run: Some(script_kill),
    },
    NodeCommand {
        spec: Spec {
            name: "script|load",
            summary: "Keeps a script without running it.",
            arity: Arity::exactly(3),
            flags: Flags::NOSCRIPT.and(Flags::STALE),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(load),
    },
];

fn debug(_: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let mode = args.bytes()?.to_ascii_lowercase();
    Err(Refusal::Text(match mode.as_slice() {
        b"yes" | b"sync" | b"no" => "ERR SCRIPT DEBUG is not supported: there is no debugger here",
        _ => "ERR Use SCRIPT DEBUG YES/SYNC/NO",
    })
    .into())
}

fn exists(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let cache = cx.core.node.scripting.cache();
    let digests = args.rest();
    cx.reply.array(digests.len());
    for digest in digests {
        cx.reply.int(i64::from(cache.contains(digest)));
    }
    Ok(Done::Replied)
}

/// Whether `[ASYNC | SYNC]` is all that follows; both are done at once, since texts are all there is to free.
pub(super) fn is_flush_mode(args: Args<'_>) -> bool {
    let mut words = args.rest();
    let known =
        |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    words.len() < 2 && words.all(known)
}

fn flush(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    if !is_flush_mode(args) {
        return Err(Refusal::ScriptFlushMode.into());
    }
    let scripting = &cx.core.node.scripting;
    scripting.cache().clear();
    scripting.flushes.fetch_add(1, Relaxed);
    cx.reply.ok();
    Ok(Done::Replied)
}

fn script_kill(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    kill(cx.core, false)?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn load(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let script = cx.core.add_script(args.bytes()?, true)?;
    cx.reply.bulk(&script.sha);
    Ok(Done::Replied)
}
