//! Hostile clients, one kind after the other, while a good client is timed.
//!
//! The good client sends 1000 GETs a second, each with a known answer; its latencies are printed
//! without abuse and for every kind of abuse (abuses.rs). The server fails if it dies, hangs, or
//! answers the good client wrong. Slowness is printed and judged by people: it depends on the
//! machine.

mod abuses;
mod good;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{Client, ClientError};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `HOST:PORT`.
    pub server: String,
    /// For how long the good client is timed, without abuse and at least with each.
    pub duration: Duration,
    /// For garbage.
    pub seed: u64,
}

/// One line of the report.
#[derive(Debug)]
pub struct Timed {
    /// The kind of abuse.
    pub abuse: &'static str,
    /// Answers to the good client.
    pub answers: usize,
    /// Its latencies in microseconds.
    pub p50_us: u128,
    /// 99 of 100 answers came within that.
    pub p99_us: u128,
    /// The slowest.
    pub max_us: u128,
    /// What the server said to the abuser.
    pub said: String,
    /// What went wrong for the good client, or for the server.
    pub failure: Option<String>,
}

/// Runs all kinds of abuse.
///
/// # Errors
/// If the server cannot be reached at the beginning.
pub fn run(plan: &Plan) -> Result<Vec<Timed>, ClientError> {
    good::prepare(&plan.server)?;
    let mut report = Vec::new();
    for (name, abuse) in abuses::ABUSES {
        let timed = during(plan, name, *abuse);
        let failed = timed.failure.is_some();
        report.push(timed);
        if failed {
            break;
        }
    }
    Ok(report)
}

/// Times the good client while one kind of abuse goes on.
fn during(plan: &Plan, name: &'static str, abuse: abuses::Abuse) -> Timed {
    let stop = AtomicBool::new(false);
    let (said, result) = thread::scope(|scope| {
        let good = scope.spawn(|| good::get_all_the_time(&plan.server, &stop));
        let begin = std::time::Instant::now();
        let said = abuse(&plan.server, plan.seed, plan.duration);
        thread::sleep(plan.duration.saturating_sub(begin.elapsed()));
        stop.store(true, Ordering::Relaxed);
        let result = good
            .join()
            .unwrap_or_else(|_| Err("the good client panicked".to_owned()));
        (said, result)
    });
    let (mut latencies, failure) = match result {
        Ok(latencies) => (latencies, alive(&plan.server)),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    latencies.sort_unstable();
    let at = |per_mille: usize| {
        latencies
            .get((latencies.len().saturating_sub(1)) * per_mille / 1000)
            .map_or(0, Duration::as_micros)
    };
    Timed {
        abuse: name,
        answers: latencies.len(),
        p50_us: at(500),
        p99_us: at(990),
        max_us: at(1000),
        said: said.unwrap_or_else(|error| error.to_string()),
        failure,
    }
}

/// A new connection must be served.
fn alive(server: &str) -> Option<String> {
    match Client::connect(server).and_then(|mut client| client.say("PING")) {
        Ok(answer) if !answer.is_error() => None,
        Ok(answer) => Some(format!(
            "PING is answered by {}",
            crate::text::answer_line(&answer)
        )),
        Err(error) => Some(format!("a new client is not served: {error}")),
    }
}
