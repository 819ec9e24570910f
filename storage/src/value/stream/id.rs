//! The id of a stream's entry: milliseconds and a sequence within them.

use core::fmt;

/// An entry's id; ids of a stream only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix ms, or what the client chose instead.
    pub ms: u64,
    /// Among the entries of one millisecond.
    pub seq: u64,
}

impl StreamId {
    /// The lowest id; no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The highest id.
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The id of these parts.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The id behind this one; None behind the highest.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id before this one; None before the lowest.
    pub fn prev(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// As bytes: both parts, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ms.to_le_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_le_bytes());
        bytes
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::StreamId;

    #[test]
    fn neighbours() {
        let (id, max) = (StreamId::new, u64::MAX);
        for (low, high) in [
            (id(0, 0), id(0, 1)),
            (id(4, max), id(5, 0)),
            (id(max, 7), id(max, 8)),
        ] {
            assert_eq!((low.next(), high.prev()), (Some(high), Some(low)));
            assert!(low < high);
        }
        assert_eq!((StreamId::MIN.prev(), StreamId::MAX.next()), (None, None));
        assert_eq!(id(3, 14).to_string(), "3-14");
    }
}
