//! MIGRATE: keys move to another server.
//!
//! ```text
//! this core                                                            a thread (control/transfer.rs)
//! the request ──────────────────────────────────────────────────────> connect
//! a transaction takes the slots: DUMP; the slots stay held <─────────
//!                          ────────────────────────────────────────> RESTORE there, replies
//! the slots are in place again: delivered keys are removed, reply <──
//! ```
//! While keys are on their way their slots are held, as by any transaction: requests for them wait, those for other slots do not
//! (Redis stops altogether). So a key is at one server at a time for whoever asks through either, nothing that is written here is
//! lost, and a key that the other server has not acknowledged stays. Making the connection holds nothing.

use std::time::Duration;

use commands::Refused;
use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec,
};
use storage::{EventClass, Key, Slot, rdb};

use crate::admin::{Context, Done, NodeCommand};
use crate::control::transfer::{self, Failure, Migration, Parcel, Step, Target};
use crate::core::Core;
use crate::service::NodeService;
use crate::transaction::Job;

const MOVED: KeyFlags = KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE);
/// The timeout of who gives none, ms.
const TIMEOUT_MS_DEFAULT: u64 = 1000;
/// Words before the options.
const OPTIONS_AT: usize = 6;

pub(super) const COMMANDS: &[NodeCommand] = &[NodeCommand {
    spec: Spec {
        name: "migrate",
        summary: "Moves keys to another server.",
        group: Group::Generic,
        since: "2.6.0",
        arity: Arity::at_least(6),
        flags: Flags::MOVABLEKEYS.and(Flags::WRITE),
        acl: Acl::DANGEROUS
            .and(Acl::KEYSPACE)
            .and(Acl::SLOW)
            .and(Acl::WRITE),
        keys: &[
            KeySpec {
                begin: Begin::Index(3),
                find: Find::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                flags: MOVED,
            },
            KeySpec {
                begin: Begin::Keyword {
                    word: "KEYS",
                    from: -2,
                },
                find: Find::Range {
                    last: -1,
                    step: 1,
                    limit: 0,
                },
                flags: MOVED.and(KeyFlags::INCOMPLETE),
            },
        ],
        range: (3, 3, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Some(migrate),
}];

/// A request's words.
struct Request<'a> {
    target: Target,
    copy: bool,
    keys: Vec<&'a [u8]>,
}

fn parse<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let word = |at: usize| args.word(at).unwrap_or_default();
    let (mut copy, mut replace, mut auth) = (false, false, Vec::new());
    let mut keys = vec![word(3)];
    let mut at = OPTIONS_AT;
    while at < args.total() {
        let option = word(at).to_ascii_uppercase();
        let auth_words = match option.as_slice() {
            b"AUTH" => 1,
            b"AUTH2" => 2,
            _ => 0,
        };
        match option.as_slice() {
            b"COPY" => copy = true,
            b"REPLACE" => replace = true,
            b"AUTH" | b"AUTH2" if args.total() - 1 - at >= auth_words => {
                auth = (at + 1..=at + auth_words)
                    .map(|at| word(at).to_vec())
                    .collect();
            }
            b"KEYS" if word(3).is_empty() => {
                keys = (at + 1..args.total()).map(word).collect();
                break;
            }
            b"KEYS" => {
                return Err(Refusal::Text(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                ));
            }
            _ => return Err(Refusal::Syntax),
        }
        at += 1 + auth_words;
    }
    let int = |at: usize| protocol::number::parse_i64(word(at)).ok_or(Refusal::NotInteger);
    let timeout_ms = u64::try_from(int(5)?).ok().filter(|ms| *ms > 0);
    let port = core::str::from_utf8(word(2)).ok();
    Ok(Request {
        target: Target {
            host: String::from_utf8_lossy(word(1)).into_owned(),
            // A port that is none is one that nobody answers at.
            port: port.and_then(|port| port.parse().ok()).unwrap_or(0),
            db: int(4)?,
            timeout: Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT)),
            auth,
            replace,
            asking: false,
        },
        copy,
        keys,
    })
}

fn migrate(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let mut request = parse(&args)?;
    if cx.inside_exec {
        let text =
            "ERR MIGRATE is not possible inside MULTI or a script: it waits for another server";
        return Err(Refusal::Text(text).into());
    }
    request.target.asking = cx.core.config.cluster_enabled;
    let slots = slots_of(request.keys.iter().copied());
    if cx.core.config.cluster_enabled && slots.len() > 1 {
        return Err(Refusal::CrossSlot.into());
    }
    if request.keys.is_empty() {
        cx.reply.simple("NOKEY");
        return Ok(Done::Replied);
    }
    if !cx.core.node.links.enter() {
        let text = "ERR too many MIGRATE at once";
        return Err(Refusal::Text(text).into());
    }
    let parcels = request.keys.iter().map(|key| Parcel {
        key: (*key).into(),
        payload: None,
        ttl_ms: 0,
        delivered: false,
    });
    let migration = Migration::new(
        cx.core.begin_exclusive(cx.conn),
        request.target,
        cx.conn.db,
        request.copy,
        parcels.collect(),
    );
    transfer::connect(cx.core.node, Box::new(migration));
    Ok(Done::Later)
}

fn slots_of<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = keys.map(Slot::of).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

impl Core {
    /// All slots of a migration are in place: its keys are taken, and come back to be delivered while the slots stay held; or,
    /// when they have been delivered, they are removed, and the reply is written.
    pub(crate) fn run_migration(
        &mut self,
        number: u64,
        mut migration: Box<Migration>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Migration>> {
        let resp = protocol::Resp::V2;
        let is_delivered = migration.step != Step::Connected;
        // (Whether there is a server to send nothing to does not matter.)
        let has_some = is_delivered || self.take_parcels(&mut migration);
        if has_some && !is_delivered && migration.failure.is_none() {
            migration.step = Step::Delivered(number);
            return Some(migration);
        }
        if is_delivered {
            self.remove_delivered(&migration);
        }
        match migration.failure.as_ref().map(refusal_of) {
            _ if !has_some => Reply::new(out, resp).simple("NOKEY"),
            Some(refusal) => self.refuse(&refusal, resp, out),
            None => Reply::new(out, resp).ok(),
        }
        self.node.links.leave(*migration);
        None
    }

    /// Writes down what is to be sent; whether there is anything.
    fn take_parcels(&mut self, migration: &mut Migration) -> bool {
        let now_ms = self.now.unix_ms;
        for parcel in &mut migration.parcels {
            let key = Key::new(migration.from_db, &parcel.key);
            parcel.payload = self.shard.value(&key).map(rdb::dump);
            let deadline_ms = self.shard.deadline_ms(&key).flatten();
            parcel.ttl_ms = deadline_ms.map_or(0, |at_ms| at_ms.saturating_sub(now_ms).max(1));
        }
        let is_there = |parcel: &Parcel| parcel.payload.is_some();
        migration.parcels.iter().any(is_there)
    }

    fn remove_delivered(&mut self, migration: &Migration) {
        if migration.copy {
            return;
        }
        for parcel in migration.parcels.iter().filter(|parcel| parcel.delivered) {
            let key = Key::new(migration.from_db, &parcel.key);
            let mut edit = self.shard.edit();
            if edit.remove(&key) {
                edit.event(EventClass::Generic, "del", &key);
            }
        }
    }
}

fn refusal_of(failure: &Failure) -> Refusal {
    let text = match failure {
        Failure::Connecting => "IOERR error or timeout connecting to the client",
        Failure::Writing => "IOERR error or timeout writing to target instance",
        Failure::Reading => "IOERR error or timeout reading to target instance",
        Failure::Target(line) => {
            let line = String::from_utf8_lossy(line);
            let text = format!("ERR Target instance replied with error: {line}");
            return Refusal::Owned(text.into());
        }
    };
    Refusal::Text(text)
}

impl NodeService {
    /// A migration is back from its thread.
    pub(crate) fn on_migration(&mut self, migration: Box<Migration>) {
        match migration.step {
            Step::Connected => {
                let slots = slots_of(migration.parcels.iter().map(|parcel| &*parcel.key));
                let needs = self.core.needs(&slots, Vec::new());
                let ticket = migration.ticket;
                self.core.start_tx(ticket, Job::Migrate(migration), needs);
            }
            Step::Delivered(number) => {
                if let Some(tx) = self.core.txs.get_mut(&number) {
                    tx.job = Job::Migrate(migration);
                    self.run_tx(number);
                }
            }
        }
    }
}
