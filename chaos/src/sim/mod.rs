//! The simulator: a real node, all of its cores, on a network, clocks and a disk that are not real, from one seed.
//!
//! ```text
//!   seed ──> world.rs: which of all that can happen happens next
//!              ├── runtime::sim: the cores' own loop and mailboxes, turned by hand
//!              │     └── node::NodeService: dispatch, transactions, blocking, pub/sub, scripts, aside work: as in production
//!              ├── client.rs + players/: who plays, and the books they keep
//!              └── disk.rs: what a crash leaves
//!   at the end: players' books and check/ say whether what was seen can be right
//! ```
//! One seed, one run: the same steps, requests, replies and times, byte by byte (a test compares whole traces). So a seed that
//! fails fails again, under a debugger and with its trace: `make sim SEED=n`.
//!
//! Arithmetic: a run is some thousands of ticks and takes 10 to 40 ms; its node stays in memory as a server's does, under
//! 1 MiB, so that a process plays some hundred seeds and the program starts new ones.

mod client;
mod disk;
mod forge;
mod keeping;
mod machine;
mod players;
mod trace;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use node::config::Config;
use protocol::answer::Answer;

use crate::rng::Rng;
use client::Client;
use disk::SimDisk;
use keeping::Keeping;
use machine::Plan;
use players::channels::{Publisher, Subscriber};
use players::deadlines::Keeper;
use players::keys::Caller;
use players::queues::{self, Consumer, Producer};
use players::rewrites::Rewriter;
use players::sums::{self, Teller};
use players::{Asker, Facts, Player};
use trace::Trace;
use world::{Weather, World};

/// The hash seed of every simulated process: SCAN's order depends on it.
const HASH_SEED: u64 = 0;
/// Most cores, and most clients beside the world's own.
const CORES_MAX: usize = 4;
const CLIENTS_MAX: usize = 7;
/// Zeros that a disk wants behind the log, bytes, at most.
const ROOM_BYTES_MAX: usize = 2048;
/// What a run does at most: things noted in books, and ticks.
const DEEDS_MAX: usize = 160;
const TICKS_MAX: usize = 40_000;
/// How long what is under way may take to end once all is well, simulated us: longer than the longest timeout of a pop.
const END_US: u64 = 5_000_000;
/// With `everysec`: how long what was answered may take until it outlives a crash, us: a second, and what the log's thread may
/// be late.
const LAG_US: u64 = 1_200_000;
/// How long clients rest with `everysec`, so that a run lasts for seconds; us.
const RESTS_US_MAX: usize = 100_000;
/// Of 100 runs so many have a disk whose files are sealed.
const SEALED_PERCENT: usize = 40;
/// The world's own client.
const ASKER: usize = 0;

/// A fault put into a run on purpose, to prove that its judge sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Transfers are not wrapped in MULTI.
    TornTransactions,
    /// WATCH watches nothing.
    WatchIgnored,
    /// Mails of a turn are delivered last first.
    MailReordered,
    /// Now and then a mail is lost.
    MailLost,
    /// Cores are not woken for their mail.
    BellsLost,
    /// Syncs do nothing.
    SyncsLost,
    /// Checksums are not verified: what is damaged on the disk has sums that fit.
    SumsFit,
    /// Frames are not whole or nothing: of one a first part is read.
    FramesTorn,
}

impl Plant {
    /// All of them, with the names that the command line knows.
    pub const ALL: [(&'static str, Plant); 8] = [
        ("torn-transactions", Plant::TornTransactions),
        ("watch-ignored", Plant::WatchIgnored),
        ("mail-reordered", Plant::MailReordered),
        ("mail-lost", Plant::MailLost),
        ("bells-lost", Plant::BellsLost),
        ("syncs-lost", Plant::SyncsLost),
        ("sums-fit", Plant::SumsFit),
        ("frames-torn", Plant::FramesTorn),
    ];
}

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep the trace.
    pub trace: bool,
    /// Plant a fault.
    pub plant: Option<Plant>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// What must not be.
    pub faults: Vec<String>,
    /// What happened, if it was to be kept.
    pub trace: Vec<String>,
    /// The digest of all that happened and the number of its lines, likewise.
    pub digest: (u64, u64),
    /// Things done: calls on keys, looks at sums, items, messages.
    pub deeds: usize,
    /// Histories that could not be judged in reasonable time.
    pub unknown: usize,
    /// Ticks.
    pub ticks: u64,
}

/// Plays one seed.
pub fn run(seed: u64, options: &Options) -> Report {
    storage::seed_process(HASH_SEED);
    match catch_unwind(AssertUnwindSafe(|| play(seed, options))) {
        Ok(report) => report,
        Err(panic) => Report {
            faults: vec![format!("panicked: {}", panic_text(&*panic))],
            ..Report::default()
        },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_default()
}

fn play(seed: u64, options: &Options) -> Report {
    let mut rng = Rng::new(seed);
    let cores = 1 + rng.below(CORES_MAX);
    let keeping = Keeping::draw(&mut rng, options.plant);
    let runtime = runtime_config(cores, &mut rng);
    let mut config = node_config(&mut rng);
    config.appendonly = keeping.logs;
    config.appendfsync = machine::policy(keeping.always);
    let plan = Plan {
        cores,
        config,
        runtime,
        disk: SimDisk::new(rng.next()),
        seals: Rng::new(!seed).percent(SEALED_PERCENT),
        items_per_turn: 1 + rng.below(8),
    };
    let mut room = Rng::new(seed.rotate_left(32));
    if room.percent(50) {
        plan.disk.set_room(room.below(ROOM_BYTES_MAX) as u64);
    }
    let mut facts = Facts::new(options.plant);
    facts.lag_us = if keeping.always { 0 } else { LAG_US };
    let books = (facts, Trace::new(options.trace));
    let mut world = match World::new(Rng::new(rng.next()), plan, books) {
        Ok(world) => world,
        Err(error) => return Report::failed(format!("no world: {error}")),
    };
    let mut asker = Client::new(ASKER, Box::new(Asker));
    asker.rests_until_us = u64::MAX;
    world.clients.push(asker);
    set_up(&mut world);
    if keeping.logs && !keeping.always {
        // What the players rely upon is on the disk.
        world.rest(LAG_US);
        world.rests_us_max = RESTS_US_MAX;
    }
    for number in 1..=2 + rng.below(CLIENTS_MAX - 1) {
        let player = player(number as u64, &mut rng);
        world.clients.push(Client::new(number, player));
    }
    world.weather = weather(options.plant, &mut rng);
    keeping.spoil(&mut world);
    for life in 0..=keeping.stops {
        let deeds_max = 20 + rng.below(DEEDS_MAX) / (keeping.stops + 1);
        live(&mut world, deeds_max);
        if !world.facts.faults().is_empty() {
            break;
        }
        if life < keeping.stops && !keeping.stop(&mut world, life, &mut rng) {
            // What is damaged was told: that is the end of it.
            return report(world);
        }
    }
    keeping.mend(&mut world);
    finish(&mut world);
    report(world)
}

/// Lets so much happen.
fn live(world: &mut World, deeds_max: usize) {
    let (begin, before) = (world.facts.step, deeds(&world.facts));
    while deeds(&world.facts) - before < deeds_max && world.facts.step - begin < TICKS_MAX as u64 {
        if !world.tick() || !world.facts.faults().is_empty() {
            return;
        }
    }
}

/// Parts of the runtime that only show at their limits: lanes and buffers are small.
fn runtime_config(cores: usize, rng: &mut Rng) -> runtime::Config {
    let pick = |rng: &mut Rng, of: &[usize]| rng.pick(of).copied().unwrap_or(1);
    runtime::Config {
        cores,
        mailbox_len_max: pick(rng, &[1, 2, 8, 1024]),
        buffer_bytes: pick(rng, &[64, 512, 16 << 10]),
        buffer_count: 64,
        ..runtime::Config::default()
    }
}

fn node_config(rng: &mut Rng) -> Config {
    let pick = |rng: &mut Rng, of: &[u32]| rng.pick(of).copied().unwrap_or(0);
    let mut config = Config::default();
    // Times of requests are real: nothing may depend on them.
    config.slowlog_log_slower_than_us = -1;
    config.databases = 2;
    // Snapshots are asked for by players.
    config.save.clear();
    config.aside_min_steps = pick(rng, &[0, 1, 4, 4096]);
    config
}

fn player(number: u64, rng: &mut Rng) -> Box<dyn Player> {
    match rng.below(16) {
        0..=3 => Box::new(Caller::new()),
        4..=5 => Box::new(Teller::new()),
        6..=7 => Box::new(Producer::new()),
        8..=10 => Box::new(Consumer::new()),
        11 => Box::new(Publisher::new(number)),
        12 => Box::<Subscriber>::default(),
        13 | 14 => Box::<Rewriter>::default(),
        _ => Box::new(Keeper::new(number)),
    }
}

fn weather(plant: Option<Plant>, rng: &mut Rng) -> Weather {
    let mut some = |of: usize| if rng.percent(50) { rng.below(of) } else { 0 };
    Weather {
        resets: some(100),
        starvings: some(1000),
        jumps: some(200),
        deafness: if plant == Some(Plant::BellsLost) {
            3000
        } else {
            0
        },
    }
}

fn deeds(facts: &Facts) -> usize {
    facts.keys.len() + facts.sums.looks + facts.queues.len() + facts.channels.len()
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn set_up(world: &mut World) {
    let balance = |account: &&str| format!(" {account} {}", sums::BALANCE);
    let balances: String = sums::ACCOUNTS.iter().map(balance).collect();
    for line in [format!("MSET{balances}"), "MSET p0 0 p1 0 p2 0".to_owned()] {
        if world.ask(ASKER, words(&line)) != Some(Answer::Simple(b"OK".to_vec())) {
            world.facts.fault("the world cannot be set up".to_owned());
        }
    }
}

/// All becomes quiet, and all books are closed.
fn finish(world: &mut World) {
    world.calm_down();
    world.rest(END_US);
    if !world.facts.faults().is_empty() {
        return;
    }
    for at in 0..world.clients.len() {
        let client = &world.clients[at];
        if client.is_stuck() {
            let name = client.player.name();
            world
                .facts
                .fault(format!("client {at} ({name}) waits for ever"));
        }
    }
    close_queues(world);
    close_keys(world);
    let all = format!("MGET {}", sums::ACCOUNTS.join(" "));
    match world.ask(ASKER, words(&all)) {
        Some(answer) => sums::looked(&mut world.facts, &answer),
        None => world
            .facts
            .fault("the node does not answer any more".to_owned()),
    }
    let channels = world.facts.channels.judge();
    let keys = world.facts.keys.judge();
    channels
        .into_iter()
        .chain(keys)
        .for_each(|fault| world.facts.fault(fault));
    clean_up(world);
}

/// Nobody waits for a queue in which there is something; and what is in the queues is what was not taken.
fn close_queues(world: &mut World) {
    let mut requests: Vec<(&str, String)> = queues::LISTS
        .iter()
        .map(|list| (*list, format!("LRANGE {list} 0 -1")))
        .collect();
    requests.push((queues::ZSET, format!("ZRANGE {} 0 -1", queues::ZSET)));
    for (queue, line) in requests {
        let answer = world.ask(ASKER, words(&line));
        let Some(Answer::Array(items)) = answer else {
            world.facts.fault(format!("{line}: {answer:?}"));
            continue;
        };
        for item in &items {
            if let Answer::Bulk(name) = item
                && let Err(what) = world.facts.queues.take(name)
            {
                world.facts.fault(format!("{queue}: {what}"));
            }
        }
        for client in &world.clients {
            let waits = client
                .player
                .waits_for()
                .is_some_and(|queues| queues.contains(queue));
            if waits && !items.is_empty() {
                let at = client.number;
                world.facts.fault(format!(
                    "client {at} waits for {queue}, where {items:?} are"
                ));
                break;
            }
        }
    }
    let lost = world.facts.queues.judge();
    lost.into_iter().for_each(|fault| world.facts.fault(fault));
}

fn close_keys(world: &mut World) {
    let step = world.facts.step;
    for (words, call) in world.facts.keys.last_reads(step) {
        let answer = world.ask(ASKER, words);
        let at = (world.facts.step, world.facts.mono_us);
        world.facts.keys.end(call, answer, at);
    }
}

/// Nothing is left behind: not a byte of data, and every invariant of the shards holds.
fn clean_up(world: &mut World) {
    world.services().for_each(|service| service.shard().check());
    if world.ask(ASKER, words("FLUSHALL")).is_none() {
        return world.facts.fault("FLUSHALL is not answered".to_owned());
    }
    world.rest(END_US);
    let mut left = Vec::new();
    for service in world.services() {
        let shard = service.shard();
        shard.check();
        left.push((shard.db_bytes(0), shard.has_garbage()));
    }
    if left.iter().any(|(bytes, garbage)| *bytes > 0 || *garbage) {
        world.facts.fault(format!(
            "after FLUSHALL there are bytes (and garbage): {left:?}"
        ));
    }
}

impl Report {
    fn failed(why: String) -> Report {
        Report {
            faults: vec![why],
            ..Report::default()
        }
    }
}

fn report(world: World) -> Report {
    Report {
        faults: world.facts.faults().to_vec(),
        digest: world.trace.digest(),
        deeds: deeds(&world.facts),
        unknown: world.facts.keys.unknown,
        ticks: world.facts.step,
        trace: world.trace.lines(),
    }
}
