//! Hot path. One 64-bit hash per key per request, seeded once per process against flooding.
//!
//! The seed is the crate's only process-wide state: slots move between cores with the positions that
//! the hash gave their keys, so every shard of a process must hash alike. A simulator sets it like a server.

use std::sync::OnceLock;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline, rapidhash_v3_seeded};

use crate::slot::Slot;

static SECRETS: OnceLock<RapidSecrets> = OnceLock::new();
/// Secrets of digests, which must agree between processes.
const DIGEST_SECRETS: RapidSecrets = RapidSecrets::seed(0x4d65_7269_6469_616e);

/// Sets the process's hash seed; the first call wins, and hashing before any call fixes a default.
pub fn seed_process(seed: u64) {
    let _ = SECRETS.set(RapidSecrets::seed(seed));
}

#[inline(always)]
fn secrets() -> &'static RapidSecrets {
    SECRETS.get_or_init(|| RapidSecrets::seed(0))
}

/// Hash of a key, a field or a member.
#[inline(always)]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    rapidhash_v3_nano_inline::<true, false>(bytes, secrets())
}

/// Hash of a member of a collection.
#[inline(always)]
pub(crate) fn member_hash(member: &[u8]) -> u64 {
    hash_bytes(member)
}

/// Hash for digests: the same in every process.
pub(crate) fn digest_bytes(bytes: &[u8]) -> u64 {
    rapidhash_v3_seeded(bytes, &DIGEST_SECRETS)
}

/// A key, hashed once: routing, prefetching and every lookup of a request use the same [`Key`].
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key as the client sent it.
    pub bytes: &'a [u8],
    /// Its hash in this process.
    pub hash: u64,
    /// Its hash slot.
    pub slot: Slot,
    /// The database it is looked up in.
    pub db: u8,
}

impl<'a> Key<'a> {
    /// Hashes a key of database `db`.
    #[inline]
    pub fn new(db: u8, bytes: &'a [u8]) -> Key<'a> {
        Key {
            bytes,
            hash: hash_bytes(bytes),
            slot: Slot::of(bytes),
            db,
        }
    }

    /// The same key in another database.
    pub fn in_db(self, db: u8) -> Key<'a> {
        Key { db, ..self }
    }
}
