//! Does the tester find anything? Two Redis servers, one behind a proxy that plants a fault.

use super::catalogue::GROUPS;
use super::faults::{FAULTS, Fault, NONE};
use super::lockstep;
use super::play::Protocols;
use super::proxy::Proxy;
use super::{Plan, RunError, run};
use crate::spawned::Spawned;

/// Lasting connections: two of each protocol.
const CONNECTIONS: usize = 4;

/// Plants every fault once, for up to `ops` requests each. True if all were found, and nothing
/// without a fault.
///
/// # Errors
/// If redis-server cannot be started, or a run cannot go on.
pub fn self_test(ops: u64, seed: u64) -> Result<bool, RunError> {
    let subject = Spawned::start(&[])?;
    let oracle = Spawned::start(&[])?;
    let ends = (subject.endpoint(), oracle.endpoint());
    let mut all = true;
    let clean = one(ends, NONE, ops, seed)?;
    println!(
        "{:<52} {}",
        NONE.name,
        if clean.is_none() {
            "nothing found, as it should be"
        } else {
            "FOUND SOMETHING"
        }
    );
    if let Some((op, what)) = clean {
        println!("    at request {op}: {what}");
        all = false;
    }
    for fault in FAULTS {
        match one(ends, fault, ops, seed)? {
            Some((op, what)) => {
                let what: String = what.chars().take(150).collect();
                println!("{:<52} found at request {op:>6}: {what}", fault.name);
            }
            None => {
                println!("{:<52} NOT FOUND in {ops} requests", fault.name);
                all = false;
            }
        }
    }
    Ok(all)
}

/// The first difference with this fault.
fn one(
    (subject, oracle): (&str, &str),
    fault: Fault,
    ops: u64,
    seed: u64,
) -> Result<Option<(u64, String)>, RunError> {
    let proxy = Proxy::start(subject, fault)?;
    let plan = Plan {
        subject: proxy.endpoint(),
        oracle: oracle.to_owned(),
        ops,
        seed,
        protocols: Protocols::Both,
        allow: String::new(),
        stop_after: 1,
        // The proxy takes each frame for the reply to one request: no messages, no waiting.
        groups: GROUPS
            .into_iter()
            .filter(|group| !lockstep::GROUPS.contains(group))
            .map(str::to_owned)
            .collect(),
        connections: CONNECTIONS,
        quiet: true,
    };
    let outcome = run(&plan)?;
    let gone = outcome.aborted.map(|why| (outcome.ops, why));
    Ok(outcome.first.or(gone))
}
