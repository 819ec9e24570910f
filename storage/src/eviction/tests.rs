//! What every policy must do, and what each is for.

use super::*;
use crate::EventClass;
use crate::{Limits, SLOTS, Ttl, decode};

const START_MS: u64 = 1_700_000_000_000;
const LATER_MS: u64 = 1_800_000_000_000;
const LFU: Lfu = Lfu {
    log_factor: 10,
    decay_min: 1,
};

fn shard(choice: Choice, volatile: bool) -> Shard {
    let slots = (0..SLOTS as u16).map(Slot);
    let mut shard = Shard::new(3, slots, Limits::default(), START_MS);
    shard.set_eviction(Eviction {
        choice: Some(choice),
        volatile,
        samples: 5,
        lfu: LFU,
    });
    shard
}

fn put(shard: &mut Shard, db: u8, key: &str, ttl: Ttl) {
    let key = Key::new(db, key.as_bytes());
    shard.edit().put_string(&key, &[b'v'; 40], ttl);
}

fn holds(shard: &Shard, key: &str) -> bool {
    (0..3).any(|db| shard.contains(&Key::new(db, key.as_bytes())))
}

/// How many of `keys` are left.
fn left(shard: &Shard, keys: impl Iterator<Item = String>) -> usize {
    keys.filter(|key| holds(shard, key)).count()
}

const CHOICES: [(Choice, bool); 8] = [
    (Choice::Lru, false),
    (Choice::Lfu, false),
    (Choice::Random, false),
    (Choice::S3Fifo, false),
    (Choice::Lru, true),
    (Choice::Lfu, true),
    (Choice::Random, true),
    (Choice::Ttl, true),
];

#[test]
fn every_policy_gives_up_to_the_last_key_and_tells_of_each() {
    for (choice, volatile) in CHOICES {
        for name in [|n| format!("k{n}"), |n: usize| format!("{{one}}{n}")] {
            let (mut a, mut b) = (shard(choice, volatile), shard(choice, volatile));
            a.effects().set_recording(true);
            a.set_events(EventClass::Evicted as u16);
            for n in 0..900 {
                let ttl = match n % 3 {
                    0 => Ttl::At(LATER_MS),
                    _ => Ttl::Clear,
                };
                put(&mut a, (n % 2) as u8, &name(n), ttl);
            }
            let held = if volatile { 300 } else { 900 };
            let mut rng = Rng::new(9);
            let before = a.used_bytes();
            let first = a.evict(&mut rng, 1000, usize::MAX);
            assert!(first.bytes >= 1000 && first.bytes < 1300, "{first:?}");
            assert_eq!(a.evict(&mut rng, usize::MAX, 7).keys, 7);
            let mut calls = 0;
            while !a.evict(&mut rng, usize::MAX, usize::MAX).fruitless || calls < 4 {
                calls += 1;
                assert!(calls < 100, "{choice:?}");
            }
            a.check();
            assert_eq!(a.evicted(), held, "{choice:?} {volatile}");
            assert!(a.used_bytes() < before);
            let kept = (0..900).filter(|n| volatile && n % 3 > 0);
            assert_eq!(left(&a, kept.clone().map(name)), kept.count());
            let events = a.take_events();
            assert_eq!(events.len() as u64, held);
            assert!(events.iter().all(|event| event.name == "evicted"));
            let record = a.effects().take();
            let mut rest = &record[..];
            while !rest.is_empty() {
                let (db, effect, after) = decode(rest).unwrap();
                b.apply(db, &effect).unwrap();
                rest = after;
            }
            assert!(a.digest_all() == b.digest_all());
        }
    }
}

#[test]
fn what_has_expired_is_expired_and_not_evicted() {
    let mut shard = shard(Choice::Ttl, true);
    put(&mut shard, 0, "gone", Ttl::At(START_MS + 5));
    put(&mut shard, 0, "next", Ttl::At(START_MS + 50));
    shard.set_now(START_MS + 6);
    assert_eq!(shard.evict(&mut Rng::new(1), 1, 1).keys, 1);
    assert_eq!((shard.expired(), shard.evicted()), (1, 0));
    assert!(holds(&shard, "next"));
}

#[test]
fn slots_on_a_visit_are_passed_over() {
    let mut shard = shard(Choice::Random, false);
    let mut host = Shard::new(3, [], Limits::default(), START_MS);
    put(&mut shard, 0, "away", Ttl::Clear);
    put(&mut shard, 0, "home", Ttl::Clear);
    let slots = [Slot::of(b"away")];
    let (lent, counted) = shard.lend_aside(&slots);
    let mut rng = Rng::new(1);
    while !shard.evict(&mut rng, usize::MAX, 10).fruitless {}
    assert_eq!(shard.evicted(), 1);
    host.borrow(lent);
    shard.take_aside(host.give_back(&slots), counted);
    shard.check();
    assert!(holds(&shard, "away") && !holds(&shard, "home"));
}

/// Keys of which every tenth is used again and again while others come once, until 1,000 are left. How many of the ones in use
/// have stayed, of 100.
fn kept_of_100(choice: Choice) -> usize {
    let mut shard = shard(choice, false);
    let mut rng = Rng::new(4);
    for n in 0..1000 {
        put(&mut shard, 0, &format!("k{n}"), Ttl::Clear);
    }
    let in_use = || (0..100).map(|n| format!("k{}", n * 10));
    for round in 1..=60u64 {
        shard.set_now(START_MS + round * 10_000);
        for key in in_use() {
            let _ = shard.text(&Key::new(0, key.as_bytes()));
        }
        for n in 0..100 {
            put(&mut shard, 0, &format!("once{round}:{n}"), Ttl::Clear);
        }
        let many = shard.count(0).keys - 1000;
        shard.evict(&mut rng, usize::MAX, many);
        assert_eq!(shard.count(0).keys, 1000);
    }
    shard.check();
    left(&shard, in_use())
}

#[test]
fn keys_in_use_stay() {
    assert!(kept_of_100(Choice::Lru) >= 95);
    assert!(kept_of_100(Choice::Lfu) >= 90);
    assert!(kept_of_100(Choice::S3Fifo) >= 98);
    assert!(kept_of_100(Choice::Random) < 20);
}

#[test]
fn a_scan_takes_no_keys_in_use_from_s3_fifo() {
    let run = |choice| {
        let mut shard = shard(choice, false);
        let mut rng = Rng::new(6);
        let hot = || (0..800).map(|n| format!("hot{n}"));
        for round in 0..3 {
            shard.set_now(START_MS + round * 1000);
            hot().for_each(|key| {
                if !shard.touch(&Key::new(0, key.as_bytes())) {
                    put(&mut shard, 0, &key, Ttl::Clear);
                }
            });
        }
        // Three times as many keys pass by as are held, each used once.
        for n in 0..3000u64 {
            shard.set_now(START_MS + 10_000 + n * 10);
            put(&mut shard, 0, &format!("scan{n}"), Ttl::Clear);
            let many = shard.count(0).keys.saturating_sub(1000);
            shard.evict(&mut rng, usize::MAX, many);
        }
        left(&shard, hot())
    };
    assert!(run(Choice::S3Fifo) > 700);
    assert!(run(Choice::Lru) < 200);
}

#[test]
fn the_deadline_that_comes_first_goes_first() {
    let mut shard = shard(Choice::Ttl, true);
    for n in 0..1000u64 {
        let ttl = Ttl::At(START_MS + 1000 * (n + 1));
        put(&mut shard, 0, &format!("k{n}"), ttl);
    }
    shard.evict(&mut Rng::new(2), usize::MAX, 500);
    let early = left(&shard, (0..250).map(|n| format!("k{n}")));
    let late = left(&shard, (750..1000).map(|n| format!("k{n}")));
    assert!(early < 25 && late > 225, "{early} {late}");
}

#[test]
fn idle_times_are_told_while_keys_stand_in_queues() {
    let mut shard = shard(Choice::S3Fifo, false);
    let key = Key::new(0, b"k");
    shard.edit().put_string(&key, b"v", Ttl::Clear);
    let idle = |shard: &Shard| shard.info(&key).unwrap().idle_s;
    shard.set_now(START_MS + 800_000);
    assert_eq!(idle(&shard), 800);
    let _ = shard.text(&key);
    assert!(idle(&shard) < 8);
    shard.edit().set_idle(&key, 80);
    assert!((72..=88).contains(&idle(&shard)));
    assert!(QueueWord::used(shard.access_s(&key).unwrap(), 0) >> 24 == 0);
}

#[test]
fn another_policy_takes_over_what_the_last_one_left() {
    let mut shard = shard(Choice::Lru, false);
    let mut rng = Rng::new(3);
    for n in 0..2000 {
        put(&mut shard, 0, &format!("k{n}"), Ttl::Clear);
    }
    for (choice, volatile) in CHOICES.into_iter().filter(|(_, volatile)| !volatile) {
        let options = shard.eviction.unwrap();
        shard.set_eviction(Eviction {
            choice: Some(choice),
            volatile,
            ..options
        });
        for _ in 0..40 {
            shard.evict(&mut rng, usize::MAX, 10);
        }
    }
    assert_eq!(shard.count(0).keys, 400);
    shard.check();
    let none = Eviction {
        choice: None,
        ..shard.eviction.unwrap()
    };
    shard.set_eviction(none);
    assert!(shard.evict(&mut rng, 1, 1).fruitless);
}
