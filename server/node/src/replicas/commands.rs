//! What a replica says to be one: REPLCONF, PSYNC, SYNC.
//!
//! Of a connection that is a replica's only REPLCONF ACK is expected; it has no reply. Whatever else it says is answered, into its
//! stream: as with Redis that harms nobody but itself.

use std::sync::Arc;

use commands::Refused;
use migration::Authority;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, number};
use runtime::Peer;

use super::{Ask, Link};
use crate::admin::{Context, Done, NodeCommand};
use crate::source;

/// Bytes of an address that a replica may tell.
const ADDRESS_BYTES_MAX: usize = 255;

/// What the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::exactly(1),
    group: Group::Server,
    flags: Flags::ADMIN
        .and(Flags::NO_ASYNC_LOADING)
        .and(Flags::NO_MULTI)
        .and(Flags::NOSCRIPT),
    acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(crate) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "psync",
            summary: "Makes the connection that of a replica, which has a part of the data already.",
            since: "2.8.0",
            arity: Arity::at_least(3),
            ..BASE
        },
        run: Some(psync),
    },
    NodeCommand {
        spec: Spec {
            name: "sync",
            summary: "Makes the connection that of a replica, which has no data.",
            since: "1.0.0",
            ..BASE
        },
        run: Some(sync),
    },
    NodeCommand {
        spec: Spec {
            name: "replconf",
            summary: "Tells something of a replica.",
            since: "3.0.0",
            arity: Arity::at_least(1),
            flags: Flags::ADMIN
                .and(Flags::ALLOW_BUSY)
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            ..BASE
        },
        run: Some(replconf),
    },
];

fn sync(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    is_current(cx)?;
    ask(cx, None);
    Ok(Done::Silent)
}

/// Whoever decides what keys hold gives copies, and so does a node that follows a source, while it does: what it has without its link may be
/// older than what the one that asks was told. (That may be the source itself, started as this node's replica.)
fn is_current(cx: &Context<'_>) -> Result<(), Refused> {
    let follows = matches!(cx.core.authority, Authority::Source | Authority::Front);
    if follows && cx.core.node.source.link() != source::Link::Connected {
        let text = "NOMASTERLINK Can't SYNC while not connected with my master";
        return Err(Refusal::Text(text).into());
    }
    Ok(())
}

fn psync(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if cx.conn.is_replica() {
        return Ok(Done::Silent);
    }
    let replid = args.bytes()?.to_vec();
    let offset = args.bytes()?;
    if args.keyword("FAILOVER") {
        let text = "ERR PSYNC FAILOVER can't be sent to a master.";
        return Err(Refusal::Text(text).into());
    }
    let offset = number::parse_i64(offset).ok_or(Refusal::NotInteger)?;
    is_current(cx)?;
    ask(cx, Some((replid, offset)));
    Ok(Done::Silent)
}

/// The connection is a replica's from here on; what it is told comes from the thread of replicas.
fn ask(cx: &mut Context<'_>, has: Option<(Vec<u8>, i64)>) {
    if cx.conn.is_replica() {
        return;
    }
    let node = cx.core.node;
    let ip = match cx.conn.peer {
        Peer::Tcp { peer, .. } => peer.ip().to_string(),
        Peer::Unix => "127.0.0.1".to_owned(),
    };
    let side = cx.conn.replica.get_or_insert_default();
    let who = (cx.conn.id, cx.core.id, cx.conn.conn);
    let (said, now_ms) = (side.said.clone(), cx.core.now.unix_ms);
    let link = Arc::new(Link::new(who, ip, said, has.is_none(), now_ms));
    side.link = Some(Arc::clone(&link));
    cx.core.count_client(cx.conn);
    node.replicas.ask(&node.write_log, Ask { link, has });
}

fn replconf(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if !args.left().is_multiple_of(2) {
        return Err(Refusal::Syntax.into());
    }
    while args.left() > 0 {
        let (name, value) = (args.bytes()?.to_ascii_lowercase(), args.bytes()?);
        match &name[..] {
            b"ack" => {
                acknowledge(cx, value, args);
                return Ok(Done::Silent);
            }
            // (A primary asks its replicas so, by the stream.)
            b"getack" => return Ok(Done::Silent),
            _ => say(cx, &name, value)?,
        }
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

/// Keeps what a connection says of the replica that it is to be.
fn say(cx: &mut Context<'_>, name: &[u8], value: &[u8]) -> Result<(), Refused> {
    let said = &mut cx.conn.replica.get_or_insert_default().said;
    match name {
        b"listening-port" => {
            let port = number::parse_i64(value).ok_or(Refusal::NotInteger)?;
            said.port = u16::try_from(port).unwrap_or(0);
        }
        b"ip-address" if value.len() > ADDRESS_BYTES_MAX => {
            let text = format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            );
            return Err(Refusal::Owned(text.into()).into());
        }
        b"ip-address" => said.ip = Some(String::from_utf8_lossy(value).into_owned()),
        b"capa" => said.psync2 |= value.eq_ignore_ascii_case(b"psync2"),
        b"rdb-only" => {
            said.rdb_only = match value {
                b"0" => false,
                b"1" => true,
                value if number::parse_i64(value).is_none() => {
                    return Err(Refusal::NotInteger.into());
                }
                _ => {
                    let text = "ERR value is out of range, value must between 0 and 1";
                    return Err(Refusal::Text(text).into());
                }
            }
        }
        b"rdb-filter-only" => {
            let text = "ERR rdb-filter-only is not supported: a copy has keys and functions";
            return Err(Refusal::Text(text).into());
        }
        name => {
            let name = String::from_utf8_lossy(name);
            let text = format!("ERR Unrecognized REPLCONF option: {name}");
            return Err(Refusal::Owned(text.into()).into());
        }
    }
    Ok(())
}

/// `ACK offset [FACK offset]`; of a connection that is no replica's it means nothing.
fn acknowledge(cx: &mut Context<'_>, offset: &[u8], mut args: Args<'_>) {
    let Some(link) = cx.conn.replica.as_ref().and_then(|side| side.link.as_ref()) else {
        return;
    };
    let parse = |word: &[u8]| number::parse_i64(word).and_then(|n| u64::try_from(n).ok());
    let Some(offset) = parse(offset) else { return };
    let on_disk = args.keyword("FACK").then(|| args.peek().and_then(parse));
    link.note_acked(offset, on_disk.flatten(), cx.core.now.unix_ms);
    let node = cx.core.node;
    node.replicas.wake(&node.write_log);
}
