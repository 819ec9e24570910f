//! TLS, between a connection's socket and its parser.
//!
//! ```text
//!   tls-port ──> Connection::tls = Some(Session)           on_bytes: open() ─> parser
//!   port     ──> Connection::tls = None: nothing is added  flush:    seal(): a turn's replies in one send
//!
//!   options, files ──> Context (one for all cores, in Node) ──> Session::new at accept
//! ```
//! A connection keeps the context it began with. A new one is made by CONFIG SET of an option of TLS, and when a file
//! has changed (looked at every few seconds by a thread of its own); when it cannot be made the old one stays in force.
//! Bounds: a handshake must end within [`HANDSHAKE_MS_MAX`], and no more than one unfinished message is kept.
//!
//! Not here: TLS of links between nodes, but for MIGRATE's (`client.rs`).

mod client;
mod context;
mod expiry;
mod session;
mod sessions;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub use client::{Sealed, client_config};
pub use context::Context;
pub use session::{Broken, Session};

use crate::node::Node;

/// How long a handshake may take, ms.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Options that make another context.
pub fn is_option(name: &str) -> bool {
    name.starts_with("tls-") && name != "tls-port"
}

/// Starts the thread that looks whether files have changed; it ends with the process. None is needed without TLS.
///
/// # Errors
/// When it cannot be started.
pub fn start(node: &'static Node) -> io::Result<()> {
    if node.config().tls_port == 0 {
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("tls-files".to_owned());
    thread.spawn(move || watch(node)).map(drop)
}

fn watch(node: &Node) {
    let mut seen = context::marks(&node.config());
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = context::marks(&node.config());
        if now == seen {
            continue;
        }
        reload(node);
        seen = now;
    }
}

/// Reads the files anew; a failure is told and leaves the old context in force.
fn reload(node: &Node) {
    match Context::read(&node.config()) {
        Ok(context) => node.set_tls(Arc::new(context)),
        Err(why) => {
            // A pair of files that is replaced one after the other fails once and is well at the next look.
            node.tls_reload_failures.fetch_add(1, Relaxed);
            eprintln!("TLS: changed files are not taken, the old ones stay in force: {why}");
        }
    }
}
