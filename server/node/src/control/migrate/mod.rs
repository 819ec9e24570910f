//! Leaving a Redis while everything runs: `meridian migrate`, and the same over HTTP.
//!
//! ```text
//! meridian migrate … (cli.rs) ──> admin port (http.rs) ── Asked ──> thread "migrate": Driver (drive.rs, run.rs)
//!                                                                     │ state: store.rs      the source: link.rs
//!                                 status, metrics <── Shown ──────────┤
//!                                 thread "verify" (verify.rs) <───────┘ keys here: look.rs   before a start: plan.rs
//! ```
//! What a phase is and when it may be left is `migration::phase`, how who decides changes `migration::flip`; see docs/operations/migrate.md for
//! operators. The state of the disk is read before the cores run: no write is taken here that the source should decide.
//! Of several sources (shards.rs) each is followed, watched and compared by itself.

pub mod cli;
mod drive;
pub(super) mod http;
mod link;
pub mod look;
mod node_parts;
mod order;
mod parts;
mod plan;
mod run;
mod shards;
mod sides;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod written;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use migration::compare::Findings;
use migration::{Authority, Intent, OldSide, Phase, Server, State};
use runtime::CoreId;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::control::disk::{Disk, SystemDisk};
use crate::mail::Mail;
use crate::node::{Node, Tries};
use crate::tls;
use drive::{Bounds, Driver, Wanted};
use link::{Address, Login, Source};
pub(crate) use link::{Wire, refused, text_of};
use node_parts::OfNode;
use order::{Fault, Means, Order};
use verify::Verifier;

/// How often a migration is looked at, and how often whether there is one.
const TICK: Duration = Duration::from_millis(200);
const IDLE_TICK: Duration = Duration::from_secs(2);
/// The rest between two passes of verification.
const PASS_REST: Duration = Duration::from_secs(2);
/// How long an answer of the source is waited for while keys are compared.
const READ_MAX: Duration = Duration::from_secs(30);

/// A core is told who decides as soon as its mailbox has room.
const TOLD_TRIES: Tries = Tries {
    every: Duration::from_micros(100),
    most: usize::MAX,
    even_stopping: false,
};

/// What HTTP asks of the thread.
enum Asked {
    /// An order, and the way back of its answer.
    Order(Order, oneshot::Sender<Result<String, Fault>>),
    /// The report as it stands.
    Report(oneshot::Sender<String>),
}

/// What a node knows of its migration.
#[derive(Default)]
pub struct Migration {
    orders: Mutex<Option<Sender<Asked>>>,
    at_start: Mutex<Option<State>>,
    status: Mutex<Arc<Value>>,
    findings: Mutex<Arc<Mutex<Findings>>>,
    /// For metrics: the phase's number, bytes behind, open differences, the last pause, keys compared.
    pub phase: AtomicU64,
    /// See [`Migration::phase`].
    pub lag_bytes: AtomicU64,
    /// See [`Migration::phase`].
    pub differences: AtomicU64,
    /// See [`Migration::phase`].
    pub pause_us: AtomicU64,
    /// See [`Migration::phase`].
    pub keys_compared: AtomicU64,
    /// Of an old Redis that is written to: bytes that wait for it, how old the oldest is, whether it takes them, whether it was given up, and
    /// writes there that were not this node's.
    pub queue_bytes: AtomicU64,
    /// See [`Migration::queue_bytes`].
    pub queue_lag_ms: AtomicU64,
    /// See [`Migration::queue_bytes`].
    pub old_side_up: AtomicU64,
    /// See [`Migration::queue_bytes`].
    pub needs_copy: AtomicU64,
    /// See [`Migration::queue_bytes`].
    pub strays: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Migration {
    /// Sends an order to the thread; false when it does not run.
    fn ask(&self, asked: Asked) -> bool {
        let orders = locked(&self.orders);
        orders
            .as_ref()
            .is_some_and(|orders| orders.send(asked).is_ok())
    }

    /// The last status.
    pub fn status(&self) -> Arc<Value> {
        Arc::clone(&locked(&self.status))
    }

    /// The differences that are listed.
    pub fn differences(&self, shows_keys: bool) -> Value {
        let findings = Arc::clone(&locked(&self.findings));
        let findings = locked(&findings);
        status::differences(&findings, shows_keys)
    }
}

/// Reads the state before the cores run, and sets who decides until the thread has looked further.
///
/// # Errors
/// When the file cannot be read: nothing is known then.
pub fn prepare(node: &Node) -> Result<(), String> {
    let path = store::path_of(&node.config());
    let Some(state) = store::read(&SystemDisk, &path)? else {
        return Ok(());
    };
    let first = match (&state.intent, state.phase) {
        (Intent::None, Phase::Idle | Phase::Finished) => Authority::Own,
        (Intent::None, Phase::Attach) => Authority::Source,
        _ => Authority::Held,
    };
    node.source.set_authority(first);
    for (number, side) in (0u16..).zip(&state.sides) {
        let is_ours = match state.shards.is_empty() {
            true => state.phase == Phase::Reverse,
            false => side.fence.is_some() && state.phase != Phase::Finished,
        };
        if state.old_side == OldSide::Written && is_ours && side.needs_copy.is_none() {
            // No rewrite of the log takes away what the old Redis may not have.
            node.write_log.hold_from(number, side.written_from + 1);
        }
    }
    *locked(&node.migration.at_start) = Some(state);
    Ok(())
}

/// Starts the thread that drives migrations, if there is one to go on with or an admin port to begin one.
///
/// # Errors
/// When it cannot be made.
pub fn start(node: &'static Node) -> std::io::Result<()> {
    let state = locked(&node.migration.at_start).take();
    if state.is_none() && node.config().admin_port == 0 {
        return Ok(());
    }
    if state.is_some() {
        // Cores that were made before heed it from here on; no client has been served yet.
        for core in (0..node.cores() as u16).map(CoreId) {
            node.post(core, Mail::Authority, TOLD_TRIES);
        }
    }
    let (orders, asked) = channel();
    *locked(&node.migration.orders) = Some(orders);
    let thread = std::thread::Builder::new().name("migrate".to_owned());
    thread
        .spawn(move || serve(node, state.unwrap_or_default(), &asked))
        .map(drop)
}

fn bounds(node: &Node) -> Bounds {
    let config = node.config();
    Bounds {
        pause_max: Duration::from_millis(u64::from(config.migrate_pause_max_ms)),
        error_budget: u64::from(config.migrate_error_budget),
    }
}

/// How a server is reached: with the password of `masterauth`, and the certificates of this node.
///
/// # Errors
/// What is wrong with the certificates.
fn address_of(node: &Node, server: &Server, timeout: Duration) -> Result<Address, String> {
    let config = node.config();
    let option = |name: &[u8]| {
        let value = config
            .get(&[name])
            .into_iter()
            .next()
            .map(|(_, value)| value);
        value.filter(|value| !value.is_empty())
    };
    let tls = match server.tls {
        true => Some(tls::client_config(&config)?),
        false => None,
    };
    Ok(Address {
        server: server.clone(),
        login: Login {
            user: option(b"masteruser"),
            password: option(b"masterauth"),
        },
        tls,
        timeout,
    })
}

/// A connection to a server, each step of which takes so long at most.
///
/// # Errors
/// Why there is none, with the server's address.
pub(crate) fn wire_to(node: &Node, server: &Server, timeout: Duration) -> Result<Wire, String> {
    let address = address_of(node, server, timeout)?;
    Wire::open(&address).map_err(|error| {
        let Server { host, port, .. } = server;
        format!("{host}:{port}: {error}")
    })
}

fn serve(node: &'static Node, state: State, asked: &Receiver<Asked>) {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let path = store::path_of(&node.config());
    let connect = move |server: &Server| {
        let address = address_of(node, server, drive::ANSWER_MAX)?;
        Ok(Box::new(Source::new(address)) as Box<dyn parts::Peer>)
    };
    let assess =
        move |sources: &[Server], means: Means| plan::survey(node, sources, (false, means));
    let way = (Box::new(connect) as _, Box::new(assess) as _);
    let goes_on = !matches!(state.phase, Phase::Idle | Phase::Finished);
    let parts = OfNode::new(node, goes_on);
    let mut driver = Driver::new(parts, (disk, path), state, way, bounds(node));
    *locked(&node.migration.findings) = Arc::clone(&driver.findings);
    show(node, &driver);
    while !parts::Parts::is_loaded(driver.parts()) {
        if node.stopping.load(Relaxed) {
            return;
        }
        std::thread::sleep(TICK);
    }
    driver.resume();
    let mut verifying = None;
    while !node.stopping.load(Relaxed) {
        show(node, &driver);
        keep_verifying(node, &driver, &mut verifying);
        let is_idle = matches!(driver.state.phase, Phase::Idle | Phase::Finished);
        match asked.recv_timeout(if is_idle { IDLE_TICK } else { TICK }) {
            Ok(Asked::Order(order, answer)) => {
                driver.set_bounds(bounds(node));
                let done = driver.order(&order);
                show(node, &driver);
                // (Who asked may have gone.)
                let _ = answer.send(done);
            }
            Ok(Asked::Report(answer)) => {
                let _ = answer.send(driver.report());
            }
            Err(RecvTimeoutError::Timeout) => driver.tick(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
    driver.wants_verification(false);
}

fn show(node: &Node, driver: &Driver<OfNode>) {
    let shown = &node.migration;
    *locked(&shown.status) = Arc::new(driver.status());
    shown.phase.store(driver.state.phase.number(), Relaxed);
    shown.lag_bytes.store(driver.lag_bytes(), Relaxed);
    shown.pause_us.store(driver.live.pause_us, Relaxed);
    let written = driver.written_now();
    shown.queue_bytes.store(written.queue_bytes, Relaxed);
    shown.queue_lag_ms.store(written.lag_ms, Relaxed);
    shown.old_side_up.store(u64::from(written.is_up), Relaxed);
    let needs_copy = driver
        .state
        .sides
        .iter()
        .any(|side| side.needs_copy.is_some());
    shown.needs_copy.store(u64::from(needs_copy), Relaxed);
    let strays = driver.live.seen.values().map(|seen| seen.strays).sum();
    shown.strays.store(strays, Relaxed);
    let findings = driver.findings();
    shown.differences.store(findings.open(), Relaxed);
    shown.keys_compared.store(findings.keys, Relaxed);
}

/// A thread compares while that is wanted.
fn keep_verifying(
    node: &'static Node,
    driver: &Driver<OfNode>,
    verifying: &mut Option<JoinHandle<()>>,
) {
    let runs = verifying
        .as_ref()
        .is_some_and(|thread| !thread.is_finished());
    if runs || !driver.wanted.runs.load(Relaxed) {
        return;
    }
    let (wanted, findings) = (Arc::clone(&driver.wanted), Arc::clone(&driver.findings));
    let thread = std::thread::Builder::new().name("verify".to_owned());
    *verifying = thread
        .spawn(move || verify_on(node, &wanted, &findings))
        .ok();
}

fn verify_on(node: &'static Node, wanted: &Wanted, findings: &Mutex<Findings>) {
    let stops = || !wanted.runs.load(Relaxed) || node.stopping.load(Relaxed);
    while !stops() {
        let asked = wanted.asked.load(Acquire);
        let is_over = || stops() || wanted.asked.load(Acquire) != asked;
        let done = one_pass(node, wanted, findings, &is_over);
        if !is_over() {
            *locked(&wanted.error) = done.err();
        }
        let rests = PASS_REST.as_millis() / TICK.as_millis();
        for _ in 0..rests {
            if is_over() {
                break;
            }
            std::thread::sleep(TICK);
        }
    }
}

fn one_pass(
    node: &'static Node,
    wanted: &Wanted,
    findings: &Mutex<Findings>,
    stops: &dyn Fn() -> bool,
) -> Result<bool, String> {
    let sources = locked(&wanted.sources).clone();
    let mends = wanted.mends.load(Relaxed);
    let open = |server: &Server| wire_to(node, server, READ_MAX);
    if node.source.scanned().is_some_and(|desk| !desk.is_current()) {
        // (Nothing that is read there is here within a time that is worth waiting for.)
        return Ok(false);
    }
    if node.source.is_many() {
        let wanted = verify::shards::Wanted {
            node,
            shards: &sources,
            findings,
            stops,
            mends,
        };
        return verify::shards::pass(&wanted, |shard| open(&shard.server));
    }
    let source = sources.first().ok_or("no source is known")?;
    Verifier::begin(open(&source.server)?, node, (findings, stops), mends)?.pass()
}
