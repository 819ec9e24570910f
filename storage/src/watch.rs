//! Versions of watched keys, kept by the core that owns them.
//!
//! WATCH notes a key here and takes its version; EXEC compares. A key that nobody watches costs
//! nothing, and a shard that nobody watches costs one load per write.

use std::collections::HashMap;

use crate::slot::Slot;

#[derive(Default)]
pub(crate) struct Watched {
    keys: HashMap<(u8, Box<[u8]>), Version>,
    /// Touches of keys in borrowed slots: their owner keeps the versions.
    foreign: Vec<(u8, Box<[u8]>)>,
}

struct Version {
    changes: u64,
    watchers: u32,
}

impl Watched {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn add(&mut self, db: u8, key: &[u8]) -> u64 {
        let version = self.keys.entry((db, key.into())).or_insert(Version {
            changes: 0,
            watchers: 0,
        });
        version.watchers += 1;
        version.changes
    }

    pub(crate) fn drop_one(&mut self, db: u8, key: &[u8]) {
        let id = (db, Box::from(key));
        if let Some(version) = self.keys.get_mut(&id) {
            version.watchers -= 1;
            if version.watchers == 0 {
                self.keys.remove(&id);
            }
        }
    }

    pub(crate) fn version(&self, db: u8, key: &[u8]) -> Option<u64> {
        self.keys
            .get(&(db, Box::from(key)))
            .map(|version| version.changes)
    }

    #[cold]
    pub(crate) fn touch(&mut self, db: u8, key: &[u8]) {
        if let Some(version) = self.keys.get_mut(&(db, Box::from(key))) {
            version.changes += 1;
        }
    }

    /// Touches every watched key of a database for which `holds` says yes.
    pub(crate) fn touch_db(&mut self, db: u8, holds: impl Fn(&[u8]) -> bool) {
        for ((of, key), version) in &mut self.keys {
            if *of == db && holds(key) {
                version.changes += 1;
            }
        }
    }

    pub(crate) fn touch_foreign(&mut self, db: u8, key: &[u8]) {
        self.foreign.push((db, key.into()));
    }

    pub(crate) fn take_foreign(&mut self, of: impl Fn(Slot) -> bool) -> Vec<(u8, Box<[u8]>)> {
        let (taken, kept) = core::mem::take(&mut self.foreign)
            .into_iter()
            .partition(|(_, key)| of(Slot::of(key)));
        self.foreign = kept;
        taken
    }
}
