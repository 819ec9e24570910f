//! Hot path. Heaps: one for each thread that allocates. All that is not atomic belongs to that thread.
//!
//! ```text
//! open[class] -> page <-> page <-> page      pages of the class with room; blocks come from the first
//! returned    -> block -> block              freed by other threads (atomic stack; the owner takes all of it)
//! returning   -> block -> block              taken from there, not yet back in their pages
//! empty       -> page -> page                no live block, memory still there (owner pushes, owner or purge takes)
//! clean       -> page -> page                no live block, memory given back (purge pushes, owner takes)
//! ```
//! Heaps are never freed. A thread that ends lets go of its heap, and the next new thread takes it over with all its pages.
//!
//! The stacks have no ABA problem: of `empty` the owner alone pushes and takes single pages, others take all; of `clean` the owner alone
//! takes, and takes single pages.
#![allow(
    unsafe_code,
    reason = "an allocator hands out and takes back raw memory"
)]

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::alloc::{GlobalAlloc, Layout, System};

use crate::classes::{BYTES, CLASSES, class_of};
use crate::lines::{self, ROOMS};
use crate::region::{PAGE_BYTES, PAGES, Page, Region, discard};

/// Blocks made of fresh memory at a time: their memory is touched here.
const FRESH_BLOCKS_MAX: usize = 64;
/// Returned blocks put back into their pages for each such time: more than come into being, or they would pile up.
const RETURNED_BLOCKS: usize = 2 * FRESH_BLOCKS_MAX;

/// A free block.
#[repr(C)]
pub(crate) struct Block {
    next: *mut Block,
    /// Of a returned block of lines: its size. Others may be too small to hold it.
    bytes: usize,
}

/// Lists of open pages: of each class of small blocks, and of lines.
const LISTS: usize = CLASSES + ROOMS;

/// See the module's head.
#[repr(C)]
pub(crate) struct Heap {
    pub(crate) first: [*mut Page; LISTS],
    last: [*mut Page; LISTS],
    /// Where new pages are taken from.
    region: *mut Region,
    returning: *mut Block,
    shared: Shared,
}

/// What other threads use too, on a cache line of its own.
#[repr(align(128))]
struct Shared {
    returned: AtomicPtr<Block>,
    empty: AtomicPtr<Page>,
    clean: AtomicPtr<Page>,
    /// Pages in `empty`; for a moment more.
    empty_pages: AtomicUsize,
    /// Whether a thread owns the heap.
    is_taken: AtomicBool,
    /// The heap made before this one; never changes.
    older: *mut Heap,
}

/// The heap made last.
static NEWEST: AtomicPtr<Heap> = AtomicPtr::new(ptr::null_mut());

/// Stands for a class without open pages: no free block, nothing fresh. Never written.
struct None_(Page);
// SAFETY: nobody writes to it.
unsafe impl Sync for None_ {}
static NONE: None_ = None_(Page {
    free: ptr::null_mut(),
    used: 0,
    is_open: true,
    class: 0,
    fresh: 0,
    end: 0,
    previous: ptr::null_mut(),
    next: ptr::null_mut(),
    drains: AtomicBool::new(false),
    link: AtomicPtr::new(ptr::null_mut()),
});

#[inline(always)]
pub(crate) fn none() -> *mut Page {
    (&raw const NONE.0).cast_mut()
}

thread_local! {
    /// This thread's heap, or null.
    static MINE: Cell<*mut Heap> = const { Cell::new(ptr::null_mut()) };
    /// Lets go of it when the thread ends.
    static LEASE: Lease = const { Lease };
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        rest();
    }
}

/// A block of at least `size` bytes, 1 to `SMALL_BYTES_MAX`; null when there is no memory.
#[inline(always)]
pub(crate) fn alloc(size: usize) -> *mut u8 {
    let (heap, class) = (MINE.get(), class_of(size));
    if heap.is_null() {
        return alloc_first(class);
    }
    // SAFETY: `MINE` is a heap that this thread owns; its lists hold live pages, or `NONE` with no free block; a free block
    // is memory of nobody's that holds its link.
    unsafe {
        let page = (*heap).first[class];
        let block = (*page).free;
        if block.is_null() {
            return alloc_slowly(heap, class);
        }
        (*page).free = (*block).next;
        (*page).used = (*page).used.wrapping_add(1);
        block.cast()
    }
}

/// # Safety
/// 1. `alloc` gave the block, and it is not used any more.
#[inline(always)]
pub(crate) unsafe fn free(block: *mut u8) {
    let block = block.cast::<Block>();
    let region = Region::of(block);
    // SAFETY: (1) the region is live and so is its owner; if that is this thread's heap, the page's fields are this thread's.
    unsafe {
        let heap = MINE.get();
        if (*region).owner != heap.cast_const() {
            return give_back(&(*(*region).owner).shared, block);
        }
        let page = Region::page_of(region, block);
        put_back(heap, page, block);
    }
}

/// A block of whole lines, for `bytes` bytes; null when there is no memory.
pub(crate) fn alloc_lines(bytes: usize) -> *mut u8 {
    let is_first = MINE.get().is_null();
    if is_first && !begin() {
        return ptr::null_mut();
    }
    let heap = MINE.get();
    // SAFETY: `MINE` is a heap that this thread owns.
    let block = unsafe {
        take_back(heap, RETURNED_BLOCKS);
        lines::alloc(heap, lines::lines_of(bytes))
    };
    if is_first {
        rest_if_ending();
    }
    block
}

/// # Safety
/// 1. `alloc_lines` gave the block, with the same number of bytes, and it is not used any more.
pub(crate) unsafe fn free_lines(block: *mut u8, bytes: usize) {
    let free = block.cast::<Block>();
    let region = Region::of(free);
    // SAFETY: (1) as in `free`; a line has room for the size.
    unsafe {
        let heap = MINE.get();
        if (*region).owner != heap.cast_const() {
            (*free).bytes = bytes;
            return give_back(&(*(*region).owner).shared, free);
        }
        lines::free(heap, Region::page_of(region, free), block, bytes);
    }
}

/// # Safety
/// 1. This thread owns `heap`, which owns `page`, in which the free block lies.
#[inline(always)]
unsafe fn put_back(heap: *mut Heap, page: *mut Page, block: *mut Block) {
    // SAFETY: (1) the block is memory of nobody's; the rest belongs to this thread.
    unsafe {
        (*block).next = (*page).free;
        (*page).free = block;
        (*page).used = (*page).used.wrapping_sub(1);
        if (*page).used == 0 || !(*page).is_open {
            settle(heap, page);
        }
    }
}

/// To another thread's heap.
#[cold]
fn give_back(to: &Shared, block: *mut Block) {
    let mut head = to.returned.load(Relaxed);
    loop {
        // SAFETY: the block is memory of nobody's until it is in the stack.
        unsafe { (*block).next = head }
        match to
            .returned
            .compare_exchange_weak(head, block, Release, Relaxed)
        {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// A page has become empty, or has room again.
///
/// # Safety
/// 1. This thread owns `heap`, which owns `page`.
#[cold]
unsafe fn settle(heap: *mut Heap, page: *mut Page) {
    // SAFETY: (1)
    unsafe {
        let class = usize::from((*page).class);
        if (*page).drains.load(Relaxed) {
            if (*page).used == 0 {
                (*page).drains.store(false, Relaxed);
                push_empty(heap, page);
            }
            return;
        }
        if !(*page).is_open {
            open_last(heap, page);
        }
        // The first page stays, or a single block that comes and goes would make and empty one each time.
        if (*page).used == 0 && (*heap).first[class] != page {
            close(heap, page);
            push_empty(heap, page);
        }
    }
}

/// # Safety
/// 1. This thread owns `heap`, which owns `page`, which is not open.
pub(crate) unsafe fn open_last(heap: *mut Heap, page: *mut Page) {
    // SAFETY: (1)
    unsafe {
        let class = usize::from((*page).class);
        let last = (*heap).last[class];
        (*page).previous = last;
        (*page).next = none();
        (*page).is_open = true;
        (*heap).last[class] = page;
        if last == none() {
            (*heap).first[class] = page;
        } else {
            (*last).next = page;
        }
    }
}

/// # Safety
/// 1. This thread owns `heap`, which owns `page`, which is open.
pub(crate) unsafe fn close(heap: *mut Heap, page: *mut Page) {
    // SAFETY: (1)
    unsafe {
        let class = usize::from((*page).class);
        let (previous, next) = ((*page).previous, (*page).next);
        (*page).is_open = false;
        if previous == none() {
            (*heap).first[class] = next;
        } else {
            (*previous).next = next;
        }
        if next == none() {
            (*heap).last[class] = previous;
        } else {
            (*next).previous = previous;
        }
    }
}

/// # Safety
/// 1. This thread owns `heap`, which owns `page`, which is empty and not open.
pub(crate) unsafe fn push_empty(heap: *mut Heap, page: *mut Page) {
    // SAFETY: (1)
    let shared = unsafe { &(*heap).shared };
    // Counted first, so that whoever takes it does not take more than are counted.
    shared.empty_pages.fetch_add(1, Relaxed);
    push(&shared.empty, page);
}

fn push(stack: &AtomicPtr<Page>, page: *mut Page) {
    let mut head = stack.load(Relaxed);
    loop {
        // SAFETY: descriptors live as long as the process; `link` is atomic.
        unsafe { (*page).link.store(head, Relaxed) }
        match stack.compare_exchange_weak(head, page, Release, Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// For the heap's owner alone.
fn pop(stack: &AtomicPtr<Page>) -> *mut Page {
    let mut head = stack.load(Acquire);
    while !head.is_null() {
        // SAFETY: as in `push`. Should another thread have taken it meanwhile, the exchange fails.
        let next = unsafe { (*head).link.load(Relaxed) };
        match stack.compare_exchange_weak(head, next, Acquire, Acquire) {
            Ok(_) => break,
            Err(now) => head = now,
        }
    }
    head
}

/// # Safety
/// 1. This thread owns `heap`. 2. `class` is one.
#[cold]
unsafe fn alloc_slowly(heap: *mut Heap, class: usize) -> *mut u8 {
    // SAFETY: (1, 2)
    unsafe {
        take_back(heap, RETURNED_BLOCKS);
        loop {
            let page = (*heap).first[class];
            if page == none() {
                let page = new_page(heap, class);
                if page.is_null() {
                    return ptr::null_mut();
                }
                open_last(heap, page);
                continue;
            }
            if (*page).free.is_null() {
                make_fresh(page);
            }
            let block = (*page).free;
            if block.is_null() {
                close(heap, page);
                continue;
            }
            (*page).free = (*block).next;
            (*page).used += 1;
            return block.cast();
        }
    }
}

/// Puts up to `max` returned blocks back into their pages; whether there may be more.
///
/// # Safety
/// 1. This thread owns `heap`.
unsafe fn take_back(heap: *mut Heap, max: usize) -> bool {
    // SAFETY: (1) blocks in the stack are memory of nobody's that lies in regions of this heap; `Acquire` shows their links.
    unsafe {
        for _ in 0..max {
            if (*heap).returning.is_null() {
                let returned = &(*heap).shared.returned;
                if returned.load(Relaxed).is_null() {
                    return false;
                }
                (*heap).returning = returned.swap(ptr::null_mut(), Acquire);
            }
            let block = (*heap).returning;
            (*heap).returning = (*block).next;
            let page = Region::page_of(Region::of(block), block);
            if usize::from((*page).class) < CLASSES {
                put_back(heap, page, block);
            } else {
                lines::free(heap, page, block.cast(), (*block).bytes);
            }
        }
    }
    true
}

/// Makes some blocks of a page's fresh memory, in the order of their addresses.
///
/// # Safety
/// 1. This thread owns the page's heap. 2. The page has no free blocks.
unsafe fn make_fresh(page: *mut Page) {
    // SAFETY: (1) fresh memory is nobody's.
    unsafe {
        let size = usize::from(BYTES[usize::from((*page).class)]);
        let (start, end) = ((*page).fresh as usize, (*page).end as usize);
        // What one page of the system holds: not more of them are touched than needed.
        let count = ((end - start) / size).min((4096 / size).clamp(1, FRESH_BLOCKS_MAX));
        let base = Region::of(page).cast::<u8>();
        let mut next = ptr::null_mut();
        for number in (0..count).rev() {
            let block = base.add(start + number * size).cast::<Block>();
            (*block).next = next;
            next = block;
        }
        (*page).free = next;
        (*page).fresh = (start + count * size) as u32;
    }
}

/// An empty page, for blocks of `class`; null when there is no memory.
///
/// # Safety
/// 1. This thread owns `heap`.
pub(crate) unsafe fn new_page(heap: *mut Heap, class: usize) -> *mut Page {
    // SAFETY: (1) an empty page is in no list, and nobody else's; descriptors of a region's pages behind `taken` were never used.
    unsafe {
        let shared = &(*heap).shared;
        let mut page = pop(&shared.empty);
        if page.is_null() {
            page = pop(&shared.clean);
        } else {
            shared.empty_pages.fetch_sub(1, Relaxed);
        }
        if page.is_null() {
            let mut region = (*heap).region;
            if region.is_null() || (*region).taken == PAGES {
                region = Region::new(heap, region);
                if region.is_null() {
                    return ptr::null_mut();
                }
                (*heap).region = region;
            }
            page = (&raw mut (*region).pages)
                .cast::<Page>()
                .add((*region).taken);
            (*region).taken += 1;
        }
        let (start, end) = Region::span_of(page);
        (*page).free = ptr::null_mut();
        (*page).used = 0;
        (*page).is_open = false;
        (*page).class = class as u8;
        (*page).fresh = start as u32;
        (*page).end = end as u32;
        page
    }
}

/// The first block of a thread without a heap.
#[cold]
fn alloc_first(class: usize) -> *mut u8 {
    if !begin() {
        return ptr::null_mut();
    }
    // SAFETY: `begin` made this thread the owner.
    let block = unsafe { alloc_slowly(MINE.get(), class) };
    rest_if_ending();
    block
}

/// Gives this thread a heap; whether there was memory for it.
#[cold]
fn begin() -> bool {
    MINE.set(adopt());
    !MINE.get().is_null()
}

/// Destructors of other values of the thread may allocate when its lease has ended: each such time takes a heap for itself.
fn rest_if_ending() {
    if LEASE.try_with(|_| ()).is_err() {
        rest();
    }
}

/// Takes over a heap that no thread owns, or makes one; null when there is no memory.
fn adopt() -> *mut Heap {
    let mut heap = NEWEST.load(Acquire);
    while !heap.is_null() {
        // SAFETY: heaps in the list live as long as the process; `shared` may be read by all.
        let shared = unsafe { &(*heap).shared };
        if !shared.is_taken.load(Relaxed) && !shared.is_taken.swap(true, Acquire) {
            return heap;
        }
        heap = shared.older;
    }
    // SAFETY: the layout is not empty. What the system's allocator gives is initialised before anyone sees it.
    unsafe {
        let heap = System.alloc(Layout::new::<Heap>()).cast::<Heap>();
        if heap.is_null() {
            return heap;
        }
        heap.write(Heap {
            first: [none(); LISTS],
            last: [none(); LISTS],
            region: ptr::null_mut(),
            returning: ptr::null_mut(),
            shared: Shared {
                returned: AtomicPtr::new(ptr::null_mut()),
                empty: AtomicPtr::new(ptr::null_mut()),
                clean: AtomicPtr::new(ptr::null_mut()),
                empty_pages: AtomicUsize::new(0),
                is_taken: AtomicBool::new(true),
                older: ptr::null_mut(),
            },
        });
        let mut newest = NEWEST.load(Relaxed);
        loop {
            (*heap).shared.older = newest;
            match NEWEST.compare_exchange_weak(newest, heap, AcqRel, Relaxed) {
                Ok(_) => return heap,
                Err(now) => newest = now,
            }
        }
    }
}

/// See the crate.
pub(crate) fn rest() {
    let heap = MINE.replace(ptr::null_mut());
    if !heap.is_null() {
        // SAFETY: heaps live as long as the process.
        unsafe { (*heap).shared.is_taken.store(false, Release) }
    }
}

/// This thread's heap, or null.
pub(crate) fn mine() -> *mut Heap {
    MINE.get()
}

/// The region that a heap has taken last, from which the others can be reached; null when it has none.
pub(crate) fn newest_region(heap: *mut Heap) -> *mut Region {
    if heap.is_null() || heap != mine() {
        return ptr::null_mut();
    }
    // SAFETY: this thread owns the heap.
    unsafe { (*heap).region }
}

/// See the crate.
pub(crate) fn collect(blocks: usize) -> bool {
    let heap = MINE.get();
    // SAFETY: `MINE` is a heap that this thread owns.
    !heap.is_null() && unsafe { take_back(heap, blocks) }
}

/// See the crate.
pub(crate) fn empty_bytes() -> usize {
    let (mut pages, mut heap) = (0, NEWEST.load(Acquire));
    while !heap.is_null() {
        // SAFETY: heaps live as long as the process; `shared` may be read by all.
        let shared = unsafe { &(*heap).shared };
        pages += shared.empty_pages.load(Relaxed);
        heap = shared.older;
    }
    pages * PAGE_BYTES
}

/// See the crate.
pub(crate) fn purge() -> usize {
    let (mut bytes, mut heap) = (0, NEWEST.load(Acquire));
    while !heap.is_null() {
        // SAFETY: heaps live as long as the process; what is not shared is used only by whoever has set `is_taken`. Pages that
        // were taken from `empty` are nobody else's until they are pushed.
        unsafe {
            let shared = &(*heap).shared;
            if !shared.is_taken.load(Relaxed) && !shared.is_taken.swap(true, Acquire) {
                while take_back(heap, usize::MAX) {}
                shared.is_taken.store(false, Release);
            }
            let mut page = shared.empty.swap(ptr::null_mut(), Acquire);
            while !page.is_null() {
                let next = (*page).link.load(Relaxed);
                shared.empty_pages.fetch_sub(1, Relaxed);
                bytes += discard(page);
                push(&shared.clean, page);
                page = next;
            }
            heap = shared.older;
        }
    }
    bytes
}
