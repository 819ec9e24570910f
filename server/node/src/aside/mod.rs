//! Long requests run aside: on a thread beside the cores, with their slots, while their core goes on with everything else.
//!
//! ```text
//! core                                          thread beside the cores (lower priority)
//! dispatch: cost of the row >= aside-min-steps?
//! claim its slots (locks.rs), take their tables out
//!                              ── Errand ────>  borrow the tables, run the same handler
//! requests for those slots park, all else runs
//!                              <── Mail::Aside ─ give them back, with reply, effects, events
//! tables back in place, reply, parked requests
//! ```
//! It is a transaction (`transaction.rs`) that runs elsewhere: claims, parking, WATCH and the lending of slots between cores are
//! the same, also when it has borrowed slots of other cores. What the run notes beside the data comes back and is acted upon
//! here as if it had run here: so events, tracking, waiting clients, statistics and notes need to know nothing. Scripts that have been
//! found long go the same way, with more in their bags: `script.rs`.
//! Which requests: [`commands::cost`]. Why so, and what was left out: ADR 8.
//!
//! Arithmetic: 4096 steps are 0.2 to 0.5 ms; going aside and back costs two wake-ups and some 20 us.

mod script;
pub mod walk;

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use commands::cost::Weigh;
use commands::{Block, Read, Refused, Run, Settings, Write};
use protocol::{Args, Refusal, Reply, Resp};
use runtime::CoreId;
use storage::{Counted, Guise, Key, Lent, Limits, Notes, Rng, SLOTS, Shard, Slot};

use crate::commandlog::Client;
use crate::connection::{Connection, Multi, Pieces, Request};
use crate::core::{Core, Scope};
use crate::dispatch::Flow;
use crate::mail::{Batch, Head, Mail, Ticket};
use crate::node::{Node, Tries};
use crate::service::NodeService;
use crate::table::{Kind, Plan, Row};
use crate::transaction::{Guests, Job, Tx};

/// Threads beside the cores: a very long request does not keep all others from running.
const THREADS: usize = 2;
/// Their stack, as that of a core: scripts run there, too.
const STACK_BYTES: usize = 16 << 20;
/// Their nice value, and that of the thread that writes snapshots: on a processor that is shared with a core, the core comes first.
pub(crate) const NICE: i32 = 10;
/// Elements of garbage that are freed before the next errand is looked for.
const GARBAGE_STEP: usize = 1 << 14;
/// How often a core looks whether what waits for a slot that runs aside can go on, ms.
pub const LOOK_MS: u64 = 1;
/// How long a thread waits for room in a core's mailbox.
pub(crate) const POST_TRIES: Tries = Tries {
    every: Duration::from_micros(200),
    most: 50_000,
    even_stopping: false,
};
/// A buffer of at least so many bytes is freed by a thread beside the cores: giving its pages back takes long.
pub const FREED_ASIDE_BYTES_MIN: usize = 1 << 20;

/// One request, or those of a MULTI, on its way aside and back.
pub struct Errand {
    from: CoreId,
    tx: u64,
    ticket: Ticket,
    guests: Guests,
    /// The slots: on the way out and back.
    lent: Option<Lent>,
    slots: Vec<Slot>,
    counted: Counted,
    work: Work,
    db: u8,
    resp: Resp,
    no_touch: bool,
    guise: Guise,
    settings: Settings,
    seed: u64,
    // What comes of it.
    out: Vec<u8>,
    ran: Vec<Ran>,
    notes: Notes,
}

enum Work {
    One(Request),
    Exec(Box<Multi>),
    Script(Box<script::Script>),
}

impl Work {
    fn requests(&self) -> &[Request] {
        match self {
            Work::One(request) => core::slice::from_ref(request),
            Work::Exec(multi) => &multi.queued,
            Work::Script(script) => core::slice::from_ref(&script.request),
        }
    }
}

/// What is to be counted of a request that has run.
struct Ran {
    ticks: u64,
    reply_bytes: usize,
    refusal: Option<Refusal>,
}

/// What a thread beside the cores is given.
enum Task {
    Run(Box<Errand>),
    Free(Pieces),
}

/// The way to the threads beside the cores. Cores only ever put into it.
pub struct Aside {
    to: Sender<Task>,
    from: Mutex<Receiver<Task>>,
}

impl Default for Aside {
    fn default() -> Aside {
        let (to, from) = channel();
        Aside {
            to,
            from: Mutex::new(from),
        }
    }
}

impl Aside {
    /// Frees large buffers, elsewhere.
    #[cold]
    pub fn free(&self, buffers: Pieces) {
        // The receiver lives as long as the sender.
        let _sent = self.to.send(Task::Free(buffers));
    }

    fn send(&self, errand: Box<Errand>) {
        // INVARIANT: the receiver is in the same value, so the errand is not lost.
        let _sent = self.to.send(Task::Run(errand));
    }
}

/// A thread beside the cores; also tests and the simulator have one.
pub struct Helper {
    shard: Shard,
    /// What scripts find for their core, once one has come.
    core: Option<Box<Core>>,
}

impl Helper {
    /// One for a node.
    pub fn new(node: &Node) -> Helper {
        let databases = node.config().db_count();
        Helper {
            shard: Shard::new(databases, [], Limits::default(), 0),
            core: None,
        }
    }

    /// Does the next task, if one is there; an errand comes back with its core.
    pub fn try_next(&mut self, node: &Node) -> Option<Option<(CoreId, Mail)>> {
        let from = node.aside.from.lock();
        let task = from.unwrap_or_else(PoisonError::into_inner).try_recv();
        let done = self.work(task.ok()?);
        #[cfg(test)]
        self.shard.check();
        while self.shard.free_garbage(GARBAGE_STEP) {}
        Some(done)
    }

    fn work(&mut self, task: Task) -> Option<(CoreId, Mail)> {
        match task {
            Task::Run(mut errand) => {
                self.run(&mut errand);
                Some((errand.from, Mail::Aside(errand)))
            }
            Task::Free(buffers) => {
                drop(buffers);
                None
            }
        }
    }

    fn run(&mut self, errand: &mut Errand) {
        if matches!(errand.work, Work::Script(_)) {
            return script::run(&mut self.shard, &mut self.core, errand);
        }
        let Some(lent) = errand.lent.take() else {
            return;
        };
        self.shard.wear(errand.guise.clone());
        self.shard.borrow(lent);
        let mut rng = Rng::new(errand.seed);
        if let Work::Exec(multi) = &errand.work {
            Reply::new(&mut errand.out, errand.resp).array(multi.queued.len());
        }
        for request in errand.work.requests() {
            let place = Placed {
                shard: &mut self.shard,
                db: errand.db,
                resp: errand.resp,
                settings: &errand.settings,
                rng: &mut rng,
            };
            let ran = if errand.no_touch {
                place.run_untouched(request, &mut errand.out)
            } else {
                place.run(request, &mut errand.out)
            };
            errand.ran.push(ran);
        }
        errand.notes = self.shard.take_notes();
        errand.lent = Some(self.shard.give_back(&errand.slots));
    }
}

/// A shard with all that a request finds there.
struct Placed<'a> {
    shard: &'a mut Shard,
    db: u8,
    resp: Resp,
    settings: &'a Settings,
    rng: &'a mut Rng,
}

impl Placed<'_> {
    /// As `Core::run`.
    fn run(self, request: &Request, out: &mut Vec<u8>) -> Ran {
        let begin = runtime::ticks();
        let (row, args, start) = (request.row, request.args(), out.len());
        if row.of_hashes
            && storage::some_field_expires()
            && let Some(word) = args.word(1)
        {
            self.shard.expire_fields(&Key::new(self.db, word));
        }
        let reply = Reply::new(out, self.resp);
        let (db, rng, settings, first) = (self.db, self.rng, self.settings, None);
        let done = match row.kind {
            Kind::Data(Run::Read(run)) => {
                self.shard.begin_read();
                let shard = &*self.shard;
                let mut cx = Read {
                    shard,
                    db,
                    reply,
                    rng,
                    settings,
                    first,
                };
                run(&mut cx, args)
            }
            Kind::Data(Run::Write(run) | Run::Block(Block { run, .. })) => {
                let mut cx = Write {
                    edit: self.shard.edit(),
                    db,
                    reply,
                    rng,
                    settings,
                    first,
                    wait: None,
                };
                run(&mut cx, args)
            }
            _ => Err(Refused(Refusal::unknown_subcommand(&args))),
        };
        if self.shard.has_met_expired() {
            self.shard.expire_met();
        }
        let refusal = done.err().map(|Refused(refusal)| refusal);
        if let Some(refusal) = &refusal {
            out.truncate(start);
            Reply::new(out, self.resp).error(refusal);
        }
        Ran {
            ticks: runtime::ticks().wrapping_sub(begin),
            reply_bytes: out.len() - start,
            refusal,
        }
    }

    /// As `Core::run_untouched`.
    fn run_untouched(self, request: &Request, out: &mut Vec<u8>) -> Ran {
        let (row, words) = (request.row, request.args());
        let mut found: Vec<(Key<'_>, u32)> = Vec::new();
        // A request whose keys cannot be told is refused by its handler.
        let _ = row.spec.keys_of(&words, |index, _| {
            let key = words.word(index).map(|word| Key::new(self.db, word));
            found.extend(key.and_then(|key| Some((key, self.shard.access_s(&key)?))));
        });
        let Placed {
            shard,
            db,
            resp,
            settings,
            rng,
        } = self;
        let again = Placed {
            shard: &mut *shard,
            db,
            resp,
            settings,
            rng,
        };
        let ran = again.run(request, out);
        if !row.writes {
            for (key, access_s) in found {
                shard.set_access_s(&key, access_s);
            }
        }
        ran
    }
}

/// Starts the threads; they end with the process.
///
/// # Errors
/// When one cannot be started.
pub fn start(node: &'static Node) -> io::Result<()> {
    for n in 0..THREADS {
        std::thread::Builder::new()
            .name(format!("aside-{n}"))
            .stack_size(STACK_BYTES)
            .spawn(move || serve(node))?;
    }
    Ok(())
}

/// A thread that dies takes the node with it: the slots that it had are gone.
struct Guard(&'static Node);

impl Drop for Guard {
    fn drop(&mut self) {
        crate::start::stop(self.0);
    }
}

fn serve(node: &'static Node) {
    let _guard = Guard(node);
    // Where it is not permitted the system shares the processors evenly.
    let _ = rustix::process::setpriority_process(None, NICE);
    let mut helper = Helper::new(node);
    loop {
        // What was thrown away is freed while nobody waits; a thread that holds the lock waits for the next task itself.
        let task = if helper.shard.has_garbage() {
            let from = node.aside.from.try_lock();
            from.ok().and_then(|from| from.try_recv().ok())
        } else {
            // Blocks made here that cores free meanwhile can be looked after.
            heap::rest();
            let from = node.aside.from.lock();
            match from.unwrap_or_else(PoisonError::into_inner).recv() {
                Ok(task) => Some(task),
                Err(_) => return,
            }
        };
        match task {
            Some(task) => {
                if let Some((core, mail)) = helper.work(task) {
                    // (A core that does not take it has left, and nobody waits any more.)
                    node.post(core, mail, POST_TRIES);
                }
            }
            None => drop(helper.shard.free_garbage(GARBAGE_STEP)),
        }
    }
}

impl Core {
    /// Whether a request whose slots are all in place would take so long that it runs aside.
    #[inline(never)]
    pub fn is_long(
        &self,
        row: &'static Row,
        args: &Args<'_>,
        db: u8,
        first: Option<Key<'_>>,
    ) -> bool {
        let least = self.config.aside_min_steps as usize;
        let Some(cost) = row.cost.filter(|_| least > 0) else {
            return false;
        };
        let weigh = Weigh {
            shard: &self.shard,
            db,
            spec: row.spec,
            first,
        };
        cost(&weigh, args) >= least
    }

    /// A long request of a connection of this core, whose slots are here and free: it becomes a transaction.
    #[cold]
    pub fn set_aside(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        slots: &[Slot],
    ) -> Flow {
        if conn.outbound.outstanding() > 0 {
            return Flow::Stall;
        }
        let ticket = self.begin_exclusive(conn);
        let job = Job::One {
            request: Request::new(row, args),
            db: conn.db,
            resp: conn.resp,
            no_touch: conn.no_touch,
        };
        let needs = self.needs(slots, Vec::new());
        self.start_tx(ticket, job, needs);
        Flow::Done
    }

    /// As `set_aside`, with every slot of the node for one that needs them all.
    #[cold]
    pub fn set_aside_several(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        slots: &[Slot],
    ) -> Flow {
        if Core::needs_whole(row, args) {
            let all: Vec<Slot> = (0..SLOTS as u16).map(Slot).collect();
            return self.set_aside(conn, row, args, &all);
        }
        self.set_aside(conn, row, args, slots)
    }

    /// Whether the requests of a MULTI, whose slots are all in place, run aside: one of them is long, and all can.
    pub fn is_long_queue(&self, conn: &Connection, multi: &Multi) -> bool {
        if self.config.aside_min_steps == 0 || conn.free_at != self.users_epoch {
            return false;
        }
        let can = |request: &Request| {
            matches!(request.row.plan, Plan::Single(_) | Plan::Multi)
                && matches!(
                    request.row.kind,
                    Kind::Data(Run::Read(_) | Run::Write(_) | Run::Block(_))
                )
        };
        let is_long = |request: &Request| self.is_long(request.row, &request.args(), conn.db, None);
        multi.queued.iter().all(can) && multi.queued.iter().any(is_long)
    }

    /// Whether a transaction that has all its slots in place is one long request.
    fn is_long_tx(&self, tx: &Tx) -> bool {
        match &tx.job {
            Job::One { request, db, .. } => self.is_long(request.row, &request.args(), *db, None),
            _ => false,
        }
    }

    /// Takes the slots of a transaction out again and sends them aside with its work.
    fn send_aside(
        &mut self,
        number: u64,
        (ticket, guests): (Ticket, Guests),
        work: Work,
        (db, resp, no_touch): (u8, Resp, bool),
    ) {
        let slots = core::mem::take(&mut self.tx_slots);
        let scope = match (guests.is_empty(), self.is_alone()) {
            (true, false) => Scope::Core,
            _ => Scope::Whole,
        };
        let (lent, counted) = self.shard.lend_aside(&slots);
        let errand = Errand {
            from: self.id,
            tx: number,
            ticket,
            guests,
            lent: Some(lent),
            slots,
            counted,
            work,
            db,
            resp,
            no_touch,
            guise: self.shard.guise(),
            settings: self.settings[scope as usize].clone(),
            seed: self.rng.next_u64(),
            out: Vec::new(),
            ran: Vec::new(),
            notes: Notes::default(),
        };
        self.tally.asides += 1;
        self.errands += 1;
        self.node.aside.send(Box::new(errand));
    }

    /// Counts what has run aside, and makes notes of it.
    fn count_aside(&mut self, errand: &Errand) {
        let client = Client::Of(errand.ticket.core, errand.ticket.conn);
        self.tally.nested = matches!(errand.work, Work::Exec(_));
        for (request, ran) in errand.work.requests().iter().zip(&errand.ran) {
            let row = request.row;
            self.tally.called(row.index, ran.ticks);
            if let Some(refusal) = &ran.refusal {
                self.tally.failed(row.index);
                self.tally.refused(refusal.code());
            }
            if ran.ticks | ran.reply_bytes as u64 >= self.bounds.least {
                self.note_later(row, ran.ticks, ran.reply_bytes);
                self.note(row, &request.args(), client);
            }
        }
        self.tally.nested = false;
    }
}

impl NodeService {
    /// A request that came from elsewhere or was parked, whose slots are here and free, goes aside if it is long.
    #[cold]
    #[inline(never)]
    pub(crate) fn head_aside(&mut self, batch: &Batch, head: &Head) -> bool {
        let args = batch.args(head);
        let (row, first) = (head.row, batch.first_key(head));
        if !self.core.is_long(row, &args, head.db, first) {
            return false;
        }
        let mut slots = Vec::new();
        Core::slots_of(row, &args, &mut slots);
        // Requests behind it, perhaps of the same client, must find the slots held: so it waits for no other claim.
        if Core::needs_whole(row, &args) || !self.core.locks.is_unclaimed(&slots) {
            return false;
        }
        let job = Job::One {
            request: Request::new(row, &args),
            db: head.db,
            resp: head.resp,
            no_touch: head.no_touch,
        };
        let needs = self.core.needs(&slots, Vec::new());
        self.core.start_tx(head.ticket, job, needs);
        if let Some(number) = self.core.ready.pop_back()
            && let Some(number) = self.core.grant(number)
        {
            self.run_tx(number);
        }
        true
    }

    /// Sends a transaction aside that has all its slots and would take long; gives it back if not.
    pub(crate) fn try_aside(
        &mut self,
        number: u64,
        tx: Tx,
        guests: Guests,
    ) -> Option<(Tx, Guests)> {
        if matches!(tx.job, Job::Exec) && tx.unchanged {
            return self.try_exec_aside(number, tx, guests);
        }
        if matches!(tx.job, Job::Script { is_long: true, .. }) {
            return self.script_aside(number, tx, guests);
        }
        if !self.core.is_long_tx(&tx) {
            return Some((tx, guests));
        }
        let Job::One {
            request,
            db,
            resp,
            no_touch,
        } = tx.job
        else {
            return Some((tx, guests));
        };
        let place = (tx.ticket, guests);
        let work = Work::One(request);
        self.core
            .send_aside(number, place, work, (db, resp, no_touch));
        None
    }

    #[cold]
    fn try_exec_aside(&mut self, number: u64, tx: Tx, guests: Guests) -> Option<(Tx, Guests)> {
        let mut current = self.clients.take(tx.ticket.conn);
        let mut work = None;
        if let Some(client) = &mut current
            && let Some(multi) = client.multi.take()
        {
            if self.core.is_long_queue(client, &multi) {
                self.core.show_queue(client, &multi);
                let to = (client.db, client.resp, client.no_touch);
                work = Some((Work::Exec(multi), to));
            } else {
                client.multi = Some(multi);
            }
        }
        self.put_back(&mut current);
        match work {
            Some((work, to)) => {
                let place = (tx.ticket, guests);
                self.core.send_aside(number, place, work, to);
                None
            }
            None => Some((tx, guests)),
        }
    }

    /// What ran aside is back: from here on all is as if it had just run here.
    pub(crate) fn on_aside(&mut self, errand: Box<Errand>) {
        let mut errand = *errand;
        let (ticket, tx) = (errand.ticket, errand.tx);
        let mail = self.script_back(&mut errand);
        if let Some(lent) = errand.lent.take() {
            let counted = core::mem::take(&mut errand.counted);
            self.core.shard.take_aside(lent, counted);
        }
        self.core.errands -= 1;
        let notes = core::mem::take(&mut errand.notes);
        self.core.shard.add_notes(notes);
        self.core.count_aside(&errand);
        self.script_done(&mut errand);
        let guests = core::mem::take(&mut errand.guests);
        self.core.finish_tx(tx, guests, (ticket.core, ticket.conn));
        if let Work::Exec(multi) = &mut errand.work {
            let watched = core::mem::take(&mut multi.watched);
            self.core.unwatch(watched);
        }
        self.reply_pieces(ticket, Pieces::of(errand.out));
        self.news(Some((ticket.core, ticket.conn)));
        self.post_all(mail);
    }

    /// Asks once more what could not be answered in the turn before.
    #[cold]
    pub(crate) fn ask_late(&mut self) {
        for (from, ask) in core::mem::take(&mut self.core.late) {
            self.on_ask(from, ask);
        }
    }

    /// As `reply`, of bytes that are not copied.
    pub(crate) fn reply_pieces(&mut self, ticket: Ticket, reply: Pieces) {
        if ticket.core == self.core.id {
            self.complete_pieces(ticket, reply);
        } else {
            self.core
                .posts
                .push((ticket.core, Mail::Pieces(ticket, reply, 0)));
        }
    }
}

#[cfg(test)]
mod tests;
