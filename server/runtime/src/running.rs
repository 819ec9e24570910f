//! Starting the cores, and what the rest of the process holds of them.
//!
//! The order of a start: every thread pins itself and builds its driver; when all have, they are given their
//! listeners and begin. If io_uring fails on one of them and the choice was `Auto`, all begin anew with epoll.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::core::{Core, CoreSpec, Entrance, Shared};
use crate::driver::{Driver, DriverSpec};
use crate::epoll::Epoll;
use crate::mailbox::Mailbox;
use crate::uring::Uring;
use crate::{CORES_MAX, Choice, Config, CoreId, Listener, Service, Stats, affinity, probe};

/// The way into the cores from outside: any thread may hold one.
pub struct Handle<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M> Handle<M> {
    pub(crate) fn of(shared: Arc<Shared<M>>) -> Handle<M> {
        Handle { shared }
    }
}

impl<M: Send + 'static> Handle<M> {
    /// Mail to a core, waking it if it sleeps; in order per core and calling thread. Given back when the core's
    /// mailbox for outside threads is full, or the core has left or does not exist.
    pub fn post(&self, core: CoreId, mail: M) -> Result<(), M> {
        match self.shared.boxes.get(core.index()) {
            Some(mailbox) => mailbox.post_outside(mail),
            None => Err(mail),
        }
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.shared.boxes.len()
    }

    /// "io_uring" or "epoll".
    pub fn driver(&self) -> &'static str {
        self.shared.driver
    }

    /// The counters of a core; `None` if there is no such core.
    pub fn stats(&self, core: CoreId) -> Option<&Stats> {
        self.shared.stats.get(core.index())
    }
}

/// The running cores. Dropping it does not stop them.
pub struct Running<M> {
    handle: Handle<M>,
    threads: Vec<JoinHandle<()>>,
    done: Receiver<(CoreId, io::Result<()>)>,
}

impl<M: Send + 'static> Running<M> {
    /// A way in.
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Waits until every core has left its loop, or until one has failed (or panicked): then the error says which,
    /// and the others still run.
    pub fn join(self) -> io::Result<()> {
        for _ in 0..self.threads.len() {
            match self.done.recv() {
                Ok((_, Ok(()))) => {}
                Ok((core, Err(error))) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("core {}: {error}", core.0),
                    ));
                }
                Err(_) => break,
            }
        }
        for thread in self.threads {
            // Its result has been told by `done`; a panic after that can only come from dropping.
            let _told = thread.join();
        }
        Ok(())
    }
}

/// Starts the cores. `make` builds each core's service on its own thread. Returns when every driver works.
pub fn start<S: Service>(
    config: Config,
    listeners: Vec<(CoreId, Listener)>,
    make: impl Fn(CoreId, Handle<S::Mail>) -> S + Send + Clone + 'static,
) -> io::Result<Running<S::Mail>> {
    let is_sane = (1..=CORES_MAX).contains(&config.cores)
        && listeners
            .iter()
            .all(|(core, _)| core.index() < config.cores)
        && config.buffer_bytes > 0
        && config.buffer_count > 0;
    if !is_sane {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "runtime config out of range",
        ));
    }
    let launch = Launch {
        config,
        entrances: listeners.iter().map(|(_, l)| entrance(l)).collect(),
    };
    let fault = |reason| io::Error::new(io::ErrorKind::Unsupported, format!("io_uring: {reason}"));
    let launched = match launch.config.choice {
        Choice::Epoll => launch.run::<S, Epoll>(make),
        Choice::Uring => probe()
            .map_err(fault)
            .and_then(|()| launch.run::<S, Uring>(make)),
        Choice::Auto if probe().is_err() => launch.run::<S, Epoll>(make),
        Choice::Auto => launch
            .run::<S, Uring>(make.clone())
            .or_else(|_| launch.run::<S, Epoll>(make)),
    }?;
    Ok(launched.go(listeners))
}

fn entrance(listener: &Listener) -> Entrance {
    Entrance {
        spread: listener.spread_kind(),
        is_tcp: listener.is_tcp(),
    }
}

/// Stack of a core's thread: scripts may nest calls and values deeply. Only what is touched takes memory.
const STACK_BYTES: usize = 16 << 20;

/// Listeners of one core with their numbers.
type Doors = Vec<(usize, Listener)>;

struct Launch {
    config: Config,
    entrances: Arc<[Entrance]>,
}

/// Cores whose drivers are built, waiting for their listeners.
struct Launched<M> {
    running: Running<M>,
    go: Vec<Sender<Doors>>,
}

impl Launch {
    /// One attempt with one driver: all cores or none.
    fn run<S: Service, D: Driver>(
        &self,
        make: impl Fn(CoreId, Handle<S::Mail>) -> S + Send + Clone + 'static,
    ) -> io::Result<Launched<S::Mail>> {
        let cores = self.config.cores;
        let lane_len_max = self.config.mailbox_len_max;
        let boxes: io::Result<Vec<_>> = (0..cores)
            .map(|_| Mailbox::new(cores, lane_len_max))
            .collect();
        let stats = (0..cores).map(|_| Stats::default()).collect();
        let shared = Arc::new(Shared {
            boxes: boxes?,
            stats,
            driver: D::NAME,
        });
        let (done_in, done) = channel();
        let (ready_in, ready) = channel();
        let mut threads = Vec::new();
        let mut go = Vec::new();
        for i in 0..cores {
            // INVARIANT: at most CORES_MAX.
            let core = CoreId(i as u16);
            let (go_in, go_out) = channel();
            go.push(go_in);
            let seat = Seat {
                spec: CoreSpec {
                    core,
                    mail_per_turn_max: self.config.mail_per_turn_max.max(1),
                    keepalive_s: Arc::clone(&self.config.keepalive_s),
                    entrances: Arc::clone(&self.entrances),
                },
                config: self.config.clone(),
                shared: Arc::clone(&shared),
                ready: ready_in.clone(),
                go: go_out,
            };
            let (make, done_in) = (make.clone(), done_in.clone());
            let body = move || {
                let result = catch_unwind(AssertUnwindSafe(|| seat.occupy::<S, D>(make)));
                // Nobody may be left to listen, at the end of a failed start.
                let _told = done_in.send((
                    core,
                    result.unwrap_or_else(|panic| Err(panic_error(&*panic))),
                ));
            };
            threads.push(
                std::thread::Builder::new()
                    .name(format!("core-{i}"))
                    .stack_size(STACK_BYTES)
                    .spawn(body)?,
            );
        }
        drop(ready_in);
        for _ in 0..cores {
            // A thread that dies unheard closes its end.
            ready
                .recv()
                .map_err(|_| io::Error::other("a core died at its start"))??;
        }
        let running = Running {
            handle: Handle { shared },
            threads,
            done,
        };
        Ok(Launched { running, go })
    }
}

impl<M> Launched<M> {
    fn go(self, listeners: Vec<(CoreId, Listener)>) -> Running<M> {
        let mut doors: Vec<Doors> = self.go.iter().map(|_| Vec::new()).collect();
        for (number, (core, listener)) in listeners.into_iter().enumerate() {
            if let Some(doors) = doors.get_mut(core.index()) {
                doors.push((number, listener));
            }
        }
        for (go, doors) in self.go.into_iter().zip(doors) {
            // A core that has died meanwhile is told by `join`.
            let _sent = go.send(doors);
        }
        self.running
    }
}

/// What a core's thread is given.
struct Seat<M> {
    spec: CoreSpec,
    config: Config,
    shared: Arc<Shared<M>>,
    ready: Sender<io::Result<()>>,
    go: Receiver<Doors>,
}

impl<M: Send + 'static> Seat<M> {
    fn occupy<S, D>(self, make: impl Fn(CoreId, Handle<M>) -> S) -> io::Result<()>
    where
        S: Service<Mail = M>,
        D: Driver,
    {
        let core = self.spec.core;
        let shared = Arc::clone(&self.shared);
        // Also when the service panics.
        let _leaving = Leaving(&shared.boxes[core.index()]);
        if self.config.pin {
            // A sandbox may forbid it; the core then runs unpinned.
            let _pinned = affinity::pin(core.index());
        }
        let driver = D::new(&DriverSpec {
            buffer_bytes: self.config.buffer_bytes,
            buffer_count: self.config.buffer_count,
            accept_per_turn_max: self.config.accept_per_turn_max,
            wake: &shared.boxes[core.index()].wake,
        });
        let (mut driver, told) = match driver {
            Ok(driver) => (driver, self.ready.send(Ok(()))),
            Err(error) => {
                let _told = self.ready.send(Err(error));
                return Ok(());
            }
        };
        let (Ok(()), Ok(doors)) = (told, self.go.recv()) else {
            return Ok(());
        };
        for (number, listener) in doors {
            driver.listen(number, listener)?;
        }
        let service = make(
            core,
            Handle {
                shared: Arc::clone(&self.shared),
            },
        );
        Core::new(self.spec, self.shared, driver, service).run()
    }
}

struct Leaving<'a, M>(&'a Mailbox<M>);

impl<M> Drop for Leaving<'_, M> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn panic_error(panic: &(dyn Any + Send)) -> io::Error {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    io::Error::other(format!("panicked: {}", text.unwrap_or_default()))
}
