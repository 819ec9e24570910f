//! Digests: equal data gives equal numbers, in any order of writing, on any node and in any encoding.
//!
//! A slot's digest is the sum of its items' digests, so slots compare without sorting; an item's covers
//! database, key, type, value and deadline. Not cryptographic: it finds faults, not adversaries.

use crate::Slot;
use crate::hash::{Key, digest_bytes};
use crate::held::with_value;
use crate::item::Item;
use crate::shard::Shard;
use crate::table::Table;
use crate::value::stream::{Group, Stream, StreamId};
use crate::view::Value;

/// A 128-bit digest; sums of item digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of both together.
    #[must_use]
    pub fn and(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_add(other.0))
    }

    fn of(parts: &[&[u8]]) -> Digest {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let low = digest_bytes(&bytes);
        bytes.push(0xa5);
        Digest(u128::from(low) | u128::from(digest_bytes(&bytes)) << 64)
    }
}

impl Shard {
    /// The digest of a slot over all databases.
    pub fn digest(&self, slot: Slot) -> Digest {
        let mut sum = Digest::default();
        for (number, db) in self.dbs.iter().enumerate() {
            if let Some(table) = db.table(slot) {
                sum = sum.and(self.digest_table(number as u8, table));
            }
        }
        sum
    }

    /// The digest of all slots here.
    pub fn digest_all(&self) -> Digest {
        let mut sum = Digest::default();
        for (number, db) in self.dbs.iter().enumerate() {
            // Most databases have no tables at all, and most slots of a small one no keys.
            for table in db.tables().filter(|table| !table.is_empty()) {
                sum = sum.and(self.digest_table(number as u8, table));
            }
        }
        sum
    }

    fn digest_table(&self, db: u8, table: &Table<Item>) -> Digest {
        let live = table
            .iter()
            .filter(|item: &Item| !item.is_expired(self.now_ms));
        live.fold(Digest::default(), |sum, item| {
            sum.and(item_digest(db, item))
        })
    }

    /// The digest of a value, whatever its key and deadline; zero without the key.
    pub fn digest_value(&self, key: &Key<'_>) -> Digest {
        self.peek(key).map_or(Digest::default(), value_digest)
    }
}

fn item_digest(db: u8, item: Item) -> Digest {
    let deadline = item.deadline_ms().map_or([0; 8], u64::to_le_bytes);
    let value = with_value(item, |value| value_digest(value).0).to_le_bytes();
    Digest::of(&[&[db], item.key(), &value, &deadline])
}

/// What a digest of a value covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of it.
    All,
    /// What another server that has had the same writes has as well: not when a consumer was active, not consumers with nothing
    /// pending, and not the counters of a stream that only XINFO tells (a Redis before 7.0 has none).
    Shared,
}

/// The digest of a value as it can be compared with that of another server, whatever its key, deadline and encoding.
pub fn shared_digest(value: Value<'_>) -> Digest {
    digest_within(value, Scope::Shared)
}

fn value_digest(value: Value<'_>) -> Digest {
    digest_within(value, Scope::All)
}

fn digest_within(value: Value<'_>, scope: Scope) -> Digest {
    let kind = value.type_name().as_bytes();
    let sum = match value {
        Value::String(text) => text.with(|bytes| Digest::of(&[bytes])),
        Value::List(list) => list.iter().fold(Digest::default(), |sum, element| {
            Digest::of(&[&sum.0.to_le_bytes(), element])
        }),
        Value::Hash(hash) => {
            hash.iter()
                .fold(Digest::default(), |sum, (f, v)| match hash.deadline_ms(f) {
                    None => sum.and(Digest::of(&[f, v])),
                    Some(at_ms) => sum.and(Digest::of(&[f, v, &at_ms.to_le_bytes()])),
                })
        }
        Value::Set(set) => set
            .iter()
            .fold(Digest::default(), |sum, m| sum.and(Digest::of(&[&m]))),
        Value::Zset(zset) => zset.iter().fold(Digest::default(), |sum, (m, score)| {
            // -0 and 0 are one score.
            sum.and(Digest::of(&[m, &(score + 0.0).to_bits().to_le_bytes()]))
        }),
        Value::Stream(stream) => stream_digest(stream, scope),
    };
    Digest::of(&[kind, &sum.0.to_le_bytes()])
}

/// Entries, what is remembered beside them, groups; not when a consumer was last seen, which is no effect.
fn stream_digest(stream: &Stream, scope: Scope) -> Digest {
    let entries = stream.range(StreamId::MIN, StreamId::MAX);
    let sum = entries.fold(Digest::default(), |sum, entry| {
        let id = entry.id.to_bytes();
        let mut parts = vec![&id[..]];
        parts.extend(entry.pairs().flat_map(|(field, value)| [field, value]));
        sum.and(Digest::of(&parts))
    });
    let own = match scope {
        Scope::All => Digest::of(&[
            &stream.last_id().to_bytes(),
            &stream.max_deleted_id().to_bytes(),
            &stream.entries_added().to_le_bytes(),
        ]),
        Scope::Shared => Digest::of(&[&stream.last_id().to_bytes()]),
    };
    stream.groups().fold(sum.and(own), |sum, group| {
        sum.and(group_digest(group, scope))
    })
}

fn group_digest(group: &Group, scope: Scope) -> Digest {
    let bytes = |n: Option<u64>| n.map_or([0xff; 8], u64::to_le_bytes);
    let (name, last) = (group.name(), group.last_id().to_bytes());
    let own = match scope {
        Scope::All => Digest::of(&[b"group", name, &last, &bytes(group.entries_read())]),
        Scope::Shared => Digest::of(&[b"group", name, &last]),
    };
    let told = group.consumers().filter(|_| scope == Scope::All);
    let consumers = told.fold(own, |sum, consumer| {
        let active = bytes(consumer.active_ms);
        sum.and(Digest::of(&[b"consumer", name, consumer.name(), &active]))
    });
    let pending = group.pending_from(StreamId::MIN);
    pending.fold(consumers, |sum, (id, pending)| {
        sum.and(Digest::of(&[
            b"pending",
            name,
            &id.to_bytes(),
            group.consumer_of(pending),
            &pending.delivered_ms.to_le_bytes(),
            &pending.count.to_le_bytes(),
        ]))
    })
}
