//! A segment: its head, and the reading of its frames as its bytes come.
//!
//! # Format, versions 1 and 2
//! ```text
//!  0  "MERIDLOG"           12  bytes of the seal       u32      0 in version 1
//!  8  version     u32      16  first sequence          u64      every frame before this one is on the disk elsewhere
//!                          24  begun (low bits of ms)  u32
//!                          28  CRC-32C of bytes 0..28  u32      all little-endian
//! 32  version 2: the seal   whose payloads are sealed: what it says, and how they open, is not known here
//!     frames, and perhaps zeros: room for more
//! ```
//! A reader feeds a [`Scan`] with the file's bytes, in pieces of any size, and gets whole frames. Where they end before the file
//! does, it is told exactly where and why ([`Bad`]). [`look_behind`] then says whether that is the torn end of a log whose last
//! writes had not reached the disk, which may be cut, or damage, which may not.

use core::ops::Range;

use super::record::{FRAME_HEAD_BYTES, FrameHead, payload_sum};

/// Bytes of a segment's head.
pub const SEGMENT_HEAD_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"MERIDLOG";
const VERSION: u32 = 1;
const VERSION_SEALED: u32 = 2;
/// A seal of more bytes is none.
const SEAL_BYTES_MAX: u32 = 4096;
/// How often over the bytes behind a bad frame may be summed up in the search for whole ones: bytes that were made to look
/// like many frames in each other do not take for ever.
const SUMMED_TIMES_MAX: u64 = 8;

/// What stands at the beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// The sequence of its first frame. All before it are on the disk, in the segments before this one.
    pub first_sequence: u64,
    /// When it was begun: the low bits of unix ms, for people who look at it.
    pub begun: u32,
    /// Bytes of the seal between this head and the first frame; 0 when payloads are in the clear.
    pub seal_bytes: u32,
}

impl SegmentHead {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEAD_BYTES] {
        let mut head = [0; SEGMENT_HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        let version = match self.seal_bytes {
            0 => VERSION,
            _ => VERSION_SEALED,
        };
        head[8..12].copy_from_slice(&version.to_le_bytes());
        head[12..16].copy_from_slice(&self.seal_bytes.to_le_bytes());
        head[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        head[24..28].copy_from_slice(&self.begun.to_le_bytes());
        let sum = crc32c::crc32c(&head[..28]);
        head[28..].copy_from_slice(&sum.to_le_bytes());
        head
    }

    /// Reads a head.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHead, Fault> {
        let head = bytes
            .first_chunk::<SEGMENT_HEAD_BYTES>()
            .ok_or(Fault::Short)?;
        let u32_at =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..8] != *MAGIC || u32_at(28) != crc32c::crc32c(&head[..28]) {
            return Err(Fault::SegmentHead);
        }
        let seal_bytes = match (u32_at(8), u32_at(12)) {
            (VERSION, _) => 0,
            (VERSION_SEALED, bytes @ 1..=SEAL_BYTES_MAX) => bytes,
            (VERSION_SEALED, _) => return Err(Fault::SegmentHead),
            (version, _) => return Err(Fault::Version(version)),
        };
        let first = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
        Ok(SegmentHead {
            first_sequence: first,
            begun: u32_at(24),
            seal_bytes,
        })
    }

    /// Where the first frame begins, bytes of the file.
    pub fn end(&self) -> u64 {
        SEGMENT_HEAD_BYTES as u64 + u64::from(self.seal_bytes)
    }
}

/// What is wrong with bytes that should be a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file ends before it does.
    Short,
    /// The segment's head is none.
    SegmentHead,
    /// The segment has another version of the format.
    Version(u32),
    /// The frame's head is none.
    Head,
    /// The payload does not have the sum that the head tells.
    Payload,
    /// The frame is whole, but has another sequence than the one that is due.
    Sequence(u64),
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Short => f.write_str("the file ends inside a frame"),
            Fault::SegmentHead => f.write_str("the head of the segment is damaged"),
            Fault::Version(version) => write!(f, "the segment has the unknown version {version}"),
            Fault::Head => f.write_str("the head of a frame is damaged"),
            Fault::Payload => f.write_str("the checksum of a frame does not match"),
            Fault::Sequence(found) => write!(f, "the frame has the sequence {found}"),
        }
    }
}

/// Where whole frames end before the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The place in the file, bytes: up to here all is whole.
    pub offset: u64,
    /// The sequence that was due there.
    pub sequence: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its head.
    pub head: FrameHead,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What comes next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// So many bytes of the file are needed at least.
    More(u64),
    /// The next frame.
    Frame(Frame<'a>),
    /// The file ends, behind a whole frame.
    End,
    /// No frame.
    Bad(Bad),
}

/// Reads one segment.
pub struct Scan {
    file_bytes: u64,
    buf: Vec<u8>,
    /// The bytes of `buf` that have been read as frames.
    at: usize,
    /// The place in the file of `buf[at]`.
    offset: u64,
    head: Option<SegmentHead>,
    next: u64,
    bad: Option<Bad>,
}

impl Scan {
    /// Of a file of so many bytes.
    pub fn new(file_bytes: u64) -> Scan {
        Scan {
            file_bytes,
            buf: Vec::new(),
            at: 0,
            offset: 0,
            head: None,
            next: 0,
            bad: None,
        }
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The segment's head, once it has been read.
    pub fn head(&self) -> Option<SegmentHead> {
        self.head
    }

    /// Up to where whole frames have been read, bytes of the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence that comes next.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// What has been fed and not been read.
    pub fn rest(&self) -> &[u8] {
        &self.buf[self.at..]
    }

    fn stop(&mut self, fault: Fault) -> Bad {
        let bad = Bad {
            offset: self.offset,
            sequence: self.next,
            fault,
        };
        *self.bad.get_or_insert(bad)
    }

    /// How many bytes are to be fed before there are `bytes` here; Err when the file does not have them.
    fn lack(&self, bytes: u64) -> Result<u64, Fault> {
        if bytes > self.file_bytes - self.offset {
            return Err(Fault::Short);
        }
        Ok(bytes.saturating_sub(self.rest().len() as u64))
    }

    /// What comes next.
    pub fn step(&mut self) -> Step<'_> {
        if let Some(bad) = self.bad {
            return Step::Bad(bad);
        }
        match self.find() {
            Ok(Found::More(bytes)) => Step::More(bytes),
            Ok(Found::End) => Step::End,
            Ok(Found::Frame(head, range)) => Step::Frame(Frame {
                head,
                payload: &self.buf[range],
            }),
            Err(fault) => Step::Bad(self.stop(fault)),
        }
    }

    fn find(&mut self) -> Result<Found, Fault> {
        if self.head.is_none() {
            let lack = self.lack(SEGMENT_HEAD_BYTES as u64)?;
            if lack > 0 {
                return Ok(Found::More(lack));
            }
            let head = SegmentHead::decode(self.rest())?;
            let lack = self.lack(head.end())?;
            if lack > 0 {
                return Ok(Found::More(lack));
            }
            self.next = head.first_sequence;
            self.head = Some(head);
            self.pass(head.end() as usize);
        }
        if self.offset == self.file_bytes {
            return Ok(Found::End);
        }
        let lack = self.lack(FRAME_HEAD_BYTES as u64)?;
        if lack > 0 {
            return Ok(Found::More(lack));
        }
        let head = FrameHead::decode(self.rest()).ok_or(Fault::Head)?;
        let bytes = head.len.saturating_add(FRAME_HEAD_BYTES as u64);
        let lack = self.lack(bytes)?;
        if lack > 0 {
            return Ok(Found::More(lack));
        }
        // (What is in memory has a length of this machine.)
        let (begin, end) = (self.at + FRAME_HEAD_BYTES, self.at + bytes as usize);
        if payload_sum(&self.buf[begin..end]) != head.payload_sum {
            return Err(Fault::Payload);
        }
        if head.sequence != self.next {
            return Err(Fault::Sequence(head.sequence));
        }
        self.next = self.next.wrapping_add(1);
        self.pass(bytes as usize);
        Ok(Found::Frame(head, begin..end))
    }

    fn pass(&mut self, bytes: usize) {
        self.at += bytes;
        self.offset += bytes as u64;
    }
}

enum Found {
    More(u64),
    Frame(FrameHead, Range<usize>),
    End,
}

/// What lies behind a bad frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// No whole frame.
    Nothing,
    /// Whole frames, none of which says that the bad one was on the disk when it was written: like the bad one they were
    /// never synced.
    Unsynced,
    /// A whole frame that was written when the bad one was on the disk: that has been damaged since.
    Synced,
}

/// Looks for whole frames in `rest`, the bytes of a segment from the frame on that is bad, in whose place `sequence` was due.
pub fn look_behind(rest: &[u8], sequence: u64) -> Behind {
    let mut found = Behind::Nothing;
    let mut budget = SUMMED_TIMES_MAX * rest.len() as u64;
    let mut at = 1;
    while let Some(candidate) = rest.get(at..).filter(|rest| rest.len() >= FRAME_HEAD_BYTES) {
        at += 1;
        let Some(head) = FrameHead::decode(candidate) else {
            continue;
        };
        let payload =
            candidate[FRAME_HEAD_BYTES..].get(..usize::try_from(head.len).unwrap_or(usize::MAX));
        let Some(payload) = payload.filter(|_| head.sequence >= sequence) else {
            continue;
        };
        let Some(left) = budget.checked_sub(head.len) else {
            // Nobody's log looks like this: whatever it is, it is not to be cut.
            return Behind::Synced;
        };
        budget = left;
        if payload_sum(payload) != head.payload_sum {
            continue;
        }
        if head.synced >= sequence {
            return Behind::Synced;
        }
        found = Behind::Unsynced;
        at += FRAME_HEAD_BYTES - 1 + payload.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::record::FrameKind;
    use super::*;

    fn frame(sequence: u64, synced: u64, payload: &[u8]) -> Vec<u8> {
        let head = FrameHead {
            len: payload.len() as u64,
            sequence,
            synced,
            time_ms: 1,
            core: 0,
            kind: FrameKind::Effects,
            payload_sum: payload_sum(payload),
        };
        [&head.encode()[..], payload].concat()
    }

    fn segment(frames: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let first_sequence = frames.first().map_or(1, |frame| frame.0);
        let head = SegmentHead {
            first_sequence,
            begun: 7,
            seal_bytes: 0,
        };
        let mut bytes = head.encode().to_vec();
        for (sequence, synced, payload) in frames {
            bytes.extend(frame(*sequence, *synced, payload));
        }
        bytes
    }

    /// Feeds a file in pieces; the payloads, and where they end.
    fn scan(file: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<u64, Bad>) {
        let (mut scan, mut fed, mut payloads) = (Scan::new(file.len() as u64), 0, Vec::new());
        loop {
            match scan.step() {
                Step::More(bytes) => {
                    assert!(bytes > 0 && fed < file.len());
                    let end = file.len().min(fed + piece);
                    scan.feed(&file[fed..end]);
                    fed = end;
                }
                Step::Frame(frame) => payloads.push(frame.payload.to_vec()),
                Step::End => return (payloads, Ok(scan.next_sequence())),
                Step::Bad(bad) => return (payloads, Err(bad)),
            }
        }
    }

    #[test]
    fn the_head_is_golden() {
        let bytes = SegmentHead {
            first_sequence: 258,
            begun: 9,
            seal_bytes: 0,
        }
        .encode();
        let golden = b"MERIDLOG\x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x09\0\0\0";
        assert_eq!(bytes[..28], golden[..]);
        assert_eq!(bytes[28..], crc32c::crc32c(golden).to_le_bytes());
        let mut newer = bytes;
        newer[8] = 3;
        let sum = crc32c::crc32c(&newer[..28]).to_le_bytes();
        newer[28..].copy_from_slice(&sum);
        assert_eq!(SegmentHead::decode(&newer), Err(Fault::Version(3)));
    }

    #[test]
    fn frames_begin_behind_the_seal() {
        let head = |seal_bytes| SegmentHead {
            first_sequence: 1,
            begun: 0,
            seal_bytes,
        };
        let bytes = head(5).encode();
        assert_eq!(bytes[8..16], [2, 0, 0, 0, 5, 0, 0, 0]);
        let file = [&bytes[..], b"seal!", &frame(1, 0, b"one")].concat();
        for piece in [1, 33, 1000] {
            assert_eq!(scan(&file, piece), (vec![b"one".to_vec()], Ok(2)));
        }
        for len in 32..37 {
            let bad = scan(&file[..len], 50).1.unwrap_err();
            assert_eq!((bad.offset, bad.fault), (0, Fault::Short));
        }
        assert_eq!(SegmentHead::decode(&head(4096).encode()), Ok(head(4096)));
        let decoded = SegmentHead::decode(&head(4097).encode());
        assert_eq!(decoded, Err(Fault::SegmentHead));
    }

    #[test]
    fn whole_frames_are_read_in_pieces_of_any_size() {
        let file = segment(&[(5, 0, b"one"), (6, 4, b""), (7, 6, &[b'x'; 300])]);
        for piece in [1, 2, 43, 44, 45, 100, 10_000] {
            let (payloads, end) = scan(&file, piece);
            assert_eq!(payloads, [&b"one"[..], b"", &[b'x'; 300]]);
            assert_eq!(end, Ok(8));
        }
    }

    #[test]
    fn a_cut_at_any_byte_ends_behind_the_last_whole_frame() {
        let frames: [(u64, u64, &[u8]); 3] = [(1, 0, b"one"), (2, 1, b"two"), (3, 2, b"three")];
        let file = segment(&frames);
        let ends: Vec<usize> = (0..=3).map(|n| segment(&frames[..n]).len()).collect();
        for len in 0..file.len() {
            let whole = ends.iter().filter(|end| **end <= len).count();
            let (payloads, end) = scan(&file[..len], 64);
            if whole == 0 {
                assert_eq!(end.unwrap_err().fault, Fault::Short);
            } else if ends[whole - 1] == len {
                assert_eq!(end, Ok(whole as u64));
            } else {
                let bad = end.unwrap_err();
                assert_eq!(
                    (bad.offset, bad.sequence),
                    (ends[whole - 1] as u64, whole as u64)
                );
                assert_eq!(payloads.len(), whole - 1);
                let rest = &file[ends[whole - 1]..len];
                assert_eq!(look_behind(rest, bad.sequence), Behind::Nothing);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_known_for_what_it_is() {
        // The fourth frame knows that the first two are on the disk.
        let file = segment(&[
            (1, 0, b"one"),
            (2, 0, b"two"),
            (3, 0, b"three"),
            (4, 2, b"four"),
        ]);
        let ends: Vec<usize> = [0, 3, 6, 11, 15]
            .iter()
            .enumerate()
            .map(|(n, payload)| SEGMENT_HEAD_BYTES + n * FRAME_HEAD_BYTES + payload)
            .collect();
        for bit in SEGMENT_HEAD_BYTES * 8..file.len() * 8 {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let (payloads, end) = scan(&file, 50);
            let (bad, hit) = (end.unwrap_err(), payloads.len());
            assert_eq!(bad.offset as usize, ends[hit]);
            assert!((ends[hit]..ends[hit + 1]).contains(&(bit / 8)));
            let expected = [
                Behind::Synced,
                Behind::Synced,
                Behind::Unsynced,
                Behind::Nothing,
            ];
            let behind = look_behind(&file[ends[hit]..], bad.sequence);
            assert_eq!(behind, expected[hit], "bit {bit}");
        }
    }

    #[test]
    fn a_gap_in_the_sequence_is_no_end() {
        let file = segment(&[(1, 0, b"one"), (3, 2, b"three")]);
        let (payloads, end) = scan(&file, 1000);
        let bad = end.unwrap_err();
        assert_eq!((payloads.len(), bad.fault), (1, Fault::Sequence(3)));
        // (The frame that is bad is not looked at again.)
        assert_eq!(
            look_behind(&file[bad.offset as usize..], 2),
            Behind::Nothing
        );
    }
}
