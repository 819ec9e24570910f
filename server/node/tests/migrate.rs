//! MIGRATE and a replica's link between two servers that speak TLS, each a program of its own as operators start it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/folder.rs"]
mod folder;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use folder::Folder;

/// Tries to connect while a server starts, and the pause between them.
const START_TRIES_MAX: usize = 400;
const START_PAUSE: Duration = Duration::from_millis(25);

struct Server {
    child: Child,
    port: u16,
    tls_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Server {
    /// One that shows the certificate of this name, and asks its clients for one.
    fn start(folder: &Path, name: &str, more: &[&str]) -> Server {
        let (port, tls_port) = (free_port(), free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["--bind", "127.0.0.1", "--cores", "2", "--save", ""])
            .args(["--port", &port.to_string()])
            .args(["--tls-port", &tls_port.to_string()])
            .args(["--tls-cert-file", &format!("{name}.pem")])
            .args(["--tls-key-file", &format!("{name}.key")])
            .args(["--tls-ca-cert-file", "ca.pem"])
            .args(["--dir", folder.to_str().unwrap()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Server {
            child: child.unwrap(),
            port,
            tls_port,
        };
        for _ in 0..START_TRIES_MAX {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            std::thread::sleep(START_PAUSE);
        }
        panic!("the server does not answer");
    }

    /// One request, its words apart by blanks, whose reply is one line or one string.
    fn call(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut bytes = Vec::new();
        let words: Vec<&str> = request.split(' ').collect();
        protocol::request::encode(&words, &mut bytes);
        protocol::request::encode(&["QUIT"], &mut bytes);
        stream.write_all(&bytes).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.strip_suffix("+OK\r\n").unwrap().to_owned()
    }
}

#[test]
fn keys_move_over_tls() {
    let folder = Folder::new("migrate");
    certificates::write(&folder.0, "ca", &["here", "there"]);
    // Of an authority that nobody here trusts.
    certificates::write(&folder.0, "other", &["stranger"]);
    let here = Server::start(&folder.0, "here", &["--tls-cluster", "yes"]);
    let there = Server::start(&folder.0, "there", &[]);
    let stranger = Server::start(&folder.0, "stranger", &[]);
    there.call("ACL SETUSER mover on >secret ~* +@all");
    let large = "x".repeat(3_000_000);
    for (key, value) in [("a", "1"), ("b", &large), ("c", "3")] {
        assert_eq!(here.call(&format!("SET {key} {value}")), "+OK\r\n");
    }
    let to = |server: &Server, port: u16, rest: &str| {
        let request = format!("MIGRATE 127.0.0.1 {port} {rest}");
        assert_ne!(server.port, port);
        server.call(&request)
    };
    let unreached = "-IOERR error or timeout connecting to the client\r\n";
    // A port that does not speak TLS, and a certificate of an authority that nobody here trusts.
    assert_eq!(to(&here, there.port, "a 0 2000"), unreached);
    assert_eq!(to(&here, stranger.tls_port, "a 0 5000"), unreached);
    let auth = "AUTH2 mover wrong";
    let reply = to(&here, there.tls_port, &format!("a 0 20000 {auth}"));
    assert!(reply.contains("WRONGPASS"), "{reply}");
    assert_eq!(here.call("EXISTS a b c"), ":3\r\n", "nothing is lost");
    // (The default user there has restored it all the same, as in Redis.)
    assert_eq!(there.call("DEL a"), ":1\r\n");
    let auth = "AUTH2 mover secret";
    // (Two blanks: an empty key.)
    let all = format!(" 0 20000 {auth} KEYS a b none");
    assert_eq!(to(&here, there.tls_port, &all), "+OK\r\n");
    assert_eq!(here.call("EXISTS a b c"), ":1\r\n");
    assert_eq!(there.call("STRLEN b"), format!(":{}\r\n", large.len()));
    // By the link that is kept; then plainly, once that is wanted.
    assert_eq!(to(&here, there.tls_port, "c 3 20000 COPY"), "+OK\r\n");
    assert!(
        here.call("INFO stats")
            .contains("migrate_cached_sockets:1\r\n")
    );
    assert_eq!(here.call("CONFIG SET tls-cluster no"), "+OK\r\n");
    assert_eq!(to(&here, there.port, "c 4 20000"), "+OK\r\n");
    assert!(there.call("INFO keyspace").contains("db4:keys=1,"));
    // The link to a primary speaks TLS when that is wanted, and logs in.
    let wanted = "CONFIG SET tls-replication yes masteruser mover masterauth secret";
    assert_eq!(here.call(wanted), "+OK\r\n");
    let primary = format!("REPLICAOF 127.0.0.1 {}", there.tls_port);
    assert_eq!(here.call(&primary), "+OK\r\n");
    let mut tries = 0..START_TRIES_MAX;
    while !there.call("INFO commandstats").contains("cmdstat_time:") {
        assert!(tries.next().is_some(), "the replica has not logged in");
        std::thread::sleep(START_PAUSE);
    }
    assert_eq!(here.call("REPLICAOF NO ONE"), "+OK\r\n");
    let none = here.call("CONFIG SET tls-cluster yes tls-ca-cert-file none.pem");
    assert!(
        none.contains("Unable to update TLS configuration"),
        "{none}"
    );
}
