//! The log as a queue: who reads behind its end what is on the disk, and what is kept for that.
//!
//! ```text
//! segments   [ 1 … 40 ] [ 39 40 41 … 90 ] [ 91 …      frames that were not synced may be repeated
//!                            ▲ next                   the newest segment that begins at or before it has it
//!                            └── held_from: a rewrite removes no segment from here on
//! ```
//! Nothing is read beyond what is synced: whoever is told of a frame may rely upon this node having it after any crash. A reader has its own
//! handle of the file and takes no lock but to find the next segment. What is read ahead may be half written: it is read
//! again when it is wanted and not whole.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use seal::{DataKey, Kind};
use storage::log::{FRAME_HEAD_BYTES, FrameHead, SEGMENT_HEAD_BYTES, SegmentHead, payload_sum};

use super::manifest::named;
use super::sealing::open_payload;
use super::{WriteLog, lock};
use crate::control::disk::{Disk, File};
use crate::control::vault::Vault;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 << 10;

impl WriteLog {
    /// Frames from this sequence on stay in the files, though a base has them, for the reader of this number; [`u64::MAX`] for none.
    pub fn hold_from(&self, reader: u16, sequence: u64) {
        let mut readers = lock(&self.readers);
        match sequence {
            u64::MAX => readers.remove(&reader),
            sequence => readers.insert(reader, sequence),
        };
        let first = readers.values().min().copied();
        self.held_from.store(first.unwrap_or(u64::MAX), Release);
    }

    /// What is held for all readers: see [`WriteLog::hold_from`].
    pub fn held_from(&self) -> u64 {
        self.held_from.load(Acquire)
    }

    /// What is queued is synced soon, whatever the policy says.
    pub fn sync_soon(&self) {
        self.wants_sync.store(true, Release);
        self.wake();
    }

    /// Bytes of the log from this place of a segment on; None when it is not in the log.
    fn bytes_behind(&self, file: &str, at: u64) -> Option<u64> {
        let desk = lock(&self.desk);
        let writer = desk.writer.as_ref()?;
        let mut sum = 0;
        for (name, _, bytes) in writer.segments().rev() {
            if name == file {
                return Some(sum + bytes.saturating_sub(at));
            }
            sum += bytes;
        }
        None
    }

    /// The first sequence that the files have; None while there is no log.
    pub fn first_sequence(&self) -> Option<u64> {
        let desk = lock(&self.desk);
        let writer = desk.writer.as_ref()?;
        writer.segments().next().map(|(_, first, _)| first)
    }

    /// The newest segment that has this sequence.
    fn segment_of(&self, sequence: u64, vault: &Vault) -> io::Result<Segment> {
        let desk = lock(&self.desk);
        let writer = desk.writer.as_ref();
        let writer = writer.ok_or_else(|| io::Error::other("there is no log"))?;
        let found = writer
            .segments()
            .rev()
            .find(|(_, first, _)| *first <= sequence);
        let (name, _, _) = found
            .ok_or_else(|| io::Error::other(format!("the log has no frame {sequence} any more")))?;
        let (name, path) = (name.to_owned(), writer.place().path(name));
        let disk = Arc::clone(writer.disk());
        drop(desk);
        Segment::open(&*disk, &path, name, vault).map_err(|error| named(&path, &error))
    }
}

/// A segment that is read.
struct Segment {
    name: String,
    file: Box<dyn File>,
    key: Option<DataKey>,
    /// Where the next frame begins, bytes.
    at: u64,
    /// What was read from there on.
    buf: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
}

impl Segment {
    fn open(disk: &dyn Disk, path: &Path, name: String, vault: &Vault) -> io::Result<Segment> {
        let mut file = disk.open(path)?;
        let mut bound = [0; SEGMENT_HEAD_BYTES];
        read_full(&mut *file, 0, &mut bound)?;
        let head = SegmentHead::decode(&bound);
        let head = head.map_err(|fault| io::Error::other(format!("{fault}")))?;
        let mut key = None;
        if head.seal_bytes > 0 {
            let mut seal = vec![0; head.seal_bytes as usize];
            read_full(&mut *file, SEGMENT_HEAD_BYTES as u64, &mut seal)?;
            let opened = vault.open(Kind::Segment, &bound, &seal);
            key = Some(opened.map_err(io::Error::other)?);
        }
        Ok(Segment {
            name,
            file,
            key,
            at: head.end(),
            buf: Vec::new(),
            taken: 0,
        })
    }

    /// The head of the next frame, if it is there whole; its bytes lie at `taken`.
    fn peek(&self) -> Option<FrameHead> {
        let rest = self.buf.get(self.taken..)?;
        let head = FrameHead::decode(rest)?;
        let len = usize::try_from(head.len).ok()?;
        let payload = rest.get(FRAME_HEAD_BYTES..)?.get(..len)?;
        (payload_sum(payload) == head.payload_sum).then_some(head)
    }

    /// As [`Segment::peek`], of bytes that are read anew if those that are here do not have it.
    fn next(&mut self) -> io::Result<Option<FrameHead>> {
        if let Some(head) = self.peek() {
            return Ok(Some(head));
        }
        self.buf.clear();
        self.buf.shrink_to(2 * PIECE_BYTES);
        self.taken = 0;
        let mut wants = PIECE_BYTES;
        loop {
            if !self.fill(wants)? {
                return Ok(self.peek());
            }
            if let Some(head) = self.peek() {
                return Ok(Some(head));
            }
            let more = FrameHead::decode(&self.buf).and_then(|head| usize::try_from(head.len).ok());
            match more.and_then(|len| len.checked_add(FRAME_HEAD_BYTES)) {
                Some(whole) if whole > self.buf.len() => wants = whole,
                _ => return Ok(None),
            }
        }
    }

    /// Reads until so many bytes are here; false when the file ends before. (A frame is longer than the file only if its head is damaged.)
    fn fill(&mut self, wants: usize) -> io::Result<bool> {
        let size = self.file.size()?.saturating_sub(self.at);
        let wants = wants.min(usize::try_from(size).unwrap_or(usize::MAX));
        let mut filled = self.buf.len();
        self.buf.resize(wants.max(filled), 0);
        while filled < wants {
            let read = self
                .file
                .read_at(self.at + filled as u64, &mut self.buf[filled..])?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        self.buf.truncate(filled);
        Ok(filled > 0 && filled == wants)
    }

    /// Takes the frame that [`Segment::next`] has told, its payload into `payload` if that is wanted.
    fn take(&mut self, head: &FrameHead, payload: Option<&mut Vec<u8>>) -> io::Result<()> {
        let begin = self.taken + FRAME_HEAD_BYTES;
        let end = begin + head.len as usize;
        if let Some(payload) = payload {
            let bytes = &self.buf[begin..end];
            match &self.key {
                Some(key) => open_payload(key, head, bytes, payload).map_err(io::Error::other)?,
                None => {
                    payload.clear();
                    payload.extend_from_slice(bytes);
                }
            }
        }
        self.taken = end;
        self.at += FRAME_HEAD_BYTES as u64 + head.len;
        Ok(())
    }
}

/// See the module's head.
pub struct Follower {
    vault: Arc<Vault>,
    next: u64,
    segment: Option<Segment>,
}

impl Follower {
    /// One that has everything up to this sequence.
    pub fn behind(sequence: u64, vault: Arc<Vault>) -> Follower {
        Follower {
            vault,
            next: sequence + 1,
            segment: None,
        }
    }

    /// The next frame that is on the disk, its payload in `payload`; None when there is none.
    ///
    /// # Errors
    /// Those of the disk, and when the log does not have it any more, or damaged.
    pub fn next(&mut self, log: &WriteLog, payload: &mut Vec<u8>) -> io::Result<Option<FrameHead>> {
        let mut tries = 2;
        while self.next <= log.synced() {
            let segment = match &mut self.segment {
                Some(segment) => segment,
                None => self.segment.insert(log.segment_of(self.next, &self.vault)?),
            };
            match segment.next()? {
                Some(head) if head.sequence < self.next => segment.take(&head, None)?,
                Some(head) if head.sequence == self.next => {
                    segment.take(&head, Some(payload))?;
                    self.next += 1;
                    return Ok(Some(head));
                }
                // It has ended, or is another's after a sync that has failed: a newer segment has it.
                _ => {
                    self.segment = None;
                    tries -= 1;
                    if tries == 0 {
                        let why = format!("the log's frame {} cannot be read", self.next);
                        return Err(io::Error::other(why));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Bytes of the log that have not been read, about.
    pub fn behind_bytes(&mut self, log: &WriteLog) -> u64 {
        if self.segment.is_none() && self.next <= log.queued() {
            self.segment = log.segment_of(self.next, &self.vault).ok();
        }
        let segment = self.segment.as_ref();
        let bytes = segment.and_then(|segment| log.bytes_behind(&segment.name, segment.at));
        bytes.unwrap_or(0)
    }
}

fn read_full(file: &mut dyn File, at: u64, into: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(at + filled as u64, &mut into[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use storage::log::FrameKind;

    use super::super::manifest::Place;
    use super::super::tests::MemoryDisk;
    use super::super::writer::{Past, Writer};
    use super::*;
    use crate::config::AppendFsync;
    use crate::control::vault::tests::{KEY_A, vault};

    fn place() -> Place {
        Place {
            folder: "d".into(),
            name: "log".to_owned(),
        }
    }

    fn open(disk: &MemoryDisk, vault: &Arc<Vault>) -> WriteLog {
        let log = WriteLog::new(1, || 1);
        log.set_policy(AppendFsync::EverySecond);
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        log.turn_on(Writer::begin(disk, Arc::clone(vault), place(), Past::default(), 1).unwrap());
        log
    }

    /// Queues a frame and syncs it.
    fn push(log: &WriteLog, text: &[u8]) {
        log.push(FrameKind::Effects, 0, 1, text);
        while log.synced() < log.queued() {
            log.sync_soon();
            log.step();
        }
    }

    fn read(follower: &mut Follower, log: &WriteLog) -> Vec<(u64, Vec<u8>)> {
        let (mut all, mut payload) = (Vec::new(), Vec::new());
        while let Some(head) = follower.next(log, &mut payload).unwrap() {
            all.push((head.sequence, payload.clone()));
        }
        all
    }

    fn frame(sequence: u64) -> (u64, Vec<u8>) {
        (sequence, sequence.to_string().into_bytes())
    }

    #[test]
    fn what_is_synced_is_read_and_nothing_else_through_segments_and_seals() {
        for vault in [Vault::new(None), vault(&[KEY_A])] {
            let (disk, vault) = (MemoryDisk::default(), Arc::new(vault));
            let log = open(&disk, &vault);
            let mut follower = Follower::behind(1, Arc::clone(&vault));
            push(&log, b"1");
            assert_eq!(read(&mut follower, &log), []);
            for sequence in 2..5 {
                push(&log, sequence.to_string().as_bytes());
            }
            assert_eq!(read(&mut follower, &log), [frame(2), frame(3), frame(4)]);
            log.push(FrameKind::Effects, 0, 1, b"5");
            assert_eq!(read(&mut follower, &log), [], "it is not synced");
            assert_eq!(follower.behind_bytes(&log), 0);
            push(&log, b"6");
            assert!(follower.behind_bytes(&log) >= 2 * (FRAME_HEAD_BYTES as u64 + 1));
            // Another segment is begun, and a large frame is in it.
            log.cut();
            log.step();
            let large = vec![b'x'; 3 * PIECE_BYTES];
            push(&log, &large);
            push(&log, b"8");
            assert_eq!(
                read(&mut follower, &log),
                [frame(5), frame(6), (7, large), frame(8)]
            );
        }
    }

    #[test]
    fn a_rewrite_removes_nothing_that_is_held() {
        let (disk, vault) = (MemoryDisk::default(), Arc::new(Vault::new(None)));
        let log = open(&disk, &vault);
        let rewrite = |log: &WriteLog| {
            let through = log.cut();
            log.step();
            let path = log.base_name().unwrap();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            disk.create(&path).unwrap();
            log.set_base(file, through, 0).unwrap();
        };
        push(&log, b"1");
        push(&log, b"2");
        log.hold_from(3, 5);
        log.hold_from(0, 2);
        log.hold_from(7, 4);
        assert_eq!(log.held_from(), 2, "who is behind most");
        rewrite(&log);
        push(&log, b"3");
        rewrite(&log);
        assert_eq!(log.first_sequence(), Some(1));
        let mut follower = Follower::behind(1, Arc::clone(&vault));
        assert_eq!(read(&mut follower, &log), [frame(2), frame(3)]);
        log.hold_from(0, u64::MAX);
        assert_eq!(log.held_from(), 4);
        log.hold_from(7, u64::MAX);
        log.hold_from(3, u64::MAX);
        rewrite(&log);
        assert_eq!(log.first_sequence(), Some(4));
        let mut late = Follower::behind(1, vault);
        let lost = late.next(&log, &mut Vec::new()).unwrap_err();
        assert!(lost.to_string().contains("no frame 2 any more"), "{lost}");
    }
}
