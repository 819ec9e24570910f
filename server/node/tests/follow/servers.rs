//! Servers of a test: programs of their own, as operators start them, and a client of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerParser};

use crate::folder::Folder;

/// How long something may take that does happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// Waits for a condition.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(LOOK);
    }
}

impl Folder {
    /// A folder in it.
    pub(crate) fn below(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// A port below those that the system gives to clients: who starts anew finds it free.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 21_001 + ((std::process::id() * 131 + step) % 11_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Server {
    /// A Redis in a folder; none where there is no redis-server.
    pub(crate) fn redis(folder: &Path, more: &[&str]) -> Option<Server> {
        let is_there = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !is_there.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: there is no redis-server on the path");
            return None;
        }
        let common = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "3600",
            "--enable-debug-command",
            "yes",
        ];
        let all = [&common[..], more].concat();
        Some(Server::start(
            Path::new("redis-server"),
            folder,
            free_port(),
            &all,
        ))
    }

    /// A Meridian of two cores in a folder.
    pub(crate) fn meridian(folder: &Path, more: &[&str]) -> Server {
        let port = free_port();
        let program = Path::new(env!("CARGO_BIN_EXE_meridian"));
        Server::start(program, folder, port, &[&["--cores", "2"], more].concat())
    }

    fn start(program: &Path, folder: &Path, port: u16, more: &[&str]) -> Server {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log.txt"))
            .unwrap();
        let child = Command::new(program)
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--port",
                &port.to_string(),
            ])
            .args(["--dir", folder.to_str().unwrap()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let server = Server {
            child: child.unwrap(),
            port,
        };
        wait_for("a server", || {
            // (The system may still hold the socket of one that was killed, and answer for it.)
            let Ok(_there) = TcpStream::connect(("127.0.0.1", port)) else {
                return false;
            };
            let mut client = Client::to(port);
            client.send(&["PING"]);
            let answer = client.try_answer();
            answer.is_some_and(|answer| !show(&answer).starts_with("-LOADING"))
        });
        server
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to leave.
    pub(crate) fn leave(mut self) {
        wait_for("the end of a server", || {
            self.child.try_wait().unwrap().is_some()
        });
    }

    pub(crate) fn client(&self) -> Client {
        Client::to(self.port)
    }

    /// A line of INFO.
    pub(crate) fn info(&self, name: &str) -> String {
        let mut client = self.client();
        let Answer::Bulk(text) = client.call("INFO everything") else {
            return String::new();
        };
        let text = String::from_utf8(text).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }
}

/// A client.
pub(crate) struct Client {
    stream: TcpStream,
    parser: AnswerParser,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn to(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            parser: AnswerParser::default(),
            input: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        let mut bytes = Vec::new();
        protocol::request::encode(words, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// None when the link is closed.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let mut piece = [0; 64 << 10];
        loop {
            if let Some((answer, bytes)) = self.parser.parse(&self.input).unwrap() {
                self.input.drain(..bytes);
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
    pub(crate) fn call(&mut self, text: &str) -> Answer {
        self.words(&text.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn words(&mut self, words: &[impl AsRef<[u8]>]) -> Answer {
        self.send(words);
        self.answer()
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        show(&self.call(text))
    }

    /// Many requests at once.
    pub(crate) fn pipeline(&mut self, requests: &[Vec<String>]) -> Vec<Answer> {
        let mut bytes = Vec::new();
        requests
            .iter()
            .for_each(|words| protocol::request::encode(words, &mut bytes));
        self.stream.write_all(&bytes).unwrap();
        requests.iter().map(|_| self.answer()).collect()
    }
}

/// An answer as text.
pub(crate) fn show(answer: &Answer) -> String {
    match answer {
        Answer::Simple(text) | Answer::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        Answer::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Answer::Int(n) => n.to_string(),
        Answer::Array(all) => all.iter().map(show).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}
