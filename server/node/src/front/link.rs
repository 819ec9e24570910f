//! One client's connection to the source: a task that sends its requests, in order, and takes the replies apart.
//!
//! ```text
//! Orders ──> todo ── SELECT, HELLO as needed, each awaited ──> out ──> socket
//!                                            expects ──────────────┐      │
//! Mail::Told <── told: replies, the offset that ROLE tells <───────┴─── skim
//! ```
//! It lives as long as its client's connection, and makes a new one to the source whenever there is something to be sent and none is there.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::answer::{Answer, AnswerParser};
use protocol::{Resp, request};
use tokio::sync::mpsc::UnboundedReceiver;

use super::pass::{After, Kind, Orders};
use super::shards::{KEPT_BYTES_MAX, Redirection, TRY_AGAIN, redirection_of};
use super::skim::Skim;
use super::told::{Away, Part, Told, What};
use super::wire::{self, Wire};
use super::{UNKNOWN, Upstream};
use crate::connection::Pieces;
use crate::mail::Mail;
use crate::node::Node;
use crate::tracking::Place;

/// What a request is answered that was never sent.
pub(super) const NOT_SENT: &str =
    "MASTERDOWN The source cannot be reached: the command was not executed.";
/// Bytes of one reply of the source.
const REPLY_BYTES_MAX: usize = 4 << 30;
/// A reply with more goes in pieces of this size, bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How long a core's full mailbox is left alone.
const POST_PAUSE: Duration = Duration::from_millis(1);

/// A refusal as it is sent.
pub(super) fn refusal(text: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 3);
    line.push(b'-');
    let one_line = |byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            byte
        }
    };
    line.extend(text.bytes().map(one_line));
    line.extend_from_slice(b"\r\n");
    line
}

/// What a task is made of.
pub(super) struct Seat {
    pub(super) place: Place,
    /// The shard of the source; 0 of a single server.
    pub(super) shard: u16,
    pub(super) orders: UnboundedReceiver<Orders>,
    /// Bytes that have been ordered and not been sent.
    pub(super) load: Arc<AtomicUsize>,
    /// The number of the connection at the source; 0 without one.
    pub(super) id: Arc<AtomicU64>,
}

/// What a reply will be to.
enum Expect {
    /// So many of which nobody hears.
    Skip(usize),
    /// A command that must succeed before more is sent: the database or version that holds then.
    Setup {
        db: Option<u8>,
        resp: Resp,
    },
    Reply(Asked),
    /// The offset behind this batch.
    Role(u64),
    /// The history that offsets are of.
    History,
}

/// A request that has been put on its way.
struct Asked {
    seq: u64,
    after: Option<Box<After>>,
    /// Where its bytes begin in all that was sent by the connection.
    begin: u64,
    /// It may block; whether it can be begun again.
    blocks: Option<bool>,
    /// Its bytes, if the source may send it away; empty: it cannot be sent on.
    kept: Vec<u8>,
}

/// A connection that has been greeted.
struct Link {
    node: &'static Node,
    shard: u16,
    /// Where it goes, of a shard of a cluster; None of a single server.
    to: Option<Arc<Upstream>>,
    /// The change of the shards as of which that has been looked at, and whether the shard is elsewhere now.
    routes_epoch: u64,
    is_stale: bool,
    /// Bytes of requests that are kept.
    kept_bytes: usize,
    wire: Wire,
    id: u64,
    /// The history that the source had when it was asked last; whether it is being asked.
    history: String,
    is_asking: bool,
    /// Replies of a batch have come, the offset behind it has not.
    is_inside: bool,
    /// The database that is selected there, if that is known.
    db: Option<u8>,
    resp: Resp,
    /// Keys are watched there; some were by a connection before this one.
    watches: bool,
    has_lost_watch: bool,
    is_setting_up: bool,
    /// What is to be sent, in pieces; whether each was ordered, and counts as load.
    out: VecDeque<(Vec<u8>, bool)>,
    /// Bytes of the first piece that have been sent; whether some may be kept by TLS.
    out_at: usize,
    is_unflushed: bool,
    queued: u64,
    sent: u64,
    expects: VecDeque<Expect>,
    skim: Skim,
    /// The reply that is arriving.
    reply: Vec<u8>,
    pieces: Vec<Vec<u8>>,
    piece_bytes: usize,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.node.front.upstreams.fetch_sub(1, Relaxed);
        let at = self.at();
        self.node.front.blocked().remove(&at);
    }
}

struct Task {
    node: &'static Node,
    seat: Seat,
    todo: VecDeque<Orders>,
    link: Option<Link>,
    told: Told,
    /// Requests that `told` answers.
    answered: u64,
    name: Vec<u8>,
}

/// What a step has come to.
enum Step {
    /// Something has arrived.
    Moved,
    /// The client's connection is gone.
    Left,
    /// The connection to the source is.
    Lost(io::Error),
}

/// Serves one client until its connection ends.
pub(super) async fn serve(node: &'static Node, seat: Seat) {
    let mut task = Task {
        node,
        seat,
        todo: VecDeque::new(),
        link: None,
        told: Told::default(),
        answered: 0,
        name: Vec::new(),
    };
    loop {
        if task.link.is_none() && !task.connect().await {
            break;
        }
        match task.step().await {
            Step::Moved => {}
            Step::Left => break,
            Step::Lost(why) => task.lose(&why),
        }
        if !task.tell().await {
            break;
        }
    }
    task.end();
}

impl Task {
    /// Waits for something to be sent and makes a connection for it; false when the client has left.
    async fn connect(&mut self) -> bool {
        if self.todo.is_empty() {
            match self.seat.orders.recv().await {
                Some(orders) => self.todo.push_back(orders),
                None => return false,
            }
        }
        if let Some(name) = self.todo.front_mut().and_then(|orders| orders.name.take()) {
            self.name = name;
        }
        let resp = self.todo.front().map_or(Resp::V2, |orders| orders.resp);
        match wire::greet(self.node, self.seat.shard, &self.name, resp).await {
            Ok(greeted) => {
                self.seat.id.store(greeted.id, Relaxed);
                self.link = Some(Link::new(self.node, self.seat.shard, greeted, resp));
            }
            Err(why) => self.fail(&why),
        }
        true
    }

    /// No connection could be made: what was to be sent is answered.
    fn fail(&mut self, why: &io::Error) {
        let front = &self.node.front;
        front.failures.fetch_add(1, Relaxed);
        let text = format!("{NOT_SENT} ({why})");
        self.refuse_todo(&text);
    }

    fn refuse_todo(&mut self, text: &str) {
        let reply = refusal(text);
        while let Some(orders) = self.todo.pop_front() {
            self.refuse(orders, &reply);
        }
    }

    /// The source does not have that database, or version: what needs it is answered.
    fn refuse_setup(&mut self, text: &str) {
        let reply = refusal(text);
        let needs = |orders: &Orders| (orders.db, orders.resp);
        let first = self.todo.front().map(needs);
        while let Some(orders) = self
            .todo
            .pop_front_if(|orders| Some(needs(orders)) == first)
        {
            self.refuse(orders, &reply);
        }
    }

    fn refuse(&mut self, orders: Orders, reply: &[u8]) {
        self.seat.load.fetch_sub(orders.bytes.len(), AcqRel);
        for passed in orders.asks {
            self.told.short(passed.seq, reply, None);
            self.answered += 1;
        }
    }

    /// The connection is lost: what was on its way is answered.
    fn lose(&mut self, why: &io::Error) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        let front = &self.node.front;
        if !link.expects.is_empty() {
            let text = format!("The connection of a client to the source was lost: {why}");
            self.node.log(|log| log.notice(&text));
            front.failures.fetch_add(1, Relaxed);
            // What was under way may have been executed behind the offsets that are known.
            front.saw(self.seat.shard, u64::MAX);
        }
        let ordered = link.out.iter().filter(|(_, ordered)| *ordered);
        let unsent: usize = ordered.map(|(piece, _)| piece.len()).sum();
        self.seat.load.fetch_sub(unsent, AcqRel);
        for expect in link.expects.drain(..) {
            let Expect::Reply(asked) = expect else {
                continue;
            };
            let text = if asked.begin < link.sent {
                front.unknown.fetch_add(1, Relaxed);
                UNKNOWN
            } else {
                NOT_SENT
            };
            self.told.short(asked.seq, &refusal(text), None);
            self.answered += 1;
        }
    }

    /// Moves what can be moved, and waits until something has arrived.
    async fn step(&mut self) -> Step {
        poll_fn(|cx| self.poll_step(cx)).await
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match self.seat.orders.poll_recv(cx) {
                Poll::Ready(Some(orders)) => self.todo.push_back(orders),
                Poll::Ready(None) => return Poll::Ready(Step::Left),
                Poll::Pending => break,
            }
        }
        let Some(link) = &mut self.link else {
            return Poll::Ready(Step::Moved);
        };
        link.look_at_shard();
        if link.is_stale && link.expects.is_empty() && !self.todo.is_empty() {
            // What follows goes to where the shard is now.
            self.link = None;
            return Poll::Ready(Step::Moved);
        }
        let answered = link.take_orders(&mut self.todo, &mut self.told, &self.seat.load);
        self.answered += answered;
        if let Err(why) = link.poll_send(cx, &self.seat.load) {
            return Poll::Ready(Step::Lost(why));
        }
        if answered > 0 {
            return Poll::Ready(Step::Moved);
        }
        let mut arrived = Vec::new();
        match link
            .wire
            .poll_read(cx, |bytes| arrived.extend_from_slice(bytes))
        {
            Poll::Ready(Ok(0)) => Poll::Ready(Step::Lost(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(_)) => Poll::Ready(match self.take_bytes(&arrived) {
                Ok(()) => Step::Moved,
                Err(why) => Step::Lost(why),
            }),
            Poll::Ready(Err(why)) => Poll::Ready(Step::Lost(why)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes apart what has arrived.
    fn take_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(link) = &mut self.link else {
                return Ok(());
            };
            let fed = link.skim.feed(bytes);
            let (taken, is_whole) =
                fed.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            link.gather(&bytes[..taken])?;
            bytes = &bytes[taken..];
            if is_whole {
                self.take_reply()?;
            }
        }
        Ok(())
    }

    /// A reply is complete.
    fn take_reply(&mut self) -> io::Result<()> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let reply = core::mem::take(&mut link.reply);
        let mut pieces = core::mem::take(&mut link.pieces);
        link.piece_bytes = 0;
        let mark = pieces.first().unwrap_or(&reply).first().copied();
        if mark == Some(b'>') {
            // A message: nobody has asked for one.
            return Ok(());
        }
        let away = link.redirection(&reply);
        let Some(expect) = link.expects.pop_front() else {
            let why = "a reply that nobody has asked for";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        match expect {
            Expect::Skip(left) => {
                // (Of a transaction, which is refused as a whole then.)
                let _known = away.and_then(|to| self.node.front.redirected(&to));
                if left > 1 {
                    link.expects.push_front(Expect::Skip(left - 1));
                }
            }
            Expect::Setup { .. } if mark == Some(b'-') => {
                link.is_setting_up = false;
                let text = String::from_utf8_lossy(&reply[1..]);
                let text = text.trim_end().to_owned();
                self.refuse_setup(&text);
            }
            Expect::Setup { db, resp } => {
                (link.db, link.resp, link.is_setting_up) = (db, resp, false);
            }
            Expect::Role(batch) => {
                let (front, shard) = (&self.node.front, link.shard);
                let is_known = front.is_of_history(self.node, shard, &link.history);
                let offset = if is_known {
                    offset_of(&reply)
                } else {
                    u64::MAX
                };
                link.is_inside = false;
                self.node.front.saw(shard, offset);
                self.told.known = Some((batch, offset));
                if !is_known && !core::mem::replace(&mut link.is_asking, true) {
                    link.say(&wire::ASK_HISTORY, Expect::History);
                }
            }
            Expect::History => {
                link.is_asking = false;
                if let Ok(Some((answer, _))) = AnswerParser::default().parse(&reply) {
                    link.history = wire::history_of(&answer);
                }
            }
            Expect::Reply(asked) => {
                self.answered += 1;
                link.is_inside = true;
                link.kept_bytes -= asked.kept.len();
                if let Some(to) = away {
                    self.send_away(asked, &to, &reply);
                } else if asked
                    .blocks
                    .is_some_and(|again| link.was_ended(again, &reply))
                {
                    let (seq, what, after) = (asked.seq, What::Again, None);
                    self.told.parts.push(Part { seq, what, after });
                } else if pieces.is_empty() {
                    self.told.short(asked.seq, &reply, asked.after);
                } else {
                    pieces.push(reply);
                    let (seq, what, after) = (asked.seq, What::Large(Pieces(pieces)), asked.after);
                    self.told.parts.push(Part { seq, what, after });
                }
            }
        }
        Ok(())
    }

    /// The source has sent a request away, unexecuted.
    fn send_away(&mut self, asked: Asked, to: &Redirection, reply: &[u8]) {
        let shard = self.node.front.redirected(to);
        if let Some(link) = self.link.as_ref().filter(|_| asked.blocks.is_some()) {
            link.was_ended(false, reply);
        }
        match shard.filter(|_| !asked.kept.is_empty()) {
            Some(to_shard) => {
                // (It is under way until the core has sent it on.)
                self.answered -= 1;
                let what = What::Away(Away {
                    to: to_shard,
                    is_once: to.is_once,
                    bytes: asked.kept,
                });
                let (seq, after) = (asked.seq, asked.after);
                self.told.parts.push(Part { seq, what, after });
            }
            None => self.told.short(asked.seq, &refusal(TRY_AGAIN), asked.after),
        }
    }

    /// Tells the core what there is to tell; false when it has left. Replies wait for the offset behind them, which comes with them as a rule: who
    /// has one may tell others, and these must not read here what is older.
    async fn tell(&mut self) -> bool {
        let waits = self.link.as_ref().is_some_and(|link| link.is_inside);
        if self.told.is_empty() || waits {
            return true;
        }
        let mut told = core::mem::take(&mut self.told);
        told.shard = self.seat.shard;
        let (core, conn) = self.seat.place;
        told.conn = Some(conn);
        let Some(handle) = self.node.handle() else {
            return false;
        };
        let mut mail = Mail::Told(Box::new(told));
        while let Err(back) = handle.post(core, mail) {
            if self.node.stopping.load(Relaxed) || self.seat.orders.is_closed() {
                return false;
            }
            mail = back;
            tokio::time::sleep(POST_PAUSE).await;
        }
        self.count_answered();
        true
    }

    fn count_answered(&mut self) {
        let answered = core::mem::take(&mut self.answered);
        self.node.front.under_way.fetch_sub(answered, AcqRel);
    }

    /// The client has gone: nothing of it is under way any more.
    fn end(mut self) {
        self.seat.orders.close();
        let expects = self.link.iter().flat_map(|link| &link.expects);
        let replies = expects.filter(|expect| matches!(expect, Expect::Reply(_)));
        self.answered += replies.count() as u64;
        while let Ok(orders) = self.seat.orders.try_recv() {
            self.todo.push_back(orders);
        }
        let todo = self.todo.iter().map(|orders| orders.asks.len() as u64);
        self.answered += todo.sum::<u64>();
        self.count_answered();
    }
}

impl Link {
    fn new(node: &'static Node, shard: u16, greeted: wire::Greeted, resp: Resp) -> Link {
        node.front.upstreams.fetch_add(1, Relaxed);
        let to = greeted.to.filter(|_| node.front.routes().is_some());
        Link {
            node,
            shard,
            to,
            routes_epoch: 0,
            is_stale: false,
            kept_bytes: 0,
            wire: greeted.wire,
            id: greeted.id,
            history: greeted.history,
            is_asking: false,
            is_inside: false,
            db: Some(0),
            resp,
            watches: false,
            has_lost_watch: false,
            is_setting_up: false,
            out: VecDeque::new(),
            out_at: 0,
            is_unflushed: false,
            queued: 0,
            sent: 0,
            expects: VecDeque::new(),
            skim: Skim::default(),
            reply: Vec::new(),
            pieces: Vec::new(),
            piece_bytes: 0,
        }
    }

    /// The shard and the number of the connection there.
    fn at(&self) -> (u16, u64) {
        (self.shard, self.id)
    }

    /// Whether the shard is where it was when the connection was made.
    fn look_at_shard(&mut self) {
        let front = &self.node.front;
        let epoch = front.routes_epoch.load(Acquire);
        if let Some(to) = &self.to
            && self.routes_epoch != epoch
        {
            self.routes_epoch = epoch;
            self.is_stale = front.upstream(self.shard).is_none_or(|now| now != *to);
        }
    }

    /// Whether a reply sends a request away.
    fn redirection(&self, reply: &[u8]) -> Option<Redirection> {
        let to = self.to.as_ref();
        let to = to.filter(|_| reply.first() == Some(&b'-'))?;
        redirection_of(reply, &to.host)
    }

    fn push(&mut self, bytes: Vec<u8>, ordered: bool) {
        self.queued += bytes.len() as u64;
        self.out.push_back((bytes, ordered));
    }

    fn say(&mut self, words: &[&[u8]], expect: Expect) {
        let mut bytes = Vec::new();
        request::encode(words, &mut bytes);
        self.push(bytes, false);
        self.expects.push_back(expect);
    }

    /// Puts on their way what may go. How many requests were answered without being sent.
    fn take_orders(
        &mut self,
        todo: &mut VecDeque<Orders>,
        told: &mut Told,
        load: &AtomicUsize,
    ) -> u64 {
        let mut answered = 0;
        while !self.is_setting_up
            && !self.is_stale
            && let Some(first) = todo.front()
        {
            let (db, resp) = (first.db, first.resp);
            if resp != self.resp {
                let version: &[u8] = if resp == Resp::V3 { b"3" } else { b"2" };
                self.say(&[b"HELLO", version], Expect::Setup { db: self.db, resp });
                self.is_setting_up = true;
            } else if Some(db) != self.db {
                let number = db.to_string();
                let expect = Expect::Setup { db: Some(db), resp };
                self.say(&[b"SELECT", number.as_bytes()], expect);
                self.is_setting_up = true;
            } else if let Some(orders) = todo.pop_front() {
                answered += self.take(orders, told, load);
            }
        }
        answered
    }

    fn take(&mut self, orders: Orders, told: &mut Told, load: &AtomicUsize) -> u64 {
        if let Some(name) = &orders.name {
            self.say(&[b"CLIENT", b"SETNAME", name], Expect::Skip(1));
        }
        let watched = self.watches;
        match orders.kind {
            Kind::Exec { watches: true, .. } if !watched || self.has_lost_watch => {
                self.has_lost_watch = false;
                // The connection that watched is lost: the keys may have changed.
                load.fetch_sub(orders.bytes.len(), AcqRel);
                let nil: &[u8] = if self.resp == Resp::V3 {
                    b"_\r\n"
                } else {
                    b"*-1\r\n"
                };
                let asks = orders.asks.len() as u64;
                for passed in orders.asks {
                    told.short(passed.seq, nil, passed.after);
                }
                return asks;
            }
            Kind::Exec { queued, watches } => {
                if watched && !watches {
                    // The client does so no more.
                    self.say(&[b"UNWATCH"], Expect::Skip(1));
                }
                (self.watches, self.has_lost_watch) = (false, false);
                if orders.selects() {
                    self.db = None;
                }
                self.expects.push_back(Expect::Skip(1 + queued));
            }
            Kind::Watch { begins } => {
                self.has_lost_watch = !begins && (self.has_lost_watch || !watched);
                if watched && begins {
                    // Of a transaction that the client has discarded.
                    self.say(&[b"UNWATCH"], Expect::Skip(1));
                }
                self.watches = true;
            }
            Kind::Unwatch => (self.watches, self.has_lost_watch) = (false, false),
            Kind::Asking => self.expects.push_back(Expect::Skip(1)),
            Kind::Plain | Kind::Block { .. } => {}
        }
        let blocks = match orders.kind {
            Kind::Block { again } => {
                self.begin_blocking();
                Some(again)
            }
            _ => None,
        };
        let base = self.queued;
        let mut begin = base;
        let is_kept = self.to.is_some() && orders.kind == Kind::Plain;
        let mut from = 0;
        for passed in orders.asks {
            let end = base + passed.end as u64;
            let bytes = orders.bytes.get(from..passed.end).unwrap_or_default();
            // (One that is sent away twice is the client's to send again.)
            let has_room =
                is_kept && !passed.is_away && self.kept_bytes + bytes.len() <= KEPT_BYTES_MAX;
            let kept = if has_room { bytes.to_vec() } else { Vec::new() };
            self.kept_bytes += kept.len();
            from = passed.end;
            self.expects.push_back(Expect::Reply(Asked {
                seq: passed.seq,
                after: passed.after,
                begin,
                blocks,
                kept,
            }));
            begin = end;
        }
        self.push(orders.bytes, true);
        self.say(&[b"ROLE"], Expect::Role(orders.batch));
        0
    }

    /// Sends what there is to send, as far as the socket takes it.
    fn poll_send(&mut self, cx: &mut Context<'_>, load: &AtomicUsize) -> io::Result<()> {
        while let Some((piece, ordered)) = self.out.front() {
            let Poll::Ready(written) = self.wire.poll_write(cx, &piece[self.out_at..]) else {
                return Ok(());
            };
            let written = written?;
            self.out_at += written;
            self.sent += written as u64;
            self.is_unflushed = true;
            if self.out_at == piece.len() {
                if *ordered {
                    load.fetch_sub(piece.len(), AcqRel);
                }
                self.out_at = 0;
                self.out.pop_front();
            }
        }
        if self.is_unflushed
            && let Poll::Ready(flushed) = self.wire.poll_flush(cx)
        {
            flushed?;
            self.is_unflushed = false;
        }
        Ok(())
    }

    /// Adds bytes to the reply that is arriving.
    fn gather(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reply.extend_from_slice(bytes);
        if self.reply.len() >= PIECE_BYTES {
            self.piece_bytes += self.reply.len();
            self.pieces.push(core::mem::take(&mut self.reply));
        }
        if self.piece_bytes > REPLY_BYTES_MAX {
            let why = "a reply is too large";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(())
    }

    /// A request that may block is about to be sent.
    fn begin_blocking(&mut self) {
        let mut blocked = self.node.front.blocked();
        let entry = blocked.entry(self.at()).or_default();
        entry.waits = true;
        // (An older question to end may still be on its way.)
        entry.asked = entry.asking > 0;
    }

    /// A request that may block has been answered: whether that is because it was asked to end, and it can be begun again.
    fn was_ended(&self, again: bool, reply: &[u8]) -> bool {
        let mut blocked = self.node.front.blocked();
        let entry = blocked.entry(self.at()).or_default();
        entry.waits = false;
        let was_asked = entry.asked;
        if entry.asking == 0 {
            blocked.remove(&self.at());
        }
        again && was_asked && matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n")
    }
}

/// The offset in a reply to ROLE; the largest there is if it has none, so that nothing is read here.
fn offset_of(reply: &[u8]) -> u64 {
    let parsed = AnswerParser::default().parse(reply);
    let Ok(Some((Answer::Array(parts), _))) = parsed else {
        return u64::MAX;
    };
    let at = match parts.first() {
        Some(Answer::Bulk(role)) if role == b"master" => 1,
        Some(Answer::Bulk(role)) if role == b"slave" => 4,
        _ => return u64::MAX,
    };
    match parts.get(at) {
        Some(Answer::Int(offset)) => u64::try_from(*offset).unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_role() {
        let table = [
            ("*3\r\n$6\r\nmaster\r\n:77\r\n*0\r\n", 77),
            (
                "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:5\r\n",
                5,
            ),
            ("*3\r\n$6\r\nmaster\r\n:-1\r\n*0\r\n", u64::MAX),
            ("-NOPERM no\r\n", u64::MAX),
            ("*1\r\n$8\r\nsentinel\r\n", u64::MAX),
        ];
        for (reply, offset) in table {
            assert_eq!(offset_of(reply.as_bytes()), offset, "{reply}");
        }
    }

    #[test]
    fn a_refusal_is_one_line() {
        assert_eq!(refusal("ERR a\r\nb"), b"-ERR a  b\r\n");
    }
}
