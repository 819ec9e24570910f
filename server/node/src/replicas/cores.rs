//! A core's part: recording turned on and off for replicas, and the stream put into a connection's output.

use std::sync::Arc;

use migration::Authority;
use runtime::Turn;

use super::{Link, Told};
use crate::commit::Commit;
use crate::connection::Connection;
use crate::control::snapshot::Goal;
use crate::core::Core;
use crate::image::{Answer, Work};
use crate::mail::Mail;
use crate::service::NodeService;

impl Core {
    /// With every slot in hand: every core records for replicas from here on.
    pub(crate) fn begin_feed(&mut self) {
        let log = &self.node.write_log;
        if log.feeds() {
            return;
        }
        // What was recorded before is for the log alone.
        self.queue_effects();
        log.begin_feed();
        if self.commit == Commit::Local {
            self.record_everywhere(true);
        }
    }

    /// With every slot in hand: no core records for replicas any more, unless one has come meanwhile.
    pub(crate) fn stop_feed(&mut self) {
        let node = self.node;
        if !node.write_log.feeds() || !node.replicas.is_unused() {
            return;
        }
        self.queue_effects();
        node.write_log.stop_feed();
        if !node.write_log.is_on() {
            self.record_everywhere(false);
        }
        node.replicas.wake(&node.write_log);
    }

    /// A connection is no replica's any more.
    pub(crate) fn end_replica(&mut self, conn: &mut Connection) {
        if let Some(link) = conn.replica.take().and_then(|side| side.link) {
            link.leave();
            self.node.replicas.wake(&self.node.write_log);
        }
    }

    /// A send of a connection has ended, which may be a replica's.
    #[cold]
    pub(crate) fn note_stream_sent(&self, client: &Connection) {
        let side = client.replica.as_deref();
        if side.is_some_and(|side| side.note_waiting(client.outbound.bytes())) {
            self.node.replicas.wake(&self.node.write_log);
        }
    }

    /// Fewer replicas are near than the configuration wants for a write.
    pub(crate) fn wants_replicas(&self) -> bool {
        let (wanted, lag_s) = (
            self.config.min_replicas_to_write,
            self.config.min_replicas_max_lag_s,
        );
        let is_primary = self.authority == Authority::Own;
        wanted > 0 && lag_s > 0 && is_primary && self.node.replicas.near() < wanted
    }
}

impl NodeService {
    /// What the thread of replicas says.
    pub(crate) fn on_replica_told(&mut self, told: Told) {
        match told {
            Told::Stream(link, bytes) => self.pass_stream_on(&link, bytes),
            Told::Drop(link) => self.drop_replica(&link),
            Told::Copy => {
                let work = Work::Cut(Goal::Replica, Answer::Never);
                self.core.start_own_image(work);
            }
            Told::Feed(on) => self.core.start_own_image(Work::Feed(on)),
            Told::Near => self.core.update_holds(),
        }
    }

    fn pass_stream_on(&mut self, link: &Arc<Link>, bytes: Vec<u8>) {
        let Some(client) = self.clients.get_mut(link.conn) else {
            return;
        };
        let side = client.replica.as_deref_mut();
        let Some(side) = side.filter(|side| side.is_of(link)) else {
            return;
        };
        if client.closing {
            return;
        }
        side.deliver(bytes.len());
        client.outbound.push(bytes);
        self.mark_dirty(link.conn);
    }

    fn drop_replica(&mut self, link: &Arc<Link>) {
        if let Some(client) = self.clients.get_mut(link.conn)
            && client.replica.as_ref().is_some_and(|side| side.is_of(link))
        {
            client.closing = true;
            self.core.dropped.push(link.conn);
            // (Looked at in every turn already.)
            self.core.users_changed = true;
        }
    }

    /// Closes connections that are not waited for.
    pub(crate) fn close_dropped(&mut self, turn: &mut Turn<'_, Mail>) {
        for conn in core::mem::take(&mut self.core.dropped) {
            let Some(client) = self.clients.get_mut(conn).filter(|client| !client.closed) else {
                continue;
            };
            self.core.forget_client_bytes(client);
            turn.ops.close(conn);
        }
    }
}

impl Connection {
    /// Whether it is a replica's.
    pub fn is_replica(&self) -> bool {
        let link = self.replica.as_ref().and_then(|side| side.link.as_ref());
        link.is_some()
    }
}
