//! Sessions of clients that may come back: `tls-session-cache-size` and `tls-session-cache-timeout`.
//!
//! One for all cores, behind a lock that only handshakes take.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::StoresServerSessions;

/// Sessions that are kept where the option sets no limit.
const SESSIONS_MAX: usize = 1 << 20;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Sessions {
    kept: Mutex<Kept>,
    len_max: usize,
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    values: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// Keys from the oldest on; some may be gone already.
    order: VecDeque<Vec<u8>>,
}

impl Sessions {
    /// Room for so many sessions (0: for as many as there may be at all), each for so many seconds.
    pub(super) fn new(len_max: u64, timeout_s: u64) -> Sessions {
        let len_max = match usize::try_from(len_max) {
            Ok(len @ 1..) => len.min(SESSIONS_MAX),
            _ => SESSIONS_MAX,
        };
        Sessions {
            kept: Mutex::default(),
            len_max,
            timeout: Duration::from_secs(timeout_s),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self, since: Instant) -> bool {
        since.elapsed() < self.timeout
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut kept = self.kept();
        while kept.order.len() >= self.len_max {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            kept.values.remove(&oldest);
        }
        kept.order.push_back(key.clone());
        kept.values.insert(key, (Instant::now(), value));
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let kept = self.kept();
        let (since, value) = kept.values.get(key)?;
        self.is_fresh(*since).then(|| value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (since, value) = self.kept().values.remove(key)?;
        self.is_fresh(since).then_some(value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_and_each_is_taken_once() {
        let sessions = Sessions::new(2, 60);
        for n in 0..3u8 {
            sessions.put(vec![n], vec![n]);
        }
        assert_eq!(sessions.get(&[0]), None);
        assert_eq!(sessions.get(&[2]), Some(vec![2]));
        assert_eq!(sessions.take(&[2]), Some(vec![2]));
        assert_eq!(sessions.take(&[2]), None);
        let forgetful = Sessions::new(0, 0);
        forgetful.put(vec![1], vec![1]);
        assert_eq!(forgetful.get(&[1]), None);
    }
}
