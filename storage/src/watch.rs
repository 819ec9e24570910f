//! Versions of watched keys, kept by the core that owns them.
//!
//! WATCH notes a key here and takes its version; EXEC compares. A key that nobody watches costs
//! nothing, and a shard that nobody watches costs one load per write. When a slot visits another core
//! its watched keys are noted there too, and those that changed are told on the way home.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::hash::{Key, hash_bytes};
use crate::shard::Shard;
use crate::slot::Slot;

/// Watched keys with their databases, on their way between two cores.
pub(crate) type WatchedKeys = Vec<(u8, Box<[u8]>)>;

/// A followed key that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its database.
    pub db: u8,
    /// The key.
    pub key: Box<[u8]>,
    /// It changed on a visit: who follows all keys has been told there.
    pub away: bool,
}

#[derive(Default)]
pub(crate) struct Watched {
    /// By database; as long as the highest one in which a key was ever watched.
    dbs: Vec<HashMap<Box<[u8]>, Version, BuildHasherDefault<KeyHasher>>>,
    len: usize,
    /// Keys that some transaction watches; those that are only followed, or that visit, are not.
    watching: usize,
    /// Followed keys that have changed since they were taken last.
    touched: Vec<Touched>,
    /// How many of them have been told to those who had read them before.
    told: usize,
    /// A database has been emptied.
    flushed: bool,
    /// Every key is followed.
    all: bool,
    /// Changes of watched keys while a script may still be undone.
    journal: Option<WatchedKeys>,
}

struct Version {
    slot: Slot,
    changes: u64,
    watchers: u32,
    /// Of these, how many want to be told of each change.
    followers: u32,
    /// Watched while its slot was away: what happened to it there is not known.
    unseen: bool,
}

/// Hashes as the tables do: seeded against flooding, and the same for every shard of a process.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(32) ^ hash_bytes(bytes);
    }
    fn write_usize(&mut self, n: usize) {
        self.0 ^= n as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Watched {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && !self.all
    }

    fn version_mut(&mut self, db: u8, key: &[u8]) -> Option<&mut Version> {
        self.dbs.get_mut(usize::from(db))?.get_mut(key)
    }

    /// A watcher more; `unseen`: the key's slot is away. Returns the version.
    pub(crate) fn add(&mut self, db: u8, key: &[u8], slot: Slot, unseen: bool) -> u64 {
        let db = usize::from(db);
        if self.dbs.len() <= db {
            self.dbs.resize_with(db + 1, HashMap::default);
        }
        let version = self.dbs[db].entry(key.into()).or_insert_with(|| {
            self.len += 1;
            Version {
                slot,
                changes: 0,
                watchers: 0,
                followers: 0,
                unseen: false,
            }
        });
        version.watchers += 1;
        version.unseen |= unseen;
        version.changes
    }

    /// Whether exactly one watcher of a key is a transaction.
    fn is_watched_once(&mut self, db: u8, key: &[u8]) -> bool {
        let version = self.version_mut(db, key);
        version.is_some_and(|version| version.watchers == version.followers + 1)
    }

    pub(crate) fn drop_one(&mut self, db: u8, key: &[u8]) {
        if let Some(version) = self.version_mut(db, key) {
            version.watchers -= 1;
            if version.watchers == 0 {
                self.dbs[usize::from(db)].remove(key);
                self.len -= 1;
            }
        }
    }

    pub(crate) fn version(&self, db: u8, key: &[u8]) -> Option<u64> {
        let version = self.dbs.get(usize::from(db))?.get(key)?;
        Some(version.changes)
    }

    #[cold]
    pub(crate) fn touch(&mut self, db: u8, key: &[u8]) {
        self.note(db, key, false);
    }

    /// As `touch`, of a key that has changed on a visit.
    pub(crate) fn touch_away(&mut self, db: u8, key: &[u8]) {
        self.note(db, key, true);
    }

    fn note(&mut self, db: u8, key: &[u8], away: bool) {
        let mut tell = self.all && !away;
        let mut journal = self.journal.take();
        if let Some(version) = self.version_mut(db, key) {
            version.changes += 1;
            tell |= version.followers > 0;
            if let Some(journal) = &mut journal {
                journal.push((db, key.into()));
            }
        }
        self.journal = journal;
        if tell {
            let key = key.into();
            self.touched.push(Touched { db, key, away });
        }
    }

    /// From here on changes can be taken back by `rewind`. Returns how many are to be told.
    pub(crate) fn begin_journal(&mut self) -> usize {
        self.journal = Some(WatchedKeys::new());
        self.touched.len()
    }

    /// Changes stay as they are.
    pub(crate) fn end_journal(&mut self) {
        self.journal = None;
    }

    /// Takes all changes back since `begin_journal`, which returned `told`.
    pub(crate) fn rewind(&mut self, told: usize) {
        for (db, key) in self.journal.take().unwrap_or_default() {
            if let Some(version) = self.version_mut(db, &key) {
                // (Those of a guest may have been told, and count from nothing again.)
                version.changes = version.changes.saturating_sub(1);
            }
        }
        self.touched.truncate(told);
        self.told = self.told.min(told);
    }

    /// A watcher more that is told of each change, in `touched`.
    pub(crate) fn follow(&mut self, db: u8, key: &[u8], slot: Slot, unseen: bool) {
        self.add(db, key, slot, unseen);
        if let Some(version) = self.version_mut(db, key) {
            version.followers += 1;
        }
    }

    pub(crate) fn unfollow(&mut self, db: u8, key: &[u8]) {
        if let Some(version) = self.version_mut(db, key) {
            version.followers = version.followers.saturating_sub(1);
        }
        self.drop_one(db, key);
    }

    pub(crate) fn set_follow_all(&mut self, all: bool) {
        self.all = all;
    }

    pub(crate) fn follows_all(&self) -> bool {
        self.all
    }

    /// Changes that another shard tells.
    pub(crate) fn append_touched(&mut self, mut touched: Vec<Touched>, flushed: bool) {
        self.touched.append(&mut touched);
        self.flushed |= flushed;
    }

    #[inline(always)]
    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty() | self.flushed
    }

    pub(crate) fn note_flush(&mut self) {
        self.flushed = true;
    }

    pub(crate) fn take_touched(&mut self) -> Vec<Touched> {
        self.told = 0;
        core::mem::take(&mut self.touched)
    }

    /// The watched keys of a database.
    pub(crate) fn keys(&self, db: u8) -> impl Iterator<Item = &[u8]> {
        let keys = self.dbs.get(usize::from(db)).into_iter();
        keys.flat_map(|keys| keys.keys().map(AsRef::as_ref))
    }

    /// The watched keys of slots that go on a visit.
    pub(crate) fn of_slots(&self, slots: &impl Fn(Slot) -> bool) -> WatchedKeys {
        let mut found = WatchedKeys::new();
        for (db, keys) in self.dbs.iter().enumerate() {
            let here = keys.iter().filter(|(_, version)| slots(version.slot));
            found.extend(here.map(|(key, _)| (db as u8, key.clone())));
        }
        found
    }

    /// The visit of these slots is over: forgets their keys and returns those that changed here.
    pub(crate) fn take_guests(&mut self, slots: &impl Fn(Slot) -> bool) -> WatchedKeys {
        let mut changed = WatchedKeys::new();
        for (db, keys) in self.dbs.iter_mut().enumerate() {
            let before = keys.len();
            keys.retain(|key, version| {
                let here = slots(version.slot);
                if here && version.changes > 0 {
                    changed.push((db as u8, key.clone()));
                }
                !here
            });
            self.len -= before - keys.len();
        }
        changed
    }

    /// These slots have come home: who began to watch a key of theirs meanwhile is told that it changed.
    pub(crate) fn touch_unseen(&mut self, slots: &impl Fn(Slot) -> bool) {
        for (db, keys) in self.dbs.iter_mut().enumerate() {
            for (key, version) in keys.iter_mut() {
                if version.unseen && slots(version.slot) {
                    version.unseen = false;
                    version.changes += 1;
                    if version.followers > 0 {
                        self.touched.push(Touched {
                            db: db as u8,
                            key: key.clone(),
                            away: true,
                        });
                    }
                }
            }
        }
    }
}

impl Shard {
    /// Watches a key: its version, to compare at EXEC. One that is held past its deadline is expired
    /// now: to the watcher it was never there, so its removal later is no change.
    pub fn watch(&mut self, key: &Key<'_>) -> u64 {
        let away = self.away.contains(key.slot);
        if !away && self.find(key).is_some_and(|i| i.is_expired(self.now_ms)) {
            self.edit().expire(key);
        }
        let version = self.watched.add(key.db, key.bytes, key.slot, away);
        self.watched.watching += usize::from(self.watched.is_watched_once(key.db, key.bytes));
        version
    }

    /// Keys that some transaction watches.
    pub fn watched_keys(&self) -> usize {
        self.watched.watching
    }

    /// The present version of a watched key. Passing its deadline is a change, removed or not.
    pub fn watched_version(&self, db: u8, key: &[u8]) -> Option<u64> {
        let version = self.watched.version(db, key)?;
        let key = Key::new(db, key);
        let here = !self.away.contains(key.slot);
        let expired = here && self.find(&key).is_some_and(|i| i.is_expired(self.now_ms));
        Some(version + u64::from(expired))
    }

    /// Watches a key no more.
    pub fn unwatch(&mut self, db: u8, key: &[u8]) {
        self.watched.watching -= usize::from(self.watched.is_watched_once(db, key));
        self.watched.drop_one(db, key);
    }

    /// From now on each change of the key is told, by [`Shard::take_touched`], until [`Shard::unfollow`].
    pub fn follow(&mut self, key: &Key<'_>) {
        let away = self.away.contains(key.slot);
        self.watched.follow(key.db, key.bytes, key.slot, away);
    }

    /// As [`Shard::follow`] for a key whose slot is away, where [`Shard::note_guest`] has noted it.
    pub fn follow_noted(&mut self, key: &Key<'_>) {
        self.watched.follow(key.db, key.bytes, key.slot, false);
    }

    /// A key of a slot that visits: whether it has changed from here on is told to its owner when the slot goes home. Returns
    /// whether it has changed on this visit until here, which is not told any more.
    pub fn note_guest(&mut self, key: &Key<'_>) -> bool {
        let before = self.watched.add(key.db, key.bytes, key.slot, false);
        if let Some(version) = self.watched.version_mut(key.db, key.bytes) {
            version.changes = 0;
        }
        before > 0
    }

    /// A watched key has changed on a visit that goes on.
    pub fn touch_away(&mut self, key: &Key<'_>) {
        self.watched.touch_away(key.db, key.bytes);
    }

    /// Ends one [`Shard::follow`].
    pub fn unfollow(&mut self, db: u8, key: &[u8]) {
        self.watched.unfollow(db, key);
    }

    /// Every change of any key is told, or no longer.
    pub fn set_follow_all(&mut self, all: bool) {
        self.watched.set_follow_all(all);
    }

    /// Whether a database has been emptied since [`Shard::take_flushed`].
    pub fn is_flushed(&self) -> bool {
        self.watched.flushed
    }

    /// Whether a database has been emptied since the last call.
    pub fn take_flushed(&mut self) -> bool {
        core::mem::take(&mut self.watched.flushed)
    }

    /// Whether there are changes or events to take.
    #[inline(always)]
    pub fn has_news(&self) -> bool {
        self.watched.has_touched() | self.has_events()
    }

    /// Followed keys that have changed since the last call, in order; a key may come twice.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        self.watched.take_touched()
    }

    /// Those of the keys which [`Shard::take_touched`] will return that have changed since the last call.
    pub fn untold(&mut self) -> Vec<Touched> {
        let untold = self.watched.touched[self.watched.told..].to_vec();
        self.watched.told = self.watched.touched.len();
        untold
    }

    /// How many of the keys which [`Shard::take_touched`] will return, the first ones, [`Shard::untold`] has returned.
    pub fn told(&self) -> usize {
        self.watched.told
    }
}
