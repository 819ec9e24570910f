//! Hot path. The running of a turn's requests, in order, the memory of the next ones on its way.

use std::sync::atomic::Ordering::Relaxed;

use protocol::{Args, Refusal};
use runtime::ConnId;
use storage::{Key, Slot};

use crate::commandlog::Client;
use crate::connection::Connection;
use crate::core::Core;
use crate::dispatch::Flow;
use crate::inbound::{Arena, Incoming, Input};
use crate::mail::Batch;
use crate::prefetch::{Ahead, ELEMENTS_MIN, GROUP};
use crate::service::NodeService;
use crate::table::Row;

/// A client with more output than this runs one request more in a turn, bytes: a pipeline of large replies would keep its
/// core from all others.
const OUTPUT_PER_TURN_BYTES_MAX: usize = 1 << 20;

/// The connection whose requests are run.
#[derive(Default)]
struct Current {
    client: Option<Box<Connection>>,
    /// Which input they came with.
    input: Option<u32>,
    /// One of them has run.
    has_run: bool,
    /// No gate holds its plain requests.
    is_open: bool,
}

/// The keys of a batch's requests that name elements, of a group from `first` on, and what finds the elements.
#[inline(always)]
fn elements_of<'a>(
    batch: &'a Batch,
    first: usize,
) -> impl Iterator<Item = (Ahead, impl FnOnce() -> Option<&'a [u8]>)> {
    let heads = batch.heads.iter().skip(first).take(GROUP);
    let named = heads.filter(|head| head.row.element_word != 0);
    named.filter_map(|head| {
        let (_, hash, slot) = head.key?;
        let element = || batch.args(head).word(head.row.element_word as usize);
        Some(((hash, slot, head.db), element))
    })
}

/// As [`elements_of`], of a turn's own requests for keys that live here.
#[inline(always)]
fn named_elements<'a>(
    core: &'a Core,
    arena: &'a Arena,
    inputs: &'a [Input<'_>],
    first: usize,
) -> impl Iterator<Item = (Ahead, impl FnOnce() -> Option<&'a [u8]>)> {
    let requests = arena.incoming.iter().skip(first).take(GROUP);
    requests.filter_map(move |incoming| {
        let word = incoming.row?.element_word as usize;
        if word == 0 || !incoming.is_plain || incoming.unquoted {
            return None;
        }
        let key = arena.keys.get(incoming.keys.0 as usize)?;
        if !core.is_here(key.1) {
            return None;
        }
        let element = move || {
            let buf = &inputs[incoming.input as usize].bytes.get()[incoming.base as usize..];
            let words = incoming.words.0 as usize..incoming.words.1 as usize;
            Args::new(buf, &arena.words[words]).word(word)
        };
        Some((*key, element))
    })
}

impl NodeService {
    /// Runs all parsed requests in order, the memory of the next ones on its way.
    pub(crate) fn execute(&mut self, inputs: &[Input<'_>]) {
        let mut arena = core::mem::take(&mut self.arena);
        let mut current = Current::default();
        let mut stalls: Vec<(u32, u32)> = Vec::new();
        self.core.begin_lap();
        // Requests that have waited for their slots are older than those that come with this turn.
        self.settle();
        let batches = core::mem::take(&mut self.batches);
        self.look_ahead(&batches, &mut arena);
        let ahead = if self.core.is_alone() {
            &arena.keys[..]
        } else {
            &arena.ahead[..]
        };
        let lead = if arena.names_elements { GROUP } else { 0 };
        self.core.prefetch_first(ahead, lead);
        let mut at = 0;
        self.core.begin_lap();
        let mut elements = core::mem::take(&mut arena.elements);
        for batch in batches {
            let looks = arena.names_elements && batch.heads.len() >= ELEMENTS_MIN;
            for (number, head) in batch.heads.iter().enumerate() {
                if looks && number.is_multiple_of(GROUP) {
                    let named = |first| elements_of(&batch, first);
                    elements.prefetch(&self.core, number, named);
                }
                if head.key.is_some() {
                    self.core.prefetch_next(at + lead, ahead);
                    at += 1;
                }
                self.run_head(&batch, head);
            }
            if let Some(first) = batch.heads.first() {
                let from = first.ticket.core.index();
                self.core.replies[from].spent.push(batch);
            }
        }
        let looks = arena.names_elements && arena.incoming.len() >= ELEMENTS_MIN;
        for (number, incoming) in arena.incoming.iter().enumerate() {
            if looks && number.is_multiple_of(GROUP) {
                let named = |first| named_elements(&self.core, &arena, inputs, first);
                elements.prefetch(&self.core, number, named);
            }
            while at < incoming.ahead as usize {
                self.core.prefetch_next(at + lead, ahead);
                at += 1;
            }
            let input = &inputs[incoming.input as usize];
            if current.input != Some(incoming.input) || current.client.is_none() {
                self.take_up(&mut current, incoming.input, input);
            }
            let Some(client) = &mut current.client else {
                continue;
            };
            let buf = if incoming.unquoted {
                &arena.unquoted[..]
            } else {
                &input.bytes.get()[incoming.base as usize..]
            };
            let words = incoming.words.0 as usize..incoming.words.1 as usize;
            let args = Args::new(buf, &arena.words[words]);
            if current.is_open
                && incoming.is_plain
                && let (Some(row), Some((hash, slot, _)), Some(bytes)) = (
                    incoming.row,
                    arena.keys.get(incoming.keys.0 as usize),
                    args.word(incoming.key_word as usize),
                )
                && let is_free = self.core.is_free(*slot)
                && (is_free || !self.core.is_here(*slot))
            {
                let key = Key {
                    bytes,
                    hash: *hash,
                    slot: *slot,
                    db: client.db,
                };
                current.has_run = true;
                if is_free {
                    let fresh_bytes = self.core.run_plain(client, row, args.clone(), key);
                    current.is_open = fresh_bytes <= OUTPUT_PER_TURN_BYTES_MAX;
                } else {
                    client.last = Some(row);
                    self.core
                        .pass_on_single(client, row, &args, (incoming.key_word, key));
                }
                if self.core.is_noted | self.core.shard.has_news() {
                    self.after(&mut current, incoming.row, &args, input);
                }
                continue;
            }
            let first = arena.keys.get(incoming.keys.0 as usize);
            let first = first.filter(|_| incoming.keys.0 < incoming.keys.1);
            let key = first.map(|(hash, slot, _)| (*hash, *slot));
            if !self.run_gated(&mut current, incoming, &args, key) {
                stalls.push((incoming.input, incoming.base));
            }
            self.after(&mut current, incoming.row, &args, input);
        }
        self.put_back(&mut current.client);
        arena.words.clear();
        arena.unquoted.clear();
        arena.incoming.clear();
        arena.keys.clear();
        arena.names_elements = false;
        arena.elements = elements;
        self.arena = arena;
        self.keep_stalled(inputs, &stalls);
    }

    /// The requests that follow are those of `input`.
    fn take_up(&mut self, current: &mut Current, number: u32, input: &Input<'_>) {
        self.put_back(&mut current.client);
        current.client = self.clients.take(input.conn);
        if current.input != Some(number) {
            current.input = Some(number);
            current.has_run = false;
            // So long that a request of it may be noted for its length.
            self.core.is_noted = input.bytes.get().len() >= self.core.bounds.request_bytes;
        }
        if let Some(client) = &mut current.client {
            client.received = input.received;
            client.running_bytes = input.bytes.get().len();
        }
        self.look_at_gates(current);
    }

    #[inline]
    fn look_at_gates(&self, current: &mut Current) {
        let client = current.client.as_deref();
        current.is_open = client.is_some_and(|client| self.core.is_open(client));
    }

    /// Runs a request of the current connection for which the gates are to be asked; false when it has to wait for another turn.
    fn run_gated(
        &mut self,
        current: &mut Current,
        incoming: &Incoming,
        args: &Args<'_>,
        key: Option<(u64, Slot)>,
    ) -> bool {
        let Some(client) = &mut current.client else {
            return true;
        };
        if client.closing {
            return true;
        }
        let has_much = current.has_run && client.outbound.fresh_bytes() > OUTPUT_PER_TURN_BYTES_MAX;
        if client.stalled_in_turn || has_much {
            client.stalled_in_turn = true;
            current.is_open = false;
            return false;
        }
        if let Some(error) = incoming.error {
            let resp = client.resp;
            self.core.answer(client, |core, out| {
                core.refuse(&Refusal::Protocol(error), resp, out);
            });
            client.closing = true;
            current.is_open = false;
            return true;
        }
        let routed = key.and_then(|(hash, slot)| {
            let bytes = args.word(incoming.key_word as usize)?;
            let key = Key {
                bytes,
                hash,
                slot,
                db: client.db,
            };
            Some((incoming.key_word, key))
        });
        current.has_run = true;
        let flow = self
            .core
            .dispatch(client, incoming.row, args.clone(), routed);
        let mut runs = true;
        match flow {
            Flow::Done => {}
            Flow::Stall => {
                client.stalled_in_turn = true;
                runs = false;
            }
            Flow::Ask(ask, join) => self.ask(&mut current.client, ask, join),
            Flow::Scan(core) => {
                if let Some(row) = incoming.row {
                    self.scan(client, row, &args.clone().skip(row.name_words - 1), core);
                }
            }
            Flow::Spread(join) => {
                if let Some(row) = incoming.row {
                    self.spread(client, row, &args.clone().skip(row.name_words - 1), join);
                }
            }
        }
        self.look_at_gates(current);
        runs
    }

    /// Acts upon what a request has brought about, before the next one runs.
    fn after(
        &mut self,
        current: &mut Current,
        row: Option<&'static Row>,
        args: &Args<'_>,
        input: &Input<'_>,
    ) {
        if self.core.is_noted {
            let is_large = input.bytes.get().len() >= self.core.bounds.request_bytes;
            self.core.is_noted = is_large;
            let client = match current.client.as_deref() {
                Some(client) => Client::Here(client),
                // It asks all cores: the connection has been put back.
                None => Client::Of(self.core.id, input.conn),
            };
            self.note(row, args, client, is_large);
        }
        if !self.core.ready.is_empty()
            || !self.core.unparked.is_empty()
            || self.core.waiting.has_begun()
            || self.core.has_news()
        {
            self.put_back(&mut current.client);
            self.news(Some((self.core.id, input.conn)));
            self.settle();
            self.core.begin_lap();
        }
    }

    /// Makes notes of a request that has just been dispatched.
    #[cold]
    fn note(
        &mut self,
        row: Option<&'static Row>,
        args: &Args<'_>,
        client: Client<'_>,
        is_large: bool,
    ) {
        let Some(row) = row else {
            return;
        };
        if is_large {
            self.core.note_request(row, args, client);
        }
        self.core.note(row, args, client);
    }

    /// Gathers the keys that this turn finds here, in the order of their use. A single core finds all that were parsed.
    #[inline]
    fn look_ahead(&self, batches: &[Box<Batch>], arena: &mut Arena) {
        if self.core.is_alone() {
            return;
        }
        arena.ahead.clear();
        let heads = batches.iter().flat_map(|batch| &batch.heads);
        arena.ahead.extend(heads.filter_map(|head| {
            let (_, hash, slot) = head.key?;
            arena.names_elements |= head.row.element_word != 0;
            Some((hash, slot, head.db))
        }));
        for incoming in &mut arena.incoming {
            let keys = incoming.keys.0 as usize..incoming.keys.1 as usize;
            let keys = arena.keys[keys].iter();
            let here = keys.filter(|(_, slot, _)| self.core.is_here(*slot));
            arena.ahead.extend(here);
            incoming.ahead = arena.ahead.len() as u32;
        }
    }

    #[inline]
    pub(crate) fn put_back(&mut self, current: &mut Option<Box<Connection>>) {
        if let Some(mut client) = current.take() {
            let has_output = !client.outbound.out.is_empty() || client.closing;
            if has_output && !client.dirty {
                client.dirty = true;
                self.dirty.push(client.conn);
            }
            self.clients.put_back(client);
        }
    }

    pub(crate) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Requests of stalled connections go back, as bytes, to before what had not been parsed.
    pub(crate) fn keep_stalled(&mut self, inputs: &[Input<'_>], stalls: &[(u32, u32)]) {
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
            let is_held = self.core.pause.until_ms != 0 || self.core.waits_in_front(client);
            let partial = client.partial.get_or_insert_default();
            // The parser's memory of the partial request is of offsets in the old input.
            partial.parser = protocol::Parser::default();
            partial.received = inputs[of_one[0].1 as usize].received;
            kept.extend_from_slice(&partial.input);
            partial.input = kept;
            self.core.resume.retain(|other| *other != conn);
            if !waits_for_replies && is_held {
                self.paused.push(conn);
                self.core.node.blocked.fetch_add(1, Relaxed);
            } else if !waits_for_replies {
                // What it waited for has come meanwhile.
                self.core.resume.push(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::request::encode;

    use crate::testing::Bench;

    #[test]
    fn large_replies_of_a_pipeline_come_in_order_over_several_turns() {
        let mut bench = Bench::new(2);
        for core in 0..2 {
            let client = bench.connect(core);
            assert_eq!(bench.call(client, "SETRANGE big 999999 x"), ":1000000\r\n");
            let mut requests = Vec::new();
            for n in 0..10u8 {
                encode(&[b"GET".as_slice(), b"big"], &mut requests);
                encode(&[b"ECHO".as_slice(), &[b'0' + n]], &mut requests);
            }
            bench.send(client, &requests);
            let received = bench.received(client);
            let pair = "$1000000\r\n".len() + 1_000_002 + "$1\r\n0\r\n".len();
            assert_eq!(received.len(), 10 * pair);
            for (n, pair) in (b'0'..).zip(received.chunks(pair)) {
                assert!(pair.starts_with(b"$1000000\r\n"));
                assert_eq!(pair[pair.len() - 3], n);
            }
        }
    }
}
