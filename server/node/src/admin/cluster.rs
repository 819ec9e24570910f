//! CLUSTER: this node as a cluster whose members are its cores.
//!
//! With `cluster-enabled` each core is told to clients as a node and shard of its own, with its range of
//! slots at its own port, so that cluster clients go straight to the core that holds a key. There are no
//! links, epochs or failures between cores: what Redis tells of those is what a quiet cluster would say.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};
use storage::{SLOTS, Slot};

use crate::admin::cluster_map::{Of, epoch, identity, members, my_core};
use crate::admin::peek::Peek;
use crate::admin::{Context, Done, NodeCommand, cluster_map, help};
use crate::gather::Join;
use crate::mail::Ask;

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
        run: Some(cluster_map::nodes),
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
        run: Some(cluster_map::shards),
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
        run: Some(cluster_map::slots),
    },
];

/// Refuses everything when the node does not speak as a cluster.
pub(super) fn enabled(cx: &Context<'_>) -> Result<(), Refusal> {
    if cx.core.config.cluster_enabled {
        Ok(())
    } else {
        Err(Refusal::ClusterDisabled)
    }
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

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    fn bench(cores: usize) -> Bench {
        Bench::with(cores, |config| config.cluster_enabled = true)
    }

    #[test]
    fn cores_are_told_as_members_with_their_ranges_and_ports() {
        let mut bench = bench(2);
        let client = bench.connect(1);
        let own = bench.connect_own(1);
        let first = bench.call(client, "CLUSTER MYID");
        let second = bench.call(own, "CLUSTER MYID");
        assert_ne!(first, second, "by its own port a core speaks for itself");
        let slots = bench.call(client, "CLUSTER SLOTS");
        let id = |reply: &str| reply.trim_end().rsplit('\n').next().unwrap().to_owned();
        let member = |range: &str, port: u16, of: &str| {
            let id = id(of);
            format!("*3\r\n{range}*4\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$40\r\n{id}\r\n*0\r\n")
        };
        let expected = [
            "*2\r\n".to_owned(),
            member(":0\r\n:8191\r\n", 6380, &first),
            member(":8192\r\n:16383\r\n", 6381, &second),
        ];
        assert_eq!(slots, expected.concat());
        let nodes = bench.call(own, "CLUSTER NODES");
        assert!(nodes.contains(&format!(
            "{} 127.0.0.1:6381@0 myself,master - 0 0 2 connected 8192-16383\n",
            id(&second)
        )));
        let info = bench.call(client, "CLUSTER INFO");
        assert!(info.contains("cluster_state:ok\r\n") && info.contains("cluster_size:2\r\n"));
        let unknown = bench.call(client, "CLUSTER REPLICAS nobody");
        assert_eq!(unknown, "-ERR Unknown node nobody\r\n");
        assert_eq!(
            bench.call(client, &format!("CLUSTER REPLICAS {}", id(&second))),
            "*0\r\n"
        );
        bench.call(client, "HELLO 3");
        let shards = bench.call(client, "CLUSTER SHARDS");
        assert!(shards.starts_with(
            "*2\r\n%2\r\n$5\r\nslots\r\n*2\r\n:0\r\n:8191\r\n$5\r\nnodes\r\n*1\r\n%7\r\n"
        ));
    }

    #[test]
    fn slots_are_looked_at_where_they_are() {
        for cores in [1, 2] {
            let mut bench = bench(cores);
            let client = bench.connect(0);
            for key in ["{a}1", "{a}2", "{b}1"] {
                bench.call(client, &format!("SET {key} x"));
            }
            for key in ["a", "b"] {
                let slot = bench.call(client, &format!("CLUSTER KEYSLOT {key}"));
                let slot = slot.trim_end().trim_start_matches(':').to_owned();
                let count = if key == "a" { 2 } else { 1 };
                assert_eq!(
                    bench.call(client, &format!("CLUSTER COUNTKEYSINSLOT {slot}")),
                    format!(":{count}\r\n")
                );
                let keys = bench.call(client, &format!("CLUSTER GETKEYSINSLOT {slot} 1"));
                assert!(
                    keys.starts_with(&format!("*1\r\n$4\r\n{{{key}}}")),
                    "{keys}"
                );
            }
            let cases = [
                ("COUNTKEYSINSLOT 16384", "-ERR Invalid slot\r\n"),
                (
                    "GETKEYSINSLOT 0 -1",
                    "-ERR Invalid slot or number of keys\r\n",
                ),
                (
                    "COUNTKEYSINSLOT x",
                    "-ERR value is not an integer or out of range\r\n",
                ),
            ];
            for (request, reply) in cases {
                assert_eq!(bench.call(client, &format!("CLUSTER {request}")), reply);
            }
        }
    }

    #[test]
    fn without_cluster_mode_all_is_refused() {
        let mut bench = Bench::new(1);
        let client = bench.connect(0);
        let refused = "-ERR This instance has cluster support disabled\r\n";
        for command in ["CLUSTER SLOTS", "CLUSTER HELP", "READONLY", "ASKING"] {
            assert_eq!(bench.call(client, command), refused);
        }
        assert_eq!(
            bench.call(client, "CLUSTER NOPE"),
            "-ERR unknown subcommand 'NOPE'. Try CLUSTER HELP.\r\n"
        );
    }
}
