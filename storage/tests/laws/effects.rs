//! The law of effects: execute on A, apply A's effects on B, and both have one digest.

use proptest::prelude::*;
use storage::{Digest, Key, Shard, Side, Ttl, decode};

use crate::model::Model;
use crate::{START_MS, check, config, ops, shard};

/// Applies all that `from` recorded.
fn replay(from: &mut Shard, to: &mut Shard) {
    let record = from.effects().take();
    let mut rest = &record[..];
    while !rest.is_empty() {
        let (db, effect, after) = decode(rest).expect("what was recorded is read");
        to.apply(db, &effect).expect("what was recorded applies");
        rest = after;
    }
}

/// Two shards; the first records.
fn pair() -> (Shard, Shard) {
    let mut a = shard();
    a.effects().set_recording(true);
    (a, shard())
}

fn digests(a: &mut Shard, b: &mut Shard, now_ms: u64) -> (Digest, Digest) {
    b.set_now(now_ms);
    (a.digest_all(), b.digest_all())
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn applying_effects_gives_the_same_digest(ops in ops(200), late in prop_oneof![Just(0), Just(u64::MAX >> 2)]) {
        let (mut a, mut b) = pair();
        let mut model = Model::new();
        for chunk in ops.chunks(25) {
            chunk.iter().for_each(|op| op.run(&mut a, &mut model));
            // Replay after a restart reads the log on a clock that is far ahead.
            b.set_now(model.now_ms + late);
            replay(&mut a, &mut b);
            let (left, right) = digests(&mut a, &mut b, model.now_ms);
            prop_assert_eq!(left, right);
            for db in 0..crate::DBS {
                prop_assert_eq!(a.count(db), b.count(db), "what A holds B holds");
            }
        }
        model.compare(&b);
        check(&a);
        // B has noted every deadline: when it leads, all of them come.
        check(&b);
    }
}

/// A log is read after the deadlines in it have passed. The key was there when the later writes were
/// made, and lived on by PERSIST: a replay that asked its own clock removed it at EXPIRE and built a hash of
/// the last field alone.
#[test]
fn replay_after_a_deadline_keeps_what_was_kept() {
    let (mut a, mut b) = pair();
    let key = Key::new(0, b"session");
    a.edit().edit_hash_or_new(&key).unwrap().set(b"user", b"1");
    a.edit().expire_at(&key, START_MS + 5_000);
    a.edit().edit_hash_or_new(&key).unwrap().set(b"cart", b"2");
    a.edit().persist(&key);
    let string = Key::new(0, b"text");
    a.edit().put_string(&string, b"abc", Ttl::At(START_MS + 10));
    a.edit().write_string(&string, 3, b"def").unwrap();
    a.edit().put_string(&string, b"ghi", Ttl::Keep);
    b.set_now(START_MS + 3_600_000);
    replay(&mut a, &mut b);
    let (left, right) = digests(&mut a, &mut b, START_MS);
    assert_eq!(left, right);
    assert_eq!(b.hash(&key).unwrap().unwrap().len(), 2);
}

/// A write to a key that is held past its deadline records the expiry too. PutString of an owned string and
/// PutValue recorded themselves first, so that the receiver wrote the value and then expired it.
#[test]
fn the_expiry_of_the_old_value_is_recorded_before_the_new_one() {
    for write in 0..2 {
        let (mut a, mut b) = pair();
        let key = Key::new(0, b"k");
        a.edit().put_string(&key, b"old", Ttl::At(START_MS + 1));
        a.set_now(START_MS + 2);
        if write == 0 {
            a.edit().put_owned(&key, vec![b'v'; 1000], Ttl::Clear);
        } else {
            let mut list = storage::List::new();
            list.push(Side::Left, b"e", &crate::limits());
            let value = storage::OwnedValue::List(Box::new(list));
            a.edit().put_value(&key, value, Ttl::Clear);
        }
        replay(&mut a, &mut b);
        let (left, right) = digests(&mut a, &mut b, START_MS + 2);
        assert_eq!(left, right);
        assert!(b.contains(&key));
    }
}

/// SETRANGE at the far end makes a record of a few bytes and a string of 512 MB. The gap must cost neither
/// time nor memory that is touched: on A, and on whoever applies hundreds of such records.
#[test]
fn a_gap_is_made_of_untouched_zeroes() {
    let (mut a, mut b) = pair();
    let far = (512 << 20) - 1;
    for i in 0..4u8 {
        let name = [i];
        a.edit()
            .write_string(&Key::new(0, &name), far, b"x")
            .unwrap();
        a.edit().write_string(&Key::new(0, &name), 1, b"y").unwrap();
    }
    replay(&mut a, &mut b);
    assert_eq!(b.text(&Key::new(0, &[3])).unwrap().unwrap().len(), far + 1);
    check(&b);
}

/// With a higher `proto-max-bulk-len` strings may be longer than 512 MB: what was logged of one is read back, also once the
/// option is lower again, unless its gap alone is beyond that.
#[test]
fn strings_beyond_512_mb_are_replayed() {
    let (mut a, mut b) = pair();
    let (key, far) = (Key::new(0, b"k"), (512 << 20) + 7);
    a.edit().write_string(&key, 512 << 20, b"the end").unwrap();
    replay(&mut a, &mut b);
    a.edit().write_string(&key, far, b"and more").unwrap();
    replay(&mut a, &mut b);
    assert_eq!(b.text(&key).unwrap().unwrap().len(), far + 8);
    let other = Key::new(0, b"o");
    a.edit().write_string(&other, far, b"x").unwrap();
    let record = a.effects().take();
    let (_, effect, _) = storage::decode(&record).unwrap();
    assert_eq!(b.apply(0, &effect), Err(storage::Corrupt));
    b.set_limits(storage::Limits {
        string_bytes_max: 600 << 20,
        ..storage::Limits::default()
    });
    b.apply(0, &effect).unwrap();
    assert_eq!(b.text(&other).unwrap().unwrap().len(), far + 1);
}

#[test]
fn an_effect_that_does_not_fit_changes_nothing() {
    use storage::Effect::*;
    let (mut a, mut b) = pair();
    a.edit()
        .edit_list_or_new(&Key::new(0, b"list"))
        .unwrap()
        .push(Side::Left, b"e");
    a.edit()
        .put_string(&Key::new(0, b"text"), b"abc", Ttl::Clear);
    replay(&mut a, &mut b);
    let before = b.digest_all();
    let (list, text, none) = (b"list", b"text", b"none");
    let bad = [
        (9, FlushDb),
        (0, SwapDb { with: 200 }),
        (
            0,
            WriteString {
                key: text,
                offset: u64::MAX,
                bytes: b"x",
            },
        ),
        (
            0,
            WriteString {
                key: list,
                offset: 0,
                bytes: b"x",
            },
        ),
        (
            0,
            PutValue {
                key: text,
                value: &[4, 2, 1, b'a', 1, b'a'],
                ttl: Ttl::Clear,
            },
        ),
        (
            0,
            ListPush {
                key: text,
                side: Side::Left,
                value: b"",
            },
        ),
        (
            0,
            ListPop {
                key: none,
                side: Side::Left,
            },
        ),
        (
            0,
            ListSet {
                key: list,
                index: 1,
                value: b"",
            },
        ),
        (
            0,
            ListInsert {
                key: list,
                index: u64::MAX,
                value: b"",
            },
        ),
        (
            0,
            ListRemove {
                key: list,
                index: 5,
            },
        ),
        (
            0,
            ListTrim {
                key: list,
                start: 1,
                end: 0,
            },
        ),
        (
            0,
            ListTrim {
                key: list,
                start: 0,
                end: 2,
            },
        ),
        (
            0,
            HashSet {
                key: list,
                field: b"",
                value: b"",
            },
        ),
        (
            0,
            ZsetRemove {
                key: none,
                member: b"",
            },
        ),
    ];
    for (db, effect) in &bad {
        assert!(b.apply(*db, effect).is_err(), "{effect:?}");
    }
    assert_eq!(b.digest_all(), before);
    check(&b);
    // A record of a slot that another core owns is in the wrong log.
    let mut half = crate::shard_of(|slot| slot % 2 == 0);
    let applied = (0..50u8).filter(|i| {
        let put = PutInt {
            key: &[*i],
            value: 1,
            ttl: Ttl::Clear,
        };
        half.apply(0, &put).is_ok()
    });
    assert!((1..50).contains(&applied.count()));
    check(&half);
}
