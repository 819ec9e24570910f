//! The client that does nothing wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use protocol::answer::Answer;

use crate::client::{Client, ClientError};

/// Keys it reads.
const KEYS: usize = 100;
/// Pause between two requests: 1000 a second.
const PERIOD: Duration = Duration::from_millis(1);
/// An answer that takes longer means that the server hangs.
const HUNG_AFTER: Duration = Duration::from_secs(5);

fn key(index: usize) -> Vec<u8> {
    format!("good:{index}").into_bytes()
}

fn value(index: usize) -> Vec<u8> {
    format!("value {index}").into_bytes()
}

/// Writes what is read later.
pub(super) fn prepare(server: &str) -> Result<(), ClientError> {
    let mut client = Client::connect(server)?;
    for index in 0..KEYS {
        client.call(&[b"SET", &key(index), &value(index)])?;
    }
    Ok(())
}

/// GETs until told to stop: the latencies, or what went wrong.
pub(super) fn get_all_the_time(server: &str, stop: &AtomicBool) -> Result<Vec<Duration>, String> {
    let lost = |error: ClientError| format!("the good client lost its server: {error}");
    let mut client = Client::connect(server).map_err(lost)?;
    client.set_reply_timeout(HUNG_AFTER).map_err(lost)?;
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What is late is not made up for: latency is measured from the sending.
        due = (due + PERIOD).max(Instant::now());
        let index = latencies.len() % KEYS;
        let begin = Instant::now();
        let answer = client.call(&[b"GET", &key(index)]).map_err(lost)?;
        latencies.push(begin.elapsed());
        if answer != Answer::Bulk(value(index)) {
            return Err(format!(
                "the good client got {} for {}",
                crate::text::answer_line(&answer),
                String::from_utf8_lossy(&key(index))
            ));
        }
    }
    Ok(latencies)
}
