//! redis-benchmark on CPU 1, and what it cost the server.

use std::io;
use std::time::Instant;

use crate::Bench;
use crate::process::{Server, busy_seconds, number};

const SECONDS_MAX: u64 = 120;

/// One run of redis-benchmark.
#[derive(Clone)]
pub(crate) struct Load {
    /// `-t get`, or a command of one's own.
    pub(crate) what: &'static str,
    pub(crate) pipeline: u32,
    pub(crate) requests: u64,
    pub(crate) connections: u32,
    /// For `taskset -c`.
    pub(crate) cpus: &'static str,
}

impl Load {
    /// Fifty connections from CPU 1: the common case.
    pub(crate) fn of(what: &'static str, pipeline: u32, requests: u64) -> Self {
        Self {
            what,
            pipeline,
            requests,
            connections: 50,
            cpus: "1",
        }
    }

    pub(crate) fn run(&self, bench: &Bench<'_>, server: &Server) -> io::Result<Sample> {
        let (port, tls) = match server.tls_port {
            Some(port) => (port, "--tls --insecure"),
            None => (server.port, ""),
        };
        let program = bench.programs.redis_benchmark.display();
        let (pipeline, requests, connections) = (self.pipeline, self.requests, self.connections);
        let line = format!(
            "taskset -c {} {program} -h 127.0.0.1 -p {port} -c {connections} -n {requests} \
             -P {pipeline} -r 1000000 -d 64 --csv {tls} {}",
            self.cpus, self.what
        );
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let (busy_before, own_before) = busy_seconds();
        let cpu_before = server.cpu()?;
        let begun = Instant::now();
        let text = bench.children.run(SECONDS_MAX, &words)?;
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = server.cpu()?.since(cpu_before);
        let (busy, own) = busy_seconds();
        let others = (busy - busy_before) - (own - own_before) - cpu.all_us / 1e6;
        let requests = requests as f64;
        Ok(Sample {
            ops: rate(&text)?,
            us: cpu.all_us / requests,
            user_us: cpu.user_us / requests,
            noise: (others / seconds).max(0.0),
        })
    }
}

/// What one run showed.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Requests a second, as the client counted them.
    pub(crate) ops: f64,
    /// Server CPU per request.
    pub(crate) us: f64,
    /// Of that, outside the kernel.
    pub(crate) user_us: f64,
    /// Cores that others than the server and its load kept busy.
    pub(crate) noise: f64,
}

/// The second field of the last line: `"GET","123456.00",...`.
fn rate(csv: &str) -> io::Result<f64> {
    let line = csv.lines().rfind(|line| line.starts_with('"'));
    let field = line.and_then(|line| line.split("\",\"").nth(1));
    let rate = number(field.map(|field| field.trim_matches('"')));
    if rate > 0.0 {
        return Ok(rate);
    }
    Err(io::Error::other(format!(
        "redis-benchmark printed no rate: {csv:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_line() {
        let text = "\"test\",\"rps\",\"avg\"\n\"SET\",\"1.50\",\"2\"\n\"GET\",\"250.25\",\"2\"\n";
        assert_eq!(rate(text).unwrap(), 250.25);
        assert!(rate("WARNING").is_err());
        assert!(rate("\"test\",\"rps\",\"avg\"\n").is_err());
    }
}
