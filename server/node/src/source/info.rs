//! REPLICAOF, and what INFO replication and ROLE tell of a node that follows another.

use std::fmt::Write;

use commands::Refused;
use migration::Authority;
use protocol::{Args, Refusal, Reply, number};

use super::{From, Link, Login, Status, Target};
use crate::admin::{Context, Done};
use crate::config::Primary;
use crate::core::Core;
use crate::gather::Join;
use crate::mail::Ask;
use crate::start::unix_ms;

/// Whether the node shows itself as a replica.
pub fn is_replica(core: &Core) -> bool {
    core.node.source.authority() != Authority::Own
}

/// The role and, of a replica, what INFO tells of its primary: the section's first lines.
pub fn write_role(out: &mut String, core: &Core) {
    if !is_replica(core) {
        out.push_str("role:master\r\n");
        return;
    }
    let (source, config) = (&core.node.source, &core.config);
    let status = source.status();
    out.push_str("role:slave\r\n");
    if let Some(target) = &status.target {
        // (A link that is down is heard no more; a copy that is on its way is no link yet.)
        let silent_s = status.silent_s.filter(|_| status.link == Link::Connected);
        let silent_s = silent_s.map_or(-1, u64::cast_signed);
        line(out, "master_host", &target.host);
        line(out, "master_port", target.port);
        line(
            out,
            "master_link_status",
            if status.link == Link::Connected {
                "up"
            } else {
                "down"
            },
        );
        line(out, "master_last_io_seconds_ago", silent_s);
        line(
            out,
            "master_sync_in_progress",
            u8::from(status.link == Link::Sync),
        );
    }
    line(out, "slave_read_repl_offset", source.read_offset());
    line(out, "slave_repl_offset", source.applied());
    write_copy(out, &status);
    line(out, "slave_priority", config.replica_priority);
    line(out, "slave_read_only", u8::from(config.replica_read_only));
    line(out, "replica_announced", u8::from(config.replica_announced));
}

fn write_copy(out: &mut String, status: &Status) {
    if status.link == Link::Sync {
        let copying = status.copying.unwrap_or_default();
        let (total, read) = (copying.total_bytes, copying.received_bytes);
        let percent = if total == 0 {
            0.0
        } else {
            read as f64 * 100.0 / total as f64
        };
        line(out, "master_sync_total_bytes", total);
        line(out, "master_sync_read_bytes", read);
        line(
            out,
            "master_sync_left_bytes",
            total.cast_signed() - read.cast_signed(),
        );
        line(out, "master_sync_perc", format_args!("{percent:.2}"));
        line(
            out,
            "master_sync_last_io_seconds_ago",
            status.silent_s.unwrap_or(0),
        );
    }
    if status.link != Link::Connected {
        let since_s = match status.down_since_ms {
            0 => -1,
            since_ms => (unix_ms().saturating_sub(since_ms) / 1000).cast_signed(),
        };
        line(out, "master_link_down_since_seconds", since_s);
    }
}

fn line(out: &mut String, name: &str, value: impl core::fmt::Display) {
    // (A String takes everything.)
    let _ = write!(out, "{name}:{value}\r\n");
}

/// ROLE of a replica.
pub fn write_role_reply(reply: &mut Reply<'_>, core: &Core) {
    let status = core.node.source.status();
    let (host, port) = match &status.target {
        Some(target) => (target.host.as_str(), target.port),
        None => ("", 0),
    };
    let offset = match status.link {
        Link::Connected => core.node.source.applied().cast_signed(),
        _ => -1,
    };
    reply.array(5);
    reply.bulk(b"slave");
    reply.bulk(host.as_bytes());
    reply.int(port.into());
    reply.bulk(status.link.name().as_bytes());
    reply.int(offset);
}

/// REPLICAOF and SLAVEOF.
///
/// # Errors
/// What is refused, and why.
pub fn replicaof(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if cx.core.config.cluster_enabled {
        return Err(Refusal::Text("ERR REPLICAOF not allowed in cluster mode.").into());
    }
    let tell = || Ok(Done::Ask(Ask::Authority, Join::Ok));
    if !cx.inside_exec && cx.conn.outbound.outstanding() > 0 {
        // It is called again when earlier replies are there.
        return tell();
    }
    let node = cx.core.node;
    if args.keyword("NO") && args.keyword("ONE") {
        set_primary(cx, None);
        if is_replica(cx.core) {
            super::take_over(node);
            node.replicas.change_history();
            node.log(|log| {
                log.notice("MASTER MODE enabled: this node decides what keys hold from here on")
            });
        }
        return tell();
    }
    let host = args
        .word(1)
        .map(String::from_utf8_lossy)
        .unwrap_or_default()
        .into_owned();
    let port = args.word(2).and_then(number::parse_i64);
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
        return Err(Refusal::Text("ERR Invalid master port").into());
    };
    let known = node.source.status().target.filter(|_| is_replica(cx.core));
    if known.is_some_and(|known| known.host.eq_ignore_ascii_case(&host) && known.port == port) {
        cx.reply.simple("OK Already connected to specified master");
        return Ok(Done::Replied);
    }
    let target = Target {
        host: host.clone(),
        port,
        login: Login::OfConfig,
    };
    let followed = super::follow(node, target, From::Kept);
    followed.map_err(|error| Refusal::Owned(format!("ERR cannot follow: {error}").into()))?;
    set_primary(cx, Some(Primary { host, port }));
    node.log(|log| {
        log.notice("REPLICAOF enabled: the primary decides what keys hold from here on")
    });
    tell()
}

/// The configuration names whom the node follows, for INFO, CONFIG GET and CONFIG REWRITE.
fn set_primary(cx: &mut Context<'_>, primary: Option<Primary>) {
    let change = cx.core.node.change_config(|config| {
        config.replicaof = primary;
        Ok::<_, core::convert::Infallible>(())
    });
    let Ok(config) = change;
    crate::admin::tell_config(cx, &config);
}
