//! RESP: bytes to words, words to bytes.
//!
//! ```text
//!  socket bytes                                              socket bytes
//!      |                                                          ^
//!      v                                                          |
//!   Parser -----> words -----> Args -----> handler -----> Reply --+
//!  (parse.rs)   (offsets)   (args.rs)   (elsewhere)    (reply.rs)
//!                              |
//!                              +--> Refusal (refusal.rs): the client's mistake, in Redis's words
//! ```
//!
//! - A request is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or one inline line (`GET k\r\n`).
//! - `spec.rs` is what can be *said* about a command (arity, flags, where its keys are); this crate
//!   contains no command.
//! - `number.rs` reads and prints numbers exactly as Redis 7.2 does, `long_double.rs` does so for
//!   the x87 extended numbers of INCRBYFLOAT.
//! - `request.rs` and `answer.rs` are the client's side: benches, comparison with Redis, migration.
//!
//! Goals: no allocation per request, no rescanning of a request that arrives in pieces, and memory
//! that grows only with bytes that have arrived, never with a number a client has merely claimed.
//! Non-goals: sockets, commands, authentication.
#![deny(clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, reason = "a test may fail by panic")
)]

pub mod answer;
pub mod args;
mod big;
mod float_text;
mod grisu;
mod inline;
mod key_spec;
mod long_double;
pub mod number;
pub mod parse;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod spec;

pub use args::Args;
pub use inline::unquote;
pub use parse::{Limits, Parsed, Parser, ProtocolError, Word};
pub use refusal::Refusal;
pub use reply::{Later, Reply, Resp};
pub use spec::{Acl, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Spec};
