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

/// Slots of the table of places where three bytes were seen last, as bits.
const PLACES_BITS: u32 = 10;
/// How far back a run may begin, and how long it may be.
const BACK_MAX: usize = 1 << 13;
const RUN_MAX: usize = 264;
const LITERAL_MAX: usize = 32;

/// The bytes that stand for `input`, if they are fewer. A run is looked for where its first three bytes were seen last.
pub(super) fn compress(input: &[u8]) -> Option<Vec<u8>> {
    let mut places = [0u32; 1 << PLACES_BITS];
    let mut out = Vec::with_capacity(input.len());
    let (mut at, mut literal) = (0, 0);
    while let Some(&[a, b, c]) = input.get(at..).and_then(|rest| rest.first_chunk::<3>()) {
        let three = u32::from_le_bytes([a, b, c, 0]);
        let place = (three.wrapping_mul(0x9e37_79b1) >> (32 - PLACES_BITS)) as usize;
        // (Places are kept plus one, so that 0 is none. Behind 4 GB nothing is found.)
        let seen = core::mem::replace(&mut places[place], at as u32 + 1) as usize;
        let from = seen.wrapping_sub(1);
        if seen == 0 || from >= at || at - from > BACK_MAX || input[from..from + 3] != [a, b, c] {
            at += 1;
            continue;
        }
        let longest = (input.len() - at).min(RUN_MAX);
        let same = |n: &usize| input[from + n] == input[at + n];
        let run = 3 + (3..longest).take_while(same).count();
        write_literals(&input[literal..at], &mut out);
        let (back, count) = (at - from - 1, run - 2);
        if count < 7 {
            out.push((count << 5 | back >> 8) as u8);
        } else {
            out.extend_from_slice(&[(7 << 5 | back >> 8) as u8, (count - 7) as u8]);
        }
        out.push(back as u8);
        at += run;
        literal = at;
        if out.len() >= input.len() {
            return None;
        }
    }
    write_literals(&input[literal..], &mut out);
    (out.len() < input.len()).then_some(out)
}

fn write_literals(bytes: &[u8], out: &mut Vec<u8>) {
    for piece in bytes.chunks(LITERAL_MAX) {
        out.push((piece.len() - 1) as u8);
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let mut rng = crate::Rng::new(1);
        for case in 0..3000usize {
            let letters = 1 + case % 9 * (case % 30);
            let len = rng.index([5, 70, 600, 20_000][case % 4]);
            let text: Vec<u8> = (0..len).map(|_| rng.index(letters + 1) as u8).collect();
            if let Some(packed) = compress(&text) {
                assert!(packed.len() < text.len());
                assert_eq!(decompress(&packed, text.len()), Ok(text));
            }
        }
        assert!(compress(&[7; 1000]).is_some_and(|packed| packed.len() < 20));
        assert_eq!(compress(b"abcdefgh"), None);
    }

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
