//! MODULE: there are none. Tools that ask which are loaded are told so.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};

use crate::admin::{Context, Done, NodeCommand, help};

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "4.0.0",
    arity: Arity::exactly(2),
    group: Group::Server,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT),
    acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

/// Flags of what would load or unload one.
const CHANGES: Flags = Flags::ADMIN
    .and(Flags::NO_ASYNC_LOADING)
    .and(Flags::NOSCRIPT)
    .and(Flags::PROTECTED);

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "module",
            summary: "Commands about modules, of which there are none.",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "module|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW,
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "module|list",
            summary: "Lists the modules that are loaded: none.",
            tips: &["nondeterministic_output_order"],
            ..BASE
        },
        run: Some(list),
    },
    NodeCommand {
        spec: Spec {
            name: "module|load",
            summary: "Is refused: this server loads no modules.",
            arity: Arity::at_least(3),
            flags: CHANGES,
            ..BASE
        },
        run: Some(load),
    },
    NodeCommand {
        spec: Spec {
            name: "module|loadex",
            summary: "Is refused: this server loads no modules.",
            since: "7.0.0",
            arity: Arity::at_least(3),
            flags: CHANGES,
            ..BASE
        },
        run: Some(load),
    },
    NodeCommand {
        spec: Spec {
            name: "module|unload",
            summary: "Is refused: no module is loaded.",
            arity: Arity::exactly(3),
            flags: CHANGES,
            ..BASE
        },
        run: Some(unload),
    },
];

fn list(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.array(0);
    Ok(Done::Replied)
}

fn load(_: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let text = "ERR Error loading the extension: this server loads no modules.";
    Err(Refusal::Text(text).into())
}

fn unload(_: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let text = "ERR Error unloading module: no such module with that name";
    Err(Refusal::Text(text).into())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn there_are_no_modules() {
        let mut bench = Bench::new(1);
        let client = bench.connect(0);
        assert_eq!(bench.call(client, "MODULE LIST"), "*0\r\n");
        assert!(
            bench
                .call(client, "MODULE HELP")
                .starts_with("*11\r\n+MODULE <")
        );
        for (request, refusal) in [
            (
                "MODULE LOAD /x.so",
                "-ERR Error loading the extension: this server loads no modules.\r\n",
            ),
            (
                "MODULE LOADEX /x.so",
                "-ERR Error loading the extension: this server loads no modules.\r\n",
            ),
            (
                "MODULE UNLOAD x",
                "-ERR Error unloading module: no such module with that name\r\n",
            ),
        ] {
            assert_eq!(bench.call(client, request), refusal);
        }
    }
}
