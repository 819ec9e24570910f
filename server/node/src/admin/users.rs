//! ACL as far as there is one user: `default`, who may do everything.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::admin::{Context, DEFAULT_USER, Done, NodeCommand, help};

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::LOADING
        .and(Flags::NOSCRIPT)
        .and(Flags::SENTINEL)
        .and(Flags::STALE),
    acl: Acl::SLOW,
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "acl",
            summary: "Commands about users.",
            since: "6.0.0",
            arity: Arity::at_least(2),
            flags: Flags::SENTINEL,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "acl|cat",
            summary: "Lists categories, or the commands of one.",
            since: "6.0.0",
            arity: Arity::at_least(2),
            ..BASE
        },
        run: Some(acl_cat),
    },
    NodeCommand {
        spec: Spec {
            name: "acl|help",
            summary: "Lists the subcommands.",
            since: "6.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::SENTINEL).and(Flags::STALE),
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "acl|users",
            summary: "Lists the names of users.",
            since: "6.0.0",
            arity: Arity::exactly(2),
            flags: Flags::ADMIN
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(acl_users),
    },
    NodeCommand {
        spec: Spec {
            name: "acl|whoami",
            summary: "Tells the user of the connection.",
            since: "6.0.0",
            arity: Arity::exactly(2),
            ..BASE
        },
        run: Some(acl_whoami),
    },
];

fn acl_cat(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    if args.left() == 0 {
        let names = Acl::all_names();
        cx.reply.array(names.clone().count());
        names.for_each(|name| cx.reply.bulk(name.as_bytes()));
        return Ok(Done::Replied);
    }
    let name = args.bytes()?;
    let Some(category) = Acl::from_name(name) else {
        let text = format!("ERR Unknown category '{}'", String::from_utf8_lossy(name));
        return Err(Refusal::Owned(text.into()).into());
    };
    let rows = cx.core.table.rows().iter();
    let members = rows.filter(|row| row.spec.acl.contains(category));
    cx.reply.array(members.clone().count());
    members.for_each(|row| cx.reply.bulk(row.spec.name.as_bytes()));
    Ok(Done::Replied)
}

fn acl_users(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.array(1);
    cx.reply.bulk(DEFAULT_USER);
    Ok(Done::Replied)
}

fn acl_whoami(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.bulk(DEFAULT_USER);
    Ok(Done::Replied)
}
