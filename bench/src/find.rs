//! Where the programs are: named by the environment, else in PATH, else where our own build leaves them.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was found. Without the first three nothing can be compared.
pub(crate) struct Programs {
    pub(crate) meridian: PathBuf,
    pub(crate) redis: PathBuf,
    pub(crate) redis_benchmark: PathBuf,
    pub(crate) responder: Option<PathBuf>,
    pub(crate) valkey: Option<PathBuf>,
    pub(crate) memcached: Option<PathBuf>,
    pub(crate) strace: Option<PathBuf>,
    /// Lets a server die with us even if we are killed outright.
    pub(crate) setpriv: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn find() -> io::Result<Self> {
        let needed = |found: Option<PathBuf>, what: &str| {
            found.ok_or_else(|| io::Error::other(format!("{what} is not found")))
        };
        for tool in ["taskset", "timeout"] {
            needed(in_path(tool), tool)?;
        }
        let programs = Self {
            meridian: needed(
                named_or("MERIDIAN_BIN", || built("meridian")),
                "meridian (MERIDIAN_BIN, or `cargo build --release --bin meridian`)",
            )?,
            redis: needed(
                named_or("REDIS_SERVER", || in_path("redis-server")),
                "redis-server",
            )?,
            redis_benchmark: needed(
                named_or("REDIS_BENCHMARK", || in_path("redis-benchmark")),
                "redis-benchmark",
            )?,
            responder: named_or("RESPONDER_BIN", || built("examples/responder")),
            valkey: named_or("VALKEY_SERVER", || in_path("valkey-server")),
            memcached: named_or("MEMCACHED", || in_path("memcached")),
            strace: in_path("strace"),
            setpriv: in_path("setpriv"),
        };
        for (found, what) in [
            (
                &programs.responder,
                "the bare responder: no floor is measured",
            ),
            (&programs.valkey, "valkey-server"),
            (
                &programs.memcached,
                "memcached: left out of the memory of keys and connections",
            ),
            (
                &programs.strace,
                "strace: system calls of redis-server are not counted",
            ),
        ] {
            if found.is_none() {
                println!("SKIPPED: not found: {what}");
            }
        }
        Ok(programs)
    }
}

/// The first line that a program prints of its version.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("version unknown").to_owned()
}

fn named_or(variable: &str, other: impl Fn() -> Option<PathBuf>) -> Option<PathBuf> {
    match env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => other(),
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A release build of ours: where `make` puts it.
fn built(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .map(|cache| cache.join("meridian/target"));
    [folder, cache]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("release").join(name))
        .find(|path| path.is_file())
}
