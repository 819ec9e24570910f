//! MIGRATE's way to the other server: a connection, requests, replies, from threads of their own.
//!
//! ```text
//! core ── connect(migration) ──> thread: a link that is kept, or a new one ── Mail::Migration ──> core: takes the keys
//! core ── deliver(migration) ──> thread: AUTH, SELECT, RESTORE …; replies  ── Mail::Migration ──> core: removes them
//! ```
//! A migration is in one place at a time and always comes back, whatever has failed. Each step that waits for the other server
//! does so for its timeout at most. Links are kept for some seconds, as resharding moves many keys one after the other; who
//! logs in does so with each request, so a link carries nobody's rights to the next.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::control::dial::Stream;
use crate::mail::{Mail, Ticket};
use crate::node::{Node, Tries};
use crate::tls;
use protocol::request;
use rustls::ClientConfig;

/// Migrations under way at once.
const MIGRATIONS_MAX: usize = 64;
/// Links that are kept, and for how long.
const LINKS_MAX: usize = 64;
const LINK_KEPT: Duration = Duration::from_secs(10);
/// Bytes of a reply's line that are told.
const LINE_BYTES_MAX: u64 = 1024;
/// A core takes its migration back whenever it has room: its slots are held until then.
const POST_TRIES: Tries = Tries {
    every: Duration::from_millis(1),
    most: usize::MAX,
    even_stopping: true,
};

/// Where keys go, and how.
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; the others are documented"
)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub db: i64,
    pub timeout: Duration,
    /// AUTH's words, if the client gave some.
    pub auth: Vec<Vec<u8>>,
    pub replace: bool,
    /// RESTORE-ASKING: the slot is on its way there.
    pub asking: bool,
}

/// A key on its way.
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; the others are documented"
)]
pub struct Parcel {
    pub key: Box<[u8]>,
    /// None when there was no such key.
    pub payload: Option<Vec<u8>>,
    /// How long it has to live, ms; 0 for ever.
    pub ttl_ms: u64,
    /// The other server has it.
    pub delivered: bool,
}

/// What failed.
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; the others are documented"
)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    Connecting,
    Writing,
    Reading,
    /// The other server's own words.
    Target(Vec<u8>),
}

/// How far a migration has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Its link is there, or cannot be made.
    Connected,
    /// Its parcels have been sent; the transaction of this number holds their slots.
    Delivered(u64),
}

/// Keys that MIGRATE moves.
#[allow(
    missing_docs,
    reason = "fields are named after what they hold; the others are documented"
)]
pub struct Migration {
    pub ticket: Ticket,
    pub target: Target,
    /// The selected database.
    pub from_db: u8,
    pub copy: bool,
    pub parcels: Vec<Parcel>,
    pub step: Step,
    pub failure: Option<Failure>,
    link: Option<Link>,
}

impl Migration {
    /// A migration that has not begun.
    pub fn new(
        ticket: Ticket,
        target: Target,
        from_db: u8,
        copy: bool,
        parcels: Vec<Parcel>,
    ) -> Migration {
        Migration {
            ticket,
            target,
            from_db,
            copy,
            parcels,
            step: Step::Connected,
            failure: None,
            link: None,
        }
    }
}

/// A connection to another server.
struct Link {
    stream: BufReader<Stream>,
    host: String,
    port: u16,
    is_sealed: bool,
    /// The database that is selected there, if that is known.
    db: Option<i64>,
    used: Instant,
}

/// How links of this configuration speak: with TLS on them, or plainly.
fn tls_of(config: &Config) -> io::Result<Option<Arc<ClientConfig>>> {
    match config.tls_cluster {
        true => tls::client_config(config)
            .map(Some)
            .map_err(io::Error::other),
        false => Ok(None),
    }
}

/// A new link as a node makes it; why there is none is told to the log.
fn open(node: &Node, target: &Target) -> io::Result<Link> {
    let link = tls_of(&node.config()).and_then(|tls| Link::open(target, tls));
    link.inspect_err(|why| {
        let text = format!("MIGRATE to {}:{}: {why}", target.host, target.port);
        node.log(|log| log.notice(&text));
    })
}

impl Link {
    fn open(target: &Target, tls: Option<Arc<ClientConfig>>) -> io::Result<Link> {
        let is_sealed = tls.is_some();
        let stream = Stream::dial(&target.host, target.port, target.timeout, tls)?;
        Ok(Link {
            stream: BufReader::new(stream),
            is_sealed,
            host: target.host.clone(),
            port: target.port,
            db: None,
            used: Instant::now(),
        })
    }

    /// A line of the other server, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut some = (&mut self.stream).take(LINE_BYTES_MAX);
        some.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            // It has hung up, or says what nobody reads to the end.
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }
}

/// Links that wait for the next migration, and how many are under way.
#[derive(Default)]
pub struct Links {
    kept: Mutex<Vec<Link>>,
    under_way: AtomicUsize,
}

impl Links {
    /// One more migration is under way; false when there are too many.
    pub fn enter(&self) -> bool {
        let add = |count: usize| (count < MIGRATIONS_MAX).then_some(count + 1);
        self.under_way.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    /// A migration has come to its end: its link waits for the next one.
    pub fn leave(&self, migration: Migration) {
        self.under_way.fetch_sub(1, Relaxed);
        let Some(mut link) = migration.link else {
            return;
        };
        if migration.failure.is_some() {
            link.db = None;
        }
        link.used = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|link| link.used.elapsed() < LINK_KEPT);
        if kept.len() < LINKS_MAX {
            kept.push(link);
        }
    }

    /// How many links wait.
    pub fn kept(&self) -> usize {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|link| link.used.elapsed() < LINK_KEPT);
        kept.len()
    }

    fn take(&self, target: &Target, is_sealed: bool) -> Option<Link> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|link| link.used.elapsed() < LINK_KEPT);
        let at = kept.iter().position(|link| {
            let is_there = link.host == target.host && link.port == target.port;
            is_there && link.is_sealed == is_sealed
        })?;
        Some(kept.swap_remove(at))
    }
}

/// Makes the link of a migration, and sends it back to its core.
pub fn connect(node: &'static Node, migration: Box<Migration>) {
    spawn(node, migration, |node, migration| {
        let target = &migration.target;
        let kept = node.links.take(target, node.config().tls_cluster);
        match kept.map_or_else(|| open(node, target), Ok) {
            Ok(link) => migration.link = Some(link),
            Err(_) => migration.failure = Some(Failure::Connecting),
        }
    });
}

/// Sends the parcels of a migration, reads what becomes of them, and sends it back to its core.
pub fn deliver(node: &'static Node, migration: Box<Migration>) {
    spawn(node, migration, |node, migration| {
        let failure = deliver_all(migration, |target| open(node, target)).err();
        migration.failure = failure;
    });
}

/// Does something with a migration in a thread of its own; without one it comes back as if there were no other server.
fn spawn(
    node: &'static Node,
    migration: Box<Migration>,
    work: impl FnOnce(&Node, &mut Migration) + Send + 'static,
) {
    // Shared so that it is not lost with a thread that cannot be made.
    let shared = Arc::new(Mutex::new(Some(migration)));
    let take = |shared: &Mutex<Option<Box<Migration>>>| {
        shared.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    let theirs = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("migrate".to_owned());
    let made = thread.spawn(move || {
        if let Some(mut migration) = take(&theirs) {
            work(node, &mut migration);
            send_back(node, migration);
        }
    });
    if made.is_err()
        && let Some(mut migration) = take(&shared)
    {
        migration.failure = Some(Failure::Connecting);
        send_back(node, migration);
    }
}

fn send_back(node: &Node, migration: Box<Migration>) {
    let core = migration.ticket.core;
    node.post(core, Mail::Migration(migration), POST_TRIES);
}

fn deliver_all(
    migration: &mut Migration,
    open: impl Fn(&Target) -> io::Result<Link>,
) -> Result<(), Failure> {
    let Some(mut link) = migration.link.take() else {
        return Err(Failure::Connecting);
    };
    let mut done = exchange(&mut link, migration);
    if let Err((failure, error)) = &done
        && failure_is_of_link(failure)
        && !is_timeout(error)
        && none_is_there(migration)
    {
        // The other end had gone before it heard of this, as that of a kept link may: once more, as Redis does.
        link = open(&migration.target).map_err(|_| Failure::Connecting)?;
        done = exchange(&mut link, migration);
    }
    keep(migration, link, done)
}

/// The link is good for more unless it has broken.
fn keep(
    migration: &mut Migration,
    link: Link,
    done: Result<(), (Failure, io::Error)>,
) -> Result<(), Failure> {
    let done = done.map_err(|(failure, _)| failure);
    if done
        .as_ref()
        .err()
        .is_none_or(|failure| !failure_is_of_link(failure))
    {
        migration.link = Some(link);
    }
    done
}

fn failure_is_of_link(failure: &Failure) -> bool {
    !matches!(failure, Failure::Target(_))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn none_is_there(migration: &Migration) -> bool {
    migration.parcels.iter().all(|parcel| !parcel.delivered)
}

/// Sends everything, reads everything. Replies are short: the other server can put them down while it reads.
fn exchange(link: &mut Link, migration: &mut Migration) -> Result<(), (Failure, io::Error)> {
    let target = &migration.target;
    let selects = link.db != Some(target.db);
    link.db = None;
    let writing = |error| (Failure::Writing, error);
    let stream = link.stream.get_mut();
    stream.set_timeout(target.timeout).map_err(writing)?;
    let mut out = Vec::new();
    if !target.auth.is_empty() {
        request::encode(&auth_words(target), &mut out);
    }
    if selects {
        let db = target.db.to_string();
        request::encode(&["SELECT", &db], &mut out);
    }
    for parcel in &migration.parcels {
        if let Some(payload) = &parcel.payload {
            let name = if target.asking {
                "RESTORE-ASKING"
            } else {
                "RESTORE"
            };
            let ttl = parcel.ttl_ms.to_string();
            let words: [&[u8]; 5] = [
                name.as_bytes(),
                &parcel.key,
                ttl.as_bytes(),
                payload,
                b"REPLACE",
            ];
            request::encode(&words[..4 + usize::from(target.replace)], &mut out);
            stream.write_all(&out).map_err(writing)?;
            out.clear();
        }
    }
    stream.write_all(&out).map_err(writing)?;

    let reading = |error| (Failure::Reading, error);
    let mut first = None;
    let prologue = usize::from(!target.auth.is_empty()) + usize::from(selects);
    for _ in 0..prologue {
        let line = link.line().map_err(reading)?;
        first = first.or_else(|| line.strip_prefix(b"-").map(<[u8]>::to_vec));
    }
    // What was restored for somebody else, or in another database, is not here.
    let misled = first.is_some();
    for parcel in migration
        .parcels
        .iter_mut()
        .filter(|parcel| parcel.payload.is_some())
    {
        let line = link.line().map_err(reading)?;
        match line.strip_prefix(b"-") {
            Some(error) => {
                first.get_or_insert_with(|| error.to_vec());
            }
            None => parcel.delivered = !misled,
        }
    }
    match first {
        Some(error) => Err((Failure::Target(error), ErrorKind::Other.into())),
        None => {
            link.db = Some(migration.target.db);
            Ok(())
        }
    }
}

fn auth_words(target: &Target) -> Vec<Vec<u8>> {
    let mut words = vec![b"AUTH".to_vec()];
    words.extend_from_slice(&target.auth);
    words
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use runtime::{ConnId, CoreId};

    use super::*;

    /// Another server: it hears one round of requests from each connection, and says this.
    fn server(says: Vec<&'static str>) -> (u16, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = thread::spawn(move || {
            let hear = |says: &'static str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut heard = String::new();
                // Each ends with the last key's payload, "3".
                while !heard.contains("$1\r\n3\r\n") {
                    let mut some = [0; 1000];
                    let len = stream.read(&mut some).unwrap();
                    heard += std::str::from_utf8(&some[..len]).unwrap();
                }
                stream.write_all(says.as_bytes()).unwrap();
                if says.is_empty() || says.ends_with('\n') {
                    return heard;
                }
                // It says no more for now.
                let _ended = stream.read(&mut [0; 10]);
                heard
            };
            says.into_iter().map(hear).collect()
        });
        (port, heard)
    }

    fn migration(port: u16, auth: &[&str]) -> Migration {
        let parcel = |key: &str, payload: Option<&str>| Parcel {
            key: key.as_bytes().into(),
            payload: payload.map(|payload| payload.as_bytes().to_vec()),
            ttl_ms: 0,
            delivered: false,
        };
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port,
            db: 5,
            timeout: Duration::from_millis(200),
            auth: auth.iter().map(|word| word.as_bytes().to_vec()).collect(),
            replace: false,
            asking: false,
        };
        let parcels = vec![
            parcel("a", Some("1")),
            parcel("none", None),
            parcel("b", Some("3")),
        ];
        let ticket = Ticket {
            core: CoreId(0),
            conn: ConnId::from_u64(1),
            seq: 0,
        };
        let link = Link::open(&target, None).ok();
        Migration {
            link,
            ..Migration::new(ticket, target, 0, false, parcels)
        }
    }

    #[test]
    fn what_replies_come_to() {
        let target = |line: &str| Err(Failure::Target(line.as_bytes().to_vec()));
        type Case = (
            Vec<&'static str>,
            &'static [&'static str],
            Result<(), Failure>,
            [bool; 2],
        );
        let cases: [Case; 8] = [
            (vec!["+OK\r\n+OK\r\n+OK\r\n"], &[], Ok(()), [true, true]),
            (
                vec!["+OK\r\n-NO x\r\n+OK\r\n"],
                &[],
                target("NO x"),
                [false, true],
            ),
            (
                vec!["-ERR db\r\n+OK\r\n+OK\r\n"],
                &[],
                target("ERR db"),
                [false, false],
            ),
            (
                vec!["-WRONGPASS x\r\n+OK\r\n+OK\r\n-NOAUTH x\r\n"],
                &["user", "secret"],
                target("WRONGPASS x"),
                [false, false],
            ),
            // It falls silent, hangs up after the first key, hangs up twice at once.
            (
                vec!["+OK\r\n+OK\r\n+"],
                &[],
                Err(Failure::Reading),
                [true, false],
            ),
            (
                vec!["+OK\r\n+OK\r\n"],
                &[],
                Err(Failure::Reading),
                [true, false],
            ),
            (vec!["", ""], &[], Err(Failure::Reading), [false, false]),
            // Who has only gone is tried again.
            (vec!["", "+OK\r\n+OK\r\n+OK\r\n"], &[], Ok(()), [true, true]),
        ];
        for (says, auth, expected, delivered) in cases {
            let (port, heard) = server(says.clone());
            let mut migration = migration(port, auth);
            let done = deliver_all(&mut migration, |target| Link::open(target, None));
            assert_eq!(done, expected, "{says:?}");
            let there: Vec<bool> = migration
                .parcels
                .iter()
                .map(|parcel| parcel.delivered)
                .collect();
            assert_eq!(there, [delivered[0], false, delivered[1]], "{says:?}");
            assert_eq!(migration.link.is_some(), done != Err(Failure::Reading));
            drop(migration);
            let heard = heard.join().unwrap();
            let restore = |key, payload| {
                format!("*4\r\n$7\r\nRESTORE\r\n$1\r\n{key}\r\n$1\r\n0\r\n$1\r\n{payload}\r\n")
            };
            let login = if auth.is_empty() {
                ""
            } else {
                "*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$6\r\nsecret\r\n"
            };
            let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n";
            let all = format!("{login}{select}{}{}", restore("a", 1), restore("b", 3));
            assert!(heard.iter().all(|heard| *heard == all), "{heard:?}");
        }
    }

    #[test]
    fn links_are_kept_and_migrations_counted() {
        let (port, heard) = server(vec!["+OK\r\n+OK\r\n+OK\r\n+"]);
        let links = Links::default();
        assert!((0..MIGRATIONS_MAX).all(|_| links.enter()) && !links.enter());
        let mut first = migration(port, &[]);
        let open = |target: &Target| Link::open(target, None);
        assert_eq!(deliver_all(&mut first, open), Ok(()));
        let target = first.target.clone();
        links.leave(first);
        assert!(links.enter(), "one has ended");
        assert!(links.take(&target, true).is_none(), "it is plain");
        let kept = links.take(&target, false).unwrap();
        assert_eq!(kept.db, Some(5), "SELECT is not needed again");
        assert!(links.take(&target, false).is_none());
        drop(kept);
        heard.join().unwrap();
    }
}
