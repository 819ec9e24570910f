//! What connections take, and which of them are closed when all take too much (`maxmemory-clients`).
//!
//! ```text
//! a connection's buffers change: its core counts it anew ──> sum of the core ──> sum of the node
//! sum >= bound: the largest class of all cores goes first (classes: powers of two, from 32 KiB), oldest client first
//! ```
//! What is sent with the turn that made it is not counted, unless it is much: it is gone at once. A connection is counted anew when
//! output or input stays, when a request is queued, a key watched, a channel listened to. So a connection that is read and answered
//! turn by turn costs some comparisons a turn.
//!
//! Each core knows only its own. While there is too much, each publishes the class of its largest; the one whose class is highest
//! closes, and the others are told to look.

use std::sync::atomic::Ordering::Relaxed;

use runtime::{ConnId, CoreId, Turn};
use storage::account::class_size;

use crate::connection::{Connection, Multi, Request, Watch};
use crate::core::Core;
use crate::mail::Mail;
use crate::pubsub::Topic;
use crate::replicas::Side;
use crate::service::NodeService;

/// What a connection takes that has nothing under way.
const BASE_BYTES: usize = size_of::<Connection>();
/// Less output than this leaves at once and is not counted, bytes.
const OUTPUT_BYTES_MIN: usize = 16 << 10;
/// A name that is listened to, a prefix, a watched key: block and place in its list, on average.
const NAME_BYTES: usize = 64;
/// Seconds for which the largest buffers are remembered, as in Redis.
const RECENT_S: usize = 8;
/// How often other cores are asked for their largest connections, ms.
const ASK_MS: u64 = 100;
/// How long they have to answer, ms.
const ANSWER_MS: u64 = 1;
/// The lowest class and the highest, as powers of two (Redis's).
const CLASS_MIN: u32 = 15;
const CLASS_MAX: u32 = 33;

/// The largest buffers of connections in each of the last seconds.
#[derive(Default)]
pub struct Recent([RecentSecond; RECENT_S]);

#[derive(Clone, Copy, Default)]
struct RecentSecond {
    second: u64,
    input: usize,
    output: usize,
}

impl Recent {
    /// A connection's buffers have so many bytes in this second.
    fn note(&mut self, second: u64, (input, output): (usize, usize)) {
        let kept = &mut self.0[second as usize % RECENT_S];
        if kept.second != second {
            *kept = RecentSecond {
                second,
                ..RecentSecond::default()
            };
        }
        (kept.input, kept.output) = (kept.input.max(input), kept.output.max(output));
    }

    /// The largest of the last seconds, bytes: input and output.
    pub fn largest(&self, second: u64) -> (usize, usize) {
        let is_recent = |kept: &&RecentSecond| kept.second + RECENT_S as u64 > second;
        let recent = self.0.iter().filter(is_recent);
        recent.fold((0, 0), |(input, output), kept| {
            (input.max(kept.input), output.max(kept.output))
        })
    }
}

impl Connection {
    /// Bytes of its input that are kept, and of its output.
    fn buffer_bytes(&self) -> (usize, usize) {
        let input = self
            .partial
            .as_ref()
            .map_or(0, |partial| partial.input.len());
        let output = self.outbound.bytes() + self.sending_bytes.unwrap_or(0);
        (input.max(self.filling.unwrap_or(0)), output)
    }

    /// Bytes that it takes with all that is under way.
    pub fn memory_bytes(&self) -> usize {
        let (input, output) = self.buffer_bytes();
        let output = if output < OUTPUT_BYTES_MIN { 0 } else { output };
        let multi = self.multi.as_ref().map_or(0, |multi| {
            size_of::<Multi>()
                + multi.queued_bytes
                + multi.queued.len() * size_of::<Request>()
                + multi.watched.len() * (size_of::<Watch>() + NAME_BYTES)
        });
        let names = self.subscriptions.as_ref().map_or(0, |listens| {
            let topics = [Topic::Channel, Topic::Pattern, Topic::Shard];
            topics.iter().map(|topic| listens.len(*topic)).sum()
        });
        let prefixes = self
            .tracking
            .as_ref()
            .map_or(0, |tracking| tracking.prefixes.len());
        // (So that one of a replica always counts for more than one that has nothing under way.)
        let side = self.replica.as_ref().map_or(0, |_| size_of::<Side>());
        class_size(BASE_BYTES)
            + side
            + class_size(input)
            + class_size(output)
            + multi
            + (names + prefixes) * NAME_BYTES
    }

    /// Whether it is to be counted anew when it sends so many bytes.
    #[inline]
    pub fn holds_memory(&self, sent_bytes: usize) -> bool {
        sent_bytes >= OUTPUT_BYTES_MIN
            || self.multi.is_some()
            || self.subscriptions.is_some()
            || self.tracking.is_some()
            || self.has_counted_buffers()
    }

    /// Whether more is counted of it than of one that has nothing under way.
    #[inline]
    pub fn has_counted_buffers(&self) -> bool {
        self.counted_bytes > class_size(BASE_BYTES)
    }

    fn class(&self) -> u32 {
        let log = usize::BITS - self.counted_bytes.leading_zeros();
        log.clamp(CLASS_MIN, CLASS_MAX)
    }

    fn may_be_evicted(&self) -> bool {
        !self.no_evict && !self.closing && !self.is_replica()
    }
}

impl Core {
    /// Counts what a connection takes anew.
    #[inline]
    pub fn count_client(&mut self, client: &mut Connection) {
        let bytes = if client.closed {
            0
        } else {
            let second = self.now.unix_ms / 1000;
            self.memory.recent.note(second, client.buffer_bytes());
            client.memory_bytes()
        };
        let sum = &mut self.memory.client_bytes;
        *sum = (*sum + bytes as u64).saturating_sub(client.counted_bytes as u64);
        client.counted_bytes = bytes;
    }

    /// A connection is gone, or about to be.
    pub fn forget_client_bytes(&mut self, client: &mut Connection) {
        client.closed = true;
        self.count_client(client);
    }
}

impl NodeService {
    /// Closes connections while all take too much.
    #[cold]
    pub(crate) fn evict_clients(&mut self, turn: &mut Turn<'_, Mail>) {
        let node = self.core.node;
        let own = &node.published[self.core.id.index()];
        loop {
            own.client_bytes
                .store(self.core.memory.client_bytes, Relaxed);
            let taken = node.sum(|core| &core.client_bytes);
            let largest = self.largest_client();
            let is_over = taken >= self.core.memory.clients_bound;
            let class = largest.filter(|_| is_over).map_or(0, |(class, _)| class);
            own.largest_client.store(u64::from(class), Relaxed);
            if !is_over {
                return;
            }
            if self.ask_for_largest(turn) {
                // What the others have published may be old: they look first.
                turn.ops.wake_at(turn.now.unix_ms + ANSWER_MS);
                return;
            }
            let others = node.published.iter();
            let highest = others.map(|core| core.largest_client.load(Relaxed)).max();
            match largest {
                Some((class, conn)) if Some(u64::from(class)) == highest => {
                    self.evict_client(conn, turn);
                }
                _ => return,
            }
        }
    }

    /// The class of the largest connection that may be closed, and the oldest of that class.
    fn largest_client(&self) -> Option<(u32, ConnId)> {
        let clients = self.clients.iter().filter(|client| client.may_be_evicted());
        let largest = clients.max_by_key(|client| (client.class(), core::cmp::Reverse(client.id)));
        largest.map(|client| (client.class(), client.conn))
    }

    /// The connections of others may be larger, or may have to go as well; whether they have been asked.
    fn ask_for_largest(&mut self, turn: &mut Turn<'_, Mail>) -> bool {
        let now_ms = turn.now.unix_ms;
        if self.core.is_alone() || now_ms < self.core.memory.asked_ms + ASK_MS {
            return false;
        }
        self.core.memory.asked_ms = now_ms;
        for other in (0..self.core.node.cores() as u16).map(CoreId) {
            if other != self.core.id {
                turn.ops.post(other, Mail::MakeRoom);
            }
        }
        true
    }

    fn evict_client(&mut self, conn: ConnId, turn: &mut Turn<'_, Mail>) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        client.closing = true;
        self.core.forget_client_bytes(client);
        self.core.tally.evicted_clients += 1;
        turn.ops.close(conn);
        let mut line = Vec::new();
        if let Some(client) = self.clients.get_mut(conn) {
            crate::clients::write_line(client, &self.core, &mut line);
        }
        let line = String::from_utf8_lossy(&line);
        self.core
            .node
            .log(|log| log.notice(&format!("Evicting client: {}", line.trim_end())));
    }
}
