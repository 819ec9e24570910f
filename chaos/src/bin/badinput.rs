//! `badinput`: hostile clients beside a good one; see `chaos::badinput`.

use std::process::ExitCode;
use std::time::Duration;

use chaos::badinput::{Plan, run};
use chaos::command_line::{CommandLine, UsageError};

const USAGE: &str = "badinput --server HOST:PORT [--seconds 4] [--seed 1]
    (--seconds: for each kind of abuse)";
const SECONDS: u64 = 4;

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
    let report = match run(&plan) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{}: {error}", plan.server);
            return ExitCode::from(2);
        }
    };
    println!(
        "{:<32} {:>8} {:>8} {:>8} {:>9}  the server says to the abuser",
        "abuse", "answers", "p50 us", "p99 us", "max us"
    );
    let mut failed = false;
    for line in &report {
        println!(
            "{:<32} {:>8} {:>8} {:>8} {:>9}  {}",
            line.abuse, line.answers, line.p50_us, line.p99_us, line.max_us, line.said
        );
        if let Some(failure) = &line.failure {
            println!("FAILURE during '{}': {failure}", line.abuse);
            failed = true;
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
