//! Leaving Redis, and being understood by one: everything of it that is bytes in, bytes out.
//!
//! ```text
//! a Redis ── PSYNC: an RDB file, then requests with offsets ──> this node           (replica: `psync`, `stream`)
//! this node ── effects said as requests, with offsets ──> a Redis, or another node  (primary: `feed`, `backlog`)
//! this node ── effects said as requests, in transactions with a position ──> a Redis that is nobody's replica    (`written`)
//! a Redis that bars PSYNC ── its keys one by one, and its keyspace events ──> this node                          (`scan`)
//! who decides, and when: `phase`, `flip`; remembered: `state`; before it `assess`, on the way `compare`
//! ```
//! No sockets, no clocks, no threads: `node` has those. See docs/adr/0014-leaving-redis.md for how the parts fit.

mod absolute;
pub mod assess;
mod authority;
pub mod backlog;
pub mod compare;
pub mod feed;
pub mod flip;
mod phase;
mod position;
pub mod psync;
pub mod scan;
mod side;
mod slots;
mod state;
pub mod stream;
pub mod topology;
pub mod written;

pub use absolute::absolute;
pub use authority::Authority;
pub use backlog::Backlog;
pub use feed::{Feed, Reader};
pub use phase::{Facts, LAG_BYTES_MAX, Phase, Stay};
pub use position::{Position, ReplId};
pub use side::Side;
pub use slots::Slots;
pub use state::{
    BARRED_COMMANDS_BYTES_MAX, BARRED_USERS_MAX, Bar, Intent, OldSide, PATTERNS_BYTES_MAX,
    PATTERNS_MAX, Place, STATE_BYTES_MAX, Server, State, StateError, is_host, patterns_of,
};
pub use topology::{Shard, Topology};
