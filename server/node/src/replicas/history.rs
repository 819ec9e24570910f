//! Which history of the data this node's stream tells, and which one it goes on from.

use storage::Rng;

use crate::node::forty_digits;

/// What stands for "none" as a second history.
const NONE: &str = "0000000000000000000000000000000000000000";

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Forty hexadecimal digits (INFO master_replid).
    pub id: String,
    /// The one before, which is the same up to `second_offset`.
    pub id2: String,
    /// The first offset that the one before cannot ask for any more; None without one (INFO shows -1).
    pub second_offset: Option<u64>,
}

impl History {
    /// One without a past.
    pub fn new(id: String) -> History {
        History {
            id,
            id2: NONE.to_owned(),
            second_offset: None,
        }
    }

    /// Another one without a past.
    pub fn begin_anew(&mut self, rng: &mut Rng) {
        *self = History::new(forty_digits(rng));
    }

    /// Another one that goes on from that history, of which this node has everything up to `offset`.
    pub fn go_on(&mut self, id: &str, offset: u64, rng: &mut Rng) {
        *self = History {
            id: forty_digits(rng),
            id2: id.to_ascii_lowercase(),
            second_offset: Some(offset + 1),
        };
    }

    /// Whether what follows `asked` (the first offset that is wanted) in a history follows it in this one, too.
    pub fn is_same(&self, id: &[u8], asked: u64) -> bool {
        let is = |own: &str| own.as_bytes().eq_ignore_ascii_case(id);
        is(&self.id) || (is(&self.id2) && self.second_offset.is_some_and(|second| asked <= second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_history_ends_at_an_offset() {
        let mut rng = Rng::new(1);
        let mut history = History::new("aa".to_owned());
        assert!(history.is_same(b"AA", u64::MAX) && !history.is_same(NONE.as_bytes(), 0));
        history.go_on("BB", 100, &mut rng);
        assert!(!history.is_same(b"aa", 1));
        assert!(history.is_same(b"bb", 101) && !history.is_same(b"bb", 102));
        let id = history.id.clone();
        assert!(id.len() == 40 && history.is_same(id.as_bytes(), 1 << 60));
        history.begin_anew(&mut rng);
        assert!(!history.is_same(b"bb", 1) && history.id != id);
    }
}
