//! A script that runs for long: it goes on beside the cores, and everybody else is told BUSY.
//!
//! ```text
//! inline ──threshold: abandoned, undone──> transaction over every slot ──> beside the cores (aside/script.rs)
//!    └─ known as long: at once ─────────────────────┘                            │
//! its core: after the threshold Busy to all cores <── wake_at ───────────────────┤
//! every core: what may not run now is refused, what waits as well                │
//! its core: Busy no more to all cores, then the slots go home <── Mail::Aside ───┘
//! ```
//! - The threshold counts from the begin of the first try: a script that was found long is told of as soon as it runs beside.
//! - What waits for slots is refused as if it had waited in its socket, where Redis would have found it then. What runs for the
//!   node itself (snapshots, clients that wait for keys) goes on waiting.
//! - A script is known as long until a run takes less than half of the threshold.

use protocol::{Args, Flags, Refusal};
use runtime::Turn;
use storage::{SLOTS, Slot};

use crate::core::Core;
use crate::mail::Mail;
use crate::scripts::run::{Code, busy_us};
use crate::scripts::shared::Shown;
use crate::service::NodeService;
use crate::table::Row;

/// Words of a function's request that FUNCTION STATS can show, bytes.
const SHOWN_BYTES_MAX: usize = 4096;

/// What a node is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// A script of EVAL.
    Script,
    /// A function.
    Function,
}

impl Busy {
    /// What others are told.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Busy::Script => Refusal::BusyScript,
            Busy::Function => Refusal::BusyFunction,
        }
    }
}

/// The script of a core that runs beside the cores.
pub(super) struct Beside {
    code: Code,
    /// When its first try began, monotonic us.
    since_us: u64,
    /// It has every slot of the node, not only those of its core.
    has_all: bool,
    /// Others are told BUSY.
    is_told: bool,
}

impl Code {
    fn busy(&self) -> Busy {
        match self {
            Code::Script(_) => Busy::Script,
            Code::Function(..) => Busy::Function,
        }
    }

    /// What FUNCTION STATS is to tell of a run.
    pub(super) fn shown(&self, args: &Args<'_>) -> Option<Shown> {
        let Code::Function(_, name, _) = self else {
            return None;
        };
        let words = (0..args.total()).filter_map(|at| args.word(at));
        let mut left = SHOWN_BYTES_MAX;
        let fits = words.take_while(|word| {
            let fits = word.len() <= left;
            left = left.saturating_sub(word.len());
            fits
        });
        Some(Shown {
            name: name.clone(),
            words: fits.map(<[u8]>::to_vec).collect(),
        })
    }
}

impl Core {
    /// The slots that a long script has beside the cores: all of the node, or, as a shard of a cluster, all of its core.
    pub(crate) fn slots_beside(&self, own_port: bool) -> Vec<Slot> {
        let slots = match own_port && self.config.cluster_enabled {
            true => self.node.range(self.id),
            false => 0..SLOTS,
        };
        slots.map(|slot| Slot(slot as u16)).collect()
    }

    /// The place of its script beside the cores, as the node numbers such places.
    pub(super) fn place_beside(&self) -> usize {
        self.node.cores() + self.id.index()
    }

    /// A long script of this core goes beside the cores, its slots (`tx_slots`) in place; `since_us`: when its first try began.
    /// Returns the run's number; None when its code is gone.
    pub(crate) fn begin_beside(
        &mut self,
        row: &'static Row,
        args: &Args<'_>,
        since_us: Option<u64>,
    ) -> Option<u64> {
        let crate::table::Kind::Script(kind) = row.kind else {
            return None;
        };
        let code = self.code(kind, args).ok()?;
        let now_us = self.now.mono_us;
        // The first try has lasted for the threshold, if perhaps within this very turn.
        let since_us = since_us.map_or(now_us, |at| at.min(now_us.saturating_sub(busy_us(self))));
        let scripting = &self.node.scripting;
        let run = scripting.begin(self.place_beside(), since_us, code.shown(args));
        self.scripts.beside = Some(Beside {
            code,
            since_us,
            has_all: self.tx_slots.len() == SLOTS,
            is_told: false,
        });
        Some(run)
    }

    /// It is back. Its slots must not go home before.
    pub(crate) fn end_beside(&mut self) {
        let Some(beside) = self.scripts.beside.take() else {
            return;
        };
        self.node.scripting.end(self.place_beside());
        let took_us = self.now.mono_us.saturating_sub(beside.since_us);
        if took_us < busy_us(self) / 2 {
            beside.code.set_long(false);
        }
        if beside.is_told {
            self.tell_busy(None, beside.has_all);
        }
    }

    /// From now on this core, or all, refuse what is not for such times, or no longer.
    fn tell_busy(&mut self, busy: Option<Busy>, all: bool) {
        self.set_busy(busy);
        if all {
            self.tell_others(|| Mail::Busy(busy));
        }
    }

    /// A script of some core has run for long, or does no more.
    pub(crate) fn set_busy(&mut self, busy: Option<Busy>) {
        self.scripts.busy = busy;
        self.update_holds();
    }

    /// What the node is busy with, as far as this core is concerned.
    pub(crate) fn busy(&self) -> Option<Busy> {
        self.scripts.busy
    }

    /// Why a request is refused while a script runs for long, if it is.
    pub(crate) fn busy_refusal(&self, row: &Row) -> Option<Refusal> {
        let busy = self.scripts.busy?;
        let is_allowed = row.spec.flags.contains(Flags::ALLOW_BUSY);
        (!is_allowed).then(|| busy.refusal())
    }

    /// Whether a long script is to be looked after in this turn.
    #[inline(always)]
    pub(crate) fn has_long_script(&self) -> bool {
        self.scripts.beside.is_some() | self.scripts.busy.is_some()
    }
}

impl NodeService {
    /// A script may have run for the threshold by now: then whoever waits is refused.
    #[cold]
    pub(crate) fn look_at_script(&mut self, turn: &mut Turn<'_, Mail>) {
        let threshold_us = busy_us(&self.core);
        if let Some(beside) = &mut self.core.scripts.beside
            && !beside.is_told
            && threshold_us != 0
        {
            let lasted_us = turn.now.mono_us.saturating_sub(beside.since_us);
            if lasted_us < threshold_us {
                let left_ms = (threshold_us - lasted_us).div_ceil(1000);
                turn.ops.wake_at(turn.now.unix_ms + left_ms);
            } else {
                beside.is_told = true;
                let (busy, all) = (beside.code.busy(), beside.has_all);
                self.core.tell_busy(Some(busy), all);
            }
        }
        if let Some(busy) = self.core.scripts.busy {
            self.refuse_waiting(&busy.refusal());
        }
    }
}

#[cfg(test)]
mod tests;
