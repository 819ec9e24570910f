//! Members in replies, with their scores or without: a flat array in version 2, pairs in version 3.

use protocol::{Reply, Resp};

/// The header of `len` entries.
#[inline]
pub(super) fn header(reply: &mut Reply<'_>, len: usize, with_scores: bool) {
    reply.array(header_len(reply.resp(), len, with_scores));
}

/// How many elements the array of `len` entries has.
pub(super) fn header_len(resp: Resp, len: usize, with_scores: bool) -> usize {
    if with_scores && resp == Resp::V2 {
        len.saturating_mul(2)
    } else {
        len
    }
}

/// One entry.
#[inline]
pub(super) fn entry(reply: &mut Reply<'_>, member: &[u8], score: f64, with_scores: bool) {
    if with_scores {
        if reply.resp() == Resp::V3 {
            reply.array(2);
        }
        reply.bulk(member);
        reply.double(score);
    } else {
        reply.bulk(member);
    }
}
