//! An old Redis that is written to.

use super::driver as driver_of;
use super::*;

fn written(phase: Phase) -> State {
    let mut state = State {
        old_side: OldSide::Written,
        announce: None,
        ..state(phase)
    };
    state.side_mut(0).bars = vec![Bar::new("app").unwrap()];
    state
}

/// In `verify`, and everything compared.
fn compared() -> (Driver<Fake>, Fake, MemoryDisk) {
    let (mut driver, fake, disk) = driver(written(Phase::Verify));
    driver.resume();
    driver.findings().passes = 1;
    (driver, fake, disk)
}

/// All is there that is here.
fn deliver(fake: &Fake) {
    let mut world = fake.world();
    let end = world.log_end.unwrap();
    (world.written.there, world.written.is_begun) = (end, true);
    let fence = world.there.as_ref().unwrap().fence.clone();
    world.mark = Some(Mark {
        fence,
        sequence: end,
    });
}

#[test]
fn it_is_written_to_while_its_users_are_barred_and_followed_again_from_its_end() {
    let (mut driver, fake, disk) = compared();
    driver.order(&advance()).unwrap();
    is_at(&driver, &disk, Phase::Reverse);
    {
        let world = fake.world();
        let there = world.there.clone().unwrap();
        assert_eq!((there.from, there.fence), (40, Place::new(OLD, 100)));
        assert!(world.commands.ends_with("-@write") && !world.fenced && !world.follows);
        assert!(!world.calls.contains(&"replicaof"));
    }
    assert_eq!(on_disk(&disk).side(0).bars[0].commands, "+@all -@dangerous");
    fake.world().log_end = Some(50);
    deliver(&fake);
    driver.order(&back()).unwrap();
    is_at(&driver, &disk, Phase::Verify);
    let world = fake.world();
    assert!(world.follows && world.there.is_none() && !world.fenced);
    assert_eq!(
        (world.stood.clone(), world.ended_ms),
        (Some(Place::new(OLD, 500)), Some(77))
    );
    assert_eq!(world.commands, "+@all -@dangerous", "as it was");
    assert_eq!(world.calls.last(), Some(&"forget"));
}

#[test]
fn a_way_back_waits_for_all_that_was_written_and_looks_whether_it_is_there() {
    let (mut driver, fake, disk) = compared();
    driver.order(&advance()).unwrap();
    fake.world().log_end = Some(50);
    let late = driver.order(&back());
    assert!(
        matches!(&late, Err(Fault::Undone(why)) if why.contains("writing the rest")),
        "{late:?}"
    );
    is_at(&driver, &disk, Phase::Reverse);
    deliver(&fake);
    fake.world().mark = None;
    let lost = driver.order(&back());
    assert!(
        matches!(&lost, Err(Fault::Undone(why)) if why.contains("lost writes")),
        "{lost:?}"
    );
    is_at(&driver, &disk, Phase::Reverse);
    assert!(fake.world().stood.is_none() && fake.world().there.is_some());
}

#[test]
fn what_would_fail_while_clients_wait_is_refused_before() {
    let (mut driver, fake, _) = compared();
    fake.world().log_end = None;
    let no_log = driver.order(&advance());
    assert!(
        matches!(&no_log, Err(Fault::Conflict(why)) if why.contains("appendonly")),
        "{no_log:?}"
    );
    fake.world().log_end = Some(40);
    for (user, text) in [
        ("migrator", "one of its own"),
        ("nobody", "only detected"),
        ("a b", "blanks"),
    ] {
        let order = Order::Advance {
            force: false,
            way: Way {
                old_side: None,
                users: Some(vec![user.to_owned()]),
                by_scan: false,
            },
            shard: None,
        };
        let refused = driver.order(&order);
        assert!(
            matches!(&refused, Err(Fault::Conflict(why)) if why.contains(text)),
            "{refused:?}"
        );
    }
    let replica = Order::Advance {
        force: false,
        way: Way {
            old_side: Some(OldSide::Replica),
            users: Some(vec![]),
            by_scan: false,
        },
        shard: None,
    };
    let refused = driver.order(&replica);
    assert!(
        matches!(&refused, Err(Fault::Conflict(why)) if why.contains("--announce")),
        "{refused:?}"
    );
    assert_eq!(driver.state.phase, Phase::Verify);
    assert_eq!(driver.parts().authority(), Authority::Front);
}

#[test]
fn a_flip_that_is_undone_leaves_nobody_barred() {
    let (mut driver, fake, disk) = compared();
    // The stream's rest does not come.
    fake.world().in_flight = 10_000;
    assert!(matches!(driver.order(&advance()), Err(Fault::Undone(_))));
    fake.world().in_flight = 0;
    is_at(&driver, &disk, Phase::Verify);
    // The disk fails where this node would decide.
    let failing = Failing {
        syncs: true,
        ..Failing::default()
    };
    fake.world().in_flight = 0;
    disk.fail(failing);
    assert!(driver.order(&advance()).is_err());
    disk.fail(Failing::default());
    driver.tick();
    assert_eq!(fake.world().commands, "+@all -@dangerous");
    assert!(!fake.world().fenced && fake.world().there.is_none());
    assert_eq!(driver.parts().authority(), Authority::Front);
}

#[test]
fn an_old_redis_that_is_given_up_is_remembered_and_cannot_decide_again() {
    let (mut driver, fake, disk) = compared();
    driver.order(&advance()).unwrap();
    fake.world().written.needs_copy = Some("the queue is full".to_owned());
    driver.tick();
    assert_eq!(
        on_disk(&disk).side(0).needs_copy.as_deref(),
        Some("the queue is full")
    );
    assert!(fake.world().there.is_none(), "the log keeps nothing for it");
    let refused = driver.order(&back());
    assert!(matches!(refused, Err(Fault::Conflict(_))), "{refused:?}");
    let (mut driver, fake, _) = driver_of(on_disk(&disk));
    driver.resume();
    assert_eq!(driver.parts().authority(), Authority::Own);
    assert!(fake.world().there.is_none());
    driver.order(&Order::Finish).unwrap();
}

#[test]
fn a_start_goes_on_writing_whatever_the_old_redis_says_and_loses_nothing_unseen() {
    let mut begun = State {
        intent: Intent::Back,
        ..written(Phase::Reverse)
    };
    let side = begun.side_mut(0);
    (side.written_from, side.is_begun) = (40, true);
    let (mut driver, fake, disk) = driver(begun.clone());
    (fake.world().is_primary, fake.world().follows_us) = (true, false);
    fake.world().answers = false;
    driver.resume();
    is_at(&driver, &disk, Phase::Reverse);
    assert!(
        fake.world()
            .there
            .as_ref()
            .is_some_and(|there| there.is_begun && there.from == 40)
    );
    // What the old Redis has is kept in the state from time to time.
    fake.world().written.there = 45;
    fake.world().now_us += 60_000_000;
    driver.tick();
    assert_eq!(on_disk(&disk).side(0).written_from, 45);
    // A log that ends before what is there has lost writes.
    begun.side_mut(0).written_from = 41;
    let (mut driver, fake, _) = driver_of(begun);
    driver.resume();
    assert_eq!(driver.parts().authority(), Authority::Held);
    assert!(driver.live.is_lost && fake.world().there.is_none());
}

#[test]
fn users_stay_barred_and_others_writes_are_counted() {
    let (mut driver, fake, _) = compared();
    fake.world().counts = Calls::from([("incr".to_owned(), 5)]);
    driver.order(&advance()).unwrap();
    fake.world().now_us += 2_000_000;
    driver.tick();
    assert_eq!((driver.seen().strays, driver.live.returned), (0, 0));
    // The old Redis was started again: its users are what its file says.
    fake.world().commands = "+@all".to_owned();
    fake.world().counts = Calls::from([("incr".to_owned(), 7)]);
    fake.world().now_us += 2_000_000;
    driver.tick();
    assert_eq!((driver.seen().strays, driver.live.returned), (2, 1));
    assert!(fake.world().commands.ends_with("-@write"));
    // A way back that is undone begins another line, whose counts begin anew: nothing is counted twice, and nothing forgotten.
    deliver(&fake);
    fake.world().mark = None;
    assert!(driver.order(&back()).is_err());
    fake.world().counts = Calls::from([("incr".to_owned(), 7), ("set".to_owned(), 900)]);
    for incr in [7, 8] {
        fake.world().counts.insert("incr".to_owned(), incr);
        fake.world().now_us += 2_000_000;
        driver.tick();
        assert_eq!(driver.seen().strays, incr - 5);
    }
}

#[test]
fn by_scan_the_last_keys_are_swept_behind_the_fence_or_it_is_undone() {
    let (mut driver, fake, disk) = driver(State {
        by_scan: true,
        ..written(Phase::Verify)
    });
    driver.resume();
    assert!(fake.world().scans, "a start goes on so");
    driver.findings().passes = 1;
    for (swept, why) in [
        (Some(Err("flushed".to_owned())), "flushed"),
        (None, "fetching the keys"),
    ] {
        fake.world().swept = swept;
        let undone = driver.order(&advance());
        assert!(
            matches!(&undone, Err(Fault::Undone(found)) if found.contains(why)),
            "{undone:?}"
        );
        is_at(&driver, &disk, Phase::Verify);
        let world = fake.world();
        assert!(world.follows && !world.fenced && world.there.is_none());
        assert_eq!(world.commands, "+@all -@dangerous", "as it was");
    }
    fake.world().calls.clear();
    fake.world().swept = Some(Ok(()));
    driver.order(&advance()).unwrap();
    is_at(&driver, &disk, Phase::Reverse);
    let calls = fake.world().calls.clone();
    let place = |name| calls.iter().position(|call| *call == name);
    assert!(
        place("fence") < place("bar") && place("bar") < place("sweep"),
        "{calls:?}"
    );
    assert!(place("sweep") < place("unfence"), "{calls:?}");
    deliver(&fake);
    fake.world().scans = false;
    driver.order(&back()).unwrap();
    is_at(&driver, &disk, Phase::Verify);
    assert!(fake.world().scans, "it is followed as before");
}

#[test]
fn a_start_by_scan_leaves_a_source_that_is_written_to() {
    let order = |old_side| Order::Start {
        sources: vec![server("old")],
        patterns: vec![],
        announce: None,
        force: false,
        way: Way {
            old_side,
            users: None,
            by_scan: true,
        },
    };
    let (mut driver, fake, disk) = driver(State::default());
    let refused = driver.order(&order(Some(OldSide::Replica)));
    assert!(
        matches!(&refused, Err(Fault::Conflict(why)) if why.contains("cannot be a replica")),
        "{refused:?}"
    );
    driver.order(&order(None)).unwrap();
    is_at(&driver, &disk, Phase::Attach);
    let found = on_disk(&disk);
    assert!(fake.world().scans && found.by_scan);
    assert_eq!(found.old_side, OldSide::Written);
}
