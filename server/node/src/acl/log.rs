//! ACL LOG: what was denied lately, most recent first; and counters of it for INFO and metrics.
//!
//! One for the whole node, behind a lock that only refused requests take, for a few comparisons.

use std::collections::VecDeque;

use protocol::Reply;

/// Denials within so many milliseconds of each other, alike in all else, are one entry that counts.
const ALIKE_MS: u64 = 60_000;
/// Entries that are looked at for one that is alike.
const ALIKE_LOOK_MAX: usize = 10;

/// What kind of denial it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// A password.
    Auth,
}

impl Denial {
    /// All of them, in the order of their counters.
    pub const ALL: [Denial; 4] = [Denial::Auth, Denial::Command, Denial::Key, Denial::Channel];

    /// The word of ACL LOG.
    pub fn word(self) -> &'static str {
        match self {
            Denial::Command => "command",
            Denial::Key => "key",
            Denial::Channel => "channel",
            Denial::Auth => "auth",
        }
    }

    /// The end of the counter's name in INFO.
    pub fn counter(self) -> &'static str {
        match self {
            Denial::Command => "cmd",
            other => other.word(),
        }
    }
}

/// Where a denied command stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By itself.
    Toplevel,
    /// Between MULTI and EXEC, or at EXEC.
    Multi,
    /// In a script.
    Lua,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Place::Toplevel => "toplevel",
            Place::Multi => "multi",
            Place::Lua => "lua",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What kind.
    pub denial: Denial,
    /// Where.
    pub place: Place,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The user's name, as it was tried.
    pub user: Vec<u8>,
    /// The client as CLIENT LIST shows it, without the end of the line.
    pub client: Vec<u8>,
    /// When it happened last, unix ms.
    pub last_ms: u64,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    count: u64,
    id: u64,
    created_ms: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Kept>,
    next_id: u64,
    counts: [u64; 4],
}

impl Log {
    /// Notes a denial; only so many entries are kept.
    pub fn note(&mut self, entry: Entry, len_max: u64) {
        self.counts[entry.denial as usize] += 1;
        let is_alike = |kept: &Kept| {
            let known = &kept.entry;
            known.denial == entry.denial
                && known.place == entry.place
                && known.last_ms.abs_diff(entry.last_ms) <= ALIKE_MS
                && known.object == entry.object
                && known.user == entry.user
        };
        let at = self.entries.iter().take(ALIKE_LOOK_MAX).position(is_alike);
        if let Some(mut kept) = at.and_then(|at| self.entries.remove(at)) {
            kept.count += 1;
            kept.entry.client = entry.client;
            kept.entry.last_ms = entry.last_ms;
            self.entries.push_front(kept);
            return;
        }
        self.entries.push_front(Kept {
            created_ms: entry.last_ms,
            entry,
            count: 1,
            id: self.next_id,
        });
        self.next_id += 1;
        let len_max = usize::try_from(len_max).unwrap_or(usize::MAX);
        self.entries.truncate(len_max);
    }

    /// Denials of a kind since the start.
    pub fn count(&self, denial: Denial) -> u64 {
        self.counts[denial as usize]
    }

    /// Forgets the entries, not the counters.
    pub fn reset(&mut self) {
        self.entries.clear();
    }

    /// The latest entries as a reply.
    pub fn write(&self, count: usize, now_ms: u64, reply: &mut Reply<'_>) {
        let count = count.min(self.entries.len());
        reply.array(count);
        for kept in self.entries.iter().take(count) {
            write_entry(kept, now_ms, reply);
        }
    }
}

fn write_entry(kept: &Kept, now_ms: u64, reply: &mut Reply<'_>) {
    let entry = &kept.entry;
    reply.map(10);
    reply.bulk(b"count");
    reply.int(kept.count.cast_signed());
    reply.bulk(b"reason");
    reply.bulk(entry.denial.word().as_bytes());
    reply.bulk(b"context");
    reply.bulk(entry.place.word().as_bytes());
    reply.bulk(b"object");
    reply.bulk(&entry.object);
    reply.bulk(b"username");
    reply.bulk(&entry.user);
    reply.bulk(b"age-seconds");
    reply.double(now_ms.saturating_sub(entry.last_ms) as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(&entry.client);
    reply.bulk(b"entry-id");
    reply.int(kept.id.cast_signed());
    reply.bulk(b"timestamp-created");
    reply.int(kept.created_ms.cast_signed());
    reply.bulk(b"timestamp-last-updated");
    reply.int(entry.last_ms.cast_signed());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str, last_ms: u64) -> Entry {
        Entry {
            denial: Denial::Key,
            place: Place::Toplevel,
            object: object.into(),
            user: b"u".to_vec(),
            client: Vec::new(),
            last_ms,
        }
    }

    #[test]
    fn alike_denials_are_counted_and_the_oldest_forgotten() {
        let mut log = Log::default();
        for (object, at_ms) in [("a", 0), ("b", 1), ("a", 60_000), ("a", 120_001), ("c", 0)] {
            log.note(entry(object, at_ms), 3);
        }
        let kept: Vec<_> = log
            .entries
            .iter()
            .map(|kept| (kept.entry.object[0], kept.count, kept.id))
            .collect();
        assert_eq!(kept, [(b'c', 1, 3), (b'a', 1, 2), (b'a', 2, 0)]);
        assert_eq!(log.count(Denial::Key), 5);
        log.note(entry("d", 0), 0);
        assert!(log.entries.is_empty());
    }
}
