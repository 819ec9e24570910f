//! Consumer groups: who has been given which entry and has not acknowledged it.
//!
//! ```text
//! Group ── pending: id -> when, how often, to whom (number of a consumer)      O(log n)
//!   └── consumers: by number, and numbers in the order of names ── pending: its ids
//! ```
//! A pending entry is kept once, in the group; a consumer has the ids of its own. An entry may be pending that the
//! stream no longer has.

use crate::account::class_size;
use crate::value::stream::id::StreamId;
use crate::value::stream::id_map::IdMap;

/// An entry that was delivered and is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When it was delivered last, unix ms.
    pub delivered_ms: u64,
    /// How often it was delivered.
    pub count: u64,
    /// Number of its consumer.
    consumer: u32,
}

/// One who reads as part of a group.
#[derive(Clone)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last asked for entries, unix ms. Not a part of what digests compare: it is noted, not recorded.
    pub seen_ms: u64,
    /// When it last got any, unix ms.
    pub active_ms: Option<u64>,
    pending: IdMap<()>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of entries that are pending with it.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    fn heap_bytes(&self) -> usize {
        class_size(size_of::<Self>()) + class_size(self.name.len()) + self.pending.heap_bytes()
    }
}

/// A consumer group.
pub struct Group {
    name: Box<[u8]>,
    /// The last id that was delivered.
    pub(super) last: StreamId,
    /// How many entries of the stream, from its beginning, have been read; None when that is not known.
    pub(super) read: Option<u64>,
    pending: IdMap<Pending>,
    consumers: Vec<Option<Box<Consumer>>>,
    /// Numbers of consumers, by name.
    order: Vec<u32>,
    /// Numbers that nobody has.
    spare: Vec<u32>,
    /// Bytes of the consumers.
    consumer_bytes: usize,
}

impl Group {
    pub(super) fn new(name: &[u8], last: StreamId, read: Option<u64>) -> Group {
        Group {
            name: name.into(),
            last,
            read,
            pending: IdMap::new(),
            consumers: Vec::new(),
            order: Vec::new(),
            spare: Vec::new(),
            consumer_bytes: 0,
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The last id that was delivered to it.
    pub fn last_id(&self) -> StreamId {
        self.last
    }

    /// How many entries of the stream, from its beginning, it has read; None when that is not known.
    pub fn entries_read(&self) -> Option<u64> {
        self.read
    }

    /// Number of pending entries.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Number of consumers.
    pub fn consumers_len(&self) -> usize {
        self.order.len()
    }

    /// Consumers by name.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.order
            .iter()
            .filter_map(|number| self.by_number(*number))
    }

    /// A consumer.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.by_number(self.order[self.search(name).ok()?])
    }

    /// A pending entry.
    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(id)
    }

    /// With whom an entry is pending.
    pub fn consumer_of(&self, pending: &Pending) -> &[u8] {
        self.by_number(pending.consumer).map_or(&[], Consumer::name)
    }

    /// Pending entries from `id` on, in order.
    pub fn pending_from(&self, id: StreamId) -> impl Iterator<Item = (StreamId, &Pending)> {
        self.pending
            .iter_from(id)
            .map(|(id, pending)| (*id, pending))
    }

    /// The last pending entry.
    pub fn pending_last(&self) -> Option<StreamId> {
        self.pending.last().map(|(id, _)| *id)
    }

    /// Pending entries of one consumer from `id` on, in order.
    pub fn pending_with<'g>(
        &'g self,
        consumer: &'g Consumer,
        id: StreamId,
    ) -> impl Iterator<Item = (StreamId, &'g Pending)> {
        let ids = consumer.pending.iter_from(id);
        ids.filter_map(|(id, ())| Some((*id, self.pending.get(*id)?)))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        class_size(size_of::<Self>())
            + class_size(self.name.len())
            + self.pending.heap_bytes()
            + class_size(self.consumers.capacity() * size_of::<Option<Box<Consumer>>>())
            + class_size(self.order.capacity() * size_of::<u32>())
            + class_size(self.spare.capacity() * size_of::<u32>())
            + self.consumer_bytes
    }

    fn by_number(&self, number: u32) -> Option<&Consumer> {
        self.consumers.get(number as usize)?.as_deref()
    }

    /// Where a name is in `order`, or would be inserted.
    fn search(&self, name: &[u8]) -> Result<usize, usize> {
        self.order.binary_search_by(|number| {
            let other = self.by_number(*number).map_or(&[][..], Consumer::name);
            other.cmp(name)
        })
    }

    /// Changes a consumer and counts its bytes.
    fn with_consumer(&mut self, number: u32, change: impl FnOnce(&mut Consumer)) {
        if let Some(Some(consumer)) = self.consumers.get_mut(number as usize) {
            let before = consumer.heap_bytes();
            change(consumer);
            self.consumer_bytes = self.consumer_bytes - before + consumer.heap_bytes();
        }
    }

    /// Makes a consumer, or notes when it was seen and active; whether it is new.
    pub(crate) fn put_consumer(&mut self, name: &[u8], seen_ms: u64, active: Option<u64>) -> bool {
        let at = match self.search(name) {
            Ok(at) => {
                self.with_consumer(self.order[at], |consumer| {
                    (consumer.seen_ms, consumer.active_ms) = (seen_ms, active);
                });
                return false;
            }
            Err(at) => at,
        };
        let consumer = Box::new(Consumer {
            name: name.into(),
            seen_ms,
            active_ms: active,
            pending: IdMap::new(),
        });
        self.consumer_bytes += consumer.heap_bytes();
        let number = self.spare.pop().unwrap_or(self.consumers.len() as u32);
        if number as usize == self.consumers.len() {
            self.consumers.push(Some(consumer));
        } else {
            self.consumers[number as usize] = Some(consumer);
        }
        self.order.insert(at, number);
        true
    }

    /// Removes a consumer with what is pending with it; how many entries that were.
    pub(crate) fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let number = self.order.remove(self.search(name).ok()?);
        let consumer = self.consumers.get_mut(number as usize)?.take()?;
        self.consumer_bytes -= consumer.heap_bytes();
        self.spare.push(number);
        for (id, ()) in consumer.pending.iter() {
            self.pending.remove(*id);
        }
        Some(consumer.pending.len())
    }

    /// Makes an entry pending with a consumer, or passes it on; whether there is such a consumer.
    pub(crate) fn put_pending(
        &mut self,
        consumer: &[u8],
        id: StreamId,
        delivered_ms: u64,
        count: u64,
    ) -> bool {
        let Ok(at) = self.search(consumer) else {
            return false;
        };
        let number = self.order[at];
        let pending = Pending {
            delivered_ms,
            count,
            consumer: number,
        };
        let old = self.pending.insert(id, pending).map(|old| old.consumer);
        if old == Some(number) {
            return true;
        }
        if let Some(old) = old {
            self.with_consumer(old, |consumer| {
                consumer.pending.remove(id);
            });
        }
        self.with_consumer(number, |consumer| {
            consumer.pending.insert(id, ());
        });
        true
    }

    /// Takes an entry from the pending ones; whether it was among them.
    pub(crate) fn remove_pending(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(id) else {
            return false;
        };
        self.with_consumer(pending.consumer, |consumer| {
            consumer.pending.remove(id);
        });
        true
    }

    /// Pending entries and consumers.
    pub(super) fn parts(&self) -> usize {
        self.pending.len() + self.order.len()
    }

    /// Frees about `budget` pending entries or consumers; whether nothing is left.
    pub(super) fn free_some(&mut self, budget: usize) -> bool {
        if !self.pending.free_some(budget, |_| {}) {
            return false;
        }
        for _ in 0..budget.max(1) {
            let Some(last) = self.consumers.last_mut() else {
                break;
            };
            if let Some(consumer) = last
                && !consumer.pending.free_some(budget, |_| {})
            {
                return false;
            }
            self.consumers.pop();
        }
        self.consumers.is_empty()
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self) {
        self.pending.check();
        let (mut bytes, mut pending) = (0, 0);
        assert_eq!(self.consumers.len(), self.order.len() + self.spare.len());
        let names: Vec<_> = self.consumers().map(Consumer::name).collect();
        assert_eq!(names.len(), self.order.len(), "each number has a consumer");
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "by name");
        for consumer in self.consumers() {
            consumer.pending.check();
            bytes += consumer.heap_bytes();
            pending += consumer.pending.len();
            for (id, ()) in consumer.pending.iter() {
                let name = self.pending(*id).map(|p| self.consumer_of(p));
                assert_eq!(name, Some(consumer.name()), "one consumer has it");
            }
        }
        assert_eq!(bytes, self.consumer_bytes, "bytes are counted");
        assert_eq!(pending, self.pending.len());
    }
}

impl Clone for Group {
    fn clone(&self) -> Self {
        let consumers = self.consumers.clone();
        // What is copied takes no more than it needs.
        let bytes = consumers.iter().flatten().map(|c| c.heap_bytes());
        Group {
            name: self.name.clone(),
            last: self.last,
            read: self.read,
            pending: self.pending.clone(),
            consumer_bytes: bytes.sum(),
            consumers,
            order: self.order.clone(),
            spare: self.spare.clone(),
        }
    }
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        let own = |group: &Self| (group.last, group.read, group.pending.len());
        let consumer = |c: &Consumer| (c.name.clone(), c.active_ms);
        self.name == other.name
            && own(self) == own(other)
            && self
                .consumers()
                .map(consumer)
                .eq(other.consumers().map(consumer))
            && self
                .pending
                .iter()
                .zip(other.pending.iter())
                .all(|((a, p), (b, q))| {
                    (a, p.delivered_ms, p.count) == (b, q.delivered_ms, q.count)
                        && self.consumer_of(p) == other.consumer_of(q)
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> StreamId {
        StreamId::new(n, 0)
    }

    #[test]
    fn an_entry_is_pending_with_one_consumer() {
        let mut group = Group::new(b"g", StreamId::MIN, None);
        for name in [&b"b"[..], b"a", b"c"] {
            assert!(group.put_consumer(name, 1, None) && !group.put_consumer(name, 2, Some(2)));
        }
        for n in 0..200 {
            assert!(group.put_pending(if n % 2 == 0 { b"a" } else { b"b" }, id(n), 5, 1));
        }
        assert!(!group.put_pending(b"nobody", id(0), 5, 1));
        assert!(group.put_pending(b"b", id(0), 6, 2));
        group.check();
        let len = |group: &Group, name| group.consumer(name).map(Consumer::pending_len);
        assert_eq!(
            (len(&group, b"a"), len(&group, b"b")),
            (Some(99), Some(101))
        );
        assert!(group.remove_pending(id(0)) && !group.remove_pending(id(0)));
        assert_eq!(group.remove_consumer(b"a"), Some(99));
        assert_eq!(
            (group.pending_len(), group.consumer(b"a").is_none()),
            (100, true)
        );
        group.check();
        assert!(group.put_consumer(b"d", 1, None));
        assert!(group.put_pending(b"d", id(1), 7, 3));
        group.check();
        let (at, pending) = group.pending_from(StreamId::MIN).next().unwrap();
        assert_eq!(
            (at, group.consumer_of(pending), pending.count),
            (id(1), &b"d"[..], 3)
        );
        let copy = group.clone();
        copy.check();
        assert!(copy == group);
        while !group.free_some(10) {}
    }
}
