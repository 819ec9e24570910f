//! The end of a turn: what goes out, deadlines, garbage, idle clients, and leaving.

use std::sync::atomic::Ordering::Relaxed;

use runtime::{ConnId, Turn};

use crate::commit::Gate;
use crate::connection::{Connection, Pieces};
use crate::core::Core;
use crate::mail::Mail;
use crate::pubsub::Topic;
use crate::service::NodeService;

/// Passed deadlines acted upon in a turn, and elements of garbage freed.
/// (All tables of a load that expires become smaller at about the same time: each key may cost one some microseconds.)
const EXPIRE_PER_TURN_MAX: usize = 32;
const GARBAGE_PER_TURN_MAX: usize = 512;
/// Blocks that other threads have freed and that a turn puts back into their pages.
const RETURNED_PER_TURN_MAX: usize = 256;
/// Bytes of one connection of TLS that a turn seals.
const SEALED_BYTES_MAX: usize = 256 << 10;
/// How long a stopping core waits for replies under way, and how often it looks, ms.
const DRAIN_MS_MAX: u64 = 5000;
const DRAIN_LOOK_MS: u64 = 2;
/// How often a connection that is owed replies after its last byte is looked at, ms.
const LINGER_LOOK_MS: u64 = 1;
/// How long output that is held back for the replies behind it may wait when nothing else happens here, ms: only a core
/// that is stuck does not answer sooner. A short timer costs more than its turn (see [`runtime::SENT_HOLD_US_MAX`]).
const HELD_LOOK_MS: u64 = 10;
/// How often the counters of single commands are published, ms.
const PUBLISH_CALLS_MS: u64 = 100;

impl NodeService {
    /// One send per connection with output.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_, Mail>, gate: Gate) {
        if !self.behind.is_empty() {
            self.look_behind();
        }
        let mut held = core::mem::take(&mut self.held);
        let mut dirty = core::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            if client.is_held(turn.now.mono_us as u32) {
                held.push(conn);
                continue;
            }
            client.dirty = false;
            client.held_since_us = 0;
            if client.closed {
                continue;
            }
            if over_limit(&self.core, client) {
                self.core.tally.output_limit_closes += 1;
                client.closed = true;
                client.closing = true;
                turn.ops.close(conn);
                self.core.forget_client_bytes(client);
                continue;
            }
            if gate != Gate::Open || client.outbound.is_gated() {
                let until = match gate {
                    Gate::Open => 0,
                    Gate::Until(position) => position,
                };
                client.outbound.hold(until);
                if !client.behind {
                    client.behind = true;
                    self.behind.push(conn);
                }
            }
            if client.sending_bytes.is_some() {
                client.outbound.pile_up();
                self.core.count_client(client);
                continue;
            }
            let mut out = match client.tls {
                _ if client.outbound.is_gated() => client.outbound.next_released(self.released),
                None => client.outbound.next_piece(),
                Some(_) => client.outbound.next_part(SEALED_BYTES_MAX),
            };
            if client.tls.is_some() {
                out = seal(&mut self.core, client, out);
            }
            if !out.is_empty() {
                client.sending_bytes = Some(out.len());
                if client.holds_memory(out.len()) {
                    self.core.count_client(client);
                }
                turn.ops.send(conn, out);
                if client.closing {
                    // The end of the send is waited for: to be told at once, not when something else happens.
                    turn.ops.again();
                }
            } else if client.closing
                && !client.outbound.is_gated()
                && (client.outbound.outstanding() == 0 || client.is_blocked())
            {
                client.closed = true;
                turn.ops.close(conn);
            }
        }
        if !held.is_empty() {
            turn.ops.wake_at(turn.now.unix_ms + HELD_LOOK_MS);
        }
        // They are looked at again in the next turn.
        (self.dirty, self.held) = (held, dirty);
    }

    /// The disk fails: reads are answered from now on, whatever is not on it. Replies that are here already wait for it (see
    /// `gated.rs`), also the parts of those that are gathered.
    #[cold]
    pub(crate) fn withhold(&mut self, until: u64) {
        for client in self.clients.iter_mut() {
            if client.gather.is_some() {
                client.outbound.withhold_all(until);
            } else {
                client.outbound.withhold(until);
            }
        }
    }

    /// The log may have come further: output that has waited for it is looked at.
    #[cold]
    fn look_behind(&mut self) {
        let released = self.core.node.write_log.released();
        if released == self.released {
            return;
        }
        self.released = released;
        let mut behind = core::mem::take(&mut self.behind);
        behind.retain(|conn| {
            let Some(client) = self.clients.get_mut(*conn) else {
                return false;
            };
            if !client.dirty {
                client.dirty = true;
                self.dirty.push(*conn);
            }
            client.behind = client.outbound.is_gated();
            client.behind
        });
        self.behind = behind;
    }

    /// Deadlines, garbage, idle clients, the end.
    pub(crate) fn background(&mut self, turn: &mut Turn<'_, Mail>) {
        let begin = (self.core.config.latency_monitor_threshold_ms > 0).then(runtime::ticks);
        let is_loading = self.core.is_loading();
        let shard = &mut self.core.shard;
        if self.core.active_expire && !is_loading && !shard.holds_expired() {
            let begin = runtime::ticks();
            if shard.expire_due(EXPIRE_PER_TURN_MAX) {
                turn.ops.again();
            } else if let Some(at_ms) = shard.next_expiry_ms() {
                turn.ops.wake_at(at_ms);
            }
            self.core.tally.expire_ticks += runtime::ticks().wrapping_sub(begin);
        }
        self.news(None);
        let shard = &mut self.core.shard;
        if shard.has_garbage() {
            let blobs = shard.take_blobs();
            if !blobs.is_empty() {
                self.core.node.aside.free(Pieces(blobs));
            }
            if shard.free_garbage(GARBAGE_PER_TURN_MAX) {
                turn.ops.again();
            }
        }
        if self.core.memory.bound != 0 {
            self.make_room(turn);
        }
        // Blocks of this core's that others have freed: a core that allocates nothing would never look.
        if heap::collect(RETURNED_PER_TURN_MAX) {
            turn.ops.again();
        }
        self.compact(turn);
        if !self.core.walks.is_empty() {
            self.walk_some(turn);
        }
        self.background_image(turn);
        if let Some(begin) = begin {
            let ticks = runtime::ticks().wrapping_sub(begin) as f64;
            let us = ticks / self.core.ticks_per_us;
            self.core.note_delay("expire-cycle", us as u64 / 1000);
        }
        if self.core.pause.until_ms != 0 {
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
        if self.core.pause.until_ms == 0 && !self.paused.is_empty() && !self.core.is_in_front() {
            turn.ops.again();
        }
        if let Some(at_ms) = self.end_waits(turn.now.unix_ms) {
            turn.ops.wake_at(at_ms);
        }
        if !self.shaking.is_empty() {
            self.end_handshakes(turn);
        }
        if self.core.users_changed {
            self.close_deleted_users();
            self.close_dropped(turn);
        }
        if !self.lingering.is_empty() {
            self.end_lingering();
            turn.ops.wake_at(turn.now.unix_ms + LINGER_LOOK_MS);
        }
        if self.stopping {
            self.leave(turn);
        }
    }

    /// Leaves once no core has a reply under way: another's clients may wait for this one's answers.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_, Mail>) {
        let now_ms = turn.now.unix_ms;
        let until_ms = *self.leave_until_ms.get_or_insert(now_ms + DRAIN_MS_MAX);
        let has_left = self.core.node.snapshots.has_left.load(Relaxed);
        let under_way = self.clients.iter().any(|client| {
            let outbound = &client.outbound;
            let replies = outbound.bytes() + outbound.outstanding();
            let owed = !client.is_blocked() && replies > 0 && !has_left;
            client.sending_bytes.is_some() || owed
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

    /// Closes the connections whose handshakes have taken too long.
    #[cold]
    fn end_handshakes(&mut self, turn: &mut Turn<'_, Mail>) {
        while let Some((conn, until_ms)) = self.shaking.front().copied() {
            let client = self.clients.get_mut(conn);
            let shakes = client.filter(|client| {
                !client.closing && client.tls.as_ref().is_some_and(|tls| !tls.is_ready())
            });
            match shakes {
                Some(_) if until_ms > turn.now.unix_ms => {
                    turn.ops.wake_at(until_ms);
                    return;
                }
                Some(client) => {
                    client.closing = true;
                    self.mark_dirty(conn);
                }
                None => {}
            }
            self.shaking.pop_front();
        }
    }

    /// Closes the connections whose users are gone.
    #[cold]
    fn close_deleted_users(&mut self) {
        self.core.users_changed = false;
        for conn in self.clients.of_deleted_users(&self.core.users) {
            if let Some(client) = self.clients.get_mut(conn) {
                self.core.recognize(client);
            }
            self.mark_dirty(conn);
        }
        // Who listens to what he may hear no more is disconnected, as in Redis.
        let users = &self.core.users;
        let denied = |client: &&Connection| {
            let user = users.get(&client.user.name).unwrap_or(&client.user);
            let subscriptions = client.subscriptions.as_deref();
            !user.may_all
                && subscriptions.is_some_and(|subscriptions| {
                    !subscriptions
                        .names()
                        .all(|(topic, name)| user.may_use_channel(name, topic == Topic::Pattern))
                })
        };
        let denied = self.clients.iter().filter(denied);
        let denied: Vec<ConnId> = denied.map(|client| client.conn).collect();
        for conn in denied {
            if let Some(client) = self.clients.get_mut(conn) {
                client.closing = true;
            }
            self.mark_dirty(conn);
        }
    }

    /// Closes the connections that have sent their last byte and have got all replies.
    fn end_lingering(&mut self) {
        let mut lingering = core::mem::take(&mut self.lingering);
        lingering.retain(|conn| match self.clients.get_mut(*conn) {
            Some(client) if client.is_owed() => true,
            Some(client) => {
                client.closing = true;
                self.mark_dirty(*conn);
                false
            }
            None => false,
        });
        self.lingering = lingering;
    }

    pub(crate) fn publish(&mut self) {
        let published = &self.core.node.published[self.core.id.index()];
        published.publish(&mut self.core.tally, &self.core.shard, self.clients.len());
        published
            .client_bytes
            .store(self.core.memory.client_bytes, Relaxed);
        published
            .table_bytes
            .store(self.core.table_bytes(), Relaxed);
        let now_ms = self.core.now.unix_ms;
        if now_ms.saturating_sub(self.calls_published_ms) >= PUBLISH_CALLS_MS {
            self.calls_published_ms = now_ms;
            published.publish_calls(&self.core.tally);
            let node = self.core.node;
            node.weigh_scripts();
            node.note_used_bytes();
            node.rates.note(now_ms, || node.sample(now_ms));
        }
    }
}

/// What is to be sent of TLS for a piece of output; a connection that cannot seal it is closed.
fn seal(core: &mut Core, client: &mut Connection, plain: Vec<u8>) -> Vec<u8> {
    let Some(tls) = &mut client.tls else {
        return plain;
    };
    let mut out = core.buffer();
    if tls.seal(&plain, &mut out).is_err() {
        client.closing = true;
    }
    core.keep_buffer(plain);
    if client.closing && client.outbound.bytes() == 0 && client.outbound.outstanding() == 0 {
        tls.say_goodbye(&mut out);
    }
    out
}

/// Whether a client's output is over its limits.
fn over_limit(core: &Core, client: &mut Connection) -> bool {
    let limits = core.config.client_output_buffer_limit;
    let limit = if client.subscriptions.is_some() {
        limits.pubsub
    } else {
        limits.normal
    };
    let bytes = (client.outbound.bytes() + client.sending_bytes.unwrap_or(0)) as u64;
    if limit.hard_bytes != 0 && bytes > limit.hard_bytes {
        // What a replica lags by is counted where its stream is.
        return !client.is_replica();
    }
    if limit.soft_bytes == 0 || bytes <= limit.soft_bytes {
        client.soft_since_ms = 0;
        return false;
    }
    if client.soft_since_ms == 0 {
        client.soft_since_ms = core.now.unix_ms;
    }
    let is_long = core.now.unix_ms - client.soft_since_ms > u64::from(limit.soft_seconds) * 1000;
    is_long && !client.is_replica()
}
