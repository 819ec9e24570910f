//! CLIENT: what a connection says of itself and wants. Lists of connections are in `client_list.rs`.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Resp, Spec, number};

use super::tracking::{client_caching, client_getredir, client_tracking, client_trackinginfo};
use crate::admin::{Context, Done, NodeCommand, client_list, help};
use crate::connection::{Connection, ReplyMode};
use crate::gather::Join;
use crate::mail::Ask;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Connection,
    flags: Flags::LOADING
        .and(Flags::NOSCRIPT)
        .and(Flags::SENTINEL)
        .and(Flags::STALE),
    acl: Acl::CONNECTION.and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "client",
            summary: "Commands about connections.",
            since: "2.4.0",
            arity: Arity::at_least(2),
            flags: Flags::SENTINEL,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "client|caching",
            summary: "Says whether the keys of the next command are tracked.",
            since: "6.0.0",
            arity: Arity::exactly(3),
            ..BASE
        },
        run: Some(client_caching),
    },
    NodeCommand {
        spec: Spec {
            name: "client|getname",
            summary: "Tells the name of the connection.",
            since: "2.6.9",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(client_getname),
    },
    NodeCommand {
        spec: Spec {
            name: "client|getredir",
            summary: "Tells which connection gets the messages of key tracking.",
            since: "6.0.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(client_getredir),
    },
    NodeCommand {
        spec: Spec {
            name: "client|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::SENTINEL).and(Flags::STALE),
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "client|id",
            summary: "Tells the number of the connection.",
            since: "5.0.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(client_id),
    },
    NodeCommand {
        spec: Spec {
            name: "client|info",
            summary: "Describes the connection.",
            since: "6.2.0",
            arity: Arity::exactly(2),
            tips: &["nondeterministic_output"],
            ..BASE
        },
        run: Some(client_list::client_info),
    },
    NodeCommand {
        spec: Spec {
            name: "client|kill",
            summary: "Closes connections.",
            since: "2.4.0",
            arity: Arity::at_least(3),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN
                .and(Acl::CONNECTION)
                .and(Acl::DANGEROUS)
                .and(Acl::SLOW),
            ..BASE
        },
        run: Some(client_list::client_kill),
    },
    NodeCommand {
        spec: Spec {
            name: "client|list",
            summary: "Describes connections.",
            since: "2.4.0",
            arity: Arity::at_least(2),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN
                .and(Acl::CONNECTION)
                .and(Acl::DANGEROUS)
                .and(Acl::SLOW),
            tips: &["nondeterministic_output"],
            ..BASE
        },
        run: Some(client_list::client_list),
    },
    NodeCommand {
        spec: Spec {
            name: "client|maint_notifications",
            summary: "Asks to be told of maintenance before it begins.",
            since: "8.4.0",
            arity: Arity::at_least(3),
            flags: Flags::LOADING.and(Flags::NOSCRIPT).and(Flags::STALE),
            ..BASE
        },
        run: Some(client_maint_notifications),
    },
    NodeCommand {
        spec: Spec {
            name: "client|no-evict",
            summary: "Says whether the connection may be closed to save memory.",
            since: "7.0.0",
            arity: Arity::exactly(3),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN
                .and(Acl::CONNECTION)
                .and(Acl::DANGEROUS)
                .and(Acl::SLOW),
            ..BASE
        },
        run: Some(client_no_evict),
    },
    NodeCommand {
        spec: Spec {
            name: "client|no-touch",
            summary: "Says whether commands of the connection count as accesses of keys.",
            since: "7.2.0",
            arity: Arity::exactly(3),
            flags: Flags::LOADING.and(Flags::NOSCRIPT).and(Flags::STALE),
            ..BASE
        },
        run: Some(client_no_touch),
    },
    NodeCommand {
        spec: Spec {
            name: "client|pause",
            summary: "Holds commands back for a while.",
            since: "3.0.0",
            arity: Arity::at_least(3),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN
                .and(Acl::CONNECTION)
                .and(Acl::DANGEROUS)
                .and(Acl::SLOW),
            ..BASE
        },
        run: Some(client_pause),
    },
    NodeCommand {
        spec: Spec {
            name: "client|reply",
            summary: "Says whether the server replies to the connection.",
            since: "3.2.0",
            arity: Arity::exactly(3),
            ..BASE
        },
        run: Some(client_reply),
    },
    NodeCommand {
        spec: Spec {
            name: "client|setinfo",
            summary: "Tells the server about the client library.",
            since: "7.2.0",
            arity: Arity::exactly(4),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(client_setinfo),
    },
    NodeCommand {
        spec: Spec {
            name: "client|setname",
            summary: "Names the connection.",
            since: "2.6.9",
            arity: Arity::exactly(3),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(client_setname),
    },
    NodeCommand {
        spec: Spec {
            name: "client|tracking",
            summary: "Turns messages about changed keys on or off.",
            since: "6.0.0",
            arity: Arity::at_least(3),
            ..BASE
        },
        run: Some(client_tracking),
    },
    NodeCommand {
        spec: Spec {
            name: "client|trackinginfo",
            summary: "Tells how the connection tracks keys.",
            since: "6.2.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(client_trackinginfo),
    },
    NodeCommand {
        spec: Spec {
            name: "client|unblock",
            summary: "Ends the waiting of another connection.",
            since: "5.0.0",
            arity: Arity::at_least(3),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN
                .and(Acl::CONNECTION)
                .and(Acl::DANGEROUS)
                .and(Acl::SLOW),
            ..BASE
        },
        run: Some(client_unblock),
    },
    NodeCommand {
        spec: Spec {
            name: "client|unpause",
            summary: "Ends CLIENT PAUSE.",
            since: "6.2.0",
            arity: Arity::exactly(2),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN
                .and(Acl::CONNECTION)
                .and(Acl::DANGEROUS)
                .and(Acl::SLOW),
            ..BASE
        },
        run: Some(client_unpause),
    },
];

fn client_id(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.int(cx.conn.id.cast_signed());
    Ok(Done::Replied)
}

fn client_getname(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    match cx
        .conn
        .names
        .as_deref()
        .filter(|names| !names.name.is_empty())
    {
        Some(names) => cx.reply.bulk(&names.name),
        None => cx.reply.null(),
    }
    Ok(Done::Replied)
}

fn client_setname(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    set_name(cx.conn, args.bytes()?)?;
    cx.reply.ok();
    Ok(Done::Replied)
}

/// Sets a connection's name; an empty one takes it away.
///
/// # Errors
/// The refusal of a name with blanks, line ends or other special characters.
pub(super) fn set_name(conn: &mut Connection, name: &[u8]) -> Result<(), Refusal> {
    if !is_word(name) {
        return Err(Refusal::Text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    conn.names.get_or_insert_default().name = name.to_vec();
    Ok(())
}

/// Whether a text can stand in a line of CLIENT LIST.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn client_setinfo(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let option = args.bytes()?;
    let value = args.bytes()?;
    let told = String::from_utf8_lossy(option);
    let is_name = option.eq_ignore_ascii_case(b"lib-name");
    if !is_name && !option.eq_ignore_ascii_case(b"lib-ver") {
        return Err(Refusal::Owned(format!("ERR Unrecognized option '{told}'").into()).into());
    }
    if !is_word(value) {
        let text = format!("ERR {told} cannot contain spaces, newlines or special characters.");
        return Err(Refusal::Owned(text.into()).into());
    }
    let names = cx.conn.names.get_or_insert_default();
    let field = if is_name {
        &mut names.lib_name
    } else {
        &mut names.lib_ver
    };
    *field = value.to_vec();
    cx.reply.ok();
    Ok(Done::Replied)
}

/// Takes ON or OFF as the last word.
fn on_or_off(mut args: Args<'_>) -> Result<bool, Refusal> {
    let on = args.keyword("ON");
    if !on && !args.keyword("OFF") {
        return Err(Refusal::Syntax);
    }
    args.end()?;
    Ok(on)
}

fn client_no_evict(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    cx.conn.no_evict = on_or_off(args)?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn client_no_touch(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    cx.conn.no_touch = on_or_off(args)?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn client_reply(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.keyword("ON") {
        cx.conn.reply_mode = ReplyMode::On;
        cx.reply.ok();
        return Ok(Done::Replied);
    }
    let off = args.keyword("OFF");
    if !off && !args.keyword("SKIP") {
        return Err(Refusal::Syntax.into());
    }
    if cx.inside_exec {
        // The array of EXEC's replies has its length already: none of them can be left out.
        let text = "ERR CLIENT REPLY OFF and SKIP are not supported inside MULTI";
        return Err(Refusal::Text(text).into());
    }
    let mode = &mut cx.conn.reply_mode;
    if off {
        *mode = ReplyMode::Off;
    } else if *mode != ReplyMode::Off {
        *mode = ReplyMode::SkipNext;
    }
    Ok(Done::Silent)
}

/// `ON [MOVING-ENDPOINT-TYPE type]` or `OFF`, as redis-py and go-redis send it when they connect. The node keeps who wants to be
/// told, and has nothing to tell: it moves its clients nowhere, so the only true answer to "where to?" is none.
fn client_maint_notifications(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    const ENDPOINTS: [&str; 5] = [
        "INTERNAL-IP",
        "INTERNAL-FQDN",
        "EXTERNAL-IP",
        "EXTERNAL-FQDN",
        "NONE",
    ];
    let on = args.keyword("ON");
    if !on && !args.keyword("OFF") {
        return Err(Refusal::Syntax.into());
    }
    if args.left() > 0 {
        let is_known = args.left() == 2
            && args.keyword("MOVING-ENDPOINT-TYPE")
            && ENDPOINTS.iter().any(|endpoint| args.keyword(endpoint));
        if !is_known {
            return Err(Refusal::Syntax.into());
        }
    }
    if on && cx.conn.resp != Resp::V3 {
        let text = "ERR CLIENT MAINT_NOTIFICATIONS needs RESP3: what it asks for are push messages";
        return Err(Refusal::Text(text).into());
    }
    cx.conn.maintenance = on;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn client_pause(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 2 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let timeout = args.bytes()?;
    let all = args.left() == 0 || args.keyword("ALL");
    if !all && !args.keyword("WRITE") {
        return Err(Refusal::ClientPauseMode.into());
    }
    let until_ms = deadline_ms(timeout, cx.core.now.unix_ms)?;
    Ok(Done::Ask(Ask::Pause { until_ms, all }, Join::Ok))
}

/// The end of a time limit in milliseconds, as unix ms.
pub(super) fn deadline_ms(word: &[u8], now_ms: u64) -> Result<u64, Refusal> {
    let ms = number::parse_i64(word).ok_or(Refusal::TimeoutNotInteger)?;
    commands::deadline_ms(ms, now_ms)
}

fn client_unpause(_: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    Ok(Done::Ask(Ask::Unpause, Join::Ok))
}

fn client_unblock(_: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 2 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let id = args.bytes()?;
    let error = !args.keyword("TIMEOUT") && args.keyword("ERROR");
    if args.left() > 0 {
        return Err(Refusal::ClientUnblockReason.into());
    }
    let id = number::parse_i64(id).ok_or(Refusal::NotInteger)?;
    let id = u64::try_from(id).unwrap_or(0);
    Ok(Done::Ask(Ask::Unblock { id, error }, Join::Sum))
}
