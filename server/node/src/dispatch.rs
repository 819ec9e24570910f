//! Hot path. From a parsed request to where it runs: the gates, then the route.
//!
//! ```text
//! known? arity? authenticated? allowed? ── MULTI open? queue ── paused? ──┬─ Node: here and now
//!                                                              ├─ one key: here | forwarded | parked (slot held)
//!                                                              └─ several slots: here | forwarded | transaction
//! ```
//! Requests with one key overtake nothing that matters: those of one slot stay in order, replies leave
//! in the order of the requests. All others begin only when the connection has no reply outstanding,
//! and nothing else of the connection begins before they end (`exclusive`).

use std::sync::Arc;

use commands::Run;
use protocol::{Args, Flags, Group, Refusal, Reply};
use storage::{Key, Shard, Slot};

use crate::acl::{Place, check_sort};
use crate::admin::{Context, Done};
use crate::blocking::{Attempt, Waiter};
use crate::connection::{Connection, ReplyMode, Request};
use crate::core::{Core, Scope};
use crate::gather::{Gather, Join};
use crate::mail::{Ask, Batch, Head, Ticket};
use crate::memory::Room;
use crate::multi::is_exec;
use crate::stats::Call;
use crate::table::{Kind, Plan, Row};
use crate::transaction::Job;

/// What becomes of a request.
pub enum Flow {
    /// It has been answered, or will be.
    Done,
    /// It must wait until the connection's outstanding replies are there.
    Stall,
    /// Every core is asked; the answers become the reply.
    Ask(Ask, Join),
    /// Every core runs it on its own slots.
    Spread(Join),
    /// SCAN, from a core's slots on.
    Scan(runtime::CoreId),
}

/// How long writes are held back at a time while too much waits for the disk, ms.
const CHOKED_LOOK_MS: u64 = 5;

/// Keys of the request as the router knows them.
pub type Routed<'k> = Option<(u16, Key<'k>)>;

impl Core {
    /// Whether no gate holds any plain request of a connection. Only requests that are not plain change that.
    #[inline(always)]
    pub fn is_open(&self, conn: &Connection) -> bool {
        conn.is_plain(self.users_epoch)
            && !conn.closing
            && !conn.stalled_in_turn
            && conn.reply_mode == ReplyMode::On
            && conn.received == self.tally.received
            && self.pause.until_ms | self.watchers.count | self.memory.tight | self.holds == 0
    }

    /// Runs a plain request of a connection for which the gates are open, its slot free. Returns the bytes of what the client
    /// has yet to be sent of this turn.
    #[inline(always)]
    pub fn run_plain(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: Args<'_>,
        key: Key<'_>,
    ) -> usize {
        conn.last = Some(row);
        let to = (conn.db, conn.resp, Scope::of(conn));
        let out = conn.outbound.buffer();
        if out.capacity() == 0 {
            *out = self.buffer();
        }
        let start = out.len();
        self.run_here::<true>(row, args, to, Some(key), out);
        let fresh_bytes = out.len();
        let call = Call::new(row.index, conn.received);
        if !conn.outbound.end(start, call) {
            self.tally.not_yet_answered(row.index);
        }
        fresh_bytes
    }

    /// Takes one request through the gates and on its way.
    pub fn dispatch(
        &mut self,
        conn: &mut Connection,
        row: Option<&'static Row>,
        args: Args<'_>,
        routed: Routed<'_>,
    ) -> Flow {
        let Some(row) = row else {
            return self.reject(conn, None, &Refusal::unknown_command(&args));
        };
        let is_container = matches!(row.kind, Kind::Container);
        if !row.subcommands.is_empty() && (is_container || args.total() > 1) {
            // A subcommand that exists has a row of its own.
            let refusal = if args.total() < 2 {
                Refusal::arity(row.spec.name)
            } else {
                Refusal::unknown_subcommand(&args)
            };
            return self.reject(conn, Some(row), &refusal);
        }
        if !row.spec.arity.accepts(args.total()) {
            return self.reject(conn, Some(row), &Refusal::arity(row.spec.name));
        }
        if conn.exclusive {
            return Flow::Stall;
        }
        if conn.seen_at != self.users_epoch {
            self.recognize(conn);
            if conn.closing {
                return Flow::Done;
            }
        }
        if !self.is_authenticated(conn) && !row.spec.flags.contains(Flags::NO_AUTH) {
            return self.reject(conn, Some(row), &Refusal::NoAuth);
        }
        if conn.in_multi() && row.spec.flags.contains(Flags::NO_MULTI) {
            return self.reject(conn, Some(row), &Refusal::NotInMulti);
        }
        if !conn.user.may_all
            && let Err(refusal) = self.permit(conn, row, &args)
        {
            return self.reject(conn, Some(row), &refusal);
        }
        if conn.only_listens() && !runs_while_listening(row) {
            return self.reject(conn, Some(row), &Refusal::only_listens(row.spec.name));
        }
        if self.holds != 0 {
            if let Some(flow) = self.in_front(conn, row, &args) {
                return flow;
            }
            if let Some(refusal) = self.held_back(row, conn) {
                return self.reject(conn, Some(row), &refusal);
            }
        }
        if self.memory.tight != 0 {
            match self.room_for(conn, row, &args) {
                Room::Enough => {}
                Room::Later => return Flow::Stall,
                Room::None => return self.reject(conn, Some(row), &Refusal::Oom),
            }
        }
        if conn.in_multi() && !runs_inside_multi(row) {
            return self.queue(conn, row, &args);
        }
        if self.pause.until_ms != 0 && self.is_paused(conn, row, &args) {
            return Flow::Stall;
        }
        if conn.monitor && (row.writes || row.spec.flags.contains(Flags::READONLY)) {
            return self.reject(conn, Some(row), &Refusal::MonitorKeyspace);
        }
        conn.last = Some(row);
        let shown = (self.watchers.count > 0).then(|| args.clone());
        let (lines, is_script) = (self.lines_mark(), matches!(row.kind, Kind::Script(_)));
        if let Some(args) = &shown
            && is_script
        {
            self.show(conn, row, args);
        }
        let args = args.skip(row.name_words - 1);
        if conn.tracking.is_some() {
            self.track(conn, row, &args);
            end_caching(conn, row);
        }
        let flow = match (row.plan, routed) {
            _ if let Kind::Script(kind) = row.kind => self.script(conn, row, kind, args),
            _ if matches!(row.kind, Kind::Data(Run::Block(_))) => self.block(conn, row, args),
            (Plan::Single(_), Some((word, key))) if conn.no_touch => {
                self.single_untouched(conn, row, args, word, key)
            }
            (Plan::Single(_), Some((word, key))) => self.single(conn, row, args, word, key),
            (Plan::Node, _) => self.node_command(conn, row, args),
            _ => self.several(conn, row, args),
        };
        if let Some(args) = shown {
            match flow {
                Flow::Stall => self.rewind_lines(lines),
                _ if is_script => {}
                _ if conn.exclusive
                    && is_exec(row)
                    && let Some(multi) = &mut conn.multi =>
                {
                    multi.exec = Some(Request::new(row, &args));
                }
                _ => self.show(conn, row, &args),
            }
        }
        flow
    }

    /// What a write is answered while the log cannot be written.
    #[cold]
    pub fn log_failure(&self) -> Refusal {
        let why = self.node.write_log.failure();
        Refusal::Owned(format!("MISCONF Errors writing to the AOF file: {why}").into())
    }

    /// Looks how the log and the loading are, at the beginning of a turn. Tells whether the log has begun to fail.
    pub fn look_at_log(&mut self) -> bool {
        let refuses = self.node.write_log.is_failed();
        let has_failed = refuses && !self.refuses();
        if refuses != self.refuses() || self.lacks_data() != self.is_loading() {
            self.update_holds_of_log(refuses);
        }
        if self.node.write_log.is_choked() {
            // As if a client had said CLIENT PAUSE WRITE, again and again until there is room.
            let until_ms = self.now.unix_ms + CHOKED_LOOK_MS;
            self.pause.all &= self.pause.until_ms > self.now.unix_ms;
            self.pause.until_ms = self.pause.until_ms.max(until_ms);
        }
        has_failed
    }

    /// The gate of a user that may not do everything.
    fn permit(
        &self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Result<(), Refusal> {
        let place = if conn.in_multi() {
            Place::Multi
        } else {
            Place::Toplevel
        };
        conn.last = Some(row);
        self.may_run(conn, row, args, place)
            .map_err(|(_, refusal)| refusal)?;
        if conn.in_multi() {
            // What SORT may not is told when it runs.
            return Ok(());
        }
        check_sort(&conn.user, row, args)
    }

    /// A request with one key.
    #[inline]
    fn single(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: Args<'_>,
        word: u16,
        key: Key<'_>,
    ) -> Flow {
        if self.is_free(key.slot) {
            if row.cost.is_some() && self.is_long(row, &args, conn.db, Some(key)) {
                return self.set_aside(conn, row, &args, &[key.slot]);
            }
            let scope = Scope::of(conn);
            let to = (conn.db, conn.resp, scope);
            self.answer(conn, |core, out| core.run(row, args, to, Some(key), out));
            return Flow::Done;
        }
        if self.is_here(key.slot) && self.locks.is_full() && conn.outbound.outstanding() > 0 {
            return Flow::Stall;
        }
        self.pass_on_single(conn, row, &args, (word, key));
        Flow::Done
    }

    /// A request with one key whose slot is not free: goes to its core, or waits.
    #[inline]
    pub fn pass_on_single(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
        (word, key): (u16, Key<'_>),
    ) {
        let head = self.head(conn, row, Some((word, key)));
        if self.is_here(key.slot) {
            self.park(key.slot, args, head);
        } else {
            self.forward(self.owner(key.slot), args, head);
        }
    }

    /// As `single`, for a client whose reads leave no trace.
    #[cold]
    fn single_untouched(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        args: Args<'_>,
        word: u16,
        key: Key<'_>,
    ) -> Flow {
        if self.locks.is_held(key.slot) {
            return self.single(conn, row, args, word, key);
        }
        let access_s = self.shard.access_s(&key);
        let flow = self.single(conn, row, args, word, key);
        if self.is_here(key.slot) {
            // Else it has been sent on, and says so to whoever runs it.
            self.restore_access(row, access_s.map(|access_s| (key, access_s)));
        }
        flow
    }

    /// Writes a reply that is there now into its place.
    #[inline]
    pub fn answer(&mut self, conn: &mut Connection, write: impl FnOnce(&mut Core, &mut Vec<u8>)) {
        self.answer_since(self.tally.commands, conn, write);
    }

    /// As `answer`; it is the reply to a call if more commands than `commands` have run.
    #[inline]
    pub fn answer_since(
        &mut self,
        commands: u64,
        conn: &mut Connection,
        write: impl FnOnce(&mut Core, &mut Vec<u8>),
    ) {
        let out = conn.outbound.buffer();
        if out.capacity() == 0 {
            *out = self.buffer();
        }
        let start = out.len();
        write(self, out);
        let has_run = self.tally.commands != commands;
        if conn.reply_mode != ReplyMode::On {
            out.truncate(start);
            conn.reply_mode = conn.reply_mode.next();
        }
        let call = if has_run { conn.call() } else { Call::NONE };
        if conn.outbound.end(start, call) {
            self.tally.answered(call);
        }
    }

    /// The head of a request that is answered later, its reply slot taken.
    fn head(&mut self, conn: &mut Connection, row: &'static Row, routed: Routed<'_>) -> Head {
        let ticket = Ticket {
            core: self.id,
            conn: conn.conn,
            seq: conn.later(&mut self.queues),
        };
        Head {
            key: routed.map(|(word, key)| (word, key.hash, key.slot)),
            ..Head::of(conn, row, (ticket, false))
        }
    }

    /// Lets a request wait for a held slot.
    fn park(&mut self, slot: Slot, args: &Args<'_>, head: Head) {
        self.locks.park(slot, Batch::one(args, &head));
    }

    /// A request with no key, several keys, or the whole keyspace.
    fn several(&mut self, conn: &mut Connection, row: &'static Row, args: Args<'_>) -> Flow {
        let scope = Scope::of(conn);
        let mut slots = Vec::new();
        let whole = match row.plan {
            Plan::Multi => {
                Core::slots_of(row, &args, &mut slots);
                if self.config.cluster_enabled && slots.len() > 1 {
                    return self.reject(conn, Some(row), &Refusal::CrossSlot);
                }
                Core::needs_whole(row, &args)
            }
            Plan::Whole => true,
            Plan::Scan => {
                let cursor = args
                    .peek()
                    .and_then(|word| core::str::from_utf8(word).ok()?.parse::<u64>().ok());
                let owner = self.owner(Shard::cursor_slot(cursor.unwrap_or(0)));
                if !self.is_alone() && !conn.own_port && cursor.is_some() {
                    return match conn.outbound.outstanding() {
                        0 => Flow::Scan(owner),
                        _ => Flow::Stall,
                    };
                }
                return self.wide(conn, row, args);
            }
            Plan::Sum | Plan::Concat | Plan::AnyShard if self.is_alone() || conn.own_port => {
                return self.wide(conn, row, args);
            }
            Plan::Sum => return self.spread(conn, Join::Sum),
            Plan::Concat => return self.spread(conn, Join::Concat),
            Plan::AnyShard => return self.spread(conn, Join::AnyNotNull),
            Plan::Node | Plan::Single(_) => false,
        };
        if whole && conn.own_port {
            return self.wide(conn, row, args);
        }
        if whole && !self.has_every_slot() {
            slots = (0..storage::SLOTS as u16).map(Slot).collect();
        }
        let mut cores = slots.iter().map(|slot| self.owner(*slot));
        let first = cores.next().unwrap_or(self.id);
        let one_core = cores.all(|core| core == first);
        if one_core && first == self.id {
            match self.held_slot(slots.iter().copied()) {
                None if row.cost.is_some() && self.is_long(row, &args, conn.db, None) => {
                    return self.set_aside_several(conn, row, &args, &slots);
                }
                None => {
                    let scope = if self.is_alone() && !conn.own_port {
                        Scope::Whole
                    } else {
                        scope
                    };
                    let to = (conn.db, conn.resp, scope);
                    let no_touch = conn.no_touch;
                    self.answer(conn, |core, out| {
                        core.run_for(no_touch, row, args, to, None, out);
                    });
                }
                // Whoever needs every slot waits for all at once.
                Some(_) if whole => return self.set_aside(conn, row, &args, &slots),
                Some(_) if self.locks.is_full() && conn.outbound.outstanding() > 0 => {
                    return Flow::Stall;
                }
                Some(slot) => {
                    let head = self.head(conn, row, None);
                    self.park(slot, &args, head);
                    // Not all of its slots need be held: what comes behind it may not pass it at another.
                    conn.exclusive = true;
                }
            }
            return Flow::Done;
        }
        if one_core {
            let head = self.head(conn, row, None);
            self.forward(first, &args, head);
            return Flow::Done;
        }
        if conn.outbound.outstanding() > 0 {
            return Flow::Stall;
        }
        let ticket = self.begin_exclusive(conn);
        let job = Job::One {
            request: Request::new(row, &args),
            db: conn.db,
            resp: conn.resp,
            no_touch: conn.no_touch,
        };
        let needs = self.needs(&slots, Vec::new());
        self.start_tx(ticket, job, needs);
        Flow::Done
    }

    /// A request over all slots of this core alone.
    fn wide(&mut self, conn: &mut Connection, row: &'static Row, args: Args<'_>) -> Flow {
        if self.is_walk(row, conn.db) {
            return self.walk(conn, row, &args);
        }
        let scope = Scope::of(conn);
        if self.locks.is_empty() {
            let to = (conn.db, conn.resp, scope);
            self.answer(conn, |core, out| core.run(row, args, to, None, out));
        } else {
            let head = self.head(conn, row, None);
            self.start_wide(Batch::one(&args, &head));
        }
        Flow::Done
    }

    fn spread(&mut self, conn: &Connection, join: Join) -> Flow {
        if conn.outbound.outstanding() > 0 {
            Flow::Stall
        } else {
            Flow::Spread(join)
        }
    }

    /// A connection ends, or is reset: it is in no transaction, listens to nothing, tracks nothing, watches nobody.
    pub fn end_roles(&mut self, conn: &mut Connection) {
        self.end_multi(conn);
        self.unsubscribe_all(conn);
        self.stop_tracking(conn);
        self.end_monitor(conn);
        self.end_replica(conn);
    }

    /// From now on nothing else of the connection begins; returns where the reply goes.
    pub fn begin_exclusive(&mut self, conn: &mut Connection) -> Ticket {
        conn.exclusive = true;
        Ticket {
            core: self.id,
            conn: conn.conn,
            seq: conn.later(&mut self.queues),
        }
    }

    /// As `begin_exclusive`, for a reply that is gathered from all cores.
    pub fn begin_gather(&mut self, conn: &mut Connection, join: Join) -> Ticket {
        let ticket = self.begin_exclusive(conn);
        conn.gather = Some(Box::new(Gather {
            seq: ticket.seq,
            left: self.node.cores(),
            join,
            parts: Vec::new(),
            large: Vec::new(),
        }));
        ticket
    }

    /// A command of the node.
    fn node_command(&mut self, conn: &mut Connection, row: &'static Row, args: Args<'_>) -> Flow {
        let Kind::Node(run) = row.kind else {
            return Flow::Done;
        };
        let mut flow = Flow::Done;
        let waits = conn.outbound.outstanding() > 0;
        let is_alone = crate::multi::is_exec(row)
            || matches!(
                row.spec.name,
                "migrate"
                    | "save"
                    | "bgsave"
                    | "shutdown"
                    | "debug"
                    | "config|set"
                    | "psync"
                    | "sync"
                    | "wait"
                    | "waitaof"
            );
        if waits && (is_alone || row.spec.group == Group::PubSub) {
            return Flow::Stall;
        }
        let mut out = core::mem::take(conn.outbound.buffer());
        if out.capacity() == 0 {
            out = self.buffer();
        }
        let start = out.len();
        let resp = conn.resp;
        let begin = self.lap;
        let done = {
            let reply = Reply::new(&mut out, resp);
            run(
                &mut Context {
                    core: self,
                    conn,
                    reply,
                    row,
                    inside_exec: false,
                },
                args,
            )
        };
        if !(waits && matches!(done, Ok(Done::Ask(..)))) {
            // One that waits for earlier replies is called again.
            let ticks = self.end_lap(begin);
            self.tally.called(row.index, ticks);
            let reply_bytes = out.len().saturating_sub(start);
            self.note_later(row, ticks, reply_bytes);
        }
        let mut wait = None;
        let later = match done {
            Ok(Done::Replied) => false,
            Ok(Done::Silent) => {
                out.truncate(start);
                *conn.outbound.buffer() = out;
                return Flow::Done;
            }
            Ok(Done::Ask(ask, join)) => {
                flow = if waits {
                    Flow::Stall
                } else {
                    Flow::Ask(ask, join)
                };
                true
            }
            Ok(Done::Later) => true,
            Ok(Done::Wait(until_ms, timeout_reply)) => {
                wait = Some((until_ms, timeout_reply, None));
                true
            }
            Ok(Done::WaitAcks(until_ms, log_wait)) => {
                wait = Some((until_ms, Vec::new(), Some(log_wait)));
                true
            }
            Err(refused) => {
                out.truncate(start);
                self.tally.failed(row.index);
                self.refuse(&refused.0, conn.resp, &mut out);
                false
            }
        };
        if later {
            out.truncate(start);
            if waits && wait.is_some() {
                flow = Flow::Stall;
            }
            if waits {
                // Nothing has changed: what stands behind outstanding replies goes back there.
                *conn.outbound.buffer() = out;
            } else if conn.outbound.out.is_empty() {
                // Whatever is outstanding was put there by the command: the buffer is that from before.
                conn.outbound.out = out;
            } else {
                self.keep_buffer(out);
            }
            if let Some((until_ms, timeout_reply, log_wait)) = wait
                && !waits
            {
                let attempt = Attempt {
                    ticket: self.begin_exclusive(conn),
                    request: Request::of_words(row, &[]),
                    db: conn.db,
                    resp: conn.resp,
                    own_port: conn.own_port,
                    shown: None,
                    user: Arc::clone(&conn.user),
                };
                let waiter = Waiter::for_time(attempt, until_ms, timeout_reply);
                self.begin_timer(waiter.and_log(log_wait));
            }
            return flow;
        }
        if conn.reply_mode != ReplyMode::On {
            // What a subscriber is told is no reply: CLIENT REPLY says nothing of it.
            if !row.spec.name.ends_with("subscribe") || out.get(start) == Some(&b'-') {
                out.truncate(start);
            }
            conn.reply_mode = conn.reply_mode.next();
        }
        *conn.outbound.buffer() = out;
        let call = conn.call();
        if conn.outbound.end(start, call) {
            self.tally.answered(call);
        }
        flow
    }

    /// Refuses a request before it runs. Inside MULTI that spoils the transaction.
    #[cold]
    pub fn reject(
        &mut self,
        conn: &mut Connection,
        row: Option<&'static Row>,
        refusal: &Refusal,
    ) -> Flow {
        if let Some(row) = row {
            self.tally.rejected(row.index);
        }
        if let Some(multi) = &mut conn.multi
            && multi.open
        {
            multi.refused = true;
        }
        if row.is_some_and(crate::multi::is_exec) {
            // EXEC itself was refused: that ends the transaction, if there is one.
            self.end_multi(conn);
            let refusal = Refusal::exec_abort(refusal);
            let resp = conn.resp;
            self.answer(conn, |core, out| core.refuse(&refusal, resp, out));
            return Flow::Done;
        }
        let resp = conn.resp;
        self.answer(conn, |core, out| core.refuse(refusal, resp, out));
        Flow::Done
    }

    #[cold]
    pub(crate) fn is_paused(
        &mut self,
        conn: &Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> bool {
        if self.now.unix_ms >= self.pause.until_ms {
            self.end_pause();
            return false;
        }
        let queued = conn.multi.as_ref().filter(|_| crate::multi::is_exec(row));
        let mut queued = queued.iter().flat_map(|multi| &multi.queued);
        let may_write = self.may_write(row, args)
            || queued.any(|request| self.may_write(request.row, &request.args()));
        // (Redis has even the end of a pause wait for that end.)
        (self.pause.all && row.spec.name != "client|unpause") || may_write
    }
}

impl Core {
    /// Whether a request may change data: a script may, unless it declares that it does not.
    fn may_write(&mut self, row: &'static Row, args: &Args<'_>) -> bool {
        match row.kind {
            Kind::Script(kind) => !self.only_reads(row, kind, args),
            _ => row.writes || row.spec.flags.contains(Flags::MAY_REPLICATE),
        }
    }
}

/// CLIENT CACHING is about the next command, or the transaction that begins with it.
fn end_caching(conn: &mut Connection, row: &Row) {
    // What MULTI has queued is part of it; see `Core::end_multi` and `Core::run_queue` for its end.
    let goes_on =
        conn.in_multi() || row.spec.name == "multi" || row.spec.name.starts_with("client|");
    if let Some(tracking) = conn.tracking.as_mut().filter(|_| !goes_on) {
        tracking.caching = None;
    }
}

/// The commands of a connection that only listens.
fn runs_while_listening(row: &Row) -> bool {
    matches!(
        row.spec.name,
        "subscribe"
            | "unsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "ping"
            | "quit"
            | "reset"
    )
}

pub(crate) fn runs_inside_multi(row: &Row) -> bool {
    matches!(
        row.spec.name,
        "exec" | "discard" | "multi" | "watch" | "quit" | "reset"
    )
}
