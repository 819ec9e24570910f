//! Replies that are gathered from all cores: DBSIZE, KEYS, RANDOMKEY, CLIENT LIST and their like.

use protocol::{Reply, Resp};

use storage::Rng;

use crate::admin::info::Sections;
use crate::admin::peek::join_numbered;
use crate::admin::slot_stats::{self, Order, Told};
use crate::connection::Pieces;
use crate::scan::Scan;
use crate::tracking::Tracking;

/// How the parts become one reply.
#[derive(Clone, Debug)]
pub enum Join {
    /// Integers are added up.
    Sum,
    /// Arrays are put behind one another.
    Concat,
    /// One of the parts that are not null, at random.
    AnyNotNull,
    /// Text is put together and sent as one verbatim string.
    Text,
    /// The sum as 16-byte digests, printed as 40 hexadecimal digits.
    Digest,
    /// The one part that says something.
    Only,
    /// CLUSTER SLOT-STATS: in the order that is asked for.
    SlotStats(Order, Told),
    /// Numbered replies become one array.
    Numbered,
    /// `+OK` when all have answered.
    Ok,
    /// A number, when all have answered.
    Count(i64),
    /// CLIENT KILL ADDR: `+OK` if any was closed, else the refusal that there is no such client.
    KilledOne,
    /// INFO: its sections, once all cores have published.
    Info(Sections),
    /// CLIENT TRACKING REDIRECT: the client of this number was looked for, to be told with these options.
    Redirect(Box<(u64, Tracking)>),
    /// LATENCY HISTOGRAM of these commands, once all cores have published.
    Histograms(Vec<Box<[u8]>>),
    /// SCAN: the cores are asked one after the other.
    Scan(Box<Scan>),
    /// WATCH: the versions are the caller's, who takes the parts.
    Watch,
}

/// A reply under way.
pub struct Gather {
    /// The reply slot.
    pub seq: u64,
    /// Answers still to come.
    pub left: usize,
    /// What becomes of them.
    pub join: Join,
    /// The answers, with the core's number.
    pub parts: Vec<(u16, Vec<u8>)>,
    /// Large arrays, of which the first piece is the header.
    pub large: Vec<Pieces>,
}

impl Gather {
    /// The reply of `Join::Concat` once all parts are there, some of them large.
    pub fn finish_large(self, resp: Resp) -> Pieces {
        let mut pieces = vec![Vec::new()];
        let mut count = 0;
        for (_, part) in &self.parts {
            let (n, rest) = header(part);
            count += usize::try_from(n).unwrap_or(0);
            pieces.push(rest.to_vec());
        }
        for part in self.large {
            let mut parts = part.0.into_iter();
            let n = parts.next().map_or(0, |first| header(&first).0);
            count += usize::try_from(n).unwrap_or(0);
            pieces.extend(parts);
        }
        Reply::new(&mut pieces[0], resp).array(count);
        Pieces(pieces)
    }

    /// The reply, once all parts are there.
    pub fn finish(mut self, resp: Resp, rng: &mut Rng) -> Vec<u8> {
        self.parts.sort_by_key(|(core, _)| *core);
        let parts = || self.parts.iter().map(|(_, part)| part.as_slice());
        let mut out = Vec::new();
        // Versions and digests are plain bytes, of which the first may happen to be that of an error.
        let is_resp = !matches!(
            self.join,
            Join::Watch | Join::Digest | Join::Redirect(_) | Join::SlotStats(..) | Join::Info(_)
        );
        if let Some(error) = parts().find(|part| is_resp && part.first() == Some(&b'-')) {
            return error.to_vec();
        }
        let mut reply = Reply::new(&mut out, resp);
        match self.join {
            Join::Sum => reply.int(parts().map(|part| header(part).0).sum()),
            Join::Concat => {
                reply.array(
                    parts()
                        .map(|part| usize::try_from(header(part).0).unwrap_or(0))
                        .sum(),
                );
                parts().for_each(|part| reply.raw(header(part).1));
            }
            Join::AnyNotNull => {
                let found: Vec<&[u8]> = parts().filter(|part| !is_null(part)).collect();
                match found.get(rng.index(found.len())) {
                    Some(part) => reply.raw(part),
                    None => reply.null(),
                }
            }
            Join::Text => reply.verbatim("txt", &parts().collect::<Vec<_>>().concat()),
            Join::Only => parts().for_each(|part| reply.raw(part)),
            Join::Numbered => join_numbered(parts(), &mut reply),
            Join::SlotStats(order, told) => slot_stats::join(parts(), order, told, &mut reply),
            Join::Digest => {
                let sum = parts().fold(0u128, |sum, part| {
                    sum.wrapping_add(part.try_into().map_or(0, u128::from_le_bytes))
                });
                reply.simple(&format!("{sum:040x}"));
            }
            // Of INFO and LATENCY the parts are nothing: the text is the caller's.
            Join::Scan(..)
            | Join::Ok
            | Join::Watch
            | Join::Redirect(_)
            | Join::Info(_)
            | Join::Histograms(_) => reply.ok(),
            Join::Count(count) => reply.int(count),
            Join::KilledOne => {
                if parts().map(|part| header(part).0).sum::<i64>() > 0 {
                    reply.ok();
                } else {
                    reply.error(&protocol::Refusal::NoSuchClient);
                }
            }
        }
        out
    }
}

/// The number in a part's first line, and what follows that line.
pub fn header(part: &[u8]) -> (i64, &[u8]) {
    let end = memchr::memchr(b'\n', part).unwrap_or(part.len().saturating_sub(1));
    let number = part
        .get(1..end.saturating_sub(1))
        .and_then(protocol::number::parse_i64);
    (number.unwrap_or(0), part.get(end + 1..).unwrap_or_default())
}

fn is_null(part: &[u8]) -> bool {
    part.starts_with(b"$-1") || part.starts_with(b"_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(join: Join, parts: &[&[u8]]) -> Vec<u8> {
        let parts = parts
            .iter()
            .enumerate()
            .map(|(core, part)| (core as u16, part.to_vec()))
            .collect();
        Gather {
            seq: 0,
            left: 0,
            join,
            parts,
            large: Vec::new(),
        }
        .finish(Resp::V2, &mut Rng::new(1))
    }

    #[test]
    fn parts_become_one_reply() {
        assert_eq!(joined(Join::Sum, &[b":2\r\n", b":40\r\n"]), b":42\r\n");
        assert_eq!(
            joined(
                Join::Concat,
                &[b"*1\r\n$1\r\na\r\n", b"*0\r\n", b"*1\r\n$1\r\nb\r\n"]
            ),
            b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"
        );
        assert_eq!(
            joined(Join::AnyNotNull, &[b"$-1\r\n", b"$1\r\na\r\n"]),
            b"$1\r\na\r\n"
        );
        assert_eq!(joined(Join::AnyNotNull, &[b"$-1\r\n"]), b"$-1\r\n");
        assert_eq!(
            joined(Join::Sum, &[b":2\r\n", b"-ERR no\r\n"]),
            b"-ERR no\r\n"
        );
        // A key whose version was 45 (a minus sign) once left its WATCH without an answer.
        let version = 45u64.to_le_bytes();
        assert_eq!(joined(Join::Watch, &[&version]), b"+OK\r\n");
        assert_eq!(joined(Join::Text, &[b"a\n", b"b\n"]), b"$4\r\na\nb\n\r\n");
        assert_eq!(
            joined(Join::KilledOne, &[b":0\r\n"]),
            b"-ERR No such client\r\n"
        );
    }
}
