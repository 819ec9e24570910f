//! `differential`: plays the same commands against a subject and against Redis; see
//! `chaos::differential`.

use std::process::ExitCode;

use chaos::command_line::{CommandLine, UsageError};
use chaos::differential::{Plan, Protocols, run, self_test};

const USAGE: &str = "differential --subject HOST:PORT --oracle HOST:PORT [--ops 1000000] [--seed 1]
    [--resp 2|3|both] [--allow FILE] [--stop-after 200] [--report FILE] [--groups string,list,...]
    [--connections 4]
differential --self-test [--ops 60000] [--seed 1]";
const VALUED: [&str; 9] = [
    "--subject",
    "--oracle",
    "--ops",
    "--seed",
    "--resp",
    "--allow",
    "--stop-after",
    "--report",
    "--connections",
];
/// Requests per planted fault.
const SELF_TEST_OPS: u64 = 60_000;
const OPS: u64 = 1_000_000;
const STOP_AFTER: u64 = 200;
const CONNECTIONS: usize = 4;

fn main() -> ExitCode {
    let valued: Vec<&str> = VALUED.into_iter().chain(["--groups"]).collect();
    let given = CommandLine::parse(std::env::args().skip(1), &valued, &["--self-test"]);
    match given.and_then(|given| {
        if given.switch("--self-test") {
            test(&given)
        } else {
            play(&given)
        }
    }) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn test(given: &CommandLine) -> Result<ExitCode, UsageError> {
    let ops = given.value("--ops", SELF_TEST_OPS)?;
    let seed = given.value("--seed", 1)?;
    Ok(match self_test(ops, seed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    })
}

fn play(given: &CommandLine) -> Result<ExitCode, UsageError> {
    let plan = plan(given)?;
    let outcome = match run(&plan) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("the run cannot go on: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    print!("{}", outcome.summary);
    if let Some(path) = given.text("--report")
        && let Err(error) = std::fs::write(path, &outcome.coverage)
    {
        eprintln!("{path}: {error}");
        return Ok(ExitCode::from(2));
    }
    if let Some(why) = outcome.aborted {
        println!("the run ended early, a server is gone: {why}");
        return Ok(ExitCode::from(2));
    }
    Ok(if outcome.differences == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plan(given: &CommandLine) -> Result<Plan, UsageError> {
    let bad = |name: &str, value: &str| UsageError::BadValue(name.to_owned(), value.to_owned());
    let protocols = match given.text("--resp").unwrap_or("both") {
        "2" => Protocols::Two,
        "3" => Protocols::Three,
        "both" => Protocols::Both,
        other => return Err(bad("--resp", other)),
    };
    let allow = match given.text("--allow") {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|_| bad("--allow", path))?,
    };
    let groups = given.text("--groups").unwrap_or_default();
    Ok(Plan {
        subject: given.required("--subject")?.to_owned(),
        oracle: given.required("--oracle")?.to_owned(),
        ops: given.value("--ops", OPS)?,
        seed: given.value("--seed", 1)?,
        protocols,
        allow,
        stop_after: given.value("--stop-after", STOP_AFTER)?,
        groups: groups
            .split(',')
            .filter(|group| !group.is_empty())
            .map(str::to_owned)
            .collect(),
        connections: given.value("--connections", CONNECTIONS)?,
        quiet: false,
    })
}
