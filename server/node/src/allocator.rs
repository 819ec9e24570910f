#![allow(
    unsafe_code,
    reason = "mimalloc's options and its collection are C functions"
)]
//! Gives freed memory back to the system, from a thread of its own: that of small blocks (`heap`) and of all others.
//!
//! mimalloc would do it by itself, on whatever thread frees something when the time has come: a core that loads keys, and
//! thereby frees outgrown tables, stood still for 3 to 7 ms. So its own purging is put off for ever, and a thread beside
//! the cores looks five times a second at what could be given back, and does it, page by page; also when MEMORY PURGE asks.
//!
//! It looks at what is free, not at what the data has lost: pages that hold keys of many deadlines are all empty only when the last
//! ones go, and those last ones are next to nothing.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::Thread;
use std::time::Duration;

use crate::compact;
use crate::memory::Cut;
use crate::node::Node;
use crate::process::resident_anonymous;

/// `mi_option_purge_delay` of mimalloc.h, milliseconds; the bindings do not name it. A test holds it in its place.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Eleven days, and ten times as long as mimalloc multiplies it. It must not be negative: then freed memory would not even
/// be noted down for purging.
const PURGE_DELAY_MS: core::ffi::c_long = 1_000_000_000;
/// How often memory is looked at. What is given back was free at two looks: a load that frees and fills in turns pays no page faults.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Empty pages of small blocks that stay for what comes next: so many bytes, or a 64th of the data.
const KEPT_BYTES_MIN: u64 = 4 << 20;
/// Larger blocks are purged when the process has so many bytes, or a 64th of the data, more beside the data than were left after the last time.
const LOOSE_BYTES_MIN: u64 = 8 << 20;
const SHARE: u64 = 64;

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
    let (mut looks, mut cut) = (Looks::default(), Cut::default());
    let mut keen = compact::Keen::default();
    loop {
        std::thread::park_timeout(LOOK_EVERY);
        let all = ASKED.swap(false, Relaxed);
        let (bound, resident) = (node.config().maxmemory, resident_anonymous());
        let seen = Seen {
            used: node.note_used_bytes(),
            empty: heap::empty_bytes() as u64,
            resident,
        };
        let due = looks.look(seen, if bound == 0 { u64::MAX } else { bound });
        let cut_bytes = match bound {
            0 => 0,
            // What is empty will be used, or given back.
            bound => cut.look(bound, resident.saturating_sub(seen.empty)),
        };
        node.memory.cut_bytes.store(cut_bytes, Relaxed);
        let seen = compact::Seen {
            used: seen.used,
            resident: resident.saturating_sub(seen.empty),
        };
        let wanted = compact::effort(&node.config(), seen);
        compact::demand(node, keen.look(wanted));
        if all || due.small {
            heap::purge();
        }
        if all || due.large {
            // SAFETY: may be called by any thread at any time: it frees what no thread uses.
            unsafe { libmimalloc_sys::mi_collect(true) }
        }
    }
}

/// Bytes, at a look.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// What the node counts: data, connections and so on.
    used: u64,
    /// Pages of small blocks in which none lives.
    empty: u64,
    /// What the process has.
    resident: u64,
}

/// What is to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    /// The empty pages of small blocks.
    small: bool,
    /// What the other allocator has of larger ones.
    large: bool,
}

/// What earlier looks have seen, bytes.
struct Looks {
    empty: u64,
    /// What the process had beside the data and empty pages...
    loose: u64,
    /// ...and the least of that since it was last given back.
    left: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Looks {
            empty: 0,
            loose: 0,
            left: u64::MAX,
        }
    }
}

impl Looks {
    /// `bound_bytes`: what the node may use; a small one is kept more closely.
    fn look(&mut self, seen: Seen, bound_bytes: u64) -> Due {
        let loose = seen.resident.saturating_sub(seen.used + seen.empty);
        self.left = self.left.min(loose);
        let least = |bytes: u64| bytes.min(bound_bytes / SHARE).max(seen.used / SHARE);
        let due = Due {
            small: self.empty.min(seen.empty) > least(KEPT_BYTES_MIN),
            large: self.loose.min(loose) > self.left.saturating_add(least(LOOSE_BYTES_MIN)),
        };
        (self.empty, self.loose) = (seen.empty, loose);
        if due.large {
            // Whatever it brings, the next look sees what is left.
            self.left = u64::MAX;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn look(looks: &mut Looks, used: u64, empty: u64, resident: u64) -> (bool, bool) {
        let [used, empty, resident] = [used, empty, resident].map(|mb| mb * MB);
        let seen = Seen {
            used,
            empty,
            resident,
        };
        let due = looks.look(seen, u64::MAX);
        (due.small, due.large)
    }

    #[test]
    fn empty_pages_go_once_they_have_been_empty_for_a_look() {
        let mut looks = Looks::default();
        assert_eq!(look(&mut looks, 1000, 0, 1010), (false, false));
        // The last keys of a load that expires: next to nothing goes, and leaves all pages empty.
        assert_eq!(look(&mut looks, 8, 2, 1010), (false, false));
        assert_eq!(look(&mut looks, 0, 1000, 1010), (false, false));
        assert_eq!(look(&mut looks, 0, 1000, 1010), (true, false));
        assert_eq!(look(&mut looks, 0, 0, 12), (false, false));
        // A load that empties pages and fills them again within a look keeps them; so does a large one with few.
        for empty in [0, 100, 0, 100, 0] {
            assert_eq!(look(&mut looks, 500 - empty, empty, 510), (false, false));
        }
        for _ in 0..3 {
            assert_eq!(look(&mut looks, 10_000, 150, 10_200), (false, false));
        }
        assert_eq!(look(&mut looks, 10_000, 160, 10_200), (false, false));
        assert_eq!(look(&mut looks, 10_000, 160, 10_200), (true, false));
    }

    #[test]
    fn larger_blocks_go_when_more_is_loose_than_was_left() {
        let mut looks = Looks::default();
        assert_eq!(look(&mut looks, 10, 0, 15), (false, false));
        assert_eq!(look(&mut looks, 500, 0, 508), (false, false));
        // FLUSHALL of large strings.
        assert_eq!(look(&mut looks, 0, 0, 508), (false, false));
        assert_eq!(look(&mut looks, 0, 0, 508), (false, true));
        // What does not go then is not asked for again and again...
        for _ in 0..5 {
            assert_eq!(look(&mut looks, 0, 0, 300), (false, false));
        }
        // ...until there is more.
        assert_eq!(look(&mut looks, 0, 0, 310), (false, false));
        assert_eq!(look(&mut looks, 0, 0, 310), (false, true));
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
