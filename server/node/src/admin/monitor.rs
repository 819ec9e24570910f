//! MONITOR: what it shows is in `monitor.rs` of the node.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::admin::{Context, Done, NodeCommand};

pub(super) const COMMANDS: &[NodeCommand] = &[NodeCommand {
    spec: Spec {
        name: "monitor",
        summary: "Shows all requests of all clients from now on.",
        group: Group::Server,
        since: "1.0.0",
        arity: Arity::exactly(1),
        flags: Flags::ADMIN
            .and(Flags::LOADING)
            .and(Flags::NOSCRIPT)
            .and(Flags::STALE),
        acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
        keys: &[],
        range: (0, 0, 0),
        tips: &[],
        deprecated_since: None,
    },
    run: Some(monitor),
}];

fn monitor(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    if cx.inside_exec {
        let text = "ERR MONITOR isn't allowed for DENY BLOCKING client";
        return Err(Refusal::Text(text).into());
    }
    if cx.conn.monitor {
        return Ok(Done::Silent);
    }
    cx.core.begin_monitor(cx.conn);
    cx.reply.ok();
    Ok(Done::Replied)
}
