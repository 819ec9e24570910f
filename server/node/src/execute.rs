//! Hot path. The running of a turn's requests, in order, the memory of the next ones on its way.

use protocol::{Args, Refusal};
use runtime::ConnId;
use storage::Key;

use crate::commandlog::Client;
use crate::connection::Connection;
use crate::dispatch::Flow;
use crate::inbound::Input;
use crate::mail::Batch;
use crate::prefetch::Ahead;
use crate::service::NodeService;
use crate::table::Row;

/// A client with more output than this runs one request more in a turn, bytes: a pipeline of large replies would keep its
/// core from all others.
const OUTPUT_PER_TURN_BYTES_MAX: usize = 1 << 20;

impl NodeService {
    /// Runs all parsed requests in order, the memory of the next ones on its way.
    pub(crate) fn execute(&mut self, inputs: &[Input<'_>]) {
        let mut arena = core::mem::take(&mut self.arena);
        let mut current: Option<Box<Connection>> = None;
        let mut current_input = u32::MAX;
        let mut stalls: Vec<(u32, u32)> = Vec::new();
        // The current connection has run a request of the current input.
        let mut has_run = false;
        let batches = core::mem::take(&mut self.batches);
        let ahead = self.ahead(&batches, &mut arena.ahead, &arena.keys);
        self.core.prefetch_first(ahead);
        let mut at = 0;
        self.core.begin_lap();
        // Whether the current input is so long that a request of it may be noted for its length.
        let mut is_large = false;
        for batch in batches {
            for head in &batch.heads {
                if head.key.is_some() {
                    self.core.prefetch_next(at, ahead);
                    at += 1;
                }
                self.run_head(&batch, head);
            }
            if let Some(first) = batch.heads.first() {
                let from = first.ticket.core.index();
                self.core.replies[from].spent.push(batch);
            }
        }
        for incoming in &arena.incoming {
            let keys = incoming.keys.0 as usize..incoming.keys.1 as usize;
            for (_, slot, _) in arena.keys.get(keys).into_iter().flatten() {
                if self.core.is_here(*slot) {
                    self.core.prefetch_next(at, ahead);
                    at += 1;
                }
            }
            let input = &inputs[incoming.input as usize];
            if incoming.input != current_input || current.is_none() {
                self.put_back(&mut current);
                current = self.clients.take(input.conn);
                if current_input != incoming.input {
                    has_run = false;
                    is_large = input.bytes.get().len() >= self.core.bounds.request_bytes;
                }
                current_input = incoming.input;
            }
            let Some(client) = &mut current else { continue };
            if client.closing {
                continue;
            }
            let has_much = has_run && client.outbound.fresh_bytes() > OUTPUT_PER_TURN_BYTES_MAX;
            if client.stalled_in_turn || has_much {
                client.stalled_in_turn = true;
                stalls.push((incoming.input, incoming.base));
                continue;
            }
            if let Some(error) = incoming.error {
                let resp = client.resp;
                self.core.answer(client, |core, out| {
                    core.refuse(&Refusal::Protocol(error), resp, out)
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
            has_run = true;
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
                        self.spread(client, row, &args.clone().skip(row.name_words - 1), join);
                    }
                }
            }
            if self.core.noted.is_some() || is_large {
                self.note(incoming.row, &args, current.as_deref(), is_large);
            }
            if !self.core.ready.is_empty()
                || !self.core.unparked.is_empty()
                || self.core.waiting.has_begun()
                || self.core.has_news()
            {
                let by = (self.core.id, input.conn);
                self.put_back(&mut current);
                self.news(Some(by));
                self.settle();
                self.core.begin_lap();
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

    /// Makes notes of a request that has just been dispatched.
    #[cold]
    fn note(
        &mut self,
        row: Option<&'static Row>,
        args: &Args<'_>,
        client: Option<&Connection>,
        is_large: bool,
    ) {
        let (Some(row), Some(client)) = (row, client) else {
            return;
        };
        let client = Client::Here(client);
        if is_large {
            self.core.note_request(row, args, client);
        }
        self.core.note(row, args, client);
    }

    /// Hash, slot and database of the keys that this turn finds here, in the order of their use.
    #[inline]
    fn ahead<'k>(
        &self,
        batches: &[Box<Batch>],
        ahead: &'k mut Vec<Ahead>,
        keys: &'k [Ahead],
    ) -> &'k [Ahead] {
        if self.core.is_alone() {
            return keys;
        }
        ahead.clear();
        let heads = batches.iter().flat_map(|batch| &batch.heads);
        ahead.extend(heads.filter_map(|head| {
            let (_, hash, slot) = head.key?;
            Some((hash, slot, head.db))
        }));
        ahead.extend(keys.iter().filter(|(_, slot, _)| self.core.is_here(*slot)));
        ahead
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
