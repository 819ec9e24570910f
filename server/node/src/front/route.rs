//! Which requests are passed on to the source, and which are answered here.

use std::sync::atomic::Ordering::Relaxed;

use commands::Run;
use migration::Authority;
use protocol::{Args, Flags, Refusal};

use crate::connection::{Connection, Request};
use crate::core::Core;
use crate::dispatch::{Flow, runs_inside_multi};
use crate::front::pass::{Elsewhere, Fronted, Kind as Order};
use crate::front::shards::Place;
use crate::front::timeout;
use crate::multi::is_exec;
use crate::table::{Kind, Row};

/// How long a scan waits for the stream, ms: its cursor is of this node, so it cannot be passed on.
const SCAN_WAIT_MS_MAX: u64 = 1000;
/// What one is answered that has waited so long.
const BEHIND: Refusal =
    Refusal::Text("MASTERDOWN The stream of the source is behind what this client has seen.");
/// What a watching client is kept from by what the source has no say in.
const NOT_IN_MULTI: &str =
    "is not supported inside MULTI while requests are passed on to the source";

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// It is of the connection, or of the node.
    Here,
    /// A read: here, once what is here is new enough.
    Read,
    /// The same; it begins or continues an iteration, whose cursors are this node's.
    Scan,
    /// The source executes it.
    Source,
    /// The same; it may block there, and afterwards it can be begun again.
    Blocks,
    /// The same; its reply is right whenever it is ended.
    Waits,
}

impl Way {
    /// Of a request that is no EXEC.
    pub(super) fn of(row: &Row, args: &Args<'_>) -> Way {
        match row.kind {
            Kind::Container => Way::Here,
            Kind::Publish(_) | Kind::Script(_) => Way::Source,
            Kind::Data(Run::Container) => Way::Here,
            Kind::Data(Run::Read(_)) => match row.spec.name {
                "scan" | "hscan" | "sscan" | "zscan" => Way::Scan,
                _ => Way::Read,
            },
            Kind::Data(Run::Write(_)) => Way::Source,
            // (One that only reads may wait here, too: the stream brings what it waits for.)
            Kind::Data(Run::Block(block)) if !block.writes => Way::Read,
            Kind::Data(Run::Block(_)) if timeout::may_wait(row, args) => Way::Blocks,
            Kind::Data(Run::Block(_)) => Way::Source,
            Kind::Node(_) => Way::of_node(row.spec.name),
        }
    }

    fn of_node(name: &str) -> Way {
        match name {
            "wait" | "waitaof" => Way::Waits,
            // What scripts and functions there are is the source's to say, as it runs them.
            "migrate" | "script|load" | "script|exists" | "script|flush" | "script|kill"
            | "function|load" | "function|delete" | "function|flush" | "function|restore"
            | "function|list" | "function|dump" | "function|stats" | "function|kill" => Way::Source,
            _ => Way::Here,
        }
    }
}

/// Whether the source may be sent it inside a transaction: what concerns the connection or the node is not its business.
fn goes_in_multi(row: &Row, args: &Args<'_>) -> bool {
    Way::of(row, args) != Way::Here
        || matches!(
            row.spec.name,
            "ping" | "echo" | "time" | "select" | "unwatch"
        )
}

impl Core {
    /// While another decides what keys hold, and clients are not to notice: what becomes of a request. None when it runs here.
    #[cold]
    pub(crate) fn in_front(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Option<Flow> {
        let is_held = match self.authority {
            Authority::Front => false,
            Authority::Held => true,
            Authority::Own | Authority::Source => return None,
        };
        if conn.in_multi() && !runs_inside_multi(row) {
            return Some(self.queue(conn, row, args));
        }
        self.look_at_routes();
        let (way, order) = match row.spec.name {
            "exec" => (
                self.way_of_exec(conn, row, args),
                Order::Exec {
                    queued: 0,
                    watches: false,
                },
            ),
            "watch" if !conn.in_multi() => {
                let begins = conn.watches() == Elsewhere::No;
                (Way::Source, Order::Watch { begins })
            }
            "unwatch" if conn.watches() == Elsewhere::Yes => (Way::Source, Order::Unwatch),
            _ => (Way::of(row, args), Order::Plain),
        };
        match way {
            Way::Here => return None,
            _ if is_held => return Some(Flow::Stall),
            _ => {}
        }
        let place = match self.place_in_front(conn, row, args) {
            Ok(place) => place,
            Err(refusal) => return Some(self.reject(conn, Some(row), &refusal)),
        };
        match (way, place) {
            (_, Place::Ours) => return None,
            (Way::Read, _) if self.is_fresh(conn, place) => return self.answers_here(conn),
            // A client that watches may read here what is newer than its watch; it is passed on all the same where it can be.
            (Way::Scan, _) if self.is_new(conn, place) => return self.answers_here(conn),
            // (Nothing is ever known to be new enough here: the cursors are all the source's.)
            (Way::Scan, Place::Shard(..)) if self.node.source.is_by_scan() => {}
            // (What is asked of all keys no single shard can answer.)
            (Way::Scan, _) | (Way::Read, Place::Anywhere) => {
                return self.wait_for_stream(conn, row);
            }
            _ => {}
        }
        let shard = match place {
            Place::Shard(shard, _) => Ok(shard),
            Place::Ours | Place::Anywhere => self.any_shard(conn, row),
        };
        let shard = match shard {
            Ok(shard) => shard,
            Err(refusal) => return Some(self.reject(conn, Some(row), &refusal)),
        };
        if let Some(flow) = self.may_not_pass(conn, row, args) {
            return Some(flow);
        }
        Some(match (way, order) {
            (_, Order::Exec { .. }) => self.pass_exec(conn, row, shard),
            (Way::Blocks | Way::Waits, _) => {
                self.pass_blocking(conn, row, args, (way == Way::Blocks, shard))
            }
            (Way::Read, _) if timeout::may_wait(row, args) => {
                self.pass_blocking(conn, row, args, (true, shard))
            }
            (_, order) => self.pass(conn, row, args, (order, shard)),
        })
    }

    /// Whether what is here is not older than what any client has seen: those of one application share it, by pools of connections.
    fn is_new(&self, conn: &Connection, place: Place) -> bool {
        if self.is_loading() || self.busy().is_some() {
            return false;
        }
        match place {
            Place::Ours => true,
            Place::Shard(shard, is_steady) => is_steady && self.is_new_of(conn, shard),
            Place::Anywhere => {
                let shards = self.shards_in_front();
                shards.iter().all(|shard| self.is_new_of(conn, *shard))
            }
        }
    }

    fn is_new_of(&self, conn: &Connection, shard: u16) -> bool {
        let (applied, front) = (self.applied_of(shard), conn.front.as_ref());
        applied > 0
            && self.node.front.is_seen(shard, applied)
            && front.is_none_or(|front| front.has_seen_at_most(shard, applied))
    }

    /// Whether a read of a client is answered here.
    fn is_fresh(&self, conn: &Connection, place: Place) -> bool {
        conn.watches() != Elsewhere::Yes && self.is_new(conn, place)
    }

    fn answers_here(&self, conn: &mut Connection) -> Option<Flow> {
        if let Some(front) = &mut conn.front {
            front.waits_since_ms = 0;
        }
        self.node.front.answered_here.fetch_add(1, Relaxed);
        None
    }

    /// A request that only this node can answer waits until the stream has come so far.
    fn wait_for_stream(&mut self, conn: &mut Connection, row: &'static Row) -> Option<Flow> {
        let now_ms = self.now.unix_ms.max(1);
        let front = conn.front.get_or_insert_default();
        if front.waits_since_ms == 0 {
            front.waits_since_ms = now_ms;
        }
        if now_ms.saturating_sub(front.waits_since_ms) < SCAN_WAIT_MS_MAX {
            return Some(Flow::Stall);
        }
        front.waits_since_ms = 0;
        Some(self.reject(conn, Some(row), &BEHIND))
    }

    /// EXEC is passed on when something of its queue is.
    fn way_of_exec(&mut self, conn: &mut Connection, row: &Row, args: &Args<'_>) -> Way {
        let place = self.place_in_front(conn, row, args);
        let is_ours = matches!(place, Ok(Place::Ours));
        // (One that cannot be placed is refused where it would be passed on.)
        let goes_nowhere = place.is_err();
        let is_fresh = place.is_ok_and(|place| self.is_fresh(conn, place));
        let owns_some = self.owns_some();
        let Some(multi) = conn.multi.as_deref_mut().filter(|multi| multi.open) else {
            return Way::Here;
        };
        // (One whose keys are this node's waits for a flip as all that is passed on does.)
        if owns_some
            && multi.elsewhere != Elsewhere::Lost
            && !multi.refused
            && (is_ours || goes_nowhere)
        {
            return Way::Source;
        }
        if !multi.watched.is_empty() {
            // Keys of this node, from a time when it was not in front: whether they have changed at the source cannot be said.
            multi.elsewhere = Elsewhere::Lost;
        }
        if multi.refused || multi.elsewhere == Elsewhere::Lost {
            return Way::Here;
        }
        let goes = |request: &Request| match Way::of(request.row, &request.args()) {
            Way::Here => false,
            Way::Read | Way::Scan => !is_fresh,
            Way::Source | Way::Blocks | Way::Waits => true,
        };
        match multi.elsewhere == Elsewhere::Yes || multi.queued.iter().any(goes) {
            true => Way::Source,
            false => Way::Here,
        }
    }

    /// What keeps a request from being passed on now, or for good.
    fn may_not_pass(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Option<Flow> {
        if self.pause.until_ms != 0 && self.is_paused(conn, row, args) {
            return Some(Flow::Stall);
        }
        if conn.monitor && (row.writes || row.spec.flags.contains(Flags::READONLY)) {
            return Some(self.reject(conn, Some(row), &Refusal::MonitorKeyspace));
        }
        let is_old = |front: &Fronted| {
            front.outstanding > 0 && front.routes_epoch != self.front.routes_epoch
        };
        let overtakes = conn.front.as_deref().is_some_and(is_old) || !self.routes_are_steady();
        if overtakes || !conn.has_room_to_pass() {
            return Some(Flow::Stall);
        }
        if is_exec(row)
            && let Some(multi) = conn.multi.as_deref()
        {
            let odd = |request: &&Request| !goes_in_multi(request.row, &request.args());
            let odd = multi.queued.iter().find(odd);
            let name = odd.map(|request| request.row.spec.name)?;
            let why = format!("ERR {name} {NOT_IN_MULTI}");
            return Some(self.reject(conn, Some(row), &Refusal::Owned(why.into())));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::table::Table;

    #[test]
    fn every_class_has_its_way() {
        let table: &'static Table = Box::leak(Box::new(Table::build(&Config::default())));
        let cases = [
            ("GET a", Way::Read),
            ("MGET a b", Way::Read),
            ("DBSIZE", Way::Read),
            ("DUMP a", Way::Read),
            ("SCAN 0", Way::Scan),
            ("ZSCAN z 0", Way::Scan),
            ("SET a 1", Way::Source),
            ("GETEX a", Way::Source),
            ("PFCOUNT a", Way::Source),
            ("PUBLISH a b", Way::Source),
            ("EVAL_RO return 0", Way::Source),
            ("FCALL f 0", Way::Source),
            ("FLUSHALL", Way::Source),
            ("SWAPDB 0 1", Way::Source),
            ("RESTORE a 0 x", Way::Source),
            ("SCRIPT LOAD x", Way::Source),
            ("FUNCTION LIST", Way::Source),
            ("BLPOP a 0", Way::Blocks),
            ("BZMPOP 0 1 a MIN", Way::Blocks),
            ("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", Way::Blocks),
            ("XREADGROUP GROUP g c STREAMS s >", Way::Source),
            ("XREAD BLOCK 0 STREAMS s $", Way::Read),
            ("WAIT 1 0", Way::Waits),
            ("SELECT 1", Way::Here),
            ("SUBSCRIBE a", Way::Here),
            ("CLIENT ID", Way::Here),
            ("CONFIG GET x", Way::Here),
            ("MULTI", Way::Here),
            ("PING", Way::Here),
        ];
        for (text, way) in cases {
            let owned: Vec<Vec<u8>> = text.split(' ').map(Into::into).collect();
            let found = table.find(&owned[0]).unwrap();
            let named = owned.get(1).and_then(|name| table.subcommand(found, name));
            let request = Request::of_words(named.unwrap_or(found), &owned);
            assert_eq!(Way::of(request.row, &request.args()), way, "{text}");
        }
    }

    /// What is not listed above is right by its kind: a write goes to the source, whatever it is.
    #[test]
    fn no_write_is_executed_here() {
        let table: &'static Table = Box::leak(Box::new(Table::build(&Config::default())));
        for row in table.rows() {
            let name: Vec<Vec<u8>> = row.spec.name.split('|').map(Into::into).collect();
            let request = Request::of_words(row, &name);
            let way = Way::of(row, &request.args());
            let writes = row.writes || row.spec.flags.contains(Flags::MAY_REPLICATE);
            let is_read = matches!(way, Way::Here | Way::Read | Way::Scan);
            let is_container = !row.subcommands.is_empty();
            assert!(!writes || !is_read || is_container, "{}", row.spec.name);
        }
    }
}
