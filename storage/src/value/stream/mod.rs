//! Hot path. Streams: entries under growing ids in packed nodes, and consumer groups.
//!
//! ```text
//! Stream ── Body ── nodes: id of the first entry -> Node (entries of some KiB)    id_map.rs, node.rs
//!             │     last id, entries ever added, highest id ever deleted
//!             └──── groups, by name ── Group: pending entries, consumers          group.rs
//! What a script does to one is taken back change by change                       undo.rs
//! ```
//! An entry is found in O(log n) nodes and a walk within one, a range likewise; adding goes to the last node. Nodes
//! are as large as Redis's (`stream-node-max-bytes`, `stream-node-max-entries`), so that trimming by whole nodes removes the
//! same entries (trim.rs).
//!
//! Other than the other collections a stream may be empty and still be there: what no key holds is a *vacant* one, of
//! which nothing was ever made.

mod group;
mod id;
mod id_map;
mod node;
mod range;
mod trim;
mod undo;

pub use group::{Consumer, Group, Pending};
pub use id::StreamId;
pub use node::Entry;
pub use trim::{Trim, TrimTo};
pub(crate) use undo::Inverse;

use crate::account::class_size;
use crate::limits::Limits;
use id_map::IdMap;
use node::Node;
use range::{Backwards, Forwards};

/// No node grows past this, whatever the limits say (as Redis); nor is a longer entry taken.
pub const STREAM_NODE_BYTES_MAX: u64 = 1 << 30;

/// A stream; see the module's head.
#[derive(Clone, Default)]
pub struct Stream {
    body: Option<Box<Body>>,
}

#[derive(Default)]
struct Body {
    nodes: IdMap<Node>,
    /// Entries.
    len: u64,
    /// Bytes of the nodes' blocks.
    block_bytes: usize,
    last: StreamId,
    max_deleted: StreamId,
    added: u64,
    /// By name.
    #[allow(
        clippy::vec_box,
        reason = "groups are moved when one comes before them"
    )]
    groups: Vec<Box<Group>>,
    /// Bytes of the groups.
    group_bytes: usize,
}

impl Stream {
    /// A vacant stream; allocates nothing.
    pub fn new() -> Self {
        Self { body: None }
    }

    /// Whether nothing was ever made of it: no key holds such a one.
    pub fn is_vacant(&self) -> bool {
        self.body.is_none()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.len as usize)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is freed of it: entries, groups, consumers, pending entries.
    pub(crate) fn parts(&self) -> usize {
        let groups = self.groups().map(|group| 1 + group.parts());
        self.len() + groups.sum::<usize>()
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    /// Bytes of heap behind this value (not the value itself), as the allocator rounds them.
    pub fn heap_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| {
            class_size(size_of::<Body>())
                + body.nodes.heap_bytes()
                + body.block_bytes
                + class_size(body.groups.capacity() * size_of::<Box<Group>>())
                + body.group_bytes
        })
    }

    // ---- looking ----------------------------------------------------------------------------

    /// The highest id that was ever given.
    pub fn last_id(&self) -> StreamId {
        self.body.as_ref().map_or(StreamId::MIN, |body| body.last)
    }

    /// The highest id that a client ever deleted.
    pub fn max_deleted_id(&self) -> StreamId {
        let body = self.body.as_ref();
        body.map_or(StreamId::MIN, |body| body.max_deleted)
    }

    /// How many entries were ever added.
    pub fn entries_added(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.added)
    }

    /// The id of the first entry; 0-0 without one.
    pub fn first_id(&self) -> StreamId {
        let mut all = self.range(StreamId::MIN, StreamId::MAX);
        all.next().map_or(StreamId::MIN, |entry| entry.id)
    }

    /// The id of the last entry.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        let mut all = self.range_back(StreamId::MIN, StreamId::MAX);
        all.next().map(|entry| entry.id)
    }

    /// The entry of an id.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// Entries from `first` to `last`, both included.
    pub fn range(&self, first: StreamId, last: StreamId) -> impl Iterator<Item = Entry<'_>> {
        Forwards::new(self.body.as_ref().map(|body| &body.nodes), first, last)
    }

    /// Entries from `last` down to `first`, both included.
    pub fn range_back(&self, first: StreamId, last: StreamId) -> impl Iterator<Item = Entry<'_>> {
        Backwards::new(self.body.as_ref().map(|body| &body.nodes), first, last)
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.nodes.len())
    }

    fn nodes(&self) -> impl Iterator<Item = &(StreamId, Node)> {
        self.body.iter().flat_map(|body| body.nodes.iter())
    }

    /// Groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &Group> {
        let groups = self.body.as_ref().map_or(&[][..], |body| &body.groups);
        groups.iter().map(|group| &**group)
    }

    /// A group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        let body = self.body.as_ref()?;
        Some(&body.groups[body.search(name).ok()?])
    }

    /// Whether an entry at `from` or behind may have been deleted between entries that are there: then a count of what was
    /// read says nothing of how much is left.
    pub fn has_gaps_from(&self, from: StreamId) -> bool {
        let deleted = self.max_deleted_id();
        !self.is_empty()
            && deleted != StreamId::MIN
            && self.first_id() <= deleted
            && from <= deleted
    }

    /// How many entries were ever added up to `id`; None when that cannot be told.
    pub fn entries_until(&self, id: StreamId) -> Option<u64> {
        let (added, len, last) = (self.entries_added(), self.len() as u64, self.last_id());
        if added == 0 || id == last || (len == 0 && id <= last) {
            return Some(added);
        }
        let (first, deleted) = (self.first_id(), self.max_deleted_id());
        if id > last || (deleted != StreamId::MIN && deleted >= first) {
            return None;
        }
        let before = added.wrapping_sub(len);
        match id.cmp(&first) {
            core::cmp::Ordering::Less => Some(before),
            core::cmp::Ordering::Equal => Some(before + 1),
            core::cmp::Ordering::Greater => None,
        }
    }

    // ---- changing ---------------------------------------------------------------------------

    fn body_mut(&mut self) -> &mut Body {
        self.body.get_or_insert_default()
    }

    /// Makes an empty stream of a vacant one; whether it was that.
    pub(crate) fn make(&mut self) -> bool {
        let vacant = self.is_vacant();
        self.body_mut();
        vacant
    }

    /// Adds an entry of fields and values in turn, if its id is above all that were given; whether it is.
    pub(crate) fn add<'w>(
        &mut self,
        id: StreamId,
        words: impl Iterator<Item = &'w [u8]> + Clone,
        limits: &Limits,
    ) -> bool {
        if id <= self.last_id() {
            return false;
        }
        let body = self.body_mut();
        let full = body
            .nodes
            .last()
            .is_none_or(|(_, node)| is_full(node, words.clone(), limits));
        if full {
            let node = Node::new(id, words.clone());
            body.block_bytes += node.heap_bytes();
            body.nodes.insert(id, node);
        }
        if let Some((own, node)) = body.nodes.last_mut() {
            let before = node.heap_bytes();
            node.push(own, id, words);
            body.block_bytes = body.block_bytes - before + node.heap_bytes();
        }
        body.len += 1;
        body.added = body.added.wrapping_add(1);
        body.last = id;
        true
    }

    /// Deletes an entry and remembers that; whether it was there.
    pub(crate) fn remove(&mut self, id: StreamId) -> bool {
        let Some(body) = &mut self.body else {
            return false;
        };
        let Some(own) = body.nodes.floor(id).map(|(own, _)| *own) else {
            return false;
        };
        let removed = body.change_node(own, |node| u32::from(node.remove(own, id)));
        if removed > 0 {
            body.max_deleted = body.max_deleted.max(id);
            if body.nodes.get(own).is_some_and(|node| node.live == 0) {
                body.drop_node(own);
            }
        }
        removed > 0
    }

    /// Removes all entries up to this id; how many. `kept` gets what puts them back.
    pub(crate) fn remove_through(
        &mut self,
        through: StreamId,
        mut kept: Option<&mut Vec<Inverse>>,
    ) -> u64 {
        let Some(body) = &mut self.body else { return 0 };
        let before = body.len;
        while let Some(&(own, ref node)) = body.nodes.first() {
            if node.last <= through {
                let node = body.take_node(own);
                if let (Some(kept), Some(node)) = (&mut kept, node) {
                    kept.push(Inverse::Node(own, node));
                }
                continue;
            }
            if let (Some(kept), Some(cut)) = (&mut kept, node.cut_through(own, through)) {
                kept.push(Inverse::Cut(own, cut));
            }
            body.change_node(own, |node| node.remove_through(own, through));
            break;
        }
        before - body.len
    }

    /// Sets what is remembered beside the entries; `last` is not below the last one.
    pub(crate) fn set_ids(&mut self, last: StreamId, added: u64, max_deleted: StreamId) {
        let body = self.body_mut();
        (body.last, body.added, body.max_deleted) = (last, added, max_deleted);
        // Of what comes next its node may have seen higher ids, all removed since.
        if let Some((own, node)) = body.nodes.last_mut()
            && last < node.last
        {
            node.last = last;
            if node.live == 0 {
                body.drop_node(own);
            }
        }
    }

    /// Makes a group or sets what it has read; whether it is new.
    pub(crate) fn put_group(&mut self, name: &[u8], last: StreamId, read: Option<u64>) -> bool {
        let set = |group: &mut Group| (group.last, group.read) = (last, read);
        if self.with_group(name, set).is_some() {
            return false;
        }
        let body = self.body_mut();
        let group = Box::new(Group::new(name, last, read));
        body.group_bytes += group.heap_bytes();
        let at = body.search(name).unwrap_or_else(|at| at);
        body.groups.insert(at, group);
        true
    }

    /// Takes a group out, as the only one of a stream without entries.
    pub(crate) fn take_group(&mut self, name: &[u8]) -> Option<Stream> {
        let body = self.body.as_mut()?;
        let group = body.groups.remove(body.search(name).ok()?);
        body.group_bytes -= group.heap_bytes();
        let mut alone = Body {
            group_bytes: group.heap_bytes(),
            ..Body::default()
        };
        alone.groups.push(group);
        Some(Stream {
            body: Some(Box::new(alone)),
        })
    }

    /// Changes a group, if it is there, and counts its bytes.
    pub(crate) fn with_group<R>(
        &mut self,
        name: &[u8],
        change: impl FnOnce(&mut Group) -> R,
    ) -> Option<R> {
        let body = self.body.as_mut()?;
        let at = body.search(name).ok()?;
        let group = &mut body.groups[at];
        let before = group.heap_bytes();
        let done = change(group);
        body.group_bytes = body.group_bytes - before + group.heap_bytes();
        Some(done)
    }

    /// Frees about `budget` nodes, or as many parts of groups; `true` when nothing is left. Between the first call and the last the
    /// value may only be dropped or freed further.
    pub(crate) fn free_step(&mut self, budget: usize) -> bool {
        let Some(body) = &mut self.body else {
            return true;
        };
        let len = &mut body.len;
        if !body
            .nodes
            .free_some(budget, |node| *len -= u64::from(node.live))
        {
            return false;
        }
        if let Some(group) = body.groups.last_mut() {
            if group.free_some(budget) {
                body.groups.pop();
            }
            return false;
        }
        self.body = None;
        true
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn check(&self) {
        let Some(body) = &self.body else { return };
        body.nodes.check();
        let (mut len, mut bytes, mut before) = (0, 0, StreamId::MIN);
        for (at, (own, node)) in body.nodes.iter().enumerate() {
            node.check(*own);
            assert!(before < *own, "nodes do not overlap");
            assert!(node.live > 0 || at == 0, "only the first node may be empty");
            before = node.last;
            len += u64::from(node.live);
            bytes += node.heap_bytes();
        }
        assert!(self.last_entry_id().is_none_or(|id| id <= body.last));
        assert_eq!((len, bytes), (body.len, body.block_bytes), "counted");
        body.groups.iter().for_each(|group| group.check());
        let names: Vec<_> = self.groups().map(Group::name).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "by name");
        let bytes: usize = self.groups().map(Group::heap_bytes).sum();
        assert_eq!(bytes, body.group_bytes, "bytes are counted");
    }
}

/// Whether an entry goes to a node of its own, as Redis decides it.
fn is_full<'w>(node: &Node, words: impl Iterator<Item = &'w [u8]>, limits: &Limits) -> bool {
    let bytes: u64 = words.map(|word| word.len() as u64).sum();
    let max = match limits.stream_node_max_bytes as u64 {
        0 => STREAM_NODE_BYTES_MAX,
        max => max.min(STREAM_NODE_BYTES_MAX),
    };
    let entries = limits.stream_node_max_entries;
    node.listpack_bytes() + bytes >= max
        || (entries > 0 && node.count() >= entries)
        // Counts are of 32 bits.
        || node.count() >= u32::MAX.into()
}

impl Body {
    /// Where a group's name is, or would be inserted.
    fn search(&self, name: &[u8]) -> Result<usize, usize> {
        self.groups.binary_search_by(|group| group.name().cmp(name))
    }

    /// Changes a node, which tells how many entries it has lost.
    fn change_node(&mut self, own: StreamId, change: impl FnOnce(&mut Node) -> u32) -> u32 {
        let Some(node) = self.nodes.get_mut(own) else {
            return 0;
        };
        let before = node.heap_bytes();
        let lost = change(node);
        self.block_bytes = self.block_bytes - before + node.heap_bytes();
        self.len -= u64::from(lost);
        lost
    }

    fn drop_node(&mut self, own: StreamId) {
        drop(self.take_node(own));
    }

    fn take_node(&mut self, own: StreamId) -> Option<Node> {
        let node = self.nodes.remove(own)?;
        self.block_bytes -= node.heap_bytes();
        self.len -= u64::from(node.live);
        Some(node)
    }
}

impl Clone for Body {
    fn clone(&self) -> Self {
        let groups = self.groups.clone();
        Body {
            nodes: self.nodes.clone(),
            group_bytes: groups.iter().map(|group| group.heap_bytes()).sum(),
            groups,
            ..*self
        }
    }
}

impl PartialEq for Stream {
    /// The same entries, groups and counters, whatever the nodes.
    fn eq(&self, other: &Self) -> bool {
        let own = |s: &Self| (s.len(), s.last_id(), s.max_deleted_id(), s.entries_added());
        let all = |s| Stream::range(s, StreamId::MIN, StreamId::MAX);
        own(self) == own(other)
            && self.groups().eq(other.groups())
            && all(self)
                .zip(all(other))
                .all(|(a, b)| a.id == b.id && a.pairs().eq(b.pairs()))
    }
}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let all = self.range(StreamId::MIN, StreamId::MAX);
        f.debug_list().entries(all.map(|entry| entry.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn small() -> Limits {
        Limits {
            stream_node_max_entries: 7,
            ..Limits::default()
        }
    }

    fn id(n: u64) -> StreamId {
        StreamId::new(n / 5, n % 5)
    }

    #[test]
    fn a_stream_is_compact_and_freed_in_steps() {
        let mut stream = Stream::new();
        for n in 0..100_000u64 {
            let value = n.to_string();
            let words = [&b"temperature"[..], value.as_bytes(), b"unit", b"celsius"];
            assert!(stream.add(id(n + 1), words.into_iter(), &Limits::default()));
        }
        assert!(!stream.add(id(100_000), [&b"f"[..], b"v"].into_iter(), &small()));
        stream.check();
        let each = stream.heap_bytes() / 100_000;
        assert!((18..26).contains(&each), "{each} bytes an entry");
        stream.put_group(b"g", StreamId::MIN, None);
        stream.with_group(b"g", |group| {
            group.put_consumer(b"c", 1, None);
            for n in 0..1000 {
                group.put_pending(b"c", id(n), 1, 1);
            }
        });
        stream.check();
        let mut steps = 0;
        while !stream.free_step(50) {
            steps += 1;
        }
        assert!(steps > 20, "{steps}");
        assert!(stream.is_vacant());
    }

    #[test]
    fn what_was_read_is_counted_where_it_can_be() {
        let mut stream = Stream::new();
        assert_eq!(stream.entries_until(id(3)), Some(0));
        for n in 1..=10 {
            stream.add(id(n), [&b"f"[..], b"v"].into_iter(), &small());
        }
        assert_eq!(stream.entries_until(id(10)), Some(10));
        assert_eq!(stream.entries_until(id(1)), Some(1));
        assert_eq!(stream.entries_until(StreamId::MIN), Some(0));
        assert_eq!(
            (stream.entries_until(id(5)), stream.entries_until(id(11))),
            (None, None)
        );
        assert!(!stream.has_gaps_from(StreamId::MIN));
        stream.remove_through(id(3), None);
        assert_eq!(
            (stream.entries_until(id(2)), stream.entries_until(id(4))),
            (Some(3), Some(4))
        );
        stream.remove(id(6));
        assert!(stream.has_gaps_from(id(6)) && !stream.has_gaps_from(id(7)));
        assert_eq!(stream.entries_until(id(4)), None);
        stream.remove_through(id(10), None);
        assert_eq!((stream.len(), stream.entries_until(id(2))), (0, Some(10)));
    }

    proptest! {
        #[test]
        fn a_stream_behaves_as_a_map(
            steps in proptest::collection::vec((0u8..6, 0u64..300, 1usize..4), 0..200),
        ) {
            let limits = small();
            let (mut stream, mut model) = (Stream::new(), BTreeMap::<StreamId, Vec<Vec<u8>>>::new());
            let mut next = 1;
            for (kind, at, pairs) in steps {
                match kind {
                    0..=2 => {
                        let words: Vec<Vec<u8>> = (0..pairs * 2)
                            .map(|n| format!("{}", n % 2 * at as usize).into_bytes())
                            .collect();
                        next += at % 4 + 1;
                        prop_assert!(stream.add(id(next), words.iter().map(Vec::as_slice), &limits));
                        model.insert(id(next), words);
                    }
                    3 => {
                        prop_assert_eq!(stream.remove(id(at)), model.remove(&id(at)).is_some());
                    }
                    4 => {
                        let kept = model.split_off(&id(at / 3 + 1));
                        prop_assert_eq!(stream.remove_through(id(at / 3), None), model.len() as u64);
                        model = kept;
                    }
                    _ => {
                        let (low, high) = (id(at), id(at + 40));
                        let ids = stream.range(low, high).map(|entry| entry.id);
                        prop_assert!(ids.eq(model.range(low..=high).map(|(id, _)| *id)));
                        let back = stream.range_back(low, high).map(|entry| entry.id);
                        prop_assert!(back.eq(model.range(low..=high).rev().map(|(id, _)| *id)));
                    }
                }
            }
            stream.check();
            prop_assert_eq!(stream.len(), model.len());
            let all = stream.range(StreamId::MIN, StreamId::MAX);
            for (entry, (id, words)) in all.zip(&model) {
                prop_assert_eq!(entry.id, *id);
                let pairs = entry.pairs().flat_map(|(field, value)| [field, value]);
                prop_assert!(pairs.eq(words.iter().map(Vec::as_slice)));
            }
            prop_assert_eq!(stream.first_id(), model.keys().next().copied().unwrap_or_default());
            prop_assert_eq!(stream.last_entry_id(), model.keys().next_back().copied());
            let copy = stream.clone();
            copy.check();
            prop_assert!(copy == stream);
        }
    }
}
