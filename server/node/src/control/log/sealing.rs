//! Frames of a segment whose payloads are sealed.
//!
//! ```text
//! frame as queued  = head, payload                       storage/src/log/record.rs
//! frame as written = head', payload sealed               head': its length and checksum are those of the sealed payload
//! ```
//! Heads stay in the clear (and are bound to their payloads), and checksums are of what is in the file: so what is torn and what
//! is damaged is told apart as in a plain segment, without a key. The nonce is the frame's sequence, which no other frame of
//! a segment has: one that could not be written is written again as it is, and every segment has a key of its own.

use std::io;
use std::ops::Range;
use std::path::Path;

use seal::{DataKey, Kind, open_frame, seal_frame, sealed_frame_bytes};
use storage::log::{
    FRAME_HEAD_BYTES, FrameHead, SEGMENT_HEAD_BYTES, Scan, SegmentHead, Step, payload_sum,
};

use crate::control::disk::{Disk, File};
use crate::control::vault::Vault;

/// Bytes of a frame's head that are bound to its payload: all before the checksums.
const BOUND_BYTES: usize = 36;
/// Bytes that are copied at once from a segment into another one.
const COPIED_BYTES: usize = 1 << 20;

/// Seals whole frames and appends them to `out`.
///
/// # Errors
/// Never in practice: of bytes that are no frames, or too many.
pub fn seal_frames(key: &DataKey, frames: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = frames;
    while !rest.is_empty() {
        let head = FrameHead::decode(rest);
        let frame = head.and_then(|head| {
            let len = usize::try_from(head.len).ok()?;
            let (payload, after) = rest[FRAME_HEAD_BYTES..].split_at_checked(len)?;
            Some((head, payload, after))
        });
        let Some((head, payload, after)) = frame else {
            return Err(io::Error::other("what was to be sealed is no frame"));
        };
        seal_one(key, &head, payload, out).map_err(io::Error::other)?;
        rest = after;
    }
    Ok(())
}

fn seal_one(
    key: &DataKey,
    head: &FrameHead,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), seal::Fault> {
    let bytes = sealed_frame_bytes(payload.len());
    let mut head = FrameHead {
        len: bytes as u64,
        ..*head
    };
    let at = out.len();
    out.reserve(FRAME_HEAD_BYTES + bytes);
    let about = head.encode();
    out.extend_from_slice(&about);
    seal_frame(key, head.sequence, &about[..BOUND_BYTES], payload, out)?;
    head.payload_sum = payload_sum(&out[at + FRAME_HEAD_BYTES..]);
    out[at..at + FRAME_HEAD_BYTES].copy_from_slice(&head.encode());
    Ok(())
}

/// Opens the payload of a frame into `out`.
///
/// # Errors
/// [`seal::Fault::Broken`]
pub fn open_payload(
    key: &DataKey,
    head: &FrameHead,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), seal::Fault> {
    out.clear();
    let about = head.encode();
    open_frame(key, head.sequence, &about[..BOUND_BYTES], payload, out)
}

/// Whether the key of a segment is there, if it is sealed. (What else is wrong with its head is told when it is read.)
///
/// # Errors
/// Those of the disk; why it cannot be opened.
pub fn has_key(file: &mut dyn File, vault: &Vault) -> io::Result<()> {
    if file.size()? < SEGMENT_HEAD_BYTES as u64 {
        return Ok(());
    }
    let mut bytes = vec![0; SEGMENT_HEAD_BYTES];
    fill(file, &mut bytes)?;
    let Ok(head) = SegmentHead::decode(&bytes) else {
        return Ok(());
    };
    if head.seal_bytes == 0 || file.size()? < head.end() {
        return Ok(());
    }
    let mut seal = vec![0; head.seal_bytes as usize];
    fill(file, &mut seal)?;
    let opened = vault.open(Kind::Segment, &bytes, &seal);
    opened.map(|_| ()).map_err(io::Error::other)
}

/// Copies the frames in a part of a segment behind what is in another file, for whose key (if it has one) they are sealed anew;
/// the bytes that this took.
///
/// # Errors
/// Those of the disk; and when the segment does not hold what it did, or cannot be opened.
pub fn copy_frames(
    (disk, path, vault): (&dyn Disk, &Path, &Vault),
    range: &Range<u64>,
    to: &mut dyn File,
    key: Option<&DataKey>,
) -> io::Result<u64> {
    let mut from = disk.open(path)?;
    let mut piece = vec![0; SEGMENT_HEAD_BYTES];
    fill(&mut *from, &mut piece)?;
    let head = SegmentHead::decode(&piece).map_err(changed)?;
    piece.resize(head.end() as usize, 0);
    fill(&mut *from, &mut piece[SEGMENT_HEAD_BYTES..])?;
    let (bound, seal) = piece.split_at(SEGMENT_HEAD_BYTES);
    let old = match seal {
        [] => None,
        seal => Some(
            vault
                .open(Kind::Segment, bound, seal)
                .map_err(io::Error::other)?,
        ),
    };
    let mut scan = Scan::new(range.end);
    scan.feed(&piece);
    let (mut left, mut copied) = (range.end.saturating_sub(head.end()), 0);
    let (mut out, mut opened) = (Vec::new(), Vec::new());
    loop {
        let at = scan.offset().max(head.end());
        match scan.step() {
            // (A file is read from its beginning.)
            Step::Frame(_) if at < range.start => {}
            Step::Frame(frame) => {
                let mut payload = frame.payload;
                if let Some(old) = &old {
                    let done = open_payload(old, &frame.head, payload, &mut opened);
                    done.map_err(io::Error::other)?;
                    payload = &opened;
                }
                put_frame(key, &frame.head, payload, &mut out).map_err(io::Error::other)?;
            }
            Step::More(_) => {
                piece.resize(left.min(COPIED_BYTES as u64) as usize, 0);
                fill(&mut *from, &mut piece)?;
                left -= piece.len() as u64;
                scan.feed(&piece);
            }
            Step::End => break,
            Step::Bad(bad) => return Err(changed(bad.fault)),
        }
        if out.len() >= COPIED_BYTES {
            to.append(&out)?;
            copied += out.len() as u64;
            out.clear();
        }
    }
    to.append(&out)?;
    Ok(copied + out.len() as u64)
}

fn put_frame(
    key: Option<&DataKey>,
    head: &FrameHead,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), seal::Fault> {
    if let Some(key) = key {
        return seal_one(key, head, payload, out);
    }
    let head = FrameHead {
        len: payload.len() as u64,
        payload_sum: payload_sum(payload),
        ..*head
    };
    out.extend_from_slice(&head.encode());
    out.extend_from_slice(payload);
    Ok(())
}

fn changed(fault: storage::log::Fault) -> io::Error {
    io::Error::other(format!("it has changed since it was read: {fault}"))
}

/// Reads until the buffer is full.
fn fill(file: &mut dyn File, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match file.read(into)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => into = &mut into[read..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use seal::Kind;
    use storage::log::FrameKind;

    use super::super::super::vault::tests::{KEY_A, vault};
    use super::*;

    #[test]
    fn frames_are_sealed_one_by_one_and_opened_with_their_heads() {
        let (_, key) = vault(&[KEY_A]).make(Kind::Segment, b"").unwrap().unwrap();
        let payloads: [&[u8]; 3] = [b"", b"secret", &[b's'; 100_000]];
        let mut frames = Vec::new();
        for (sequence, payload) in (7..).zip(payloads) {
            let head = FrameHead {
                len: payload.len() as u64,
                sequence,
                synced: 5,
                time_ms: 1,
                core: 3,
                kind: FrameKind::Effects,
                payload_sum: payload_sum(payload),
            };
            frames.extend(head.encode());
            frames.extend(payload);
        }
        let (mut sealed, mut again) = (Vec::new(), Vec::new());
        seal_frames(&key, &frames, &mut sealed).unwrap();
        seal_frames(&key, &frames, &mut again).unwrap();
        assert_eq!(sealed, again, "a write may be repeated");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let (mut rest, mut opened) = (&sealed[..], Vec::new());
        for (sequence, payload) in (7..).zip(payloads) {
            let head = FrameHead::decode(rest).unwrap();
            let (body, after) = rest[FRAME_HEAD_BYTES..].split_at(head.len as usize);
            assert_eq!((head.sequence, head.synced, head.core), (sequence, 5, 3));
            assert_eq!(head.payload_sum, payload_sum(body));
            open_payload(&key, &head, body, &mut opened).unwrap();
            assert_eq!(opened, payload);
            for forged in [
                FrameHead {
                    sequence: 6,
                    ..head
                },
                FrameHead { synced: 6, ..head },
                FrameHead { time_ms: 0, ..head },
                FrameHead { core: 0, ..head },
                FrameHead {
                    kind: FrameKind::End,
                    ..head
                },
            ] {
                let done = open_payload(&key, &forged, body, &mut opened);
                assert_eq!(done, Err(seal::Fault::Broken));
            }
            rest = after;
        }
        assert!(rest.is_empty());
        assert!(seal_frames(&key, &frames[1..], &mut again).is_err());
    }
}
