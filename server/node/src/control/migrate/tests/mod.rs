//! The driver against a script of a node and a source: all phases forward and back, and what may go wrong between.

mod sides;
mod written;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use migration::flip::Found;
use migration::written::Mark;
use migration::written::strays::Calls;
use migration::{Authority, Bar, Intent, OldSide, Phase, Place, Server, Side, Slots, State};

use super::drive::{Bounds, Driver, Survey};
use super::order::{Fault, Means, Order, Way};
use super::parts::{Kept, LinkNow, Parts, Peer, ReadBack, Sharded, Stragglers};
use super::written::{There, WrittenNow};
use super::{locked, store};
use crate::control::log::tests::{Failing, MemoryDisk};

const OLD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const PATH: &str = "d/meridian-migration.state";

/// Both sides, in memory.
pub(super) struct World {
    now_us: u64,
    // The source.
    answers: bool,
    version: (u64, u64),
    is_primary: bool,
    follows_us: bool,
    fenced: bool,
    at: Place,
    second: Option<Place>,
    /// It asks for its place so long after it was turned, us.
    asks_after_us: u64,
    turned_us: u64,
    made: usize,
    // The node.
    told_as: Option<(u64, u64)>,
    authority: Authority,
    pub(super) follows: bool,
    in_flight: usize,
    expected: bool,
    own: Place,
    kept: Option<Place>,
    requests: (u64, u64),
    notes: Vec<String>,
    /// The source's disk does not hold what the source holds.
    is_unsaved: bool,
    calls: Vec<&'static str>,
    // Of an old Redis that is written to.
    there: Option<There>,
    written: WrittenNow,
    log_end: Option<u64>,
    mark: Option<Mark>,
    /// What its user `app` may call.
    commands: String,
    counts: Calls,
    stood: Option<Place>,
    ended_ms: Option<u64>,
    /// Of a cluster: what it says of its nodes, and which shards have been followed anew, by a copy or not.
    pub(super) nodes: String,
    pub(super) followed: Vec<(u16, bool)>,
    /// It is followed by scan, and how a sweep ends.
    scans: bool,
    swept: Option<Result<(), String>>,
}

#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<World>>);

impl Fake {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.0)
    }
}

impl Parts for Fake {
    fn now_ms(&self) -> u64 {
        self.world().now_us / 1000
    }
    fn mono_us(&self) -> u64 {
        self.world().now_us
    }
    fn rest(&self, time: Duration) {
        let mut world = self.world();
        world.now_us += time.as_micros() as u64;
        world.in_flight = world.in_flight.saturating_sub(1);
    }
    fn is_loaded(&self) -> bool {
        true
    }
    fn kept(&self) -> Kept {
        self.world().kept.clone().map_or(Kept::Nothing, Kept::At)
    }
    fn prepare_flip(&self) -> Result<(), String> {
        Ok(())
    }
    fn tell_as(&self, version: Option<(u64, u64)>) {
        self.world().told_as = version;
    }
    fn follow(&self, _: &Server, _: Option<&Place>) -> Result<(), String> {
        self.world().follows = true;
        Ok(())
    }
    fn follow_by_scan(&self, _: &Server) -> Result<(), String> {
        let mut world = self.world();
        (world.follows, world.scans) = (true, true);
        Ok(())
    }
    fn sweep(&self) {
        let world = &mut *self.world();
        assert!(world.fenced, "who writes meanwhile is missed");
        world.calls.push("sweep");
    }
    fn swept(&self) -> Option<Result<(), String>> {
        self.world().swept.clone()
    }
    fn follow_all(&self, _: &[Sharded], _: bool) -> Result<(), String> {
        self.world().follows = true;
        Ok(())
    }
    fn follow_shard(&self, shard: &Sharded, copies: bool) -> Result<(), String> {
        self.world().followed.push((shard.number, copies));
        Ok(())
    }
    fn follow_others(&self, _: &[Sharded]) -> Result<(), String> {
        self.world().follows = true;
        Ok(())
    }
    fn follow_shard_at(&self, shard: &Sharded, _: &Place) -> Result<(), String> {
        let mut world = self.world();
        world.follows = true;
        world.followed.push((shard.number, false));
        Ok(())
    }
    fn unfollow_shard(&self, _: u16) {}
    fn own_shard(&self, _: u16, all: bool) {
        let mut world = self.world();
        world.follows &= !all;
    }
    fn drop_shard(&self, _: u16) {}
    fn links(&self) -> Vec<LinkNow> {
        vec![self.link(); 3]
    }
    fn unfollow(&self) {
        self.world().follows = false;
    }
    fn leave(&self) {
        self.world().follows = false;
    }
    fn link(&self) -> LinkNow {
        let world = self.world();
        LinkNow {
            state: "connected",
            follows: world.follows && world.is_primary,
            at: world.at.clone(),
            ..LinkNow::default()
        }
    }
    fn set_upstream(&self, _: Option<&Server>) -> Result<(), String> {
        Ok(())
    }
    fn set_upstreams(&self, _: &[Sharded]) -> Result<(), String> {
        Ok(())
    }
    fn unsettle(&self, _: &Slots) {}
    fn authority(&self) -> Authority {
        self.world().authority
    }
    fn hold(&self) {
        self.world().authority = Authority::Held;
    }
    fn in_flight(&self) -> usize {
        self.world().in_flight
    }
    fn unblock(&self) {}
    fn release(&self, authority: Authority) {
        let mut world = self.world();
        assert!(
            authority != Authority::Own || world.phase_is_own(),
            "this node decides while the source does"
        );
        world.authority = authority;
    }
    fn expect(&self, _: &Place) {
        self.world().expected = true;
    }
    fn asked(&self) -> Option<Place> {
        let world = self.world();
        let asks = world.follows_us && world.now_us >= world.turned_us + world.asks_after_us;
        (world.expected && asks).then(|| world.at.clone())
    }
    fn answer(&self, grants: bool) {
        let mut world = self.world();
        world.expected = false;
        if grants {
            world.second = Some(world.at.clone());
            world.at = world.own.clone();
        }
    }
    fn take_over(&self, place: &Place, _: bool) -> Result<(), String> {
        let mut world = self.world();
        world.made += 1;
        world.own = Place::new(&format!("{:040x}", world.made), place.offset);
        world.kept = Some(place.clone());
        Ok(())
    }
    fn end(&self) -> Place {
        self.world().own.clone()
    }
    fn acknowledged(&self) -> Option<u64> {
        let world = self.world();
        world.follows_us.then_some(world.at.offset)
    }
    fn said_all(&self) -> Option<Place> {
        Some(self.world().own.clone())
    }
    fn requests(&self) -> (u64, u64) {
        self.world().requests
    }
    fn write_there(&self, there: There) {
        let mut world = self.world();
        world.written.is_up = true;
        world.written.there = there.from;
        world.there = Some(there);
    }
    fn stop_writing(&self, _: u16) {
        self.world().there = None;
    }
    fn drop_queue(&self, _: u16) {
        assert!(self.world().there.is_none(), "the line reads it");
    }
    fn written(&self, _: u16) -> WrittenNow {
        self.world().written.clone()
    }
    fn log_end(&self) -> Option<u64> {
        self.world().log_end
    }
    fn end_keys(&self, until_ms: u64, _: Option<&Sharded>) -> Result<(), String> {
        self.world().ended_ms = Some(until_ms);
        Ok(())
    }
    fn stand(&self, place: &Place, _: Option<u16>) -> Result<(), String> {
        self.world().stood = Some(place.clone());
        Ok(())
    }
    fn sync_log(&self, _: u64) -> Result<(), String> {
        Ok(())
    }
    fn writes(&self, name: &str) -> bool {
        matches!(name, "set" | "incr")
    }
    fn note(&self, text: &str) {
        self.world().notes.push(text.to_owned());
    }
}

impl World {
    fn phase_is_own(&self) -> bool {
        !self.is_primary || !self.follows
    }

    fn say(&mut self, what: &'static str) -> Result<(), String> {
        self.calls.push(what);
        self.now_us += 100;
        match self.answers {
            true => Ok(()),
            false => Err("it does not answer".to_owned()),
        }
    }
}

impl Peer for Fake {
    fn wait_at_most(&mut self, _: Duration) {}
    fn ask(&mut self, _: Option<&Server>) -> Result<Found, String> {
        let mut world = self.world();
        world.say("ask")?;
        Ok(Found {
            is_primary: world.is_primary,
            follows_us: world.follows_us,
            at: world.at.clone(),
            second: world.second.clone(),
        })
    }
    fn version(&mut self) -> Result<(u64, u64), String> {
        Ok(self.world().version)
    }
    fn min_replicas(&mut self) -> Result<u64, String> {
        Ok(3)
    }
    fn fence(&mut self, _: Duration, by_replicas: bool) -> Result<(), String> {
        self.world().say("fence")?;
        assert_eq!(by_replicas, self.world().version < (6, 2));
        self.world().fenced = true;
        Ok(())
    }
    fn unfence(&mut self, min_replicas: Option<u64>) -> Result<(), String> {
        self.world().say("unfence")?;
        let expected = (self.world().version < (6, 2)).then_some(3);
        assert_eq!(min_replicas, expected);
        self.world().fenced = false;
        Ok(())
    }
    fn make_replica(&mut self, _: &Server) -> Result<(), String> {
        let mut world = self.world();
        world.say("replicaof")?;
        (world.is_primary, world.follows_us) = (false, true);
        world.turned_us = world.now_us;
        Ok(())
    }
    fn make_primary(&mut self) -> Result<(), String> {
        let mut world = self.world();
        world.say("no one")?;
        if !world.is_primary {
            (world.is_primary, world.follows_us) = (true, false);
            world.second = Some(world.at.clone());
            world.made += 1;
            let history = format!("{:040x}", world.made);
            world.at.history = history;
        }
        Ok(())
    }
    fn keep_in_file(&mut self) -> Result<bool, String> {
        Ok(true)
    }
    fn nodes(&mut self) -> Result<String, String> {
        Ok(self.world().nodes.clone())
    }
    fn unsaved(&mut self) -> Result<Option<String>, String> {
        let waits = self.world().is_unsaved;
        Ok(waits.then(|| "its log is written anew".to_owned()))
    }
    fn stragglers(&mut self) -> Result<Stragglers, String> {
        Ok(Stragglers {
            clients: 2,
            refused: 5,
        })
    }
    fn may_be_written(&mut self) -> Result<String, String> {
        self.world().say("whoami")?;
        Ok("migrator".to_owned())
    }
    fn commands_of(&mut self, user: &str) -> Result<String, String> {
        self.world().say("getuser")?;
        match user {
            "app" => Ok(self.world().commands.clone()),
            _ => Err("no such user".to_owned()),
        }
    }
    fn bar(&mut self, _: &str) -> Result<String, String> {
        let mut world = self.world();
        world.say("bar")?;
        assert!(
            world.fenced || world.phase_is_own(),
            "who is not fenced writes meanwhile"
        );
        world.commands = "+@all -@write".to_owned();
        Ok(world.commands.clone())
    }
    fn unbar(&mut self, bar: &Bar) -> Result<(), String> {
        let mut world = self.world();
        world.say("unbar")?;
        world.commands.clone_from(&bar.commands);
        Ok(())
    }
    fn keep_users(&mut self) -> Result<bool, String> {
        Ok(true)
    }
    fn read_back(&mut self, _: &[u8]) -> Result<ReadBack, String> {
        let mut world = self.world();
        world.say("read back")?;
        Ok(ReadBack {
            mark: world.mark.clone(),
            place: Place::new(OLD, 500),
            now_ms: 77,
        })
    }
    fn forget(&mut self, _: &[u8]) -> Result<(), String> {
        self.world().say("forget")
    }
    fn calls(&mut self) -> Result<Calls, String> {
        self.world().say("calls")?;
        Ok(self.world().counts.clone())
    }
}

pub(super) fn server(host: &str) -> Server {
    Server {
        host: host.to_owned(),
        port: 6379,
        tls: false,
    }
}

/// A driver that finds this state, and its world.
pub(super) fn driver(state: State) -> (Driver<Fake>, Fake, MemoryDisk) {
    let at = Place::new(OLD, 100);
    let is_reverse = state.phase == Phase::Reverse;
    let fake = Fake(Arc::new(Mutex::new(World {
        now_us: 1_000_000,
        answers: true,
        version: (7, 0),
        told_as: None,
        is_primary: !is_reverse,
        follows_us: is_reverse,
        fenced: false,
        at: at.clone(),
        second: None,
        asks_after_us: 1000,
        turned_us: 0,
        made: 1,
        authority: state.phase.authority(),
        follows: false,
        in_flight: 0,
        expected: false,
        own: at.clone(),
        kept: Some(at),
        requests: (0, 0),
        notes: Vec::new(),
        is_unsaved: false,
        calls: Vec::new(),
        there: None,
        written: WrittenNow::default(),
        log_end: Some(40),
        mark: None,
        commands: "+@all -@dangerous".to_owned(),
        counts: Calls::new(),
        stood: None,
        ended_ms: None,
        nodes: String::new(),
        followed: Vec::new(),
        scans: false,
        swept: Some(Ok(())),
    })));
    let (disk, peer) = (MemoryDisk::default(), fake.clone());
    let connect = move |_: &Server| Ok(Box::new(peer.clone()) as Box<dyn Peer>);
    let assess = |_: &[Server], _: Means| Ok(Survey::default());
    let bounds = Bounds {
        pause_max: Duration::from_millis(100),
        error_budget: 100,
    };
    let driver = Driver::new(
        fake.clone(),
        (Arc::new(disk.clone()), PATH.into()),
        state,
        (Box::new(connect), Box::new(assess)),
        bounds,
    );
    (driver, fake, disk)
}

fn state(phase: Phase) -> State {
    State {
        phase,
        sources: vec![server("old")],
        announce: Some(server("new")),
        sides: vec![Side {
            fence: (phase == Phase::Reverse).then(|| Place::new(OLD, 100)),
            ..Side::default()
        }],
        ..State::default()
    }
}

/// None before anything was written.
pub(super) fn on_disk_now(disk: &MemoryDisk) -> Option<State> {
    store::read(disk, Path::new(PATH)).unwrap()
}

fn on_disk(disk: &MemoryDisk) -> State {
    disk.crash();
    store::read(disk, Path::new(PATH)).unwrap().unwrap()
}

fn is_at(driver: &Driver<Fake>, disk: &MemoryDisk, phase: Phase) {
    assert_eq!(driver.state.phase, phase);
    assert_eq!(driver.parts().authority(), phase.authority());
    assert_eq!(on_disk(disk).phase, phase);
    assert_eq!(on_disk(disk).intent, Intent::None);
}

fn advance() -> Order {
    Order::Advance {
        force: false,
        way: Way::default(),
        shard: None,
    }
}

fn back() -> Order {
    Order::Back {
        force: false,
        shard: None,
    }
}

fn start() -> Order {
    Order::Start {
        sources: vec![server("old")],
        patterns: vec![],
        announce: Some(server("new")),
        force: false,
        way: Way::default(),
    }
}

#[test]
fn all_the_way_forward_back_from_each_phase_and_to_the_end() {
    let (mut driver, fake, disk) = driver(State::default());
    assert!(matches!(driver.order(&advance()), Err(Fault::Conflict(_))));
    driver.order(&start()).unwrap();
    is_at(&driver, &disk, Phase::Attach);
    assert!(matches!(driver.order(&start()), Err(Fault::Conflict(_))));
    for to in [Phase::Front, Phase::Verify] {
        driver.order(&advance()).unwrap();
        is_at(&driver, &disk, to);
    }
    for to in [Phase::Front, Phase::Attach] {
        driver.order(&back()).unwrap();
        is_at(&driver, &disk, to);
    }
    driver.order(&advance()).unwrap();
    driver.order(&advance()).unwrap();
    let held = driver.order(&advance());
    assert!(
        matches!(&held, Err(Fault::Conflict(why)) if why.contains("no comparison")),
        "{held:?}"
    );
    driver.findings().passes = 1;
    fake.world().in_flight = 3;
    driver.order(&advance()).unwrap();
    is_at(&driver, &disk, Phase::Reverse);
    assert!(!fake.world().fenced, "the old Redis can take the stream");
    assert!(driver.live.pause_us > 0 && driver.live.pause_us < 100_000);
    fake.world().is_unsaved = true;
    assert!(matches!(driver.order(&back()), Err(Fault::Conflict(why)) if why.contains("log")));
    is_at(&driver, &disk, Phase::Reverse);
    fake.world().is_unsaved = false;
    driver.order(&back()).unwrap();
    is_at(&driver, &disk, Phase::Verify);
    assert!(fake.world().is_primary);
    driver.findings().passes = 1;
    driver.order(&advance()).unwrap();
    driver.order(&Order::Finish).unwrap();
    is_at(&driver, &disk, Phase::Finished);
    let report = driver.report();
    for part in ["source", "pause, flip", "pause, back", "differences found"] {
        assert!(report.contains(part), "{report}");
    }
    assert!(matches!(driver.order(&back()), Err(Fault::Conflict(_))));
}

#[test]
fn giving_up_before_the_flip_leaves_the_source_as_it_was() {
    let (mut driver, fake, disk) = driver(State::default());
    driver.order(&start()).unwrap();
    driver.order(&back()).unwrap();
    is_at(&driver, &disk, Phase::Idle);
    assert!(fake.world().calls.is_empty(), "the source was told nothing");
}

#[test]
fn a_flip_that_takes_too_long_is_undone() {
    for what in ["proof", "requests"] {
        let (mut driver, fake, disk) = driver(state(Phase::Verify));
        driver.resume();
        driver.findings().passes = 1;
        match what {
            "proof" => fake.world().asks_after_us = 60_000_000,
            _ => fake.world().in_flight = usize::MAX,
        }
        let done = driver.order(&advance());
        assert!(
            matches!(&done, Err(Fault::Undone(why)) if why.contains("longest pause")),
            "{what} {done:?}"
        );
        is_at(&driver, &disk, Phase::Verify);
        let world = fake.world();
        assert!(world.is_primary && !world.fenced && world.follows, "{what}");
        assert!(
            driver.live.pause_us >= 100_000 && driver.live.pause_us < 200_000,
            "{what}"
        );
    }
}

#[test]
fn an_old_redis_is_told_nothing_that_it_does_not_know() {
    let (mut driver, fake, disk) = driver(state(Phase::Verify));
    driver.resume();
    assert_eq!(fake.world().told_as, None);
    driver.findings().passes = 1;
    fake.world().version = (6, 0);
    // It would need longer than is permitted.
    let refused = driver.order(&advance());
    assert!(
        matches!(&refused, Err(Fault::Conflict(why)) if why.contains("migrate-pause-max-ms 1500")),
        "{refused:?}"
    );
    assert_eq!(driver.state.phase, Phase::Verify);
    assert!(!fake.world().calls.contains(&"fence"), "nothing was begun");
    driver.bounds.pause_max = Duration::from_millis(1500);
    // It does not ask in time, and later it does.
    fake.world().asks_after_us = 60_000_000;
    let undone = driver.order(&advance());
    assert!(matches!(undone, Err(Fault::Undone(_))), "{undone:?}");
    let count = |what| {
        fake.world()
            .calls
            .iter()
            .filter(|call| **call == what)
            .count()
    };
    assert_eq!((count("fence"), count("unfence")), (1, 1));
    assert!(!fake.world().fenced);
    fake.world().asks_after_us = 1000;
    driver.order(&advance()).unwrap();
    is_at(&driver, &disk, Phase::Reverse);
    assert_eq!(fake.world().told_as, Some((6, 0)));
    assert!(!fake.world().fenced);
    // One that is newer than the state says is told so.
    fake.world().version = (6, 2);
    driver.tick();
    assert_eq!(fake.world().told_as, Some((6, 2)));
    is_at(&driver, &disk, Phase::Reverse);
    fake.world().version = (6, 0);
    fake.world().now_us += 2_000_000;
    driver.tick();
    driver.order(&Order::Finish).unwrap();
    assert_eq!(fake.world().told_as, None);
    // The next start tells it so from the first byte, and so it is until the migration is given up.
    let mut found = state(Phase::Verify);
    found.old_version = Some((6, 0));
    let (mut driver, fake, _) = super::tests::driver(found);
    driver.resume();
    assert_eq!(fake.world().told_as, Some((6, 0)));
    while driver.state.phase != Phase::Idle {
        assert_eq!(fake.world().told_as, Some((6, 0)));
        driver.order(&back()).unwrap();
    }
    assert_eq!(
        (driver.state.old_version, fake.world().told_as),
        (None, None)
    );
}

#[test]
fn a_disk_that_is_full_holds_the_flip_and_nothing_is_half_done() {
    let (mut driver, fake, disk) = driver(state(Phase::Verify));
    driver.resume();
    driver.findings().passes = 1;
    disk.fail(Failing {
        writes: true,
        ..Failing::default()
    });
    assert!(matches!(driver.order(&advance()), Err(Fault::Undone(_))));
    assert!(fake.world().is_primary);
    assert_eq!(fake.world().authority, Authority::Front);
    disk.fail(Failing::default());
    driver.tick();
    is_at(&driver, &disk, Phase::Verify);
}

#[test]
fn a_start_finishes_what_was_proven_and_undoes_what_was_not() {
    let flip = || Intent::Flip {
        at: Place::new(OLD, 90),
        min_replicas: None,
    };
    for (kept, turned, expected) in [
        (100, true, Phase::Reverse),
        (90, true, Phase::Verify),
        (100, false, Phase::Verify),
    ] {
        let mut found = state(Phase::Verify);
        found.intent = flip();
        let (mut driver, fake, disk) = driver(found);
        {
            let mut world = fake.world();
            world.kept = Some(Place::new(OLD, kept));
            (world.is_primary, world.follows_us) = (!turned, turned);
            world.authority = Authority::Held;
        }
        driver.resume();
        is_at(&driver, &disk, expected);
        assert_eq!(fake.world().is_primary, expected == Phase::Verify);
    }
}

#[test]
fn what_is_not_known_is_left_open_and_asked_again() {
    let mut found = state(Phase::Verify);
    found.intent = Intent::Flip {
        at: Place::new(OLD, 90),
        min_replicas: None,
    };
    let (mut driver, fake, disk) = driver(found);
    fake.world().answers = false;
    driver.resume();
    assert!(driver.live.is_open);
    assert_eq!(fake.world().authority, Authority::Front);
    assert!(matches!(driver.order(&advance()), Err(Fault::Conflict(_))));
    fake.world().answers = true;
    fake.world().now_us += 5_000_000;
    driver.tick();
    assert!(!driver.live.is_open);
    is_at(&driver, &disk, Phase::Verify);
}

#[test]
fn data_older_than_the_flip_does_not_decide() {
    let (mut driver, fake, disk) = driver(state(Phase::Reverse));
    fake.world().kept = None;
    driver.resume();
    assert!(driver.live.is_lost);
    assert_eq!(fake.world().authority, Authority::Held);
    assert!(matches!(driver.order(&back()), Err(Fault::Conflict(_))));
    let forced = Order::Back {
        force: true,
        shard: None,
    };
    driver.order(&forced).unwrap();
    is_at(&driver, &disk, Phase::Verify);
    assert!(fake.world().is_primary && fake.world().follows);
}

/// A source was killed on the way back, after it had been made primary and before its file said so.
#[test]
fn a_source_that_comes_back_as_a_replica_is_made_a_primary_again() {
    for phase in [Phase::Attach, Phase::Front, Phase::Verify] {
        let (mut driver, fake, _) = driver(state(phase));
        driver.resume();
        {
            let mut world = fake.world();
            (world.is_primary, world.follows_us) = (false, true);
            world.now_us += 5_000_000;
        }
        driver.tick();
        assert_eq!(driver.state.phase, phase);
        let world = fake.world();
        assert!(world.is_primary && !world.follows_us, "{phase:?}");
    }
}

#[test]
fn an_old_redis_that_comes_back_as_a_primary_is_made_a_replica_again() {
    let (mut driver, fake, disk) = driver(state(Phase::Reverse));
    driver.resume();
    is_at(&driver, &disk, Phase::Reverse);
    {
        let mut world = fake.world();
        (world.is_primary, world.follows_us) = (true, false);
        world.now_us += 5_000_000;
    }
    driver.tick();
    assert!(fake.world().follows_us);
    assert_eq!(driver.live.returned, 1);
    assert_eq!(driver.seen().stragglers.clients, 2);
}

#[test]
fn a_spent_error_budget_takes_the_flip_back() {
    for (refusals, expected) in [(50, Phase::Reverse), (500, Phase::Verify)] {
        let (mut driver, fake, disk) = driver(state(Phase::Verify));
        driver.resume();
        driver.findings().passes = 1;
        driver.order(&advance()).unwrap();
        fake.world().requests = (2000, refusals);
        fake.world().now_us += 2_000_000;
        driver.tick();
        is_at(&driver, &disk, expected);
    }
}

#[test]
fn the_status_has_everything_and_no_name_of_a_key() {
    let (mut driver, _, _) = driver(state(Phase::Verify));
    driver.resume();
    let status = driver.status();
    assert_eq!(status["phase"], "verify");
    assert_eq!(status["source"], "old:6379");
    assert_eq!(status["link"]["offset"], 100);
    assert!(super::status::text_of(&status).contains("finds this node at new:6379"));
}
