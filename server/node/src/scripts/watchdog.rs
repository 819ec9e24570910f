//! What stops a script: SCRIPT KILL, its own time, the end of the server; and what moves it: when it has run for long.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use script::Halt;

use crate::node::Node;

/// What the watchdog knows of the present run.
#[derive(Default)]
pub(crate) struct Watched {
    /// The run's number, and the place where it runs.
    pub(crate) run: Cell<u64>,
    /// See `run`.
    pub(crate) place: Cell<usize>,
    /// When it began, monotonic us.
    pub(crate) since_us: Cell<u64>,
    /// How long it may run, us; 0 for ever.
    pub(crate) limit_us: Cell<u64>,
    /// When it is logged as slow, us after its begin; 0 for never, or when it has been.
    pub(crate) slow_us: Cell<u64>,
    /// Then it is abandoned, to begin anew beside the cores.
    pub(crate) moves: Cell<bool>,
    /// It has been.
    pub(crate) has_moved: Cell<bool>,
    /// It is a library that is being loaded.
    pub(crate) is_load: Cell<bool>,
}

impl Watched {
    /// Whether it must stop now, and how.
    pub(crate) fn look(&self, node: &Node) -> Option<Halt> {
        let kill = |text: &str| Some(Halt::Kill(text.to_owned()));
        let lasted_us = runtime::mono_us().saturating_sub(self.since_us.get());
        if node.scripting.is_killed(self.place.get(), self.run.get()) {
            return kill("ERR Script killed by user with SCRIPT KILL...");
        }
        if self.limit_us.get() != 0 && lasted_us >= self.limit_us.get() {
            return kill(if self.is_load.get() {
                "ERR FUNCTION LOAD timeout"
            } else {
                "ERR Script killed: it has run for longer than script-kill-after-ms"
            });
        }
        if node.stopping.load(Relaxed) {
            return kill("ERR Script killed: the server is stopping");
        }
        if self.slow_us.get() == 0 || lasted_us < self.slow_us.get() {
            return None;
        }
        self.slow_us.set(0);
        node.log(|log| {
            log.warning(&format!(
                "Slow script detected: still in execution after {} milliseconds. SCRIPT KILL or FUNCTION KILL stops it.",
                lasted_us / 1000,
            ));
        });
        self.has_moved.set(self.moves.get());
        self.moves.get().then_some(Halt::Abandon)
    }
}

/// See the module's head.
pub(crate) struct Watchdog {
    pub(crate) node: &'static Node,
    pub(crate) watched: Rc<Watched>,
}

impl script::Watchdog for Watchdog {
    fn cpu_us(&self) -> u64 {
        runtime::process_cpu_us()
    }

    fn look(&self) -> Option<Halt> {
        self.watched.look(self.node)
    }
}
