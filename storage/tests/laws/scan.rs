//! Scans while others write: whatever stays is shown.

use std::collections::BTreeSet;

use proptest::prelude::*;
use storage::{Key, Rng, SLOTS, Shard, Ttl};

use crate::{START_MS, config, shard};

fn name(i: usize) -> Vec<u8> {
    // Most share one slot, so that its table grows to several segments.
    if i.is_multiple_of(3) {
        format!("key:{i}")
    } else {
        format!("{{tag}}key:{i}")
    }
    .into_bytes()
}

fn put(shard: &mut Shard, i: usize) {
    shard
        .edit()
        .put_string(&Key::new(0, &name(i)), b"v", Ttl::Clear);
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn a_scan_while_writing_shows_all_that_stays(seed in any::<u64>(), grows in any::<bool>()) {
        let rng = &mut Rng::new(seed);
        let mut shard = shard();
        let (stay, come) = (if grows { 1_000 } else { 200 }, 6_000);
        (0..stay).for_each(|i| put(&mut shard, i));
        if !grows {
            (stay..come).for_each(|i| put(&mut shard, i));
        }
        let mut seen = BTreeSet::new();
        let mut cursor = 0;
        while let Some(next) = shard.scan(0, cursor, SLOTS, 1 + rng.index(40), |key, kind| {
            assert_eq!(kind, "string");
            seen.insert(key.to_vec());
        }) {
            prop_assert!(next > cursor, "a scan goes forward");
            cursor = next;
            for _ in 0..rng.index(200) {
                let i = stay + rng.index(come - stay);
                if grows {
                    put(&mut shard, i);
                } else {
                    shard.edit().remove(&Key::new(0, &name(i)));
                }
            }
        }
        for i in 0..stay {
            prop_assert!(seen.contains(&name(i)), "key {} was there all the time", i);
        }
    }
}

#[test]
fn a_scan_of_a_part_ends_there_and_hides_the_expired() {
    let mut shard = shard();
    (0..3000).for_each(|i| put(&mut shard, i));
    for i in 3000..4000 {
        shard
            .edit()
            .put_string(&Key::new(0, &name(i)), b"v", Ttl::At(START_MS + 1));
    }
    shard.set_now(START_MS + 5);
    let mut shown = 0;
    for part in 0..4 {
        let (start, end) = (part * SLOTS / 4, (part + 1) * SLOTS / 4);
        let mut cursor = Shard::cursor_at(storage::Slot(start as u16));
        loop {
            let next = shard.scan(0, cursor, end, 10, |key, _| {
                let slot = Key::new(0, key).slot.index();
                assert!((start..end).contains(&slot));
                shown += 1;
            });
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
    }
    assert_eq!(shown, 3000);
}
