//! Hot path. Blocks of whole cache lines, any number up to 256: what tables keep their buckets in.
//!
//! ```text
//! page: [ map: 1024 bits, one for each line ][ lines ............ ]    a block is a run of lines; neighbours grow together when freed
//! ```
//! Tables of one server grow at about the same time, all through the same sizes. With a page for each size, pages of a size that has
//! gone out of use keep a few blocks each, and stay: that cost 7 to 11 bytes a key. Runs of lines leave room for any size.
//!
//! A page is filed by its longest free run, to the power of two (`fresh` is its upper bound, and exact when a search has failed): a search
//! begins with the pages whose runs are just long enough.
#![allow(
    unsafe_code,
    reason = "an allocator hands out and takes back raw memory"
)]

use crate::classes::CLASSES;
use crate::heap::{Heap, close, new_page, none, open_last, push_empty};
use crate::region::{PAGE_BYTES, Page, Region};

/// Bytes of a line, and what these blocks are aligned to.
pub(crate) const LINE_BYTES: usize = 64;
/// The largest block, bytes.
pub(crate) const BYTES_MAX: usize = 256 * LINE_BYTES;
/// Lists of pages: by the power of two of the longest run.
pub(crate) const ROOMS: usize = 11;
const LINES: usize = PAGE_BYTES / LINE_BYTES;
const WORDS: usize = LINES / 64;
const MAP_LINES: usize = WORDS * 8 / LINE_BYTES;
/// Pages looked at in vain in one list: a bound for the time.
const LOOKS_MAX: usize = 4;

type Map = [u64; WORDS];

/// The number of lines that `bytes` take.
#[inline]
pub(crate) fn lines_of(bytes: usize) -> usize {
    bytes.div_ceil(LINE_BYTES).clamp(1, BYTES_MAX / LINE_BYTES)
}

/// Where the page begins, and its map.
fn parts(page: *mut Page) -> (*mut u8, *mut Map, usize) {
    let (start, end) = Region::span_of(page);
    let region = Region::of(page).cast::<u8>();
    let base = region.wrapping_add(end - PAGE_BYTES);
    let first = (start + PAGE_BYTES - end) / LINE_BYTES;
    (base, region.wrapping_add(start).cast(), first)
}

/// A block of `lines` lines; null when there is no memory.
///
/// # Safety
/// 1. This thread owns `heap`. 2. `lines` is 1 to 256.
pub(crate) unsafe fn alloc(heap: *mut Heap, lines: usize) -> *mut u8 {
    // SAFETY: (1, 2) pages of these lists have a map; a run that it shows as free is nobody's.
    unsafe {
        for room in lines.ilog2() as usize..ROOMS {
            let mut page = (*heap).first[CLASSES + room];
            let mut looks = 0;
            while page != none() && looks < LOOKS_MAX {
                let next = (*page).next;
                if (*page).fresh as usize >= lines
                    && let Some(block) = take(heap, page, lines)
                {
                    return block;
                }
                looks += 1;
                page = next;
            }
        }
        let page = new_page(heap, CLASSES + ROOMS - 1);
        if page.is_null() {
            return core::ptr::null_mut();
        }
        let (_, map, first) = parts(page);
        map.write([0; WORDS]);
        set(&mut *map, 0, first + MAP_LINES, true);
        (*page).fresh = (LINES - first - MAP_LINES) as u32;
        (*page).class = class_of(&*page);
        open_last(heap, page);
        take(heap, page, lines).unwrap_or(core::ptr::null_mut())
    }
}

/// Takes the first run that is long enough, if there is one, and files the page anew.
///
/// # Safety
/// 1. This thread owns `heap`. 2. The page is one of lines, of this heap, open.
unsafe fn take(heap: *mut Heap, page: *mut Page, lines: usize) -> Option<*mut u8> {
    // SAFETY: (1, 2) the map is initialised and this thread's alone.
    unsafe {
        let (base, map, _) = parts(page);
        match find(&*map, lines) {
            Ok(at) => {
                set(&mut *map, at, lines, true);
                (*page).used += lines as u32;
                Some(base.wrapping_add(at * LINE_BYTES))
            }
            Err(longest) => {
                (*page).fresh = longest as u32;
                file(heap, page);
                None
            }
        }
    }
}

/// # Safety
/// 1. This thread owns `heap`. 2. The page is one of lines, of this heap; the block of `bytes` bytes came from it and is not used any more.
pub(crate) unsafe fn free(heap: *mut Heap, page: *mut Page, block: *mut u8, bytes: usize) {
    // SAFETY: (1, 2) the map is initialised and this thread's alone.
    unsafe {
        let (base, map, _) = parts(page);
        let (at, lines) = ((block.addr() - base.addr()) / LINE_BYTES, lines_of(bytes));
        set(&mut *map, at, lines, false);
        (*page).used -= lines as u32;
        let run = run_around(&*map, at, lines);
        if run > (*page).fresh as usize {
            (*page).fresh = run as u32;
            file(heap, page);
        }
        if (*page).used == 0 && (*heap).first[usize::from((*page).class)] != page {
            close(heap, page);
            push_empty(heap, page);
        }
    }
}

/// Puts a page into the list of its longest run.
///
/// # Safety
/// 1. This thread owns `heap`. 2. The page is one of lines, of this heap.
unsafe fn file(heap: *mut Heap, page: *mut Page) {
    // SAFETY: (1, 2)
    unsafe {
        let class = class_of(&*page);
        if (*page).is_open && (*page).class == class && (*page).fresh > 0 {
            return;
        }
        if (*page).is_open {
            close(heap, page);
        }
        (*page).class = class;
        if (*page).fresh > 0 {
            open_last(heap, page);
        }
    }
}

fn class_of(page: &Page) -> u8 {
    (CLASSES + page.fresh.max(1).ilog2() as usize) as u8
}

/// The first run of at least `lines` free lines, or how long the longest is.
fn find(map: &Map, lines: usize) -> Result<usize, usize> {
    let (mut run, mut longest) = (0, 0);
    for (number, word) in map.iter().enumerate() {
        let mut bit = 0;
        while bit < 64 {
            let rest = word >> bit;
            let free = (rest.trailing_zeros() as usize).min(64 - bit);
            run += free;
            if run >= lines {
                return Ok(number * 64 + bit + free - run);
            }
            bit += free;
            if bit < 64 {
                longest = longest.max(run);
                run = 0;
                bit += (!(word >> bit)).trailing_zeros() as usize;
            }
        }
    }
    Err(longest.max(run))
}

/// Length of the free run that holds the free lines `at..at + lines`.
fn run_around(map: &Map, at: usize, lines: usize) -> usize {
    let is_free = |line: usize| map[line / 64] >> (line % 64) & 1 == 0;
    let (mut start, mut end) = (at, at + lines);
    while start > 0 && is_free(start - 1) {
        // Whole words at once.
        let word = map[start / 64 - usize::from(start.is_multiple_of(64))];
        start -= if start.is_multiple_of(64) && word == 0 {
            64
        } else {
            1
        };
    }
    while end < LINES && is_free(end) {
        end += if end.is_multiple_of(64) && map[end / 64] == 0 {
            64
        } else {
            1
        };
    }
    end - start
}

fn set(map: &mut Map, at: usize, lines: usize, taken: bool) {
    let (mut at, end) = (at, at + lines);
    while at < end {
        let bit = at % 64;
        let count = (64 - bit).min(end - at);
        let mask = (u64::MAX >> (64 - count)) << bit;
        if taken {
            map[at / 64] |= mask;
        } else {
            map[at / 64] &= !mask;
        }
        at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_and_grow_together() {
        let mut map = [0; WORDS];
        assert_eq!(find(&map, 1024), Ok(0));
        set(&mut map, 0, 10, true);
        set(&mut map, 100, 50, true);
        set(&mut map, 1000, 24, true);
        assert_eq!((find(&map, 90), find(&map, 91)), (Ok(10), Ok(150)));
        assert_eq!((find(&map, 850), find(&map, 851)), (Ok(150), Err(850)));
        set(&mut map, 120, 10, false);
        assert_eq!((find(&map, 1), run_around(&map, 120, 10)), (Ok(10), 10));
        set(&mut map, 100, 20, false);
        set(&mut map, 130, 20, false);
        assert_eq!(run_around(&map, 130, 20), 990);
        assert_eq!(find(&map, 991), Err(990));
        set(&mut map, 0, 10, false);
        set(&mut map, 1000, 24, false);
        assert_eq!((run_around(&map, 64, 64), map), (1024, [0; WORDS]));
    }
}
