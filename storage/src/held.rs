//! Hot path. Collections as items hold them, and how they are read.
//!
//! `unsafe` lives here (tidy's list): a view is a value that borrows its block.
//!
//! ```text
//! boxed     item [ header | key | address ] ──> Collection (32 B) ──> packed block, table, ...
//! packed    item [ header | key | packed block ]                       the type is in the header
//! ```
//! A small collection that came into being at once (by one command, from a file, from another server) lies in its item's block: of a
//! hash of five fields that is 40 of 142 bytes less. The first command that changes it gives it a box, and there it stays: what is
//! changed often shall not be copied with its item each time.
//!
//! The collections know nothing of this. To be read, one in an item's block is made a *view*: a [`Collection`] that has the item's
//! bytes for its block, and is neither changed nor dropped. Views that are handed out by reference are kept by the shard
//! ([`Views`]) until it is borrowed mutably, which nobody who holds one lets happen.
#![allow(
    unsafe_code,
    reason = "views borrow the block that their type would own"
)]

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::Deref;
use core::ptr::{self, NonNull};

use crate::item::{Content, Item};
use crate::value::{Collection, Hash, Kind, List, Set, Stream, Zset};
use crate::view::{Text, Value, WrongType};

/// Places for views that are kept for later.
const PLACES_KEPT_MAX: usize = 64;

/// A collection in an item.
#[derive(Clone, Copy)]
pub(crate) enum Held<'a> {
    /// In a box of its own.
    Boxed(&'a Collection),
    /// Its packed block, in the item's.
    Packed(Kind, &'a [u8]),
}

impl<'a> Held<'a> {
    /// The collection, if it has a box.
    #[inline(always)]
    pub(crate) fn boxed(self) -> Option<&'a Collection> {
        match self {
            Held::Boxed(collection) => Some(collection),
            Held::Packed(..) => None,
        }
    }

    /// To be read.
    #[inline]
    pub(crate) fn view(self) -> View<'a> {
        match self {
            Held::Boxed(collection) => View::Boxed(collection),
            Held::Packed(kind, block) => View::Made(made(kind, block), PhantomData),
        }
    }

    /// A copy that stands for itself.
    pub(crate) fn to_owned(self) -> Collection {
        // (A copy of a block has the size of its class.)
        self.view().clone()
    }
}

/// A collection to be read.
pub(crate) enum View<'a> {
    /// One in a box.
    Boxed(&'a Collection),
    /// One that borrows its block.
    Made(ManuallyDrop<Collection>, PhantomData<&'a [u8]>),
}

impl Deref for View<'_> {
    type Target = Collection;

    #[inline]
    fn deref(&self) -> &Collection {
        match self {
            View::Boxed(collection) => collection,
            View::Made(collection, _) => collection,
        }
    }
}

#[inline]
fn made(kind: Kind, block: &[u8]) -> ManuallyDrop<Collection> {
    let block = ptr::slice_from_raw_parts_mut(block.as_ptr().cast_mut(), block.len());
    // SAFETY: bytes that live as long as `block` is borrowed. The box is never dropped, and is only read: this module gives it out
    // by shared reference alone, for no longer than that.
    let block = unsafe { Box::from_raw(block) };
    ManuallyDrop::new(Collection::of_block(kind, block))
}

/// Places for the views that are handed out.
#[derive(Default)]
pub(crate) struct Views {
    /// Each is an allocation of its own, so that it stays where it is.
    places: Cell<Vec<NonNull<MaybeUninit<Collection>>>>,
    /// Of these, how many are in use.
    used: Cell<usize>,
}

// SAFETY: the places are owned, and what is in them is forgotten before anyone uses them on another thread: see `forget`.
unsafe impl Send for Views {}

impl Views {
    /// The collection, by a reference that is good while the shard is borrowed.
    #[inline]
    pub(crate) fn show<'s>(&'s self, held: Held<'s>) -> &'s Collection {
        match held {
            Held::Boxed(collection) => collection,
            Held::Packed(kind, block) => self.keep(made(kind, block)),
        }
    }

    fn keep(&self, view: ManuallyDrop<Collection>) -> &Collection {
        let (mut places, at) = (self.places.take(), self.used.get());
        let place = match places.get(at) {
            Some(place) => *place,
            None => {
                let place = NonNull::from(Box::leak(Box::new(MaybeUninit::uninit())));
                places.push(place);
                place
            }
        };
        self.places.set(places);
        self.used.set(at + 1);
        // SAFETY: the place is live, and nobody uses it: those before `used` alone have been handed out since the last `forget`,
        // which needs the views mutably, so that no reference outlives it.
        unsafe {
            place.write(MaybeUninit::new(ManuallyDrop::into_inner(view)));
            place.cast::<Collection>().as_ref()
        }
    }

    /// Nobody holds a view any more.
    #[inline(always)]
    pub(crate) fn forget(&mut self) {
        *self.used.get_mut() = 0;
    }

    /// Gives places back, if there are many; nobody holds a view any more.
    #[inline]
    pub(crate) fn trim(&mut self) {
        self.forget();
        if self.places.get_mut().len() > PLACES_KEPT_MAX {
            self.free(PLACES_KEPT_MAX);
        }
    }

    #[cold]
    fn free(&mut self, kept: usize) {
        for place in self.places.get_mut().drain(kept..) {
            // SAFETY: `keep` leaked it, and nobody has its address any more. What is in it is not dropped.
            drop(unsafe { Box::from_raw(place.as_ptr()) });
        }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.free(0);
    }
}

/// The value of an item, good while the shard is borrowed.
pub(crate) fn value_of(views: &Views, item: Item) -> Value<'_> {
    match item.content() {
        Content::Int(n) => Value::String(Text::Int(n)),
        Content::Bytes(bytes) => Value::String(Text::Bytes(bytes)),
        Content::Collection(held) => value_in(views.show(held)),
    }
}

/// Shows the value of an item.
pub(crate) fn with_value<R>(item: Item, show: impl FnOnce(Value<'_>) -> R) -> R {
    match item.content() {
        Content::Int(n) => show(Value::String(Text::Int(n))),
        Content::Bytes(bytes) => show(Value::String(Text::Bytes(bytes))),
        Content::Collection(held) => show(value_in(&held.view())),
    }
}

fn value_in(collection: &Collection) -> Value<'_> {
    match collection {
        Collection::List(list) => Value::List(list),
        Collection::Hash(hash) => Value::Hash(hash),
        Collection::Set(set) => Value::Set(set),
        Collection::Zset(zset) => Value::Zset(zset),
        Collection::Stream(stream) => Value::Stream(stream),
    }
}

macro_rules! typed {
    ($name:ident, $kind:ident, $type:ty) => {
        #[inline]
        pub(crate) fn $name(
            views: &Views,
            item: Option<Item>,
        ) -> Result<Option<&$type>, WrongType> {
            let Some(item) = item else { return Ok(None) };
            let Content::Collection(held) = item.content() else {
                return Err(WrongType);
            };
            match views.show(held) {
                Collection::$kind(value) => Ok(Some(value)),
                _ => Err(WrongType),
            }
        }
    };
}

typed!(list_of, List, List);
typed!(hash_of, Hash, Hash);
typed!(set_of, Set, Set);
typed!(zset_of, Zset, Zset);
typed!(stream_of, Stream, Stream);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Added;
    use crate::{Key, Limits, Shard, Side, Slot, Ttl};

    #[test]
    fn views_stay_where_they_are_until_they_are_forgotten() {
        let mut list = List::new();
        for item in ["a", "b", "c"] {
            list.push(Side::Right, item.as_bytes(), &Limits::default());
        }
        let collection = Collection::List(list);
        let (kind, block) = collection.packed().unwrap();
        let mut views = Views::default();
        for _ in 0..3 {
            let held = Held::Packed(kind, block);
            let shown: Vec<_> = (0..1000).map(|_| views.show(held)).collect();
            assert!(shown.iter().all(|view| **view == collection));
            let addresses: std::collections::HashSet<_> =
                shown.iter().map(|view| ptr::from_ref(*view)).collect();
            assert_eq!(addresses.len(), 1000);
            views.trim();
            assert_eq!(views.places.get_mut().len(), PLACES_KEPT_MAX);
        }
        let copy = Held::Packed(kind, block).to_owned();
        copy.check();
        assert_eq!(copy, collection);
    }

    fn shard() -> Shard {
        Shard::new(1, (0..16384).map(Slot), Limits::default(), 1000)
    }

    fn bytes(shard: &Shard, key: &Key<'_>) -> usize {
        shard.info(key).map_or(0, |info| info.heap_bytes)
    }

    /// What the shapes take that are promised (bench/src/memory.rs): a key of 16 bytes, five fields of two or ten items, values of 7 or 8.
    #[test]
    fn what_is_made_at_once_takes_one_block() {
        let mut shard = shard();
        let (hash, list) = (b"hash:00000000001", b"list:00000000001");
        let mut check = |len: usize, hash_bytes: usize, list_bytes: usize| {
            let (hash, list) = (Key::new(0, hash), Key::new(0, list));
            let value = vec![b'v'; len];
            let empty = bytes(&shard, &hash);
            assert_eq!(empty, 0);
            let mut edit = shard.edit();
            let mut fields = edit.edit_hash_or_new(&hash).unwrap();
            for n in 0..5 {
                assert!(fields.set(format!("f{n}").as_bytes(), &value));
            }
            drop(fields);
            let mut items = edit.edit_list_or_new(&list).unwrap();
            (0..10).for_each(|_| items.push(Side::Right, &value));
            drop(items);
            shard.check();
            // (A place in a bucket is counted at 12 bytes.)
            assert_eq!(bytes(&shard, &hash), hash_bytes + 12);
            assert_eq!(bytes(&shard, &list), list_bytes + 12);
            shard.edit().flush_all();
        };
        check(7, 88, 112);
        check(8, 88, 120);
    }

    #[test]
    fn a_packed_collection_is_read_moved_and_changed_as_any_other() {
        let (mut shard, mut twin) = (shard(), shard());
        let (a, b) = (Key::new(0, b"a"), Key::new(0, b"b"));
        for shard in [&mut shard, &mut twin] {
            for key in [&a, &b] {
                let mut edit = shard.edit();
                let mut zset = edit.edit_zset_or_new(key).unwrap();
                for n in 0..9 {
                    assert_eq!(
                        zset.add(format!("m{n}").as_bytes(), f64::from(n)),
                        Added::New
                    );
                }
            }
        }
        let small = bytes(&shard, &a);
        let both = [&a, &b].map(|key| shard.zset(key).unwrap().unwrap());
        assert!(both[0] == both[1] && both[0].score(b"m7") == Some(7.0));
        assert_eq!(shard.list(&a), Err(WrongType));
        assert!(shard.edit().edit_list(&a).is_err() && bytes(&shard, &a) == small);
        // Deadlines come and go, it moves to other keys, and is still packed.
        assert!(shard.edit().expire_at(&a, 9000) && shard.edit().persist(&a));
        assert!(shard.edit().relocate(&a, &b) && shard.edit().relocate(&b, &a));
        assert_eq!(bytes(&shard, &a), small);
        let copy = shard.edit().clone_value(&a).unwrap().0;
        shard.edit().put_value(&b, copy, Ttl::Keep);
        assert!(shard.digest_all() == twin.digest_all());
        shard.check();
        // A change gives it a box, with what its block has noted.
        assert!(shard.edit().expire_at(&a, 9000));
        assert!(
            shard
                .edit()
                .edit_zset(&a)
                .unwrap()
                .unwrap()
                .remove(b"m3")
                .is_some()
        );
        assert!(bytes(&shard, &a) > small && shard.deadline_ms(&a) == Some(Some(9000)));
        assert_eq!(shard.zset(&a).unwrap().unwrap().len(), 8);
        shard.check();
        // (A queue's first element is not packed only to be unpacked by the next.)
        let queue = Key::new(0, b"q");
        shard
            .edit()
            .edit_list_or_new(&queue)
            .unwrap()
            .push(Side::Left, b"1");
        let first = bytes(&shard, &queue);
        shard
            .edit()
            .edit_list_or_new(&queue)
            .unwrap()
            .push(Side::Left, b"2");
        assert_eq!(bytes(&shard, &queue), first);
        shard.set_now(9000);
        while shard.expire_due(100) {}
        assert!(!shard.contains(&a));
        shard.check();
    }
}
