//! The server: connections, dispatch, routing between cores, transactions, configuration.
//!
//! ```text
//! main.rs ── start.rs ── runtime::start ──> one Service per core (service.rs)
//!                                             │ parse ──> dispatch.rs ──> core.rs (runs a command on the shard)
//!                                             │             ├── transaction.rs, locks.rs (several cores)
//!                                             │             ├── multi.rs (MULTI, EXEC, WATCH)
//!                                             │             ├── acl/ (who may do what)
//!                                             │             ├── admin/ (commands of the node)
//!                                             │             └── monitor.rs, commandlog.rs, latency.rs (who watches)
//!                                             └── commit.rs (when replies may leave)
//! control/: the admin port, a thread beside the cores (metrics, health)
//! tls/: TLS between a connection's socket and its parser
//! holds.rs: what holds requests back (data that is being read, a disk that fails, who decides)
//! memory.rs, client_memory.rs: what is used, and what is given up for `maxmemory`
//! allocator.rs: gives freed memory back, a thread beside the cores
//! ```

pub mod acl;
pub mod admin;
pub mod allocator;
pub mod aside;
pub mod asked;
mod background;
mod between;
pub mod blocking;
mod client_memory;
pub mod clients;
pub mod commandlog;
pub mod commit;
pub mod compact;
pub mod config;
pub mod connection;
pub mod control;
pub mod core;
pub mod dispatch;
mod execute;
pub mod executed;
pub mod front;
pub mod gated;
pub mod gather;
pub mod histogram;
mod holds;
pub mod image;
mod inbound;
mod intake;
pub mod keysizes;
pub mod latency;
pub mod locks;
pub mod log;
pub mod mail;
pub mod memory;
pub mod monitor;
pub mod multi;
pub mod node;
mod prefetch;
pub mod process;
pub mod pubsub;
pub mod rates;
pub mod redact;
mod refused;
pub mod reload;
pub mod replicas;
pub mod rewrite;
pub mod scan;
pub mod scripts;
mod served;
pub mod service;
pub mod slot_counts;
pub mod source;
pub mod start;
pub mod stats;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod tracking;
pub mod transaction;
