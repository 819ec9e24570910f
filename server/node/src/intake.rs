//! What a core takes of a file that is loaded: libraries, and its own keys.

use core::sync::atomic::Ordering::Relaxed;

use storage::rdb::{Damage, Raw};
use storage::{Key, Ttl};

use crate::control::load::{self, Batch, Expired};
use crate::core::Core;
use crate::prefetch::Ahead;

impl Core {
    /// A function or a batch of keys from a file.
    pub fn take_part(&mut self, part: load::Part, expired: Expired) -> Result<(), String> {
        match part {
            load::Part::Function(code) => {
                crate::scripts::load_library(self, &code).map_err(|why| format!("a library: {why}"))
            }
            load::Part::Keys(batch) => self.take_keys(&batch, expired),
            load::Part::Expect { db, keys } => {
                self.shard.expect_keys(db, keys);
                Ok(())
            }
        }
    }

    fn take_keys(&mut self, batch: &Batch, expired: Expired) -> Result<(), String> {
        let (now_ms, limits) = (self.now.unix_ms, self.shard.limits().clone());
        let (mut loaded, mut dropped) = (0, 0);
        let ahead = |raw: Raw<'_>| {
            let name = raw.key()?;
            let key = Key::new(raw.db, &name);
            Ok((key.hash, key.slot, key.db))
        };
        let keys: Result<Vec<Ahead>, Damage> = batch.iter().map(ahead).collect();
        let keys = keys.map_err(|damage| damage.to_string())?;
        self.prefetch_first(&keys, 0);
        for (at, (raw, &(hash, slot, db))) in batch.iter().zip(&keys).enumerate() {
            self.prefetch_next(at, &keys);
            let key_of = |bytes| Key {
                bytes,
                hash,
                slot,
                db,
            };
            let past = raw.info.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
            if past && expired == Expired::Drop {
                dropped += 1;
                continue;
            }
            let ttl = raw.info.deadline_ms.map_or(Ttl::Clear, Ttl::At);
            let bytes;
            let key = match raw.text().map_err(|damage| damage.to_string())? {
                Some((key, text)) => {
                    bytes = key;
                    let key = key_of(&bytes);
                    self.shard.load_text(&key, text, ttl);
                    key
                }
                None => {
                    let decoded = raw.decode(&limits).map_err(|damage| damage.to_string())?;
                    let Some(value) = decoded.1 else { continue };
                    bytes = decoded.0;
                    let key = key_of(&bytes);
                    self.shard.load_value(&key, value, ttl);
                    key
                }
            };
            if let Some(idle_s) = raw.info.idle_s {
                self.shard.edit().set_idle(&key, idle_s);
            }
            if let Some(frequency) = raw.info.frequency {
                self.shard.edit().set_frequency(&key, frequency);
            }
            loaded += 1;
        }
        let loading = &self.node.loading;
        loading.keys_loaded.fetch_add(loaded, Relaxed);
        loading.keys_expired.fetch_add(dropped, Relaxed);
        Ok(())
    }
}
