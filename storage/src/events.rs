//! Keyspace events: what happened to which key, for those who listen (`notify-keyspace-events`).
//!
//! A handler names its event beside the change that it makes ([`crate::Edit::event`], or the session's own); storage itself names
//! those that follow from the data: `del` when a collection is emptied, `expired`, `new`, `keymiss`. While nobody listens an event
//! costs one load and a branch.

use core::cell::Cell;

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

/// Events since they were taken last, in cells: also a read, which borrows the shard only, can miss a key.
#[derive(Default)]
pub(crate) struct Events {
    wanted: u16,
    list: Cell<Vec<Event>>,
    any: Cell<bool>,
}

impl Events {
    #[inline(always)]
    pub(crate) fn push(&self, class: EventClass, name: &'static str, db: u8, key: &[u8]) {
        if self.wants(class) {
            self.keep(name, db, key);
        }
    }

    #[cold]
    fn keep(&self, name: &'static str, db: u8, key: &[u8]) {
        let key = key.into();
        let mut list = self.list.take();
        list.push(Event { db, name, key });
        self.list.set(list);
        self.any.set(true);
    }

    #[inline(always)]
    pub(crate) fn wants(&self, class: EventClass) -> bool {
        self.wanted & class as u16 != 0
    }

    pub(crate) fn wanted(&self) -> u16 {
        self.wanted
    }

    /// Puts events of another shard behind those that are here.
    pub(crate) fn append(&mut self, mut events: Vec<Event>) {
        if !events.is_empty() {
            self.list.get_mut().append(&mut events);
            self.any.set(true);
        }
    }

    /// The last event goes before the first one of that name and key, if there is such a one.
    pub(crate) fn move_last_before(&mut self, name: &'static str, db: u8, key: &[u8]) {
        let list = self.list.get_mut();
        let is = |event: &Event| event.name == name && event.db == db && *event.key == *key;
        if let Some(place) = list.iter().position(is) {
            list[place..].rotate_right(1);
        }
    }

    /// Events so far, to come back to by `rewind`.
    pub(crate) fn mark(&mut self) -> usize {
        self.list.get_mut().len()
    }

    /// Forgets the events since a mark.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.list.get_mut().truncate(mark);
    }
}

impl Shard {
    /// Which classes of events are kept: a set of [`EventClass`] bits.
    pub fn set_events(&mut self, wanted: u16) {
        self.events.wanted = wanted;
    }

    /// Whether there are events to take.
    #[inline(always)]
    pub fn has_events(&self) -> bool {
        self.events.any.get()
    }

    /// Events since the last call, in order. To be asked for after [`Shard::expire_met`].
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.any.set(false);
        self.events.list.take()
    }
}
