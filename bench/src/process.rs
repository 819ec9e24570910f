//! Children: servers pinned to a CPU, loads that end by themselves, and what the kernel counted for them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Bench;
use crate::client::Client;

const START_SECONDS_MAX: u64 = 20;
const STOP_SECONDS_MAX: u64 = 5;
/// Ticks of user time in /proc: USER_HZ is 100 on every Linux we run on.
const US_PER_TICK: f64 = 10_000.0;

/// Who is running now, so that an interrupt can stop exactly those.
#[derive(Clone)]
pub(crate) struct Children {
    /// A child leaves the list under this lock, before or while it is reaped: no pid here is another's.
    running: Arc<Mutex<BTreeMap<u32, Option<PathBuf>>>>,
}

impl Children {
    /// An empty list, and the thread that stops whoever is on it when we are told to end.
    pub(crate) fn new() -> io::Result<Self> {
        let children = Self {
            running: Arc::default(),
        };
        let theirs = children.clone();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                theirs.stop_all();
                std::process::exit(128 + signal);
            }
        });
        Ok(children)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Option<PathBuf>>> {
        self.running
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn stop_all(&self) {
        let running = self.lock();
        for pid in running.keys() {
            signal(*pid, Signal::TERM);
        }
        thread::sleep(Duration::from_millis(300));
        for (pid, folder) in running.iter() {
            signal(*pid, Signal::KILL);
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                // Whoever else waits for it may have been first.
                let _ = waitpid(Some(pid), WaitOptions::empty());
            }
            if let Some(folder) = folder {
                // Nothing is owed if it is gone already.
                let _ = fs::remove_dir_all(folder);
            }
        }
    }

    /// Takes a child off the list that has ended and was waited for.
    pub(crate) fn forget(&self, pid: u32) {
        self.lock().remove(&pid);
    }

    pub(crate) fn spawn(&self, command: &mut Command, folder: Option<&Path>) -> io::Result<Child> {
        let mut running = self.lock();
        let child = command.spawn()?;
        running.insert(child.id(), folder.map(Path::to_owned));
        Ok(child)
    }

    /// Runs a load to its end; `timeout` bounds it. Its standard output, or an error with its last words.
    pub(crate) fn run(&self, seconds_max: u64, words: &[String]) -> io::Result<String> {
        let mut command = Command::new("timeout");
        command
            .arg(seconds_max.to_string())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.spawn(&mut command, None)?;
        let pid = child.id();
        let output = child.wait_with_output();
        self.forget(pid);
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        let name = words.join(" ");
        Err(io::Error::other(format!(
            "{}: {last}: {name}",
            output.status
        )))
    }
}

/// To a child of ours only; it may be gone already.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// What one server is started with.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    program: PathBuf,
    /// `{port}` and `{folder}` stand for what is chosen at the start.
    args: Vec<String>,
    pub(crate) wire: Wire,
    /// For `taskset -c`.
    cpus: &'static str,
    core_ports: bool,
    tls_port: bool,
    admin_port: bool,
}

/// What is spoken to a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Resp,
    Memcached,
}

impl Plan {
    pub(crate) fn redis(bench: &Bench<'_>) -> Self {
        Self::of_redis("redis", bench.programs.redis.clone())
    }

    pub(crate) fn valkey(bench: &Bench<'_>) -> Option<Self> {
        let program = bench.programs.valkey.clone()?;
        Some(Self::of_redis("valkey", program))
    }

    fn of_redis(name: &'static str, program: PathBuf) -> Self {
        Self {
            name,
            program,
            args: words(
                "--port {port} --bind 127.0.0.1 --dir {folder} --save  --appendonly no \
                 --protected-mode no --maxclients 11000",
            ),
            wire: Wire::Resp,
            cpus: "0",
            core_ports: false,
            tls_port: false,
            admin_port: false,
        }
    }

    pub(crate) fn meridian(bench: &Bench<'_>) -> Self {
        let io = bench.options.io.as_deref().unwrap_or("auto");
        Self {
            name: "meridian",
            program: bench.programs.meridian.clone(),
            args: words(&format!(
                "--port {{port}} --bind 127.0.0.1 --dir {{folder}} --save  --protected-mode no \
                 --maxclients 11000 --cores 1 --io {io}"
            )),
            wire: Wire::Resp,
            cpus: "0",
            core_ports: false,
            tls_port: false,
            admin_port: false,
        }
    }

    /// The floor: reads, answers a fixed reply, no parsing.
    pub(crate) fn floor(bench: &Bench<'_>, io: &str) -> Option<Self> {
        Some(Self {
            name: "floor",
            program: bench.programs.responder.clone()?,
            args: words(&format!("--port {{port}} --io {io}")),
            wire: Wire::Resp,
            cpus: "0",
            core_ports: false,
            tls_port: false,
            admin_port: false,
        })
    }

    pub(crate) fn memcached(bench: &Bench<'_>) -> Option<Self> {
        Some(Self {
            name: "memcached",
            program: bench.programs.memcached.clone()?,
            // It will not run as root unless told as whom; it has memory for the largest load.
            args: words("-p {port} -U 0 -l 127.0.0.1 -t 1 -c 11000 -m 8192 -u nobody"),
            wire: Wire::Memcached,
            cpus: "0",
            core_ports: false,
            tls_port: false,
            admin_port: false,
        })
    }

    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Later words win.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.core_ports |= more.contains("{core_port}");
        self.tls_port |= more.contains("{tls_port}");
        self.admin_port |= more.contains("{admin_port}");
        self.args.extend(words(more));
        self
    }

    /// The same plan, its files in another folder, which the server does not remove.
    pub(crate) fn again_in(&self, folder: &Path) -> Self {
        let again = Self {
            program: self.program.clone(),
            args: self.args.clone(),
            ..*self
        };
        again.with(&format!("--dir {}", folder.display()))
    }

    pub(crate) fn on(mut self, cpus: &'static str) -> Self {
        self.cpus = cpus;
        self
    }
}

/// Split at single spaces: two in a row are an empty word between them.
fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// A server of ours, running; it ends with this value.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// The first of its cores' own ports, if it was started with them.
    pub(crate) core_port: u16,
    /// Where it speaks TLS, if it was started so: loads go there.
    pub(crate) tls_port: Option<u16>,
    /// Where it takes the words of operators, if it was started so.
    pub(crate) admin_port: Option<u16>,
    pub(crate) wire: Wire,
    child: Child,
    folder: PathBuf,
    children: Children,
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) fn start(bench: &Bench<'_>, plan: &Plan) -> io::Result<Self> {
        let port = free_ports(1)?;
        let core_port = if plan.core_ports { free_ports(4)? } else { 0 };
        let tls_port = if plan.tls_port {
            Some(free_ports(1)?)
        } else {
            None
        };
        let admin_port = if plan.admin_port {
            Some(free_ports(1)?)
        } else {
            None
        };
        let folder = std::env::temp_dir().join(format!("compare-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut argv: Vec<String> = Vec::new();
        if let Some(setpriv) = &bench.programs.setpriv {
            argv.extend([setpriv.display().to_string(), "--pdeathsig=KILL".to_owned()]);
        }
        argv.extend(["taskset", "-c", plan.cpus].map(str::to_owned));
        argv.push(plan.program.display().to_string());
        argv.extend(plan.args.iter().map(|word| {
            word.replace("{port}", &port.to_string())
                .replace("{core_port}", &core_port.to_string())
                .replace("{tls_port}", &tls_port.unwrap_or_default().to_string())
                .replace("{admin_port}", &admin_port.unwrap_or_default().to_string())
                .replace("{folder}", &folder.display().to_string())
        }));
        let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = bench.children.spawn(&mut command, Some(&folder))?;
        let mut server = Self {
            name: plan.name,
            port,
            core_port,
            tls_port,
            admin_port,
            wire: plan.wire,
            child,
            folder,
            children: bench.children.clone(),
        };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            let ended = self.child.try_wait()?.is_some();
            if !ended
                && Client::connect(self)
                    .and_then(|mut client| client.ping())
                    .is_ok()
            {
                return Ok(());
            }
            if ended || Instant::now() > end {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or("no word").to_owned();
                return Err(io::Error::other(format!(
                    "{} does not start: {last}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU so far, of all its threads.
    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let base = format!("/proc/{}", self.pid());
        let mut all_us = 0.0;
        for task in fs::read_dir(format!("{base}/task"))? {
            // A thread may end between the listing and the reading.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            all_us += number(text.split_whitespace().next()) / 1000.0;
        }
        let stat = fs::read_to_string(format!("{base}/stat"))?;
        // The name, in parentheses, may hold blanks; utime is the 12th field behind it.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let user_us = number(behind.split_whitespace().nth(11)) * US_PER_TICK;
        Ok(Cpu { all_us, user_us })
    }

    /// CPU so far in seconds, of threads that have ended too, in ticks of the scheduler.
    pub(crate) fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let ticks = behind.split_whitespace().skip(11).take(2);
        Ok(ticks.map(|field| number(Some(field))).sum::<f64>() * US_PER_TICK / 1e6)
    }

    pub(crate) fn rss_bytes(&self) -> io::Result<f64> {
        self.status_bytes("VmRSS")
    }

    /// The most resident memory since [`Server::forget_peak`].
    pub(crate) fn peak_bytes(&self) -> io::Result<f64> {
        self.status_bytes("VmHWM")
    }

    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
    }

    fn status_bytes(&self, field: &str) -> io::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(number(kib) * 1024.0)
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> io::Result<String> {
        fs::read_to_string(self.folder.join("log"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.pid();
        signal(pid, Signal::TERM);
        let end = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        let mut running = self.children.lock();
        // An error says that it has ended, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        running.remove(&pid);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Microseconds of CPU: all of it to the nanosecond, the part outside the kernel in ticks of the scheduler.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) all_us: f64,
    pub(crate) user_us: f64,
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all_us: self.all_us - before.all_us,
            user_us: self.user_us - before.user_us,
        }
    }
}

/// Ticks of all CPUs since the start of the machine: user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
fn ticks() -> Vec<f64> {
    let all = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = all.lines().next().unwrap_or_default();
    let fields = first.split_whitespace().skip(1);
    fields.map(|field| number(Some(field))).collect()
}

/// CPU seconds that the hypervisor has given to others, or to nobody, while this machine wanted to run.
pub(crate) fn stolen_seconds() -> f64 {
    ticks().get(7).copied().unwrap_or_default() * US_PER_TICK / 1e6
}

/// CPU seconds that the whole machine has been busy, and that our ended children and we have used.
pub(crate) fn busy_seconds() -> (f64, f64) {
    let fields = ticks();
    // user nice system, then irq softirq steal: all but idle and iowait.
    let busy: f64 = fields
        .iter()
        .take(3)
        .chain(fields.iter().skip(5).take(3))
        .sum();
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = own.rsplit(')').next().unwrap_or_default();
    let own: f64 = behind
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| number(Some(field)))
        .sum();
    (busy * US_PER_TICK / 1e6, own * US_PER_TICK / 1e6)
}

pub(crate) fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0)
}

/// The first of so many ports in a row on which nothing listens. From below the range that clients' connections take
/// theirs from, where thousands of ended ones may still wait.
fn free_ports(count: u16) -> io::Result<u16> {
    const FIRST: u16 = 21_000;
    const RANGE: u16 = 11_000;
    for _ in 0..200 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let random = now.map_or(0, |now| now.subsec_micros());
        let first = FIRST + u16::try_from(random % u32::from(RANGE)).unwrap_or(0);
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(first);
        }
    }
    Err(io::Error::other("no free ports in a row"))
}
