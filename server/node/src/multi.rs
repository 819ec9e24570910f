//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Commands are queued on the connection's core and run there in one go: at once when every slot they
//! (and the watched keys) need is here, else as a transaction over cores (`transaction.rs`).

use std::sync::atomic::Ordering::Relaxed;

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, spec};
use runtime::CoreId;
use storage::{Key, Slot};

use crate::acl::{Place, check_sort};
use crate::admin::{Context, Done, NodeCommand, NodeRun};
use crate::commandlog::Client;
use crate::connection::{Connection, Multi, Request, Watch};
use crate::core::{Core, Scope};
use crate::dispatch::Flow;
use crate::front::Elsewhere;
use crate::gather::Join;
use crate::mail::{Ask, Mail, Ticket, WatchedKeys};
use crate::scripts::{Caller, Ended};
use crate::table::{Kind, Plan, Row};
use crate::transaction::{Job, watched_unchanged};

/// A reply slot that no connection has: what is answered to it is dropped.
const NO_REPLY: u64 = u64::MAX;
/// Bytes that one MULTI may queue.
const QUEUED_BYTES_MAX: usize = 1 << 30;

pub(crate) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "discard",
            summary: "Forgets what MULTI has queued.",
            group: Group::Transactions,
            since: "2.0.0",
            arity: Arity::exactly(1),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            acl: Acl::FAST.and(Acl::TRANSACTION),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(discard),
    },
    NodeCommand {
        spec: Spec {
            name: "exec",
            summary: "Runs what MULTI has queued, all at once.",
            group: Group::Transactions,
            since: "1.2.0",
            arity: Arity::exactly(1),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::SKIP_SLOWLOG)
                .and(Flags::STALE),
            acl: Acl::SLOW.and(Acl::TRANSACTION),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(exec),
    },
    NodeCommand {
        spec: Spec {
            name: "multi",
            summary: "Begins a transaction: what follows is queued until EXEC.",
            group: Group::Transactions,
            since: "1.2.0",
            arity: Arity::exactly(1),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            acl: Acl::FAST.and(Acl::TRANSACTION),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(multi),
    },
    NodeCommand {
        spec: Spec {
            name: "unwatch",
            summary: "Forgets the watched keys.",
            group: Group::Transactions,
            since: "2.2.0",
            arity: Arity::exactly(1),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            acl: Acl::FAST.and(Acl::TRANSACTION),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(unwatch),
    },
    NodeCommand {
        spec: Spec {
            name: "watch",
            summary: "Makes EXEC do nothing if one of these keys changes before.",
            group: Group::Transactions,
            since: "2.2.0",
            arity: Arity::at_least(2),
            flags: Flags::ALLOW_BUSY
                .and(Flags::FAST)
                .and(Flags::LOADING)
                .and(Flags::NOSCRIPT)
                .and(Flags::STALE),
            acl: Acl::FAST.and(Acl::TRANSACTION),
            keys: spec::ALL_RO,
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(watch),
    },
];

/// Whether a row is EXEC.
pub fn is_exec(row: &Row) -> bool {
    row.spec.name == "exec"
}

impl Core {
    /// Queues a request of an open MULTI.
    pub fn queue(&mut self, conn: &mut Connection, row: &'static Row, args: &Args<'_>) -> Flow {
        let Some(multi) = &mut conn.multi else {
            return Flow::Done;
        };
        let request = Request::new(row, args);
        multi.queued_bytes += request.bytes();
        if multi.queued_bytes > QUEUED_BYTES_MAX {
            return self.reject(
                conn,
                Some(row),
                &Refusal::Text("ERR too many bytes queued by MULTI"),
            );
        }
        multi.queued.push(request);
        let resp = conn.resp;
        self.answer(conn, |_, out| Reply::new(out, resp).simple("QUEUED"));
        Flow::Done
    }

    /// Ends MULTI and WATCH.
    pub fn end_multi(&mut self, conn: &mut Connection) {
        let Some(mut multi) = conn.multi.take() else {
            return;
        };
        self.unwatch(core::mem::take(&mut multi.watched));
        if multi.open {
            end_caching(conn);
        }
    }

    /// Watches keys no more.
    pub fn unwatch(&mut self, watched: Vec<Watch>) {
        if !watched.is_empty() {
            self.node.watching.fetch_sub(1, Relaxed);
        }
        let mut elsewhere: Vec<(CoreId, WatchedKeys)> = Vec::new();
        for watch in watched.into_iter() {
            if watch.core == self.id {
                self.shard.unwatch(watch.db, &watch.key);
                continue;
            }
            match elsewhere.iter_mut().find(|(core, _)| *core == watch.core) {
                Some((_, keys)) => keys.push((watch.db, watch.key)),
                None => elsewhere.push((watch.core, vec![(watch.db, watch.key)])),
            }
        }
        for (core, keys) in elsewhere {
            self.posts.push((core, Mail::Unwatch(keys)));
        }
    }

    /// All slots that the queue and the watched keys need, sorted; whether it needs every slot.
    fn exec_slots(&self, conn: &Connection, multi: &Multi) -> (Vec<Slot>, bool) {
        let mut slots: Vec<Slot> = multi
            .watched
            .iter()
            .map(|watch| Slot::of(&watch.key))
            .collect();
        let mut whole = false;
        for request in &multi.queued {
            let args = request.args();
            match request.row.plan {
                Plan::Node => {}
                Plan::Single(_) | Plan::Multi => {
                    Core::slots_of(request.row, &args, &mut slots);
                    whole |= Core::needs_whole(request.row, &args);
                    // It may use other keys than it was given; in a queue it cannot begin anew.
                    whole |=
                        matches!(request.row.kind, Kind::Script(_)) && !self.keeps_to_core(conn);
                }
                Plan::Sum | Plan::Concat | Plan::Scan | Plan::AnyShard | Plan::Whole => {
                    whole |= !conn.own_port
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        (slots, whole)
    }

    /// Runs what is queued; the reply is appended to `out`. All slots are in place.
    pub fn run_queue(
        &mut self,
        conn: &mut Connection,
        multi: Multi,
        scope: Scope,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        Reply::new(out, conn.resp).array(multi.queued.len());
        if let Some(first) = multi.queued.first().filter(|_| self.slot_counts.is_on()) {
            self.count_slot_of_exec(first.row, &first.args(), out.len() - start);
        }
        self.tally.nested = true;
        for request in &multi.queued {
            self.run_queued(conn, request, scope, out);
        }
        self.show_exec(conn, &multi);
        self.tally.nested = false;
        end_caching(conn);
        self.unwatch(multi.watched);
    }

    /// Runs one request of a queue; its reply is appended to `out`. Its slots are in place.
    pub(crate) fn run_queued(
        &mut self,
        conn: &mut Connection,
        request: &Request,
        scope: Scope,
        out: &mut Vec<u8>,
    ) {
        let (row, args) = (request.row, request.args());
        if let Err(refusal) = self.permit_queued(conn, row, &args) {
            self.refuse(&refusal, conn.resp, out);
            return;
        }
        if conn.tracking.is_some() {
            self.track(conn, row, &args);
        }
        match row.kind {
            Kind::Node(run) => {
                self.run_inside(conn, row, run, args, out);
                self.note(row, &request.args(), Client::Here(conn));
            }
            Kind::Script(_) => {
                let caller = Caller::of(conn, self.id, scope);
                if self.run_script(row, args, caller, out) != Ended::Replied {
                    // INVARIANT: every slot was asked for (see `exec_slots`), and nothing moves a script of a queue.
                    self.refuse(&Refusal::CrossSlot, conn.resp, out);
                }
            }
            _ => {
                let to = (conn.db, conn.resp, scope);
                self.run_for(conn.no_touch, row, args, to, None, out);
                self.note(row, &request.args(), Client::Here(conn));
            }
        }
        self.show_queued(conn, request);
    }

    /// What was allowed when it was queued may be forbidden now, or the connection may have logged in as another user.
    fn permit_queued(
        &self,
        conn: &mut Connection,
        row: &'static Row,
        args: &Args<'_>,
    ) -> Result<(), Refusal> {
        if conn.free_at == self.users_epoch {
            return Ok(());
        }
        self.may_run(conn, row, args, Place::Multi)
            .map_err(|(denied, _)| denied.at_exec())?;
        check_sort(&conn.user, row, args)
    }

    /// Notes what a queue that runs aside reads, for a client that tracks, and shows the monitors what it runs.
    pub(crate) fn show_queue(&mut self, conn: &mut Connection, multi: &Multi) {
        for request in &multi.queued {
            if conn.tracking.is_some() {
                self.track(conn, request.row, &request.args());
            }
            self.show_queued(conn, request);
        }
        self.show_exec(conn, multi);
    }

    /// Shows the monitors an EXEC that has waited.
    fn show_exec(&mut self, conn: &Connection, multi: &Multi) {
        if let Some(exec) = &multi.exec {
            self.show_queued(conn, exec);
        }
    }

    /// Shows the monitors what EXEC has run.
    fn show_queued(&mut self, conn: &Connection, request: &Request) {
        if self.watchers.count > 0 {
            self.show(conn, request.row, &request.args());
        }
    }

    /// Runs a command of the node where nothing can be waited for: in EXEC, in a script.
    pub(crate) fn run_inside(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        run: NodeRun,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) {
        let begin = self.lap;
        let start = out.len();
        let resp = conn.resp;
        let reply = Reply::new(out, resp);
        let done = run(
            &mut Context {
                core: self,
                conn,
                reply,
                row,
                inside_exec: true,
            },
            args,
        );
        let ticks = self.end_lap(begin);
        self.tally.called(row.index, ticks);
        self.note_later(row, ticks, out.len().saturating_sub(start));
        let refusal = match done {
            Ok(Done::Replied | Done::Silent) => return,
            Ok(Done::Ask(ask, Join::Ok)) => {
                self.tell_all(conn, &ask);
                Reply::new(out, conn.resp).ok();
                return;
            }
            Ok(Done::Wait(_, reply)) => {
                out.truncate(start);
                out.extend_from_slice(&reply);
                return;
            }
            Ok(Done::WaitAcks(_, wait)) => {
                out.truncate(start);
                out.extend_from_slice(&wait.reply(self.node));
                return;
            }
            Ok(Done::Ask(ask, Join::Count(count))) => {
                self.tell_all(conn, &ask);
                Reply::new(out, conn.resp).int(count);
                return;
            }
            Ok(Done::Ask(..) | Done::Later) => Refusal::Owned(
                format!("ERR {} is not supported inside MULTI", row.spec.name).into(),
            ),
            Err(refused) => refused.0,
        };
        out.truncate(start);
        self.tally.failed(row.index);
        self.refuse(&refusal, conn.resp, out);
    }

    /// Tells every core something and waits for no answer: inside EXEC there is no waiting.
    fn tell_all(&mut self, conn: &Connection, ask: &Ask) {
        let from = Ticket {
            core: self.id,
            conn: conn.conn,
            seq: NO_REPLY,
        };
        for core in (0..self.node.cores() as u16).map(CoreId) {
            // (Beside the cores the one that this stands for is another.)
            if core != self.id || self.beside.is_some() {
                let ask = ask.clone();
                self.posts.push((core, Mail::Ask { from, ask }));
            }
        }
        self.answer_ask(ask, &mut Vec::new());
    }

    /// The reply of an EXEC whose watched keys have changed.
    pub fn abort_queue(&mut self, conn: &mut Connection, multi: Multi, out: &mut Vec<u8>) {
        end_caching(conn);
        self.show_exec(conn, &multi);
        self.unwatch(multi.watched);
        Reply::new(out, conn.resp).null_array();
    }
}

/// CLIENT CACHING before MULTI has been about what it queued.
fn end_caching(conn: &mut Connection) {
    if let Some(tracking) = &mut conn.tracking {
        tracking.caching = None;
    }
}

fn multi(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    if cx.conn.in_multi() {
        return Err(Refusal::NestedMulti.into());
    }
    cx.conn.multi.get_or_insert_default().open = true;
    cx.reply.ok();
    Ok(Done::Replied)
}

fn discard(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    if !cx.conn.in_multi() {
        return Err(Refusal::DiscardWithoutMulti.into());
    }
    cx.core.end_multi(cx.conn);
    cx.reply.ok();
    Ok(Done::Replied)
}

fn unwatch(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    if let Some(multi) = &mut cx.conn.multi {
        let watched = core::mem::take(&mut multi.watched);
        multi.elsewhere = Elsewhere::No;
        cx.core.unwatch(watched);
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

fn watch(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    if cx.conn.in_multi() {
        return Err(Refusal::WatchInMulti.into());
    }
    let db = cx.conn.db;
    let new: Vec<&[u8]> = args.rest().collect();
    if cx.core.config.cluster_enabled {
        let mut slots: Vec<Slot> = new.iter().map(|key| Slot::of(key)).collect();
        slots.dedup();
        if slots.len() > 1 {
            return Err(Refusal::CrossSlot.into());
        }
    }
    let owner = |key: &[u8]| cx.core.owner(Slot::of(key));
    let elsewhere = new.iter().any(|key| owner(key) != cx.core.id);
    if elsewhere && cx.conn.outbound.outstanding() > 0 {
        return Ok(Done::Ask(Ask::Watch(Vec::new()), Join::Watch));
    }
    let mut asked = Vec::new();
    let multi = cx.conn.multi.get_or_insert_default();
    if multi.watched.is_empty() {
        cx.core.node.watching.fetch_add(1, Relaxed);
    }
    for key in new {
        if multi
            .watched
            .iter()
            .any(|watch| watch.db == db && *watch.key == *key)
        {
            continue;
        }
        let routed = Key::new(db, key);
        let core = cx.core.owner(routed.slot);
        let version = (core == cx.core.id).then(|| cx.core.shard.watch(&routed));
        if version.is_none() {
            asked.push((db, Box::from(key)));
        }
        multi.watched.push(Watch {
            core,
            db,
            key: key.into(),
            version,
        });
    }
    if !asked.is_empty() {
        return Ok(Done::Ask(Ask::Watch(asked), Join::Watch));
    }
    cx.reply.ok();
    Ok(Done::Replied)
}

fn exec(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let Some(multi) = cx.conn.multi.as_ref().filter(|multi| multi.open) else {
        return Err(Refusal::ExecWithoutMulti.into());
    };
    if multi.refused {
        cx.core.end_multi(cx.conn);
        return Err(Refusal::ExecAbort.into());
    }
    if multi.elsewhere != Elsewhere::No {
        return Ok(abort_lost(cx));
    }
    let (mut slots, whole) = cx.core.exec_slots(cx.conn, multi);
    if cx.core.config.cluster_enabled && slots.len() > 1 {
        cx.core.end_multi(cx.conn);
        return Err(Refusal::CrossSlot.into());
    }
    if whole && !cx.core.has_every_slot() {
        slots = (0..storage::SLOTS as u16).map(Slot).collect();
    }
    let watched: Vec<(u8, Box<[u8]>, u64)> = multi
        .watched
        .iter()
        .map(|watch| {
            (
                watch.db,
                watch.key.clone(),
                watch.version.unwrap_or(u64::MAX),
            )
        })
        .collect();
    let here = slots.iter().all(|slot| cx.core.owner(*slot) == cx.core.id);
    let waits = !here || cx.core.held_slot(slots.iter().copied()).is_some();
    let is_long = !waits && cx.core.is_long_queue(cx.conn, multi);
    if is_long && whole {
        slots = (0..storage::SLOTS as u16).map(Slot).collect();
    }
    if waits || is_long {
        let ticket = cx.core.begin_exclusive(cx.conn);
        let needs = cx.core.needs(&slots, watched);
        cx.core.start_tx(ticket, Job::Exec, needs);
        return Ok(Done::Later);
    }
    let Some(multi) = cx.conn.multi.take() else {
        return Ok(Done::Silent);
    };
    let mut out = cx.core.buffer();
    if watched_unchanged(&mut cx.core.shard, &watched) {
        let scope = match (cx.conn.own_port, cx.core.is_alone()) {
            (true, _) => Scope::OwnPort,
            (false, true) => Scope::Whole,
            (false, false) => Scope::Core,
        };
        cx.core.run_queue(cx.conn, *multi, scope, &mut out);
    } else {
        cx.core.abort_queue(cx.conn, *multi, &mut out);
    }
    cx.reply.raw(&out);
    cx.core.keep_buffer(out);
    Ok(Done::Replied)
}

/// EXEC after keys were watched where they cannot be looked at any more.
fn abort_lost(cx: &mut Context<'_>) -> Done {
    let Some(multi) = cx.conn.multi.take() else {
        return Done::Silent;
    };
    let mut out = Vec::new();
    cx.core.abort_queue(cx.conn, *multi, &mut out);
    cx.reply.raw(&out);
    Done::Replied
}
