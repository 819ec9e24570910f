//! The threads of the log: one that drives it, and one that reads it at the start.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use runtime::CoreId;

use super::import::{self, Import};
use super::manifest::{Place, named};
use super::recover;
use super::replay::{Posts, Spread};
use super::switch::Switched;
use super::writer::{Past, Writer};
use super::{Heard, WriteLog};
use crate::config::{AppendFsync, Config};
use crate::control::disk::Disk;
use crate::control::sealed::Input;
use crate::mail::Mail;
use crate::node::Node;
use crate::start::unix_ms;

/// Where a configuration has its log.
pub fn place(config: &Config) -> Place {
    Place {
        folder: Path::new(&config.dir).join(&config.appenddirname),
        name: config.appendfilename.clone(),
    }
}

/// Starts the thread that drives the log, on a disk; it ends with the process.
///
/// # Errors
/// When it cannot be started.
pub fn drive(node: &'static Node, disk: Arc<dyn Disk>) -> io::Result<()> {
    let log = &node.write_log;
    log.set_hears(Box::new(move |heard| hear(node, heard)));
    let thread = std::thread::Builder::new().name("log".to_owned());
    let thread = thread.spawn(move || {
        loop {
            if switch(node, &disk, unix_ms()) {
                tell_first_core(node);
            }
            let patience = node.write_log.step();
            wake_cores(node);
            if !patience.is_zero() {
                std::thread::park_timeout(patience);
            }
        }
    })?;
    log.set_thread(thread.thread().clone());
    Ok(())
}

/// Turns the log on or off, if that was asked for; whether the first core is to be told. At `now_ms`, unix ms.
pub fn switch(node: &Node, disk: &Arc<dyn Disk>, now_ms: u64) -> bool {
    let log = &node.write_log;
    let Some(switched) = log.step_switch((disk, &node.vault), || place(&node.config()), now_ms)
    else {
        return false;
    };
    match switched {
        Switched::Opened(Ok(())) | Switched::Closed(Ok(())) => {}
        Switched::Opened(Err(error)) => {
            let folder = place(&node.config()).folder;
            node.log(|log| {
                log.warning(&format!(
                    "Can't make the log of writes in {}: {error}",
                    folder.display()
                ));
            });
            node.snapshots.note(|facts| facts.rewrites.fail());
        }
        Switched::Closed(Err(error)) => node.log(|log| {
            log.warning(&format!(
                "The last writes were not logged before the log was turned off: {error}"
            ));
        }),
    }
    true
}

/// Tells the first core that the log was turned on or off.
pub fn tell_first_core(node: &Node) {
    if let Some(handle) = node.handle() {
        // (It looks by itself, too, once a second.)
        let _full = handle.post(CoreId(0), Mail::Switched);
    }
}

/// Wakes the cores whose replies may leave.
pub fn wake_cores(node: &Node) {
    let Some(handle) = node.handle() else { return };
    for core in node.write_log.woken() {
        // A core whose mailbox is full is about to turn, and looks by itself.
        let _full = handle.post(CoreId(core as u16), Mail::Logged);
    }
}

fn hear(node: &Node, heard: Heard<'_>) {
    match heard {
        Heard::Failed(error) => node.log(|log| {
            log.warning(&format!(
                "Error writing to the log of writes: {error}. Writes are refused"
            ));
        }),
        Heard::Recovered => node.log(|log| {
            log.warning("The log of writes can be written again. Writes are accepted");
        }),
        Heard::SlowSync => node.log(|log| {
            log.notice(
                "A sync of the log of writes took too long (disk is busy?): writes were held back",
            );
        }),
        Heard::Took(event, us) => {
            let from_ms = node.config().latency_monitor_threshold_ms;
            if from_ms > 0 && us / 1000 >= from_ms {
                node.latency.add(event, unix_ms() / 1000, us / 1000);
            }
        }
    }
}

/// Reads the log in a thread, and then goes on writing it. If that fails the server stops.
///
/// # Errors
/// When the thread cannot be started.
pub fn load(node: &'static Node, disk: Arc<dyn Disk>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("load".to_owned());
    thread.spawn(move || {
        let begin_ms = unix_ms();
        match load_here(node, disk, super::replay::by_mail(node), begin_ms) {
            Ok(()) => {
                crate::control::load::end(node);
                let s = (unix_ms() - begin_ms) as f64 / 1000.0;
                node.log(|log| {
                    log.notice(&format!("DB loaded from append only file: {s:.3} seconds"))
                });
            }
            Err(error) if node.stopping.load(Relaxed) => {
                node.log(|log| log.notice(&error.to_string()));
            }
            Err(error) => {
                let why = format!("Fatal error loading the log of writes: {error}");
                crate::control::load::give_up(node, why);
            }
        }
    })?;
    Ok(())
}

/// Reads the log, whose effects reach the cores by `posts`, and goes on writing it; at `now_ms`, unix ms. Without a log it begins
/// with that of Redis, or with the snapshot in its folder.
///
/// # Errors
/// What is wrong with the log, or with the disk; nothing may be served then.
pub fn load_here(
    node: &'static Node,
    disk: Arc<dyn Disk>,
    posts: Posts<'_>,
    now_ms: u64,
) -> io::Result<()> {
    let config = node.config();
    let place = place(&config);
    let log: &WriteLog = &node.write_log;
    let mut spread = Spread::new(node, posts);
    if let Some(manifest) = recover::find(&*disk, &place)? {
        recover::look(&*disk, &place, &node.vault, &manifest)?;
        node.loading
            .expect(recover::total_bytes(&*disk, &place, &manifest));
        if let Some((file, _)) = &manifest.base {
            spread.base(&*disk, &place.path(file))?;
        }
        let how = (&*node.vault, config.aof_load_truncated);
        let past = recover::replay(&*disk, &place, &manifest, how, &mut spread)?;
        spread.finish().map_err(io::Error::other)?;
        node.source
            .set_positions(core::mem::take(&mut spread.positions));
        log.set_policy(config.appendfsync);
        let vault = Arc::clone(&node.vault);
        log.turn_on(Writer::begin(disk, vault, place, past, now_ms)?);
        return Ok(());
    }
    let mut past = Past::default();
    let mut files = import::find(&*disk, &place, Path::new(&config.dir))?;
    let snapshot = crate::control::snapshot::path_of(&config);
    if files.is_empty() && has_bytes(&*disk, &snapshot)? {
        let text = format!(
            "There is no log of writes yet: it begins with the snapshot {}",
            snapshot.display()
        );
        node.log(|log| log.notice(&text));
        files.push(snapshot);
    }
    if files.is_empty() {
        log.set_policy(config.appendfsync);
        let vault = Arc::clone(&node.vault);
        log.turn_on(Writer::begin(disk, vault, place, past, now_ms)?);
        return Ok(());
    }
    for file in &files {
        // Before anything is written: whether the keys are there.
        Input::open(&*disk, file, &node.vault).map_err(|fault| named(file, &fault))?;
    }
    past.manifest.imports = true;
    log.set_policy(AppendFsync::No);
    let vault = Arc::clone(&node.vault);
    log.turn_on(Writer::begin(
        Arc::clone(&disk),
        vault,
        place,
        past,
        now_ms,
    )?);
    let sizes = files
        .iter()
        .map(|file| disk.open(file).and_then(|mut file| file.size()));
    node.loading
        .expect(sizes.map(|size| size.unwrap_or(0)).sum());
    let mut import = Import::new(node, spread);
    import.run(&*disk, &files, config.aof_load_truncated)?;
    log.end_import()?;
    log.set_policy(config.appendfsync);
    node.log(|log| {
        for file in &files {
            log.notice(&format!(
                "{} has been read into the log of writes",
                file.display()
            ));
        }
    });
    Ok(())
}

/// Whether there is a file with something in it.
fn has_bytes(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.open(path).and_then(|mut file| file.size()) {
        Ok(bytes) => Ok(bytes > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(named(path, &error)),
    }
}
