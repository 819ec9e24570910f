//! Emptying pages that are sparsely used: which ones, so that what lives there fits into the free blocks of the others.
//!
//! ```text
//! Count ──> Mark ──────────> Emptying ─────────────────> Release ──> Done
//! how full  the emptiest     who owns the blocks moves   what did not become
//! each is   give no blocks   those that `drains` names   empty gives blocks again
//! ```
//! A page gives its memory back when its last block is freed. Where keys of one size are followed by keys of another, and those of the
//! first size go at random, every page of theirs keeps some to the end. The allocator cannot move a block, for it does not know who points to it; its
//! owner can, by allocating anew and freeing: then the new block must come from another page.
//!
//! All is done in steps of one region, so that whoever calls may stop after any of them.
#![allow(
    unsafe_code,
    reason = "an allocator hands out and takes back raw memory"
)]

use core::sync::atomic::Ordering::Relaxed;

use crate::classes::{BYTES, CLASSES};
use crate::heap::{Heap, close, mine, newest_region, open_last};
use crate::region::{PAGE_BYTES, PAGES, Page, Region};

/// How full a page is, in so many steps.
const STEPS: usize = 64;
/// Classes whose free blocks are fewer bytes than this, or than this share of their pages, are left alone.
const FREE_BYTES_MIN: usize = 16 * PAGE_BYTES;
const FREE_SHARE: usize = 16;
/// One in so many of the free blocks elsewhere is not counted upon: others allocate meanwhile.
const MARGIN: usize = 16;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Pages are being counted.
    Count,
    /// Those to be emptied are being chosen.
    Mark,
    /// Their blocks are to be moved; [`Thinning::release`] ends it.
    Emptying,
    /// Those that were not emptied are given back to their class.
    Release,
    /// It is over.
    Done,
}

/// The pages of one class.
#[derive(Clone, Copy)]
struct Class {
    pages: usize,
    used: usize,
    /// Pages by how full they are.
    by_fill: [u32; STEPS],
    /// So many pages are chosen: those less full than this, and of those that are as full so many.
    left: usize,
    below: usize,
    of_those: usize,
}

const NO_CLASS: Class = Class {
    pages: 0,
    used: 0,
    by_fill: [0; STEPS],
    left: 0,
    below: 0,
    of_those: 0,
};

/// See the module's head. It is of the heap of the thread that made it, and does nothing on another. It is to be gone on with until it is
/// over: pages that it has marked give no blocks before.
pub struct Thinning {
    heap: *mut Heap,
    at: *mut Region,
    stage: Stage,
    classes: Box<[Class; CLASSES]>,
    /// Pages chosen, and those of them that were not emptied.
    chosen: usize,
    kept: usize,
}

// SAFETY: the pointers are followed only by the thread that owns the heap (`step` compares), and what they point to is never freed.
unsafe impl Send for Thinning {}

impl Default for Thinning {
    fn default() -> Self {
        Self::new()
    }
}

impl Thinning {
    /// Begins with this thread's heap.
    pub fn new() -> Thinning {
        let heap = mine();
        Thinning {
            heap,
            at: newest_region(heap),
            stage: Stage::Count,
            classes: Box::new([NO_CLASS; CLASSES]),
            chosen: 0,
            kept: 0,
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether some of the pages chosen have blocks of more than so many bytes.
    pub fn has_larger(&self, bytes: usize) -> bool {
        let classes = self.classes.iter().zip(&BYTES);
        let mut chosen = classes.filter(|(class, _)| class.of_those > 0 || class.below > 0);
        chosen.any(|(_, size)| usize::from(*size) > bytes)
    }

    /// Bytes of the pages that were chosen.
    pub fn chosen_bytes(&self) -> usize {
        self.chosen * PAGE_BYTES
    }

    /// Bytes of those of them that could not be emptied; known when it is over.
    pub fn kept_bytes(&self) -> usize {
        self.kept * PAGE_BYTES
    }

    /// Goes on by one region (64 pages): does nothing while blocks are to be moved, and when it is over.
    pub fn step(&mut self) -> Stage {
        if self.heap != mine() || self.heap.is_null() {
            self.stage = Stage::Done;
        }
        if matches!(self.stage, Stage::Emptying | Stage::Done) {
            return self.stage;
        }
        if !self.at.is_null() {
            // SAFETY: this thread owns the heap and so all that is in its regions, which live as long as the process.
            unsafe {
                let taken = (*self.at).taken.min(PAGES);
                for number in 0..taken {
                    let page = (&raw mut (*self.at).pages).cast::<Page>().add(number);
                    self.look(page);
                }
                self.at = (*self.at).older;
            }
        }
        if self.at.is_null() {
            self.next_stage();
        }
        self.stage
    }

    /// Blocks have been moved as far as they could: what is left of the pages chosen is used again.
    pub fn release(&mut self) {
        if self.stage == Stage::Emptying {
            (self.stage, self.at) = (Stage::Release, newest_region(self.heap));
        }
    }

    fn next_stage(&mut self) {
        self.stage = match self.stage {
            Stage::Count => {
                let classes = self.classes.iter_mut().enumerate();
                classes.for_each(|(number, class)| class.choose(usize::from(BYTES[number])));
                match self.classes.iter().any(|class| class.left > 0) {
                    true => Stage::Mark,
                    false => Stage::Done,
                }
            }
            Stage::Mark if self.chosen > 0 => Stage::Emptying,
            _ => Stage::Done,
        };
        self.at = newest_region(self.heap);
    }

    /// # Safety
    /// 1. This thread owns `heap`, to which the page belongs, and which has taken it into use.
    unsafe fn look(&mut self, page: *mut Page) {
        // SAFETY: (1)
        unsafe {
            if self.stage == Stage::Release {
                if (*page).drains.swap(false, Relaxed) {
                    self.kept += 1;
                    if !(*page).is_open {
                        open_last(self.heap, page);
                    }
                }
                return;
            }
            let number = usize::from((*page).class);
            // (Pages without a block are on a stack of those. The first of its class gives blocks now.)
            if number >= CLASSES || (*page).used == 0 || (*self.heap).first[number] == page {
                return;
            }
            let class = &mut self.classes[number];
            let used = (*page).used as usize;
            let fill = used * BYTES[number] as usize * STEPS / PAGE_BYTES;
            let fill = fill.min(STEPS - 1);
            if self.stage == Stage::Count {
                class.pages += 1;
                class.used += used;
                class.by_fill[fill] += 1;
                return;
            }
            let is_last_step = fill == class.below && class.of_those > 0;
            // (Many more may have become emptier since they were counted: there would be no room for what lives in all of them.)
            if class.left == 0 || fill >= class.below && !is_last_step {
                return;
            }
            class.left -= 1;
            class.of_those -= usize::from(is_last_step);
            if (*page).is_open {
                close(self.heap, page);
            }
            (*page).drains.store(true, Relaxed);
            self.chosen += 1;
        }
    }
}

impl Class {
    /// Chooses the emptiest pages whose blocks, of `bytes` each, fit into the free ones of the others.
    fn choose(&mut self, bytes: usize) {
        let capacity = PAGE_BYTES / bytes;
        let free = (self.pages * capacity).saturating_sub(self.used);
        let is_worth_it =
            free * bytes >= FREE_BYTES_MIN && free * FREE_SHARE >= self.pages * capacity;
        if !is_worth_it {
            return;
        }
        // Each page that is chosen takes its free blocks away, and needs room for those in use: both together are a page.
        self.left = (free - free / MARGIN) / capacity;
        let mut left = self.left;
        for (fill, &pages) in self.by_fill.iter().enumerate() {
            self.below = fill;
            if left < pages as usize {
                self.of_those = left;
                return;
            }
            left -= pages as usize;
        }
    }
}

/// See the crate.
#[inline]
pub(crate) fn drains(block: *const u8) -> bool {
    let Some(region) = Region::at(block) else {
        return false;
    };
    // SAFETY: a region of a heap, which lives as long as the process; `drains` is atomic.
    unsafe {
        let page = Region::page_of(region, block.cast_mut().cast());
        (*page).drains.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(by_fill: &[(usize, u32)], bytes: usize) -> Class {
        let mut class = NO_CLASS;
        for &(fill, pages) in by_fill {
            class.by_fill[fill] = pages;
            class.pages += pages as usize;
            class.used += pages as usize * (PAGE_BYTES / bytes) * fill / STEPS;
        }
        class.choose(bytes);
        class
    }

    #[test]
    fn the_emptiest_pages_are_chosen_as_far_as_the_others_have_room() {
        // All half full: nearly half of them go.
        let halves = class(&[(32, 1000)], 64);
        assert_eq!((halves.below, halves.of_those), (32, 468));
        // Some nearly empty: those, and then as many of the fuller ones as fit.
        let mixed = class(&[(2, 100), (48, 400), (63, 100)], 64);
        assert!(mixed.below == 48 && (80..120).contains(&mixed.of_those));
        // Full, or too few to matter.
        for few in [class(&[(61, 1000)], 64), class(&[(8, 15)], 64), NO_CLASS] {
            assert_eq!((few.below, few.of_those), (0, 0));
        }
    }
}
