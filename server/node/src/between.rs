//! Hot path. What goes between cores: requests and replies, transactions, questions to all.

use protocol::{Args, Reply};
use runtime::CoreId;
use storage::Slot;

use crate::admin::{info, latency};
use crate::commandlog::{Client, sign};
use crate::connection::Connection;
use crate::core::{Core, Scope};
use crate::gather::Join;
use crate::mail::{Ask, Batch, Head, Mail, Replies, Ticket};
use crate::scripts::{Caller, Ended};
use crate::service::NodeService;
use crate::table::{Kind, Plan, Row};
use crate::tracking::Place;
use crate::transaction::Job;

impl NodeService {
    /// Asks every core; the connection is put back, since it may be one of those asked about.
    pub(crate) fn ask(&mut self, current: &mut Option<Box<Connection>>, ask: Ask, join: Join) {
        let Some(client) = current else { return };
        let ticket = self.core.begin_gather(client, join);
        let cores = self.core.node.cores();
        self.put_back(current);
        for core in (0..cores as u16)
            .map(CoreId)
            .filter(|core| *core != self.core.id)
        {
            self.core.posts.push((
                core,
                Mail::Ask {
                    from: ticket,
                    ask: ask.clone(),
                },
            ));
        }
        if let Ask::Sleep(_) = ask {
            // The others must hear of it before this core sleeps.
            let again = Mail::Ask { from: ticket, ask };
            self.core.posts.push((self.core.id, again));
        } else {
            self.on_ask(ticket, ask);
        }
    }

    /// Every core runs a request on its own slots.
    pub(crate) fn spread(
        &mut self,
        client: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        join: Join,
    ) {
        let ticket = self.core.begin_gather(client, join);
        let cores = self.core.node.cores();
        for core in (0..cores as u16).map(CoreId) {
            let head = Head {
                ticket,
                row,
                words: 0..0,
                db: client.db,
                resp: client.resp,
                own_port: client.own_port,
                no_touch: client.no_touch,
                key: None,
            };
            if core == self.core.id {
                let mut batch = Box::<Batch>::default();
                batch.push(args, head);
                self.core.unparked.push_back(batch);
            } else {
                self.core.forward(core, args, head);
            }
        }
    }

    /// A reply, or a part of one, for a connection of this core.
    pub(crate) fn complete(&mut self, ticket: Ticket, from: CoreId, reply: &[u8]) {
        // (A slot that nobody waits for is no connection's: see `tell_all`.)
        let Some(client) = self.clients.get_mut(ticket.conn) else {
            return;
        };
        if let Some(gather) = client
            .gather
            .as_mut()
            .filter(|gather| gather.seq == ticket.seq)
        {
            gather.parts.push((from.0, reply.to_vec()));
            gather.left -= 1;
            if gather.left > 0 {
                return;
            }
            if let Some(gather) = client.gather.take() {
                if matches!(gather.join, Join::Watch) {
                    note_versions(client, &gather.parts);
                }
                let reply = match &gather.join {
                    Join::Redirect(redirect) => {
                        let found = Self::end_redirect(
                            &mut self.core,
                            client,
                            *redirect.clone(),
                            &gather.parts,
                        );
                        let mut out = Vec::new();
                        let mut reply = Reply::new(&mut out, client.resp);
                        if found {
                            reply.ok();
                        } else {
                            reply.error(&crate::admin::tracking::NO_SUCH_CLIENT);
                        }
                        out
                    }
                    Join::Info(sections) => info::reply(&self.core, *sections, client.resp),
                    Join::Histograms(names) => latency::histograms(&self.core, names, client.resp),
                    _ => gather.finish(client.resp, &mut self.core.rng),
                };
                client.outbound.complete(ticket.seq, &reply);
            }
        } else {
            if client.outbound.out.capacity() == 0 {
                client.outbound.out = self.core.buffer();
            }
            client.outbound.complete(ticket.seq, reply);
        }
        if client.outbound.outstanding() == 0 {
            client.exclusive = false;
            self.core.end_wait(client);
            client.outbound.relax(&mut self.core.queues);
            if client.stalled {
                self.core.resume.push(ticket.conn);
            }
        }
        if !client.dirty && (client.closing || !client.outbound.out.is_empty()) {
            client.dirty = true;
            self.dirty.push(ticket.conn);
        }
    }

    /// Sends a reply on its way, to this core or another.
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: &[u8]) {
        if ticket.core == self.core.id {
            self.complete(ticket, self.core.id, reply);
        } else {
            self.core
                .reply_to(ticket, |_, out| out.extend_from_slice(reply));
        }
    }

    pub(crate) fn on_mail(&mut self, mail: Mail) {
        match mail {
            // Run with this turn's own requests, when their keys are on their way.
            Mail::Requests(batch) => self.batches.push(batch),
            Mail::Replies(replies) => self.on_replies(replies),
            Mail::Schedule(schedule) => self.core.on_schedule(*schedule),
            Mail::Granted(granted) => {
                if let Some(tx) = self.core.on_granted(*granted) {
                    self.run_tx(tx);
                }
            }
            Mail::Refused { tx } => self.core.on_refused(tx),
            Mail::Cancel { tx } => self.core.on_cancel(tx),
            Mail::Return { tx, lent, by } => {
                if let Some(lent) = lent {
                    self.core.shard.take_back(lent);
                }
                self.core.release(tx);
                self.news(by);
            }
            Mail::Unwatch(keys) => {
                keys.iter()
                    .for_each(|(db, key)| self.core.shard.unwatch(*db, key));
            }
            Mail::Ask { from, ask } => self.on_ask(from, ask),
            Mail::Configured(_) => {
                // Changes of two cores may arrive in any order: the node's own is the last one.
                let config = self.core.node.config();
                self.core.configure(config);
                self.core.take_users();
            }
            Mail::Attempt(attempt) => self.on_attempt(*attempt),
            Mail::Enlist(waiter, word) => self.core.enlist(waiter, word),
            Mail::Delist(waiter) => self.core.delist(&waiter),
            Mail::Waits(waiter) => self.on_waits(waiter),
            Mail::Subscribed(core, topic, name, joins) => {
                self.core.pubsub.change(core, topic, &name, joins);
            }
            Mail::Track(db, name, reader, noted) => self.core.remember(db, name, reader, noted),
            Mail::Prefix(prefix, tracker, joins) => {
                self.core.change_prefix(prefix, tracker, joins);
            }
            Mail::Invalidate(invalidation) => self.core.invalidations.push(invalidation),
            Mail::Redirected(to, home, keys) => self.tell_invalid(to, Some(home), keys),
            Mail::Flushed => self.tell_flush(),
            Mail::RedirectBroken(conn) => self.redirect_broken(conn),
            Mail::Publish(message) => self.core.pass_on(&message),
            Mail::Message(message) => self.core.receive(message),
            Mail::Noted(unnamed) => {
                let mut entry = unnamed.entry;
                sign(&mut entry, self.clients.get_mut(unnamed.conn).as_deref());
                self.core.keep_note(unnamed.kind, entry);
            }
            Mail::Lines(lines) => self.show_lines(&lines),
            Mail::Stop => self.stopping = true,
        }
        self.news(None);
        self.settle();
    }

    /// Runs a request that came from elsewhere or was parked, or parks it (again).
    pub(crate) fn run_head(&mut self, batch: &Batch, head: &Head) {
        let args = batch.args(head);
        let held = match (head.row.plan, head.key) {
            _ if self.core.locks.is_empty() => None,
            (Plan::Single(_), Some((_, _, slot))) => self.core.locks.is_held(slot).then_some(slot),
            (Plan::Multi | Plan::Single(_), _) => {
                let mut slots = Vec::new();
                Core::slots_of(head.row, &args, &mut slots);
                self.core.held_slot(slots.into_iter())
            }
            _ => {
                let mut one = Box::<Batch>::default();
                one.push(
                    &args,
                    Head {
                        words: 0..0,
                        ..*head
                    },
                );
                self.core.start_wide(one);
                return;
            }
        };
        if let Some(slot) = held {
            let mut one = Box::<Batch>::default();
            one.push(
                &args,
                Head {
                    words: 0..0,
                    ..*head
                },
            );
            if let Err(one) = self.core.locks.park(slot, one) {
                self.core.unparked.push_back(one);
            }
            return;
        }
        let scope = if head.own_port {
            Scope::OwnPort
        } else {
            Scope::Core
        };
        let (row, first) = (head.row, batch.first_key(head));
        if head.ticket.core == self.core.id {
            let mut out = self.core.buffer();
            let to = (head.db, head.resp, scope);
            self.core
                .run_for(head.no_touch, row, args, to, first, &mut out);
            self.complete(head.ticket, self.core.id, &out);
            self.core.keep_buffer(out);
        } else {
            self.core.reply_to(head.ticket, |core, out| {
                let to = (head.db, head.resp, scope);
                core.run_for(head.no_touch, row, args, to, first, out);
            });
        }
        if self.core.noted.is_some() {
            let client = Client::Of(head.ticket.core, head.ticket.conn);
            self.core.note(row, &batch.args(head), client);
        }
        self.news(Some((head.ticket.core, head.ticket.conn)));
    }

    pub(crate) fn on_replies(&mut self, replies: Box<Replies>) {
        let mut at = 0;
        let from = replies.from;
        for (conn, seq, len) in &replies.parts {
            let ticket = Ticket {
                core: self.core.id,
                conn: *conn,
                seq: *seq,
            };
            self.complete(ticket, from, &replies.buf[at..at + len]);
            at += len;
        }
        self.core.keep_replies(replies);
    }

    /// Lets everything go on that can: parked requests first, then transactions in their order.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some(batch) = self.core.unparked.pop_front() {
                if let Some(head) = batch.heads.first() {
                    self.run_head(&batch, head);
                }
            } else if let Some(number) = self.core.ready.pop_front() {
                if let Some(number) = self.core.grant(number) {
                    self.run_tx(number);
                }
            } else if self.core.waiting.has_begun() {
                self.note_waits();
            } else {
                return;
            }
        }
    }

    /// What the request before has brought about is acted upon before the next one: those who wait for its keys are served.
    #[inline(always)]
    pub(crate) fn news(&mut self, by: Option<Place>) {
        if self.core.has_news() {
            self.tell_news(by);
        }
    }

    #[cold]
    fn tell_news(&mut self, by: Option<Place>) {
        let flushed = self.core.shard.take_flushed();
        if flushed {
            // One word for all keys.
            self.tell_flush();
            self.core.post_flush();
        }
        // Serving changes keys, too.
        self.serve_touched(by, !flushed);
        self.deliver_invalidations();
        if self.core.shard.has_events() {
            let events = self.core.shard.take_events();
            self.core.publish_events(events);
        }
        self.deliver_messages();
    }

    /// Runs a transaction that has all its slots.
    pub(crate) fn run_tx(&mut self, number: u64) {
        let Some((tx, guests)) = self.core.begin_tx(number) else {
            return;
        };
        let scope = self.core.tx_scope(&guests);
        let mut out = self.core.buffer();
        let client = Client::Of(tx.ticket.core, tx.ticket.conn);
        let by = (tx.ticket.core, tx.ticket.conn);
        self.core.begin_lap();
        let mut replied = true;
        match tx.job {
            Job::Block(attempt) => {
                self.run_attempt(*attempt, scope);
                replied = false;
            }
            Job::Again(waiter, request) => {
                self.run_waiter(&waiter, &request, scope);
                self.core.look_again(&waiter);
                replied = false;
            }
            Job::One {
                request,
                db,
                resp,
                no_touch,
            } if matches!(request.row.kind, Kind::Script(_)) => {
                let (user, tracker) = match self.clients.get_mut(tx.ticket.conn) {
                    Some(conn) => {
                        let caller = Caller::of(conn, self.core.id, scope);
                        (caller.user, caller.tracker)
                    }
                    None => (None, None),
                };
                let caller = Caller {
                    db,
                    resp,
                    scope,
                    own_port: false,
                    user,
                    tracker,
                };
                let (row, args) = (request.row, request.args());
                if self.core.run_script(row, args, caller, &mut out) == Ended::NeedsAll {
                    self.core.finish_tx(number, guests, by);
                    self.core.keep_buffer(out);
                    let slots: Vec<Slot> = (0..storage::SLOTS as u16).map(Slot).collect();
                    let needs = self.core.needs(&slots, Vec::new());
                    let job = Job::One {
                        request,
                        db,
                        resp,
                        no_touch,
                    };
                    self.core.start_tx(tx.ticket, job, needs);
                    return;
                }
            }
            Job::One {
                request,
                db,
                resp,
                no_touch,
            } => {
                let (row, args) = (request.row, request.args());
                let to = (db, resp, scope);
                self.core.run_for(no_touch, row, args, to, None, &mut out);
                self.core.note(request.row, &request.args(), client);
            }
            Job::Wide(batch) => {
                if let Some(head) = batch.heads.first() {
                    let scope = if head.own_port {
                        Scope::OwnPort
                    } else {
                        Scope::Core
                    };
                    self.core.run(
                        head.row,
                        batch.args(head),
                        (head.db, head.resp, scope),
                        None,
                        &mut out,
                    );
                    self.core.note(head.row, &batch.args(head), client);
                }
            }
            Job::Exec => {
                let mut current = self.clients.take(tx.ticket.conn);
                if let Some(client) = &mut current
                    && let Some(multi) = client.multi.take()
                {
                    if tx.unchanged {
                        self.core.run_queue(client, *multi, scope, &mut out);
                    } else {
                        self.core.abort_queue(client, *multi, &mut out);
                    }
                }
                self.put_back(&mut current);
            }
        }
        self.core.finish_tx(number, guests, by);
        if replied {
            self.reply(tx.ticket, &out);
        }
        self.core.keep_buffer(out);
        self.news(Some((tx.ticket.core, tx.ticket.conn)));
    }

    /// Answers a core that asks (perhaps this one), unless the answer is on a visit elsewhere: then later.
    pub(crate) fn on_ask(&mut self, from: Ticket, ask: Ask) {
        if let Ask::Peek(peek) = &ask
            && peek.must_wait(&self.core)
        {
            let again = Mail::Ask { from, ask };
            return self.core.posts.push((self.core.id, again));
        }
        let part = self.answer_ask(&ask);
        self.reply(from, &part);
    }

    pub(crate) fn answer_ask(&mut self, ask: &Ask) -> Vec<u8> {
        let mut out = Vec::new();
        let core = &mut self.core;
        match ask {
            Ask::ClientList(filter) => self.clients.list(filter, core.now.unix_ms, &mut out),
            Ask::ClientKill(filter) => {
                let killed = self.clients.matching(filter, core.now.unix_ms);
                for conn in &killed {
                    if let Some(client) = self.clients.get_mut(*conn) {
                        client.closing = true;
                    }
                    self.mark_dirty(*conn);
                }
                Reply::new(&mut out, protocol::Resp::V2).int(killed.len() as i64);
            }
            Ask::FindClient(id) => {
                let client = self.clients.iter().find(|client| client.id == *id);
                if let Some(client) = client {
                    out.extend_from_slice(&client.conn.to_u64().to_le_bytes());
                }
            }
            Ask::Unblock { id, error } => {
                let ended = self.unblock(*id, *error);
                Reply::new(&mut out, protocol::Resp::V2).int(i64::from(ended));
            }
            other => core.answer_ask(other, &mut out),
        }
        out
    }
}

/// Versions of watched keys have come.
fn note_versions(client: &mut Connection, parts: &[(u16, Vec<u8>)]) {
    let Some(multi) = &mut client.multi else {
        return;
    };
    for (core, part) in parts {
        let waiting = multi
            .watched
            .iter_mut()
            .filter(|watch| watch.version.is_none() && watch.core.0 == *core);
        for (watch, version) in waiting.zip(part.chunks_exact(8)) {
            watch.version = version.try_into().ok().map(u64::from_le_bytes);
        }
    }
}
