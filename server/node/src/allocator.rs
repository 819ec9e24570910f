#![allow(
    unsafe_code,
    reason = "mimalloc's options and its collection are C functions"
)]
//! Gives freed memory back to the system, from a thread of its own: that of small blocks (`heap`) and of all others.
//!
//! mimalloc would do it by itself, on whatever thread frees something when the time has come: a core that loads keys, and
//! thereby frees outgrown tables, stood still for 3 to 7 ms. So its own purging is put off for ever, and a thread beside
//! the cores asks for it once the data has become smaller, or when MEMORY PURGE does.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::Thread;
use std::time::Duration;

use crate::node::Node;

/// `mi_option_purge_delay` of mimalloc.h, milliseconds; the bindings do not name it. A test holds it in its place.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Eleven days, and ten times as long as mimalloc multiplies it. It must not be negative: then freed memory would not even
/// be noted down for purging.
const PURGE_DELAY_MS: core::ffi::c_long = 1_000_000_000;
/// How often the size of the data is looked at, and how often while it has become much smaller: pages that hold keys of many deadlines are
/// all empty only when the last ones go.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_SOON: Duration = Duration::from_millis(100);
/// Purging begins when so many bytes, and an eighth of the data, have gone.
const GONE_BYTES_MIN: u64 = 16 << 20;
/// Likewise, where `maxmemory` is set, when the process has so many bytes, and a 64th of the data, more beside the data than were left after the last purge: arrays that
/// were outgrown, one after the other.
const LOOSE_BYTES_MIN: u64 = 16 << 20;
const LOOSE_SHARE: u64 = 64;
/// ...and it has stopped shrinking, or has shrunk for so many looks.
const LOOKS_MAX: u32 = 30;

static ASKED: AtomicBool = AtomicBool::new(false);
static THREAD: OnceLock<Thread> = OnceLock::new();

/// Puts mimalloc's own purging off for ever. To be called before threads exist.
pub fn put_off_purging() {
    // SAFETY: sets one number of the allocator's, at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Bytes that the allocator has from the system, used and not.
pub fn committed() -> u64 {
    let (mut times, mut resident, mut faults) = ([0; 3], [0; 2], 0);
    let (mut committed, mut committed_peak) = (0, 0);
    let [elapsed, user, system] = &mut times;
    let [current, peak] = &mut resident;
    // SAFETY: writes eight numbers to where it is told to.
    unsafe {
        libmimalloc_sys::mi_process_info(
            elapsed,
            user,
            system,
            current,
            peak,
            &mut committed,
            &mut committed_peak,
            &mut faults,
        )
    }
    committed as u64
}

/// Starts the thread; it ends with the process.
///
/// # Errors
/// When it cannot be started.
pub fn start(node: &'static Node) -> io::Result<()> {
    let thread = std::thread::Builder::new()
        .name("purge".to_owned())
        .spawn(move || watch(node))?;
    // A second server in one process (in tests) has a thread of its own; MEMORY PURGE asks the first.
    let _first = THREAD.set(thread.thread().clone());
    Ok(())
}

/// Asks for purging now; it happens soon after.
pub fn ask() {
    ASKED.store(true, Relaxed);
    if let Some(thread) = THREAD.get() {
        thread.unpark();
    }
}

fn watch(node: &'static Node) {
    let (mut most, mut before, mut looks) = (0, 0, 0);
    let mut left = u64::MAX;
    loop {
        std::thread::park_timeout(if looks > 0 { LOOK_SOON } else { LOOK_EVERY });
        let used = node.note_used_bytes();
        looks = if is_worth_it(most, used) {
            looks + 1
        } else {
            0
        };
        // While it still shrinks, more is about to be freed.
        let is_time = looks > 0 && (used >= before || looks >= LOOKS_MAX);
        let is_bound = node.config().maxmemory != 0;
        let beside = || crate::process::resident_anonymous().saturating_sub(used);
        let loose = if is_bound { beside() } else { 0 };
        let is_loose = loose > left.saturating_add(LOOSE_BYTES_MIN.max(used / LOOSE_SHARE));
        if ASKED.swap(false, Relaxed) || is_time || is_loose {
            heap::purge();
            // SAFETY: may be called by any thread at any time: it frees what no thread uses.
            unsafe { libmimalloc_sys::mi_collect(true) }
            (most, looks) = (used, 0);
            left = beside();
        }
        left = left.min(loose);
        most = most.max(used);
        before = used;
    }
}

fn is_worth_it(most: u64, used: u64) -> bool {
    let gone = most.saturating_sub(used);
    gone >= GONE_BYTES_MIN && gone >= used / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purging_waits_for_much_to_be_gone() {
        assert!(!is_worth_it(0, 1 << 30));
        assert!(!is_worth_it(1 << 30, (1 << 30) - 1000));
        assert!(is_worth_it(1 << 30, 0));
        assert!(!is_worth_it(GONE_BYTES_MIN, 1));
        assert!(!is_worth_it(100 * GONE_BYTES_MIN, 98 * GONE_BYTES_MIN));
    }

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads and sets numbers of the allocator's.
        unsafe {
            // Its default, which no other option of mimalloc 3 has beside it.
            assert_eq!(libmimalloc_sys::mi_option_get(PURGE_DELAY), 1000);
            put_off_purging();
            assert_eq!(libmimalloc_sys::mi_option_get(PURGE_DELAY), PURGE_DELAY_MS);
        }
    }
}
