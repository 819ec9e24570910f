//! SLOWLOG and COMMANDLOG: the last requests that took long, were large, or had a large reply.
//!
//! ```text
//! core: run ──> over a bound? ──> Noted ──> its words are at hand ──> Entry ──┬─ the client is of this core ──> the node's log
//!                 one comparison    rare                                      └─ else: by mail to its core, for its name
//! ```
//! A request costs two comparisons here; whatever is noted takes a lock that all cores share, which is why the bounds are high.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use protocol::Args;
use runtime::{ConnId, CoreId};

use crate::config::Config;
use crate::connection::Connection;
use crate::core::Core;
use crate::mail::Mail;
use crate::redact::shown;
use crate::slot_counts::{self, request_bytes};
use crate::table::Row;

/// Words of a request that are kept; the last one then tells how many were not.
const WORDS_MAX: usize = 32;
/// Bytes of a word that are kept.
const WORD_BYTES_MAX: usize = 128;

/// Why a request was noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It took long: microseconds.
    Slow,
    /// It was large: bytes.
    LargeRequest,
    /// Its reply was large: bytes.
    LargeReply,
}

impl Kind {
    /// From which value on a request is noted, and how many notes are kept.
    fn bounds(self, config: &Config) -> (Option<u64>, usize) {
        let (from, len) = match self {
            Kind::Slow => (config.slowlog_log_slower_than_us, config.slowlog_max_len),
            Kind::LargeRequest => (
                config.commandlog_request_larger_than_bytes,
                config.commandlog_large_request_max_len,
            ),
            Kind::LargeReply => (
                config.commandlog_reply_larger_than_bytes,
                config.commandlog_large_reply_max_len,
            ),
        };
        (
            u64::try_from(from).ok(),
            usize::try_from(len).unwrap_or(usize::MAX),
        )
    }
}

/// One note.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Its number among those of its kind.
    pub id: u64,
    /// When, unix seconds.
    pub unix_s: u64,
    /// Microseconds, or bytes.
    pub value: u64,
    /// The request's words, cut.
    pub words: Vec<Vec<u8>>,
    /// The client's address and name.
    pub addr: String,
    /// See `addr`.
    pub name: Vec<u8>,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

/// The logs of a node.
#[derive(Default)]
pub struct CommandLog([Mutex<Log>; 3]);

impl CommandLog {
    fn with<R>(&self, kind: Kind, f: impl FnOnce(&mut Log) -> R) -> R {
        let log = &self.0[kind as usize];
        f(&mut log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a note; of the older ones only so many stay.
    fn push(&self, kind: Kind, mut entry: Entry, len_max: usize) {
        self.with(kind, |log| {
            entry.id = log.next_id;
            log.next_id += 1;
            log.entries.push_front(entry);
            log.entries.truncate(len_max);
        });
    }

    /// The last notes, the newest first.
    pub fn last(&self, kind: Kind, count: usize) -> Vec<Entry> {
        self.with(kind, |log| {
            log.entries.iter().take(count).cloned().collect()
        })
    }

    /// How many there are.
    pub fn len(&self, kind: Kind) -> usize {
        self.with(kind, |log| log.entries.len())
    }

    /// Forgets them; the numbers go on.
    pub fn reset(&self, kind: Kind) {
        self.with(kind, |log| log.entries = VecDeque::new());
    }
}

/// From where on a core notes what it has run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The lesser of the next two; 0 when slots are counted. `ticks | bytes` is no less than each: one comparison finds all that may be over a bound.
    pub least: u64,
    /// Ticks that a request takes, for the log or for LATENCY.
    pub ticks: u64,
    /// Bytes of a reply.
    pub reply_bytes: usize,
    /// Bytes of a request.
    pub request_bytes: usize,
}

impl Bounds {
    /// As the configuration says.
    pub fn of(config: &Config, ticks_per_us: f64) -> Bounds {
        let ticks = |us: u64| (us as f64 * ticks_per_us).ceil() as u64;
        let bytes = |kind: Kind| {
            let from = kind.bounds(config).0.unwrap_or(u64::MAX);
            usize::try_from(from).unwrap_or(usize::MAX)
        };
        let slow = Kind::Slow.bounds(config).0.map_or(u64::MAX, ticks);
        let late = match config.latency_monitor_threshold_ms {
            0 => u64::MAX,
            ms => ticks(ms.saturating_mul(1000)),
        };
        let reply_bytes = bytes(Kind::LargeReply);
        Bounds {
            least: match slot_counts::is_on(config) {
                true => 0,
                false => slow.min(late).min(reply_bytes as u64),
            },
            ticks: slow.min(late),
            reply_bytes,
            request_bytes: bytes(Kind::LargeRequest),
        }
    }
}

/// A request that has just run and is over a bound; whoever has its words makes a note of it.
#[derive(Clone, Copy)]
pub struct Noted {
    /// The command.
    pub row: &'static Row,
    /// Ticks that it took.
    pub ticks: u64,
    /// Bytes of its reply.
    pub reply_bytes: usize,
}

/// Whose request it was.
#[derive(Clone, Copy)]
pub enum Client<'a> {
    /// This client of this core.
    Here(&'a Connection),
    /// A client that its core knows.
    Of(CoreId, ConnId),
}

/// A note on its way to the client's core.
pub struct Unnamed {
    /// Why it was made.
    pub kind: Kind,
    /// The client.
    pub conn: ConnId,
    /// The note, without address and name.
    pub entry: Entry,
}

impl Core {
    /// Makes a note of what has just run, whose words these are.
    #[cold]
    pub fn note(&mut self, row: &'static Row, args: &Args<'_>, client: Client<'_>) {
        let Some(noted) = self.noted.take() else {
            return;
        };
        if !core::ptr::eq(noted.row, row) {
            // Of another request, which nobody asked for.
            return;
        }
        if self.slot_counts.is_on() {
            self.count_slot(row, args, noted.ticks, noted.reply_bytes);
        }
        let us = (noted.ticks as f64 / self.ticks_per_us) as u64;
        self.note_latency(row, us / 1000);
        self.note_one(Kind::Slow, us, row, args, client);
        self.note_one(
            Kind::LargeReply,
            noted.reply_bytes as u64,
            row,
            args,
            client,
        );
    }

    /// Makes a note of a request, if it is large.
    #[cold]
    pub fn note_request(&mut self, row: &'static Row, args: &Args<'_>, client: Client<'_>) {
        let bytes = request_bytes(args);
        self.note_one(Kind::LargeRequest, bytes as u64, row, args, client);
    }

    fn note_one(
        &mut self,
        kind: Kind,
        value: u64,
        row: &'static Row,
        args: &Args<'_>,
        client: Client<'_>,
    ) {
        let (from, _) = kind.bounds(&self.config);
        let skipped = row.spec.flags.contains(protocol::Flags::SKIP_SLOWLOG);
        if skipped || from.is_none_or(|from| value < from) {
            return;
        }
        let mut entry = Entry {
            unix_s: self.now.unix_ms / 1000,
            value,
            words: cut(row, args),
            ..Entry::default()
        };
        match client {
            Client::Here(conn) => {
                sign(&mut entry, Some(conn));
                self.keep_note(kind, entry);
            }
            Client::Of(core, conn) => {
                let unnamed = Unnamed { kind, conn, entry };
                self.posts.push((core, Mail::Noted(Box::new(unnamed))));
            }
        }
    }

    /// Puts a note into the node's log.
    pub fn keep_note(&mut self, kind: Kind, entry: Entry) {
        let (_, len_max) = kind.bounds(&self.config);
        self.node.commandlog.push(kind, entry, len_max);
    }
}

/// Says whose a note is; of a client that has gone nothing is known.
pub fn sign(entry: &mut Entry, client: Option<&Connection>) {
    entry.addr = client.map_or_else(|| "?:0".to_owned(), Connection::addr);
    let names = client.and_then(|client| client.names.as_deref());
    entry.name = names.map(|names| names.name.clone()).unwrap_or_default();
}

/// The words of a request, so many and so much of each as a note holds.
fn cut(row: &Row, args: &Args<'_>) -> Vec<Vec<u8>> {
    let total = args.total();
    let kept = if total > WORDS_MAX {
        WORDS_MAX - 1
    } else {
        total
    };
    let mut words: Vec<Vec<u8>> = Vec::with_capacity(kept + 1);
    for at in 0..kept {
        let word = shown(row, args, at);
        let mut text = word[..word.len().min(WORD_BYTES_MAX)].to_vec();
        if word.len() > WORD_BYTES_MAX {
            let more = word.len() - WORD_BYTES_MAX;
            text.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
        }
        words.push(text);
    }
    if total > kept {
        words.push(format!("... ({} more arguments)", total - kept).into_bytes());
    }
    words
}
