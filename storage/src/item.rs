//! Hot path. An item: a key with its value, in one heap block when the value is small.
//!
//! `unsafe` lives here (tidy's list): a block is raw bytes, laid out by hand.
//!
//! ```text
//! 0      1      2        4          8            (16)         (+4)      +key
//! | tag  | klen | vlen   | access   | [deadline] | [long klen] | key ... | value ...            |
//!   u8     u8     u16      u32        u64 ms       u32                     by kind:
//!                                                                          Int         i64
//!                                                                          Embedded    vlen bytes
//!                                                                          Large       Vec<u8> (24 B)
//!                                                                          Collection  Box (8 B), or its packed block
//! tag: kind in bits 0-1 | CUT 3 | RAW or PACKED 4 | DEADLINE 5 | LONG_KEY 6 | IN_WHEEL 7
//! ```
//! A 16-byte key with a 32-byte value takes 56 bytes, with a deadline 64: sizes that the allocator has.
//! Fields are read unaligned. `access` is written through a shared reference (a plain store on the
//! only thread that owns the shard), which is why it is never handed out by reference.
#![allow(
    unsafe_code,
    reason = "one block per item: header, key and value laid out by hand"
)]

use core::ptr::{self, NonNull};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

use crate::account::class_size;
use crate::compact::IsSparse;
use crate::held::Held;
use crate::packed::block_bytes;
use crate::table::Entry;
use crate::value::{Collection, Kind};

/// Longest string kept in the item's own block, bytes.
pub const EMBEDDED_BYTES_MAX: usize = 512;

const KIND_MASK: u8 = 0b11;
const INT: u8 = 0;
const EMBEDDED: u8 = 1;
const LARGE: u8 = 2;
const COLLECTION: u8 = 3;
/// The parity of the last snapshot that the item has been written out for (`snapshot/`).
pub(crate) const CUT: u8 = 1 << 3;
/// Of a string: it reports the encoding "raw".
const RAW: u8 = 1 << 4;
/// Of a collection: its packed block lies here, and `vlen` is its type.
const PACKED: u8 = 1 << 4;
const DEADLINE: u8 = 1 << 5;
const LONG_KEY: u8 = 1 << 6;
const IN_WHEEL: u8 = 1 << 7;
const HEADER_BYTES: usize = 8;

/// A value on its way into or out of a block.
pub(crate) enum Payload<'a> {
    /// An integer string.
    Int(i64),
    /// A string that fits the block.
    Embedded(&'a [u8]),
    /// A string with a block of its own.
    Large(Vec<u8>),
    /// A list, hash, set or sorted set.
    Collection(Box<Collection>),
    /// The packed block of one, to lie in the item's.
    Packed(Kind, &'a [u8]),
}

/// A string that fits the block, on its way in: nothing that would have to be dropped.
#[derive(Clone, Copy)]
pub(crate) enum Small<'a> {
    /// An integer string.
    Int(i64),
    /// At most [`EMBEDDED_BYTES_MAX`].
    Bytes(&'a [u8]),
}

impl<'a> From<Small<'a>> for Payload<'a> {
    fn from(small: Small<'a>) -> Self {
        match small {
            Small::Int(n) => Payload::Int(n),
            Small::Bytes(bytes) => Payload::Embedded(bytes),
        }
    }
}

/// What a block holds, borrowed.
pub(crate) enum Content<'a> {
    /// An integer string.
    Int(i64),
    /// Any other string.
    Bytes(&'a [u8]),
    /// A collection.
    Collection(Held<'a>),
}

/// A pointer to an item's block. The shard's tables own the blocks; a copy of the pointer is good
/// until the item is freed or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item(NonNull<u8>);

// SAFETY: a block's address is never null and below 2^48 (user space); it round-trips unchanged.
unsafe impl Entry for Item {
    #[inline(always)]
    fn into_raw(self) -> NonNull<u8> {
        self.0
    }
    #[inline(always)]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        Item(raw)
    }
}

impl Item {
    /// Makes a block. `raw` asks that a short string report the encoding "raw".
    pub(crate) fn build(
        key: &[u8],
        deadline: Option<u64>,
        payload: Payload<'_>,
        raw: bool,
    ) -> Item {
        let (kind, vlen, value_bytes) = match &payload {
            Payload::Int(_) => (INT, 0, 8),
            Payload::Embedded(value) => (EMBEDDED, value.len(), value.len()),
            Payload::Large(_) => (LARGE, 0, size_of::<Vec<u8>>()),
            Payload::Collection(_) => (COLLECTION, 0, size_of::<usize>()),
            Payload::Packed(kind, block) => (COLLECTION | PACKED, *kind as usize, block.len()),
        };
        debug_assert!(vlen <= EMBEDDED_BYTES_MAX);
        debug_assert!(!raw || kind != COLLECTION, "the flag means something else");
        let long_key = key.len() > u8::MAX as usize;
        let mut tag = kind;
        tag |= if raw { RAW } else { 0 };
        tag |= if deadline.is_some() { DEADLINE } else { 0 };
        tag |= if long_key { LONG_KEY } else { 0 };
        let key_at = key_offset(tag);
        let total = key_at + key.len() + value_bytes;
        let layout = block_layout(total);
        // SAFETY: the layout is at least the header's size, so never zero.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let item = Item(block);
        // SAFETY: every write below stays inside the `total` bytes just allocated: header 0..8,
        // deadline and long length in the room `key_offset` counts, then key, then value.
        unsafe {
            item.write::<u8>(0, tag);
            item.write::<u8>(1, if long_key { 0 } else { key.len() as u8 });
            item.write::<u16>(2, vlen as u16);
            item.write::<u32>(4, 0);
            if let Some(at_ms) = deadline {
                item.write::<u64>(HEADER_BYTES, at_ms);
            }
            if long_key {
                item.write::<u32>(key_at - 4, key.len() as u32);
            }
            item.copy_in(key_at, key);
            let value_at = key_at + key.len();
            match payload {
                Payload::Int(n) => item.write::<i64>(value_at, n),
                Payload::Embedded(value) => item.copy_in(value_at, value),
                Payload::Large(value) => item.write::<Vec<u8>>(value_at, value),
                Payload::Collection(value) => {
                    item.write::<*mut Collection>(value_at, Box::into_raw(value))
                }
                Payload::Packed(_, block) => item.copy_in(value_at, block),
            }
        }
        item
    }

    /// # Safety
    /// 1. `offset + size_of::<T>()` lies within the block. 2. What is overwritten needs no drop.
    #[inline(always)]
    unsafe fn write<T>(self, offset: usize, value: T) {
        // SAFETY: (1) the caller's; unaligned writes need no alignment.
        unsafe { ptr::write_unaligned(self.0.as_ptr().add(offset).cast::<T>(), value) }
    }

    /// # Safety
    /// 1. `offset + size_of::<T>()` lies within the block. 2. A valid `T` is stored there. 3. For a
    ///    `T` that owns something the caller sees to it that only one copy is dropped.
    #[inline(always)]
    unsafe fn read<T>(self, offset: usize) -> T {
        // SAFETY: (1, 2) the caller's.
        unsafe { ptr::read_unaligned(self.0.as_ptr().add(offset).cast::<T>()) }
    }

    /// # Safety
    /// 1. `offset + bytes.len()` lies within the block.
    #[inline(always)]
    unsafe fn copy_in(self, offset: usize, bytes: &[u8]) {
        // SAFETY: (1) the caller's; the block is not part of `bytes` (fresh, or exclusively edited).
        unsafe { copy_short(bytes, self.0.as_ptr().add(offset)) }
    }

    #[inline(always)]
    fn tag(self) -> u8 {
        // SAFETY: (1, 2) byte 0 of every block is its tag.
        unsafe { self.read(0) }
    }

    #[inline(always)]
    fn set_tag(self, tag: u8) {
        // SAFETY: (1) byte 0 is inside; (2) a u8.
        unsafe { self.write(0, tag) }
    }

    #[inline(always)]
    fn key_len(self, tag: u8) -> usize {
        // SAFETY: (1, 2) both fields were written by `build` when the tag says so.
        unsafe {
            if tag & LONG_KEY == 0 {
                self.read::<u8>(1) as usize
            } else {
                self.read::<u32>(key_offset(tag) - 4) as usize
            }
        }
    }

    /// The key. The lifetime is the caller's promise: until the item is freed or replaced.
    #[inline(always)]
    pub(crate) fn key<'a>(self) -> &'a [u8] {
        let tag = self.tag();
        // SAFETY: `build` wrote `key_len` bytes at `key_offset`; nobody writes them again.
        unsafe {
            core::slice::from_raw_parts(self.0.as_ptr().add(key_offset(tag)), self.key_len(tag))
        }
    }

    /// Whether the item's key is `key`.
    #[inline(always)]
    pub(crate) fn is(self, key: &[u8]) -> bool {
        same(self.key(), key)
    }

    #[inline(always)]
    fn value_at(self, tag: u8) -> usize {
        key_offset(tag) + self.key_len(tag)
    }

    fn embedded_len(self) -> usize {
        // SAFETY: (1, 2) bytes 2..4 of every block.
        usize::from(unsafe { self.read::<u16>(2) })
    }

    /// Bytes of the block that are in use.
    fn total(self) -> usize {
        let tag = self.tag();
        let value_bytes = match tag & KIND_MASK {
            INT => 8,
            EMBEDDED => self.embedded_len(),
            LARGE => size_of::<Vec<u8>>(),
            _ if tag & PACKED != 0 => self.packed_bytes(tag),
            _ => size_of::<usize>(),
        };
        self.value_at(tag) + value_bytes
    }

    /// Bytes of the packed block in it.
    fn packed_bytes(self, tag: u8) -> usize {
        debug_assert!(tag & KIND_MASK == COLLECTION && tag & PACKED != 0);
        // SAFETY: (1, 2) the tag says that a packed block lies there, which begins with the number of bytes used.
        block_bytes(u16::from_le_bytes(unsafe {
            self.read::<[u8; 2]>(self.value_at(tag))
        }))
    }

    /// The value. The lifetime is the caller's promise: until the item is changed, freed or replaced.
    #[inline(always)]
    pub(crate) fn content<'a>(self) -> Content<'a> {
        let tag = self.tag();
        let at = self.value_at(tag);
        // SAFETY: the kind in the tag says what `build` or an overwrite stored at `at`; references
        // are good while the caller keeps its promise.
        unsafe {
            let value = self.0.as_ptr().add(at);
            match tag & KIND_MASK {
                INT => Content::Int(self.read(at)),
                EMBEDDED => Content::Bytes(core::slice::from_raw_parts(value, self.embedded_len())),
                LARGE => {
                    // The Vec may lie unaligned, so it is read as a copy that is never dropped.
                    let bytes = core::mem::ManuallyDrop::new(self.read::<Vec<u8>>(at));
                    Content::Bytes(core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()))
                }
                _ if tag & PACKED != 0 => {
                    let block = core::slice::from_raw_parts(value, self.packed_bytes(tag));
                    Content::Collection(Held::Packed(Kind::of(self.read::<u8>(2)), block))
                }
                _ => Content::Collection(Held::Boxed(&*self.read::<*mut Collection>(at))),
            }
        }
    }

    /// The collection, if it has a box of its own. The caller's promise is that of [`Item::content`].
    #[inline(always)]
    pub(crate) fn boxed<'a>(self) -> Option<&'a Collection> {
        let tag = self.tag();
        if tag & (KIND_MASK | PACKED) != COLLECTION {
            return None;
        }
        // SAFETY: as in `content`: the tag says a collection pointer is stored there.
        Some(unsafe { &*self.read::<*mut Collection>(self.value_at(tag)) })
    }

    /// The collection, to change it: one in a box of its own.
    ///
    /// # Safety
    /// 1. No other reference into this item's collection is alive while the result is.
    pub(crate) unsafe fn collection_mut<'a>(self) -> Option<&'a mut Collection> {
        let tag = self.tag();
        if tag & (KIND_MASK | PACKED) != COLLECTION {
            return None;
        }
        // SAFETY: (2) the tag says a collection pointer from `Box::into_raw` is stored there; unique by (1).
        Some(unsafe { &mut *self.read::<*mut Collection>(self.value_at(tag)) })
    }

    /// Whether a string value asked to report "raw".
    pub(crate) fn is_raw(self) -> bool {
        let tag = self.tag();
        tag & RAW != 0 && tag & KIND_MASK != COLLECTION
    }

    /// Absolute deadline, unix milliseconds.
    #[inline(always)]
    pub(crate) fn deadline_ms(self) -> Option<u64> {
        // SAFETY: (1, 2) the flag says that `build` made room for a deadline at 8.
        (self.tag() & DEADLINE != 0).then(|| unsafe { self.read(HEADER_BYTES) })
    }

    /// Whether the deadline has passed.
    #[inline(always)]
    pub(crate) fn is_expired(self, now_ms: u64) -> bool {
        self.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Changes the deadline in place; only when the block has one already.
    pub(crate) fn set_deadline_ms(self, at_ms: u64) {
        debug_assert!(self.tag() & DEADLINE != 0);
        // SAFETY: (1) the flag (asserted) says that there is room; (2) a u64.
        unsafe { self.write(HEADER_BYTES, at_ms) }
    }

    /// Takes over what another block of the same key and value has noted: its last use, that the wheel and a snapshot know it.
    pub(crate) fn take_notes(self, of: Item) {
        self.touch(of.access_s());
        let notes = IN_WHEEL | CUT;
        self.set_tag(self.tag() & !notes | of.tag() & notes);
    }

    /// Whether the expiry wheel has a hint for this item, at its deadline or earlier.
    pub(crate) fn in_wheel(self) -> bool {
        self.tag() & IN_WHEEL != 0
    }

    /// See [`Item::in_wheel`].
    pub(crate) fn set_in_wheel(self) {
        self.set_tag(self.tag() | IN_WHEEL);
    }

    /// Whether it has not been written out for the snapshot of this parity ([`CUT`] or 0).
    #[inline(always)]
    pub(crate) fn is_pending(self, cut: u8) -> bool {
        (self.tag() ^ cut) & CUT != 0
    }

    /// It need not be written out for the snapshot of this parity.
    #[inline(always)]
    pub(crate) fn set_cut(self, cut: u8) {
        self.set_tag(self.tag() & !CUT | cut);
    }

    /// Asks for the block ahead of its use.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        crate::table::prefetch(self.0.as_ptr());
    }

    /// Coarse time of the last access, seconds of the shard's clock; or how often it was used (`lfu.rs`).
    pub(crate) fn access_s(self) -> u32 {
        // SAFETY: (1, 2) bytes 4..8 of every block.
        unsafe { self.read(4) }
    }

    /// Notes an access; writes only when the second changed, to keep hot lines clean.
    #[inline(always)]
    pub(crate) fn touch(self, now_s: u32) {
        if self.access_s() != now_s {
            // SAFETY: (1) bytes 4..8; (2) a u32. Only the owning thread comes here.
            unsafe { self.write(4, now_s) }
        }
    }

    /// Overwrites a small string with another in place when the block's class stays the same (and
    /// the deadline's presence); false when a new block is needed.
    #[inline]
    pub(crate) fn overwrite(self, deadline: Option<u64>, value: Small<'_>) -> bool {
        let tag = self.tag();
        if deadline.is_some() != (tag & DEADLINE != 0) || tag & KIND_MASK > EMBEDDED {
            return false;
        }
        let at = self.value_at(tag);
        let old_bytes = match tag & KIND_MASK {
            INT => 8,
            _ => self.embedded_len(),
        };
        let (kind, vlen, bytes) = match value {
            Small::Int(_) => (INT, 0, 8),
            Small::Bytes(value) => (EMBEDDED, value.len(), value.len()),
        };
        if bytes != old_bytes && class_size(at + bytes) != class_size(at + old_bytes) {
            return false;
        }
        // SAFETY: the new total rounds to the class that the block was allocated with, so all
        // writes stay inside; what is overwritten are plain bytes.
        unsafe {
            match value {
                Small::Int(n) => self.write(at, n),
                Small::Bytes(value) => self.copy_in(at, value),
            }
            self.write::<u16>(2, vlen as u16);
            self.write::<u8>(0, (tag & !(KIND_MASK | RAW)) | kind);
            if let Some(at_ms) = deadline {
                self.write(HEADER_BYTES, at_ms);
            }
        }
        true
    }

    /// Writes into a small string in place, zero-filling a gap, when the block's class stays the same;
    /// false when a new block is needed. The string reports "raw" afterwards.
    pub(crate) fn write_embedded(self, offset: usize, bytes: &[u8]) -> bool {
        let tag = self.tag();
        let (at, old) = (self.value_at(tag), self.embedded_len());
        let Some(end) = offset.checked_add(bytes.len()) else {
            return false;
        };
        let len = old.max(end);
        if tag & KIND_MASK != EMBEDDED
            || len > EMBEDDED_BYTES_MAX
            || class_size(at + len) != class_size(at + old)
        {
            return false;
        }
        // SAFETY: the new total rounds to the class that the block was allocated with, and gap and
        // bytes end at `len` at most; what is overwritten are plain bytes. `bytes` is no part of the
        // block: who edits borrows the shard exclusively.
        unsafe {
            if offset > old {
                ptr::write_bytes(self.0.as_ptr().add(at + old), 0, offset - old);
            }
            self.copy_in(at + offset, bytes);
            self.write::<u16>(2, len as u16);
            self.set_tag(tag | RAW);
        }
        true
    }

    /// The string reports "raw" from now on.
    pub(crate) fn set_raw(self) {
        self.set_tag(self.tag() | RAW);
    }

    /// A mutable view of a large string, to append to it or write into it.
    pub(crate) fn with_large<R>(self, f: impl FnOnce(&mut Vec<u8>) -> R) -> Option<R> {
        let tag = self.tag();
        if tag & KIND_MASK != LARGE {
            return None;
        }
        let at = self.value_at(tag);
        // SAFETY: the tag says a Vec is stored at `at`. It is moved out, changed and moved back; a
        // panic in `f` would drop it twice, so an empty one stands in meanwhile.
        unsafe {
            let mut bytes = self.read::<Vec<u8>>(at);
            self.write(at, Vec::<u8>::new());
            let result = f(&mut bytes);
            self.write(at, bytes);
            Some(result)
        }
    }

    /// Where its block begins.
    #[inline(always)]
    pub(crate) fn address(self) -> *const u8 {
        self.0.as_ptr()
    }

    /// Heap bytes of the item with its string; a collection's own bytes are counted by the shard.
    pub(crate) fn heap_bytes(self) -> usize {
        let block = class_size(self.total());
        let tag = self.tag();
        if tag & KIND_MASK == LARGE {
            // SAFETY: the tag says a Vec is stored there; the copy is never dropped.
            let bytes =
                unsafe { core::mem::ManuallyDrop::new(self.read::<Vec<u8>>(self.value_at(tag))) };
            return block + class_size(bytes.capacity());
        }
        block
    }

    /// A copy of the block elsewhere, if it is to be moved: it stands for the same value, so one of the two is to be abandoned.
    pub(crate) fn moved(self, is_sparse: IsSparse<'_>) -> Option<Item> {
        if !is_sparse(self.address()) {
            return None;
        }
        let layout = block_layout(self.total());
        // SAFETY: the layout is that of `build`, never empty; both blocks have its size. What the value owns is owned by whichever
        // copy is kept.
        unsafe {
            let block = NonNull::new(alloc(layout))?;
            ptr::copy_nonoverlapping(self.0.as_ptr(), block.as_ptr(), layout.size());
            Some(Item(block))
        }
    }

    /// Frees the block alone: a copy of it goes on.
    pub(crate) fn abandon(self) {
        let layout = block_layout(self.total());
        // SAFETY: the layout is that of `build`; the caller does not use the block any more, and its value belongs to the copy.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }

    /// Moves the bytes of a large string, if they are to be.
    pub(crate) fn move_string(self, is_sparse: IsSparse<'_>) -> bool {
        let moved = self.with_large(|bytes| {
            let is_moved = is_sparse(bytes.as_ptr());
            if is_moved {
                // (As much room as before: that is what has been counted.)
                let mut anew = Vec::new();
                anew.reserve_exact(bytes.capacity());
                anew.extend_from_slice(bytes);
                *bytes = anew;
            }
            is_moved
        });
        moved.unwrap_or(false)
    }

    /// Frees the block and hands its value out (a small string and a packed block only by `content` before).
    pub(crate) fn free(self) -> Payload<'static> {
        let tag = self.tag();
        let at = self.value_at(tag);
        let layout = block_layout(self.total());
        // SAFETY: the kind says what is stored; it is moved out once and the block dies here. The
        // layout is that of `build`: in-place changes keep the class.
        unsafe {
            let payload = match tag & KIND_MASK {
                INT => Payload::Int(self.read(at)),
                EMBEDDED => Payload::Embedded(&[]),
                LARGE => Payload::Large(self.read(at)),
                _ if tag & PACKED != 0 => Payload::Packed(Kind::of(self.read::<u8>(2)), &[]),
                _ => Payload::Collection(Box::from_raw(self.read::<*mut Collection>(at))),
            };
            dealloc(self.0.as_ptr(), layout);
            payload
        }
    }
}

#[inline(always)]
fn key_offset(tag: u8) -> usize {
    // Eight bytes for the flag in bit 5, four for the one in bit 6, without a branch.
    HEADER_BYTES + usize::from((tag & DEADLINE) >> 2) + usize::from((tag & LONG_KEY) >> 4)
}
const _: () = assert!(DEADLINE >> 2 == 8);
const _: () = assert!(LONG_KEY >> 4 == 4);

/// Whether two byte strings are equal, eight bytes at a time: keys are short, and a call costs more.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let word = |chunk: &[u8; 8]| u64::from_ne_bytes(*chunk);
    if let (Some(a_last), Some(b_last)) = (a.last_chunk(), b.last_chunk()) {
        if a.len() > WORDWISE_BYTES_MAX {
            return a == b;
        }
        // The last eight bytes overlap the words before, which saves a loop over the rest.
        let (a_words, b_words) = (a.as_chunks().0, b.as_chunks().0);
        word(a_last) == word(b_last) && a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
    } else {
        a.iter().zip(b).all(|(a, b)| a == b)
    }
}

/// Up to here a loop over words beats a call.
const WORDWISE_BYTES_MAX: usize = 64;

/// Copies `from` to `to`: as [`same`], without a call when it is short.
///
/// # Safety
/// 1. `to` is good for writes of `from.len()` bytes. 2. The two do not overlap.
#[inline(always)]
unsafe fn copy_short(from: &[u8], to: *mut u8) {
    let len = from.len();
    // SAFETY: (1, 2) the caller's; words go to multiples of 8 that end within `len`, and the last one to
    // its end.
    unsafe {
        match from.last_chunk::<8>() {
            Some(last) if len <= WORDWISE_BYTES_MAX => {
                for (i, chunk) in from.as_chunks::<8>().0.iter().enumerate() {
                    to.add(i * 8).cast::<[u8; 8]>().write_unaligned(*chunk);
                }
                to.add(len - 8).cast::<[u8; 8]>().write_unaligned(*last);
            }
            _ => ptr::copy_nonoverlapping(from.as_ptr(), to, len),
        }
    }
}

#[inline(always)]
fn block_layout(total: usize) -> Layout {
    // SAFETY: 8 is a power of two; sizes are far below isize::MAX (keys and values are at most 512 MB).
    unsafe { Layout::from_size_align_unchecked(class_size(total), 8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(item: Item) -> Vec<u8> {
        match item.content() {
            Content::Int(n) => n.to_string().into_bytes(),
            Content::Bytes(b) => b.to_vec(),
            Content::Collection(_) => b"collection".to_vec(),
        }
    }

    #[test]
    fn a_cache_item_takes_56_bytes_and_8_more_with_a_deadline() {
        let (key, value) = ([b'k'; 16], [b'v'; 32]);
        for (deadline, bytes) in [(None, 56), (Some(5), 64)] {
            let item = Item::build(&key, deadline, Payload::Embedded(&value), false);
            assert_eq!(item.heap_bytes(), bytes);
            item.free();
        }
    }

    #[test]
    fn every_shape_keeps_key_value_and_deadline() {
        for key_len in [0, 1, 16, 255, 256, 70_000] {
            let key = vec![b'k'; key_len];
            for deadline in [None, Some(u64::MAX), Some(1)] {
                for value in [&b""[..], b"v", &[7; 512]] {
                    let item = Item::build(&key, deadline, Payload::Embedded(value), true);
                    assert!(item.is(&key) && item.is_raw());
                    assert_eq!(item.deadline_ms(), deadline);
                    assert_eq!(bytes(item), value);
                    item.free();
                }
                let item = Item::build(&key, deadline, Payload::Int(-7), false);
                assert_eq!(
                    (bytes(item), item.deadline_ms()),
                    (b"-7".to_vec(), deadline)
                );
                item.free();
                let item = Item::build(&key, deadline, Payload::Large(vec![1; 9000]), false);
                item.with_large(|v| v.extend_from_slice(b"tail")).unwrap();
                assert_eq!(bytes(item).len(), 9004);
                assert!(matches!(item.free(), Payload::Large(v) if v.len() == 9004));
            }
        }
    }

    #[test]
    fn writing_in_place_fills_gaps_and_keeps_the_class() {
        let item = Item::build(b"key", None, Payload::Embedded(b"ab"), false);
        assert!(item.write_embedded(1, b"xyz") && item.is_raw());
        assert_eq!(bytes(item), b"axyz");
        assert!(item.write_embedded(0, b"b") && item.write_embedded(4, b""));
        assert_eq!(bytes(item), b"bxyz");
        assert!(!item.write_embedded(0, &[1; 300]) && !item.write_embedded(usize::MAX, b"x"));
        item.free();
        // What lay behind a string that was longer once does not shine through.
        let item = Item::build(b"key", None, Payload::Embedded(b"0123456789"), false);
        assert!(item.overwrite(None, Small::Bytes(b"abcdef")));
        assert!(item.write_embedded(8, b"g"));
        assert_eq!(bytes(item), b"abcdef\0\0g");
        item.free();
        let item = Item::build(b"key", None, Payload::Int(7), false);
        assert!(!item.write_embedded(0, b"x"));
        item.free();
    }

    #[test]
    fn words_compare_and_copy_as_bytes_do() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for len in 0..bytes.len() {
            let mut copy = vec![0xee; len + 1];
            // SAFETY: (1, 2) a buffer of its own, long enough.
            unsafe { copy_short(&bytes[..len], copy.as_mut_ptr()) };
            assert_eq!(copy.pop(), Some(0xee));
            assert_eq!(copy, &bytes[..len]);
            assert!(same(&copy, &bytes[..len]));
            assert!(!same(&copy, &bytes[..len + 1]));
            for at in 0..len {
                copy[at] ^= 0x10;
                assert!(!same(&copy, &bytes[..len]));
                copy[at] ^= 0x10;
            }
        }
    }

    #[test]
    fn overwriting_in_place_keeps_the_class() {
        let item = Item::build(b"key", Some(9), Payload::Embedded(b"0123456789"), true);
        assert!(item.overwrite(Some(10), Small::Bytes(b"abcdef")));
        assert_eq!(
            (bytes(item), item.deadline_ms()),
            (b"abcdef".to_vec(), Some(10))
        );
        assert!(!item.is_raw());
        assert!(item.overwrite(Some(10), Small::Int(77)));
        assert_eq!(bytes(item), b"77");
        assert!(
            !item.overwrite(None, Small::Int(77)),
            "no room changes hands for a deadline"
        );
        assert!(!item.overwrite(Some(10), Small::Bytes(&[1; 300])));
        item.free();
    }
}
