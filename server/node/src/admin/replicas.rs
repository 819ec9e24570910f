//! What clients ask about replication: ROLE, REPLICAOF, WAIT. What replicas say is in `replicas/commands.rs` of the node.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::admin::client::deadline_ms;
use crate::admin::{Context, Done, NodeCommand};
use crate::replicas::{AckWait, AofWait, State};

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::ADMIN
        .and(Flags::NO_ASYNC_LOADING)
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
            name: "replicaof",
            summary: "Makes the server a replica, or a primary.",
            since: "5.0.0",
            arity: Arity::exactly(3),
            ..BASE
        },
        run: Some(replicaof),
    },
    NodeCommand {
        spec: Spec {
            name: "slaveof",
            summary: "Makes the server a replica, or a primary.",
            since: "1.0.0",
            arity: Arity::exactly(3),
            deprecated_since: Some("5.0.0"),
            ..BASE
        },
        run: Some(replicaof),
    },
    NodeCommand {
        spec: Spec {
            name: "role",
            summary: "Tells the role in replication.",
            since: "2.8.12",
            arity: Arity::exactly(1),
            flags: Flags::FAST
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::FAST),
            ..BASE
        },
        run: Some(role),
    },
    NodeCommand {
        spec: Spec {
            name: "wait",
            summary: "Waits until replicas have the writes of the connection.",
            since: "3.0.0",
            arity: Arity::exactly(3),
            group: Group::Generic,
            flags: Flags::NONE,
            acl: Acl::CONNECTION.and(Acl::SLOW),
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..BASE
        },
        run: Some(wait),
    },
    NodeCommand {
        spec: Spec {
            name: "waitaof",
            summary: "Waits until writes of the connection are on disk, here and at replicas.",
            since: "7.2.0",
            arity: Arity::exactly(4),
            group: Group::Generic,
            flags: Flags::NOSCRIPT,
            acl: Acl::CONNECTION.and(Acl::SLOW),
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..BASE
        },
        run: Some(waitaof),
    },
];

fn role(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    if crate::source::info::is_replica(cx.core) {
        crate::source::info::write_role_reply(&mut cx.reply, cx.core);
        return Ok(Done::Replied);
    }
    let replicas = &cx.core.node.replicas;
    let links = replicas.links();
    let online = links.iter().filter(|link| link.state() == State::Online);
    cx.reply.array(3);
    cx.reply.bulk(b"master");
    cx.reply.int(replicas.stream().end.cast_signed());
    cx.reply.array(online.clone().count());
    for link in online {
        cx.reply.array(3);
        cx.reply.bulk(link.ip.as_bytes());
        cx.reply.bulk(link.said.port.to_string().as_bytes());
        cx.reply.bulk(link.acked().to_string().as_bytes());
    }
    Ok(Done::Replied)
}

fn replicaof(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    crate::source::info::replicaof(cx, args)
}

fn wait(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let replicas = args.int()?;
    let until_ms = wait_until(args.bytes()?, cx.core.now.unix_ms)?;
    let wait = AckWait {
        frame: written(cx),
        replicas: u64::try_from(replicas).unwrap_or(0),
        aof: None,
    };
    Ok(begin_wait(cx, until_ms, wait))
}

/// The last frame that may hold something that the connection has written.
fn written(cx: &mut Context<'_>) -> u64 {
    // What it has written may be of this very turn.
    cx.core.queue_effects();
    cx.core.node.write_log.fed()
}

/// Answers at once, or when what is waited for has come.
fn begin_wait(cx: &mut Context<'_>, until_ms: Option<u64>, wait: AckWait) -> Done {
    let node = cx.core.node;
    if !wait.is_due(node, cx.core.id.index()) {
        if wait.replicas > 0 {
            node.replicas.want_acks(&node.write_log);
        }
        return Done::WaitAcks(until_ms, wait);
    }
    cx.reply.raw(&wait.reply(node));
    Done::Replied
}

/// WAITAOF waits for a log that is not there.
pub(crate) const NO_LOG: Refusal =
    Refusal::Text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

fn waitaof(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let not_positive = Refusal::Text("ERR value is out of range, must be positive");
    let local = args.int()?;
    if !(0..=1).contains(&local) {
        return Err(Refusal::Text("ERR value is out of range, value must between 0 and 1").into());
    }
    let replicas = args.int()?;
    if replicas < 0 {
        return Err(not_positive.into());
    }
    let until_ms = wait_until(args.bytes()?, cx.core.now.unix_ms)?;
    let log = &cx.core.node.write_log;
    if local > 0 && !log.is_on() {
        return Err(NO_LOG.into());
    }
    let frame = written(cx);
    let position = log.queued();
    let wait = AckWait {
        frame,
        replicas: replicas.unsigned_abs(),
        aof: Some(AofWait {
            position,
            local: local > 0,
        }),
    };
    Ok(begin_wait(cx, until_ms, wait))
}

/// A timeout in milliseconds as a time; 0 is for ever.
fn wait_until(word: &[u8], now_ms: u64) -> Result<Option<u64>, Refusal> {
    let until_ms = deadline_ms(word, now_ms)?;
    Ok((until_ms > now_ms).then_some(until_ms))
}
