//! Deadlines that have come: what the shard does about the hints of its wheel.
//!
//! A hint says where to look. Keys whose deadline has passed are removed, fields of hashes likewise, a few a look; what is not due
//! yet goes on under one hint.

use std::sync::Arc;

use crate::expiry::{HINT_HASH_BITS, Hint};
use crate::hash::Key;
use crate::item::{Content, Item};
use crate::shard::{Db, HINTS_SPARE_MAX, Shard};
use crate::value::some_field_expires;

/// So many hints ahead an item is asked for, and its bucket as many before that.
const FETCHED_AHEAD: usize = 4;
/// Hints looked at for each one pushed while there are too many: half of them are stale at least.
const SWEEP_LOOKS: usize = 8;
/// Fields of one hash that one look removes; the rest wait for the next tick.
const FIELDS_PER_LOOK_MAX: usize = 256;
/// A hint for a slot on a visit elsewhere is looked at again after this, ms.
const AWAY_RETRY_MS: u64 = 8;
/// The same for a key that somebody else ends (see [`Shard::set_ends`]), and who mostly has by then.
const OTHERS_RETRY_MS: u64 = 1000;

/// Tells whether a key may end by its deadline here: see [`Shard::set_ends`].
pub type Ends = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

impl Shard {
    /// While keys end, only those that this says so of; None: all. The others stay past their deadline, as in [`Shard::set_holds_expired`].
    pub fn set_ends(&mut self, ends: Option<Ends>) {
        self.ends = ends;
    }

    /// Whether a key may end by its deadline.
    pub(crate) fn may_end(&self, key: &[u8]) -> bool {
        !self.holds_expired() && self.ends.as_deref().is_none_or(|ends| ends(key))
    }

    /// Until the next [`Shard::set_now`] no deadline has passed, as for requests that were executed elsewhere when their keys were there. What
    /// notes the time goes on with that of the turn.
    pub fn suspend_deadlines(&mut self) {
        self.now_ms = 0;
    }

    /// The time of the turn, for what notes it: not held back by [`Shard::suspend_deadlines`].
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// Removes keys whose deadline has passed, at `budget` hints; whether more may be due. Not for
    /// whoever only applies what another core recorded: that brings the removals.
    pub fn expire_due(&mut self, budget: usize) -> bool {
        if self.holds_expired() {
            return false;
        }
        self.wheel.advance(self.now_ms);
        self.set_hints_max();
        for _ in 0..budget {
            let Some(hint) = self.wheel.pop_due() else {
                return false;
            };
            self.fetch_ahead();
            self.look_at(hint);
        }
        true
    }

    /// Asks for what the next hints lead to: first the bucket, then what is in it.
    fn fetch_ahead(&self) {
        let tables = |hint: Hint| self.dbs.iter().filter_map(move |db| db.table(hint.slot()));
        if let Some(hint) = self.wheel.next_due(2 * FETCHED_AHEAD) {
            tables(hint).for_each(|table| table.prefetch_bucket(hint.hash()));
        }
        if let Some(hint) = self.wheel.next_due(FETCHED_AHEAD) {
            let fetch = |item: Item| item.prefetch();
            tables(hint).for_each(|table| table.with_prefix(hint.hash(), HINT_HASH_BITS, fetch));
        }
    }

    /// When [`Shard::expire_due`] wants to be called next, unix ms.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.wheel.next_ms()
    }

    fn look_at(&mut self, hint: Hint) {
        if self.away.contains(hint.slot()) {
            self.wheel.push(self.now_ms + AWAY_RETRY_MS, hint);
            return;
        }
        // Whatever the hint stands for and is not due yet goes on under one hint, at the earliest.
        let mut next = None;
        for db in 0..self.dbs.len() {
            while let Some(item) = self.due_item(db, hint, &mut next) {
                let bytes = item.key().to_vec();
                let key = Key::new(db as u8, &bytes);
                self.edit().expire(&key);
            }
        }
        if let Some(at_ms) = self.look_at_fields(hint) {
            next = Some(next.map_or(at_ms, |next| at_ms.min(next)));
        }
        if let Some(at_ms) = next {
            self.wheel.push(at_ms, hint);
        }
    }

    /// Removes fields of the hashes that a hint stands for; when to look again.
    fn look_at_fields(&mut self, hint: Hint) -> Option<u64> {
        if !some_field_expires() {
            return None;
        }
        let mut next = None;
        for db in 0..self.dbs.len() {
            let mut keys = Vec::new();
            if let Some(table) = self.dbs[db].table(hint.slot()) {
                table.with_prefix(hint.hash(), HINT_HASH_BITS, |item: Item| {
                    if let Some(at_ms) = first_field_ms(item) {
                        if at_ms <= self.now_ms && self.may_end(item.key()) {
                            keys.push(item.key().to_vec());
                        } else {
                            let at_ms = self.later(at_ms);
                            next = Some(next.map_or(at_ms, |next: u64| at_ms.min(next)));
                        }
                    }
                });
            }
            for key in keys {
                let key = Key::new(db as u8, &key);
                self.edit().expire_fields(&key, FIELDS_PER_LOOK_MAX);
                let first_ms = self.find(&key).and_then(first_field_ms);
                if let Some(at_ms) = first_ms {
                    next = Some(next.map_or(at_ms, |next| at_ms.min(next)));
                }
            }
        }
        next
    }

    /// Removes the fields of a hash whose deadline has passed, before a command looks at it.
    #[cold]
    pub fn expire_fields(&mut self, key: &Key<'_>) {
        let first_ms = self.live(key).and_then(first_field_ms);
        if first_ms.is_some_and(|at_ms| at_ms <= self.now_ms) && self.may_end(key.bytes) {
            self.edit().expire_fields(key, usize::MAX);
        }
    }

    /// An item that a hint stands for and whose deadline has passed. `next`: the earliest deadline of
    /// those that have not.
    fn due_item(&self, db: usize, hint: Hint, next: &mut Option<u64>) -> Option<Item> {
        let table = self.dbs[db].table(hint.slot())?;
        let mut due = None;
        table.with_prefix(hint.hash(), HINT_HASH_BITS, |item: Item| {
            match item.deadline_ms() {
                None => {}
                Some(at_ms) if at_ms <= self.now_ms && self.may_end(item.key()) => due = Some(item),
                Some(at_ms) => {
                    let at_ms = self.later(at_ms);
                    *next = Some(next.map_or(at_ms, |next| at_ms.min(next)));
                }
            }
        });
        due
    }

    /// When a deadline is looked at that is not to be acted upon now.
    fn later(&self, at_ms: u64) -> u64 {
        match at_ms > self.now_ms {
            true => at_ms,
            false => self.now_ms + OTHERS_RETRY_MS,
        }
    }

    #[cold]
    pub(crate) fn sweep_hints(&mut self) {
        self.set_hints_max();
        if self.wheel.len() > self.hints_max {
            let (dbs, away) = (&self.dbs, &self.away);
            self.wheel.sweep(SWEEP_LOOKS, |hint| {
                let stands_for_one = |db: &Db| {
                    let mut found = false;
                    if let Some(table) = db.table(hint.slot()) {
                        table.with_prefix(hint.hash(), HINT_HASH_BITS, |item: Item| {
                            found |= item.deadline_ms().is_some() || first_field_ms(item).is_some();
                        });
                    }
                    found
                };
                !away.contains(hint.slot()) && !dbs.iter().any(stands_for_one)
            });
        }
    }

    fn set_hints_max(&mut self) {
        let expires: usize = self.dbs.iter().map(|db| db.expires).sum();
        self.hints_max = 2 * expires + HINTS_SPARE_MAX;
    }

    /// An item with a deadline is hinted at in the wheel, so early that it is expired in time.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check_hint(&self, item: Item, hints: &std::collections::BTreeMap<Hint, u64>) {
        let slot = crate::Slot::of(item.key());
        let in_wheel = item.deadline_ms().is_none() || item.in_wheel();
        for deadline_ms in item.deadline_ms().into_iter().chain(first_field_ms(item)) {
            if !self.owned.contains(slot) {
                return;
            }
            assert!(in_wheel, "a deadline is hinted at");
            let hint = Hint::new(slot, crate::hash::hash_bytes(item.key()));
            let at_ms = hints.get(&hint).copied().unwrap_or(u64::MAX);
            let is_others = !self.holds_expired() && !self.may_end(item.key());
            let retry_ms = if is_others { OTHERS_RETRY_MS } else { 0 };
            let latest_ms = deadline_ms.max(self.now_ms).saturating_add(16 + retry_ms);
            assert!(at_ms <= latest_ms, "a hint at {at_ms} for {deadline_ms}");
        }
    }
}

/// The earliest deadline of a field, if the item is a hash that has such.
fn first_field_ms(item: Item) -> Option<u64> {
    match item.content() {
        Content::Collection(held) => held.boxed()?.first_deadline_ms(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{Key, Limits, Shard, Slot, Ttl};

    /// Those of somebody else's end when that one says so, or when they are this node's again.
    #[test]
    fn only_keys_that_may_end_do() {
        let mut shard = Shard::new(1, (0..16384).map(Slot), Limits::default(), 1000);
        for name in [&b"ours"[..], b"theirs"] {
            shard
                .edit()
                .put_string(&Key::new(0, name), b"v", Ttl::At(1500));
        }
        shard.set_ends(Some(Arc::new(|key: &[u8]| key == b"ours")));
        shard.set_now(2000);
        while shard.expire_due(100) {}
        shard.check();
        let is_held = |shard: &Shard| shard.count(0).keys;
        assert_eq!(is_held(&shard), 1);
        assert!(
            shard.peek(&Key::new(0, b"theirs")).is_none(),
            "nobody sees it"
        );
        shard.set_ends(None);
        shard.set_now(3100);
        while shard.expire_due(100) {}
        assert_eq!(is_held(&shard), 0);
        shard.check();
    }
}
