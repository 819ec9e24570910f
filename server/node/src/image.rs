//! A core's part in snapshots and in loading: the cut, the walk between turns, who waits for a save, and keys that come from a file.
//!
//! ```text
//! BGREWRITEAOF, a grown log ──> as these, for the base of the log: rewrite.rs
//! BGSAVE, SAVE, save points ──> claim ──> transaction over all slots: Work::Cut ──> walk_image() in slices, every turn
//! DEBUG RELOAD, SHUTDOWN    ──> transaction over all slots: the file is written (and read) there and then
//! start                     ──> Mail::Load: batches of keys as they stand in the file; LOADING to clients until Mail::Loaded
//! ```
//! The walk takes [`SLICE_US`] of a turn, and while requests come in a third of the core's time ([`RESTS`]): what it would take beyond
//! that is time in which requests wait, and in which the processors have nothing left for the writing of the file. SAVE is a BGSAVE
//! whose reply waits: other clients are served meanwhile. A server that leaves writes at once, with every slot in hand: what it has
//! acknowledged is in the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use protocol::{Refusal, Reply, Resp};
use runtime::{ConnId, Turn};
use storage::{Slot, Uses};

use crate::config::MaxmemoryPolicy;
use crate::control::disk::{Disk, SystemDisk};
use crate::control::load::{self, Expired};
use crate::control::snapshot::{
    Ended, Goal, Note, Plan, QUEUED_BYTES_MAX, RETRY_MS, Target, head_of, path_of, style_of,
    style_of_copy, write_at_once,
};
use crate::core::Core;
use crate::mail::{Mail, Ticket};
use crate::reload;
use crate::rewrite::{STARTED, style_of_base};
use crate::service::NodeService;
use crate::transaction::Job;

/// How long the walk goes on in a turn, us.
const SLICE_US: f64 = 200.0;
/// So many times as long as a slice the walk rests behind it, if somebody wanted something of this core meanwhile. (With 1 the p50 of
/// others is 355 us beside 250, their p99.9 4.8 ms beside 2.8; without any 510 us and 18 ms.)
const RESTS: u64 = 2;
/// Of a slice that took longer (the machine stood still, or its clock of ticks is none) so many times its length counts.
const SLICES_MAX: u64 = 4;
/// Items looked at between two readings of the clock.
const STEP_ITEMS: usize = 64;
/// How soon a walk that waits (for the disk, for slots that are away) is looked at again, ms.
const LOOK_MS: u64 = 1;
/// How often save points are looked at, ms.
const SCHEDULE_MS: u64 = 1000;

/// What is done with every slot in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A snapshot begins; the reply says so, or comes when it has ended, or is none.
    Cut(Goal, Answer),
    /// No core records any more, if the configuration wants no log.
    StopLog,
    /// Cores record for replicas, or no more.
    Feed(bool),
    /// DEBUG LOADAOF.
    LoadLog,
    /// DEBUG RELOAD.
    Reload(reload::How),
    /// The server leaves.
    Leave {
        /// First all is written to the file.
        save: bool,
        /// It leaves also if that fails.
        force: bool,
    },
}

/// When a request for a snapshot is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Never: nobody asked.
    Never,
    /// When it has begun.
    Begun,
    /// When it has ended.
    Ended,
}

/// When a walk goes on.
enum GoesOn {
    /// There is more that can be done.
    AtOnce,
    /// When the disk has taken what waits, or slots have come home.
    Later,
    /// It has come to its end.
    No,
}

/// A core's own.
#[derive(Default)]
pub struct Image {
    /// The last snapshot that this core has begun to walk, and the last that it has done its part of.
    begun: u32,
    done: u32,
    /// Those who wait for the end of the one that runs.
    waiters: Vec<(Ticket, Resp)>,
    /// Those who want one of their own when the one that runs has ended.
    pub(crate) later: Vec<(Ticket, Resp)>,
    /// Those who want the log loaded when it has its base.
    pub(crate) later_loads: Vec<(Ticket, Resp)>,
    /// When save points and the log's size are looked at next, unix ms.
    pub(crate) look_ms: u64,
    /// Items that are looked at in one turn, for simulators; 0 for as many as there is time for.
    pub(crate) items_per_turn: usize,
    /// See `rdb-key-save-delay`.
    pub(crate) rests_until_ms: u64,
    /// Requests or mail have come since the last slice of the walk.
    pub(crate) is_asked: bool,
    /// While that is so, the walk goes on from here on, monotonic us.
    walks_from_us: u64,
}

impl Core {
    /// The ticket of what nobody waits for.
    fn nobody(&self) -> Ticket {
        Ticket {
            core: self.id,
            conn: ConnId::from_u64(u64::MAX),
            seq: u64::MAX,
        }
    }

    /// Begins a transaction over all slots of the node.
    pub fn start_image(&mut self, ticket: Ticket, resp: Resp, work: Work) {
        let slots: Vec<Slot> = (0..storage::SLOTS as u16).map(Slot).collect();
        let needs = self.needs(&slots, Vec::new());
        self.start_tx(ticket, Job::Image(work, resp), needs);
    }

    /// The same on behalf of nobody.
    pub fn start_own_image(&mut self, work: Work) {
        self.start_image(self.nobody(), Resp::V2, work);
    }

    /// With every slot in hand; the reply is appended to `out`.
    pub fn run_image(&mut self, ticket: Ticket, resp: Resp, work: Work, out: &mut Vec<u8>) {
        match work {
            Work::Cut(goal, _) if self.node.loading.is_on() => {
                // It was asked for before: half of what is loaded is no snapshot.
                self.node.snapshots.withdraw(goal);
                if goal == Goal::Replica {
                    self.node.replicas.not_copied(&self.node.write_log);
                }
                if ticket.seq != u64::MAX {
                    Reply::new(out, resp).error(&Refusal::Loading);
                }
            }
            Work::Cut(goal, answer) => {
                self.cut(goal);
                match (answer, goal) {
                    (Answer::Never, _) => {}
                    (Answer::Begun, Goal::File) => {
                        Reply::new(out, resp).simple("Background saving started");
                    }
                    (Answer::Begun, Goal::Base) => Reply::new(out, resp).simple(STARTED),
                    // INVARIANT: nobody asks for such a one by a request.
                    (Answer::Begun, Goal::Replica) => {}
                    (Answer::Ended, _) if ticket.core == self.id => {
                        self.image.waiters.push((ticket, resp));
                    }
                    // INVARIANT: a transaction runs on the core of its connection.
                    (Answer::Ended, _) => Reply::new(out, resp).ok(),
                }
            }
            Work::StopLog => self.stop_log(),
            Work::Feed(true) => self.begin_feed(),
            Work::Feed(false) => self.stop_feed(),
            // Half of what is loaded is nothing to be written, nor to be put something in the place of.
            Work::LoadLog | Work::Reload(_) if self.node.loading.is_on() => {
                Reply::new(out, resp).error(&Refusal::Loading);
            }
            Work::LoadLog => match self.load_log().inspect(|()| self.break_history()) {
                Ok(()) => Reply::new(out, resp).ok(),
                Err(why) => {
                    self.node.log(|log| log.warning(&why));
                    let text = "ERR Error trying to load the AOF files, check server logs.";
                    Reply::new(out, resp).error(&Refusal::Text(text));
                }
            },
            Work::Reload(how) => match self.reload(how, &SystemDisk) {
                Ok(()) => Reply::new(out, resp).ok(),
                Err(why) => {
                    self.node.log(|log| log.warning(&why));
                    let text = "ERR Error trying to load the RDB dump, check server logs.";
                    Reply::new(out, resp).error(&Refusal::Text(text));
                }
            },
            Work::Leave { save, force } => {
                if save
                    && !self.node.loading.is_on()
                    && let Err(error) = self.write_now(&SystemDisk)
                {
                    let why = format!("Error trying to save the DB: {error}");
                    self.node.log(|log| log.warning(&why));
                    if !force {
                        let text = "ERR Errors trying to SHUTDOWN. Check logs.";
                        if ticket.seq != u64::MAX {
                            Reply::new(out, resp).error(&Refusal::Text(text));
                        }
                        return;
                    }
                }
                self.node.snapshots.has_left.store(true, Relaxed);
                self.leave();
            }
        }
    }

    /// Every core leaves once its replies are out.
    pub fn leave(&mut self) {
        let node = self.node;
        if !node.stopping.swap(true, Relaxed) {
            for core in (0..node.cores() as u16).map(runtime::CoreId) {
                self.posts.push((core, Mail::Stop));
            }
        }
    }

    /// Changes of the data until now, those of other cores as they have published them.
    pub(crate) fn changes(&self) -> u64 {
        let node = self.node;
        let own = node.published[self.id.index()].changes.load(Relaxed);
        let all = node.sum(|core| &core.changes);
        all.wrapping_sub(own).wrapping_add(self.shard.changes())
    }

    /// The instant of a snapshot.
    fn cut(&mut self, goal: Goal) {
        let (node, config) = (self.node, Arc::clone(&self.config));
        let uses = match config.maxmemory_policy {
            MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => Uses::Idle,
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => Uses::Frequency,
            _ => Uses::Nothing,
        };
        let keys = (0..self.shard.db_count()).map(|db| self.shard.count(db as u8).keys as u64);
        node.snapshots.keys.1.store(keys.sum(), Relaxed);
        let (target, style) = match goal {
            Goal::File => (Target::File(path_of(&config)), style_of(&config)),
            // (Libraries are logged as they change: those behind this position may be in the head as well, which is no harm.)
            Goal::Base => (
                Target::Base {
                    through: self.cut_log(),
                },
                style_of_base(&config),
            ),
            Goal::Replica => {
                self.begin_feed();
                self.queue_effects();
                (
                    Target::Replica(PathBuf::from(&config.dir)),
                    style_of_copy(&config, node.replicas.reader(&config)),
                )
            }
        };
        let head = head_of(node, style, goal, &self.shard, self.now.unix_ms);
        match goal {
            // (Of a source's data a key stays whose deadline has passed: what its stream says next counts upon that.)
            Goal::File if self.authority.ends_keys() => self.shard.begin_snapshot(style, uses),
            Goal::File | Goal::Base | Goal::Replica => self.shard.begin_base(style, uses),
        }
        let number = self.shard.snapshot_number();
        if goal == Goal::Replica {
            node.write_log.mark_cut(number);
        }
        node.snapshots.tell(Note::Begin(Box::new(Plan {
            number,
            cores: node.cores(),
            head,
            target,
            sums: config.rdbchecksum || goal != Goal::File,
            begun_ms: self.now.unix_ms,
            changes: self.changes(),
        })));
    }

    /// Writes everything to the file, with every slot in hand. A snapshot that is being written is given up.
    pub(crate) fn write_now(&mut self, disk: &dyn Disk) -> std::io::Result<()> {
        self.node.snapshots.give_up(self.shard.snapshot_number());
        let (node, config) = (self.node, Arc::clone(&self.config));
        if !self.authority.ends_keys() {
            self.shard.suspend_deadlines();
        }
        let done = write_at_once(node, &config, &self.shard, self.now.unix_ms, disk);
        self.shard.set_now(self.now.unix_ms);
        done
    }

    /// Walks on for a slice from its beginning, both in ticks, or so many items if that is not 0.
    fn walk_slice(&mut self, begin: u64, slice: u64, items_per_turn: usize) -> GoesOn {
        let (snapshots, number) = (&self.node.snapshots, self.shard.snapshot_number());
        let items = match items_per_turn {
            0 => STEP_ITEMS,
            items => items,
        };
        loop {
            if snapshots.queued(self.id) > QUEUED_BYTES_MAX {
                return GoesOn::Later;
            }
            let more = self.shard.snapshot_step(items);
            let done = self.shard.is_snapshot_done();
            self.send_image(done);
            if done {
                self.image.done = number;
                snapshots.tell(Note::Done(self.id, number));
                return GoesOn::No;
            }
            if !more {
                return GoesOn::Later;
            }
            if items_per_turn > 0 || runtime::ticks().wrapping_sub(begin) > slice {
                return GoesOn::AtOnce;
            }
        }
    }

    /// Sends on what has been written out. `all`: also what makes a small chunk.
    pub fn send_image(&mut self, all: bool) {
        let number = self.shard.snapshot_number();
        while let Some(chunk) = self.shard.take_image(all) {
            let note = Note::Chunk(self.id, number, chunk);
            self.node.snapshots.tell(note);
        }
    }

    /// A snapshot has ended: who waited for it is answered.
    pub fn image_ended(&mut self, ended: &Ended) -> Vec<(Ticket, Vec<u8>)> {
        self.update_holds();
        let waiters = core::mem::take(&mut self.image.waiters).into_iter();
        let answer = |(ticket, resp)| {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, resp);
            match &ended.done {
                Ok(()) => reply.ok(),
                Err(_) => reply.error(&Refusal::Text("ERR")),
            }
            (ticket, out)
        };
        waiters.map(answer).collect()
    }

    /// Looks whether a snapshot is to begin: one that was scheduled, a save point, a log that has grown.
    fn look_at_schedule(&mut self) {
        let (node, now_ms) = (self.node, self.now.unix_ms);
        self.look_at_switch();
        let facts = node.snapshots.facts();
        if facts.since_ms.is_some() || node.loading.is_on() || node.stopping.load(Relaxed) {
            return;
        }
        if self.begin_scheduled_rewrite() {
            return;
        }
        let changes = self.changes().wrapping_sub(facts.changes);
        let since_s = (now_ms / 1000).saturating_sub(facts.last_save_s);
        let may_try = !facts.has_failed || now_ms.saturating_sub(facts.tried_ms) > RETRY_MS;
        let due = self
            .config
            .save
            .iter()
            .find(|point| changes >= point.changes && since_s > point.seconds);
        if let Some(point) = due.filter(|_| may_try) {
            let text = format!(
                "{} changes in {} seconds. Saving...",
                point.changes, point.seconds
            );
            node.log(|log| log.notice(&text));
        }
        let saves = facts.scheduled || (due.is_some() && may_try);
        if saves && node.snapshots.claim(now_ms, Goal::File) {
            node.snapshots.note(|facts| facts.scheduled = false);
            self.start_own_image(Work::Cut(Goal::File, Answer::Never));
        } else if !saves {
            self.rewrite_if_grown();
        }
    }
}

impl NodeService {
    /// Snapshots between turns: save points, and the walk of the one that runs.
    pub(crate) fn background_image(&mut self, turn: &mut Turn<'_, Mail>) {
        let core = &mut self.core;
        if core.id.index() == 0 && core.has_schedule() {
            if core.now.unix_ms >= core.image.look_ms {
                core.image.look_ms = core.now.unix_ms + SCHEDULE_MS;
                core.look_at_schedule();
                self.settle();
            }
            turn.ops.wake_at(self.core.image.look_ms);
        }
        if self.core.shard.snapshot_number() != self.core.image.done {
            self.walk_image(turn);
        }
    }

    #[cold]
    fn walk_image(&mut self, turn: &mut Turn<'_, Mail>) {
        let core = &mut self.core;
        let (snapshots, number) = (&core.node.snapshots, core.shard.snapshot_number());
        if core.image.begun != number {
            // The turn of the cut has done enough.
            core.image.begun = number;
            return turn.ops.again();
        }
        if snapshots.is_given_up(number) {
            core.shard.discard_snapshot();
        }
        if let Some(until_ms) = core.image_rests() {
            return turn.ops.wake_at(until_ms);
        }
        let is_asked = core.image.is_asked;
        if is_asked && turn.now.mono_us < core.image.walks_from_us {
            return turn.ops.wake_at(turn.now.unix_ms + LOOK_MS);
        }
        let begin = runtime::ticks();
        let slice = (SLICE_US * core.ticks_per_us) as u64;
        let items_per_turn = match core.config.rdb_key_save_delay_us {
            0 => core.image.items_per_turn,
            _ => 1,
        };
        let goes_on = core.walk_slice(begin, slice, items_per_turn);
        if items_per_turn == 0 {
            // (What the turn did before is no walk: it counts as rest.)
            let took = runtime::ticks().wrapping_sub(begin).min(slice * SLICES_MAX);
            let took_us = (took as f64 / core.ticks_per_us) as u64;
            core.image.walks_from_us = turn.now.mono_us + took_us * (1 + RESTS);
            core.image.is_asked = false;
        }
        match goes_on {
            GoesOn::AtOnce if items_per_turn > 0 || !is_asked => turn.ops.again(),
            GoesOn::AtOnce | GoesOn::Later => turn.ops.wake_at(turn.now.unix_ms + LOOK_MS),
            GoesOn::No => {}
        }
    }

    /// A snapshot has ended.
    pub(crate) fn on_image_ended(&mut self, ended: &Arc<Ended>) {
        for (ticket, reply) in self.core.image_ended(ended) {
            self.reply(ticket, &reply);
        }
        if ended.goal == Goal::Replica && self.core.id.index() == 0 {
            let node = self.core.node;
            let ended = Arc::clone(ended);
            node.replicas.copied(&node.write_log, ended);
        }
        self.core.begin_later();
        // What was scheduled meanwhile need not wait for its second.
        self.core.image.look_ms = 0;
    }

    /// Keys or a function from a file that is being loaded.
    pub(crate) fn on_load(&mut self, part: load::Part, expired: Expired) {
        if !self.core.locks.is_empty() {
            // Slots may be on their way home still: a full copy follows a visit that has had all of them.
            let again = Mail::Load(Box::new(part), expired);
            return self.core.posts.push((self.core.id, again));
        }
        let loading = &self.core.node.loading;
        if let Err(why) = self.core.take_unrecorded(part, expired) {
            loading.fail(why);
        }
        loading.taken(self.core.id);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    /// A bench whose snapshots lie in a folder of its own.
    fn bench(cores: usize, name: &str) -> (Bench, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("meridian-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let text = dir.display().to_string();
        let bench = Bench::with(cores, |config| {
            config.dir = text;
            config.enable_debug_command = crate::config::ProtectedAction::Local;
        });
        (bench, dir)
    }

    #[test]
    fn saves_and_reloads() {
        for cores in [1, 2, 3] {
            let (mut bench, dir) = bench(cores, &format!("image{cores}"));
            let client = bench.connect(0);
            for n in 0..300 {
                bench.call(client, &format!("SET k{n} v{n}"));
                bench.call(client, &format!("RPUSH l{} {n}", n % 7));
            }
            bench.call(client, "SET late x PX 100000");
            for _ in 0..2 {
                assert_eq!(bench.call(client, "SAVE"), "+OK\r\n");
                let reply = bench.call(client, "BGSAVE");
                assert_eq!(reply, "+Background saving started\r\n");
            }
            let digest = bench.call(client, "DEBUG DIGEST");
            let info = bench.call(client, "INFO persistence");
            assert!(info.contains("rdb_saves:4\r\n"), "{info}");
            assert!(info.contains("rdb_bgsave_in_progress:0\r\n"));
            assert!(info.contains("rdb_changes_since_last_save:0\r\n"), "{info}");
            bench.call(client, "SET k0 other");
            assert_eq!(bench.call(client, "DEBUG RELOAD NOSAVE"), "+OK\r\n");
            assert_eq!(bench.call(client, "DEBUG DIGEST"), digest);
            bench.call(client, "SET k0 other");
            assert_eq!(bench.call(client, "DEBUG RELOAD"), "+OK\r\n");
            assert_eq!(bench.call(client, "GET k0"), "$5\r\nother\r\n");
            bench.call(client, "DEL k0");
            assert_eq!(
                bench.call(client, "DEBUG RELOAD NOSAVE NOFLUSH MERGE"),
                "+OK\r\n"
            );
            assert_eq!(bench.call(client, "GET k0"), "$5\r\nother\r\n");
            assert_eq!(bench.call(client, "DBSIZE"), ":308\r\n");
            bench.check();
            let queued = "*3\r\n+OK\r\n+Background saving scheduled\r\n";
            bench.call(client, "MULTI");
            bench.call(client, "SET a b");
            bench.call(client, "BGSAVE");
            assert_eq!(bench.call(client, "EXEC"), queued.replace('3', "2"));
            bench.advance(2000);
            let info = bench.call(client, "INFO persistence");
            assert!(info.contains("rdb_saves:6\r\n"), "{info}");
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }

    /// Keys come, are rotated, are missing and go; what each file needs is what it was written with.
    #[test]
    fn snapshots_are_sealed_and_keys_change_under_a_running_server() {
        use crate::control::vault::tests::{KEY_A, KEY_B};
        let (mut bench, dir) = bench(2, "sealed");
        let client = bench.connect(1);
        let write = |lines: &[&str]| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.join("keys");
            std::fs::write(&path, lines.join("\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let file = || std::fs::read(dir.join("dump.rdb")).unwrap();
        let needs = || seal::key_id(&file()).map(|id| id.to_string()).ok();
        let shows = || file().windows(9).any(|window| window == b"plaintext");
        bench.call(client, "SET k plaintext");
        bench.call(client, "SAVE");
        assert!(shows() && needs().is_none());
        write(&[KEY_A]);
        let set = "CONFIG SET encryption-key-file keys";
        assert_eq!(bench.call(client, set), "+OK\r\n");
        let reload = "DEBUG RELOAD NOSAVE";
        assert_eq!(bench.call(client, reload), "+OK\r\n", "the way in");
        assert_eq!(bench.call(client, "SAVE"), "+OK\r\n");
        assert!(!shows());
        assert_eq!(needs().as_deref(), Some("a"));
        // A list without the key in force, or a bad one, changes nothing.
        write(&[KEY_B]);
        assert!(
            bench
                .call(client, set)
                .contains("the key 'a', which files are sealed with")
        );
        write(&["b 00"]);
        let refused = bench.call(client, set);
        assert!(refused.contains("keys: line 1 is not a name"), "{refused}");
        write(&[KEY_B, KEY_A]);
        assert_eq!(bench.call(client, set), "+OK\r\n");
        assert_eq!(bench.call(client, reload), "+OK\r\n", "by the old key");
        assert_eq!(bench.call(client, "DEBUG RELOAD"), "+OK\r\n");
        assert_eq!(needs().as_deref(), Some("b"));
        // The key is gone: nothing is lost, neither in memory nor on the disk.
        let node = bench.node();
        node.vault.set(None);
        let sealed = file();
        let refused = bench.call(client, reload);
        assert!(
            refused.starts_with("-ERR Error trying to load the RDB dump"),
            "{refused}"
        );
        assert_eq!(bench.call(client, "GET k"), "$9\r\nplaintext\r\n");
        assert_eq!(file(), sealed);
        let shown = bench.call(client, "CONFIG GET encryption*");
        assert!(
            shown.contains("\r\nkeys\r\n") && !shown.contains("0102"),
            "{shown}"
        );
        // The way out.
        assert_eq!(
            bench.call(client, "CONFIG SET encryption-key-file "),
            "+OK\r\n"
        );
        assert_eq!(bench.call(client, "SAVE"), "+OK\r\n");
        assert!(shows());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn save_points_and_a_disk_that_fails() {
        let (mut bench, dir) = bench(2, "points");
        let client = bench.connect(0);
        bench.send(
            client,
            b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$4\r\nsave\r\n$4\r\n10 3\r\n",
        );
        assert_eq!(bench.received(client), b"+OK\r\n");
        let saves = |bench: &mut Bench| {
            let info = bench.call(client, "INFO persistence");
            let line = info.lines().find(|line| line.starts_with("rdb_saves:"));
            line.unwrap_or_default().to_owned()
        };
        for n in 0..3 {
            bench.advance(9000);
            assert_eq!(saves(&mut bench), "rdb_saves:0");
            bench.call(client, &format!("SET k{n} v"));
        }
        bench.advance(9000);
        assert_eq!(saves(&mut bench), "rdb_saves:1");
        // The folder is gone: the next one fails, and writes are refused until one succeeds.
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(bench.call(client, "BGSAVE").starts_with('+'));
        let misconf = "-MISCONF Redis is configured to save RDB snapshots";
        assert!(bench.call(client, "SET k v").starts_with(misconf));
        assert!(bench.call(client, "PING").starts_with(misconf));
        assert_eq!(bench.call(client, "GET k0"), "$1\r\nv\r\n");
        assert!(bench.call(client, "SAVE").starts_with("-ERR"));
        let info = bench.call(client, "INFO persistence");
        assert!(info.contains("rdb_last_bgsave_status:err\r\n"), "{info}");
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(bench.call(client, "SAVE"), "+OK\r\n");
        assert_eq!(bench.call(client, "SET k v"), "+OK\r\n");
        assert_eq!(bench.call(client, "SHUTDOWN SAVE"), "");
        bench.advance(10);
        assert!(bench.has_stopped());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
