//! Blocks hold what was written into them, whichever threads make and free them.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "plays an allocator by hand")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::mpsc;

use heap::{Stage, Thinning};

static HEAP: heap::Small<System> = heap::Small(System);

/// Steps of each thread, fewer where each is slow.
const STEPS: usize = if cfg!(miri) { 1_500 } else { 400_000 };
const THREADS: usize = 4;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize) % n
    }
}

/// A live block, filled with a byte that follows from its number.
struct Block {
    at: *mut u8,
    size: usize,
    align: usize,
    fill: u8,
}
// SAFETY: the block is this value's alone.
unsafe impl Send for Block {}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

impl Block {
    fn new(size: usize, number: usize) -> Block {
        let fill = number as u8;
        let align = if number.is_multiple_of(5) { 64 } else { 8 };
        let size = if align == 64 { size * 8 } else { size };
        // SAFETY: the size is not 0; writes stay inside.
        let at = unsafe { HEAP.alloc(layout(size, align)) };
        assert!(!at.is_null() && at.addr().is_multiple_of(align));
        // SAFETY: as above.
        unsafe { at.write_bytes(fill, size) }
        Block {
            at,
            size,
            align,
            fill,
        }
    }

    fn check(&self) {
        for i in 0..self.size {
            // SAFETY: inside of a live, initialised block.
            assert_eq!(unsafe { self.at.add(i).read() }, self.fill);
        }
    }

    fn resize(&mut self, size: usize) {
        self.check();
        // SAFETY: a live block with its layout.
        self.at = unsafe { HEAP.realloc(self.at, layout(self.size, self.align), size) };
        let kept = self.size.min(size);
        self.size = kept;
        self.check();
        // SAFETY: inside of the new block.
        unsafe { self.at.write_bytes(self.fill, size) }
        self.size = size;
    }

    fn is_to_leave(&self) -> bool {
        heap::drains(self.at)
    }

    /// Moves to another page if it is to.
    fn leave(&mut self) {
        if self.is_to_leave() {
            let moved = Block {
                // SAFETY: the size is not 0.
                at: unsafe { HEAP.alloc(layout(self.size, self.align)) },
                ..*self
            };
            // SAFETY: two live blocks of that size.
            unsafe { moved.at.copy_from_nonoverlapping(self.at, self.size) }
            assert!(!moved.is_to_leave());
            core::mem::replace(self, moved).free();
        }
    }

    fn free(self) {
        self.check();
        // SAFETY: a live block with its layout, not used any more.
        unsafe { HEAP.dealloc(self.at, layout(self.size, self.align)) }
    }
}

fn size(random: &mut Random) -> usize {
    match random.below(10) {
        0 => 1 + random.below(1_500),
        1 => 1 + random.below(300),
        _ => 1 + random.below(80),
    }
}

#[test]
fn blocks_are_disjoint_and_stay_whole_across_threads() {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel()).unzip();
    std::thread::scope(|scope| {
        for (number, receiver) in receivers.into_iter().enumerate() {
            let senders = senders.clone();
            scope.spawn(move || {
                let mut random = Random(number as u64 + 77);
                let mut held: Vec<Block> = Vec::new();
                let mut thinning = Thinning::new();
                for step in 0..STEPS {
                    // The number held goes up and down, so that pages fill and empty.
                    let many = if (step / (STEPS / 8)).is_multiple_of(2) {
                        6
                    } else {
                        3
                    };
                    match random.below(10) {
                        n if n < many => held.push(Block::new(size(&mut random), step)),
                        8 if !held.is_empty() => {
                            let at = random.below(held.len());
                            held[at].resize(size(&mut random));
                        }
                        9 if !held.is_empty() => {
                            let block = held.swap_remove(random.below(held.len()));
                            senders[random.below(THREADS)].send(block).unwrap();
                        }
                        _ if !held.is_empty() => {
                            held.swap_remove(random.below(held.len())).free();
                        }
                        _ => {}
                    }
                    if random.below(4) == 0
                        && let Ok(block) = receiver.try_recv()
                    {
                        block.free();
                    }
                    if random.below(STEPS / 4) == 0 {
                        heap::rest();
                    }
                    if random.below(STEPS / 4) == 0 {
                        heap::purge();
                    }
                    if step % 64 == 0 {
                        go_on(&mut thinning, &mut held);
                    }
                }
                drop(senders);
                held.into_iter().for_each(Block::free);
                receiver.into_iter().for_each(Block::free);
            });
        }
        drop(senders);
    });
}

#[test]
fn what_others_free_is_used_again() {
    // One thread makes, another frees: were the blocks not taken back, memory would grow for ever.
    let (sender, receiver) = mpsc::sync_channel::<Block>(100);
    let rounds = if cfg!(miri) { 1_000 } else { 2_000_000 };
    std::thread::scope(|scope| {
        scope.spawn(move || receiver.into_iter().for_each(Block::free));
        let mut regions = std::collections::BTreeSet::new();
        for round in 0..rounds {
            let block = Block::new(8 + round % 3 * 40, round);
            regions.insert(block.at.addr() >> 22);
            sender.send(block).unwrap();
        }
        drop(sender);
        assert!(regions.len() <= 2, "{} regions of 4 MiB", regions.len());
    });
}

#[test]
fn zeroed_blocks_are_zero_and_large_ones_pass_through() {
    for size in [1, 56, 1024, 1025, 5000, 20_000] {
        for _ in 0..3 {
            // SAFETY: live blocks with their layouts.
            unsafe {
                let block = HEAP.alloc_zeroed(layout(size, 8));
                assert!((0..size).all(|i| block.add(i).read() == 0));
                block.write_bytes(0xff, size);
                HEAP.dealloc(block, layout(size, 8));
                let wide = layout(size, 64);
                let block = HEAP.alloc(wide);
                assert!(block.addr().is_multiple_of(64));
                HEAP.dealloc(block, wide);
            }
        }
    }
}

/// A step of emptying pages: all blocks that are to move do so at once.
fn go_on(thinning: &mut Thinning, held: &mut [Block]) {
    match thinning.step() {
        Stage::Emptying => {
            held.iter_mut().for_each(Block::leave);
            thinning.release();
        }
        Stage::Done => *thinning = Thinning::new(),
        _ => {}
    }
}

#[test]
fn pages_are_emptied_by_moving_what_lives_there() {
    let count = if cfg!(miri) { 5_000 } else { 200_000 };
    // (On a thread of its own, with a heap that no other test has used.)
    let run = move || {
        let mut random = Random(5);
        let mut held: Vec<Block> = (0..count).map(|n| Block::new(50, 5 * n + 1)).collect();
        for _ in 0..count / 2 {
            held.swap_remove(random.below(held.len())).free();
        }
        let pages = |held: &[Block]| -> usize {
            let pages = held.iter().map(|block| block.at.addr() >> 16);
            pages.collect::<std::collections::BTreeSet<_>>().len()
        };
        let before = pages(&held);
        let mut thinning = Thinning::new();
        while !matches!(thinning.step(), Stage::Emptying | Stage::Done) {}
        if cfg!(miri) {
            return;
        }
        assert_eq!(thinning.stage(), Stage::Emptying);
        // One that is not moved keeps its page. (None of these is of whole lines.)
        let stays = held.iter().position(Block::is_to_leave).unwrap();
        for (number, block) in held.iter_mut().enumerate() {
            if number != stays {
                block.leave();
            }
        }
        let after = pages(&held);
        assert!(after * 100 < before * 56, "{before} pages, then {after}");
        thinning.release();
        while thinning.step() != Stage::Done {}
        let [chosen, kept] =
            [thinning.chosen_bytes(), thinning.kept_bytes()].map(|bytes| bytes >> 16);
        assert!(
            kept == 1 && before - after + 1 == chosen,
            "{chosen}, {kept}"
        );
        assert!(!held[stays].is_to_leave());
        // What is full is left alone.
        let mut again = Thinning::new();
        while !matches!(again.step(), Stage::Emptying | Stage::Done) {}
        assert_eq!(again.stage(), Stage::Done);
        held.into_iter().for_each(Block::free);
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}
