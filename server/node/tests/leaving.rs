//! Leaving a Redis, as an operator does it: two programs, `meridian migrate`, a client that counts all the while.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(120);

struct Server {
    child: Child,
    port: u16,
    admin: u16,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> u16 {
    let ports = (0..200).map(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    });
    let mut ports = ports.filter(|port| *port > 21_000);
    ports.next().unwrap()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    fn start(program: &str, more: &[&str]) -> Option<Server> {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("meridian-leaving-{port}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Server {
            child: spawn(program, port, &dir, more)?,
            port,
            admin: 0,
            dir,
        };
        until("a server answers", || {
            assert!(server.child.try_wait().unwrap().is_none(), "it ended");
            Client::try_new(port).is_some()
        });
        Some(server)
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

struct Client(BufReader<TcpStream>);

impl Client {
    fn try_new(port: u16) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut client = Client(BufReader::new(stream));
        (client.call("PING")? == "+PONG").then_some(client)
    }

    /// The first line of the reply, or the string that it announces.
    fn call(&mut self, line: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let words: Vec<&str> = line.split(' ').collect();
        protocol::request::encode(&words, &mut bytes);
        self.0.get_mut().write_all(&bytes).ok()?;
        let mut reply = String::new();
        self.0.read_line(&mut reply).ok()?;
        let reply = reply.strip_suffix("\r\n")?.to_owned();
        if let Some(len) = reply.strip_prefix('$').filter(|len| *len != "-1") {
            let mut text = vec![0; len.parse::<usize>().unwrap() + 2];
            std::io::Read::read_exact(&mut self.0, &mut text).ok()?;
            text.truncate(text.len() - 2);
            return String::from_utf8(text).ok();
        }
        Some(reply)
    }
}

fn migrate(admin: u16, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .arg("migrate")
        .args(words)
        .args(["--admin", &format!("127.0.0.1:{admin}")])
        .output()
        .unwrap()
}

fn done(admin: u16, words: &[&str]) -> String {
    let output = migrate(admin, words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}{errors}");
    text
}

fn status(admin: u16, part: &str) -> String {
    let text = done(admin, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status.pointer(part).unwrap().to_string()
}

/// Counts as fast as it is answered; what is acknowledged is added up. The longest wait for an answer, us, is kept.
fn count(port: u16, key: &str, sum: &AtomicU64, longest_us: &AtomicU64, stops: &AtomicBool) {
    let mut client = Client::try_new(port).unwrap();
    while !stops.load(Relaxed) {
        let begun = Instant::now();
        let reply = client.call(&format!("INCR {key}")).unwrap();
        longest_us.fetch_max(begun.elapsed().as_micros() as u64, Relaxed);
        let count = sum.fetch_add(1, Relaxed) + 1;
        assert_eq!(reply, format!(":{count}"), "each is executed once");
    }
}

#[test]
fn an_operator_moves_an_application_and_back_and_on() {
    let Some(source) = Server::start("redis-server", &["--repl-diskless-sync-delay", "0"]) else {
        eprintln!("skipped: no redis-server here");
        return;
    };
    let admin = free_port();
    let more = [
        "--admin-port",
        &admin.to_string(),
        "--cores",
        "2",
        "--appendonly",
        "yes",
        "--migrate-pause-max-ms",
        "5000",
    ];
    let mut node = Server::start(env!("CARGO_BIN_EXE_meridian"), &more).unwrap();
    node.admin = admin;
    let mut old = Client::try_new(source.port).unwrap();
    for n in 0..2000 {
        old.call(&format!("HSET h:{n} f {n}")).unwrap();
        old.call(&format!("SET s:{n} {n} EX 100000")).unwrap();
    }
    let (there, here) = (
        format!("127.0.0.1:{}", source.port),
        format!("127.0.0.1:{}", node.port),
    );
    let plan = done(admin, &["plan", &there]);
    assert!(plan.contains("Nothing stands in the way."), "{plan}");
    done(admin, &["start", &there, "--announce", &here]);
    assert_eq!(migrate(admin, &["finish"]).status.code(), Some(3));
    until("the copy is here", || {
        status(admin, "/link/follows") == "true"
    });
    done(admin, &["advance"]);
    assert_eq!(status(admin, "/phase"), "\"front\"");

    let (sum, longest_us) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stops = Arc::new(AtomicBool::new(false));
    let load = {
        let (sum, longest_us, stops) = (sum.clone(), longest_us.clone(), stops.clone());
        let port = node.port;
        std::thread::spawn(move || count(port, "counter", &sum, &longest_us, &stops))
    };
    let compared = || status(admin, "/verify/passes") != "0";
    for _ in 0..2 {
        if status(admin, "/phase") == "\"front\"" {
            done(admin, &["advance"]);
        }
        until("everything is compared", compared);
        assert_eq!(status(admin, "/verify/open"), "0");
        done(admin, &["advance"]);
        assert_eq!(status(admin, "/phase"), "\"reverse\"");
        let refused = old.call("SET x 1").unwrap();
        assert!(refused.starts_with("-READONLY"), "{refused}");
        let before = sum.load(Relaxed);
        until("it is counted here", || sum.load(Relaxed) > before + 100);
        until("the old Redis follows", || {
            let counted = old
                .call("GET counter")
                .and_then(|text| text.parse::<u64>().ok());
            counted.is_some_and(|counted| counted > before)
        });
        done(admin, &["back"]);
        assert_eq!(status(admin, "/phase"), "\"verify\"");
        let before = sum.load(Relaxed);
        until("it is counted there", || sum.load(Relaxed) > before + 100);
    }
    until("everything is compared", compared);
    done(admin, &["advance"]);
    stops.store(true, Relaxed);
    load.join().unwrap();
    let report = done(admin, &["finish"]);
    assert!(
        report.contains("pause, flip") && report.contains("sha256:"),
        "{report}"
    );
    eprintln!(
        "longest wait of a client: {} us\n{report}",
        longest_us.load(Relaxed)
    );
    let mut new = Client::try_new(node.port).unwrap();
    assert_eq!(
        new.call("GET counter").unwrap(),
        sum.load(Relaxed).to_string()
    );
}
