//! What a running script finds behind `redis.call`: the core it runs on, as far as its slots reach.

use std::sync::Arc;

use commands::Run;
use protocol::{Args, Flags, Refusal, Resp};
use runtime::{ConnId, Peer};
use script::{Called, Host};
use storage::{Key, Slot};

use crate::acl::Place;
use crate::connection::Connection;
use crate::core::{Core, Scope};
use crate::holds::NOREPLICAS;
use crate::scripts::Caller;
use crate::table::{Kind, Plan, Row};

/// A slot that no connection has.
const NO_CONN: u64 = u64::MAX;

/// See the module's head.
pub(crate) struct ScriptHost<'c> {
    pub(crate) core: &'c mut Core,
    pub(crate) caller: Caller,
    /// The database that the script has selected.
    pub(crate) db: u8,
    /// It may not write.
    pub(crate) read_only: bool,
    /// In cluster mode: the slot of its first key, when it must stay in one.
    pub(crate) slot: Option<Slot>,
    pub(crate) one_slot: bool,
    /// Memory was full when it began, and it has not written yet: then it may not do what may need more.
    pub(crate) lacks_memory: bool,
    /// The client that commands of the node see, once one has been called.
    pub(crate) client: Option<Box<Connection>>,
}

/// A command that is not run.
enum Not {
    Refused(&'static str),
    /// By the user's rules.
    Denied(String),
    /// The log of writes cannot be written.
    Misconf(String),
    /// Too few replicas are near.
    NoReplicas,
    /// Clients may not write here.
    Readonly,
    NoMemory,
    Abandoned,
}

impl Host for ScriptHost<'_> {
    fn call(&mut self, args: Args<'_>, resp: Resp, out: &mut Vec<u8>) -> Called {
        let row = self.find(&args);
        match self.may_run(row, &args) {
            Err(Not::Abandoned) => Called::Abandon,
            Err(Not::Denied(text)) => {
                self.core.tally.refused("NOPERM");
                Called::Refused(text)
            }
            Err(Not::Misconf(text)) => {
                self.core.tally.refused("MISCONF");
                Called::Refused(text)
            }
            Err(Not::NoReplicas) => {
                self.core.tally.refused("NOREPLICAS");
                Called::Refused(NOREPLICAS.to_owned())
            }
            Err(Not::Readonly) => {
                self.core.tally.refused("READONLY");
                Called::Refused(Refusal::Readonly.to_string())
            }
            Err(Not::NoMemory) => {
                if let Some(row) = row {
                    self.core.tally.rejected(row.index);
                }
                self.core.tally.refused("OOM");
                Called::Refused(Refusal::Oom.to_string())
            }
            Err(Not::Refused(text)) => {
                if let Some(row) = row {
                    self.core.tally.rejected(row.index);
                }
                let text = format!("ERR {text}");
                self.core.tally.refused("ERR");
                Called::Refused(text)
            }
            Ok(row) => {
                if self.core.watchers.count > 0 {
                    self.core.show_in_script(self.db, row, &args);
                }
                self.run(row, args.skip(row.name_words - 1), resp, out);
                Called::Replied
            }
        }
    }

    fn may_call(&mut self, args: Args<'_>) -> Option<bool> {
        let row = self.find(&args)?;
        let user = self.caller.user.as_ref();
        Some(user.is_none_or(|user| user.check(row, &args).is_ok()))
    }

    fn log(&mut self, level: u8, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        self.core.node.log(|log| log.script(level, &text));
    }
}

impl ScriptHost<'_> {
    /// The row of a command or subcommand.
    fn find(&self, args: &Args<'_>) -> Option<&'static Row> {
        let table = self.core.table;
        let row = table.find(args.word(0)?)?;
        if row.subcommands.is_empty() {
            return Some(row);
        }
        match args.word(1) {
            Some(name) => match table.subcommand(row, name) {
                // A container that runs itself (COMMAND, MEMORY...) takes other words too.
                None if !matches!(row.kind, Kind::Container) => Some(row),
                found => found,
            },
            None => Some(row),
        }
    }

    fn may_run(&mut self, row: Option<&'static Row>, args: &Args<'_>) -> Result<&'static Row, Not> {
        let row = row.ok_or(Not::Refused("Unknown Redis command called from script"))?;
        if !row.spec.arity.accepts(args.total()) {
            return Err(Not::Refused(
                "Wrong number of args calling Redis command from script",
            ));
        }
        let for_tests = self.core.all_in_scripts
            && matches!(
                row.kind,
                Kind::Node(_) | Kind::Data(Run::Read(_) | Run::Write(_))
            );
        if row.spec.flags.contains(Flags::NOSCRIPT) && !for_tests {
            return Err(Not::Refused(
                "This Redis command is not allowed from script",
            ));
        }
        let writes = row.writes || row.spec.flags.contains(Flags::MAY_REPLICATE);
        if self.read_only && writes {
            return Err(Not::Refused(
                "Write commands are not allowed from read-only scripts.",
            ));
        }
        if self.core.refuses() && row.writes {
            let why = self.core.log_failure().to_string();
            return Err(Not::Misconf(why));
        }
        if row.writes && self.core.is_read_only() {
            return Err(Not::Readonly);
        }
        if self.core.owns_some() && !self.core.scripts.obeys && self.core.is_others(row, args) {
            return Err(Not::Refused(
                "Script attempted to access a key that the source of the migration decides",
            ));
        }
        if self.core.lacks_replicas() && row.writes {
            return Err(Not::NoReplicas);
        }
        let waits = || {
            let words = (1..args.total()).filter_map(|at| args.word(at));
            let before_keys = words.take_while(|word| !word.eq_ignore_ascii_case(b"STREAMS"));
            before_keys
                .into_iter()
                .any(|word| word.eq_ignore_ascii_case(b"BLOCK"))
        };
        if matches!(row.spec.name, "xread" | "xreadgroup") && waits() {
            return Err(Not::Refused(if row.spec.name == "xread" {
                "xread command is not allowed with BLOCK option from scripts"
            } else {
                "xreadgroup command is not allowed with BLOCK option from scripts"
            }));
        }
        self.permit(row, args)?;
        if self.lacks_memory && row.spec.flags.contains(Flags::DENYOOM) {
            return Err(Not::NoMemory);
        }
        // What has begun to write is not stopped in the middle.
        self.lacks_memory &= !row.writes;
        self.reach(row, &args.clone().skip(row.name_words - 1))?;
        Ok(row)
    }

    /// What the script's user may not do, its script may not.
    fn permit(&mut self, row: &'static Row, args: &Args<'_>) -> Result<(), Not> {
        let Some(user) = &self.caller.user else {
            return Ok(());
        };
        let Err(denied) = user.check(row, args) else {
            return Ok(());
        };
        let refusal = denied.refusal(user, row).to_string();
        let text = refusal.strip_prefix("NOPERM ").unwrap_or(&refusal);
        let text = format!("NOPERM ACL failure in script: {text}");
        let client = self.client.take().unwrap_or_else(|| self.new_client());
        let object = denied.object(row, args);
        self.core
            .note_denied(&client, denied.into(), Place::Lua, object, None);
        self.client = Some(client);
        Err(Not::Denied(text))
    }

    /// Whether all that a command needs is in place.
    fn reach(&mut self, row: &'static Row, args: &Args<'_>) -> Result<(), Not> {
        let has_all = self.caller.has_all(self.core);
        let (slots, whole) = match row.plan {
            Plan::Node => return Ok(()),
            Plan::Single(word) => {
                let slot = args.word(word as usize).map(Slot::of);
                (Slots::One(slot), false)
            }
            Plan::Multi => {
                let mut slots = Vec::new();
                Core::slots_of(row, args, &mut slots);
                (Slots::Some(slots), Core::needs_whole(row, args))
            }
            _ => (Slots::One(None), !self.caller.own_port),
        };
        if self.core.config.cluster_enabled {
            return self.stay(slots.iter());
        }
        let reached = |slot: Slot| has_all || self.core.is_reached(slot);
        if (whole && !has_all) || !slots.iter().all(reached) {
            return Err(Not::Abandoned);
        }
        Ok(())
    }

    /// In cluster mode a script keeps to the slots of this node, and mostly to one.
    fn stay(&mut self, slots: impl Iterator<Item = Slot>) -> Result<(), Not> {
        for slot in slots {
            let has_all = self.caller.has_all(self.core);
            if !has_all && !self.core.is_reached(slot) {
                return Err(if self.caller.own_port {
                    Not::Refused("Script attempted to access a non local key in a cluster node")
                } else {
                    Not::Abandoned
                });
            }
            if self.one_slot && *self.slot.get_or_insert(slot) != slot {
                return Err(Not::Refused(
                    "Script attempted to access keys that do not hash to the same slot",
                ));
            }
        }
        Ok(())
    }

    fn run(&mut self, row: &'static Row, args: Args<'_>, resp: Resp, out: &mut Vec<u8>) {
        if let Kind::Node(run) = row.kind {
            let mut client = self.client.take().unwrap_or_else(|| self.new_client());
            (client.db, client.resp) = (self.db, resp);
            self.core.run_inside(&mut client, row, run, args, out);
            self.db = client.db;
            self.client = Some(client);
            return;
        }
        if let Some(tracker) = self.caller.tracker {
            self.core.track_for(tracker, self.db, row, &args);
        }
        let first = match row.plan {
            Plan::Single(word) => args.word(word as usize).map(|key| Key::new(self.db, key)),
            _ => None,
        };
        let scope = if self.caller.has_all(self.core) && !self.caller.own_port {
            Scope::Whole
        } else {
            self.caller.scope
        };
        self.core.settings[scope as usize].in_script = true;
        self.core.run(row, args, (self.db, resp, scope), first, out);
        self.core.settings[scope as usize].in_script = false;
    }

    fn new_client(&self) -> Box<Connection> {
        let now_ms = self.core.now.unix_ms;
        let free = self.core.users.default_user();
        let user = Arc::clone(self.caller.user.as_ref().unwrap_or(free));
        let conn = ConnId::from_u64(NO_CONN);
        let mut client = Box::new(Connection::new(conn, 0, (Peer::Unix, -1), user, now_ms));
        client.authenticated = true;
        client.own_port = self.caller.own_port;
        client
    }
}

/// Slots of a command: mostly one.
enum Slots {
    One(Option<Slot>),
    Some(Vec<Slot>),
}

impl Slots {
    fn iter(&self) -> impl Iterator<Item = Slot> {
        let (one, some) = match self {
            Slots::One(one) => (*one, &[][..]),
            Slots::Some(some) => (None, some.as_slice()),
        };
        one.into_iter().chain(some.iter().copied())
    }
}
