//! `sim`: seeds for the simulator; see `chaos::sim`.

use std::process::ExitCode;

use chaos::command_line::{CommandLine, UsageError};
use chaos::sim::{Options, Plant, run};

const USAGE: &str = "sim --seed N | [--seeds 1000] [--from 1] [--plant NAME]";

fn main() -> ExitCode {
    match go() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn go() -> Result<ExitCode, UsageError> {
    let words = std::env::args().skip(1);
    let given = CommandLine::parse(words, &["--seed", "--seeds", "--from", "--plant"], &[])?;
    let plant = given.text("--plant");
    let known = |name: &str| Plant::ALL.iter().find(|(known, _)| *known == name);
    if let Some(name) = plant.filter(|name| known(name).is_none()) {
        return Err(UsageError::BadValue("--plant".to_owned(), name.to_owned()));
    }
    let plant = plant.and_then(known).map(|(_, plant)| *plant);
    if let Some(seed) = given.text("--seed") {
        let _checked = seed;
        return Ok(replay(given.value("--seed", 0)?, plant));
    }
    let (from, seeds): (u64, u64) = (given.value("--from", 1)?, given.value("--seeds", 1000)?);
    Ok(play(from, seeds, plant))
}

/// One seed with all that happened.
fn replay(seed: u64, plant: Option<Plant>) -> ExitCode {
    let report = run(seed, &Options { trace: true, plant });
    report.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "seed {seed}: {} ticks, {} deeds, digest {:016x}",
        report.ticks, report.deeds, report.digest.0
    );
    if report.faults.is_empty() {
        println!("no fault");
        return ExitCode::SUCCESS;
    }
    report
        .faults
        .iter()
        .for_each(|fault| println!("FAULT: {fault}"));
    ExitCode::FAILURE
}

fn play(from: u64, seeds: u64, plant: Option<Plant>) -> ExitCode {
    let (mut failed, mut deeds, mut ticks, mut unknown) = (0, 0, 0, 0);
    for seed in from..from.saturating_add(seeds) {
        let report = run(
            seed,
            &Options {
                trace: false,
                plant,
            },
        );
        deeds += report.deeds;
        ticks += report.ticks;
        unknown += report.unknown;
        if let Some(fault) = report.faults.first() {
            failed += 1;
            println!("seed {seed}: {fault}");
        }
    }
    println!(
        "{seeds} seeds, {failed} failed; {ticks} ticks, {deeds} deeds, {unknown} histories not judged"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
