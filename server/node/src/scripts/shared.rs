//! What the cores share of scripts: texts, libraries, and what runs where since when.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use script::{Cache, Libraries};

/// See the module's head. Locked when a script is met for the first time on a core, not when it runs again.
pub struct Scripting {
    cache: Mutex<Cache>,
    libraries: Mutex<Arc<Libraries>>,
    /// Counts SCRIPT FLUSH.
    pub flushes: AtomicU64,
    /// Counts changes of libraries.
    pub library_changes: AtomicU64,
    next_run: AtomicU64,
    /// By place: a core, and behind all of them again each core, for its script that runs beside.
    places: Box<[Running]>,
    /// Bytes of the states of Lua beside the cores.
    beside_bytes: AtomicU64,
}

/// What runs at one place.
#[derive(Default)]
pub(super) struct Running {
    /// The run's number; 0 for none.
    run: AtomicU64,
    /// When it began, monotonic us.
    since_us: AtomicU64,
    /// It is a function.
    is_function: AtomicU64,
    /// The run that is to be stopped.
    kill: AtomicU64,
    /// Bytes of the core's state of Lua, once a script has run there.
    lua_bytes: AtomicU64,
    /// Name and words of a function, for FUNCTION STATS.
    shown: Mutex<Option<Shown>>,
}

/// What FUNCTION STATS tells of a function that runs.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Its name.
    pub name: String,
    /// The words of its request.
    pub words: Vec<Vec<u8>>,
}

/// How an attempt to stop scripts went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// At least one will stop.
    Some,
    /// Only the other kind (scripts, functions) is busy.
    OtherKind,
    /// None has run for so long.
    None,
}

impl Scripting {
    pub(crate) fn new(cores: usize) -> Scripting {
        Scripting {
            cache: Mutex::default(),
            libraries: Mutex::default(),
            flushes: AtomicU64::new(0),
            library_changes: AtomicU64::new(0),
            next_run: AtomicU64::new(1),
            places: (0..2 * cores).map(|_| Running::default()).collect(),
            beside_bytes: AtomicU64::new(0),
        }
    }

    /// The scripts.
    pub fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The libraries as they are now.
    pub fn libraries(&self) -> Arc<Libraries> {
        let libraries = self.libraries.lock();
        Arc::clone(&libraries.unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the libraries, one change at a time; `seen` sees them before the next change.
    ///
    /// # Errors
    /// That of `change`; then nothing has changed.
    pub fn change_libraries(
        &self,
        change: impl FnOnce(&mut Libraries) -> Result<(), String>,
        seen: impl FnOnce(&Libraries),
    ) -> Result<(), String> {
        let mut libraries = self
            .libraries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut changed = Libraries::clone(&libraries);
        change(&mut changed)?;
        seen(&changed);
        *libraries = Arc::new(changed);
        self.library_changes.fetch_add(1, Relaxed);
        Ok(())
    }

    /// A run begins at a place; its number.
    pub(crate) fn begin(&self, place: usize, now_us: u64, shown: Option<Shown>) -> u64 {
        let run = self.next_run.fetch_add(1, Relaxed);
        if let Some(running) = self.places.get(place) {
            running
                .is_function
                .store(u64::from(shown.is_some()), Relaxed);
            if shown.is_some() {
                *running.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
            }
            running.since_us.store(now_us, Relaxed);
            running.run.store(run, Relaxed);
        }
        run
    }

    /// The run at a place has ended.
    pub(crate) fn end(&self, place: usize) {
        if let Some(running) = self.places.get(place) {
            running.run.store(0, Relaxed);
        }
    }

    /// The state of Lua of a core has so many bytes now.
    pub(crate) fn weigh(&self, core: usize, lua_bytes: usize) {
        if let Some(running) = self.places.get(core) {
            running.lua_bytes.store(lua_bytes as u64, Relaxed);
        }
    }

    /// A state of Lua beside the cores has so many bytes now, and had so many before.
    pub(crate) fn weigh_beside(&self, before: usize, lua_bytes: usize) {
        let more = (lua_bytes as u64).wrapping_sub(before as u64);
        self.beside_bytes.fetch_add(more, Relaxed);
    }

    /// Whether the run at a place is to be stopped.
    pub(crate) fn is_killed(&self, place: usize, run: u64) -> bool {
        self.places
            .get(place)
            .is_some_and(|running| running.kill.load(Relaxed) == run)
    }

    /// Runs that have lasted for `busy_us` at least, with their numbers.
    fn busy(&self, now_us: u64, busy_us: u64) -> impl Iterator<Item = (&Running, u64)> {
        self.places.iter().filter_map(move |running| {
            let run = running.run.load(Relaxed);
            let lasted_us = now_us.saturating_sub(running.since_us.load(Relaxed));
            (run != 0 && lasted_us >= busy_us).then_some((running, run))
        })
    }

    /// Stops the scripts, or the functions, that have run for `busy_us` at least.
    pub fn kill(&self, functions: bool, now_us: u64, busy_us: u64) -> Stopped {
        let mut stopped = Stopped::None;
        for (running, run) in self.busy(now_us, busy_us) {
            if (running.is_function.load(Relaxed) == 1) == functions {
                running.kill.store(run, Relaxed);
                stopped = Stopped::Some;
            } else if stopped == Stopped::None {
                stopped = Stopped::OtherKind;
            }
        }
        stopped
    }

    /// A function that has run for `busy_us` at least, with the ms it has run for; `Err` when only a script has.
    pub(crate) fn shown(&self, now_us: u64, busy_us: u64) -> Result<Option<(Shown, u64)>, ()> {
        let mut script = false;
        for (running, _) in self.busy(now_us, busy_us) {
            if running.is_function.load(Relaxed) == 0 {
                script = true;
                continue;
            }
            let shown = running.shown.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(shown) = shown.clone() {
                let since_us = running.since_us.load(Relaxed);
                return Ok(Some((shown, now_us.saturating_sub(since_us) / 1000)));
            }
        }
        if script { Err(()) } else { Ok(None) }
    }

    /// Bytes of all states of Lua.
    pub fn lua_bytes(&self) -> u64 {
        let bytes = self.places.iter();
        let cores: u64 = bytes.map(|core| core.lua_bytes.load(Relaxed)).sum();
        cores.wrapping_add(self.beside_bytes.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_busy_and_of_the_kind_is_stopped() {
        let scripting = Scripting::new(2);
        let shown = Shown {
            name: "f".to_owned(),
            words: vec![b"FCALL".to_vec()],
        };
        assert_eq!(scripting.kill(false, 9000, 100), Stopped::None);
        let script = scripting.begin(0, 1000, None);
        assert_eq!(scripting.kill(false, 1050, 100), Stopped::None);
        assert_eq!(scripting.kill(true, 1100, 100), Stopped::OtherKind);
        assert_eq!(scripting.shown(1100, 100).unwrap_err(), ());
        let function = scripting.begin(1, 2000, Some(shown));
        assert!(!scripting.is_killed(0, script) && !scripting.is_killed(1, function));
        assert_eq!(scripting.kill(false, 5000, 100), Stopped::Some);
        assert!(scripting.is_killed(0, script) && !scripting.is_killed(1, function));
        let (shown, ms) = scripting.shown(5000, 100).unwrap().unwrap();
        assert_eq!((shown.name.as_str(), ms), ("f", 3));
        // The next run on the core is another one.
        scripting.end(0);
        let next = scripting.begin(0, 6000, None);
        assert!(!scripting.is_killed(0, next));
        scripting.end(0);
        scripting.end(1);
        assert_eq!(scripting.kill(true, 9000, 100), Stopped::None);
        scripting.weigh(0, 7);
        scripting.weigh(1, 8);
        for (before, now) in [(0, 20), (20, 10)] {
            scripting.weigh_beside(before, now);
        }
        assert_eq!(scripting.lua_bytes(), 25);
    }
}
