//! The Redis that this node follows, as far as cores need to know of it.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};

use migration::Authority;

/// What a node knows of its source.
#[derive(Debug, Default)]
pub struct Source {
    authority: AtomicU8,
    applied: AtomicU64,
}

impl Source {
    /// Who decides what keys hold.
    pub fn authority(&self) -> Authority {
        Authority::of(self.authority.load(Acquire))
    }

    /// From now on this one does; the one before. Cores take it over when they are told (`Mail::Authority`).
    pub fn set_authority(&self, authority: Authority) -> Authority {
        Authority::of(self.authority.swap(authority.number(), AcqRel))
    }

    /// The replication offset of the source up to which everything has been executed here.
    pub fn applied(&self) -> u64 {
        self.applied.load(Acquire)
    }

    /// Everything up to this offset has been executed, and every core shows it.
    pub fn set_applied(&self, offset: u64) {
        self.applied.store(offset, Release);
    }
}
