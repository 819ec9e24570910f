//! The cores of this node as the members of a cluster: CLUSTER SLOTS, SHARDS and NODES.

use std::fmt::Write;

use commands::Refused;
use protocol::Args;
use runtime::{CoreId, Peer};
use storage::Rng;

use crate::admin::cluster::enabled;
use crate::admin::{Context, Done};
use crate::config::EndpointType;
use crate::node::{Node, forty_digits};
use crate::start::own_port;

/// What is told to clients of a core.
pub(super) struct Member {
    core: CoreId,
    pub(super) id: String,
    ip: String,
    /// The port of clients like this one: those that speak TLS are told ports that do.
    port: u16,
    /// The ports of both kinds of clients; 0 where there is none.
    plain_port: u16,
    tls_port: u16,
    /// First and last slot.
    slots: (usize, usize),
}

/// What an identity is of.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Core = 1,
    Shard = 2,
}

/// Forty hexadecimal digits that name a core (or its shard) for as long as the process lives.
pub(super) fn identity(node: &Node, core: CoreId, of: Of) -> String {
    // FNV-1a, to seed the digits with the node's own identity.
    let seed = node
        .node_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let place = u64::from(core.0) << 2 | of as u64;
    forty_digits(&mut Rng::new(
        seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15),
    ))
}

pub(super) fn members(cx: &Context<'_>) -> Vec<Member> {
    let (node, config) = (cx.core.node, &cx.core.config);
    let ip = if config.cluster_announce_ip.is_empty() {
        match cx.conn.peer {
            // The address by which this client has reached the node, so one that works for it.
            Peer::Tcp { local, .. } => local.ip().to_canonical().to_string(),
            Peer::Unix => "127.0.0.1".to_owned(),
        }
    } else {
        config.cluster_announce_ip.clone()
    };
    // Announced ports follow one another as the own ports do.
    let port = |core: CoreId, tls: bool| {
        let (main, announced) = if tls {
            (config.tls_port, config.cluster_announce_tls_port)
        } else {
            (config.port, config.cluster_announce_port)
        };
        match announced {
            _ if main == 0 => 0,
            0 => own_port(config, core, tls),
            first => first.wrapping_add(core.0),
        }
    };
    let member = |core: CoreId| {
        let range = node.range(core);
        let (plain_port, tls_port) = (port(core, false), port(core, true));
        Member {
            core,
            id: identity(node, core, Of::Core),
            ip: ip.clone(),
            port: if cx.conn.tls.is_some() {
                tls_port
            } else {
                plain_port
            },
            plain_port,
            tls_port,
            slots: (range.start, range.end.saturating_sub(1)),
        }
    };
    (0..node.cores() as u16).map(CoreId).map(member).collect()
}

/// The core that the client speaks to: the one whose port it used, else the first.
pub(super) fn my_core(cx: &Context<'_>) -> CoreId {
    if cx.conn.own_port {
        cx.core.id
    } else {
        CoreId(0)
    }
}

/// Where clients are told to connect to; None when they are to use the host they know.
fn endpoint(cx: &Context<'_>, member: &Member) -> Option<String> {
    let config = &cx.core.config;
    match config.cluster_preferred_endpoint_type {
        EndpointType::Ip => Some(member.ip.clone()),
        EndpointType::Hostname if config.cluster_announce_hostname.is_empty() => {
            Some("?".to_owned())
        }
        EndpointType::Hostname => Some(config.cluster_announce_hostname.clone()),
        EndpointType::UnknownEndpoint => None,
    }
}

pub(super) fn slots(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let members = members(cx);
    cx.reply.array(members.len());
    for member in &members {
        let endpoint = endpoint(cx, member);
        let config = &cx.core.config;
        let mut more: Vec<(&str, &str)> = Vec::new();
        let preferred = config.cluster_preferred_endpoint_type;
        if preferred != EndpointType::Ip {
            more.push(("ip", &member.ip));
        }
        if preferred != EndpointType::Hostname && !config.cluster_announce_hostname.is_empty() {
            more.push(("hostname", &config.cluster_announce_hostname));
        }
        let reply = &mut cx.reply;
        reply.array(3);
        reply.int(member.slots.0 as i64);
        reply.int(member.slots.1 as i64);
        reply.array(4);
        match endpoint {
            Some(endpoint) => reply.bulk(endpoint.as_bytes()),
            None => reply.null(),
        }
        reply.int(i64::from(member.port));
        reply.bulk(member.id.as_bytes());
        reply.map(more.len());
        for (name, value) in more {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    }
    Ok(Done::Replied)
}

pub(super) fn shards(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let members = members(cx);
    cx.reply.array(members.len());
    for member in &members {
        let endpoint = endpoint(cx, member).unwrap_or_default();
        let hostname = &cx.core.config.cluster_announce_hostname;
        let mut texts = vec![("ip", member.ip.as_str()), ("endpoint", &endpoint)];
        if !hostname.is_empty() {
            texts.push(("hostname", hostname));
        }
        texts.push(("role", "master"));
        let reply = &mut cx.reply;
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(2);
        reply.int(member.slots.0 as i64);
        reply.int(member.slots.1 as i64);
        reply.bulk(b"nodes");
        reply.array(1);
        let ports = [("port", member.plain_port), ("tls-port", member.tls_port)];
        let ports = ports.into_iter().filter(|(_, port)| *port != 0);
        reply.map(texts.len() + 3 + ports.clone().count());
        reply.bulk(b"id");
        reply.bulk(member.id.as_bytes());
        for (name, port) in ports {
            reply.bulk(name.as_bytes());
            reply.int(i64::from(port));
        }
        for (name, text) in texts {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
        reply.bulk(b"replication-offset");
        reply.int(0);
        reply.bulk(b"health");
        reply.bulk(b"online");
    }
    Ok(Done::Replied)
}

pub(super) fn nodes(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let me = my_core(cx);
    let mut text = String::new();
    for member in members(cx) {
        let Member {
            core,
            id,
            ip,
            port,
            slots: (first, last),
            ..
        } = member;
        let hostname = match cx.core.config.cluster_announce_hostname.as_str() {
            "" => String::new(),
            name => format!(",{name}"),
        };
        let flags = if core == me {
            "myself,master"
        } else {
            "master"
        };
        // Writing to a String cannot fail. The port of links between nodes is 0, as there are none.
        let _ = writeln!(
            text,
            "{id} {ip}:{port}@0{hostname} {flags} - 0 0 {} connected {first}-{last}",
            epoch(core)
        );
    }
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Done::Replied)
}

/// A number that differs from core to core, as clients expect of configuration epochs.
pub(super) fn epoch(core: CoreId) -> usize {
    core.index() + 1
}
