//! What several commands reply: an entry, and that there is no such group.

use protocol::{Refusal, Reply};
use storage::Entry;

use super::ids;

/// What of a word counts where Redis reads it as a C string.
pub(super) fn text(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Writes an entry: its id, and an array of its fields and values.
pub(super) fn reply(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    ids::reply(reply, entry.id);
    reply.array(entry.len() * 2);
    for (field, value) in entry.pairs() {
        reply.bulk(field);
        reply.bulk(value);
    }
}

/// Writes entries; how many.
pub(super) fn reply_all<'a>(to: &mut Reply<'_>, entries: impl Iterator<Item = Entry<'a>>) -> usize {
    let (later, mut count) = (to.later(), 0);
    for entry in entries {
        reply(to, &entry);
        count += 1;
    }
    to.array_at(later, count);
    count
}

/// No such group, or no key that could have it. `behind` is what the command adds.
pub(super) fn no_group(key: &[u8], group: &[u8], behind: &str) -> Refusal {
    let parts = [
        &b"NOGROUP No such key '"[..],
        text(key),
        b"' or consumer group '",
        text(group),
        b"'",
        behind.as_bytes(),
    ];
    Refusal::Quoted(parts.concat().into())
}

/// As `no_group`, where the key is known to be there.
pub(super) fn no_group_at(key: &[u8], group: &[u8]) -> Refusal {
    let parts = [
        &b"NOGROUP No such consumer group '"[..],
        text(group),
        b"' for key name '",
        text(key),
        b"'",
    ];
    Refusal::Quoted(parts.concat().into())
}
