//! The same commands to a subject and to an oracle: is the subject Redis?
//!
//! ```text
//!   rows/ + values  -> grammar -> generate (+ scenarios, expiry, lockstep) -> play -> compare -> difference
//!   (what can be                  (seeded steps)                               |      (rules)    (grouped)
//!    said, in templates)                                                       +----> dump (all data)
//! ```
//!
//! Goals: every command of the groups with every option, right and wrong; a found difference can
//! be repeated from its seed; a rule for every reply that Redis leaves undefined (rule.rs).
//! Non-goals: persistence, speed.

mod allow;
mod catalogue;
mod compare;
mod coverage;
mod difference;
mod dump;
mod exchange;
mod expiry;
mod faults;
mod few;
mod generate;
mod grammar;
mod lockstep;
mod play;
mod proxy;
mod rows;
mod rule;
mod scenarios;
mod scripts;
mod self_test;
mod values;

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::answer::Answer;

pub use allow::AllowError;
pub use grammar::GrammarError;
pub use play::Protocols;
pub use self_test::self_test;

use crate::client::{Client, ClientError};
use crate::rng::Rng;
use allow::AllowList;
use catalogue::{Catalogue, GROUPS};
use coverage::Coverage;
use difference::Findings;
use generate::{Generator, Step};
use play::Player;

/// Requests between comparisons of all data.
const COMPARE_EVERY_OPS: u64 = 20_000;
/// Requests between flushes of everything: rarely, so that values grow; and batches of flushes.
const BURSTS_EVERY_OPS: u64 = 100_000;
const BURSTS: usize = 5;
/// Requests between phases with near deadlines.
const EXPIRY_EVERY_OPS: u64 = 125_000;
/// An option is well tested if it makes up this part of all requests: 1000 in a million.
const USES_PER_OPS: u64 = 1000;
/// A run shorter than that says nothing about rare options.
const COVERAGE_OPS_MIN: u64 = 200_000;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `HOST:PORT` of the server under test.
    pub subject: String,
    /// `HOST:PORT` of Redis.
    pub oracle: String,
    /// Requests to play.
    pub ops: u64,
    /// Same seed, same requests.
    pub seed: u64,
    /// Protocols of the connections.
    pub protocols: Protocols,
    /// Text of the allow-list.
    pub allow: String,
    /// Differences after which to stop.
    pub stop_after: u64,
    /// Groups of commands; none for all.
    pub groups: Vec<String>,
    /// Lasting connections.
    pub connections: usize,
    /// Print nothing while playing.
    pub quiet: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Requests played.
    pub ops: u64,
    /// Differences found that are not allowed.
    pub differences: u64,
    /// Number of the request at the first one, and what it was.
    pub first: Option<(u64, String)>,
    /// Why it ended before its time: a server is gone.
    pub aborted: Option<String>,
    /// For people.
    pub summary: String,
    /// Uses per command and option, tab-separated.
    pub coverage: String,
}

/// Why a run cannot go on.
#[derive(Debug)]
pub enum RunError {
    /// The rows cannot be read.
    Grammar(GrammarError),
    /// The allow-list cannot be read.
    Allow(AllowError),
    /// No such group of commands.
    Group(String),
    /// A server is gone.
    Client(ClientError),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grammar(error) => write!(f, "rows: {error}"),
            Self::Allow(error) => write!(f, "allow-list: {error}"),
            Self::Group(name) => write!(f, "no group '{name}'; there are {}", GROUPS.join(", ")),
            Self::Client(error) => write!(f, "server: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<ClientError> for RunError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Plays the plan.
///
/// # Errors
/// If it cannot be begun, or a server is gone and does not come back.
pub fn run(plan: &Plan) -> Result<Outcome, RunError> {
    let begin = Instant::now();
    let groups = groups(plan)?;
    let versions = (version(&plan.subject)?, version(&plan.oracle)?);
    let seven_two = versions.0 >= (7, 2) && versions.1 >= (7, 2);
    let mut coverage = Coverage::default();
    let catalogue = Catalogue::new(&groups, seven_two, &mut coverage).map_err(RunError::Grammar)?;
    let catalogue = Rc::new(catalogue);
    let allow = AllowList::parse(&plan.allow).map_err(RunError::Allow)?;
    let findings = Findings::new(plan.seed, plan.quiet);
    let ends = (plan.subject.as_str(), plan.oracle.as_str());
    let mut player = Player::connect(
        ends,
        plan.connections,
        plan.protocols,
        (coverage, findings, allow),
    )?;
    player.begin()?;
    let mut generator = Generator::new(plan.seed, Rc::clone(&catalogue), plan.connections);
    let played = play_all(plan, &catalogue, &mut generator, &mut player);
    let aborted = played.err().map(|error| error.to_string());
    let outcome = outcome(&player, begin.elapsed(), versions);
    Ok(Outcome { aborted, ..outcome })
}

/// Steps, and at intervals a comparison of all data, a burst of flushes, a phase of expiry.
fn play_all(
    plan: &Plan,
    catalogue: &Catalogue,
    generator: &mut Generator,
    player: &mut Player,
) -> Result<(), ClientError> {
    let expires = expiry::GROUPS
        .iter()
        .all(|group| catalogue.has_group(group));
    let mut rng = Rng::new(plan.seed ^ 0xE0E0);
    let mut next_burst = BURSTS_EVERY_OPS;
    let (mut next_compare, mut next_expiry, mut round) =
        (COMPARE_EVERY_OPS, EXPIRY_EVERY_OPS.min(plan.ops), 0);
    while player.ops < plan.ops && player.findings.total() < plan.stop_after {
        player.play(&generator.next_step())?;
        if player.ops >= next_compare || player.ops >= plan.ops {
            next_compare += COMPARE_EVERY_OPS;
            player.settle(&HashSet::new())?;
            if player.ops >= next_burst || player.ops >= plan.ops {
                next_burst += BURSTS_EVERY_OPS;
                for step in (0..BURSTS).filter_map(|_| generator.burst()) {
                    player.play(&step)?;
                }
            }
            if !plan.quiet {
                println!(
                    "... {} requests, {} differences",
                    player.ops,
                    player.findings.total()
                );
            }
        }
        if expires && player.ops >= next_expiry {
            next_expiry += EXPIRY_EVERY_OPS;
            let (before, after) = expiry::requests(&mut rng, round);
            round += 1;
            player.play(&Step::Batch {
                connection: 0,
                ops: before,
            })?;
            std::thread::sleep(expiry::PAUSE);
            player.play(&Step::Batch {
                connection: 0,
                ops: after,
            })?;
            player.settle(&HashSet::new())?;
        }
    }
    Ok(())
}

fn groups(plan: &Plan) -> Result<Vec<String>, RunError> {
    if plan.groups.is_empty() {
        return Ok(GROUPS.iter().map(|group| (*group).to_owned()).collect());
    }
    match plan
        .groups
        .iter()
        .find(|group| !GROUPS.contains(&group.as_str()))
    {
        Some(unknown) => Err(RunError::Group(unknown.clone())),
        None => Ok(plan.groups.clone()),
    }
}

/// Major and minor version of a server, by INFO; 0.0 if it does not say.
fn version(endpoint: &str) -> Result<(u32, u32), ClientError> {
    let info = Client::connect(endpoint)?.say("INFO server")?;
    let text = match info {
        Answer::Bulk(text) | Answer::Verbatim { text, .. } => {
            String::from_utf8_lossy(&text).into_owned()
        }
        _ => String::new(),
    };
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let mut parts = line
        .unwrap_or_default()
        .split('.')
        .map(|part| part.parse().unwrap_or_default());
    Ok((
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    ))
}

fn outcome(player: &Player, elapsed: Duration, versions: ((u32, u32), (u32, u32))) -> Outcome {
    let ((ours_major, ours_minor), (theirs_major, theirs_minor)) = versions;
    let good = player.replies.saturating_sub(player.errors);
    let share = 100.0 * good as f64 / player.replies.max(1) as f64;
    let mut summary = format!(
        "subject {ours_major}.{ours_minor}, oracle {theirs_major}.{theirs_minor}: {} requests in {:.1} s ({:.0}/s), {share:.1} % of the replies are no errors, {} keys and {} messages compared\n",
        player.ops,
        elapsed.as_secs_f64(),
        player.ops as f64 / elapsed.as_secs_f64().max(0.001),
        player.keys_compared,
        player.told,
    );
    for (command, reason, uses) in player.allow.uses().filter(|(.., uses)| *uses > 0) {
        summary.push_str(&format!("{uses:>8}  allowed: {command} ({reason})\n"));
    }
    if player.ops >= COVERAGE_OPS_MIN {
        for row in player
            .coverage
            .rows()
            .filter(|row| row.uses < player.ops / USES_PER_OPS)
        {
            summary.push_str(&format!(
                "WARNING: {} was played only {} times\n",
                row.name, row.uses
            ));
        }
    }
    summary.push_str(&format!(
        "{} differences\n{}",
        player.findings.total(),
        player.findings.summary()
    ));
    Outcome {
        aborted: None,
        ops: player.ops,
        differences: player.findings.total(),
        first: player
            .findings
            .first
            .clone()
            .map(|first| (player.findings.first_op, first)),
        summary,
        coverage: player.coverage.to_tsv(),
    }
}
