//! One pinned thread per core that waits, gathers, turns and submits. It knows nothing of RESP, keys or shards.
//!
//! A program implements [`Service`], opens [`Listener`]s and calls [`start`]; every core then loops:
//!
//! ```text
//!   wait (one system call, submits too) -> events -> mailboxes -> service.turn() -> recycle -> perform wishes
//! ```
//!
//! Two drivers do the waiting, io_uring and epoll, chosen at start ([`Choice`]); they behave alike and pass the same
//! tests. A third one has no kernel: the simulator's ([`sim`]). Non-goals: TLS, files, timers finer than a turn's `wake_at`, outgoing connections.
//!
//! System calls per turn: io_uring 1, however many connections were served; epoll 1 + one recv and one send per
//! connection served. Memory per core: the receive pool (8 MiB, touched as needed) and under 100 bytes a connection.

mod affinity;
mod buffer;
mod clock;
mod core;
mod driver;
mod epoll;
mod mailbox;
mod probe;
mod ring;
mod running;
mod service;
pub mod sim;
mod slab;
mod socket;
mod stats;
mod uring;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

pub use buffer::Arena;
pub use clock::{mono_us, process_cpu_us, ticks, ticks_per_us};
pub use probe::probe;
pub use running::{Handle, Running, start};
pub use service::{Cause, ConnId, CoreId, Event, Now, Op, Ops, Peer, Service, Span, Turn};
pub use socket::{Listener, Spread};
pub use stats::{Stats, StatsNow};

/// Largest piece of a send that is given to the kernel at once; between pieces comes [`Event::Progress`].
pub const SEND_PIECE_BYTES_MAX: usize = 256 << 10;

/// How long `Sent` of a small send may be held back when nothing else happens on its core. Long, since the shorter a
/// timer, the likelier setting it must program the hardware: at 1 ms it made a lone client's answers 2.5 us slower (under
/// virtualisation). Who waits for a `Sent` asks for a turn ([`Ops::again`], [`Ops::wake_at`]).
pub const SENT_HOLD_US_MAX: u64 = 100_000;

/// How long a stopping core waits for the sends that are under way.
pub const STOP_DRAIN_MS_MAX: u64 = 1000;

/// Cores of one runtime.
pub const CORES_MAX: usize = 1024;

/// How the cores do I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// io_uring when [`probe`] allows it, else epoll.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// How to run. `Config { cores: 4, ..Config::default() }`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of cores (threads), 1 to [`CORES_MAX`].
    pub cores: usize,
    /// Pin core i to the i-th CPU (modulo their number) that the process may use.
    pub pin: bool,
    /// Which driver.
    pub choice: Choice,
    /// Connections accepted per core and turn; the rest wait for the next turn.
    pub accept_per_turn_max: usize,
    /// Bytes of one receive buffer: the most that one `Data` event holds. A power of two is best.
    pub buffer_bytes: usize,
    /// Receive buffers per core; a power of two, at most 32768.
    pub buffer_count: usize,
    /// Mails that one sender may have waiting at one core before the overflow queue is used.
    pub mailbox_len_max: usize,
    /// Mails delivered in one turn.
    pub mail_per_turn_max: usize,
    /// Keepalive seconds of accepted TCP sockets, 0 for none; may be changed at any time for later connections.
    pub keepalive_s: Arc<AtomicU32>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cores: 1,
            pin: true,
            choice: Choice::Auto,
            accept_per_turn_max: 64,
            buffer_bytes: 16 << 10,
            buffer_count: 512,
            mailbox_len_max: 1024,
            mail_per_turn_max: 4096,
            keepalive_s: Arc::new(AtomicU32::new(0)),
        }
    }
}
