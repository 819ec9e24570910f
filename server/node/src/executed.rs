//! Something done on one core, from outside of the cores, with slots in hand; above all requests that another server has executed, run here in
//! their order: those of a log of Redis, those of a source's stream.
//!
//! ```text
//! a thread ── Mail::Visit(slots, what) ──> a core: a transaction over the slots ── all there? ──> what(core)
//! ```
//! Nothing expires while such requests run: they were executed when their keys were there, and the end of a key is a request of its own. Nobody
//! refuses them for want of memory, or since clients may not write.

use runtime::{ConnId, CoreId};
use storage::{SLOTS, Slot};

use crate::connection::{Connection, Request};
use crate::core::{Core, Scope};
use crate::mail::Ticket;
use crate::transaction::Job;

/// Failures of one run that are told.
const TOLD_MAX: usize = 16;

/// What is done with the slots in hand. It must be short: nothing else happens on its core meanwhile.
pub type Run = Box<dyn FnOnce(&mut Core) + Send>;

/// See the module's head.
pub struct Visit {
    /// The slots it needs, sorted, each once; None for all.
    pub slots: Option<Vec<Slot>>,
    /// What it does.
    pub run: Run,
}

/// A request that failed here, though it did not elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which one of those that were run.
    pub at: usize,
    /// Its error.
    pub error: String,
}

impl Core {
    /// Begins a transaction for a visit.
    pub fn begin_visit(&mut self, visit: Visit) {
        let mut slots = visit
            .slots
            .unwrap_or_else(|| (0..SLOTS as u16).map(Slot).collect());
        if slots.is_empty() {
            // (One that needs none waits for nobody, but for its turn.)
            slots.extend(
                self.node
                    .range(self.id)
                    .next()
                    .map(|slot| Slot(slot as u16)),
            );
        }
        let needs = self.needs(&slots, Vec::new());
        let nobody = Ticket {
            core: self.id,
            conn: ConnId::from_u64(u64::MAX),
            seq: u64::MAX,
        };
        self.start_tx(nobody, Job::Visit(visit.run), needs);
    }

    /// Runs requests that were executed elsewhere, for a connection without a client; the slots that they need are in place. Tells which of
    /// them have failed here, the first ones of many.
    pub fn run_executed(&mut self, conn: &mut Connection, requests: &[Request]) -> Vec<Failed> {
        let mut failed = Vec::new();
        (conn.authenticated, conn.free_at) = (true, self.users_epoch);
        self.shard.suspend_deadlines();
        self.scripts.obeys = true;
        self.tally.nested = true;
        let mut out = self.buffer();
        for (at, request) in requests.iter().enumerate() {
            out.clear();
            self.run_queued(conn, request, Scope::Whole, &mut out);
            if out.first() == Some(&b'-') && failed.len() < TOLD_MAX {
                let line = out.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let error = String::from_utf8_lossy(&line[1.min(line.len())..]).into_owned();
                failed.push(Failed { at, error });
            }
        }
        self.keep_buffer(out);
        self.tally.nested = false;
        self.scripts.obeys = false;
        self.shard.set_now(self.now.unix_ms);
        failed
    }
}

/// The slots that requests need, sorted, each once; None for all.
pub fn slots_of(requests: &[Request]) -> Option<Vec<Slot>> {
    use crate::table::{Kind, Plan};
    let mut slots = Vec::new();
    for request in requests {
        let (row, args) = (request.row, request.args());
        match row.plan {
            Plan::Node => {}
            Plan::Single(_) | Plan::Multi => {
                if matches!(row.kind, Kind::Script(_)) || Core::needs_whole(row, &args) {
                    return None;
                }
                // A request whose keys cannot be told is refused by its handler.
                let _ = row.spec.keys_of(&args, |index, _| {
                    if let Some(word) = args.word(index) {
                        slots.push(Slot::of(word));
                    }
                });
            }
            Plan::Sum | Plan::Concat | Plan::Scan | Plan::AnyShard | Plan::Whole => return None,
        }
    }
    slots.sort_unstable();
    slots.dedup();
    Some(slots)
}

/// The core at which most of these slots live.
pub fn host_of(node: &crate::node::Node, slots: Option<&[Slot]>) -> CoreId {
    let mut counts = vec![0usize; node.cores()];
    for slot in slots.unwrap_or_default() {
        counts[node.owner(*slot).index()] += 1;
    }
    let most = counts
        .iter()
        .enumerate()
        .max_by_key(|(core, count)| (**count, usize::MAX - core));
    CoreId(most.map_or(0, |(core, _)| core as u16))
}
