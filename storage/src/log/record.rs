//! A frame: what one turn of one core has changed.
//!
//! # Format, version 1
//! ```text
//!  0  bytes of the payload  u64        32  core that ran the turn     u16
//!  8  sequence              u64        34  kind                       u8    1 effects, 2 libraries, 3 end
//! 16  synced                u64        35  zero                       u8
//! 24  time, unix ms         u64        36  CRC-32C of the payload     u32
//! 44  payload                          40  CRC-32C of bytes 0..40     u32      all little-endian
//! ```
//!
//! `synced` is the last sequence that was known to be on the disk when the frame was made. It tells two things apart that look
//! alike after a crash: frames that never reached the disk, though later ones did (the disk may write in any order what was
//! not synced between), and frames that have been damaged since.

/// Bytes of a frame's head.
pub const FRAME_HEAD_BYTES: usize = 44;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Effects, one after the other, as [`crate::encode`] writes them.
    Effects,
    /// All libraries of functions, as FUNCTION DUMP tells them: those that were there before are gone.
    Libraries,
    /// Nothing: the server was stopped in order, and every frame before this one is on the disk.
    End,
}

impl FrameKind {
    fn number(self) -> u8 {
        match self {
            FrameKind::Effects => 1,
            FrameKind::Libraries => 2,
            FrameKind::End => 3,
        }
    }

    fn of(number: u8) -> Option<FrameKind> {
        match number {
            1 => Some(FrameKind::Effects),
            2 => Some(FrameKind::Libraries),
            3 => Some(FrameKind::End),
            _ => None,
        }
    }
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub len: u64,
    /// Its number: one more than that of the frame before it.
    pub sequence: u64,
    /// The last sequence that was known to be on the disk when this frame was made.
    pub synced: u64,
    /// When the turn was, unix ms.
    pub time_ms: u64,
    /// The core that ran it.
    pub core: u16,
    /// What the payload is.
    pub kind: FrameKind,
    /// See [`payload_sum`].
    pub payload_sum: u32,
}

/// The sum that a frame's head holds of its payload: CRC-32C.
pub fn payload_sum(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload)
}

impl FrameHead {
    /// Its bytes.
    pub fn encode(&self) -> [u8; FRAME_HEAD_BYTES] {
        let mut head = [0; FRAME_HEAD_BYTES];
        head[..8].copy_from_slice(&self.len.to_le_bytes());
        head[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        head[16..24].copy_from_slice(&self.synced.to_le_bytes());
        head[24..32].copy_from_slice(&self.time_ms.to_le_bytes());
        head[32..34].copy_from_slice(&self.core.to_le_bytes());
        head[34] = self.kind.number();
        head[36..40].copy_from_slice(&self.payload_sum.to_le_bytes());
        let sum = crc32c::crc32c(&head[..40]);
        head[40..].copy_from_slice(&sum.to_le_bytes());
        head
    }

    /// Reads a head from the front of `bytes`; None if it is none, or not whole.
    pub fn decode(bytes: &[u8]) -> Option<FrameHead> {
        let head = bytes.first_chunk::<FRAME_HEAD_BYTES>()?;
        let u64_at = |at: usize| {
            let word = head.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*word))
        };
        let u32_at = |at: usize| {
            let word = head.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*word))
        };
        if u32_at(40)? != crc32c::crc32c(&head[..40]) || head[35] != 0 {
            return None;
        }
        Some(FrameHead {
            len: u64_at(0)?,
            sequence: u64_at(8)?,
            synced: u64_at(16)?,
            time_ms: u64_at(24)?,
            core: u16::from_le_bytes([head[32], head[33]]),
            kind: FrameKind::of(head[34])?,
            payload_sum: u32_at(36)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_golden_and_read_back() {
        let head = FrameHead {
            len: 3,
            sequence: 0x0102,
            synced: 0x0100,
            time_ms: 1_700_000_000_000,
            core: 5,
            kind: FrameKind::Effects,
            payload_sum: payload_sum(b"123456789"),
        };
        assert_eq!(head.payload_sum, 0xe306_9283, "the check value of CRC-32C");
        let bytes = head.encode();
        let golden: [u8; 40] = [
            3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x68, 0xe5,
            0xcf, 0x8b, 1, 0, 0, 5, 0, 1, 0, 0x83, 0x92, 0x06, 0xe3,
        ];
        assert_eq!(bytes[..40], golden);
        assert_eq!(bytes[40..], crc32c::crc32c(&golden).to_le_bytes());
        assert_eq!(FrameHead::decode(&bytes), Some(head));
        assert_eq!(FrameHead::decode(&bytes[..43]), None);
        for bit in 0..FRAME_HEAD_BYTES * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHead::decode(&bytes), None, "bit {bit}");
        }
        for kind in [FrameKind::Libraries, FrameKind::End] {
            let head = FrameHead { kind, ..head };
            assert_eq!(FrameHead::decode(&head.encode()), Some(head));
        }
    }
}
