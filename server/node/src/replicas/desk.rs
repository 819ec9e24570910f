//! The desk: what the thread of replicas has. It says frames, keeps the backlog, judges who asks, and sees to full copies.
//!
//! ```text
//!          ┌─ continues ──────────────────────────────────────────────┐
//! asks ────┤                 cut met            copy has ended        ▼   all sent
//!          ├─ else: Waits ──+FULLRESYNC──> Copies ──$length──> Sends ──> Streams
//!          └─ another is expected: Held ──> judged anew, or dropped
//! ```
//! A copy that fails after its cut costs its replicas the connection: they have been told where the stream begins. A frame that was
//! dropped (`log/fed.rs`), or that cannot be said, ends the history: another one begins, and everybody but those who wait is
//! disconnected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use migration::{Backlog, Feed, Reader};
use runtime::CoreId;

use super::sending::{Replica, Stage};
use super::{Ask, Asked, Link, Post, Replicas, State, Stream, Told, lock};
use crate::config::Config;
use crate::control::disk::Disk;
use crate::control::log::WriteLog;
use crate::control::log::fed::{Fed, Item};
use crate::control::sealed::Input;
use crate::control::snapshot::{Ended, Goal};
use crate::mail::Mail;
use crate::node::Node;

/// How often replicas are looked after when nothing happens, ms.
const TICK_MS: u64 = 1000;
/// How soon a full mailbox is tried again.
const FULL_RETRY: Duration = Duration::from_millis(1);
/// How long a thread without a stream sleeps.
const IDLE: Duration = Duration::from_secs(3600);
/// How soon a full copy that has failed is tried again, ms, and one that has to wait for another snapshot.
const FAILED_RETRY_MS: u64 = 1000;
const CLAIM_RETRY_MS: u64 = 20;
/// Marks kept: with more, every other one is forgotten.
const MARKS_MAX: usize = 1024;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// What a step works with.
pub(super) struct Around<'a> {
    pub(super) node: &'a Node,
    pub(super) shared: &'a Replicas,
    pub(super) config: &'a Config,
    pub(super) disk: &'a dyn Disk,
    /// Unix ms.
    pub(super) now_ms: u64,
    pub(super) post: Post<'a>,
}

impl Around<'_> {
    fn notice(&self, text: &str) {
        self.node.log(|log| log.notice(text));
    }

    fn warning(&self, text: &str) {
        self.node.log(|log| log.warning(text));
    }
}

/// A snapshot for replicas that is under way.
#[derive(Debug, Default)]
struct Copy {
    /// The first core has been told.
    is_told: bool,
    /// Where in the stream its cut is, once that has been met.
    offset: Option<u64>,
    /// The history has ended meanwhile: nobody is sent it.
    is_void: bool,
}

/// See the module's head.
pub(super) struct Desk {
    feed: Feed,
    backlog: Option<Backlog>,
    /// The end of the stream when there was a backlog last.
    ended_at: u64,
    /// Frames, each with the offset behind what says it; not all.
    marks: VecDeque<(u64, u64)>,
    replicas: Vec<Replica>,
    /// The list has changed since it was published.
    is_changed: bool,
    /// Connections to be closed.
    leaving: Vec<Arc<Link>>,
    copy: Option<Copy>,
    copy_at_ms: u64,
    fed: Fed,
    said: Vec<u8>,
    tick_ms: u64,
    ping_ms: u64,
    /// Since when there is no replica, unix ms.
    alone_since_ms: Option<u64>,
    /// Deadlines of fields that are not said have been spoken of.
    told_of_deadlines: bool,
}

impl Default for Desk {
    fn default() -> Desk {
        Desk {
            feed: Feed::new(Reader::of_rdb(storage::rdb::VERSION)),
            backlog: None,
            ended_at: 0,
            marks: VecDeque::new(),
            replicas: Vec::new(),
            is_changed: false,
            leaving: Vec::new(),
            copy: None,
            copy_at_ms: 0,
            fed: Fed::default(),
            said: Vec::new(),
            tick_ms: 0,
            ping_ms: 0,
            alone_since_ms: None,
            told_of_deadlines: false,
        }
    }
}

impl Desk {
    /// See [`Replicas::step`].
    pub(super) fn step(&mut self, around: &mut Around<'_>) -> Duration {
        // What was asked for before this instant is about frames that are there now.
        let wants_acks = around.shared.wants_acks.swap(false, AcqRel);
        let inbox = core::mem::take(&mut *lock(&around.shared.inbox));
        if self.replicas.is_empty() {
            around.shared.forget_known();
        }
        self.feed.set_reader(around.shared.reader(around.config));
        if around.node.write_log.feeds() {
            self.backlog();
        }
        if inbox.breaks {
            self.break_history("the data were replaced", self.fed.last, around);
        }
        self.say(around);
        if let Some(ended) = inbox.copied {
            self.end_copy(&ended, around);
        }
        let before = self.replicas.len();
        self.replicas.retain(|replica| !replica.link.is_gone());
        self.is_changed |= self.replicas.len() < before;
        if inbox.refuses {
            self.drop_some("it was not expected", around, |replica| {
                matches!(replica.stage, Stage::Held(_))
            });
        }
        if around.now_ms >= self.tick_ms || around.now_ms + TICK_MS < self.tick_ms {
            self.tick_ms = around.now_ms + TICK_MS;
            self.tick(around);
        }
        if inbox.judges {
            self.judge_held(around);
        }
        for ask in inbox.asks {
            self.judge(ask, around);
        }
        let is_still = around.shared.is_still.load(Acquire);
        if wants_acks && !is_still && self.streams().next().is_some() {
            self.tell(GETACK);
        }
        self.begin_copy(around);
        let is_full = self.send(around);
        self.trim(around.config);
        self.publish(around);
        self.patience(is_full, around.now_ms)
    }

    fn patience(&self, is_full: bool, now_ms: u64) -> Duration {
        if is_full {
            return FULL_RETRY;
        }
        if self.backlog.is_none() && self.replicas.is_empty() {
            return IDLE;
        }
        let waits = self.replicas.iter();
        let waits = waits.filter(|replica| matches!(replica.stage, Stage::Waits));
        let until_ms = match waits.count() {
            0 => self.tick_ms,
            _ if self.copy.is_some() => self.tick_ms,
            _ => self.tick_ms.min(self.copy_at_ms),
        };
        Duration::from_millis(until_ms.saturating_sub(now_ms).max(1))
    }

    /// Says the frames that have come.
    fn say(&mut self, around: &mut Around<'_>) {
        let mut fed = core::mem::take(&mut self.fed);
        around.node.write_log.take_fed(&mut fed);
        let is_frame = |item: &&Item| matches!(item, Item::Frame(..));
        let mut number = fed.last - fed.items.iter().filter(is_frame).count() as u64;
        if fed.has_gap {
            self.break_history("frames are missing", number, around);
        }
        let mut bytes = &fed.bytes[..];
        for item in &fed.items {
            match *item {
                Item::Frame(kind, len) => {
                    let (payload, rest) = bytes.split_at(len);
                    bytes = rest;
                    number += 1;
                    self.said.clear();
                    if self.feed.say(kind, payload, &mut self.said).is_err() {
                        self.break_history("a frame cannot be said", number, around);
                    }
                    let said = core::mem::take(&mut self.said);
                    self.backlog().append(&said);
                    self.said = said;
                }
                Item::Cut(_) => self.meet_cut(around),
            }
        }
        if !fed.items.is_empty() {
            self.mark(fed.last);
        }
        self.said.shrink_to(1 << 20);
        self.fed = fed;
        if self.feed.has_left_out() && !core::mem::replace(&mut self.told_of_deadlines, true) {
            around.warning(
                "Deadlines of hash fields are not told to replicas: they are told when a field ends",
            );
        }
    }

    /// Everything up to this frame has been said.
    fn mark(&mut self, frame: u64) {
        let end = self.end();
        match self.marks.back_mut() {
            Some(mark) if mark.1 == end => mark.0 = frame,
            _ => self.marks.push_back((frame, end)),
        }
        if self.marks.len() > MARKS_MAX {
            let last = self.marks.len() - 1;
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at % 2 == 0 || at - 1 == last
            });
        }
    }

    /// The last frame that is said whole before an offset.
    fn frame_at(&self, offset: u64) -> u64 {
        let behind = self.marks.partition_point(|mark| mark.1 <= offset);
        let mark = behind.checked_sub(1).and_then(|at| self.marks.get(at));
        mark.map_or(0, |mark| mark.0)
    }

    fn end(&self) -> u64 {
        self.backlog.as_ref().map_or(self.ended_at, Backlog::end)
    }

    /// The backlog; it begins where the one before has ended.
    fn backlog(&mut self) -> &mut Backlog {
        let ended_at = self.ended_at;
        self.backlog.get_or_insert_with(|| Backlog::at(ended_at))
    }

    /// Appends to the stream what is no change of data.
    fn tell(&mut self, bytes: &[u8]) {
        if let Some(backlog) = &mut self.backlog {
            backlog.append(bytes);
        }
    }

    /// Replicas that follow the stream.
    fn streams(&self) -> impl Iterator<Item = &Replica> {
        let replicas = self.replicas.iter();
        replicas.filter(|replica| matches!(replica.stage, Stage::Streams))
    }

    /// The stream is another one's from here on, of which so many bytes are known to everybody.
    pub(super) fn begin_at(&mut self, log: &WriteLog, offset: u64) {
        // What waits to be said was done before this instant: whoever has that history has it.
        log.take_fed(&mut self.fed);
        self.begin_anew(offset);
        self.mark(self.fed.last);
    }

    /// No frame is known, and no replica that has a part of the stream.
    fn begin_anew(&mut self, offset: u64) {
        self.backlog = Some(Backlog::at(offset));
        self.marks.clear();
        self.feed.forget_db();
        if let Some(copy) = &mut self.copy {
            copy.is_void = true;
        }
        let is_past =
            |replica: &mut Replica| !matches!(replica.stage, Stage::Waits | Stage::Held(_));
        let past = self.replicas.extract_if(.., is_past);
        self.leaving.extend(past.map(|replica| replica.link));
        self.is_changed = true;
    }

    /// Another history begins behind this frame: who follows it has a copy that was made later.
    fn break_history(&mut self, why: &str, frame: u64, around: &Around<'_>) {
        let had_any = self.replicas.iter().any(|replica| replica.has_begun());
        around.shared.change_history();
        self.begin_anew(self.end());
        self.mark(frame);
        if had_any {
            around.warning(&format!("Replicas have to begin anew: {why}"));
        }
    }

    // ---- who asks ---------------------------------------------------------------------------

    fn judge(&mut self, ask: Ask, around: &Around<'_>) {
        self.is_changed = true;
        self.alone_since_ms = None;
        let link = Arc::clone(&ask.link);
        if let Some(at) = self.continues(&ask, around.shared) {
            return self.go_on(link, at, around);
        }
        if let Some(expected) = &*lock(&around.shared.expected) {
            let (replid, offset) = ask.has.clone().unwrap_or_default();
            let is_expected = replid.eq_ignore_ascii_case(expected.replid.as_bytes())
                && u64::try_from(offset).is_ok_and(|offset| offset == expected.offset + 1);
            // (Who has stopped listening will refuse, or take over.)
            let _heard = expected.to.send(Asked {
                is_expected,
                replid: String::from_utf8_lossy(&replid).into_owned(),
                offset,
                address: format!("{}:{}", link.ip, link.said.port),
            });
            return self.replicas.push(Replica::new(link, Stage::Held(ask)));
        }
        let counters = &around.shared.counters;
        counters.full.fetch_add(1, Relaxed);
        if ask.has.is_some_and(|(replid, _)| replid != b"?") {
            counters.partial_err.fetch_add(1, Relaxed);
        }
        around.notice(&format!(
            "Replica {}:{} asks for a full copy",
            link.ip, link.said.port
        ));
        let mut replica = Replica::new(link, Stage::Waits);
        let under_way = self.copy.as_ref().filter(|copy| !copy.is_void);
        if let Some(offset) = under_way.and_then(|copy| copy.offset) {
            replica.begin_copy(&lock(&around.shared.history).id, offset);
        }
        self.replicas.push(replica);
    }

    /// Those who are held are judged anew.
    fn judge_held(&mut self, around: &Around<'_>) {
        let is_held = |replica: &mut Replica| matches!(replica.stage, Stage::Held(_));
        let held: Vec<Replica> = self.replicas.extract_if(.., is_held).collect();
        for replica in held {
            if let Stage::Held(ask) = replica.stage {
                self.judge(ask, around);
            }
        }
    }

    /// Where the stream goes on for a replica, if it is here.
    fn continues(&self, ask: &Ask, shared: &Replicas) -> Option<u64> {
        let (id, asked) = ask.has.as_ref()?;
        let asked = u64::try_from(*asked).ok()?;
        let at = asked.checked_sub(1)?;
        let is_same = lock(&shared.history).is_same(id, asked);
        let backlog = self.backlog.as_ref()?;
        (is_same && backlog.reaches(at)).then_some(at)
    }

    fn go_on(&mut self, link: Arc<Link>, at: u64, around: &Around<'_>) {
        around.shared.counters.partial_ok.fetch_add(1, Relaxed);
        let address = format!("{}:{}", link.ip, link.said.port);
        around.notice(&format!("Replica {address} goes on from offset {at}"));
        let line = match link.said.psync2 {
            true => format!("+CONTINUE {}\r\n", lock(&around.shared.history).id),
            false => "+CONTINUE\r\n".to_owned(),
        };
        link.touch(around.now_ms);
        link.set_state(State::Online);
        let mut replica = Replica::new(link, Stage::Streams);
        replica.head = line.into_bytes();
        replica.at = at;
        self.replicas.push(replica);
    }

    // ---- full copies ------------------------------------------------------------------------

    /// A copy is begun if somebody waits for one.
    fn begin_copy(&mut self, around: &mut Around<'_>) {
        let waits = |replica: &Replica| matches!(replica.stage, Stage::Waits);
        if self.copy.is_none() && around.now_ms >= self.copy_at_ms {
            if !self.replicas.iter().any(waits) {
                return;
            }
            if !around.node.snapshots.claim(around.now_ms, Goal::Replica) {
                self.copy_at_ms = around.now_ms + CLAIM_RETRY_MS;
                return;
            }
            self.copy = Some(Copy::default());
        }
        if let Some(copy) = self.copy.as_mut().filter(|copy| !copy.is_told) {
            let mail = Mail::Replica(Told::Copy);
            copy.is_told = (around.post)(CoreId(0), mail).is_ok();
        }
    }

    /// The stream has come to the cut of a copy: what follows is behind it.
    fn meet_cut(&mut self, around: &Around<'_>) {
        let offset = self.backlog().end();
        // Who begins here has selected no database.
        self.feed.forget_db();
        let Some(copy) = self.copy.as_mut() else {
            return;
        };
        (copy.offset, copy.is_void) = (Some(offset), false);
        let id = lock(&around.shared.history).id.clone();
        let waits = |replica: &&mut Replica| matches!(replica.stage, Stage::Waits);
        for replica in self.replicas.iter_mut().filter(waits) {
            replica.begin_copy(&id, offset);
        }
    }

    fn end_copy(&mut self, ended: &Ended, around: &mut Around<'_>) {
        let Some(copy) = self.copy.take() else {
            return;
        };
        let file = match &ended.done {
            Ok(()) => ended.copy.as_ref().ok_or_else(|| "there is no file".into()),
            Err(why) => Err(Arc::clone(why)),
        };
        let copies = |replica: &&mut Replica| matches!(replica.stage, Stage::Copies);
        let mut fault = file.as_ref().err().map(|why| why.to_string());
        if let Ok((path, bytes)) = file {
            for replica in self.replicas.iter_mut().filter(copies) {
                if copy.is_void {
                    continue;
                }
                match Input::open(around.disk, path, &around.node.vault) {
                    Ok(input) => replica.begin_sending(Box::new(input), *bytes, around.now_ms),
                    Err(why) => fault = Some(why.to_string()),
                }
            }
            // Those that are sent have it open. (What cannot be removed stays as litter: the name says what it is.)
            let _gone = around.disk.remove(path);
        }
        if let Some(why) = fault {
            around.warning(&format!("A full copy for replicas failed: {why}"));
            self.copy_at_ms = around.now_ms + FAILED_RETRY_MS;
        }
        self.drop_some("its full copy failed", around, |replica| {
            matches!(replica.stage, Stage::Copies)
        });
    }

    // ---- from time to time ------------------------------------------------------------------

    fn tick(&mut self, around: &mut Around<'_>) {
        let (now_ms, config) = (around.now_ms, around.config);
        if now_ms >= self.ping_ms
            || now_ms + 1000 * config.repl_ping_replica_period_s < self.ping_ms
        {
            self.ping_ms = now_ms + 1000 * config.repl_ping_replica_period_s;
            if !self.replicas.is_empty() && !around.shared.is_still.load(Acquire) {
                self.tell(PING);
            }
        }
        self.replicas.iter_mut().for_each(Replica::reassure);
        let timeout_ms = 1000 * config.repl_timeout_s;
        self.drop_some("it has been silent for too long", around, |replica| {
            replica.is_silent(now_ms, timeout_ms)
        });
        self.stop_if_unused(around);
    }

    /// The feed is turned off when there has been no replica for long.
    fn stop_if_unused(&mut self, around: &mut Around<'_>) {
        if self.backlog.is_none() || !self.replicas.is_empty() {
            self.alone_since_ms = None;
            return;
        }
        if !around.node.write_log.feeds() {
            self.ended_at = self.end();
            self.backlog = None;
            self.marks.clear();
            around.shared.change_history();
            around.notice("The replication backlog has been freed: there was no replica for long");
            return;
        }
        let since_ms = *self.alone_since_ms.get_or_insert(around.now_ms);
        let ttl_s = around.config.repl_backlog_ttl_s;
        let is_over = ttl_s > 0 && around.now_ms.saturating_sub(since_ms) / 1000 >= ttl_s;
        if is_over && around.shared.is_unused() {
            // (If the mailbox is full: at the next tick.)
            let _full = (around.post)(CoreId(0), Mail::Replica(Told::Feed(false)));
        }
    }

    /// Disconnects some.
    fn drop_some(
        &mut self,
        why: &str,
        around: &Around<'_>,
        mut is: impl FnMut(&mut Replica) -> bool,
    ) {
        let some: Vec<Replica> = self
            .replicas
            .extract_if(.., |replica| is(replica))
            .collect();
        self.is_changed |= !some.is_empty();
        for replica in some {
            let (ip, port) = (&replica.link.ip, replica.link.said.port);
            around.warning(&format!("Replica {ip}:{port} is disconnected: {why}"));
            self.leaving.push(replica.link);
        }
    }

    /// Sends what there is room for; whether a mailbox is full.
    fn send(&mut self, around: &mut Around<'_>) -> bool {
        let mut is_full = self.copy.as_ref().is_some_and(|copy| !copy.is_told);
        let post = &mut *around.post;
        self.leaving.retain(|link| {
            let mail = Mail::Replica(Told::Drop(Arc::clone(link)));
            post(link.core, mail).is_err()
        });
        is_full |= !self.leaving.is_empty();
        let mut failed = Vec::new();
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            let was = replica.link.state();
            match replica.send(self.backlog.as_ref(), around.now_ms, &mut *around.post) {
                Ok(full) => is_full |= full,
                Err(why) => failed.push((at, why)),
            }
            if was != State::Online && replica.link.state() == State::Online {
                self.is_changed = true;
                let (ip, port) = (&replica.link.ip, replica.link.said.port);
                around
                    .node
                    .log(|log| log.notice(&format!("Replica {ip}:{port} has got its full copy")));
            }
        }
        for (at, why) in failed.into_iter().rev() {
            let link = Arc::clone(&self.replicas[at].link);
            self.drop_some(&why, around, |replica| Arc::ptr_eq(&replica.link, &link));
        }
        let (end, now_ms) = (self.end(), around.now_ms);
        let (limit, size) = (
            around.config.client_output_buffer_limit.replica,
            around.config.repl_backlog_size,
        );
        self.drop_some(
            "it lags too far behind (client-output-buffer-limit replica)",
            around,
            |replica| replica.is_over((limit, size), end, now_ms),
        );
        is_full
    }

    /// Forgets what nobody needs.
    fn trim(&mut self, config: &Config) {
        let needs = self.replicas.iter().filter(|replica| replica.has_begun());
        let copy = self.copy.as_ref().filter(|copy| !copy.is_void);
        let needed = needs
            .map(|replica| replica.at)
            .chain(copy.and_then(|copy| copy.offset));
        let needed = needed.min().unwrap_or(u64::MAX);
        if let Some(backlog) = &mut self.backlog {
            backlog.trim(config.repl_backlog_size, needed);
        }
        let acked = self.streams().map(|replica| replica.link.acked()).min();
        let acked = acked.unwrap_or(self.end());
        while self.marks.get(1).is_some_and(|next| next.1 <= acked) {
            self.marks.pop_front();
        }
    }

    /// Shows cores and commands how everything is.
    fn publish(&mut self, around: &mut Around<'_>) {
        let mut is_news = self.is_changed;
        for replica in self.streams() {
            let frame = self.frame_at(replica.link.acked());
            let aof_frame = self.frame_at(replica.link.aof_acked());
            is_news |= replica.link.set_acked_frames(frame, aof_frame);
        }
        if core::mem::take(&mut self.is_changed) {
            let links = self
                .replicas
                .iter()
                .map(|replica| Arc::clone(&replica.link));
            *lock(&around.shared.links) = links.collect();
        }
        let heap_bytes = self.backlog.as_ref().map_or(0, Backlog::heap_bytes) as u64;
        around.shared.heap_bytes.store(heap_bytes, Relaxed);
        *lock(&around.shared.stream) = Stream {
            is_on: self.backlog.is_some(),
            first: self.backlog.as_ref().map_or(0, Backlog::first),
            end: self.end(),
            heap_bytes,
            frame: self.fed.last,
        };
        self.publish_near(around);
        if is_news {
            for core in around.shared.waiting() {
                // (A core whose mailbox is full is about to turn, and looks by itself.)
                let _full = (around.post)(core, Mail::Logged);
            }
        }
    }

    fn publish_near(&self, around: &mut Around<'_>) {
        let lag_ms = 1000 * around.config.min_replicas_max_lag_s + 999;
        let is_near = |replica: &&Replica| replica.link.silent_ms(around.now_ms) <= lag_ms;
        let near = self.streams().filter(is_near).count() as u64;
        if around.shared.near.swap(near, Relaxed) == near {
            return;
        }
        if around.config.min_replicas_to_write > 0 {
            for core in (0..around.node.cores() as u16).map(CoreId) {
                // (Those that are full look at the next change; a write is refused, or taken, a little longer.)
                let _full = (around.post)(core, Mail::Replica(Told::Near));
            }
        }
    }
}
