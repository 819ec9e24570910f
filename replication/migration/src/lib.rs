//! Leaving Redis, and being understood by one: everything of it that is bytes in, bytes out.
//!
//! ```text
//! a Redis ── PSYNC: an RDB file, then requests with offsets ──> this node           (replica: `psync`, `stream`)
//! this node ── effects said as requests, with offsets ──> a Redis, or another node  (primary: `feed`, `backlog`)
//! ```
//! No sockets, no clocks, no threads: `node` has those. See docs/adr/0014-leaving-redis.md for how the parts fit.

mod absolute;
mod authority;
mod position;
pub mod psync;
pub mod stream;

pub use absolute::absolute;
pub use authority::Authority;
pub use position::{Position, ReplId};
