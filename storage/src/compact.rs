//! Moving items out of pages of the allocator that are sparsely used, so that those pages become empty.
//!
//! The allocator says which pages (`heap::Thinning`); the tables are the only ones who know where an item's block lies. A walk over
//! them allocates anew each block that lies in such a page, and puts its address in the old one's place: nothing that can be seen of a key changes, neither
//! its use nor its deadline. Moved are items (a string up to 512 bytes, a small collection, the head of a larger value) and the bytes of strings up to
//! 1 KiB. Elements of large collections stay where they are.

use crate::eviction::{Found, Hand, walk};
use crate::hash::{Key, hash_bytes};
use crate::item::Item;
use crate::shard::Shard;

/// A place in a walk over all keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactCursor(Hand);

/// What a part of a walk has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Keys and empty slots looked at.
    pub seen: usize,
    /// Keys of which a block was moved.
    pub keys: usize,
    /// Blocks moved.
    pub blocks: usize,
    /// The walk has come round.
    pub done: bool,
}

/// Whether the live block at this address should be allocated anew.
pub type IsSparse<'s> = &'s dyn Fn(*const u8) -> bool;

/// What may be moved of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movable {
    /// Its block. Items that stay are not even read.
    Items,
    /// And the bytes of a string beside it, if it has any.
    Strings,
}

/// Items that are to be moved before the first of them is: by then their memory has been asked for. And looks for them at a time.
const BATCH: usize = 16;
const LOOKS: usize = 64;

impl Shard {
    /// Goes on with a walk over the keys that live here, by at least `keys` looks (if there are so many), and moves the blocks that are to be. Not to be
    /// called while a transaction is open. Does nothing while a snapshot is under way: it holds items by their addresses.
    pub fn compact(
        &mut self,
        cursor: &mut CompactCursor,
        keys: usize,
        movable: Movable,
        is_sparse: IsSparse<'_>,
    ) -> Compacted {
        let mut done = Compacted::default();
        if !self.is_snapshot_done() {
            return done;
        }
        let mut batch: Vec<Found> = Vec::with_capacity(2 * BATCH);
        while done.seen < keys && !done.done {
            let mut looks = LOOKS;
            while looks > 0 && batch.len() < BATCH && !done.done {
                let before = looks;
                done.done = walk(self, &mut cursor.0, &mut looks, |found: Found| {
                    let is_met = movable == Movable::Strings || is_sparse(found.item.address());
                    // (A walk over a table of billions may show an entry again.)
                    if is_met && !batch.iter().any(|met: &Found| met.item == found.item) {
                        found.item.prefetch();
                        batch.push(found);
                    }
                });
                // (Empty slots cost looks as well.)
                done.seen += before - looks;
            }
            for found in batch.drain(..) {
                let blocks = self.move_item(found, movable, is_sparse);
                done.blocks += blocks;
                done.keys += usize::from(blocks > 0);
            }
        }
        done
    }

    /// Moves what is to be moved of an item; how many blocks.
    fn move_item(&mut self, found: Found, movable: Movable, is_sparse: IsSparse<'_>) -> usize {
        let strings = movable == Movable::Strings && found.item.move_string(is_sparse);
        let strings = usize::from(strings);
        let Some(moved) = found.item.moved(is_sparse) else {
            return strings;
        };
        let key = Key {
            hash: hash_bytes(moved.key()),
            bytes: moved.key(),
            slot: found.slot,
            db: found.db,
        };
        let table = &mut self.dbs[usize::from(found.db)].slot_mut(found.slot).table;
        match table.find_mut(key.hash, |item: Item| item == found.item) {
            Some(mut place) => {
                place.set(moved);
                found.item.abandon();
                strings + 1
            }
            None => {
                // INVARIANT: the walk met it in this table, and nothing has changed since.
                debug_assert!(false, "an item that was met is there");
                moved.abandon();
                strings
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use super::*;
    use crate::{Limits, SLOTS, Slot, Ttl};

    fn shard() -> Shard {
        let slots = (0..SLOTS as u16).map(Slot);
        Shard::new(2, slots, Limits::default(), 1_700_000_000_000)
    }

    /// Keys of all kinds; a name and a database for each.
    fn fill(shard: &mut Shard) -> Vec<(u8, Vec<u8>)> {
        let mut names = Vec::new();
        for n in 0..3000usize {
            let name = format!("{{{}}}:{n}", n % 70).into_bytes();
            let key = Key::new((n % 2) as u8, &name);
            let ttl = if n % 3 == 0 {
                Ttl::At(1_800_000_000_000 + n as u64)
            } else {
                Ttl::Clear
            };
            let value = vec![b'a' + (n % 26) as u8; n % 1500];
            match n % 5 {
                0 => {
                    let mut edit = shard.edit();
                    let mut set = edit.edit_set_or_new(&key).unwrap();
                    for member in 0..n % 40 + 1 {
                        set.add(format!("m{member}").as_bytes());
                    }
                }
                1 => shard.edit().put_string(&key, n.to_string().as_bytes(), ttl),
                _ => shard.edit().put_string(&key, &value, ttl),
            };
            names.push(((n % 2) as u8, name));
        }
        names
    }

    #[test]
    fn every_block_moves_once_and_nothing_else_changes() {
        let mut shard = shard();
        let names = fill(&mut shard);
        let (digest, used) = (shard.digest_all(), shard.used_bytes());
        let uses = |shard: &Shard| -> Vec<_> {
            let info = |(db, name): &(u8, Vec<u8>)| shard.info(&Key::new(*db, name));
            let info = names.iter().filter_map(info);
            info.map(|info| (info.idle_s, info.encoding)).collect()
        };
        let before = uses(&shard);
        // What is new is not moved again.
        let old = RefCell::new(HashSet::new());
        let all = |at: *const u8| old.borrow_mut().insert(at.addr());
        let mut cursor = CompactCursor::default();
        let mut total = Compacted::default();
        loop {
            let done = shard.compact(&mut cursor, 7, Movable::Strings, &all);
            total.seen += done.seen;
            total.keys += done.keys;
            shard.check();
            if done.done {
                break;
            }
        }
        assert_eq!(
            (cursor, total.keys),
            (CompactCursor::default(), names.len())
        );
        assert_eq!(shard.digest_all(), digest);
        assert_eq!((shard.used_bytes(), uses(&shard)), (used, before));
    }

    #[test]
    fn the_bytes_of_a_string_move_without_its_item() {
        let mut shard = shard();
        let (key, value) = (Key::new(0, b"k"), vec![b'v'; crate::EMBEDDED_BYTES_MAX + 1]);
        shard.edit().put_string(&key, &value, Ttl::Clear);
        let item = shard.find(&key).unwrap();
        let bytes = item.with_large(|bytes| bytes.as_ptr().addr()).unwrap();
        let mut compact = |movable| {
            let mut cursor = CompactCursor::default();
            shard.compact(&mut cursor, usize::MAX, movable, &|at| at.addr() == bytes)
        };
        assert_eq!(compact(Movable::Items).blocks, 0);
        let done = compact(Movable::Strings);
        assert_eq!((done.keys, done.blocks), (1, 1));
        assert!(shard.find(&key) == Some(item));
        let now = item.with_large(|bytes| (bytes.as_ptr().addr(), bytes.clone()));
        assert!(now.is_some_and(|(at, held)| at != bytes && held == value));
    }

    #[test]
    fn nothing_moves_that_need_not() {
        let mut shard = shard();
        fill(&mut shard);
        let mut cursor = CompactCursor::default();
        let done = shard.compact(&mut cursor, usize::MAX, Movable::Items, &|_| false);
        assert!(done.done && done.seen >= 3000);
        assert_eq!((done.keys, done.blocks), (0, 0));
    }
}
