//! Chunks of a file that is written once, from its beginning to its end.
//!
//! ```text
//! head (128 bytes), chunk 0, chunk 1, …, last chunk
//! chunk = 65,536 bytes sealed + tag of 16         last chunk = at most as many, sealed with the mark
//! ```
//! Nothing says how long a chunk is: all but the last one are full. An empty file has one empty chunk.

use crate::head::{DataKey, HEAD_BYTES, Place};
use crate::{Fault, TAG_BYTES};

/// Bytes in a chunk, but for the last one, which may have fewer.
pub const CHUNK_BYTES: usize = 64 << 10;
/// The same with its tag.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// How many bytes a sealed file of so many bytes holds; None if it is too short to be one.
pub fn plain_bytes(file_bytes: u64) -> Option<u64> {
    let sealed = file_bytes.checked_sub(HEAD_BYTES as u64)?;
    let chunks = sealed.div_ceil(SEALED_CHUNK_BYTES as u64).max(1);
    sealed.checked_sub(chunks * TAG_BYTES as u64)
}

/// Seals what it is given, in chunks.
pub struct Sealer {
    key: DataKey,
    next: u64,
    /// What is not sealed yet: at most a chunk, which may be the last one.
    rest: Vec<u8>,
}

impl Sealer {
    /// With the key of a new file.
    pub fn new(key: DataKey) -> Sealer {
        Sealer {
            key,
            next: 0,
            rest: Vec::with_capacity(CHUNK_BYTES),
        }
    }

    /// Takes bytes; appends the chunks that are full to `out`.
    ///
    /// # Errors
    /// [`Fault::TooLong`], never in practice.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        while self.rest.len() + bytes.len() > CHUNK_BYTES {
            let (first, after) = bytes.split_at(CHUNK_BYTES - self.rest.len());
            let from = out.len();
            out.extend_from_slice(&self.rest);
            out.extend_from_slice(first);
            self.rest.clear();
            self.seal(out, from, false)?;
            bytes = after;
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// That was all: appends the last chunk to `out`.
    ///
    /// # Errors
    /// As [`Sealer::push`]
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let from = out.len();
        out.extend_from_slice(&self.rest);
        self.seal(out, from, true)
    }

    fn seal(&mut self, out: &mut Vec<u8>, from: usize, is_last: bool) -> Result<(), Fault> {
        let place = Place {
            number: self.next,
            piece: 0,
            is_last,
        };
        self.next = self.next.checked_add(1).ok_or(Fault::TooLong)?;
        self.key.seal(place, &[], out, from)
    }
}

/// Opens chunks, one after the other.
pub struct Opener {
    key: DataKey,
    next: u64,
}

impl Opener {
    /// With the key of a file.
    pub fn new(key: DataKey) -> Opener {
        Opener { key, next: 0 }
    }

    /// Where the next chunk begins, bytes of the file.
    pub fn offset(&self) -> u64 {
        HEAD_BYTES as u64 + self.next * SEALED_CHUNK_BYTES as u64
    }

    /// Opens the next chunk, in its place. `is_last`: the file ends with it.
    ///
    /// # Errors
    /// [`Fault::Broken`] or [`Fault::CutOff`]; what is in `sealed` then is of no use.
    pub fn open<'b>(&mut self, sealed: &'b mut [u8], is_last: bool) -> Result<&'b [u8], Fault> {
        let place = Place {
            number: self.next,
            piece: 0,
            is_last,
        };
        let kept = is_last.then(|| sealed.to_vec());
        match self.key.open(place, &[], sealed) {
            Ok(plain) => {
                self.next += 1;
                Ok(plain)
            }
            Err(fault) => {
                // A file that is cut off between two chunks ends with one that is whole.
                let earlier = Place {
                    is_last: false,
                    ..place
                };
                let whole = kept.is_some_and(|mut kept| {
                    let opened = self.key.open(earlier, &[], &mut kept);
                    opened.is_ok()
                });
                Err(if whole { Fault::CutOff } else { fault })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::{keys, random};
    use crate::head::{self, Kind};

    /// A whole sealed file; the bytes come in pieces of such a size.
    fn sealed(plain: &[u8], piece: usize, seed: u8) -> Vec<u8> {
        let keys = keys(&["k"]);
        let made = head::make(keys.current(), Kind::Snapshot, b"", &random(seed));
        let (head, key) = made.unwrap();
        let (mut sealer, mut out) = (Sealer::new(key), head.to_vec());
        for piece in plain.chunks(piece) {
            sealer.push(piece, &mut out).unwrap();
        }
        sealer.finish(&mut out).unwrap();
        out
    }

    /// What it holds, or at which chunk it goes wrong.
    fn opened(file: &[u8]) -> Result<Vec<u8>, (u64, Fault)> {
        let keys = keys(&["k"]);
        let key = head::open(Some(&keys), Kind::Snapshot, b"", file).map_err(|fault| (0, fault))?;
        let (mut opener, mut plain) = (Opener::new(key), Vec::new());
        let mut rest = &file[HEAD_BYTES..];
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(SEALED_CHUNK_BYTES));
            let (at, mut chunk) = (opener.offset(), chunk.to_vec());
            let opened = opener.open(&mut chunk, after.is_empty());
            plain.extend(opened.map_err(|fault| (at, fault))?);
            if after.is_empty() {
                return Ok(plain);
            }
            rest = after;
        }
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 3 % 251) as u8).collect()
    }

    #[test]
    fn what_was_sealed_opens_whatever_its_length() {
        for len in [
            0,
            1,
            15,
            16,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
        ] {
            let plain = text(len);
            let whole = sealed(&plain, 1 << 20, 1);
            assert_eq!(plain_bytes(whole.len() as u64), Some(len as u64));
            assert_eq!(opened(&whole), Ok(plain.clone()), "{len}");
            for piece in [7, 1000, CHUNK_BYTES, CHUNK_BYTES + 5] {
                assert_eq!(
                    sealed(&plain, piece, 1),
                    whole,
                    "{len} in pieces of {piece}"
                );
            }
        }
        assert_eq!(plain_bytes(HEAD_BYTES as u64 + 15), None);
        assert_eq!(plain_bytes(3), None);
    }

    #[test]
    fn a_cut_at_any_byte_and_bytes_behind_the_end_are_found() {
        let file = sealed(&text(2 * CHUNK_BYTES + 100), 1 << 20, 1);
        let chunk = |n: usize| HEAD_BYTES + n * SEALED_CHUNK_BYTES;
        let ends = [chunk(0), chunk(1), chunk(2)];
        let near = ends.iter().flat_map(|end| end - 20..end + 20);
        for len in (0..file.len())
            .step_by(997)
            .chain(near)
            .chain([file.len() - 1])
        {
            let (at, fault) = opened(&file[..len]).unwrap_err();
            let cut = [chunk(1), chunk(2)].contains(&len);
            assert_eq!(fault == Fault::CutOff, cut, "cut at {len}: {fault}");
            if len > HEAD_BYTES {
                let whole = (len - HEAD_BYTES - 1) / SEALED_CHUNK_BYTES;
                assert_eq!(at, chunk(whole) as u64);
            }
        }
        for more in [1, 16, SEALED_CHUNK_BYTES] {
            let longer = [&file[..], &vec![0; more]].concat();
            assert_eq!(opened(&longer).unwrap_err().1, Fault::Broken);
        }
        let twice = [&file[..], &file[chunk(2)..]].concat();
        assert_eq!(opened(&twice).unwrap_err().1, Fault::Broken);
    }

    #[test]
    fn chunks_cannot_be_changed_exchanged_or_moved_to_another_file() {
        let plain = text(3 * CHUNK_BYTES);
        let (file, other) = (sealed(&plain, 1 << 20, 1), sealed(&plain, 1 << 20, 2));
        let chunk = |n: usize| HEAD_BYTES + n * SEALED_CHUNK_BYTES;
        for bit in (HEAD_BYTES * 8..file.len() * 8).step_by(7919) {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let at = (bit / 8 - HEAD_BYTES) / SEALED_CHUNK_BYTES;
            assert_eq!(opened(&file), Err((chunk(at) as u64, Fault::Broken)));
        }
        let (first, second) = (&file[chunk(0)..chunk(1)], &file[chunk(1)..chunk(2)]);
        for swapped in [
            [&file[..chunk(0)], second, first, &file[chunk(2)..]].concat(),
            [&file[..chunk(0)], second, &file[chunk(2)..]].concat(),
            [
                &file[..chunk(1)],
                &other[chunk(1)..chunk(2)],
                &file[chunk(2)..],
            ]
            .concat(),
            [&other[..chunk(0)], &file[chunk(0)..]].concat(),
        ] {
            assert_eq!(opened(&swapped).unwrap_err().1, Fault::Broken);
        }
        // No piece of the data shows.
        let shows = |window: &[u8]| plain.windows(16).any(|piece| piece == window);
        assert!(!file.windows(16).step_by(1009).any(shows));
    }
}
