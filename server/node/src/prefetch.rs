//! Hot path. Memory on its way: while some requests run, the next ones' keys are asked for in three steps, and elements in two.
//!
//! ```text
//! keys at + 3 GROUP ..    their slots' table headers     (lines of 16384 headers)
//! keys at + 2 GROUP ..    their buckets                  (reads the headers)
//! keys at +   GROUP ..    their items                    (reads the buckets' tags)
//! keys at ..              run: find all in cache
//! ```
//! Where requests name elements of collections, all of this is a group earlier, and the elements of large ones come behind it:
//!
//! ```text
//! keys at +   GROUP ..    the buckets of their elements  (reads the items, and waits for what leads from them to the buckets)
//! keys at ..              their elements                 (reads the buckets' tags); run
//! ```
//! Each step reads what the one before has brought. A group of keys takes each step together: what a
//! step waits for is less the memory than its address (walks of the page table, dear under
//! virtualisation), and the processor overlaps walks only when they lie close together in the program.

use storage::{ElementsAhead, Key, Shard, Slot};

use crate::core::Core;

/// Keys that take a step together.
pub(crate) const GROUP: usize = 16;

/// Elements of fewer requests are not asked for: little would be waited for at the same time.
pub(crate) const ELEMENTS_MIN: usize = 4;
/// Nor are longer ones, bytes: to hash them twice takes more than it spares.
const ELEMENT_BYTES_MAX: usize = 256;

/// Hash, slot and database of a key.
pub(crate) type Ahead = (u64, Slot, u8);

impl Core {
    /// Asks for the first keys of a turn, `lead` more of them than are needed at once: a group if elements are to follow.
    #[inline(always)]
    pub(crate) fn prefetch_first(&self, keys: &[Ahead], lead: usize) {
        let shard = &self.shard;
        let first = |groups: usize| &keys[..keys.len().min(groups * GROUP + lead)];
        for ahead in first(3) {
            shard.prefetch_table(&key(ahead));
        }
        for ahead in first(2) {
            shard.prefetch_bucket(&key(ahead));
        }
        for ahead in first(1) {
            shard.prefetch_item(&key(ahead));
        }
    }

    /// The key at `at` (with the lead of before) is about to be used: asks for those that come a while after it.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self, at: usize, keys: &[Ahead]) {
        if !at.is_multiple_of(GROUP) {
            return;
        }
        let shard = &self.shard;
        let group = |groups: usize| {
            let first = keys.len().min(at + groups * GROUP);
            &keys[first..keys.len().min(first + GROUP)]
        };
        for ahead in group(1) {
            shard.prefetch_item(&key(ahead));
        }
        for ahead in group(2) {
            shard.prefetch_bucket(&key(ahead));
        }
        for ahead in group(3) {
            shard.prefetch_table(&key(ahead));
        }
    }
}

/// Elements of large collections on their way, of the group of requests that runs next: their keys and hashes.
#[derive(Default)]
pub(crate) struct Elements(Vec<(Ahead, u64)>);

/// The collection that was looked up last: many requests of a group name the same.
struct Last<'s> {
    of: Option<Ahead>,
    found: Option<ElementsAhead<'s>>,
}

impl<'s> Last<'s> {
    const NONE: Self = Last {
        of: None,
        found: None,
    };

    #[inline(always)]
    fn look(&mut self, shard: &'s Shard, ahead: Ahead) -> Option<ElementsAhead<'s>> {
        if self.of != Some(ahead) {
            self.of = Some(ahead);
            self.found = shard.elements_ahead(&key(&ahead));
        }
        self.found
    }
}

impl Elements {
    /// The requests from `at` on are about to run, a group: asks for the elements that they name, and for the buckets of those of the
    /// group after it. `named` gives the keys of a group's requests, and what finds the elements among their words.
    #[inline(always)]
    pub(crate) fn prefetch<'a, N, F>(&mut self, core: &Core, at: usize, named: impl Fn(usize) -> N)
    where
        N: Iterator<Item = (Ahead, F)>,
        F: FnOnce() -> Option<&'a [u8]>,
    {
        if at == 0 {
            self.prefetch_buckets(&core.shard, named(0));
        }
        let mut last = Last::NONE;
        for (ahead, hash) in self.0.drain(..) {
            if let Some(elements) = last.look(&core.shard, ahead) {
                elements.prefetch(hash);
            }
        }
        self.prefetch_buckets(&core.shard, named(at + GROUP));
    }

    #[inline(always)]
    fn prefetch_buckets<'a, N, F>(&mut self, shard: &Shard, named: N)
    where
        N: Iterator<Item = (Ahead, F)>,
        F: FnOnce() -> Option<&'a [u8]>,
    {
        let mut last = Last::NONE;
        for (ahead, element) in named {
            if let Some(elements) = last.look(shard, ahead)
                && let Some(element) = element()
                && element.len() <= ELEMENT_BYTES_MAX
            {
                self.0.push((ahead, elements.prefetch_bucket(element)));
            }
        }
    }
}

#[inline(always)]
fn key(&(hash, slot, db): &Ahead) -> Key<'static> {
    Key {
        bytes: b"",
        hash,
        slot,
        db,
    }
}
