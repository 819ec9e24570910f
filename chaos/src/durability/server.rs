//! The server under test: started on a folder, killed without a word.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Plan;
use crate::client::{Client, ClientError};

/// How long it may take to read its data.
const START_MAX: Duration = Duration::from_secs(60);
const START_LOOK: Duration = Duration::from_millis(5);

pub(super) struct Server {
    child: Child,
    pub(super) endpoint: String,
}

/// How a start went.
pub(super) enum Started {
    /// It serves.
    Serves(Server),
    /// It has ended by itself; its last lines.
    Refuses(String),
}

impl Server {
    /// Starts the program on a folder and waits until it serves.
    pub(super) fn start(
        plan: &Plan,
        folder: &Path,
        fsync: &str,
        is_redis: bool,
    ) -> Result<Started, ClientError> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let output = folder.join("output");
        let log = std::fs::File::create(&output)?;
        let mut child = Command::new(if is_redis {
            "redis-server"
        } else {
            &plan.binary
        })
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .args([
            "--appendonly",
            if plan.plant == super::Plant::NoLog {
                "no"
            } else {
                "yes"
            },
        ])
        .args(["--appendfsync", fsync])
        .arg("--dir")
        .arg(folder)
        .args(plan.options.iter().filter(|_| !is_redis))
        .args(
            super::keys::OPTION
                .iter()
                .filter(|_| plan.seals && !is_redis),
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
        let endpoint = format!("127.0.0.1:{port}");
        let begin = Instant::now();
        while begin.elapsed() < START_MAX {
            if child.try_wait()?.is_some() {
                let text = std::fs::read_to_string(&output).unwrap_or_default();
                return Ok(Started::Refuses(text));
            }
            let answer = Client::connect(&endpoint).and_then(|mut client| client.say("PING"));
            if answer.is_ok_and(|answer| !answer.is_error()) {
                return Ok(Started::Serves(Server { child, endpoint }));
            }
            std::thread::sleep(START_LOOK);
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(ClientError::Hung)
    }

    /// Kills it as a crash of the process would.
    pub(super) fn kill(mut self) -> Result<(), ClientError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}
