//! FUNCTION: libraries of functions.

use std::sync::Arc;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};
use script::{Libraries, Library, dump, restore};
use storage::log::FrameKind;

use crate::admin::{Context, Done, NodeCommand, help};
use crate::config::glob_match;
use crate::core::Core;
use crate::scripts::commands::is_flush_mode;
use crate::scripts::run::{busy_us, kill, refusal};

const READS: Flags = Flags::NOSCRIPT;
const WRITES: Flags = Flags::NOSCRIPT.and(Flags::WRITE);
const ACL_READS: Acl = Acl::SCRIPTING.and(Acl::SLOW);
const ACL_WRITES: Acl = ACL_READS.and(Acl::WRITE);
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    group: Group::Scripting,
    since: "7.0.0",
    arity: Arity::exactly(2),
    flags: READS,
    acl: ACL_READS,
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(crate) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "function",
            summary: "Commands about functions.",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            ..BASE
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "function|delete",
            summary: "Removes a library.",
            arity: Arity::exactly(3),
            flags: WRITES,
            acl: ACL_WRITES,
            tips: ALL_SHARDS,
            ..BASE
        },
        run: Some(delete),
    },
    NodeCommand {
        spec: Spec {
            name: "function|dump",
            summary: "Tells all libraries as one payload.",
            ..BASE
        },
        run: Some(function_dump),
    },
    NodeCommand {
        spec: Spec {
            name: "function|flush",
            summary: "Removes all libraries.",
            arity: Arity::at_least(2),
            flags: WRITES,
            acl: ACL_WRITES,
            tips: ALL_SHARDS,
            ..BASE
        },
        run: Some(flush),
    },
    NodeCommand {
        spec: Spec {
            name: "function|help",
            summary: "Lists the subcommands.",
            flags: Flags::LOADING.and(Flags::STALE),
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "function|kill",
            summary: "Stops a function that runs for long, and undoes what it has written.",
            flags: Flags::ALLOW_BUSY.and(Flags::NOSCRIPT),
            tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
            ..BASE
        },
        run: Some(function_kill),
    },
    NodeCommand {
        spec: Spec {
            name: "function|list",
            summary: "Tells of all libraries.",
            arity: Arity::at_least(2),
            tips: &["nondeterministic_output_order"],
            ..BASE
        },
        run: Some(list),
    },
    NodeCommand {
        spec: Spec {
            name: "function|load",
            summary: "Adds a library.",
            arity: Arity::at_least(3),
            flags: WRITES.and(Flags::DENYOOM),
            acl: ACL_WRITES,
            tips: ALL_SHARDS,
            ..BASE
        },
        run: Some(load),
    },
    NodeCommand {
        spec: Spec {
            name: "function|restore",
            summary: "Adds the libraries of a payload.",
            arity: Arity::at_least(3),
            flags: WRITES.and(Flags::DENYOOM),
            acl: ACL_WRITES,
            tips: ALL_SHARDS,
            ..BASE
        },
        run: Some(function_restore),
    },
    NodeCommand {
        spec: Spec {
            name: "function|stats",
            summary: "Tells of the function that runs, and how many there are.",
            flags: Flags::ALLOW_BUSY.and(Flags::NOSCRIPT),
            tips: &[
                "nondeterministic_output",
                "request_policy:all_shards",
                "response_policy:special",
            ],
            ..BASE
        },
        run: Some(stats),
    },
];

/// Runs the code of a library; it is registered here, and nowhere yet.
fn compile(core: &mut Core, code: &[u8]) -> Result<Arc<Library>, String> {
    core.ready_engine()
        .map_err(|refused| refused.0.to_string())?;
    core.sync_libraries();
    let loaded = core.with_engine(|engine, host| engine.load(code, host));
    loaded.unwrap_or_else(|| Err("Lua is busy".to_owned()))
}

impl Core {
    /// Forgets all libraries; nothing is logged.
    pub(crate) fn forget_libraries(&mut self) {
        let forget = |libraries: &mut Libraries| {
            *libraries = Libraries::default();
            Ok(())
        };
        let _always = self.node.scripting.change_libraries(forget, |_| {});
        self.forget_library_changes();
    }

    /// Puts the libraries of a payload of FUNCTION DUMP in the place of those that are there.
    ///
    /// # Errors
    /// What is wrong with them; then nothing has changed.
    pub(crate) fn restore_libraries(&mut self, payload: &[u8]) -> Result<(), String> {
        let mut new = Libraries::default();
        for code in restore(payload)? {
            let library = compile(self, &code);
            let added = library.and_then(|library| new.add(&[library], false));
            added.inspect_err(|_| self.forget_library_changes())?;
        }
        let replace = |libraries: &mut Libraries| {
            *libraries = new;
            Ok(())
        };
        let changed = self.node.scripting.change_libraries(replace, |_| {});
        self.forget_library_changes();
        changed
    }
}

/// Changes the node's libraries; whatever this core has compiled is compared with them when it is used next.
fn change(
    core: &mut Core,
    change: impl FnOnce(&mut Libraries) -> Result<(), String>,
) -> Result<(), Refused> {
    let (log, id, now_ms) = (&core.node.write_log, core.id.0, core.now.unix_ms);
    let changed = core.node.scripting.change_libraries(change, |libraries| {
        if log.is_wanted() {
            // Here, where no other core can change them: the log has the changes in their order.
            let payload = dump(libraries.iter().map(|library| library.code.as_slice()));
            log.push(FrameKind::Libraries, id, now_ms, &payload);
        }
    });
    core.forget_library_changes();
    changed.map_err(refusal)
}

fn load(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let mut replace = false;
    while args.left() > 1 {
        let option = args.bytes()?;
        if !option.eq_ignore_ascii_case(b"replace") {
            let text = String::from_utf8_lossy(option);
            return Err(refusal(format!("Unknown option given: {text}")));
        }
        replace = true;
    }
    let code = args.bytes()?;
    let known = cx.core.node.scripting.libraries();
    let taken = |name: &str| !replace && known.get(name).is_some();
    if let Some(name) = script::named(code)
        && taken(&name)
    {
        return Err(refusal(format!("Library '{name}' already exists")));
    }
    let library = compile(cx.core, code);
    let library = library.inspect_err(|_| cx.core.forget_library_changes());
    let library = library.map_err(refusal)?;
    let name = library.name.clone();
    change(cx.core, |libraries| libraries.add(&[library], replace))?;
    cx.reply.bulk(name.as_bytes());
    Ok(Done::Replied)
}

/// Whether a library of a file could be taken over beside those that are there.
///
/// # Errors
/// Why not.
pub(crate) fn must_be_new(core: &mut Core, code: &[u8]) -> Result<(), String> {
    let library = compile(core, code);
    core.forget_library_changes();
    let mut libraries = Libraries::clone(&core.node.scripting.libraries());
    libraries.add(&[library?], false)
}

/// Writes to the log what libraries there are.
pub(crate) fn log_libraries(core: &mut Core) {
    // (A change that changes nothing is never refused.)
    let _always = change(core, |_| Ok(()));
}

/// Takes over a library from a file; it replaces one of its name.
pub(crate) fn load_library(core: &mut Core, code: &[u8]) -> Result<(), String> {
    let library = compile(core, code);
    let library = library.inspect_err(|_| core.forget_library_changes())?;
    let changed = core
        .node
        .scripting
        .change_libraries(|libraries| libraries.add(&[library], true), |_| {});
    core.forget_library_changes();
    changed
}

fn delete(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let name = args.bytes()?;
    change(cx.core, |libraries| match libraries.remove(name) {
        true => Ok(()),
        false => Err("Library not found".to_owned()),
    })?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn flush(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::Text(
            "ERR unknown subcommand or wrong number of arguments for 'flush'. Try FUNCTION HELP.",
        )
        .into());
    }
    if !is_flush_mode(args) {
        let text = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option";
        return Err(Refusal::Text(text).into());
    }
    change(cx.core, |libraries| {
        *libraries = Libraries::default();
        Ok(())
    })?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn function_kill(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    kill(cx.core, true)?;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn list(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let (mut with_code, mut pattern) = (false, None);
    while args.left() > 0 {
        let word = args.bytes()?;
        if !with_code && word.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
            if args.left() == 0 {
                let text = "ERR library name argument was not given";
                return Err(Refusal::Text(text).into());
            }
            pattern = Some(args.bytes()?);
        } else {
            let text = String::from_utf8_lossy(word);
            return Err(refusal(format!("Unknown argument {text}")));
        }
    }
    let libraries = cx.core.node.scripting.libraries();
    let shown = |library: &&Arc<Library>| {
        pattern.is_none_or(|pattern| glob_match(pattern, library.name.as_bytes(), true))
    };
    let shown: Vec<_> = libraries.iter().filter(shown).collect();
    let reply = &mut cx.reply;
    reply.array(shown.len());
    for library in shown {
        reply.map(if with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(library.name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(function.name.as_bytes());
            reply.bulk(b"description");
            match &function.description {
                Some(text) => reply.bulk(text),
                None => reply.null(),
            }
            reply.bulk(b"flags");
            reply.set(function.flags.names().count());
            function.flags.names().for_each(|name| reply.simple(name));
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    Ok(Done::Replied)
}

fn stats(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let (now_us, busy_us) = (cx.core.now.mono_us, busy_us(cx.core));
    let scripting = &cx.core.node.scripting;
    let shown = scripting.shown(now_us, busy_us);
    let shown = shown.map_err(|()| Refusal::BusyScript)?;
    let libraries = scripting.libraries();
    let reply = &mut cx.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    match shown {
        None => reply.null(),
        Some((shown, ms)) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(shown.name.as_bytes());
            reply.bulk(b"command");
            reply.array(shown.words.len());
            shown.words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.int(ms as i64);
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.int(libraries.iter().len() as i64);
    reply.bulk(b"functions_count");
    reply.int(libraries.functions() as i64);
    Ok(Done::Replied)
}

fn function_dump(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let libraries = cx.core.node.scripting.libraries();
    let payload = dump(libraries.iter().map(|library| library.code.as_slice()));
    cx.reply.bulk(&payload);
    Ok(Done::Replied)
}

/// What becomes of the libraries that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Append,
    Replace,
    Flush,
}

fn function_restore(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let payload = args.bytes()?;
    if args.left() > 1 {
        return Err(Refusal::Text(
            "ERR unknown subcommand or wrong number of arguments for 'restore'. Try FUNCTION HELP.",
        )
        .into());
    }
    let policy = match args
        .rest()
        .next()
        .map(<[u8]>::to_ascii_lowercase)
        .as_deref()
    {
        None | Some(b"append") => Policy::Append,
        Some(b"replace") => Policy::Replace,
        Some(b"flush") => Policy::Flush,
        Some(_) => {
            let text =
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
            return Err(Refusal::Text(text).into());
        }
    };
    let codes = restore(payload).map_err(refusal)?;
    let mut new = Libraries::default();
    let mut failed = None;
    for code in &codes {
        let added = compile(cx.core, code).and_then(|library| new.add(&[library], false));
        if let Err(text) = added {
            failed = Some(text);
            break;
        }
    }
    if let Some(text) = failed {
        cx.core.forget_library_changes();
        return Err(refusal(text));
    }
    change(cx.core, |libraries| {
        if policy == Policy::Flush {
            *libraries = Libraries::default();
        }
        let new: Vec<_> = new.iter().map(Arc::clone).collect();
        libraries.add(&new, policy == Policy::Replace)
    })?;
    cx.reply.ok();
    Ok(Done::Replied)
}
