//! A long script runs beside the cores: what it takes along, and what it brings back.
//!
//! ```text
//! its core                                        thread beside the cores
//! every slot in place, taken out again
//!                ── Errand: tables, Attire ────>  a core that owns nothing puts the attire on, borrows the tables
//!                                                 and runs the script as any core does (scripts/run.rs)
//!                <── tables, reply, Brought ────  counters, lines for monitors, messages, mail
//! all of it is acted upon, then the slots go home
//! ```
//! The thread has a [`Core`] of its own for this: a script calls whatever it likes, and finds there what it would find on its own
//! core. It has the script's slots, a state of Lua, and of everything else what the core knew when the script left: options,
//! users, who subscribes to what. Of connections it has none; a script sees none. What commands of the node would send to other
//! cores comes back first. Counters of INFO are those that the cores have published; what the script counts is added when it is back.

use std::sync::Arc;

use migration::Authority;
use runtime::{CoreId, Now};
use storage::{Key, Rng, SLOTS, Shard};

use crate::acl::Users;
use crate::aside::{Errand, Work};
use crate::commandlog::{Client, Noted};
use crate::config::Config;
use crate::connection::Request;
use crate::core::{Core, Scope};
use crate::mail::Mail;
use crate::node::Node;
use crate::pubsub::{Message, PubSub};
use crate::scripts::{Caller, Ended};
use crate::service::NodeService;
use crate::stats::Tally;
use crate::transaction::{Guests, Job, Tx};

/// A script on its way.
pub(super) struct Script {
    pub(super) request: Request,
    caller: Caller,
    /// The run's number.
    run: u64,
    /// It has been logged as slow.
    is_logged: bool,
    attire: Attire,
    brought: Option<Brought>,
}

/// What a core that stands for another must look like.
struct Attire {
    node: &'static Node,
    now: Now,
    config: Arc<Config>,
    users: Arc<Users>,
    pubsub: PubSub,
    /// Monitors.
    monitors: u64,
    is_full: bool,
    refuses: bool,
    authority: Authority,
    all_in_scripts: bool,
}

/// What has come of a script beside its reply and its data.
struct Brought {
    tally: Tally,
    lines: Vec<u8>,
    posts: Vec<(CoreId, Mail)>,
    messages: Vec<Arc<Message>>,
    noted: Option<Noted>,
}

impl Core {
    fn attire(&self) -> Attire {
        Attire {
            node: self.node,
            now: self.now,
            config: Arc::clone(&self.config),
            users: Arc::clone(&self.users),
            pubsub: self.pubsub.without_connections(),
            monitors: self.watchers.count,
            is_full: self.memory.is_full,
            refuses: self.refuses(),
            authority: self.authority,
            all_in_scripts: self.all_in_scripts,
        }
    }

    /// Stands for the core of a script that has come.
    fn put_on(&mut self, id: CoreId, script: &mut Script) {
        let attire = &mut script.attire;
        (self.id, self.now, self.beside) = (id, attire.now, Some(script.run));
        self.authority = attire.authority;
        if self.authority == Authority::Front {
            self.look_at_routes();
        }
        self.configure(Arc::clone(&attire.config));
        self.users = Arc::clone(&attire.users);
        self.users_epoch = self.users.epoch;
        self.pubsub = core::mem::take(&mut attire.pubsub);
        self.watchers.count = attire.monitors;
        self.memory.is_full = attire.is_full;
        self.update_holds_of_log(attire.refuses);
        self.all_in_scripts = attire.all_in_scripts;
        let threshold_us = attire.config.busy_reply_threshold_ms.saturating_mul(1000);
        self.scripts.slow_us = if script.is_logged { 0 } else { threshold_us };
    }

    fn bring(&mut self) -> Brought {
        let fresh = Tally::new(self.table.rows().len());
        Brought {
            tally: core::mem::replace(&mut self.tally, fresh),
            lines: self.take_lines(),
            posts: core::mem::take(&mut self.posts),
            messages: core::mem::take(&mut self.pubsub).take_messages(),
            noted: self.noted.take(),
        }
    }

    /// What a script has read beside the cores, for its client that tracks, before its slots are back: so what it has changed
    /// after is told. Returns the rest of its mail.
    fn hear_reads(&mut self, brought: &mut Brought) -> Vec<(CoreId, Mail)> {
        let mut others = Vec::new();
        for (core, mail) in core::mem::take(&mut brought.posts) {
            match mail {
                Mail::Track(read) if core == self.id => self.remember(read),
                Mail::Track(mut read) => {
                    // Its owner is told of changes by way of this core, where the slot visits.
                    read.changed |= self.shard.note_guest(&Key::new(read.db, &read.name));
                    self.posts.push((core, Mail::Track(read)));
                }
                mail => others.push((core, mail)),
            }
        }
        others
    }

    /// Counts and tells what a script has done, as if it had done it here.
    fn take_over(&mut self, script: &Script, brought: Brought, client: Client<'_>) {
        self.tally.absorb(&brought.tally);
        self.add_lines(&brought.lines);
        for message in brought.messages {
            self.receive(message);
        }
        self.noted = brought.noted;
        let request = &script.request;
        self.note(request.row, &request.args(), client);
    }
}

/// Runs a script that has come, on a core that stands for its own.
pub(super) fn run(shard: &mut Shard, core: &mut Option<Box<Core>>, errand: &mut Errand) {
    let Work::Script(script) = &mut errand.work else {
        return;
    };
    let Some(lent) = errand.lent.take() else {
        return;
    };
    let attire = &script.attire;
    let core = core.get_or_insert_with(|| Box::new(Core::beside(attire.node, attire.now)));
    core::mem::swap(shard, &mut core.shard);
    core.put_on(errand.from, script);
    core.shard.wear(errand.guise.clone());
    core.shard.borrow(lent);
    core.rng = Rng::new(errand.seed);
    core.tx_slots.clone_from(&errand.slots);
    core.begin_lap();
    let (row, caller) = (script.request.row, script.caller.clone());
    let resp = caller.resp;
    let ended = core.run_script(row, script.request.args(), caller, &mut errand.out);
    if ended != Ended::Replied {
        // INVARIANT: it has every slot that it may ask for, and nothing moves it.
        core.refuse(&protocol::Refusal::CrossSlot, resp, &mut errand.out);
    }
    core.tx_slots.clear();
    errand.notes = core.shard.take_notes();
    errand.lent = Some(core.shard.give_back(&errand.slots));
    script.brought = Some(core.bring());
    core::mem::swap(shard, &mut core.shard);
}

impl NodeService {
    /// Sends a script beside the cores that is known as long and has its slots; gives it back if its code is gone.
    #[cold]
    pub(super) fn script_aside(
        &mut self,
        number: u64,
        tx: Tx,
        guests: Guests,
    ) -> Option<(Tx, Guests)> {
        let core = &mut self.core;
        let begun = match &tx.job {
            Job::Script {
                request, since_us, ..
            } => core.begin_beside(request.row, &request.args(), *since_us),
            _ => None,
        };
        let Some(run) = begun else {
            return Some((tx, guests));
        };
        let Job::Script {
            request,
            caller,
            since_us,
            ..
        } = tx.job
        else {
            return Some((tx, guests));
        };
        let caller = match core.tx_slots.len() {
            SLOTS => caller.in_transaction(Scope::Whole),
            _ => Caller {
                scope: Scope::OwnPort,
                ..caller
            },
        };
        let (place, to) = ((tx.ticket, guests), (caller.db, caller.resp, false));
        let script = Script {
            request,
            caller,
            run,
            is_logged: since_us.is_some(),
            attire: core.attire(),
            brought: None,
        };
        core.send_aside(number, place, Work::Script(Box::new(script)), to);
        None
    }

    /// A script is back, its slots are not in place yet. Returns mail for later.
    pub(super) fn script_back(&mut self, errand: &mut Errand) -> Vec<(CoreId, Mail)> {
        let Work::Script(script) = &mut errand.work else {
            return Vec::new();
        };
        self.core.end_beside();
        let brought = script.brought.as_mut();
        brought.map_or_else(Vec::new, |brought| self.core.hear_reads(brought))
    }

    /// Its slots are in place.
    pub(super) fn script_done(&mut self, errand: &mut Errand) {
        let client = Client::Of(errand.ticket.core, errand.ticket.conn);
        if let Work::Script(script) = &mut errand.work
            && let Some(brought) = script.brought.take()
        {
            self.core.take_over(script, brought, client);
        }
    }

    /// Mail of a script that is back.
    pub(super) fn post_all(&mut self, mail: Vec<(CoreId, Mail)>) {
        for (core, mail) in mail {
            if core == self.core.id {
                self.on_mail(mail);
            } else {
                self.core.posts.push((core, mail));
            }
        }
    }
}
