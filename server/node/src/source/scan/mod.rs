//! A session that follows a source *by scan*: one that bars PSYNC, as managed services do.
//!
//! ```text
//!  source ── __keyevent@*__:* ──> thread "source-events": events.rs ──> desk.rs: keys that were touched, marks
//!     ^                                                                     │ take
//!     └── SCAN (pass.rs), MEMORY USAGE, DUMP, PEXPIRETIME (fetch.rs) <──────┴── this session's thread
//!                                             │
//!                                             v  a visit of a core: RESTORE … ABSTTL, DEL, where it is not so already
//! ```
//! What it promises, and when: `migration::scan`. There is no position of it: a session that begins makes a whole pass, and until that is over nothing
//! counts as followed; keys that are not there go at its end, never before. The data here stays meanwhile.
//!
//! **Where it may stop.** `*order == number` is looked at with each batch, on its core, as for a stream. Values are put as requests that another has executed:
//! who waits for a key here, or tracks it, hears of it.
//!
//! **Cost.** At the source three requests for a key in a pass, four for one that was touched, and what its events cost it; half of its time
//! at most is taken from it, but for a sweep or when [`HURRY_KEYS`] wait. Here one batch of [`fetch::KEYS_MAX`] keys at a time, and `migrate-scan-value-max-bytes` for the largest.

mod desk;
mod events;
mod fetch;
mod pass;

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use migration::ReplId;
use migration::scan::{Board, Pulse, lacking, probe, probed_all};
use migration::{Server, assess};
use protocol::answer::Answer;

pub use desk::{Desk, Shown};

use super::session::{ENDED, Never, Session};
use super::{Link, Target, clock};
use crate::connection::Connection;
use crate::control::migrate::{Wire, refused, text_of, wire_to};
use events::Events;

/// How long an answer of the source is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether keys may have been changed without an event, and whether the events' connection is there.
const WATCH: Duration = Duration::from_secs(1);
/// How often keys that could not be taken in are tried again.
const UNFIT_AGAIN: Duration = Duration::from_secs(10);
/// The rest of a session that has nothing to fetch.
const IDLE: Duration = Duration::from_millis(20);
/// The rest between two pieces, at least and at most, and from how many waiting keys on there is none.
const REST_MIN: Duration = Duration::from_millis(2);
const REST_MAX: Duration = Duration::from_millis(20);
const HURRY_KEYS: usize = 4096;
/// How long the events of a probe are waited for.
const PROBE_MAX: Duration = Duration::from_secs(3);
/// The option that says which events there are.
const OPTION: &str = "notify-keyspace-events";

fn failed(error: std::io::Error) -> String {
    format!("the link is broken: {error}")
}

/// A session while its connections are there.
struct Scanner<'s> {
    session: &'s mut Session,
    wire: Wire,
    events: Events,
    version: (u64, u64),
    /// CONFIG is allowed.
    has_config: bool,
    /// FUNCTION DUMP is.
    has_functions: bool,
    /// What it gave last.
    functions: Option<Vec<u8>>,
    /// The client that requests are run for, unless it is with them.
    conn: Option<Box<Connection>>,
    /// The database that is selected.
    db: u8,
    pulse: Pulse,
    watched: Instant,
    unfit_tried: Instant,
}

/// Follows until it fails, or is ended.
///
/// # Errors
/// Why it is not followed any more.
pub(super) fn follow(session: &mut Session, target: &Target) -> Result<Never, String> {
    session.wait_for_start()?;
    let line = Arc::clone(&session.line);
    line.set_link(Link::Connecting);
    let mut scanner = Scanner::begin(session, target)?;
    let ended = scanner.run();
    line.note(|status| status.copying = None);
    if let Err(why) = &ended
        && let Ok(mut board) = scanner.board()
        && board.is_whole()
    {
        // (What the events' thread has found is counted already.)
        board.lose(why);
    }
    ended
}

/// A server as a connection of the migration names it.
fn server_of(session: &Session, target: &Target) -> Server {
    Server {
        host: target.host.clone(),
        port: target.port,
        tls: clock::wants_tls(&session.node.config(), target),
    }
}

impl<'s> Scanner<'s> {
    fn begin(session: &'s mut Session, target: &Target) -> Result<Scanner<'s>, String> {
        let server = server_of(session, target);
        let mut wire = wire_to(session.node, &server, ANSWER_MAX)?;
        session.keep_socket(wire.socket())?;
        session.hear();
        let info = text_of(&call(&mut wire, &["INFO", "server"])?);
        if assess::field(&info, "redis_mode") == Some("cluster") {
            return Err(
                "the source is a shard of a cluster: its shards cannot be followed by scan"
                    .to_owned(),
            );
        }
        let has_config = set_events(&mut wire)?;
        session.line.set_link(Link::Handshake);
        let events = wire_to(session.node, &server, ANSWER_MAX)?;
        let events = Events::begin(&session.line, events)?;
        let conn = Connection::inside(session.node.users().default_user());
        let now = Instant::now();
        let mut scanner = Scanner {
            session,
            wire,
            events,
            version: assess::version(&info),
            has_config,
            has_functions: assess::version(&info) >= (7, 0),
            functions: None,
            conn: Some(conn),
            db: 0,
            pulse: Pulse::default(),
            watched: now,
            unfit_tried: now,
        };
        scanner.probe_events()?;
        scanner.pulse = scanner.read_pulse()?;
        scanner.settle()?;
        Ok(scanner)
    }

    fn run(&mut self) -> Result<Never, String> {
        let line = Arc::clone(&self.session.line);
        loop {
            self.keep()?;
            if !line.scan.is_whole() {
                self.pass()?;
                continue;
            }
            let begun = Instant::now();
            let names = self.board()?.take(fetch::KEYS_MAX);
            let is_idle = names.is_empty();
            self.fetch_names(names)?;
            let has_swept = {
                let mut board = self.board()?;
                board.settle();
                board.has_swept()
            };
            match has_swept {
                true => self.end_sweep()?,
                false if is_idle => line.scan.rest(IDLE),
                false => self.spare(begun)?,
            }
        }
    }

    /// The source has as much time for others as what was begun then has taken from it: a key that is written all the while is read a number of
    /// times a second, not for each write. Not while somebody waits for what is queued, nor when too much is.
    fn spare(&self, begun: Instant) -> Result<(), String> {
        let rests = {
            let board = self.board()?;
            !board.sweeps() && board.waiting().0 < HURRY_KEYS
        };
        if rests {
            std::thread::sleep(begun.elapsed().clamp(REST_MIN, REST_MAX));
        }
        Ok(())
    }

    /// The board, while this session's events are those that come to it.
    fn board(&self) -> Result<MutexGuard<'_, Board>, String> {
        let board = self.session.line.scan.board_of(self.events.epoch);
        board.ok_or_else(|| ENDED.to_owned())
    }

    /// What is looked at all the while, whatever else goes on.
    fn keep(&mut self) -> Result<(), String> {
        self.session.look()?;
        self.events.check()?;
        if self.watched.elapsed() >= WATCH {
            self.watch()?;
            // (Its echo says that the connection of the events is there.)
            self.session.line.scan.ask(None);
        }
        if self.unfit_tried.elapsed() >= UNFIT_AGAIN {
            self.unfit_tried = Instant::now();
            self.board()?.try_unfit_again();
        }
        Ok(())
    }

    /// Whether keys may have been changed without an event.
    fn watch(&mut self) -> Result<(), String> {
        self.watched = Instant::now();
        let now = self.read_pulse()?;
        self.session.hear();
        if let Some(why) = self.pulse.breaks(&now) {
            self.board()?.lose(why);
        }
        self.pulse = now;
        if !self.has_config {
            return Ok(());
        }
        let lacks = flags_of(&mut self.wire)?.as_deref().and_then(lacking);
        if lacks.is_some() {
            self.board()?
                .lose("notify-keyspace-events was changed at the source");
            // (The pass that follows begins behind this.)
            set_events(&mut self.wire)?;
        }
        Ok(())
    }

    /// All that was written before the sweep is here: what else there may be.
    fn end_sweep(&mut self) -> Result<(), String> {
        self.watch()?;
        self.fetch_functions()?;
        // (Ended by `watch`, if that has found a loss.)
        self.board()?.end_sweep(Ok(()));
        Ok(())
    }

    /// What clients had begun here before the source decided has ended; the log says that what is here is no history's.
    fn settle(&mut self) -> Result<(), String> {
        let slots = (0..storage::SLOTS as u16).map(storage::Slot).collect();
        self.visit(slots, |core, _| {
            core.shard.effects().note_source(0, ReplId::NONE.bytes(), 0);
        })?;
        self.session.is_settled = true;
        Ok(())
    }

    fn read_pulse(&mut self) -> Result<Pulse, String> {
        let mut info = text_of(&self.call(&["INFO", "server"])?);
        info.push_str(&text_of(&self.call(&["INFO", "commandstats"])?));
        Ok(Pulse::of(&info))
    }

    /// Where it cannot be asked which events there are, one of each type is made, seen by nobody.
    fn probe_events(&mut self) -> Result<(), String> {
        if self.has_config {
            return Ok(());
        }
        self.call_all(&probe())?;
        let until = Instant::now() + PROBE_MAX;
        while let Some(missing) = probed_all(&self.events.probed()) {
            self.session.look()?;
            self.events.check()?;
            if Instant::now() > until {
                return Err(format!(
                    "the source sends no keyspace events ({missing}), and CONFIG is not allowed: set {OPTION} to KEA there (of a managed service in its parameters)"
                ));
            }
            std::thread::sleep(IDLE);
        }
        Ok(())
    }

    /// Whether deadlines are told as they are (from Redis 7.0 on).
    fn is_absolute(&self) -> bool {
        self.version >= (7, 0)
    }

    /// The source's clock, unix ms.
    fn time_ms(&mut self) -> Result<u64, String> {
        let time_us = clock::time_of(&self.call(&["TIME"])?);
        time_us
            .map(|time_us| time_us / 1000)
            .ok_or_else(|| "the source: TIME is no time".to_owned())
    }

    fn select(&mut self, db: u8) -> Result<(), String> {
        if self.db != db {
            self.call(&["SELECT", &db.to_string()])?;
            self.db = db;
        }
        Ok(())
    }

    fn call(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Answer, String> {
        call(&mut self.wire, words)
    }

    fn call_all(&mut self, requests: &[Vec<Vec<u8>>]) -> Result<Vec<Answer>, String> {
        let answers = self.wire.call_all(requests).map_err(failed)?;
        match answers.iter().position(Answer::is_error) {
            Some(at) => {
                let name = requests.get(at).and_then(|words| words.first());
                let name = name.map_or("", |name| core::str::from_utf8(name).unwrap_or(""));
                Err(format!("the source: {name}: {}", text_of(&answers[at])))
            }
            None => Ok(answers),
        }
    }
}

/// One request that must not be refused.
fn call(wire: &mut Wire, words: &[impl AsRef<[u8]>]) -> Result<Answer, String> {
    let answer = wire.call(words).map_err(failed)?;
    refused(answer).map_err(|why| {
        let name = words.first().map_or(&b""[..], AsRef::as_ref);
        format!("the source: {}: {why}", name.escape_ascii())
    })
}

/// Which events the source sends; None where it does not say.
fn flags_of(wire: &mut Wire) -> Result<Option<String>, String> {
    let answer = wire.call(&["CONFIG", "GET", OPTION]).map_err(failed)?;
    Ok(match answer {
        Answer::Array(pair) => pair.get(1).map(text_of),
        _ => None,
    })
}

/// Has it send events of all types; false where CONFIG is not allowed, so that it must be found out otherwise.
fn set_events(wire: &mut Wire) -> Result<bool, String> {
    let Some(flags) = flags_of(wire)? else {
        return Ok(false);
    };
    let Some(wanted) = lacking(&flags) else {
        return Ok(true);
    };
    let set = wire
        .call(&["CONFIG", "SET", OPTION, &wanted])
        .map_err(failed)?;
    refused(set).map(|_| true).map_err(|why| {
        format!("{OPTION} is '{flags}' at the source and must be '{wanted}', and CONFIG SET is refused ({why}): set it there")
    })
}
