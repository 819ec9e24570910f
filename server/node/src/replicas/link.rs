//! A replica as its connection's core and the thread of replicas both see it: numbers that one side writes and the other reads.
//!
//! ```text
//! core: REPLCONF ACK ──> acked, aof_acked, ack_ms ──> thread: which frames those are ──> acked_frame, aof_acked_frame ──> WAIT
//! core: a send ended ──> taken                    ──> thread: room for more (`WINDOW_BYTES`)
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};

use runtime::{ConnId, CoreId};

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a full copy to begin, or for a decision.
    Waits,
    /// The copy is being made.
    Copies,
    /// The copy is sent.
    Sends,
    /// It follows the stream.
    Online,
}

impl State {
    /// The name that INFO shows.
    pub fn name(self) -> &'static str {
        match self {
            State::Waits | State::Copies => "wait_bgsave",
            State::Sends => "send_bulk",
            State::Online => "online",
        }
    }
}

/// What a replica has said of itself before it asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The port that it listens to; 0 if it has not told.
    pub port: u16,
    /// Its address, if another than that of its connection.
    pub ip: Option<String>,
    /// It understands `+CONTINUE` with another history.
    pub psync2: bool,
    /// It wants the copy and nothing behind it.
    pub rdb_only: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Link {
    /// The number of the client.
    pub id: u64,
    /// Where its connection is.
    pub core: CoreId,
    /// Its connection.
    pub conn: ConnId,
    /// Its address, as INFO and ROLE show it.
    pub ip: String,
    /// What it has said of itself.
    pub said: Said,
    /// It said SYNC: it acknowledges nothing.
    pub is_early: bool,
    state: AtomicU8,
    /// Its connection is gone, or plays another role.
    gone: AtomicBool,
    taken: AtomicU64,
    acked: AtomicU64,
    aof_acked: AtomicU64,
    ack_ms: AtomicU64,
    acked_frame: AtomicU64,
    aof_acked_frame: AtomicU64,
}

impl Link {
    /// One of a connection that has just asked.
    pub fn new(
        (id, core, conn): (u64, CoreId, ConnId),
        ip: String,
        said: Said,
        is_early: bool,
        now_ms: u64,
    ) -> Link {
        Link {
            id,
            core,
            conn,
            ip: said.ip.clone().unwrap_or(ip),
            said,
            is_early,
            state: AtomicU8::new(State::Waits as u8),
            gone: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            aof_acked: AtomicU64::new(0),
            ack_ms: AtomicU64::new(now_ms),
            acked_frame: AtomicU64::new(0),
            aof_acked_frame: AtomicU64::new(0),
        }
    }

    /// How far it is.
    pub fn state(&self) -> State {
        match self.state.load(Acquire) {
            0 => State::Waits,
            1 => State::Copies,
            2 => State::Sends,
            _ => State::Online,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Release);
    }

    /// Its connection is no replica's any more.
    pub fn leave(&self) {
        self.gone.store(true, Release);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }

    /// So many bytes of the stream have left the connection's core.
    pub fn note_taken(&self, bytes: u64) {
        self.taken.store(bytes, Release);
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Acquire)
    }

    /// It has executed the stream up to this offset, and has it on its disk up to the other one.
    pub fn note_acked(&self, offset: u64, on_disk: Option<u64>, now_ms: u64) {
        self.acked.fetch_max(offset, Relaxed);
        self.aof_acked.fetch_max(on_disk.unwrap_or(0), Relaxed);
        self.touch(now_ms);
    }

    pub(super) fn touch(&self, now_ms: u64) {
        self.ack_ms.store(now_ms, Release);
    }

    /// The offset up to which it has executed the stream.
    pub fn acked(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    pub(super) fn aof_acked(&self) -> u64 {
        self.aof_acked.load(Relaxed)
    }

    /// Milliseconds since it was heard of.
    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.ack_ms.load(Acquire))
    }

    /// Notes which frames it has acknowledged; whether that is news.
    pub(super) fn set_acked_frames(&self, frame: u64, aof_frame: u64) -> bool {
        let before = self.acked_frame.swap(frame, Release);
        let aof_before = self.aof_acked_frame.swap(aof_frame, Release);
        (before, aof_before) != (frame, aof_frame)
    }

    /// Whether it has executed this frame, or has it on its disk.
    pub fn has(&self, frame: u64, on_disk: bool) -> bool {
        let known = match on_disk {
            true => &self.aof_acked_frame,
            false => &self.acked_frame,
        };
        self.state() == State::Online && known.load(Acquire) >= frame
    }
}

/// What a connection knows of its being a replica's.
#[derive(Debug, Default)]
pub struct Side {
    /// What it has said of itself.
    pub said: Said,
    /// Once it has asked.
    pub link: Option<Arc<Link>>,
    /// Bytes of the stream that have come to its core.
    delivered: u64,
}

impl Side {
    /// Whether it is that replica's.
    pub fn is_of(&self, link: &Arc<Link>) -> bool {
        let own = self.link.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(own, link))
    }

    /// Bytes of the stream have come.
    pub fn deliver(&mut self, bytes: usize) {
        self.delivered += bytes as u64;
    }

    /// So many bytes wait to be sent: all others have left. Whether it is a replica's.
    pub fn note_waiting(&self, bytes: usize) -> bool {
        if let Some(link) = &self.link {
            link.note_taken(self.delivered.saturating_sub(bytes as u64));
        }
        self.link.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_count_once_the_replica_is_online() {
        let who = (7, CoreId(0), ConnId::from_u64(1));
        let said = Said {
            ip: Some("10.0.0.1".to_owned()),
            ..Said::default()
        };
        let link = Arc::new(Link::new(who, "127.0.0.1".to_owned(), said, false, 100));
        assert_eq!(
            (link.ip.as_str(), link.state().name()),
            ("10.0.0.1", "wait_bgsave")
        );
        link.note_acked(50, None, 200);
        link.note_acked(40, Some(30), 300);
        assert_eq!(
            (link.acked(), link.aof_acked(), link.silent_ms(350)),
            (50, 30, 50)
        );
        assert!(link.set_acked_frames(5, 3) && !link.set_acked_frames(5, 3));
        assert!(!link.has(5, false));
        link.set_state(State::Online);
        assert!(link.has(5, false) && !link.has(6, false));
        assert!(link.has(3, true) && !link.has(4, true));
        let mut side = Side::default();
        assert!(!side.is_of(&link) && !side.note_waiting(0));
        side.link = Some(Arc::clone(&link));
        side.deliver(100);
        assert!(side.is_of(&link) && side.note_waiting(30));
        assert_eq!(link.taken(), 70);
    }
}
