//! The Redis that this node follows: who decides what keys hold, how far its stream has been executed, and the link to it.
//!
//! ```text
//! REPLICAOF, `replicaof`, a migration ── follow() ──> session.rs: a thread: connect, PSYNC, [file: full.rs], stream, again after a second
//!                                                        │ batch.rs: requests up to some KiB, with the slots of their keys
//!                                                        v
//!                          a visit of a core (executed.rs): requests, SourceAt behind them, the frame queued: apply.rs
//! ```
//! **Exactly once.** What is executed and the offset up to which it goes are one frame of the log, and one instant of a snapshot: whoever
//! starts from either asks the source for what follows that offset. A session has a number; a visit looks, under a lock that [`stop`] takes,
//! whether it is still the one that counts. So nothing is executed any more when `stop` has returned.
//!
//! **A full copy.** The file is received and read through (lengths, checksum, version) before anything here is touched. Then, with every slot
//! in hand: the log ends where it is, all data goes, clients are told LOADING; the file takes the place of the snapshot and is loaded on all
//! cores. The log begins anew with a base. Until that is there a start finds the old log, with the old offset; without a log it finds
//! either snapshot, each with its own offset. Never half of both.
//!
//! **Time.** While somebody else decides, keys are hidden after their deadlines and stay. Relative deadlines of the stream are made absolute by the
//! source's clock ([`Source::source_clock_us`]).

mod apply;
mod batch;
mod clock;
mod cores;
mod fields;
mod full;
pub mod info;
mod session;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use migration::{Authority, Position, ReplId};
use runtime::CoreId;
use storage::Effect;
use storage::log::FrameKind;

pub use fields::{Fields, position_of};

use crate::config::Config;
use crate::node::Node;
use crate::start::unix_ms;

/// Where the link to the source stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Nobody is followed.
    #[default]
    None,
    /// It is down, and soon tried.
    Connect,
    /// It is being made.
    Connecting,
    /// The source is told of this replica, and asked.
    Handshake,
    /// A full copy is on its way.
    Sync,
    /// The stream comes.
    Connected,
}

impl Link {
    const ALL: [Link; 6] = [
        Link::None,
        Link::Connect,
        Link::Connecting,
        Link::Handshake,
        Link::Sync,
        Link::Connected,
    ];

    /// As ROLE tells it.
    pub fn name(self) -> &'static str {
        match self {
            Link::None => "none",
            Link::Connect => "connect",
            Link::Connecting => "connecting",
            Link::Handshake => "handshake",
            Link::Sync => "sync",
            Link::Connected => "connected",
        }
    }
}

/// Whom to log in as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// As `masteruser`, `masterauth` and `tls-replication` say at the time.
    OfConfig,
    /// As this user (empty: the default one) with this password (empty: nobody logs in), over TLS or not.
    As {
        /// The user.
        user: String,
        /// The password.
        password: crate::config::Secret,
        /// Over TLS.
        tls: bool,
    },
}

/// A source to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whom to log in as.
    pub login: Login,
}

/// What the source is asked for first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A full copy.
    Nothing,
    /// What follows the position of the data here, if that is known; else a full copy.
    Kept,
    /// What follows this position, which the data here is known to be at.
    At(Position),
}

/// How a full copy comes along; all of it in bytes, and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    /// Bytes of the whole file; 0 while the source does not know.
    pub total_bytes: u64,
    /// Bytes that have come.
    pub received_bytes: u64,
    /// Keys in them.
    pub keys: u64,
    /// All has come and is being loaded: how far, see `Node::loading`.
    pub is_loading: bool,
}

/// What is known of the source at a moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whom this node follows; none when it follows nobody.
    pub target: Option<Target>,
    /// Where the link stands.
    pub link: Link,
    /// Up to where the stream has been executed; none before the first copy.
    pub position: Option<Position>,
    /// The full copy that is on its way.
    pub copying: Option<Copying>,
    /// Why the link was lost last.
    pub error: Option<String>,
    /// Seconds since the source's last byte; none without a link.
    pub silent_s: Option<u64>,
    /// Since when the link has been down, unix ms; 0 when it is not, or was never there.
    pub down_since_ms: u64,
    /// Full copies and links that went on from an offset, since the start.
    pub copies: u64,
    /// See `copies`.
    pub resumes: u64,
    /// Requests of the stream that failed here; the data may differ then.
    pub failures: u64,
}

#[derive(Default)]
struct State {
    status: Status,
    socket: Option<TcpStream>,
    /// When the last byte came, unix ms.
    heard_ms: u64,
}

/// What a node knows of its source.
#[derive(Default)]
pub struct Source {
    authority: AtomicU8,
    applied: AtomicU64,
    /// Bytes of the stream that have come, as an offset.
    read: AtomicU64,
    link: AtomicU8,
    clock_us: AtomicI64,
    /// Changes of authority, and by core, the last that it has taken over.
    changes: AtomicU64,
    taken: Vec<AtomicU64>,
    /// The number of the session that may execute.
    order: Mutex<u64>,
    state: Mutex<State>,
    /// A session has been ended.
    ended: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// For so many cores; whether somebody else decides from the start on.
    pub fn new(cores: usize, follows: bool) -> Source {
        let source = Source {
            taken: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            ..Source::default()
        };
        if follows {
            source.set_authority(Authority::Source);
        }
        source
    }

    /// Who decides what keys hold.
    pub fn authority(&self) -> Authority {
        Authority::of(self.authority.load(Acquire))
    }

    /// From now on this one does; the one before. Cores take it over when they are told (`Mail::Authority`, `Ask::Authority`); see
    /// [`Source::is_taken`].
    pub fn set_authority(&self, authority: Authority) -> Authority {
        let before = self.authority.swap(authority.number(), AcqRel);
        self.changes.fetch_add(1, AcqRel);
        Authority::of(before)
    }

    /// The number of the last change of authority.
    pub fn change(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// A core has taken a change over.
    pub fn taken(&self, core: CoreId, change: u64) {
        if let Some(taken) = self.taken.get(core.index()) {
            taken.fetch_max(change, AcqRel);
        }
    }

    /// Whether every core has taken the last change of authority over: requests that begin from here on heed it.
    pub fn is_taken(&self) -> bool {
        let change = self.change();
        self.taken.iter().all(|taken| taken.load(Acquire) >= change)
    }

    /// The replication offset of the source up to which everything has been executed here.
    pub fn applied(&self) -> u64 {
        self.applied.load(Acquire)
    }

    /// Everything up to this offset has been executed, and every core shows it.
    pub fn set_applied(&self, offset: u64) {
        self.applied.store(offset, Release);
    }

    /// The offset up to which the stream has come.
    pub fn read_offset(&self) -> u64 {
        self.read.load(Relaxed).max(self.applied())
    }

    /// Where the link stands.
    pub fn link(&self) -> Link {
        let number = usize::from(self.link.load(Acquire));
        Link::ALL.get(number).copied().unwrap_or_default()
    }

    /// By how much the source's clock is ahead of ours, us; 0 before it has been asked.
    pub fn source_clock_us(&self) -> i64 {
        self.clock_us.load(Relaxed)
    }

    /// Up to where in whose history the data here goes; none when it is no source's.
    pub fn position(&self) -> Option<Position> {
        lock(&self.state).status.position
    }

    /// All that is known.
    pub fn status(&self) -> Status {
        let state = lock(&self.state);
        let link = self.link();
        let has_link = matches!(link, Link::Sync | Link::Connected);
        let silent_s = unix_ms().saturating_sub(state.heard_ms) / 1000;
        Status {
            link,
            silent_s: has_link.then_some(silent_s),
            ..state.status.clone()
        }
    }

    /// The data here goes up to this position, as a log or a snapshot says that has been loaded. It means nothing where this node decides.
    pub fn set_position(&self, position: Option<Position>) {
        let position = position.filter(|_| self.authority() != Authority::Own);
        lock(&self.state).status.position = position;
        self.set_applied(position.map_or(0, |position| position.offset));
    }

    /// What a snapshot says of the position.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        match self
            .position()
            .filter(|_| self.authority() != Authority::Own)
        {
            Some(position) => fields::of(position),
            None => Vec::new(),
        }
    }

    fn set_link(&self, link: Link) {
        let number = Link::ALL.iter().position(|one| *one == link);
        self.link.store(number.unwrap_or(0) as u8, Release);
    }

    fn note<R>(&self, change: impl FnOnce(&mut Status) -> R) -> R {
        change(&mut lock(&self.state).status)
    }
}

/// Follows a source from now on, whoever was followed before, in a thread of its own. If this node decided what keys hold, the source does from
/// here on, and clients' writes are refused; another authority stays as it is. Errors of the link are not told here: see [`Source::status`].
///
/// # Errors
/// When the thread cannot be made; then nobody is followed.
pub fn follow(node: &'static Node, target: Target, from: From) -> io::Result<()> {
    let source = &node.source;
    let number = end(node);
    if source.authority() == Authority::Own {
        source.set_authority(Authority::Source);
        // What is here has been changed by this node since.
        source.set_position(None);
    }
    match from {
        From::Kept => {}
        From::Nothing => source.set_position(None),
        From::At(position) => source.set_position(Some(position)),
    }
    source.note(|status| {
        status.target = Some(target.clone());
        (status.error, status.down_since_ms) = (None, 0);
    });
    source.set_link(Link::Connect);
    let thread = std::thread::Builder::new().name("source".to_owned());
    let target = Arc::new(target);
    let made = thread.spawn(move || session::run(node, &target, number));
    if made.is_err() {
        end(node);
    }
    made.map(|_| ())
}

/// Ends the session, and gives it a number that no session has. Nothing of the source is executed any more when this has returned.
fn end(node: &Node) -> u64 {
    let source = &node.source;
    let number = {
        let mut order = lock(&source.order);
        *order += 1;
        *order
    };
    let mut state = lock(&source.state);
    if let Some(socket) = state.socket.take() {
        // (The session finds out; one that is gone has nothing to find.)
        let _gone = socket.shutdown(std::net::Shutdown::Both);
    }
    state.status.target = None;
    state.status.copying = None;
    drop(state);
    source.set_link(Link::None);
    source.ended.notify_all();
    number
}

/// Follows nobody any more; up to where the data here goes. Who decides what keys hold stays as it is.
pub fn stop(node: &Node) -> Option<Position> {
    end(node);
    node.source.position()
}

/// This node decides from now on, and follows nobody: what the log says from here on is its own. The position up to which the data is the
/// source's. Its own history's name stays: see `Replicas::change_history`. Cores are to be told (`Mail::Authority`).
pub fn take_over(node: &Node) -> Option<Position> {
    let position = stop(node);
    let source = &node.source;
    if source.authority() != Authority::Own {
        // In the log before any write of clients: they are refused until the cores have been told.
        let mut frame = Vec::new();
        let effect = Effect::SourceAt {
            replid: ReplId::NONE.bytes(),
            offset: 0,
        };
        storage::encode(0, &effect, &mut frame);
        if node.write_log.is_on() {
            node.write_log
                .push(FrameKind::Effects, 0, unix_ms(), &frame);
        }
        source.set_authority(Authority::Own);
    }
    lock(&source.state).status.position = None;
    position
}

/// Tells every core that the authority has changed.
///
/// # Errors
/// When the server was stopped.
pub fn tell_cores(node: &Node) -> Result<(), String> {
    (0..node.cores())
        .try_for_each(|core| crate::control::load::post(node, core, crate::mail::Mail::Authority))
}

/// Follows whom the configuration names, at the start.
///
/// # Errors
/// When the thread cannot be made.
pub fn start(node: &'static Node) -> io::Result<()> {
    match of_config(&node.config()) {
        Some(target) => follow(node, target, From::Kept),
        None => Ok(()),
    }
}

/// Whom the configuration names.
pub fn of_config(config: &Config) -> Option<Target> {
    let primary = config.replicaof.as_ref()?;
    Some(Target {
        host: primary.host.clone(),
        port: primary.port,
        login: Login::OfConfig,
    })
}
