//! The programs of a test, clients of them, and the operator's words.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerParser};

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    child: Child,
    program: String,
    more: Vec<String>,
    pub(crate) port: u16,
    pub(crate) admin: u16,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port below those that the system gives to clients: no test of this process gets it a second time.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Relaxed);
        let port = 21_001 + ((std::process::id() * 131 + step) % 11_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    pub(crate) fn start(program: &str, more: &[&str]) -> Option<Server> {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("meridian-leaving-{port}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Server {
            child: spawn(program, port, &dir, more)?,
            program: program.to_owned(),
            more: more.iter().map(|word| (*word).to_owned()).collect(),
            port,
            admin: 0,
            dir,
        };
        server.answers();
        Some(server)
    }

    fn answers(&mut self) {
        until("a server answers", || {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended");
            Client::try_new(self.port).is_some()
        });
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again in its folder, at its port: the kernel may take a moment to close what a ring had open there.
    pub(crate) fn start_again(&mut self) {
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        self.child = spawn(&self.program, self.port, &self.dir, &more).unwrap();
        until("a server starts again", || {
            if self.child.try_wait().unwrap().is_some() {
                self.child = spawn(&self.program, self.port, &self.dir, &more).unwrap();
            }
            Client::try_new(self.port).is_some()
        });
    }
}

fn spawn(program: &str, port: u16, dir: &std::path::Path, more: &[&str]) -> Option<Child> {
    Command::new(program)
        .args(["--port", &port.to_string(), "--save", ""])
        .args(["--dir", dir.to_str().unwrap()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn try_new(port: u16) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut client = Client(BufReader::new(stream));
        (client.call("PING")? == "+PONG").then_some(client)
    }

    /// The whole reply; None when the connection has ended.
    pub(crate) fn answer(&mut self, line: &str) -> Option<Answer> {
        let mut bytes = Vec::new();
        let words: Vec<&str> = line.split(' ').collect();
        protocol::request::encode(&words, &mut bytes);
        self.0.get_mut().write_all(&bytes).ok()?;
        let (mut parser, mut unread) = (AnswerParser::default(), Vec::new());
        loop {
            if let Some((answer, _)) = parser.parse(&unread).unwrap() {
                return Some(answer);
            }
            let mut piece = [0; 4096];
            let read = self.0.read(&mut piece).ok().filter(|read| *read > 0)?;
            unread.extend_from_slice(&piece[..read]);
        }
    }

    /// The first line of the reply, or the string that it announces.
    pub(crate) fn call(&mut self, line: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let words: Vec<&str> = line.split(' ').collect();
        protocol::request::encode(&words, &mut bytes);
        self.0.get_mut().write_all(&bytes).ok()?;
        let mut reply = String::new();
        self.0.read_line(&mut reply).ok()?;
        let reply = reply.strip_suffix("\r\n")?.to_owned();
        if let Some(len) = reply.strip_prefix('$').filter(|len| *len != "-1") {
            let mut text = vec![0; len.parse::<usize>().unwrap() + 2];
            self.0.read_exact(&mut text).ok()?;
            text.truncate(text.len() - 2);
            return String::from_utf8(text).ok();
        }
        Some(reply)
    }
}

pub(crate) fn migrate(admin: u16, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .arg("migrate")
        .args(words)
        .args(["--admin", &format!("127.0.0.1:{admin}")])
        .output()
        .unwrap()
}

pub(crate) fn done(admin: u16, words: &[&str]) -> String {
    let output = migrate(admin, words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}{errors}");
    text
}

pub(crate) fn status(admin: u16, part: &str) -> String {
    let text = done(admin, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status.pointer(part).unwrap().to_string()
}
