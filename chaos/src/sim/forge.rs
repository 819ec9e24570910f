//! Planted faults of the log's files: what a server would read that does not verify what it reads. The bytes are made to look
//! right, so that the server takes them; the judges must see it.

use storage::decode;
use storage::log::{FRAME_HEAD_BYTES, FrameHead, FrameKind, Scan, Step, payload_sum};

use crate::rng::Rng;

/// A frame of a segment: where it is, and its head.
struct Place {
    at: usize,
    head: FrameHead,
}

/// The frames of a segment with effects in them.
fn frames(bytes: &[u8]) -> Vec<Place> {
    let mut scan = Scan::new(bytes.len() as u64);
    scan.feed(bytes);
    let mut found = Vec::new();
    while let Step::Frame(frame) = scan.step() {
        let (head, payload) = (frame.head, frame.payload.len());
        let at = usize::try_from(scan.offset()).unwrap_or(usize::MAX);
        if head.kind == FrameKind::Effects {
            let at = at - payload - FRAME_HEAD_BYTES;
            found.push(Place { at, head });
        }
    }
    found
}

/// Flips a bit of what some frame has put somewhere, and mends the sums: whether there was one.
pub(crate) fn flip(bytes: &mut [u8], rng: &mut Rng) -> bool {
    let frames = frames(bytes);
    let Some(place) = rng.pick(&frames) else {
        return false;
    };
    let begin = place.at + FRAME_HEAD_BYTES;
    let len = usize::try_from(place.head.len).unwrap_or_default();
    let Some(payload) = bytes.get_mut(begin..begin + len) else {
        return false;
    };
    // The last byte that is a digit: of a value, most likely. (A record that is none would be told.)
    let Some(at) = payload.iter().rposition(u8::is_ascii_digit) else {
        return false;
    };
    if let Some(byte) = payload.get_mut(at) {
        *byte = if *byte == b'9' { b'8' } else { *byte + 1 };
    }
    let head = FrameHead {
        payload_sum: payload_sum(payload),
        ..place.head
    };
    put(bytes, place.at, &head)
}

/// Takes the last effect out of the last frame that has several: whether there was one.
pub(crate) fn tear(bytes: &mut Vec<u8>) -> bool {
    let frames = frames(bytes);
    for place in frames.iter().rev() {
        let begin = place.at + FRAME_HEAD_BYTES;
        let len = usize::try_from(place.head.len).unwrap_or_default();
        let Some(payload) = bytes.get(begin..begin + len) else {
            return false;
        };
        let (mut rest, mut last) = (payload, 0);
        while let Ok((_, _, after)) = decode(rest) {
            last = payload.len() - rest.len();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        if last == 0 || !rest.is_empty() {
            continue;
        }
        let head = FrameHead {
            len: last as u64,
            payload_sum: payload_sum(&payload[..last]),
            ..place.head
        };
        bytes.drain(begin + last..begin + len);
        return put(bytes, place.at, &head);
    }
    false
}

fn put(bytes: &mut [u8], at: usize, head: &FrameHead) -> bool {
    let place = bytes.get_mut(at..at + FRAME_HEAD_BYTES);
    place.is_some_and(|place| {
        place.copy_from_slice(&head.encode());
        true
    })
}
