//! Frames of a file that is appended to at any time: each is sealed for itself, with what stands before it in the clear.
//!
//! ```text
//! frame = what is about it (in the clear, bound), piece, …, last piece
//! piece = 65,536 bytes sealed + tag of 16         last piece = at most as many, sealed with the mark
//! ```
//! An empty frame has one empty piece. A frame's number must be its own in the file: the same number with other bytes would be
//! the same nonce twice. Sealing the same frame again gives the same bytes, so that a write that has failed may be repeated.

use crate::head::{DataKey, Place};
use crate::stream::{CHUNK_BYTES, SEALED_CHUNK_BYTES};
use crate::{Fault, TAG_BYTES};

/// Bytes of a sealed frame that holds so many.
pub fn sealed_frame_bytes(bytes: usize) -> usize {
    bytes + bytes.div_ceil(CHUNK_BYTES).max(1) * TAG_BYTES
}

/// Seals a frame of this number and appends it to `out`; `about` (at most 48 bytes) must be the same when it is opened.
///
/// # Errors
/// [`Fault::TooLong`]
pub fn seal_frame(
    key: &DataKey,
    number: u64,
    about: &[u8],
    frame: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let (mut rest, mut piece) = (frame, 0);
    loop {
        let (first, after) = rest.split_at(rest.len().min(CHUNK_BYTES));
        let from = out.len();
        out.extend_from_slice(first);
        let place = Place {
            number,
            piece,
            is_last: after.is_empty(),
        };
        key.seal(place, about, out, from)?;
        if after.is_empty() {
            return Ok(());
        }
        (rest, piece) = (after, piece + 1);
    }
}

/// Opens a frame and appends what it holds to `out`.
///
/// # Errors
/// [`Fault::Broken`]; what is in `out` then is of no use.
pub fn open_frame(
    key: &DataKey,
    number: u64,
    about: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let (mut rest, mut piece) = (sealed, 0);
    loop {
        let (first, after) = rest.split_at(rest.len().min(SEALED_CHUNK_BYTES));
        let from = out.len();
        out.extend_from_slice(first);
        let place = Place {
            number,
            piece,
            is_last: after.is_empty(),
        };
        let bytes = key.open(place, about, &mut out[from..])?.len();
        out.truncate(from + bytes);
        if after.is_empty() {
            return Ok(());
        }
        (rest, piece) = (after, piece + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::{keys, random};
    use crate::head::{self, Kind};

    fn key(seed: u8) -> DataKey {
        let made = head::make(keys(&["k"]).current(), Kind::Segment, b"", &random(seed));
        made.unwrap().1
    }

    fn sealed(key: &DataKey, number: u64, about: &[u8], frame: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        seal_frame(key, number, about, frame, &mut out).unwrap();
        out.split_off(6)
    }

    fn opened(key: &DataKey, number: u64, about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let done = open_frame(key, number, about, sealed, &mut out);
        done.ok().map(|()| out)
    }

    #[test]
    fn frames_open_with_their_number_and_head_in_their_file_only() {
        let (mine, other) = (key(1), key(2));
        for len in [0, 1, 100, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 9] {
            let frame = vec![b'x'; len];
            let bytes = sealed(&mine, 7, b"head", &frame);
            assert_eq!(bytes.len(), sealed_frame_bytes(len));
            assert_eq!(opened(&mine, 7, b"head", &bytes), Some(frame.clone()));
            assert_eq!(sealed(&mine, 7, b"head", &frame), bytes, "again, the same");
            assert_eq!(opened(&mine, 8, b"head", &bytes), None);
            assert_eq!(opened(&mine, 7, b"heaD", &bytes), None);
            assert_eq!(opened(&other, 7, b"head", &bytes), None);
            for len in (0..bytes.len()).step_by(4099).chain([bytes.len() - 1]) {
                assert_eq!(
                    opened(&mine, 7, b"head", &bytes[..len]),
                    None,
                    "cut at {len}"
                );
            }
            let longer = [&bytes[..], &bytes].concat();
            assert_eq!(opened(&mine, 7, b"head", &longer), None);
        }
        let mut out = Vec::new();
        let too_much = seal_frame(&mine, 1, &[0; 49], b"", &mut out);
        assert_eq!(too_much, Err(Fault::TooLong));
    }
}
