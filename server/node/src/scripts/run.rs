//! From a request of EVAL or FCALL to its reply.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use commands::Refused;
use protocol::{Args, Flags as RowFlags, Refusal, Reply, Resp, number};
use script::{Engine, Flags, FlagsOf, Halt, Library, Outcome, Run, Script, Sha, sha1_hex};
use storage::Slot;

use crate::acl::User;
use crate::connection::{Connection, Request};
use crate::core::{Core, Scope};
use crate::dispatch::Flow;
use crate::scripts::host::ScriptHost;
use crate::scripts::shared::Shown;
use crate::scripts::watchdog::Watchdog;
use crate::scripts::{Kind, shared};
use crate::table::{self, Row};
use crate::tracking::{Place, Tracking};
use crate::transaction::Job;
use runtime::CoreId;

/// For whom a script runs.
#[derive(Clone)]
pub struct Caller {
    /// The selected database.
    pub db: u8,
    /// The protocol of the reply.
    pub resp: Resp,
    /// What part of the keyspace it finds here.
    pub scope: Scope,
    /// It came by the core's own port.
    pub own_port: bool,
    /// The user, unless that one may do everything.
    pub user: Option<Arc<User>>,
    /// Who is told when keys change that the script reads.
    pub tracker: Option<Place>,
}

impl Caller {
    /// A connection whose script runs in this scope.
    pub(crate) fn of(conn: &Connection, core: CoreId, scope: Scope) -> Caller {
        let tracking = conn.tracking.as_deref();
        Caller {
            db: conn.db,
            resp: conn.resp,
            scope,
            own_port: conn.own_port,
            user: (!conn.user.may_all).then(|| Arc::clone(&conn.user)),
            tracker: tracking
                .is_some_and(Tracking::remembers)
                .then_some((core, conn.conn)),
        }
    }

    /// The same caller, whose script has slots in place for a moment.
    pub(crate) fn in_transaction(self, scope: Scope) -> Caller {
        Caller {
            scope,
            own_port: false,
            ..self
        }
    }

    /// Whether every slot that it could ask for is here.
    pub(crate) fn has_all(&self, core: &Core) -> bool {
        core.has_every_slot() || core.tx_slots.len() == storage::SLOTS
    }
}

/// Whether a run has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Its reply is written.
    Replied,
    /// It needs slots that are not here. It has left no trace, and is to begin anew with every slot.
    NeedsAll,
    /// It has run for long, in the turn that began at so many monotonic us. It has left no trace, and is to begin anew beside the cores.
    IsLong(u64),
}

/// The code of a request.
pub(crate) enum Code {
    Script(Arc<Script>),
    Function(Arc<Library>, String, Flags),
}

impl Code {
    fn is_wide(&self) -> bool {
        match self {
            Code::Script(script) => script.is_wide(),
            Code::Function(library, ..) => library.is_wide(),
        }
    }

    fn set_wide(&self) {
        match self {
            Code::Script(script) => script.set_wide(),
            Code::Function(library, ..) => library.set_wide(),
        }
    }

    /// Whether it starts beside the cores.
    pub(crate) fn is_long(&self) -> bool {
        match self {
            Code::Script(script) => script.is_long(),
            Code::Function(library, name, _) => library.is_long(name),
        }
    }

    pub(crate) fn set_long(&self, is_long: bool) {
        match self {
            Code::Script(script) => script.set_long(is_long),
            Code::Function(library, name, _) => library.set_long(name, is_long),
        }
    }

    fn flags(&self) -> FlagsOf {
        match self {
            Code::Script(script) => script.flags,
            Code::Function(_, _, flags) => FlagsOf::Declared(*flags),
        }
    }
}

impl Core {
    /// A request of EVAL, FCALL and their kin.
    pub fn script(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        kind: Kind,
        args: Args<'_>,
    ) -> Flow {
        self.script_since(conn, row, kind, args, None)
    }

    /// As `script`; `since_us`: when its first try began, if it has been found long.
    fn script_since(
        &mut self,
        conn: &mut Connection,
        row: &'static Row,
        kind: Kind,
        args: Args<'_>,
        since_us: Option<u64>,
    ) -> Flow {
        let mut slots = Vec::new();
        Core::slots_of(row, &args, &mut slots);
        if self.config.cluster_enabled && slots.len() > 1 {
            return self.reject(conn, Some(row), &Refusal::CrossSlot);
        }
        let code = self.code(kind, &args);
        let is_wide = matches!(&code, Ok(code) if code.is_wide());
        let is_long = busy_us(self) != 0 && matches!(&code, Ok(code) if code.is_long());
        if is_long {
            slots = self.slots_beside(conn.own_port);
        } else if is_wide && !self.has_every_slot() && !self.keeps_to_core(conn) {
            slots = (0..storage::SLOTS as u16).map(Slot).collect();
        }
        let here = slots.iter().all(|slot| self.owner(*slot) == self.id);
        if is_long || !here || self.held_slot(slots.iter().copied()).is_some() {
            if conn.outbound.outstanding() > 0 {
                return Flow::Stall;
            }
            let ticket = self.begin_exclusive(conn);
            let job = Job::Script {
                request: Request::new(row, &args),
                caller: Caller::of(conn, self.id, Scope::Core),
                is_long,
                since_us,
            };
            let needs = self.needs(&slots, Vec::new());
            self.start_tx(ticket, job, needs);
            return Flow::Done;
        }
        let caller = Caller::of(conn, self.id, self.scope_of(conn.own_port));
        let mut out = self.buffer();
        let commands = self.tally.commands;
        let ended = self.run_code(row, code, args.clone(), caller, &mut out);
        if ended == Ended::Replied {
            let copy = |_: &mut Core, reply: &mut Vec<u8>| reply.extend_from_slice(&out);
            self.answer_since(commands, conn, copy);
        }
        self.keep_buffer(out);
        match ended {
            Ended::Replied => Flow::Done,
            // From now on it is known to need every slot.
            Ended::NeedsAll => self.script_since(conn, row, kind, args, None),
            Ended::IsLong(since_us) => self.script_since(conn, row, kind, args, Some(since_us)),
        }
    }

    /// Whether a client's scripts keep to the slots of its core: as a shard of a cluster.
    pub(crate) fn keeps_to_core(&self, conn: &Connection) -> bool {
        conn.own_port && self.config.cluster_enabled
    }

    fn scope_of(&self, own_port: bool) -> Scope {
        match (own_port, self.is_alone()) {
            (true, _) => Scope::OwnPort,
            (false, true) => Scope::Whole,
            (false, false) => Scope::Core,
        }
    }

    /// Runs a script whose slots are in place.
    pub fn run_script(
        &mut self,
        row: &'static Row,
        args: Args<'_>,
        caller: Caller,
        out: &mut Vec<u8>,
    ) -> Ended {
        let table::Kind::Script(kind) = row.kind else {
            return Ended::Replied;
        };
        let code = self.code(kind, &args);
        self.run_code(row, code, args, caller, out)
    }

    /// Whether a script can use a slot as things stand.
    pub(crate) fn is_reached(&self, slot: Slot) -> bool {
        if !self.tx_slots.is_empty() && self.tx_slots.binary_search(&slot).is_ok() {
            return true;
        }
        self.is_here(slot) && (self.locks.is_empty() || !self.locks.is_held(slot))
    }

    fn run_code(
        &mut self,
        row: &'static Row,
        code: Result<Code, Refused>,
        args: Args<'_>,
        caller: Caller,
        out: &mut Vec<u8>,
    ) -> Ended {
        let start = out.len();
        let begin = runtime::ticks();
        let ready = code.and_then(|code| {
            let keys = self.check(row, &code, &args)?;
            Ok((code, keys))
        });
        let (code, keys) = match ready {
            Ok(ready) => ready,
            Err(Refused(refusal)) => {
                let ticks = self.end_lap(begin);
                self.tally.called(row.index, ticks);
                self.tally.failed(row.index);
                self.refuse(&refusal, caller.resp, out);
                return Ended::Replied;
            }
        };
        let words: Vec<&[u8]> = (3..args.total()).filter_map(|at| args.word(at)).collect();
        let (keys, rest) = words.split_at(keys.min(words.len()));
        let Some(mut engine) = self.scripts.engine.take() else {
            return Ended::Replied;
        };
        let stopped = self.begin_run(&code, &args);
        self.shard.begin_undo();
        let said = self.said();
        let resp = caller.resp;
        let nested = core::mem::replace(&mut self.tally.nested, true);
        let mut host = self.host(row, &code, caller, keys);
        let run = match &code {
            Code::Script(script) => Run::Script(script),
            Code::Function(library, name, _) => Run::Function {
                library: &library.name,
                name,
            },
        };
        let outcome = match stopped {
            None => engine.run(run, &mut host, (keys, rest), resp, out),
            Some(text) => {
                Reply::new(out, resp).error(&Refusal::Owned(text.into()));
                Outcome::Killed
            }
        };
        self.tally.nested = nested;
        match outcome {
            Outcome::Abandoned | Outcome::Killed => {
                self.shard.roll_back();
                self.unsay(said);
            }
            Outcome::Done | Outcome::Failed { .. } => self.shard.end_undo(),
        }
        self.end_run(engine);
        match outcome {
            Outcome::Done => {}
            Outcome::Failed { code, counted } => {
                self.tally.failed(row.index);
                if !counted {
                    self.tally.refused(&code);
                }
            }
            Outcome::Killed => {
                self.tally.failed(row.index);
                self.tally.refused("ERR");
            }
            Outcome::Abandoned => {
                out.truncate(start);
                if self.scripts.watched.has_moved.take() {
                    code.set_long(true);
                    return Ended::IsLong(self.now.mono_us);
                }
                code.set_wide();
                return Ended::NeedsAll;
            }
        }
        let ticks = self.end_lap(begin);
        self.tally.called(row.index, ticks);
        self.note_later(row, ticks, out.len() - start);
        Ended::Replied
    }

    fn host(&mut self, row: &Row, code: &Code, caller: Caller, keys: &[&[u8]]) -> ScriptHost<'_> {
        let declared =
            |flag| matches!(code.flags(), FlagsOf::Declared(flags) if flags.contains(flag));
        let one_slot =
            matches!(code.flags(), FlagsOf::Declared(_)) && !declared(Flags::ALLOW_CROSS_SLOT);
        ScriptHost {
            db: caller.db,
            read_only: row.spec.flags.contains(RowFlags::READONLY) || declared(Flags::NO_WRITES),
            slot: keys.first().map(|key| Slot::of(key)),
            one_slot,
            lacks_memory: self.memory.is_full && !declared(Flags::ALLOW_OOM),
            client: None,
            caller,
            core: self,
        }
    }

    /// Tells the watchdog of a run that begins; the text of its error, if it is stopped already.
    fn begin_run(&mut self, code: &Code, args: &Args<'_>) -> Option<String> {
        let limit_us = self.config.script_kill_after_ms.saturating_mul(1000);
        self.watch_run(limit_us, false, || code.shown(args));
        let watched = &self.scripts.watched;
        if self.beside.is_none() {
            watched.slow_us.set(busy_us(self));
            // What runs in a queue cannot begin anew in its middle.
            watched.moves.set(!self.tally.nested);
            return None;
        }
        watched.slow_us.set(self.scripts.slow_us);
        // Who was told to stop before the run began has been told that it would.
        match watched.look(self.node) {
            Some(Halt::Kill(text)) => Some(text),
            _ => None,
        }
    }

    /// Tells the watchdog of a run, or of a library, that begins.
    fn watch_run(&mut self, limit_us: u64, is_load: bool, shown: impl FnOnce() -> Option<Shown>) {
        let now_us = runtime::mono_us();
        let scripting = &self.node.scripting;
        let watched = &self.scripts.watched;
        let run = match self.beside {
            // Its core has begun it already.
            Some(run) => run,
            None => scripting.begin(self.place(), now_us, shown()),
        };
        watched.run.set(run);
        watched.place.set(self.place());
        watched.since_us.set(now_us);
        watched.limit_us.set(limit_us);
        watched.slow_us.set(0);
        watched.moves.set(false);
        watched.has_moved.set(false);
        watched.is_load.set(is_load);
    }

    /// What `watch_run` began is over.
    fn end_run(&mut self, engine: Box<Engine>) {
        let bytes = engine.used_bytes();
        let scripting = &self.node.scripting;
        if self.beside.is_some() {
            // That the run is over is told by its core, when all is back.
            scripting.weigh_beside(self.scripts.weighed_bytes, bytes);
            self.scripts.weighed_bytes = bytes;
        } else {
            scripting.end(self.place());
            scripting.weigh(self.place(), bytes);
        }
        self.scripts.engine = Some(engine);
    }

    /// Where its scripts run, as the node numbers such places.
    fn place(&self) -> usize {
        match self.beside {
            Some(_) => self.place_beside(),
            None => self.id.index(),
        }
    }

    /// How far the lines and messages are that a script has brought about.
    fn said(&self) -> (usize, usize, usize) {
        (
            self.lines_mark(),
            self.posts.len(),
            self.pubsub.messages_mark(),
        )
    }

    /// What has been undone is heard by nobody.
    fn unsay(&mut self, (lines, posts, messages): (usize, usize, usize)) {
        self.rewind_lines(lines);
        self.posts.truncate(posts);
        self.pubsub.rewind_messages(messages);
    }

    /// The number of keys, once all that stands before a run has been looked at.
    fn check(&self, row: &Row, code: &Code, args: &Args<'_>) -> Result<usize, Refused> {
        let count = number_of_keys(args, matches!(code, Code::Function(..)))?;
        let may_be_old =
            matches!(code.flags(), FlagsOf::Declared(flags) if flags.contains(Flags::ALLOW_STALE));
        if !may_be_old && self.hides_old() {
            return Err(Refusal::MasterDown.into());
        }
        if let FlagsOf::Declared(flags) = code.flags() {
            if flags.contains(Flags::NO_CLUSTER) && self.config.cluster_enabled {
                let text = "ERR Can not run script on cluster, 'no-cluster' flag is set.";
                return Err(Refusal::Text(text).into());
            }
            if !flags.contains(Flags::NO_WRITES) && self.is_read_only() {
                return Err(Refusal::Readonly.into());
            }
            let is_ro = row.spec.flags.contains(RowFlags::READONLY);
            if is_ro && !flags.contains(Flags::NO_WRITES) {
                let text = "ERR Can not execute a script with write flag using *_ro command.";
                return Err(Refusal::Text(text).into());
            }
            if self.memory.is_full && may_grow(flags) {
                let text = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
                return Err(Refusal::Text(text).into());
            }
        }
        Ok(count)
    }

    /// Whether a request runs a script that cannot write, or declares that it does not.
    pub(crate) fn only_reads(&mut self, row: &'static Row, kind: Kind, args: &Args<'_>) -> bool {
        let declares =
            |flags| matches!(flags, FlagsOf::Declared(flags) if flags.contains(Flags::NO_WRITES));
        row.spec.flags.contains(RowFlags::READONLY)
            || matches!(self.code(kind, args), Ok(code) if declares(code.flags()))
    }

    /// Whether a request runs a script that may need memory and says so: one without flags is asked command by command.
    pub(crate) fn script_needs_memory(&mut self, kind: Kind, args: &Args<'_>) -> bool {
        let code = self.code(kind, args);
        let flags = code.as_ref().map(Code::flags);
        matches!(flags, Ok(FlagsOf::Declared(flags)) if may_grow(flags))
    }

    /// The code that a request names, compiled here.
    pub(super) fn code(&mut self, kind: Kind, args: &Args<'_>) -> Result<Code, Refused> {
        let name = args.word(1).unwrap_or_default();
        if kind == Kind::EvalSha && name.len() != 40 {
            return Err(Refusal::NoScript.into());
        }
        if kind != Kind::Fcall {
            number_of_keys(args, false)?;
        }
        self.ready_engine()?;
        match kind {
            Kind::Eval => self.script_of_text(name).map(Code::Script),
            Kind::EvalSha => {
                let sha: Result<Sha, _> = name.to_ascii_lowercase().try_into();
                let script = sha.ok().and_then(|sha| self.known_script(&sha));
                let script = script.ok_or(Refusal::NoScript)?;
                self.compile(&script)?;
                Ok(Code::Script(script))
            }
            Kind::Fcall => {
                self.sync_libraries();
                let libraries = self.node.scripting.libraries();
                let (library, function) = libraries
                    .function(name)
                    .ok_or(Refusal::Text("ERR Function not found"))?;
                let name = function.name.clone();
                Ok(Code::Function(Arc::clone(library), name, function.flags))
            }
        }
    }

    /// The script of a digest, if the node has it.
    fn known_script(&mut self, sha: &Sha) -> Option<Arc<Script>> {
        let engine = self.scripts.engine.as_ref()?;
        let here = engine.compiled(sha).filter(|script| !script.is_gone());
        let script = match here {
            Some(script) => Arc::clone(script),
            None => self.node.scripting.cache().find(sha)?,
        };
        script.touch(self.now.unix_ms);
        Some(script)
    }

    /// The script of a text, which the node knows from then on.
    fn script_of_text(&mut self, body: &[u8]) -> Result<Arc<Script>, Refused> {
        if let Some(script) = self.known_script(&sha1_hex(body)) {
            self.compile(&script)?;
            return Ok(script);
        }
        self.add_script(body, false)
    }

    /// Compiles a text and adds it to the node's scripts.
    pub(super) fn add_script(&mut self, body: &[u8], loaded: bool) -> Result<Arc<Script>, Refused> {
        self.ready_engine()?;
        let script = Arc::new(Script::new(body).map_err(refusal)?);
        self.compile(&script)?;
        let now_ms = self.now.unix_ms;
        let kept = self.node.scripting.cache().add(script, loaded, now_ms);
        // Another core may have brought it first.
        self.compile(&kept)?;
        Ok(kept)
    }

    fn compile(&mut self, script: &Arc<Script>) -> Result<(), Refused> {
        match &mut self.scripts.engine {
            Some(engine) => engine.compile(script).map_err(refusal),
            None => Ok(()),
        }
    }

    /// Sees to it that there is a state of Lua, as the configuration and the last flush want it.
    pub(super) fn ready_engine(&mut self) -> Result<(), Refused> {
        let memory_max = self.config.script_memory_max;
        let flushes = self.node.scripting.flushes.load(Relaxed);
        if let Some(engine) = &mut self.scripts.engine {
            if self.scripts.flushes != flushes {
                self.scripts.flushes = flushes;
                engine.forget_gone();
            }
            if self.scripts.memory_max != memory_max {
                self.scripts.memory_max = memory_max;
                engine.set_bytes_max(memory_max as usize);
            }
            return Ok(());
        }
        let watchdog = Watchdog {
            node: self.node,
            watched: Rc::clone(&self.scripts.watched),
        };
        let engine = Engine::new(Box::new(watchdog), memory_max as usize);
        let engine = engine.map_err(|text| refusal(format!("Lua cannot be started: {text}")))?;
        self.scripts.engine = Some(Box::new(engine));
        (self.scripts.flushes, self.scripts.memory_max) = (flushes, memory_max);
        self.scripts.library_changes = u64::MAX;
        Ok(())
    }

    /// Takes over what other cores have loaded and deleted.
    pub(super) fn sync_libraries(&mut self) {
        let changes = self.node.scripting.library_changes.load(Relaxed);
        if self.scripts.library_changes == changes {
            return;
        }
        let libraries = self.node.scripting.libraries();
        self.with_engine(|engine, host| engine.sync(&libraries, host));
        self.scripts.library_changes = changes;
    }

    /// The engine's libraries are compared with the node's before a function is called next.
    pub(super) fn forget_library_changes(&mut self) {
        self.scripts.library_changes = u64::MAX;
    }

    /// Something that the engine does for a library: no key is there for it.
    pub(super) fn with_engine<R>(
        &mut self,
        work: impl FnOnce(&mut Engine, &mut ScriptHost<'_>) -> R,
    ) -> Option<R> {
        let mut engine = self.scripts.engine.take()?;
        self.watch_run(LOAD_US_MAX, true, || None);
        let mut host = ScriptHost {
            caller: Caller {
                db: 0,
                resp: Resp::V2,
                scope: Scope::Core,
                own_port: false,
                user: None,
                tracker: None,
            },
            db: 0,
            read_only: true,
            slot: None,
            one_slot: false,
            lacks_memory: false,
            client: None,
            core: self,
        };
        let done = work(&mut engine, &mut host);
        self.end_run(engine);
        Some(done)
    }
}

/// Whether a script of these flags may make the data larger.
fn may_grow(flags: Flags) -> bool {
    !flags.contains(Flags::NO_WRITES) && !flags.contains(Flags::ALLOW_OOM)
}

/// How long the code of a library may run while it is loaded, us.
const LOAD_US_MAX: u64 = 500_000;

/// A text of the script crate as a refusal.
pub(super) fn refusal(text: String) -> Refused {
    // As in Redis a text ends at its first zero byte.
    let line: String = text
        .chars()
        .take_while(|c| *c != '\0')
        .map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c })
        .collect();
    Refused(Refusal::Owned(format!("ERR {line}").into()))
}

fn number_of_keys(args: &Args<'_>, of_function: bool) -> Result<usize, Refused> {
    let word = args.word(2).unwrap_or_default();
    let bad = if of_function {
        Refusal::Text("ERR Bad number of keys provided")
    } else {
        Refusal::NotInteger
    };
    let count = number::parse_i64(word).ok_or(bad)?;
    if count > args.total() as i64 - 3 {
        return Err(Refusal::TooManyKeys.into());
    }
    usize::try_from(count).map_err(|_| Refusal::NegativeKeys.into())
}

/// How long a script must have run to be called busy, us.
pub(super) fn busy_us(core: &Core) -> u64 {
    core.config.busy_reply_threshold_ms.saturating_mul(1000)
}

/// What a script or function that is to be stopped is told by.
pub(super) fn kill(core: &Core, functions: bool) -> Result<(), Refused> {
    let (now_us, busy_us) = (core.now.mono_us, busy_us(core));
    match core.node.scripting.kill(functions, now_us, busy_us) {
        shared::Stopped::Some => Ok(()),
        shared::Stopped::OtherKind if functions => Err(Refusal::BusyScript.into()),
        shared::Stopped::OtherKind => Err(Refusal::BusyFunction.into()),
        shared::Stopped::None => Err(Refusal::ScriptNotBusy.into()),
    }
}

/// The text of a script that is executed elsewhere: its digest is known here from now on. One that cannot be compiled is not kept, which
/// is for whoever executes it to say.
pub(crate) fn keep_text(core: &mut Core, text: &[u8]) {
    if core.ready_engine().is_ok() {
        let _kept = core.script_of_text(text);
    }
}
