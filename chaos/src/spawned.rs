//! A redis-server of our own, on a free port of the loopback, that ends with its owner.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{Client, ClientError};

/// What is run.
const BINARY: &str = "redis-server";
/// Tries to connect while it starts, and the pause between them.
const START_TRIES_MAX: usize = 200;
const START_PAUSE: Duration = Duration::from_millis(25);

/// The process and where it listens.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    endpoint: String,
}

impl Spawned {
    /// Starts `redis-server` of PATH with nothing on disk, in the C locale (SORT ALPHA), with
    /// DEBUG allowed, and waits until it answers.
    ///
    /// # Errors
    /// If it cannot be run or does not answer within seconds.
    pub fn start(extra: &[&str]) -> Result<Self, ClientError> {
        let port = free_port()?;
        let endpoint = format!("127.0.0.1:{port}");
        let child = Command::new(BINARY)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--enable-debug-command",
                "yes",
            ])
            .args(extra)
            .env("LC_ALL", "C")
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let spawned = Self { child, endpoint };
        for _ in 0..START_TRIES_MAX {
            let answer = Client::connect(&spawned.endpoint).and_then(|mut c| c.say("PING"));
            if answer.is_ok_and(|answer| !answer.is_error()) {
                return Ok(spawned);
            }
            std::thread::sleep(START_PAUSE);
        }
        Err(ClientError::Hung)
    }

    /// `HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // It may have died already, which is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True if `redis-server` can be run.
pub fn redis_server_present() -> bool {
    Command::new(BINARY)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn free_port() -> Result<u16, ClientError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
