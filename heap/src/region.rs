//! Regions: 4 MiB each from the system, cut into pages of 64 KiB. A region is never given back, only the memory behind its pages.
//!
//! ```text
//! region, aligned to its size:  [ owner | 64 page descriptors ][ rest of page 0 ][ page 1 ] ... [ page 63 ]
//! ```
//! Descriptors lie together at the front, not in their pages: a page whose memory has been given back has none.
#![allow(
    unsafe_code,
    reason = "an allocator hands out and takes back raw memory"
)]

use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};

use crate::heap::{Block, Heap};

pub(crate) const REGION_BYTES: usize = 4 << 20;
pub(crate) const PAGE_BYTES: usize = 64 << 10;
pub(crate) const PAGES: usize = REGION_BYTES / PAGE_BYTES;
/// Where the blocks of page 0 begin.
const FIRST_BYTES: usize = size_of::<Region>().next_multiple_of(64);

/// What is known of a page. All fields but `link` belong to the owner of the region's heap.
#[repr(C, align(64))]
pub(crate) struct Page {
    /// Free blocks.
    pub(crate) free: *mut Block,
    /// Blocks handed out.
    pub(crate) used: u32,
    /// Whether it is in its class's list of open pages.
    pub(crate) is_open: bool,
    pub(crate) class: u8,
    /// From here to `end` no block has been handed out or is in `free`, offsets in the region.
    pub(crate) fresh: u32,
    pub(crate) end: u32,
    /// Neighbours in the list of open pages.
    pub(crate) previous: *mut Page,
    pub(crate) next: *mut Page,
    /// It is to be emptied, and gives no blocks meanwhile (`thinning.rs`); its owner's to set, anyone's to read.
    pub(crate) drains: AtomicBool,
    /// The next in a stack of empty pages.
    pub(crate) link: AtomicPtr<Page>,
}
const _: () = assert!(size_of::<Page>() == 64);

#[repr(C)]
pub(crate) struct Region {
    /// Whose it is; never changes.
    pub(crate) owner: *const Heap,
    /// The one that its heap had before; never changes.
    pub(crate) older: *mut Region,
    /// Pages taken into use so far; the owner's.
    pub(crate) taken: usize,
    pub(crate) pages: [Page; PAGES],
}

/// Addresses of user space, in bits, on the targets that are supported; regions beyond are not known.
const ADDRESS_BITS: u32 = 48;
const KNOWN_WORDS: usize = (1 << ADDRESS_BITS) / REGION_BYTES / 64;
/// By address: where there is a region, a bit each. 8 MiB of address space, of which next to nothing is ever touched.
static KNOWN: [AtomicU64; KNOWN_WORDS] = [const { AtomicU64::new(0) }; KNOWN_WORDS];

fn known(at: usize) -> Option<(&'static AtomicU64, u64)> {
    let number = at / REGION_BYTES;
    let word = KNOWN.get(number / 64)?;
    Some((word, 1 << (number % 64)))
}

impl Region {
    /// The region that an address lies in, if it is one of a heap's.
    #[inline]
    pub(crate) fn at(address: *const u8) -> Option<*mut Region> {
        let (word, bit) = known(address.addr())?;
        let is_one = word.load(Acquire) & bit != 0;
        is_one.then(|| Region::of(address.cast_mut()))
    }

    /// Asks the system for one; null when it has none.
    pub(crate) fn new(owner: *const Heap, older: *mut Region) -> *mut Region {
        let region = system_memory().cast::<Region>();
        if !region.is_null() {
            // SAFETY: fresh memory of 4 MiB, aligned to that; all zeroes, which is a valid value of all other fields.
            unsafe { ((*region).owner, (*region).older) = (owner, older) }
            if let Some((word, bit)) = known(region.addr()) {
                word.fetch_or(bit, Release);
            }
        }
        region
    }

    /// The region that a block or a page descriptor lies in.
    #[inline(always)]
    pub(crate) fn of<T>(inside: *mut T) -> *mut Region {
        inside.map_addr(|at| at & !(REGION_BYTES - 1)).cast()
    }

    /// The descriptor of the page that a block lies in.
    ///
    /// # Safety
    /// 1. `block` lies in a page of `region`.
    #[inline(always)]
    pub(crate) unsafe fn page_of(region: *mut Region, block: *mut Block) -> *mut Page {
        let number = block.addr() % REGION_BYTES / PAGE_BYTES;
        // SAFETY: (1) a live region; the number is below 64.
        unsafe { (&raw mut (*region).pages).cast::<Page>().add(number) }
    }

    /// Where the blocks of a page lie, offsets in the region.
    pub(crate) fn span_of(page: *mut Page) -> (usize, usize) {
        let at = page.addr() % REGION_BYTES - core::mem::offset_of!(Region, pages);
        let number = at / size_of::<Page>();
        let start = if number == 0 {
            FIRST_BYTES
        } else {
            number * PAGE_BYTES
        };
        (start, (number + 1) * PAGE_BYTES)
    }
}

/// Gives the memory of an empty page back to the system; how many bytes.
///
/// # Safety
/// 1. The page is in no list and holds no live block, and nobody else uses it meanwhile.
pub(crate) unsafe fn discard(page: *mut Page) -> usize {
    let (start, end) = Region::span_of(page);
    let start = start.next_multiple_of(4096);
    let region = Region::of(page).cast::<u8>();
    #[cfg(not(miri))]
    // SAFETY: (1) nothing lives there; the range is whole pages of the system within a mapping of ours.
    unsafe {
        // It may be refused (locked memory): then the memory stays, which is no harm.
        let _ = rustix::mm::madvise(
            region.add(start).cast(),
            end - start,
            rustix::mm::Advice::LinuxDontNeed,
        );
    }
    #[cfg(miri)]
    let _ = region;
    end - start
}

/// 4 MiB of zeroes, aligned to their size; null when there are none.
#[cfg(not(miri))]
fn system_memory() -> *mut u8 {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    let wide = 2 * REGION_BYTES;
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the system's choice.
    let mapped = unsafe { mmap_anonymous(ptr::null_mut(), wide, flags, MapFlags::PRIVATE) };
    let Ok(mapped) = mapped else {
        return ptr::null_mut();
    };
    let before = mapped.addr().next_multiple_of(REGION_BYTES) - mapped.addr();
    let region = mapped.wrapping_byte_add(before);
    let after = REGION_BYTES - before;
    // SAFETY: parts of the new mapping, outside of the region, that nobody has seen. Were it refused, address space would be lost.
    unsafe {
        if before > 0 {
            let _ = munmap(mapped, before);
        }
        if after > 0 {
            let _ = munmap(region.wrapping_byte_add(REGION_BYTES), after);
        }
    }
    region.cast()
}

#[cfg(miri)]
fn system_memory() -> *mut u8 {
    use std::alloc::{GlobalAlloc, Layout, System};
    let Ok(layout) = Layout::from_size_align(REGION_BYTES, REGION_BYTES) else {
        return ptr::null_mut();
    };
    // SAFETY: the size is not 0.
    unsafe { System.alloc_zeroed(layout) }
}
