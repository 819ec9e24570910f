//! Data that is read at the start: how far it has come. Until it is there only some commands are served.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// See the module's head.
#[derive(Default)]
pub struct Loading {
    active: AtomicBool,
    since_ms: AtomicU64,
    total_bytes: AtomicU64,
    loaded_bytes: AtomicU64,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// When it began, unix ms.
    pub since_ms: u64,
    /// Bytes of the files, and how many have been read.
    pub total_bytes: u64,
    /// See `total_bytes`.
    pub loaded_bytes: u64,
}

impl Loading {
    /// It begins.
    pub fn begin(&self, now_ms: u64) {
        self.since_ms.store(now_ms, Relaxed);
        self.total_bytes.store(0, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
        self.active.store(true, Release);
    }

    /// So many bytes are to be read.
    pub fn expect(&self, bytes: u64) {
        self.total_bytes.store(bytes, Relaxed);
    }

    /// So many bytes more have been read.
    pub fn add(&self, bytes: u64) {
        self.loaded_bytes.fetch_add(bytes, Relaxed);
    }

    /// All is there.
    pub fn end(&self) {
        self.active.store(false, Release);
    }

    /// Whether data is being read.
    #[inline(always)]
    pub fn is_active(&self) -> bool {
        self.active.load(Acquire)
    }

    /// How far it has come; None when nothing is read.
    pub fn progress(&self) -> Option<Progress> {
        self.is_active().then(|| Progress {
            since_ms: self.since_ms.load(Relaxed),
            total_bytes: self.total_bytes.load(Relaxed),
            loaded_bytes: self.loaded_bytes.load(Relaxed),
        })
    }
}
