//! Hot path. What comes in: events of the runtime, and the parsing of all that a turn has ready.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use migration::Authority;
use protocol::args::flatten;
use protocol::{Args, Limits, Parsed, ProtocolError, Refusal, Reply, Word};
use runtime::{ConnId, Event, Peer, Turn};
use storage::{Key, Slot};

use crate::aside::FREED_ASIDE_BYTES_MIN;
use crate::connection::{Connection, Pieces};
use crate::mail::Mail;
use crate::node::Entrance;
use crate::prefetch::{Ahead, Elements};
use crate::service::NodeService;
use crate::table::{Plan, Recent, Row, Table};
use crate::tls::{HANDSHAKE_MS_MAX, Session};

/// Requests of one connection that are parsed in one turn: its fair share.
const REQUESTS_PER_TURN_MAX: usize = 1024;
/// A bulk of at least so many bytes is received straight into the buffer of its request.
const FILLED_BYTES_MIN: usize = 32 << 10;
/// ...a piece at a time, of at least so many bytes.
const FILLED_PIECE_BYTES: usize = 1 << 20;
/// Input that a stalled connection may hold before its client is held back, bytes.
const STALLED_BYTES_MAX: usize = 1 << 20;

/// Bytes of one connection that a turn parses.
pub(crate) struct Input<'d> {
    pub(crate) conn: ConnId,
    pub(crate) bytes: Bytes<'d>,
    /// When the first of them had been received, ticks.
    pub(crate) received: u64,
    /// Up to here requests were parsed.
    pub(crate) parsed_end: usize,
}

pub(crate) enum Bytes<'d> {
    Received(&'d [u8]),
    Kept(Vec<u8>),
}

impl Bytes<'_> {
    #[inline(always)]
    pub(crate) fn get(&self) -> &[u8] {
        match self {
            Bytes::Received(bytes) => bytes,
            Bytes::Kept(bytes) => bytes,
        }
    }
}

/// A parsed request.
pub(crate) struct Incoming {
    /// Its input, and where in it it begins.
    pub(crate) input: u32,
    pub(crate) base: u32,
    /// Its words, in the turn's arena; offsets are relative to `base`, or, when `unquoted`, to the arena
    /// of inline requests with quotes.
    pub(crate) words: (u32, u32),
    pub(crate) unquoted: bool,
    pub(crate) row: Option<&'static Row>,
    /// Its keys in the turn's arena of keys; the first one's word.
    pub(crate) keys: (u32, u32),
    pub(crate) key_word: u16,
    /// It is plain and has the words that it needs: see [`Row::is_plain`].
    pub(crate) is_plain: bool,
    /// Keys to prefetch up to the end of this request, among those of the turn.
    pub(crate) ahead: u32,
    pub(crate) error: Option<ProtocolError>,
}

/// What a turn works on; empty between turns, its memory is used again.
#[derive(Default)]
pub(crate) struct Arena {
    pub(crate) words: Vec<Word>,
    pub(crate) unquoted: Vec<u8>,
    pub(crate) incoming: Vec<Incoming>,
    /// Hash, slot and database of the keys of all requests, in order.
    pub(crate) keys: Vec<Ahead>,
    /// Those of them that live here, behind those of other cores' requests: what is prefetched. Not used by a single core.
    pub(crate) ahead: Vec<Ahead>,
    /// A request names an element of a collection: see [`Row::element_word`].
    pub(crate) names_elements: bool,
    /// Those that are on their way.
    pub(crate) elements: Elements,
}

impl NodeService {
    pub(crate) fn on_events<'d>(&mut self, turn: &mut Turn<'d, Mail>, inputs: &mut Vec<Input<'d>>) {
        let mut events = core::mem::take(turn.events);
        for event in events.drain(..) {
            match event {
                Event::Data { conn, span } => {
                    let bytes = turn.bytes(span);
                    self.on_bytes(conn, Bytes::Received(bytes), inputs);
                }
                Event::Sent { conn, buffer } => {
                    if buffer.capacity() >= FREED_ASIDE_BYTES_MIN {
                        self.core.node.aside.free(Pieces::of(buffer));
                    } else {
                        self.core.keep_buffer(buffer);
                    }
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.sending_bytes = None;
                        if client.has_counted_buffers() {
                            self.core.count_client(client);
                            self.core.note_stream_sent(client);
                        }
                        if !client.dirty && (client.has_output() || client.closing) {
                            client.dirty = true;
                            self.dirty.push(conn);
                        }
                    }
                }
                Event::Filled { conn, buffer } => {
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.filling = None;
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
                Event::Ended { conn } => self.on_ended(turn, conn),
                Event::Closed { conn, .. } => self.on_closed(conn),
                Event::Progress { .. } => {}
            }
        }
        *turn.events = events;
    }

    /// Bytes for a connection: behind what it has not finished, or parsed where they are.
    #[inline]
    pub(crate) fn on_bytes<'d>(
        &mut self,
        conn: ConnId,
        bytes: Bytes<'d>,
        inputs: &mut Vec<Input<'d>>,
    ) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.closing || self.stopping {
            return;
        }
        client.active_ms = self.core.now.unix_ms;
        let bytes = match bytes {
            Bytes::Received(received) if client.tls.is_some() && !received.is_empty() => {
                let plain = open(client, received);
                let has_output = client.has_output() || client.closing;
                let is_ended = client.tls.as_ref().is_some_and(|tls| tls.is_ended());
                if has_output {
                    self.mark_dirty(conn);
                }
                if is_ended && !self.lingering.contains(&conn) {
                    self.lingering.push(conn);
                }
                if plain.is_empty() {
                    return;
                }
                Bytes::Kept(plain)
            }
            bytes => bytes,
        };
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let mut received = self.core.tally.received;
        let bytes = match &mut client.partial {
            None => bytes,
            Some(partial) => {
                if partial.input.is_empty() {
                    partial.received = received;
                }
                received = partial.received;
                partial.input.extend_from_slice(bytes.get());
                if partial.input.len() as u64 > self.core.config.client_query_buffer_limit {
                    self.core.tally.input_limit_closes += 1;
                    client.closing = true;
                    self.mark_dirty(conn);
                    return;
                }
                if client.stalled {
                    self.core.count_client(client);
                    return;
                }
                Bytes::Kept(core::mem::take(&mut partial.input))
            }
        };
        inputs.push(Input {
            conn,
            bytes,
            received,
            parsed_end: 0,
        });
    }

    /// Gives a connection to the TLS port its session.
    fn begin_tls(&mut self, client: &mut Connection) -> bool {
        let session = self
            .core
            .node
            .tls()
            .and_then(|context| Session::new(Arc::clone(&context.config)).ok());
        client.tls = session.map(Box::new);
        let until_ms = self.core.now.unix_ms + HANDSHAKE_MS_MAX;
        self.shaking.push_back((client.conn, until_ms));
        client.tls.is_some()
    }

    /// Connections whose outstanding replies are there go on with what they had kept.
    pub(crate) fn resume<'d>(&mut self, turn: &mut Turn<'d, Mail>, inputs: &mut Vec<Input<'d>>) {
        if self.core.pause.until_ms != 0 && self.core.now.unix_ms >= self.core.pause.until_ms {
            self.core.end_pause();
        }
        let holds = self.core.pause.until_ms != 0 || self.core.authority == Authority::Held;
        if !holds && !self.paused.is_empty() {
            self.core.node.blocked.fetch_sub(self.paused.len(), Relaxed);
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

    pub(crate) fn on_accepted(
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
            (peer, fd),
            Arc::clone(self.core.users.default_user()),
            turn.now.unix_ms,
        ));
        let entrance = node.entrances.get(listener).copied();
        client.own_port = entrance.is_some_and(Entrance::is_own);
        client.authenticated = self.core.users.open;
        let count = node.clients.fetch_add(1, Relaxed) + 1;
        node.clients_peak.fetch_max(count, Relaxed);
        self.core.tally.accepted += 1;
        let config = &self.core.config;
        let open = config.protected_mode && self.core.users.default_user().nopass;
        let refusal = if count > config.maxclients as usize {
            Some(Refusal::MaxClients)
        } else if open && !peer.is_loopback() {
            Some(Refusal::ProtectedMode)
        } else {
            None
        };
        let by_tls = entrance.is_some_and(Entrance::is_tls);
        let fails = by_tls && refusal.is_none() && !self.begin_tls(&mut client);
        if refusal.is_some() || fails {
            self.core.tally.turned_away += 1;
            // Before the handshake nothing can be told that a client of TLS would understand.
            if let Some(refusal) = refusal.filter(|_| !by_tls) {
                Reply::new(&mut client.outbound.out, client.resp).error(&refusal);
            }
            client.closing = true;
            client.dirty = true;
            self.dirty.push(conn);
        }
        self.core.count_client(&mut client);
        self.clients.insert(client);
    }

    /// The client sends nothing more, but still reads what it is owed (`printf ... | nc`).
    fn on_ended(&mut self, turn: &mut Turn<'_, Mail>, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && client.is_owed()
        {
            turn.ops.linger(conn);
            self.lingering.push(conn);
        }
    }

    pub(crate) fn on_closed(&mut self, conn: ConnId) {
        if let Some(mut client) = self.clients.remove(conn) {
            self.core.end_roles(&mut client);
            self.core.end_wait(&mut client);
            self.core.end_front_wait(&mut client);
            self.core.forget_client_bytes(&mut client);
            self.core.node.clients.fetch_sub(1, Relaxed);
        }
    }

    /// Parses the requests of an input; what is left of it is kept for later.
    pub(crate) fn parse(&mut self, inputs: &mut [Input<'_>], at: usize) {
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
            input.received = partial.received;
        }
        let bytes = input.bytes.get();
        let authenticated = client.authenticated || self.core.users.open;
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
        let mut recent = Recent::default();
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
                        (self.core.table, &mut recent),
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
                        (self.core.table, &mut recent),
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
                        is_plain: false,
                        ahead: arena.keys.len() as u32,
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
        partial.received = input.received;
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

    /// Large requests that are on their way are received straight into their own buffer.
    pub(crate) fn keep_unfinished(&mut self, inputs: Vec<Input<'_>>, turn: &mut Turn<'_, Mail>) {
        for input in inputs {
            let Some(client) = self.clients.get_mut(input.conn) else {
                continue;
            };
            if client.closing || client.filling.is_some() {
                continue;
            }
            if client.partial.is_some() || client.has_counted_buffers() {
                self.core.count_client(client);
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
            // (What TLS receives is not yet the client's bytes.)
            if client.tls.is_none()
                && let Some((start, len)) = partial.parser.pending_bulk()
                && len >= FILLED_BYTES_MIN
            {
                // In pieces, each as large as what is there: between them it is counted what has come.
                let here = partial.input.len();
                let wanted = (start + len + 2).min(here + here.max(FILLED_PIECE_BYTES));
                let buffer = core::mem::take(&mut partial.input);
                client.filling = Some(wanted);
                turn.ops.recv_into(input.conn, buffer, wanted);
                self.core.count_client(client);
            }
        }
    }
}

/// The client's bytes in what its connection of TLS has received.
fn open(client: &mut Connection, received: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(received.len());
    if let Some(tls) = &mut client.tls
        && tls.open(received, &mut plain).is_err()
    {
        client.closing = true;
        plain.clear();
    }
    plain
}

/// Finds a request's row and hashes its keys.
#[inline(always)]
fn route(
    (table, recent): (&'static Table, &mut Recent),
    arena: &mut Arena,
    buf: &[u8],
    (input, base): (usize, usize),
    words: (u32, u32),
    unquoted: bool,
    db: u8,
) {
    let args = Args::new(buf, &arena.words[words.0 as usize..words.1 as usize]);
    let mut row = args.word(0).and_then(|name| table.find_again(recent, name));
    let first_key = arena.keys.len() as u32;
    let mut key_word = 0;
    let mut is_plain = false;
    if let Some(found) = row
        && let Plan::Single(word) = found.plan
        && let Some(bytes) = args.word(word as usize)
    {
        let key = Key::new(db, bytes);
        arena.keys.push((key.hash, key.slot, db));
        key_word = word;
        is_plain = found.is_plain && found.arity.accepts(args.total());
        arena.names_elements |= found.element_word != 0;
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
    let end = arena.keys.len() as u32;
    arena.incoming.push(Incoming {
        input: input as u32,
        base: base as u32,
        words,
        unquoted,
        row,
        keys: (first_key, end),
        key_word,
        is_plain,
        ahead: end,
        error: None,
    });
}

/// As `route`, for subcommands and for requests with any number of keys.
fn route_rarely(
    table: &'static Table,
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
