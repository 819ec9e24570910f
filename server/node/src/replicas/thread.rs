//! The thread of replicas: it sleeps until a core has queued frames, or a replica has asked, acknowledged or taken something.

use std::io;

use runtime::CoreId;

use crate::control::disk::SystemDisk;
use crate::mail::Mail;
use crate::node::Node;
use crate::start::unix_ms;

/// Starts it; it ends with the process.
///
/// # Errors
/// When it cannot be started.
pub fn start(node: &'static Node) -> io::Result<()> {
    let serve = move || {
        let mut post = |core: CoreId, mail: Mail| match node.handle() {
            Some(handle) => handle.post(core, mail).map_err(Box::new),
            None => Err(Box::new(mail)),
        };
        loop {
            let patience = node.replicas.step(node, &SystemDisk, unix_ms(), &mut post);
            if node.write_log.may_sleep_fed() && !node.replicas.has_news() {
                std::thread::park_timeout(patience);
            }
        }
    };
    let thread = std::thread::Builder::new().name("replicas".to_owned());
    let thread = thread.spawn(serve)?;
    node.write_log.set_feed_thread(thread.thread().clone());
    Ok(())
}
