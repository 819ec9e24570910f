//! Hot path. Memory asked for ahead of its use: of keys, in three steps, and of the elements of their large collections, in two more.
//!
//! Each step reads what the one before has brought, so whoever takes them leaves time between them. (The fourth also reads what leads
//! from an item to a bucket: the box, the directory. Of a few collections that is in cache, of many it is waited for, together.) All are
//! hints: a request that runs meanwhile may move anything, and what was asked for is then of no use, and of no harm.

use crate::hash::{Key, member_hash};
use crate::shard::Shard;
use crate::value::{Collection, Part};

impl Shard {
    /// Asks for the table of a key's slot ahead of its use: the first of three steps.
    #[inline(always)]
    pub fn prefetch_table(&self, key: &Key<'_>) {
        if let Some(table) = self.dbs[key.db as usize].table(key.slot) {
            table.prefetch();
        }
    }

    /// Asks for a key's bucket; its table should be there. The second step.
    #[inline(always)]
    pub fn prefetch_bucket(&self, key: &Key<'_>) {
        if let Some(table) = self.dbs[key.db as usize].table(key.slot) {
            table.prefetch_bucket(key.hash);
        }
    }

    /// Asks for a key's item; its bucket should be there. The third step.
    #[inline(always)]
    pub fn prefetch_item(&self, key: &Key<'_>) {
        if let Some(table) = self.dbs[key.db as usize].table(key.slot) {
            table.prefetch_entry(key.hash);
        }
    }

    /// The large collection that is probably at a key (names are not compared), to ask for its elements; the key's item should be there.
    #[inline]
    pub fn elements_ahead(&self, key: &Key<'_>) -> Option<ElementsAhead<'_>> {
        let item = self.dbs[key.db as usize].table(key.slot)?.guess(key.hash)?;
        let collection = item.boxed()?;
        collection.has_table().then_some(ElementsAhead(collection))
    }
}

/// A large collection whose elements (fields or members) can be asked for.
#[derive(Clone, Copy)]
pub struct ElementsAhead<'s>(&'s Collection);

impl ElementsAhead<'_> {
    /// Asks for the bucket of an element: the fourth step. Returns the element's hash.
    #[inline(always)]
    pub fn prefetch_bucket(self, element: &[u8]) -> u64 {
        let hash = member_hash(element);
        self.0.prefetch(hash, Part::Bucket);
        hash
    }

    /// Asks for the element of this hash: the fifth step.
    #[inline(always)]
    pub fn prefetch(self, hash: u64) {
        self.0.prefetch(hash, Part::Entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, SLOTS, Slot};

    #[test]
    fn only_elements_of_large_collections_are_asked_for() {
        let mut shard = Shard::new(1, (0..SLOTS as u16).map(Slot), Limits::default(), 1000);
        let key = |name: &'static str| Key::new(0, name.as_bytes());
        let members: Vec<_> = (0..1000).map(|n| format!("member{n}")).collect();
        let mut edit = shard.edit();
        for (names, count) in [(["h", "s", "z", "l"], 3), (["H", "S", "Z", "L"], 1000)] {
            for member in &members[..count] {
                let member = member.as_bytes();
                let hash = edit.edit_hash_or_new(&key(names[0]));
                hash.unwrap().set(member, b"value");
                let set = edit.edit_set_or_new(&key(names[1]));
                set.unwrap().add(member);
                let zset = edit.edit_zset_or_new(&key(names[2]));
                zset.unwrap().add(member, 1.0);
                let list = edit.edit_list_or_new(&key(names[3]));
                list.unwrap().push(crate::Side::Left, member);
            }
        }
        edit.put_string(&key("text"), &[b'x'; 600], crate::Ttl::Clear);
        for name in ["h", "s", "z", "l", "L", "text", "none"] {
            assert!(shard.elements_ahead(&key(name)).is_none(), "{name}");
        }
        for name in ["H", "S", "Z"] {
            let elements = shard.elements_ahead(&key(name)).unwrap();
            for member in members.iter().map(String::as_bytes).chain([&b"none"[..]]) {
                let hash = elements.prefetch_bucket(member);
                assert_eq!(hash, member_hash(member));
                elements.prefetch(hash);
            }
        }
        // A collection that has been emptied is not there.
        for member in &members {
            shard
                .edit()
                .edit_set(&key("S"))
                .unwrap()
                .unwrap()
                .remove(member.as_bytes());
        }
        assert!(shard.elements_ahead(&key("S")).is_none());
    }
}
