//! Output that waits for the log of writes: before everything else of its connection, in pieces, each with the position that
//! the log must have reached.
//!
//! ```text
//! a turn's replies ──hold(position)──> Gated ──next_released(how far the log has come)──> send
//! ```
//! A connection whose output has waited goes on by this way until all of it has been sent: so its order is kept.
//!
//! A reply may be there in one turn and leave in a later one: behind the reply of another core, or held back for one. As a rule the
//! gate of that later turn is the stricter one. It is not while the disk fails and reads are answered all the same: so what is
//! there when that begins is *withheld* until the log has come as far as it had been queued.

use std::collections::VecDeque;

use crate::connection::{Outbound, PIECE_BYTES_MIN};

/// See the module's head.
#[derive(Default)]
pub struct Gated {
    pieces: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// What is not in pieces yet waits for this position at least.
    until_min: u64,
}

impl Gated {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Outbound {
    /// Whether something waits for the log, or did and has not been sent.
    #[inline]
    pub fn is_gated(&self) -> bool {
        self.gated.is_some()
    }

    /// What is here but could not be sent yet (if there is anything) waits for a position of the log at least, whenever it could be.
    pub fn withhold(&mut self, until: u64) {
        if self.is_ready() || self.has_answered() || self.is_gated() {
            self.withhold_all(until);
        }
    }

    /// As `withhold`, also what is yet to come.
    pub fn withhold_all(&mut self, until: u64) {
        let gated = self.gated.get_or_insert_default();
        gated.until_min = gated.until_min.max(until);
    }

    /// What could be sent now waits until the log has come to a position.
    pub fn hold(&mut self, until: u64) {
        let until = until.max(self.gated.as_ref().map_or(0, |gated| gated.until_min));
        while self.is_ready() {
            // (Of a piece that a connection of TLS has begun to send only the rest.)
            let piece = self.next_part(usize::MAX);
            if piece.is_empty() {
                continue;
            }
            let gated = self.gated.get_or_insert_default();
            gated.bytes += piece.len();
            gated.pieces.push_back((until, piece));
        }
    }

    /// What has waited for the log and may leave now that it has come so far: as much as goes together.
    pub fn next_released(&mut self, position: u64) -> Vec<u8> {
        let Some(gated) = &mut self.gated else {
            return Vec::new();
        };
        let mut out: Vec<u8> = Vec::new();
        while let Some((until, piece)) = gated.pieces.front_mut() {
            let is_full = !out.is_empty() && out.len() + piece.len() > PIECE_BYTES_MIN;
            if *until > position || is_full {
                break;
            }
            gated.bytes -= piece.len();
            match out.is_empty() {
                true => out = core::mem::take(piece),
                false => out.extend_from_slice(piece),
            }
            gated.pieces.pop_front();
        }
        if gated.pieces.is_empty() && gated.until_min <= position {
            self.gated = None;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Queues;
    use crate::stats::Call;

    fn say(outbound: &mut Outbound, text: &[u8], until: u64) {
        outbound.out.extend_from_slice(text);
        outbound.hold(until);
    }

    #[test]
    fn output_leaves_in_order_when_the_log_has_come_so_far() {
        let mut outbound = Outbound::default();
        for (text, until) in [(&b"a"[..], 3), (b"b", 3), (b"c", 5), (b"d", 0)] {
            say(&mut outbound, text, until);
        }
        assert_eq!((outbound.bytes(), outbound.is_ready()), (4, false));
        assert_eq!(outbound.next_released(2), b"");
        assert_eq!(outbound.next_released(4), b"ab");
        assert_eq!(outbound.next_released(4), b"", "d comes behind c");
        assert_eq!(outbound.next_released(5), b"cd");
        assert!(!outbound.is_gated() && outbound.bytes() == 0);
    }

    /// A reply that is there waits for one before it; when that comes, the turn's own gate is open.
    #[test]
    fn what_is_withheld_waits_whatever_the_gate_of_its_turn() {
        let (queues, call) = (&mut Queues::default(), Call::NONE);
        let mut idle = Outbound::default();
        let blocked = idle.later(false, call, queues);
        idle.withhold(7);
        assert!(!idle.is_gated(), "nothing is there");
        idle.complete(blocked, b"nil", |_| ());
        assert_eq!(idle.next_piece(), b"nil");

        let mut outbound = Outbound::default();
        let read = outbound.later(false, call, queues);
        outbound.buffer().extend_from_slice(b"write");
        outbound.end(0, call);
        outbound.withhold(7);
        outbound.complete(read, b"read,", |_| ());
        outbound.hold(0);
        assert_eq!(outbound.next_released(6), b"");
        assert!(outbound.is_gated());
        assert_eq!(outbound.next_released(7), b"read,write");
        assert!(!outbound.is_gated());
    }

    /// All of a piece was held, of which a connection of TLS had sent a part already: that was sent twice.
    #[test]
    fn of_a_piece_that_is_being_sent_the_rest_is_held() {
        let mut outbound = Outbound::default();
        outbound.out = vec![b'x'; 2 * PIECE_BYTES_MIN];
        outbound.pile_up();
        let sent = outbound.next_part(1000).len();
        say(&mut outbound, b"y", 1);
        let mut rest = 0;
        while outbound.is_gated() {
            rest += outbound.next_released(1).len();
        }
        assert_eq!(sent + rest, 2 * PIECE_BYTES_MIN + 1);
    }
}
