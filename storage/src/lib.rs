//! One shard: a deterministic, single-threaded map of typed values.
//!
//! ```text
//! Shard ── db 0..n ── 16384 slot tables ── Item (key, deadline, small value in one block)   table/, item.rs
//!   │                                         └── Collection: list, hash, set, sorted set, stream     value/
//!   ├── typed reads by &self                                                                 shard.rs
//!   ├── Edit: every mutator changes the value AND records an Effect                          edit.rs, steps.rs, session.rs, effect.rs
//!   ├── apply(Effect): the same change from a log, a leader, another region                  apply.rs
//!   ├── wheel of deadlines, garbage freed in slices, versions of watched keys                expiry.rs, garbage.rs, watch.rs
//!   ├── keys given up when memory is needed, by policy                                       eviction/
//!   ├── values and files in Redis's serialisation                                            rdb/
//!   ├── snapshots: the image of one instant, written while data change                       snapshot/
//!   ├── frames and segments of the log, as bytes                                             log/
//!   └── lend / borrow / give_back / take_back: slots on a visit to another core              lend.rs
//! ```
//!
//! Goals: two cache misses a hit, no allocation for a lookup, every step bounded, memory counted
//! exactly. Non-goals: RESP, sockets, files, clocks, threads: time and randomness come in as arguments.

pub mod account;
mod ahead;
mod apply;
mod aside;
mod compact;
mod digest;
mod due;
mod edit;
mod effect;
mod events;
mod eviction;
mod expiry;
mod garbage;
mod hash;
mod held;
mod item;
mod lend;
mod lfu;
mod limits;
pub mod log;
mod packed;
pub mod rdb;
mod rng;
mod session;
mod shard;
mod slot;
mod snapshot;
mod steps;
mod stream_effect;
mod stream_session;
mod table;
mod undo;
mod uses;
mod value;
mod view;
mod watch;
mod whole;
mod wire;

pub use ahead::ElementsAhead;
pub use aside::{Counted, Guise, Notes, Size};
pub use compact::{CompactCursor, Compacted, IsSparse, Movable};
pub use digest::{Digest, shared_digest};
pub use due::Ends;
pub use edit::{Edit, Ttl};
pub use effect::{Corrupt, Effect, Effects, REPLID_BYTES, decode, encode};
pub use events::{Event, EventClass};
pub use eviction::{Choice, Evicted, Eviction};
pub use hash::{Key, seed_process};
pub use item::EMBEDDED_BYTES_MAX;
pub use lend::Lent;
pub use lfu::Lfu;
pub use limits::Limits;
pub use rng::Rng;
pub use session::{HashEdit, ListEdit, SetEdit, StreamEdit, ZsetEdit};
pub use shard::{DbCount, ItemInfo, Shard};
pub use slot::{SLOTS, Slot};
pub use snapshot::{Chunk, Uses};
pub use stream_effect::{StreamChange, words_of};
pub use value::stream::{
    Consumer, Entry, Group, Pending, STREAM_NODE_BYTES_MAX, Stream, StreamId, Trim, TrimTo,
};
pub use value::{
    Added, Collection, Hash, List, Member, OwnedValue, Set, Side, Zset, some_field_expires,
};
pub use view::{Text, Value, WrongType};
pub use watch::{KeyHasher, Touched};
pub use whole::{read_value, write_value};
