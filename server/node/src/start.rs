//! From the command line to running cores, and from a signal to the end.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runtime::{Choice, CoreId, Listener, Now, Running, Spread};

use crate::allocator;
use crate::aside;
use crate::config::{Config, Io, Loaded, ShutdownFlags};
use crate::control;
use crate::control::disk::SystemDisk;
use crate::control::log::thread as write_log;
use crate::front;
use crate::mail::Mail;
use crate::node::{Entrance, Node, Parts, Tries};
use crate::replicas;
use crate::service::NodeService;
use crate::source;
use crate::tls;

/// Why the server does not start.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; kinds are documented"
)]
pub enum Fault {
    /// An address or path cannot be listened on.
    Listen { place: String, error: io::Error },
    /// The cores do not start.
    Cores(io::Error),
    /// A thread beside the cores does not start.
    Control(io::Error),
    /// The configuration asks for something impossible here.
    Config(String),
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Listen { place, error } => write!(f, "cannot listen on {place}: {error}"),
            Fault::Cores(error) => write!(f, "cannot start the cores: {error}"),
            Fault::Control(error) => write!(f, "cannot start a thread beside the cores: {error}"),
            Fault::Config(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Fault {}

/// A running server.
pub struct Server {
    /// What its cores share.
    pub node: &'static Node,
    running: Running<Mail>,
}

/// Starts the cores. The node's shared part lives as long as the process. `note` is told what makes the start wait.
///
/// # Errors
/// A [`Fault`]; nothing is left running then.
pub fn start(loaded: Loaded, note: &mut dyn FnMut(&str)) -> Result<Server, Fault> {
    let Loaded { config, path, .. } = loaded;
    let cores = cores_of(&config)?;
    let seed = random_seed();
    storage::seed_process(random_seed());
    let mut patience = Patience::new(note);
    let listeners = open_listeners(&config, cores, &mut patience)?;
    let admin = open_admin(&config, &mut patience)?;
    let entrances = listeners.iter().map(|(_, _, entrance)| *entrance).collect();
    let parts = Parts {
        cores,
        seed,
        started_ms: unix_ms(),
        config_file: path.map(|path| path.display().to_string()),
        executable: std::env::current_exe()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        entrances,
        config,
    };
    let node = Node::new(parts).map_err(Fault::Config)?;
    let node: &'static Node = Box::leak(Box::new(node));
    control::migrate::prepare(node).map_err(Fault::Config)?;
    let config = node.config();
    let snapshot = control::snapshot::path_of(&config);
    if config.appendonly || snapshot.exists() {
        node.loading.begin(unix_ms());
    }
    let choice = match config.io {
        Io::Auto => Choice::Auto,
        Io::Uring => Choice::Uring,
        Io::Epoll => Choice::Epoll,
    };
    let runtime_config = runtime::Config {
        cores,
        buffer_bytes: RECEIVE_BUFFER_BYTES,
        buffer_count: RECEIVE_BUFFERS,
        choice,
        keepalive_s: node.keepalive(),
        ..runtime::Config::default()
    };
    let listeners = listeners
        .into_iter()
        .map(|(core, listener, _)| (core, listener))
        .collect();
    let running = runtime::start(runtime_config, listeners, move |core, handle| {
        node.set_handle(handle);
        NodeService::new(
            core,
            node,
            Now {
                unix_ms: unix_ms(),
                ..Now::default()
            },
        )
    })
    .map_err(Fault::Cores)?;
    node.set_handle(running.handle());
    // (Arrays of slots that the cores have made meanwhile are counted by them.)
    let resident = crate::process::resident_anonymous();
    let startup_bytes = resident.saturating_sub(node.used().fixed);
    node.memory.startup_bytes.store(startup_bytes, Relaxed);
    if config.turn_cpu_clock {
        node.set_turn_cpu_clock(true);
    }
    if let Err(error) = control::start(node, admin)
        .and_then(|()| allocator::start(node))
        .and_then(|()| aside::start(node))
        .and_then(|()| front::start(node))
        .and_then(|()| tls::start(node))
        .and_then(|()| control::snapshot::start(node))
        .and_then(|()| replicas::thread::start(node))
        .and_then(|()| start_log(node))
        .and_then(|()| control::load::start(node))
        .and_then(|()| source::start(node))
        .and_then(|()| control::migrate::start(node))
    {
        stop(node);
        return Err(Fault::Control(error));
    }
    Ok(Server { node, running })
}

/// Starts what writes the log, and reads what is there.
fn start_log(node: &'static Node) -> io::Result<()> {
    write_log::drive(node, Arc::new(SystemDisk))?;
    if node.config().appendonly {
        write_log::load(node, Arc::new(SystemDisk))?;
    }
    Ok(())
}

impl Server {
    /// Waits until the cores have left their loops; then the log is ended.
    ///
    /// # Errors
    /// When a core or the log failed, or what should have been loaded was damaged.
    pub fn join(self) -> io::Result<()> {
        let failed = |error| io::Error::other(format!("a core failed: {error}"));
        self.running.join().map_err(failed)?;
        self.node.write_log.end(unix_ms())?;
        match self.node.loading.fault() {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(()),
        }
    }
}

/// As SHUTDOWN does: with a snapshot first, if these flags or the save points ask for one.
pub fn shut_down(node: &Node, flags: ShutdownFlags) {
    if crate::rewrite::holds_shutdown(node, flags.force) {
        return;
    }
    let save = flags.save || (!node.config().save.is_empty() && !flags.nosave);
    if !save || node.loading.is_on() {
        return stop(node);
    }
    let force = flags.force;
    node.post(CoreId(0), Mail::Leave { save, force }, STOP_TRIES);
}

/// Asks every core to leave once its replies are out; a second call changes nothing.
pub fn stop(node: &Node) {
    if node.stopping.swap(true, Relaxed) {
        return;
    }
    for core in 0..node.cores() {
        node.post(CoreId(core as u16), Mail::Stop, STOP_TRIES);
    }
}

/// A core's receive buffers: 1 MiB in all, so that they stay in its cache and idle connections cost nothing.
const RECEIVE_BUFFER_BYTES: usize = 8 << 10;
const RECEIVE_BUFFERS: usize = 128;
/// A core whose mailbox is full of other mail is asked again to stop, for a second.
const STOP_TRIES: Tries = Tries {
    every: Duration::from_millis(1),
    most: 1000,
    even_stopping: true,
};

fn cores_of(config: &Config) -> Result<usize, Fault> {
    let cores = match config.cores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        cores => cores as usize,
    };
    if cores > runtime::CORES_MAX {
        return Err(Fault::Config(format!(
            "cores {cores}: at most {} are supported",
            runtime::CORES_MAX
        )));
    }
    Ok(cores)
}

/// The port of a core's own endpoint, for clients that speak TLS or for those that do not.
pub fn own_port(config: &Config, core: CoreId, tls: bool) -> u16 {
    let (base, after) = if tls {
        (config.core_tls_port_base, config.tls_port)
    } else {
        (config.core_port_base, config.port)
    };
    let base = if base == 0 {
        after.wrapping_add(1)
    } else {
        base
    };
    base.wrapping_add(core.0)
}

fn open_listeners(
    config: &Config,
    cores: usize,
    patience: &mut Patience<'_>,
) -> Result<Vec<(CoreId, Listener, Entrance)>, Fault> {
    let mut listeners = Vec::new();
    let backlog = i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX);
    if config.port != 0 {
        for addr in addresses(&config.bind, config.port)? {
            if let Some(listener) = listen(addr, backlog, patience)? {
                listeners.push((
                    CoreId(0),
                    listener.spread(Spread::RoundRobin),
                    Entrance::Main,
                ));
            }
        }
        open_own(config, cores, Entrance::Own, (&mut listeners, patience))?;
    }
    if config.tls_port != 0 {
        for addr in addresses(&config.bind, config.tls_port)? {
            if let Some(listener) = listen(addr, backlog, patience)? {
                let listener = listener.spread(Spread::RoundRobin);
                listeners.push((CoreId(0), listener, Entrance::Tls));
            }
        }
        open_own(config, cores, Entrance::OwnTls, (&mut listeners, patience))?;
    }
    if !config.unixsocket.is_empty() {
        let path = Path::new(&config.unixsocket);
        let listener = Listener::unix(path, config.unixsocketperm, backlog).map_err(|error| {
            Fault::Listen {
                place: config.unixsocket.clone(),
                error,
            }
        })?;
        listeners.push((
            CoreId(0),
            listener.spread(Spread::RoundRobin),
            Entrance::Unix,
        ));
    }
    if listeners.is_empty() && (config.port != 0 || config.tls_port != 0) {
        return Err(Fault::Config(
            "none of the addresses of `bind` could be listened on".to_owned(),
        ));
    }
    Ok(listeners)
}

/// In cluster mode each core listens for itself as well.
fn open_own(
    config: &Config,
    cores: usize,
    entrance: Entrance,
    (listeners, patience): (&mut Vec<(CoreId, Listener, Entrance)>, &mut Patience<'_>),
) -> Result<(), Fault> {
    if !config.cluster_enabled {
        return Ok(());
    }
    let port = |core: CoreId| own_port(config, core, entrance.is_tls());
    let last = usize::from(port(CoreId(0))) + cores - 1;
    if last > usize::from(u16::MAX) {
        return Err(Fault::Config(format!(
            "the cores' own ports would end at {last}, above 65535"
        )));
    }
    let backlog = i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX);
    for core in (0..cores as u16).map(CoreId) {
        for addr in addresses(&config.bind, port(core))? {
            if let Some(listener) = listen(addr, backlog, patience)? {
                listeners.push((core, listener.spread(Spread::Here), entrance));
            }
        }
    }
    Ok(())
}

/// How often a port that is taken is tried again in one start, and the rest between two tries: 1.5 s in all.
const TAKEN_TRIES_MAX: u32 = 30;
const TAKEN_PAUSE: Duration = Duration::from_millis(50);

/// Tries ports again that are taken. What a process has open by io_uring outlives it, also when it was killed: the kernel takes its rings down
/// a moment later, and whoever starts it again at once would not come up.
struct Patience<'a> {
    note: &'a mut dyn FnMut(&str),
    /// Tries that are left for all ports of this start.
    left: u32,
}

impl<'a> Patience<'a> {
    fn new(note: &'a mut dyn FnMut(&str)) -> Patience<'a> {
        Patience {
            note,
            left: TAKEN_TRIES_MAX,
        }
    }

    fn open<T>(&mut self, place: &str, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut is_told = false;
        loop {
            match open() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.left > 0 => {
                    if !core::mem::replace(&mut is_told, true) {
                        let rest_ms = TAKEN_PAUSE.as_millis() * u128::from(self.left);
                        (self.note)(&format!(
                            "{place} is taken: it is tried again for {rest_ms} ms"
                        ));
                    }
                    self.left -= 1;
                    std::thread::sleep(TAKEN_PAUSE);
                }
                done => return done,
            }
        }
    }
}

/// Listens; an address marked optional (`-::1`) may be missing on this machine.
fn listen(
    (addr, optional): (SocketAddr, bool),
    backlog: i32,
    patience: &mut Patience<'_>,
) -> Result<Option<Listener>, Fault> {
    match patience.open(&addr.to_string(), || Listener::tcp(addr, backlog)) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if optional && is_missing(&error) => Ok(None),
        Err(error) => Err(Fault::Listen {
            place: addr.to_string(),
            error,
        }),
    }
}

/// The sockets of the admin port; none without one.
fn open_admin(config: &Config, patience: &mut Patience<'_>) -> Result<Vec<TcpListener>, Fault> {
    let mut listeners = Vec::new();
    if config.admin_port == 0 {
        return Ok(listeners);
    }
    for (addr, optional) in addresses(&config.admin_bind, config.admin_port)? {
        let place = format!("{addr} (admin-port)");
        match patience.open(&place, || TcpListener::bind(addr)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if optional && is_missing(&error) => {}
            Err(error) => return Err(Fault::Listen { place, error }),
        }
    }
    if listeners.is_empty() {
        return Err(Fault::Config(
            "none of the addresses of `admin-bind` could be listened on".to_owned(),
        ));
    }
    Ok(listeners)
}

/// The address does not exist on this machine, as opposed to being taken or forbidden.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Linux's errno for an address family that the kernel was built without.
const EAFNOSUPPORT: i32 = 97;

/// The addresses of `bind` or `admin-bind` with this port; whether each may be missing.
fn addresses(binds: &[String], port: u16) -> Result<Vec<(SocketAddr, bool)>, Fault> {
    let mut found = Vec::new();
    for bind in binds {
        let (name, optional) = match bind.strip_prefix('-') {
            Some(name) => (name, true),
            None => (bind.as_str(), false),
        };
        let name = match name {
            "*" => "0.0.0.0",
            "::*" => "::",
            name => name,
        };
        match name.parse::<IpAddr>() {
            Ok(ip) => found.push((SocketAddr::new(ip, port), optional)),
            Err(_) => {
                let resolved = (name, port).to_socket_addrs();
                match resolved.map(|mut addresses| addresses.next()) {
                    Ok(Some(addr)) => found.push((addr, optional)),
                    _ if optional => {}
                    Ok(None) => return Err(Fault::Config(format!("bind {name}: no such host"))),
                    Err(error) => {
                        return Err(Fault::Listen {
                            place: bind.clone(),
                            error,
                        });
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Wall clock, ms since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// 64 bits from the operating system's randomness, by way of the standard library's hash keys.
fn random_seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(unix_ms());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that was killed under io_uring and started again at once did not come up: its port was still taken by nobody.
    #[test]
    fn a_port_that_is_taken_is_tried_again_and_not_for_ever() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let mut told = Vec::new();
        let mut note = |text: &str| told.push(text.to_owned());
        let mut patience = Patience::new(&mut note);
        let refused = listen((addr, false), 16, &mut patience);
        assert!(matches!(
            refused,
            Err(Fault::Listen { error, .. }) if error.kind() == io::ErrorKind::AddrInUse
        ));
        assert_eq!(patience.left, 0);
        // What is left is that of the whole start: the next port is not waited for, and nothing is said of it.
        assert!(listen((addr, false), 16, &mut patience).is_err());
        assert_eq!(
            told,
            [format!("{addr} is taken: it is tried again for 1500 ms")]
        );
        // Whoever has it lets go of it once the first try has failed.
        let mut taken = Some(taken);
        let mut note = |_: &str| drop(taken.take());
        let mut patience = Patience::new(&mut note);
        assert!(listen((addr, false), 16, &mut patience).unwrap().is_some());
        assert_eq!(patience.left, TAKEN_TRIES_MAX - 1);
    }
}
