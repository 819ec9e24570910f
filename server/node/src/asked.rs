//! What is asked of every core at once, and what one answers: the parts that `gather.rs` joins.

use migration::Authority;
use storage::Key;

use crate::core::Core;
use crate::mail::Ask;

/// CLIENT PAUSE on this core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// Until when, unix ms; 0 = no pause.
    pub until_ms: u64,
    /// Everything, not only writes.
    pub all: bool,
}

impl Core {
    /// Clients go on, and deadlines are acted upon again.
    pub fn end_pause(&mut self) {
        self.pause.until_ms = 0;
        self.hold_expired();
    }

    /// Keys stay past their deadlines while clients may not write, and while somebody else ends them.
    pub fn hold_expired(&mut self) {
        let owns_some = self.authority == Authority::Front && self.owns_some();
        let ends = self.authority.ends_keys() || owns_some;
        let only = owns_some.then(|| self.ends_in_front()).flatten();
        self.shard.set_ends(only);
        self.shard
            .set_holds_expired(self.pause.until_ms > 0 || !ends);
    }

    /// Answers what concerns this core beside its connections.
    pub fn answer_ask(&mut self, ask: &Ask, out: &mut Vec<u8>) {
        match ask {
            Ask::Pause { until_ms, all } => {
                let pause = &mut self.pause;
                // The stricter of two pauses wins, as in Redis.
                pause.all = (pause.all && pause.until_ms > self.now.unix_ms) || *all;
                pause.until_ms = pause.until_ms.max(*until_ms);
                self.hold_expired();
            }
            Ask::Unpause => self.end_pause(),
            Ask::Peek(peek) => peek.answer(self, out),
            Ask::Publish => self.publish(),
            Ask::PublishHistograms => self.publish_histograms(),
            Ask::ResetStat => {
                self.tally.reset();
                self.tally.expired_before = self.shard.expired();
                self.tally.freed_before = self.shard.freed_lazily();
                self.tally.values_freed_before = self.shard.values_freed_lazily().1;
                self.tally.fields_expired_before = self.shard.fields_expired();
                self.tally.evicted_before = self.shard.evicted();
                self.slot_counts.reset();
                self.shard.set_hits_and_misses(0, 0);
                if let Some(stats) = self.node.handle().and_then(|handle| handle.stats(self.id)) {
                    stats.reset();
                }
                self.node.rates.forget();
            }
            Ask::Sleep(us) => std::thread::sleep(std::time::Duration::from_micros(*us)),
            Ask::ActiveExpire(on) => self.active_expire = *on,
            Ask::AllInScripts(on) => self.all_in_scripts = *on,
            Ask::Users => self.take_users(),
            Ask::Authority => self.take_authority(),
            Ask::Digest => out.extend_from_slice(&self.shard.digest_all().0.to_le_bytes()),
            Ask::Watch(keys) => {
                for (db, key) in keys {
                    let key = Key::new(*db, key);
                    if self.owner(key.slot) == self.id {
                        let version = self.shard.watch(&key);
                        out.extend_from_slice(&version.to_le_bytes());
                    }
                }
            }
            // Connections are not a core's to know: its service answers.
            Ask::ClientList(_) | Ask::ClientKill(_) | Ask::Unblock { .. } | Ask::FindClient(_) => {}
            // Goes on over several turns: its service sees to that.
            Ask::KeySizes(_) | Ask::Populate(_) => {}
        }
    }
}
