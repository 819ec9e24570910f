//! The values that hold many elements: lists, hashes, sets, sorted sets, streams.
//!
//! Each is one packed block while small and a structure with bounded steps when large; the thresholds and
//! the encoding names are those of Redis 7.2. Nothing here knows keys, expiry, effects or clocks.
//!
//! ```text
//! List  Packed            | deque of chunks of some KiB                       list.rs, chunk.rs
//! Hash  Packed            | Blobs: table of one block per pair                hash.rs
//! Set   Ints | Packed     | Blobs: table of one block per member              set.rs, ints.rs
//! Zset  Packed            | Blobs + counted B+ tree over the same blocks      zset.rs, tree.rs, node.rs
//! Stream                  | B+ tree of packed nodes, consumer groups          stream/
//! ```

mod blob;
mod chunk;
mod deque;
mod hash;
mod ints;
mod leaf;
mod list;
mod node;
mod set;
pub(crate) mod stream;
mod tree;
mod zset;

pub use hash::{Hash, some_field_expires};
pub use list::List;
pub use set::{Member, Set};
pub(crate) use stream::Stream;
pub use zset::Zset;

use crate::account::class_size;
use crate::view::{Text, Value};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The head.
    Left,
    /// The tail.
    Right,
}

/// What [`Zset::add`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The member is new.
    New,
    /// The member was there with another score.
    Changed,
    /// The member was there with this score.
    Same,
}

/// The types that have a packed form, by their number in an item's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    List,
    Hash,
    Set,
    Zset,
}

impl Kind {
    /// The type with this number.
    #[inline(always)]
    pub(crate) fn of(number: u8) -> Kind {
        match number {
            0 => Kind::List,
            1 => Kind::Hash,
            2 => Kind::Set,
            _ => Kind::Zset,
        }
    }
}

/// What a lookup in a table of elements reads, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The bucket.
    Bucket,
    /// The element itself; the bucket should be there.
    Entry,
}

/// A value that holds many elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Collection {
    /// A list.
    List(List),
    /// A hash.
    Hash(Hash),
    /// A set.
    Set(Set),
    /// A sorted set.
    Zset(Zset),
    /// A stream.
    Stream(Stream),
}

// What every small collection pays beside its block: the next class is 48.
const _: () = assert!(size_of::<Collection>() <= 32);

// A shard lends whole slots to other cores, values included.
const _: () = {
    const fn movable<T: Send>() {}
    movable::<Collection>()
};

impl Collection {
    /// Its packed block, if it has one that may lie in an item's (`held.rs`).
    pub(crate) fn packed(&self) -> Option<(Kind, &[u8])> {
        match self {
            Self::List(list) => Some((Kind::List, list.packed()?)),
            Self::Hash(hash) => Some((Kind::Hash, hash.packed()?)),
            Self::Set(set) => Some((Kind::Set, set.packed()?)),
            Self::Zset(zset) => Some((Kind::Zset, zset.packed()?)),
            Self::Stream(_) => None,
        }
    }

    /// The one that has this packed block: to be read or copied.
    #[inline]
    pub(crate) fn of_block(kind: Kind, block: Box<[u8]>) -> Self {
        match kind {
            Kind::List => Self::List(List::of_block(block)),
            Kind::Hash => Self::Hash(Hash::of_block(block)),
            Kind::Set => Self::Set(Set::of_block(block)),
            Kind::Zset => Self::Zset(Zset::of_block(block)),
        }
    }

    /// The name that TYPE answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Hash(_) => "hash",
            Self::Set(_) => "set",
            Self::Zset(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::List(list) => list.encoding(),
            Self::Hash(hash) => hash.encoding(),
            Self::Set(set) => set.encoding(),
            Self::Zset(zset) => zset.encoding(),
            Self::Stream(stream) => stream.encoding(),
        }
    }

    /// Whether it is in the form of small values, that it leaves when it outgrows the limits.
    pub(crate) fn is_compact(&self) -> bool {
        matches!(self.encoding(), "listpack" | "intset")
    }

    /// Whether its elements are in a table, by their hashes.
    #[inline(always)]
    pub(crate) fn has_table(&self) -> bool {
        match self {
            Self::Hash(hash) => hash.has_table(),
            Self::Set(set) => set.has_table(),
            Self::Zset(zset) => zset.has_table(),
            Self::List(_) | Self::Stream(_) => false,
        }
    }

    /// Asks for a part of what a lookup of an element of this hash will read, if it is in a table.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64, part: Part) {
        match self {
            Self::Hash(hashed) => hashed.prefetch(hash, part),
            Self::Set(set) => set.prefetch(hash, part),
            Self::Zset(zset) => zset.prefetch(hash, part),
            Self::List(_) | Self::Stream(_) => {}
        }
    }

    /// Number of elements (of a hash: fields; of a stream: all its parts).
    pub fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Hash(hash) => hash.len(),
            Self::Set(set) => set.len(),
            Self::Zset(zset) => zset.len(),
            Self::Stream(stream) => stream.parts(),
        }
    }

    /// Whether there is nothing that a key could hold: no element; a stream only if it is vacant.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.is_vacant(),
            other => other.len() == 0,
        }
    }

    /// The earliest deadline of one of its elements (fields of a hash have some), unix ms.
    pub fn first_deadline_ms(&self) -> Option<u64> {
        match self {
            Self::Hash(hash) => hash.first_deadline_ms(),
            _ => None,
        }
    }

    /// Bytes of heap behind this value (not the value itself), as the allocator rounds them.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::List(list) => list.heap_bytes(),
            Self::Hash(hash) => hash.heap_bytes(),
            Self::Set(set) => set.heap_bytes(),
            Self::Zset(zset) => zset.heap_bytes(),
            Self::Stream(stream) => stream.heap_bytes(),
        }
    }

    /// Frees about `budget_items` elements; `true` when nothing is left. Between the first call and
    /// the last the value may only be dropped or freed further.
    pub fn free_step(&mut self, budget_items: usize) -> bool {
        match self {
            Self::List(list) => list.free_step(budget_items),
            Self::Hash(hash) => hash.free_step(budget_items),
            Self::Set(set) => set.free_step(budget_items),
            Self::Zset(zset) => zset.free_step(budget_items),
            Self::Stream(stream) => stream.free_step(budget_items),
        }
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        match self {
            Self::List(list) => list.check(),
            Self::Hash(hash) => hash.check(),
            Self::Set(set) => set.check(),
            Self::Zset(zset) => zset.check(),
            Self::Stream(stream) => stream.check(),
        }
    }
}

/// A value of any type, detached from a key.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// An integer string.
    Int(i64),
    /// Any other string.
    String(Vec<u8>),
    /// A string that was written into: it reports the encoding "raw" however short it is.
    Raw(Vec<u8>),
    /// A list.
    List(Box<List>),
    /// A hash.
    Hash(Box<Hash>),
    /// A set.
    Set(Box<Set>),
    /// A sorted set.
    Zset(Box<Zset>),
    /// A stream.
    Stream(Box<Stream>),
}

impl OwnedValue {
    /// As a value of a key is seen.
    pub fn view(&self) -> Value<'_> {
        match self {
            Self::Int(n) => Value::String(Text::Int(*n)),
            Self::String(bytes) | Self::Raw(bytes) => Value::String(Text::Bytes(bytes)),
            Self::List(list) => Value::List(list),
            Self::Hash(hash) => Value::Hash(hash),
            Self::Set(set) => Value::Set(set),
            Self::Zset(zset) => Value::Zset(zset),
            Self::Stream(stream) => Value::Stream(stream),
        }
    }

    /// The name that TYPE answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Int(_) | Self::String(_) | Self::Raw(_) => "string",
            Self::List(_) => "list",
            Self::Hash(_) => "hash",
            Self::Set(_) => "set",
            Self::Zset(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }

    /// Whether this is a collection without elements, or a vacant stream (which no key may hold).
    pub fn is_empty_collection(&self) -> bool {
        match self {
            Self::Int(_) | Self::String(_) | Self::Raw(_) => false,
            Self::List(list) => list.is_empty(),
            Self::Hash(hash) => hash.is_empty(),
            Self::Set(set) => set.is_empty(),
            Self::Zset(zset) => zset.is_empty(),
            Self::Stream(stream) => stream.is_vacant(),
        }
    }

    /// Bytes of heap behind this value, boxes included, as the allocator rounds them.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Int(_) => 0,
            Self::String(bytes) | Self::Raw(bytes) => class_size(bytes.capacity()),
            Self::List(list) => class_size(size_of::<List>()) + list.heap_bytes(),
            Self::Hash(hash) => class_size(size_of::<Hash>()) + hash.heap_bytes(),
            Self::Set(set) => class_size(size_of::<Set>()) + set.heap_bytes(),
            Self::Zset(zset) => class_size(size_of::<Zset>()) + zset.heap_bytes(),
            Self::Stream(stream) => class_size(size_of::<Stream>()) + stream.heap_bytes(),
        }
    }

    /// Frees about `budget_items` elements; `true` when nothing is left. Between the first call and
    /// the last the value may only be dropped or freed further.
    pub fn free_step(&mut self, budget_items: usize) -> bool {
        match self {
            Self::Int(_) | Self::String(_) | Self::Raw(_) => {
                *self = Self::Int(0);
                true
            }
            Self::List(list) => list.free_step(budget_items),
            Self::Hash(hash) => hash.free_step(budget_items),
            Self::Set(set) => set.free_step(budget_items),
            Self::Zset(zset) => zset.free_step(budget_items),
            Self::Stream(stream) => stream.free_step(budget_items),
        }
    }

    /// The elements as a [`Collection`], or the string given back.
    pub fn into_collection(self) -> Result<Collection, Self> {
        match self {
            Self::List(list) => Ok(Collection::List(*list)),
            Self::Hash(hash) => Ok(Collection::Hash(*hash)),
            Self::Set(set) => Ok(Collection::Set(*set)),
            Self::Zset(zset) => Ok(Collection::Zset(*zset)),
            Self::Stream(stream) => Ok(Collection::Stream(*stream)),
            string => Err(string),
        }
    }
}

impl From<Collection> for OwnedValue {
    fn from(collection: Collection) -> Self {
        match collection {
            Collection::List(list) => Self::List(Box::new(list)),
            Collection::Hash(hash) => Self::Hash(Box::new(hash)),
            Collection::Set(set) => Self::Set(Box::new(set)),
            Collection::Zset(zset) => Self::Zset(Box::new(zset)),
            Collection::Stream(stream) => Self::Stream(Box::new(stream)),
        }
    }
}
