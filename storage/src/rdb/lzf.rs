//! LZF: what Redis compresses strings with.
//!
//! ```text
//! 000nnnnn                     n+1 bytes follow as they are
//! nnnddddd dddddddd            n+2 bytes (n 1..6) again, from d+1 bytes before
//! 111ddddd nnnnnnnn dddddddd   n+9 bytes again
//! ```

use crate::rdb::Fault;

/// What a byte of input becomes at most: three make 264.
const GROWTH_MAX: usize = 88;

/// The `len` bytes that `input` stands for.
pub(super) fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
    if len > input.len().saturating_mul(GROWTH_MAX) {
        return Err(Fault::Format);
    }
    let mut out = Vec::with_capacity(len);
    let mut input = input.iter();
    while let Some(&control) = input.next() {
        let (count, high) = (usize::from(control >> 5), usize::from(control & 0x1f));
        if count == 0 {
            let literal = input.as_slice();
            let (run, rest) = literal.split_at_checked(high + 1).ok_or(Fault::Format)?;
            out.extend_from_slice(run);
            input = rest.iter();
        } else {
            let mut next = || input.next().map(|byte| usize::from(*byte));
            let more = if count == 7 { next() } else { Some(0) };
            let (more, low) = more.zip(next()).ok_or(Fault::Format)?;
            let back = (high << 8 | low) + 1;
            let from = out.len().checked_sub(back).ok_or(Fault::Format)?;
            let mut left = count + more + 2;
            // What is copied may itself be copied again: in pieces of what is there.
            while left > 0 {
                let piece = left.min(out.len() - from);
                out.extend_from_within(from..from + piece);
                left -= piece;
            }
        }
        if out.len() > len {
            return Err(Fault::Format);
        }
    }
    if out.len() == len {
        Ok(out)
    } else {
        Err(Fault::Format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_again() {
        let table: [(&[u8], &[u8]); 4] = [
            (&[2, b'a', b'b', b'c'], b"abc"),
            (&[0, b'a', 0x20, 0], b"aaaa"),
            (&[1, b'a', b'b', 0xe0, 1, 1], b"abababababab"),
            (&[], b""),
        ];
        for (input, output) in table {
            assert_eq!(decompress(input, output.len()).unwrap(), output);
            assert!(decompress(input, output.len() + 1).is_err());
        }
        assert!(decompress(&[1, b'a', b'b', 0xe0, 1, 1], 11).is_err());
    }

    #[test]
    fn broken_input_is_refused() {
        let table: [&[u8]; 5] = [
            &[2, b'a'],
            &[0x20, 0],
            &[0, b'a', 0x20],
            &[0, b'a', 0xe0, 1],
            &[0, b'a', 0x20, 1],
        ];
        for input in table {
            for len in [0, 1, 2, 4, 10, 100, usize::MAX] {
                assert!(decompress(input, len).is_err(), "{input:?}");
            }
        }
    }
}
