//! A core while requests are held for a flip, and when they are let go.
//!
//! ```text
//! hold() ── Mail::Authority ──> each core: nothing begins; what it has given to others is before its Mail::Fence there
//!                               fences of all are here, nothing of its own under way ──> quiet
//! ```
//! A core that is quiet does nothing more to its keys: no request of its clients, or of another core's, is under way or parked, nor a
//! transaction that has slots, and nobody who waits here for a write can be served.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use migration::Authority;
use runtime::{ConnId, Turn};

use crate::blocking::{Waiter, block_of};
use crate::connection::{Connection, Request};
use crate::core::Core;
use crate::front::pass::{Blocking, Elsewhere};
use crate::front::shards::Routes;
use crate::mail::Mail;
use crate::service::NodeService;

/// How often a core that is not quiet looks again, and one whose clients wait for the stream, ms.
const LOOK_MS: u64 = 1;

/// A core's own part.
#[derive(Default)]
pub struct CoreFront {
    /// Connections with requests that leave with this turn.
    pub(super) listed: Vec<ConnId>,
    /// The shards of the source, and the change of them that this core has taken over.
    pub(super) routes: Option<Arc<Routes>>,
    /// See `routes`.
    pub(super) routes_epoch: u64,
    /// The hold that this core has taken over, or heard of.
    epoch: u64,
    /// Cores that have told that nothing of theirs is on its way here.
    fences: usize,
    /// The hold of which it has told the others.
    told: u64,
    /// Nothing was under way at the end of the last turn: what that one has changed is in the log by now.
    was_quiet: bool,
}

impl CoreFront {
    fn hear(&mut self, epoch: u64) {
        if self.epoch < epoch {
            (self.epoch, self.fences) = (epoch, 0);
        }
    }
}

impl Core {
    /// Whether requests are passed on, or held for a flip.
    pub(crate) fn is_in_front(&self) -> bool {
        matches!(self.authority, Authority::Front | Authority::Held)
    }

    /// Whether a connection that stalled waits for something of the front.
    pub(crate) fn waits_in_front(&self, client: &Connection) -> bool {
        let waits = client
            .front
            .as_ref()
            .is_some_and(|front| front.waits_since_ms != 0);
        self.authority == Authority::Held || (waits && self.is_in_front())
    }
}

impl NodeService {
    /// Somebody else decides what keys hold, from now on.
    pub(crate) fn change_authority(&mut self) {
        let before = self.core.authority;
        self.take_authority();
        let (node, after) = (self.core.node, self.core.authority);
        if before != after {
            self.lose_watches();
        }
        self.core.front.was_quiet = false;
        if after == Authority::Held {
            let epoch = node.front.epoch.load(Acquire);
            self.core.front.hear(epoch);
            self.tell_hold(epoch);
            return;
        }
        if before == Authority::Held {
            let since_us = node.front.held_since_us.load(Acquire);
            let held_us = runtime::mono_us().saturating_sub(since_us);
            node.front.note_hold(self.core.front.epoch, held_us);
        }
        let mut again = Vec::new();
        for client in self.clients.iter_mut() {
            let Some(front) = &mut client.front else {
                continue;
            };
            front.waits_since_ms = 0;
            match &self.core.front.routes {
                _ if after != Authority::Front => front.leave(),
                Some(routes) => front.leave_some(|shard| routes.are_ours(shard)),
                None => {}
            }
            if front.blocks.as_ref().is_some_and(|blocks| blocks.is_again) {
                again.push(client.conn);
            }
        }
        again.into_iter().for_each(|conn| self.go_on(conn));
    }

    /// Requests are held here: other cores hear of it behind all that was sent to them before.
    fn tell_hold(&mut self, epoch: u64) {
        if core::mem::replace(&mut self.core.front.told, epoch) == epoch {
            return;
        }
        self.core.tell_others(|| Mail::Fence(epoch));
    }

    /// Another core's requests of before a hold are all here.
    pub(crate) fn on_fence(&mut self, epoch: u64) {
        let front = &mut self.core.front;
        front.hear(epoch);
        if front.epoch == epoch {
            front.fences += 1;
        }
    }

    /// Who watches keys is told at EXEC that they have changed: they may, on the other side.
    fn lose_watches(&mut self) {
        for client in self.clients.iter_mut() {
            let Some(multi) = &mut client.multi else {
                continue;
            };
            if multi.elsewhere == Elsewhere::Yes || !multi.watched.is_empty() {
                multi.elsewhere = Elsewhere::Lost;
                let watched = core::mem::take(&mut multi.watched);
                self.core.unwatch(watched);
            }
        }
    }

    /// The front's part of a turn.
    #[cold]
    pub(crate) fn front_turn(&mut self, turn: &mut Turn<'_, Mail>) {
        self.send_orders();
        match self.core.authority {
            Authority::Held => {
                self.end_local_waits();
                let is_quiet = self.is_quiet();
                let front = &mut self.core.front;
                let was_quiet = core::mem::replace(&mut front.was_quiet, is_quiet);
                let quiet = if is_quiet && was_quiet {
                    front.epoch
                } else {
                    0
                };
                self.core.node.front.quiet[self.core.id.index()].store(quiet, Release);
                if !is_quiet {
                    turn.ops.wake_at(turn.now.unix_ms + LOOK_MS);
                } else if !was_quiet {
                    turn.ops.again();
                }
            }
            Authority::Front if !self.paused.is_empty() => {
                turn.ops.wake_at(turn.now.unix_ms + LOOK_MS);
            }
            _ => {}
        }
    }

    fn is_quiet(&self) -> bool {
        let core = &self.core;
        core.front.epoch == core.node.front.epoch.load(Acquire)
            && core.front.fences + 1 >= core.node.cores()
            && core.locks.is_empty()
            && core.txs.is_empty()
            && core.unparked.is_empty()
            && core.walks.is_empty()
            && core.errands == 0
            && self.clients.iter().all(is_at_rest)
    }

    /// Those who wait here for a write do so no more; they go on when it is known where.
    fn end_local_waits(&mut self) {
        let mut ended: Vec<Arc<Waiter>> = Vec::new();
        for client in self.clients.iter() {
            let waiter = client.blocked.as_ref();
            // (One that is being tried is looked at again.)
            ended.extend(
                waiter
                    .filter(|waiter| writes(waiter) && waiter.finish())
                    .cloned(),
            );
        }
        for waiter in ended {
            let ticket = waiter.ticket();
            let Some(client) = self.clients.get_mut(ticket.conn) else {
                continue;
            };
            self.core.end_wait(client);
            self.core.node.blocked.fetch_add(1, Relaxed);
            let request = &waiter.attempt.request;
            client.front.get_or_insert_default().blocks = Some(Blocking {
                request: Request {
                    row: request.row,
                    buf: request.buf.clone(),
                    words: request.words.clone(),
                },
                until_ms: waiter.until_ms(),
                db: waiter.attempt.db,
                shard: None,
                seq: ticket.seq,
                is_again: true,
            });
        }
    }
}

/// Whether a request that waits changes keys once it is served.
fn writes(waiter: &Waiter) -> bool {
    !waiter.keys.is_empty()
        && block_of(waiter.attempt.request.row).is_some_and(|block| block.writes)
}

/// Whether nothing of a connection is under way here.
fn is_at_rest(client: &Connection) -> bool {
    let front = client.front.as_deref();
    client.outbound.outstanding() == 0
        || front.is_some_and(|front| front.outstanding > 0 || front.blocks())
        || client
            .blocked
            .as_ref()
            .is_some_and(|waiter| !writes(waiter))
}

impl super::Front {
    /// A core has let its requests go: the last one tells how long they were held.
    fn note_hold(&self, epoch: u64, held_us: u64) {
        // (The first core of a hold sets it, the others may only make it longer.)
        let last = self.noted_epoch.swap(epoch, AcqRel);
        if last == epoch {
            self.last_hold_us.fetch_max(held_us, Relaxed);
        } else {
            self.last_hold_us.store(held_us, Relaxed);
        }
    }
}
