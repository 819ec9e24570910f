//! Hot path. The process's allocator: small blocks in classes of 8 bytes, everything else by another allocator.
//!
//! `unsafe` lives in this crate (tidy's list): an allocator is about raw memory.
//!
//! ```text
//! size <= 1024, align <= 8 ────> the thread's Heap ──> pages of 64 KiB, each of one class: free blocks, then fresh ones    heap.rs
//! size <= 16 KiB, align 64 ────>         │      └────> pages of 64 KiB with a map of their cache lines                      lines.rs
//!                                        └─ regions of 4 MiB, each with one owner                                         region.rs
//! else ────────────────────────> the other allocator (mimalloc)
//! ```
//! Why: items and elements of collections are mostly below 128 bytes, where a general allocator rounds to
//! multiples of 16: 56 bytes (a key of 16, a value of 32) become 64. See [`good_size`]; `storage::account` counts the same.
//!
//! A block is freed into the page it came from. The page's region knows its heap; a thread that is not that heap's puts the
//! block on the heap's list of *returned* blocks, an atomic stack that the owner empties a few at a time. Pages that have become empty
//! are reused first; [`purge`], to be called from a thread that nobody waits for, gives their memory back to the system.
//!
//! Cost: a descriptor of 64 bytes for a page, 0.1 %; at the end of a page less than one block.
//! Pages that are sparsely used can be emptied by who owns the blocks: [`Thinning`].
//! Non-goals: blocks above 1024 bytes, pages that change their owner.
#![allow(
    unsafe_code,
    reason = "an allocator hands out and takes back raw memory"
)]

mod classes;
mod heap;
mod lines;
mod region;
mod thinning;

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

pub use classes::{SMALL_BYTES_MAX, good_size};
pub use thinning::{Stage, Thinning};

/// See the crate's head. `A` takes the blocks that are not small.
pub struct Small<A>(pub A);

/// Frees what other threads have returned to heaps that no thread uses, and gives the memory of empty pages back to the system:
/// its bytes. Takes long (tens of microseconds for each page); any thread may call it, one at a time.
pub fn purge() -> usize {
    heap::purge()
}

/// Bytes of the pages in which no block lives and whose memory is still there: what [`purge`] would give back, beside what other threads
/// have returned. Any thread may ask at any time; a load for each heap.
pub fn empty_bytes() -> usize {
    heap::empty_bytes()
}

/// Lets go of this thread's heap, until it allocates again: to be called before a thread waits for long, so that [`purge`] can look
/// after what the thread has left.
pub fn rest() {
    heap::rest();
}

/// Takes back up to `blocks` blocks of this thread's heap that other threads have returned; whether there may be more. The heap does so by
/// itself when it wants memory; this is for a thread that frees more than it allocates.
pub fn collect(blocks: usize) -> bool {
    heap::collect(blocks)
}

/// Whether a block lies in a page that is to be emptied ([`Thinning`]): whoever owns it should allocate it anew. Any thread may ask, of any address.
#[inline]
pub fn drains(block: *const u8) -> bool {
    thinning::drains(block)
}

#[inline(always)]
fn is_small(layout: &Layout) -> bool {
    // A size of 0 is not asked for, and would be too large here.
    layout.size().wrapping_sub(1) < SMALL_BYTES_MAX && layout.align() <= classes::STEP
}

#[inline(always)]
fn is_lines(layout: &Layout) -> bool {
    layout.align() == lines::LINE_BYTES && layout.size().wrapping_sub(1) < lines::BYTES_MAX
}

// SAFETY: blocks are as large as their class, which is at least the layout's size, and aligned to 8 bytes, which is all that
// `is_small` lets through, or are whole lines; they are disjoint and live until they are freed (heap.rs). `is_small` and `is_lines` depend on
// the layout alone, so a block goes back to where it came from. Nothing here unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Small<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_small(&layout) {
            heap::alloc(layout.size())
        } else if is_lines(&layout) {
            heap::alloc_lines(layout.size())
        } else {
            // SAFETY: the caller's, passed on.
            unsafe { self.0.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_small(&layout) {
            // SAFETY: `alloc` took it from a heap, by the same test; the caller does not use it any more.
            unsafe { heap::free(block) }
        } else if is_lines(&layout) {
            // SAFETY: as above, with the same size.
            unsafe { heap::free_lines(block, layout.size()) }
        } else {
            // SAFETY: the caller's, passed on; `alloc` took it from there by the same test.
            unsafe { self.0.dealloc(block, layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_small(&layout) || is_lines(&layout) {
            // SAFETY: the caller's, passed on.
            let block = unsafe { self.alloc(layout) };
            if !block.is_null() {
                // SAFETY: a block of at least that size.
                unsafe { ptr::write_bytes(block, 0, layout.size()) }
            }
            block
        } else {
            // SAFETY: the caller's, passed on.
            unsafe { self.0.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up to the alignment, is no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let (was, is) = (is_small(&layout), is_small(&wanted));
        if !was && !is && !is_lines(&layout) && !is_lines(&wanted) {
            // SAFETY: the caller's, passed on; the block came from there and the new one will go back there.
            return unsafe { self.0.realloc(block, layout, size) };
        }
        if was && is && good_size(size) == good_size(layout.size()) {
            return block;
        }
        // SAFETY: the sizes are not 0; the new block is a different one; the old one is given up by the caller, with its layout.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
