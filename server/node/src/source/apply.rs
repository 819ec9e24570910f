//! What a session has done on the cores: batches of the stream, and the beginning of a full copy.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use migration::Position;
use runtime::CoreId;

use super::{Line, lock};
use crate::connection::{Connection, Request};
use crate::control::load::post;
use crate::core::Core;
use crate::executed::{Failed, Run, Visit, host_of, slots_of};
use crate::mail::Mail;
use crate::node::Node;

/// How often a session that waits for a core looks whether the server stops.
const LOOK: Duration = Duration::from_millis(50);

/// A part of the stream that has been executed, or was not to be any more.
pub(super) struct Done {
    /// The client that it was run for; it goes from one batch to the next.
    pub conn: Box<Connection>,
    /// What failed here.
    pub failed: Vec<Failed>,
    /// The requests, for their names.
    pub requests: Vec<Request>,
    /// It is the session's that counts.
    pub counts: bool,
}

/// Sends requests to a core: they are executed at once, and their position with them. `claims_all`: with every slot in hand, so that whatever
/// began before has ended. What comes of it comes to `to`.
///
/// # Errors
/// When the server was stopped.
pub(super) fn send(
    node: &'static Node,
    (line, number): (&Arc<Line>, u64),
    (mut conn, requests): (Box<Connection>, Vec<Request>),
    (position, claims_all): (Position, bool),
    to: Sender<Done>,
) -> Result<(), String> {
    let slots = if claims_all {
        None
    } else {
        slots_of(&requests)
    };
    let host = host_of(node, slots.as_deref());
    let (line, is_many) = (Arc::clone(line), node.source.is_many());
    let run = move |core: &mut Core| {
        let order = lock(&line.order);
        let counts = *order == number;
        let failed = if counts {
            let failed = core.run_executed(&mut conn, &requests);
            let (replid, effects) = (position.replid, core.shard.effects());
            match is_many {
                true => {
                    effects.note_line(position.db, line.number, replid.bytes(), position.offset)
                }
                false => effects.note_source(position.db, replid.bytes(), position.offset),
            }
            // In the log before the next batch can be, which may run on another core.
            core.queue_effects();
            line.advance(position);
            failed
        } else {
            Vec::new()
        };
        drop(order);
        // (A session that is gone needs no answer.)
        let _gone = to.send(Done {
            conn,
            failed,
            requests,
            counts,
        });
    };
    visit(node, host, slots, Box::new(run))
}

pub(super) fn visit(
    node: &Node,
    host: CoreId,
    slots: Option<Vec<storage::Slot>>,
    run: Run,
) -> Result<(), String> {
    post(
        node,
        host.index(),
        Mail::Visit(Box::new(Visit { slots, run })),
    )
}

/// Waits for what a core answers.
///
/// # Errors
/// When the server was stopped.
pub(super) fn wait<T>(node: &Node, from: &Receiver<T>) -> Result<T, String> {
    loop {
        match from.recv_timeout(LOOK) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) if !node.stopping.load(Relaxed) => {}
            Err(_) => return Err("the server was stopped".to_owned()),
        }
    }
}

/// Does something with every slot in hand; what it says.
///
/// # Errors
/// When the server was stopped.
pub(super) fn with_all<R: Send + 'static>(
    node: &'static Node,
    act: impl FnOnce(&mut Core) -> R + Send + 'static,
) -> Result<R, String> {
    let (to, from) = std::sync::mpsc::channel();
    let run = move |core: &mut Core| {
        // (Who waits for it is there, or the server stops.)
        let _gone = to.send(act(core));
    };
    visit(node, CoreId(0), None, Box::new(run))?;
    wait(node, &from)
}

/// With every slot in hand: nothing of the data stays, the log ends where it is, and clients are told LOADING. Whether this session counts; if not,
/// nothing has happened. Without a number it is done whoever counts.
///
/// # Errors
/// When the server was stopped.
pub(super) fn clear(node: &'static Node, number: Option<u64>, now_ms: u64) -> Result<bool, String> {
    with_all(node, move |core| {
        let order = lock(&node.source.first.order);
        let counts = number.is_none_or(|number| *order == number);
        if counts {
            core.begin_copy(now_ms);
        }
        counts
    })
}

/// Where there is nothing yet, neither keys nor libraries, and nothing is being written of it: clients are told LOADING, and the log stays as it is.
/// Whether that is so, and this session counts. Else nothing has happened.
///
/// # Errors
/// When the server was stopped.
pub(super) fn begin_empty(node: &'static Node, number: u64, now_ms: u64) -> Result<bool, String> {
    with_all(node, move |core| {
        let order = lock(&node.source.first.order);
        let dbs = 0..node.config().db_count();
        let mut keys = dbs.map(|db| core.shard.count(db as u8).keys);
        let is_empty = keys.all(|keys| keys == 0) && node.scripting.libraries().functions() == 0;
        let is_written = node.snapshots.facts().since_ms.is_some();
        let begins = *order == number && is_empty && !is_written;
        if begins {
            // What is done with keys that are in no log is not said there either; the log itself stays.
            core.queue_effects();
            core.record_everywhere(node.write_log.feeds());
            core.tell_loading(now_ms);
        }
        begins
    })
}

/// What was loaded so is whole: the log ends here, another follows with this as its base. Whether this session counts; if not, nothing has happened.
///
/// # Errors
/// When the server was stopped.
pub(super) fn end_empty(node: &'static Node, number: u64) -> Result<bool, String> {
    with_all(node, move |core| {
        let order = lock(&node.source.first.order);
        let counts = *order == number;
        if counts && node.write_log.is_on() {
            core.leave_log();
        }
        counts
    })
}

/// It is not: nothing is here again, as the log says all the time.
///
/// # Errors
/// When the server was stopped.
pub(super) fn undo_empty(node: &'static Node) -> Result<(), String> {
    with_all(node, move |core| {
        core.shard.edit().flush_all();
        core.forget_libraries();
        core.queue_effects();
        core.record_everywhere(node.write_log.is_on() || node.write_log.feeds());
    })
}

impl Core {
    /// See [`clear`].
    fn begin_copy(&mut self, now_ms: u64) {
        let node = self.node;
        if node.write_log.is_on() {
            self.leave_log();
        }
        // (One that is being written is of the data of before; its file must not take the place of the one that comes.)
        if node.snapshots.facts().since_ms.is_some() {
            node.snapshots.give_up(self.shard.snapshot_number());
        }
        node.source.first.set_position(None);
        self.shard.edit().flush_all();
        self.forget_libraries();
        self.tell_loading(now_ms);
    }

    /// Clients of all cores are told LOADING; a core hears of it before its slots are back.
    fn tell_loading(&mut self, now_ms: u64) {
        if !self.node.loading.is_on() {
            self.node.loading.begin(now_ms);
        }
        self.update_holds();
        self.tell_others(|| Mail::Authority);
    }
}
