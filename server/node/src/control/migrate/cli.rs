//! `meridian migrate …`: the operator's words to the admin port of a running server, and its answers for people.
//!
//! ```text
//! exit  0 done   1 it failed   2 the words are wrong   3 not now: a condition is missing   4 tried, and undone
//! ```
//! HTTP is spoken by hand: one request a connection, a length, `Connection: close`. A client of HTTP would be a dependency for thirty lines.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use migration::assess::bytes;
use serde_json::{Value, json};

use super::http::HEADER;
use super::status;
use crate::config::{self, Disk, Start};

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long an answer may take: a flip waits for the source.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// The pause between two lines of `--watch`.
const WATCH: Duration = Duration::from_secs(1);
/// Bytes of a key file.
const KEY_BYTES_MAX: u64 = 4096;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_NOW: u8 = 3;
const UNDONE: u8 = 4;

const HELP: &str = "\
meridian migrate COMMAND [--admin HOST:PORT | --config FILE] [--json]

  plan HOST:PORT [--tls] [--keys]       looks at a Redis, or at the cluster that it is of; changes nothing
        [--old-side replica|written] [--by-scan]
  start HOST:PORT --announce HOST:PORT  copies it and follows it; it finds this server at --announce
        [--tls] [--force]
        --shard HOST:PORT for each, in the place of HOST:PORT: several that an application shards by hand
        --shard HOST:PORT=PATTERN,PATTERN   the same, and which keys each has: the first whose patterns match
        [--old-side replica|written]    what it is after the flip: this server's replica (it needs --announce), or
        [--bar-users NAME,NAME]         written to as by a client, while these users of it may not write
        [--by-scan]                     it bars PSYNC: its keys are scanned, and fetched again after their keyspace
                                        events, which it is told to send; then its old side is written
  status [--watch]                      how far it is
  advance [--force]                     the next phase: front, verify, the flip
        [--old-side …] [--bar-users …]  as of `start`; what is not said stays
        [--shard NUMBER]                of several: the one to be flipped, else the next
  back [--force] [--shard NUMBER]       the phase before; of several that were flipped: this one, else the last
  verify [--no-fetch] [--keys]          compares all keys once more, and shows what differs
  finish [--key-file FILE] [--out FILE] lets the old Redis go; prints the report, signed

The admin port is that of --admin, or admin-bind and admin-port of --config.
";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    command: String,
    server: Option<String>,
    flags: Vec<String>,
    values: Vec<(String, String)>,
}

/// Options with a value.
const VALUED: &[&str] = &[
    "--admin",
    "--config",
    "--announce",
    "--key-file",
    "--out",
    "--old-side",
    "--bar-users",
    "--shard",
];
/// Options without.
const FLAGS: &[&str] = &[
    "--tls",
    "--keys",
    "--json",
    "--force",
    "--watch",
    "--no-fetch",
    "--by-scan",
];

impl Words {
    fn parse(args: &[Vec<u8>]) -> Result<Words, String> {
        let mut words = Words::default();
        let mut args = args
            .iter()
            .map(|arg| String::from_utf8_lossy(arg).into_owned());
        words.command = args.next().ok_or("a command is missing")?;
        while let Some(arg) = args.next() {
            if VALUED.contains(&arg.as_str()) {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                words.values.push((arg, value));
            } else if FLAGS.contains(&arg.as_str()) {
                words.flags.push(arg);
            } else if arg.starts_with('-') || words.server.is_some() {
                return Err(format!("'{arg}' is not understood"));
            } else {
                words.server = Some(arg);
            }
        }
        Ok(words)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What is said of the old side, as orders have it.
    fn say_way(&self, body: &mut Value) {
        if let Some(side) = self.value("--old-side") {
            body["old_side"] = side.into();
        }
        if let Some(users) = self.value("--bar-users") {
            let users = users.split(',').filter(|user| !user.is_empty());
            body["bar_users"] = users.collect();
        }
        if self.has("--by-scan") {
            body["by_scan"] = true.into();
        }
    }

    /// Puts the source into the body of an order: one server, or several.
    fn name_source(&self, mut body: Value) -> Result<Value, Failure> {
        let shards = self.values.iter().filter(|(name, _)| name == "--shard");
        let shards: Vec<&str> = shards.map(|(_, value)| value.as_str()).collect();
        match (&self.server, shards.is_empty()) {
            (Some(server), true) => body["source"] = json!(server),
            (None, false) => body["shards"] = json!(shards),
            (None, true) => return Err((USAGE, "a Redis is missing: HOST:PORT".to_owned())),
            (Some(_), false) => {
                let why = "name one server, or each with --shard";
                return Err((USAGE, why.to_owned()));
            }
        }
        Ok(body)
    }

    /// Puts the shard into the body of an order, if one is named.
    fn name_shard(&self, mut body: Value) -> Result<Value, Failure> {
        if let Some(shard) = self.value("--shard") {
            let bad = |_| (USAGE, "--shard: a number, as `status` shows it".to_owned());
            body["shard"] = shard.parse::<u32>().map_err(bad)?.into();
        }
        Ok(body)
    }

    /// Where the admin port is.
    fn admin(&self) -> Result<String, String> {
        if let Some(admin) = self.value("--admin") {
            return Ok(admin.to_owned());
        }
        let file = self
            .value("--config")
            .ok_or("say --admin HOST:PORT, or --config FILE")?;
        let loaded = match config::from_args(&[file.as_bytes().to_vec()], &Disk) {
            Ok(Start::Run(loaded)) => loaded,
            Ok(_) => return Err(format!("{file} is no configuration")),
            Err(error) => return Err(error.to_string()),
        };
        match loaded.config.admin_port {
            0 => Err(format!("{file} opens no admin port")),
            port => {
                let host = loaded
                    .config
                    .admin_bind
                    .first()
                    .map_or("127.0.0.1", String::as_str);
                let host = match host.trim_start_matches('-') {
                    "*" | "0.0.0.0" | "::*" | "::" => "127.0.0.1",
                    host => host,
                };
                Ok(if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                })
            }
        }
    }
}

/// An answer of the admin port.
struct Answer {
    code: u16,
    body: Value,
}

fn request(admin: &str, method: &str, path: &str, body: &str) -> Result<Answer, String> {
    let named = |error: io::Error| format!("{admin}: {error}");
    let mut stream = TcpStream::connect(admin).map_err(named)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(named)?;
    let (name, value) = HEADER;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n{name}: {value}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).map_err(named)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(named)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| format!("{admin}: it is no admin port of this program"))
}

/// `HTTP/1.1 200 OK`, headers, a body of JSON.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let body = serde_json::from_str(body).ok()?;
    Some(Answer { code, body })
}

/// Runs the command of these words; what it prints goes to standard output, errors to the other.
pub fn run(args: &[Vec<u8>]) -> ExitCode {
    if args.is_empty() || args.iter().any(|arg| arg == b"--help" || arg == b"help") {
        print!("{HELP}");
        return if args.is_empty() {
            ExitCode::from(USAGE)
        } else {
            ExitCode::SUCCESS
        };
    }
    match Words::parse(args).and_then(|words| Ok((words.admin()?, words))) {
        Ok((admin, words)) => match carry_out(&admin, &words) {
            Ok(()) => ExitCode::SUCCESS,
            Err((code, why)) => {
                eprintln!("{why}");
                ExitCode::from(code)
            }
        },
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            ExitCode::from(USAGE)
        }
    }
}

type Failure = (u8, String);

fn failed(why: String) -> Failure {
    (FAILED, why)
}

/// The body of an answer that says yes.
fn granted(answer: Answer) -> Result<Value, Failure> {
    if answer.code == 200 {
        return Ok(answer.body);
    }
    let why = answer.body["error"]
        .as_str()
        .unwrap_or("no reason is told")
        .to_owned();
    Err(match answer.code {
        409 if answer.body["undone"] == true => (UNDONE, format!("tried, and undone: {why}")),
        409 => (NOT_NOW, format!("not now: {why}")),
        400 => (USAGE, why),
        _ => (FAILED, why),
    })
}

fn carry_out(admin: &str, words: &Words) -> Result<(), Failure> {
    let post = |path: &str, body: Value| {
        let answer = request(admin, "POST", path, &body.to_string()).map_err(failed)?;
        granted(answer)
    };
    let force = words.has("--force");
    let answer = match words.command.as_str() {
        "plan" => {
            let mut body = json!({"tls": words.has("--tls"), "keys": words.has("--keys")});
            words.say_way(&mut body);
            let report = post("/migrate/plan", words.name_source(body)?)?;
            print(words, &report, report["text"].as_str().unwrap_or(""));
            return match report["stops"] == true {
                true => Err((NOT_NOW, "something stands in the way".to_owned())),
                false => Ok(()),
            };
        }
        "status" => return show(admin, words),
        "start" => {
            let mut body = json!({"tls": words.has("--tls"), "force": force});
            match words.value("--announce") {
                Some(announce) => body["announce"] = announce.into(),
                None if words.value("--old-side") == Some("written") || words.has("--by-scan") => {}
                None => return Err((USAGE, "--announce HOST:PORT is missing".to_owned())),
            }
            words.say_way(&mut body);
            post("/migrate/start", words.name_source(body)?)?
        }
        "advance" => {
            let mut body = words.name_shard(json!({"force": force}))?;
            words.say_way(&mut body);
            post("/migrate/advance", body)?
        }
        "back" => post("/migrate/back", words.name_shard(json!({"force": force}))?)?,
        "verify" => {
            let done = post(
                "/migrate/verify",
                json!({"fetch": !words.has("--no-fetch")}),
            )?;
            print(words, &done, done["ok"].as_str().unwrap_or(""));
            wait_for_pass(admin)?;
            let listed = post("/migrate/differences", json!({"keys": words.has("--keys")}))?;
            print(words, &listed, &differences(&listed));
            return match listed.as_array().is_none_or(Vec::is_empty) {
                true => Ok(()),
                false => Err((NOT_NOW, "differences are open".to_owned())),
            };
        }
        "finish" => return finish(words, &post("/migrate/finish", json!({}))?),
        other => return Err((USAGE, format!("'{other}' is no command\n\n{HELP}"))),
    };
    print(words, &answer, answer["ok"].as_str().unwrap_or(""));
    Ok(())
}

fn print(words: &Words, answer: &Value, text: &str) {
    let mut out = io::stdout().lock();
    // (A pipe that is closed is its reader's choice.)
    let _ = match words.has("--json") {
        true => writeln!(out, "{answer}"),
        false => writeln!(out, "{}", text.trim_end()),
    };
}

/// Until all keys have been compared once, or something has failed.
fn wait_for_pass(admin: &str) -> Result<(), Failure> {
    loop {
        let status = granted(request(admin, "GET", "/migrate/status", "").map_err(failed)?)?;
        let verify = &status["verify"];
        if let Some(why) = verify["error"].as_str() {
            return Err(failed(why.to_owned()));
        }
        if verify["passes"].as_u64().unwrap_or(0) > 0 {
            return Ok(());
        }
        if verify["runs"] != true {
            return Err((NOT_NOW, "the comparison has been ended".to_owned()));
        }
        std::thread::sleep(WATCH);
    }
}

fn differences(listed: &Value) -> String {
    let mut out = String::new();
    for one in listed.as_array().map(Vec::as_slice).unwrap_or_default() {
        let _ = writeln!(
            out,
            "{:<8} db {:<3} {}{}",
            one["kind"].as_str().unwrap_or(""),
            one["db"],
            one["key"].as_str().unwrap_or(""),
            if one["fetched_again"] == true {
                "  (fetched again)"
            } else {
                ""
            }
        );
    }
    if out.is_empty() {
        out.push_str("no difference is listed\n");
    }
    out
}

fn show(admin: &str, words: &Words) -> Result<(), Failure> {
    let mut last: Option<Value> = None;
    loop {
        let status = granted(request(admin, "GET", "/migrate/status", "").map_err(failed)?)?;
        if !words.has("--watch") {
            print(words, &status, &status::text_of(&status));
            return Ok(());
        }
        let line = progress(&status, last.as_ref());
        let mut out = io::stdout().lock();
        let shown = match out.is_terminal() && !words.has("--json") {
            true => write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()),
            false if words.has("--json") => writeln!(out, "{status}"),
            false => writeln!(out, "{line}"),
        };
        drop(out);
        if shown.is_err() {
            return Ok(());
        }
        let phase = status["phase"].as_str().unwrap_or("");
        if matches!(phase, "idle" | "finished") {
            println!();
            return Ok(());
        }
        last = Some(status);
        std::thread::sleep(WATCH);
    }
}

/// One line: how far, how fast, how long yet.
fn progress(status: &Value, before: Option<&Value>) -> String {
    let number =
        |status: &Value, path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let now = |path: &str| number(status, path);
    let since =
        |path: &str| before.map_or(0, |before| now(path).saturating_sub(number(before, path)));
    let ms = since("/now_ms");
    let phase = status["phase"].as_str().unwrap_or("?");
    let mut line = format!("{phase:<8}");
    if status.pointer("/link/follows") != Some(&Value::Bool(true)) && phase != "reverse" {
        let (copied, of) = (now("/link/copied_bytes"), now("/link/copy_bytes"));
        let rate = (since("/link/copied_bytes") * 1000)
            .checked_div(ms)
            .unwrap_or(0);
        let _ = write!(
            line,
            " {}: {} of {}",
            status["link"]["state"].as_str().unwrap_or("?"),
            bytes(copied),
            bytes(of)
        );
        let _ = write!(
            line,
            ", {} keys, {} a second",
            now("/link/copied_keys"),
            bytes(rate)
        );
        if let Some(left_s) = of.saturating_sub(copied).checked_div(rate) {
            let _ = write!(line, ", {left_s} s left");
        }
    } else if phase == "reverse" {
        let behind = now("/reverse/offset").saturating_sub(now("/reverse/acknowledged"));
        let _ = write!(
            line,
            " old side {} behind, {} clients there",
            bytes(behind),
            now("/reverse/clients_at_old_side")
        );
    } else {
        let _ = write!(line, " {} behind", bytes(now("/link/lag_bytes")));
        let rate = (since("/verify/keys") * 1000).checked_div(ms).unwrap_or(0);
        let _ = write!(
            line,
            ", compared {} keys ({rate} a second) in {} passes, {} open differences",
            now("/verify/keys"),
            now("/verify/passes"),
            now("/verify/open")
        );
    }
    line
}

fn finish(words: &Words, done: &Value) -> Result<(), Failure> {
    let report = done["report"].as_str().unwrap_or("");
    let key = match words.value("--key-file") {
        Some(path) => Some(read_key(Path::new(path)).map_err(failed)?),
        None => None,
    };
    let signature = status::signature(report, key.as_deref());
    let signed = json!({"report": report, "signature": signature});
    if let Some(path) = words.value("--out") {
        let written = std::fs::write(path, format!("{signed}\n"));
        written.map_err(|error| failed(format!("{path}: {error}")))?;
    }
    print(words, &signed, &format!("{report}\n{signature}"));
    Ok(())
}

/// A key as it is in its file, without the end of its line.
fn read_key(path: &Path) -> Result<Vec<u8>, String> {
    let named = |why: &dyn core::fmt::Display| format!("{}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| named(&error))?;
    let mut key = Vec::new();
    file.take(KEY_BYTES_MAX + 1)
        .read_to_end(&mut key)
        .map_err(|error| named(&error))?;
    while key.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        key.pop();
    }
    match key.len() {
        0 => Err(named(&"the key is empty")),
        len if len as u64 > KEY_BYTES_MAX => Err(named(&"the key is too long")),
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Words, String> {
        let args: Vec<Vec<u8>> = text
            .split_whitespace()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        Words::parse(&args)
    }

    #[test]
    fn words_are_understood_or_named() {
        let start = words("start r:1 --announce m:2 --tls --admin 127.0.0.1:9").unwrap();
        assert_eq!(start.server.as_deref(), Some("r:1"));
        assert_eq!(start.value("--announce"), Some("m:2"));
        assert!(start.has("--tls") && !start.has("--force"));
        assert_eq!(start.admin().as_deref(), Ok("127.0.0.1:9"));
        let several = words("start --shard a:1 --shard b:2").unwrap();
        let body = several.name_source(json!({})).unwrap();
        assert_eq!(body, json!({"shards": ["a:1", "b:2"]}));
        let both = words("start c:3 --shard a:1").unwrap();
        assert_eq!(both.name_source(json!({})).unwrap_err().0, USAGE);
        for (text, why) in [
            ("", "a command is missing"),
            ("plan a b", "'b' is not understood"),
            ("plan --nope", "'--nope' is not understood"),
            ("start --announce", "--announce needs a value"),
        ] {
            assert_eq!(words(text).unwrap_err(), why);
        }
        assert!(words("status").unwrap().admin().is_err());
    }

    #[test]
    fn answers_become_exit_codes() {
        for (text, code) in [
            (
                "HTTP/1.1 409 Conflict\r\nA: b\r\n\r\n{\"error\":\"x\"}\n",
                NOT_NOW,
            ),
            (
                "HTTP/1.1 409 Conflict\r\n\r\n{\"error\":\"x\",\"undone\":true}",
                UNDONE,
            ),
            ("HTTP/1.1 400 Bad\r\n\r\n{\"error\":\"x\"}", USAGE),
            ("HTTP/1.1 500 Bad\r\n\r\n{}", FAILED),
        ] {
            assert_eq!(granted(parse(text).unwrap()).unwrap_err().0, code, "{text}");
        }
        assert!(parse("HTTP/1.1 200 OK\r\n\r\n{\"ok\":\"x\"}").is_some());
        assert!(parse("hello").is_none() && parse("HTTP/1.1 200 OK\r\n\r\nok\n").is_none());
    }

    #[test]
    fn progress_has_a_rate_and_an_end() {
        let at = |now_ms: u64, copied: u64| {
            json!({"phase": "attach", "now_ms": now_ms, "link": {"state": "copying", "follows": false,
                "copied_bytes": copied, "copy_bytes": 10 << 20, "copied_keys": 7}})
        };
        let line = progress(&at(2000, 4 << 20), Some(&at(1000, 2 << 20)));
        for part in ["4.0 MB of 10.0 MB", "2.0 MB a second", "3 s left"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(progress(&json!({}), None).contains('?'));
    }
}
