//! Texts of scripts by their digests, shared by all cores.
//!
//! A script that SCRIPT LOAD has brought stays until SCRIPT FLUSH. One that came with EVAL is kept while it is among the
//! last [`EVALED_MAX`] of its kind to be used: clients that send a new text with each EVAL fill no memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::sha1::sha1_hex;
use crate::source::{self, FlagsOf};

/// The name of a script: forty hexadecimal digits in lower case.
pub type Sha = [u8; 40];

/// Scripts that EVAL has brought and that are kept at most.
const EVALED_MAX: usize = 500;
/// Bytes of a script beside its text: its entry and digest.
const ENTRY_BYTES: usize = 160;

/// A script.
#[derive(Debug)]
pub struct Script {
    /// Its name.
    pub sha: Sha,
    /// The whole text.
    pub body: Vec<u8>,
    /// What it declares.
    pub flags: FlagsOf,
    /// Where in the text the code begins.
    pub(crate) code_at: usize,
    /// SCRIPT LOAD brought it.
    loaded: AtomicBool,
    /// It is no longer in the cache.
    gone: AtomicBool,
    /// It has used keys beside those that it was given: it starts with all slots in place.
    wide: AtomicBool,
    /// It has run for so long that it is to start beside the cores.
    long: AtomicBool,
    /// When it was used last, ms.
    used_ms: AtomicU64,
}

impl Script {
    /// A script of this text.
    ///
    /// # Errors
    /// The text of the refusal, without its code: a bad first line.
    pub fn new(body: &[u8]) -> Result<Script, String> {
        let (flags, code_at) = source::script(body)?;
        Ok(Script {
            sha: sha1_hex(body),
            body: body.to_vec(),
            flags,
            code_at,
            loaded: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            wide: AtomicBool::new(false),
            long: AtomicBool::new(false),
            used_ms: AtomicU64::new(0),
        })
    }

    /// The code without the first line, if that is one for us; its line numbers are those of the text.
    pub(crate) fn code(&self) -> &[u8] {
        self.body.get(self.code_at..).unwrap_or_default()
    }

    /// Whether it is no longer in the cache.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Notes a use. (Written when it changes only: all cores share it.)
    pub fn touch(&self, now_ms: u64) {
        if self.used_ms.load(Relaxed) != now_ms {
            self.used_ms.store(now_ms, Relaxed);
        }
    }

    /// Whether it needs every slot from the start.
    pub fn is_wide(&self) -> bool {
        self.wide.load(Relaxed)
    }

    /// Notes that it does.
    pub fn set_wide(&self) {
        self.wide.store(true, Relaxed);
    }

    /// Whether it has run for so long that it is to start beside the cores.
    pub fn is_long(&self) -> bool {
        self.long.load(Relaxed)
    }

    /// Notes that it has, or that its last run was short.
    pub fn set_long(&self, is_long: bool) {
        self.long.store(is_long, Relaxed);
    }
}

/// All scripts.
#[derive(Default)]
pub struct Cache {
    scripts: HashMap<Sha, Arc<Script>>,
    evaled: usize,
    bytes: usize,
    evicted: u64,
}

impl Cache {
    /// The script of a digest (in lower case).
    pub fn find(&self, sha: &Sha) -> Option<Arc<Script>> {
        self.scripts.get(sha).map(Arc::clone)
    }

    /// Whether there is a script of this digest, in any case.
    pub fn contains(&self, sha: &[u8]) -> bool {
        let sha: Result<Sha, _> = sha.to_ascii_lowercase().try_into();
        sha.is_ok_and(|sha| self.scripts.contains_key(&sha))
    }

    /// Adds a script that has been compiled; `loaded`: by SCRIPT LOAD. Returns the one that is kept.
    pub fn add(&mut self, script: Arc<Script>, loaded: bool, now_ms: u64) -> Arc<Script> {
        let kept = match self.scripts.get(&script.sha) {
            Some(known) => Arc::clone(known),
            None => {
                self.evaled += 1;
                self.bytes += script.body.len() + ENTRY_BYTES;
                self.scripts.insert(script.sha, Arc::clone(&script));
                script.gone.store(false, Relaxed);
                script
            }
        };
        kept.touch(now_ms);
        if loaded && !kept.loaded.swap(true, Relaxed) {
            self.evaled -= 1;
        }
        if self.evaled > EVALED_MAX {
            self.evict();
        }
        kept
    }

    fn evict(&mut self) {
        let evaled = self
            .scripts
            .values()
            .filter(|script| !script.loaded.load(Relaxed));
        let oldest = evaled.min_by_key(|script| script.used_ms.load(Relaxed));
        if let Some(sha) = oldest.map(|script| script.sha)
            && let Some(script) = self.scripts.remove(&sha)
        {
            script.gone.store(true, Relaxed);
            self.bytes -= script.body.len() + ENTRY_BYTES;
            self.evaled -= 1;
            self.evicted += 1;
        }
    }

    /// Forgets all scripts.
    pub fn clear(&mut self) {
        for script in self.scripts.values() {
            script.gone.store(true, Relaxed);
        }
        self.scripts.clear();
        (self.evaled, self.bytes) = (0, 0);
    }

    /// Number of scripts.
    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// Bytes of the scripts' texts with what is kept of each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Scripts that had to go for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaled_scripts_go_when_they_are_many_and_loaded_ones_stay() {
        let mut cache = Cache::default();
        let mut now_ms = 0;
        let mut add = |n: usize, loaded| {
            now_ms += 1;
            let script = Script::new(format!("return {n}").as_bytes()).unwrap();
            cache.add(Arc::new(script), loaded, now_ms)
        };
        let loaded = add(0, true);
        let first = add(1, false);
        for n in 2..EVALED_MAX + 1 {
            add(n, false);
        }
        assert!(!first.is_gone());
        add(1, false); // used again
        add(9000, false);
        assert!(!first.is_gone() && !loaded.is_gone());
        assert_eq!((cache.len(), cache.evicted()), (EVALED_MAX + 1, 1));
        let second = sha1_hex(b"return 2");
        assert!(!cache.contains(&second) && cache.contains(&first.sha.to_ascii_uppercase()));
        cache.clear();
        assert!(first.is_gone() && loaded.is_gone() && cache.is_empty() && cache.bytes() == 0);
    }
}
