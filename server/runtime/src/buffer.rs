#![allow(
    unsafe_code,
    reason = "memory shared with the kernel: who may touch it when is decided here"
)]
//! Hot path. The receive pool: memory that the kernel fills and the service reads, never both at once.
//!
//! ```text
//!   kernel may write --completion--> driver holds --Span in an event--> service reads until turn() returns
//!         ^                                                                             |
//!         \------------------------- recycle(), after turn() --------------------------/
//! ```
//!
//! A [`Span`] names its pool and its turn, and [`View::bytes`] checks both, so that safe code cannot read memory the
//! kernel may be writing, whatever it does with spans: a span of an earlier turn is refused.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::service::Span;

/// Alignment of the pool: a page, as the kernel wants for rings and likes for copies.
const PAGE_BYTES: usize = 4096;

/// Page-aligned zeroed memory that is never moved. Untouched pages cost no RSS.
pub(crate) struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

impl Region {
    /// At least `bytes` of memory; `None` when the size is absurd.
    pub(crate) fn new(bytes: usize) -> Option<Region> {
        let layout = Layout::from_size_align(bytes.max(PAGE_BYTES), PAGE_BYTES).ok()?;
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        match NonNull::new(base) {
            Some(base) => Some(Region { base, layout }),
            None => handle_alloc_error(layout),
        }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Takes the memory now, not when it is first written to.
    pub(crate) fn populate(&self) {
        for at in (0..self.layout.size()).step_by(PAGE_BYTES) {
            // SAFETY: inside the region, which nobody else knows of yet. (Volatile, or it would be seen that a zero is there.)
            unsafe { self.base.as_ptr().add(at).write_volatile(0) }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout, freed once. That the kernel no longer writes here is the
        // owner's duty: the io_uring driver leaks its regions when it cannot wait for its operations to end.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// What a turn may read: a region, and the only turn whose spans are honoured.
#[derive(Clone, Copy)]
pub(crate) struct View<'d> {
    base: *const u8,
    bytes: usize,
    turn: u64,
    life: PhantomData<&'d [u8]>,
}

impl<'d> View<'d> {
    /// # Safety
    /// 1. `base` is valid for reads of `bytes` bytes, all initialised, for `'d`.
    /// 2. During `'d` nobody writes to the bytes of any span that carries this base and this turn.
    pub(crate) unsafe fn new(base: *const u8, bytes: usize, turn: u64) -> View<'d> {
        View {
            base,
            bytes,
            turn,
            life: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &'d [u8] {
        let end = u64::from(span.start) + u64::from(span.len);
        let ours = span.pool == self.base as usize && span.turn == self.turn;
        debug_assert!(ours, "a span lives for one turn");
        if !ours || end > self.bytes as u64 {
            return &[];
        }
        // SAFETY: in bounds of the region (just checked), and by the contract of `new` nobody writes to the bytes
        // of a span of this turn while 'd lasts.
        unsafe { std::slice::from_raw_parts(self.base.add(span.start as usize), span.len as usize) }
    }
}

/// The turn of every span of an [`Arena`]; drivers count turns from the clock and never get here.
const ARENA_TURN: u64 = u64::MAX;

/// Bytes for simulated turns: push what "arrived", put the span into an event, build the turn.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// Room for `capacity` bytes, fixed so that spans stay valid.
    pub fn new(capacity: usize) -> Arena {
        Arena {
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// Copies bytes in; `None` when there is no room.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Span> {
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            return None;
        }
        let start = u32::try_from(self.bytes.len()).ok()?;
        let len = u32::try_from(bytes.len()).ok()?;
        self.bytes.extend_from_slice(bytes);
        Some(Span {
            pool: self.bytes.as_ptr() as usize,
            turn: ARENA_TURN,
            start,
            len,
        })
    }

    /// Empties it for the next turn; old spans then read as whatever is pushed next, or as nothing.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn view(&self) -> View<'_> {
        // SAFETY: (1) the slice is borrowed for the view's life and initialised; (2) the borrow forbids writes.
        unsafe { View::new(self.bytes.as_ptr(), self.bytes.len(), ARENA_TURN) }
    }
}

/// How far ahead of the bytes that have arrived a fill reserves memory, unless more than this has arrived.
const FILL_AHEAD_BYTES: usize = 1 << 20;

/// A `recv_into` under way: a Vec that grows to an exact length as bytes come.
pub(crate) struct Fill {
    pub(crate) buffer: Vec<u8>,
    pub(crate) len_wanted: usize,
}

impl Fill {
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= self.len_wanted
    }

    /// Reserves a little ahead: a claimed length costs nothing until bytes come, and never more than is wanted.
    fn reserve(&mut self, at_least: usize) {
        let missing = self.len_wanted - self.buffer.len();
        let ahead = self
            .buffer
            .len()
            .max(FILL_AHEAD_BYTES)
            .max(at_least)
            .min(missing);
        self.buffer.reserve_exact(ahead);
    }

    /// Takes a copy of what it can use; returns how many bytes that was.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes
            .len()
            .min(self.len_wanted.saturating_sub(self.buffer.len()));
        if taken > self.buffer.capacity() - self.buffer.len() {
            self.reserve(taken);
        }
        self.buffer
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// The memory for the next bytes, not empty unless full: raw, because the kernel writes it later. It stays
    /// where it is while nobody calls anything else on this fill; see [`Fill::filled`].
    pub(crate) fn room(&mut self) -> (*mut u8, usize) {
        if self.is_full() {
            return (self.buffer.as_mut_ptr(), 0);
        }
        if self.buffer.capacity() == self.buffer.len() {
            self.reserve(1);
        }
        let missing = self.len_wanted - self.buffer.len();
        let spare = self.buffer.spare_capacity_mut();
        (spare.as_mut_ptr().cast(), spare.len().min(missing))
    }

    /// Counts bytes that the kernel has written.
    ///
    /// # Safety
    /// 1. `n` is at most the length that [`Fill::room`] last gave, with no other call between.
    /// 2. The first `n` bytes of that room have been written.
    pub(crate) unsafe fn filled(&mut self, n: usize) {
        debug_assert!(
            n <= self.buffer.capacity() - self.buffer.len(),
            "no more than the room"
        );
        // SAFETY: (1) keeps it within the capacity, (2) makes the bytes initialised.
        unsafe { self.buffer.set_len(self.buffer.len() + n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_reserves_a_little_ahead_and_never_more_than_wanted() {
        let mut fill = Fill {
            buffer: b"head".to_vec(),
            len_wanted: 512 << 20,
        };
        assert_eq!(fill.copy(&[1; 100]), 100);
        assert!(fill.buffer.capacity() <= 104 + FILL_AHEAD_BYTES);
        let mut fill = Fill {
            buffer: b"head".to_vec(),
            len_wanted: (3 << 20) + 5,
        };
        while !fill.is_full() {
            let (room, len) = fill.room();
            assert!(len > 0);
            // SAFETY: the room is valid for writes of `len` bytes.
            unsafe { std::ptr::write_bytes(room, 7, len) }
            // SAFETY: (1) all of the room, at once; (2) just written.
            unsafe { fill.filled(len) }
        }
        assert_eq!(
            (fill.buffer.len(), fill.buffer.capacity()),
            ((3 << 20) + 5, (3 << 20) + 5)
        );
        assert_eq!(fill.copy(b"more"), 0);
        assert_eq!(fill.room().1, 0);
    }

    #[test]
    fn spans_of_an_arena_read_back_until_it_is_cleared() {
        let mut arena = Arena::new(10);
        let span = arena.push(b"abcdef").unwrap();
        assert_eq!(arena.view().bytes(span), b"abcdef");
        assert_eq!(arena.view().bytes(span.part(2..100)), b"cdef");
        assert!(arena.view().bytes(span.part(9..30)).is_empty());
        assert_eq!(arena.push(b"too long"), None);
        arena.clear();
        assert!(
            arena.view().bytes(span).is_empty(),
            "out of what has been pushed since"
        );
    }
}
