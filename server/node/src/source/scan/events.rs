//! The thread that hears the source's keyspace events: it does nothing else, since a source ends the connection of who reads too slowly.
//!
//! Each key goes to the board; marks are sent as PING and come back behind the events of what was written before. A connection that ends, or from
//! which a mark does not come back within [`ECHO_MAX`], is a loss: [`Events::check`] tells the session, which begins anew.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use migration::scan::{PATTERN, Said, is_probe, said};

use super::super::session::ENDED;
use super::super::{Line, lock};
use crate::control::migrate::Wire;

/// How long a read waits: a mark that is asked for meanwhile is sent so much later.
const LOOK: Duration = Duration::from_millis(2);
/// How long the subscription, or a mark, may take to come back.
const ECHO_MAX: Duration = Duration::from_secs(10);
/// Events of a probe that are kept.
const PROBED_MAX: usize = 64;

/// The thread, as the session has it.
pub(super) struct Events {
    /// See [`super::Desk::board_of`].
    pub(super) epoch: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    ended: Mutex<Option<String>>,
    probed: Mutex<Vec<Vec<u8>>>,
}

impl Events {
    /// Subscribes by this connection, and hears from then on.
    ///
    /// # Errors
    /// When the subscription does not come about.
    pub(super) fn begin(line: &Arc<Line>, mut wire: Wire) -> Result<Events, String> {
        let failed =
            |error: std::io::Error| format!("cannot subscribe to keyspace events: {error}");
        wire.set_timeout(LOOK).map_err(failed)?;
        wire.send(&["PSUBSCRIBE", PATTERN]).map_err(failed)?;
        let until = Instant::now() + ECHO_MAX;
        loop {
            let Some(answer) = wire.hear().map_err(failed)? else {
                if Instant::now() > until {
                    return Err("the source does not answer PSUBSCRIBE".to_owned());
                }
                continue;
            };
            match said(answer).map_err(|why| format!("PSUBSCRIBE: {why}"))? {
                Said::Subscribed => break,
                _ => continue,
            }
        }
        let epoch = line.scan.connect();
        let shared: Arc<Shared> = Arc::default();
        let (ours, line) = (Arc::clone(&shared), Arc::clone(line));
        let thread = std::thread::Builder::new().name("source-events".to_owned());
        let thread = thread.spawn(move || {
            let why = hear((&line, epoch), &mut wire, &ours);
            if let Some(mut board) = line.scan.board_of(epoch) {
                board.lose(&why);
            }
            *lock(&ours.ended) = Some(why);
            line.scan.wake();
        });
        Ok(Events {
            epoch,
            shared,
            thread: Some(thread.map_err(|error| error.to_string())?),
        })
    }

    /// Whether it hears still.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), String> {
        match &*lock(&self.shared.ended) {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }

    /// The events of the probe that have come.
    pub(super) fn probed(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.probed).clone()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.stops.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // (One that has panicked hears nothing either.)
            let _ended = thread.join();
        }
    }
}

/// Hears until it ends; why.
fn hear((line, epoch): (&Line, u64), wire: &mut Wire, shared: &Shared) -> String {
    let mut awaits: Option<Instant> = None;
    loop {
        let mark = match line.scan.board_of(epoch) {
            Some(mut board) if !shared.stops.load(Relaxed) => board.to_send(),
            _ => return ENDED.to_owned(),
        };
        if let Some(mark) = mark {
            if let Err(error) = wire.send(&["PING", &mark.to_string()]) {
                return format!("the connection of the keyspace events is broken: {error}");
            }
            awaits = Some(Instant::now());
        }
        match wire.hear() {
            Ok(Some(answer)) => match said(answer) {
                Ok(said) => take((line, epoch), shared, said, &mut awaits),
                Err(why) => return format!("the connection of the keyspace events: {why}"),
            },
            Ok(None) if awaits.is_some_and(|since| since.elapsed() > ECHO_MAX) => {
                let within = ECHO_MAX.as_secs();
                return format!("the connection of the keyspace events was silent for {within} s");
            }
            Ok(None) => {}
            Err(error) => {
                return format!("the connection of the keyspace events is broken: {error}");
            }
        }
    }
}

fn take((line, epoch): (&Line, u64), shared: &Shared, said: Said, awaits: &mut Option<Instant>) {
    let board = || line.scan.board_of(epoch);
    match said {
        Said::Touched { db, key, event } if is_probe(db, &key) => {
            let mut probed = lock(&shared.probed);
            if probed.len() < PROBED_MAX {
                probed.push(event);
            }
        }
        Said::Touched { db, key, .. } => {
            line.scan.count(&line.scan.events, 1);
            if let Some(mut board) = board() {
                board.touch(db, &key);
            }
            line.scan.wake();
        }
        Said::Echo(mark) => {
            *awaits = None;
            if let Some(mut board) = board() {
                board.echoed(mark);
            }
            line.scan.wake();
        }
        Said::Subscribed | Said::Nothing => {}
    }
}
