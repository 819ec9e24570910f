//! What stops a script: SCRIPT KILL from another core, its own time, the end of the server.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use crate::node::Node;

/// What the watchdog knows of the present run.
#[derive(Default)]
pub(crate) struct Watched {
    /// The run's number.
    pub(crate) run: Cell<u64>,
    /// When it began, monotonic us.
    pub(crate) since_us: Cell<u64>,
    /// How long it may run, us; 0 for ever.
    pub(crate) limit_us: Cell<u64>,
    /// When it is logged as slow, us after its begin; 0 for never, or when it has been.
    pub(crate) slow_us: Cell<u64>,
    /// It is a library that is being loaded.
    pub(crate) is_load: Cell<bool>,
}

/// See the module's head.
pub(crate) struct Watchdog {
    pub(crate) node: &'static Node,
    pub(crate) core: usize,
    pub(crate) watched: Rc<Watched>,
}

impl script::Watchdog for Watchdog {
    fn cpu_us(&self) -> u64 {
        runtime::process_cpu_us()
    }

    fn kill(&self) -> Option<String> {
        let watched = &self.watched;
        let lasted_us = runtime::mono_us().saturating_sub(watched.since_us.get());
        if self.node.scripting.is_killed(self.core, watched.run.get()) {
            return Some("ERR Script killed by user with SCRIPT KILL...".to_owned());
        }
        if watched.limit_us.get() != 0 && lasted_us >= watched.limit_us.get() {
            return Some(if watched.is_load.get() {
                "ERR FUNCTION LOAD timeout".to_owned()
            } else {
                "ERR Script killed: it has run for longer than script-kill-after-ms".to_owned()
            });
        }
        if self.node.stopping.load(Relaxed) {
            return Some("ERR Script killed: the server is stopping".to_owned());
        }
        if watched.slow_us.get() != 0 && lasted_us >= watched.slow_us.get() {
            watched.slow_us.set(0);
            self.node.log(|log| {
                log.warning(&format!(
                    "Slow script detected: still in execution after {} milliseconds on core {}. SCRIPT KILL or FUNCTION KILL stops it.",
                    lasted_us / 1000,
                    self.core
                ));
            });
        }
        None
    }
}
