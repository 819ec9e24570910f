//! What XADD and XTRIM remove: decided here as Redis does, node by node, done by the stream as "all entries up to an id".

use crate::value::stream::id::StreamId;
use crate::value::stream::{Node, Stream};

/// What stays of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// So many entries.
    Len(u64),
    /// The entries from this id on.
    Id(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// What stays.
    pub to: TrimTo,
    /// Only whole nodes are removed.
    pub whole_nodes: bool,
    /// At most so many entries are removed; 0 for no limit.
    pub limit: u64,
}

impl Stream {
    /// The last entry that a trimming removes, and how many entries it removes.
    pub fn trimmed(&self, trim: &Trim) -> Option<(StreamId, u64)> {
        let (mut left, mut removed, mut through) = (self.len() as u64, 0, None);
        for (own, node) in self.nodes() {
            let live = u64::from(node.live);
            if matches!(trim.to, TrimTo::Len(len) if left <= len)
                || (trim.limit > 0 && removed + live > trim.limit)
            {
                break;
            }
            let whole = match trim.to {
                TrimTo::Len(len) => left - live >= len,
                TrimTo::Id(id) => node.last < id,
            };
            if whole {
                through = Some(node.last);
                left -= live;
                removed += live;
                continue;
            }
            if !trim.whole_nodes
                && let Some((last, count)) = within(*own, node, trim.to, left)
            {
                through = Some(last);
                removed += count;
            }
            break;
        }
        through.map(|through| (through, removed))
    }
}

/// The same within a node that is not removed whole.
fn within(own: StreamId, node: &Node, to: TrimTo, left: u64) -> Option<(StreamId, u64)> {
    let ids = node.entries(own).map(|entry| entry.id);
    let (mut last, mut count) = (None, 0);
    for entry in ids {
        let stays = match to {
            TrimTo::Len(len) => left - count <= len,
            TrimTo::Id(id) => entry >= id,
        };
        if stays {
            break;
        }
        last = Some(entry);
        count += 1;
    }
    last.map(|last| (last, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn id(n: u64) -> StreamId {
        StreamId::new(n, 0)
    }

    /// Entries 1 to 25 in nodes of ten.
    fn stream() -> Stream {
        let limits = Limits {
            stream_node_max_entries: 10,
            ..Limits::default()
        };
        let mut stream = Stream::new();
        for n in 1..=25 {
            stream.add(id(n), [&b"f"[..], b"v"].into_iter(), &limits);
        }
        stream
    }

    #[test]
    fn whole_nodes_and_parts() {
        let (len, to) = (TrimTo::Len, |n| TrimTo::Id(id(n)));
        for (what, whole_nodes, limit, wanted) in [
            (len(25), false, 0, None),
            (len(24), false, 0, Some((1, 1))),
            (len(24), true, 0, None),
            (len(15), true, 0, Some((10, 10))),
            (len(14), true, 0, Some((10, 10))),
            (len(14), false, 0, Some((11, 11))),
            (len(0), false, 0, Some((25, 25))),
            (len(0), true, 0, Some((25, 25))),
            (len(0), true, 24, Some((20, 20))),
            (len(0), true, 9, None),
            (to(1), false, 0, None),
            (to(11), true, 0, Some((10, 10))),
            (to(10), true, 0, None),
            (to(10), false, 0, Some((9, 9))),
            (to(99), false, 0, Some((25, 25))),
            (to(99), true, 10, Some((10, 10))),
        ] {
            let trim = Trim {
                to: what,
                whole_nodes,
                limit,
            };
            let mut stream = stream();
            let trimmed = stream.trimmed(&trim);
            assert_eq!(trimmed, wanted.map(|(n, count)| (id(n), count)), "{trim:?}");
            if let Some((through, count)) = trimmed {
                assert_eq!(stream.remove_through(through, None), count);
                assert_eq!(stream.len() as u64, 25 - count);
                stream.check();
            }
        }
    }

    #[test]
    fn a_removed_entry_still_ends_its_node() {
        let mut stream = stream();
        assert!(stream.remove(id(10)));
        let trim = Trim {
            to: TrimTo::Id(id(10)),
            whole_nodes: true,
            limit: 0,
        };
        assert_eq!(stream.trimmed(&trim), None, "10 is the node's last");
        let exact = Trim {
            whole_nodes: false,
            ..trim
        };
        assert_eq!(stream.trimmed(&exact), Some((id(9), 9)));
        assert_eq!(stream.remove_through(id(9), None), 9);
        // The node stays without an entry, as Redis's does, until its last id is passed.
        assert_eq!((stream.node_count(), stream.len()), (3, 15));
        assert_eq!(stream.first_id(), id(11));
        stream.check();
        let trim = Trim {
            to: TrimTo::Id(id(11)),
            ..trim
        };
        assert_eq!(stream.trimmed(&trim), Some((id(10), 0)));
        assert_eq!(stream.remove_through(id(10), None), 0);
        assert_eq!(stream.node_count(), 2);
    }
}
