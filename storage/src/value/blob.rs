//! Hot path. The elements of large hashes, sets and sorted sets: one heap block each, and the map that owns them.
//!
//! `unsafe` lives here (tidy's list): a block is raw bytes, laid out by hand.
//!
//! ```text
//! Member  [length (varint)] | member
//! Pair    field length (varint) | value length (varint) | field | value
//! Scored  score, f64 bits (8 B) | [length (varint)] | member
//!
//! address of a Member or Scored:  block, a multiple of 8 | e, 3 bits      e > 0: the member is of 8 e bytes, and no length is written
//! ```
//! Blocks come in steps of 8 bytes, so a length byte costs nothing but where the member fills its steps: there it would cost a whole one.
//! Members of 8, 16 ... 56 bytes therefore have their length in the address, and a block is never larger than score and member need.
//!
//! A block is allocated in its size class, and its size follows from what it holds, so it needs no
//! capacity. [`Blobs`] is the only owner: it makes, replaces and frees blocks. The `Copy` types are
//! addresses; one is good until `Blobs` removes that element, which is what `Blobs`' callers keep to
//! (they hold addresses only inside one call, except the tree of a sorted set, which forgets an
//! address before its block is removed).
#![allow(
    unsafe_code,
    reason = "one block per element, allocated at its exact size class"
)]

use core::ptr::{self, NonNull};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

use crate::account::class_size;
use crate::hash::member_hash;
use crate::packed::varint_bytes;
use crate::rng::Rng;
use crate::table::{Entry, Table};
use crate::value::Part;

/// An address of an element's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block(NonNull<u8>);

// SAFETY: a plain address; the block behind it has one owner (`Blobs`), which moves together with the
// tree that holds copies of its addresses.
unsafe impl Send for Block {}

impl Block {
    /// Allocates `bytes` (not 0), rounded up to their class; not initialised.
    fn alloc(bytes: usize) -> Block {
        let layout = Block::layout(bytes);
        // SAFETY: the size is not 0: every form has a length byte.
        match NonNull::new(unsafe { alloc(layout) }) {
            Some(block) => Block(block),
            None => handle_alloc_error(layout),
        }
    }

    /// A fresh block for a member behind `at` bytes of other things, with its length; and the offset where the member belongs.
    fn of_member(at: usize, len: usize) -> (Block, usize) {
        let eighths = eighths(len);
        if eighths > 0 {
            let block = Block::alloc(at + len).0;
            // SAFETY: `eighths` is at most 7, and the block is of `len >= 8` bytes at least.
            return (Block(unsafe { block.add(eighths) }), at);
        }
        let block = Block::alloc(at + varint_bytes(len) + len);
        // SAFETY: (1) asked for just now, and nobody else knows the block.
        let behind = unsafe { block.put_varint(at, len) };
        (block, behind)
    }

    /// Where a block of [`Block::of_member`] begins.
    #[inline(always)]
    fn start(self) -> Block {
        // SAFETY: only address 0 could become 0, and a live block is not in the lowest page.
        Block(unsafe {
            NonNull::new_unchecked(self.0.as_ptr().map_addr(|address| address & !EIGHTHS))
        })
    }

    /// The member of a block of [`Block::of_member`], with the same `at`.
    ///
    /// # Safety
    /// 1. The block is live and its member is written. 2. It is neither written nor freed during 'a.
    #[inline(always)]
    unsafe fn member<'a>(self, at: usize) -> &'a [u8] {
        let (start, eighths) = (self.start(), self.0.addr().get() & EIGHTHS);
        // SAFETY: (1, 2) the caller's; what the address says, and else the length, is what `of_member` was given.
        unsafe {
            if eighths > 0 {
                return start.slice(at, eighths * 8);
            }
            let (len, at) = start.varint(at);
            start.slice(at, len)
        }
    }

    fn layout(bytes: usize) -> Layout {
        match Layout::from_size_align(class_size(bytes), 8) {
            Ok(layout) => layout,
            Err(_) => handle_alloc_error(Layout::new::<u64>()),
        }
    }

    /// # Safety
    /// 1. The block came from `alloc` with a size of the same class, and is not used any more.
    unsafe fn free(self, bytes: usize) {
        // SAFETY: (1) same layout as at `alloc`.
        unsafe { dealloc(self.0.as_ptr(), Block::layout(bytes)) }
    }

    /// # Safety
    /// 1. `at..at + len` lies in the live block and is initialised. 2. It is neither written nor freed during 'a.
    #[inline(always)]
    unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: (1, 2) the caller's.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().add(at), len) }
    }

    /// Reads a varint: its value and the offset behind it.
    ///
    /// # Safety
    /// 1. A varint was written at `at` of the live block.
    #[inline(always)]
    unsafe fn varint(self, mut at: usize) -> (usize, usize) {
        // SAFETY: (1) the bytes of a varint up to the first without the high bit are in the block.
        let mut byte = unsafe { *self.0.as_ptr().add(at) };
        let mut n = usize::from(byte & 0x7F);
        let mut shift = 7;
        while byte & 0x80 != 0 {
            at += 1;
            // SAFETY: (1) as above.
            byte = unsafe { *self.0.as_ptr().add(at) };
            n |= usize::from(byte & 0x7F) << shift;
            shift += 7;
        }
        (n, at + 1)
    }

    /// Writes a varint at `at`; the offset behind it.
    ///
    /// # Safety
    /// 1. `varint_bytes(n)` bytes from `at` on lie in the live block, and nobody borrows them.
    #[inline(always)]
    unsafe fn put_varint(self, mut at: usize, mut n: usize) -> usize {
        while n >= 0x80 {
            // SAFETY: (1) the caller's.
            unsafe { *self.0.as_ptr().add(at) = n as u8 | 0x80 };
            n >>= 7;
            at += 1;
        }
        // SAFETY: (1) the caller's.
        unsafe { *self.0.as_ptr().add(at) = n as u8 };
        at + 1
    }

    /// Writes bytes at `at`; the offset behind them.
    ///
    /// # Safety
    /// 1. `bytes.len()` bytes from `at` on lie in the live block, and `bytes` is no part of it.
    #[inline(always)]
    unsafe fn put(self, at: usize, bytes: &[u8]) -> usize {
        // SAFETY: (1) the caller's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(at), bytes.len()) };
        at + bytes.len()
    }
}

/// The bits of an address that are free, for blocks are aligned to 8 bytes.
const EIGHTHS: usize = 7;

/// What the address says of the length of a member; 0 if the block must.
#[inline(always)]
fn eighths(len: usize) -> usize {
    if len.is_multiple_of(8) && len / 8 <= EIGHTHS {
        len / 8
    } else {
        0
    }
}

/// Bytes of a member with its length, unless its address says that.
#[inline(always)]
fn member_bytes(len: usize) -> usize {
    if eighths(len) > 0 {
        len
    } else {
        varint_bytes(len) + len
    }
}

/// An element of a collection: its block's address.
pub(super) trait Blob: Entry {
    /// What the element is found by. Good until the element is removed.
    fn key<'a>(self) -> &'a [u8];
    /// Bytes in use in its block (the allocation is their class).
    fn bytes(self) -> usize;
    /// Makes another block of the same content.
    fn duplicate(self) -> Self;
    /// Gives the block back.
    ///
    /// # Safety
    /// 1. The block is live and no copy of its address is used any more.
    unsafe fn free(self);
}

macro_rules! blob_entry {
    ($name:ident) => {
        // SAFETY: the address of an allocation: not null, below 2^48 in user space on the supported
        // targets; it round-trips unchanged.
        unsafe impl Entry for $name {
            #[inline(always)]
            fn into_raw(self) -> NonNull<u8> {
                self.0.0
            }
            #[inline(always)]
            unsafe fn from_raw(raw: NonNull<u8>) -> Self {
                $name(Block(raw))
            }
        }
    };
}

/// An element of a set.
#[derive(Clone, Copy)]
pub(super) struct Member(Block);
blob_entry!(Member);

impl Member {
    pub(super) fn new(member: &[u8]) -> Self {
        let (block, at) = Block::of_member(0, member.len());
        // SAFETY: the bytes from there on were asked for; the block is fresh.
        unsafe { block.start().put(at, member) };
        Member(block)
    }
}

impl Blob for Member {
    #[inline(always)]
    fn key<'a>(self) -> &'a [u8] {
        // SAFETY: written by `new`, never changed; live by the module's rule.
        unsafe { self.0.member(0) }
    }
    fn bytes(self) -> usize {
        member_bytes(self.key().len())
    }
    fn duplicate(self) -> Self {
        Member::new(self.key())
    }
    unsafe fn free(self) {
        // SAFETY: (1) made by `new` with `bytes()` bytes; the rest is the caller's.
        unsafe { self.0.start().free(self.bytes()) }
    }
}

/// An element of a hash.
#[derive(Clone, Copy)]
pub(super) struct Pair(Block);
blob_entry!(Pair);

fn pair_bytes(field: usize, value: usize) -> usize {
    varint_bytes(field) + varint_bytes(value) + field + value
}

impl Pair {
    pub(super) fn new(field: &[u8], value: &[u8]) -> Self {
        let block = Block::alloc(pair_bytes(field.len(), value.len()));
        // SAFETY: the four parts are exactly the bytes asked for; the block is fresh.
        unsafe {
            let at = block.put_varint(0, field.len());
            let at = block.put_varint(at, value.len());
            let at = block.put(at, field);
            block.put(at, value);
        }
        Pair(block)
    }

    /// (field length, value length, offset of the field)
    #[inline(always)]
    fn parts(self) -> (usize, usize, usize) {
        // SAFETY: written by `new` or `set_value`; live by the module's rule.
        unsafe {
            let (field, at) = self.0.varint(0);
            let (value, at) = self.0.varint(at);
            (field, value, at)
        }
    }

    /// The value. Good until it is set or the element removed.
    #[inline]
    pub(super) fn value<'a>(self) -> &'a [u8] {
        let (field, value, at) = self.parts();
        // SAFETY: the value lies behind the field.
        unsafe { self.0.slice(at + field, value) }
    }

    /// Writes another value over the old one if the block is of the right class and nothing else moves;
    /// whether it did.
    ///
    /// # Safety
    /// 1. Nothing borrows from the block.
    unsafe fn overwrite(self, value: &[u8]) -> bool {
        let (field, old, at) = self.parts();
        let new = value.len();
        let length_bytes = varint_bytes(new);
        let fits = old == new
            || (varint_bytes(old) == length_bytes
                && class_size(pair_bytes(field, old)) == class_size(pair_bytes(field, new)));
        if fits {
            // SAFETY: the length takes as many bytes as before, and the value's end is within the
            // class that was allocated; (1) so `value` is no part of the block.
            unsafe {
                self.0.put_varint(at - length_bytes, new);
                self.0.put(at + field, value);
            }
        }
        fits
    }
}

impl Blob for Pair {
    #[inline(always)]
    fn key<'a>(self) -> &'a [u8] {
        let (field, _, at) = self.parts();
        // SAFETY: the field lies behind the lengths.
        unsafe { self.0.slice(at, field) }
    }
    fn bytes(self) -> usize {
        let (field, value, _) = self.parts();
        pair_bytes(field, value)
    }
    fn duplicate(self) -> Self {
        Pair::new(self.key(), self.value())
    }
    unsafe fn free(self) {
        // SAFETY: (1) the allocation's class is that of `bytes()`; the rest is the caller's.
        unsafe { self.0.free(self.bytes()) }
    }
}

/// An element of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scored(Block);
blob_entry!(Scored);

const SCORE_BYTES: usize = 8;

impl Scored {
    pub(super) fn new(member: &[u8], score: f64) -> Self {
        let (block, at) = Block::of_member(SCORE_BYTES, member.len());
        // SAFETY: score and member are of the bytes asked for; the block is fresh and aligned for the score.
        unsafe {
            block.start().0.cast::<f64>().write(score);
            block.start().put(at, member);
        }
        Scored(block)
    }

    /// The score.
    #[inline]
    pub(super) fn score(self) -> f64 {
        // SAFETY: the first 8 bytes of a live block, aligned.
        unsafe { self.0.start().0.cast::<f64>().read() }
    }

    /// Changes the score. Only for the owner, who has `&mut` of the whole sorted set.
    fn set_score(self, score: f64) {
        // SAFETY: the first 8 bytes of a live block, aligned; no reference to them is ever made.
        unsafe { self.0.start().0.cast::<f64>().write(score) }
    }
}

impl Blob for Scored {
    #[inline(always)]
    fn key<'a>(self) -> &'a [u8] {
        // SAFETY: written by `new`, never changed; live by the module's rule.
        unsafe { self.0.member(SCORE_BYTES) }
    }
    fn bytes(self) -> usize {
        SCORE_BYTES + member_bytes(self.key().len())
    }
    fn duplicate(self) -> Self {
        Scored::new(self.key(), self.score())
    }
    unsafe fn free(self) {
        // SAFETY: (1) made by `new` with `bytes()` bytes; the rest is the caller's.
        unsafe { self.0.start().free(self.bytes()) }
    }
}

/// The table of a large collection, with the elements it owns.
pub(super) struct Blobs<B: Blob> {
    table: Table<B>,
    /// What the elements' blocks take, in allocator classes.
    blob_bytes: usize,
}

#[inline]
fn rehash<B: Blob>(blob: B) -> u64 {
    member_hash(blob.key())
}

impl<B: Blob> Blobs<B> {
    pub(super) fn new() -> Self {
        Self {
            table: Table::new(),
            blob_bytes: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of heap: the table and the blocks.
    pub(super) fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + self.blob_bytes
    }

    /// Asks for a part of what a lookup of this hash will read.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64, part: Part) {
        match part {
            Part::Bucket => self.table.prefetch_bucket(hash),
            Part::Entry => self.table.prefetch_entry(hash),
        }
    }

    /// The element of this key.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<B> {
        self.find_hashed(member_hash(key), key)
    }

    /// The element of this key, whose hash is known.
    #[inline]
    pub(super) fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<B> {
        self.table.find(hash, |blob| blob.key() == key)
    }

    /// Takes a new block over; its key must be absent.
    #[inline]
    pub(super) fn insert_new(&mut self, hash: u64, blob: B) {
        self.blob_bytes += class_size(blob.bytes());
        self.table.insert_new(hash, blob, rehash);
    }

    /// Removes and frees the element of this key; whether there was one.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> bool {
        let Some(blob) = self.table.remove(hash, |blob| blob.key() == key) else {
            return false;
        };
        self.blob_bytes -= class_size(blob.bytes());
        // SAFETY: (1) just taken out of its only owner; callers hold no address across a removal.
        unsafe { blob.free() };
        true
    }

    /// All elements, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = B> + '_ {
        self.table.iter()
    }

    /// As [`Table::scan`].
    pub(super) fn scan(&self, cursor: u64, count: usize, f: impl FnMut(B)) -> u64 {
        self.table.scan(cursor, count, f)
    }

    /// Some element, each about as likely.
    pub(super) fn random(&self, rng: &mut Rng) -> Option<B> {
        self.table.random(rng.next_u64())
    }

    /// Frees up to `n` elements; whether none is left.
    pub(super) fn free_some(&mut self, n: usize) -> bool {
        let freed = &mut self.blob_bytes;
        self.table.drain_some(n, |blob| {
            *freed -= class_size(blob.bytes());
            // SAFETY: (1) just taken out of its only owner; callers hold no address across this.
            unsafe { blob.free() }
        });
        self.table.is_empty()
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self) {
        self.table.check(rehash);
        let bytes: usize = self.iter().map(|blob| class_size(blob.bytes())).sum();
        assert_eq!(bytes, self.blob_bytes, "blocks are accounted for");
    }
}

impl Blobs<Pair> {
    /// Sets the value of a field; whether the field is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let hash = member_hash(field);
        let Some(mut place) = self.table.find_mut(hash, |pair| pair.key() == field) else {
            self.insert_new(hash, Pair::new(field, value));
            return true;
        };
        let old = place.get();
        // SAFETY: (1) `&mut self`: no borrow of an element lives.
        if unsafe { old.overwrite(value) } {
            return false;
        }
        let new = Pair::new(field, value);
        place.set(new);
        self.blob_bytes += class_size(new.bytes());
        self.blob_bytes -= class_size(old.bytes());
        // SAFETY: (1) the table points to the new block now; `&mut self`: no borrow of the old lives.
        unsafe { old.free() };
        false
    }
}

impl Blobs<Scored> {
    /// Changes the score of an element of this map.
    pub(super) fn set_score(&mut self, element: Scored, score: f64) {
        element.set_score(score);
    }
}

impl<B: Blob> Clone for Blobs<B> {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        for blob in self.iter() {
            copy.insert_new(rehash(blob), blob.duplicate());
        }
        copy
    }
}

impl<B: Blob> Drop for Blobs<B> {
    fn drop(&mut self) {
        self.free_some(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_they_were_given() {
        for len in [0, 1, 7, 8, 9, 16, 56, 57, 64, 127, 128, 20_000] {
            let text = vec![b'x'; len];
            let mut members = Blobs::<Member>::new();
            members.insert_new(member_hash(&text), Member::new(&text));
            let mut scored = Blobs::<Scored>::new();
            scored.insert_new(member_hash(&text), Scored::new(&text, -0.0));
            members.check();
            scored.check();
            assert_eq!(members.find(&text).map(Blob::key), Some(&text[..]));
            let found = scored.find(&text).unwrap();
            assert_eq!(found.score().to_bits(), (-0.0f64).to_bits());
            assert_eq!(found.key(), &text[..]);
            let copy = found.duplicate();
            assert_eq!((copy.key(), copy.bytes()), (found.key(), found.bytes()));
            // SAFETY: nothing else knows it.
            unsafe { copy.free() };
            // What is not a whole step of the allocator is room for the length; beyond 56 bytes it may take a step.
            let steps = len.next_multiple_of(8);
            if (1..=57).contains(&len) {
                assert_eq!(class_size(members.find(&text).unwrap().bytes()), steps);
                assert_eq!(class_size(found.bytes()), 8 + steps);
            }
            assert!(members.remove(member_hash(&text), &text));
            assert_eq!(members.blob_bytes, 0);
        }
    }

    #[test]
    fn a_value_is_replaced_whatever_its_length() {
        let mut pairs = Blobs::<Pair>::new();
        for i in 0..1000usize {
            assert!(pairs.set(&i.to_le_bytes(), b"first"));
        }
        for i in 0..1000usize {
            assert!(!pairs.set(&i.to_le_bytes(), &vec![b'v'; i]));
            assert!(!pairs.set(&i.to_le_bytes(), &vec![b'w'; i]));
        }
        pairs.check();
        let copy = pairs.clone();
        drop(pairs);
        copy.check();
        for i in 0..1000usize {
            assert_eq!(copy.find(&i.to_le_bytes()).unwrap().value(), &vec![b'w'; i]);
        }
    }
}
