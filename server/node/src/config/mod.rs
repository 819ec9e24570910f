//! Every option of the server, declared once: what it is called, what it may hold, what it starts as.
//!
//! ```text
//!   redis.conf  ─┐                                  ┌─> CONFIG GET, SET        (change)
//!   stdin  ("-") ├─> load ─> Row::take ─> Config ───┼─> CONFIG REWRITE         (rewrite)
//!   --port 7000 ─┘            (rows/*)              └─> docs/configuration.md  (docs)
//! ```
//!
//! A [`Row`] knows its names, range, default and summary, and holds the pair of functions that reach its
//! field of [`Config`]; `Config::default()` is nothing but every row's default taken in. So the file, the
//! commands, the documentation and the typed fields cannot tell different stories. An option that nothing
//! reads yet has no field: its value is *kept* beside the fields, under its row's name.
//!
//! Spelling and texts are Redis 7.2's, because tools compare them. Everything here is pure but `files`,
//! which is the one place that touches a disk or standard input.
//!
//! How the node uses it: at start [`from_args`]; at CONFIG SET it clones its `Config`, calls
//! [`Config::set`] on the copy, acts on the rows that come back (listen again, log level, ...), and only
//! then puts the copy in the old one's place, or answers [`SetError::failed`] and drops it. When `dir`
//! comes back it asks [`Files::enter`] for the folder, and keeps the path that this gives.
//! Relative paths in options are relative to `Config::dir`, which is absolute once loaded.
//!
//! Not here: acting on a changed option, the meaning of `user` lines, and whether the command that
//! `rename-command` names exists. The lines' words are in [`Config::users`] and [`Config::renames`].

mod argv;
mod change;
mod choices;
mod docs;
mod fields;
mod files;
mod glob;
mod load;
mod rewrite;
mod row;
mod rows;
mod several;
mod value;
mod words;

pub use argv::{Start, from_args, help_text, version_text};
pub use change::{Caller, SetError};
pub use choices::{
    AppendFsync, Choice, DisklessLoad, EndpointType, Io, LogLevel, MaxmemoryPolicy, OomScoreAdj,
    ProtectedAction, PubsubDefault, Supervised, TlsClients,
};
pub use docs::print_docs;
pub use fields::Config;
pub use files::{Disk, Files, os_text};
pub use glob::glob_match;
pub use load::{LoadError, Loaded, Origin, load_text};
pub use rewrite::{RewriteError, rewrite_file};
pub use row::{Change, Kind, Row, Standing, Unit};
pub use rows::{find, groups, rows};
pub use several::{
    KeyspaceEvents, OutputLimit, OutputLimits, Primary, Rename, SavePoint, ShutdownFlags, UserLine,
};
pub use value::{Reject, Secret};
pub(crate) use words::split_words;
