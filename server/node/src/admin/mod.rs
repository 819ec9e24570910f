//! Commands of the node: they run where the connection is, with the node instead of a shard.
//!
//! The same rows as the commands on data, with another kind of function. To add one: a row beside its
//! function in a file here, and the file's `COMMANDS` in the list below.

mod client;
mod client_list;
mod cluster;
mod cluster_map;
mod command_info;
mod config_set;
mod debug;
mod docs;
mod graph;
pub mod info;
mod info_sections;
pub mod latency;
mod memory;
pub(crate) mod migrate;
mod module;
mod monitor;
pub mod peek;
pub mod populate;
mod pubsub;
pub(crate) mod replicas;
mod server;
mod session;
pub(crate) mod slot_stats;
mod slowlog;
pub(crate) mod tracking;
mod users;

pub(crate) use config_set::tell as tell_config;
pub(crate) use pubsub::PUBLISH;

use commands::Refused;
use protocol::{Args, Reply, Spec};

use crate::connection::Connection;
use crate::core::Core;
use crate::gather::Join;
use crate::mail::Ask;
use crate::replicas::AckWait;
use crate::table::Row;

/// The Redis version that clients are told: behaviour follows it.
pub const VERSION_REPORTED: &str = "7.4.9";

/// A handler of the node.
pub type NodeRun = fn(&mut Context<'_>, Args<'_>) -> Result<Done, Refused>;

/// A command that the node runs.
pub struct NodeCommand {
    /// What can be said of it.
    pub spec: Spec,
    /// What it does; None when only its subcommands do something.
    pub run: Option<NodeRun>,
}

/// How a handler of the node has answered.
pub enum Done {
    /// The reply is written.
    Replied,
    /// There is no reply.
    Silent,
    /// Every core is asked, and the answers become the reply. The handler has changed nothing yet: when
    /// earlier replies are outstanding it is called again later.
    Ask(Ask, Join),
    /// The reply comes by a transaction.
    Later,
    /// This is the reply, at this time (unix ms; None: never) or where nobody may wait.
    Wait(Option<u64>, Vec<u8>),
    /// As `Wait`; the reply tells who has what was written.
    WaitAcks(Option<u64>, AckWait),
}

/// What a handler of the node works with.
pub struct Context<'a> {
    /// The core that the connection is on.
    pub core: &'a mut Core,
    /// The connection.
    pub conn: &'a mut Connection,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// The command's row.
    pub row: &'static Row,
    /// It runs inside EXEC: nothing can be asked of other cores.
    pub inside_exec: bool,
}

/// All commands of the node.
pub fn all() -> impl Iterator<Item = &'static NodeCommand> {
    let families: [&[NodeCommand]; 22] = [
        session::COMMANDS,
        client::COMMANDS,
        command_info::COMMANDS,
        config_set::COMMANDS,
        info::COMMANDS,
        server::COMMANDS,
        memory::COMMANDS,
        replicas::COMMANDS,
        crate::replicas::commands::COMMANDS,
        cluster::COMMANDS,
        slot_stats::COMMANDS,
        debug::COMMANDS,
        latency::COMMANDS,
        pubsub::COMMANDS,
        slowlog::COMMANDS,
        module::COMMANDS,
        monitor::COMMANDS,
        migrate::COMMANDS,
        users::COMMANDS,
        crate::multi::COMMANDS,
        crate::scripts::COMMANDS,
        crate::scripts::FUNCTION_COMMANDS,
    ];
    families.into_iter().flatten()
}

/// HELP of a container: its subcommands and what they do.
pub(crate) fn help(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let (container, _) = cx.row.spec.name.split_once('|').unwrap_or_default();
    let rows = cx.core.table.rows();
    let subcommands = rows.iter().filter(|row| {
        row.spec
            .name
            .split_once('|')
            .is_some_and(|(parent, _)| parent == container)
    });
    let upper = container.to_ascii_uppercase();
    cx.reply.array(1 + 2 * subcommands.clone().count());
    cx.reply.simple(&format!(
        "{upper} <subcommand> [<argument> ...], with these subcommands:"
    ));
    for row in subcommands {
        let name = row.spec.name.split_once('|').map_or("", |(_, name)| name);
        cx.reply.simple(&name.to_ascii_uppercase());
        cx.reply.simple(&format!("    {}", row.spec.summary));
    }
    Ok(Done::Replied)
}
