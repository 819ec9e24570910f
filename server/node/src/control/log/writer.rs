//! What writes the log's files: a state machine that somebody drives. It has no thread, no queue and no clock.
//!
//! ```text
//! take(chunks) ──> pending ──write()──> file ──begin_sync(), sync, end_sync()──> on the disk
//!                                        │ kept until then
//!                    a sync has failed:  └──> new_segment(): all that was kept is written again, to another file
//! ```
//! A log that is begun while the server runs counts for nothing until it has a base: until then no manifest names its files, and
//! the log that was there before stays as it is.
//!
//! After a failed sync nobody knows what of the file has reached the disk, and the next sync may say that all is well though it
//! is not: so what was not synced before is written again, and the file is left as it is. A write that has failed may have
//! left half of a frame: it is cut off before anything else is written. Where segments are sealed, frames are sealed as they are written
//! and kept as they are: another segment has another key.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use seal::{DataKey, HEAD_BYTES, Kind};
use storage::log::SegmentHead;

use super::manifest::{Manifest, Place};
use super::sealing::{copy_frames, seal_frames};
use crate::control::disk::{Disk, File};
use crate::control::vault::Vault;

/// Whole frames, and the sequence of the last one.
pub struct Chunk {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// The sequence of the last frame.
    pub last: u64,
}

/// Chunks that are kept are put together up to this size, bytes.
const KEPT_CHUNK_BYTES: usize = 256 << 10;
/// Zeros that are written at once, bytes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Buffers that are used again, and the largest of them, bytes.
const SPARE_LEN_MAX: usize = 64;

/// A segment of the log that is written or waits to be removed.
struct Segment {
    file: String,
    first_sequence: u64,
    bytes: u64,
}

/// A sync that is under way, perhaps without the writer.
pub struct SyncJob {
    file: Box<dyn File>,
    number: u64,
    through: u64,
    chunks: usize,
}

impl SyncJob {
    /// Syncs.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn run(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

/// See the module's head.
pub struct Writer {
    disk: Arc<dyn Disk>,
    place: Place,
    imports: bool,
    base: Option<(String, u64)>,
    base_bytes: u64,
    segments: Vec<Segment>,
    /// Of the newest segment, and of the newest base.
    number: u64,
    base_number: u64,
    /// It has no base yet, and is worth nothing without one: no manifest names it.
    waits_for_base: bool,
    /// Files that a manifest may name which could not be written to its end: removed when another one is in force.
    doubtful: Vec<String>,
    file: Box<dyn File>,
    /// Of the newest file, if it is sealed.
    key: Option<DataKey>,
    vault: Arc<Vault>,
    /// Another handle of the same file: a sync goes on beside writes. None while one does.
    sync_file: Option<Box<dyn File>>,
    /// The file may hold half of a frame, or of its room, behind its whole ones.
    torn: bool,
    /// Room is made ahead of the frames ([`Disk::room_bytes`]): the file is zeros from its last frame to here, if that is behind it.
    makes_room: bool,
    room_end: u64,
    pending: VecDeque<Chunk>,
    kept: VecDeque<Chunk>,
    kept_bytes: usize,
    /// What is kept begins behind this sequence.
    kept_from: u64,
    /// The last chunk that is kept belongs to a sync under way: nothing is added to it.
    sealed: bool,
    keeps: bool,
    written: u64,
    synced: u64,
    /// A sync has failed: the file is to be left.
    is_lost: bool,
    /// Of what is written, unix ms.
    time_ms: u64,
    spare: Vec<Vec<u8>>,
    /// What is written of frames that are sealed.
    sealed_bytes: Vec<u8>,
}

/// What a new writer goes on from.
#[derive(Default)]
pub struct Past {
    /// The manifest that is in force; empty without one.
    pub manifest: Manifest,
    /// By segment of it: its first sequence and its bytes.
    pub segments: Vec<(u64, u64)>,
    /// Bytes of its base.
    pub base_bytes: u64,
    /// The last sequence that has been read.
    pub last: u64,
    /// What was read last may never have reached the disk.
    pub tail: Option<Tail>,
}

/// Whole frames at the end of what was read of which none says that it was on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment's file.
    pub file: String,
    /// Where they lie in it, bytes.
    pub range: Range<u64>,
    /// The sequence of the first one.
    pub first_sequence: u64,
}

impl Writer {
    /// Goes on from what has been read, in a segment of its own. What was read may have been in the system's memory only, if
    /// the process before ended and not the machine: it is synced before anything is served or written that relies upon it. Its
    /// last frames, none of which is known to be on the disk, are written again: a sync that failed then may have lost them, and
    /// no later one of the same file says so.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(
        disk: Arc<dyn Disk>,
        vault: Arc<Vault>,
        place: Place,
        past: Past,
        now_ms: u64,
    ) -> io::Result<Writer> {
        disk.create_dir(&place.folder)?;
        for file in &past.manifest.segments {
            disk.open(&place.path(file))?.sync()?;
        }
        let names = disk.list(&place.folder)?;
        let number = next_number(&place, &names);
        let of_manifest = past.manifest.segments.iter().zip(&past.segments);
        let mut segments: Vec<Segment> = of_manifest
            .map(|(file, (first_sequence, bytes))| Segment {
                file: file.clone(),
                first_sequence: *first_sequence,
                bytes: *bytes,
            })
            .collect();
        let tail = past.tail.as_ref();
        let first = tail.map_or(past.last + 1, |tail| tail.first_sequence);
        let copy = |file: &mut dyn File, key: Option<&DataKey>| match tail {
            Some(tail) => {
                let path = place.path(&tail.file);
                copy_frames((&*disk, &path, &vault), &tail.range, file, key)
            }
            None => Ok(0),
        };
        let fresh = fresh_segment((&*disk, &vault), &place, number, (first, now_ms), copy)?;
        // One without a frame has the sequence that comes next as its first: starts without writes leave nothing behind.
        segments.retain(|segment| segment.first_sequence < first);
        segments.push(fresh.segment);
        let base = past.manifest.base;
        write_manifest(&*disk, &place, past.manifest.imports, (&base, &segments))?;
        remove_others(&*disk, &place, &names, &base, &segments);
        let writer = Writer {
            imports: past.manifest.imports,
            base,
            base_bytes: past.base_bytes,
            segments,
            kept_from: past.last,
            written: past.last,
            synced: past.last,
            ..Writer::new((disk, vault), place, (number, now_ms), fresh.files)
        };
        Ok(writer)
    }

    /// A log that begins with the base that it will be given, behind the sequence `last`: nothing in it counts before that, and
    /// the log that is there stays in force.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn found(
        (disk, vault): (Arc<dyn Disk>, Arc<Vault>),
        place: Place,
        (last, now_ms): (u64, u64),
    ) -> io::Result<Writer> {
        disk.create_dir(&place.folder)?;
        if Manifest::read(&*disk, &place)?.is_none() {
            // Files without a manifest would look like a log that has lost it.
            write_manifest(&*disk, &place, true, (&None, &[]))?;
        }
        let number = next_number(&place, &disk.list(&place.folder)?);
        let (on, first) = ((&*disk, &*vault), (last + 1, now_ms));
        let fresh = fresh_segment(on, &place, number, first, |_, _| Ok(0))?;
        Ok(Writer {
            segments: vec![fresh.segment],
            waits_for_base: true,
            kept_from: last,
            written: last,
            synced: last,
            ..Writer::new((disk, vault), place, (number, now_ms), fresh.files)
        })
    }

    /// One without a past.
    fn new(
        (disk, vault): (Arc<dyn Disk>, Arc<Vault>),
        place: Place,
        (number, time_ms): (u64, u64),
        files: Files,
    ) -> Writer {
        Writer {
            disk,
            place,
            imports: false,
            base: None,
            base_bytes: 0,
            segments: Vec::new(),
            number,
            base_number: number,
            waits_for_base: false,
            doubtful: Vec::new(),
            file: files.file,
            key: files.key,
            vault,
            sync_file: Some(files.sync_file),
            torn: false,
            makes_room: false,
            room_end: 0,
            pending: VecDeque::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            kept_from: 0,
            sealed: false,
            keeps: true,
            written: 0,
            synced: 0,
            is_lost: false,
            time_ms,
            spare: Vec::new(),
            sealed_bytes: Vec::new(),
        }
    }

    /// Whether it has no base yet and counts for nothing.
    pub fn waits_for_base(&self) -> bool {
        self.waits_for_base
    }

    /// The disk that it lies on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where the log lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether what is not synced is kept, to be written again if its sync fails. Not while nothing is ever synced.
    pub fn keep(&mut self, keeps: bool) {
        if self.keeps && !keeps {
            self.kept.clear();
            self.kept_bytes = 0;
            self.kept_from = self.written;
        }
        self.keeps = keeps;
    }

    /// Whether every write is synced: then room is made for them.
    pub fn make_room(&mut self, makes: bool) {
        self.makes_room = makes;
    }

    /// The last sequence that is in the file, and the last that is on the disk.
    pub fn positions(&self) -> (u64, u64) {
        (self.written, self.synced)
    }

    /// Bytes that are kept until they are synced.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The segments in order: file, first sequence, bytes.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = (&str, u64, u64)> {
        let segments = self.segments.iter();
        segments.map(|segment| (segment.file.as_str(), segment.first_sequence, segment.bytes))
    }

    /// Bytes of the present segment, of all of the log, and of its base.
    pub fn sizes(&self) -> (u64, u64, u64) {
        let segments: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let last = self.segments.last().map_or(0, |segment| segment.bytes);
        (last, segments + self.base_bytes, self.base_bytes)
    }

    /// Of what is written next, unix ms.
    pub fn set_time(&mut self, time_ms: u64) {
        self.time_ms = time_ms;
    }

    /// Bytes that are to be written.
    pub fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|chunk| chunk.bytes.len()).sum()
    }

    /// Frames that are to be written behind those before.
    pub fn take(&mut self, chunk: Chunk) {
        self.pending.push_back(chunk);
    }

    /// An empty buffer.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Writes everything that is to be written.
    ///
    /// # Errors
    /// Those of the disk; what could not be written is written by a later call.
    pub fn write(&mut self) -> io::Result<()> {
        if self.is_lost {
            self.new_segment()?;
        }
        let Some(segment) = self.segments.last_mut() else {
            return Ok(());
        };
        while let Some(chunk) = self.pending.pop_front() {
            if self.makes_room && !self.torn {
                let end = segment.bytes + chunk.bytes.len() as u64;
                let room = (&mut self.room_end, self.disk.room_bytes());
                // What makes it fail will fail the write, too, or there is no room for more than that.
                self.torn = make_room(&mut *self.file, segment.bytes, end, room).is_err();
            }
            if self.torn {
                if let Err(error) = self.file.truncate(segment.bytes) {
                    self.pending.push_front(chunk);
                    return Err(error);
                }
                (self.torn, self.room_end) = (false, 0);
            }
            let put = put(
                (&mut *self.file, segment.bytes),
                self.key.as_ref(),
                &chunk.bytes,
                &mut self.sealed_bytes,
            );
            match put {
                Ok(bytes) => segment.bytes += bytes,
                Err(error) => {
                    self.torn = true;
                    self.pending.push_front(chunk);
                    return Err(error);
                }
            }
            self.written = chunk.last;
            keep_chunk(
                chunk,
                self.keeps,
                &mut self.sealed,
                &mut self.kept,
                &mut self.kept_bytes,
                &mut self.spare,
            );
            if !self.keeps {
                self.kept_from = self.written;
            }
        }
        Ok(())
    }

    /// Whether something has been written that is not on the disk.
    pub fn is_unsynced(&self) -> bool {
        self.written > self.synced || self.is_lost
    }

    /// A sync of all that has been written, to be run without the writer; None when one is under way.
    pub fn begin_sync(&mut self) -> Option<SyncJob> {
        let file = self.sync_file.take()?;
        self.sealed = true;
        Some(SyncJob {
            file,
            number: self.number,
            through: self.written,
            chunks: self.kept.len(),
        })
    }

    /// A sync has ended. After one that failed the next `write` begins another segment.
    pub fn end_sync(&mut self, job: SyncJob, done: &io::Result<()>) {
        if job.number != self.number {
            // Another segment has been begun meanwhile, and all that had been written is in it or was synced before.
            return;
        }
        self.sync_file = Some(job.file);
        if done.is_err() {
            self.is_lost = true;
            return;
        }
        self.synced = self.synced.max(job.through);
        for chunk in self.kept.drain(..job.chunks.min(self.kept.len())) {
            self.kept_bytes -= chunk.bytes.len();
            give_back(&mut self.spare, chunk.bytes);
        }
        if self.keeps {
            self.kept_from = self.kept_from.max(job.through);
        }
    }

    /// Writes and syncs everything, here and now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_through(&mut self) -> io::Result<()> {
        self.write()?;
        if let Some(mut job) = self.begin_sync() {
            let done = job.run();
            self.end_sync(job, &done);
            done?;
        }
        Ok(())
    }

    /// Goes on in another segment, into which all that is kept is written again.
    ///
    /// # Errors
    /// Those of the disk; then all is as before.
    pub fn new_segment(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let first = (self.kept_from + 1, self.time_ms);
        let kept = &self.kept;
        let copy = |file: &mut dyn File, key: Option<&DataKey>| {
            let (begin, mut sealed) = (file.size()?, Vec::new());
            let mut bytes = 0;
            for chunk in kept {
                bytes += put((file, begin + bytes), key, &chunk.bytes, &mut sealed)?;
            }
            Ok(bytes)
        };
        let on = (&*self.disk, &*self.vault);
        let fresh = fresh_segment(on, &self.place, number, first, copy);
        let fresh = fresh.inspect_err(|_| {
            // It may be there, as far as it came; the next begin tries the same name.
            let _gone = self
                .disk
                .remove(&self.place.path(&self.place.segment(number)));
        })?;
        self.segments.push(fresh.segment);
        let base = self.base.clone();
        if let Err(error) = self.put_manifest((&base, 0)) {
            // Whether it is named on the disk or not: this number is not used again before that is known to be so.
            self.segments.pop();
            self.number = number;
            return Err(error);
        }
        if !self.is_lost
            && let [.., old, _] = &self.segments[..]
        {
            // Its room is of no more use. (That it stays does no harm.)
            let _cut = self.file.truncate(old.bytes);
        }
        self.number = number;
        self.room_end = 0;
        self.file = fresh.files.file;
        self.key = fresh.files.key;
        self.sync_file = Some(fresh.files.sync_file);
        (self.torn, self.is_lost, self.sealed) = (false, false, false);
        self.synced = self.written;
        self.kept_from = self.written;
        self.kept_bytes = 0;
        for chunk in self.kept.drain(..) {
            give_back(&mut self.spare, chunk.bytes);
        }
        Ok(())
    }

    /// All of Redis's log is in this one: from here on it counts.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end_import(&mut self) -> io::Result<()> {
        self.write_through()?;
        write_manifest(
            &*self.disk,
            &self.place,
            false,
            (&self.base, &self.segments),
        )?;
        self.imports = false;
        Ok(())
    }

    /// Writes the manifest of this base and of all segments but the first few, if the log counts; what no manifest can name any
    /// more is removed.
    fn put_manifest(&mut self, (base, gone): (&Option<(String, u64)>, usize)) -> io::Result<()> {
        if self.waits_for_base && base.is_none() {
            return Ok(());
        }
        let segments = &self.segments[gone..];
        write_manifest(&*self.disk, &self.place, self.imports, (base, segments))?;
        for file in self.doubtful.drain(..) {
            let _gone = self.disk.remove(&self.place.path(&file));
        }
        Ok(())
    }

    /// A name for a new snapshot, on which the log may be based; none is given twice.
    pub fn base_name(&mut self) -> String {
        self.base_number = self.base_number.max(self.number) + 1;
        self.place.base(self.base_number)
    }

    /// The log has a snapshot as its base, with everything up to `through`; its file is whole, synced, and in the folder.
    /// Frames from `held` on stay, whether the base has them or not.
    /// Returns the files that are not of it any more, to be removed by whoever keeps nobody waiting.
    ///
    /// # Errors
    /// Those of the disk; then the log is what it was, and the file is removed as soon as no manifest can name it.
    pub fn set_base(
        &mut self,
        file: String,
        (through, held): (u64, u64),
        bytes: u64,
    ) -> io::Result<Vec<PathBuf>> {
        let unheld = held.min(through + 1);
        let mut left = self.segments.len();
        while left > 1 {
            let next = &self.segments[self.segments.len() - left + 1];
            if next.first_sequence > unheld {
                break;
            }
            left -= 1;
        }
        let gone = self.segments.len() - left;
        let base = Some((file.clone(), through));
        if let Err(error) = self.put_manifest((&base, gone)) {
            match Manifest::read(&*self.disk, &self.place) {
                Ok(manifest) if manifest.as_ref().is_none_or(|it| it.base != base) => {
                    let _gone = self.disk.remove(&self.place.path(&file));
                }
                // Its name is there, and may be gone after a crash.
                _ => self.doubtful.push(file),
            }
            return Err(error);
        }
        let old = core::mem::replace(&mut self.base, base);
        self.base_bytes = bytes;
        let segments = self.segments.drain(..gone).map(|segment| segment.file);
        let old = old.map(|(file, _)| file).filter(|old| *old != file);
        let files = segments.chain(old);
        let files = files.map(|file| self.place.path(&file)).collect();
        if core::mem::take(&mut self.waits_for_base)
            && let Ok(names) = self.disk.list(&self.place.folder)
        {
            // What was there before counts no more.
            remove_others(&*self.disk, &self.place, &names, &self.base, &self.segments);
        }
        Ok(files)
    }

    /// A log that never counted leaves its folder.
    pub fn abandon(self) {
        if self.waits_for_base {
            for segment in &self.segments {
                // One that stays is removed at the next start.
                let _gone = self.disk.remove(&self.place.path(&segment.file));
            }
        }
    }
}

/// Puts zeros behind the frames of a file, which end at `at`, before frames up to `end` are written.
fn make_room(
    file: &mut dyn File,
    at: u64,
    end: u64,
    (room_end, room_bytes): (&mut u64, u64),
) -> io::Result<()> {
    if room_bytes == 0 || end <= *room_end {
        return Ok(());
    }
    let mut from = at.max(*room_end);
    while from < end + room_bytes {
        let bytes = (end + room_bytes - from).min(ZEROS.len() as u64);
        file.write_at(from, &ZEROS[..bytes as usize])?;
        from += bytes;
    }
    *room_end = from;
    Ok(())
}

/// Puts frames into a file behind those before, sealed if the file has a key; the bytes that this took. `sealed` is a buffer.
fn put(
    (file, at): (&mut dyn File, u64),
    key: Option<&DataKey>,
    frames: &[u8],
    sealed: &mut Vec<u8>,
) -> io::Result<u64> {
    let Some(key) = key else {
        file.write_at(at, frames)?;
        return Ok(frames.len() as u64);
    };
    sealed.clear();
    seal_frames(key, frames, sealed)?;
    file.write_at(at, sealed)?;
    let bytes = sealed.len() as u64;
    sealed.clear();
    sealed.shrink_to(2 * KEPT_CHUNK_BYTES);
    Ok(bytes)
}

/// Keeps a chunk until it is synced, or its buffer for later.
fn keep_chunk(
    chunk: Chunk,
    keeps: bool,
    sealed: &mut bool,
    kept: &mut VecDeque<Chunk>,
    kept_bytes: &mut usize,
    spare: &mut Vec<Vec<u8>>,
) {
    if !keeps {
        return give_back(spare, chunk.bytes);
    }
    *kept_bytes += chunk.bytes.len();
    if chunk.bytes.len() >= KEPT_CHUNK_BYTES {
        *sealed = false;
        kept.push_back(chunk);
        return;
    }
    let fits = |last: &&mut Chunk| last.bytes.len() + chunk.bytes.len() <= KEPT_CHUNK_BYTES;
    match kept.back_mut().filter(fits) {
        Some(last) if !*sealed => {
            last.bytes.extend_from_slice(&chunk.bytes);
            last.last = chunk.last;
        }
        _ => {
            *sealed = false;
            let mut bytes = spare
                .iter()
                .position(|spare| spare.capacity() >= KEPT_CHUNK_BYTES)
                .map_or_else(
                    || Vec::with_capacity(KEPT_CHUNK_BYTES),
                    |at| spare.swap_remove(at),
                );
            bytes.extend_from_slice(&chunk.bytes);
            kept.push_back(Chunk {
                bytes,
                last: chunk.last,
            });
        }
    }
    give_back(spare, chunk.bytes);
}

fn give_back(spare: &mut Vec<Vec<u8>>, mut bytes: Vec<u8>) {
    if spare.len() < SPARE_LEN_MAX && bytes.capacity() <= 2 * KEPT_CHUNK_BYTES {
        bytes.clear();
        spare.push(bytes);
    }
}

/// A segment that is written: its file, its key if it is sealed, another handle for syncs.
struct Files {
    file: Box<dyn File>,
    key: Option<DataKey>,
    sync_file: Box<dyn File>,
}

struct Fresh {
    files: Files,
    segment: Segment,
}

/// Makes a segment that begins with what `copy` puts there (its bytes are told); it outlives a crash.
fn fresh_segment(
    (disk, vault): (&dyn Disk, &Vault),
    place: &Place,
    number: u64,
    (first_sequence, now_ms): (u64, u64),
    copy: impl FnOnce(&mut dyn File, Option<&DataKey>) -> io::Result<u64>,
) -> io::Result<Fresh> {
    let name = place.segment(number);
    let path = place.path(&name);
    let (head, key) = begin_segment(vault, first_sequence, now_ms)?;
    let mut file = disk.create(&path)?;
    file.append(&head)?;
    let bytes = head.len() as u64 + copy(&mut *file, key.as_ref())?;
    file.sync()?;
    disk.sync_dir(&place.folder)?;
    let sync_file = disk.open(&path)?;
    Ok(Fresh {
        files: Files {
            file,
            key,
            sync_file,
        },
        segment: Segment {
            file: name,
            first_sequence,
            bytes,
        },
    })
}

/// A segment's first bytes, and its key if it is sealed.
fn begin_segment(
    vault: &Vault,
    first_sequence: u64,
    now_ms: u64,
) -> io::Result<(Vec<u8>, Option<DataKey>)> {
    let head = |seal_bytes| SegmentHead {
        first_sequence,
        begun: now_ms as u32,
        seal_bytes,
    };
    let sealed = head(HEAD_BYTES as u32).encode();
    Ok(match vault.make(Kind::Segment, &sealed)? {
        Some((seal, key)) => ([&sealed[..], &seal].concat(), Some(key)),
        None => (head(0).encode().to_vec(), None),
    })
}

/// One that no file of the folder has.
fn next_number(place: &Place, names: &[String]) -> u64 {
    let numbers = names.iter().filter_map(|name| place.number(name));
    numbers.max().unwrap_or(0) + 1
}

fn write_manifest(
    disk: &dyn Disk,
    place: &Place,
    imports: bool,
    (base, segments): (&Option<(String, u64)>, &[Segment]),
) -> io::Result<()> {
    let manifest = Manifest {
        imports,
        base: base.clone(),
        segments: segments
            .iter()
            .map(|segment| segment.file.clone())
            .collect(),
    };
    manifest.write(disk, place)
}

/// Removes files of the log that are no part of it: what a crash has left.
fn remove_others(
    disk: &dyn Disk,
    place: &Place,
    names: &[String],
    base: &Option<(String, u64)>,
    segments: &[Segment],
) {
    let is_part = |name: &String| {
        base.as_ref().is_some_and(|(file, _)| file == name)
            || segments.iter().any(|segment| segment.file == *name)
    };
    let ours = names.iter().filter(|name| place.number(name).is_some());
    for name in ours.filter(|name| !is_part(name)) {
        // One that stays does no harm.
        let _gone = disk.remove(&place.path(name));
    }
}
