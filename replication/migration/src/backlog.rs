//! The backlog: the last bytes of the stream to replicas, each at its offset.
//!
//! ```text
//!            first                                                end
//! stream  …………┊[ block ][ block ][ block ][ block, being filled ]┊      offsets count the bytes before, as Redis counts them
//!                   ▲ one replica         ▲ another
//! ```
//! It keeps what is asked for by its size, and what attached replicas have yet to be sent: whole blocks go when neither wants
//! them, so it holds up to one block more. What bounds the replicas (`client-output-buffer-limit replica`) bounds it, too.

use std::collections::VecDeque;

/// Bytes of a block.
const BLOCK_BYTES: usize = 64 << 10;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Backlog {
    blocks: VecDeque<Block>,
    end: u64,
}

#[derive(Debug)]
struct Block {
    /// Bytes of the stream before it.
    first: u64,
    bytes: Vec<u8>,
}

impl Backlog {
    /// An empty one: so many bytes of the stream lie before it.
    pub fn at(offset: u64) -> Backlog {
        Backlog {
            blocks: VecDeque::new(),
            end: offset,
        }
    }

    /// Bytes of the stream before the first one that is kept.
    pub fn first(&self) -> u64 {
        self.blocks.front().map_or(self.end, |block| block.first)
    }

    /// Bytes of the stream until now.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are kept.
    pub fn len(&self) -> u64 {
        self.end - self.first()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes.capacity()).sum()
    }

    /// The stream goes on.
    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = |block: &Block| BLOCK_BYTES.saturating_sub(block.bytes.len());
            if self.blocks.back().is_none_or(|block| room(block) == 0) {
                self.blocks.push_back(Block {
                    first: self.end,
                    bytes: Vec::new(),
                });
            }
            let Some(block) = self.blocks.back_mut() else {
                return;
            };
            let (now, later) = bytes.split_at(bytes.len().min(room(block)));
            block.bytes.extend_from_slice(now);
            self.end += now.len() as u64;
            bytes = later;
        }
    }

    /// Whether all of the stream behind this offset is here.
    pub fn reaches(&self, offset: u64) -> bool {
        (self.first()..=self.end).contains(&offset)
    }

    /// Bytes from this offset on, as many as lie together; none at the end. None where they are not kept (any more, or yet).
    pub fn read(&self, offset: u64) -> Option<&[u8]> {
        if !self.reaches(offset) {
            return None;
        }
        let behind = self.blocks.partition_point(|block| block.first <= offset);
        let Some(block) = behind.checked_sub(1).and_then(|at| self.blocks.get(at)) else {
            return Some(&[]);
        };
        block.bytes.get((offset - block.first) as usize..)
    }

    /// Forgets what lies before the last `kept_bytes`, but nothing from `needed` on (an offset).
    pub fn trim(&mut self, kept_bytes: u64, needed: u64) {
        let from = self.end.saturating_sub(kept_bytes).min(needed);
        let is_past = |block: &Block| block.first + block.bytes.len() as u64 <= from;
        while self.blocks.front().is_some_and(is_past) {
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(from: u64, len: usize) -> Vec<u8> {
        (from..).take(len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn what_is_kept_is_read_at_its_offset() {
        let mut backlog = Backlog::at(1000);
        assert_eq!(
            (backlog.first(), backlog.end(), backlog.len()),
            (1000, 1000, 0)
        );
        assert_eq!(backlog.read(1000), Some(&[][..]));
        assert_eq!((backlog.read(999), backlog.read(1001)), (None, None));
        let mut end = 1000;
        for len in [
            1,
            7,
            BLOCK_BYTES,
            0,
            3 * BLOCK_BYTES + 1,
            100,
            BLOCK_BYTES - 9,
        ] {
            backlog.append(&stream(end, len));
            end += len as u64;
            assert_eq!(backlog.end(), end);
            backlog.trim(2 * BLOCK_BYTES as u64, u64::MAX);
            assert!(backlog.len() <= 3 * BLOCK_BYTES as u64);
            assert!(backlog.len() >= (end - 1000).min(2 * BLOCK_BYTES as u64));
            let first = backlog.first();
            assert_eq!(backlog.read(first.wrapping_sub(1)), None);
            for mut at in [first, first + 1, end - 1, end] {
                let mut read = Vec::new();
                while at < end {
                    let bytes = backlog.read(at).unwrap();
                    assert!(!bytes.is_empty());
                    read.extend_from_slice(bytes);
                    at += bytes.len() as u64;
                }
                let from = end - read.len() as u64;
                assert_eq!(read, stream(from, read.len()));
            }
        }
    }

    #[test]
    fn what_a_replica_needs_stays() {
        let mut backlog = Backlog::at(0);
        backlog.append(&stream(0, 5 * BLOCK_BYTES));
        backlog.trim(1, 2 * BLOCK_BYTES as u64 - 1);
        assert_eq!(backlog.first(), BLOCK_BYTES as u64);
        backlog.trim(1, u64::MAX);
        assert_eq!(backlog.first(), 4 * BLOCK_BYTES as u64);
        backlog.trim(0, u64::MAX);
        assert!(backlog.is_empty() && backlog.heap_bytes() == 0);
        assert_eq!(backlog.first(), 5 * BLOCK_BYTES as u64);
    }
}
