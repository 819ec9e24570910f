//! What is asked of the cores of this node for it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use migration::Position;
use runtime::CoreId;
use storage::{Key, Slot, Ttl};

use crate::control::load::post;
use crate::core::Core;
use crate::executed::{Run, Visit, host_of};
use crate::mail::Mail;
use crate::node::Node;
use crate::source::{self, Share};

/// How long a core, or a sync, is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The rest between two looks at a sync.
const LOOK: Duration = Duration::from_micros(200);
/// Deadlines are looked at by the tick of the wheel, in which so many ms pass at most (storage/expiry.rs: 8).
const TICK_MS: u64 = 16;
/// Keys that one step ends.
const ENDED_AT_ONCE: usize = 10_000;

/// Runs something on a core with these slots in hand, and waits for it.
///
/// # Errors
/// When the core does not answer in time; of all functions here.
fn visit(
    node: &Node,
    host: CoreId,
    slots: Vec<Slot>,
    run: impl FnOnce(&mut Core) + Send + 'static,
) -> Result<(), String> {
    let (to, from) = channel();
    let run: Run = Box::new(move |core| {
        run(core);
        core.queue_effects();
        // (Who asked may have given up.)
        let _gone = to.send(());
    });
    let slots = Some(slots);
    post(
        node,
        host.index(),
        Mail::Visit(Box::new(Visit { slots, run })),
    )?;
    match from.recv_timeout(ANSWER_MAX) {
        Ok(()) => Ok(()),
        Err(RecvTimeoutError::Timeout) => Err("a core does not answer".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Err("the server was stopped".to_owned()),
    }
}

/// The value of a key is recorded as a whole, in the order of everything else; nothing of a key that is not there.
pub(in crate::control::migrate) fn restate(node: &Node, db: u8, name: &[u8]) -> Result<(), String> {
    let slots = vec![Slot::of(name)];
    let host = host_of(node, Some(&slots));
    let name = name.to_vec();
    visit(node, host, slots, move |core| {
        let key = Key::new(db, &name);
        let mut edit = core.shard.edit();
        if let Some((value, deadline)) = edit.clone_value(&key) {
            edit.put_value(&key, value, deadline.map_or(Ttl::Clear, Ttl::At));
        }
    })
}

/// Keys whose deadline has passed by then end, though nobody decides for the moment: by the clock of the old Redis they have ended. Those
/// whose deadline is within a tick of then may end as well: the caller lets that time pass before anybody writes.
/// `of`: only keys that one of several servers has.
pub(in crate::control::migrate) fn end_keys(
    node: &Node,
    until_ms: u64,
    of: Option<Share>,
) -> Result<(), String> {
    let only = of.map(|share| -> storage::Ends { Arc::new(move |key: &[u8]| share.has(key)) });
    for core in (0..node.cores() as u16).map(CoreId) {
        let only = only.clone();
        visit(node, core, vec![], move |core| {
            let now_ms = core.now.unix_ms;
            core.shard.set_holds_expired(false);
            core.shard.set_ends(only);
            core.shard.set_now(until_ms.saturating_add(TICK_MS));
            while core.shard.expire_due(ENDED_AT_ONCE) {}
            core.shard.set_now(now_ms);
            core.hold_expired();
        })?;
    }
    std::thread::sleep(Duration::from_millis(TICK_MS + 1));
    Ok(())
}

/// The log says, on the disk, where in the source's history the data here stands, or what is here of one of several.
pub(in crate::control::migrate) fn stand(
    node: &Node,
    position: Position,
    of: Option<u16>,
) -> Result<(), String> {
    let log = &node.write_log;
    if !log.is_on() {
        return Err("there is no log that could say where the data stands".to_owned());
    }
    let sequence = match of {
        Some(number) => source::stand_line(node, number, position),
        None => source::stand(node, position),
    };
    await_sync(node, sequence)
}

/// The log is on the disk up to this sequence.
pub(in crate::control::migrate) fn await_sync(node: &Node, sequence: u64) -> Result<(), String> {
    let log = &node.write_log;
    let until = Instant::now() + ANSWER_MAX;
    while log.synced() < sequence {
        if Instant::now() >= until || log.is_failed() {
            return Err("the log could not be synced".to_owned());
        }
        log.sync_soon();
        std::thread::sleep(LOOK);
    }
    Ok(())
}
