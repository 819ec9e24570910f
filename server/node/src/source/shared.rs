//! The copy of one of several sources: what is here of it goes, and what is in its file comes, a few keys at a time, by visits.
//!
//! ```text
//! file, whole and read through ── batches of one core's keys ──> visit: put, recorded like any write ──> log, replicas
//! before: LineAt(none), its slots emptied                        behind: LineAt(position)
//! ```
//! The other lines' streams go on meanwhile. A crash in between finds no position in the log, and the copy begins anew. Clients see nothing of a
//! node that lacks a part ([`super::Source::is_partial`]): LOADING, or the request is passed on.
//!
//! Cost: the copy is written to the log once, and again when that is rewritten. [`AHEAD_MAX`] batches of [`BATCH_BYTES`] a core are under way.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use migration::{Position, ReplId};
use runtime::CoreId;
use storage::rdb;
use storage::{Key, Shard, Slot};

use super::apply::{visit, wait};
use super::line::is_position;
use super::session::{ENDED, Session};
use super::{Share, lock, many};
use crate::control::disk::SystemDisk;
use crate::control::load::{Batch, Expired, Part, Reader};
use crate::core::Core;

/// Bytes of keys that come in one visit, and visits of a core that are under way.
const BATCH_BYTES: usize = 64 << 10;
const AHEAD_MAX: usize = 4;
/// Keys that are removed in one visit, and slots that it looks through.
const REMOVED_MAX: usize = 512;
const SLOTS_MAX: usize = 64;
/// How often the source hears that this replica is there.
const BEAT: Duration = Duration::from_secs(1);
/// How long a visit is waited for while too much waits for the disk.
const CHOKED: Duration = Duration::from_millis(5);

/// What a visit answers: None when its session counts no more.
type Answer = Result<Option<usize>, String>;

/// Keys for one core, and their slots.
#[derive(Default)]
struct Load {
    keys: Batch,
    slots: Vec<Slot>,
}

/// Visits on their way.
struct Ahead {
    to: Sender<Answer>,
    from: Receiver<Answer>,
    under_way: usize,
    beaten: Instant,
}

impl Ahead {
    /// None.
    fn new() -> Ahead {
        let (to, from) = channel();
        Ahead {
            to,
            from,
            under_way: 0,
            beaten: Instant::now(),
        }
    }
}

impl Session {
    /// What is here of the line goes, and what is in its file comes.
    ///
    /// # Errors
    /// What went wrong: then nothing that is here of it counts.
    pub(super) fn load_share(&mut self, path: &Path) -> Result<(), String> {
        let mut ahead = Ahead::new();
        let share = self.line.share();
        self.disown(&mut ahead)?;
        self.line.note(|status| status.copies += 1);
        if share.is_told() {
            self.empty(&share, &mut ahead)?;
        }
        let done = self.put_file(path, &share, &mut ahead);
        // What is under way has ended before anything else is begun.
        while ahead.under_way > 0 {
            let late = self.hear_of(&mut ahead);
            if done.is_ok() {
                late?;
            }
        }
        done
    }

    /// The log says that nothing of this line can be gone on with; every slot is in hand for that, so what clients had begun has ended.
    fn disown(&mut self, ahead: &mut Ahead) -> Result<(), String> {
        let line = Arc::clone(&self.line);
        self.visit_all(None, ahead, move |core| {
            let none = ReplId::NONE;
            core.shard
                .effects()
                .note_line(0, line.number, none.bytes(), 0);
            line.set_position(None);
            Ok(0)
        })?;
        self.is_settled = true;
        many::recount(self.node)
    }

    /// Everything is there, up to this position.
    ///
    /// # Errors
    /// When the session is to end.
    pub(super) fn settle_share(&mut self, position: Position) -> Result<(), String> {
        let mut ahead = Ahead::new();
        let line = Arc::clone(&self.line);
        self.visit_all(Some(Vec::new()), &mut ahead, move |core| {
            let (replid, effects) = (position.replid, core.shard.effects());
            effects.note_line(position.db, line.number, replid.bytes(), position.offset);
            line.advance(position);
            Ok(0)
        })?;
        many::recount(self.node)
    }

    /// Removes what is here of the line's keys.
    fn empty(&mut self, share: &Share, ahead: &mut Ahead) -> Result<(), String> {
        let (node, slots) = (self.node, share.slots());
        for core in (0..node.cores() as u16).map(CoreId) {
            let range = node.range(core);
            let own = slots.iter().filter(|slot| range.contains(&slot.index()));
            let own: Vec<Slot> = own.collect();
            for some in own.chunks(SLOTS_MAX) {
                loop {
                    let of_visit = (some.to_vec(), share.clone());
                    let removed =
                        self.visit_all(Some(some.to_vec()), ahead, move |core: &mut Core| {
                            Ok(core.remove_some(&of_visit.0, &of_visit.1))
                        })?;
                    if removed < REMOVED_MAX {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the file and sends its keys to their cores.
    fn put_file(&mut self, path: &Path, share: &Share, ahead: &mut Ahead) -> Result<(), String> {
        let node = self.node;
        let named = |why: &dyn core::fmt::Display| format!("cannot load the source's file: {why}");
        let mut reader = Reader::open(&SystemDisk, path, &node.config(), &node.vault)
            .map_err(|fault| named(&fault))?;
        let mut loads: Vec<Load> = (0..node.cores()).map(|_| Load::default()).collect();
        let (mut libraries, mut more) = (Vec::new(), true);
        while more {
            let step = reader.step(|part| {
                match part {
                    rdb::Part::Key(raw) => {
                        let key = raw.key().map_err(|damage| damage.to_string())?;
                        let slot = Slot::of(&key);
                        // (A shard may still hold what it has given away.)
                        if !share.has(&key) {
                            return may_leave_out(share, &key);
                        }
                        let load = &mut loads[node.owner(slot).index()];
                        load.keys.push(raw);
                        load.slots.push(slot);
                        if load.keys.bytes() >= BATCH_BYTES {
                            self.put(core::mem::take(load), share, ahead)?;
                        }
                    }
                    rdb::Part::Function(code) => libraries.push(code),
                    _ => {}
                }
                Ok(())
            });
            more = step.map_err(|fault| named(&fault))?;
            for code in libraries.drain(..) {
                self.visit_all(Some(Vec::new()), ahead, move |core: &mut Core| {
                    core.take_part(Part::Function(code), Expired::Keep)?;
                    crate::scripts::log_libraries(core);
                    Ok(0)
                })?;
            }
        }
        for load in loads {
            self.put(load, share, ahead)?;
        }
        Ok(())
    }

    /// Keys of one core.
    fn put(&mut self, mut load: Load, share: &Share, ahead: &mut Ahead) -> Result<(), String> {
        let Some(first) = load.slots.first().copied() else {
            return Ok(());
        };
        load.slots.sort_unstable();
        load.slots.dedup();
        let (core, is_hand) = (self.node.owner(first), *share == Share::Hand);
        while self.node.write_log.is_choked() {
            self.look()?;
            std::thread::sleep(CHOKED);
        }
        while ahead.under_way >= AHEAD_MAX * self.node.cores() {
            self.hear_of(ahead)?;
        }
        let keys = load.keys;
        self.send(core, Some(load.slots), ahead, move |core: &mut Core| {
            core.put_keys(keys, is_hand).map(|()| 0)
        })
    }

    /// One visit, awaited.
    fn visit_all(
        &mut self,
        slots: Option<Vec<Slot>>,
        ahead: &mut Ahead,
        run: impl FnOnce(&mut Core) -> Result<usize, String> + Send + 'static,
    ) -> Result<usize, String> {
        while ahead.under_way > 0 {
            self.hear_of(ahead)?;
        }
        let first = slots.as_ref().and_then(|slots| slots.first());
        let core = first.map_or(CoreId(0), |slot| self.node.owner(*slot));
        self.send(core, slots, ahead, run)?;
        self.hear_of(ahead)
    }

    fn send(
        &mut self,
        core: CoreId,
        slots: Option<Vec<Slot>>,
        ahead: &mut Ahead,
        run: impl FnOnce(&mut Core) -> Result<usize, String> + Send + 'static,
    ) -> Result<(), String> {
        if ahead.beaten.elapsed() >= BEAT {
            ahead.beaten = Instant::now();
            self.beat();
        }
        let (line, number, to) = (Arc::clone(&self.line), self.number, ahead.to.clone());
        let run = move |core: &mut Core| {
            let order = lock(&line.order);
            let answer = match *order == number {
                true => run(core).map(Some),
                false => Ok(None),
            };
            core.queue_effects();
            drop(order);
            // (A session that is gone needs no answer.)
            let _gone = to.send(answer);
        };
        visit(self.node, core, slots, Box::new(run))?;
        ahead.under_way += 1;
        Ok(())
    }

    fn hear_of(&mut self, ahead: &mut Ahead) -> Result<usize, String> {
        let answer = wait(self.node, &ahead.from)?;
        ahead.under_way -= 1;
        answer?.ok_or_else(|| ENDED.to_owned())
    }
}

/// A key of a line's file that is not the line's.
///
/// # Errors
/// When it ought to be some server's, and cannot be told whose.
fn may_leave_out(share: &Share, key: &[u8]) -> Result<(), String> {
    if !matches!(share, Share::Keys(..)) || is_position(key) {
        return Ok(());
    }
    Err(format!(
        "the key '{}' is another server's by the patterns of `start`, or none's",
        key.escape_ascii()
    ))
}

impl Core {
    /// Removes up to [`REMOVED_MAX`] keys of a line, of slots that are in hand; how many there were.
    fn remove_some(&mut self, slots: &[Slot], share: &Share) -> usize {
        let mut names: Vec<(u8, Vec<u8>)> = Vec::new();
        self.shard.suspend_deadlines();
        'all: for db in 0..self.shard.db_count() as u8 {
            for slot in slots {
                let (mut cursor, end) = (Some(Shard::cursor_at(*slot)), slot.index() + 1);
                while let Some(from) = cursor {
                    let left = REMOVED_MAX - names.len();
                    cursor = self.shard.scan(db, from, end, left, |key, _| {
                        if share.has(key) {
                            names.push((db, key.to_vec()));
                        }
                    });
                    if names.len() >= REMOVED_MAX {
                        break 'all;
                    }
                }
            }
        }
        for (db, name) in &names {
            self.shard.edit().remove(&Key::new(*db, name));
        }
        self.shard.set_now(self.now.unix_ms);
        names.len()
    }

    /// Puts keys of a file whose slots are in hand. `is_new`: none of them may be here.
    fn put_keys(&mut self, keys: Batch, is_new: bool) -> Result<(), String> {
        self.shard.suspend_deadlines();
        let done = match is_new.then(|| self.known_of(&keys)).flatten() {
            Some(known) => Err(format!(
                "the key '{}' is at two of the sources: they must have different keys",
                known.escape_ascii()
            )),
            None => self.take_part(Part::Keys(keys), Expired::Keep),
        };
        self.shard.set_now(self.now.unix_ms);
        done
    }

    /// The first of these keys that is here.
    fn known_of(&self, keys: &Batch) -> Option<Vec<u8>> {
        keys.iter().find_map(|raw| {
            let name = raw.key().ok()?;
            let is_here = self.shard.peek(&Key::new(raw.db, &name)).is_some();
            is_here.then(|| name.to_vec())
        })
    }
}
