//! Hot path. Hash slots: CRC16 of the hash tag, as in Redis Cluster, in every mode.
//!
//! Source: Redis Cluster specification, "Key distribution model" and "Hash tags".

/// Slots of a keyspace.
pub const SLOTS: usize = 16384;

/// One of the 16384 hash slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a key: the CRC16 of what stands between the first `{` and the next `}`, when that
    /// is not empty, else of the whole key.
    #[inline]
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16(hash_tag(key)) & (SLOTS as u16 - 1))
    }

    /// As an index.
    #[inline(always)]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[inline(always)]
fn hash_tag(key: &[u8]) -> &[u8] {
    if has_brace(key) { tagged(key) } else { key }
}

/// Whether there is a `{`: eight bytes at a time, since nearly all keys have none.
#[inline(always)]
fn has_brace(key: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let Some(last) = key.last_chunk::<8>() else {
        return key.contains(&b'{');
    };
    // Bytes that are zero after the exclusive or; a borrow may also mark a byte above such a one.
    let zeroes = |eight: &[u8; 8]| {
        let x = u64::from_le_bytes(*eight) ^ (EACH * b'{' as u64);
        x.wrapping_sub(EACH) & !x & (EACH << 7)
    };
    let (chunks, _) = key.as_chunks::<8>();
    chunks
        .iter()
        .fold(zeroes(last), |found, eight| found | zeroes(eight))
        != 0
}

#[cold]
fn tagged(key: &[u8]) -> &[u8] {
    if let Some(open) = key.iter().position(|&b| b == b'{') {
        let rest = &key[open + 1..];
        if let Some(close) = rest.iter().position(|&b| b == b'}')
            && close > 0
        {
            return &rest[..close];
        }
    }
    key
}

/// `TABLES[k][b]`: CRC of byte `b` followed by `k` zero bytes, so that eight bytes take eight
/// independent loads instead of a chain of eight.
const TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[k - 1][byte];
            tables[k][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
};

/// CRC16/XMODEM: polynomial 0x1021, start 0, not reflected.
#[inline]
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let (chunks, remainder) = bytes.as_chunks::<8>();
    for c in chunks {
        let [high, low] = (crc ^ u16::from_be_bytes([c[0], c[1]])).to_be_bytes();
        crc = TABLES[7][high as usize]
            ^ TABLES[6][low as usize]
            ^ TABLES[5][c[2] as usize]
            ^ TABLES[4][c[3] as usize]
            ^ TABLES[3][c[4] as usize]
            ^ TABLES[2][c[5] as usize]
            ^ TABLES[1][c[6] as usize]
            ^ TABLES[0][c[7] as usize];
    }
    for &byte in remainder {
        crc = (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ byte) as usize];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(Slot::of(b"foo").0, 12182);
        assert_eq!(Slot::of(b"hello").0, 866);
        assert_eq!(
            Slot::of(b"key:000000000001"),
            Slot(crc16(b"key:000000000001") & 16383)
        );
    }

    #[test]
    fn hash_tags_follow_the_specification() {
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"user1000"));
        assert_eq!(Slot::of(b"foo{}{bar}"), Slot(crc16(b"foo{}{bar}") & 16383));
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
        assert_eq!(Slot::of(b"foo{bar}{zap}"), Slot::of(b"bar"));
        assert_eq!(Slot::of(b"{"), Slot(crc16(b"{") & 16383));
    }

    #[test]
    fn eight_at_a_time_equals_one_at_a_time() {
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 + 11) as u8).collect();
        for end in 0..bytes.len() {
            let mut crc = 0u16;
            for &byte in &bytes[..end] {
                crc = (crc << 8) ^ TABLES[0][((crc >> 8) as u8 ^ byte) as usize];
            }
            assert_eq!(crc16(&bytes[..end]), crc);
        }
    }
}
