//! In front of a Redis: while the source decides what keys hold (`Authority::Front`), requests of this node's clients are passed on
//! to it as if they spoke to it, and reads are answered here where what is here is not older than what any client has seen.
//!
//! ```text
//! client ─> core: route.rs ──┬─ of the connection, of the node ──────────────────────────> here, as ever
//!                            ├─ a read, and the stream has come as far as the client saw ─> here
//!                            └─ all else: pass.rs, one `Orders` a turn ─> thread "front": link.rs ─> source
//! client <─ its place among the replies <─ told.rs <────────── Mail::Told ──┘  one connection for each client
//! ```
//! - Each client has a connection of its own at the source, made when it is first needed: WATCH, the database, a blocked BLPOP are its own there.
//! - Behind each batch goes a ROLE. The offset that it tells is at or behind all that the batch did or saw; until the stream has
//!   come so far reads of that client are passed on.
//! - A request is sent once. When the connection is lost, one that may have been executed is answered with [`UNKNOWN`], one that
//!   was never sent with `MASTERDOWN`.
//! - At a flip (`held.rs`) everything but the connection's own commands waits where it is ([`hold`]), what blocks at the source is ended
//!   there and taken up here afterwards ([`unblock`]), and [`in_flight`] says when nothing is under way any more; [`release`] lets go.
//!
//! In front of a cluster (`shards.rs`) each client has a connection to each shard that it needs, and all of the above is so for each of them.
//!
//! Non-goals: messages of channels: who subscribes listens to this node,
//! which hears of what is published by the source's stream; a cluster does not send all of it to all replicas.
//!
//! Cost: a client holds a connection here and one at the source, whose `maxclients` must have room for them; the thread keeps
//! nothing else of a client that has nothing under way.

mod held;
mod link;
mod pass;
mod route;
mod shards;
mod skim;
mod timeout;
mod told;
mod unblock;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use migration::Authority;
use runtime::CoreId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::mail::Mail;
use crate::node::{Node, Tries};
use crate::source::LINES_MAX;

pub use held::CoreFront;
pub use pass::{Elsewhere, Fronted};
pub use shards::Routes;
pub use told::Told;

/// What a request is answered whose connection to the source was lost before its reply came.
pub const UNKNOWN: &str =
    "ERR the source did not answer: whether this command was executed is unknown";
/// How long a core's full mailbox is tried when the authority changes.
const POST_TRIES: Tries = Tries {
    every: Duration::from_millis(1),
    most: 10_000,
    even_stopping: false,
};

/// Where the source is, and who asks there.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user; the default one if it is empty.
    pub user: String,
    /// The password; none if it is empty.
    pub password: String,
    /// TLS, with the certificates of the `tls-*` options.
    pub tls: bool,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A request that blocks at the source, by the client number of its connection there.
#[derive(Clone, Copy, Debug, Default)]
struct Blocked {
    /// It has not been answered.
    waits: bool,
    /// It was asked to end: a reply that says that its time is over is none.
    asked: bool,
    /// Such questions that have not been answered.
    asking: usize,
}

/// What all cores and the thread share.
#[derive(Default)]
pub struct Front {
    upstream: Mutex<Option<Arc<Upstream>>>,
    history: Mutex<String>,
    /// Of a source of several shards.
    routes: Mutex<Option<Arc<Routes>>>,
    /// Counts the changes of `routes`, and of the owners in it.
    routes_epoch: AtomicU64,
    thread: OnceLock<UnboundedSender<Message>>,
    /// By shard and number of the connection there.
    blocked: Mutex<HashMap<(u16, u64), Blocked>>,
    /// What blocks at the source is ended there.
    unblocks: AtomicBool,
    /// Counts the holds.
    epoch: AtomicU64,
    /// By core: the hold in which nothing of its own is under way; 0 for none.
    quiet: Vec<AtomicU64>,
    /// When the hold began, monotonic us.
    held_since_us: AtomicU64,
    /// The hold that `last_hold_us` is of.
    noted_epoch: AtomicU64,
    /// By shard: the largest offset behind anything that a client of this node was told by it; `u64::MAX` while none is known.
    seen: Box<[AtomicU64]>,
    /// Connections to the source now.
    pub upstreams: AtomicU64,
    /// Requests passed on.
    pub passed_on: AtomicU64,
    /// Reads answered here.
    pub answered_here: AtomicU64,
    /// Requests passed on that have not been answered, and questions of the thread's own.
    pub under_way: AtomicU64,
    /// Connections to the source that were lost, or could not be made.
    pub failures: AtomicU64,
    /// Requests of which it is not known whether they were executed.
    pub unknown: AtomicU64,
    /// How long requests were held at the last flip, us.
    pub last_hold_us: AtomicU64,
}

/// What the thread is told.
enum Message {
    /// A client needs a connection.
    Serve(link::Seat),
    /// What blocks is to be ended.
    Unblock,
    /// A client's own CLIENT UNBLOCK, of one that blocks at the source: the number there, and whether with an error.
    End((u16, u64), bool),
}

impl Front {
    /// Of a node of so many cores.
    pub fn new(cores: usize) -> Front {
        Front {
            quiet: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            seen: (0..LINES_MAX).map(|_| AtomicU64::new(u64::MAX)).collect(),
            ..Front::default()
        }
    }

    /// Where the source is, or this shard of it.
    pub fn upstream(&self, shard: u16) -> Option<Arc<Upstream>> {
        if let Some(routes) = self.routes() {
            return routes.upstream(shard);
        }
        let upstream = self.upstream.lock();
        upstream.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on new connections go there.
    pub fn set_upstream(&self, upstream: Option<Arc<Upstream>>) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// The source's history (replication id) whose stream is executed here: offsets of another one are not compared with what has been
    /// applied. Empty, as at the start: all are.
    pub fn set_history(&self, replid: &str) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.clear();
        history.push_str(replid);
    }

    /// Whether offsets of that history can be compared with what has been applied here.
    fn is_of_history(&self, node: &Node, shard: u16, replid: &str) -> bool {
        if self.routes().is_some() {
            let lines = node.source.lines();
            let at = lines
                .get(usize::from(shard))
                .and_then(|line| line.position());
            return at.is_some_and(|at| at.replid.text() == replid);
        }
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.is_empty() || *history == replid
    }

    /// A client is about to be told what the source's history had at this offset; `u64::MAX` of one that cannot be compared.
    fn saw(&self, shard: u16, offset: u64) {
        let Some(seen) = self.seen.get(usize::from(shard)) else {
            return;
        };
        let _always = seen.fetch_update(AcqRel, Acquire, |seen| {
            Some(if seen == u64::MAX {
                offset
            } else {
                seen.max(offset)
            })
        });
    }

    /// Whether what has been executed here up to this offset is not older than what any client was told. Not before the source has told an
    /// offset since the start, or since a flip: what was acknowledged before lies behind that.
    fn is_seen(&self, shard: u16, applied: u64) -> bool {
        let seen = self.seen.get(usize::from(shard));
        seen.is_some_and(|seen| seen.load(Acquire) <= applied)
    }

    fn blocked(&self) -> MutexGuard<'_, HashMap<(u16, u64), Blocked>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread has it: there is none in tests without threads.
    fn tell(&self, message: Message) -> bool {
        let thread = self.thread.get();
        thread.is_some_and(|thread| thread.send(message).is_ok())
    }
}

/// Starts the thread, which sleeps until a client needs it. It ends with the process.
///
/// # Errors
/// When the thread or its event loop cannot be made.
pub fn start(node: &'static Node) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let (sender, receiver) = unbounded_channel();
    std::thread::Builder::new()
        .name("front".to_owned())
        .spawn(move || runtime.block_on(serve(node, receiver)))?;
    // Set once, at the start.
    let _first = node.front.thread.set(sender);
    Ok(())
}

async fn serve(node: &'static Node, mut messages: UnboundedReceiver<Message>) {
    while let Some(message) = messages.recv().await {
        // Tasks end by themselves.
        match message {
            Message::Serve(seat) => drop(tokio::spawn(link::serve(node, seat))),
            Message::Unblock => drop(tokio::spawn(unblock::run(node))),
            Message::End(at, error) => drop(tokio::spawn(unblock::end(node, at, error))),
        }
    }
}

/// From now on requests wait: those that have not begun, on each core as soon as it hears of it ([`in_flight`]). Who blocks for a write
/// here waits, too; who watches keys is told that they have changed.
pub fn hold(node: &Node) {
    let front = &node.front;
    front.epoch.fetch_add(1, AcqRel);
    front.held_since_us.store(runtime::mono_us(), Release);
    set(node, Authority::Held);
}

/// Requests that were passed on and not answered, those that block at the source among them, and cores that have not come to rest. 0 while
/// requests are held: nothing more will be done by either side.
pub fn in_flight(node: &Node) -> usize {
    let front = &node.front;
    let epoch = front.epoch.load(Acquire);
    let is_busy = |quiet: &&AtomicU64| quiet.load(Acquire) != epoch;
    let busy = match node.source.authority() {
        Authority::Held => front.quiet.iter().filter(is_busy).count(),
        _ => 0,
    };
    // Behind the cores: one that rests has counted what it passed on.
    busy + front.under_way.load(Acquire) as usize
}

/// Ends what blocks at the source, now and until [`release`]: those requests wait here and go on afterwards, with what is left of their
/// time. One whose reply comes first is answered with it.
pub fn unblock(node: &Node) {
    if !node.front.unblocks.swap(true, AcqRel) && !node.front.tell(Message::Unblock) {
        node.front.unblocks.store(false, Release);
    }
}

/// Lets what waits go on, under this authority: here, or at the source as before.
pub fn release(node: &Node, authority: Authority) {
    node.front.unblocks.store(false, Release);
    set(node, authority);
}

/// Cores take it over at once, one by one.
fn set(node: &Node, authority: Authority) {
    let seen = node.front.seen.iter();
    seen.for_each(|seen| seen.store(u64::MAX, Release));
    node.source.set_authority(authority);
    for core in (0..node.cores() as u16).map(CoreId) {
        node.post(core, Mail::Authority, POST_TRIES);
    }
}

#[cfg(test)]
mod tests;
