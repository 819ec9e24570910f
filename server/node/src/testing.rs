//! A node without sockets, threads or clocks, for tests: bytes in, bytes out, mail carried by hand.
//!
//! ```text
//!   Bench::send ─> Event::Data ─> service.turn() ─> Op::Send ─> the reply
//!                                      │  ▲
//!                                      └──┴── mail to and from the other cores, one round at a time
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use runtime::{Arena, Cause, ConnId, CoreId, Event, Now, Op, Ops, Peer, Service, Turn};

use crate::aside::Helper;
use crate::config::Config;
use crate::control::disk::{Disk, SystemDisk};
use crate::control::log::replay::Batch;
use crate::control::log::tests::MemoryDisk;
use crate::control::log::thread;
use crate::control::snapshot::Writer as ImageWriter;
use crate::mail::Mail;
use crate::node::{Entrance, Node, Parts};
use crate::service::NodeService;

/// Turns of all cores after which a test that has not come to rest is stuck.
const ROUNDS_MAX: usize = 10_000;
/// Items that a snapshot looks at in a turn.
const WALKED_PER_TURN: usize = 64;
/// How long the log gathers for a sync at most.
const GATHERS_MAX: std::time::Duration = std::time::Duration::from_millis(2);
/// Bytes of requests in one turn of a core.
const ARENA_BYTES: usize = 1 << 20;
/// A variable of the environment that says from how many steps on requests run aside, in every test.
const ASIDE_STEPS: &str = "MERIDIAN_ASIDE_MIN_STEPS";
/// The time at which a bench starts, unix ms.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// A connection of a bench.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(usize);

struct Connected {
    core: usize,
    conn: ConnId,
    received: Vec<u8>,
    closed: bool,
}

struct Seat {
    service: NodeService,
    arena: Arena,
    events: Vec<Event>,
    mail: Vec<Mail>,
    again: bool,
    stopped: bool,
}

/// See the module's head.
pub(crate) struct Bench {
    pub(crate) now: Now,
    seats: Vec<Seat>,
    helper: Helper,
    writer: ImageWriter,
    /// What runs aside does not come back.
    pub(crate) holds_aside: bool,
    /// The log does nothing by itself.
    pub(crate) holds_log: bool,
    /// Where the log and snapshots lie; without one snapshots lie on that of the machine.
    disk: Option<MemoryDisk>,
    clients: Vec<Connected>,
}

impl Bench {
    /// A node of so many cores with the default configuration.
    pub(crate) fn new(cores: usize) -> Bench {
        Bench::with(cores, |_| {})
    }

    /// A node of so many cores, its configuration changed. Its entrances are the main one (0), the cores' own (1)
    /// that of TLS (2), and the cores' own of TLS (3).
    pub(crate) fn with(cores: usize, change: impl FnOnce(&mut Config)) -> Bench {
        let mut config = Config::default();
        if let Some(steps) = std::env::var_os(ASIDE_STEPS) {
            let steps = steps
                .into_string()
                .ok()
                .and_then(|steps| steps.parse().ok());
            config.aside_min_steps = steps.expect("a number");
        }
        // Nothing happens by itself, unless a test asks for it.
        config.save.clear();
        change(&mut config);
        let now = Now {
            unix_ms: START_MS,
            unix_us: START_MS * 1000,
            mono_us: 0,
        };
        let node = Node::new(Parts {
            config,
            cores,
            seed: 7,
            started_ms: now.unix_ms,
            config_file: None,
            executable: "/bench".to_owned(),
            entrances: vec![
                Entrance::Main,
                Entrance::Own,
                Entrance::Tls,
                Entrance::OwnTls,
            ],
        });
        let node: &'static Node = Box::leak(Box::new(node.expect("users are declared well")));
        let service = |core: usize| {
            let mut service = NodeService::new(CoreId(core as u16), node, now);
            // (By time it would rest, and none passes here.)
            service.walk_slowly(WALKED_PER_TURN);
            service
        };
        let seat = |core: usize| Seat {
            service: service(core),
            arena: Arena::new(ARENA_BYTES),
            events: Vec::new(),
            mail: Vec::new(),
            again: false,
            stopped: false,
        };
        Bench {
            now,
            seats: (0..cores).map(seat).collect(),
            helper: Helper::new(node),
            writer: ImageWriter::default(),
            holds_aside: false,
            holds_log: false,
            disk: None,
            clients: Vec::new(),
        }
    }

    /// Connects to a core by the main port, from this machine.
    pub(crate) fn connect(&mut self, core: usize) -> Client {
        self.connect_by(core, 0)
    }

    /// Connects to a core's own port.
    pub(crate) fn connect_own(&mut self, core: usize) -> Client {
        self.connect_by(core, 1)
    }

    /// Connects to a core by the TLS port.
    pub(crate) fn connect_tls(&mut self, core: usize) -> Client {
        self.connect_by(core, 2)
    }

    /// Connects to a core's own port of TLS.
    pub(crate) fn connect_own_tls(&mut self, core: usize) -> Client {
        self.connect_by(core, 3)
    }

    fn connect_by(&mut self, core: usize, listener: usize) -> Client {
        let number = self.clients.len();
        let conn = ConnId::from_u64(1 << 32 | number as u64);
        let host = |port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        self.seats[core].events.push(Event::Accepted {
            conn,
            listener,
            peer: Peer::Tcp {
                peer: host(40_000 + number as u16),
                local: host(6379),
            },
            fd: 100 + number as i32,
        });
        self.clients.push(Connected {
            core,
            conn,
            received: Vec::new(),
            closed: false,
        });
        self.rest();
        Client(number)
    }

    /// Sends bytes and lets everything come to rest; what the client receives is kept for `received`.
    pub(crate) fn send(&mut self, client: Client, bytes: &[u8]) {
        let Connected { core, conn, .. } = self.clients[client.0];
        let seat = &mut self.seats[core];
        let span = seat.arena.push(bytes).expect("room in the arena");
        seat.events.push(Event::Data { conn, span });
        self.rest();
    }

    /// As `send`, of several clients at once.
    pub(crate) fn send_all(&mut self, requests: &[(Client, &[u8])]) {
        for (client, bytes) in requests {
            let Connected { core, conn, .. } = self.clients[client.0];
            let seat = &mut self.seats[core];
            let span = seat.arena.push(bytes).expect("room in the arena");
            seat.events.push(Event::Data { conn, span });
        }
        self.rest();
    }

    /// Takes what a client has received.
    pub(crate) fn received(&mut self, client: Client) -> Vec<u8> {
        core::mem::take(&mut self.clients[client.0].received)
    }

    /// The client goes away.
    pub(crate) fn close(&mut self, client: Client) {
        let Connected { core, conn, .. } = self.clients[client.0];
        let cause = Cause::Asked;
        self.seats[core].events.push(Event::Closed { conn, cause });
        self.rest();
    }

    /// Whether the server has closed the connection.
    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.clients[client.0].closed
    }

    /// Whether all cores have left their loops.
    pub(crate) fn has_stopped(&self) -> bool {
        self.seats.iter().all(|seat| seat.stopped)
    }

    /// One command, its words apart by blanks; the reply as text.
    pub(crate) fn call(&mut self, client: Client, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        let mut request = Vec::new();
        protocol::request::encode(&words, &mut request);
        self.send(client, &request);
        String::from_utf8_lossy(&self.received(client)).into_owned()
    }

    /// Every core hears that the authority has changed.
    pub(crate) fn tell_authority(&mut self) {
        for seat in &mut self.seats {
            seat.mail.push(Mail::Authority);
        }
        self.rest();
    }

    /// What the cores share.
    pub(crate) fn node(&self) -> &'static Node {
        self.seats[0].service.core.node
    }

    /// Notes a delay, as if it had happened then.
    pub(crate) fn seed_delay(&self, event: &'static str, unix_s: u64, ms: u64) {
        self.seats[0]
            .service
            .core
            .node
            .latency
            .add(event, unix_s, ms);
    }

    /// The shard that a key's slot is in.
    pub(crate) fn shard_of(&mut self, key: &[u8]) -> &mut storage::Shard {
        let owner = self.owner_of(key);
        &mut self.seats[owner].service.core.shard
    }

    /// The core of a key's slot.
    pub(crate) fn owner_of(&self, key: &[u8]) -> usize {
        self.seats[0]
            .service
            .core
            .owner(storage::Slot::of(key))
            .index()
    }

    /// Walks all shards and asserts what must hold.
    pub(crate) fn check(&self) {
        self.seats
            .iter()
            .for_each(|seat| seat.service.core.shard.check());
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.unix_ms += ms;
        self.now.unix_us += ms * 1000;
        self.now.mono_us += ms * 1000;
        self.seats.iter_mut().for_each(|seat| seat.again = true);
        let node = self.node();
        node.replicas.wake(&node.write_log);
        self.rest();
    }

    /// Reads the log that a disk holds, and goes on writing it.
    pub(crate) fn log_to(&mut self, disk: &MemoryDisk) {
        let loaded = self.try_log_to(disk);
        loaded.expect("a log without damage, on a disk that works");
    }

    /// As `log_to`, of a log that may have damage.
    pub(crate) fn try_log_to(&mut self, disk: &MemoryDisk) -> std::io::Result<()> {
        let node = self.seats[0].service.core.node;
        let seats = &mut self.seats;
        let posts = |core: CoreId, batch: Box<Batch>| {
            batch.apply(&mut seats[core.index()].service.core);
            None
        };
        let shared = Arc::new(disk.clone());
        thread::load_here(node, shared, Box::new(posts), START_MS)?;
        self.disk = Some(disk.clone());
        Ok(())
    }

    /// The log is to lie on this disk once it is turned on.
    pub(crate) fn may_log_to(&mut self, disk: &MemoryDisk) {
        self.disk = Some(disk.clone());
    }

    /// The log writes and syncs; the cores that have waited for it turn.
    pub(crate) fn step_log(&mut self) -> bool {
        let node = self.seats[0].service.core.node;
        let log = &node.write_log;
        if let Some(disk) = &self.disk {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            if thread::switch(node, &disk, self.now.unix_ms) {
                self.seats[0].mail.push(Mail::Switched);
                return true;
            }
        }
        if log.is_open() {
            let mut patience = log.step();
            for _ in 0..ROUNDS_MAX {
                if log.queued() <= log.synced() || patience > GATHERS_MAX {
                    break;
                }
                // It gathers, by the machine's clock.
                std::thread::sleep(patience);
                patience = log.step();
            }
        }
        let woken: Vec<usize> = log.woken().collect();
        woken.iter().for_each(|core| self.seats[*core].again = true);
        !woken.is_empty()
    }

    /// As `step_log`, and all that follows from it.
    pub(crate) fn release_log(&mut self) {
        self.step_log();
        self.rest();
    }

    /// Runs turns of all cores until nothing is left to do.
    fn rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let busy = |seat: &Seat| {
                !seat.stopped && (seat.again || !seat.events.is_empty() || !seat.mail.is_empty())
            };
            let rests = !self.seats.iter().any(busy) && !self.run_aside() && !self.step_replicas();
            if rests && (self.holds_log || !self.step_log()) {
                return;
            }
            for core in 0..self.seats.len() {
                if busy(&self.seats[core]) {
                    self.turn(core);
                }
            }
        }
        panic!("the node does not come to rest");
    }

    /// Runs the next task that waits for a thread beside the cores; whether there was one.
    fn run_aside(&mut self) -> bool {
        if self.holds_aside {
            return false;
        }
        let node = self.seats[0].service.core.node;
        let disk: Box<dyn Disk> = match &self.disk {
            Some(disk) => Box::new(disk.clone()),
            None => Box::new(SystemDisk),
        };
        if let Some(mail) = node
            .snapshots
            .step(&mut self.writer, &node.write_log, &*disk)
        {
            for mail in mail {
                let Mail::SnapshotEnded(ended) = mail else {
                    continue;
                };
                for seat in &mut self.seats {
                    seat.mail
                        .push(Mail::SnapshotEnded(std::sync::Arc::clone(&ended)));
                }
            }
            // A walk may have waited for the disk.
            self.seats.iter_mut().for_each(|seat| seat.again = true);
            return true;
        }
        let Some(done) = self.helper.try_next(node) else {
            return false;
        };
        if let Some((core, mail)) = done {
            self.seats[core.index()].mail.push(mail);
        }
        true
    }

    /// What the thread of replicas does; whether it had anything to do.
    fn step_replicas(&mut self) -> bool {
        let node = self.node();
        if node.write_log.may_sleep_fed() && !node.replicas.has_news() {
            return false;
        }
        let (now_ms, seats) = (self.now.unix_ms, &mut self.seats);
        let mut post = |core: CoreId, mail: Mail| {
            seats[core.index()].mail.push(mail);
            Ok(())
        };
        let disk: Box<dyn Disk> = match &self.disk {
            Some(disk) => Box::new(disk.clone()),
            None => Box::new(SystemDisk),
        };
        node.replicas.step(node, &*disk, now_ms, &mut post);
        true
    }

    /// Lets what was held aside come back.
    pub(crate) fn release_aside(&mut self) {
        self.holds_aside = false;
        self.rest();
    }

    fn turn(&mut self, core: usize) {
        let seat = &mut self.seats[core];
        let mut events = core::mem::take(&mut seat.events);
        let mut mail = core::mem::take(&mut seat.mail);
        let mut ops = Ops::new();
        let id = CoreId(core as u16);
        let arena = &seat.arena;
        let mut turn = Turn::simulated(self.now, id, arena, &mut events, &mut mail, &mut ops);
        seat.service.turn(&mut turn);
        seat.arena.clear();
        seat.again = ops.is_again();
        seat.stopped = ops.is_stop();
        for op in ops.take_ops() {
            match op {
                Op::Send(conn, mut buffer) => {
                    if let Some(client) = of(&mut self.clients, core, conn) {
                        client.received.extend_from_slice(&buffer);
                    }
                    buffer.clear();
                    seat.events.push(Event::Sent { conn, buffer });
                }
                Op::Close(conn) => {
                    if let Some(client) = of(&mut self.clients, core, conn) {
                        client.closed = true;
                    }
                    let cause = Cause::Asked;
                    seat.events.push(Event::Closed { conn, cause });
                }
                Op::RecvInto(..) => panic!("a bench sends small requests only"),
                Op::PauseRecv(_) | Op::ResumeRecv(_) | Op::Linger(_) => {}
            }
        }
        for (target, mail) in ops.take_posts() {
            self.seats[target.index()].mail.push(mail);
        }
    }
}

fn of(clients: &mut [Connected], core: usize, conn: ConnId) -> Option<&mut Connected> {
    let mut clients = clients.iter_mut();
    clients.find(|client| client.core == core && client.conn == conn)
}

mod tests {
    use super::Bench;

    #[test]
    fn data_is_the_same_from_every_core() {
        for cores in 1..=3 {
            let mut bench = Bench::new(cores);
            let clients: Vec<_> = (0..cores).map(|core| bench.connect(core)).collect();
            for n in 0..20 {
                let client = clients[n % cores];
                assert_eq!(bench.call(client, &format!("SET key:{n} {n}")), "+OK\r\n");
            }
            for client in clients {
                assert_eq!(bench.call(client, "DBSIZE"), ":20\r\n");
                let all = bench.call(client, "MGET key:0 key:7 key:19 none");
                assert_eq!(all, "*4\r\n$1\r\n0\r\n$1\r\n7\r\n$2\r\n19\r\n$-1\r\n");
                assert_eq!(bench.call(client, "GET key:13"), "$2\r\n13\r\n");
            }
        }
    }

    #[test]
    fn pipelines_are_answered_in_order() {
        let mut bench = Bench::new(2);
        let client = bench.connect(0);
        let pipeline: String = (0..50)
            .map(|n| format!("SET k{n} {n}\r\nGET k{n}\r\nPING {n}\r\n"))
            .collect();
        bench.send(client, pipeline.as_bytes());
        let expected: String = (0..50)
            .map(|n| {
                let len = n.to_string().len();
                format!("+OK\r\n${len}\r\n{n}\r\n${len}\r\n{n}\r\n")
            })
            .collect();
        assert_eq!(bench.received(client), expected.as_bytes());
    }
}
