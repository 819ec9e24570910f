//! An old Redis that cannot be a replica is written to: the effects of each write, in their order, over a client's connection.
//!
//! ```text
//!  frames of the log ──> Pen: MULTI, requests, SET position, EXEC ──> the old Redis          pen.rs
//!                                              └── read back on a new connection: what it has ──> Mark
//!  replies ──> judge: applied, refused, or not to be known                                     judged.rs
//!  who decides changes without REPLICAOF: turn.rs          writers that are left there: strays.rs
//! ```
//! **Exactly once.** The position is a key of the old Redis, set in the transaction of the effects: they are there together or not at all. A
//! connection first WATCHes that key and reads it, and each transaction is followed by the WATCH for the next: one that arrives late, after
//! its connection was given up, finds the key changed and does nothing.
//!
//! **Deadlines** pass at the old Redis by its own clock, and what is written there may come late: a key may have ended there that was
//! given more time here. So each PEXPIREAT and PERSIST is preceded by a PTTL, and a key that was gone, or may have begun anew, is said again
//! as a whole: this node records its value once more, in the order of everything else. The same is done for a key at which a request failed.

mod judged;
mod pen;
mod script;
pub mod strays;
mod turn;

pub use judged::{Judged, failed, judge};
pub use pen::{BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, Has, Pen, Transaction, Unsaid, WATCH};
pub use script::position_key;
pub use turn::{Home, Over, at_start};

use crate::Place;

/// The key of the old Redis, in its database 0, that says how far it has been written.
pub const POSITION_KEY: &[u8] = b"meridian:migration:position";
/// The version of what it holds.
const VERSION: &str = "1";

/// How far an old Redis has been written.
///
/// ```text
/// 1 <history of the fence> <offset of the fence> <sequence in this node's log>
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Where the source's history ended: no two flips have the same.
    pub fence: Place,
    /// The last sequence of this node's log that is there.
    pub sequence: u64,
}

impl Mark {
    /// Its text.
    pub fn text(&self) -> String {
        let Place { history, offset } = &self.fence;
        format!("{VERSION} {history} {offset} {}", self.sequence)
    }

    /// Reads it back; None for what is none.
    pub fn of(text: &[u8]) -> Option<Mark> {
        let text = core::str::from_utf8(text).ok()?;
        let words: Vec<&str> = text.split(' ').collect();
        let [VERSION, history, offset, sequence] = words[..] else {
            return None;
        };
        Some(Mark {
            fence: Place::new(history, offset.parse().ok()?),
            sequence: sequence.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_nothing_else_does() {
        let mark = Mark {
            fence: Place::new("ab", u64::MAX),
            sequence: 7,
        };
        assert_eq!(Mark::of(mark.text().as_bytes()), Some(mark.clone()));
        for text in [
            "",
            "1 ab 5",
            "2 ab 5 7",
            "1 ab 5 7 8",
            "1 ab x 7",
            "1 ab 5 -7",
            "\u{0}",
        ] {
            assert_eq!(Mark::of(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Mark::of(b"\xff"), None);
    }
}
