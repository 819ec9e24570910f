//! Do keys leave when they should? Ten million keys expire within a minute, each at a random moment, and one client hears of every one.
//!
//! A key's name says when its deadline is, so that whoever hears of its end knows how late that is. Nothing else is asked meanwhile.

use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};

use storage::Rng;

use crate::Bench;
use crate::client::{Client, pin};
use crate::histogram::Latencies;
use crate::memory::send;
use crate::process::{Plan, Server, stolen_seconds};
use crate::report::Report;

const KEYS: u64 = 10_000_000;
/// Deadlines lie within so long, ms...
const SPAN_MS: u64 = 60_000;
/// ...and the first one so long after the fill has begun.
const FILL_MS: u64 = 100_000;
/// After the last deadline memory is looked at for so long.
const AFTER: Duration = Duration::from_secs(10);
/// What is left of the growth, percent, when memory is back.
const LEFT_MAX: f64 = 5.0;

pub(crate) fn run(bench: &Bench<'_>) -> io::Result<Report> {
    let mut report = Report::default();
    let keys = bench.options.scaled(KEYS);
    report.note(&format!(
        "{keys} keys of 24 bytes with values of 32, their deadlines at random within {} s. Lateness of the events `expired`, ms after the \
         deadline, as one subscriber sees it. Memory: what is left of its growth a second after the last deadline, percent, and after \
         how many seconds less than {LEFT_MAX} % was. Aims: p99 at most 20 ms, memory back within a second, the longest turn below 1000 us. `stolen`: CPU time of this machine that the hypervisor gave to others while the keys expired: it counts as time of whoever ran, so also in the longest turn.",
        SPAN_MS / 1000
    ));
    report.heads(&[
        "server",
        "events",
        "p50",
        "p99",
        "max",
        "used left %",
        "resident left %",
        "used back s",
        "resident back s",
        "CPU s",
        "longest turn, CPU us",
        "stolen %",
    ]);
    for plan in [
        Plan::meridian(bench).with("--turn-cpu-clock yes"),
        Plan::redis(bench),
    ] {
        let plan = plan.with("--notify-keyspace-events Ex --client-output-buffer-limit");
        let plan = plan.with("pubsub 0 0 0");
        row(bench, &plan, keys, &mut report)?;
    }
    Ok(report)
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

fn row(bench: &Bench<'_>, plan: &Plan, keys: u64, report: &mut Report) -> io::Result<()> {
    let server = Server::start(bench, plan)?;
    let mut client = Client::connect(&server)?;
    std::thread::sleep(Duration::from_millis(500));
    let used = |client: &mut Client| -> io::Result<f64> {
        let figure = client.info("memory", "used_memory")?;
        figure.ok_or_else(|| io::Error::other("used_memory is not told"))
    };
    let (empty_used, empty) = (used(&mut client)?, server.rss_bytes()?);
    let first_ms = unix_ms() + bench.options.scaled(FILL_MS);
    send(&server, keys, |number| set(first_ms, number))?;
    if unix_ms() > first_ms {
        return Err(io::Error::other("the fill took too long"));
    }
    let (full_used, full) = (used(&mut client)?, server.rss_bytes()?);
    client.ask(&[b"CONFIG", b"RESETSTAT"])?;
    let cpu_before = server.cpu_seconds()?;
    let (begun, stolen) = (Instant::now(), stolen_seconds());
    let last_ms = first_ms + SPAN_MS;
    let name_bytes = name(first_ms, 0).len();
    let (mut late, memory) = std::thread::scope(|scope| {
        let hearing = scope.spawn(|| hear(&server, keys, name_bytes, last_ms));
        std::thread::sleep(Duration::from_millis(last_ms.saturating_sub(unix_ms())));
        let last = Instant::now();
        // By measure: what is left after a second, and when it was back.
        let mut left = [[f64::NAN; 2]; 2];
        while last.elapsed() < AFTER {
            let now = last.elapsed().as_secs_f64();
            let shares = [
                (used(&mut client)? - empty_used) / (full_used - empty_used) * 100.0,
                (server.rss_bytes()? - empty) / (full - empty) * 100.0,
            ];
            for ([after, back], share) in left.iter_mut().zip(shares) {
                if now >= 1.0 && after.is_nan() {
                    *after = share;
                }
                if share < LEFT_MAX && back.is_nan() {
                    *back = now;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let died = |_| Err(io::Error::other("the hearing thread died"));
        Ok::<_, io::Error>((hearing.join().unwrap_or_else(died)?, left))
    })?;
    let cpu_s = server.cpu_seconds()? - cpu_before;
    let stolen = (stolen_seconds() - stolen) / begun.elapsed().as_secs_f64();
    let turn = client.info("meridian", "turn_longest_cpu_us")?;
    let ms = |us: f64| format!("{:.1}", us / 1000.0);
    let [[used_left, used_back], [left, back]] = memory;
    report.row([
        server.name.to_owned(),
        late.len().to_string(),
        ms(late.us(0.50)),
        ms(late.us(0.99)),
        ms(late.us(1.0)),
        format!("{used_left:.1}"),
        format!("{left:.1}"),
        format!("{used_back:.1}"),
        format!("{back:.1}"),
        format!("{cpu_s:.1}"),
        turn.map_or(String::new(), |us| format!("{us:.0}")),
        format!("{:.1}", stolen * 100.0),
    ]);
    Ok(())
}

/// The name of a key: all are of one length.
fn name(deadline_ms: u64, number: u64) -> String {
    format!("e:{deadline_ms:013}:{number:08}")
}

fn set(first_ms: u64, number: u64) -> Vec<Vec<u8>> {
    let at_ms = first_ms + Rng::new(number).below(SPAN_MS);
    let words = [
        "SET".to_owned(),
        name(at_ms, number),
        format!("{number:032}"),
        "PXAT".to_owned(),
        at_ms.to_string(),
    ];
    words.map(String::into_bytes).to_vec()
}

/// How late each key's end was told, until all are or the time is over.
fn hear(server: &Server, keys: u64, name_bytes: usize, last_ms: u64) -> io::Result<Latencies> {
    const CHANNEL: &str = "__keyevent@0__:expired";
    pin(1);
    let mut client = Client::connect(server)?;
    client.ask(&[b"SUBSCRIBE", CHANNEL.as_bytes()])?;
    let (mut stream, _client) = client.split()?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let head = format!("*3\r\n$7\r\nmessage\r\n$22\r\n{CHANNEL}\r\n${name_bytes}\r\n");
    let message_bytes = head.len() + name_bytes + 2;
    let mut late = Latencies::default();
    let mut room = vec![0; 1 << 20];
    let mut kept = 0;
    let end_ms = last_ms + AFTER.as_millis() as u64 - 1000;
    while (late.len() as u64) < keys && unix_ms() < end_ms {
        let count = match stream.read(&mut room[kept..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_us = now.map_or(0, |now| now.as_micros());
        let all = kept + count;
        let whole = all - all % message_bytes;
        for message in room[..whole].chunks(message_bytes) {
            let digits = message.get(head.len() + 2..head.len() + 15);
            let deadline = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            let Some(at_ms) = deadline.and_then(|text| text.parse::<u128>().ok()) else {
                return Err(io::Error::other("a message that was not expected"));
            };
            late.add(now_us.saturating_sub(at_ms * 1000) * 1000);
        }
        room.copy_within(whole..all, 0);
        kept = all - whole;
    }
    Ok(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_length_and_tell_the_deadline() {
        let words = set(1_700_000_000_000, 7);
        let at: u64 = String::from_utf8_lossy(&words[4]).parse().unwrap();
        assert!((1_700_000_000_000..1_700_000_060_000).contains(&at));
        assert_eq!(words[1], name(at, 7).into_bytes());
        assert_eq!(name(at, 7).len(), name(at, 9_999_999).len());
    }
}
