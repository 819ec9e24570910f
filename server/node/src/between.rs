//! Hot path. What goes between cores: requests and replies, transactions, questions to all.

use std::sync::atomic::Ordering::Relaxed;

use protocol::{Args, Refusal, Reply};
use runtime::CoreId;
use storage::{Shard, Slot};

use crate::admin::populate::Progress;
use crate::admin::{info, latency};
use crate::commandlog::{Client, sign};
use crate::connection::{Connection, Pieces, Request};
use crate::control::transfer::{self, Migration};
use crate::core::{Core, Scope};
use crate::gather::Join;
use crate::image::Work;
use crate::mail::{Ask, Batch, Head, Mail, Replies, Ticket};
use crate::scan::{Scan, Step};
use crate::scripts::Ended;
use crate::service::NodeService;
use crate::table::{Plan, Row};
use crate::tracking::Place;
use crate::transaction::{Job, Tx};

impl Core {
    /// Mail for each of the other cores.
    pub(crate) fn tell_others(&mut self, mail: impl Fn() -> Mail) {
        let others = (0..self.node.cores() as u16).map(CoreId);
        for core in others.filter(|core| *core != self.id) {
            self.posts.push((core, mail()));
        }
    }
}

/// What has become of a transaction that had all its slots.
enum Ran {
    /// It is over: its slots go home.
    Done,
    /// It has left no trace, and begins anew with every slot.
    NeedsAll(Job),
    /// Its slots stay held while this is on its way.
    Deliver(Box<Migration>),
    /// Its slots stay held for good: the server leaves, and nothing that comes later may be acknowledged.
    Left,
}

/// More requests of other cores wait for held slots than are kept.
const TOO_MANY_WAIT: Refusal = Refusal::Text("ERR too many requests wait for a key in use");

impl NodeService {
    /// Asks every core; the connection is put back, since it may be one of those asked about.
    pub(crate) fn ask(&mut self, current: &mut Option<Box<Connection>>, ask: Ask, join: Join) {
        let Some(client) = current else { return };
        let row = client.last;
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
            let resets = matches!(ask, Ask::ResetStat);
            self.on_ask(ticket, ask);
            if let Some(row) = row
                && resets
            {
                // As in Redis it is the first call that counts again.
                self.core.tally.called(row.index, 0);
            }
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
            let is_part = core != self.core.id;
            let head = Head::of(client, row, (ticket, is_part));
            self.ask_core(core, args, head);
        }
    }

    /// A core runs a request on its own slots.
    fn ask_core(&mut self, core: CoreId, args: &Args<'_>, head: Head) {
        if core == self.core.id {
            self.core.unparked.push_back(Batch::one(args, &head));
        } else {
            self.core.forward(core, args, head);
        }
    }

    /// SCAN begins at a core's slots.
    pub(crate) fn scan(
        &mut self,
        client: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        core: CoreId,
    ) {
        let join = Join::Scan(Box::new(Scan::new(row, args)));
        let ticket = self.core.begin_gather(client, join);
        if let Some(gather) = &mut client.gather {
            gather.left = 1;
        }
        self.ask_core(core, args, Head::of(client, row, (ticket, false)));
    }

    /// A core has answered SCAN: the reply is complete, or another core is asked.
    fn on_scanned(&mut self, ticket: Ticket, reply: &[u8]) {
        let Some(client) = self.clients.get_mut(ticket.conn) else {
            return;
        };
        let Some(mut gather) = client.gather.take() else {
            return;
        };
        let Join::Scan(scan) = &mut gather.join else {
            return;
        };
        let node = self.core.node;
        let begins = |cursor| {
            let slot = Shard::cursor_slot(cursor);
            let first = node.range(node.owner(slot)).start;
            cursor == Shard::cursor_at(slot) && usize::from(slot.0) == first
        };
        match scan.on_reply(reply, client.resp, begins) {
            Step::Ask(cursor) => {
                let request = Request::of_words(scan.row, &scan.words(cursor));
                let head = Head::of(client, scan.row, (ticket, true));
                client.gather = Some(gather);
                let owner = node.owner(Shard::cursor_slot(cursor));
                self.ask_core(owner, &request.args(), head);
            }
            Step::Reply(reply) => {
                let tally = &mut self.core.tally;
                let leaves = |call| tally.answered(call);
                client.outbound.complete(ticket.seq, &reply, leaves);
                self.completed(ticket);
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
            if matches!(gather.join, Join::Scan(..)) {
                return self.on_scanned(ticket, reply);
            }
            gather.parts.push((from.0, reply.to_vec()));
            gather.left -= 1;
            if gather.left > 0 {
                return;
            }
            if let Some(gather) = client.gather.take() {
                if !gather.large.is_empty() {
                    let reply = gather.finish_large(client.resp);
                    let tally = &mut self.core.tally;
                    let leaves = |call| tally.answered(call);
                    client.outbound.complete_pieces(ticket.seq, reply, leaves);
                    return self.completed(ticket);
                }
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
                    Join::Info(sections) => {
                        info::reply(&self.core, *sections, client.resp, &gather.parts)
                    }
                    Join::Histograms(names) => latency::histograms(&self.core, names, client.resp),
                    _ => gather.finish(client.resp, &mut self.core.rng),
                };
                let tally = &mut self.core.tally;
                client
                    .outbound
                    .complete(ticket.seq, &reply, |call| tally.answered(call));
            }
        } else {
            if client.outbound.out.capacity() == 0 {
                client.outbound.out = self.core.buffer();
            }
            let tally = &mut self.core.tally;
            client
                .outbound
                .complete(ticket.seq, reply, |call| tally.answered(call));
        }
        self.completed(ticket);
    }

    /// A large reply for a connection of this core; its bytes are not copied.
    pub(crate) fn complete_pieces(&mut self, ticket: Ticket, reply: Pieces) {
        if let Some(small) = reply.small() {
            return self.complete(ticket, self.core.id, small);
        }
        let Some(client) = self.clients.get_mut(ticket.conn) else {
            return self.core.node.aside.free(reply);
        };
        let gather = client.gather.as_mut();
        if let Some(gather) = gather.filter(|gather| gather.seq == ticket.seq) {
            if matches!(gather.join, Join::Scan(..)) {
                return self.on_scanned(ticket, &reply.0.concat());
            }
            gather.large.push(reply);
            gather.left -= 1;
            if gather.left > 0 {
                return;
            }
            let Some(gather) = client.gather.take() else {
                return;
            };
            let reply = gather.finish_large(client.resp);
            let tally = &mut self.core.tally;
            let leaves = |call| tally.answered(call);
            client.outbound.complete_pieces(ticket.seq, reply, leaves);
        } else {
            let tally = &mut self.core.tally;
            let leaves = |call| tally.answered(call);
            client.outbound.complete_pieces(ticket.seq, reply, leaves);
        }
        self.completed(ticket);
    }

    /// A reply is in its place: its connection may go on.
    #[inline(always)]
    fn completed(&mut self, ticket: Ticket) {
        let Some(client) = self.clients.get_mut(ticket.conn) else {
            return;
        };
        if client.outbound.outstanding() == 0 {
            client.exclusive = false;
            self.core.end_wait(client);
            client.outbound.relax(&mut self.core.queues);
            if client.stalled {
                self.core.resume.push(ticket.conn);
            }
        }
        if !client.dirty && (client.closing || client.outbound.is_ready()) {
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
            Mail::Aside(errand) => self.on_aside(errand),
            Mail::Busy(busy) => self.core.set_busy(busy),
            Mail::Pieces(ticket, reply, until) => {
                self.core.acks_until = self.core.acks_until.max(until);
                self.complete_pieces(ticket, reply);
            }
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
            Mail::Denied(waiter, denied) => self.on_denied(&waiter, denied),
            Mail::Subscribed(core, topic, name, joins) => {
                self.core.pubsub.change(core, topic, &name, joins);
            }
            Mail::Track(read) => self.core.remember(read),
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
            Mail::Migration(migration) => self.on_migration(migration),
            Mail::Replay(batch) => batch.apply(&mut self.core),
            Mail::Visit(visit) => self.core.begin_visit(*visit),
            Mail::Authority => self.change_authority(),
            Mail::Look(look) => look.run(&self.core),
            Mail::Told(told) => self.on_source_told(*told),
            Mail::Fence(epoch) => self.on_fence(epoch),
            // The end of the turn looks.
            Mail::Logged => {}
            // The turn that this begins does it.
            Mail::MakeRoom => {}
            Mail::SnapshotEnded(ended) => self.on_image_ended(&ended),
            Mail::Replica(told) => self.on_replica_told(told),
            Mail::Records(on) => self.core.record(on),
            Mail::Switched => self.core.look_at_switch(),
            Mail::Load(part, expired) => self.on_load(*part, expired),
            Mail::Loaded => {
                self.core.shard.forget_changes();
                self.core.update_holds();
            }
            Mail::Leave { save, force } => {
                self.core.start_own_image(Work::Leave { save, force });
            }
            Mail::Stop => self.stopping = true,
        }
        self.news(None);
        self.settle();
    }

    /// Runs a request that came from elsewhere or was parked, or parks it (again).
    pub(crate) fn run_head(&mut self, batch: &Batch, head: &Head) {
        let args = batch.args(head);
        if self.core.holds != 0
            && let Some(refusal) = self.core.held_back_late(head.row)
        {
            // The core of its client did not know yet.
            let mut out = Vec::new();
            self.core.refuse(&refusal, head.resp, &mut out);
            return self.reply(head.ticket, &out);
        }
        if self.core.is_walk(head.row, head.db) {
            return self.core.walk_for(batch, head);
        }
        let held = match (head.row.plan, head.key) {
            _ if self.core.locks.is_empty() => None,
            (Plan::Single(_), Some((_, _, slot))) => self.core.locks.is_held(slot).then_some(slot),
            (Plan::Multi | Plan::Single(_), _) => {
                let mut slots = Vec::new();
                Core::slots_of(head.row, &args, &mut slots);
                self.core.held_slot(slots.into_iter())
            }
            _ => {
                self.core.start_wide(Batch::one(&args, head));
                return;
            }
        };
        let ahead = self.core.locks.ahead_of(head.ticket, batch.parked);
        if let Some(slot) = held.or(ahead)
            && self.waits(slot, batch, head)
        {
            return;
        }
        if head.row.cost.is_some() && self.head_aside(batch, head) {
            return;
        }
        let scope = Scope::by(head.own_port);
        let (row, first) = (head.row, batch.first_key(head));
        self.core.tally.is_part = head.is_part;
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
        self.core.tally.is_part = false;
        if self.core.noted.is_some() {
            let client = Client::Of(head.ticket.core, head.ticket.conn);
            self.core.note(row, &batch.args(head), client);
        }
        self.news(Some((head.ticket.core, head.ticket.conn)));
    }

    /// Lets a request wait for a slot, its own or that of one which it may not pass; false when there is nothing to wait for.
    #[cold]
    fn waits(&mut self, slot: Slot, batch: &Batch, head: &Head) -> bool {
        let mut request = Batch::one(&batch.args(head), head);
        request.parked = batch.parked;
        let core = &mut self.core;
        if !core.locks.is_held(slot) {
            // What it may not pass is about to run.
            let waits = !core.unparked.is_empty();
            if waits {
                core.unparked.push_back(request);
            }
            return waits;
        }
        if core.locks.is_full() && head.ticket.core != core.id {
            let mut out = Vec::new();
            core.refuse(&TOO_MANY_WAIT, head.resp, &mut out);
            self.reply(head.ticket, &out);
        } else if head.key.is_none() {
            core.locks.park_several(slot, request, head.ticket);
        } else {
            core.locks.park(slot, request);
        }
        true
    }

    pub(crate) fn on_replies(&mut self, replies: Box<Replies>) {
        let mut at = 0;
        let from = replies.from;
        self.core.acks_until = self.core.acks_until.max(replies.until);
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
                    self.core.locks.returns(head.ticket, batch.parked);
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
        let Some((tx, guests)) = self.unless_loading(number, tx, guests) else {
            return;
        };
        let Some((mut tx, guests)) = self.try_aside(number, tx, guests) else {
            return;
        };
        let scope = self.core.tx_scope(&guests);
        let mut out = self.core.buffer();
        let by = (tx.ticket.core, tx.ticket.conn);
        self.core.begin_lap();
        let job = core::mem::replace(&mut tx.job, Job::Held);
        match self.run_job(number, job, &tx, scope, &mut out) {
            Ran::Done => {
                self.core.finish_tx(number, guests, by);
                if !out.is_empty() {
                    self.reply(tx.ticket, &out);
                }
                self.news(Some(by));
            }
            Ran::NeedsAll(job) => {
                self.core.finish_tx(number, guests, by);
                let slots = match &job {
                    Job::Script {
                        caller,
                        is_long: true,
                        ..
                    } => self.core.slots_beside(caller.own_port),
                    _ => (0..storage::SLOTS as u16).map(Slot).collect(),
                };
                let needs = self.core.needs(&slots, Vec::new());
                self.core.start_tx(tx.ticket, job, needs);
            }
            Ran::Left => self.core.put_aside(number, tx, guests),
            Ran::Deliver(migration) => {
                self.core.put_aside(number, tx, guests);
                transfer::deliver(self.core.node, migration);
            }
        }
        self.core.keep_buffer(out);
    }

    /// Runs what a transaction does; its reply is written to `out`. Requests that may wait send theirs themselves, now or later.
    fn run_job(&mut self, number: u64, job: Job, tx: &Tx, scope: Scope, out: &mut Vec<u8>) -> Ran {
        let client = Client::Of(tx.ticket.core, tx.ticket.conn);
        match job {
            Job::Held => {}
            Job::Visit(run) => run(&mut self.core),
            Job::Block(attempt) => self.run_attempt(*attempt, scope),
            Job::Again(waiter, request) => {
                self.run_waiter(&waiter, &request, scope);
                self.core.look_again(&waiter);
            }
            Job::Image(work, resp) => {
                self.core.run_image(tx.ticket, resp, work, out);
                if self.core.node.stopping.load(Relaxed) && matches!(work, Work::Leave { .. }) {
                    return Ran::Left;
                }
            }
            Job::Migrate(migration) => {
                if let Some(migration) = self.core.run_migration(number, migration, out) {
                    return Ran::Deliver(migration);
                }
            }
            Job::Script {
                request, caller, ..
            } => {
                let (row, args) = (request.row, request.args());
                let here = caller.clone().in_transaction(scope);
                let since_us = match self.core.run_script(row, args, here, out) {
                    Ended::Replied => {
                        self.core.note(row, &request.args(), client);
                        return Ran::Done;
                    }
                    Ended::NeedsAll => None,
                    Ended::IsLong(since_us) => Some(since_us),
                };
                return Ran::NeedsAll(Job::Script {
                    request,
                    caller,
                    is_long: since_us.is_some(),
                    since_us,
                });
            }
            Job::One {
                request,
                db,
                resp,
                no_touch,
            } => {
                let (row, args) = (request.row, request.args());
                let to = (db, resp, scope);
                self.core.run_for(no_touch, row, args, to, None, out);
                self.core.note(row, &request.args(), client);
            }
            Job::Wide(batch) => {
                if let Some(head) = batch.heads.first() {
                    let scope = Scope::by(head.own_port);
                    let to = (head.db, head.resp, scope);
                    self.core.tally.is_part = head.is_part;
                    self.core.run(head.row, batch.args(head), to, None, out);
                    self.core.tally.is_part = false;
                    self.core.note(head.row, &batch.args(head), client);
                }
            }
            Job::Exec => {
                let mut current = self.clients.take(tx.ticket.conn);
                if let Some(client) = &mut current
                    && let Some(multi) = client.multi.take()
                {
                    if tx.unchanged {
                        self.core.run_queue(client, *multi, scope, out);
                    } else {
                        self.core.abort_queue(client, *multi, out);
                    }
                }
                self.put_back(&mut current);
            }
        }
        Ran::Done
    }

    /// Answers a core that asks (perhaps this one), unless the answer is on a visit elsewhere: then later.
    pub(crate) fn on_ask(&mut self, from: Ticket, ask: Ask) {
        let must_wait = match &ask {
            Ask::Peek(peek) => peek.must_wait(&self.core),
            Ask::Digest => !self.core.locks.is_empty(),
            _ => false,
        };
        if must_wait && self.core.errands > 0 {
            return self.core.late.push((from, ask));
        }
        if must_wait {
            let again = Mail::Ask { from, ask };
            return self.core.posts.push((self.core.id, again));
        }
        let part = match ask {
            Ask::KeySizes(mut walk) => {
                let mut part = Vec::new();
                if !self.core.walk_sizes(&mut walk, &mut part) {
                    let ask = Ask::KeySizes(walk);
                    return self
                        .core
                        .posts
                        .push((self.core.id, Mail::Ask { from, ask }));
                }
                self.core.publish_histograms();
                part
            }
            Ask::Populate(mut populate) => match self.core.populate(&mut populate) {
                Progress::Done => Vec::new(),
                Progress::Waits if self.core.errands > 0 => {
                    return self.core.late.push((from, Ask::Populate(populate)));
                }
                Progress::More | Progress::Waits => {
                    let again = Mail::Ask {
                        from,
                        ask: Ask::Populate(populate),
                    };
                    return self.core.posts.push((self.core.id, again));
                }
            },
            ask => self.answer_ask(&ask),
        };
        self.reply(from, &part);
    }

    pub(crate) fn answer_ask(&mut self, ask: &Ask) -> Vec<u8> {
        let mut out = Vec::new();
        let core = &mut self.core;
        match ask {
            Ask::ClientList(filter) => self.clients.list(filter, core, &mut out),
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
            Ask::Authority => self.change_authority(),
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
