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

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
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

    /// Starts it again in its folder, at its port. The kernel may take a moment to close what a ring had open there: that is the server's own
    /// business.
    pub(crate) fn start_again(&mut self) {
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        self.child = spawn(&self.program, self.port, &self.dir, &more).unwrap();
        self.answers();
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

    /// Sends a request, its words apart by blanks; None when the connection has ended.
    pub(crate) fn send(&mut self, line: &str) -> Option<()> {
        let mut bytes = Vec::new();
        let words: Vec<&str> = line.split(' ').collect();
        protocol::request::encode(&words, &mut bytes);
        self.0.get_mut().write_all(&bytes).ok()
    }

    /// The next reply; None when the connection has ended.
    pub(crate) fn receive(&mut self) -> Option<Answer> {
        let (mut parser, mut unread) = (AnswerParser::default(), Vec::new());
        loop {
            let before = unread.len();
            let piece = self.0.fill_buf().ok().filter(|piece| !piece.is_empty())?;
            unread.extend_from_slice(piece);
            match parser.parse(&unread).unwrap() {
                Some((answer, len)) => {
                    self.0.consume(len - before);
                    return Some(answer);
                }
                None => self.0.consume(unread.len() - before),
            }
        }
    }

    /// The whole reply; None when the connection has ended.
    pub(crate) fn answer(&mut self, line: &str) -> Option<Answer> {
        self.send(line)?;
        self.receive()
    }

    /// The first line of the reply, or the string that it announces.
    pub(crate) fn call(&mut self, line: &str) -> Option<String> {
        self.send(line)?;
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

/// An answer as one line, strings as they are.
pub(crate) fn show(answer: &Answer) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match answer {
        Answer::Simple(bytes) => format!("+{}", text(bytes)),
        Answer::Error(bytes) => format!("-{}", text(bytes)),
        Answer::Int(n) => format!(":{n}"),
        Answer::Bulk(bytes) => text(bytes),
        Answer::Null | Answer::NullArray => "nil".to_owned(),
        Answer::Array(all) => format!("[{}]", all.iter().map(show).collect::<Vec<_>>().join(" ")),
        other => format!("{other:?}"),
    }
}

/// A line of INFO; empty when there is none of this name.
pub(crate) fn info(client: &mut Client, name: &str) -> String {
    let text = show(&client.answer("INFO everything").unwrap());
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().to_owned()
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
