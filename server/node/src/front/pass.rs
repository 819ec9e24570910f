//! A client's requests on their way to the source: what its core keeps of them, and gathers in a turn.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use protocol::{Args, Resp, request};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::connection::{Connection, Multi, Request};
use crate::core::Core;
use crate::dispatch::Flow;
use crate::front::link::{NOT_SENT, Seat, refusal};
use crate::front::shards::Place;
use crate::front::told::Away;
use crate::front::{Message, timeout};
use crate::mail::Ticket;
use crate::service::NodeService;
use crate::table::{Kind as RowKind, Row};
use crate::tracking::{Mode, Tracking};

/// Bytes of one client's requests that have not been sent, beyond which it waits for replies.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// Replies of one client that are outstanding, beyond which it waits for them.
const OUTSTANDING_MAX: usize = 8192;

/// What kind of requests go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Any number of them.
    Plain,
    /// One that another shard has sent away for this once, behind ASKING; alone.
    Asking,
    /// WATCH, alone; whether the client watched nothing before.
    Watch { begins: bool },
    /// UNWATCH, alone.
    Unwatch,
    /// One that may block, alone. Whether it can be begun again elsewhere when it is ended there.
    Block { again: bool },
    /// MULTI, so many commands, EXEC: one reply. It is answered nil if the connection that watches for it is lost.
    Exec { queued: usize, watches: bool },
}

/// Whether keys are watched where they cannot be looked at from here: at the source whose front this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Elsewhere {
    /// None are.
    #[default]
    No,
    /// Some are.
    Yes,
    /// Some were, and nobody knows what has become of them: EXEC is answered as if they had changed.
    Lost,
}

/// Requests of one client, from one turn.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    pub(super) asks: Vec<Passed>,
    /// The shard of the source that they are for; 0 of a single server.
    pub(super) shard: u16,
    pub(super) db: u8,
    pub(super) resp: Resp,
    /// Their number: the ROLE behind them tells the offset of all up to it.
    pub(super) batch: u64,
    /// The client has this name now.
    pub(super) name: Option<Vec<u8>>,
}

impl Orders {
    /// Whether another database may be selected behind them, by a transaction.
    pub(super) fn selects(&self) -> bool {
        let mut after = self.asks.iter().filter_map(|passed| passed.after.as_ref());
        after.any(|after| after.select.is_some())
    }
}

/// One request of these.
#[derive(Debug)]
pub(super) struct Passed {
    /// Its place among the replies.
    pub(super) seq: u64,
    /// Where its bytes end.
    pub(super) end: usize,
    /// It is counted as under way already.
    pub(super) is_away: bool,
    pub(super) after: Option<Box<After>>,
}

/// What is to be done when the reply is there.
#[derive(Debug, Default)]
pub(super) struct After {
    /// This database was selected, unless the reply is an error or nil.
    pub(super) select: Option<u8>,
    /// A client that tracks must not keep what it was told of these keys: the source does not know of it.
    pub(super) keys: Vec<Box<[u8]>>,
    /// Keys are watched from here on, unless the reply is an error.
    pub(super) watches: bool,
}

/// The way to the task of a client.
struct Way {
    orders: UnboundedSender<Orders>,
    /// Bytes that it has not sent.
    load: Arc<AtomicUsize>,
    /// The number of the connection at the source; 0 without one.
    id: Arc<AtomicU64>,
    /// The name that the source knows the client by.
    name: Vec<u8>,
}

/// What a client has sent to a shard and heard of it: the last batch, the last of which the offset is known, and that offset.
#[derive(Clone, Copy, Default)]
struct Mark {
    sent: u64,
    known: u64,
    seen: u64,
}

/// A request that blocks.
pub(super) struct Blocking {
    pub(super) request: Request,
    /// Unix ms; None for ever.
    pub(super) until_ms: Option<u64>,
    pub(super) db: u8,
    /// Where it blocks; None: it has blocked here.
    pub(super) shard: Option<u16>,
    pub(super) seq: u64,
    /// It has been ended where it was, and waits to be begun again.
    pub(super) is_again: bool,
}

/// What a client has at the source.
#[derive(Default)]
pub struct Fronted {
    /// By shard.
    ways: Vec<(u16, Way)>,
    marks: Vec<(u16, Mark)>,
    /// The shard at which keys are watched.
    pub(super) watched_at: Option<u16>,
    /// The shard that was sent something last.
    last_shard: Option<u16>,
    /// The change of the shards as of which all that is outstanding was sent.
    pub(super) routes_epoch: u64,
    /// Of this turn.
    pending: Vec<Orders>,
    pub(super) is_listed: bool,
    /// Requests without a reply.
    pub(super) outstanding: usize,
    pub(super) blocks: Option<Blocking>,
    /// Since when a request waits for the stream, unix ms; 0 for none.
    pub(crate) waits_since_ms: u64,
}

impl Fronted {
    /// Whether all that the client has seen of a shard is no newer than this offset.
    pub(super) fn has_seen_at_most(&self, shard: u16, offset: u64) -> bool {
        let mark = self.marks.iter().find(|(number, _)| *number == shard);
        let mark = mark.map(|(_, mark)| *mark).unwrap_or_default();
        self.outstanding == 0 && mark.sent == mark.known && mark.seen <= offset
    }

    fn mark(&mut self, shard: u16) -> &mut Mark {
        let at = self.marks.iter().position(|(number, _)| *number == shard);
        let at = at.unwrap_or_else(|| {
            self.marks.push((shard, Mark::default()));
            self.marks.len() - 1
        });
        &mut self.marks[at].1
    }

    /// A shard has come to this offset with all batches up to this one.
    pub(super) fn know(&mut self, shard: u16, (batch, offset): (u64, u64)) {
        let mark = self.mark(shard);
        (mark.known, mark.seen) = (batch, offset);
    }

    /// The shard that was sent something last.
    pub(super) fn last_shard(&self) -> Option<u16> {
        self.last_shard
    }

    /// Whether it blocks, at the source or between two tries.
    pub(crate) fn blocks(&self) -> bool {
        self.blocks.is_some()
    }

    /// The connection to the source is of no more use, unless replies are to come by it.
    pub(super) fn leave(&mut self) {
        if self.outstanding == 0 && self.pending.is_empty() {
            self.ways.clear();
        }
    }

    /// The same of those to some shards.
    pub(super) fn leave_some(&mut self, leaves: impl Fn(u16) -> bool) {
        if self.outstanding == 0 && self.pending.is_empty() {
            self.ways.retain(|(shard, _)| !leaves(*shard));
        }
    }

    /// The place among the replies of a request that waits to be begun again.
    pub(super) fn again_seq(&self) -> Option<u64> {
        let blocks = self.blocks.as_ref().filter(|blocks| blocks.is_again)?;
        Some(blocks.seq)
    }

    /// The shard at which a connection blocks, and its number there.
    pub(super) fn blocks_there(&self) -> Option<(u16, u64)> {
        let blocks = self.blocks.as_ref().filter(|blocks| !blocks.is_again)?;
        let shard = blocks.shard?;
        let (_, way) = self.ways.iter().find(|(number, _)| *number == shard)?;
        let id = way.id.load(Relaxed);
        (id != 0).then_some((shard, id))
    }

    fn unsent_bytes(&self) -> usize {
        let pending = self.pending.iter().map(|orders| orders.bytes.len());
        let loads = self.ways.iter().map(|(_, way)| way.load.load(Relaxed));
        loads.sum::<usize>() + pending.sum::<usize>()
    }

    fn orders(&mut self, kind: Kind, shard: u16, (db, resp): (u8, Resp)) -> &mut Orders {
        self.last_shard = Some(shard);
        let last = self.pending.iter().rposition(|last| last.shard == shard);
        let joined = last.filter(|at| {
            let last = &self.pending[*at];
            (last.kind, kind) == (Kind::Plain, Kind::Plain) && (last.db, last.resp) == (db, resp)
        });
        let at = joined.unwrap_or_else(|| {
            let mark = self.mark(shard);
            mark.sent += 1;
            let batch = mark.sent;
            self.pending.push(Orders {
                kind,
                bytes: Vec::new(),
                asks: Vec::new(),
                shard,
                db,
                resp,
                batch,
                name: None,
            });
            self.pending.len() - 1
        });
        &mut self.pending[at]
    }
}

impl Connection {
    /// Whether a request of it can be passed on now. Not while one before it is under way here: what comes of this one
    /// could be here before that one has looked.
    pub(super) fn has_room_to_pass(&self) -> bool {
        let outstanding = self.outbound.outstanding();
        match &self.front {
            Some(front) if front.outstanding > 0 => {
                outstanding < OUTSTANDING_MAX && front.unsent_bytes() < QUEUED_BYTES_MAX
            }
            _ => outstanding == 0,
        }
    }

    /// Whether it waits for a key, here or at the source.
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some() || self.front.as_ref().is_some_and(|front| front.blocks())
    }

    /// Whether it watches keys at the source.
    pub(super) fn watches(&self) -> Elsewhere {
        let multi = self.multi.as_deref();
        multi.map_or(Elsewhere::No, |multi| multi.elsewhere)
    }
}

impl Core {
    /// Passes a request on, to a shard.
    pub(super) fn pass(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        (kind, shard): (Kind, u16),
    ) -> Flow {
        self.keep_text(row, args);
        let mut after = After::default();
        note_keys(conn, row, args, &mut after);
        if self.watchers.count > 0 {
            self.show(conn, row, args);
        }
        after.watches = matches!(kind, Kind::Watch { begins: true });
        let seq = self.begin_passing(conn, row);
        self.add(conn, (kind, shard), seq, after, |bytes| encode(args, bytes));
        match kind {
            Kind::Watch { .. } => {
                conn.front.get_or_insert_default().watched_at = Some(shard);
                let multi = conn.multi.get_or_insert_default();
                if multi.elsewhere == Elsewhere::No {
                    multi.elsewhere = Elsewhere::Yes;
                }
            }
            Kind::Unwatch => {
                if let Some(multi) = &mut conn.multi {
                    multi.elsewhere = Elsewhere::No;
                }
            }
            _ => {}
        }
        end_caching(conn);
        Flow::Done
    }

    /// Passes a request on that may block there; nothing that follows it begins before it is answered.
    pub(super) fn pass_blocking(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        (again, shard): (bool, u16),
    ) -> Flow {
        let (now_ms, db) = (self.now.unix_ms, conn.db);
        let flow = self.pass(conn, row, args, (Kind::Block { again }, shard));
        conn.exclusive = true;
        if let Some(front) = &mut conn.front
            && let Some(seq) = front.last_seq()
        {
            self.node.blocked.fetch_add(1, Relaxed);
            front.blocks = Some(Blocking {
                request: Request::new(row, args),
                until_ms: timeout::until_ms(row, args, now_ms),
                db,
                shard: Some(shard),
                seq,
                is_again: false,
            });
        }
        flow
    }

    /// Passes the queue of a transaction on, as one piece.
    pub(super) fn pass_exec(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        shard: u16,
    ) -> Flow {
        let Some(multi) = conn.multi.take() else {
            return Flow::Done;
        };
        let mut after = After::default();
        for request in &multi.queued {
            let args = request.args();
            self.keep_text(request.row, &args);
            note_keys(conn, request.row, &args, &mut after);
            if request.row.spec.name == "select" {
                after.select = selected(&args).or(after.select);
            }
            self.tally.called(request.row.index, 0);
            if self.watchers.count > 0 {
                self.show(conn, request.row, &args);
            }
        }
        // What comes behind it is for that database.
        conn.exclusive |= after.select.is_some();
        let seq = self.begin_passing(conn, row);
        let kind = Kind::Exec {
            queued: multi.queued.len(),
            watches: multi.elsewhere == Elsewhere::Yes,
        };
        self.add(conn, (kind, shard), seq, after, |bytes| {
            encode_all(&multi, bytes)
        });
        end_caching(conn);
        Flow::Done
    }

    /// A request that has been ended elsewhere goes on at the source, at its place among the replies.
    pub(super) fn pass_again(&mut self, conn: &mut Connection, left_ms: Option<u64>, shard: u16) {
        let Some(blocks) = conn.front.as_mut().and_then(|front| front.blocks.as_mut()) else {
            return;
        };
        blocks.is_again = false;
        blocks.shard = Some(shard);
        let words = (blocks.request.buf.clone(), blocks.request.words.clone());
        let (row, seq, db) = (blocks.request.row, blocks.seq, blocks.db);
        let (buf, words) = words;
        let mut request = Request { row, buf, words };
        if let Some(left_ms) = left_ms {
            request = timeout::with_left(request, left_ms);
        }
        let selected = core::mem::replace(&mut conn.db, db);
        let kind = Kind::Block { again: true };
        let after = After::default();
        self.add(conn, (kind, shard), seq, after, |bytes| {
            encode(&request.args(), bytes);
        });
        conn.db = selected;
    }

    /// The shard to which a request goes that waits to be begun again; None: its keys are this node's.
    pub(super) fn shard_again(&mut self, conn: &Connection) -> Option<u16> {
        self.look_at_routes();
        let blocks = conn.front.as_ref().and_then(|front| front.blocks.as_ref());
        let placed = blocks
            .map(|blocks| self.place_in_front(conn, blocks.request.row, &blocks.request.args()));
        match placed {
            Some(Ok(Place::Ours)) => None,
            Some(Ok(Place::Shard(shard, _))) => Some(shard),
            // (What cannot be placed is refused there.)
            _ => Some(0),
        }
    }

    /// A request that a shard has sent away goes to the one that it named.
    pub(super) fn pass_away(
        &mut self,
        conn: &mut Connection,
        seq: u64,
        away: Away,
        after: Option<Box<After>>,
    ) {
        let place = (conn.db, conn.resp);
        let front = conn.front.get_or_insert_default();
        let kind = match away.is_once {
            true => Kind::Asking,
            false => Kind::Plain,
        };
        let orders = front.orders(kind, away.to, place);
        if away.is_once {
            request::encode(&["ASKING"], &mut orders.bytes);
        }
        orders.bytes.extend_from_slice(&away.bytes);
        orders.asks.push(Passed {
            seq,
            end: orders.bytes.len(),
            is_away: true,
            after,
        });
        if !core::mem::replace(&mut front.is_listed, true) {
            self.front.listed.push(conn.conn);
        }
    }

    /// A request is about to be passed on: its place among the replies.
    fn begin_passing(&mut self, conn: &mut Connection, row: &'static Row) -> u64 {
        conn.last = Some(row);
        self.tally.called(row.index, 0);
        self.node.front.passed_on.fetch_add(1, Relaxed);
        conn.later(&mut self.queues)
    }

    /// Adds a request to what leaves with this turn.
    fn add(
        &mut self,
        conn: &mut Connection,
        (kind, shard): (Kind, u16),
        seq: u64,
        after: After,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let front = conn.front.get_or_insert_default();
        if front.outstanding == 0 {
            front.routes_epoch = self.front.routes_epoch;
        }
        front.outstanding += 1;
        let orders = front.orders(kind, shard, (conn.db, conn.resp));
        encode(&mut orders.bytes);
        let is_needed = after.select.is_some() || !after.keys.is_empty() || after.watches;
        orders.asks.push(Passed {
            seq,
            end: orders.bytes.len(),
            is_away: false,
            after: is_needed.then(|| Box::new(after)),
        });
        if !core::mem::replace(&mut front.is_listed, true) {
            self.front.listed.push(conn.conn);
        }
    }

    /// The text of a script that the source is to know: this node knows it too when clients come to it by its digest.
    fn keep_text(&mut self, row: &'static Row, args: &Args<'_>) {
        let word = match row.kind {
            RowKind::Script(crate::scripts::Kind::Eval) => args.word(1),
            _ if row.spec.name == "script|load" => args.word(2),
            _ => None,
        };
        if let Some(text) = word {
            crate::scripts::keep_text(self, text);
        }
    }
}

impl Fronted {
    fn last_seq(&self) -> Option<u64> {
        Some(self.pending.last()?.asks.last()?.seq)
    }
}

impl NodeService {
    /// What the clients of this core have passed on in this turn leaves.
    pub(super) fn send_orders(&mut self) {
        for conn in core::mem::take(&mut self.core.front.listed) {
            let core = self.core.id;
            let node = self.core.node;
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            let name = client.names.as_ref().map_or(&[][..], |names| &names.name);
            let Some(front) = &mut client.front else {
                continue;
            };
            front.is_listed = false;
            let pending = core::mem::take(&mut front.pending);
            let mut unsent = Vec::new();
            for mut orders in pending {
                let shard = orders.shard;
                let known = front.ways.iter().position(|(number, _)| *number == shard);
                let known = known.map(|at| front.ways.swap_remove(at).1);
                let way = known.or_else(|| open(node, (core, conn), shard));
                let Some(mut way) = way else {
                    unsent.extend(orders.asks);
                    continue;
                };
                if way.name != name {
                    way.name = name.to_vec();
                    orders.name = Some(name.to_vec());
                }
                // (Before it can be answered.)
                way.load.fetch_add(orders.bytes.len(), AcqRel);
                let new = orders.asks.iter().filter(|passed| !passed.is_away);
                let new = new.count() as u64;
                node.front.under_way.fetch_add(new, AcqRel);
                match way.orders.send(orders) {
                    Ok(()) => front.ways.push((shard, way)),
                    Err(back) => {
                        node.front.under_way.fetch_sub(new, AcqRel);
                        unsent.extend(back.0.asks);
                    }
                }
            }
            let away = unsent.iter().filter(|passed| passed.is_away).count();
            node.front.under_way.fetch_sub(away as u64, AcqRel);
            for passed in unsent {
                self.end_passed(conn, passed.seq);
                let seq = passed.seq;
                self.complete(Ticket { core, conn, seq }, core, &refusal(NOT_SENT));
            }
        }
    }
}

/// A task for a client and a shard; none without the thread.
fn open(
    node: &'static crate::node::Node,
    place: crate::tracking::Place,
    shard: u16,
) -> Option<Way> {
    let (orders, received) = unbounded_channel();
    let (load, id) = (Arc::default(), Arc::default());
    let seat = Seat {
        place,
        shard,
        orders: received,
        load: Arc::clone(&load),
        id: Arc::clone(&id),
    };
    let is_told = node.front.tell(Message::Serve(seat));
    is_told.then_some(Way {
        orders,
        load,
        id,
        name: Vec::new(),
    })
}

/// The keys of a read of a client that tracks: it may keep only what this node has read for it.
fn note_keys(conn: &Connection, row: &Row, args: &Args<'_>, after: &mut After) {
    let tracks = conn.tracking.as_deref();
    if row.writes || !tracks.is_some_and(tells) {
        return;
    }
    // A request whose keys cannot be told is refused where it is executed.
    let _ = row.spec.keys_of(args, |index, _| {
        after.keys.extend(args.word(index).map(Box::from));
    });
}

fn tells(tracking: &Tracking) -> bool {
    tracking.mode == Mode::Broadcast || tracking.remembers()
}

/// CLIENT CACHING was about this request.
fn end_caching(conn: &mut Connection) {
    if let Some(tracking) = &mut conn.tracking {
        tracking.caching = None;
    }
}

/// The database that a SELECT chooses, if it is a number that one may have.
fn selected(args: &Args<'_>) -> Option<u8> {
    let db = protocol::number::parse_i64(args.word(1)?)?;
    u8::try_from(db).ok()
}

fn encode(args: &Args<'_>, out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = (0..args.total()).filter_map(|at| args.word(at)).collect();
    request::encode(&words, out);
}

fn encode_all(multi: &Multi, out: &mut Vec<u8>) {
    request::encode(&["MULTI"], out);
    for request in &multi.queued {
        encode(&request.args(), out);
    }
    request::encode(&["EXEC"], out);
}
