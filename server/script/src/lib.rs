//! Lua scripts and functions, as Redis 7.2 runs them: the language, its libraries, the sandbox, and what a script sees of
//! the server, which is a [`Host`] here.
//!
//! ```text
//!  EVAL, FCALL (node) ──> Engine::run ──> Lua: script ──> redis.call ──> Host::call (node) ──> RESP
//!                            │  ▲                             │                                 │
//!          reply.rs: value ──┘  └── Watchdog: kill? ──        └── reply.rs: RESP to values <────┘
//! ```
//! One [`Engine`] belongs to one core and holds one Lua state: compiled scripts, loaded libraries. What all cores share
//! (texts by their digests, libraries by their names) is in `cache.rs` and `library.rs`: plain data, locked by the node.
//!
//! Goals: an unmodified script gives the reply that Redis gives, error texts included; a script can always be stopped; its
//! memory is bounded. Non-goals: keys, slots, undoing what a script wrote: the node does that.

mod bundled;
mod cache;
mod engine;
mod guard;
mod library;
mod payload;
mod prng;
mod redis;
mod reply;
mod sandbox;
mod sha1;
mod source;

pub use cache::{Cache, Script, Sha};
pub use engine::{Engine, Outcome, Run};
pub use library::{Function, Libraries, Library};
pub use payload::{dump, restore};
pub use sha1::sha1_hex;
pub use source::{Flags, FlagsOf, named};

use protocol::{Args, Resp};

/// The server, as a running script sees it.
pub trait Host {
    /// Runs a command; its reply is appended to `out`.
    fn call(&mut self, args: Args<'_>, resp: Resp, out: &mut Vec<u8>) -> Called;
    /// Whether the user may run a command; None without such a command.
    fn may_call(&mut self, args: Args<'_>) -> Option<bool>;
    /// A line for the server's log, of a level from 0 (debug) to 3 (warning).
    fn log(&mut self, level: u8, text: &[u8]);
}

/// How [`Host::call`] ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Called {
    /// The reply is written.
    Replied,
    /// The command was refused before it ran: the error text, with its code.
    Refused(String),
    /// The script must stop at once and leave no trace: it will be run again elsewhere.
    Abandon,
}

/// Who looks after a running script.
pub trait Watchdog {
    /// Whether the script must stop now, and how. Asked about every ten thousand instructions.
    fn look(&self) -> Option<Halt>;

    /// Processor time that the process has used, us: what `os.clock` tells.
    fn cpu_us(&self) -> u64;
}

/// How a running script is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// With this error text, its code included.
    Kill(String),
    /// As [`Called::Abandon`].
    Abandon,
}
