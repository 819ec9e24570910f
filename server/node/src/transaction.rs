//! Commands and MULTI/EXEC over several cores: atomic, without global locks.
//!
//! ```text
//! the connection's core                      each other core that owns a slot of it
//! ─────────────────────                      ──────────────────────────────────────
//! number tx; claim own slots  ── Schedule ──> claim: ready? hold, lend      (else it waits, or is refused)
//! all here? borrow, run       <── Granted ──
//! give back, release own      ─── Return ───> take back, release; parked requests, then the next one
//! ```
//! One round trip, however many cores take part; the boxes move, nothing is copied. The order of all
//! transactions is that of their numbers (see `locks.rs`), so none waits in a circle. The commands run
//! inline between two turns of the core: nobody sees half of them.
//!
//! A request that needs all of one core's slots at once (SCAN, KEYS) while some are away takes a
//! number and a claim like any other.

use std::sync::Arc;

use protocol::Resp;
use runtime::CoreId;
use storage::{Key, Lent, Shard, Slot};

use crate::blocking::{Attempt, Waiter};
use crate::connection::Request;
use crate::control::transfer::Migration;
use crate::core::{Core, Scope};
use crate::executed::Run;
use crate::image::Work;
use crate::locks::Verdict;
use crate::mail::{Batch, Granted, Mail, Schedule, Ticket};
use crate::scripts::Caller;
use crate::tracking::Place;

/// What a transaction does once it has all its slots.
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum Job {
    /// One command.
    One {
        request: Request,
        db: u8,
        resp: Resp,
        no_touch: bool,
    },
    /// A script or function.
    Script {
        request: Request,
        caller: Caller,
        /// It runs beside the cores.
        is_long: bool,
        /// When its first try began, which was found long: monotonic us.
        since_us: Option<u64>,
    },
    /// The queue of the connection's MULTI.
    Exec,
    /// The first try of a request that may wait.
    Block(Box<Attempt>),
    /// A request that waits is tried for one of its keys.
    Again(Arc<Waiter>, Request),
    /// Keys that move to another server.
    Migrate(Box<Migration>),
    /// A snapshot begins, or something else that needs all data at one instant.
    Image(Work, Resp),
    /// What somebody outside of the cores wants done.
    Visit(Run),
    /// Its slots are put aside, still held, until somebody brings what it does next.
    Held,
    /// A parked request of one core that needs all of its slots.
    Wide(Box<Batch>),
}

impl Job {
    /// Whether it can be refused while it waits: a client's request that has not begun.
    pub fn can_be_refused(&self) -> bool {
        match self {
            Job::One { .. } | Job::Exec | Job::Block(_) | Job::Wide(_) => true,
            Job::Script { since_us, .. } => since_us.is_none(),
            Job::Again(..) | Job::Migrate(_) | Job::Image(..) | Job::Visit(_) | Job::Held => false,
        }
    }
}

/// What it needs of one core.
pub struct Need {
    /// The core.
    pub core: CoreId,
    /// Its slots.
    pub slots: Vec<Slot>,
    /// Watched keys of those slots.
    pub watched: Vec<(u8, Box<[u8]>, u64)>,
}

/// A transaction that waits for its slots.
pub struct Tx {
    /// Where its reply goes.
    pub ticket: Ticket,
    /// What it does.
    pub job: Job,
    needs: Vec<Need>,
    /// Cores that have not granted yet.
    waiting: usize,
    lents: Vec<(CoreId, Lent)>,
    /// No watched key has changed.
    pub unchanged: bool,
}

/// Slots on a visit here, with the cores that they go home to.
pub type Guests = Vec<(CoreId, Vec<Slot>)>;

impl Core {
    /// Groups slots (sorted) and watched keys by core.
    pub fn needs(&self, slots: &[Slot], watched: Vec<(u8, Box<[u8]>, u64)>) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        for slot in slots {
            let core = self.owner(*slot);
            match needs.last_mut() {
                Some(need) if need.core == core => need.slots.push(*slot),
                _ => needs.push(Need {
                    core,
                    slots: vec![*slot],
                    watched: Vec::new(),
                }),
            }
        }
        for key in watched {
            let core = self.owner(Slot::of(&key.1));
            if let Some(need) = needs.iter_mut().find(|need| need.core == core) {
                need.watched.push(key);
            }
        }
        needs
    }

    /// Begins a transaction; it runs when `settle` finds that all is here.
    pub fn start_tx(&mut self, ticket: Ticket, job: Job, needs: Vec<Need>) {
        let tx = Tx {
            ticket,
            job,
            needs,
            waiting: 0,
            lents: Vec::new(),
            unchanged: true,
        };
        self.schedule(tx);
    }

    fn schedule(&mut self, mut tx: Tx) {
        tx.waiting = tx.needs.len();
        tx.unchanged = true;
        // Own slots first: only when they are promised is anybody else asked.
        let mut number = self.node.tx_id();
        if let Some(own) = tx.needs.iter().find(|need| need.core == self.id) {
            loop {
                match self
                    .locks
                    .claim(number, self.id, own.slots.clone(), own.watched.clone())
                {
                    Verdict::Ready => {
                        self.ready.push_back(number);
                        break;
                    }
                    Verdict::Waits => break,
                    Verdict::TooLate => {
                        self.tally.retries += 1;
                        number = self.node.tx_id();
                    }
                }
            }
        }
        for need in tx.needs.iter().filter(|need| need.core != self.id) {
            let schedule = Schedule {
                tx: number,
                from: self.id,
                slots: need.slots.clone(),
                watched: need.watched.clone(),
            };
            self.posts
                .push((need.core, Mail::Schedule(Box::new(schedule))));
        }
        self.txs.insert(number, tx);
    }

    /// Another core's transaction wants slots of this one.
    pub fn on_schedule(&mut self, schedule: Schedule) {
        let Schedule {
            tx,
            from,
            slots,
            watched,
        } = schedule;
        match self.locks.claim(tx, from, slots, watched) {
            Verdict::Ready => self.ready.push_back(tx),
            Verdict::Waits => {}
            Verdict::TooLate => self.posts.push((from, Mail::Refused { tx })),
        }
    }

    /// A core has lent its slots; returns the transaction's number if that was the last.
    pub fn on_granted(&mut self, granted: Granted) -> Option<u64> {
        let Granted {
            tx: number,
            from,
            lent,
            unchanged,
        } = granted;
        match self.txs.get_mut(&number) {
            Some(tx) => {
                tx.lents.push((from, lent));
                tx.unchanged &= unchanged;
                tx.waiting -= 1;
                (tx.waiting == 0).then_some(number)
            }
            None => {
                // It has given up meanwhile and tries again under another number.
                self.posts.push((
                    from,
                    Mail::Return {
                        tx: number,
                        lent: Some(lent),
                        by: None,
                    },
                ));
                None
            }
        }
    }

    /// A core had promised the slots to a later transaction: all is given back, and begun anew.
    pub fn on_refused(&mut self, number: u64) {
        if let Some(tx) = self.withdraw(number) {
            self.tally.retries += 1;
            self.schedule(tx);
        }
    }

    /// A transaction that waits for slots gives up: what it has is given back.
    pub fn withdraw(&mut self, number: u64) -> Option<Tx> {
        let mut tx = self.txs.remove(&number)?;
        let granted = core::mem::take(&mut tx.lents);
        for need in &tx.needs {
            if need.core == self.id {
                self.release(number);
            } else if !granted.iter().any(|(core, _)| *core == need.core) {
                self.posts.push((need.core, Mail::Cancel { tx: number }));
            }
        }
        for (core, lent) in granted {
            self.posts.push((
                core,
                Mail::Return {
                    tx: number,
                    lent: Some(lent),
                    by: None,
                },
            ));
        }
        Some(tx)
    }

    /// A transaction gives up. When its slots are already on the way, they come home by themselves.
    pub fn on_cancel(&mut self, number: u64) {
        if self.locks.get(number).is_some_and(|claim| !claim.is_held()) {
            self.release(number);
        }
    }

    /// Takes a claim away and notes who may go on.
    pub fn release(&mut self, number: u64) {
        let (slots, ready) = self.locks.release(number);
        self.unparked.extend(self.locks.unpark(&slots));
        self.ready.extend(ready);
    }

    /// A claim heads its queues: its slots are lent, or, for a transaction of this core, held. Returns
    /// the number of a transaction that has everything now.
    pub fn grant(&mut self, number: u64) -> Option<u64> {
        // Cancelled meanwhile, or already held.
        if self.locks.get(number).is_none_or(|claim| claim.is_held()) {
            return None;
        }
        let claim = self.locks.hold(number)?;
        let unchanged = watched_unchanged(&mut self.shard, &claim.watched);
        if claim.from != self.id {
            let lent = self.shard.lend(&claim.slots);
            let granted = Granted {
                tx: number,
                from: self.id,
                lent,
                unchanged,
            };
            self.posts
                .push((claim.from, Mail::Granted(Box::new(granted))));
            return None;
        }
        let tx = self.txs.get_mut(&number)?;
        tx.unchanged &= unchanged;
        tx.waiting -= 1;
        (tx.waiting == 0).then_some(number)
    }

    /// Puts all slots of a transaction in place; `finish_tx` must follow in the same turn.
    pub fn begin_tx(&mut self, number: u64) -> Option<(Tx, Guests)> {
        let mut tx = self.txs.remove(&number)?;
        let mut guests = Vec::with_capacity(tx.lents.len());
        for (core, lent) in core::mem::take(&mut tx.lents) {
            guests.push((core, lent.slots().to_vec()));
            self.shard.borrow(lent);
        }
        self.tally.transactions += 1;
        self.tx_slots.clear();
        for need in &tx.needs {
            self.tx_slots.extend_from_slice(&need.slots);
        }
        Some((tx, guests))
    }

    /// All slots stay claimed, those of other cores beside this one's shard, until the transaction begins again.
    pub fn put_aside(&mut self, number: u64, mut tx: Tx, guests: Guests) {
        self.tx_slots.clear();
        for (core, slots) in guests {
            tx.lents.push((core, self.shard.give_back(&slots)));
        }
        self.txs.insert(number, tx);
    }

    /// Sends all slots home; `by` is the client that has had them.
    pub fn finish_tx(&mut self, number: u64, guests: Guests, by: Place) {
        self.tx_slots.clear();
        if self.shard.is_flushed() {
            // Before the slots come home with their changes: one word stands for all keys.
            self.post_flush();
        }
        if !guests.is_empty() {
            // What was written out of them is on its way before their owners can be done.
            self.send_image(true);
        }
        for (core, slots) in guests {
            let lent = self.shard.give_back(&slots);
            self.posts.push((
                core,
                Mail::Return {
                    tx: number,
                    lent: Some(lent),
                    by: Some(by),
                },
            ));
        }
        self.release(number);
    }

    /// Claims all slots of this core for a request that must see them all.
    pub fn start_wide(&mut self, request: Box<Batch>) {
        let Some(head) = request.heads.first() else {
            return;
        };
        let ticket = head.ticket;
        let slots = self
            .node
            .range(self.id)
            .map(|slot| Slot(slot as u16))
            .collect();
        let needs = vec![Need {
            core: self.id,
            slots,
            watched: Vec::new(),
        }];
        self.start_tx(ticket, Job::Wide(request), needs);
    }

    /// The scope in which a transaction's commands run.
    pub fn tx_scope(&self, guests: &[(CoreId, Vec<Slot>)]) -> Scope {
        if guests.is_empty() {
            Scope::Core
        } else {
            Scope::Whole
        }
    }
}

/// Whether no watched key has changed, those whose deadline has passed included.
pub fn watched_unchanged(shard: &mut Shard, watched: &[(u8, Box<[u8]>, u64)]) -> bool {
    watched.iter().all(|(db, key, version)| {
        let routed = Key::new(*db, key);
        if shard.deadline_ms(&routed).is_none() {
            // Not there; if only because its deadline has passed, its watchers hear of it here.
            shard.edit().expire(&routed);
        }
        shard.watched_version(*db, key) == Some(*version)
    })
}
