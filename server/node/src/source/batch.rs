//! The stream's requests gathered for a visit: up to some KiB of what has come, whole transactions, nothing that a primary does not replicate.

use core::fmt;

use migration::stream::{Damage, Said, Stream};
use migration::{Position, ReplId, absolute};
use protocol::Args;
use storage::Slot;

use super::Share;
use super::line::is_position;
use crate::connection::Request;
use crate::control::log::import::row_of;
use crate::node::Node;
use crate::table::{Kind, Row};

/// Bytes of requests that make a batch...
const BATCH_BYTES: usize = 64 << 10;
/// ...and of a transaction that is never one: as much as a client's MULTI may queue.
const MULTI_BYTES_MAX: usize = 1 << 30;

/// What leads on where the stream does not.
const COPY: &str =
    "a full copy (`migrate back` and `migrate start`, or REPLICAOF NO ONE and REPLICAOF again)";

/// Why the stream is not gone on with.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its bytes are no stream.
    Damage(Damage),
    /// A request that this server cannot execute, behind this offset: its words, and why.
    Request(u64, String, String),
    /// One of several sources has emptied a database, or has two of them changed: this command.
    Flushed(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Damage(damage) => write!(
                f,
                "{damage}. The data here stays as of that offset, and the link is made anew from there; if it stays so, {COPY} leaves the damage behind"
            ),
            Fault::Request(offset, words, why) => write!(
                f,
                "the source's stream behind offset {offset} has '{words}': {why}. The data here stays as of that offset; {COPY} leaves the request behind"
            ),
            Fault::Flushed(name) => write!(
                f,
                "the source has executed {}, which is about keys of other sources here: its own are copied again",
                name.to_uppercase()
            ),
        }
    }
}

impl core::error::Error for Fault {}

/// What is known of the source that the requests come from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// Its keys.
    pub share: &'a Share,
    /// Its history.
    pub replid: ReplId,
    /// Its clock, unix ms.
    pub now_ms: u64,
    /// Databases that this server has.
    pub dbs: u64,
}

/// Requests that are to be executed at one instant.
#[derive(Default)]
pub(super) struct Batch {
    /// In their order.
    pub requests: Vec<Request>,
    /// The offset behind them.
    pub offset: u64,
    /// The database that is selected there.
    pub db: u8,
    /// The source wants to hear how far this replica has come.
    pub wants_ack: bool,
    /// A deadline of it was relative.
    pub has_relative: bool,
    bytes: usize,
}

impl Batch {
    /// The position behind it.
    pub(super) fn position(&self, replid: ReplId) -> Position {
        Position {
            replid,
            offset: self.offset,
            db: self.db,
        }
    }
}

/// Gathers requests from a stream; a transaction that is not whole waits in it.
#[derive(Default)]
pub(super) struct Gatherer {
    /// The transaction that has begun.
    multi: Vec<Request>,
    multi_bytes: usize,
    has_relative: bool,
    /// What is wrong behind the batch that was given last.
    fault: Option<Fault>,
}

impl Gatherer {
    /// What has come of the stream, up to a batch's size; none when it is nothing but beginnings.
    ///
    /// # Errors
    /// [`Fault`], when all that precedes it has been given.
    pub(super) fn gather(
        &mut self,
        stream: &mut Stream,
        origin: Origin<'_>,
        node: &'static Node,
    ) -> Result<Option<Batch>, Fault> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let mut batch = None;
        match self.gather_into(&mut batch, stream, origin, node) {
            Err(fault) if batch.is_none() => Err(fault),
            Err(fault) => {
                self.fault = Some(fault);
                Ok(batch)
            }
            Ok(()) => Ok(batch),
        }
    }

    fn gather_into(
        &mut self,
        batch: &mut Option<Batch>,
        stream: &mut Stream,
        origin: Origin<'_>,
        node: &'static Node,
    ) -> Result<(), Fault> {
        loop {
            let before = stream.offset();
            let mut is_ack = false;
            match stream.next().map_err(Fault::Damage)? {
                None => break,
                Some(Said::Nothing | Said::Begin) => {}
                Some(Said::Ack) => is_ack = true,
                Some(Said::End) => {
                    let into = batch.get_or_insert_default();
                    into.bytes += core::mem::take(&mut self.multi_bytes);
                    into.requests.append(&mut self.multi);
                }
                Some(Said::Request(args)) => {
                    let (request, is_relative) = take(&args, origin, node)
                        .map_err(|why| Fault::Request(before, shown(&args), why))?;
                    if *origin.share != Share::All && empties(request.row) {
                        return Err(Fault::Flushed(request.row.spec.name));
                    }
                    if let Some(key) = foreign(&request, origin.share) {
                        if matches!(origin.share, Share::Keys(..)) && !is_position(&key) {
                            let why =
                                "another server has this key by the patterns of `start`, or none"
                                    .to_owned();
                            return Err(Fault::Request(before, shown(&args), why));
                        }
                        // What another shard has taken over is said by that one. What has come to this one is here when that is known: until
                        // then the one before it is about to say that it is gone.
                        if request.row.spec.name.starts_with("restore") {
                            node.front.unsettle([Slot::of(&key)].into_iter());
                        }
                        continue;
                    }
                    let bytes = request.bytes();
                    self.has_relative |= is_relative;
                    if stream.db() >= origin.dbs {
                        let why = format!(
                            "this server has {} databases (option `databases`)",
                            origin.dbs
                        );
                        return Err(Fault::Request(
                            before,
                            format!("SELECT {}", stream.db()),
                            why,
                        ));
                    }
                    if stream.is_between() {
                        let into = batch.get_or_insert_default();
                        into.bytes += bytes;
                        into.requests.push(request);
                    } else {
                        self.multi_bytes += bytes;
                        self.multi.push(request);
                    }
                    if self.multi_bytes > MULTI_BYTES_MAX {
                        let why = format!("the transaction is longer than {MULTI_BYTES_MAX} bytes");
                        return Err(Fault::Request(before, "MULTI".to_owned(), why));
                    }
                }
            }
            if stream.is_between() {
                let into = batch.get_or_insert_default();
                into.offset = stream.offset();
                into.db = u8::try_from(stream.db()).unwrap_or(u8::MAX);
                into.wants_ack |= is_ack;
                into.has_relative |= core::mem::take(&mut self.has_relative);
                if is_ack || into.bytes >= BATCH_BYTES {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A request of the stream as it is executed here; whether its deadline was relative.
fn take(
    args: &Args<'_>,
    origin: Origin<'_>,
    node: &'static Node,
) -> Result<(Request, bool), String> {
    const UNKNOWN: &str = "the command is not known to this server";
    let name = args.word(0).unwrap_or_default();
    let row = row_of(node.table(), name, args.word(1)).ok_or(UNKNOWN)?;
    if !is_replicated(row) {
        return Err("a primary does not replicate this command".to_owned());
    }
    let (request, words, is_relative) = match absolute(args, origin.now_ms) {
        Some(words) => {
            let name = words.first().map_or(&b""[..], Vec::as_slice);
            let row = node.table().find(name).ok_or(UNKNOWN)?;
            (Request::of_words(row, &words), words.len(), true)
        }
        None => (Request::new(row, args), args.total(), false),
    };
    match request.row.spec.arity.accepts(words) {
        true => Ok((request, is_relative)),
        false => Err("wrong number of words".to_owned()),
    }
}

/// Whether a command may come in a stream: those on data and channels, scripts, and what goes with them.
fn is_replicated(row: &Row) -> bool {
    match row.kind {
        Kind::Data(_) | Kind::Publish(_) | Kind::Script(_) => true,
        Kind::Node(_) => {
            let name = row.spec.name;
            name == "select"
                || name.starts_with("function|")
                || matches!(name, "script|load" | "script|flush")
        }
        Kind::Container => false,
    }
}

/// Whether a command is about keys that are not named.
fn empties(row: &Row) -> bool {
    matches!(row.spec.name, "flushall" | "flushdb" | "swapdb")
}

/// A key of a request that is not a line's.
fn foreign(request: &Request, share: &Share) -> Option<Vec<u8>> {
    if !share.is_told() {
        return None;
    }
    let (args, mut found) = (request.args(), None);
    // A request whose keys cannot be told is refused by its handler.
    let _ = request.row.spec.keys_of(&args, |index, _| {
        let key = args.word(index).filter(|key| !share.has(key));
        found = key.map(<[u8]>::to_vec).or(found.take());
    });
    found
}

/// The first words of a request, for the log: its name and its key.
fn shown(args: &Args<'_>) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    let words = (0..args.total().min(2)).filter_map(|at| args.word(at));
    let words = words.map(|word| {
        String::from_utf8_lossy(word.get(..SHOWN_BYTES_MAX).unwrap_or(word)).into_owned()
    });
    words.collect::<Vec<_>>().join(" ")
}
