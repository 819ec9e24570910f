//! A full copy: the file is received, read through, put in the place of the snapshot, and loaded; where nothing is here that it could cost
//! it is loaded as it arrives, which takes as long as the longer of the two.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use migration::psync::{FileEnd, Receiving};
use migration::{Authority, Position};
use storage::Limits;
use storage::rdb::{Part, Splitter};

use super::session::Session;
use super::{Copying, apply, lock};
use crate::config::DisklessLoad;
use crate::control::disk::{Disk, SystemDisk};
use crate::control::load::{self, EXPECTED_MAX, Expired, Spread};
use crate::control::log::thread::tell_first_core;
use crate::control::sealed::{Output, SYNC_BYTES};
use crate::control::snapshot::path_of;
use crate::node::Node;
use crate::start::unix_ms;

/// How often the source hears that this replica is there while it loads.
const BEAT: Duration = Duration::from_secs(1);
/// How often progress is told.
const TOLD_BYTES: u64 = 1 << 20;

/// A file on its way: it goes when the copy has come to nothing.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What cannot be removed stays as litter: its name says what it is.
            let _gone = SystemDisk.remove(path);
        }
    }
}

impl Session {
    /// Takes a full copy in, and stands at `position` then. `first`: bytes that have been read already; those behind the file are given back.
    ///
    /// # Errors
    /// What went wrong. Until all of the file is there, and is found to be whole, nothing here has changed; from there on, and where there was
    /// nothing before, a failure leaves no data, and no position.
    pub(super) fn copy(
        &mut self,
        first: Vec<u8>,
        position: Position,
        end: FileEnd,
    ) -> Result<Vec<u8>, String> {
        let node = self.node;
        let config = node.config();
        let (process, line) = (std::process::id(), self.line.number);
        let name = format!("temp-repl-{process}-{line}-{}.rdb", self.number);
        let path = Path::new(&config.dir).join(name);
        let mut temporary = Temporary(Some(path.clone()));
        if self.begins_empty()? {
            return self.copy_at_once(&path, &mut temporary, (first, end), position);
        }
        let received = self.receive(&path, first, end, None);
        let received = received.and_then(|(rest, is_summed)| match is_summed {
            true => Ok(rest),
            false => self.look_through(&path).map(|()| rest),
        });
        let rest = received.inspect_err(|_| {
            self.line.note(|status| status.copying = None);
        })?;
        self.line.note(|status| {
            status.copying.get_or_insert_default().is_loading = true;
        });
        if node.source.is_many() {
            let loaded = self.load_share(&path);
            self.line.note(|status| status.copying = None);
            self.has_failed_late = loaded.is_err();
            loaded?;
            return self.settle_share(position).map(|()| rest);
        }
        let place = path_of(&config);
        let loaded = self.load(&path, &place, &mut temporary);
        self.line.note(|status| status.copying = None);
        loaded?;
        self.settle(position)?;
        Ok(rest)
    }

    /// Whether there is nothing that a copy could cost; then it has begun: clients are told LOADING.
    fn begins_empty(&mut self) -> Result<bool, String> {
        let node = self.node;
        let at_once = node.config().repl_diskless_load == DisklessLoad::OnEmptyDb;
        // (In front clients are served meanwhile.)
        let follows = node.source.authority() == Authority::Source;
        if !at_once || !follows || node.source.is_many() || self.line.position().is_some() {
            return Ok(false);
        }
        apply::begin_empty(node, self.number, unix_ms())
    }

    /// Takes the file in as it arrives.
    fn copy_at_once(
        &mut self,
        path: &Path,
        temporary: &mut Temporary,
        (first, end): (Vec<u8>, FileEnd),
        position: Position,
    ) -> Result<Vec<u8>, String> {
        let node = self.node;
        // (With every slot in hand.)
        self.is_settled = true;
        self.line.note(|status| status.copies += 1);
        let _before = node.loading.take_fault();
        // (What it says of its size is not believed further than that.)
        let mut spread = Spread::new(node, Expired::Keep, EXPECTED_MAX);
        let received = self.receive(path, first, end, Some(&mut spread));
        let loaded = received.and_then(|(rest, _)| match spread.finish() {
            Ok(_positions) => Ok(rest),
            Err(why) => Err(late(&why)),
        });
        self.line.note(|status| status.copying = None);
        let loaded = loaded.and_then(|rest| match apply::end_empty(node, self.number)? {
            true => Ok(rest),
            false => Err(super::session::ENDED.to_owned()),
        });
        match loaded {
            Ok(rest) => {
                self.place(path, &path_of(&node.config()), temporary);
                self.settle(position)?;
                Ok(rest)
            }
            Err(why) => {
                if !node.stopping.load(Relaxed) {
                    end_load(node)?;
                    apply::undo_empty(node)?;
                    // (Nothing has changed that would have to be saved.)
                    node.snapshots
                        .note(|facts| facts.changes = node.sum(|core| &core.changes));
                    node.loading.end();
                    super::tell_cores(node)?;
                }
                Err(why)
            }
        }
    }

    /// Receives the file, and looks whether it can be read; what has come behind it, and whether the file has a checksum, which is right then.
    /// `spread`: who takes what is in it, at once.
    fn receive(
        &mut self,
        path: &Path,
        first: Vec<u8>,
        end: FileEnd,
        mut spread: Option<&mut Spread<'_>>,
    ) -> Result<(Vec<u8>, bool), String> {
        let node = self.node;
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        let output = Output::create(&SystemDisk, path, &node.vault, SYNC_BYTES);
        let mut output = output.map_err(failed)?;
        let mut splitter = Splitter::new(node.config().db_count(), true);
        let mut receiving = Receiving::new(end);
        let mut copying = Copying {
            total_bytes: receiving.total_bytes(),
            ..Copying::default()
        };
        self.line.note(|status| status.copying = Some(copying));
        if spread.is_some() {
            node.loading.expect(copying.total_bytes);
        }
        let (mut told, mut bytes) = (0, first);
        let mut piece = core::mem::take(&mut self.piece);
        let received = loop {
            let taken = receiving.take(&bytes, |file| {
                output.append(file).map_err(failed)?;
                splitter.feed(file);
                while let Some(part) = splitter.next_part().map_err(|damage| damage_of(&damage))? {
                    if let Part::ModuleAux(name) = part {
                        node.log(|log| {
                            log.warning(&format!("The source's file has data of the module '{name}': it is passed over"));
                        });
                        continue;
                    }
                    copying.keys += u64::from(matches!(part, Part::Key(_)));
                    if let Some(spread) = &mut spread {
                        spread.take(part).map_err(|why| late(&why))?;
                    }
                }
                if splitter.is_done() && !splitter.rest().is_empty() {
                    return Err(format!(
                        "the source's file: it goes on behind its end at byte {}. Nothing of it has been taken in; the copy is asked for again",
                        splitter.offset()
                    ));
                }
                Ok::<(), String>(())
            });
            let (taken, is_done) = match taken {
                Ok(taken) => taken,
                Err(why) => break Err(why),
            };
            copying.received_bytes = receiving.received_bytes;
            if is_done || copying.received_bytes >= told + TOLD_BYTES {
                told = copying.received_bytes;
                self.line.note(|status| status.copying = Some(copying));
                if spread.is_some() {
                    node.loading.loaded_bytes.store(told, Relaxed);
                }
            }
            if is_done {
                let finished = splitter.finish().map_err(|damage| damage_of(&damage));
                break finished.map(|()| bytes.split_off(taken));
            }
            match self.read(&mut piece) {
                Ok(read) => {
                    bytes.clear();
                    bytes.extend_from_slice(&piece[..read]);
                }
                Err(why) => break Err(why),
            }
        };
        self.piece = piece;
        let rest = received?;
        output.finish().map_err(failed)?;
        Ok((rest, splitter.is_summed()))
    }

    /// Reads every value of a file without a checksum (`rdbchecksum no` at the source): what is wrong with one would only be found when all that
    /// was here is gone.
    ///
    /// # Errors
    /// What is wrong with it.
    fn look_through(&mut self, path: &Path) -> Result<(), String> {
        let node = self.node;
        let limits = Limits::default();
        let mut reader = load::Reader::open(&SystemDisk, path, &node.config(), &node.vault)
            .map_err(|fault| format!("cannot read the source's file: {fault}"))?;
        let mut beat = Instant::now();
        loop {
            self.look()?;
            let step = reader.step(|part| match part {
                Part::Key(raw) => match raw.decode(&limits) {
                    Ok(_) => Ok(()),
                    Err(damage) => Err(damage_of(&damage)),
                },
                _ => Ok(()),
            });
            if !step.map_err(|fault| fault.to_string())? {
                return Ok(());
            }
            if beat.elapsed() >= BEAT {
                beat = Instant::now();
                self.beat();
            }
        }
    }

    /// All that is here goes, and what is in the file comes.
    fn load(&mut self, path: &Path, place: &Path, temporary: &mut Temporary) -> Result<(), String> {
        let node = self.node;
        if !apply::clear(node, Some(self.number), unix_ms())? {
            return Err(super::session::ENDED.to_owned());
        }
        // (With every slot in hand: what clients had begun has ended.)
        self.is_settled = true;
        self.line.note(|status| status.copies += 1);
        let from = match self.place(path, place, temporary) {
            true => place,
            false => path,
        };
        // (What a load before this one was ended by is not its fault.)
        let _before = node.loading.take_fault();
        let mut beat = Instant::now();
        let loaded = load::load(node, &SystemDisk, from, Expired::Keep, &mut || {
            if beat.elapsed() >= BEAT {
                beat = Instant::now();
                self.beat();
            }
        });
        let Err(fault) = loaded else {
            return Ok(());
        };
        let why = late(&fault);
        if node.stopping.load(Relaxed) {
            return Err(why);
        }
        leave_nothing(node)?;
        if temporary.0.is_none()
            && let Err(error) = SystemDisk.remove(place)
        {
            // (It has taken the place of the snapshot: a start would be ended by it.)
            let place = place.display();
            node.log(|log| {
                log.warning(&format!("Cannot remove {place}, which is damaged: {error}"))
            });
        }
        node.loading.end();
        super::tell_cores(node)?;
        tell_first_core(node);
        Err(why)
    }

    /// Puts the file, which is whole, in the place of the snapshot; whether that could be done.
    fn place(&self, path: &Path, place: &Path, temporary: &mut Temporary) -> bool {
        let node = self.node;
        match node.snapshots.place(&SystemDisk, path, place) {
            Ok(()) => temporary.0 = None,
            Err(error) => node.log(|log| {
                log.warning(&format!(
                    "Cannot put the source's file in the place of {}: {error}",
                    place.display()
                ));
            }),
        }
        temporary.0.is_none()
    }

    /// Everything is there: the position counts, clients are served, and a log begins that has this as its base.
    fn settle(&mut self, position: Position) -> Result<(), String> {
        let node = self.node;
        let counts = {
            let order = lock(&self.line.order);
            let counts = *order == self.number;
            if counts {
                self.line.advance(position);
                node.replicas.break_history(&node.write_log);
            }
            counts
        };
        if !counts && node.source.authority() != Authority::Own {
            // Whoever came behind it waits until this is over, and begins from nothing. (Where nobody is followed any more it stays.)
            leave_nothing(node)?;
        }
        node.snapshots
            .note(|facts| facts.changes = node.sum(|core| &core.changes));
        node.loading.end();
        super::tell_cores(node)?;
        tell_first_core(node);
        if counts {
            Ok(())
        } else {
            Err(super::session::ENDED.to_owned())
        }
    }

    /// A sign of life to the source, which reads nothing else of us for now.
    pub(super) fn beat(&mut self) {
        if let Some(stream) = &mut self.stream {
            // (A link that is broken shows itself when it is read.)
            let _sent = stream.write_all(b"\n");
        }
    }
}

/// Waits until nothing of a load that has failed is on its way any more.
fn end_load(node: &Node) -> Result<(), String> {
    load::settle(node)?;
    let _fault = node.loading.take_fault();
    load::expect_none(node)
}

/// Half of a file is nothing: when nothing more of it is on its way, all goes once more.
fn leave_nothing(node: &'static Node) -> Result<(), String> {
    end_load(node)?;
    apply::clear(node, None, unix_ms()).map(|_| ())
}

/// What only showed when it was loaded.
fn late(why: &dyn core::fmt::Display) -> String {
    format!(
        "cannot load the source's file: {why}. Nothing of it is here, nor of what was here before; the copy is asked for again"
    )
}

/// What is wrong with the file, and the way on.
fn damage_of(damage: &storage::rdb::Damage) -> String {
    use storage::rdb::Wrong;
    let way = match damage.what {
        Wrong::ModuleValue(_) => {
            "; this server has no modules: remove these keys at the source, or move the others by SCAN"
        }
        Wrong::Version(_) | Wrong::UnknownType(_) => {
            "; the source is newer than what this server reads"
        }
        Wrong::Database(_) => "; raise the option `databases`",
        _ => "; the copy is asked for again",
    };
    format!("the source's file: {damage}{way}. Nothing of it has been taken in")
}

impl Session {
    /// Reads some bytes; within `repl-timeout` something must come.
    ///
    /// # Errors
    /// When the link is broken or silent, or the session is to end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, String> {
        loop {
            self.look()?;
            let Some(stream) = &mut self.stream else {
                return Err("there is no link".to_owned());
            };
            match stream.read(into) {
                Ok(0) => return Err("the source has closed the link".to_owned()),
                Ok(read) => {
                    self.hear();
                    return Ok(read);
                }
                Err(error) if super::session::is_timeout(&error) => self.endure()?,
                Err(error) => return Err(format!("the link is broken: {error}")),
            }
        }
    }
}
