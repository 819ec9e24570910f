//! The payload of FUNCTION DUMP and FUNCTION RESTORE, as Redis 7.2 has it.
//!
//! ```text
//! (245 u8 | code: string of an RDB file) for each library | RDB version u16 LE | CRC-64 of all before, u64 LE
//! string: length, bytes | 0xc3, compressed length, length, LZF | 0xc0..0xc2, integer of 1, 2 or 4 bytes LE
//! length: 00xxxxxx | 01xxxxxx u8 | 0x80 u32 BE | 0x81 u64 BE
//! ```

/// The kind of record that a library is.
const FUNCTION: u8 = 245;
/// The kind of the time before Redis 7.0 was released.
const FUNCTION_EARLY: u8 = 246;
/// The version of the format that is written, and the latest that is read.
const VERSION: u16 = 11;
const FOOTER_BYTES: usize = 10;
/// Bytes of a library.
const CODE_BYTES_MAX: usize = 512 << 20;

/// What is said of a payload that has another version or checksum.
const BAD_FOOTER: &str = "DUMP payload version or checksum are wrong";
const BAD_BODY: &str = "failed loading the given functions payload";

/// The payload of these libraries' texts.
pub fn dump<'a>(codes: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for code in codes {
        out.push(FUNCTION);
        write_len(code.len(), &mut out);
        out.extend_from_slice(code);
    }
    out.extend(VERSION.to_le_bytes());
    out.extend(crc64(&out).to_le_bytes());
    out
}

fn write_len(len: usize, out: &mut Vec<u8>) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend((len as u16 | 0x4000).to_be_bytes()),
        _ => {
            out.push(0x81);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

/// The texts of a payload's libraries.
///
/// # Errors
/// The text of the refusal, without its code.
pub fn restore(payload: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let at = payload.len().checked_sub(FOOTER_BYTES).ok_or(BAD_FOOTER)?;
    let (body, footer) = payload.split_at(at);
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let is_whole = footer[2..] == crc64(&payload[..at + 2]).to_le_bytes();
    if version > VERSION || !is_whole {
        return Err(BAD_FOOTER.to_owned());
    }
    let mut input = Input { rest: body };
    let mut codes = Vec::new();
    while let Some((kind, rest)) = input.rest.split_first() {
        input.rest = rest;
        match *kind {
            FUNCTION => codes.push(input.string().ok_or(BAD_BODY)?),
            FUNCTION_EARLY => return Err("Pre-GA function format not supported".to_owned()),
            _ => return Err("given type is not a function".to_owned()),
        }
    }
    Ok(codes)
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn big_endian(&mut self, bytes: usize) -> Option<usize> {
        let bytes = self.take(bytes)?;
        let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        usize::try_from(bytes.iter().fold(0, fold)).ok()
    }

    fn len(&mut self) -> Option<usize> {
        let first = usize::from(*self.take(1)?.first()?);
        match first >> 6 {
            0 => Some(first),
            1 => Some((first & 0x3f) << 8 | self.big_endian(1)?),
            _ if first == 0x80 => self.big_endian(4),
            _ if first == 0x81 => self.big_endian(8),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        match *self.rest.first()? {
            encoding @ 0xc0..=0xc2 => {
                self.take(1)?;
                let mut word = [0; 4];
                let bytes = self.take(1 << (encoding - 0xc0))?;
                word[..bytes.len()].copy_from_slice(bytes);
                let unused = 32 - 8 * bytes.len() as u32;
                let n = (u32::from_le_bytes(word) << unused).cast_signed() >> unused;
                Some(n.to_string().into_bytes())
            }
            0xc3 => {
                self.take(1)?;
                let (packed, len) = (self.len()?, self.len()?);
                decompress(self.take(packed)?, len)
            }
            _ => {
                let len = self.len()?;
                self.take(len).map(<[u8]>::to_vec)
            }
        }
    }
}

/// LZF: runs of literal bytes, and references to what came before.
fn decompress(mut packed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > CODE_BYTES_MAX {
        return None;
    }
    let mut out: Vec<u8> = Vec::new();
    while let Some((&control, rest)) = packed.split_first() {
        packed = rest;
        let control = usize::from(control);
        if control < 32 {
            let (literal, rest) = packed.split_at_checked(control + 1)?;
            out.extend_from_slice(literal);
            packed = rest;
        } else {
            let mut run = control >> 5;
            if run == 7 {
                let (&more, rest) = packed.split_first()?;
                run += usize::from(more);
                packed = rest;
            }
            let (&low, rest) = packed.split_first()?;
            packed = rest;
            let back = ((control & 31) << 8 | usize::from(low)) + 1;
            let start = out.len().checked_sub(back)?;
            // A reference may reach into what it makes.
            for at in start..start + run + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// CRC-64 with the polynomial of Jones, reflected: what Redis ends its payloads with.
fn crc64(bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u64;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0x95AC_9329_AC4B_C9B5
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    let step = |crc: u64, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    bytes.iter().fold(0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_is_restored_and_nothing_else_is() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let codes = [vec![b'a'; 10], vec![b'b'; 1000], vec![b'c'; 100_000]];
        let payload = dump(codes.iter().map(Vec::as_slice));
        assert_eq!(restore(&payload).unwrap(), codes);
        assert_eq!(restore(&dump([].into_iter())).unwrap().len(), 0);
        for cut in 0..200 {
            assert!(restore(&payload[..cut]).is_err());
        }
        let with_footer = |body: &[u8]| {
            let mut payload = body.to_vec();
            payload.extend([11, 0]);
            payload.extend(crc64(&payload).to_le_bytes());
            restore(&payload)
        };
        assert_eq!(
            with_footer(&[1]),
            Err("given type is not a function".to_owned())
        );
        assert_eq!(with_footer(&[245, 9, 1]), Err(BAD_BODY.to_owned()));
        // Three literal bytes, then six more copied from three back.
        let packed = [245, 0xc3, 6, 9, 2, b'a', b'b', b'c', 0x80, 2];
        assert_eq!(with_footer(&packed).unwrap(), [b"abcabcabc"]);
        assert_eq!(
            with_footer(&[245, 0xc3, 2, 200, 0x20, 9]),
            Err(BAD_BODY.to_owned())
        );
    }
}
