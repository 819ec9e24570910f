//! A thread that follows a source: a link, PSYNC, the stream, and again after a second when it is lost.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use migration::psync::{FileEnd, Handshake, Hello, Outcome};
use migration::stream::Stream;
use migration::{Position, ReplId};

use super::apply::{self, Done};
use super::batch::{self, Gatherer, Origin};
use super::{Line, Link, Share, Target, clock, lock, many, scan};
use crate::connection::{Connection, Request};
use crate::control::dial;
use crate::node::Node;
use crate::start::unix_ms;

/// How long after a failure the source is tried again, as in Redis.
const RETRY: Duration = Duration::from_secs(1);
/// The same when a whole file had come and could not be taken in: it costs the source much, and somebody has to do something about it as a rule.
const RETRY_LATE: Duration = Duration::from_secs(10);
/// How often the source is told how far this replica has come.
const ACK: Duration = Duration::from_secs(1);
/// How long a read waits, so that nothing else waits longer.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of the stream that wait, whole requests, while a batch runs, before no more is read.
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// How long a batch waits at a time while too much waits for the disk.
const CHOKED: Duration = Duration::from_millis(5);
/// What ends a session that another has followed.
pub(super) const ENDED: &str = "nobody is to be followed any more";

/// Follows a source until the session of this number is ended.
pub(super) fn run(node: &'static Node, line: Arc<Line>, target: &Arc<Target>, number: u64) {
    let mut session = Session {
        node,
        line,
        number,
        stream: None,
        piece: vec![0; PIECE_BYTES],
        is_settled: false,
        has_loaded: false,
        has_failed_late: false,
        heard: Instant::now(),
        told: String::new(),
    };
    loop {
        let why = match session.follow(target) {
            Ok(never) => match never {},
            Err(why) => why,
        };
        session.stream = None;
        if !session.counts() || node.stopping.load(Relaxed) {
            return;
        }
        session.lose(target, why);
        let pause = match core::mem::take(&mut session.has_failed_late) {
            true => RETRY_LATE,
            false => RETRY,
        };
        if !session.rest(pause) {
            return;
        }
    }
}

/// There is no such end: a session ends by an error.
pub(super) enum Never {}

/// See the module's head.
pub(super) struct Session {
    pub(super) node: &'static Node,
    /// The line that it is of.
    pub(super) line: Arc<Line>,
    /// Its number: it counts while no other has been given out.
    pub(super) number: u64,
    pub(super) stream: Option<dial::Stream>,
    /// Where bytes are read to.
    pub(super) piece: Vec<u8>,
    /// What clients had begun before the authority changed has ended.
    pub(super) is_settled: bool,
    /// A copy has been begun: some of it may be here.
    has_loaded: bool,
    /// The last copy has failed when all of it was there.
    pub(super) has_failed_late: bool,
    /// When the last byte came.
    heard: Instant,
    /// The failure that was logged last.
    told: String,
}

pub(super) fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

impl Session {
    fn counts(&self) -> bool {
        *lock(&self.line.order) == self.number
    }

    /// Whether it is to go on.
    pub(super) fn look(&self) -> Result<(), String> {
        match self.counts() && !self.node.stopping.load(Relaxed) {
            true => Ok(()),
            false => Err(ENDED.to_owned()),
        }
    }

    /// Waits for a time; false when the session has been ended meanwhile.
    fn rest(&self, time: Duration) -> bool {
        let source = Arc::clone(&self.line);
        let until = Instant::now() + time;
        let mut order = lock(&source.order);
        while *order == self.number && !self.node.stopping.load(Relaxed) {
            let left = until.saturating_duration_since(Instant::now()).min(LOOK);
            if left.is_zero() {
                return true;
            }
            let waited = source.ended.wait_timeout(order, left);
            order = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        false
    }

    /// A byte has come.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
        lock(&self.line.state).heard_ms = unix_ms();
    }

    /// Nothing has come for a while: whether that has been too long.
    pub(super) fn endure(&self) -> Result<(), String> {
        let timeout_s = self.node.config().repl_timeout_s;
        match self.heard.elapsed() > Duration::from_secs(timeout_s) {
            true => Err(format!(
                "the source has been silent for {timeout_s} seconds (repl-timeout)"
            )),
            false => Ok(()),
        }
    }

    /// The link is lost: the data here stays as it is.
    fn lose(&mut self, target: &Target, why: String) {
        let source = Arc::clone(&self.line);
        source.set_link(Link::Connect);
        source.note(|status| {
            if status.down_since_ms == 0 {
                status.down_since_ms = unix_ms();
            }
            status.error = Some(why.clone());
        });
        if self.told != why {
            self.node.log(|log| {
                log.warning(&format!("Following {}:{}: {why}", target.host, target.port))
            });
            self.told = why;
        }
    }

    fn follow(&mut self, target: &Arc<Target>) -> Result<Never, String> {
        if self.line.scan.is_on() {
            return scan::follow(self, target);
        }
        self.wait_for_start()?;
        let source = Arc::clone(&self.line);
        source.set_link(Link::Connecting);
        self.connect(target)?;
        source.set_link(Link::Handshake);
        let from = source.position();
        let (outcome, rest) = self.shake(target, from)?;
        let (position, rest) = match outcome {
            Outcome::Full(position, end) => {
                let is_left = from.is_some() || self.has_loaded;
                if is_left && source.share() == Share::Hand {
                    let why = "A source cannot go on from where its data here is";
                    return Err(many::again(self.node, &self.line, self.number, why));
                }
                self.has_loaded = true;
                source.set_link(Link::Sync);
                self.begin_copy(position, end);
                let rest = self.copy(rest, position, end)?;
                (position, rest)
            }
            // (Asked for with a position.)
            Outcome::Continue(replid) => {
                let from = from.ok_or("the source goes on from nowhere")?;
                let position = Position {
                    replid: replid.unwrap_or(from.replid),
                    ..from
                };
                self.node.log(|log| {
                    log.notice(&format!(
                        "The source goes on behind offset {}",
                        position.offset
                    ))
                });
                source.note(|status| status.resumes += 1);
                (position, rest)
            }
            Outcome::More => return Err("the source has not answered".to_owned()),
        };
        // (Nobody has read while the file was loaded.)
        self.hear();
        source.set_link(Link::Connected);
        source.note(|status| (status.down_since_ms, status.error) = (0, None));
        self.told.clear();
        Streaming::new(self, target, position).run(&rest)
    }

    /// Waits until the data of the start is there, and until every core heeds the authority.
    pub(super) fn wait_for_start(&mut self) -> Result<(), String> {
        if self.is_settled {
            return Ok(());
        }
        while self.node.loading.is_on() {
            if !self.rest(LOOK / 10) {
                return Err(ENDED.to_owned());
            }
        }
        self.node.loading.note_start();
        super::tell_cores(self.node)?;
        while !self.node.source.is_taken() {
            if !self.rest(Duration::from_millis(1)) {
                return Err(ENDED.to_owned());
            }
        }
        Ok(())
    }

    fn begin_copy(&self, position: Position, end: FileEnd) {
        let size = match end {
            FileEnd::Bytes(bytes) => format!("{bytes} bytes"),
            FileEnd::Mark(_) => "as many bytes as there are".to_owned(),
        };
        self.node.log(|log| {
            log.notice(&format!(
                "Full copy from the source: {size}, history {}, offset {}",
                position.replid.text(),
                position.offset
            ));
        });
    }

    fn connect(&mut self, target: &Target) -> Result<(), String> {
        let config = self.node.config();
        let timeout = Duration::from_secs(config.repl_timeout_s);
        let failed = |error: std::io::Error| format!("cannot connect: {error}");
        let stream = clock::dial(&config, target, timeout).map_err(failed)?;
        stream
            .socket()
            .set_read_timeout(Some(LOOK))
            .map_err(failed)?;
        self.keep_socket(stream.socket())?;
        self.stream = Some(stream);
        self.hear();
        Ok(())
    }

    /// Whoever ends the session shuts this socket; who has ended it before finds the number changed.
    pub(super) fn keep_socket(&self, socket: &std::net::TcpStream) -> Result<(), String> {
        let socket = socket.try_clone().map_err(|error| error.to_string())?;
        let order = lock(&self.line.order);
        if *order != self.number {
            return Err(ENDED.to_owned());
        }
        lock(&self.line.state).socket = Some(socket);
        Ok(())
    }

    /// Tells the source who this is, and asks it; what it answers, and what it has sent behind that.
    fn shake(
        &mut self,
        target: &Target,
        from: Option<Position>,
    ) -> Result<(Outcome, Vec<u8>), String> {
        let config = self.node.config();
        let (user, password) = clock::login(&config, target);
        let port = match config.replica_announce_port {
            0 if config.tls_replication && config.tls_port != 0 => config.tls_port,
            0 => config.port,
            port => port,
        };
        let hello = Hello {
            user,
            password,
            port,
            address: config.replica_announce_ip.clone(),
            version: crate::admin::VERSION_REPORTED,
            from,
        };
        let mut out = Vec::new();
        let mut shakes = Handshake::new(hello, &mut out);
        let mut piece = vec![0; 4096];
        let mut asked = Instant::now();
        loop {
            if !out.is_empty() {
                self.write(&out)?;
                out.clear();
                asked = Instant::now();
            }
            let read = self.read(&mut piece)?;
            let (taken, outcome) = shakes
                .take(&piece[..read], &mut out)
                .map_err(|fault| fault.to_string())?;
            if let Some(time_us) = shakes.time_us.take() {
                self.line.note_clock(time_us, asked.elapsed());
            }
            for remark in shakes.remarks.drain(..) {
                self.node.log(|log| {
                    log.notice(&format!("The source does not understand all: {remark}"))
                });
            }
            if outcome != Outcome::More {
                return Ok((outcome, piece[taken..read].to_vec()));
            }
        }
    }

    /// The stream is not gone on with; what ends the session. Where a source has flushed what cannot be told from others' keys, its keys here are copied
    /// again.
    fn end_by(&mut self, fault: &batch::Fault) -> String {
        if matches!(fault, batch::Fault::Flushed(_)) {
            if self.line.share() == Share::Hand {
                return many::again(self.node, &self.line, self.number, &fault.to_string());
            }
            let order = lock(&self.line.order);
            if *order == self.number {
                self.line.set_position(None);
            }
        }
        fault.to_string()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stream = self.stream.as_mut().ok_or("there is no link")?;
        stream
            .write_all(bytes)
            .map_err(|error| format!("the link is broken: {error}"))
    }
}

/// The stream of a link.
struct Streaming<'s> {
    session: &'s mut Session,
    replid: ReplId,
    stream: Stream,
    gatherer: Gatherer,
    /// The client that requests are run for, unless it is with them.
    conn: Option<Box<Connection>>,
    to: Sender<Done>,
    from: Receiver<Done>,
    acked: Instant,
    /// When the source was last asked for its clock.
    clock_asked: Instant,
    target: Arc<Target>,
}

impl<'s> Streaming<'s> {
    fn new(session: &'s mut Session, target: &Arc<Target>, position: Position) -> Streaming<'s> {
        let mut conn = Connection::inside(session.node.users().default_user());
        conn.db = position.db;
        let (to, from) = channel();
        Streaming {
            replid: position.replid,
            stream: Stream::new(position.offset, position.db),
            gatherer: Gatherer::default(),
            conn: Some(conn),
            to,
            from,
            acked: Instant::now(),
            clock_asked: Instant::now(),
            target: Arc::clone(target),
            session,
        }
    }

    fn run(mut self, first: &[u8]) -> Result<Never, String> {
        // A primary that sends without a file awaits this before it sends the stream.
        self.ack()?;
        self.stream.feed(first);
        let ended = loop {
            if let Err(why) = self.turn() {
                break why;
            }
        };
        // What is under way is the last of it.
        if self.conn.is_none() {
            let _last = self.take_back();
        }
        Err(ended)
    }

    /// Executes what has come, and reads on.
    fn turn(&mut self) -> Result<(), String> {
        let node = self.session.node;
        loop {
            let clock_us = self.session.line.source_clock_us();
            let share = self.session.line.share();
            let origin = Origin {
                share: &share,
                replid: self.replid,
                now_ms: unix_ms().saturating_add_signed(clock_us / 1000),
                dbs: node.config().db_count() as u64,
            };
            let Some(batch) = self
                .gatherer
                .gather(&mut self.stream, origin, node)
                .map_err(|fault| self.session.end_by(&fault))?
            else {
                break;
            };
            if batch.has_relative && self.clock_asked.elapsed() >= clock::EVERY {
                self.clock_asked = Instant::now();
                clock::ask(node, &self.session.line, &self.target);
            }
            let (wants_ack, position) = (batch.wants_ack, batch.position(origin.replid));
            self.take_back()?;
            self.execute(batch.requests, position)?;
            if wants_ack {
                self.take_back()?;
                self.ack()?;
            }
        }
        if self.stream.waiting_bytes() <= AHEAD_BYTES_MAX {
            // What was sent runs meanwhile; when nothing more comes it is waited for.
            let has_come = self.read_some()?;
            if !has_come {
                self.take_back()?;
            }
        } else {
            self.take_back()?;
            self.read_some()?;
        }
        if self.acked.elapsed() >= ACK {
            self.ack()?;
        }
        Ok(())
    }

    /// Executes requests, up to a position. Behind what is executed before: it has come back.
    fn execute(&mut self, requests: Vec<Request>, position: Position) -> Result<(), String> {
        let node = self.session.node;
        if requests.is_empty() && self.session.is_settled {
            // Nothing but signs of life.
            let order = lock(&self.session.line.order);
            if *order == self.session.number {
                self.session.line.advance(position);
            }
            return Ok(());
        }
        while node.write_log.is_choked() {
            if !self.session.rest(CHOKED) {
                return Err(ENDED.to_owned());
            }
        }
        let conn = self
            .conn
            .take()
            .ok_or("the last requests have not come back")?;
        let claims_all = !core::mem::replace(&mut self.session.is_settled, true);
        apply::send(
            node,
            (&self.session.line, self.session.number),
            (conn, requests),
            (position, claims_all),
            self.to.clone(),
        )
    }

    /// Waits for what is executed now, if anything is.
    fn take_back(&mut self) -> Result<(), String> {
        if self.conn.is_some() {
            return Ok(());
        }
        let node = self.session.node;
        let mut done = apply::wait(node, &self.from)?;
        self.conn = Some(done.conn);
        if !done.counts {
            return Err(ENDED.to_owned());
        }
        if node.source.is_many() {
            // (Each of several has the same libraries: one has been there first.)
            let requests = &done.requests;
            let is_library = |at: usize| {
                let request = requests.get(at);
                request.is_some_and(|request| request.row.spec.name.starts_with("function|"))
            };
            done.failed.retain(|failed| !is_library(failed.at));
        }
        for failed in &done.failed {
            let name = done
                .requests
                .get(failed.at)
                .map_or("", |request| request.row.spec.name);
            let key = done.requests.get(failed.at).and_then(|request| {
                request
                    .args()
                    .word(1)
                    .map(|key| String::from_utf8_lossy(key).into_owned())
            });
            let (offset, key) = (self.session.line.applied(), key.unwrap_or_default());
            node.log(|log| {
                log.warning(&format!(
                    "A request of the source failed here, before offset {offset}: {name} {key}: {}. If it did not fail there the data differs",
                    failed.error
                ));
            });
        }
        if !done.failed.is_empty() {
            self.session
                .line
                .note(|status| status.failures += done.failed.len() as u64);
        }
        Ok(())
    }

    /// Reads what is there, or comes within a moment; whether something has come.
    fn read_some(&mut self) -> Result<bool, String> {
        let session = &mut *self.session;
        session.look()?;
        let Some(stream) = &mut session.stream else {
            return Err("there is no link".to_owned());
        };
        match stream.read(&mut session.piece) {
            Ok(0) => Err("the source has closed the link".to_owned()),
            Ok(read) => {
                self.stream.feed(&session.piece[..read]);
                let come = self.stream.offset() + self.stream.waiting_bytes() as u64;
                session.line.read.store(come, Relaxed);
                session.hear();
                Ok(true)
            }
            Err(error) if is_timeout(&error) => session.endure().map(|()| false),
            Err(error) => Err(format!("the link is broken: {error}")),
        }
    }

    /// Tells the source how far this replica has come.
    fn ack(&mut self) -> Result<(), String> {
        self.acked = Instant::now();
        let offset = self.session.line.applied().to_string();
        let mut out = Vec::new();
        protocol::request::encode(&["REPLCONF", "ACK", &offset], &mut out);
        self.session.write(&out)
    }
}
