//! `atomicity`: transfers that must never be seen half done; see `chaos::atomicity`.

use std::process::ExitCode;
use std::time::Duration;

use chaos::atomicity::{Plan, run};
use chaos::command_line::{CommandLine, UsageError};

const USAGE: &str = "atomicity --server HOST:PORT [--seconds 60] [--seed 1]";
const SECONDS: u64 = 60;

fn plan() -> Result<Plan, UsageError> {
    let words = std::env::args().skip(1);
    let given = CommandLine::parse(words, &["--server", "--seconds", "--seed"], &[])?;
    Ok(Plan {
        server: given.required("--server")?.to_owned(),
        duration: Duration::from_secs(given.value("--seconds", SECONDS)?),
        seed: given.value("--seed", 1)?,
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
    match run(&plan) {
        Ok(outcome) => {
            for (name, count) in &outcome.counts {
                println!("{count:>10}  {name}");
            }
            match outcome.violation {
                Some(text) => {
                    println!("VIOLATION (seed {}): {text}", plan.seed);
                    ExitCode::FAILURE
                }
                None => {
                    println!("no violation");
                    ExitCode::SUCCESS
                }
            }
        }
        Err(error) => {
            eprintln!("{}: {error}", plan.server);
            ExitCode::from(2)
        }
    }
}
