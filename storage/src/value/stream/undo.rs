//! How a change of a stream is taken back, without a copy of the stream.
//!
//! Who is about to change a stream asks `before_…` for the inverse of that change, and gives it to [`Stream::undo`] when all
//! later changes have been undone. An inverse is as large as what the change touches: an addition's holds no entry at
//! all, a removal's holds the entries removed, and whole nodes are moved into it, not copied.

use crate::value::stream::node::{Cut, Mark, Node};
use crate::value::stream::{Group, Stream, StreamId};

/// What a stream remembers beside its entries: last id, highest deleted one, entries ever added.
type Ids = (StreamId, StreamId, u64);

/// An entry that was pending in a group: its consumer, when it was delivered, how often.
pub(crate) type WasPending = (Box<[u8]>, u64, u64);

/// How things stood before an addition.
pub(crate) struct BeforeAdd {
    ids: Ids,
    nodes: usize,
    last: Option<Mark>,
}

/// See the module's head.
pub(crate) enum Inverse {
    Ids(Ids),
    /// The last entry goes; its node stays, if it had been there.
    Added(Ids, Option<Mark>),
    /// A node comes back.
    Node(StreamId, Node),
    /// Entries come back into a node.
    Cut(StreamId, Cut),
    /// The last id that a node has seen.
    NodeLast(StreamId, StreamId),
    /// The group had not been there.
    NoGroup(Box<[u8]>),
    /// What the group had read.
    Read(Box<[u8]>, StreamId, Option<u64>),
    /// A group comes back, as the only one of a stream without entries.
    Group(Box<Stream>),
    /// The consumer of that group had not been there.
    NoConsumer(Box<[u8]>, Box<[u8]>),
    /// A consumer was seen and active then, and comes back if it is gone.
    Consumer(Box<[u8]>, Box<[u8]>, u64, Option<u64>),
    Pending(Box<[u8]>, StreamId, Option<WasPending>),
}

impl Stream {
    fn ids(&self) -> Ids {
        (self.last_id(), self.max_deleted_id(), self.entries_added())
    }

    fn restore_ids(&mut self, ids: Ids) {
        let body = self.body_mut();
        (body.last, body.max_deleted, body.added) = ids;
    }

    /// Before an addition, for [`Stream::added`].
    pub(crate) fn before_add(&self) -> BeforeAdd {
        let last = self.body.as_ref().and_then(|body| body.nodes.last());
        BeforeAdd {
            ids: self.ids(),
            nodes: self.node_count(),
            last: last.map(|(_, node)| node.mark()),
        }
    }

    /// The inverse of an addition that has been made.
    pub(crate) fn added(&self, before: BeforeAdd) -> Inverse {
        let old_node = self.node_count() == before.nodes;
        Inverse::Added(before.ids, before.last.filter(|_| old_node))
    }

    /// Before an entry is removed: to be undone in reverse order. Empty when it is not there.
    pub(crate) fn before_remove(&self, id: StreamId) -> Vec<Inverse> {
        let nodes = self.body.as_ref().map(|body| &body.nodes);
        let Some((own, node)) = nodes.and_then(|nodes| nodes.floor(id)) else {
            return Vec::new();
        };
        let Some(cut) = node.cut_of(*own, id) else {
            return Vec::new();
        };
        let entry = match node.live {
            // It goes as a whole.
            1 => Inverse::Node(*own, node.clone()),
            _ => Inverse::Cut(*own, cut),
        };
        vec![Inverse::Ids(self.ids()), entry]
    }

    /// Before [`Stream::set_ids`].
    pub(crate) fn before_set_ids(&self) -> Vec<Inverse> {
        let mut inverses = vec![Inverse::Ids(self.ids())];
        let body = self.body.as_ref();
        if let Some((own, node)) = body.and_then(|body| body.nodes.last()) {
            inverses.push(match node.live {
                0 => Inverse::Node(*own, node.clone()),
                _ => Inverse::NodeLast(*own, node.last),
            });
        }
        inverses
    }

    /// Before a group is made or set.
    pub(crate) fn before_put_group(&self, name: &[u8]) -> Inverse {
        match self.group(name) {
            Some(group) => Inverse::Read(name.into(), group.last, group.read),
            None => Inverse::NoGroup(name.into()),
        }
    }

    /// Before a consumer is made, or seen.
    pub(crate) fn before_put_consumer(&self, group: &[u8], name: &[u8]) -> Inverse {
        match self.group(group).and_then(|group| group.consumer(name)) {
            Some(consumer) => Inverse::Consumer(
                group.into(),
                name.into(),
                consumer.seen_ms,
                consumer.active_ms,
            ),
            None => Inverse::NoConsumer(group.into(), name.into()),
        }
    }

    /// Before a consumer is removed: to be undone in reverse order. Empty when it is not there.
    pub(crate) fn before_remove_consumer(&self, group: &[u8], name: &[u8]) -> Vec<Inverse> {
        let found = self.group(group);
        let Some((found, consumer)) = found.and_then(|g| Some((g, g.consumer(name)?))) else {
            return Vec::new();
        };
        let pending = found.pending_with(consumer, StreamId::MIN);
        let pending = pending.map(|(id, pending)| {
            let was = (name.into(), pending.delivered_ms, pending.count);
            Inverse::Pending(group.into(), id, Some(was))
        });
        let consumer = self.before_put_consumer(group, name);
        pending.chain([consumer]).collect()
    }

    /// Before an entry becomes pending, is passed on or acknowledged.
    pub(crate) fn before_pending(&self, group: &[u8], id: StreamId) -> Inverse {
        let was = self.group(group).and_then(|group: &Group| {
            let pending = group.pending(id)?;
            let name = group.consumer_of(pending).into();
            Some((name, pending.delivered_ms, pending.count))
        });
        Inverse::Pending(group.into(), id, was)
    }

    /// Takes a change back.
    pub(crate) fn undo(&mut self, inverse: Inverse) {
        match inverse {
            Inverse::Ids(ids) => self.restore_ids(ids),
            Inverse::Added(ids, mark) => {
                self.take_back(mark);
                self.restore_ids(ids);
            }
            Inverse::Node(own, node) => {
                let body = self.body_mut();
                body.drop_node(own);
                body.block_bytes += node.heap_bytes();
                body.len += u64::from(node.live);
                body.nodes.insert(own, node);
            }
            Inverse::Cut(own, cut) => {
                let body = self.body_mut();
                let live = |body: &super::Body| body.nodes.get(own).map_or(0, |node| node.live);
                let before = live(body);
                body.change_node(own, |node| {
                    node.put_back(&cut);
                    0
                });
                body.len += u64::from(live(body) - before);
            }
            Inverse::NodeLast(own, last) => {
                if let Some(node) = self.body_mut().nodes.get_mut(own) {
                    node.last = last;
                }
            }
            Inverse::NoGroup(name) => drop(self.take_group(&name)),
            Inverse::Read(name, last, read) => drop(self.put_group(&name, last, read)),
            Inverse::Group(alone) => self.adopt_groups(*alone),
            Inverse::NoConsumer(group, name) => {
                self.with_group(&group, |group| group.remove_consumer(&name));
            }
            Inverse::Consumer(group, name, seen_ms, active_ms) => {
                self.with_group(&group, |group| {
                    group.put_consumer(&name, seen_ms, active_ms)
                });
            }
            Inverse::Pending(group, id, was) => {
                self.with_group(&group, |group| match &was {
                    Some((name, delivered_ms, count)) => {
                        group.put_pending(name, id, *delivered_ms, *count)
                    }
                    None => group.remove_pending(id),
                });
            }
        }
    }

    /// The last entry goes; so does its node, if that had been made for it.
    fn take_back(&mut self, mark: Option<Mark>) {
        let body = self.body_mut();
        let Some(own) = body.nodes.last().map(|(own, _)| *own) else {
            return;
        };
        let Some(mark) = mark else {
            return body.drop_node(own);
        };
        body.change_node(own, |node| {
            node.take_back(mark);
            1
        });
    }

    fn adopt_groups(&mut self, from: Stream) {
        let body = self.body_mut();
        for group in from.body.into_iter().flat_map(|from| from.groups) {
            body.group_bytes += group.heap_bytes();
            let at = body.search(group.name()).unwrap_or_else(|at| at);
            body.groups.insert(at, group);
        }
    }
}

impl Inverse {
    /// Bytes of heap that it holds, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Inverse::Ids(_) | Inverse::Added(..) | Inverse::NodeLast(..) => 0,
            Inverse::Node(_, node) => node.heap_bytes(),
            Inverse::Cut(_, cut) => cut.records.len(),
            Inverse::NoGroup(name) | Inverse::Read(name, ..) => name.len(),
            Inverse::Group(alone) => alone.heap_bytes(),
            Inverse::NoConsumer(group, name) | Inverse::Consumer(group, name, ..) => {
                group.len() + name.len()
            }
            Inverse::Pending(group, _, was) => {
                group.len() + was.as_ref().map_or(0, |(name, ..)| name.len())
            }
        }
    }
}
