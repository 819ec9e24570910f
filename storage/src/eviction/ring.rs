//! A queue in blocks: it grows and shrinks without being copied, however long it is, so no step of it is long.

use std::collections::VecDeque;

use crate::account::class_size;

/// Entries of a block.
const BLOCK_LEN: usize = 2048;

/// First in, first out.
pub(crate) struct Ring<T> {
    blocks: VecDeque<Vec<T>>,
    /// Entries of the first block that have been taken.
    taken: usize,
    len: usize,
}

impl<T: Copy> Ring<T> {
    pub(crate) fn new() -> Ring<T> {
        Ring {
            blocks: VecDeque::new(),
            taken: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push_back(&mut self, entry: T) {
        let has_room = self
            .blocks
            .back()
            .is_some_and(|last| last.len() < BLOCK_LEN);
        if !has_room {
            self.blocks.push_back(Vec::with_capacity(BLOCK_LEN));
        }
        if let Some(last) = self.blocks.back_mut() {
            last.push(entry);
            self.len += 1;
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.blocks.front()?;
        let entry = *first.get(self.taken)?;
        self.taken += 1;
        self.len -= 1;
        if self.taken == first.len() {
            self.blocks.pop_front();
            self.taken = 0;
        }
        Some(entry)
    }

    /// The entry behind so many others.
    pub(crate) fn get(&self, behind: usize) -> Option<&T> {
        let at = self.taken + behind;
        self.blocks.get(at / BLOCK_LEN)?.get(at % BLOCK_LEN)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.blocks.len() * class_size(BLOCK_LEN * size_of::<T>())
            + class_size(self.blocks.capacity() * size_of::<Vec<T>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue() {
        let (mut ring, mut model) = (Ring::new(), VecDeque::new());
        for n in 0..50_000u64 {
            for _ in 0..(n % 4) {
                ring.push_back(n);
                model.push_back(n);
            }
            // Sometimes more go than come, until none is left.
            for _ in 0..((n / 7000) % 3) {
                assert_eq!(ring.pop_front(), model.pop_front());
            }
            assert_eq!((ring.len(), ring.get(5)), (model.len(), model.get(5)));
        }
        while let Some(entry) = model.pop_front() {
            assert_eq!(ring.pop_front(), Some(entry));
        }
        assert_eq!((ring.pop_front(), ring.len()), (None, 0));
        ring.push_back(7);
        assert_eq!(ring.get(0).copied(), Some(7));
        assert_eq!(ring.pop_front(), Some(7));
    }
}
