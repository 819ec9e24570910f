//! Meridian beside the servers it is compared with, on one machine: `compare PART`.
//!
//! ```text
//!   compare speed | kernel | cores | memory | connections | growth | tls | log | long-requests | eviction |
//!           snapshot | persistence | expiry | maxmemory | backfill | front | all
//!           --quick           a tenth of the load: shows that it works, measures nothing
//!           --rounds N        instead of each part's own number of rounds
//!           --only WORD       of `speed`: the cases whose name holds the word
//!           --io uring|epoll  how Meridian and the responder wait for the kernel (default: Meridian's choice)
//!           --spread          of `cores`: both cores on CPUs 0 and 1, load unpinned (default: both on CPU 0)
//!           --out FOLDER      for PART.md and PART.svg (default bench/results)
//! ```
//!
//! What is compared is found in PATH or named by the environment: MERIDIAN_BIN, RESPONDER_BIN, REDIS_SERVER,
//! REDIS_BENCHMARK, VALKEY_SERVER, MEMCACHED. What is absent is skipped aloud.
//!
//! The method: servers stay up together, pinned to CPU 0, the load to CPU 1. They are loaded one at a time, forward
//! in even rounds and backward in odd ones, and each figure is divided by redis-server's of the same round: the
//! median of those ratios survives a noisy machine. The figure that is most steady is the server's own CPU time per
//! request (us/req), from the scheduler's count in nanoseconds.
//!
//! Every load is bounded by a count and by time. Only our own children are stopped, by pid, also when interrupted.

mod backfill;
mod bound;
mod caches;
mod client;
mod connections;
mod cores;
mod eviction;
mod expiry;
mod find;
mod floor;
mod front;
mod growth;
mod histogram;
mod kernel;
mod load;
mod log;
mod long;
mod memory;
mod persistence;
mod process;
mod report;
mod snapshot;
mod speed;
mod tls;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use find::Programs;
use process::Children;
use report::Report;

/// What was asked for on the command line.
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    pub(crate) quick: bool,
    pub(crate) rounds: Option<usize>,
    pub(crate) only: Option<String>,
    pub(crate) io: Option<String>,
    pub(crate) spread: bool,
    pub(crate) out: PathBuf,
}

impl Options {
    /// The asked number of rounds, else one in a quick run, else the part's own.
    pub(crate) fn rounds(&self, own: usize) -> usize {
        self.rounds
            .unwrap_or(if self.quick { own.min(2) } else { own })
    }

    /// A load's size: a tenth of it in a quick run.
    pub(crate) fn scaled(&self, requests: u64) -> u64 {
        if self.quick { requests / 10 } else { requests }
    }
}

/// All that a part works with.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) programs: &'a Programs,
    pub(crate) children: &'a Children,
}

/// A name on the command line, and what it runs.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// It tells the longest turn of a core.
    has_turns: bool,
    run: fn(&Bench<'_>) -> io::Result<Report>,
}

const PARTS: &[Part] = &[
    Part {
        name: "speed",
        has_turns: false,
        run: speed::run,
    },
    Part {
        name: "kernel",
        has_turns: false,
        run: kernel::run,
    },
    Part {
        name: "cores",
        has_turns: false,
        run: cores::run,
    },
    Part {
        name: "memory",
        has_turns: false,
        run: memory::run,
    },
    Part {
        name: "connections",
        has_turns: false,
        run: connections::run,
    },
    Part {
        name: "growth",
        has_turns: true,
        run: growth::run,
    },
    Part {
        name: "tls",
        has_turns: false,
        run: tls::run,
    },
    Part {
        name: "log",
        has_turns: false,
        run: log::run,
    },
    Part {
        name: "long-requests",
        has_turns: true,
        run: long::run,
    },
    Part {
        name: "eviction",
        has_turns: false,
        run: eviction::run,
    },
    Part {
        name: "snapshot",
        has_turns: true,
        run: snapshot::run,
    },
    Part {
        name: "persistence",
        has_turns: false,
        run: persistence::run,
    },
    Part {
        name: "expiry",
        has_turns: true,
        run: expiry::run,
    },
    Part {
        name: "maxmemory",
        has_turns: true,
        run: bound::run,
    },
    Part {
        name: "backfill",
        has_turns: false,
        run: backfill::run,
    },
    Part {
        name: "front",
        has_turns: false,
        run: front::run,
    },
];

const USAGE: &str = "usage: compare speed|kernel|cores|memory|connections|growth|tls|log|long-requests|eviction|\
snapshot|persistence|expiry|maxmemory|backfill|front|all \
[--quick] [--rounds N] [--only WORD] [--io uring|epoll] [--spread] [--out FOLDER]";

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match compare(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} parts could not be measured");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("compare: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts one after another; a part that fails does not keep the others from running.
fn compare(options: &Options) -> io::Result<usize> {
    let children = Children::new()?;
    let programs = Programs::find()?;
    let bench = Bench {
        options,
        programs: &programs,
        children: &children,
    };
    let machine = report::machine(&programs);
    let mut failed = 0;
    for part in &options.parts {
        let begun = Instant::now();
        println!("\n# {}", part.name);
        match (part.run)(&bench) {
            Ok(mut report) => {
                if part.has_turns {
                    floor::note(&mut report, options.quick);
                }
                if options.quick {
                    report.note(
                        "**A quick run: it shows that the program works and measures nothing.**",
                    );
                }
                report.write(&options.out, part.name, &machine)?;
            }
            Err(why) => {
                eprintln!("{}: {why}", part.name);
                failed += 1;
            }
        }
        println!(
            "({} took {:.0} s)",
            part.name,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(failed)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        parts: Vec::new(),
        quick: false,
        rounds: None,
        only: None,
        io: None,
        spread: false,
        out: PathBuf::from("bench/results"),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => options.quick = true,
            "--spread" => options.spread = true,
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                options.rounds = Some(rounds.ok_or("--rounds needs a number above 0")?);
            }
            "--only" => options.only = Some(value()?),
            "--io" => options.io = Some(value()?),
            "--out" => options.out = PathBuf::from(value()?),
            "all" => options.parts = PARTS.to_vec(),
            name => match PARTS.iter().find(|part| part.name == name) {
                Some(part) => options.parts.push(*part),
                None => return Err(format!("unknown word {name}")),
            },
        }
    }
    if options.parts.is_empty() {
        return Err("no part is named".to_owned());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn parts_and_flags_are_read_in_any_order() {
        let options = parsed("--quick kernel --rounds 7 speed").unwrap();
        let names: Vec<_> = options.parts.iter().map(|part| part.name).collect();
        assert_eq!(names, ["kernel", "speed"]);
        assert_eq!(options.rounds(5), 7);
        assert_eq!(options.scaled(1000), 100);
        assert_eq!(parsed("all").unwrap().parts.len(), PARTS.len());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["", "fast", "speed --rounds", "speed --rounds 0", "--quick"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
