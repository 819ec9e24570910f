//! `durability`: nothing that was acknowledged may be lost by `kill -9`; see `chaos::durability`.

use std::process::ExitCode;

use chaos::command_line::{CommandLine, UsageError};
use chaos::durability::{Plan, Plant, run};

const USAGE: &str = "durability --binary PATH [--rounds 200] [--seed 1] [--cores 2] [--io auto] \
                     [--plant nothing|no-log|lost-tail|flipped-bit|old-log] [--from-redis] [--sealed]";

fn plan() -> Result<Plan, UsageError> {
    let words = std::env::args().skip(1);
    let names = [
        "--binary", "--rounds", "--seed", "--cores", "--io", "--plant",
    ];
    let given = CommandLine::parse(words, &names, &["--from-redis", "--sealed"])?;
    let plant: String = given.value("--plant", "nothing".to_owned())?;
    let cores: u32 = given.value("--cores", 2)?;
    let io: String = given.value("--io", "auto".to_owned())?;
    let options = ["--cores", &cores.to_string(), "--io", &io].map(str::to_owned);
    Ok(Plan {
        binary: given.required("--binary")?.to_owned(),
        options: options.to_vec(),
        from_redis: given.switch("--from-redis"),
        seals: given.switch("--sealed"),
        rounds: given.value("--rounds", 200)?,
        seed: given.value("--seed", 1)?,
        plant: Plant::named(&plant)
            .ok_or_else(|| UsageError::BadValue("--plant".to_owned(), plant))?,
    })
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match run(&plan) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("{}: {error}", plan.binary);
            return ExitCode::from(2);
        }
    };
    println!("{:>10}  kills", outcome.rounds);
    println!("{:>10}  operations acknowledged", outcome.acknowledged);
    println!("{:>10}  operations without an answer", outcome.open);
    println!(
        "{:>10.2}  seconds of the longest start",
        outcome.longest_start_s
    );
    match (outcome.violation, plan.plant) {
        (None, Plant::Nothing) => {
            println!("no violation");
            ExitCode::SUCCESS
        }
        (None, plant) => {
            println!("VIOLATION: nothing was found, though {plant:?} was planted");
            ExitCode::FAILURE
        }
        (Some(text), Plant::Nothing) => {
            println!("VIOLATION (seed {}): {text}", plan.seed);
            ExitCode::FAILURE
        }
        (Some(text), plant) => {
            println!("found, as {plant:?} was planted: {text}");
            ExitCode::SUCCESS
        }
    }
}
