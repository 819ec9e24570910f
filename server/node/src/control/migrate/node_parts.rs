//! The node's side of a migration, as this node has it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use migration::{Authority, Place, Server};
use runtime::CoreId;

use super::TOLD_TRIES;
use super::parts::{Kept, LinkNow, Parts};
use crate::mail::Mail;
use crate::node::Node;

/// What is answered by a part that this build does not have.
const NOT_HERE: &str = "this build cannot follow a Redis";

/// This node.
#[derive(Clone, Copy)]
pub(super) struct OfNode(pub(super) &'static Node);

impl OfNode {
    fn decide(&self, authority: Authority) {
        self.0.source.set_authority(authority);
        for core in (0..self.0.cores() as u16).map(CoreId) {
            self.0.post(core, Mail::Authority, TOLD_TRIES);
        }
    }
}

impl Parts for OfNode {
    fn now_ms(&self) -> u64 {
        crate::start::unix_ms()
    }

    fn mono_us(&self) -> u64 {
        runtime::mono_us()
    }

    fn rest(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn is_loaded(&self) -> bool {
        self.0.handle().is_some() && !self.0.loading.is_on()
    }

    fn kept(&self) -> Kept {
        let databases = self.0.config().databases as usize;
        match (0..databases).any(|db| self.0.db_count(db).0 > 0) {
            true => Kept::Own,
            false => Kept::Nothing,
        }
    }

    fn follow(&self, _: &Server, _: Option<&Place>) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn unfollow(&self) {}

    fn link(&self) -> LinkNow {
        LinkNow {
            state: "none",
            at: Place::new("", self.0.source.applied()),
            ..LinkNow::default()
        }
    }

    fn set_upstream(&self, _: Option<&Server>) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn authority(&self) -> Authority {
        self.0.source.authority()
    }

    fn hold(&self) {
        self.decide(Authority::Held);
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn unblock(&self) {}

    fn release(&self, authority: Authority) {
        self.decide(authority);
    }

    fn prepare_flip(&self) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn expect(&self, _: &Place) {}

    fn asked(&self) -> Option<Place> {
        None
    }

    fn answer(&self, _: bool) {}

    fn take_over(&self, _: &Place) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn end(&self) -> Place {
        Place::new(&self.0.replication_id(), 0)
    }

    fn acknowledged(&self) -> Option<u64> {
        None
    }

    fn handed_over(&self) -> Option<Place> {
        None
    }

    fn ask_acknowledged(&self) {}

    fn requests(&self) -> (u64, u64) {
        let count = |counter: fn(&crate::stats::Published) -> &std::sync::atomic::AtomicU64| {
            let cores = self.0.published.iter();
            cores.map(|core| counter(core).load(Relaxed)).sum()
        };
        (
            count(|core| &core.commands),
            count(|core| &core.errors_total),
        )
    }

    fn note(&self, text: &str) {
        self.0.log(|log| log.notice(text));
    }
}
