//! EVAL, FCALL and their kin: where a script runs, what it may touch, and how all of it is undone.
//!
//! ```text
//! EVAL k1 k2 ──> the slots of its keys here? ──yes──> run here ──touches another slot──> undo, run again with every slot
//!                        │ no: borrow them (transaction.rs) ─┘                          (and from then on at once)
//! ```
//! - A script runs on its connection's core, inline between two commands: nobody sees half of it.
//! - Its changes are undone as a whole when it is stopped (SCRIPT KILL, `script-kill-after-ms`) or has to begin anew.
//! - One that runs for long begins anew beside the cores, with every slot; then others are told BUSY: `busy.rs`.
//!   An error of the script itself undoes nothing, as in Redis.
//! - Compiled code is each core's own. Texts, libraries and who runs what are the node's: `shared.rs`.
//!
//! Why so: docs/adr/0007-scripts-can-be-undone.md.

mod busy;
mod commands;
mod functions;
mod host;
mod run;
mod shared;
#[cfg(test)]
mod tests;
mod watchdog;

pub(crate) use busy::Busy;
pub(crate) use commands::COMMANDS;
pub(crate) use functions::COMMANDS as FUNCTION_COMMANDS;
pub(crate) use functions::{load_library, log_libraries, must_be_new};
pub(crate) use run::keep_text;
pub use run::{Caller, Ended};
pub use shared::Scripting;

use std::rc::Rc;

use protocol::{Acl, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Spec};
use script::Engine;

/// The commands that run scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// EVAL and EVAL_RO.
    Eval,
    /// EVALSHA and EVALSHA_RO.
    EvalSha,
    /// FCALL and FCALL_RO.
    Fcall,
}

/// What a core keeps for scripts.
pub struct CoreScripts {
    /// The state of Lua, once a script has run here.
    engine: Option<Box<Engine>>,
    /// What the engine's watchdog is to know of the present run.
    watched: Rc<watchdog::Watched>,
    /// As of which change of the shared scripts and libraries the engine is.
    flushes: u64,
    library_changes: u64,
    memory_max: u64,
    /// The script of this core that runs beside the cores.
    beside: Option<busy::Beside>,
    /// Why requests are refused that are not for such times.
    busy: Option<Busy>,
    /// What runs was executed elsewhere: it may write, whoever decides what keys hold.
    pub(crate) obeys: bool,
    /// Beside the cores: when the run is logged as slow, us after its begin (0: it has been), and how large the state of Lua was
    /// when it was weighed last.
    pub(crate) slow_us: u64,
    weighed_bytes: usize,
}

impl CoreScripts {
    pub(crate) fn new() -> CoreScripts {
        CoreScripts {
            engine: None,
            watched: Rc::default(),
            flushes: 0,
            library_changes: 0,
            memory_max: 0,
            beside: None,
            busy: None,
            obeys: false,
            slow_us: 0,
            weighed_bytes: 0,
        }
    }
}

const fn key_spec(flags: KeyFlags) -> KeySpec {
    KeySpec {
        begin: Begin::Index(2),
        find: Find::KeyNum {
            count_at: 0,
            first: 1,
            step: 1,
        },
        flags,
    }
}

const KEYS: &[KeySpec] = &[key_spec(
    KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE),
)];
const KEYS_RO: &[KeySpec] = &[key_spec(KeyFlags::RO.and(KeyFlags::ACCESS))];

const fn spec(name: &'static str, summary: &'static str, since: &'static str) -> Spec {
    let flags = Flags::MOVABLEKEYS
        .and(Flags::NO_MANDATORY_KEYS)
        .and(Flags::NOSCRIPT)
        .and(Flags::SKIP_MONITOR)
        .and(Flags::STALE);
    Spec {
        name,
        summary,
        group: Group::Scripting,
        since,
        arity: Arity::at_least(3),
        flags: flags.and(Flags::MAY_REPLICATE),
        acl: Acl::SCRIPTING.and(Acl::SLOW),
        keys: KEYS,
        range: (0, 0, 0),
        tips: &[],
        deprecated_since: None,
    }
}

const fn read_only(name: &'static str, summary: &'static str) -> Spec {
    Spec {
        flags: Flags::MOVABLEKEYS
            .and(Flags::NO_MANDATORY_KEYS)
            .and(Flags::NOSCRIPT)
            .and(Flags::READONLY)
            .and(Flags::SKIP_MONITOR)
            .and(Flags::STALE),
        keys: KEYS_RO,
        ..spec(name, summary, "7.0.0")
    }
}

/// Their rows.
pub(crate) const ROWS: &[(Spec, Kind)] = &[
    (spec("eval", "Runs a script of Lua.", "2.6.0"), Kind::Eval),
    (
        spec(
            "evalsha",
            "Runs a script by the digest of its text.",
            "2.6.0",
        ),
        Kind::EvalSha,
    ),
    (
        read_only("eval_ro", "Runs a script of Lua that may not write."),
        Kind::Eval,
    ),
    (
        read_only(
            "evalsha_ro",
            "Runs a script that may not write by the digest of its text.",
        ),
        Kind::EvalSha,
    ),
    (
        spec("fcall", "Runs a function of a library.", "7.0.0"),
        Kind::Fcall,
    ),
    (
        read_only(
            "fcall_ro",
            "Runs a function of a library that may not write.",
        ),
        Kind::Fcall,
    ),
];
