//! A disk of memory that takes away, at a crash, all that a real one may take away.
//!
//! ```text
//!   append ──> writes (page cache) ──sync──> kept           crash: of the writes a part, torn anywhere, or by blocks
//!   create, rename, remove ──> names ──sync_dir──> kept     crash: of the changes since then a part
//! ```
//! - A write that was not synced may be there, in part (torn at any byte), as zeros, or not at all; blocks of it in any order.
//! - A name that was made, changed or removed without a sync of its directory may be as before. A rename is one step.
//! - A sync that fails loses what it was to keep: it may read well until the crash, and a later sync does not bring it back.
//! - Reads and writes fail when told, the disk gets full, and bits flip: at rest, for good.
//!
//! All that the disk decides it draws from its own seed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::control::disk::{Disk, File};

use crate::rng::Rng;

/// Blocks that are written in any order.
const BLOCK_BYTES: usize = 512;
/// Errno of a disk that fails, and of one that is full.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What goes wrong, in so many of 1,000 calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Writes that fail.
    pub(crate) write_errors: usize,
    /// Syncs that fail, of files and of directories.
    pub(crate) sync_errors: usize,
    /// Reads that fail.
    pub(crate) read_errors: usize,
    /// Bytes that all files may have together.
    pub(crate) bytes_max: Option<usize>,
    /// Syncs do nothing, and say that they did: a planted fault.
    pub(crate) lies: bool,
}

/// What has been done to a disk, for the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    /// Writes.
    pub(crate) writes: u64,
    /// Syncs of files.
    pub(crate) syncs: u64,
    /// Calls that failed.
    pub(crate) failures: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    Write,
    Sync,
    Read,
}

type FileNumber = u64;

#[derive(Default)]
struct Content {
    /// What reads see.
    bytes: Vec<u8>,
    /// What outlives a crash for certain.
    kept: Vec<u8>,
    /// What a failed sync has lost: a later one does not keep it.
    lost: Vec<(usize, usize)>,
}

/// A change of names.
enum Change {
    Make(PathBuf, FileNumber),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileNumber>) {
        match self {
            Change::Make(path, number) => {
                names.insert(path.clone(), *number);
            }
            Change::Rename(from, to) => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
            Change::Remove(path) => {
                names.remove(path);
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            Change::Make(path, _) | Change::Remove(path) | Change::Rename(path, _) => path.parent(),
        }
    }
}

struct State {
    rng: Rng,
    faults: Faults,
    files: BTreeMap<FileNumber, Content>,
    names: BTreeMap<PathBuf, FileNumber>,
    kept_names: BTreeMap<PathBuf, FileNumber>,
    changes: Vec<Change>,
    next: FileNumber,
    /// Crashes so far: files opened before one are dead.
    life: u64,
    deeds: Deeds,
    room_bytes: u64,
}

/// See the module's head. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

fn failure(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl State {
    /// Whether a call of this kind fails.
    fn fails(&mut self, kind: Kind) -> io::Result<()> {
        let of_1000 = match kind {
            Kind::Write => self.faults.write_errors,
            Kind::Sync => self.faults.sync_errors,
            Kind::Read => self.faults.read_errors,
        };
        if of_1000 > 0 && self.rng.below(1000) < of_1000 {
            self.deeds.failures += 1;
            return Err(failure(EIO));
        }
        Ok(())
    }

    fn number(&self, path: &Path) -> io::Result<FileNumber> {
        let number = self.names.get(path).copied();
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn used_bytes(&self) -> usize {
        let of = |number: &FileNumber| self.files.get(number).map_or(0, |file| file.bytes.len());
        self.names.values().map(of).sum()
    }

    fn append(&mut self, number: FileNumber, bytes: &[u8]) -> io::Result<()> {
        let end = self.files.get(&number).map_or(0, |file| file.bytes.len());
        self.write_at(number, end, bytes)
    }

    fn write_at(&mut self, number: FileNumber, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.deeds.writes += 1;
        let room = self
            .faults
            .bytes_max
            .map(|max| max.saturating_sub(self.used_bytes()));
        let mut failed = self.fails(Kind::Write);
        // A write that fails may have written a part.
        let mut taken = if failed.is_err() {
            self.rng.below(bytes.len() + 1)
        } else {
            bytes.len()
        };
        let end = self.files.get(&number).map_or(0, |file| file.bytes.len());
        // (What lies over bytes that are there needs no room.)
        let room = room.map(|room| room + end.saturating_sub(at));
        if room.is_some_and(|room| room < taken) {
            taken = room.unwrap_or_default();
            self.deeds.failures += 1;
            failed = Err(failure(ENOSPC));
        }
        let file = self.files.entry(number).or_default();
        if file.bytes.len() < at + taken {
            file.bytes.resize(at + taken, 0);
        }
        for (into, byte) in file.bytes.iter_mut().skip(at).zip(bytes.iter().take(taken)) {
            *into = *byte;
        }
        failed
    }

    fn sync(&mut self, number: FileNumber) -> io::Result<()> {
        self.deeds.syncs += 1;
        let failed = self.fails(Kind::Sync);
        let lies = self.faults.lies;
        let file = self.files.entry(number).or_default();
        if failed.is_err() {
            // What should have been kept is gone, though it can still be read.
            let from = common(&file.kept, &file.bytes);
            file.lost.push((from, file.bytes.len()));
        } else if !lies {
            // (What is lost is blotted out by the crash.)
            file.kept.clone_from(&file.bytes);
        }
        failed
    }

    fn crash(&mut self) {
        self.life += 1;
        let mut names = std::mem::take(&mut self.kept_names);
        let changes = std::mem::take(&mut self.changes);
        // Of a journal of changes a first part is there; a file system without one keeps any of them.
        let in_order = self.rng.percent(50);
        let until = self.rng.below(changes.len() + 1);
        for (at, change) in changes.iter().enumerate() {
            let kept = if in_order {
                at < until
            } else {
                self.rng.percent(50)
            };
            if kept {
                change.apply(&mut names);
            }
        }
        let State { files, rng, .. } = self;
        files.retain(|number, _| names.values().any(|named| named == number));
        for file in files.values_mut() {
            file.crash(rng);
        }
        self.kept_names.clone_from(&names);
        self.names = names;
    }
}

/// How many first bytes two texts share.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Content {
    /// Of what was written over other bytes, from `same` on, a first part is there, or some blocks.
    fn overwritten(&self, left: &mut Vec<u8>, same: usize, rng: &mut Rng) {
        left.resize(left.len() + rng.below(self.bytes.len() - left.len() + 1), 0);
        let by_blocks = rng.percent(50);
        let until = match by_blocks {
            true => left.len(),
            false => same + rng.below(left.len() - same + 1),
        };
        let mut at = same;
        while at < until {
            let end = until.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
            if !by_blocks || rng.percent(70) {
                let new = self.bytes.get(at..end).unwrap_or_default();
                for (into, byte) in left.iter_mut().skip(at).zip(new) {
                    *into = *byte;
                }
            }
            at = end;
        }
    }

    /// What a crash leaves of it.
    fn crash(&mut self, rng: &mut Rng) {
        let same = common(&self.kept, &self.bytes);
        let mut left = self.kept.clone();
        if same == self.kept.len() {
            // Appended to: so much of it has reached the disk, and of that some blocks.
            let len = same + rng.below(self.bytes.len() - same + 1);
            let by_blocks = rng.percent(50);
            left.extend_from_slice(self.bytes.get(same..len).unwrap_or_default());
            if by_blocks {
                let blocks = left.get_mut(same..).unwrap_or_default();
                for block in blocks.chunks_mut(BLOCK_BYTES) {
                    if rng.percent(30) {
                        block.fill(0);
                    }
                }
            }
        } else if self.bytes.len() >= self.kept.len() {
            self.overwritten(&mut left, same, rng);
        } else if rng.percent(50) {
            // Cut, and perhaps written anew.
            left.truncate(same);
            let more = self.bytes.len() - same;
            let len = same + rng.below(more + 1);
            left.extend_from_slice(self.bytes.get(same..len).unwrap_or_default());
        }
        for (from, to) in self.lost.drain(..) {
            let to = to.min(left.len());
            if let Some(lost) = left.get_mut(from..to) {
                lost.fill(0);
            }
        }
        self.bytes.clone_from(&left);
        self.kept = left;
    }
}

impl SimDisk {
    /// An empty disk.
    pub(crate) fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            faults: Faults::default(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            changes: Vec::new(),
            next: 1,
            life: 0,
            deeds: Deeds::default(),
            room_bytes: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong from here on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The machine stops: open files are dead, and what was not synced may be gone.
    pub(crate) fn crash(&self) {
        self.state().crash();
    }

    /// The process stops, and the machine goes on: open files are dead, nothing is lost.
    pub(crate) fn kill(&self) {
        self.state().life += 1;
    }

    /// Flips one bit at rest, in a file that is not empty and whose path `may`; tells which.
    pub(crate) fn flip(&self, may: impl Fn(&Path) -> bool) -> Option<(PathBuf, usize)> {
        let mut state = self.state();
        let full: Vec<(PathBuf, FileNumber)> = state
            .names
            .iter()
            .filter(|(path, number)| {
                may(path) && state.files.get(number).is_some_and(|f| !f.bytes.is_empty())
            })
            .map(|(path, number)| (path.clone(), *number))
            .collect();
        let (path, number) = state.rng.pick(&full)?.clone();
        let (at, bit) = (state.rng.next(), state.rng.below(8));
        let file = state.files.get_mut(&number)?;
        let at = (at % file.bytes.len() as u64) as usize;
        *file.bytes.get_mut(at)? ^= 1 << bit;
        if let Some(byte) = file.kept.get_mut(at) {
            *byte ^= 1 << bit;
        }
        Some((path, at))
    }

    /// Changes a file at rest, of those whose path `may`: the first in a random order of which `change` says that it did.
    pub(crate) fn forge(
        &self,
        may: impl Fn(&Path) -> bool,
        change: impl Fn(&mut Vec<u8>, &mut Rng) -> bool,
    ) -> Option<PathBuf> {
        let mut state = self.state();
        let names = state.names.iter().filter(|(path, _)| may(path));
        let mut all: Vec<(PathBuf, FileNumber)> = names.map(|(p, n)| (p.clone(), *n)).collect();
        while !all.is_empty() {
            let at = state.rng.below(all.len());
            let (path, number) = all.swap_remove(at);
            let State { files, rng, .. } = &mut *state;
            if let Some(file) = files.get_mut(&number)
                && change(&mut file.bytes, rng)
            {
                file.kept.clone_from(&file.bytes);
                return Some(path);
            }
        }
        None
    }

    /// What has been done so far.
    pub(crate) fn deeds(&self) -> Deeds {
        self.state().deeds
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.fails(Kind::Write)?;
        if let Some(number) = state.names.get(path).copied() {
            if let Some(file) = state.files.get_mut(&number) {
                file.bytes.clear();
                // (What is cut is not written: what comes in its place is new.)
                file.lost.clear();
            }
            return Ok(self.handle(&state, number));
        }
        let number = state.next;
        state.next += 1;
        state.files.insert(number, Content::default());
        state.change(Change::Make(path.to_owned(), number));
        Ok(self.handle(&state, number))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        let number = state.number(path)?;
        state.fails(Kind::Read)?;
        Ok(self.handle(&state, number))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.fails(Kind::Read)?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.number(from)?;
        state.fails(Kind::Write)?;
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.number(path)?;
        state.fails(Kind::Write)?;
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.deeds.syncs += 1;
        state.fails(Kind::Sync)?;
        if state.faults.lies {
            return Ok(());
        }
        let State {
            changes,
            kept_names,
            ..
        } = &mut *state;
        changes.retain(|change| {
            let ours = change.dir() == Some(dir);
            if ours {
                change.apply(kept_names);
            }
            !ours
        });
        Ok(())
    }

    fn room_bytes(&self) -> u64 {
        self.state().room_bytes
    }
}

impl SimDisk {
    /// As [`Disk::room_bytes`].
    pub(crate) fn set_room(&self, bytes: u64) {
        self.state().room_bytes = bytes;
    }

    fn handle(&self, state: &State, number: FileNumber) -> Box<dyn File> {
        Box::new(SimFile {
            disk: self.clone(),
            number,
            life: state.life,
            at: 0,
        })
    }
}

struct SimFile {
    disk: SimDisk,
    number: FileNumber,
    life: u64,
    at: usize,
}

impl SimFile {
    /// The disk, unless it has crashed since the file was opened.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(failure(EIO))
        }
    }
}

impl SimFile {
    fn read_from(&self, at: usize, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        state.fails(Kind::Read)?;
        // A read may bring less than was asked.
        let len = 1 + state.rng.below(into.len());
        let file = state.files.get(&self.number);
        let rest = file.and_then(|file| file.bytes.get(at..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(into.len()).min(len);
        for (into, byte) in into.iter_mut().zip(rest.iter().take(len)) {
            *into = *byte;
        }
        Ok(len)
    }
}

impl File for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state()?.append(self.number, bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).map_err(|_| failure(EIO))?;
        self.state()?.write_at(self.number, at, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.state()?.sync(self.number)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.read_from(self.at, into)?;
        self.at += len;
        Ok(len)
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(at).map_err(|_| failure(EIO))?;
        self.read_from(at, into)
    }

    fn size(&mut self) -> io::Result<u64> {
        let state = self.state()?;
        let file = state.files.get(&self.number);
        Ok(file.map_or(0, |file| file.bytes.len() as u64))
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.fails(Kind::Write)?;
        if let Some(file) = state.files.get_mut(&self.number) {
            file.bytes
                .truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, Faults, Path, SimDisk};
    use std::collections::BTreeSet;

    fn whole(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        let mut file = disk.open(Path::new(path)).ok()?;
        let (mut all, mut part) = (Vec::new(), [0; 64]);
        loop {
            let len = file.read(&mut part).unwrap();
            if len == 0 {
                return Some(all);
            }
            all.extend_from_slice(&part[..len]);
        }
    }

    /// What is left after a crash, over many seeds; `do_it` is what was done before.
    fn left(do_it: impl Fn(&SimDisk)) -> BTreeSet<Option<Vec<u8>>> {
        let outcome = |seed| {
            let disk = SimDisk::new(seed);
            do_it(&disk);
            disk.crash();
            whole(&disk, "/d/a")
        };
        (0..200).map(outcome).collect()
    }

    fn text(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_is_there_in_part() {
        let (dir, path) = (Path::new("/d"), Path::new("/d/a"));
        let all = left(|disk| {
            let mut file = disk.create(path).unwrap();
            file.append(b"kept").unwrap();
            file.sync().unwrap();
            disk.sync_dir(dir).unwrap();
            file.append(b"xy").unwrap();
            assert!(disk.deeds().syncs == 2 && file.size().unwrap() == 6);
        });
        let zeros = [text("kept\0"), text("kept\0\0")];
        let torn = [text("kept"), text("keptx"), text("keptxy")];
        assert_eq!(all, torn.into_iter().chain(zeros).collect());
        let unnamed = left(|disk| {
            let mut file = disk.create(path).unwrap();
            file.append(b"z").unwrap();
            file.sync().unwrap();
        });
        assert_eq!(
            unnamed,
            [None, text("z")].into(),
            "without a sync of its directory"
        );
        let lied_to = left(|disk| {
            disk.set_faults(Faults {
                lies: true,
                ..Faults::default()
            });
            let mut file = disk.create(path).unwrap();
            file.append(b"z").unwrap();
            file.sync().unwrap();
            disk.sync_dir(dir).unwrap();
        });
        assert!(lied_to.contains(&None) && lied_to.contains(&text("")));
    }

    #[test]
    fn a_rename_has_happened_or_not() {
        let (dir, path) = (Path::new("/d"), Path::new("/d/a"));
        let all = left(|disk| {
            for (name, bytes) in [("/d/a", "old"), ("/d/b", "new")] {
                let mut file = disk.create(Path::new(name)).unwrap();
                file.append(bytes.as_bytes()).unwrap();
                file.sync().unwrap();
            }
            disk.sync_dir(dir).unwrap();
            disk.rename(Path::new("/d/b"), path).unwrap();
            assert_eq!(disk.list(dir).unwrap(), ["a"]);
        });
        assert_eq!(all, [text("old"), text("new")].into());
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let path = Path::new("/d/a");
        let all = left(|disk| {
            let mut file = disk.create(path).unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.append(b"a").unwrap();
            disk.set_faults(Faults {
                sync_errors: 1000,
                ..Faults::default()
            });
            assert!(file.sync().is_err());
            disk.set_faults(Faults::default());
            file.append(b"b").unwrap();
            file.sync().unwrap();
            assert_eq!(whole(disk, "/d/a"), text("ab"), "it can be read until then");
        });
        assert_eq!(all, [text("\0b")].into());
    }

    #[test]
    fn a_full_disk_takes_what_it_can_and_bits_flip_for_good() {
        let disk = SimDisk::new(1);
        let mut file = disk.create(Path::new("/d/a")).unwrap();
        disk.set_faults(Faults {
            bytes_max: Some(3),
            ..Faults::default()
        });
        let full = file.append(b"four").unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(whole(&disk, "/d/a"), text("fou"));
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.flip(|_| true).unwrap();
        let flipped = whole(&disk, "/d/a").unwrap();
        let bits = flipped
            .iter()
            .zip(b"fou")
            .map(|(a, b)| (a ^ b).count_ones());
        assert_eq!(bits.sum::<u32>(), 1);
        disk.crash();
        assert_eq!(whole(&disk, "/d/a"), Some(flipped));
        assert!(
            file.append(b"x").is_err(),
            "open files die with the machine"
        );
    }
}
