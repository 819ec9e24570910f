//! The law of snapshots: whatever is changed while one is written, its image is what the shard was at the cut.

#![allow(dropping_copy_types, reason = "what an act returns is of no interest")]
#![allow(clippy::disallowed_methods, reason = "a seed may be asked for")]

use std::collections::BTreeMap;

use super::*;
use crate::rdb::{Part, Splitter, write_end, write_magic};
use crate::value::stream::StreamId;
use crate::{Digest, Edit, Limits, OwnedValue, Rng, SLOTS, Side, Ttl};

const DBS: usize = 3;
const NOW_MS: u64 = 1_000_000;

/// Every key with its digest, of one or more shards.
type Image = BTreeMap<(u8, Vec<u8>), (Digest, Option<u64>)>;

fn shard(slots: core::ops::Range<u16>) -> Shard {
    Shard::new(DBS, slots.map(Slot), Limits::default(), NOW_MS)
}

fn image_of(shards: &[&Shard]) -> Image {
    let mut image = Image::new();
    for shard in shards {
        for db in 0..DBS as u8 {
            shard.keys(db, |bytes| {
                let key = Key::new(db, bytes);
                let deadline = shard.deadline_ms(&key).flatten();
                image.insert((db, bytes.to_vec()), (shard.digest_value(&key), deadline));
            });
        }
    }
    image
}

/// Reads the chunks of several shards as one file.
fn read(chunks: &[Vec<Chunk>]) -> Image {
    let mut file = Vec::new();
    write_magic(11, &mut file);
    for chunks in chunks {
        let mut parts = Vec::new();
        for chunk in chunks {
            match chunk {
                Chunk::Whole(bytes) => file.extend(bytes),
                Chunk::Part { bytes, last } => {
                    parts.extend(bytes);
                    if *last {
                        file.append(&mut parts);
                    }
                }
            }
        }
        assert!(parts.is_empty(), "a record has no end");
    }
    write_end(&mut file);
    file.extend([0; 8]);
    let mut image = Image::new();
    let mut to = shard(0..SLOTS as u16);
    (0..DBS as u8).for_each(|db| to.expect_keys(db, 30 * SLOTS as u64));
    let mut splitter = Splitter::new(DBS, true);
    splitter.feed(&file);
    while let Some(part) = splitter.next_part().unwrap() {
        let Part::Key(raw) = part else { continue };
        let (key, value) = raw.decode(&Limits::default()).unwrap();
        let routed = Key::new(raw.db, &key);
        match raw.text().unwrap() {
            Some((_, text)) => to.load_text(&routed, text, Ttl::Clear),
            None => to.load_value(&routed, value.unwrap(), Ttl::Clear),
        }
        let found = (to.digest_value(&routed), raw.info.deadline_ms);
        let old = image.insert((raw.db, key.to_vec()), found);
        assert_eq!(old, None, "{} comes twice", key.escape_ascii());
    }
    assert!(splitter.is_done());
    to.check();
    image
}

fn word(rng: &mut Rng, many: u64) -> Vec<u8> {
    let n = rng.below(many);
    if n.is_multiple_of(5) {
        return n.to_string().into_bytes();
    }
    let mut word = format!("word:{n}:").into_bytes();
    word.resize(word.len() + (n % 50) as usize, b'x');
    word
}

/// Keys of which the first are large.
fn name(rng: &mut Rng) -> Vec<u8> {
    match rng.index(3) {
        0 => format!("large:{}", rng.index(6)).into_bytes(),
        _ => format!("{{tag}}key:{}", rng.index(40)).into_bytes(),
    }
}

/// Elements of a large value.
const MANY: u64 = 4000;

fn fill(edit: &mut Edit<'_>, key: &Key<'_>, kind: usize, rng: &mut Rng) {
    let count = if key.bytes.starts_with(b"large") {
        MANY
    } else {
        1 + rng.below(20)
    };
    edit.remove(key);
    match kind {
        0 => edit.put_owned(key, (0..count * 40).map(|n| n as u8).collect(), Ttl::Clear),
        1 => {
            let mut list = edit.edit_list_or_new(key).unwrap();
            (0..count).for_each(|_| list.push(Side::Right, &word(rng, MANY)));
        }
        2 => {
            let mut set = edit.edit_set_or_new(key).unwrap();
            (0..count).for_each(|_| drop(set.add(&word(rng, MANY))));
        }
        3 => {
            let mut hash = edit.edit_hash_or_new(key).unwrap();
            for n in 0..count {
                let field = word(rng, MANY);
                hash.set(&field, &word(rng, MANY));
                if count < MANY && n == 3 || n % 100 == 7 {
                    hash.expire_at(&field, NOW_MS + 1 + rng.below(1 << 40));
                }
            }
        }
        4 => {
            let mut zset = edit.edit_zset_or_new(key).unwrap();
            (0..count).for_each(|n| drop(zset.add(&word(rng, MANY), n as f64 / 3.0)));
        }
        _ => {
            let mut stream = edit.edit_stream_or_new(key).unwrap();
            for n in 0..count {
                let words = [b"field".to_vec(), word(rng, MANY)];
                stream.add(StreamId::new(1 + n, 0), words.iter().map(|word| &word[..]));
            }
            stream.put_group(b"g", StreamId::new(2, 0), Some(1));
            stream.put_consumer(b"g", b"c", 5, Some(6));
            stream.put_pending(b"g", b"c", StreamId::new(1, 0), 7, 8);
        }
    }
}

/// Some changes to whatever the key holds.
fn change(edit: &mut Edit<'_>, key: &Key<'_>, rng: &mut Rng) {
    for _ in 0..1 + rng.index(6) {
        let (side, other) = if rng.index(2) == 0 {
            (Side::Left, 0)
        } else {
            (Side::Right, 1)
        };
        let index = rng.index(MANY as usize);
        if let Ok(Some(mut list)) = edit.edit_list(key) {
            let index = if rng.index(2) == 0 {
                index
            } else {
                rng.index(list.len())
            };
            match rng.index(8) {
                0 => list.push(side, &word(rng, MANY)),
                1 => drop(list.pop(side)),
                2 => drop(list.drop_end(side)),
                3 => drop(list.set(index, &word(rng, MANY))),
                4 => list.insert(index, &word(rng, MANY)),
                5 => drop(list.remove(index)),
                6 => list.trim(other, list.len().saturating_sub(rng.index(200))),
                _ => list.trim(rng.index(300), list.len().max(2)),
            }
        } else if let Ok(Some(mut set)) = edit.edit_set(key) {
            match rng.index(3) {
                0 => drop(set.add(&word(rng, MANY * 2))),
                _ => drop(set.remove(&word(rng, MANY))),
            }
        } else if let Ok(Some(mut hash)) = edit.edit_hash(key) {
            let field = word(rng, MANY * 2);
            match rng.index(5) {
                0 => drop(hash.set(&field, &word(rng, MANY))),
                1 => drop(hash.expire_at(&field, NOW_MS + 1 + rng.below(1 << 40))),
                2 => drop(hash.persist(&field)),
                _ => drop(hash.remove(&field)),
            }
        } else if let Ok(Some(mut zset)) = edit.edit_zset(key) {
            match rng.index(3) {
                0 => drop(zset.remove(&word(rng, MANY))),
                _ => drop(zset.add(&word(rng, MANY * 2), rng.index(1000) as f64)),
            }
        } else if let Ok(Some(mut stream)) = edit.edit_stream(key) {
            let id = StreamId::new(rng.below(MANY), rng.below(2));
            match rng.index(12) {
                0 => drop(stream.remove_through(StreamId::new(rng.below(300), 0))),
                1 => {
                    let last = stream.last_entry_id().unwrap_or(StreamId::MIN);
                    let (added, max) = (stream.entries_added(), stream.max_deleted_id());
                    stream.set_ids(last, added, max);
                }
                2 => stream.put_group(b"h", id, None),
                3 => drop(stream.put_pending(b"g", b"c", id, 1, 1)),
                4..8 => {
                    let last = stream.last_id();
                    let id = last.next().unwrap();
                    stream.add(id, [&b"f"[..], b"new"].into_iter());
                }
                _ => drop(stream.remove(id)),
            }
        } else if edit.exists(key) {
            let bytes = word(rng, MANY);
            let at = rng.index(MANY as usize * 45);
            edit.write_string(key, at, &bytes).unwrap();
        }
    }
}

/// One random operation; the shard holds every slot of its keys.
fn act(shard: &mut Shard, rng: &mut Rng) {
    let (name, other) = (name(rng), name(rng));
    let db = (rng.index(8) / 6) as u8;
    let key = Key::new(db, &name);
    let to = Key::new((rng.index(8) / 6) as u8, &other);
    let mut edit = shard.edit();
    match rng.index(48) {
        0..12 => change(&mut edit, &key, rng),
        12..24 => {
            // Large ones above all.
            let name = format!("large:{}", rng.index(6)).into_bytes();
            change(&mut edit, &Key::new(db, &name), rng);
        }
        24..28 => fill(&mut edit, &key, rng.index(6), rng),
        28 => drop(edit.remove(&key)),
        29 => drop(edit.relocate(&key, &to)),
        30 => {
            if let Some((value, deadline)) = edit.clone_value(&key) {
                edit.put_value(&to, value, deadline.map_or(Ttl::Clear, Ttl::At));
            }
        }
        31 => drop(edit.expire_at(&key, NOW_MS + 1 + rng.below(1 << 30))),
        32 => drop(edit.persist(&key)),
        33 => edit.put_value(&key, OwnedValue::Int(rng.below(100) as i64), Ttl::Keep),
        34 => edit.put_string(&key, b"short", Ttl::Clear),
        35 if rng.index(8) == 0 => edit.flush_db(db),
        36 if rng.index(40) == 0 => edit.flush_all(),
        37 if rng.index(4) == 0 => edit.swap_db(0, 1),
        38..40 => undo(shard, rng),
        _ => edit.put_string(&key, &word(rng, 100), Ttl::At(NOW_MS + 9)),
    }
}

/// A script that is taken back, or not.
fn undo(shard: &mut Shard, rng: &mut Rng) {
    shard.begin_undo();
    for _ in 0..rng.index(5) {
        let name = name(rng);
        let key = Key::new(rng.index(2) as u8, &name);
        let mut edit = shard.edit();
        match rng.index(9) {
            0 => drop(edit.remove(&key)),
            1 => fill(&mut edit, &key, rng.index(6), rng),
            2 if rng.index(4) == 0 => edit.flush_db(0),
            3 => edit.swap_db(0, 1),
            4 => drop(edit.relocate(&key, &Key::new(0, b"{tag}moved"))),
            _ => change(&mut edit, &key, rng),
        }
    }
    if rng.index(2) == 0 {
        shard.roll_back();
    } else {
        shard.end_undo();
    }
}

fn drain(shard: &mut Shard, all: bool, into: &mut Vec<Chunk>) {
    into.extend(core::iter::from_fn(|| shard.take_image(all)));
}

fn style(rng: &mut Rng) -> Style {
    Style {
        version: 11,
        compress: rng.index(2) == 0,
        drops_field_deadlines: false,
    }
}

fn seeds() -> core::ops::Range<u64> {
    let from = std::env::var("SNAPSHOT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    from.map_or(1..5, |seed| seed..seed + 1)
}

#[test]
fn the_image_is_what_the_shard_was_at_the_cut() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut shard = shard(0..SLOTS as u16);
        for n in 0..6 {
            let key = format!("large:{n}").into_bytes();
            fill(&mut shard.edit(), &Key::new(0, &key), n, &mut rng);
        }
        for _ in 0..3 {
            (0..100).for_each(|_| act(&mut shard, &mut rng));
            let expected = image_of(&[&shard]);
            shard.begin_snapshot(style(&mut rng), Uses::Nothing);
            let mut chunks = Vec::new();
            let often = 1 + rng.index(6);
            while shard.snapshot_step(1 + rng.index(300)) {
                drain(&mut shard, false, &mut chunks);
                for _ in 0..rng.index(often) {
                    act(&mut shard, &mut rng);
                }
                shard.free_garbage(64);
            }
            assert!(shard.is_snapshot_done());
            drain(&mut shard, true, &mut chunks);
            shard.check();
            let found = read(&[chunks]);
            let differs = |key: &&(u8, Vec<u8>)| found.get(*key) != expected.get(*key);
            let keys = found.keys().chain(expected.keys()).filter(differs);
            let keys: Vec<String> = keys
                .map(|(db, key)| format!("{db} {}", key.escape_ascii()))
                .collect();
            assert!(keys.is_empty(), "seed {seed}: {keys:?}");
            while shard.free_garbage(1 << 20) {}
            shard.check();
        }
    }
}

/// For replicas: small hashes, and large ones that are written field by field.
#[test]
fn deadlines_of_fields_can_be_left_out() {
    let (mut with, mut without) = (shard(0..SLOTS as u16), shard(0..SLOTS as u16));
    for (name, fields) in [(&b"small"[..], 3), (b"middle", 700), (b"large", 9000)] {
        for (shard, expires) in [(&mut with, true), (&mut without, false)] {
            let (key, mut edit) = (Key::new(0, name), shard.edit());
            let mut hash = edit.edit_hash_or_new(&key).unwrap();
            for n in 0..fields {
                let field = format!("field:{n}").into_bytes();
                hash.set(&field, b"value");
                if expires && n % 2 == 0 {
                    hash.expire_at(&field, 4_000_000_000_000 + n);
                }
            }
        }
    }
    for version in [9, 10, 11] {
        with.begin_snapshot(
            Style {
                version,
                compress: false,
                drops_field_deadlines: true,
            },
            Uses::Nothing,
        );
        let mut chunks = Vec::new();
        while with.snapshot_step(100) {
            drain(&mut with, false, &mut chunks);
        }
        drain(&mut with, true, &mut chunks);
        assert!(
            read(&[chunks]) == image_of(&[&without]),
            "version {version}"
        );
    }
}

#[test]
fn the_image_of_two_shards_that_lend_to_each_other_is_one_instant() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let half = SLOTS as u16 / 2;
        let mut homes = [shard(0..half), shard(half..SLOTS as u16)];
        let mut beside = Shard::new(DBS, [], Limits::default(), NOW_MS);
        let slots: [Vec<Slot>; 2] = [
            (0..half).map(Slot).collect(),
            (half..SLOTS as u16).map(Slot).collect(),
        ];
        let mut chunks = [Vec::new(), Vec::new()];
        // All slots on a visit at one of them, or aside from there.
        let mut visit = |homes: &mut [Shard; 2],
                         chunks: &mut [Vec<Chunk>; 2],
                         act: &mut dyn FnMut(&mut Shard),
                         aside: bool,
                         at: usize| {
            let lent = homes[1 - at].lend(&slots[1 - at]);
            homes[at].borrow(lent);
            if aside {
                let all: Vec<Slot> = (0..SLOTS as u16).map(Slot).collect();
                let (lent, counted) = homes[at].lend_aside(&all);
                beside.wear(homes[at].guise());
                beside.borrow(lent);
                act(&mut beside);
                let notes = beside.take_notes();
                let lent = beside.give_back(&all);
                homes[at].take_aside(lent, counted);
                homes[at].add_notes(notes);
            } else {
                act(&mut homes[at]);
            }
            let lent = homes[at].give_back(&slots[1 - at]);
            // What was written out on the visit leaves before the slots are home.
            drain(&mut homes[at], true, &mut chunks[at]);
            homes[1 - at].take_back(lent);
        };
        for n in 0..6 {
            let key = format!("large:{n}").into_bytes();
            visit(
                &mut homes,
                &mut chunks,
                &mut |shard| fill(&mut shard.edit(), &Key::new(0, &key), n, &mut rng),
                false,
                0,
            );
        }
        for _ in 0..2 {
            let expected = image_of(&[&homes[0], &homes[1]]);
            visit(
                &mut homes,
                &mut chunks,
                &mut |shard| shard.begin_snapshot(style(&mut rng), Uses::Nothing),
                false,
                seed as usize % 2,
            );
            chunks = [Vec::new(), Vec::new()];
            while !homes.iter().all(Shard::is_snapshot_done) {
                let at = rng.index(2);
                if !homes[at].is_snapshot_done() {
                    homes[at].snapshot_step(1 + rng.index(200));
                    let all = homes[at].is_snapshot_done();
                    drain(&mut homes[at], all, &mut chunks[at]);
                }
                let (aside, at) = (rng.index(3) == 0, rng.index(2));
                for _ in 0..rng.index(4) {
                    visit(
                        &mut homes,
                        &mut chunks,
                        &mut |shard| act(shard, &mut rng),
                        aside,
                        at,
                    );
                }
            }
            for home in &mut homes {
                assert!(home.take_image(true).is_none(), "all has left");
                home.check();
            }
            let found = read(&chunks);
            let differs = |key: &&(u8, Vec<u8>)| found.get(*key) != expected.get(*key);
            let keys = found.keys().chain(expected.keys()).filter(differs);
            let keys: Vec<String> = keys
                .map(|(db, key)| format!("{db} {}", key.escape_ascii()))
                .collect();
            assert!(keys.is_empty(), "seed {seed}: {keys:?}");
        }
    }
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing_behind() {
    let mut rng = Rng::new(5);
    let mut shard = shard(0..SLOTS as u16);
    for n in 0..6 {
        let key = format!("large:{n}").into_bytes();
        fill(&mut shard.edit(), &Key::new(0, &key), n, &mut rng);
    }
    (0..100).for_each(|_| act(&mut shard, &mut rng));
    shard.begin_snapshot(style(&mut rng), Uses::Idle);
    shard.snapshot_step(200);
    act(&mut shard, &mut rng);
    shard.discard_snapshot();
    while shard.snapshot_step(200) {
        act(&mut shard, &mut rng);
    }
    assert_eq!(shard.take_image(true), None);
    while shard.free_garbage(1 << 20) {}
    shard.check();
    let expected = image_of(&[&shard]);
    shard.begin_snapshot(style(&mut rng), Uses::Frequency);
    while shard.snapshot_step(1000) {}
    let mut chunks = Vec::new();
    drain(&mut shard, true, &mut chunks);
    assert_eq!(read(&[chunks]), expected);
}
