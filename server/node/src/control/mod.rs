//! The control plane: one thread beside the cores, for operators and their tools.
//!
//! ```text
//! admin-port ── http.rs ──┬─ /metrics   metrics.rs: atomics that the cores publish once a turn
//!                         ├─ /healthz   the process serves
//!                         ├─ /readyz    the cores run and are not stopping
//!                         └─ /migrate/… migrate/: leaving a Redis
//! ```
//! Here, and only here, code is asynchronous. It never touches a shard: it reads what cores publish, and would
//! reach them by mailbox (`node.handle().post`). It ends with the process. Non-goals: TLS and
//! authentication (bind it to an address that only operators reach), anything on the data path.

pub mod dial;
pub mod disk;
mod http;
pub mod load;
pub mod log;
pub mod metrics;
pub mod migrate;
pub mod sealed;
pub mod snapshot;
pub mod transfer;
pub mod unseal;
pub mod vault;

use std::io;
use std::net::TcpListener;

use crate::node::Node;

/// Serves the admin port on these sockets, from a thread of its own, until the process ends.
///
/// # Errors
/// When the thread or its event loop cannot be made.
pub fn start(node: &'static Node, listeners: Vec<TcpListener>) -> io::Result<()> {
    if listeners.is_empty() {
        return Ok(());
    }
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || runtime.block_on(http::serve(node, listeners)))?;
    Ok(())
}
