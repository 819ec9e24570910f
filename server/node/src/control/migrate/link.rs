//! A connection to the source for requests of the migration's own: one after the other, or many at once.
//!
//! It blocks, each step for its timeout at most, and is made anew when it has failed. A request whose reply did not come may be executed
//! later: so a new connection first ends the one before it, at the source, and only then is anything asked. Replies are bounded by the
//! parser, and by [`REPLY_BYTES_MAX`]. Passwords are those of `masteruser` and `masterauth`; no message has them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migration::flip::Found;
use migration::written::strays::Calls;
use migration::{Bar, Place, Server, assess};
use protocol::answer::{Answer, AnswerParser};
use protocol::request;
use rustls::ClientConfig;

use super::parts::{Peer, ReadBack, Stragglers};
use super::written::peer;
use crate::control::dial::Stream;

/// Bytes of the replies that wait to be read.
pub(super) const REPLY_BYTES_MAX: usize = 1 << 30;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// The name that the source's CLIENT LIST shows.
const NAME: &str = "meridian-migrate";
/// Replicas that no server has: nothing is written with so many wanted.
const REPLICAS_OF_A_FENCE: &str = "1000000";

/// Who the migration is at the source.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// The user; None for the default one.
    pub user: Option<Vec<u8>>,
    /// Its password; None without one.
    pub password: Option<Vec<u8>>,
}

impl core::fmt::Debug for Login {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Login")
    }
}

/// Where it is, and how to get in.
#[derive(Clone)]
pub(super) struct Address {
    /// Host and port.
    pub server: Server,
    /// The user.
    pub login: Login,
    /// What the handshake of TLS needs, for a server that speaks it.
    pub tls: Option<Arc<ClientConfig>>,
    /// How long each step may take.
    pub timeout: Duration,
}

fn dial(address: &Address) -> io::Result<Stream> {
    let Server { host, port, tls } = &address.server;
    let config = address.tls.clone().filter(|_| *tls);
    if *tls && config.is_none() {
        return Err(io::Error::other("no certificates are configured"));
    }
    let stream = Stream::dial(host, *port, address.timeout, config)?;
    stream.set_timeout(address.timeout)?;
    Ok(stream)
}

/// A connection that is up.
pub(crate) struct Wire {
    stream: Stream,
    parser: AnswerParser,
    /// What has come, of which so many bytes have been given.
    unread: Vec<u8>,
    given: usize,
    /// Its number at the source, where that tells it.
    id: Option<i64>,
}

impl Wire {
    /// Connects and logs in.
    ///
    /// # Errors
    /// What the system or the source says.
    pub(super) fn open(address: &Address) -> io::Result<Wire> {
        let mut wire = Wire {
            stream: dial(address)?,
            parser: AnswerParser::default(),
            unread: Vec::new(),
            given: 0,
            id: None,
        };
        if let Some(password) = &address.login.password {
            let mut words = vec![b"AUTH".to_vec()];
            words.extend(address.login.user.clone());
            words.push(password.clone());
            refused(wire.call(&words)?)?;
        }
        // (Who may not name itself is served all the same.)
        let _named = wire.call(&["CLIENT", "SETNAME", NAME])?;
        wire.id = match wire.call(&["CLIENT", "ID"])? {
            Answer::Int(id) => Some(id),
            _ => None,
        };
        Ok(wire)
    }

    /// Each wait for the source takes no longer.
    ///
    /// # Errors
    /// As the system reports them.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_timeout(timeout)
    }

    /// One request and its reply, which may be the source's refusal.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) fn call(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Answer> {
        self.send(words)?;
        self.receive()
    }

    /// One request, whose reply comes when it does: see [`Wire::hear`].
    ///
    /// # Errors
    /// As [`Wire::call`].
    pub(crate) fn send(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut out = Vec::new();
        request::encode(words, &mut out);
        self.stream.write_all(&out)
    }

    /// The next reply or message; None when none has come within the timeout.
    ///
    /// # Errors
    /// As [`Wire::call`].
    pub(crate) fn hear(&mut self) -> io::Result<Option<Answer>> {
        match self.receive() {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Its socket, for who ends it.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Many requests, and their replies in order. They are short enough for the source to take them all before it is heard.
    ///
    /// # Errors
    /// As [`Wire::call`].
    pub(crate) fn call_all(&mut self, requests: &[Vec<Vec<u8>>]) -> io::Result<Vec<Answer>> {
        let mut out = Vec::new();
        for words in requests {
            request::encode(words, &mut out);
        }
        self.stream.write_all(&out)?;
        requests.iter().map(|_| self.receive()).collect()
    }

    /// Requests that are bytes already, and so many replies in order.
    ///
    /// # Errors
    /// As [`Wire::call`].
    pub(super) fn call_bytes(
        &mut self,
        requests: &[u8],
        replies: usize,
    ) -> io::Result<Vec<Answer>> {
        self.stream.write_all(requests)?;
        (0..replies).map(|_| self.receive()).collect()
    }

    /// Its number at the source, where that tells it.
    pub(super) fn id(&self) -> Option<i64> {
        self.id
    }

    fn receive(&mut self) -> io::Result<Answer> {
        loop {
            let parsed = self.parser.parse(&self.unread[self.given..]);
            let parsed = parsed.map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
            if let Some((answer, taken)) = parsed {
                self.given += taken;
                return Ok(answer);
            }
            // (Not with each reply: many short ones come at once.)
            self.unread.drain(..self.given);
            self.given = 0;
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "a reply is too large",
                ));
            }
            let from = self.unread.len();
            self.unread.resize(from + READ_BYTES, 0);
            let read = self.stream.read(&mut self.unread[from..]);
            self.unread
                .truncate(from + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The reply, unless it is a refusal.
///
/// # Errors
/// The source's own words.
pub(crate) fn refused(answer: Answer) -> io::Result<Answer> {
    match answer {
        Answer::Error(text) => Err(io::Error::other(
            String::from_utf8_lossy(&text).into_owned(),
        )),
        answer => Ok(answer),
    }
}

/// A reply as text; empty for what is none.
pub(crate) fn text_of(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(bytes) | Answer::Simple(bytes) | Answer::Error(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Answer::Verbatim { text, .. } => String::from_utf8_lossy(text).into_owned(),
        Answer::Int(n) => n.to_string(),
        _ => String::new(),
    }
}

/// The source, by a connection that is made when it is needed.
pub(super) struct Source {
    address: Address,
    wire: Option<Wire>,
    /// Of the connection that failed: it is ended before anything else is asked.
    left: Option<i64>,
}

impl Source {
    /// The source at this address; nothing is connected yet.
    pub(super) fn new(address: Address) -> Source {
        Source {
            address,
            wire: None,
            left: None,
        }
    }

    /// One request; a refusal is an error.
    ///
    /// # Errors
    /// What was refused or failed, with the source's address.
    pub(super) fn call(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Answer, String> {
        let answer = self.try_call(words);
        answer.map_err(|error| {
            let Server { host, port, .. } = &self.address.server;
            let name = words
                .first()
                .map_or("", |word| std::str::from_utf8(word.as_ref()).unwrap_or(""));
            format!("{host}:{port}: {name}: {error}")
        })
    }

    fn try_call(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Answer> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect()?,
        };
        match wire.call(words) {
            Ok(answer) => {
                self.wire = Some(wire);
                refused(answer)
            }
            Err(error) => {
                self.left = wire.id;
                Err(error)
            }
        }
    }

    fn connect(&mut self) -> io::Result<Wire> {
        let mut wire = Wire::open(&self.address)?;
        if let Some(id) = self.left {
            // What it was told last may be waiting to be executed: not any more.
            let until = Instant::now() + self.address.timeout;
            while Instant::now() < until {
                let ended = wire.call(&["CLIENT", "KILL", "ID", &id.to_string()])?;
                if matches!(ended, Answer::Int(0) | Answer::Error(_)) {
                    break;
                }
            }
            self.left = None;
        }
        Ok(wire)
    }

    /// Many requests in one go, and their replies; a refusal is one of those.
    ///
    /// # Errors
    /// What failed.
    pub(super) fn call_all(&mut self, requests: &[Vec<Vec<u8>>]) -> Result<Vec<Answer>, String> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect().map_err(|error| error.to_string())?,
        };
        let answers = wire.call_all(requests);
        match &answers {
            Ok(_) => self.wire = Some(wire),
            Err(_) => self.left = wire.id,
        }
        answers.map_err(|error| error.to_string())
    }

    /// INFO of a section.
    ///
    /// # Errors
    /// As [`Source::call`].
    pub(super) fn info(&mut self, section: &str) -> Result<String, String> {
        self.call(&["INFO", section]).map(|answer| text_of(&answer))
    }
}

/// What INFO replication says.
pub(super) fn found_of(info: &str, us: Option<&Server>) -> Result<Found, String> {
    let text = |name: &str| assess::field(info, name).unwrap_or("");
    let place = |history: &str, offset: &str| {
        let offset = text(offset).parse::<i64>().ok()?;
        let offset = u64::try_from(offset).ok()?;
        Some(Place::new(text(history), offset))
    };
    let at = place("master_replid", "master_repl_offset");
    let at = at.ok_or("INFO replication has no history")?;
    let is_us = us.is_some_and(|us| {
        text("master_host").eq_ignore_ascii_case(&us.host)
            && text("master_port") == us.port.to_string()
    });
    // `second_repl_offset` is the first byte that the second history does not have.
    let second = place("master_replid2", "second_repl_offset");
    let second = second.filter(|second| second.history.bytes().any(|digit| digit != b'0'));
    Ok(Found {
        is_primary: text("role") == "master",
        follows_us: text("role") == "slave" && is_us,
        at,
        second: second.map(|second| Place::new(&second.history, second.offset.saturating_sub(1))),
    })
}

/// What INFO persistence says of a log that does not hold all: None if it does, or if there is none.
fn unsaved_of(info: &str) -> Option<&'static str> {
    let is = |name: &str, value: &str| assess::field(info, name) == Some(value);
    if is("loading", "1") || is("async_loading", "1") {
        return Some("the old Redis is loading");
    }
    if !is("aof_enabled", "1") {
        return None;
    }
    if is("aof_rewrite_in_progress", "1") || is("aof_rewrite_scheduled", "1") {
        return Some("the old Redis is writing its append only file anew");
    }
    if is("aof_last_bgrewrite_status", "err") || is("aof_last_write_status", "err") {
        return Some("the old Redis cannot write its append only file");
    }
    None
}

impl Peer for Source {
    fn wait_at_most(&mut self, time: Duration) {
        self.address.timeout = time;
        if self
            .wire
            .as_ref()
            .is_some_and(|wire| wire.set_timeout(time).is_err())
        {
            self.left = self.wire.take().and_then(|wire| wire.id);
        }
    }

    fn ask(&mut self, us: Option<&Server>) -> Result<Found, String> {
        found_of(&self.info("replication")?, us)
    }

    fn version(&mut self) -> Result<(u64, u64), String> {
        let version = assess::version(&self.info("server")?);
        let is_known = version != (0, 0);
        is_known
            .then_some(version)
            .ok_or_else(|| "the source does not say which version it is".to_owned())
    }

    fn min_replicas(&mut self) -> Result<u64, String> {
        let answer = self.call(&["CONFIG", "GET", "min-replicas-to-write"])?;
        let Answer::Array(pair) = answer else {
            return Err("CONFIG GET min-replicas-to-write: no answer".to_owned());
        };
        match pair.get(1).map(text_of) {
            Some(count) if count == REPLICAS_OF_A_FENCE => Err(format!(
                "min-replicas-to-write is {REPLICAS_OF_A_FENCE} there, which is the fence of another try: set it to what it was (0 as a rule)"
            )),
            count => count
                .and_then(|count| count.parse().ok())
                .ok_or_else(|| "min-replicas-to-write is not known".to_owned()),
        }
    }

    fn fence(&mut self, time: Duration, by_replicas: bool) -> Result<(), String> {
        if by_replicas {
            let words = [
                "CONFIG",
                "SET",
                "min-replicas-to-write",
                REPLICAS_OF_A_FENCE,
            ];
            return self.call(&words).map(drop);
        }
        let ms = time.as_millis().to_string();
        self.call(&["CLIENT", "PAUSE", &ms, "WRITE"]).map(drop)
    }

    fn unfence(&mut self, min_replicas: Option<u64>) -> Result<(), String> {
        match min_replicas {
            Some(count) => {
                let count = count.to_string();
                let words = ["CONFIG", "SET", "min-replicas-to-write", &count];
                self.call(&words).map(drop)
            }
            None => self.call(&["CLIENT", "UNPAUSE"]).map(drop),
        }
    }

    fn make_replica(&mut self, us: &Server) -> Result<(), String> {
        let port = us.port.to_string();
        self.call(&["REPLICAOF", &us.host, &port]).map(drop)
    }

    fn make_primary(&mut self) -> Result<(), String> {
        self.call(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    fn keep_in_file(&mut self) -> Result<bool, String> {
        let info = self.info("server")?;
        if assess::field(&info, "config_file").unwrap_or("").is_empty() {
            return Ok(false);
        }
        self.call(&["CONFIG", "REWRITE"]).map(|_| true)
    }

    fn nodes(&mut self) -> Result<String, String> {
        self.call(&["CLUSTER", "NODES"])
            .map(|answer| text_of(&answer))
    }

    fn unsaved(&mut self) -> Result<Option<String>, String> {
        Ok(unsaved_of(&self.info("persistence")?).map(str::to_owned))
    }

    fn stragglers(&mut self) -> Result<Stragglers, String> {
        let list = text_of(&self.call(&["CLIENT", "LIST", "TYPE", "normal"])?);
        let own = format!(" name={NAME} ");
        let clients = list.lines().filter(|line| !line.contains(&own)).count();
        let errors = self.info("errorstats")?;
        let refused = |name: &str| {
            let count = assess::field(&errors, name).and_then(|text| text.strip_prefix("count="));
            count.and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        Ok(Stragglers {
            clients: clients as u64,
            refused: refused("errorstat_READONLY") + refused("errorstat_NOPERM"),
        })
    }

    fn may_be_written(&mut self) -> Result<String, String> {
        peer::may_be_written(self)
    }

    fn commands_of(&mut self, user: &str) -> Result<String, String> {
        peer::commands_of(self, user)
    }

    fn bar(&mut self, user: &str) -> Result<String, String> {
        peer::bar(self, user)
    }

    fn unbar(&mut self, bar: &Bar) -> Result<(), String> {
        peer::unbar(self, bar)
    }

    fn keep_users(&mut self) -> Result<bool, String> {
        // (Refused by one that keeps its users in the file of everything else.)
        if self.call(&["ACL", "SAVE"]).is_ok() {
            return Ok(true);
        }
        self.keep_in_file()
    }

    fn read_back(&mut self, position: &[u8]) -> Result<ReadBack, String> {
        peer::read_back(self, position)
    }

    fn forget(&mut self, position: &[u8]) -> Result<(), String> {
        peer::forget(self, position)
    }

    fn calls(&mut self) -> Result<Calls, String> {
        peer::calls(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Redis that had just got a full copy was made primary, and killed before its log had been rewritten: it came back with the data
    /// of before the copy, and what had been acknowledged since was lost.
    #[test]
    fn a_log_that_is_written_anew_does_not_hold_all() {
        let rewrites = "loading:0\r\naof_enabled:1\r\naof_rewrite_in_progress:1\r\naof_rewrite_scheduled:0\r\n";
        assert!(unsaved_of(rewrites).is_some());
        let waits = "loading:0\r\naof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:1\r\n";
        assert!(unsaved_of(waits).is_some());
        let loads = "loading:1\r\naof_enabled:0\r\n";
        assert!(unsaved_of(loads).is_some());
        let fails = "loading:0\r\naof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:err\r\n";
        assert!(unsaved_of(fails).is_some());
        let fine = "loading:0\r\naof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n";
        assert_eq!(unsaved_of(fine), None);
        let none = "loading:0\r\naof_enabled:0\r\naof_rewrite_in_progress:1\r\n";
        assert_eq!(unsaved_of(none), None);
    }

    #[test]
    fn what_a_server_says_of_itself() {
        let us = Server {
            host: "10.0.0.9".to_owned(),
            port: 6379,
            tls: false,
        };
        let (a, b) = ("a".repeat(40), "0".repeat(40));
        let info = format!(
            "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379\r\nmaster_replid:{a}\r\nmaster_replid2:{b}\r\nmaster_repl_offset:100\r\nsecond_repl_offset:-1\r\n"
        );
        let found = found_of(&info, Some(&us)).unwrap();
        assert!(found.follows_us && !found.is_primary && found.second.is_none());
        assert_eq!(found.at, Place::new(&a, 100));
        assert!(!found_of(&info, None).unwrap().follows_us);
        let primary = info
            .replace("role:slave", "role:master")
            .replace(&b, &"b".repeat(40))
            .replace("offset:-1", "offset:101");
        let found = found_of(&primary, Some(&us)).unwrap();
        assert!(found.is_primary && !found.follows_us);
        assert_eq!(found.second, Some(Place::new(&"b".repeat(40), 100)));
        assert!(found_of("role:master\r\n", None).is_err());
    }
}
