//! Several sources that change sides one by one.

use migration::Shard;

use super::driver as driver_of;
use super::*;

/// Three servers, by hand, in `verify`.
fn by_hand() -> State {
    let shard = |text: &str| Shard {
        patterns: vec![text.to_owned()],
        ..Shard::default()
    };
    State {
        old_side: OldSide::Written,
        sources: ["a", "b", "c"].map(server).to_vec(),
        shards: ["a*", "b*", "*"].map(shard).to_vec(),
        sides: Vec::new(),
        ..state(Phase::Verify)
    }
}

fn advance_of(shard: Option<usize>) -> Order {
    Order::Advance {
        force: false,
        way: Way::default(),
        shard,
    }
}

fn back_of(shard: Option<usize>, force: bool) -> Order {
    Order::Back { force, shard }
}

fn refused(driver: &mut Driver<Fake>, order: &Order) -> String {
    match driver.order(order) {
        Err(Fault::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Who decides each, as the disk says.
fn ours(disk: &MemoryDisk) -> [bool; 3] {
    let state = on_disk(disk);
    [0, 1, 2].map(|at| state.is_ours(at))
}

/// All is there that is here.
fn deliver(fake: &Fake) {
    let mut world = fake.world();
    (world.written.there, world.written.is_up) = (40, true);
    let fence = world.there.as_ref().unwrap().fence.clone();
    world.mark = Some(Mark {
        fence,
        sequence: 40,
    });
}

#[test]
fn each_has_its_turn_and_its_pause_and_the_last_one_ends_the_phase() {
    let (mut driver, fake, disk) = driver_of(by_hand());
    driver.resume();
    driver.findings().passes = 1;
    let none = refused(&mut driver, &advance_of(Some(7)));
    assert!(none.contains("no such shard"), "{none}");
    let told = driver.order(&advance_of(Some(1))).unwrap();
    assert!(told.contains("shard 1 now, the source 2 more"), "{told}");
    assert_eq!(ours(&disk), [false, true, false]);
    is_at(&driver, &disk, Phase::Verify);
    assert_eq!(fake.world().there.as_ref().map(There::number), Some(1));
    let twice = refused(&mut driver, &advance_of(Some(1)));
    assert!(
        twice.contains("this node decides shard 1 already"),
        "{twice}"
    );
    driver.order(&advance_of(None)).unwrap();
    assert_eq!(ours(&disk), [true, true, false]);
    let last = driver.order(&advance_of(None)).unwrap();
    assert!(last.contains("and so all of them"), "{last}");
    is_at(&driver, &disk, Phase::Reverse);
    // Back, each from the place that it tells, whatever other streams have brought here meanwhile.
    deliver(&fake);
    driver.order(&back_of(None, false)).unwrap();
    assert_eq!(ours(&disk), [true, true, false]);
    is_at(&driver, &disk, Phase::Verify);
    assert_eq!(fake.world().followed, [(2, false)]);
    let theirs = refused(&mut driver, &back_of(Some(2), false));
    assert!(
        theirs.contains("the source decides shard 2 already"),
        "{theirs}"
    );
    fake.world().written.is_up = false;
    let far = refused(&mut driver, &back_of(Some(0), false));
    assert!(far.contains("does not take what is written"), "{far}");
    let pauses = on_disk(&disk).pauses.into_iter().map(|(what, _)| what);
    let expected = [
        "flip-shard-1",
        "flip-shard-0",
        "flip-shard-2",
        "back-shard-2",
    ];
    assert_eq!(pauses.collect::<Vec<_>>(), expected);
    let unfinished = driver.order(&Order::Finish);
    assert!(
        matches!(unfinished, Err(Fault::Conflict(_))),
        "the source decides one"
    );
    driver.findings().passes = 1;
    driver.order(&advance_of(Some(2))).unwrap();
    driver.order(&Order::Finish).unwrap();
    let over = driver.order(&back_of(None, false));
    assert!(matches!(over, Err(Fault::Conflict(_))), "{over:?}");
}

#[test]
fn a_flip_that_fails_leaves_the_others_as_they_were() {
    let (mut driver, fake, disk) = driver_of(by_hand());
    driver.resume();
    driver.findings().passes = 1;
    driver.order(&advance_of(Some(0))).unwrap();
    fake.world().is_primary = false;
    let undone = driver.order(&Order::Advance {
        force: true,
        way: Way::default(),
        shard: Some(1),
    });
    assert!(undone.is_err(), "it is a replica");
    fake.world().is_primary = true;
    assert_eq!(ours(&disk), [true, false, false]);
    is_at(&driver, &disk, Phase::Verify);
    // To be a replica is no way for several.
    driver.state.old_side = OldSide::Replica;
    let why = refused(&mut driver, &advance_of(None));
    assert!(why.contains("--old-side written"), "{why}");
}

#[test]
fn a_start_goes_on_with_each_side_and_loses_nothing_unseen() {
    let mut state = by_hand();
    let side = state.side_mut(1);
    (side.fence, side.written_from) = (Some(Place::new(OLD, 90)), 40);
    state.intent = Intent::Back;
    let (mut driver, fake, disk) = driver_of(state.clone());
    driver.resume();
    is_at(&driver, &disk, Phase::Verify);
    assert_eq!(ours(&disk), [false, true, false]);
    let there = fake.world().there.clone().unwrap();
    assert_eq!((there.number(), there.from), (1, 40));
    // A log that ends before what the old side has had: only the source can tell what is right.
    state.side_mut(1).written_from = 41;
    let (mut driver, fake, disk) = driver_of(state);
    driver.resume();
    assert_eq!(driver.parts().authority(), Authority::Held);
    assert!(driver.live.is_lost && fake.world().there.is_none());
    let why = refused(&mut driver, &back_of(None, false));
    assert!(why.contains("--force"), "{why}");
    driver.order(&back_of(None, true)).unwrap();
    is_at(&driver, &disk, Phase::Verify);
    assert_eq!(ours(&disk), [false; 3]);
    assert_eq!(fake.world().followed, [(1, true)], "it is copied anew");
}
