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
//! cores. Where there is nothing before, neither keys nor a position, the file is loaded as it arrives (`repl-diskless-load on-empty-db`); a file
//! that turns out to be damaged, or is not followed to its end, leaves nothing again. The log begins anew with a base. Until that is there a start finds the old log, with the old offset; without a log it finds
//! either snapshot, each with its own offset. Never half of both.
//!
//! **Time.** While somebody else decides, keys are hidden after their deadlines and stay. Relative deadlines of the stream are made absolute by the
//! source's clock ([`Line::source_clock_us`]).
//!
//! **By scan** (`scan/`): a source that bars PSYNC has no stream. Its session reads keys whole, again and again, and there is no position of it.
//!
//! **Several sources** (`many.rs`): each is a [`Line`] with a session, an offset and a number of its own. Their copies come key by key, through visits,
//! and are in the log like anything else (`shared.rs`): the streams of the others go on meanwhile, and the log stays one.

mod apply;
mod batch;
mod clock;
mod cores;
mod fields;
mod full;
pub mod info;
mod line;
mod many;
mod rule;
pub mod scan;
mod session;
mod shared;

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use migration::{Authority, Position, ReplId};
use runtime::CoreId;
use storage::Effect;
use storage::log::FrameKind;

pub use fields::{Fields, Positions};
pub use line::{Line, Share};
pub use many::{
    Followed, LINES_MAX, drop_line, end_line, follow_all, follow_line, follow_others, own_line,
    stand_line,
};
pub use rule::Rule;

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

    /// How far it has come.
    fn rank(self) -> usize {
        Link::ALL.iter().position(|one| *one == self).unwrap_or(0)
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

/// What a node knows of its source.
pub struct Source {
    authority: AtomicU8,
    /// Changes of authority, and by core, the last that it has taken over.
    changes: AtomicU64,
    taken: Vec<AtomicU64>,
    /// Line 0: that of a single source.
    first: Arc<Line>,
    /// All of them, by their numbers; line 0 is the first.
    lines: Mutex<Arc<[Arc<Line>]>>,
    /// Several are followed, or were when the data here was theirs.
    is_many: AtomicBool,
    /// One of several has not been copied yet.
    is_partial: AtomicBool,
    /// All lines are about to be followed anew.
    anew: Mutex<()>,
}

impl Default for Source {
    fn default() -> Source {
        Source::new(0, false)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// For so many cores; whether somebody else decides from the start on.
    pub fn new(cores: usize, follows: bool) -> Source {
        let first = Arc::new(Line::new(0));
        let source = Source {
            authority: AtomicU8::default(),
            changes: AtomicU64::default(),
            taken: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            lines: Mutex::new([Arc::clone(&first)].into()),
            first,
            is_many: AtomicBool::new(false),
            is_partial: AtomicBool::new(false),
            anew: Mutex::default(),
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

    /// Whether several are followed, or the data here is of several.
    pub fn is_many(&self) -> bool {
        self.is_many.load(Acquire)
    }

    /// Whether the source is followed by scan.
    pub fn is_by_scan(&self) -> bool {
        self.first.scan.is_on()
    }

    /// What its session has come to, if it is.
    pub fn scanned(&self) -> Option<&scan::Desk> {
        self.is_by_scan().then_some(&self.first.scan)
    }

    /// Whether one of several, or one that is followed by scan, has not been copied yet: what is here is not to be shown.
    pub fn is_partial(&self) -> bool {
        self.is_partial.load(Acquire)
    }

    /// All lines, by their numbers; of a single source there is one.
    pub fn lines(&self) -> Arc<[Arc<Line>]> {
        Arc::clone(&lock(&self.lines))
    }

    /// The replication offset of a single source up to which everything has been executed here.
    pub fn applied(&self) -> u64 {
        self.first.applied()
    }

    /// See [`Line::set_applied`], of line 0.
    pub fn set_applied(&self, offset: u64) {
        self.first.set_applied(offset);
    }

    /// The offset up to which the stream of a single source has come.
    pub fn read_offset(&self) -> u64 {
        self.first.read_offset()
    }

    /// Where the link stands; of several, that of the one that is farthest from being followed.
    pub fn link(&self) -> Link {
        if !self.is_many() {
            return self.first.link();
        }
        let lines = self.lines();
        let links = lines.iter().map(|line| line.link());
        links
            .filter(|link| *link != Link::None)
            .min_by_key(|link| link.rank())
            .unwrap_or_default()
    }

    /// Up to where in whose history the data here goes; none when it is no single source's.
    pub fn position(&self) -> Option<Position> {
        self.first.position().filter(|_| !self.is_many())
    }

    /// All that is known of line 0.
    pub fn status(&self) -> Status {
        self.first.status()
    }

    /// The data here goes up to these positions, as a log or a snapshot says that has been loaded. It means nothing where this node decides.
    pub fn set_positions(&self, positions: Positions) {
        let positions = match self.authority() {
            Authority::Own => Positions::None,
            _ => positions,
        };
        self.is_many
            .store(matches!(positions, Positions::Lines(_)), Release);
        match positions {
            Positions::None => self.set_all_positions(None),
            Positions::One(position) => {
                self.set_all_positions(None);
                self.first.set_position(Some(position));
            }
            Positions::Lines(known) => {
                let most = known.keys().next_back().map_or(1, |last| last + 1);
                let lines = self.make_lines(most);
                for line in lines.iter() {
                    line.set_position(known.get(&line.number).copied());
                }
            }
        }
        self.recount();
    }

    fn set_all_positions(&self, position: Option<Position>) {
        for line in self.lines().iter() {
            line.set_position(position);
        }
    }

    /// So many lines at least.
    fn make_lines(&self, count: u16) -> Arc<[Arc<Line>]> {
        let mut lines = lock(&self.lines);
        if lines.len() < usize::from(count) {
            let more = (lines.len() as u16..count).map(|number| Arc::new(Line::new(number)));
            *lines = lines.iter().cloned().chain(more).collect();
        }
        Arc::clone(&lines)
    }

    /// Whether something is missing is looked at again.
    fn recount(&self) {
        let lines = self.lines();
        let is_missing = |line: &Arc<Line>| {
            let status = line.status();
            status.target.is_some() && status.position.is_none()
        };
        let is_partial = match self.is_by_scan() {
            true => !self.first.scan.was_whole(),
            false => self.is_many() && lines.iter().any(is_missing),
        };
        self.is_partial.store(is_partial, Release);
    }

    /// What a log or a snapshot says of the positions.
    pub fn positions(&self) -> Positions {
        if self.authority() == Authority::Own {
            return Positions::None;
        }
        if !self.is_many() {
            return self.position().map_or(Positions::None, Positions::One);
        }
        let lines = self.lines();
        let known = lines
            .iter()
            .filter_map(|line| Some((line.number, line.position()?)));
        Positions::Lines(known.collect())
    }

    /// The same as fields of a file.
    pub fn fields(&self) -> Vec<(String, String)> {
        fields::of(&self.positions())
    }
}

/// Follows a source from now on, whoever was followed before, in a thread of its own. If this node decided what keys hold, the source does from
/// here on, and clients' writes are refused; another authority stays as it is. Errors of the link are not told here: see [`Source::status`].
///
/// # Errors
/// When the thread cannot be made; then nobody is followed.
pub fn follow(node: &'static Node, target: Target, from: From) -> io::Result<()> {
    follow_how(node, target, from, false)
}

/// The same of a source that bars PSYNC: it is followed by its keys and their events, and a whole pass comes first.
///
/// # Errors
/// As [`follow`].
pub fn follow_by_scan(node: &'static Node, target: Target) -> io::Result<()> {
    follow_how(node, target, From::Nothing, true)
}

fn follow_how(node: &'static Node, target: Target, from: From, by_scan: bool) -> io::Result<()> {
    let source = &node.source;
    end(node);
    source.first.scan.set(by_scan);
    if source.is_many.swap(false, AcqRel) {
        // What is here is not that one's, or not all of it is.
        source.set_all_positions(None);
    }
    if source.authority() == Authority::Own {
        source.set_authority(Authority::Source);
        // What is here has been changed by this node since.
        source.first.set_position(None);
    }
    source.recount();
    begin(node, &source.first, (target, Share::All), from)
}

/// Has a line followed from now on, by a session of its own.
fn begin(
    node: &'static Node,
    line: &Arc<Line>,
    (target, share): (Target, Share),
    from: From,
) -> io::Result<()> {
    let number = line.end();
    match from {
        From::Kept => {}
        From::Nothing => line.set_position(None),
        From::At(position) => line.set_position(Some(position)),
    }
    line.set_share(share);
    line.note(|status| {
        status.target = Some(target.clone());
        (status.error, status.down_since_ms) = (None, 0);
    });
    node.source.recount();
    line.set_link(Link::Connect);
    let thread = std::thread::Builder::new().name(format!("source-{}", line.number));
    let target = Arc::new(target);
    let of_session = Arc::clone(line);
    let made = thread.spawn(move || session::run(node, of_session, &target, number));
    if made.is_err() {
        line.end();
    }
    made.map(|_| ())
}

/// Ends all sessions. Nothing of a source is executed any more when this has returned.
fn end(node: &Node) {
    node.source.lines().iter().for_each(|line| {
        line.end();
    });
    node.source.recount();
}

/// Follows nobody any more; up to where the data here goes, of a single source. Who decides what keys hold stays as it is.
pub fn stop(node: &Node) -> Option<Position> {
    end(node);
    node.source.first.scan.set(false);
    node.source.recount();
    node.source.position()
}

/// This node decides from now on, and follows nobody: what the log says from here on is its own. The position up to which the data is the
/// source's. Its own history's name stays: see `Replicas::change_history`. Cores are to be told (`Mail::Authority`).
pub fn take_over(node: &Node) -> Option<Position> {
    let position = stop(node);
    let source = &node.source;
    if source.authority() != Authority::Own {
        // In the log before any write of clients: they are refused until the cores have been told.
        note_own(node);
        source.set_authority(Authority::Own);
    }
    source.is_many.store(false, Release);
    source.set_all_positions(None);
    position
}

/// The log says that what is here is nobody's any more.
fn note_own(node: &Node) {
    if node.write_log.is_on() {
        push_source(node, ReplId::NONE, 0);
    }
}

/// The log says that what is here goes up to this position of a single source; the sequence of that frame. Nobody writes meanwhile.
pub fn stand(node: &Node, position: Position) -> u64 {
    push_source(node, position.replid, position.offset)
}

fn push_source(node: &Node, replid: ReplId, offset: u64) -> u64 {
    let mut frame = Vec::new();
    let replid = replid.bytes();
    storage::encode(0, &Effect::SourceAt { replid, offset }, &mut frame);
    node.write_log
        .push(FrameKind::Effects, 0, unix_ms(), &frame)
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
