//! Reading the log at a start: whole frames in order, each once; what is torn is cut, what is damaged is told.
//!
//! ```text
//! manifest ─> base (its reader is elsewhere) ─> segment ─> segment ─> last segment
//!                                                 │                      │
//!        a bad frame that the next segment repeats: go on there          a bad frame: torn? cut it off. damaged? no start
//! ```
//! Torn is what was never synced: a bad frame with nothing whole behind it, or nothing that says that it was on the disk once.
//! Everything else is damage: it is told with file and offset, and nothing is served.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use seal::{DataKey, Kind};
use storage::log::{
    Bad, Behind, Fault, FrameHead, SEGMENT_HEAD_BYTES, Scan, SegmentHead, Step, look_behind,
};

use super::manifest::{Manifest, Place, named};
use super::sealing::{has_key, open_payload};
use super::writer::{Past, Tail};
use crate::control::disk::{Disk, File};
use crate::control::sealed::Input;
use crate::control::vault::Vault;

/// Bytes of a segment that are read at once.
const PIECE_BYTES: usize = 1 << 20;
/// How exactly it is known where in a segment what was never synced begins, bytes.
const MARK_BYTES: u64 = 64 << 10;

/// What a reader is told, and asked.
pub trait Replays {
    /// A frame, each once and in order.
    ///
    /// # Errors
    /// When it cannot be acted upon.
    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), String>;
    /// Bytes that have been read.
    fn progress(&mut self, bytes: u64);
    /// Something that an operator must know.
    fn warn(&mut self, text: &str);
}

/// The log of a place: its manifest, or None when there is no log.
///
/// # Errors
/// When the manifest cannot be read, or is missing although there is a log.
pub fn find(disk: &dyn Disk, place: &Place) -> io::Result<Option<Manifest>> {
    if let Some(manifest) = Manifest::read(disk, place)? {
        // A reading of Redis's log that was broken off begins anew.
        return Ok(Some(manifest).filter(|manifest| !manifest.imports));
    }
    let names = match disk.list(&place.folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(&place.folder, &error)),
    };
    for name in names.iter().filter(|name| place.number(name).is_some()) {
        let path = place.path(name);
        let holds = disk.open(&path).and_then(|mut file| holds_more(&mut *file));
        // The first start may have ended between the first segment and the manifest.
        if holds.map_err(|error| named(&path, &error))? {
            let why = format!("it is no part of a log: {} is missing", place.manifest());
            return Err(named(&path, &why));
        }
    }
    Ok(None)
}

/// Whether a file is more than the head of a segment.
fn holds_more(file: &mut dyn File) -> io::Result<bool> {
    let (mut head, mut filled) = ([0; SEGMENT_HEAD_BYTES], 0);
    while filled < head.len() {
        match file.read(&mut head[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    let end =
        SegmentHead::decode(&head[..filled]).map_or(SEGMENT_HEAD_BYTES as u64, |head| head.end());
    Ok(file.size()? > end)
}

/// Bytes of all files of a log, base included; what cannot be looked at counts nothing.
pub fn total_bytes(disk: &dyn Disk, place: &Place, manifest: &Manifest) -> u64 {
    let base = manifest.base.iter().map(|(file, _)| file);
    let sizes = base.chain(&manifest.segments).map(|file| {
        let file = disk.open(&place.path(file));
        file.and_then(|mut file| file.size()).unwrap_or(0)
    });
    sizes.sum()
}

/// Opens a file that the manifest names.
fn open(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn File>> {
    disk.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => named(
            path,
            &"the manifest of the log names this file, and it is missing",
        ),
        _ => named(path, &error),
    })
}

/// Whether all files are there that a manifest names, and the keys for them.
///
/// # Errors
/// Which one is not, or cannot be opened.
pub fn look(disk: &dyn Disk, place: &Place, vault: &Vault, manifest: &Manifest) -> io::Result<()> {
    if let Some((file, _)) = &manifest.base {
        let path = place.path(file);
        open(disk, &path)?;
        Input::open(disk, &path, vault).map_err(|fault| named(&path, &fault))?;
    }
    for file in &manifest.segments {
        let path = place.path(file);
        has_key(&mut *open(disk, &path)?, vault).map_err(|why| named(&path, &why))?;
    }
    Ok(())
}

/// Reads all segments, sealed ones with the keys of `vault`; the base has been read before. `cuts` allows a torn end to be cut off.
///
/// # Errors
/// What is wrong, with file and offset; nothing has been changed on the disk then.
pub fn replay(
    disk: &dyn Disk,
    place: &Place,
    manifest: &Manifest,
    (vault, cuts): (&Vault, bool),
    to: &mut dyn Replays,
) -> io::Result<Past> {
    let through = manifest.base.as_ref().map_or(0, |(_, through)| *through);
    let mut past = Past {
        manifest: manifest.clone(),
        segments: Vec::new(),
        base_bytes: 0,
        last: through,
        tail: None,
    };
    if let Some((file, _)) = &manifest.base {
        let path = place.path(file);
        let size = open(disk, &path)?.size();
        past.base_bytes = size.map_err(|error| named(&path, &error))?;
    }
    let mut plain = 0;
    let mut synced = through;
    let mut before: Option<(&String, Bad)> = None;
    for (index, name) in manifest.segments.iter().enumerate() {
        let path = place.path(name);
        let mut segment = Segment::open(disk, &path)?;
        let begun = segment.begin(past.last, vault, to);
        let first = segment.first_sequence;
        if let Some((name, bad)) = before.take()
            && bad.sequence < first
        {
            return Err(damage(&place.path(name), &bad));
        }
        begun?;
        let ended = segment.read(&mut past.last, &mut synced, to)?;
        plain += usize::from(segment.key.is_none());
        let is_last = index + 1 == manifest.segments.len();
        past.segments.push((first, segment.scan.offset()));
        match ended {
            None => {}
            Some(bad) if !is_last => before = Some((name, bad)),
            Some(bad) => segment.cut(&bad, cuts, to)?,
        }
        past.tail = segment.tail(name, synced);
    }
    if plain > 0 && vault.keys().is_some() {
        let folder = place.folder.display();
        to.warn(&format!(
            "{folder}: {plain} of the log's segments are not sealed: they stay until the log is rewritten"
        ));
    }
    Ok(past)
}

/// One that is read.
struct Segment<'p> {
    path: &'p Path,
    file: Box<dyn File>,
    size: u64,
    scan: Scan,
    first_sequence: u64,
    /// Where the first frame begins, bytes.
    frames_at: u64,
    /// Of a sealed one.
    key: Option<DataKey>,
    /// What was sealed of the last frame.
    opened: Vec<u8>,
    /// Sequences, and where their frames are: of those that may not be on the disk, every now and then.
    marks: VecDeque<(u64, u64)>,
}

impl<'p> Segment<'p> {
    fn open(disk: &dyn Disk, path: &'p Path) -> io::Result<Segment<'p>> {
        let mut file = open(disk, path)?;
        let size = file.size().map_err(|error| named(path, &error))?;
        Ok(Segment {
            path,
            file,
            size,
            scan: Scan::new(size),
            first_sequence: 0,
            frames_at: 0,
            key: None,
            opened: Vec::new(),
            marks: VecDeque::new(),
        })
    }

    /// Its frames from the first one on of which none has said that it is on the disk.
    fn tail(&self, file: &str, synced: u64) -> Option<Tail> {
        let mut marks = self.marks.iter().rev();
        let known = marks.find(|(sequence, _)| *sequence <= synced + 1);
        let (first_sequence, begin) = *known.or(self.marks.front())?;
        let range = begin..self.scan.offset();
        (self.scan.next_sequence() > synced + 1).then(|| Tail {
            file: file.to_owned(),
            range,
            first_sequence,
        })
    }

    /// Feeds the scan at least so many bytes.
    fn feed(&mut self, mut bytes: u64, to: &mut dyn Replays) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while bytes > 0 {
            let read = self.file.read(&mut piece);
            let read = read.map_err(|error| named(self.path, &error))?;
            if read == 0 {
                return Err(named(
                    self.path,
                    &"the file has become shorter while it was read",
                ));
            }
            self.scan.feed(&piece[..read]);
            to.progress(read as u64);
            bytes = bytes.saturating_sub(read as u64);
        }
        Ok(())
    }

    /// Passes on every frame behind `last`; where they end before the file does. `synced` is what is known to be on the disk.
    fn read(
        &mut self,
        last: &mut u64,
        synced: &mut u64,
        to: &mut dyn Replays,
    ) -> io::Result<Option<Bad>> {
        loop {
            let offset = self.scan.offset().max(self.frames_at);
            let lack = match self.scan.step() {
                Step::More(lack) => lack,
                Step::Frame(frame) => {
                    let head = frame.head;
                    *synced = (*synced).max(head.synced);
                    let marked = self.marks.back().map_or(0, |(_, at)| at + MARK_BYTES);
                    if offset >= marked {
                        let at = offset.max(SEGMENT_HEAD_BYTES as u64);
                        self.marks.push_back((head.sequence, at));
                    }
                    while self
                        .marks
                        .get(1)
                        .is_some_and(|(sequence, _)| *sequence <= *synced + 1)
                    {
                        self.marks.pop_front();
                    }
                    if head.sequence > *last {
                        let mut payload = frame.payload;
                        if let Some(key) = &self.key {
                            // (Its checksum is right: what does not open was not torn.)
                            open_payload(key, &head, payload, &mut self.opened).map_err(
                                |fault| {
                                    named(
                                        self.path,
                                        &format!("damaged at offset {offset}: {fault}"),
                                    )
                                },
                            )?;
                            payload = &self.opened;
                        }
                        *last = head.sequence;
                        let done = to.frame(&head, payload);
                        done.map_err(|why| {
                            named(self.path, &format!("at offset {offset}: {why}"))
                        })?;
                    }
                    continue;
                }
                Step::End => return Ok(None),
                Step::Bad(bad) => return Ok(Some(bad)),
            };
            self.feed(lack, to)?;
        }
    }

    /// Reads the head: the segment must go on where the one before it ends, or before that.
    fn begin(&mut self, last: u64, vault: &Vault, to: &mut dyn Replays) -> io::Result<()> {
        self.feed(self.size.min(SEGMENT_HEAD_BYTES as u64), to)?;
        let head = SegmentHead::decode(self.scan.rest());
        let head = head.map_err(|fault| {
            let bad = Bad {
                offset: 0,
                sequence: 0,
                fault,
            };
            damage(self.path, &bad)
        })?;
        self.first_sequence = head.first_sequence;
        self.frames_at = head.end();
        if head.seal_bytes > 0 {
            self.unlock(head, vault, to)?;
        }
        if head.first_sequence <= last + 1 {
            return Ok(());
        }
        let (from, to) = (last + 1, head.first_sequence - 1);
        Err(named(
            self.path,
            &format!("the log has lost frames {from} to {to} before it"),
        ))
    }

    /// Opens the seal of the head.
    fn unlock(&mut self, head: SegmentHead, vault: &Vault, to: &mut dyn Replays) -> io::Result<()> {
        let lacks = head
            .end()
            .min(self.size)
            .saturating_sub(self.scan.rest().len() as u64);
        self.feed(lacks, to)?;
        let end = self.scan.rest().len().min(head.end() as usize);
        let (bound, seal) = self.scan.rest()[..end].split_at(SEGMENT_HEAD_BYTES);
        let key = vault.open(Kind::Segment, bound, seal);
        self.key = Some(key.map_err(|why| named(self.path, &why))?);
        Ok(())
    }

    /// The last segment ends badly: cuts it, if it is only torn.
    fn cut(&mut self, bad: &Bad, cuts: bool, to: &mut dyn Replays) -> io::Result<()> {
        let fed = self.scan.offset() + self.scan.rest().len() as u64;
        self.feed(self.size - fed, to)?;
        if self.scan.rest().iter().all(|byte| *byte == 0) {
            // Room for frames that never came.
            return self.cut_off(bad.offset);
        }
        let behind = look_behind(self.scan.rest(), bad.sequence);
        if behind == Behind::Synced || matches!(bad.fault, Fault::Sequence(_)) {
            return Err(damage(self.path, bad));
        }
        let bytes = self.size - bad.offset;
        let what = format!(
            "{bytes} bytes at its end, from offset {} on, were never synced ({})",
            bad.offset, bad.fault
        );
        if !cuts {
            let why = format!("{what}; aof-load-truncated forbids to start without them");
            return Err(named(self.path, &why));
        }
        to.warn(&format!(
            "{}: {what}: they are cut off",
            self.path.display()
        ));
        self.cut_off(bad.offset)
    }

    fn cut_off(&mut self, offset: u64) -> io::Result<()> {
        let done = self.file.truncate(offset).and_then(|()| self.file.sync());
        done.map_err(|error| named(self.path, &error))
    }
}

fn damage(path: &Path, bad: &Bad) -> io::Error {
    named(
        path,
        &format!("damaged at offset {}: {}", bad.offset, bad.fault),
    )
}
