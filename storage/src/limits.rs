//! When a collection leaves its compact form: the `*-max-*` options of Redis 7.2, with its defaults.

/// Limits of the compact forms. Counts are elements, `_bytes` are bytes of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `list-max-listpack-size`: positive = elements of one chunk (at most 8 KiB all the same);
    /// -1 to -5 = bytes of one chunk: 4, 8, 16, 32, 64 KiB.
    pub list_max_listpack_size: i32,
    /// `list-compress-depth`: kept for CONFIG; chunks are never compressed.
    pub list_compress_depth: u32,
    /// `hash-max-listpack-entries`: fields.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value`: bytes of a field or of a value.
    pub hash_max_listpack_value_bytes: usize,
    /// `set-max-intset-entries`: members of a set of integers.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`: members.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value`: bytes of a member.
    pub set_max_listpack_value_bytes: usize,
    /// `zset-max-listpack-entries`: members.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value`: bytes of a member.
    pub zset_max_listpack_value_bytes: usize,
    /// `stream-node-max-bytes`: bytes of a node in Redis's encoding; 0 for no limit.
    pub stream_node_max_bytes: usize,
    /// `stream-node-max-entries`: entries of a node, removed ones included; 0 for no limit.
    pub stream_node_max_entries: u64,
    /// Bytes of zeros that an effect may put before what it writes to a string: the longest string that requests may make.
    pub string_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            hash_max_listpack_entries: 512,
            hash_max_listpack_value_bytes: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value_bytes: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value_bytes: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            string_bytes_max: 512 << 20,
        }
    }
}

/// No packed block grows past this, whatever the limits say (as Redis, whose listpack stops at 1 GiB).
pub(crate) const PACKED_BYTES_MAX: usize = 1 << 30;

/// What one chunk of a list may hold, decoded from `list_max_listpack_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkLimit {
    /// Bytes in Redis's encoding of the chunk.
    Bytes(usize),
    /// Elements, and `CHUNK_SAFETY_BYTES`.
    Count(usize),
}

/// A chunk limited by count still ends at 8 KiB, as in Redis.
const CHUNK_SAFETY_BYTES: usize = 8192;

impl ChunkLimit {
    /// Reads the option: 0 counts as 1, below -5 counts as -5.
    pub(crate) fn of(list_max_listpack_size: i32) -> Self {
        match list_max_listpack_size {
            0 => Self::Count(1),
            1.. => Self::Count(list_max_listpack_size as usize),
            -1 => Self::Bytes(4 << 10),
            -2 => Self::Bytes(8 << 10),
            -3 => Self::Bytes(16 << 10),
            -4 => Self::Bytes(32 << 10),
            _ => Self::Bytes(64 << 10),
        }
    }

    /// Whether a chunk of `bytes` and `count` is too large.
    pub(crate) fn exceeded(self, bytes: usize, count: usize) -> bool {
        match self {
            Self::Bytes(max) => bytes > max,
            Self::Count(max) => bytes > CHUNK_SAFETY_BYTES || count > max,
        }
    }

    /// Whether a chunk is small enough (half the limit) for the list to be called a listpack again.
    pub(crate) fn at_most_half(self, bytes: usize, count: usize) -> bool {
        match self {
            Self::Bytes(max) => bytes <= max / 2,
            Self::Count(max) => count <= max / 2,
        }
    }

    /// The bytes that a full chunk takes at most (a lone element may be longer).
    pub(crate) fn bytes_max(self) -> usize {
        match self {
            Self::Bytes(max) => max,
            Self::Count(_) => CHUNK_SAFETY_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_limit_reads_the_option_as_redis() {
        assert_eq!(ChunkLimit::of(-2), ChunkLimit::Bytes(8192));
        assert_eq!(ChunkLimit::of(-9), ChunkLimit::Bytes(65536));
        assert_eq!(ChunkLimit::of(0), ChunkLimit::Count(1));
        assert!(ChunkLimit::of(3).exceeded(10, 4));
        assert!(!ChunkLimit::of(3).exceeded(10, 3));
        assert!(ChunkLimit::of(3).exceeded(8193, 1));
        assert!(!ChunkLimit::of(-1).exceeded(4096, 4096));
        assert!(ChunkLimit::of(128).at_most_half(1 << 20, 64));
        assert!(!ChunkLimit::of(-2).at_most_half(4097, 1));
    }
}
