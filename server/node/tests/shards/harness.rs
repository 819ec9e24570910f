//! Servers of a test: a cluster of Redis, single ones, a node that leaves them; each a program of its own.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerParser};
use storage::Slot;

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);
/// A server of a cluster has a second port so far above its own.
const BUS: u16 = 10_000;

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(LOOK);
    }
}

/// A port whose bus is free, too, and that the system gives to no client.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let step = NEXT.fetch_add(1, Relaxed);
        let port = 12_000 + ((std::process::id() * 97 + step) % 9000) as u16;
        if is_free(port) && is_free(port + BUS) {
            return port;
        }
    }
}

/// A server and its folder.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        if !std::thread::panicking() {
            let _gone = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Server {
    /// None where there is no such program.
    fn start(program: &str, port: u16, more: &[&str]) -> Option<Server> {
        let dir = std::env::temp_dir().join(format!("meridian-shards-{port}"));
        std::fs::create_dir_all(&dir).unwrap();
        let child = spawn(program, port, &dir, more)?;
        let server = Server { child, port, dir };
        until("a server answers", || Client::try_new(port).is_some());
        Some(server)
    }

    /// A Redis; None where there is none, which is told.
    pub(crate) fn redis(more: &[&str]) -> Option<Server> {
        let common = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-backlog-size",
            "64mb",
        ];
        let server = Server::start("redis-server", free_port(), &[&common[..], more].concat());
        if server.is_none() {
            eprintln!("SKIPPED: there is no redis-server on the path");
        }
        server
    }

    pub(crate) fn client(&self) -> Client {
        Client::try_new(self.port).unwrap()
    }

    pub(crate) fn info(&self, name: &str) -> String {
        let text = self.client().text("INFO everything");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }
}

fn spawn(program: &str, port: u16, dir: &Path, more: &[&str]) -> Option<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log.txt"))
        .unwrap();
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--dir", dir.to_str().unwrap()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .ok()
}

/// A node that leaves a Redis.
pub(crate) struct Node {
    server: Server,
    admin: u16,
    more: Vec<String>,
}

impl Node {
    pub(crate) fn start(more: &[&str]) -> Node {
        let admin = free_port();
        let mut all: Vec<String> = ["--cores", "2", "--appendonly", "yes", "--admin-port"]
            .map(str::to_owned)
            .to_vec();
        all.push(admin.to_string());
        all.extend(more.iter().map(|word| (*word).to_owned()));
        let words: Vec<&str> = all.iter().map(String::as_str).collect();
        let server = Server::start(env!("CARGO_BIN_EXE_meridian"), free_port(), &words);
        Node {
            server: server.unwrap(),
            admin,
            more: all,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port
    }

    pub(crate) fn client(&self) -> Client {
        self.server.client()
    }

    /// It is killed, and started again; on another port, as the system may hold the one before for a while.
    pub(crate) fn kill_and_start(&mut self) {
        self.server.child.kill().unwrap();
        self.start_again();
    }

    /// It writes a snapshot and leaves, and is started again.
    pub(crate) fn leave_and_start(&mut self) {
        let answer = self.client().try_call(&["SHUTDOWN", "SAVE"]);
        assert_eq!(answer, None, "it leaves");
        self.start_again();
    }

    fn start_again(&mut self) {
        self.server.child.wait().unwrap();
        let (port, dir) = (free_port(), self.server.dir.clone());
        self.server.port = port;
        self.admin = free_port();
        self.more[5] = self.admin.to_string();
        let words: Vec<&str> = self.more.iter().map(String::as_str).collect();
        self.server.child = spawn(env!("CARGO_BIN_EXE_meridian"), port, &dir, &words).unwrap();
        until("the node answers", || Client::try_new(port).is_some());
        until("its admin port", || {
            self.migrate(&["status"]).status.success()
        });
    }

    pub(crate) fn migrate(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_meridian"))
            .arg("migrate")
            .args(words)
            .args(["--admin", &format!("127.0.0.1:{}", self.admin)])
            .output()
            .unwrap()
    }

    /// The operator's words, of which nobody waits for the answer.
    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_meridian"))
            .arg("migrate")
            .args(words)
            .args(["--admin", &format!("127.0.0.1:{}", self.admin)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.migrate(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}{errors}");
        text
    }

    /// Words that are refused, and why.
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.migrate(words);
        assert!(!output.status.success(), "{words:?} is not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn begin(&self, source: &[&str]) {
        let here = format!("127.0.0.1:{}", self.port());
        let words = [&["start"], source, &["--announce", &here]].concat();
        self.done(&words);
    }

    pub(crate) fn status(&self, part: &str) -> serde_json::Value {
        let text = self.done(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status.pointer(part).cloned().unwrap_or_default()
    }

    /// Whatever the source decides is followed; nothing is once this node decides all.
    pub(crate) fn until_followed(&self) {
        until("all is followed", || {
            self.status("/link/follows") == true || self.status("/phase") == "reverse"
        });
    }

    /// Everything is compared once, and is equal.
    pub(crate) fn is_equal(&self) {
        let text = self.done(&["verify", "--no-fetch", "--keys"]);
        assert!(text.contains("no difference is listed"), "{text}");
        assert_ne!(self.status("/verify/keys"), 0);
    }
}

/// A client of one server.
pub(crate) struct Client {
    stream: std::net::TcpStream,
    parser: AnswerParser,
    input: Vec<u8>,
}

impl Client {
    /// None when nobody answers, or that one is loading.
    pub(crate) fn try_new(port: u16) -> Option<Client> {
        let mut client = Client::raw(port)?;
        (show(&client.try_call(&["PING"])?) == "PONG").then_some(client)
    }

    /// The same, whatever it answers.
    pub(crate) fn raw(port: u16) -> Option<Client> {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Client {
            stream,
            parser: AnswerParser::default(),
            input: Vec::new(),
        })
    }

    /// None when the connection ends.
    pub(crate) fn try_call(&mut self, words: &[&str]) -> Option<Answer> {
        use std::io::{Read, Write};
        let mut bytes = Vec::new();
        protocol::request::encode(words, &mut bytes);
        self.stream.write_all(&bytes).ok()?;
        let mut piece = [0; 64 << 10];
        loop {
            if let Some((answer, taken)) = self.parser.parse(&self.input).unwrap() {
                self.input.drain(..taken);
                self.parser.reset();
                return Some(answer);
            }
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.input.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// A request whose words have no blanks.
    pub(crate) fn text(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        show(&self.try_call(&words).unwrap())
    }
}

pub(crate) fn show(answer: &Answer) -> String {
    match answer {
        Answer::Simple(text) | Answer::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        Answer::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Answer::Int(n) => n.to_string(),
        Answer::Array(all) => all.iter().map(show).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}

/// A cluster of Redis.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

fn redis_cli(words: &[&str]) -> String {
    let output = Command::new("redis-cli").args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {text}");
    text
}

impl Cluster {
    /// Of so many primaries, each with its share of the slots.
    pub(crate) fn start(primaries: usize) -> Option<Cluster> {
        Cluster::start_with(primaries, &[])
    }

    /// The same, of servers that are started with these words as well.
    pub(crate) fn start_with(primaries: usize, more: &[&str]) -> Option<Cluster> {
        let servers = (0..primaries).map(|_| Cluster::server(more));
        let servers = servers.collect::<Option<Vec<Server>>>()?;
        let places: Vec<String> = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        let mut words = vec!["--cluster", "create"];
        words.extend(places.iter().map(String::as_str));
        words.push("--cluster-yes");
        redis_cli(&words);
        let cluster = Cluster { servers };
        cluster.until_well();
        Some(cluster)
    }

    fn server(more: &[&str]) -> Option<Server> {
        let words = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"];
        Server::redis(&[&words[..], more].concat())
    }

    fn until_well(&self) {
        until("a cluster is well", || {
            let is_well = |server: &Server| {
                let info = server.client().text("CLUSTER INFO");
                info.contains("cluster_state:ok")
                    && info.contains(&format!("cluster_known_nodes:{}", self.servers.len()))
            };
            self.servers.iter().all(is_well)
        });
    }

    pub(crate) fn place(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.servers[at].port)
    }

    /// Another server, a replica of one of the primaries.
    pub(crate) fn add_replica(&mut self, of: usize) -> usize {
        self.add_replica_with(of, &[])
    }

    /// The same, of one that is started with these words as well.
    pub(crate) fn add_replica_with(&mut self, of: usize, more: &[&str]) -> usize {
        let id = self.servers[of].client().text("CLUSTER MYID");
        let server = Cluster::server(more).unwrap();
        let meet = format!("CLUSTER MEET 127.0.0.1 {}", self.servers[of].port);
        assert_eq!(server.client().text(&meet), "OK");
        let replicate = format!("CLUSTER REPLICATE {id}");
        until("a replica is known", || {
            server.client().text(&replicate) == "OK"
        });
        until("a replica follows", || {
            server.info("master_link_status") == "up"
        });
        self.servers.push(server);
        self.until_well();
        self.servers.len() - 1
    }

    /// So many slots go from one primary to another.
    pub(crate) fn reshard(&self, from: usize, to: usize, slots: usize) {
        let id = |at: usize| self.servers[at].client().text("CLUSTER MYID");
        let (place, from, to, slots) = (self.place(to), id(from), id(to), slots.to_string());
        let mut words = vec!["--cluster", "reshard", &place, "--cluster-from", &from];
        words.extend(["--cluster-to", &to, "--cluster-slots", &slots]);
        words.push("--cluster-yes");
        redis_cli(&words);
    }

    pub(crate) fn client(&self) -> ClusterClient {
        ClusterClient {
            known: HashMap::new(),
            clients: HashMap::new(),
            first: self.servers[0].port,
        }
    }
}

/// A client of a cluster, as a library is one: it learns from MOVED, and tries again.
pub(crate) struct ClusterClient {
    known: HashMap<u16, u16>,
    clients: HashMap<u16, Client>,
    first: u16,
}

impl ClusterClient {
    pub(crate) fn at(port: u16) -> ClusterClient {
        ClusterClient {
            known: HashMap::new(),
            clients: HashMap::new(),
            first: port,
        }
    }

    /// A request whose second word is its key; what is acknowledged was executed once.
    pub(crate) fn text(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let slot = Slot::of(words[1].as_bytes()).0;
        let mut to = self.known.get(&slot).copied().unwrap_or(self.first);
        let mut asks = false;
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "{line} finds nobody");
            let answer = self.try_at(to, asks, &words);
            asks = false;
            let Some(text) = answer else {
                self.clients.remove(&to);
                std::thread::sleep(LOOK);
                to = self.first;
                continue;
            };
            let place = |text: &str| text.rsplit(':').next().unwrap().parse().unwrap();
            if text.starts_with("-MOVED") {
                to = place(&text);
                self.known.insert(slot, to);
            } else if text.starts_with("-ASK ") {
                (to, asks) = (place(&text), true);
            } else if text.starts_with("-TRYAGAIN") || text.starts_with("-CLUSTERDOWN") {
                std::thread::sleep(LOOK);
            } else {
                return text;
            }
        }
    }

    /// A counter that may be lost sight of: what was acknowledged, and how many nobody knows of. `port` says where the server is now.
    pub(crate) fn count_through(port: &AtomicU16, key: &str, stops: &AtomicBool) -> (u32, u32) {
        let (mut known, mut unknown) = (0, 0);
        let mut client = None;
        while !stops.load(Relaxed) {
            let Some(open) = client.as_mut() else {
                client = Client::try_new(port.load(Relaxed));
                continue;
            };
            match Client::try_call(open, &["INCR", key]).map(|answer| show(&answer)) {
                Some(text) if text.starts_with("-MASTERDOWN") => {}
                Some(text) if text.starts_with("-LOADING") || text.starts_with("-READONLY") => {}
                Some(text) if text.starts_with("-ERR the source did not answer") => unknown += 1,
                Some(text) => {
                    assert!(text.parse::<u32>().is_ok(), "{text}");
                    known += 1;
                }
                None => {
                    unknown += 1;
                    client = None;
                }
            }
        }
        (known, unknown)
    }

    fn try_at(&mut self, port: u16, asks: bool, words: &[&str]) -> Option<String> {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.clients.entry(port) {
            vacant.insert(Client::try_new(port)?);
        }
        let client = self.clients.get_mut(&port)?;
        if asks {
            client.try_call(&["ASKING"])?;
        }
        client.try_call(words).map(|answer| show(&answer))
    }
}

/// Counters that several clients count at once, and what has been acknowledged.
pub(crate) struct Counters(&'static str, Vec<AtomicU32>);

impl Counters {
    pub(crate) fn new(prefix: &'static str, count: usize) -> Counters {
        Counters(prefix, (0..count).map(|_| AtomicU32::new(0)).collect())
    }

    fn name(&self, at: usize) -> String {
        format!("{}:{at}", self.0)
    }

    /// Counts each in its turn until it is to end; each reply must be the next number. Beside that values of all types come and go.
    pub(crate) fn count(&self, client: &mut ClusterClient, stops: &AtomicBool) {
        let mut n = 0usize;
        while !stops.load(Relaxed) {
            let at = n % self.1.len();
            let counted = self.1[at].fetch_add(1, Relaxed) + 1;
            let reply = client.text(&format!("INCR {}", self.name(at)));
            assert_eq!(reply, counted.to_string(), "each is executed once");
            let (m, of) = (n % 4000, self.0);
            let line = match n % 5 {
                0 => format!("RPUSH {of}-list:{m} {n} {n}"),
                1 => format!("LPOP {of}-list:{}", m.saturating_sub(1)),
                2 => format!("HSET {of}-hash:{m} f{} {n}", n % 7),
                3 => format!("SET {of}-text:{m} {n} PX {}", 1 + n % 3000),
                _ => format!("ZADD {of}-zset:{} {n} m{}", m % 50, n % 300),
            };
            let reply = client.text(&line);
            assert!(!reply.starts_with('-'), "{line}: {reply}");
            if n.is_multiple_of(7) {
                let read = client.text(&format!("GET {}", self.name(at)));
                assert_eq!(read, counted.to_string(), "what was answered is seen");
            }
            n += 1;
        }
    }

    /// What a server has is what was acknowledged.
    pub(crate) fn are_exact(&self, mut ask: impl FnMut(&str) -> String) {
        let mut sum = 0;
        for (at, counted) in self.1.iter().enumerate() {
            let counted = counted.load(Relaxed);
            let found = ask(&format!("GET {}", self.name(at)));
            let expected = if counted == 0 {
                "Null".to_owned()
            } else {
                counted.to_string()
            };
            assert_eq!(found, expected, "{}", self.name(at));
            sum += counted;
        }
        assert!(sum > 100, "nothing was counted: {sum}");
        eprintln!("{sum} counted");
    }
}

/// Loads servers, each by a client of its own, while `meanwhile` runs.
pub(crate) fn under_load(loads: Vec<(ClusterClient, &Counters)>, meanwhile: impl FnOnce()) {
    let stops = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads = loads
            .into_iter()
            .map(|(mut client, counters)| scope.spawn(move || counters.count(&mut client, stops)));
        let loads: Vec<_> = loads.collect();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stops.store(true, Relaxed);
        loads.into_iter().for_each(|load| load.join().unwrap());
        if let Err(why) = ended {
            std::panic::resume_unwind(why);
        }
    });
}
