//! Clients that wait for keys: BLPOP and its kin, XREAD BLOCK; and those that wait for time alone (WAIT).
//!
//! ```text
//! the connection's core (home)            the cores of the keys
//! first try: here | Attempt ────────────> run; something there: the reply
//!                                         nothing: a Waiter joins the queue of each key, before the slots go home
//! timeout, UNBLOCK, closed: finish        the key changes: run for that key, in the order of arrival; reply
//! reply out: Forget ────────────────────> leaves the other queues
//! ```
//! A waiter is shared by all of its cores. Its state says who may answer: whoever turns FREE into BUSY tries, and then gives
//! it back or is DONE. So one element is never taken for two reasons, and no message has to be waited for. Queues are served
//! right after the request (or transaction) that changed the key, before the next one.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use commands::{Block, Refused, Run, Wait, Write};
use protocol::{Args, Group, Refusal, Reply, Resp};
use runtime::ConnId;
use storage::{Key, Slot, Value};

use crate::acl::User;
use crate::admin::replicas::NO_LOG;
use crate::connection::{Connection, Request};
use crate::core::{Core, Scope};
use crate::dispatch::Flow;
use crate::mail::{Mail, Ticket};
use crate::memory::name_bytes;
use crate::node::Node;
use crate::replicas::AckWait;
use crate::service::NodeService;
use crate::table::{Kind, Row};
use crate::tracking::Place;
use crate::transaction::Job;

const FREE: u8 = 0;
const BUSY: u8 = 1;
const DONE: u8 = 2;
/// A waiter that is being tried elsewhere when its time is over is looked at again after so long, ms.
const BUSY_LOOK_MS: u64 = 1;

/// The first try of a request that may wait.
pub struct Attempt {
    /// Where the reply goes.
    pub ticket: Ticket,
    /// The request.
    pub request: Request,
    /// The selected database.
    pub db: u8,
    /// The protocol of the reply.
    pub resp: Resp,
    /// The connection came by a core's own port.
    pub own_port: bool,
    /// The client's own words, where others stand in their place now (see [`Wait::words`]).
    pub shown: Option<Request>,
    /// Who asks: what the user may is looked at again when the request is served.
    pub user: Arc<User>,
}

/// A request that waits.
pub struct Waiter {
    pub(crate) attempt: Attempt,
    /// Words of the keys that it waits for; none when it waits for time alone.
    pub(crate) keys: Vec<usize>,
    /// Ticks that its tries have taken.
    pub(crate) ticks: AtomicU64,
    /// Until then, unix ms; None for ever.
    until_ms: Option<u64>,
    /// The reply when the time is over.
    timeout_reply: Vec<u8>,
    /// What it waits for of replicas and the log.
    log_wait: Option<AckWait>,
    state: AtomicU8,
}

/// Whether a waiter may be tried.
enum Taken {
    Yes,
    Busy,
    Done,
}

impl Waiter {
    /// A request that waits for time alone.
    pub fn for_time(attempt: Attempt, until_ms: Option<u64>, timeout_reply: Vec<u8>) -> Waiter {
        Waiter {
            attempt,
            keys: Vec::new(),
            ticks: AtomicU64::new(0),
            until_ms,
            timeout_reply,
            log_wait: None,
            state: AtomicU8::new(FREE),
        }
    }

    /// The same, which waits for acknowledgements, too.
    pub fn and_log(self, log_wait: Option<AckWait>) -> Waiter {
        Waiter { log_wait, ..self }
    }

    /// The reply when the time is over, or what was waited for has come.
    fn time_reply(&self, node: &Node) -> Cow<'_, [u8]> {
        match self.log_wait {
            None => Cow::Borrowed(&self.timeout_reply),
            Some(wait) => Cow::Owned(wait.reply(node)),
        }
    }

    /// Until when it waits, unix ms; None for ever.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        self.until_ms
    }

    /// Where the reply goes.
    pub fn ticket(&self) -> Ticket {
        self.attempt.ticket
    }

    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        let shown = self.attempt.shown.as_ref().map_or(0, Request::bytes);
        let request = self.attempt.request.bytes() + shown;
        size_of::<Waiter>()
            + request
            + self.timeout_reply.len()
            + self.keys.len() * size_of::<usize>()
    }

    fn turn(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    fn take(&self) -> Taken {
        match self.turn(FREE, BUSY) {
            Ok(_) => Taken::Yes,
            Err(BUSY) => Taken::Busy,
            Err(_) => Taken::Done,
        }
    }

    /// After a try that found nothing. Unless it has been abandoned meanwhile, others may try.
    pub(crate) fn give_back(&self) {
        let _abandoned = self.turn(BUSY, FREE);
    }

    /// Nobody tries any more; whether the caller is the one to answer.
    pub fn finish(&self) -> bool {
        self.turn(FREE, DONE).is_ok()
    }

    /// Whether its connection is gone, or it has been answered.
    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Its connection is gone, or it has been answered.
    pub(crate) fn end(&self) {
        self.state.store(DONE, Ordering::Release);
    }

    fn key(&self, word: usize) -> Option<Key<'_>> {
        let args = self.attempt.request.args();
        Some(Key::new(self.attempt.db, args.word(word)?))
    }

    /// The request for one of its keys alone.
    fn narrowed(&self, word: usize) -> Option<Request> {
        let block = block_of(self.attempt.request.row)?;
        let owned = (block.narrow)(&self.attempt.request.args(), word);
        (!owned.is_empty()).then(|| Request::of_words(self.attempt.request.row, &owned))
    }

    /// Whether a key with this value is one for the request: it waits for one type, and XREADGROUP hears of all that happens.
    fn is_for(&self, value: Option<Value<'_>>) -> bool {
        let row = self.attempt.request.row;
        if block_of(row).is_some_and(|block| block.on_removal) {
            return true;
        }
        matches!(
            (row.spec.group, value),
            (Group::List, Some(Value::List(_)))
                | (Group::SortedSet, Some(Value::Zset(_)))
                | (Group::Stream, Some(Value::Stream(_)))
        )
    }
}

/// Those who wait for one key, each with the key's word, in the order of their arrival.
type Queue = VecDeque<(Arc<Waiter>, usize)>;

/// Waiters of one core, by key.
#[derive(Default)]
pub struct Waiting {
    queues: HashMap<(u8, Box<[u8]>), Queue>,
    /// Keys whose waiters could not be tried in this turn.
    again: Vec<(u8, Box<[u8]>)>,
    /// Waits of connections of this core that have begun in this turn.
    begun: Vec<Arc<Waiter>>,
    /// Bytes of the queues, and of the waiters whose connections are here.
    pub(crate) bytes: usize,
}

impl Waiting {
    /// Whether a wait has begun that its connection does not know of.
    #[inline(always)]
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// All keys that somebody waits for are looked at in the next turn.
    pub(crate) fn look_at_all(&mut self) {
        let mut keys: Vec<_> = self.queues.keys().cloned().collect();
        // (The same order in every run of a simulation.)
        keys.sort_unstable();
        self.again.extend(keys);
    }

    /// Whether keys are to be looked at in the next turn.
    pub fn is_again(&self) -> bool {
        !self.again.is_empty()
    }
}

/// Bytes of a waiter in a queue.
const QUEUED_BYTES: usize = size_of::<(Arc<Waiter>, usize)>();

/// Bytes of a queue: the key's name in it, and among those that are followed.
fn queue_bytes(name: &[u8]) -> usize {
    2 * name_bytes(name)
}

/// Whether it is served by the key's end, too.
fn waits_for_end(waiter: &Waiter) -> bool {
    block_of(waiter.attempt.request.row).is_some_and(|block| block.on_removal)
}

fn has_who_waits_for_end(queue: &Queue) -> bool {
    queue.iter().any(|(waiter, _)| waits_for_end(waiter))
}

/// When waits of this core's connections end.
pub(crate) type Timers = BinaryHeap<Reverse<(u64, u64, u64)>>;

/// What came of a request that was run again.
#[derive(PartialEq, Eq)]
pub(crate) enum Again {
    /// It has been answered.
    Answered,
    /// It goes on waiting.
    Waits,
    /// It runs as soon as its slots are here.
    Later,
}

/// What a try came to.
pub(crate) enum Tried {
    Replied,
    Waits(Wait),
    Refused(Refusal),
}

pub(crate) fn block_of(row: &Row) -> Option<Block> {
    match row.kind {
        Kind::Data(Run::Block(block)) => Some(block),
        _ => None,
    }
}

impl Core {
    /// A request that may wait.
    pub fn block(&mut self, conn: &mut Connection, row: &'static Row, args: Args<'_>) -> Flow {
        let mut slots = Vec::new();
        Core::slots_of(row, &args, &mut slots);
        if self.config.cluster_enabled && slots.len() > 1 {
            return self.reject(conn, Some(row), &Refusal::CrossSlot);
        }
        let here = slots.iter().all(|slot| self.is_here(*slot));
        let is_free = here && self.held_slot(slots.iter().copied()).is_none();
        if !is_free && conn.outbound.outstanding() > 0 {
            return Flow::Stall;
        }
        let mut attempt = Attempt {
            ticket: Ticket {
                core: self.id,
                conn: conn.conn,
                seq: 0,
            },
            request: Request::new(row, &args),
            db: conn.db,
            resp: conn.resp,
            own_port: conn.own_port,
            shown: None,
            user: Arc::clone(&conn.user),
        };
        if !is_free {
            attempt.ticket = self.begin_exclusive(conn);
            self.attempt(attempt, slots);
            return Flow::Done;
        }
        let mut out = self.buffer();
        let scope = Scope::by(attempt.own_port);
        let (tried, ticks) = self.try_block(row, args, (conn.db, conn.resp, scope), &mut out);
        match tried {
            Tried::Replied => {
                self.count_served(row, ticks, out.len());
                self.answer(conn, |_, reply| reply.extend_from_slice(&out));
            }
            Tried::Refused(refusal) => {
                self.count_refused(row, ticks);
                let resp = conn.resp;
                self.answer(conn, |core, out| core.refuse(&refusal, resp, out));
            }
            Tried::Waits(wait) => {
                attempt.ticket = self.begin_exclusive(conn);
                self.begin_wait(attempt, wait, ticks);
            }
        }
        self.keep_buffer(out);
        Flow::Done
    }

    /// As `block`, of a request that has its place among the replies and keeps it.
    pub(crate) fn try_again(&mut self, conn: &Connection, request: Request, (seq, db): (u64, u8)) {
        let mut slots = Vec::new();
        Core::slots_of(request.row, &request.args(), &mut slots);
        let attempt = Attempt {
            ticket: Ticket {
                core: self.id,
                conn: conn.conn,
                seq,
            },
            request,
            db,
            resp: conn.resp,
            own_port: conn.own_port,
            shown: None,
            user: Arc::clone(&conn.user),
        };
        self.attempt(attempt, slots);
    }

    /// A first try where not all slots are here and free.
    fn attempt(&mut self, attempt: Attempt, slots: Vec<Slot>) {
        let mut owners = slots.iter().map(|slot| self.owner(*slot));
        let first = owners.next().unwrap_or(self.id);
        if first != self.id && owners.all(|owner| owner == first) {
            self.posts.push((first, Mail::Attempt(Box::new(attempt))));
            return;
        }
        let needs = self.needs(&slots, Vec::new());
        self.start_tx(attempt.ticket, Job::Block(Box::new(attempt)), needs);
    }

    /// Runs a request that may wait; what came of it, and the ticks that it took.
    pub(crate) fn try_block(
        &mut self,
        row: &'static Row,
        args: Args<'_>,
        (db, resp, scope): (u8, Resp, Scope),
        out: &mut Vec<u8>,
    ) -> (Tried, u64) {
        let Some(block) = block_of(row) else {
            return (Tried::Refused(Refusal::unknown_subcommand(&args)), 0);
        };
        let start = out.len();
        self.begin_lap();
        let mut cx = Write {
            edit: self.shard.edit(),
            db,
            reply: Reply::new(out, resp),
            rng: &mut self.rng,
            settings: &self.settings[scope as usize],
            first: None,
            wait: None,
        };
        let done = (block.run)(&mut cx, args);
        let wait = cx.wait;
        let ticks = self.end_lap(self.lap);
        let tried = match (done, wait) {
            (Err(Refused(refusal)), _) => {
                out.truncate(start);
                Tried::Refused(refusal)
            }
            (Ok(()), Some(wait)) => {
                out.truncate(start);
                Tried::Waits(wait)
            }
            (Ok(()), None) => Tried::Replied,
        };
        (tried, ticks)
    }

    /// A first try has found nothing. All slots are here: nothing can happen to its keys before their queues know of it.
    fn begin_wait(&mut self, mut attempt: Attempt, wait: Wait, ticks: u64) {
        if let Some(words) = &wait.words {
            let other = Request::of_words(attempt.request.row, words);
            attempt.shown = Some(core::mem::replace(&mut attempt.request, other));
        }
        let mut keys = Vec::new();
        let row = attempt.request.row;
        let args = attempt.request.args();
        // Its handler has found its keys.
        let _ = row.spec.keys_of(&args, |word, _| keys.push(word));
        if let Some(block) = block_of(row) {
            keys.retain(|word| !(block.narrow)(&args, *word).is_empty());
        }
        let mut timeout_reply = Vec::new();
        Reply::new(&mut timeout_reply, attempt.resp).null_array();
        let home = attempt.ticket.core;
        let waiter = Arc::new(Waiter {
            attempt,
            keys,
            ticks: AtomicU64::new(ticks),
            until_ms: wait.until_ms,
            timeout_reply,
            log_wait: None,
            state: AtomicU8::new(BUSY),
        });
        for word in &waiter.keys {
            let Some(key) = waiter.key(*word) else {
                continue;
            };
            let owner = self.owner(key.slot);
            if owner == self.id {
                self.enlist(Arc::clone(&waiter), *word);
            } else {
                let mail = Mail::Enlist(Arc::clone(&waiter), *word);
                self.posts.push((owner, mail));
            }
        }
        waiter.give_back();
        if home == self.id {
            self.waiting.begun.push(waiter);
        } else {
            self.posts.push((home, Mail::Waits(waiter)));
        }
    }

    /// A connection of this core waits for time alone.
    pub fn begin_timer(&mut self, waiter: Waiter) {
        let waiter = Arc::new(waiter);
        if waiter.log_wait.is_some() {
            self.log_waits.push(Arc::clone(&waiter));
        }
        self.waiting.begun.push(waiter);
    }

    /// A waiter joins the queue of a key of this core.
    pub fn enlist(&mut self, waiter: Arc<Waiter>, word: usize) {
        let Some(key) = waiter.key(word) else { return };
        self.shard.follow(&key);
        let name = (key.db, key.bytes.into());
        let queue = self.waiting.queues.entry(name).or_default();
        if queue.is_empty() {
            self.node.blocking_keys.fetch_add(1, Relaxed);
            self.waiting.bytes += queue_bytes(key.bytes);
        }
        self.waiting.bytes += QUEUED_BYTES;
        if waits_for_end(&waiter) && !has_who_waits_for_end(queue) {
            self.node.blocking_keys_on_nokey.fetch_add(1, Relaxed);
        }
        queue.push_back((Arc::clone(&waiter), word));
    }

    /// A waiter leaves the queues of this core's keys.
    pub fn delist(&mut self, waiter: &Arc<Waiter>) {
        for word in &waiter.keys {
            let Some(key) = waiter.key(*word) else {
                continue;
            };
            let name = (key.db, key.bytes.into());
            let Some(queue) = self.waiting.queues.get_mut(&name) else {
                continue;
            };
            let (before, had) = (queue.len(), has_who_waits_for_end(queue));
            queue.retain(|(other, at)| at != word || !Arc::ptr_eq(other, waiter));
            for _ in queue.len()..before {
                self.shard.unfollow(name.0, &name.1);
                self.waiting.bytes -= QUEUED_BYTES;
            }
            if had && !has_who_waits_for_end(queue) {
                self.node.blocking_keys_on_nokey.fetch_sub(1, Relaxed);
            }
            if queue.is_empty() {
                self.waiting.queues.remove(&name);
                self.waiting.bytes -= queue_bytes(&name.1);
                self.node.blocking_keys.fetch_sub(1, Relaxed);
            }
        }
    }

    /// A connection waits no more, if it did: it has been answered, or it is gone.
    #[inline]
    pub fn end_wait(&mut self, conn: &mut Connection) {
        if let Some(waiter) = conn.blocked.take() {
            self.node.blocked.fetch_sub(1, Relaxed);
            self.waiting.bytes -= waiter.bytes();
            if waiter.until_ms.is_some() {
                self.node.blocked_for_time.fetch_sub(1, Relaxed);
            }
            self.forget(&waiter);
        }
    }

    /// A request has been run again with slots of other cores: those behind it in its queues here come next.
    pub fn look_again(&mut self, waiter: &Arc<Waiter>) {
        for word in &waiter.keys {
            if let Some(key) = waiter.key(*word)
                && self.owner(key.slot) == self.id
            {
                self.waiting.again.push((key.db, key.bytes.into()));
            }
        }
    }

    /// A waiter has been answered or abandoned: the cores of its keys forget it.
    pub fn forget(&mut self, waiter: &Arc<Waiter>) {
        waiter.end();
        let mut told = Vec::new();
        for word in &waiter.keys {
            let Some(key) = waiter.key(*word) else {
                continue;
            };
            let owner = self.owner(key.slot);
            if owner != self.id && !told.contains(&owner) {
                told.push(owner);
                self.posts.push((owner, Mail::Delist(Arc::clone(waiter))));
            }
        }
        self.delist(waiter);
    }
}

impl NodeService {
    /// A first try that was sent here.
    pub(crate) fn on_attempt(&mut self, attempt: Attempt) {
        let row = attempt.request.row;
        if self.core.is_loading() && self.core.waits_for_data(row) {
            // The core of its client did not know yet.
            return self.refuse_request(attempt.ticket, row, attempt.resp, &Refusal::Loading);
        }
        let mut slots = Vec::new();
        Core::slots_of(row, &attempt.request.args(), &mut slots);
        if self.core.held_slot(slots.iter().copied()).is_some() {
            return self.core.attempt(attempt, slots);
        }
        let scope = Scope::by(attempt.own_port);
        self.run_attempt(attempt, scope);
    }

    /// The first try; all slots are here.
    pub(crate) fn run_attempt(&mut self, attempt: Attempt, scope: Scope) {
        let mut out = self.core.buffer();
        let (row, to) = (attempt.request.row, (attempt.db, attempt.resp, scope));
        let (tried, ticks) = self
            .core
            .try_block(row, attempt.request.args(), to, &mut out);
        match tried {
            Tried::Replied => self.core.count_attempt(&attempt, ticks, out.len()),
            Tried::Refused(refusal) => {
                self.core.count_refused(row, ticks);
                self.core.refuse(&refusal, attempt.resp, &mut out);
            }
            Tried::Waits(wait) => {
                self.core.keep_buffer(out);
                return self.core.begin_wait(attempt, wait, ticks);
            }
        }
        self.reply(attempt.ticket, &out);
        self.core.keep_buffer(out);
    }

    /// Waits that have begun: their connections know of them from now on.
    pub(crate) fn note_waits(&mut self) {
        for waiter in core::mem::take(&mut self.core.waiting.begun) {
            self.on_waits(waiter);
        }
    }

    /// A connection of this core waits.
    pub(crate) fn on_waits(&mut self, waiter: Arc<Waiter>) {
        let ticket = waiter.ticket();
        let client = self.clients.get_mut(ticket.conn);
        let Some(client) =
            client.filter(|client| client.outbound.awaits(ticket.seq) && !client.closed)
        else {
            return self.core.forget(&waiter);
        };
        if let Some(until_ms) = waiter.until_ms {
            self.timers
                .push(Reverse((until_ms, ticket.conn.to_u64(), ticket.seq)));
            self.core.node.blocked_for_time.fetch_add(1, Relaxed);
        }
        self.core.waiting.bytes += waiter.bytes();
        client.blocked = Some(waiter);
        self.core.node.blocked.fetch_add(1, Relaxed);
    }

    /// Ends waits whose time is over; returns when the next one is, unix ms.
    pub(crate) fn end_waits(&mut self, now_ms: u64) -> Option<u64> {
        while let Some(&Reverse((until_ms, conn, seq))) = self.timers.peek() {
            if until_ms > now_ms {
                return Some(until_ms);
            }
            self.timers.pop();
            let client = self.clients.get_mut(ConnId::from_u64(conn));
            let Some(waiter) = client.and_then(|client| client.blocked.clone()) else {
                continue;
            };
            if waiter.ticket().seq != seq {
                continue;
            }
            if waiter.finish() {
                self.core.count_unserved(&waiter);
                let reply = waiter.time_reply(self.core.node);
                self.complete(waiter.ticket(), self.core.id, &reply);
            } else {
                // It is being tried elsewhere: either its reply comes, or it is free again.
                self.timers
                    .push(Reverse((now_ms + BUSY_LOOK_MS, conn, seq)));
                return Some(now_ms + BUSY_LOOK_MS);
            }
        }
        None
    }

    /// Answers those who have waited for what the log and replicas have by now.
    #[cold]
    pub(crate) fn end_log_waits(&mut self) {
        let (node, core) = (self.core.node, self.core.id.index());
        let waits = core::mem::take(&mut self.core.log_waits);
        for waiter in waits {
            let lacks_log = waiter.log_wait.is_some_and(|wait| wait.lacks_log(node));
            if lacks_log && waiter.finish() {
                self.core.count_unserved(&waiter);
                let mut reply = Vec::new();
                self.core.refuse(&NO_LOG, waiter.attempt.resp, &mut reply);
                self.complete(waiter.ticket(), self.core.id, &reply);
                continue;
            }
            let is_due = |wait: AckWait| wait.is_due(node, core);
            if !waiter.log_wait.is_some_and(is_due) {
                if !waiter.is_done() {
                    self.core.log_waits.push(waiter);
                }
            } else if waiter.finish() {
                self.core.count_unserved(&waiter);
                self.complete(waiter.ticket(), self.core.id, &waiter.time_reply(node));
            }
        }
    }

    /// CLIENT UNBLOCK: whether the client waited and does so no more.
    pub(crate) fn unblock(&mut self, id: u64, error: bool) -> bool {
        let text = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
        self.unblock_with(id, error.then_some(text))
    }

    /// As `unblock`, with this error.
    pub(crate) fn unblock_with(&mut self, id: u64, error: Option<&'static str>) -> bool {
        let client = self.clients.iter().find(|client| client.id == id);
        let conn = client.map(|client| client.conn);
        let Some(waiter) = client.and_then(|client| client.blocked.clone()) else {
            return conn.is_some_and(|conn| self.unblock_in_front(conn, error.is_some()));
        };
        if !waiter.finish() {
            return false;
        }
        let mut reply = Vec::new();
        if let Some(text) = error {
            let refusal = Refusal::Text(text);
            self.core.tally.failed(waiter.attempt.request.row.index);
            self.core.refuse(&refusal, waiter.attempt.resp, &mut reply);
        } else {
            reply.extend_from_slice(&waiter.time_reply(self.core.node));
        }
        self.core.count_unserved(&waiter);
        self.complete(waiter.ticket(), self.core.id, &reply);
        true
    }

    /// Keys that are followed have changed: those who wait for them are served.
    #[cold]
    pub(crate) fn serve_touched(&mut self, by: Option<Place>, tells: bool) {
        loop {
            let told = self.core.shard.told();
            let touched = self.core.shard.take_touched();
            if touched.is_empty() {
                return;
            }
            for (at, touched) in touched.into_iter().enumerate() {
                if tells && at >= told {
                    self.core.tell_changed(&touched, by);
                }
                self.serve(touched.db, touched.key);
            }
        }
    }

    /// Tries once more what could not be tried in the turn before.
    pub(crate) fn serve_again(&mut self) {
        for (db, key) in core::mem::take(&mut self.core.waiting.again) {
            self.serve(db, key);
        }
    }

    /// Runs the requests that wait for a key, in the order of their arrival. While data is being read nobody is served: what has come may
    /// go again. (See `Core::update_holds`.)
    fn serve(&mut self, db: u8, name: Box<[u8]>) {
        if self.core.is_loading() {
            return;
        }
        let key = Key::new(db, &name);
        if !self.core.waiting.queues.contains_key(&(db, name.clone())) {
            return;
        }
        if self.core.locks.is_held(key.slot) {
            return self.core.waiting.again.push((db, name));
        }
        let mut at = 0;
        loop {
            let queue = self.core.waiting.queues.get(&(db, name.clone()));
            let Some((waiter, word)) = queue.and_then(|queue| queue.get(at)).cloned() else {
                return;
            };
            at += 1;
            if !waiter.is_for(self.core.shard.peek(&key)) {
                continue;
            }
            match waiter.take() {
                Taken::Yes => {}
                Taken::Busy => {
                    // It comes first: those behind it wait until it is known whether something is left for them.
                    return self.core.waiting.again.push((db, name));
                }
                Taken::Done => continue,
            }
            match self.try_waiter(waiter, word) {
                Again::Answered => at -= 1,
                Again::Waits => {}
                // Those behind it are looked at when that is over: see `Core::look_again`.
                Again::Later => return,
            }
        }
    }

    /// Runs a request that waits once more, because of one of its keys. The whole request, as Redis does; the one for that key
    /// alone if the slots of its other keys are not at hand, so that no other core has to be asked.
    fn try_waiter(&mut self, waiter: Arc<Waiter>, word: usize) -> Again {
        let scope = Scope::by(waiter.attempt.own_port);
        if self.is_at_hand(&waiter.attempt.request) {
            return self.run_waiter(&waiter, &waiter.attempt.request, scope);
        }
        let Some(request) = waiter.narrowed(word) else {
            waiter.give_back();
            return Again::Waits;
        };
        if self.is_at_hand(&request) {
            return self.run_waiter(&waiter, &request, scope);
        }
        let mut slots = Vec::new();
        Core::slots_of(request.row, &request.args(), &mut slots);
        let needs = self.core.needs(&slots, Vec::new());
        let job = Job::Again(waiter.clone(), request);
        self.core.start_tx(waiter.ticket(), job, needs);
        Again::Later
    }

    /// Whether all slots of a request are here and free.
    fn is_at_hand(&self, request: &Request) -> bool {
        let mut slots = Vec::new();
        Core::slots_of(request.row, &request.args(), &mut slots);
        slots.iter().all(|slot| self.core.is_here(*slot))
            && self.core.held_slot(slots.iter().copied()).is_none()
    }
}

#[cfg(test)]
mod tests;
