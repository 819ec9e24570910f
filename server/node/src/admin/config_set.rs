//! CONFIG: options read, changed and written back.
//!
//! A change is made once, in `Node`, and then travels: this core takes it over at once, the others with
//! their next mail. An option that this version could not act on while running is refused, not kept.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};
use runtime::CoreId;
use seal::Keys;

use crate::admin::{Context, Done, NodeCommand, help};
use crate::config::{Caller, Config, Disk, Files, Row, SetError, os_text, rewrite_file};
use crate::control::disk::{Disk as _, SystemDisk};
use crate::control::log::thread as write_log;
use crate::control::vault::{self, Vault};
use crate::gather::Join;
use crate::mail::{Ask, Mail};
use crate::tls;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::ADMIN
        .and(Flags::LOADING)
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
            name: "config",
            summary: "Commands about the configuration.",
            since: "2.0.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "config|get",
            summary: "Tells the values of options.",
            since: "2.0.0",
            arity: Arity::at_least(3),
            ..BASE
        },
        run: Some(config_get),
    },
    NodeCommand {
        spec: Spec {
            name: "config|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW,
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "config|resetstat",
            summary: "Forgets the statistics.",
            since: "2.0.0",
            arity: Arity::exactly(2),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(config_resetstat),
    },
    NodeCommand {
        spec: Spec {
            name: "config|rewrite",
            summary: "Writes the configuration in force to the configuration file.",
            since: "2.8.0",
            arity: Arity::exactly(2),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(config_rewrite),
    },
    NodeCommand {
        spec: Spec {
            name: "config|set",
            summary: "Changes options.",
            since: "2.0.0",
            arity: Arity::at_least(4),
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        run: Some(config_set),
    },
];

/// Options that clients may change in Redis, but that are only looked at when this server starts.
const AT_START_HERE: [&str; 3] = ["bind", "port", "tls-port"];

fn config_get(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let patterns: Vec<&[u8]> = args.rest().collect();
    let found = cx.core.config.get(&patterns);
    cx.reply.map(found.len());
    for (name, value) in found {
        cx.reply.bulk(&name);
        cx.reply.bulk(&value);
    }
    Ok(Done::Replied)
}

fn config_set(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let words: Vec<&[u8]> = args.rest().collect();
    let (pairs, odd) = words.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Refusal::Syntax.into());
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
    let caller = Caller {
        local: cx.conn.peer.is_loopback(),
        loading: cx.core.is_loading(),
    };
    let (mut changed, mut context, mut keys) = (Vec::new(), None, None);
    let config = cx
        .core
        .node
        .change_config(|config| -> Result<(), SetError> {
            changed = config.set(&pairs, caller)?;
            changed.iter().try_for_each(|row| prepare(config, row))?;
            context = prepare_tls(config, &changed)?;
            keys = prepare_keys(&cx.core.node.vault, config, &changed)?;
            Ok(())
        });
    let config = config.map_err(refusal)?;
    if let Some(context) = context {
        cx.core.node.set_tls(Arc::new(context));
    }
    if let Some(keys) = keys {
        take_keys(cx, keys);
    }
    take_effect(cx, &config, &changed);
    cx.reply.ok();
    Ok(Done::Replied)
}

fn refusal(error: SetError) -> Refusal {
    match error {
        SetError::Loading => Refusal::Loading,
        error => Refusal::Owned(format!("ERR {error}").into()),
    }
}

/// What must succeed before a change counts.
fn prepare(config: &mut Config, row: &Row) -> Result<(), SetError> {
    if AT_START_HERE.contains(&row.name) {
        let why = "can only be set at the start of this server; put it in the file and start anew";
        return Err(SetError::failed(row, why));
    }
    if row.name == "dir" {
        let entered = Disk.enter(Path::new(&config.dir));
        let entered = entered.map_err(|failure| SetError::failed(row, os_text(&failure)))?;
        config.dir = entered.display().to_string();
    }
    if row.name == "appendonly" && config.appendonly {
        let why = "Unable to turn on AOF. Check server logs.";
        may_log(config).map_err(|_| SetError::failed(row, why))?;
    }
    Ok(())
}

/// Whether files can be made where the log is to lie; the log itself is made by its thread.
fn may_log(config: &Config) -> std::io::Result<()> {
    let folder = write_log::place(config).folder;
    let probe = folder.join(".may-write");
    SystemDisk.create_dir(&folder)?;
    SystemDisk.create(&probe)?;
    SystemDisk.remove(&probe)
}

/// Options of TLS count together: certificate and key are set at once. Without a port of TLS, and without `tls-cluster`, they are only kept.
fn prepare_tls(config: &Config, changed: &[&Row]) -> Result<Option<tls::Context>, SetError> {
    let Some(row) = changed.iter().find(|row| tls::is_option(row.name)) else {
        return Ok(None);
    };
    let failed =
        |why: String| SetError::failed(row, format!("Unable to update TLS configuration. {why}"));
    if config.tls_cluster || config.tls_replication {
        tls::client_config(config).map_err(failed)?;
    }
    match config.tls_port {
        0 => Ok(None),
        _ => tls::Context::read(config).map(Some).map_err(failed),
    }
}

/// Keys of encryption at rest are read again; `Some(None)` for no encryption any more.
fn prepare_keys(
    vault: &Vault,
    config: &Config,
    changed: &[&Row],
) -> Result<Option<Option<Keys>>, SetError> {
    let row = changed
        .iter()
        .find(|row| vault::OPTIONS.contains(&row.name));
    let Some(row) = row else {
        return Ok(None);
    };
    let keys = vault::read_keys(config).and_then(|keys| {
        vault.may_follow(keys.as_ref())?;
        Ok(keys)
    });
    let keys = keys.map_err(|why| SetError::failed(row, why))?;
    Ok(Some(keys))
}

/// Files that are made from here on are sealed with these keys: the log begins another segment soon.
fn take_keys(cx: &mut Context<'_>, keys: Option<Keys>) {
    let node = cx.core.node;
    let text = match &keys {
        Some(keys) => format!("New files are sealed with the key '{}'", keys.current().id),
        None => "New files are not sealed".to_owned(),
    };
    node.vault.set(keys);
    node.log(|log| log.warning(&text));
    if node.write_log.is_on() {
        node.write_log.turn_over_soon();
    }
}

/// Tells everyone. Connections that are there stay authenticated, as in Redis.
fn take_effect(cx: &mut Context<'_>, config: &Arc<Config>, changed: &[&Row]) {
    let core = &mut *cx.core;
    for row in changed {
        match row.name {
            "tcp-keepalive" => core.node.keepalive().store(config.tcp_keepalive_s, Relaxed),
            "appendonly" => core.posts.push((CoreId(0), Mail::Switched)),
            "appendfsync" => core.node.write_log.set_policy(config.appendfsync),
            "turn-cpu-clock" => core.node.set_turn_cpu_clock(config.turn_cpu_clock),
            "requirepass" => {
                let change = core.node.change_users(|users| {
                    users.set_default_password(config.requirepass.as_bytes());
                    Ok::<_, Infallible>(())
                });
                change.unwrap_or_else(|never| match never {});
            }
            // The cores read the rest where they need it.
            _ => {}
        }
    }
    tell(cx, config);
}

/// Every core takes a changed configuration over.
pub(crate) fn tell(cx: &mut Context<'_>, config: &Arc<Config>) {
    let core = &mut *cx.core;
    core.configure(core.node.config());
    core.take_users();
    for other in (0..core.node.cores() as u16).map(CoreId) {
        if other != core.id {
            core.posts
                .push((other, Mail::Configured(Arc::clone(config))));
        }
    }
}

fn config_rewrite(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let node = cx.core.node;
    let path = node.config_file.as_deref().map(Path::new);
    let mut config = Config::clone(&cx.core.config);
    config.users = node.users().iter().map(|user| user.as_line()).collect();
    rewrite_file(&config, path, &Disk)
        .map_err(|error| Refusal::Owned(format!("ERR {error}").into()))?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn config_resetstat(_: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    Ok(Done::Ask(Ask::ResetStat, Join::Ok))
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn a_change_reaches_every_core() {
        let mut bench = Bench::new(3);
        let clients = [bench.connect(0), bench.connect(1), bench.connect(2)];
        let set = "CONFIG SET maxmemory 100mb hash-max-listpack-entries 3 requirepass secret";
        assert_eq!(bench.call(clients[1], set), "+OK\r\n");
        for client in clients {
            assert_eq!(
                bench.call(client, "CONFIG GET maxmemory"),
                "*2\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n",
                "who is there stays authenticated"
            );
        }
        let late = bench.connect(2);
        assert_eq!(
            bench.call(late, "PING"),
            "-NOAUTH Authentication required.\r\n"
        );
        assert_eq!(bench.call(late, "AUTH secret"), "+OK\r\n");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let mut bench = Bench::new(2);
        let client = bench.connect(0);
        let failed = |option: &str, why: &str| {
            format!("-ERR CONFIG SET failed (possibly related to argument '{option}') - {why}\r\n")
        };
        let cases = [
            ("SET a b c", "-ERR syntax error\r\n".to_owned()),
            (
                "SET a",
                "-ERR wrong number of arguments for 'config|set' command\r\n".to_owned(),
            ),
            (
                "SET nope 1",
                "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'\r\n".to_owned(),
            ),
            (
                "SET timeout 5 maxmemory x",
                failed("maxmemory", "argument must be a memory value"),
            ),
            (
                "SET timeout 5 databases 3",
                failed("databases", "can't set immutable config"),
            ),
            (
                "SET timeout 5 port 7000",
                failed(
                    "port",
                    "can only be set at the start of this server; put it in the file and start anew",
                ),
            ),
            ("SET port 6379", "+OK\r\n".to_owned()),
            (
                "REWRITE",
                "-ERR The server is running without a config file\r\n".to_owned(),
            ),
            (
                "GET timeout",
                "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n".to_owned(),
            ),
            ("GET none*", "*0\r\n".to_owned()),
        ];
        for (request, expected) in cases {
            assert_eq!(bench.call(client, &format!("CONFIG {request}")), expected);
        }
    }

    #[test]
    fn statistics_begin_anew() {
        let mut bench = Bench::new(2);
        let clients = [bench.connect(0), bench.connect(1)];
        for client in clients {
            bench.call(client, "SET a 1");
            bench.call(client, "GET a");
            bench.call(client, "NOPE");
        }
        let stats = bench.call(clients[0], "INFO stats");
        assert!(stats.contains("\r\nkeyspace_hits:2\r\n"), "{stats}");
        assert_eq!(bench.call(clients[0], "CONFIG RESETSTAT"), "+OK\r\n");
        let stats = bench.call(clients[1], "INFO everything");
        assert!(stats.contains("\r\nkeyspace_hits:0\r\n"), "{stats}");
        assert!(stats.contains("\r\ntotal_error_replies:0\r\n"), "{stats}");
        assert!(!stats.contains("cmdstat_set:") && !stats.contains("errorstat_"));
        assert!(stats.contains("\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"));
    }
}
