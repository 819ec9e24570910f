//! What a core does when somebody else decides what keys hold: whom it refuses, and who waits in vain.

use migration::Authority;
use protocol::{Flags, Refusal};

use super::Link;
use crate::connection::Connection;
use crate::core::Core;
use crate::holds::queues_writes;
use crate::service::NodeService;
use crate::table::Row;

/// What those are told who wait for a key when the node becomes a replica, as in Redis.
const UNBLOCKED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

impl Core {
    /// Whether clients may not write here.
    pub fn is_read_only(&self) -> bool {
        // (A script may have begun while another decided. What this node had begun by itself ends as it began, held or not.)
        let may_write = match self.authority {
            Authority::Source => !self.config.replica_read_only,
            Authority::Own | Authority::Held => self.owns,
            Authority::Front => self.owns_some(),
        };
        !may_write && !self.scripts.obeys
    }

    /// Whether what is here may be old, and is not to be shown then.
    pub fn hides_old(&self) -> bool {
        self.authority == Authority::Source
            && !self.config.replica_serve_stale_data
            && !self.scripts.obeys
            && self.node.source.link() != Link::Connected
    }

    /// What a replica refuses: writes, and anything about data while that may be old and is not to be shown then.
    #[cold]
    pub fn replica_refusal(&self, row: &Row, conn: &Connection) -> Option<Refusal> {
        let writes = queues_writes(row, conn) || row.spec.flags.contains(Flags::WRITE);
        if writes && self.authority == Authority::Source && self.is_read_only() {
            return Some(Refusal::Readonly);
        }
        let is_old = !row.spec.flags.contains(Flags::STALE) && self.hides_old();
        is_old.then_some(Refusal::MasterDown)
    }
}

impl NodeService {
    /// Takes over who decides what keys hold. Who waits for a key on a node that becomes a replica waits in vain: his connection is closed.
    pub(crate) fn take_authority(&mut self) {
        let before = self.core.authority;
        self.core.take_authority();
        if self.core.authority != Authority::Source || before == Authority::Source {
            return;
        }
        let blocked = self
            .clients
            .iter()
            .filter(|client| client.blocked.is_some());
        let blocked: Vec<_> = blocked.map(|client| (client.id, client.conn)).collect();
        for (id, conn) in blocked {
            if self.unblock_with(id, Some(UNBLOCKED)) {
                if let Some(client) = self.clients.get_mut(conn) {
                    client.closing = true;
                }
                self.mark_dirty(conn);
            }
        }
    }
}
