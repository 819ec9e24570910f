//! KEYS over many keys: it walks the slots in slices, some keys a turn, so that other requests run between.
//!
//! It needs every slot, so it cannot run aside. A key that is there during the whole walk is listed once; one that comes or goes
//! meanwhile may be. (Over several cores it has never been otherwise.) Inside MULTI and in scripts it runs in one go.

use protocol::{Args, Refusal, Reply, Resp};
use runtime::Turn;
use storage::{Shard, Slot};

use crate::commandlog::Client;
use crate::connection::{Connection, Pieces, Request};
use crate::core::Core;
use crate::dispatch::Flow;
use crate::mail::{Batch, Head, Mail, Ticket};
use crate::service::NodeService;
use crate::table::{Plan, Row};

/// Keys that a turn looks at, and slots.
const KEYS_PER_TURN_MAX: usize = 512;
const SLOTS_PER_TURN_MAX: usize = 2048;
/// Bytes of a piece of the reply: no larger buffer grows, which would copy it.
const PIECE_BYTES_MIN: usize = 256 << 10;

/// A walk under way.
pub struct Walk {
    ticket: Ticket,
    request: Request,
    db: u8,
    resp: Resp,
    cursor: u64,
    found: usize,
    /// The header's place, and what has been found.
    pieces: Vec<Vec<u8>>,
    ticks: u64,
}

impl Walk {
    /// Where its reply goes, and whose it is.
    pub(crate) fn whose(&self) -> (Ticket, &'static Row, Resp) {
        (self.ticket, self.request.row, self.resp)
    }
}

impl Core {
    /// Whether a request looks at so many keys that it walks.
    pub fn is_walk(&self, row: &Row, db: u8) -> bool {
        let steps = self.config.aside_min_steps as usize;
        row.plan == Plan::Concat && steps > 0 && self.shard.count(db).keys >= steps
    }

    /// Begins to walk for a connection of this core.
    #[cold]
    pub fn walk(&mut self, conn: &mut Connection, row: &'static Row, args: &Args<'_>) -> Flow {
        if conn.outbound.outstanding() > 0 {
            return Flow::Stall;
        }
        let ticket = self.begin_exclusive(conn);
        self.begin_walk(ticket, Request::new(row, args), conn.db, conn.resp);
        Flow::Done
    }

    /// As `walk`, for a request that came from elsewhere.
    #[cold]
    pub fn walk_for(&mut self, batch: &Batch, head: &Head) {
        let request = Request::new(head.row, &batch.args(head));
        self.begin_walk(head.ticket, request, head.db, head.resp);
    }

    fn begin_walk(&mut self, ticket: Ticket, request: Request, db: u8, resp: Resp) {
        let first = self.node.range(self.id).start;
        self.walks.push_back(Walk {
            ticket,
            request,
            db,
            resp,
            cursor: Shard::cursor_at(Slot(first as u16)),
            found: 0,
            pieces: vec![Vec::new(), Vec::new()],
            ticks: 0,
        });
    }

    /// A slice of a walk: whether it has come to its end, or None if it has to wait for a slot.
    fn walk_on(&mut self, walk: &mut Walk) -> Option<bool> {
        let end = self.node.range(self.id).end;
        let mut left = KEYS_PER_TURN_MAX;
        let args = walk.request.args();
        let pattern = args.peek().unwrap_or_default();
        for _ in 0..SLOTS_PER_TURN_MAX {
            let slot = Shard::cursor_slot(walk.cursor);
            if self.locks.is_held(slot) {
                return None;
            }
            if walk
                .pieces
                .last()
                .is_some_and(|piece| piece.len() >= PIECE_BYTES_MIN)
            {
                walk.pieces.push(Vec::with_capacity(PIECE_BYTES_MIN));
            }
            let Some(out) = walk.pieces.last_mut() else {
                return Some(true);
            };
            let place = (walk.db, walk.cursor);
            let step = commands::key::keys_of_slot(&self.shard, place, left, pattern, out);
            walk.found += step.found;
            left -= step.seen.min(left);
            match step.next {
                Some(cursor) => walk.cursor = cursor,
                None if slot.index() + 1 == end => return Some(true),
                None => walk.cursor = Shard::cursor_at(Slot(slot.0 + 1)),
            }
            if left == 0 {
                break;
            }
        }
        Some(false)
    }
}

impl NodeService {
    /// Goes on with the walk that has waited longest.
    #[cold]
    pub(crate) fn walk_some(&mut self, turn: &mut Turn<'_, Mail>) {
        let Some(mut walk) = self.core.walks.pop_front() else {
            return;
        };
        if self.core.is_loading() {
            // A copy has begun to replace what it has seen.
            let (ticket, row, resp) = walk.whose();
            self.refuse_request(ticket, row, resp, &Refusal::Loading);
            return self.walk_again(turn);
        }
        let begin = runtime::ticks();
        let ended = self.core.walk_on(&mut walk);
        walk.ticks += runtime::ticks().wrapping_sub(begin);
        match ended {
            Some(true) => self.end_walk(walk),
            Some(false) => self.core.walks.push_back(walk),
            None => {
                self.core.walks.push_front(walk);
                turn.ops.wake_at(turn.now.unix_ms + super::LOOK_MS);
                return;
            }
        }
        self.walk_again(turn);
    }

    fn walk_again(&self, turn: &mut Turn<'_, Mail>) {
        if !self.core.walks.is_empty() {
            turn.ops.again();
        }
    }

    fn end_walk(&mut self, mut walk: Walk) {
        if let Some(header) = walk.pieces.first_mut() {
            Reply::new(header, walk.resp).array(walk.found);
        }
        let bytes = walk.pieces.iter().map(Vec::len).sum();
        let row = walk.request.row;
        self.core.tally.called(row.index, walk.ticks);
        self.core.note_later(row, walk.ticks, bytes);
        let client = Client::Of(walk.ticket.core, walk.ticket.conn);
        self.core.note(row, &walk.request.args(), client);
        self.reply_pieces(walk.ticket, Pieces(walk.pieces));
    }
}
