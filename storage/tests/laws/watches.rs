//! WATCH as Redis has it: a key counts as changed when a command wrote it, or when it was there and
//! expired, was removed, or went with its database.

use storage::{Key, Shard, Ttl};

use crate::{START_MS, shard};

/// Whether a watcher of `k` in database 0 sees a change after `act`; `k` has a deadline at 10 ms if held.
fn sees(held: bool, act: impl FnOnce(&mut Shard)) -> bool {
    let mut shard = shard();
    let key = Key::new(0, b"k");
    if held {
        shard.edit().put_string(&key, b"v", Ttl::At(START_MS + 10));
    }
    let version = shard.watch(&key);
    act(&mut shard);
    shard.watched_version(0, b"k") != Some(version)
}

fn later(shard: &mut Shard) {
    shard.set_now(START_MS + 30);
}

#[test]
fn whatever_takes_a_key_that_was_there_is_a_change() {
    type Act = fn(&mut Shard);
    let key = Key::new(0, b"k");
    let acts: [(&str, Act); 7] = [
        ("remove", |shard| {
            shard.edit().remove(&Key::new(0, b"k"));
        }),
        ("expire by the wheel", |shard| {
            later(shard);
            while shard.expire_due(10) {}
        }),
        ("pass the deadline, not yet removed", later),
        ("flush the database", |shard| shard.edit().flush_db(0)),
        ("flush all", |shard| shard.edit().flush_all()),
        ("expire, then flush", |shard| {
            later(shard);
            shard.edit().flush_db(0);
        }),
        ("swap an empty database in", |shard| {
            shard.edit().swap_db(1, 0)
        }),
    ];
    for (what, act) in acts {
        assert!(sees(true, act), "{what}");
        assert!(!sees(false, act), "{what}, of a key that is not there");
    }
    assert!(!sees(true, |shard| shard.edit().flush_db(1)));
    assert!(!sees(true, |shard| shard.edit().swap_db(1, 2)));
    assert!(!sees(true, |shard| {
        shard
            .edit()
            .edit_set_or_new(&Key::new(0, b"other"))
            .unwrap()
            .add(b"m");
        shard.touch(&key);
    }));
}

/// The key was there before and not after, in the database that is watched: after the exchange it was
/// looked for only in its new place.
#[test]
fn a_swap_that_takes_or_brings_the_key_is_a_change() {
    assert!(sees(true, |shard| shard.edit().swap_db(0, 1)));
    assert!(sees(false, |shard| {
        shard
            .edit()
            .put_string(&Key::new(1, b"k"), b"v", Ttl::Clear);
        shard.edit().swap_db(0, 1);
    }));
    // What comes in has expired: nothing was there, nothing is.
    assert!(!sees(false, |shard| {
        shard
            .edit()
            .put_string(&Key::new(1, b"k"), b"v", Ttl::At(START_MS + 1));
        later(shard);
        shard.edit().swap_db(0, 1);
    }));
}

/// Held past its deadline when WATCH came: the client saw no key, and its removal is no news. EXEC failed
/// once the wheel came by.
#[test]
fn the_removal_of_a_key_that_had_expired_before_is_no_change() {
    let mut shard = shard();
    let key = Key::new(0, b"k");
    shard.edit().put_string(&key, b"v", Ttl::At(START_MS + 10));
    let first = shard.watch(&key);
    later(&mut shard);
    let second = shard.watch(&key);
    while shard.expire_due(10) {}
    let version = shard.watched_version(0, b"k");
    assert_eq!(version, Some(second));
    assert_ne!(version, Some(first), "who watched it alive is told");
    shard.unwatch(0, b"k");
    shard.unwatch(0, b"k");
    assert_eq!(shard.watched_version(0, b"k"), None);
}

#[test]
fn every_write_is_a_change_and_a_write_of_nothing_is_none() {
    let key = Key::new(0, b"k");
    assert!(sees(false, |shard| shard.edit().put_string(
        &key,
        b"v",
        Ttl::Clear
    )));
    assert!(sees(true, |shard| shard.edit().put_string(
        &key,
        b"v",
        Ttl::Keep
    )));
    assert!(sees(true, |shard| {
        shard.edit().expire_at(&key, START_MS + 99);
    }));
    assert!(sees(true, |shard| {
        shard.edit().persist(&key);
    }));
    assert!(sees(false, |shard| {
        shard.edit().edit_hash_or_new(&key).unwrap().set(b"f", b"v");
    }));
    assert!(!sees(false, |shard| {
        shard.edit().edit_hash_or_new(&key).unwrap().remove(b"f");
        shard.edit().edit_zset_or_new(&key).unwrap();
        shard.edit().remove(&key);
        shard.edit().persist(&key);
    }));
}
