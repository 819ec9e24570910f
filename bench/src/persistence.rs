//! How long SAVE takes, and how long a server needs to have it all again: five million keys on two CPUs.
//!
//! Both servers may use both CPUs; redis-server saves and loads with one thread. Seconds of saving are the client's, those of
//! loading what the server says of it at its start. Each is also told in CPU seconds, which a busy machine leaves as they are.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use storage::Rng;

use crate::Bench;
use crate::client::Client;
use crate::histogram::median;
use crate::memory::send;
use crate::process::{Plan, Server, number};
use crate::report::{Report, judged};

const KEYS: u64 = 5_000_000;
const ROUNDS: usize = 3;
/// Of redis-server's seconds.
const SAVE_MAX: f64 = 0.35;
const LOAD_MAX: f64 = 0.40;
/// A load of a busy machine takes so long at most.
const LOAD_SECONDS_MAX: Duration = Duration::from_secs(120);

/// Makes a request that fills, by its number.
type Words = fn(u64) -> Vec<Vec<u8>>;

/// A data set.
struct Data {
    name: &'static str,
    words: Words,
    /// Keys in percent of those of the first one.
    percent: u64,
}

const DATA: &[Data] = &[
    Data {
        name: "strings, 16-byte keys, 32-byte values",
        words: string,
        percent: 100,
    },
    Data {
        name: "six strings in ten, hashes, lists, sets, sorted sets of 5, every fifth expiring",
        words: mixed,
        percent: 40,
    },
];

/// What one run showed: seconds by the clock and of CPU.
#[derive(Clone, Copy, Default)]
struct Took {
    save_s: f64,
    save_cpu_s: f64,
    load_s: f64,
    load_cpu_s: f64,
}

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    report.note(&format!(
        "SAVE, then a start with the file; `x` is the median of the ratios to redis-server of the same round. Aims: {SAVE_MAX:.2} to save, \
         {LOAD_MAX:.2} to load, with two cores on two CPUs."
    ));
    for data in DATA {
        let keys = bench.options.scaled(KEYS) * data.percent / 100;
        report.note(&format!("{keys} keys: {}.", data.name));
        report.heads(&[
            "server", "save s", "CPU s", "x save", "load s", "CPU s", "x load", "file MB",
        ]);
        measured(bench, data, keys, &mut report)?;
    }
    Ok(report)
}

fn measured(bench: &Bench<'_>, data: &Data, keys: u64, report: &mut Report) -> io::Result<()> {
    let plans = [
        Plan::redis(bench).on("0,1"),
        Plan::meridian(bench).on("0,1").with("--cores 2"),
        Plan::meridian(bench).named("meridian, one core").on("0"),
    ];
    let rounds = bench.options.rounds(ROUNDS);
    let mut all: Vec<Vec<Took>> = vec![Vec::new(); plans.len()];
    let mut file_bytes = vec![0; plans.len()];
    let folders: Vec<Folder> = plans
        .iter()
        .map(|_| Folder::new())
        .collect::<Result<_, _>>()?;
    // Each is filled once; then all save and load in turn.
    for (plan, folder) in plans.iter().zip(&folders) {
        let server = Server::start(bench, &folder.of(plan))?;
        send(&server, keys, data.words)?;
        Client::connect(&server)?.ask(&[b"SAVE"])?;
    }
    for number in 0..rounds {
        let mut order: Vec<usize> = (0..plans.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            all[at].push(round(bench, &folders[at].of(&plans[at]))?);
            file_bytes[at] = std::fs::metadata(folders[at].0.join("dump.rdb"))?.len();
        }
    }
    for (at, plan) in plans.iter().enumerate() {
        let own = |figure: fn(&Took) -> f64| median(all[at].iter().map(figure));
        let x = |figure: fn(&Took) -> f64| {
            let pairs = all[at].iter().zip(&all[0]);
            median(pairs.map(|(own, redis)| figure(own) / figure(redis)))
        };
        let (save, load) = (x(|took| took.save_s), x(|took| took.load_s));
        let is_judged = at == 1;
        let (save_max, load_max) = (is_judged.then_some(SAVE_MAX), is_judged.then_some(LOAD_MAX));
        if is_judged {
            report.bar(format!("save, {} keys", keys), save, save_max);
            report.bar(format!("load, {} keys", keys), load, load_max);
        }
        report.row([
            plan.name.to_owned(),
            format!("{:.2}", own(|took| took.save_s)),
            format!("{:.2}", own(|took| took.save_cpu_s)),
            judged(save, save_max),
            format!("{:.2}", own(|took| took.load_s)),
            format!("{:.2}", own(|took| took.load_cpu_s)),
            judged(load, load_max),
            format!("{:.0}", file_bytes[at] as f64 / 1e6),
        ]);
    }
    Ok(())
}

/// Starts with what is there, then saves it.
fn round(bench: &Bench<'_>, plan: &Plan) -> io::Result<Took> {
    let server = Server::start(bench, plan)?;
    let mut client = Client::connect(&server)?;
    let begun = Instant::now();
    while client.info("persistence", "loading")? != Some(0.0) {
        if begun.elapsed() > LOAD_SECONDS_MAX {
            return Err(io::Error::other("a load does not end"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let load_cpu_s = server.cpu_seconds()?;
    let load_s = loaded_seconds(&server.said()?)?;
    // What it still has to do for its start, it has done.
    std::thread::sleep(Duration::from_millis(500));
    let before = server.cpu_seconds()?;
    let begun = Instant::now();
    let answer = client.ask(&[b"SAVE"])?;
    let save_s = begun.elapsed().as_secs_f64();
    if answer.is_error() {
        return Err(io::Error::other(format!("{}: SAVE failed", server.name)));
    }
    Ok(Took {
        save_s,
        save_cpu_s: server.cpu_seconds()? - before,
        load_s,
        load_cpu_s,
    })
}

/// From a server's log: `DB loaded from disk: 1.234 seconds`.
fn loaded_seconds(log: &str) -> io::Result<f64> {
    let line = log
        .lines()
        .rfind(|line| line.contains("DB loaded from disk"));
    let text = line.and_then(|line| line.rsplit(": ").next());
    let seconds = number(text.and_then(|text| text.split_whitespace().next()));
    if seconds > 0.0 {
        return Ok(seconds);
    }
    Err(io::Error::other("no word of a load in the log"))
}

/// A folder for the files of one server, which outlives it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        let mut rng = Rng::new(std::process::id().into());
        for _ in 0..1000 {
            let name = format!("compare-data-{:016x}", rng.next_u64());
            let path = std::env::temp_dir().join(name);
            if !path.exists() {
                std::fs::create_dir_all(&path)?;
                return Ok(Folder(path));
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn of(&self, plan: &Plan) -> Plan {
        plan.again_in(self.path())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is owed if it is gone already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Thirty-two letters that mean nothing, the same for the same number.
fn text(number: u64) -> String {
    let mut rng = Rng::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

fn bytes(words: impl IntoIterator<Item = String>) -> Vec<Vec<u8>> {
    words.into_iter().map(String::into_bytes).collect()
}

fn string(number: u64) -> Vec<Vec<u8>> {
    bytes(["SET".into(), format!("key:{number:012}"), text(number)])
}

pub(crate) fn mixed(number: u64) -> Vec<Vec<u8>> {
    let command = match number % 10 {
        6 => "HSET",
        7 => "RPUSH",
        8 => "SADD",
        9 => "ZADD",
        _ => {
            let mut words = string(number);
            if number.is_multiple_of(3) {
                let seconds = 100_000 + number % 800_000;
                words.extend([b"EX".to_vec(), seconds.to_string().into_bytes()]);
            }
            return words;
        }
    };
    let mut words = vec![command.to_owned(), format!("key:{number:012}")];
    for n in 0..5 {
        let element = format!("element{:04}", (number + n * 7) % 10_000);
        match command {
            "HSET" => words.extend([format!("field{n}"), element]),
            "ZADD" => words.extend([n.to_string(), element]),
            _ => words.push(element),
        }
    }
    bytes(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_found_in_the_logs_of_both() {
        let log = "1:M 01 Jan 2026 * DB loaded from disk: 0.750 seconds\n1:M * Ready\n";
        assert_eq!(loaded_seconds(log).unwrap(), 0.75);
        assert!(loaded_seconds("Ready\n").is_err());
    }

    #[test]
    fn values_differ_and_are_as_long_as_they_say() {
        assert_eq!(text(1).len(), 32);
        assert_ne!(text(1), text(2));
        assert_eq!(mixed(6).len(), 12);
        assert_eq!(mixed(3).last().map(Vec::len), Some(6));
    }
}
