//! Keyspace events: what happened to which key, for those who listen (`notify-keyspace-events`).
//!
//! A handler names its event beside the change that it makes ([`crate::Edit::event`], or the session's own); storage itself names
//! those that follow from the data: `del` when a collection is emptied, `expired`, `new`. While nobody listens an event costs one
//! load and a branch.

use crate::shard::Shard;

/// The classes of `notify-keyspace-events`, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum EventClass {
    /// `g`: commands on keys of any type.
    Generic = 1 << 0,
    /// `$`
    String = 1 << 1,
    /// `l`
    List = 1 << 2,
    /// `s`
    Set = 1 << 3,
    /// `h`
    Hash = 1 << 4,
    /// `z`
    Zset = 1 << 5,
    /// `t`
    Stream = 1 << 6,
    /// `x`
    Expired = 1 << 7,
    /// `e`
    Evicted = 1 << 8,
    /// `m`
    KeyMiss = 1 << 9,
    /// `d`
    Module = 1 << 10,
    /// `n`
    New = 1 << 11,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key's database.
    pub db: u8,
    /// What happened: `lpush`, `expired`.
    pub name: &'static str,
    /// To which key.
    pub key: Box<[u8]>,
}

/// Events since they were taken last.
#[derive(Default)]
pub(crate) struct Events {
    wanted: u16,
    list: Vec<Event>,
}

impl Events {
    #[inline(always)]
    pub(crate) fn push(&mut self, class: EventClass, name: &'static str, db: u8, key: &[u8]) {
        if self.wanted & class as u16 != 0 {
            self.keep(name, db, key);
        }
    }

    #[cold]
    fn keep(&mut self, name: &'static str, db: u8, key: &[u8]) {
        let key = key.into();
        self.list.push(Event { db, name, key });
    }

    pub(crate) fn wants(&self, class: EventClass) -> bool {
        self.wanted & class as u16 != 0
    }

    pub(crate) fn set_wanted(&mut self, wanted: u16) {
        self.wanted = wanted;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Events so far, to come back to by `rewind`.
    pub(crate) fn mark(&self) -> usize {
        self.list.len()
    }

    /// Forgets the events since a mark.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.list.truncate(mark);
    }

    pub(crate) fn take(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.list)
    }
}

impl Shard {
    /// Which classes of events are kept: a set of [`EventClass`] bits.
    pub fn set_events(&mut self, wanted: u16) {
        self.events.set_wanted(wanted);
    }

    /// Whether there are events to take.
    #[inline(always)]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || self.events.wants(EventClass::KeyMiss)
    }

    /// Events since the last call, in order; the misses of reads before them.
    pub fn take_events(&mut self) -> Vec<Event> {
        let missed = self.missed.take().into_iter();
        let name = "keymiss";
        let mut events: Vec<Event> = missed.map(|(db, key)| Event { db, name, key }).collect();
        events.append(&mut self.events.take());
        events
    }
}
