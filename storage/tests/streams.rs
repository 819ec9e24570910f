//! Laws of streams in a shard, over random sessions: what is recorded gives the same data elsewhere, whole values survive
//! their encoding, and every byte is counted.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use storage::{Edit, Key, Limits, Shard, Slot, StreamEdit, StreamId, Trim, TrimTo, Ttl, decode};

const NOW_MS: u64 = 1_700_000_000_000;
const NAMES: [&[u8]; 3] = [b"alice", b"bob", b""];

fn shard() -> Shard {
    let limits = Limits {
        stream_node_max_entries: 5,
        ..Limits::default()
    };
    Shard::new(1, (0..16384).map(Slot), limits, NOW_MS)
}

fn check(shard: &Shard) {
    let _ = shard;
    #[cfg(feature = "testing")]
    shard.check();
}

/// One random change within a session.
fn change(stream: &mut StreamEdit<'_>, kind: u8, n: u64) {
    let name = |n: u64| NAMES[n as usize % NAMES.len()];
    let (group, consumer, id) = (name(n), name(n / 3), StreamId::new(n / 9 % 40, 0));
    let value = vec![b'v'; n as usize % 50];
    let words = [&b"field"[..], &value, name(n), b"7"];
    let words = &words[..if n.is_multiple_of(2) { 2 } else { 4 }];
    match kind {
        0..=9 => {
            let id = StreamId::new(stream.last_id().ms + n % 3, stream.last_id().seq + 1);
            assert!(stream.add(id, words.iter().copied()));
            assert!(!stream.add(id, words.iter().copied()), "not above the last");
        }
        10 => {
            stream.remove(id);
        }
        11 => {
            let (to, whole_nodes) = (TrimTo::Len(n % 60), n.is_multiple_of(2));
            let trim = Trim {
                to,
                whole_nodes,
                limit: n % 20,
            };
            let (len, trimmed) = (stream.len() as u64, stream.trimmed(&trim));
            assert_eq!(stream.trim(&trim), trimmed.map_or(0, |(_, count)| count));
            assert!(whole_nodes || !n.is_multiple_of(20) || stream.len() as u64 == len.min(n % 60));
        }
        12 => stream.make(),
        13 => stream.put_group(group, id, (n > 100).then_some(n)),
        14 => {
            stream.put_consumer(group, consumer, NOW_MS, Some(n));
        }
        15..=18 => {
            stream.put_pending(group, consumer, id, n, n % 5);
        }
        19 => {
            stream.remove_pending(group, id);
        }
        20 if n.is_multiple_of(4) => {
            stream.remove_consumer(group, consumer);
        }
        21 if n.is_multiple_of(4) => {
            stream.remove_group(group);
        }
        22 => {
            // Lower ids than those of removed entries come again.
            let entry = stream.last_entry_id().unwrap_or(id);
            let last = if n.is_multiple_of(5) {
                entry
            } else {
                stream.last_id()
            };
            stream.set_ids(last, n, id.min(stream.max_deleted_id()));
        }
        _ => stream.see_consumer(group, consumer, NOW_MS + n),
    }
}

fn mirror_effects(shard: &mut Shard, mirror: &mut Shard) {
    let effects = shard.effects().take();
    let mut rest = &effects[..];
    while !rest.is_empty() {
        let (db, effect, after) = decode(rest).unwrap();
        mirror.apply(db, &effect).unwrap();
        rest = after;
    }
}

/// Copies a value as COPY does, by its bytes.
fn copy(edit: &mut Edit<'_>, from: &Key<'_>, to: &Key<'_>, limits: &Limits) {
    let Some((value, _)) = edit.clone_value(from) else {
        return;
    };
    let mut bytes = Vec::new();
    storage::write_value(&value, &mut bytes);
    let read = storage::read_value(&bytes, limits).unwrap();
    assert_eq!(read, value);
    edit.put_value(to, read, Ttl::Clear);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn effects_give_the_same_streams(
        sessions in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0u8..24, 0u64..400), 0..40)), 1..12),
    ) {
        let (mut shard, mut mirror) = (shard(), shard());
        let limits = shard.limits().clone();
        shard.effects().set_recording(true);
        let keys = [Key::new(0, b"s"), Key::new(0, b"{s}t")];
        for (which, changes) in sessions {
            let key = keys[usize::from(which)];
            let mut edit = shard.edit();
            let mut stream = edit.edit_stream_or_new(&key).unwrap();
            for (kind, n) in changes {
                change(&mut stream, kind, n);
            }
            let vacant = stream.is_vacant();
            drop(stream);
            prop_assert_eq!(edit.exists(&key), !vacant);
            mirror_effects(&mut shard, &mut mirror);
            prop_assert!(shard.digest_all() == mirror.digest_all());
            check(&shard);
            check(&mirror);
        }
        copy(&mut shard.edit(), &keys[0], &keys[1], &limits);
        mirror_effects(&mut shard, &mut mirror);
        prop_assert!(shard.digest_all() == mirror.digest_all());
        prop_assert!(keys.iter().all(|key| shard.is_sound(key)));
        check(&shard);
        shard.edit().flush_all();
        while shard.free_garbage(7) {}
        prop_assert!(shard.used_bytes() < 64 << 10, "{} bytes", shard.used_bytes());
    }
}

#[test]
fn what_is_done_to_groups_is_not_told() {
    let mut shard = shard();
    let key = Key::new(0, b"s");
    let id = StreamId::new(1, 1);
    let mut edit = shard.edit();
    edit.edit_stream_or_new(&key).unwrap().make();
    shard.follow(&key);
    let mut told = |quiet: &dyn Fn(&mut StreamEdit<'_>)| {
        let changes = shard.changes();
        let mut edit = shard.edit();
        quiet(&mut edit.edit_stream(&key).unwrap().unwrap());
        (!shard.take_touched().is_empty(), shard.changes() > changes)
    };
    assert_eq!(
        told(&|s| {
            s.add(id, [&b"f"[..], b"v"].into_iter());
        }),
        (true, true)
    );
    assert_eq!(told(&|s| s.put_group(b"g", id, None)), (false, true));
    assert_eq!(
        told(&|s| {
            s.put_consumer(b"g", b"c", 1, None);
        }),
        (false, true)
    );
    assert_eq!(
        told(&|s| {
            s.put_pending(b"g", b"c", id, 1, 1);
        }),
        (false, true)
    );
    assert_eq!(told(&|s| s.see_consumer(b"g", b"c", 5)), (false, false));
    assert_eq!(
        told(&|s| {
            s.remove_pending(b"g", id);
        }),
        (false, true)
    );
    assert_eq!(told(&|s| s.set_ids(id, 5, id)), (false, true));
    assert_eq!(
        told(&|s| {
            s.remove_group(b"g");
        }),
        (true, true)
    );
    assert_eq!(
        told(&|s| {
            s.remove(id);
        }),
        (true, true)
    );
    assert!(shard.contains(&key), "an empty stream stays");
}

#[test]
fn a_large_group_is_freed_in_slices() {
    let mut shard = shard();
    let key = Key::new(0, b"s");
    let mut edit = shard.edit();
    let mut stream = edit.edit_stream_or_new(&key).unwrap();
    stream.make();
    for group in NAMES {
        stream.put_group(group, StreamId::MIN, None);
        stream.put_consumer(group, b"c", 1, None);
        for n in 0..1000 {
            stream.put_pending(group, b"c", StreamId::new(n, 0), 1, 1);
        }
    }
    stream.remove_group(NAMES[0]);
    drop(stream);
    assert!(shard.has_garbage());
    shard.edit().remove(&key);
    check(&shard);
    let mut steps = 1;
    while shard.free_garbage(100) {
        steps += 1;
    }
    assert!(steps > 20, "{steps}");
    assert_eq!(shard.db_bytes(0), 0);
}
