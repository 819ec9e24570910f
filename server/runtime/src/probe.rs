#![allow(unsafe_code, reason = "submits a real receive to see whether it works")]
//! Whether io_uring can be used here: not by version, but by doing what the driver will do.

use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::ring::{GROUP, Ring};

/// Waits for the kernel before it is given up.
const ROUNDS_MAX: usize = 10;
const ROUND_MS: u64 = 100;

/// Why io_uring cannot be used here, if so: tries a ring with the driver's flags, a buffer ring, and a multishot recv
/// on a socketpair. Sandboxes often forbid io_uring (EPERM, ENOSYS), old kernels lack parts of it.
pub fn probe() -> Result<(), String> {
    let fault = |what: &'static str| move |error| format!("{what}: {error}");
    let mut ring = Ring::new(4096, 8).map_err(|error| format!("setup: {error}"))?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(fault("socketpair"))?;
    // SAFETY: a multishot recv points to no memory but the registered buffers, which the ring owns; it is waited for
    // below, or the memory is leaked.
    unsafe { ring.push(opcode::RecvMulti::new(Fd(ours.as_raw_fd()), GROUP).build()) }
    send(&theirs, b"ping", SendFlags::NOSIGNAL).map_err(fault("send"))?;
    let mut theirs = Some(theirs);
    let mut verdict = Err("multishot recv: nothing came".to_owned());
    for _ in 0..ROUNDS_MAX {
        if let Err(error) = ring.enter(1, Some(Duration::from_millis(ROUND_MS))) {
            verdict = Err(format!("enter: {error}"));
            break;
        }
        while let Some(entry) = ring.reap() {
            let has_buffer = cqueue::buffer_select(entry.flags()).is_some();
            if entry.result() == 4 && has_buffer && cqueue::more(entry.flags()) {
                verdict = Ok(());
                // The end of the stream ends the recv.
                theirs = None;
            } else if entry.result() < 0 {
                verdict = Err(format!("multishot recv: errno {}", -entry.result()));
            }
            if !cqueue::more(entry.flags()) {
                return verdict;
            }
        }
    }
    drop(theirs);
    ring.leak_memory();
    verdict
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_probe_answers_and_answers_the_same_again() {
        assert_eq!(super::probe(), super::probe());
    }
}
