//! A redis-server as the source, this server in front of it, and clients of both.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use migration::Authority;
use node::config::{Config, Io, Loaded};
use node::front::{self, Upstream};
use node::node::Node;
use protocol::answer::{Answer, AnswerParser};
use protocol::request;

/// How long anything may take, on the busiest machine.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
/// The pause between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until something holds.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONGEST, "{what}");
        std::thread::sleep(PAUSE);
    }
}

pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port > 21_000 {
            return port;
        }
    }
}

/// A redis-server of its own.
pub(crate) struct Redis {
    child: Option<Child>,
    pub(crate) port: u16,
    dir: PathBuf,
    more: Vec<String>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

impl Redis {
    pub(crate) fn start(more: &[&str]) -> Redis {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("meridian-front-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut redis = Redis {
            child: None,
            port: free_port(),
            dir,
            more: more.iter().map(|word| (*word).to_owned()).collect(),
        };
        redis.run();
        redis
    }

    /// Starts it (again) at its port.
    pub(crate) fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--maxclients", "2000"])
            .args(["--dir", self.dir.to_str().unwrap()])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed"));
        let port = self.port;
        wait_for("redis-server answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// A replica of it: only one that has some counts what it writes.
    pub(crate) fn replica(&self) -> Redis {
        let port = self.port.to_string();
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]);
        wait_for("the replica follows", || {
            self.client().call("ROLE").contains("127.0.0.1")
        });
        replica
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: String::new(),
            password: String::new(),
            tls: false,
        }
    }
}

/// This server, in this process.
pub(crate) struct Here {
    pub(crate) node: &'static Node,
    pub(crate) port: u16,
}

impl Drop for Here {
    fn drop(&mut self) {
        node::start::stop(self.node);
    }
}

impl Here {
    pub(crate) fn start(cores: u32, io: Io) -> Here {
        Here::with(cores, io, |_| {})
    }

    /// The same, its configuration changed.
    pub(crate) fn with(cores: u32, io: Io, change: impl FnOnce(&mut Config)) -> Here {
        let port = free_port();
        let mut config = Config::default();
        config.port = port;
        config.cores = cores;
        config.io = io;
        config.bind = vec!["127.0.0.1".to_owned()];
        config.save.clear();
        config.dir = std::env::temp_dir().display().to_string();
        config.dbfilename = "meridian-front-none.rdb".to_owned();
        change(&mut config);
        let loaded = Loaded {
            config,
            path: None,
            notices: Vec::new(),
        };
        let server =
            node::start::start(loaded, &mut |_| {}).unwrap_or_else(|fault| panic!("{fault}"));
        Here {
            node: server.node,
            port,
        }
    }

    /// The same, in front of a source.
    pub(crate) fn before(cores: u32, io: Io, source: &Redis) -> Here {
        let here = Here::start(cores, io);
        here.follow(source);
        here.release(Authority::Front);
        here
    }

    pub(crate) fn follow(&self, source: &Redis) {
        let upstream = Some(source.upstream().into());
        self.node.front.set_upstream(upstream);
    }

    pub(crate) fn hold(&self) {
        front::hold(self.node);
    }

    pub(crate) fn unblock(&self) {
        front::unblock(self.node);
    }

    pub(crate) fn release(&self, authority: Authority) {
        front::release(self.node, authority);
    }

    /// Waits until nothing is under way.
    pub(crate) fn drain(&self) {
        wait_for("nothing is in flight", || front::in_flight(self.node) == 0);
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

/// A client of either.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    parser: AnswerParser,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            received: Vec::new(),
            parser: AnswerParser::default(),
        }
    }

    /// Sends requests, each a line of words apart by blanks.
    pub(crate) fn send(&mut self, requests: &[impl AsRef<str>]) {
        let mut bytes = Vec::new();
        for text in requests {
            let words: Vec<&str> = text.as_ref().split(' ').collect();
            request::encode(&words, &mut bytes);
        }
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut chunk = [0; 16 << 10];
        loop {
            let parsed = self.parser.parse(&self.received).unwrap();
            if let Some((answer, len)) = parsed {
                self.received.drain(..len);
                return answer;
            }
            let read = self.stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection is open");
            self.received.extend_from_slice(&chunk[..read]);
        }
    }

    /// The next reply as text.
    pub(crate) fn reply(&mut self) -> String {
        show(&self.answer())
    }

    pub(crate) fn call(&mut self, text: &str) -> String {
        self.send(&[text]);
        self.reply()
    }
}

/// An answer as one line.
pub(crate) fn show(answer: &Answer) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let list = |answers: &[Answer]| answers.iter().map(show).collect::<Vec<_>>().join(" ");
    match answer {
        Answer::Simple(bytes) => format!("+{}", text(bytes)),
        Answer::Error(bytes) => format!("-{}", text(bytes)),
        Answer::Int(n) => format!(":{n}"),
        Answer::Bulk(bytes) => text(bytes),
        Answer::Null => "nil".to_owned(),
        Answer::NullArray => "nil*".to_owned(),
        Answer::Array(answers) => format!("[{}]", list(answers)),
        Answer::Set(answers) => format!("~[{}]", list(answers)),
        Answer::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{}={}", show(key), show(value)));
            format!("%[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        Answer::Double(bytes) => format!(",{}", text(bytes)),
        other => format!("{other:?}"),
    }
}
