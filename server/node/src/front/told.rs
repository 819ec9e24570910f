//! What the source has answered, back at the core of its client.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use migration::Authority;
use protocol::{Refusal, Reply};
use runtime::ConnId;

use crate::connection::{Connection, Pieces};
use crate::core::Core;
use crate::front::link::refusal;
use crate::front::pass::{After, Elsewhere};
use crate::front::shards::TRY_AGAIN;
use crate::front::{Message, timeout};
use crate::mail::Ticket;
use crate::service::NodeService;
use crate::tracking::{Invalidation, Mode};

/// Replies to one client's requests.
#[derive(Default)]
pub struct Told {
    /// The connection.
    pub(super) conn: Option<ConnId>,
    /// Short replies, one behind the other.
    pub(super) buf: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// The source has come to this offset with all batches up to this one...
    pub(super) known: Option<(u64, u64)>,
    /// ...that it was sent, or this shard of it.
    pub(super) shard: u16,
}

/// One reply.
pub(super) struct Part {
    pub(super) seq: u64,
    pub(super) what: What,
    pub(super) after: Option<Box<After>>,
}

/// What it is.
pub(super) enum What {
    /// So many bytes of the buffer.
    Short(usize),
    /// A large one.
    Large(Pieces),
    /// None: the request was ended to be begun again.
    Again,
    /// None: it is another shard's.
    Away(Away),
}

/// A request that a shard has sent away.
pub(super) struct Away {
    /// The shard that it named.
    pub(super) to: u16,
    /// For this once.
    pub(super) is_once: bool,
    /// The request.
    pub(super) bytes: Vec<u8>,
}

impl Told {
    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.known.is_none()
    }

    /// Adds a reply.
    pub(super) fn short(&mut self, seq: u64, reply: &[u8], after: Option<Box<After>>) {
        self.buf.extend_from_slice(reply);
        let what = What::Short(reply.len());
        self.parts.push(Part { seq, what, after });
    }
}

/// What a client that blocked is told when nobody may be asked for it any more.
const DEMOTED: Refusal = Refusal::Text(
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
);

/// What CLIENT UNBLOCK ERROR says.
const UNBLOCKED: Refusal = Refusal::Text("UNBLOCKED client unblocked via CLIENT UNBLOCK");

impl NodeService {
    /// Replies of the source for a connection of this core.
    pub(crate) fn on_source_told(&mut self, told: Told) {
        let Some(conn) = told.conn else { return };
        let mut at = 0;
        for Part { seq, what, after } in told.parts {
            let core = self.core.id;
            let ticket = Ticket { core, conn, seq };
            let mut is_good = true;
            match what {
                What::Short(len) => {
                    let reply = &told.buf[at..at + len];
                    at += len;
                    is_good = !matches!(reply.first(), Some(b'-' | b'_')) && reply != b"*-1\r\n";
                    self.end_passed(conn, seq);
                    self.complete(ticket, core, reply);
                }
                What::Large(pieces) => {
                    self.end_passed(conn, seq);
                    self.complete_pieces(ticket, pieces);
                }
                What::Again => self.begin_again(ticket),
                What::Away(away) => {
                    self.send_away(ticket, away, after);
                    continue;
                }
            }
            if let Some(after) = after {
                self.act_after(conn, *after, is_good);
            }
        }
        let authority = self.core.authority;
        let client = self.clients.get_mut(conn);
        if let Some(front) = client.and_then(|client| client.front.as_mut()) {
            if let Some(known) = told.known {
                front.know(told.shard, known);
            }
            if !matches!(authority, Authority::Front | Authority::Held) {
                front.leave();
            }
        }
    }

    /// A request is another shard's: it goes there, at its place among the replies.
    fn send_away(&mut self, ticket: Ticket, away: Away, after: Option<Box<After>>) {
        let is_front = matches!(self.core.authority, Authority::Front | Authority::Held);
        if let Some(client) = self.clients.get_mut(ticket.conn)
            && is_front
        {
            return self.core.pass_away(client, ticket.seq, away, after);
        }
        // It is counted where it was until it is on its way again.
        self.core.node.front.under_way.fetch_sub(1, AcqRel);
        self.end_passed(ticket.conn, ticket.seq);
        self.complete(ticket, ticket.core, &refusal(TRY_AGAIN));
    }

    /// A request that was passed on has its reply, or gets none.
    pub(super) fn end_passed(&mut self, conn: ConnId, seq: u64) {
        let client = self.clients.get_mut(conn);
        let Some(front) = client.and_then(|client| client.front.as_mut()) else {
            return;
        };
        front.outstanding = front.outstanding.saturating_sub(1);
        if front
            .blocks
            .as_ref()
            .is_some_and(|blocks| blocks.seq == seq)
        {
            front.blocks = None;
            self.core.node.blocked.fetch_sub(1, Relaxed);
        }
    }

    fn act_after(&mut self, conn: ConnId, after: After, is_good: bool) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if let Some(db) = after.select.filter(|_| is_good) {
            client.db = db;
        }
        if after.watches
            && !is_good
            && let Some(multi) = &mut client.multi
            && multi.elsewhere == Elsewhere::Yes
        {
            multi.elsewhere = Elsewhere::No;
        }
        if let Some(tracking) = client.tracking.as_deref()
            && !after.keys.is_empty()
        {
            let is_broadcast = tracking.mode == Mode::Broadcast;
            let home = (self.core.id, conn);
            let unknown = Invalidation::of(home, is_broadcast, after.keys);
            self.core.invalidations.push(unknown);
        }
    }

    /// A request has been ended at the source for a flip. It goes on where requests are executed now, or when that is known.
    fn begin_again(&mut self, ticket: Ticket) {
        let client = self.clients.get_mut(ticket.conn);
        let Some(front) = client.and_then(|client| client.front.as_mut()) else {
            return;
        };
        front.outstanding = front.outstanding.saturating_sub(1);
        if let Some(blocks) = &mut front.blocks {
            blocks.is_again = true;
        }
        if self.core.authority != Authority::Held {
            self.go_on(ticket.conn);
        }
    }

    /// CLIENT UNBLOCK of a client that blocks at the source, or is held between two tries: whether there is something to end.
    pub(crate) fn unblock_in_front(&mut self, conn: ConnId, error: bool) -> bool {
        let Some(client) = self.clients.get_mut(conn) else {
            return false;
        };
        let Some(front) = client.front.as_deref() else {
            return false;
        };
        if let Some(id) = front.blocks_there() {
            return self.core.node.front.tell(Message::End(id, error));
        }
        let Some(seq) = front.again_seq() else {
            return false;
        };
        let mut reply = Vec::new();
        if error {
            Reply::new(&mut reply, client.resp).error(&UNBLOCKED);
        } else {
            Reply::new(&mut reply, client.resp).null_array();
        }
        self.core.end_front_wait(client);
        let core = self.core.id;
        self.complete(Ticket { core, conn, seq }, core, &reply);
        true
    }

    /// Lets a request that was ended elsewhere wait on, with what is left of its time.
    pub(super) fn go_on(&mut self, conn: ConnId) {
        let now_ms = self.core.now.unix_ms;
        let core = self.core.id;
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let blocks = client
            .front
            .as_ref()
            .and_then(|front| front.blocks.as_ref());
        let Some(blocks) = blocks.filter(|blocks| blocks.is_again) else {
            return;
        };
        let seq = blocks.seq;
        let ticket = Ticket { core, conn, seq };
        let left_ms = blocks
            .until_ms
            .map(|until_ms| until_ms.saturating_sub(now_ms));
        let mut reply = Vec::new();
        match self.core.authority {
            _ if left_ms == Some(0) => Reply::new(&mut reply, client.resp).null_array(),
            Authority::Source => Reply::new(&mut reply, client.resp).error(&DEMOTED),
            Authority::Front => match self.core.shard_again(client) {
                Some(shard) => self.core.pass_again(client, left_ms, shard),
                None => self.core.block_again(client, left_ms),
            },
            Authority::Own => self.core.block_again(client, left_ms),
            Authority::Held => {}
        }
        if !reply.is_empty() {
            self.core.end_front_wait(client);
            self.complete(ticket, core, &reply);
        }
        self.settle();
    }
}

impl Core {
    /// A connection blocks no more at the source, or between two tries: it has been answered, or is gone.
    pub(crate) fn end_front_wait(&self, client: &mut Connection) {
        let blocks = client.front.as_mut().and_then(|front| front.blocks.take());
        if blocks.is_some() {
            self.node.blocked.fetch_sub(1, Relaxed);
        }
    }

    /// A request that was ended at the source waits here.
    fn block_again(&mut self, client: &mut Connection, left_ms: Option<u64>) {
        let blocks = client.front.as_mut().and_then(|front| front.blocks.take());
        let Some(blocks) = blocks else { return };
        // From now on it is counted as those are that wait here.
        self.node.blocked.fetch_sub(1, Relaxed);
        let request = match left_ms {
            Some(left_ms) => timeout::with_left(blocks.request, left_ms),
            None => blocks.request,
        };
        self.try_again(client, request, (blocks.seq, blocks.db));
    }
}
