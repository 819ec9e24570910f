//! Slots on a visit: two shards that lend to each other are one big shard.

use proptest::prelude::*;
use storage::{Key, Rng, SLOTS, Shard, Slot, Ttl};

use crate::model::{Model, Op};
use crate::{DBS, START_MS, check, config, shard, shard_of};

/// Two shards with a slot each for even and odd, and the big one that they should equal.
struct Town {
    halves: [Shard; 2],
    /// Slots of the second half that are at the first.
    away: Vec<Slot>,
    big: Shard,
}

fn odd_slots() -> Vec<Slot> {
    (0..SLOTS)
        .filter(|slot| slot % 2 == 1)
        .map(|slot| Slot(slot as u16))
        .collect()
}

impl Town {
    fn new() -> Town {
        let half = |odd: usize| shard_of(move |slot| slot % 2 == odd);
        Town {
            halves: [half(0), half(1)],
            away: Vec::new(),
            big: shard(),
        }
    }

    fn visit(&mut self, slots: Vec<Slot>) {
        let [a, b] = &mut self.halves;
        a.borrow(b.lend(&slots));
        self.away.extend(slots);
    }

    fn go_home(&mut self) {
        let [a, b] = &mut self.halves;
        let slots = core::mem::take(&mut self.away);
        // In two parts, as two commands would.
        let (some, rest) = slots.split_at(slots.len() / 3);
        for part in [some, rest] {
            b.take_back(a.give_back(part));
        }
    }

    fn all_away(&self) -> bool {
        self.away.len() == SLOTS / 2
    }

    /// Where a slot is now.
    fn home_of(&mut self, slot: Slot) -> &mut Shard {
        let at_first = slot.index().is_multiple_of(2) || self.away.contains(&slot);
        &mut self.halves[usize::from(!at_first)]
    }

    fn set_now(&mut self, now_ms: u64) {
        for shard in self.halves.iter_mut().chain([&mut self.big]) {
            shard.set_now(now_ms);
            while shard.expire_due(5) {}
        }
    }

    /// Runs an operation on the big shard, and where its key is. Both models stay equal.
    fn run(&mut self, op: &Op, models: &mut [Model; 2]) {
        if op.kind == 21 {
            let now_ms = models[0].now_ms + op.time_jump_ms();
            models.iter_mut().for_each(|model| model.now_ms = now_ms);
            return self.set_now(now_ms);
        }
        if op.swaps().is_some() || op.flushes().is_some() {
            // Of whole databases: with all slots here, or on every core for its own.
            if !self.all_away() {
                self.go_home();
                op.run_on_databases(&mut self.halves[1]);
            }
            op.run_on_databases(&mut self.halves[0]);
            op.run_on_models_databases(&mut models[0]);
        } else {
            let place = op.place();
            if (6..8).contains(&op.kind) && !self.all_away() {
                return; // of two keys: they may be at two shards
            }
            let here = self.home_of(place.key().slot);
            op.run(here, &mut models[0]);
        }
        op.run(&mut self.big, &mut models[1]);
    }

    /// Visits put the wheel off: lets edits expire what it has not come to.
    fn expire_all(&mut self) {
        for place in Op::places() {
            let key = place.key();
            let _ = self.home_of(key.slot).edit().edit_list(&key);
            let _ = self.big.edit().edit_list(&key);
        }
    }

    fn compare(&mut self) {
        self.expire_all();
        let [a, b] = &self.halves;
        for db in 0..DBS {
            let (left, right, big) = (a.count(db), b.count(db), self.big.count(db));
            assert_eq!(left.keys + right.keys, big.keys, "keys of database {db}");
            assert_eq!(
                left.expires + right.expires,
                big.expires,
                "deadlines of database {db}"
            );
            let bytes = a.db_bytes(db) + b.db_bytes(db);
            assert_eq!(bytes, self.big.db_bytes(db), "bytes of database {db}");
        }
        assert_eq!(a.digest_all().and(b.digest_all()), self.big.digest_all());
        self.halves.iter().for_each(check);
        check(&self.big);
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn two_shards_that_lend_equal_one(
        rounds in prop::collection::vec((crate::ops(40), any::<u64>(), any::<bool>()), 1..6),
    ) {
        let mut town = Town::new();
        let mut models = [Model::new(), Model::new()];
        for (ops, seed, all) in rounds {
            let rng = &mut Rng::new(seed);
            let mut slots = odd_slots();
            if !all {
                slots.retain(|_| rng.index(2) == 0);
                // Those that hold the keys of the tests.
                slots.truncate(6_000);
            }
            let watched = watch_some(&mut town, rng);
            town.visit(slots);
            for op in &ops {
                town.run(op, &mut models);
            }
            town.compare();
            town.go_home();
            unwatch(&mut town, watched);
            town.compare();
        }
        // Whatever visited and came home with a deadline is found by its owner's wheel.
        let now_ms = models[0].now_ms + 100_000_000_000;
        town.set_now(now_ms);
        town.set_now(now_ms + 50);
        town.compare();
        for shard in &town.halves {
            prop_assert!((0..DBS).all(|db| shard.count(db).expires == 0));
        }
    }
}

/// Watches every key of the tests in one database, on its owner and on the big shard.
fn watch_some(town: &mut Town, rng: &mut Rng) -> Vec<(Key<'static>, u64, u64)> {
    let db = rng.index(usize::from(DBS)) as u8;
    let places = Op::places().filter(|place| place.db == db);
    let watched = places.map(|place| {
        let key = place.key();
        let mine = town.home_of(key.slot).watch(&key);
        (key, mine, town.big.watch(&key))
    });
    watched.collect()
}

fn unwatch(town: &mut Town, watched: Vec<(Key<'static>, u64, u64)>) {
    for (key, mine, big) in watched {
        let home = &mut town.halves[key.slot.index() % 2];
        let changed = home.watched_version(key.db, key.bytes) != Some(mine);
        home.unwatch(key.db, key.bytes);
        let big_changed = town.big.watched_version(key.db, key.bytes) != Some(big);
        town.big.unwatch(key.db, key.bytes);
        assert_eq!(
            changed, big_changed,
            "{:?} of database {}",
            key.bytes, key.db
        );
    }
}

/// Watched on its owner while the slot is elsewhere: nobody can say what happened there, so EXEC is told that
/// something did.
#[test]
fn a_key_watched_while_it_is_away_counts_as_changed() {
    let mut town = Town::new();
    let slots = odd_slots();
    let name = (0..100u8)
        .map(|i| [i])
        .find(|name| Slot::of(name).index() % 2 == 1)
        .unwrap();
    let key = Key::new(0, &name);
    town.visit(slots);
    let version = town.halves[1].watch(&key);
    town.go_home();
    assert_ne!(town.halves[1].watched_version(0, &name), Some(version));
}

/// The borrower emptied the database: what the visitors held was counted by their owners for ever.
#[test]
fn a_flush_on_a_visit_frees_what_the_owner_counted() {
    let mut town = Town::new();
    for i in 0..1000u32 {
        let name = i.to_le_bytes();
        let key = Key::new(1, &name);
        town.home_of(key.slot)
            .edit()
            .put_string(&key, &[b'v'; 700], Ttl::At(START_MS + 50));
    }
    let empty = Town::new().halves[1].used_bytes();
    town.visit(odd_slots());
    town.halves[0].edit().flush_all();
    town.go_home();
    let [a, b] = &mut town.halves;
    assert_eq!((a.db_bytes(1), b.db_bytes(1)), (0, 0));
    // (Each frees its own: what is thrown away goes home as well.)
    while a.free_garbage(100) {}
    while b.free_garbage(100) {}
    assert!(a.used_bytes() < empty + 50_000);
    assert!(b.used_bytes() < empty + 50_000);
    town.set_now(START_MS + 100);
    town.halves.iter().for_each(check);
}

/// Lost on the way (its core has died): the values are freed with the parcel.
#[test]
fn slots_that_never_arrive_are_freed() {
    let mut town = Town::new();
    for i in 0..500u32 {
        let name = i.to_le_bytes();
        let key = Key::new(0, &name);
        town.home_of(key.slot)
            .edit()
            .edit_set_or_new(&key)
            .unwrap()
            .add(b"member");
    }
    drop(town.halves[1].lend(&odd_slots()));
    assert!(town.halves[1].count(0).keys == 0);
    assert_eq!(town.halves[1].db_bytes(0), 0);
}
