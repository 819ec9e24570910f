//! `sim`: seeds for the simulator; see `chaos::sim`. One seed is shown with all that happened; many are played by processes
//! of their own, each a part of them: the nodes of a process stay in its memory.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

use chaos::command_line::{CommandLine, UsageError};
use chaos::sim::{Options, Plant, run};

const USAGE: &str = "sim --seed N | [--seeds 1000] [--from 1] [--jobs 2] [--plant NAME]";
/// Seeds of one process.
const PART: u64 = 250;
/// What a process says at its end.
const SUM: &str = "sum";

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
    let valued = ["--seed", "--seeds", "--from", "--plant", "--jobs"];
    let given = CommandLine::parse(words, &valued, &["--part"])?;
    let name = given.text("--plant");
    let known = |name: &str| Plant::ALL.iter().find(|(known, _)| *known == name);
    if let Some(name) = name.filter(|name| known(name).is_none()) {
        return Err(UsageError::BadValue("--plant".to_owned(), name.to_owned()));
    }
    let plant = name.and_then(known).map(|(_, plant)| *plant);
    if given.text("--seed").is_some() {
        return Ok(replay(given.value("--seed", 0)?, plant));
    }
    let (from, seeds): (u64, u64) = (given.value("--from", 1)?, given.value("--seeds", 1000)?);
    if given.switch("--part") {
        play(from, seeds, plant);
        return Ok(ExitCode::SUCCESS);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = given.value("--jobs", cores)?;
    Ok(spread(from, seeds, jobs.max(1), name))
}

/// Plays all seeds in parts, so many at a time.
fn spread(from: u64, seeds: u64, jobs: usize, plant: Option<&str>) -> ExitCode {
    let next = Mutex::new(from);
    let end = from.saturating_add(seeds);
    let sums = Mutex::new([0u64; 4]);
    let take = || {
        let mut next = next
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let part = (*next, PART.min(end - *next));
        *next += part.1;
        (part.1 > 0).then_some(part)
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((from, seeds)) = take() {
                    let sum = part(from, seeds, plant);
                    let mut sums = sums
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    sums.iter_mut().zip(sum).for_each(|(all, one)| *all += one);
                }
            });
        }
    });
    let [failed, ticks, deeds, unknown] = sums.into_inner().unwrap_or_default();
    println!(
        "{seeds} seeds, {failed} failed; {ticks} ticks, {deeds} deeds, {unknown} histories not judged"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One process: what it found is passed on, its sums come back. One that dies has failed.
fn part(from: u64, seeds: u64, plant: Option<&str>) -> [u64; 4] {
    let died = |why: String| {
        println!("seeds {from} and {seeds} on: {why}");
        [1, 0, 0, 0]
    };
    let mut command = match std::env::current_exe() {
        Ok(path) => Command::new(path),
        Err(error) => return died(error.to_string()),
    };
    command.args([
        "--part",
        "--from",
        &from.to_string(),
        "--seeds",
        &seeds.to_string(),
    ]);
    if let Some(name) = plant {
        command.args(["--plant", name]);
    }
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return died(error.to_string()),
    };
    let mut sums = None;
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        match line.strip_prefix(SUM) {
            Some(numbers) => {
                sums = numbers
                    .split_whitespace()
                    .map(|n| n.parse().ok())
                    .collect::<Option<Vec<u64>>>()
            }
            None => println!("{line}"),
        }
    }
    match (child.wait(), sums.and_then(|sums| sums.try_into().ok())) {
        (Ok(status), Some(sums)) if status.success() => sums,
        (status, _) => died(format!("{status:?}")),
    }
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

fn play(from: u64, seeds: u64, plant: Option<Plant>) {
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
    println!("{SUM} {failed} {ticks} {deeds} {unknown}");
}
