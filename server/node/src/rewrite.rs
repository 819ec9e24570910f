//! A core's part in rewriting the log: when that begins, the log turned on and off, and the log read again.
//!
//! ```text
//! BGREWRITEAOF ────────────────┐
//! scheduled; grown; turned on ─┴─> claim ─> Work::Cut(Goal::Base): every slot is here, every other core has queued what it had
//!                                           recorded; this one does; that position is the snapshot's: image.rs goes on
//! ```
//! The first core looks once a second at what is due, and at whether the log is what the configuration wants.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use storage::log::{FrameHead, FrameKind};
use storage::{decode, rdb};

use crate::commit::Commit;
use crate::config::Config;
use crate::control::disk::{Disk, SystemDisk};
use crate::control::load::{self, Expired};
use crate::control::log::manifest::{Manifest, Place, named};
use crate::control::log::recover::{self, Replays};
use crate::control::log::rewrite::Growth;
use crate::control::log::thread::place;
use crate::control::snapshot::Goal;
use crate::core::Core;
use crate::image::{Answer, Work};
use crate::mail::Mail;
use crate::node::Node;

/// What BGREWRITEAOF is answered.
pub const STARTED: &str = "Background append only file rewriting started";
/// See [`STARTED`].
pub const SCHEDULED: &str = "Background append only file rewriting scheduled";

/// The version of a base: the one that says most.
const BASE_VERSION: u16 = 11;

/// How the values of a base are written.
pub fn style_of_base(config: &Config) -> rdb::Style {
    rdb::Style {
        version: BASE_VERSION,
        compress: config.rdbcompression,
        drops_field_deadlines: false,
    }
}

/// Whether the server must not leave: the log that was turned on counts for nothing before its base is written.
pub fn holds_shutdown(node: &Node, force: bool) -> bool {
    let waits = node.write_log.is_on() && node.write_log.waits_for_base();
    if waits {
        node.log(|log| match force {
            true => log.warning("Writing initial AOF. Exit anyway."),
            false => log.warning("Writing initial AOF, can't exit."),
        });
    }
    waits && !force
}

/// Since when a rewrite is under way, unix ms: also one that turns the log on, or makes one for BGREWRITEAOF while it is off, and has not
/// got its files yet.
pub fn rewrites_since_ms(node: &Node, now_ms: u64) -> Option<u64> {
    let facts = node.snapshots.facts();
    let log = &node.write_log;
    let wants = node.config().appendonly || facts.rewrites.scheduled;
    let begins = wants && !node.loading.is_on() && !facts.rewrites.has_failed;
    let waits = begins && facts.since_ms.is_none() && (!log.is_on() || log.waits_for_base());
    facts
        .since_ms_for(Goal::Base)
        .or_else(|| waits.then_some(now_ms))
}

impl Core {
    /// Whether there is something to be looked at from time to time.
    pub fn has_schedule(&self) -> bool {
        if !self.config.save.is_empty() || self.config.appendonly || self.node.write_log.is_open() {
            return true;
        }
        let facts = self.node.snapshots.facts();
        facts.scheduled || facts.rewrites.scheduled
    }

    /// The log's place of the cut: every core records from here on, if that is wanted, and what was recorded is queued.
    pub fn cut_log(&mut self) -> u64 {
        let log = &self.node.write_log;
        if self.node.config().appendonly && log.is_open() && !log.is_on() {
            log.begin();
            self.record_everywhere(true);
        }
        self.queue_effects();
        self.node.write_log.cut()
    }

    /// With every slot in hand: no core records any more.
    pub fn stop_log(&mut self) {
        if !self.node.config().appendonly && self.node.write_log.is_on() {
            self.leave_log();
        }
    }

    /// With every slot in hand: the log ends here. If one is wanted all the same another follows, when its base is written; until then this one
    /// counts.
    pub fn leave_log(&mut self) {
        let node = self.node;
        self.queue_effects();
        node.write_log.stop();
        self.record_everywhere(node.write_log.feeds());
        if node.snapshots.facts().since_ms_for(Goal::Base).is_some() {
            node.log(|log| log.notice("The log was turned off: its rewrite is given up"));
            node.snapshots.give_up(self.shard.snapshot_number());
        }
        node.snapshots
            .note(|facts| facts.rewrites.scheduled = false);
        node.write_log.ask_close();
    }

    /// Ahead of the slots, which are all here.
    pub(crate) fn record_everywhere(&mut self, on: bool) {
        self.record(on);
        self.tell_others(|| Mail::Records(on));
    }

    /// Whether this core records what it changes.
    pub fn record(&mut self, on: bool) {
        self.commit = if on { Commit::Logged } else { Commit::Local };
        self.shard.effects().set_recording(on);
        self.update_holds_of_log(self.refuses() && on);
    }

    /// Sees to it that there is a log if the configuration wants one, and none if not.
    pub fn look_at_switch(&mut self) {
        let node = self.node;
        let log = &node.write_log;
        if self.id.index() != 0 || node.loading.is_on() || node.stopping.load(Relaxed) {
            return;
        }
        let facts = node.snapshots.facts();
        let (wants, scheduled) = (node.config().appendonly, facts.rewrites.scheduled);
        let is_rewriting = facts.since_ms_for(Goal::Base).is_some();
        match (log.is_open(), log.is_on()) {
            (false, _) if (wants || scheduled) && !self.rewrite_waits() => log.ask_open(),
            // The base is written, or was to be: with it the log counts.
            (true, _) if wants && log.waits_for_base() && !is_rewriting => {
                node.snapshots.note(|facts| facts.rewrites.scheduled = true);
                self.begin_scheduled_rewrite();
            }
            (true, true) if !wants => self.start_own_image(Work::StopLog),
            (true, false) if !wants && scheduled => {
                self.begin_scheduled_rewrite();
            }
            (true, false) if !wants && !is_rewriting => log.ask_close(),
            _ => {}
        }
    }

    /// Whether a rewrite is not to begin by itself yet.
    fn rewrite_waits(&self) -> bool {
        let now_ms = self.now.unix_ms;
        self.node
            .snapshots
            .note(|facts| facts.rewrites.waits(now_ms))
    }

    /// Begins a rewrite that was scheduled; whether it has.
    pub fn begin_scheduled_rewrite(&mut self) -> bool {
        let (node, now_ms) = (self.node, self.now.unix_ms);
        let is_scheduled = node.snapshots.facts().rewrites.scheduled;
        let is_due = is_scheduled && node.write_log.is_open() && !self.rewrite_waits();
        let begins = is_due && node.snapshots.claim(now_ms, Goal::Base);
        if begins {
            self.start_own_image(Work::Cut(Goal::Base, Answer::Never));
        }
        begins
    }

    /// Begins a rewrite if the log has grown so much.
    pub fn rewrite_if_grown(&mut self) {
        let (node, now_ms) = (self.node, self.now.unix_ms);
        let rewrites = node.snapshots.facts().rewrites;
        let growth = Growth {
            percent: self.config.auto_aof_rewrite_percentage,
            bytes_min: self.config.auto_aof_rewrite_min_size,
        };
        let may = node.write_log.is_on() && !node.write_log.is_failed();
        let grown = rewrites.has_grown(node.write_log.sizes(), growth);
        if let Some(percent) = grown.filter(|_| may)
            && !self.rewrite_waits()
            && node.snapshots.claim(now_ms, Goal::Base)
        {
            let text = format!("Starting automatic rewriting of AOF on {percent}% growth");
            node.log(|log| log.notice(&text));
            self.start_own_image(Work::Cut(Goal::Base, Answer::Never));
        }
    }

    /// Whether there will soon be a log to load: it has been turned on, and its base is written now.
    pub fn awaits_base(&self) -> bool {
        let is_rewriting = rewrites_since_ms(self.node, self.now.unix_ms).is_some();
        is_rewriting && (!self.node.write_log.is_on() || self.node.write_log.waits_for_base())
    }

    /// Those who have waited for the end of a rewrite to take a snapshot begin.
    pub fn begin_later(&mut self) {
        if !self.awaits_base() {
            for (ticket, resp) in core::mem::take(&mut self.image.later_loads) {
                self.start_image(ticket, resp, Work::LoadLog);
            }
        }
        while let Some((ticket, resp)) = self.image.later.pop() {
            if !self.node.snapshots.claim(self.now.unix_ms, Goal::File) {
                self.image.later.push((ticket, resp));
                return;
            }
            self.start_image(ticket, resp, Work::Cut(Goal::File, Answer::Ended));
        }
    }

    /// A part of the log's base, at the start: it is in the log already, so nothing is recorded.
    pub fn take_base(&mut self, part: load::Part) -> Result<(), String> {
        self.take_unrecorded(part, Expired::Keep)
    }

    /// Takes what a file has, which is in no log.
    pub fn take_unrecorded(&mut self, part: load::Part, expired: Expired) -> Result<(), String> {
        self.unrecorded(|core| core.take_part(part, expired))
    }

    fn unrecorded<R>(&mut self, run: impl FnOnce(&mut Core) -> R) -> R {
        self.shard.effects().set_recording(false);
        let done = run(self);
        let records = self.commit == Commit::Logged;
        self.shard.effects().set_recording(records);
        done
    }

    /// Until when the walk of a snapshot rests (`rdb-key-save-delay`), unix ms; None to go on.
    #[cold]
    pub fn image_rests(&mut self) -> Option<u64> {
        let ms = u64::try_from(self.config.rdb_key_save_delay_us).unwrap_or(0) / 1000;
        let is_given_up = self
            .node
            .snapshots
            .is_given_up(self.shard.snapshot_number());
        if ms == 0 || is_given_up {
            return None;
        }
        let until_ms = self.image.rests_until_ms;
        if self.now.unix_ms < until_ms {
            return Some(until_ms);
        }
        self.image.rests_until_ms = self.now.unix_ms + ms;
        None
    }

    /// DEBUG LOADAOF, with every slot in hand: what the log holds takes the place of all data.
    pub fn load_log(&mut self) -> Result<(), String> {
        self.queue_effects();
        let node = self.node;
        let place = place(&node.config());
        let read = node
            .write_log
            .show_files((&SystemDisk, &place), |disk, place| {
                let manifest = recover::find(disk, place)?;
                let manifest = manifest.ok_or_else(|| named(&place.folder, &"there is no log"))?;
                recover::look(disk, place, &node.vault, &manifest)?;
                self.unrecorded(|core| core.read_log(disk, place, &manifest))
            });
        self.shard.forget_changes();
        read.map_err(|error| error.to_string())
    }

    /// What is here now was not recorded: replicas begin anew.
    pub(crate) fn break_history(&self) {
        self.node.replicas.break_history(&self.node.write_log);
    }

    fn read_log(&mut self, disk: &dyn Disk, place: &Place, manifest: &Manifest) -> io::Result<()> {
        self.shard.edit().flush_all();
        self.forget_libraries();
        if let Some((file, _)) = &manifest.base {
            let path = place.path(file);
            let reader = load::Reader::open_base(disk, &path, &self.config, &self.node.vault);
            let read = reader
                .and_then(|mut reader| reader.read_all(|part| self.take_part(part, Expired::Keep)));
            read.map_err(|fault| named(&path, &fault))?;
        }
        // (The end is whole: this process has written it.)
        let vault = &self.node.vault;
        recover::replay(disk, place, manifest, (vault, false), &mut Here(self))?;
        Ok(())
    }
}

/// Effects of the log, for the core that has every slot.
struct Here<'c>(&'c mut Core);

impl Replays for Here<'_> {
    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), String> {
        match head.kind {
            FrameKind::Libraries => return self.0.restore_libraries(payload),
            FrameKind::End => return Ok(()),
            FrameKind::Effects => {}
        }
        let mut rest = payload;
        while !rest.is_empty() {
            let (db, effect, after) = decode(rest).map_err(|corrupt| corrupt.to_string())?;
            let done = self.0.shard.apply(db, &effect);
            done.map_err(|corrupt| corrupt.to_string())?;
            rest = after;
        }
        Ok(())
    }

    fn progress(&mut self, _: u64) {}

    fn warn(&mut self, text: &str) {
        self.0.node.log(|log| log.warning(text));
    }
}
