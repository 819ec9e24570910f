//! The connection itself: AUTH, HELLO, PING, ECHO, QUIT, RESET, SELECT.

use std::sync::Arc;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Resp, Spec};

use crate::acl::{DEFAULT_USER, Denial, Place};
use crate::admin::{Context, Done, NodeCommand, VERSION_REPORTED};
use crate::connection::ReplyMode;

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "auth",
            summary: "Tells the password of the default user, or a user and its password.",
            group: Group::Connection,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NO_AUTH)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(auth),
    },
    NodeCommand {
        spec: Spec {
            name: "echo",
            summary: "Answers what was sent.",
            group: Group::Connection,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(echo),
    },
    NodeCommand {
        spec: Spec {
            name: "hello",
            summary: "Chooses the protocol version, and may authenticate and name the connection.",
            group: Group::Connection,
            since: "6.0.0",
            arity: Arity::at_least(1),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NO_AUTH)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(hello),
    },
    NodeCommand {
        spec: Spec {
            name: "ping",
            summary: "Answers PONG or what was sent.",
            group: Group::Connection,
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags: Flags::FAST.and(Flags::SENTINEL),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            deprecated_since: None,
        },
        run: Some(ping),
    },
    NodeCommand {
        spec: Spec {
            name: "quit",
            summary: "Closes the connection after the reply.",
            group: Group::Connection,
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NO_AUTH)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: Some("7.2.0"),
        },
        run: Some(quit),
    },
    NodeCommand {
        spec: Spec {
            name: "reset",
            summary: "Puts the connection back to how it began.",
            group: Group::Connection,
            since: "6.2.0",
            arity: Arity::exactly(1),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NO_AUTH)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(reset),
    },
    NodeCommand {
        spec: Spec {
            name: "select",
            summary: "Chooses the database of what follows.",
            group: Group::Connection,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(select),
    },
];

fn ping(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if cx.conn.only_listens() && args.left() <= 1 {
        cx.reply.array(2);
        cx.reply.bulk(b"pong");
        cx.reply.bulk(args.bytes().unwrap_or_default());
        return Ok(Done::Replied);
    }
    match args.left() {
        0 => cx.reply.simple("PONG"),
        1 => cx.reply.bulk(args.bytes()?),
        _ => return Err(Refusal::arity("ping").into()),
    }
    Ok(Done::Replied)
}

fn echo(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    cx.reply.bulk(args.bytes()?);
    Ok(Done::Replied)
}

fn quit(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.conn.closing = true;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn select(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let db = args.int()?;
    if cx.core.config.cluster_enabled && db != 0 {
        return Err(Refusal::ClusterSelect.into());
    }
    match usize::try_from(db) {
        Ok(db) if db < cx.core.shard.db_count() => cx.conn.db = db as u8,
        _ => return Err(Refusal::DbOutOfRange.into()),
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

fn reset(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.core.end_roles(cx.conn);
    let conn = &mut *cx.conn;
    conn.db = 0;
    conn.resp = Resp::V2;
    conn.reply_mode = ReplyMode::On;
    conn.no_evict = false;
    conn.no_touch = false;
    conn.maintenance = false;
    conn.authenticated = cx.core.users.open;
    conn.user = Arc::clone(cx.core.users.default_user());
    conn.seen_at = 0;
    conn.free_at = 0;
    if let Some(names) = &mut conn.names {
        names.name.clear();
    }
    cx.reply.simple("RESET");
    Ok(Done::Replied)
}

/// Logs a connection in; a failure goes to ACL LOG with the command's word.
fn authenticate(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    user: &[u8],
    password: &[u8],
) -> Result<(), Refusal> {
    let Some(known) = cx.core.users.log_in(user, password) else {
        let place = if cx.conn.in_multi() || cx.inside_exec {
            Place::Multi
        } else {
            Place::Toplevel
        };
        let word = args.word(0).unwrap_or_default();
        cx.core
            .note_denied(cx.conn, Denial::Auth, place, word, Some(user));
        return Err(Refusal::WrongPass);
    };
    cx.conn.user = Arc::clone(known);
    cx.conn.authenticated = true;
    cx.core.recognize(cx.conn);
    Ok(())
}

fn auth(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 2 {
        return Err(Refusal::Syntax.into());
    }
    let first = args.bytes()?;
    match args.peek() {
        Some(password) => authenticate(cx, &args, first, password)?,
        None if cx.core.users.default_user().nopass => return Err(Refusal::AuthNoPassword.into()),
        None => authenticate(cx, &args, DEFAULT_USER, first)?,
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

fn hello(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let mut resp = cx.conn.resp;
    if let Some(version) = args.peek() {
        resp = match protocol::number::parse_i64(version) {
            None => return Err(Refusal::ProtoNotInteger.into()),
            Some(2) => Resp::V2,
            Some(3) => Resp::V3,
            Some(_) => return Err(Refusal::NoProto.into()),
        };
        args.bytes()?;
    }
    let (mut credentials, mut name) = (None, None);
    while let Some(option) = args.peek() {
        if args.left() >= 3 && args.keyword("AUTH") {
            credentials = Some((args.bytes()?, args.bytes()?));
        } else if args.left() >= 2 && args.keyword("SETNAME") {
            name = Some(args.bytes()?);
        } else {
            let text = format!(
                "ERR Syntax error in HELLO option '{}'",
                String::from_utf8_lossy(option)
            );
            return Err(Refusal::Owned(text.into()).into());
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(cx, &args, user, password)?;
    }
    if !cx.conn.authenticated {
        return Err(Refusal::NoAuthHello.into());
    }
    if let Some(name) = name {
        super::client::set_name(cx.conn, name)?;
    }
    cx.conn.resp = resp;
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, resp);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(VERSION_REPORTED.as_bytes());
    reply.bulk(b"proto");
    reply.int(if resp == Resp::V3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(cx.conn.id.cast_signed());
    reply.bulk(b"mode");
    reply.bulk(if cx.core.config.cluster_enabled {
        b"cluster"
    } else {
        b"standalone"
    });
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    cx.reply.raw(&out);
    Ok(Done::Replied)
}
