//! What a script has changed is taken back whole: values, deadlines, counts, effects, events, versions of watched keys.
#![allow(
    dropping_copy_types,
    reason = "what a change answers does not matter here"
)]

use storage::{
    Edit, EventClass, Key, Limits, OwnedValue, Rng, Shard, Side, Slot, StreamId, Trim, TrimTo, Ttl,
};

const NAMES: [&[u8]; 6] = [b"a", b"b", b"c{t}", b"d{t}", b"long:name:of:a:key", b"e"];

fn shard() -> Shard {
    let limits = Limits {
        stream_node_max_entries: 5,
        ..Limits::default()
    };
    Shard::new(2, (0..16384).map(Slot), limits, 1_000_000)
}

/// A word, sometimes a long one.
fn word(rng: &mut Rng) -> Vec<u8> {
    let len = [1, 3, 20, 70, 600][rng.index(5)];
    let byte = b'a' + rng.index(4) as u8;
    (0..len).map(|n| byte + (n % 3) as u8).collect()
}

fn change(shard: &mut Shard, rng: &mut Rng) {
    let key = |rng: &mut Rng| Key::new(rng.index(2) as u8, NAMES[rng.index(NAMES.len())]);
    let (key, other, value) = (key(rng), key(rng), word(rng));
    let many = [1, 1, 5, 300][rng.index(4)];
    let index = rng.index(400);
    let mut edit = shard.edit();
    let ttl = [
        Ttl::Clear,
        Ttl::Keep,
        Ttl::At(1_000_000 + rng.index(5000) as u64),
    ][rng.index(3)];
    match rng.index(30) {
        0 => edit.put_string(&key, &value, ttl),
        1 => edit.put_int(&key, rng.index(1000) as i64, ttl),
        2 => edit.put_owned(&key, vec![b'x'; many * 40], ttl),
        3 => drop(edit.write_string(&key, index * 20, &value)),
        4 => {
            let _ = edit.remove(&key);
        }
        5 => {
            let _ = edit.expire_at(&key, 1_000_000 + rng.index(9000) as u64);
        }
        6 => {
            let _ = edit.persist(&key);
        }
        7 | 8 => {
            let _ = edit.relocate(&key, &other);
        }
        9 => {
            if let Some((value, _)) = edit.clone_value(&key) {
                edit.put_value(&other, value, ttl);
            }
        }
        10 => edit.put_value(&key, OwnedValue::Raw(value), ttl),
        11 if rng.index(4) == 0 => edit.flush_db(key.db),
        12 if rng.index(4) == 0 => edit.swap_db(0, 1),
        13 => edit.write_nothing(&key),
        14 | 15 => {
            if let Ok(mut list) = edit.edit_list_or_new(&key) {
                for n in 0..many {
                    let side = [Side::Left, Side::Right][(n + index) % 2];
                    list.push(side, &value);
                }
            }
        }
        16 | 17 => {
            if let Ok(Some(mut list)) = edit.edit_list(&key) {
                match index % 6 {
                    0 => drop(list.pop(Side::Left)),
                    1 => (0..many).for_each(|_| drop(list.drop_end(Side::Right))),
                    2 => drop(list.set(index, &value)),
                    3 => list.insert(index, &value),
                    4 => drop(list.remove(index)),
                    _ => list.trim(index / 4, index),
                }
            }
        }
        18 => {
            if let Ok(mut hash) = edit.edit_hash_or_new(&key) {
                (0..many).for_each(|n| drop(hash.set(n.to_string().as_bytes(), &value)));
            }
        }
        19 => {
            if let Ok(Some(mut hash)) = edit.edit_hash(&key) {
                (0..many).for_each(|n| drop(hash.remove(n.to_string().as_bytes())));
            }
        }
        20 => {
            if let Ok(mut set) = edit.edit_set_or_new(&key) {
                (0..many).for_each(|n| drop(set.add((n * index).to_string().as_bytes())));
                if index.is_multiple_of(3) {
                    set.add(&value);
                }
            }
        }
        21 => {
            if let Ok(Some(mut set)) = edit.edit_set(&key) {
                // All of them, and perhaps some again: it was empty in between.
                let members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
                members.iter().for_each(|member| drop(set.remove(member)));
                if index.is_multiple_of(2) {
                    members
                        .iter()
                        .take(3)
                        .for_each(|member| drop(set.add(member)));
                }
            }
        }
        22 => {
            if let Ok(mut zset) = edit.edit_zset_or_new(&key) {
                for n in 0..many {
                    zset.add(n.to_string().as_bytes(), (index + n) as f64);
                }
            }
        }
        23..=26 => change_stream(&mut edit, &key, rng),
        27 | 28 => change_deadlines(&mut edit, &key, many, index as u64),
        _ => {
            if let Ok(Some(mut zset)) = edit.edit_zset(&key) {
                (0..many).for_each(|n| drop(zset.remove(n.to_string().as_bytes())));
            }
        }
    }
    shard.edit().event(EventClass::Generic, "changed", &key);
}

fn change_deadlines(edit: &mut Edit<'_>, key: &Key<'_>, many: usize, index: u64) {
    let Ok(Some(mut hash)) = edit.edit_hash(key) else {
        return;
    };
    for n in 0..many as u64 {
        let field = n.to_string();
        match (index + n) % 5 {
            0 => drop(hash.persist(field.as_bytes())),
            1 => drop(hash.set_keeping(field.as_bytes(), b"kept")),
            _ => drop(hash.expire_at(field.as_bytes(), 2_000_000 + (index * n) % 50)),
        }
    }
}

/// Several changes of one stream, whose nodes are small.
fn change_stream(edit: &mut Edit<'_>, key: &Key<'_>, rng: &mut Rng) {
    let Ok(mut stream) = edit.edit_stream_or_new(key) else {
        return;
    };
    for _ in 0..1 + rng.index(60) {
        let group = [&b"g"[..], b"h"][rng.index(2)];
        let consumer = [&b"alice"[..], b"bob", b""][rng.index(3)];
        let last = stream.last_id();
        let id = StreamId::new(rng.index(40) as u64, rng.index(3) as u64);
        let n = rng.index(1000) as u64;
        match rng.index(20) {
            0..=8 => {
                let value = word(rng);
                let words = [&b"field"[..], &value, b"f", b"7"];
                let words = words[..[2, 4][rng.index(2)]].iter().copied();
                let id = StreamId::new(last.ms + rng.index(2) as u64, last.seq + 1);
                assert!(stream.add(id, words));
            }
            9 | 10 => drop(stream.remove(id)),
            11 => {
                let to = [TrimTo::Len(n % 60), TrimTo::Id(id)][rng.index(2)];
                let whole_nodes = rng.index(2) == 0;
                drop(stream.trim(&Trim {
                    to,
                    whole_nodes,
                    limit: n % 3 * 10,
                }));
            }
            12 => stream.put_group(group, id, (n > 100).then_some(n)),
            13 => drop(stream.put_consumer(group, consumer, n, (n > 100).then_some(n))),
            14 | 15 => drop(stream.put_pending(group, consumer, id, n, n % 5)),
            16 => drop(stream.remove_pending(group, id)),
            17 if n < 300 => drop(stream.remove_consumer(group, consumer)),
            18 if n < 300 => drop(stream.remove_group(group)),
            19 => {
                let last = [last, stream.last_entry_id().unwrap_or(last)][rng.index(2)];
                stream.set_ids(last, n, id);
            }
            _ => stream.see_consumer(group, consumer, n),
        }
    }
    stream.make();
}

/// All of a value that digests leave out: its form, when consumers were seen, what trimming goes by.
fn form(shard: &mut Shard, key: &Key<'_>) -> String {
    let mut form = format!("{:?}", shard.info(key).map(|info| info.encoding));
    if let Ok(Some(stream)) = shard.edit().stream(key) {
        form += &format!("{} nodes", stream.node_count());
        for group in stream.groups() {
            let seen = group.consumers().map(|consumer| consumer.seen_ms);
            form += &format!("{:?}", seen.collect::<Vec<_>>());
        }
        for len in 0..stream.len() as u64 {
            let to = TrimTo::Len(len);
            let trim = Trim {
                to,
                whole_nodes: true,
                limit: 0,
            };
            form += &format!("{:?}", stream.trimmed(&trim));
        }
    }
    form
}

/// Everything that a rollback must leave as it was.
fn picture(shard: &mut Shard) -> impl PartialEq + core::fmt::Debug + use<> {
    let keys = NAMES
        .iter()
        .flat_map(|name| [0, 1].map(|db| Key::new(db, name)));
    let infos: Vec<_> = keys
        .map(|key| {
            let info = shard.info(&key);
            let shown = info.map(|info| (info.type_name, info.deadline_ms, info.len));
            (
                shown,
                form(shard, &key),
                shard.watched_version(key.db, key.bytes),
            )
        })
        .collect();
    let counts = [0, 1].map(|db| shard.count(db));
    let state = (shard.changes(), shard.expired(), shard.effects().count());
    (infos, counts, state, shard.digest_all().0)
}

#[test]
fn a_rollback_leaves_no_trace_law() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut shard = shard();
        shard.effects().set_recording(true);
        shard.set_events(u16::MAX);
        for name in NAMES {
            shard.watch(&Key::new(0, name));
        }
        for round in 0..6 {
            (0..rng.index(12)).for_each(|_| change(&mut shard, &mut rng));
            // Some deadlines have passed and nobody has looked.
            shard.set_now(1_000_000 + round * 700);
            let before = picture(&mut shard);
            let events = shard.take_events();
            shard.begin_undo();
            (0..1 + rng.index(20)).for_each(|_| change(&mut shard, &mut rng));
            shard.roll_back();
            assert_eq!(picture(&mut shard), before, "seed {seed}, round {round}");
            assert!(shard.take_events().is_empty());
            drop(events);
            assert_eq!(shard.undo_bytes(), 0, "nothing is kept");
            crate::check(&shard);
            // The same changes, kept.
            shard.begin_undo();
            (0..1 + rng.index(8)).for_each(|_| change(&mut shard, &mut rng));
            shard.end_undo();
            crate::check(&shard);
            while shard.free_garbage(1000) {}
        }
    }
}

#[test]
fn a_large_value_is_not_copied() {
    let key = Key::new(0, b"k");
    let to = Key::new(0, b"to");
    let mut shard = shard();
    {
        let mut edit = shard.edit();
        let mut list = edit.edit_list_or_new(&key).unwrap();
        (0..200_000).for_each(|_| list.push(Side::Right, b"element"));
    }
    let before = shard.digest_all();
    for _ in 0..2000 {
        shard.begin_undo();
        shard.edit().relocate(&key, &to);
        let mut edit = shard.edit();
        let mut list = edit.edit_list(&to).unwrap().unwrap();
        list.push(Side::Left, b"x");
        drop(list);
        shard.edit().remove(&to);
        shard.roll_back();
    }
    assert!(shard.digest_all() == before);
    crate::check(&shard);
}

/// What a script does to a stream must not cost what the stream weighs: a queue in a stream is written by scripts, one entry
/// at a time.
#[test]
fn what_is_kept_of_a_stream_does_not_grow_with_it() {
    let kept = |entries: u64| {
        let key = Key::new(0, b"k");
        let mut shard = Shard::new(1, (0..16384).map(Slot), Limits::default(), 1_000_000);
        let id = |n| StreamId::new(n, 0);
        let words = || [&b"field"[..], b"value"].into_iter();
        let mut edit = shard.edit();
        let mut stream = edit.edit_stream_or_new(&key).unwrap();
        for n in 1..=entries {
            assert!(stream.add(id(n), words()));
        }
        stream.put_group(b"g", StreamId::MIN, None);
        stream.put_consumer(b"g", b"c", 1, None);
        for n in 1..=entries {
            assert!(stream.put_pending(b"g", b"c", id(n), 1, 1));
        }
        drop(stream);
        let before = shard.digest_all();
        shard.begin_undo();
        let mut edit = shard.edit();
        let mut stream = edit.edit_stream(&key).unwrap().unwrap();
        assert!(stream.add(id(entries + 1), words()));
        assert!(stream.remove(id(500)) && stream.remove(id(7)));
        let to = TrimTo::Id(id(21));
        let (whole_nodes, limit) = (false, 0);
        assert_eq!(
            stream.trim(&Trim {
                to,
                whole_nodes,
                limit
            }),
            19
        );
        assert!(stream.put_pending(b"g", b"c", id(entries + 1), 1, 1));
        assert!(
            stream.put_pending(b"g", b"c", id(30), 2, 2) && stream.remove_pending(b"g", id(31))
        );
        stream.put_group(b"g", id(50), None);
        stream.put_consumer(b"g", b"d", 1, None);
        drop(stream);
        let kept = shard.undo_bytes();
        shard.roll_back();
        assert!(shard.digest_all() == before);
        crate::check(&shard);
        kept
    };
    let (small, large) = (kept(1_000), kept(100_000));
    assert_eq!(small, large);
    assert!(large < 4096, "{large}");
}

#[test]
fn what_is_kept_of_a_hash_with_deadlines_does_not_grow_with_it() {
    let kept = |fields: u64| {
        let key = Key::new(0, b"k");
        let mut shard = shard();
        let mut edit = shard.edit();
        let mut hash = edit.edit_hash_or_new(&key).unwrap();
        for n in 0..fields {
            hash.set(n.to_string().as_bytes(), b"v");
            assert!(hash.expire_at(n.to_string().as_bytes(), 2_000_000 + n));
        }
        drop(hash);
        let before = shard.digest_all();
        shard.begin_undo();
        let mut edit = shard.edit();
        let mut hash = edit.edit_hash(&key).unwrap().unwrap();
        assert!(hash.expire_at(b"0", 1_500_000) && hash.persist(b"1") && hash.remove(b"2"));
        assert!(!hash.set(b"3", b"w") && hash.set(b"new", b"v") && hash.expire_at(b"new", 3));
        drop(hash);
        let kept = shard.undo_bytes();
        shard.roll_back();
        assert!(shard.digest_all() == before);
        crate::check(&shard);
        kept
    };
    assert_eq!(kept(3_000), kept(50_000));
}
