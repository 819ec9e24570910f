//! Ends what blocks at the source, by a connection of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use protocol::Resp;

use super::Blocked;
use super::wire::{self, Wire};
use crate::node::Node;

/// How often those who still block are asked again: a request may have been on its way.
const LOOK: Duration = Duration::from_millis(1);
/// How soon a connection that failed is made anew.
const RETRY: Duration = Duration::from_millis(20);
/// The name of the connection, for CLIENT LIST of the source.
const NAME: &[u8] = b"meridian-front";

/// Ends everything that blocks, until requests are let go.
pub(super) async fn run(node: &'static Node) {
    let mut wires: HashMap<u16, Wire> = HashMap::new();
    while node.front.unblocks.load(Acquire) {
        let waits = |(at, blocked): (&(u16, u64), &Blocked)| blocked.waits.then_some(*at);
        let ids: Vec<(u16, u64)> = node.front.blocked().iter().filter_map(waits).collect();
        if !ids.is_empty() && end_all(node, &mut wires, &ids).await.is_err() {
            wires.clear();
            tokio::time::sleep(RETRY).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn end_all(
    node: &Node,
    wires: &mut HashMap<u16, Wire>,
    ids: &[(u16, u64)],
) -> io::Result<()> {
    for id @ (shard, number) in ids {
        let wire = match wires.entry(*shard) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let greeted = wire::greet(node, *shard, NAME, Resp::V2).await?;
                new.insert(greeted.wire)
            }
        };
        if !begin(node, *id) {
            continue;
        }
        let number = number.to_string();
        let words: [&[u8]; 4] = [b"CLIENT", b"UNBLOCK", number.as_bytes(), b"TIMEOUT"];
        let asked = wire.ask(&words).await;
        finish(node, *id);
        asked?;
    }
    Ok(())
}

/// A connection is about to be asked to end its wait; false when it does not wait (any more).
fn begin(node: &Node, id: (u16, u64)) -> bool {
    let mut blocked = node.front.blocked();
    let Some(entry) = blocked.get_mut(&id).filter(|entry| entry.waits) else {
        return false;
    };
    entry.asked = true;
    entry.asking += 1;
    // Nothing is at rest while the source may yet act upon it.
    node.front.under_way.fetch_add(1, AcqRel);
    true
}

/// The question has been answered, or its connection is lost.
fn finish(node: &Node, id: (u16, u64)) {
    let mut blocked = node.front.blocked();
    if let Some(entry) = blocked.get_mut(&id) {
        entry.asking = entry.asking.saturating_sub(1);
        if !entry.waits && entry.asking == 0 {
            blocked.remove(&id);
        }
    }
    node.front.under_way.fetch_sub(1, AcqRel);
}

/// A client's own CLIENT UNBLOCK of one that blocks at the source: the reply to that one is then what it gets.
pub(super) async fn end(node: &'static Node, (shard, id): (u16, u64), error: bool) {
    let number = id.to_string();
    let how: &[u8] = if error { b"ERROR" } else { b"TIMEOUT" };
    if let Ok(mut greeted) = wire::greet(node, shard, NAME, Resp::V2).await {
        // (It may have been served meanwhile.)
        let words: [&[u8]; 4] = [b"CLIENT", b"UNBLOCK", number.as_bytes(), how];
        let _ended = greeted.wire.ask(&words).await;
    }
}
