//! Hot path. `NodeService`: one core's turn, the table of contents of the server.
//!
//! ```text
//! mail ─> events ─> parse all that is ready ─> prefetch + dispatch in order ─> settle transactions
//!      ─> deadlines, garbage, idle clients ─> commit gate ─> one message per core, one send per connection
//! ```
//! All requests that a turn has ready are parsed before the first is run, across connections: so the
//! buckets and items of the next ones are on their way from memory while one runs.

use std::sync::atomic::Ordering::Relaxed;

use protocol::args::flatten;
use protocol::{Args, Limits, Parsed, ProtocolError, Refusal, Reply, Word};
use runtime::{ConnId, CoreId, Event, Now, Peer, Service, Turn};
use storage::{Key, Slot};

use crate::admin::info;
use crate::clients::Clients;
use crate::commit::Gate;
use crate::connection::Connection;
use crate::core::{Core, Scope};
use crate::dispatch::Flow;
use crate::gather::{Gather, Join};
use crate::mail::{Ask, Batch, Head, Mail, Replies, Ticket};
use crate::node::{Entrance, Node};
use crate::table::{Kind, Plan, Row};
use crate::transaction::Job;

/// Requests of one connection that are parsed in one turn: its fair share.
const REQUESTS_PER_TURN_MAX: usize = 1024;
/// A bulk of at least so many bytes is received straight into the buffer of its request.
const FILLED_BYTES_MIN: usize = 32 << 10;
/// Input that a stalled connection may hold before its client is held back, bytes.
const STALLED_BYTES_MAX: usize = 1 << 20;
/// How many keys ahead of the request that runs an item, and its bucket, are asked for.
const ITEM_AHEAD: usize = 6;
const BUCKET_AHEAD: usize = 14;
/// Passed deadlines acted upon in a turn, and elements of garbage freed.
const EXPIRE_PER_TURN_MAX: usize = 128;
const GARBAGE_PER_TURN_MAX: usize = 512;
/// How long a stopping core waits for replies under way, and how often it looks, ms.
const DRAIN_MS_MAX: u64 = 5000;
const DRAIN_LOOK_MS: u64 = 2;
/// How often the counters of single commands are published, ms.
const PUBLISH_CALLS_MS: u64 = 100;

/// Bytes of one connection that a turn parses.
struct Input<'d> {
    conn: ConnId,
    bytes: Bytes<'d>,
    /// Up to here requests were parsed.
    parsed_end: usize,
}

enum Bytes<'d> {
    Received(&'d [u8]),
    Kept(Vec<u8>),
}

impl Bytes<'_> {
    #[inline(always)]
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Received(bytes) => bytes,
            Bytes::Kept(bytes) => bytes,
        }
    }
}

/// A parsed request.
struct Incoming {
    /// Its input, and where in it it begins.
    input: u32,
    base: u32,
    /// Its words, in the turn's arena; offsets are relative to `base`, or, when `unquoted`, to the arena
    /// of inline requests with quotes.
    words: (u32, u32),
    unquoted: bool,
    row: Option<&'static Row>,
    /// Its keys in the turn's arena of keys; the first one's word.
    keys: (u32, u32),
    key_word: u16,
    error: Option<ProtocolError>,
}

/// What a turn works on; empty between turns, its memory is used again.
#[derive(Default)]
struct Arena {
    words: Vec<Word>,
    unquoted: Vec<u8>,
    incoming: Vec<Incoming>,
    /// Hash, slot and database of the keys of all requests, in order.
    keys: Vec<(u64, Slot, u8)>,
}

/// One core of the server.
pub struct NodeService {
    core: Core,
    clients: Clients,
    arena: Arena,
    /// Connections with output.
    dirty: Vec<ConnId>,
    /// Connections that wait for the end of a pause.
    paused: Vec<ConnId>,
    calls_published_ms: u64,
    stopping: bool,
    /// While stopping: no reply is under way here; when it leaves all the same.
    drained: bool,
    leave_until_ms: Option<u64>,
}

impl NodeService {
    /// Core `id` of `node`.
    pub fn new(id: CoreId, node: &'static Node, now: Now) -> NodeService {
        NodeService {
            core: Core::new(id, node, now),
            clients: Clients::default(),
            arena: Arena::default(),
            dirty: Vec::new(),
            paused: Vec::new(),
            calls_published_ms: 0,
            stopping: false,
            drained: false,
            leave_until_ms: None,
        }
    }
}

impl Service for NodeService {
    type Mail = Mail;

    fn turn(&mut self, turn: &mut Turn<'_, Mail>) {
        self.core.now = turn.now;
        self.core.shard.set_now(turn.now.unix_ms);
        let mut mail = core::mem::take(turn.mail);
        mail.drain(..).for_each(|mail| self.on_mail(mail));
        *turn.mail = mail;

        let mut inputs: Vec<Input<'_>> = Vec::new();
        self.on_events(turn, &mut inputs);
        self.resume(turn, &mut inputs);
        for input in 0..inputs.len() {
            self.parse(&mut inputs, input);
        }
        self.execute(&inputs);
        self.settle();
        self.keep_unfinished(inputs, turn);

        self.background(turn);
        self.core.seal_messages();
        for (core, mail) in self.core.posts.drain(..) {
            turn.ops.post(core, mail);
        }
        match self.core.commit.end_of_turn(&mut self.core.shard) {
            Gate::Open => self.flush(turn),
        }
        if !self.core.resume.is_empty() {
            turn.ops.again();
        }
        self.publish();
    }
}

impl NodeService {
    // ---- what comes in ----------------------------------------------------------------------

    fn on_events<'d>(&mut self, turn: &mut Turn<'d, Mail>, inputs: &mut Vec<Input<'d>>) {
        let mut events = core::mem::take(turn.events);
        for event in events.drain(..) {
            match event {
                Event::Data { conn, span } => {
                    let bytes = turn.bytes(span);
                    self.on_bytes(conn, Bytes::Received(bytes), inputs);
                }
                Event::Sent { conn, buffer } => {
                    self.core.keep_buffer(buffer);
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.sending_bytes = None;
                        if !client.dirty && (client.outbound.bytes() > 0 || client.closing) {
                            client.dirty = true;
                            self.dirty.push(conn);
                        }
                    }
                }
                Event::Filled { conn, buffer } => {
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.filling = false;
                        let partial = client.partial.get_or_insert_default();
                        partial.input = buffer;
                        self.on_bytes(conn, Bytes::Received(&[]), inputs);
                    }
                }
                Event::Accepted {
                    conn,
                    listener,
                    peer,
                    fd,
                } => self.on_accepted(turn, conn, listener, peer, fd),
                Event::Closed { conn, .. } => self.on_closed(conn),
                Event::Progress { .. } => {}
            }
        }
        *turn.events = events;
    }

    /// Bytes for a connection: behind what it has not finished, or parsed where they are.
    #[inline]
    fn on_bytes<'d>(&mut self, conn: ConnId, bytes: Bytes<'d>, inputs: &mut Vec<Input<'d>>) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.closing || self.stopping {
            return;
        }
        client.active_ms = self.core.now.unix_ms;
        let bytes = match &mut client.partial {
            None => bytes,
            Some(partial) => {
                partial.input.extend_from_slice(bytes.get());
                if partial.input.len() as u64 > self.core.config.client_query_buffer_limit {
                    self.core.tally.input_limit_closes += 1;
                    client.closing = true;
                    self.mark_dirty(conn);
                    return;
                }
                if client.stalled {
                    return;
                }
                Bytes::Kept(core::mem::take(&mut partial.input))
            }
        };
        inputs.push(Input {
            conn,
            bytes,
            parsed_end: 0,
        });
    }

    /// Connections whose outstanding replies are there go on with what they had kept.
    fn resume<'d>(&mut self, turn: &mut Turn<'d, Mail>, inputs: &mut Vec<Input<'d>>) {
        if self.core.pause.until_ms != 0 && self.core.now.unix_ms >= self.core.pause.until_ms {
            self.core.pause.until_ms = 0;
        }
        if self.core.pause.until_ms == 0 && !self.paused.is_empty() {
            self.core.resume.append(&mut self.paused);
        }
        for conn in core::mem::take(&mut self.core.resume) {
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            client.stalled = false;
            if core::mem::take(&mut client.paused) {
                turn.ops.resume_recv(conn);
            }
            self.on_bytes(conn, Bytes::Received(&[]), inputs);
        }
    }

    fn on_accepted(
        &mut self,
        turn: &mut Turn<'_, Mail>,
        conn: ConnId,
        listener: usize,
        peer: Peer,
        fd: i32,
    ) {
        let node = self.core.node;
        let mut client = Box::new(Connection::new(
            conn,
            node.client_id(),
            peer,
            fd,
            turn.now.unix_ms,
        ));
        client.own_port = node.entrances.get(listener) == Some(&Entrance::Own);
        client.authenticated = self.core.config.requirepass.is_empty();
        let count = node.clients.fetch_add(1, Relaxed) + 1;
        node.clients_peak.fetch_max(count, Relaxed);
        self.core.tally.accepted += 1;
        let config = &self.core.config;
        let open = config.protected_mode && config.requirepass.is_empty();
        let refusal = if count > config.maxclients as usize {
            Some(Refusal::MaxClients)
        } else if open && !peer.is_loopback() {
            Some(Refusal::ProtectedMode)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.core.tally.turned_away += 1;
            Reply::new(&mut client.outbound.out, client.resp).error(&refusal);
            client.closing = true;
            client.dirty = true;
            self.dirty.push(conn);
        }
        self.clients.insert(client);
    }

    fn on_closed(&mut self, conn: ConnId) {
        if let Some(mut client) = self.clients.remove(conn) {
            self.core.end_multi(&mut client);
            self.core.node.clients.fetch_sub(1, Relaxed);
        }
    }

    // ---- parsing ----------------------------------------------------------------------------

    /// Parses the requests of an input; what is left of it is kept for later.
    fn parse(&mut self, inputs: &mut [Input<'_>], at: usize) {
        let input = &mut inputs[at];
        let Some(client) = self.clients.get_mut(input.conn) else {
            return;
        };
        if let Some(partial) = &mut client.partial
            && (client.stalled || !partial.input.is_empty())
        {
            // An earlier input of this turn left something: this one comes behind it.
            partial.input.extend_from_slice(input.bytes.get());
            if client.stalled {
                return;
            }
            input.bytes = Bytes::Kept(core::mem::take(&mut partial.input));
        }
        let bytes = input.bytes.get();
        let authenticated = client.authenticated;
        let limits = if authenticated {
            Limits {
                bulk_bytes_max: self.core.config.proto_max_bulk_len,
                ..Limits::DEFAULT
            }
        } else {
            Limits::UNAUTHENTICATED
        };
        let mut parser = match &mut client.partial {
            Some(partial) => core::mem::take(&mut partial.parser),
            None => protocol::Parser::default(),
        };
        // Before authentication one request at a time: it may change what the next one may be.
        let share = if authenticated {
            REQUESTS_PER_TURN_MAX
        } else {
            1
        };
        let (mut base, mut count, mut more) = (0, 0, false);
        let arena = &mut self.arena;
        while base < bytes.len() {
            if count == share {
                more = true;
                break;
            }
            let first = arena.words.len() as u32;
            let parsed = parser.parse(&bytes[base..], &limits, &mut arena.words);
            let consumed = match parsed {
                Parsed::Request { consumed } => {
                    let words = (first, arena.words.len() as u32);
                    route(
                        self.core.table,
                        arena,
                        &bytes[base..],
                        (at, base),
                        words,
                        false,
                        client.db,
                    );
                    consumed
                }
                Parsed::Inline { consumed, owned } => {
                    flatten(&owned, &mut arena.unquoted, &mut arena.words);
                    let words = (first, arena.words.len() as u32);
                    let unquoted = core::mem::take(&mut arena.unquoted);
                    route(
                        self.core.table,
                        arena,
                        &unquoted,
                        (at, base),
                        words,
                        true,
                        client.db,
                    );
                    arena.unquoted = unquoted;
                    consumed
                }
                Parsed::Empty { consumed } => consumed,
                Parsed::Incomplete { .. } => break,
                Parsed::Invalid { error } => {
                    arena.incoming.push(Incoming {
                        input: at as u32,
                        base: base as u32,
                        words: (first, first),
                        unquoted: false,
                        row: None,
                        keys: (0, 0),
                        key_word: 0,
                        error: Some(error),
                    });
                    bytes.len() - base
                }
            };
            base += consumed;
            count += 1;
        }
        input.parsed_end = base;
        if base == bytes.len() {
            client.partial = None;
            return;
        }
        let partial = client.partial.get_or_insert_default();
        partial.parser = parser;
        match &mut input.bytes {
            Bytes::Received(bytes) => partial.input.extend_from_slice(&bytes[base..]),
            Bytes::Kept(bytes) if base == 0 => partial.input = core::mem::take(bytes),
            Bytes::Kept(bytes) => partial.input.extend_from_slice(&bytes[base..]),
        }
        if more {
            client.stalled = true;
            self.core.resume.push(input.conn);
        }
    }

    // ---- running ----------------------------------------------------------------------------

    /// Runs all parsed requests in order, the memory of the next ones on its way.
    fn execute(&mut self, inputs: &[Input<'_>]) {
        let mut arena = core::mem::take(&mut self.arena);
        let mut current: Option<Box<Connection>> = None;
        let mut current_input = u32::MAX;
        let mut stalls: Vec<(u32, u32)> = Vec::new();
        for ahead in 0..BUCKET_AHEAD.min(arena.keys.len()) {
            self.prefetch_bucket(&arena.keys[ahead]);
        }
        for ahead in 0..ITEM_AHEAD.min(arena.keys.len()) {
            self.prefetch_item(&arena.keys[ahead]);
        }
        for incoming in &arena.incoming {
            for key in incoming.keys.0 as usize..incoming.keys.1 as usize {
                if let Some(ahead) = arena.keys.get(key + BUCKET_AHEAD) {
                    self.prefetch_bucket(ahead);
                }
                if let Some(ahead) = arena.keys.get(key + ITEM_AHEAD) {
                    self.prefetch_item(ahead);
                }
            }
            let input = &inputs[incoming.input as usize];
            if incoming.input != current_input || current.is_none() {
                self.put_back(&mut current);
                current = self.clients.take(input.conn);
                current_input = incoming.input;
            }
            let Some(client) = &mut current else { continue };
            if client.closing {
                continue;
            }
            if client.stalled_in_turn {
                stalls.push((incoming.input, incoming.base));
                continue;
            }
            if let Some(error) = incoming.error {
                self.core.answer(client, |core, client, out| {
                    core.refuse(&Refusal::Protocol(error), client.resp, out)
                });
                client.closing = true;
                continue;
            }
            let buf = if incoming.unquoted {
                &arena.unquoted[..]
            } else {
                &input.bytes.get()[incoming.base as usize..]
            };
            let args = Args::new(
                buf,
                &arena.words[incoming.words.0 as usize..incoming.words.1 as usize],
            );
            let routed = arena
                .keys
                .get(incoming.keys.0 as usize)
                .filter(|_| incoming.keys.0 < incoming.keys.1)
                .and_then(|(hash, slot, _)| {
                    let bytes = args.word(incoming.key_word as usize)?;
                    Some((
                        incoming.key_word,
                        Key {
                            bytes,
                            hash: *hash,
                            slot: *slot,
                            db: client.db,
                        },
                    ))
                });
            match self
                .core
                .dispatch(client, incoming.row, args.clone(), routed)
            {
                Flow::Done => {}
                Flow::Stall => {
                    client.stalled_in_turn = true;
                    stalls.push((incoming.input, incoming.base));
                }
                Flow::Ask(ask, join) => self.ask(&mut current, ask, join),
                Flow::Spread(join) => {
                    if let Some(row) = incoming.row {
                        self.spread(client, row, &args.skip(row.name_words - 1), join);
                    }
                }
            }
            if !self.core.ready.is_empty() || !self.core.unparked.is_empty() {
                self.put_back(&mut current);
                self.settle();
            }
        }
        self.put_back(&mut current);
        arena.words.clear();
        arena.unquoted.clear();
        arena.incoming.clear();
        arena.keys.clear();
        self.arena = arena;
        self.keep_stalled(inputs, &stalls);
    }

    #[inline(always)]
    fn prefetch_bucket(&self, (hash, slot, db): &(u64, Slot, u8)) {
        self.core.shard.prefetch_bucket(&Key {
            bytes: b"",
            hash: *hash,
            slot: *slot,
            db: *db,
        });
    }

    #[inline(always)]
    fn prefetch_item(&self, (hash, slot, db): &(u64, Slot, u8)) {
        self.core.shard.prefetch_item(&Key {
            bytes: b"",
            hash: *hash,
            slot: *slot,
            db: *db,
        });
    }

    #[inline]
    fn put_back(&mut self, current: &mut Option<Box<Connection>>) {
        if let Some(mut client) = current.take() {
            let has_output = !client.outbound.out.is_empty() || client.closing;
            if has_output && !client.dirty {
                client.dirty = true;
                self.dirty.push(client.conn);
            }
            self.clients.put_back(client);
        }
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Requests of stalled connections go back, as bytes, to before what had not been parsed.
    fn keep_stalled(&mut self, inputs: &[Input<'_>], stalls: &[(u32, u32)]) {
        if stalls.is_empty() {
            return;
        }
        // The first request that stalled in each input, the inputs of one connection together in order.
        let mut firsts: Vec<(u64, u32, u32)> = Vec::with_capacity(stalls.len());
        for (input, base) in stalls {
            let conn = inputs[*input as usize].conn.to_u64();
            if firsts.last().is_none_or(|(_, last, _)| last != input) {
                firsts.push((conn, *input, *base));
            }
        }
        firsts.sort_by_key(|(conn, input, _)| (*conn, *input));
        for of_one in firsts.chunk_by(|a, b| a.0 == b.0) {
            let mut kept = Vec::new();
            for (_, input, base) in of_one {
                let input = &inputs[*input as usize];
                kept.extend_from_slice(&input.bytes.get()[*base as usize..input.parsed_end]);
            }
            let conn = inputs[of_one[0].1 as usize].conn;
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            client.stalled_in_turn = false;
            client.stalled = true;
            let waits_for_replies = client.outbound.outstanding() > 0;
            let partial = client.partial.get_or_insert_default();
            // The parser's memory of the partial request is of offsets in the old input.
            partial.parser = protocol::Parser::default();
            kept.extend_from_slice(&partial.input);
            partial.input = kept;
            self.core.resume.retain(|other| *other != conn);
            if !waits_for_replies && self.core.pause.until_ms != 0 {
                self.paused.push(conn);
            } else if !waits_for_replies {
                // What it waited for has come meanwhile.
                self.core.resume.push(conn);
            }
        }
    }

    // ---- several cores ----------------------------------------------------------------------

    /// Asks every core; the connection is put back, since it may be one of those asked about.
    fn ask(&mut self, current: &mut Option<Box<Connection>>, ask: Ask, join: Join) {
        let Some(client) = current else { return };
        let ticket = self.core.begin_exclusive(client);
        let cores = self.core.node.cores();
        client.gather = Some(Box::new(Gather {
            seq: ticket.seq,
            left: cores,
            join,
            parts: Vec::new(),
        }));
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
    fn spread(&mut self, client: &mut Connection, row: &'static Row, args: &Args<'_>, join: Join) {
        let ticket = self.core.begin_exclusive(client);
        let cores = self.core.node.cores();
        client.gather = Some(Box::new(Gather {
            seq: ticket.seq,
            left: cores,
            join,
            parts: Vec::new(),
        }));
        for core in (0..cores as u16).map(CoreId) {
            let head = Head {
                ticket,
                row,
                words: 0..0,
                db: client.db,
                resp: client.resp,
                own_port: client.own_port,
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
    fn complete(&mut self, ticket: Ticket, from: CoreId, reply: &[u8]) {
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
                let reply = match gather.join {
                    Join::Info(sections) => info::reply(&self.core, sections, client.resp),
                    _ => gather.finish(client.resp, &mut self.core.rng),
                };
                client.outbound.complete(ticket.seq, &reply);
            }
        } else {
            client.outbound.complete(ticket.seq, reply);
        }
        if client.outbound.outstanding() == 0 {
            client.exclusive = false;
            client.outbound.relax();
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
    fn reply(&mut self, ticket: Ticket, reply: &[u8]) {
        if ticket.core == self.core.id {
            self.complete(ticket, self.core.id, reply);
        } else {
            self.core
                .reply_to(ticket, |_, out| out.extend_from_slice(reply));
        }
    }

    fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Requests(batch) => self.on_requests(batch),
            Mail::Replies(replies) => self.on_replies(*replies),
            Mail::Schedule(schedule) => self.core.on_schedule(*schedule),
            Mail::Granted(granted) => {
                if let Some(tx) = self.core.on_granted(*granted) {
                    self.run_tx(tx);
                }
            }
            Mail::Refused { tx } => self.core.on_refused(tx),
            Mail::Cancel { tx } => self.core.on_cancel(tx),
            Mail::Return { tx, lent } => self.core.on_return(tx, lent),
            Mail::Unwatch(keys) => {
                keys.iter()
                    .for_each(|(db, key)| self.core.shard.unwatch(*db, key));
            }
            Mail::Ask { from, ask } => self.on_ask(from, ask),
            Mail::Configured(_) => {
                // Changes of two cores may arrive in any order: the node's own is the last one.
                let config = self.core.node.config();
                self.core.configure(config);
            }
            Mail::Stop => self.stopping = true,
        }
        self.settle();
    }

    /// Requests of another core.
    fn on_requests(&mut self, batch: Box<Batch>) {
        let heads = &batch.heads;
        let keys = |at: usize| heads.get(at).and_then(|head| Some((head.key?, head.db)));
        for at in 0..BUCKET_AHEAD {
            if let Some(((_, hash, slot), db)) = keys(at) {
                self.prefetch_bucket(&(hash, slot, db));
            }
        }
        for at in 0..ITEM_AHEAD {
            if let Some(((_, hash, slot), db)) = keys(at) {
                self.prefetch_item(&(hash, slot, db));
            }
        }
        for (at, head) in heads.iter().enumerate() {
            if let Some(((_, hash, slot), db)) = keys(at + BUCKET_AHEAD) {
                self.prefetch_bucket(&(hash, slot, db));
            }
            if let Some(((_, hash, slot), db)) = keys(at + ITEM_AHEAD) {
                self.prefetch_item(&(hash, slot, db));
            }
            self.run_head(&batch, head);
        }
        let from = batch.heads.first().map(|head| head.ticket.core);
        if let Some(from) = from {
            self.core.replies[from.index()].spent = Some(batch);
        }
    }

    /// Runs a request that came from elsewhere or was parked, or parks it (again).
    fn run_head(&mut self, batch: &Batch, head: &Head) {
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
            self.core
                .run(row, args, (head.db, head.resp, scope), first, &mut out);
            self.complete(head.ticket, self.core.id, &out);
            self.core.keep_buffer(out);
        } else {
            self.core.reply_to(head.ticket, |core, out| {
                core.run(row, args, (head.db, head.resp, scope), first, out)
            });
        }
    }

    fn on_replies(&mut self, replies: Replies) {
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
        if let Some(spent) = replies.spent {
            self.core.keep_batch(spent);
        }
    }

    /// Lets everything go on that can: parked requests first, then transactions in their order.
    fn settle(&mut self) {
        loop {
            if let Some(batch) = self.core.unparked.pop_front() {
                if let Some(head) = batch.heads.first() {
                    self.run_head(&batch, head);
                }
            } else if let Some(number) = self.core.ready.pop_front() {
                if let Some(number) = self.core.grant(number) {
                    self.run_tx(number);
                }
            } else {
                return;
            }
        }
    }

    /// Runs a transaction that has all its slots.
    fn run_tx(&mut self, number: u64) {
        let Some((tx, guests)) = self.core.begin_tx(number) else {
            return;
        };
        let scope = self.core.tx_scope(&guests);
        let mut out = self.core.buffer();
        match tx.job {
            Job::One { request, db, resp } => {
                self.core.run(
                    request.row,
                    request.args(),
                    (db, resp, scope),
                    None,
                    &mut out,
                );
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
        self.core.finish_tx(number, guests);
        self.reply(tx.ticket, &out);
        self.core.keep_buffer(out);
    }

    /// Answers a core that asks (perhaps this one), unless the answer is on a visit elsewhere: then later.
    fn on_ask(&mut self, from: Ticket, ask: Ask) {
        if let Ask::Peek(peek) = &ask
            && peek.must_wait(&self.core)
        {
            let again = Mail::Ask { from, ask };
            return self.core.posts.push((self.core.id, again));
        }
        let part = self.answer_ask(&ask);
        self.reply(from, &part);
    }

    fn answer_ask(&mut self, ask: &Ask) -> Vec<u8> {
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
            Ask::Pause { until_ms, all } => {
                let pause = &mut core.pause;
                // The stricter of two pauses wins, as in Redis.
                pause.all = (pause.all && pause.until_ms > core.now.unix_ms) || *all;
                pause.until_ms = pause.until_ms.max(*until_ms);
            }
            Ask::Unpause => core.pause.until_ms = 0,
            Ask::Peek(peek) => peek.answer(core, &mut out),
            Ask::Publish => core.publish(),
            Ask::ResetStat => {
                core.tally.reset();
                core.tally.expired_before = core.shard.expired();
                core.tally.freed_before = core.shard.freed_lazily();
                core.shard.set_hits_and_misses(0, 0);
                if let Some(stats) = core.node.handle().and_then(|handle| handle.stats(core.id)) {
                    stats.reset();
                }
                core.node.rates.forget();
            }
            Ask::Sleep(us) => std::thread::sleep(std::time::Duration::from_micros(*us)),
            Ask::ActiveExpire(on) => core.active_expire = *on,
            Ask::Digest => out.extend_from_slice(&core.shard.digest_all().0.to_le_bytes()),
            Ask::Watch(keys) => {
                for (db, key) in keys {
                    let key = Key::new(*db, key);
                    if core.owner(key.slot) == core.id {
                        let version = core.shard.watch(&key);
                        out.extend_from_slice(&version.to_le_bytes());
                    }
                }
            }
        }
        out
    }

    // ---- what goes out ----------------------------------------------------------------------

    /// Large requests that are on their way are received straight into their own buffer.
    fn keep_unfinished(&mut self, inputs: Vec<Input<'_>>, turn: &mut Turn<'_, Mail>) {
        for input in inputs {
            let Some(client) = self.clients.get_mut(input.conn) else {
                continue;
            };
            if client.closing || client.filling {
                continue;
            }
            let Some(partial) = &mut client.partial else {
                continue;
            };
            if client.stalled {
                if partial.input.len() > STALLED_BYTES_MAX && !client.paused {
                    client.paused = true;
                    turn.ops.pause_recv(input.conn);
                }
                continue;
            }
            if let Some((start, len)) = partial.parser.pending_bulk()
                && len >= FILLED_BYTES_MIN
            {
                client.filling = true;
                let buffer = core::mem::take(&mut partial.input);
                turn.ops.recv_into(input.conn, buffer, start + len + 2);
            }
        }
    }

    /// One send per connection with output.
    fn flush(&mut self, turn: &mut Turn<'_, Mail>) {
        for conn in core::mem::take(&mut self.dirty) {
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            client.dirty = false;
            if client.closed {
                continue;
            }
            if over_limit(&self.core, client) {
                self.core.tally.output_limit_closes += 1;
                client.closed = true;
                client.closing = true;
                turn.ops.close(conn);
                continue;
            }
            if client.sending_bytes.is_some() {
                continue;
            }
            if !client.outbound.out.is_empty() {
                let out = core::mem::take(&mut client.outbound.out);
                client.sending_bytes = Some(out.len());
                turn.ops.send(conn, out);
            } else if client.closing && client.outbound.outstanding() == 0 {
                client.closed = true;
                turn.ops.close(conn);
            }
        }
    }

    /// Deadlines, garbage, idle clients, the end.
    fn background(&mut self, turn: &mut Turn<'_, Mail>) {
        let shard = &mut self.core.shard;
        if self.core.active_expire {
            if shard.expire_due(EXPIRE_PER_TURN_MAX) {
                turn.ops.again();
            } else if let Some(at_ms) = shard.next_expiry_ms() {
                turn.ops.wake_at(at_ms);
            }
        }
        if shard.has_garbage() && shard.free_garbage(GARBAGE_PER_TURN_MAX) {
            turn.ops.again();
        }
        if self.core.pause.until_ms != 0 && !self.paused.is_empty() {
            turn.ops.wake_at(self.core.pause.until_ms);
        }
        let timeout_s = u64::from(self.core.config.timeout_s);
        if timeout_s > 0 {
            let now_ms = turn.now.unix_ms;
            for conn in self.clients.idle(now_ms, timeout_s * 1000) {
                if let Some(client) = self.clients.get_mut(conn) {
                    client.closing = true;
                }
                self.mark_dirty(conn);
            }
            turn.ops.wake_at(self.clients.next_idle_look_ms(now_ms));
        }
        if self.core.pause.until_ms == 0 && !self.paused.is_empty() {
            turn.ops.again();
        }
        if self.stopping {
            self.leave(turn);
        }
    }

    /// Leaves once no core has a reply under way: another's clients may wait for this one's answers.
    fn leave(&mut self, turn: &mut Turn<'_, Mail>) {
        let now_ms = turn.now.unix_ms;
        let until_ms = *self.leave_until_ms.get_or_insert(now_ms + DRAIN_MS_MAX);
        let under_way = self.clients.iter().any(|client| {
            let outbound = &client.outbound;
            client.sending_bytes.is_some() || outbound.bytes() + outbound.outstanding() > 0
        });
        if !under_way && !self.drained {
            self.drained = true;
            self.core.node.drained.fetch_add(1, Relaxed);
        }
        if self.core.node.drained.load(Relaxed) == self.core.node.cores() || now_ms >= until_ms {
            turn.ops.stop();
        } else {
            turn.ops.wake_at(now_ms + DRAIN_LOOK_MS);
        }
    }

    fn publish(&mut self) {
        let published = &self.core.node.published[self.core.id.index()];
        published.publish(&mut self.core.tally, &self.core.shard, self.clients.len());
        let now_ms = self.core.now.unix_ms;
        if now_ms.saturating_sub(self.calls_published_ms) >= PUBLISH_CALLS_MS {
            self.calls_published_ms = now_ms;
            published.publish_calls(&self.core.tally);
            let node = self.core.node;
            node.note_used_bytes();
            node.rates.note(now_ms, || node.sample(now_ms));
        }
    }
}

/// Finds a request's row and hashes its keys.
#[inline(always)]
fn route(
    table: &'static crate::table::Table,
    arena: &mut Arena,
    buf: &[u8],
    (input, base): (usize, usize),
    words: (u32, u32),
    unquoted: bool,
    db: u8,
) {
    let args = Args::new(buf, &arena.words[words.0 as usize..words.1 as usize]);
    let mut row = args.word(0).and_then(|name| table.find(name));
    let first_key = arena.keys.len() as u32;
    let mut key_word = 0;
    if let Some(Plan::Single(word)) = row.map(|row| row.plan)
        && let Some(bytes) = args.word(word as usize)
    {
        let key = Key::new(db, bytes);
        arena.keys.push((key.hash, key.slot, db));
        key_word = word;
    } else if let Some(found) = row {
        row = Some(route_rarely(
            table,
            &mut arena.keys,
            found,
            &args,
            &mut key_word,
            db,
        ));
    }
    arena.incoming.push(Incoming {
        input: input as u32,
        base: base as u32,
        words,
        unquoted,
        row,
        keys: (first_key, arena.keys.len() as u32),
        key_word,
        error: None,
    });
}

/// As `route`, for subcommands and for requests with any number of keys.
fn route_rarely(
    table: &'static crate::table::Table,
    keys: &mut Vec<(u64, Slot, u8)>,
    found: &'static Row,
    args: &Args<'_>,
    key_word: &mut u16,
    db: u8,
) -> &'static Row {
    let subcommand = args.word(1).and_then(|name| table.subcommand(found, name));
    let row = subcommand.unwrap_or(found);
    let mut push = |index: usize| {
        if let Some(bytes) = args.word(index) {
            let key = Key::new(db, bytes);
            keys.push((key.hash, key.slot, db));
        }
    };
    match row.plan {
        Plan::Single(word) => {
            push(word as usize);
            *key_word = word;
        }
        // A request whose keys cannot be told is refused by its handler.
        Plan::Multi => drop(row.spec.keys_of(args, |index, _| push(index))),
        _ => {}
    }
    row
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

/// Whether a client's output is over its limits.
fn over_limit(core: &Core, client: &mut Connection) -> bool {
    let limit = core.config.client_output_buffer_limit.normal;
    let bytes = (client.outbound.bytes() + client.sending_bytes.unwrap_or(0)) as u64;
    if limit.hard_bytes != 0 && bytes > limit.hard_bytes {
        return true;
    }
    if limit.soft_bytes == 0 || bytes <= limit.soft_bytes {
        client.soft_since_ms = 0;
        return false;
    }
    if client.soft_since_ms == 0 {
        client.soft_since_ms = core.now.unix_ms;
    }
    core.now.unix_ms - client.soft_since_ms > u64::from(limit.soft_seconds) * 1000
}

/// The row kinds that a shard runs; used by assertions of the table's tests.
pub fn is_data(row: &Row) -> bool {
    matches!(row.kind, Kind::Data(_))
}
