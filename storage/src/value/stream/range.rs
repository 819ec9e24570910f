//! Ranges of entries, in both directions.

use crate::value::stream::id::StreamId;
use crate::value::stream::id_map::{Ascending, Descending, IdMap};
use crate::value::stream::node::{Entries, Entry, Node};

/// Entries in order.
pub(super) struct Forwards<'a> {
    nodes: Option<Ascending<'a, Node>>,
    entries: Option<Entries<'a>>,
    first: StreamId,
    last: StreamId,
}

impl<'a> Forwards<'a> {
    pub(super) fn new(nodes: Option<&'a IdMap<Node>>, first: StreamId, last: StreamId) -> Self {
        let nodes = nodes.filter(|_| first <= last).map(|nodes| {
            // The node in which `first` lies, or lay.
            let node = nodes.floor(first).map_or(first, |(own, _)| *own);
            nodes.iter_from(node)
        });
        Forwards {
            nodes,
            entries: None,
            first,
            last,
        }
    }
}

impl<'a> Iterator for Forwards<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            for entry in self.entries.iter_mut().flatten() {
                if entry.id > self.last {
                    self.nodes = None;
                    break;
                }
                if entry.id >= self.first {
                    return Some(entry);
                }
            }
            let (own, node) = self.nodes.as_mut()?.next()?;
            self.entries = Some(node.entries(*own));
        }
    }
}

/// Entries in reverse order.
pub(super) struct Backwards<'a> {
    nodes: Option<Descending<'a, Node>>,
    entries: Option<Entries<'a>>,
    first: StreamId,
    last: StreamId,
}

impl<'a> Backwards<'a> {
    pub(super) fn new(nodes: Option<&'a IdMap<Node>>, first: StreamId, last: StreamId) -> Self {
        let nodes = nodes.filter(|_| first <= last);
        Backwards {
            nodes: nodes.map(|nodes| nodes.iter_until(last)),
            entries: None,
            first,
            last,
        }
    }
}

impl<'a> Iterator for Backwards<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            while let Some(entry) = self.entries.as_mut().and_then(Entries::next_back) {
                if entry.id < self.first {
                    self.nodes = None;
                    break;
                }
                if entry.id <= self.last {
                    return Some(entry);
                }
            }
            let (own, node) = self.nodes.as_mut()?.next()?;
            self.entries = Some(node.entries(*own));
        }
    }
}
