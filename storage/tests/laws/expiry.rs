//! Expiry by the wheel: everything within two ticks, nothing early.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage::{Key, Rng, Shard, Ttl};

use crate::{START_MS, check, config, shard};

/// Two ticks of the wheel.
const LATE_MS_MAX: u64 = 16;

/// Some step of the clock, ms: mostly short.
fn step_ms(rng: &mut Rng) -> u64 {
    match rng.index(40) {
        0 => rng.below(40_000),
        1 => rng.below(3_000_000),
        _ => 1 + rng.below(300),
    }
}

fn delay_ms(rng: &mut Rng) -> u64 {
    let span = rng.index(5);
    1 + rng.below([30, 3_000, 100_000, 2_000_000, 200_000_000][span])
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn every_key_goes_within_two_ticks_and_none_early(seed in any::<u64>()) {
        let rng = &mut Rng::new(seed);
        let mut shard = shard();
        let mut deadlines = BTreeMap::<u8, u64>::new();
        let mut now = START_MS;
        for _ in 0..400 {
            let name = [rng.next_u64() as u8 % 64];
            let key = Key::new(0, &name);
            match rng.index(6) {
                0..3 => {
                    let at_ms = now + delay_ms(rng);
                    shard.edit().put_string(&key, b"v", Ttl::At(at_ms));
                    deadlines.insert(name[0], at_ms);
                }
                3 => {
                    let at_ms = now + delay_ms(rng);
                    if shard.edit().expire_at(&key, at_ms) {
                        deadlines.insert(name[0], at_ms);
                    }
                }
                4 => {
                    shard.edit().remove(&key);
                    deadlines.remove(&name[0]);
                }
                _ => {
                    now += step_ms(rng);
                    shard.set_now(now);
                    while shard.expire_due(1 + rng.index(20)) {}
                }
            }
            let held = shard.count(0).keys;
            deadlines.retain(|_, at_ms| *at_ms + LATE_MS_MAX > now);
            prop_assert!(held <= deadlines.len(), "late");
            let live = deadlines.values().filter(|at_ms| **at_ms > now).count();
            prop_assert!(held >= live, "early");
        }
        check(&shard);
        // A clock that only moves when it is told to finds every one of them.
        while let Some(next_ms) = shard.next_expiry_ms() {
            now = next_ms.max(now + 1);
            shard.set_now(now);
            shard.expire_due(100);
            deadlines.retain(|_, at_ms| *at_ms + LATE_MS_MAX > now);
            prop_assert!(shard.count(0).keys <= deadlines.len(), "late");
        }
        prop_assert_eq!(shard.count(0), Default::default());
    }
}

fn expire_all(shard: &mut Shard) {
    while shard.expire_due(1000) {}
}

/// A hint used to name its database, and the databases had changed places on another core: the key of a
/// slot that came home from there was never found by the wheel.
#[test]
fn the_same_name_in_several_databases_expires_in_each() {
    let mut shard = shard();
    for db in 0..3 {
        let at_ms = START_MS + 100 * (u64::from(db) + 1);
        shard
            .edit()
            .put_string(&Key::new(db, b"k"), b"v", Ttl::At(at_ms));
    }
    shard.edit().swap_db(0, 2);
    shard.edit().swap_db(1, 2);
    for (now, left) in [(99, 3), (116, 2), (199, 2), (216, 1), (299, 1), (316, 0)] {
        shard.set_now(START_MS + now);
        expire_all(&mut shard);
        let held: usize = (0..3).map(|db| shard.count(db).keys).sum();
        assert_eq!(held, left, "after {now} ms");
        check(&shard);
    }
}

/// A lock is taken with a deadline of an hour and released at once, a million times an hour: each left 8
/// bytes in the wheel until its hour was over.
#[test]
fn hints_of_removed_keys_do_not_pile_up() {
    let mut shard = shard();
    for i in 0..150_000u64 {
        let name = i.to_le_bytes();
        let key = Key::new(0, &name);
        shard
            .edit()
            .put_string(&key, b"lock", Ttl::At(START_MS + 3_600_000 + i));
        shard.edit().remove(&key);
    }
    assert!(
        shard.used_bytes() < 1_200_000,
        "{} bytes",
        shard.used_bytes()
    );
    // Deadlines that go to and fro leave hints of keys that live.
    for i in 0..150_000u64 {
        let at_ms = START_MS + if i % 2 == 0 { 3_600_000 } else { 7_200_000 };
        shard
            .edit()
            .put_string(&Key::new(0, b"k"), b"v", Ttl::At(at_ms));
    }
    assert!(
        shard.used_bytes() < 1_200_000,
        "{} bytes",
        shard.used_bytes()
    );
    check(&shard);
}

/// The machine slept for a year: the wheel walked its 4 billion ticks one by one.
#[test]
fn a_clock_that_jumps_costs_no_walk() {
    let mut shard = shard();
    let year_ms = 366 * 86_400_000;
    shard
        .edit()
        .put_string(&Key::new(0, b"soon"), b"v", Ttl::At(START_MS + 10));
    shard.edit().put_string(
        &Key::new(0, b"far"),
        b"v",
        Ttl::At(START_MS + 100 * year_ms),
    );
    shard.set_now(START_MS + 30 * year_ms);
    expire_all(&mut shard);
    assert_eq!(shard.count(0).keys, 1);
    shard.set_now(START_MS + 100 * year_ms + LATE_MS_MAX);
    expire_all(&mut shard);
    assert_eq!(shard.count(0).keys, 0);
}
