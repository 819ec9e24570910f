//! Laws of a shard, held against a plain model over random sequences of edits. `--features testing`
//! walks the shards after each.
#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod effects;
mod expiry;
mod model;
mod scan;
mod undo;
mod visits;
mod watches;

use model::{Model, Op};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use storage::{Limits, SLOTS, Shard, Slot};

/// The time at which tests begin, unix ms.
const START_MS: u64 = 1_700_000_000_000;
/// Databases of the shards under test.
const DBS: u8 = 3;

/// Compact forms so small that random collections outgrow them.
fn limits() -> Limits {
    Limits {
        list_max_listpack_size: 6,
        hash_max_listpack_entries: 5,
        set_max_intset_entries: 4,
        set_max_listpack_entries: 6,
        zset_max_listpack_entries: 5,
        ..Limits::default()
    }
}

fn shard() -> Shard {
    shard_of(|_| true)
}

fn shard_of(owned: impl Fn(usize) -> bool) -> Shard {
    let slots = (0..SLOTS).filter(|slot| owned(*slot));
    let slots = slots.map(|slot| Slot(slot as u16));
    Shard::new(usize::from(DBS), slots, limits(), START_MS)
}

/// Walks a shard, when the build can.
fn check(shard: &Shard) {
    let _ = shard;
    #[cfg(feature = "testing")]
    shard.check();
}

/// The same cases every time.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(42),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A sequence of edits, up to `len`.
fn ops(len: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(any::<Op>(), 1..len)
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_shard_behaves_as_maps(ops in ops(250)) {
        let mut shard = shard();
        let mut model = Model::new();
        for op in &ops {
            op.run(&mut shard, &mut model);
        }
        check(&shard);
        model.compare(&shard);
        for db in 0..DBS {
            shard.edit().flush_db(db);
            prop_assert_eq!(shard.db_bytes(db), 0);
        }
        while shard.free_garbage(7) {}
        let wheel = shard.used_bytes();
        prop_assert!(wheel < 64 << 10, "{} bytes are not freed", wheel);
        check(&shard);
    }

    #[test]
    fn the_digest_knows_neither_order_nor_encoding(ops in ops(120)) {
        let mut shard = shard();
        let mut model = Model::new();
        for op in &ops {
            op.run(&mut shard, &mut model);
        }
        // The same data, written in another order, in the encodings of other limits.
        let slots = (0..SLOTS).map(|slot| Slot(slot as u16));
        let mut other = Shard::new(usize::from(DBS), slots, Limits::default(), shard.now_ms());
        model.write_backwards(&mut other);
        prop_assert_eq!(shard.digest_all(), other.digest_all());
        // And it tells data apart.
        if let Some(key) = model.some_key() {
            let key = key.key();
            other.edit().remove(&key);
            prop_assert_ne!(shard.digest_all(), other.digest_all());
        }
    }

    #[test]
    fn whole_values_survive_their_encoding(ops in ops(120)) {
        let mut shard = shard();
        let mut model = Model::new();
        for op in &ops {
            op.run(&mut shard, &mut model);
        }
        for place in model.places() {
            let key = place.key();
            let Some((value, _)) = shard.edit().clone_value(&key) else { continue };
            let mut bytes = Vec::new();
            storage::write_value(&value, &mut bytes);
            let read = storage::read_value(&bytes, shard.limits());
            prop_assert_eq!(read.map(|read| model::plain_owned(&read)), Ok(model::plain_owned(&value)));
        }
    }
}
