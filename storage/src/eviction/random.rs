//! Any key.

use crate::eviction::{Found, Keys, Policy};

/// Each as likely.
pub(crate) struct Random;

impl Policy for Random {
    fn propose(&mut self, keys: &mut Keys<'_>) -> Option<Found> {
        keys.sample()
    }
}
