//! What holds requests back before they are executed: data that is being read, a disk or a log that cannot be written, a long script,
//! another who decides, too few replicas. One word of bits ([`Core::holds`]) is looked at where every request passes.

use std::sync::Arc;

use migration::Authority;
use protocol::{Flags, Refusal};

use crate::connection::Connection;
use crate::core::Core;
use crate::table::Row;

/// What it is answered while too few replicas are near.
pub(crate) const NOREPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";

/// Whether a request changes data; EXEC does when a queued one does.
pub(crate) fn queues_writes(row: &Row, conn: &Connection) -> bool {
    row.writes || queues_some(row, conn, |queued| queued.writes)
}

/// Whether a request is EXEC, and of what was queued some `is` so.
fn queues_some(row: &Row, conn: &Connection, is: impl Fn(&Row) -> bool) -> bool {
    let queued = conn.multi.as_deref().filter(|_| crate::multi::is_exec(row));
    queued.is_some_and(|multi| multi.queued.iter().any(|request| is(request.row)))
}

/// What may hold requests back.
#[derive(Clone, Copy)]
struct Holds {
    loading: bool,
    /// The last snapshot has failed.
    refuses_writes: bool,
    log_fails: bool,
    /// A script runs for long.
    is_busy: bool,
    /// Somebody else decides what keys hold.
    follows: bool,
    /// Too few replicas are near.
    lacks_replicas: bool,
}

impl Holds {
    fn bits(self) -> u64 {
        let rdb = u64::from(self.refuses_writes) << 1;
        let log = u64::from(self.log_fails) << 2;
        let busy = u64::from(self.is_busy) << 3;
        let replicas = u64::from(self.lacks_replicas) << 5;
        u64::from(self.loading) | rdb | log | busy | u64::from(self.follows) << 4 | replicas
    }

    fn of(bits: u64) -> Holds {
        Holds {
            loading: bits & 1 != 0,
            refuses_writes: bits & 2 != 0,
            log_fails: bits & 4 != 0,
            is_busy: bits & 8 != 0,
            follows: bits & 16 != 0,
            lacks_replicas: bits & 32 != 0,
        }
    }
}

impl Core {
    /// Whether something holds requests back; looked at where every request passes.
    pub fn update_holds(&mut self) {
        self.update_holds_of_log(self.refuses());
    }

    /// The same, and whether the log cannot be written.
    pub fn update_holds_of_log(&mut self, log_fails: bool) {
        let node = self.node;
        let refuses = node.snapshots.facts().has_failed
            && self.config.stop_writes_on_bgsave_error
            && !self.config.save.is_empty();
        let (was_loading, loading) = (self.is_loading(), self.lacks_data());
        if was_loading && !loading {
            // Nobody was served meanwhile.
            self.waiting.look_at_all();
        }
        self.holds = Holds {
            loading,
            refuses_writes: refuses,
            log_fails,
            is_busy: self.busy().is_some(),
            follows: self.authority != Authority::Own,
            lacks_replicas: self.wants_replicas(),
        }
        .bits();
    }

    /// The log cannot be written: writes are refused.
    #[inline]
    pub fn refuses(&self) -> bool {
        Holds::of(self.holds).log_fails
    }

    /// Too few replicas are near: writes are refused.
    pub fn lacks_replicas(&self) -> bool {
        Holds::of(self.holds).lacks_replicas
    }

    /// Whether not all is here that clients could ask for: a file is being read, or one of several sources is being copied and reads are not passed
    /// on.
    pub fn lacks_data(&self) -> bool {
        let node = self.node;
        let is_partial = self.authority == Authority::Source && node.source.is_partial();
        node.loading.is_on() || is_partial
    }

    /// Whether data is being read.
    #[inline]
    pub fn is_loading(&self) -> bool {
        Holds::of(self.holds).loading
    }

    /// What holds a request back, if anything does.
    #[cold]
    pub fn held_back(&self, row: &'static Row, conn: &Connection) -> Option<Refusal> {
        let holds = Holds::of(self.holds);
        if holds.follows
            && let Some(refusal) = self.replica_refusal(row, conn)
        {
            return Some(refusal);
        }
        let lacks = |row: &Row| self.waits_for_data(row);
        if holds.loading && (lacks(row) || queues_some(row, conn, lacks)) {
            return Some(Refusal::Loading);
        }
        let refusal = self.write_refusal(holds, row, conn);
        refusal.or_else(|| self.busy_refusal(row))
    }

    /// Whether a command is refused while data is being read. (A copy that is loaded as it arrives can be ended, as one whose file comes first.)
    pub(crate) fn waits_for_data(&self, row: &Row) -> bool {
        let ends_copies = matches!(row.spec.name, "replicaof" | "slaveof");
        let is_copy = self.node.loading.has_started();
        let may_pass = row.spec.flags.contains(Flags::LOADING) || (ends_copies && is_copy);
        !may_pass
    }

    /// What holds a request back that another core, which did not know yet, has let pass, or that has waited here.
    #[cold]
    pub fn held_back_late(&self, row: &'static Row) -> Option<Refusal> {
        let holds = Holds::of(self.holds);
        if holds.log_fails && row.writes {
            return Some(self.log_failure());
        }
        if holds.follows && row.writes && self.is_read_only() && !self.goes_on() {
            return Some(Refusal::Readonly);
        }
        let is_barred = holds.loading && self.waits_for_data(row);
        is_barred.then_some(Refusal::Loading)
    }

    /// Takes over who decides what keys hold.
    pub fn take_authority(&mut self) {
        let node = self.node;
        let change = node.source.change();
        self.authority = node.source.authority();
        if self.authority == Authority::Front {
            self.look_at_routes();
        }
        if self.authority != Authority::Held {
            self.owns = self.authority == Authority::Own || self.owns_some();
        }
        self.hold_expired();
        self.bound_memory(&Arc::clone(&self.config));
        self.update_holds();
        node.source.taken(self.id, change);
    }

    fn write_refusal(&self, holds: Holds, row: &'static Row, conn: &Connection) -> Option<Refusal> {
        if !(queues_writes(row, conn) || row.spec.name == "ping") {
            return None;
        }
        if holds.log_fails {
            return Some(self.log_failure());
        }
        if holds.lacks_replicas && row.spec.name != "ping" {
            return Some(Refusal::Text(NOREPLICAS));
        }
        holds.refuses_writes.then_some(Refusal::MisconfRdb)
    }
}
