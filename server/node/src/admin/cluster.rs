//! CLUSTER: this node as a cluster whose members are its cores.
//!
//! With `cluster-enabled` each core is told to clients as a node and shard of its own, with its range of
//! slots at its own port, so that cluster clients go straight to the core that holds a key. There are no
//! links, epochs or failures between cores: what Redis tells of those is what a quiet cluster would say.

use std::fmt::Write;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};
use runtime::{CoreId, Peer};
use storage::{Rng, SLOTS, Slot};

use crate::admin::peek::Peek;
use crate::admin::{Context, Done, NodeCommand, help};
use crate::config::EndpointType;
use crate::gather::Join;
use crate::mail::Ask;
use crate::node::{Node, forty_digits};
use crate::start::own_port;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Cluster,
    flags: Flags::STALE,
    acl: Acl::SLOW,
    keys: &[],
    range: (0, 0, 0),
    tips: &["nondeterministic_output"],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "asking",
            summary: "Lets the next command into a slot that is being moved here.",
            since: "3.0.0",
            arity: Arity::exactly(1),
            flags: Flags::FAST,
            acl: Acl::CONNECTION.and(Acl::FAST),
            tips: &[],
            ..BASE
        },
        run: Some(nothing_to_do),
    },
    NodeCommand {
        spec: Spec {
            name: "readonly",
            summary: "Lets the connection read from a replica.",
            since: "3.0.0",
            arity: Arity::exactly(1),
            flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            tips: &[],
            ..BASE
        },
        run: Some(nothing_to_do),
    },
    NodeCommand {
        spec: Spec {
            name: "readwrite",
            summary: "Ends READONLY.",
            since: "3.0.0",
            arity: Arity::exactly(1),
            flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
            acl: Acl::CONNECTION.and(Acl::FAST),
            tips: &[],
            ..BASE
        },
        run: Some(nothing_to_do),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster",
            summary: "Commands about the cluster.",
            since: "3.0.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            tips: &[],
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|count-failure-reports",
            summary: "Counts the nodes that think another has failed.",
            since: "3.0.0",
            arity: Arity::exactly(3),
            flags: Flags::ADMIN.and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(count_failure_reports),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|countkeysinslot",
            summary: "Counts the keys of a slot.",
            since: "3.0.0",
            arity: Arity::exactly(3),
            tips: &[],
            ..BASE
        },
        run: Some(countkeysinslot),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|getkeysinslot",
            summary: "Lists keys of a slot.",
            since: "3.0.0",
            arity: Arity::exactly(4),
            ..BASE
        },
        run: Some(getkeysinslot),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            tips: &[],
            ..BASE
        },
        run: Some(cluster_help),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|info",
            summary: "Tells how the cluster is.",
            since: "3.0.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(cluster_info),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|keyslot",
            summary: "Tells the slot of a key.",
            since: "3.0.0",
            arity: Arity::exactly(3),
            tips: &[],
            ..BASE
        },
        run: Some(keyslot),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|links",
            summary: "Lists the links between nodes.",
            since: "7.0.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(links),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|myid",
            summary: "Tells the name of the node.",
            since: "3.0.0",
            arity: Arity::exactly(2),
            tips: &[],
            ..BASE
        },
        run: Some(myid),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|myshardid",
            summary: "Tells the name of the shard of the node.",
            since: "7.2.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(myshardid),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|nodes",
            summary: "Describes the nodes.",
            since: "3.0.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(nodes),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|replicas",
            summary: "Describes the replicas of a node.",
            since: "5.0.0",
            arity: Arity::exactly(3),
            flags: Flags::ADMIN.and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(replicas),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|shards",
            summary: "Describes the shards.",
            since: "7.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            ..BASE
        },
        run: Some(shards),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|slaves",
            summary: "Describes the replicas of a node.",
            since: "3.0.0",
            arity: Arity::exactly(3),
            flags: Flags::ADMIN.and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            deprecated_since: Some("5.0.0"),
            ..BASE
        },
        run: Some(replicas),
    },
    NodeCommand {
        spec: Spec {
            name: "cluster|slots",
            summary: "Tells which node serves which slots.",
            since: "3.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            deprecated_since: Some("7.0.0"),
            ..BASE
        },
        run: Some(slots),
    },
];

/// What is told to clients of a core.
struct Member {
    core: CoreId,
    id: String,
    ip: String,
    port: u16,
    /// First and last slot.
    slots: (usize, usize),
}

/// What an identity is of.
#[derive(Clone, Copy)]
enum Of {
    Core = 1,
    Shard = 2,
}

/// Forty hexadecimal digits that name a core (or its shard) for as long as the process lives.
fn identity(node: &Node, core: CoreId, of: Of) -> String {
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

/// Refuses everything when the node does not speak as a cluster.
fn enabled(cx: &Context<'_>) -> Result<(), Refusal> {
    if cx.core.config.cluster_enabled {
        Ok(())
    } else {
        Err(Refusal::ClusterDisabled)
    }
}

fn members(cx: &Context<'_>) -> Vec<Member> {
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
    let member = |core: CoreId| {
        let range = node.range(core);
        Member {
            core,
            id: identity(node, core, Of::Core),
            ip: ip.clone(),
            port: match config.cluster_announce_port {
                0 => own_port(config, core),
                // Announced ports follow one another as the own ports do.
                first => first.wrapping_add(core.0),
            },
            slots: (range.start, range.end.saturating_sub(1)),
        }
    };
    (0..node.cores() as u16).map(CoreId).map(member).collect()
}

/// The core that the client speaks to: the one whose port it used, else the first.
fn my_core(cx: &Context<'_>) -> CoreId {
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

fn slots(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
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

fn shards(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
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
        reply.map(texts.len() + 4);
        reply.bulk(b"id");
        reply.bulk(member.id.as_bytes());
        reply.bulk(b"port");
        reply.int(i64::from(member.port));
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

fn nodes(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
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
fn epoch(core: CoreId) -> usize {
    core.index() + 1
}

fn cluster_info(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let cores = cx.core.node.cores();
    let text = format!(
        "cluster_state:ok\r\n\
         cluster_slots_assigned:{SLOTS}\r\n\
         cluster_slots_ok:{SLOTS}\r\n\
         cluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\n\
         cluster_known_nodes:{cores}\r\n\
         cluster_size:{cores}\r\n\
         cluster_current_epoch:{cores}\r\n\
         cluster_my_epoch:{}\r\n\
         cluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        epoch(my_core(cx))
    );
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Done::Replied)
}

fn myid(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let id = identity(cx.core.node, my_core(cx), Of::Core);
    cx.reply.bulk(id.as_bytes());
    Ok(Done::Replied)
}

fn myshardid(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let id = identity(cx.core.node, my_core(cx), Of::Shard);
    cx.reply.bulk(id.as_bytes());
    Ok(Done::Replied)
}

fn keyslot(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    cx.reply.int(Slot::of(args.bytes()?).index() as i64);
    Ok(Done::Replied)
}

fn countkeysinslot(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let slot = slot(args.int()?).ok_or(Refusal::Text("ERR Invalid slot"))?;
    Ok(Done::Ask(Ask::Peek(Peek::Count(slot)), Join::Only))
}

fn getkeysinslot(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    let (number, count) = (args.int()?, args.int()?);
    let (Some(slot), Ok(count)) = (slot(number), usize::try_from(count)) else {
        return Err(Refusal::ClusterInvalidSlotOrCount.into());
    };
    Ok(Done::Ask(Ask::Peek(Peek::Keys(slot, count)), Join::Only))
}

fn slot(number: i64) -> Option<Slot> {
    let slot = u16::try_from(number).ok()?;
    (usize::from(slot) < SLOTS).then_some(Slot(slot))
}

/// Takes the name of a member.
fn known(cx: &Context<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let name = args.bytes()?;
    if members(cx)
        .iter()
        .any(|member| name == member.id.as_bytes())
    {
        return Ok(());
    }
    let text = format!("ERR Unknown node {}", String::from_utf8_lossy(name));
    Err(Refusal::Owned(text.into()))
}

fn count_failure_reports(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    known(cx, &mut args)?;
    cx.reply.int(0);
    Ok(Done::Replied)
}

fn replicas(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    known(cx, &mut args)?;
    cx.reply.array(0);
    Ok(Done::Replied)
}

fn links(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    cx.reply.array(0);
    Ok(Done::Replied)
}

fn cluster_help(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    help(cx, args)
}

/// ASKING, READONLY, READWRITE: no slot is ever on its way to another node, and no core is a replica.
fn nothing_to_do(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    enabled(cx)?;
    cx.reply.ok();
    Ok(Done::Replied)
}
