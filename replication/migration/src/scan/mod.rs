//! Following a source that bars PSYNC, *by scan*: what its keys hold comes by SCAN and DUMP, and that they change by its keyspace events.
//!
//! ```text
//!  SCAN, a whole pass ───> keys ──> sizes, DUMP, deadlines ──> values, put here as they are          told.rs
//!                           ^
//!                           └── take ── keys that were touched, the oldest first ──┐
//!  __keyevent@*__:* ──> said.rs: a key, or the echo of a mark ───────────────────> board.rs: marks, passes, a sweep
//! ```
//! **No offset.** A value is read whole after each change that is heard of, so it does not matter how often, and what is here is never older than the
//! last event but for what is queued. Whether all is here is told by a *mark*: a PING on the connection of the events comes back behind every
//! event of what was written before, and is *reached* when all keys that were queued by then have been fetched.
//!
//! **Lost events** cannot be asked for again: whatever may have hidden one (a connection that ended, more keys than may be queued, FLUSHALL, which
//! has no event) makes another whole pass necessary, at whose end keys that are here and not there are removed. Until then nothing is reached.
//!
//! **What no event tells** at all: what XREADGROUP, XACK, XCLAIM and XAUTOCLAIM change of a consumer group. Streams with groups are known by name and
//! fetched again when it matters (a *sweep*, before this node decides).

mod board;
mod said;
mod told;

pub use board::{Board, GROUPED_MAX, Name, QUEUED_BYTES_MAX, QUEUED_KEYS_MAX, UNFIT_MAX};
pub use said::{PATTERN, PROBE_KEY, Said, is_probe, lacking, probe, probed_all, said};
pub use told::{Pulse, deadline_ms, is_stream, pieces};
