//! Client-side caching (CLIENT TRACKING): who is told when keys change.
//!
//! ```text
//! a read of a tracking client ── Track ──> the core of each key remembers (key, client), before the read runs there
//! the key changes, expires, is evicted ─── Invalidate ──> the client's core, or that of the one it redirects to
//! BCAST: every core knows the prefixes of all clients, and is told of all changes while there are any
//! ```
//! A remembered key is told once and forgotten. Over `tracking-table-max-keys` keys are told at random before they change.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use protocol::{Args, Reply, Resp};
use runtime::{ConnId, CoreId};
use storage::account::class_size;
use storage::{Key, KeyHasher, Touched};

use crate::connection::Connection;
use crate::core::Core;
use crate::mail::Mail;
use crate::memory::name_bytes;
use crate::service::NodeService;
use crate::table::Row;

/// The channel on which a connection of version 2 hears of changes for another one.
pub const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Messages on their way that a further key may join: the last ones, which are those of one request to all who hear of it.
const JOINED_MAX: usize = 64;

/// A connection anywhere in the node.
pub type Place = (CoreId, ConnId);

/// Which of a client's reads are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// All.
    #[default]
    All,
    /// Those that follow CLIENT CACHING YES.
    OptIn,
    /// All but those that follow CLIENT CACHING NO.
    OptOut,
    /// None: it hears of all keys with its prefixes.
    Broadcast,
}

/// What a client has asked for.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    /// See [`Mode`].
    pub mode: Mode,
    /// Changes by itself are not told.
    pub noloop: bool,
    /// Prefixes of [`Mode::Broadcast`]; the empty one means all keys.
    pub prefixes: Vec<Box<[u8]>>,
    /// Who is told instead: client number and place.
    pub redirect: Option<(u64, Place)>,
    /// That one has gone.
    pub redirect_is_broken: bool,
    /// CLIENT CACHING was the last command, and said this.
    pub caching: Option<bool>,
}

/// What a client that has read a key, or follows its prefix, is to be told. Whom that reaches, its core knows: the client may
/// have chosen other options since.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// The client.
    home: Place,
    /// It tells of a prefix.
    broadcast: bool,
    /// The client itself has made the change.
    own: bool,
    /// The keys; None for all.
    keys: Option<Keys>,
}

impl Invalidation {
    /// A client is to forget keys that were read for it elsewhere.
    pub fn of(home: Place, broadcast: bool, keys: Keys) -> Invalidation {
        Invalidation {
            home,
            broadcast,
            own: false,
            keys: Some(keys),
        }
    }
}

/// A client is about to read a key.
#[derive(Clone, Debug)]
pub struct Read {
    /// The key's database.
    pub db: u8,
    /// The key.
    pub name: Box<[u8]>,
    /// The client.
    pub reader: Place,
    /// It reads it where the key's slot visits, and changes there are told.
    pub noted: bool,
    /// The client has changed it before, on the same visit.
    pub changed: bool,
}

/// Keys of a message between cores.
pub type Keys = Vec<Box<[u8]>>;

/// Those who track one key, by its database and name.
type Trackers = HashMap<(u8, Box<[u8]>), Vec<Place>, BuildHasherDefault<KeyHasher>>;

/// Sums over all cores.
#[derive(Default)]
pub struct TrackingCounts {
    /// Clients that track.
    pub clients: AtomicUsize,
    /// Keys that are remembered.
    pub keys: AtomicUsize,
    /// Readers of them.
    pub items: AtomicUsize,
    /// Prefixes of clients.
    pub prefixes: AtomicUsize,
}

/// One core's part.
#[derive(Default)]
pub struct Trackings {
    /// Who has read which key of this core.
    keys: Trackers,
    /// Prefixes of all clients of the node.
    prefixes: Vec<(Box<[u8]>, Place)>,
    /// Clients of this core that track.
    clients: BTreeSet<u64>,
    /// Bytes of all these.
    pub(crate) bytes: usize,
}

/// Bytes of a key that is remembered: its name here, and among those that are followed.
fn tracked_bytes(name: &[u8]) -> usize {
    2 * name_bytes(name)
}

impl Trackings {
    /// Whether nobody tracks keys of this core.
    #[inline(always)]
    fn is_idle(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.clients.is_empty()
    }
}

impl Tracking {
    /// Whether reads of this moment are remembered.
    pub fn remembers(&self) -> bool {
        match self.mode {
            Mode::All => true,
            Mode::OptIn => self.caching == Some(true),
            Mode::OptOut => self.caching != Some(false),
            Mode::Broadcast => false,
        }
    }
}

impl Core {
    /// A client begins to track, or goes on with other options.
    pub fn start_tracking(&mut self, conn: &mut Connection, tracking: Tracking) {
        self.stop_tracking(conn);
        self.trackings.clients.insert(conn.conn.to_u64());
        let counts = &self.node.tracking;
        counts.clients.fetch_add(1, Relaxed);
        let prefixes = tracking.prefixes.len();
        counts.prefixes.fetch_add(prefixes, Relaxed);
        let home = (self.id, conn.conn);
        for prefix in &tracking.prefixes {
            self.tell_prefix(prefix, home, true);
        }
        conn.tracking = Some(Box::new(tracking));
    }

    /// A client tracks no more.
    pub fn stop_tracking(&mut self, conn: &mut Connection) {
        let Some(tracking) = conn.tracking.take() else {
            return;
        };
        self.trackings.clients.remove(&conn.conn.to_u64());
        let counts = &self.node.tracking;
        counts.clients.fetch_sub(1, Relaxed);
        let prefixes = tracking.prefixes.len();
        counts.prefixes.fetch_sub(prefixes, Relaxed);
        let home = (self.id, conn.conn);
        for prefix in &tracking.prefixes {
            self.tell_prefix(prefix, home, false);
        }
    }

    fn tell_prefix(&mut self, prefix: &[u8], home: Place, joins: bool) {
        self.change_prefix(prefix.into(), home, joins);
        for core in (0..self.node.cores() as u16).map(CoreId) {
            if core != self.id {
                let mail = Mail::Prefix(prefix.into(), home, joins);
                self.posts.push((core, mail));
            }
        }
    }

    /// A client of the node follows a prefix, or no longer.
    pub fn change_prefix(&mut self, prefix: Box<[u8]>, home: Place, joins: bool) {
        let prefixes = &mut self.trackings.prefixes;
        let prefix_bytes = class_size(prefix.len()) + size_of::<(Box<[u8]>, Place)>();
        if joins {
            self.trackings.bytes += prefix_bytes;
            prefixes.push((prefix, home));
        } else {
            let known = prefixes
                .iter()
                .position(|(name, by)| *name == prefix && *by == home);
            if let Some(at) = known {
                self.trackings.bytes -= prefix_bytes;
                prefixes.swap_remove(at);
            }
        }
        let any = !self.trackings.prefixes.is_empty();
        self.shard.set_follow_all(any);
    }

    /// A request of a tracking client is about to run: the keys that it reads are remembered where they live.
    pub fn track(&mut self, conn: &mut Connection, row: &'static Row, args: &Args<'_>) {
        let tracking = conn.tracking.as_deref();
        if tracking.is_some_and(Tracking::remembers) {
            self.track_for((self.id, conn.conn), conn.db, row, args);
        }
    }

    /// As [`Core::track`], for a request of a script.
    pub fn track_for(&mut self, reader: Place, db: u8, row: &'static Row, args: &Args<'_>) {
        if row.writes || !matches!(row.kind, crate::table::Kind::Data(_)) {
            return;
        }
        let mut words = Vec::new();
        // A request whose keys cannot be told is refused by its handler.
        let _ = row.spec.keys_of(args, |word, _| words.push(word));
        for name in words.into_iter().filter_map(|word| args.word(word)) {
            let key = Key::new(db, name);
            let owner = self.owner(key.slot);
            let mut read = Read {
                db,
                name: name.into(),
                reader,
                noted: false,
                changed: false,
            };
            // (Beside the cores the one that this stands for hears of it later.)
            if owner == self.id && self.beside.is_none() {
                self.remember(read);
            } else {
                // A slot that visits is asked on its way home what has changed here.
                if self.tx_slots.binary_search(&key.slot).is_ok() {
                    read.noted = true;
                    read.changed = self.shard.note_guest(&key);
                }
                self.posts.push((owner, Mail::Track(read)));
            }
        }
    }

    /// What the transaction of a client has changed so far is told to those who had read it before: a read that follows is a new one.
    #[cold]
    fn tell_changes(&mut self, by: Place) {
        for touched in self.shard.untold() {
            self.tell_changed(&touched, Some(by));
        }
    }

    /// A key has changed, by a connection's request or by itself: who has read it is told, and who follows its prefix.
    pub fn tell_changed(&mut self, touched: &Touched, by: Option<Place>) {
        if self.trackings.is_idle() {
            return;
        }
        self.invalidate(touched.db, &touched.key, by);
        if !touched.away {
            self.broadcast(&touched.key, by);
        }
    }

    /// A client is about to read a key of this core.
    pub fn remember(&mut self, read: Read) {
        let Read {
            db,
            name,
            reader,
            noted,
            changed,
        } = read;
        if changed {
            self.shard.touch_away(&Key::new(db, &name));
        }
        if self.shard.has_news() {
            self.tell_changes(reader);
        }
        let trackers = match self.trackings.keys.get_mut(&(db, name.clone())) {
            Some(trackers) => trackers,
            None => {
                let key = Key::new(db, &name);
                if noted {
                    self.shard.follow_noted(&key);
                } else {
                    self.shard.follow(&key);
                }
                self.node.tracking.keys.fetch_add(1, Relaxed);
                self.trackings.bytes += tracked_bytes(&name);
                self.trackings.keys.entry((db, name)).or_default()
            }
        };
        if !trackers.contains(&reader) {
            trackers.push(reader);
            self.trackings.bytes += size_of::<Place>();
            self.node.tracking.items.fetch_add(1, Relaxed);
        }
        if self.tracks_too_many() {
            self.forget_one();
        }
    }

    /// The table is full: some key is told as if it had changed.
    #[cold]
    fn forget_one(&mut self) {
        if let Some((db, name)) = self.trackings.keys.keys().next().cloned() {
            self.invalidate(db, &name, None);
        }
    }

    /// Who has read a key of this core is told.
    fn invalidate(&mut self, db: u8, name: &[u8], by: Option<Place>) {
        if !self.trackings.keys.is_empty()
            && let Some(readers) = self.trackings.keys.remove(&(db, name.into()))
        {
            self.forgotten(db, name, readers.len());
            for home in readers {
                self.send_invalidation(Invalidation {
                    home,
                    broadcast: false,
                    own: by == Some(home),
                    keys: Some(vec![name.into()]),
                });
            }
        }
    }

    /// Who follows the prefix of a key is told.
    fn broadcast(&mut self, name: &[u8], by: Option<Place>) {
        let prefixes = self.trackings.prefixes.iter();
        let broadcast: Vec<(usize, Place)> = prefixes
            .filter(|(prefix, _)| name.starts_with(prefix))
            .map(|(prefix, home)| (prefix.len(), *home))
            .collect();
        for (prefix_len, home) in broadcast {
            self.broadcast_invalidation(home, by == Some(home), prefix_len, name);
        }
    }

    /// What one request changes is told in one message for each prefix, as far as it is still to be sent. (Prefixes of a client
    /// do not overlap: keys that begin alike are of one.)
    fn broadcast_invalidation(&mut self, home: Place, own: bool, prefix_len: usize, name: &[u8]) {
        let joins = |last: &mut Invalidation| {
            if last.home != home || last.own != own || !last.broadcast {
                return false;
            }
            let Some(keys) = &mut last.keys else {
                return false;
            };
            let alike = |key: &[u8]| key.get(..prefix_len) == name.get(..prefix_len);
            if !keys.first().is_some_and(|key| alike(key)) {
                return false;
            }
            if let Err(at) = keys.binary_search_by(|key| (**key).cmp(name)) {
                keys.insert(at, name.into());
            }
            true
        };
        let joined = if home.0 == self.id {
            let mut last = self.invalidations.iter_mut().rev().take(JOINED_MAX);
            last.any(joins)
        } else {
            let mut last = self.posts.iter_mut().rev().take(JOINED_MAX);
            last.any(|(core, mail)| match mail {
                Mail::Invalidate(last) => *core == home.0 && joins(last),
                _ => false,
            })
        };
        if !joined {
            self.send_invalidation(Invalidation {
                home,
                broadcast: true,
                own,
                keys: Some(vec![name.into()]),
            });
        }
    }

    /// After a change of `tracking-table-max-keys`: the keys above it are told, and forgotten.
    pub fn trim_tracked(&mut self) {
        while self.tracks_too_many() {
            self.forget_one();
        }
    }

    fn tracks_too_many(&self) -> bool {
        let (most, cores) = (
            self.config.tracking_table_max_keys,
            self.node.cores() as u64,
        );
        let before = |core: u64| u128::from(most) * u128::from(core) / u128::from(cores);
        let id = u64::from(self.id.0);
        // (The shares of all cores are as many as that, also when some have none.)
        let share = before(id + 1) - before(id);
        most > 0 && self.trackings.keys.len() as u128 > share
    }

    fn send_invalidation(&mut self, invalidation: Invalidation) {
        let core = invalidation.home.0;
        if core == self.id {
            self.invalidations.push(invalidation);
        } else {
            self.posts.push((core, Mail::Invalidate(invalidation)));
        }
    }

    /// A database of this core has been emptied: nothing is remembered any more.
    fn invalidate_all(&mut self) {
        for ((db, name), trackers) in core::mem::take(&mut self.trackings.keys) {
            self.forgotten(db, &name, trackers.len());
        }
    }

    /// The other cores tell their clients, too. (A flush runs in one place, with the slots of all.)
    pub fn post_flush(&mut self) {
        if self.node.tracking.clients.load(Relaxed) == 0 {
            return;
        }
        self.tell_others(|| Mail::Flushed);
    }

    /// A key that so many had read is remembered no more.
    fn forgotten(&mut self, db: u8, name: &[u8], readers: usize) {
        self.shard.unfollow(db, name);
        self.trackings.bytes -= tracked_bytes(name) + readers * size_of::<Place>();
        let counts = &self.node.tracking;
        counts.keys.fetch_sub(1, Relaxed);
        counts.items.fetch_sub(readers, Relaxed);
    }
}

impl NodeService {
    /// Every client of this core that tracks is told that all keys have changed.
    pub(crate) fn tell_flush(&mut self) {
        self.core.invalidate_all();
        let clients: Vec<u64> = self.core.trackings.clients.iter().copied().collect();
        for conn in clients.into_iter().map(ConnId::from_u64) {
            let client = self.clients.get_mut(conn);
            let tracking = client.and_then(|client| client.tracking.as_deref());
            if let Some(broadcast) = tracking.map(|tracking| tracking.mode == Mode::Broadcast) {
                self.core.send_invalidation(Invalidation {
                    home: (self.core.id, conn),
                    broadcast,
                    own: false,
                    keys: None,
                });
            }
        }
    }

    /// Invalidations reach the connections of this core, after the reply of the request that made the change.
    pub(crate) fn deliver_invalidations(&mut self) {
        for invalidation in core::mem::take(&mut self.core.invalidations) {
            self.deliver_invalidation(invalidation);
        }
    }

    /// The client's own core: it may track no more, or in another way, or redirect to another client.
    fn deliver_invalidation(&mut self, invalidation: Invalidation) {
        let Invalidation {
            home,
            broadcast,
            own,
            keys,
        } = invalidation;
        let client = self.clients.get_mut(home.1);
        let Some(tracking) = client.and_then(|client| client.tracking.as_deref()) else {
            return;
        };
        if (tracking.noloop && own) || broadcast != (tracking.mode == Mode::Broadcast) {
            return;
        }
        match tracking.redirect {
            Some((_, (core, _))) if core != self.core.id => {
                let to = tracking.redirect.map_or(home, |(_, place)| place);
                self.core
                    .posts
                    .push((core, Mail::Redirected(to, home, keys)));
            }
            Some((_, to)) => self.tell_invalid(to, Some(home), keys),
            None => self.tell_invalid(home, None, keys),
        }
    }

    /// Tells a connection of this core of invalid keys; for a client that redirects to it, which may be itself.
    pub(crate) fn tell_invalid(&mut self, to: Place, home: Option<Place>, keys: Option<Keys>) {
        let (conn, redirected) = (to.1, home.is_some());
        let Some(client) = self.clients.get_mut(conn).filter(|client| !client.closing) else {
            if let Some(home) = home {
                self.tell_broken(home);
            }
            return;
        };
        // As in Redis any subscription will do.
        let listens = client.subscriptions.is_some();
        let mut frame = Vec::new();
        let mut reply = Reply::new(&mut frame, client.resp);
        match client.resp {
            Resp::V3 => {
                reply.push(2);
                reply.bulk(b"invalidate");
            }
            Resp::V2 if redirected && listens => {
                reply.push(3);
                reply.bulk(b"message");
                reply.bulk(CHANNEL);
            }
            // It has no way to be told.
            Resp::V2 => return,
        }
        match &keys {
            Some(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
            None => reply.null_array(),
        }
        self.push_out(conn, &frame);
    }

    /// The one that a client redirects to has gone.
    fn tell_broken(&mut self, home: Place) {
        if home.0 == self.core.id {
            self.redirect_broken(home.1);
        } else {
            self.core.posts.push((home.0, Mail::RedirectBroken(home.1)));
        }
    }

    /// See [`NodeService::tell_broken`].
    pub(crate) fn redirect_broken(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let Some(tracking) = &mut client.tracking else {
            return;
        };
        let redirect = tracking.redirect.map_or(0, |(id, _)| id);
        tracking.redirect_is_broken = true;
        if client.resp == Resp::V3 {
            let mut frame = Vec::new();
            let mut reply = Reply::new(&mut frame, Resp::V3);
            reply.push(2);
            reply.bulk(b"tracking-redir-broken");
            reply.int(redirect.cast_signed());
            self.push_out(conn, &frame);
        }
    }

    /// The client that another one wants to redirect to has been looked for on all cores.
    pub(crate) fn end_redirect(
        core: &mut Core,
        client: &mut Connection,
        (id, mut tracking): (u64, Tracking),
        parts: &[(u16, Vec<u8>)],
    ) -> bool {
        let found = parts.iter().find_map(|(core, part)| {
            let conn = u64::from_le_bytes(part.as_slice().try_into().ok()?);
            Some((CoreId(*core), ConnId::from_u64(conn)))
        });
        let Some(place) = found else { return false };
        tracking.redirect = Some((id, place));
        core.start_tracking(client, tracking);
        true
    }
}
