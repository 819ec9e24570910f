//! One replica at the desk: what it is sent next, and how far it lags.

use std::sync::Arc;

use migration::Backlog;

use super::{Ask, Link, Post, State, Told};
use crate::config::OutputLimit;
use crate::control::sealed::Input;
use crate::mail::Mail;

/// Bytes that may be at a replica's core.
pub(super) const WINDOW_BYTES: u64 = 2 << 20;
/// Bytes that go to a core at once.
const PIECE_BYTES: usize = 256 << 10;

/// How far a replica is.
pub(super) enum Stage {
    /// Another one is expected: it is judged later.
    Held(Ask),
    /// It waits for a full copy to begin.
    Waits,
    /// The copy is being made.
    Copies,
    /// The copy is sent: so many bytes are left of it.
    Sends(Box<Input>, u64),
    /// It follows the stream.
    Streams,
    /// It wanted the copy alone, and has it: it is disconnected once all has left.
    Done,
}

/// See the module's head.
pub(super) struct Replica {
    pub(super) link: Arc<Link>,
    pub(super) stage: Stage,
    /// What goes before everything else.
    pub(super) head: Vec<u8>,
    /// The offset that it is sent the stream from next, once it has begun.
    pub(super) at: u64,
    /// Bytes that have gone to its core.
    posted: u64,
    /// Since when it lags by more than the soft limit, unix ms.
    soft_since_ms: Option<u64>,
    /// What had left its core when that last changed, and when that was.
    progress: (u64, u64),
}

impl Replica {
    pub(super) fn new(link: Arc<Link>, stage: Stage) -> Replica {
        Replica {
            link,
            stage,
            head: Vec::new(),
            at: 0,
            posted: 0,
            soft_since_ms: None,
            progress: (0, 0),
        }
    }

    /// Whether `at` is the place of the stream that it needs next.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Held(_) | Stage::Waits | Stage::Done)
    }

    /// The copy that it waits for is being made; the stream begins there.
    pub(super) fn begin_copy(&mut self, id: &str, offset: u64) {
        if !self.link.is_early {
            let line = format!("+FULLRESYNC {id} {offset}\r\n");
            self.head.extend_from_slice(line.as_bytes());
        }
        (self.stage, self.at) = (Stage::Copies, offset);
        self.link.set_state(State::Copies);
    }

    /// The copy has been made.
    pub(super) fn begin_sending(&mut self, input: Box<Input>, bytes: u64, now_ms: u64) {
        self.head
            .extend_from_slice(format!("${bytes}\r\n").as_bytes());
        self.stage = Stage::Sends(input, bytes);
        self.progress = (0, now_ms);
        self.link.set_state(State::Sends);
    }

    /// One that waits is told that it has not been forgotten: an empty line, which it passes over.
    pub(super) fn reassure(&mut self) {
        let waits = matches!(self.stage, Stage::Held(_) | Stage::Waits | Stage::Copies);
        if waits && self.head.is_empty() {
            self.head.push(b'\n');
        }
    }

    /// Whether nothing has been heard of it for too long: no acknowledgement, or of one that is sent its copy no progress.
    pub(super) fn is_silent(&mut self, now_ms: u64, timeout_ms: u64) -> bool {
        match self.stage {
            Stage::Streams => !self.link.is_early && self.link.silent_ms(now_ms) > timeout_ms,
            Stage::Sends(..) | Stage::Done => {
                let taken = self.link.taken();
                if taken != self.progress.0 || self.progress.1 == 0 {
                    self.progress = (taken, now_ms);
                }
                now_ms.saturating_sub(self.progress.1) > timeout_ms
            }
            _ => false,
        }
    }

    /// Whether it lags by more than `client-output-buffer-limit replica` allows; what the backlog holds anyway counts for
    /// nothing, as in Redis.
    pub(super) fn is_over(
        &mut self,
        (limit, backlog_bytes): (OutputLimit, u64),
        end: u64,
        now_ms: u64,
    ) -> bool {
        if !self.has_begun() {
            return false;
        }
        let lag = end.saturating_sub(self.at) + self.posted.saturating_sub(self.link.taken());
        let is_beyond = |bytes: u64| bytes > 0 && lag > bytes.max(backlog_bytes);
        if is_beyond(limit.hard_bytes) {
            return true;
        }
        if !is_beyond(limit.soft_bytes) {
            self.soft_since_ms = None;
            return false;
        }
        let since_ms = *self.soft_since_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(since_ms) > 1000 * u64::from(limit.soft_seconds)
    }

    /// Sends what there is room for; whether its core's mailbox is full.
    ///
    /// # Errors
    /// Why it is to be disconnected.
    pub(super) fn send(
        &mut self,
        backlog: Option<&Backlog>,
        now_ms: u64,
        post: Post<'_>,
    ) -> Result<bool, String> {
        loop {
            let waits = self.posted.saturating_sub(self.link.taken());
            if waits >= WINDOW_BYTES {
                return Ok(false);
            }
            if self.head.is_empty() {
                self.head = self.next(backlog, now_ms)?;
            }
            if self.head.is_empty() {
                return match self.stage {
                    Stage::Done if waits == 0 => {
                        Err("it wanted a copy alone, and has it".to_owned())
                    }
                    _ => Ok(false),
                };
            }
            let piece = core::mem::take(&mut self.head);
            let bytes = piece.len() as u64;
            let mail = Mail::Replica(Told::Stream(Arc::clone(&self.link), piece));
            match post(self.link.core, mail).map_err(|mail| *mail) {
                Ok(()) => self.posted += bytes,
                Err(Mail::Replica(Told::Stream(_, piece))) => {
                    self.head = piece;
                    return Ok(true);
                }
                Err(_) => return Ok(true),
            }
        }
    }

    /// The next bytes of what it is sent; none when there are none.
    fn next(&mut self, backlog: Option<&Backlog>, now_ms: u64) -> Result<Vec<u8>, String> {
        match &mut self.stage {
            Stage::Sends(input, left) => {
                let mut piece = vec![0; PIECE_BYTES.min(*left as usize)];
                let read = input.read(&mut piece).map_err(|why| why.to_string())?;
                if read == 0 && *left > 0 {
                    return Err("the file of its copy ends too early".to_owned());
                }
                piece.truncate(read);
                *left -= read as u64;
                if *left == 0 {
                    self.end_copy(now_ms);
                }
                Ok(piece)
            }
            Stage::Streams => {
                let mut piece = Vec::new();
                while piece.len() < PIECE_BYTES {
                    let read = backlog.and_then(|backlog| backlog.read(self.at));
                    let bytes = read.ok_or("the stream is not here any more")?;
                    if bytes.is_empty() {
                        break;
                    }
                    let bytes = &bytes[..bytes.len().min(PIECE_BYTES - piece.len())];
                    piece.extend_from_slice(bytes);
                    self.at += bytes.len() as u64;
                }
                Ok(piece)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn end_copy(&mut self, now_ms: u64) {
        if self.link.said.rdb_only {
            self.stage = Stage::Done;
            return;
        }
        self.stage = Stage::Streams;
        self.link.touch(now_ms);
        self.link.set_state(State::Online);
    }
}

#[cfg(test)]
mod tests {
    use runtime::{ConnId, CoreId};

    use super::*;
    use crate::replicas::Said;

    fn streams() -> Replica {
        let who = (1, CoreId(0), ConnId::from_u64(1));
        let link = Link::new(who, "::1".to_owned(), Said::default(), false, 0);
        Replica::new(Arc::new(link), Stage::Streams)
    }

    /// One that reads nothing has no more than a window at its core, and is disconnected when it lags by more than the limit.
    #[test]
    fn who_lags_too_far_behind_is_told_and_writers_are_not() {
        let (mut replica, mut backlog, mut sent) = (streams(), Backlog::at(0), Vec::new());
        let stream: Vec<u8> = (0..8 << 20).map(|n: u32| n as u8).collect();
        backlog.append(&stream);
        let mut send = |replica: &mut Replica, is_full: bool| {
            let mut post = |_, mail| match mail {
                Mail::Replica(Told::Stream(_, bytes)) if !is_full => {
                    sent.extend_from_slice(&bytes);
                    Ok(())
                }
                mail => Err(Box::new(mail)),
            };
            let full = replica.send(Some(&backlog), 0, &mut post).unwrap();
            assert_eq!(full, is_full);
            sent.len()
        };
        assert_eq!(
            send(&mut replica, true),
            0,
            "the mailbox is full: nothing is lost"
        );
        let at_core = send(&mut replica, false);
        assert!((WINDOW_BYTES as usize..=WINDOW_BYTES as usize + PIECE_BYTES).contains(&at_core));
        assert_eq!(send(&mut replica, false), at_core);
        let limit = |hard_bytes, soft_bytes| OutputLimit {
            hard_bytes,
            soft_bytes,
            soft_seconds: 1,
        };
        let end = stream.len() as u64;
        assert!(!replica.is_over((limit(0, 0), 1), end, 0));
        assert!(replica.is_over((limit(end - 1, 0), 1), end, 0));
        assert!(!replica.is_over((limit(end, 0), 1), end, 0));
        assert!(
            !replica.is_over((limit(1, 0), end), end, 0),
            "the backlog has it anyway"
        );
        assert!(
            !replica.is_over((limit(0, 1), 1), end, 5_000),
            "for a moment"
        );
        assert!(!replica.is_over((limit(0, 1), 1), end, 6_000));
        assert!(replica.is_over((limit(0, 1), 1), end, 6_001));
        // It reads on: all of the stream comes, in its order.
        let mut taken = at_core;
        while taken < stream.len() {
            replica.link.note_taken(taken as u64);
            taken = send(&mut replica, false);
        }
        replica.link.note_taken(end);
        assert!(!replica.is_over((limit(1, 1), 1), end, 9_000));
        assert!(sent == stream);
    }
}
