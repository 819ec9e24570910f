//! Looks at single keys and slots from afar: the core that owns them answers for DEBUG OBJECT,
//! DEBUG DIGEST-VALUE, CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT.

use protocol::{Refusal, Reply, Resp};
use storage::{Key, Slot, rdb};

use crate::core::Core;

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Peek {
    /// What is known of a key of a database: one reply.
    Object(u8, Box<[u8]>),
    /// The digests of values of keys of a database: numbered replies, see [`number`].
    Digests(u8, Vec<Box<[u8]>>),
    /// How many keys a slot has: one reply.
    Count(Slot),
    /// At most so many keys of a slot: one reply.
    Keys(Slot, usize),
    /// How many keys each of these slots has, first and last: see [`slot_stats`](super::slot_stats).
    SlotStats(Slot, Slot),
}

/// Seconds of the clock that `lru` shows: 24 bits of them.
const LRU_CLOCK_MASK: u64 = 0xff_ffff;

impl Peek {
    /// Whether a slot in question is at home here but on a visit elsewhere: the look must wait.
    pub fn must_wait(&self, core: &Core) -> bool {
        let away = |slot: Slot| core.owner(slot) == core.id && core.locks.is_held(slot);
        match self {
            _ if core.locks.is_empty() => false,
            Peek::Object(_, key) => away(Slot::of(key)),
            Peek::Digests(_, keys) => keys.iter().any(|key| away(Slot::of(key))),
            Peek::Count(slot) | Peek::Keys(slot, _) => away(*slot),
            Peek::SlotStats(first, last) => (first.0..=last.0).any(|slot| away(Slot(slot))),
        }
    }

    /// The part of the answer that this core has; empty if the slots are another's.
    pub fn answer(&self, core: &Core, out: &mut Vec<u8>) {
        let is_here = |slot: Slot| core.owner(slot) == core.id;
        // What is told looks the same in both versions of the protocol.
        match self {
            Peek::Object(db, key) => {
                let key = Key::new(*db, key);
                if is_here(key.slot) {
                    object(core, &key, &mut Reply::new(out, Resp::V2));
                }
            }
            Peek::Digests(db, keys) => {
                for (at, key) in keys.iter().enumerate() {
                    let key = Key::new(*db, key);
                    if is_here(key.slot) {
                        let digest = core.shard.digest_value(&key).0;
                        let mut part = Vec::new();
                        Reply::new(&mut part, Resp::V2).simple(&format!("{digest:040x}"));
                        number(at as u32, &part, out);
                    }
                }
            }
            Peek::Count(slot) if is_here(*slot) => {
                let count = core.shard.slot_len(0, *slot);
                Reply::new(out, Resp::V2).int(count as i64);
            }
            Peek::Keys(slot, count) if is_here(*slot) => {
                let mut reply = Reply::new(out, Resp::V2);
                let later = reply.later();
                let mut found = 0;
                core.shard.keys_in_slot(0, *slot, *count, |key| {
                    found += 1;
                    reply.bulk(key);
                });
                reply.array_at(later, found);
            }
            Peek::SlotStats(first, last) => {
                let slots = (first.0..=last.0).map(Slot);
                slots.for_each(|slot| super::slot_stats::encode(core, slot, out));
            }
            Peek::Count(_) | Peek::Keys(..) => {}
        }
    }
}

fn object(core: &Core, key: &Key<'_>, reply: &mut Reply<'_>) {
    let Some(info) = core.shard.info(key) else {
        return reply.error(&Refusal::NoSuchKey);
    };
    let mut serialized = Vec::new();
    if let Some(value) = core.shard.peek(key) {
        rdb::write_body(value, rdb::Style::DUMP, &mut serialized);
    }
    let serialized = serialized.len();
    let lru = (core.now.unix_ms / 1000).saturating_sub(info.idle_s) & LRU_CLOCK_MASK;
    reply.simple(&format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{serialized} lru:{lru} lru_seconds_idle:{} bytes:{} length:{}",
        info.address, info.encoding, info.idle_s, info.heap_bytes, info.len
    ));
}

/// Appends a reply with its number and length before it, little-endian.
fn number(at: u32, reply: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&(reply.len() as u32).to_le_bytes());
    out.extend_from_slice(reply);
}

/// Numbered replies of several cores as one array, in the order of their numbers.
pub fn join_numbered<'a>(parts: impl Iterator<Item = &'a [u8]>, reply: &mut Reply<'_>) {
    let mut found: Vec<(u32, &[u8])> = Vec::new();
    for mut part in parts {
        while let Some((at, rest)) = part.split_first_chunk::<4>()
            && let Some((len, rest)) = rest.split_first_chunk::<4>()
            && let Some((one, rest)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)
        {
            found.push((u32::from_le_bytes(*at), one));
            part = rest;
        }
    }
    found.sort_by_key(|(at, _)| *at);
    reply.array(found.len());
    found.iter().for_each(|(_, one)| reply.raw(one));
}

#[cfg(test)]
mod tests {
    use super::{join_numbered, number};
    use protocol::{Reply, Resp};

    #[test]
    fn numbered_replies_are_put_in_order() {
        let (mut a, mut b, mut out) = (Vec::new(), Vec::new(), Vec::new());
        number(2, b":2\r\n", &mut a);
        number(0, b":0\r\n", &mut a);
        number(1, b":1\r\n", &mut b);
        join_numbered(
            [&a[..], &b[..], b"cut"].into_iter(),
            &mut Reply::new(&mut out, Resp::V2),
        );
        assert_eq!(out, b"*3\r\n:0\r\n:1\r\n:2\r\n");
    }
}
